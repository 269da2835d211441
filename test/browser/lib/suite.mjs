// What the tests of one file share: a cluster, a browser, and tidying up after each case.
import { after, before, test } from 'node:test';
import { launch, serveBundle, Tab } from './browser.mjs';
import { Cluster } from './cluster.mjs';
import { Proxy } from './proxy.mjs';

// An interrupted run leaves by the exit that stops what it started.
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));

/**
 * Returns a function that defines a case. The case gets
 *   cluster               the cluster, of which all cases of the file share one
 *   tab(url?)             a new tab, by default on an empty page with the bundle
 *   connected(n, options) a new tab with a client at node n, or { at: URL, identity }
 *   proxy(n)              a proxy before node n
 *   defer(fn)             has fn called at the end, last one first
 */
export function suite() {
  let cluster, browser, pages;
  before(async () => {
    [cluster, browser, pages] = await Promise.all([Cluster.start(), launch(), serveBundle()]);
  }, { timeout: 180_000 });
  after(async () => {
    await Promise.allSettled([browser?.close(), pages?.close(), cluster?.stop()]);
  }, { timeout: 60_000 });

  return (name, run) => test(name, { timeout: 180_000 }, async () => {
    const deferred = [];
    const defer = (fn) => deferred.unshift(fn);
    const tab = async (url = pages.url) => {
      const opened = await Tab.open(browser, url);
      defer(() => opened.close());
      return opened;
    };
    const connected = async (n, { at = cluster.urls[n], identity = 'alice' } = {}) => {
      const opened = await tab();
      await opened.connect({ url: at, token: cluster.token(identity) });
      return opened;
    };
    const proxy = async (n) => {
      const made = await Proxy.to(cluster.urls[n]);
      defer(() => made.close());
      return made;
    };
    const failures = [];
    const attempt = (fn) => fn().catch((error) => failures.push(error));
    await attempt(async () => run({ cluster, tab, connected, proxy, defer }));
    for (const fn of deferred) await attempt(async () => fn());
    if (failures.length > 1) throw new AggregateError(failures, failures.map(String).join('\n'));
    if (failures.length) throw failures[0];
  });
}
