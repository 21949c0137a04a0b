/**
 * The client's playout buffer: what is played of which item, what has been heard of it, and what a flush leaves.
 *
 * Pure: it is asked for samples and told of frames; it knows neither clock, worklet nor socket. Positions are samples
 * at 24 kHz. Law: never is more played than was received; nothing of a flushed epoch sounds after its fade; what is
 * "heard" is what was handed out, less what the device and the filter still hold, and only ever grows.
 */

/** @typedef {{number: number, epoch: number, received: number, taken: number, played: number, samples: number | null,
 *   chunks: Int16Array[], at: number, reported: string}} Track */
/** @typedef {{epoch: number, item: number, received: number, played: number}} Report */
/** @typedef {{what: string, item: number, epoch: number, at: number}} Event */

const RATE_HZ = 24000;
const ms = (count) => (count * RATE_HZ) / 1000;
const FADE = ms(5);
const REPORT_EVERY = ms(100);
const JITTER_START_MS = 60;
const JITTER_LEAST_MS = 40;
const JITTER_MOST_MS = 500;
const SHRINK_EVERY = ms(10_000);
const SHRINK_MS = 10;
const MARGIN = ms(40);
const BUFFER_MAX = ms(600_000); // ten minutes: far beyond what the gateway lets wait
const IDLE = 'idle';
const FILLING = 'filling';
const PLAYING = 'playing';
const STARVING = 'starving';

export class Playout {
  /** @param {(event: Event) => void} [onEvent] started, flushed, silent, underrun, drained */
  constructor(onEvent = () => {}) {
    this.onEvent = onEvent;
    this.epoch = 0;
    this.isPaused = false;
    this.phase = IDLE;
    this.targetMs = JITTER_START_MS;
    /** How much of what was handed out is not heard yet: the filter's look-ahead and the device's latency. */
    this.delay = 0;
    this.underruns = 0;
    this.lateFrames = 0;
    /** @type {Record<string, number>} what the service should not have sent, by reason */
    this.oddities = {};
    /** @type {Map<number, Track>} */
    this.tracks = new Map();
    /** @type {Track[]} what may still be handed out of this epoch, in order */
    this.queue = [];
    /** @type {Track[]} of this epoch, and not reported to their end */
    this.open = [];
    /** @type {{at: number, track: Track, end: number, count: number}[]} handed out and not yet heard */
    this.runs = [];
    this.handedOut = 0; // every sample since the beginning, silence too
    this.heardTo = 0;
    this.buffered = 0;
    /** @type {number[]} */
    this.fading = []; // what still sounds of a flushed or paused stream
    this.rampIn = 0;
    this.waitedFrom = 0;
    this.calmFrom = 0;
    this.reportDue = 0;
  }

  /** An item was announced; items play in the order of their announcements. @param {number} number @param {number} epoch */
  begins(number, epoch) {
    if (this.tracks.has(number)) this.odd('announced_twice');
    else if (epoch >= this.epoch) this.add(number, epoch);
  }

  /** The item is complete. @param {number} number @param {number | null | undefined} samples null: it has no audio */
  ends(number, samples) {
    const track = this.tracks.get(number);
    if (!track) return;
    if (samples != null && samples !== track.received && track.epoch === this.epoch) {
      this.odd(samples > track.received ? 'ended_short' : 'ended_long');
    }
    track.samples = track.received;
    if (this.phase === STARVING && this.current() === undefined) this.rest();
  }

  /** Take one frame. @param {number} epoch @param {number} item @param {number} first @param {Int16Array} pcm @returns {number} new samples */
  frame(epoch, item, first, pcm) {
    if (epoch < this.epoch) return this.odd('stale_epoch');
    if (epoch > this.epoch) {
      this.odd('epoch_without_flush');
      this.startEpoch(epoch);
    }
    let track = this.tracks.get(item);
    if (!track) {
      this.odd('unannounced_item');
      track = this.add(item, epoch);
    }
    if (!this.queue.includes(track)) return this.odd('item_was_over');
    // What we claim to have received must be whole, or the service would not send the hole again.
    if (first > track.received) return this.odd('gap');
    const fresh = first + pcm.length - track.received;
    if (fresh < pcm.length) this.odd('repeated_samples');
    if (fresh <= 0) return 0;
    if (this.buffered + fresh > BUFFER_MAX) return this.odd('buffer_full');
    this.noteMargin(track);
    track.chunks.push(fresh < pcm.length ? pcm.subarray(pcm.length - fresh) : pcm);
    track.received += fresh;
    this.buffered += fresh;
    this.arrived(track);
    return fresh;
  }

