// An application moves from one installation to another while it is used, as
// docs/migration.md says: a mirror, and at the end other settings.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { launch, serveBundle, Tab } from '../lib/browser.mjs';
import { Cluster } from '../lib/cluster.mjs';
import { Dispatch, enter, size } from '../lib/dispatch.mjs';
import { eventually } from '../lib/wait.mjs';

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));

const accountSid = `AC${'5'.repeat(32)}`;
let there, here, browser, pages;
before(async () => {
  [there, here, browser, pages] = await Promise.all([
    Cluster.start({ nodes: 1, settings: { LOCKSTEP_RATE_LIMITS: 'off', LOCKSTEP_ACCOUNT_SID: accountSid, LOCKSTEP_AUTH_TOKEN: 'theTokenOfTheOldInstallation' } }),
    Cluster.start({ settings: { LOCKSTEP_RATE_LIMITS: 'off', LOCKSTEP_ACCOUNT_SID: accountSid, LOCKSTEP_AUTH_TOKEN: 'theTokenOfTheNewInstallation' } }),
    launch(), serveBundle(),
  ]);
}, { timeout: 180_000 });
after(async () => {
  await Promise.allSettled([browser?.close(), pages?.close(), there?.stop(), here?.stop()]);
}, { timeout: 60_000 });

const settings = (cluster) => ({
  url: cluster.urls[0], accountSid, authToken: cluster.env.LOCKSTEP_AUTH_TOKEN, apiKey: cluster.env.LOCKSTEP_API_KEY, apiSecret: cluster.env.LOCKSTEP_API_SECRET,
});

/** Everything that is in a service, as lockstep export has it, without the two lines that say when. */
async function contents(cluster, service) {
  const file = path.join(cluster.dir, 'contents.ndjson');
  await cluster.lockstep(['export', file, '--service', service]).success;
  return (await readFile(file, 'utf8')).trim().split('\n').slice(1, -1).sort(); // several objects are copied at a time
}

test('an application moves while it is used', { timeout: 240_000 }, async (t) => {
  const app = new Dispatch(settings(there));
  await app.open();
  const figures = {};
  const timed = async (what, doing) => {
    const start = performance.now();
    const result = await doing();
    figures[what] = `${((performance.now() - start) / 1000).toFixed(1)} s`;
    return result;
  };
  const office = await Tab.open(browser, pages.url), driver = await Tab.open(browser, pages.url);
  await Promise.all([office.run(enter, app.entry('office')), driver.run(enter, app.entry('driver-3'))]);
  let work = app.work();

  const from = ['--from', there.urls[0], '--account', accountSid], env = { TWILIO_AUTH_TOKEN: there.env.LOCKSTEP_AUTH_TOKEN };
  const dry = await timed('a dry run', () => here.lockstep(['import', ...from, '--dry-run'], { env }).success);
  assert.match(dry, /would be refused: 0/);
  const mirror = here.lockstep(['mirror', ...from, '--every', '1s'], { env });
  const copied = path.join(here.dir, `lockstep-import-${accountSid}.state`);
  await timed('the first copy', () => eventually(() => readFile(copied, 'utf8').then((s) => s.includes('"finished":true'), () => false), 'everything is copied'));
  await eventually(() => mirror.said.includes('objects have changed, and were copied'), 'the mirror follows');

  // The switch.
  const turnsThere = await work.stop();
  const [before, boardBefore] = await Promise.all([contents(there, app.serviceSid), office.run(() => app.board.length)]);
  const start = performance.now();
  const order = await app.service.documents(app.orders.at(-2)).fetch();
  await timed('the rest, and the comparison', async () => {
    mirror.child.kill('SIGINT');
    assert.match(await mirror.success, /it is safe to switch/);
  });
  assert.deepEqual(await contents(here, app.serviceSid), before, 'SIDs, revisions, dates, expiries and permissions are those from there');
  app.configure(settings(here));
  await timed('the pages', () => Promise.all([office.run(enter, app.entry('office')), driver.run(enter, app.entry('driver-3'))]));
  work = app.work();
  await office.until((n) => app.board.length > n, boardBefore);
  figures['from the last write there to the first one here that a page saw'] = `${((performance.now() - start) / 1000).toFixed(1)} s`;
  const turnsHere = await work.stop();

  // Nothing was lost or repeated: the board has each turn once, in its order, first of there, then of here.
  for (const page of [office, driver]) await page.until((n) => app.board.length >= n, turnsThere + turnsHere);
  const board = await office.run(() => app.board);
  const turns = (n) => Array.from({ length: n }, (_, i) => i);
  assert.deepEqual(board, [...turns(turnsThere), ...turns(turnsHere)]);
  assert.deepEqual(await driver.run(() => app.board), board);
  // What the application knows from before is true: SIDs, revisions, permissions.
  const updated = await app.service.documents(order.sid).update({ data: order.data, ifMatch: order.revision });
  assert.equal(updated.uniqueName, order.uniqueName);
  assert.match(await driver.run(async () => { try { await app.list.push({ turn: 0 }); return 'it may'; } catch (error) { return String(error.code); } }), /^540/, 'a driver may not write to the board');
  const records = before.map((line) => JSON.parse(line));
  const count = (kind) => records.filter((r) => r.kind === kind).length;
  assert.ok(count('document') >= size.orders && count('list') > size.routes);
  t.diagnostic(JSON.stringify({ ...figures, turns: turnsThere + turnsHere, records: records.length, objects: count('document') + count('list') + count('map') + count('stream'), items: count('list_item') + count('map_item'), permissions: count('permission') }).replaceAll('"', ''));
  await Promise.all([office.close(), driver.close()]);
});
