/**
 * The microphone, on the audio thread: any device rate in, 20 ms frames of PCM16 at 24 kHz out.
 *
 * It knows no socket: each frame is posted as an uplink frame whose four header bytes are still empty.
 */

import { Resampler } from './resampler.js';

const RATE_HZ = 24000;
const FRAME_SAMPLES = 480;
const HEADER_BYTES = 4;

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resampler = new Resampler(sampleRate, RATE_HZ);
    this.pcm = new Float32Array(512); // a quantum at 8 kHz becomes three
    this.begin();
  }

  begin() {
    this.frame = new Int16Array(HEADER_BYTES / 2 + FRAME_SAMPLES);
    this.count = 0;
    this.energy = 0;
  }

  /** @param {Float32Array[][]} inputs one, mixed down to one channel by its node @returns {boolean} */
  process([[mono]]) {
    const written = mono ? this.resampler.process(mono, this.pcm) : 0;
    for (let k = 0; k < written; k++) this.put(this.pcm[k]);
    return true;
  }

  /** @param {number} sample */
  put(sample) {
    this.frame[HEADER_BYTES / 2 + this.count++] = Math.max(-32768, Math.min(32767, Math.round(sample * 32767)));
    this.energy += sample * sample;
    if (this.count < FRAME_SAMPLES) return;
    const { buffer } = this.frame;
    this.port.postMessage({ frame: buffer, level: Math.sqrt(this.energy / FRAME_SAMPLES) }, [buffer]);
    this.begin();
  }
}

registerProcessor('parley-capture', Capture);
