/* SPDX-License-Identifier: MIT
 * The FastViT tower: branches of the training form are summed, batch norms, layer scales and the
 * affine part of layer norms go into the neighbouring weights (FastViT, arXiv:2303.14189, sec. 3).
 * All of it in double, rounded once. */
#include "convert/conversion.h"

#include "model/config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEAD_DIM = 32, MAX_DEPTH = 256, NAME = 160 };
static const double BN_EPS = 1e-5;

/* A convolution [n][in][k][k] with a bias [n]; w NULL after a failure. */
typedef struct kernel {
    double *w, *b;
    size_t n, in, k;
} kernel;

static void drop(kernel *a)
{
    free(a->w);
    free(a->b);
    *a = (kernel){0};
}

static const char *join(char out[NAME], const char *prefix, const char *part)
{
    if (snprintf(out, NAME, "%s.%s", prefix, part) >= NAME) out[0] = 0; /* names no tensor */
    return out;
}

static double *numbers(tvlmc_conversion *c, size_t n)
{
    if (c->status) return NULL;
    double *v = calloc(n ? n : 1, sizeof *v);
    if (!v) tvlmc_conversion_fail(c, tvlm_fail(c->err, TVLM_ERR_MEMORY, "out of memory folding"));
    return v;
}

/* Values must be numbers: folded, an infinite variance would be a plain zero. */
static double *read_tensor(tvlmc_conversion *c, const tvlmc_st_tensor *t)
{
    double *out = t ? numbers(c, t->n) : NULL;
    float part[4096];
    for (size_t at = 0; out && at < t->n && !c->status;) {
        size_t n = t->n - at < TVLM_COUNT(part) ? t->n - at : TVLM_COUNT(part);
        tvlmc_conversion_fail(c, tvlmc_conversion_read(c, t, at, n, part));
        for (size_t i = 0; i < n && !c->status; i++)
            out[at + i] = part[i];
        at += n;
    }
    if (!c->status) return out;
    free(out);
    return NULL;
}

/* PREFIX.PART as n numbers; NULL when it is absent (a failure if required). */
static double *read_vector(tvlmc_conversion *c, const char *prefix, const char *part, size_t n,
                           bool required)
{
    char name[NAME];
    const tvlmc_st_tensor *t = tvlmc_take(c, join(name, prefix, part), required);
    if (!t) return NULL;
    if (t->n != n) {
        tvlmc_conversion_fail(c,
                              tvlm_fail(c->err, TVLM_ERR_FORMAT,
                                        "tensor '%s': %zu values, expected %zu", t->name, t->n, n));
        return NULL;
    }
    return read_tensor(c, t);
}

static bool exists(const tvlmc_conversion *c, const char *prefix, const char *part)
{
    char name[NAME];
    return tvlmc_checkpoint_has(&c->checkpoint, join(name, prefix, part));
}

/* ---- kernels ---- */

static kernel make_kernel(tvlmc_conversion *c, size_t n, size_t in, size_t k)
{
    size_t taps, size;
    kernel out = {NULL, NULL, n, in, k};
    if (c->status) return (kernel){0};
    if (!tvlm_mul_size(k, k, &taps) || !tvlm_mul_size(taps, in, &taps) ||
        !tvlm_mul_size(taps, n, &size) || size > SIZE_MAX / sizeof(double)) {
        tvlmc_conversion_fail(c, tvlm_fail(c->err, TVLM_ERR_LIMIT, "a convolution is too large"));
        return (kernel){0};
    }
    out.w = numbers(c, size);
    out.b = numbers(c, n);
    if (c->status) drop(&out);
    return out;
}

/* PREFIX.weight, [n][in][k][k] or [n][in], and PREFIX.bias or zeros. */
static kernel read_conv(tvlmc_conversion *c, const char *prefix)
{
    char name[NAME];
    const tvlmc_st_tensor *t = tvlmc_take(c, join(name, prefix, "weight"), true);
    if (!t) return (kernel){0};
    bool square = t->n_dims == 4 && t->shape[2] == t->shape[3] && t->shape[2] % 2 == 1;
    if ((!square && t->n_dims != 2) || t->n == 0) {
        tvlmc_conversion_fail(c, tvlm_fail(c->err, TVLM_ERR_FORMAT,
                                           "tensor '%s': not the shape of a convolution", t->name));
        return (kernel){0};
    }
    kernel out = {read_tensor(c, t), NULL, (size_t)t->shape[0], (size_t)t->shape[1],
                  square ? (size_t)t->shape[2] : 1};
    out.b = read_vector(c, prefix, "bias", out.n, false);
    if (!out.b) out.b = numbers(c, out.n);
    if (c->status) drop(&out);
    return out;
}

