/* SPDX-License-Identifier: MIT
 * Conversion: names, configuration, tokenizer files, whole checkpoints. The numbers of the folds
 * are checked by the golden runs of tests/cli. */
#include "convert/checkpoint.h"
#include "convert/convert.h"
#include "convert/hf_config.h"
#include "convert/tokenizer_files.h"

#include "model/gguf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "files.h"
#include "tensors.h"

#define GOLDEN TVLM_TEST_DATA "/golden/"
#define OUT    TVLM_BUILD_DIR "/test_convert.gguf"

static void expect_says(const char *text, const char *what)
{
    if (!strstr(text, what)) fail_msg("'%s' does not say '%s'", text, what);
}

/* ---- names ---- */

static void test_names(void **state)
{
    (void)state;
    // clang-format off
#define APPLE "model.vision_tower.vision_tower.model."
    static const char *const cases[][2] = {
        {"model.layers.3.self_attn.q_proj.weight", "model.layers.3.self_attn.q_proj.weight"},
        {"model.language_model.embed_tokens.weight", "model.embed_tokens.weight"},
        {"model.multi_modal_projector.linear_2.bias", "model.mm_projector.2.bias"},
        {APPLE "patch_embed.1.reparam_conv.bias", "v.stem.1.reparam_conv.bias"},
        {APPLE "network.0.1.layer_scale", "v.stages.0.blocks.1.layer_scale.gamma"},
        {APPLE "network.1.proj.0.lkb_reparam.weight", "v.stages.1.downsample.proj.0.reparam_conv.weight"},
        {APPLE "network.2.0.convffn.fc1.weight", "v.stages.1.blocks.0.mlp.fc1.weight"},
        {APPLE "network.4.0.token_mixer.norm.rbr_skip.weight", "v.stages.2.blocks.0.token_mixer.norm.identity.weight"},
        {APPLE "network.6.pe.weight", "v.stages.3.pos_emb.pos_enc.weight"},
        {APPLE "network.7.0.token_mixer.qkv.weight", "v.stages.3.blocks.0.token_mixer.qkv.weight"},
        {APPLE "conv_exp.se.reduce.weight", "v.final_conv.se.fc1.weight"},
        {APPLE "head.proj", "v.head.proj"},
        {"model.vision_tower.timm_model.stages.3.pos_emb.reparam_conv.weight", "v.stages.3.pos_emb.reparam_conv.weight"},
        {"model.vision_tower.timm_model.stages.0.blocks.0.layer_scale.gamma", "v.stages.0.blocks.0.layer_scale.gamma"},
        {"lm_head.weight", "lm_head.weight"},
    };
    // clang-format on
    tvlmc_network network = {0};
    char name[TVLMC_KEY_MAX];
    for (size_t i = 0; i < TVLM_COUNT(cases); i++)
        tvlmc_network_scan(&network, cases[i][0]);
    for (size_t i = 0; i < TVLM_COUNT(cases); i++) {
        assert_true(tvlmc_canonical_name(&network, cases[i][0], name));
        assert_string_equal(name, cases[i][1]);
    }
    char longest[TVLMC_KEY_MAX + 1];
    memset(longest, 'x', TVLMC_KEY_MAX);
    longest[TVLMC_KEY_MAX] = 0;
    assert_false(tvlmc_canonical_name(&network, longest, name));
}

/* ---- configuration ---- */

#define TEXT                                                                                       \
    "\"hidden_size\":64,\"intermediate_size\":160,\"num_hidden_layers\":3,"                        \
    "\"num_attention_heads\":4,\"max_position_embeddings\":512"

static tvlm_status parse(const char *text, const char *preprocessor, tvlmc_hf_config *out,
                         tvlm_error *err)
{
    json_t *config = json_loads(text, 0, NULL);
    json_t *p = preprocessor ? json_loads(preprocessor, 0, NULL) : NULL;
    assert_non_null(config);
    tvlm_status status = tvlmc_hf_config_parse(config, p, out, err);
    json_decref(config);
    json_decref(p);
    return status;
}

