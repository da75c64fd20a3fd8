// SPDX-License-Identifier: MIT
// node program.mjs MODEL: with the model left to the end of the program.
import { FastVLM } from 'tinyvlm';

const picture = { data: new Uint8ClampedArray(64 * 48 * 4).fill(200), width: 64, height: 48 };
const model = await FastVLM.load(process.argv[2], { threads: 2 });
const text = await model.infer(picture);
let streamed = '';
for await (const piece of model.stream(picture)) streamed += piece;
const { module } = await model.info();
console.log(JSON.stringify({ text, streamed, module }));
