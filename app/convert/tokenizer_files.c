/* SPDX-License-Identifier: MIT */
#include "convert/tokenizer_files.h"
#include "convert/json_file.h"

#include "text/unicode.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_IDS = 1 << 20, MAX_TOKEN = 4096 };

/* Memory of a vocabulary: blocks freed together. */
struct tvlmc_tokenizer_store {
    struct block *blocks;
    tvlm_str *tokens, *merges;
    int32_t *types;
    uint8_t *added;
};
struct block {
    struct block *next;
    size_t used, cap;
    char data[];
};

typedef struct reader {
    tvlmc_tokenizer_files *out;
    struct tvlmc_tokenizer_store *store;
    void (*on_note)(void *user, const char *line);
    void *user;
    tvlm_error *err;
    const json_t *vocab;      /* of the model */
    uint32_t next_added;      /* the id that an added token without one of its own gets */
    const char *template_bos; /* the token that a post-processor puts first */
    bool checks_ids;          /* added tokens have the ids that tokenizer.json's order gives them */
} reader;

static tvlm_status no_memory(reader *r)
{
    return tvlm_fail(r->err, TVLM_ERR_MEMORY, "out of memory reading the tokenizer");
}

/* A copy that lives as long as the store; NULL when out of memory. */
static char *keep(struct tvlmc_tokenizer_store *s, const char *text, size_t n)
{
    if (!s->blocks || s->blocks->cap - s->blocks->used < n + 1) {
        size_t cap = n + 1 > ((size_t)1 << 20) ? n + 1 : (size_t)1 << 20;
        struct block *b = malloc(sizeof *b + cap);
        if (!b) return NULL;
        *b = (struct block){.next = s->blocks, .cap = cap};
        s->blocks = b;
    }
    char *copy = s->blocks->data + s->blocks->used;
    memcpy(copy, text, n);
    copy[n] = 0;
    s->blocks->used += n + 1;
    return copy;
}

/* ---- tokens ---- */

static tvlm_status begin(reader *r)
{
    *r->out = (tvlmc_tokenizer_files){.bos_id = -1, .eos_id = -1, .chat_template = ""};
    r->store = r->out->store = calloc(1, sizeof *r->store);
    return r->store ? TVLM_OK : no_memory(r);
}

/* Room for ids 0 .. n - 1. */
static tvlm_status reserve_ids(reader *r, uint32_t n)
{
    tvlm_str *tokens = realloc(r->store->tokens, (n + 1u) * sizeof *tokens);
    if (tokens) r->store->tokens = tokens;
    int32_t *types = realloc(r->store->types, (n + 1u) * sizeof *types);
    if (types) r->store->types = types;
    uint8_t *added = realloc(r->store->added, (n + 1u) * sizeof *added);
    if (added) r->store->added = added;
    if (!tokens || !types || !added) return no_memory(r);
    for (uint32_t i = r->out->vocab.n_tokens; i < n; i++) {
        tokens[i] = (tvlm_str){NULL, 0};
        types[i] = TVLM_TOKEN_UNUSED;
        added[i] = 0;
    }
    if (n > r->out->vocab.n_tokens) r->out->vocab.n_tokens = n;
    return TVLM_OK;
}

static tvlm_status put_token(reader *r, const char *text, json_int_t id, tvlm_token_type type)
{
    size_t n = strlen(text);
    if (id < 0 || id >= MAX_IDS || n > MAX_TOKEN)
        return tvlm_fail(r->err, TVLM_ERR_FORMAT, "token '%.64s': its id or length is out of range",
                         text);
    uint32_t count = r->out->vocab.n_tokens; /* grows by doubling, trimmed in finish */
    if ((uint32_t)id >= count)
        TVLM_TRY(reserve_ids(r, (uint32_t)id + 1 > 2 * count ? (uint32_t)id + 1 : 2 * count));
    tvlm_str *slot = &r->store->tokens[id];
    if (slot->data && (slot->len != n || memcmp(slot->data, text, n) != 0))
        return tvlm_fail(r->err, TVLM_ERR_FORMAT, "tokens '%.64s' and '%.64s' have the same id",
                         slot->data, text);
    char *copy = keep(r->store, text, n);
    if (!copy) return no_memory(r);
    *slot = (tvlm_str){copy, n};
    r->store->types[id] = type;
    return TVLM_OK;
}