static void test_config(void **state)
{
    (void)state;
    tvlmc_hf_config c;
    assert_int_equal(parse("{\"model_type\":\"llava_qwen2\"," TEXT
                           ",\"mm_vision_tower\":\"mobileclip_l_384\",\"rope_theta\":1000000.0,"
                           "\"eos_token_id\":[7,8]}",
                           NULL, &c, NULL),
                     TVLM_OK);
    assert_int_equal(c.image_size, 384);
    assert_int_equal(c.n_kv_heads, 4);
    assert_int_equal(c.head_dim, 16);
    assert_int_equal(c.eos_id, 7);
    assert_int_equal(c.bos_id, -1);
    assert_true(c.rope_theta == 1e6 && c.pads);
    /* a text_config without theta has the library's default, not Qwen2's usual one */
    assert_int_equal(
        parse("{\"model_type\":\"fast_vlm\",\"image_token_index\":9,\"text_config\":{" TEXT
              ",\"model_type\":\"qwen2\"},\"vision_config\":{},\"image_seq_length\":16}",
              "{\"crop_size\":{\"height\":256,\"width\":256},\"image_mean\":[0.5,0,0],"
              "\"image_std\":[0.25,1,1]}",
              &c, NULL),
        TVLM_OK);
    assert_true(c.rope_theta == 10000.0);
    assert_int_equal(c.image_size, 256);
    assert_int_equal(c.image_seq_length, 16);
    assert_int_equal(c.image_token, 9);
    assert_true(c.scale[0] == 1.0 / 255.0 / 0.25 && c.bias[0] == -2.0 && c.bias[1] == 0);
    assert_int_equal(parse("{\"model_type\":\"fast_vlm\",\"text_config\":{" TEXT "}}",
                           "{\"do_rescale\":false,\"rescale_factor\":0.5,\"image_std\":[0.25,1,1]}",
                           &c, NULL),
                     TVLM_OK);
    assert_true(c.scale[0] == 4.0 && c.scale[1] == 1.0);
    assert_int_equal(parse("{\"model_type\":\"qwen2\"," TEXT
                           ",\"rope_parameters\":{\"rope_theta\":5e5,\"rope_type\":\"default\"}}",
                           NULL, &c, NULL),
                     TVLM_OK);
    assert_true(c.rope_theta == 5e5);
}

static void test_refused_configs(void **state)
{
    (void)state;
    // clang-format off
    static const char *const cases[][2] = {
        {"{}", "'model_type' is missing"},
        {"{\"model_type\":\"gemma\"}", "'gemma' is not supported; supported: llava_qwen2"},
        {"{\"model_type\":\"qwen2\"}", "'num_hidden_layers' is missing"},
        {"{\"model_type\":\"qwen2\",\"num_hidden_layers\":\"3\"}", "expected an integer in 1..1024"},
        {"{\"model_type\":\"qwen2\",\"num_hidden_layers\":100000}", "expected an integer in 1..1024"},
        {"{\"model_type\":\"llama\"," TEXT ",\"rope_scaling\":{\"rope_type\":\"llama3\"}}", "'rope_type': 'llama3'"},
        {"{\"model_type\":\"llama\"," TEXT ",\"rope_scaling\":{\"type\":\"linear\"}}", "'type': 'linear'"},
        {"{\"model_type\":\"llama\"," TEXT ",\"rope_scaling\":{\"factor\":4}}", "'factor': '4'"},
        {"{\"model_type\":\"llama\"," TEXT ",\"rope_scaling\":\"linear\"}", "'rope_scaling': expected an object"},
        {"{\"model_type\":\"llama\"," TEXT ",\"rope_parameters\":{\"full_attention\":{\"factor\":4}}}", "'full_attention': 'an object'"},
        {"{\"model_type\":\"fast_vlm\",\"text_config\":{" TEXT "},\"vision_feature_layer\":-2}", "'vision_feature_layer': '-2'"},
        {"{\"model_type\":\"fast_vlm\",\"text_config\":{" TEXT "},\"vision_feature_select_strategy\":\"default\"}", "'vision_feature_select_strategy': 'default'"},
        {"{\"model_type\":\"llama\"," TEXT ",\"attention_bias\":true}", "'attention_bias'"},
        {"{\"model_type\":\"qwen3\"," TEXT ",\"attention_bias\":true}", "'attention_bias'"},
        {"{\"model_type\":\"qwen2\"," TEXT ",\"use_sliding_window\":true}", "'use_sliding_window'"},
        {"{\"model_type\":\"qwen2\"," TEXT ",\"hidden_act\":\"gelu\"}", "'hidden_act': 'gelu'"},
        {"{\"model_type\":\"qwen2\"," TEXT ",\"num_key_value_heads\":3}", "3 key heads"},
        {"{\"model_type\":\"qwen2\"," TEXT ",\"partial_rotary_factor\":0.5}", "'partial_rotary_factor'"},
        {"{\"model_type\":\"llava_qwen2\"," TEXT "}", "'mm_vision_tower' is missing"},
        {"{\"model_type\":\"llava_qwen2\"," TEXT ",\"mm_vision_tower\":\"x_64\",\"mm_projector_type\":\"linear\"}", "'mm_projector_type': 'linear'"},
        {"{\"model_type\":\"fast_vlm\"}", "'text_config' is missing"},
        {"{\"model_type\":\"fast_vlm\",\"text_config\":{\"model_type\":\"qwen3\"}}", "'qwen3'"},
    };
    // clang-format on
    for (size_t i = 0; i < TVLM_COUNT(cases); i++) {
        tvlmc_hf_config c;
        tvlm_error err = {0};
        assert_int_not_equal(parse(cases[i][0], NULL, &c, &err), TVLM_OK);
        expect_says(err.message, cases[i][1]);
    }
}

