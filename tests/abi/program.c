/* SPDX-License-Identifier: MIT
 * A program that was compiled when version 0.1 was new, in C and in C++, run with today's library:
 *   program MODEL.gguf */
#include <tinyvlm.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static tvlm_error error;

static void check(tvlm_status status, const char *what)
{
    if (status == TVLM_OK) return;
    fprintf(stderr, "%s: %s\n", what, error.message);
    exit(1);
}

static void expect(bool holds, const char *what)
{
    if (holds) return;
    fprintf(stderr, "not so: %s\n", what);
    exit(1);
}

/* A struct of the caller, and what must stay as it is behind it. */
#define GUARDED(type, name)                                                                        \
    struct {                                                                                       \
        type s;                                                                                    \
        unsigned char behind[256];                                                                 \
    } name;                                                                                        \
    memset(&name, 0x5a, sizeof name);                                                              \
    name.s.size = sizeof name.s
#define UNHARMED(name) expect(unharmed(name.behind, (name).s.size, sizeof(name).s), #name)

static bool unharmed(const unsigned char *behind, size_t size, size_t wanted)
{
    for (int i = 0; i < 256; i++)
        if (behind[i] != 0x5a) return false;
    return size == wanted;
}

static size_t streamed;

static bool count_text(void *user, const char *text, size_t len)
{
    (void)user;
    (void)text;
    streamed += len;
    return true;
}

int main(int argc, char **argv)
{
    tvlm_model *model;
    tvlm_engine *engine;
    tvlm_session *session;
    tvlm_prompt *prompt;
    tvlm_image *image;
    tvlm_batcher *batcher;
    tvlm_generation *generation;
    static uint8_t grey[20 * 30];
    tvlm_pixels pixels = {grey, 30, 20, 1, 0};
    GUARDED(tvlm_model_params, m);
    GUARDED(tvlm_engine_params, e);
    GUARDED(tvlm_encode_params, c);
    GUARDED(tvlm_session_params, s);
    GUARDED(tvlm_generate_params, g);
    GUARDED(tvlm_batcher_params, b);
    GUARDED(tvlm_model_info, info);
    GUARDED(tvlm_image_timings, timings);
    GUARDED(tvlm_result, result);
    GUARDED(tvlm_event, event);
    GUARDED(tvlm_memory, memory);
    GUARDED(tvlm_work_plan, work);
    if (argc != 2) return 2;
    expect(tvlm_version_number() >= TVLM_VERSION, "the library is not older");
    expect(tvlm_list(TVLM_LIST_CPU_TIERS, 0) != NULL, "a tier");
    tvlm_model_params_init(&m.s, sizeof m.s);
    tvlm_engine_params_init(&e.s, sizeof e.s);
    tvlm_encode_params_init(&c.s, sizeof c.s);
    tvlm_session_params_init(&s.s, sizeof s.s);
    tvlm_generate_params_init(&g.s, sizeof g.s);
    tvlm_batcher_params_init(&b.s, sizeof b.s);
    e.s.n_threads = 1;
    g.s.max_tokens = 4;
    g.s.on_text = count_text;
    check(tvlm_model_open(argv[1], &m.s, &model, &error), "open");
    check(tvlm_model_get_info(model, &info.s, &error), "info");
    expect(!strcmp(info.s.architecture, "tinyvlm") && info.s.max_images == 1, "info");
    check(tvlm_memory_estimate(model, &e.s, &s.s, &memory.s, &error), "memory");
    expect(memory.s.total_bytes > memory.s.kv_bytes, "memory");
    check(tvlm_work_estimate(model, 0, 1, &work.s, &error), "work");
    expect(work.s.decoder.flops > 0, "work");
    check(tvlm_engine_new(model, &e.s, &engine, &error), "engine");
    check(tvlm_image_encode(engine, &pixels, &c.s, &image, &error), "image");
    check(tvlm_image_get_timings(image, &timings.s, &error), "timings");
    expect(timings.s.tower_ms > 0, "timings");
    check(tvlm_session_new(model, &s.s, &session, &error), "session");
    check(tvlm_prompt_new(model, &prompt, &error), "prompt");
    tvlm_message message = {TVLM_ROLE_USER, "What is this?", 13, &image, 1, NULL};
    check(tvlm_prompt_chat(prompt, &message, 1, &error), "chat");
    check(tvlm_batcher_new(engine, &b.s, &batcher, &error), "batcher");
    check(tvlm_generate(engine, session, prompt, &g.s, &result.s, &error), "generate");
    expect(result.s.n_ids >= 1 && result.s.n_ids <= 4 && result.s.text_len == streamed, "result");
    g.s.batcher = batcher;
    check(tvlm_generation_start(engine, session, prompt, &g.s, &generation, &error), "start");
    check(tvlm_generation_next(generation, &event.s, &error), "next");
    expect(event.s.id == result.s.ids[0], "the same first token");
    UNHARMED(m);
    UNHARMED(e);
    UNHARMED(c);
    UNHARMED(s);
    UNHARMED(g);
    UNHARMED(b);
    UNHARMED(info);
    UNHARMED(timings);
    UNHARMED(result);
    UNHARMED(event);
    UNHARMED(memory);
    UNHARMED(work);
    tvlm_generation_free(generation);
    tvlm_batcher_free(batcher);
    tvlm_prompt_free(prompt);
    tvlm_session_free(session);
    tvlm_image_free(image);
    tvlm_engine_free(engine);
    tvlm_model_free(model);
    printf("%s with a program of %d.%d\n", tvlm_version(), TVLM_VERSION_MAJOR, TVLM_VERSION_MINOR);
    return 0;
}
