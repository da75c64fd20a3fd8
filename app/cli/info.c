/* SPDX-License-Identifier: MIT */
#include "cli/cli.h"
#include "system/system.h"

#include <errno.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: tinyvlm info [OPTIONS] [MODEL]\n"
    "What a model file holds, and the memory that it needs (exact, without loading it).\n"
    "\n"
    "Examples:\n"
    "  tinyvlm info\n"
    "  tinyvlm info fastvlm.gguf --ctx 8192 --threads 4 --json\n"
    "\n";

static double mb(uint64_t bytes)
{
    return (double)bytes / 1e6;
}

/* The model file, what its header declares of it, and what is there. */
typedef struct report {
    const char *path;
    uint64_t bytes;
    tvlm_model_info info;
    tvlm_memory memory;
    unsigned ctx;
} report;

static bool truncated(const report *r)
{
    return r->bytes < r->info.file_bytes;
}

/* What is not fixed text is made printable: a file's name may hold anything. */
static void print_file(const report *r)
{
    size_t len = strlen(r->path);
    char *clean = malloc(3 * len + 1);
    int n = clean ? (int)app_clean(r->path, len, clean) : 0;
    printf("file          %.*s (%.1f MB)\n", n, clean ? clean : "", mb(r->info.file_bytes));
    free(clean);
}

static void print_table(const report *r)
{
    const tvlm_model_info *i = &r->info;
    const tvlm_memory *m = &r->memory;
    print_file(r);
    if (truncated(r))
        printf("truncated     the file has %llu of %llu bytes\n", (unsigned long long)r->bytes,
               (unsigned long long)i->file_bytes);
    printf("architecture  %s\n", i->architecture);
    if (*i->name) printf("name          %s\n", i->name);
    if (*i->license) printf("license       %s\n", i->license);
    if (*i->description) printf("description   %s\n", i->description);
    printf("parameters    %.1f million\n", (double)i->n_parameters / 1e6);
    printf("decoder       %u layers of %u, vocabulary %u, context %u\n", (unsigned)i->n_layers,
           (unsigned)i->n_embd, (unsigned)i->n_vocab, (unsigned)i->n_ctx_train);
    if (i->image_size)
        printf("images        %ux%u, %u tower tokens of %u, %u visual tokens\n",
               (unsigned)i->image_size, (unsigned)i->image_size, (unsigned)i->n_vision_tokens,
               (unsigned)i->vision_dim, (unsigned)i->n_image_tokens);
    if (i->describe_beams > 1) printf("descriptions  by %u beams\n", (unsigned)i->describe_beams);
    printf("chat template %s\n", *i->chat_template ? i->chat_template : "(not recognised)");
    printf("kernels       %s\n", i->cpu_tier);
    printf("memory        %.1f MB = weights and header %.1f + scratch %.1f + session %.1f (%u "
           "positions) + image %.1f\n",
           mb(m->total_bytes), mb(m->model_bytes), mb(m->engine_bytes), mb(m->session_bytes),
           r->ctx, mb(m->image_bytes));
    printf("  of it       scratch of an image %.1f, of the decoder %.1f, largest buffer %.1f; "
           "key/value cache %.1f\n",
           mb(m->vision_scratch_bytes), mb(m->decoder_scratch_bytes), mb(m->largest_buffer_bytes),
           mb(m->kv_bytes));
}

static void print_json(const report *r)
{
    const tvlm_model_info *i = &r->info;
    const tvlm_memory *m = &r->memory;
    cli_json_line(json_pack(
        "{s:o,s:I,s:I,s:b,s:s,s:s,s:s,s:s,s:I,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:s,s:s,s:{s:i,s:"
        "I,"
        "s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}}",
        "file", cli_json_string(r->path), "file_bytes", (json_int_t)i->file_bytes, "bytes_present",
        (json_int_t)r->bytes, "truncated", (int)truncated(r), "architecture", i->architecture,
        "name", i->name, "license", i->license, "description", i->description, "parameters",
        (json_int_t)i->n_parameters, "layers", (int)i->n_layers, "embedding", (int)i->n_embd,
        "vocabulary", (int)i->n_vocab, "context", (int)i->n_ctx_train, "image_size",
        (int)i->image_size, "image_tokens", (int)i->n_image_tokens, "vision_tokens",
        (int)i->n_vision_tokens, "vision_dim", (int)i->vision_dim, "describe_beams",
        (int)i->describe_beams, "chat_template", i->chat_template, "cpu", i->cpu_tier, "memory",
        "ctx", (int)r->ctx, "model", (json_int_t)m->model_bytes, "engine",
        (json_int_t)m->engine_bytes, "session", (json_int_t)m->session_bytes, "image",
        (json_int_t)m->image_bytes, "total", (json_int_t)m->total_bytes, "vision_scratch",
        (json_int_t)m->vision_scratch_bytes, "decoder_scratch",
        (json_int_t)m->decoder_scratch_bytes, "largest_buffer", (json_int_t)m->largest_buffer_bytes,
        "kv", (json_int_t)m->kv_bytes));
}

static tvlm_status file_size(const char *path, uint64_t *out, tvlm_error *err)
{
    app_sys_facts facts;
    if (!app_sys_look(path, &facts))
        return app_fail(err, TVLM_ERR_IO, "%s: %s", path, strerror(errno));
    *out = facts.size;
    return TVLM_OK;
}

static tvlm_status estimate(const cli_options *o, const tvlm_model *model, report *r,
                            tvlm_error *err)
{
    tvlm_engine_params engine;
    tvlm_session_params session;
    tvlm_engine_params_init(&engine, sizeof engine);
    engine.n_threads = o->threads;
    tvlm_session_params_init(&session, sizeof session);
    session.n_ctx = o->ctx;
    session.kv_type = o->kv_f32 ? TVLM_KV_F32 : TVLM_KV_F16;
    APP_TRY(tvlm_model_get_info(model, &r->info, err));
    r->ctx = o->ctx ? o->ctx : r->info.n_ctx_train < 4096 ? r->info.n_ctx_train : 4096;
    return tvlm_memory_estimate(model, &engine, &session, &r->memory, err);
}

static tvlm_status print_info(const cli_options *o, tvlm_error *err)
{
    tvlm_model *model;
    report r = {.path = o->model, .info.size = sizeof r.info, .memory.size = sizeof r.memory};
    APP_TRY(cli_open_model(o, true, &model, err));
    tvlm_status status = estimate(o, model, &r, err);
    if (!status) status = file_size(o->model, &r.bytes, err);
    if (!status) (o->json ? print_json : print_table)(&r);
    if (!status && truncated(&r))
        status =
            app_fail(err, TVLM_ERR_FORMAT, "%s: the file is truncated: it has %llu of %llu bytes",
                     r.path, (unsigned long long)r.bytes, (unsigned long long)r.info.file_bytes);
    tvlm_model_free(model);
    return status;
}

int cmd_info(int argc, char **argv)
{
    cli_options o;
    tvlm_error err;
    cli_options_init(&o);
    int first = cli_parse(argc, argv, &o, NULL);
    if (first < 0) return EXIT_USAGE;
    if (o.help) {
        printf("%s%s", help, cli_common_help);
        return 0;
    }
    if (argc - first > 1) return cli_usage("info: one model at a time");
    if (first < argc) o.model = argv[first];
    o.model = cli_model_path(&o);
    if (!o.model) return EXIT_INPUT;
    tvlm_status status = print_info(&o, &err);
    return status ? cli_fail(status, &err) : 0;
}
