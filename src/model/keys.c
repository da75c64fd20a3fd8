/* SPDX-License-Identifier: MIT
 * The keys of llama.cpp (gguf-py/gguf/constants.py) and ours, each decided. */
#include "model/keys.h"
#include "model/arch.h"

#include <string.h>

typedef struct rule {
    const char *name; /* a '*' at the end stands for any rest; the first that fits decides */
    const char *why;  /* NULL: free, as it is read elsewhere or never changes the result */
    double value;     /* changes nothing, as 0, false and what is empty do */
} rule;

#define FREE_KEY(name)                {name, NULL, 0}
#define NEUTRAL_KEY(name, value, why) {name, why, value}

static const char scaled[] = "rope scaling is not supported";
static const char experts[] = "mixtures of experts are not supported";
static const char windows[] = "sliding windows are not supported";
static const char unknown[] = "not known here, and it may change the result";

/* Under "{arch}."; what is not listed is neutral at 0 alone. */
static const rule arch_rules[] = {
    FREE_KEY("block_count"),
    FREE_KEY("context_length"),
    FREE_KEY("embedding_length"),
    FREE_KEY("embedding_length_out"),
    FREE_KEY("feed_forward_length"),
    FREE_KEY("vocab_size"),
    FREE_KEY("attention.head_count"),
    FREE_KEY("attention.head_count_kv"),
    FREE_KEY("attention.key_length"),
    FREE_KEY("attention.value_length"),
    FREE_KEY("attention.layer_norm_rms_epsilon"),
    FREE_KEY("rope.dimension_count"),
    FREE_KEY("rope.freq_base"),
    FREE_KEY("tensor_data_layout"),     /* of the checkpoint; a note */
    FREE_KEY("rope.scaling.type"),      /* config.c, as for all keys that are read */
    FREE_KEY("rope.scaling.finetuned"), /* these follow from a type that scales */
    FREE_KEY("rope.scaling.original_context_length"),
    FREE_KEY("rope.scaling.yarn_beta_fast"),
    FREE_KEY("rope.scaling.yarn_beta_slow"),
    NEUTRAL_KEY("rope.scaling.yarn_ext_factor", 0, scaled),
    NEUTRAL_KEY("rope.scaling.yarn_log_multiplier", 0, scaled),
    NEUTRAL_KEY("rope.scaling.*", 1, scaled),
    NEUTRAL_KEY("rope.scale_linear", 1, scaled),
    NEUTRAL_KEY("rope.dimension_sections", 0, "rope of several sections is not supported"),
    FREE_KEY("attention.causal"),
    NEUTRAL_KEY("attention.sliding_window", 0, windows),
    NEUTRAL_KEY("attention.sliding_window_pattern", 0, windows),
    NEUTRAL_KEY("attention.max_alibi_bias", 0, "ALiBi is not supported"),
    NEUTRAL_KEY("attention.clamp_kqv", 0, "clamped attention is not supported"),
    NEUTRAL_KEY("attention.layer_norm_epsilon", 0,
                "layer norms of mean and variance are not supported"),
    FREE_KEY("attention.scale"),
    NEUTRAL_KEY("attention.output_scale", 1, "scaled outputs are not supported"),
    NEUTRAL_KEY("attn_logit_softcapping", 0, "capped logits are not supported"),
    NEUTRAL_KEY("final_logit_softcapping", 0, "capped logits are not supported"),
    NEUTRAL_KEY("logit_scale", 1, "scaled logits are not supported"),
    NEUTRAL_KEY("residual_scale", 1, "scaled residuals are not supported"),
    NEUTRAL_KEY("embedding_scale", 1, "scaled embeddings are not supported"),
    NEUTRAL_KEY("use_parallel_residual", 0, "parallel residuals are not supported"),
    NEUTRAL_KEY("pooling_type", 0, "embedding models are not supported"),
    NEUTRAL_KEY("expert_*", 0, experts),
};

