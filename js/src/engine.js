// SPDX-License-Identifier: MIT
// The engine's side: one model in one module, fed by the network and asked by the page. At most one
// job runs at a time (the page sees to that); loading goes on between jobs.
import { download, forget, piecesOf } from './download.js';
import { isThreaded, makeMemory } from './memory.js';
import { FITS, STAGES } from './names.js';

const CODES = ['ok', 'argument', 'io', 'format', 'unsupported', 'memory', 'limit', 'context', 'cancelled', 'checksum', 'state'];
const ROLES = ['system', 'user', 'assistant'];
const FINISHES = ['stop', 'length', 'context'];
const INFO_TEXTS = ['architecture', 'name', 'license', 'description', 'chatTemplate', 'describePrompt'];
const INFO_NUMBERS = ['parameters', 'fileBytes', 'weightBytes', 'vocabulary', 'context', 'imageSize', 'imageTokens', 'embedding', 'describeBeams'];
const FEED_BYTES = 256 << 10;
const STACK_BYTES = 256 << 10;

class EngineError extends Error {
    constructor(message, code) {
        super(message);
        this.code = code;
    }
}

/** Pointers come out of the module as signed numbers. */
const place = (pointer) => pointer >>> 0;

/** May this worker fetch a blob? A page's content security policy can forbid it. */
function canAskBlobs() {
    if (typeof XMLHttpRequest === 'undefined') return false;
    const url = URL.createObjectURL(new Blob(['1']));
    try {
        return isThere(url);
    } catch {
        return false;
    } finally {
        URL.revokeObjectURL(url);
    }
}

function isThere(url) {
    const request = new XMLHttpRequest();
    request.open('GET', url, false);
    request.send();
    return true; // else send() throws
}

/** 32-bit numbers (ids, pointers) as the module's memory holds them. */
const words = (numbers) => new Uint8Array(Int32Array.from(numbers).buffer);

const utf8 = new TextEncoder();
const fromUtf8 = new TextDecoder('utf-8', { ignoreBOM: true }); // a BOM is text

/** A turn of the event loop: messages that wait are handled. */
function turn() {
    return new Promise((resolve) => {
        const { port1, port2 } = new MessageChannel();
        port1.onmessage = () => {
            port1.close();
            resolve();
        };
        port2.postMessage(0);
    });
}

class Engine {
    /** module: compiled; memory: shared, or null to make one of `limit` bytes; flag: shared Int32Array or
     *  null; host: now, openFile. */
    constructor({ name, module, memory, limit, threads, context, kv, beams, flag }, post, host) {
        memory ??= makeMemory(name, limit);
        this.memory = memory;
        this.threads = threads;
        this.context = context;
        this.beams = beams;
        this.kvF32 = kv === 'f32' ? 1 : 0;
        this.flag = flag;
        this.post = post;
        this.host = host;
        this.network = new EventTarget();
        this.alive = null;
        this.started = false;
        this.shared = isThreaded(name);
        this.canAsk = !this.shared && !flag && canAskBlobs();
        const env = {
            memory,
            now: host.now,
            token: (...token) => this.#onToken(...token),
            cancelled: () => this.#isCancelled(),
        };
        this.wasm = new WebAssembly.Instance(module, { env }).exports;
        if (threads > 1) this.#makeStacks(threads - 1);
    }

