/* SPDX-License-Identifier: MIT
 * Small random models for tests: written as GGUF, and their decoder once more in double precision,
 * straight from the equations and from nothing of src/lm or src/nn. Include after cmocka.h. */
#ifndef TVLM_TESTS_TINY_MODEL_H
#define TVLM_TESTS_TINY_MODEL_H

#include "convert/gguf_write.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TINY_TOKENS = 258, TINY_START = 256, TINY_END = 257, TINY_TENSORS = 160 };

typedef struct tiny_tensor {
    char name[48];
    tvlm_type type;
    uint64_t shape[4];
    uint32_t n_dims;
    size_t n, size;
    unsigned char *bytes; /* in the file */
    float *x;             /* what they mean */
} tiny_tensor;

typedef struct tiny {
    const char *arch;
    uint32_t layers, d, ff, heads, kv_heads, head_dim, ctx, vocab;
    double theta;
    float eps;
    bool interleaved, bias, qk_norm, tied, cross;
    tvlm_type type; /* of the large matrices */
    uint64_t random;
    size_t n_tensors;
    tiny_tensor tensors[TINY_TENSORS];
} tiny;

/* ---- building ---- */

/* Uniform in [-1, 1). */
static inline float tiny_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(*state >> 32) * 0x1p-31f;
}

/* middle + spread * random; the shape ends at the first 0. */
static inline void tiny_put(tiny *t, const char *name, tvlm_type type, const size_t shape[4],
                            float middle, float spread)
{
    assert_true(t->n_tensors < TINY_TENSORS);
    tiny_tensor *w = &t->tensors[t->n_tensors++];
    memset(w, 0, sizeof *w);
    snprintf(w->name, sizeof w->name, "%s", name);
    w->type = type;
    w->n = 1;
    for (; w->n_dims < 4 && shape[w->n_dims]; w->n_dims++) {
        w->shape[w->n_dims] = shape[w->n_dims];
        w->n *= shape[w->n_dims];
    }
    w->size = w->n / tvlm_type_block(type) * tvlm_type_block_bytes(type);
    w->x = malloc(w->n * sizeof *w->x);
    w->bytes = malloc(w->size);
    assert_true(w->x && w->bytes);
    for (size_t i = 0; i < w->n; i++)
        w->x[i] = middle + spread * tiny_random(&t->random);
    assert_true(tvlm_quantize(type, w->x, w->bytes, w->n));
    tvlm_dequantize(type, w->bytes, w->x, w->n);
}

/* [n][k] so that outputs are about as large as inputs, times gain. */
static inline void tiny_matrix(tiny *t, const char *name, size_t n, size_t k, float gain)
{
    tiny_put(t, name, t->type, (size_t[]){n, k, 0, 0}, 0.0f, gain * sqrtf(3.0f / (float)k));
}

static inline void tiny_vector(tiny *t, const char *name, size_t n, float middle)
{
    tiny_put(t, name, TVLM_TYPE_F32, (size_t[]){n, 0, 0, 0}, middle, 0.5f);
}

/* One attention's tensors: prefix "attn" or "cross". Queries are large so that it is peaky. */
static inline void tiny_attention(tiny *t, uint32_t layer, const char *prefix, bool bias)
{
    size_t q = (size_t)t->heads * t->head_dim, kv = (size_t)t->kv_heads * t->head_dim;
    const struct {
        const char *part;
        size_t n, k;
        float gain;
        bool bias;
    } parts[] = {
        {"q",      q,    t->d, 3.0f, bias },
        {"k",      kv,   t->d, 1.0f, bias },
        {"v",      kv,   t->d, 1.0f, bias },
        {"output", t->d, q,    1.0f, false},
    };
    char name[48];
    snprintf(name, sizeof name, "blk.%u.%s_norm.weight", (unsigned)layer, prefix);
    tiny_vector(t, name, t->d, 1.0f);
    for (size_t i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "blk.%u.%s_%s.weight", (unsigned)layer, prefix, parts[i].part);
        tiny_matrix(t, name, parts[i].n, parts[i].k, parts[i].gain);
        snprintf(name, sizeof name, "blk.%u.%s_%s.bias", (unsigned)layer, prefix, parts[i].part);
        if (parts[i].bias) tiny_vector(t, name, parts[i].n, 0.0f);
        if (!t->qk_norm || i > 1 || strcmp(prefix, "attn") != 0) continue;
        snprintf(name, sizeof name, "blk.%u.attn_%s_norm.weight", (unsigned)layer, parts[i].part);
        tiny_vector(t, name, t->head_dim, i ? 1.0f : 1.5f); /* peaky again */
    }
}

