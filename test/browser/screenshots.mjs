// Makes the pictures of docs/console.md: make build && node screenshots.mjs, in this
// folder, after ./run.sh has installed what it needs. [FOLDER] is where to put them.
import { mkdir } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { launch } from './lib/browser.mjs';
import { Cluster } from './lib/cluster.mjs';
import { looks, Person } from './lib/console.mjs';
import { furnish, receiver, restOf, van } from './lib/demo.mjs';

const folder = process.argv[2] ?? fileURLToPath(new URL('../../docs/console', import.meta.url));
await mkdir(folder, { recursive: true });
Object.assign(process.env, {
  LOCKSTEP_RATE_LIMITS: 'writes=60/40,creations=500', LOCKSTEP_WEBHOOK_ALLOW: '127.0.0.0/8',
  LOCKSTEP_BACKUP_DIR: path.join(os.tmpdir(), `lockstep-pictures-${process.pid}`), LOCKSTEP_BACKUP_EVERY: '15s',
});
const [cluster, browser, hooks] = await Promise.all([Cluster.start(), launch(), receiver(204)]);
let over = false;
try {
  const rest = restOf(cluster.urls[0], cluster.env.LOCKSTEP_API_KEY, cluster.env.LOCKSTEP_API_SECRET);
  const { service, map, base } = await furnish(rest, { vans: 130, webhook: hooks.url });
  const load = (async () => {
    for (let turn = 0; !over; turn++) {
      const many = 1 + Math.round(2 + 2 * Math.sin(turn / 60));
      await Promise.all(Array.from({ length: many }, (_, i) => rest('POST', `${base}/Maps/vans/Items/van-${String(1 + (turn * 7 + i * 3) % 9).padStart(4, '0')}`, { Data: JSON.stringify(van(i, turn)) }).catch(() => {})));
      await rest('GET', `${base}/Maps/vans/Items?PageSize=10`).catch(() => {});
      if (turn === 250) hooks.status = 503;
      await new Promise((resolve) => setTimeout(resolve, 70));
    }
  })();
  const seconds = (n) => new Promise((resolve) => setTimeout(resolve, n * 1000));
  await seconds(Number(process.env.HISTORY ?? 75)); // of history
  const vans = `services/${service.sid}/Maps/${map.sid}`;
  for (const [name, look] of Object.entries(looks)) {
    const p = await Person.at(browser, cluster.urls[0], look);
    const shot = (what) => p.page.screenshot({ path: path.join(folder, `${what}-${name}.png`) });
    await shot('login');
    await p.loggedIn({ key: cluster.env.LOCKSTEP_ACCOUNT_SID, secret: cluster.env.LOCKSTEP_AUTH_TOKEN });
    for (const [what, place, selector] of [
      ['overview', 'overview', '.node'], ['services', 'services', '.vrow'], ['service', `services/${service.sid}`, '.vrow'], ['object', vans, '.vrow'], ['permissions', `${vans}?tab=permissions`, 'table'],
      ['events', 'events', '.event'], ['webhooks', 'webhooks', 'table'], ['limits', 'limits', 'table, .empty'], ['backups', 'backups', 'table'],
    ]) {
      await p.go(place, selector);
      await seconds(1.2);
      await shot(what);
    }
    await p.go(vans, '.vrow');
    await p.page.locator('.vrow', { hasText: 'van-0014' }).click();
    await p.page.waitForFunction(() => document.querySelector('.editor textarea')?.value.length > 5);
    await p.page.fill('.editor textarea', JSON.stringify({ ...van(14), driver: 'Zoe', parcels: 3 }, null, 2));
    await rest('POST', `${base}/Maps/vans/Items/van-0014`, { Data: JSON.stringify(van(14, 3)) });
    await seconds(0.5);
    await p.page.click('.editor button[type=submit]');
    await p.page.waitForSelector('.conflict');
    await shot('conflict');
    await p.go('tokens', 'input[name=identity]');
    await p.page.fill('input[name=identity]', 'alice');
    await p.page.fill('input[name=service]', service.sid);
    await p.page.click('main button[type=submit]');
    await p.page.waitForSelector('.token-out');
    await shot('tokens');
    await p.close();
  }
  over = true;
  await load;
} finally {
  over = true;
  hooks.close();
  await Promise.allSettled([browser.close(), cluster.stop()]);
}
