/* SPDX-License-Identifier: MIT
 * FastVLM (arXiv:2412.13303): FastViTHD, a projector, Qwen2; image tokens stand among the text's.
 */
#include "arch/arch.h"
#include "arch/work.h"
#include "vision/vision.h"

#include <stdio.h>

static const char *const keys[] = {"vision.fastvit.depths", "vision.fastvit.head_dim",
                                   "vision.fastvit.layer_norm_epsilon", NULL};

static void read_config(tvlm_reader *r, tvlm_config *c)
{
    size_t n = 0;
    if (!r->status)
        tvlm_reader_fail(r, tvlm_gguf_u32_list(r->gguf, "vision.fastvit.depths", true, c->depths,
                                               TVLM_MAX_STAGES, &n, r->err));
    c->n_stages = (uint32_t)n;
    for (size_t i = 0; i < n && !r->status; i++)
        if (c->depths[i] < 1 || c->depths[i] > 256)
            tvlm_reader_fail(r, tvlm_fail(r->err, TVLM_ERR_FORMAT,
                                          "key 'vision.fastvit.depths': %u is not in "
                                          "1..256",
                                          (unsigned)c->depths[i]));
    if (!r->status && n < 1)
        tvlm_reader_fail(r,
                         tvlm_fail(r->err, TVLM_ERR_FORMAT, "key 'vision.fastvit.depths': empty"));
    c->vision_head_dim = tvlm_read_u32(r, "vision.fastvit.head_dim", 32, 8, 1024);
    c->vision_ln_eps =
        (float)tvlm_read_f64(r, "vision.fastvit.layer_norm_epsilon", 1e-5, 1e-12, 1.0);
    if (!r->status && c->vision_head_dim % 8)
        tvlm_reader_fail(r, tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                                      "key 'vision.fastvit.head_dim': %u is no multiple of 8",
                                      (unsigned)c->vision_head_dim));
    uint32_t stride = 4u << (n ? n - 1 : 0);
    if (!r->status && c->preprocess.image_size % stride)
        tvlm_reader_fail(r, tvlm_fail(r->err, TVLM_ERR_FORMAT,
                                      "key 'vision.image_size': %u is no multiple of %u",
                                      (unsigned)c->preprocess.image_size, (unsigned)stride));
}

/* ---- binding ---- */

static const char *stage_name(char out[96], uint32_t stage, const char *part)
{
    snprintf(out, 96, "v.stage.%u.%s", (unsigned)stage, part);
    return out;
}

static const char *block_name(char out[96], uint32_t stage, uint32_t block, const char *part)
{
    snprintf(out, 96, "v.stage.%u.blk.%u.%s", (unsigned)stage, (unsigned)block, part);
    return out;
}

static void bind_fastvit_block(tvlm_binder *b, tvlm_fastvit_block *out, uint32_t stage, uint32_t i,
                               size_t c)
{
    const tvlm_config *config = &b->model->config;
    char name[96];
    out->attention = tvlm_bind_present(b, block_name(name, stage, i, "attn_qkv"));
    if (out->attention) {
        if (c % config->vision_head_dim)
            tvlm_bind_fail(b,
                           tvlm_fail(b->err, TVLM_ERR_FORMAT,
                                     "tensor '%s.weight': %zu features are not whole heads of %u",
                                     name, c, (unsigned)config->vision_head_dim));
        tvlm_bind_linear(b, &out->qkv, name, 3 * c, c, true);
        tvlm_bind_linear(b, &out->out, block_name(name, stage, i, "attn_output"), c, c, true);
    } else {
        tvlm_bind_dwconv(b, &out->mixer, block_name(name, stage, i, "mixer"), c);
    }
    tvlm_bind_dwconv(b, &out->ffn.dw, block_name(name, stage, i, "ffn_dw"), c);
    tvlm_bind_linear(b, &out->ffn.up, block_name(name, stage, i, "ffn_up"), 0, c, true);
    tvlm_bind_linear(b, &out->ffn.down, block_name(name, stage, i, "ffn_down"), c, out->ffn.up.n,
                     true);
}

/* c: width before the stage; returns the width after it. */
static size_t bind_fastvit_stage(tvlm_binder *b, tvlm_fastvit_stage *out, uint32_t stage, size_t c)
{
    char name[96];
    out->has_down = stage > 0;
    if (out->has_down) {
        tvlm_bind_dwconv(b, &out->down_dw, stage_name(name, stage, "down.dw"), 2 * c);
        c *= 2;
        tvlm_bind_linear(b, &out->down_pw, stage_name(name, stage, "down.pw"), c, c, true);
    }
    out->c = c;
    out->has_pos = tvlm_bind_present(b, stage_name(name, stage, "pos"));
    if (out->has_pos) tvlm_bind_dwconv(b, &out->pos, name, c);
    out->n_blocks = b->model->config.depths[stage];
    for (uint32_t i = 0; i < out->n_blocks && !b->status; i++)
        bind_fastvit_block(b, &out->blocks[i], stage, i, c);
    return c;
}

