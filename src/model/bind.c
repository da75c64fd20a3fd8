/* SPDX-License-Identifier: MIT
 * The binding mechanism and the decoder. See bind.h. */
#include "model/arch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tvlm_bind_fail(tvlm_binder *b, tvlm_status status)
{
    if (!b->status) b->status = status;
}

void *tvlm_bind_reserve(tvlm_binder *b, size_t count, size_t size)
{
    size_t bytes, end;
    if (b->status) return NULL;
    if (!tvlm_mul_size(count, size, &bytes) || bytes > SIZE_MAX / 2 ||
        !tvlm_add_size(b->used, tvlm_align_up(bytes), &end)) {
        tvlm_bind_fail(b, tvlm_fail(b->err, TVLM_ERR_LIMIT, "the model's weights overflow memory"));
        return NULL;
    }
    void *block = b->base ? b->base + b->used : NULL;
    b->used = end;
    return block;
}

const tvlm_gguf_tensor *tvlm_bind_find(tvlm_binder *b, const char *name)
{
    return b->status ? NULL : tvlm_gguf_find_tensor(&b->model->gguf, name);
}

const tvlm_gguf_tensor *tvlm_bind_need(tvlm_binder *b, const char *name)
{
    const tvlm_gguf_tensor *t = tvlm_bind_find(b, name);
    if (!t && !b->status)
        tvlm_bind_fail(b, tvlm_fail(b->err, TVLM_ERR_FORMAT, "tensor '%s' is missing", name));
    return t;
}

static void print_shape(char out[96], const uint64_t *shape, uint32_t n)
{
    size_t at = 0;
    out[0] = 0;
    for (uint32_t i = 0; i < n && at < 80; i++)
        at +=
            (size_t)snprintf(out + at, 96 - at, i ? ",%llu" : "%llu", (unsigned long long)shape[i]);
}

/* Trailing dimensions of 1 in the file are ignored; 0 in `shape` takes any size. */
bool tvlm_bind_shape(tvlm_binder *b, const tvlm_gguf_tensor *t, const size_t *shape, uint32_t n)
{
    bool same = t->n_dims >= n;
    for (uint32_t i = 0; i < TVLM_MAX_DIMS && i < t->n_dims && same; i++)
        same = i < n ? !shape[i] || t->shape[i] == shape[i] : t->shape[i] == 1;
    if (same) return true;
    char have[96], want[96];
    uint64_t wanted[TVLM_MAX_DIMS] = {0};
    bool any = false;
    for (uint32_t i = 0; i < n; i++) {
        wanted[i] = shape[i];
        any = any || !shape[i];
    }
    print_shape(have, t->shape, t->n_dims);
    print_shape(want, wanted, n);
    tvlm_bind_fail(b, tvlm_fail(b->err, TVLM_ERR_FORMAT, "tensor '%s': shape [%s], expected [%s]%s",
                                tvlm_show(t->name).text, have, want, any ? " (0: any)" : ""));
    return false;
}

static bool check_type(tvlm_binder *b, const tvlm_gguf_tensor *t, tvlm_slot_kind kind)
{
    bool q = kind == TVLM_SLOT_QLINEAR || kind == TVLM_SLOT_QDWCONV;
    bool is_float =
        t->type == TVLM_TYPE_F32 || t->type == TVLM_TYPE_F16 || t->type == TVLM_TYPE_BF16;
    bool block = tvlm_type_runs(t->type) && tvlm_type_block((tvlm_type)t->type) > 1;
    if (q ? t->type == TVLM_TYPE_I8 : is_float || (kind == TVLM_SLOT_LINEAR && block)) return true;
    tvlm_bind_fail(b, tvlm_fail(b->err, TVLM_ERR_UNSUPPORTED,
                                "tensor '%s': type %s is not supported here; supported: %s",
                                tvlm_show(t->name).text, tvlm_type_name(t->type),
                                q ? "I8"
                                : kind == TVLM_SLOT_LINEAR
                                    ? "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, "
                                      "Q5_K, Q6_K"
                                    : "F32, F16, BF16"));
    return false;
}