static tvlm_status put_vocab(reader *r, json_t *vocab)
{
    const char *text;
    json_t *id;
    if (!json_is_object(vocab))
        return tvlm_fail(r->err, TVLM_ERR_FORMAT, "the vocabulary is no JSON object");
    json_object_foreach(vocab, text, id)
    {
        if (!json_is_integer(id))
            return tvlm_fail(r->err, TVLM_ERR_FORMAT, "token '%.64s': its id is no integer", text);
        TVLM_TRY(put_token(r, text, json_integer_value(id), TVLM_TOKEN_NORMAL));
    }
    r->vocab = vocab;
    r->next_added = (uint32_t)json_object_size(vocab);
    return TVLM_OK;
}

static void note(const reader *r, const char *format, ...) TVLM_PRINTF(2, 3);
static void note(const reader *r, const char *format, ...)
{
    char line[300];
    if (!r->on_note) return;
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    r->on_note(r->user, line);
}

/* Whether every character is a letter of the GPT-2 byte alphabet. */
static bool in_alphabet(const char *text)
{
    size_t n = strlen(text);
    for (size_t at = 0; at < n;) {
        uint32_t c = tvlm_utf8_next(text, n, &at);
        if (c < 33 || c > 323 || (c > 126 && c < 161) || c == 173) return false;
    }
    return true;
}

static tvlm_status read_flags(reader *r, const json_t *entry, const char *text, bool special,
                              uint8_t *out)
{
    static const struct {
        const char *key;
        uint8_t bit;
    } flags[] = {
        {"lstrip",      TVLM_ADDED_LSTRIP     },
        {"rstrip",      TVLM_ADDED_RSTRIP     },
        {"single_word", TVLM_ADDED_SINGLE_WORD},
        {"normalized",  TVLM_ADDED_NORMALIZED },
    };
    *out = 0;
    for (size_t i = 0; i < TVLM_COUNT(flags); i++) {
        tvlm_error inner;
        bool on = flags[i].bit == TVLM_ADDED_NORMALIZED && !special;
        tvlm_status status = tvlmc_json_bool(entry, flags[i].key, &on, &inner);
        if (status) return tvlm_fail(r->err, status, "token '%.64s': %s", text, inner.message);
        if (on) *out |= flags[i].bit;
    }
    return TVLM_OK;
}

static bool is_token(const reader *r, const char *text, json_int_t id)
{
    const tvlm_str *tokens = r->store->tokens;
    return id >= 0 && id < (json_int_t)r->out->vocab.n_tokens && tokens[id].data &&
           tvlm_str_eq(tokens[id], text);
}

/* Hugging Face gives an added token its id itself: that of its text, else the next free one.
 * Another id in the file is one that some programs heed and some do not. */
static tvlm_status check_id(reader *r, const char *text, json_int_t id)
{
    if (is_token(r, text, id)) {
        if ((uint32_t)id >= r->next_added) r->next_added = (uint32_t)id + 1;
        return TVLM_OK;
    }
    if (id != (json_int_t)r->next_added)
        return tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                         "added token '%.64s': id %lld, where the next free one is %u", text,
                         (long long)id, (unsigned)r->next_added);
    r->next_added++;
    return TVLM_OK;
}

static tvlm_status put_literal(reader *r, const char *text, json_int_t id, bool special,
                               uint8_t flags)
{
    struct tvlmc_tokenizer_store *s = r->store;
    bool there = id >= 0 && id < (json_int_t)r->out->vocab.n_tokens && s->tokens[id].data;
    int32_t was = there ? s->types[id] : TVLM_TOKEN_UNUSED;
    if (was == TVLM_TOKEN_NORMAL && in_alphabet(text)) flags |= TVLM_ADDED_IN_MODEL;
    if (was == TVLM_TOKEN_CONTROL || was == TVLM_TOKEN_USER_DEFINED) {
        flags |= s->added[id] & TVLM_ADDED_IN_MODEL;
        if (flags != s->added[id])
            return tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                             "added token '%.64s' is given twice, with other settings", text);
    }
    TVLM_TRY(put_token(r, text, id, special ? TVLM_TOKEN_CONTROL : TVLM_TOKEN_USER_DEFINED));
    s->added[id] = flags;
    return TVLM_OK;
}

