// SPDX-License-Identifier: MIT
// The package and the demo page in headless Chromium, with and without isolation headers.
import assert from 'node:assert/strict';
import { copyFileSync, cpSync, appendFileSync, mkdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { after, before } from 'node:test';

import { chromium } from 'playwright-core';
import sharp from 'sharp';

import { serve } from '../../examples/web/serve.mjs';
import { MODEL, PICTURE_FILE, ROOT, WORK, asNumbers, golden, goldenModel, nativeDump, nativeTower, relativeError } from './common.mjs';

const SHOTS = path.join(ROOT, 'build', 'wasm', 'screenshots');
const TINY = '/models/tinyvlm-25m.gguf';
const PHOTO = '/photos/astronaut.jpg';
const PROMPT = 'What is in the picture?';
const PATIENCE = 300_000; // milliseconds, for what takes one thousandth on an idle machine

let browser;
const servers = {};

before(async () => {
    mkdirSync(SHOTS, { recursive: true });
    goldenModel();
    const roots = [
        ['/tests/', path.join(ROOT, 'tests', 'js')],
        ['/made/', WORK],
        ['/kernels/', path.join(ROOT, 'build', 'wasm')],
        ['/golden/', path.join(ROOT, 'tests', 'data', 'golden')],
    ];
    servers.isolated = await serve({ port: 0, roots });
    servers.plain = await serve({ port: 0, roots, isolation: false });
    servers.other = await serve({ port: 0, roots, isolation: false, headers: { 'Access-Control-Allow-Origin': '*' } });
    browser = await launch();
});

function launch(...options) {
    return chromium.launch({
        executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
        args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
            '--disable-component-update', '--disable-sync', '--use-fake-ui-for-media-stream',
            '--use-fake-device-for-media-stream', ...options],
    });
}

after(async () => {
    await browser?.close();
    for (const server of Object.values(servers)) await server.close();
});

async function withPage(kind, where, use, options = {}, inside = browser) {
    const context = await inside.newContext(options);
    try {
        context.setDefaultTimeout(PATIENCE);
        const page = await context.newPage();
        const problems = [];
        page.on('pageerror', (error) => problems.push(String(error)));
        await page.goto(servers[kind].url + where);
        await use(page, context);
        assert.deepEqual(problems, []);
    } finally {
        await context.close();
    }
}

function onLibrary(kind, use, options) {
    return withPage(kind, 'tests/page.html', async (page, context) => {
        await page.waitForSelector('html[data-ready]');
        await use(page, context);
    }, options);
}

for (const name of ['scalar', 'simd128', 'relaxed']) {
    test(`kernels of the ${name} module`, () => onLibrary('plain', async (page) => {
        const { code, output } = await page.evaluate(async (url) => {
            const module = await WebAssembly.compileStreaming(fetch(url));
            return window.runWasi(module, ['test-kernels', '--every', '13']);
        }, `/kernels/test-kernels-${name}.wasm`);
        assert.equal(code, 0, output);
        assert.match(output, /[1-9]\d{4,} passed, 0 failed\n$/);
    }));

    test(`the int8 tower of the ${name} module gives the native bits`, () => onLibrary('plain', async (page) => {
        const { code, output } = await page.evaluate(async ([url, model]) => {
            const module = await WebAssembly.compileStreaming(fetch(url));
            return window.runWasi(module, ['tower'], new Uint8Array(await (await fetch(model)).arrayBuffer()));
        }, [`/kernels/tower-${name}.wasm`, TINY]);
        assert.equal(code, 0, output);
        assert.equal(output, `scalar ${nativeTower()}\n${name} ${nativeTower()}\n`);
    }));
}

