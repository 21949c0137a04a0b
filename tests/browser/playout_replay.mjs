/** Plays scenarios (JSON on stdin) on the client's playout buffer and prints what it answered: for a comparison. */
import { pathToFileURL } from 'node:url';
import { text } from 'node:stream/consumers';

const { Playout } = await import(pathToFileURL(`${process.argv[2]}/playout.js`));

function play(steps) {
  const playout = new Playout();
  // The reference has no jitter buffer, and takes its output latency as zero.
  Object.defineProperty(playout, 'targetMs', { get: () => 0, set() {} });
  const answers = [];
  for (const [what, ...args] of steps) {
    if (what === 'frame') {
      const [epoch, item, first, count] = args;
      playout.frame(epoch, item, first, Int16Array.from({ length: count }, (_, n) => first + n + 1));
    } else if (what === 'flush') {
      const answer = playout.flush(args[0]);
      answers.push(answer ? { ...answer.flushed } : null);
    } else if (what === 'pass') playout.read(new Float32Array(args[0] * 24));
    else playout[what](...args);
  }
  playout.hear();
  const items = playout.stats().items.map(({ number, received, played }) => [number, received, played]);
  return { answers, items, oddities: playout.oddities };
}

console.log(JSON.stringify(JSON.parse(await text(process.stdin)).map(play)));
