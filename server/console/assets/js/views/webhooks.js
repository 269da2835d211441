import { get, post } from '../api.js';
import { every, h, put, toast } from '../dom.js';
import { ago, clock, ms, plural } from '../format.js';
import { icon } from '../icons.js';
import { badge, empty, head, loading, note, table } from '../parts.js';
import { pageOf } from './service.js';

const words = (event) => event.replaceAll('_', ' ');
const what = (d) => [h('b', words(d.event)), ' ', d.object ? h('a', { href: pageOf(d.service, d.event.split('_')[0], d.object) }, d.name || d.object.slice(0, 10) + '…') : d.identity, d.item && [' ', h('code', d.item)]];

export function webhooks({ who }) {
  const waiting = h('div', loading()), attempts = h('div', loading()), number = h('span.quiet.small'), problem = h('div');
  const hurried = new Set();
  const retry = async (d, button) => {
    button.disabled = true;
    hurried.add(d.seq);
    try {
      await post(`webhooks/${d.seq}/attempts`);
      toast('It is tried now');
    } catch (error) {
      toast(error.message, 'bad');
    }
    setTimeout(() => hurried.delete(d.seq), 4000);
    read();
  };
  const read = async () => {
    const now = await get('webhooks');
    put(problem, now.problem && note('warn', now.problem));
    number.textContent = now.waiting_count > now.waiting.length ? `${plural(now.waiting_count, 'delivery', 'deliveries')}, the first ${now.waiting.length} are here` : '';
    const why = (d) => (d.error ? h('span', badge(d.error, 'bad'), ' ', h('span.quiet.small', d.next ? `again ${ago(d.next)}` : '')) : h('span.quiet', d.next ? `again ${ago(d.next)}` : 'its turn comes'));
    put(waiting, now.waiting.length ? table('Waiting deliveries', [{ name: 'What happened', any: true }, { name: 'Receiver', small: true, any: true }, { name: 'Tried', right: true, small: true }, { name: 'Why it waits', small: true }, { name: h('span.unseen', 'Retry'), acts: true }], now.waiting.map((d) => [
      [what(d), h('div.only-small', why(d))], d.receiver, d.attempts, why(d),
      who.rights.write ? h('button.button.slim', { type: 'button', disabled: hurried.has(d.seq), 'aria-label': `Retry delivery ${d.seq}`, onclick: (e) => retry(d, e.currentTarget) }, icon('retry', 15), 'Retry') : '',
    ]), now.waiting.length > 8) : empty('webhooks', 'Nothing waits', 'What happens is delivered at once; what fails is tried again for a day.'));
    put(attempts, now.attempts.length ? table('Last attempts', [{ name: 'When', fit: true }, { name: 'What happened', any: true }, { name: 'Receiver', small: true, any: true }, { name: 'Attempt', right: true, small: true }, { name: 'Took', right: true, small: true }, { name: 'Outcome', fit: true }], now.attempts.map((d) => [
      h('span.number.quiet', clock(d.at)), what(d), d.receiver, d.attempts, ms(d.took_ms),
      d.error ? badge(d.given_up ? `given up: ${d.error}` : d.error, 'bad', true) : badge('delivered', 'good', true),
    ])) : empty('webhooks', 'No attempt yet', 'The last 200 attempts of the present leader are here.'));
  };
  every(2000, waiting, read);
  return [head('Webhooks', 'Deliveries to the webhook URLs of services, in order for each object.'), problem,
    h('section.card', h('header', h('h2', 'Waiting'), number), waiting), h('section.card', h('header', h('h2', 'Last attempts')), attempts)];
}
