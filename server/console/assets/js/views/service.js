import { get, paths, post, remove } from '../api.js';
import { check, confirmed, field, formDialog, h, put, toast } from '../dom.js';
import { ago, preview, shortSid } from '../format.js';
import { icon } from '../icons.js';
import { page } from '../pages.js';
import { badge, failed, loading, sid } from '../parts.js';
import { VirtualList } from '../virtual.js';

export const kinds = {
  Documents: { icon: 'document', noun: 'document', text: 'One JSON object each.' },
  Lists: { icon: 'list', noun: 'list', text: 'Items in order, by index.' },
  Maps: { icon: 'map', noun: 'map', text: 'Items by key.' },
  Streams: { icon: 'stream', noun: 'stream', text: 'Messages that are not kept.' },
};

/** The page of an object of a kind, which is named as events name it: "map". */
export const pageOf = (service, noun, object) => `#/services/${service}/${Object.keys(kinds).find((k) => kinds[k].noun === noun)}/${object}`;

export const nameOf = (s) => s.friendly_name || s.unique_name || shortSid(s.sid);

export function service(context, ref, tab) {
  const body = h('div.stack', loading());
  load(context, ref, tab ?? 'Maps', body);
  return body;
}

async function load(context, ref, tab, body) {
  let s;
  try {
    s = await get(paths.service(ref));
  } catch (error) {
    put(body, failed(error, 'service'));
    return;
  }
  context.crumbs(['Services', '#/services'], [nameOf(s), '']);
  const tabs = h('nav.tabs', { 'aria-label': 'Parts of the service' }, [...Object.keys(kinds), 'Settings'].map((name) => h('a', { href: `#/services/${s.sid}/${name}`, 'aria-current': name === tab ? 'page' : null }, name)));
  put(body, h('div.head', h('div.text', h('h1', nameOf(s)), h('p', sid(s.sid, true), ' ', s.acl_enabled ? badge('access control', 'accent') : badge('open to every token'))),
    h('div.actions', h('a.button', { href: `#/events?service=${s.sid}` }, icon('events', 16), 'Live events'))),
  tabs, tab === 'Settings' ? settings(context, s) : objects(context, s, tab in kinds ? tab : 'Maps'));
}

function objects({ who }, s, kind) {
  const { noun, icon: drawing } = kinds[kind];
  const path = paths.objects(s.sid, kind);
  const list = new VirtualList({
    label: `${kind} of ${nameOf(s)}`, load: page, id: (o) => o.sid, compare: () => 1,
    render: (o) => [
      icon(drawing, 17), h(`span.col-name${o.unique_name ? '' : '.none'}`, o.unique_name ?? 'without a name'),
      kind === 'Documents' && h('span.col-data.hide-small', preview(o.data)),
      h('span.col-sid', o.sid), o.revision && h('span.col-rev.hide-small', o.revision), h('span.col-when', ago(o.date_updated)),
    ],
    onOpen: (o) => { location.hash = `#/services/${s.sid}/${kind}/${o.sid}`; },
    empty: [`No ${kind.toLowerCase()} yet`, kinds[kind].text],
  });
  list.start(`${path}?PageSize=100`);
  const search = h('input.input', { type: 'search', placeholder: 'Unique name or SID', 'aria-label': `Open a ${noun} by unique name or SID` });
  const find = async (e) => {
    e.preventDefault();
    const text = search.value.trim();
    if (!text) return;
    try {
      const o = await get(paths.object(s.sid, kind, text));
      location.hash = `#/services/${s.sid}/${kind}/${o.sid}`;
    } catch (error) {
      toast(error.status === 404 ? `There is no ${noun} “${text}”` : error.message, 'bad');
    }
  };
  const make = async () => {
    const made = await formDialog(`New ${noun}`, [
      field('Unique name', 'UniqueName', { maxlength: 320 }, 'Optional; it cannot be changed later.'),
      kind === 'Documents' && field('Data', 'Data', { area: true, value: '{}' }, 'A JSON object.'),
      field('Seconds to live', 'Ttl', { type: 'number', min: 0, max: 31536000, placeholder: 'for ever' }),
    ], 'Create', (f) => post(path, { form: { UniqueName: f.UniqueName || undefined, Data: f.Data, Ttl: f.Ttl || undefined } }));
    if (!made) return;
    toast('Created');
    location.hash = `#/services/${s.sid}/${kind}/${made.sid}`;
  };
  return h('section.card.browser',
    h('form.bar', { role: 'search', onsubmit: find }, search, h('button.icon-button', { type: 'submit', 'aria-label': 'Open' }, icon('search')), h('span.fill'),
      h('button.icon-button', { type: 'button', 'aria-label': 'Read the list again', title: 'Read again', onclick: () => list.start(`${path}?PageSize=100`) }, icon('retry')),
      who.rights.write && h('button.button.primary', { type: 'button', onclick: make }, icon('plus', 16), `New ${noun}`)),
    list.el, list.foot);
}

function settings({ who }, s) {
  const write = who.rights.write;
  const problem = h('p.problem', { role: 'alert' });
  const save = async (e) => {
    e.preventDefault();
    const f = Object.fromEntries(new FormData(e.target));
    const on = (name) => String(f[name] === 'true');
    problem.textContent = '';
    try {
      await post(paths.service(s.sid), { form: {
        FriendlyName: f.FriendlyName, WebhookUrl: f.WebhookUrl, AclEnabled: on('AclEnabled'), WebhooksFromRestEnabled: on('WebhooksFromRestEnabled'),
        ReachabilityWebhooksEnabled: on('ReachabilityWebhooksEnabled'),
      } });
      toast('Saved');
    } catch (error) {
      problem.textContent = error.message;
    }
  };
  const drop = async () => {
    if (!await confirmed(`Remove ${nameOf(s)}?`, 'All its objects, items and permissions are removed, for good.', 'Remove the service')) return;
    try {
      await remove(paths.service(s.sid));
      toast('Removed');
      location.hash = '#/services';
    } catch (error) {
      toast(error.message, 'bad');
    }
  };
  const form = h('form.form', { onsubmit: save },
    field('Name', 'FriendlyName', { value: s.friendly_name ?? '', disabled: !write }),
    field('Webhook URL', 'WebhookUrl', { value: s.webhook_url ?? '', disabled: !write, type: 'url', placeholder: 'https://…' }, 'What happens to objects is posted there, signed.'),
    check('Control access by permissions', 'AclEnabled', s.acl_enabled, 'Without it every token of the service may do everything.'),
    check('Webhooks for changes by REST, too', 'WebhooksFromRestEnabled', s.webhooks_from_rest_enabled),
    check('Webhooks when clients come and go', 'ReachabilityWebhooksEnabled', s.reachability_webhooks_enabled),
    problem, write && h('div.foot-bar', h('button.button.primary', { type: 'submit' }, 'Save')));
  if (!write) for (const input of form.querySelectorAll('input')) input.disabled = true;
  return h('div.stack', h('section.card', h('header', h('h2', 'Settings')), h('div.body', form)),
    write && !who.rights.service && h('section.card', h('header', h('h2', 'Remove the service')),
      h('div.body.foot-bar', h('p.quiet', 'With all that it holds, for good.'), h('button.button.danger', { type: 'button', onclick: drop }, icon('trash', 16), 'Remove'))));
}
