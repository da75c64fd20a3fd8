/* SPDX-License-Identifier: MIT
 *
 * tinyvlm.h - vision-language models that run anywhere. The only public header.
 *
 *   bytes -> tvlm_model     weights, tokenizer, constants      immutable, shared by threads
 *            tvlm_engine    thread pool, kernels, scratch      one computation at a time
 *   pixels-> tvlm_image     an encoded picture                 immutable, shared, asked many times
 *   text  -> tvlm_prompt    token ids with pictures between    built once
 *            tvlm_session   KV cache, positions, random state  one conversation
 *
 * A whole program (examples/basic.c runs every stage by itself):
 *
 *   tvlm_model_open("m.gguf", NULL, &model, &err);
 *   tvlm_engine_new(model, NULL, &engine, &err);
 *   tvlm_image_encode(engine, &pixels, NULL, &image, &err);
 *   tvlm_session_new(model, NULL, &session, &err);
 *   tvlm_prompt_new(model, &prompt, &err);
 *   tvlm_prompt_chat(prompt, &(tvlm_message){TVLM_ROLE_USER, "What is this?", 13, &image, 1}, 1,
 * &err); tvlm_generate(engine, session, prompt, &params, &result, &err);     // params.on_text
 * streams
 *
 * Conventions. Every function that can fail returns a tvlm_status and takes a nullable
 * tvlm_error as its last parameter. Param structs start with their size and are filled by their
 * _init function; zero in a field means its default; a NULL params pointer means all defaults.
 * Text is UTF-8 with an explicit length; answers are well-formed, whatever the model makes. Shapes
 * are outermost dimension first. Objects are freed by their _free function; a model must outlive
 * everything made from it. NULL where an object is needed is TVLM_ERR_ARGUMENT; functions without a
 * status do nothing then, or return NULL, 0 or empty strings.
 * The library keeps no global state, never prints, never exits.
 */
#ifndef TINYVLM_H
#define TINYVLM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32) && defined(TVLM_SHARED)
#define TVLM_API __declspec(dllexport)
#elif defined(__GNUC__)
#define TVLM_API __attribute__((visibility("default")))
#else
#define TVLM_API
#endif

#define TVLM_VERSION_MAJOR 0
#define TVLM_VERSION_MINOR 1
#define TVLM_VERSION_PATCH 0

/* "0.1.0", static storage. */
TVLM_API const char *tvlm_version(void);

/* ---- errors -------------------------------------------------------------------------------- */

/* Values are pinned: they never change meaning between versions. */
typedef enum tvlm_status {
    TVLM_OK = 0,
    TVLM_ERR_ARGUMENT = 1,    /* the caller's arguments are wrong */
    TVLM_ERR_IO = 2,          /* a file cannot be opened or read */
    TVLM_ERR_FORMAT = 3,      /* a file is damaged or lies about its contents */
    TVLM_ERR_UNSUPPORTED = 4, /* well-formed, but not something this version runs */
    TVLM_ERR_MEMORY = 5,      /* allocation failed */
    TVLM_ERR_LIMIT = 6,       /* a limit of the param structs would be exceeded */
    TVLM_ERR_CONTEXT = 7,     /* the prompt does not fit the context */
    TVLM_ERR_CANCELLED = 8,   /* tvlm_cancel_request was called */
    TVLM_ERR_CHECKSUM = 9,    /* tensor bytes do not match their CRC32C */
    TVLM_ERR_STATE = 10       /* call not valid yet (stage still loading) */
} tvlm_status;

typedef struct tvlm_error {
    tvlm_status code;
    char message[512]; /* one line, UTF-8, no newline; names the file field, key or argument */
} tvlm_error;

/* A short name of the status, static storage. */
TVLM_API const char *tvlm_status_name(tvlm_status status);

/* ---- cancelling ---------------------------------------------------------------------------- */

/* A flag that any thread may raise; calls given it return TVLM_ERR_CANCELLED within one tile of
 * work. It stays raised until reset, so a request made before the call starts is not lost. */
