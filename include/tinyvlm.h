/* SPDX-License-Identifier: MIT */
/* clang-format off */
/*
 * tinyvlm.h: vision-language models that run anywhere. The only public header.
 *
 *   bytes  -> tvlm_model     weights, tokenizer, constants      immutable, shared by threads
 *             tvlm_engine    thread pool, kernels, scratch      one computation at a time
 *   pixels -> tvlm_image     an encoded image                   immutable, shared, asked many times
 *   text   -> tvlm_prompt    token ids with images between      built once
 *             tvlm_session   KV cache and its history           one conversation
 *
 * A whole program (examples/basic.c also runs every stage by itself):
 *
 *   tvlm_model_open("m.gguf", NULL, &model, &err);
 *   tvlm_engine_new(model, NULL, &engine, &err);
 *   tvlm_session_new(model, NULL, &session, &err);
 *   tvlm_image_encode(engine, &pixels, NULL, &image, &err);
 *   tvlm_prompt_new(model, &prompt, &err);
 *   tvlm_message message = {TVLM_ROLE_USER, "What is this?", 13, &image, 1, NULL};
 *   tvlm_prompt_chat(prompt, &message, 1, &err);
 *   tvlm_generate_params_init(&params, sizeof params);
 *   params.on_text = print;                                   // streams the answer
 *   tvlm_generate(engine, session, prompt, &params, NULL, &err);
 *
 * Errors. Every function that can fail returns a tvlm_status and takes a tvlm_error, which may be
 * NULL, as its last parameter. NULL for a required pointer is TVLM_ERR_ARGUMENT; functions without
 * a status then do nothing, or return NULL, 0 or an empty string. A function that fails sets the
 * object that it would have made to NULL. The library keeps no global state, never prints and
 * never exits.
 *
 * Structs that can grow start with `size`, the caller's sizeof, so that programs and shared
 * libraries of different versions understand each other. Parameters are set up by their _init
 * function, which writes the defaults listed here; NULL instead of a struct means all defaults. A
 * field that is set but unknown to an older library is TVLM_ERR_UNSUPPORTED. Results are written
 * into a struct whose size the caller has set: the library writes no more than that, and zeros to
 * what it does not know. Structs without `size` (tvlm_error, tvlm_pixels, tvlm_message, tvlm_input,
 * tvlm_alternative, tvlm_sampling, tvlm_work) are elements of arrays or of other structs: they
 * never change.
 *
 * Lifetime. Models, engines, batchers and images are reference-counted: a _free function drops the
 * caller's reference, and whatever was made from the object keeps it, so objects may be freed in
 * any order. Pointers in parameters are used until the call returns; pointers that the library
 * returns belong to their object and live as long, except where their comment says otherwise.
 *
 * Text is UTF-8 with an explicit length. Answers are well-formed whatever the model produces.
 * Shapes are given with the outermost dimension first.
 */
/* clang-format on */
#ifndef TINYVLM_H
#define TINYVLM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* For a shared library on Windows define TVLM_SHARED (our CMake target does). */
#if defined(_WIN32) && defined(TVLM_SHARED) && defined(TVLM_BUILD)
#define TVLM_API __declspec(dllexport)
#elif defined(_WIN32) && defined(TVLM_SHARED)
#define TVLM_API __declspec(dllimport)
#elif defined(__GNUC__)
#define TVLM_API __attribute__((visibility("default")))
#else
#define TVLM_API
#endif

/* TVLM_NULLABLE marks the pointers that may be NULL. Later versions may add values to open enums,
 * never to closed ones. */
#if defined(__clang__)
#define TVLM_NULLABLE    _Nullable
#define TVLM_NONNULL     _Nonnull
#define TVLM_OPEN_ENUM   __attribute__((enum_extensibility(open)))
#define TVLM_CLOSED_ENUM __attribute__((enum_extensibility(closed)))
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wnullability-extension"
#pragma clang assume_nonnull begin
#else
#define TVLM_NULLABLE
#define TVLM_NONNULL
#define TVLM_OPEN_ENUM
#define TVLM_CLOSED_ENUM
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- version and capabilities -------------------------------------------------------------- */

#define TVLM_VERSION_MAJOR 0
#define TVLM_VERSION_MINOR 1
#define TVLM_VERSION_PATCH 0
/* 100 for 0.1.0, 10203 for 1.2.3. */
#define TVLM_VERSION (TVLM_VERSION_MAJOR * 10000 + TVLM_VERSION_MINOR * 100 + TVLM_VERSION_PATCH)

/* Of the library that runs, which may differ from this header's when it is shared. */
TVLM_API const char *tvlm_version(void); /* "0.1.0", static storage */
TVLM_API unsigned tvlm_version_number(void);

typedef enum TVLM_OPEN_ENUM tvlm_list_kind {
    TVLM_LIST_CPU_TIERS = 0,     /* kernels that this machine can run, slowest first */
    TVLM_LIST_PRECISIONS = 1,    /* arithmetic that this machine can run */
    TVLM_LIST_ARCHITECTURES = 2, /* model families */
    TVLM_LIST_CHAT_TEMPLATES = 3 /* known templates */
} tvlm_list_kind;
/* The names that tvlm_model_params and tvlm_model_info use, index 0, 1, ... Static storage; NULL
 * past the end of the list, and for an unknown kind. */
TVLM_API const char *TVLM_NULLABLE tvlm_list(tvlm_list_kind kind, size_t index);

/* ---- errors -------------------------------------------------------------------------------- */

/* Values keep their meaning in all versions. */
typedef enum TVLM_OPEN_ENUM tvlm_status {
    TVLM_OK = 0,
    TVLM_ERR_ARGUMENT = 1,    /* the caller's arguments are wrong */
    TVLM_ERR_IO = 2,          /* a file cannot be opened, read or written */
    TVLM_ERR_FORMAT = 3,      /* a file is damaged or inconsistent */
    TVLM_ERR_UNSUPPORTED = 4, /* well-formed, but not something this version or machine runs */
    TVLM_ERR_MEMORY = 5,      /* allocation failed */
    TVLM_ERR_LIMIT = 6,       /* a limit of the parameters would be exceeded */
    TVLM_ERR_CONTEXT = 7,     /* the prompt does not fit the context */
    TVLM_ERR_CANCELLED = 8,   /* tvlm_cancel_request was called */
    TVLM_ERR_CHECKSUM = 9,    /* bytes of a file do not match their CRC32C */
    TVLM_ERR_STATE = 10       /* not possible at this time (weights still loading, answer over) */
} tvlm_status;

