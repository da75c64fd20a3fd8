/* SPDX-License-Identifier: MIT
 * The public objects. Lock order: batcher, then engine. */
#ifndef TVLM_INTERNAL_H
#define TVLM_INTERNAL_H

#include "image/split.h"
#include "lm/decoder.h"
#include "lm/sampler.h"
#include "model/arch.h"
#include "vision/vision.h"

typedef enum tvlm_turn_kind { TVLM_TURN_PASS, TVLM_TURN_IMAGE } tvlm_turn_kind;

struct tvlm_engine {
    tvlm_refs refs;            /* its maker and batchers */
    tvlm_model *model;         /* held */
    tvlm_engine_params params; /* defaults filled in */
    tvlm_pool *pool;
    unsigned char *scratch;
    size_t scratch_size;
    tvlm_arena arena;
    tvlm_decoder_row *rows; /* [max_batch_tokens] of the pass at hand */
    tvlm_mutex lock;        /* of what follows: one computation at a time */
    tvlm_cond idle;
    bool busy;
    tvlm_turn_kind last;       /* the latest computation's kind */
    struct tvlm_turn *waiting; /* whoever waited longest first */
};

struct tvlm_image {
    tvlm_refs refs;                      /* its maker, prompts and sessions */
    tvlm_model *model;                   /* held */
    tvlm_grid grid;                      /* frames that it was split into */
    size_t n_frames, n_tokens, n_vision; /* n_frames times the model's, of a frame */
    float *tokens;                       /* [n_tokens][n_embd] */
    float *vision;                       /* [n_vision][vision_dim], NULL unless kept */
    float *cross_kv;                     /* Tiny-VLM; see tvlm_cross_kv_floats */
    tvlm_hash id; /* of the tokens' bytes: names the image in a session's history */
    tvlm_image_timings timings;
};

struct tvlm_prompt {
    tvlm_model *model; /* held */
    int32_t *ids;
    size_t n_ids, cap_ids;
    tvlm_image **images; /* held, in the order of their TVLM_IMAGE_IDs, one a frame; Tiny-VLM: the
                            one image */
    size_t n_images, cap_images;
    size_t text_bytes;
    bool prefilled; /* it ends in the beginning of the answer */
    bool describes; /* it ends in the model's own question about an image */
};

/* What a position of the cache was made of: the token `id`, or row `id` of the image `image`. */
typedef struct tvlm_history {
    tvlm_hash image; /* zeros: a token */
    int32_t id;
} tvlm_history;
static inline bool tvlm_history_is_token(const tvlm_history *h)
{
    return !(h->image.a | h->image.b);
}
static inline bool tvlm_history_same(const tvlm_history *x, const tvlm_history *y)
{
    return tvlm_hash_same(x->image, y->image) && x->id == y->id;
}
/* The `image` of a row that the caller's embedding made: no prompt has it, and its id is -1. */
static inline tvlm_hash tvlm_hash_of_embedding(void)
{
    return (tvlm_hash){UINT64_MAX, UINT64_MAX};
}

/* Most tokens that are drafted for a pass: with them and the one before, 8 rows. */
enum { TVLM_MAX_DRAFT = 7 };

struct tvlm_session {
    tvlm_model *model; /* held */
    tvlm_session_params params;
    tvlm_kv kv;
    tvlm_history *history; /* [n_ctx] */
    uint32_t position;
    tvlm_image *image; /* Tiny-VLM: the image that rows cross-attend to, held */
    tvlm_hash image_id;
    float *logits;              /* [1 + TVLM_MAX_DRAFT][n_vocab] of the last pass */
    size_t logits_row;          /* of them, the last position's */
    tvlm_candidate *candidates; /* [n_vocab] */
    int32_t *ids;               /* [n_ctx + 1] of the last answer */
    uint32_t n_said;            /* of them, with those of the answer that it resumed */
    uint32_t n_unsent;          /* bytes at the end of its text: a stop string may begin there */
    uint64_t random;            /* state of the draws behind them */
    char *text;                 /* the answer, whole */
    /* With max_beams over 1: [max_beams - 1] more caches with their history and position, and
     * [max_beams][n_ctx] ids; see beam.c. */
    tvlm_session *beams;
    int32_t *beam_ids;
};

/* Fills `out` with defaults, then with what the caller's struct (nullable) sets. */
tvlm_status tvlm_engine_params_read(const tvlm_engine_params *in, tvlm_engine_params *out,
                                    tvlm_error *err);
