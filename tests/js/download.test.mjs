// SPDX-License-Identifier: MIT
// Downloads against servers with bad manners. Node has no Cache API: a map stands in for it.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import test from 'node:test';
import { gzipSync } from 'node:zlib';

import { download, forget } from '../../js/src/download.js';

const stored = new Map();
globalThis.caches = {
    open: async () => ({
        match: async (key) => stored.get(key)?.clone(),
        put: async (key, response) => { stored.set(key, response); },
        delete: async (key) => stored.delete(key),
    }),
};

const SIZE = 9_000_000; // two parts of the cache and a bit
const fileOf = (seed) => Buffer.alloc(SIZE, Buffer.from([seed, seed + 1, seed + 2]));

/** One file; `server` says how: tag, modified, length (or a wrong one), ranges, hides (Content-Range), head, gzip,
 *  statuses (first ones), headers; once each: cutAt, stallAt (bytes of an answer, after which it drops or goes silent). */
async function withServer(use) {
    stored.clear();
    const server = { body: fileOf(1), length: true, ranges: true, head: true, statuses: [], log: [] };
    const http = createServer((request, response) => {
        const { range } = request.headers;
        server.log.push(`${request.method}${range ? ` ${range}` : ''}`);
        if (request.method === 'HEAD' && server.hangs) return;
        const status = request.method === 'HEAD' ? (server.head ? 0 : 405) : server.statuses.shift();
        if (status) {
            response.writeHead(status, server.headers).end();
            return;
        }
        if (server.tag) response.setHeader('ETag', server.tag);
        if (server.modified) response.setHeader('Last-Modified', server.modified);
        const known = request.headers['if-range'] === undefined || request.headers['if-range'] === server.tag
            || request.headers['if-range'] === server.modified || server.gluesAnything;
        const [, from, to] = (server.ranges && known && /bytes=(\d+)-(\d*)/.exec(range ?? '')) || [];
        const begin = Number(from ?? 0);
        if (from && begin >= server.body.length) {
            response.writeHead(416, server.hides ? {} : { 'Content-Range': `bytes */${server.body.length}` }).end();
            return;
        }
        const end = to ? Number(to) + 1 : server.body.length;
        const isZipped = server.gzip && !(range && server.gzip === 'whole');
        const bytes = isZipped ? gzipSync(server.body.subarray(begin, end), { level: 1 }) : server.body.subarray(begin, end);
        if (isZipped) response.setHeader('Content-Encoding', 'gzip');
        if (server.length) response.setHeader('Content-Length', bytes.length + (server.lies ?? 0));
        if (from && !server.hides) response.setHeader('Content-Range', `bytes ${begin}-${end - 1}/${server.body.length}`);
        response.writeHead(from ? 206 : 200);
        if (request.method === 'HEAD') response.end();
        else if (server.cutAt) {
            response.write(bytes.subarray(0, server.cutAt), () => response.destroy());
            server.cutAt = 0;
            server.afterCut?.();
        } else if (server.stallAt >= 0) {
            response.flushHeaders();
            response.write(bytes.subarray(0, server.stallAt));
            server.stallAt = server.stallsAgain ? server.stallAt : -1;
        } else response.end(bytes, () => { if (server.lies) response.destroy(); });
    });
    await new Promise((resolve) => { http.listen(0, '127.0.0.1', resolve); });
    server.url = `http://127.0.0.1:${http.address().port}/model.gguf`;
    server.load = async (options) => {
        const pieces = [];
        const about = { cached: 0 };
        server.log.length = 0;
        server.retries = [];
        for await (const { bytes, total, cached, kept, retry } of download(server.url, options)) {
            pieces.push(Buffer.from(bytes));
            if (retry) {
                server.retries.push(retry);
                server.onRetry?.();
            }
            if (cached) about.cached += bytes.length;
            Object.assign(about, { total, kept });
        }
        assert.ok(Buffer.concat(pieces).equals(server.body), 'other bytes than the server has');
        return about;
    };
    server.close = () => new Promise((resolve) => {
        http.close(resolve);
        http.closeAllConnections();
    });
    try {
        await use(server);
    } finally {
        await server.close();
    }
}