/* Batch norm as y = scale * x + shift. */
typedef struct norm {
    double *scale, *shift;
} norm;

static void drop_norm(norm *a)
{
    free(a->scale);
    free(a->shift);
    *a = (norm){0};
}

static norm read_bn(tvlmc_conversion *c, const char *prefix, size_t n)
{
    norm out = {read_vector(c, prefix, "weight", n, true), read_vector(c, prefix, "bias", n, true)};
    double *mean = read_vector(c, prefix, "running_mean", n, true);
    double *var = read_vector(c, prefix, "running_var", n, true);
    for (size_t i = 0; i < n && !c->status; i++) {
        if (!(var[i] >= 0))
            tvlmc_conversion_fail(c, tvlm_fail(c->err, TVLM_ERR_FORMAT,
                                               "tensor '%s.running_var': %g is no variance", prefix,
                                               var[i]));
        out.scale[i] /= sqrt(var[i] + BN_EPS);
        out.shift[i] -= mean[i] * out.scale[i];
    }
    free(mean);
    free(var);
    if (c->status) drop_norm(&out);
    return out;
}

static void scale_rows(kernel *a, const double *scale)
{
    size_t row = a->in * a->k * a->k;
    for (size_t i = 0; i < a->n; i++) {
        for (size_t j = 0; j < row; j++)
            a->w[i * row + j] *= scale[i];
        a->b[i] *= scale[i];
    }
}

/* PREFIX.conv followed by PREFIX.bn. */
static kernel read_conv_bn(tvlmc_conversion *c, const char *prefix)
{
    char name[NAME];
    kernel out = read_conv(c, join(name, prefix, "conv"));
    if (!out.w) return out;
    norm bn = read_bn(c, join(name, prefix, "bn"), out.n);
    if (c->status) {
        drop(&out);
        return out;
    }
    scale_rows(&out, bn.scale);
    for (size_t i = 0; i < out.n; i++)
        out.b[i] += bn.shift[i];
    drop_norm(&bn);
    return out;
}

/* a += factor * b, the smaller kernel b in the centre of a. Drops b. */
static void add(tvlmc_conversion *c, kernel *a, kernel b, double factor)
{
    bool fits = a->w && b.w && a->n == b.n && a->in == b.in && a->k >= b.k;
    size_t off = fits ? (a->k - b.k) / 2 : 0;
    if (a->w && b.w && !fits)
        tvlmc_conversion_fail(c, tvlm_fail(c->err, TVLM_ERR_FORMAT,
                                           "branches [%zu][%zu][%zu] and [%zu][%zu][%zu] of the "
                                           "tower do not sum",
                                           a->n, a->in, a->k, b.n, b.in, b.k));
    for (size_t i = 0; fits && i < a->n * a->in; i++)
        for (size_t y = 0; y < b.k; y++)
            for (size_t x = 0; x < b.k; x++)
                a->w[(i * a->k + y + off) * a->k + x + off] +=
                    factor * b.w[(i * b.k + y) * b.k + x];
    for (size_t i = 0; fits && i < a->n; i++)
        a->b[i] += factor * b.b[i];
    drop(&b);
}

/* a += the identity, through batch norm PREFIX when given. */
static void add_identity(tvlmc_conversion *c, kernel *a, const char *prefix)
{
    norm bn = {0};
    if (!a->w) return;
    if (prefix) bn = read_bn(c, prefix, a->n);
    for (size_t i = 0; i < a->n && !c->status; i++) {
        size_t centre = a->k / 2 * a->k + a->k / 2;
        a->w[(i * a->in + i % a->in) * a->k * a->k + centre] += prefix ? bn.scale[i] : 1.0;
        if (prefix) a->b[i] += bn.shift[i];
    }
    drop_norm(&bn);
}

/* ---- blocks that a training-form checkpoint holds as branches ---- */

/* MobileOneBlock: sum of kxk branches, a 1x1 branch and a skip, each with its batch norm. */
static kernel mobileone(tvlmc_conversion *c, const char *prefix)
{
    char name[NAME], branch[48];
    if (exists(c, prefix, "reparam_conv.weight"))
        return read_conv(c, join(name, prefix, "reparam_conv"));
    kernel out = read_conv_bn(c, join(name, prefix, "conv_kxk.0"));
    for (unsigned i = 1; i < 64; i++) {
        snprintf(branch, sizeof branch, "conv_kxk.%u.", i);
        if (!exists(c, prefix, branch)) break;
        branch[strlen(branch) - 1] = 0;
        add(c, &out, read_conv_bn(c, join(name, prefix, branch)), 1);
    }
    if (exists(c, prefix, "conv_scale."))
        add(c, &out, read_conv_bn(c, join(name, prefix, "conv_scale")), 1);
    if (exists(c, prefix, "identity.")) add_identity(c, &out, join(name, prefix, "identity"));
    return out;
}

