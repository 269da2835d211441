// Two tabs on different nodes.
import assert from 'node:assert/strict';
import { suite } from '../lib/suite.mjs';

const test = suite();

test('a document made and edited in one tab is followed in the other, both ways', async ({ connected }) => {
  const a = await connected(0, { identity: 'alice' });
  const b = await connected(1, { identity: 'bob' });
  for (const [tab, data] of [[a, { n: 1 }], [b, undefined]]) {
    await tab.run(async (data) => {
      window.doc = await client.document({ id: 'both', data });
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

test('maps, lists and streams too', async ({ connected }) => {
  const a = await connected(0, { identity: 'alice' });
  const b = await connected(2, { identity: 'bob' });
  for (const tab of [a, b]) {
    await tab.run(async () => {
      window.map = await client.map('map');
      window.list = await client.list('list');
      window.stream = await client.stream('stream');
      window.seen = [];
      for (const event of ['itemAdded', 'itemUpdated']) {
        map.on(event, ({ item, isLocal }) => isLocal || seen.push([event, item.key, item.data]));
        list.on(event, ({ item, isLocal }) => isLocal || seen.push([event, item.index, item.data]));
      }
      map.on('itemRemoved', ({ key, isLocal }) => isLocal || seen.push(['itemRemoved', key]));
      list.on('itemRemoved', ({ index, isLocal }) => isLocal || seen.push(['itemRemoved', index]));
      stream.on('messagePublished', ({ message, isLocal }) => isLocal || seen.push(['published', message.data]));
    });
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
