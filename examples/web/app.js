// SPDX-License-Identifier: MIT
// The camera demo. Parameters of the address: ?model=URL, ?threads=N, ?module=NAME, and ?sw=off, which
// removes the service worker and what it keeps (for working on the page itself).

const TINYVLM_BASE = '/tinyvlm/';
const DEFAULT_MODEL = '/models/tinyvlm-25m.gguf';
const PAGE_CACHE_PREFIX = 'tinyvlm-page-';

const MODULES = ['scalar', 'simd128', 'simd128-threads', 'relaxed', 'relaxed-threads'];
const MAX_SIDE = 2048; // the model's square is far smaller, and a phone's photo is not
const THUMB_SIDE = 32;
const STILL_BELOW = 6; // grey levels of 255, mean over the thumbnail: above a camera's noise
const STILL_PAUSE = 200;
const LIVE_TOKENS = 64;
const LIVE_PAUSE = 1000; // between captions: people read them, and phones get warm
const SPOKEN_PAUSE = 5000; // between live captions that are read aloud
const SW_PATIENCE = 2000;

const byId = (id) => document.getElementById(id);
const root = document.documentElement;
const NOTHING_SAID = 'The model had nothing to say.';
const NOTHING_ASKED = byId('asked').textContent;
const preview = byId('preview');
const previewContext = preview.getContext('2d', { willReadFrequently: true });
const video = byId('video');
const thumb = Object.assign(document.createElement('canvas'), { width: THUMB_SIDE, height: THUMB_SIDE });
const thumbContext = thumb.getContext('2d', { willReadFrequently: true });
const parameters = new URLSearchParams(location.search);

let modelUrl = null; // known once the address was read
let engine = null; // promise of the open FastVLM
let loaded = false; // all of the model is there
let failed = false; // the model cannot be used
let isLost = false; // the connection that loads the model; it is tried again
let offline = false; // page, module and model are all kept on the device
let task = null; // {controller, done, label}: what runs now; at most one
let picture = null; // {pixels, controller, encoded}: what questions are about
let camera = null; // {stream, facing}: the live session
let pictureChoices = 0; // counts choices of a picture, so that a slow file does not replace a later one
let spokenAt = -Infinity; // when a live caption was last read aloud
let cameraStarts = 0; // counts starts and stops, so that a late answer of an old start is known as such

// ---------------------------------------------------------------------------------------------------------
// Words

class PlainError extends Error {}

function megabytes(bytes, digits = 1) {
    return (bytes / 1e6).toFixed(digits);
}

function milliseconds(value) {
    return value >= 10000 ? `${(value / 1000).toFixed(1)} s` : `${Math.round(value)} ms`;
}

const STAGE_WORDS = {
    none: 'downloading',
    header: 'text ready',
    tower: 'encoder ready',
    bridge: 'pictures ready',
    decoder: 'complete',
};

function isOutOfMemory(error) {
    return error?.code === 'memory'
        || /out of memory|memory allocation|could not allocate/i.test(error?.message ?? '');
}

/** What went wrong, as a sentence for people. */
function explain(error) {
    if (error instanceof PlainError) return error.message;
    if (isOutOfMemory(error)) {
        return 'There is not enough memory for this. Close other tabs or apps, then load the page again.';
    }
    const detail = error?.message ? ` (${error.message})` : '';
    switch (error?.code) {
    case 'io':
        return `A file could not be loaded. Check the connection and that the file is there.${detail}`;
    case 'format':
    case 'checksum':
        return `The model file is damaged or is not a model.${detail}`;
    case 'unsupported':
        return `This model or this browser is not supported.${detail}`;
    case 'context':
    case 'limit':
        return `That is too long for this model. Ask something shorter.${detail}`;
    default:
        return `Something went wrong.${detail}`;
    }
}

/** Is the model gone, and not for good? */
function canRetry(error) {
    return failed && !(error instanceof PlainError);
}

function explainCamera(error) {
    switch (error?.name) {
    case 'NotAllowedError':
    case 'SecurityError':
        return 'The camera was not allowed. Allow it in the browser\'s site settings, then try again.';
    case 'NotFoundError':
    case 'OverconstrainedError':
        return 'No camera was found on this device. You can choose a photo instead.';
    case 'NotReadableError':
    case 'AbortError':
        return 'The camera did not start. Another app may be using it.';
    default:
        return explain(error);
    }
}