/* ---- tokenizer ---- */

static void test_tokenizer_files(void **state)
{
    (void)state;
    static const char *const paths[] = {GOLDEN "tiny", GOLDEN "tiny/tokenizer.json",
                                        GOLDEN "tiny/vocab.json"};
    for (size_t i = 0; i < TVLM_COUNT(paths); i++) {
        tvlmc_tokenizer_files f;
        tvlm_error err = {0};
        if (tvlmc_tokenizer_files_open(paths[i], &f, NULL, NULL, &err)) fail_msg("%s", err.message);
        assert_int_equal(f.vocab.pre, TVLM_PRE_QWEN2);
        assert_int_equal(f.vocab.n_tokens, 575);
        assert_int_equal(f.vocab.n_merges, 316);
        assert_int_equal(f.eos_id, 574);
        assert_int_equal(f.bos_id, -1);
        assert_int_equal(f.vocab.types[573], TVLM_TOKEN_CONTROL);
        assert_int_equal(tvlmc_tokenizer_files_id(&f, "<|im_start|>"), 573);
        expect_says(f.chat_template, "messages");
        tvlmc_tokenizer_files_close(&f);
    }
}

static void test_refused_tokenizers(void **state)
{
    (void)state;
    // clang-format off
#define BYTE_LEVEL "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"
    static const char *const cases[][2] = {
        {"{}", "tokenizer model 'none'"},
        {"{\"model\":{\"type\":\"Unigram\"}}", "tokenizer model 'Unigram' is not supported"},
        {"{\"model\":{\"type\":\"BPE\",\"byte_fallback\":true}}", "'model.byte_fallback'"},
        {"{\"model\":{\"type\":\"BPE\"},\"pre_tokenizer\":{\"type\":\"Metaspace\"}}", "pre-tokenizer 'Metaspace'"},
        {"{\"model\":{\"type\":\"BPE\"},\"normalizer\":{\"type\":\"NFKC\"}," BYTE_LEVEL "}", "normalizer 'NFKC'"},
        {"{\"model\":{\"type\":\"BPE\"},\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true}}", "not supported"},
        {"{\"model\":{\"type\":\"BPE\"}," BYTE_LEVEL "}", "vocabulary is no JSON object"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}," BYTE_LEVEL "}", "tokens 'a' and 'b' have the same id"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}," BYTE_LEVEL "}", "token 'a': its id"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":2000000000},\"merges\":[]}," BYTE_LEVEL "}", "token 'a': its id"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":\"x\"},\"merges\":[]}," BYTE_LEVEL "}", "no integer"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}," BYTE_LEVEL "}", "'model.merges': entry 0"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}," BYTE_LEVEL "}", "vocabulary is empty"},
    };
    // clang-format on
    for (size_t i = 0; i < TVLM_COUNT(cases); i++) {
        tvlmc_tokenizer_files f;
        tvlm_error err = {0};
        json_t *json = json_loads(cases[i][0], 0, NULL);
        assert_non_null(json);
        assert_int_not_equal(tvlmc_tokenizer_json_parse(json, NULL, &f, NULL, NULL, &err), TVLM_OK);
        assert_null(f.store);
        expect_says(err.message, cases[i][1]);
        json_decref(json);
    }
}

/* ---- vocab.json and merges.txt ---- */

#define SLOW TVLM_BUILD_DIR "/slow-tokenizer"

static void write_text(const char *name, const char *text)
{
    char path[1024];
    snprintf(path, sizeof path, SLOW "/%s", name);
    remove(path);
    if (text) put_text(path, text);
}

/* Files of the folder; NULL: that one is not there. */
typedef struct slow {
    const char *vocab, *merges, *added, *config;
} slow;

