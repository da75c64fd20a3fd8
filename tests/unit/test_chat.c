/* SPDX-License-Identifier: MIT
 * Chat templates against the strings of the references, and what is refused. */
#include "text/chat.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* A rendered conversation as one string: special pieces as they are, text pieces in {}, pictures
 * as their index in `pictures`: [0]. */
typedef struct transcript {
    char text[2048];
    size_t len;
    int stop_after; /* pieces until the sink fails; negative: never */
} transcript;

static char photos[4]; /* only their addresses matter */
static tvlm_image *photo(size_t i)
{
    return (tvlm_image *)(void *)&photos[i];
}

static tvlm_status record(void *ctx, const tvlm_piece *piece, tvlm_error *err)
{
    transcript *t = ctx;
    if (t->stop_after-- == 0) return tvlm_fail(err, TVLM_ERR_LIMIT, "stopped");
    char *at = t->text + t->len;
    size_t room = sizeof t->text - t->len;
    if (piece->kind == TVLM_PIECE_IMAGE) {
        ptrdiff_t i = (const char *)(const void *)piece->image - photos;
        t->len += (size_t)snprintf(at, room, "[%d]", (int)i);
    } else {
        assert_true(piece->text.len > 0);
        bool user = piece->kind == TVLM_PIECE_TEXT;
        t->len += (size_t)snprintf(at, room, user ? "{%.*s}" : "%.*s", (int)piece->text.len,
                                   piece->text.data);
    }
    assert_true(t->len < sizeof t->text);
    return TVLM_OK;
}

static tvlm_message say(tvlm_role role, const char *text)
{
    return (tvlm_message){role, text, strlen(text), NULL, 0, NULL};
}
#define USER(text)      say(TVLM_ROLE_USER, text)
#define ASSISTANT(text) say(TVLM_ROLE_ASSISTANT, text)
#define SYSTEM(text)    say(TVLM_ROLE_SYSTEM, text)

static void expect(tvlm_chat chat, const tvlm_message *messages, size_t n, const char *want)
{
    transcript t = {.stop_after = -1};
    tvlm_error err = {0};
    if (tvlm_chat_render(chat, messages, n, record, &t, &err) != TVLM_OK)
        fail_msg("%s", err.message);
    assert_string_equal(t.text, want);
}
#define EXPECT(chat, want, ...)                                                                    \
    expect(chat, (const tvlm_message[]){__VA_ARGS__},                                              \
           TVLM_COUNT(((const tvlm_message[]){__VA_ARGS__})), want)

static void expect_refused(tvlm_chat chat, const tvlm_message *messages, size_t n,
                           tvlm_status status, const char *message)
{
    transcript t = {.stop_after = -1};
    tvlm_error err = {0};
    assert_int_equal(tvlm_chat_render(chat, messages, n, record, &t, &err), status);
    if (!strstr(err.message, message)) fail_msg("'%s' does not say '%s'", err.message, message);
    assert_int_equal(t.len, 0); /* refused before anything is rendered */
}
#define REFUSED(chat, status, message, ...)                                                        \
    expect_refused(chat, (const tvlm_message[]){__VA_ARGS__},                                      \
                   TVLM_COUNT(((const tvlm_message[]){__VA_ARGS__})), status, message)

static void test_names(void **state)
{
    (void)state;
    static const char *const names[] = {"",        "chatml",  "qwen2", "qwen2.5",        "smollm2",
                                        "fastvlm", "tinyvlm", "qwen3", "qwen3-no-think", "smolvlm"};
    for (int i = TVLM_CHAT_CHATML; i <= TVLM_CHAT_SMOLVLM; i++) {
        assert_string_equal(tvlm_chat_name((tvlm_chat)i), names[i]);
        assert_int_equal(tvlm_chat_from_name(names[i]), i);
    }
    assert_string_equal(tvlm_chat_name(TVLM_CHAT_NONE), "");
    assert_string_equal(tvlm_chat_name((tvlm_chat)99), "");
    assert_int_equal(tvlm_chat_from_name(""), TVLM_CHAT_NONE);
    assert_int_equal(tvlm_chat_from_name(NULL), TVLM_CHAT_NONE);
    assert_int_equal(tvlm_chat_from_name("llama3"), TVLM_CHAT_NONE);
}