function isAbort(error, signal) {
    return signal?.aborted || error?.name === 'AbortError';
}

// ---------------------------------------------------------------------------------------------------------
// What the page shows

/** For screen readers: what others see. The same again is not said. */
function say(text) {
    if (byId('spoken').textContent !== text) byId('spoken').textContent = text;
}

/** Shows one of two buttons, which takes the focus of the other. */
function showOne(shown, hidden) {
    const hadFocus = document.activeElement === hidden;
    shown.hidden = false;
    hidden.hidden = true;
    if (hadFocus) shown.focus();
}

/** The field takes the focus only where no keyboard would come up over the answer. */
function focusQuestion() {
    if (matchMedia('(pointer: fine)').matches) byId('question').focus();
    else byId('question').blur();
}

function showAlert(message, { retry = false } = {}) {
    byId('alert-box').classList.toggle('is-empty', !message);
    byId('alert-close').hidden = !message || retry; // what can be tried again stays said
    byId('retry').hidden = !retry;
    byId('alert').textContent = message;
}

function clearAlert() {
    // A model that did not load stays said until it is tried again.
    if (!failed) showAlert('');
}

function stateWord() {
    if (failed) return 'Not available';
    if (task && !task.live) return task.label;
    if (camera) return camera.still ? 'Live, still' : 'Live';
    if (!loaded) return isLost ? 'Connection lost' : 'Loading model';
    return offline ? 'Ready offline' : 'Ready';
}

function render() {
    const [ask, stop, start, end] = ['ask', 'stop', 'camera-start', 'camera-stop'].map(byId);
    const answering = task && !task.live; // the live camera has words and a stop of its own
    root.dataset.state = failed ? 'error' : answering ? 'busy' : loaded ? 'ready' : 'loading';
    root.dataset.offline = String(offline);
    byId('status').hidden = false;
    byId('status').textContent = stateWord();
    if (answering) showOne(stop, ask);
    else showOne(ask, stop);
    if (camera) showOne(end, start);
    else showOne(start, end);
    byId('camera-flip').hidden = !camera;
    byId('examples').hidden = Boolean(camera);
    video.hidden = !camera;
    byId('live-mark').hidden = !camera;
    byId('live-mark').textContent = camera?.still ? 'Live, still' : 'Live';
    preview.hidden = !picture;
    byId('empty').hidden = Boolean(picture || camera);
    byId('progress-box').hidden = loaded || failed;
}

function showProgress({ loaded: bytes, total, stage, cached, retry, restarts }) {
    const bar = byId('progress');
    if (total > 0) bar.value = Math.min(1, bytes / total);
    else bar.removeAttribute('value');
    const amount = total > 0 ? `${megabytes(bytes)} of ${megabytes(total)} MB` : `${megabytes(bytes)} MB`;
    const origin = cached > 0 && cached >= bytes ? ', from this device' : '';
    if (picture && restarts) picture.encoded = null; // by what the file was
    const words = retry ? 'Connection lost, retrying' : restarts ? 'Loading model anew' : 'Loading model';
    byId('progress-text').textContent = `${amount}, ${retry ? retry.reason : STAGE_WORDS[stage] ?? stage}${origin}`;
    if (byId('progress-label').textContent === words) return;
    byId('progress-label').textContent = words;
    if (!task) say(words);
    isLost = Boolean(retry);
    render();
}

function showTimings(image, result) {
    const encode = image.timings.preprocess + image.timings.tower + image.timings.bridge;
    const { firstToken, decode } = result.timings;
    // the first token's time is that of the prompt
    const speed = decode > 0 ? `${((result.ids.length - 1) / decode * 1000).toFixed(1)} tokens/s` : '–';
    byId('t-encode').textContent = milliseconds(encode);
    byId('t-first').textContent = milliseconds(firstToken);
    byId('t-speed').textContent = speed;
    byId('timings-line').textContent =
        `encode ${milliseconds(encode)}, first token ${milliseconds(firstToken)}, ${speed}`;
}