tvlm_status tvlm_session_params_read(const tvlm_model *model, const tvlm_session_params *in,
                                     tvlm_session_params *out, tvlm_error *err);

/* Sizes: the constructors allocate exactly these, the estimate adds them up. */
typedef struct tvlm_scratch {
    size_t bytes;                    /* the more of the two that take turns */
    size_t vision, decoder, largest; /* largest: buffer */
} tvlm_scratch;
/* Makes passes smaller where max_memory asks for it. */
tvlm_status tvlm_engine_fit(const tvlm_model *model, tvlm_engine_params *params, tvlm_scratch *out,
                            tvlm_error *err);
size_t tvlm_engine_bytes(const tvlm_engine_params *params, size_t scratch);
tvlm_status tvlm_session_bytes(const tvlm_model *model, const tvlm_session_params *params,
                               size_t *out, tvlm_error *err);
size_t tvlm_image_bytes(const tvlm_model *model); /* at most; SIZE_MAX: more than that */

/* Whether an image is split when it is fitted so. */
bool tvlm_model_splits(const tvlm_model *model, tvlm_fit fit);
/* What preprocessing takes from an arena for any image up to side x side. */
size_t tvlm_model_preprocess_bytes(const tvlm_model *model, uint32_t side, unsigned n_threads);

/* With room for what encoding makes; `vision`: for the tower's output too. */
tvlm_status tvlm_image_new(const tvlm_model *model, tvlm_grid grid, bool vision, tvlm_image **out,
                           tvlm_error *err);
/* Of the tokens: never zeros. */
tvlm_hash tvlm_image_hash(const tvlm_image *image);
size_t tvlm_image_token_floats(const tvlm_image *image);
size_t tvlm_image_vision_floats(const tvlm_image *image);
size_t tvlm_image_cross_floats(const tvlm_model *model);
/* Another reference, for the _free function to drop. */
tvlm_image *tvlm_image_retain(const tvlm_image *image);
tvlm_engine *tvlm_engine_retain(tvlm_engine *engine);

/* A line for the caller's log. */
void tvlm_engine_log(const tvlm_engine *engine, const char *format, ...) TVLM_PRINTF(2, 3);

/* One computation, alone on the engine. Waits for its turn, or fails when cancelled first. Passes
 * and images take turns where both wait; of a kind, whoever came first. */
tvlm_status tvlm_engine_begin(tvlm_engine *engine, tvlm_turn_kind kind, const tvlm_cancel *cancel,
                              tvlm_cx *cx, tvlm_error *err);
void tvlm_engine_end(tvlm_engine *engine);

/* A caller that may be cancelled waits this long at a time, as a request wakes nobody. */
enum { TVLM_GLANCE_MS = 5 };

/* The first `n` positions of the session stay. */
void tvlm_session_truncate(tvlm_session *session, uint32_t n);

/* None is NULL, engine and session are of one model. */
tvlm_status tvlm_feed_check(const tvlm_engine *engine, const tvlm_session *session,
                            const tvlm_prompt *prompt, tvlm_error *err);
/* A prompt on its way into a session: plan a piece, read it in a pass, take it, until all is read.
 * The first rows that the session holds already are not read again, unless all logits are wanted.
 */
enum { TVLM_CHUNK = 256 }; /* rows of a piece, at most */
typedef struct tvlm_feed {
    tvlm_session *session;
    const tvlm_prompt *prompt;
    size_t id, image, row;           /* next id; next image; row inside it */
    size_t at, n_rows;               /* rows that the session holds, of the prompt */
    bool want_all;                   /* logits */
    tvlm_history source[TVLM_CHUNK]; /* of the piece */
    size_t n;
} tvlm_feed;
tvlm_status tvlm_feed_begin(tvlm_feed *feed, tvlm_session *session, const tvlm_prompt *prompt,
                            bool want_all, tvlm_error *err);
/* The next piece, of at most `most` rows. */
size_t tvlm_feed_plan(tvlm_feed *feed, size_t most, tvlm_input *rows);
bool tvlm_feed_take(tvlm_feed *feed); /* true: all is read */

