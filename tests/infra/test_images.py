"""The Dockerfile: what each image holds, who runs it, how it is asked for its health and how it is stopped."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from importlib import import_module

import pytest

from infra.deployment import (
    READS,
    ROOT,
    SERVICES,
    image_environment,
    is_sent_to_the_builder,
    lineage,
    read_by,
    stages,
)
from parley_common.service import Readiness, http_app
from parley_launcher.cli import app as launcher
from parley_launcher.settings import ServicePorts

IMAGES = (*SERVICES, "jobs", "understudy")
LISTENING = (*SERVICES, "understudy")
LEFT_OUT = {"noida-db"}
"""Declared by the launcher, needed by `parley up` alone."""
NAMED_AT_BUILD = re.compile(r"\./(?:libs|services)/(\w+)")


def installed(image: str) -> tuple[set[str], str]:
    """Return which of our packages an image's environment is made of, and the whole command."""
    command = " ".join(stages()[f"build-{image}"].of("RUN"))
    return set(NAMED_AT_BUILD.findall(command)), command


def project(package: str) -> dict[str, object]:
    folder = "services" if package in SERVICES else "libs"
    return dict(tomllib.loads((ROOT / folder / package / "pyproject.toml").read_text())["project"])


def requirement_names(requirements: object) -> set[str]:
    assert isinstance(requirements, list)
    return {re.split(r"[\[<>=;~ ]", text, maxsplit=1)[0] for text in requirements}


@pytest.mark.parametrize("image", IMAGES)
def test_each_service_has_a_stage_that_ends_with_its_own_environment(image: str) -> None:
    copied = stages()[image].of("COPY")
    assert f"--from=build-{image} /opt/venv /opt/venv" in copied
    assert lineage(image)[-1].base == "${BASE_IMAGE}"


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_image_holds_that_service_and_what_all_share_alone(service: str) -> None:
    assert installed(service)[0] == {"common", service}


def test_the_speech_models_are_in_the_understudys_image_alone() -> None:
    assert "'./libs/understudy[voice]'" in installed("understudy")[1]
    with_models = {
        name for name in stages() if any("requirements-voice" in run for run in stages()[name].of("RUN"))
    }
    users = {image for image in IMAGES if with_models & {stage.name for stage in lineage(f"build-{image}")}}
    assert users == {"understudy"}


def test_jobs_hold_everything_that_the_launcher_declares_but_the_embedded_broker() -> None:
    packages, command = installed("jobs")
    assert packages == {"common", "tools", "notify", "launcher"}
    declared = requirement_names(project("launcher")["dependencies"]) - LEFT_OUT - {"parley-common"}
    assert {name for name in declared if name not in command.split()} == set()
    assert "--no-deps ./libs/launcher" in command


def test_packages_come_from_the_hashed_locks_and_no_image_can_hold_a_development_extra() -> None:
    fetching = [run for stage in stages().values() for run in stage.of("RUN") if "pip wheel" in run]
    assert len(fetching) == 2
    assert all("--require-hashes" in run and "--only-binary :all:" in run for run in fetching)
    assert "!/^noida-db==/" in fetching[0]
    assert "noida-db==" not in (ROOT / "requirements-voice.lock").read_text()
    assert not any(
        "requirements-test" in argument for stage in stages().values() for _, argument in stage.said
    )
    for image in IMAGES:
        built_from = lineage(f"build-{image}")
        assert any("PIP_NO_INDEX=1" in env for stage in built_from for env in stage.of("ENV")), image
        installing = [run for run in stages()[f"build-{image}"].of("RUN") if " install " in run]
        assert installing
        assert not any("pip_conf" in run for run in installing), f"{image} asks a registry after the wheels"


@pytest.mark.parametrize("image", IMAGES)
def test_nobody_is_root_and_the_user_is_a_number(image: str) -> None:
    users = [user for stage in lineage(image) for user in stage.of("USER")]
    assert users
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", users[0])


