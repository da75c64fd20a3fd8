/* SPDX-License-Identifier: MIT
 * Builds a tokenizer's tables from a vocabulary, which may come from a hostile file. */
#include "text/vocab.h"
#include "text/nfc.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>

enum {
    MAX_ENTRIES = 1 << 22,      /* tokens or merges; the largest vocabularies have 2^18 */
    MAX_BYTES = 1 << 28,        /* of all tokens together */
    MAX_SPECIAL_BYTES = 1 << 8, /* of one literal token: bounds the work per text byte */
    MAX_PROBES = 256,           /* of one look-up; ordinary vocabularies need some dozens */
    MAX_SEEDS = 8
};

/* ---- look-ups ---- */

static uint32_t mix(uint64_t h) /* the finaliser of splitmix64 */
{
    h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9u;
    h = (h ^ h >> 27) * 0x94D049BB133111EBu;
    return (uint32_t)(h ^ h >> 31);
}

static uint32_t hash_bytes(uint64_t seed, const char *bytes, size_t len)
{
    uint64_t h = 0xCBF29CE484222325u ^ seed; /* FNV-1a, then mixed: slots use the low bits */
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)bytes[i]) * 0x100000001B3u;
    return mix(h);
}

static uint32_t hash_pair(uint64_t seed, uint32_t left, uint32_t right)
{
    return mix(((uint64_t)left << 32 | right) + seed);
}

/* The slot that holds these bytes, or the empty one where they belong; NULL: it would be further
 * away than anything is ever placed. */
static uint32_t *token_slot(const tvlm_tokenizer *t, const char *bytes, size_t len)
{
    uint32_t i = hash_bytes(t->seed, bytes, len) & t->slot_mask;
    for (unsigned probe = 0; probe < MAX_PROBES; probe++, i = (i + 1) & t->slot_mask) {
        uint32_t id = t->slots[i];
        if (id == TVLM_NO_ID) return &t->slots[i];
        tvlm_str token = tvlm_vocab_token(t, id);
        if (token.len == len && memcmp(token.data, bytes, len) == 0) return &t->slots[i];
    }
    return NULL;
}

static tvlm_pair *pair_slot(const tvlm_tokenizer *t, uint32_t left, uint32_t right)
{
    uint32_t i = hash_pair(t->seed, left, right) & t->pair_mask;
    for (unsigned probe = 0; probe < MAX_PROBES; probe++, i = (i + 1) & t->pair_mask) {
        tvlm_pair *pair = &t->pairs[i];
        if (pair->left == TVLM_NO_ID || (pair->left == left && pair->right == right)) return pair;
    }
    return NULL;
}

uint32_t tvlm_vocab_find(const tvlm_tokenizer *t, const char *bytes, size_t len)
{
    const uint32_t *slot = token_slot(t, bytes, len);
    return slot ? *slot : TVLM_NO_ID;
}

uint32_t tvlm_vocab_rank(const tvlm_tokenizer *t, uint32_t left, uint32_t right)
{
    const tvlm_pair *pair = pair_slot(t, left, right);
    return !pair || pair->left == TVLM_NO_ID ? TVLM_NO_ID : pair->rank;
}

/* What does not fit under one seed has been made not to, or is bad luck: the next one is tried. */
static tvlm_status crowded(tvlm_error *err)
{
    return tvlm_fail(err, TVLM_ERR_LIMIT, "tokenizer: tokens or merges made to collide");
}

static tvlm_str literal_text(const tvlm_tokenizer *t, const tvlm_literal *l)
{
    return (tvlm_str){t->blob + l->at, l->len};
}

/* The first literal of [low, high), which agree on their first `at` bytes, whose byte `at` is not
 * below c; a literal that ends there counts as below every byte. */
