/* SPDX-License-Identifier: MIT
 * HEIC and AVIF through libheif: the primary image, 8 bits. The file's own transformations are
 * what turns it; EXIF says the same once more and is not applied.
 *
 * libheif is opened when such a file comes: it brings ten libraries along, whose constructors and
 * relocations would cost each run 8 ms. */
#include "image/codec.h"

#include "system/system.h"

#include <string.h>

#include <libheif/heif.h>

#if !defined(TVLM_HEIF_LIBRARY)
#define TVLM_HEIF_LIBRARY APP_SYS_LIBRARY("heif", 1)
#endif

#define FUNCTIONS(F)                                                                               \
    F(context_alloc, struct heif_context *, (void))                                                \
    F(context_free, void, (struct heif_context *))                                                 \
    F(context_set_maximum_image_size_limit, void, (struct heif_context *, int))                    \
    F(context_read_from_memory_without_copy, struct heif_error,                                    \
      (struct heif_context *, const void *, size_t, const struct heif_reading_options *))          \
    F(context_get_primary_image_handle, struct heif_error,                                         \
      (struct heif_context *, struct heif_image_handle **))                                        \
    F(image_handle_get_width, int, (const struct heif_image_handle *))                             \
    F(image_handle_get_height, int, (const struct heif_image_handle *))                            \
    F(image_handle_has_alpha_channel, int, (const struct heif_image_handle *))                     \
    F(image_handle_release, void, (const struct heif_image_handle *))                              \
    F(decoding_options_alloc, struct heif_decoding_options *, (void))                              \
    F(decoding_options_free, void, (struct heif_decoding_options *))                               \
    F(decode_image, struct heif_error,                                                             \
      (const struct heif_image_handle *, struct heif_image **, enum heif_colorspace,               \
       enum heif_chroma, const struct heif_decoding_options *))                                    \
    F(image_get_width, int, (const struct heif_image *, enum heif_channel))                        \
    F(image_get_height, int, (const struct heif_image *, enum heif_channel))                       \
    F(image_get_plane_readonly, const uint8_t *,                                                   \
      (const struct heif_image *, enum heif_channel, int *))                                       \
    F(image_release, void, (const struct heif_image *))

#define SAME_TYPE(name, ret, params)                                                               \
    _Static_assert(_Generic(&heif_##name, ret(*) params: 1, default: 0), "heif_" #name);
FUNCTIONS(SAME_TYPE)

typedef struct decoder {
    void *library;
#define MEMBER(name, ret, params) ret(*name) params;
    FUNCTIONS(MEMBER)
#undef MEMBER
    struct heif_context *context;
    struct heif_image_handle *handle;
    struct heif_decoding_options *options;
    struct heif_image *image;
} decoder;

/* By its name, as the system finds libraries, then where it lay when this was built. */
static void *open_library(void)
{
    void *library = app_sys_library_open(TVLM_HEIF_LIBRARY);
    return library ? library : app_sys_library_open(TVLM_HEIF_DIR "/" TVLM_HEIF_LIBRARY);
}

static tvlm_status find_functions(decoder *d, tvlm_error *err)
{
    d->library = open_library();
    if (!d->library)
        return app_fail(err, TVLM_ERR_UNSUPPORTED,
                        "HEIC or AVIF: install libheif, or convert it (%s)",
                        app_sys_library_error());
    const struct {
        const char *name;
        void *at;
    } functions[] = {
#define ENTRY(name, ret, params) {"heif_" #name, &d->name},
        FUNCTIONS(ENTRY)
#undef ENTRY
    };
    for (size_t i = 0; i < APP_COUNT(functions); i++) {
        void *function = app_sys_library_find(d->library, functions[i].name);
        if (!function)
            return app_fail(err, TVLM_ERR_UNSUPPORTED, "HEIC or AVIF: " TVLM_HEIF_LIBRARY ": %s",
                            app_sys_library_error());
        memcpy(functions[i].at, &function, sizeof function); /* as POSIX has it */
    }
    return TVLM_OK;
}

static tvlm_status check(struct heif_error e, tvlm_error *err)
{
    if (e.code == heif_error_Ok) return TVLM_OK;
    bool unsupported = e.code == heif_error_Unsupported_filetype ||
                       e.code == heif_error_Unsupported_feature ||
                       e.code == heif_error_Decoder_plugin_error;
    return app_fail(err, unsupported ? TVLM_ERR_UNSUPPORTED : TVLM_ERR_FORMAT,
                    "HEIC or AVIF: libheif: %s", e.message);
}

static tvlm_status copy_rows(const decoder *d, uint32_t channels, app_decoded *out, tvlm_error *err)
{
    int stride, w = d->image_get_width(d->image, heif_channel_interleaved),
                h = d->image_get_height(d->image, heif_channel_interleaved);
    const uint8_t *p = d->image_get_plane_readonly(d->image, heif_channel_interleaved, &stride);
    if (!p || w < 1 || h < 1 || stride < 1)
        return app_fail(err, TVLM_ERR_FORMAT, "HEIC or AVIF: an empty image");
    APP_TRY(app_decoded_alloc((uint32_t)w, (uint32_t)h, channels, out, err));
    size_t row = (size_t)w * channels;
    for (size_t y = 0; y < (size_t)h; y++)
        memcpy(out->data + y * row, p + y * (size_t)stride, row);
    return TVLM_OK;
}

static tvlm_status decode(decoder *d, const app_encoded *in, app_decoded *out, tvlm_error *err)
{
    d->context = d->context_alloc();
    d->options = d->decoding_options_alloc();
    if (!d->context || !d->options) return app_fail(err, TVLM_ERR_MEMORY, "out of memory");
    d->options->ignore_transformations = in->as_stored;
    d->options->convert_hdr_to_8bit = 1;
    d->context_set_maximum_image_size_limit(d->context, 65535);
    APP_TRY(
        check(d->context_read_from_memory_without_copy(d->context, in->data, in->size, NULL), err));
    APP_TRY(check(d->context_get_primary_image_handle(d->context, &d->handle), err));
    int w = d->image_handle_get_width(d->handle), h = d->image_handle_get_height(d->handle);
    APP_TRY(app_check_size(in, w > 0 ? (uint64_t)w : 0, h > 0 ? (uint64_t)h : 0, err));
    bool alpha = d->image_handle_has_alpha_channel(d->handle);
    APP_TRY(
        check(d->decode_image(d->handle, &d->image, heif_colorspace_RGB,
                              alpha ? heif_chroma_interleaved_RGBA : heif_chroma_interleaved_RGB,
                              d->options),
              err));
    return copy_rows(d, alpha ? 4 : 3, out, err);
}

tvlm_status app_decode_heif(const app_encoded *in, app_decoded *out, tvlm_error *err)
{
    decoder d = {0};
    tvlm_status status = find_functions(&d, err);
    if (!status) status = decode(&d, in, out, err);
    if (d.image) d.image_release(d.image);
    if (d.handle) d.image_handle_release(d.handle);
    if (d.options) d.decoding_options_free(d.options);
    if (d.context) d.context_free(d.context);
    return status;
}
