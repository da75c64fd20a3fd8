/* SPDX-License-Identifier: MIT
 * Tokenizer: hostile texts on a small vocabulary, and hostile vocabularies.
 *
 * The first byte chooses: bit 7 a hostile vocabulary; else bits 0-1 the pre-tokenizer, bit 2
 * whether special tokens are parsed. The second says where to cut the text into spans. */
#include "text/nfc.h"
#include "text/pretokenize.h"
#include "text/unicode.h"
#include "text/vocab.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds) abort();
}

static void *need(void *block)
{
    check(block != NULL);
    return block;
}

/* Byte tokens, a few merges (among them chains and overlaps), a few literal tokens. */
static const char *const merged[][2] = {
    {"t",        "h"       },
    {"a",        "a"       },
    {"a",        "b"       },
    {"aa",       "aa"      },
    {"th",       "e"       },
    {"a",        "ab"      },
    {"aaaa",     "aa"      },
    {"\xC4\xA0", "the"     },
    {"ab",       "ab"      },
    {"\xC3\x8C", "\xC4\xA2"},
    {"\xC4\xA0", "\xC4\xA0"}
};
static const char *const literal[] = {"<|im_start|>", "<|im_end|>", "<|im_end|>x", "<u>"};
enum { N_MERGED = TVLM_COUNT(merged), N_LITERAL = TVLM_COUNT(literal) };

static tvlm_tokenizer *small_tokenizer(tvlm_pretokenizer pre)
{
    static char letters[256][4], results[N_MERGED][16], pairs[N_MERGED][24];
    tvlm_str tokens[256 + N_MERGED + N_LITERAL], merges[N_MERGED];
    int32_t types[256 + N_MERGED + N_LITERAL];
    uint32_t n = 0;
    for (unsigned byte = 0, next = 256; byte < 256; byte++) {
        bool own = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
        tokens[n++] = (tvlm_str){letters[byte], tvlm_utf8_put(own ? byte : next++, letters[byte])};
    }
    for (size_t i = 0; i < N_MERGED; i++) {
        const char *left = merged[i][0], *right = merged[i][1];
        size_t n_left = strlen(left), n_right = strlen(right);
        memcpy(results[i], left, n_left);
        memcpy(results[i] + n_left, right, n_right);
        tokens[n++] = (tvlm_str){results[i], n_left + n_right};
        memcpy(pairs[i], left, n_left);
        pairs[i][n_left] = ' ';
        memcpy(pairs[i] + n_left + 1, right, n_right);
        merges[i] = (tvlm_str){pairs[i], n_left + 1 + n_right};
    }
    for (uint32_t i = 0; i < n; i++)
        types[i] = TVLM_TOKEN_NORMAL;
    for (size_t i = 0; i < N_LITERAL; i++, n++) {
        tokens[n] = (tvlm_str){literal[i], strlen(literal[i])};
        types[n] = i + 1 < N_LITERAL ? TVLM_TOKEN_CONTROL : TVLM_TOKEN_USER_DEFINED;
    }
    tvlm_vocab vocab = {pre, n, tokens, types, N_MERGED, merges, NULL};
    tvlm_tokenizer *tokenizer;
    check(tvlm_tokenizer_new(&vocab, &tokenizer, NULL) == TVLM_OK);
    check(tvlm_tokenizer_bytes(tokenizer) == tvlm_tokenizer_estimate(&vocab));
    return tokenizer;
}

/* The definition: merge the lowest-ranked pair, leftmost first, by looking at all of them. */
static size_t merge_slowly(const tvlm_tokenizer *t, const char *bytes, size_t n, int32_t *ids)
{
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)t->byte_id[(unsigned char)bytes[i]];
    for (;;) {
        uint32_t best = TVLM_NO_ID;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            uint32_t rank = tvlm_vocab_rank(t, (uint32_t)ids[i], (uint32_t)ids[i + 1]);
            if (rank < best) {
                best = rank;
                at = i;
            }
        }
        if (best == TVLM_NO_ID) return n;
        ids[at] = (int32_t)t->merge_id[best];
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
        n--;
    }
}

/* Pre-tokens cover the text, and each is merged as defined, Llama 3's only where it is no token.
 * ids: of text, without specials. */
static void check_merges(const tvlm_tokenizer *t, const char *text, size_t len, const int32_t *ids,
                         size_t n)
{
    int32_t *want = need(malloc((len + 1) * sizeof *want));
    size_t n_want = 0;
    for (size_t begin = 0, end; begin < len; begin = end) {
        end = tvlm_pretoken_end(t->pre, text, len, begin);
        check(end > begin && end <= len);
        uint32_t whole = tvlm_vocab_find(t, text + begin, end - begin);
        if (t->pre == TVLM_PRE_LLAMA3 && whole != TVLM_NO_ID)
            want[n_want++] = (int32_t)whole;
        else
            n_want += merge_slowly(t, text + begin, end - begin, want + n_want);
    }
    check(n == n_want && (n == 0 || memcmp(ids, want, n * sizeof *ids) == 0));
    free(want);
}

