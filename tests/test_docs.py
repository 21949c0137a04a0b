"""The paper says what is there: every command, path, setting, port, topic, code and field it names exists.

The rules are tests/harness/docs.py; tests/unit/harness/test_docs_rules.py proves that each can fail.
"""

from __future__ import annotations

import ast
import os
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from typer.main import get_command

from harness import docs, house
from harness.docs import Commands, Page
from harness.house import Finding
from parley_common.contracts import audio_link, tool_calls
from parley_common.contracts.facts import BY_TYPE
from parley_common.contracts.topics import TOPICS, tool_calls_topic
from parley_gateway import refusals
from parley_launcher.cli import app
from test_house import OTHER_VARIABLES, settings_classes

ROOT = Path(__file__).resolve().parents[1]
NOT_OURS = frozenset(
    {".git", ".venv", ".parley", ".cache", ".hypothesis", "node_modules", "__pycache__"}
    | {".mypy_cache", ".ruff_cache", ".pytest_cache", ".import_linter_cache"}
)
ROOT_PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
PROTOCOL = "docs/client-protocol.md"
GLOSSARY = "docs/glossary.md"
CLIENT_CODE = (
    "libs/common/src/parley_common/contracts/audio_link.py",
    "services/gateway/src/parley_gateway",
    "services/session/src/parley_session/core",
    "services/session/src/parley_session/conductor.py",
    "services/session/src/parley_session/host.py",
    "libs/common/src/parley_common/errors.py",
)
"""Where the codes come from that a client may be told."""
NEVER_TOLD = {
    "attach_expected": "a gateway's fault, told to the gateway",
    "attach_timed_out": "the gateway tries another replica",
    "link_lost": "becomes session_lost, or another replica is tried",
    "link_refused": "the gateway tries another replica",
    "config_invalid": "ends a process at its start",
    "dependency_unavailable": "always raised with a code of its own where a client is told",
    "invalid_record": "is about Kafka",
    "link_closed": "a class of errors",
    "link_timed_out": "a class of errors",
    "parley_error": "a class of errors",
    "peer_violation": "always raised with a code of its own",
    "permanent": "a class of errors",
    "refused_for_now": "always raised with a code of its own",
    "tool_refused": "goes to the model",
    "transient": "a class of errors",
    "session_crashed": "the link is closed by then: becomes session_lost",
}
HTTP_CODE = tuple(
    f"services/gateway/src/parley_gateway/{name}.py"
    for name in ("http_api", "token_access", "facts_stream", "callbacks", "admission")
)
"""Where the codes come from that an HTTP answer may have; those with a status of their own are in refusals.py."""


@cache
def pages() -> tuple[Page, ...]:
    found = [*(ROOT / name for name in ROOT_PAGES), *sorted((ROOT / "docs").rglob("*.md"))]
    return tuple(Page(path.relative_to(ROOT).as_posix(), path.read_text("utf-8")) for path in found)


def page(name: str) -> Page:
    return next(each for each in pages() if each.name == name)


@cache
def paths() -> frozenset[str]:
    """Every file and folder of the repository, from its root."""
    found = set()
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in NOT_OURS]
        found |= {(Path(folder) / name).relative_to(ROOT).as_posix() for name in (*folders, *files)}
    return frozenset(found)


@cache
def trees() -> tuple[tuple[str, ast.Module], ...]:
    """Our packages, parsed."""
    found = [path for path in paths() if path.endswith(".py") and "/src/" in path]
    return tuple((path, ast.parse((ROOT / path).read_text("utf-8"))) for path in sorted(found))


def none_wrong(found: Iterable[Finding]) -> None:
    listed = "".join(f"\n  {finding}" for finding in found)
    assert not listed, listed


# -- pages and the machine ------------------------------------------------------------------------


def test_every_command_option_and_target_exists() -> None:
    none_wrong(finding for each in pages() for finding in docs.wrong_commands(each, commands()))


def test_every_relative_link_leads_somewhere() -> None:
    anchors = {each.name: each.anchors for each in pages()}
    exists = lambda path: path in paths()  # noqa: E731
    none_wrong(finding for each in pages() for finding in docs.wrong_links(each, exists, anchors))


def test_every_file_and_folder_named_exists() -> None:
    none_wrong(finding for each in pages() for finding in docs.wrong_paths(each, paths()))


def test_every_function_and_method_named_is_in_the_code() -> None:
    functions, methods = index()
    none_wrong(finding for each in pages() for finding in docs.wrong_functions(each, functions, methods))


def test_every_environment_variable_is_in_the_example() -> None:
    known = house.variables_in((ROOT / ".env.example").read_text("utf-8")) | OTHER_VARIABLES
    none_wrong(finding for each in pages() for finding in docs.wrong_variables(each, known))


