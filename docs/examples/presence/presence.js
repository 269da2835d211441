// Presence: a map with one item for each user, which is bound to the page's session.
// It is written once. A page that loses its connection and comes back in time, by
// whichever node, is not missed by anybody; one that is gone, for whatever reason,
// disappears from every other page some seconds later (docs/presence.md).
import { colourOf, connect, follow, whoAmI } from '../common/sync.js';

const map = 'example-presence';
const ttl = 5; // seconds without a connection

const me = whoAmI();
const status = document.querySelector('#status');
const people = document.querySelector('#people');

const client = await connect(me, { tweaks: { presence: { maps: [map], ttl } } });
const present = await client.map(map);
await follow(present, {}, show, hide);
status.addEventListener('change', announce);
// After an absence that was too long, a page hears on its return that its own item went.
present.on('itemRemoved', ({ key }) => key === me && announce());
announce();

async function announce() {
  try {
    await present.set(me, { status: status.value });
  } catch (error) {
    console.warn('not announced; nobody sees this user', error);
  }
}

function show(name, data) {
  const row = rowOf(name) ?? addRow(name);
  row.querySelector('.status').textContent = data.status;
}

function hide(name) {
  rowOf(name)?.remove();
}

function rowOf(name) {
  return [...people.children].find((row) => row.dataset.name === name);
}

function addRow(name) {
  const row = document.createElement('li');
  row.dataset.name = name;
  row.innerHTML = '<span class="avatar"></span><span class="name"></span><span class="status note"></span>';
  row.querySelector('.avatar').textContent = name[0];
  row.querySelector('.avatar').style.background = colourOf(name);
  row.querySelector('.name').textContent = name === me ? `${name} (you)` : name;
  const after = [...people.children].find((other) => other.dataset.name > name);
  people.insertBefore(row, after ?? null);
  return row;
}
