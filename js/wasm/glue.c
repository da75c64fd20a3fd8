/* SPDX-License-Identifier: MIT
 * The module's exports: one model, engine and session, driven by one worker (js/src/worker.js).
 * Functions that return int give a tvlm_status, or a count, negative for -status; the message of
 * the last failure is at error_message. Results that are arrays lie at output() until the next
 * call that makes one. */
#include "host.h"

#include "base/base.h"
#include "cpu/cpu.h"
#include "kernels/linear.h"
#include "tinyvlm.h"

#include <stdlib.h>
#include <string.h>

static struct {
    tvlm_error error;
    tvlm_loader *loader;
    tvlm_model *model;
    tvlm_engine *engine;
    tvlm_session *session;
    tvlm_cancel *cancel;
    tvlm_model_info info;
    tvlm_message *messages;
    size_t n_messages;
    const char **stops;
    size_t n_stops;
    tvlm_result result;
    void *output;
} h;

EXPORT(error_message) const char *error_message(void);
const char *error_message(void)
{
    return h.error.message;
}

EXPORT(allocate) void *allocate(size_t size);
void *allocate(size_t size)
{
    return malloc(size);
}

EXPORT(release) void release(void *block);
void release(void *block)
{
    free(block);
}

EXPORT(output) void *output(void);
void *output(void)
{
    return h.output;
}

static tvlm_status new_output(size_t count, size_t size)
{
    size_t bytes;
    free(h.output);
    h.output = tvlm_mul_size(count, size, &bytes) ? malloc(bytes ? bytes : 1) : NULL;
    return h.output ? TVLM_OK : tvlm_fail(&h.error, TVLM_ERR_MEMORY, "out of memory for a result");
}

/* ---- is this module right here? ---- */

/* Relaxed SIMD leaves room: the kernels need a fused multiply-add and an exact dot product. */
EXPORT(probe) int probe(void);
int probe(void)
{
    tvlm_kernels best, scalar;
    float x[40], y[2][24];
    float w[24 * 40];
    tvlm_kernels_select(&best, tvlm_cpu_detect());
    tvlm_kernels_select(&scalar, 0);
    for (int i = 0; i < 40; i++)
        x[i] = 1.0f + 0x1p-12f * (float)(i * 37 % 101);
    for (int i = 0; i < 24 * 40; i++)
        w[i] = (i & 1 ? -1.0f : 1.0f) * (1.0f + 0x1p-12f * (float)(i * 53 % 97));
    tvlm_gemm_args args = {
        .x = x, .ldx = sizeof x, .w = w, .ldy = 24, .scale = 1, .n = 16, .k = 40};
    args.y = y[0];
    tvlm_gemm_select(tvlm_cpu_detect(), TVLM_TYPE_F32, TVLM_NUMERIC_F32)->run(&args, 0, 1, 0, 16);
    args.y = y[1];
    tvlm_gemm_select(0, TVLM_TYPE_F32, TVLM_NUMERIC_F32)->run(&args, 0, 1, 0, 16);
    if (memcmp(y[0], y[1], 16 * sizeof(float)) != 0) return 0;
    uint8_t a[16], got[2][16];
    int8_t b[16 * 16];
    int32_t wsum[16] = {0};
    float mult[16], beta[16];
    for (int i = 0; i < 16; i++) {
        a[i] = i & 2 ? 127 : 126;
        mult[i] = 0x1p-15f;
        beta[i] = 64;
    }
    for (int i = 0; i < 256; i++)
        b[i] = (int8_t)(i % 7 < 4 ? -128 : 127);
    tvlm_qgemm_args q = {.x = a,
                         .ldx = 16,
                         .w = b,
                         .wsum = wsum,
                         .mult = mult,
                         .beta = beta,
                         .ldy = 16,
                         .hi = 127,
                         .n = 16,
                         .k = 16};
    q.y = got[0];
    best.qgemm(&q, 0, 1, 0, 16);
    q.y = got[1];
    scalar.qgemm(&q, 0, 1, 0, 16);
    return memcmp(got[0], got[1], 16) == 0;
}

