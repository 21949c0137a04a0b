"""Each rule for the paper fires on a planted fault, and only on that."""

from __future__ import annotations

import pytest

from harness import docs
from harness.docs import Commands, Page
from harness.house import Finding

COMMANDS = Commands(
    parley={
        (): {"--help", "-h"},
        ("up",): {"--light", "--help", "-h"},
        ("topics",): {"--help"},
        ("topics", "apply"): {"--help"},
    },
    targets={"run", "test"},
    scripts={"parley-tools"},
    has_module=lambda name: name == "pytest",
)
PATHS = {
    "docs",
    "docs/page.md",
    "docs/how-to",
    "docs/how-to/x.md",
    "businesses",
    "businesses/cap",
    "libs/common/step.py",
}


def page(text: str, name: str = "docs/page.md") -> Page:
    return Page(name, text)


def said(findings: list[Finding]) -> list[str]:
    return [finding.what for finding in findings]


@pytest.mark.parametrize(
    "text",
    [
        "Type `parley dance`.",
        "Type `parley topics shrink`.",
        "Type `parley up --heavy`.",
        "Type `make coffee`.",
        "Start it:\n\n    make run\n    .venv/bin/parley up --heavy  # now",
        "```sh\nGATEWAY_PORT=1 .venv/bin/parley dance\n```",
        "    printf 'x' | .venv/bin/parley dance",
        "```\n.venv/bin/python -m parley_missing\n```",
        "    .venv/bin/parley up 'never closed",
        "1. Say:\n\n       .venv/bin/parley dance",
    ],
)
def test_commands_that_are_not_there_are_found(text: str) -> None:
    assert len(docs.wrong_commands(page(text), COMMANDS)) == 1


def test_a_program_that_no_package_installs_is_found() -> None:
    assert said(
        docs.wrong_commands(page("    parley-tools migrate\n    parley-dance migrate"), COMMANDS)
    ) == ["parley-dance migrate: no program parley-dance"]


@pytest.mark.parametrize(
    "text",
    [
        "    .venv/bin/parley up --light   # `parley dance` is no command",
        "`parley --help`, `parley <sub>`, `parley topics apply`, `make run PYTHON=python3.11`, `make -j test`",
        "```python\nparley dance\n```",
        "The parley dance of make coffee is prose.",
        "    .venv/bin/python -m pytest -q",
        "`parley.lead.events` is a topic",
    ],
)
def test_commands_that_are_there_and_what_is_no_command_are_fine(text: str) -> None:
    assert docs.wrong_commands(page(text), COMMANDS) == []


@pytest.mark.parametrize(
    "link", ["gone.md", "../gone.md", "how-to/gone.md", "page.md#not-there", "#not-there"]
)
def test_links_that_lead_nowhere_are_found(link: str) -> None:
    there = page(f"# A `page`, really\n\n[x]({link})")
    assert len(docs.wrong_links(there, PATHS.__contains__, {there.name: there.anchors})) == 1


@pytest.mark.parametrize(
    "link",
    ["how-to/x.md", "../businesses/cap", "#a-page-really", "page.md#a-page-really", "https://example.com/x"],
)
def test_links_that_lead_somewhere_are_fine(link: str) -> None:
    there = page(f"# A `page`, really\n\n[x]({link}) and `[y](gone.md)`")
    assert docs.wrong_links(there, PATHS.__contains__, {there.name: there.anchors}) == []


@pytest.mark.parametrize("span", ["docs/gone.md", "businesses/nobody/", "gone.py", "docs/<page>/y.md"])
def test_paths_that_are_not_there_are_found(span: str) -> None:
    assert said(docs.wrong_paths(page(f"See `{span}`."), PATHS)) == [f"{span}: no such file"]


@pytest.mark.parametrize(
    "text",
    [
        "See `docs/how-to/`.",
        "`businesses/<name>`",
        "`step.py`",
        "`docs/*.md`",
        "`audio/pcm`",
        "docs/gone.md in prose",
    ],
)
def test_paths_that_are_there_and_what_is_no_path_are_fine(text: str) -> None:
    assert docs.wrong_paths(page(text), PATHS) == []


