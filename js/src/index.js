// SPDX-License-Identifier: MIT
// tinyvlm for pages and node. The engine runs in a worker; this side queues the calls, turns pictures
// into pixels and passes on what arrives. See tinyvlm.d.ts for the contract.
import { TinyVLMError } from './errors.js';
import { fromBase64, isA, toPixels } from './images.js';
import { isThreaded, makeMemory } from './memory.js';
import { chooseModule, setFolder } from './modules.js';
import { FITS, MODULES, STAGES } from './names.js';
import { platform } from './platform.js';

export { TinyVLMError };

const DEFAULT_THREADS = 8;
const MOST_THREADS = 64;
const FOUR_GIB = 2 ** 32;

function abortReason(signal) {
    return signal.reason ?? new DOMException('The operation was aborted.', 'AbortError');
}

function deferred() {
    const d = {};
    d.promise = new Promise((resolve, reject) => Object.assign(d, { resolve, reject }));
    d.promise.catch(() => {}); // who waits hears of it
    return d;
}

/** A promise that the signal can end; what it stands for goes on. */
function orAbort(promise, signal) {
    if (!signal) return promise;
    if (signal.aborted || typeof signal.addEventListener !== 'function') {
        promise.catch(() => {}); // nobody else waits for it
        return Promise.reject(signal.aborted ? abortReason(signal) : new TypeError('signal: no AbortSignal'));
    }
    return new Promise((resolve, reject) => {
        const stop = () => reject(abortReason(signal));
        signal.addEventListener('abort', stop, { once: true });
        promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop));
    });
}

/** The worker, its helpers and the calls on their way. */
class Connection {
    constructor() {
        this.calls = new Map();
        this.nextId = 1;
        this.queue = Promise.resolve();
        this.workers = [];
        this.onEvent = () => {};
        this.dead = null;
    }

    async open({ threads, context, kv, memory, module: wanted }) {
        const { name, module } = await chooseModule(threads, wanted);
        this.module = name;
        this.threads = isThreaded(name) ? threads : 1;
        const shared = isThreaded(name);
        try {
            this.memory = shared ? makeMemory(name, memory) : null;
        } catch (cause) {
            throw new TinyVLMError('this system grants no memory for the module', 'memory', { cause });
        }
        this.flag = !shared && platform.canShare() ? new Int32Array(new SharedArrayBuffer(4)) : null;
        if (this.dead) throw this.dead;
        this.worker = this.#start('worker.js');
        this.worker.onmessage = ({ data }) => this.#receive(data);
        const { stacks } = await this.send('init', {
            name, module, memory: this.memory, limit: memory, threads: this.threads, context, kv, flag: this.flag,
        });
        for (const place of stacks) this.#start('helper.js').postMessage({ module, memory: this.memory, ...place });
    }

    #start(file) {
        let worker;
        try {
            worker = platform.startWorker(file);
        } catch (cause) {
            throw new TinyVLMError(`the engine's worker could not be started: ${cause.message}`, 'unsupported', { cause });
        }
        worker.onerror = (event) => {
            event.preventDefault?.();
            const why = event.message ?? `${file} could not be started: a content security policy may forbid it${
                globalThis.crossOriginIsolated ? ', or it lacks the Cross-Origin-Embedder-Policy that an isolated page asks for' : ''}`;
            this.close(new TinyVLMError(`the engine's worker failed: ${why}`, 'state'));
        };
        this.workers.push(worker);
        return worker;
    }

    #receive(data) {
        if (data.event) {
            this.onEvent(data);
            return;
        }
        const call = this.calls.get(data.id);
        this.calls.delete(data.id);
        const error = data.error && new TinyVLMError(data.error.message, data.error.code);
        if (error) call?.reject(error);
        else call?.resolve(data.result);
        if (data.error?.isFatal) this.close(error);
    }

    send(kind, message = {}, transfer = []) {
        if (this.dead) return Promise.reject(this.dead);
        const id = this.nextId++;
        const call = deferred();
        try {
            this.worker.postMessage({ ...message, kind, id }, transfer);
        } catch (error) { // not to be cloned
            return Promise.reject(error);
        }
        this.calls.set(id, call);
        return call.promise;
    }

    /** One job after the other; a signal stops the one that runs or takes it out of the queue. */
    job(op, args, { signal, transfer, onText, mayStop = Boolean(signal), onLate } = {}) {
        const before = this.queue;
        const done = (async () => {
            await before;
            signal?.throwIfAborted();
            return this.#run(op, args, { signal, transfer, onText, mayStop });
        })();
        this.queue = done.then((result) => { if (signal?.aborted) onLate?.(result); }, () => {});
        return orAbort(done, signal);
    }

    /** Asks the engine to stop, or takes that back, through shared memory. */
    #cancel(value) {
        if (this.dead) return;
        if (this.flag) Atomics.store(this.flag, 0, value);
        else if (this.memory) Atomics.store(new Uint8Array(this.memory.buffer), this.cancelAddress, value);
    }

    async #run(op, args, { signal, transfer, onText, mayStop }) {
        const viaBlob = mayStop && !this.flag && !this.memory;
        const alive = viaBlob ? URL.createObjectURL(new Blob(['1'])) : null;
        let thrown = null;
        const stop = () => {
            if (alive) URL.revokeObjectURL(alive);
            else this.#cancel(1);
        };
        this.#cancel(0);
        signal?.addEventListener('abort', stop, { once: true });
        this.onText = onText && ((text) => {
            try {
                if (!thrown) onText(text);
            } catch (error) {
                thrown = { error };
                stop();
            }
        });
        try {
            const result = await this.send('job', { op, args, alive }, transfer).catch((error) => {
                throw thrown ? thrown.error : error;
            });
            if (thrown) throw thrown.error;
            return result;
        } finally {
            this.onText = null;
            signal?.removeEventListener('abort', stop);
            if (alive) URL.revokeObjectURL(alive);
        }
    }

    close(reason) {
        if (this.dead) return;
        this.dead = reason;
        for (const worker of this.workers) worker.terminate();
        for (const call of this.calls.values()) call.reject(reason);
        this.calls.clear();
        this.memory = null;
    }
}

