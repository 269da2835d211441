// Drawings of 24 units, lines only.
import { s } from './dom.js';

const paths = {
  overview: 'M4 13h6V4H4zM14 20h6v-9h-6zM4 20h6v-3H4zM14 7h6V4h-6z',
  services: 'M4 7l8-4 8 4-8 4zM4 12l8 4 8-4M4 17l8 4 8-4',
  events: 'M3 12h4l3-8 4 16 3-8h4',
  webhooks: 'M4 12h13M12 6l6 6-6 6M21 4v16',
  limits: 'M12 21a9 9 0 1 1 9-9M12 12l5-4M16 21h5',
  backups: 'M4 6c0-4 16-4 16 0v12c0 4-16 4-16 0zM4 6c0 4 16 4 16 0M4 12c0 4 16 4 16 0',
  tokens: 'M14 10a4 4 0 1 0-4 4M11 13l9 9M17 19l3-3M10 10h.01',
  keys: 'M7 15a4 4 0 1 1 3.9-5H21v4h-3v-2h-3v3h-4.1A4 4 0 0 1 7 15z',
  document: 'M6 3h8l4 4v14H6zM14 3v5h4M9 13h6M9 17h6',
  list: 'M8 6h12M8 12h12M8 18h12M4 6h.01M4 12h.01M4 18h.01',
  map: 'M4 5h6v6H4zM14 5h6M14 9h4M4 15h6v5H4zM14 15h6M14 19h4',
  stream: 'M4 8c3-4 5 4 8 0s5 4 8 0M4 16c3-4 5 4 8 0s5 4 8 0',
  ok: 'M5 13l4 4L19 7',
  warn: 'M12 4L2.5 20h19zM12 10v4M12 17h.01',
  bad: 'M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 8v5M12 16h.01',
  info: 'M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 11v5M12 8h.01',
  menu: 'M4 7h16M4 12h16M4 17h16',
  close: 'M6 6l12 12M18 6L6 18',
  plus: 'M12 5v14M5 12h14',
  copy: 'M9 9h11v11H9zM5 15H4V4h11v1',
  back: 'M15 5l-7 7 7 7',
  sun: 'M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v2M12 20v2M4.9 4.9l1.4 1.4M17.7 17.7l1.4 1.4M2 12h2M20 12h2M4.9 19.1l1.4-1.4M17.7 6.3l1.4-1.4',
  moon: 'M20 14.5A8 8 0 1 1 9.5 4a6.5 6.5 0 0 0 10.5 10.5z',
  system: 'M3 5h18v11H3zM9 20h6M12 16v4',
  out: 'M15 4h5v16h-5M3 12h12M11 8l4 4-4 4',
  pause: 'M8 5v14M16 5v14',
  play: 'M7 5l12 7-12 7z',
  retry: 'M20 11a8 8 0 1 0-2.3 6M20 5v6h-6',
  trash: 'M4 7h16M9 7V4h6v3M6 7l1 14h10l1-14',
  asc: 'M7 4v16M3 16l4 4 4-4M13 6h3M13 12h5M13 18h8',
  desc: 'M7 20V4M3 8l4-4 4 4M13 6h8M13 12h5M13 18h3',
  search: 'M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16 16l5 5',
};

export function icon(name, size = 18) {
  return s('svg', { viewBox: '0 0 24 24', width: size, height: size, fill: 'none', stroke: 'currentColor', 'stroke-width': 1.8, 'stroke-linecap': 'round', 'stroke-linejoin': 'round', 'aria-hidden': 'true' },
    s('path', { d: paths[name] ?? paths.info }));
}
