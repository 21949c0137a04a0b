"""Salesforce's REST API as far as notify uses it: client-credentials login, Leads, Tasks, upsert, query; its errors.

It reads only the shape of SOQL that notify writes, strictly: an unescaped quote is a MALFORMED_QUERY here as there. It
cannot imitate triggers, validation and duplicate rules of a real org, nor its field permissions.

Source: Salesforce, REST API Developer Guide; "OAuth 2.0 Client Credentials Flow for Server-to-Server Integration".
"""

from __future__ import annotations

import itertools
import json
import re
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from fakes.crm import FakeCrm, json_reply
from harness.http_server import Reply, Request

LOGIN = ("client-of-tests", "secret-of-tests")
FIELDS = {
    "Lead": {
        "FirstName",
        "LastName",
        "Company",
        "Email",
        "Phone",
        "LeadSource",
        "Rating",
        "Loan_Product__c",
        "Parley_Lead__c",
    },
    "Task": {"WhoId", "Subject", "Description", "Status", "ActivityDate"},
}
REQUIRED = {"Lead": ("LastName", "Company"), "Task": ()}
EXTERNAL_ID = "Parley_Lead__c"
_QUERY = re.compile(
    r"SELECT ([\w, ]+) FROM (\w+) WHERE (\w+) = '((?:[^'\\]|\\.)*)'( AND IsConverted = false)? "
    r"ORDER BY CreatedDate( DESC)? LIMIT (\d+)"
)
_PATH = re.compile(r"/services/data/v\d+\.0(/.*)")


class FakeSalesforce(FakeCrm):
    """``with FakeSalesforce() as org: org.url``; what it holds is in ``leads`` and ``tasks``."""

    def __init__(self) -> None:
        super().__init__()
        self.leads: dict[str, dict[str, Any]] = {}
        self.tasks: dict[str, dict[str, Any]] = {}
        self.login_count = 0
        self._tokens: set[str] = set()
        self._ids = itertools.count(1)

    def fail_next(self, status: int, code: str) -> None:
        """Refuse the next request with an error of the documented shape."""
        self.then(_error(status, code))

    def expire_tokens(self) -> None:
        """End every session, as an org does after its time-out."""
        self._tokens.clear()

    def _refused(self, request: Request) -> Reply | None:
        if request.path == "/services/oauth2/token":
            return self._log_in(request)
        is_known = request.headers.get("authorization", "").removeprefix("Bearer ") in self._tokens
        return None if is_known else _error(401, "INVALID_SESSION_ID")

    def _path(self, request: Request) -> str:
        found = _PATH.fullmatch(urlsplit(request.path).path)
        return unquote(found[1]) if found else ""

    def _log_in(self, request: Request) -> Reply:
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        if form.get("grant_type") != "client_credentials":
            return json_reply(
                400, {"error": "unsupported_grant_type", "error_description": "grant type not supported"}
            )
        if (form.get("client_id"), form.get("client_secret")) != LOGIN:
            return json_reply(
                400, {"error": "invalid_client", "error_description": "invalid client credentials"}
            )
        self.login_count += 1
        token = f"00D-token-{self.login_count}"
        self._tokens.add(token)
        return json_reply(200, {"access_token": token, "instance_url": self.url, "token_type": "Bearer"})

    def _serve(self, request: Request) -> Reply:
        body = json.loads(request.body) if request.body else {}
        match request.method, self._path(request).split("/")[1:]:
            case "GET", ["query"]:
                return self._query(parse_qs(urlsplit(request.path).query)["q"][0])
            case "POST", ["sobjects", ("Lead" | "Task") as kind]:
                return self._create(kind, body)
            case "PATCH", ["sobjects", "Lead", lead_id]:
                return self._update(lead_id, body)
            case "PATCH", ["sobjects", "Lead", field, value] if field == EXTERNAL_ID and field not in body:
                return self._upsert(value, body)
        return _error(404, "NOT_FOUND")

    def _create(self, kind: str, values: dict[str, Any]) -> Reply:
        if unknown := sorted(set(values) - FIELDS[kind]):
            return _error(400, "INVALID_FIELD", f"No such column '{unknown[0]}'")
        if missing := [name for name in REQUIRED[kind] if not values.get(name)]:
            return _error(400, "REQUIRED_FIELD_MISSING", f"Required fields are missing: {missing}")
        if "." not in str(values.get("Email", "a@b.c")).rpartition("@")[2]:
            return _error(400, "INVALID_EMAIL_ADDRESS")
        new_id = f"{'00Q' if kind == 'Lead' else '00T'}{next(self._ids):012d}AAA"
        (self.leads if kind == "Lead" else self.tasks)[new_id] = dict(values)
        return json_reply(201, {"id": new_id, "success": True, "errors": []})

    def _update(self, lead_id: str, values: dict[str, Any]) -> Reply:
        if lead_id not in self.leads:
            return _error(404, "NOT_FOUND")
        if unknown := sorted(set(values) - FIELDS["Lead"]):
            return _error(400, "INVALID_FIELD", f"No such column '{unknown[0]}'")
        self.leads[lead_id] |= values
        return Reply(204)

    def _upsert(self, value: str, values: dict[str, Any]) -> Reply:
        held = [each for each, lead in self.leads.items() if lead.get(EXTERNAL_ID) == value]
        if len(held) > 1:
            return json_reply(300, [f"/services/data/v62.0/sobjects/Lead/{each}" for each in held])
        if not held:
            made = self._create("Lead", values | {EXTERNAL_ID: value})
            return made if made.status != 201 else json_reply(201, json.loads(made.body) | {"created": True})
        self._update(held[0], values)
        return json_reply(200, {"id": held[0], "success": True, "errors": [], "created": False})

    def _query(self, text: str) -> Reply:
        read = _QUERY.fullmatch(text)
        if read is None:
            return _error(400, "MALFORMED_QUERY", "unexpected token")
        names, kind, field, literal, _, newest_first, limit = read.groups()
        value = re.sub(r"\\(.)", r"\1", literal)
        rows = list((self.leads if kind == "Lead" else self.tasks).items())
        found = [(each, row) for each, row in rows if str(row.get(field, "")).lower() == value.lower()]
        found = found[::-1] if newest_first else found
        wanted = [name.strip() for name in names.split(",")]
        records = [
            {"attributes": {"type": kind}} | {n: ({"Id": each} | row).get(n) for n in wanted}
            for each, row in found
        ]
        return json_reply(200, {"totalSize": len(found), "done": True, "records": records[: int(limit)]})


def _error(status: int, code: str, message: str = "") -> Reply:
    return json_reply(status, [{"message": message or code, "errorCode": code}])
