// SPDX-License-Identifier: MIT
// The browser benchmark: one run, one Chromium, the same cores for everybody.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { chromium } from 'playwright-core';

import { serve } from '../../examples/web/serve.mjs';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const PROMPT = 'Write a short story about a small robot that learns to paint.';

const HELP = `tinyvlm beside ONNX Runtime Web and wllama in headless Chromium.

usage: node bench/web/run.mjs [options]

  --models DIR    what make_models.py wrote: fastvithd-*, efficientnet-lite0*, fastvlm-*
  --text FILE     a small text GGUF, for decoding; several times for several
  --runs N        measured runs, after a second or more to warm up (default 5)
  --tokens N      tokens of an answer (default 64)
  --threads LIST  default 1,2
  --only TEXT     rows whose name has this in it
  --json FILE     the numbers
  --chromium FILE default /usr/bin/chromium

examples:
  npm ci --prefix bench/web && make wasm
  node bench/web/run.mjs --models build/bench-models --text SmolLM2-135M-Q4_0.gguf --json build/web.json
`;

function readOptions() {
    const text = (fallback) => ({ type: 'string', default: fallback });
    return parseArgs({
        options: {
            models: text(''), text: { type: 'string', multiple: true, default: [] }, runs: text('5'), tokens: text('64'), threads: text('1,2'), only: text(''),
            json: text(''), chromium: text('/usr/bin/chromium'), help: { type: 'boolean', default: false },
        },
    }).values;
}

/** Every row of the table: { name, who, file, call, args }. */
function plan(options, threads) {
    const runs = Number(options.runs);
    const suffix = threads > 1 ? '-threads' : '';
    const ours = ['simd128', 'relaxed'].map((kind) => `${kind}${suffix}`);
    const models = options.models && path.resolve(options.models);
    const rows = [];
    const tower = (name, file, gguf, onnx, size) => {
        for (const module of ours)
            rows.push({ name, who: `tinyvlm ${module}`, file, call: 'oursTower', args: { url: gguf, module, threads, runs } });
        for (const [label, url] of onnx)
            rows.push({ name, who: `ONNX Runtime Web ${label}`, file: path.join(models, path.basename(url)), call: 'ortTower', args: { url, threads, runs, size } });
    };
    const bundled = path.join(HERE, '..', '..', 'models', 'tinyvlm-25m.gguf');
    tower('EfficientNet-Lite0 tower, int8', bundled, '/models/tinyvlm-25m.gguf', [
        ['int8 (QDQ)', '/bench/efficientnet-lite0-int8.onnx'], ['float32', '/bench/efficientnet-lite0.onnx']], 224);
    for (const size of [256, 512])
        tower(`FastViTHD tower, float32, ${size} px`, path.join(models, `fastvithd-${size}.gguf`), `/bench/fastvithd-${size}.gguf`,
            [['float32', `/bench/fastvithd-${size}.onnx`]], size);
    options.text.forEach((file, i) => {
        const name = `decode, ${path.basename(file, '.gguf')}`;
        const args = { url: `/text${i}/${path.basename(file)}`, threads, runs, tokens: Number(options.tokens), prompt: PROMPT };
        for (const module of ours)
            rows.push({ name, who: `tinyvlm ${module}`, file, call: 'oursDecode', args: { ...args, module } });
        rows.push({ name, who: 'wllama', file, call: 'wllamaDecode', args });
    });
    const answer = (name, file, url) => {
        for (const module of ours)
            rows.push({ name: `${name}, picture to 11 tokens`, who: `tinyvlm ${module}`, file, call: 'oursEndToEnd',
                args: { url, module, threads, runs, photo: '/photos/astronaut.jpg' } });
    };
    answer('Tiny-VLM-25M', bundled, '/models/tinyvlm-25m.gguf');
    answer('FastVLM 0.5B q4_0', path.join(models, 'fastvlm-0.5b-q4_0.gguf'), '/bench/fastvlm-0.5b-q4_0.gguf');
    return rows.map((row) => ({ ...row, threads }));
}

/** Peak resident bytes of each renderer of the browser by process; empty where there is no /proc. */
async function peaks(browser, { reset }) {
    const session = await browser.newBrowserCDPSession();
    const { processInfo } = await session.send('SystemInfo.getProcessInfo');
    await session.detach();
    const out = new Map();
    for (const { type, id } of processInfo) {
        if (type !== 'renderer') continue;
        try {
            if (reset) writeFileSync(`/proc/${id}/clear_refs`, '5'); // the peak is what it is now
            out.set(id, 1024 * /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${id}/status`, 'utf8'))[1]);
        } catch { // it ended, or this is no Linux
        }
    }
    return out;
}

/** What window.measure gives, and by how many bytes the page's process grew at its peak. */
async function measure(browser, url, row) {
    const page = await browser.newPage();
    try {
        await page.goto(`${url}run/page.html`);
        await page.waitForSelector('html[data-ready]');
        const before = await peaks(browser, { reset: true });
        const result = await page.evaluate(([call, args]) => window.measure[call](args), [row.call, row.args]);
        const growth = [...await peaks(browser, { reset: false })].map(([id, peak]) => peak - (before.get(id) ?? peak));
        return { ...result, growth: Math.max(0, ...growth) };
    } finally {
        await page.close();
    }
}

function show(row) {
    const { result: r } = row;
    const value = row.skipped ? row.skipped
        : r.max ? `${r.median.toFixed(1)} tokens/s (best ${r.max.toFixed(1)})` : `${r.median.toFixed(1)} ms (min ${r.min.toFixed(1)})`;
    const MB = (bytes) => (bytes ? (bytes / 1e6).toFixed(0) : '');
    console.log(`| ${row.name} | ${row.threads} | ${row.who} | ${value} | ${MB(r?.memory)} | ${MB(r?.growth)} |`);
}

async function main() {
    const options = readOptions();
    if (options.help) {
        process.stdout.write(HELP);
        return;
    }
    const roots = [['/run/', HERE], ['/modules/', path.join(HERE, 'node_modules')]];
    if (options.models) roots.push(['/bench/', path.resolve(options.models)]);
    options.text.forEach((file, i) => roots.push([`/text${i}/`, path.dirname(path.resolve(file))]));
    const server = await serve({ port: 0, roots });
    const browser = await chromium.launch({
        executablePath: options.chromium,
        args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-sync'],
    });
    console.log(`Chromium ${browser.version()}\n\n| what | threads | who | median | module MB | process grew by MB |\n|---|---|---|---|---|---|`);
    const rows = [];
    for (const threads of options.threads.split(',').map(Number)) {
        for (const row of plan(options, threads).filter((r) => `${r.name} ${r.who}`.includes(options.only))) {
            if (!row.file || !existsSync(row.file)) row.skipped = 'skipped: no such file';
            else {
                try {
                    row.result = await measure(browser, server.url, row);
                } catch (error) {
                    row.skipped = `failed: ${String(error.message).split('\n')[0].slice(0, 160)}`;
                }
            }
            show(row);
            rows.push(row);
        }
    }
    if (options.json) writeFileSync(options.json, JSON.stringify({ chromium: browser.version(), rows }, null, 1));
    await browser.close();
    await server.close();
}

await main();
