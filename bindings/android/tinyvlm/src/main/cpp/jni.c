/* SPDX-License-Identifier: MIT
 * The functions of dev.tinyvlm.Native (Native.kt). Text crosses as bytes of UTF-8, as Java's own
 * encoding of strings is another; pixels are read where they lie. A pending exception is left to
 * Java: nothing is called after it. */
#include "tinyvlm.h"

#include <jni.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes" /* Java finds them by name */

typedef struct vlm {
    tvlm_model *model;
    tvlm_engine *engine;
    tvlm_session *session;
} vlm;

static vlm *vlm_of(jlong handle)
{
    return (vlm *)(intptr_t)handle;
}

static jlong handle_of(const void *object)
{
    return (jlong)(intptr_t)object;
}

static void throw_error(JNIEnv *env, const tvlm_error *error)
{
    jsize n = (jsize)strlen(error->message);
    jclass class = (*env)->FindClass(env, "dev/tinyvlm/TinyVlmException");
    jmethodID make = class ? (*env)->GetMethodID(env, class, "<init>", "(I[B)V") : NULL;
    jbyteArray text = make ? (*env)->NewByteArray(env, n) : NULL;
    if (!text) return;
    (*env)->SetByteArrayRegion(env, text, 0, n, (const jbyte *)error->message);
    jobject exception = (*env)->NewObject(env, class, make, (jint)error->code, text);
    if (exception) (*env)->Throw(env, exception);
}

static bool ok(JNIEnv *env, tvlm_status status, const tvlm_error *error)
{
    if (status) throw_error(env, error);
    return !status;
}

static void throw_text(JNIEnv *env, tvlm_status code, const char *message)
{
    tvlm_error error = {.code = code};
    snprintf(error.message, sizeof error.message, "%s", message);
    throw_error(env, &error);
}

/* The bytes, terminated; to be freed. NULL with an exception pending. */
static char *copy_bytes(JNIEnv *env, jbyteArray bytes, size_t *len)
{
    jsize n = (*env)->GetArrayLength(env, bytes);
    char *text = malloc((size_t)n + 1);
    *len = (size_t)n;
    if (!text) {
        throw_text(env, TVLM_ERR_MEMORY, "out of memory");
        return NULL;
    }
    (*env)->GetByteArrayRegion(env, bytes, 0, n, (jbyte *)text);
    text[n] = 0;
    return text;
}

/* The same for a text that its terminator alone ends. */
static char *copy_text(JNIEnv *env, jbyteArray bytes)
{
    size_t n;
    char *text = copy_bytes(env, bytes, &n);
    if (!text || strlen(text) == n) return text;
    free(text);
    throw_text(env, TVLM_ERR_ARGUMENT, "a path, precision or stop has a zero character");
    return NULL;
}

static jbyteArray bytes_of(JNIEnv *env, const char *text, size_t len)
{
    jbyteArray bytes = (*env)->NewByteArray(env, (jsize)len);
    if (bytes) (*env)->SetByteArrayRegion(env, bytes, 0, (jsize)len, (const jbyte *)text);
    return bytes;
}

/* ---- a model with its engine and conversation ---- */

static void close_vlm(vlm *v)
{
    tvlm_session_free(v->session);
    tvlm_engine_free(v->engine);
    tvlm_model_free(v->model);
    free(v);
}

static tvlm_status open_vlm(vlm *v, const char *path, const char *precision, unsigned threads,
                            uint32_t n_ctx, uint32_t max_beams, size_t limit, tvlm_error *error)
{
    tvlm_model_params m;
    tvlm_engine_params e;
    tvlm_session_params s;
    tvlm_model_params_init(&m, sizeof m);
    tvlm_engine_params_init(&e, sizeof e);
    tvlm_session_params_init(&s, sizeof s);
    m.max_memory = e.max_memory = s.max_memory = limit;
    m.n_threads = e.n_threads = threads;
    m.precision = precision;
    s.n_ctx = n_ctx;
    s.max_beams = max_beams;
    tvlm_status status = tvlm_model_open(path, &m, &v->model, error);
    if (!status) status = tvlm_engine_new(v->model, &e, &v->engine, error);
    if (!status) status = tvlm_session_new(v->model, &s, &v->session, error);
    return status;
}

JNIEXPORT jlong JNICALL Java_dev_tinyvlm_Native_load(JNIEnv *env, jclass class, jbyteArray path,
                                                     jbyteArray precision, jint threads,
                                                     jint contextLength, jint maxBeams,
                                                     jlong memoryLimit)
{
    (void)class;
    tvlm_error error;
    size_t limit = (uint64_t)memoryLimit > SIZE_MAX ? SIZE_MAX : (size_t)memoryLimit;
    vlm *v = calloc(1, sizeof *v);
    char *file = copy_text(env, path);
    char *arithmetic = file && precision ? copy_text(env, precision) : NULL;
    bool fine = !(*env)->ExceptionCheck(env);
    if (fine && !v) throw_text(env, TVLM_ERR_MEMORY, "out of memory");
    fine = fine && v &&
           ok(env,
              open_vlm(v, file, arithmetic, (unsigned)threads, (uint32_t)contextLength,
                       (uint32_t)maxBeams, limit, &error),
              &error);
    free(file);
    free(arithmetic);
    if (!fine && v) close_vlm(v);
    return fine ? handle_of(v) : 0;
}