/* ---- loading ---- */

#if !defined(__wasm_atomics__)
/* Asking costs a round trip to the browser: a few dozen times a second is soon enough. */
static bool poll(void *user)
{
    static double next;
    (void)user;
    double now = host_now();
    if (now < next) return false;
    bool cancelled = host_cancelled() != 0;
    next = host_now() + 20;
    return cancelled;
}
#endif

EXPORT(open) int open_model(double max_memory, tvlm_precision precision);
int open_model(double max_memory, tvlm_precision precision)
{
    static const char *const names[] = {"auto", "f32", "int8", "int16"}; /* as the package's */
    tvlm_model_params params;
    if ((size_t)precision >= TVLM_COUNT(names))
        return tvlm_fail(&h.error, TVLM_ERR_ARGUMENT, "precision %d is not known", (int)precision);
    h.cancel = tvlm_cancel_new();
    if (!h.cancel) return tvlm_fail(&h.error, TVLM_ERR_MEMORY, "out of memory");
#if !defined(__wasm_atomics__)
    tvlm_cancel_set_poll(h.cancel, poll, NULL);
#endif
    tvlm_model_params_init(&params, sizeof params);
    params.precision = names[precision];
    params.max_memory = max_memory < (double)SIZE_MAX ? (size_t)max_memory : SIZE_MAX;
    return (int)tvlm_loader_new(&params, &h.loader, &h.error);
}

static tvlm_status get_info(void)
{
    h.info.size = sizeof h.info;
    return tvlm_model_get_info(h.model, &h.info, &h.error);
}

EXPORT(feed) int feed(const void *data, size_t size);
int feed(const void *data, size_t size)
{
    tvlm_status status = tvlm_loader_feed(h.loader, data, size, &h.error);
    if (!status && !h.model && (h.model = tvlm_loader_model(h.loader))) status = get_info();
    return (int)status;
}

EXPORT(finish) int finish(void);
int finish(void)
{
    tvlm_model *model;
    tvlm_status status = tvlm_loader_finish(h.loader, &model, &h.error);
    if (!status) {
        h.loader = NULL;
        /* new where the header was the most of it: the loader does not read that at every piece */
        h.model = model;
        status = get_info();
    }
    return (int)status;
}

EXPORT(stage) int stage(void);
int stage(void)
{
    return h.model ? (int)tvlm_model_stage(h.model) : 0;
}

static void params_of(unsigned threads, unsigned context, int kv_f32, unsigned beams,
                      tvlm_engine_params *engine, tvlm_session_params *session)
{
    tvlm_engine_params_init(engine, sizeof *engine);
    engine->n_threads = threads;
    engine->max_batch_tokens = 64; /* scratch is memory, and a page has one conversation */
    tvlm_session_params_init(session, sizeof *session);
    session->n_ctx = context < h.info.n_ctx_train ? context : h.info.n_ctx_train;
    session->kv_type = kv_f32 ? TVLM_KV_F32 : TVLM_KV_F16;
    session->max_beams = beams;
}

/* Engine and session, from the header stage on. */
EXPORT(start) int start(unsigned threads, unsigned context, int kv_f32, unsigned beams);
int start(unsigned threads, unsigned context, int kv_f32, unsigned beams)
{
    tvlm_engine_params engine;
    tvlm_session_params session;
    params_of(threads, context, kv_f32, beams, &engine, &session);
    TVLM_TRY(tvlm_engine_new(h.model, &engine, &h.engine, &h.error));
    return (int)tvlm_session_new(h.model, &session, &h.session, &h.error);
}

/* out: model, engine, session, image, total bytes. */
EXPORT(memory_plan)
int memory_plan(unsigned threads, unsigned context, int kv_f32, unsigned beams, double *out);
int memory_plan(unsigned threads, unsigned context, int kv_f32, unsigned beams, double *out)
{
    tvlm_engine_params engine;
    tvlm_session_params session;
    tvlm_memory m = {.size = sizeof m};
    params_of(threads, context, kv_f32, beams, &engine, &session);
    TVLM_TRY(tvlm_memory_estimate(h.model, &engine, &session, &m, &h.error));
    out[0] = (double)m.model_bytes;
    out[1] = (double)m.engine_bytes;
    out[2] = (double)m.session_bytes;
    out[3] = (double)m.image_bytes;
    out[4] = (double)m.total_bytes;
    return TVLM_OK;
}

