"""Salesforce: the person of a fact becomes a Lead, found by e-mail or by our lead's id, and the fact a Task on it.

With an external id field set, a new Lead is upserted by our lead_id, so that two attempts make one; without, it is
found by its e-mail before another is made. A Task is looked for before it is written again, by the delivery's id at
the end of its description.

What it promises: exactly once in effect for one delivery at a time.

Law: what is wrong with our login or our limits never fails a delivery; only a plain refusal of its data does.

Source: Salesforce, REST API Developer Guide (SObject Rows, SObject Rows by External ID, Query, Status Codes and Error
Responses) and "OAuth 2.0 Client Credentials Flow for Server-to-Server Integration", read 2026-11-26. It was never run
against the live API.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
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

LIMIT_WAIT_S = 900.0
"""The limit is over 24 rolling hours: some of it comes back within a quarter of one."""
TASKS_LOOKED_AT_MAX = 200
SUBJECT_CHARS_MAX = 255
DESCRIPTION_CHARS_MAX = 30_000
"""Salesforce takes 32,000."""
UNKNOWN = "Not given"
"""For fields that a Lead must have: LastName, Company. Written only when a Lead is made."""
LATER = frozenset(
    {
        "UNABLE_TO_LOCK_ROW",
        "SERVER_UNAVAILABLE",
        "INVALID_SESSION_ID",
        "API_DISABLED_FOR_ORG",
        "UNKNOWN_EXCEPTION",
    }
)
"""Codes of 4xx answers that are not about this record's data."""


@dataclass(frozen=True, slots=True)
class SalesforceLogin:
    """Which org, as whom, and where our lead's id goes. ``lead_key`` null: Leads are found by e-mail alone."""

    url: str
    client_id: str
    client_secret: SecretStr
    api_version: str = "v62.0"
    lead_key: str | None = None


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    instance_url: str


