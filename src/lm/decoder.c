/* SPDX-License-Identifier: MIT
 * Qwen2, Qwen3, Llama and Tiny-VLM decoder layers over a batch of rows (M rows, d features):
 *
 *   h = embedding
 *   per layer:
 *     h += Wo attention(rope(Wq n), rope(Wk n), Wv n)         n = rms(h; attn_norm); Qwen3: a
 *                                                             norm of each head before rope
 *     h += tanh(g) Wo' attention(Wq' n, K_image, V_image)     n = rms(h; cross_norm), Tiny-VLM
 *     h += Wdown (silu(Wgate n) * Wup n)                      n = rms(h; ffn_norm)
 *   logits = Wout rms(h; output_norm)
 *
 * References: transformers modeling_qwen2.py, modeling_qwen3.py, modeling_llama.py; Flamingo
 * (arXiv:2204.14198) for the gated cross-attention. Linears run over all rows at once; attention
 * takes each row's own cache. */
#include "lm/decoder.h"

#include "lm/rope.h"

#include <math.h>
#include <string.h>

/* ---- KV cache ---- */

static size_t kv_element(bool f16)
{
    return f16 ? sizeof(uint16_t) : sizeof(float);
}

size_t tvlm_kv_bytes(const tvlm_decoder_config *c, uint32_t n_ctx, bool f16)
{
    size_t n = (size_t)c->n_layers * 2, row = (size_t)c->n_kv_heads * c->head_dim;
    if (!tvlm_mul_size(n, n_ctx, &n) || !tvlm_mul_size(n, row, &n) ||
        !tvlm_mul_size(n, kv_element(f16), &n))
        return SIZE_MAX;
    return n;
}

void *tvlm_kv_at(const tvlm_kv *kv, uint32_t layer, unsigned which, uint32_t position)
{
    size_t row = ((size_t)layer * 2 + which) * kv->n_ctx + position;
    return (unsigned char *)kv->data + row * kv->row * kv_element(kv->f16);
}

void tvlm_kv_copy(const tvlm_kv *to, const tvlm_kv *from, uint32_t begin, uint32_t end)
{
    size_t bytes = (end - begin) * from->row * kv_element(from->f16);
    for (uint32_t layer = 0; layer < from->n_layers; layer++)
        for (unsigned which = 0; which < 2; which++)
            memcpy(tvlm_kv_at(to, layer, which, begin), tvlm_kv_at(from, layer, which, begin),
                   bytes);
}

size_t tvlm_cross_kv_floats(const tvlm_decoder_config *c, size_t n_tokens)
{
    size_t row = tvlm_nn_elements(c->n_kv_heads, c->head_dim, 2);
    return tvlm_nn_elements(c->n_layers, n_tokens, row);
}

void tvlm_cross_kv_forward(tvlm_cx *cx, const tvlm_decoder *w, const tvlm_decoder_config *c,
                           const float *tokens, size_t n_tokens, float *out)
{
    size_t map = n_tokens * c->n_kv_heads * c->head_dim;
    for (uint32_t i = 0; i < c->n_layers && tvlm_nn_live(cx); i++, out += 2 * map) {
        tvlm_nn_linear(cx, &w->layers[i].cross_k, TVLM_ACT_NONE, tokens, n_tokens, 1.0f, NULL, out);
        tvlm_nn_linear(cx, &w->layers[i].cross_v, TVLM_ACT_NONE, tokens, n_tokens, 1.0f, NULL,
                       out + map);
    }
}

/* ---- forward ---- */

typedef struct pass {
    tvlm_cx *cx;
    const tvlm_decoder_config *c;
    const tvlm_decoder_row *rows; /* NULL when measuring */
    size_t m, q_dim, kv_dim;
    float *h, *n, *q, *k, *v, *a; /* [m][d], [m][d], [m][q], [m][kv], [m][kv], [m][q] */
    float *gate, *up;             /* [m][ff] */
    float *cs;                    /* [m][head_dim] */
    tvlm_attn_row *keys;          /* [m] */
} pass;

static float *floats(pass *p, size_t count)
{
    return tvlm_arena_alloc(p->cx->arena, tvlm_nn_elements(p->m, count, 1), sizeof(float));
}

