/* SPDX-License-Identifier: MIT
 * Sessions and images that are saved: they go on with the same bits, here and in another process;
 * damaged, foreign and hostile bytes are refused, and leave nothing behind. */
#include "base/base.h"
#include "model/gguf.h"
#include "tinyvlm.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "check.h"

#define MODELS  TVLM_TEST_DATA "/../fuzz/corpus/gguf/"
#define FOLDER  TVLM_BUILD_DIR "/saved"
#define SESSION FOLDER "/session"
#define IMAGE   FOLDER "/image"

enum { N_CTX = 64, ANSWER = 6, TURN = 1 + ANSWER, HEADER = 64 };

static tvlm_error err;
static const char *self; /* this program */
static unsigned encoded; /* images */

static const char *const models[] = {"fastvlm", "tinyvlm", "llama", "smolvlm"};

/* ---- a conversation ---- */

typedef struct talk {
    tvlm_model *model;
    tvlm_engine *engine;
    tvlm_session *session;
    tvlm_image *image;     /* NULL: a text model */
    int32_t ids[2 * TURN]; /* all that was said: a question of one token, its answer */
    size_t n_ids, n_reused;
    float *logits;
} talk;

static void count_images(void *user, const char *line)
{
    (void)user;
    encoded += !strncmp(line, "image:", 6);
}

static tvlm_session *session_of(const talk *t, uint32_t n_ctx, tvlm_kv_type type)
{
    tvlm_session *session;
    tvlm_session_params s;
    tvlm_session_params_init(&s, sizeof s);
    s.n_ctx = n_ctx;
    s.kv_type = type;
    OK(tvlm_session_new(t->model, &s, &session, &err));
    return session;
}

static talk open_talk(const char *name, tvlm_kv_type type)
{
    talk t = {0};
    char path[1024];
    tvlm_engine_params e;
    snprintf(path, sizeof path, MODELS "%s.gguf", name);
    OK(tvlm_model_open(path, NULL, &t.model, &err));
    tvlm_engine_params_init(&e, sizeof e);
    e.n_threads = 1;
    e.on_log = count_images;
    OK(tvlm_engine_new(t.model, &e, &t.engine, &err));
    t.session = session_of(&t, N_CTX, type);
    return t;
}

static void look(talk *t)
{
    static const uint8_t grey[4] = {0, 255, 90, 7};
    tvlm_pixels pixels = {grey, 2, 2, 1, 0};
    tvlm_encode_params p;
    tvlm_encode_params_init(&p, sizeof p);
    p.keep_vision_tokens = true;
    tvlm_model_info info = {.size = sizeof info};
    OK(tvlm_model_get_info(t->model, &info, &err));
    if (info.image_size) OK(tvlm_image_encode(t->engine, &pixels, &p, &t->image, &err));
}

static void close_talk(talk *t)
{
    tvlm_image_free(t->image);
    tvlm_session_free(t->session);
    tvlm_engine_free(t->engine);
    tvlm_model_free(t->model);
}

/* Three ids, the image, what was said so far, and `more`: it goes on. */
static void say(talk *t, int32_t more)
{
    tvlm_prompt *prompt;
    tvlm_generate_params p;
    tvlm_result r = {.size = sizeof r};
    t->ids[t->n_ids++] = more;
    OK(tvlm_prompt_new(t->model, &prompt, &err));
    OK(tvlm_prompt_add_ids(prompt, (int32_t[]){1, 2, 3}, 3, &err));
    if (t->image) OK(tvlm_prompt_add_image(prompt, t->image, &err));
    OK(tvlm_prompt_add_ids(prompt, t->ids, t->n_ids, &err));
    tvlm_generate_params_init(&p, sizeof p);
    p.max_tokens = ANSWER;
    p.ignore_eos = true;
    p.sampling = (tvlm_sampling){.temperature = 1, .top_p = 1, .repeat_penalty = 1, .seed = 5};
    OK(tvlm_generate(t->engine, t->session, prompt, &p, &r, &err));
    assert_int_equal(r.n_ids, ANSWER);
    memcpy(t->ids + t->n_ids, r.ids, sizeof(int32_t[ANSWER]));
    t->n_ids += ANSWER;
    t->n_reused = r.n_reused_tokens;
    tvlm_prompt_free(prompt);
}

static size_t n_vocab(const talk *t)
{
    tvlm_model_info info = {.size = sizeof info};
    OK(tvlm_model_get_info(t->model, &info, &err));
    return info.n_vocab;
}