async function showMachine() {
    try {
        const model = await engine;
        const [info, memory] = await Promise.all([model.info(), model.memory()]);
        byId('t-module').textContent = info.module;
        const alone = self.crossOriginIsolated ? '' : ' (page not isolated)';
        byId('t-threads').textContent = `${info.threads}${alone}`;
        byId('t-memory').textContent = `${megabytes(memory.module, 0)} MB`;
    } catch {
        // The figures are an extra: what failed is told where it was asked for.
    }
}

/** Moves the answer on show to the log, newest first. */
function archiveAnswer() {
    const text = byId('answer').textContent;
    if (!text) return;
    const entry = document.createElement('li');
    const asked = document.createElement('p');
    const answered = document.createElement('p');
    const note = byId('answer-note').textContent;
    asked.textContent = byId('asked').textContent;
    answered.textContent = note ? `${text} (${note})` : text;
    entry.append(asked, answered);
    byId('log').prepend(entry);
    byId('log-box').hidden = false;
}

function clearAnswers() {
    byId('log').replaceChildren();
    byId('log-box').hidden = true;
    byId('asked').textContent = NOTHING_ASKED;
    byId('answer').textContent = '';
    showNote('');
}

function showNote(text) {
    if (text) say(`${byId('answer').textContent} ${text}`);
    byId('answer-note').textContent = text;
    byId('answer-note').hidden = !text;
}

// ---------------------------------------------------------------------------------------------------------
// Tasks: one at a time, a new one stops the old

/** The promise, or the signal's reason as soon as it aborts. */
function orAbort(promise, signal) {
    return new Promise((resolve, reject) => {
        const abort = () => reject(signal.reason);
        if (signal.aborted) return abort();
        signal.addEventListener('abort', abort, { once: true });
        promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
    });
}

/** Stops what runs and runs work(signal) after it. Resolves to whether work came to its end. */
function runTask(label, work, { live = false } = {}) {
    const previous = task;
    previous?.controller.abort();
    const controller = new AbortController();
    const mine = { controller, label, live };
    const run = async () => {
        await previous?.done;
        try {
            controller.signal.throwIfAborted();
            await work(controller.signal);
            return true;
        } catch (error) {
            if (error?.code === 'state') failed = true; // the engine is gone
            if (!isAbort(error, controller.signal)) showAlert(explain(error), { retry: canRetry(error) });
            return false;
        } finally {
            if (task === mine) task = null;
            render();
        }
    };
    task = mine;
    render();
    mine.done = run();
    return mine.done;
}

function stopTask() {
    task?.controller.abort();
}

// ---------------------------------------------------------------------------------------------------------
// The model

function loadOptions() {
    const options = { onProgress: showProgress, retries: Infinity };
    const threads = parameters.get('threads');
    const module = parameters.get('module');
    if (threads !== null) {
        options.threads = Number(threads);
        if (!Number.isInteger(options.threads) || options.threads < 1 || options.threads > 64) {
            throw new PlainError('The address has ?threads= with something that is no number from 1 to 64.');
        }
    }
    if (module !== null) {
        if (!MODULES.includes(module)) {
            throw new PlainError(`The address has ?module= with a name other than ${MODULES.join(', ')}.`);
        }
        options.module = module;
    }
    return options;
}

function readModelUrl() {
    try {
        return new URL(parameters.get('model') || DEFAULT_MODEL, location.href);
    } catch {
        throw new PlainError('The address has ?model= with something that is not an address.');
    }
}

async function importLibrary(file = 'index.js') {
    try {
        return await import(new URL(`src/${file}`, new URL(TINYVLM_BASE, location.href)));
    } catch (error) {
        throw new PlainError(`The library tinyvlm could not be loaded. Reload the page. (${error.message})`);
    }
}

async function openModel() {
    if (typeof WebAssembly !== 'object') throw new PlainError('This browser cannot run WebAssembly.');
    modelUrl = readModelUrl();
    // 'self' of the page's policy: a model of another site is refused by the browser without a reason.
    if (!['blob:', 'data:'].includes(modelUrl.protocol) && modelUrl.origin !== location.origin) {
        throw new PlainError('The model has to lie on the same site as this page.');
    }
    const options = loadOptions();
    const { default: init, FastVLM } = await importLibrary();
    await init({ wasmUrl: new URL('dist/', new URL(TINYVLM_BASE, location.href)).href });
    return FastVLM.open(modelUrl.href, options);
}

