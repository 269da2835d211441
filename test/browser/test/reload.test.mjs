// A page that is loaded again opens its objects from the browser's session storage,
// without a request, and must not miss what changed since.
import assert from 'node:assert/strict';
import { suite } from '../lib/suite.mjs';

const test = suite();

/** Opens a document, a map and a list in the page and records their events there. */
async function openObjects(tab, prefix) {
  await tab.run(async (prefix) => {
    window.doc = await client.document(`${prefix}-doc`);
    window.map = await client.map(`${prefix}-map`);
    window.list = await client.list(`${prefix}-list`);
    window.seen = [];
    doc.on('updated', ({ data }) => seen.push(`doc ${data.n}`));
    for (const event of ['itemAdded', 'itemUpdated']) {
      map.on(event, ({ item }) => seen.push(`map ${event} ${item.key} ${item.data.n}`));
      list.on(event, ({ item }) => seen.push(`list ${event} ${item.index} ${item.data.n}`));
    }
  }, prefix);
}

/** Writes n into all three: the map's key k is replaced, the list gets one more item. */
async function write(tab, n) {
  await tab.run(async (n) => {
    await Promise.all([doc.set({ n }), map.set('k', { n }), list.push({ n })]);
  }, n);
}

const opening = (tab) => tab.requests.filter((r) => !r.includes('Subscriptions') && !r.includes('/Items'));

test('a reloaded page opens its objects without a request and hears changes', async ({ connected, cluster }) => {
  const a = await connected(0, { identity: 'alice' });
  const b = await connected(1, { identity: 'bob' });
  await openObjects(a, 'reload');
  await openObjects(b, 'reload');
  await write(b, 1);
  await a.until(() => seen.length === 3);

  await a.page.reload();
  a.requests.length = 0;
  await a.connect({ url: cluster.urls[0], token: cluster.token('alice') });
  await openObjects(a, 'reload');
  assert.deepEqual(opening(a), []);
  assert.deepEqual(await a.run(() => doc.data), { n: 1 });

  await write(b, 2);
  await a.until(() => seen.length === 3).catch(async () => { console.log(await a.run(() => seen), a.established); });
  await a.until(() => ['doc 2', 'map itemUpdated k 2', 'list itemAdded 1 2'].every((event) => seen.includes(event)));
  assert.deepEqual(await a.run(async () => [
    doc.data.n,
    (await map.get('k')).data.n,
    (await list.getItems()).items.map((item) => item.data.n),
  ]), [2, 2, [1, 2]]);
});

test('what changed while the page was away is there when it comes back', async ({ connected, cluster }) => {
  const a = await connected(0, { identity: 'alice' });
  const b = await connected(1, { identity: 'bob' });
  await openObjects(a, 'away');
  await openObjects(b, 'away');
  await write(b, 1);
  await a.until(() => seen.length === 3);

  const home = a.page.url();
  await a.page.goto('about:blank');
  await write(b, 2);
  a.requests.length = 0;
  await a.page.goto(home);
  await a.connect({ url: cluster.urls[2], token: cluster.token('alice') });
  await openObjects(a, 'away');
  assert.deepEqual(opening(a), []);

  await a.until(() => doc.data.n === 2);
  assert.deepEqual(await a.run(async () => [
    (await map.get('k')).data.n,
    (await list.getItems()).items.map((item) => item.data.n),
  ]), [2, [1, 2]]);
  await write(b, 3);
  await a.until(() => ['doc 3', 'map itemUpdated k 3', 'list itemAdded 2 3'].every((event) => seen.includes(event)));
});

test('another user of the same tab gets nothing from the storage of the one before', async ({ connected, cluster }) => {
  const a = await connected(0, { identity: 'alice' });
  await openObjects(a, 'users');
  await a.page.reload();
  a.requests.length = 0;
  await a.connect({ url: cluster.urls[0], token: cluster.token('bob') });
  await openObjects(a, 'users');
  assert.deepEqual(opening(a), ['GET /v3/Documents/users-doc', 'GET /v3/Maps/users-map', 'GET /v3/Lists/users-list']);
});
