"""The error tree: every error says whose fault it is, whether trying again helps, and a code that stays."""

from __future__ import annotations

import pytest

from parley_common import errors
from parley_common.errors import (
    ConfigInvalid,
    InvalidRecord,
    Overloaded,
    ParleyError,
    PeerViolation,
    Permanent,
    ToolRefused,
    Transient,
)

# What clients, operators and dashboards rely on: a code here may be added, never changed.
CODES = {
    "ParleyError": "parley_error",
    "Transient": "transient",
    "LinkClosed": "link_closed",
    "LinkTimedOut": "link_timed_out",
    "DependencyUnavailable": "dependency_unavailable",
    "Overloaded": "overloaded",
    "Permanent": "permanent",
    "InvalidRecord": "invalid_record",
    "PeerViolation": "peer_violation",
    "ToolRefused": "tool_refused",
    "LocalViolation": "local_violation",
    "ConfigInvalid": "config_invalid",
}


def kinds() -> dict[str, type[ParleyError]]:
    return {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, ParleyError)
    }


def test_every_error_has_its_own_code_and_none_has_changed() -> None:
    assert {name: kind.code for name, kind in kinds().items()} == CODES


def test_trying_again_helps_for_transient_errors_only() -> None:
    assert {name for name, kind in kinds().items() if issubclass(kind, Transient)} == {
        "Transient", "LinkClosed", "LinkTimedOut", "DependencyUnavailable", "Overloaded",
    }  # fmt: skip
    assert not any(issubclass(kind, Transient) and issubclass(kind, Permanent) for kind in kinds().values())


def test_an_error_prints_its_message_and_what_to_do_about_it() -> None:
    assert str(ConfigInvalid("PORT is taken", remedy="set another")) == "PORT is taken (set another)"
    assert str(ConfigInvalid("PORT is taken")) == "PORT is taken"
    assert ConfigInvalid.exit_code == 78


def test_a_closer_code_replaces_that_of_the_kind_for_one_error_only() -> None:
    assert InvalidRecord("x", code="record_too_large").stable_code == "record_too_large"
    assert InvalidRecord("x").stable_code == "invalid_record"


def test_errors_carry_what_their_catchers_need() -> None:
    assert Overloaded("full", retry_after_s=2.5).retry_after_s == 2.5
    assert (PeerViolation("x").close_code, PeerViolation("x", close_code=1009).close_code) == (1008, 1009)
    refused = ToolRefused("I need your consent first.", code="consent_missing")
    assert (refused.say, refused.stable_code) == ("I need your consent first.", "consent_missing")


@pytest.mark.parametrize("kind", [Transient, Permanent, InvalidRecord])
def test_any_of_them_is_caught_as_a_parley_error(kind: type[ParleyError]) -> None:
    with pytest.raises(ParleyError) as caught:
        raise kind("what happened")
    assert caught.value.message == "what happened"