def test_every_port_is_a_default() -> None:
    none_wrong(finding for each in pages() for finding in docs.wrong_ports(each, *ports()))


def test_every_topic_and_fact_type_exists() -> None:
    known = names()
    none_wrong(finding for each in pages() for finding in docs.wrong_names(each, known))


def test_the_prose_keeps_to_the_glossary() -> None:
    words = docs.never_say(page(GLOSSARY))
    assert words, "the glossary forbids something"
    judged = [each for each in pages() if each.name != GLOSSARY]
    none_wrong(finding for each in judged for finding in docs.forbidden_words(each, words))


# -- the client protocol --------------------------------------------------------------------------


def test_the_protocol_page_has_every_message_and_every_field() -> None:
    client = {*get_args(audio_link.FromClient), *get_args(audio_link.ToClient)}
    none_wrong(docs.wrong_messages(page(PROTOCOL), {tag_of(each): fields_of(each) for each in client}))


def test_the_protocol_page_has_every_part_of_ready_and_its_limits_as_they_are() -> None:
    limits = next(t for t in page(PROTOCOL).tables("`ready`") if t.head[0] == "field of `limits`")
    told = dict(zip(limits.firsts(), (row[1] for row in limits.rows), strict=True))
    assert told == {name: str(value) for name, value in msgspec.structs.asdict(audio_link.Limits()).items()}
    section = page(PROTOCOL).section("`ready`")
    assert [each for each in fields_of(audio_link.AudioFormat) if f"`{each}`" not in section] == []


def test_the_protocol_page_has_every_message_of_the_link() -> None:
    public = {*get_args(audio_link.FromClient), *get_args(audio_link.ToClient)}
    link = {*get_args(audio_link.UpLink), *get_args(audio_link.DownLink)} - public
    link -= {each for each in link if tag_of(each) in {tag_of(other) for other in public}}
    (table,) = page(PROTOCOL).tables("The link")
    none_wrong(docs.differences(page(PROTOCOL), "type", set(table.firsts()), {tag_of(each) for each in link}))
    rows = dict(zip(table.firsts(), table.rows, strict=True))
    for each in link:
        wanted = [*fields_of(each), *(fields_of(audio_link.Caller) if each is audio_link.Attach else [])]
        assert [name for name in wanted if f"`{name}`" not in " ".join(rows[tag_of(each)])] == []


def test_the_protocol_page_has_every_error_code_and_no_other() -> None:
    (table,) = page(PROTOCOL).tables("Error codes")
    told = set(table.firsts())
    in_code = set(codes(CLIENT_CODE, but=HTTP_CODE[:4])) - set(NEVER_TOLD)
    none_wrong(docs.differences(page(PROTOCOL), "error code", told, in_code))


def test_the_codes_that_are_never_told_are_still_in_the_code() -> None:
    assert set(NEVER_TOLD) - set(codes(CLIENT_CODE)) == set()


def test_the_protocol_page_has_every_http_code_with_its_status() -> None:
    (table,) = page(PROTOCOL).tables("HTTP error codes")
    told = dict(zip(table.firsts(), (row[1] for row in table.rows), strict=True))
    in_code = set(codes(HTTP_CODE)) | set(refusals._HTTP_STATUS)
    none_wrong(docs.differences(page(PROTOCOL), "HTTP code", set(told), in_code))
    for code, status in refusals._HTTP_STATUS.items():
        assert told[code] == str(status), code


def test_the_protocol_page_has_every_close_code() -> None:
    (table,) = page(PROTOCOL).tables("Close codes")
    ours = {value for name, value in vars(refusals).items() if name.startswith("CLOSE_")}
    told = {int(each) for each in table.firsts()}
    none_wrong(docs.differences(page(PROTOCOL), "close code", told, ours | explicit_close_codes()))


def test_the_topics_on_the_architecture_page_are_those_of_the_registry() -> None:
    (table,) = page("docs/architecture.md").tables("Topics")
    told = {
        name: row[2]
        for name, row in zip(table.firsts(), table.rows, strict=True)
        if name.startswith("parley.")
    }
    topics = {topic.name: str(topic.partitions) for topic in TOPICS if not topic.name.endswith(".dead")}
    own = tool_calls_topic("tools")
    topics["parley.tool.calls.<service>"] = topics.pop(own.name)
    assert told == topics


# -- what the code knows --------------------------------------------------------------------------


