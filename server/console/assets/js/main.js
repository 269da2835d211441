// The frame around the pages, and which page is shown.
import { events, get, remove } from './api.js';
import { h, put } from './dom.js';
import { icon } from './icons.js';
import { leave } from './live.js';
import { shortSid } from './format.js';
import { backups } from './views/backups.js';
import { tail } from './views/events.js';
import { limits } from './views/limits.js';
import { login } from './views/login.js';
import { object } from './views/object.js';
import { overview } from './views/overview.js';
import { service } from './views/service.js';
import { services } from './views/services.js';
import { tokens } from './views/tokens.js';
import { webhooks } from './views/webhooks.js';

const app = document.getElementById('app');

const sections = [
  ['Cluster', [
    { name: 'overview', title: 'Overview', may: (r) => r.cluster, show: overview },
    { name: 'limits', title: 'Rate limits', may: (r) => r.cluster || r.data, show: limits },
    { name: 'backups', title: 'Backups', may: (r) => r.operator, show: backups },
  ]],
  ['Data', [
    { name: 'services', title: 'Services', may: (r) => r.data, show: services },
    { name: 'events', title: 'Live events', may: (r) => r.data, show: tail },
    { name: 'webhooks', title: 'Webhooks', may: (r) => r.data, show: webhooks },
  ]],
  ['Access', [
    { name: 'tokens', title: 'Access tokens', may: (r) => r.sign, show: tokens },
  ]],
];
const pages = sections.flatMap(([, all]) => all);

let who = null;
let end = null; // of the page that is shown

/** What the hash names: #/services/IS…/Maps/MP…?tab=permissions */
function place() {
  const [path, query] = location.hash.replace(/^#\/?/, '').split('?');
  return { parts: path.split('/').filter(Boolean).map(decodeURIComponent), query: new URLSearchParams(query) };
}

function frame() {
  const close = () => root.classList.remove('open');
  const menu = h('button.icon-button.menu', { type: 'button', 'aria-label': 'Menu', 'aria-expanded': 'false', onclick: () => {
    root.classList.add('open');
    side.querySelector('a.nav')?.focus();
  } }, icon('menu', 22));
  const links = sections.map(([title, all]) => {
    const may = all.filter((p) => p.may(who.rights));
    return may.length ? [h('h2', title), may.map((p) => h('a.nav', { href: `#/${p.name}`, 'data-page': p.name, onclick: close }, icon(p.name), p.title))] : [];
  });
  const side = h('nav.side', { 'aria-label': 'Console', onkeydown: (e) => { if (e.key === 'Escape') { close(); menu.focus(); } } },
    h('a.brand', { href: '#/' }, h('img', { src: 'icon.svg', alt: '' }), 'Lockstep'), links, h('div.grow'),
    h('div.whoami',
      h('div', h('b', { title: who.name }, who.friendly_name || shortSid(who.name)), h('span.role', roleName(who.rights))),
      h('div.row', themeButton(), h('button', { type: 'button', onclick: logout }, icon('out', 16), 'Log out'))));
  const crumbs = h('ol.crumbs');
  const reach = h('span.badge.warn', { role: 'status', hidden: true }, h('span.dot.pulse'), 'The node does not answer');
  const main = h('main', { id: 'main', tabindex: -1 });
  const top = h('header.top', menu, h('nav.where', { 'aria-label': 'Where you are' }, crumbs), reach);
  const root = h('div.frame',
    h('a.skip', { href: '#main', onclick: (e) => { e.preventDefault(); main.focus(); } }, 'Skip to the page'), side,
    h('button.shade', { type: 'button', 'aria-label': 'Close the menu', tabindex: -1, onclick: close }),
    h('div.page', top, main));
  return { root, main, crumbs, reach, side, top };
}

function roleName(r) {
  if (r.account) return 'Account';
  if (r.operator) return 'Operator, no data';
  if (!r.data) return 'Signs tokens';
  return `${r.write ? 'Reads and writes' : 'Reads only'}${r.service ? ', one service' : ''}`;
}

function themeButton() {
  const order = ['system', 'light', 'dark'], icons = { system: 'system', light: 'sun', dark: 'moon' }, names = { system: 'System', light: 'Light', dark: 'Dark' };
  const draw = () => {
    const now = window.lockstepTheme.chosen();
    button.setAttribute('aria-label', `Colours: ${names[now]}`);
    put(button, icon(icons[now], 16), names[now]);
  };
  const button = h('button', { type: 'button', id: 'theme', onclick: () => {
    window.lockstepTheme.choose(order[(order.indexOf(window.lockstepTheme.chosen()) + 1) % 3]);
    draw();
  } });
  draw();
  return button;
}

async function logout() {
  await remove('session').catch(() => {});
  signedOut('You are logged out.');
}

function signedOut(message) {
  end?.();
  end = null;
  who = null;
  shown = null;
  leave();
  document.title = 'Log in · Lockstep';
  put(app, login(message, (is) => { who = is; show(); }));
}

let shown = null;

async function show() {
  if (!who) return;
  const { parts, query } = place();
  const first = pages.find((p) => p.may(who.rights));
  const page = pages.find((p) => p.name === parts[0] && p.may(who.rights)) ?? first;
  if (!parts.length || page.name !== parts[0]) {
    history.replaceState(null, '', `#/${who.rights.service && page.name === 'limits' ? 'services' : page.name}`);
    return show();
  }
  if (!shown) {
    shown = frame();
    put(app, shown.root);
  }
  end?.();
  end = null;
  const { main, crumbs, side } = shown;
  for (const a of side.querySelectorAll('a.nav')) {
    if (a.dataset.page === page.name) a.setAttribute('aria-current', 'page'); else a.removeAttribute('aria-current');
  }
  const cleanups = [];
  const context = {
    who, query,
    onEnd: (fn) => cleanups.push(fn),
    crumbs: (...all) => {
      document.title = `${all.at(-1)[0]} · Lockstep`;
      shown.top.classList.toggle('bare', all.length < 2);
      put(crumbs, all.map(([text, href], i) => h('li', i < all.length - 1 ? h('a', { href }, text) : h('span', { 'aria-current': 'page' }, text))));
    },
  };
  end = () => cleanups.forEach((fn) => fn());
  context.crumbs([page.title, `#/${page.name}`]);
  let view = page.show;
  if (page.name === 'services' && parts.length === 2) view = (c) => service(c, parts[1], null);
  if (page.name === 'services' && parts.length === 3) view = (c) => service(c, parts[1], parts[2]);
  if (page.name === 'services' && parts.length >= 4) view = (c) => object(c, parts[1], parts[2], parts[3]);
  main.scrollTop = 0;
  put(main, view(context));
  if (document.activeElement === document.body || side.contains(document.activeElement)) main.focus({ preventScroll: true });
}

events.addEventListener('loggedout', () => { if (who) signedOut('The session is over: its key was revoked, or it has lasted for eight hours.'); });
events.addEventListener('reached', (e) => { if (shown) shown.reach.hidden = e.detail; });
addEventListener('hashchange', show);

try {
  who = await get('session');
  show();
} catch (error) {
  signedOut(error.status === 401 ? '' : error.message);
}
