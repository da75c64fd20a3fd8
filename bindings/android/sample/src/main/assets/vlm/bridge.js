// SPDX-License-Identifier: MIT
// Between the app and the model: window.processImage(base64, prompt, id), then AndroidCamera.answer or .error(id, text).
import { FastVLM } from './tinyvlm/src/index.js';

const model = FastVLM.load('model.gguf', { cache: false }); // the assets are on the device already
model.catch((error) => AndroidCamera.error(-1, error.message));

let busy = false;
let waiting = null;

async function answer({ base64, prompt, id }) {
    let text;
    try {
        text = await (await model).infer(`data:image/jpeg;base64,${base64}`, prompt);
    } catch (error) {
        return AndroidCamera.error(id, error.message);
    }
    return AndroidCamera.answer(id, text);
}

window.processImage = async (base64, prompt, id = 0) => {
    waiting = { base64, prompt, id }; // a frame that was not begun gives way
    if (busy) return;
    busy = true;
    while (waiting) {
        const frame = waiting;
        waiting = null;
        await answer(frame).catch(console.error); // of the app, as it is told
    }
    busy = false;
};