typedef struct tvlm_error {
    tvlm_status code;
    char message[512]; /* one line of UTF-8 without a newline; names the file, field or argument */
} tvlm_error;

/* A short name of the status, static storage. */
TVLM_API const char *tvlm_status_name(tvlm_status status);

/* ---- cancelling ---------------------------------------------------------------------------- */

/* A flag that any thread may raise: calls that were given it return TVLM_ERR_CANCELLED soon after,
 * within a tile of work. It stays raised until reset, so a request made before the call starts is
 * not lost. The flag must outlive the calls that it is given to. */
typedef struct tvlm_cancel tvlm_cancel;
TVLM_API tvlm_cancel *TVLM_NULLABLE tvlm_cancel_new(void); /* NULL: out of memory */
TVLM_API void tvlm_cancel_free(tvlm_cancel *TVLM_NULLABLE cancel);
TVLM_API void tvlm_cancel_request(tvlm_cancel *TVLM_NULLABLE cancel);
TVLM_API void tvlm_cancel_reset(tvlm_cancel *TVLM_NULLABLE cancel);
/* Whether it is raised, or its poll says so, for work of the caller's own; false for NULL. */
TVLM_API bool tvlm_cancel_requested(const tvlm_cancel *TVLM_NULLABLE cancel);
/* For hosts where no other thread can raise the flag (WebAssembly without shared memory): poll is
 * called between tiles, on any thread of the engine, so it must be quick; true cancels. Set it
 * while no call uses the flag; poll and user must live as long. */
TVLM_API void tvlm_cancel_set_poll(tvlm_cancel *TVLM_NULLABLE cancel,
                                   bool (*TVLM_NULLABLE poll)(void *TVLM_NULLABLE user),
                                   void *TVLM_NULLABLE user);

/* ---- model --------------------------------------------------------------------------------- */

typedef struct tvlm_model tvlm_model;
typedef struct tvlm_loader tvlm_loader;

/* Weights arrive in this order; a stage is published once complete and immutable from then on. */
typedef enum TVLM_CLOSED_ENUM tvlm_stage {
    TVLM_STAGE_NONE = 0,
    TVLM_STAGE_HEADER = 1, /* tokenizer, info, memory estimate */
    TVLM_STAGE_TOWER = 2,  /* + vision tower */
    TVLM_STAGE_BRIDGE = 3, /* + projector or pooling: images of FastVLM models can be encoded */
    TVLM_STAGE_DECODER = 4 /* everything */
} tvlm_stage;

typedef struct tvlm_model_params {
    size_t size;         /* set by tvlm_model_params_init */
    bool header_only;    /* stop after the header: enough for tokenizer, info and estimates */
    bool skip_checksums; /* do not verify CRC32C (files without checksums are always accepted) */
    /* TVLM_LIST_CPU_TIERS; NULL: the best. */
    const char *TVLM_NULLABLE cpu;
    size_t max_memory; /* bytes of weights; default SIZE_MAX */
    /* TVLM_LIST_CHAT_TEMPLATES; NULL: the file's. */
    const char *TVLM_NULLABLE chat_template;
    void (*TVLM_NULLABLE on_progress)(void *TVLM_NULLABLE user, uint64_t done, uint64_t total);
    void *TVLM_NULLABLE user;
    /* For tvlm_loader: size of the whole file, as a download's Content-Length; 0: unknown. A header
     * that declares more is refused before memory is taken. */
    uint64_t file_bytes;
    /* Arithmetic of the linear layers; errors in docs/PRECISION.md. NULL or "auto": int8 for block
     * types such as Q8_0, at about the error of Q8_0 itself; for float types int16, 30 times closer
     * than PyTorch's bfloat16, where this CPU has fast kernels for it, else float32. "f32": the
     * reference. "int8": blocks of 32 integers everywhere, float weights converted to Q8_0.
     * "int16": float weights and their inputs in blocks of 256 16-bit integers, the rest as "auto".
     * "bf16": the same in bfloat16, on CPUs with AVX-512 BF16 or ARM's BF16. */
    const char *TVLM_NULLABLE precision;
    /* Threads that read and place the weights in tvlm_model_open and tvlm_model_open_memory; 0: one
     * per core, at most 64. The weights do not depend on it. */
    unsigned n_threads;
    const tvlm_cancel *TVLM_NULLABLE cancel; /* stops loading; tvlm_loader uses it in every feed */
} tvlm_model_params;
/* All of the above but max_memory is false, 0 or NULL. */
TVLM_API void tvlm_model_params_init(tvlm_model_params *TVLM_NULLABLE params, size_t size);

/* Opens a GGUF file. It is read in pieces: one that is cut short meanwhile is an error. */
TVLM_API tvlm_status tvlm_model_open(const char *path,
                                     const tvlm_model_params *TVLM_NULLABLE params,
                                     tvlm_model *TVLM_NULLABLE *TVLM_NONNULL out,
                                     tvlm_error *TVLM_NULLABLE err);
/* The same from memory, which is not needed after the call. */
TVLM_API tvlm_status tvlm_model_open_memory(const void *data, size_t size,
                                            const tvlm_model_params *TVLM_NULLABLE params,
                                            tvlm_model *TVLM_NULLABLE *TVLM_NONNULL out,
                                            tvlm_error *TVLM_NULLABLE err);
/* Drops the caller's reference. Engines, sessions, prompts and images keep their model. */
TVLM_API void tvlm_model_free(tvlm_model *TVLM_NULLABLE model);

