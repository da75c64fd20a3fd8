// SPDX-License-Identifier: MIT
// The bridge of the WebView sample in headless Chromium: an interception stands for the loader of assets, an object for the app.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, renameSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import test, { after, before } from 'node:test';

import { chromium } from 'playwright-core';

import { MODEL, ROOT, WORK, native } from './common.mjs';

const SAMPLE = path.join(ROOT, 'bindings', 'android', 'sample', 'src', 'main');
const ASSETS = [
    ['vlm/tinyvlm/', `${path.join(ROOT, 'js')}/`],
    ['vlm/model.gguf', MODEL],
    ['', `${path.join(SAMPLE, 'assets')}/`],
];
const TYPES = { html: 'text/html', js: 'text/javascript', wasm: 'application/wasm' };
const PHOTOS = ['dandelion', 'motorcycle'].map((name) => path.join(ROOT, 'examples', 'photos', `${name}.jpg`));
const QUESTION = 'Is there a dog in the picture?';

// as the app has them
const kotlin = readFileSync(path.join(SAMPLE, 'kotlin', 'dev', 'tinyvlm', 'sample', 'VlmWebView.kt'), 'utf8');
const [, ORIGIN] = /ORIGIN = "(https:[^"]+)"/.exec(kotlin);
const HEADERS = Object.fromEntries([...kotlin.matchAll(/"(Cross-Origin-[^"]+)" to "([^"]+)"/g)].map(([, name, value]) => [name, value]));

let browser;

before(async () => {
    assert.equal(Object.keys(HEADERS).length, 2);
    browser = await chromium.launch({
        executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
        args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
    });
});

after(() => browser?.close());

function loadAsset(route, missing, assets) {
    const url = route.request().url();
    const name = url.replace(ORIGIN, '').split('?')[0];
    const [prefix, root] = assets.find(([start]) => name.startsWith(start));
    const file = root + name.slice(prefix.length);
    if (!url.startsWith(ORIGIN) || name === missing || !existsSync(file)) return route.fulfill({ status: 404, contentType: 'text/plain', headers: HEADERS });
    const contentType = TYPES[name.split('.').at(-1)] ?? 'application/octet-stream';
    return route.fulfill({ contentType, headers: HEADERS, body: readFileSync(file) });
}

/** use(page) in the sample's page, whose app records what it is told; without the asset that is missing. */
async function inApp(use, missing, assets = ASSETS) {
    const context = await browser.newContext({ serviceWorkers: 'block' });
    try {
        const page = await context.newPage();
        const problems = [];
        page.on('pageerror', (error) => problems.push(String(error)));
        await context.route('**/*', (route) => loadAsset(route, missing, assets));
        await page.addInitScript(() => {
            const told = [];
            window.AndroidCamera = { told, answer: (id, text) => told.push({ id, text }), error: (id, error) => told.push({ id, error }) };
        });
        await page.goto(`${ORIGIN}vlm/index.html`);
        await page.waitForFunction('window.processImage');
        await use(page);
        assert.deepEqual(problems, []);
    } finally {
        await context.close();
    }
}

const base64 = (file) => readFileSync(file).toString('base64');

/** What the app is told until `count` things were said, of frames that come one right after the other. */
async function toldOf(page, frames, count = frames.length) {
    await page.evaluate((all) => {
        window.AndroidCamera.told.length = 0;
        for (const frame of all) window.processImage(...frame);
    }, frames);
    await page.waitForFunction((n) => window.AndroidCamera.told.length >= n, count, { timeout: 60_000 });
    return page.evaluate('AndroidCamera.told');
}

test('the answers are those of the command line', () => inApp(async (page) => {
    for (const photo of PHOTOS) {
        for (const [prompt, ...args] of [['Describe', 'describe', photo], [QUESTION, 'ask', photo, QUESTION]]) {
            const text = native(...args, '--model', MODEL).trim();
            assert.deepEqual(await toldOf(page, [[base64(photo), prompt, 7]]), [{ id: 7, text }]);
        }
    }
}));

test('what is no photo is an error, and the next photo is answered', () => inApp(async (page) => {
    const photo = base64(PHOTOS[0]);
    const errorOf = async (text) => {
        const [{ id, error }] = await toldOf(page, [[text, 'Describe', 1]]);
        assert.equal(id, 1);
        return error;
    };
    assert.match(await errorOf('%%%'), /not in base64/);
    assert.match(await errorOf(''), /empty/);
    assert.match(await errorOf(Buffer.from('a letter').toString('base64')), /a text file, not an image/);
    assert.match(await errorOf(photo.slice(0, 400)), /JPEG image that is damaged/);
    assert.match((await toldOf(page, [[photo, 'Describe', 2]]))[0].text, /dandelion/);
}));