class SalesforceChannel:
    """Writes Leads and Tasks. One per process; close it at the end."""

    def __init__(
        self,
        letters: Letters,
        businesses: Mapping[str, Business],
        login: SalesforceLogin,
        *,
        clock: Clock,
        deadline_s: float,
    ) -> None:
        self._letters = letters
        self._businesses = businesses
        self._login = login
        self._clock = clock
        self._token: _Token | None = None
        self._logging_in = asyncio.Lock()
        self._http = httpx.AsyncClient(timeout=deadline_s, trust_env=False)

    async def send(self, delivery: Delivery) -> Outcome:
        """Make one attempt."""
        try:
            note = note_of(delivery, self._letters, self._businesses)
            lead_id = await self._write_lead(note)
            if delivery.attempts == 1 or not await self._has_task(lead_id, note.marker):
                await self._write_task(delivery, note, lead_id)
        except Stopped as over:
            return over.outcome
        return Delivered()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def _write_lead(self, note: Note) -> str:
        key, our_id = self._login.lead_key, note.told.get("lead_id")
        if not note.email and not (key and our_id):
            raise Stopped(Refused("no_email"))
        found = await self._found(note, key, our_id)
        values = lead_values(note)
        if found is not None:
            await self._call("PATCH", f"/sobjects/Lead/{found}", values)
            return found
        new = {"LastName": UNKNOWN, "Company": UNKNOWN, "LeadSource": "Parley"} | values
        if key and our_id:
            made = await self._call("PATCH", f"/sobjects/Lead/{key}/{quote(str(our_id), safe='')}", new)
        else:
            made = await self._call("POST", "/sobjects/Lead", new)
        return str(made.body["id"])

    async def _found(self, note: Note, key: str | None, our_id: str | None) -> str | None:
        """Return the Lead that is this person's already: by our id first, then by e-mail, the oldest of several."""
        conditions = [f"{key} = {soql(str(our_id))}"] if key and our_id else []
        conditions += [f"Email = {soql(note.email)}"] if note.email else []
        for condition in conditions:
            rows = await self._query(
                f"SELECT Id FROM Lead WHERE {condition} AND IsConverted = false "  # noqa: S608 - literals by soql()
                "ORDER BY CreatedDate LIMIT 1"
            )
            if rows:
                return str(rows[0]["Id"])
        return None

    async def _has_task(self, lead_id: str, marker: str) -> bool:
        rows = await self._query(
            f"SELECT Id, Description FROM Task WHERE WhoId = {soql(lead_id)} "  # noqa: S608 - a literal by soql()
            f"ORDER BY CreatedDate DESC LIMIT {TASKS_LOOKED_AT_MAX}"
        )
        return any(marker in (row.get("Description") or "") for row in rows)

    async def _write_task(self, delivery: Delivery, note: Note, lead_id: str) -> None:
        words = note.words.removesuffix(note.marker)[:DESCRIPTION_CHARS_MAX] + note.marker
        task = {
            "WhoId": lead_id,
            "Subject": note.letter.subject[:SUBJECT_CHARS_MAX],
            "Description": words,
            "Status": "Completed",
            "ActivityDate": delivery.fact_time.date().isoformat(),
        }
        await self._call("POST", "/sobjects/Task", task)

    async def _query(self, text: str) -> list[dict[str, Any]]:
        answer = await self._call("GET", "/query", params={"q": text})
        rows: list[dict[str, Any]] = answer.body["records"]
        return rows

    async def _call(self, method: str, path: str, body: Any = None, *, params: Any = None) -> Answer:
        """Make one call; a session that ran out is begun anew, once. Raises Stopped."""
        token = self._token or await self._log_in(None)
        answer = await self._call_as(token, method, path, body, params)
        if answer.status == httpx.codes.UNAUTHORIZED:
            answer = await self._call_as(await self._log_in(token), method, path, body, params)
        if not answer.is_success:
            raise Stopped(self._failure(answer))
        if answer.status != httpx.codes.NO_CONTENT and not isinstance(answer.body, dict):
            raise Stopped(TryAgain("salesforce:no_json"))
        return answer

    async def _call_as(self, token: _Token, method: str, path: str, body: Any, params: Any) -> Answer:
        url = f"{token.instance_url}/services/data/{self._login.api_version}{path}"
        headers = {"Authorization": f"Bearer {token.value}"}
        return await call(self._http, method, url, json=body, params=params, headers=headers)

    async def _log_in(self, stale: _Token | None) -> _Token:
        """Return a token that is not ``stale``; of many attempts that need one, the first fetches it."""
        async with self._logging_in:
            if self._token is not None and self._token is not stale:
                return self._token
            self._token = None
            form = {
                "grant_type": "client_credentials",
                "client_id": self._login.client_id,
                "client_secret": self._login.client_secret.get_secret_value(),
            }
            url = self._login.url.rstrip("/")
            answer = await call(self._http, "POST", f"{url}/services/oauth2/token", data=form)
            body = answer.body if isinstance(answer.body, dict) else {}
            if not answer.is_success or not isinstance(body.get("access_token"), str):
                raise Stopped(TryAgain(f"salesforce:login_{code_of(body.get('error'))}"))
            self._token = _Token(body["access_token"], str(body.get("instance_url") or url).rstrip("/"))
            return self._token

    def _failure(self, answer: Answer) -> Outcome:
        first = answer.body[0] if isinstance(answer.body, list) and answer.body else {}
        code = code_of(first.get("errorCode")) if isinstance(first, dict) else "unknown"
        asked_s = retry_after_s(answer.headers.get("retry-after"), self._clock.now())
        if code == "REQUEST_LIMIT_EXCEEDED":
            return TryAgain(f"salesforce:{code}", asked_s or LIMIT_WAIT_S)
        if answer.status in {401, 403, 408, 429} or answer.status >= 500 or code in LATER:
            return TryAgain(f"salesforce:{code}_{answer.status}", asked_s)
        return Refused(f"salesforce:{code}_{answer.status}")


def lead_values(note: Note) -> dict[str, Any]:
    """Return what is written into a Lead: what is known of the person, then what the route maps."""
    first, last = note.first_and_last
    known = {"FirstName": first, "LastName": last, "Email": note.email, "Phone": note.person.get("phone")}
    return {name: value for name, value in known.items() if value} | dict(note.values)


def soql(text: str) -> str:
    """Return text as a literal of SOQL. Source: SOQL and SOSL Reference, "Quoted String Escape Sequences"."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r")
    return f"'{escaped}'"
