// SPDX-License-Identifier: MIT
// What differs between browsers and node; node.js replaces these before anything runs.
import { fetchBytes } from './download.js';
import { TinyVLMError, wrong } from './errors.js';

function pixelsOf(drawable, width, height) {
    const canvas = typeof OffscreenCanvas === 'undefined'
        ? Object.assign(document.createElement('canvas'), { width, height })
        : new OffscreenCanvas(width, height);
    const context = canvas.getContext('2d', { willReadFrequently: true });
    if (!context) throw new TinyVLMError('this browser gives no 2D canvas', 'unsupported');
    context.fillStyle = '#fff'; // seen through what is transparent
    context.fillRect(0, 0, width, height);
    context.imageSmoothingQuality = 'high';
    context.drawImage(drawable, 0, 0, width, height);
    return context.getImageData(0, 0, width, height);
}

/** A worker may not be a script of another origin, but may import one. */
function startForeign(file) {
    const here = import.meta.url;
    const source = `import ${JSON.stringify(new URL(file, here).href)};`;
    const url = URL.createObjectURL(new Blob([source], { type: 'text/javascript' }));
    const worker = new Worker(url, { type: 'module', name: `tinyvlm-${file}` });
    setTimeout(() => URL.revokeObjectURL(url), 60_000); // it has been read by then
    return worker;
}

/** The module whose bytes read() gives. Errors name it, as a server may answer with a page. */
export async function compileFrom(url, read) {
    const failed = (what, code) => (cause) => { throw new TinyVLMError(`${what}${cause.message}`, code, { cause }); };
    const bytes = await read().catch(failed('', 'io')); // which names it
    return WebAssembly.compile(bytes).catch(failed(`${url}: `, 'unsupported'));
}

export const platform = {
    /** A worker that runs `file` of this folder. */
    startWorker(file) {
        try {
            // Written out twice: bundlers look for this very form.
            return file === 'worker.js'
                ? new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'tinyvlm-worker' })
                : new Worker(new URL('./helper.js', import.meta.url), { type: 'module', name: 'tinyvlm-thread' });
        } catch (error) {
            if (error.name !== 'SecurityError') throw error;
            return startForeign(file);
        }
    },

    compile: (url) => compileFrom(url, () => fetchBytes(url.href)),

    /** May memory be shared with workers? */
    canShare() {
        return typeof SharedArrayBuffer !== 'undefined' && globalThis.crossOriginIsolated === true;
    },

    threads() {
        return navigator.hardwareConcurrency || 1;
    },

    absoluteUrl(url) {
        try {
            return new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href).href;
        } catch (cause) {
            throw wrong(`'${url}' is no URL`, { cause });
        }
    },

    /** What decodes pictures, in words. */
    reader: 'this browser',

    /** A drawable picture as RGBA, its longer side at most `longest`. */
    draw(source, longest) {
        const width = source.naturalWidth ?? source.videoWidth ?? source.displayWidth ?? source.width;
        const height = source.naturalHeight ?? source.videoHeight ?? source.displayHeight ?? source.height;
        if (!width || !height) throw wrong('the image has no pixels (yet, or it is broken)');
        const scale = Math.min(1, longest / Math.max(width, height));
        return pixelsOf(source, Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)));
    },

    /** An encoded file's pixels; EXIF orientation applied. */
    async decode(blob, longest) {
        const bitmap = await createImageBitmap(blob);
        try {
            return this.draw(bitmap, longest);
        } finally {
            bitmap.close();
        }
    },
};