/* An entry of added_tokens or added_tokens_decoder; an empty one is ignored, as elsewhere. */
static tvlm_status put_added(reader *r, const json_t *entry, json_int_t id)
{
    const char *text = json_string_value(json_object_get(entry, "content"));
    bool special = false;
    uint8_t flags;
    if (!text) return tvlm_fail(r->err, TVLM_ERR_FORMAT, "an added token has no content");
    if (!*text) return TVLM_OK;
    TVLM_TRY(tvlmc_json_bool(entry, "special", &special, r->err));
    TVLM_TRY(read_flags(r, entry, text, special, &flags));
    if (r->checks_ids) TVLM_TRY(check_id(r, text, id));
    return put_literal(r, text, id, special, flags);
}

/* ---- merges ---- */

static tvlm_status put_merge(reader *r, const char *text, size_t n, size_t *cap)
{
    tvlm_vocab *v = &r->out->vocab;
    if (v->n_merges >= MAX_IDS || n > 2 * MAX_TOKEN)
        return tvlm_fail(r->err, TVLM_ERR_LIMIT, "merge %u: too many, or too long",
                         (unsigned)v->n_merges);
    if (v->n_merges == *cap) {
        *cap = *cap ? 2 * *cap : 4096;
        tvlm_str *grown = realloc(r->store->merges, *cap * sizeof *grown);
        if (!grown) return no_memory(r);
        r->store->merges = grown;
    }
    char *copy = keep(r->store, text, n);
    if (!copy) return no_memory(r);
    r->store->merges[v->n_merges++] = (tvlm_str){copy, n};
    return TVLM_OK;
}

/* "left right", or ["left", "right"] as newer files have it. */
static tvlm_status put_merges(reader *r, json_t *merges)
{
    size_t i, cap = 0;
    json_t *entry;
    if (!json_is_array(merges))
        return tvlm_fail(r->err, TVLM_ERR_FORMAT, "key 'model.merges': expected a list");
    json_array_foreach(merges, i, entry)
    {
        const char *left = json_string_value(json_array_get(entry, 0));
        const char *right = json_string_value(json_array_get(entry, 1));
        char pair[2 * MAX_TOKEN + 2];
        if (json_is_string(entry)) {
            TVLM_TRY(put_merge(r, json_string_value(entry), json_string_length(entry), &cap));
        } else if (left && right && strlen(left) <= MAX_TOKEN && strlen(right) <= MAX_TOKEN) {
            int n = snprintf(pair, sizeof pair, "%s %s", left, right);
            TVLM_TRY(put_merge(r, pair, (size_t)n, &cap));
        } else {
            return tvlm_fail(r->err, TVLM_ERR_FORMAT, "key 'model.merges': entry %zu", i);
        }
    }
    return TVLM_OK;
}

/* merges.txt: one merge a line behind an optional "#version" line. */
static tvlm_status put_merge_lines(reader *r, const char *text, size_t size)
{
    size_t cap = 0;
    for (size_t at = 0; at < size;) {
        const char *end = memchr(text + at, '\n', size - at);
        size_t n = end ? (size_t)(end - (text + at)) : size - at, next = at + n + 1;
        if (n && text[at + n - 1] == '\r') n--;
        bool version = at == 0 && n >= 9 && memcmp(text, "#version:", 9) == 0;
        if (n && !version) TVLM_TRY(put_merge(r, text + at, n, &cap));
        at = next;
    }
    return TVLM_OK;
}

/* ---- how text is cut ---- */

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define REST         "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define QWEN2_REGEX  CONTRACTIONS "\\p{N}" REST
#define LLAMA3_REGEX CONTRACTIONS "\\p{N}{1,3}" REST

static const char *type_of(const json_t *object)
{
    const char *type = json_string_value(json_object_get(object, "type"));
    return type ? type : "none";
}

static bool is_type(const json_t *object, const char *type)
{
    return strcmp(type_of(object), type) == 0;
}

/* ByteLevel as used here: no space put in front of the text. */
static bool byte_level(const json_t *p, bool regex)
{
    const json_t *use_regex = json_object_get(p, "use_regex"); /* true when absent */
    return is_type(p, "ByteLevel") && !json_is_true(json_object_get(p, "add_prefix_space")) &&
           !json_is_false(use_regex) == regex;
}

