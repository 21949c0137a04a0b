/**
 * Changes the sample rate of a stream: a polyphase windowed sinc, exact over any length.
 *
 * Pure: it knows no worklet. Law: the band below 0.41 of the lower rate passes flat, what could alias is more than
 * 80 dB down, and output n stands at input n * from / to, for ever: positions are integers, nothing drifts.
 */

const HALF_WIDTH = 32; // samples of the lower rate on each side of the centre
const BETA = 9; // Kaiser window: side lobes about 90 dB down, transition 0.089 of the lower rate
const CUTOFF = 0.455; // of the lower rate: the transition ends at its half
const PHASES_MAX = 1024; // odd rates beyond this take the nearest phase

/** @param {number} x @returns {number} the modified Bessel function of order 0 */
function bessel(x) {
  let sum = 1;
  let term = 1;
  for (let k = 1; term > sum * 1e-12; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

/** @param {number} a @param {number} b @returns {number} */
const gcd = (a, b) => (b ? gcd(b, a % b) : a);

export class Resampler {
  /** @param {number} fromHz @param {number} toHz */
  constructor(fromHz, toHz) {
    const from = Math.round(fromHz);
    const to = Math.round(toHz);
    const shared = gcd(from, to);
    this.up = to / shared;
    this.down = from / shared;
    // With a half of 1 the filter is one tap of 1: the same rate passes as it is.
    this.half = from === to ? 1 : Math.ceil(HALF_WIDTH * Math.max(1, from / to));
    this.taps = 2 * this.half;
    this.phase = 0; // of the next output, in 1/up of an input sample
    this.phases = Math.min(this.up, PHASES_MAX);
    this.table = this.design(Math.min(1, to / from));
    this.held = new Float32Array(this.taps + 4096);
    this.count = this.half - 1; // silence before the first sample puts output 0 on input 0
  }

  /** How many input samples are taken in before they come out: the filter looks ahead. */
  get delay() {
    return this.half;
  }

  /** @param {number} ratio of the lower rate to the input's @returns {Float32Array} taps by phase */
  design(ratio) {
    const table = new Float32Array(this.phases * this.taps);
    const norm = bessel(BETA);
    for (let p = 0; p < this.phases; p++) {
      let sum = 0;
      for (let k = 0; k < this.taps; k++) {
        const t = k - (this.half - 1) - p / this.phases;
        const edge = t / this.half;
        const window = Math.abs(edge) >= 1 ? 0 : bessel(BETA * Math.sqrt(1 - edge * edge)) / norm;
        const x = 2 * CUTOFF * ratio * t;
        table[p * this.taps + k] = (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x)) * window;
        sum += table[p * this.taps + k];
      }
      for (let k = 0; k < this.taps; k++) table[p * this.taps + k] /= sum; // each phase passes level 1 as 1
    }
    return table;
  }

  /** How many input samples must be given so that `count` outputs come. @param {number} count @returns {number} */
  needed(count) {
    const last = Math.floor((this.phase + (count - 1) * this.down) / this.up);
    return Math.max(0, last + this.taps - this.count);
  }

  /**
   * Take `input` in, and write what can be said of it.
   * @param {Float32Array} input @param {Float32Array} output @returns {number} samples written; the rest waits
   */
  process(input, output) {
    this.take(input);
    const { taps, table, held, up, down, phases } = this;
    let at = 0;
    let written = 0;
    while (written < output.length && at + taps <= this.count) {
      const row = (phases === up ? this.phase : Math.min(phases - 1, Math.round((this.phase * phases) / up))) * taps;
      let sum = 0;
      for (let k = 0; k < taps; k++) sum += table[row + k] * held[at + k];
      output[written++] = sum;
      this.phase += down;
      at += Math.floor(this.phase / up);
      this.phase %= up;
    }
    // An output may lie beyond what is held: then the phase keeps the whole distance.
    const drop = Math.min(at, this.count);
    held.copyWithin(0, drop, this.count);
    this.count -= drop;
    this.phase += (at - drop) * up;
    return written;
  }

  /** @param {Float32Array} input */
  take(input) {
    if (this.count + input.length > this.held.length) {
      const larger = new Float32Array(2 * (this.count + input.length));
      larger.set(this.held.subarray(0, this.count));
      this.held = larger;
    }
    this.held.set(input, this.count);
    this.count += input.length;
  }
}
