// A cluster is restored from a backup, and clients that know what came after it come to the new one.
import { spawn, execFile } from 'node:child_process';
import { createServer } from 'node:net';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { assert, suite, uniq, record, until, node } from '../lib/harness.mjs';

const scenario = suite({ timeout: 90000 });
const binary = process.env.LOCKSTEP_BIN;
const lockstep = (...args) => promisify(execFile)(binary, args);

async function freePort() {
  const s = createServer();
  await new Promise((r) => s.listen(0, '127.0.0.1', r));
  const { port } = s.address();
  await new Promise((r) => s.close(r));
  return port;
}

/** One node of a new cluster that begins with the backup, and how to stop it. */
async function restored(dir, file) {
  const data = join(dir, 'node'), port = await freePort(), base = `http://127.0.0.1:${port}`;
  await lockstep('restore', file, '--data-dir', data, '--yes');
  const p = spawn(binary, ['serve', '--data-dir', data, '--http-port', String(port)], { stdio: 'ignore' });
  const gone = new Promise((r) => p.once('exit', r));
  await until(() => fetch(`${base}/readyz`).then((r) => r.ok, () => false), 20000, 'the restored node serves');
  return { base, stop: async () => { p.kill('SIGTERM'); await gone; } };
}

scenario('restore: a client that knows newer state than the backup has', async (c) => {
  const dir = await mkdtemp(join(tmpdir(), 'restore-'));
  const via = await c.proxy(), client = await c.client('alice', { via });
  const names = { document: uniq(), map: uniq(), list: uniq(), lost: uniq() };
  const document = await client.document(names.document), map = await client.map(names.map), list = await client.list(names.list);
  await document.set({ v: 'kept' });
  await map.set('kept', { v: 1 });
  await map.set('changed', { v: 1 });
  await list.push({ v: 'kept' });
  const file = join(dir, 'sync.backup');
  await lockstep('backup', '--url', node(1), file);

  // What comes now is lost, and this client knows all of it.
  for (let i = 0; i < 20; i++) await document.set({ v: i });
  await map.set('changed', { v: 2 });
  await map.set('lost', { v: 1 });
  await map.remove('kept');
  await list.push({ v: 'lost' });
  await client.document(names.lost);
  const told = [document, map, list].map(record);
  via.cut({ refuse: true });
  await until(() => client.connectionState !== 'connected', 5000, 'the client sees the cut');

  const next = await restored(dir, file);
  try {
    via.lead(next.base);
    via.accepting();
    await until(() => client.connectionState === 'connected', 20000, 'connected to the restored cluster');

    // It is told of each object that what it knows cannot be gone on from. An
    // application closes it then, and opens it again.
    await until(() => told.every((log) => log.of('failure').some((e) => e.raw.code === 54008)), 20000, () => `failures; heard ${told.map((log) => log.brief())}`);
    for (const object of [document, map, list]) object.close();

    // An object that is opened again is the restored one, and so is what a fresh client sees.
    const other = await c.client('bob', { via });
    for (const who of [client, other]) {
      const state = async () => {
        const [d, m, l] = [await who.document(names.document), await who.map(names.map), await who.list(names.list)];
        const items = (await m.getItems({ pageSize: 10 })).items.map((i) => `${i.key}=${i.data.v}`);
        return JSON.stringify([d.data.v, items.sort(), (await l.getItems()).items.map((i) => i.data.v)]);
      };
      const want = JSON.stringify(['kept', ['changed=1', 'kept=1'], ['kept']]);
      let is;
      await until(async () => (is = await state()) === want, 20000, () => `the restored state; it is ${is}`, 200);
    }

    // What is written from now on arrives, although as much as was lost is written again.
    const log = record(await client.document(names.document)), writer = await other.document(names.document);
    for (let i = 0; i < 30; i++) await writer.set({ again: i });
    await until(() => log.some((e) => e.data?.again === 29), 20000, () => `the last write; heard ${log.brief()}`);
    assert.deepEqual((await client.document(names.document)).data, { again: 29 });
    await (await client.map(names.map)).set('new', { v: 1 });
    assert.deepEqual((await (await other.map(names.map)).get('new')).data, { v: 1 });
  } finally {
    await next.stop();
    await rm(dir, { recursive: true });
  }
}, { skip: !binary && 'LOCKSTEP_BIN is not set' });
