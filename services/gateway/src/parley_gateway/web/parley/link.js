/**
 * The socket to the gateway: opens it, keeps it alive, and finds the session again when it breaks.
 *
 * It understands `ready`, `error`, `ended`, `pong` and `notice` as far as the socket needs; everything is handed on.
 * Law: it ends in exactly one `over`; it never tries for ever, and without a resume token not at all.
 */

import { errorOf, ParleyError } from './errors.js';

/**
 * @typedef {object} Hooks
 * @property {(message: any) => void} message a message of the service
 * @property {(frame: ArrayBuffer) => void} frame an audio frame
 * @property {() => void} lost the socket broke; it is tried to come back
 * @property {(ready: any) => void} back the session goes on after that
 * @property {(error: ParleyError | null) => void} over nothing more comes; null: as it should be
 */

const SUBPROTOCOL = 'parley.v1';
const READY_WITHIN_MS = 15_000;
const CLOSE_WITHIN_MS = 3_000;
const RESUME_WITHIN_MS = 30_000;
const BACKOFF_MS = [200, 500, 1_000, 2_000];
const UNSENT_MAX_BYTES = 240_000; // five seconds of audio: beyond, the line is too slow and old audio is of no use
const KEPT_FRAMES_MAX = 500;

const wait = (ms) => new Promise((done) => setTimeout(done, ms));

export class Link {
  /** @param {Hooks} hooks */
  constructor(hooks) {
    this.hooks = hooks;
    /** @type {WebSocket | null} */
    this.socket = null;
    /** @type {any} the service's last `ready` */
    this.ready = null;
    this.roundTripMs = null;
    this.isOver = false;
    this.isEnding = false;
    this.fatal = null;
    this.sample = 0;
    /** @type {{first: number, frame: ArrayBuffer}[]} sent lately, for a service that missed some */
    this.kept = [];
  }

  /** @param {string} url @param {object} opening what `open` says beside the token @param {string} token @returns {Promise<any>} the `ready` */
  async open(url, opening, token) {
    this.url = url;
    this.opening = opening;
    return this.dial({ token });
  }

  /** @param {object} message */
  send(message) {
    if (this.socket?.readyState === WebSocket.OPEN && this.ready) this.socket.send(JSON.stringify(message));
  }

  /** Send one uplink frame; its four header bytes are filled in here. @param {ArrayBuffer} frame */
  sendFrame(frame) {
    new DataView(frame).setUint32(0, this.sample, true);
    this.kept.push({ first: this.sample, frame });
    if (this.kept.length > KEPT_FRAMES_MAX) this.kept.shift();
    this.sample = (this.sample + (frame.byteLength - 4) / 2) >>> 0;
    if (this.socket?.readyState === WebSocket.OPEN && this.socket.bufferedAmount < UNSENT_MAX_BYTES) this.socket.send(frame);
  }

  /** Say goodbye and wait, but not for ever, for the service to close. */
  async hangUp() {
    if (this.isOver || this.isEnding) return;
    this.isEnding = true;
    this.send({ type: 'hangup' });
    const closed = new Promise((done) => (this.onClosed = done));
    if (this.socket?.readyState === WebSocket.OPEN) await Promise.race([closed, wait(CLOSE_WITHIN_MS)]);
    this.end(null);
  }

  /** @param {ParleyError | null} error */
  end(error) {
    if (this.isOver) return;
    this.isOver = true;
    this.drop();
    this.hooks.over(error);
  }

  // -- inside ---------------------------------------------------------------------------------------

