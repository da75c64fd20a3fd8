// SPDX-License-Identifier: MIT
// The kernel tests of C as WASI programs, in node. Relaxed SIMD runs in the browser's tests: node 20
// has it behind a flag, and wrong.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import test from 'node:test';

import { ROOT } from './common.mjs';
import { runWasi } from './wasi.mjs';

for (const name of ['scalar', 'simd128']) {
    test(`kernels of the ${name} module`, async () => {
        const module = await WebAssembly.compile(readFileSync(path.join(ROOT, 'build', 'wasm', `test-kernels-${name}.wasm`)));
        const { code, output } = runWasi(module, ['test-kernels']);
        assert.equal(code, 0, output);
        assert.match(output, /[1-9]\d{4,} passed, 0 failed\n$/);
    });
}
