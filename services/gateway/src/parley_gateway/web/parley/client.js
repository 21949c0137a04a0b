/**
 * Parley's client for browsers: talk and type with an agent, by an event API and without any user interface.
 *
 *     import { ParleyClient } from 'https://voice.example.com/parley/client.js';
 *     const client = new ParleyClient({ business: 'cap' });
 *     client.on('transcript', ({ role, text }) => console.log(role, text));
 *     button.onclick = () => client.connect();
 *
 * It opens devices and the socket when `connect` is called, and closes all of them in the end. Law: whatever goes
 * wrong is one `error` with a code and a remedy; `connect` rejects with the same one.
 */

import { Microphone, Speaker } from './audio.js';
import { errorOf, ParleyError } from './errors.js';
import { Link } from './link.js';

export { ParleyError };

/**
 * @typedef {'voice' | 'text'} Mode
 * @typedef {'idle' | 'connecting' | 'listening' | 'thinking' | 'speaking' | 'using_tool' | 'reconnecting' | 'ended'} State
 * @typedef {{item: number, role: 'user' | 'assistant', text: string, final: boolean, heard: string | null}} Line
 *   `heard`: after a barge-in, the part of `text` that was heard; null when all of it stands
 * @typedef {{name: string, call: string, phase: 'begins' | 'ends', outcome?: string}} Tool
 * @typedef {{token: string, url: string, session_id?: string, facts_token?: string | null}} Ticket what POST /v1/tokens answers
 * @typedef {object} Options
 * @property {string} [business] whom to talk to
 * @property {string} [gateway] its base address; by default where this file came from
 * @property {Mode} [mode]
 * @property {(mode: Mode) => Promise<Ticket>} [getTicket] asks your own backend for a token, instead of the gateway
 * @property {boolean} [pushToTalk]
 * @property {string} [microphone] a device id
 * @property {string} [speaker] a device id, where the browser can choose
 * @property {string} [page] the address that the agent may know; by default without query and fragment
 * @property {number} [captureHz] a rate for the microphone's context, instead of the device's own
 * @property {number} [playbackHz]
 * @typedef {object} Events
 * @property {{state: State, before: State}} state
 * @property {{session: string, factsToken: string | null}} session
 * @property {Line} transcript
 * @property {Tool} tool
 * @property {{code: string, message: string}} notice reconnecting, reconnected, wrap_up, move, rate_limited, microphone_changed
 * @property {ParleyError} error
 * @property {{input: number, output: number}} level root mean squares, 0 to 1; about every 40 ms
 * @property {{what: string, item: number, epoch: number, at: number, time: number}} playout started, flushed, silent, underrun, drained
 * @property {{state: string}} audio of the loudspeaker: suspended or interrupted until `resumeAudio` after a gesture
 * @property {{inputs: MediaDeviceInfo[], outputs: MediaDeviceInfo[]}} devices
 * @property {{muted: boolean}} mute
 * @property {{talking: boolean}} talk
 * @property {{reason: string, stats: object | null}} ended
 */

const NAME = 'parley-web/0.1';
const SILENCE_FRAMES = 40; // 800 ms at the end of what is said by key: the service hears that the turn is over
const FRAME_BYTES = 4 + 480 * 2;
const TOKEN_WITHIN_MS = 10_000;
const DRAIN_WITHIN_MS = 15_000;
const MOVE_EVERY_MS = 10_000;
const SPEECH_LEVEL = 0.02;
/** @param {number} bytes */
const hex = (bytes) => Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (b) => b.toString(16).padStart(2, '0')).join('');

export class ParleyClient extends EventTarget {
  /** @param {Options} options */
  constructor(options) {
    super();
    /** @type {Options & {mode: Mode}} */
    this.options = { mode: 'voice', ...options };
    this.options.gateway ??= new URL('..', import.meta.url).href;
    /** @type {State} */
    this.state = 'idle';
    this.mode = this.options.mode;
    this.pushToTalk = Boolean(this.options.pushToTalk);
    this.muted = this.talking = false;
    /** @type {Line[]} by item */
    this.lines = [];
    /** @type {string | null} */
    this.session = null;
    /** @type {Link | null} */
    this.link = null;
    this.closeAudio();
    this.inputLevel = 0;
    this.attempt = 0;
    /** How long a gateway that goes away is borne until nobody speaks; it ends sessions after 5 s unless told otherwise. */
    this.moveWithinMs = 4_000;
    this.onDevices = async () => {
      const found = await this.devices();
      const ids = found.outputs.map((device) => device.deviceId);
      if (ids.length && !ids.includes(this.options.speaker || ids[0])) this.setSpeaker(''); // unplugged
      this.emit('devices', found);
    };
    this.onVisible = () => document.visibilityState === 'visible' && this.resumeAudio();
  }