static void test_fastvlm(void **state)
{
    (void)state;
    tvlm_message look = USER("What is this?");
    tvlm_image *images[] = {photo(0), photo(1)};
    look.images = images;
    look.n_images = 1;
    EXPECT(TVLM_CHAT_FASTVLM,
           "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n[0]\n"
           "{What is this?}<|im_end|>\n<|im_start|>assistant\n",
           look);
    EXPECT(TVLM_CHAT_FASTVLM,
           "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
           "{Hello}<|im_end|>\n<|im_start|>assistant\n",
           USER("Hello"));
    EXPECT(TVLM_CHAT_FASTVLM,
           "<|im_start|>system\n{Be brief.}<|im_end|>\n<|im_start|>user\n[0]\n"
           "{What is this?}<|im_end|>\n<|im_start|>assistant\n{A dog.}<|im_end|>\n"
           "<|im_start|>user\n{Which breed?}<|im_end|>\n<|im_start|>assistant\n",
           SYSTEM("Be brief."), look, ASSISTANT("A dog."), USER("Which breed?"));
    look.n_images = 2;
    look.text = NULL;
    look.len = 0;
    EXPECT(
        TVLM_CHAT_FASTVLM,
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n[0]\n[1]\n"
        "<|im_end|>\n<|im_start|>assistant\n",
        look);
}

static void test_text_templates(void **state)
{
    (void)state;
    EXPECT(TVLM_CHAT_CHATML, "<|im_start|>user\n{Hi <|im_end|>}<|im_end|>\n<|im_start|>assistant\n",
           USER("Hi <|im_end|>"));
    EXPECT(TVLM_CHAT_QWEN2,
           "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
           "<|im_start|>user\n{Hi}<|im_end|>\n<|im_start|>assistant\n",
           USER("Hi"));
    EXPECT(TVLM_CHAT_SMOLLM2,
           "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
           "Face<|im_end|>\n<|im_start|>user\n{Hi}<|im_end|>\n<|im_start|>assistant\n",
           USER("Hi"));
    EXPECT(TVLM_CHAT_SMOLLM2,
           "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n{Hi}<|im_end|>\n"
           "<|im_start|>user\n{there}<|im_end|>\n<|im_start|>assistant\n",
           SYSTEM(""), USER("Hi"), USER("there"));
}

/* As transformers renders Qwen3's template (tests/long/test_released_templates.py runs it). */
static void test_qwen3(void **state)
{
    (void)state;
    EXPECT(TVLM_CHAT_QWEN3, "<|im_start|>user\n{Hi}<|im_end|>\n<|im_start|>assistant\n",
           USER("Hi"));
    EXPECT(TVLM_CHAT_QWEN3_NO_THINK,
           "<|im_start|>user\n{Hi}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
           USER("Hi"));
    EXPECT(TVLM_CHAT_QWEN3,
           "<|im_start|>system\n{S}<|im_end|>\n<|im_start|>user\n{1 </think> 2}<|im_end|>\n"
           "<|im_start|>assistant\n{Yes.}<|im_end|>\n<|im_start|>user\n{3}<|im_end|>\n"
           "<|im_start|>assistant\n{\n4}<|im_end|>\n<|im_start|>user\n{5}<|im_end|>\n"
           "<|im_start|>assistant\n",
           SYSTEM("S"), USER("1 </think> 2"), ASSISTANT("<think>\na</think>b\n</think>\n\nYes."),
           USER("3"), ASSISTANT("\n4"), USER("5"));
    EXPECT(TVLM_CHAT_QWEN3,
           "<|im_start|>user\n{1}<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n"
           "<|im_start|>user\n{2}<|im_end|>\n<|im_start|>assistant\n",
           USER("1"), ASSISTANT("<think>cut</think>\n\n"), USER("2"));
    REFUSED(TVLM_CHAT_QWEN3, TVLM_ERR_UNSUPPORTED, "tool responses",
            USER("<tool_response>1</tool_response>"));
}

