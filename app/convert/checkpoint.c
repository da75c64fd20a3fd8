/* SPDX-License-Identifier: MIT */
#include "convert/checkpoint.h"

#include <stdlib.h>
#include <string.h>

static int by_name(const void *a, const void *b)
{
    return strcmp(((const tvlmc_source *)a)->name, ((const tvlmc_source *)b)->name);
}

static bool ends(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && strcmp(s + n - m, suffix) == 0;
}

/* Tensors that tell of weights in a form of their own. */
static tvlm_status check_kind(const char *name, tvlm_error *err)
{
    static const char *const quantised[] = {".qweight",      ".qzeros",           ".scales",
                                            ".weight_scale", ".weight_scale_inv", ".weight_packed",
                                            ".SCB",          ".absmax",           ".biases"};
    if (strstr(name, ".lora_A.") || strstr(name, ".lora_B."))
        return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                         "tensor '%.200s' is of a LoRA adapter: merge it into its base model first",
                         name);
    for (size_t i = 0; i < TVLM_COUNT(quantised); i++)
        if (ends(name, quantised[i]))
            return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                             "tensor '%.200s': the weights are quantised already (AWQ, GPTQ, "
                             "bitsandbytes, FP8 or MLX): convert the original checkpoint",
                             name);
    return TVLM_OK;
}

static tvlm_status name_all(tvlmc_checkpoint *c, tvlm_error *err)
{
    tvlmc_network network = {0};
    char name[TVLMC_KEY_MAX];
    c->sources = calloc(c->set.n + 1, sizeof *c->sources);
    if (!c->sources) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    for (size_t i = 0; i < c->set.n; i++)
        tvlmc_network_scan(&network, c->set.tensors[i].name);
    for (size_t i = 0; i < c->set.n; i++) {
        const tvlmc_st_tensor *t = &c->set.tensors[i];
        TVLM_TRY(check_kind(t->name, err));
        if (!tvlmc_canonical_name(&network, t->name, name))
            return tvlm_fail(err, TVLM_ERR_LIMIT, "tensor '%.100s...': its name is too long",
                             t->name);
        size_t size = strlen(name) + 1;
        c->sources[i].tensor = t;
        c->sources[i].name = malloc(size);
        if (!c->sources[i].name) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
        memcpy(c->sources[i].name, name, size);
        c->n++;
    }
    qsort(c->sources, c->n, sizeof *c->sources, by_name);
    for (size_t i = 1; i < c->n; i++)
        if (strcmp(c->sources[i - 1].name, c->sources[i].name) == 0)
            return tvlm_fail(err, TVLM_ERR_FORMAT, "tensors '%.200s' and '%.200s' are the same one",
                             c->sources[i - 1].tensor->name, c->sources[i].tensor->name);
    return TVLM_OK;
}

tvlm_status tvlmc_checkpoint_open(const char *dir, tvlmc_checkpoint *out, tvlm_error *err)
{
    *out = (tvlmc_checkpoint){0};
    TVLM_TRY(tvlmc_st_open(dir, &out->set, err));
    tvlm_status status = name_all(out, err);
    if (status) tvlmc_checkpoint_close(out);
    return status;
}

void tvlmc_checkpoint_close(tvlmc_checkpoint *checkpoint)
{
    for (size_t i = 0; i < checkpoint->n; i++)
        free(checkpoint->sources[i].name);
    free(checkpoint->sources);
    tvlmc_st_close(&checkpoint->set);
    *checkpoint = (tvlmc_checkpoint){0};
}

/* The first source whose name is not before `name`. */
static size_t lower_bound(const tvlmc_checkpoint *c, const char *name)
{
    size_t lo = 0, hi = c->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (strcmp(c->sources[mid].name, name) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

tvlmc_source *tvlmc_checkpoint_find(const tvlmc_checkpoint *checkpoint, const char *name)
{
    size_t i = lower_bound(checkpoint, name);
    return i < checkpoint->n && strcmp(checkpoint->sources[i].name, name) == 0
               ? &checkpoint->sources[i]
               : NULL;
}

bool tvlmc_checkpoint_has(const tvlmc_checkpoint *checkpoint, const char *prefix)
{
    size_t i = lower_bound(checkpoint, prefix);
    return i < checkpoint->n && strncmp(checkpoint->sources[i].name, prefix, strlen(prefix)) == 0;
}

const tvlmc_source *tvlmc_checkpoint_unused(const tvlmc_checkpoint *checkpoint)
{
    for (size_t i = 0; i < checkpoint->n; i++) {
        const tvlmc_source *s = &checkpoint->sources[i];
        bool idle = strncmp(s->name, "v.head.", 7) == 0 || ends(s->name, ".num_batches_tracked") ||
                    ends(s->name, ".rotary_emb.inv_freq");
        if (!s->used && !idle) return s;
    }
    return NULL;
}
