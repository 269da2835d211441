// A list of any length. It reads pages from the server as they come into sight, keeps
// a few thousand rows of what it read, and has only those in sight in the page. So
// neither a million rows nor the largest height that browsers draw is a bound.
import { h, put } from './dom.js';
import { plural } from './format.js';
import { icon } from './icons.js';

const overscan = 10;
const near = 60; // rows from an end at which the next page is asked for
const most = 3000; // rows that are kept

export class VirtualList {
  /**
   * load(cursor) gives { rows, next, previous }, cursors or null. ends() gives the cursors
   * of both ends, { first, last }; without it, Home and End stay among what was read.
   * render(row) gives the contents of a row, id(row) what tells rows apart, name(row) what
   * the foot calls it.
   */
  constructor({ label, load, ends, render, id, name, compare, onOpen, empty, rowHeight = 44 }) {
    Object.assign(this, { label, load, ends, render, id, name, compare, onOpen, rowHeight });
    this.emptyText = empty ?? ['Nothing here', ''];
    this.chunks = [];
    this.active = -1;
    this.drawn = new Map();
    this.space = h('div.vspace', { role: 'presentation' });
    this.el = h('div.vlist.list', { tabindex: 0, role: 'listbox', 'aria-label': label, onscroll: () => this.#schedule(), onkeydown: (e) => this.#key(e) }, this.space);
    this.foot = h('div.vfoot', { 'aria-live': 'off' });
    new ResizeObserver(() => this.#schedule()).observe(this.el);
  }

  get rows() { return this.chunks.flatMap((c) => c.rows); }
  get length() { return this.chunks.reduce((n, c) => n + c.rows.length, 0); }

  /** Whether the first row of all is among those that are kept. */
  get begins() { return !this.chunks[0]?.previous; }

  /** The first row in sight. */
  get top() { return this.#at(Math.ceil(this.el.scrollTop / this.rowHeight)); }

  /** Begins anew at a cursor; with bottom set, here or by the page, at the end of what that gives. */
  async start(cursor, { bottom = false } = {}) {
    this.turn = (this.turn ?? 0) + 1;
    const turn = this.turn;
    this.began = [cursor, { bottom }];
    this.loading = true;
    put(this.space, h('div.loading', h('div.spin')));
    this.drawn.clear();
    try {
      const page = await this.load(cursor);
      if (turn !== this.turn) return;
      this.chunks = [page];
      bottom ||= page.bottom;
      this.active = -1;
      this.problem = null;
    } catch (error) {
      if (turn !== this.turn) return;
      this.chunks = [];
      this.problem = error;
    }
    this.loading = false;
    put(this.space);
    this.drawn.clear();
    this.space.style.height = `${this.length * this.rowHeight}px`;
    this.el.scrollTop = bottom ? this.el.scrollHeight : 0;
    this.draw();
  }

  #at(index) {
    for (const c of this.chunks) {
      if (index < c.rows.length) return c.rows[index];
      index -= c.rows.length;
    }
    return undefined;
  }

  #find(id) {
    let offset = 0;
    for (const chunk of this.chunks) {
      const at = chunk.rows.findIndex((r) => this.id(r) === id);
      if (at >= 0) return { chunk, at, index: offset + at };
      offset += chunk.rows.length;
    }
    return null;
  }

  /** Puts a new state of a row in its place, if that is among the rows that are kept. */
  put(row, flash = true) {
    const id = this.id(row);
    const found = this.#find(id);
    if (found) found.chunk.rows[found.at] = { ...found.chunk.rows[found.at], ...row };
    else if (!this.#insert(row)) return;
    this.drawn.get(id)?.remove();
    this.drawn.delete(id);
    if (flash) this.flashing = new Set([...(this.flashing ?? []), id]);
    this.#schedule();
  }

  #insert(row) {
    const { chunks } = this;
    if (!chunks.length) return false;
    const before = (r) => this.compare(row, r) < 0;
    if (chunks[0].previous && (!chunks[0].rows.length || before(chunks[0].rows[0]))) return false;
    let index = 0;
    for (const chunk of chunks) {
      const { rows } = chunk;
      if (rows.length && before(rows.at(-1))) {
        let low = 0, high = rows.length - 1; // the first one that it is before
        while (low < high) {
          const middle = (low + high) >> 1;
          if (before(rows[middle])) high = middle; else low = middle + 1;
        }
        rows.splice(low, 0, row);
        if (index + low <= this.active) this.active++;
        return true;
      }
      index += rows.length;
    }
    const last = chunks.at(-1);
    if (last.next) return false;
    last.rows.push(row);
    return true;
  }

  remove(id) {
    const found = this.#find(id);
    if (!found) return;
    found.chunk.rows.splice(found.at, 1);
    if (found.index < this.active) this.active--;
    this.drawn.get(id)?.remove();
    this.drawn.delete(id);
    this.#schedule();
  }

  /** Makes a row the active one. */
  choose(id) {
    const found = this.#find(id);
    this.active = found ? found.index : -1;
    this.draw();
  }

  #schedule() {
    this.frame ??= requestAnimationFrame(() => { this.frame = null; this.draw(); });
  }

  draw() {
    const { length } = this;
    this.space.style.height = `${length * this.rowHeight}px`;
    this.#say(length);
    if (!length) {
      this.el.removeAttribute('aria-activedescendant');
      return;
    }
    const first = Math.max(0, Math.floor(this.el.scrollTop / this.rowHeight) - overscan);
    const last = Math.min(length - 1, Math.ceil((this.el.scrollTop + this.el.clientHeight) / this.rowHeight) + overscan);
    const wanted = new Map();
    for (let i = first; i <= last; i++) {
      const row = this.#at(i);
      wanted.set(this.id(row), [row, i]);
    }
    for (const [id, el] of this.drawn) {
      if (!wanted.has(id)) { el.remove(); this.drawn.delete(id); }
    }
    for (const [id, [row, i]] of wanted) this.#drawRow(id, row, i);
    if (this.active >= first && this.active <= last) this.el.setAttribute('aria-activedescendant', this.#domId(this.active)); else this.el.removeAttribute('aria-activedescendant');
    if (last > length - near) this.#more('next');
    if (first < near) this.#more('previous');
  }

  #domId(index) { return `${this.prefix ??= `v${Math.random().toString(36).slice(2, 8)}`}-${index}`; }

  #drawRow(id, row, i) {
    let el = this.drawn.get(id);
    if (!el) {
      el = h('div.vrow', { role: 'option', onclick: () => this.#open(id) }, this.render(row));
      this.drawn.set(id, el);
      this.space.append(el);
    }
    el.id = this.#domId(i);
    el.style.transform = `translateY(${i * this.rowHeight}px)`;
    if (this.flashing?.delete(id)) {
      el.classList.remove('flash');
      void el.offsetWidth; // begins the animation again
      el.classList.add('flash');
    }
    el.classList.toggle('active', i === this.active);
    el.setAttribute('aria-selected', String(i === this.active));
    el.setAttribute('aria-posinset', i + 1);
    el.setAttribute('aria-setsize', this.begins && !this.chunks.at(-1).next ? this.length : -1);
  }

  #say(length) {
    if (this.loading) return;
    this.el.setAttribute('role', length ? 'listbox' : 'region');
    if (this.problem) {
      put(this.space, h('div.empty', { role: 'presentation' }, icon('warn', 30), h('b', this.problem.message),
        h('button.button', { type: 'button', onclick: () => this.start(...this.began) }, 'Try again')));
    } else if (!length) {
      put(this.space, h('div.empty', icon('info', 30), h('b', this.emptyText[0]), this.emptyText[1]));
      this.drawn.clear();
    } else {
      this.space.querySelector('.empty')?.remove();
    }
    const sides = [!this.begins && 'above', this.chunks.at(-1)?.next && 'below'].filter(Boolean);
    put(this.foot, this.name && length > 0 && h('span.range', this.#range(length)),
      length > 0 && h('span.number', sides.length ? `more ${sides.join(' and ')}` : plural(length, 'row')));
  }

  /** What is in sight, from the first row to the last. */
  #range(length) {
    const at = (y) => this.name(this.#at(Math.min(length - 1, Math.max(0, y))));
    const first = at(Math.ceil(this.el.scrollTop / this.rowHeight - 0.5)), last = at(Math.ceil((this.el.scrollTop + this.el.clientHeight) / this.rowHeight - 0.5) - 1);
    return first === last ? [h('code', first)] : [h('code', first), ' – ', h('code', last)];
  }

  async #more(side) {
    const edge = side === 'next' ? this.chunks.at(-1) : this.chunks[0];
    if (!edge?.[side] || this[`busy${side}`]) return;
    this[`busy${side}`] = true;
    const { turn } = this;
    try {
      const page = await this.load(edge[side]);
      if (turn !== this.turn) return;
      if (side === 'next') this.#append(page); else this.#prepend(page);
    } catch (error) {
      console.warn(error);
      await new Promise((resolve) => setTimeout(resolve, 1000));
    } finally {
      this[`busy${side}`] = false;
    }
    if (turn === this.turn) this.draw();
  }

  #append(page) {
    this.chunks.push(page);
    while (this.length > most) this.#shift(-this.chunks.shift().rows.length);
  }

  #prepend(page) {
    this.chunks.unshift(page);
    while (this.length > most) this.chunks.pop();
    this.#shift(page.rows.length);
  }

