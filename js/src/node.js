// SPDX-License-Identifier: MIT
// The same API in node: worker threads, files, and `sharp` for pictures in files where it is installed.
import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';

import { TinyVLMError, wrong } from './errors.js';
import { compileFrom, platform } from './platform.js';

/** A worker thread with the manners of a page's worker. */
class NodeWorker {
    #worker;

    constructor(worker) {
        this.#worker = worker;
        this.#worker.on('message', (data) => {
            if (!data.event && --this.pending === 0) this.#worker.unref();
            this.onmessage?.({ data });
        });
        this.#worker.on('error', (error) => this.onerror?.(error));
        this.#worker.unref(); // last, as a listener keeps a program alive: only calls shall, see below
        this.pending = 0;
    }

    postMessage(message, transfer) {
        this.#worker.postMessage(message, transfer);
        if (message.kind && this.pending++ === 0) this.#worker.ref();
    }

    terminate() {
        return this.#worker.terminate();
    }
}

async function sharp() {
    try {
        return (await import('sharp')).default;
    } catch (cause) {
        throw new TinyVLMError("decoding image files in node needs the package 'sharp' (npm i sharp); "
            + 'or give { data, width, height } with raw pixels', 'unsupported', { cause });
    }
}

/** Raw pixels, upright and on white. isStrict: nothing of them is missing. */
function decodeBytes(decoder, bytes, longest, isStrict) {
    return decoder(bytes, { failOn: isStrict ? 'truncated' : 'none' })
        .rotate()
        .resize({ width: longest, height: longest, fit: 'inside', withoutEnlargement: true })
        .flatten({ background: '#fff' })
        .raw()
        .toBuffer({ resolveWithObject: true });
}

/** What a browser shows, too: of a file that was cut, what there is. */
async function decodeMost(decoder, bytes, longest) {
    try {
        return await decodeBytes(decoder, bytes, longest, true);
    } catch (error) {
        const decoded = await decodeBytes(decoder, bytes, longest, false).catch(() => { throw error; });
        process.emitWarning(`tinyvlm: an image is damaged, and used as far as it goes: ${error.message}`);
        return decoded;
    }
}

const compileFetched = platform.compile;

Object.assign(platform, {
    // Written out, as in platform.js: servers are bundled too.
    startWorker: (file) => new NodeWorker(file === 'worker.js'
        ? new Worker(new URL('./node-worker.js', import.meta.url), { execArgv: [] }) // --input-type is not for workers
        : new Worker(new URL('./node-helper.js', import.meta.url), { execArgv: [] })),
    compile: (url) => (url.protocol === 'file:' ? compileFrom(url, () => readFile(url)) : compileFetched(url)),
    canShare: () => true,
    threads: () => availableParallelism(),
    absoluteUrl(url) {
        const text = String(url);
        return /^[a-z][a-z0-9+.-]+:/i.test(text) ? text : pathToFileURL(text).href;
    },
    reader: 'sharp',
    draw() {
        throw wrong('there is nothing to draw in node');
    },
    async decode(blob, longest) {
        const { data, info } = await decodeMost(await sharp(), Buffer.from(await blob.arrayBuffer()), longest);
        return { data: new Uint8Array(data), width: info.width, height: info.height, channels: info.channels };
    },
    async fetchPicture(url) {
        if (url.startsWith('file:')) return new Blob([await readFile(fileURLToPath(url))]);
        return null;
    },
});

export * from './index.js';
export { default } from './index.js';
