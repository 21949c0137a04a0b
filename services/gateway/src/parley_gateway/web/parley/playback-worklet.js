/**
 * The loudspeaker, on the audio thread: takes frames and control as they came from the socket, renders them at the
 * device's rate, and posts what has to be told: reports, the answer to a flush, and its own log.
 *
 * What is played when is playout.js's business.
 */

import { Playout } from './playout.js';
import { Resampler } from './resampler.js';

const RATE_HZ = 24000;
const HEADER_BYTES = 12;
const LEVEL_EVERY = sampleRate / 25;

class Playback extends AudioWorkletProcessor {
  constructor() {
    super();
    this.playout = new Playout((event) => this.port.postMessage({ log: { ...event, time: currentTime } }));
    this.resampler = new Resampler(RATE_HZ, sampleRate);
    this.source = new Float32Array(256);
    this.energy = 0;
    this.rendered = 0;
    this.isOver = false;
    this.setLatency(0);
    this.port.onmessage = ({ data }) => this.take(data);
  }

  /** An audio frame, or what is to be done; what is not done here, the playout buffer does. @param {any} data */
  take(data) {
    if (data instanceof ArrayBuffer) return this.frame(data);
    const { type, args = [] } = data;
    return this[type] ? this[type](...args) : this.playout[type](...args);
  }

  /** @param {ArrayBuffer} data u32 epoch, u32 item, u32 first sample, PCM16; little-endian like every browser's arrays */
  frame(data) {
    if (data.byteLength <= HEADER_BYTES || data.byteLength % 2) return void this.playout.odd('odd_frame');
    const [epoch, item, first] = new Uint32Array(data, 0, 3);
    this.playout.frame(epoch, item, first, new Int16Array(data, HEADER_BYTES));
  }

  flush(epoch) {
    const answer = this.playout.flush(epoch);
    if (answer) this.port.postMessage(answer);
  }

  again() {
    for (const report of this.playout.again()) this.port.postMessage({ report });
  }

  stats() {
    this.port.postMessage({ stats: { ...this.playout.stats(), sampleRate, latencySamples: this.latencySamples } });
  }

  over() {
    this.isOver = true;
  }

  /** @param {number} seconds */
  setLatency(seconds) {
    this.latencySamples = Math.round(seconds * RATE_HZ);
    this.playout.delay = this.resampler.delay + this.latencySamples;
  }

  /** @param {any} _ @param {Float32Array[][]} outputs @returns {boolean} */
  process(_, [[out]]) {
    const count = this.resampler.needed(out.length);
    if (this.source.length < count) this.source = new Float32Array(count);
    const source = this.source.subarray(0, count);
    this.playout.read(source);
    this.resampler.process(source, out);
    for (const report of this.playout.reports()) this.port.postMessage({ report });
    this.tellLevel(out);
    return !this.isOver;
  }

  /** @param {Float32Array} out */
  tellLevel(out) {
    for (const sample of out) this.energy += sample * sample;
    this.rendered += out.length;
    if (this.rendered < LEVEL_EVERY) return;
    this.port.postMessage({ level: Math.sqrt(this.energy / this.rendered) });
    this.energy = this.rendered = 0;
  }
}

registerProcessor('parley-playback', Playback);
