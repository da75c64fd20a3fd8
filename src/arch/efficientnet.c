/* SPDX-License-Identifier: MIT
 * The weights of EfficientNet-Lite, in float and int8. */
#include "arch/efficientnet.h"

#include <math.h>
#include <stdio.h>

/* ---- layers in int8 ----
 * mult and beta hold the file's scale and bias until tvlm_efficientnet_finish_int8. */

#define MAX_INT8_K 65536 /* sums of k products of 127 and -128 stay inside int32 */

static const char *part_name(char out[160], const char *name, const char *part)
{
    snprintf(out, 160, "%s.%s", name, part);
    return out;
}

/* What goes beside n rows of int8 weights. */
static void bind_quant(tvlm_binder *b, tvlm_quant *out, tvlm_slot *s, const char *name, size_t n)
{
    char full[160];
    s->sums = b->used;
    out->wsum = tvlm_bind_reserve(b, n, sizeof *out->wsum);
    out->mult = tvlm_bind_vector(b, part_name(full, name, "scale"), n);
    out->beta = tvlm_bind_vector(b, part_name(full, name, "bias"), n);
}

/* dense_k x dense_k windows of c channels; n 0: any. */
static void bind_int8_linear(tvlm_binder *b, tvlm_linear *out, const char *name, size_t n, size_t c,
                             unsigned dense_k)
{
    char full[160];
    const tvlm_gguf_tensor *t = tvlm_bind_need(b, part_name(full, name, "weight"));
    size_t taps = (size_t)dense_k * dense_k, bytes = 0;
    if (!t || !tvlm_bind_shape(b, t, (size_t[]){n, c, dense_k, dense_k}, dense_k > 1 ? 4 : 2))
        return;
    *out = (tvlm_linear){.n = (size_t)t->shape[0], .k = c * taps, .dtype = TVLM_DTYPE_U7};
    if (out->k > MAX_INT8_K) {
        tvlm_bind_fail(b, tvlm_fail(b->err, TVLM_ERR_LIMIT,
                                    "tensor '%s': int8 rows of %zu, at most %d", full, out->k,
                                    MAX_INT8_K));
        return;
    }
    if (!tvlm_qgemm_packed_size(out->n, out->k, &bytes))
        tvlm_bind_fail(b, tvlm_fail(b->err, TVLM_ERR_LIMIT, "tensor '%s' overflows memory", full));
    tvlm_slot *s = tvlm_bind_slot(b, t, TVLM_SLOT_QLINEAR, out->n, c, taps, bytes);
    if (!s) return;
    out->weight = b->base ? b->base + s->at : NULL;
    bind_quant(b, &out->quant, s, name, out->n);
}

static void bind_int8_dwconv(tvlm_binder *b, tvlm_dwconv *out, const char *name, size_t c)
{
    char full[160];
    const tvlm_gguf_tensor *t = tvlm_bind_need(b, part_name(full, name, "weight"));
    unsigned k = t ? tvlm_bind_taps(b, t, c) : 0;
    size_t bytes = 0;
    if (!k) return;
    *out = (tvlm_dwconv){.c_out = c, .k = k, .dtype = TVLM_DTYPE_U7};
    if (!tvlm_mul_size(c, (size_t)k * k, &bytes))
        tvlm_bind_fail(b, tvlm_fail(b->err, TVLM_ERR_LIMIT, "tensor '%s' overflows memory", full));
    tvlm_slot *s = tvlm_bind_slot(b, t, TVLM_SLOT_QDWCONV, c, 1, (size_t)k * k, bytes);
    if (!s) return;
    out->weight = b->base ? b->base + s->at : NULL;
    bind_quant(b, &out->quant, s, name, c);
}

/* ---- EfficientNet-Lite ---- */

static const char *mb_name(char out[96], uint32_t i, const char *part)
{
    snprintf(out, 96, "v.blk.%u.%s", (unsigned)i, part);
    return out;
}

/* In a quantised tower a layer's type is that of its weights. */
static bool is_int8(tvlm_binder *b, const char *name)
{
    char full[160];
    if (!b->model->config.vision_int8) return false;
    const tvlm_gguf_tensor *t = tvlm_bind_find(b, part_name(full, name, "weight"));
    return t && t->type == TVLM_TYPE_I8;
}

/* The range of a layer's output, whatever the layer's type: the next one may be int8. It is read
 * once it is there: in the walk only its place is known, so tvlm_efficientnet_finish_int8 walks the
 * same names again. */
static void bind_range(tvlm_binder *b, const char *name)
{
    char full[160];
    if (b->model->config.vision_int8) tvlm_bind_vector(b, part_name(full, name, "out_q"), 2);
}

static void bind_stem(tvlm_binder *b, tvlm_conv *out)
{
    enum { STEM_K = 3, COLOURS = 3 };
    if (b->model->config.vision_int8) tvlm_bind_vector(b, "v.input_q", 2);
    if (is_int8(b, "v.stem")) {
        *out = (tvlm_conv){.c_in = COLOURS, .k = STEM_K};
        bind_int8_linear(b, &out->linear, "v.stem", 0, COLOURS, STEM_K);
    } else {
        tvlm_bind_conv(b, out, "v.stem", COLOURS);
    }
    bind_range(b, "v.stem");
}

