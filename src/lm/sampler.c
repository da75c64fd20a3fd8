/* SPDX-License-Identifier: MIT */
#include "lm/sampler.h"

#include <math.h>

/* splitmix64 (Steele, Lea, Flood 2014) -> [0, 1) */
static double draw(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

/* Ties go to the lower id, on every platform. */
static bool before(const tvlm_candidate *x, const tvlm_candidate *y)
{
    return x->logit != y->logit ? x->logit > y->logit : x->id < y->id;
}

static void sift_down(tvlm_candidate *c, size_t n, size_t i)
{
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(&c[child], &c[child + 1])) /* the last of all at the root */
            child++;
        if (!before(&c[i], &c[child])) return;
        tvlm_candidate swap = c[i];
        c[i] = c[child];
        c[child] = swap;
    }
}

/* Heap sort, best first: qsort may allocate. */
static void sort(tvlm_candidate *c, size_t n)
{
    for (size_t i = n / 2; i-- > 0;)
        sift_down(c, n, i);
    for (size_t end = n; end-- > 1;) {
        tvlm_candidate worst = c[0];
        c[0] = c[end];
        c[end] = worst;
        sift_down(c, end, 0);
    }
}

static bool was_recent(const int32_t *recent, size_t n, int32_t id)
{
    for (size_t i = 0; i < n; i++)
        if (recent[i] == id) return true;
    return false;
}

/* The choosable ids with their penalised logits. */
static size_t collect(const tvlm_tokenizer *tokenizer, const float *logits, uint32_t n_vocab,
                      float penalty, const int32_t *recent, size_t n_recent, tvlm_candidate *out)
{
    uint32_t known = tvlm_tokenizer_count(tokenizer);
    size_t n = 0;
    for (uint32_t i = 0; i < n_vocab && i < known; i++) {
        float v = logits[i];
        if (!(v >= -3.0e38f) || !tvlm_tokenizer_choosable(tokenizer, (int32_t)i)) /* NaN fails */
            continue;
        if (penalty != 1.0f && was_recent(recent, n_recent, (int32_t)i))
            v = v > 0 ? v / penalty : v * penalty;
        out[n++] = (tvlm_candidate){v, 0, (int32_t)i};
    }
    return n;
}

static void softmax(tvlm_candidate *c, size_t n, float temperature)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        c[i].p = expf((c[i].logit - c[0].logit) / temperature);
        sum += (double)c[i].p;
    }
    for (size_t i = 0; i < n; i++)
        c[i].p = (float)((double)c[i].p / sum);
}

static size_t keep_top_p(tvlm_candidate *c, size_t n, float top_p)
{
    double sum = 0;
    softmax(c, n, 1.0f);
    for (size_t i = 0; i < n; i++) {
        sum += (double)c[i].p;
        if (sum >= (double)top_p) return i + 1;
    }
    return n;
}

static size_t keep_min_p(tvlm_candidate *c, size_t n, float min_p)
{
    softmax(c, n, 1.0f);
    size_t kept = 1;
    while (kept < n && c[kept].p >= min_p * c[0].p)
        kept++;
    return kept;
}

int32_t tvlm_sampler_choose(const tvlm_tokenizer *tokenizer, const float *logits, uint32_t n_vocab,
                            const tvlm_sampling *s, const int32_t *recent, size_t n_recent,
                            tvlm_candidate *c, uint64_t *state)
{
    float penalty = s->repeat_penalty > 0 ? s->repeat_penalty : 1.0f;
    size_t last = s->repeat_last_n ? s->repeat_last_n : 64;
    if (n_recent > last) {
        recent += n_recent - last;
        n_recent = last;
    }
    size_t n = collect(tokenizer, logits, n_vocab, penalty, recent, n_recent, c);
    if (!n) return 0; /* no logit is a number */
    if (!(s->temperature > 0)) {
        size_t best = 0;
        for (size_t i = 1; i < n; i++)
            if (c[i].logit > c[best].logit) best = i;
        return c[best].id;
    }
    sort(c, n);
    if (s->top_k && s->top_k < n) n = s->top_k;
    if (s->top_p > 0 && s->top_p < 1) n = keep_top_p(c, n, s->top_p);
    if (s->min_p > 0) n = keep_min_p(c, n, s->min_p);
    softmax(c, n, s->temperature);
    double at = draw(state), sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)c[i].p;
        if (at < sum) return c[i].id;
    }
    return c[n - 1].id;
}
