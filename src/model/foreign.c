/* SPDX-License-Identifier: MIT */
#include "model/foreign.h"

#include <stdbool.h>
#include <string.h>

#define CHECKPOINT "convert the folder of its checkpoint with \"tinyvlm convert\""
#define GGML_OLD   "a GGML file from before GGUF: convert the original checkpoint anew"
#define ANSWER     ", perhaps an error of the server that it was downloaded from"
#define PACKED     "a compressed file: unpack it first"
#define IMAGE      "an image, not a model"
#define HTML       "an HTML page: the address gave a page in the place of the file; download it again"

typedef struct magic {
    size_t at;
    const char *bytes;
    size_t n;
    const char *kind;
} magic;

#define MAGIC(at, bytes, kind) {at, bytes, sizeof bytes - 1, kind}

static const magic magics[] = {
    MAGIC(0, "version https://git-lfs",
          "a Git LFS pointer in the place of the file: run \"git lfs pull\" or download the file"),
    MAGIC(8, "{\"", "a safetensors file: " CHECKPOINT),
    MAGIC(0, "PK\3\4",
          "a ZIP archive, perhaps a PyTorch checkpoint: " CHECKPOINT
          " in safetensors form, or unpack it"),
    MAGIC(0, "\x80\2",
          "a Python pickle, perhaps a PyTorch checkpoint: save it as safetensors and "
          "convert that with \"tinyvlm convert\""),
    MAGIC(4, "TFL3", "a TensorFlow Lite model: " CHECKPOINT),
    MAGIC(0, "\x89HDF", "an HDF5 file: " CHECKPOINT),
    MAGIC(0, "\x93NUMPY", "a NumPy array, not a model"),
    MAGIC(0, "lmgg", GGML_OLD),
    MAGIC(0, "fmgg", GGML_OLD),
    MAGIC(0, "tjgg", GGML_OLD),
    MAGIC(0, "algg", GGML_OLD),
    MAGIC(0, "FUGG", "a big-endian GGUF file: convert it with gguf_convert_endian.py"),
    MAGIC(0, "\x1f\x8b", PACKED),
    MAGIC(0, "\x28\xb5\x2f\xfd", PACKED),
    MAGIC(0,
          "\xfd"
          "7zXZ",
          PACKED),
    MAGIC(0, "BZh", PACKED),
    MAGIC(0, "7z\xbc\xaf", PACKED),
    MAGIC(0, "Rar!", PACKED),
    MAGIC(0, "\xff\xd8\xff", IMAGE),
    MAGIC(0, "\x89PNG", IMAGE),
    MAGIC(8, "WEBP", IMAGE),
    MAGIC(0, "GIF8", IMAGE),
};

/* Letters of either case, after white space. */
static bool begins_with_tag(const char *text, size_t size, const char *tag)
{
    size_t i = 0;
    while (i < size && memchr("\xef\xbb\xbf \t\r\n", text[i], 7))
        i++;
    for (; *tag; tag++, i++)
        if (i == size || (text[i] | 0x20) != *tag) return false;
    return true;
}

/* ONNX is a bare protocol buffer: field 1 is the version of its format, then comes the producer's
 * name or the version of an operator set. */
static bool is_onnx(const unsigned char *p, size_t size)
{
    return size > 2 && p[0] == 8 && p[1] > 0 && p[1] < 32 && (p[2] == 0x12 || p[2] == 0x3a);
}

static bool is_text(const char *text, size_t size)
{
    for (size_t i = 0; i < size && i < 64; i++)
        if ((text[i] < ' ' || text[i] > '~') && !memchr("\t\r\n", text[i], 3)) return false;
    return size > 4;
}

static bool is_zeros(const unsigned char *p, size_t size)
{
    for (size_t i = 0; i < size && i < 64; i++)
        if (p[i]) return false;
    return size > 0;
}

const char *tvlm_foreign_kind(const void *data, size_t size)
{
    for (size_t i = 0; i < sizeof magics / sizeof *magics; i++) {
        const magic *m = &magics[i];
        if (size >= m->at + m->n && !memcmp((const char *)data + m->at, m->bytes, m->n))
            return m->kind;
    }
    if (begins_with_tag(data, size, "<!doctype") || begins_with_tag(data, size, "<html"))
        return HTML;
    if (begins_with_tag(data, size, "{")) return "a JSON text" ANSWER;
    if (is_text(data, size)) return "a text" ANSWER;
    if (is_onnx(data, size)) return "an ONNX model: " CHECKPOINT;
    if (is_zeros(data, size)) return "nothing but zeros at its beginning: download it again";
    return NULL;
}
