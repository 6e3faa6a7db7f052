// Runs a WASI program: node scripts/run-wasi.mjs PROGRAM.wasm [ARGUMENT…]. Its exit status is the program's.
import { readFile } from 'node:fs/promises';
import { WASI } from 'node:wasi';

// WASI's "not supported". An older C library lacks the thread functions that std asks for: there is one thread.
const ENOTSUP = 58;

const [file, ...args] = process.argv.slice(2);
const wasi = new WASI({ version: 'preview1', args: [file, ...args], env: process.env, preopens: { '/': '/' } });
const program = await WebAssembly.compile(await readFile(file));
const imports = { ...wasi.getImportObject(), env: {} };
for (const { module, name } of WebAssembly.Module.imports(program)) {
  if (module === 'env') imports.env[name] = () => (name === 'pthread_create' ? ENOTSUP : 0);
}
process.exitCode = wasi.start(await WebAssembly.instantiate(program, imports));