tvlm_slot *tvlm_bind_slot(tvlm_binder *b, const tvlm_gguf_tensor *t, tvlm_slot_kind kind, size_t n,
                          size_t c, size_t taps, size_t bytes)
{
    if (b->status || !check_type(b, t, kind)) return NULL;
    tvlm_plan *p = b->plan;
    if (p->n_slots == p->cap) {
        size_t cap = p->cap ? 2 * p->cap : 512;
        tvlm_slot *grown = realloc(p->slots, cap * sizeof *grown);
        if (!grown) {
            tvlm_bind_fail(b, tvlm_fail(b->err, TVLM_ERR_MEMORY, "out of memory binding tensors"));
            return NULL;
        }
        p->slots = grown;
        p->cap = cap;
    }
    tvlm_slot *s = &p->slots[p->n_slots];
    *s = (tvlm_slot){kind,
                     b->stage,
                     (uint32_t)(t - b->model->gguf.tensors),
                     (tvlm_type)t->type,
                     b->used,
                     n,
                     c,
                     taps,
                     0,
                     0,
                     TVLM_GEMM_NR,
                     NULL};
    if (kind == TVLM_SLOT_VECTOR) s->unit_rows = 1024;
    /* the parser checked the size in 64 bits; where size_t is narrower it may not fit */
    if (!tvlm_type_row_bytes(s->type, c * taps, &s->row_bytes) || !s->row_bytes ||
        s->row_bytes > SIZE_MAX / 2 / s->unit_rows || t->size / s->row_bytes != n ||
        t->size % s->row_bytes) {
        tvlm_bind_fail(b, tvlm_fail(b->err, TVLM_ERR_LIMIT, "tensor '%s' overflows memory",
                                    tvlm_show(t->name).text));
        return NULL;
    }
    if (s->row_bytes * s->unit_rows > p->unit_bytes) p->unit_bytes = s->row_bytes * s->unit_rows;
    p->slot_of[s->tensor] = (int32_t)p->n_slots++;
    p->remaining[b->stage]++;
    tvlm_bind_reserve(b, 1, bytes);
    return s;
}

static void *at(const tvlm_binder *b, const tvlm_slot *slot)
{
    return b->base && slot ? b->base + slot->at : NULL;
}

/* Bytes of n floats; with an error where they overflow. */
static size_t float_bytes(tvlm_binder *b, const tvlm_gguf_tensor *t, uint64_t n)
{
    if (n <= SIZE_MAX / sizeof(float)) return (size_t)n * sizeof(float);
    tvlm_bind_fail(b, tvlm_fail(b->err, TVLM_ERR_LIMIT, "tensor '%s' overflows memory",
                                tvlm_show(t->name).text));
    return 0;
}

const float *tvlm_bind_vector(tvlm_binder *b, const char *name, size_t n)
{
    const tvlm_gguf_tensor *t = tvlm_bind_need(b, name);
    if (!t) return NULL;
    if (t->n_elements != n) {
        tvlm_bind_fail(b, tvlm_fail(b->err, TVLM_ERR_FORMAT,
                                    "tensor '%s': %llu elements, expected %zu", name,
                                    (unsigned long long)t->n_elements, n));
        return NULL;
    }
    return at(b, tvlm_bind_slot(b, t, TVLM_SLOT_VECTOR, n, 1, 1, float_bytes(b, t, n)));
}

static const float *bias(tvlm_binder *b, const char *name, size_t n, bool required)
{
    char full[160];
    snprintf(full, sizeof full, "%s.bias", name);
    return required || tvlm_bind_find(b, full) ? tvlm_bind_vector(b, full, n) : NULL;
}

/* The kernel of a linear whose weights are packed as `type`, and the slot that packs them. */
static void bind_panels(tvlm_binder *b, const tvlm_gguf_tensor *t, tvlm_slot_kind kind,
                        tvlm_linear *out, size_t c, size_t taps, tvlm_type type)
{
    size_t bytes = 0;
    tvlm_precision precision =
        kind == TVLM_SLOT_CONV ? TVLM_PRECISION_F32 : b->model->precision; /* packed as float32 */
    out->gemm = tvlm_gemm_for(b->model->cpu_mask, precision, type, out->k);
    if (!out->gemm->layout->packed_size(type, out->n, out->k, &bytes))
        tvlm_bind_fail(b, tvlm_fail(b->err, TVLM_ERR_LIMIT, "tensor '%s' overflows memory",
                                    tvlm_show(t->name).text));
    tvlm_slot *slot = tvlm_bind_slot(b, t, kind, out->n, c, taps, bytes);
    if (slot) slot->layout = out->gemm->layout;
    out->weight = at(b, slot);
}