/* Images that say where they stand: there, and nothing is put around them. */
static void test_images_between_texts(void **state)
{
    (void)state;
    tvlm_message look = USER("Is \xC3\xA9 in, or in?");
    tvlm_image *images[] = {photo(0), photo(1), photo(2)};
    size_t at[] = {8, 15, 16};
    look.images = images;
    look.image_at = at;
    look.n_images = 3;
    EXPECT(
        TVLM_CHAT_FASTVLM,
        "<|im_start|>system\n{S}<|im_end|>\n<|im_start|>user\n{Is \xC3\xA9 in}[0]{, or in}[1]{?}[2]"
        "<|im_end|>\n<|im_start|>assistant\n",
        SYSTEM("S"), look);
    EXPECT(TVLM_CHAT_SMOLVLM,
           "<|im_start|>User: {Is \xC3\xA9 in}[0]{, or in}[1]{?}[2]<end_of_utterance>\nAssistant:",
           look);
    at[0] = at[1] = 0;
    EXPECT(
        TVLM_CHAT_SMOLVLM,
        "<|im_start|>User:[0][1]{Is \xC3\xA9 in, or in?}[2]<end_of_utterance>\nAssistant:", look);
    REFUSED(TVLM_CHAT_TINYVLM, TVLM_ERR_UNSUPPORTED, "images before the text only", look);
    at[2] = 17;
    REFUSED(TVLM_CHAT_FASTVLM, TVLM_ERR_ARGUMENT, "image_at[2] is 17: ", USER("a"), look);
    at[2] = 4; /* inside of the accented letter */
    REFUSED(TVLM_CHAT_FASTVLM, TVLM_ERR_ARGUMENT, "message 0: image_at[2] is 4: ", look);
    at[1] = 6;
    at[2] = 5;
    REFUSED(TVLM_CHAT_FASTVLM, TVLM_ERR_ARGUMENT, "image_at[2] is 5: ", look);
    at[0] = at[1] = at[2] = 0;
    EXPECT(TVLM_CHAT_TINYVLM, "[0][1][2]<|im_start|>{Is \xC3\xA9 in, or in?}<|im_end|>", look);
    look.text = NULL;
    look.len = 0;
    EXPECT(TVLM_CHAT_SMOLVLM, "<|im_start|>User:[0][1][2]<end_of_utterance>\nAssistant:", look);
}

/* As transformers renders the released template. */
static void test_smolvlm(void **state)
{
    (void)state;
    tvlm_message look = USER("What is this?");
    tvlm_image *images[] = {photo(0), photo(1)};
    look.images = images;
    look.n_images = 2;
    EXPECT(TVLM_CHAT_SMOLVLM,
           "<|im_start|>System: {S}<end_of_utterance>\nUser:[0][1]{What is this?}"
           "<end_of_utterance>\nAssistant: {A dog.}<end_of_utterance>\nUser: {Sure?}"
           "<end_of_utterance>\nAssistant:",
           SYSTEM("S"), look, ASSISTANT("A dog."), USER("Sure?"));
}

static void test_tinyvlm(void **state)
{
    (void)state;
    tvlm_message look = USER("What is this?");
    tvlm_image *image = photo(2);
    look.images = &image;
    look.n_images = 1;
    EXPECT(TVLM_CHAT_TINYVLM, "[2]<|im_start|>{What is this?}<|im_end|>", look);
    /* Answers were trained with a space in front, which the answer's text may have lost. */
    EXPECT(TVLM_CHAT_TINYVLM,
           "[2]<|im_start|>{What is this?}<|im_end|>{ }{A dog}<|im_end|>"
           "<|im_start|>{Colour?}<|im_end|>{ brown}<|im_end|><|im_start|>{Sure?}<|im_end|>",
           look, ASSISTANT("A dog"), USER("Colour?"), ASSISTANT(" brown"), USER("Sure?"));
    EXPECT(TVLM_CHAT_TINYVLM, "<|im_start|><|im_end|><|im_end|><|im_start|>{x}<|im_end|>", USER(""),
           ASSISTANT(""), USER("x"));
    REFUSED(TVLM_CHAT_TINYVLM, TVLM_ERR_UNSUPPORTED, "no system message", SYSTEM("Be brief."),
            USER("Hi"));
    REFUSED(TVLM_CHAT_TINYVLM, TVLM_ERR_UNSUPPORTED, "message 1", USER("a"), USER("b"));
}