static inline void tiny_decoder(tiny *t)
{
    char name[48];
    tiny_matrix(t, "token_embd.weight", t->vocab, t->d, 4.0f);
    for (uint32_t i = 0; i < t->layers; i++) {
        tiny_attention(t, i, "attn", t->bias);
        if (t->cross) {
            tiny_attention(t, i, "cross", false);
            snprintf(name, sizeof name, "blk.%u.cross_gate", (unsigned)i);
            tiny_vector(t, name, 1, 0.8f);
        }
        snprintf(name, sizeof name, "blk.%u.ffn_norm.weight", (unsigned)i);
        tiny_vector(t, name, t->d, 1.0f);
        snprintf(name, sizeof name, "blk.%u.ffn_gate.weight", (unsigned)i);
        tiny_matrix(t, name, t->ff, t->d, 1.0f);
        snprintf(name, sizeof name, "blk.%u.ffn_up.weight", (unsigned)i);
        tiny_matrix(t, name, t->ff, t->d, 1.0f);
        snprintf(name, sizeof name, "blk.%u.ffn_down.weight", (unsigned)i);
        tiny_matrix(t, name, t->d, t->ff, 1.0f);
    }
    tiny_vector(t, "output_norm.weight", t->d, 1.0f);
    if (!t->tied) tiny_matrix(t, "output.weight", t->vocab, t->d, 1.0f);
}

static inline void tiny_free(tiny *t)
{
    for (size_t i = 0; i < t->n_tensors; i++) {
        free(t->tensors[i].x);
        free(t->tensors[i].bytes);
    }
    t->n_tensors = 0;
}

/* ---- writing ---- */

#define TINY_OK(expr)                                                                              \
    do {                                                                                           \
        if ((expr) != TVLM_OK) fail_msg("%s: %s", #expr, error.message);                           \
    } while (0)

static inline void tiny_put_u32(tvlmc_gguf_writer *w, const char *arch, const char *key, uint32_t v)
{
    tvlm_error error;
    char full[96];
    snprintf(full, sizeof full, "%s.%s", arch, key);
    TINY_OK(tvlmc_gguf_put_u32(w, full, v, &error));
}

/* The 256 bytes in GPT-2's alphabet and the two marks of ChatML. */
static inline void tiny_put_vocabulary(tvlmc_gguf_writer *w)
{
    tvlm_error error;
    char letters[256][3];
    tvlm_str tokens[TINY_TOKENS];
    int32_t types[TINY_TOKENS];
    unsigned moved = 256;
    for (unsigned i = 0; i < 256; i++) {
        bool plain = (i >= 33 && i <= 126) || (i >= 161 && i <= 172) || i >= 174;
        unsigned c = plain ? i : moved++;
        size_t len = 0;
        if (c >= 128) letters[i][len++] = (char)(0xc0 | c >> 6);
        letters[i][len++] = (char)(c < 128 ? c : (0x80 | (c & 63)));
        tokens[i] = (tvlm_str){letters[i], len};
        types[i] = 1;
    }
    tokens[TINY_START] = (tvlm_str){"<|im_start|>", 12};
    tokens[TINY_END] = (tvlm_str){"<|im_end|>", 10};
    types[TINY_START] = types[TINY_END] = 3;
    TINY_OK(tvlmc_gguf_put_string(w, "tokenizer.ggml.model", (tvlm_str){"gpt2", 4}, &error));
    TINY_OK(tvlmc_gguf_put_string(w, "tokenizer.ggml.pre", (tvlm_str){"smollm", 6}, &error));
    TINY_OK(tvlmc_gguf_put_string_array(w, "tokenizer.ggml.tokens", tokens, TINY_TOKENS, &error));
    TINY_OK(tvlmc_gguf_put_i32_array(w, "tokenizer.ggml.token_type", types, TINY_TOKENS, &error));
    TINY_OK(tvlmc_gguf_put_u32(w, "tokenizer.ggml.eos_token_id", TINY_END, &error));
}

/* more: writes further keys, nullable. */
static inline void tiny_write(const tiny *t, const char *path, void (*more)(tvlmc_gguf_writer *w))
{
    tvlm_error error;
    tvlmc_gguf_writer *w;
    char key[96];
    TINY_OK(tvlmc_gguf_writer_new(path, NULL, &w, &error));
    tvlm_str arch = {t->arch, strlen(t->arch)};
    TINY_OK(tvlmc_gguf_put_string(w, "general.architecture", arch, &error));
    tiny_put_u32(w, t->arch, "block_count", t->layers);
    tiny_put_u32(w, t->arch, "embedding_length", t->d);
    tiny_put_u32(w, t->arch, "feed_forward_length", t->ff);
    tiny_put_u32(w, t->arch, "attention.head_count", t->heads);
    tiny_put_u32(w, t->arch, "attention.head_count_kv", t->kv_heads);
    tiny_put_u32(w, t->arch, "attention.key_length", t->head_dim);
    tiny_put_u32(w, t->arch, "attention.value_length", t->head_dim);
    tiny_put_u32(w, t->arch, "context_length", t->ctx);
    tiny_put_u32(w, t->arch, "vocab_size", t->vocab);
    snprintf(key, sizeof key, "%s.rope.freq_base", t->arch);
    TINY_OK(tvlmc_gguf_put_f32(w, key, (float)t->theta, &error));
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", t->arch);
    TINY_OK(tvlmc_gguf_put_f32(w, key, t->eps, &error));
    tiny_put_vocabulary(w);
    if (more) more(w);
    for (size_t i = 0; i < t->n_tensors; i++) {
        const tiny_tensor *x = &t->tensors[i];
        TINY_OK(tvlmc_gguf_declare(w, x->name, x->type, x->shape, x->n_dims, &error));
    }
    for (size_t i = 0; i < t->n_tensors; i++)
        TINY_OK(tvlmc_gguf_write_tensor(w, t->tensors[i].bytes, t->tensors[i].size, &error));
    TINY_OK(tvlmc_gguf_writer_finish(w, NULL, NULL, &error));
}

/* ---- the decoder in double precision ---- */

static inline const float *tiny_find(const tiny *t, const char *name)
{
    for (size_t i = 0; i < t->n_tensors; i++)
        if (!strcmp(t->tensors[i].name, name)) return t->tensors[i].x;
    return NULL;
}

static inline const float *tiny_part(const tiny *t, uint32_t layer, const char *part)
{
    char name[48];
    snprintf(name, sizeof name, "blk.%u.%s", (unsigned)layer, part);
    return tiny_find(t, name);
}

static inline double *tiny_doubles(size_t n)
{
    double *x = calloc(n, sizeof *x);
    assert_non_null(x);
    return x;
}

/* y[m][n] = x[m][k] W^T + b */
static inline double *tiny_linear(const float *w, const float *b, const double *x, size_t m,
                                  size_t k, size_t n)
{
    double *y = tiny_doubles(m * n);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = b ? (double)b[j] : 0;
            for (size_t c = 0; c < k; c++)
                sum += x[i * k + c] * (double)w[j * k + c];
            y[i * n + j] = sum;
        }
    return y;
}

