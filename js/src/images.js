// SPDX-License-Identifier: MIT
// Any picture -> { data, width, height, channels } in a buffer of its own, to be handed to the worker.
import { TinyVLMError } from './errors.js';
import { platform } from './platform.js';

// Beyond it the browser shrinks a picture first: 48 megapixels would cost 190 MB for nothing that
// a model of 224 or 1024 pixels sees.
const LONGEST = 2048;

/** Its class by name: one of another frame is not an instance of ours. */
export const isA = (source, ...names) => names.includes(Object.prototype.toString.call(source).slice(8, -1));

const DRAWABLE = ['HTMLImageElement', 'HTMLVideoElement', 'HTMLCanvasElement', 'OffscreenCanvas', 'ImageBitmap', 'VideoFrame'];

function checkRaw(source) {
    const { data, width, height } = source;
    const whole = Number.isInteger(width) && Number.isInteger(height) && width > 0 && height > 0;
    const channels = source.channels ?? (whole ? data.length / (width * height) : 0);
    if (data.BYTES_PER_ELEMENT !== 1) throw new TypeError('pixels: data holds no bytes');
    if (!whole || ![1, 3, 4].includes(channels) || data.length !== width * height * channels)
        throw new TypeError(`pixels: ${data.length} bytes are not ${width} x ${height} of 1, 3 or 4 channels`);
    return { data: new Uint8Array(data), width, height, channels };
}

async function fetchPicture(url, signal) {
    const name = url.slice(0, 200); // it may be data
    try {
        const local = await platform.fetchPicture?.(url); // files, in node
        if (local) return local;
        const response = await fetch(url, { signal });
        if (response.ok) return await response.blob();
        throw new Error(`HTTP ${response.status}`);
    } catch (cause) {
        throw new TinyVLMError(`${name}: ${cause.message}`, 'io', { cause });
    }
}

function rgba(image) {
    const { data, width, height } = image;
    return { data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength), width, height, channels: image.channels ?? 4 };
}

export async function toPixels(source, signal) {
    if (typeof source === 'string' || isA(source, 'URL'))
        source = await fetchPicture(platform.absoluteUrl(source), signal);
    if (isA(source, 'Blob', 'File')) return rgba(await platform.decode(source, LONGEST));
    if (isA(source, ...DRAWABLE)) return rgba(platform.draw(source, LONGEST));
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