  drop() {
    clearInterval(this.pinging);
    const { socket } = this;
    this.socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  /** @param {{token?: string, resume?: string}} by @returns {Promise<any>} */
  dial(by) {
    return new Promise((resolve, reject) => {
      const socket = new WebSocket(this.url, SUBPROTOCOL);
      socket.binaryType = 'arraybuffer';
      this.socket = socket;
      let opened = false;
      const fail = (error) => {
        clearTimeout(late);
        if (this.socket === socket) this.drop();
        reject(error);
      };
      const late = setTimeout(() => fail(new ParleyError('not_ready')), READY_WITHIN_MS);
      socket.onopen = () => {
        opened = true;
        socket.send(JSON.stringify({ type: 'open', ...this.opening, ...by }));
      };
      socket.onclose = ({ reason }) => fail(opened && reason ? errorOf({ code: reason }) : new ParleyError('gateway_unreachable'));
      socket.onmessage = ({ data }) => {
        const message = typeof data === 'string' ? JSON.parse(data) : null;
        if (message?.type === 'error') fail(errorOf(message));
        if (message?.type !== 'ready') return;
        clearTimeout(late);
        this.listen(socket, message);
        resolve(message);
      };
    });
  }

  /** @param {WebSocket} socket @param {any} ready */
  listen(socket, ready) {
    this.ready = ready;
    this.heardMs = performance.now();
    socket.onmessage = ({ data }) => this.take(data);
    socket.onclose = ({ reason }) => this.closed(reason);
    const { ping_every_ms: everyMs = 5_000, lost_after_ms: lostMs = 15_000 } = ready.limits ?? {};
    let due = performance.now() + everyMs;
    this.ping();
    this.pinging = setInterval(() => {
      const now = performance.now();
      // After a sleep of this tab, what came meanwhile is not read yet: ask, and judge the next time.
      if (now - due > everyMs) this.heardMs = Math.max(this.heardMs, now - lostMs + 2 * everyMs);
      due = now + everyMs;
      if (now - this.heardMs >= lostMs) this.broke();
      else this.ping();
    }, everyMs);
  }

  ping() {
    this.send({ type: 'ping', t_ms: performance.now() });
  }

  /** @param {string | ArrayBuffer} data */
  take(data) {
    this.heardMs = performance.now();
    if (typeof data !== 'string') return this.hooks.frame(data);
    const message = JSON.parse(data);
    if (message.type === 'pong') this.roundTripMs = Math.max(0, this.heardMs - message.t_ms);
    if (message.type === 'ended') this.isEnding = true;
    if (message.type === 'error' && message.fatal) this.fatal = errorOf(message);
    if (message.type === 'notice' && message.code === 'replaced') this.fatal = new ParleyError('replaced');
    if (message.resume) this.ready = { ...this.ready, resume: message.resume };
    return this.hooks.message(message);
  }

  /** @param {string} reason */
  closed(reason) {
    this.onClosed?.();
    if (this.isEnding || this.fatal) this.end(this.fatal);
    else if (/^[a-z_]+$/.test(reason)) this.end(errorOf({ code: reason }));
    else this.broke();
  }

  /** The socket is gone and nobody said why: come back if we were told how. */
  async broke() {
    this.drop();
    if (!this.ready?.resume) return this.end(new ParleyError('connection_lost'));
    this.hooks.lost();
    const giveUpMs = performance.now() + RESUME_WITHIN_MS;
    for (let attempt = 0; !this.isOver && performance.now() < giveUpMs; attempt++) {
      await wait(BACKOFF_MS[Math.min(attempt, BACKOFF_MS.length - 1)]);
      if (this.isOver) return undefined;
      try {
        const ready = await this.dial({ resume: this.ready.resume });
        this.sendAgain(ready.uplink_sample);
        return this.hooks.back(ready);
      } catch (wrong) {
        const passes = ['gateway_unreachable', 'not_ready', 'service_unavailable'].includes(wrong.code);
        if (!passes) return this.end(wrong);
      }
    }
    return this.end(new ParleyError('conversation_lost'));
  }

  /** @param {number} expected the next uplink sample that the service waits for */
  sendAgain(expected) {
    for (const { first, frame } of this.kept) if (first >= expected) this.socket?.send(frame);
  }
}
