/* SPDX-License-Identifier: MIT
 * Metadata -> hyper-parameters: defaults, ranges, and what is refused by name. Each case is a valid
 * set of keys with a few changed. */
#include "model/arch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gguf_bytes.h"

typedef enum kind { ABSENT, FALSE, U32, F32, TEXT, LIST, DOUBLES, TOKENS } kind;

typedef struct entry {
    const char *key;
    kind kind;
    double v[4];
    const char *text;
    size_t n; /* of LIST, DOUBLES, TOKENS */
} entry;

static tvlm_error err;

#define VOCABULARY                                                                                 \
    {.key = "tokenizer.ggml.model", .kind = TEXT, .text = "gpt2"},                                 \
        {.key = "tokenizer.ggml.pre", .kind = TEXT, .text = "smollm"},                             \
    {                                                                                              \
        .key = "tokenizer.ggml.tokens", .kind = TOKENS, .n = 9                                     \
    }

static const entry llama[] = {
    {.key = "general.architecture",                   .kind = TEXT, .text = "llama"},
    {.key = "llama.block_count",                      .kind = U32,  .v = {3}       },
    {.key = "llama.context_length",                   .kind = U32,  .v = {2048}    },
    {.key = "llama.embedding_length",                 .kind = U32,  .v = {64}      },
    {.key = "llama.feed_forward_length",              .kind = U32,  .v = {96}      },
    {.key = "llama.attention.head_count",             .kind = U32,  .v = {4}       },
    {.key = "llama.attention.layer_norm_rms_epsilon", .kind = F32,  .v = {0.5}     },
    VOCABULARY,
};

static const entry tinyvlm[] = {
    {.key = "general.architecture", .kind = TEXT, .text = "tinyvlm"},
    {.key = "tinyvlm.block_count", .kind = U32, .v = {3}},
    {.key = "tinyvlm.context_length", .kind = U32, .v = {2048}},
    {.key = "tinyvlm.embedding_length", .kind = U32, .v = {64}},
    {.key = "tinyvlm.feed_forward_length", .kind = U32, .v = {96}},
    {.key = "tinyvlm.attention.head_count", .kind = U32, .v = {4}},
    {.key = "tinyvlm.attention.layer_norm_rms_epsilon", .kind = F32, .v = {0.5}},
    {.key = "tinyvlm.rope.freq_base", .kind = F32, .v = {10000}},
    {.key = "tinyvlm.pool.head_count", .kind = U32, .v = {8}},
    {.key = "vision.tower", .kind = TEXT, .text = "efficientnet_lite"},
    {.key = "vision.image_size", .kind = U32, .v = {224}},
    {.key = "vision.preprocess.mode", .kind = TEXT, .text = "crop"},
    {.key = "vision.preprocess.scale", .kind = DOUBLES, .v = {0.1, 0.2, 0.3}, .n = 3},
    {.key = "vision.preprocess.bias", .kind = DOUBLES, .v = {-1, -2, -3}, .n = 3},
    {.key = "vision.efficientnet.strides", .kind = LIST, .v = {2, 2, 2, 2}, .n = 4},
    {.key = "vision.efficientnet.taps", .kind = LIST, .v = {2}, .n = 1},
    VOCABULARY,
};

static const entry fastvlm[] = {
    {.key = "general.architecture", .kind = TEXT, .text = "fastvlm"},
    {.key = "fastvlm.block_count", .kind = U32, .v = {3}},
    {.key = "fastvlm.context_length", .kind = U32, .v = {2048}},
    {.key = "fastvlm.embedding_length", .kind = U32, .v = {64}},
    {.key = "fastvlm.feed_forward_length", .kind = U32, .v = {96}},
    {.key = "fastvlm.attention.head_count", .kind = U32, .v = {4}},
    {.key = "fastvlm.attention.layer_norm_rms_epsilon", .kind = F32, .v = {0.5}},
    {.key = "fastvlm.rope.freq_base", .kind = F32, .v = {1000000}},
    {.key = "vision.tower", .kind = TEXT, .text = "fastvit"},
    {.key = "vision.image_size", .kind = U32, .v = {128}},
    {.key = "vision.preprocess.mode", .kind = TEXT, .text = "pad"},
    {.key = "vision.preprocess.scale", .kind = DOUBLES, .v = {1, 1, 1}, .n = 3},
    {.key = "vision.preprocess.bias", .kind = DOUBLES, .v = {0, 0, 0}, .n = 3},
    {.key = "vision.fastvit.depths", .kind = LIST, .v = {1, 2, 3}, .n = 3},
    VOCABULARY,
};

