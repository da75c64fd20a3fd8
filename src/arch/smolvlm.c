/* SPDX-License-Identifier: MIT
 * SmolVLM and SmolVLM2 (arXiv:2504.05299), which are Idefics3 (arXiv:2408.12637): SigLIP on frames
 * of the image, pixel shuffle, a Llama decoder; the frames stand in the text, each behind its mark:
 *
 *   <fake_token_around_image> <row_1_col_1> [frame] <fake...> <row_1_col_2> [frame] ... \n
 *   ... \n\n <fake_token_around_image> <global-img> [whole] <fake_token_around_image> */
#include "arch/arch.h"
#include "arch/work.h"
#include "vision/vision.h"

#include "image/split.h"

#include <stdio.h>
#include <string.h>

static const char *const keys[] = {"vision.siglip.block_count",
                                   "vision.siglip.embedding_length",
                                   "vision.siglip.feed_forward_length",
                                   "vision.siglip.head_count",
                                   "vision.siglip.patch_size",
                                   "vision.siglip.layer_norm_epsilon",
                                   "vision.siglip.shuffle",
                                   NULL};

enum { MAX_GRID = 256, MAX_FRAMES = 8 }; /* a side: so the counts of tokens fit 32 bits */

static void check_shape(tvlm_reader *r, const tvlm_config *c)
{
    uint32_t head = c->vision_dim / c->vision_heads, s = c->preprocess.image_size;
    if (c->vision_dim % c->vision_heads || head % 8 || head > TVLM_ATTENTION_MAX_D)
        tvlm_reader_fail(r, tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                                      "key 'vision.siglip.head_count': %u heads of %u features",
                                      (unsigned)c->vision_heads, (unsigned)c->vision_dim));
    else if (s % (c->patch_size * c->shuffle))
        tvlm_reader_fail(r, tvlm_fail(r->err, TVLM_ERR_FORMAT,
                                      "key 'vision.image_size': %u is no multiple of %u patches of "
                                      "%u",
                                      (unsigned)s, (unsigned)c->shuffle, (unsigned)c->patch_size));
    else if (s / c->patch_size > MAX_GRID)
        tvlm_reader_fail(r, tvlm_fail(r->err, TVLM_ERR_LIMIT,
                                      "key 'vision.siglip.patch_size': %u patches a side, at most "
                                      "%d are supported",
                                      (unsigned)(s / c->patch_size), MAX_GRID));
    else if (c->preprocess.split_edge % 2 || c->preprocess.split_edge / s > MAX_FRAMES)
        tvlm_reader_fail(r, tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                                      "key 'vision.preprocess.split_edge': %u, expected an even "
                                      "number and at most %d frames of %u",
                                      (unsigned)c->preprocess.split_edge, MAX_FRAMES, (unsigned)s));
}

static void read_config(tvlm_reader *r, tvlm_config *c)
{
    c->n_vision_layers = tvlm_read_u32(r, "vision.siglip.block_count", 0, 1, 256);
    c->vision_dim = tvlm_read_u32(r, "vision.siglip.embedding_length", 0, 8, 16384);
    c->vision_ff = tvlm_read_u32(r, "vision.siglip.feed_forward_length", 0, 1, 65536);
    c->vision_heads = tvlm_read_u32(r, "vision.siglip.head_count", 0, 1, 1024);
    c->patch_size = tvlm_read_u32(r, "vision.siglip.patch_size", 0, 1, 64);
    c->shuffle = tvlm_read_u32(r, "vision.siglip.shuffle", 0, 1, 16);
    c->vision_ln_eps =
        (float)tvlm_read_f64(r, "vision.siglip.layer_norm_epsilon", 1e-6, 1e-12, 1.0);
    if (!r->status) check_shape(r, c);
}

/* ---- the text around frames ---- */

#define FAKE  "<fake_token_around_image>"
#define WHOLE "<global-img>"

static const char *frame_text(uint32_t rows, uint32_t cols, size_t i, char out[96])
{
    size_t n = (size_t)rows * cols;
    if (i > n) return FAKE;
    if (i == n) return n ? "\n\n" FAKE WHOLE : FAKE WHOLE;
    snprintf(out, 96, "%s" FAKE "<row_%u_col_%u>", i && i % cols == 0 ? "\n" : "",
             (unsigned)(i / cols + 1), (unsigned)(i % cols + 1));
    return out;
}

static tvlm_status check_token(const tvlm_model *m, const char *token, tvlm_error *err)
{
    if (tvlm_tokenizer_id(m->tokenizer, (tvlm_str){token, strlen(token)}) >= 0) return TVLM_OK;
    return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                     "key 'tokenizer.ggml.tokens': images need a token '%s'", token);
}

static tvlm_status check_tokens(const tvlm_model *m, tvlm_error *err)
{
    tvlm_grid most = tvlm_split_largest(&m->config.preprocess);
    char name[32];
    TVLM_TRY(check_token(m, FAKE, err));
    TVLM_TRY(check_token(m, WHOLE, err));
    for (uint32_t i = 0; i < most.rows * most.cols; i++) {
        snprintf(name, sizeof name, "<row_%u_col_%u>", (unsigned)(i / most.cols + 1),
                 (unsigned)(i % most.cols + 1));
        TVLM_TRY(check_token(m, name, err));
    }
    return TVLM_OK;
}