for (const [kind, modules] of [['plain', ['scalar', 'simd128', 'relaxed']], ['isolated', ['simd128-threads', 'relaxed-threads']]]) {
    for (const module of modules) {
        test(`the answers of the native engine, ${module}`, () => onLibrary(kind, async (page) => {
            const want = nativeDump(MODEL, PICTURE_FILE, PROMPT, '--new-tokens', '12');
            const fast = golden();
            const got = await page.evaluate(async ([name, prompt, ids, steps]) => {
                const raw = await window.readPpm('/golden/image_100x150.ppm');
                const threads = name.endsWith('threads') ? 2 : 1;
                const model = await window.FastVLM.load('/models/tinyvlm-25m.gguf', { module: name, threads, precision: 'f32' });
                const answer = await model.generate(raw, prompt, { maxTokens: 12, ignoreEos: true });
                const memory = await model.memory();
                const image = await model.encodeImage(raw);
                const { tokens } = await image.tokens();
                await model.dispose();
                const other = await window.FastVLM.load('/made/golden.gguf', { module: name, threads, context: 256, kv: 'f32', precision: 'f32' });
                const { logits, ids: chosen } = await window.greedy(other, raw, ids, steps);
                await other.dispose();
                return { ids: [...answer.ids], tokens: [...tokens], logits: [...logits], chosen, memory };
            }, [module, PROMPT, asNumbers(fast.input_ids.data), fast.generated_ids.data.length]);
            assert.deepEqual(got.ids, asNumbers(want.generated_ids.data));
            // relaxed SIMD has the native engine's fused multiply-add
            if (module.startsWith('relaxed')) assert.deepEqual(got.tokens, [...want.bridge_out.data]);
            else assert.ok(relativeError(got.tokens, want.bridge_out.data) < 2e-6);
            assert.ok(got.memory.module < 100e6, `${got.memory.module} bytes`);
            const error = relativeError(got.logits, fast.logits.data);
            assert.ok(error < 2e-5, `logits differ by ${error}`);
            assert.deepEqual(got.chosen, asNumbers(fast.generated_ids.data));
        }));
    }
}

test('every kind of picture', () => onLibrary('isolated', async (page) => {
    const texts = await page.evaluate(async ([model, photo]) => {
        const vlm = await window.FastVLM.load(model);
        const blob = await (await fetch(photo)).blob();
        const image = Object.assign(new Image(), { src: photo });
        await image.decode();
        const canvas = Object.assign(document.createElement('canvas'), { width: image.width, height: image.height });
        canvas.getContext('2d').drawImage(image, 0, 0);
        const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        const sources = [blob, image, canvas, data, await createImageBitmap(blob), new URL(photo, location.href), photo];
        const out = [];
        for (const source of sources) out.push(await vlm.infer(source));
        await vlm.dispose();
        return out;
    }, [TINY, PHOTO]);
    assert.equal(new Set(texts).size, 1, texts.join(' | '));
    assert.ok(texts[0].length > 10);
}));

for (const kind of ['isolated', 'plain']) {
    test(`a signal stops an encoding and an answer, ${kind}`, () => onLibrary(kind, async (page) => {
        const got = await page.evaluate(async (tiny) => {
            const { FastVLM, failure, leastOf } = window;
            const raw = await window.readPpm('/golden/image_100x150.ppm');
            const LONG = { maxTokens: 400, ignoreEos: true };
            let model = await FastVLM.load(tiny);
            /** How long the call keeps the worker busy, and how it ended. */
            const timeOf = async (call) => {
                const begin = performance.now();
                const error = await failure(call());
                await model.tokenizer.encode('x'); // waits until the worker is free
                return { ms: performance.now() - begin, error: error?.name === 'Error' ? error.message : error?.name ?? null };
            };
            /** Of a call as a whole, and of one that is stopped. */
            const stopped = async (call, stop) => {
                const whole = await timeOf(() => call({}));
                let last;
                const ms = await leastOf(whole.ms / 2, async () => {
                    const control = new AbortController();
                    last = await timeOf(() => call({ signal: control.signal, ...stop(control) }));
                    return last.ms;
                });
                return { errors: [whole.error, last.error], ms, whole: whole.ms };
            };
            const ask = (options) => model.infer(raw, 'x', { ...LONG, onToken() {}, ...options });
            const first = await model.infer(raw);
            const results = [
                await stopped(ask, (control) => ({ onToken: () => control.abort() })),
                await stopped(ask, () => ({ signal: null, onToken: () => { throw new Error('mine'); } })),
            ];
            const again = await model.infer(raw);
            await model.dispose();
            model = await FastVLM.load(tiny, { module: 'scalar', context: 64 });
            results.push(await stopped((options) => model.encodeImage(raw, options), (control) => { setTimeout(() => control.abort(), 3); }));
            await model.dispose();
            return { first, again, results };
        }, TINY);
        assert.equal(got.again, got.first);
        assert.deepEqual(got.results.map(({ errors }) => errors), [[null, 'AbortError'], [null, 'mine'], [null, 'AbortError']]);
        for (const { ms, whole } of got.results) assert.ok(ms < whole / 2, `free again after ${ms} ms of ${whole}`);
    }));
}