static const entry smolvlm[] = {
    {.key = "general.architecture", .kind = TEXT, .text = "smolvlm"},
    {.key = "smolvlm.block_count", .kind = U32, .v = {3}},
    {.key = "smolvlm.context_length", .kind = U32, .v = {2048}},
    {.key = "smolvlm.embedding_length", .kind = U32, .v = {64}},
    {.key = "smolvlm.feed_forward_length", .kind = U32, .v = {96}},
    {.key = "smolvlm.attention.head_count", .kind = U32, .v = {4}},
    {.key = "smolvlm.attention.layer_norm_rms_epsilon", .kind = F32, .v = {0.5}},
    {.key = "smolvlm.rope.freq_base", .kind = F32, .v = {100000}},
    {.key = "vision.tower", .kind = TEXT, .text = "siglip"},
    {.key = "vision.image_size", .kind = U32, .v = {512}},
    {.key = "vision.preprocess.mode", .kind = TEXT, .text = "split"},
    {.key = "vision.preprocess.filter", .kind = TEXT, .text = "lanczos"},
    {.key = "vision.preprocess.split_edge", .kind = U32, .v = {2048}},
    {.key = "vision.preprocess.scale", .kind = DOUBLES, .v = {1, 1, 1}, .n = 3},
    {.key = "vision.preprocess.bias", .kind = DOUBLES, .v = {0, 0, 0}, .n = 3},
    {.key = "vision.preprocess.mean", .kind = DOUBLES, .v = {0.5, 0.25, 0}, .n = 3},
    {.key = "vision.preprocess.std", .kind = DOUBLES, .v = {0.5, 2, 1}, .n = 3},
    {.key = "vision.siglip.block_count", .kind = U32, .v = {12}},
    {.key = "vision.siglip.embedding_length", .kind = U32, .v = {768}},
    {.key = "vision.siglip.feed_forward_length", .kind = U32, .v = {3072}},
    {.key = "vision.siglip.head_count", .kind = U32, .v = {12}},
    {.key = "vision.siglip.patch_size", .kind = U32, .v = {16}},
    {.key = "vision.siglip.shuffle", .kind = U32, .v = {4}},
    VOCABULARY,
};

static void put(gguf_bytes *b, const entry *e)
{
    switch (e->kind) {
    case ABSENT:
        break;
    case FALSE:
        bytes_key(b, e->key, TVLM_GGUF_BOOL);
        bytes_le(b, 0, 1);
        break;
    case U32:
        bytes_key(b, e->key, TVLM_GGUF_U32);
        bytes_le(b, (uint64_t)e->v[0], 4);
        break;
    case F32:
        bytes_key(b, e->key, TVLM_GGUF_F32);
        bytes_f32(b, (float)e->v[0]);
        break;
    case TEXT:
        bytes_key(b, e->key, TVLM_GGUF_STRING);
        bytes_str(b, e->text);
        break;
    case LIST:
        bytes_array(b, e->key, TVLM_GGUF_U32, e->n);
        for (size_t i = 0; i < e->n; i++)
            bytes_le(b, (uint64_t)e->v[i], 4);
        break;
    case DOUBLES:
        bytes_array(b, e->key, TVLM_GGUF_F64, e->n);
        for (size_t i = 0; i < e->n; i++)
            bytes_f64(b, e->v[i]);
        break;
    case TOKENS:
        bytes_array(b, e->key, TVLM_GGUF_STRING, e->n);
        for (size_t i = 0; i < e->n; i++)
            bytes_str(b, "token");
        break;
    }
}

