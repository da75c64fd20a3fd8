// SPDX-License-Identifier: MIT
// Any picture -> { data, width, height, channels } in a buffer of its own, to be handed to the worker.
import { platform } from './platform.js';

// Beyond it the browser shrinks a picture first: 48 megapixels would cost 190 MB for nothing that
// a model of 224 or 1024 pixels sees.
const LONGEST = 4096;

function isDrawable(source) {
    return ['HTMLImageElement', 'HTMLVideoElement', 'HTMLCanvasElement', 'OffscreenCanvas', 'ImageBitmap', 'VideoFrame']
        .some((name) => typeof globalThis[name] === 'function' && source instanceof globalThis[name]);
}

function checkRaw(source) {
    const { data, width, height } = source;
    const whole = Number.isInteger(width) && Number.isInteger(height) && width > 0 && height > 0;
    const channels = source.channels ?? (whole ? data.length / (width * height) : 0);
    if (data.BYTES_PER_ELEMENT !== 1) throw new TypeError('pixels: data holds no bytes');
    if (!whole || ![1, 3, 4].includes(channels) || data.length !== width * height * channels)
        throw new TypeError(`pixels: ${data.length} bytes are not ${width} x ${height} of 1, 3 or 4 channels`);
    return { data: new Uint8Array(data), width, height, channels };
}

async function fetchPicture(url) {
    const local = await platform.fetchPicture?.(url); // files, in node
    if (local) return local;
    const response = await fetch(url);
    if (!response.ok) throw new Error(`${String(url).slice(0, 200)}: HTTP ${response.status}`);
    return response.blob();
}

function rgba(image) {
    const { data, width, height } = image;
    return { data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength), width, height, channels: image.channels ?? 4 };
}

export async function toPixels(source) {
    if (source instanceof URL || typeof source === 'string')
        source = await fetchPicture(platform.absoluteUrl(source));
    if (typeof Blob !== 'undefined' && source instanceof Blob) return rgba(await platform.decode(source, LONGEST));
    if (source && isDrawable(source)) return rgba(platform.draw(source, LONGEST));
    if (ArrayBuffer.isView(source?.data)) return checkRaw(source); // ImageData too; copied: the caller keeps his
    throw new TypeError('a picture is an ImageData, an image, video or canvas element, an ImageBitmap, a Blob, a URL '
        + 'or { data, width, height }');
}

/** A picture file as base64, with or without "data:...,". */
export function fromBase64(text) {
    const comma = text.startsWith('data:') ? text.indexOf(',') + 1 : 0;
    const bytes = Uint8Array.from(atob(text.slice(comma)), (c) => c.charCodeAt(0));
    return new Blob([bytes]);
}
