// The official client as an application uses it: one connection writes to a list, a
// map and a document, another one listens. Prints a line of JSON for each thing that
// the test waits for; a line on its standard input ends the writing.
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';
import WebSocket from 'ws';

globalThis.WebSocket = WebSocket;
const { SyncClient } = createRequire(import.meta.url)('twilio-sync');
const { SYNC_URL: url, SYNC_TOKEN: token } = process.env;

const say = (what) => console.log(JSON.stringify(what));
const uri = url.replace(/^http/, 'ws') + '/v3/wsconnect';
const connect = () => new SyncClient(token, { Twilsock: { uri } });

const writer = connect();
const list = await writer.list('list');
const map = await writer.map('map');
const document = await writer.document('document');

const listener = connect();
const heard = { list: [], map: [], document: 0 };
(await listener.list('list')).on('itemAdded', ({ item }) => heard.list.push(item.data.n));
(await listener.map('map')).on('itemAdded', ({ item }) => heard.map.push(item.data.n));
(await listener.document('document')).on('updated', ({ data }) => { heard.document = data.n; });

let writing = true;
let repeated = 0;
const written = { list: 0, map: 0, document: 0 };

/**
 * Writes one after the other until the end. The client fails a request with the words
 * "disconnected" that has no answer when its connection ends. Nodes that stop answer
 * what they carry out, so this one was not: it is safe to repeat.
 */
async function keep(kind, write) {
  for (let n = 1; writing; n++) {
    try {
      await write(n);
      written[kind] = n;
    } catch (error) {
      if (error.message.startsWith('disconnected')) {
        repeated++;
        n--;
        continue;
      }
      say({ failed: kind, n, message: error.message, status: error.status, code: error.code });
    }
    await new Promise((resolve) => setTimeout(resolve, 100)); // well within the rate limit of an object
  }
}
const all = Promise.all([
  keep('list', (n) => list.push({ n })),
  keep('map', (n) => map.set(`k${n}`, { n })),
  keep('document', (n) => document.set({ n })),
]);
const progress = setInterval(() => say({ written }), 100);

for await (const _ of createInterface({ input: process.stdin })) break;
writing = false;
await all;
clearInterval(progress);
const complete = () => heard.list.length >= written.list && heard.map.length >= written.map && heard.document === written.document;
for (let i = 0; i < 200 && !complete(); i++) await new Promise((resolve) => setTimeout(resolve, 100));
say({ written, repeated, heard, done: true });
process.exit(0);
