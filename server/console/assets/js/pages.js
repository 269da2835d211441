// Pages of the REST API as a list reads them.
import { get, pathOf } from './api.js';

/** Reads one page. A cursor is a path, or { path, back } for one that is read backwards. */
export async function page(cursor) {
  const { path, back } = typeof cursor === 'string' ? { path: cursor } : cursor;
  const body = await get(path);
  const { key, next_page_url: next, previous_page_url: previous } = body.meta;
  const turn = (url) => (url ? { path: pathOf(url), back } : null);
  const rows = body[key];
  if (back) return { rows: rows.reverse(), next: turn(previous), previous: turn(next) };
  return { rows, next: turn(next), previous: turn(previous) };
}

const at = (path, query) => `${path}?${new URLSearchParams(query)}`;
const turned = (order) => (order === 'desc' ? 'asc' : 'desc');

/** The cursors of both ends of all items, or of those whose keys begin with a prefix. */
export function endsOf(path, size, order, prefix = '') {
  // No key that begins so is after the prefix with the greatest code point.
  const from = { asc: prefix, desc: prefix && `${prefix}\u{10ffff}` };
  const cursor = (o) => at(path, { PageSize: size, Order: o, ...(prefix && { From: from[o] }) });
  return { first: cursor(order), last: { path: cursor(turned(order)), back: true } };
}

/** Reads the first page of items from one on; what is before it is read backwards. */
export async function itemsFrom(path, from, size, order) {
  const first = await page(at(path, { PageSize: size, Order: order, From: from }));
  const before = { path: at(path, { PageSize: size, Order: turned(order), From: from, Bounds: 'exclusive' }), back: true };
  if (!first.rows.length) return { ...await page(before), bottom: true }; // there is none from there on: the last ones
  first.previous ??= before;
  return first;
}

/** A page without what does not fit; what fits is in a row, so nothing fits beyond. */
export function fitting({ rows, next, previous, ...rest }, fits) {
  const first = rows.findIndex(fits), last = rows.findLastIndex(fits);
  return { ...rest, rows: first < 0 ? [] : rows.slice(first, last + 1), previous: first === 0 ? previous : null, next: last >= 0 && last === rows.length - 1 ? next : null };
}