    /** Where each helper's stack ends and its thread-local data lie. */
    #makeStacks(count) {
        const align = Math.max(16, this.wasm.__tls_align.value);
        this.stacks = Array.from({ length: count }, (_, index) => {
            const tls = this.#allocate(this.wasm.__tls_size.value + align);
            const stack = this.#allocate(STACK_BYTES);
            return { index, stack: place((stack + STACK_BYTES) & ~15), tls: place((tls + align - 1) & -align) };
        });
    }

    // ---- between JavaScript and the module ----

    bytes(at, length) {
        return new Uint8Array(this.memory.buffer, at, length);
    }

    #allocate(size) {
        const at = size < 2 ** 32 ? place(this.wasm.allocate(Math.max(size, 1))) : 0;
        if (!at) throw new EngineError(`out of memory: ${size} bytes more do not fit ${this.memory.buffer.byteLength}`, 'memory');
        return at;
    }

    #copyIn(bytes) {
        const at = this.#allocate(bytes.length);
        this.bytes(at, bytes.length).set(bytes);
        return at;
    }

    /** Decoding wants bytes that are not shared. */
    string(at, length) {
        return fromUtf8.decode(this.bytes(at, length).slice());
    }

    #terminated(pointer) {
        const at = place(pointer);
        const all = new Uint8Array(this.memory.buffer);
        return this.string(at, all.indexOf(0, at) - at);
    }

    fail(status) {
        return new EngineError(this.#terminated(this.wasm.error_message()), CODES[status]);
    }

    check(status) {
        if (status !== 0) throw this.fail(status);
    }

    count(n) {
        if (n < 0) throw this.fail(-n);
        return n;
    }

    /** The model's own words for an id, which may be a part of a character. */
    #onToken(id, at, length, finish, logprob, alternatives, n) {
        const token = { id, text: this.string(place(at), length), finish: FINISHES[finish] ?? null };
        if (this.logprobs) Object.assign(token, { logprob, alternatives: this.#alternatives(place(alternatives), n) });
        this.post({ event: 'token', token });
    }

    #alternatives(at, n) {
        const view = new DataView(this.memory.buffer, at, 8 * n);
        return Array.from({ length: n }, (_, i) => ({ id: view.getInt32(8 * i, true), logprob: view.getFloat32(8 * i + 4, true) }));
    }

    /** Modules without shared memory ask: through shared memory if there is any beside them, else by a
     *  blob that the page revokes, which a synchronous request notices. */
    #isCancelled() {
        if (this.flag) return Atomics.load(this.flag, 0);
        if (!this.alive || !this.canAsk) return 0;
        try {
            return isThere(this.alive) ? 0 : 1;
        } catch {
            return 1;
        }
    }

    // ---- loading ----

    async *#source({ url, blob, bytes, ...options }) {
        if (bytes) yield { bytes, total: bytes.length, cached: false };
        else if (blob) {
            for await (const piece of piecesOf(blob.stream())) yield { bytes: piece, total: blob.size, cached: false };
        } else if (this.host.openFile && !/^(https?|blob|data):/i.test(url)) yield* this.host.openFile(url);
        else yield* download(url, { ...options, network: this.network });
    }

    #feed(bytes, buffer) {
        for (let at = 0; at < bytes.length; at += FEED_BYTES) {
            const piece = bytes.subarray(at, at + FEED_BYTES);
            this.bytes(buffer, piece.length).set(piece);
            this.check(this.wasm.feed(buffer, piece.length));
        }
    }

    #announce(progress) {
        const stage = STAGES[this.wasm.stage()];
        if (stage !== 'none' && !this.started) {
            this.started = true;
            this.check(this.wasm.start(this.threads, this.context, this.kvF32, this.beams));
            this.post({ event: 'info', info: this.info(), cancelAddress: place(this.wasm.cancel_flag()) });
        }
        this.post({ event: 'progress', progress: { ...progress, stage } });
    }

    async load(from) {
        const progress = { loaded: 0, total: 0, cached: 0, kept: 0, retry: null };
        let isMixed = false; // of several answers, perhaps not of one file
        let fresh = this.host.now();
        this.check(this.wasm.open(from.memory, from.precision));
        const buffer = this.#allocate(FEED_BYTES);
        try {
            for await (const { bytes, total, cached, kept, retry } of this.#source(from)) {
                this.#feed(bytes, buffer);
                progress.loaded += bytes.length;
                progress.total = total;
                progress.kept = kept ?? 0;
                progress.retry = retry ?? null;
                if (cached) progress.cached += bytes.length;
                isMixed ||= Boolean(cached || retry);
                this.#announce(progress);
                if (this.host.now() - fresh > 8) {
                    await turn();
                    fresh = this.host.now();
                }
            }
            this.check(this.wasm.finish());
            progress.total ||= progress.loaded;
            this.#announce(progress);
        } catch (error) {
            const damaged = ['format', 'checksum', 'unsupported'].includes(error.code);
            if (damaged && from.url && from.cache) await forget(from.url);
            throw Object.assign(error, { isStale: error.isStale || (damaged && isMixed) });
        } finally {
            this.wasm.release(buffer);
        }
    }

    info() {
        const info = {};
        INFO_TEXTS.forEach((key, i) => { info[key] = this.#terminated(this.wasm.info_text(i)); });
        INFO_NUMBERS.forEach((key, i) => { info[key] = this.wasm.info_number(i); });
        return info;
    }

    plan() {
        const at = this.#allocate(40);
        try {
            this.check(this.wasm.memory_plan(this.threads, this.context, this.kvF32, this.beams, at));
            const [model, engine, session, image, total] = new Float64Array(this.memory.buffer.slice(at, at + 40));
            return { model, engine, session, image, total };
        } finally {
            this.wasm.release(at);
        }
    }

    // ---- jobs ----

    #withBytes(bytes, use) {
        const at = this.#copyIn(bytes);
        try {
            return use(at);
        } finally {
            this.wasm.release(at);
        }
    }

    memoryNow() {
        return { module: this.memory.buffer.byteLength, ...this.plan() };
    }

    tokenize({ text, special }) {
        const bytes = utf8.encode(text);
        const n = this.#withBytes(bytes, (at) => this.count(this.wasm.tokenize(at, bytes.length, special ? 1 : 0)));
        return new Int32Array(this.memory.buffer, place(this.wasm.output()), n).slice();
    }

    detokenize({ ids, skipSpecial }) {
        const n = this.#withBytes(words(ids), (at) =>
            this.count(this.wasm.detokenize(at, ids.length, skipSpecial ? 1 : 0)));
        return this.string(place(this.wasm.output()), n);
    }

    preprocess({ pixels, fit }) {
        const frames = this.#withBytes(pixels.data, (at) => this.count(
            this.wasm.preprocess(at, pixels.width, pixels.height, pixels.channels, FITS.indexOf(fit))));
        const size = this.wasm.info_number(5);
        return { size, frames, data: this.#floats(this.wasm.output(), frames * size * size * 3) };
    }

    #floats(pointer, count) {
        return new Float32Array(this.memory.buffer, place(pointer), count).slice();
    }

    encode({ pixels, fit }) {
        const image = this.#withBytes(pixels.data, (at) =>
            this.wasm.encode(at, pixels.width, pixels.height, pixels.channels, FITS.indexOf(fit)));
        if (!image) throw this.fail(this.wasm.error_code());
        const [preprocess, tower, bridge] = [0, 1, 2].map((i) => this.wasm.image_timing(image, i));
        return { image, timings: { preprocess, tower, bridge } };
    }

    imageTokens({ image }) {
        const count = this.wasm.image_count(image);
        const embedding = this.wasm.info_number(7);
        return { tokens: this.#floats(this.wasm.image_tokens(image), count * embedding), count, embedding };
    }

    drop({ image }) {
        this.wasm.drop_image(image);
    }

    /** places: where in the content the images stand, or null: before it. */
    #addMessage({ role, content, places }, images) {
        const bytes = utf8.encode(content);
        const at = places && words(places.map((place) => utf8.encode(content.slice(0, place)).length));
        this.check(this.wasm.chat_add(ROLES.indexOf(role), this.#copyIn(bytes), bytes.length,
            this.#copyIn(words(images)), images.length, at ? this.#copyIn(at) : 0));
    }

    generate({ messages, images, options }) {
        this.wasm.chat_clear();
        try {
            let next = 0;
            for (const m of messages) this.#addMessage(m, images.slice(next, next += m.count));
            this.logprobs = options.logprobs;
            for (const stop of options.stop) this.check(this.wasm.stop_add(this.#copyIn(utf8.encode(`${stop}\0`))));
            this.check(this.wasm.generate(options.maxTokens, options.ignoreEos ? 1 : 0, options.lookup ? 1 : 0,
                options.temperature, options.topK, options.topP, options.minP, options.repeatPenalty, options.seed,
                options.noRepeatNgram, options.minTokens, options.beams, options.logprobs ? 1 : 0, options.alternatives));
        } finally {
            this.wasm.chat_clear();
        }
        const [n, finish, prefill, firstToken, decode] = [0, 1, 2, 3, 4].map((i) => this.wasm.result_number(i));
        const ids = new Int32Array(this.memory.buffer, place(this.wasm.result_ids()), n).slice();
        return { ids, finish: FINISHES[finish], timings: { prefill, firstToken, decode } };
    }

    forward({ ids, images }) {
        const positions = this.#withBytes(words(ids), (at) => this.#withBytes(words(images), (list) =>
            this.count(this.wasm.forward(at, ids.length, list, images.length))));
        const vocabulary = this.wasm.info_number(3);
        return { logits: this.#floats(this.wasm.output(), positions * vocabulary), positions, vocabulary };
    }

    run({ op, args, alive }) {
        this.alive = alive;
        if (!this.shared) this.wasm.cancel_reset(); // else the page did: it may have cancelled since
        return this[op](args);
    }
}

const JOBS = ['memoryNow', 'tokenize', 'detokenize', 'preprocess', 'encode', 'imageTokens', 'drop', 'generate', 'forward'];

function plainError(error) {
    const message = String(error?.message ?? error);
    const noRoom = error instanceof RangeError && /alloc|memory/i.test(message);
    return {
        message, code: CODES.includes(error?.code) ? error.code : noRoom ? 'memory' : 'state',
        isFatal: error instanceof WebAssembly.RuntimeError, // a trap: what the module holds is not to be trusted
        isStale: Boolean(error?.isStale), // what was fed is to be thrown away, and the file read anew
    };
}

function transferables(result) {
    return Object.values(result ?? {}).concat(result).flatMap((v) => (ArrayBuffer.isView(v) ? [v.buffer] : []));
}

/** Answers the messages of a page. host: { now, openFile? } */
export function serve(port, host) {
    let engine;
    const handlers = {
        init(message) {
            engine = new Engine(message, (m) => port.postMessage(m), host);
            return { stacks: engine.stacks ?? [] };
        },
        async load(message) {
            await engine.load(message);
        },
        online() {
            engine.network.dispatchEvent(new Event('online'));
        },
        job(message) {
            if (!JOBS.includes(message.op)) throw new EngineError(`no job ${message.op}`, 'argument');
            return engine.run(message);
        },
    };
    port.onmessage = async ({ data }) => {
        try {
            const result = await handlers[data.kind](data);
            port.postMessage({ id: data.id, result }, transferables(result));
        } catch (error) {
            port.postMessage({ id: data.id, error: plainError(error) });
        }
    };
}
