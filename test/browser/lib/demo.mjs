// Data for the console to show: an invented fleet of delivery vans.
import http from 'node:http';
import { once } from 'node:events';

async function ask(url, key, secret, method, path, body) {
  const authorization = `Basic ${Buffer.from(`${key}:${secret}`).toString('base64')}`;
  const answer = await fetch(url + path, { method, headers: { authorization }, body });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
  return text ? JSON.parse(text) : null;
}

/** Requests to the REST API of a node, with the credentials of the account or of a key. */
export const restOf = (url, key, secret) => (method, path, form) => ask(url, key, secret, method, path, form && new URLSearchParams(form));

/** A request to the operators' API. */
export const operate = (env, method, path, body) => ask(env.LOCKSTEP_URLS.split(',')[0], env.LOCKSTEP_ACCOUNT_SID, env.LOCKSTEP_AUTH_TOKEN, method, path, body && JSON.stringify(body));

/** A receiver of webhooks that answers as it is told. */
export async function receiver(status = 204) {
  const server = http.createServer((request, response) => {
    request.resume();
    response.writeHead(self.status).end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const self = { status, url: `http://127.0.0.1:${server.address().port}/hooks`, close: () => { server.closeAllConnections(); server.close(); } };
  return self;
}

const streets = ['Quay', 'Mill Lane', 'Station Road', 'Harbour', 'North Gate', 'Market', 'Old Bridge', 'Vine Street'];

export const van = (n, turn = 0) => ({
  driver: ['Ada', 'Bo', 'Chi', 'Dev', 'Eve', 'Fay', 'Gus', 'Hal'][n % 8], stop: streets[(n + turn) % streets.length],
  position: { lat: Number((51.4 + Math.sin(n + turn / 9) / 20).toFixed(5)), lng: Number((-0.1 + Math.cos(n + turn / 7) / 20).toFixed(5)) },
  parcels: (n * 7 + turn) % 40, doorsLocked: (n + turn) % 3 !== 0,
});

/** Makes a service with a map of so many vans and a few other objects. */
export async function furnish(rest, { vans = 120, webhook } = {}) {
  const service = await rest('POST', '/v1/Services', { FriendlyName: 'Delivery', ...(webhook && { WebhookUrl: webhook, WebhooksFromRestEnabled: 'true' }) });
  const base = `/v1/Services/${service.sid}`;
  const map = await rest('POST', `${base}/Maps`, { UniqueName: 'vans' });
  await Promise.all(['depots', 'drivers', 'routes-today', 'charging'].map((name) => rest('POST', `${base}/Maps`, { UniqueName: name })));
  const document = await rest('POST', `${base}/Documents`, { UniqueName: 'opening-hours', Data: JSON.stringify({ monday: '08:00–18:00', saturday: '09:00–13:00', closed: ['sunday'] }) });
  const list = await rest('POST', `${base}/Lists`, { UniqueName: 'notices' });
  const stream = await rest('POST', `${base}/Streams`, { UniqueName: 'horn' });
  for (let n = 1; n <= vans; n += 20) {
    await Promise.all(Array.from({ length: Math.min(20, vans - n + 1) }, (_, i) => rest('POST', `${base}/Maps/vans/Items`, { Key: `van-${String(n + i).padStart(4, '0')}`, Data: JSON.stringify(van(n + i)) })));
  }
  for (const text of ['Ring road closed until noon', 'New lockers at Station Road', 'Van 12 is back']) await rest('POST', `${base}/Lists/notices/Items`, { Data: JSON.stringify({ text }) });
  await Promise.all([['dispatcher', true, true, true], ['driver-ada', true, true, false], ['customer-app', true, false, false]].map(([identity, read, write, manage]) => rest('POST', `${base}/Maps/vans/Permissions/${identity}`, { Read: read, Write: write, Manage: manage })));
  return { service, map, document, list, stream, base };
}
