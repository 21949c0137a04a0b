/**
 * The browser's audio devices: a microphone and a loudspeaker, each with an audio context and worklet of its own.
 *
 * Two contexts, because devices have clocks and rates of their own. What is sent and played is decided elsewhere.
 */

import { microphoneError, ParleyError } from './errors.js';

/** Where a browser hides its output latency: what wired loudspeakers usually take. */
const LATENCY_DEFAULT_S = 0.04;
const FLUSH_ANSWER_MS = 120; // the service waits 300; a context that sleeps does not answer
const LATENCY_EVERY_MS = 1_000;

const load = (context, name) => context.audioWorklet.addModule(new URL(name, import.meta.url).href)
  .catch((wrong) => { throw new ParleyError('gateway_unreachable', { message: String(wrong) }); });

/** @param {number} [sampleRate] null: the device's own @returns {AudioContext} */
function makeContext(sampleRate) {
  if (!globalThis.AudioContext || !globalThis.AudioWorkletNode) throw new ParleyError('audio_unsupported');
  return new AudioContext({ latencyHint: 'interactive', ...(sampleRate ? { sampleRate } : {}) });
}

export class Microphone {
  /**
   * @param {object} hooks
   * @param {(frame: ArrayBuffer, level: number) => void} hooks.frame every 20 ms
   * @param {() => void} hooks.unplugged
   * @param {number} [rateHz]
   */
  constructor(hooks, rateHz) {
    this.hooks = hooks;
    this.rateHz = rateHz;
    this.deviceId = '';
  }

  /** Ask for a microphone. @param {string} [deviceId] '' is the default one */
  async open(deviceId = '') {
    if (!navigator.mediaDevices?.getUserMedia) throw new ParleyError('insecure_page');
    const audio = {
      echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1,
      ...(deviceId ? { deviceId: { exact: deviceId } } : {}),
    };
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio });
    } catch (wrong) {
      throw microphoneError(wrong);
    }
    this.close();
    this.stream = stream;
    this.deviceId = stream.getAudioTracks()[0].getSettings().deviceId ?? deviceId;
    stream.getAudioTracks()[0].onended = () => this.hooks.unplugged();
    const context = makeContext(this.rateHz);
    this.context = context;
    await load(context, 'capture-worklet.js');
    if (this.context !== context) return; // closed, or opened again, meanwhile
    const node = new AudioWorkletNode(context, 'parley-capture', { numberOfOutputs: 0, channelCount: 1, channelCountMode: 'explicit' });
    node.port.onmessage = ({ data }) => this.hooks.frame(data.frame, data.level);
    context.createMediaStreamSource(stream).connect(node);
  }

  resume() {
    return this.context?.resume();
  }

  close() {
    for (const track of this.stream?.getTracks() ?? []) {
      track.onended = null;
      track.stop();
    }
    this.context?.close();
    this.context = this.stream = undefined;
  }
}

export class Speaker {
  /**
   * @param {object} hooks
   * @param {(message: object) => void} hooks.send reports and answers to flushes, for the service
   * @param {(event: {what: string, item: number, epoch: number, at: number, time: number}) => void} hooks.log
   * @param {(level: number) => void} hooks.level
   * @param {(state: string) => void} hooks.state of the context: running, suspended, interrupted
   * @param {number} [rateHz]
   */
  constructor(hooks, rateHz) {
    this.hooks = hooks;
    this.context = makeContext(rateHz); // at once, while the browser still sees the gesture of the caller
    this.context.onstatechange = () => hooks.state(this.context.state);
    this.last = null;
    /** @type {Map<number, number>} timers of flushes that are not answered, by epoch */
    this.flushes = new Map();
    /** @type {((stats: any) => void)[]} who waits for the worklet's counters */
    this.asked = [];
  }

  async open() {
    await load(this.context, 'playback-worklet.js');
    if (this.context.state === 'closed') return;
    this.node = new AudioWorkletNode(this.context, 'parley-playback', { numberOfInputs: 0, outputChannelCount: [1] });
    this.node.port.onmessage = ({ data }) => this.told(data);
    this.node.connect(this.context.destination);
    this.tellLatency();
    this.watching = setInterval(() => this.tellLatency(), LATENCY_EVERY_MS);
    this.context.resume();
    this.hooks.state(this.context.state);
  }

  /** Seconds from rendering to the ear, as far as the browser says. */
  get latencyS() {
    const { baseLatency = 0, outputLatency } = this.context;
    return outputLatency > 0 ? baseLatency + outputLatency : LATENCY_DEFAULT_S;
  }

  /** @param {object | ArrayBuffer} message for the worklet, in the order of the socket */
  post(message) {
    if (message instanceof ArrayBuffer) this.node?.port.postMessage(message, [message]);
    else this.node?.port.postMessage(message);
  }

  /** The session begins with this epoch. @param {number} epoch */
  begin(epoch) {
    this.post({ type: 'startEpoch', args: [epoch] });
  }

  /** @param {number} epoch */
  flush(epoch) {
    this.post({ type: 'flush', args: [epoch] });
    this.flushes.set(epoch, setTimeout(() => this.answer(epoch, this.last?.item ?? 0, this.last?.played ?? 0), FLUSH_ANSWER_MS));
  }

  resume() {
    return this.context.resume();
  }

  /** @param {string} deviceId */
  async choose(deviceId) {
    await this.context.setSinkId?.(deviceId);
  }

  /** @returns {Promise<any>} the worklet's own counters; null when it does not answer */
  stats() {
    if (!this.node) return Promise.resolve(null);
    return new Promise((done) => {
      this.asked.push(done);
      this.post({ type: 'stats' });
      setTimeout(() => done(null), 1_000);
    });
  }

  close() {
    clearInterval(this.watching);
    for (const timer of this.flushes.values()) clearTimeout(timer);
    this.flushes.clear();
    this.context.onstatechange = null;
    this.post({ type: 'over' });
    if (this.context.state !== 'closed') this.context.close();
  }

  // -- inside ---------------------------------------------------------------------------------------

  tellLatency() {
    this.post({ type: 'setLatency', args: [this.latencyS] });
  }

  /** @param {any} data */
  told({ report, flushed, log, level, stats }) {
    if (report) {
      this.last = report;
      this.hooks.send({ type: 'playout', ...report });
    }
    if (flushed) this.answer(flushed.epoch, flushed.item, flushed.played);
    if (log) this.hooks.log(log);
    if (level !== undefined) this.hooks.level(level);
    if (stats) for (const done of this.asked.splice(0)) done(stats);
  }

  /** Once per flush. @param {number} epoch @param {number} item @param {number} played */
  answer(epoch, item, played) {
    if (!this.flushes.has(epoch)) return;
    clearTimeout(this.flushes.get(epoch));
    this.flushes.delete(epoch);
    this.last = null;
    this.hooks.send({ type: 'flushed', epoch, item, played });
  }
}
