// Serves the examples, hands out access tokens, and leads the pages' websockets
// to the nodes of a local cluster, as the load balancer before a real one would.
//
//   node serve.mjs [--env FILE] [--port PORT]
//
// It listens on the loopback interface only, and gives a token for any identity
// to everyone who asks: an application's own server knows who its user is.
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import twilio from 'twilio';

const here = path.dirname(fileURLToPath(import.meta.url));
const { values: flags } = parseArgs({
  options: {
    env: { type: 'string', default: path.join(here, '../../data/dev/dev.env') },
    port: { type: 'string', default: '3000' },
  },
});

const env = await readEnv(flags.env);
const nodes = env.LOCKSTEP_URLS.split(',').map((url) => new URL(url));

const server = http.createServer(answer).on('upgrade', toNextNode);
server.listen(Number(flags.port), '127.0.0.1', () => {
  console.log(`examples on http://127.0.0.1:${server.address().port}/`);
});

async function readEnv(file) {
  try {
    const lines = (await readFile(file, 'utf8')).trim().split('\n');
    return Object.fromEntries(lines.map((line) => line.split(/=(.*)/s, 2)));
  } catch (error) {
    console.error(`No cluster found (${error.message}). Start one with: make run`);
    process.exit(1);
  }
}

const bundle = '/twilio-sync.min.js';
const types = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' };

async function answer(request, response) {
  const url = new URL(request.url, 'http://localhost');
  try {
    if (url.pathname === '/token') {
      send(response, 200, 'text/plain', token(url.searchParams.get('identity')));
      return;
    }
    const file = fileOf(url.pathname);
    send(response, 200, types[path.extname(file)], await readFile(file));
  } catch {
    send(response, 404, 'text/plain', 'not found\n');
  }
}

function send(response, status, type, body) {
  response.writeHead(status, { 'Content-Type': `${type}; charset=utf-8`, 'Cache-Control': 'no-store' });
  response.end(body);
}

// Only the pages are served, not the rest of this folder.
function fileOf(pathname) {
  if (pathname === bundle) return path.join(here, 'node_modules/twilio-sync/builds', bundle);
  const page = pathname.match(/^\/(?:(?:common|presence|location|whiteboard)\/)?([a-z]+\.(?:html|js|css))?$/);
  if (!page) throw new Error('no such page');
  return path.join(here, pathname, page[1] ? '' : 'index.html');
}

function token(identity) {
  if (!identity) throw new Error('a token needs an identity');
  const { AccessToken } = twilio.jwt;
  const made = new AccessToken(env.LOCKSTEP_ACCOUNT_SID, env.LOCKSTEP_API_KEY, env.LOCKSTEP_API_SECRET, { identity });
  made.addGrant(new AccessToken.SyncGrant({ serviceSid: 'default' }));
  return made.toJwt();
}

let turn = 0;

// Passes a websocket to the node whose turn it is, or to the next one that is alive.
function toNextNode(request, socket, head, tries = nodes.length) {
  const node = nodes[turn++ % nodes.length];
  let connected = false;
  const upstream = net.connect(node.port, node.hostname, () => {
    connected = true;
    const headers = [];
    for (let i = 0; i < request.rawHeaders.length; i += 2) {
      headers.push(`${request.rawHeaders[i]}: ${request.rawHeaders[i + 1]}\r\n`);
    }
    upstream.write(`GET ${request.url} HTTP/1.1\r\n${headers.join('')}\r\n`);
    upstream.write(head);
    socket.pipe(upstream).pipe(socket);
  });
  upstream.on('error', () => {
    if (!connected && tries > 1) toNextNode(request, socket, head, tries - 1);
    else socket.destroy();
  });
  upstream.on('close', () => connected && socket.destroy());
  socket.on('error', () => upstream.destroy());
  socket.on('close', () => upstream.destroy());
}