test('a picture is encoded before the last byte of the model arrives', () => onLibrary('isolated', async (page) => {
    let release;
    servers.isolated.settings.last = new Promise((resolve) => { release = resolve; });
    await page.exposeFunction('release', release);
    try {
        const events = await page.evaluate(async () => {
            const seen = [];
            const onProgress = ({ stage, loaded, total }) => {
                const event = loaded === total ? 'last byte' : stage;
                if (seen.at(-1) !== event && !seen.includes(event)) seen.push(event);
            };
            const model = window.FastVLM.open('/made/golden.gguf', { onProgress, cache: false, context: 128, idleTimeout: 60_000, retries: 0 });
            const image = await model.encodeImage(await window.readPpm('/golden/image_100x150.ppm'));
            seen.push('encoded');
            await window.release();
            const text = await model.infer(image, 'What?', { maxTokens: 4 });
            seen.push('answered');
            await model.dispose();
            return { seen, text };
        });
        const order = ['header', 'bridge', 'encoded', 'last byte', 'answered'].map((e) => events.seen.indexOf(e));
        assert.ok(order.every((at) => at >= 0), events.seen.join(', '));
        assert.deepEqual(order, order.toSorted((a, b) => a - b), events.seen.join(', '));
    } finally {
        servers.isolated.settings.last = null;
    }
}));

test('a broken download goes on where it broke, then comes from the cache', () => onLibrary('isolated', async (page) => {
    servers.isolated.settings.truncate = 9_000_000;
    try {
        const got = await page.evaluate(async (url) => {
            const first = await window.FastVLM.load(url);
            const text = await first.infer('/photos/motorcycle.jpg');
            const before = first.progress;
            await first.dispose();
            const second = await window.FastVLM.load(url);
            const again = await second.infer('/photos/motorcycle.jpg');
            const after = second.progress;
            await second.dispose();
            return { text, again, before, after };
        }, TINY);
        assert.equal(got.before.cached, 0);
        assert.equal(got.after.cached, got.after.total);
        assert.equal(got.again, got.text);
    } finally {
        servers.isolated.settings.truncate = 0;
    }
}));

test('a download that stalls goes on by itself', () => onLibrary('isolated', async (page) => {
    Object.assign(servers.isolated.settings, { truncate: 9_000_000, stalls: true });
    try {
        const { text, retries, progress } = await page.evaluate(async (url) => {
            const retries = [];
            const onProgress = ({ retry }) => { if (retry && retries.at(-1) !== retry.reason) retries.push(retry.reason); };
            const model = await window.FastVLM.load(url, { idleTimeout: 1000, cache: false, onProgress });
            const text = await model.infer('/photos/motorcycle.jpg');
            await model.dispose();
            return { text, retries, progress: model.progress };
        }, TINY);
        assert.deepEqual(retries, ['no byte for 1 s']);
        assert.deepEqual([progress.loaded, progress.retry, progress.restarts], [progress.total, null, 0]);
        assert.ok(text.length > 10);
    } finally {
        Object.assign(servers.isolated.settings, { truncate: 0, stalls: false });
    }
}));

for (const kind of ['isolated', 'plain']) {
    test(`package and model of another origin, ${kind}`, () => onLibrary(kind, async (page) => {
        servers.other.settings.truncate = 9_000_000; // it goes on with a range, whose headers are hidden
        const got = await page.evaluate(async (origin) => {
            const { default: init, FastVLM } = await import(`${origin}tinyvlm/src/index.js`);
            await init();
            const progress = [];
            for (let i = 0; i < 2; i++) {
                const model = await FastVLM.load(`${origin}models/tinyvlm-25m.gguf`, { threads: 2 });
                const text = await model.infer(await window.readPpm('/golden/image_100x150.ppm'));
                progress.push({ ...model.progress, text, module: (await model.info()).module });
                await model.dispose();
            }
            return progress;
        }, servers.other.url);
        assert.deepEqual(got.map(({ cached, total }) => cached / total), [0, 1]);
        assert.ok(got[0].text.length > 10);
        assert.equal(got[0].module.endsWith('-threads'), kind === 'isolated');
    }));
}

test('a module that could not be had once is asked for again', () => onLibrary('plain', async (page) => {
    await page.route('**/tinyvlm-relaxed.wasm', (route) => route.fulfill({ status: 404 }), { times: 1 });
    const names = await page.evaluate(async () => {
        const names = [];
        for (let i = 0; i < 2; i++) names.push((await window.init(i ? {} : { wasmUrl: '/tinyvlm/dist' })).module);
        return names;
    });
    assert.deepEqual(names, ['simd128', 'relaxed']);
}));

