"""The reference playout buffer: what a client's loudspeaker would have played, decided by a clock.

It takes items and frames as they arrive, plays them without gaps at 24 samples a millisecond, answers flushes,
and says what is due to be reported. It opens no audio device and no socket, and owns no clock: every method is
told ``now_ms``. Output latency is taken as zero.

Law: never is more played than was received; nothing of a flushed epoch is played after its flush; and every
sample played stands exactly once on the time line, at the moment it was played.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from parley_common.contracts import audio_link as wire

REPORT_EVERY_MS = 100


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive samples of one item that were played without a gap; ``at_sample`` is where on the time line."""

    at_sample: int
    item: int
    first_sample: int
    sample_count: int


@dataclass(frozen=True, slots=True)
class ItemPlayed:
    """What became of one item, in samples of that item."""

    number: int
    epoch: int
    received: int
    played: int
    samples: int | None
    """The whole item's length as it was announced; null while it has not ended."""
    flushed: bool
    """A flush came before all of it was played."""
    started_at_sample: int | None
    """Where on the time line its first sample was played; null when none was."""


@dataclass(slots=True, eq=False)
class _Track:
    number: int
    epoch: int
    received: int = 0
    played: int = 0
    samples: int | None = None
    flushed: bool = False
    started_at_sample: int | None = None
    reported: tuple[int, int] = (0, 0)
    pcm: bytearray = field(default_factory=bytearray)

    @property
    def waiting(self) -> int:
        return self.received - self.played

    @property
    def is_over(self) -> bool:
        return self.samples is not None and self.waiting == 0


