// What differs between two texts, line by line.
import { h } from './dom.js';

/** Lines as [' ', text], ['-', text] or ['+', text], by a longest common subsequence. */
export function lines(before, after) {
  const a = before.split('\n'), b = after.split('\n');
  if (a.length * b.length > 1_000_000) return [...a.map((t) => ['-', t]), ...b.map((t) => ['+', t])];
  const common = Array.from({ length: a.length + 1 }, () => new Uint32Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) common[i][j] = a[i] === b[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
  }
  const out = [];
  let i = 0, j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) { out.push([' ', a[i]]); i++; j++; }
    else if (i < a.length && (j === b.length || common[i + 1][j] >= common[i][j + 1])) out.push(['-', a[i++]]);
    else out.push(['+', b[j++]]);
  }
  return out;
}

export function diff(before, after, label) {
  return h('div.diff', { role: 'group', 'aria-label': label, tabindex: 0 },
    lines(before, after).map(([mark, text]) => h(`div${mark === '-' ? '.minus' : mark === '+' ? '.plus' : ''}`, `${mark} ${text}`)));
}
