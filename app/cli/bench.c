/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L /* nanosleep */
#include "base/base.h"
#include "cli/cli.h"

#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char help[] =
    "Usage: tinyvlm bench [OPTIONS] [IMAGE]\n"
    "Milliseconds of each stage (minimum and median of the runs) and memory. Without a picture a "
    "grey\n"
    "one is used; a text model is measured on its decoder alone.\n"
    "\n"
    "Examples:\n"
    "  tinyvlm bench photo.jpg --threads 1\n"
    "  tinyvlm bench -m fastvlm.gguf -n 32 --runs 10 --json\n"
    "\n"
    "      --runs N            measured runs after one to warm up (default 5)\n"
    "      --prompt-tokens N   ids of the prompt of a text model (default 128)\n"
    "      --cancels N         then cancel N more runs, at instants spread over a run, and report\n"
    "                          how long after the request the call returned\n";

enum { STAGES = 6, MAX_RUNS = 1000, OPT_RUNS = CLI_OWN, OPT_PROMPT, OPT_CANCELS };
static const char *const stage_names[STAGES] = {"preprocess", "tower",       "bridge",
                                                "prefill",    "first_token", "decode_per_token"};

typedef struct bench {
    unsigned long runs, prompt_tokens, cancels;
    double ms[STAGES][MAX_RUNS];
    double run_ms; /* a whole run, without what the caller does between its calls */
    double cancel_ms[MAX_RUNS];
    size_t prompt_rows;
} bench;

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static tvlm_status run_once(cli_runner *r, bench *b, const tvlm_pixels *pixels, long run,
                            const tvlm_cancel *cancel, tvlm_error *err)
{
    tvlm_prompt *prompt = NULL;
    tvlm_image *image = NULL;
    tvlm_image_timings t = {0};
    tvlm_result result = {0};
    tvlm_generate_params p;
    tvlm_encode_params encode;
    tvlm_generate_params_init(&p);
    p.max_tokens = r->options->max_tokens;
    p.ignore_eos = true;
    p.lookup = r->options->lookup;
    p.cancel = cancel;
    tvlm_encode_params_init(&encode);
    encode.cancel = cancel;
    tvlm_session_reset(r->session);
    tvlm_status status = tvlm_prompt_new(r->model, &prompt, err);
    if (!status && pixels) status = tvlm_image_encode(r->engine, pixels, &encode, &image, err);
    if (!status && image) {
        tvlm_image_get_timings(image, &t);
        tvlm_message m = {TVLM_ROLE_USER, r->info.describe_prompt, strlen(r->info.describe_prompt),
                          &image, 1};
        status = tvlm_prompt_chat(prompt, &m, 1, err);
    }
    for (unsigned long i = 0; !status && !image && i < b->prompt_tokens; i++) {
        int32_t id = (int32_t)(i * 37 % r->info.n_vocab);
        status = tvlm_prompt_add_ids(prompt, &id, 1, err);
    }
    if (!status) status = tvlm_generate(r->engine, r->session, prompt, &p, &result, err);
    if (!status && run >= 0) {
        double per = result.n_ids > 1
                         ? (result.decode_ms + result.prefill_ms - result.first_token_ms) /
                               (double)(result.n_ids - 1)
                         : 0;
        double ms[STAGES] = {t.preprocess_ms,       t.tower_ms, t.bridge_ms, result.prefill_ms,
                             result.first_token_ms, per};
        for (int s = 0; s < STAGES; s++)
            b->ms[s][run] = ms[s];
        b->prompt_rows = result.n_prompt_rows;
        b->run_ms =
            t.preprocess_ms + t.tower_ms + t.bridge_ms + result.prefill_ms + result.decode_ms;
    }
    tvlm_session_reset(r->session);
    tvlm_image_free(image);
    tvlm_prompt_free(prompt);
    return status;
}

typedef struct alarm_clock {
    tvlm_cancel *cancel;
    double after_ms, rang_at;
} alarm_clock;

static void *ring(void *arg)
{
    alarm_clock *a = arg;
    long ns = (long)(a->after_ms * 1e6);
    nanosleep(&(struct timespec){ns / 1000000000, ns % 1000000000}, NULL);
    a->rang_at = tvlm_now_ms();
    tvlm_cancel_request(a->cancel);
    return NULL;
}

/* A run that a second thread cancels; latency < 0: it ended before the request. */
static tvlm_status cancel_once(cli_runner *r, bench *b, const tvlm_pixels *pixels, double after_ms,
                               double *latency, tvlm_error *err)
{
    pthread_t thread;
    alarm_clock clock = {.cancel = tvlm_cancel_new(), .after_ms = after_ms};
    if (!clock.cancel || pthread_create(&thread, NULL, ring, &clock) != 0) {
        tvlm_cancel_free(clock.cancel);
        return tvlm_fail(err, TVLM_ERR_MEMORY, "cannot start a thread");
    }
    tvlm_status status = run_once(r, b, pixels, -1, clock.cancel, err);
    double end = tvlm_now_ms();
    pthread_join(thread, NULL);
    tvlm_cancel_free(clock.cancel);
    *latency = status == TVLM_ERR_CANCELLED ? end - clock.rang_at : -1;
    return status == TVLM_ERR_CANCELLED ? TVLM_OK : status;
}