/* Everywhere. */
static const rule rules[] = {
    NEUTRAL_KEY("general.quantization_version", 2,
                "only version 2 of the block formats is supported"),
    FREE_KEY("tokenizer.ggml.model"),
    FREE_KEY("tokenizer.ggml.pre"),
    FREE_KEY("tokenizer.ggml.tokens"),
    FREE_KEY("tokenizer.ggml.token_type"),
    FREE_KEY("tokenizer.ggml.merges"),
    FREE_KEY("tokenizer.ggml.scores"), /* byte-level BPE goes by the order of the merges */
    FREE_KEY("tokenizer.ggml.token_type_count"),
    FREE_KEY("tokenizer.ggml.add_bos_token"),
    FREE_KEY("tokenizer.ggml.bos_token_id"),
    FREE_KEY("tokenizer.ggml.eos_token_id"),
    FREE_KEY("tokenizer.ggml.eot_token_id"),
    FREE_KEY("tokenizer.ggml.unknown_token_id"), /* every byte has a token */
    FREE_KEY("tokenizer.ggml.padding_token_id"),
    FREE_KEY("tokenizer.ggml.seperator_token_id"), /* llama.cpp's spelling */
    FREE_KEY("tokenizer.ggml.separator_token_id"),
    FREE_KEY("tokenizer.ggml.cls_token_id"),
    FREE_KEY("tokenizer.ggml.mask_token_id"),
    FREE_KEY("tokenizer.ggml.prefix_token_id"),
    FREE_KEY("tokenizer.ggml.suffix_token_id"),
    FREE_KEY("tokenizer.ggml.middle_token_id"),
    FREE_KEY("tokenizer.ggml.fim_*"),
    FREE_KEY("tokenizer.ggml.eom_token_id"),
    NEUTRAL_KEY("tokenizer.ggml.add_eos_token", 0,
                "prompts that end in the end-of-text token are not supported"),
    NEUTRAL_KEY("tokenizer.ggml.add_sep_token", 0, "separator tokens are not supported"),
    NEUTRAL_KEY("tokenizer.ggml.add_space_prefix", 0, "a space before the text is not supported"),
    NEUTRAL_KEY("tokenizer.ggml.remove_extra_whitespaces", 0, "white space is never removed"),
    NEUTRAL_KEY("tokenizer.ggml.precompiled_charsmap", 0, "maps of characters are not supported"),
    NEUTRAL_KEY("tokenizer.ggml.*", 0, unknown),
    FREE_KEY("tinyvlm.added_tokens"),
    FREE_KEY("tinyvlm.chat_template"),
    FREE_KEY("tinyvlm.describe_beams"),
    FREE_KEY("tinyvlm.describe_prompt"),
    FREE_KEY("tinyvlm.file_version"),
    FREE_KEY("tinyvlm.header_crc32c"),
    FREE_KEY("tinyvlm.names"),
    FREE_KEY("tinyvlm.tensor_crc32c"),
};

/* Of models that see, beside their family's own. */
static const rule vision_rules[] = {
    FREE_KEY("vision.tower"),
    FREE_KEY("vision.image_size"),
    FREE_KEY("vision.preprocess.mode"),
    FREE_KEY("vision.preprocess.filter"),
    FREE_KEY("vision.preprocess.pad_color"),
    FREE_KEY("vision.preprocess.scale"),
    FREE_KEY("vision.preprocess.mean"),
    FREE_KEY("vision.preprocess.std"),
    FREE_KEY("vision.preprocess.split_edge"),
    FREE_KEY("vision.preprocess.bias"),
};

static const rule *find_rule(const rule *list, size_t n, tvlm_str name)
{
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(list[i].name);
        bool rest = list[i].name[len - 1] == '*';
        len -= rest;
        if ((rest ? name.len >= len : name.len == len) && !memcmp(name.data, list[i].name, len))
            return &list[i];
    }
    return NULL;
}

static bool begins_with(tvlm_str s, const char *prefix)
{
    size_t n = strlen(prefix);
    return s.len >= n && !memcmp(s.data, prefix, n);
}

static bool is_read(const tvlm_arch *arch, tvlm_str key)
{
    for (const char *const *name = arch->keys; name && *name; name++)
        if (tvlm_str_eq(key, *name)) return true;
    return false;
}

/* NULL: nobody's but its author's. */
static const rule *rule_of(tvlm_str key, const tvlm_arch *arch)
{
    static const rule other = NEUTRAL_KEY("", 0, unknown), own = FREE_KEY("");
    bool sees = tvlm_arch_sees(arch);
    size_t n = strlen(arch->name);
    if (is_read(arch, key)) return &own;
    const rule *found = find_rule(rules, TVLM_COUNT(rules), key);
    if (!found && sees) found = find_rule(vision_rules, TVLM_COUNT(vision_rules), key);
    if (found) return found;
    bool of_arch = begins_with(key, arch->name) && key.len > n && key.data[n] == '.';
    tvlm_str name = {key.data + n + 1, key.len - n - 1};
    if (of_arch) found = find_rule(arch_rules, TVLM_COUNT(arch_rules), name);
    bool ours = of_arch || begins_with(key, "tinyvlm.") || (sees && begins_with(key, "vision."));
    return found ? found : ours ? &other : NULL;
}

bool tvlm_key_is_neutral(const tvlm_gguf_kv *kv, double value)
{
    double v = 0;
    if (kv->type == TVLM_GGUF_STRING) return kv->n == 0 || (!kv->is_array && kv->data_size == 8);
    for (uint64_t i = 0; i < kv->n; i++)
        if (!tvlm_gguf_number(kv, i, &v) || !(v == 0 || v == value)) return false;
    return true;
}

tvlm_status tvlm_keys_check(const tvlm_gguf *g, const tvlm_arch *arch, tvlm_error *err)
{
    for (size_t i = 0; i < g->n_kv; i++) {
        const tvlm_gguf_kv *kv = &g->kv[i];
        const rule *r = rule_of(kv->key, arch);
        if (r && r->why && !tvlm_key_is_neutral(kv, r->value))
            return tvlm_fail(err, TVLM_ERR_UNSUPPORTED, "key '%s': %s", tvlm_show(kv->key).text,
                             r->why);
    }
    return TVLM_OK;
}
