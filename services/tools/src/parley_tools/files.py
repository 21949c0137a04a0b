"""The files of a business that kits read: each with its model, read once per version, wrong ones named with line.

Two kinds of thing stand in data/: what never changes while the service runs (a DataFile, read as it is), and what
records begin with (a Seed). Nothing here writes.

Law: a file that does not hold to its model is said at start and by ``parley check``, with file and line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from parley_common.business import Business, Finding, line_of
from parley_common.errors import ConfigInvalid

M = TypeVar("M", bound=BaseModel)


class DataPart(BaseModel):
    """The base of what stands in a data file: frozen, and a key nobody knows is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class DataFile(Generic[M]):
    """A file of a business's data/ folder and the model it must hold to."""

    name: str
    model: type[M]
    is_optional: bool = False
    """A business need not have it; then it is not to be read."""

    def read(self, business: Business) -> M:
        """Return the file's contents, read once per version. Raises ConfigInvalid that names the file and line."""
        return cast("M", _read(self._path(business), self.model, business.version))

    def findings(self, business: Business) -> list[Finding]:
        """Return everything wrong with the file."""
        if self.is_optional and not self._path(business).exists():
            return []
        return _mistakes(self._path(business), self.model)

    def _path(self, business: Business) -> Path:
        return business.folder / "data" / self.name


@dataclass(frozen=True, slots=True)
class RecordKind(Generic[M]):
    """A kind of thing that a kit keeps and changes, and the model of one of them.

    ``seed`` names a file of data/ with a list of them, which they begin as; ``key`` is the field that is their id.
    """

    name: str
    model: type[M]
    seed: str | None = None
    key: str = "id"

    def read_seed(self, business: Business) -> dict[str, M]:
        """Return what the seed file holds, by id; nothing without one. Raises ConfigInvalid with file and line."""
        if self.seed is None:
            return {}
        path = business.folder / "data" / self.seed
        for finding in self.findings(business):
            raise ConfigInvalid(str(finding))
        return {self.id_of(each): each for each in _items(path, self.model)}

    def id_of(self, item: M) -> str:
        """Return the record id of one of them."""
        return str(getattr(item, self.key))

    def findings(self, business: Business) -> list[Finding]:
        """Return everything wrong with the seed file."""
        if self.seed is None:
            return []
        path = business.folder / "data" / self.seed
        wrong = _mistakes(path, list[self.model])  # type: ignore[name-defined] # a model only known here
        return wrong or list(self._repeated(path))

    def _repeated(self, path: Path) -> Iterator[Finding]:
        seen: set[str] = set()
        node = _node(path)
        for number, item in enumerate(_items(path, self.model)):
            record_id = self.id_of(item)
            if record_id in seen:
                message = f"{number}.{self.key}: {record_id!r} is there twice"
                yield Finding("error", path, line_of(node, (number, self.key)), message)
            seen.add(record_id)


def _items(path: Path, model: type[M]) -> list[M]:
    return [model.model_validate(each) for each in yaml.safe_load(path.read_text(encoding="utf-8"))]


def _node(path: Path) -> yaml.Node | None:
    return yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)


@lru_cache(maxsize=512)
def _read(path: Path, model: type[BaseModel], _version: str) -> BaseModel:
    for finding in _mistakes(path, model):
        raise ConfigInvalid(str(finding))
    return model.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def _mistakes(path: Path, model: Any) -> list[Finding]:
    """Return what is wrong with a YAML or JSON file, in the order of its lines."""
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as wrong:
        return [Finding("error", path, 0, f"cannot be read: {wrong}")]
    except yaml.YAMLError as wrong:
        mark = getattr(wrong, "problem_mark", None)
        problem = getattr(wrong, "problem", None) or str(wrong)
        return [Finding("error", path, mark.line + 1 if mark else 0, f"not YAML: {problem}")]
    try:
        TypeAdapter(model).validate_python(raw)
    except ValidationError as wrong:
        return [_finding(path, node, fault) for fault in wrong.errors(include_url=False, include_input=False)]
    return []


def _finding(path: Path, node: yaml.Node | None, fault: Any) -> Finding:
    where = ".".join(str(part) for part in fault["loc"])
    message = f"{where}: {fault['msg']}" if where else str(fault["msg"])
    return Finding("error", path, line_of(node, fault["loc"]), message)