/* The regexes match all of any text, so keeping what they match is cutting there. */
static bool splits_by(const json_t *p, const char *regex)
{
    const char *own = json_string_value(json_object_get(json_object_get(p, "pattern"), "Regex"));
    const char *behavior = json_string_value(json_object_get(p, "behavior"));
    bool invert = json_is_true(json_object_get(p, "invert"));
    return is_type(p, "Split") && own && strcmp(own, regex) == 0 && behavior &&
           strcmp(behavior, invert ? "Removed" : "Isolated") == 0;
}

static bool digits_split(const json_t *p)
{
    return is_type(p, "Digits") && json_is_true(json_object_get(p, "individual_digits"));
}

/* A Sequence of one is that one, of none is none. */
static const json_t *unwrap(const json_t *step, const char *list)
{
    const json_t *steps = json_object_get(step, list);
    return is_type(step, "Sequence") && json_array_size(steps) < 2 ? json_array_get(steps, 0)
                                                                   : step;
}

static tvlm_status read_pretokenizer(reader *r, const json_t *tokenizer, bool whole_tokens)
{
    const json_t *pre = unwrap(json_object_get(tokenizer, "pre_tokenizer"), "pretokenizers");
    const json_t *list = json_object_get(pre, "pretokenizers");
    const json_t *a = json_array_get(list, 0), *b = json_array_get(list, 1);
    const json_t *norm = unwrap(json_object_get(tokenizer, "normalizer"), "normalizers");
    bool two = json_array_size(list) == 2, nfc = is_type(norm, "NFC");
    bool none = !norm || json_is_null(norm);
    tvlm_pretokenizer *out = &r->out->vocab.pre;
    if (two && splits_by(a, QWEN2_REGEX) && byte_level(b, false) && nfc)
        *out = TVLM_PRE_QWEN2;
    else if (two && splits_by(a, LLAMA3_REGEX) && byte_level(b, false) && none && whole_tokens)
        *out = TVLM_PRE_LLAMA3;
    else if (two && digits_split(a) && byte_level(b, true) && none)
        *out = TVLM_PRE_SMOLLM;
    else if (byte_level(pre, true) && none)
        *out = TVLM_PRE_GPT2;
    else
        return tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                         "pre-tokenizer '%.32s' (%.32s, %.32s%s) with normalizer '%.32s' is not "
                         "supported; supported: those of Qwen2, Llama 3, SmolLM2 and GPT-2",
                         type_of(pre), type_of(a), type_of(b),
                         is_type(a, "Split") ? ": another regex or another setting" : "",
                         type_of(norm));
    return whole_tokens == (*out == TVLM_PRE_LLAMA3)
               ? TVLM_OK
               : tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                           "key 'model.ignore_merges' is not supported with this pre-tokenizer");
}

/* ---- what is put around the ids ---- */

/* [bos, A] is add_bos_token; A alone is nothing. */
static tvlm_status read_template(reader *r, const json_t *processor)
{
    const json_t *single = json_object_get(processor, "single");
    size_t n = json_array_size(single);
    const json_t *first = json_object_get(json_array_get(single, 0), "SpecialToken");
    const char *bos = json_string_value(json_object_get(first, "id"));
    if (!json_object_get(json_array_get(single, n - 1), "Sequence") || n > 2 || (n == 2 && !bos))
        return tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                         "post-processor 'TemplateProcessing' that puts more than one token in "
                         "front is not supported");
    if (bos) r->out->add_bos = true;
    r->template_bos = bos;
    return TVLM_OK;
}

static tvlm_status read_postprocessor(reader *r, const json_t *processor)
{
    size_t i;
    json_t *step;
    if (!processor || json_is_null(processor) || is_type(processor, "ByteLevel")) return TVLM_OK;
    if (is_type(processor, "TemplateProcessing")) return read_template(r, processor);
    if (!is_type(processor, "Sequence"))
        return tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED, "post-processor '%.32s' is not supported",
                         type_of(processor));
    json_array_foreach(json_object_get(processor, "processors"), i, step)
    {
        if (is_type(step, "Sequence"))
            return tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                             "post-processor 'Sequence' in a 'Sequence' is not supported");
        TVLM_TRY(read_postprocessor(r, step));
    }
    return TVLM_OK;
}

static tvlm_status read_decoder(reader *r, const json_t *decoder)
{
    decoder = unwrap(decoder, "decoders");
    if (!decoder || json_is_null(decoder) || is_type(decoder, "ByteLevel")) return TVLM_OK;
    return tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED, "decoder '%.32s' is not supported",
                     type_of(decoder));
}