/** Opens the model after the promise `before`; what is asked meanwhile waits for `engine`. */
async function startModel(before = Promise.resolve()) {
    failed = false;
    loaded = false;
    isLost = false;
    clearAlert();
    engine = before.then(openModel);
    render();
    try {
        const model = await engine;
        await model.ready;
        loaded = true;
        render();
        if (!task) say('The model is ready.');
        showMachine();
        offline = await isKeptOffline(model);
    } catch (error) {
        failed = true;
        showAlert(explain(error), { retry: canRetry(error) });
    }
    render();
}

async function retryModel() {
    const broken = engine;
    focusQuestion(); // the button goes
    if (picture) picture.encoded = null;
    broken?.then((model) => model.dispose()).catch(() => {});
    await startModel();
    if (loaded && picture && !task) describe();
}

// ---------------------------------------------------------------------------------------------------------
// Pictures

/** Draws a source to the preview, in proportion, and returns its pixels. */
function drawPreview(source, width, height) {
    if (!width || !height) throw new PlainError('That picture is empty.');
    const scale = Math.min(1, MAX_SIDE / Math.max(width, height));
    preview.width = Math.max(1, Math.round(width * scale));
    preview.height = Math.max(1, Math.round(height * scale));
    // Transparent parts are seen on white, by the model too.
    previewContext.fillStyle = '#fff';
    previewContext.fillRect(0, 0, preview.width, preview.height);
    previewContext.imageSmoothingQuality = 'high';
    previewContext.drawImage(source, 0, 0, preview.width, preview.height);
    return previewContext.getImageData(0, 0, preview.width, preview.height);
}

/** Gives the old picture's tokens back; also those that are still being made. */
function releasePicture() {
    if (!picture) return;
    picture.controller.abort();
    picture.encoded?.then((image) => image.dispose()).catch(() => {});
    picture = null;
}

function setPicture(source, width, height, name) {
    const pixels = drawPreview(source, width, height);
    releasePicture();
    picture = { pixels, controller: new AbortController(), encoded: null };
    preview.setAttribute('aria-label', name);
}

/** The picture's tokens, made once. A stopped answer does not stop them: the next question needs them. */
function encodePicture(of) {
    if (!of.encoded) {
        const { signal } = of.controller;
        const encoded = engine.then((model) => model.encodeImage(of.pixels, { signal }));
        // After a failure the next question tries again.
        encoded.catch(() => { if (of.encoded === encoded) of.encoded = null; });
        of.encoded = encoded;
    }
    return of.encoded;
}

async function openImage(file) {
    try {
        return await createImageBitmap(file);
    } catch {
        // Vector pictures open only as an element.
        const url = URL.createObjectURL(file);
        try {
            const image = new Image();
            image.src = url;
            await image.decode();
            return image;
        } finally {
            URL.revokeObjectURL(url);
        }
    }
}

/** The picture of a file; else says what the file is. */
async function decodePicture(file) {
    const { decodeFile } = await importLibrary('images.js');
    try {
        return await decodeFile(file, file.name ?? '', openImage);
    } catch (error) {
        throw new PlainError(`${error.message}.`);
    }
}

/** Shows a picture file and describes it, if nothing else was chosen since. */
async function usePicture(file, name, choice = ++pictureChoices) {
    clearAlert();
    try {
        const image = await decodePicture(file);
        if (choice !== pictureChoices) return;
        stopCamera();
        stopTask();
        setPicture(image, image.naturalWidth || image.width, image.naturalHeight || image.height, name);
        image.close?.();
        clearAnswers();
        render();
        await describe();
    } catch (error) {
        if (choice !== pictureChoices) return;
        refusePicture(error);
    }
}

/** Nothing of the last picture stays beside the message about this one. */
function refusePicture(error) {
    stopCamera();
    stopTask();
    releasePicture();
    clearAnswers();
    showAlert(explain(error));
    render();
}

