// SPDX-License-Identifier: MIT
// Static HTTP server of the demo page, on node's own modules alone.
// node examples/web/serve.mjs [--port 8000] [--host 127.0.0.1] [--no-isolation]

import { createReadStream, realpathSync } from 'node:fs';
import { realpath, stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const PAGE = path.dirname(fileURLToPath(import.meta.url));
const REPOSITORY = path.resolve(PAGE, '..', '..');

// The first prefix that fits wins, so '/' is last.
const ROOTS = [
    ['/tinyvlm/src/', path.join(REPOSITORY, 'js', 'src')],
    ['/tinyvlm/dist/', path.join(REPOSITORY, 'js', 'dist')],
    ['/models/', path.join(REPOSITORY, 'models')],
    ['/photos/', path.join(REPOSITORY, 'examples', 'photos')],
    ['/', PAGE],
];

const TYPES = {
    '.css': 'text/css; charset=utf-8',
    '.gguf': 'application/octet-stream',
    '.html': 'text/html; charset=utf-8',
    '.jpg': 'image/jpeg',
    '.js': 'text/javascript; charset=utf-8',
    '.json': 'application/json; charset=utf-8',
    '.map': 'application/json; charset=utf-8',
    '.md': 'text/plain; charset=utf-8',
    '.mjs': 'text/javascript; charset=utf-8',
    '.png': 'image/png',
    '.svg': 'image/svg+xml',
    '.ts': 'text/plain; charset=utf-8',
    '.wasm': 'application/wasm',
    '.webmanifest': 'application/manifest+json',
};

const HELP = `Serves the tinyvlm camera demo.

usage: node examples/web/serve.mjs [options]

  --port N         port to listen on, 0 for any free one (default 8000)
  --host ADDRESS   address to listen on (default 127.0.0.1)
  --no-isolation   leave out the headers that isolate the page: the engine then runs on one thread
  --help           this text
`;

class HttpError extends Error {
    constructor(status, message, headers = {}) {
        super(message);
        this.status = status;
        this.headers = headers;
    }
}

/** The path of a request target, decoded once, with everything refused that could climb out of a root. */
function decodeTarget(target) {
    const raw = target.split(/[?#]/, 1)[0];
    let decoded;
    try {
        decoded = decodeURIComponent(raw);
    } catch {
        throw new HttpError(400, 'Bad percent encoding');
    }
    if (!decoded.startsWith('/') || /[\0\\]/.test(decoded)) throw new HttpError(400, 'Bad path');
    // A leading dot covers '.', '..' and hidden files.
    if (decoded.split('/').some((part) => part.startsWith('.'))) throw new HttpError(403, 'Forbidden');
    return decoded;
}

/** Finds the file of a path. The real paths are compared, so a symbolic link cannot lead out of its root. */
async function findFile(pathname, roots) {
    const [prefix, root] = roots.find(([start]) => pathname.startsWith(start));
    const name = pathname.slice(prefix.length) || 'index.html';
    let file, info, home;
    try {
        home = await realpath(root);
        file = await realpath(path.join(home, name));
        info = await stat(file);
    } catch (error) {
        if (['ENOENT', 'ENOTDIR', 'ENAMETOOLONG', 'ELOOP'].includes(error.code)) {
            throw new HttpError(404, 'Not found');
        }
        throw error;
    }
    if (!file.startsWith(home + path.sep)) throw new HttpError(403, 'Forbidden');
    if (!info.isFile()) throw new HttpError(404, 'Not found');
    return { file, size: info.size, modified: info.mtime };
}

function makeTag({ size, modified }) {
    return `"${size.toString(16)}-${modified.getTime().toString(16)}"`;
}

function seconds(date) {
    return Math.floor(date.getTime() / 1000);
}

function isNotModified(headers, tag, modified) {
    const wanted = headers['if-none-match'];
    if (wanted !== undefined) {
        return wanted.trim() === '*'
            || wanted.split(',').some((one) => one.trim().replace(/^W\//, '') === tag);
    }
    const since = Date.parse(headers['if-modified-since'] ?? '');
    return !Number.isNaN(since) && seconds(modified) * 1000 <= since;
}

/** If-Range: a range of another version must not be glued to what the client has. */
function isSameVersion(headers, tag, modified) {
    const wanted = headers['if-range'];
    if (wanted === undefined) return true;
    if (wanted.includes('"')) return wanted.trim() === tag;
    return Date.parse(wanted) === seconds(modified) * 1000;
}

/** One byte range as {start, end}, end included; null means the whole file (also for several ranges). */
function parseRange(header, size) {
    const match = /^\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*$/i.exec(header ?? '');
    if (!match || (match[1] === '' && match[2] === '')) return null;
    let start, end;
    if (match[1] === '') {
        const suffix = Number(match[2]);
        start = suffix === 0 ? size : Math.max(0, size - suffix);
        end = size - 1;
    } else {
        start = Number(match[1]);
        end = match[2] === '' ? size - 1 : Math.min(Number(match[2]), size - 1);
        if (match[2] !== '' && Number(match[2]) < start) return null;
    }
    if (start >= size) {
        throw new HttpError(416, 'Range not satisfiable', { 'Content-Range': `bytes */${size}` });
    }
    return { start, end };
}

/** Sends bytes start..end of a file; limit cuts the connection after so many, or leaves it silent (stalls); last is
 *  a promise that the last of them wait for. */
async function sendBytes(response, file, start, end, { limit = Infinity, stalls = false, last = null }) {
    const stream = createReadStream(file, { start, end });
    response.once('close', () => stream.destroy());
    let left = limit;
    let at = start;
    for await (const data of stream) {
        at += data.length;
        if (at > end) await last;
        const part = data.length > left ? data.subarray(0, left) : data;
        left -= part.length;
        await new Promise((resolve, reject) => {
            response.write(part, (error) => (error ? reject(error) : resolve()));
        });
        if (left <= 0) {
            if (!stalls) response.socket?.destroy();
            return;
        }
    }
    response.end();
}

async function answer(request, response, options) {
    if (request.method !== 'GET' && request.method !== 'HEAD') {
        throw new HttpError(405, 'Method not allowed', { Allow: 'GET, HEAD' });
    }
    const pathname = decodeTarget(request.url);
    const found = await findFile(pathname, options.roots);
    const tag = makeTag(found);
    response.setHeader('ETag', tag);
    response.setHeader('Last-Modified', found.modified.toUTCString());
    response.setHeader('Accept-Ranges', 'bytes');
    // The browser may keep a file but asks each time whether it changed.
    response.setHeader('Cache-Control', 'no-cache');

    if (isNotModified(request.headers, tag, found.modified)) {
        response.writeHead(304).end();
        return;
    }
    const asked = request.method === 'GET' && isSameVersion(request.headers, tag, found.modified)
        ? request.headers.range : undefined;
    const range = parseRange(asked, found.size);
    const { start, end } = range ?? { start: 0, end: found.size - 1 };
    const length = end - start + 1;
    if (range) response.setHeader('Content-Range', `bytes ${start}-${end}/${found.size}`);
    const type = TYPES[path.extname(found.file).toLowerCase()] ?? 'application/octet-stream';
    response.setHeader('Content-Type', type);
    response.setHeader('Content-Length', length);
    response.writeHead(range ? 206 : 200);
    if (request.method === 'HEAD' || length === 0) {
        response.end();
        return;
    }

    const isModel = pathname.endsWith('.gguf');
    const cut = isModel && request.headers.range === undefined
        && options.truncate > 0 && options.truncate < length;
    await sendBytes(response, found.file, start, end, {
        limit: cut ? options.truncate : Infinity,
        stalls: options.stalls,
        last: isModel ? options.last : null,
    });
}

function refuse(request, response, error) {
    if (response.headersSent) {
        response.destroy();
        return;
    }
    const known = error instanceof HttpError;
    const body = `${known ? error.message : 'Internal error'}\n`;
    for (const name of ['ETag', 'Last-Modified', 'Cache-Control']) response.removeHeader(name);
    response.writeHead(known ? error.status : 500, {
        'Content-Type': 'text/plain; charset=utf-8',
        'Content-Length': Buffer.byteLength(body),
        'Cache-Control': 'no-store',
        ...(known ? error.headers : {}),
    });
    response.end(request.method === 'HEAD' ? undefined : body);
}

/**
 * Starts the server.
 * options: port (0: any free one), host, isolation; for tests roots ([prefix, folder], before the usual
 * ones), headers (sent with everything), last (a promise that the last bytes of models wait for), truncate (a request for a
 * model without Range loses its connection after that many bytes), stalls (or it goes silent), resumes (false: requests
 * with Range lose theirs at once) and hangs (answers nothing). Settings may change while it runs.
 */
export async function serve(options = {}) {
    const settings = { port: 8000, host: '127.0.0.1', isolation: true, headers: {}, last: null, truncate: 0, stalls: false, resumes: true, hangs: false, ...options };
    settings.roots = [...(options.roots ?? []), ...ROOTS];
    const server = createServer((request, response) => {
        response.setHeader('X-Content-Type-Options', 'nosniff');
        for (const [name, value] of Object.entries(settings.headers)) response.setHeader(name, value);
        if (settings.isolation) {
            response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
            response.setHeader('Cross-Origin-Embedder-Policy', 'require-corp');
            response.setHeader('Cross-Origin-Resource-Policy', 'same-origin');
        }
        if (settings.hangs) return;
        if (!settings.resumes && request.headers.range) {
            request.socket.destroy();
            return;
        }
        answer(request, response, settings).catch((error) => refuse(request, response, error));
    });
    await new Promise((resolve, reject) => {
        server.once('error', reject);
        server.listen(settings.port, settings.host, resolve);
    });
    const host = settings.host.includes(':') ? `[${settings.host}]` : settings.host;
    return {
        settings,
        url: `http://${host}:${server.address().port}/`,
        close() {
            return new Promise((resolve) => {
                server.close(() => resolve());
                server.closeAllConnections();
            });
        },
    };
}

function readArguments() {
    const { values } = parseArgs({
        options: {
            port: { type: 'string', default: '8000' },
            host: { type: 'string', default: '127.0.0.1' },
            'no-isolation': { type: 'boolean', default: false },
            help: { type: 'boolean', default: false },
        },
    });
    const port = Number(values.port);
    if (!/^\d+$/.test(values.port) || port > 65535) throw new Error(`not a port: ${values.port}`);
    return { port, host: values.host, isolation: !values['no-isolation'], help: values.help };
}

async function main() {
    let options;
    try {
        options = readArguments();
    } catch (error) {
        console.error(`serve: ${error.message}\n\n${HELP}`);
        process.exitCode = 2;
        return;
    }
    if (options.help) {
        process.stdout.write(HELP);
        return;
    }
    try {
        const { url } = await serve(options);
        console.log(url);
    } catch (error) {
        const busy = `port ${options.port} is in use, choose another with --port`;
        console.error(`serve: ${error.code === 'EADDRINUSE' ? busy : error.message}`);
        process.exitCode = 1;
    }
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) await main();