/* NAME.weight alone. */
static void bind_matrix(tvlm_binder *b, tvlm_linear *out, const char *name, size_t n, size_t k)
{
    char full[160];
    snprintf(full, sizeof full, "%s.weight", name);
    const tvlm_gguf_tensor *t = tvlm_bind_need(b, full);
    if (!t || !tvlm_bind_shape(b, t, (size_t[]){n, k}, 2)) return;
    out->n = (size_t)t->shape[0];
    out->k = (size_t)t->shape[1];
    if (check_type(b, t, TVLM_SLOT_LINEAR))
        bind_panels(b, t, TVLM_SLOT_LINEAR, out, out->k, 1, (tvlm_type)t->type);
}

void tvlm_bind_linear(tvlm_binder *b, tvlm_linear *out, const char *name, size_t n, size_t k,
                      bool bias_required)
{
    bind_matrix(b, out, name, n, k);
    out->bias = bias(b, name, out->n, bias_required);
}

void tvlm_bind_norm(tvlm_binder *b, tvlm_norm *out, const char *name, size_t n, bool with_bias)
{
    char full[160];
    snprintf(full, sizeof full, "%s.weight", name);
    out->weight = tvlm_bind_vector(b, full, n);
    out->bias = with_bias ? bias(b, name, n, true) : NULL;
}

unsigned tvlm_bind_taps(tvlm_binder *b, const tvlm_gguf_tensor *t, size_t c)
{
    uint32_t d = t->n_dims;
    bool square = d >= 3 && t->shape[d - 1] == t->shape[d - 2] && t->shape[d - 1] % 2 == 1 &&
                  t->shape[d - 1] <= TVLM_DWCONV_MAX_K;
    if (square && (d == 3 || t->shape[1] == 1) && (!c || t->shape[0] == c))
        return (unsigned)t->shape[d - 1];
    char have[96];
    print_shape(have, t->shape, d);
    tvlm_bind_fail(b, tvlm_fail(b->err, TVLM_ERR_FORMAT,
                                "tensor '%s': shape [%s], expected [%zu,k,k] with odd k up to %d",
                                tvlm_show(t->name).text, have, c, TVLM_DWCONV_MAX_K));
    return 0;
}

void tvlm_bind_dwconv(tvlm_binder *b, tvlm_dwconv *out, const char *name, size_t c)
{
    char full[160];
    snprintf(full, sizeof full, "%s.weight", name);
    const tvlm_gguf_tensor *t = tvlm_bind_need(b, full);
    out->k = t ? tvlm_bind_taps(b, t, c) : 0;
    if (!out->k) return;
    out->c_out = (size_t)t->shape[0];
    size_t taps = (size_t)out->k * out->k;
    out->weight = at(b, tvlm_bind_slot(b, t, TVLM_SLOT_DWCONV, out->c_out, 1, taps,
                                       float_bytes(b, t, t->n_elements)));
    out->bias = bias(b, name, out->c_out, true);
}

void tvlm_bind_conv(tvlm_binder *b, tvlm_conv *out, const char *name, size_t c_in)
{
    char full[160];
    snprintf(full, sizeof full, "%s.weight", name);
    const tvlm_gguf_tensor *t = tvlm_bind_need(b, full);
    if (!t || !tvlm_bind_shape(b, t, (size_t[]){0, c_in, 3, 3}, 4)) return;
    out->c_in = c_in;
    out->k = 3;
    out->linear.n = (size_t)t->shape[0];
    out->linear.k = 9 * c_in;
    bind_panels(b, t, TVLM_SLOT_CONV, &out->linear, c_in, 9, TVLM_TYPE_F32);
    out->linear.bias = bias(b, name, out->linear.n, true);
}

bool tvlm_bind_present(tvlm_binder *b, const char *name)
{
    char full[160];
    snprintf(full, sizeof full, "%s.weight", name);
    return tvlm_bind_find(b, full) != NULL;
}

/* ---- decoder ---- */

static const char *block_name(char out[64], uint32_t layer, const char *part)
{
    snprintf(out, 64, "blk.%u.%s", (unsigned)layer, part);
    return out;
}

