/* SPDX-License-Identifier: MIT */
#include "convert/tokenizer_files.h"
#include "convert/json_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_IDS = 1 << 20, MAX_TOKEN = 4096 };

/* Memory of a vocabulary: blocks freed together. */
struct tvlm_tokenizer_store {
    struct block *blocks;
    tvlm_str *tokens, *merges;
    int32_t *types;
};
struct block {
    struct block *next;
    size_t used, cap;
    char data[];
};

typedef struct reader {
    tvlm_tokenizer_files *out;
    struct tvlm_tokenizer_store *store;
    void (*on_note)(void *user, const char *line);
    void *user;
    tvlm_error *err;
} reader;

static tvlm_status no_memory(reader *r)
{
    return tvlm_fail(r->err, TVLM_ERR_MEMORY, "out of memory reading the tokenizer");
}

/* A copy that lives as long as the store; NULL when out of memory. */
static char *keep(struct tvlm_tokenizer_store *s, const char *text, size_t n)
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
    *r->out = (tvlm_tokenizer_files){.bos_id = -1, .eos_id = -1, .chat_template = ""};
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
    if (!tokens || !types) return no_memory(r);
    for (uint32_t i = r->out->vocab.n_tokens; i < n; i++) {
        tokens[i] = (tvlm_str){NULL, 0};
        types[i] = TVLM_TOKEN_UNUSED;
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
    return TVLM_OK;
}

/* An entry of added_tokens or added_tokens_decoder. */
static tvlm_status put_added(reader *r, const json_t *entry, json_int_t id)
{
    static const char *const flags[] = {"lstrip", "rstrip", "single_word"};
    const char *text = json_string_value(json_object_get(entry, "content"));
    if (!text || !*text) return tvlm_fail(r->err, TVLM_ERR_FORMAT, "an added token has no content");
    for (size_t i = 0; i < TVLM_COUNT(flags) && r->on_note; i++)
        if (json_is_true(json_object_get(entry, flags[i]))) {
            char line[200];
            snprintf(line, sizeof line, "token '%.64s': its setting '%s' has no effect here", text,
                     flags[i]);
            r->on_note(r->user, line);
        }
    bool special = json_is_true(json_object_get(entry, "special"));
    return put_token(r, text, id, special ? TVLM_TOKEN_CONTROL : TVLM_TOKEN_USER_DEFINED);
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

#define QWEN2_REGEX                                                                                \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "                          \
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const char *type_of(const json_t *object)
{
    const char *type = json_string_value(json_object_get(object, "type"));
    return type ? type : "none";
}

/* ByteLevel as used here: no space put in front of the text. */
static bool byte_level(const json_t *p, bool regex)
{
    const json_t *use_regex = json_object_get(p, "use_regex"); /* true when absent */
    return strcmp(type_of(p), "ByteLevel") == 0 &&
           !json_is_true(json_object_get(p, "add_prefix_space")) &&
           !json_is_false(use_regex) == regex;
}

static bool qwen2_split(const json_t *p)
{
    const char *regex = json_string_value(json_object_get(json_object_get(p, "pattern"), "Regex"));
    const char *behavior = json_string_value(json_object_get(p, "behavior"));
    return strcmp(type_of(p), "Split") == 0 && regex && strcmp(regex, QWEN2_REGEX) == 0 &&
           behavior && strcmp(behavior, "Isolated") == 0 &&
           !json_is_true(json_object_get(p, "invert"));
}

static bool digits_split(const json_t *p)
{
    return strcmp(type_of(p), "Digits") == 0 &&
           json_is_true(json_object_get(p, "individual_digits"));
}

static tvlm_status read_pretokenizer(reader *r, const json_t *tokenizer)
{
    const json_t *pre = json_object_get(tokenizer, "pre_tokenizer");
    const json_t *list = json_object_get(pre, "pretokenizers");
    const json_t *a = json_array_get(list, 0), *b = json_array_get(list, 1);
    size_t n = json_array_size(list);
    const char *normalizer = type_of(json_object_get(tokenizer, "normalizer"));
    bool nfc = strcmp(normalizer, "NFC") == 0, none = strcmp(normalizer, "none") == 0;
    tvlm_pretokenizer *out = &r->out->vocab.pre;
    if (n == 2 && qwen2_split(a) && byte_level(b, false) && nfc)
        *out = TVLM_PRE_QWEN2;
    else if (n == 2 && digits_split(a) && byte_level(b, true) && none)
        *out = TVLM_PRE_SMOLLM;
    else if (byte_level(pre, true) && none)
        *out = TVLM_PRE_GPT2;
    else
        return tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                         "pre-tokenizer '%.32s' (%.32s, %.32s) with normalizer '%.32s' is not "
                         "supported; supported: Qwen2's, SmolLM2's and GPT-2's",
                         type_of(pre), type_of(a), type_of(b), normalizer);
    return TVLM_OK;
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

static tvlm_status read_config(reader *r, const json_t *config)
{
    const json_t *jinja = json_object_get(config, "chat_template");
    TVLM_TRY(read_added_decoder(r, config));
    r->out->add_bos = json_is_true(json_object_get(config, "add_bos_token"));
    if (!json_is_string(jinja)) return TVLM_OK;
    r->out->chat_template = keep(r->store, json_string_value(jinja), json_string_length(jinja));
    return r->out->chat_template ? TVLM_OK : no_memory(r);
}

/* ---- finishing ---- */

int32_t tvlm_tokenizer_files_id(const tvlm_tokenizer_files *files, const char *token)
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
    v->merges = r->store->merges;
    const char *bos = token_text(config, "bos_token"), *eos = token_text(config, "eos_token");
    if (bos) r->out->bos_id = tvlm_tokenizer_files_id(r->out, bos);
    if (eos) r->out->eos_id = tvlm_tokenizer_files_id(r->out, eos);
    return TVLM_OK;
}

