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

/** Scrolls through a list to one end, and gives the keys that came into sight, in their order. */
const walk = (p, down) => p.page.evaluate(async (down) => {
  const list = document.querySelector('.vlist'), seen = [];
  const drawn = () => new Promise((resolve) => { requestAnimationFrame(() => setTimeout(resolve)); });
  const rows = () => [...list.querySelectorAll('.vrow')].map((r) => [Number(r.getAttribute('aria-posinset')), r.querySelector('.col-key').textContent]).sort(([a], [b]) => a - b).map(([, key]) => key);
  for (;;) {
    const keys = down ? rows() : rows().reverse();
    const fresh = keys.slice(keys.indexOf(seen.at(-1)) + 1);
    if (seen.length && fresh.length === keys.length) throw new Error(`after ${seen.at(-1)} there is ${keys}`);
    seen.push(...fresh);
    if (!fresh.length && !list.nextElementSibling.textContent.includes(down ? 'below' : 'above')) return seen;
    list.scrollTop += down ? list.clientHeight : -list.clientHeight;
    await drawn();
  }
}, down);

test('a list that is longer than the page keeps is read from end to end, and from anywhere', async (t) => {
  const count = 3200, key = (n) => `${n % 3 ? 'odd' : 'third'}/${String(n).padStart(5, '0')}`;
  const keys = Array.from({ length: count }, (_, n) => key(n)).sort();
  const sid = `MP${'7'.repeat(32)}`, service = `IS${'7'.repeat(32)}`, date_created = '2026-01-01T00:00:00Z';
  const dates = { date_created, date_updated: date_created };
  await cluster.bring([{ kind: 'service', sid: service, ...dates }, { kind: 'map', service_sid: service, sid, unique_name: 'meters', revision: count.toString(16), ...dates },
    ...keys.map((k, n) => ({ kind: 'map_item', service_sid: service, map_sid: sid, key: k, revision: '0', data: { n }, ...dates }))]);
  const p = await person(t, { look: { viewport: { width: 1000, height: 4000 } } }); // fewer steps than on a screen
  await p.go(`services/${service}/Maps/${sid}`, '.vrow');
  const rows = () => p.page.locator('.vrow').count();
  const inSight = (k) => p.page.locator('.vrow', { hasText: k }).first().waitFor();

  assert.deepEqual(await walk(p, true), keys, 'downwards');
  assert.ok(await rows() < 150, 'only what is in sight is in the page');
  assert.deepEqual(await walk(p, false), keys.toReversed(), 'and back, past what was dropped');

  await p.page.focus('.vlist');
  await p.page.keyboard.press('End');
  await p.sees('.vrow.active', keys.at(-1));
  await p.page.keyboard.press('Home');
  await p.sees('.vrow.active', keys[0]);

  await p.page.fill('form.bar input', keys[500]);
  await p.page.keyboard.press('Enter');
  await p.sees('.vrow.active', keys[500]);
  const back = await walk(p, false);
  assert.ok(back[0] > keys[500]);
  assert.deepEqual(back, keys.slice(0, keys.indexOf(back[0]) + 1).toReversed(), 'what is before it is read, too');
  await p.page.fill('form.bar input', 'zzz');
  await p.page.keyboard.press('Enter');
  await inSight(keys.at(-1));
  await p.sees('.toast', 'no key');

  await p.page.click('text=Filter');
  await p.page.fill('form.bar input', 'third/');
  await p.sees('.vfoot', 'third/00000');
  const thirds = keys.filter((k) => k.startsWith('third/'));
  assert.deepEqual(await walk(p, true), thirds, 'only what begins so');
  await p.page.focus('.vlist');
  await p.page.keyboard.press('Home');
  await p.sees('.vrow.active', thirds[0]);
  await rest('POST', `/v1/Services/${service}/Maps/meters/Items`, { Key: 'other', Data: '{}' });
  await rest('POST', `/v1/Services/${service}/Maps/meters/Items`, { Key: 'third/000000', Data: '{}' });
  await inSight('third/000000');
  assert.equal(await p.page.locator('.vrow', { hasText: 'other' }).count(), 0, 'not what does not begin so');
  await p.page.fill('form.bar input', 'fourth/');
  await p.sees('.vlist', 'None begins with');
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

test('what the limits refuse is told', async (t) => {
  const small = await Cluster.start({ nodes: 1, settings: { LOCKSTEP_RATE_LIMITS: 'writes=1/1,burst=1s' } });
  t.after(() => small.stop());
  const own = { key: small.env.LOCKSTEP_API_KEY, secret: small.env.LOCKSTEP_API_SECRET };
  const busy = restOf(small.urls[0], own.key, own.secret);
  await busy('POST', '/v1/Services/default/Documents', { UniqueName: 'hot', Data: '{}' });
  const writes = await Promise.allSettled(Array.from({ length: 40 }, () => busy('POST', '/v1/Services/default/Documents/hot', { Data: '{}' })));
  const refused = writes.filter((w) => w.status === 'rejected').length;
  assert.ok(refused > 0);
  for (const [name, look] of Object.entries(looks)) {
    const p = await person(t, { at: small.urls[0], look, as: own });
    await p.go('limits', 'tbody tr');
    await p.sees('tbody tr', 'hot');
    await p.sees('tbody tr', String(refused));
    assert.deepEqual(await p.violations(), [], name);
  }
});

test('pages are accessible, in light, in dark and on a phone', async (t) => {
  const long = `${'eu-west-1/orders/'.repeat(6)}${'0'.repeat(80)}`; // nothing to break a line at
  const [document] = await Promise.all([rest('POST', `${data.base}/Documents`, { UniqueName: long, Data: '{}' }), rest('POST', `${data.base}/Maps/vans/Permissions/${'z'.repeat(120)}`, { Read: true, Write: true, Manage: false })]);
  const pages = [
    ['overview', '.node'], ['limits', '.card'], ['backups', '.card'], ['services', '.vrow'], [`services/${data.service.sid}`, '.vrow'], [`services/${data.service.sid}/Settings`, 'form'],
    [vans(), '.vrow'], [`${vans()}?tab=permissions`, 'table'], [`services/${data.service.sid}/Documents/${document.sid}`, '.editor .meta span'],
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
      const cut = await p.page.evaluate(() => [...document.querySelectorAll('table :is(input, .button, .icon-button)')].slice(0, 9).filter((el) => {
        el.scrollIntoView({ block: 'center' });
        const { x, y, width, height } = el.getBoundingClientRect();
        return el.closest('.wide').scrollLeft > 0 || !el.contains(document.elementFromPoint(x + width / 2, y + height / 2));
      }).length);
      assert.equal(cut, 0, `buttons are out of sight: ${place}, ${name}`);
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
