/* SPDX-License-Identifier: MIT
 * Chat templates. All but Tiny-VLM's are ChatML and differ in the system message that is put first
 * when the conversation brings none, and in whether images have a place:
 *
 *   <|im_start|>system\n S <|im_end|>\n
 *   <|im_start|>user\n [image \n]... Q <|im_end|>\n, or images inside of Q
 *   <|im_start|>assistant\n A <|im_end|>\n ... <|im_start|>assistant\n [beginning of an answer]
 *
 * Tiny-VLM was trained on a shorter form, whose images lie outside the text:
 *
 *   [image] <|im_start|> Q <|im_end|> A <|im_end|> <|im_start|> Q <|im_end|> */
#include "text/chat.h"

#include <string.h>

typedef struct chat_form {
    const char *name;
    const char *system; /* default system message, nullable */
    bool photos;
    bool thinks;        /* answers may begin with <think> ... </think> */
    const char *answer; /* put behind the assistant's last mark, nullable */
} chat_form;

// clang-format off
static const chat_form forms[] = {
    [TVLM_CHAT_NONE]    = {"", NULL, false, false, NULL},
    [TVLM_CHAT_CHATML]  = {"chatml", NULL, false, false, NULL},
    [TVLM_CHAT_QWEN2]   = {"qwen2", "You are a helpful assistant.", false, false, NULL},
    [TVLM_CHAT_QWEN2_5] = {"qwen2.5", "You are Qwen, created by Alibaba Cloud. You are a helpful "
                                      "assistant.", false, false, NULL},
    [TVLM_CHAT_SMOLLM2] = {"smollm2", "You are a helpful AI assistant named SmolLM, trained by "
                                      "Hugging Face", false, false, NULL},
    [TVLM_CHAT_FASTVLM] = {"fastvlm", "You are a helpful assistant.", true, false, NULL},
    [TVLM_CHAT_TINYVLM] = {"tinyvlm", NULL, true, false, NULL},
    [TVLM_CHAT_QWEN3]   = {"qwen3", NULL, false, true, NULL},
    [TVLM_CHAT_SMOLVLM] = {"smolvlm", NULL, true, false, NULL},
    [TVLM_CHAT_QWEN3_NO_THINK] = {"qwen3-no-think", NULL, false, true, "<think>\n\n</think>\n\n"},
};
// clang-format on

tvlm_chat tvlm_chat_from_name(const char *name)
{
    for (size_t i = 1; name && i < TVLM_COUNT(forms); i++)
        if (strcmp(name, forms[i].name) == 0) return (tvlm_chat)i;
    return TVLM_CHAT_NONE;
}

const char *tvlm_chat_name(tvlm_chat chat)
{
    return (size_t)chat < TVLM_COUNT(forms) ? forms[chat].name : "";
}

const char *tvlm_chat_system(tvlm_chat chat)
{
    return (size_t)chat < TVLM_COUNT(forms) ? forms[chat].system : NULL;
}

bool tvlm_chat_continues(const tvlm_message *messages, size_t n)
{
    return n && messages[n - 1].role == TVLM_ROLE_ASSISTANT;
}

/* ---- rendering ---- */

typedef struct renderer {
    tvlm_piece_sink sink;
    void *ctx;
    tvlm_error *err;
} renderer;

static tvlm_status put(const renderer *r, tvlm_piece_kind kind, const char *text, size_t len)
{
    if (len == 0) return TVLM_OK;
    tvlm_piece piece = {
        .kind = kind, .text = {text, len}
    };
    return r->sink(r->ctx, &piece, r->err);
}

static tvlm_status put_mark(const renderer *r, const char *mark)
{
    return put(r, TVLM_PIECE_SPECIAL, mark, strlen(mark));
}

static tvlm_status put_text(const renderer *r, const tvlm_message *m)
{
    return put(r, TVLM_PIECE_TEXT, m->text, m->len);
}

static tvlm_status put_part(const renderer *r, const tvlm_message *m, size_t begin, size_t end)
{
    return begin < end ? put(r, TVLM_PIECE_TEXT, m->text + begin, end - begin) : TVLM_OK;
}

static tvlm_status put_image(const renderer *r, const tvlm_image *image)
{
    tvlm_piece piece = {.kind = TVLM_PIECE_IMAGE, .image = image};
    return r->sink(r->ctx, &piece, r->err);
}

