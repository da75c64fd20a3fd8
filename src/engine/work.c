/* SPDX-License-Identifier: MIT
 * Arithmetic of each stage, counted from the tensors of the file: a weight takes a multiplication
 * and an addition wherever its tensor is applied. */
#include "engine/internal.h"

#include <stdarg.h>
#include <stdio.h>

/* The tensor of that name, applied at `times` places; not every model has every one. Returns its
 * first dimension, or 0. */
static double TVLM_PRINTF(4, 5)
    add(tvlm_work *work, const tvlm_gguf *g, double times, const char *format, ...)
{
    char name[96];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    const tvlm_gguf_tensor *t = tvlm_gguf_find_tensor(g, name);
    if (!t) return 0;
    work->flops += 2 * times * (double)t->n_elements;
    work->bytes += (double)t->size;
    return (double)t->shape[0];
}

/* Scores and weighted values of `queries` over `keys`, all heads together `width` wide. */
static double attention(double queries, double keys, double width)
{
    return 4 * queries * keys * width;
}

/* Pixels of a map after a stride, same padding. */
static uint32_t strided(uint32_t side, uint32_t stride)
{
    return side / stride + (side % stride != 0);
}

static double square(double side)
{
    return side * side;
}

static void add_fastvit(tvlm_work *work, const tvlm_gguf *g, const tvlm_config *c)
{
    uint32_t side = strided(c->preprocess.image_size, 2);
    add(work, g, square(side), "v.stem.0.weight");
    side = strided(side, 2);
    add(work, g, square(side), "v.stem.1.weight");
    add(work, g, square(side), "v.stem.2.weight");
    for (unsigned s = 0; s < c->n_stages; s++) {
        if (s) side = strided(side, 2);
        double n = square(side);
        add(work, g, n, "v.stage.%u.down.dw.weight", s);
        add(work, g, n, "v.stage.%u.down.pw.weight", s);
        add(work, g, n, "v.stage.%u.pos.weight", s);
        for (unsigned i = 0; i < c->depths[s]; i++) {
            add(work, g, n, "v.stage.%u.blk.%u.mixer.weight", s, i);
            add(work, g, n, "v.stage.%u.blk.%u.attn_qkv.weight", s, i);
            double width = add(work, g, n, "v.stage.%u.blk.%u.attn_output.weight", s, i);
            work->flops += attention(n, n, width);
            add(work, g, n, "v.stage.%u.blk.%u.ffn_dw.weight", s, i);
            add(work, g, n, "v.stage.%u.blk.%u.ffn_up.weight", s, i);
            add(work, g, n, "v.stage.%u.blk.%u.ffn_down.weight", s, i);
        }
    }
    add(work, g, square(side), "v.exp.dw.weight");
    add(work, g, 1, "v.exp.se_reduce.weight");
    add(work, g, 1, "v.exp.se_expand.weight");
}

static void add_efficientnet(tvlm_work *work, const tvlm_gguf *g, const tvlm_config *c)
{
    uint32_t side = strided(c->preprocess.image_size, c->stem_stride);
    add(work, g, square(side), "v.stem.weight");
    for (unsigned i = 0; i < c->n_blocks; i++) {
        add(work, g, square(side), "v.blk.%u.expand.weight", i);
        side = strided(side, c->strides[i]);
        add(work, g, square(side), "v.blk.%u.dw.weight", i);
        add(work, g, square(side), "v.blk.%u.project.weight", i);
    }
    add(work, g, square(side), "v.head.weight");
}

static void add_projector(tvlm_work *work, const tvlm_model *m)
{
    add(work, &m->gguf, m->n_vision_tokens, "mm.0.weight");
    add(work, &m->gguf, m->n_vision_tokens, "mm.2.weight");
}

/* With the keys and values that every layer takes from the picture's tokens. */
static void add_pooling(tvlm_work *work, const tvlm_model *m)
{
    const tvlm_gguf *g = &m->gguf;
    const tvlm_pooling *p = &m->weights.pooling;
    double hi = (double)p->n_hi, lo = (double)p->n_lo, queries = (double)p->n_query;
    add(work, g, hi, "mm.pool.hi.weight");
    add(work, g, lo, "mm.pool.lo.weight");
    add(work, g, hi + lo, "mm.pool.attn_k.weight");
    add(work, g, hi + lo, "mm.pool.attn_v.weight");
    add(work, g, queries, "mm.pool.attn_q.weight");
    double width = add(work, g, queries, "mm.pool.attn_output.weight");
    work->flops += attention(queries, hi + lo, width);
    add(work, g, queries, "mm.pool.ffn_up.weight");
    add(work, g, queries, "mm.pool.ffn_down.weight");
    for (unsigned i = 0; i < m->config.lm.n_layers; i++) {
        add(work, g, m->n_image_tokens, "blk.%u.cross_k.weight", i);
        add(work, g, m->n_image_tokens, "blk.%u.cross_v.weight", i);
    }
}

static void add_linears(tvlm_work *work, const tvlm_gguf *g, unsigned layer, double rows)
{
    static const char *const names[] = {"attn_q",      "attn_k",  "attn_v",
                                        "attn_output", "cross_q", "cross_output",
                                        "ffn_gate",    "ffn_up",  "ffn_down"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        add(work, g, rows, "blk.%u.%s.weight", layer, names[i]);
}

/* Row i attends to past + i + 1 positions; the last one alone is given logits. */
static void add_decoder(tvlm_work *work, const tvlm_model *m, double past, double rows)
{
    const tvlm_decoder_config *c = &m->config.lm;
    double q_width = (double)c->n_heads * c->head_dim,
           kv_width = (double)c->n_kv_heads * c->head_dim;
    double keys = past + (rows + 1) / 2; /* of a row, in the mean */
    for (unsigned i = 0; i < c->n_layers; i++) {
        add_linears(work, &m->gguf, i, rows);
        work->flops += attention(rows, keys, q_width);
        work->bytes += 2 * (past + rows) * kv_width * sizeof(uint16_t);
        if (!c->cross_attention) continue;
        work->flops += attention(rows, m->n_image_tokens, q_width);
        work->bytes += 2 * (double)m->n_image_tokens * kv_width * sizeof(float);
    }
    if (add(work, &m->gguf, 1, "output.weight") == 0) add(work, &m->gguf, 1, "token_embd.weight");
}

tvlm_status tvlm_work_estimate(const tvlm_model *model, size_t n_past, size_t n_tokens,
                               tvlm_work_plan *out, tvlm_error *err)
{
    const tvlm_sized *type = TVLM_SIZED(tvlm_work_plan, decoder);
    tvlm_work_plan plan = {0};
    TVLM_NEED(model);
    TVLM_NEED(out);
    TVLM_TRY(tvlm_sized_check(out, type, err));
    if (model->config.tower == TVLM_TOWER_FASTVIT) {
        add_fastvit(&plan.tower, &model->gguf, &model->config);
        add_projector(&plan.bridge, model);
    } else if (model->config.tower == TVLM_TOWER_EFFICIENTNET_LITE) {
        add_efficientnet(&plan.tower, &model->gguf, &model->config);
        add_pooling(&plan.bridge, model);
    }
    if (n_tokens) add_decoder(&plan.decoder, model, (double)n_past, (double)n_tokens);
    tvlm_sized_write(out, &plan, type);
    return TVLM_OK;
}
