// SPDX-License-Identifier: MIT
// What run.mjs measures, each function in a page of its own: the peers keep global state.
import init, { FastVLM } from '/tinyvlm/src/index.js';

const GREY = { data: new Uint8Array(64 * 64 * 3).fill(128), width: 64, height: 64 };

function summary(times) {
    times.sort((a, b) => a - b);
    return { min: times[0], median: times[times.length >> 1], runs: times.length };
}

function fastest(rates) {
    rates.sort((a, b) => b - a);
    return { max: rates[0], median: rates[rates.length >> 1], runs: rates.length };
}

/** Values of runs calls, after calls of a second at least: engines compile a hot loop again, and better. */
async function repeat(runs, call) {
    const warm = performance.now() + 1000;
    do await call();
    while (performance.now() < warm);
    const values = [];
    while (values.length < runs) values.push(await call());
    return values;
}

/** Milliseconds of the vision tower. */
async function oursTower({ url, module, threads, runs }) {
    await init({ wasmUrl: '/tinyvlm/dist/' });
    const model = await FastVLM.load(url, { module, threads, cache: false, context: 64 });
    const times = await repeat(runs, async () => {
        const image = await model.encodeImage(GREY);
        await image.dispose();
        return image.timings.tower;
    });
    const memory = (await model.memory()).module;
    await model.dispose();
    return { ...summary(times), memory };
}

async function ortTower({ url, threads, runs, size }) {
    const ort = await import('/modules/onnxruntime-web/dist/ort.wasm.min.mjs');
    Object.assign(ort.env.wasm, { numThreads: threads, proxy: false, wasmPaths: '/modules/onnxruntime-web/dist/' });
    const bytes = new Uint8Array(await (await fetch(url)).arrayBuffer());
    const session = await ort.InferenceSession.create(bytes, { executionProviders: ['wasm'], graphOptimizationLevel: 'all' });
    const pixels = new ort.Tensor('float32', new Float32Array(3 * size * size).fill(0.5), [1, 3, size, size]);
    const times = await repeat(runs, async () => {
        const begin = performance.now();
        const out = await session.run({ pixels });
        const time = performance.now() - begin;
        Object.values(out).forEach((tensor) => tensor.dispose());
        return time;
    });
    await session.release();
    return summary(times);
}

/** Tokens a second after the first one. */
function rate(at, tokens) {
    return ((tokens - 1) * 1000) / (at.at(-1) - at[0]); // a token may give no text, and then no call
}

async function oursDecode({ url, module, threads, runs, tokens, prompt }) {
    await init({ wasmUrl: '/tinyvlm/dist/' });
    const model = await FastVLM.load(url, { module, threads, cache: false, context: 512 });
    const rates = await repeat(runs, async () => {
        const at = [];
        await model.generate(null, prompt, { maxTokens: tokens, ignoreEos: true, onToken: () => at.push(performance.now()) });
        return rate(at, tokens);
    });
    const memory = (await model.memory()).module;
    await model.dispose();
    return { ...fastest(rates), memory };
}

async function wllamaDecode({ url, threads, runs, tokens, prompt }) {
    const { Wllama } = await import('/modules/@wllama/wllama/esm/index.js');
    const wllama = new Wllama({ default: '/modules/@wllama/wllama/esm/wasm/wllama.wasm' });
    const file = await (await fetch(url)).blob();
    await wllama.loadModel([file], { n_threads: threads, n_ctx: 512, n_gpu_layers: 0 });
    const rates = await repeat(runs, async () => {
        const at = [];
        await wllama.createCompletion({
            prompt, max_tokens: tokens, ignore_eos: true, temperature: 0, cache_prompt: false, stream: true,
            onData: () => at.push(performance.now()),
        });
        return rate(at, tokens);
    });
    await wllama.exit();
    return fastest(rates);
}

/** A picture, its description and 10 tokens, as a user waits for them. */
async function oursEndToEnd({ url, module, threads, runs, photo }) {
    await init({ wasmUrl: '/tinyvlm/dist/' });
    const model = await FastVLM.load(url, { module, threads, cache: false });
    const picture = await createImageBitmap(await (await fetch(photo)).blob());
    const times = await repeat(runs, async () => {
        const begin = performance.now();
        await model.infer(picture, undefined, { maxTokens: 11, ignoreEos: true, beams: 1 });
        return performance.now() - begin;
    });
    const memory = (await model.memory()).module;
    await model.dispose();
    return { ...summary(times), memory };
}

window.measure = { oursTower, ortTower, oursDecode, wllamaDecode, oursEndToEnd };
document.documentElement.dataset.ready = 'yes';