  /**
   * Listen; returns what stops it.
   * @template {keyof Events} K
   * @param {K} type @param {(detail: Events[K]) => void} listener @returns {() => void}
   */
  on(type, listener) {
    const heard = (event) => listener(event.detail);
    this.addEventListener(type, heard);
    return () => this.removeEventListener(type, heard);
  }

  /** Whether a session runs, or is being found again. */
  get isConnected() {
    return Boolean(this.link?.ready) && this.state !== 'ended';
  }

  /**
   * Open devices, a token and a session. Call it from a gesture (a click): browsers let nothing sound before one.
   * @param {{mode?: Mode}} [how] @returns {Promise<void>} settled when the agent is there; rejects with a ParleyError
   */
  async connect({ mode = this.options.mode } = {}) {
    if (this.state !== 'idle' && this.state !== 'ended') return;
    const attempt = ++this.attempt;
    Object.assign(this, { mode, lines: [], session: null, muted: false, talking: false, doing: 'listening', endedBy: 'caller', stats: null, epoch: 0, movedMs: -Infinity });
    this.become('connecting');
    try {
      if (mode === 'voice') await this.openAudio();
      if (attempt !== this.attempt) return;
      const ticket = await this.ticket(mode);
      if (attempt !== this.attempt) return;
      await this.openLink(ticket);
    } catch (wrong) {
      if (attempt !== this.attempt) return;
      const error = wrong instanceof ParleyError ? wrong : new ParleyError('session_failed', { message: String(wrong) });
      this.link = null;
      this.closeAudio();
      this.become('idle');
      this.emit('error', error);
      throw error;
    }
  }

  /** End the session: silence at once, then goodbye. */
  async disconnect() {
    this.attempt++;
    const { link } = this;
    if (!link?.ready) {
      link?.drop();
      this.link = null;
      this.closeAudio();
      if (this.state === 'connecting') this.become('idle');
      return;
    }
    const stats = this.stats = await this.measure();
    this.closeAudio();
    link.send({
      type: 'stats', underruns: stats?.underruns ?? 0, late_frames: stats?.lateFrames ?? 0, round_trip_ms: link.roundTripMs,
      output_latency_ms: stats ? stats.latencyS * 1000 : null,
    });
    await link.hangUp();
  }

  /** @param {boolean} muted while true no audio is sent */
  mute(muted) {
    if (this.muted === muted) return;
    if (muted && this.isMicrophoneOpen) this.finishSentence();
    this.muted = muted;
    this.link?.send({ type: 'mute', muted });
    this.emit('mute', { muted });
  }

  /** Type something; while the agent speaks this takes the floor. @param {string} text */
  sendText(text) {
    const words = text.trim();
    if (!this.isConnected) throw new ParleyError('connection_lost');
    if (words) this.link?.send({ type: 'text', text: words });
  }

  /** Open microphone, or only while a key is held. @param {boolean} pushToTalk */
  setPushToTalk(pushToTalk) {
    if (pushToTalk && this.isMicrophoneOpen) this.finishSentence();
    this.talkStop();
    this.pushToTalk = pushToTalk;
  }

  /** The key went down. */
  talkStart() {
    if (this.talking || !this.pushToTalk || !this.isConnected) return;
    if (this.muted) this.mute(false);
    this.talking = true;
    this.link?.send({ type: 'talk', phase: 'start' });
    this.emit('talk', { talking: true });
  }

  /** The key went up. */
  talkStop() {
    if (!this.talking) return;
    this.finishSentence();
    this.talking = false;
    this.link?.send({ type: 'talk', phase: 'stop' });
    this.emit('talk', { talking: false });
  }

  /** Go on by voice or in writing. @param {Mode} mode */
  async setMode(mode) {
    if (mode === this.mode) return;
    if (mode === 'voice') {
      try {
        await this.openAudio();
      } catch (wrong) {
        this.closeAudio();
        this.emit('error', wrong);
        throw wrong;
      }
      this.speaker?.begin(this.epoch);
    } else this.microphone?.close();
    this.mode = mode;
    this.link?.send({ type: 'mode', mode });
  }

  /** Rate the session while it runs. @param {number} rating 1 to 5 @param {string} [comment] */
  rate(rating, comment) {
    if (!Number.isInteger(rating) || rating < 1 || rating > 5) throw new RangeError('a rating is 1 to 5');
    if (!this.isConnected) throw new ParleyError('connection_lost');
    this.link?.send({ type: 'feedback', rating, ...(comment?.trim() ? { comment: comment.trim() } : {}) });
  }

