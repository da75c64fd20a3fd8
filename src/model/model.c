/* SPDX-License-Identifier: MIT
 * The model as an object: made from a parsed header, asked, freed. */
#include "model/model.h"

#include "cpu/cpu.h"
#include "model/arch.h"

#include <stdlib.h>
#include <string.h>

#define MAX_SHOWN 4096u /* bytes of a name, license or description */

static const tvlm_model_params defaults = {.size = sizeof defaults, .max_memory = SIZE_MAX};

void tvlm_model_params_init(tvlm_model_params *params, size_t size)
{
    tvlm_sized_init(params, size, &defaults, sizeof defaults);
}

tvlm_status tvlm_model_params_read(const tvlm_model_params *in, tvlm_model_params *out,
                                   tvlm_error *err)
{
    *out = defaults;
    return tvlm_sized_read(out, in, TVLM_SIZED(tvlm_model_params, cancel), err);
}

size_t tvlm_model_bytes(const tvlm_model *m)
{
    return sizeof *m + tvlm_tower_bytes(&m->config) + m->config.lm.n_layers * sizeof *m->layers +
           m->header_size + m->strings_size + tvlm_gguf_bytes(&m->gguf) +
           tvlm_tokenizer_bytes(m->tokenizer) + m->block_size;
}

tvlm_model *tvlm_model_retain(const tvlm_model *model)
{
    tvlm_model *held = (tvlm_model *)(uintptr_t)model; /* the count alone changes */
    tvlm_refs_take(&held->refs);
    return held;
}

void tvlm_model_free(tvlm_model *model)
{
    if (!model || !tvlm_refs_drop(&model->refs)) return;
    tvlm_tokenizer_free(model->tokenizer);
    tvlm_gguf_free(&model->gguf);
    tvlm_pages_free(model->block, model->block_size);
    free(model->tower);
    free(model->layers);
    free(model->strings);
    free(model->header);
    free(model);
}

tvlm_stage tvlm_model_stage(const tvlm_model *model)
{
    if (!model) return TVLM_STAGE_NONE;
    return (tvlm_stage)atomic_load_explicit(&model->stage, memory_order_acquire);
}

/* ---- header ---- */

static uint32_t load_u32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* tinyvlm.added_tokens, pairs of id and bits -> added[n]; without the key nothing is written. */
static tvlm_status read_added(const tvlm_gguf *g, uint8_t *added, size_t n, tvlm_error *err)
{
    const tvlm_gguf_kv *kv = tvlm_gguf_find(g, "tinyvlm.added_tokens");
    if (!kv) return TVLM_OK;
    if (!kv->is_array || kv->type != TVLM_GGUF_I32 || kv->n % 2)
        return tvlm_fail(err, TVLM_ERR_FORMAT, "key 'tinyvlm.added_tokens': expected i32 pairs");
    for (size_t i = 0; i < kv->n; i += 2) {
        uint32_t id = load_u32(kv->data + 4 * i), bits = load_u32(kv->data + 4 * i + 4);
        if (id >= n || bits & ~(uint32_t)TVLM_ADDED_ALL)
            return tvlm_fail(err, TVLM_ERR_FORMAT, "key 'tinyvlm.added_tokens': pair %zu", i / 2);
        added[id] = (uint8_t)bits;
    }
    return TVLM_OK;
}

static tvlm_status make_tokenizer(tvlm_model *m, tvlm_error *err)
{
    const tvlm_gguf *g = &m->gguf;
    const tvlm_gguf_kv *tokens = tvlm_gguf_find(g, "tokenizer.ggml.tokens");
    const tvlm_gguf_kv *types = tvlm_gguf_find(g, "tokenizer.ggml.token_type");
    const tvlm_gguf_kv *merges = tvlm_gguf_find(g, "tokenizer.ggml.merges");
    size_t n = (size_t)tokens->n, n_merges = merges ? (size_t)merges->n : 0, cursor = 0;
    if (types && (!types->is_array || types->n != n ||
                  (types->type != TVLM_GGUF_I32 && types->type != TVLM_GGUF_U32)))
        return tvlm_fail(err, TVLM_ERR_FORMAT,
                         "key 'tokenizer.ggml.token_type': expected %zu integers", n);
    if (merges && (!merges->is_array || merges->type != TVLM_GGUF_STRING || n_merges > 1u << 22))
        return tvlm_fail(err, TVLM_ERR_FORMAT, "key 'tokenizer.ggml.merges': expected strings");
    size_t text_size = (n + n_merges + 1) * sizeof(tvlm_str);
    tvlm_str *text = tvlm_pages_alloc(text_size, true);
    int32_t *type = malloc((n + 1) * sizeof *type);
    uint8_t *added = calloc(n + 1, sizeof *added);
    tvlm_status status = TVLM_OK;
    if (!text || !type || !added) {
        status = tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory reading the vocabulary");
    } else {
        for (size_t i = 0; i < n; i++)
            text[i] = tvlm_gguf_next_string(tokens, &cursor);
        cursor = 0;
        for (size_t i = 0; i < n_merges; i++)
            text[n + i] = tvlm_gguf_next_string(merges, &cursor);
        for (size_t i = 0; types && i < n; i++)
            type[i] = (int32_t)load_u32(types->data + 4 * i);
        tvlm_vocab vocab = {m->config.pre,      (uint32_t)n, text, types ? type : NULL,
                            (uint32_t)n_merges, text + n,    added};
        status = read_added(g, added, n, err);
        if (!status) status = tvlm_tokenizer_new(&vocab, &m->tokenizer, err);
    }
    free(added);
    free(type);
    tvlm_pages_free(text, text_size);
    return status;
}