static tvlm_status open_slow(const slow *s, tvlmc_tokenizer_files *f, tvlm_error *err)
{
    mkdir(SLOW, 0755);
    write_text("vocab.json", s->vocab);
    write_text("merges.txt", s->merges);
    write_text("added_tokens.json", s->added);
    write_text("tokenizer_config.json", s->config);
    *err = (tvlm_error){0};
    return tvlmc_tokenizer_files_open(SLOW, f, NULL, NULL, err);
}

#define SLOW_VOCAB "{\"#\":0,\"##\":1,\"a\":2,\"b\":3,\"ab\":4,\"ba\":5}"

static void expect_merges(const char *merges, const char *first, size_t n)
{
    tvlmc_tokenizer_files f;
    tvlm_error err;
    slow s = {.vocab = SLOW_VOCAB, .merges = merges};
    if (open_slow(&s, &f, &err)) fail_msg("%s", err.message);
    assert_int_equal(f.vocab.n_merges, n);
    if (n) assert_true(tvlm_str_eq(f.vocab.merges[0], first));
    if (n > 1) assert_true(tvlm_str_eq(f.vocab.merges[n - 1], "b a"));
    tvlmc_tokenizer_files_close(&f);
}

static void test_merge_lines(void **state)
{
    (void)state;
    expect_merges("#version: 0.2\n# #\na b\nb a\n", "# #", 3);
    expect_merges("# #\na b\nb a", "# #", 3); /* its first line is no version, its last not ended */
    expect_merges("#version: 0.2\r\na b\r\n\r\nb a\r\n", "a b", 2);
    expect_merges("a b\n#version: 0.2\nb a\n", "a b", 3); /* a version is the first line */
    expect_merges("", "", 0);
}

static void test_slow_tokens(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint8_t flags;
    } added[] = {
        {"~",             TVLM_ADDED_IN_MODEL}, /* the ends of the byte alphabet's ranges */
        {"\x7F",          0                  },
        {"\xC2\xA0",      0                  },
        {"\xC2\xA1",      TVLM_ADDED_IN_MODEL},
        {"\xC2\xAD",      0                  },
        {"\xC3\xA9!",     TVLM_ADDED_IN_MODEL},
        {"\xC5\x83",      TVLM_ADDED_IN_MODEL},
        {"\xC5\x84",      0                  },
        {"a\xE6\x97\xA5", 0                  },
    };
    char vocab[512] = "{\"a\":0",
         config[2048] = "{\"eos_token\":\"<end>\",\"added_tokens_decoder\":{";
    for (size_t i = 0; i < TVLM_COUNT(added); i++) {
        size_t n = strlen(vocab), m = strlen(config);
        snprintf(vocab + n, sizeof vocab - n, ",\"%s\":%zu", added[i].text, i + 1);
        snprintf(config + m, sizeof config - m,
                 "\"%zu\":{\"content\":\"%s\",\"normalized\":false},", i + 1, added[i].text);
    }
    strcat(vocab, "}");
    strcat(config, "\"20\":{\"content\":\"<x>\",\"special\":true,\"lstrip\":true}}}");
    slow s = {vocab, "", "{\"<x>\":20,\"<end>\":22}", config};
    tvlmc_tokenizer_files f;
    tvlm_error err;
    if (open_slow(&s, &f, &err)) fail_msg("%s", err.message);
    assert_int_equal(f.vocab.pre, TVLM_PRE_QWEN2);
    for (size_t i = 0; i < TVLM_COUNT(added); i++) {
        assert_true(tvlm_str_eq(f.vocab.tokens[i + 1], added[i].text));
        assert_int_equal(f.vocab.types[i + 1], TVLM_TOKEN_USER_DEFINED);
        if (f.vocab.added[i + 1] != added[i].flags)
            fail_msg("'%s' has flags %u", added[i].text, (unsigned)f.vocab.added[i + 1]);
    }
    assert_int_equal(f.vocab.n_tokens, 23);
    assert_int_equal(f.vocab.types[20],
                     TVLM_TOKEN_CONTROL); /* added_tokens.json takes no flag away */
    assert_int_equal(f.vocab.added[20], TVLM_ADDED_LSTRIP);
    assert_int_equal(f.vocab.types[21], TVLM_TOKEN_UNUSED);
    assert_true(tvlm_str_eq(f.vocab.tokens[21], "[PAD21]"));
    assert_int_equal(f.vocab.types[22], TVLM_TOKEN_CONTROL);
    assert_int_equal(f.eos_id, 22);
    tvlmc_tokenizer_files_close(&f);
}

