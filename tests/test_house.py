"""The laws of the house that a linter cannot hold, checked on every file that is or will be committed.

Sizes above the usual are remarks at the end of the run; sizes above the ceiling fail. The rules themselves
are tests/harness/house.py, and tests/unit/harness/test_house_rules.py proves that each can fail.
"""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from harness import house
from parley_common import settings as common_settings
from parley_common.settings import ServiceSettings, Settings, variables

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("common", "understudy", "launcher", "gateway", "session", "tools", "notify")
FILE_BYTES_MAX = 200_000
# Written by a tool and read by one: their size is the number of packages.
MAY_BE_LARGE = frozenset({"requirements.lock", "requirements-test.lock", "requirements-voice.lock"})
# The rules and the proofs that they fire have to spell out what they forbid.
SPELLS_OUT = frozenset({"tests/harness/house.py", "tests/unit/harness/test_house_rules.py"})
# Read by developers' tools and tests, not by a settings class.
OTHER_VARIABLES = frozenset({"DATABASE_URL", "OPENAI_API_KEY", "PARLEY_TEST_KAFKA"})
REMARKS_MAX = 40


@cache
def files() -> tuple[Path, ...]:
    """Every file that git tracks or would take."""
    listing = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    paths = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    return tuple(path for path in paths if path.is_file())


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def texts(paths: Iterable[Path]) -> list[tuple[str, str]]:
    """The names and texts of those files that are text."""
    found = []
    for path in paths:
        content = path.read_bytes()
        if b"\0" not in content[:8192]:
            found.append((name_of(path), content.decode(errors="replace")))
    return found


def sources(*, of_packages: bool) -> list[tuple[str, str]]:
    """Python files of our packages, or of everything else; migrations are a record, not a design."""
    chosen = [
        path
        for path in files()
        if path.suffix == ".py" and ("src" in path.parts) is of_packages and "versions" not in path.parts
    ]
    return texts(chosen)


def listed(findings: Iterable[object]) -> str:
    return "".join(f"\n  {finding}" for finding in findings)


def test_no_file_names_a_place_of_one_machine_or_a_package_registry() -> None:
    places = frozenset(str(place) for place in (ROOT, Path.home()) if len(place.parts) > 2)
    judged = [(name, text) for name, text in texts(files()) if name not in SPELLS_OUT]
    found = [finding for name, text in judged for finding in house.machine_traces(name, text, places)]
    assert not found, listed(found)


def test_nothing_is_left_for_later_and_no_test_is_switched_off() -> None:
    judged = [(name, text) for name, text in texts(files()) if name not in SPELLS_OUT]
    found = [finding for name, text in judged for finding in house.forbidden_marks(name, text)]
    assert not found, listed(found)


def test_names_have_units_say_something_and_keep_to_the_glossary() -> None:
    found = [
        finding for name, text in sources(of_packages=True) for finding in house.unclear_names(name, text)
    ]
    assert not found, listed(found)


def test_every_module_says_what_it_does() -> None:
    found = [name for name, text in sources(of_packages=True) if house.lacks_docstring(text)]
    assert not found, listed(found)


def test_no_file_function_or_class_is_larger_than_anyone_can_hold_in_mind(
    remark: Callable[[str], None],
) -> None:
    found = [smell for name, text in sources(of_packages=True) for smell in house.smells(name, text)]
    for name, text in sources(of_packages=False):
        found += house.smells(name, text, house.TEST_FILE_LINES)
    for smell in found[:REMARKS_MAX]:
        remark(f"{smell}")
    refused = [smell for smell in found if smell.is_refused]
    assert not refused, listed(refused)


def test_every_package_carries_its_types() -> None:
    folders = [path.parent for path in files() if path.name == "__init__.py" and path.parts[-3] == "src"]
    assert {folder.name for folder in folders} == {f"parley_{name}" for name in PACKAGES}
    untyped = [name_of(folder) for folder in folders if not (folder / "py.typed").is_file()]
    assert not untyped, listed(untyped)


def test_no_large_file_is_committed() -> None:
    large = [
        f"{name_of(path)}: {path.stat().st_size} bytes"
        for path in files()
        if path.stat().st_size > FILE_BYTES_MAX and name_of(path) not in MAY_BE_LARGE
    ]
    assert not large, listed(large)


def test_the_example_environment_names_exactly_the_variables_that_are_read() -> None:
    read = {variable for cls in settings_classes() for variable in variables(cls)}
    example = house.variables_in((ROOT / ".env.example").read_text())
    missing, unknown = read - example - OTHER_VARIABLES, example - read - OTHER_VARIABLES
    assert not missing, f"settings that .env.example does not name:{listed(sorted(missing))}"
    assert not unknown, f"variables in .env.example that nothing reads:{listed(sorted(unknown))}"


def settings_classes() -> set[type[Settings]]:
    """Every settings class of our packages but the two that others build on."""
    modules = [common_settings, *(_settings_module(name) for name in PACKAGES)]
    classes = {
        value
        for module in modules
        if module is not None
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Settings)
    }
    return classes - {Settings, ServiceSettings}


def _settings_module(package: str) -> ModuleType | None:
    parent = importlib.import_module(f"parley_{package}")
    names = {module.name for module in pkgutil.iter_modules(parent.__path__)}
    return importlib.import_module(f"parley_{package}.settings") if "settings" in names else None


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_is_where_the_tree_says(package: str) -> None:
    module = importlib.import_module(f"parley_{package}")
    home = Path(module.__path__[0]).resolve().relative_to(ROOT)
    assert home.parts[0] in {"libs", "services"}
    assert home.parts[1:] == (package, "src", f"parley_{package}")