/* Drafts from a session's text; see lookup.c. */
enum { TVLM_MATCH = 8 };
typedef struct tvlm_lookup {
    float chance[TVLM_MATCH]; /* that a token drafted after a match of 1, 2, ... is the one */
    size_t matched;           /* of the draft at hand */
    size_t n, at;             /* its tokens, and those that came true */
    int32_t ids[TVLM_MAX_DRAFT];
} tvlm_lookup;
void tvlm_lookup_init(tvlm_lookup *lookup);
/* Drafts at most `most` tokens that may follow the session's rows and `next`: few or none where
 * drafts have failed. */
void tvlm_lookup_draft(tvlm_lookup *lookup, const tvlm_session *session, int32_t next, size_t most);
/* Whether the draft's next token is `id`, from which it learns; one that was wrong ends it. */
bool tvlm_lookup_right(tvlm_lookup *lookup, int32_t id);

/* Beam search; see beam.c. */
typedef struct tvlm_hypothesis {
    double sum;   /* of its tokens' log probabilities */
    uint32_t row; /* before its newest token: rank of the hypothesis that it extends */
    uint32_t slot;
    int32_t id; /* newest */
} tvlm_hypothesis;
typedef struct tvlm_beam {
    tvlm_session *session;
    const tvlm_generate_params *params;
    uint32_t begin;      /* positions of the prompt */
    size_t length, most; /* tokens of those that live; of an answer */
    size_t n_live, n_ended;
    tvlm_hypothesis live[TVLM_MAX_BEAMS]; /* best first */
    double best;                          /* score of the best that ended */
    size_t n_best;                        /* its ids, at the session's */
    bool over;
} tvlm_beam;
/* After the session has read its prompt; params must live as long. */
void tvlm_beam_begin(tvlm_beam *beam, tvlm_session *session, const tvlm_generate_params *params);
/* A row with logits for each hypothesis; none when the search is over. */
size_t tvlm_beam_plan(const tvlm_beam *beam, tvlm_input *rows);
/* Their logits are at the session's, at first those of the prompt. True: the search is over, and
 * the session at its prompt again. */
bool tvlm_beam_take(tvlm_beam *beam);
/* End-of-text of the model. */
bool tvlm_ends(const tvlm_session *session, int32_t id);

/* A submitted generation's place in its batcher. */
typedef struct tvlm_request tvlm_request;

/* Rows of one answer for a pass; at most max_batch_tokens, of which 1 + TVLM_MAX_DRAFT have
 * logits. */
typedef struct tvlm_pass {
    const tvlm_input *rows;
    size_t n_rows;
    const tvlm_cancel *cancel;
    float *logits;
} tvlm_pass;

/* A generation in steps, for whoever runs its passes: plan a pass (without rows: none is needed),
 * run it, take it. Once take returns true, the next token can be chosen. */
tvlm_status tvlm_generation_plan(tvlm_generation *generation, tvlm_pass *out, tvlm_error *err);
bool tvlm_generation_take(tvlm_generation *generation);
tvlm_status tvlm_generation_choose(tvlm_generation *generation, tvlm_event *event, tvlm_error *err);
tvlm_status tvlm_event_check(const tvlm_event *event, tvlm_error *err);
bool tvlm_generation_over(const tvlm_generation *generation);
/* Submitted: the batcher runs it until it is over. */
tvlm_status tvlm_generation_attach(tvlm_generation *generation, tvlm_batcher *batcher,
                                   tvlm_request *request, tvlm_error *err);
void tvlm_generation_detach(tvlm_generation *generation);

/* A call that shares passes joins first, and leaves when it ends: a pass then need not wait for
 * calls that do not exist. Between them it holds the batcher. */
tvlm_status tvlm_batcher_check(const tvlm_batcher *batcher, const tvlm_engine *engine,
                               tvlm_error *err);
void tvlm_batcher_join(tvlm_batcher *batcher);
void tvlm_batcher_leave(tvlm_batcher *batcher);

/* Rows that a call between join and leave may have in one pass: of its prompt; of a step of its
 * answer, all with logits. Fewer the more calls there are. */
size_t tvlm_batcher_prompt_rows(tvlm_batcher *batcher);
size_t tvlm_batcher_step_rows(tvlm_batcher *batcher);

/* A decoder pass shared with other sessions, between join and leave; see batch.c. */
tvlm_status tvlm_batcher_forward(tvlm_batcher *batcher, const tvlm_pass *pass, tvlm_error *err);
/* Forgets a request whose generation is freed before it is over. */
void tvlm_batcher_withdraw(tvlm_batcher *batcher, tvlm_request *request);

#endif
