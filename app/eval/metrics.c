/* SPDX-License-Identifier: MIT */
#include "eval/metrics.h"
#include "common/common.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- words ---- */

static bool in_word(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           c == '\'' || c == '-' || (unsigned char)c >= 0x80;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

typedef struct word {
    const char *at; /* in the caller's text */
    size_t len;
} word;

static int compare_words(const void *a, const void *b)
{
    const word *v = a, *w = b;
    for (size_t i = 0; i < v->len && i < w->len; i++) {
        int d = (unsigned char)lower(v->at[i]) - (unsigned char)lower(w->at[i]);
        if (d) return d;
    }
    return (v->len > w->len) - (v->len < w->len);
}

/* The next word at or behind *text, which moves past it; len 0 at the end. */
static word next_word(const char **text)
{
    while (**text && !in_word(**text))
        ++*text;
    word w = {*text, 0};
    for (; in_word(**text); ++*text)
        w.len++;
    return w;
}

static size_t count_words(const char *text)
{
    size_t n = 0;
    while (next_word(&text).len)
        n++;
    return n;
}

/* ---- n-grams ---- */

enum { MAX_N = 4 };

typedef struct ngram {
    uint32_t word[MAX_N]; /* ids from 1; zeros behind a shorter one */
} ngram;

typedef struct counted {
    ngram key;
    uint32_t n;
} counted;

/* The n-grams of a text, of 1 to 4 words, in order, each once. */
typedef struct bag {
    counted *at;
    size_t n, n_words;
} bag;

static int compare_ngrams(const void *a, const void *b)
{
    const ngram *v = a, *w = b; /* also the first member of `counted` */
    for (int i = 0; i < MAX_N; i++)
        if (v->word[i] != w->word[i]) return v->word[i] < w->word[i] ? -1 : 1;
    return 0;
}

static int order_of(const ngram *g)
{
    int n = 1;
    while (n < MAX_N && g->word[n])
        n++;
    return n - 1;
}

/* Sorts and joins equal keys: counts of them are added. Returns how many are left. */
static size_t gather(counted *at, size_t n)
{
    size_t last = 0;
    if (!n) return 0;
    qsort(at, n, sizeof *at, compare_ngrams);
    for (size_t i = 1; i < n; i++) {
        if (compare_ngrams(&at[last], &at[i]) == 0)
            at[last].n += at[i].n;
        else
            at[++last] = at[i];
    }
    return last + 1;
}

/* Candidates and references as bags, one block of n-grams for all. */
typedef struct corpus {
    const eval_caption *captions;
    size_t n;
    word *vocabulary; /* sorted, each once */
    size_t n_vocabulary;
    counted *storage;
    bag *bags;     /* of each caption: the candidate, then its references */
    size_t *first; /* its candidate's bag */
    counted *df;   /* n: captions that have the n-gram in a reference */
    size_t n_df;
    double *cider; /* of each caption */
} corpus;

static void corpus_free(corpus *c)
{
    free(c->vocabulary);
    free(c->storage);
    free(c->bags);
    free(c->first);
    free(c->df);
    free(c->cider);
}

static const char *text_of(const eval_caption *c, size_t i)
{
    return i ? c->references[i - 1] : c->text;
}

static void fill_vocabulary(corpus *c)
{
    size_t n = 0, last = 0;
    for (size_t i = 0; i < c->n; i++)
        for (size_t j = 0; j <= c->captions[i].n_references; j++) {
            const char *text = text_of(&c->captions[i], j);
            for (word w; (w = next_word(&text)).len;)
                c->vocabulary[n++] = w;
        }
    if (!n) return;
    qsort(c->vocabulary, n, sizeof *c->vocabulary, compare_words);
    for (size_t i = 1; i < n; i++)
        if (compare_words(&c->vocabulary[last], &c->vocabulary[i]))
            c->vocabulary[++last] = c->vocabulary[i];
    c->n_vocabulary = last + 1;
}

static uint32_t word_id(const corpus *c, word w)
{
    const word *found = bsearch(&w, c->vocabulary, c->n_vocabulary, sizeof w, compare_words);
    return (uint32_t)(found - c->vocabulary) + 1;
}

/* Into at, which has room for 4 n-grams a word. */
static bag make_bag(const corpus *c, const char *text, counted *at)
{
    bag b = {at, 0, 0};
    uint32_t last[MAX_N] = {0}; /* the words before, newest first */
    for (word w; (w = next_word(&text)).len;) {
        memmove(last + 1, last, sizeof last - sizeof *last);
        last[0] = word_id(c, w);
        b.n_words++;
        for (size_t n = 1; n <= MAX_N && n <= b.n_words; n++) {
            counted g = {.n = 1};
            for (size_t i = 0; i < n; i++)
                g.key.word[i] = last[n - 1 - i];
            at[b.n++] = g;
        }
    }
    b.n = gather(at, b.n);
    return b;
}

/* The union of a caption's references, each n-gram once with count 1, or with the largest count of
 * any. */
static size_t unite(const bag *references, size_t n, bool largest, counted *out)
{
    size_t all = 0, last = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < references[i].n; j++)
            out[all++] = references[i].at[j];
    if (!all) return 0;
    qsort(out, all, sizeof *out, compare_ngrams);
    for (size_t i = 1; i < all; i++) {
        if (compare_ngrams(&out[last], &out[i]))
            out[++last] = out[i];
        else if (out[i].n > out[last].n)
            out[last].n = out[i].n;
    }
    for (size_t i = 0; i <= last && !largest; i++)
        out[i].n = 1;
    return last + 1;
}