/* ---- tokenizer_config.json ---- */

/* A token's text, plain or as the "content" of an object. */
static const char *token_text(const json_t *config, const char *key)
{
    const json_t *value = json_object_get(config, key);
    if (json_is_object(value)) value = json_object_get(value, "content");
    return json_string_value(value);
}

static tvlm_status read_added_decoder(reader *r, const json_t *config)
{
    const char *id;
    json_t *entry;
    json_object_foreach(json_object_get(config, "added_tokens_decoder"), id, entry)
    {
        char *end;
        long long v = strtoll(id, &end, 10);
        if (*end || end == id)
            return tvlm_fail(r->err, TVLM_ERR_FORMAT, "key 'added_tokens_decoder': id '%.32s'", id);
        TVLM_TRY(put_added(r, entry, v));
    }
    return TVLM_OK;
}

/* Named tokens are special even where only the model's vocabulary has them. */
static tvlm_status name_special(reader *r, const json_t *value)
{
    uint8_t flags = 0;
    const json_t *content = json_is_object(value) ? json_object_get(value, "content") : value;
    const char *text = json_string_value(content);
    const json_t *known = text ? json_object_get(r->vocab, text) : NULL;
    json_int_t id = json_integer_value(known);
    if (!known || r->store->types[id] != TVLM_TOKEN_NORMAL) return TVLM_OK;
    if (json_is_object(value)) TVLM_TRY(read_flags(r, value, text, true, &flags));
    return put_literal(r, text, id, true, flags);
}

static tvlm_status name_specials(reader *r, const json_t *config)
{
    static const char *const keys[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                       "pad_token", "cls_token", "mask_token"};
    size_t i;
    json_t *value;
    for (i = 0; i < TVLM_COUNT(keys); i++)
        TVLM_TRY(name_special(r, json_object_get(config, keys[i])));
    json_array_foreach(json_object_get(config, "additional_special_tokens"), i, value)
        TVLM_TRY(name_special(r, value));
    return TVLM_OK;
}

static tvlm_status keep_template(reader *r, const char *jinja, size_t n)
{
    r->out->chat_template = keep(r->store, jinja, n);
    return r->out->chat_template ? TVLM_OK : no_memory(r);
}

/* A template, or a list of named ones, of which "default" is the one for chat. */
static tvlm_status read_chat_template(reader *r, const json_t *value)
{
    size_t i;
    json_t *entry;
    if (json_is_string(value))
        return keep_template(r, json_string_value(value), json_string_length(value));
    json_array_foreach(value, i, entry)
    {
        const char *name = json_string_value(json_object_get(entry, "name"));
        const json_t *jinja = json_object_get(entry, "template");
        if (!name || !json_is_string(jinja))
            return tvlm_fail(r->err, TVLM_ERR_FORMAT,
                             "key 'chat_template': entry %zu has no name and template", i);
        if (strcmp(name, "default") == 0)
            TVLM_TRY(read_chat_template(r, jinja));
        else
            note(r, "chat template '%.64s' is left out: only 'default' is used", name);
    }
    return TVLM_OK;
}

static tvlm_status read_config(reader *r, const json_t *config)
{
    static const char *const off[] = {"add_prefix_space", "add_eos_token", "split_special_tokens"};
    TVLM_TRY(read_added_decoder(r, config));
    TVLM_TRY(name_specials(r, config));
    if (json_is_true(json_object_get(config, "add_bos_token"))) r->out->add_bos = true;
    for (size_t i = 0; i < TVLM_COUNT(off); i++)
        if (json_is_true(json_object_get(config, off[i])))
            return tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED, "key '%s': true is not supported",
                             off[i]);
    return read_chat_template(r, json_object_get(config, "chat_template"));
}

/* ---- finishing ---- */

int32_t tvlmc_tokenizer_files_id(const tvlmc_tokenizer_files *files, const char *token)
{
    for (uint32_t i = 0; i < files->vocab.n_tokens; i++)
        if (tvlm_str_eq(files->vocab.tokens[i], token)) return (int32_t)i;
    return -1;
}

