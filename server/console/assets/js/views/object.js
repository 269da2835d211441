import { get, paths, post, remove } from '../api.js';
import { confirmed, field, formDialog, h, put, toast } from '../dom.js';
import { Editor } from '../editor.js';
import { ago, clock, preview } from '../format.js';
import { icon } from '../icons.js';
import { followObject, identityOf, useIdentity } from '../live.js';
import { endsOf, fitting, itemsFrom, page } from '../pages.js';
import { badge, empty, failed, live, loading, note, sid } from '../parts.js';
import { VirtualList } from '../virtual.js';
import { permissions } from './permissions.js';
import { kinds, nameOf } from './service.js';
import { eventRow } from './events.js';
import { follow } from '../tail.js';

export function object(context, serviceSid, kind, ref) {
  const body = h('div.stack', loading());
  load(context, serviceSid, kind, ref, body);
  return body;
}

async function load(context, serviceSid, kind, ref, body) {
  let s, o;
  try {
    [s, o] = await Promise.all([get(paths.service(serviceSid)), get(paths.object(serviceSid, kind, ref))]);
  } catch (error) {
    put(body, failed(error, kinds[kind]?.noun ?? 'object'));
    return;
  }
  const { who, query } = context;
  const { noun, icon: drawing } = kinds[kind];
  const base = `#/services/${s.sid}/${kind}`;
  const title = o.unique_name ?? o.sid;
  context.crumbs(['Services', '#/services'], [nameOf(s), `#/services/${s.sid}`], [kind, base], [title, '']);

  const tab = query.get('tab') ?? 'data';
  const tabs = [['data', kind === 'Streams' ? 'Messages' : 'Data'], ...(kind === 'Streams' ? [] : [['permissions', 'Permissions']]), ['events', 'Events']];
  const status = h('span', { 'aria-live': 'polite' });
  const drop = async () => {
    if (!await confirmed(`Remove ${title}?`, `The ${noun} and all that it holds are removed for everybody, for good.`, 'Remove')) return;
    try {
      await remove(paths.object(s.sid, kind, o.sid));
      toast('Removed');
      location.hash = base;
    } catch (error) {
      toast(error.message, 'bad');
    }
  };
  const see = async () => {
    const chosen = await formDialog('See it as an identity', [field('Identity', 'identity', { value: identityOf(), required: true }, 'The SDK opens the object with a token of this identity, and its permissions.')], 'Use', (f) => f.identity || 'console');
    if (!chosen) return;
    useIdentity(chosen);
    dispatchEvent(new Event('hashchange'));
  };
  const content = h('div.stack');
  put(body,
    h('div.head', h('div.text', h('h1', title), h('p', sid(o.sid, true), ' ', badge(noun), ' ', o.date_expires && badge(`expires ${ago(o.date_expires)}`, 'warn'))),
      h('div.actions', status, who.rights.sign && tab === 'data' && h('button.button.slim', { type: 'button', title: 'Whose token opens it', onclick: see }, `as ${identityOf()}`),
        who.rights.write && h('button.icon-button', { type: 'button', 'aria-label': `Remove ${title}`, title: 'Remove', onclick: drop }, icon('trash')))),
    h('nav.tabs', { 'aria-label': `Parts of the ${noun}` }, tabs.map(([name, text]) => h('a', { href: `${base}/${o.sid}?tab=${name}`, 'aria-current': name === tab ? 'page' : null }, text))),
    content);

  const target = { s, o, kind, who, title, status, content, drawing };
  if (tab === 'permissions') put(content, permissions(context, s, o, kind));
  else if (tab === 'events') eventsOf(context, target);
  else ({ Documents: documentView, Lists: itemsView, Maps: itemsView, Streams: streamView })[kind](context, target);
}

/** Follows the object for as long as the page is shown. */
function watch(context, { s, o, kind, who, status }, told) {
  context.onEnd(followObject({ service: s.sid, kind, sid: o.sid, mayLive: who.rights.sign }, told, (state) => put(status, live(state))));
}

const removedNote = () => note('warn', 'The object was removed, or has expired.');

function documentView(context, target) {
  const { s, o, kind, who, title, content } = target;
  const editor = new Editor({ path: paths.object(s.sid, kind, o.sid), title, noun: 'document', write: who.rights.write, onRemoved: () => { location.hash = `#/services/${s.sid}/${kind}`; } });
  put(content, editor.el);
  editor.load();
  watch(context, target, (e) => {
    if (e.what === 'document' || e.what === 'reload') editor.changed();
    if (e.what === 'removed') editor.gone();
  });
}