/* The beginning of an answer: nothing closes it, and an empty one is none. */
static void test_prefill(void **state)
{
    (void)state;
    EXPECT(TVLM_CHAT_CHATML, "<|im_start|>user\n{Hi}<|im_end|>\n<|im_start|>assistant\n{The }",
           USER("Hi"), ASSISTANT("The "));
    EXPECT(TVLM_CHAT_CHATML, "<|im_start|>user\n{Hi}<|im_end|>\n<|im_start|>assistant\n",
           USER("Hi"), ASSISTANT(""));
    EXPECT(TVLM_CHAT_TINYVLM, "<|im_start|>{Hi}<|im_end|>{ }{A}", USER("Hi"), ASSISTANT("A"));
    EXPECT(TVLM_CHAT_TINYVLM, "<|im_start|>{Hi}<|im_end|>", USER("Hi"), ASSISTANT(""));
    EXPECT(TVLM_CHAT_TINYVLM,
           "<|im_start|>{Hi}<|im_end|>{ }{A}<|im_end|><|im_start|>{x}<|im_end|>{ b}", USER("Hi"),
           ASSISTANT("A"), USER("x"), ASSISTANT(" b"));
}

static void test_refusals(void **state)
{
    (void)state;
    const tvlm_chat chat = TVLM_CHAT_FASTVLM;
    expect_refused(chat, NULL, 0, TVLM_ERR_ARGUMENT, "needs a message");
    expect_refused(chat, NULL, 1, TVLM_ERR_ARGUMENT, "needs a message");
    REFUSED(TVLM_CHAT_NONE, TVLM_ERR_UNSUPPORTED, "not recognised", USER("Hi"));
    REFUSED((tvlm_chat)99, TVLM_ERR_UNSUPPORTED, "not recognised", USER("Hi"));
    REFUSED(chat, TVLM_ERR_ARGUMENT, "must follow a user message", ASSISTANT("Hi"), USER("Hi"));
    REFUSED(chat, TVLM_ERR_ARGUMENT, "message 1: an assistant", SYSTEM("x"), ASSISTANT("y"));
    REFUSED(chat, TVLM_ERR_ARGUMENT, "message 2: an assistant", USER("x"), ASSISTANT("y"),
            ASSISTANT("z"), USER("x"));
    REFUSED(chat, TVLM_ERR_ARGUMENT, "last message", SYSTEM("Hi"));
    REFUSED(chat, TVLM_ERR_ARGUMENT, "message 1: the system message", USER("a"), SYSTEM("b"),
            USER("c"));
    tvlm_message bad = USER("x");
    bad.text = NULL;
    REFUSED(chat, TVLM_ERR_ARGUMENT, "NULL", bad);
    bad = USER("x");
    bad.n_images = 1;
    REFUSED(chat, TVLM_ERR_ARGUMENT, "NULL", bad);
    tvlm_image *image = photo(0);
    bad.images = &image;
    REFUSED(TVLM_CHAT_QWEN2, TVLM_ERR_UNSUPPORTED, "'qwen2' has no place for images", bad);
    bad.role = TVLM_ROLE_SYSTEM;
    REFUSED(chat, TVLM_ERR_ARGUMENT, "only messages of the user", bad, USER("x"));
    bad = USER("x");
    bad.role = (tvlm_role)7;
    REFUSED(chat, TVLM_ERR_ARGUMENT, "unknown role 7", bad);
}