static tvlm_status check_model(reader *r, const json_t *model)
{
    static const char *const empty[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    static const char *const off[] = {"byte_fallback", "ignore_merges", "fuse_unk"};
    if (strcmp(type_of(model), "BPE") != 0)
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
    return TVLM_OK;
}

static tvlm_status parse_json(reader *r, const json_t *tokenizer, const json_t *config)
{
    const json_t *model = json_object_get(tokenizer, "model");
    size_t i;
    json_t *entry;
    TVLM_TRY(begin(r));
    TVLM_TRY(check_model(r, model));
    TVLM_TRY(read_pretokenizer(r, tokenizer));
    TVLM_TRY(put_vocab(r, json_object_get(model, "vocab")));
    TVLM_TRY(put_merges(r, json_object_get(model, "merges")));
    json_array_foreach(json_object_get(tokenizer, "added_tokens"), i, entry)
    {
        const json_t *id = json_object_get(entry, "id");
        TVLM_TRY(put_added(r, entry, json_is_integer(id) ? json_integer_value(id) : -1));
    }
    TVLM_TRY(read_config(r, config));
    return finish(r, config);
}

tvlm_status tvlm_tokenizer_json_parse(const json_t *tokenizer, const json_t *config,
                                      tvlm_tokenizer_files *out,
                                      void (*on_note)(void *user, const char *line), void *user,
                                      tvlm_error *err)
{
    reader r = {out, NULL, on_note, user, err};
    tvlm_status status = parse_json(&r, tokenizer, config);
    if (status) tvlm_tokenizer_files_close(out);
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
static tvlm_status parse_slow(reader *r, json_t *vocab, const tvlm_mapfile *merges, json_t *added,
                              const json_t *config)
{
    const char *text;
    json_t *id;
    TVLM_TRY(begin(r));
    TVLM_TRY(class_pretokenizer(r, config));
    TVLM_TRY(put_vocab(r, vocab));
    TVLM_TRY(put_merge_lines(r, (const char *)merges->data, merges->size));
    json_object_foreach(added, text, id)
    {
        json_int_t v = json_is_integer(id) ? json_integer_value(id) : -1;
        TVLM_TRY(put_token(r, text, v, TVLM_TOKEN_CONTROL));
    }
    TVLM_TRY(read_config(r, config));
    return finish(r, config);
}

/* ---- from files ---- */

static tvlm_status open_json(reader *r, const char *path, const json_t *config)
{
    json_t *tokenizer = NULL;
    TVLM_TRY(tvlm_json_load(path, TVLM_JSON_TOKENIZER_MAX, &tokenizer, r->err));
    tvlm_status status = parse_json(r, tokenizer, config);
    json_decref(tokenizer);
    return status;
}

static tvlm_status open_slow(reader *r, const char *dir, const json_t *config)
{
    json_t *vocab = NULL, *added = NULL;
    tvlm_mapfile merges = {0};
    char *merges_path = tvlm_path_join(dir, "merges.txt");
    tvlm_status status = merges_path ? TVLM_OK : no_memory(r);
    if (status == TVLM_OK)
        status =
            tvlm_json_load_in(dir, "vocab.json", true, TVLM_JSON_TOKENIZER_MAX, &vocab, r->err);
    if (status == TVLM_OK)
        status = tvlm_json_load_in(dir, "added_tokens.json", false, TVLM_JSON_CONFIG_MAX, &added,
                                   r->err);
    if (status == TVLM_OK) status = tvlm_mapfile_open(merges_path, &merges, r->err);
    if (status == TVLM_OK && merges.size > TVLM_JSON_TOKENIZER_MAX)
        status = tvlm_fail(r->err, TVLM_ERR_LIMIT, "merges.txt: %zu bytes, at most %zu are read",
                           merges.size, TVLM_JSON_TOKENIZER_MAX);
    if (status == TVLM_OK) status = parse_slow(r, vocab, &merges, added, config);
    if (merges.data) tvlm_mapfile_close(&merges);
    json_decref(vocab);
    json_decref(added);
    free(merges_path);
    return status;
}

/* chat_template.jinja, where newer checkpoints keep what tokenizer_config.json lacks. */
static tvlm_status read_jinja(reader *r, const char *dir)
{
    char *path = tvlm_path_join(dir, "chat_template.jinja");
    tvlm_mapfile map;
    tvlm_status status = path ? TVLM_OK : no_memory(r);
    if (status == TVLM_OK && !*r->out->chat_template && tvlm_path_exists(path)) {
        status = tvlm_mapfile_open(path, &map, r->err);
        if (status == TVLM_OK) {
            char *copy = map.size <= TVLM_JSON_CONFIG_MAX
                             ? keep(r->store, (const char *)map.data, map.size)
                             : NULL;
            if (copy) r->out->chat_template = copy;
            tvlm_mapfile_close(&map);
        }
    }
    free(path);
    return status;
}

/* file: the tokenizer.json, or NULL to look in dir. */
static tvlm_status open_in(reader *r, const char *dir, const char *file)
{
    json_t *config = NULL;
    char *path = tvlm_path_join(dir, "tokenizer.json");
    tvlm_status status = path ? TVLM_OK : no_memory(r);
    if (status == TVLM_OK)
        status = tvlm_json_load_in(dir, "tokenizer_config.json", false, TVLM_JSON_TOKENIZER_MAX,
                                   &config, r->err);
    if (status == TVLM_OK) {
        if (file || tvlm_path_exists(path))
            status = open_json(r, file ? file : path, config);
        else
            status = open_slow(r, dir, config);
    }
    if (status == TVLM_OK) status = read_jinja(r, dir);
    json_decref(config);
    free(path);
    return status;
}

static bool is_named(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');
    return strcmp(slash ? slash + 1 : path, name) == 0;
}

tvlm_status tvlm_tokenizer_files_open(const char *path, tvlm_tokenizer_files *out,
                                      void (*on_note)(void *user, const char *line), void *user,
                                      tvlm_error *err)
{
    tvlm_error inner = {0};
    reader r = {out, NULL, on_note, user, &inner};
    *out = (tvlm_tokenizer_files){0};
    size_t n = strlen(path);
    bool file = n > 5 && strcmp(path + n - 5, ".json") == 0;
    char *dir = tvlm_path_join(path, "");
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
        tvlm_tokenizer_files_close(out);
        bool named = strncmp(inner.message, path, n) == 0;
        tvlm_fail(err, status, "%s%s%s", named ? "" : path, named ? "" : ": ", inner.message);
    }
    return status;
}

void tvlm_tokenizer_files_close(tvlm_tokenizer_files *files)
{
    struct tvlm_tokenizer_store *s = files->store;
    if (s) {
        while (s->blocks) {
            struct block *b = s->blocks;
            s->blocks = b->next;
            free(b);
        }
        free(s->tokens);
        free(s->types);
        free(s->merges);
        free(s);
    }
    *files = (tvlm_tokenizer_files){0};
}

const char *tvlm_pretokenizer_name(tvlm_pretokenizer pre)
{
    return pre == TVLM_PRE_QWEN2 ? "qwen2" : pre == TVLM_PRE_SMOLLM ? "smollm" : "gpt-2";
}
