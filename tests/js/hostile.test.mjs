// SPDX-License-Identifier: MIT
// Model files that would overflow 32 bits, and odd ones that must work.
import assert from 'node:assert/strict';
import test from 'node:test';

import { FastVLM } from '../../js/src/node.js';
import { decoder, fastvlm, gguf, tinyvlm } from './gguf.mjs';

const OPTIONS = { module: 'simd128', threads: 1 };

function refuses(what, pattern, { keys, tensors }, how) {
    test(`${what} that overflow 32 bits are refused`, () =>
        assert.rejects(FastVLM.load(gguf(keys, tensors, how), OPTIONS), (error) => {
            assert.equal(error.code, 'limit', error.message);
            assert.match(error.message, pattern);
            return true;
        }));
}

// 65536 x 16392 floats: 2^32 bytes and 2 MB
refuses('tokens of a picture', /an encoded image overflows memory/, fastvlm({ size: 1024, width: 16392, hidden: 1 }));
// 17 x 2 x 4096 x 7720 floats: 2^32 bytes and 5.5 MB
refuses('keys and values of a picture', /an encoded image overflows memory/, tinyvlm({ queries: 4096, layers: 17, heads: 965 }));

// 4772192 x 15 x 15 floats: 2^32 bytes and 5504
const wide = tinyvlm({
    first: { 'v.blk.0.expand': [4772192, 8], 'v.blk.0.dw': [4772192, 1, 15, 15], 'v.blk.0.project': [8, 4772192] },
});
for (const name of ['expand', 'dw']) wide.tensors[`v.blk.0.${name}.weight`].type = 'F16';
wide.tensors['v.blk.0.project.weight'].type = 'Q4_0';
refuses('depthwise weights', /tensor 'v\.blk\.0\.dw\.weight' overflows memory/, wide, { headerOnly: true });

refuses('answers', /a session of 4096 positions overflows memory/,
    decoder('llama', { width: 8, context: 4096, tokens: ['a', 'x'.repeat(1 << 24)] }));

test('a file that is mostly header', async () => {
    const tokens = Array.from({ length: 20_000 }, (_, i) => `t${i}${'w'.repeat(300)}`);
    const { keys, tensors } = decoder('llama', { width: 8, tokens });
    tensors['token_embd.weight'].type = 'F16';
    const model = await FastVLM.load(gguf(keys, tensors), OPTIONS);
    assert.equal((await model.info()).vocabulary, tokens.length);
    assert.equal((await model.forward(null, [1, 2])).positions, 2);
    await model.dispose();
});

/** Tokens of a picture by a stem of which only the first 8 channels count. */
async function tokensOf(stem) {
    const { keys, tensors } = fastvlm({ size: 64, stem, width: 16, hidden: 1 });
    let seed = 1;
    const random = () => {
        seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
        return seed / 2 ** 32 - 0.5;
    };
    for (const [name, tensor] of Object.entries(tensors)) {
        if (!/^(v|mm)\./.test(name)) continue;
        const n = tensor.shape.reduce((a, b) => a * b);
        const used = /^v\.stem\.[01]/.test(name) ? 8 * (n / stem) : n;
        tensor.data = new Float32Array(n).fill(3);
        if (name === 'v.stem.2.weight') {
            for (let i = 0; i < n; i++) tensor.data[i] = i % stem < 8 ? random() : 0;
        } else for (let i = 0; i < used; i++) tensor.data[i] = random();
    }
    // In float: channels that count for nothing still share blocks of int16 codes with those that do.
    const model = await FastVLM.load(gguf(keys, tensors), { ...OPTIONS, precision: 'f32' });
    const image = await model.encodeImage({ data: Uint8Array.from({ length: 64 * 64 * 3 }, (_, i) => i * 7919), width: 64, height: 64 });
    const { tokens } = await image.tokens();
    await model.dispose();
    return tokens;
}

test('a stem wider than what follows', async () => {
    const narrow = await tokensOf(8);
    assert.ok(narrow.some((value) => value !== narrow[0]));
    assert.deepEqual(await tokensOf(64), narrow);
});
