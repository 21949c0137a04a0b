"""Ids: new ones sort by time, derived ones are the same for ever."""

from __future__ import annotations

import uuid

from parley_common.ids import derived_id, new_id


def test_new_ids_are_different_uuids_of_version_7_in_the_order_of_their_making() -> None:
    ids = [new_id() for _ in range(500)]
    assert len(set(ids)) == 500
    assert ids == sorted(ids)
    assert {uuid.UUID(one).version for one in ids} == {7}


def test_a_derived_id_of_a_uuid_is_the_uuid_5_that_the_contract_of_session_ended_promises() -> None:
    session_id = "0198c0de-5a10-7b3e-9c41-2f6d8e0a1b01"
    assert derived_id(session_id, "ended") == str(uuid.uuid5(uuid.UUID(session_id), "ended"))
    assert derived_id(session_id.upper(), "ended") == derived_id(session_id, "ended")


def test_a_derived_id_is_pinned_for_ever_and_differs_by_owner_and_by_what_happened() -> None:
    assert derived_id("lead-1", "captured") == "eb583921-fd9d-5677-a91e-cb976ed12c18"
    assert len({derived_id(owner, what) for owner in ("a", "b") for what in ("x", "y")}) == 4