/* Trims the ids to the last token and fills the holes. */
static tvlm_status finish(reader *r, const json_t *config)
{
    tvlm_vocab *v = &r->out->vocab;
    while (v->n_tokens && !r->store->tokens[v->n_tokens - 1].data)
        v->n_tokens--;
    if (v->n_tokens == 0) return tvlm_fail(r->err, TVLM_ERR_FORMAT, "the vocabulary is empty");
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        if (r->store->tokens[i].data) continue;
        char name[32];
        int n = snprintf(name, sizeof name, "[PAD%u]", (unsigned)i);
        char *copy = keep(r->store, name, (size_t)n);
        if (!copy) return no_memory(r);
        r->store->tokens[i] = (tvlm_str){copy, (size_t)n};
    }
    v->tokens = r->store->tokens;
    v->types = r->store->types;
    v->added = r->store->added;
    v->merges = r->store->merges;
    const char *bos = token_text(config, "bos_token"), *eos = token_text(config, "eos_token");
    if (bos) r->out->bos_id = tvlmc_tokenizer_files_id(r->out, bos);
    if (eos) r->out->eos_id = tvlmc_tokenizer_files_id(r->out, eos);
    if (r->template_bos && bos && strcmp(bos, r->template_bos) != 0)
        return tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                         "post-processor 'TemplateProcessing' puts '%.64s' first, but bos_token is "
                         "'%.64s'",
                         r->template_bos, bos);
    if (r->template_bos && !bos) r->out->bos_id = tvlmc_tokenizer_files_id(r->out, r->template_bos);
    return TVLM_OK;
}

/* Whether the vocabulary has a token for each of the 256 bytes: then no text is unknown. */
static bool has_all_bytes(const json_t *vocab)
{
    for (uint32_t c = 33; c <= 323; c++) {
        char letter[5] = {0};
        tvlm_utf8_put(c, letter);
        if (in_alphabet(letter) && !json_object_get(vocab, letter)) return false;
    }
    return true;
}

static tvlm_status check_model(reader *r, const json_t *model)
{
    static const char *const empty[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    static const char *const off[] = {"byte_fallback", "fuse_unk"};
    const json_t *dropout = json_object_get(model, "dropout");
    const char *unknown = json_string_value(json_object_get(model, "unk_token"));
    if (!is_type(model, "BPE"))
        return tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                         "tokenizer model '%.32s' is not supported; supported: byte-level BPE",
                         type_of(model));
    for (size_t i = 0; i < TVLM_COUNT(empty); i++) {
        const char *value = json_string_value(json_object_get(model, empty[i]));
        if (value && *value)
            return tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED, "key 'model.%s' is not supported",
                             empty[i]);
    }
    for (size_t i = 0; i < TVLM_COUNT(off); i++)
        if (json_is_true(json_object_get(model, off[i])))
            return tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED, "key 'model.%s' is not supported",
                             off[i]);
    if (dropout && !json_is_null(dropout) && json_number_value(dropout) != 0)
        return tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED, "key 'model.dropout' is not supported");
    if (unknown && !has_all_bytes(json_object_get(model, "vocab")))
        return tvlm_fail(
            r->err, TVLM_ERR_UNSUPPORTED,
            "key 'model.unk_token': '%.64s' is not supported where bytes have no token", unknown);
    return TVLM_OK;
}

static void note_lengths(const reader *r, const json_t *tokenizer)
{
    static const char *const keys[] = {"truncation", "padding"};
    for (size_t i = 0; i < TVLM_COUNT(keys); i++)
        if (json_is_object(json_object_get(tokenizer, keys[i])))
            note(r, "tokenizer.json's '%s' has no effect, as in transformers", keys[i]);
}

static tvlm_status parse_json(reader *r, const json_t *tokenizer, const json_t *config)
{
    const json_t *model = json_object_get(tokenizer, "model");
    size_t i;
    json_t *entry;
    TVLM_TRY(begin(r));
    TVLM_TRY(check_model(r, model));
    TVLM_TRY(
        read_pretokenizer(r, tokenizer, json_is_true(json_object_get(model, "ignore_merges"))));
    TVLM_TRY(read_postprocessor(r, json_object_get(tokenizer, "post_processor")));
    TVLM_TRY(read_decoder(r, json_object_get(tokenizer, "decoder")));
    note_lengths(r, tokenizer);
    TVLM_TRY(put_vocab(r, json_object_get(model, "vocab")));
    TVLM_TRY(put_merges(r, json_object_get(model, "merges")));
    r->checks_ids = true;
    json_array_foreach(json_object_get(tokenizer, "added_tokens"), i, entry)
    {
        const json_t *id = json_object_get(entry, "id");
        TVLM_TRY(put_added(r, entry, json_is_integer(id) ? json_integer_value(id) : -1));
    }
    TVLM_TRY(read_config(r, config));
    return finish(r, config);
}

