// The console against three nodes, as a person would use it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch } from '../lib/browser.mjs';
import { Cluster } from '../lib/cluster.mjs';
import { looks, Person } from '../lib/console.mjs';
import { furnish, operate, receiver, restOf } from '../lib/demo.mjs';
import { Proxy } from '../lib/proxy.mjs';
import { eventually } from '../lib/wait.mjs';

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));
Object.assign(process.env, { LOCKSTEP_RATE_LIMITS: 'off', LOCKSTEP_WEBHOOK_ALLOW: '127.0.0.0/8' });

let cluster, browser, hooks, rest, data, key;
before(async () => {
  [cluster, browser, hooks] = await Promise.all([Cluster.start(), launch(), receiver(500)]);
  key = { key: cluster.env.LOCKSTEP_API_KEY, secret: cluster.env.LOCKSTEP_API_SECRET };
  rest = restOf(cluster.urls[0], key.key, key.secret);
  data = await furnish(rest, { vans: 250, webhook: hooks.url });
}, { timeout: 180_000 });
after(async () => {
  hooks?.close();
  await Promise.allSettled([browser?.close(), cluster?.stop()]);
}, { timeout: 60_000 });

const change = (via, name, value) => via('POST', `${data.base}/Maps/vans/Items/${name}`, { Data: JSON.stringify(value) });
const vans = () => `services/${data.service.sid}/Maps/${data.map.sid}`;
const account = () => ({ key: cluster.env.LOCKSTEP_ACCOUNT_SID, secret: cluster.env.LOCKSTEP_AUTH_TOKEN });

async function person(t, { at = cluster.urls[0], look, as = key } = {}) {
  const p = await Person.at(browser, at, look);
  t.after(() => p.close());
  return as ? p.loggedIn(as) : p;
}

test('whoever has no key stays outside', async (t) => {
  const p = await person(t, { as: null });
  await p.login({ ...key, secret: 'wrong' });
  await p.sees('[role=alert]', 'no such key');
});

test('an object is followed live, and a conflict of revisions is shown', async (t) => {
  const p = await person(t);
  await p.go(vans(), '.vrow');
  await p.sees('.head', 'Live · Sync SDK');
  await change(rest, 'van-0002', { driver: 'Nobody yet' });
  await p.sees('.vrow', 'Nobody yet');

  await p.page.focus('.vlist');
  await p.page.keyboard.press('ArrowDown');
  await p.page.keyboard.press('ArrowDown');
  await p.page.keyboard.press('Enter');
  await p.sees('.editor h2', 'van-0002');
  await p.page.waitForFunction(() => document.querySelector('.editor textarea').value.includes('Nobody yet'));
  await p.page.fill('.editor textarea', '{"driver": "mine"}');
  await change(rest, 'van-0002', { driver: 'theirs' });
  await p.sees('.editor .note', 'while you edit');
  await p.page.click('.editor button[type=submit]');
  await p.sees('.conflict', '412');
  await p.sees('.conflict .minus', 'theirs');
  await p.sees('.conflict .plus', 'mine');
  assert.equal((await rest('GET', `${data.base}/Maps/vans/Items/van-0002`)).data.driver, 'theirs', 'nothing was overwritten');
  assert.deepEqual(await p.violations(), []);
  await p.page.click('.conflict .danger');
  await p.sees('.vrow', '"mine"');
  assert.equal((await rest('GET', `${data.base}/Maps/vans/Items/van-0002`)).data.driver, 'mine');
});

test('a long list has only what is in sight in the page', async (t) => {
  const p = await person(t);
  await p.go(vans(), '.vrow');
  await p.page.focus('.vlist');
  await eventually(async () => {
    await p.page.keyboard.press('End');
    return (await p.page.textContent('.vlist')).includes('van-0250');
  }, 'the last row is in sight');
  assert.ok(await p.page.locator('.vrow').count() < 60);
  await p.page.fill('form.bar input', 'van-0150');
  await p.page.keyboard.press('Enter');
  await p.sees('.vrow', 'van-0150');
  await eventually(async () => {
    await p.page.evaluate(() => { document.querySelector('.vlist').scrollTop = 0; });
    return (await p.page.textContent('.vlist')).includes('van-0001');
  }, 'what is before it is read, too');
});

