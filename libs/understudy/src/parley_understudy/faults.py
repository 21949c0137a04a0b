"""When a fault fires: a fault script, counted along the events, responses and time of one session.

It does nothing itself; line.py applies what it returns. Chance comes from the script's seed, one source per rule, so
that adding a rule does not change the others.

Law: the same script over the same events fires the same; a rule counts every match, whether it fires or not.
"""

from __future__ import annotations

from random import Random

from parley_understudy.fault_plan import Act, Plan, Rule
from parley_understudy.wire import Event


class _Armed:
    """A rule and how far it is."""

    def __init__(self, rule: Rule, seed: str) -> None:
        self.rule = rule
        self._random = Random(seed)  # noqa: S311 - faults, not secrets
        self._matches = self._fired = 0

    @property
    def spent(self) -> bool:
        """Return whether it cannot fire any more."""
        return self.rule.times is not None and self._fired >= self.rule.times

    def match(self) -> bool:
        """Count a match and return whether it fires."""
        self._matches += 1
        if self.spent or self._matches < self.rule.when.nth:
            return False
        if self.rule.probability < 1 and self._random.random() >= self.rule.probability:
            return False
        self._fired += 1
        return True

    def acts(self) -> list[Act]:
        """Return what is to be done this time: a delay within a range is drawn anew each time."""
        return [self._drawn(act) if act.name == "delay_ms" else act for act in self.rule.acts]

    def _drawn(self, act: Act) -> Act:
        low, high = act.value
        return Act(act.name, low if low == high else self._random.randint(low, high))


class Faults:
    """One fault script in one session; it counts from when it came."""

    def __init__(self, plan: Plan) -> None:
        self._rules = [_Armed(rule, f"{plan.seed}:{at}") for at, rule in enumerate(plan.rules)]
        self._responses: dict[str, int] = {}

    def opening(self) -> list[Act]:
        """Return what is to be done as the session opens."""
        return self._acts([each for each in self._rules if each.rule.when.opening and each.match()])

    def client_sent(self, kind: str) -> list[Act]:
        """Return what is to be done about an event of the client's."""
        return self._acts(
            [each for each in self._rules if _names(each.rule.when.client, kind) and each.match()]
        )

    def server_sends(self, event: Event) -> list[Act]:
        """Return what is to be done about an event of the server's."""
        kind = event["type"]
        if kind == "response.created":
            self._responses[event["response"]["id"]] = len(self._responses) + 1
        number = self._responses.get(response_of(event) or "", 0)
        return self._acts([each for each in self._rules if _fires(each, kind, number)])

    def time_came(self, elapsed_ms: float) -> list[Act]:
        """Return what is to be done by this time since the session opened."""
        due = [each for each in self._rules if each.rule.when.at_ms is not None and not each.spent]
        ripe = [each for each in due if (each.rule.when.at_ms or 0) <= elapsed_ms]
        self._rules = [each for each in self._rules if each not in ripe]
        return self._acts([each for each in ripe if each.match()])

    def due_ms(self) -> float | None:
        """Return when, since the session opened, time alone fires a rule next."""
        times = [each.rule.when.at_ms for each in self._rules if each.rule.when.at_ms is not None]
        return min(times, default=None)

    @staticmethod
    def _acts(fired: list[_Armed]) -> list[Act]:
        return [act for each in fired for act in each.acts()]


def response_of(event: Event) -> str | None:
    """Return the id of the response that an event belongs to, if it belongs to one."""
    response = event.get("response")
    found = response["id"] if isinstance(response, dict) else event.get("response_id")
    return found if isinstance(found, str) else None


def _fires(armed: _Armed, kind: str, number: int) -> bool:
    """Return whether a server event fires a rule: by its type, by its response, or by both."""
    when = armed.rule.when
    if when.response is None:
        return _names(when.server, kind) and armed.match()
    if when.server is None:  # from the nth response on, as its first event goes out
        return kind == "response.created" and number >= when.response and armed.match()
    return number == when.response and _names(when.server, kind) and armed.match()


def _names(wanted: str | None, kind: str) -> bool:
    """Return whether an event type is the wanted one; a ``*`` at its end stands for any rest."""
    if wanted is None:
        return False
    return kind.startswith(wanted[:-1]) if wanted.endswith("*") else kind == wanted
