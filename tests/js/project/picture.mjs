// SPDX-License-Identifier: MIT
// node picture.mjs MODEL FILE: a picture as a path, a URL and bytes.
import { readFile } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';

import { FastVLM } from 'tinyvlm';

const [, , modelFile, file] = process.argv;
const model = await FastVLM.load(modelFile);
const sources = [file, pathToFileURL(file), new Blob([await readFile(file)])];
const texts = [];
for (const source of sources) texts.push(await model.infer(source));
console.log(JSON.stringify(texts));