const FRESH = { cached: 0, total: SIZE, kept: SIZE };
const CACHED = { cached: SIZE, total: SIZE, kept: SIZE };

for (const [name, manners] of Object.entries({
    'tags': { tag: '"one"' },
    'dates': { modified: 'Mon, 02 Nov 2026 10:00:00 GMT' },
    'nothing to tell versions by': {},
    'no HEAD': { tag: '"one"', head: false },
    'no HEAD, hidden ranges': { head: false, hides: true },
    'no ranges': { tag: '"one"', ranges: false },
})) {
    test(`a second load comes from the cache, even offline: ${name}`, () => withServer(async (server) => {
        Object.assign(server, manners);
        assert.deepEqual(await server.load(), FRESH);
        assert.deepEqual(await server.load(), CACHED);
        assert.ok(!server.log.includes('GET'), server.log.join());
        await server.close();
        assert.deepEqual(await server.load(), CACHED);
    }));
}

test('a file of unknown length', () => withServer(async (server) => {
    Object.assign(server, { length: false, tag: '"one"' });
    assert.deepEqual(await server.load(), { cached: 0, total: SIZE, kept: SIZE });
    for (let i = 0; i < 2; i++) assert.deepEqual(await server.load(), CACHED);
}));

for (const [name, before, after] of [
    ['tag', { tag: '"one"' }, { tag: '"two"' }],
    ['date', { modified: 'Mon, 02 Nov 2026 10:00:00 GMT' }, { modified: 'Tue, 03 Nov 2026 10:00:00 GMT' }],
    ['tag, without HEAD', { tag: '"one"', head: false }, { tag: '"two"', head: false }],
]) {
    test(`a new file of the same size is seen by its ${name}`, () => withServer(async (server) => {
        Object.assign(server, before);
        await server.load();
        Object.assign(server, after, { body: fileOf(7) });
        assert.deepEqual(await server.load(), FRESH);
        assert.deepEqual(await server.load(), CACHED);
    }));
}

for (const ranges of [true, false]) {
    test(`a broken download goes on where it broke, ${ranges ? 'with' : 'without'} ranges`, () => withServer(async (server) => {
        Object.assign(server, { tag: '"one"', ranges, cutAt: 5_000_000 });
        assert.deepEqual(await server.load(), FRESH);
        assert.equal(server.log[0], 'GET');
        assert.match(server.log[1], /^GET bytes=\d{6,}-$/);
        assert.equal(server.log.length, 2);
    }));
}

test('a broken download goes on where it broke, where the server hides the range', () => withServer(async (server) => {
    Object.assign(server, { hides: true, cutAt: 5_000_000 });
    assert.deepEqual(await server.load(), FRESH);
    assert.match(server.log[1], /^GET bytes=\d{6,}-$/);
    assert.deepEqual(await server.load(), CACHED);
    server.head = false;
    assert.deepEqual(await server.load(), CACHED);
}));

test('copies that cannot be read are loaded again', () => withServer(async (server) => {
    const unreadable = () => ({ clone: () => ({ arrayBuffer: () => Promise.reject(new TypeError('Failed to fetch')), json: () => Promise.reject(new SyntaxError('no JSON')) }) });
    await server.load();
    for (const key of [...stored.keys()].filter((name) => name.endsWith('part=1'))) stored.set(key, unreadable());
    assert.deepEqual(await server.load(), { cached: 4 << 20, total: SIZE, kept: SIZE });
    assert.deepEqual(await server.load(), CACHED);
    for (const key of [...stored.keys()].filter((name) => name.endsWith('part=meta'))) stored.set(key, unreadable());
    assert.deepEqual(await server.load(), FRESH);
    assert.deepEqual(await server.load(), CACHED);
}));

test('a busy server is asked again', () => withServer(async (server) => {
    Object.assign(server, { tag: '"one"', cutAt: 5_000_000, statuses: [0, 503, 429] });
    assert.deepEqual(await server.load(), FRESH);
    assert.equal(server.log.length, 4);
}));

