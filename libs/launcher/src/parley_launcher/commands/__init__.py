"""One file per command of `parley`."""