  /** @param {string} deviceId */
  async setMicrophone(deviceId) {
    this.options.microphone = deviceId;
    if (!this.microphone) return;
    try {
      await this.microphone.open(deviceId);
    } catch (wrong) {
      this.emit('error', Object.assign(wrong, { fatal: false }));
    }
  }

  /** @param {string} deviceId */
  async setSpeaker(deviceId) {
    this.options.speaker = deviceId;
    await this.speaker?.choose(deviceId);
  }

  /** @returns {Promise<{inputs: MediaDeviceInfo[], outputs: MediaDeviceInfo[]}>} outputs: none where they cannot be chosen */
  async devices() {
    const found = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
    const of = (kind) => found.filter((d) => d.kind === kind && d.deviceId);
    const canChoose = 'setSinkId' in (globalThis.AudioContext?.prototype ?? {});
    return { inputs: of('audioinput'), outputs: canChoose ? of('audiooutput') : [] };
  }

  /** Let audio sound and be heard again; call it from a gesture when `audio` said suspended. */
  async resumeAudio() {
    await Promise.all([this.speaker?.resume(), this.microphone?.resume()]);
  }

  /** @returns {string} of the loudspeaker: running, suspended, interrupted; '' without one */
  get audioState() {
    return this.speaker?.context.state ?? '';
  }

  /** @returns {Promise<object | null>} what the worklet counts, and the round trip */
  async measure() {
    const counted = await this.speaker?.stats();
    return counted ? { ...counted, roundTripMs: this.link?.roundTripMs ?? null, latencyS: this.speaker?.latencyS } : null;
  }

  // -- devices --------------------------------------------------------------------------------------

  async openAudio() {
    const { captureHz, playbackHz, microphone, speaker } = this.options;
    this.closeAudio();
    const mine = this.speaker = new Speaker({
      send: (message) => this.link?.send(message),
      log: (event) => this.emit('playout', event),
      level: (output) => this.emit('level', { input: this.inputLevel, output }),
      state: (state) => this.emit('audio', { state }),
    }, playbackHz);
    const mic = this.microphone = new Microphone({
      frame: (frame, level) => this.heard(frame, level),
      unplugged: () => this.replaceMicrophone(),
    }, captureHz);
    await Promise.all([mic.open(microphone), mine.open()]);
    if (this.speaker !== mine) return mic.close();
    if (speaker) await mine.choose(speaker);
    navigator.mediaDevices.addEventListener?.('devicechange', this.onDevices);
    document.addEventListener('visibilitychange', this.onVisible);
    return this.onDevices();
  }

  closeAudio() {
    navigator.mediaDevices?.removeEventListener?.('devicechange', this.onDevices);
    document.removeEventListener('visibilitychange', this.onVisible);
    this.microphone?.close();
    this.speaker?.close();
    /** @type {Microphone | null} */
    this.microphone = null;
    /** @type {Speaker | null} */
    this.speaker = null;
  }

  /** The microphone was unplugged: take the default one if there is another. */
  async replaceMicrophone() {
    try {
      await this.microphone?.open();
      this.notice({ code: 'microphone_changed', message: 'Another microphone is used now.' });
    } catch {
      this.microphone?.close();
      this.emit('error', new ParleyError('microphone_unplugged', { fatal: false }));
    }
  }

  get isMicrophoneOpen() {
    return this.isConnected && this.mode === 'voice' && !this.muted && (!this.pushToTalk || this.talking);
  }

  /** @param {ArrayBuffer} frame @param {number} level */
  heard(frame, level) {
    const isOpen = this.isMicrophoneOpen;
    if (isOpen) this.link?.sendFrame(frame);
    this.inputLevel = isOpen ? level : 0;
  }

  /** Silence at once: turn detection waits for some, and none comes from a closed microphone. */
  finishSentence() {
    for (let k = 0; k < SILENCE_FRAMES; k++) this.link?.sendFrame(new ArrayBuffer(FRAME_BYTES));
  }

  // -- the session ----------------------------------------------------------------------------------