/* ReparamLargeKernelConv: 7x7 and 3x3 branches. */
static kernel large_kernel(tvlmc_conversion *c, const char *prefix)
{
    char name[NAME];
    if (exists(c, prefix, "reparam_conv.weight"))
        return read_conv(c, join(name, prefix, "reparam_conv"));
    kernel out = read_conv_bn(c, join(name, prefix, "large_conv"));
    if (exists(c, prefix, "small_conv."))
        add(c, &out, read_conv_bn(c, join(name, prefix, "small_conv")), 1);
    return out;
}

/* RepMixer: x + layer_scale * (mixer(x) - norm(x)). */
static kernel repmixer(tvlmc_conversion *c, const char *prefix)
{
    char name[NAME];
    if (exists(c, prefix, "reparam_conv.weight"))
        return read_conv(c, join(name, prefix, "reparam_conv"));
    kernel out = mobileone(c, join(name, prefix, "mixer"));
    kernel bn = make_kernel(c, out.n, out.in, out.k);
    add_identity(c, &bn, join(name, prefix, "norm.identity"));
    add(c, &out, bn, -1);
    double *scale = out.w ? read_vector(c, prefix, "layer_scale.gamma", out.n, true) : NULL;
    if (scale) scale_rows(&out, scale);
    free(scale);
    add_identity(c, &out, NULL);
    return out;
}

/* RepCPE: x + pe(x). */
static kernel position_encoding(tvlmc_conversion *c, const char *prefix)
{
    char name[NAME];
    if (exists(c, prefix, "reparam_conv.weight"))
        return read_conv(c, join(name, prefix, "reparam_conv"));
    kernel out = read_conv(c, join(name, prefix, "pos_enc"));
    add_identity(c, &out, NULL);
    return out;
}

/* ---- planning: a kernel becomes NAME.weight and NAME.bias ---- */

typedef enum form { DEPTHWISE, DENSE, POINTWISE } form;

static float *rounded(tvlmc_conversion *c, const double *v, size_t n)
{
    if (c->status) return NULL;
    float *out = malloc(n * sizeof *out);
    if (!out) tvlmc_conversion_fail(c, tvlm_fail(c->err, TVLM_ERR_MEMORY, "out of memory"));
    for (size_t i = 0; out && i < n; i++)
        out[i] = (float)v[i];
    return out;
}

/* Drops the kernel. */
static void plan_kernel(tvlmc_conversion *c, const char *name, form f, kernel a)
{
    char full[NAME];
    if (a.w && ((f == DEPTHWISE && a.in != 1) || (f == POINTWISE && a.k != 1)))
        tvlmc_conversion_fail(c, tvlm_fail(c->err, TVLM_ERR_FORMAT,
                                           "'%s': a convolution [%zu][%zu][%zu][%zu] does not fit "
                                           "there",
                                           name, a.n, a.in, a.k, a.k));
    if (!c->status) {
        uint64_t dw[] = {a.n, a.k, a.k}, dense[] = {a.n, a.in, a.k, a.k};
        const uint64_t *shape = f == DEPTHWISE ? dw : dense;
        uint32_t dims = f == DEPTHWISE ? 3 : f == DENSE ? 4 : 2;
        tvlm_type type = TVLM_TYPE_F32;
        if (f == POINTWISE) type = tvlmc_linear_type(c, name, TVLMC_PART_TOWER, a.in);
        tvlmc_plan_values(c, join(full, name, "weight"), type, shape, dims,
                          rounded(c, a.w, a.n * a.in * a.k * a.k));
        tvlmc_plan_values(c, join(full, name, "bias"), TVLM_TYPE_F32, shape, 1,
                          rounded(c, a.b, a.n));
    }
    drop(&a);
}

/* q, k, v of a layer-normed x: W (g * n(x) + b) = (W diag g) n(x) + W b; queries scaled by
 * HEAD_DIM^-1/2. */
static kernel fold_qkv(tvlmc_conversion *c, const char *block)
{
    char name[NAME];
    kernel a = read_conv(c, join(name, block, "token_mixer.qkv"));
    if (!a.w) return a;
    if (a.k != 1 || a.n != 3 * a.in || a.in % HEAD_DIM)
        tvlmc_conversion_fail(c,
                              tvlm_fail(c->err, TVLM_ERR_FORMAT,
                                        "tensor '%s.weight': [%zu][%zu] is no attention of heads "
                                        "of %d",
                                        name, a.n, a.in, HEAD_DIM));
    double *gain = read_vector(c, block, "norm.weight", a.in, true);
    double *shift = read_vector(c, block, "norm.bias", a.in, true);
    for (size_t i = 0; i < a.n && !c->status; i++) {
        double scale = i < a.in ? 1 / sqrt(HEAD_DIM) : 1, *row = a.w + i * a.in;
        for (size_t j = 0; j < a.in; j++) {
            a.b[i] += row[j] * shift[j];
            row[j] *= gain[j] * scale;
        }
        a.b[i] *= scale;
    }
    free(gain);
    free(shift);
    if (c->status) drop(&a);
    return a;
}