for (const gluesAnything of [true, false]) {
    test(`parts of two files are not put together${gluesAnything ? ', whatever If-Range is worth' : ''}`, () => withServer(async (server) => {
        const afterCut = () => Object.assign(server, { tag: '"two"', body: fileOf(7) });
        Object.assign(server, { tag: '"one"', gluesAnything, cutAt: 5_000_000, afterCut });
        await assert.rejects(server.load(), { code: 'io', message: /model\.gguf: the file has changed on the server/ });
        assert.equal(stored.size, 0);
        assert.deepEqual(await server.load(), FRESH);
    }));
}

test('a changed file leaves no part of the old one behind', () => withServer(async (server) => {
    const afterCut = () => Object.assign(server, { tag: '"two"', body: fileOf(7) });
    Object.assign(server, { tag: '"one"', cutAt: 8_500_000 });
    await server.load();
    for (const key of [...stored.keys()].filter((name) => /part=(1|2)$/.test(name))) stored.delete(key);
    Object.assign(server, { cutAt: 3_000_000, afterCut }); // a copy of one part, and more before it breaks
    await assert.rejects(server.load(), { code: 'io', message: /has changed/ });
    assert.equal(stored.size, 0);
}));

test('a shorter file on the server is a changed one', () => withServer(async (server) => {
    const afterCut = () => Object.assign(server, { body: fileOf(1).subarray(0, 1000) });
    Object.assign(server, { cutAt: 5_000_000, afterCut });
    await assert.rejects(server.load(), { code: 'io', message: /has changed/ });
}));

test('a server that says nothing keeps nobody from a copy', () => withServer(async (server) => {
    await server.load();
    server.hangs = true;
    assert.deepEqual(await server.load(), CACHED);
}));

test('what is not there, and what is forgotten', () => withServer(async (server) => {
    server.statuses = [404];
    await assert.rejects(server.load(), { code: 'io', message: /model\.gguf: HTTP 404/ });
    await server.load();
    await forget(server.url);
    assert.equal(stored.size, 0);
    assert.deepEqual(await server.load(), FRESH);
}));

// ---- what stalls ----

const SOON = { idleTimeout: 400 };

for (const [name, manners] of Object.entries({
    'in the middle': { stallAt: 3_000_000 },
    'before the first byte': { stallAt: 0 },
    'in the middle, without ranges': { stallAt: 3_000_000, ranges: false },
    'in the middle, nothing to tell versions by': { stallAt: 3_000_000, tag: '' },
    'in the middle, of unknown length': { stallAt: 3_000_000, length: false },
    'in the middle, compressed': { stallAt: 10_000, gzip: 'whole', tag: '"one-gzip"' },
    'in the middle, a compressed range': { stallAt: 10_000, gzip: 'always' },
})) {
    test(`a download that stalls goes on by itself: ${name}`, () => withServer(async (server) => {
        Object.assign(server, { tag: '"one"', ...manners });
        assert.deepEqual(await server.load(SOON), FRESH);
        assert.match(server.retries[0].reason, /no byte for 0\.4 s/);
        assert.deepEqual(await server.load(SOON), CACHED);
    }));
}

test('what arrives slowly is no stall', () => withServer(async (server) => {
    const http = createServer(async (request, response) => {
        for (let i = 0; i < 10; i++) {
            response.write(server.body.subarray(i * 1000, i * 1000 + 1000));
            await new Promise((resolve) => { setTimeout(resolve, 150); });
        }
        response.end();
    });
    await new Promise((resolve) => { http.listen(0, '127.0.0.1', resolve); });
    let bytes = 0;
    for await (const piece of download(`http://127.0.0.1:${http.address().port}/slow`, { idleTimeout: 800 })) {
        assert.equal(piece.retry, undefined);
        bytes += piece.bytes.length;
    }
    assert.equal(bytes, 10_000);
    http.close();
}));