def commands() -> Commands:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    scripts: set[str] = set()
    for path in paths():
        if path.endswith("pyproject.toml"):
            project = tomllib.loads((ROOT / path).read_text("utf-8")).get("project", {})
            scripts |= set(project.get("scripts", {}))
    return Commands(
        parley=dict(command_tree(get_command(app))),
        targets=frozenset(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE)),
        scripts=scripts,
        has_module=has_module,
    )


def command_tree(
    command: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], AbstractSet[str]]]:
    """Yield each command of the CLI with its options."""
    options = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    yield path, options | {"--help", "-h"}
    for name, inner in getattr(command, "commands", {}).items():
        yield from command_tree(inner, (*path, name))


def has_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def ports() -> tuple[dict[str, int], set[int]]:
    """Default ports by setting, and those of addresses among defaults, examples and compose files."""
    defaults: dict[str, int] = {}
    others: set[int] = set()
    for cls in settings_classes():
        prefix = str(cls.model_config.get("env_prefix", ""))
        for name, field in cls.model_fields.items():
            if name.endswith("port") and isinstance(field.default, int):
                defaults[(prefix + name).upper()] = field.default
            elif isinstance(field.default, str):
                others |= set(map(int, re.findall(r":(\d{2,5})\b", field.default)))
    texts = [(ROOT / ".env.example").read_text("utf-8")]
    texts += [
        (ROOT / path).read_text("utf-8") for path in paths() if re.search(r"compose[\w.-]*\.ya?ml$", path)
    ]
    others |= {int(port) for text in texts for port in re.findall(r":(\d{4,5})\b", text)}
    return defaults, others


def names() -> set[str]:
    """Topics, record types, subprotocols, and every other `parley.` name that the code spells out."""
    known = {topic.name for topic in TOPICS} | set(BY_TYPE)
    known |= {tool_calls.CALL_TYPE, tool_calls.RESULT_TYPE, tool_calls.ANNOUNCEMENT_TYPE}
    known |= {audio_link.SUBPROTOCOL, audio_link.LINK_SUBPROTOCOL}
    for _, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and re.fullmatch(r"parley\.[\w.]*\w", str(node.value)):
                known.add(str(node.value))
    return known


def index() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Functions by module and methods by class."""
    functions: dict[str, set[str]] = defaultdict(set)
    methods: dict[str, set[str]] = defaultdict(set)
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                functions[Path(path).stem].add(node.name)
            elif isinstance(node, ast.ClassDef):
                parts = [
                    part for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)
                ]
                methods[node.name] |= {part.name for part in parts}
    return functions, methods


def tag_of(message: Any) -> str:
    return str(message.__struct_config__.tag)


def fields_of(message: Any) -> list[str]:
    return [field.encode_name for field in msgspec.structs.fields(message)]


def codes(places: Sequence[str], but: Sequence[str] = ()) -> Iterator[str]:
    """Yield every stable code that is written out there; ``upstream_*`` where it is put together.

    Codes stand as ``code=``, as the class attribute ``code``, first in Error, ShowError, ShellFailed,
    client_broke_protocol and error_body, third in end, second in fail, and in the table _HTTP_CODES.
    """
    for path, tree in trees():
        is_in = any(path == place or path.startswith(f"{place}/") for place in places)
        if is_in and path not in but:
            for node in ast.walk(tree):
                yield from _codes_of(node)


def _codes_of(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func).rpartition(".")[2]
        yield from (c for each in node.keywords if each.arg == "code" for c in _texts(each.value))
        place = {
            "Error": 0,
            "ShowError": 0,
            "ShellFailed": 0,
            "error_body": 0,
            "client_broke_protocol": 0,
            "end": 2,
            "fail": 1,
        }
        if name in place and len(node.args) > place[name]:
            yield from _texts(node.args[place[name]])
    elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
        if ast.unparse(target) in {"code", "_HTTP_CODES"}:
            yield from _texts(node.value)


def _texts(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]):
            yield f"{text}*"
        case ast.IfExp(body=body, orelse=orelse):
            yield from (*_texts(body), *_texts(orelse))
        case ast.Dict(values=parts) | ast.Call(args=parts):
            yield from (text for part in parts for text in _texts(part))


def explicit_close_codes() -> set[int]:
    """Close codes that the gateway gives as a number where a fault is raised."""
    found = set()
    for path, tree in trees():
        if path.startswith("services/gateway/"):
            for node in ast.walk(tree):
                if (
                    isinstance(node, ast.keyword)
                    and node.arg == "close_code"
                    and isinstance(node.value, ast.Constant)
                ):
                    found.add(int(node.value.value))
    return found


@pytest.mark.parametrize("name", ROOT_PAGES)
def test_the_pages_that_strangers_look_for_are_there(name: str) -> None:
    assert page(name).text.startswith("# ")


def test_the_licence_is_whole() -> None:
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
