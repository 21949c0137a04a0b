"""From what generator and upstream wrote down to figures. Pure: it runs nothing and looks at no clock.

A frame up is expected when its caller sent it within the step; one down when upstream sent it then, unless a barge-in
overtook it: what is missing at the end of a response that was spoken over was dropped on purpose, a hole anywhere else
was lost. A barge-in is speech over a response that upstream had begun to send; each must have stopped its caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from load.bench.logs import Frames, Read
from load.bench.stamps import NUMBER_BITS

STOP_KNOWN_AFTER_US = 500_000
"""Speech in the last half second of a step is left to the next: whether it stopped the agent is not known yet."""
LATE_US = 100_000
"""A frame that takes longer came too late to be of use: its place in a playout buffer is over."""
JUST_BEGUN_FRAMES = 5
"""Speech over fewer frames of an answer than this may come before the client has any."""

Note = dict[str, Any]


@dataclass(frozen=True)
class Spread:
    """Quantiles of one kind of measurement; null where there was none."""

    count: int
    p50: float | None = None
    p99: float | None = None
    p999: float | None = None
    worst: float | None = None


def spread(values: Sequence[float] | NDArray[Any], *, per: float = 1.0, digits: int = 3) -> Spread:
    """Return the quantiles of ``values`` divided by ``per``."""
    if not len(values):
        return Spread(0)
    scaled = np.asarray(values, dtype=float) / per
    p50, p99, p999 = (round(float(np.quantile(scaled, q)), digits) for q in (0.5, 0.99, 0.999))
    return Spread(len(values), p50, p99, p999, round(float(scaled.max()), digits))


@dataclass(frozen=True)
class Figures:
    """What one step measured. Times in milliseconds."""

    callers: int
    live: int
    up_ms: Spread
    down_ms: Spread
    round_ms: Spread
    """Only of an echo."""
    barge_in_ms: Spread
    """From the first frame of speech that the caller sends to the flush that silences it."""
    truncation_error_ms: Spread
    tool_ms: Spread
    token_ms: Spread
    connect_ms: Spread
    ready_ms: Spread
    """From ``open`` to ``ready``."""
    expected: int
    lost_up: int
    lost_down: int
    late_frames: int
    out_of_order: int
    late_after_stop: int
    barge_ins: int
    not_stopped: int
    trouble: dict[str, int] = field(default_factory=dict)
    """What else went wrong, by kind: sessions not opened or cut off, errors, gaps, foreign frames, failed tools."""

    @property
    def lost(self) -> int:
        return self.lost_up + self.lost_down

    @property
    def is_whole(self) -> bool:
        """Say whether nothing was lost, nothing came after a stop, and every barge-in stopped."""
        faults = self.lost + self.late_after_stop + self.not_stopped + self.out_of_order
        return not faults and not self.trouble and self.live == self.callers

    def worst_p99_ms(self) -> float:
        """Return the worse direction's p99."""
        return max(s.p99 or 0.0 for s in (self.up_ms, self.down_ms, self.round_ms))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


TROUBLES = ("not_opened", "cut_off", "not_ended", "ended", "error", "foreign", "gap", "unstamped")


def judge(step: dict[str, Any], generator: Read, upstream: Read | None) -> Figures:
    """Return the figures of one step. ``upstream`` null: an echo, whose frames come back to their callers."""
    window = step["began"], step["over"]
    sent = {number: (first, end) for number, first, end in step["sent"]}
    opening = step["since"], step["over"]
    opened = _of(generator.notes, "opened", opening)
    heard = upstream.frames if upstream is not None else generator.frames
    up = _within(heard, window)
    expected, lost_up = _lost_up(heard, sent)
    answers = upstream.notes if upstream is not None else []
    down = _within(generator.frames, window) if upstream is not None else generator.frames[:0]
    barges = _barge_ins(answers, generator.notes, window)
    tools = [note for note in _of(answers, "tool", window) if note["ok"]]
    trouble = {kind: len(_of(generator.notes + answers, kind, window)) for kind in TROUBLES}
    trouble["not_opened"] = len(_of(generator.notes, "not_opened", opening))
    trouble["tool_failed"] = len(_of(answers, "tool", window)) - len(tools)
    took_up, took_down, none = up[:, 2], down[:, 2], np.zeros(0)
    is_echo = upstream is None
    return Figures(
        callers=len(step["sent"]),
        live=step["live"],
        up_ms=spread(none if is_echo else took_up, per=1000),
        down_ms=spread(took_down, per=1000),
        round_ms=spread(took_up if is_echo else none, per=1000),
        barge_in_ms=spread([took for took in barges if took is not None], per=1000),
        truncation_error_ms=spread(_truncation_errors(answers, generator.notes, window)),
        tool_ms=spread([note["took_us"] for note in tools], per=1000),
        token_ms=spread([note["token_us"] for note in opened], per=1000),
        connect_ms=spread([note["connect_us"] for note in opened], per=1000),
        ready_ms=spread([note["ready_us"] for note in opened], per=1000),
        expected=expected + len(down),
        lost_up=lost_up,
        lost_down=0 if is_echo else _lost_down(answers, generator.frames, window),
        late_frames=int((took_up > LATE_US).sum() + (took_down > LATE_US).sum()),
        out_of_order=_out_of_order(heard) + (0 if is_echo else _out_of_order(generator.frames)),
        late_after_stop=_late_after_stop(answers, generator, window),
        barge_ins=len(barges),
        not_stopped=sum(took is None for took in barges),
        trouble={kind: count for kind, count in trouble.items() if count},
    )


