// The node of a tab dies.
import assert from 'node:assert/strict';
import { suite } from '../lib/suite.mjs';

const test = suite();

test('a tab whose node is killed goes on through another and misses nothing', async ({ cluster, connected, proxy }) => {
  const address = await proxy(0);
  const a = await connected(0, { at: address.url, identity: 'alice' });
  const b = await connected(1, { identity: 'bob' });
  for (const tab of [a, b]) {
    await tab.run(async () => {
      window.doc = await client.document('doc');
      window.list = await client.list('list');
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
