// SPDX-License-Identifier: MIT
import { open } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { parentPort } from 'node:worker_threads';

import { serve } from './engine.js';

async function* openFile(url) {
    const path = url.startsWith('file:') ? fileURLToPath(url) : url;
    const failure = (what, cause) => Object.assign(new Error(`${path}: cannot ${what}: ${cause.code ?? cause.message}`), { code: 'io' });
    let file;
    try {
        file = await open(path);
    } catch (cause) {
        throw failure('open', cause);
    }
    try {
        const total = (await file.stat()).size;
        for (;;) {
            const { bytesRead, buffer } = await file.read({ buffer: new Uint8Array(1 << 20) }).catch((cause) => {
                throw failure('read', cause);
            });
            if (!bytesRead) return;
            yield { bytes: buffer.subarray(0, bytesRead), total, cached: false };
        }
    } finally {
        await file.close();
    }
}

const port = {
    postMessage: (message, transfer) => parentPort.postMessage(message, transfer),
    set onmessage(handler) {
        parentPort.on('message', (data) => handler({ data }));
    },
};
serve(port, { now: () => performance.now(), openFile });
