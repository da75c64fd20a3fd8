// SPDX-License-Identifier: MIT
import { FastVLM, type ImageSource, type ModelInfo } from 'tinyvlm';

declare global {
    interface Window {
        describe(model: string, picture: ImageSource): Promise<{ info: ModelInfo; text: string }>;
    }
}

window.describe = async (url, picture) => {
    const model = await FastVLM.load(url);
    const info = await model.info();
    const text = await model.infer(picture);
    await model.dispose();
    return { info, text };
};

// Checked, never run.
export function describeAll(model: FastVLM): Promise<string>[] {
    const sources = [new ImageData(1, 1), new Image(), document.createElement('canvas'), document.createElement('video')];
    return [...sources.map((source) => model.infer(source)), window.processImage('data:,', 'What?')];
}

export function callBack(): void {
    window.processImage('data:,', 'What?', 'AndroidCamera.onResult');
    window.processImage('data:,', undefined, (json) => JSON.parse(json));
}
