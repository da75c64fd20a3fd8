// SPDX-License-Identifier: MIT
// The package in node: the same answers as the native engine, and what goes wrong is said.
import assert from 'node:assert/strict';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import path from 'node:path';
import test from 'node:test';

import { serve } from '../../js/src/engine.js';
import init, { FastVLM, TinyVLMError } from '../../js/src/node.js';
import {
    HAS_RELAXED, MODEL, PICTURE_FILE, ROOT, WORK, asNumbers, golden, goldenModel, native, nativeDump, readPpm, relativeError,
    smolvlmModel,
} from './common.mjs';
import { decoder, gguf } from './gguf.mjs';
import { greedy } from './greedy.mjs';
import { leastOf } from './least.mjs';

const picture = readPpm(PICTURE_FILE);
const MODULES = ['scalar', 'simd128', 'simd128-threads', ...(HAS_RELAXED ? ['relaxed', 'relaxed-threads'] : [])];
const PROMPT = 'What is in the picture?';

function load(file, module, options = {}) {
    return FastVLM.load(file, { module, threads: module?.endsWith('threads') ? 2 : 1, ...options });
}

async function fails(promise, code, pattern) {
    await assert.rejects(promise, (error) => {
        assert.ok(error instanceof TinyVLMError, String(error));
        assert.equal(error.code, code);
        assert.match(error.message, pattern);
        return true;
    });
}

test('the best module is found by a probe', async () => {
    const { module } = await init();
    assert.equal(module, HAS_RELAXED ? 'relaxed-threads' : 'simd128-threads');
});

for (const module of MODULES) {
    test(`the golden FastVLM, ${module}`, async () => {
        const want = golden();
        const model = await load(goldenModel(), module, { context: 256, kv: 'f32', precision: 'f32' });
        const pixels = await model.processor.preprocess(picture);
        const planes = want.pixel_values.data; // [3][S][S]
        const area = pixels.size ** 2;
        for (let i = 0; i < area * 3; i++)
            assert.equal(pixels.data[i], planes[(i % 3) * area + Math.floor(i / 3)]);
        const ids = asNumbers(want.input_ids.data);
        const got = await greedy(model, picture, ids, want.generated_ids.data.length);
        assert.deepEqual([got.positions, got.vocabulary], want.logits.shape);
        const error = relativeError(got.logits, want.logits.data);
        assert.ok(error < 2e-5, `logits differ by ${error}`);
        assert.deepEqual(got.ids, asNumbers(want.generated_ids.data));
        await model.dispose();
    });

    test(`Tiny-VLM as natively, ${module}`, async () => {
        const want = nativeDump(MODEL, PICTURE_FILE, PROMPT, '--new-tokens', '12', '--threads', '1');
        const model = await load(MODEL, module, { kv: 'f32', precision: 'f32' });
        assert.deepEqual(asNumbers(await model.tokenizer.encode('a photo <|im_end|>')),
            asNumbers(await model.tokenizer.encode('a photo ')).concat(asNumbers(await model.tokenizer.encode('<|im_end|>'))));
        const ids = asNumbers(want.input_ids.data);
        const { logits } = await model.forward(picture, ids);
        const error = relativeError(logits, want.logits.data);
        assert.ok(error < 2e-5, `logits differ by ${error}`);
        const { ids: got, text } = await model.generate(picture, PROMPT, { maxTokens: 12, ignoreEos: true });
        assert.deepEqual(asNumbers(got), asNumbers(want.generated_ids.data));
        assert.equal(text.trim(), (await model.tokenizer.decode(got, { skipSpecial: true })).trim());
        const guessed = await model.generate(picture, PROMPT, { maxTokens: 12, ignoreEos: true, lookup: true });
        assert.deepEqual(guessed.ids, got);
        await model.dispose();
    });
}

