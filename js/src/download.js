// SPDX-License-Identifier: MIT
// A model file as a stream of bytes in order: from the cache as far as it is there, then from the
// network, resumed where it breaks, and kept in parts for the next time.

const CACHE = 'tinyvlm-1';
const PART = 4 << 20;
const ATTEMPTS = 5;

export class DownloadError extends Error {
    constructor(message, cause) {
        super(message, { cause });
        this.code = 'io';
    }
}

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
            parts.meta = await (await parts.cache?.match(partUrl(url, 'meta')))?.json() ?? null;
        } catch {
            parts.cache = null;
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
    }

    /** Forgets what is kept when the server has another file now. */
    async check(fresh) {
        if (!this.meta || !fresh) return;
        const same = fresh.tag ? fresh.tag === this.meta.tag : fresh.total === this.meta.total;
        if (!same) await this.drop();
    }

    async drop() {
        const count = this.meta?.parts ?? this.index;
        this.meta = null;
        for (let i = 0; i < count; i++) await this.cache?.delete(partUrl(this.url, i)).catch(() => {});
        await this.cache?.delete(partUrl(this.url, 'meta')).catch(() => {});
    }

    async *read() {
        for (; this.meta && this.index < this.meta.parts; this.index++) {
            const response = await this.cache.match(partUrl(this.url, this.index)).catch(() => null);
            if (!response) break; // evicted: the network has the rest
            yield new Uint8Array(await response.arrayBuffer());
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
        await this.#put(this.index++, new Blob(this.pending), 'application/octet-stream');
        this.pending = [];
        this.pendingBytes = 0;
        if (this.cache)
            await this.#put('meta', JSON.stringify({ ...about, parts: this.index }), 'application/json');
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

    async end(about) {
        if (this.cache && this.pendingBytes) await this.#flush(about);
    }
}

function describe(response) {
    const length = Number(response.headers.get('Content-Length'));
    // a compressed transfer's length is not the file's
    const total = response.headers.get('Content-Encoding') ? 0 : length || 0;
    return { tag: response.headers.get('ETag') ?? '', total };
}

/** What the server has now; null when it cannot be asked (offline). */
async function askServer(url, signal) {
    try {
        const response = await fetch(url, { method: 'HEAD', cache: 'no-cache', signal });
        return response.ok ? describe(response) : null;
    } catch {
        signal?.throwIfAborted();
        return null;
    }
}

async function request(url, at, tag, signal) {
    const headers = at ? { Range: `bytes=${at}-`, ...(tag ? { 'If-Range': tag } : {}) } : {};
    const response = await fetch(url, { headers, signal });
    if (!response.ok) throw new DownloadError(`${url}: HTTP ${response.status}`);
    return response;
}

/** Bytes from offset `at`, whatever the server makes of the range. */
async function* readFrom(url, at, state, signal) {
    const response = await request(url, at, state.tag, signal);
    const about = describe(response);
    let skip = response.status === 206 ? 0 : at;
    if (skip && state.tag && about.tag && about.tag !== state.tag)
        throw new DownloadError(`${url}: the file has changed on the server`);
    state.tag ||= about.tag;
    if (response.status !== 206) state.total ||= about.total;
    else state.total ||= Number(response.headers.get('Content-Range')?.split('/')[1]) || 0;
    const reader = response.body.getReader();
    try {
        for (;;) {
            const { done, value } = await reader.read();
            if (done) return;
            const drop = Math.min(skip, value.length);
            skip -= drop;
            if (value.length > drop) yield value.subarray(drop);
        }
    } finally {
        reader.cancel().catch(() => {});
    }
}

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

/** Yields { bytes, total, cached }. */
export async function* download(url, { cache = true, signal } = {}) {
    const parts = await Parts.open(url, cache);
    if (parts.meta) await parts.check(await askServer(url, signal));
    const state = { tag: parts.meta?.tag ?? '', total: parts.meta?.total ?? 0 };
    let at = 0;
    for await (const bytes of parts.read()) {
        at += bytes.length;
        yield { bytes, total: state.total, cached: true };
    }
    for (let attempt = 1; !state.total || at < state.total; attempt++) {
        let failure;
        try {
            for await (const bytes of readFrom(url, at, state, signal)) {
                at += bytes.length;
                attempt = 1; // it moves
                yield { bytes, total: state.total, cached: false };
                await parts.keep(bytes, state);
            }
            if (!state.total) break;
        } catch (error) {
            signal?.throwIfAborted();
            if (error instanceof DownloadError) throw error;
            failure = error;
        }
        if (state.total && at >= state.total) break;
        if (attempt >= ATTEMPTS)
            throw new DownloadError(`${url}: the download broke off at byte ${at} of ${state.total || 'unknown'}`, failure);
        await pause(Math.min(4000, 250 * 2 ** attempt));
        signal?.throwIfAborted();
    }
    await parts.end(state);
}

/** A file that turned out damaged must not come from the cache again. */
export async function forget(url) {
    const parts = await Parts.open(url, true);
    await parts.drop();
}