static void test_slow_classes(void **state)
{
    (void)state;
    slow s = {.vocab = SLOW_VOCAB,
              .merges = "a b\n",
              .config = "{\"tokenizer_class\":\"GPT2Tokenizer\"}"};
    tvlmc_tokenizer_files f;
    tvlm_error err;
    if (open_slow(&s, &f, &err)) fail_msg("%s", err.message);
    assert_int_equal(f.vocab.pre, TVLM_PRE_GPT2);
    tvlmc_tokenizer_files_close(&f);
}

static void test_refused_slow_files(void **state)
{
    (void)state;
    // clang-format off
#define ADDED "{\"added_tokens_decoder\":{"
    static const struct {
        slow files;
        const char *message;
    } cases[] = {
        {{NULL, "a b\n", NULL, NULL}, "vocab.json"},
        {{SLOW_VOCAB, NULL, NULL, NULL}, "merges.txt: cannot open"},
        {{"[]", "a b\n", NULL, NULL}, "vocab.json: expected a JSON object"},
        {{"{\"a\":0.5}", "", NULL, NULL}, "token 'a': its id is no integer"},
        {{SLOW_VOCAB, "", "{\"<x>\":\"y\"}", NULL}, "token '<x>': its id"},
        {{SLOW_VOCAB, "", "{\"<x>\":0}", NULL}, "tokens '#' and '<x>' have the same id"},
        {{SLOW_VOCAB, "", "[]", NULL}, "added_tokens.json: expected a JSON object"},
        {{SLOW_VOCAB, "", NULL, "{\"tokenizer_class\":\"LlamaTokenizer\"}"}, "key 'tokenizer_class': 'LlamaTokenizer'"},
        {{SLOW_VOCAB, "", NULL, ADDED "\"7x\":{\"content\":\"<x>\"}}}"}, "key 'added_tokens_decoder': id '7x'"},
        {{SLOW_VOCAB, "", NULL, ADDED "\"\":{\"content\":\"<x>\"}}}"}, "key 'added_tokens_decoder': id ''"},
        {{SLOW_VOCAB, "", NULL, ADDED "\"7\":{\"content\":\"<x>\"},\"07\":{\"content\":\"<x>\",\"rstrip\":true}}}"},
         "'<x>' is given twice, with other settings"},
    };
    // clang-format on
    for (size_t i = 0; i < TVLM_COUNT(cases); i++) {
        tvlmc_tokenizer_files f;
        tvlm_error err;
        if (!open_slow(&cases[i].files, &f, &err)) fail_msg("not refused: %s", cases[i].message);
        assert_null(f.store);
        expect_says(err.message, SLOW);
        expect_says(err.message, cases[i].message);
    }
}

/* ---- whole checkpoints ---- */

typedef struct notes {
    char text[8192];
    size_t n;
} notes;

static void on_note(void *user, const char *line)
{
    notes *all = user;
    size_t at = strlen(all->text);
    snprintf(all->text + at, sizeof all->text - at, "%s\n", line);
    all->n++;
}

typedef struct converted {
    unsigned char *data;
    size_t size;
    tvlm_gguf gguf;
    notes notes;
} converted;

static tvlm_status convert(const char *dir, tvlm_type type, converted *out, tvlm_error *err)
{
    tvlmc_convert_params params;
    tvlmc_convert_params_init(&params);
    *out = (converted){0};
    params.type = type;
    params.tokenizer = GOLDEN "tiny";
    params.on_note = on_note;
    params.user = &out->notes;
    return tvlmc_convert(dir, OUT, &params, err);
}

static converted open_converted(const char *dir, tvlm_type type)
{
    converted c;
    tvlm_error err = {0};
    bool complete;
    if (convert(dir, type, &c, &err)) fail_msg("%s: %s", dir, err.message);
    c.data = read_whole_file(OUT, &c.size);
    assert_int_equal(tvlm_gguf_parse(c.data, c.size, &c.gguf, &complete, &err), TVLM_OK);
    assert_true(complete);
    remove(OUT);
    return c;
}

static void close_converted(converted *c)
{
    tvlm_gguf_free(&c->gguf);
    free(c->data);
}

static const tvlm_gguf_tensor *tensor_of(const converted *c, const char *name)
{
    const tvlm_gguf_tensor *t = tvlm_gguf_find_tensor(&c->gguf, name);
    if (!t) fail_msg("no tensor '%s'", name);
    return t;
}

