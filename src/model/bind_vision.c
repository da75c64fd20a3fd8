/* SPDX-License-Identifier: MIT
 * Binding the vision towers. */
#include "model/bind.h"

#include <math.h>
#include <stdio.h>

/* ---- FastViT ---- */

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

static bool present(tvlm_binder *b, const char *name)
{
    char full[160];
    snprintf(full, sizeof full, "%s.weight", name);
    return tvlm_bind_find(b, full) != NULL;
}

static void bind_fastvit_block(tvlm_binder *b, tvlm_fastvit_block *out, uint32_t stage, uint32_t i,
                               size_t c)
{
    const tvlm_config *config = &b->model->config;
    char name[96];
    out->attention = present(b, block_name(name, stage, i, "attn_qkv"));
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
    out->has_pos = present(b, stage_name(name, stage, "pos"));
    if (out->has_pos) tvlm_bind_dwconv(b, &out->pos, name, c);
    out->n_blocks = b->model->config.depths[stage];
    for (uint32_t i = 0; i < out->n_blocks && !b->status; i++)
        bind_fastvit_block(b, &out->blocks[i], stage, i, c);
    return c;
}

size_t tvlm_fastvit_block_count(const tvlm_config *config)
{
    size_t n = 0;
    for (uint32_t s = 0; s < config->n_stages; s++)
        n += config->depths[s];
    return n;
}