async function useExample(button) {
    const choice = ++pictureChoices;
    const name = button.textContent.trim();
    try {
        const response = await fetch(button.dataset.photo);
        if (!response.ok) throw new Error(`status ${response.status}`);
        const file = await response.blob();
        if (choice === pictureChoices) await usePicture(file, `Example photo: ${name}`, choice);
    } catch (error) {
        if (choice === pictureChoices) showAlert(`The example photo could not be loaded. (${error.message})`);
    }
}

// ---------------------------------------------------------------------------------------------------------
// Questions

/** Streams one answer about the picture into the page. */
async function streamAnswer(question, signal, options = {}) {
    const of = picture;
    const box = byId('answer');
    const model = await orAbort(engine, signal);
    const image = await orAbort(encodePicture(of), signal);
    let heard = '';
    // Until there are words the old caption stays: a live one would flicker.
    const show = (text) => { if (text.trim()) box.textContent = text; };
    const onToken = (piece) => {
        heard += piece;
        if (!signal.aborted) show(heard);
    };
    const result = await model.generate(image, question || undefined, { ...options, signal, onToken });
    show(result.text);
    showTimings(image, result);
    showMachine();
    return result;
}

/** Who asked further down sees the answer come. */
function showAnswer() {
    document.querySelector('.turn').scrollIntoView({ block: 'nearest' });
}

function describe() {
    return ask('');
}

/** Asks about the picture on show; an empty question is the model's own "describe". */
function ask(question) {
    if (camera && video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA) holdFrame();
    if (!picture) {
        showAlert('Choose a picture first, then ask.');
        return Promise.resolve(false);
    }
    clearAlert();
    return runTask('Answering', async (signal) => {
        const box = byId('answer');
        archiveAnswer();
        say(''); // the answer may be the last one's
        byId('asked').textContent = question || 'Describe the picture.';
        showAnswer();
        box.textContent = '';
        showNote('');
        box.setAttribute('aria-busy', 'true');
        try {
            const { finish, text } = await streamAnswer(question, signal);
            say(text);
            if (!text.trim()) showNote(NOTHING_SAID);
            else if (finish !== 'stop') showNote('Cut here: the answer reached its longest length.');
        } catch (error) {
            if (isAbort(error, signal)) showNote('Stopped.');
            throw error;
        } finally {
            box.setAttribute('aria-busy', 'false');
        }
    });
}

// ---------------------------------------------------------------------------------------------------------
// Live camera

function pause(time) {
    return new Promise((resolve) => setTimeout(resolve, time));
}

/** Resolves at once where the page is seen, else when it is again. */
function whenVisible() {
    if (!document.hidden) return Promise.resolve();
    return new Promise((resolve) => {
        document.addEventListener('visibilitychange', resolve, { once: true });
    });
}

/** The camera's picture as 32 x 32 grey levels. */
function greyThumbnail() {
    thumbContext.drawImage(video, 0, 0, THUMB_SIDE, THUMB_SIDE);
    const { data } = thumbContext.getImageData(0, 0, THUMB_SIDE, THUMB_SIDE);
    const grey = new Float32Array(THUMB_SIDE * THUMB_SIDE);
    for (let i = 0; i < grey.length; i++) {
        grey[i] = 0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2];
    }
    return grey;
}

function meanDifference(a, b) {
    let sum = 0;
    for (let i = 0; i < a.length; i++) sum += Math.abs(a[i] - b[i]);
    return sum / a.length;
}

function takeFrame() {
    setPicture(video, video.videoWidth, video.videoHeight, 'Picture from the camera');
}

/** A question in front of the live camera is about one picture: this one. */
function holdFrame() {
    pictureChoices++;
    takeFrame();
    stopCamera();
    clearAnswers();
    render();
}

async function captionFrame() {
    takeFrame();
    return runTask('Looking', async (signal) => {
        const box = byId('answer');
        showNote('');
        box.setAttribute('aria-busy', 'true');
        try {
            const { text } = await streamAnswer('', signal, { maxTokens: LIVE_TOKENS });
            if (!text.trim()) showNote(NOTHING_SAID);
            if (performance.now() - spokenAt > SPOKEN_PAUSE) {
                say(text);
                spokenAt = performance.now();
            }
        } finally {
            box.setAttribute('aria-busy', 'false');
        }
    }, { live: true });
}

