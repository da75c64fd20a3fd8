/* SPDX-License-Identifier: MIT
 * Text and images -> ids. */
#include "engine/internal.h"

#include <stdlib.h>
#include <string.h>

#define MAX_PROMPT_BYTES ((size_t)64 << 20) /* hard cap; sessions have limits of their own */

tvlm_status tvlm_prompt_new(const tvlm_model *model, tvlm_prompt **out, tvlm_error *err)
{
    TVLM_NEED(out);
    *out = NULL;
    TVLM_NEED(model);
    tvlm_prompt *p = calloc(1, sizeof *p);
    if (!p) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    p->model = tvlm_model_retain(model);
    *out = p;
    return TVLM_OK;
}

/* Back to the first n_ids ids and n_images images. */
static void truncate_to(tvlm_prompt *p, size_t n_ids, size_t n_images, size_t text_bytes)
{
    while (p->n_images > n_images)
        tvlm_image_free(p->images[--p->n_images]);
    p->n_ids = n_ids;
    p->text_bytes = text_bytes;
}

void tvlm_prompt_free(tvlm_prompt *prompt)
{
    if (!prompt) return;
    truncate_to(prompt, 0, 0, 0);
    free(prompt->ids);
    free(prompt->images);
    tvlm_model_free(prompt->model);
    free(prompt);
}

const int32_t *tvlm_prompt_ids(const tvlm_prompt *prompt, size_t *n)
{
    if (n) *n = prompt ? prompt->n_ids : 0;
    return prompt ? prompt->ids : NULL;
}

size_t tvlm_prompt_n_tokens(const tvlm_prompt *prompt)
{
    if (!prompt) return 0;
    size_t n = prompt->n_ids;
    if (prompt->model->config.lm.cross_attention) return n;
    for (size_t i = 0; i < prompt->n_images; i++)
        n += prompt->images[i]->n_tokens - prompt->images[i]->n_frames; /* an id for each frame */
    return n;
}

static tvlm_status reserve_ids(tvlm_prompt *p, size_t more, tvlm_error *err)
{
    p->describes = false; /* with more behind it */
    if (p->cap_ids - p->n_ids >= more) return TVLM_OK;
    size_t cap = p->n_ids + more + p->n_ids / 2 + 64, bytes;
    int32_t *grown = tvlm_mul_size(cap, sizeof *grown, &bytes) ? realloc(p->ids, bytes) : NULL;
    if (!grown) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    p->ids = grown;
    p->cap_ids = cap;
    return TVLM_OK;
}

/* The spans as one string. */
static tvlm_status add_spans(tvlm_prompt *p, const tvlm_span *spans, size_t n, tvlm_error *err)
{
    size_t bytes = 0, needed;
    for (size_t i = 0; i < n; i++) {
        if (spans[i].text.len > MAX_PROMPT_BYTES - p->text_bytes - bytes)
            return tvlm_fail(err, TVLM_ERR_LIMIT, "the prompt's text is over %zu bytes",
                             MAX_PROMPT_BYTES);
        bytes += spans[i].text.len;
    }
    if (!bytes) return TVLM_OK;
    const tvlm_tokenizer *t = p->model->tokenizer;
    TVLM_TRY(reserve_ids(p, bytes / 2 + 16, err));
    TVLM_TRY(tvlm_tokenizer_encode_spans(t, spans, n, p->ids + p->n_ids, p->cap_ids - p->n_ids,
                                         &needed, err));
    if (needed > p->cap_ids - p->n_ids) {
        TVLM_TRY(reserve_ids(p, needed, err));
        TVLM_TRY(tvlm_tokenizer_encode_spans(t, spans, n, p->ids + p->n_ids, p->cap_ids - p->n_ids,
                                             &needed, err));
    }
    p->n_ids += needed;
    p->text_bytes += bytes;
    return TVLM_OK;
}

tvlm_status tvlm_prompt_add_ids(tvlm_prompt *prompt, const int32_t *ids, size_t n, tvlm_error *err)
{
    tvlm_prompt *p = prompt;
    TVLM_NEED(prompt);
    if (!n) return TVLM_OK;
    TVLM_NEED(ids);
    if (n > MAX_PROMPT_BYTES)
        return tvlm_fail(err, TVLM_ERR_LIMIT, "the prompt has over %zu ids", MAX_PROMPT_BYTES);
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= p->model->config.lm.n_vocab)
            return tvlm_fail(err, TVLM_ERR_ARGUMENT, "id %d is not in the vocabulary", (int)ids[i]);
    TVLM_TRY(reserve_ids(p, n, err));
    memcpy(p->ids + p->n_ids, ids, n * sizeof *ids);
    p->n_ids += n;
    return TVLM_OK;
}

tvlm_status tvlm_prompt_add_text(tvlm_prompt *prompt, const char *text, size_t len,
                                 bool parse_special, tvlm_error *err)
{
    tvlm_prompt *p = prompt;
    TVLM_NEED(prompt);
    if (len) TVLM_NEED(text);
    if (!p->n_ids && p->model->config.add_bos && p->model->config.bos_id >= 0)
        TVLM_TRY(tvlm_prompt_add_ids(p, &p->model->config.bos_id, 1, err));
    tvlm_span span = {
        {text, len},
        parse_special
    };
    return add_spans(p, &span, 1, err);
}

