"""How a session is made from what its client asked for: the same for a socket and for a test without one.

It opens nothing: who is admitted is decided in admission.py, who reads and writes is the caller's affair.

Law: what a client asks for in its query goes before the settings.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from parley_common.clock import Clock
from parley_understudy.admission import Admitted
from parley_understudy.beta import BetaDialect
from parley_understudy.fault_plan import Plan
from parley_understudy.hastened import hastened
from parley_understudy.line import Line
from parley_understudy.session import Options, Session
from parley_understudy.settings import Settings
from parley_understudy.vad import Detector
from parley_understudy.wire import Ids


@dataclass(frozen=True)
class Opening:
    """A session that is ready to be opened: itself, the clock that it runs on, and how long it lasts on that."""

    line: Line
    clock: Clock
    lasts_s: float


def opening(
    admitted: Admitted,
    settings: Settings,
    clock: Clock,
    *,
    make_detector: Callable[[], Detector],
    seed: float,
    plan: Plan | None = None,
) -> Opening:
    """Make a session. ``seed`` is for its ids unless the client gave one; ``plan`` is a fault script beside its own."""
    asked, flavour = admitted.conditions, admitted.flavour
    own_clock = hastened(clock, asked.time_scale or settings.time_scale)
    lasts_s = asked.expiry_s or settings.expiry_s or float(flavour.longest_session_s)
    pace = settings.pace if asked.pace is None else asked.pace
    ids = Ids(random.Random(seed if asked.seed is None else asked.seed))  # noqa: S311 - ids, not secrets
    options = Options(
        flavour=flavour,
        ids=ids,
        make_detector=make_detector,
        opened_at=own_clock.now(),
        lasts_s=lasts_s,
        pace=pace or None,
        transcription_only=admitted.transcription_only,
    )
    now_ms = own_clock.now_ms()
    dialect = BetaDialect(ids, azure=flavour.azure) if flavour.beta else None
    line = Line(Session(options, now_ms), now_ms, plan=asked.plan, dialect=dialect)
    if plan is not None:
        line.disturb(plan)
    return Opening(line, own_clock, lasts_s)
