// SPDX-License-Identifier: MIT
// What the JavaScript examples of README.md and js/README.md find: tests/js/package.test.mjs.
declare const canvas: HTMLCanvasElement, photo: Blob, video: HTMLVideoElement, videoElement: HTMLVideoElement;
declare function show(text: string): void;
declare function weigh(text: string, logprob?: number): void;
// EXAMPLE