test('a thread that computes hears no silence', () => withServer(async (server) => {
    server.tag = '"one"';
    let at = 0;
    for await (const { bytes, retry } of download(server.url, SOON)) {
        assert.equal(retry, undefined);
        if (at < 3_000_000 && at + bytes.length >= 3_000_000) {
            const end = performance.now() + 1000;
            while (performance.now() < end); // longer than the timeout
            await new Promise((resolve) => { setTimeout(resolve, 600); }); // nor does who is not asking
        }
        at += bytes.length;
    }
    assert.equal(at, SIZE);
}));

test('the network that comes back is a retry at once', () => withServer(async (server) => {
    const network = new EventTarget();
    const online = () => network.dispatchEvent(new Event('online'));
    // in a pause of a minute
    Object.assign(server, { tag: '"one"', cutAt: 3_000_000, statuses: [0, 503], headers: { 'Retry-After': '60' } });
    server.onRetry = () => setTimeout(online, 10);
    assert.deepEqual(await server.load({ network }), FRESH);
    assert.deepEqual(server.retries.map(({ delay }) => delay), [500, 60_000]);
    // in a silence that may last a minute
    stored.clear();
    server.onRetry = null;
    server.stallAt = 3_000_000;
    const timer = setInterval(online, 100);
    assert.deepEqual(await server.load({ network, idleTimeout: 8000 }), FRESH);
    clearInterval(timer);
    assert.match(server.retries[0].reason, /came back/);
}));

test('a server that brings nothing new is given up, for ever or not', () => withServer(async (server) => {
    Object.assign(server, { tag: '"one"', stallAt: 0, stallsAgain: true });
    await assert.rejects(server.load({ ...SOON, retries: Infinity }), { code: 'io', message: /broke off at byte 0 of 9000000: no byte for 0\.4 s/ });
    assert.equal(server.retries.length, 4);
}));

test('a server that is not there is tried as often as it was said', () => withServer(async (server) => {
    await server.close();
    await assert.rejects(server.load({ retries: 1 }), { code: 'io' });
    assert.equal(server.retries.length, 1);
}));

test('a Content-Length that promises too much', () => withServer(async (server) => {
    Object.assign(server, { tag: '"one"', lies: 5000 });
    assert.equal((await server.load()).total, SIZE);
    assert.match(server.log.at(-1), /bytes=9000000-/);
}));

test('more of the file than was asked for is not taken twice', () => withServer(async (server) => {
    const early = (request, response) => { // a range that begins a megabyte earlier
        const from = /bytes=(\d+)/.exec(request.headers.range ?? '');
        const begin = from ? Math.max(0, from[1] - 1e6) : 0;
        response.setHeader('Content-Length', SIZE - begin);
        if (from) response.setHeader('Content-Range', `bytes ${begin}-${SIZE - 1}/${SIZE}`);
        response.writeHead(from ? 206 : 200);
        if (from) response.end(server.body.subarray(begin));
        else response.write(server.body.subarray(0, 3_000_000), () => response.destroy());
    };
    const http = createServer(early);
    await new Promise((resolve) => { http.listen(0, '127.0.0.1', resolve); });
    server.url = `http://127.0.0.1:${http.address().port}/early`;
    try {
        assert.deepEqual(await server.load(), FRESH);
    } finally {
        http.close();
    }
}));

test('a part that begins behind what was asked for is refused', () => withServer(async (server) => {
    const http = createServer((request, response) => {
        const from = /bytes=(\d+)/.exec(request.headers.range ?? '');
        const begin = from ? Number(from[1]) + 1000 : 0;
        response.setHeader('Content-Length', SIZE - begin);
        if (from) response.setHeader('Content-Range', `bytes ${begin}-${SIZE - 1}/${SIZE}`);
        response.writeHead(from ? 206 : 200);
        if (from) response.end(server.body.subarray(begin));
        else response.write(server.body.subarray(0, 3_000_000), () => response.destroy());
    });
    await new Promise((resolve) => { http.listen(0, '127.0.0.1', resolve); });
    server.url = `http://127.0.0.1:${http.address().port}/late`;
    try {
        await assert.rejects(server.load(), { code: 'io', message: /another range than asked for/ });
    } finally {
        http.close();
    }
}));