test('of frames that come while the model is busy the newest is answered', () => inApp(async (page) => {
    const frames = [1, 2, 3, 4].map((id) => [base64(PHOTOS[id % 2]), 'Describe', id]);
    const told = await toldOf(page, frames, 2);
    assert.deepEqual(told.map(({ id }) => id), [1, 4]);
    assert.deepEqual(told.map(({ text }) => text), [PHOTOS[1], PHOTOS[0]].map((photo) => native('describe', photo, '--model', MODEL).trim()));
}));

/** The script that the app runs for a frame. */
function scriptOf(photo, prompt, id) {
    const [script] = /"window\.processImage \?[^;]*?"(?=,\n)/s.exec(kotlin);
    return script.replace(/"\s*\+\s*"/g, '').slice(1, -1).replaceAll('$id', id).replace('$base64', photo)
        .replace('${JSONObject.quote(prompt)}', () => JSON.stringify(prompt));
}

test('a prompt is text, whatever it says', () => inApp(async (page) => {
    const photo = base64(PHOTOS[0]);
    for (const [id, prompt] of ['Describe', `'); AndroidCamera.answer(9, "")//`, '</script>`${1}\\"\n\u2028\ud83d'].entries()) {
        await page.evaluate(scriptOf(photo, prompt, id));
        await page.waitForFunction('AndroidCamera.told.length');
        assert.deepEqual((await page.evaluate('AndroidCamera.told.splice(0)')).map((said) => [said.id, typeof said.text]), [[id, 'string']]);
    }
}));

test('before the page is there, the app hears that it is not', async () => {
    const page = await browser.newPage();
    await page.evaluate('window.AndroidCamera = { error: (id, message) => { window.told = [id, message]; } }');
    await page.evaluate(scriptOf('', 'Describe', 5));
    assert.deepEqual(await page.evaluate('told'), [5, 'the page is not loaded yet']);
    await page.close();
});

test('an app that fails as it is told hears of the next frame', () => inApp(async (page) => {
    const frame = [base64(PHOTOS[0]), 'Describe'];
    await page.evaluate(() => {
        for (const [name, told] of Object.entries({ ...window.AndroidCamera }).filter(([name]) => name !== 'told')) {
            window.AndroidCamera[name] = () => { // once
                window.AndroidCamera[name] = told;
                throw new Error('of the app');
            };
        }
    });
    await page.evaluate((first) => window.processImage(...first, 1), frame);
    assert.deepEqual((await toldOf(page, [[...frame, 2]])).map(({ id }) => id), [2]);
}));

test('the assets that docs/MOBILE.md tells to copy are all it needs', () => {
    const [, part] = readFileSync(path.join(ROOT, 'docs', 'MOBILE.md'), 'utf8').split('\n## Android: a WebView\n');
    const [, commands] = /```sh\n(.*?)```/s.exec(part);
    symlinkSync(ROOT, path.join(WORK, 'tinyvlm'));
    const [{ filename }] = JSON.parse(execFileSync('npm', ['pack', path.join(ROOT, 'js'), '--json', '--loglevel', 'error'], { cwd: WORK }));
    renameSync(path.join(WORK, filename), path.join(WORK, filename.replace('.tgz', '-npm.tgz'))); // as a release has it
    execFileSync('bash', ['-euc', commands], { cwd: WORK });
    return inApp(async (page) => {
        assert.match((await toldOf(page, [[base64(PHOTOS[0]), 'Describe', 1]]))[0].text, /dandelion/);
    }, undefined, [['', `${path.join(WORK, 'app', 'src', 'main', 'assets')}/`]]);
});

for (const missing of ['vlm/model.gguf', 'vlm/tinyvlm/src/worker.js']) {
    test(`without ${missing} the app hears of it`, () => inApp(async (page) => {
        await page.waitForFunction('AndroidCamera.told.length');
        const [loading] = await page.evaluate('AndroidCamera.told');
        assert.equal(loading.id, -1);
        assert.match(loading.error, missing.endsWith('.gguf') ? /model\.gguf/ : /worker/);
        assert.deepEqual(await toldOf(page, [[base64(PHOTOS[0]), 'Describe', 3]]), [{ id: 3, error: loading.error }]);
    }, missing));
}