typedef struct tvlm_cancel tvlm_cancel;
TVLM_API tvlm_cancel *tvlm_cancel_new(void); /* NULL when out of memory */
TVLM_API void tvlm_cancel_free(tvlm_cancel *cancel);
TVLM_API void tvlm_cancel_request(tvlm_cancel *cancel);
TVLM_API void tvlm_cancel_reset(tvlm_cancel *cancel);
/* For hosts that cannot raise the flag from another thread (WebAssembly without shared memory):
 * asked between tiles, from any thread of the engine, so it must be quick; true cancels. Set it
 * while no call has the flag. */
TVLM_API void tvlm_cancel_set_poll(tvlm_cancel *cancel, bool (*poll)(void *user), void *user);

/* ---- model --------------------------------------------------------------------------------- */

typedef struct tvlm_model tvlm_model;
typedef struct tvlm_loader tvlm_loader;

/* Weights arrive in this order; a stage is published once complete and immutable from then on. */
typedef enum tvlm_stage {
    TVLM_STAGE_NONE = 0,
    TVLM_STAGE_HEADER = 1, /* tokenizer, info, memory estimate */
    TVLM_STAGE_TOWER = 2,  /* + vision tower */
    TVLM_STAGE_BRIDGE = 3, /* + projector or pooling: images of FastVLM models can be encoded */
    TVLM_STAGE_DECODER = 4 /* everything */
} tvlm_stage;

typedef struct tvlm_model_params {
    size_t size;      /* sizeof(tvlm_model_params) */
    bool header_only; /* stop after the header: tokenizer, info and estimates work, running does not
                       */
    bool skip_checksums; /* do not verify CRC32C (files without checksums are always accepted) */
    const char *cpu;     /* kernel tier: NULL best, else "scalar", "avx2", "avx512", ... */
    size_t max_memory;   /* bytes of weights; default: no limit */
    const char *chat_template; /* NULL: the file's; else "chatml", "qwen2", "smollm2", ... */
    void (*on_progress)(void *user, uint64_t done, uint64_t total);
    void *user;
    /* For tvlm_loader: bytes of the whole file where they are known, as by a download's
     * Content-Length; else 0. A header that declares more is refused before memory is taken. */
    uint64_t file_bytes;
    /* Arithmetic of the linear layers, errors in docs/PRECISION.md. NULL or "auto": int8 for block
     * types such as Q8_0, at about the error that Q8_0 itself has, and for float types int16, 30
     * times closer than PyTorch's bfloat16, where this CPU has fast kernels for it, else float32.
     * "f32": the reference. "int8": blocks of 32 integers everywhere, float weights made Q8_0.
     * "int16": float weights and what they are multiplied with in blocks of 256 integers of 16
     * bits, the rest as "auto". "bf16": the same in bfloat16, on CPUs with AVX-512 BF16. */
    const char *precision;
    /* That read and place the weights in tvlm_model_open and tvlm_model_open_memory; default: the
     * machine's cores, at most 64. The weights do not depend on it. */
    unsigned n_threads;
} tvlm_model_params;
TVLM_API void tvlm_model_params_init(tvlm_model_params *params);

/* Opens a GGUF file, read in pieces: one that is cut while it is read is an error. */
TVLM_API tvlm_status tvlm_model_open(const char *path, const tvlm_model_params *params,
                                     tvlm_model **out, tvlm_error *err);
/* The same from memory. The bytes are not needed after the call. */
TVLM_API tvlm_status tvlm_model_open_memory(const void *data, size_t size,
                                            const tvlm_model_params *params, tvlm_model **out,
                                            tvlm_error *err);
TVLM_API void tvlm_model_free(tvlm_model *model);

/* The primitive below both: a loader that is fed the file's bytes in order, in pieces of any size.
 * Once tvlm_loader_feed has reached TVLM_STAGE_HEADER, tvlm_loader_model gives the model, whose
 * later stages appear as bytes arrive (tvlm_model_stage, readable from any thread). The loader
 * owns the model until tvlm_loader_finish hands it over and frees the loader; when that fails, or
 * instead of it, tvlm_loader_free drops both. */
TVLM_API tvlm_status tvlm_loader_new(const tvlm_model_params *params, tvlm_loader **out,
                                     tvlm_error *err);
TVLM_API tvlm_status tvlm_loader_feed(tvlm_loader *loader, const void *data, size_t size,
                                      tvlm_error *err);
