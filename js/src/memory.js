// SPDX-License-Identifier: MIT

const PAGE = 65536;
// As linked (scripts/wasm.sh).
const INITIAL_PAGES = 64;
const MOST_PAGES = 65536;
const LEAST_PAGES = 1024;

export function isThreaded(name) {
    return name.endsWith('-threads');
}

/** Memory for a module: as large as asked, or as the system grants addresses for. */
export function makeMemory(name, bytes) {
    const shared = isThreaded(name);
    let maximum = Math.min(MOST_PAGES, Math.max(INITIAL_PAGES, Math.floor(bytes / PAGE)));
    for (;;) {
        try {
            return new WebAssembly.Memory({ initial: INITIAL_PAGES, maximum, shared });
        } catch (error) {
            if (maximum <= LEAST_PAGES) throw error;
            maximum = Math.max(LEAST_PAGES, maximum >> 1);
        }
    }
}
