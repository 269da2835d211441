// The pages of docs/examples, each in two tabs as a person would use it.
import assert from 'node:assert/strict';
import path from 'node:path';
import { suite } from '../lib/suite.mjs';
import { serveExamples } from '../lib/examples.mjs';
import { eventually } from '../lib/wait.mjs';

const test = suite();

/** Opens an example in one tab for each name; gives the tabs and closes everything in the end. */
async function openExample({ cluster, tab, defer }, address, names) {
  const served = await serveExamples(cluster.envFile);
  defer(() => served.close());
  const tabs = [];
  for (const name of names) {
    const url = new URL(address, served.url);
    url.searchParams.set('name', name);
    const opened = await tab(url.href);
    await opened.until(() => document.querySelector('#connection').dataset.state === 'connected');
    tabs.push(opened);
  }
  return { tabs, url: served.url };
}

/** Keeps a picture of the page where SCREENSHOTS names a folder. */
async function picture(tab, name) {
  if (process.env.SCREENSHOTS) await tab.page.screenshot({ path: path.join(process.env.SCREENSHOTS, `${name}.png`) });
}

test('the overview leads to every example', async (c) => {
  const served = await serveExamples(c.cluster.envFile);
  c.defer(() => served.close());
  const overview = await c.tab(served.url);
  await picture(overview, 'overview');
  const links = await overview.run(() => [...document.querySelectorAll('a')].map((a) => a.href));
  assert.equal(links.length, 3);
  for (const link of links) assert.equal((await fetch(link)).status, 200);
});

test('the server gives out its pages and nothing else', async (c) => {
  const served = await serveExamples(c.cluster.envFile);
  c.defer(() => served.close());
  for (const file of ['serve.mjs', 'package.json', 'node_modules/twilio/package.json', '..%2f..%2fgo.mod', 'token']) {
    assert.equal((await fetch(served.url + file)).status, 404, file);
  }
});

test('presence: users see each other come, change and go', async (c) => {
  const { tabs: [a, b] } = await openExample(c, 'presence/', ['Amber Otter', 'Teal Heron']);
  const people = () => [...document.querySelectorAll('#people li')].map((row) => row.innerText.replace(/\s*\n\s*/g, ' ')).join('|');
  const shows = (tab, wanted) => tab.until(`(${people})() === ${JSON.stringify(wanted)}`);
  await shows(a, 'A Amber Otter (you) online|T Teal Heron online');
  await shows(b, 'A Amber Otter online|T Teal Heron (you) online');

  await b.page.selectOption('#status', 'busy');
  await shows(a, 'A Amber Otter (you) online|T Teal Heron busy');
  await picture(a, 'presence');

  // One that is loaded again comes back in time: it stays in its place, and nobody sees it go.
  await a.run(() => {
    window.went = [];
    new MutationObserver((changes) => changes.forEach((c) => c.removedNodes.forEach((row) => went.push(row.dataset.name))))
      .observe(document.querySelector('#people'), { childList: true });
  });
  await b.page.reload();
  await b.until(() => document.querySelector('#connection').dataset.state === 'connected');
  await shows(b, 'A Amber Otter online|T Teal Heron (you) online');
  const second = await c.tab(b.page.url());
  await shows(second, 'A Amber Otter online|T Teal Heron (you) online');
  await second.page.close();
  await new Promise((done) => setTimeout(done, 6500)); // longer than the item outlives a session
  assert.deepEqual(await a.run(() => went), []);

  await b.page.close();
  const gone = Date.now();
  await shows(a, 'A Amber Otter (you) online');
  assert.ok(Date.now() - gone > 4000, 'it stays for five seconds');
});