/* ChatML turns end with <|im_end|>, whatever the file's end-of-text id is. */
static void find_end_of_turn(tvlm_model *m)
{
    if (m->config.eot_id < 0)
        m->config.eot_id = tvlm_tokenizer_id(m->tokenizer, (tvlm_str){"<|im_end|>", 10});
}

/* The strings of tvlm_model_info, terminated. Those that are only shown become printable lines;
 * the question may have lines of its own, but no zeros, which would end it early. */
static tvlm_status copy_strings(tvlm_model *m, tvlm_error *err)
{
    const tvlm_str shown[] = {m->config.name, m->config.license, m->config.description};
    const tvlm_str question = m->config.describe_prompt;
    size_t most = question.len + 1;
    for (size_t i = 0; i < TVLM_COUNT(shown); i++)
        most += 3 * tvlm_clip(shown[i], MAX_SHOWN) + 1;
    char *p = malloc(most);
    if (!p) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    m->strings = p;
    for (size_t i = 0; i < TVLM_COUNT(shown); i++) {
        p += tvlm_clean((tvlm_str){shown[i].data, tvlm_clip(shown[i], MAX_SHOWN)}, p);
        *p++ = 0;
    }
    if (question.len && memchr(question.data, 0, question.len))
        return tvlm_fail(err, TVLM_ERR_FORMAT, "key 'tinyvlm.describe_prompt': it has a zero byte");
    if (question.len) memcpy(p, question.data, question.len);
    p[question.len] = 0;
    m->strings_size = most;
    return TVLM_OK;
}

static const char *const precisions[] = {"auto", "f32", "int8", "int16", "bf16"};

static tvlm_status read_precision(const char *name, tvlm_precision *out, tvlm_error *err)
{
    *out = TVLM_PRECISION_AUTO;
    for (size_t i = 0; name && i < TVLM_COUNT(precisions); i++) {
        *out = (tvlm_precision)i;
        if (strcmp(name, precisions[i]) == 0) return TVLM_OK;
    }
    return name ? tvlm_fail(err, TVLM_ERR_ARGUMENT,
                            "precision '%s': known are auto, f32, int8, int16, bf16", name)
                : TVLM_OK;
}

tvlm_status tvlm_model_arithmetic(const tvlm_model_params *params, uint32_t *cpu_mask,
                                  tvlm_precision *precision, tvlm_error *err)
{
    TVLM_TRY(tvlm_cpu_mask(params->cpu, cpu_mask, err));
    TVLM_TRY(read_precision(params->precision, precision, err));
    if (tvlm_gemm_offers(*cpu_mask, *precision)) return TVLM_OK;
    return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                     "precision '%s': the kernels of tier %s offer auto, f32, int8, int16",
                     params->precision, tvlm_cpu_tier_name(*cpu_mask));
}

tvlm_status tvlm_model_read_header(tvlm_model *m, const tvlm_model_params *params,
                                   const unsigned char *head, tvlm_error *err)
{
    tvlm_kernels_select(&m->kernels, m->cpu_mask);
    if (!params->skip_checksums)
        TVLM_TRY(tvlm_gguf_check_header(&m->gguf, head, m->kernels.crc32c, err));
    TVLM_TRY(tvlm_config_read(&m->gguf, &m->config, err));
    if (params->chat_template) {
        m->config.chat = tvlm_chat_from_name(params->chat_template);
        if (m->config.chat == TVLM_CHAT_NONE)
            return tvlm_fail(err, TVLM_ERR_ARGUMENT,
                             "chat template '%s' is not known; known are " TVLM_CHAT_NAMES,
                             params->chat_template);
    }
    TVLM_TRY(make_tokenizer(m, err));
    const tvlm_arch *arch = m->config.arch;
    if (arch->check_tokens) TVLM_TRY(arch->check_tokens(m, err));
    find_end_of_turn(m);
    return copy_strings(m, err);
}

