// SPDX-License-Identifier: MIT
// node pictures.mjs MODEL FILE: a picture file in every form; what is refused, and why; how much memory a large one takes.
import { readFileSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

import sharp from 'sharp';
import { FastVLM, TinyVLMError } from 'tinyvlm';

const [, , modelFile, file] = process.argv;
const model = await FastVLM.load(modelFile);
const bytes = readFileSync(file);
const base64 = bytes.toString('base64');
const asUrl = (body) => `data:image/jpeg;base64,${body}`;
const shared = new Uint8Array(new SharedArrayBuffer(bytes.length));
shared.set(bytes);
const sources = {
    path: file, url: pathToFileURL(file), blob: new Blob([bytes]), buffer: bytes, bytes: new Uint8Array(bytes), shared,
    arrayBuffer: new Uint8Array(bytes).buffer, dataView: new DataView(new Uint8Array(bytes).buffer),
    clamped: new Uint8ClampedArray(bytes), part: new Uint8Array([0, 0, ...bytes, 0]).subarray(2, 2 + bytes.length),
    dataUrl: asUrl(base64), unpadded: asUrl(base64.replace(/=+$/, '')), urlSafe: asUrl(bytes.toString('base64url')),
    percent: asUrl(encodeURIComponent(base64)), lines: asUrl(base64.replace(/.{76}/g, '$&\r\n')),
    binary: `data:image/jpeg,${bytes.toString('latin1').replace(/[^ -$&-~]/g, (c) => `%${c.charCodeAt(0).toString(16).padStart(2, '0')}`)}`,
    list: [bytes],
};
const texts = {};
for (const [name, source] of Object.entries(sources)) texts[name] = await model.infer(source);

const heic = Buffer.concat([Buffer.from([0, 0, 0, 24]), Buffer.from('ftypheic\0\0\0\0mif1heic'), Buffer.alloc(64)]);
writeFileSync('holiday.heic', heic);
const wrong = {
    empty: Buffer.alloc(0), heic, named: 'holiday.heic', pdf: Buffer.from('%PDF-1.7\n%x'), text: Buffer.from('Dear all,\nno picture here.'),
    video: Buffer.from('\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41', 'latin1'), cut: bytes.subarray(0, 30), noise: Buffer.from([1, 2, 3, 0, 255, 254]),
    base64: 'data:image/png;base64,!!', none: 'nowhere.jpg', comma: 'data:image/png',
};
const failures = {};
for (const [name, source] of Object.entries(wrong)) {
    failures[name] = await model.infer(source).then(() => null, (error) => ({ code: error instanceof TinyVLMError && error.code, message: error.message }));
}

const large = await sharp({ create: { width: 9000, height: 6000, channels: 3, background: '#888' } }).jpeg().toBuffer();
const before = (await model.memory()).module;
await model.infer(large, 'x', { maxTokens: 1 });
const grown = (await model.memory()).module - before;
const cut = (await model.infer(bytes.subarray(0, bytes.length >> 1))).length; // with a warning
await model.dispose();
console.log(JSON.stringify({ texts, failures, grown, cut }));
