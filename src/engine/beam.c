/* SPDX-License-Identifier: MIT
 * Beam search. Of all extensions of the living hypotheses by one token, the best live on; one that
 * ends is judged by the mean log probability of its tokens, as by transformers with length_penalty
 * 1 (Wu et al., arXiv:1609.08144, section 7, divide by a power of the length). An end counts where
 * it is among the `beams` best extensions. The search is over when so many have ended and the best
 * of them is better than all that live, or when an answer cannot be longer.
 *
 * A slot is a KV cache, which has read all but the newest token of its hypothesis, and the
 * hypothesis's ids. A pass has a row for each. The best extension of a hypothesis stays in its
 * slot, the others are copied to slots whose hypotheses died: nothing that is still needed is
 * written over. Slot 0 is the session itself. */
#include "engine/internal.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static_assert(TVLM_MAX_BEAMS <= 1 + TVLM_MAX_DRAFT, "a session has logits for so many rows");

/* Of a hypothesis, so that all that live next and both ends may be among them. */
enum { EXTENSIONS = TVLM_MAX_BEAMS + 2, NO_SLOT = TVLM_MAX_BEAMS };

static tvlm_session *cache(const tvlm_beam *b, uint32_t slot)
{
    return slot ? &b->session->beams[slot - 1] : b->session;
}

static int32_t *ids(const tvlm_beam *b, uint32_t slot)
{
    return b->session->beam_ids + (size_t)slot * b->session->params.n_ctx;
}

bool tvlm_ends(const tvlm_session *s, int32_t id)
{
    return id == s->model->config.eos_id || id == s->model->config.eot_id;
}

void tvlm_beam_begin(tvlm_beam *b, tvlm_session *s, const tvlm_generate_params *p)
{
    size_t room = (size_t)s->params.n_ctx - s->position + 1; /* the last id is not read */
    *b = (tvlm_beam){.session = s,
                     .params = p,
                     .begin = s->position,
                     .most = room < p->max_tokens ? room : p->max_tokens,
                     .n_live = 1,
                     .best = -INFINITY};
    for (uint32_t slot = 1; slot < p->beams; slot++) {
        tvlm_session *to = cache(b, slot);
        tvlm_kv_copy(&to->kv, &s->kv, 0, s->position);
        to->image = s->image; /* the session holds it */
        to->position = s->position;
    }
}

size_t tvlm_beam_plan(const tvlm_beam *b, tvlm_input *rows)
{
    if (b->over) return 0;
    for (size_t i = 0; i < b->n_live; i++)
        rows[i] = (tvlm_input){cache(b, b->live[i].slot), b->live[i].id, NULL, true};
    return b->n_live;
}

/* ---- a step ---- */

static bool may_follow(const tvlm_beam *b, int32_t id)
{
    bool early = b->length < b->params->min_tokens && !b->params->ignore_eos;
    return !early || !tvlm_ends(b->session, id);
}

/* Among out[0..n), best first, behind its equals. */
static void insert(tvlm_hypothesis *out, size_t n, tvlm_hypothesis x)
{
    for (; n > 0 && x.sum > out[n - 1].sum; n--)
        out[n] = out[n - 1];
    out[n] = x;
}

/* Adds the best extensions of hypothesis i to n others: how many there are now. */
static size_t extend(const tvlm_beam *b, uint32_t i, double log_sum, tvlm_hypothesis *out, size_t n)
{
    tvlm_session *s = b->session;
    const tvlm_hypothesis *h = &b->live[i];
    uint32_t n_vocab = s->model->config.lm.n_vocab;
    size_t found = tvlm_sampler_best(s->model->tokenizer, s->logits + (size_t)i * n_vocab, n_vocab,
                                     b->params->sampling.no_repeat_ngram, ids(b, h->slot),
                                     b->length, s->candidates, b->params->beams + 2);
    for (size_t k = 0; k < found; k++) {
        const tvlm_candidate *c = &s->candidates[k];
        double sum = h->sum + ((double)c->logit - log_sum);
        if (may_follow(b, c->id)) insert(out, n++, (tvlm_hypothesis){sum, i, NO_SLOT, c->id});
    }
    return n;
}

/* The extensions of all, best first; false at logits that are no numbers, which stay the session's:
 * whoever looks finds the weights damaged. */
