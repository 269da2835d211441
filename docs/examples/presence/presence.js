// Presence: a map with one item for each user. The item has a time to live and is
// written again well before it ends, so a user whose page is gone, for whatever
// reason, disappears from every other page without anybody cleaning up.
import { colourOf, connect, follow, whoAmI } from '../common/sync.js';

const lifetime = 10; // seconds
const refreshEvery = 4000; // milliseconds

const me = whoAmI();
const status = document.querySelector('#status');
const people = document.querySelector('#people');

const client = await connect(me);
const present = await client.map('example-presence');
await follow(present, {}, show, hide);
status.addEventListener('change', announce);
setInterval(announce, refreshEvery);
// Browsers slow the timers of a tab that is hidden for minutes: its user is gone until they look again.
document.addEventListener('visibilitychange', announce);
announce();

async function announce() {
  try {
    await present.set(me, { status: status.value }, { ttl: lifetime });
  } catch (error) {
    console.warn('not announced; the next turn tries again', error);
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
