/* SPDX-License-Identifier: MIT
 * Arithmetic of each stage, counted from the tensors of the file. */
#include "arch/work.h"
#include "engine/internal.h"

static void add_linears(tvlm_work *work, const tvlm_gguf *g, unsigned layer, double rows)
{
    static const char *const names[] = {"attn_q",      "attn_k",  "attn_v",
                                        "attn_output", "cross_q", "cross_output",
                                        "ffn_gate",    "ffn_up",  "ffn_down"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        tvlm_work_add(work, g, rows, "blk.%u.%s.weight", layer, names[i]);
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
        work->flops += tvlm_work_attention(rows, keys, q_width);
        work->bytes += 2 * (past + rows) * kv_width * sizeof(uint16_t);
        if (!c->cross_attention) continue;
        work->flops += tvlm_work_attention(rows, m->n_image_tokens, q_width);
        work->bytes += 2 * (double)m->n_image_tokens * kv_width * sizeof(float);
    }
    if (tvlm_work_add(work, &m->gguf, 1, "output.weight") == 0)
        tvlm_work_add(work, &m->gguf, 1, "token_embd.weight");
}

tvlm_status tvlm_work_estimate(const tvlm_model *model, size_t n_past, size_t n_tokens,
                               tvlm_work_plan *out, tvlm_error *err)
{
    const tvlm_sized *type = TVLM_SIZED(tvlm_work_plan, decoder);
    tvlm_work_plan plan = {0};
    TVLM_NEED(model);
    TVLM_NEED(out);
    TVLM_TRY(tvlm_sized_check(out, type, err));
    const tvlm_arch *arch = model->config.arch;
    if (tvlm_arch_sees(arch)) arch->count_work(model, &plan.tower, &plan.bridge);
    if (n_tokens) add_decoder(&plan.decoder, model, (double)n_past, (double)n_tokens);
    tvlm_sized_write(out, &plan, type);
    return TVLM_OK;
}