  /** @param {Mode} mode @returns {Promise<Ticket>} */
  async ticket(mode) {
    if (this.options.getTicket) return this.options.getTicket(mode);
    let answer, body;
    try {
      answer = await fetch(new URL('v1/tokens', this.options.gateway), {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ business: this.options.business ?? '', channel: 'browser' }),
        signal: AbortSignal.timeout(TOKEN_WITHIN_MS),
      });
      body = await answer.json();
    } catch (wrong) {
      throw new ParleyError('gateway_unreachable', { message: String(wrong) });
    }
    if (!answer.ok) throw errorOf({ code: 'service_unavailable', ...body.error });
    return body;
  }

  /** @param {Ticket} ticket */
  async openLink(ticket) {
    if (ticket.session_id) this.emit('session', { session: ticket.session_id, factsToken: ticket.facts_token ?? null });
    const { locale, timeZone } = Intl.DateTimeFormat().resolvedOptions();
    const opening = {
      mode: this.mode, client: NAME, locale, time_zone: timeZone,
      page: this.options.page ?? location.origin + location.pathname,
      traceparent: `00-${hex(16)}-${hex(8)}-01`,
    };
    const link = (this.link = new Link({
      message: (message) => this.take(message),
      frame: (frame) => this.speaker?.post(frame),
      lost: () => this.become('reconnecting'),
      back: (ready) => this.cameBack(ready),
      over: (error) => this.over(error, link),
    }));
    const ready = await link.open(ticket.url, opening, ticket.token);
    this.session = ready.session;
    this.epoch = ready.epoch;
    this.speaker?.begin(ready.epoch);
    this.become(this.doing);
  }

  /** The session goes on at another socket. @param {any} ready */
  cameBack({ epoch }) {
    this.flush(epoch);
    this.speaker?.post({ type: 'again' });
    if (this.state === 'reconnecting') this.notice({ code: 'reconnected' });
  }

  /** The gateway goes away: leave it while nobody speaks, or before it ends the session. */
  async moveOn() {
    const { link } = this;
    const { socket } = link;
    const now = performance.now();
    if (now - this.movedMs < MOVE_EVERY_MS) return;
    this.movedMs = now;
    while (this.isSomebodySpeaking && performance.now() - now < this.moveWithinMs) await new Promise((done) => setTimeout(done, 100));
    if (socket && link.socket === socket) link.comeBack(true);
  }

  get isSomebodySpeaking() {
    return this.state !== 'listening' || this.talking || this.inputLevel > SPEECH_LEVEL;
  }

  /** @param {any} message */
  take(message) {
    switch (message.type) {
      case 'state': return this.become((this.doing = message.state));
      case 'item': return this.item(message);
      case 'flush': return this.flush(message.epoch);
      case 'pause':
      case 'resume': return this.speaker?.post(message);
      case 'transcript': return this.line(message);
      case 'tool': return this.emit('tool', message);
      case 'notice': return this.notice(message);
      case 'error': return message.fatal ? undefined : this.emit('error', errorOf(message));
      case 'ended': this.endedBy = message.reason;
    }
  }

  item({ number, role, phase, epoch = 0, samples = null }) {
    if (role !== 'assistant') return;
    this.speaker?.post({ type: phase, args: [number, phase === 'begins' ? epoch : samples] });
  }

  /** @param {number} epoch */
  flush(epoch) {
    if (epoch <= this.epoch) return; // said again
    this.epoch = epoch;
    if (this.speaker) this.speaker.flush(epoch);
    else this.link?.send({ type: 'flushed', epoch, item: 0, played: 0 });
  }

  line({ item, role, text, final = false, heard = null }) {
    const line = { item, role, text, final, heard };
    const at = this.lines.findIndex((other) => other.item >= item);
    if (at < 0) this.lines.push(line);
    else this.lines.splice(at, this.lines[at].item === item ? 1 : 0, line);
    this.emit('transcript', line);
  }

  /** @param {{code: string, message?: string}} notice */
  notice({ code, message = '' }) {
    if (code === 'reconnecting') this.become(code);
    if (code === 'reconnected') this.become(this.doing);
    if (code === 'move') this.moveOn();
    this.emit('notice', { code, message });
  }

  /** @param {ParleyError | null} error @param {Link} link */
  async over(error, link) {
    if (this.link !== link) return;
    const stats = this.stats ?? (await this.measure());
    this.link = null;
    // What the agent said before it hung up is still to be heard.
    if (!error && this.speaker && stats?.phase !== 'idle') await this.drained();
    this.closeAudio();
    this.become('ended');
    if (error) this.emit('error', error);
    this.emit('ended', { reason: error?.code ?? this.endedBy, stats });
  }

  drained() {
    this.microphone?.close();
    return new Promise((done) => {
      this.on('playout', ({ what }) => what === 'drained' && done(undefined));
      setTimeout(done, DRAIN_WITHIN_MS);
    });
  }

  /** @param {State} state */
  become(state) {
    if (state === this.state) return;
    const before = this.state;
    this.state = state;
    this.emit('state', { state, before });
  }

  /** @template {keyof Events} K @param {K} type @param {Events[K]} detail */
  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
