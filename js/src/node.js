// SPDX-License-Identifier: MIT
// The same API in node: worker threads, files, and `sharp` for pictures in files where it is installed.
import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';

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
        throw new TypeError("decoding picture files in node needs the package 'sharp' (npm i sharp); "
            + 'or give { data, width, height } with raw pixels', { cause });
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
    draw() {
        throw new TypeError('there is nothing to draw in node');
    },
    async decode(blob) {
        const decoder = (await sharp())(Buffer.from(await blob.arrayBuffer()));
        const flat = decoder.rotate().flatten({ background: '#fff' });
        const { data, info } = await flat.raw().toBuffer({ resolveWithObject: true });
        return { data: new Uint8Array(data), width: info.width, height: info.height, channels: info.channels };
    },
    async fetchPicture(url) {
        if (url.startsWith('file:')) return new Blob([await readFile(fileURLToPath(url))]);
        return null;
    },
});

export * from './index.js';
export { default } from './index.js';