/* A convolution whose output the vector PREFIX.SCALE (if any) multiplies. */
static kernel read_scaled(tvlmc_conversion *c, const char *block, const char *part,
                          const char *scale)
{
    char name[NAME];
    kernel a = read_conv(c, join(name, block, part));
    double *s = a.w ? read_vector(c, block, scale, a.n, false) : NULL;
    if (s) scale_rows(&a, s);
    free(s);
    return a;
}

static void plan_block(tvlmc_conversion *c, unsigned stage, unsigned index)
{
    char block[NAME], out[NAME], source[NAME], name[NAME];
    snprintf(block, NAME, "v.stages.%u.blocks.%u", stage, index);
    snprintf(out, NAME, "v.stage.%u.blk.%u", stage, index);
    bool attention = exists(c, block, "token_mixer.qkv.");
    if (attention) {
        plan_kernel(c, join(name, out, "attn_qkv"), POINTWISE, fold_qkv(c, block));
        plan_kernel(c, join(name, out, "attn_output"), POINTWISE,
                    read_scaled(c, block, "token_mixer.proj", "layer_scale_1.gamma"));
    } else {
        plan_kernel(c, join(name, out, "mixer"), DEPTHWISE,
                    repmixer(c, join(source, block, "token_mixer")));
    }
    join(source, block, "mlp.conv");
    plan_kernel(c, join(name, out, "ffn_dw"), DEPTHWISE, read_conv_bn(c, source));
    join(source, block, "mlp.fc1");
    plan_kernel(c, join(name, out, "ffn_up"), POINTWISE, read_conv(c, source));
    plan_kernel(
        c, join(name, out, "ffn_down"), POINTWISE,
        read_scaled(c, block, "mlp.fc2", attention ? "layer_scale_2.gamma" : "layer_scale.gamma"));
}

static void plan_stage(tvlmc_conversion *c, unsigned stage)
{
    char source[NAME], prefix[NAME], name[NAME];
    snprintf(prefix, NAME, "v.stages.%u", stage);
    if (stage > 0) {
        snprintf(name, NAME, "v.stage.%u.down.dw", stage);
        plan_kernel(c, name, DEPTHWISE, large_kernel(c, join(source, prefix, "downsample.proj.0")));
        snprintf(name, NAME, "v.stage.%u.down.pw", stage);
        plan_kernel(c, name, POINTWISE, mobileone(c, join(source, prefix, "downsample.proj.1")));
    }
    if (exists(c, prefix, "pos_emb.")) {
        snprintf(name, NAME, "v.stage.%u.pos", stage);
        plan_kernel(c, name, DEPTHWISE, position_encoding(c, join(source, prefix, "pos_emb")));
    }
    uint32_t depth = 0;
    for (; depth < MAX_DEPTH && !c->status; depth++) {
        char block[48];
        snprintf(block, sizeof block, "blocks.%u.", (unsigned)depth);
        if (!exists(c, prefix, block)) break;
        plan_block(c, stage, depth);
    }
    c->depths[stage] = depth;
}

void tvlmc_plan_tower(tvlmc_conversion *c)
{
    static const form stem_forms[] = {DENSE, DEPTHWISE, POINTWISE};
    char source[NAME], name[NAME];
    for (unsigned i = 0; i < 3; i++) {
        snprintf(source, NAME, "v.stem.%u", i);
        plan_kernel(c, source, stem_forms[i], mobileone(c, source));
    }
    for (c->n_stages = 0; c->n_stages < TVLM_MAX_STAGES && !c->status; c->n_stages++) {
        snprintf(source, NAME, "v.stages.%u.blocks.", (unsigned)c->n_stages);
        if (!tvlmc_checkpoint_has(&c->checkpoint, source)) break;
        plan_stage(c, c->n_stages);
    }
    plan_kernel(c, "v.exp.dw", DEPTHWISE, mobileone(c, "v.final_conv"));
    static const char *const se[][2] = {
        {"v.exp.se_reduce", "fc1"},
        {"v.exp.se_expand", "fc2"}
    };
    for (int i = 0; i < 2; i++) {
        join(name, "v.final_conv.se", se[i][1]);
        plan_kernel(c, se[i][0], POINTWISE, read_conv(c, name));
    }
}
