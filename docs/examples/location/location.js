// Location: a list to which everyone appends positions. The index of an item never
// changes, so a page can draw any part of the past, from ?from= on, and then hears
// what is added, without gap or repeat.
import { colourOf, connect, follow, whoAmI } from '../common/sync.js';

const keptFor = 3600; // seconds until a position expires
const driveEvery = 700; // milliseconds

const me = whoAmI();
const from = Number(new URLSearchParams(location.search).get('from') ?? 0);
const map = document.querySelector('#map');
const pen = map.getContext('2d');
const positions = new Map(); // by index: {who, x, y}, x and y from 0 to 1
let driving; // the timer of a drive
let drawing; // the frame that will draw

draw();
const client = await connect(me);
const track = await client.list('example-location');
await follow(track, { from, order: 'asc' }, show, hide);
map.addEventListener('click', (event) => moveTo(event.offsetX / map.clientWidth, event.offsetY / map.clientHeight));
document.querySelector('#drive').addEventListener('click', drive);
document.body.dataset.ready = 'true';

async function moveTo(x, y) {
  try {
    await track.push({ who: me, x: rounded(x), y: rounded(y) }, { ttl: keptFor });
  } catch (error) {
    console.warn('position not sent', error);
  }
}

function rounded(part) {
  return Math.round(Math.min(1, Math.max(0, part)) * 1000) / 1000;
}

function drive({ target: button }) {
  if (driving) {
    clearInterval(driving);
    driving = undefined;
  } else {
    let { x, y } = [...inOrder()].filter(([, p]) => p.who === me).pop()?.[1] ?? { x: 0.5, y: 0.5 };
    let heading = Math.random() * 2 * Math.PI;
    driving = setInterval(() => {
      heading += (Math.random() - 0.5) * 1.2;
      x = bounce(x + 0.03 * Math.cos(heading));
      y = bounce(y + 0.05 * Math.sin(heading));
      moveTo(x, y);
    }, driveEvery);
  }
  button.textContent = driving ? 'Stop' : 'Drive';
}

function bounce(part) {
  return part < 0 ? -part : part > 1 ? 2 - part : part;
}

function show(index, position) {
  if (index < from) return;
  positions.set(index, position);
  draw();
}

function hide(index) {
  positions.delete(index);
  draw();
}

function inOrder() {
  return [...positions].sort(([a], [b]) => a - b);
}

// Draws once for all that changes within a frame.
function draw() {
  drawing ??= requestAnimationFrame(() => {
    drawing = undefined;
    drawNow();
  });
}

function drawNow() {
  drawStreets();
  const last = new Map(); // by user
  const indices = [];
  for (const [index, { who, x, y }] of inOrder()) {
    indices.push(index);
    const at = { x: x * map.width, y: y * map.height };
    if (last.has(who)) drawLeg(last.get(who), at, colourOf(who));
    last.set(who, at);
  }
  for (const [who, at] of last) drawPerson(who, at);
  describe(indices);
}

function describe(indices) {
  const range = document.querySelector('#range');
  range.textContent = indices.length ? `positions ${indices[0]} to ${indices.at(-1)}` : 'no positions yet';
  range.dataset.indices = indices.join(',');
  const middle = indices[Math.floor(indices.length / 2)] ?? 0;
  const replay = document.querySelector('#replay');
  replay.href = from ? '?from=0' : `?from=${middle}`;
  replay.textContent = from ? 'Replay from 0' : `Replay from ${middle}`;
}

function drawStreets() {
  pen.fillStyle = '#eef1f4';
  pen.fillRect(0, 0, map.width, map.height);
  pen.fillStyle = '#d6ead9';
  pen.fillRect(820, 120, 360, 220);
  pen.strokeStyle = '#bcd9ef';
  pen.lineWidth = 46;
  pen.beginPath();
  pen.moveTo(-50, 620);
  pen.bezierCurveTo(350, 480, 700, 760, 1450, 520);
  pen.stroke();
  pen.strokeStyle = '#fff';
  pen.lineWidth = 14;
  for (let x = 100; x < map.width; x += 240) line({ x, y: 0 }, { x, y: map.height });
  for (let y = 90; y < map.height; y += 170) line({ x: 0, y }, { x: map.width, y });
}

function drawLeg(a, b, colour) {
  pen.strokeStyle = colour;
  pen.lineWidth = 5;
  pen.lineCap = 'round';
  line(a, b);
}

function line(a, b) {
  pen.beginPath();
  pen.moveTo(a.x, a.y);
  pen.lineTo(b.x, b.y);
  pen.stroke();
}

function drawPerson(who, { x, y }) {
  pen.beginPath();
  pen.arc(x, y, 14, 0, 2 * Math.PI);
  pen.fillStyle = colourOf(who);
  pen.fill();
  pen.lineWidth = 5;
  pen.strokeStyle = '#fff';
  pen.stroke();
  pen.fillStyle = '#1d2433';
  pen.font = '600 26px system-ui, "DejaVu Sans", sans-serif';
  pen.textAlign = x > map.width - 260 ? 'right' : 'left';
  pen.fillText(who, x + (pen.textAlign === 'left' ? 24 : -24), y + 9);
}