static void assert_same(const talk *a, const talk *b)
{
    assert_int_equal(a->n_ids, b->n_ids);
    assert_memory_equal(a->ids, b->ids, sizeof a->ids);
    assert_int_equal(tvlm_session_position(a->session), tvlm_session_position(b->session));
    assert_memory_equal(tvlm_session_logits(a->session), tvlm_session_logits(b->session),
                        n_vocab(a) * sizeof(float));
}

/* ---- bytes ---- */

typedef struct bytes {
    unsigned char *data;
    size_t size;
} bytes;

static bytes saved_session(const talk *t)
{
    bytes b;
    OK(tvlm_session_save_memory(t->session, NULL, 0, &b.size, &err));
    b.data = malloc(b.size);
    assert_non_null(b.data);
    IS(ARGUMENT, tvlm_session_save_memory(t->session, b.data, b.size - 1, &b.size, &err));
    SAYS("room");
    OK(tvlm_session_save_memory(t->session, b.data, b.size, &b.size, &err));
    return b;
}

static bytes saved_image(const talk *t)
{
    bytes b;
    OK(tvlm_image_save_memory(t->image, NULL, 0, &b.size, &err));
    b.data = malloc(b.size);
    assert_non_null(b.data);
    OK(tvlm_image_save_memory(t->image, b.data, b.size, &b.size, &err));
    return b;
}

static void store32(unsigned char *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (unsigned char)(v >> 8 * i);
}

/* Both checksums are made right again: somebody meant it. */
static void sign(bytes b)
{
    store32(b.data + HEADER - 4, tvlm_crc32c(0, b.data, HEADER - 4));
    store32(b.data + b.size - 4, tvlm_crc32c(0, b.data, b.size - 4));
}

/* ---- it goes on ---- */

static void a_saved_session_goes_on(void **state)
{
    (void)state;
    for (size_t i = 0; i < TVLM_COUNT(models); i++)
        for (int type = TVLM_KV_F16; type <= TVLM_KV_F32; type++) {
            talk a = open_talk(models[i], (tvlm_kv_type)type);
            look(&a);
            say(&a, 4);
            bytes s = saved_session(&a), image = {0};
            if (a.image) image = saved_image(&a);
            talk b = open_talk(models[i], (tvlm_kv_type)type);
            memcpy(b.ids, a.ids, sizeof a.ids);
            b.n_ids = a.n_ids;
            encoded = 0;
            OK(tvlm_session_load_memory(b.session, s.data, s.size, &err));
            assert_same(&a, &b);
            bytes again = saved_session(&b);
            assert_int_equal(again.size, s.size);
            assert_memory_equal(again.data, s.data, s.size);
            if (a.image)
                OK(tvlm_image_load_memory(b.model, image.data, image.size, &b.image, &err));
            size_t position = tvlm_session_position(b.session);
            say(&a, 9);
            say(&b, 9);
            assert_same(&a, &b);
            assert_int_equal(b.n_reused, position); /* nothing is read twice */
            assert_int_equal(encoded, 0);
            free(s.data);
            free(image.data);
            free(again.data);
            close_talk(&a);
            close_talk(&b);
        }
}

/* The answer to a question, from its id `from` on. */
static void answer_from(talk *t, bool resume, size_t from, size_t until)
{
    tvlm_prompt *prompt;
    tvlm_generate_params p;
    tvlm_result r = {.size = sizeof r};
    OK(tvlm_prompt_new(t->model, &prompt, &err));
    OK(tvlm_prompt_add_ids(prompt, (int32_t[]){1, 2, 3}, 3, &err));
    if (t->image) OK(tvlm_prompt_add_image(prompt, t->image, &err));
    OK(tvlm_prompt_add_ids(prompt, t->ids, from, &err));
    tvlm_generate_params_init(&p, sizeof p);
    p.max_tokens = (uint32_t)(until - from);
    p.ignore_eos = true;
    p.resume = resume;
    p.sampling = (tvlm_sampling){
        .temperature = 2, .top_p = 1, .repeat_penalty = 1.7f, .repeat_last_n = 64, .seed = 5};
    OK(tvlm_generate(t->engine, t->session, prompt, &p, &r, &err));
    assert_int_equal(r.n_ids, until - from);
    memcpy(t->ids + from, r.ids, r.n_ids * sizeof *r.ids);
    t->n_ids = until;
    tvlm_prompt_free(prompt);
}