/* The base with `changes` in the place of its entries of the same key, or added. */
static tvlm_status read_config(const entry *base, size_t n, const entry *changes, size_t n_changes,
                               uint64_t table_rows, tvlm_config *c)
{
    gguf_bytes b;
    tvlm_gguf g;
    bool complete;
    bytes_begin(&b);
    for (size_t i = 0; i < n; i++) {
        bool changed = false;
        for (size_t j = 0; j < n_changes; j++)
            changed = changed || !strcmp(base[i].key, changes[j].key);
        if (!changed) put(&b, &base[i]);
    }
    for (size_t j = 0; j < n_changes; j++)
        put(&b, &changes[j]);
    if (table_rows)
        bytes_tensor(&b, "token_embd.weight", TVLM_TYPE_F32, (uint64_t[5]){table_rows, 64}, 0);
    if (tvlm_gguf_parse(b.data, b.size, &g, &complete, &err)) fail_msg("%s", err.message);
    assert_true(complete);
    tvlm_status status = tvlm_config_read(&g, c, &err);
    tvlm_gguf_free(&g);
    return status;
}

#define READ(base, c, ...)                                                                         \
    read_config(base, TVLM_COUNT(base), (const entry[]){__VA_ARGS__},                              \
                TVLM_COUNT(((const entry[]){__VA_ARGS__})), 0, c)
#define ACCEPTED(base, c, ...)                                                                     \
    do {                                                                                           \
        if (READ(base, c, __VA_ARGS__)) fail_msg("%s", err.message);                               \
    } while (0)
#define REFUSED(base, status, says, ...)                                                           \
    do {                                                                                           \
        tvlm_config refused;                                                                       \
        assert_int_equal(READ(base, &refused, __VA_ARGS__), status);                               \
        if (!strstr(err.message, says)) fail_msg("'%s' does not say '%s'", err.message, says);     \
    } while (0)
#define UNCHANGED {.key = "general.name", .kind = TEXT, .text = "x"}
#define SET_U32(name, value)                                                                       \
    {                                                                                              \
        .key = name, .kind = U32, .v = { value }                                                   \
    }
#define SET_F32(name, value)                                                                       \
    {                                                                                              \
        .key = name, .kind = F32, .v = { value }                                                   \
    }
#define SET_TEXT(name, value) {.key = name, .kind = TEXT, .text = value}
#define REMOVE(name)          {.key = name, .kind = ABSENT}

static void defaults(void **state)
{
    (void)state;
    tvlm_config c;
    ACCEPTED(llama, &c, UNCHANGED);
    assert_int_equal(c.lm.n_kv_heads, 4);
    assert_int_equal(c.lm.head_dim, 16);
    assert_int_equal(c.lm.n_vocab, 9);
    assert_true(c.lm.rope_theta == 10000.0 && c.lm.rms_eps == 0.5f);
    assert_true(c.lm.rope_interleaved && !c.lm.cross_attention && !tvlm_arch_sees(c.arch));
    assert_int_equal(c.bos_id, -1);
    assert_int_equal(c.eos_id, -1);
    assert_true(tvlm_str_eq(c.describe_prompt, "Describe the image."));
    assert_int_equal(c.describe_beams, 1);
    assert_int_equal(c.chat, TVLM_CHAT_NONE);
    ACCEPTED(tinyvlm, &c, UNCHANGED);
    assert_string_equal(c.arch->tower, "efficientnet_lite");
    assert_true(c.lm.cross_attention && !c.lm.rope_interleaved && !c.vision_int8);
    assert_int_equal(c.describe_beams, 3);
    assert_true(c.preprocess.scale[1] == 0.2 && c.preprocess.bias[2] == -3.0);
    assert_int_equal(c.preprocess.fit, TVLM_FIT_CROP);
    assert_int_equal(c.preprocess.filter, TVLM_FILTER_BICUBIC);
    assert_int_equal(c.stem_stride, 2);
    assert_int_equal(c.tap_block, 2);
    ACCEPTED(fastvlm, &c, UNCHANGED);
    assert_string_equal(c.arch->tower, "fastvit");
    assert_int_equal(c.n_stages, 3);
    assert_int_equal(c.depths[2], 3);
    assert_int_equal(c.vision_head_dim, 32);
    assert_true(c.vision_ln_eps == 1e-5f && c.lm.rope_theta == 1e6);
}