tvlm_status tvlmc_tokenizer_json_parse(const json_t *tokenizer, const json_t *config,
                                       tvlmc_tokenizer_files *out,
                                       void (*on_note)(void *user, const char *line), void *user,
                                       tvlm_error *err)
{
    reader r = {.out = out, .on_note = on_note, .user = user, .err = err};
    tvlm_status status = parse_json(&r, tokenizer, config);
    if (status) tvlmc_tokenizer_files_close(out);
    return status;
}

/* The pre-tokenizer that goes with a slow tokenizer's class; without a class it is Qwen2's, whose
 * checkpoints come as vocab.json and merges.txt. */
static tvlm_status class_pretokenizer(reader *r, const json_t *config)
{
    const char *name = json_string_value(json_object_get(config, "tokenizer_class"));
    if (!name || strcmp(name, "Qwen2Tokenizer") == 0 || strcmp(name, "Qwen2TokenizerFast") == 0)
        r->out->vocab.pre = TVLM_PRE_QWEN2;
    else if (strcmp(name, "GPT2Tokenizer") == 0 || strcmp(name, "GPT2TokenizerFast") == 0)
        r->out->vocab.pre = TVLM_PRE_GPT2;
    else
        return tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                         "key 'tokenizer_class': '%.64s' without a tokenizer.json is not supported",
                         name);
    return TVLM_OK;
}

/* added: added_tokens.json, {"<|im_start|>": 151644, ...} */
static tvlm_status parse_slow(reader *r, json_t *vocab, const char *merges, size_t size,
                              json_t *added, const json_t *config)
{
    const char *text;
    json_t *id;
    TVLM_TRY(begin(r));
    TVLM_TRY(class_pretokenizer(r, config));
    TVLM_TRY(put_vocab(r, vocab));
    TVLM_TRY(put_merge_lines(r, merges, size));
    TVLM_TRY(read_config(r, config)); /* whose added_tokens_decoder knows more */
    json_object_foreach(added, text, id)
    {
        json_int_t v = json_is_integer(id) ? json_integer_value(id) : -1;
        if (!is_token(r, text, v)) TVLM_TRY(put_literal(r, text, v, true, 0));
    }
    return finish(r, config);
}

/* ---- from files ---- */

static tvlm_status open_json(reader *r, const char *path, const json_t *config)
{
    json_t *tokenizer = NULL;
    TVLM_TRY(tvlmc_json_load(path, TVLMC_JSON_TOKENIZER_MAX, &tokenizer, r->err));
    tvlm_status status = parse_json(r, tokenizer, config);
    json_decref(tokenizer);
    return status;
}

static tvlm_status open_slow(reader *r, const char *dir, const json_t *config)
{
    json_t *vocab = NULL, *added = NULL;
    char *merges = NULL;
    size_t size = 0;
    char *merges_path = tvlmc_path_join(dir, "merges.txt");
    tvlm_status status = merges_path ? TVLM_OK : no_memory(r);
    if (status == TVLM_OK)
        status =
            tvlmc_json_load_in(dir, "vocab.json", true, TVLMC_JSON_TOKENIZER_MAX, &vocab, r->err);
    if (status == TVLM_OK)
        status = tvlmc_json_load_in(dir, "added_tokens.json", false, TVLMC_JSON_CONFIG_MAX, &added,
                                    r->err);
    if (status == TVLM_OK)
        status = tvlmc_text_load(merges_path, TVLMC_JSON_TOKENIZER_MAX, &merges, &size, r->err);
    if (status == TVLM_OK) status = parse_slow(r, vocab, merges, size, added, config);
    free(merges);
    json_decref(vocab);
    json_decref(added);
    free(merges_path);
    return status;
}

