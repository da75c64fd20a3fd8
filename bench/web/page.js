// SPDX-License-Identifier: MIT
// What run.mjs measures, each function in a page of its own: the peers keep global state.
import init, { FastVLM } from '/tinyvlm/src/index.js';

const GREY = { data: new Uint8Array(64 * 64 * 3).fill(128), width: 64, height: 64 };

function summary(times) {
    times.sort((a, b) => a - b);
    return { min: times[0], median: times[times.length >> 1], runs: times.length };
}

/** Milliseconds of the vision tower. */
async function oursTower({ url, module, threads, runs }) {
    await init({ wasmUrl: '/tinyvlm/dist/' });
    const model = await FastVLM.load(url, { module, threads, cache: false, context: 64 });
    const times = [];
    for (let i = -1; i < runs; i++) {
        const image = await model.encodeImage(GREY);
        if (i >= 0) times.push(image.timings.tower);
        await image.dispose();
    }
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
    const times = [];
    for (let i = -1; i < runs; i++) {
        const begin = performance.now();
        const out = await session.run({ pixels });
        if (i >= 0) times.push(performance.now() - begin);
        Object.values(out).forEach((tensor) => tensor.dispose());
    }
    await session.release();
    return summary(times);
}

/** Tokens a second after the first one. */
async function oursDecode({ url, module, threads, runs, tokens, prompt }) {
    await init({ wasmUrl: '/tinyvlm/dist/' });
    const model = await FastVLM.load(url, { module, threads, cache: false, context: 512 });
    const rates = [];
    for (let i = -1; i < runs; i++) {
        const at = [];
        await model.generate(null, prompt, { maxTokens: tokens, ignoreEos: true, onToken: () => at.push(performance.now()) });
        if (i >= 0) rates.push(((at.length - 1) * 1000) / (at.at(-1) - at[0]));
    }
    const memory = (await model.memory()).module;
    await model.dispose();
    rates.sort((a, b) => b - a);
    return { max: rates[0], median: rates[rates.length >> 1], runs, memory };
}

async function wllamaDecode({ url, threads, runs, tokens, prompt }) {
    const { Wllama } = await import('/modules/@wllama/wllama/esm/index.js');
    const wllama = new Wllama({ default: '/modules/@wllama/wllama/esm/wasm/wllama.wasm' });
    const file = await (await fetch(url)).blob();
    await wllama.loadModel([file], { n_threads: threads, n_ctx: 512, n_gpu_layers: 0 });
    const rates = [];
    for (let i = -1; i < runs; i++) {
        const at = [];
        await wllama.createCompletion({
            prompt, max_tokens: tokens, ignore_eos: true, temperature: 0, cache_prompt: false, stream: true,
            onData: () => at.push(performance.now()),
        });
        if (i >= 0) rates.push(((at.length - 1) * 1000) / (at.at(-1) - at[0]));
    }
    await wllama.exit();
    rates.sort((a, b) => b - a);
    return { max: rates[0], median: rates[rates.length >> 1], runs };
}

/** A picture, its description and 10 tokens, as a user waits for them. */
async function oursEndToEnd({ url, module, threads, runs, photo }) {
    await init({ wasmUrl: '/tinyvlm/dist/' });
    const model = await FastVLM.load(url, { module, threads, cache: false });
    const picture = await createImageBitmap(await (await fetch(photo)).blob());
    const times = [];
    for (let i = -1; i < runs; i++) {
        const begin = performance.now();
        await model.infer(picture, undefined, { maxTokens: 11, ignoreEos: true });
        if (i >= 0) times.push(performance.now() - begin);
    }
    const memory = (await model.memory()).module;
    await model.dispose();
    return { ...summary(times), memory };
}

window.measure = { oursTower, ortTower, oursDecode, wllamaDecode, oursEndToEnd };
document.documentElement.dataset.ready = 'yes';
