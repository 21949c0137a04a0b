/** Prints, as JSON, how well the resampler keeps a tone: signal to noise, distortion, gain, and what aliases. */
import { pathToFileURL } from 'node:url';

const { Resampler } = await import(pathToFileURL(`${process.argv[2]}/resampler.js`));

function through(from, to, hz, seconds = 1) {
  const input = Float32Array.from({ length: from * seconds }, (_, n) => 0.5 * Math.sin((2 * Math.PI * hz * n) / from));
  const resampler = new Resampler(from, to);
  const block = new Float32Array(4096);
  const out = [];
  for (let at = 0; at < input.length; at += 128) {
    const written = resampler.process(input.subarray(at, at + 128), block);
    for (let k = 0; k < written; k++) out.push(block[k]);
  }
  return out.slice(to / 10, -to / 10);
}

/** Least squares of sines at the given frequencies; returns their amplitudes and the power that is left. */
function fit(signal, rate, frequencies) {
  const columns = frequencies.flatMap((hz) => [Math.sin, Math.cos].map((f) => signal.map((_, n) => f((2 * Math.PI * hz * n) / rate))));
  const dot = (a, b) => a.reduce((sum, x, n) => sum + x * b[n], 0);
  const rows = columns.map((a) => [...columns.map((b) => dot(a, b)), dot(a, signal)]);
  for (let i = 0; i < rows.length; i++) {
    for (let j = 0; j < rows.length; j++) {
      if (i === j) continue;
      const factor = rows[j][i] / rows[i][i];
      rows[j] = rows[j].map((x, k) => x - factor * rows[i][k]);
    }
  }
  const weights = rows.map((row, i) => row.at(-1) / row[i]);
  const left = signal.map((x, n) => x - columns.reduce((sum, c, i) => sum + weights[i] * c[n], 0));
  return { amplitudes: frequencies.map((_, i) => Math.hypot(weights[2 * i], weights[2 * i + 1])), noise: dot(left, left) / left.length };
}

const db = (ratio) => 10 * Math.log10(ratio);
const results = [];
for (const [from, to] of [[48000, 24000], [44100, 24000], [16000, 24000], [96000, 24000], [24000, 48000], [24000, 44100], [24000, 16000]]) {
  const top = 0.41 * Math.min(from, to);
  for (const hz of [100, 1000, 3000, 0.6 * top, top].map(Math.round)) {
    const out = through(from, to, hz);
    const { amplitudes: [level], noise } = fit(out, to, [hz]);
    const harmonics = [2, 3, 4, 5].map((n) => n * hz).filter((n) => n < 0.45 * to);
    const { amplitudes: [, ...overtones] } = fit(out, to, [hz, ...harmonics]);
    const thd = db(Math.max(1e-20, overtones.reduce((sum, a) => sum + a * a, 0)) / (level * level));
    results.push({ from, to, hz, snr_db: db((level * level) / 2 / noise), thd_db: thd, gain_db: 2 * db(level / 0.5) });
  }
  if (to < from) {
    const out = through(from, to, Math.round(0.56 * to));
    results.push({ from, to, alias_db: db(out.reduce((sum, x) => sum + x * x, 0) / out.length / 0.125) });
  }
}
const long = new Resampler(44100, 24000);
let written = 0;
for (let n = 0; n < 44100 * 60; n += 441) written += long.process(new Float32Array(441), new Float32Array(512));
console.log(JSON.stringify({ results, samples_of_a_minute: written }));