  /** Keeps what is in sight in its place when rows above it come or go. */
  #shift(rows) {
    if (this.active >= 0) this.active = this.active + rows < 0 ? -1 : this.active + rows;
    this.space.style.height = `${this.length * this.rowHeight}px`;
    this.el.scrollTop += rows * this.rowHeight;
  }

  #open(id) {
    const found = this.#find(id);
    if (!found) return;
    this.active = found.index;
    this.draw();
    this.onOpen(found.chunk.rows[found.at]);
  }

  #key(e) {
    const page = Math.max(1, Math.floor(this.el.clientHeight / this.rowHeight) - 1);
    const to = { ArrowDown: this.active + 1, ArrowUp: this.active - 1, PageDown: this.active + page, PageUp: this.active - page, Home: 0, End: this.length - 1 }[e.key];
    if (e.key === 'Enter' || e.key === ' ') {
      const row = this.#at(this.active);
      if (row) { e.preventDefault(); this.onOpen(row); }
      return;
    }
    if (to === undefined || !this.length) return;
    e.preventDefault();
    if (this.ends && (e.key === 'Home' && !this.begins || e.key === 'End' && this.chunks.at(-1).next)) {
      this.#toEnd(e.key === 'End');
      return;
    }
    this.active = Math.min(Math.max(to, 0), this.length - 1);
    const top = this.active * this.rowHeight;
    if (top < this.el.scrollTop) this.el.scrollTop = top;
    else if (top + this.rowHeight > this.el.scrollTop + this.el.clientHeight) this.el.scrollTop = top + this.rowHeight - this.el.clientHeight;
    this.draw();
  }

  async #toEnd(last) {
    const { first, last: end } = this.ends();
    await this.start(last ? end : first, { bottom: last });
    if (!this.length) return;
    this.active = last ? this.length - 1 : 0;
    this.draw();
  }
}
