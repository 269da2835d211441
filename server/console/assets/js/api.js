// Requests to the node that serves the page. The session is a cookie that scripts do
// not see; the header is what a page of another site could not send.
const base = new URL('./api/', document.baseURI).pathname;

export class ApiError extends Error {
  constructor(status, code, message, retryAfter) {
    super(message);
    Object.assign(this, { status, code, retryAfter });
  }
}

/** Is told when nobody is logged in any more. */
export const events = new EventTarget();

export async function request(method, path, { form, json, headers, signal } = {}) {
  const init = { method, signal, credentials: 'same-origin', cache: 'no-store', headers: { 'X-Lockstep-Console': '1', ...headers } };
  if (form) init.body = new URLSearchParams(Object.entries(form).filter(([, v]) => v !== undefined));
  if (json) {
    init.body = JSON.stringify(json);
    init.headers['Content-Type'] = 'application/json';
  }
  let answer;
  try {
    answer = await fetch(base + path, init);
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    reached(false);
    throw new ApiError(0, 0, 'The node does not answer');
  }
  reached(true);
  if (answer.status === 401 && path !== 'session') events.dispatchEvent(new Event('loggedout'));
  return answer;
}

let last = true;
function reached(is) {
  if (is === last) return;
  last = is;
  events.dispatchEvent(new CustomEvent('reached', { detail: is }));
}

export async function call(method, path, options) {
  const answer = await request(method, path, options);
  const text = await answer.text();
  let body = null;
  if (text) {
    try { body = JSON.parse(text); } catch { /* of a proxy, perhaps */ }
  }
  if (!answer.ok) throw new ApiError(answer.status, body?.code, body?.message ?? `The node answered ${answer.status}`, Number(answer.headers.get('Retry-After')) || 0);
  return body;
}

export const get = (path, options) => call('GET', path, options);
export const post = (path, options) => call('POST', path, options);
export const remove = (path, options) => call('DELETE', path, options);

/** The path, below the API of the console, of a URL in an answer. */
export function pathOf(url) {
  const { pathname, search } = new URL(url);
  return pathname.slice(1) + search;
}

const e = encodeURIComponent;
export const paths = {
  service: (sid) => `v1/Services/${e(sid)}`,
  objects: (sid, kind) => `v1/Services/${e(sid)}/${kind}`,
  object: (sid, kind, object) => `v1/Services/${e(sid)}/${kind}/${e(object)}`,
  items: (sid, kind, object) => `v1/Services/${e(sid)}/${kind}/${e(object)}/Items`,
  item: (sid, kind, object, key) => `v1/Services/${e(sid)}/${kind}/${e(object)}/Items/${e(key)}`,
  permissions: (sid, kind, object) => `v1/Services/${e(sid)}/${kind}/${e(object)}/Permissions`,
  permission: (sid, kind, object, identity) => `v1/Services/${e(sid)}/${kind}/${e(object)}/Permissions/${e(identity)}`,
};
