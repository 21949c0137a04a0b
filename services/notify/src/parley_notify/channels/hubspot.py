"""HubSpot: the person of a fact becomes a contact, found by e-mail, and the fact a note on it.

What it promises: exactly once in effect. Writing a contact twice leaves one; a note is looked for before it is written
again, by the delivery's id at its end, among the notes of that contact (not by HubSpot's search, which lags behind).

Law: what is wrong with our token or our limits never fails a delivery; only a plain refusal of its data does.

Source: HubSpot developer documentation, CRM objects v3 (contacts, notes, batch read), associations v4, "API usage
guidelines and limits" and "Error handling", read 2026-11-26. It was never run against the live API.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import SecretStr

from parley_common.business import Business
from parley_common.clock import Clock
from parley_notify.channels.crm import Answer, Note, Stopped, call, code_of, note_of
from parley_notify.channels.http_status import retry_after_s
from parley_notify.channels.outcome import Delivered, Outcome, Refused, TryAgain
from parley_notify.delivery import Delivery
from parley_notify.letters import Letters

URL = "https://api.hubapi.com"
CONTACTS = "/crm/v3/objects/contacts"
NOTES = "/crm/v3/objects/notes"
NOTE_TO_CONTACT = 202
"""The association type "note to contact". Source: HubSpot, "Associations v4", default type ids."""
NOTES_LOOKED_AT_MAX = 500
BATCH_MAX = 100
BODY_CHARS_MAX = 65_000
"""HubSpot takes 65,536."""
BURST_WAIT_S = 10.0
DAILY_WAIT_S = 3_600.0
"""The daily limit is lifted at midnight of the account's own zone, which nobody tells us."""
LOCKED_WAIT_S = 2.0
OURS = frozenset({401, 403})


class HubSpotChannel:
    """Writes contacts and notes. One per process; close it at the end."""

    def __init__(
        self,
        letters: Letters,
        businesses: Mapping[str, Business],
        token: SecretStr,
        *,
        clock: Clock,
        deadline_s: float,
        url: str = URL,
    ) -> None:
        self._letters = letters
        self._businesses = businesses
        self._clock = clock
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {token.get_secret_value()}"},
            timeout=deadline_s,
            trust_env=False,
        )

    async def send(self, delivery: Delivery) -> Outcome:
        """Make one attempt."""
        try:
            note = note_of(delivery, self._letters, self._businesses)
            if not note.email:
                return Refused("no_email")
            contact_id = await self._write_contact(note, note.email)
            if delivery.attempts == 1 or not await self._has_note(contact_id, note.marker):
                await self._write_note(delivery, note, contact_id)
        except Stopped as over:
            return over.outcome
        return Delivered()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def _write_contact(self, note: Note, email: str) -> str:
        """Update the contact with this address, or make it."""
        properties = {"properties": contact_properties(note)}
        path = f"{CONTACTS}/{quote(email, safe='@')}"
        answer = await self._call("PATCH", path, properties, params={"idProperty": "email"}, may_miss=True)
        if answer.status == httpx.codes.NOT_FOUND:
            answer = await self._call(
                "POST", CONTACTS, {"properties": {"email": email, **properties["properties"]}}
            )
        return str(answer.body["id"])

    async def _has_note(self, contact_id: str, marker: str) -> bool:
        listed = await self._call(
            "GET",
            f"/crm/v4/objects/contacts/{contact_id}/associations/notes",
            params={"limit": NOTES_LOOKED_AT_MAX},
        )
        ids = [str(each["toObjectId"]) for each in listed.body["results"]]
        for first in range(0, len(ids), BATCH_MAX):
            inputs = [{"id": each} for each in ids[first : first + BATCH_MAX]]
            read = await self._call(
                "POST", f"{NOTES}/batch/read", {"properties": ["hs_note_body"], "inputs": inputs}
            )
            if any(marker in (each["properties"].get("hs_note_body") or "") for each in read.body["results"]):
                return True
        return False

    async def _write_note(self, delivery: Delivery, note: Note, contact_id: str) -> None:
        kind = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": NOTE_TO_CONTACT}
        await self._call(
            "POST",
            NOTES,
            {
                "properties": {
                    "hs_timestamp": delivery.fact_time.isoformat(timespec="milliseconds").replace(
                        "+00:00", "Z"
                    ),
                    "hs_note_body": note_body(note),
                },
                "associations": [{"to": {"id": contact_id}, "types": [kind]}],
            },
        )

    async def _call(
        self, method: str, path: str, body: Any = None, *, params: Any = None, may_miss: bool = False
    ) -> Answer:
        answer = await call(self._http, method, path, json=body, params=params)
        if may_miss and answer.status == httpx.codes.NOT_FOUND:
            return answer
        if not answer.is_success:
            raise Stopped(self._failure(answer))
        if not isinstance(answer.body, dict):
            raise Stopped(TryAgain("hubspot:no_json"))
        return answer

    def _failure(self, answer: Answer) -> Outcome:
        body = answer.body if isinstance(answer.body, dict) else {}
        asked_s = retry_after_s(answer.headers.get("retry-after"), self._clock.now())
        match answer.status:
            case 429:
                daily = body.get("policyName") == "DAILY"
                wait_s = DAILY_WAIT_S if daily else BURST_WAIT_S
                return TryAgain("hubspot:daily_limit" if daily else "hubspot:rate_limit", asked_s or wait_s)
            case 409:  # somebody made the contact between our two calls: the next attempt finds it
                return TryAgain("hubspot:CONFLICT", asked_s)
            case 423:
                return TryAgain("hubspot:locked", asked_s or LOCKED_WAIT_S)
            case status if status in OURS or status in {408, 477} or status >= 500:
                return TryAgain(f"http_{status}", asked_s)
            case status:
                return Refused(f"hubspot:{code_of(body.get('category'))}_{status}")


def contact_properties(note: Note) -> dict[str, Any]:
    """Return what is written into a contact: what is known of the person, then what the route maps."""
    first, last = note.first_and_last
    known = {"firstname": first, "lastname": last, "phone": note.person.get("phone")}
    return {name: value for name, value in known.items() if value} | dict(note.values)


def note_body(note: Note) -> str:
    """Return a note as HubSpot shows it: HTML, in which what the caller said is text; the marker is never cut off."""
    subject = f"<strong>{html.escape(note.letter.subject)}</strong><br><br>"
    text = html.escape(note.words.removesuffix(note.marker).strip()).replace("\n", "<br>")
    room = BODY_CHARS_MAX - len(subject) - len(note.marker)
    return f"{subject}{text if len(text) <= room else text[:room].rpartition('<br>')[0]}<br><br>{note.marker}"
