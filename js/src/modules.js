// SPDX-License-Identifier: MIT
// The five modules: which one runs here, and is right.
import { isThreaded, makeMemory } from './memory.js';
import { platform } from './platform.js';

const BEST_FIRST = ['relaxed', 'simd128', 'scalar'];

let folder;
const compiled = new Map();

export function setFolder(url) {
    folder = new URL(String(url).replace(/\/?$/, '/'), platform.absoluteUrl('.'));
    compiled.clear();
}

function compile(name) {
    if (!compiled.has(name)) {
        const url = new URL(`tinyvlm-${name}.wasm`, folder ?? platform.defaultWasmUrl());
        compiled.set(name, platform.compile(url));
        compiled.get(name).catch(() => compiled.delete(name));
    }
    return compiled.get(name);
}

/** Some engines take relaxed SIMD and round otherwise: the module compares itself with plain code. */
async function isRight(name, module) {
    const memory = makeMemory(name, 4 << 20);
    const env = { memory, now: () => 0, text: () => 1, cancelled: () => 0 };
    const { exports } = await WebAssembly.instantiate(module, { env });
    return exports.probe() === 1;
}

const choices = new Map();

async function choose(threaded) {
    let failure;
    for (const kind of BEST_FIRST) {
        const name = threaded && kind !== 'scalar' ? `${kind}-threads` : kind;
        try {
            const module = await compile(name);
            if (await isRight(name, module)) return { name, module };
        } catch (error) { // not known to this engine, or not to be had
            failure = error;
        }
    }
    throw failure ?? new Error('no module computes rightly in this browser');
}

/** { name, module }: the best for that many threads, or the one that is asked for. */
export async function chooseModule(threads, wanted) {
    if (wanted) {
        if (isThreaded(wanted) && !platform.canShare())
            throw new Error(`module ${wanted} needs a page with COOP and COEP headers`);
        return { name: wanted, module: await compile(wanted) };
    }
    const threaded = threads > 1 && platform.canShare();
    if (!choices.has(threaded)) {
        choices.set(threaded, choose(threaded));
        choices.get(threaded).catch(() => choices.delete(threaded));
    }
    return choices.get(threaded);
}
