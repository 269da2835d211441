// Headless Chromium, and tabs which hold a client of the official bundle.
import http from 'node:http';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { chromium } from 'playwright-core';
import { eventually, patience } from './wait.mjs';

const builds = path.dirname(createRequire(import.meta.url).resolve('twilio-sync'));

export async function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-dev-shm-usage', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync',
    ],
  });
}

/** Serves an empty page with the unmodified bundle, from an origin that is no node's. */
export async function serveBundle() {
  const bundle = await readFile(path.join(builds, 'twilio-sync.min.js'));
  const page = '<!doctype html><title>tab</title><link rel="icon" href="data:,"><script src="/twilio-sync.min.js"></script>';
  const server = http.createServer((request, response) => {
    const script = request.url === '/twilio-sync.min.js';
    response.setHeader('Content-Type', script ? 'text/javascript; charset=utf-8' : 'text/html; charset=utf-8');
    response.end(script ? bundle : page);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** One page of the browser. */
export class Tab {
  /** What its clients asked of the server, as "METHOD path". */
  requests = [];
  /** SIDs of the objects whose subscription the server confirmed, in order. */
  established = [];
  #problems = [];

  static async open(browser, url) {
    const tab = new Tab();
    tab.page = await browser.newPage({ viewport: { width: 800, height: 700 } });
    tab.page.setDefaultTimeout(patience);
    tab.page.on('websocket', (socket) => {
      socket.on('framesent', ({ payload }) => tab.#sent(payload.toString()));
      socket.on('framereceived', ({ payload }) => tab.#received(payload.toString()));
    });
    tab.page.on('pageerror', (error) => tab.#problems.push(error.message));
    await tab.page.goto(url);
    return tab;
  }

  #sent(frame) {
    const [, header] = frame.split('\r\n', 2);
    const { http_request: request } = JSON.parse(header);
    if (request) this.requests.push(`${request.method} ${request.path}`);
  }

  #received(frame) {
    const [, , payload] = frame.split('\r\n', 3);
    if (!payload) return;
    const { event_type: type, event, events } = JSON.parse(payload);
    if (type === 'subscription_established') this.established.push(...(events ?? [event]).map((e) => e.object_sid));
  }

  /** Loads the page again, or goes to another; requests and established are of the new page then. */
  async load(url) {
    await (url ? this.page.goto(url) : this.page.reload());
    this.requests = [];
    this.established = [];
  }

  /** Makes the page's client, window.client, and waits until it is connected. */
  async connect({ url, token }) {
    await this.page.evaluate(({ uri, token }) => {
      window.client = new Twilio.Sync.Client(token, {
        Twilsock: { uri, retryPolicy: { min: 200, max: 1000, randomness: 0.2 } },
        Sync: { enableSessionStorage: true },
      });
    }, { uri: `${url.replace(/^http/, 'ws')}/v3/wsconnect`, token });
    await this.state('connected');
  }

  state(state) {
    return this.until((wanted) => window.client.connectionState === wanted, state);
  }

  /** Waits until the server has confirmed the subscriptions of these objects. */
  subscribed(sids) {
    return eventually(() => sids.every((sid) => this.established.includes(sid)), 'subscriptions established');
  }

  /** Runs a function in the page. */
  run(fn, arg) {
    return this.page.evaluate(fn, arg);
  }

  /** Waits until a function in the page gives something truthy, and returns that. */
  async until(fn, arg) {
    return (await this.page.waitForFunction(fn, arg, { polling: 50 })).jsonValue();
  }

  /** Closes the page; fails if a script of the page failed on the way. */
  async close() {
    await this.page.close();
    if (this.#problems.length) throw new Error(`errors in the page: ${this.#problems.join('; ')}`);
  }
}