/* The normal form is stable, and text called plain is in it. */
static tvlm_bytes check_normal(const char *text, size_t len)
{
    tvlm_bytes once = {0}, twice = {0};
    check(tvlm_nfc(text, len, &once, NULL) == TVLM_OK);
    check(tvlm_nfc(once.data, once.len, &twice, NULL) == TVLM_OK);
    check(once.len <= 3 * len && twice.len == once.len);
    check(once.len == 0 || memcmp(once.data, twice.data, once.len) == 0);
    if (tvlm_nfc_is_plain(text, len))
        check(once.len == len && (len == 0 || memcmp(once.data, text, len) == 0));
    free(twice.data);
    return once;
}

static void check_decodes_to(const tvlm_tokenizer *t, const int32_t *ids, size_t n,
                             const char *text, size_t len)
{
    char *back = need(malloc(len + 1));
    size_t n_back;
    check(tvlm_tokenizer_decode(t, ids, n, false, back, len, &n_back, NULL) == TVLM_OK);
    check(n_back == len && (len == 0 || memcmp(back, text, len) == 0));
    free(back);
}

static void fuzz_text(const tvlm_tokenizer *t, const char *text, size_t len, bool special,
                      size_t cut)
{
    size_t cap = 3 * len + 1, n, n_spans;
    int32_t *ids = need(malloc(cap * sizeof *ids)), *same = need(malloc(cap * sizeof *same));
    check(tvlm_tokenizer_encode(t, text, len, special, ids, cap, &n, NULL) == TVLM_OK && n < cap);

    tvlm_span spans[] = {
        {{text, cut},             special},
        {{text + cut, len - cut}, special}
    };
    check(tvlm_tokenizer_encode_spans(t, spans, 2, same, cap, &n_spans, NULL) == TVLM_OK);
    if (!special) check(n == n_spans && (n == 0 || memcmp(ids, same, n * sizeof *ids) == 0));

    tvlm_bytes normal = check_normal(text, len);
    bool normalises = t->pre == TVLM_PRE_QWEN2;
    if (!normalises) {
        check_decodes_to(t, ids, n, text, len);
        check_decodes_to(t, same, n_spans, text, len);
    }
    bool no_literals = true;
    for (size_t i = 0; i < n; i++)
        no_literals = no_literals && t->kind[ids[i]] == TVLM_TOKEN_NORMAL;
    if (no_literals && normalises) {
        check_decodes_to(t, ids, n, normal.data, normal.len);
        check_merges(t, normal.data, normal.len, ids, n);
    } else if (no_literals) {
        check_merges(t, text, len, ids, n);
    }
    free(normal.data);
    free(ids);
    free(same);
}

/* Records of kind, length, bytes: tokens, merges and, last, the text. Whatever is accepted works.
 */
static void fuzz_vocab(const uint8_t *data, size_t size)
{
    enum { MAX = 512 };
    tvlm_str tokens[MAX], merges[MAX];
    int32_t types[MAX];
    uint8_t added[MAX];
    tvlm_vocab vocab = {TVLM_PRE_GPT2, 0, tokens, types, 0, merges, added};
    tvlm_error err;
    while (size >= 2 && size - 2 >= (data[1] & 31u)) {
        tvlm_str record = {(const char *)data + 2, data[1] & 31u};
        if (data[0] & 0x40) {
            if (vocab.n_merges < MAX) merges[vocab.n_merges++] = record;
        } else if (vocab.n_tokens < MAX) {
            types[vocab.n_tokens] = data[0] & 7;
            added[vocab.n_tokens] = data[1] >> 5 | (data[0] & 0x18);
            tokens[vocab.n_tokens++] = record;
        }
        data += 2 + record.len;
        size -= 2 + record.len;
    }
    tvlm_tokenizer *t;
    if (tvlm_tokenizer_new(&vocab, &t, &err) != TVLM_OK) {
        check(t == NULL && err.message[0] != '\0');
        return;
    }
    int32_t *ids = need(malloc((size + 1) * sizeof *ids));
    size_t n, length;
    check(tvlm_tokenizer_encode(t, (const char *)data, size, true, ids, size, &n, &err) == TVLM_OK);
    check(n <= size);
    check(tvlm_tokenizer_decode(t, ids, n, false, NULL, 0, &length, &err) == TVLM_OK);
    check(length <= size); /* bytes without a token are dropped */
    free(ids);
    tvlm_tokenizer_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static tvlm_tokenizer *tokenizers[4];
    if (size < 2) return 0;
    size_t len = size - 2;
    char *text = need(malloc(len ? len : 1)); /* exact, so that a read past the end is seen */
    memcpy(text, data + 2, len);
    unsigned pre = data[0] % 4;
    if (data[0] & 0x80) {
        fuzz_vocab((const uint8_t *)text, len);
    } else {
        if (!tokenizers[pre]) tokenizers[pre] = small_tokenizer((tvlm_pretokenizer)pre);
        fuzz_text(tokenizers[pre], text, len, (data[0] & 4) != 0, len * data[1] / 256);
    }
    free(text);
    return 0;
}
