/* SPDX-License-Identifier: MIT
 * Speculation without a second model: what followed the longest earlier occurrence of the last
 * tokens may follow again (prompt lookup, Saxena 2023; arXiv:2304.04487). A pass over the weights
 * checks the whole draft; whoever chooses the tokens sees the logits of plain decoding, so a draft
 * changes the time an answer takes and nothing else. */
#include "engine/internal.h"

/* One more row of a pass, in passes: a row that comes true less often than this does not pay. */
#define ROW_COST 0.15f
#define PRIOR    0.5f

void tvlm_lookup_init(tvlm_lookup *l)
{
    for (size_t i = 0; i < TVLM_COUNT(l->chance); i++)
        l->chance[i] = PRIOR;
    l->n = l->at = 0;
}

/* Of a drafted token, when so many tokens before it are as in the earlier text. */
static float *chance(tvlm_lookup *l, size_t matched)
{
    size_t most = TVLM_COUNT(l->chance);
    return &l->chance[(matched < most ? matched : most) - 1];
}

/* Tokens up to `at` and up to the end, before `next`, that are the same, at most TVLM_MATCH. */
static size_t match(const tvlm_session *s, size_t at)
{
    const tvlm_history *h = s->history, *end = h + s->position;
    size_t n = 1;
    while (n <= at && n < TVLM_MATCH && tvlm_history_same(&h[at - n], end - n))
        n++;
    return n;
}

/* The latest of the longest matches; SIZE_MAX when `next` is new. */
static size_t find(const tvlm_session *s, int32_t next, size_t *longest)
{
    size_t found = SIZE_MAX;
    *longest = 0;
    for (size_t at = s->position; at-- > 0 && *longest < TVLM_MATCH;) {
        if (!tvlm_history_is_token(&s->history[at]) || s->history[at].id != next) continue;
        size_t n = match(s, at);
        if (n <= *longest) continue;
        *longest = n;
        found = at;
    }
    return found;
}

void tvlm_lookup_draft(tvlm_lookup *l, const tvlm_session *s, int32_t next, size_t most)
{
    size_t at = most ? find(s, next, &l->matched) : SIZE_MAX;
    l->n = l->at = 0;
    if (at == SIZE_MAX) return;
    /* what has failed is tried again, rarely */
    float *first = chance(l, l->matched), all = 1;
    if (*first < ROW_COST) *first += (PRIOR - *first) / 256;
    while (l->n < most && (all *= *chance(l, l->matched + l->n)) >= ROW_COST) {
        size_t from = at + 1 + l->n; /* earlier text, then `next`, then the draft itself */
        if (from < s->position && !tvlm_history_is_token(&s->history[from])) return;
        l->ids[l->n++] = from < s->position    ? s->history[from].id
                         : from == s->position ? next
                                               : l->ids[from - s->position - 1];
    }
}

bool tvlm_lookup_right(tvlm_lookup *l, int32_t id)
{
    if (l->at == l->n) return false;
    bool right = l->ids[l->at] == id;
    float *p = chance(l, l->matched + l->at);
    *p += ((right ? 1.0f : 0.0f) - *p) / 8;
    if (right)
        l->at++;
    else
        l->n = l->at;
    return right;
}