const size = 100;

function itemsView(context, target) {
  const { s, o, kind, who, title, content } = target;
  const isMap = kind === 'Maps';
  const key = (i) => String(isMap ? i.key : i.index);
  const path = paths.items(s.sid, kind, o.sid);
  let order = 'asc', editor = null;
  const compare = (a, b) => {
    const d = isMap ? compareKeys(a.key, b.key) : Number(a.index) - Number(b.index);
    return order === 'desc' ? -d : d;
  };
  const side = h('div.panel', empty('info', 'Choose an item', 'to see all of it and to change it'));
  const split = h('div.split');
  const close = () => {
    editor = null;
    split.classList.remove('chosen');
    put(side, empty('info', 'Choose an item', 'to see all of it and to change it'));
  };
  let prefix = ''; // of the keys that are shown
  const fits = (i) => prefix === '' || key(i).startsWith(prefix);
  const list = new VirtualList({
    label: `Items of ${title}`, id: key, name: key, compare,
    ends: () => endsOf(path, size, order, prefix),
    load: async (cursor) => fitting(await (cursor.from === undefined ? page(cursor) : itemsFrom(path, cursor.from, size, order)), fits),
    render: (i) => [h('span.col-key', key(i)), h('span.col-data', i.data === undefined ? '…' : preview(i.data)), i.date_expires && badge('expires', 'warn'), h('span.col-rev.hide-small', i.revision ?? ''), h('span.col-when', ago(i.date_updated))],
    onOpen: (i) => {
      editor = new Editor({ path: paths.item(s.sid, kind, o.sid, key(i)), title: key(i), noun: 'item', write: who.rights.write, onRemoved: close, onClose: close });
      editor.key = key(i);
      editor.load();
      put(side, editor.el);
      split.classList.add('chosen');
    },
  });
  const start = () => {
    list.emptyText = prefix ? ['No such key', `None begins with “${prefix}”.`] : ['No items yet', isMap ? 'Items have a key and data.' : 'Items have an index and data.'];
    return list.start(list.ends().first);
  };
  start();

  const noun = isMap ? 'key' : 'index';
  const search = h('input.input', { type: 'search', inputmode: isMap ? 'text' : 'numeric' });
  let filters = false, later;
  const go = async (e) => {
    e.preventDefault();
    const text = search.value.trim();
    if (filters) return narrow();
    if (!text) return start();
    await list.start({ from: text });
    list.choose(isMap ? text : String(Number(text)));
    list.el.focus({ preventScroll: true });
    if (list.active < 0 && !list.problem) toast(`There is no ${noun} “${text}”; here is where it would be`);
  };
  const narrow = () => {
    clearTimeout(later);
    const wanted = filters ? search.value : '';
    if (wanted === prefix) return;
    prefix = wanted;
    start();
  };
  search.addEventListener('input', () => {
    if (!filters) return;
    clearTimeout(later);
    later = setTimeout(narrow, 250);
  });
  const ask = () => {
    const text = filters ? 'Keys that begin with' : `Go to ${isMap ? 'a key' : 'an index'}`;
    search.placeholder = text;
    search.setAttribute('aria-label', text);
  };
  ask();
  const ways = isMap && h('div.segments', { role: 'group', 'aria-label': 'What the field does' }, [[false, 'Go to'], [true, 'Filter']].map(([value, text]) => h('button', { type: 'button', 'aria-pressed': String(value === filters), onclick: (e) => {
    filters = value;
    for (const b of e.currentTarget.parentNode.children) b.setAttribute('aria-pressed', String(b === e.currentTarget));
    ask();
    narrow();
    search.focus();
  } }, text)));
  const turn = h('button.icon-button', { type: 'button', onclick: () => { order = order === 'asc' ? 'desc' : 'asc'; say(); start(); } });
  const say = () => {
    const text = order === 'asc' ? 'First to last' : 'Last to first';
    for (const name of ['aria-label', 'title']) turn.setAttribute(name, `Order: ${text.toLowerCase()}`);
    put(turn, icon(order));
  };
  say();
  const add = async () => {
    const made = await formDialog('New item', [
      isMap && field('Key', 'Key', { required: true, maxlength: 320 }),
      field('Data', 'Data', { area: true, value: '{}' }, 'A JSON object, up to 16 KiB.'),
      field('Seconds to live', 'ItemTtl', { type: 'number', min: 0, max: 31536000, placeholder: 'for ever' }),
    ], 'Add', (f) => post(path, { form: { Key: f.Key, Data: f.Data, ItemTtl: f.ItemTtl || undefined } }));
    if (made) { toast('Added'); if (fits(made)) list.put(made); }
  };
  put(split,
    h('section.card.browser', h('form.bar', { role: 'search', onsubmit: go }, search, h('button.icon-button', { type: 'submit', 'aria-label': 'Go' }, icon('search')), ways, turn, h('span.fill'),
      who.rights.write && h('button.button.primary', { type: 'button', onclick: add }, icon('plus', 16), 'New item')), list.el, list.foot), side);
  put(content, split);

  watch(context, target, (e) => {
    switch (e.what) {
      case 'item': {
        const row = { [isMap ? 'key' : 'index']: isMap ? e.key : Number(e.key), date_updated: e.at ?? Date.now(), revision: e.revision ?? '' };
        if (!e.long) row.data = e.data;
        if (fits(row)) list.put(row);
        if (editor?.key === e.key) editor.changed();
        break;
      }
      case 'item-removed':
        list.remove(e.key);
        if (editor?.key === e.key) editor.gone();
        break;
      case 'reload': // what is in sight stays there
        if (list.begins || !list.top) start(); else list.start({ from: key(list.top) });
        editor?.changed();
        break;
      case 'removed':
        put(content, removedNote());
    }
  });
}

