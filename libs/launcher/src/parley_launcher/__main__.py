"""`python -m parley_launcher` is the `parley` command."""

from parley_launcher.cli import main

main()