static tvlm_status corpus_make(corpus *c, tvlm_error *err)
{
    size_t words = 0, texts = 0;
    for (size_t i = 0; i < c->n; i++)
        for (size_t j = 0; j <= c->captions[i].n_references; j++, texts++)
            words += count_words(text_of(&c->captions[i], j));
    c->vocabulary = malloc((words + 1) * sizeof *c->vocabulary);
    c->storage = malloc((MAX_N * words + 1) * sizeof *c->storage);
    c->df = malloc((MAX_N * words + 1) * sizeof *c->df);
    c->bags = malloc((texts + 1) * sizeof *c->bags);
    c->first = malloc((c->n + 1) * sizeof *c->first);
    c->cider = malloc((c->n + 1) * sizeof *c->cider);
    if (!c->vocabulary || !c->storage || !c->df || !c->bags || !c->first || !c->cider)
        return app_fail(err, TVLM_ERR_MEMORY, "out of memory for the n-grams of %zu captions",
                        c->n);
    fill_vocabulary(c);
    counted *at = c->storage;
    size_t next = 0;
    for (size_t i = 0; i < c->n; i++) {
        c->first[i] = next;
        for (size_t j = 0; j <= c->captions[i].n_references; j++) {
            c->bags[next] = make_bag(c, text_of(&c->captions[i], j), at);
            at += c->bags[next++].n;
        }
        c->n_df +=
            unite(&c->bags[c->first[i] + 1], c->captions[i].n_references, false, c->df + c->n_df);
    }
    c->n_df = gather(c->df, c->n_df);
    return TVLM_OK;
}

/* ---- CIDEr-D ---- */

static double weight(const corpus *c, const counted *g)
{
    const counted *found = bsearch(g, c->df, c->n_df, sizeof *g, compare_ngrams);
    return g->n * (log((double)c->n) - log(found ? found->n : 1));
}

static void norms(const corpus *c, const bag *b, double norm[MAX_N])
{
    for (int n = 0; n < MAX_N; n++)
        norm[n] = 0;
    for (size_t i = 0; i < b->n; i++) {
        double w = weight(c, &b->at[i]);
        norm[order_of(&b->at[i].key)] += w * w;
    }
    for (int n = 0; n < MAX_N; n++)
        norm[n] = sqrt(norm[n]);
}

