// SPDX-License-Identifier: MIT
// GGUF files by description, for models that no converter would make.

const TYPES = { F32: { id: 0, elements: 1, bytes: 4 }, F16: { id: 1, elements: 1, bytes: 2 }, Q4_0: { id: 2, elements: 32, bytes: 18 } };
const ALIGN = 32;

class Writer {
    parts = [];

    #number(bytes, method, value) {
        const part = Buffer.alloc(bytes);
        part[method](value);
        this.parts.push(part);
    }

    u32(value) { this.#number(4, 'writeUInt32LE', value); }
    u64(value) { this.#number(8, 'writeBigUInt64LE', BigInt(value)); }
    f32(value) { this.#number(4, 'writeFloatLE', value); }
    f64(value) { this.#number(8, 'writeDoubleLE', value); }

    text(value) {
        const bytes = Buffer.from(value);
        this.u64(bytes.length);
        this.parts.push(bytes);
    }

    #items(type, values, write) {
        this.u32(9);
        this.u32(type);
        this.u64(values.length);
        values.forEach(write, this);
    }

    /** A string, { f32 }, { f64: [] }, an array of strings or integers, or an integer. */
    value(v) {
        if (typeof v === 'string') {
            this.u32(8);
            this.text(v);
        } else if (typeof v === 'number') {
            this.u32(4);
            this.u32(v);
        } else if (Array.isArray(v)) {
            if (typeof v[0] === 'string') this.#items(8, v, this.text);
            else this.#items(4, v, this.u32);
        } else if (v.f64) {
            this.#items(12, v.f64, this.f64);
        } else {
            this.u32(6);
            this.f32(v.f32);
        }
    }
}

/** The bytes of a file. keys: { name: value }; tensors: { name: { shape, type, data } }, F32 of zeros unless stated. */
export function gguf(keys, tensors, { headerOnly = false } = {}) {
    const w = new Writer();
    w.parts.push(Buffer.from('GGUF'));
    w.u32(3);
    w.u64(Object.keys(tensors).length);
    w.u64(Object.keys(keys).length);
    for (const [name, value] of Object.entries(keys)) {
        w.text(name);
        w.value(value);
    }
    const places = [];
    let end = 0;
    for (const [name, { shape, type = 'F32', data }] of Object.entries(tensors)) {
        const { id, elements, bytes } = TYPES[type];
        w.text(name);
        w.u32(shape.length);
        shape.toReversed().forEach((n) => w.u64(n));
        w.u32(id);
        w.u64(end);
        if (data) places.push([end, Buffer.from(data.buffer)]);
        end += Math.ceil((shape.reduce((a, b) => a * b) / elements * bytes) / ALIGN) * ALIGN;
    }
    const header = Buffer.concat(w.parts);
    const body = Math.ceil(header.length / ALIGN) * ALIGN;
    const file = Buffer.alloc(headerOnly ? body : body + end);
    header.copy(file);
    if (!headerOnly) for (const [at, bytes] of places) bytes.copy(file, body + at);
    return new Uint8Array(file);
}

/** The decoder of a model: { keys, tensors }. */
export function decoder(arch, { width, layers = 1, heads = 1, headDim = 8, hidden = 8, context = 64, tokens = ['a', 'b'] }) {
    const attention = `${arch}.attention.`;
    const keys = {
        'general.architecture': arch,
        [`${arch}.block_count`]: layers,
        [`${arch}.embedding_length`]: width,
        [`${arch}.feed_forward_length`]: hidden,
        [`${attention}head_count`]: heads,
        [`${attention}head_count_kv`]: heads,
        [`${attention}key_length`]: headDim,
        [`${attention}value_length`]: headDim,
        [`${attention}layer_norm_rms_epsilon`]: { f32: 1e-5 },
        [`${arch}.rope.dimension_count`]: headDim,
        [`${arch}.rope.freq_base`]: { f32: 10000 },
        [`${arch}.context_length`]: context,
        'tokenizer.ggml.model': 'gpt2',
        'tokenizer.ggml.pre': 'qwen2',
        'tokenizer.ggml.tokens': tokens,
    };
    const inner = heads * headDim;
    const tensors = { 'token_embd.weight': { shape: [tokens.length, width] }, 'output_norm.weight': { shape: [width] } };
    for (let i = 0; i < layers; i++) {
        const add = (name, ...shape) => { tensors[`blk.${i}.${name}`] = { shape }; };
        for (const part of arch === 'tinyvlm' ? ['attn', 'cross'] : ['attn']) {
            add(`${part}_norm.weight`, width);
            for (const side of ['q', 'k', 'v']) {
                add(`${part}_${side}.weight`, inner, width);
                if (arch === 'fastvlm') add(`${part}_${side}.bias`, inner);
            }
            add(`${part}_output.weight`, width, inner);
        }
        if (arch === 'tinyvlm') add('cross_gate', 1);
        add('ffn_norm.weight', width);
        add('ffn_gate.weight', hidden, width);
        add('ffn_up.weight', hidden, width);
        add('ffn_down.weight', width, hidden);
    }
    return { keys, tensors };
}

/** Layers with biases: { name: shape } -> tensors. */
function layers(shapes) {
    return Object.fromEntries(Object.entries(shapes).flatMap(([name, shape]) =>
        [[`${name}.weight`, { shape }], [`${name}.bias`, { shape: [shape[0]] }]]));
}

function vision(tower, size) {
    return {
        'vision.tower': tower, 'vision.image_size': size, 'vision.preprocess.mode': 'squash',
        'vision.preprocess.scale': { f64: [1 / 255, 1 / 255, 1 / 255] }, 'vision.preprocess.bias': { f64: [0, 0, 0] },
    };
}

/** A FastVLM of one block of 8 channels; stem: channels of the stem. */
export function fastvlm({ size, stem = 8, ...lm }) {
    const text = decoder('fastvlm', lm);
    const block = 'v.stage.0.blk.0.';
    return {
        keys: { ...text.keys, ...vision('fastvit', size), 'vision.fastvit.depths': [1] },
        tensors: {
            ...layers({
                'v.stem.0': [stem, 3, 3, 3], 'v.stem.1': [stem, 1, 3, 3], 'v.stem.2': [8, stem],
                [`${block}mixer`]: [8, 1, 3, 3], [`${block}ffn_dw`]: [8, 1, 3, 3], [`${block}ffn_up`]: [8, 8], [`${block}ffn_down`]: [8, 8],
                'v.exp.dw': [16, 1, 3, 3], 'v.exp.se_reduce': [8, 16], 'v.exp.se_expand': [16, 8],
                'mm.0': [8, 16], 'mm.2': [lm.width, 8],
            }),
            ...text.tensors,
        },
    };
}

/** A Tiny-VLM of 8 channels, its tower of four blocks; first: shapes of its first block, queries: visual tokens. */
export function tinyvlm({ queries = 1, first = {}, ...lm }) {
    const text = decoder('tinyvlm', { width: 8, ...lm });
    const square = [8, 8];
    const blocks = [0, 1, 2, 3].flatMap((i) => [[`v.blk.${i}.dw`, [8, 1, 3, 3]], [`v.blk.${i}.project`, square]]);
    const pool = ['hi', 'lo', 'attn_q', 'attn_k', 'attn_v', 'attn_output', 'ffn_up', 'ffn_down'].map((name) => [`mm.pool.${name}`, square]);
    const norms = ['norm', 'ffn_norm', 'out_norm'].map((name) => [`mm.pool.${name}`, [8]]);
    return {
        keys: {
            ...text.keys, ...vision('efficientnet_lite', 32), 'vision.efficientnet.strides': [2, 2, 2, 2],
            'vision.efficientnet.taps': [2], 'vision.efficientnet.stem_stride': 2, 'tinyvlm.pool.head_count': 1,
        },
        tensors: {
            ...layers({ 'v.stem': [8, 3, 3, 3], ...Object.fromEntries(blocks), 'v.head': square, ...Object.fromEntries(pool), ...Object.fromEntries(norms), ...first }),
            'mm.pool.pos': { shape: [5 * 8] },
            'mm.pool.query': { shape: [queries, 8] },
            ...text.tensors,
        },
    };
}
