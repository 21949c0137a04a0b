"""What is scraped, alerted and drawn exists: every metric and label by the name that the code gives it."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from prometheus_client import REGISTRY

import parley_common
import parley_gateway
import parley_notify
import parley_session
import parley_tools
from infra.deployment import INFRA, SERVICES, compose, load_yaml, templates
from parley_common.service import Readiness, http_app
from parley_launcher.settings import ServicePorts

DASHBOARD = INFRA / "grafana" / "dashboards" / "parley.json"
OF_PROMETHEUS = {"up": {"job", "instance"}}
SET_BY_SCRAPING = {"job", "instance", "le"}
_METRIC = re.compile(r"\b(up|parley_\w+)\b(\{[^}]*\})?")
_GROUPING = re.compile(r"\bby \(([^)]*)\)")


@cache
def metrics() -> dict[str, set[str]]:
    """Return every series that the services can show, with its labels, after importing all their modules."""
    for package in (parley_common, parley_gateway, parley_notify, parley_session, parley_tools):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".migrations" not in module.name and not module.name.endswith(("__main__", ".export")):
                importlib.import_module(module.name)
    series: dict[str, set[str]] = dict(OF_PROMETHEUS)
    for collector, names in list(REGISTRY._collector_to_names.items()):
        labels = set(getattr(collector, "_labelnames", ()))
        series |= {name: labels for name in names if name.startswith("parley_")}
    return series


def rules() -> list[dict[str, Any]]:
    groups = load_yaml((INFRA / "prometheus" / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    for rule in rules():
        yield f"alert {rule['alert']}", rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield f"panel {panel['title']}", target["expr"]


def faults_of(expression: str) -> list[str]:
    """Return what an expression names that no service shows."""
    found = []
    grouped = {label.strip() for by in _GROUPING.findall(expression) for label in by.split(",")}
    named = [(name, matchers) for name, matchers in _METRIC.findall(expression)]
    for name, matchers in named:
        if name not in metrics():
            found.append(f"no metric {name}")
            continue
        labels = set(re.findall(r"(\w+)\s*[=!]~?", matchers)) | grouped
        found += [f"{name} has no label {label}" for label in labels - metrics()[name] - SET_BY_SCRAPING]
    return found if named else ["names no metric"]


@pytest.mark.parametrize(("where", "expression"), [*expressions()], ids=lambda part: part[:40])
def test_every_metric_and_label_that_is_asked_for_exists(where: str, expression: str) -> None:
    assert faults_of(expression) == [], where


def test_a_metric_or_label_that_does_not_exist_is_found() -> None:
    assert faults_of("rate(parley_no_such_total[5m])") == ["no metric parley_no_such_total"]
    assert faults_of("sum by (colour) (parley_sessions)") == ["parley_sessions has no label colour"]
    assert faults_of('parley_sessions{colour="red"}') == ["parley_sessions has no label colour"]


def test_legends_and_summaries_name_labels_that_their_expression_keeps() -> None:
    texts = [(rule["expr"], rule["annotations"]["summary"]) for rule in rules()]
    texts += [(t["expr"], t["legendFormat"]) for panel in panels() for t in panel["targets"]]
    for expression, text in texts:
        grouped = {label.strip() for by in _GROUPING.findall(expression) for label in by.split(",")}
        named = set(re.findall(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}", text))
        if re.search(r"\b(sum|max|histogram_quantile)\b", expression):
            assert named <= grouped, text
        else:
            (name, _), *_ = _METRIC.findall(expression)
            assert named <= metrics()[name] | {"job", "instance"}, text


def test_every_service_is_scraped_where_it_listens() -> None:
    scraped = load_yaml((INFRA / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    ports = ServicePorts().model_dump()
    targets = {
        job["job_name"]: [t for config in job["static_configs"] for t in config["targets"]] for job in scraped
    }
    assert targets == {name: [f"{name}:{ports[f'{name}_port']}"] for name in SERVICES}
    assert set(targets) <= set(compose("observability")["services"])
    assert "/metrics" in {getattr(route, "path", "") for route in http_app("any", Readiness()).routes}


def test_the_rules_are_where_prometheus_looks_for_them() -> None:
    (rule_file,) = load_yaml((INFRA / "prometheus" / "prometheus.yml").read_text())["rule_files"]
    mounts = dict(
        volume.split(":")[1::-1] for volume in compose("observability")["services"]["prometheus"]["volumes"]
    )
    folder, _, name = rule_file.rpartition("/")
    assert mounts[folder] == "./infra/prometheus"
    assert (INFRA / "prometheus" / name).is_file()


def test_each_alert_says_how_urgent_it_is_and_what_is_wrong() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))
    for rule in rules():
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]


def test_grafana_finds_its_source_and_its_dashboard() -> None:
    provisioning = INFRA / "grafana" / "provisioning"
    sources = load_yaml((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    uids = {source["uid"] for source in sources}
    used = {target["datasource"]["uid"] for panel in panels() for target in panel["targets"]}
    assert used <= uids
    services = compose("observability")["services"]
    for source in sources:
        host, _, port = source["url"].removeprefix("http://").partition(":")
        assert any(published.endswith(f":{port}") for published in services[host]["ports"])
    (provider,) = load_yaml((provisioning / "dashboards" / "parley.yml").read_text())["providers"]
    mounts = dict(volume.split(":")[1::-1] for volume in services["grafana"]["volumes"])
    assert mounts[provider["options"]["path"]] == "./infra/grafana/dashboards"


def test_traces_go_from_every_service_to_the_collector_and_on_to_jaeger() -> None:
    collector = load_yaml((INFRA / "otel" / "collector.yaml").read_text())
    port = collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"].rpartition(":")[2]
    services = compose("observability")["services"]
    for name in SERVICES:
        assert services[name]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] == f"http://otel-collector:{port}"
    (pipeline,) = collector["service"]["pipelines"].values()
    for kind in ("receivers", "processors", "exporters"):
        assert set(pipeline[kind]) == set(collector[kind]), f"{kind}: declared but not used"
    for exporter in collector["exporters"].values():
        assert exporter["endpoint"].partition(":")[0] in services


def test_services_scale_on_metrics_that_they_show() -> None:
    (line,) = [line for line in templates()["scaling.yaml"].splitlines() if "$metrics := dict" in line]
    signals = dict(re.findall(r'"(gateway|session|tools|notify)" "(parley_\w+)"', line))
    assert set(signals) == set(SERVICES)
    assert set(signals.values()) <= set(metrics())