test('what is transparent is seen on white', () => onLibrary('plain', async (page) => {
    const least = await page.evaluate(async (url) => {
        const canvas = new OffscreenCanvas(64, 64);
        canvas.getContext('2d').clearRect(0, 0, 64, 64);
        const model = await window.FastVLM.load(url);
        const { data } = await model.processor.preprocess(await canvas.convertToBlob());
        await model.dispose();
        return data.reduce((least, value) => Math.min(least, value));
    }, TINY);
    assert.ok(least > 0.9, `${least}`);
}));

test('damaged bytes do not stay in the cache', () => onLibrary('isolated', async (page) => {
    const file = path.join(WORK, 'damaged.gguf');
    const when = new Date('2026-01-01');
    const bytes = readFileSync(MODEL);
    bytes[8_388_000] ^= 1;
    writeFileSync(file, bytes);
    utimesSync(file, when, when);
    const first = await page.evaluate(() => window.failure(window.FastVLM.load('/made/damaged.gguf')));
    assert.equal(first.code, 'checksum');
    copyFileSync(MODEL, file);
    utimesSync(file, when, when); // for the server it is the same file
    const progress = await page.evaluate(async () => {
        const model = await window.FastVLM.load('/made/damaged.gguf');
        await model.dispose();
        return model.progress;
    });
    assert.equal(progress.cached, 0);
    assert.equal(progress.kept, progress.total);
}));

test('a content security policy that forbids blobs', async () => {
    servers.plain.settings.headers = { 'Content-Security-Policy': "default-src 'self'; script-src 'self' 'wasm-unsafe-eval' 'unsafe-inline'" };
    try {
        await onLibrary('plain', async (page) => {
            const [plain, streamed, stopped] = await page.evaluate(async (url) => {
                const model = await window.FastVLM.load(url);
                const raw = await window.readPpm('/golden/image_100x150.ppm');
                const plain = await model.infer(raw);
                let streamed = '';
                for await (const text of model.stream(raw)) streamed += text;
                const control = new AbortController();
                const onToken = () => control.abort(); // the answer is not over before its first token is heard
                const stopped = await window.failure(model.infer(raw, 'x', { onToken, signal: control.signal }));
                await model.dispose();
                return [plain, streamed, stopped];
            }, TINY);
            assert.equal(streamed, plain);
            assert.equal(stopped.name, 'AbortError');
        });
    } finally {
        servers.plain.settings.headers = {};
    }
});

test('what is wrong is said', () => onLibrary('isolated', async (page) => {
    const got = await page.evaluate(async (url) => {
        const { FastVLM, failure } = window;
        const out = {};
        out.photo = await failure(FastVLM.load('/photos/astronaut.jpg'));
        out.absent = await failure(FastVLM.load('/models/none.gguf'));
        const bytes = new Uint8Array(await (await fetch(url)).arrayBuffer());
        out.truncated = await failure(FastVLM.load(bytes.slice(0, 20_000_000)));
        bytes[bytes.length - 1000] ^= 1;
        out.damaged = await failure(FastVLM.load(bytes));
        out.memory = await failure(FastVLM.load(url, { memory: 33 << 20 }));
        const model = await FastVLM.load(url);
        out.picture = await failure(model.infer(new Blob(['no picture'])));
        out.text = await model.infer('/photos/motorcycle.jpg'); // it still works
        await model.dispose();
        return out;
    }, TINY);
    assert.match(got.photo.message, /not a GGUF file/);
    assert.match(got.absent.message, /none\.gguf: HTTP 404/);
    assert.match(got.truncated.message, /truncated/);
    assert.equal(got.damaged.code, 'checksum');
    assert.equal(got.memory.code, 'memory');
    assert.match(got.memory.message, /out of memory/);
    assert.deepEqual([got.picture.code, got.picture.message], ['format', 'a text file, not an image']);
    assert.ok(got.text.length > 10);
}));

