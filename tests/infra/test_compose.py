"""The compose files: each layer merges into something that starts, in order, with settings that exist.

Whether the engine agrees is not asked here; docs/how-to/deploy.md says what was run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.kafka_apache import kafka_version
from harness.postgres import IMAGE as POSTGRES_IMAGE
from infra.deployment import (
    BASE,
    INFRA,
    LAYERS,
    READS,
    ROOT,
    SERVICES,
    compose,
    environment_of,
    image_of,
    interpolates,
    load_yaml,
    read_by,
    stages,
)
from parley_common.service import Readiness, http_app
from parley_common.settings import variables
from parley_launcher.settings import ServicePorts
from parley_understudy import control

STACKS = (
    (),
    ("dev",),
    ("observability",),
    ("production",),
    ("dev", "observability"),
    ("production", "observability"),
)
GIVEN = {
    "PARLEY_INTERNAL_TOKEN": "i" * 32,
    "POSTGRES_PASSWORD": "p",
    "TOOLS_DATABASE_PASSWORD": "t",
    "NOTIFY_DATABASE_PASSWORD": "n",
    "NOTIFY_WEBHOOK_KEYS": "k:" + "w" * 32,
    "NOTIFY_SMTP_HOST": "smtp.example.com",
    "NOTIFY_SMTP_FROM": "Cap <cap@example.com>",
    "OPENAI_API_KEY": "sk-example",
    "GATEWAY_TOKEN_KEYS": "k:" + "g" * 32,
    "GATEWAY_PUBLIC_URL": "wss://voice.example.com",
}
"""What the production layer asks for."""
OF_COMPOSE = {
    "COMPOSE_PROJECT_NAME",
    "GRAFANA_ADMIN_PASSWORD",
    "NOTIFY_DATABASE_PASSWORD",
    "OPENAI_API_KEY",
    "POSTGRES_PASSWORD",
    "TOOLS_DATABASE_PASSWORD",
}
"""Asked of a person but no setting of ours: they become part of a URL, or another's setting."""
NEEDS = {
    "gateway": {"GATEWAY_SESSION_SERVICES", "GATEWAY_TOKEN_KEYS", "KAFKA_BOOTSTRAP_SERVERS"},
    "session": {
        "SESSION_ORDINAL",
        "SESSION_UPSTREAM_URL",
        "SESSION_UPSTREAM_API_KEY",
        "KAFKA_BOOTSTRAP_SERVERS",
    },
    "tools": {"TOOLS_DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS"},
    "notify": {"NOTIFY_DATABASE_URL", "NOTIFY_WEBHOOK_KEYS", "NOTIFY_SMTP_HOST", "KAFKA_BOOTSTRAP_SERVERS"},
    "migrations": {"TOOLS_DATABASE_URL", "NOTIFY_DATABASE_URL", "NOTIFY_WEBHOOK_KEYS"},
    "topics": {"KAFKA_BOOTSTRAP_SERVERS"},
}
"""What must be said even if the default would do on one machine without containers."""
KEYS_OF_A_SERVICE = {
    "build", "cap_drop", "command", "container_name", "depends_on", "deploy", "environment", "healthcheck", "image",
    "logging", "ports", "read_only", "restart", "security_opt", "shm_size", "stop_grace_period", "tmpfs", "volumes",
}  # fmt: skip
OF_OTHERS = {"kafka", "postgres", "mailpit", "otel-collector", "jaeger", "prometheus", "grafana"}