/* Before the text, each followed by `after`. */
static tvlm_status put_images(const renderer *r, const tvlm_message *m, const char *after)
{
    for (size_t i = 0; i < m->n_images; i++) {
        TVLM_TRY(put_image(r, m->images[i]));
        TVLM_TRY(put_mark(r, after));
    }
    return TVLM_OK;
}

/* Images and text: where the message says no place, `after` follows each image. */
static tvlm_status put_content(const renderer *r, const tvlm_message *m, const char *after)
{
    size_t at = 0;
    if (!m->image_at) TVLM_TRY(put_images(r, m, after));
    for (size_t i = 0; m->image_at && i < m->n_images; at = m->image_at[i++]) {
        TVLM_TRY(put_part(r, m, at, m->image_at[i]));
        TVLM_TRY(put_image(r, m->images[i]));
    }
    return put_part(r, m, at, m->len);
}

/* An answer in the history: what it thought is gone, with the new lines behind it. */
static tvlm_str without_thoughts(const tvlm_message *m)
{
    static const char mark[] = "</think>";
    const size_t n = sizeof mark - 1;
    size_t begin = 0;
    for (size_t i = 0; i + n <= m->len; i++)
        if (memcmp(m->text + i, mark, n) == 0) begin = i + n;
    while (begin && begin < m->len && m->text[begin] == '\n')
        begin++;
    return (tvlm_str){begin ? m->text + begin : m->text, m->len - begin};
}

static tvlm_status put_turn(const renderer *r, const chat_form *form, const tvlm_message *m)
{
    if (!form->thinks || m->role != TVLM_ROLE_ASSISTANT) return put_content(r, m, "\n");
    tvlm_str answer = without_thoughts(m);
    return put(r, TVLM_PIECE_TEXT, answer.data, answer.len);
}

static tvlm_status render_chatml(const renderer *r, const chat_form *form,
                                 const tvlm_message *messages, size_t n)
{
    static const char *const begin[] = {[TVLM_ROLE_SYSTEM] = "<|im_start|>system\n",
                                        [TVLM_ROLE_USER] = "<|im_start|>user\n",
                                        [TVLM_ROLE_ASSISTANT] = "<|im_start|>assistant\n"};
    if (form->system && messages[0].role != TVLM_ROLE_SYSTEM) {
        TVLM_TRY(put_mark(r, begin[TVLM_ROLE_SYSTEM]));
        TVLM_TRY(put_mark(r, form->system));
        TVLM_TRY(put_mark(r, "<|im_end|>\n"));
    }
    bool continues = tvlm_chat_continues(messages, n);
    for (size_t i = 0; i < n - continues; i++) {
        TVLM_TRY(put_mark(r, begin[messages[i].role]));
        TVLM_TRY(put_turn(r, form, &messages[i]));
        TVLM_TRY(put_mark(r, "<|im_end|>\n"));
    }
    TVLM_TRY(put_mark(r, begin[TVLM_ROLE_ASSISTANT]));
    if (form->answer) TVLM_TRY(put_mark(r, form->answer));
    return continues ? put_text(r, &messages[n - 1]) : TVLM_OK;
}

static bool begins_with_image(const tvlm_message *m)
{
    return m->n_images && (!m->image_at || !m->image_at[0]);
}

/* SmolVLM's: a colon before an image, colon and space before text. */
static tvlm_status render_smolvlm(const renderer *r, const tvlm_message *messages, size_t n)
{
    static const char *const names[] = {[TVLM_ROLE_SYSTEM] = "System",
                                        [TVLM_ROLE_USER] = "User",
                                        [TVLM_ROLE_ASSISTANT] = "Assistant"};
    TVLM_TRY(put_mark(r, "<|im_start|>"));
    for (size_t i = 0; i < n; i++) {
        const tvlm_message *m = &messages[i];
        TVLM_TRY(put_mark(r, names[m->role]));
        TVLM_TRY(put_mark(r, begins_with_image(m) ? ":" : ": "));
        TVLM_TRY(put_content(r, m, ""));
        if (i + 1 == n && tvlm_chat_continues(messages, n)) return TVLM_OK;
        TVLM_TRY(put_mark(r, "<end_of_utterance>\n"));
    }
    return put_mark(r, "Assistant:");
}