JNIEXPORT void JNICALL Java_dev_tinyvlm_Native_close(JNIEnv *env, jclass class, jlong handle)
{
    (void)env;
    (void)class;
    close_vlm(vlm_of(handle));
}

JNIEXPORT void JNICALL Java_dev_tinyvlm_Native_trim(JNIEnv *env, jclass class, jlong handle)
{
    (void)env;
    (void)class;
    tvlm_session_trim(vlm_of(handle)->session);
    tvlm_engine_trim(vlm_of(handle)->engine);
}

/* ModelInfo's numbers, then its texts: see Native.kt. */
JNIEXPORT jlongArray JNICALL Java_dev_tinyvlm_Native_numbers(JNIEnv *env, jclass class,
                                                             jlong handle)
{
    (void)class;
    tvlm_error error;
    tvlm_model_info info = {.size = sizeof info};
    if (!ok(env, tvlm_model_get_info(vlm_of(handle)->model, &info, &error), &error)) return NULL;
    const jlong values[] = {info.image_size, info.n_vision_tokens, info.vision_dim,
                            (jlong)info.weight_bytes};
    const jsize n = sizeof values / sizeof *values;
    jlongArray numbers = (*env)->NewLongArray(env, n);
    if (numbers) (*env)->SetLongArrayRegion(env, numbers, 0, n, values);
    return numbers;
}

JNIEXPORT jbyteArray JNICALL Java_dev_tinyvlm_Native_text(JNIEnv *env, jclass class, jlong handle,
                                                          jint which)
{
    (void)class;
    tvlm_error error;
    tvlm_model_info info = {.size = sizeof info};
    if (!ok(env, tvlm_model_get_info(vlm_of(handle)->model, &info, &error), &error)) return NULL;
    const char *const texts[] = {info.architecture, info.name, info.license, info.cpu_tier};
    return bytes_of(env, texts[which], strlen(texts[which]));
}

/* ---- cancelling ---- */

JNIEXPORT jlong JNICALL Java_dev_tinyvlm_Native_newCancel(JNIEnv *env, jclass class)
{
    (void)class;
    tvlm_cancel *cancel = tvlm_cancel_new();
    if (!cancel) throw_text(env, TVLM_ERR_MEMORY, "out of memory");
    return handle_of(cancel);
}

JNIEXPORT void JNICALL Java_dev_tinyvlm_Native_requestCancel(JNIEnv *env, jclass class,
                                                             jlong cancel)
{
    (void)env;
    (void)class;
    tvlm_cancel_request((tvlm_cancel *)(intptr_t)cancel);
}

JNIEXPORT void JNICALL Java_dev_tinyvlm_Native_freeCancel(JNIEnv *env, jclass class, jlong cancel)
{
    (void)env;
    (void)class;
    tvlm_cancel_free((tvlm_cancel *)(intptr_t)cancel);
}

/* ---- images ---- */

/* Whether height rows of width pixels, stride bytes apart, lie within capacity. */
static bool rows_fit(jlong capacity, jint width, jint height, jint channels, jint stride)
{
    if (width < 1 || height < 1 || channels < 1 || channels > 4) return false;
    int64_t row = (int64_t)width * channels;
    return stride >= row && (int64_t)stride * (height - 1) + row <= capacity;
}

JNIEXPORT jlong JNICALL Java_dev_tinyvlm_Native_encode(JNIEnv *env, jclass class, jlong handle,
                                                       jobject buffer, jint width, jint height,
                                                       jint channels, jint stride, jlong cancel)
{
    (void)class;
    tvlm_error error;
    tvlm_encode_params p;
    tvlm_image *image;
    const uint8_t *data = (*env)->GetDirectBufferAddress(env, buffer);
    if (!data ||
        !rows_fit((*env)->GetDirectBufferCapacity(env, buffer), width, height, channels, stride)) {
        throw_text(env, TVLM_ERR_ARGUMENT, "pixels: no direct buffer that holds the image");
        return 0;
    }
    const tvlm_pixels pixels = {data, (uint32_t)width, (uint32_t)height, (uint32_t)channels,
                                (size_t)stride};
    tvlm_encode_params_init(&p, sizeof p);
    p.cancel = (tvlm_cancel *)(intptr_t)cancel;
    tvlm_status status = tvlm_image_encode(vlm_of(handle)->engine, &pixels, &p, &image, &error);
    return ok(env, status, &error) ? handle_of(image) : 0;
}

