// A person at the console.
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { patience } from './wait.mjs';

const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

export const looks = {
  light: { colorScheme: 'light', viewport: { width: 1280, height: 820 } },
  dark: { colorScheme: 'dark', viewport: { width: 1280, height: 820 } },
  phone: { colorScheme: 'light', viewport: { width: 390, height: 844 } },
};

/** One tab with the console. */
export class Person {
  problems = [];

  static async at(browser, url, look = looks.light) {
    const p = new Person();
    p.context = await browser.newContext({ ...look, reducedMotion: 'reduce' });
    p.page = await p.context.newPage();
    p.page.setDefaultTimeout(patience);
    p.page.on('pageerror', (error) => p.problems.push(error.message));
    p.page.on('console', (m) => { if (/Content Security Policy|Trusted/.test(m.text())) p.problems.push(m.text()); });
    p.page.on('request', (r) => { if (new URL(r.url()).origin !== new URL(url).origin && !r.url().startsWith('ws')) p.problems.push(`it asks ${r.url()}`); });
    p.url = url;
    await p.page.goto(`${url}/console/`);
    await p.page.waitForSelector('.login form, .frame'); // the script draws them once it knows who is there
    return p;
  }

  async login({ key, secret }) {
    await this.page.fill('input[name=key]', key);
    await this.page.fill('input[name=secret]', secret);
    await this.page.click('button[type=submit]');
  }

  async loggedIn(credentials) {
    await this.login(credentials);
    await this.page.waitForSelector('.frame');
    return this;
  }

  /** Opens a page of the console, and waits for something of it, and not of the page before. */
  async go(place, selector) {
    await this.page.evaluate((hash) => new Promise((resolve) => {
      if (location.hash === hash) return resolve();
      addEventListener('hashchange', resolve, { once: true }); // after the console's own, which changes the page
      location.hash = hash;
    }), `#/${place}`);
    await this.page.waitForSelector(selector);
  }

  /** Waits for text somewhere in an element. */
  async sees(selector, text) {
    await this.page.locator(selector, { hasText: text }).first().waitFor();
  }

  /** What axe finds in the page, once it is loaded, that violates WCAG 2.2, level AA, or is no good practice. */
  async violations() {
    await this.page.waitForFunction(() => document.querySelector('main') && !document.querySelector('.loading'));
    await this.page.evaluate(axe);
    const { violations } = await this.page.evaluate(() => window.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
    return violations.map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((n) => `${n.target} ${n.any.concat(n.all, n.none).map((c) => c.message).join('; ')}`).join(' | ')}`);
  }

  async close() {
    await this.context.close();
    if (this.problems.length) throw new Error(this.problems.join('\n'));
  }
}
