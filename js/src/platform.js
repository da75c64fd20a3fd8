// SPDX-License-Identifier: MIT
// What differs between browsers and node; node.js replaces these before anything runs.

function pixelsOf(drawable, width, height) {
    const canvas = typeof OffscreenCanvas === 'undefined'
        ? Object.assign(document.createElement('canvas'), { width, height })
        : new OffscreenCanvas(width, height);
    const context = canvas.getContext('2d', { willReadFrequently: true });
    if (!context) throw new Error('this browser gives no 2D canvas');
    context.drawImage(drawable, 0, 0, width, height);
    return context.getImageData(0, 0, width, height);
}

export const platform = {
    /** A worker that runs `file` of this folder. */
    startWorker(file) {
        // Written out twice: bundlers look for this very form.
        return file === 'worker.js'
            ? new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'tinyvlm-worker' })
            : new Worker(new URL('./helper.js', import.meta.url), { type: 'module', name: 'tinyvlm-thread' });
    },

    async compile(url) {
        const response = await fetch(url);
        if (!response.ok) throw new Error(`${url}: HTTP ${response.status}`);
        return WebAssembly.compile(await response.arrayBuffer()).catch((cause) => {
            throw new Error(`${url}: ${cause.message}`, { cause }); // a server may answer with a page
        });
    },

    /** May memory be shared with workers? */
    canShare() {
        return typeof SharedArrayBuffer !== 'undefined' && globalThis.crossOriginIsolated === true;
    },

    threads() {
        return navigator.hardwareConcurrency || 1;
    },

    absoluteUrl(url) {
        return new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href).href;
    },

    /** A drawable picture as RGBA, its longer side at most `longest`. */
    draw(source, longest) {
        const width = source.naturalWidth ?? source.videoWidth ?? source.displayWidth ?? source.width;
        const height = source.naturalHeight ?? source.videoHeight ?? source.displayHeight ?? source.height;
        if (!width || !height) throw new TypeError('the picture has no pixels (yet)');
        const scale = Math.min(1, longest / Math.max(width, height));
        return pixelsOf(source, Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)));
    },

    /** An encoded file's pixels; EXIF orientation applied. */
    async decode(blob, longest) {
        let bitmap;
        try {
            bitmap = await createImageBitmap(blob);
        } catch (cause) {
            throw new TypeError('the file is no picture that this browser reads', { cause });
        }
        try {
            return this.draw(bitmap, longest);
        } finally {
            bitmap.close();
        }
    },
};