TVLM_API tvlm_model *tvlm_loader_model(tvlm_loader *loader); /* NULL before the header stage */
TVLM_API tvlm_status tvlm_loader_finish(tvlm_loader *loader, tvlm_model **out, tvlm_error *err);
TVLM_API void tvlm_loader_free(tvlm_loader *loader);

TVLM_API tvlm_stage tvlm_model_stage(const tvlm_model *model);

typedef struct tvlm_model_info {
    const char *architecture;    /* "fastvlm", "tinyvlm", "qwen2", "llama" */
    const char *name;            /* "" when the file gives none */
    const char *license;         /* "" when the file gives none */
    const char *description;     /* "" when the file gives none */
    const char *chat_template;   /* recognised template, "" when none is */
    const char *cpu_tier;        /* kernel tier in use */
    const char *describe_prompt; /* the question that `describe` asks */
    uint64_t n_parameters;
    uint64_t file_bytes;   /* size that the header declares */
    uint64_t weight_bytes; /* memory of the packed weights */
    uint32_t n_vocab;      /* rows of logits */
    uint32_t n_ctx_train;
    uint32_t n_embd;
    uint32_t n_layers;
    uint32_t image_size;      /* pixels a side; 0 for text models */
    uint32_t n_image_tokens;  /* visual tokens per picture; 0 for text models */
    uint32_t vision_dim;      /* features per tower token */
    uint32_t n_vision_tokens; /* tower tokens before the bridge */
    int32_t bos_id, eos_id;   /* -1 when absent */
    uint32_t max_images;      /* pictures of one prompt: 0 for text models, 1 for Tiny-VLM */
} tvlm_model_info;
TVLM_API void tvlm_model_get_info(const tvlm_model *model, tvlm_model_info *out);

/* ---- text ---------------------------------------------------------------------------------- */

/* Writes up to cap ids and sets *n to the number needed (call with cap 0 to measure). text may be
 * any bytes. parse_special: "<|im_end|>" and the like become their ids instead of plain text. */
TVLM_API tvlm_status tvlm_tokenize(const tvlm_model *model, const char *text, size_t len,
                                   bool parse_special, int32_t *ids, size_t cap, size_t *n,
                                   tvlm_error *err);
/* Writes up to cap bytes (no terminator) and sets *n to the number needed: the tokens' own bytes,
 * of which a character may take several tokens. */
TVLM_API tvlm_status tvlm_detokenize(const tvlm_model *model, const int32_t *ids, size_t n_ids,
                                     bool skip_special, char *text, size_t cap, size_t *n,
                                     tvlm_error *err);

/* ---- engine -------------------------------------------------------------------------------- */

typedef struct tvlm_engine tvlm_engine;

#define TVLM_DEFAULT_MAX_PIXELS 300000000 /* telephones take pictures of 200 million */

typedef struct tvlm_engine_params {
    size_t size;        /* sizeof(tvlm_engine_params) */
    unsigned n_threads; /* default: the machine's cores, at most 64; 1 uses no other thread */
    unsigned max_batch_tokens; /* rows of one decoder pass; default 256; prompts go in chunks of it,
                                * or of 256 where it is more */
    size_t max_memory;         /* bytes of scratch; default: no limit */
    uint64_t max_pixels;       /* of a picture; default TVLM_DEFAULT_MAX_PIXELS; a side may have
                                * 65,535 */
    void (*on_log)(void *user, const char *line); /* by the computing thread; default: silent */
    void *user;
} tvlm_engine_params;
TVLM_API void tvlm_engine_params_init(tvlm_engine_params *params);

/* Allocates the scratch arena and starts the threads; nothing is allocated per call after this.
 * One engine runs one computation at a time: calls from several threads are serialised. */
TVLM_API tvlm_status tvlm_engine_new(const tvlm_model *model, const tvlm_engine_params *params,
                                     tvlm_engine **out, tvlm_error *err);
TVLM_API void tvlm_engine_free(tvlm_engine *engine);

/* ---- pictures ------------------------------------------------------------------------------ */

