// The official client in two tabs, at different nodes of one cluster.
import assert from 'node:assert/strict';
import { suite } from '../lib/suite.mjs';

const test = suite();

test('two tabs: a document made and edited in one tab is followed in the other, both ways', async ({ connected }) => {
  const a = await connected(0, { identity: 'alice' });
  const b = await connected(1, { identity: 'bob' });
  for (const [tab, data] of [[a, { n: 1 }], [b, undefined]]) {
    await tab.run(async (data) => {
      window.doc = await client.document({ id: 'tabs-doc', data });
      window.seen = [];
      doc.on('updated', ({ data, isLocal }) => seen.push([data.n, isLocal]));
    }, data);
  }
  assert.deepEqual(await b.run(() => doc.data), { n: 1 });

  await b.run(() => doc.update({ n: 2 }));
  await a.until(() => doc.data.n === 2);
  await a.run(() => doc.mutate((data) => ({ n: data.n + 1 })));
  await b.until(() => doc.data.n === 3);

  assert.deepEqual(await a.run(() => seen), [[2, false], [3, true]]);
  assert.deepEqual(await b.run(() => seen), [[2, true], [3, false]]);
});

test('two tabs: maps, lists and streams too', async ({ connected }) => {
  const a = await connected(0, { identity: 'alice' });
  const b = await connected(2, { identity: 'bob' });
  for (const tab of [a, b]) {
    const sids = await tab.run(async () => {
      window.map = await client.map('tabs-map');
      window.list = await client.list('tabs-list');
      window.stream = await client.stream('tabs-stream');
      window.seen = [];
      for (const event of ['itemAdded', 'itemUpdated']) {
        map.on(event, ({ item, isLocal }) => isLocal || seen.push([event, item.key, item.data]));
        list.on(event, ({ item, isLocal }) => isLocal || seen.push([event, item.index, item.data]));
      }
      map.on('itemRemoved', ({ key, isLocal }) => isLocal || seen.push(['itemRemoved', key]));
      list.on('itemRemoved', ({ index, isLocal }) => isLocal || seen.push(['itemRemoved', index]));
      stream.on('messagePublished', ({ message, isLocal }) => isLocal || seen.push(['published', message.data]));
      return [map.sid, list.sid, stream.sid];
    });
    await tab.subscribed(sids); // a stream has no replay
  }
  const awaitSeen = (tab, count) => tab.until((count) => seen.length >= count && seen, count);

  const key = 'späti ü/1';
  await a.run(async (key) => {
    await map.set(key, { by: 'a' });
    await list.push({ by: 'a' });
    await stream.publishMessage({ by: 'a' });
  }, key);
  assert.deepEqual((await awaitSeen(b, 3)).sort(), [
    ['itemAdded', 0, { by: 'a' }],
    ['itemAdded', key, { by: 'a' }],
    ['published', { by: 'a' }],
  ]);

  await b.run(async (key) => {
    await map.update(key, { and: 'b' });
    await map.remove(key);
    await list.set(0, { by: 'b' });
    await list.remove(0);
  }, key);
  const ofKind = (seen, id) => seen.filter((event) => event[1] === id);
  const seen = await awaitSeen(a, 4);
  assert.deepEqual(ofKind(seen, key), [['itemUpdated', key, { by: 'a', and: 'b' }], ['itemRemoved', key]]);
  assert.deepEqual(ofKind(seen, 0), [['itemUpdated', 0, { by: 'b' }], ['itemRemoved', 0]]);
});

/** Opens a document, a map and a list in the page and records the events that they get from then on. */
async function openObjects(tab, prefix) {
  const sids = await tab.run(async (prefix) => {
    window.doc = await client.document(`${prefix}-doc`);
    window.map = await client.map(`${prefix}-map`);
    window.list = await client.list(`${prefix}-list`);
    window.seen = [];
    doc.on('updated', ({ data }) => seen.push(`doc ${data.n}`));
    for (const event of ['itemAdded', 'itemUpdated']) {
      map.on(event, ({ item }) => seen.push(`map ${event} ${item.key} ${item.data.n}`));
      list.on(event, ({ item }) => seen.push(`list ${event} ${item.index} ${item.data.n}`));
    }
    return [doc.sid, map.sid, list.sid];
  }, prefix);
  // Before that a list or map from the session storage hears nothing: it has no items that could be stale.
  await tab.subscribed(sids);
}

