/* SPDX-License-Identifier: MIT
 * The decoder: names change, values do not, except that llama's rotary pairs move
 * from halves (i, i + d/2) to neighbours (2i, 2i + 1), as GGUF files of that architecture have it.
 */
#include "convert/family.h"

#include <stdio.h>

typedef struct part {
    const char *name, *source;
    uint64_t n, k;             /* k 0: a vector */
    uint32_t heads;            /* of rotary rows, else 0 */
    bool has_bias, is_qk_norm; /* in families that have them */
} part;

static void plan_part(tvlmc_conversion *c, uint32_t layer, const part *p)
{
    char name[96], source[128];
    if (p->is_qk_norm && !c->config.family->qk_norm) return;
    uint32_t heads = c->config.family->rope_pairs ? p->heads : 0;
    snprintf(name, sizeof name, "blk.%u.%s.weight", (unsigned)layer, p->name);
    snprintf(source, sizeof source, "model.layers.%u.%s.weight", (unsigned)layer, p->source);
    if (p->k)
        tvlmc_plan_linear(c, name, source, TVLMC_PART_LAYER, p->n, p->k, heads);
    else
        tvlmc_plan_vector(c, name, source, p->n);
    if (!p->has_bias || !c->config.family->qkv_bias) return;
    snprintf(name, sizeof name, "blk.%u.%s.bias", (unsigned)layer, p->name);
    snprintf(source, sizeof source, "model.layers.%u.%s.bias", (unsigned)layer, p->source);
    tvlmc_plan_vector(c, name, source, p->n);
}

static void plan_layer(tvlmc_conversion *c, uint32_t layer)
{
    const tvlmc_hf_config *h = &c->config;
    uint64_t d = h->n_embd, ff = h->n_ff, q = (uint64_t)h->n_heads * h->head_dim,
             kv = (uint64_t)h->n_kv_heads * h->head_dim;
    const part parts[] = {
        {"attn_norm",   "input_layernorm",          d,           0,  0,             false, false},
        {"attn_q",      "self_attn.q_proj",         q,           d,  h->n_heads,    true,  false},
        {"attn_k",      "self_attn.k_proj",         kv,          d,  h->n_kv_heads, true,  false},
        {"attn_v",      "self_attn.v_proj",         kv,          d,  0,             true,  false},
        {"attn_q_norm", "self_attn.q_norm",         h->head_dim, 0,  0,             false, true },
        {"attn_k_norm", "self_attn.k_norm",         h->head_dim, 0,  0,             false, true },
        {"attn_output", "self_attn.o_proj",         d,           q,  0,             false, false},
        {"ffn_norm",    "post_attention_layernorm", d,           0,  0,             false, false},
        {"ffn_gate",    "mlp.gate_proj",            ff,          d,  0,             false, false},
        {"ffn_up",      "mlp.up_proj",              ff,          d,  0,             false, false},
        {"ffn_down",    "mlp.down_proj",            d,           ff, 0,             false, false},
    };
    for (size_t i = 0; i < TVLM_COUNT(parts) && !c->status; i++)
        plan_part(c, layer, &parts[i]);
}

void tvlmc_plan_decoder(tvlmc_conversion *c)
{
    uint64_t d = c->config.n_embd;
    const tvlmc_st_tensor *embd = tvlmc_plan_linear(
        c, "token_embd.weight", "model.embed_tokens.weight", TVLMC_PART_EMBEDDING, 0, d, 0);
    for (uint32_t i = 0; i < c->config.n_layers && !c->status; i++)
        plan_layer(c, i);
    tvlmc_plan_vector(c, "output_norm.weight", "model.norm.weight", d);
    /* config.json's tie_word_embeddings is not reliable: the tensor's presence decides */
    if (embd && tvlmc_checkpoint_find(&c->checkpoint, "lm_head.weight"))
        tvlmc_plan_linear(c, "output.weight", "lm_head.weight", TVLMC_PART_EMBEDDING,
                          embd->shape[0], d, 0);
}
