// SPDX-License-Identifier: MIT
// A model file as a stream of bytes in order: from the cache as far as it is there, then from the
// network, resumed where it breaks, and kept in parts for the next time.

const CACHE = 'tinyvlm-1';
const PART = 4 << 20;
const PIECE = 256 << 10;
const ATTEMPTS = 5;
const PATIENCE = 3000; // for a server to say what it has, while we have a copy

class DownloadError extends Error {
    code = 'io';
}

class ChangedError extends DownloadError {}

function partUrl(url, index) {
    const part = new URL(url);
    part.searchParams.set('tinyvlm-part', index);
    return part.href;
}

/** The parts of one file in the Cache API; every failure of the cache is a miss, never an error. */
class Parts {
    static async open(url, wanted) {
        const parts = new Parts(url);
        try {
            // absent outside secure contexts and in node
            parts.cache = wanted && typeof caches !== 'undefined' ? await caches.open(CACHE) : null;
        } catch {
            parts.cache = null;
        }
        try {
            parts.meta = await (await parts.cache?.match(partUrl(url, 'meta')))?.json() ?? null;
        } catch {
            parts.meta = null;
        }
        return parts;
    }

    constructor(url) {
        this.url = url;
        this.cache = null;
        this.meta = null;
        this.index = 0;
        this.pending = [];
        this.pendingBytes = 0;
        this.kept = 0; // bytes that are surely there
    }

    /** Forgets what is kept when the server has another file now. */
    async check(fresh) {
        if (this.meta && fresh && !isSame(this.meta, fresh)) await this.drop();
    }

    async drop() {
        const count = Math.max(this.meta?.parts ?? 0, this.index);
        this.meta = null;
        this.kept = 0;
        for (let i = 0; i < count; i++) await this.cache?.delete(partUrl(this.url, i)).catch(() => {});
        await this.cache?.delete(partUrl(this.url, 'meta')).catch(() => {});
    }

    async *read() {
        for (; this.meta && this.index < this.meta.parts; this.index++) {
            let bytes;
            try {
                const response = await this.cache.match(partUrl(this.url, this.index));
                bytes = new Uint8Array(await response.arrayBuffer());
            } catch {
                break; // evicted or unreadable: the network has the rest
            }
            this.kept += bytes.length;
            yield bytes;
        }
    }

    async #put(key, body, type) {
        try {
            await this.cache.put(partUrl(this.url, key), new Response(body, { headers: { 'Content-Type': type } }));
        } catch { // no room: go on without
            this.cache = null;
        }
    }

    async #flush(about) {
        if (this.pendingBytes) await this.#put(this.index++, new Blob(this.pending), 'application/octet-stream');
        if (this.cache) await this.#put('meta', JSON.stringify({ ...about, parts: this.index }), 'application/json');
        if (this.cache) this.kept += this.pendingBytes;
        this.pending = [];
        this.pendingBytes = 0;
    }

    async keep(bytes, about) {
        while (this.cache && bytes.length) {
            const take = Math.min(bytes.length, PART - this.pendingBytes);
            this.pending.push(bytes.slice(0, take));
            this.pendingBytes += take;
            bytes = bytes.subarray(take);
            if (this.pendingBytes === PART) await this.#flush(about);
        }
    }

    /** Only now is the length known for sure. */
    async end(about) {
        if (this.cache) await this.#flush(about);
    }
}

/** Which file a response is of: a tag, its length; '' and 0 where the server does not say. Servers of other
 *  origins hide most headers: then bytes that were asked for from `at` on start there. */
function describe(response, at) {
    const { headers } = response;
    const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(headers.get('Content-Range') ?? '');
    const start = Number(range?.[1] ?? (response.status === 206 ? at : 0));
    // a compressed transfer's length is not the file's
    const length = headers.get('Content-Encoding') ? 0 : Number(headers.get('Content-Length'));
    const total = range ? Number(range[2]) : length && start + length;
    return { tag: headers.get('ETag') ?? headers.get('Last-Modified') ?? '', said: total || 0, start };
}