@pytest.mark.parametrize("image", IMAGES)
def test_the_service_is_process_1_and_is_told_by_sigterm(image: str) -> None:
    program = json.loads(stages()[image].of("ENTRYPOINT")[0])
    assert program[0] not in {"sh", "bash", "/bin/sh"}
    assert [stop for stage in lineage(image) for stop in stage.of("STOPSIGNAL")] == ["SIGTERM"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_starts_by_the_console_script_that_its_package_has(service: str) -> None:
    (script,) = json.loads(stages()[service].of("ENTRYPOINT")[0])
    scripts = project(service)["scripts"]
    assert isinstance(scripts, dict)
    module, _, function = scripts[script].partition(":")
    assert callable(getattr(import_module(module), function))


def test_jobs_and_the_understudy_start_by_programs_that_exist() -> None:
    assert json.loads(stages()["jobs"].of("ENTRYPOINT")[0]) == ["parley"]
    assert "parley" in project("launcher")["scripts"]  # type: ignore[operator]
    commands = {command.callback.__name__ for command in launcher.registered_commands if command.callback}
    assert "migrate" in commands
    assert "topics" in {group.name for group in launcher.registered_groups}
    python, flag, module = json.loads(stages()["understudy"].of("ENTRYPOINT")[0])
    assert (python, flag) == ("python", "-m")
    assert callable(import_module(module).main)


@pytest.mark.parametrize("image", IMAGES)
def test_every_variable_of_an_image_is_a_setting_of_its_program(image: str) -> None:
    assert set(image_environment(image)) <= read_by(image)


def test_images_know_every_program_that_reads_settings() -> None:
    assert set(IMAGES) == set(READS)


@pytest.mark.parametrize("image", LISTENING)
def test_an_image_listens_on_its_port_of_the_design_and_is_asked_for_its_health_there(image: str) -> None:
    port = ServicePorts().model_dump()[f"{image}_port"]
    environment = image_environment(image)
    assert environment[f"{image.upper()}_PORT"] == str(port)
    assert environment[f"{image.upper()}_HOST"] == "0.0.0.0"
    assert stages()[image].of("EXPOSE") == [str(port)]
    (check,) = stages()[image].of("HEALTHCHECK")
    command = json.loads(check.partition(" CMD ")[2])
    ast.parse(command[-1])
    assert command[:-1] == ["python", "-IS", "-c"]
    assert f"os.environ['{image.upper()}_PORT']" in command[-1]
    (path,) = re.findall(r"'GET', '([^']+)'", command[-1])
    assert path in {getattr(route, "path", "") for route in http_app("any", Readiness()).routes}


def test_a_health_check_has_an_end_and_allows_for_the_start() -> None:
    for image in LISTENING:
        (check,) = stages()[image].of("HEALTHCHECK")
        assert re.search(r"--interval=\d+s --timeout=\d+s --start-period=\d+s --retries=\d+", check)
    assert stages()["jobs"].of("HEALTHCHECK") == ["NONE"]


def test_everything_that_is_copied_exists_and_reaches_the_builder() -> None:
    copied = [path for stage in stages().values() for copy in stage.of("COPY") for path in sources_of(copy)]
    assert {"requirements.lock", "businesses", "libs/common"} <= set(copied)
    for path in copied:
        assert (ROOT / path).exists(), path
        inside = list((ROOT / path).rglob("*.py")) or [ROOT / path]
        assert any(is_sent_to_the_builder(file.relative_to(ROOT).as_posix()) for file in inside), path


def sources_of(copy: str) -> list[str]:
    words = copy.split()
    return [] if words[0].startswith("--from") else words[:-1]


@pytest.mark.parametrize(
    "path",
    [
        "libs/common/src/parley_common/service.py",
        "services/notify/src/parley_notify/templates/_base.html.j2",
        "services/tools/src/parley_tools/migrations/env.py",
        "services/gateway/src/parley_gateway/web/index.html",
        "libs/common/src/parley_common/py.typed",
        "businesses/cap/business.yaml",
    ],
)
def test_what_the_packages_need_reaches_the_builder(path: str) -> None:
    assert (ROOT / path).is_file()
    assert is_sent_to_the_builder(path)


@pytest.mark.parametrize(
    "path", [".env", ".git/config", ".venv/pyvenv.cfg", "libs/common/.env", "tests/conftest.py", ".parley/tools.db",
             "libs/common/src/parley_common/__pycache__/ids.cpython-311.pyc"]
)  # fmt: skip
def test_no_secret_cache_or_history_reaches_the_builder(path: str) -> None:
    assert not is_sent_to_the_builder(path)


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_says_what_it_is(image: str) -> None:
    labels = " ".join(label for stage in lineage(image) for label in stage.of("LABEL"))
    for name in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{name}=" in labels, name
    assert f'org.opencontainers.image.title="parley-{image}"' in labels


def test_the_base_is_slim_and_a_python_that_every_package_accepts() -> None:
    (base,) = re.findall(r"^ARG BASE_IMAGE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    minor = re.fullmatch(r"python:3\.(\d+)-slim-\w+", base)
    assert minor
    assert int(minor[1]) >= 11