def ours(*layers: str) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield our own services of a stack, each with the stage that its image is."""
    for name, service in compose(*layers)["services"].items():
        if image := image_of(service):
            yield name, service, image


@pytest.mark.parametrize("layers", STACKS, ids="+".join)
def test_a_stack_holds_nothing_but_keys_that_compose_knows(layers: tuple[str, ...]) -> None:
    stack = compose(*layers)
    assert {key for key in stack if not key.startswith("x-")} == {"name", "services", "volumes"}
    for name, service in stack["services"].items():
        assert set(service) <= KEYS_OF_A_SERVICE, name
        assert "image" in service, name
        assert image_of(service) in stages() if image_of(service) else name in OF_OTHERS


@pytest.mark.parametrize("layers", STACKS, ids="+".join)
def test_every_variable_that_is_set_is_a_setting_of_that_program(layers: tuple[str, ...]) -> None:
    for name, service, image in ours(*layers):
        unknown = set(environment_of(service, GIVEN)) - read_by(image)
        assert not unknown, f"{name} sets what nothing reads: {sorted(unknown)}"


@pytest.mark.parametrize("layers", STACKS, ids="+".join)
def test_every_setting_that_is_needed_is_set(layers: tuple[str, ...]) -> None:
    services = compose(*layers)["services"]
    for name, needed in NEEDS.items():
        assert needed <= set(environment_of(services[name], GIVEN)), name


@pytest.mark.parametrize("layers", STACKS, ids="+".join)
def test_each_program_accepts_what_it_is_given(
    layers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _, service, image in ours(*layers):
        for cls in READS[image]:
            with monkeypatch.context() as patched:
                for variable in variables(cls):
                    patched.delenv(variable, raising=False)
                for variable, value in environment_of(service, GIVEN).items():
                    if variable not in {"PATH", "PYTHONPATH"}:
                        patched.setenv(variable, value)
                cls()  # raises for a value of the wrong kind


@pytest.mark.parametrize("missing", sorted(GIVEN))
def test_production_starts_nothing_while_a_secret_is_missing(missing: str) -> None:
    given = {name: value for name, value in GIVEN.items() if name != missing}
    services = compose("production")["services"].values()
    with pytest.raises(KeyError, match=missing):
        [environment_of(service, given) for service in services]


def test_production_leaves_no_development_secret_anywhere() -> None:
    for name, service in compose("production")["services"].items():
        environment = environment_of(service, GIVEN)
        assert "development-only" not in "".join(environment.values()), name
        if name in SERVICES or name == "migrations":
            assert environment["PARLEY_ENVIRONMENT"] == "production", name


@pytest.mark.parametrize("path", [BASE, *LAYERS.values()], ids=lambda path: path.name)
def test_what_a_person_may_set_is_a_setting_or_named_here(path: Any) -> None:
    settings = set().union(*(read_by(image) for image in READS))
    assert interpolates(path.read_text()) <= settings | OF_COMPOSE


@pytest.mark.parametrize("layers", STACKS, ids="+".join)
def test_everything_depended_on_is_there_and_can_reach_its_condition(layers: tuple[str, ...]) -> None:
    services = compose(*layers)["services"]
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            assert needed in services, f"{name} waits for {needed}"
            match how["condition"]:
                case "service_completed_successfully":
                    assert services[needed]["restart"] == "no", f"{needed} would never complete"
                case "service_healthy":
                    assert "healthcheck" in services[needed], f"{needed} is never healthy"
                case condition:
                    assert condition == "service_started"
    assert_no_circle({name: set(service.get("depends_on", {})) for name, service in services.items()})


def assert_no_circle(needs: dict[str, set[str]]) -> None:
    waiting = dict(needs)
    while waiting:
        startable = {name for name, needed in waiting.items() if not needed & waiting.keys()}
        assert startable, f"these wait for each other: {sorted(waiting)}"
        waiting = {name: needed for name, needed in waiting.items() if name not in startable}


def test_services_wait_for_topics_and_those_with_a_database_for_its_tables() -> None:
    services = compose()["services"]
    completed = {"condition": "service_completed_successfully"}
    for name in ("session", "tools", "notify"):
        assert services[name]["depends_on"]["topics"] == completed
    for name in ("tools", "notify"):
        assert services[name]["depends_on"]["migrations"] == completed
    assert services["topics"]["command"] == ["topics", "apply"]
    assert services["migrations"]["command"] == ["migrate"]


@pytest.mark.parametrize("layers", STACKS, ids="+".join)
def test_every_health_check_asks_a_path_and_port_that_the_program_has(layers: tuple[str, ...]) -> None:
    http_paths = {getattr(route, "path", "") for route in http_app("any", Readiness()).routes}
    assert '"/healthz"' in Path(control.__file__).read_text("utf-8"), "the understudy is no FastAPI app"
    default_ports = ServicePorts().model_dump()
    for name, service, image in ours(*layers):
        if image == "jobs":
            continue
        port, path = asked_by(service["healthcheck"]["test"])
        assert path in http_paths, name
        assert port == default_ports[f"{image}_port"], name


def asked_by(check: list[str]) -> tuple[int, str]:
    found = re.search(r"http://127\.0\.0\.1:(\d+)(/[\w/]*)", check[-1])
    assert check[:3] == ["CMD", "python", "-c"]
    assert found
    return int(found[1]), found[2]


@pytest.mark.parametrize("layers", STACKS, ids="+".join)
def test_ports_are_published_on_loopback_alone_each_once_and_as_the_design_says(
    layers: tuple[str, ...],
) -> None:
    default_ports = ServicePorts().model_dump()
    published = []
    for name, service in compose(*layers)["services"].items():
        for port in service.get("ports", []):
            address, outside, inside = port.split(":")
            assert (address, outside) == ("127.0.0.1", inside), name
            published.append(outside)
            if f"{name}_port" in default_ports:
                assert int(inside) == default_ports[f"{name}_port"]
    assert len(published) == len(set(published))
    assert {"8080", "9092", "5432", "8025"} <= set(published)


@pytest.mark.parametrize("layers", STACKS, ids="+".join)
def test_every_mounted_path_exists_and_every_volume_is_declared(layers: tuple[str, ...]) -> None:
    stack = compose(*layers)
    for name, service in stack["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).exists(), f"{name} mounts {source}"
                assert volume.endswith(":ro"), f"{name} may write to {source}"
            else:
                assert source in stack["volumes"], f"{name} uses {source}"


def test_the_source_that_development_lays_over_the_packages_is_where_the_packages_are() -> None:
    for name, service, _ in ours("dev"):
        mounted = dict(volume.split(":")[1::-1] for volume in service["volumes"] if volume.startswith("./"))
        for folder in environment_of(service)["PYTHONPATH"].split(":"):
            top = next(inside for inside in mounted if folder.startswith(inside + "/"))
            here = ROOT / mounted[top] / folder.removeprefix(top + "/")
            assert [path for path in here.iterdir() if path.name.startswith("parley_")], f"{name}: {folder}"


@pytest.mark.parametrize("layers", STACKS, ids="+".join)
def test_everything_is_bounded_stops_in_time_and_ours_is_confined(layers: tuple[str, ...]) -> None:
    for name, service in compose(*layers)["services"].items():
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}, name
        assert re.fullmatch(r"\d+s", service["stop_grace_period"]), name
    for name, service, _ in ours(*layers):
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_the_session_service_keeps_its_spool_and_cannot_be_scaled_by_mistake() -> None:
    session = compose()["services"]["session"]
    assert session["volumes"] == ["session:/var/lib/parley"]
    assert session["container_name"].endswith("session-0")
    assert environment_of(session)["SESSION_ORDINAL"] == "0"


def test_kafka_and_postgresql_are_the_versions_that_the_tests_stand_on() -> None:
    services = compose()["services"]
    assert services["kafka"]["image"] == f"apache/kafka:{kafka_version()}"
    assert services["postgres"]["image"] == POSTGRES_IMAGE
    assert services["kafka"]["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_every_image_has_a_fixed_tag() -> None:
    for name, service in compose("dev", "observability")["services"].items():
        if image_of(service) is None:
            assert re.search(r":v?\d", service["image"]), name


def test_every_layer_in_the_folder_is_tried_here() -> None:
    assert {path.name for path in INFRA.glob("compose.*.yml")} == {path.name for path in LAYERS.values()}
    assert {layer for layers in STACKS for layer in layers} == set(LAYERS)


def test_a_key_given_twice_is_refused() -> None:
    with pytest.raises(AssertionError, match="given twice"):
        load_yaml("a: 1\na: 2\n")


def test_services_that_wait_for_each_other_are_found() -> None:
    with pytest.raises(AssertionError, match="wait for each other"):
        assert_no_circle({"a": {"b"}, "b": {"a"}, "c": set()})