/* ---- public reads ---- */

static const char *cpu_tier(size_t index)
{
    uint32_t here = tvlm_cpu_detect();
    for (size_t i = 0; i < tvlm_cpu_n_tiers; i++)
        if (!(tvlm_cpu_tiers[i].mask & ~here) && !index--) return tvlm_cpu_tiers[i].name;
    return NULL;
}

static const char *precision(size_t index)
{
    uint32_t here = tvlm_cpu_detect();
    for (size_t i = 0; i < TVLM_COUNT(precisions); i++)
        if (tvlm_gemm_offers(here, (tvlm_precision)i) && !index--) return precisions[i];
    return NULL;
}

static const char *architecture(size_t index)
{
    size_t n = 0;
    while (tvlm_archs[n])
        n++;
    return index < n ? tvlm_archs[index]->name : NULL;
}

const char *tvlm_list(tvlm_list_kind kind, size_t index)
{
    if (index > 1000) return NULL; /* so that it fits any enum */
    switch (kind) {
    case TVLM_LIST_CPU_TIERS:
        return cpu_tier(index);
    case TVLM_LIST_PRECISIONS:
        return precision(index);
    case TVLM_LIST_ARCHITECTURES:
        return architecture(index);
    case TVLM_LIST_CHAT_TEMPLATES: {
        const char *name = tvlm_chat_name((tvlm_chat)(index + 1)); /* TVLM_CHAT_NONE is before */
        return *name ? name : NULL;
    }
    }
    return NULL;
}

/* The strings lie one after the other, see copy_strings. */
static tvlm_model_info info_of(const tvlm_model *m)
{
    const tvlm_config *c = &m->config;
    const char *name = m->strings, *license = name + strlen(name) + 1;
    const char *description = license + strlen(license) + 1;
    uint32_t image_size = c->preprocess.image_size;
    bool one = c->lm.cross_attention; /* an image outside the text */
    return (tvlm_model_info){.architecture = c->arch->name,
                             .name = name,
                             .license = license,
                             .description = description,
                             .describe_prompt = description + strlen(description) + 1,
                             .chat_template =
                                 c->chat == TVLM_CHAT_NONE ? "" : tvlm_chat_name(c->chat),
                             .cpu_tier = tvlm_cpu_tier_name(m->cpu_mask),
                             .n_parameters = m->n_parameters,
                             .file_bytes = m->gguf.file_size,
                             .weight_bytes = m->block_size,
                             .n_vocab = c->lm.n_vocab,
                             .n_ctx_train = c->lm.n_ctx_train,
                             .n_embd = c->lm.n_embd,
                             .n_layers = c->lm.n_layers,
                             .n_image_tokens = m->max_frames * m->n_image_tokens,
                             .n_frame_tokens = m->n_image_tokens,
                             .describe_beams = c->describe_beams,
                             .n_vision_tokens = m->max_frames * m->n_vision_tokens,
                             .vision_dim = (uint32_t)m->weights.vision_dim,
                             .image_size = image_size,
                             .bos_id = c->bos_id,
                             .eos_id = c->eos_id,
                             .max_images = !image_size ? 0
                                           : one       ? 1
                                                       : TVLM_MAX_PROMPT_IMAGES};
}

tvlm_status tvlm_model_get_info(const tvlm_model *model, tvlm_model_info *out, tvlm_error *err)
{
    const tvlm_sized *type = TVLM_SIZED(tvlm_model_info, describe_beams);
    TVLM_NEED(model);
    TVLM_NEED(out);
    TVLM_TRY(tvlm_sized_check(out, type, err));
    tvlm_model_info info = info_of(model);
    tvlm_sized_write(out, &info, type);
    return TVLM_OK;
}

tvlm_status tvlm_tokenize(const tvlm_model *model, const char *text, size_t len, bool parse_special,
                          int32_t *ids, size_t cap, size_t *n, tvlm_error *err)
{
    TVLM_NEED(model);
    TVLM_NEED(n);
    if (len) TVLM_NEED(text);
    if (cap) TVLM_NEED(ids);
    return tvlm_tokenizer_encode(model->tokenizer, text, len, parse_special, ids, cap, n, err);
}

tvlm_status tvlm_detokenize(const tvlm_model *model, const int32_t *ids, size_t n_ids,
                            bool skip_special, char *text, size_t cap, size_t *n, tvlm_error *err)
{
    TVLM_NEED(model);
    TVLM_NEED(n);
    if (n_ids) TVLM_NEED(ids);
    if (cap) TVLM_NEED(text);
    return tvlm_tokenizer_decode(model->tokenizer, ids, n_ids, skip_special, text, cap, n, err);
}
