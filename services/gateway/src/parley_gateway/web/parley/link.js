/**
 * The socket to the gateway: opens it, keeps it alive, and finds the session again when it breaks.
 *
 * It counts what arrived of each item and keeps what the caller said lately, so that a later socket goes on where the
 * last one broke off. It understands messages as far as the socket needs; everything is handed on.
 *
 * Law: it ends in exactly one `over`; it never tries for ever, not without a resume token, and not after it was told
 * that another socket has the session.
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

const READY_WITHIN_MS = 15_000;
const BACK_WITHIN_MS = 8_000;
const CLOSE_WITHIN_MS = 3_000;
const GRACE_MS = 30_000;
const BACKOFF_MS = 200;
const BACKOFF_MOST_MS = 3_000;
const UNSENT_MAX_BYTES = 240_000; // five seconds of audio: beyond, the line is too slow and old audio is of no use
const KEPT_MAX = 500; // ten seconds of frames
const HAVE_MAX = 100;
const CLOSED_LOST = 4000; // 1000, 1001 and no code would mean that the caller is done
const PLACED = /^(mute|mode|talk)$/; // means something between two frames, and may be said twice
const SAID = /^(text|feedback)$/; // may not

/** The network's return ends a wait early. @param {number} ms */
const wait = (ms) => new Promise((done) => {
  setTimeout(done, ms);
  addEventListener('online', done, { once: true });
});

export class Link {
  /** @param {Hooks} hooks */
  constructor(hooks) {
    this.hooks = hooks;
    /** @type {WebSocket | null} */
    this.socket = null;
    /** Whether `ready` came on this socket: nothing is sent before it. */
    this.isLive = false;
    /** @type {any} the service's last `ready` */
    this.ready = null;
    this.roundTripMs = null;
    this.isOver = this.isEnding = false;
    this.fatal = null;
    this.sample = 0;
    /** @type {{data: string | ArrayBuffer, first?: number, isSaid?: boolean}[]} of the caller, lately, in order */
    this.kept = [];
    /** @type {Map<number, number>} samples that arrived, by item */
    this.received = new Map();
  }

  /** @param {string} url @param {object} opening what `open` says beside the token @param {string} token @returns {Promise<any>} the `ready` */
  async open(url, opening, token) {
    this.url = url;
    this.opening = opening;
    return this.dial({ token });
  }

  /** Send now; while the socket is away, what the caller does waits and all else is void. @param {any} message */
  send(message) {
    const data = JSON.stringify(message);
    const isSaid = SAID.test(message.type) && !this.isLive;
    if (this.isLive) this.socket?.send(data);
    if (isSaid || PLACED.test(message.type)) this.keep({ data, isSaid });
  }

  /** Send one uplink frame; its four header bytes are filled in here. @param {ArrayBuffer} data */
  sendFrame(data) {
    new DataView(data).setUint32(0, this.sample, true);
    this.keep({ data, first: this.sample });
    this.sample = (this.sample + (data.byteLength - 4) / 2) >>> 0;
    if (this.isLive && this.socket.bufferedAmount < UNSENT_MAX_BYTES) this.socket.send(data);
  }

  /** Say goodbye and wait, but not for ever, for the service to close. */
  async hangUp() {
    if (this.isOver || this.isEnding) return;
    this.isEnding = true;
    this.send({ type: 'hangup' });
    const closed = new Promise((done) => (this.onClosed = done));
    if (this.isLive) await Promise.race([closed, wait(CLOSE_WITHIN_MS)]);
    this.end(null);
  }

  /** @param {ParleyError | null} error */
  end(error) {
    if (this.isOver) return;
    this.isOver = true;
    this.drop();
    this.hooks.over(error);
  }

  /** The socket broke, or is to be left: go on at another. @param {boolean} [isMove] the caller need not hear of it */
  async comeBack(isMove = false) {
    if (!this.ready.resume) return this.end(new ParleyError('connection_lost'));
    this.drop(CLOSED_LOST);
    if (!isMove) this.hooks.lost();
    const giveUpMs = performance.now() + (this.ready.limits?.resume_grace_ms ?? GRACE_MS);
    for (let backoffMs = BACKOFF_MS; !this.isOver; backoffMs = Math.min(BACKOFF_MOST_MS, 2 * backoffMs)) {
      const have = [...this.received].map(([item, received]) => ({ item, received }));
      try {
        return this.hooks.back(await this.dial({ resume: this.ready.resume, have }));
      } catch (wrong) {
        if (!wrong.retryAfterS && !/^(gateway_unreachable|not_ready)$/.test(wrong.code)) return this.end(wrong);
        const waitMs = Math.max((wrong.retryAfterS ?? 0) * 1000, backoffMs * (0.5 + Math.random() / 2));
        if (performance.now() + waitMs > giveUpMs) return this.end(new ParleyError('conversation_lost'));
        if (!this.isOver) this.hooks.lost();
        await wait(waitMs);
      }
    }
    return undefined;
  }

