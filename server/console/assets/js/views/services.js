import { get, paths, post } from '../api.js';
import { check, field, formDialog, h, toast } from '../dom.js';
import { ago } from '../format.js';
import { icon } from '../icons.js';
import { page } from '../pages.js';
import { badge, head } from '../parts.js';
import { VirtualList } from '../virtual.js';

export function services({ who }) {
  const one = who.rights.service;
  const list = new VirtualList({
    label: 'Services', rowHeight: 54,
    load: one ? async () => ({ rows: [await get(paths.service(one))] }) : page,
    id: (s) => s.sid, compare: () => 1,
    render: (s) => [
      icon('services', 20),
      h(`span.col-name${s.friendly_name || s.unique_name ? '' : '.none'}`, s.friendly_name || s.unique_name || 'without a name'),
      h('span.marks.hide-small', s.webhook_url && badge('webhooks'), s.acl_enabled ? badge('access control', 'accent') : badge('open to every token')),
      h('span.col-sid', s.sid), h('span.col-when', ago(s.date_created)),
    ],
    onOpen: (s) => { location.hash = `#/services/${s.sid}`; },
    empty: ['No service yet', 'Make one with the button above.'],
  });
  list.start('v1/Services?PageSize=100');
  const make = async () => {
    const made = await formDialog('New service', [
      field('Name', 'FriendlyName', { maxlength: 256 }, 'For people; it can be changed.'),
      check('Control access by permissions', 'AclEnabled', false, 'Without it every token of the service may do everything.'),
    ], 'Create', (form) => post('v1/Services', { form: { FriendlyName: form.FriendlyName || undefined, AclEnabled: form.AclEnabled } }));
    if (!made) return;
    toast('Created');
    location.hash = `#/services/${made.sid}`;
  };
  return [head('Services', 'Each has objects, permissions and webhooks of its own.',
    who.rights.write && !one && h('button.button.primary', { type: 'button', onclick: make }, icon('plus', 16), 'New service')),
  h('section.card.browser', list.el, list.foot)];
}
