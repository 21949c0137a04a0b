"""When the caller says the next thing: after the agent has finished, or into its audio to barge in.

Pure: it is shown what can be observed and answers with what to do now. It sends nothing and owns no clock.

Law: nothing is said while the agent still holds the floor, unless the turn says that it barges in; and every wait
has an end.
"""

from __future__ import annotations

from dataclasses import dataclass

from parley_common import audio
from parley_common.contracts.audio_link import SAMPLES_PER_MS

LOUD_DBFS = -45.0
"""Below this a 20 ms frame counts as silence when the ends of speech in a file are looked for."""


@dataclass(frozen=True, slots=True)
class CallerTurn:
    """One thing to say (``pcm``) or to type (``text``); exactly one of both."""

    name: str
    text: str | None = None
    pcm: bytes | None = None
    barge_in_ms: int | None = None
    """Say it once this much of the agent's audio was played; null: when the agent has finished."""
    speech_starts_ms: int = 0
    speech_ends_ms: int = 0
    """Where speech lies in ``pcm``; the whole of it when it is silent throughout."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long what is waited for."""

    quiet_ms: int = 400
    """The agent has finished when it did nothing for this long."""
    greeting_ms: int = 3_000
    """How long the agent may take to begin by itself; after that the caller begins."""
    answer_ms: int = 30_000
    """How long the agent may take to take up what was said."""
    ready_ms: int = 15_000
    """How long the session may take to begin."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What a client can see of the agent at ``now_ms``."""

    now_ms: int
    state: str | None
    drained: bool
    played_samples: int
    active_at_ms: int
    stirred_at_ms: int | None


@dataclass(frozen=True, slots=True)
class Greeting:
    """The session is open; the agent may speak first."""

    since_ms: int


@dataclass(frozen=True, slots=True)
class Talking:
    """The caller speaks a file."""

    said_at_ms: int
    ends_at_ms: int
    speech_ends_at_ms: int


@dataclass(frozen=True, slots=True)
class Answering:
    """The caller has spoken; the agent is to take it up and to finish."""

    since_ms: int
    """The end of speech in the file, or when the text was sent."""
    said_at_ms: int
    """When the turn began."""
    played_before: int


Phase = Greeting | Talking | Answering


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do now."""


@dataclass(frozen=True, slots=True)
class Say:
    """Say or type this turn now."""

    turn: CallerTurn


@dataclass(frozen=True, slots=True)
class Finished:
    """All is said and answered."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The agent did not take up what was said."""

    waited_ms: int


Action = Wait | Say | Finished | NoAnswer
WAIT = Wait()


def spoken(name: str, pcm: bytes, barge_in_ms: int | None = None) -> CallerTurn:
    """Return a spoken turn, with where speech begins and ends in it."""
    frame_bytes = audio.FRAME_SAMPLES * audio.SAMPLE_BYTES
    loud = [
        at
        for at in range(0, len(pcm), frame_bytes)
        if audio.level_dbfs(pcm[at : at + frame_bytes]) > LOUD_DBFS
    ]
    first, last = (loud[0], min(loud[-1] + frame_bytes, len(pcm))) if loud else (0, len(pcm))
    starts_ms, ends_ms = audio.bytes_to_ms(first), audio.bytes_to_ms(last)
    return CallerTurn(
        name, pcm=pcm, barge_in_ms=barge_in_ms, speech_starts_ms=starts_ms, speech_ends_ms=ends_ms
    )


def typed(text: str, barge_in_ms: int | None = None) -> CallerTurn:
    """Return a typed turn."""
    return CallerTurn(text, text=text, barge_in_ms=barge_in_ms)


def decide(
    phase: Phase, seen: Observed, upcoming: CallerTurn | None, patience: Patience
) -> tuple[Phase, Action]:
    """Return the phase that follows and what to do now. ``upcoming`` null: nothing more is to be said."""
    if isinstance(phase, Talking):
        return _while_talking(phase, seen)
    since_ms = phase.since_ms
    taken_up = _taken_up(phase, seen, patience)
    played_before = phase.played_before if isinstance(phase, Answering) else 0
    if upcoming and upcoming.barge_in_ms is not None:
        into_ms = (seen.played_samples - played_before) // SAMPLES_PER_MS
        if into_ms >= max(1, upcoming.barge_in_ms) and not seen.drained:
            return _say(upcoming, seen)
    if taken_up or (isinstance(phase, Greeting) and seen.now_ms - since_ms >= patience.greeting_ms):
        if not is_quiet(seen, since_ms, patience):
            return phase, WAIT
        return _say(upcoming, seen) if upcoming else (phase, Finished())
    if isinstance(phase, Answering) and seen.now_ms - since_ms >= patience.answer_ms:
        return phase, NoAnswer(seen.now_ms - since_ms)
    return phase, WAIT


def is_quiet(seen: Observed, since_ms: int, patience: Patience) -> bool:
    """Say whether the agent listens, has nothing left to play, and did nothing for a while."""
    listens = seen.state in (None, "listening") and seen.drained
    return listens and seen.now_ms - max(seen.active_at_ms, since_ms) >= patience.quiet_ms


def _taken_up(phase: Greeting | Answering, seen: Observed, patience: Patience) -> bool:
    since_ms = phase.since_ms
    if isinstance(phase, Answering) and seen.now_ms - since_ms >= patience.answer_ms:
        # Noise at the end of a file hides where its speech ended: the answer may have begun before.
        since_ms = phase.said_at_ms
    began = seen.stirred_at_ms is not None and seen.stirred_at_ms >= since_ms
    return began or seen.state not in (None, "listening")


def _while_talking(phase: Talking, seen: Observed) -> tuple[Phase, Action]:
    if seen.now_ms < phase.ends_at_ms:
        return phase, WAIT
    return Answering(phase.speech_ends_at_ms, phase.said_at_ms, seen.played_samples), WAIT


def _say(turn: CallerTurn, seen: Observed) -> tuple[Phase, Action]:
    if turn.pcm is None:
        return Answering(seen.now_ms, seen.now_ms, seen.played_samples), Say(turn)
    ends_at_ms = seen.now_ms + audio.bytes_to_ms(len(turn.pcm))
    return Talking(seen.now_ms, ends_at_ms, seen.now_ms + turn.speech_ends_ms), Say(turn)