static tvlm_status read_jinja(reader *r, const char *path)
{
    char *text;
    size_t size, n = 0;
    TVLM_TRY(tvlmc_text_load(path, TVLMC_JSON_CONFIG_MAX, &text, &size, r->err));
    if (memchr(text, 0, size)) {
        free(text);
        return tvlm_fail(r->err, TVLM_ERR_FORMAT, "%s: it has a zero byte", path);
    }
    for (const char *c = text; *c; c++) { /* lines end as Python reads them */
        if (*c == '\r' && c[1] == '\n') continue;
        text[n++] = *c == '\r' ? '\n' : *c;
    }
    tvlm_status status = keep_template(r, text, n);
    free(text);
    return status;
}

/* The files that win over tokenizer_config.json: a processor's, then a template of its own. */
static tvlm_status read_template_files(reader *r, const char *dir)
{
    json_t *processor = NULL;
    char *jinja = tvlmc_path_join(dir, "chat_template.jinja");
    char *more = tvlmc_path_join(dir, "additional_chat_templates");
    tvlm_status status = jinja && more ? TVLM_OK : no_memory(r);
    if (status == TVLM_OK)
        status = tvlmc_json_load_in(dir, "chat_template.json", false, TVLMC_JSON_CONFIG_MAX,
                                    &processor, r->err);
    if (status == TVLM_OK)
        status = read_chat_template(r, json_object_get(processor, "chat_template"));
    if (status == TVLM_OK && tvlmc_path_exists(jinja)) status = read_jinja(r, jinja);
    if (status == TVLM_OK && tvlmc_path_exists(more))
        note(r, "the folder additional_chat_templates is left out: only the default one is used");
    json_decref(processor);
    free(jinja);
    free(more);
    return status;
}

/* file: the tokenizer.json, or NULL to look in dir. */
static tvlm_status open_in(reader *r, const char *dir, const char *file)
{
    json_t *config = NULL;
    char *path = tvlmc_path_join(dir, "tokenizer.json");
    tvlm_status status = path ? TVLM_OK : no_memory(r);
    if (status == TVLM_OK)
        status = tvlmc_json_load_in(dir, "tokenizer_config.json", false, TVLMC_JSON_TOKENIZER_MAX,
                                    &config, r->err);
    if (status == TVLM_OK) {
        if (file || tvlmc_path_exists(path))
            status = open_json(r, file ? file : path, config);
        else
            status = open_slow(r, dir, config);
    }
    if (status == TVLM_OK) status = read_template_files(r, dir);
    json_decref(config);
    free(path);
    return status;
}

static bool is_named(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');
    return strcmp(slash ? slash + 1 : path, name) == 0;
}

tvlm_status tvlmc_tokenizer_files_open(const char *path, tvlmc_tokenizer_files *out,
                                       void (*on_note)(void *user, const char *line), void *user,
                                       tvlm_error *err)
{
    tvlm_error inner = {0};
    reader r = {.out = out, .on_note = on_note, .user = user, .err = &inner};
    *out = (tvlmc_tokenizer_files){0};
    size_t n = strlen(path);
    bool file = n > 5 && strcmp(path + n - 5, ".json") == 0;
    char *dir = tvlmc_path_join(path, "");
    if (!dir) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    if (file) {
        dir[n] = 0;
        char *slash = strrchr(dir, '/');
        if (slash)
            slash[1] = 0;
        else
            strcpy(dir, ".");
    }
    tvlm_status status = open_in(&r, dir, file && !is_named(path, "vocab.json") ? path : NULL);
    free(dir);
    if (status) {
        tvlmc_tokenizer_files_close(out);
        bool named = strncmp(inner.message, path, n) == 0;
        tvlm_fail(err, status, "%s%s%s", named ? "" : path, named ? "" : ": ", inner.message);
    }
    return status;
}

void tvlmc_tokenizer_files_close(tvlmc_tokenizer_files *files)
{
    struct tvlmc_tokenizer_store *s = files->store;
    if (s) {
        while (s->blocks) {
            struct block *b = s->blocks;
            s->blocks = b->next;
            free(b);
        }
        free(s->tokens);
        free(s->types);
        free(s->added);
        free(s->merges);
        free(s);
    }
    *files = (tvlmc_tokenizer_files){0};
}

const char *tvlmc_pretokenizer_name(tvlm_pretokenizer pre)
{
    return pre == TVLM_PRE_QWEN2    ? "qwen2"
           : pre == TVLM_PRE_SMOLLM ? "smollm"
           : pre == TVLM_PRE_GPT2   ? "gpt-2"
                                    : "llama-bpe";
}
