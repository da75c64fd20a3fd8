/* SPDX-License-Identifier: MIT */
#include "cli/cli.h"
#include "cli/peaks.h"
#include "system/system.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: tinyvlm bench [OPTIONS] [IMAGE]\n"
    "Time, arithmetic and weight traffic of each stage, as a share of this machine's measured\n"
    "peaks, and peak memory. Without an image a grey one is used; of a text model only the\n"
    "decoder is measured. decode is per token; first_token is from the pixels to the first token.\n"
    "\n"
    "Examples:\n"
    "  tinyvlm bench photo.jpg --threads 1\n"
    "  tinyvlm bench -m fastvlm.gguf -n 32 --runs 10 --json\n"
    "  tinyvlm bench -m qwen2.gguf --prompt-tokens 288 -t 1 --cpu avx2\n"
    "\n"
    "      --runs N            measured runs after one to warm up (default 5)\n"
    "      --prompt-tokens N   ids of the prompt of a text model (default 128)\n"
    "      --requests N        N answers at a time, batched; decode is then per token of all\n"
    "      --no-peaks          do not measure the machine (it takes about two seconds)\n"
    "      --step              one run per line of standard input, its times printed at once as\n"
    "                          JSON, so that other programs can be measured in between\n"
    "      --cancels N         then cancel N more runs, at instants spread over a run, and report\n"
    "                          how long after the request the call returned\n";

enum { MAX_RUNS = 1000, MAX_REQUESTS = 64 };
enum { OPT_RUNS = CLI_OWN, OPT_PROMPT, OPT_REQUESTS, OPT_NO_PEAKS, OPT_STEP, OPT_CANCELS };

enum { LOAD, PREPROCESS, TOWER, BRIDGE, PREFILL, DECODE, FIRST_TOKEN, STAGES };
static const char *const stage_names[STAGES] = {"load",    "preprocess", "tower",      "bridge",
                                                "prefill", "decode",     "first_token"};

typedef struct bench {
    unsigned long runs, prompt_tokens, requests, cancels;
    bool no_peaks, step;
    tvlm_batcher *batcher;                /* of several requests */
    tvlm_session *sessions[MAX_REQUESTS]; /* of those beside the runner's */
    double ms[STAGES][MAX_RUNS];
    double run_ms; /* a whole run, without what the caller does between its calls */
    double cancel_ms[MAX_RUNS];
    size_t prompt_positions, n_ids;
} bench;

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Time after the first token. */
static double rest_ms(const tvlm_result *result)
{
    return result->decode_ms + result->prefill_ms - result->first_token_ms;
}

/* rest: of all tokens but the first, over the number of requests */
static void record(const cli_runner *r, bench *b, long run, const tvlm_image_timings *t,
                   const tvlm_result *result, double rest)
{
    double image = t->preprocess_ms + t->tower_ms + t->bridge_ms;
    double ms[STAGES] = {[LOAD] = r->load_ms,
                         [PREPROCESS] = t->preprocess_ms,
                         [TOWER] = t->tower_ms,
                         [BRIDGE] = t->bridge_ms,
                         [PREFILL] = result->prefill_ms,
                         [DECODE] = result->n_ids > 1 ? rest / (double)(result->n_ids - 1) : 0,
                         [FIRST_TOKEN] = image + result->first_token_ms};
    for (int s = 0; s < STAGES; s++)
        b->ms[s][run] = ms[s];
    b->prompt_positions = result->n_prompt_tokens;
    b->n_ids = result->n_ids;
    b->run_ms = image + result->prefill_ms + result->decode_ms;
}

/* ---- requests at once ---- */

typedef struct request {
    const tvlm_generate_params *params;
    const tvlm_prompt *prompt;
    tvlm_engine *engine;
    tvlm_session *session;
    tvlm_result result;
    tvlm_status status;
    tvlm_error err;
    app_sys_thread *thread;
} request;

static void answer(void *arg)
{
    request *q = arg;
    q->status = tvlm_generate(q->engine, q->session, q->prompt, q->params, &q->result, &q->err);
}

static tvlm_status open_requests(cli_runner *r, bench *b, tvlm_error *err)
{
    tvlm_batcher_params batcher;
    tvlm_session_params session;
    tvlm_batcher_params_init(&batcher, sizeof batcher);
    tvlm_session_params_init(&session, sizeof session);
    batcher.max_batch_size = (unsigned)b->requests;
    session.n_ctx = cli_context(r);
    session.kv_type = r->options->kv_f32 ? TVLM_KV_F32 : TVLM_KV_F16;
    for (unsigned long i = 1; i < b->requests; i++)
        APP_TRY(tvlm_session_new(r->model, &session, &b->sessions[i], err));
    return b->requests > 1 ? tvlm_batcher_new(r->engine, &batcher, &b->batcher, err) : TVLM_OK;
}

