"""The gateway's HTTP API against its own OpenAPI: generated requests, good and bad, get documented answers, no crash."""

from __future__ import annotations

import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, settings

from parley_common.service import Readiness
from parley_gateway.admission import Admission, AdmissionLimits
from parley_gateway.gateway import Gateway
from parley_gateway.http_api import build_app
from parley_gateway.replicas import Replicas
from parley_gateway.token_access import TokenAccess
from parley_gateway.tokens import Tokens
from unit.gateway.world import KEY

REPLICA = "ws://127.0.0.1:9"


def gateway_app() -> FastAPI:
    replicas = Replicas((REPLICA,), lambda ready, why: None)
    replicas._known[REPLICA].is_ready = True
    gateway = Gateway(
        tokens=Tokens((KEY,), ttl_s=60),
        businesses={"cap": "Cap Lending", "oak": "Oak Dental"},
        admission=Admission(AdmissionLimits(sessions_max=50, address_opens_per_minute=0)),
        replicas=replicas,
        internal_token="development-only",
    )
    return build_app(gateway, Readiness(), access=TokenAccess())


schema = schemathesis.openapi.from_asgi("/openapi.json", gateway_app())


@schema.parametrize()
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_is_asked_the_answer_is_the_documented_one(case: schemathesis.Case) -> None:
    case.call_and_validate()


def test_the_paths_that_are_tried_are_those_that_sites_use() -> None:
    paths = {operation.ok().path for operation in schema.get_all_operations()}
    assert {"/v1/tokens", "/v1/businesses", "/healthz", "/readyz"} <= paths