test('window.processImage', () => onLibrary('plain', async (page) => {
    const base64 = readFileSync(path.join(ROOT, 'examples', 'photos', 'motorcycle.jpg')).toString('base64');
    const { texts, called, failures, returned } = await page.evaluate(async ([model, image]) => {
        const ask = (text, prompt = 'Is there a motorcycle?') => window.processImage(text, prompt);
        const failures = { early: await window.failure(ask(image)) };
        await window.init({ modelUrl: model });
        const texts = [];
        for (const text of [image, `data:image/jpeg;base64,${image}`, image.replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, ''),
            encodeURIComponent(image), encodeURIComponent(`data:image/jpeg;base64,${image}`), image.replace(/.{76}/g, '$&\n')]) texts.push(await ask(text));
        const called = [];
        let returned;
        await new Promise((resolve) => { returned = String(window.processImage(image, 'Is there a motorcycle?', (json) => resolve(called.push(JSON.parse(json))))); });
        window.Host = { seen: [], onResult(json) { this.seen.push(JSON.parse(json)); this.done(); } }; // as `this`
        for (const text of [image, 'no base64!']) {
            await new Promise((resolve) => {
                window.Host.done = resolve;
                window.processImage(text, '', 'Host.onResult');
            });
        }
        called.push(...window.Host.seen, { text: await ask(image, 'Describe') });
        for (const [name, text] of [['base64', '%%'], ['text', btoa('a letter')], ['cut', 'abcde'], ['empty', ''], ['nothing', undefined]])
            failures[name] = await window.failure(ask(text));
        failures.callback = await window.failure((async () => window.processImage(image, '', 'Host.onNothing'))());
        return { texts, called, failures, returned };
    }, [TINY, base64]);
    assert.ok(texts[0].trim().length > 0);
    assert.deepEqual(texts, texts.map(() => texts[0]));
    assert.equal(returned, 'undefined');
    assert.deepEqual(called[0], { text: texts[0] });
    assert.match(called[1].text, /motorcycle/);
    assert.equal(called[2].error.code, 'format');
    assert.deepEqual(called[3], called[1]); // "Describe" describes
    for (const [name, code, pattern] of [['early', 'argument', /modelUrl/], ['base64', 'format', /base64/], ['cut', 'format', /base64/], ['text', 'format', /a text file/],
        ['empty', 'format', /empty/], ['nothing', 'argument', /string/], ['callback', 'argument', /Host\.onNothing/]]) {
        assert.deepEqual([failures[name]?.name, failures[name]?.code], ['TinyVLMError', code], name);
        assert.match(failures[name].message, pattern);
    }
}));

/** The code blocks of js/README.md below a heading. */
function recipe(heading) {
    const [, part] = readFileSync(path.join(ROOT, 'js', 'README.md'), 'utf8').split(`\n## ${heading}\n`);
    return Object.fromEntries(Array.from(part.split('\n## ')[0].matchAll(/```(\w+)\n(.*?)```/gs), ([, language, code]) => [language, code]));
}

test('the WebView recipe, as it is written', async () => {
    const { html, kotlin } = recipe('WebViews');
    const [, page] = /loadUrl\("(.*?)"\)/.exec(kotlin);
    const [, script] = /evaluateJavascript\("(.*?)", null\)/.exec(kotlin);
    const folders = { '/assets/tinyvlm/': path.join(ROOT, 'js'), '/assets/': path.join(ROOT, 'models') };
    const context = await browser.newContext({ serviceWorkers: 'block' });
    await context.route('**/*', async (route) => { // as WebViewAssetLoader: whole files, no ranges, no headers of isolation
        const { pathname, origin } = new URL(route.request().url());
        if (origin !== 'https://appassets.androidplatform.net') return route.abort();
        if (pathname === new URL(page).pathname) return route.fulfill({ body: html, contentType: 'text/html' });
        const [prefix, folder] = Object.entries(folders).find(([start]) => pathname.startsWith(start));
        const types = { '.js': 'text/javascript', '.wasm': 'application/wasm' };
        const body = readFileSync(path.join(folder, pathname.slice(prefix.length)));
        return route.fulfill({ body, contentType: types[path.extname(pathname)] ?? 'text/plain' });
    });
    const results = [];
    let told;
    await context.exposeFunction('tellTest', (json) => told(JSON.parse(json)));
    await context.addInitScript(() => { window.AndroidCamera = Object.freeze({ onResult: (json) => { window.tellTest(json); } }); });
    const view = await context.newPage();
    const problems = [];
    view.on('pageerror', (error) => problems.push(String(error)));
    await view.goto(page);
    const devtools = await context.newCDPSession(view);
    for (const photo of ['motorcycle.jpg', null]) {
        const base64 = photo ? readFileSync(path.join(ROOT, 'examples', 'photos', photo)).toString('base64') : 'AAAA';
        const answer = new Promise((resolve) => { told = resolve; });
        const expression = script.replace('$base64', base64).replaceAll('\\', '');
        const { exceptionDetails } = await devtools.send('Runtime.evaluate', { expression, awaitPromise: false, returnByValue: true });
        assert.equal(exceptionDetails, undefined);
        results.push(await answer);
    }
    assert.match(results[0].text, /motorcycle/);
    assert.equal(results[1].error.code, 'format');
    assert.deepEqual(problems, []);
    await context.close();
});

