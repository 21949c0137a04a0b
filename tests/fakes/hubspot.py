"""HubSpot's CRM as far as notify uses it: contacts by e-mail, notes, associations; its errors and its limits.

It keeps what it is given, so that a test sees how many contacts and notes there are in the end. It cannot imitate
search that lags behind, merging of contacts, or what a real account's own rules refuse.

Source: HubSpot developer documentation, CRM objects v3 (contacts, notes, batch read), associations v4, error handling,
usage guidelines.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from fakes.crm import FakeCrm, json_reply
from harness.http_server import Reply, Request

KNOWN = {"email", "firstname", "lastname", "phone", "lead_score", "loan_product", "goals"}
CONTACTS, NOTES = "/crm/v3/objects/contacts", "/crm/v3/objects/notes"


@dataclass
class Contact:
    """A contact as it is now."""

    id: str
    properties: dict[str, Any]
    notes: list[str] = field(default_factory=list)


class FakeHubSpot(FakeCrm):
    """``with FakeHubSpot() as hubspot: hubspot.url``; takes the token in ``token`` only."""

    def __init__(self, token: str = "pat-na1-for-tests") -> None:
        super().__init__()
        self.token = token
        self.contacts: dict[str, Contact] = {}
        """By e-mail, in small letters."""
        self.notes: dict[str, str] = {}
        """Bodies by id."""
        self._ids = map(str, itertools.count(101))

    def limit_next(self, policy: str, **headers: str) -> None:
        """Refuse the next request as one too many of ``policy``: DAILY, SECONDLY, TEN_SECONDLY_ROLLING."""
        body = {"status": "error", "errorType": "RATE_LIMIT", "policyName": policy, "message": "too many"}
        self.then(Reply(429, json.dumps(body).encode(), headers))

    def _refused(self, request: Request) -> Reply | None:
        is_known = request.headers.get("authorization") == f"Bearer {self.token}"
        return None if is_known else _error(401, "INVALID_AUTHENTICATION")

    def _path(self, request: Request) -> str:
        return request.path

    def _serve(self, request: Request) -> Reply:
        path, query = urlsplit(request.path).path, parse_qs(urlsplit(request.path).query)
        body = json.loads(request.body) if request.body else {}
        match request.method, path.split("/")[1:]:
            case "PATCH", ["crm", "v3", "objects", "contacts", key] if query.get("idProperty") == ["email"]:
                return self._update(unquote(key).lower(), body["properties"])
            case "POST", ["crm", "v3", "objects", "contacts"]:
                return self._create(body["properties"])
            case "GET", ["crm", "v4", "objects", "contacts", contact_id, "associations", "notes"]:
                return self._associated(contact_id)
            case "POST", ["crm", "v3", "objects", "notes"]:
                return self._write_note(body)
            case "POST", ["crm", "v3", "objects", "notes", "batch", "read"]:
                return self._read_notes(body)
        return _error(404, "OBJECT_NOT_FOUND")

    def _update(self, email: str, properties: dict[str, Any]) -> Reply:
        contact = self.contacts.get(email)
        if contact is None:
            return _error(404, "OBJECT_NOT_FOUND")
        if refusal := _invalid(properties):
            return refusal
        contact.properties |= properties
        return json_reply(200, {"id": contact.id, "properties": contact.properties, "archived": False})

    def _create(self, properties: dict[str, Any]) -> Reply:
        if refusal := _invalid(properties):
            return refusal
        email = str(properties["email"]).lower()
        if email in self.contacts:
            message = f"Contact already exists. Existing ID: {self.contacts[email].id}"
            return _error(409, "CONFLICT", message)
        contact = self.contacts[email] = Contact(next(self._ids), dict(properties))
        return json_reply(201, {"id": contact.id, "properties": contact.properties, "archived": False})

    def _associated(self, contact_id: str) -> Reply:
        kinds = [{"category": "HUBSPOT_DEFINED", "typeId": 201, "label": None}]
        for contact in self.contacts.values():
            if contact.id == contact_id:
                results = [{"toObjectId": int(note), "associationTypes": kinds} for note in contact.notes]
                return json_reply(200, {"results": results})
        return _error(404, "OBJECT_NOT_FOUND")

    def _write_note(self, body: dict[str, Any]) -> Reply:
        if "hs_timestamp" not in body["properties"]:
            return _error(400, "VALIDATION_ERROR")
        (association,) = body["associations"]
        (kind,) = association["types"]
        if kind != {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 202}:
            return _error(400, "VALIDATION_ERROR")
        contact = next(c for c in self.contacts.values() if c.id == association["to"]["id"])
        note_id = next(self._ids)
        self.notes[note_id] = body["properties"]["hs_note_body"]
        contact.notes.append(note_id)
        return json_reply(201, {"id": note_id, "properties": body["properties"], "archived": False})

    def _read_notes(self, body: dict[str, Any]) -> Reply:
        if len(body["inputs"]) > 100:
            return _error(400, "VALIDATION_ERROR")
        wanted = [each["id"] for each in body["inputs"]]
        results = [
            {"id": each, "properties": dict.fromkeys(body["properties"], self.notes[each])} for each in wanted
        ]
        return json_reply(200, {"status": "COMPLETE", "results": results})


def _invalid(properties: dict[str, Any]) -> Reply | None:
    unknown = sorted(set(properties) - KNOWN)
    if unknown:
        return _error(400, "VALIDATION_ERROR", f"Property values were not valid: {unknown[0]}")
    email = properties.get("email", "a@example.com")
    return None if "." in str(email).rpartition("@")[2] else _error(400, "VALIDATION_ERROR", "INVALID_EMAIL")


def _error(status: int, category: str, message: str = "") -> Reply:
    return json_reply(
        status, {"status": "error", "message": message, "correlationId": "c-1", "category": category}
    )
