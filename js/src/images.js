// SPDX-License-Identifier: MIT
// Any picture -> { data, width, height, channels } in a buffer of its own, to be handed to the worker.
import { TinyVLMError, wrong } from './errors.js';
import { HEAD_BYTES, UNKNOWN, kindOf, refusalOf } from './kinds.js';
import { platform } from './platform.js';

// Beyond it a picture is shrunk first: 48 megapixels would cost 190 MB for nothing that a model of 224 or
// 1024 pixels sees.
const LONGEST = 2048;
const MOST_BYTES = 2 ** 30; // of a file: more is no picture

/** Its class by name: one of another frame is not an instance of ours. */
export const isA = (source, ...names) => names.includes(Object.prototype.toString.call(source).slice(8, -1));

const DRAWABLE = ['HTMLImageElement', 'HTMLVideoElement', 'HTMLCanvasElement', 'OffscreenCanvas', 'ImageBitmap', 'VideoFrame'];

function checkRaw(source) {
    const { data, width, height } = source;
    const whole = Number.isInteger(width) && Number.isInteger(height) && width > 0 && height > 0;
    const channels = source.channels ?? (whole ? data.length / (width * height) : 0);
    if (data.BYTES_PER_ELEMENT !== 1) throw wrong('pixels: data holds no bytes');
    if (!whole || ![1, 3, 4].includes(channels) || data.length !== width * height * channels)
        throw wrong(`pixels: ${data.length} bytes are not ${width} x ${height} of 1, 3 or 4 channels`);
    return { data: new Uint8Array(data), width, height, channels };
}

/** The bytes of a picture file; null for anything else. */
function asBytes(source) {
    if (isA(source, 'ArrayBuffer', 'SharedArrayBuffer')) return new Uint8Array(source);
    const isBytes = ArrayBuffer.isView(source) && (source.BYTES_PER_ELEMENT ?? 1) === 1;
    return isBytes ? new Uint8Array(source.buffer, source.byteOffset, source.byteLength) : null;
}

async function fetchPicture(url, signal) {
    try {
        const local = await platform.fetchPicture?.(url); // files, in node
        if (local) return local;
        const response = await fetch(url, { signal });
        if (response.ok) return await response.blob();
        throw new Error(`HTTP ${response.status}`);
    } catch (cause) {
        throw new TinyVLMError(`${url}: ${cause.message}`, 'io', { cause });
    }
}

/** Bytes of base64: url-safe or not, percent-encoded or not, padded or not, in lines or not. */
function fromBase64(text) {
    try {
        const plain = unescape(text).replace(/\s/g, '').replace(/=+$/, '');
        const binary = atob(plain.replaceAll('-', '+').replaceAll('_', '/'));
        return Uint8Array.from({ length: binary.length }, (_, i) => binary.charCodeAt(i));
    } catch (cause) {
        throw new TinyVLMError('the image is not in base64', 'format', { cause });
    }
}

/** Percent-encoding undone, byte by byte. */
const unescape = (text) => text.replace(/%([0-9a-f]{2})/gi, (_, hex) => String.fromCharCode(parseInt(hex, 16)));

function fromDataUrl(url) {
    const comma = url.indexOf(',');
    if (comma < 0) throw new TinyVLMError('a data: URL without a comma', 'format');
    const body = url.slice(comma + 1);
    if (/;\s*base64\s*$/i.test(url.slice(0, comma))) return fromBase64(body);
    const text = unescape(body);
    return /^[\0-\xff]*$/.test(text) ? Uint8Array.from(text, (c) => c.charCodeAt(0)) : new TextEncoder().encode(text);
}

const isDataUrl = (text) => /^\s*data:/i.test(text);

/** A picture file as text in base64, with or without "data:...,". */
export function fromText(text) {
    if (typeof text !== 'string') throw wrong('an image in base64 is a string');
    if (/^\s*data%3a/i.test(text)) text = unescape(text);
    return new Blob([isDataUrl(text) ? fromDataUrl(text) : fromBase64(text)]);
}

/** { file, name } of what is a file of a picture in any form; null for anything else. */
async function asFile(source, signal) {
    if (typeof source === 'string' || isA(source, 'URL')) {
        const text = String(source);
        if (!text.trim()) throw wrong('an image: its URL is empty');
        if (isDataUrl(text)) return { file: fromText(text), name: '' };
        const url = platform.absoluteUrl(text);
        return { file: await fetchPicture(url, signal), name: url };
    }
    if (isA(source, 'Blob', 'File')) return { file: source, name: source.name ?? '' };
    const bytes = asBytes(source);
    return bytes && { file: new Blob([isA(bytes.buffer, 'SharedArrayBuffer') ? bytes.slice() : bytes]), name: '' };
}

function failure(name, what, code, cause) {
    return new TinyVLMError(name ? `${name}: ${what}` : what, code, { cause });
}

/** What a file is that may be a picture; others are refused before anything tries to decode them. */
async function checkFile(file, name) {
    if (!file.size) throw failure(name, 'the file is empty', 'format');
    if (file.size > MOST_BYTES) throw failure(name, `${(file.size / 2 ** 30).toFixed(1)} GiB: too large for an image`, 'limit');
    const head = await file.slice(0, HEAD_BYTES).arrayBuffer().catch((cause) => {
        throw failure(name, `cannot be read: ${cause.message}`, 'io', cause);
    });
    const kind = kindOf(new Uint8Array(head));
    if (!kind.isPicture && kind.name !== UNKNOWN) throw failure(name, refusalOf(kind), 'format');
    return kind;
}

/** What decode(file) makes of a picture's file; errors name the file and what it is. */
export async function decodeFile(file, name, decode) {
    const kind = await checkFile(file, name);
    try {
        return await decode(file);
    } catch (cause) {
        if (cause instanceof TinyVLMError) throw cause;
        throw failure(name, refusalOf(kind, platform.reader), 'format', cause);
    }
}

function rgba(image) {
    const { data, width, height } = image;
    return { data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength), width, height, channels: image.channels ?? 4 };
}

async function convert(source, signal) {
    if (ArrayBuffer.isView(source?.data)) return checkRaw(source); // ImageData too; copied: the caller keeps his
    if (isA(source, ...DRAWABLE)) return rgba(platform.draw(source, LONGEST));
    const file = await asFile(source, signal);
    if (file) return rgba(await decodeFile(file.file, file.name, (blob) => platform.decode(blob, LONGEST)));
    throw wrong('an image is an ImageData, an image, video or canvas element, an ImageBitmap, a Blob, a URL, the bytes of a '
        + 'file or { data, width, height }');
}

function asTinyVLMError(cause) {
    if (cause instanceof TinyVLMError) return cause;
    if (cause instanceof RangeError) return new TinyVLMError(`out of memory for the image: ${cause.message}`, 'memory', { cause });
    const why = cause?.name === 'SecurityError' ? ' (it is of another origin, which does not allow that it is read)' : '';
    return wrong(`the image: ${cause?.message ?? cause}${why}`, { cause });
}

export async function toPixels(source, signal) {
    try {
        return await convert(source, signal);
    } catch (cause) {
        throw asTinyVLMError(cause);
    }
}