/* The primitive below both: a loader that is fed the file's bytes in order, in pieces of any size.
 * Pointers in params must live until the loader is finished or freed. Once tvlm_loader_feed has
 * reached TVLM_STAGE_HEADER, tvlm_loader_model returns the model, and its later stages appear as
 * bytes arrive (tvlm_model_stage, from any thread). That reference belongs to the loader:
 * tvlm_loader_finish hands it to the caller and frees the loader. When that fails, or instead of
 * it, tvlm_loader_free drops both. tvlm_loader_new refuses a cpu or precision that this machine
 * does not run, before any bytes. */
TVLM_API tvlm_status tvlm_loader_new(const tvlm_model_params *TVLM_NULLABLE params,
                                     tvlm_loader *TVLM_NULLABLE *TVLM_NONNULL out,
                                     tvlm_error *TVLM_NULLABLE err);
TVLM_API tvlm_status tvlm_loader_feed(tvlm_loader *loader, const void *TVLM_NULLABLE data,
                                      size_t size, tvlm_error *TVLM_NULLABLE err);
/* NULL before the header stage. */
TVLM_API tvlm_model *TVLM_NULLABLE tvlm_loader_model(tvlm_loader *TVLM_NULLABLE loader);
TVLM_API tvlm_status tvlm_loader_finish(tvlm_loader *loader,
                                        tvlm_model *TVLM_NULLABLE *TVLM_NONNULL out,
                                        tvlm_error *TVLM_NULLABLE err);
TVLM_API void tvlm_loader_free(tvlm_loader *TVLM_NULLABLE loader);

TVLM_API tvlm_stage tvlm_model_stage(const tvlm_model *TVLM_NULLABLE model);

/* The strings live as long as the model. */
typedef struct tvlm_model_info {
    size_t size;                 /* sizeof(tvlm_model_info), set by the caller */
    const char *architecture;    /* TVLM_LIST_ARCHITECTURES */
    const char *name;            /* "" if the file has none */
    const char *license;         /* "" if the file has none */
    const char *description;     /* "" if the file has none */
    const char *chat_template;   /* TVLM_LIST_CHAT_TEMPLATES, "" if it is none of them */
    const char *cpu_tier;        /* the kernels in use */
    const char *describe_prompt; /* the question that `tinyvlm describe` asks */
    uint64_t n_parameters;
    uint64_t file_bytes;   /* size that the header declares */
    uint64_t weight_bytes; /* memory of the packed weights */
    uint32_t n_vocab;      /* logits of a position */
    uint32_t n_ctx_train;
    uint32_t n_embd;
    uint32_t n_layers;
    uint32_t image_size;      /* pixels per side; 0 for text models */
    uint32_t n_image_tokens;  /* visual tokens per image, at most; 0 for text models */
    uint32_t vision_dim;      /* features per tower token */
    uint32_t n_vision_tokens; /* tower tokens before the bridge */
    int32_t bos_id, eos_id;   /* -1 if there is none */
    uint32_t max_images;      /* per prompt: 0 for text models, 1 for Tiny-VLM */
    /* Visual tokens of a frame: n_image_tokens, but of models that split large images (SmolVLM). */
    uint32_t n_frame_tokens;
    uint32_t describe_beams; /* hypotheses that describe best, see tvlm_generate_params.beams; 1:
                              * greedy */
} tvlm_model_info;
TVLM_API tvlm_status tvlm_model_get_info(const tvlm_model *model, tvlm_model_info *out,
                                         tvlm_error *TVLM_NULLABLE err);

/* ---- text ---------------------------------------------------------------------------------- */

/* Writes up to cap ids and sets *n to the number needed (cap 0 measures). text may be any bytes.
 * parse_special: "<|im_end|>" and the like become their ids instead of plain text. */
TVLM_API tvlm_status tvlm_tokenize(const tvlm_model *model, const char *TVLM_NULLABLE text,
                                   size_t len, bool parse_special, int32_t *TVLM_NULLABLE ids,
                                   size_t cap, size_t *n, tvlm_error *TVLM_NULLABLE err);
/* Writes up to cap bytes (no terminator) and sets *n to the number needed: the tokens' own bytes,
 * so a character may be split between tokens. */
TVLM_API tvlm_status tvlm_detokenize(const tvlm_model *model, const int32_t *TVLM_NULLABLE ids,
                                     size_t n_ids, bool skip_special, char *TVLM_NULLABLE text,
                                     size_t cap, size_t *n, tvlm_error *TVLM_NULLABLE err);

/* ---- engine -------------------------------------------------------------------------------- */

typedef struct tvlm_engine tvlm_engine;

#define TVLM_DEFAULT_MAX_PIXELS 300000000 /* phones take photos of 200 million */

typedef struct tvlm_engine_params {
    size_t size;        /* set by tvlm_engine_params_init */
    unsigned n_threads; /* 0 (default): one per core, at most 64; 1: the calling thread alone */
    unsigned max_batch_tokens; /* of a decoder pass; default 256, at most 4096. Prompts are
                                * processed in chunks of min(max_batch_tokens, 256) */
    /* Bytes of scratch; default SIZE_MAX. Passes become smaller to fit, answers stay the same; when
     * 16 tokens, or an image, do not fit, it is TVLM_ERR_LIMIT before anything is allocated. */
    size_t max_memory;
    uint64_t max_pixels; /* of an image; default TVLM_DEFAULT_MAX_PIXELS; sides of up to 65,535 */
    /* Lines for a log, on the thread that computes, in its turn: a call of this engine would wait
     * for itself. user must live as long as the engine. */
    void (*TVLM_NULLABLE on_log)(void *TVLM_NULLABLE user, const char *line);
    void *TVLM_NULLABLE user;
} tvlm_engine_params;
TVLM_API void tvlm_engine_params_init(tvlm_engine_params *TVLM_NULLABLE params, size_t size);

/* Allocates the scratch arena and starts the threads; calls allocate nothing after this. An engine
 * runs one computation at a time: calls from several threads take turns. */
TVLM_API tvlm_status tvlm_engine_new(const tvlm_model *model,
                                     const tvlm_engine_params *TVLM_NULLABLE params,
                                     tvlm_engine *TVLM_NULLABLE *TVLM_NONNULL out,
                                     tvlm_error *TVLM_NULLABLE err);