static void given_values_win(void **state)
{
    (void)state;
    tvlm_config c;
    ACCEPTED(llama, &c, SET_U32("llama.attention.head_count_kv", 2),
             SET_U32("llama.attention.key_length", 24), SET_U32("llama.attention.value_length", 24),
             SET_U32("llama.vocab_size", 12), SET_U32("tokenizer.ggml.eos_token_id", 8),
             SET_TEXT("tinyvlm.chat_template", "smollm2"),
             SET_TEXT("tokenizer.chat_template", "{{ nothing known }}"));
    assert_int_equal(c.lm.n_kv_heads, 2);
    assert_int_equal(c.lm.head_dim, 24);
    assert_int_equal(c.lm.n_vocab, 12);
    assert_int_equal(c.eos_id, 8);
    assert_int_equal(c.chat, TVLM_CHAT_SMOLLM2);
    ACCEPTED(fastvlm, &c, SET_U32("tinyvlm.describe_beams", 8));
    assert_int_equal(c.describe_beams, 8);
    ACCEPTED(tinyvlm, &c, SET_TEXT("vision.quantization", "int8"),
             SET_U32("tinyvlm.describe_beams", 1),
             {
                 .key = "vision.preprocess.pad_color", .kind = LIST, .v = {1, 0, 255},
                         .n = 3
    });
    assert_true(c.vision_int8 && c.describe_beams == 1);
    assert_memory_equal(c.preprocess.pad_color, ((uint8_t[]){1, 0, 255}), 3);
}

/* Rows of logits are those of the embeddings, which may be padded beyond the tokens. */
static void vocabulary_is_the_embeddings(void **state)
{
    (void)state;
    tvlm_config c;
    const entry vocab = SET_U32("llama.vocab_size", 10);
    assert_int_equal(read_config(llama, TVLM_COUNT(llama), NULL, 0, 12, &c), TVLM_OK);
    assert_int_equal(c.lm.n_vocab, 12);
    assert_int_equal(read_config(llama, TVLM_COUNT(llama), &vocab, 1, 12, &c), TVLM_OK);
    assert_int_equal(c.lm.n_vocab, 10);
    assert_int_equal(read_config(llama, TVLM_COUNT(llama), NULL, 0, (1u << 20) + 1, &c),
                     TVLM_ERR_FORMAT);
    assert_non_null(strstr(err.message, "llama.vocab_size"));
}

static void decoder_ranges(void **state)
{
    (void)state;
    static const char *const required[] = {
        "llama.block_count",          "llama.context_length",
        "llama.embedding_length",     "llama.feed_forward_length",
        "llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon",
        "tokenizer.ggml.model",       "tokenizer.ggml.pre",
        "tokenizer.ggml.tokens",      "general.architecture"};
    for (size_t i = 0; i < TVLM_COUNT(required); i++)
        REFUSED(llama, TVLM_ERR_FORMAT, required[i], {.key = required[i], .kind = ABSENT});
    for (size_t i = 0; i < 5; i++) {
        REFUSED(llama, TVLM_ERR_FORMAT, required[i], SET_U32(required[i], 0));
        REFUSED(llama, TVLM_ERR_FORMAT, required[i], SET_U32(required[i], 4294967295.0));
        REFUSED(llama, TVLM_ERR_FORMAT, required[i], SET_F32(required[i], 64));
    }
    REFUSED(llama, TVLM_ERR_FORMAT, "share", SET_U32("llama.attention.head_count_kv", 3));
    REFUSED(llama, TVLM_ERR_UNSUPPORTED, "head", SET_U32("llama.attention.key_length", 12));
    REFUSED(llama, TVLM_ERR_UNSUPPORTED, "head", SET_U32("llama.rope.dimension_count", 8));
    REFUSED(llama, TVLM_ERR_FORMAT, "rope.freq_base", SET_F32("llama.rope.freq_base", 0));
    static const double beams[] = {0, TVLM_MAX_BEAMS + 1, 4294967295.0};
    for (size_t i = 0; i < TVLM_COUNT(beams); i++)
        REFUSED(tinyvlm, TVLM_ERR_FORMAT, "'tinyvlm.describe_beams'",
                SET_U32("tinyvlm.describe_beams", beams[i]));
    REFUSED(tinyvlm, TVLM_ERR_FORMAT, "'tinyvlm.describe_beams'",
            SET_F32("tinyvlm.describe_beams", 3));
    REFUSED(llama, TVLM_ERR_FORMAT, "tokenizer.ggml.eos_token_id",
            SET_U32("tokenizer.ggml.eos_token_id", 9));
}

