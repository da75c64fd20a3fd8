// SPDX-License-Identifier: MIT
// tinyvlm: vision-language models in the browser and in node, on the CPU, in WebAssembly.

/** A type of the DOM; `never` where a program is checked without it, as for node. */
type OfPages<Name extends string> = typeof globalThis extends Record<Name, { prototype: infer T }> ? T : never;

/** Anything with pixels: elements, the bytes of an image file (a Buffer, too), its Blob or URL (also data:), or raw pixels,
 *  which are RGB, RGBA or grey by `channels` (default: by data's length).
 *  In node: raw pixels; image files need the package `sharp`.
 *  Transparent parts are seen on white; ImageData and raw pixels are taken without their alpha, and as they are:
 *  other images are shrunk first if a side has more than 2048 pixels. */
export type ImageSource =
    | OfPages<'ImageData'> | OfPages<'HTMLImageElement'> | OfPages<'HTMLVideoElement'> | OfPages<'HTMLCanvasElement'>
    | OfPages<'OffscreenCanvas'> | OfPages<'ImageBitmap'> | OfPages<'VideoFrame'> | Blob | URL | string
    | ArrayBuffer | Uint8Array | Uint8ClampedArray | DataView
    | { data: Uint8Array | Uint8ClampedArray; width: number; height: number; channels?: 1 | 3 | 4 };

/** What a question is about: null for nothing but its text; several images for models that take them. */
export type Images = ImageSource | EncodedImage | null | readonly (ImageSource | EncodedImage)[];

/** How an image becomes the model's square. Default: as the model was trained. */
export type Fit = 'model' | 'pad' | 'crop' | 'squash';

/** What has arrived: 'header' tokenizer and info; 'bridge' images of FastVLM can be encoded;
 *  'decoder' everything. */
export type Stage = 'none' | 'header' | 'tower' | 'bridge' | 'decoder';

/** A module of `dist/`, best last: the first is used everywhere, threads need an isolated page. */
export type ModuleName = 'scalar' | 'simd128' | 'simd128-threads' | 'relaxed' | 'relaxed-threads';

export interface Progress {
    loaded: number;
    /** Bytes of the file, 0 while unknown. */
    total: number;
    stage: Stage;
    /** Bytes that came from the cache rather than the network. */
    cached: number;
    /** Bytes that are in the cache now: all of them when the last progress says `total`. */
    kept: number;
    /** While a connection that was lost or stalled is tried again: why, for the how manieth time, in how many
     *  milliseconds; null while bytes arrive. */
    retry: { reason: string; attempt: number; delay: number } | null;
    /** How often the file changed on the server while it was loaded: then `loaded` begins again at 0. */
    restarts: number;
}

export interface InitOptions {
    /** Folder of the .wasm files; default: `dist/` of the package. */
    wasmUrl?: string | URL;
    /** The model that `process_image` and `window.processImage` use. */
    modelUrl?: string | URL;
}

export interface LoadOptions {
    onProgress?: (progress: Progress) => void;
    signal?: AbortSignal;
    /** Default: navigator.hardwareConcurrency, at most 8; 1 where the page is not isolated. */
    threads?: number;
    /** Keep the file in the browser's cache and read it from there (default true). */
    cache?: boolean;
    /** Milliseconds without a byte after which a connection is given up and tried again (default 20000). */
    idleTimeout?: number;
    /** How often in a row a connection that is not there is tried again, Infinity for ever; default: 4 times before the first
     *  byte, 10 after it, and for ever while the browser is offline. The network's return is a retry at once. */
    retries?: number;
    /** Largest memory of the module in bytes, default 4 GiB; what does not fit is an error. */
    memory?: number;
    /** Positions of the context, at most the model's; default: those, at most 4096. */
    context?: number;
    /** Precision of the key/value cache (default 'f16'); 'f32' reproduces float32 references. */
    kv?: 'f16' | 'f32';
    /** Most beams of an answer, at most 8; 0 (default): as many as the model describes by. Each beyond one has a key/value cache of
     *  its own. */
    beams?: number;
    /** Arithmetic of the linear layers: 'auto' (default) takes int8 for weights in blocks such as Q8_0 and int16 for float
     *  ones, which the module without SIMD leaves to 'f32', the reference; 'int8' and 'int16' are for all weights and for float ones. */
    precision?: 'auto' | 'f32' | 'int8' | 'int16';
    /** Default: the best that the browser runs and computes rightly. */
    module?: ModuleName;
}