/* The clipped products of each order. */
static void products(const corpus *c, const bag *candidate, const bag *reference, double dot[MAX_N])
{
    for (int n = 0; n < MAX_N; n++)
        dot[n] = 0;
    for (size_t i = 0, j = 0; i < candidate->n && j < reference->n;) {
        int d = compare_ngrams(&candidate->at[i], &reference->at[j]);
        if (d == 0) {
            double v = weight(c, &candidate->at[i]), w = weight(c, &reference->at[j]);
            dot[order_of(&reference->at[j].key)] += (v < w ? v : w) * w;
        }
        i += d <= 0;
        j += d >= 0;
    }
}

/* The reference measures length in pairs of words. */
static double n_pairs(const bag *b)
{
    return b->n_words ? (double)b->n_words - 1 : 0;
}

static double similarity(const corpus *c, const bag *candidate, const bag *reference)
{
    const double sigma = 6;
    double v[MAX_N], w[MAX_N], dot[MAX_N], sum = 0, delta = n_pairs(candidate) - n_pairs(reference);
    norms(c, candidate, v);
    norms(c, reference, w);
    products(c, candidate, reference, dot);
    for (int n = 0; n < MAX_N; n++)
        if (v[n] > 0 && w[n] > 0) sum += dot[n] / (v[n] * w[n]);
    return sum / MAX_N * exp(-delta * delta / (2 * sigma * sigma));
}

static double cider_d(const corpus *c, size_t i)
{
    const bag *candidate = &c->bags[c->first[i]];
    size_t n = c->captions[i].n_references;
    double sum = 0;
    for (size_t j = 1; j <= n; j++)
        sum += similarity(c, candidate, candidate + j);
    return 10 * sum / (double)n;
}

static void score_cider(corpus *c, eval_caption_scores *out)
{
    double sum = 0, squares = 0, n = (double)c->n;
    for (size_t i = 0; i < c->n; i++)
        sum += c->cider[i] = cider_d(c, i);
    out->cider_d = sum / n;
    for (size_t i = 0; i < c->n; i++)
        squares += (c->cider[i] - out->cider_d) * (c->cider[i] - out->cider_d);
    out->cider_d_margin = c->n > 1 ? 1.96 * sqrt(squares / (n - 1) / n) : 0;
}

/* ---- BLEU-4 ---- */

/* Of the references' lengths the closest, of two the shorter. */
static size_t closest_length(const bag *candidate, size_t n)
{
    size_t best = candidate[1].n_words, have = candidate->n_words;
    for (size_t j = 2; j <= n; j++) {
        size_t len = candidate[j].n_words, far = len > have ? len - have : have - len;
        size_t least = best > have ? best - have : have - best;
        if (far < least || (far == least && len < best)) best = len;
    }
    return best;
}

/* scratch: room for the n-grams of a caption's references. */
static double bleu4(const corpus *c, counted *scratch)
{
    const double tiny = 1e-15,
                 small = 1e-9; /* the reference's, so that nothing is divided by zero */
    double right[MAX_N] = {0}, all[MAX_N] = {0}, length = 0, wanted = 0, log_score = 0;
    for (size_t i = 0; i < c->n; i++) {
        const bag *candidate = &c->bags[c->first[i]];
        size_t n = unite(candidate + 1, c->captions[i].n_references, true, scratch);
        length += (double)candidate->n_words;
        wanted += (double)closest_length(candidate, c->captions[i].n_references);
        for (size_t k = 0; k < candidate->n; k++) {
            const counted *g = &candidate->at[k],
                          *most = bsearch(g, scratch, n, sizeof *g, compare_ngrams);
            all[order_of(&g->key)] += g->n;
            if (most) right[order_of(&g->key)] += g->n < most->n ? g->n : most->n;
        }
    }
    for (int n = 0; n < MAX_N; n++)
        log_score += log((right[n] + tiny) / (all[n] + small)) / MAX_N;
    double ratio = (length + tiny) / (wanted + small);
    return exp(log_score + (ratio < 1 ? 1 - 1 / ratio : 0));
}

