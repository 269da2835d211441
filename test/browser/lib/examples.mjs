// The server of docs/examples, in a process of its own.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { untilItSays } from './cluster.mjs';

const script = fileURLToPath(new URL('../../../docs/examples/serve.mjs', import.meta.url));

export async function serveExamples(envFile) {
  const child = spawn(process.execPath, [script, '--env', envFile, '--port', '0']);
  const kill = () => child.kill();
  process.once('exit', kill);
  const [url] = (await untilItSays(child, '/\n', 60_000)).match(/http:\S+/);
  return {
    url,
    async close() {
      process.off('exit', kill);
      kill();
      await once(child, 'exit');
    },
  };
}