static tvlm_status add_frame_text(tvlm_prompt *p, const tvlm_image *image, size_t i,
                                  tvlm_error *err)
{
    const tvlm_arch *arch = p->model->config.arch;
    char room[96];
    if (!arch->frame_text) return TVLM_OK;
    const char *text = arch->frame_text(image->grid.rows, image->grid.cols, i, room);
    tvlm_span span = {
        {text, strlen(text)},
        true
    };
    return add_spans(p, &span, 1, err);
}

/* The image's frames, each where its text has it. */
static tvlm_status place_frames(tvlm_prompt *p, const tvlm_image *image, tvlm_error *err)
{
    for (size_t i = 0; i < image->n_frames; i++) {
        TVLM_TRY(add_frame_text(p, image, i, err));
        TVLM_TRY(reserve_ids(p, 1, err));
        p->ids[p->n_ids++] = TVLM_IMAGE_ID;
    }
    return add_frame_text(p, image, image->n_frames, err);
}

tvlm_status tvlm_prompt_add_image(tvlm_prompt *prompt, const tvlm_image *image, tvlm_error *err)
{
    tvlm_prompt *p = prompt;
    TVLM_NEED(prompt);
    TVLM_NEED(image);
    const tvlm_model *m = p->model;
    if (image->model != m)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "the image was encoded by another model");
    bool cross = m->config.lm.cross_attention;
    if (cross && p->n_images)
        return tvlm_fail(err, TVLM_ERR_LIMIT, "this model looks at one image per conversation");
    if (p->n_images == TVLM_MAX_PROMPT_IMAGES)
        return tvlm_fail(err, TVLM_ERR_LIMIT, "over %d images in a prompt", TVLM_MAX_PROMPT_IMAGES);
    TVLM_TRY(reserve_ids(p, 1, err));
    if (p->n_images == p->cap_images) {
        size_t cap = 2 * p->cap_images + 4;
        tvlm_image **grown = realloc(p->images, cap * sizeof *grown);
        if (!grown) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
        p->images = grown;
        p->cap_images = cap;
    }
    p->images[p->n_images++] = tvlm_image_retain(image);
    if (cross) return TVLM_OK;
    size_t n_ids = p->n_ids, bytes = p->text_bytes;
    tvlm_status status = place_frames(p, image, err);
    if (status) truncate_to(p, n_ids, p->n_images - 1, bytes);
    return status;
}

/* ---- chat: pieces between images are tokenised as one string ---- */

typedef struct renderer {
    tvlm_prompt *prompt;
    tvlm_span *spans;
    size_t n, cap;
} renderer;

static tvlm_status flush(renderer *r, tvlm_error *err)
{
    tvlm_status status = add_spans(r->prompt, r->spans, r->n, err);
    r->n = 0;
    return status;
}

static tvlm_status take_piece(void *ctx, const tvlm_piece *piece, tvlm_error *err)
{
    renderer *r = ctx;
    if (piece->kind == TVLM_PIECE_IMAGE) {
        TVLM_TRY(flush(r, err));
        return tvlm_prompt_add_image(r->prompt, piece->image, err);
    }
    if (r->n == r->cap) {
        size_t cap = 2 * r->cap + 16;
        tvlm_span *grown = realloc(r->spans, cap * sizeof *grown);
        if (!grown) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
        r->spans = grown;
        r->cap = cap;
    }
    r->spans[r->n++] = (tvlm_span){piece->text, piece->kind == TVLM_PIECE_SPECIAL};
    return TVLM_OK;
}

/* Whether the last message asks for an image's description in the model's own words. */
static bool describes(const tvlm_prompt *p, const tvlm_message *messages, size_t n)
{
    if (!n || !p->n_images || messages[n - 1].role != TVLM_ROLE_USER) return false;
    tvlm_str asked = {messages[n - 1].text, messages[n - 1].len};
    tvlm_str own = p->model->config.describe_prompt;
    return asked.len == own.len && (!own.len || !memcmp(asked.data, own.data, own.len));
}

tvlm_status tvlm_prompt_chat(tvlm_prompt *prompt, const tvlm_message *messages, size_t n,
                             tvlm_error *err)
{
    TVLM_NEED(prompt);
    if (n) TVLM_NEED(messages);
    if (prompt->model->config.chat == TVLM_CHAT_NONE)
        return tvlm_fail(
            err, TVLM_ERR_UNSUPPORTED,
            "the model's chat template is not recognised: name one (--template NAME in "
            "the program, chat_template in the library): " TVLM_CHAT_NAMES);
    size_t n_ids = prompt->n_ids, n_images = prompt->n_images, bytes = prompt->text_bytes;
    renderer r = {.prompt = prompt};
    tvlm_status status =
        tvlm_chat_render(prompt->model->config.chat, messages, n, take_piece, &r, err);
    if (!status) status = flush(&r, err);
    if (status) truncate_to(prompt, n_ids, n_images, bytes); /* all of it or nothing */
    if (!status) prompt->prefilled = tvlm_chat_continues(messages, n) && messages[n - 1].len;
    if (!status) prompt->describes = describes(prompt, messages, n);
    free(r.spans);
    return status;
}