  /** Fall silent at once. @param {number} epoch @returns {{report: Report | null, flushed: {epoch: number, item: number, played: number}} | null} null: it is not newer than ours */
  flush(epoch) {
    if (epoch <= this.epoch) {
      this.odd('stale_flush');
      return null;
    }
    this.hear();
    this.dropFinished();
    const current = this.sounding();
    const report = current ? this.report(current) : null;
    this.fadeOut();
    this.startEpoch(epoch);
    this.isPaused = false;
    const flushed = { epoch, item: current?.number ?? 0, played: current?.played ?? 0 };
    this.tell('flushed', flushed.item);
    if (!this.fading.length) this.tell('silent', 0);
    return { report, flushed };
  }

  /** Hold playout where it is. Nothing is dropped: what fades out is played again at `resume`. */
  pause() {
    if (!this.isPaused) this.fadeOut();
    this.isPaused = true;
  }

  /** Go on where it was held. */
  resume() {
    if (!this.isPaused) return;
    this.isPaused = false;
    this.rampIn = FADE;
    this.fading = [];
  }

  /** Hand out the next samples, silence where there is nothing to play. @param {Float32Array} out */
  read(out) {
    let at = 0;
    while (at < out.length && this.fading.length) {
      out[at++] = this.fading.shift() ?? 0;
      this.handedOut++;
      if (!this.fading.length) this.tell('silent', 0);
    }
    while (at < out.length) {
      const track = this.isPaused ? undefined : this.playable();
      if (!track) break;
      at += this.hand(track, out, at);
    }
    out.fill(0, at);
    this.handedOut += out.length - at;
    this.hear();
  }

  /** Return the reports that are due: items just over, and every 100 ms the one at the loudspeaker. @returns {Report[]} */
  reports() {
    const due = this.dropFinished().filter((t) => this.hasNews(t)).map((t) => this.report(t));
    const current = this.sounding();
    if (current && this.handedOut >= this.reportDue && this.hasNews(current)) due.push(this.report(current));
    return due;
  }

  /** After a lost socket report everything of this epoch; its absence was no jitter to allow for. @returns {Report[]} */
  again() {
    this.waitedFrom = this.handedOut;
    return this.open.filter((t) => t.received).map((t) => this.report(t));
  }

  /** @returns {object} what is measured of it */
  stats() {
    const items = [...this.tracks.values()].map((t) => ({
      number: t.number, epoch: t.epoch, received: t.received, rendered: t.taken, played: t.played, samples: t.samples,
    }));
    const { tracks, queue, open, runs, fading, onEvent, ...counts } = this;
    return { ...counts, items };
  }

  // -- inside ---------------------------------------------------------------------------------------

  /** The first item with audio left. @returns {Track | undefined} */
  current() {
    return this.queue.find((t) => t.taken < t.received);
  }

  /** @param {Track} track */
  arrived(track) {
    if (this.phase === IDLE) this.fill();
    else if (this.phase === STARVING && track === this.current()) {
      if (track.taken) this.ranDry();
      this.fill();
    } else if (this.phase === FILLING && track.taken > 0) this.lateFrames++;
  }

  /** It came just in time: wait longer the next time, before it comes too late. @param {Track} track */
  noteMargin(track) {
    if (this.phase !== PLAYING || track !== this.current() || track.received - track.taken > MARGIN) return;
    this.waitLonger(SHRINK_MS);
  }

  /** @param {number} byMs */
  waitLonger(byMs) {
    this.targetMs = Math.min(JITTER_MOST_MS, this.targetMs + byMs);
    this.calmFrom = this.handedOut;
  }

  ranDry() {
    this.underruns++;
    this.lateFrames++;
    this.waitLonger(Math.max(this.targetMs / 4, (this.handedOut - this.waitedFrom) / ms(1)));
    this.tell('underrun', this.current()?.number ?? 0);
  }

  fill() {
    this.phase = FILLING;
    this.waitedFrom = this.handedOut;
  }

  rest() {
    this.phase = IDLE;
    this.tell('drained', 0);
  }

  /** The track to hand out now; undefined while there is none, or not enough of it. @returns {Track | undefined} */
  playable() {
    const track = this.current();
    if (this.phase === PLAYING && !track) this.runOut();
    if (this.phase === FILLING && track && this.isFull(track)) {
      this.phase = PLAYING;
      if (track.taken) this.rampIn = FADE;
    }
    if (this.phase !== PLAYING || !track) return undefined;
    while (this.queue[0] !== track) this.queue.shift(); // those before it are over
    this.calm();
    return track;
  }

  /** Nothing is left: either the item has ended, or its audio is late; which, the next message tells. */
  runOut() {
    const last = this.queue.at(-1);
    this.waitedFrom = this.handedOut;
    if (last?.samples === null) this.phase = STARVING;
    else this.rest();
  }