def test_a_file_that_the_page_itself_makes_is_fine() -> None:
    assert (
        docs.wrong_paths(
            page("Make it:\n\n    cp -r businesses/cap businesses/mine\n\n`businesses/mine`"), PATHS
        )
        == []
    )


def test_functions_and_methods_that_are_not_in_the_code_are_found() -> None:
    functions, methods = {"step": {"step"}}, {"Conductor": {"_hear"}}
    text = "`step.leap()`, `ctx.sing()`, `Conductor.sing`, `step.step()`, `Conductor._hear`, `Elsewhere.x`, `ctx.step()`"
    assert said(docs.wrong_functions(page(text), functions, methods)) == [
        "step.leap(): not in the code",
        "ctx.sing(): not in the code",
        "Conductor.sing: not in the code",
    ]


def test_variables_that_nothing_reads_are_found_in_prose_and_blocks() -> None:
    text = "Set `GATEWAY_PORT` and `GATEWAY_*`.\n\n    NOTIFY_VOLUME=11 make run\n"
    assert said(docs.wrong_variables(page(text), {"GATEWAY_PORT"})) == ["NOTIFY_VOLUME is no setting"]


@pytest.mark.parametrize(
    "text", ["http://127.0.0.1:8081/", "`localhost:1234`", "    parley up --port 7777", "X_PORT=7777"]
)
def test_ports_that_are_no_default_are_found(text: str) -> None:
    assert len(docs.wrong_ports(page(text), {"GATEWAY_PORT": 8080}, {9092})) == 1


def test_a_setting_with_another_default_than_the_page_says_is_found() -> None:
    text = "| 8080 | `TOOLS_PORT` | tools |\n| 8080 | `GATEWAY_PORT` | gateway |"
    defaults = {"GATEWAY_PORT": 8080, "TOOLS_PORT": 8082}
    assert said(docs.wrong_ports(page(text), defaults, set())) == ["TOOLS_PORT is 8082 by default, not 8080"]


def test_ports_that_are_defaults_are_fine() -> None:
    assert (
        docs.wrong_ports(
            page("http://127.0.0.1:8080/ 127.0.0.1:9092 in 2026"), {"GATEWAY_PORT": 8080}, {9092}
        )
        == []
    )


@pytest.mark.parametrize(
    "name", ["parley.lead.evnts", "parley.lead.captured.v2", "parley.v2", "parley.tool.cals.<service>"]
)
def test_topics_and_types_that_are_not_there_are_found(name: str) -> None:
    known = {"parley.lead.events", "parley.lead.captured.v1", "parley.v1", "parley.tool.calls.tools"}
    assert said(docs.wrong_names(page(f"On `{name}`."), known)) == [f"{name}: no such topic, type or name"]
    fine = "`parley.lead.events`, parley.tool.calls.*, `parley.tool.calls.<service>` and parley.v1. At /srv/parley.txt"
    assert docs.wrong_names(page(fine), known) == []


def test_words_that_the_glossary_forbids_are_found_in_prose_only() -> None:
    glossary = page(
        "| word | never | not for this |\n|---|---|---|\n| session | chat, big talk | call |\n| x | | |\n"
    )
    words = docs.never_say(glossary)
    assert words == {"chat", "big talk"}
    text = "Two Chats.\n\n    chat --now\n\n`chat` [see](chat.md) https://chat.example.com chatty"
    assert said(docs.forbidden_words(page(text), words)) == ["the glossary has another word for 'chat'"]
    assert docs.forbidden_words(page("A call."), words) == []


def test_messages_and_fields_must_be_the_same_on_the_page_and_in_the_code() -> None:
    text = "## Up\n\n### `open`\n\n| field | x |\n|---|---|\n| `token` | |\n| `color` | |\n\n### `wave`\n\nNo fields.\n"
    found = docs.wrong_messages(page(text), {"open": ["token", "mode"], "ping": []})
    assert said(found) == [
        "message wave is not in the code",
        "message ping is not on the page",
        "open: color is not in the code",
        "open: mode is not on the page",
    ]


def test_a_page_that_says_what_the_code_says_has_no_differences() -> None:
    assert docs.differences(page(""), "code", {"a"}, {"a"}) == []
    assert said(docs.differences(page(""), "code", {"a", "c"}, {"a", "b"})) == [
        "code c is not in the code",
        "code b is not on the page",
    ]