static void close_requests(bench *b)
{
    tvlm_batcher_free(b->batcher);
    for (unsigned long i = 1; i < b->requests; i++)
        tvlm_session_free(b->sessions[i]);
}

/* The same prompt for every session; result is the first one's, rest the mean of all, each over
 * their number. */
static tvlm_status generate(cli_runner *r, bench *b, const tvlm_prompt *prompt,
                            tvlm_generate_params *p, tvlm_result *result, double *rest,
                            tvlm_error *err)
{
    static request requests[MAX_REQUESTS];
    unsigned long started = 1;
    p->batcher = b->batcher;
    for (unsigned long i = 0; i < b->requests; i++)
        requests[i] = (request){.params = p,
                                .prompt = prompt,
                                .engine = r->engine,
                                .result.size = sizeof(tvlm_result),
                                .session = i ? b->sessions[i] : r->session};
    while (started < b->requests &&
           (requests[started].thread = app_sys_thread_start(answer, &requests[started])))
        started++;
    answer(&requests[0]);
    tvlm_status status = requests[0].status;
    *result = requests[0].result;
    *rest = rest_ms(result);
    if (status) *err = requests[0].err;
    for (unsigned long i = 1; i < started; i++) {
        app_sys_thread_join(requests[i].thread);
        *rest += rest_ms(&requests[i].result);
        tvlm_session_reset(b->sessions[i]);
        if (!status && (status = requests[i].status) != TVLM_OK) *err = requests[i].err;
    }
    *rest /= (double)(b->requests * b->requests);
    if (!status && started < b->requests)
        return app_fail(err, TVLM_ERR_MEMORY, "cannot start a thread for each request");
    return status;
}

/* ---- runs ---- */

static tvlm_status run_once(cli_runner *r, bench *b, const tvlm_pixels *pixels, long run,
                            const tvlm_cancel *cancel, tvlm_error *err)
{
    tvlm_prompt *prompt = NULL;
    tvlm_image *image = NULL;
    tvlm_image_timings t = {.size = sizeof t};
    tvlm_result result = {.size = sizeof result};
    double rest;
    tvlm_generate_params p;
    tvlm_encode_params encode;
    tvlm_generate_params_init(&p, sizeof p);
    p.max_tokens = r->options->max_tokens;
    p.ignore_eos = true;
    p.lookup = r->options->lookup;
    p.beams = 1;
    p.cancel = cancel;
    tvlm_encode_params_init(&encode, sizeof encode);
    encode.cancel = cancel;
    tvlm_session_reset(r->session);
    tvlm_status status = tvlm_prompt_new(r->model, &prompt, err);
    if (!status && pixels) status = tvlm_image_encode(r->engine, pixels, &encode, &image, err);
    if (!status && image) {
        status = tvlm_image_get_timings(image, &t, err);
        tvlm_message m = {TVLM_ROLE_USER,
                          r->info.describe_prompt,
                          strlen(r->info.describe_prompt),
                          &image,
                          1,
                          NULL};
        status = tvlm_prompt_chat(prompt, &m, 1, err);
    }
    for (unsigned long i = 0; !status && !image && i < b->prompt_tokens; i++) {
        int32_t id = (int32_t)(i * 37 % r->info.n_vocab);
        status = tvlm_prompt_add_ids(prompt, &id, 1, err);
    }
    if (!status) status = generate(r, b, prompt, &p, &result, &rest, err);
    if (!status && run >= 0) record(r, b, run, &t, &result, rest);
    tvlm_session_reset(r->session);
    tvlm_image_free(image);
    tvlm_prompt_free(prompt);
    return status;
}

typedef struct alarm_clock {
    tvlm_cancel *cancel;
    double after_ms, rang_at;
} alarm_clock;

static void ring(void *arg)
{
    alarm_clock *a = arg;
    app_sys_sleep_ms(a->after_ms);
    a->rang_at = app_sys_now_ms();
    tvlm_cancel_request(a->cancel);
}

