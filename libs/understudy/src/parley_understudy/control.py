"""What the understudy answers over plain HTTP: health, readiness, metrics, the caller's script, and fault scripts.

``POST /control/script`` takes ``{"lines": ["...", ...]}``, or ``?line=...&line=...``; each line is what the next
committed caller turn is taken to have said. ``DELETE`` clears what is left, ``GET`` counts it.

``POST /control/faults`` takes a fault script (fault_plan.py) for the next connection, for the next few
(``?connections=5`` or ``all``), or for a session that runs (``?session=sess_...``). ``DELETE`` forgets those that
wait, ``GET`` counts them and lists the sessions that run.

Law: pure apart from the scripts; a wrong request gets a JSON error with a stable code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import msgspec

from parley_common.errors import Overloaded
from parley_understudy.disturbances import Disturbances
from parley_understudy.door import HttpAnswer, HttpRequest
from parley_understudy.faculties import CallerScript
from parley_understudy.fault_plan import FaultsInvalid, read_plan


@dataclass(frozen=True)
class Condition:
    """How the understudy is. ``light_because`` is null in full mode."""

    mode: str
    light_because: str | None
    sessions_count: int
    jobs_waiting_count: int
    worker_restarts_count: int
    ready: bool


class _Lines(msgspec.Struct, forbid_unknown_fields=True):
    lines: list[str]


class Control:
    """Answers plain requests."""

    def __init__(
        self, script: CallerScript, disturbances: Disturbances, condition: Callable[[], Condition]
    ) -> None:
        self._script = script
        self._disturbances = disturbances
        self._condition = condition

    def answer(self, request: HttpRequest) -> HttpAnswer:
        """Return the answer to a request."""
        path = urlsplit(request.target).path
        if path == "/control/script":
            return self._on_script(request)
        if path == "/control/faults":
            return self._on_faults(request)
        if request.method not in ("GET", "HEAD"):
            return _error(405, "method_not_allowed", "only GET is answered here")
        if path == "/healthz":
            return _json(200, {"status": "ok"})
        if path == "/readyz":
            return self._readiness()
        if path == "/metrics":
            return HttpAnswer(200, _metrics(self._condition()), "text/plain; version=0.0.4")
        return _error(404, "not_found", "sessions open at /v1/realtime?model=..., by WebSocket")

    def _readiness(self) -> HttpAnswer:
        now = self._condition()
        answer = {
            "status": "ready" if now.ready else "starting",
            "mode": now.mode,
            "light_because": now.light_because,
        }
        return _json(200 if now.ready else 503, answer)

    def _on_script(self, request: HttpRequest) -> HttpAnswer:
        if request.method == "DELETE":
            self._script.clear()
        elif request.method == "POST":
            try:
                self._script.add(_lines(request))
            except (msgspec.DecodeError, RecursionError) as wrong:
                return _error(400, "invalid_script", f'send {{"lines": ["...", ...]}}: {wrong}')
            except Overloaded as full:
                return _error(429, full.stable_code, full.message)
        elif request.method != "GET":
            return _error(405, "method_not_allowed", "use POST, GET or DELETE")
        return _json(200, {"lines_left": len(self._script)})

    def _on_faults(self, request: HttpRequest) -> HttpAnswer:
        if request.method == "DELETE":
            self._disturbances.clear()
        elif request.method == "POST":
            return self._add_faults(request)
        elif request.method != "GET":
            return _error(405, "method_not_allowed", "use POST, GET or DELETE")
        return self._faults_left()

    def _add_faults(self, request: HttpRequest) -> HttpAnswer:
        query = {name: values[0] for name, values in parse_qs(urlsplit(request.target).query).items()}
        wanted = query.get("connections", "1")
        if wanted != "all" and not (wanted.isdigit() and 0 < int(wanted) <= 100_000):
            return _error(400, "invalid_query", "connections: expected a number from 1, or all")
        try:
            plan = read_plan(request.body)
            if "session" not in query:
                self._disturbances.add(plan, None if wanted == "all" else int(wanted))
            elif not self._disturbances.disturb(query["session"], plan):
                return _error(404, "no_such_session", "no session of this id is open")
        except FaultsInvalid as wrong:
            return _error(400, wrong.stable_code, wrong.message)
        except Overloaded as full:
            return _error(429, full.stable_code, full.message)
        return self._faults_left()

    def _faults_left(self) -> HttpAnswer:
        waiting = len(self._disturbances)
        return _json(200, {"scripts_waiting": waiting, "sessions": self._disturbances.sessions()[:1000]})


def _lines(request: HttpRequest) -> list[str]:
    in_query = parse_qs(urlsplit(request.target).query).get("line", [])
    return in_query + (msgspec.json.decode(request.body, type=_Lines).lines if request.body else [])


def _metrics(now: Condition) -> bytes:
    rows = {
        "understudy_sessions": now.sessions_count,
        "understudy_jobs_waiting": now.jobs_waiting_count,
        "understudy_worker_restarts_total": now.worker_restarts_count,
        f'understudy_mode{{mode="{now.mode}"}}': 1,
    }
    return "".join(f"{name} {value}\n" for name, value in rows.items()).encode()


def _json(status: int, value: object) -> HttpAnswer:
    return HttpAnswer(status, msgspec.json.encode(value))


def _error(status: int, code: str, message: str) -> HttpAnswer:
    return _json(status, {"error": {"code": code, "message": message}})
