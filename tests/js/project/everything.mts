// SPDX-License-Identifier: MIT
// Uses all that the package declares; checked, never run.
import init, {
    EncodedImage, FastVLM, ImageProcessor, TinyVLMError, Tokenizer, process_image,
    type ErrorCode, type Images, type Fit, type GenerateOptions, type ImageSource, type InitOptions, type LoadOptions, type Memory,
    type Message, type ModelInfo, type ModuleName, type Progress, type Result, type Stage, type Timings,
} from 'tinyvlm';

const where: InitOptions = { wasmUrl: new URL('https://example.org/'), modelUrl: 'model.gguf' };
const best: { module: ModuleName } = await init(where);
const { signal } = new AbortController();
const loading: LoadOptions = {
    onProgress: ({ stage, loaded, total, cached, kept, restarts, retry }: Progress): [Stage, ...number[]] =>
        [stage, loaded, total, cached, kept, restarts, retry?.attempt ?? 0, retry?.delay ?? 0],
    idleTimeout: 5000, retries: Infinity,
    signal, threads: 2, cache: false, memory: 1e9, context: 512, kv: 'f32', module: best.module,
};
const sources = ['model.gguf', new URL('https://example.org/model.gguf'), new Blob([]), new ArrayBuffer(8), new Uint8Array(8)];
const models: FastVLM[] = await Promise.all(sources.map((source) => FastVLM.load(source, loading)));
const model: FastVLM = await FastVLM.open('model.gguf').ready;
const info: ModelInfo = await model.info();
const memory: Memory = await model.memory();
const fit: Fit = 'pad';
const raw: ImageSource = { data: new Uint8Array(3), width: 1, height: 1, channels: 3 };
const image: EncodedImage = await model.encodeImage(raw, { fit, signal });
const { tokens, count, embedding } = await image.tokens();
const spent: Pick<Timings, 'tower'> = image.timings;
const messages: Message[] = [{ role: 'user', content: 'What?' }];
const options: GenerateOptions = {
    onToken: (text) => text.length, signal, maxTokens: 1, temperature: 0, topK: 0, topP: 1, minP: 0, repeatPenalty: 1,
    seed: 1, stop: ['.'], system: 'Be brief.', fit, ignoreEos: true,
};
const text: string = await model.infer(image, messages, options);
const result: Result = await model.generate(null, 'What?', options);
for await (const piece of model.stream(raw)) piece.trim();
const files: Images = [Buffer.from('x'), new Uint8Array(1), new ArrayBuffer(1), new DataView(new ArrayBuffer(1)), image, new Blob([])];
const compared: string = await model.infer(files, 'What differs?');
const code: ErrorCode = new TinyVLMError('x', 'cancelled', { cause: 1 }).code;
const { logits, vocabulary } = await model.forward(image, [1, -200], { fit, signal });
const tokenizer: Tokenizer = model.tokenizer;
const back: string = await tokenizer.decode(await tokenizer.encode('What?', { special: false }), { skipSpecial: true });
const processor: ImageProcessor = model.processor;
const { data, size } = await processor.preprocess(new Blob([]), { fit: 'crop' });
await image.dispose();
await model.dispose();
const answer: string = await process_image('data:,', 'What?', options).catch((error: unknown) =>
    (error instanceof TinyVLMError ? error.code : String(error)));
export default [models, info, memory, tokens, count, embedding, spent, text, result, logits, vocabulary, back, data, size, answer, compared, code];

// @ts-expect-error no such module
export const wrong: LoadOptions = { module: 'avx2' };
// @ts-expect-error pixels without a size
await model.infer({ data: new Uint8Array(4) });
// @ts-expect-error load or open
new FastVLM();
// @ts-expect-error an option that is none
await model.infer(null, 'x', { max_tokens: 5 });
// @ts-expect-error no code of ours
new TinyVLMError('x', 'network');