static inline double *tiny_rms(const tiny *t, const float *w, const double *x, size_t m, size_t n)
{
    double *y = tiny_doubles(m * n);
    for (size_t i = 0; i < m; i++) {
        double sum = 0;
        for (size_t c = 0; c < n; c++)
            sum += x[i * n + c] * x[i * n + c];
        double scale = 1 / sqrt(sum / (double)n + (double)t->eps);
        for (size_t c = 0; c < n; c++)
            y[i * n + c] = x[i * n + c] * scale * (double)w[c];
    }
    return y;
}

/* Qwen3: each head of x[m][heads] on its own. */
static inline void tiny_norm_heads(const tiny *t, const float *w, double *x, size_t m,
                                   uint32_t heads)
{
    double *y = tiny_rms(t, w, x, m * heads, t->head_dim);
    memcpy(x, y, m * heads * t->head_dim * sizeof *x);
    free(y);
}

static inline void tiny_rope(const tiny *t, double *x, size_t m, uint32_t heads)
{
    size_t hd = t->head_dim;
    for (size_t row = 0; row < m; row++)
        for (uint32_t h = 0; h < heads; h++)
            for (size_t i = 0; i < hd / 2; i++) {
                double *at = x + (row * heads + h) * hd;
                double angle = (double)row * pow((double)(float)t->theta, -2.0 * (double)i / hd);
                double *a = at + (t->interleaved ? 2 * i : i);
                double *b = at + (t->interleaved ? 2 * i + 1 : i + hd / 2);
                double u = *a * cos(angle) - *b * sin(angle);
                *b = *b * cos(angle) + *a * sin(angle);
                *a = u;
            }
}

/* out[m][heads * head_dim]; row i sees keys 0..i, or all n_keys when causal is false. */
static inline double *tiny_attend(const tiny *t, const double *q, size_t m, const double *k,
                                  const double *v, size_t n_keys, bool causal)
{
    size_t hd = t->head_dim, ldq = t->heads * hd, ldk = t->kv_heads * hd;
    double *out = tiny_doubles(m * ldq), *p = tiny_doubles(n_keys);
    for (size_t i = 0; i < m; i++)
        for (uint32_t h = 0; h < t->heads; h++) {
            size_t n = causal ? i + 1 : n_keys, kv = h / (t->heads / t->kv_heads) * hd;
            double most = -INFINITY, sum = 0;
            for (size_t j = 0; j < n; j++) {
                p[j] = 0;
                for (size_t c = 0; c < hd; c++)
                    p[j] += q[i * ldq + h * hd + c] * k[j * ldk + kv + c] / sqrt((double)hd);
                most = p[j] > most ? p[j] : most;
            }
            for (size_t j = 0; j < n; j++)
                sum += p[j] = exp(p[j] - most);
            for (size_t j = 0; j < n; j++)
                for (size_t c = 0; c < hd; c++)
                    out[i * ldq + h * hd + c] += p[j] / sum * v[j * ldk + kv + c];
        }
    free(p);
    return out;
}