static void test_layouts_agree(void **state)
{
    (void)state;
    converted apple = open_converted(GOLDEN "tiny", TVLM_TYPE_F32);
    converted hf = open_converted(GOLDEN "tiny_hf", TVLM_TYPE_F32);
    assert_int_equal(apple.gguf.n_tensors, 145);
    assert_int_equal(hf.gguf.n_tensors, 145);
    for (size_t i = 0; i < apple.gguf.n_tensors; i++) {
        const tvlm_gguf_tensor *a = &apple.gguf.tensors[i], *b = &hf.gguf.tensors[i];
        assert_int_equal(a->name.len, b->name.len);
        assert_memory_equal(a->name.data, b->name.data, a->name.len);
        assert_int_equal(a->size, b->size);
        assert_memory_equal(apple.data + a->offset, hf.data + b->offset, a->size);
    }
    uint32_t eos = 0, bos = 99;
    assert_int_equal(tvlm_gguf_u32(&hf.gguf, "tokenizer.ggml.eos_token_id", true, &eos, NULL), 0);
    assert_int_equal(tvlm_gguf_u32(&hf.gguf, "tokenizer.ggml.bos_token_id", false, &bos, NULL), 0);
    assert_int_equal(eos, 574);
    assert_int_equal(bos, 99); /* config.json's is no id of this tokenizer, and it names none */
    expect_says(hf.notes.text, "eos_token_id 151645 is no id of the tokenizer (575 tokens): the "
                               "tokenizer's is used");
    assert_int_equal(apple.notes.n, 0);
    close_converted(&apple);
    close_converted(&hf);
}

static void test_order_and_types(void **state)
{
    (void)state;
    converted c = open_converted(GOLDEN "tiny_unfused", TVLM_TYPE_Q4_0);
    static const char *const first[] = {"v.stem.0.weight", "v.stem.0.bias", "v.stem.1.weight"};
    for (size_t i = 0; i < TVLM_COUNT(first); i++)
        assert_true(tvlm_str_eq(c.gguf.tensors[i].name, first[i]));
    const tvlm_gguf_tensor *bridge = tensor_of(&c, "mm.0.weight"),
                           *embd = tensor_of(&c, "token_embd.weight");
    assert_true(tensor_of(&c, "v.exp.se_expand.bias")->offset < bridge->offset);
    assert_true(bridge->offset < embd->offset);
    assert_true(embd->offset < tensor_of(&c, "blk.0.attn_norm.weight")->offset);
    assert_int_equal(embd->type, TVLM_TYPE_Q8_0);
    assert_int_equal(tensor_of(&c, "output.weight")->type, TVLM_TYPE_Q8_0);
    assert_int_equal(tensor_of(&c, "v.stage.4.blk.0.ffn_up.weight")->type, TVLM_TYPE_Q8_0);
    assert_int_equal(tensor_of(&c, "blk.2.ffn_down.weight")->type, TVLM_TYPE_Q4_0);
    assert_int_equal(bridge->type, TVLM_TYPE_Q4_0);
    assert_int_equal(tensor_of(&c, "v.stem.2.weight")->type, TVLM_TYPE_F16);
    assert_int_equal(tensor_of(&c, "v.stage.0.blk.0.mixer.weight")->type, TVLM_TYPE_F32);
    assert_int_equal(tensor_of(&c, "v.stage.0.blk.0.mixer.weight")->n_dims, 3);
    assert_int_equal(tensor_of(&c, "v.stem.0.weight")->n_dims, 4);
    expect_says(c.notes.text, "v.stem.2 takes F16: rows of 8 are not whole blocks of Q8_0");
    close_converted(&c);
}

/* ---- a llama checkpoint of our own: d 32, 2 heads of 16, 1 key head, ff 48, 1 layer ---- */

enum { D = 32, FF = 48, HEAD = 16, VOCAB = 576 };
#define LLAMA_DIR TVLM_BUILD_DIR "/test_convert_llama"

typedef struct llama {
    float embd[VOCAB * D], square[D * D], key[HEAD * D], value[HEAD * D], ff[FF * D], norm[D];
    tvlmc_st_tensor tensors[16];
    size_t n;
} llama;

static void put(llama *m, const char *name, const float *data, uint64_t n, uint64_t k)
{
    tvlmc_st_tensor t = {
        .name = name, .dtype = TVLMC_ST_F32, .n_dims = k ? 2 : 1, .shape = {n, k}
    };
    t.n = (size_t)(k ? n * k : n);
    t.data = (const unsigned char *)data;
    m->tensors[m->n++] = t;
}

