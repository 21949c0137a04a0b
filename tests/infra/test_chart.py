"""The Helm chart, without Helm: templates read as YAML with their Go actions taken out.

That shows structure, names and paths; it does not show what a value becomes. docs/how-to/deploy.md says where the
chart was rendered by Helm itself.
"""

from __future__ import annotations

import re
from typing import Any

import jsonschema
import pytest

from infra.deployment import (
    CHART,
    SERVICES,
    actions,
    at,
    compose,
    defined,
    documents,
    image_environment,
    load_yaml,
    read_by,
    templates,
    values,
    values_schema,
    variables_of_template,
    without_template,
)
from parley_common.contracts.topics import TOOL_RESULTS, tool_calls_topic
from parley_common.service import Readiness, http_app

MANIFESTS = sorted(name for name in templates() if name.endswith(".yaml"))
NEEDS = {
    "gateway": {"GATEWAY_SESSION_SERVICES", "GATEWAY_TOKEN_KEYS", "PARLEY_INTERNAL_TOKEN", "PARLEY_ENVIRONMENT"},
    "session": {"SESSION_ORDINAL", "SESSION_UPSTREAM_URL", "SESSION_UPSTREAM_API_KEY", "KAFKA_BOOTSTRAP_SERVERS",
                "PARLEY_INTERNAL_TOKEN", "PARLEY_ENVIRONMENT"},
    "tools": {"TOOLS_DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS", "PARLEY_INTERNAL_TOKEN", "PARLEY_ENVIRONMENT"},
    "notify": {"NOTIFY_DATABASE_URL", "NOTIFY_WEBHOOK_KEYS", "NOTIFY_SMTP_HOST", "KAFKA_BOOTSTRAP_SERVERS",
               "PARLEY_INTERNAL_TOKEN", "PARLEY_ENVIRONMENT"},
}  # fmt: skip
SECRET_KEYS = {
    "internal-token", "gateway-token-keys", "upstream-api-key", "tools-database-url", "notify-database-url",
    "notify-webhook-keys",
}  # fmt: skip
ENOUGH = {
    "kafka": {"saslUsername": "parley"},
    "notify": {"smtp": {"host": "smtp.example.com"}},
}
"""What an operator must at least say beside the Secret."""


def with_defaults(said: dict[str, Any], defaults: dict[str, Any] | None = None) -> dict[str, Any]:
    base = values() if defaults is None else defaults
    return {
        key: with_defaults(said[key], base[key])
        if isinstance(said.get(key), dict) and isinstance(base.get(key), dict)
        else said.get(key, base.get(key))
        for key in {**base, **said}
    }


def refused(said: dict[str, Any]) -> list[str]:
    """Return where the schema refuses ``said`` laid over the defaults."""
    found = jsonschema.Draft7Validator(values_schema()).iter_errors(with_defaults(said))
    return [".".join(str(part) for part in fault.absolute_path) + ": " + fault.message for fault in found]


@pytest.mark.parametrize("take_else", [False, True], ids=["if", "else"])
@pytest.mark.parametrize("name", MANIFESTS)
def test_a_template_is_yaml_once_its_actions_are_taken_out(name: str, take_else: bool) -> None:
    found = documents(without_template(templates()[name], take_else=take_else))
    assert found
    for manifest in found:
        assert {"apiVersion", "kind", "metadata"} <= set(manifest)


@pytest.mark.parametrize("name", sorted(templates()))
def test_actions_are_balanced_and_every_piece_that_is_included_is_defined(name: str) -> None:
    text = templates()[name]
    assert text.count("{{") == text.count("}}")
    opened = [action for action in actions(text) if re.match(r"(if|with|range|define)\b", action)]
    ended = [action for action in actions(text) if action == "end"]
    assert len(opened) == len(ended)
    for piece in re.findall(r'include "([^"]+)"', text):
        defined(piece)


@pytest.mark.parametrize("name", sorted(templates()))
def test_every_value_that_a_template_reads_has_a_default_and_a_schema(name: str) -> None:
    text = templates()[name]
    read = [path.split(".") for path in re.findall(r"\.Values\.([A-Za-z.]+)", text)]
    own = re.search(r"\$own := \.Values\.(\w+)", text)
    if own:
        read += [[own[1], *path.split(".")] for path in re.findall(r"\$own\.([A-Za-z.]+)", text)]
    for path in read:
        at(values(), path)
        schema: Any = values_schema()
        for part in path:
            schema = schema["properties"][part]


def test_the_schema_refuses_names_that_no_default_has() -> None:
    def named(schema: dict[str, Any], defaults: Any, where: str) -> None:
        if "properties" not in schema or where == "secrets.values":
            return
        assert schema["additionalProperties"] is False, where
        assert set(defaults) <= set(schema["properties"]), where
        for key, part in schema["properties"].items():
            if key in defaults:
                named(part, defaults[key], f"{where}.{key}".lstrip("."))

    named(values_schema(), values(), "")


def test_the_defaults_with_what_an_operator_must_say_are_accepted() -> None:
    assert refused(ENOUGH) == []