/** Captions one frame after the other; a frame is taken only when the last one is done. */
async function liveLoop(session) {
    let captioned = null;
    while (camera === session) {
        await whenVisible();
        if (camera !== session) return;
        if (video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA || !video.videoWidth) {
            await pause(50);
            continue;
        }
        const grey = greyThumbnail();
        session.still = captioned !== null && meanDifference(grey, captioned) < STILL_BELOW;
        render();
        if (session.still) {
            say(byId('answer').textContent); // what was passed over
            await pause(STILL_PAUSE);
            continue;
        }
        if (await captionFrame()) {
            captioned = grey;
            await pause(LIVE_PAUSE);
        } else if (camera === session) {
            // Nothing is tried over and over that does not work; what it was is on the page.
            stopCamera();
            return;
        }
    }
}

async function openStream(facing) {
    if (!navigator.mediaDevices?.getUserMedia) {
        throw new PlainError('The camera needs https or localhost. You can choose a photo instead.');
    }
    return navigator.mediaDevices.getUserMedia({
        audio: false,
        video: { facingMode: facing, width: { ideal: 1280 }, height: { ideal: 720 } },
    });
}

function closeStream(stream) {
    for (const track of stream.getTracks()) track.stop();
}

/** Shows whether there is another camera to flip to. */
async function updateFlip() {
    try {
        const devices = await navigator.mediaDevices.enumerateDevices();
        const cameras = devices.filter((device) => device.kind === 'videoinput').length;
        byId('camera-flip').disabled = cameras < 2;
        byId('camera-flip').title = cameras < 2 ? 'This device has one camera' : '';
    } catch {
        byId('camera-flip').disabled = false;
    }
}

async function startCamera(facing = 'environment') {
    const start = ++cameraStarts;
    const hadFocus = document.activeElement === byId('camera-start'); // which a disabled button loses
    pictureChoices++;
    clearAlert();
    byId('camera-start').disabled = true;
    try {
        const stream = await openStream(facing);
        if (start !== cameraStarts) {
            closeStream(stream);
            return;
        }
        await beginLive(stream, facing, hadFocus);
    } catch (error) {
        if (start === cameraStarts) {
            stopCamera();
            showAlert(explainCamera(error));
        }
    } finally {
        byId('camera-start').disabled = false;
        render();
        if (hadFocus && !camera) byId('camera-start').focus();
    }
}

async function beginLive(stream, facing, hadFocus) {
    stopTask();
    releasePicture();
    clearAnswers();
    byId('asked').textContent = 'Live caption';
    const session = { stream, facing, still: false };
    camera = session;
    stream.getVideoTracks()[0]?.addEventListener('ended', () => {
        if (camera !== session) return;
        stopCamera();
        showAlert('The camera was disconnected.');
    });
    render();
    showAnswer();
    if (hadFocus) byId('camera-stop').focus();
    updateFlip();
    video.srcObject = stream;
    await video.play();
    liveLoop(session).catch((error) => {
        if (camera === session) stopCamera();
        showAlert(explain(error));
    });
}

/** Ends the live session; its last captioned frame stays as the picture. */
function stopCamera() {
    cameraStarts++;
    if (!camera) return;
    const hadFocus = document.activeElement === byId('camera-flip'); // which goes, too
    closeStream(camera.stream);
    camera = null;
    if (task?.live) stopTask();
    video.srcObject = null;
    byId('camera-start').disabled = false;
    render();
    if (hadFocus) byId('camera-start').focus();
}

async function flipCamera() {
    const facing = camera?.facing === 'environment' ? 'user' : 'environment';
    // Phones do not open a second camera while the first is on.
    stopCamera();
    await startCamera(facing);
    if (camera) byId('camera-flip').focus();
}

// ---------------------------------------------------------------------------------------------------------
// Offline

async function removeServiceWorker() {
    for (const one of await navigator.serviceWorker.getRegistrations()) await one.unregister();
    for (const name of await caches.keys()) {
        if (name.startsWith(PAGE_CACHE_PREFIX)) await caches.delete(name);
    }
}

