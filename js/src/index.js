// SPDX-License-Identifier: MIT
// tinyvlm for pages and node. The engine runs in a worker; this side queues the calls, turns pictures
// into pixels and passes on what arrives. See tinyvlm.d.ts for the contract.
import { TinyVLMError, cancelled, wrong } from './errors.js';
import { fromText, isA, toPixels } from './images.js';
import { isThreaded, makeMemory } from './memory.js';
import { chooseModule, setFolder } from './modules.js';
import { FITS, MODULES, STAGES } from './names.js';
import { platform } from './platform.js';

export { TinyVLMError };

const PRECISIONS = ['auto', 'f32', 'int8', 'int16']; // in the order of the engine's tvlm_precision
const LOAD_OPTIONS = ['onProgress', 'signal', 'threads', 'cache', 'memory', 'context', 'kv', 'beams', 'precision', 'module', 'idleTimeout', 'retries'];
const RESTARTS = 3; // of a download whose file changes
const DEFAULT_THREADS = 8;
const MOST_THREADS = 64;
const FOUR_GIB = 2 ** 32;

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
        return Promise.reject(signal.aborted ? cancelled(signal) : wrong('signal: no AbortSignal'));
    }
    return new Promise((resolve, reject) => {
        const stop = () => reject(cancelled(signal));
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
        this.stale = null; // why what was loaded is to be thrown away
    }

    async open({ threads, context, kv, beams, memory, module: wanted }) {
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
            name, module, memory: this.memory, limit: memory, threads: this.threads, context, kv, beams, flag: this.flag,
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
        if (data.error?.isFatal) this.close(error);
        if (data.error?.isStale) this.stale = error;
        if (error) call?.reject(error);
        else call?.resolve(data.result);
    }

    send(kind, message = {}, transfer = []) {
        if (this.dead) return Promise.reject(this.dead);
        const id = this.nextId++;
        const call = deferred();
        try {
            this.worker.postMessage({ ...message, kind, id }, transfer);
        } catch (cause) { // not to be cloned
            return Promise.reject(wrong(cause.message, { cause }));
        }
        this.calls.set(id, call);
        return call.promise;
    }

    /** Loads the model; the worker hears when the network comes back. */
    async load(message) {
        const tell = () => { if (!this.dead) this.worker.postMessage({ kind: 'online' }); };
        globalThis.addEventListener?.('online', tell);
        try {
            await this.send('load', message);
        } finally {
            globalThis.removeEventListener?.('online', tell);
        }
    }

    /** One job after the other; a signal stops the one that runs or takes it out of the queue. */
    job(op, args, { signal, transfer, onToken, mayStop = Boolean(signal), onLate } = {}) {
        const before = this.queue;
        const done = (async () => {
            await before;
            if (signal?.aborted) throw cancelled(signal);
            return this.#run(op, args, { signal, transfer, onToken, mayStop });
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

    async #run(op, args, { signal, transfer, onToken, mayStop }) {
        const viaBlob = mayStop && !this.flag && !this.memory;
        const alive = viaBlob ? URL.createObjectURL(new Blob(['1'])) : null;
        let thrown = null;
        const stop = () => {
            if (alive) URL.revokeObjectURL(alive);
            else this.#cancel(1);
        };
        this.#cancel(0);
        signal?.addEventListener('abort', stop, { once: true });
        this.onToken = onToken && ((token) => {
            try {
                if (!thrown) onToken(token);
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
            this.onToken = null;
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
    #era;
    #handle;
    #uses = 0;
    #dropped = null; // once disposed of: it goes when nobody uses it

    /** @internal */
    constructor(model, era, handle, timings) {
        this.#model = model;
        this.#era = era;
        this.#handle = handle;
        this.timings = timings;
    }

    /** @internal The picture stays until what call(handle) returns has settled. */
    async use(model, call) {
        if (this.#model !== model) throw wrong('the image was encoded by another model');
        if (this.#dropped) throw wrong('the image was disposed of');
        model.checkEra(this.#era);
        this.#uses++;
        try {
            return await call(this.#handle);
        } finally {
            this.#uses--;
            this.#drop();
        }
    }

    #drop() {
        if (this.#dropped && this.#uses === 0) this.#dropped.resolve(this.#model.dropImage(this.#handle, this.#era));
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

    async encode(text, options) {
        check('text', text, typeof text === 'string');
        const { special = true } = known(options, ['special']);
        return this.#model.job('header', 'tokenize', { text, special });
    }

    async decode(ids, options) {
        const { skipSpecial = false } = known(options, ['skipSpecial']);
        return this.#model.job('header', 'detokenize', { ids: asIds(ids), skipSpecial });
    }
}

export class ImageProcessor {
    #model;

    constructor(model) {
        this.#model = model;
    }

    async preprocess(image, options) {
        const { fit = 'model' } = known(options, ['fit']);
        const pixels = await toPixels(image);
        return this.#model.job('header', 'preprocess', { pixels, fit }, { transfer: [pixels.data.buffer] });
    }
}

function check(name, value, isRight) {
    if (!isRight) throw wrong(`${name}: ${typeof value === 'string' ? `'${value}'` : inWords(value)}`);
}

function inWords(value) {
    try {
        return String(value);
    } catch { // an object without a prototype, say
        return typeof value;
    }
}

const isFunction = (value) => typeof value === 'function';
const isBoolean = (value) => typeof value === 'boolean';

/** What holds for options of the same name everywhere; others are checked where they are used. */
const CHECKS = {
    onProgress: isFunction, onToken: isFunction, cache: isBoolean, ignoreEos: isBoolean, lookup: isBoolean, logprobs: isBoolean, special: isBoolean, skipSpecial: isBoolean,
    fit: (value) => FITS.includes(value), system: (value) => typeof value === 'string',
};

/** The options, none of which is unknown. */
function known(options, names) {
    if (options === undefined || options === null) return {};
    check('options', options, typeof options === 'object');
    for (const [name, value] of Object.entries(options)) {
        if (!names.includes(name)) throw wrong(`no option '${name}': there are ${names.join(', ')}`);
        if (value !== undefined && value !== null) check(name, value, !CHECKS[name] || CHECKS[name](value));
    }
    return options;
}

/** Parts of a message as its text, and where in it the images stand. */
function asContent(content) {
    if (typeof content === 'string') return { content, places: null };
    const places = [];
    let text = '';
    for (const part of content) {
        const isText = part?.type === 'text' && typeof part.text === 'string';
        if (!isText && part?.type !== 'image') return null;
        for (const name of Object.keys(part))
            if (name !== 'type' && !(isText && name === 'text')) throw wrong(`no '${name}' in a part of type '${part.type}'`);
        if (isText) text += part.text;
        else places.push(text.length);
    }
    return { content: text, places };
}

/** A conversation, plain and as it is now. */
function asMessages(prompt, system) {
    const isList = Array.isArray(prompt);
    const messages = isList ? [...prompt] : [{ role: 'user', content: prompt ?? '' }];
    if (system) messages.unshift({ role: 'system', content: system });
    const isKnown = messages.every((m) => ['system', 'user', 'assistant'].includes(m?.role)
        && (typeof m.content === 'string' || Array.isArray(m.content)));
    const contents = isKnown ? messages.map((m) => asContent(m.content)) : [null];
    if (contents.includes(null) || !messages.some((m) => m.role === 'user'))
        throw wrong('a prompt is a string or messages { role, content }, one at least by the user; content is a string or a list of '
            + "{ type: 'text', text } and { type: 'image' }");
    return messages.map(({ role }, i) => ({ role, ...contents[i] }));
}

/** How many of the images belong to each message: as its parts say or, where none does, all to the first user's. */
function placed(messages, count) {
    const n = messages.reduce((sum, { places }) => sum + (places?.length ?? 0), 0);
    if (n && n !== count) throw wrong(`the messages have ${n} places for images, ${count} were given`);
    const first = messages.findIndex((m) => m.role === 'user');
    return messages.map((m, i) => (n ? { ...m, count: m.places?.length ?? 0 } : { ...m, places: null, count: i === first ? count : 0 }));
}

/** What is asked about a picture: nothing, or the bare word "describe", is the model's own question for a description. */
function questionOf(text, describePrompt) {
    return describePrompt && /^[\s\p{P}]*(describe)?[\s\p{P}]*$/iu.test(text) ? describePrompt : text;
}

function asQuestions(messages, isSeen, { describePrompt }) {
    const asked = messages.map((m) => {
        const isBlank = !m.content.trim();
        if (m.role !== 'user' || !isSeen || (m.places?.length && !isBlank)) return m;
        return { ...m, content: questionOf(m.content, describePrompt), places: m.places?.map(() => 0) };
    });
    if (asked.some(({ role, content }) => role === 'user' && !content.trim())) throw wrong('the question is empty');
    return asked;
}

function asIds(ids) {
    check('ids', ids, typeof ids === 'object' && ids !== null && Number.isInteger(ids.length));
    const all = Array.from(ids);
    for (const id of all) check('ids', id, id === (id | 0));
    return Int32Array.from(all);
}

const DEFAULTS = {
    maxTokens: 256, temperature: 0, topK: 0, topP: 1, minP: 0, repeatPenalty: 1, seed: 0, stop: [], ignoreEos: false, lookup: false,
    noRepeatNgram: 0, minTokens: 1, beams: 0,
    logprobs: false, alternatives: 0,
};
const MOST_ALTERNATIVES = 20;
const MOST_BEAMS = 8;
const TOKEN_OPTIONS = [...Object.keys(DEFAULTS), 'signal', 'system', 'fit'];
const GENERATE_OPTIONS = TOKEN_OPTIONS.filter((name) => !['logprobs', 'alternatives'].includes(name)).concat('onToken');
const ENCODE_OPTIONS = ['fit', 'signal'];

const isWidth = (value) => Number.isInteger(value) && value >= 0 && value <= MOST_BEAMS; // 0: the model's own choice

function sampling(options) {
    const out = {};
    for (const [key, value] of Object.entries(DEFAULTS)) {
        out[key] = options[key] ?? value;
        if (typeof value === 'number') check(key, out[key], Number.isFinite(out[key]));
    }
    check('maxTokens', out.maxTokens, Number.isInteger(out.maxTokens) && out.maxTokens >= 1 && out.maxTokens < 2 ** 32);
    for (const name of ['topK', 'noRepeatNgram', 'minTokens'])
        check(name, out[name], Number.isInteger(out[name]) && out[name] >= 0 && out[name] < 2 ** 32);
    check('beams', out.beams, isWidth(out.beams));
    check('alternatives', out.alternatives,
        Number.isInteger(out.alternatives) && out.alternatives >= 0 && out.alternatives <= MOST_ALTERNATIVES);
    if (out.alternatives) out.logprobs = true;
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
    throw wrong('a model is a URL, a Blob or bytes');
}

/** What pictures took that were encoded for one answer. */
function totalOf(images) {
    const total = { preprocess: 0, tower: 0, bridge: 0 };
    for (const { timings } of images) for (const part of Object.keys(total)) total[part] += timings[part];
    return total;
}

export class FastVLM {
    #connection = new Connection();
    #info = deferred();
    #reached = new Map(STAGES.map((stage) => [stage, deferred()]));
    #restarts = 0;
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
        this.progress = { loaded: 0, total: 0, stage: 'none', cached: 0, kept: 0, retry: null, restarts: 0 };
        this.tokenizer = new Tokenizer(this);
        this.processor = new ImageProcessor(this);
        this.#ready = orAbort(this.#load(source, options), options?.signal).then(() => this, (error) => {
            this.#close(error);
            throw error;
        });
        this.#ready.catch(() => {});
    }

    get ready() {
        return this.#ready;
    }

    async #load(source, options) {
        const { signal, onProgress, threads = Math.min(platform.threads(), DEFAULT_THREADS), context = 4096, kv = 'f16',
            beams = 0, precision = 'auto', module, cache, idleTimeout = 20_000, retries, memory: most } = known(options, LOAD_OPTIONS);
        if (signal?.aborted) return; // `ready` says so
        check('threads', threads, Number.isInteger(threads) && threads >= 1 && threads <= MOST_THREADS);
        check('context', context, Number.isInteger(context) && context >= 1 && context < 2 ** 32);
        check('kv', kv, kv === 'f16' || kv === 'f32');
        check('beams', beams, isWidth(beams));
        check('precision', precision, PRECISIONS.includes(precision));
        check('module', module, module === undefined || MODULES.includes(module));
        check('memory', most, most === undefined || most > 0);
        check('idleTimeout', idleTimeout, idleTimeout > 0);
        check('retries', retries, retries === undefined || retries >= 0);
        const memory = Math.min(FOUR_GIB, most ?? FOUR_GIB);
        const message = { ...source, precision: PRECISIONS.indexOf(precision), memory: Math.min(memory, FOUR_GIB - 1), cache: cache ?? true, idleTimeout, retries };
        for (;;) {
            const connection = this.#connection;
            connection.onEvent = (event) => this.#onEvent(event, onProgress);
            try {
                await connection.open({ threads, context, kv, beams, memory, module });
                return await connection.load(message);
            } catch (error) {
                if (!connection.stale || connection.dead || this.#restarts === RESTARTS) throw error;
                this.#restart(error);
            }
        }
    }

    /** The file changed while it was read: what was loaded of it goes, and with it what was made of that. */
    #restart({ message, code }) {
        this.#restarts++;
        this.#connection.close(new TinyVLMError(`${message}; it is loaded anew: ask again`, code));
        this.#connection = new Connection();
        if (this.progress.stage === 'none') return;
        this.#info = deferred();
        for (let i = 1; i <= STAGES.indexOf(this.progress.stage); i++) this.#reached.set(STAGES[i], deferred());
    }

    #onEvent(event, onProgress) {
        if (event.event === 'token') this.#connection.onToken?.(event.token);
        if (event.event === 'info') {
            this.#connection.cancelAddress = event.cancelAddress;
            this.#info.resolve({ ...event.info, module: this.#connection.module, threads: this.#connection.threads });
        }
        if (event.event === 'progress') {
            this.progress = { ...event.progress, restarts: this.#restarts };
            for (let i = 1; i <= STAGES.indexOf(event.progress.stage); i++) this.#reached.get(STAGES[i]).resolve();
            try {
                onProgress?.(this.progress);
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
        const { era } = this;
        await orAbort(this.#reached.get(stage).promise, options.signal);
        if (args.image || args.images?.length) this.checkEra(era);
        return this.#connection.job(op, args, options);
    }

    /** @internal Which module holds what was encoded. */
    get era() {
        return this.#restarts;
    }

    /** @internal */
    checkEra(era) {
        if (era !== this.era) throw wrong('the image was encoded before the model file changed: encode it again');
    }

    /** @internal */
    async dropImage(image, era) {
        if (era === this.era && !this.#connection.dead) await this.#connection.job('drop', { image }).catch(() => {});
    }

    info() {
        return this.#info.promise;
    }

    memory() {
        return this.job('header', 'memoryNow', {});
    }

    async encodeImage(image, options) {
        const { fit = 'model', signal } = known(options, ENCODE_OPTIONS);
        if (signal?.aborted) throw cancelled(signal);
        const pixels = await orAbort(toPixels(image, signal), signal);
        const info = await orAbort(this.#info.promise, signal);
        if (!info.imageSize) throw new TinyVLMError('this model reads text only: give null for the image', 'unsupported');
        const stage = info.architecture === 'fastvlm' ? 'bridge' : 'decoder';
        const encoding = this.job(stage, 'encode', { pixels, fit }, {
            signal, transfer: [pixels.data.buffer], onLate: (result) => this.dropImage(result.image, this.era),
        });
        const { image: handle, timings } = await encoding;
        return new EncodedImage(this, this.era, handle, timings);
    }

    /** call(images, handles) with the pictures encoded; those that were not before go again. */
    async #with(image, options, call) {
        const sources = image === null ? [] : Array.isArray(image) ? [...image] : [image];
        if (Array.isArray(image) && !image.length) throw wrong('no image in the list: give null to ask without one');
        const own = [];
        const images = [];
        const hold = (handles) => (handles.length === images.length ? call(images.filter((one) => own.includes(one)), handles)
            : images[handles.length].use(this, (handle) => hold([...handles, handle])));
        try {
            for (const source of sources) {
                const isOwn = !(source instanceof EncodedImage);
                const encoded = isOwn ? await this.encodeImage(source, options) : source;
                if (isOwn) own.push(encoded);
                images.push(encoded);
            }
            return await hold([]);
        } finally {
            for (const encoded of own) encoded.dispose();
        }
    }

    async #answer(image, prompt, { signal, fit, system, ...rest }, onToken) {
        const chosen = sampling(rest);
        const asked = asMessages(prompt, system);
        return this.#with(image, { fit, signal }, async (own, images) => {
            const questions = asQuestions(asked, images.length > 0, await orAbort(this.info(), signal));
            const messages = placed(questions, images.length);
            const pieces = [];
            const keep = (token) => {
                pieces.push(token.text);
                onToken?.(token);
            };
            const result = await this.job('decoder', 'generate', { messages, images, options: chosen },
                { signal, onToken: keep, mayStop: Boolean(signal || onToken) });
            return { ...result, text: pieces.join(''), timings: { ...totalOf(own), ...result.timings } };
        });
    }

    async generate(image, prompt, options) {
        const { onToken, ...rest } = known(options, GENERATE_OPTIONS);
        return this.#answer(image, prompt, rest, onToken && (({ text }) => { if (text) onToken(text); }));
    }

    async infer(image, prompt, options) {
        return (await this.generate(image, prompt, options)).text;
    }

    async *stream(image, prompt, options) {
        const { onToken, ...rest } = known(options, GENERATE_OPTIONS);
        for await (const { text } of this.#tokens(image, prompt, rest)) {
            if (!text) continue;
            onToken?.(text);
            yield text;
        }
    }

    async *streamTokens(image, prompt, options) {
        yield* this.#tokens(image, prompt, known(options, TOKEN_OPTIONS));
    }

    async *#tokens(image, prompt, options) {
        const tokens = [];
        const control = new AbortController();
        const signal = control.signal;
        const stop = () => control.abort(options.signal.reason);
        options.signal?.addEventListener('abort', stop, { once: true });
        if (options.signal?.aborted) stop();
        let wake = deferred();
        let end = null;
        const onToken = (token) => {
            tokens.push(token);
            wake.resolve();
        };
        this.#answer(image, prompt, { ...options, signal }, onToken).then(
            () => { end = {}; }, (error) => { end = { error }; }).finally(() => wake.resolve());
        try {
            for (;;) {
                while (tokens.length) yield tokens.shift();
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

    async forward(image, ids, options) {
        const { signal, fit } = known(options, ENCODE_OPTIONS);
        const chosen = asIds(ids);
        return this.#with(image, { fit, signal }, (own, images) =>
            this.job('decoder', 'forward', { ids: chosen, images }, { signal }));
    }

    async dispose() {
        this.#close();
    }
}

let defaultModelUrl = null;
let defaultModel = null;

export default async function init(options) {
    const { wasmUrl, modelUrl } = known(options, ['wasmUrl', 'modelUrl']);
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
    if (!defaultModelUrl) throw wrong('process_image needs init({ modelUrl })');
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

/** A function, or the method at a path as 'AndroidCamera.onResult'. */
function callbackOf(callback) {
    if (isFunction(callback)) return callback;
    const names = String(callback).split('.');
    const holder = names.slice(0, -1).reduce((from, name) => from?.[name], globalThis);
    const method = holder?.[names.at(-1)];
    check('callback', callback, isFunction(method));
    return (text) => holder[names.at(-1)](text); // methods of a host know their holder only
}

async function processImage(base64, prompt) {
    return process_image(fromText(base64), prompt);
}

if (typeof window !== 'undefined') {
    window.processImage = (base64, prompt, callback) => {
        const isAwaited = callback === undefined || callback === null;
        const tell = isAwaited ? null : callbackOf(callback);
        const answer = processImage(base64, prompt);
        if (isAwaited) return answer;
        answer.then((text) => ({ text }), ({ message, code = 'state' }) => ({ error: { code, message } }))
            .then((result) => tell(JSON.stringify(result)));
        return undefined; // the host would make text of it
    };
}