export interface GenerateOptions {
    onToken?: (text: string) => void;
    signal?: AbortSignal;
    /** Default 256. */
    maxTokens?: number;
    /** Default 0: greedy. */
    temperature?: number;
    /** 0: off. */
    topK?: number;
    /** 0 and 1: off. */
    topP?: number;
    minP?: number;
    repeatPenalty?: number;
    seed?: number;
    /** Texts that end the answer. */
    stop?: string | readonly string[];
    system?: string;
    fit?: Fit;
    ignoreEos?: boolean;
    /** Of so many tokens none of an answer's sequences comes twice (default 0: any may). */
    noRepeatNgram?: number;
    /** The answer does not end before it has so many (default 1: no answer is empty). */
    minTokens?: number;
    /** Beam search: of so many hypotheses, at most LoadOptions.beams, the answer is the one that is likeliest per token. It comes at
     *  once, at the end; not with temperature, repeatPenalty, lookup or logprobs. 1: greedy, token by token. 0 (default): the model's own
     *  choice: a description by ModelInfo.describeBeams, all else, and what goes without beams, greedily. */
    beams?: number;
    /** Guesses words from the text so far: the same answer, sooner where text repeats. */
    lookup?: boolean;
}

export interface TokenOptions extends Omit<GenerateOptions, 'onToken'> {
    /** Of each token, how likely it was by the model alone, before sampling. */
    logprobs?: boolean;
    /** Likely tokens in its place that each tells of, at most 20; more than 0 implies logprobs. */
    alternatives?: number;
}

export interface Token {
    id: number;
    /** Whole characters that became certain with it, often none. */
    text: string;
    /** Of the last token, why it was. */
    finish: 'stop' | 'length' | 'context' | null;
    /** Natural logarithm, at most 0; where it was asked for. */
    logprob?: number;
    /** The most likely first; where it was asked for. */
    alternatives?: { id: number; logprob: number }[];
}

export type Part = { type: 'text'; text: string } | { type: 'image' };

export interface Message {
    role: 'system' | 'user' | 'assistant';
    /** Parts say where the images of a call stand, in order: as many as there are, or none. */
    content: string | readonly Part[];
}

export interface Timings {
    preprocess: number;
    tower: number;
    bridge: number;
    prefill: number;
    firstToken: number;
    decode: number;
}

export interface Result {
    text: string;
    ids: Int32Array;
    finish: 'stop' | 'length' | 'context';
    /** Milliseconds; those of the image are 0 where it was encoded before. */
    timings: Timings;
}

export interface ModelInfo {
    architecture: string;
    name: string;
    license: string;
    description: string;
    chatTemplate: string;
    describePrompt: string;
    /** Beams that a description is found by; its text then comes at once, at the end. 1: greedily, as answers are. */
    describeBeams: number;
    parameters: number;
    fileBytes: number;
    weightBytes: number;
    vocabulary: number;
    context: number;
    /** Pixels a side, 0 for text models. */
    imageSize: number;
    imageTokens: number;
    embedding: number;
    module: ModuleName;
    threads: number;
}

export interface Memory {
    /** What the module's memory takes now; it shrinks only by dispose(). */
    module: number;
    /** The engine's exact plan. */
    model: number;
    engine: number;
    session: number;
    image: number;
    total: number;
}

/** What an error is about:
 *  - 'argument'     a call is wrong: a value, an unknown option, an empty question, an image of nothing
 *  - 'io'           a file or the network: not there, broken off for good
 *  - 'format'       a model file or an image file is damaged, or is none (the message names what it is)
 *  - 'checksum'     a model file is damaged
 *  - 'unsupported'  a model, an image for a model that reads text only, or what this browser or system lacks
 *  - 'memory'       there is not enough
 *  - 'limit'        over a limit: of LoadOptions.memory, of an image's size, of the number of images
 *  - 'context'      the conversation is longer than the context
 *  - 'cancelled'    a signal; `name` is then 'AbortError' (or 'TimeoutError') as the DOM has it, `cause` the signal's reason
 *  - 'state'        the model was disposed of, or failed for good */