// ---- the demo page ----

const PHONE = { viewport: { width: 390, height: 844 }, permissions: ['camera'] };

async function demoReady(page) {
    await page.waitForSelector('html[data-state="ready"]');
}

async function describePhoto(page, name) {
    await page.click(`[data-photo*="${name}"]`);
    await page.waitForFunction(() => document.documentElement.dataset.state === 'ready'
        && document.querySelector('#answer').textContent.trim().length > 10);
    return (await page.textContent('#answer')).trim();
}

for (const kind of ['isolated', 'plain']) {
    test(`the demo describes a photo, answers and works offline, ${kind}`, () => withPage(kind, '', async (page, context) => {
        await demoReady(page);
        const first = await describePhoto(page, 'dandelion');
        await page.fill('#question', 'Is there a flower?');
        await page.click('#ask');
        await page.waitForFunction((old) => document.documentElement.dataset.state === 'ready'
            && document.querySelector('#answer').textContent.trim() !== old, first);
        assert.match((await page.textContent('#answer')).trim(), /^(yes|no)\b/i);
        await page.screenshot({ path: path.join(SHOTS, `demo-${kind}.png`) });
        await page.waitForSelector('html[data-offline="true"]');
        await context.setOffline(true);
        await page.reload();
        await demoReady(page);
        assert.equal(await describePhoto(page, 'dandelion'), first);
        await page.screenshot({ path: path.join(SHOTS, `offline-${kind}.png`) });
    }, PHONE));
}

const isCaptioned = () => document.querySelector('#answer').textContent.trim().length > 5;

test('the demo describes the camera and skips what does not change', () => withPage('isolated', '', async (page) => {
    await demoReady(page);
    await page.click('#camera-start'); // Chromium's own moves a little only
    await page.waitForFunction(isCaptioned);
    await page.waitForFunction(() => document.querySelector('#status').textContent === 'Live, still');
    await page.screenshot({ path: path.join(SHOTS, 'camera.png') });
    await page.click('#camera-stop');
    await demoReady(page);
}, PHONE));

/** The browser's option for a camera that sees these frames (of 320 x 240, planes Y, U, V), a second each. */
function cameraOf(name, frames) {
    const file = path.join(WORK, `${name}.y4m`);
    const parts = frames.flatMap((planes) => [Buffer.from('FRAME\n'), ...planes]);
    writeFileSync(file, Buffer.concat([Buffer.from('YUV4MPEG2 W320 H240 F1:1 Ip A1:1 C420jpeg\n'), ...parts]));
    return `--use-file-for-fake-video-capture=${file}`;
}

const greyFrame = (level) => [Buffer.alloc(320 * 240, level), Buffer.alloc(320 * 240 / 2, 128)];

async function photoFrame(file) {
    const plane = async (width, height, red, green, blue, base) => {
        const rgb = await sharp(file).resize(width, height, { fit: 'cover' }).removeAlpha().raw().toBuffer();
        return Buffer.from({ length: width * height }, (_, i) => base + red * rgb[3 * i] + green * rgb[3 * i + 1] + blue * rgb[3 * i + 2]);
    };
    return [await plane(320, 240, 0.299, 0.587, 0.114, 0), await plane(160, 120, -0.169, -0.331, 0.5, 128), await plane(160, 120, 0.5, -0.419, -0.081, 128)];
}

test('the demo describes what changes again and again', async () => {
    const other = await launch(cameraOf('flashing', [greyFrame(16), greyFrame(235)]));
    try {
        await withPage('isolated', '', async (page) => {
            await demoReady(page);
            await page.evaluate(() => {
                const answer = document.querySelector('#answer');
                let length = 0;
                window.captions = 0;
                new MutationObserver(() => {
                    if (answer.textContent.length < length) window.captions++;
                    length = answer.textContent.length;
                }).observe(answer, { childList: true, characterData: true, subtree: true });
            });
            await page.click('#camera-start');
            await page.waitForFunction(() => window.captions >= 3);
        }, PHONE, other);
    } finally {
        await other.close();
    }
});

test('a page that was visited before gets a new version at once', () => withPage('isolated', '', async (page) => {
    await page.waitForSelector('html[data-offline="true"]');
    const src = path.join(WORK, 'src');
    cpSync(path.join(ROOT, 'js', 'src'), src, { recursive: true });
    appendFileSync(path.join(src, 'names.js'), '\nif (globalThis.document) document.title = "new version";\n');
    const roots = servers.isolated.settings.roots;
    servers.isolated.settings.roots = [['/tinyvlm/src/', src], ...roots];
    try {
        await page.reload();
        await demoReady(page);
        assert.equal(await page.title(), 'new version');
    } finally {
        servers.isolated.settings.roots = roots;
    }
}, PHONE));

