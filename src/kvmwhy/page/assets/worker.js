// The worker: Python with kvmwhy in it. Its packages come with the first message; it fetches nothing.
// Above stand Pyodide's module, its loader, iced's package as a function, Pyodide's edition, and the search.

let explain = null;

self.fetch = (address) => {
  // The loader asks for two files by their addresses.
  const part = { 'pyodide.asm.wasm': 'python.wasm', 'python_stdlib.zip': 'python.zip' }[String(address).split('/').pop()];
  if (!part || !self.parts) return Promise.reject(new Error('nothing is fetched here'));
  const type = part.endsWith('.wasm') ? 'application/wasm' : 'application/zip';
  return Promise.resolve(new Response(self.parts[part], { headers: { 'Content-Type': type } }));
};

function decoder(bytes) {
  const module = { exports: {} };
  const modules = { util: { TextDecoder, TextEncoder }, path: { join: () => '' }, fs: { readFileSync: () => bytes } };
  icedModule(module, (name) => modules[name], '');
  return module.exports;
}

async function start(parts) {
  self.parts = parts;
  self.Search = Search;
  self.iced = decoder(parts['iced.wasm']);
  const python = await self.loadPyodide({
    createPyodideModule: _createPyodideModule,
    indexURL: 'https://kvmwhy.invalid/', // resolved, and asked for above; nothing is there
    lockFileContents: { info: edition, packages: {} },
    stdout: () => {},
    stderr: () => {},
  });
  const home = '/kvmwhy';
  for (const name of ['msgspec.zip', 'kvmwhy.zip']) python.unpackArchive(parts[name], 'zip', { extractDir: home });
  self.parts = null;
  python.globals.set('home', home);
  explain = python.runPython(`
import sys
sys.path.insert(0, home)
import iced_x86
from kvmwhy.page.in_browser import explain

def call(read, size, name, now):
    answer = explain(lambda start, end: read(start, end).to_bytes(), size, name, now)
    return answer.page, answer.json, answer.remarks

call`);
}

function answer(file, name) {
  const reader = new FileReaderSync();
  let seen = -1;
  const read = (begin, end) => {
    const percent = Math.floor((100 * begin) / file.size);
    if (percent !== seen) postMessage({ kind: 'progress', percent: (seen = percent) });
    return new Uint8Array(reader.readAsArrayBuffer(file.slice(begin, end)));
  };
  const found = explain(read, file.size, name, Date.now() / 1000);
  const [page, json, remarks] = found.toJs();
  found.destroy();
  return { kind: 'answer', page, json, remarks };
}

onmessage = async ({ data }) => {
  try {
    if (data.kind === 'start') {
      await start(data.parts);
      postMessage({ kind: 'ready' });
    } else {
      postMessage(answer(data.file, data.name));
    }
  } catch (error) {
    postMessage({ kind: 'failed', text: String(error && error.message ? error.message : error).slice(-2000) });
  }
};
