// Edits the data of a document or an item. What is saved names the revision that it is
// based on; if the server has another one by now, both are shown.
import { call, get, remove } from './api.js';
import { confirmed, h, put, toast } from './dom.js';
import { diff } from './diff.js';
import { ago, moment } from './format.js';
import { icon } from './icons.js';

const pretty = (data) => JSON.stringify(data, null, 2);
const limit = 16 * 1024;

export class Editor {
  /** path is that of the object or item; title what it is called; write whether it may be changed. */
  constructor({ path, title, noun, write, onRemoved, onClose }) {
    Object.assign(this, { path, title, noun, write, onRemoved, onClose });
    this.area = h('textarea.area', { spellcheck: 'false', 'aria-label': `Data of ${title}`, readonly: !write, oninput: () => this.#edited(), onkeydown: (e) => this.#key(e) });
    this.problem = h('p.problem', { role: 'alert' });
    this.meta = h('div.meta');
    this.news = h('div', { 'aria-live': 'polite' });
    this.size = h('span.quiet.small.number');
    this.ttl = h('input.input', { type: 'number', min: 0, max: 31536000, placeholder: 'unchanged', 'aria-label': 'Seconds to live' });
    this.saving = h('button.button.primary', { type: 'submit', disabled: true }, 'Save');
    this.undo = h('button.button', { type: 'button', disabled: true, onclick: () => this.#show(this.base) }, 'Discard');
    this.el = h('section.card.editor', { 'aria-label': title },
      h('header', onClose && h('button.icon-button.back-to-list', { type: 'button', 'aria-label': 'Back to the list', onclick: onClose }, icon('back')),
        h('h2.mono', title), write && h('button.icon-button', { type: 'button', 'aria-label': `Remove ${title}`, title: 'Remove', onclick: () => this.#remove() }, icon('trash'))),
      h('form.body.form', { onsubmit: (e) => { e.preventDefault(); this.save(this.base.revision); } },
        this.meta, this.news, this.area, this.problem,
        write && h('footer', this.saving, this.undo, h('span.fill'), this.size)));
  }

  get dirty() { return this.base !== undefined && this.area.value !== pretty(this.base.data); }

  async load() {
    try {
      this.#show(await get(this.path));
    } catch (error) {
      if (error.status === 404) return this.gone();
      this.problem.textContent = error.message;
    }
    return this;
  }

  #show(state) {
    this.base = state;
    this.area.value = pretty(state.data);
    put(this.news);
    this.#describe(state);
    this.#edited();
  }

  #describe(state) {
    put(this.meta,
      h('span', 'Revision ', h('code', state.revision)),
      h('span', { title: moment(state.date_updated) }, `updated ${ago(state.date_updated)}`),
      h('span', `created by ${state.created_by}`),
      state.date_expires && h('span', { title: moment(state.date_expires) }, `expires ${ago(state.date_expires)}`));
  }

  #edited() {
    const { value } = this.area;
    const bytes = new TextEncoder().encode(value).length;
    this.size.textContent = `${bytes.toLocaleString('en')} of ${limit.toLocaleString('en')} bytes`;
    let wrong = '';
    try {
      const data = JSON.parse(value);
      if (data === null || typeof data !== 'object' || Array.isArray(data)) wrong = 'The data must be a JSON object: { … }';
    } catch (error) {
      wrong = error.message;
    }
    this.problem.textContent = wrong;
    this.area.setAttribute('aria-invalid', String(wrong !== ''));
    this.saving.disabled = wrong !== '' || !this.dirty;
    this.undo.disabled = !this.dirty;
  }

  #key(e) {
    if ((e.ctrlKey || e.metaKey) && (e.key === 's' || e.key === 'Enter')) {
      e.preventDefault();
      if (!this.saving.disabled) this.save(this.base.revision);
    }
  }

  /** Is told that there is something newer on the server. */
  async changed() {
    if (!this.base || this.busy) return;
    const now = await get(this.path).catch(() => null);
    if (!now || now.revision === this.base.revision || this.busy) return;
    if (this.dirty) {
      put(this.news, h('div.note.warn', icon('warn'), h('div', `It has changed to revision ${now.revision} while you edit. Saving will show you both.`)));
      return;
    }
    const start = this.area.selectionStart;
    this.#show(now);
    this.area.setSelectionRange(start, start);
    this.el.animate?.([{ boxShadow: '0 0 0 3px var(--good)' }, { boxShadow: 'none' }], { duration: 900 });
  }

  async save(revision) {
    let data;
    try { data = JSON.stringify(JSON.parse(this.area.value)); } catch { return; }
    this.busy = this.saving.disabled = true;
    try {
      this.#show(await call('POST', this.path, { form: { Data: data }, headers: { 'If-Match': revision } }));
      toast('Saved');
    } catch (error) {
      if (error.status === 412) await this.#conflict();
      else this.problem.textContent = error.retryAfter ? `${error.message} (again in ${error.retryAfter} s)` : error.message;
      this.saving.disabled = false;
    } finally {
      this.busy = false;
    }
  }

  async #conflict() {
    let now;
    try { now = await get(this.path); } catch (error) { this.problem.textContent = error.message; return; }
    const mine = this.area.value;
    const choose = (fn) => () => { put(this.news); fn(); };
    const box = h('div.conflict', { role: 'alertdialog', 'aria-label': 'Somebody else has changed it', tabindex: -1 },
      h('div', h('h3', 'Somebody else has changed it'),
        h('p.small', `You edited revision ${this.base.revision}; the server has revision ${now.revision} (412). Nothing was overwritten. Lines with − are on the server, lines with + are yours.`)),
      diff(pretty(now.data), mine, 'What differs'),
      h('div.foot-bar',
        h('button.button.slim', { type: 'button', onclick: choose(() => this.#show(now)) }, 'Take theirs'),
        h('button.button.slim', { type: 'button', onclick: choose(() => { this.base = now; this.#describe(now); this.#edited(); this.area.focus(); }) }, 'Keep editing mine'),
        h('button.button.slim.danger', { type: 'button', onclick: choose(() => this.save(now.revision)) }, `Overwrite revision ${now.revision}`)));
    put(this.news, box);
    box.focus();
  }

  async #remove() {
    if (!await confirmed(`Remove ${this.title}?`, `The ${this.noun} is removed for everybody, at once and for good.`, 'Remove')) return;
    try {
      await remove(this.path);
      toast('Removed');
      this.onRemoved?.();
    } catch (error) {
      toast(error.message, 'bad');
    }
  }

  gone() {
    put(this.el.querySelector('.body'), h('div.empty', icon('trash', 30), h('b', 'It is gone'), 'It was removed, or has expired.'));
  }
}
