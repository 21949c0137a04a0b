"""Reads what is deployed as plain data: the Dockerfile, the compose files merged in layers, the chart's templates.

It understands what our own files use and fails on anything else, so that a form it does not know is noticed. It
asks no engine and renders no Go template: a template's control lines are left out and its values stand as ``x``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from parley_common.settings import Settings, variables
from parley_gateway.settings import GatewaySettings
from parley_launcher.settings import UpSettings
from parley_notify.settings import NotifySettings
from parley_session.settings import SessionSettings
from parley_tools.settings import ToolsSettings
from parley_understudy.settings import Settings as UnderstudySettings

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"
CHART = INFRA / "helm" / "parley"
BASE = ROOT / "docker-compose.yml"
LAYERS = {name: INFRA / f"compose.{name}.yml" for name in ("dev", "observability", "production")}

SERVICES = ("gateway", "session", "tools", "notify")
READS: Mapping[str, tuple[type[Settings], ...]] = {
    "gateway": (GatewaySettings,),
    "session": (SessionSettings,),
    "tools": (ToolsSettings,),
    "notify": (NotifySettings,),
    "understudy": (UnderstudySettings,),
    # `parley migrate` starts the migrations of both services, each with its own settings.
    "jobs": (UpSettings, ToolsSettings, NotifySettings),
}
"""Which settings the program of each image reads."""
OF_THE_PROCESS = frozenset({"PATH", "PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"})
"""Read by Python or the system, not by a settings class."""


def read_by(image: str) -> set[str]:
    """Return every variable that the program of ``image`` reads."""
    return {variable for cls in READS[image] for variable in variables(cls)} | OF_THE_PROCESS


# -- compose ---------------------------------------------------------------------------------------


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key given twice, which YAML forbids and the loader would let pass."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        repeated = {key for key in keys if keys.count(key) > 1}
        assert not repeated, f"{node.start_mark}: given twice: {sorted(repeated)}"
        return super().construct_mapping(node, deep)


def load_yaml(text: str) -> Any:
    """Return one YAML document. Fails on a repeated key."""
    return yaml.load(text, Loader=_UniqueKeys)


def documents(text: str) -> list[Any]:
    """Return the documents of a YAML text that are not empty."""
    return [document for document in yaml.load_all(text, Loader=_UniqueKeys) if document]


@cache
def compose(*layers: str) -> dict[str, Any]:
    """Return the base and ``layers`` as Compose merges them: mappings by key, lists one after the other."""
    merged: Any = load_yaml(BASE.read_text())
    for layer in layers:
        merged = _merged(merged, load_yaml(LAYERS[layer].read_text()))
    return dict(merged)


REPLACED = frozenset({"command", "entrypoint", "test"})


def _merged(base: Any, layer: Any, key: str = "") -> Any:
    if isinstance(base, dict) and isinstance(layer, dict):
        return {
            name: _merged(base.get(name), layer[name], name) if name in layer else base[name]
            for name in {**base, **layer}
        }
    if isinstance(base, list) and isinstance(layer, list) and key not in REPLACED:
        return [*base, *(value for value in layer if value not in base)]
    return layer


_VARIABLE = re.compile(r"\$\{([A-Z_]+)(?:(:?[-?])([^}]*))?\}")


def interpolated(value: str, environment: Mapping[str, str]) -> str:
    """Return ``value`` as Compose fills it in. Raises KeyError for a variable that must be set and is not."""

    def fill_in(found: re.Match[str]) -> str:
        name, how, text = found.groups()
        set_to = environment.get(name, "")
        if set_to or how is None:
            return set_to
        if "?" in how:
            raise KeyError(name)
        return str(text)

    return _VARIABLE.sub(fill_in, value)


def interpolates(text: str) -> set[str]:
    """Return the variables of the person's environment that a compose text asks for."""
    return {name for name, _, _ in _VARIABLE.findall(text)}


