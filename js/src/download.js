// SPDX-License-Identifier: MIT
// A model file as a stream of bytes in order: from the cache as far as it is there, then from the
// network, resumed where it breaks, and kept in parts for the next time.

const CACHE = 'tinyvlm-1';
const PART = 4 << 20;
const PIECE = 256 << 10;
const PATIENCE = 3000; // for a server to say what it has, while we have a copy
const IDLE_TIMEOUT = 20_000;
const FIRST_RETRIES = 4; // before the first byte: the address may be wrong
const RETRIES = 10;
const BARREN = 5; // answers in a row that bring nothing new: that server will not do better
const LONGEST_PAUSE = 15_000;
const LONGEST_RETRY_AFTER = 60_000;
const TICKS = 8; // of an idle timeout

class DownloadError extends Error {
    code = 'io';
}

/** What was read is of another file than what the server has now: all of it is to be read anew. */
class ChangedError extends DownloadError {
    isStale = true;
}

/** It may work when it is asked again, after so many milliseconds at least. */
class PassingError extends Error {
    constructor(message, wait = 0) {
        super(message);
        this.wait = wait;
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

const isPassing = (status) => [408, 425, 429, 500, 502, 503, 504].includes(status);

/** Retry-After in milliseconds: it is seconds or a date. */
function retryAfter(headers) {
    const text = headers.get('Retry-After') ?? '';
    const wait = /^\d+$/.test(text) ? 1000 * text : Date.parse(text) - Date.now();
    return Math.min(LONGEST_RETRY_AFTER, Math.max(0, wait || 0));
}

/** May requests have any header? Other origins would be asked first, and most of them refuse. */
function isOurs(url) {
    return typeof location === 'undefined' || new URL(url).origin === location.origin;
}

/** Ends a request that stays silent. It counts ticks while an answer is waited for: a thread that computes for
 *  long hears no clock, and that is not the network's silence. */
class Watch {
    #control = new AbortController();
    #ticks = 0;
    #waits = false;
    #close;

    constructor(timeout, network) {
        const silent = () => this.#waits && ++this.#ticks >= TICKS && this.#end(`no byte for ${timeout / 1000} s`);
        const online = () => this.#waits && this.#ticks && this.#end('the network came back');
        const timer = timeout < 2 ** 31 ? setInterval(silent, timeout / TICKS) : undefined;
        network.addEventListener('online', online);
        this.#close = () => {
            clearInterval(timer);
            network.removeEventListener('online', online);
        };
    }

    get signal() {
        return this.#control.signal;
    }

    #end(why) {
        this.reason = new Error(why);
        this.#control.abort(this.reason);
    }

    async hear(promise) {
        this.#ticks = 0;
        this.#waits = true;
        try {
            return await promise;
        } catch (error) {
            throw this.reason ?? error;
        } finally {
            this.#waits = false;
        }
    }

    close() {
        this.#close();
    }
}

async function request(url, at, tag, signal) {
    const headers = {};
    if (at) headers.Range = `bytes=${at}-`;
    // A weak tag is no condition for a range: what came is compared instead.
    if (at && tag && !tag.startsWith('W/') && isOurs(url)) headers['If-Range'] = tag;
    // The browser's own copy of half a file would be in the way of the other half.
    const response = await fetch(url, { headers, signal, ...(at && { cache: 'no-store' }) });
    if (isPassing(response.status)) throw new PassingError(`HTTP ${response.status}`, retryAfter(response.headers));
    return response;
}

/** The pieces of a body, each good until the next: in one buffer where the browser can, as it would leave a file's
 *  worth of them to the garbage collector. hear: sees each promise of a piece. */
export async function* piecesOf(body, hear = (promise) => promise) {
    let reader, buffer;
    try {
        reader = body.getReader({ mode: 'byob' });
        buffer = new ArrayBuffer(PIECE);
    } catch {
        reader = body.getReader();
    }
    try {
        for (;;) {
            const { done, value } = await hear(buffer ? reader.read(new Uint8Array(buffer)) : reader.read());
            if (done) return;
            yield value;
            buffer &&= value.buffer;
        }
    } finally {
        reader.cancel().catch(() => {});
    }
}

/** What the answer to "bytes from `at` on" is of; null: nothing is left. */
function checkAnswer(url, response, at, state) {
    const { headers, status } = response;
    const changed = new ChangedError(`${url}: the file has changed on the server, load it again`);
    if (at && status === 416) {
        const range = headers.get('Content-Range');
        if (range ? range !== `bytes */${at}` : at < state.total) throw changed;
        state.said = state.total = at; // whatever a Content-Length said
        return null;
    }
    if (!response.ok) throw new DownloadError(`${url}: HTTP ${status}`);
    const about = describe(response, at);
    if (at && !isSame(state, about)) throw changed;
    if (at && status === 206 && headers.get('Content-Encoding')) { // a range of what, nobody can say
        state.isWhole = true;
        throw new PassingError('a compressed range');
    }
    if (about.start > at) throw new DownloadError(`${url}: the server answers with another range than asked for`);
    return about;
}

