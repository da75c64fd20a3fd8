// SPDX-License-Identifier: MIT
// The browser benchmark: one run, one Chromium, the same cores for everybody.
import { existsSync, writeFileSync } from 'node:fs';
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
  --text FILE     a small text GGUF, for decoding
  --runs N        measured runs, after a second or more to warm up (default 5)
  --tokens N      tokens of an answer (default 64)
  --threads LIST  default 1,2
  --only TEXT     rows whose name has this in it
  --json FILE     the numbers
  --chromium FILE default /usr/bin/chromium

examples:
  npm ci --prefix bench/web && make wasm
  node bench/web/run.mjs --models build/bench-models --text SmolLM2-135M-Instruct.Q4_1.gguf --json build/web.json
`;

function readOptions() {
    const text = (fallback) => ({ type: 'string', default: fallback });
    return parseArgs({
        options: {
            models: text(''), text: text(''), runs: text('5'), tokens: text('64'), threads: text('1,2'), only: text(''),
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
    const decode = { url: `/text/${path.basename(options.text)}`, threads, runs, tokens: Number(options.tokens), prompt: PROMPT };
    for (const module of ours)
        rows.push({ name: 'decode', who: `tinyvlm ${module}`, file: options.text, call: 'oursDecode', args: { ...decode, module } });
    rows.push({ name: 'decode', who: 'wllama', file: options.text, call: 'wllamaDecode', args: decode });
    const answer = (name, file, url) => {
        for (const module of ours)
            rows.push({ name: `${name}, picture to 11 tokens`, who: `tinyvlm ${module}`, file, call: 'oursEndToEnd',
                args: { url, module, threads, runs, photo: '/photos/astronaut.jpg' } });
    };
    answer('Tiny-VLM-25M', bundled, '/models/tinyvlm-25m.gguf');
    answer('FastVLM 0.5B q4_0', path.join(models, 'fastvlm-0.5b-q4_0.gguf'), '/bench/fastvlm-0.5b-q4_0.gguf');
    return rows.map((row) => ({ ...row, threads }));
}

async function measure(browser, url, row) {
    const page = await browser.newPage();
    try {
        await page.goto(`${url}run/page.html`);
        await page.waitForSelector('html[data-ready]');
        return await page.evaluate(([call, args]) => window.measure[call](args), [row.call, row.args]);
    } finally {
        await page.close();
    }
}

function show(row) {
    const { result: r } = row;
    const value = row.skipped ? row.skipped
        : r.max ? `${r.median.toFixed(1)} tokens/s (best ${r.max.toFixed(1)})` : `${r.median.toFixed(1)} ms (min ${r.min.toFixed(1)})`;
    const memory = r?.memory ? `${(r.memory / 1e6).toFixed(0)} MB` : '';
    console.log(`| ${row.name} | ${row.threads} | ${row.who} | ${value} | ${memory} |`);
}

async function main() {
    const options = readOptions();
    if (options.help) {
        process.stdout.write(HELP);
        return;
    }
    const roots = [['/run/', HERE], ['/modules/', path.join(HERE, 'node_modules')]];
    if (options.models) roots.push(['/bench/', path.resolve(options.models)]);
    if (options.text) roots.push(['/text/', path.dirname(path.resolve(options.text))]);
    const server = await serve({ port: 0, roots });
    const browser = await chromium.launch({
        executablePath: options.chromium,
        args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-sync'],
    });
    console.log(`Chromium ${browser.version()}\n\n| what | threads | who | median | memory |\n|---|---|---|---|---|`);
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
