/* SPDX-License-Identifier: MIT
 * Tiny-VLM: EfficientNet-Lite, attention pooling, and a Llama decoder that cross-attends to the
 * pooled tokens, so that an image takes no position of the text. */
#include "arch/arch.h"
#include "arch/efficientnet.h"
#include "arch/work.h"
#include "vision/vision.h"

#include <string.h>

static const char *const keys[] = {"vision.efficientnet.strides",
                                   "vision.efficientnet.stem_stride",
                                   "vision.efficientnet.taps",
                                   "vision.quantization",
                                   "tinyvlm.pool.head_count",
                                   "tinyvlm.pool.layer_norm_epsilon",
                                   NULL};

static void read_tower(tvlm_reader *r, tvlm_config *c)
{
    size_t n = 0, n_taps = 0;
    uint32_t stride;
    if (!r->status)
        tvlm_reader_fail(r, tvlm_gguf_u32_list(r->gguf, "vision.efficientnet.strides", true,
                                               c->strides, TVLM_MAX_BLOCKS, &n, r->err));
    c->n_blocks = (uint32_t)n;
    c->stem_stride = stride = tvlm_read_u32(r, "vision.efficientnet.stem_stride", 2, 1, 4);
    if (!r->status)
        tvlm_reader_fail(r, tvlm_gguf_u32_list(r->gguf, "vision.efficientnet.taps", true,
                                               &c->tap_block, 1, &n_taps, r->err));
    if (r->status) return;
    if (n_taps != 1 || c->tap_block >= n) {
        tvlm_reader_fail(r, tvlm_fail(r->err, TVLM_ERR_FORMAT,
                                      "key 'vision.efficientnet.taps': not one of the "
                                      "%zu blocks",
                                      n));
        return;
    }
    uint32_t tap = 0;
    for (size_t i = 0; i < n; i++) {
        if (c->strides[i] < 1 || c->strides[i] > 2) {
            tvlm_reader_fail(r, tvlm_fail(r->err, TVLM_ERR_FORMAT,
                                          "key 'vision.efficientnet.strides': %u",
                                          (unsigned)c->strides[i]));
            return;
        }
        stride = stride > 64 ? stride : stride * c->strides[i];
        tap = i == c->tap_block ? stride : tap;
    }
    if (tap != 16 || stride != 32 || c->preprocess.image_size % 32)
        tvlm_reader_fail(
            r,
            tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                      "vision.efficientnet: maps of stride %u and %u of an image of %u; expected "
                      "16 and 32",
                      (unsigned)tap, (unsigned)stride, (unsigned)c->preprocess.image_size));
    tvlm_str quantization = tvlm_read_string(r, "vision.quantization", false, "");
    c->vision_int8 = tvlm_str_eq(quantization, "int8");
    if (!r->status && quantization.len && !c->vision_int8)
        tvlm_reader_fail(
            r, tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED, "key 'vision.quantization': only int8"));
}

static void read_config(tvlm_reader *r, tvlm_config *c)
{
    read_tower(r, c);
    c->pool_heads = tvlm_read_u32(r, "tinyvlm.pool.head_count", 0, 1, 1024);
    c->pool_ln_eps = (float)tvlm_read_f64(r, "tinyvlm.pool.layer_norm_epsilon", 1e-5, 1e-12, 1.0);
}

/* ---- binding ---- */