static tvlm_status score_bleu(const corpus *c, eval_caption_scores *out, tvlm_error *err)
{
    size_t most = 0;
    for (size_t i = 0; i < c->n; i++) {
        size_t n = 0;
        for (size_t j = 1; j <= c->captions[i].n_references; j++)
            n += c->bags[c->first[i] + j].n;
        most = n > most ? n : most;
    }
    counted *scratch = malloc((most + 1) * sizeof *scratch);
    if (!scratch) return app_fail(err, TVLM_ERR_MEMORY, "out of memory for %zu n-grams", most);
    out->bleu4 = bleu4(c, scratch);
    free(scratch);
    return TVLM_OK;
}

/* ---- captions ---- */

static size_t count_distinct(const corpus *c)
{
    size_t n = 0;
    bool *seen = calloc(c->n_vocabulary + 2, sizeof *seen);
    for (size_t i = 0; seen && i < c->n; i++) {
        const bag *b = &c->bags[c->first[i]];
        for (size_t k = 0; k < b->n; k++) {
            uint32_t id = b->at[k].key.word[0];
            n += !seen[id];
            seen[id] = true;
        }
    }
    free(seen);
    return n;
}

tvlm_status eval_score_captions(const eval_caption *captions, size_t n, eval_caption_scores *out,
                                tvlm_error *err)
{
    corpus c = {.captions = captions, .n = n};
    *out = (eval_caption_scores){0};
    if (!n) return TVLM_OK;
    tvlm_status status = corpus_make(&c, err);
    if (!status) {
        score_cider(&c, out);
        status = score_bleu(&c, out, err);
        out->n_distinct_words = count_distinct(&c);
        for (size_t i = 0; i < n; i++)
            out->n_empty += !c.bags[c.first[i]].n_words;
    }
    corpus_free(&c);
    return status;
}

/* ---- answers ---- */

static word trimmed(const char *text)
{
    word w = {text + strspn(text, " \t\r\n"), 0};
    w.len = strlen(w.at);
    while (w.len && strchr(" \t\r\n.", w.at[w.len - 1]))
        w.len--;
    return w;
}

bool eval_same_answer(const char *a, const char *b)
{
    word v = trimmed(a), w = trimmed(b);
    return compare_words(&v, &w) == 0;
}

static bool begins(const char *text, const char *start)
{
    for (; *start; text++, start++)
        if (lower(*text) != *start) return false;
    return true;
}

const char *eval_kind(const char *question)
{
    static const char *const kinds[][2] = {
        {"is there",     "presence"},
        {"are there",    "presence"},
        {"how many",     "how many"},
        {"what color",   "colour"  },
        {"what colour",  "colour"  },
        {"where",        "where"   },
        {"what animal",  "animal"  },
        {"what vehicle", "vehicle" },
        {"what food",    "food"    },
        {"what is",      "what is" },
    };
    for (size_t i = 0; i < APP_COUNT(kinds); i++)
        if (begins(question, kinds[i][0])) return kinds[i][1];
    return "other";
}

void eval_interval(size_t k, size_t n, double *low, double *high)
{
    const double z = 1.96;
    double count = (double)n, p = n ? (double)k / count : 0, scale = 1 + z * z / count;
    *low = 0;
    *high = 1;
    if (!n) return;
    double centre = (p + z * z / (2 * count)) / scale;
    double half = z / scale * sqrt(p * (1 - p) / count + z * z / (4 * count * count));
    *low = centre > half ? centre - half : 0;
    *high = centre + half < 1 ? centre + half : 1;
}

double eval_calibration_error(const double *probability, const bool *right, size_t n)
{
    enum { BINS = 10 };
    double said[BINS] = {0}, was[BINS] = {0}, sum = 0;
    for (size_t i = 0; i < n; i++) {
        int bin = (int)(probability[i] * BINS);
        bin = bin < BINS ? bin : BINS - 1;
        said[bin] += probability[i];
        was[bin] += right[i];
    }
    for (int b = 0; b < BINS; b++)
        sum += fabs(said[b] - was[b]);
    return n ? sum / (double)n : 0;
}
