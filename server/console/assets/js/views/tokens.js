import { get, post } from '../api.js';
import { copy, field, h, put } from '../dom.js';
import { moment } from '../format.js';
import { icon } from '../icons.js';
import { empty, head, sid } from '../parts.js';
import { nameOf } from './service.js';

const lifetimes = [[900, '15 minutes'], [3600, '1 hour'], [28800, '8 hours'], [86400, '24 hours']];

export function tokens({ who }) {
  const out = h('section.card', empty('tokens', 'No token yet', 'It is made by the node that serves this page, and kept nowhere.'));
  const problem = h('p.problem', { role: 'alert' });
  const services = h('datalist', { id: 'services' });
  if (who.rights.data && !who.rights.service) {
    get('v1/Services?PageSize=100').then((b) => put(services, b.services.map((s) => h('option', { value: s.sid }, nameOf(s))))).catch(() => {});
  }
  const form = h('form.form', { onsubmit: async (e) => {
    e.preventDefault();
    const f = Object.fromEntries(new FormData(form));
    problem.textContent = '';
    try {
      show(await post('token', { json: { Service: f.service.trim(), Identity: f.identity, Seconds: Number(f.seconds) } }), f);
    } catch (error) {
      problem.textContent = error.message;
    }
  } },
  field('Service', 'service', { value: who.rights.service ?? 'default', list: 'services', required: true, readonly: Boolean(who.rights.service) }, 'Its SID or unique name.'), services,
  field('Identity', 'identity', { required: true, placeholder: 'alice' }, 'Who holds the token; permissions are granted to identities.'),
  field('Good for', 'seconds', { options: lifetimes }),
  problem, h('div', h('button.button.primary', { type: 'submit' }, 'Make a token')));
  form.elements.seconds.value = '3600';

  function show(made) {
    const [header, claims] = made.token.split('.').slice(0, 2).map((part) => JSON.parse(atob(part.replaceAll('-', '+').replaceAll('_', '/'))));
    const text = h('textarea.area.token-out', { readonly: true, 'aria-label': 'The token', value: made.token });
    const code = `const client = new SyncClient(token, {\n  Twilsock: { uri: '${location.origin.replace(/^http/, 'ws')}/v3/wsconnect' },\n});`;
    put(out, h('header', h('h2', 'Token'), h('button.button.slim', { type: 'button', onclick: () => copy(made.token) }, icon('copy', 16), 'Copy')),
      h('div.body.stack', text,
        h('div', h('p.small', `Signed with `, sid(made.key), ` · expires ${moment(made.expires)}`)),
        h('h3', 'What it says'), h('pre.code', { tabindex: 0 }, JSON.stringify({ ...header, ...claims }, null, 2)),
        h('h3', 'In an application'), h('pre.code', { tabindex: 0 }, code)));
    text.focus();
    text.select();
  }
  return [head('Access tokens', 'With a token an application connects as one identity to one service.'),
    h('div.halves', h('section.card', h('header', h('h2', 'New token')), h('div.body', form)), out)];
}