/* 8-bit pixels, top row first, rows `stride` bytes apart. channels: 1 grey, 3 RGB, 4 RGBA, whose
 * alpha is dropped as the reference does: blend on white before where the picture shows through, as
 * our programs do. */
typedef struct tvlm_pixels {
    const uint8_t *data;
    uint32_t width, height;
    uint32_t channels;
    size_t stride; /* 0: width * channels */
} tvlm_pixels;

typedef enum tvlm_fit {
    TVLM_FIT_MODEL = 0, /* what the model was trained with */
    TVLM_FIT_PAD = 1,   /* pad to a square, then resize */
    TVLM_FIT_CROP = 2,  /* resize the shorter edge, then centre-crop */
    TVLM_FIT_SQUASH = 3 /* resize both edges, ignoring the aspect ratio */
} tvlm_fit;

/* Writes the model's input tensor [image_size][image_size][3] (NHWC, float32): resize as Pillow
 * does (bit-exact), then scale and bias per channel. cap: floats in out. Thread-safe. */
TVLM_API tvlm_status tvlm_preprocess(const tvlm_model *model, const tvlm_pixels *pixels,
                                     tvlm_fit fit, float *out, size_t cap, tvlm_error *err);

typedef struct tvlm_image tvlm_image;

typedef struct tvlm_encode_params {
    size_t size; /* sizeof(tvlm_encode_params) */
    tvlm_fit fit;
    bool keep_vision_tokens; /* keep the tower's output for tvlm_image_vision_tokens */
    const tvlm_cancel *cancel;
} tvlm_encode_params;
TVLM_API void tvlm_encode_params_init(tvlm_encode_params *params);

/* Picture -> visual tokens: preprocess, vision tower, bridge. Where pictures and decoder passes
 * wait for one engine they take turns, whoever came first first. The result is immutable and may be
 * used by any number of prompts, sessions and threads. Prompts and sessions hold the pictures that
 * they use: tvlm_image_free lets go of the caller's hold, at any time after. */
TVLM_API tvlm_status tvlm_image_encode(tvlm_engine *engine, const tvlm_pixels *pixels,
                                       const tvlm_encode_params *params, tvlm_image **out,
                                       tvlm_error *err);
TVLM_API void tvlm_image_free(tvlm_image *image);

/* The bridge's output [*n][*dim], owned by the image. */
TVLM_API const float *tvlm_image_tokens(const tvlm_image *image, size_t *n, size_t *dim);
/* The tower's output [*n][*dim], or NULL unless keep_vision_tokens was set. */
TVLM_API const float *tvlm_image_vision_tokens(const tvlm_image *image, size_t *n, size_t *dim);

typedef struct tvlm_image_timings {
    double preprocess_ms, tower_ms, bridge_ms;
} tvlm_image_timings;
TVLM_API void tvlm_image_get_timings(const tvlm_image *image, tvlm_image_timings *out);

/* ---- prompts ------------------------------------------------------------------------------- */

typedef struct tvlm_prompt tvlm_prompt;

typedef enum tvlm_role {
    TVLM_ROLE_SYSTEM = 0,
    TVLM_ROLE_USER = 1,
    TVLM_ROLE_ASSISTANT = 2
} tvlm_role;

typedef struct tvlm_message {
    tvlm_role role;
    const char *text; /* never parsed for special tokens */
    size_t len;
    tvlm_image *const *images; /* placed before the text, as the model's template does */
    size_t n_images;
} tvlm_message;

/* The id that stands for one picture among a prompt's ids (as in LLaVA). */
#define TVLM_IMAGE_ID (-200)

TVLM_API tvlm_status tvlm_prompt_new(const tvlm_model *model, tvlm_prompt **out, tvlm_error *err);
TVLM_API void tvlm_prompt_free(tvlm_prompt *prompt);
/* Renders a conversation with the model's chat template, ending where the assistant speaks next. */
TVLM_API tvlm_status tvlm_prompt_chat(tvlm_prompt *prompt, const tvlm_message *messages, size_t n,
                                      tvlm_error *err);
/* Appends text as it is (special tokens parsed when asked) or one picture. Models whose decoder
 * cross-attends (Tiny-VLM) take one picture per prompt, which adds no id. */