static llama *make_llama(void)
{
    llama *m = calloc(1, sizeof *m);
    assert_non_null(m);
    for (size_t i = 0; i < VOCAB * D; i++)
        m->embd[i] = (float)(i % 100) / 64;
    for (size_t i = 0; i < D * D; i++)
        m->square[i] = (float)(i / D); /* each row holds its number */
    for (size_t i = 0; i < HEAD * D; i++)
        m->key[i] = m->value[i] = (float)(i / D);
#define L "model.layers.0."
    put(m, "model.embed_tokens.weight", m->embd, VOCAB, D);
    put(m, L "input_layernorm.weight", m->norm, D, 0);
    put(m, L "self_attn.q_proj.weight", m->square, D, D);
    put(m, L "self_attn.k_proj.weight", m->key, HEAD, D);
    put(m, L "self_attn.v_proj.weight", m->value, HEAD, D);
    put(m, L "self_attn.o_proj.weight", m->square, D, D);
    put(m, L "post_attention_layernorm.weight", m->norm, D, 0);
    put(m, L "mlp.gate_proj.weight", m->ff, FF, D);
    put(m, L "mlp.up_proj.weight", m->ff, FF, D);
    put(m, L "mlp.down_proj.weight", m->ff, D, FF);
    put(m, "model.norm.weight", m->norm, D, 0);
    return m;
}

static void save_llama(const llama *m)
{
    mkdir(LLAMA_DIR, 0777);
    FILE *f = fopen(LLAMA_DIR "/config.json", "wb");
    assert_non_null(f);
    fputs("{\"model_type\":\"llama\",\"hidden_size\":32,\"intermediate_size\":48,"
          "\"num_hidden_layers\":1,\"num_attention_heads\":2,\"num_key_value_heads\":1,"
          "\"max_position_embeddings\":64,\"rms_norm_eps\":1e-5}",
          f);
    fclose(f);
    assert_int_equal(tvlmc_st_write(LLAMA_DIR "/model.safetensors", NULL, m->tensors, m->n, NULL),
                     TVLM_OK);
}

static void row_numbers(const converted *c, const char *name, size_t n, int *out)
{
    const tvlm_gguf_tensor *t = tensor_of(c, name);
    assert_int_equal(t->type, TVLM_TYPE_F32);
    for (size_t i = 0; i < n; i++) {
        float v;
        memcpy(&v, c->data + t->offset + i * D * sizeof v, sizeof v);
        out[i] = (int)v;
    }
}

static void test_llama_rows(void **state)
{
    (void)state;
    int rows[D];
    llama *m = make_llama();
    save_llama(m);
    converted c = open_converted(LLAMA_DIR, TVLM_TYPE_F32);
    /* halves (i, i + 8) of each head of 16 become neighbours */
    static const int head[HEAD] = {0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15};
    row_numbers(&c, "blk.0.attn_q.weight", D, rows);
    for (int i = 0; i < D; i++)
        assert_int_equal(rows[i], head[i % HEAD] + i / HEAD * HEAD);
    row_numbers(&c, "blk.0.attn_k.weight", HEAD, rows);
    for (int i = 0; i < HEAD; i++)
        assert_int_equal(rows[i], head[i]);
    row_numbers(&c, "blk.0.attn_v.weight", HEAD, rows);
    for (int i = 0; i < HEAD; i++)
        assert_int_equal(rows[i], i);
    assert_null(tvlm_gguf_find_tensor(&c.gguf, "output.weight")); /* tied */
    close_converted(&c);
    free(m);
}

/* Other readers want a token for each row of the embeddings. */
static void test_tokens_fill_the_rows(void **state)
{
    (void)state;
    llama *m = make_llama();
    save_llama(m);
    converted c = open_converted(LLAMA_DIR, TVLM_TYPE_F32);
    const tvlm_gguf_kv *tokens = tvlm_gguf_find(&c.gguf, "tokenizer.ggml.tokens");
    const tvlm_gguf_kv *types = tvlm_gguf_find(&c.gguf, "tokenizer.ggml.token_type");
    assert_int_equal(tokens->n, VOCAB);
    assert_int_equal(types->n, VOCAB);
    size_t cursor = 0;
    tvlm_str last = {0};
    for (size_t i = 0; i < VOCAB; i++)
        last = tvlm_gguf_next_string(tokens, &cursor);
    assert_true(tvlm_str_eq(last, "[PAD575]"));
    assert_int_equal(types->data[4 * (VOCAB - 1)], TVLM_TOKEN_UNUSED);
    assert_int_not_equal(types->data[4 * (VOCAB - 2)], TVLM_TOKEN_UNUSED);
    tvlm_model *model;
    tvlm_error err = {0};
    assert_int_equal(tvlm_model_open_memory(c.data, c.size, NULL, &model, &err), TVLM_OK);
    int32_t ids[16];
    size_t n; /* text is never read as one of them */
    assert_int_equal(tvlm_tokenize(model, "[PAD575]", 8, true, ids, 16, &n, &err), TVLM_OK);
    assert_true(n > 1);
    tvlm_model_free(model);
    close_converted(&c);
    free(m);
}

