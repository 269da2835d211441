import { get } from '../api.js';
import { every, h, put } from '../dom.js';
import { ago, bytes, moment, plural, seconds } from '../format.js';
import { badge, empty, head, loading, note, table } from '../parts.js';

export function backups() {
  const body = h('div.stack', loading());
  every(15_000, body, async () => {
    let now;
    try {
      now = await get('backups');
    } catch (error) {
      put(body, note('bad', error.message));
      return;
    }
    const none = now.nodes.every((n) => !n.dir && !n.problem);
    put(body, none && note('warn', 'No node makes backups by itself. Start one with ', h('code', '--backup-dir'), ', or take one with ', h('code', 'lockstep backup'), '.'), now.nodes.map(card));
  });
  return [head('Backups', 'What each node has made by itself. Each holds the whole state of the cluster.'), body];
}

function card(n) {
  const newest = n.made?.[0];
  const late = newest && (Date.now() - new Date(newest.at)) / 1000 > 2 * n.every_seconds + 60;
  const mark = n.problem ? badge('does not answer', 'bad', true) : !n.dir ? badge('makes none') : !newest ? badge('none yet', 'warn', true) : late ? badge('overdue', 'warn', true) : badge(`newest ${ago(newest.at)}`, 'good', true);
  return h('section.card', h('header', h('h2', n.node), n.dir && h('span.quiet.small', `every ${seconds(n.every_seconds)}, ${plural(n.keep, 'newest', 'newest')} kept, in `, h('code', n.dir)), mark),
    n.problem ? h('div.body', note('warn', n.problem)) : !n.dir ? h('div.body.quiet', 'This node has no --backup-dir.') : newest
      ? table(`Backups of ${n.node}`, [{ name: 'Made' }, { name: 'Age', small: true }, { name: 'Size', right: true }, { name: 'File', small: true }], n.made.map((m) => [[h('b.nowrap', moment(m.at)), h('code.only-small.quiet', m.name)], h('span.quiet', ago(m.at)), h('span.nowrap', bytes(m.bytes)), h('code', m.name)]))
      : empty('backups', 'None yet', 'The first one is made within moments of the start.'));
}