test('the demo fits every screen', () => withPage('isolated', '', async (page) => {
    await demoReady(page);
    await describePhoto(page, 'meadow');
    await page.fill('#question', 'W'.repeat(300));
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.documentElement.dataset.state === 'ready');
    for (const scale of [100, 200]) {
        await page.evaluate((percent) => { document.documentElement.style.fontSize = `${percent}%`; }, scale);
        for (const [width, height] of [[320, 568], [390, 844], [820, 1180], [844, 390], [900, 700], [1440, 900]]) {
            await page.setViewportSize({ width, height });
            const outside = await page.evaluate(() => [...document.querySelectorAll('button, input, p, h1, dl, canvas')]
                .filter((element) => element.getClientRects().length && !element.matches('.skip, .unseen')
                    && element.getBoundingClientRect().right > innerWidth)
                .map((element) => element.id || element.textContent));
            assert.deepEqual(outside, [], `${width} x ${height} at ${scale}%`);
            await page.screenshot({ path: path.join(SHOTS, `size-${width}-${scale}.png`), fullPage: true });
        }
    }
}));

test('the demo by keyboard and for screen readers', () => withPage('isolated', '', async (page) => {
    const focused = () => page.evaluate(() => document.activeElement.id);
    const spoken = () => page.textContent('#spoken');
    await demoReady(page);
    assert.equal(await spoken(), 'The model is ready.');
    await page.focus('[data-question=""]');
    await page.keyboard.press('Enter'); // without a picture
    assert.match(await page.textContent('[role=alert]'), /Choose a picture/);
    const box = await page.locator('#alert-box').boundingBox();
    assert.ok(box.y >= 0 && box.y + box.height <= page.viewportSize().height, 'the message is out of sight');
    const text = await describePhoto(page, 'dandelion');
    assert.equal((await spoken()).trim(), text);
    await page.focus('#camera-start');
    await page.keyboard.press('Enter');
    await page.waitForSelector('#camera-stop:not([hidden])');
    assert.equal(await focused(), 'camera-stop');
    await page.keyboard.press('Escape');
    await page.waitForSelector('#camera-start:not([hidden])');
    assert.equal(await focused(), 'camera-start');
}, { ...PHONE, viewport: { width: 320, height: 568 } }));

test('the demo opens from its copy when the network hangs', () => withPage('isolated', '', async (page) => {
    await page.waitForSelector('html[data-offline="true"]');
    servers.isolated.settings.hangs = true;
    try {
        await page.reload();
        await demoReady(page);
    } finally {
        servers.isolated.settings.hangs = false;
    }
}, PHONE));

test('the last choice of a picture is the one on show', () => withPage('isolated', '', async (page) => {
    await demoReady(page);
    await page.route('**/meadow.jpg', async (route) => {
        await new Promise((resolve) => { setTimeout(resolve, 500); });
        await route.continue();
    });
    await page.click('[data-photo*="meadow"]');
    assert.match(await describePhoto(page, 'dandelion'), /dandelion/);
    await page.waitForTimeout(700);
    assert.match(await page.getAttribute('#preview', 'aria-label'), /Dandelion/);
}, { ...PHONE, serviceWorkers: 'block' }));

/** What of the answer cannot be seen without scrolling; null: nothing. */
const hiddenAnswer = () => {
    const answer = document.querySelector('#answer');
    const { top, bottom, left, right } = answer.getBoundingClientRect();
    const isSeen = scrollY === 0 && top >= 0 && left >= 0 && right <= innerWidth && bottom <= innerHeight
        && answer.contains(document.elementFromPoint((left + right) / 2, bottom - 4)) && answer.textContent.trim();
    return isSeen ? null : JSON.stringify({ top, bottom, left, right, scrollY, text: answer.textContent });
};

test('the caption is in view on every screen, of a photo and live', async () => {
    const other = await launch(cameraOf('photo', [await photoFrame(path.join(ROOT, 'examples', 'photos', 'motorcycle.jpg'))]));
    try {
        await withPage('isolated', '', captionsAreSeen, { ...PHONE, viewport: { width: 390, height: 664 } }, other);
    } finally {
        await other.close();
    }
});