def environment_of(service: Mapping[str, Any], given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a compose service, filled in from ``given``."""
    return {
        name: interpolated(str(value), given or {}) for name, value in service.get("environment", {}).items()
    }


def image_of(service: Mapping[str, Any]) -> str | None:
    """Return which stage of the Dockerfile a compose service is; null: an image of somebody else."""
    build = service.get("build")
    return str(build["target"]) if build else None


# -- the Dockerfile --------------------------------------------------------------------------------


@dataclass
class Stage:
    """One stage: what it is built from and what it says, in order."""

    name: str
    base: str
    said: list[tuple[str, str]] = field(default_factory=list)

    def of(self, instruction: str) -> list[str]:
        """Return the arguments of each ``instruction``."""
        return [argument for name, argument in self.said if name == instruction]


@cache
def stages() -> dict[str, Stage]:
    """Return the stages of the Dockerfile by name."""
    found: dict[str, Stage] = {}
    current: Stage | None = None
    for name, argument in _instructions((ROOT / "Dockerfile").read_text()):
        if name == "FROM":
            base, as_word, stage = argument.split()
            assert as_word == "AS", f"a stage without a name: {argument}"
            current = found.setdefault(stage, Stage(stage, base))
        elif current is not None:
            current.said.append((name, argument))
    return found


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, argument = line.strip().partition(" ")
        yield name.upper(), re.sub(r"\s+", " ", argument).strip()


def lineage(stage: str) -> list[Stage]:
    """Return a stage and those it is built from, nearest first."""
    line = [stages()[stage]]
    while (base := line[-1].base) in stages():
        line.append(stages()[base])
    return line


def image_environment(stage: str) -> dict[str, str]:
    """Return the variables that an image sets."""
    found: dict[str, str] = {}
    for each in reversed(lineage(stage)):
        for argument in each.of("ENV"):
            found |= dict(re.findall(r"([A-Z_]+)=(\S+)", argument))
    return found


def is_sent_to_the_builder(path: str) -> bool:
    """Say whether .dockerignore lets ``path`` (relative, with slashes) into the build's context; the last rule wins."""
    is_ignored = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        rule = line.strip()
        if not rule or rule.startswith("#"):
            continue
        if _rule_matches(rule.removeprefix("!"), path):
            is_ignored = not rule.startswith("!")
    return not is_ignored


def _rule_matches(rule: str, path: str) -> bool:
    parts = path.split("/")
    ancestors = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    if rule.startswith("**/"):
        return any(fnmatchcase(part, rule.removeprefix("**/")) for part in parts)
    assert "**" not in rule, f"a rule this reader does not know: {rule}"
    return any(
        fnmatchcase(ancestor, rule) and ancestor.count("/") == rule.count("/") for ancestor in ancestors
    )


# -- the chart -------------------------------------------------------------------------------------

_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_CONTROL = re.compile(
    r"^(?:/\*|if\b|else\b|end\b|with\b|range\b|define\b|include\b.*nindent|toYaml\b|\$\w+ :?=)", re.DOTALL
)


@cache
def templates() -> dict[str, str]:
    """Return the chart's templates by file name."""
    return {path.name: path.read_text() for path in sorted((CHART / "templates").iterdir())}


def actions(text: str) -> list[str]:
    """Return what a template does between its braces."""
    return [found.strip() for found in _ACTION.findall(text)]


def without_template(text: str, *, take_else: bool = False) -> str:
    """Return a template as plain YAML: control lines away, values as ``x``.

    Of an ``if`` with an ``else`` the first branch is taken, or the other; anything else that may be is there.
    """
    lines = _ACTION.sub(lambda found: found.group().replace("\n", " "), text).splitlines()
    kept = []
    for line, is_in_branch in zip(lines, _in_branch(lines, take_else=take_else), strict=True):
        if is_in_branch and not _is_control(line):
            kept.append(_ACTION.sub(lambda action: "" if _CONTROL.match(action.group(1)) else "x", line))
    return "\n".join(kept)


def _is_control(line: str) -> bool:
    found = actions(line)
    return (
        bool(found) and not _ACTION.sub("", line).strip() and all(_CONTROL.match(action) for action in found)
    )


def _in_branch(lines: Sequence[str], *, take_else: bool) -> list[bool]:
    """Say of each line whether it is outside of every branch that is not taken."""
    taken = [True] * len(lines)
    opened: list[tuple[int, int | None]] = []
    for number, line in enumerate(lines):
        for action in actions(line) if _is_control(line) else ():
            if re.match(r"(if|with|range|define)\b", action):
                opened.append((number, None))
            elif action.startswith("else"):
                opened[-1] = (opened[-1][0], number)
            elif action == "end":
                start, middle = opened.pop()
                if middle is not None:
                    left_out = range(start, middle) if take_else else range(middle, number)
                    for each in left_out:
                        taken[each] = False
    return taken


def defined(name: str) -> str:
    """Return the text of a named template."""
    pattern = r'\{\{- define "' + re.escape(name) + r'" -?\}\}(.*?)(?=\{\{- define|\{\{/\*|\Z)'
    found = [text for template in templates().values() for text in re.findall(pattern, template, re.DOTALL)]
    assert len(found) == 1, f"{name} is defined {len(found)} times"
    return str(found[0]).rpartition("{{- end }}")[0]


def variables_of_template(text: str) -> set[str]:
    """Return the environment variables that a template sets, those of the pieces it includes too."""
    included = re.findall(r'include "(parley\.env\.[a-z]+)"', text)
    return set(re.findall(r"- name: ([A-Z][A-Z_]+)$", text, re.MULTILINE)).union(
        *(variables_of_template(defined(name)) for name in included)
    )


@cache
def values() -> dict[str, Any]:
    """Return the chart's default values."""
    return dict(load_yaml((CHART / "values.yaml").read_text()))


@cache
def values_schema() -> dict[str, Any]:
    """Return the schema of the chart's values."""
    return dict(json.loads((CHART / "values.schema.json").read_text()))


def at(tree: Mapping[str, Any], path: Sequence[str]) -> Any:
    """Return what is at ``path`` of nested mappings. Raises KeyError."""
    value: Any = tree
    for name in path:
        value = value[name]
    return value