static uint32_t literal_bound(const tvlm_tokenizer *t, const tvlm_literal *list, uint32_t low,
                              uint32_t high, size_t at, unsigned c)
{
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        tvlm_str text = literal_text(t, &list[mid]);
        if (text.len <= at || (unsigned char)text.data[at] < c)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

const tvlm_literal *tvlm_vocab_literal(const tvlm_tokenizer *t, const tvlm_literals *literals,
                                       const char *text, size_t len, size_t control_len)
{
    const tvlm_literal *best = NULL, *list = literals->list;
    uint32_t low = 0, high = literals->n;
    if (len == 0 || !literals->first[(unsigned char)text[0]]) return NULL;
    for (size_t at = 0; at < len && low < high; at++) {
        unsigned c = (unsigned char)text[at];
        low = literal_bound(t, list, low, high, at, c);
        high = literal_bound(t, list, low, high, at, c + 1);
        /* Sorted and without duplicates, so only the first can end here. */
        if (low < high && list[low].len == at + 1 && (!list[low].control || at + 1 <= control_len))
            best = &list[low];
    }
    return best;
}

/* ---- the GPT-2 byte alphabet: printable Latin-1 bytes are themselves, the others U+0100 on ----
 */

static bool is_own_letter(unsigned byte)
{
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

enum { ALPHABET = 256 + 68 }; /* 68 bytes are not their own letter */

typedef struct alphabet {
    int16_t byte_of[ALPHABET]; /* -1: no letter */
} alphabet;

static void alphabet_init(alphabet *a)
{
    for (int i = 0; i < 256; i++)
        a->byte_of[i] = is_own_letter((unsigned)i) ? (int16_t)i : -1;
    for (int byte = 0, letter = 256; byte < 256; byte++)
        if (!is_own_letter((unsigned)byte)) a->byte_of[letter++] = (int16_t)byte;
}

/* Letters to raw bytes; false if a character is no letter. out has room for letters(text) bytes. */
static bool to_bytes(const alphabet *a, tvlm_str text, char *out, size_t *n)
{
    *n = 0;
    for (size_t pos = 0; pos < text.len;) {
        uint32_t c = tvlm_utf8_next(text.data, text.len, &pos);
        if (c >= ALPHABET || a->byte_of[c] < 0) return false;
        out[(*n)++] = (char)a->byte_of[c];
    }
    return true;
}

/* Characters of a string of letters. */
static size_t letters(tvlm_str text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++)
        n += ((unsigned char)text.data[i] & 0xC0) != 0x80;
    return n;
}

/* ---- the block ---- */

static uint8_t token_kind(const tvlm_vocab *vocab, uint32_t id)
{
    return vocab->types ? (uint8_t)vocab->types[id] : TVLM_TOKEN_NORMAL;
}

static uint8_t added_flags(const tvlm_vocab *vocab, uint32_t id)
{
    return vocab->added && tvlm_kind_is_special(token_kind(vocab, id)) ? vocab->added[id] : 0;
}

/* Whether merges make the token: its text is in the byte alphabet. */
static bool in_model(const tvlm_vocab *vocab, uint32_t id)
{
    return token_kind(vocab, id) == TVLM_TOKEN_NORMAL ||
           added_flags(vocab, id) & TVLM_ADDED_IN_MODEL;
}

static size_t raw_length(const tvlm_vocab *vocab, uint32_t id)
{
    return in_model(vocab, id) ? letters(vocab->tokens[id]) : vocab->tokens[id].len;
}

/* Normal forms are sought in normal forms. */
static bool normalises(const tvlm_vocab *vocab, uint32_t id)
{
    tvlm_str text = vocab->tokens[id];
    return vocab->pre == TVLM_PRE_QWEN2 && added_flags(vocab, id) & TVLM_ADDED_NORMALIZED &&
           !tvlm_nfc_is_plain(text.data, text.len);
}

/* Room for a literal's bytes where they are not the token's: NFC at most triples them. */
static size_t literal_room(const tvlm_vocab *vocab, uint32_t id)
{
    size_t len = vocab->tokens[id].len;
    if (!tvlm_kind_is_special(token_kind(vocab, id))) return 0;
    return normalises(vocab, id) ? 3 * len : in_model(vocab, id) ? len : 0;
}

/* A power of two of slots, at most half of them full. */
static uint32_t slot_count(uint32_t entries)
{
    uint32_t n = 16;
    while (n < 2 * entries)
        n *= 2;
    return n;
}

/* Counts are already known to be within the limits. *t's tables are placed in the arena, behind
 * room for *t itself. */
static void layout(const tvlm_vocab *vocab, tvlm_arena *arena, tvlm_tokenizer *t)
{
    size_t blob = 0;
    uint32_t n[2] = {0, 0};
    t->pre = vocab->pre;
    t->n_tokens = vocab->n_tokens;
    t->n_merges = vocab->n_merges;
    for (uint32_t i = 0; i < vocab->n_tokens; i++) {
        blob += raw_length(vocab, i) + literal_room(vocab, i);
        if (tvlm_kind_is_special(token_kind(vocab, i)))
            n[(added_flags(vocab, i) & TVLM_ADDED_NORMALIZED) != 0]++;
    }
    t->slot_mask = slot_count(vocab->n_tokens) - 1;
    t->pair_mask = slot_count(vocab->n_merges) - 1;
    tvlm_arena_alloc(arena, 1, sizeof *t);
    t->blob = tvlm_arena_alloc(arena, blob + 1, 1);
    t->offset = tvlm_arena_alloc(arena, (size_t)t->n_tokens + 1, sizeof *t->offset);
    t->kind = tvlm_arena_alloc(arena, (size_t)t->n_tokens + 1, sizeof *t->kind);
    for (int i = 0; i < 2; i++)
        t->literals[i].list =
            tvlm_arena_alloc(arena, (size_t)n[i] + 1, sizeof *t->literals[i].list);
    t->slots = tvlm_arena_alloc(arena, (size_t)t->slot_mask + 1, sizeof *t->slots);
    t->pairs = tvlm_arena_alloc(arena, (size_t)t->pair_mask + 1, sizeof *t->pairs);
    t->merge_id = tvlm_arena_alloc(arena, (size_t)t->n_merges + 1, sizeof *t->merge_id);
}

static tvlm_status check_limits(const tvlm_vocab *vocab, tvlm_error *err)
{
    if (vocab->n_tokens > MAX_ENTRIES || vocab->n_merges > MAX_ENTRIES)
        return tvlm_fail(err, TVLM_ERR_LIMIT, "tokenizer: %u tokens and %u merges, at most %d each",
                         (unsigned)vocab->n_tokens, (unsigned)vocab->n_merges, MAX_ENTRIES);
    size_t total = 0;
    for (uint32_t i = 0; i < vocab->n_tokens; i++) {
        int32_t type = vocab->types ? vocab->types[i] : TVLM_TOKEN_NORMAL;
        if (type != TVLM_TOKEN_NORMAL && type != TVLM_TOKEN_CONTROL &&
            type != TVLM_TOKEN_USER_DEFINED && type != TVLM_TOKEN_UNUSED)
            return tvlm_fail(err, TVLM_ERR_UNSUPPORTED, "tokenizer: token %u has type %d",
                             (unsigned)i, (int)type);
        size_t len = vocab->tokens[i].len;
        if (len > MAX_BYTES || (total += len) > MAX_BYTES)
            return tvlm_fail(err, TVLM_ERR_LIMIT, "tokenizer: tokens of more than %d bytes",
                             MAX_BYTES);
        if (tvlm_kind_is_special((uint8_t)type) && (len == 0 || len > MAX_SPECIAL_BYTES))
            return tvlm_fail(err, TVLM_ERR_FORMAT,
                             "tokenizer: special token %u has %zu bytes, not 1 to %d", (unsigned)i,
                             len, MAX_SPECIAL_BYTES);
    }
    return TVLM_OK;
}

size_t tvlm_tokenizer_estimate(const tvlm_vocab *vocab)
{
    if (check_limits(vocab, NULL) != TVLM_OK) return 0;
    tvlm_tokenizer t = {0};
    tvlm_arena arena;
    tvlm_arena_init_measure(&arena);
    layout(vocab, &arena, &t);
    return arena.peak;
}

static tvlm_status place_tokens(const tvlm_vocab *vocab, const alphabet *a, tvlm_tokenizer *t,
                                uint32_t *blob_end, tvlm_error *err)
{
    uint32_t end = 0;
    for (uint32_t id = 0; id < t->n_tokens; id++) {
        tvlm_str token = vocab->tokens[id];
        size_t n = token.len;
        t->offset[id] = end;
        t->kind[id] = token_kind(vocab, id);
        if (!in_model(vocab, id)) {
            if (n) memcpy(t->blob + end, token.data, n);
        } else if (!to_bytes(a, token, t->blob + end, &n)) {
            return tvlm_fail(err, TVLM_ERR_FORMAT,
                             "tokenizer: token %u '%s' is not in the GPT-2 byte alphabet",
                             (unsigned)id, tvlm_show(token).text);
        }
        end += (uint32_t)n;
        t->offset[id + 1] = end;
        if (!in_model(vocab, id) || n == 0) continue;
        uint32_t *slot = token_slot(t, t->blob + t->offset[id], n);
        if (!slot) return crowded(err);
        if (*slot != TVLM_NO_ID)
            return tvlm_fail(err, TVLM_ERR_FORMAT, "tokenizer: tokens %u and %u are both '%s'",
                             (unsigned)*slot, (unsigned)id, tvlm_show(token).text);
        *slot = id;
    }
    *blob_end = end;
    for (unsigned byte = 0; byte < 256; byte++) {
        char raw = (char)byte;
        t->byte_id[byte] = tvlm_vocab_find(t, &raw, 1);
    }
    return TVLM_OK;
}

static int compare_literals(const tvlm_tokenizer *t, const tvlm_literal *a, const tvlm_literal *b)
{
    tvlm_str x = literal_text(t, a), y = literal_text(t, b);
    int order = memcmp(x.data, y.data, x.len < y.len ? x.len : y.len);
    return order ? order : (x.len > y.len) - (x.len < y.len);
}

static void swap(tvlm_literal *a, tvlm_literal *b)
{
    tvlm_literal c = *a;
    *a = *b;
    *b = c;
}

/* Moves the literal at `root` down until it is not below its children (qsort has no context). */
static void sift_down(const tvlm_tokenizer *t, tvlm_literal *list, uint32_t root, uint32_t n)
{
    uint32_t child;
    while ((child = 2 * root + 1) < n) {
        if (child + 1 < n && compare_literals(t, &list[child], &list[child + 1]) < 0) child++;
        if (compare_literals(t, &list[root], &list[child]) >= 0) return;
        swap(&list[root], &list[child]);
        root = child;
    }
}

static tvlm_status sort_literals(tvlm_tokenizer *t, tvlm_literals *literals, tvlm_error *err)
{
    tvlm_literal *list = literals->list;
    uint32_t n = literals->n;
    for (uint32_t i = n / 2; i-- > 0;)
        sift_down(t, list, i, n);
    for (uint32_t i = n; i-- > 1;) {
        swap(&list[0], &list[i]);
        sift_down(t, list, 0, i);
    }
    for (uint32_t i = 0; i < n; i++) {
        literals->first[(unsigned char)t->blob[list[i].at]] = true;
        if (i && compare_literals(t, &list[i - 1], &list[i]) == 0)
            return tvlm_fail(err, TVLM_ERR_FORMAT, "tokenizer: special tokens %u and %u are equal",
                             (unsigned)list[i - 1].id, (unsigned)list[i].id);
    }
    return TVLM_OK;
}

/* The literal's bytes: the token's, or of their own at *end, which moves behind them. */
static tvlm_status place_text(const tvlm_vocab *vocab, tvlm_tokenizer *t, tvlm_literal *l,
                              uint32_t *end, tvlm_error *err)
{
    tvlm_str text = vocab->tokens[l->id];
    tvlm_bytes normal = {0};
    l->at = literal_room(vocab, l->id) ? *end : t->offset[l->id];
    l->len = (uint32_t)text.len;
    if (!literal_room(vocab, l->id)) return TVLM_OK;
    if (normalises(vocab, l->id)) {
        tvlm_status status = tvlm_nfc(text.data, text.len, &normal, err);
        if (status == TVLM_OK) text = (tvlm_str){normal.data, normal.len};
        if (status) free(normal.data);
        if (status) return status;
    }
    l->len = (uint32_t)text.len;
    memcpy(t->blob + *end, text.data, text.len);
    *end += l->len;
    free(normal.data);
    return TVLM_OK;
}

static tvlm_status place_literals(const tvlm_vocab *vocab, tvlm_tokenizer *t, uint32_t end,
                                  tvlm_error *err)
{
    for (uint32_t id = 0; id < t->n_tokens; id++) {
        if (!tvlm_kind_is_special(t->kind[id])) continue;
        uint8_t flags = added_flags(vocab, id);
        tvlm_literals *all = &t->literals[(flags & TVLM_ADDED_NORMALIZED) != 0];
        tvlm_literal *l = &all->list[all->n++];
        *l = (tvlm_literal){.id = id, .flags = flags, .control = t->kind[id] == TVLM_TOKEN_CONTROL};
        TVLM_TRY(place_text(vocab, t, l, &end, err));
    }
    TVLM_TRY(sort_literals(t, &t->literals[0], err));
    return sort_literals(t, &t->literals[1], err);
}

/* One merge "left right"; room holds the bytes of the longest merge. */
static tvlm_status place_merge(const alphabet *a, tvlm_str merge, uint32_t rank, char *room,
                               tvlm_tokenizer *t, tvlm_error *err)
{
    const char *space = merge.len ? memchr(merge.data, ' ', merge.len) : NULL;
    size_t n_left, n_right;
    if (!space) goto malformed;
    size_t split = (size_t)(space - merge.data);
    if (!to_bytes(a, (tvlm_str){merge.data, split}, room, &n_left) ||
        !to_bytes(a, (tvlm_str){space + 1, merge.len - split - 1}, room + n_left, &n_right) ||
        n_left == 0 || n_right == 0)
        goto malformed;
    uint32_t left = tvlm_vocab_find(t, room, n_left);
    uint32_t right = tvlm_vocab_find(t, room + n_left, n_right);
    t->merge_id[rank] = tvlm_vocab_find(t, room, n_left + n_right);
    if (left == TVLM_NO_ID || right == TVLM_NO_ID || t->merge_id[rank] == TVLM_NO_ID)
        return tvlm_fail(err, TVLM_ERR_FORMAT,
                         "tokenizer: merge %u '%s': its parts or its result are no token",
                         (unsigned)rank, tvlm_show(merge).text);
    tvlm_pair *pair = pair_slot(t, left, right);
    if (!pair) return crowded(err);
    if (pair->left != TVLM_NO_ID)
        return tvlm_fail(err, TVLM_ERR_FORMAT, "tokenizer: merges %u and %u are both '%s'",
                         (unsigned)pair->rank, (unsigned)rank, tvlm_show(merge).text);
    *pair = (tvlm_pair){left, right, rank};
    return TVLM_OK;

malformed:
    return tvlm_fail(err, TVLM_ERR_FORMAT,
                     "tokenizer: merge %u '%s' is not two strings of the GPT-2 byte alphabet",
                     (unsigned)rank, tvlm_show(merge).text);
}

static tvlm_status place_merges(const tvlm_vocab *vocab, const alphabet *a, tvlm_tokenizer *t,
                                tvlm_error *err)
{
    size_t longest = 0;
    for (uint32_t i = 0; i < vocab->n_merges; i++)
        if (vocab->merges[i].len > longest) longest = vocab->merges[i].len;
    char *room = malloc(longest + 1);
    if (!room) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory (tokenizer)");
    tvlm_status status = TVLM_OK;
    for (uint32_t i = 0; i < vocab->n_merges && status == TVLM_OK; i++)
        status = place_merge(a, vocab->merges[i], i, room, t, err);
    free(room);
    return status;
}

/* In the block of a tokenizer; whatever lies in it is made anew. */
static tvlm_status build(const tvlm_vocab *vocab, uint64_t seed, size_t bytes, tvlm_tokenizer *t,
                         tvlm_error *err)
{
    tvlm_arena arena;
    alphabet a;
    uint32_t end = 0;
    *t = (tvlm_tokenizer){.seed = seed, .bytes = bytes};
    tvlm_arena_init(&arena, t, bytes);
    layout(vocab, &arena, t);
    memset(t->slots, 0xFF, ((size_t)t->slot_mask + 1) * sizeof *t->slots); /* TVLM_NO_ID */
    memset(t->pairs, 0xFF, ((size_t)t->pair_mask + 1) * sizeof *t->pairs);
    alphabet_init(&a);
    TVLM_TRY(place_tokens(vocab, &a, t, &end, err));
    TVLM_TRY(place_literals(vocab, t, end, err));
    return place_merges(vocab, &a, t, err);
}

tvlm_status tvlm_tokenizer_new(const tvlm_vocab *vocab, tvlm_tokenizer **out, tvlm_error *err)
{
    *out = NULL;
    TVLM_TRY(check_limits(vocab, err));
    size_t bytes = tvlm_tokenizer_estimate(vocab);
    tvlm_tokenizer *t = tvlm_pages_alloc(bytes, true);
    if (!t) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory (tokenizer)");
    tvlm_status status = TVLM_ERR_LIMIT;
    for (uint64_t seed = 0; seed < MAX_SEEDS && status == TVLM_ERR_LIMIT; seed++)
        status = build(vocab, seed * 0x9E3779B97F4A7C15u, bytes, t, err);
    if (status)
        tvlm_tokenizer_free(t);
    else
        *out = t;
    return status;
}

void tvlm_tokenizer_free(tvlm_tokenizer *tokenizer)
{
    if (tokenizer) tvlm_pages_free(tokenizer, tokenizer->bytes);
}