/* ---- binding ---- */

static size_t tower_bytes(const tvlm_config *config)
{
    return config->n_vision_layers * sizeof(tvlm_siglip_layer);
}

static const char *part(char out[64], uint32_t layer, const char *name)
{
    snprintf(out, 64, "v.blk.%u.%s", (unsigned)layer, name);
    return out;
}

static void bind_layer(tvlm_binder *b, tvlm_siglip_layer *l, uint32_t i)
{
    size_t d = b->model->config.vision_dim, ff = b->model->config.vision_ff;
    char name[64];
    tvlm_bind_norm(b, &l->norm1, part(name, i, "ln1"), d, true);
    tvlm_bind_linear(b, &l->q, part(name, i, "attn_q"), d, d, true);
    tvlm_bind_linear(b, &l->k, part(name, i, "attn_k"), d, d, true);
    tvlm_bind_linear(b, &l->v, part(name, i, "attn_v"), d, d, true);
    tvlm_bind_linear(b, &l->out, part(name, i, "attn_out"), d, d, true);
    tvlm_bind_norm(b, &l->norm2, part(name, i, "ln2"), d, true);
    tvlm_bind_linear(b, &l->up, part(name, i, "ffn_up"), ff, d, true);
    tvlm_bind_linear(b, &l->down, part(name, i, "ffn_down"), d, ff, true);
}

static void bind_tower(tvlm_binder *b)
{
    const tvlm_config *c = &b->model->config;
    tvlm_siglip *w = &b->model->weights.siglip;
    w->d = c->vision_dim;
    w->n_heads = c->vision_heads;
    w->n_layers = c->n_vision_layers;
    w->patch_size = c->patch_size;
    w->grid = c->preprocess.image_size / c->patch_size;
    w->ln_eps = c->vision_ln_eps;
    w->layers = b->model->tower;
    size_t pixels = (size_t)c->patch_size * c->patch_size;
    tvlm_bind_linear(b, &w->patch, "v.patch_embd", w->d, 3 * pixels, true);
    w->pos = tvlm_bind_vector(b, "v.position_embd.weight", w->grid * w->grid * w->d);
    for (uint32_t i = 0; i < w->n_layers && !b->status; i++)
        bind_layer(b, &w->layers[i], i);
    tvlm_bind_norm(b, &w->post, "v.post_ln", w->d, true);
}

static void bind_bridge(tvlm_binder *b)
{
    tvlm_model *m = b->model;
    tvlm_siglip *w = &m->weights.siglip;
    w->shuffle = m->config.shuffle;
    tvlm_bind_linear(b, &w->proj, "mm.model.fc", m->config.lm.n_embd,
                     w->d * w->shuffle * w->shuffle, false);
    size_t side = w->grid / w->shuffle;
    m->weights.vision_dim = w->d;
    m->n_vision_tokens = (uint32_t)(w->grid * w->grid);
    m->n_image_tokens = (uint32_t)(side * side);
    m->max_frames = (uint32_t)tvlm_grid_frames(tvlm_split_largest(&m->config.preprocess));
}

/* ---- running ---- */

static void see(tvlm_cx *cx, const tvlm_model *model, const float *pixels, float *vision)
{
    size_t size = model->config.preprocess.image_size;
    tvlm_siglip_forward(cx, &model->weights.siglip, tvlm_nn_f32(pixels, size, size, 3), vision);
}

static void bridge(tvlm_cx *cx, const tvlm_model *model, const float *vision, float *tokens)
{
    tvlm_siglip_connect(cx, &model->weights.siglip, vision, tokens);
}

/* Of an image of the most frames. */
static void count_work(const tvlm_model *m, tvlm_work *tower, tvlm_work *bridge)
{
    static const char *const names[] = {"attn_q",   "attn_k", "attn_v",
                                        "attn_out", "ffn_up", "ffn_down"};
    const tvlm_siglip *w = &m->weights.siglip;
    double frames = m->max_frames, n = m->n_vision_tokens;
    tvlm_work_add(tower, &m->gguf, frames * n, "v.patch_embd.weight");
    for (unsigned i = 0; i < w->n_layers; i++) {
        for (size_t j = 0; j < TVLM_COUNT(names); j++)
            tvlm_work_add(tower, &m->gguf, frames * n, "v.blk.%u.%s.weight", i, names[j]);
        tower->flops += frames * tvlm_work_attention(n, n, (double)w->d);
    }
    tvlm_work_add(bridge, &m->gguf, frames * m->n_image_tokens, "mm.model.fc.weight");
}

const tvlm_arch tvlm_arch_smolvlm = {
    .name = "smolvlm",
    .decoder = {.rope_interleaved = true},
    .ours = true,
    .tower = "siglip",
    .splits = true,
    .keys = keys,
    .check_tokens = check_tokens,
    .read_config = read_config,
    .tower_bytes = tower_bytes,
    .bind_tower = bind_tower,
    .bind_bridge = bind_bridge,
    .frame_text = frame_text,
    .see = see,
    .bridge = bridge,
    .count_work = count_work,
};