/* A run that a second thread cancels; latency < 0: it ended before the request. */
static tvlm_status cancel_once(cli_runner *r, bench *b, const tvlm_pixels *pixels, double after_ms,
                               double *latency, tvlm_error *err)
{
    alarm_clock clock = {.cancel = tvlm_cancel_new(), .after_ms = after_ms};
    app_sys_thread *thread = clock.cancel ? app_sys_thread_start(ring, &clock) : NULL;
    if (!thread) {
        tvlm_cancel_free(clock.cancel);
        return app_fail(err, TVLM_ERR_MEMORY, "cannot start a thread");
    }
    tvlm_status status = run_once(r, b, pixels, -1, clock.cancel, err);
    double end = app_sys_now_ms();
    app_sys_thread_join(thread);
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
        APP_TRY(cancel_once(r, b, pixels, at, &latency, err));
        if (tvlm_cancel_requested(cli_cancel()))
            return app_fail(err, TVLM_ERR_CANCELLED, "interrupted");
        if (latency >= 0) b->cancel_ms[n++] = latency;
        if (!r->options->quiet) cli_progress("cancels", i + 1, b->cancels);
    }
    b->cancels = n;
    qsort(b->cancel_ms, n, sizeof *b->cancel_ms, by_value);
    return TVLM_OK;
}

/* ---- the report ---- */

typedef struct stage {
    const char *name;
    double least, median, most; /* ms */
    tvlm_work work;             /* zeros where nothing is counted */
} stage;

typedef struct report {
    stage stages[STAGES];
    size_t n;
    cli_peak peaks[N_PEAKS]; /* without names: not measured */
    unsigned threads;
    double peak_mb, estimate_mb;
} report;

static double per_second(double amount, const stage *s)
{
    return s->median > 0 ? amount / s->median / 1e6 : 0; /* billions */
}

/* Share of the machine's peak, in percent. */
static double share(const report *p, const stage *s, cli_peak_kind kind)
{
    double amount = kind == PEAK_MEMORY ? s->work.bytes : s->work.flops;
    return p->peaks[kind].all > 0 ? 100 * per_second(amount, s) / p->peaks[kind].all : 0;
}

static tvlm_status count_work(const cli_runner *r, const bench *b, tvlm_work out[STAGES],
                              tvlm_error *err)
{
    tvlm_work_plan prefill = {.size = sizeof prefill}, decode = {.size = sizeof decode};
    APP_TRY(tvlm_work_estimate(r->model, 0, b->prompt_positions, &prefill, err));
    APP_TRY(tvlm_work_estimate(r->model, b->prompt_positions + b->n_ids / 2, 1, &decode, err));
    out[LOAD].bytes = (double)r->info.file_bytes;
    out[TOWER] = prefill.tower;
    out[BRIDGE] = prefill.bridge;
    out[PREFILL] = prefill.decoder;
    out[DECODE] = decode.decoder;
    return TVLM_OK;
}

static tvlm_status make_report(const cli_runner *r, bench *b, report *out, tvlm_error *err)
{
    tvlm_work work[STAGES] = {0};
    tvlm_memory memory = {.size = sizeof memory};
    tvlm_engine_params engine;
    tvlm_session_params session;
    tvlm_engine_params_init(&engine, sizeof engine);
    engine.n_threads = r->options->threads;
    tvlm_session_params_init(&session, sizeof session);
    session.n_ctx = r->options->ctx;
    session.kv_type = r->options->kv_f32 ? TVLM_KV_F32 : TVLM_KV_F16;
    APP_TRY(tvlm_memory_estimate(r->model, &engine, &session, &memory, err));
    APP_TRY(count_work(r, b, work, err));
    *out = (report){.threads = tvlm_engine_n_threads(r->engine),
                    .peak_mb = (double)app_sys_peak_memory() / 1e6,
                    .estimate_mb = (double)memory.total_bytes / 1e6};
    for (int s = 0; s < STAGES; s++) {
        double *ms = b->ms[s];
        if (!r->info.image_size && s >= PREPROCESS && s <= BRIDGE) continue;
        qsort(ms, b->runs, sizeof *ms, by_value);
        out->stages[out->n++] =
            (stage){stage_names[s], ms[0], ms[b->runs / 2], ms[b->runs - 1], work[s]};
    }
    if (b->no_peaks) return TVLM_OK;
    cli_signals_forget(); /* nothing to clean up from here on */
    if (!cli_measure_peaks(out->threads, out->peaks))
        return app_fail(err, TVLM_ERR_MEMORY,
                        "no memory or threads to measure the machine's peaks");
    return TVLM_OK;
}

static void print_number(double value, int decimals)
{
    if (value > 0)
        printf(" %9.*f", decimals, value);
    else
        printf(" %9s", "");
}