/* Drops the caller's reference; no call may be in flight. Batchers keep their engine. */
TVLM_API void tvlm_engine_free(tvlm_engine *TVLM_NULLABLE engine);
/* Threads that compute, the caller's among them. */
TVLM_API unsigned tvlm_engine_n_threads(const tvlm_engine *TVLM_NULLABLE engine);
/* For a system that is short of memory, or an app that goes to the background: gives the scratch
 * memory back, which the next call takes again as it needs it. Waits for its turn, so never call it
 * in on_log; in on_text it may be called. Thread-safe. */
TVLM_API void tvlm_engine_trim(tvlm_engine *TVLM_NULLABLE engine);

/* ---- images -------------------------------------------------------------------------------- */

/* 8-bit pixels, top row first. channels: 1 grey, 3 RGB, 4 RGBA. Alpha is dropped, as in the
 * reference implementation: blend transparent images on white first, as our programs do. */
typedef struct tvlm_pixels {
    const uint8_t *TVLM_NULLABLE data;
    uint32_t width, height;
    uint32_t channels;
    size_t stride; /* bytes from one row to the next; 0: width * channels */
} tvlm_pixels;

typedef enum TVLM_OPEN_ENUM tvlm_fit {
    TVLM_FIT_MODEL = 0, /* as the model was trained */
    TVLM_FIT_PAD = 1,   /* pad to a square, then resize */
    TVLM_FIT_CROP = 2,  /* resize the shorter edge, then crop the centre */
    TVLM_FIT_SQUASH = 3 /* resize both edges, ignoring the aspect ratio */
} tvlm_fit;

typedef struct tvlm_encode_params {
    size_t size;             /* set by tvlm_encode_params_init */
    tvlm_fit fit;            /* default TVLM_FIT_MODEL */
    bool keep_vision_tokens; /* keep the tower's output for tvlm_image_vision_tokens */
    const tvlm_cancel *TVLM_NULLABLE cancel;
} tvlm_encode_params;
TVLM_API void tvlm_encode_params_init(tvlm_encode_params *TVLM_NULLABLE params, size_t size);

/* Writes the model's input tensor [image_size][image_size][3] (NHWC, float32): resized as Pillow
 * does (bit-exact), then scaled and biased per channel. cap: floats in out. Models that split large
 * images (SmolVLM; TVLM_FIT_MODEL only) have one such tensor per frame: tvlm_preprocess_floats is
 * the size of all, 0 for arguments that tvlm_preprocess refuses. Thread-safe. */
TVLM_API size_t tvlm_preprocess_floats(const tvlm_model *model, const tvlm_pixels *pixels,
                                       const tvlm_encode_params *TVLM_NULLABLE params);
TVLM_API tvlm_status tvlm_preprocess(const tvlm_model *model, const tvlm_pixels *pixels,
                                     const tvlm_encode_params *TVLM_NULLABLE params, float *out,
                                     size_t cap, tvlm_error *TVLM_NULLABLE err);

typedef struct tvlm_image tvlm_image;

/* Pixels -> visual tokens: preprocess, vision tower, bridge. Where images and decoder passes wait
 * for the same engine they alternate, each kind in order of arrival. The result is immutable and
 * may be used by any number of prompts, sessions and threads. */
TVLM_API tvlm_status tvlm_image_encode(tvlm_engine *engine, const tvlm_pixels *pixels,
                                       const tvlm_encode_params *TVLM_NULLABLE params,
                                       tvlm_image *TVLM_NULLABLE *TVLM_NONNULL out,
                                       tvlm_error *TVLM_NULLABLE err);
/* The same for a vision tower that ran elsewhere (a neural engine, a GPU): its output [n][dim], as
 * tvlm_image_vision_tokens gives it for this model, of an image of width x height, from which
 * models that split images (SmolVLM; TVLM_FIT_MODEL only) know its frames. Only the bridge runs
 * here. Numbers that are not finite are an error. vision is not needed after the call. */
TVLM_API tvlm_status tvlm_image_from_vision(tvlm_engine *engine, const float *vision, size_t n,
                                            size_t dim, uint32_t width, uint32_t height,
                                            const tvlm_encode_params *TVLM_NULLABLE params,
                                            tvlm_image *TVLM_NULLABLE *TVLM_NONNULL out,
                                            tvlm_error *TVLM_NULLABLE err);
/* Drops the caller's reference. Prompts and sessions keep the images that they use. */
TVLM_API void tvlm_image_free(tvlm_image *TVLM_NULLABLE image);

/* The bridge's output [*n][*dim]; lives as long as the image. */
TVLM_API const float *TVLM_NULLABLE tvlm_image_tokens(const tvlm_image *TVLM_NULLABLE image,
                                                      size_t *TVLM_NULLABLE n,
                                                      size_t *TVLM_NULLABLE dim);
/* The tower's output [*n][*dim], or NULL unless keep_vision_tokens was set; lives as long as the
 * image. */
TVLM_API const float *TVLM_NULLABLE tvlm_image_vision_tokens(const tvlm_image *TVLM_NULLABLE image,
                                                             size_t *TVLM_NULLABLE n,
                                                             size_t *TVLM_NULLABLE dim);

typedef struct tvlm_image_timings {
    size_t size; /* sizeof(tvlm_image_timings), set by the caller */
    double preprocess_ms, tower_ms, bridge_ms;
} tvlm_image_timings;
TVLM_API tvlm_status tvlm_image_get_timings(const tvlm_image *image, tvlm_image_timings *out,
                                            tvlm_error *TVLM_NULLABLE err);

/* An encoded image as bytes: little-endian, with checksums, the same on every machine, and readable
 * only by the same model in the same precision, where it is as good as the encoded one. Sizes,
 * checksums and the image's identity are checked: what does not fit is TVLM_ERR_FORMAT or
 * _CHECKSUM, another model's _ARGUMENT, and the message names the field. Saving to a path writes a
 * file beside it, reads it again and renames it: on failure, what was there is untouched. Saving to
 * memory sets *size; out may be NULL to ask for it, else has room for cap bytes. */