/** Without what compression in transfer does to a tag. */
const bare = (tag) => tag.replace(/^W\//, '').replace(/[-;]+(gzip|br|zstd|deflate)"$/, '"');

function isSame(a, b) {
    return !(a.tag && b.tag && bare(a.tag) !== bare(b.tag)) && !(a.said && b.said && a.said !== b.said);
}

/** What the server has now; null when it cannot be asked (offline). */
async function askServer(url) {
    const signal = AbortSignal.timeout(PATIENCE);
    try {
        let response = await fetch(url, { method: 'HEAD', cache: 'no-cache', signal });
        if (!response.ok) response = await fetch(url, { headers: { Range: 'bytes=0-' }, cache: 'no-cache', signal });
        response.body?.cancel().catch(() => {});
        return response.ok ? describe(response, 0) : null;
    } catch {
        return null;
    }
}

const isPassing = (status) => status === 408 || status === 429 || status >= 500;

/** May requests have any header? Other origins would be asked first, and most of them refuse. */
function isOurs(url) {
    return typeof location === 'undefined' || new URL(url).origin === location.origin;
}

async function request(url, at, tag) {
    const headers = {};
    if (at) headers.Range = `bytes=${at}-`;
    if (at && tag && isOurs(url)) headers['If-Range'] = tag;
    const response = await fetch(url, { headers });
    if (isPassing(response.status)) throw new Error(`HTTP ${response.status}`);
    return response;
}

/** The pieces of a body, each good until the next: in one buffer where the browser can, as it would leave a file's
 *  worth of them to the garbage collector. */
export async function* piecesOf(body) {
    let reader, buffer;
    try {
        reader = body.getReader({ mode: 'byob' });
        buffer = new ArrayBuffer(PIECE);
    } catch {
        reader = body.getReader();
    }
    try {
        for (;;) {
            const { done, value } = await (buffer ? reader.read(new Uint8Array(buffer)) : reader.read());
            if (done) return;
            yield value;
            buffer &&= value.buffer;
        }
    } finally {
        reader.cancel().catch(() => {});
    }
}

/** Bytes from offset `at`, whatever the server makes of the range; isWhole: ask for all of the file. */
async function* readFrom(url, at, state, isWhole) {
    const response = await request(url, isWhole ? 0 : at, state.tag);
    const { headers, status } = response;
    const changed = new ChangedError(`${url}: the file has changed on the server, load it again`);
    if (at && status === 416) {
        const range = headers.get('Content-Range');
        if (range ? range !== `bytes */${at}` : at < state.total) throw changed;
        return; // nothing is left
    }
    if (!response.ok) throw new DownloadError(`${url}: HTTP ${status}`);
    const about = describe(response, at);
    if (at && (!isSame(state, about) || (status === 206 && about.start !== at))) throw changed;
    state.tag ||= about.tag;
    state.said ||= about.said;
    state.total ||= about.said;
    let skip = status === 206 ? 0 : at;
    for await (const bytes of piecesOf(response.body)) {
        const drop = Math.min(skip, bytes.length);
        skip -= drop;
        if (bytes.length > drop) yield bytes.subarray(drop);
    }
}

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

/** Yields { bytes, total, cached, kept }, at the end once with no bytes; bytes are good until the next. */
export async function* download(url, { cache = true } = {}) {
    const parts = await Parts.open(url, cache);
    if (parts.meta) await parts.check(await askServer(url));
    const state = { tag: parts.meta?.tag ?? '', said: parts.meta?.said ?? 0, total: parts.meta?.total ?? 0 };
    let at = 0;
    for await (const bytes of parts.read()) {
        at += bytes.length;
        yield { bytes, total: state.total, cached: true, kept: parts.kept };
    }
    for (let attempt = 1; !state.total || at < state.total; attempt++) {
        let failure = '';
        try {
            const isWhole = attempt === ATTEMPTS && !isOurs(url); // a range may be what was refused
            for await (const bytes of readFrom(url, at, state, isWhole)) {
                at += bytes.length;
                attempt = 1; // it moves
                if (at > state.total) state.said = state.total = 0; // it was that of a compressed transfer
                yield { bytes, total: state.total, cached: false, kept: parts.kept };
                await parts.keep(bytes, state);
            }
            state.total ||= at;
        } catch (error) {
            if (error instanceof ChangedError) await parts.drop();
            if (error instanceof DownloadError) throw error;
            failure = error.message;
        }
        if (at >= state.total && !failure) break;
        if (attempt >= ATTEMPTS)
            throw new DownloadError(`${url}: the download broke off at byte ${at} of ${state.total || 'unknown'}: ${failure || 'end of data'}`);
        await pause(Math.min(4000, 250 * 2 ** attempt));
    }
    await parts.end(state);
    yield { bytes: new Uint8Array(0), total: state.total, cached: false, kept: parts.kept };
}

/** A file that turned out damaged must not come from the cache again. */
export async function forget(url) {
    const parts = await Parts.open(url, true);
    await parts.drop();
}