static void print_stage(const report *p, const stage *s)
{
    printf("%-12s %9.2f %9.2f %9.2f", s->name, s->least, s->median, s->most);
    print_number(s->work.flops / 1e9, 3);
    print_number(per_second(s->work.flops, s), 1);
    print_number(s->work.bytes / 1e6, 1);
    print_number(per_second(s->work.bytes, s), 1);
    for (cli_peak_kind kind = 0; kind < N_PEAKS; kind++)
        if (p->peaks[kind].instructions) print_number(share(p, s, kind), 1);
    putchar('\n');
}

static void print_peak(const report *p, const cli_peak *peak)
{
    if (!peak->instructions) return;
    printf("peak %-10s %8.1f G/s with 1 thread, %.1f with %u (%s)\n", peak->name, peak->one,
           peak->all, p->threads, peak->instructions);
}

static void print_table(const report *p, const bench *b)
{
    printf("%-12s %9s %9s %9s %9s %9s %9s %9s", "ms", "min", "median", "max", "GFLOP", "GFLOP/s",
           "MB", "GB/s");
    for (cli_peak_kind kind = 0; kind < N_PEAKS; kind++)
        if (p->peaks[kind].instructions) printf("  %% %-6s", p->peaks[kind].name);
    putchar('\n');
    for (size_t i = 0; i < p->n; i++)
        print_stage(p, &p->stages[i]);
    double per = b->ms[DECODE][b->runs / 2];
    if (b->cancels)
        printf("%-12s %9.2f %9.2f %9.2f   (%lu)\n", "cancel", b->cancel_ms[0],
               b->cancel_ms[b->cancels / 2], b->cancel_ms[b->cancels - 1], b->cancels);
    printf("%lu runs, %lu requests, %u threads, a prompt of %zu positions, %.1f tokens/s\n",
           b->runs, b->requests, p->threads, b->prompt_positions, per > 0 ? 1000 / per : 0);
    printf("peak memory %.1f MB (estimated %.1f)\n", p->peak_mb, p->estimate_mb);
    for (cli_peak_kind kind = 0; kind < N_PEAKS; kind++)
        print_peak(p, &p->peaks[kind]);
}

static json_t *stage_json(const report *p, const stage *s)
{
    json_t *o =
        json_pack("{s:f,s:f,s:f}", "min_ms", s->least, "median_ms", s->median, "max_ms", s->most);
    if (s->work.flops > 0)
        json_object_set_new(o, "gflop", json_real(s->work.flops / 1e9)),
            json_object_set_new(o, "gflop_per_second", json_real(per_second(s->work.flops, s)));
    if (s->work.bytes > 0)
        json_object_set_new(o, "mb", json_real(s->work.bytes / 1e6)),
            json_object_set_new(o, "gb_per_second", json_real(per_second(s->work.bytes, s)));
    json_t *shares = json_object();
    for (cli_peak_kind kind = 0; kind < N_PEAKS; kind++)
        if (p->peaks[kind].instructions && share(p, s, kind) > 0)
            json_object_set_new(shares, p->peaks[kind].name, json_real(share(p, s, kind)));
    json_object_set_new(o, "percent_of_peak", shares);
    return o;
}

static json_t *peaks_json(const report *p)
{
    json_t *peaks = json_object();
    for (cli_peak_kind kind = 0; kind < N_PEAKS; kind++) {
        const cli_peak *k = &p->peaks[kind];
        if (k->instructions)
            json_object_set_new(peaks, k->name,
                                json_pack("{s:s,s:f,s:f}", "instructions", k->instructions,
                                          "giga_per_second_1_thread", k->one, "giga_per_second",
                                          k->all));
    }
    return peaks;
}

static void print_json(const cli_runner *r, const report *p, const bench *b)
{
    json_t *stages = json_object();
    for (size_t i = 0; i < p->n; i++)
        json_object_set_new(stages, p->stages[i].name, stage_json(p, &p->stages[i]));
    if (b->cancels)
        json_object_set_new(stages, "cancel",
                            json_pack("{s:f,s:f,s:i}", "median_ms", b->cancel_ms[b->cancels / 2],
                                      "max_ms", b->cancel_ms[b->cancels - 1], "n",
                                      (int)b->cancels));
    double per = b->ms[DECODE][b->runs / 2];
    cli_json_line(json_pack("{s:o,s:s,s:i,s:i,s:i,s:i,s:o,s:f,s:f,s:f,s:o}", "model",
                            cli_json_string(r->options->model), "cpu", r->info.cpu_tier, "threads",
                            (int)p->threads, "runs", (int)b->runs, "requests", (int)b->requests,
                            "prompt_tokens", (int)b->prompt_positions, "stages", stages,
                            "tokens_per_second", per > 0 ? 1000 / per : 0.0, "peak_rss_mb",
                            p->peak_mb, "estimate_mb", p->estimate_mb, "peaks", peaks_json(p)));
}