static void what_is_not_run_is_refused(void **state)
{
    (void)state;
    tvlm_config c;
    REFUSED(llama, TVLM_ERR_UNSUPPORTED, "'gemma'", SET_TEXT("general.architecture", "gemma"));
    REFUSED(llama, TVLM_ERR_UNSUPPORTED, "'llama'", SET_TEXT("tokenizer.ggml.model", "llama"));
    REFUSED(llama, TVLM_ERR_UNSUPPORTED, "'deepseek-llm'",
            SET_TEXT("tokenizer.ggml.pre", "deepseek-llm"));
    REFUSED(llama, TVLM_ERR_UNSUPPORTED, "tinyvlm.chat_template",
            SET_TEXT("tinyvlm.chat_template", "vicuna"));
    REFUSED(llama, TVLM_ERR_UNSUPPORTED, "llama.rope.scaling.type",
            SET_TEXT("llama.rope.scaling.type", "yarn"));
    REFUSED(llama, TVLM_ERR_UNSUPPORTED, "llama.rope.scaling.factor",
            SET_F32("llama.rope.scaling.factor", 4));
    REFUSED(llama, TVLM_ERR_UNSUPPORTED, "llama.rope.scale_linear",
            SET_F32("llama.rope.scale_linear", 2));
    REFUSED(llama, TVLM_ERR_UNSUPPORTED, "sliding",
            SET_U32("llama.attention.sliding_window", 4096));
    REFUSED(llama, TVLM_ERR_UNSUPPORTED, "expert", SET_U32("llama.expert_count", 8));
    /* the same keys where they change nothing */
    ACCEPTED(llama, &c, SET_TEXT("llama.rope.scaling.type", "none"),
             SET_F32("llama.rope.scaling.factor", 1), SET_F32("llama.rope.scale_linear", 1),
             SET_U32("llama.attention.sliding_window", 0), SET_U32("llama.expert_count", 0));
}

/* Every key of llama.cpp that would change the arithmetic, with a value that does. */
static void what_changes_the_result_is_refused(void **state)
{
    (void)state;
    static const entry changing[] = {
        SET_U32("llama.attention.sliding_window", 4096),
        SET_U32("llama.attention.sliding_window_pattern", 4),
        SET_F32("llama.attention.max_alibi_bias", 8),
        SET_F32("llama.attention.clamp_kqv", 6),
        SET_F32("llama.attention.layer_norm_epsilon", 1e-5),
        SET_F32("llama.attention.scale", 0.5),
        SET_F32("llama.attention.output_scale", 2),
        SET_F32("llama.attention.temperature_scale", 0.1),
        SET_U32("llama.attention.q_lora_rank", 16),
        SET_U32("llama.attention.key_length_mla", 16),
        SET_U32("llama.attention.shared_kv_layers", 1),
        SET_F32("llama.attn_logit_softcapping", 50),
        SET_F32("llama.final_logit_softcapping", 30),
        SET_F32("llama.logit_scale", 0.0625),
        SET_F32("llama.residual_scale", 0.25),
        SET_F32("llama.embedding_scale", 12),
        SET_U32("llama.embedding_length_out", 32),
        SET_U32("llama.use_parallel_residual", 1),
        SET_U32("llama.pooling_type", 1),
        SET_U32("llama.expert_count", 8),
        SET_U32("llama.expert_used_count", 2),
        SET_F32("llama.expert_weights_scale", 2.5),
        SET_U32("llama.leading_dense_block_count", 1),
        SET_U32("llama.nextn_predict_layers", 1),
        SET_U32("llama.decoder_block_count", 2),
        SET_U32("llama.ssm.state_size", 16),
        SET_F32("llama.rope.freq_base_swa", 10000),
        SET_F32("llama.rope.scaling.factor", NAN),
        SET_F32("llama.rope.scaling.attn_factor", 1.5),
        SET_F32("llama.rope.scaling.yarn_ext_factor", 1),
        SET_F32("llama.rope.scaling.yarn_log_multiplier", 0.1),
        {.key = "llama.rope.dimension_sections",       .kind = LIST, .v = {8, 4, 4, 0}, .n = 4},
        SET_TEXT("llama.something.new", "on"),
        SET_U32("tokenizer.ggml.add_eos_token", 1),
        SET_U32("tokenizer.ggml.add_sep_token", 1),
        SET_U32("tokenizer.ggml.add_space_prefix", 1),
        SET_U32("tokenizer.ggml.remove_extra_whitespaces", 1),
        {.key = "tokenizer.ggml.precompiled_charsmap", .kind = LIST, .v = {1},          .n = 1},
        SET_U32("tokenizer.ggml.eom_token_id", 5),
        SET_U32("tokenizer.ggml.something_new", 1),
        SET_U32("tinyvlm.something_new", 1),
        SET_U32("general.quantization_version", 3),
        SET_TEXT("general.type", "adapter"),
        SET_TEXT("general.type", "mmproj"),
        SET_TEXT("general.type", "vocab"),
    };
    for (size_t i = 0; i < TVLM_COUNT(changing); i++) {
        tvlm_config c;
        tvlm_status status = read_config(llama, TVLM_COUNT(llama), &changing[i], 1, 0, &c);
        if (status != TVLM_ERR_UNSUPPORTED && status != TVLM_ERR_FORMAT)
            fail_msg("%s is accepted", changing[i].key);
        if (!strstr(err.message, changing[i].key))
            fail_msg("'%s' does not name %s", err.message, changing[i].key);
    }
    REFUSED(llama, TVLM_ERR_UNSUPPORTED, "llama.attention.causal",
            {.key = "llama.attention.causal", .kind = FALSE});
    REFUSED(fastvlm, TVLM_ERR_UNSUPPORTED, "'vision.patch_size'", SET_U32("vision.patch_size", 14));
    REFUSED(tinyvlm, TVLM_ERR_UNSUPPORTED, "'tinyvlm.pool.kind'", SET_U32("tinyvlm.pool.kind", 2));
}