test('beam search says what the program says', async () => {
    const want = JSON.parse(native('ask', '-m', MODEL, '--json', '--kv', 'f32', '--precision', 'f32', '-n', '16', '--beams', '4',
        '--no-repeat-ngram', '2', PICTURE_FILE, PROMPT)).text;
    const model = await load(MODEL, 'simd128', { kv: 'f32', precision: 'f32', beams: 4 });
    const heard = [];
    const said = await model.generate(picture, PROMPT, { maxTokens: 16, beams: 4, noRepeatNgram: 2, onToken: (text) => heard.push(text) });
    assert.equal(said.text, want);
    assert.equal(heard.join(''), want);
    assert.equal(new Set(Array.from(said.ids.slice(1), (id, i) => `${said.ids[i]} ${id}`)).size, said.ids.length - 1);
    await fails(model.infer(picture, PROMPT, { beams: 5 }), 'argument', /beams is 5, the session's max_beams 4/);
    await fails(model.infer(picture, PROMPT, { beams: 2, temperature: 1 }), 'argument', /goes without sampling.temperature/);
    const one = await load(MODEL, 'simd128', { kv: 'f32', precision: 'f32', beams: 1 });
    assert.ok((await model.memory()).session > 3 * (await one.memory()).session);
    await one.dispose();
    await model.dispose();
});

test('tokens, and how likely they were', async () => {
    const want = nativeDump(MODEL, PICTURE_FILE, PROMPT, '--new-tokens', '12', '--threads', '1');
    const vocabulary = want.logits.shape[1];
    const last = Array.from(want.logits.data.subarray(want.logits.data.length - vocabulary));
    const most = Math.max(...last);
    const total = most + Math.log(last.reduce((sum, v) => sum + Math.exp(v - most), 0));
    const model = await load(MODEL, 'simd128', { kv: 'f32', precision: 'f32' });
    const options = { maxTokens: 12, ignoreEos: true };
    const whole = await model.generate(picture, PROMPT, options);
    const tokens = [];
    for await (const token of model.streamTokens(picture, PROMPT, { ...options, alternatives: 3 })) tokens.push(token);
    assert.deepEqual(tokens.map(({ id }) => id), asNumbers(want.generated_ids.data));
    assert.equal(tokens.map(({ text }) => text).join(''), whole.text);
    assert.deepEqual(tokens.map(({ finish }) => finish), [...Array(11).fill(null), 'length']);
    for (const { id, logprob, alternatives } of tokens) {
        assert.equal(alternatives.length, 3);
        assert.deepEqual(alternatives[0], { id, logprob }); // greedy
        assert.ok(logprob <= 0 && alternatives[1].logprob <= logprob && alternatives[2].logprob <= alternatives[1].logprob);
    }
    for (const { id, logprob } of tokens[0].alternatives) assert.ok(Math.abs(logprob - (last[id] - total)) < 1e-4);
    const plain = [];
    for await (const token of model.streamTokens(picture, PROMPT, options)) plain.push(token);
    assert.deepEqual(plain, tokens.map(({ id, text, finish }) => ({ id, text, finish })));
    for await (const { logprob, alternatives } of model.streamTokens(picture, PROMPT, { maxTokens: 1, logprobs: true }))
        assert.ok(logprob <= 0 && alternatives.length === 0);
    const drain = async (more) => { for await (const token of model.streamTokens(picture, PROMPT, more)) assert.ok(token); };
    await fails(drain({ alternatives: 21 }), 'argument', /alternatives/);
    await fails(drain({ logprobs: 1 }), 'argument', /logprobs/);
    await fails(drain({ onToken: () => {} }), 'argument', /no option 'onToken'/);
    await fails(model.generate(picture, PROMPT, { logprobs: true }), 'argument', /no option 'logprobs'/);
    await model.dispose();
});

test('images between texts', async () => {
    const model = await load(goldenModel(), 'simd128', { context: 256, kv: 'f32', precision: 'f32' });
    const image = await model.encodeImage(picture);
    const encode = async (text) => asNumbers(await model.tokenizer.encode(text));
    const head = '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n';
    const tail = '<|im_end|>\n<|im_start|>assistant\n';
    const asked = async (content) => asNumbers((await model.generate(image, [{ role: 'user', content }], { maxTokens: 3, ignoreEos: true })).ids);
    const text = (words) => ({ type: 'text', text: words });
    for (const [before, after] of [['Caf\u00e9 \u{1f600}', 'what?'], ['', 'what?'], ['what?', '']]) {
        const ids = [...await encode(head + before), -200, ...await encode(after + tail)];
        const { ids: want } = await greedy(model, picture, ids, 3);
        assert.deepEqual(await asked([text(before), { type: 'image' }, text(after)]), want);
    }
    assert.deepEqual(await asked([{ type: 'image' }]), await asked([text(''), { type: 'image' }, text(' ')]));
    assert.deepEqual(await asked([text('what'), text('?')]), await asked('what?'));
    await fails(asked([{ type: 'image' }, { type: 'image' }, text('a')]), 'argument', /2 places for images, 1 were given/);
    await fails(asked([{ type: 'video' }]), 'argument', /content is a string or a list/);
    await fails(asked([{ type: 'text' }]), 'argument', /content is a string or a list/);
    await fails(asked([{ type: 'image', image: picture }, text('a')]), 'argument', /no 'image' in a part of type 'image'/);
    await model.dispose();
});

test('images that are split into frames', async () => {
    const file = smolvlmModel();
    const want = nativeDump(file, PICTURE_FILE, PROMPT, '--new-tokens', '8', '--threads', '1');
    const model = await load(file, 'simd128', { kv: 'f32', precision: 'f32' });
    const { data, size, frames } = await model.processor.preprocess(picture);
    assert.deepEqual([frames, 3, size, size], want.pixel_values.shape);
    const area = size ** 2;
    for (let i = 0; i < data.length; i++) {
        const [frame, within] = [Math.floor(i / (3 * area)), i % (3 * area)];
        assert.equal(data[i], want.pixel_values.data[(frame * 3 + within % 3) * area + Math.floor(within / 3)]);
    }
    assert.equal((await model.processor.preprocess(picture, { fit: 'squash' })).frames, 1);
    const { ids } = await model.generate(picture, PROMPT, { maxTokens: 8, ignoreEos: true });
    assert.deepEqual(asNumbers(ids), asNumbers(want.generated_ids.data));
    await model.dispose();
});

test('every precision', async () => {
    const ids = asNumbers(golden().input_ids.data);
    const errors = {};
    let exact;
    for (const precision of ['f32', 'auto', 'int16', 'int8']) {
        const model = await load(goldenModel(), 'simd128', { context: 256, kv: 'f32', precision });
        const { logits } = await model.forward(picture, ids);
        exact ??= logits;
        errors[precision] = relativeError(logits, exact);
        await model.dispose();
    }
    assert.equal(errors.auto, errors.int16); // the file's weights are floats
    assert.ok(errors.int16 > 0 && errors.int16 < 2e-3, `int16 is off by ${errors.int16}`);
    assert.ok(errors.int8 > errors.int16 && errors.int8 < 0.1, `int8 is off by ${errors.int8}`);
});

test('threads do not change a bit', async () => {
    const one = await load(MODEL, 'simd128');
    const two = await load(MODEL, 'simd128-threads', { threads: 3 });
    const ids = await one.tokenizer.encode('<|im_start|>Describe the image.<|im_end|>');
    const [a, b] = [await one.forward(picture, ids), await two.forward(picture, ids)];
    assert.deepEqual(a.logits, b.logits);
    await one.dispose();
    await two.dispose();
});

test('one picture, many questions; streams; conversations', async () => {
    const model = await load(MODEL);
    const image = await model.encodeImage(picture);
    const whole = await model.infer(image, PROMPT);
    let streamed = '';
    for await (const text of model.stream(image, PROMPT)) streamed += text;
    assert.equal(streamed, whole);
    const { timings } = await model.generate(image, 'Is there a dog in the picture?');
    assert.equal(timings.tower, 0);
    const turns = [{ role: 'user', content: 'Is it day?' }, { role: 'assistant', content: 'yes' },
        { role: 'user', content: 'Is it night?' }];
    assert.ok((await model.infer(image, turns)).length > 0);
    await image.dispose();
    await fails(model.infer(image, PROMPT), 'argument', /disposed/);
    await model.dispose();
    await fails(model.infer(picture), 'state', /disposed/);
});

const LONG = { maxTokens: 400, ignoreEos: true };

/** How many tokens of a long answer were heard when it was stopped; abortWhen(control, heard) is called at first and at each token. */
async function heardOf(model, abortWhen) {
    const control = new AbortController();
    let heard = 0;
    const onToken = () => abortWhen(control, ++heard);
    const answer = model.infer(picture, PROMPT, { ...LONG, onToken, signal: control.signal });
    abortWhen(control, 0);
    const isLate = await answer.then(() => true, (error) => {
        assert.equal(error.name, 'AbortError');
        return false;
    });
    await model.tokenizer.encode('x'); // waits until the worker is free
    return isLate ? Infinity : heard;
}

/** Calls abort() after so many turns of the event loop. */
function abortSoon(control, turns) {
    if (turns === 0) control.abort();
    else setImmediate(abortSoon, control, turns - 1);
}

test('a signal stops an answer, and the next one is whole', async () => {
    for (const module of MODULES) {
        const model = await load(MODEL, module);
        const whole = await model.infer(picture);
        const ways = [0, 1, 2, 3, 4].map((turns) => (control, heard) => { if (!heard) abortSoon(control, turns); }); // before the first token
        for (const abortWhen of [...ways, (control, heard) => { if (heard === 3) control.abort(); }]) {
            const heard = await leastOf(30, () => heardOf(model, abortWhen));
            assert.ok(heard < 30, `${heard} of 400 tokens`); // it stopped, rather than only being ignored
            assert.equal(await model.infer(picture), whole);
        }
        await model.dispose();
    }
});

async function timeOf(work) {
    const begin = performance.now();
    await work();
    return performance.now() - begin;
}

test('leaving a stream early stops it', async () => {
    const model = await load(MODEL);
    const whole = await timeOf(() => model.infer(picture, PROMPT, LONG));
    const left = await leastOf(whole / 2, () => timeOf(async () => {
        for await (const text of model.stream(picture, PROMPT, LONG)) {
            assert.ok(text.length > 0);
            break;
        }
        await model.tokenizer.encode('x'); // waits until the worker is free
    }));
    assert.ok(left < whole / 2, `free again after ${left} ms of ${whole}`);
    await model.dispose();
});

test('what a callback throws ends the call, and nothing else', async () => {
    const model = await load(MODEL);
    const whole = await model.infer(picture);
    const onToken = () => { throw new Error('mine'); };
    await assert.rejects(model.infer(picture, PROMPT, { maxTokens: 400, ignoreEos: true, onToken }), { message: 'mine' });
    await assert.rejects(async () => {
        for await (const text of model.stream(picture, PROMPT, { onToken })) assert.ok(text);
    }, { message: 'mine' });
    assert.equal(await model.infer(picture), whole);
    await model.dispose();
    const onProgress = () => { throw new Error('mine too'); };
    await assert.rejects(FastVLM.load(MODEL, { onProgress }), { message: 'mine too' });
});

test('a signal or dispose() at any moment', async () => {
    await assert.rejects(FastVLM.load(MODEL, { signal: AbortSignal.abort() }), { name: 'AbortError' });
    for (const [module, isEarly] of MODULES.flatMap((name) => [[name, false], [name, true]])) {
        const model = await load(MODEL, module);
        const control = new AbortController();
        const end = () => {
            model.dispose();
            control.abort();
        };
        // the answer is not over before its first token is heard
        const answer = model.infer(picture, PROMPT, { onToken: end, signal: control.signal });
        if (isEarly) setImmediate(end);
        await assert.rejects(answer, (error) => error.name === 'AbortError' || error.code === 'state');
    }
});

test('a signal ends the wait for a picture', async () => {
    const server = createServer(() => {}); // never answers
    await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
    const url = `http://127.0.0.1:${server.address().port}/x.jpg`;
    const model = await load(MODEL);
    await assert.rejects(model.infer(url, PROMPT, { signal: AbortSignal.timeout(50) }), { name: 'TimeoutError' });
    server.closeAllConnections();
    server.close();
    await fails(model.infer(url, PROMPT), 'io', /x\.jpg: /);
    await model.dispose();
});

test('a prompt is taken as it is at the call', async () => {
    const model = await load(MODEL);
    const whole = await model.infer(picture, PROMPT, { stop: ['x'] });
    const turns = [{ role: 'user', content: PROMPT, seen: () => {} }].map((turn) => new Proxy(turn, {}));
    const answer = model.infer(picture, turns, { stop: new Proxy(['x'], {}) });
    turns.push({ role: 'assistant', content: '' });
    turns[0].content = 'What?';
    assert.equal(await answer, whole);
    const ids = [1, 2, 3];
    const logits = model.forward(picture, ids);
    ids[0] = 9;
    assert.deepEqual(await logits, await model.forward(picture, [1, 2, 3]));
    const text = '\ufeffa photo';
    assert.equal(await model.tokenizer.decode(await model.tokenizer.encode(text)), text);
    await model.dispose();
});

test('a module that trapped is not used again', async () => {
    const model = await load(MODEL, 'simd128');
    await model.dropImage(0xffff_fff0, model.era); // no picture
    await fails(model.infer(picture), 'state', /out of bounds/);
});

test('a picture stays while it is asked about', async () => {
    const model = FastVLM.open(MODEL, { threads: 1 });
    const image = await model.encodeImage(picture);
    const whole = await model.infer(image, PROMPT);
    const answers = [model.infer(image, PROMPT), model.infer(image, PROMPT)];
    const gone = image.dispose();
    const meadow = Uint8Array.from({ length: 300 }, (_, i) => (i % 3 === 1 ? 160 : 0));
    answers.push(model.infer(await model.encodeImage({ data: meadow, width: 10, height: 10 }), PROMPT));
    const [first, second, green] = await Promise.all(answers);
    assert.deepEqual([first, second], [whole, whole]);
    assert.notEqual(green, whole);
    await gone;
    await image.dispose();
    await model.dispose();
});

test('a memory beyond 2 GiB', async () => {
    const name = 'simd128-threads';
    const module = await WebAssembly.compile(readFileSync(path.join(ROOT, 'js', 'dist', `tinyvlm-${name}.wasm`)));
    const memory = new WebAssembly.Memory({ initial: 64, maximum: 65536, shared: true });
    const port = {};
    const calls = new Map();
    port.postMessage = (message) => calls.get(message.id)?.(message);
    serve(port, { now: () => performance.now() });
    const call = async (message) => {
        const id = calls.size + 1;
        const answer = new Promise((resolve) => { calls.set(id, resolve); });
        port.onmessage({ data: { ...message, id } });
        const { result, error } = await answer;
        assert.equal(error, undefined, error?.message);
        return result;
    };
    await call({ kind: 'init', name, module, memory, threads: 1, context: 256, kv: 'f16', flag: null });
    await assert.rejects(call({ kind: 'load', bytes: Buffer.from('no model') }), /GGUF/); // the allocator took what there was
    memory.grow(36000);
    const before = memory.buffer.byteLength;
    await call({ kind: 'load', bytes: readFileSync(MODEL), memory: 2 ** 32 - 1 });
    const text = 'a photo '.repeat(30); // its logits take more than is free below
    const ids = await call({ kind: 'job', op: 'tokenize', args: { text, special: true } });
    const { image } = await call({ kind: 'job', op: 'encode', args: { pixels: { ...picture, channels: 3 }, fit: 'model' } });
    const tokens = await call({ kind: 'job', op: 'imageTokens', args: { image } });
    const logits = await call({ kind: 'job', op: 'forward', args: { ids, images: [image] } });
    assert.ok(memory.buffer.byteLength > before + 31e6); // weights and logits lie above
    const model = await load(MODEL, name, { context: 256 });
    assert.deepEqual(ids, await model.tokenizer.encode(text));
    assert.deepEqual(tokens, await (await model.encodeImage(picture)).tokens());
    assert.deepEqual(logits, await model.forward(picture, ids));
    await model.dispose();
});

test('another folder of modules', async () => {
    await assert.rejects(init({ wasmUrl: 'file:///nowhere/' }), /nowhere/);
    await assert.rejects(FastVLM.load(MODEL), /nowhere/);
    await init({ wasmUrl: path.relative(process.cwd(), path.join(ROOT, 'js', 'dist')) });
    await (await FastVLM.load(MODEL)).dispose();
    await init({ wasmUrl: new URL('../../js/dist/', import.meta.url) });
    await assert.rejects(FastVLM.load(MODEL, { module: 'fastest' }), /module: /);
});

test('files that are wrong', async () => {
    const damaged = path.join(WORK, 'damaged.gguf');
    writeFileSync(damaged, 'no model at all');
    await fails(FastVLM.load(damaged), 'unsupported', /a text, perhaps an error of the server/);
    writeFileSync(damaged, readFileSync(MODEL));
    truncateSync(damaged, 20_000_000);
    await fails(FastVLM.load(damaged), 'format', /truncated/);
    const bytes = readFileSync(MODEL);
    bytes[bytes.length - 1000] ^= 1;
    await fails(FastVLM.load(new Uint8Array(bytes)), 'checksum', /tensor '.+': checksum/);
    await fails(FastVLM.load('/nowhere/x.gguf'), 'io', /cannot open/);
    await fails(FastVLM.load(MODEL, { memory: 16 << 20 }), 'limit', /the weights take \d+ bytes, the limit is/);
    await fails(FastVLM.load(MODEL, { memory: 33 << 20 }), 'memory', /out of memory/);
});

test('arguments that are wrong', async () => {
    const model = await load(MODEL);
    for (const [source, pattern] of [
        [{ data: new Uint8Array(10), width: 2, height: 2 }, /10 bytes are not 2 x 2/],
        [{ data: new Uint8Array(13), width: 2, height: 2, channels: 3 }, /13 bytes are not 2 x 2/],
        [{ data: new Uint8Array(8), width: 2, height: 2 }, /8 bytes are not 2 x 2 of 1, 3 or 4 channels/], [{ data: new Float32Array(12), width: 2, height: 2 }, /no bytes/],
        [undefined, /an image is/], [5, /an image is/], ['', /empty/], [[], /no image/], [[picture, null], /an image is/],
        [new Float32Array(4), /an image is/], [{ data: [1], width: 1, height: 1 }, /an image is/],
    ]) {
        await fails(model.infer(source), 'argument', pattern);
        if (!Array.isArray(source)) await fails(model.encodeImage(source), 'argument', pattern);
    }
    for (const prompt of [[{ role: 'nobody', content: 'x' }], [], 5, {}, [{ role: 'user' }]]) await fails(model.infer(picture, prompt), 'argument', /a prompt is/);
    for (const prompt of ['', ' \n', undefined, null]) await fails(model.infer(null, prompt), 'argument', /question is empty/);
    const unknown = { max_tokens: 5 };
    for (const call of [
        () => model.infer(picture, 'x', unknown), () => model.generate(picture, 'x', unknown), () => model.stream(picture, 'x', unknown).next(),
        () => model.encodeImage(picture, unknown), () => model.forward(null, [1], unknown), () => model.processor.preprocess(picture, unknown),
        () => model.tokenizer.encode('x', unknown), () => model.tokenizer.decode([1], unknown), () => FastVLM.load(MODEL, unknown),
        () => FastVLM.open(MODEL, unknown).ready, () => init(unknown),
    ])
        await fails(call(), 'argument', /no option 'max_tokens': there are \w+/);
    await fails(model.infer(picture, 'x', 5), 'argument', /options: 5/);
    await fails(model.tokenizer.encode(5), 'argument', /text: 5/);
    for (const [name, value] of [['maxTokens', -1], ['maxTokens', 2 ** 32], ['seed', -1], ['seed', 0.5], ['topK', 1.5], ['beams', -1], ['beams', 9], ['noRepeatNgram', -1], ['minTokens', 0.5],
        ['temperature', NaN], ['stop', 5], ['stop', [() => 1]], ['fit', 'foo'], ['onToken', 'log'], ['ignoreEos', 1], ['system', 5],
        ['temperature', Object.create(null)]])
        await fails(model.infer(picture, 'x', { [name]: value }), 'argument', new RegExp(`^${name}: `));
    for (const [name, value] of [['threads', NaN], ['threads', 0], ['context', -5], ['kv', 'F32'], ['beams', 9], ['memory', -1], ['idleTimeout', 0],
        ['retries', -1], ['onProgress', 1], ['cache', 'no'], ['module', 'avx2']])
        await fails(FastVLM.load(MODEL, { [name]: value }), 'argument', new RegExp(`^${name}: `));
    assert.equal(await model.infer(picture, PROMPT, { stop: ' ' }), await model.infer(picture, PROMPT, { stop: [' '] }));
    for (const ids of [[1.7], [2 ** 32 + 5], [NaN], ['12'], '12', null]) {
        await fails(model.tokenizer.decode(ids), 'argument', /^ids: /);
        await fails(model.forward(null, ids), 'argument', /^ids: /);
    }
    await fails(model.infer(picture, 'x', { signal: {} }), 'argument', /^signal: /);
    await fails(FastVLM.load(5), 'argument', /a model is/);
    await fails(FastVLM.load(MODEL, { signal: {} }), 'argument', /^signal: /);
    await (await FastVLM.load(MODEL, null)).dispose();
    await fails(FastVLM.load(ROOT), 'io', /cannot read/);
    await fails(model.infer(picture, 'x', { temperature: -1 }), 'argument', /temperature/);
    await fails(model.infer(picture, 'x '.repeat(9000)), 'context', /the context has/);
    await fails(model.infer(null, [{ role: 'assistant', content: 'x' }, { role: 'user', content: 'y' }]), 'argument', /message/);
    await model.dispose();
});

test('bytes, blobs and open() before everything is there', async () => {
    const bytes = readFileSync(goldenModel());
    const fromBlob = FastVLM.open(new Blob([bytes]), { threads: 1, context: 128 });
    const fromBytes = FastVLM.open(new Uint8Array(bytes), { threads: 1, context: 128 });
    const texts = await Promise.all([fromBlob, fromBytes].map((model) => model.infer(picture, 'What?', { maxTokens: 5 })));
    assert.equal(texts[0], texts[1]);
    const control = new AbortController();
    const stopped = FastVLM.open(MODEL, { signal: control.signal });
    control.abort();
    await assert.rejects(stopped.ready, { name: 'AbortError' });
    await assert.rejects(stopped.infer(picture), { name: 'AbortError' });
    await fromBlob.dispose();
    await fromBytes.dispose();
});

test('several pictures in one question', async () => {
    const black = { data: new Uint8Array(300), width: 10, height: 10 };
    const model = await load(goldenModel(), 'simd128', { context: 256, kv: 'f32', precision: 'f32' });
    const ask = (image) => model.generate(image, 'What?', { maxTokens: 6, ignoreEos: true });
    const answers = [];
    for (const images of [picture, [picture], [picture, black], [black, picture], [await model.encodeImage(picture), black]])
        answers.push(asNumbers((await ask(images)).ids));
    assert.deepEqual(answers[0], answers[1]);
    assert.deepEqual(answers[2], answers[4]);
    const ids = asNumbers(golden().input_ids.data);
    const at = ids.indexOf(-200);
    const two = await model.forward([picture, black], ids.toSpliced(at, 0, -200));
    const { positions } = await model.forward(picture, ids);
    assert.equal(two.positions, positions + (await model.info()).imageTokens);
    const other = await model.forward([black, picture], ids.toSpliced(at, 0, -200));
    assert.ok(relativeError(two.logits.slice(-1000), other.logits.slice(-1000)) > 1e-3);
    await fails(model.forward([picture], ids.toSpliced(at, 0, -200)), 'argument', /image that is not there/);
    await fails(model.infer(Array(9).fill(black), 'x'), 'limit', /9 images/);
    await model.dispose();
    const tiny = await load(MODEL);
    await fails(tiny.infer([picture, black], 'x'), 'limit', /one image/);
    await fails(tiny.forward([picture, black], [1]), 'limit', /one image/);
    await fails(tiny.infer([picture, { data: new Uint8Array(1), width: 2, height: 2 }], 'x'), 'argument', /pixels/);
    assert.ok((await tiny.infer([picture])).length > 0);
    await tiny.dispose();
});

test('no question, an empty one and "describe" ask for a description', async () => {
    const model = await load(MODEL);
    const { describePrompt } = await model.info();
    const whole = await model.infer(picture, describePrompt);
    for (const prompt of [undefined, null, '', ' \n', 'Describe', ' describe. ', 'DESCRIBE!', '\u201cDescribe\u201d', [{ role: 'user', content: '' }]])
        assert.equal(await model.infer(picture, prompt), whole, JSON.stringify(prompt));
    let streamed = '';
    for await (const text of model.stream(picture, 'describe')) streamed += text;
    assert.equal(streamed, whole);
    assert.equal(await model.infer(await model.encodeImage(picture), ''), whole);
    const ids = async (prompt) => asNumbers((await model.generate(picture, prompt, { maxTokens: 8, ignoreEos: true })).ids);
    assert.notDeepEqual(await ids('Is it day?'), await ids(''));
    await model.dispose();
});

/** A picture that is described in one way greedily and in another by beams, and both. */
async function toldApart(model) {
    for (let seed = 1; seed < 40; seed++) {
        const data = Uint8Array.from({ length: 40 * 40 * 3 }, (_, i) => Math.floor(i * i / (7 * seed)));
        const image = await model.encodeImage({ data, width: 40, height: 40 });
        const [greedy, beams] = [await model.infer(image, '', { beams: 1 }), await model.infer(image, '', { beams: 3 })];
        if (greedy !== beams) return { image, greedy, beams };
    }
    throw new Error('greedy descriptions are those by beams');
}

test('a description is by the beams of the model, unless asked otherwise', async () => {
    const model = await load(MODEL);
    assert.equal((await model.info()).describeBeams, 3);
    const { image, greedy, beams } = await toldApart(model);
    for (const options of [{}, { beams: 0 }, { lookup: true }]) assert.equal(await model.infer(image, '', options), beams);
    let weighed = '';
    for await (const { text } of model.streamTokens(image, '', { logprobs: true })) weighed += text;
    assert.equal(weighed, greedy);
    const narrow = await load(MODEL, 'simd128', { beams: 1 });
    assert.ok((await narrow.memory()).total < (await model.memory()).total);
    await narrow.dispose();
    await model.dispose();
});

test('pictures for a model that reads text only', async () => {
    const { keys, tensors } = decoder('llama', { width: 8 });
    const model = await load(gguf(keys, tensors));
    const { imageSize } = await model.info();
    assert.equal(imageSize, 0);
    for (const call of [() => model.infer(picture, 'x'), () => model.infer([picture], 'x'), () => model.encodeImage(picture),
        () => model.forward(picture, [1]), () => model.processor.preprocess(picture), () => model.stream(picture, 'x').next()])
        await fails(call(), 'unsupported', /text only/);
    await model.dispose();
});

/** One file after another at one address: each answer drops after `cutAt` bytes, but the last's. */
async function withFiles(files, cutAt, use) {
    let next = 0;
    const http = createServer((request, response) => {
        const isLast = next >= files.length - 1;
        const bytes = files[Math.min(next++, files.length - 1)];
        response.setHeader('ETag', `"${next}"`);
        response.setHeader('Content-Length', bytes.length);
        if (isLast) response.end(bytes);
        else response.write(bytes.subarray(0, cutAt), () => response.destroy());
    });
    await new Promise((resolve) => { http.listen(0, '127.0.0.1', resolve); });
    try {
        await use(`http://127.0.0.1:${http.address().port}/model.gguf`);
    } finally {
        http.close();
        http.closeAllConnections();
    }
}

test('a file that changes while it is loaded is loaded anew', async () => {
    const [old, fresh] = [readFileSync(MODEL), readFileSync(goldenModel())];
    const direct = await load(goldenModel(), undefined, { context: 128 });
    const want = await direct.infer(picture, 'What?', { maxTokens: 5 });
    await direct.dispose();
    const ask = (model) => model.infer(picture, 'What?', { maxTokens: 5 });
    // the first request of `fresh` says that it is another file, the second reads it
    await withFiles([old, fresh, fresh], 9_000_000, async (url) => {
        const seen = [];
        const model = await load(url, undefined, { context: 128, onProgress: (p) => seen.push(p) });
        assert.equal(await ask(model), want);
        assert.equal((await model.info()).architecture, 'fastvlm');
        assert.equal(model.progress.restarts, 1);
        for (const [i, now] of seen.slice(1).entries()) // never back without saying so
            assert.ok(now.loaded >= seen[i].loaded || now.restarts > seen[i].restarts);
        assert.ok(seen.some(({ retry }) => retry?.reason && retry.attempt === 1));
        await model.dispose();
    });
    await withFiles([old, fresh, fresh], 22_000_000, async (url) => { // far enough for its info
        const model = FastVLM.open(url, { context: 128, threads: 1 });
        const early = model.infer(picture, 'What?', { maxTokens: 5 }); // waits for the decoder
        assert.equal((await model.info()).architecture, 'tinyvlm');
        await model.ready;
        assert.equal(await early, want);
        await model.dispose();
    });
    await withFiles([old, fresh, old, fresh, old, fresh, old, fresh, old, fresh], 100_000, (url) =>
        fails(load(url), 'io', /has changed/));
});

test('200 loads and answers leave nothing behind', async () => {
    const bytes = new Uint8Array(readFileSync(goldenModel()));
    const cycle = async () => {
        const model = await FastVLM.load(bytes, { module: 'simd128', context: 64 });
        await model.infer(picture, 'What?', { maxTokens: 3 });
        await model.dispose();
    };
    for (let i = 0; i < 40; i++) await cycle(); // caches of node and the allocator fill
    const before = process.memoryUsage().rss;
    for (let i = 0; i < 160; i++) await cycle();
    const growth = await leastOf(64 << 20, async () => { // workers that were told to end do so in their time
        await new Promise((resolve) => { setTimeout(resolve, 100); });
        return process.memoryUsage().rss - before;
    });
    assert.ok(growth < 64 << 20, `grew by ${growth} bytes`); // one leaked memory alone is 7 MB a cycle
});

test('200 answers of one model take no more memory', async () => {
    const model = await load(goldenModel(), 'simd128', { context: 64 });
    await model.infer(picture, 'What?', { maxTokens: 3 });
    const before = (await model.memory()).module;
    for (let i = 0; i < 200; i++) await model.infer(picture, `What ${i}?`, { maxTokens: 3 });
    assert.equal((await model.memory()).module, before);
    await model.dispose();
});