TVLM_API tvlm_status tvlm_image_save(const tvlm_image *image, const char *path,
                                     tvlm_error *TVLM_NULLABLE err);
TVLM_API tvlm_status tvlm_image_save_memory(const tvlm_image *image, void *TVLM_NULLABLE out,
                                            size_t cap, size_t *size,
                                            tvlm_error *TVLM_NULLABLE err);
TVLM_API tvlm_status tvlm_image_load(const tvlm_model *model, const char *path,
                                     tvlm_image *TVLM_NULLABLE *TVLM_NONNULL out,
                                     tvlm_error *TVLM_NULLABLE err);
TVLM_API tvlm_status tvlm_image_load_memory(const tvlm_model *model, const void *data, size_t size,
                                            tvlm_image *TVLM_NULLABLE *TVLM_NONNULL out,
                                            tvlm_error *TVLM_NULLABLE err);

/* ---- prompts ------------------------------------------------------------------------------- */

typedef struct tvlm_prompt tvlm_prompt;

typedef enum TVLM_OPEN_ENUM tvlm_role {
    TVLM_ROLE_SYSTEM = 0,
    TVLM_ROLE_USER = 1,
    TVLM_ROLE_ASSISTANT = 2
} tvlm_role;

typedef struct tvlm_message {
    tvlm_role role;
    const char *TVLM_NULLABLE text; /* never parsed for special tokens */
    size_t len;
    tvlm_image *TVLM_NULLABLE const *TVLM_NULLABLE images;
    size_t n_images;
    /* NULL: the images stand before the text, as the model's template has them. Else [n_images]:
     * each stands before this byte of the text, ascending, at the beginning of a character or at
     * the end. Models that cross-attend (Tiny-VLM) have images before the text only. */
    const size_t *TVLM_NULLABLE image_at;
} tvlm_message;

/* The id that stands for an image, or for a frame of one that is split, among a prompt's ids (as in
 * LLaVA). */
#define TVLM_IMAGE_ID (-200)

TVLM_API tvlm_status tvlm_prompt_new(const tvlm_model *model,
                                     tvlm_prompt *TVLM_NULLABLE *TVLM_NONNULL out,
                                     tvlm_error *TVLM_NULLABLE err);
TVLM_API void tvlm_prompt_free(tvlm_prompt *TVLM_NULLABLE prompt);
/* Renders a conversation with the model's chat template, ending where the assistant speaks next.
 * If the last message is the assistant's, it is the beginning of the answer, which continues it. */
TVLM_API tvlm_status tvlm_prompt_chat(tvlm_prompt *prompt,
                                      const tvlm_message *TVLM_NULLABLE messages, size_t n,
                                      tvlm_error *TVLM_NULLABLE err);
/* Appends text as it is (special tokens are parsed if asked), an image, or ids. Models whose
 * decoder cross-attends (Tiny-VLM) take one image per prompt, which adds no id. */
TVLM_API tvlm_status tvlm_prompt_add_text(tvlm_prompt *prompt, const char *TVLM_NULLABLE text,
                                          size_t len, bool parse_special,
                                          tvlm_error *TVLM_NULLABLE err);
TVLM_API tvlm_status tvlm_prompt_add_image(tvlm_prompt *prompt, const tvlm_image *image,
                                           tvlm_error *TVLM_NULLABLE err);
TVLM_API tvlm_status tvlm_prompt_add_ids(tvlm_prompt *prompt, const int32_t *TVLM_NULLABLE ids,
                                         size_t n, tvlm_error *TVLM_NULLABLE err);
/* The ids, with TVLM_IMAGE_ID for each image; valid until the prompt is changed or freed. NULL if
 * there are none. */
TVLM_API const int32_t *TVLM_NULLABLE tvlm_prompt_ids(const tvlm_prompt *TVLM_NULLABLE prompt,
                                                      size_t *TVLM_NULLABLE n);
/* Positions that the prompt takes in the context: its ids, each image counted as its visual
 * tokens. */
TVLM_API size_t tvlm_prompt_n_tokens(const tvlm_prompt *TVLM_NULLABLE prompt);

/* ---- sessions ------------------------------------------------------------------------------ */

typedef struct tvlm_session tvlm_session;

typedef enum TVLM_OPEN_ENUM tvlm_kv_type { TVLM_KV_F16 = 0, TVLM_KV_F32 = 1 } tvlm_kv_type;

#define TVLM_MAX_BEAMS 8

typedef struct tvlm_session_params {
    size_t size;             /* set by tvlm_session_params_init */
    uint32_t n_ctx;          /* positions; 0 (default): min(the model's, 4096) */
    tvlm_kv_type kv_type;    /* default F16; F32 reproduces float32 references */
    uint32_t max_images;     /* of a prompt; default 8 */
    size_t max_prompt_bytes; /* of text in a prompt; default 1 MiB */
    size_t max_memory;       /* bytes; default SIZE_MAX */
    uint32_t max_beams;      /* of an answer, at most TVLM_MAX_BEAMS; 0 (default): as many as the
                              * model describes by. Each beyond one has a KV cache of its own */
} tvlm_session_params;
TVLM_API void tvlm_session_params_init(tvlm_session_params *TVLM_NULLABLE params, size_t size);

/* Allocates everything that a conversation needs. A session is used by one thread at a time. */
TVLM_API tvlm_status tvlm_session_new(const tvlm_model *model,
                                      const tvlm_session_params *TVLM_NULLABLE params,
                                      tvlm_session *TVLM_NULLABLE *TVLM_NONNULL out,
                                      tvlm_error *TVLM_NULLABLE err);
TVLM_API void tvlm_session_free(tvlm_session *TVLM_NULLABLE session);
/* Empties the KV cache. */
TVLM_API void tvlm_session_reset(tvlm_session *TVLM_NULLABLE session);
/* For a system that is short of memory: the same, and gives the cache's memory back, which the next
 * calls take again as they need it. Their answers are the same: a prompt is read from its beginning
 * then. With tvlm_engine_trim, all that the library can make again. */