JNIEXPORT void JNICALL Java_dev_tinyvlm_Native_freeImage(JNIEnv *env, jclass class, jlong image)
{
    (void)env;
    (void)class;
    tvlm_image_free((tvlm_image *)(intptr_t)image);
}

/* ---- answers ---- */

typedef struct sink {
    JNIEnv *env;
    jobject to;
    jmethodID take;
} sink;

static bool give_text(void *user, const char *text, size_t len)
{
    const sink *s = user;
    JNIEnv *env = s->env;
    jbyteArray bytes = bytes_of(env, text, len);
    if (!bytes) return false;
    bool more = (*env)->CallBooleanMethod(env, s->to, s->take, bytes);
    (*env)->DeleteLocalRef(env, bytes);
    return more && !(*env)->ExceptionCheck(env);
}

static tvlm_status render(const vlm *v, tvlm_image *image, const char *question, size_t len,
                          tvlm_prompt **out, tvlm_error *error)
{
    tvlm_model_info info = {.size = sizeof info};
    tvlm_status status = tvlm_model_get_info(v->model, &info, error);
    if (!status) status = tvlm_prompt_new(v->model, out, error);
    if (status) return status;
    const char *text = len ? question : info.describe_prompt;
    const tvlm_message message = {TVLM_ROLE_USER, text, len ? len : strlen(text), &image, 1, NULL};
    return tvlm_prompt_chat(*out, &message, 1, error);
}

/* The texts of an array of byte arrays, to be freed with free_texts. */
static char **copy_texts(JNIEnv *env, jobjectArray arrays, size_t *n)
{
    *n = (size_t)(*env)->GetArrayLength(env, arrays);
    char **texts = calloc(*n + 1, sizeof *texts);
    if (!texts) throw_text(env, TVLM_ERR_MEMORY, "out of memory");
    for (size_t i = 0; texts && i < *n && !(*env)->ExceptionCheck(env); i++) {
        jbyteArray bytes = (*env)->GetObjectArrayElement(env, arrays, (jsize)i);
        texts[i] = copy_text(env, bytes);
        (*env)->DeleteLocalRef(env, bytes);
    }
    return texts;
}

static void free_texts(char **texts, size_t n)
{
    for (size_t i = 0; texts && i < n; i++)
        free(texts[i]);
    free(texts);
}

/* As Native.kt lists them. */
static void take_counts(JNIEnv *env, jintArray counts, tvlm_generate_params *p)
{
    jint n[5] = {0};
    (*env)->GetIntArrayRegion(env, counts, 0, 5, n);
    p->max_tokens = (uint32_t)n[0];
    p->sampling.top_k = (uint32_t)n[1];
    p->beams = (uint32_t)n[2];
    p->sampling.no_repeat_ngram = (uint32_t)n[3];
    p->min_tokens = (uint32_t)n[4];
}

JNIEXPORT void JNICALL Java_dev_tinyvlm_Native_ask(JNIEnv *env, jclass class, jlong handle,
                                                   jlong image, jbyteArray question,
                                                   jintArray counts, jfloat temperature,
                                                   jfloat topP, jlong seed, jobjectArray stops,
                                                   jlong cancel, jobject to)
{
    (void)class;
    const vlm *v = vlm_of(handle);
    tvlm_error error = {TVLM_OK, ""};
    tvlm_generate_params p;
    tvlm_prompt *prompt = NULL;
    size_t len, n_stop;
    jclass sink_class = (*env)->GetObjectClass(env, to);
    sink s = {env, to, (*env)->GetMethodID(env, sink_class, "take", "([B)Z")};
    if (!s.take) return;
    char *text = copy_bytes(env, question, &len);
    if (!text) return;
    char **stop = copy_texts(env, stops, &n_stop);
    if (!(*env)->ExceptionCheck(env)) {
        tvlm_generate_params_init(&p, sizeof p);
        take_counts(env, counts, &p);
        p.sampling.temperature = temperature;
        p.sampling.top_p = topP;
        p.sampling.seed = (uint64_t)seed;
        p.stop = (const char *const *)stop;
        p.n_stop = n_stop;
        p.on_text = give_text;
        p.user = &s;
        p.cancel = (tvlm_cancel *)(intptr_t)cancel;
        tvlm_status status = render(v, (tvlm_image *)(intptr_t)image, text, len, &prompt, &error);
        if (!status) status = tvlm_generate(v->engine, v->session, prompt, &p, NULL, &error);
        if (!(*env)->ExceptionCheck(env)) ok(env, status, &error);
    }
    tvlm_prompt_free(prompt);
    free_texts(stop, n_stop);
    free(text);
}
