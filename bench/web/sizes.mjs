// SPDX-License-Identifier: MIT
// What a page downloads to run a model on the CPU: ours and our peers', raw and compressed. Needs `make wasm` and
// `npm ci --prefix bench/web`; no options.
import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const PACKAGE = path.join(HERE, '..', '..', 'js');
const PEERS = path.join(HERE, 'node_modules');

const version = (folder) => JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8')).version;

/** Our modules of src without those that only node imports. */
const scripts = readdirSync(path.join(PACKAGE, 'src')).filter((name) => name.endsWith('.js') && !name.startsWith('node'));

function peer(name, folder, files) {
    return { name: `${name} ${version(path.join(PEERS, folder))}`, files: files.map((file) => path.join(PEERS, folder, file)) };
}

const rows = [
    { name: 'tinyvlm, JavaScript (not minified)', files: scripts.map((name) => path.join(PACKAGE, 'src', name)) },
    ...['scalar', 'simd128', 'simd128-threads', 'relaxed', 'relaxed-threads'].map((name) =>
        ({ name: `tinyvlm, ${name} module`, files: [path.join(PACKAGE, 'dist', `tinyvlm-${name}.wasm`)] })),
    peer('ONNX Runtime Web', 'onnxruntime-web', ['dist/ort.wasm.bundle.min.mjs', 'dist/ort-wasm-simd-threaded.wasm']),
    peer('wllama', '@wllama/wllama', ['esm/index.min.js', 'esm/wasm/wllama.wasm']),
    // what its "onnxruntime-web/webgpu" import fetches, whichever device is asked for
    peer('transformers.js', '@huggingface/transformers', ['dist/transformers.web.min.js',
        'node_modules/onnxruntime-web/dist/ort.webgpu.bundle.min.mjs', 'node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.asyncify.wasm']),
];

const kB = (bytes) => (bytes / 1000).toFixed(0).replace(/\B(?=(\d{3})+$)/g, ',');

console.log('| what | raw kB | gzip -9 kB | brotli -11 kB |\n|---|---|---|---|');
for (const { name, files } of rows) {
    let [raw, gzip, brotli] = [0, 0, 0];
    for (const file of files) {
        const bytes = readFileSync(file);
        raw += bytes.length;
        gzip += gzipSync(bytes, { level: 9 }).length;
        brotli += brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } }).length;
    }
    console.log(`| ${name} | ${kB(raw)} | ${kB(gzip)} | ${kB(brotli)} |`);
}
