import { paths, post, remove } from '../api.js';
import { field, formDialog, h, put, toast } from '../dom.js';
import { icon } from '../icons.js';
import { page } from '../pages.js';
import { empty, loading, note, table } from '../parts.js';

const rights = ['read', 'write', 'manage'];

/** Who may do what with an object. */
export function permissions({ who }, s, o, kind) {
  const path = paths.permissions(s.sid, kind, o.sid);
  const body = h('div', loading());
  let rows = [], next = null;
  const read = async (cursor) => {
    try {
      const p = await page(cursor);
      rows = [...rows, ...p.rows];
      next = p.next;
      draw();
    } catch (error) {
      put(body, note('bad', error.message));
    }
  };
  const change = async (identity, now) => {
    const form = Object.fromEntries(rights.map((r) => [r[0].toUpperCase() + r.slice(1), String(Boolean(now[r]))]));
    const p = await post(paths.permission(s.sid, kind, o.sid, identity), { form });
    rows = [...rows.filter((x) => x.identity !== identity), p].sort((a, b) => (a.identity < b.identity ? -1 : 1));
    draw();
  };
  const drop = async (identity) => {
    try {
      await remove(paths.permission(s.sid, kind, o.sid, identity));
      rows = rows.filter((x) => x.identity !== identity);
      draw();
    } catch (error) {
      toast(error.message, 'bad');
    }
  };
  const box = (p, r) => h('input', { type: 'checkbox', checked: p[r], disabled: !who.rights.write, 'aria-label': `${p.identity} may ${r}`, onchange: async (e) => {
    try {
      await change(p.identity, { ...p, [r]: e.target.checked });
      toast('Saved');
    } catch (error) {
      e.target.checked = p[r];
      toast(error.message, 'bad');
    }
  } });
  function draw() {
    if (!rows.length) return put(body, empty('keys', 'Nobody has a permission yet', s.acl_enabled ? 'Tokens cannot open the object, until somebody may read it.' : 'Permissions count once access control is on.'));
    return put(body, table('Permissions', [{ name: 'Identity', any: true }, ...rights.map((r) => ({ name: r[0].toUpperCase() + r.slice(1), fit: true })), { name: h('span.unseen', 'Remove'), acts: true }], rows.map((p) => [
      h('b', p.identity), ...rights.map((r) => box(p, r)),
      who.rights.write ? h('button.icon-button', { type: 'button', 'aria-label': `Remove the permission of ${p.identity}`, onclick: () => drop(p.identity) }, icon('trash')) : '',
    ])), next && h('div.vfoot', h('button.button.slim', { type: 'button', onclick: () => read(next) }, 'More')));
  }
  const add = () => formDialog('Grant a permission', [field('Identity', 'identity', { required: true }), h('div.foot-bar', rights.map((r) => h('label.check', h('input', { type: 'checkbox', name: r, value: 'true', checked: r !== 'manage' }), h('span', r))))],
    'Grant', async (f) => { if (!f.identity) throw new Error('An identity is needed'); await change(f.identity, f); toast('Granted'); });
  read(`${path}?PageSize=100`);
  return [!s.acl_enabled && note('', 'Access control is off for this service: every token may do everything, whatever is granted here. Turn it on in the settings of the service.'),
    h('section.card', h('header', h('h2', 'Permissions'), who.rights.write && h('button.button.slim', { type: 'button', onclick: add }, icon('plus', 16), 'Grant')), body)];
}