static void test_out_of_range(void **state)
{
    (void)state;
    llama *m = make_llama();
    m->ff[5] = 70000;
    save_llama(m);
    converted c = open_converted(LLAMA_DIR, TVLM_TYPE_F16);
    assert_int_equal(tensor_of(&c, "blk.0.ffn_up.weight")->type, TVLM_TYPE_F32);
    assert_int_equal(tensor_of(&c, "blk.0.attn_q.weight")->type, TVLM_TYPE_F16);
    expect_says(c.notes.text, "blk.0.ffn_up.weight stays F32");
    close_converted(&c);
    m->ff[5] = NAN;
    save_llama(m);
    tvlm_error err = {0};
    assert_int_equal(convert(LLAMA_DIR, TVLM_TYPE_F32, &c, &err), TVLM_ERR_FORMAT);
    expect_says(err.message, "mlp.gate_proj.weight' contains NaN or infinity");
    free(m);
}

static void expect_failure(tvlm_status status, const char *message)
{
    converted c;
    tvlm_error err = {0};
    struct stat file;
    assert_int_equal(convert(LLAMA_DIR, TVLM_TYPE_F32, &c, &err), status);
    expect_says(err.message, message);
    assert_int_not_equal(stat(OUT, &file), 0); /* nothing half-done is left */
}

static void test_cancelled(void **state)
{
    (void)state;
    llama *m = make_llama();
    save_llama(m);
    tvlmc_convert_params p;
    tvlmc_convert_params_init(&p);
    tvlm_cancel *cancel = tvlm_cancel_new();
    tvlm_cancel_request(cancel);
    p.tokenizer = GOLDEN "tiny";
    p.cancel = cancel;
    struct stat file;
    remove(OUT);
    assert_int_equal(tvlmc_convert(LLAMA_DIR, OUT, &p, NULL), TVLM_ERR_CANCELLED);
    assert_int_not_equal(stat(OUT, &file), 0);
    tvlm_cancel_free(cancel);
    free(m);
}

static void test_refused_checkpoints(void **state)
{
    (void)state;
    llama *m = make_llama();
    put(m, "model.layers.0.self_attn.q_norm.weight", m->norm, HEAD, 0);
    save_llama(m);
    expect_failure(TVLM_ERR_UNSUPPORTED, "'model.layers.0.self_attn.q_norm.weight' has no place");
    m->n -= 2; /* and the last norm */
    save_llama(m);
    expect_failure(TVLM_ERR_FORMAT, "no tensor 'model.norm.weight'");
    put(m, "model.norm.weight", m->norm, D - 1, 0);
    save_llama(m);
    expect_failure(TVLM_ERR_FORMAT, "31 values, expected 32");
    m->n--;
    put(m, "model.norm.weight", m->norm, D, 0);
    m->tensors[7].shape[0] = FF - 8;
    m->tensors[7].n = (FF - 8) * D;
    save_llama(m);
    expect_failure(TVLM_ERR_FORMAT, "shape [40][32]");
    m->tensors[0].shape[0] = 100; /* fewer rows than tokens; mended: the 7th */
    m->tensors[0].n = 100 * D;
    m->tensors[7].shape[0] = FF;
    m->tensors[7].n = FF * D;
    save_llama(m);
    expect_failure(TVLM_ERR_FORMAT, "575 tokens, the embeddings only 100 rows");
    free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_refused_configs),
        cmocka_unit_test(test_tokenizer_files),
        cmocka_unit_test(test_refused_tokenizers),
        cmocka_unit_test(test_merge_lines),
        cmocka_unit_test(test_slow_tokens),
        cmocka_unit_test(test_slow_classes),
        cmocka_unit_test(test_refused_slow_files),
        cmocka_unit_test(test_layouts_agree),
        cmocka_unit_test(test_order_and_types),
        cmocka_unit_test(test_llama_rows),
        cmocka_unit_test(test_tokens_fill_the_rows),
        cmocka_unit_test(test_out_of_range),
        cmocka_unit_test(test_refused_checkpoints),
        cmocka_unit_test(test_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