EXPORT(info_text) const char *info_text(int which);
const char *info_text(int which)
{
    const char *const all[] = {h.info.architecture, h.info.name,          h.info.license,
                               h.info.description,  h.info.chat_template, h.info.describe_prompt};
    return all[which];
}

EXPORT(info_number) double info_number(int which);
double info_number(int which)
{
    const double all[] = {(double)h.info.n_parameters, (double)h.info.file_bytes,
                          (double)h.info.weight_bytes, h.info.n_vocab,
                          h.info.n_ctx_train,          h.info.image_size,
                          h.info.n_image_tokens,       h.info.n_embd,
                          h.info.describe_beams};
    return all[which];
}

/* ---- text ---- */

EXPORT(tokenize) int tokenize(const char *text, size_t len, int special);
int tokenize(const char *text, size_t len, int special)
{
    size_t n;
    tvlm_status status = tvlm_tokenize(h.model, text, len, special != 0, NULL, 0, &n, &h.error);
    if (!status) status = new_output(n, sizeof(int32_t));
    if (!status)
        status = tvlm_tokenize(h.model, text, len, special != 0, h.output, n, &n, &h.error);
    return status ? -(int)status : (int)n;
}

EXPORT(detokenize) int detokenize(const int32_t *ids, size_t n_ids, int skip);
int detokenize(const int32_t *ids, size_t n_ids, int skip)
{
    size_t n;
    tvlm_status status = tvlm_detokenize(h.model, ids, n_ids, skip != 0, NULL, 0, &n, &h.error);
    if (!status) status = new_output(n, 1);
    if (!status)
        status = tvlm_detokenize(h.model, ids, n_ids, skip != 0, h.output, n, &n, &h.error);
    return status ? -(int)status : (int)n;
}

/* ---- pictures ---- */

/* The images or, of one that is split, frames [S][S][3] at output(): how many. */
EXPORT(preprocess)
int preprocess(const uint8_t *data, unsigned width, unsigned height, unsigned channels, int fit);
int preprocess(const uint8_t *data, unsigned width, unsigned height, unsigned channels, int fit)
{
    tvlm_pixels pixels = {data, width, height, channels, 0};
    tvlm_encode_params params;
    tvlm_encode_params_init(&params, sizeof params);
    params.fit = (tvlm_fit)fit;
    size_t n = tvlm_preprocess_floats(h.model, &pixels, &params);
    size_t frame = (size_t)h.info.image_size * h.info.image_size * 3;
    tvlm_status status = new_output(n, sizeof(float));
    if (!status) status = tvlm_preprocess(h.model, &pixels, &params, h.output, n, &h.error);
    return status ? -(int)status : (int)(n / frame);
}

EXPORT(encode)
tvlm_image *encode(const uint8_t *data, unsigned width, unsigned height, unsigned channels,
                   int fit);
tvlm_image *encode(const uint8_t *data, unsigned width, unsigned height, unsigned channels, int fit)
{
    tvlm_pixels pixels = {data, width, height, channels, 0};
    tvlm_encode_params params;
    tvlm_image *image = NULL;
    tvlm_encode_params_init(&params, sizeof params);
    params.fit = (tvlm_fit)fit;
    params.cancel = h.cancel;
    tvlm_image_encode(h.engine, &pixels, &params, &image, &h.error);
    return image;
}

EXPORT(error_code) int error_code(void);
int error_code(void)
{
    return (int)h.error.code;
}

EXPORT(image_timing) double image_timing(const tvlm_image *image, int which);
double image_timing(const tvlm_image *image, int which)
{
    tvlm_image_timings t = {.size = sizeof t};
    if (tvlm_image_get_timings(image, &t, &h.error)) return 0;
    return which == 0 ? t.preprocess_ms : which == 1 ? t.tower_ms : t.bridge_ms;
}