export class EncodedImage {
    #model;
    #handle;
    #uses = 0;
    #dropped = null; // once disposed of: it goes when nobody uses it

    /** @internal */
    constructor(model, handle, timings) {
        this.#model = model;
        this.#handle = handle;
        this.timings = timings;
    }

    /** @internal The picture stays until what call(handle) returns has settled. */
    async use(model, call) {
        if (this.#model !== model) throw new TinyVLMError('the picture was encoded by another model', 'argument');
        if (this.#dropped) throw new TinyVLMError('the picture was disposed of', 'argument');
        this.#uses++;
        try {
            return await call(this.#handle);
        } finally {
            this.#uses--;
            this.#drop();
        }
    }

    #drop() {
        if (this.#dropped && this.#uses === 0) this.#dropped.resolve(this.#model.dropImage(this.#handle));
    }

    tokens() {
        return this.use(this.#model, (image) => this.#model.job('header', 'imageTokens', { image }));
    }

    async dispose() {
        if (!this.#dropped) {
            this.#dropped = deferred();
            this.#drop();
        }
        await this.#dropped.promise;
    }
}

export class Tokenizer {
    #model;

    constructor(model) {
        this.#model = model;
    }

    encode(text, { special = true } = {}) {
        return this.#model.job('header', 'tokenize', { text: String(text), special });
    }

    async decode(ids, { skipSpecial = false } = {}) {
        return this.#model.job('header', 'detokenize', { ids: asIds(ids), skipSpecial });
    }
}

export class ImageProcessor {
    #model;

    constructor(model) {
        this.#model = model;
    }

    async preprocess(image, { fit = 'model' } = {}) {
        check('fit', fit, FITS.includes(fit));
        const pixels = await toPixels(image);
        return this.#model.job('header', 'preprocess', { pixels, fit }, { transfer: [pixels.data.buffer] });
    }
}

function check(name, value, isRight) {
    if (!isRight) throw new TypeError(`${name}: ${typeof value === 'string' ? `'${value}'` : value}`);
}

function asMessages(prompt, system) {
    const messages = typeof prompt === 'string' ? [{ role: 'user', content: prompt }] : [...prompt];
    if (system) messages.unshift({ role: 'system', content: system });
    const known = messages.every((m) => ['system', 'user', 'assistant'].includes(m?.role) && typeof m.content === 'string');
    if (!known || !messages.some((m) => m.role === 'user'))
        throw new TypeError('a prompt is a string or messages { role, content }, one at least by the user');
    return messages.map(({ role, content }) => ({ role, content })); // plain, and as they are now
}

function asIds(ids) {
    const all = Array.from(ids);
    for (const id of all) check('ids', id, id === (id | 0));
    return Int32Array.from(all);
}

const DEFAULTS = {
    maxTokens: 256, temperature: 0, topK: 0, topP: 1, minP: 0, repeatPenalty: 1, seed: 0, stop: [], ignoreEos: false,
};

function sampling(options) {
    const out = {};
    for (const [key, value] of Object.entries(DEFAULTS)) {
        out[key] = options[key] ?? value;
        if (typeof value === 'number') check(key, out[key], Number.isFinite(out[key]));
    }
    check('maxTokens', out.maxTokens, Number.isInteger(out.maxTokens) && out.maxTokens >= 1 && out.maxTokens < 2 ** 32);
    check('topK', out.topK, Number.isInteger(out.topK) && out.topK >= 0 && out.topK < 2 ** 32);
    check('seed', out.seed, Number.isSafeInteger(out.seed) && out.seed >= 0);
    out.stop = typeof out.stop === 'string' ? [out.stop] : out.stop;
    check('stop', out.stop, Array.isArray(out.stop) && out.stop.every((text) => typeof text === 'string' && !text.includes('\0')));
    return { ...out, stop: [...out.stop] };
}

function sourceOf(from) {
    if (isA(from, 'ArrayBuffer', 'SharedArrayBuffer')) return { bytes: new Uint8Array(from) };
    if (ArrayBuffer.isView(from)) return { bytes: new Uint8Array(from.buffer, from.byteOffset, from.byteLength) };
    if (isA(from, 'Blob', 'File')) return { blob: from };
    if (typeof from === 'string' || isA(from, 'URL')) return { url: platform.absoluteUrl(from) };
    throw new TypeError('a model is a URL, a Blob or bytes');
}

export class FastVLM {
    #connection = new Connection();
    #info = deferred();
    #reached = new Map(STAGES.map((stage) => [stage, deferred()]));
    #ready;

    static open(from, options) {
        return new FastVLM(from, options);
    }

    static async load(from, options) {
        return new FastVLM(from, options).ready;
    }

    /** @internal */
    constructor(from, options) {
        const source = sourceOf(from);
        options ??= {};
        this.progress = { loaded: 0, total: 0, stage: 'none', cached: 0, kept: 0 };
        this.tokenizer = new Tokenizer(this);
        this.processor = new ImageProcessor(this);
        this.#connection.onEvent = (event) => this.#onEvent(event, options.onProgress);
        this.#ready = orAbort(this.#load(source, options), options.signal).then(() => this, (error) => {
            this.#close(error);
            throw error;
        });
        this.#ready.catch(() => {});
    }

    get ready() {
        return this.#ready;
    }

    async #load(source, options) {
        if (options.signal?.aborted) return; // `ready` says so
        const { threads = Math.min(platform.threads(), DEFAULT_THREADS), context = 4096, kv = 'f16' } = options;
        check('threads', threads, Number.isInteger(threads) && threads >= 1 && threads <= MOST_THREADS);
        check('context', context, Number.isInteger(context) && context >= 1 && context < 2 ** 32);
        check('kv', kv, kv === 'f16' || kv === 'f32');
        check('module', options.module, options.module === undefined || MODULES.includes(options.module));
        check('memory', options.memory, options.memory === undefined || options.memory > 0);
        const memory = Math.min(FOUR_GIB, options.memory ?? FOUR_GIB);
        await this.#connection.open({ threads, context, kv, memory, module: options.module });
        await this.#connection.send('load', { ...source, memory: Math.min(memory, FOUR_GIB - 1), cache: options.cache ?? true });
    }

    #onEvent(event, onProgress) {
        if (event.event === 'token') this.#connection.onText?.(event.text);
        if (event.event === 'info') {
            this.#connection.cancelAddress = event.cancelAddress;
            this.#info.resolve({ ...event.info, module: this.#connection.module, threads: this.#connection.threads });
        }
        if (event.event === 'progress') {
            this.progress = event.progress;
            for (let i = 1; i <= STAGES.indexOf(event.progress.stage); i++) this.#reached.get(STAGES[i]).resolve();
            try {
                onProgress?.(event.progress);
            } catch (error) {
                this.#close(error); // which `ready` then says
            }
        }
    }