static void bind_fastvit(tvlm_binder *b)
{
    tvlm_model *m = b->model;
    tvlm_fastvit *w = &m->weights.fastvit;
    tvlm_bind_conv(b, &w->stem0, "v.stem.0", 3);
    size_t c = w->stem0.linear.n;
    tvlm_bind_dwconv(b, &w->stem1, "v.stem.1", c);
    tvlm_bind_linear(b, &w->stem2, "v.stem.2", 0, c, true);
    c = w->stem2.n;
    w->n_stages = m->config.n_stages;
    tvlm_fastvit_block *blocks = m->fastvit_blocks;
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

/* ---- EfficientNet-Lite, float ---- */

static const char *mb_name(char out[96], uint32_t i, const char *part)
{
    snprintf(out, 96, "v.blk.%u.%s", (unsigned)i, part);
    return out;
}

static void bind_efficientnet(tvlm_binder *b)
{
    const tvlm_config *config = &b->model->config;
    tvlm_efficientnet *w = &b->model->weights.efficientnet;
    char name[96];
    w->n_blocks = config->n_blocks;
    w->tap_block = config->tap_block;
    w->stem_stride = config->stem_stride;
    tvlm_bind_conv(b, &w->stem, "v.stem", 3);
    size_t c = w->stem.linear.n;
    for (uint32_t i = 0; i < w->n_blocks && !b->status; i++) {
        tvlm_mbconv *m = &w->blocks[i];
        m->stride = config->strides[i];
        m->c_in = m->c_mid = c;
        m->has_expand = present(b, mb_name(name, i, "expand"));
        if (m->has_expand) {
            tvlm_bind_linear(b, &m->expand, name, 0, c, true);
            m->c_mid = m->expand.n;
        }
        tvlm_bind_dwconv(b, &m->dw, mb_name(name, i, "dw"), m->c_mid);
        tvlm_bind_linear(b, &m->project, mb_name(name, i, "project"), 0, m->c_mid, true);
        c = m->c_out = m->project.n;
        m->residual = m->stride == 1 && m->c_in == m->c_out;
    }
    tvlm_bind_linear(b, &w->head, "v.head", 0, c, true);
}

/* ---- EfficientNet-Lite, int8 ----
 * mult and beta hold the file's scale and bias until tvlm_bind_finish_int8. */

#define MAX_INT8_K 65536 /* sums of k products of 127 and -128 stay inside int32 */

static const char *part_name(char out[160], const char *name, const char *part)
{
    snprintf(out, 160, "%s.%s", name, part);
    return out;
}

/* (scale, zero point) of two floats in the block; false when they make no sense. */
static bool qparam_of(const float *pair, tvlm_qparam *out)
{
    *out = (tvlm_qparam){pair[0], 0};
    if (!(pair[0] > 0 && pair[0] < 1e10f) || !(pair[1] >= 0 && pair[1] <= 127) ||
        pair[1] != floorf(pair[1]))
        return false;
    out->zero = (int32_t)pair[1];
    return true;
}

/* The output's parameters are read once they are there: in the walk only their place is known, so
 * tvlm_bind_finish_int8 walks the same names again. */
static void bind_qlayer(tvlm_binder *b, tvlm_qlayer *out, const char *name, size_t n, size_t c,
                        unsigned dense_k, bool depthwise)
{
    char full[160];
    const tvlm_gguf_tensor *t = tvlm_bind_find(b, part_name(full, name, "weight"));
    if (!t) {
        if (!b->status)
            tvlm_bind_fail(b, tvlm_fail(b->err, TVLM_ERR_FORMAT, "tensor '%s' is missing", full));
        return;
    }
    size_t taps = (size_t)dense_k * dense_k, bytes = 0, k = 0;
    if (depthwise) {
        k = tvlm_bind_taps(b, t, n);
        taps = k * k;
        if (!k) return;
        if (!tvlm_mul_size(n, taps, &bytes))
            tvlm_bind_fail(b,
                           tvlm_fail(b->err, TVLM_ERR_LIMIT, "tensor '%s' overflows memory", full));
    } else if (dense_k > 1 ? !tvlm_bind_shape(b, t, (size_t[]){n, c, dense_k, dense_k}, 4)
                           : !tvlm_bind_shape(b, t, (size_t[]){n, c}, 2)) {
        return;
    }
    out->n = (size_t)t->shape[0];
    out->k = depthwise ? k : c * taps;
    if (!depthwise && out->k > MAX_INT8_K) {
        tvlm_bind_fail(b, tvlm_fail(b->err, TVLM_ERR_LIMIT,
                                    "tensor '%s': int8 rows of %zu, at most %d", full, out->k,
                                    MAX_INT8_K));
        return;
    }
    if (!depthwise && !tvlm_qgemm_packed_size(out->n, out->k, &bytes))
        tvlm_bind_fail(b, tvlm_fail(b->err, TVLM_ERR_LIMIT, "tensor '%s' overflows memory", full));
    tvlm_slot *s = tvlm_bind_slot(b, t, depthwise ? TVLM_SLOT_QDWCONV : TVLM_SLOT_QLINEAR, out->n,
                                  depthwise ? 1 : c, taps, bytes);
    if (!s) return;
    out->weight = b->base ? b->base + s->at : NULL;
    s->sums = b->used;
    out->wsum = tvlm_bind_reserve(b, out->n, sizeof *out->wsum);
    out->mult = tvlm_bind_vector(b, part_name(full, name, "scale"), out->n);
    out->beta = tvlm_bind_vector(b, part_name(full, name, "bias"), out->n);
    tvlm_bind_vector(b, part_name(full, name, "out_q"), 2);
}

static void bind_qefficientnet(tvlm_binder *b)
{
    const tvlm_config *config = &b->model->config;
    tvlm_qefficientnet *w = &b->model->weights.qefficientnet;
    char name[96];
    w->n_blocks = config->n_blocks;
    w->tap_block = config->tap_block;
    w->stem_stride = config->stem_stride;
    tvlm_bind_vector(b, "v.input_q", 2);
    bind_qlayer(b, &w->stem, "v.stem", 0, 3, 3, false);
    size_t c = w->stem_c = w->stem.n;
    for (uint32_t i = 0; i < w->n_blocks && !b->status; i++) {
        tvlm_qmbconv *m = &w->blocks[i];
        m->stride = config->strides[i];
        m->c_in = m->c_mid = c;
        m->has_expand = present(b, mb_name(name, i, "expand"));
        if (m->has_expand) {
            bind_qlayer(b, &m->expand, name, 0, c, 1, false);
            m->c_mid = m->expand.n;
        }
        bind_qlayer(b, &m->dw, mb_name(name, i, "dw"), m->c_mid, m->c_mid, 0, true);
        bind_qlayer(b, &m->project, mb_name(name, i, "project"), 0, m->c_mid, 1, false);
        c = m->c_out = m->project.n;
        m->residual = m->stride == 1 && m->c_in == m->c_out;
    }
    bind_qlayer(b, &w->head, "v.head", 0, c, 1, false);
}

void tvlm_bind_tower(tvlm_binder *b)
{
    if (b->model->config.tower == TVLM_TOWER_FASTVIT)
        bind_fastvit(b);
    else if (b->model->config.vision_int8)
        bind_qefficientnet(b);
    else
        bind_efficientnet(b);
}

/* The values of `NAME.PART` in the file order's block: two floats bound by bind_qlayer. */
static tvlm_status read_qparam(const tvlm_model *model, const tvlm_plan *plan, const char *name,
                               tvlm_qparam *out, tvlm_error *err)
{
    const tvlm_gguf_tensor *t = tvlm_gguf_find_tensor(&model->gguf, name);
    const tvlm_slot *s = &plan->slots[plan->slot_of[t - model->gguf.tensors]];
    if (qparam_of((const float *)(const void *)(model->block + s->at), out)) return TVLM_OK;
    return tvlm_fail(err, TVLM_ERR_FORMAT,
                     "tensor '%s': expected a positive scale and a zero point in 0..127", name);
}

static tvlm_status finish_layer(const tvlm_model *model, const tvlm_plan *plan, tvlm_qlayer *l,
                                const char *name, tvlm_qparam in, bool relu6, tvlm_error *err)
{
    char full[160];
    TVLM_TRY(read_qparam(model, plan, part_name(full, name, "out_q"), &l->out, err));
    l->in = in;
    /* the block is ours and not published yet: these are its scale and bias in place */
    float *mult = (float *)(uintptr_t)l->mult, *beta = (float *)(uintptr_t)l->beta;
    for (size_t i = 0; i < l->n; i++) {
        mult[i] = in.scale * mult[i] / l->out.scale;
        beta[i] = beta[i] / l->out.scale + (float)l->out.zero;
        if (!(fabsf(mult[i]) < 1e10f) || !(fabsf(beta[i]) < 1e10f))
            return tvlm_fail(err, TVLM_ERR_FORMAT,
                             "tensor '%s.scale' or '.bias': channel %zu is out "
                             "of range",
                             name, i);
    }
    float six = rintf(6.0f / l->out.scale) + (float)l->out.zero;
    l->lo = relu6 ? (uint8_t)l->out.zero : 0;
    l->hi = relu6 && six < 127 ? (uint8_t)six : 127;
    return TVLM_OK;
}

tvlm_status tvlm_bind_finish_int8(tvlm_model *model, const tvlm_plan *plan, tvlm_error *err)
{
    tvlm_qefficientnet *w = &model->weights.qefficientnet;
    char name[96];
    TVLM_TRY(read_qparam(model, plan, "v.input_q", &w->input, err));
    TVLM_TRY(finish_layer(model, plan, &w->stem, "v.stem", w->input, true, err));
    tvlm_qparam q = w->stem.out;
    for (uint32_t i = 0; i < w->n_blocks; i++) {
        tvlm_qmbconv *m = &w->blocks[i];
        tvlm_qparam block_in = q;
        if (m->has_expand) {
            TVLM_TRY(
                finish_layer(model, plan, &m->expand, mb_name(name, i, "expand"), q, true, err));
            q = m->expand.out;
        }
        TVLM_TRY(finish_layer(model, plan, &m->dw, mb_name(name, i, "dw"), q, true, err));
        TVLM_TRY(finish_layer(model, plan, &m->project, mb_name(name, i, "project"), m->dw.out,
                              false, err));
        q = m->project.out;
        m->residual_mult = block_in.scale / q.scale;
        if (m->residual && !(m->residual_mult < 1e10f))
            return tvlm_fail(
                err, TVLM_ERR_FORMAT,
                "tensor '%s.out_q': its scale is out of range beside the block's input", name);
    }
    return finish_layer(model, plan, &w->head, "v.head", q, true, err);
}