EXPORT(image_count) unsigned image_count(const tvlm_image *image);
unsigned image_count(const tvlm_image *image)
{
    size_t n, dim;
    tvlm_image_tokens(image, &n, &dim);
    return (unsigned)n;
}

/* The bridge's output, [image_count][n_embd]. */
EXPORT(image_tokens) const float *image_tokens(const tvlm_image *image);
const float *image_tokens(const tvlm_image *image)
{
    size_t n, dim;
    return tvlm_image_tokens(image, &n, &dim);
}

EXPORT(drop_image) void drop_image(tvlm_image *image);
void drop_image(tvlm_image *image)
{
    tvlm_image_free(image);
}

/* ---- conversations ---- */

EXPORT(chat_clear) void chat_clear(void);
void chat_clear(void)
{
    for (size_t i = 0; i < h.n_messages; i++) {
        free((void *)(uintptr_t)h.messages[i].text);
        free((void *)(uintptr_t)h.messages[i].images);
        free((void *)(uintptr_t)h.messages[i].image_at);
    }
    free(h.messages);
    h.messages = NULL;
    h.n_messages = 0;
    for (size_t i = 0; i < h.n_stops; i++)
        free((void *)(uintptr_t)h.stops[i]);
    free(h.stops);
    h.stops = NULL;
    h.n_stops = 0;
}

/* Takes over text, images[n_images] and image_at (nullable), which came from allocate. */
EXPORT(chat_add)
int chat_add(int role, char *text, size_t len, tvlm_image **images, size_t n_images,
             size_t *image_at);
int chat_add(int role, char *text, size_t len, tvlm_image **images, size_t n_images,
             size_t *image_at)
{
    tvlm_message *grown = realloc(h.messages, (h.n_messages + 1) * sizeof *grown);
    if (!grown) {
        free(text);
        free(images);
        free(image_at);
        return tvlm_fail(&h.error, TVLM_ERR_MEMORY, "out of memory for the conversation");
    }
    h.messages = grown;
    h.messages[h.n_messages++] =
        (tvlm_message){(tvlm_role)role, text, len, images, n_images, image_at};
    return TVLM_OK;
}

/* Takes over text, terminated by 0. */
EXPORT(stop_add) int stop_add(char *text);
int stop_add(char *text)
{
    const char **grown = realloc(h.stops, (h.n_stops + 1) * sizeof *grown);
    if (!grown) {
        free(text);
        return tvlm_fail(&h.error, TVLM_ERR_MEMORY, "out of memory for the conversation");
    }
    h.stops = grown;
    h.stops[h.n_stops++] = text;
    return TVLM_OK;
}

EXPORT(cancel_flag) void *cancel_flag(void);
void *cancel_flag(void)
{
    return &h.cancel->requested;
}

EXPORT(cancel_reset) void cancel_reset(void);
void cancel_reset(void)
{
    tvlm_cancel_reset(h.cancel);
}

static tvlm_status tell_tokens(tvlm_generation *g)
{
    tvlm_event e = {.size = sizeof e};
    while (!e.is_last) {
        TVLM_TRY(tvlm_generation_next(g, &e, &h.error));
        host_token(e.id, e.text, e.text_len, e.is_last ? (int)e.finish : -1, e.logprob,
                   e.alternatives, e.n_alternatives);
    }
    return tvlm_generation_get_result(g, &h.result, &h.error);
}

static tvlm_status answer(const tvlm_prompt *prompt, const tvlm_generate_params *params)
{
    tvlm_generation *g;
    TVLM_TRY(tvlm_generation_start(h.engine, h.session, prompt, params, &g, &h.error));
    tvlm_status status = tell_tokens(g);
    tvlm_generation_free(g);
    return status;
}

EXPORT(generate)
int generate(unsigned max_tokens, int ignore_eos, int lookup, float temperature, unsigned top_k,
             float top_p, float min_p, float repeat_penalty, double seed, unsigned no_repeat_ngram,
             unsigned min_tokens, unsigned beams, int logprobs, unsigned n_alternatives);
