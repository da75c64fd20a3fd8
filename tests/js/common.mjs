// SPDX-License-Identifier: MIT
// Models, pictures and reference tensors of the JavaScript tests, from the native tool and the goldens.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** node 20 has relaxed SIMD behind a flag, and wrong. */
export const HAS_RELAXED = Number(process.versions.node.split('.')[0]) >= 22;
export const MODEL = path.join(ROOT, 'models', 'tinyvlm-25m.gguf');
const GOLDEN = path.join(ROOT, 'tests', 'data', 'golden');
const TOOL = path.join(ROOT, 'build', 'tinyvlm');
mkdirSync(path.join(ROOT, 'build', 'wasm'), { recursive: true });
/** A folder for this process. */
export const WORK = mkdtempSync(path.join(ROOT, 'build', 'wasm', 'tmp-'));
process.on('exit', () => rmSync(WORK, { recursive: true }));

export function native(...args) {
    return execFileSync(TOOL, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** The golden FastVLM in float32. */
export function goldenModel() {
    const file = path.join(WORK, 'golden.gguf');
    native('convert', path.join(GOLDEN, 'tiny'), file, '--type', 'f32', '--quiet');
    return file;
}

/** The tiny SmolVLM in float32, which splits images. */
export function smolvlmModel() {
    const file = path.join(WORK, 'smolvlm.gguf');
    native('convert', path.join(GOLDEN, 'smolvlm'), file, '--type', 'f32', '--quiet');
    return file;
}

export function readSafetensors(file) {
    const bytes = readFileSync(file);
    const size = Number(bytes.readBigUInt64LE(0));
    const header = JSON.parse(bytes.subarray(8, 8 + size).toString());
    const tensors = {};
    delete header.__metadata__;
    for (const [name, { dtype, shape, data_offsets: [begin, end] }] of Object.entries(header)) {
        const kinds = { F32: Float32Array, I32: Int32Array, I64: BigInt64Array, U8: Uint8Array };
        const data = Uint8Array.prototype.slice.call(bytes, 8 + size + begin, 8 + size + end);
        tensors[name] = { shape, data: kinds[dtype] ? new kinds[dtype](data.buffer) : data };
    }
    return tensors;
}

export function golden() {
    return readSafetensors(path.join(GOLDEN, 'golden_tiny_128.safetensors'));
}

/** What the native tool computes for a picture and a prompt. */
export function nativeDump(model, image, prompt, ...options) {
    const out = path.join(WORK, 'dump.safetensors');
    native('dump', '-m', model, '--image', image, '-p', prompt, '-o', out, '--quiet', ...options);
    return readSafetensors(out);
}

/** The checksums of the int8 tower, which each native tier repeats. */
export function nativeTower() {
    const lines = execFileSync(path.join(ROOT, 'build', 'tests', 'tower'), { input: readFileSync(MODEL), encoding: 'utf8' });
    const sums = lines.trim().split('\n').map((line) => line.replace(/^\w+ /, ''));
    assert.match(sums[0], /^[0-9a-f]{8} [0-9a-f]{8}$/);
    assert.deepEqual(sums, sums.map(() => sums[0]));
    return sums[0];
}

export const PICTURE_FILE = path.join(GOLDEN, 'image_100x150.ppm');

/** Binary PPM as raw pixels. */
export function readPpm(file) {
    const bytes = readFileSync(file);
    const [head, width, height] = /^P6\s+(\d+)\s+(\d+)\s+255\s/.exec(bytes.subarray(0, 40).toString('latin1'));
    return { data: new Uint8Array(bytes.subarray(head.length)), width: Number(width), height: Number(height) };
}

export function relativeError(got, want) {
    assert.equal(got.length, want.length);
    let difference = 0;
    let norm = 0;
    for (let i = 0; i < want.length; i++) {
        difference += (got[i] - want[i]) ** 2;
        norm += want[i] ** 2;
    }
    return Math.sqrt(difference / norm);
}

export const asNumbers = (ids) => Array.from(ids, Number);
