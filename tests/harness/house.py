"""Laws of the house that no linter holds, as pure functions from a file's text to what is wrong with it.

Which files are read, and what is a failure rather than a remark, is decided by tests/test_house.py.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

# The words this law forbids elsewhere: here, and in its test, they are what is looked for.
_MARKS = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")
_SKIPS = re.compile(r"\bpytest\.(?:mark\.)?(?:skip|skipif|xfail|importorskip)\b|\bunittest\.skip")
_HOMES = re.compile(
    r"(?<![\w.])/(?:home|Users)/(?!(?:app|nonroot|parley|you|user)\b)[A-Za-z][\w.-]*|(?<![\w.~])/root/"
)
_REGISTRIES = re.compile(
    r"files\.pythonhosted\.org|pypi\.org/simple|registry\.npmjs\.org|repo1?\.maven\.(?:apache\.)?org"
    r"|--(?:extra-)?index-url|--find-links|://[\w.-]*(?:artifactory|nexus|jfrog)[\w.-]*"
)
BARE_WAITS = frozenset({"timeout", "delay"})
EMPTY_NAMES = frozenset({"util", "utils", "helper", "helpers", "manager", "managers", "misc"})
FOREIGN_WORDS = frozenset({"utterance", "tenant", "prospect", "plugin", "chatbot"})


@dataclass(frozen=True)
class Finding:
    """One thing found, and where."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True)
class Measure:
    """A size that asks for a second look above ``look`` and is refused above ``ceiling``."""

    name: str
    look: int
    ceiling: int


FILE_LINES = Measure("lines", 400, 600)
TEST_FILE_LINES = Measure("lines", 500, 800)
FUNCTION_LINES = Measure("lines", 50, 80)
PUBLIC_METHODS = Measure("public methods", 12, 24)
ATTRIBUTES = Measure("attributes", 10, 20)
PARAMETERS = Measure("parameters", 6, 9)


@dataclass(frozen=True)
class Smell:
    """A size above what is usual here."""

    where: str
    measure: Measure
    size: int

    @property
    def is_refused(self) -> bool:
        return self.size > self.measure.ceiling

    def __str__(self) -> str:
        usual, ceiling = self.measure.look, self.measure.ceiling
        return f"{self.where}: {self.size} {self.measure.name} (usual up to {usual}, never over {ceiling})"


def forbidden_marks(path: str, text: str) -> list[Finding]:
    """Find notes to oneself, and tests that are switched off."""
    return [
        Finding(f"{path}:{number}", found.group())
        for number, line in enumerate(text.splitlines(), 1)
        for pattern in (_MARKS, _SKIPS)
        if (found := pattern.search(line))
    ]


def machine_traces(path: str, text: str, places: frozenset[str]) -> list[Finding]:
    """Find paths of one machine (``places``, and anybody's home folder) and package registries."""
    own = [re.compile(rf"(?<![\w.-]){re.escape(place)}(?![\w-])") for place in places]
    return [
        Finding(f"{path}:{number}", found.group())
        for number, line in enumerate(text.splitlines(), 1)
        for pattern in (*own, _HOMES, _REGISTRIES)
        if (found := pattern.search(line))
    ]


def unclear_names(path: str, source: str) -> list[Finding]:
    """Find waits without a unit, names that say nothing, and words that the glossary forbids."""
    findings = [Finding(path, f"a module named {part}") for part in _stems(path) if part in EMPTY_NAMES]
    for name, line in _defined_names(ast.parse(source)):
        words = set(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_"))
        where = f"{path}:{line}"
        if name in BARE_WAITS:
            findings.append(Finding(where, f"{name} has no unit: {name}_s or {name}_ms"))
        findings += [Finding(where, f"{name}: {word} says nothing") for word in words & EMPTY_NAMES]
        findings += [Finding(where, f"{name}: the glossary has another word") for _ in words & FOREIGN_WORDS]
    return findings


def smells(path: str, source: str, file_lines: Measure = FILE_LINES) -> list[Smell]:
    """Measure a file, its functions and its classes; return what is above the usual.

    A function is as long as its body, docstring apart. The parameters of a tool or of a command are what its
    caller or its user may say: they are not counted. Nor is the size of a state machine of a property test.
    """
    tree = ast.parse(source)
    found = [Smell(path, file_lines, len(source.splitlines()))]
    for node in ast.walk(tree):
        where = f"{path}:{getattr(node, 'lineno', 0)} {getattr(node, 'name', '')}"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.append(Smell(where, FUNCTION_LINES, _body_lines(node)))
            if not _is_spoken_or_typed(node):
                found.append(Smell(where, PARAMETERS, _parameter_count(node)))
        elif isinstance(node, ast.ClassDef) and "RuleBasedStateMachine" not in map(ast.unparse, node.bases):
            found.append(Smell(where, PUBLIC_METHODS, _public_method_count(node)))
            found.append(Smell(where, ATTRIBUTES, len(_instance_attributes(node))))
    return [smell for smell in found if smell.size > smell.measure.look]


def lacks_docstring(source: str) -> bool:
    """Say whether a module with any code in it does not say what it decides or does."""
    tree = ast.parse(source)
    return bool(tree.body) and ast.get_docstring(tree) is None


def variables_in(text: str) -> set[str]:
    """Return the variables that an .env file names, commented out or not."""
    return set(re.findall(r"^(?:# ?)?([A-Z][A-Z0-9_]*)=", text, re.MULTILINE))


def _stems(path: str) -> Iterator[str]:
    for part in PurePosixPath(path).parts:
        yield part.removesuffix(".py")


def _defined_names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name, node.lineno
            case ast.arg():
                yield node.arg, node.lineno
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name, node.lineno
            case ast.Attribute(attr=name, ctx=ast.Store()):
                yield name, node.lineno


def _body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (body[-1].end_lineno or body[-1].lineno) - body[0].lineno + 1 if body else 0


def _is_spoken_or_typed(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Say whether the parameters are an interface of their own: a tool's, or options of a command."""
    marks = [ast.unparse(mark.func if isinstance(mark, ast.Call) else mark) for mark in node.decorator_list]
    kinds = [ast.unparse(arg.annotation) for arg in node.args.args if arg.annotation]
    return "tool" in marks or any("typer." in kind for kind in kinds)


def _parameter_count(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count parameters but for self and cls."""
    names = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len([name for name in names if name not in {"self", "cls"}])


def _public_method_count(node: ast.ClassDef) -> int:
    methods = [part for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)]
    return len([method for method in methods if not method.name.startswith("_") and not _is_property(method)])


def _is_property(method: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(isinstance(mark, ast.Name) and mark.id == "property" for mark in method.decorator_list)


def _instance_attributes(node: ast.ClassDef) -> set[str]:
    """Return the attributes that a class gives to ``self``; the fields of a value object are its whole point."""
    return {
        target.attr
        for target in ast.walk(node)
        if isinstance(target, ast.Attribute)
        and isinstance(target.ctx, ast.Store)
        and isinstance(target.value, ast.Name)
        and target.value.id == "self"
    }
