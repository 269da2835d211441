// Plots of what happens over time, drawn as SVG.
import { h, put, s } from './dom.js';
import { clock } from './format.js';

const spans = [1, 2, 5, 10].map((minutes) => minutes * 60_000);
const left = 52, right = 8, top = 10, bottom = 22, height = 170;

/** Steps of an axis: 1, 2 or 5 times a power of ten. */
function step(most, parts) {
  const raw = most / parts, power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 5, 10].map((m) => m * power).find((x) => x >= raw);
}

export class Plot {
  /** lines: [{ name, color: 'c1', area }]; show gives the text of a value. */
  constructor({ title, lines, show, least = 1 }) {
    Object.assign(this, { title, lines, show, least, points: [] });
    this.svg = s('svg', { height, role: 'img', 'aria-label': title });
    this.legend = h('ul.legend');
    this.tip = h('div.tip', { hidden: true, 'aria-hidden': 'true' });
    this.box = h('div.plot', this.svg, this.tip);
    this.el = h('section.card', h('header', h('h2', title), this.legend), this.box);
    this.svg.addEventListener('pointermove', (e) => this.#point(e));
    this.svg.addEventListener('pointerleave', () => { this.tip.hidden = true; this.cross?.remove(); });
    new ResizeObserver(() => this.draw()).observe(this.box);
  }

  /** points: [{ t, values: [one for each line, or null] }], by time. */
  set(points, now, lines = this.lines) {
    Object.assign(this, { points, now, lines });
    this.draw();
  }

  draw() {
    const width = this.box.clientWidth - 32;
    if (width < 50 || !this.now) return;
    this.width = width;
    const oldest = this.now - (this.points[0]?.t ?? this.now);
    this.span = spans.find((x) => x >= oldest) ?? spans.at(-1);
    this.svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
    const all = this.points.flatMap((p) => p.values.filter((v) => v !== null));
    const d = step(Math.max(this.least, ...all), 3);
    const most = d * Math.max(1, Math.ceil(Math.max(this.least, ...all) / d - 1e-9));
    this.x = (t) => left + (width - left - right) * (1 - (this.now - t) / this.span);
    this.y = (v) => top + (height - top - bottom) * (1 - v / most);
    const parts = [];
    for (let v = 0; v <= most * 1.0001; v += d) {
      parts.push(s('line.grid', { x1: left, x2: width - right, y1: this.y(v), y2: this.y(v) }),
        s('text', { x: left - 7, y: this.y(v) + 4, 'text-anchor': 'end' }, this.show(v) === '–' ? '0' : this.show(v)));
    }
    for (const [part, anchor] of [[1, 'start'], [0.5, 'middle'], [0, 'end']]) {
      const past = this.span * part;
      parts.push(s('text', { x: this.x(this.now - past), y: height - 4, 'text-anchor': anchor }, past ? `${past < 60_000 ? `${past / 1000} s` : `${past / 60_000} min`} ago` : 'now'));
    }
    this.lines.forEach((line, i) => parts.push(...this.#path(line, i)));
    put(this.svg, parts);
    const newest = this.points.at(-1);
    put(this.legend, this.lines.map((l, i) => h('li', h(`i.${l.color}`), l.name, h('b', newest && newest.values[i] !== null ? this.show(newest.values[i]) : '–'))));
    this.svg.setAttribute('aria-label', `${this.title}: ${this.lines.map((l, i) => `${l.name} ${newest && newest.values[i] !== null ? this.show(newest.values[i]) : 'unknown'}`).join(', ')}`);
  }

  #path(line, i) {
    let d = '', pen = false, from = null, to = null;
    for (const p of this.points) {
      const v = p.values[i];
      if (v === null || p.t < this.now - this.span) { pen = false; continue; }
      d += `${pen ? 'L' : 'M'}${this.x(p.t).toFixed(1)} ${this.y(v).toFixed(1)}`;
      pen = true;
      from ??= p.t;
      to = p.t;
    }
    if (!d) return [];
    const parts = [s(`path.line.${line.color}`, { d })];
    if (line.area && d.lastIndexOf('M') === 0) parts.unshift(s(`path.area.${line.color}`, { d: `${d}L${this.x(to)} ${this.y(0)}L${this.x(from)} ${this.y(0)}Z` }));
    return parts;
  }

  #point(e) {
    if (!this.points.length || !this.x) return;
    const box = this.svg.getBoundingClientRect(), at = e.clientX - box.left;
    const p = this.points.reduce((a, b) => (Math.abs(this.x(b.t) - at) < Math.abs(this.x(a.t) - at) ? b : a));
    const x = this.x(p.t);
    this.cross?.remove();
    this.svg.append(this.cross = s('line.cross', { x1: x, x2: x, y1: top, y2: height - bottom }));
    put(this.tip, h('div.quiet', clock(p.t)), h('ul', this.lines.map((l, i) => h(`li.${l.color}`, h('i'), h('span', `${l.name} ${p.values[i] === null ? '–' : this.show(p.values[i])}`)))));
    this.tip.hidden = false;
    const half = this.tip.offsetWidth;
    this.tip.style.left = `${Math.min(Math.max(8, x + 24), this.width + 24 - half)}px`;
  }
}

/** A small line without axes. */
export function spark(values) {
  const svg = s('svg.spark', { viewBox: '0 0 200 34', preserveAspectRatio: 'none', 'aria-hidden': 'true' });
  const most = Math.max(1, ...values), n = Math.max(values.length - 1, 1);
  svg.append(s('path', { 'vector-effect': 'non-scaling-stroke', d: values.map((v, i) => `${i ? 'L' : 'M'}${(200 * i / n).toFixed(1)} ${(32 - 30 * v / most).toFixed(1)}`).join('') || 'M0 32' }));
  return svg;
}