  /** @param {Track} track @returns {boolean} */
  isFull(track) {
    const target = ms(this.targetMs);
    const waiting = track.received - track.taken;
    return waiting >= target || track.samples !== null || this.handedOut - this.waitedFrom >= target;
  }

  calm() {
    if (this.handedOut - this.calmFrom < SHRINK_EVERY) return;
    this.calmFrom = this.handedOut;
    this.targetMs = Math.max(JITTER_LEAST_MS, this.targetMs - SHRINK_MS);
  }

  /** @param {Track} track @param {Float32Array} out @param {number} at @returns {number} samples handed out */
  hand(track, out, at) {
    const chunk = track.chunks[0];
    const count = Math.min(chunk.length - track.at, out.length - at);
    if (track.taken === 0) this.tell('started', track.number);
    for (let k = 0; k < count; k++) {
      let gain = 1 / 32768;
      if (this.rampIn > 0) gain *= 1 - this.rampIn-- / FADE;
      out[at + k] = chunk[track.at + k] * gain;
    }
    track.at += count;
    track.taken += count;
    this.buffered -= count;
    if (track.at === chunk.length) {
      track.chunks.shift();
      track.at = 0;
    }
    const last = this.runs.at(-1);
    if (last?.track === track && last.at + last.count === this.handedOut) {
      last.count += count;
      last.end += count;
    } else this.runs.push({ at: this.handedOut, track, end: track.taken, count });
    this.handedOut += count;
    return count;
  }

  /** Credit as heard what has had time to leave the loudspeaker. */
  hear() {
    this.heardTo = Math.max(this.heardTo, this.handedOut - this.delay);
    while (this.runs.length) {
      const { at, track, end, count } = this.runs[0];
      track.played = Math.max(track.played, Math.min(end, end - count + Math.max(0, this.heardTo - at)));
      if (at + count > this.heardTo) return;
      this.runs.shift();
    }
  }

  /** The item at the loudspeaker, or the one that will be next. @returns {Track | undefined} */
  sounding() {
    return this.open.find((t) => t.received > 0);
  }

  /** Forget items that are heard to their end, or overtaken by a later one; return them. @returns {Track[]} */
  dropFinished() {
    const isFinished = (t) =>
      t.played === t.taken && (!this.queue.includes(t) || (t.samples !== null && t.taken === t.received));
    if (!this.open.length || !isFinished(this.open[0])) return [];
    const finished = this.open.filter(isFinished);
    this.open = this.open.filter((t) => !finished.includes(t));
    this.queue = this.queue.filter((t) => !finished.includes(t));
    return finished;
  }

  /** Let the next 5 ms of what is sounding fade; they count as played by no one. */
  fadeOut() {
    this.fading = [];
    const track = this.phase === PLAYING && !this.isPaused ? this.current() : undefined;
    if (!track) return;
    let { at } = track;
    for (const chunk of track.chunks) {
      for (; at < chunk.length && this.fading.length < FADE; at++) {
        this.fading.push((chunk[at] / 32768) * (1 - (this.fading.length + 1) / FADE));
      }
      at = 0;
      if (this.fading.length >= FADE) break;
    }
  }

  /** @param {number} epoch */
  startEpoch(epoch) {
    this.epoch = epoch;
    for (const [number, track] of this.tracks) {
      if (track.epoch >= epoch) continue;
      track.chunks = [];
      if (this.tracks.size > 200) this.tracks.delete(number);
    }
    this.queue = [...this.tracks.values()].filter((t) => t.epoch === epoch);
    this.open = [...this.queue];
    this.buffered = this.queue.reduce((sum, t) => sum + t.received - t.taken, 0);
    this.runs = [];
    this.phase = IDLE;
    if (this.current()) this.fill();
  }

  /** @param {number} number @param {number} epoch @returns {Track} */
  add(number, epoch) {
    const track = { number, epoch, received: 0, taken: 0, played: 0, samples: null, chunks: [], at: 0, reported: '0/0' };
    this.tracks.set(number, track);
    if (epoch === this.epoch) {
      this.queue.push(track);
      this.open.push(track);
    }
    return track;
  }

  /** @param {Track} track @returns {boolean} */
  hasNews(track) {
    return track.reported !== `${track.received}/${track.played}`;
  }

  /** @param {Track} track @returns {Report} */
  report(track) {
    track.reported = `${track.received}/${track.played}`;
    this.reportDue = this.handedOut + REPORT_EVERY;
    return { epoch: track.epoch, item: track.number, received: track.received, played: track.played };
  }

  /** @param {string} what @param {number} item */
  tell(what, item) {
    this.onEvent({ what, item, epoch: this.epoch, at: this.handedOut });
  }

  /** @param {string} reason @returns {0} */
  odd(reason) {
    this.oddities[reason] = (this.oddities[reason] ?? 0) + 1;
    return 0;
  }
}
