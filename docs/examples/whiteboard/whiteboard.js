// Whiteboard: strokes as messages of a stream. One's own strokes are drawn at once
// and published in pieces, often enough to look live and seldom enough for the
// limits of a stream: 4 KiB for a message, some messages a second.
import { colourOf, connect, whoAmI } from '../common/sync.js';

const publishEvery = 120; // milliseconds
const pointsInMessage = 150;

const me = whoAmI();
const board = document.querySelector('#board');
const pen = board.getContext('2d');
pen.lineCap = pen.lineJoin = 'round';
pen.lineWidth = 6;
clear();

const client = await connect(me);
const stream = await client.stream('example-whiteboard');
stream.on('messagePublished', ({ message, isLocal }) => {
  if (!isLocal) apply(message.data);
});
document.querySelector('#clear').addEventListener('click', () => {
  clear();
  publish({ clear: true });
});
followPointer();
document.body.dataset.ready = 'true';

function apply({ clear: wipe, who, points }) {
  if (wipe) clear();
  else stroke(points, colourOf(who));
}

function clear() {
  pen.fillStyle = '#fff';
  pen.fillRect(0, 0, board.width, board.height);
}

// points are [x, y], both from 0 to 1000 over the board.
function stroke(points, colour) {
  pen.strokeStyle = colour;
  pen.beginPath();
  pen.moveTo(...onBoard(points[0]));
  for (const point of points) pen.lineTo(...onBoard(point));
  pen.stroke();
}

function onBoard([x, y]) {
  return [(x / 1000) * board.width, (y / 1000) * board.height];
}

async function publish(data) {
  try {
    await stream.publishMessage(data);
  } catch (error) {
    console.warn('not published', error);
  }
}

function followPointer() {
  let points = []; // drawn here and not published yet
  let timer;

  board.addEventListener('pointerdown', (event) => {
    if (timer) return; // a second finger
    board.setPointerCapture(event.pointerId);
    points = [at(event)];
    draw(at(event));
    timer = setInterval(flush, publishEvery);
  });
  board.addEventListener('pointermove', (event) => {
    if (timer) draw(at(event));
  });
  board.addEventListener('pointerup', end);
  board.addEventListener('pointercancel', end);

  function draw(point) {
    stroke([points.at(-1), point], colourOf(me));
    points.push(point);
    if (points.length >= pointsInMessage) flush();
  }

  // The next piece begins where this one ends, or the line would have gaps.
  function flush() {
    if (points.length > 1) publish({ who: me, points });
    points = points.slice(-1);
  }

  function end() {
    clearInterval(timer);
    timer = undefined;
    flush();
  }
}

function at(event) {
  return [Math.round((event.offsetX / board.clientWidth) * 1000), Math.round((event.offsetY / board.clientHeight) * 1000)];
}