/** Registers the service worker and waits a little for it, so that it sees the wasm file go by. */
async function startServiceWorker() {
    if (!('serviceWorker' in navigator) || !self.isSecureContext) return;
    try {
        if (parameters.get('sw') === 'off') {
            await removeServiceWorker();
            // The old worker has control until the next load, and would keep things again.
            if (navigator.serviceWorker.controller) location.reload();
            return;
        }
        const controlled = new Promise((resolve) => {
            navigator.serviceWorker.addEventListener('controllerchange', resolve, { once: true });
        });
        const registered = navigator.serviceWorker.register('sw.js'); // which waits for the network
        if (navigator.serviceWorker.controller) registered.catch(() => {});
        else await Promise.race([registered.then(() => controlled), pause(SW_PATIENCE)]);
    } catch {
        // Without it (private windows) the page works, only not offline.
    }
}

/** Tells the service worker what was loaded before it had control: the photos, mostly. */
function keepLoaded() {
    const urls = performance.getEntriesByType('resource').map((entry) => entry.name);
    navigator.serviceWorker.controller.postMessage({ type: 'keep', urls });
}

/** Whether page, wasm file and model are all there without a network. */
async function isKeptOffline(model) {
    if (!navigator.serviceWorker?.controller || !self.caches) return false;
    try {
        keepLoaded();
        const { kept, total } = model.progress;
        const wasm = `tinyvlm-${(await model.info()).module}.wasm`;
        const module = await caches.match(new URL(`dist/${wasm}`, new URL(TINYVLM_BASE, location.href)).href);
        return total > 0 && kept >= total && Boolean(module);
    } catch {
        return false;
    }
}

// ---------------------------------------------------------------------------------------------------------
// Controls

function pictureOf(list) {
    return [...(list ?? [])].find((file) => file.type.startsWith('image/'));
}

function bindPictures() {
    byId('file').addEventListener('change', (event) => {
        const [file] = event.target.files;
        if (file) usePicture(file, `Photo: ${file.name}`);
        // So that the same file can be chosen again.
        event.target.value = '';
    });
    for (const button of document.querySelectorAll('[data-photo]')) {
        button.addEventListener('click', () => useExample(button));
    }
    document.addEventListener('paste', (event) => {
        const file = pictureOf(event.clipboardData?.files);
        // Text goes where it was pasted.
        if (!file) return;
        event.preventDefault();
        usePicture(file, 'Pasted picture');
    });
}

function bindDrop() {
    const hasFile = (event) => [...(event.dataTransfer?.types ?? [])].includes('Files');
    document.addEventListener('dragover', (event) => {
        if (!hasFile(event)) return;
        event.preventDefault();
        root.dataset.dragging = '';
    });
    document.addEventListener('dragleave', (event) => {
        if (!event.relatedTarget) delete root.dataset.dragging;
    });
    document.addEventListener('drop', (event) => {
        delete root.dataset.dragging;
        if (!hasFile(event)) return;
        event.preventDefault();
        const { files } = event.dataTransfer;
        const file = pictureOf(files) ?? files[0];
        if (file) usePicture(file, `Photo: ${file.name}`);
    });
}

function bindQuestions() {
    byId('form').addEventListener('submit', (event) => {
        event.preventDefault();
        ask(byId('question').value.trim());
        focusQuestion();
        if (document.activeElement === byId('question')) byId('question').select();
    });
    for (const chip of document.querySelectorAll('[data-question]')) {
        chip.addEventListener('click', () => ask(chip.dataset.question));
    }
    byId('stop').addEventListener('click', stopTask);
    document.addEventListener('keydown', (event) => {
        if (event.key !== 'Escape') return;
        if (task && !task.live) stopTask();
        else stopCamera();
    });
}

function bindRest() {
    byId('camera-start').addEventListener('click', () => startCamera());
    byId('camera-stop').addEventListener('click', stopCamera);
    byId('camera-flip').addEventListener('click', flipCamera);
    byId('retry').addEventListener('click', retryModel);
    window.addEventListener('online', () => { if (!byId('retry').hidden) retryModel(); });
    byId('alert-close').addEventListener('click', () => {
        showAlert('');
        focusQuestion();
    });
}

bindPictures();
bindDrop();
bindQuestions();
bindRest();
await startModel(startServiceWorker());
