import { get } from '../api.js';
import { every, h, put } from '../dom.js';
import { ago, count, plural } from '../format.js';
import { badge, empty, head, loading, note, sid, table } from '../parts.js';

const words = {
  write: 'Writes', read: 'Reads', publish: 'Messages', query: 'Queries', 'write-permission': 'Changes of permissions', 'read-permission': 'Reads of permissions',
  create: 'New objects', missing: 'Requests for what is not there',
};
const wordOf = (name) => words[name] ?? words[name.replace(/-(document|list|map|stream)$/, '')] ?? name;

export function limits() {
  const body = h('div', loading()), total = h('span.quiet.small');
  every(3000, body, async () => {
    let now;
    try {
      now = await get('refusals');
    } catch (error) {
      put(body, h('div.body', note('warn', error.message)));
      return;
    }
    total.textContent = `${plural(now.total, 'request')} refused by the present leader since it started`;
    if (!now.refusals.length) {
      put(body, empty('limits', 'No request was refused', 'What comes faster than --rate-limits allows is answered 429, and appears here.'));
      return;
    }
    const most = Math.max(...now.refusals.map((r) => r.count));
    put(body, table('Refusals', [{ name: 'What' }, { name: 'Of' }, { name: 'Identity' }, { name: 'Refused', right: true }, { name: h('span.unseen', 'Share of them'), small: true }, { name: 'Last', fit: true }], now.refusals.map((r) => {
      const bar = h('i');
      bar.style.width = `${Math.max(3, 100 * r.count / most)}%`;
      return [h('b', wordOf(r.class)), r.sid ? [r.name && `${r.name} `, sid(r.sid)] : h('span.quiet', 'not shown to operators'), r.identity ? badge(r.identity) : h('span.quiet', r.sid ? 'API key or shared' : '–'), count(r.count), h('div.meter', bar), ago(r.last)];
    })));
  });
  return [head('Rate limits', 'What was refused because it came too fast, by the limit that refused it.'), h('section.card', h('header', h('h2', 'Refusals'), total), body)];
}