/* ---- the command ---- */

static void print_step(const bench *b, long run)
{
    json_t *ms = json_object();
    for (int s = 0; s < STAGES; s++)
        json_object_set_new(ms, stage_names[s], json_real(b->ms[s][run]));
    cli_json_line(json_pack("{s:o}", "ms", ms));
}

/* Waits for the next line; false at the end. */
static bool next_step(void)
{
    char *line = NULL;
    size_t size = 0;
    bool more = app_sys_read_line(&line, &size) >= 0;
    free(line);
    return more;
}

static tvlm_status measure(cli_runner *r, bench *b, const tvlm_pixels *pixels, tvlm_error *err)
{
    unsigned long most = b->step ? MAX_RUNS : b->runs;
    APP_TRY(open_requests(r, b, err));
    APP_TRY(run_once(r, b, pixels, -1, cli_cancel(), err));
    b->runs = 0;
    while (b->runs < most && (!b->step || next_step())) {
        APP_TRY(run_once(r, b, pixels, (long)b->runs, cli_cancel(), err));
        if (b->step) print_step(b, (long)b->runs);
        b->runs++;
        if (!r->options->quiet) cli_progress("runs", b->runs, most);
    }
    return b->runs && b->cancels ? measure_cancels(r, b, pixels, err) : TVLM_OK;
}

static bool take(void *user, int value, const char *text)
{
    bench *b = user;
    if (value == OPT_NO_PEAKS) return b->no_peaks = true;
    if (value == OPT_STEP) return b->step = true;
    if (value == OPT_RUNS) return cli_unsigned(text, 1, MAX_RUNS, &b->runs);
    if (value == OPT_REQUESTS) return cli_unsigned(text, 1, MAX_REQUESTS, &b->requests);
    if (value == OPT_CANCELS) return cli_unsigned(text, 0, MAX_RUNS, &b->cancels);
    return cli_unsigned(text, 1, 100000, &b->prompt_tokens);
}

static tvlm_status bench_model(cli_runner *r, bench *b, const char *photo, tvlm_error *err)
{
    static uint8_t grey[64 * 64];
    app_decoded decoded = {0};
    report p;
    memset(grey, 128, sizeof grey);
    tvlm_pixels pixels = {grey, 64, 64, 1, 0};
    APP_TRY(cli_takes_photos(r, photo != NULL, err));
    if (photo) {
        APP_TRY(cli_decode(r->options, photo, false, &decoded, err));
        pixels = app_decoded_pixels(&decoded);
    }
    tvlm_status status = measure(r, b, r->info.image_size ? &pixels : NULL, err);
    if (!status && !b->step) status = make_report(r, b, &p, err);
    if (!status && !b->step && r->options->json) print_json(r, &p, b);
    if (!status && !b->step && !r->options->json) print_table(&p, b);
    app_decoded_free(&decoded);
    return status;
}

int cmd_bench(int argc, char **argv)
{
    static bench b = {.runs = 5, .prompt_tokens = 128, .requests = 1};
    static const struct option names[] = {
        {"runs", required_argument, NULL, OPT_RUNS},
        {"prompt-tokens", required_argument, NULL, OPT_PROMPT},
        {"requests", required_argument, NULL, OPT_REQUESTS},
        {"no-peaks", no_argument, NULL, OPT_NO_PEAKS},
        {"step", no_argument, NULL, OPT_STEP},
        {"cancels", required_argument, NULL, OPT_CANCELS},
        {0}
    };
    cli_own own = {names, take, &b};
    cli_options o;
    cli_runner r;
    tvlm_error err;
    cli_options_init(&o);
    o.max_tokens = 16;
    int first = cli_parse(argc, argv, &o, &own);
    if (first < 0) return EXIT_USAGE;
    if (o.help) {
        printf("%s%s", help, cli_common_help);
        return 0;
    }
    if (argc - first > 1) return cli_usage("bench: one image at a time");
    if (o.beams > 1) return cli_usage("bench: measures greedy answers: --beams is not for it");
    int code = cli_runner_open(&r, &o, NULL);
    if (code) return code;
    tvlm_status status = bench_model(&r, &b, first < argc ? argv[first] : NULL, &err);
    close_requests(&b);
    cli_runner_close(&r);
    return status ? cli_fail(status, &err) : 0;
}