test('location: the past is replayed from an index, then followed', async (c) => {
  const { tabs: [a, b], url } = await openExample(c, 'location/', ['Ruby Lynx', 'Jade Marten']);
  const shows = (tab, indices) => tab.until((indices) => document.querySelector('#range').dataset.indices === indices, indices);
  const click = (tab, x, y) => tab.page.click('#map', { position: { x, y } });
  for (const tab of [a, b]) await tab.until(() => document.body.dataset.ready);
  for (let i = 0; i < 5; i++) {
    await click(a, 120 + 90 * i, 80 + 30 * i);
    await shows(b, [...Array(i + 1).keys()].join());
  }
  await click(b, 150, 320);
  await click(b, 330, 260);
  await shows(a, '0,1,2,3,4,5,6');
  await picture(a, 'location');

  const late = await c.tab(`${url}location/?from=3&name=Coral%20Crane`);
  await shows(late, '3,4,5,6');
  await click(a, 600, 100);
  await shows(late, '3,4,5,6,7');
  await picture(late, 'location-replay');

  await b.page.click('#drive');
  await late.until(() => document.querySelector('#range').dataset.indices.startsWith('3,4,5,6,7,8,9'));
});

test('whiteboard: what one draws appears at the other, and goes for both', async (c) => {
  const { tabs: [a, b] } = await openExample(c, 'whiteboard/', ['Violet Stoat', 'Ochre Badger']);
  const inked = (tab) => tab.run(() => {
    const { width, height } = board;
    const pixels = board.getContext('2d').getImageData(0, 0, width, height).data;
    let count = 0;
    for (let i = 0; i < pixels.length; i += 4) count += pixels[i] + pixels[i + 1] + pixels[i + 2] < 700;
    return count;
  });
  for (const tab of [a, b]) {
    await tab.until(() => document.body.dataset.ready);
    await eventually(() => tab.established.length > 0, 'the board hears the others');
  }

  await draw(a, 60);
  await draw(b, 200);
  await eventually(async () => {
    const [at, bt] = await Promise.all([inked(a), inked(b)]);
    return at > 5000 && Math.abs(at - bt) < at / 50;
  }, 'both boards show both strokes');
  await picture(b, 'whiteboard');

  await a.page.click('#clear');
  await eventually(async () => (await inked(a)) + (await inked(b)) === 0, 'both boards are empty');
});

/** Draws a wave with the mouse, y pixels below the upper edge of the board. */
async function draw(tab, y) {
  const { mouse } = tab.page;
  const box = await tab.page.locator('#board').boundingBox();
  await mouse.move(box.x + 40, box.y + y);
  await mouse.down();
  for (let i = 0; i <= 60; i++) await mouse.move(box.x + 40 + i * 8, box.y + y + 40 * Math.sin(i / 6));
  await mouse.up();
}

// The last case: the node stays dead.
test('a page whose node is killed goes on through another', async (c) => {
  const note = (tab) => tab.run(() => {
    window.states = [];
    new MutationObserver(() => states.push(connection.textContent)).observe(connection, { childList: true });
  });
  const { tabs: [a, b] } = await openExample(c, 'whiteboard/', ['Silver Falcon', 'Indigo Dolphin']);
  for (const tab of [a, b]) {
    await tab.until(() => document.body.dataset.ready);
    await note(tab);
  }
  // The connections of two tabs that were opened one after the other are at the nodes 0 and 1.
  const { tabs: [moving, watching] } = await openExample(c, 'presence/', ['Coral Crane', 'Jade Marten']);
  for (const tab of [moving, watching]) {
    await tab.until(() => [...document.querySelectorAll('#people li')].map((row) => row.dataset.name).join() === 'Coral Crane,Jade Marten');
  }
  await note(moving);
  await watching.run(() => {
    window.changes = 0;
    new MutationObserver((list) => { changes += list.length; }).observe(document.querySelector('#people'), { childList: true, subtree: true });
  });
  await c.cluster.killNode(0);
  await a.until(() => states.length > 1 && states.at(-1) === 'connected');
  await moving.until(() => states.length > 1 && states.at(-1) === 'connected');
  await new Promise((done) => setTimeout(done, 6500)); // longer than an item outlives its session
  assert.deepEqual(await b.run(() => states), []);
  assert.equal(await watching.run(() => changes), 0, 'nobody saw its user go, or come');
});