/* An answer that was cut before its first id is the last one: the one before it is not resumed. */
static void an_answer_without_ids_is_resumed(void **state)
{
    (void)state;
    talk fresh = open_talk(models[0], TVLM_KV_F16), t = open_talk(models[0], TVLM_KV_F16);
    tvlm_prompt *prompt;
    tvlm_generation *cut;
    look(&fresh);
    look(&t);
    answer_from(&fresh, false, 0, ANSWER);
    answer_from(&t, false, 0, ANSWER);
    OK(tvlm_prompt_new(t.model, &prompt, &err));
    OK(tvlm_prompt_add_ids(prompt, (int32_t[]){1, 2, 3}, 3, &err));
    OK(tvlm_generation_start(t.engine, t.session, prompt, NULL, &cut, &err));
    tvlm_generation_free(cut);
    tvlm_prompt_free(prompt);
    answer_from(&t, true, 0, ANSWER);
    assert_memory_equal(t.ids, fresh.ids, ANSWER * sizeof *t.ids);
    close_talk(&fresh);
    close_talk(&t);
}

/* Cut after any token, saved, loaded, and cut again: the same ids. Begun anew they are others. */
static void a_cut_answer_is_resumed(void **state)
{
    (void)state;
    size_t n_others = 0;
    for (size_t i = 0; i < TVLM_COUNT(models); i++) {
        talk whole = open_talk(models[i], TVLM_KV_F16);
        look(&whole);
        answer_from(&whole, true, 0, 2 * ANSWER); /* there is nothing to resume: it begins */
        for (size_t cut = 1; cut < ANSWER; cut++) {
            talk a = open_talk(models[i], TVLM_KV_F16), b = open_talk(models[i], TVLM_KV_F16);
            look(&a);
            look(&b);
            answer_from(&a, false, 0, cut);
            bytes s = saved_session(&a);
            OK(tvlm_session_load_memory(b.session, s.data, s.size, &err));
            memcpy(b.ids, a.ids, sizeof a.ids);
            answer_from(&b, true, cut, ANSWER);
            answer_from(&b, true, ANSWER, 2 * ANSWER);
            assert_same(&whole, &b);
            answer_from(&a, false, cut, 2 * ANSWER);
            n_others += memcmp(a.ids, whole.ids, sizeof a.ids) != 0;
            free(s.data);
            close_talk(&a);
            close_talk(&b);
        }
        close_talk(&whole);
    }
    assert_true(n_others > 0);
}

static void a_loaded_image_is_the_image(void **state)
{
    (void)state;
    talk t = open_talk("tinyvlm", TVLM_KV_F16);
    tvlm_image *loaded;
    size_t n, dim, n2, dim2;
    look(&t);
    bytes b = saved_image(&t);
    OK(tvlm_image_load_memory(t.model, b.data, b.size, &loaded, &err));
    const float *x = tvlm_image_tokens(t.image, &n, &dim),
                *y = tvlm_image_tokens(loaded, &n2, &dim2);
    assert_true(n == n2 && dim == dim2);
    assert_memory_equal(x, y, n * dim * sizeof *x);
    x = tvlm_image_vision_tokens(t.image, &n, &dim);
    y = tvlm_image_vision_tokens(loaded, &n2, &dim2);
    assert_non_null(y);
    assert_true(n == n2 && dim == dim2);
    assert_memory_equal(x, y, n * dim * sizeof *x);
    tvlm_image_free(loaded);
    free(b.data);
    close_talk(&t);
}

/* What `--go-on MODEL` does: the child of the test below. */
static int go_on(const char *name)
{
    talk t = open_talk(name, TVLM_KV_F16);
    FILE *f = fopen(FOLDER "/ids", "r+b");
    if (!f || fread(t.ids, sizeof *t.ids, TURN, f) != TURN) return 1;
    t.n_ids = TURN;
    if (tvlm_session_load(t.session, SESSION, &err)) return 2;
    if (strcmp(name, "llama") != 0 && tvlm_image_load(t.model, IMAGE, &t.image, &err)) return 3;
    say(&t, 9);
    if (encoded) return 4;
    rewind(f);
    size_t n = n_vocab(&t);
    if (fwrite(t.ids, sizeof *t.ids, 2 * TURN, f) != 2 * TURN) return 5;
    if (fwrite(tvlm_session_logits(t.session), sizeof(float), n, f) != n) return 6;
    if (fclose(f)) return 7;
    close_talk(&t);
    return 0;
}