async function captionsAreSeen(page) {
    await demoReady(page);
    const sizes = [[390, 664], [664, 390], [320, 568], [768, 1024], [1440, 900]];
    const check = async (name) => {
        for (const [width, height] of sizes) {
            await page.setViewportSize({ width, height });
            await page.waitForFunction(`!(${hiddenAnswer})()`) // live captions come and go
                .catch(async () => assert.fail(`${name}, ${width} x ${height}: ${await page.evaluate(hiddenAnswer)}`));
            await page.screenshot({ path: path.join(SHOTS, `caption-${name}-${width}x${height}.png`) });
        }
    };
    await describePhoto(page, 'dandelion');
    await check('photo');
    await page.evaluate(() => {
        document.querySelector('#answer').textContent = 'A group of people standing on a snowy mountain slope with skis and poles in front '
            + 'of a wooden hut, and a brown dog that looks at them from the side.';
    });
    await check('long');
    await page.click('#camera-start');
    await page.waitForFunction(() => document.querySelector('#asked').textContent === 'Live caption');
    await page.waitForFunction(isCaptioned);
    await check('live');
}

test('the demo says that the connection is lost, and goes on by itself', async () => {
    Object.assign(servers.isolated.settings, { truncate: 9_000_000, resumes: false });
    try {
        await withPage('isolated', '?sw=off', losesAndRegains, PHONE);
    } finally {
        Object.assign(servers.isolated.settings, { truncate: 0, resumes: true });
    }
});

async function losesAndRegains(page) {
    const words = () => page.textContent('#progress-label');
    await page.waitForFunction(() => document.querySelector('#progress-label').textContent === 'Connection lost, retrying');
    assert.equal(await page.textContent('#status'), 'Connection lost');
    assert.equal(await page.textContent('#spoken'), await words());
    await page.screenshot({ path: path.join(SHOTS, 'connection-lost.png') });
    servers.isolated.settings.resumes = true;
    await page.evaluate(() => window.dispatchEvent(new Event('online')));
    await demoReady(page);
    assert.equal(await page.textContent('[role=alert]'), '');
    assert.match(await describePhoto(page, 'dandelion'), /dandelion/);
}

test('a file that is refused leaves nothing of the last one', () => withPage('isolated', '', async (page) => {
    await demoReady(page);
    for (const [name, bytes, said] of [
        ['a.heic', Buffer.from('\0\0\0\x18ftypheic\0\0\0\0mif1heic', 'latin1'), 'a.heic: a HEIC image: this browser cannot show it; convert it to JPEG.'],
        ['b.jpg', Buffer.from('%PDF-1.4'), 'b.jpg: a PDF document, not an image.'],
        ['c.png', Buffer.alloc(0), 'c.png: the file is empty.'],
        ['d.mp4', Buffer.from('\0\0\0\x18ftypisom\0\0\0\0isomavc1', 'latin1'), 'd.mp4: a video, not an image.'],
        ['e.txt', Buffer.from('a letter'), 'e.txt: a text file, not an image.'],
        ['f.jpg', Buffer.from([0xff, 0xd8, 0xff, 0xe0, 0, 4, 0, 0]), 'f.jpg: a JPEG image that is damaged: this browser cannot show it.'],
    ]) {
        await describePhoto(page, 'dandelion');
        await page.setInputFiles('#file', { name, mimeType: 'image/jpeg', buffer: bytes });
        await page.waitForFunction(() => document.querySelector('#alert').textContent);
        assert.equal(await page.textContent('#alert'), said);
        assert.equal(await page.textContent('#answer'), '');
        assert.ok(await page.isHidden('#preview'));
        await page.screenshot({ path: path.join(SHOTS, 'refused.png') });
        await page.click('[data-question=""]');
        assert.match(await page.textContent('#alert'), /Choose a picture first/);
    }
    // what it is called is no reason to refuse a picture
    await page.setInputFiles('#file', { name: 'photo.txt', mimeType: 'text/plain', buffer: readFileSync(path.join(ROOT, 'examples', 'photos', 'motorcycle.jpg')) });
    await page.waitForFunction(isCaptioned);
}, PHONE));

test('the demo says what is wrong with a file', () => withPage('isolated', '', async (page) => {
    await demoReady(page);
    await page.setInputFiles('#file', { name: 'x.png', mimeType: 'image/png', buffer: Buffer.from('not an image') });
    await page.waitForFunction(() => document.querySelector('#alert').textContent.trim().length > 0);
    await page.screenshot({ path: path.join(SHOTS, 'wrong-file.png') });
    await page.goto(`${servers.isolated.url}?model=/models/none.gguf`);
    await page.waitForSelector('html[data-state="error"]');
    assert.match(await page.textContent('#alert'), /model/i);
}, PHONE));