/* The gate's value arrives in the block; tvlm_bind_finish reads it from there. */
static void bind_cross(tvlm_binder *b, tvlm_decoder_layer *l, uint32_t i)
{
    const tvlm_decoder_config *c = &b->model->config.lm;
    size_t d = c->n_embd, q = (size_t)c->n_heads * c->head_dim,
           kv = (size_t)c->n_kv_heads * c->head_dim;
    char name[64];
    tvlm_bind_norm(b, &l->cross_norm, block_name(name, i, "cross_norm"), d, false);
    tvlm_bind_linear(b, &l->cross_q, block_name(name, i, "cross_q"), q, d, false);
    tvlm_bind_linear(b, &l->cross_k, block_name(name, i, "cross_k"), kv, d, false);
    tvlm_bind_linear(b, &l->cross_v, block_name(name, i, "cross_v"), kv, d, false);
    tvlm_bind_linear(b, &l->cross_o, block_name(name, i, "cross_output"), d, q, false);
    tvlm_bind_vector(b, block_name(name, i, "cross_gate"), 1);
}

static void bind_layer(tvlm_binder *b, tvlm_decoder_layer *l, uint32_t i)
{
    const tvlm_decoder_config *c = &b->model->config.lm;
    size_t d = c->n_embd, q = (size_t)c->n_heads * c->head_dim,
           kv = (size_t)c->n_kv_heads * c->head_dim;
    char name[64];
    tvlm_bind_norm(b, &l->attn_norm, block_name(name, i, "attn_norm"), d, false);
    tvlm_bind_linear(b, &l->q, block_name(name, i, "attn_q"), q, d, c->qkv_bias);
    tvlm_bind_linear(b, &l->k, block_name(name, i, "attn_k"), kv, d, c->qkv_bias);
    tvlm_bind_linear(b, &l->v, block_name(name, i, "attn_v"), kv, d, c->qkv_bias);
    if (c->qk_norm) {
        tvlm_bind_norm(b, &l->q_norm, block_name(name, i, "attn_q_norm"), c->head_dim, false);
        tvlm_bind_norm(b, &l->k_norm, block_name(name, i, "attn_k_norm"), c->head_dim, false);
    }
    tvlm_bind_linear(b, &l->o, block_name(name, i, "attn_output"), d, q, false);
    tvlm_bind_norm(b, &l->ffn_norm, block_name(name, i, "ffn_norm"), d, false);
    tvlm_bind_linear(b, &l->gate, block_name(name, i, "ffn_gate"), c->n_ff, d, false);
    tvlm_bind_linear(b, &l->up, block_name(name, i, "ffn_up"), c->n_ff, d, false);
    tvlm_bind_linear(b, &l->down, block_name(name, i, "ffn_down"), d, c->n_ff, false);
}

/* Frequencies are divided by these; tvlm_bind_finish accepts ones only, which change nothing. */
#define ROPE_FACTORS "rope_freqs.weight"

static void bind_decoder(tvlm_binder *b)
{
    tvlm_decoder *w = &b->model->weights.decoder;
    const tvlm_decoder_config *c = &b->model->config.lm;
    if (tvlm_bind_find(b, ROPE_FACTORS)) tvlm_bind_vector(b, ROPE_FACTORS, c->head_dim / 2);
    bind_matrix(b, &w->token_embd, "token_embd", c->n_vocab, c->n_embd);
    w->layers = b->model->layers;
    for (uint32_t i = 0; i < c->n_layers && !b->status; i++) {
        bind_layer(b, &w->layers[i], i);
        if (c->cross_attention) bind_cross(b, &w->layers[i], i);
    }
    tvlm_bind_norm(b, &w->output_norm, "output_norm", c->n_embd, false);
    w->output = w->token_embd;
    if (tvlm_bind_find(b, "output.weight"))
        bind_matrix(b, &w->output, "output", c->n_vocab, c->n_embd);
}

/* ---- the walk ---- */

static void walk(tvlm_binder *b)
{
    const tvlm_arch *arch = b->model->config.arch;
    if (tvlm_arch_sees(arch)) {
        b->stage = TVLM_STAGE_TOWER;
        arch->bind_tower(b);
        b->stage = TVLM_STAGE_BRIDGE;
        arch->bind_bridge(b);
    }
    b->stage = TVLM_STAGE_DECODER;
    bind_decoder(b);
}

static int by_tensor(const void *a, const void *b)
{
    const tvlm_slot *x = a, *y = b;
    return x->tensor < y->tensor ? -1 : x->tensor > y->tensor;
}