/* h += scale * Wo attention(...); keys and values come from `source` [n_source][d]. */
static inline void tiny_attention_block(const tiny *t, uint32_t layer, bool cross, double *h,
                                        size_t m, const double *source, size_t n_source)
{
    size_t q_dim = (size_t)t->heads * t->head_dim, kv_dim = (size_t)t->kv_heads * t->head_dim;
    const char *const names[2][8] = {
        {"attn_norm.weight",  "attn_q.weight",  "attn_q.bias", "attn_k.weight",  "attn_k.bias",
         "attn_v.weight",                                                                                         "attn_v.bias", "attn_output.weight" },
        {"cross_norm.weight", "cross_q.weight", "none",        "cross_k.weight", "none",        "cross_v.weight",
         "none",                                                                                                                 "cross_output.weight"},
    };
    const float *w[8];
    for (int i = 0; i < 8; i++)
        w[i] = tiny_part(t, layer, names[cross][i]);
    double *n = tiny_rms(t, w[0], h, m, t->d);
    if (!cross) source = n;
    double *q = tiny_linear(w[1], w[2], n, m, t->d, q_dim);
    double *k = tiny_linear(w[3], w[4], source, n_source, t->d, kv_dim);
    double *v = tiny_linear(w[5], w[6], source, n_source, t->d, kv_dim);
    if (!cross && t->qk_norm) {
        tiny_norm_heads(t, tiny_part(t, layer, "attn_q_norm.weight"), q, m, t->heads);
        tiny_norm_heads(t, tiny_part(t, layer, "attn_k_norm.weight"), k, m, t->kv_heads);
    }
    if (!cross) {
        tiny_rope(t, q, m, t->heads);
        tiny_rope(t, k, m, t->kv_heads);
    }
    double *a = tiny_attend(t, q, m, k, v, n_source, !cross);
    double *o = tiny_linear(w[7], NULL, a, m, q_dim, t->d);
    double gate = cross ? tanh((double)*tiny_part(t, layer, "cross_gate")) : 1;
    for (size_t i = 0; i < m * t->d; i++)
        h[i] += gate * o[i];
    free(n), free(q), free(k), free(v), free(a), free(o);
}

static inline void tiny_ffn_block(const tiny *t, uint32_t layer, double *h, size_t m)
{
    double *n = tiny_rms(t, tiny_part(t, layer, "ffn_norm.weight"), h, m, t->d);
    double *gate = tiny_linear(tiny_part(t, layer, "ffn_gate.weight"), NULL, n, m, t->d, t->ff);
    double *up = tiny_linear(tiny_part(t, layer, "ffn_up.weight"), NULL, n, m, t->d, t->ff);
    for (size_t i = 0; i < m * t->ff; i++)
        gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
    double *down = tiny_linear(tiny_part(t, layer, "ffn_down.weight"), NULL, gate, m, t->ff, t->d);
    for (size_t i = 0; i < m * t->d; i++)
        h[i] += down[i];
    free(n), free(gate), free(up), free(down);
}

/* Logits [m][vocab] of the ids at positions 0..m-1; image [n_image][d] is nullable. */
static inline double *tiny_forward(const tiny *t, const int32_t *ids, size_t m, const float *image,
                                   size_t n_image)
{
    const float *table = tiny_find(t, "token_embd.weight");
    double *h = tiny_doubles(m * t->d), *picture = tiny_doubles(n_image * t->d + 1);
    for (size_t i = 0; i < m * t->d; i++)
        h[i] = (double)table[(size_t)ids[i / t->d] * t->d + i % t->d];
    for (size_t i = 0; i < n_image * t->d; i++)
        picture[i] = (double)image[i];
    for (uint32_t layer = 0; layer < t->layers; layer++) {
        tiny_attention_block(t, layer, false, h, m, NULL, m);
        if (image) tiny_attention_block(t, layer, true, h, m, picture, n_image);
        tiny_ffn_block(t, layer, h, m);
    }
    double *n = tiny_rms(t, tiny_find(t, "output_norm.weight"), h, m, t->d);
    const float *out = t->tied ? table : tiny_find(t, "output.weight");
    double *logits = tiny_linear(out, NULL, n, m, t->d, t->vocab);
    free(n), free(h), free(picture);
    return logits;
}

static inline double tiny_error(const float *got, const double *want, size_t n)
{
    double error = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        error += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        size += want[i] * want[i];
    }
    return sqrt(error / size);
}

#endif