/** Keys are ordered by their bytes in UTF-8, which is by code points. */
function compareKeys(a, b) {
  // Of the units of UTF-16 those of pairs are below some that stand alone, but after them.
  const rank = (unit) => (unit < 0xd800 ? unit : unit < 0xe000 ? unit + 0x2000 : unit - 0x800);
  for (let i = 0, n = Math.min(a.length, b.length); i < n; i++) {
    const d = rank(a.charCodeAt(i)) - rank(b.charCodeAt(i));
    if (d !== 0) return d;
  }
  return a.length - b.length;
}

function streamView(context, target) {
  const { s, o, kind, who, content } = target;
  const messages = h('div.tail', { tabindex: 0, role: 'log', 'aria-label': 'Messages' }, empty('stream', 'Messages appear here as they are published', 'A stream keeps none.'));
  const data = h('textarea.area', { 'aria-label': 'Data of a message', spellcheck: 'false', value: '{}' });
  const problem = h('p.problem', { role: 'alert' });
  const publish = async (e) => {
    e.preventDefault();
    problem.textContent = '';
    try {
      await post(`${paths.object(s.sid, kind, o.sid)}/Messages`, { form: { Data: data.value } });
      toast('Published');
    } catch (error) {
      problem.textContent = error.message;
    }
  };
  put(content, h('div.split', h('section.card', messages),
    who.rights.write ? h('section.card', h('header', h('h2', 'Publish a message')), h('form.body.form', { onsubmit: publish }, data, problem, h('div', h('button.button.primary', { type: 'submit' }, 'Publish')))) : h('div')));
  watch(context, target, (e) => {
    if (e.what === 'removed') put(content, removedNote());
    if (e.what !== 'message') return;
    messages.querySelector('.empty')?.remove();
    messages.prepend(h('details.event', h('summary', h('time', clock(Date.now())), h('span.data', preview(e.data))), h('pre.code', { tabindex: 0 }, JSON.stringify(e.data, null, 2))));
    while (messages.children.length > 500) messages.lastChild.remove();
  });
}

function eventsOf(context, { s, o, status, content }) {
  const log = h('div.tail', { tabindex: 0, role: 'log', 'aria-label': 'Events of the object' }, empty('events', 'Waiting for something to happen', 'What happens to the object appears here.'));
  put(content, h('section.card', log));
  context.onEnd(follow({ service: s.sid, object: o.sid }, (e) => {
    if (e.type === 'ready') return;
    log.querySelector('.empty')?.remove();
    log.prepend(eventRow(e));
    while (log.children.length > 500) log.lastChild.remove();
  }, (is) => put(status, live({ is }))));
}