TVLM_API tvlm_status tvlm_prompt_add_text(tvlm_prompt *prompt, const char *text, size_t len,
                                          bool parse_special, tvlm_error *err);
TVLM_API tvlm_status tvlm_prompt_add_image(tvlm_prompt *prompt, const tvlm_image *image,
                                           tvlm_error *err);
TVLM_API tvlm_status tvlm_prompt_add_ids(tvlm_prompt *prompt, const int32_t *ids, size_t n,
                                         tvlm_error *err);
/* The ids, with TVLM_IMAGE_ID for each picture; owned by the prompt. */
TVLM_API const int32_t *tvlm_prompt_ids(const tvlm_prompt *prompt, size_t *n);
/* Tokens that the prompt takes in the context: ids, each image counted as its visual tokens. */
TVLM_API size_t tvlm_prompt_n_tokens(const tvlm_prompt *prompt);

/* ---- sessions ------------------------------------------------------------------------------ */

typedef struct tvlm_session tvlm_session;

typedef enum tvlm_kv_type { TVLM_KV_F16 = 0, TVLM_KV_F32 = 1 } tvlm_kv_type;

typedef struct tvlm_session_params {
    size_t size;             /* sizeof(tvlm_session_params) */
    uint32_t n_ctx;          /* default: min(model, 4096) */
    tvlm_kv_type kv_type;    /* F16; F32 to reproduce float32 references */
    uint32_t max_images;     /* pictures of one prompt; default 8 */
    size_t max_prompt_bytes; /* of text in one prompt; default 1 MiB */
    size_t max_memory;       /* bytes; default: no limit */
} tvlm_session_params;
TVLM_API void tvlm_session_params_init(tvlm_session_params *params);

/* Allocates everything a conversation needs. A session is used by one thread at a time. */
TVLM_API tvlm_status tvlm_session_new(const tvlm_model *model, const tvlm_session_params *params,
                                      tvlm_session **out, tvlm_error *err);
TVLM_API void tvlm_session_free(tvlm_session *session);
TVLM_API void tvlm_session_reset(tvlm_session *session);
TVLM_API size_t tvlm_session_position(const tvlm_session *session); /* rows in the KV cache */

/* One input of a decoder pass: session `session` reads `token` (or the embedding of n_embd floats,
 * when not NULL) at its next position; several inputs of one session take consecutive positions. */
typedef struct tvlm_input {
    tvlm_session *session;
    int32_t token;
    const float *embedding;
    bool want_logits;
} tvlm_input;

/* One decoder pass over inputs of one session or many: the only path through the decoder. Writes
 * the wanted logits, in the order of the inputs, as [n_wanted][n_vocab] to logits (cap floats). The
 * result of an input is the same in any batch, chunking and thread count. On failure no session has
 * moved. */
TVLM_API tvlm_status tvlm_forward(tvlm_engine *engine, const tvlm_input *inputs, size_t n_inputs,
                                  const tvlm_cancel *cancel, float *logits, size_t cap,
                                  tvlm_error *err);

/* Feeds a prompt: rows that the session already holds as a common prefix are kept, the rest is
 * forwarded. logits (nullable): of every row of the prompt, [rows][n_vocab] (nothing is reused
 * then); without it the last row's logits stay in the session for sampling. */
TVLM_API tvlm_status tvlm_session_feed(tvlm_engine *engine, tvlm_session *session,
                                       const tvlm_prompt *prompt, const tvlm_cancel *cancel,
                                       float *logits, size_t cap, tvlm_error *err);
/* The logits [n_vocab] that the last tvlm_session_feed or step of tvlm_generate left; owned by the
 * session. */
TVLM_API const float *tvlm_session_logits(const tvlm_session *session);

/* ---- generation ---------------------------------------------------------------------------- */

typedef struct tvlm_sampling {
    float temperature;      /* 0: greedy (default) */
    uint32_t top_k;         /* 0: all */
    float top_p;            /* default 1 */
    float min_p;            /* default 0 */
    float repeat_penalty;   /* default 1; over the last repeat_last_n ids */
    uint32_t repeat_last_n; /* default 64 */
    uint64_t seed;
} tvlm_sampling;

typedef struct tvlm_batcher tvlm_batcher;