def _of(notes: list[Note], what: str, window: tuple[int, int]) -> list[Note]:
    return [note for note in notes if note["what"] == what and window[0] <= note.get("t", -1) < window[1]]


def _within(frames: Frames, window: tuple[int, int]) -> Frames:
    return frames[(frames[:, 0] >= window[0]) & (frames[:, 0] < window[1])]


def _lost_up(heard: Frames, sent: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Return how many frames the callers sent within the step, and how many of them upstream never heard."""
    expected = sum(end - first for first, end in sent.values())
    seqs = np.unique(heard[:, 1])
    found = 0
    for number, (first, end) in sent.items():
        low, high = (number << NUMBER_BITS) + first, (number << NUMBER_BITS) + end
        found += int(np.searchsorted(seqs, high) - np.searchsorted(seqs, low))
    return expected, expected - found


def _out_of_order(frames: Frames) -> int:
    """Count frames that came after a later one of the same caller, or twice."""
    count = 0
    callers = frames[:, 1] >> np.uint64(NUMBER_BITS)
    for caller in np.unique(callers):
        seqs = frames[callers == caller, 1].astype(np.int64)
        count += int((np.diff(seqs) <= 0).sum())
    return count


def _responses(notes: list[Note]) -> dict[int, Note]:
    """Return what became of each response by its number.

    ``low`` and ``end`` are its sequence numbers, as far as it was sent; an open one may have any that follow.
    """
    found: dict[int, Note] = {}
    for note in notes:
        if note["what"] == "response" and note["caller"] is not None:
            low = (note["caller"] << NUMBER_BITS) + note["first"]
            top = (note["caller"] + 1) << NUMBER_BITS
            found[note["number"]] = {**note, "low": low, "end": top, "status": None}
        elif note["what"] == "response_over" and note["number"] in found:
            response = found[note["number"]]
            response |= {"end": response["low"] + note["frames"], "status": note["status"]}
    return found


def _lost_down(notes: list[Note], frames: Frames, window: tuple[int, int]) -> int:
    seqs = np.unique(frames[:, 1])
    lost = 0
    for response in _responses(notes).values():
        if not window[0] <= response["t"] < window[1]:
            continue
        low, end = response["low"], response["end"]
        mine = seqs[np.searchsorted(seqs, low) : np.searchsorted(seqs, end)]
        if response["status"] == "completed":
            lost += end - low - len(mine)
        elif len(mine):  # cut short, or still being sent: only holes are losses
            lost += int(mine[-1]) - low + 1 - len(mine)
    return lost


def _barge_ins(answers: list[Note], notes: list[Note], window: tuple[int, int]) -> list[int | None]:
    """Return for each barge-in how long its caller went on hearing the agent; null: not stopped before it spoke again."""
    speaks, flushes = _by_caller(notes, "speaks"), _by_caller(notes, "flush")
    found: list[int | None] = []
    for speech in _of(answers, "speech", (window[0], window[1] - STOP_KNOWN_AFTER_US)):
        if not speech["over"] or speech["frames"] < JUST_BEGUN_FRAMES:
            continue
        spoke = speaks.get(speech["caller"], [])
        began = max((t for t in spoke if t <= speech["t"]), default=None)
        if began is None:
            continue
        again = min((t for t in spoke if t > began), default=None)
        stops = [t for t in flushes.get(speech["caller"], ()) if t >= began and (again is None or t < again)]
        found.append(min(stops) - began if stops else None)
    return found


def _by_caller(notes: list[Note], what: str) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for note in notes:
        if note["what"] == what:
            found.setdefault(note["caller"], []).append(note["t"])
    return found


def _response_of(seq: int, by_caller: dict[int, list[Note]]) -> Note | None:
    """Return the response that a frame down belongs to."""
    begun = [r for r in by_caller.get(seq >> NUMBER_BITS, ()) if r["low"] <= seq]
    return begun[-1] if begun else None


def _responses_by_caller(answers: list[Note]) -> dict[int, list[Note]]:
    found: dict[int, list[Note]] = {}
    for response in _responses(answers).values():
        found.setdefault(response["caller"], []).append(response)
    return found


def _truncation_errors(answers: list[Note], notes: list[Note], window: tuple[int, int]) -> list[float]:
    """Return how far each truncation was from what its caller had played when it fell silent, in ms."""
    by_caller = _responses_by_caller(answers)
    claimed = {note["number"]: note["ms"] for note in answers if note["what"] == "truncate"}
    errors = []
    for flush in _of(notes, "flush", window):
        response = _response_of(flush["seq"], by_caller)
        if response is not None and response["number"] in claimed:
            errors.append(abs(claimed[response["number"]] - flush["played"] / 24))
    return errors


def _late_after_stop(answers: list[Note], generator: Read, window: tuple[int, int]) -> int:
    """Count frames that a caller got after it was told to stop, of the response that it was told to stop hearing."""
    by_caller = _responses_by_caller(answers)
    frames = generator.frames
    arrived = frames[:, 0] + frames[:, 2]
    late = {(note["caller"], note["seq"]) for note in _of(generator.notes, "late", window) if "seq" in note}
    for flush in _of(generator.notes, "flush", window):
        response = _response_of(flush["seq"], by_caller)
        if response is None:
            continue
        of_it = (frames[:, 1] >= response["low"]) & (frames[:, 1] < response["end"])
        is_late = of_it & (arrived > flush["t"])
        late.update((response["caller"], int(seq)) for seq in frames[is_late, 1])
    return len(late)