static void test_sink_failure_stops(void **state)
{
    (void)state;
    tvlm_message look = USER("q");
    tvlm_image *image = photo(0);
    look.images = &image;
    look.n_images = 1;
    for (tvlm_chat chat = TVLM_CHAT_FASTVLM; chat <= TVLM_CHAT_TINYVLM; chat++) {
        int n_pieces = chat == TVLM_CHAT_FASTVLM ? 9 : 4;
        for (int stop = 0; stop <= n_pieces; stop++) {
            transcript t = {.stop_after = stop};
            tvlm_error err = {0};
            tvlm_status status = tvlm_chat_render(chat, &look, 1, record, &t, &err);
            assert_int_equal(status, stop < n_pieces ? TVLM_ERR_LIMIT : TVLM_OK);
            if (stop < n_pieces) assert_int_equal(t.stop_after, -1); /* not called again */
        }
    }
}

#define CHATML_LOOP                                                                                \
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"       \
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
#define FOR "{% for message in messages %}"
#define CHATML_DEFAULT(system)                                                                     \
    FOR "{% if loop.first and messages[0]['role'] != 'system' %}"                                  \
        "{{ '<|im_start|>system\n" system "<|im_end|>\n' }}{% endif %}" CHATML_LOOP

/* What the recognised ones render to is compared with Jinja in tests/text/test_templates.py. */
static void test_recognise(void **state)
{
    (void)state;
    // clang-format off
    static const struct {
        const char *jinja;
        tvlm_chat want;
    } cases[] = {
        {FOR CHATML_LOOP, TVLM_CHAT_CHATML},
        {FOR CHATML_LOOP "\n", TVLM_CHAT_CHATML},
        {CHATML_DEFAULT("You are a helpful assistant."), TVLM_CHAT_QWEN2},
        {CHATML_DEFAULT("You are Qwen, created by Alibaba Cloud. You are a helpful assistant."), TVLM_CHAT_QWEN2_5},
        {CHATML_DEFAULT("You are a helpful AI assistant named SmolLM, trained by Hugging Face"), TVLM_CHAT_SMOLLM2},
        /* More, less, or something else than these forms say. */
        {FOR CHATML_LOOP "\n\n", TVLM_CHAT_NONE},
        {" " FOR CHATML_LOOP, TVLM_CHAT_NONE},
        {"{{bos_token}}" FOR CHATML_LOOP, TVLM_CHAT_NONE},
        {"{% for m in messages %}" CHATML_LOOP, TVLM_CHAT_NONE},
        {CHATML_DEFAULT("You are a helpful assistant"), TVLM_CHAT_NONE},
        {CHATML_DEFAULT("You are a helpful assistant.") "{{ '<image>\n'}}", TVLM_CHAT_NONE},
        {CHATML_DEFAULT("You are a pirate."), TVLM_CHAT_NONE},
        {"{% if tools %}{{ tools}}{% endif %}" CHATML_LOOP, TVLM_CHAT_NONE},
        {FOR CHATML_LOOP "{{ '<think>'}}", TVLM_CHAT_NONE},
        {"<|start_header_id|>{{ message['role']}}<|end_header_id|>", TVLM_CHAT_NONE},
        {"[INST] {{ message['content']}} [/INST]", TVLM_CHAT_NONE},
        {"<|im_start|>", TVLM_CHAT_NONE},
        {"\n", TVLM_CHAT_NONE},
        {"", TVLM_CHAT_NONE},
    };
    // clang-format on
    for (size_t i = 0; i < TVLM_COUNT(cases); i++)
        assert_int_equal(tvlm_chat_recognise((tvlm_str){cases[i].jinja, strlen(cases[i].jinja)}),
                         cases[i].want);
    assert_int_equal(tvlm_chat_recognise((tvlm_str){NULL, 0}), TVLM_CHAT_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),          cmocka_unit_test(test_fastvlm),
        cmocka_unit_test(test_text_templates), cmocka_unit_test(test_qwen3),
        cmocka_unit_test(test_smolvlm),        cmocka_unit_test(test_images_between_texts),
        cmocka_unit_test(test_tinyvlm),        cmocka_unit_test(test_prefill),
        cmocka_unit_test(test_refusals),       cmocka_unit_test(test_sink_failure_stops),
        cmocka_unit_test(test_recognise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
