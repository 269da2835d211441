import { post } from '../api.js';
import { field, h } from '../dom.js';
import { note } from '../parts.js';

export function login(message, entered) {
  const problem = h('p.problem', { role: 'alert' });
  const button = h('button.button.primary', { type: 'submit' }, 'Log in');
  const form = h('form.form', { onsubmit: async (e) => {
    e.preventDefault();
    button.disabled = true;
    problem.textContent = '';
    const { key, secret } = Object.fromEntries(new FormData(form));
    try {
      entered(await post('session', { json: { Key: key.trim(), Secret: secret.trim() } }));
    } catch (error) {
      problem.textContent = error.status === 401 ? 'There is no such key, or the secret is not its own.' : error.message;
      button.disabled = false;
    }
  } },
  field('API key', 'key', { required: true, placeholder: 'SK…', autocomplete: 'username', autocapitalize: 'none' }),
  field('Secret', 'secret', { required: true, type: 'password', autocomplete: 'current-password' }),
  problem, button);
  const page = h('main.login', h('div.box',
    h('div.name', h('img', { src: 'icon.svg', alt: '' }), 'Lockstep'),
    message && note('', message),
    h('section.card', h('div', h('h1', 'Log in'), h('p', 'With an API key, or the account’s SID and auth token.')), form),
    h('p.foot', 'What you see is what the key may see. Keys are made with ', h('code', 'lockstep keys create'), '.')));
  requestAnimationFrame(() => form.elements.key.focus());
  return page;
}
