// SPDX-License-Identifier: MIT
// The kernel tests of C as WASI programs, in node.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import test from 'node:test';

import { HAS_RELAXED, MODEL, ROOT, nativeTower } from './common.mjs';
import { runWasi } from './wasi.mjs';

function program(name) {
    return WebAssembly.compile(readFileSync(path.join(ROOT, 'build', 'wasm', `${name}.wasm`)));
}

for (const name of ['scalar', 'simd128', ...(HAS_RELAXED ? ['relaxed'] : [])]) {
    test(`kernels of the ${name} module`, async () => {
        // the C program runs every shape natively: here it is a sample, as it takes minutes
        const { code, output } = runWasi(await program(`test-kernels-${name}`), ['test-kernels', '--every', '7']);
        assert.equal(code, 0, output);
        assert.match(output, /[1-9]\d{4,} passed, 0 failed\n$/);
    });

    test(`the int8 tower of the ${name} module gives the native bits`, async () => {
        const { code, output } = runWasi(await program(`tower-${name}`), ['tower'], readFileSync(MODEL));
        assert.equal(code, 0, output);
        assert.equal(output, `scalar ${nativeTower()}\n${name} ${nativeTower()}\n`);
    });
}