/** Bytes from offset `at`, whatever the server makes of the range. */
async function* readFrom(url, at, isWhole, state, { idleTimeout, network }) {
    const watch = new Watch(idleTimeout, network);
    const hear = (promise) => watch.hear(promise);
    try {
        const response = await hear(request(url, isWhole ? 0 : at, state.tag, watch.signal));
        const about = checkAnswer(url, response, at, state);
        if (!about) return;
        state.answered = true;
        state.tag ||= about.tag;
        state.said ||= about.said;
        state.total ||= about.said;
        let skip = at - about.start;
        for await (const bytes of piecesOf(response.body, hear)) {
            const drop = Math.min(skip, bytes.length);
            skip -= drop;
            if (bytes.length > drop) yield bytes.subarray(drop);
        }
    } finally {
        watch.close();
    }
}

/** Ends early when the network comes back. */
function pause(ms, network) {
    return new Promise((resolve) => {
        const end = () => {
            clearTimeout(timer);
            network.removeEventListener('online', end);
            resolve();
        };
        const timer = setTimeout(end, ms);
        network.addEventListener('online', end);
    });
}

/** How often in a row it did not work. */
class Failures {
    lost = 0; // no connection, or no answer
    barren = 0; // an answer, but no new byte

    clear() {
        this.lost = this.barren = 0;
    }

    count(answered) {
        if (answered) this.barren++;
        else this.lost++;
    }

    /** Without any network nothing was tried. */
    isEnough(retries) {
        return this.barren >= BARREN || (this.lost > retries && globalThis.navigator?.onLine !== false);
    }

    get pause() {
        return Math.min(LONGEST_PAUSE, 250 * 2 ** Math.min(10, this.lost + this.barren));
    }
}

/** Yields { bytes, total, cached, kept }, at the end once with no bytes; bytes are good until the next. While a
 *  connection that was lost is tried again: no bytes, and retry: { reason, attempt, delay }.
 *  network: an EventTarget that tells 'online'. */
export async function* download(url, { cache = true, idleTimeout = IDLE_TIMEOUT, retries, network = new EventTarget() } = {}) {
    const parts = await Parts.open(url, cache);
    if (parts.meta) await parts.check(await askServer(url));
    const state = { tag: parts.meta?.tag ?? '', said: parts.meta?.said ?? 0, total: parts.meta?.total ?? 0 };
    const failures = new Failures();
    const nothing = () => ({ bytes: new Uint8Array(0), total: state.total, cached: false, kept: parts.kept });
    let at = 0;
    for await (const bytes of parts.read()) {
        at += bytes.length;
        yield { bytes, total: state.total, cached: true, kept: parts.kept };
    }
    while (!state.total || at < state.total) {
        let failure;
        state.answered = false;
        // a range may be what another origin refuses
        const isWhole = state.isWhole || (failures.lost % 5 === 4 && !isOurs(url));
        try {
            for await (const bytes of readFrom(url, at, isWhole, state, { idleTimeout, network })) {
                at += bytes.length;
                failures.clear();
                if (at > state.total) state.said = state.total = 0; // it was that of a compressed transfer
                yield { bytes, total: state.total, cached: false, kept: parts.kept };
                await parts.keep(bytes, state);
            }
            state.total ||= at;
            failure = new PassingError('end of data');
        } catch (error) {
            if (error.isStale) await parts.drop();
            if (error instanceof DownloadError) throw error;
            failure = error;
        }
        if (state.total && at >= state.total) break;
        failures.count(state.answered);
        if (failures.isEnough(retries ?? (at ? RETRIES : FIRST_RETRIES)))
            throw new DownloadError(`${url}: the download broke off at byte ${at} of ${state.total || 'unknown'}: ${failure.message}`);
        const delay = Math.max(failures.pause, failure.wait ?? 0);
        yield { ...nothing(), retry: { reason: failure.message, attempt: failures.lost + failures.barren, delay } };
        await pause(delay, network);
    }
    await parts.end(state);
    yield nothing();
}

/** A small file as a whole. */
export async function fetchBytes(url) {
    const pieces = [];
    for await (const { bytes } of download(url, { cache: false, retries: FIRST_RETRIES })) pieces.push(bytes.slice());
    return new Blob(pieces).arrayBuffer();
}

/** A file that turned out damaged must not come from the cache again. */
export async function forget(url) {
    const parts = await Parts.open(url, true);
    await parts.drop();
}
