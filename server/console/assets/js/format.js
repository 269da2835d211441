// Numbers, times and names as people read them.
const grouped = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

export const count = (n) => (n === undefined || n === null ? '–' : grouped.format(n));
export const short = (n) => (n < 10_000 ? rate(n) : compact.format(n));

export function rate(n) {
  if (!n) return '0';
  return n < 10 ? n.toFixed(n < 1 ? 2 : 1) : grouped.format(n);
}

export function ms(n) {
  if (!n) return '–';
  if (n >= 1000) return `${(n / 1000).toFixed(n < 10_000 ? 2 : 1)} s`;
  return `${n < 10 ? n.toFixed(1) : grouped.format(n)} ms`;
}

export function bytes(n) {
  let unit = 0;
  while (n >= 1024 && unit < 4) { n /= 1024; unit++; }
  return `${unit && n < 100 ? n.toFixed(1) : Math.round(n)} ${['B', 'KiB', 'MiB', 'GiB', 'TiB'][unit]}`;
}

export function seconds(n) {
  if (n < 1) return `${Math.round(n * 1000)} ms`;
  if (n < 90) return `${n < 10 ? n.toFixed(1) : Math.round(n)} s`;
  if (n < 5400) return `${Math.round(n / 60)} min`;
  if (n < 172_800) return `${Math.round(n / 3600)} h`;
  return `${Math.round(n / 86_400)} days`;
}

export const clock = (at) => new Date(at).toLocaleTimeString('en-GB');
export const moment = (at) => new Date(at).toLocaleString('en-GB', { day: 'numeric', month: 'short', year: 'numeric', hour: '2-digit', minute: '2-digit', second: '2-digit' });

export function ago(at) {
  const past = (Date.now() - new Date(at)) / 1000;
  if (past < -1) return `in ${seconds(-past)}`;
  return past < 2 ? 'just now' : `${seconds(past)} ago`;
}

/** JSON on one line, not longer than anybody sees. */
export function preview(data) {
  const text = JSON.stringify(data);
  return text === undefined ? '' : text.length > 300 ? `${text.slice(0, 300)}…` : text;
}

export const shortSid = (sid) => (sid?.length > 14 ? `${sid.slice(0, 6)}…${sid.slice(-4)}` : sid ?? '');
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
