// SPDX-License-Identifier: MIT
// As much of WASI preview 1 as the test programs need, the same in node and in pages.

class Exit extends Error {
    constructor(code) {
        super(`exit ${code}`);
        this.code = code;
    }
}

const EBADF = 8;

/** Runs a WASI command on the bytes of its standard input; { code, output }, the latter with standard error. */
export function runWasi(module, args, input = new Uint8Array(0)) {
    let memory;
    let output = '';
    const decoder = new TextDecoder();
    const view = () => new DataView(memory.buffer);
    const strings = args.map((arg) => new TextEncoder().encode(`${arg}\0`));
    const functions = {
        args_sizes_get(count, size) {
            view().setUint32(count, strings.length, true);
            view().setUint32(size, strings.reduce((sum, s) => sum + s.length, 0), true);
            return 0;
        },
        args_get(pointers, at) {
            for (const s of strings) {
                view().setUint32(pointers, at, true);
                new Uint8Array(memory.buffer).set(s, at);
                pointers += 4;
                at += s.length;
            }
            return 0;
        },
        fd_write(fd, parts, count, written) {
            if (fd !== 1 && fd !== 2) return EBADF;
            let total = 0;
            for (let i = 0; i < count; i++) {
                const at = view().getUint32(parts + 8 * i, true);
                const length = view().getUint32(parts + 8 * i + 4, true);
                output += decoder.decode(new Uint8Array(memory.buffer, at, length), { stream: true });
                total += length;
            }
            view().setUint32(written, total, true);
            return 0;
        },
        fd_read(fd, parts, count, read) {
            if (fd !== 0) return EBADF;
            let total = 0;
            for (let i = 0; i < count; i++) {
                const at = view().getUint32(parts + 8 * i, true);
                const piece = input.subarray(0, view().getUint32(parts + 8 * i + 4, true));
                new Uint8Array(memory.buffer).set(piece, at);
                input = input.subarray(piece.length);
                total += piece.length;
            }
            view().setUint32(read, total, true);
            return 0;
        },
        fd_fdstat_get(fd, at) {
            if (fd > 2) return EBADF;
            new Uint8Array(memory.buffer).fill(0, at, at + 24);
            view().setUint8(at, 2); // a character device: line by line
            return 0;
        },
        clock_time_get(id, precision, at) {
            view().setBigUint64(at, BigInt(Math.round(performance.now() * 1e6)), true);
            return 0;
        },
        proc_exit(code) {
            throw new Exit(code);
        },
    };
    const imports = {};
    for (const { module: space, name } of WebAssembly.Module.imports(module))
        (imports[space] ??= {})[name] = functions[name] ?? (() => EBADF);
    const { exports } = new WebAssembly.Instance(module, imports);
    memory = exports.memory;
    try {
        exports._start();
        return { code: 0, output };
    } catch (error) {
        if (error instanceof Exit) return { code: error.code, output };
        throw error;
    }
}