  /** @param {number} [code] */
  drop(code) {
    clearInterval(this.pinging);
    const { socket } = this;
    this.socket = null;
    this.isLive = false;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(code);
  }

  // -- inside ---------------------------------------------------------------------------------------

  /** @param {{token?: string, resume?: string, have?: object[]}} by @returns {Promise<any>} */
  dial(by) {
    return new Promise((resolve, reject) => {
      const socket = (this.socket = new WebSocket(this.url, 'parley.v1'));
      socket.binaryType = 'arraybuffer';
      const fail = (error) => {
        clearTimeout(late);
        if (this.socket === socket) this.drop();
        reject(error);
      };
      const late = setTimeout(() => fail(new ParleyError('not_ready')), by.resume ? BACK_WITHIN_MS : READY_WITHIN_MS);
      socket.onopen = () => socket.send(JSON.stringify({ type: 'open', ...this.opening, ...by }));
      socket.onclose = () => fail(new ParleyError('gateway_unreachable'));
      socket.onmessage = ({ data }) => {
        const message = typeof data === 'string' ? JSON.parse(data) : {};
        if (message.type === 'error') fail(errorOf(message));
        if (message.type !== 'ready') return;
        clearTimeout(late);
        this.listen(socket, message);
        resolve(message);
      };
    });
  }

  /** @param {WebSocket} socket @param {any} ready */
  listen(socket, ready) {
    this.ready = ready;
    this.isLive = true;
    this.heardMs = performance.now();
    socket.onmessage = ({ data }) => this.take(data);
    socket.onclose = () => this.closed();
    this.sendAgain(ready.uplink_sample);
    const { ping_every_ms: everyMs = 5_000, lost_after_ms: lostMs = 15_000 } = ready.limits ?? {};
    this.ping();
    this.pinging = setInterval(() => {
      // A tab that slept may be wrong here; coming back costs nothing then.
      if (performance.now() - this.heardMs >= lostMs) this.comeBack();
      else this.ping();
    }, everyMs);
  }

  ping() {
    this.send({ type: 'ping', t_ms: performance.now() });
  }

  /** @param {string | ArrayBuffer} data */
  take(data) {
    this.heardMs = performance.now();
    if (typeof data !== 'string') {
      this.count(data);
      return this.hooks.frame(data);
    }
    const message = JSON.parse(data);
    if (message.type === 'pong') this.roundTripMs = Math.max(0, this.heardMs - message.t_ms);
    if (message.type === 'ended') this.isEnding = true;
    // Who was lost may come back; everything else that is fatal is the end.
    if (message.type === 'error' && message.fatal && message.code !== 'client_lost') this.fatal = errorOf(message);
    if (message.type === 'notice' && message.code === 'replaced') this.fatal = new ParleyError('replaced');
    if (message.resume) this.ready.resume = message.resume;
    return this.hooks.message(message);
  }

  closed() {
    this.onClosed?.();
    if (this.isEnding || this.fatal) this.end(this.fatal);
    else this.comeBack();
  }

  /** What arrived without a hole; the playout buffer takes no other. @param {ArrayBuffer} frame */
  count(frame) {
    if (frame.byteLength <= 12) return;
    const [, item, first] = new Uint32Array(frame, 0, 3);
    const had = this.received.get(item) ?? 0;
    if (first <= had) this.received.set(item, Math.max(had, first + (frame.byteLength - 12) / 2));
    if (this.received.size > HAVE_MAX) this.received.delete(this.received.keys().next().value);
  }

  /** @param {{data: string | ArrayBuffer, first?: number, isSaid?: boolean}} entry */
  keep(entry) {
    this.kept.push(entry);
    if (this.kept.length > KEPT_MAX) this.kept.shift();
  }

  /** @param {number} expected the next uplink sample that the service waits for */
  sendAgain(expected) {
    const from = this.kept.findLastIndex(({ first }) => first < expected) + 1;
    for (const { data } of this.kept.slice(from)) this.socket?.send(data);
    this.kept = this.kept.filter(({ isSaid }) => !isSaid);
  }
}