static void bind_pooling(tvlm_binder *b, size_t c_hi, size_t c_lo)
{
    tvlm_pooling *p = &b->model->weights.pooling;
    const tvlm_config *c = &b->model->config;
    size_t d = c->lm.n_embd, hi = c->preprocess.image_size / 32, lo = c->preprocess.image_size / 16;
    p->d = d;
    p->n_heads = c->pool_heads;
    p->n_hi = hi * hi;
    p->n_lo = lo * lo;
    size_t head = d / c->pool_heads;
    if (!b->status && (d % c->pool_heads || head % 8 || head > TVLM_ATTENTION_MAX_D))
        tvlm_bind_fail(b, tvlm_fail(b->err, TVLM_ERR_UNSUPPORTED,
                                    "key 'tinyvlm.pool.head_count': %u heads of %zu features",
                                    (unsigned)c->pool_heads, d));
    tvlm_bind_linear(b, &p->hi, "mm.pool.hi", d, c_hi, true);
    tvlm_bind_linear(b, &p->lo, "mm.pool.lo", d, c_lo, true);
    size_t n_pos;
    if (!tvlm_mul_size(p->n_hi + p->n_lo, d, &n_pos)) n_pos = SIZE_MAX; /* no tensor has as many */
    p->pos = tvlm_bind_vector(b, "mm.pool.pos", n_pos);
    tvlm_bind_norm(b, &p->norm, "mm.pool.norm", d, true);
    const tvlm_gguf_tensor *query = tvlm_bind_need(b, "mm.pool.query");
    if (query && tvlm_bind_shape(b, query, (size_t[]){0, d}, 2)) {
        p->n_query = (size_t)query->shape[0];
        if (p->n_query > 4096)
            tvlm_bind_fail(b, tvlm_fail(b->err, TVLM_ERR_LIMIT,
                                        "tensor 'mm.pool.query': %zu queries", p->n_query));
    }
    p->query = tvlm_bind_vector(b, "mm.pool.query", p->n_query * d);
    tvlm_bind_linear(b, &p->attn_q, "mm.pool.attn_q", d, d, true);
    tvlm_bind_linear(b, &p->attn_k, "mm.pool.attn_k", d, d, true);
    tvlm_bind_linear(b, &p->attn_v, "mm.pool.attn_v", d, d, true);
    tvlm_bind_linear(b, &p->attn_output, "mm.pool.attn_output", d, d, true);
    tvlm_bind_norm(b, &p->ffn_norm, "mm.pool.ffn_norm", d, true);
    tvlm_bind_linear(b, &p->ffn_up, "mm.pool.ffn_up", 0, d, true);
    tvlm_bind_linear(b, &p->ffn_down, "mm.pool.ffn_down", d, p->ffn_up.n, true);
    tvlm_bind_norm(b, &p->out_norm, "mm.pool.out_norm", d, true);
}

static void bind_naming(tvlm_binder *b, size_t c_hi)
{
    tvlm_naming *w = &b->model->weights.naming;
    if (!tvlm_bind_present(b, "mm.names.score")) return;
    tvlm_bind_linear(b, &w->score, "mm.names.score", 0, c_hi, true);
    tvlm_bind_linear(b, &w->embd, "mm.names.embd", b->model->config.lm.n_embd, w->score.n, false);
    tvlm_bind_norm(b, &w->norm, "mm.names.norm", b->model->config.lm.n_embd, false);
}

/* Rows of the vision are those of the pooling, then the token of names. */
static void bind_bridge(tvlm_binder *b)
{
    tvlm_model *m = b->model;
    const tvlm_efficientnet *e = &m->weights.efficientnet;
    const tvlm_pooling *p = &m->weights.pooling;
    bind_pooling(b, e->head.n, e->blocks[e->tap_block].c_out);
    bind_naming(b, e->head.n);
    uint32_t named = m->weights.naming.score.n ? 1 : 0;
    m->weights.vision_dim = p->d;
    m->n_vision_tokens = (uint32_t)(p->n_hi + p->n_lo) + named;
    m->n_image_tokens = (uint32_t)p->n_query + named;
}

static tvlm_status finish_tower(tvlm_model *model, const tvlm_plan *plan, tvlm_error *err)
{
    return model->config.vision_int8 ? tvlm_efficientnet_finish_int8(model, plan, err) : TVLM_OK;
}

/* ---- running ---- */