/** Writes n into all three: the map's key k is replaced, the list gets one more item. */
async function write(tab, n) {
  await tab.run(async (n) => {
    await Promise.all([doc.set({ n }), map.set('k', { n }), list.push({ n })]);
  }, n);
}

const opening = (tab) => tab.requests.filter((r) => !r.includes('Subscriptions') && !r.includes('/Items'));

test('reload: a reloaded page opens its objects without a request and hears changes', async ({ connected, cluster }) => {
  const a = await connected(0, { identity: 'alice' });
  const b = await connected(1, { identity: 'bob' });
  await openObjects(a, 'reload');
  await openObjects(b, 'reload');
  await write(b, 1);
  await a.until(() => seen.length === 3);

  await a.load();
  await a.connect({ url: cluster.urls[0], token: cluster.token('alice') });
  await openObjects(a, 'reload');
  assert.deepEqual(opening(a), []);
  assert.deepEqual(await a.run(() => doc.data), { n: 1 });

  await write(b, 2);
  await a.until(() => ['doc 2', 'map itemUpdated k 2', 'list itemAdded 1 2'].every((event) => seen.includes(event)));
  assert.deepEqual(await a.run(async () => [
    doc.data.n,
    (await map.get('k')).data.n,
    (await list.getItems()).items.map((item) => item.data.n),
  ]), [2, 2, [1, 2]]);
});

test('reload: what changed while the page was away is there when it comes back', async ({ connected, cluster }) => {
  const a = await connected(0, { identity: 'alice' });
  const b = await connected(1, { identity: 'bob' });
  await openObjects(a, 'away');
  await openObjects(b, 'away');
  await write(b, 1);
  await a.until(() => seen.length === 3);

  const home = a.page.url();
  await a.page.goto('about:blank');
  await write(b, 2);
  await a.load(home);
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

test('reload: another user of the same tab gets nothing from the storage of the one before', async ({ connected, cluster }) => {
  const a = await connected(0, { identity: 'alice' });
  await openObjects(a, 'users');
  await a.load();
  await a.connect({ url: cluster.urls[0], token: cluster.token('bob') });
  await openObjects(a, 'users');
  assert.deepEqual(opening(a), ['GET /v3/Documents/users-doc', 'GET /v3/Maps/users-map', 'GET /v3/Lists/users-list']);
});

// The last case: the node stays dead.
test('node loss: a tab whose node is killed goes on through another and misses nothing', async ({ cluster, connected, proxy }) => {
  const address = await proxy(0);
  const a = await connected(0, { at: address.url, identity: 'alice' });
  const b = await connected(1, { identity: 'bob' });
  for (const tab of [a, b]) {
    await tab.run(async () => {
      window.doc = await client.document('loss-doc');
      window.list = await client.list('loss-list');
      window.indices = [];
      window.states = [];
      list.on('itemAdded', ({ item }) => indices.push(item.index));
      client.on('connectionStateChanged', (state) => states.push(state));
    });
  }
  const push = (tab) => tab.run(() => list.push({}));
  await push(a);
  await b.until(() => indices.length === 1);

  await cluster.killNode(0);
  await a.until(() => states.length > 0);
  assert.notEqual(await a.run(() => client.connectionState), 'connected');
  await push(b);
  await b.run(() => doc.set({ written: 'while the other was away' }));

  address.lead(cluster.urls[2]);
  await a.state('connected');
  await a.until(() => doc.data.written);
  await push(a);
  await push(b);
  for (const tab of [a, b]) {
    await tab.until(() => indices.length >= 4);
    assert.deepEqual(await tab.run(() => indices), [0, 1, 2, 3]);
  }
  assert.deepEqual(await b.run(() => states), [], 'the tab of a live node stays connected');
});