static tvlm_status measure_cancels(cli_runner *r, bench *b, const tvlm_pixels *pixels,
                                   tvlm_error *err)
{
    unsigned long n = 0;
    for (unsigned long i = 0; i < b->cancels; i++) {
        double at = b->run_ms * (double)i / (double)b->cancels, latency;
        TVLM_TRY(cancel_once(r, b, pixels, at, &latency, err));
        if (tvlm_cancelled(cli_cancel())) return tvlm_fail(err, TVLM_ERR_CANCELLED, "interrupted");
        if (latency >= 0) b->cancel_ms[n++] = latency;
        if (!r->options->quiet) cli_progress("cancels", i + 1, b->cancels);
    }
    b->cancels = n;
    qsort(b->cancel_ms, n, sizeof *b->cancel_ms, by_value);
    return TVLM_OK;
}

static void report(const cli_runner *r, bench *b, const tvlm_memory *m)
{
    double peak = (double)tvlm_peak_memory() / 1e6;
    json_t *stages = json_object();
    if (!r->options->json)
        printf("%-18s %10s %10s   (%lu runs, prompt of %zu rows)\n", "ms", "min", "median", b->runs,
               b->prompt_rows);
    for (int s = 0; s < STAGES; s++) {
        qsort(b->ms[s], b->runs, sizeof(double), by_value);
        double least = b->ms[s][0], median = b->ms[s][b->runs / 2];
        json_object_set_new(stages, stage_names[s],
                            json_pack("{s:f,s:f}", "min", least, "median", median));
        if (!r->options->json) printf("%-18s %10.2f %10.2f\n", stage_names[s], least, median);
    }
    if (b->cancels) {
        double median = b->cancel_ms[b->cancels / 2], most = b->cancel_ms[b->cancels - 1];
        json_object_set_new(
            stages, "cancel",
            json_pack("{s:f,s:f,s:i}", "median", median, "max", most, "n", (int)b->cancels));
        if (!r->options->json)
            printf("%-18s %10.2f %10.2f   (median and maximum of %lu)\n", "cancel", median, most,
                   b->cancels);
    }
    double per = b->ms[STAGES - 1][b->runs / 2];
    if (!r->options->json)
        printf("%-18s %10.1f\n%-18s %10.1f   (estimated %.1f)\n", "tokens/s",
               per > 0 ? 1000 / per : 0, "peak memory MB", peak, (double)m->total_bytes / 1e6);
    if (r->options->json)
        cli_json_line(json_pack("{s:o,s:i,s:i,s:o,s:f,s:f,s:f}", "model",
                                cli_json_string(r->options->model), "runs", (int)b->runs,
                                "prompt_rows", (int)b->prompt_rows, "stages_ms", stages,
                                "tokens_per_second", per > 0 ? 1000 / per : 0.0, "peak_rss_mb",
                                peak, "estimate_mb", (double)m->total_bytes / 1e6));
    else
        json_decref(stages);
}

static bool take(void *user, int value, const char *text)
{
    bench *b = user;
    if (value == OPT_RUNS) return cli_unsigned(text, 1, MAX_RUNS, &b->runs);
    if (value == OPT_CANCELS) return cli_unsigned(text, 0, MAX_RUNS, &b->cancels);
    return cli_unsigned(text, 1, 100000, &b->prompt_tokens);
}

int cmd_bench(int argc, char **argv)
{
    static bench b = {.runs = 5, .prompt_tokens = 128};
    static const struct option names[] = {
        {"runs", required_argument, NULL, OPT_RUNS},
        {"prompt-tokens", required_argument, NULL, OPT_PROMPT},
        {"cancels", required_argument, NULL, OPT_CANCELS},
        {0}
    };
    cli_own own = {names, take, &b};
    cli_options o;
    cli_runner r;
    tvlm_error err;
    tvlm_memory memory;
    tvlm_decoded picture = {0};
    cli_options_init(&o);
    o.max_tokens = 16;
    int first = cli_parse(argc, argv, &o, &own);
    if (first < 0) return EXIT_USAGE;
    if (o.help) {
        printf("%s%s", help, cli_common_help);
        return 0;
    }
    if (argc - first > 1) return cli_usage("bench: one picture at a time");
    int code = cli_runner_open(&r, &o);
    if (code) return code;
    static uint8_t grey[64 * 64];
    memset(grey, 128, sizeof grey);
    tvlm_pixels pixels = {grey, 64, 64, 1, 0};
    tvlm_status status = cli_takes_pictures(&r, (size_t)(argc - first), &err);
    if (!status && first < argc) status = cli_decode(&o, argv[first], false, &picture, &err);
    if (!status && picture.data) pixels = tvlm_decoded_pixels(&picture);
    const tvlm_pixels *source = r.info.image_size ? &pixels : NULL;
    for (long run = -1; run < (long)b.runs && !status; run++) {
        status = run_once(&r, &b, source, run, cli_cancel(), &err);
        if (!o.quiet) cli_progress("runs", (uint64_t)(run + 1), b.runs);
    }
    if (!status && b.cancels) status = measure_cancels(&r, &b, source, &err);
    tvlm_engine_params engine;
    tvlm_session_params session;
    tvlm_engine_params_init(&engine);
    engine.n_threads = o.threads;
    tvlm_session_params_init(&session);
    session.n_ctx = o.ctx;
    session.kv_type = o.kv_f32 ? TVLM_KV_F32 : TVLM_KV_F16;
    if (!status) status = tvlm_memory_estimate(r.model, &engine, &session, &memory, &err);
    if (!status) report(&r, &b, &memory);
    tvlm_decoded_free(&picture);
    cli_runner_close(&r);
    return status ? cli_fail(status, &err) : 0;
}