export type ErrorCode = 'argument' | 'io' | 'format' | 'checksum' | 'unsupported' | 'memory' | 'limit' | 'context' | 'cancelled' | 'state';

/** Every error of this package. Only what a callback throws comes through as it is. */
export class TinyVLMError extends Error {
    constructor(message: string, code: ErrorCode, options?: { cause?: unknown });
    readonly code: ErrorCode;
}

/** An image's visual tokens, to ask many questions about. */
export class EncodedImage {
    private constructor();
    readonly timings: Pick<Timings, 'preprocess' | 'tower' | 'bridge'>;
    /** What the decoder sees, [count][embedding] float32. */
    tokens(): Promise<{ tokens: Float32Array; count: number; embedding: number }>;
    /** No call may begin with it from now on; calls under way keep it until they end. */
    dispose(): Promise<void>;
}

export class Tokenizer {
    private constructor();
    encode(text: string, options?: { special?: boolean }): Promise<Int32Array>;
    decode(ids: ArrayLike<number>, options?: { skipSpecial?: boolean }): Promise<string>;
}

export class ImageProcessor {
    private constructor();
    /** The model's input, [frames][size][size][3] float32: one frame, but for models that split large images. */
    preprocess(image: ImageSource, options?: { fit?: Fit }): Promise<{ data: Float32Array; size: number; frames: number }>;
}

export class FastVLM {
    private constructor();
    /** Resolves when everything is there. In node a Blob must be in memory: give a file as its path. */
    static load(url: string | URL | Blob | ArrayBuffer | Uint8Array, options?: LoadOptions): Promise<FastVLM>;
    /** Returns at once: each call waits for the stages that it needs. */
    static open(url: string | URL | Blob | ArrayBuffer | Uint8Array, options?: LoadOptions): FastVLM;
    /** Settles when everything is there. */
    readonly ready: Promise<FastVLM>;
    readonly tokenizer: Tokenizer;
    readonly processor: ImageProcessor;
    /** The last progress. */
    readonly progress: Progress;
    info(): Promise<ModelInfo>;
    memory(): Promise<Memory>;
    /** Calls are queued and run one after the other. prompt: a question or a conversation, whose first user message gets the
     *  images unless its parts have places for them. About an image, no question, an empty one and the bare word "describe" ask for a description as the
     *  model was trained to give it (ModelInfo.describePrompt). */
    infer(image: Images, prompt?: string | readonly Message[], options?: GenerateOptions): Promise<string>;
    /** infer with ids and timings. */
    generate(image: Images, prompt?: string | readonly Message[], options?: GenerateOptions): Promise<Result>;
    stream(image: Images, prompt?: string | readonly Message[], options?: GenerateOptions): AsyncIterable<string>;
    /** Each token of the answer, with its likelihood if it is asked for. */
    streamTokens(image: Images, prompt?: string | readonly Message[], options?: TokenOptions): AsyncIterable<Token>;
    encodeImage(image: ImageSource, options?: { fit?: Fit; signal?: AbortSignal }): Promise<EncodedImage>;
    /** Raw logits of every position, [positions][vocabulary]. ids: as Tokenizer.encode, -200 for each image. */
    forward(image: Images, ids: ArrayLike<number>, options?: { fit?: Fit; signal?: AbortSignal }): Promise<{ logits: Float32Array; positions: number; vocabulary: number }>;
    /** Stops what runs and gives back all memory. */
    dispose(): Promise<void>;
}

/** Optional: sets where the modules lie. Resolves when the best module is known. */
export default function init(options?: InitOptions): Promise<{ module: ModuleName }>;

/** One answer with the default model (InitOptions.modelUrl), loaded at the first call. */
export function process_image(image: Images, prompt?: string, options?: GenerateOptions): Promise<string>;

declare global {
    interface Window {
        /** process_image of an image file as base64 (url-safe, percent-encoded or in lines, too), with or without "data:". */
        processImage(base64: string, prompt?: string): Promise<string>;
        /** The same for hosts that do not wait for a promise: calls the function, or the method at a path such as
         *  'AndroidCamera.onResult', with JSON: {"text":"..."} or {"error":{"code":"...","message":"..."}}. */
        processImage(base64: string, prompt: string | undefined, callback: string | ((json: string) => void)): void;
    }
}