static void another_process_goes_on(void **state)
{
    (void)state;
    for (size_t i = 0; i < TVLM_COUNT(models); i++) {
        talk t = open_talk(models[i], TVLM_KV_F16);
        static float logits[1 << 12];
        int32_t ids[2 * TURN];
        char command[2048];
        look(&t);
        say(&t, 4);
        OK(tvlm_session_save(t.session, SESSION, &err));
        OK(tvlm_session_save(t.session, SESSION, &err)); /* over the first */
        if (t.image) OK(tvlm_image_save(t.image, IMAGE, &err));
        FILE *f = fopen(FOLDER "/ids", "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(t.ids, sizeof *t.ids, TURN, f), TURN);
        fclose(f);
        snprintf(command, sizeof command, "\"%s\" --go-on %s", self, models[i]);
        assert_int_equal(system(command), 0);
        say(&t, 9);
        f = fopen(FOLDER "/ids", "rb");
        assert_non_null(f);
        assert_int_equal(fread(ids, sizeof *ids, 2 * TURN, f), 2 * TURN);
        assert_int_equal(fread(logits, sizeof *logits, n_vocab(&t), f), n_vocab(&t));
        fclose(f);
        assert_memory_equal(ids, t.ids, sizeof ids);
        assert_memory_equal(logits, tvlm_session_logits(t.session), n_vocab(&t) * sizeof *logits);
        close_talk(&t);
    }
}

/* ---- it goes back ---- */

static void a_session_rewinds(void **state)
{
    (void)state;
    talk a = open_talk("fastvlm", TVLM_KV_F16), b = open_talk("fastvlm", TVLM_KV_F16);
    look(&a);
    look(&b);
    say(&a, 4);
    say(&b, 4);
    say(&b, 9);
    size_t position = tvlm_session_position(b.session);
    IS(ARGUMENT, tvlm_session_rewind(b.session, position + 1, &err));
    SAYS("position");
    for (size_t at = position; at-- > 0;) {
        OK(tvlm_session_rewind(b.session, at, &err));
        assert_int_equal(tvlm_session_position(b.session), at);
        b.n_ids = TURN;
        say(&b, 9); /* as after the first answer */
        if (at % 8) continue;
        talk c = open_talk("fastvlm", TVLM_KV_F16);
        look(&c);
        memcpy(c.ids, a.ids, sizeof c.ids);
        c.n_ids = TURN;
        say(&c, 9);
        assert_same(&b, &c);
        close_talk(&c);
        OK(tvlm_session_rewind(b.session, at, &err));
    }
    close_talk(&a);
    close_talk(&b);
}

/* ---- what is refused ---- */

static void assert_refused(talk *t, bytes b)
{
    err.message[0] = 0;
    assert_int_not_equal(tvlm_session_load_memory(t->session, b.data, b.size, &err), TVLM_OK);
    assert_true(err.message[0]);
    assert_int_equal(tvlm_session_position(t->session), 0);
}

static void every_byte_counts(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        talk t = open_talk(models[i], TVLM_KV_F16);
        tvlm_image *loaded;
        look(&t);
        say(&t, 4);
        bytes s = saved_session(&t), image = saved_image(&t);
        for (size_t at = 0; at < s.size; at += at < 256 ? 1 : 61) {
            s.data[at] ^= 0x10;
            assert_refused(&t, s);
            s.data[at] ^= 0x10;
            assert_refused(&t, (bytes){s.data, at});
        }
        for (size_t at = 0; at < image.size; at += at < 256 ? 1 : 61) {
            image.data[at] ^= 0x10;
            assert_int_not_equal(
                tvlm_image_load_memory(t.model, image.data, image.size, &loaded, &err), TVLM_OK);
            assert_null(loaded);
            image.data[at] ^= 0x10;
            assert_int_not_equal(tvlm_image_load_memory(t.model, image.data, at, &loaded, &err),
                                 TVLM_OK);
        }
        bytes longer = {calloc(1, s.size + 1), s.size + 1};
        memcpy(longer.data, s.data, s.size);
        assert_refused(&t, longer);
        SAYS("1 bytes follow");
        OK(tvlm_session_load_memory(t.session, s.data, s.size, &err)); /* nothing is left behind */
        free(longer.data);
        free(s.data);
        free(image.data);
        close_talk(&t);
    }
}

