// SPDX-License-Identifier: MIT
// Service worker of the demo: keeps the page, the library, the modules and the example photos, so that the
// page opens without a network. Models pass through: the library keeps those itself.

const PREFIX = 'tinyvlm-page-';
const CACHE = `${PREFIX}1`;
const PATIENCE = 3000; // for the network, when there is a copy
const LATE = 30_000; // a network that was late is not waited for again so long

const at = (relative) => new URL(relative, self.location).href;

const START = at('./');
const SHELL = [START, at('style.css'), at('app.js'), at('icon.svg'), at('manifest.webmanifest')];
const LIBRARY = ['index.js', 'errors.js', 'platform.js', 'modules.js', 'memory.js', 'names.js', 'kinds.js', 'images.js', 'worker.js', 'engine.js', 'download.js',
    'helper.js', 'thread.js']
    .map((name) => at(`/tinyvlm/src/${name}`));

/** What is kept once it was fetched: modules of the library, wasm files and photos. */
function isKept(url) {
    if (url.origin !== self.location.origin || url.pathname.startsWith('/models/')) return false;
    return SHELL.includes(url.href)
        || /^\/tinyvlm\/src\/[^/]+\.js$/.test(url.pathname)
        || /^\/tinyvlm\/dist\/[^/]+\.(wasm|js|mjs)$/.test(url.pathname)
        || /^\/photos\/[^/]+\.jpg$/.test(url.pathname);
}

async function install() {
    const cache = await caches.open(CACHE);
    const fresh = (url) => new Request(url, { cache: 'reload' });
    await cache.addAll(SHELL.map(fresh));
    // A module that a build does not have is no reason to do without the rest.
    await Promise.allSettled(LIBRARY.map((url) => cache.add(fresh(url))));
    await self.skipWaiting();
}

async function activate() {
    for (const name of await caches.keys()) {
        // Only the page's own old versions: the library's cache of models has another name.
        if (name.startsWith(PREFIX) && name !== CACHE) await caches.delete(name);
    }
    await self.clients.claim();
}

let lateUntil = 0;

/** The network's answer, so that nobody is left with an old page; offline, or when it is slow, the copy. */
async function networkFirst(request, key) {
    const cache = await caches.open(CACHE);
    const kept = await cache.match(key);
    const fresh = fetch(request).then(async (response) => {
        // A full cache must not cost the page its answer.
        lateUntil = 0;
        if (response.status === 200) await cache.put(key, response.clone()).catch(() => {});
        return response;
    });
    if (!kept) return fresh;
    const now = fresh.then((response) => (response.ok ? response : kept), () => kept);
    if (Date.now() < lateUntil) return kept;
    const late = new Promise((resolve) => { setTimeout(resolve, PATIENCE, null); });
    const response = await Promise.race([now, late]);
    if (!response) lateUntil = Date.now() + LATE;
    return response ?? kept;
}

/** What the page loaded before this worker had control. */
async function keepAll(urls) {
    const cache = await caches.open(CACHE);
    for (const url of urls) {
        if (isKept(new URL(url)) && !(await cache.match(url))) await cache.add(url).catch(() => {});
    }
}

self.addEventListener('install', (event) => event.waitUntil(install()));
self.addEventListener('activate', (event) => event.waitUntil(activate()));

self.addEventListener('message', (event) => {
    if (event.data?.type === 'keep') event.waitUntil(keepAll(event.data.urls));
});

self.addEventListener('fetch', (event) => {
    const { request } = event;
    if (request.method !== 'GET' || request.headers.has('range')) return;
    const url = new URL(request.url);
    if (request.mode === 'navigate') {
        // '?model=...' and the like are the same page.
        const page = url.origin + url.pathname;
        if (page === START || page === `${START}index.html`) event.respondWith(networkFirst(request, START));
        return;
    }
    if (isKept(url)) event.respondWith(networkFirst(request, url.href));
});