    #close(reason) {
        const error = reason ?? new TinyVLMError('the model was disposed of', 'state');
        this.#connection.close(error);
        this.#info.reject(error);
        for (const stage of this.#reached.values()) stage.reject(error);
    }

    /** @internal Waits for the stage, then for its turn. */
    async job(stage, op, args, options = {}) {
        await orAbort(this.#reached.get(stage).promise, options.signal);
        return this.#connection.job(op, args, options);
    }

    /** @internal */
    async dropImage(image) {
        if (!this.#connection.dead) await this.#connection.job('drop', { image }).catch(() => {});
    }

    info() {
        return this.#info.promise;
    }

    memory() {
        return this.job('header', 'memoryNow', {});
    }

    async encodeImage(image, { fit = 'model', signal } = {}) {
        if (signal?.aborted) throw abortReason(signal);
        check('fit', fit, FITS.includes(fit));
        const pixels = await orAbort(toPixels(image, signal), signal);
        const info = await orAbort(this.#info.promise, signal);
        if (!info.imageSize) throw new TinyVLMError('this model reads text only', 'unsupported');
        const stage = info.architecture === 'fastvlm' ? 'bridge' : 'decoder';
        const encoding = this.job(stage, 'encode', { pixels, fit }, {
            signal, transfer: [pixels.data.buffer], onLate: (result) => this.dropImage(result.image),
        });
        const { image: handle, timings } = await encoding;
        return new EncodedImage(this, handle, timings);
    }

    #with(encoded, call) {
        return encoded ? encoded.use(this, call) : call(0);
    }

    async generate(image, prompt, options = {}) {
        const { signal, onToken, fit } = options;
        const chosen = sampling(options);
        const asked = prompt == null ? null : asMessages(prompt, options.system);
        const own = image !== null && !(image instanceof EncodedImage);
        const encoded = own ? await this.encodeImage(image, { fit, signal }) : image;
        try {
            const messages = asked ?? asMessages((await orAbort(this.info(), signal)).describePrompt, options.system);
            const pieces = [];
            const onText = (text) => {
                pieces.push(text);
                onToken?.(text);
            };
            const result = await this.#with(encoded, (handle) =>
                this.job('decoder', 'generate', { messages, image: handle, options: chosen },
                    { signal, onText, mayStop: Boolean(signal || onToken) }));
            const seen = own ? encoded.timings : { preprocess: 0, tower: 0, bridge: 0 };
            return { ...result, text: pieces.join(''), timings: { ...seen, ...result.timings } };
        } finally {
            if (own) encoded.dispose();
        }
    }

    async infer(image, prompt, options) {
        return (await this.generate(image, prompt, options)).text;
    }

    async *stream(image, prompt, options = {}) {
        const pieces = [];
        const control = new AbortController();
        const signal = control.signal;
        const stop = () => control.abort(options.signal.reason);
        options.signal?.addEventListener('abort', stop, { once: true });
        if (options.signal?.aborted) stop();
        let wake = deferred();
        let end = null;
        const onToken = (text) => {
            pieces.push(text);
            wake.resolve();
            options.onToken?.(text);
        };
        this.generate(image, prompt, { ...options, signal, onToken }).then(
            () => { end = {}; }, (error) => { end = { error }; }).finally(() => wake.resolve());
        try {
            for (;;) {
                while (pieces.length) yield pieces.shift();
                if (end?.error) throw end.error;
                if (end) return;
                await wake.promise;
                wake = deferred();
            }
        } finally {
            options.signal?.removeEventListener('abort', stop);
            control.abort(); // who leaves the loop wants no more
        }
    }

    async forward(image, ids, { signal, fit } = {}) {
        const chosen = asIds(ids);
        const own = image !== null && !(image instanceof EncodedImage);
        const encoded = own ? await this.encodeImage(image, { fit, signal }) : image;
        try {
            return await this.#with(encoded, (handle) =>
                this.job('decoder', 'forward', { ids: chosen, image: handle }, { signal }));
        } finally {
            if (own) encoded.dispose();
        }
    }

    async dispose() {
        this.#close();
    }
}

let defaultModelUrl = null;
let defaultModel = null;

export default async function init({ wasmUrl, modelUrl } = {}) {
    if (wasmUrl) setFolder(wasmUrl);
    if (modelUrl) {
        defaultModel?.then((model) => model.dispose(), () => {});
        defaultModelUrl = modelUrl;
        defaultModel = null;
    }
    const { name } = await chooseModule(platform.canShare() ? platform.threads() : 1);
    return { module: name };
}

export async function process_image(image, prompt, options) {
    if (!defaultModelUrl) throw new TinyVLMError('process_image needs init({ modelUrl })', 'argument');
    const mine = defaultModel ??= FastVLM.load(defaultModelUrl);
    mine.catch(() => { if (defaultModel === mine) defaultModel = null; }); // the next call tries again
    const model = await mine;
    try {
        return await model.infer(image, prompt, options);
    } catch (error) {
        if (error?.code === 'state' && defaultModel === mine) { // its worker is gone, or not to be trusted
            defaultModel = null;
            model.dispose();
        }
        throw error;
    }
}

if (typeof window !== 'undefined')
    window.processImage = async (base64, prompt) => process_image(fromBase64(base64), prompt);