static void bind_tower(tvlm_binder *b)
{
    tvlm_model *m = b->model;
    tvlm_fastvit *w = &m->weights.fastvit;
    tvlm_bind_conv(b, &w->stem0, "v.stem.0", 3);
    size_t c = w->stem0.linear.n;
    tvlm_bind_dwconv(b, &w->stem1, "v.stem.1", c);
    tvlm_bind_linear(b, &w->stem2, "v.stem.2", 0, c, true);
    c = w->stem2.n;
    w->n_stages = m->config.n_stages;
    w->head_dim = m->config.vision_head_dim;
    w->ln_eps = m->config.vision_ln_eps;
    tvlm_fastvit_block *blocks = m->tower;
    for (uint32_t s = 0; s < w->n_stages && !b->status; s++) {
        w->stages[s].blocks = blocks;
        blocks += m->config.depths[s];
        c = bind_fastvit_stage(b, &w->stages[s], s, c);
    }
    tvlm_bind_dwconv(b, &w->exp_dw, "v.exp.dw", 2 * c);
    w->c_out = 2 * c;
    tvlm_bind_linear(b, &w->se_reduce, "v.exp.se_reduce", 0, w->c_out, true);
    tvlm_bind_linear(b, &w->se_expand, "v.exp.se_expand", w->c_out, w->se_reduce.n, true);
    m->weights.vision_dim = w->c_out;
    uint32_t side = m->config.preprocess.image_size / (4u << (w->n_stages ? w->n_stages - 1 : 0));
    m->n_vision_tokens = m->n_image_tokens = side * side;
}

static size_t tower_bytes(const tvlm_config *config)
{
    size_t n = 0;
    for (uint32_t s = 0; s < config->n_stages; s++)
        n += config->depths[s];
    return n * sizeof(tvlm_fastvit_block);
}

static void bind_bridge(tvlm_binder *b)
{
    tvlm_weights *w = &b->model->weights;
    tvlm_bind_linear(b, &w->projector.fc1, "mm.0", 0, w->vision_dim, true);
    tvlm_bind_linear(b, &w->projector.fc2, "mm.2", b->model->config.lm.n_embd, w->projector.fc1.n,
                     true);
}

/* ---- running ---- */

static void see(tvlm_cx *cx, const tvlm_model *model, const float *pixels, float *vision)
{
    size_t size = model->config.preprocess.image_size;
    tvlm_fastvit_forward(cx, &model->weights.fastvit, tvlm_nn_f32(pixels, size, size, 3),
                         (tvlm_features){.last = vision});
}

static void bridge(tvlm_cx *cx, const tvlm_model *model, const float *vision, float *tokens)
{
    tvlm_projector_forward(cx, &model->weights.projector, vision, model->n_vision_tokens, tokens);
}

static void count_tower(tvlm_work *work, const tvlm_gguf *g, const tvlm_config *c)
{
    uint32_t side = tvlm_strided(c->preprocess.image_size, 2);
    tvlm_work_add(work, g, tvlm_square(side), "v.stem.0.weight");
    side = tvlm_strided(side, 2);
    tvlm_work_add(work, g, tvlm_square(side), "v.stem.1.weight");
    tvlm_work_add(work, g, tvlm_square(side), "v.stem.2.weight");
    for (unsigned s = 0; s < c->n_stages; s++) {
        if (s) side = tvlm_strided(side, 2);
        double n = tvlm_square(side);
        tvlm_work_add(work, g, n, "v.stage.%u.down.dw.weight", s);
        tvlm_work_add(work, g, n, "v.stage.%u.down.pw.weight", s);
        tvlm_work_add(work, g, n, "v.stage.%u.pos.weight", s);
        for (unsigned i = 0; i < c->depths[s]; i++) {
            tvlm_work_add(work, g, n, "v.stage.%u.blk.%u.mixer.weight", s, i);
            tvlm_work_add(work, g, n, "v.stage.%u.blk.%u.attn_qkv.weight", s, i);
            double width = tvlm_work_add(work, g, n, "v.stage.%u.blk.%u.attn_output.weight", s, i);
            work->flops += tvlm_work_attention(n, n, width);
            tvlm_work_add(work, g, n, "v.stage.%u.blk.%u.ffn_dw.weight", s, i);
            tvlm_work_add(work, g, n, "v.stage.%u.blk.%u.ffn_up.weight", s, i);
            tvlm_work_add(work, g, n, "v.stage.%u.blk.%u.ffn_down.weight", s, i);
        }
    }
    tvlm_work_add(work, g, tvlm_square(side), "v.exp.dw.weight");
    tvlm_work_add(work, g, 1, "v.exp.se_reduce.weight");
    tvlm_work_add(work, g, 1, "v.exp.se_expand.weight");
}

static void count_work(const tvlm_model *m, tvlm_work *tower, tvlm_work *bridge)
{
    count_tower(tower, &m->gguf, &m->config);
    tvlm_work_add(bridge, &m->gguf, m->n_vision_tokens, "mm.0.weight");
    tvlm_work_add(bridge, &m->gguf, m->n_vision_tokens, "mm.2.weight");
}

const tvlm_arch tvlm_arch_fastvlm = {
    .name = "fastvlm",
    .decoder = {.qkv_bias = true},
    .ours = true,
    .tower = "fastvit",
    .keys = keys,
    .read_config = read_config,
    .tower_bytes = tower_bytes,
    .bind_tower = bind_tower,
    .bind_bridge = bind_bridge,
    .see = see,
    .bridge = bridge,
    .count_work = count_work,
};