static void embed(pass *p, const tvlm_linear *table)
{
    double inv_freq[512]; /* head_dim is at most 1024 */
    size_t d = p->c->n_embd, hd = p->c->head_dim;
    tvlm_rope_frequencies(inv_freq, hd, p->c->rope_theta);
    for (size_t i = 0; i < p->m; i++) {
        const tvlm_decoder_row *r = &p->rows[i];
        if (r->embedding)
            memcpy(p->h + i * d, r->embedding, d * sizeof(float));
        else
            table->gemm->layout->unpack_row(table->gemm->type, table->weight, (size_t)r->token, d,
                                            p->h + i * d);
        tvlm_rope_table(p->cs + i * hd, inv_freq, hd, r->position);
    }
}

/* Appends k, v to each row's cache. */
static void append_kv(pass *p, uint32_t layer)
{
    const tvlm_kernels *kernels = p->cx->kernels;
    for (size_t i = 0; i < p->m; i++) {
        const tvlm_decoder_row *r = &p->rows[i];
        float *kv[2] = {p->k + i * p->kv_dim, p->v + i * p->kv_dim};
        for (unsigned which = 0; which < 2; which++) {
            void *at = tvlm_kv_at(r->kv, layer, which, r->position);
            if (r->kv->f16)
                kernels->f32_to_f16(at, kv[which], p->kv_dim);
            else
                memcpy(at, kv[which], p->kv_dim * sizeof(float));
        }
        p->keys[i] = (tvlm_attn_row){tvlm_kv_at(r->kv, layer, 0, 0), tvlm_kv_at(r->kv, layer, 1, 0),
                                     (size_t)r->position + 1};
    }
}

/* a = attention of q over the rows' keys */
static void attend(pass *p, bool f16)
{
    const tvlm_decoder_config *c = p->c;
    tvlm_nn_attention(p->cx, &(tvlm_attention){.q = p->q,
                                               .ldq = p->q_dim,
                                               .m = p->m,
                                               .keys = p->keys,
                                               .kv_f16 = f16,
                                               .ldk = p->kv_dim,
                                               .n_heads = c->n_heads,
                                               .n_kv = c->n_kv_heads,
                                               .d = c->head_dim,
                                               .scale = 1.0f / sqrtf((float)c->head_dim),
                                               .out = p->a});
}

/* RMS norm of each head (Qwen3; Henry et al., arXiv:2010.04245, without its scale). */
static void norm_heads(pass *p, const tvlm_norm *norm, size_t n_heads, float *x)
{
    tvlm_nn_rmsnorm(p->cx, norm, p->c->rms_eps, x, p->m * n_heads, p->c->head_dim, x);
}

/* Causal grouped-query attention; all rows' caches are of one element type. */
static void self_attention(pass *p, const tvlm_decoder_layer *l, uint32_t layer)
{
    tvlm_cx *cx = p->cx;
    const tvlm_decoder_config *c = p->c;
    bool f16 = p->rows && p->rows[0].kv->f16;
    tvlm_nn_rmsnorm(cx, &l->attn_norm, c->rms_eps, p->h, p->m, c->n_embd, p->n);
    tvlm_nn_linears(cx, (const tvlm_linear *[]){&l->q, &l->k, &l->v}, (float *[]){p->q, p->k, p->v},
                    3, p->n, p->m);
    if (c->qk_norm) {
        norm_heads(p, &l->q_norm, c->n_heads, p->q);
        norm_heads(p, &l->k_norm, c->n_kv_heads, p->k);
    }
    tvlm_nn_rope(cx, p->cs, c->rope_interleaved, c->n_heads, c->head_dim, p->q, p->m);
    tvlm_nn_rope(cx, p->cs, c->rope_interleaved, c->n_kv_heads, c->head_dim, p->k, p->m);
    if (tvlm_nn_live(cx)) append_kv(p, layer);
    attend(p, f16);
    tvlm_nn_linear(cx, &l->o, TVLM_ACT_NONE, p->a, p->m, 1.0f, p->h, p->h);
}

