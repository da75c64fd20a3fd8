/* SPDX-License-Identifier: MIT
 * Filters keep a prefix of the candidates. Those that need an order take it from a heap, best
 * first, as far as they need it: a vocabulary has 150,000 ids and the choice falls on a few. */
#include "lm/sampler.h"

#include "kernels/math.h"

#include <math.h>
#include <string.h>

void tvlm_sampling_init(tvlm_sampling *sampling)
{
    if (sampling) *sampling = (tvlm_sampling)TVLM_SAMPLING_DEFAULTS;
}

static tvlm_status check(const char *name, float value, bool valid, tvlm_error *err)
{
    return valid ? TVLM_OK
                 : tvlm_fail(err, TVLM_ERR_ARGUMENT, "sampling.%s is %g", name, (double)value);
}

tvlm_status tvlm_sampling_check(const tvlm_sampling *s, tvlm_error *err)
{
    /* comparisons are false for what is not a number */
    TVLM_TRY(
        check("temperature", s->temperature, s->temperature >= 0 && s->temperature <= 1e6f, err));
    TVLM_TRY(check("top_p", s->top_p, s->top_p >= 0 && s->top_p <= 1, err));
    TVLM_TRY(check("min_p", s->min_p, s->min_p >= 0 && s->min_p <= 1, err));
    TVLM_TRY(check("repeat_penalty", s->repeat_penalty,
                   s->repeat_penalty > 0 && s->repeat_penalty <= 1e6f, err));
    for (size_t i = 0; i < TVLM_COUNT(s->reserved); i++)
        if (s->reserved[i])
            return tvlm_fail(err, TVLM_ERR_ARGUMENT, "sampling.reserved is not zero");
    return TVLM_OK;
}

/* splitmix64 (Steele, Lea, Flood 2014) -> [0, 1) */
static double draw(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static bool better(const tvlm_candidate *x, const tvlm_candidate *y)
{
    return x->logit != y->logit ? x->logit > y->logit : x->id < y->id;
}

static void swap(tvlm_candidate *x, tvlm_candidate *y)
{
    tvlm_candidate t = *x;
    *x = *y;
    *y = t;
}

/* ---- the heap: best at c[0] ---- */

static void sift_down(tvlm_candidate *c, size_t n, size_t i)
{
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && better(&c[child + 1], &c[child])) child++;
        if (!better(&c[child], &c[i])) return;
        swap(&c[i], &c[child]);
    }
}

static void heapify(tvlm_candidate *c, size_t n)
{
    for (size_t i = n / 2; i-- > 0;)
        sift_down(c, n, i);
}

/* Moves the best to the front, best first, until `most` are there or their p sum to `enough`, at
 * least one; says how many. */
static size_t best_first(tvlm_candidate *c, size_t n, size_t most, double enough)
{
    double sum = 0;
    size_t k = 0;
    heapify(c, n);
    do {
        sum += (double)c[0].p;
        k++;
        swap(&c[0], &c[n - k]);
        sift_down(c, n - k, 0);
    } while (k < most && sum < enough);
    for (size_t i = 0; i < n / 2; i++)
        swap(&c[i], &c[n - 1 - i]);
    return k;
}

/* ---- candidates ---- */

/* Clamped, so that differences of logits are numbers. */
static float clamp(float v)
{
    return v > 3.0e38f ? 3.0e38f : v < -3.0e38f ? -3.0e38f : v;
}

/* The choosable ids in rising order; those whose logit is not a number only if `all`. */
static size_t collect(const tvlm_tokenizer *tokenizer, const float *logits, uint32_t n_vocab,
                      bool all, tvlm_candidate *out)
{
    uint32_t known = tvlm_tokenizer_count(tokenizer);
    size_t n = 0;
    for (uint32_t i = 0; i < n_vocab && i < known; i++) {
        bool number = logits[i] >= -3.0e38f; /* false for NaN and minus infinity */
        if ((number || all) && tvlm_tokenizer_choosable(tokenizer, (int32_t)i))
            out[n++] = (tvlm_candidate){number ? clamp(logits[i]) : 0, 0, (int32_t)i};
    }
    return n;
}

static tvlm_candidate *find(tvlm_candidate *c, size_t n, int32_t id)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (c[mid].id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < n && c[lo].id == id ? &c[lo] : NULL;
}

/* Once for an id however often it came (CTRL, arXiv:1909.05858); p marks those done. */
static void penalise(tvlm_candidate *c, size_t n, float penalty, const int32_t *recent,
                     size_t n_recent)
{
    for (size_t i = 0; i < n_recent; i++) {
        tvlm_candidate *at = find(c, n, recent[i]);
        if (!at || at->p > 0) continue;
        at->logit = clamp(at->logit > 0 ? at->logit / penalty : at->logit * penalty);
        at->p = 1;
    }
}

/* Drops what would complete an n-gram that the ids have already; the last candidate stays. */
static size_t drop_repeats(tvlm_candidate *c, size_t n, size_t ngram, const int32_t *ids,
                           size_t n_ids)
{
    for (size_t end = ngram; ngram && end <= n_ids && n > 1; end++) {
        size_t before = ngram - 1;
        if (memcmp(ids + end - ngram, ids + n_ids - before, before * sizeof *ids) != 0) continue;
        tvlm_candidate *at = find(c, n, ids[end - 1]);
        if (!at) continue;
        n--;
        memmove(at, at + 1, (size_t)(c + n - at) * sizeof *at);
    }
    return n;
}

