// Parts that several pages have.
import { copy, h } from './dom.js';
import { icon } from './icons.js';
import { shortSid } from './format.js';

/** A SID that can be copied. */
export const sid = (text, whole = false) => h('button.sid', { type: 'button', title: `Copy ${text}`, onclick: (e) => { e.preventDefault(); copy(text); } },
  h('span.unseen', 'Copy '), h('span', whole ? text : shortSid(text)), icon('copy', 14));

export const badge = (text, kind = '', dot = false) => h(`span.badge${kind ? `.${kind}` : ''}`, dot && h('span.dot'), text);

export const empty = (name, title, ...text) => h('div.empty', icon(name, 34), h('b', title), ...text);

export const loading = () => h('div.loading', h('div.spin', { role: 'status', 'aria-label': 'Loading' }));

export const note = (kind, ...text) => h(`div.note${kind ? `.${kind}` : ''}`, icon({ warn: 'warn', bad: 'bad', good: 'ok' }[kind] ?? 'info'), h('div', ...text));

/** What is there instead of a thing that cannot be read. */
export const failed = (error, noun) => h('div.stack', h('h1', error.status === 404 ? `There is no such ${noun}` : `The ${noun} cannot be read`), note(error.status === 404 ? 'warn' : 'bad', error.message));

export const head = (title, text, ...actions) => h('div.head', h('div.text', h('h1', title), text && h('p', text)), h('div.actions', actions));

/** A table that scrolls by itself where it is too wide; a column that acts stays in sight. */
export const table = (label, columns, rows, tall) => {
  const classes = (c) => `${c.right ? '.right' : ''}${c.fit ? '.fit' : ''}${c.acts ? '.acts' : ''}${c.small ? '.hide-small' : ''}${c.any ? '.any' : ''}`;
  return h(`div.wide${tall ? '.tall' : ''}`, { tabindex: 0, role: 'region', 'aria-label': label }, h('table.table',
    h('thead', h('tr', columns.map((c) => h(`th${classes(c)}`, { scope: 'col' }, c.name)))),
    h('tbody', rows.map((row) => h('tr', row.map((cell, i) => h(`td${classes(columns[i])}`, cell)))))));
};

export const live = (state) => {
  const text = state.is === 'live' ? 'Live' : 'Reconnecting';
  const by = state.by === 'events' ? ' · event stream' : state.by === 'sdk' ? ' · Sync SDK' : '';
  return h(`span.badge.${state.is === 'live' ? 'good' : 'warn'}`, { title: state.why ? `Not by the SDK: ${state.why}` : null }, h('span.dot.pulse'), text + by);
};
