// SPDX-License-Identifier: MIT
// The package as a project gets it: packed, installed, run by node, checked by TypeScript and bundled
// by vite without configuration.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { before } from 'node:test';

import { chromium } from 'playwright-core';
import { build } from 'vite';

import { serve } from '../../examples/web/serve.mjs';
import { MODEL, ROOT } from './common.mjs';

const HERE = path.join(ROOT, 'tests', 'js');
const PROJECT = path.join(ROOT, 'build', 'wasm', 'project');
const INSTALLED = path.join(PROJECT, 'node_modules', 'tinyvlm');

function run(command, ...args) {
    try {
        return execFileSync(command, args, { cwd: PROJECT, encoding: 'utf8', timeout: 180_000, stdio: 'pipe' });
    } catch (error) {
        throw new Error(`${error.message}\n${error.stdout}\n${error.stderr}`, { cause: error });
    }
}

before(() => {
    rmSync(PROJECT, { recursive: true, force: true });
    cpSync(path.join(HERE, 'project'), PROJECT, { recursive: true });
    mkdirSync(INSTALLED, { recursive: true });
    const [{ filename }] = JSON.parse(run('npm', 'pack', path.join(ROOT, 'js'), '--json', '--loglevel', 'error'));
    run('tar', 'xzf', filename, '-C', INSTALLED, '--strip-components=1');
});

test('the package has its licence', () => {
    const [packed, ours] = [INSTALLED, ROOT].map((folder) => readFileSync(path.join(folder, 'LICENSE'), 'utf8'));
    assert.equal(packed, ours);
});

test('an ES module answers, and ends though the model is not disposed of', () => {
    const { text, streamed, module } = JSON.parse(run(process.execPath, 'program.mjs', MODEL));
    assert.ok(text.length > 5);
    assert.equal(streamed, text);
    assert.match(module, /-threads$/);
});

test('a CommonJS program answers', () => {
    assert.ok(JSON.parse(run(process.execPath, 'program.cjs', MODEL)).text.length > 0);
});

test('a program on the command line answers', () => {
    const code = `import { FastVLM } from 'tinyvlm';
        const model = await FastVLM.load(${JSON.stringify(MODEL)});
        console.log((await model.tokenizer.encode('a')).length);`;
    assert.equal(run(process.execPath, '--input-type=module', '-e', code), '1\n');
});

test('picture files need sharp, and are read by it', () => {
    const photo = path.join(ROOT, 'examples', 'photos', 'motorcycle.jpg');
    assert.throws(() => run(process.execPath, 'picture.mjs', MODEL, photo), /npm i sharp/);
    symlinkSync(path.join(HERE, 'node_modules', 'sharp'), path.join(PROJECT, 'node_modules', 'sharp'));
    const texts = JSON.parse(run(process.execPath, 'picture.mjs', MODEL, photo));
    assert.match(texts[0], /motorcycle/);
    assert.deepEqual(texts, texts.map(() => texts[0]));
});

test('a picture file in every form, and what is refused', () => {
    const photo = path.join(ROOT, 'examples', 'photos', 'motorcycle.jpg');
    const { texts, failures, grown, cut } = JSON.parse(run(process.execPath, '--no-warnings', 'pictures.mjs', MODEL, photo));
    assert.ok(texts.path.length > 10);
    for (const [name, text] of Object.entries(texts)) assert.equal(text, texts.path, name);
    for (const [name, code, pattern] of [
        ['empty', 'format', /file is empty/], ['heic', 'format', /^a HEIC image: sharp cannot show it; convert it to JPEG$/],
        ['named', 'format', /holiday\.heic: a HEIC image/], ['pdf', 'format', /^a PDF document, not an image$/],
        ['text', 'format', /^a text file, not an image$/], ['video', 'format', /^a video, not an image$/],
        ['cut', 'format', /^a JPEG image that is damaged/], ['noise', 'format', /unknown kind, not an image/],
        ['base64', 'format', /base64/], ['none', 'io', /nowhere\.jpg/], ['comma', 'format', /comma/],
    ]) {
        assert.equal(failures[name]?.code, code, `${name}: ${failures[name]?.message}`);
        assert.match(failures[name].message, pattern);
    }
    assert.ok(grown < 40e6, `54 megapixels took ${grown} bytes of the module`);
    assert.ok(cut > 0);
});

const TSC = path.join(HERE, 'node_modules', 'typescript', 'bin', 'tsc');
const FOR_PAGES = ['--module', 'esnext', '--moduleResolution', 'bundler', '--lib', 'es2022,dom'];
const CHECKS = [
    ['a page', ...FOR_PAGES, 'everything.mts', 'page.ts'],
    ['node', '--module', 'nodenext', '--lib', 'es2022', 'everything.mts'],
];
for (const [what, ...options] of CHECKS) {
    test(`the types hold for ${what}`, () => {
        checkTypes(...options);
    });
}

function checkTypes(...options) {
    run(process.execPath, TSC, '--noEmit', '--strict', '--target', 'es2022', '--types', 'node',
        '--typeRoots', path.join(HERE, 'node_modules', '@types'), ...options);
}

for (const document of ['README.md', 'js/README.md']) {
    test(`the examples of ${document} hold`, () => {
        const docs = path.join(ROOT, 'tests', 'docs');
        const folder = path.join(PROJECT, 'examples', path.dirname(document));
        const files = run(path.join(docs, 'examples.sh'), path.join(ROOT, document), 'js', path.join(docs, 'example.ts'), folder).trim().split('\n');
        checkTypes(...FOR_PAGES, ...files);
        const [first] = files;
        writeFileSync(first, readFileSync(first, 'utf8').replace('model.stream(', 'model.streams('));
        assert.throws(() => checkTypes(...FOR_PAGES, ...files), /streams/);
    });
}

test('the page without a bundler finds the package', () => {
    const [, module] = /import [^\n]* from '([^']*node_modules[^']*)'/.exec(readFileSync(path.join(ROOT, 'js', 'README.md'), 'utf8'));
    assert.ok(existsSync(path.join(PROJECT, module)), module);
});

test('what is declared is what is there', async () => {
    const declared = readFileSync(path.join(INSTALLED, 'src', 'tinyvlm.d.ts'), 'utf8');
    const names = Array.from(declared.matchAll(/^export (?:(default)|class|function) (?:function )?(\w+)/gm),
        ([, isDefault, name]) => isDefault ?? name).sort();
    for (const file of ['node.js', 'index.js'])
        assert.deepEqual(Object.keys(await import(path.join(INSTALLED, 'src', file))).sort(), names);
});

test('vite bundles it and pages answer, isolated and plain', async () => {
    const outDir = path.join(PROJECT, 'dist');
    await build({ root: PROJECT, base: './', build: { outDir }, logLevel: 'warn' });
    const browser = await chromium.launch({
        executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
        args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
    });
    try {
        for (const isolation of [true, false]) {
            const server = await serve({ port: 0, isolation, roots: [['/built/', outDir]] });
            const page = await browser.newPage();
            await page.goto(`${server.url}built/`);
            await page.waitForFunction(() => window.describe);
            const { info, text } = await page.evaluate(() =>
                window.describe('/models/tinyvlm-25m.gguf', '/photos/motorcycle.jpg'));
            assert.match(text, /motorcycle/);
            assert.equal(info.module.endsWith('-threads'), isolation && info.threads > 1);
            await page.close();
            await server.close();
        }
    } finally {
        await browser.close();
    }
});
