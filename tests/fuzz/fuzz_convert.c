/* SPDX-License-Identifier: MIT
 * Bytes as a checkpoint folder that is converted, or as llama.cpp's pair where there is an mmproj:
 * name (a byte, of the list below), size (u32), bytes, and so on. A result must open; without one
 * nothing may be left. */
#include "convert/convert.h"
#include "quant/quant.h"
#include "folder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[] = {
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "1.safetensors",
    "model.safetensors.index.json",
    "chat_template.jinja",
    "2.safetensors",
    "preprocessor_config.json",
    "chat_template.json",
    "special_tokens_map.json",
    "mmproj.gguf",
    "text.gguf",
};
enum { N_NAMES = sizeof names / sizeof *names };

/* The files that there are afterwards. */
static size_t unpack(const uint8_t *data, size_t size)
{
    bool seen[N_NAMES] = {false};
    size_t n = 0;
    while (size >= 5) {
        size_t which = data[0] % N_NAMES;
        size_t want =
            data[1] | (size_t)data[2] << 8 | (size_t)data[3] << 16 | (size_t)data[4] << 24;
        want = want < size - 5 ? want : size - 5;
        fuzz_write(names[which], data + 5, want);
        n += !seen[which];
        seen[which] = true;
        data += 5 + want;
        size -= 5 + want;
    }
    return n;
}

static tvlm_status convert(const char *out, const tvlmc_convert_params *p, tvlm_error *err)
{
    const char *mmproj = fuzz_path("mmproj.gguf");
    return access(mmproj, F_OK) ? tvlmc_convert(fuzz_folder, out, p, err)
                                : tvlmc_convert_pair(fuzz_path("text.gguf"), mmproj, out, p, err);
}

static void must_open(const char *path)
{
    tvlm_model *model = NULL;
    if (tvlm_model_open(path, NULL, &model, NULL)) abort();
    tvlm_model_free(model);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const tvlm_type types[] = {TVLM_TYPE_F32,  TVLM_TYPE_F16,  TVLM_TYPE_BF16,
                                      TVLM_TYPE_Q8_0, TVLM_TYPE_Q4_0, TVLM_TYPE_Q4_K};
    tvlmc_convert_params p;
    tvlm_error err = {0};
    fuzz_enter();
    size_t n = unpack(data, size);
    tvlmc_convert_params_init(&p);
    p.type = types[fuzz_mode(data, size) % TVLM_COUNT(types)];
    tvlm_status status = convert(fuzz_path("out.gguf"), &p, &err);
    if (status == TVLM_OK)
        must_open(fuzz_path("out.gguf"));
    else if (!err.message[0])
        abort();
    if (fuzz_clear() != n + !status) abort();
    return 0;
}
