import { get } from '../api.js';
import { Plot, spark } from '../chart.js';
import { every, h, put } from '../dom.js';
import { bytes, count, ms, plural, rate, seconds, short } from '../format.js';
import { icon } from '../icons.js';
import { badge, head, loading, note } from '../parts.js';

const interval = 2000, span = 600_000;
const colors = ['c1', 'c2', 'c3', 'c4', 'c5'];

export function overview() {
  const samples = new Map(); // of each node, by time
  const state = h('section.card', loading()), nodes = h('div.nodes'), notes = h('div.stack');
  const plots = {
    rate: new Plot({ title: 'Requests a second', lines: [{ name: 'writes', color: 'c1', area: true }, { name: 'reads', color: 'c2' }], show: rate, least: 5 }),
    latency: new Plot({ title: 'Time that writes take', lines: [{ name: 'median', color: 'c1', area: true }, { name: '99%', color: 'c3' }], show: ms, least: 4 }),
    lag: new Plot({ title: 'Since last up to date', lines: [], show: (v) => (v ? seconds(v) : '0'), least: 5 }),
    sessions: new Plot({ title: 'Connected clients', lines: [], show: count, least: 4 }),
  };
  const page = [head('Overview', 'How the cluster is at the moment, and how the last ten minutes were.'),
    state, notes, h('div.plots', Object.values(plots).map((p) => p.el)), h('h2', 'Nodes'), nodes];

  every(interval, state, async () => {
    const newest = Math.max(0, ...[...samples.values()].map((all) => all.at(-1)?.t ?? 0));
    const now = await get(`overview?after=${newest ? newest - 5 * interval : 0}`);
    for (const n of now.nodes) samples.set(n.id, merged(samples.get(n.id) ?? [], n.samples, now.now));
    put(state, summary(now, samples));
    put(notes, (now.notes ?? []).map((text) => note('warn', text)));
    put(nodes, now.nodes.map((n) => card(n, now, samples.get(n.id))));
    draw(plots, now, samples);
  });
  return page;
}

function merged(old, more, now) {
  const newest = old.at(-1)?.t ?? 0;
  return [...old, ...more.filter((x) => x.t > newest)].filter((x) => x.t > now - span - interval);
}

/** The samples of all nodes, in intervals that all have in common. */
function aligned(samples, now) {
  const at = new Map();
  for (const [id, all] of samples) {
    for (const x of all) {
      const t = Math.floor(x.t / interval) * interval;
      if (!at.has(t)) at.set(t, new Map());
      at.get(t).set(id, x);
    }
  }
  return [...at].filter(([t]) => t < now - interval).sort(([a], [b]) => a - b);
}

function draw(plots, now, samples) {
  const rows = aligned(samples, now.now);
  const sum = (m, name) => [...m.values()].reduce((n, x) => n + x[name], 0);
  const worst = (m, name) => Math.max(0, ...[...m.values()].filter((x) => x.writes > 0).map((x) => x[name])) || null;
  plots.rate.set(rows.map(([t, m]) => ({ t, values: [sum(m, 'writes'), sum(m, 'reads')] })), now.now);
  plots.latency.set(rows.map(([t, m]) => ({ t, values: [weighted(m), worst(m, 'w99')] })), now.now);
  const each = now.nodes.map((n, i) => ({ name: n.id, color: colors[i % colors.length] }));
  const of = (name) => rows.map(([t, m]) => ({ t, values: now.nodes.map((n) => m.get(n.id)?.[name] ?? null) }));
  plots.lag.set(of('age'), now.now, each);
  plots.sessions.set(of('sessions'), now.now, each);
}

function weighted(m) {
  let total = 0, n = 0;
  for (const x of m.values()) { total += x.w50 * x.writes; n += x.writes; }
  return n ? total / n : null;
}

function health(now) {
  const away = now.nodes.filter((n) => n.role === 'unreachable');
  const sick = now.nodes.filter((n) => n.problem && n.role !== 'unreachable');
  const voters = now.nodes.filter((n) => n.voter), there = voters.filter((n) => n.role !== 'unreachable');
  const leader = now.nodes.find((n) => n.role === 'leader');
  if (!leader || there.length * 2 <= voters.length) return ['bad', 'The cluster accepts no writes', `${there.length} of ${plural(voters.length, 'voter')} can be reached; a majority is needed.`];
  if (away.length) return ['warn', `${plural(away.length, 'node')} cannot be reached`, `${away.map((n) => n.id).join(', ')} does not answer. The others serve everything; ${leader.id} leads.`];
  if (sick.length) return ['warn', `${sick[0].id} does not serve`, sick[0].problem];
  return ['good', now.nodes.length === 1 ? 'The node serves' : `All ${now.nodes.length} nodes serve`, `${leader.id} leads. Every write is on a majority of the nodes before it is answered.`];
}

function summary(now, samples) {
  const [kind, title, text] = health(now);
  const latest = [...samples].filter(([id]) => now.nodes.some((n) => n.id === id && n.role !== 'unreachable')).map(([, all]) => all.at(-1)).filter(Boolean);
  const total = (name) => latest.reduce((n, x) => n + x[name], 0);
  const figure = (name, value, unit = '') => h('div', h('dt', name), h('dd', value, unit && h('small', ` ${unit}`)));
  return [h(`div.state.${kind}`, h('div.mark', icon(kind === 'good' ? 'ok' : kind, 22)), h('div', { role: 'status' }, h('h2', title), h('p', text))),
    h('dl.figures',
      figure('Writes', short(total('writes')), '/s'), figure('Reads', short(total('reads')), '/s'),
      figure('Writes, 99%', ms(Math.max(0, ...latest.map((x) => x.w99)))), figure('Clients', count(total('sessions'))),
      figure('Objects', count(now.stored.objects)), figure('Items', count(now.stored.items)), figure('State', bytes(now.stored.bytes)), figure('Webhooks due', count(now.webhooks.waiting)))];
}

const roles = { leader: ['Leader', 'accent'], follower: ['Follower', ''], nonvoter: ['No vote', ''], unreachable: ['Unreachable', 'bad'] };

function card(n, now, samples = []) {
  const [text, kind] = roles[n.role] ?? [n.role, ''];
  const most = Math.max(...now.nodes.map((x) => x.applied_index ?? 0));
  const last = samples.at(-1), away = n.role === 'unreachable';
  const rows = away ? [['Voter', n.voter ? 'yes' : 'no'], ['Version', n.version || '–']] : [
    ['Applied', count(n.applied_index)], ['Behind', plural(most - n.applied_index, 'entry', 'entries')],
    ['Clients', count(last?.sessions)], ['Writes', `${rate(last?.writes)} /s`], ['Version', n.version],
  ];
  if (n.http) rows.push(['Address', n.http.replace(/^https?:\/\//, '')]);
  return h(`section.card.node${away ? '.away' : ''}`, { 'aria-label': `Node ${n.id}` },
    h('header', h('h2', n.id), n.id === now.node && badge('answers you'), badge(text, kind, true)),
    h('div.body', n.problem && note('warn', n.problem), h('dl', rows.map(([a, b]) => [h('dt', a), h('dd', b)])), spark(away ? [] : samples.slice(-90).map((x) => x.writes))));
}
