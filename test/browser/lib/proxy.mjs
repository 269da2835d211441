// A TCP proxy on the loopback interface: an address that stays while nodes come and go.
import { once } from 'node:events';
import net from 'node:net';

export class Proxy {
  #target;
  #sockets = new Set();
  #server = net.createServer((down) => this.#accept(down));

  static async to(url) {
    const p = new Proxy();
    p.lead(url);
    p.#server.listen(0, '127.0.0.1');
    await once(p.#server, 'listening');
    p.url = `http://127.0.0.1:${p.#server.address().port}`;
    return p;
  }

  /** New connections go to this node. */
  lead(url) {
    this.#target = new URL(url);
  }

  #accept(down) {
    const up = net.connect(this.#target.port, this.#target.hostname);
    for (const [from, to] of [[down, up], [up, down]]) {
      this.#sockets.add(from);
      from.pipe(to);
      from.on('error', () => to.destroy());
      from.on('close', () => {
        this.#sockets.delete(from);
        to.destroy();
      });
    }
  }

  async close() {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