/* The keys that llama.cpp's converter writes for llama and qwen2 today, and those of other
 * programs. */
static void what_changes_nothing_is_accepted(void **state)
{
    (void)state;
    static const entry keys[] = {
        SET_TEXT("general.type", "model"),
        SET_TEXT("general.basename", "SmolLM2"),
        SET_TEXT("general.size_label", "135M"),
        SET_TEXT("general.license", "apache-2.0"),
        SET_TEXT("general.base_model.0.name", "SmolLM2 135M"),
        SET_U32("general.base_model.count", 1),
        {.key = "general.languages", .kind = TOKENS, .n = 1},
        SET_U32("general.file_type", 7),
        SET_U32("general.quantization_version", 2),
        SET_F32("general.sampling.temp", 0.7),
        SET_TEXT("quantize.imatrix.file", "imatrix.dat"),
        SET_U32("quantize.imatrix.entries_count", 168),
        SET_U32("mradermacher.quantize_version", 2),
        SET_U32("llama.rope.dimension_count", 16),
        SET_TEXT("llama.tensor_data_layout", "Meta AI original pth"),
        SET_TEXT("llama.rope.scaling.type", "linear"),
        SET_F32("llama.rope.scaling.factor", 1),
        SET_F32("llama.rope.scaling.attn_factor", 1),
        SET_U32("llama.rope.scaling.original_context_length", 4096),
        {.key = "llama.rope.scaling.finetuned", .kind = FALSE},
        {.key = "llama.rope.dimension_sections", .kind = LIST, .v = {0}, .n = 4},
        SET_F32("llama.attention.scale", 0.25), /* 1 / sqrt(16) */
        SET_F32("llama.attention.max_alibi_bias", 0),
        SET_F32("llama.logit_scale", 1),
        SET_U32("llama.embedding_length_out", 64),
        SET_U32("llama.expert_count", 0),
        {.key = "llama.use_parallel_residual", .kind = FALSE},
        SET_TEXT("llama.something.new", ""),
        SET_U32("qwen2.rope.scaling.factor", 4), /* of another architecture */
        SET_U32("vision.image_size", 224), /* of no tower here */
        SET_U32("tokenizer.ggml.unknown_token_id", 0),
        SET_U32("tokenizer.ggml.padding_token_id", 2),
        SET_U32("tokenizer.ggml.eos_token_id", 5),
        SET_U32("tokenizer.ggml.eom_token_id", 5),
        {.key = "tokenizer.ggml.add_space_prefix", .kind = FALSE},
        {.key = "tokenizer.ggml.add_bos_token", .kind = FALSE},
        {.key = "tokenizer.ggml.add_eos_token", .kind = FALSE},
        SET_U32("tokenizer.ggml.fim_pre_token_id", 3),
        {.key = "tokenizer.ggml.scores", .kind = LIST, .v = {1}, .n = 4},
        SET_TEXT("tokenizer.chat_template.tool_use", "{{ x }}"),
        {.key = "tokenizer.chat_templates", .kind = TOKENS, .n = 1},
        SET_TEXT("tokenizer.huggingface.json", "{}"),
    };
    tvlm_config c;
    if (read_config(llama, TVLM_COUNT(llama), keys, TVLM_COUNT(keys), 0, &c))
        fail_msg("%s", err.message);
}

