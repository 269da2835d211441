// A fresh cluster of three nodes, in processes of its own and a directory of its own.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import twilio from 'twilio';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const binary = path.resolve(process.env.LOCKSTEP_BINARY ?? path.join(root, 'bin/lockstep'));

export class Cluster {
  /** Starts so many nodes, with more settings than the environment has. */
  static async start({ nodes = 3, settings = {} } = {}) {
    const c = new Cluster();
    c.dir = await mkdtemp(path.join(os.tmpdir(), 'lockstep-browser-'));
    c.envFile = path.join(c.dir, 'dev.env');
    c.process = spawn(binary, ['dev', '--data-dir', c.dir, '--nodes', String(nodes), '--http-port', await threeFreePorts()], { env: { ...process.env, ...settings } });
    process.once('exit', c.kill);
    await untilItSays(c.process, 'ready', 60_000);
    const lines = (await readFile(c.envFile, 'utf8')).trim().split('\n');
    c.env = Object.fromEntries(lines.map((line) => line.split(/=(.*)/s, 2)));
    c.urls = c.env.LOCKSTEP_URLS.split(',');
    return c;
  }

  kill = () => this.process.kill('SIGTERM');

  /** An access token, by default for the default service. */
  token(identity, serviceSid = 'default') {
    const { AccessToken } = twilio.jwt;
    const token = new AccessToken(this.env.LOCKSTEP_ACCOUNT_SID, this.env.LOCKSTEP_API_KEY, this.env.LOCKSTEP_API_SECRET, { identity });
    token.addGrant(new AccessToken.SyncGrant({ serviceSid }));
    return token.toJwt();
  }

  /** Brings objects and items, as lockstep import takes them, with which it is faster than by single requests. */
  async bring(records) {
    const lines = [{ lockstep_export: 1 }, ...records].map((r) => `${JSON.stringify(r)}\n`).join('');
    const end = { kind: 'end', lines: records.length, sha256: createHash('sha256').update(lines).digest('hex') };
    await this.lockstep(['import', '-'], { input: `${lines}${JSON.stringify(end)}\n` }).success;
  }

  /** Runs a command on this cluster; success is what it printed, or its failure. */
  lockstep(args, { input = '', env = {} } = {}) {
    const child = spawn(binary, args, { cwd: this.dir, env: { ...process.env, ...env, LOCKSTEP_DATA_DIR: this.dir } });
    const run = { child, said: '' };
    for (const out of [child.stdout, child.stderr]) out.on('data', (data) => { run.said += data; });
    child.stdin.end(input);
    run.success = once(child, 'close').then(([code]) => {
      if (code !== 0) throw new Error(`lockstep ${args[0]} ended with ${code}: ${run.said}`);
      return run.said;
    });
    return run;
  }

  /** Ends a node's process as a crash would; n counts from 0. */
  async killNode(n) {
    process.kill(Number(await readFile(path.join(this.dir, `node${n + 1}`, 'pid'), 'utf8')), 'SIGKILL');
  }

  async stop() {
    if (this.process.exitCode === null) {
      this.kill();
      await once(this.process, 'exit');
    }
    process.off('exit', this.kill);
    await rm(this.dir, { recursive: true, force: true });
  }
}

/** Waits until a process prints the text; fails with its output when it ends or the time is over. */
export async function untilItSays(child, text, ms) {
  let said = '';
  await new Promise((resolve, reject) => {
    const fail = (why) => reject(new Error(`${child.spawnfile} ${why}; it said:\n${said}`));
    const timer = setTimeout(() => fail('is not ready in time'), ms);
    const hear = (data) => {
      said += data;
      if (!said.includes(text)) return;
      clearTimeout(timer);
      resolve();
    };
    child.stdout.on('data', hear);
    child.stderr.on('data', hear);
    child.on('error', reject);
    child.on('exit', (code) => {
      clearTimeout(timer);
      fail(`ended with ${code}`);
    });
  });
  return said;
}

// The ports are below those that nodes choose for themselves, and those that the system
// gives to outgoing connections.
async function threeFreePorts() {
  for (let tries = 0; tries < 50; tries++) {
    const first = 10_000 + Math.floor(Math.random() * 9_998);
    const free = await Promise.all([first, first + 1, first + 2].map(isFree));
    if (free.every(Boolean)) return String(first);
  }
  throw new Error('no three free ports in a row');
}

function isFree(port) {
  return new Promise((resolve) => {
    const probe = net.createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });
}
