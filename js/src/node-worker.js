// SPDX-License-Identifier: MIT
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { parentPort } from 'node:worker_threads';

import { serve } from './engine.js';

async function* openFile(url) {
    const path = url.startsWith('file:') ? fileURLToPath(url) : url;
    let total;
    try {
        total = (await stat(path)).size;
    } catch (cause) {
        throw Object.assign(new Error(`${path}: cannot open: ${cause.code ?? cause.message}`), { code: 'io' });
    }
    for await (const bytes of createReadStream(path, { highWaterMark: 1 << 20 })) yield { bytes, total, cached: false };
}

const port = {
    postMessage: (message, transfer) => parentPort.postMessage(message, transfer),
    set onmessage(handler) {
        parentPort.on('message', (data) => handler({ data }));
    },
};
serve(port, { now: () => performance.now(), openFile });
