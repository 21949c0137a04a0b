"""Each rule of the house fires on what it forbids, and only on that."""

from __future__ import annotations

import pytest

from harness import house

PLACES = frozenset({"/srv/checkout/parley"})

SUPERUSER = "root"
"""Apart from its slashes, so that this file names no place of one machine itself."""


@pytest.mark.parametrize("line", ["# TODO: later", "x = 1  # FIXME", "<!-- XXX -->", "// HACK around it"])
def test_notes_to_oneself_are_found_with_their_line(line: str) -> None:
    (finding,) = house.forbidden_marks("a.py", f"fine\n{line}\n")
    assert finding.where == "a.py:2"


@pytest.mark.parametrize(
    "line", ["@pytest.mark.skip", "pytest.skip('no')", "@pytest.mark.xfail", "@unittest.skip"]
)
def test_tests_that_are_switched_off_are_found(line: str) -> None:
    assert house.forbidden_marks("test_a.py", line)


@pytest.mark.parametrize("line", ["a todo list app", "skip the first frame", "0xXXXX", "self.skip()"])
def test_ordinary_words_are_not_marks(line: str) -> None:
    assert house.forbidden_marks("a.py", line) == []


@pytest.mark.parametrize(
    "line",
    [
        "cd /srv/checkout/parley/tests",
        "path: /home/ana/parley",
        "/Users/ana/x",
        f"/{SUPERUSER}/.ssh",
        "url = https://files.pythonhosted.org/packages/x.whl",
        "pip install --extra-index-url https://x",
        "https://nexus.example.com/simple",
    ],
)
def test_places_of_one_machine_and_registries_are_found(line: str) -> None:
    assert house.machine_traces("a.md", line, PLACES)


@pytest.mark.parametrize(
    "line",
    [
        "/srv/checkout/parley-elsewhere",
        "WORKDIR /home/app",
        "https://example.com/home/ana",
        "~/root/x",
        "https://maven.apache.org/POM/4.0.0",
    ],
)
def test_places_that_every_machine_has_are_not_traces(line: str) -> None:
    assert house.machine_traces("a.md", line, PLACES) == []


@pytest.mark.parametrize(
    "source",
    [
        "def f(timeout): ...",
        "async def f(*, delay=1): ...",
        "class A:\n    timeout: float",
        "def f(self):\n    self.delay = 1",
        "class SessionManager: ...",
        "def parse_helper(): ...",
        "class Tenant: ...",
        "def f(utterance): ...",
    ],
)
def test_unclear_names_are_found(source: str) -> None:
    assert house.unclear_names("a.py", source)


@pytest.mark.parametrize(
    "source",
    [
        "def f(timeout_s, delay_ms): ...",
        "client.get(url, timeout=3)",
        "async with asyncio.timeout(3): ...",
        "from multiprocessing.managers import BaseManager",
        "class Helpful: ...",
    ],
)
def test_names_with_units_and_names_of_others_are_fine(source: str) -> None:
    assert house.unclear_names("a.py", source) == []


def test_a_module_that_is_named_for_nothing_is_found() -> None:
    (finding,) = house.unclear_names("libs/common/src/parley_common/utils.py", "")
    assert str(finding) == "libs/common/src/parley_common/utils.py: a module named utils"


def test_a_long_function_is_a_smell_and_a_longer_one_is_refused() -> None:
    body = "    x = 1\n"
    (smell,) = house.smells("a.py", "def f():\n" + body * 60)
    assert (smell.where, smell.size, smell.is_refused) == ("a.py:1 f", 60, False)
    (smell,) = house.smells("a.py", "def f():\n" + body * 81)
    assert smell.is_refused


def test_a_docstring_does_not_make_a_function_long() -> None:
    told = '    """Say.' + "\n" * 60 + '    """\n'
    assert house.smells("a.py", f"def f():\n{told}    return 1\n") == []
    assert house.smells("a.py", f"def f():\n{told}") == []


@pytest.mark.parametrize(
    "head",
    [
        "@tool(cls='read')\nasync def f({})",
        "def f({}, last: Annotated[str, typer.Option()] = '')",
    ],
)
def test_what_a_caller_or_a_user_may_say_is_not_counted(head: str) -> None:
    parameters = ", ".join(f"p{n}" for n in range(12))
    assert house.smells("a.py", f"{head.format(parameters)}: ...") == []


def test_a_state_machine_of_a_property_test_may_have_as_many_rules_as_it_needs() -> None:
    rules = "".join(f"    def rule_{n}(self): ...\n" for n in range(30))
    assert house.smells("a.py", f"class World(RuleBasedStateMachine):\n{rules}") == []
    assert house.smells("a.py", f"class World(Other):\n{rules}")


def test_long_files_many_parameters_methods_and_attributes_are_smells() -> None:
    parameters = ", ".join(f"p{n}" for n in range(7))
    methods = "".join(f"    def m{n}(self): ...\n" for n in range(13))
    attributes = "".join(f"        self.a{n} = {n}\n" for n in range(11))
    source = (
        f"def f({parameters}): ...\nclass A:\n    def __init__(self):\n{attributes}{methods}" + "\n" * 400
    )
    assert [smell.measure for smell in house.smells("a.py", source)] == [
        house.FILE_LINES,
        house.PARAMETERS,
        house.PUBLIC_METHODS,
        house.ATTRIBUTES,
    ]


def test_self_and_private_methods_are_not_counted() -> None:
    methods = "".join(f"    def _m{n}(self, a, b, c, d, e, f): ...\n" for n in range(20))
    assert house.smells("a.py", f"class A:\n{methods}") == []


def test_a_module_with_code_owes_a_docstring_and_an_empty_one_does_not() -> None:
    assert house.lacks_docstring("x = 1")
    assert not house.lacks_docstring('"""Says it."""\nx = 1')
    assert not house.lacks_docstring("")


def test_variables_of_an_example_are_read_commented_out_or_not() -> None:
    text = "# how loud\nPARLEY_LOG_LEVEL=info\n# TOOLS_PORT=8082\n#NOTIFY_PORT=1\nnot A_VARIABLE=1\n"
    assert house.variables_in(text) == {"PARLEY_LOG_LEVEL", "TOOLS_PORT", "NOTIFY_PORT"}