TVLM_API void tvlm_session_trim(tvlm_session *TVLM_NULLABLE session);
/* Positions in the KV cache. */
TVLM_API size_t tvlm_session_position(const tvlm_session *TVLM_NULLABLE session);
/* Forgets what follows the first `position` positions, at most those there are. Takes no time. The
 * logits stay those of the last pass. */
TVLM_API tvlm_status tvlm_session_rewind(tvlm_session *session, size_t position,
                                         tvlm_error *TVLM_NULLABLE err);

/* A session as bytes: KV cache, history, last logits and, where the decoder cross-attends, the
 * image. It goes on with the same bits, in another process too, and a prompt that shows the same
 * images (tvlm_image_load) reuses it. Rules and errors are those of tvlm_image_save. An answer that
 * was under way is continued by tvlm_generate_params.resume. The session that
 * loads must have the same kv_type and an n_ctx that holds the positions; whatever it held is gone,
 * and after a failure it is empty. Time and size grow with the positions. */
TVLM_API tvlm_status tvlm_session_save(const tvlm_session *session, const char *path,
                                       tvlm_error *TVLM_NULLABLE err);
TVLM_API tvlm_status tvlm_session_save_memory(const tvlm_session *session, void *TVLM_NULLABLE out,
                                              size_t cap, size_t *size,
                                              tvlm_error *TVLM_NULLABLE err);
TVLM_API tvlm_status tvlm_session_load(tvlm_session *session, const char *path,
                                       tvlm_error *TVLM_NULLABLE err);
TVLM_API tvlm_status tvlm_session_load_memory(tvlm_session *session, const void *data, size_t size,
                                              tvlm_error *TVLM_NULLABLE err);

/* An input of a decoder pass: the session reads `token` (or the embedding of n_embd floats, if not
 * NULL) at its next position. Several inputs of a session take consecutive positions. */
typedef struct tvlm_input {
    tvlm_session *TVLM_NULLABLE session;
    int32_t token;
    const float *TVLM_NULLABLE embedding;
    bool want_logits;
} tvlm_input;

/* A decoder pass over inputs of one session or many: the only path through the decoder. Writes the
 * wanted logits, in the order of the inputs, as [n_wanted][n_vocab] to logits (cap floats). Results
 * do not depend on batch, chunking and thread count. On failure no session has moved. */
TVLM_API tvlm_status tvlm_forward(tvlm_engine *engine, const tvlm_input *TVLM_NULLABLE inputs,
                                  size_t n_inputs, const tvlm_cancel *TVLM_NULLABLE cancel,
                                  float *TVLM_NULLABLE logits, size_t cap,
                                  tvlm_error *TVLM_NULLABLE err);

/* Reads a prompt into the session: the longest prefix that the KV cache already holds is kept, the
 * rest is computed. logits: those of every position of the prompt, [n_tokens][n_vocab] (nothing is
 * reused then); if NULL, those of the last stay in the session for sampling. */
TVLM_API tvlm_status tvlm_session_feed(tvlm_engine *engine, tvlm_session *session,
                                       const tvlm_prompt *prompt,
                                       const tvlm_cancel *TVLM_NULLABLE cancel,
                                       float *TVLM_NULLABLE logits, size_t cap,
                                       tvlm_error *TVLM_NULLABLE err);
/* The logits [n_vocab] that the last tvlm_session_feed or step of tvlm_generate left; valid until
 * the session is used again. */
TVLM_API const float *TVLM_NULLABLE tvlm_session_logits(const tvlm_session *TVLM_NULLABLE session);

/* ---- generation ---------------------------------------------------------------------------- */

typedef struct tvlm_sampling {
    float temperature;      /* default 0: greedy */
    uint32_t top_k;         /* most likely ids to choose from; default 0: all */
    float top_p;            /* of the most likely ids with this probability together; default 1 */
    float min_p;            /* of ids at least this likely, relative to the best; default 0 */
    float repeat_penalty;   /* over the last repeat_last_n ids, above 0; default 1: none */
    uint32_t repeat_last_n; /* default 64 */
    uint64_t seed;          /* default 0 */
    /* Of so many ids no sequence comes twice: an id that would complete one is not chosen, unless
     * there is no other. Default 0: any may. */
    uint32_t no_repeat_ngram;
    uint32_t reserved[7]; /* zeros: for samplers to come */
} tvlm_sampling;
TVLM_API void tvlm_sampling_init(tvlm_sampling *TVLM_NULLABLE sampling);

typedef struct tvlm_batcher tvlm_batcher;

#define TVLM_MAX_ALTERNATIVES 20