@pytest.mark.parametrize(
    ("said", "where"),
    [
        ({}, "kafka.saslUsername"),
        ({**ENOUGH, "secrets": {"existingSecret": ""}}, "secrets.existingSecret"),
        ({**ENOUGH, "secrets": {"create": True}}, "secrets.values"),
        ({**ENOUGH, "gateway": {"replicass": 3}}, "gateway"),
        ({**ENOUGH, "session": {"replicas": 65}}, "session.replicas"),
        ({**ENOUGH, "tools": {"autoscaling": {"maxReplicas": 25}}}, "tools.autoscaling.maxReplicas"),
        ({**ENOUGH, "gateway": {"publicUrl": "https://voice.example.com"}}, "gateway.publicUrl"),
        ({**ENOUGH, "environment": "staging"}, "environment"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_a_value_that_cannot_work_is_refused_before_anything_is_applied(
    said: dict[str, Any], where: str
) -> None:
    assert [fault for fault in refused(said) if fault.startswith(f"{where}: ")]


def test_a_release_has_no_more_replicas_than_partitions_to_give_them() -> None:
    properties = values_schema()["properties"]
    assert properties["session"]["properties"]["replicas"]["maximum"] == TOOL_RESULTS.partitions
    assert properties["tools"]["properties"]["replicas"]["maximum"] == tool_calls_topic("tools").partitions


@pytest.mark.parametrize("service", SERVICES)
def test_a_pod_is_given_every_setting_that_it_needs_and_none_that_it_does_not_know(service: str) -> None:
    given = variables_of_template(templates()[f"{service}.yaml"])
    assert given <= read_by(service), given - read_by(service)
    assert given >= NEEDS[service]


def test_the_jobs_are_given_what_topics_and_migrations_need() -> None:
    given = variables_of_template(templates()["jobs.yaml"])
    assert given <= read_by("jobs")
    assert given >= {
        "KAFKA_BOOTSTRAP_SERVERS",
        "KAFKA_REPLICATION_FACTOR",
        "TOOLS_DATABASE_URL",
        "NOTIFY_DATABASE_URL",
    }
    assert "args: [topics, apply]" in templates()["jobs.yaml"]
    assert "args: [migrate]" in templates()["jobs.yaml"]
    assert compose()["services"]["migrations"]["command"] == ["migrate"]


def test_a_replica_learns_its_ordinal_from_its_pods_index() -> None:
    session = templates()["session.yaml"]
    assert "kind: StatefulSet" in session
    assert re.search(
        r"SESSION_ORDINAL\n\s+valueFrom:\n\s+fieldRef: .*labels\['apps\.kubernetes\.io/pod-index'\]", session
    )
    minor = re.search(r">=1\.(\d+)", (CHART / "Chart.yaml").read_text())
    assert minor
    assert int(minor[1]) >= 28, "the label is set since 1.28"


def test_gateways_know_every_replica_there_may_be_by_its_name_and_port() -> None:
    urls = defined("parley.sessionServices")
    assert f'"ws://%s-%d.%s:{image_environment("session")["SESSION_PORT"]}"' in urls
    assert "autoscaling.maxReplicas" in urls
    assert "clusterIP: None" in templates()["session.yaml"]
    assert "publishNotReadyAddresses: true" in templates()["session.yaml"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_pod_listens_where_its_image_does(service: str) -> None:
    port = image_environment(service)[f"{service.upper()}_PORT"]
    text = templates()[f"{service}.yaml"]
    assert f"containerPort: {port}" in text
    assert f'"port" "{port}"' in text
    assert f'"{service}" {port}' in templates()["networkpolicy.yaml"]


def test_probes_ask_paths_that_every_service_has() -> None:
    asked = set(re.findall(r"path: (/\w+)", defined("parley.probes")))
    assert asked == {"/healthz", "/readyz"}
    assert asked <= {getattr(route, "path", "") for route in http_app("any", Readiness()).routes}
    probes = documents(without_template(defined("parley.probes")))[0]
    assert probes["livenessProbe"]["httpGet"]["path"] == "/healthz", (
        "a dependency that is away must restart nobody"
    )
    for service in SERVICES:
        assert 'include "parley.probes"' in templates()[f"{service}.yaml"]


@pytest.mark.parametrize("name", [*(f"{service}.yaml" for service in SERVICES), "jobs.yaml"])
def test_every_pod_is_confined_and_given_no_variables_by_kubernetes(name: str) -> None:
    assert 'include "parley.pod"' in templates()[name]
    assert 'include "parley.confined"' in templates()[name]
    pod = load_yaml(without_template(defined("parley.pod")).partition("imagePullSecrets")[0])
    assert pod["enableServiceLinks"] is False, (
        "PARLEY_GATEWAY_PORT and the like would be refused as unknown settings"
    )
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    confined = load_yaml(without_template(defined("parley.confined")))["securityContext"]
    assert confined == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_secrets_are_read_by_keys_that_the_values_name() -> None:
    keys = set(re.findall(r"key: ([a-z-]+)", "\n".join(templates().values())))
    schema = values_schema()["properties"]["secrets"]
    assert keys == set(schema["properties"]["values"]["properties"])
    assert set(schema["then"]["properties"]["values"]["required"]) == SECRET_KEYS
    for key in keys:
        assert key in (CHART / "values.yaml").read_text(), key


def test_every_service_has_a_budget_a_scaler_and_a_policy() -> None:
    for name in ("scaling.yaml", "networkpolicy.yaml"):
        assert 'range $service := list "gateway" "session" "tools" "notify"' in templates()[name]
    for service in SERVICES:
        assert values()[service]["autoscaling"]["enabled"] is False
        assert values()[service]["terminationGracePeriodSeconds"] >= 30


def test_a_gateway_is_not_killed_while_it_still_drains() -> None:
    gateway = values()["gateway"]
    http_close_s, pre_stop_s = 10, 5
    assert gateway["terminationGracePeriodSeconds"] > gateway["drainGraceS"] + http_close_s + pre_stop_s