static void foreign_files_are_refused(void **state)
{
    (void)state;
    talk t = open_talk("fastvlm", TVLM_KV_F16), other = open_talk("tinyvlm", TVLM_KV_F16);
    tvlm_image *image;
    look(&t);
    say(&t, 4);
    bytes s = saved_session(&t), i = saved_image(&t);
    uint32_t position = (uint32_t)tvlm_session_position(t.session);
    IS(ARGUMENT, tvlm_session_load_memory(other.session, s.data, s.size, &err));
    SAYS("model: ");
    IS(ARGUMENT, tvlm_image_load_memory(other.model, i.data, i.size, &image, &err));
    SAYS("model: ");
    IS(FORMAT, tvlm_session_load_memory(t.session, i.data, i.size, &err));
    SAYS("magic");
    IS(FORMAT, tvlm_image_load_memory(t.model, s.data, s.size, &image, &err));
    SAYS("magic");
    tvlm_session *wide = session_of(&t, N_CTX, TVLM_KV_F32);
    IS(ARGUMENT, tvlm_session_load_memory(wide, s.data, s.size, &err));
    SAYS("kv_type is 0, 1 is needed");
    tvlm_session_free(wide);
    tvlm_session *small = session_of(&t, position - 1, TVLM_KV_F16);
    IS(CONTEXT, tvlm_session_load_memory(small, s.data, s.size, &err));
    SAYS("position is");
    tvlm_session_free(small);
    tvlm_session *fits = session_of(&t, position, TVLM_KV_F16);
    OK(tvlm_session_load_memory(fits, s.data, s.size, &err));
    tvlm_session_free(fits);
    static const char *const precisions[] = {"f32", "int8"};
    size_t refused = 0;
    for (size_t k = 0; k < 2; k++) { /* at most one of them is the one it was saved with */
        tvlm_model_params m;
        tvlm_model *again;
        tvlm_model_params_init(&m, sizeof m);
        m.precision = precisions[k];
        OK(tvlm_model_open(MODELS "fastvlm.gguf", &m, &again, &err));
        tvlm_status status = tvlm_image_load_memory(again, i.data, i.size, &image, &err);
        refused += status == TVLM_ERR_ARGUMENT;
        if (status) SAYS("arithmetic: ");
        tvlm_image_free(image);
        tvlm_model_free(again);
    }
    assert_true(refused);
    free(s.data);
    free(i.data);
    close_talk(&t);
    close_talk(&other);
}

/* A model of another program: its file has no checksums, so its header does not tell the weights.
 */