typedef struct tvlm_generate_params {
    size_t size;         /* set by tvlm_generate_params_init */
    uint32_t max_tokens; /* at least 1; default 256 */
    bool ignore_eos;     /* generate exactly max_tokens */
    tvlm_sampling sampling;
    /* Texts (UTF-8, terminated) that end the answer and are not part of it; they may span tokens.
     */
    const char *TVLM_NULLABLE const *TVLM_NULLABLE stop;
    size_t n_stop;
    /* Receives whole UTF-8 characters as soon as they are certain; false stops. Bytes of the model
     * that are no characters arrive as U+FFFD. text is valid during the call. */
    bool (*TVLM_NULLABLE on_text)(void *TVLM_NULLABLE user, const char *text, size_t len);
    void *TVLM_NULLABLE user;
    const tvlm_cancel *TVLM_NULLABLE cancel;
    tvlm_batcher *TVLM_NULLABLE batcher; /* shares decoder passes with other sessions */
    /* Guess the next tokens from what followed the last ones earlier in the session, and check the
     * guesses in one decoder pass: the same answer to the last bit, sooner where text repeats. How
     * many are guessed depends on how many were right. */
    bool lookup;
    /* For tvlm_generation_next: log probabilities of each token, and of the n_alternatives most
     * likely ones (at most TVLM_MAX_ALTERNATIVES), by the model alone, before sampling. */
    bool logprobs;
    uint32_t n_alternatives;
    /* Go on with the session's last answer, which ended or was cut anywhere: the prompt is the one
     * before and the ids of that answer. Its random numbers go on, instead of beginning at
     * sampling.seed, and the repetition penalty counts its ids: the same ids as uncut, and the
     * text goes on where it was cut, inside a character or a stop string too; but the beginning of
     * a stop string that max_tokens or the context cut was text. */
    bool resume;
    /* End-of-text is not chosen before there are so many ids, those of an answer that is resumed
     * among them, unless there is no other; with ignore_eos and after the beginning of an answer
     * (tvlm_prompt_chat) it may be. Default 1: no answer is empty. */
    uint32_t min_tokens;
    /* Beam search: so many hypotheses at a time, at most the session's max_beams and the engine's
     * max_batch_tokens, in one decoder pass. The answer is the one with the best mean log
     * probability of its tokens, end-of-text included. It is known at the end: all its tokens come
     * then, at once, and a stop string cuts it there. The session keeps the prompt, but not the
     * answer; tvlm_session_logits are those of any hypothesis. 1: greedy. More go without
     * temperature, repeat_penalty, lookup, logprobs and resume. Default 0: the model's own choice:
     * where tvlm_prompt_chat has just asked for an image's description, in the words of
     * tvlm_model_info.describe_prompt, its describe_beams, or what session and engine allow of
     * them; else, and with any of the others but lookup, which is then of no use, 1. */
    uint32_t beams;
} tvlm_generate_params;
TVLM_API void tvlm_generate_params_init(tvlm_generate_params *TVLM_NULLABLE params, size_t size);

typedef enum TVLM_OPEN_ENUM tvlm_finish {
    TVLM_FINISH_STOP = 0,    /* end-of-text token or stop string */
    TVLM_FINISH_LENGTH = 1,  /* max_tokens */
    TVLM_FINISH_CONTEXT = 2, /* the context is full */
    TVLM_FINISH_CALLBACK = 3 /* on_text returned false */
} tvlm_finish;

/* text and ids are valid until the session is used again or freed. */
typedef struct tvlm_result {
    size_t size;                    /* sizeof(tvlm_result), set by the caller */
    const char *TVLM_NULLABLE text; /* all that on_text has received, no terminator */
    size_t text_len;
    const int32_t *TVLM_NULLABLE ids; /* generated, end-of-text included */
    size_t n_ids;
    tvlm_finish finish;
    size_t n_prompt_tokens, n_reused_tokens;      /* n_reused_tokens: found in the KV cache */
    double prefill_ms, first_token_ms, decode_ms; /* first_token_ms counts from the call */
    size_t n_drafted, n_accepted; /* tokens that lookup guessed, and those that were right */
} tvlm_result;

/* Reads the prompt and generates. Ids unknown to the tokenizer are never chosen. When the call
 * fails or is cancelled, result holds what was generated until then. */
TVLM_API tvlm_status tvlm_generate(tvlm_engine *engine, tvlm_session *session,
                                   const tvlm_prompt *prompt,
                                   const tvlm_generate_params *TVLM_NULLABLE params,
                                   tvlm_result *TVLM_NULLABLE result,
                                   tvlm_error *TVLM_NULLABLE err);

/* One image, one question: tvlm_image_encode, tvlm_prompt_chat and tvlm_generate, one after
 * another, in a new conversation (the session's own is forgotten). pixels NULL: no image. len 0:
 * the question that describes an image. The encoded image is not kept: to ask more about it, encode
 * it once. The cancel flag of params stops each step. */
TVLM_API tvlm_status tvlm_ask(tvlm_engine *engine, tvlm_session *session,
                              const tvlm_pixels *TVLM_NULLABLE pixels,
                              const char *TVLM_NULLABLE question, size_t len,
                              const tvlm_generate_params *TVLM_NULLABLE params,
                              tvlm_result *TVLM_NULLABLE result, tvlm_error *TVLM_NULLABLE err);

/* The same, a token at a time: tvlm_generate is a loop over tvlm_generation_next. */
typedef struct tvlm_generation tvlm_generation;

typedef struct tvlm_alternative {
    int32_t id;
    float logprob;
} tvlm_alternative;

/* text and alternatives are valid until the next call with this generation. */
typedef struct tvlm_event {
    size_t size; /* sizeof(tvlm_event), set by the caller */
    int32_t id;
    bool is_last;                   /* no event follows */
    tvlm_finish finish;             /* of the last event */
    const char *TVLM_NULLABLE text; /* whole characters that became certain; no terminator */
    size_t text_len;                /* often 0 */
    float logprob;                  /* natural logarithm, <= 0; 0 unless asked for */
    const tvlm_alternative *TVLM_NULLABLE alternatives; /* most likely first */
    size_t n_alternatives;
} tvlm_event;

/* Computes nothing yet: the first tvlm_generation_next reads the prompt, which must live until
 * then. Engine, session and cancel flag must live until its last tvlm_generation_next, and the
 * session must not be used otherwise. params.on_text is not called. In a batcher, other calls may
 * wait up to its timeout for a generation whose next token is not asked for. */
TVLM_API tvlm_status tvlm_generation_start(tvlm_engine *engine, tvlm_session *session,
                                           const tvlm_prompt *prompt,
                                           const tvlm_generate_params *TVLM_NULLABLE params,
                                           tvlm_generation *TVLM_NULLABLE *TVLM_NONNULL out,
                                           tvlm_error *TVLM_NULLABLE err);
/* The next token. TVLM_ERR_STATE after the last event, or after an error. */
TVLM_API tvlm_status tvlm_generation_next(tvlm_generation *generation, tvlm_event *event,
                                          tvlm_error *TVLM_NULLABLE err);
/* What was generated so far, as tvlm_generate would return it; finish is valid after the last
 * event. */
TVLM_API tvlm_status tvlm_generation_get_result(const tvlm_generation *generation, tvlm_result *out,
                                                tvlm_error *TVLM_NULLABLE err);
/* At any time; the session keeps the tokens that it has read. */
TVLM_API void tvlm_generation_free(tvlm_generation *TVLM_NULLABLE generation);

