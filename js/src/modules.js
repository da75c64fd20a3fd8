// SPDX-License-Identifier: MIT
// The five modules: which one runs here, and is right.
import { TinyVLMError } from './errors.js';
import { isThreaded, makeMemory } from './memory.js';
import { platform } from './platform.js';

const BEST_FIRST = ['relaxed', 'simd128', 'scalar'];

/** Where the modules lie in the package; each written out, as bundlers look for this very form. */
const packaged = () => ({
    scalar: new URL('../dist/tinyvlm-scalar.wasm', import.meta.url),
    simd128: new URL('../dist/tinyvlm-simd128.wasm', import.meta.url),
    'simd128-threads': new URL('../dist/tinyvlm-simd128-threads.wasm', import.meta.url),
    relaxed: new URL('../dist/tinyvlm-relaxed.wasm', import.meta.url),
    'relaxed-threads': new URL('../dist/tinyvlm-relaxed-threads.wasm', import.meta.url),
});

let folder;
const compiled = new Map();

export function setFolder(url) {
    folder = new URL(platform.absoluteUrl(String(url).replace(/\/?$/, '/')));
    compiled.clear();
    choices.clear();
}

function compile(name) {
    if (!compiled.has(name)) {
        const url = folder ? new URL(`tinyvlm-${name}.wasm`, folder) : packaged()[name];
        compiled.set(name, platform.compile(url));
        compiled.get(name).catch(() => compiled.delete(name));
    }
    return compiled.get(name);
}

/** Some engines take relaxed SIMD and round otherwise: the module compares itself with plain code. */
async function isRight(name, module) {
    const memory = makeMemory(name, 4 << 20);
    const env = { memory, now: () => 0, token: () => {}, cancelled: () => 0 };
    const { exports } = await WebAssembly.instantiate(module, { env });
    return exports.probe() === 1;
}

const choices = new Map();

/** Also what WebAssembly itself throws, of a module that is not ours or for want of memory. */
function asTinyVLMError(cause) {
    if (cause instanceof TinyVLMError) return cause;
    return new TinyVLMError(cause.message, cause instanceof RangeError ? 'memory' : 'unsupported', { cause });
}

/** missed: a better one could not be had, now. */
async function choose(threaded) {
    const names = threaded ? ['relaxed-threads', 'simd128-threads', ...BEST_FIRST] : BEST_FIRST;
    let failure, missed = false;
    for (const name of names) {
        try {
            const module = await compile(name);
            if (await isRight(name, module)) return { name, module, missed };
        } catch (error) {
            failure = error;
            missed ||= error.code === 'io'; // else this engine does not know it
        }
    }
    if (!failure) throw new TinyVLMError('no module computes rightly in this browser', 'unsupported');
    throw asTinyVLMError(failure);
}

/** { name, module }: the best for that many threads, or the one that is asked for. */
export async function chooseModule(threads, wanted) {
    if (wanted) {
        if (isThreaded(wanted) && !platform.canShare())
            throw new TinyVLMError(`module ${wanted} needs a page with COOP and COEP headers`, 'unsupported');
        return { name: wanted, module: await compile(wanted) };
    }
    const threaded = threads > 1 && platform.canShare();
    if (!choices.has(threaded)) {
        const choice = choose(threaded);
        choices.set(threaded, choice);
        const drop = () => { if (choices.get(threaded) === choice) choices.delete(threaded); };
        choice.then(({ missed }) => missed && drop(), drop);
    }
    return choices.get(threaded);
}
