// A cluster is restored from a backup, and clients of each form that know what came after it open their objects anew.
import { spawn, execFile } from 'node:child_process';
import { createServer } from 'node:net';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { assert, suite, uniq, live, all, until, node, down, up, nums, versions } from '../lib/harness.mjs';

const scenario = suite({ timeout: 120000 });
const binary = process.env.LOCKSTEP_BIN;
const lockstep = (...args) => promisify(execFile)(binary, args);
// The oldest that finds the server by itself, the last of form 3, the first of form 4, and the newest.
const chosen = ['0.8.6', '2.0.1', '3.0.6', '3.1.0', '4.0.1'].filter((v) => versions.includes(v));

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
  await until(() => fetch(`${base}/readyz`).then((r) => r.ok, () => false), 30000, 'the restored node serves');
  return { base, stop: async () => { p.kill('SIGTERM'); await gone; } };
}

scenario('restore: a client that knows newer state than the backup has', async (c) => {
  const dir = await mkdtemp(join(tmpdir(), 'restore-'));
  const via = await c.proxy(), client = await c.client('alice', { via }), writer = await c.client('bob', { node: 1 });
  const names = { document: uniq(), map: uniq() };
  const mine = { document: await client.document(names.document), map: await client.map(names.map) };
  const theirs = { document: await writer.document(names.document), map: await writer.map(names.map) };
  for (const kind of ['document', 'map']) await live(mine[kind].log, theirs[kind], kind);
  await theirs.document.set({ v: 'kept' });
  await theirs.map.set('kept', { v: 1 });
  await theirs.map.set('changed', { v: 1 });
  const file = join(dir, 'sync.backup');
  await lockstep('backup', '--url', node(1), file);

  // What comes now is lost, and this client knows all of it.
  for (const i of nums(20)) await theirs.document.set({ v: i });
  await theirs.map.set('changed', { v: 2 });
  await theirs.map.set('lost', { v: 1 });
  await theirs.map.remove('kept');
  await until(async () => (await mine.document.data()).v === 19, 10000, 'the last value');
  await until(() => mine.map.log.some((e) => e.event === 'itemRemoved'), 10000, () => mine.map.log.brief());
  via.cut({ refuse: true });
  await down(client);

  const next = await restored(dir, file);
  try {
    via.lead(next.base);
    via.accepting();
    await up(client);
    const other = await c.client('carol', { via }), opened = {};
    for (const [name, who] of Object.entries({ mine: client, other })) {
      let map = mine.map, is;
      opened[name] = mine.document;
      await until(async () => {
        if (who === client) for (const object of [opened.mine, map]) await object.close();
        opened[name] = await who.document(names.document);
        map = await who.map(names.map);
        const items = (await all(map)).filter((i) => i.key !== 'probe').map((i) => `${i.key}=${i.data.v}`);
        return (is = JSON.stringify([(await opened[name].data()).v, items.sort()])) === JSON.stringify(['kept', ['changed=1', 'kept=1']]);
      }, 30000, () => `the restored state; it is ${is}`, 500);
    }

    // What is written from now on arrives, although as much as was lost is written again.
    for (const i of nums(30)) await opened.other.set({ again: i });
    await until(() => opened.mine.log.some((e) => e.data?.again === 29), 20000, () => `the last write; heard ${opened.mine.log.brief()}`);
    assert.deepEqual(await opened.mine.data(), { again: 29 });
  } finally {
    await next.stop();
    await rm(dir, { recursive: true });
  }
}, { versions: chosen, skip: !binary && 'LOCKSTEP_BIN is not set' });