static void save_foreign_model(const char *path, bool other_weights)
{
    static unsigned char data[1 << 20];
    tvlm_gguf g;
    bool complete;
    FILE *f = fopen(MODELS "llama.gguf", "rb");
    assert_non_null(f);
    size_t size = fread(data, 1, sizeof data, f);
    fclose(f);
    assert_true(size < sizeof data);
    for (size_t at = 0; at + 6 < size; at++)
        if (!memcmp(data + at, "crc32c", 6)) data[at + 5] = 'x';
    OK(tvlm_gguf_parse(data, size, &g, &complete, &err));
    assert_true(complete && !g.has_crc);
    data[g.tensors[g.n_tensors - 1].offset] ^= other_weights;
    tvlm_gguf_free(&g);
    f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static tvlm_status load_into(const char *path, const char *session)
{
    tvlm_model *model;
    tvlm_engine_params e;
    talk t = {0};
    OK(tvlm_model_open(path, NULL, &model, &err));
    tvlm_engine_params_init(&e, sizeof e);
    e.n_threads = 1;
    t.model = model;
    OK(tvlm_engine_new(model, &e, &t.engine, &err));
    t.session = session_of(&t, N_CTX, TVLM_KV_F16);
    if (!session) {
        say(&t, 4);
        OK(tvlm_session_save(t.session, SESSION, &err));
    }
    tvlm_status status = session ? tvlm_session_load(t.session, session, &err) : TVLM_OK;
    close_talk(&t);
    return status;
}

static void other_weights_are_another_model(void **state)
{
    (void)state;
    const char *one = FOLDER "/one.gguf", *other = FOLDER "/other.gguf";
    save_foreign_model(one, false);
    save_foreign_model(other, true);
    OK(load_into(one, NULL));
    OK(load_into(one, SESSION));
    IS(ARGUMENT, load_into(other, SESSION));
    SAYS("model: it was saved with another");
    remove(one);
    remove(other);
}

/* With right checksums. */
static void hostile_fields_are_refused(void **state)
{
    (void)state;
    enum { PAST = HEADER + 12 + 4 * ANSWER }; /* of the answer's ids */
    static const struct {
        size_t at;
        uint32_t value;
        const char *says;
    } lies[] = {
        {8,           4,          "version 4"       },
        {32,          7,          "kv_type is 7"    },
        {36,          1u << 31,   "n_layers is"     },
        {40,          1,          "kv_row is"       },
        {44,          UINT32_MAX, "n_vocab is"      },
        {48,          UINT32_MAX, "position is"     },
        {48,          N_CTX,      "saved session: " }, /* more than there is */
        {52,          1,          "n_images is 1"   },
        {56,          N_CTX + 2,  "n_said is"       },
        {56,          N_CTX + 1,  "saved session: " }, /* more than there is */
        {HEADER + 12, UINT32_MAX, "said[0] is"      },
        {PAST + 16,   UINT32_MAX, "history[0].id is"},
        {PAST + 16,   1 << 30,    "history[0].id is"},
        {PAST,        5,          "history[0].id is"}, /* of an image: of so many tokens */
    };
    talk t = open_talk("fastvlm", TVLM_KV_F16);
    look(&t);
    say(&t, 4);
    bytes s = saved_session(&t), copy = {malloc(s.size), s.size};
    for (size_t i = 0; i < TVLM_COUNT(lies); i++) {
        memcpy(copy.data, s.data, s.size);
        store32(copy.data + lies[i].at, lies[i].value);
        if (i + 1 == TVLM_COUNT(lies)) store32(copy.data + PAST + 16, 400);
        sign(copy);
        assert_refused(&t, copy);
        SAYS(lies[i].says);
    }
    free(copy.data);
    free(s.data);
    bytes image = saved_image(&t);
    tvlm_image *loaded;
    image.data[image.size - 5] ^= 1; /* vision tokens, which the id does not cover */
    sign(image);
    OK(tvlm_image_load_memory(t.model, image.data, image.size, &loaded, &err));
    tvlm_image_free(loaded);
    size_t n, dim;
    tvlm_image_tokens(t.image, &n, &dim);
    for (size_t at = HEADER; at < HEADER + 16 + n * dim * sizeof(float); at++) {
        image.data[at] ^= 1;
        sign(image);
        IS(FORMAT, tvlm_image_load_memory(t.model, image.data, image.size, &loaded, &err));
        SAYS("id is not that of its tokens");
        image.data[at] ^= 1;
    }
    free(image.data);
    close_talk(&t);
}

/* A file is written whole or not at all. */
static void files_that_cannot_be_written(void **state)
{
    (void)state;
    talk t = open_talk("llama", TVLM_KV_F16);
    say(&t, 4);
    OK(tvlm_session_save(t.session, SESSION, &err));
    IS(IO, tvlm_session_save(t.session, FOLDER, &err)); /* a folder */
    SAYS(FOLDER ": cannot write");
    IS(IO, tvlm_session_save(t.session, FOLDER "/none/session", &err));
    SAYS("/none/session: cannot write");
    IS(IO, tvlm_session_load(t.session, FOLDER "/none/session", &err));
    SAYS("/none/session: cannot open");
    IS(IO, tvlm_session_load(t.session, FOLDER, &err));
    OK(tvlm_session_load(t.session, SESSION, &err));
    DIR *folder = opendir(FOLDER);
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder));) /* no temporaries */
        if (strchr(entry->d_name, '.') && entry->d_name[0] != '.') fail_msg("%s", entry->d_name);
    closedir(folder);
    close_talk(&t);
}

int main(int argc, char **argv)
{
    self = argv[0];
    if (argc == 3 && !strcmp(argv[1], "--go-on")) return go_on(argv[2]);
    mkdir(FOLDER, 0777);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_saved_session_goes_on),
        cmocka_unit_test(a_cut_answer_is_resumed),
        cmocka_unit_test(an_answer_without_ids_is_resumed),
        cmocka_unit_test(a_loaded_image_is_the_image),
        cmocka_unit_test(another_process_goes_on),
        cmocka_unit_test(a_session_rewinds),
        cmocka_unit_test(every_byte_counts),
        cmocka_unit_test(foreign_files_are_refused),
        cmocka_unit_test(other_weights_are_another_model),
        cmocka_unit_test(hostile_fields_are_refused),
        cmocka_unit_test(files_that_cannot_be_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
