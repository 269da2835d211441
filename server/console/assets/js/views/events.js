import { h, put } from '../dom.js';
import { clock, preview } from '../format.js';
import { icon } from '../icons.js';
import { empty, head, live } from '../parts.js';
import { follow } from '../tail.js';
import { pageOf } from './service.js';

const kept = 500;
const shade = (type) => (/(created|added|published)$/.test(type) ? '.add' : /(removed|revoked)$/.test(type) ? '.del' : '.upd');

/** One event as a row. */
export function eventRow(e) {
  if (e.type === 'missed') return h('div.event.marker', 'The connection was lost; what happened meanwhile is not here.');
  if (e.type === 'skipped') return h('div.event.marker', `${e.count.toLocaleString('en')} more events in that second are not shown`);
  return h('div.event',
    h('time', clock(e.at)), h(`span.what${shade(e.type)}`, e.type.replaceAll('_', ' ')),
    h('span.where', e.object ? h('a', { href: pageOf(e.service, e.kind, e.object) }, e.name || e.object) : e.service ?? '', e.item && [' ', h('code', e.item)]),
    h('span.who', e.identity),
    e.bytes > 0 && h('span.data', e.data === undefined ? `${e.bytes.toLocaleString('en')} bytes` : preview(e.data)));
}

export function tail({ who, query, onEnd }) {
  const only = query.get('service') ?? who.rights.service ?? '';
  const rows = []; // the newest first
  let paused = false, waiting = 0, match = '', frame = 0;
  const log = h('div.tail', { tabindex: 0, role: 'log', 'aria-live': 'off', 'aria-label': 'Events' });
  const status = h('span', { 'aria-live': 'polite' }), seen = h('span.quiet.small.number');
  const draw = () => {
    frame = 0;
    const shown = match ? rows.filter((r) => r.text.includes(match)) : rows;
    if (!shown.length) return put(log, empty('events', rows.length ? 'Nothing fits' : 'Waiting for something to happen', rows.length ? 'Of what was seen, nothing has this text.' : 'Every change of the data appears here at once.'));
    const known = new Set(log.children);
    const wanted = shown.map((r) => r.el);
    if (!wanted.some((el) => known.has(el))) return put(log, wanted);
    const set = new Set(wanted);
    for (const el of [...log.children]) if (!set.has(el)) el.remove();
    for (let i = wanted.length - 1; i >= 0; i--) if (wanted[i].parentNode !== log) log.insertBefore(wanted[i], wanted[i + 1] ?? null);
    return log;
  };
  const count = () => { seen.textContent = paused && waiting ? `${waiting.toLocaleString('en')} more since` : `${rows.length.toLocaleString('en')} seen`; };
  const told = (e) => {
    if (e.type === 'ready') return;
    if (paused) { waiting++; count(); return; }
    rows.unshift({ el: eventRow(e), text: JSON.stringify(e).toLowerCase() });
    if (rows.length > kept) rows.length = kept;
    count();
    frame ||= requestAnimationFrame(draw);
  };
  onEnd(follow(only ? { service: only } : {}, told, (is) => put(status, live({ is }))));
  const pause = h('button.button.slim', { type: 'button', 'aria-pressed': 'false', onclick: () => {
    paused = !paused;
    waiting = 0;
    pause.setAttribute('aria-pressed', String(paused));
    put(pause, icon(paused ? 'play' : 'pause', 16), paused ? 'Go on' : 'Pause');
    count();
  } }, icon('pause', 16), 'Pause');
  const clear = h('button.button.slim', { type: 'button', onclick: () => { rows.length = 0; draw(); count(); } }, 'Clear');
  const search = h('input.input', { type: 'search', placeholder: 'Only events with this text', 'aria-label': 'Only events with this text', oninput: () => { match = search.value.trim().toLowerCase(); draw(); } });
  draw();
  count();
  return [head('Live events', only ? h('span', 'Of the service ', h('code', only)) : 'Everything that happens to the data, in all services.', status),
    h('section.card', h('div.bar', search, h('span.fill'), seen, clear, pause), log)];
}