static bool extend_all(const tvlm_beam *b, tvlm_hypothesis *out, size_t *n)
{
    tvlm_session *s = b->session;
    size_t n_vocab = s->model->config.lm.n_vocab;
    *n = 0;
    for (uint32_t i = 0; i < b->n_live; i++) {
        double log_sum = tvlm_sampler_log_sum(s->logits + i * n_vocab, (uint32_t)n_vocab);
        s->logits_row = i;
        if (!isfinite(log_sum)) return false;
        *n = extend(b, i, log_sum, out, *n);
    }
    s->logits_row = 0;
    return true;
}

/* The ids of a slot and, if it is one, an end behind them. */
static void judge(tvlm_beam *b, double sum, uint32_t slot, int32_t end)
{
    size_t n = b->length + (end >= 0);
    double score = sum / (double)n;
    if (!(score > b->best)) return; /* of no tokens: not a number */
    b->best = score;
    b->n_best = n;
    memcpy(b->session->ids, ids(b, slot), b->length * sizeof(int32_t));
    if (end >= 0) b->session->ids[b->length] = end;
}

/* Judges those that end; the others, at most as many as there are beams, stay: how many. */
static size_t part(tvlm_beam *b, tvlm_hypothesis *all, size_t n)
{
    size_t kept = 0;
    for (size_t rank = 0; rank < n && kept < b->params->beams; rank++) {
        const tvlm_hypothesis h = all[rank];
        bool ends = !b->params->ignore_eos && tvlm_ends(b->session, h.id);
        if (!ends) {
            all[kept++] = h;
        } else if (rank < b->params->beams) {
            judge(b, h.sum, b->live[h.row].slot, h.id);
            b->n_ended++;
        }
    }
    return kept;
}

static void copy(const tvlm_beam *b, uint32_t to, uint32_t from)
{
    tvlm_session *target = cache(b, to);
    const tvlm_session *source = cache(b, from);
    tvlm_kv_copy(&target->kv, &source->kv, b->begin, source->position);
    memcpy(target->history + b->begin, source->history + b->begin,
           (source->position - b->begin) * sizeof *source->history);
    memcpy(ids(b, to), ids(b, from), b->length * sizeof(int32_t));
    target->position = source->position;
}

/* The best extension of each hypothesis stays where that was. */
static void stay(const tvlm_beam *b, tvlm_hypothesis *next, size_t n, bool *taken)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t slot = b->live[next[i].row].slot;
        if (!taken[slot]) next[i].slot = slot;
        taken[slot] = true;
    }
}

/* The others take what is free. */
static void move(const tvlm_beam *b, tvlm_hypothesis *next, size_t n, const bool *taken)
{
    uint32_t slot = 0;
    for (size_t i = 0; i < n; i++) {
        if (next[i].slot != NO_SLOT) continue;
        while (taken[slot])
            slot++;
        next[i].slot = slot++;
        copy(b, next[i].slot, b->live[next[i].row].slot);
    }
}

/* The next to live. */
static void place(tvlm_beam *b, tvlm_hypothesis *next, size_t n)
{
    bool taken[TVLM_MAX_BEAMS] = {false};
    stay(b, next, n, taken);
    move(b, next, n, taken);
    for (size_t i = 0; i < n; i++)
        ids(b, next[i].slot)[b->length] = next[i].id;
    memcpy(b->live, next, n * sizeof *next);
    b->n_live = n;
    b->length++;
}

static bool is_decided(const tvlm_beam *b)
{
    return b->length == b->most ||
           (b->n_ended >= b->params->beams && b->best >= b->live[0].sum / (double)b->length);
}

/* Those that live are cut here. */
static void finish(tvlm_beam *b)
{
    for (size_t i = 0; i < b->n_live; i++)
        judge(b, b->live[i].sum, b->live[i].slot, -1);
    tvlm_session_truncate(b->session, b->begin);
    b->over = true;
}

bool tvlm_beam_take(tvlm_beam *b)
{
    tvlm_hypothesis all[TVLM_MAX_BEAMS * EXTENSIONS];
    size_t n;
    b->over = !extend_all(b, all, &n);
    if (b->over) return true;
    n = part(b, all, n);
    if (n) place(b, all, n);
    if (!n || is_decided(b)) finish(b);
    return b->over;
}