static tvlm_status run_walk(tvlm_model *model, tvlm_plan *plan, tvlm_error *err)
{
    tvlm_binder b = {.model = model, .plan = plan, .base = model->block, .err = err};
    plan->n_slots = 0;
    memset(plan->remaining, 0, sizeof plan->remaining);
    for (size_t i = 0; i < model->gguf.n_tensors; i++)
        plan->slot_of[i] = -1;
    walk(&b);
    if (b.status) return b.status;
    plan->block_size = b.used;
    qsort(plan->slots, plan->n_slots, sizeof *plan->slots, by_tensor);
    for (size_t i = 0; i < plan->n_slots; i++)
        plan->slot_of[plan->slots[i].tensor] = (int32_t)i;
    return TVLM_OK;
}

/* What is not used would be lost in silence. */
static tvlm_status refuse_unused(const tvlm_model *model, const tvlm_plan *plan, tvlm_error *err)
{
    for (size_t i = 0; i < model->gguf.n_tensors; i++)
        if (plan->slot_of[i] < 0)
            return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                             "tensor '%s' has no place in a %s model of %u layers",
                             tvlm_show(model->gguf.tensors[i].name).text, model->config.arch->name,
                             (unsigned)model->config.lm.n_layers);
    return TVLM_OK;
}

tvlm_status tvlm_bind_plan(tvlm_model *model, tvlm_plan *plan, tvlm_error *err)
{
    *plan = (tvlm_plan){0};
    model->max_frames = 1;
    plan->slot_of = malloc((model->gguf.n_tensors + 1) * sizeof *plan->slot_of);
    size_t tower = tvlm_tower_bytes(&model->config);
    model->tower = tower ? calloc(1, tower) : NULL;
    model->layers = calloc(model->config.lm.n_layers, sizeof *model->layers);
    if (!plan->slot_of || (tower && !model->tower) || !model->layers)
        return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory binding tensors");
    TVLM_TRY(run_walk(model, plan, err));
    TVLM_TRY(refuse_unused(model, plan, err));
    model->block_size = plan->block_size;
    for (size_t i = 0; i < plan->n_slots; i++)
        model->n_parameters += model->gguf.tensors[plan->slots[i].tensor].n_elements;
    return TVLM_OK;
}

tvlm_status tvlm_bind_attach(tvlm_model *model, tvlm_plan *plan, tvlm_error *err)
{
    return run_walk(model, plan, err);
}

void tvlm_plan_free(tvlm_plan *plan)
{
    free(plan->slots);
    free(plan->slot_of);
    *plan = (tvlm_plan){0};
}

/* The values of a bound vector, where the file has it. */
static const float *placed(const tvlm_model *model, const tvlm_plan *plan, const char *name)
{
    const tvlm_gguf_tensor *t = tvlm_gguf_find_tensor(&model->gguf, name);
    if (!t) return NULL;
    const tvlm_slot *slot = &plan->slots[plan->slot_of[t - model->gguf.tensors]];
    return (const float *)(const void *)(model->block + slot->at);
}

static void finish_gates(tvlm_model *model, const tvlm_plan *plan)
{
    for (uint32_t i = 0; i < model->config.lm.n_layers; i++) {
        char name[64];
        const float *gate = placed(model, plan, block_name(name, i, "cross_gate"));
        model->weights.decoder.layers[i].cross_gate = (float)tanh((double)*gate);
    }
}

static tvlm_status check_rope_factors(const tvlm_model *model, const tvlm_plan *plan,
                                      tvlm_error *err)
{
    const float *factors = placed(model, plan, ROPE_FACTORS);
    for (uint32_t i = 0; factors && i < model->config.lm.head_dim / 2; i++)
        if (factors[i] != 1.0f)
            return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                             "tensor '" ROPE_FACTORS "': rope scaling is not supported");
    return TVLM_OK;
}

tvlm_status tvlm_bind_finish(tvlm_model *model, const tvlm_plan *plan, tvlm_stage stage,
                             tvlm_error *err)
{
    const tvlm_arch *arch = model->config.arch;
    if (stage == TVLM_STAGE_TOWER && arch->finish_tower)
        return arch->finish_tower(model, plan, err);
    if (stage == TVLM_STAGE_DECODER && model->config.lm.cross_attention) finish_gates(model, plan);
    return stage == TVLM_STAGE_DECODER ? check_rope_factors(model, plan, err) : TVLM_OK;
}