/* llama.cpp's default goes by the pre-tokenizer; the key decides where the file has it. */
static void who_begins_with_bos(void **state)
{
    (void)state;
    static const entry keys[] = {
        SET_TEXT("tokenizer.ggml.pre", "llama-bpe"),
        {.key = "tokenizer.ggml.add_bos_token", .kind = FALSE}
    };
    tvlm_config c;
    assert_int_equal(read_config(llama, TVLM_COUNT(llama), NULL, 0, 0, &c), TVLM_OK);
    assert_false(c.add_bos);
    assert_int_equal(read_config(llama, TVLM_COUNT(llama), keys, 1, 0, &c), TVLM_OK);
    assert_true(c.add_bos);
    assert_int_equal(read_config(llama, TVLM_COUNT(llama), keys, 2, 0, &c), TVLM_OK);
    assert_false(c.add_bos);
}

static void numbers_are_finite(void **state)
{
    (void)state;
    static const double bad[] = {NAN, INFINITY, -INFINITY, -1e-5};
    static const char *const keys[] = {"llama.attention.layer_norm_rms_epsilon",
                                       "llama.rope.freq_base"};
    for (size_t i = 0; i < TVLM_COUNT(bad) * TVLM_COUNT(keys); i++)
        REFUSED(llama, TVLM_ERR_FORMAT, keys[i % 2], SET_F32(keys[i % 2], bad[i / 2]));
    for (size_t i = 0; i < TVLM_COUNT(bad) - 1; i++) {
        REFUSED(
            fastvlm, TVLM_ERR_FORMAT, "vision.preprocess.scale",
            {
                .key = "vision.preprocess.scale", .kind = DOUBLES, .v = {1, bad[i], 1},
                        .n = 3
        });
        REFUSED(fastvlm, TVLM_ERR_FORMAT, "vision.preprocess.bias",
                {
                    .key = "vision.preprocess.bias", .kind = DOUBLES, .v = {bad[i], 1, 1},
                            .n = 3
        });
    }
}

static void smolvlm_keys(void **state)
{
    (void)state;
    tvlm_config c;
    ACCEPTED(smolvlm, &c, UNCHANGED);
    assert_string_equal(c.arch->tower, "siglip");
    assert_true(c.lm.rope_interleaved && !c.lm.qk_norm && !c.lm.cross_attention);
    assert_int_equal(c.preprocess.split_edge, 2048);
    assert_int_equal(c.preprocess.filter, TVLM_FILTER_LANCZOS);
    assert_true(c.preprocess.mean[1] == 0.25f && c.preprocess.std[1] == 2.0f);
    assert_true(c.n_vision_layers == 12 && c.vision_dim == 768 && c.patch_size == 16);
    assert_true(c.vision_ln_eps == 1e-6f);
    static const char *const needed[] = {
        "vision.siglip.block_count",         "vision.siglip.embedding_length",
        "vision.siglip.feed_forward_length", "vision.siglip.head_count",
        "vision.siglip.patch_size",          "vision.siglip.shuffle",
        "vision.preprocess.split_edge"};
    for (size_t i = 0; i < TVLM_COUNT(needed); i++) {
        REFUSED(smolvlm, TVLM_ERR_FORMAT, needed[i], REMOVE(needed[i]));
        REFUSED(smolvlm, TVLM_ERR_FORMAT, needed[i], SET_U32(needed[i], 1u << 30));
    }
    REFUSED(smolvlm, TVLM_ERR_UNSUPPORTED, "head_count", SET_U32("vision.siglip.head_count", 7));
    REFUSED(smolvlm, TVLM_ERR_FORMAT, "image_size", SET_U32("vision.image_size", 544));
    REFUSED(smolvlm, TVLM_ERR_FORMAT, "split_edge", SET_U32("vision.preprocess.split_edge", 500));
    REFUSED(smolvlm, TVLM_ERR_UNSUPPORTED, "split_edge",
            SET_U32("vision.preprocess.split_edge", 2047));
    REFUSED(smolvlm, TVLM_ERR_LIMIT, "patch_size", SET_U32("vision.siglip.patch_size", 1));
    REFUSED(smolvlm, TVLM_ERR_FORMAT, "preprocess.std",
            {
                .key = "vision.preprocess.std", .kind = DOUBLES, .v = {1, 0, 1},
                        .n = 3
    });
    REFUSED(fastvlm, TVLM_ERR_UNSUPPORTED, "'split'", SET_TEXT("vision.preprocess.mode", "split"));
}