static tvlm_status render_tinyvlm(const renderer *r, const tvlm_message *messages, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const tvlm_message *m = &messages[i];
        if (m->role == TVLM_ROLE_USER) {
            TVLM_TRY(put_images(r, m, ""));
            TVLM_TRY(put_mark(r, "<|im_start|>"));
        } else if (m->len > 0 && m->text[0] != ' ') {
            TVLM_TRY(put(r, TVLM_PIECE_TEXT, " ", 1)); /* answers were trained with one in front */
        }
        TVLM_TRY(put_text(r, m));
        if (i + 1 == n && tvlm_chat_continues(messages, n)) return TVLM_OK;
        TVLM_TRY(put_mark(r, "<|im_end|>"));
    }
    return TVLM_OK;
}

/* Qwen3's template tells them from questions. */
static bool is_tool_response(const tvlm_message *m)
{
    static const char begin[] = "<tool_response>", end[] = "</tool_response>";
    return m->len >= sizeof end - 1 && !memcmp(m->text, begin, sizeof begin - 1) &&
           !memcmp(m->text + m->len - (sizeof end - 1), end, sizeof end - 1);
}

static tvlm_status check_places(tvlm_chat chat, const tvlm_message *m, size_t i, tvlm_error *err)
{
    for (size_t k = 0, before = 0; m->image_at && k < m->n_images; before = m->image_at[k++]) {
        size_t at = m->image_at[k];
        if (at < before || at > m->len ||
            (at < m->len && ((unsigned char)m->text[at] & 0xC0) == 0x80))
            return tvlm_fail(err, TVLM_ERR_ARGUMENT,
                             "message %zu: image_at[%zu] is %zu: before the last one, inside a "
                             "character or past the text",
                             i, k, at);
        if (at && chat == TVLM_CHAT_TINYVLM)
            return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                             "message %zu: chat template 'tinyvlm' has images before the text only",
                             i);
    }
    return TVLM_OK;
}

static tvlm_status check_message(tvlm_chat chat, const tvlm_message *messages, size_t i,
                                 tvlm_error *err)
{
    const tvlm_message *m = &messages[i];
    if ((!m->text && m->len) || (!m->images && m->n_images))
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "message %zu: text or images is NULL", i);
    if (m->role != TVLM_ROLE_SYSTEM && m->role != TVLM_ROLE_USER && m->role != TVLM_ROLE_ASSISTANT)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "message %zu: unknown role %d", i, (int)m->role);
    TVLM_TRY(check_places(chat, m, i, err));
    if (m->n_images && m->role != TVLM_ROLE_USER)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT,
                         "message %zu: only messages of the user have images", i);
    if (m->n_images && !forms[chat].photos)
        return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                         "message %zu: chat template '%s' has no place for images", i,
                         forms[chat].name);
    if (m->role == TVLM_ROLE_SYSTEM && chat == TVLM_CHAT_TINYVLM)
        return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                         "message %zu: chat template 'tinyvlm' has no system message", i);
    if (m->role == TVLM_ROLE_SYSTEM && i > 0)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT,
                         "message %zu: the system message must be the first", i);
    if (forms[chat].thinks && m->role == TVLM_ROLE_USER && is_tool_response(m))
        return tvlm_fail(err, TVLM_ERR_UNSUPPORTED, "message %zu: tool responses are not supported",
                         i);
    bool user_before = i > 0 && messages[i - 1].role == TVLM_ROLE_USER;
    if (m->role == TVLM_ROLE_ASSISTANT && !user_before)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT,
                         "message %zu: an assistant message must follow a user message", i);
    if (m->role == TVLM_ROLE_USER && user_before && chat == TVLM_CHAT_TINYVLM)
        return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                         "message %zu: chat template 'tinyvlm' takes one user message in a row", i);
    return TVLM_OK;
}

tvlm_status tvlm_chat_render(tvlm_chat chat, const tvlm_message *messages, size_t n,
                             tvlm_piece_sink sink, void *ctx, tvlm_error *err)
{
    if (chat == TVLM_CHAT_NONE || (size_t)chat >= TVLM_COUNT(forms))
        return tvlm_fail(err, TVLM_ERR_UNSUPPORTED, "the chat template is not recognised");
    if (n == 0 || !messages)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "a conversation needs a message");
    for (size_t i = 0; i < n; i++)
        TVLM_TRY(check_message(chat, messages, i, err));
    if (messages[n - 1].role == TVLM_ROLE_SYSTEM)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT,
                         "the last message must be the user's, or what the "
                         "assistant is to continue");
    renderer r = {sink, ctx, err};
    if (chat == TVLM_CHAT_TINYVLM) return render_tinyvlm(&r, messages, n);
    if (chat == TVLM_CHAT_SMOLVLM) return render_smolvlm(&r, messages, n);
    return render_chatml(&r, &forms[chat], messages, n);
}
