"""Identifiers: time-ordered for new things, derived for things that must be the same twice."""

from __future__ import annotations

import uuid

import uuid_utils

_PARLEY_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "parley.example.com")


def new_id() -> str:
    """Return a new UUIDv7: sorts by creation time, unique across replicas. Session ids are these."""
    return str(uuid_utils.uuid7())


def derived_id(owner: str, what: str) -> str:
    """Return the one UUIDv5 of ``what`` happening to ``owner``: the same inputs give the same id, for ever.

    With a UUID as ``owner`` this is UUIDv5(owner, what), as the contract of ``session.ended`` says.
    """
    try:
        namespace = uuid.UUID(owner)
    except ValueError:
        namespace = uuid.uuid5(_PARLEY_NAMESPACE, owner)
    return str(uuid.uuid5(namespace, what))
