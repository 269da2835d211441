// Follows the stream of events, for as long as it is wanted, over breaks.
import { request, events } from './api.js';

/**
 * onLine gets each event; { type: 'ready' } begins each connection, and after
 * { type: 'missed' } what was seen before may be out of date. onState gets "live" or
 * "waiting". Returns a function that ends it.
 */
export function follow(query, onLine, onState) {
  const control = new AbortController();
  run(control.signal, new URLSearchParams(query), onLine, onState);
  return () => control.abort();
}

async function run(signal, query, onLine, onState) {
  let pause = 300;
  for (let first = true; !signal.aborted; first = false) {
    try {
      const answer = await request('GET', `events?${query}`, { signal });
      if (answer.status === 401) return;
      if (answer.ok) {
        if (!first) onLine({ type: 'missed' });
        onState('live');
        pause = 300;
        if (await read(answer.body, onLine)) return events.dispatchEvent(new Event('loggedout'));
      }
    } catch { /* it breaks, and is tried again */ }
    if (signal.aborted) return;
    onState('waiting');
    await new Promise((resolve) => setTimeout(resolve, pause));
    pause = Math.min(pause * 1.7, 3000);
  }
}

/** Reads lines to the end; reports whether the session is over. */
async function read(body, onLine) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let rest = ''; ;) {
      const { value, done } = await silentFor(reader.read(), 15_000);
      if (done) return false;
      const lines = (rest + value).split('\n');
      rest = lines.pop();
      for (const line of lines) {
        const event = JSON.parse(line);
        if (event.type === 'logged_out') return true;
        if (event.type !== 'beat') onLine(event);
      }
    }
  } finally { // a session has few streams, and one that is given up would stay one of them
    reader.cancel().catch(() => {});
  }
}

/** Gives a connection up that says nothing, not even that it is there. */
function silentFor(promise, ms) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error('silent')), ms); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