static void bind_pointwise(tvlm_binder *b, tvlm_linear *out, const char *name, size_t k)
{
    if (is_int8(b, name))
        bind_int8_linear(b, out, name, 0, k, 1);
    else
        tvlm_bind_linear(b, out, name, 0, k, true);
    bind_range(b, name);
}

static void bind_depthwise(tvlm_binder *b, tvlm_dwconv *out, const char *name, size_t c)
{
    if (is_int8(b, name))
        bind_int8_dwconv(b, out, name, c);
    else
        tvlm_bind_dwconv(b, out, name, c);
    bind_range(b, name);
}

void tvlm_efficientnet_bind(tvlm_binder *b)
{
    const tvlm_config *config = &b->model->config;
    tvlm_efficientnet *w = &b->model->weights.efficientnet;
    char name[96];
    w->n_blocks = config->n_blocks;
    w->tap_block = config->tap_block;
    w->stem_stride = config->stem_stride;
    bind_stem(b, &w->stem);
    size_t c = w->stem.linear.n;
    for (uint32_t i = 0; i < w->n_blocks && !b->status; i++) {
        tvlm_mbconv *m = &w->blocks[i];
        m->stride = config->strides[i];
        m->c_in = m->c_mid = c;
        m->has_expand = tvlm_bind_present(b, mb_name(name, i, "expand"));
        if (m->has_expand) {
            bind_pointwise(b, &m->expand, name, c);
            m->c_mid = m->expand.n;
        }
        bind_depthwise(b, &m->dw, mb_name(name, i, "dw"), m->c_mid);
        bind_pointwise(b, &m->project, mb_name(name, i, "project"), m->c_mid);
        c = m->c_out = m->project.n;
        m->residual = m->stride == 1 && m->c_in == m->c_out;
    }
    bind_pointwise(b, &w->head, "v.head", c);
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

/* mult and beta of an int8 layer of n channels, of the scale and bias that lie there. */
static tvlm_status finish_quant(tvlm_quant *l, size_t n, const char *name, bool relu6,
                                tvlm_error *err)
{
    /* the block is ours and not published yet */
    float *mult = (float *)(uintptr_t)l->mult, *beta = (float *)(uintptr_t)l->beta;
    for (size_t i = 0; i < n; i++) {
        mult[i] = l->in.scale * mult[i] / l->out.scale;
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

/* A walk along the layers of the placed tower. */
typedef struct finishing {
    const tvlm_model *model;
    const tvlm_plan *plan;
    tvlm_qparam q; /* of the map before the next layer */
    tvlm_error *err;
} finishing;

static tvlm_status finish_layer(finishing *f, tvlm_dtype dtype, tvlm_quant *l, size_t n,
                                const char *name, bool relu6)
{
    char full[160];
    TVLM_TRY(read_qparam(f->model, f->plan, part_name(full, name, "out_q"), &l->out, f->err));
    l->in = f->q;
    f->q = l->out;
    return dtype == TVLM_DTYPE_U7 ? finish_quant(l, n, name, relu6, f->err) : TVLM_OK;
}

static tvlm_status finish_linear(finishing *f, tvlm_linear *l, const char *name, bool relu6)
{
    return finish_layer(f, l->dtype, &l->quant, l->n, name, relu6);
}

static tvlm_status finish_block(finishing *f, tvlm_mbconv *m, uint32_t i)
{
    char name[96];
    tvlm_qparam in = f->q;
    if (m->has_expand) TVLM_TRY(finish_linear(f, &m->expand, mb_name(name, i, "expand"), true));
    TVLM_TRY(finish_layer(f, m->dw.dtype, &m->dw.quant, m->dw.c_out, mb_name(name, i, "dw"), true));
    TVLM_TRY(finish_linear(f, &m->project, mb_name(name, i, "project"), false));
    if (m->residual && !(in.scale / f->q.scale < 1e10f))
        return tvlm_fail(f->err, TVLM_ERR_FORMAT,
                         "tensor '%s.out_q': its scale is out of range beside the block's input",
                         name);
    return TVLM_OK;
}

tvlm_status tvlm_efficientnet_finish_int8(tvlm_model *model, const tvlm_plan *plan, tvlm_error *err)
{
    tvlm_efficientnet *w = &model->weights.efficientnet;
    finishing f = {.model = model, .plan = plan, .err = err};
    TVLM_TRY(read_qparam(model, plan, "v.input_q", &f.q, err));
    TVLM_TRY(finish_linear(&f, &w->stem.linear, "v.stem", true));
    for (uint32_t i = 0; i < w->n_blocks; i++)
        TVLM_TRY(finish_block(&f, &w->blocks[i], i));
    return finish_linear(&f, &w->head, "v.head", true);
}