int generate(unsigned max_tokens, int ignore_eos, int lookup, float temperature, unsigned top_k,
             float top_p, float min_p, float repeat_penalty, double seed, unsigned no_repeat_ngram,
             unsigned min_tokens, unsigned beams, int logprobs, unsigned n_alternatives)
{
    tvlm_prompt *prompt;
    tvlm_generate_params p;
    h.result.size = sizeof h.result;
    tvlm_generate_params_init(&p, sizeof p);
    p.max_tokens = max_tokens;
    p.ignore_eos = ignore_eos != 0;
    p.lookup = lookup != 0;
    p.sampling.temperature = temperature;
    p.sampling.top_k = top_k;
    p.sampling.top_p = top_p;
    p.sampling.min_p = min_p;
    p.sampling.repeat_penalty = repeat_penalty;
    p.sampling.seed = (uint64_t)seed;
    p.sampling.no_repeat_ngram = no_repeat_ngram;
    p.min_tokens = min_tokens;
    p.beams = beams;
    p.stop = h.stops;
    p.n_stop = h.n_stops;
    p.logprobs = logprobs != 0;
    p.n_alternatives = n_alternatives;
    p.cancel = h.cancel;
    TVLM_TRY(tvlm_prompt_new(h.model, &prompt, &h.error));
    tvlm_status status = tvlm_prompt_chat(prompt, h.messages, h.n_messages, &h.error);
    if (!status) status = answer(prompt, &p);
    tvlm_prompt_free(prompt);
    return (int)status;
}

EXPORT(result_ids) const int32_t *result_ids(void);
const int32_t *result_ids(void)
{
    return h.result.ids;
}

EXPORT(result_number) double result_number(int which);
double result_number(int which)
{
    const double all[] = {
        (double)h.result.n_ids,          h.result.finish,    h.result.prefill_ms,
        h.result.first_token_ms,         h.result.decode_ms, (double)h.result.n_prompt_tokens,
        (double)h.result.n_reused_tokens};
    return all[which];
}

/* Logits of every position, [rows][vocabulary]; ids hold -200 for each picture, in order. Returns
 * the rows. */
EXPORT(forward)
int forward(const int32_t *ids, size_t n, tvlm_image *const *images, size_t n_images);
int forward(const int32_t *ids, size_t n, tvlm_image *const *images, size_t n_images)
{
    tvlm_prompt *prompt;
    size_t begin = 0, next = 0, floats = 0;
    tvlm_status status = tvlm_prompt_new(h.model, &prompt, &h.error);
    for (size_t i = 0; !status && i < n; i++) {
        if (ids[i] != TVLM_IMAGE_ID) continue;
        if (next == n_images)
            status =
                tvlm_fail(&h.error, TVLM_ERR_ARGUMENT, "id %zu is an image that is not there", i);
        if (!status && i > begin)
            status = tvlm_prompt_add_ids(prompt, ids + begin, i - begin, &h.error);
        if (!status) status = tvlm_prompt_add_image(prompt, images[next++], &h.error);
        begin = i + 1;
    }
    /* a model that cross-attends has no id for its picture */
    while (!status && next < n_images)
        status = tvlm_prompt_add_image(prompt, images[next++], &h.error);
    if (!status && n > begin)
        status = tvlm_prompt_add_ids(prompt, ids + begin, n - begin, &h.error);
    size_t rows = status ? 0 : tvlm_prompt_n_tokens(prompt);
    if (!status && !tvlm_mul_size(rows, h.info.n_vocab, &floats))
        status = tvlm_fail(&h.error, TVLM_ERR_LIMIT, "%zu rows of logits", rows);
    if (!status) status = new_output(floats, sizeof(float));
    if (!status)
        status =
            tvlm_session_feed(h.engine, h.session, prompt, h.cancel, h.output, floats, &h.error);
    tvlm_prompt_free(prompt);
    return status ? -(int)status : (int)rows;
}