static void vision_ranges(void **state)
{
    (void)state;
    REFUSED(fastvlm, TVLM_ERR_FORMAT, "vision.image_size", SET_U32("vision.image_size", 136));
    REFUSED(fastvlm, TVLM_ERR_FORMAT, "vision.image_size", SET_U32("vision.image_size", 16384));
    REFUSED(fastvlm, TVLM_ERR_UNSUPPORTED, "'stretch'",
            SET_TEXT("vision.preprocess.mode", "stretch"));
    REFUSED(fastvlm, TVLM_ERR_UNSUPPORTED, "'nearest'",
            SET_TEXT("vision.preprocess.filter", "nearest"));
    REFUSED(fastvlm, TVLM_ERR_FORMAT, "pad_color",
            {
                .key = "vision.preprocess.pad_color", .kind = LIST, .v = {0, 0, 256},
                        .n = 3
    });
    REFUSED(fastvlm, TVLM_ERR_FORMAT, "pad_color",
            {
                .key = "vision.preprocess.pad_color", .kind = LIST, .v = {0, 0},
                        .n = 2
    });
    REFUSED(fastvlm, TVLM_ERR_FORMAT, "preprocess.scale", REMOVE("vision.preprocess.scale"));
    REFUSED(fastvlm, TVLM_ERR_FORMAT, "preprocess.bias",
            {
                .key = "vision.preprocess.bias", .kind = DOUBLES, .v = {0, 0},
                        .n = 2
    });
    REFUSED(fastvlm, TVLM_ERR_FORMAT, "depths",
            {
                .key = "vision.fastvit.depths", .kind = LIST, .v = {1, 0},
                        .n = 2
    });
    REFUSED(fastvlm, TVLM_ERR_FORMAT, "depths", {.key = "vision.fastvit.depths", .kind = LIST});
    REFUSED(fastvlm, TVLM_ERR_UNSUPPORTED, "head_dim", SET_U32("vision.fastvit.head_dim", 12));
    REFUSED(fastvlm, TVLM_ERR_UNSUPPORTED, "vision.tower",
            SET_TEXT("vision.tower", "efficientnet_lite"),
            {
                .key = "vision.efficientnet.strides", .kind = LIST, .v = {2, 2, 2, 2},
                        .n = 4
    },
            {.key = "vision.efficientnet.taps", .kind = LIST, .v = {2}, .n = 1});
    REFUSED(tinyvlm, TVLM_ERR_UNSUPPORTED, "efficientnet", SET_U32("vision.image_size", 232));
    REFUSED(tinyvlm, TVLM_ERR_UNSUPPORTED, "efficientnet",
            {
                .key = "vision.efficientnet.strides", .kind = LIST, .v = {2, 2, 1, 1},
                        .n = 4
    });
    REFUSED(tinyvlm, TVLM_ERR_FORMAT, "taps",
            {.key = "vision.efficientnet.taps", .kind = LIST, .v = {4}, .n = 1});
    REFUSED(tinyvlm, TVLM_ERR_UNSUPPORTED, "vision.quantization",
            SET_TEXT("vision.quantization", "int4"));
    REFUSED(tinyvlm, TVLM_ERR_FORMAT, "tinyvlm.pool.head_count", REMOVE("tinyvlm.pool.head_count"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(given_values_win),
        cmocka_unit_test(vocabulary_is_the_embeddings),
        cmocka_unit_test(decoder_ranges),
        cmocka_unit_test(what_is_not_run_is_refused),
        cmocka_unit_test(what_changes_the_result_is_refused),
        cmocka_unit_test(what_changes_nothing_is_accepted),
        cmocka_unit_test(who_begins_with_bos),
        cmocka_unit_test(numbers_are_finite),
        cmocka_unit_test(smolvlm_keys),
        cmocka_unit_test(vision_ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
