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

/** Reads the first page of items from one on; what is before it is read backwards. */
export async function itemsFrom(path, from, size, order) {
  const other = order === 'desc' ? 'asc' : 'desc';
  const first = await page(`${path}?PageSize=${size}&Order=${order}&From=${encodeURIComponent(from)}`);
  first.previous ??= { path: `${path}?PageSize=${size}&Order=${other}&From=${encodeURIComponent(from)}&Bounds=exclusive`, back: true };
  return first;
}