test('a key sees what it may', async (t) => {
  const made = (scope) => operate(cluster.env, 'POST', '/cluster/keys', { friendly_name: 'test', ...scope }).then((k) => ({ key: k.sid, secret: k.secret }));
  const [viewer, reader, own] = await Promise.all([made({ role: 'viewer' }), made({ read_only: true }), made({ service: data.service.sid })]);
  const pages = (p) => p.page.locator('nav.side a.nav').allTextContents();

  const v = await person(t, { as: viewer });
  await v.sees('.state', 'nodes serve');
  assert.deepEqual(await pages(v), ['Overview', 'Rate limits', 'Backups']);

  const r = await person(t, { as: reader });
  await r.go(vans(), '.vrow');
  await r.sees('.head', 'Live · event stream');
  assert.equal(await r.page.locator('text=New item').count(), 0);
  await change(rest, 'van-0003', { driver: 'seen without a token' });
  await r.sees('.vrow', 'seen without a token');

  const o = await person(t, { as: own });
  await o.sees('.vrow', 'Delivery');
  assert.equal(await o.page.locator('.vrow').count(), 1);
  await operate(cluster.env, 'DELETE', `/cluster/keys/${own.key}`);
  await o.page.click('.vrow');
  await o.sees('.login', 'The session is over');
});

test('pages are accessible, in light, in dark and on a phone', async (t) => {
  const pages = [
    ['overview', '.node'], ['limits', '.card'], ['backups', '.card'], ['services', '.vrow'], [`services/${data.service.sid}`, '.vrow'], [`services/${data.service.sid}/Settings`, 'form'],
    [vans(), '.vrow'], [`${vans()}?tab=permissions`, 'table'], [`services/${data.service.sid}/Documents/${data.document.sid}`, '.editor .meta span'],
    [`services/${data.service.sid}/Streams/${data.stream.sid}`, '.tail'], ['events', '.event'], ['webhooks', 'table'], ['tokens', 'form'],
  ];
  const beat = setInterval(() => change(rest, 'van-0004', { at: Date.now() }).catch(() => {}), 400);
  t.after(() => clearInterval(beat));
  for (const [name, look] of Object.entries(looks)) {
    const outside = await person(t, { look, as: null });
    assert.deepEqual(await outside.violations(), [], `login, ${name}`);
    const p = await outside.loggedIn(account());
    for (const [place, selector] of pages) {
      await p.go(place, selector);
      assert.deepEqual(await p.violations(), [], `${place}, ${name}`);
      const wide = await p.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(wide <= 0, `${place} is ${wide} pixels too wide, ${name}`);
    }
  }
});

test('what waits can be retried on a phone without scrolling', async (t) => {
  const p = await person(t, { look: looks.phone });
  await p.go('webhooks', 'table .button');
  await p.sees('table', 'status 500');
  const hidden = await p.page.evaluate(() => {
    const button = document.querySelector('table .button').getBoundingClientRect(), box = document.querySelector('.wide').getBoundingClientRect();
    return button.right - Math.min(box.right, innerWidth);
  });
  assert.ok(hidden <= 0, `${hidden} pixels of the button are out of sight`);
});

test('a webhook that waits is tried again, a token is made', async (t) => {
  const p = await person(t);
  await p.go('webhooks', 'table .button');
  await p.sees('table', 'status 500');
  hooks.status = 204;
  await p.page.click('table .button');
  await p.sees('.badge', 'delivered');

  await p.go('tokens', 'input[name=identity]');
  await p.page.fill('input[name=identity]', 'alice');
  await p.page.click('main button[type=submit]');
  await p.sees('.code', '"identity": "alice"');
});

// The last one: afterwards a node is missing.
test('it goes on when the node that serves it is killed', async (t) => {
  const proxy = await Proxy.to(cluster.urls[0]);
  t.after(() => proxy.close());
  const p = await person(t, { at: proxy.url });
  await p.go(vans(), '.vrow');
  await p.sees('.head', 'Live · Sync SDK');
  const tail = await person(t, { at: cluster.urls[1] });
  await tail.go('events', '.head .badge.good');
  const overview = await person(t, { at: cluster.urls[2] });
  await overview.sees('.state', 'All 3 nodes serve');

  await cluster.killNode(0);
  proxy.lead(cluster.urls[1]);
  const other = restOf(cluster.urls[1], key.key, key.secret);
  await overview.sees('.state', '1 node cannot be reached');
  await overview.sees('.node', 'Unreachable');
  await eventually(() => change(other, 'van-0001', { driver: 'after the crash' }).then(() => true, () => false), 'writes go on');
  await tail.sees('.event', 'after the crash');
  await p.sees('.vrow', 'after the crash');
  await p.sees('.head', 'Live · Sync SDK');
  await p.page.click('.vrow >> nth=0');
  await p.sees('.editor .meta', 'Revision');
});