class PlayoutBuffer:
    """One client's playout. Times must not run backwards; one that does is taken as no time passing."""

    def __init__(self, *, origin_ms: int, epoch: int = 0, keep_audio: bool = True) -> None:
        """Begin the time line at ``origin_ms``; without ``keep_audio`` only counts are kept, no samples."""
        self.epoch = epoch
        self.paused = False
        self.oddities: Counter[str] = Counter()
        """What the service should not have sent, or we could not use, by reason; empty in a clean session."""
        self._origin_ms = origin_ms
        self._keep_audio = keep_audio
        self._at_sample = 0
        self._tracks: dict[int, _Track] = {}
        self._queue: deque[_Track] = deque()
        self._over: deque[_Track] = deque()
        self._runs: list[Run] = []
        self._report_due_ms = origin_ms
        self._played_total = 0

    # -- what arrives -----------------------------------------------------------------------------

    def begins(self, number: int, epoch: int, now_ms: int) -> None:
        """An item with audio was announced; items play in the order of their announcements."""
        self._advance(now_ms)
        if number in self._tracks:
            self.oddities["announced_twice"] += 1
        elif epoch >= self.epoch:
            self._add(number, epoch)

    def ends(self, number: int, samples: int | None, now_ms: int) -> None:
        """The item is complete: ``samples`` long, null when it has no audio."""
        self._advance(now_ms)
        track = self._tracks.get(number)
        if track is None:
            return
        if samples is not None and samples != track.received and not track.flushed:
            self.oddities["ended_short" if samples > track.received else "ended_long"] += 1
        track.samples = track.received if samples is None else samples
        self._drop_finished()

    def frame(self, epoch: int, item: int, first_sample: int, pcm: bytes | memoryview, now_ms: int) -> int:
        """Take one audio frame; return how many samples of it are new."""
        self._advance(now_ms)
        if epoch < self.epoch:
            self.oddities["stale_epoch"] += 1
            return 0
        if epoch > self.epoch:
            self.oddities["epoch_without_flush"] += 1
            self._start_epoch(epoch)
        return self._append(self._track_of(item, epoch), first_sample, pcm)

    def flush(self, epoch: int, now_ms: int) -> tuple[wire.Playout | wire.Flushed, ...]:
        """Fall silent at once; return what to answer: the last report of the old epoch, then ``flushed``.

        An epoch that is not newer than ours is counted and answered by nothing: the epoch only rises.
        """
        self._advance(now_ms)
        if epoch <= self.epoch:
            self.oddities["stale_flush"] += 1
            return ()
        current = next((track for track in self._queue if track.received), None)
        old = self.epoch
        self._start_epoch(epoch)
        self.paused = False
        if current is None:
            return (wire.Flushed(epoch, 0, 0),)
        self._note_report(current, now_ms)
        report = wire.Playout(old, current.number, current.received, current.played)
        return (report, wire.Flushed(epoch, current.number, current.played))

    def pause(self, now_ms: int) -> None:
        """Hold playout where it is."""
        self._advance(now_ms)
        self.paused = True

    def resume(self, now_ms: int) -> None:
        """Go on where it was held."""
        self._advance(now_ms)
        self.paused = False

    # -- what passes ------------------------------------------------------------------------------

    def tick(self, now_ms: int) -> tuple[wire.Playout, ...]:
        """Play up to ``now_ms``; return the reports due: items just over, and every 100 ms the current one."""
        self._advance(now_ms)
        due = [self._note_report(track, now_ms) for track in self._over if _changed(track)]
        self._over.clear()
        current = next((track for track in self._queue if track.received), None)
        if current is not None and now_ms >= self._report_due_ms and _changed(current):
            due.append(self._note_report(current, now_ms))
        return tuple(due)

    @property
    def is_drained(self) -> bool:
        """Say whether nothing is left to play of what was received."""
        return all(track.waiting == 0 for track in self._queue)

    @property
    def played_samples(self) -> int:
        """How many samples were played since the beginning, all items together."""
        return self._played_total

    @property
    def items(self) -> tuple[ItemPlayed, ...]:
        """Return every item that was announced or had audio, in order."""
        return tuple(
            ItemPlayed(t.number, t.epoch, t.received, t.played, t.samples, t.flushed, t.started_at_sample)
            for t in self._tracks.values()
        )

    @property
    def runs(self) -> tuple[Run, ...]:
        """Return what was played, in order, never overlapping."""
        return tuple(self._runs)

    def pcm_of(self, run: Run) -> bytes:
        """Return the samples of a run; empty when no audio is kept."""
        first, last = run.first_sample, run.first_sample + run.sample_count
        return bytes(self._tracks[run.item].pcm[first * 2 : last * 2])

    def heard_pcm(self, until_ms: int | None = None) -> bytes:
        """Return the time line as PCM: played samples where they were played, silence elsewhere.

        ``until_ms`` lengthens it with silence up to that time; null ends it with the last sample played.
        """
        end = max((run.at_sample + run.sample_count for run in self._runs), default=0)
        if until_ms is not None:
            end = max(end, self._sample_at(until_ms))
        line = bytearray(end * wire.BYTES_PER_SAMPLE)
        for run in self._runs:
            pcm = self.pcm_of(run)
            line[run.at_sample * 2 : run.at_sample * 2 + len(pcm)] = pcm
        return bytes(line)

    # -- inside -----------------------------------------------------------------------------------

    def _sample_at(self, now_ms: int) -> int:
        return (now_ms - self._origin_ms) * wire.SAMPLES_PER_MS

    def _advance(self, now_ms: int) -> None:
        """Play what the time since the last look allows; what is left of it was silence."""
        until = max(self._at_sample, self._sample_at(now_ms))
        while self._at_sample < until and not self.paused and (track := self._playable()):
            count = min(track.waiting, until - self._at_sample)
            self._play(track, count)
        self._at_sample = until
        self._drop_finished()

    def _playable(self) -> _Track | None:
        """Return the track to play now: the first with audio left; those before it are then over."""
        track = next((track for track in self._queue if track.waiting), None)
        while track is not None and self._queue[0] is not track:
            self._over.append(self._queue.popleft())
        return track

    def _play(self, track: _Track, count: int) -> None:
        if track.started_at_sample is None:
            track.started_at_sample = self._at_sample
        run = Run(self._at_sample, track.number, track.played, count)
        before = self._runs[-1] if self._runs else None
        if before and before.item == run.item and before.at_sample + before.sample_count == run.at_sample:
            self._runs[-1] = Run(before.at_sample, run.item, before.first_sample, before.sample_count + count)
        else:
            self._runs.append(run)
        track.played += count
        self._played_total += count
        self._at_sample += count

    def _drop_finished(self) -> None:
        while self._queue and self._queue[0].is_over:
            self._over.append(self._queue.popleft())

    def _start_epoch(self, epoch: int) -> None:
        for track in self._queue:
            track.flushed = not track.is_over
        self._queue.clear()
        self._over.clear()
        self.epoch = epoch
        self._queue.extend(track for track in self._tracks.values() if track.epoch == epoch)

    def _add(self, number: int, epoch: int) -> _Track:
        track = self._tracks[number] = _Track(number, epoch)
        if epoch == self.epoch:
            self._queue.append(track)
        return track

    def _track_of(self, item: int, epoch: int) -> _Track | None:
        track = self._tracks.get(item)
        if track is None:
            self.oddities["unannounced_item"] += 1
            return self._add(item, epoch)
        if track not in self._queue:
            return None
        return track

    def _append(self, track: _Track | None, first_sample: int, pcm: bytes | memoryview) -> int:
        if track is None:
            self.oddities["item_was_over"] += 1
            return 0
        count = len(pcm) // wire.BYTES_PER_SAMPLE
        new = first_sample + count - track.received
        if first_sample > track.received:
            # What we claim to have received must be whole, or the service would not send the hole again.
            self.oddities["gap"] += 1
            return 0
        if new < count:
            self.oddities["repeated_samples"] += 1
        if new <= 0:
            return 0
        track.received += new
        if self._keep_audio:
            track.pcm += pcm[(count - new) * 2 : count * 2]
        return new

    def _note_report(self, track: _Track, now_ms: int) -> wire.Playout:
        track.reported = (track.received, track.played)
        self._report_due_ms = now_ms + REPORT_EVERY_MS
        return wire.Playout(track.epoch, track.number, track.received, track.played)


def _changed(track: _Track) -> bool:
    return track.reported != (track.received, track.played)