#define TVLM_MAX_ALTERNATIVES 20

typedef struct tvlm_generate_params {
    size_t size;         /* sizeof(tvlm_generate_params) */
    uint32_t max_tokens; /* default 256 */
    bool ignore_eos;     /* generate exactly max_tokens */
    tvlm_sampling sampling;
    const char *const *stop; /* UTF-8 that ends the text (not part of it), may span tokens */
    size_t n_stop;
    /* Called with whole UTF-8 characters as soon as they are certain; false stops. Bytes of the
     * model that are none arrive as U+FFFD. */
    bool (*on_text)(void *user, const char *text, size_t len);
    void *user;
    const tvlm_cancel *cancel;
    tvlm_batcher *batcher; /* share decoder passes with other sessions (NULL: alone) */
    /* Guess the next tokens from what followed the last ones earlier in the session, and check the
     * guesses in one decoder pass: the answer is the same to the last bit, sooner where text
     * repeats. How many are guessed follows how many were right. */
    bool lookup;
    /* For tvlm_generation_next: the chance of each token, and of the most likely ones (at most
     * TVLM_MAX_ALTERNATIVES), by the model alone, before sampling changes them. */
    bool logprobs;
    uint32_t n_alternatives;
} tvlm_generate_params;
TVLM_API void tvlm_generate_params_init(tvlm_generate_params *params);

typedef enum tvlm_finish {
    TVLM_FINISH_STOP = 0,    /* end-of-text token or stop string */
    TVLM_FINISH_LENGTH = 1,  /* max_tokens */
    TVLM_FINISH_CONTEXT = 2, /* the context is full */
    TVLM_FINISH_CALLBACK = 3 /* on_text returned false */
} tvlm_finish;

typedef struct tvlm_result {
    const char *text; /* all that on_text is given, valid until the session's next generate or free
                       */
    size_t text_len;
    const int32_t *ids; /* the generated ids, end-of-text included, same lifetime */
    size_t n_ids;
    tvlm_finish finish;
    size_t n_prompt_tokens, n_reused_tokens;
    double prefill_ms, first_token_ms, decode_ms; /* first_token_ms counts from the call */
    size_t n_drafted, n_accepted; /* tokens that lookup guessed, and those that came true */
} tvlm_result;

/* Feeds the prompt and generates. Ids that the tokenizer does not know are never chosen. A call
 * that fails, or is cancelled, leaves in result what was generated until then. */
TVLM_API tvlm_status tvlm_generate(tvlm_engine *engine, tvlm_session *session,
                                   const tvlm_prompt *prompt, const tvlm_generate_params *params,
                                   tvlm_result *result, tvlm_error *err);

/* The same, a token at a time: tvlm_generate is a loop over tvlm_generation_next. */
typedef struct tvlm_generation tvlm_generation;

typedef struct tvlm_alternative {
    int32_t id;
    float logprob;
} tvlm_alternative;

typedef struct tvlm_event {
    size_t size; /* sizeof(tvlm_event), set by the caller */
    int32_t id;
    bool is_last;       /* no event follows */
    tvlm_finish finish; /* of the last event */
    const char *text;   /* whole characters that became certain, maybe none; no terminator */
    size_t text_len;
    float logprob;                        /* natural logarithm, <= 0; 0 unless asked for */
    const tvlm_alternative *alternatives; /* most likely first */
    size_t n_alternatives;
} tvlm_event;

/* Reads nothing yet: the first tvlm_generation_next feeds the prompt. Until it has returned the
 * prompt must live; engine, session, batcher and cancel flag until tvlm_generation_free, and the
 * session must not be used otherwise. params.on_text is not called. In a batcher, other calls may
 * wait up to its timeout for one that is started and not asked for its next token. */
TVLM_API tvlm_status tvlm_generation_start(tvlm_engine *engine, tvlm_session *session,
                                           const tvlm_prompt *prompt,
                                           const tvlm_generate_params *params,
                                           tvlm_generation **out, tvlm_error *err);
/* The next token. What the event points to is valid until the next call. After the last event, or
 * after an error, TVLM_ERR_STATE. */
TVLM_API tvlm_status tvlm_generation_next(tvlm_generation *generation, tvlm_event *event,
                                          tvlm_error *err);
