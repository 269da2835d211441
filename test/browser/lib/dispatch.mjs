// An application to be moved: the dispatch of parcels. Its server keeps orders, vans and
// routes with the official helper library; its pages follow them with the official client.
// Where all of that is, and who it is there, it has from its settings alone.
import twilio from 'twilio';

export const size = { orders: 200, vans: 60, routes: 40, drivers: 20 };

/** The library's own HTTP client, led to the installation of the settings. */
class Led extends twilio.RequestClient {
  constructor(url) {
    super({ timeout: 15_000 });
    this.url = url;
  }

  request(options) {
    return super.request({ ...options, uri: options.uri.replace('https://sync.twilio.com', this.url) });
  }
}

export class Dispatch {
  /** Settings: { url, accountSid, authToken, apiKey, apiSecret }. */
  constructor(settings) { this.configure(settings); }

  configure(settings) {
    this.settings = settings;
    this.sync = twilio(settings.accountSid, settings.authToken, { httpClient: new Led(settings.url) }).sync.v1;
  }

  get service() { return this.sync.services(this.serviceSid); }

  /** Makes everything, some requests at a time. */
  async open() {
    const { sid } = await this.sync.services.create({ friendlyName: 'Dispatch', aclEnabled: true });
    this.serviceSid = sid;
    this.orders = [];
    const { service } = this;
    this.vans = (await service.syncMaps.create({ uniqueName: 'vans' })).sid;
    this.board = (await service.syncLists.create({ uniqueName: 'board' })).sid;
    await service.syncStreams.create({ uniqueName: 'calls' });
    const drivers = Array.from({ length: size.drivers }, (_, n) => `driver-${n}`);
    await each(size.orders, async (n) => {
      const order = await service.documents.create({ uniqueName: `order-${n}`, data: { parcels: 1 + n % 7, state: 'open' }, ttl: n % 4 ? undefined : 86_400 });
      this.orders[n] = order.sid;
      await service.documents(order.sid).documentPermissions(drivers[n % size.drivers]).update({ read: true, write: true, manage: false });
    });
    await each(size.vans, (n) => service.syncMaps(this.vans).syncMapItems.create({ key: `van-${n}`, data: { at: n }, itemTtl: n % 3 ? undefined : 3600 }));
    await each(size.routes, async (n) => {
      const route = await service.syncLists.create({ uniqueName: `route-${n}` });
      for (let stop = 0; stop < 3; stop++) await service.syncLists(route.sid).syncListItems.create({ data: { stop } });
    });
    for (const identity of ['office', ...drivers]) {
      await service.syncMaps(this.vans).syncMapPermissions(identity).update({ read: true, write: true, manage: false });
      await service.syncLists(this.board).syncListPermissions(identity).update({ read: true, write: identity === 'office', manage: false });
    }
  }

  /** A day's work, until it is told to stop: vans move, orders come, change and go. */
  work() {
    let over = false, turn = 0;
    const done = (async () => {
      for (; !over; turn++) {
        const { service } = this, n = turn % size.orders;
        await Promise.all([
          service.syncMaps(this.vans).syncMapItems(`van-${turn % size.vans}`).update({ data: { at: turn } }),
          service.syncLists(this.board).syncListItems.create({ data: { turn } }),
          service.documents(this.orders[n]).update({ data: { parcels: 1 + n % 7, state: 'loaded', turn } }),
        ]);
        if (turn % 10 === 9) { // delivered: the next order has its name
          await service.documents(this.orders[n]).remove();
          this.orders[n] = (await service.documents.create({ uniqueName: `order-${n}`, data: { parcels: 1, state: 'open' } })).sid;
        }
      }
    })();
    return { stop: async () => { over = true; await done; return turn; } };
  }

  /** What a page gets from the server when it is loaded, or told to connect anew. */
  entry(identity) {
    const { url, accountSid, apiKey, apiSecret } = this.settings;
    const token = new twilio.jwt.AccessToken(accountSid, apiKey, apiSecret, { identity });
    token.addGrant(new twilio.jwt.AccessToken.SyncGrant({ serviceSid: this.serviceSid }));
    return { uri: `${url.replace(/^http/, 'ws')}/v3/wsconnect`, token: token.toJwt(), vans: this.vans, board: this.board };
  }
}

async function each(count, make, width = 8) {
  let next = 0;
  await Promise.all(Array.from({ length: width }, async () => { while (next < count) await make(next++); }));
}

/** What runs in a page: connects and shows the vans and the board. */
export async function enter({ uri, token, vans, board }) {
  await window.app?.client.shutdown();
  const client = new window.Twilio.Sync.Client(token, { Twilsock: { uri } });
  const [map, list] = [await client.map(vans), await client.list(board)];
  window.app = { client, map, list, vans: {}, board: [] };
  const all = async (page, put) => { for (;; page = await page.nextPage()) { page.items.forEach(put); if (!page.hasNextPage) return; } };
  const van = (item) => { window.app.vans[item.key] = item.data.at; };
  const entry = (item) => { window.app.board[item.index] = item.data.turn; };
  for (const event of ['itemAdded', 'itemUpdated']) {
    map.on(event, ({ item }) => van(item));
    list.on(event, ({ item }) => entry(item));
  }
  await all(await map.getItems({ pageSize: 100 }), van);
  await all(await list.getItems({ pageSize: 100 }), entry);
}
