// Objects followed live: by the official SDK, or, where no token can open an object
// (a key that only reads, an identity without the permission), by the stream of
// events. Whoever follows is told of changes in one form.
import { post } from './api.js';
import { follow } from './tail.js';

const clients = new Map(); // of the SDK, by service and identity

async function token(service, identity) {
  return (await post('token', { json: { Service: service, Identity: identity, Seconds: 3600, Page: true } })).token;
}

async function clientOf(service, identity) {
  const key = `${service} ${identity}`;
  if (!clients.has(key)) {
    const opening = (async () => {
      const uri = new URL('api/realtime', document.baseURI).href.replace(/^http/, 'ws');
      const client = new window.Twilio.Sync.Client(await token(service, identity), {
        Twilsock: { uri, retryPolicy: { min: 250, max: 3000, randomness: 0.3 } },
      });
      const renew = async () => client.updateToken(await token(service, identity));
      client.on('tokenAboutToExpire', renew);
      client.on('tokenExpired', renew);
      return client;
    })();
    clients.set(key, opening);
    opening.catch(() => clients.delete(key));
  }
  return clients.get(key);
}

/** Ends all clients, when whoever logged in has left. */
export async function leave() {
  const all = [...clients.values()];
  clients.clear();
  for (const opening of all) (await opening.catch(() => null))?.shutdown();
}

export const identityOf = () => { try { return sessionStorage.getItem('lockstep.identity') || 'console'; } catch { return 'console'; } };
export function useIdentity(name) { try { sessionStorage.setItem('lockstep.identity', name); } catch { /* it is not kept then */ } }

/**
 * Follows an object. told gets { what: 'item' | 'item-removed' | 'document' | 'removed' |
 * 'message' | 'reload', key, data, who }, state gets { by: 'sdk' | 'events', is: 'live' |
 * 'waiting', why }. Returns a function that ends it.
 */
export function followObject({ service, kind, sid, mayLive }, told, state) {
  let end = () => {}, over = false;
  const byEvents = (why) => {
    if (over) return;
    end = follow({ service, object: sid }, (e) => fromEvent(e, told), (is) => state({ by: 'events', is, why }));
  };
  const bySdk = async () => {
    state({ by: 'sdk', is: 'waiting' });
    const client = await clientOf(service, identityOf());
    const object = await open(client, kind, sid);
    if (over) return object.close();
    const changed = () => state({ by: 'sdk', is: client.connectionState === 'connected' ? 'live' : 'waiting' });
    client.on('connectionStateChanged', changed);
    changed();
    listen(object, told);
    end = () => {
      client.removeListener('connectionStateChanged', changed);
      object.close();
    };
  };
  if (mayLive) bySdk().catch((error) => byEvents(error.code === 54007 || error.status === 403 ? `${identityOf()} may not read it` : error.message));
  else byEvents('this key makes no tokens');
  return () => { over = true; end(); };
}

const open = (client, kind, sid) => client[{ Documents: 'document', Lists: 'list', Maps: 'map', Streams: 'stream' }[kind]]({ id: sid, mode: 'open_existing' });

function listen(object, told) {
  const item = ({ item }) => told({ what: 'item', key: String(item.key ?? item.index), data: item.data, at: item.dateUpdated, revision: item.revision ?? item.descriptor?.revision });
  object.on('itemAdded', item);
  object.on('itemUpdated', item);
  object.on('itemRemoved', (e) => told({ what: 'item-removed', key: String(e.key ?? e.index) }));
  object.on('updated', (e) => told({ what: 'document', data: e.data }));
  object.on('removed', () => told({ what: 'removed' }));
  object.on('messagePublished', (e) => told({ what: 'message', data: e.message.data, sid: e.message.sid }));
}

function fromEvent(e, told) {
  const what = e.type.replace(/^(document|list|map|stream)_/, '');
  if (e.type === 'missed') told({ what: 'reload' });
  else if (what === 'item_added' || what === 'item_updated') told({ what: 'item', key: e.item, data: e.data, at: e.at, revision: e.revision, long: e.bytes > 0 && e.data === undefined });
  else if (what === 'item_removed') told({ what: 'item-removed', key: e.item });
  else if (what === 'updated') told({ what: 'document', data: e.data });
  else if (what === 'removed') told({ what: 'removed' });
  else if (what === 'message_published') told({ what: 'message', data: e.data });
}