static void see(tvlm_cx *cx, const tvlm_model *model, const float *pixels, float *vision)
{
    const tvlm_weights *w = &model->weights;
    size_t size = model->config.preprocess.image_size, mark = tvlm_arena_mark(cx->arena);
    float *hi = tvlm_nn_floats(cx, w->pooling.n_hi, w->pooling.hi.k);
    float *lo = tvlm_nn_floats(cx, w->pooling.n_lo, w->pooling.lo.k);
    tvlm_efficientnet_forward(cx, &w->efficientnet, tvlm_nn_f32(pixels, size, size, 3),
                              (tvlm_features){hi, lo});
    tvlm_pooling_embed(cx, &w->pooling, model->config.pool_ln_eps, hi, lo, vision);
    if (w->naming.score.n)
        tvlm_naming_forward(cx, &w->naming, model->config.pool_ln_eps, hi, w->pooling.n_hi,
                            vision ? vision + (w->pooling.n_hi + w->pooling.n_lo) * w->pooling.d
                                   : NULL);
    tvlm_arena_release(cx->arena, mark);
}

static void bridge(tvlm_cx *cx, const tvlm_model *model, const float *vision, float *tokens)
{
    const tvlm_pooling *p = &model->weights.pooling;
    tvlm_pooling_forward(cx, p, model->config.pool_ln_eps, vision, tokens);
    if (model->weights.naming.score.n && tvlm_nn_live(cx))
        memcpy(tokens + p->n_query * p->d, vision + (p->n_hi + p->n_lo) * p->d,
               p->d * sizeof *tokens);
}

static void count_tower(tvlm_work *work, const tvlm_gguf *g, const tvlm_config *c)
{
    uint32_t side = tvlm_strided(c->preprocess.image_size, c->stem_stride);
    tvlm_work_add(work, g, tvlm_square(side), "v.stem.weight");
    for (unsigned i = 0; i < c->n_blocks; i++) {
        tvlm_work_add(work, g, tvlm_square(side), "v.blk.%u.expand.weight", i);
        side = tvlm_strided(side, c->strides[i]);
        tvlm_work_add(work, g, tvlm_square(side), "v.blk.%u.dw.weight", i);
        tvlm_work_add(work, g, tvlm_square(side), "v.blk.%u.project.weight", i);
    }
    tvlm_work_add(work, g, tvlm_square(side), "v.head.weight");
}

/* With the keys and values that every layer takes from the image's tokens. */
static void count_bridge(tvlm_work *work, const tvlm_model *m)
{
    const tvlm_gguf *g = &m->gguf;
    const tvlm_pooling *p = &m->weights.pooling;
    double hi = (double)p->n_hi, lo = (double)p->n_lo, queries = (double)p->n_query;
    tvlm_work_add(work, g, hi, "mm.pool.hi.weight");
    tvlm_work_add(work, g, lo, "mm.pool.lo.weight");
    tvlm_work_add(work, g, hi + lo, "mm.pool.attn_k.weight");
    tvlm_work_add(work, g, hi + lo, "mm.pool.attn_v.weight");
    tvlm_work_add(work, g, queries, "mm.pool.attn_q.weight");
    double width = tvlm_work_add(work, g, queries, "mm.pool.attn_output.weight");
    work->flops += tvlm_work_attention(queries, hi + lo, width);
    tvlm_work_add(work, g, queries, "mm.pool.ffn_up.weight");
    tvlm_work_add(work, g, queries, "mm.pool.ffn_down.weight");
    tvlm_work_add(work, g, 1, "mm.names.score.weight");
    tvlm_work_add(work, g, 1, "mm.names.embd.weight");
    for (unsigned i = 0; i < m->config.lm.n_layers; i++) {
        tvlm_work_add(work, g, m->n_image_tokens, "blk.%u.cross_k.weight", i);
        tvlm_work_add(work, g, m->n_image_tokens, "blk.%u.cross_v.weight", i);
    }
}

static void count_work(const tvlm_model *m, tvlm_work *tower, tvlm_work *bridge)
{
    count_tower(tower, &m->gguf, &m->config);
    count_bridge(bridge, m);
}

const tvlm_arch tvlm_arch_tinyvlm = {
    .name = "tinyvlm",
    .decoder = {.cross_attention = true},
    .ours = true,
    .tower = "efficientnet_lite",
    .int8_tower = true,
    .describe_beams = 3,
    .keys = keys,
    .read_config = read_config,
    .bind_tower = tvlm_efficientnet_bind,
    .bind_bridge = bind_bridge,
    .finish_tower = finish_tower,
    .see = see,
    .bridge = bridge,
    .count_work = count_work,
};