/* What was generated so far, as tvlm_generate would return it. */
TVLM_API void tvlm_generation_get_result(const tvlm_generation *generation, tvlm_result *out);
/* At any time; the session goes on from the tokens that it has read. */
TVLM_API void tvlm_generation_free(tvlm_generation *generation);

/* Chooses one id from logits [n_vocab]; recent (nullable) are the ids for the repetition penalty.
 * state: the random state, seeded by the caller, advanced by the call. */
TVLM_API tvlm_status tvlm_sample(const tvlm_model *model, const float *logits,
                                 const tvlm_sampling *sampling, const int32_t *recent,
                                 size_t n_recent, uint64_t *state, int32_t *id, tvlm_error *err);

/* ---- dynamic batching ---------------------------------------------------------------------- */

typedef struct tvlm_batcher_params {
    size_t size;             /* sizeof(tvlm_batcher_params) */
    unsigned max_batch_size; /* sessions of one pass; default 8 */
    unsigned timeout_ms;     /* how long a pass waits for others; default 2 */
} tvlm_batcher_params;
TVLM_API void tvlm_batcher_params_init(tvlm_batcher_params *params);

/* tvlm_generate calls that name the batcher, each on its own thread, share decoder passes. A call
 * takes part from its next step on, and its prompt is read in pieces beside the steps of others;
 * when more calls wait than a pass has room for, those that have waited longest go first. A cancel
 * ends its own call only, at once: the pass it stops is run again for the others. Answers are those
 * of calls alone. The engine's log has a line "pass: 8 calls, 8 rows" for each. The batcher takes
 * memory of its own for max(8, max_batch_size) rows of logits. */
TVLM_API tvlm_status tvlm_batcher_new(tvlm_engine *engine, const tvlm_batcher_params *params,
                                      tvlm_batcher **out, tvlm_error *err);
TVLM_API void tvlm_batcher_free(tvlm_batcher *batcher); /* no call may be in flight */

/* ---- memory -------------------------------------------------------------------------------- */

typedef struct tvlm_memory {
    uint64_t model_bytes;   /* packed weights, header and tokenizer */
    uint64_t engine_bytes;  /* scratch arena, pool */
    uint64_t session_bytes; /* KV cache, sampler, history */
    uint64_t image_bytes;   /* one encoded picture */
    uint64_t total_bytes;   /* one of each */
    /* Of them: scratch while a picture is encoded and in a decoder pass, which take turns, the
     * largest buffer in it (a map, or what all threads have of one), the key/value cache. */
    uint64_t vision_scratch_bytes, decoder_scratch_bytes, largest_buffer_bytes, kv_bytes;
} tvlm_memory;

/* What model, one engine, one session and one image allocate, before anything is allocated. It is
 * the plan that the constructors themselves follow, so the two cannot differ, and at once the peak:
 * encoding and answering take nothing more. (Loading holds a piece of the file per thread and
 * one group of rows besides model_bytes.) Works on a model opened with header_only. */
TVLM_API tvlm_status tvlm_memory_estimate(const tvlm_model *model, const tvlm_engine_params *engine,
                                          const tvlm_session_params *session, tvlm_memory *out,
                                          tvlm_error *err);

/* ---- work ---------------------------------------------------------------------------------- */

typedef struct tvlm_work {
    double flops; /* multiplications and additions, of whatever type */
    double bytes; /* of weights, keys and values, each read once */
} tvlm_work;

typedef struct tvlm_work_plan {
    tvlm_work tower, bridge; /* of one picture; zeros for text models */
    tvlm_work decoder;       /* of one pass, a half-precision cache, logits of one row */
} tvlm_work_plan;

/* Counted from the model's shapes, for a decoder pass of `rows` rows after `past` positions, to
 * tell how near a measured time is to what a machine can do. Norms, activations and the like are
 * not counted. Works on a model opened with header_only. */
TVLM_API tvlm_status tvlm_work_estimate(const tvlm_model *model, size_t past, size_t rows,
                                        tvlm_work_plan *out, tvlm_error *err);

#ifdef __cplusplus
}
#endif
#endif /* TINYVLM_H */