/* The ids that may be chosen, in rising order. */
static size_t allowed(const tvlm_tokenizer *tokenizer, const float *logits, uint32_t n_vocab,
                      uint32_t ngram, const int32_t *recent, size_t n_recent, tvlm_candidate *c)
{
    size_t n = collect(tokenizer, logits, n_vocab, false, c);
    if (!n) n = collect(tokenizer, logits, n_vocab, true, c);
    return drop_repeats(c, n, ngram, recent, n_recent);
}

static size_t best_of(const tvlm_candidate *c, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (better(&c[i], &c[best])) best = i;
    return best;
}

/* The best of what collect gives without making the list: most ids are passed by after one
 * comparison. -1 when no choosable id is above the least number. */
static int32_t greedy(const tvlm_tokenizer *tokenizer, const float *logits, uint32_t n_vocab)
{
    int32_t best = -1;
    float most = -3.0e38f;
    for (uint32_t i = 0; i < n_vocab; i++) {
        if (!(logits[i] > most)) continue; /* NaN neither */
        if (clamp(logits[i]) > most && tvlm_tokenizer_choosable(tokenizer, (int32_t)i)) {
            most = clamp(logits[i]);
            best = (int32_t)i;
        }
    }
    return best;
}

/* ---- filters ---- */

static void softmax(tvlm_candidate *c, size_t n, float temperature)
{
    float most = c[best_of(c, n)].logit;
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        c[i].p = tvlm_exp1((c[i].logit - most) / temperature);
        sum += (double)c[i].p;
    }
    for (size_t i = 0; i < n; i++)
        c[i].p = (float)((double)c[i].p / sum);
}

static size_t keep_top_p(tvlm_candidate *c, size_t n, float top_p)
{
    softmax(c, n, 1.0f);
    return best_first(c, n, n, (double)top_p);
}

static size_t keep_min_p(tvlm_candidate *c, size_t n, float min_p)
{
    size_t kept = 0;
    softmax(c, n, 1.0f);
    float least = min_p * c[best_of(c, n)].p;
    for (size_t i = 0; i < n; i++)
        if (c[i].p >= least) c[kept++] = c[i];
    return kept;
}

int32_t tvlm_sampler_choose(const tvlm_tokenizer *tokenizer, const float *logits, uint32_t n_vocab,
                            const tvlm_sampling *s, const int32_t *recent, size_t n_recent,
                            tvlm_candidate *c, uint64_t *state)
{
    size_t last = s->repeat_last_n;
    bool penalty = s->repeat_penalty != 1.0f && last;
    if (!penalty && !s->no_repeat_ngram && !(s->temperature > 0)) {
        int32_t best = greedy(tokenizer, logits, n_vocab);
        if (best >= 0) return best;
    }
    size_t n = allowed(tokenizer, logits, n_vocab, s->no_repeat_ngram, recent, n_recent, c);
    if (!n) return 0; /* a vocabulary of unused tokens */
    if (penalty && n_recent) {
        size_t skip = n_recent > last ? n_recent - last : 0;
        penalise(c, n, s->repeat_penalty, recent + skip, n_recent - skip);
    }
    if (!(s->temperature > 0)) return c[best_of(c, n)].id;
    if (s->top_k && s->top_k < n) n = best_first(c, n, s->top_k, INFINITY);
    if (s->top_p < 1) n = keep_top_p(c, n, s->top_p);
    if (s->min_p > 0) n = keep_min_p(c, n, s->min_p);
    softmax(c, n, s->temperature);
    double at = draw(state), sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)c[i].p;
        if (at < sum) return c[i].id;
    }
    return c[n - 1].id;
}

size_t tvlm_sampler_best(const tvlm_tokenizer *tokenizer, const float *logits, uint32_t n_vocab,
                         uint32_t no_repeat_ngram, const int32_t *recent, size_t n_recent,
                         tvlm_candidate *c, size_t n)
{
    size_t all = allowed(tokenizer, logits, n_vocab, no_repeat_ngram, recent, n_recent, c);
    return all ? best_first(c, all, n < all ? n : all, INFINITY) : 0;
}

/* ---- chances ---- */

double tvlm_sampler_log_sum(const float *logits, uint32_t n_vocab)
{
    float best = logits[0];
    double sum = 0;
    for (uint32_t i = 0; i < n_vocab; i++)
        best = logits[i] > best ? logits[i] : best;
    for (uint32_t i = 0; i < n_vocab; i++)
        sum += exp((double)logits[i] - (double)best);
    return (double)best + log(sum);
}

/* Insertion into top[0..n), which holds `have` of the logits so far. */
static size_t keep_best(tvlm_alternative *top, size_t n, size_t have, tvlm_alternative x)
{
    if (have == n && !(n && x.logprob > top[n - 1].logprob)) return have;
    size_t at = have < n ? have++ : n - 1;
    for (; at > 0 && x.logprob > top[at - 1].logprob; at--)
        top[at] = top[at - 1];
    top[at] = x;
    return have;
}

float tvlm_sampler_logprobs(const float *logits, uint32_t n_vocab, int32_t id,
                            tvlm_alternative *top, size_t n)
{
    size_t have = 0;
    double all = tvlm_sampler_log_sum(logits, n_vocab);
    for (uint32_t i = 0; i < n_vocab; i++)
        have = keep_best(top, n, have, (tvlm_alternative){(int32_t)i, logits[i]});
    for (size_t i = 0; i < have; i++)
        top[i].logprob = (float)((double)top[i].logprob - all);
    return (float)((double)logits[id] - all);
}