/* Chooses an id from logits [n_vocab], if NULL those of the session, whose scratch memory it uses:
 * nothing is allocated. recent: the ids for the repetition penalty. state: of the random generator,
 * seeded by the caller and advanced by the call; sampling.seed is not used. */
TVLM_API tvlm_status tvlm_sample(tvlm_session *session, const float *TVLM_NULLABLE logits,
                                 const tvlm_sampling *TVLM_NULLABLE sampling,
                                 const int32_t *TVLM_NULLABLE recent, size_t n_recent,
                                 uint64_t *state, int32_t *id, tvlm_error *TVLM_NULLABLE err);

/* ---- dynamic batching ---------------------------------------------------------------------- */

typedef struct tvlm_batcher_params {
    size_t size;             /* set by tvlm_batcher_params_init */
    unsigned max_batch_size; /* sessions of a pass; default 8 */
    unsigned timeout_ms;     /* how long a pass waits for others; default 2 */
} tvlm_batcher_params;
TVLM_API void tvlm_batcher_params_init(tvlm_batcher_params *TVLM_NULLABLE params, size_t size);

/* Calls of tvlm_generate and tvlm_generation_next that share a batcher, each on its own thread,
 * share decoder passes, and so do generations submitted to it, which one thread runs with
 * tvlm_batcher_step. Prompts are read in chunks beside the steps of others; when more wait than fit
 * a pass, those that have waited longest go first. A cancel ends its own generation only, at once,
 * whatever timeout_ms is: the interrupted pass runs again for the others. Answers are the same as
 * alone. The engine logs a line like "pass: 8 calls, 8 tokens" for each pass. The batcher allocates
 * logits for max(8, max_batch_size) tokens. */
TVLM_API tvlm_status tvlm_batcher_new(tvlm_engine *engine,
                                      const tvlm_batcher_params *TVLM_NULLABLE params,
                                      tvlm_batcher *TVLM_NULLABLE *TVLM_NONNULL out,
                                      tvlm_error *TVLM_NULLABLE err);
/* Drops the caller's reference. Generations keep their batcher. */
TVLM_API void tvlm_batcher_free(tvlm_batcher *TVLM_NULLABLE batcher);

/* Hands a generation to the batcher, which runs it to its last event: until then
 * tvlm_generation_next is TVLM_ERR_STATE. Freeing the generation withdraws it. It must have been
 * started on the batcher's engine, with this batcher in its params or none. tvlm_batcher_submit,
 * _step, _pending and the freeing of submitted generations belong to one thread at a time. */
TVLM_API tvlm_status tvlm_batcher_submit(tvlm_batcher *batcher, tvlm_generation *generation,
                                         tvlm_error *TVLM_NULLABLE err);
/* The next event of a submitted generation, each in turn. Runs at most one decoder pass, for all of
 * them, once the events of the last one are used up, and never waits for company. *generation is
 * the event's, or NULL when the pass only read prompts or nothing is pending. When a generation
 * fails or is cancelled, *generation is that one, status and err are its own, and the others go on.
 * What the event points to is valid until the next step. */
TVLM_API tvlm_status tvlm_batcher_step(tvlm_batcher *batcher,
                                       tvlm_generation *TVLM_NULLABLE *TVLM_NONNULL generation,
                                       tvlm_event *event, tvlm_error *TVLM_NULLABLE err);
/* Generations submitted that have not ended. */
TVLM_API size_t tvlm_batcher_pending(const tvlm_batcher *TVLM_NULLABLE batcher);

/* ---- memory -------------------------------------------------------------------------------- */

typedef struct tvlm_memory {
    size_t size;            /* sizeof(tvlm_memory), set by the caller */
    uint64_t model_bytes;   /* packed weights, header and tokenizer */
    uint64_t engine_bytes;  /* scratch arena, thread pool */
    uint64_t session_bytes; /* KV cache, sampler, history */
    uint64_t image_bytes;   /* one encoded image */
    uint64_t total_bytes;   /* one of each */
    /* Included above: scratch of encoding an image and of a decoder pass, which share the arena;
     * the largest buffer in it (an image map, or one that all threads share); the KV cache. */
    uint64_t vision_scratch_bytes, decoder_scratch_bytes, largest_buffer_bytes, kv_bytes;
    uint64_t n_batch_tokens; /* of a pass, within the engine's max_memory */
} tvlm_memory;

/* Bytes that one model, engine, session and image will allocate. Constructors use the same plan,
 * and it is also the peak: encoding and answering allocate nothing more. (Loading takes, besides
 * model_bytes, a piece of the file per thread and a group of weight rows.) Works on a model opened
 * with header_only. */
TVLM_API tvlm_status tvlm_memory_estimate(const tvlm_model *model,
                                          const tvlm_engine_params *TVLM_NULLABLE engine,
                                          const tvlm_session_params *TVLM_NULLABLE session,
                                          tvlm_memory *out, tvlm_error *TVLM_NULLABLE err);

/* ---- work ---------------------------------------------------------------------------------- */

typedef struct tvlm_work {
    double flops; /* multiplications and additions, of any type */
    double bytes; /* of weights, keys and values, each read once */
} tvlm_work;

typedef struct tvlm_work_plan {
    size_t size;             /* sizeof(tvlm_work_plan), set by the caller */
    tvlm_work tower, bridge; /* of one image; zeros for text models */
    tvlm_work decoder;       /* of one pass with a half-precision cache and logits of one token */
} tvlm_work_plan;

/* Counted from the model's shapes for a decoder pass of n_tokens after n_past positions, to tell
 * how close a measured time is to what a machine can do. Norms, activations and the like are not
 * counted. Works on a model opened with header_only. */
TVLM_API tvlm_status tvlm_work_estimate(const tvlm_model *model, size_t n_past, size_t n_tokens,
                                        tvlm_work_plan *out, tvlm_error *TVLM_NULLABLE err);

#ifdef __cplusplus
}
#endif

#if defined(__clang__)
#pragma clang assume_nonnull end
#pragma clang diagnostic pop
#endif
#endif /* TINYVLM_H */