/* Gated cross-attention to each row's image; rows without one get nothing added. */
static void cross_attention(pass *p, const tvlm_decoder_layer *l, uint32_t layer)
{
    tvlm_cx *cx = p->cx;
    const tvlm_decoder_config *c = p->c;
    bool any = false;
    for (size_t i = 0; p->rows && i < p->m; i++) {
        const tvlm_decoder_row *r = &p->rows[i];
        size_t map = r->n_cross * p->kv_dim;
        const float *k = r->cross_kv ? r->cross_kv + 2 * map * layer : NULL;
        p->keys[i] = (tvlm_attn_row){k, k ? k + map : NULL, k ? r->n_cross : 0};
        any = any || p->keys[i].n_keys;
    }
    if (p->rows && !any) return;
    tvlm_nn_rmsnorm(cx, &l->cross_norm, c->rms_eps, p->h, p->m, c->n_embd, p->n);
    tvlm_nn_linear(cx, &l->cross_q, TVLM_ACT_NONE, p->n, p->m, 1.0f, NULL, p->q);
    attend(p, false);
    tvlm_nn_linear(cx, &l->cross_o, TVLM_ACT_NONE, p->a, p->m, l->cross_gate, p->h, p->h);
}

/* SwiGLU (arXiv:2002.05202) */
static void feed_forward(pass *p, const tvlm_decoder_layer *l)
{
    tvlm_cx *cx = p->cx;
    const tvlm_decoder_config *c = p->c;
    tvlm_nn_rmsnorm(cx, &l->ffn_norm, c->rms_eps, p->h, p->m, c->n_embd, p->n);
    tvlm_nn_linears(cx, (const tvlm_linear *[]){&l->gate, &l->up}, (float *[]){p->gate, p->up}, 2,
                    p->n, p->m);
    tvlm_nn_silu_mul(cx, p->gate, p->up, p->m, c->n_ff, p->gate);
    tvlm_nn_linear(cx, &l->down, TVLM_ACT_NONE, p->gate, p->m, 1.0f, p->h, p->h);
}

/* Gathers the wanted rows to the front of n, then logits in row order. */
static void head(pass *p, const tvlm_decoder *w, float *logits)
{
    size_t d = p->c->n_embd, wanted = 0;
    for (size_t i = 0; tvlm_nn_live(p->cx) && i < p->m; i++)
        if (p->rows[i].want_logits) memcpy(p->n + wanted++ * d, p->h + i * d, d * sizeof(float));
    if (!tvlm_nn_live(p->cx)) wanted = p->m;
    if (!wanted) return;
    tvlm_nn_rmsnorm(p->cx, &w->output_norm, p->c->rms_eps, p->n, wanted, d, p->n);
    tvlm_nn_linear(p->cx, &w->output, TVLM_ACT_NONE, p->n, wanted, 1.0f, NULL, logits);
}

void tvlm_decoder_forward(tvlm_cx *cx, const tvlm_decoder *w, const tvlm_decoder_config *c,
                          const tvlm_decoder_row *rows, size_t n_rows, float *logits)
{
    size_t mark = tvlm_arena_mark(cx->arena);
    pass p = {.cx = cx, .c = c, .rows = tvlm_nn_live(cx) ? rows : NULL, .m = n_rows};
    p.q_dim = (size_t)c->n_heads * c->head_dim;
    p.kv_dim = (size_t)c->n_kv_heads * c->head_dim;
    p.h = floats(&p, c->n_embd);
    p.n = floats(&p, c->n_embd);
    p.q = floats(&p, p.q_dim);
    p.k = floats(&p, p.kv_dim);
    p.v = floats(&p, p.kv_dim);
    p.a = floats(&p, p.q_dim);
    p.gate = floats(&p, c->n_ff);
    p.up = floats(&p, c->n_ff);
    p.cs = floats(&p, c->head_dim);
    p.keys = tvlm_arena_alloc(cx->arena, n_rows, sizeof *p.keys);
    if (p.rows) embed(&p, &w->token_embd);
    for (uint32_t i = 0; i < c->n_layers && tvlm_nn_ok(cx); i++) {
        const tvlm_decoder_layer *l = &w->layers[i];
        self_attention(&p, l, i);
        if (c->cross_attention) cross_attention(&p, l, i);
        feed_forward(&p, l);
    }
    head(&p, w, logits);
    tvlm_arena_release(cx->arena, mark);
}
