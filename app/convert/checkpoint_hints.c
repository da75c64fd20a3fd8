/* SPDX-License-Identifier: MIT
 * What a path is that is no folder of safetensors weights, and what to do about it. */
#include "convert/checkpoint.h"
#include "convert/json_file.h"
#include "file/folder.h"
#include "system/system.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RESAVE                                                                                     \
    "load it with transformers and save it with save_pretrained(..., safe_serialization=True)"

/* Names, '*' standing for anything, in the order in which they are looked for. */
static const struct {
    const char *name, *hint;
} hints[] = {
    {"adapter_config.json",
     "a LoRA adapter (%s), not a whole model: merge it into its base model first "
     "(peft: merge_and_unload, then save_pretrained)"                                           },
    {"*.gguf",              "a GGUF file (%s), which needs no conversion: run it with --model"  },
    {"snapshots",           "a folder of the Hugging Face cache: give the folder below its '%s'"},
    {"consolidated*",
     "weights in the layout of the model's makers (%s): get the Hugging Face form, with "
     "model.safetensors"                                                                        },
    {"pytorch_model*",      "PyTorch weights (%s) and no model.safetensors: " RESAVE            },
    {"*.bin",               "PyTorch weights (%s) and no model.safetensors: " RESAVE            },
    {"*.pth",               "PyTorch weights (%s) and no model.safetensors: " RESAVE            },
    {"*.pt",                "PyTorch weights (%s) and no model.safetensors: " RESAVE            },
    {"*.ckpt",              "PyTorch weights (%s) and no model.safetensors: " RESAVE            },
    {"tf_model*",           "TensorFlow weights (%s) and no model.safetensors: " RESAVE         },
    {"*.h5",                "TensorFlow weights (%s) and no model.safetensors: " RESAVE         },
    {"*.msgpack",           "Flax weights (%s) and no model.safetensors: " RESAVE               },
    {"*.npz",               "MLX weights (%s): convert the checkpoint they were made from"      },
    {"*.onnx",              "an ONNX export (%s): convert the checkpoint it was made from"      },
    {"onnx",                "an ONNX export (%s/): convert the checkpoint it was made from"     },
    {"model-*.safetensors",
     "a shard (%s) without model.safetensors.index.json: download that file too"                },
    {"*.safetensors",       "'%s' in it, but no model.safetensors: rename it if it is the model"},
};

static bool matches(const char *pattern, const char *name)
{
    const char *star = strchr(pattern, '*');
    size_t n = strlen(name), head = star ? (size_t)(star - pattern) : n;
    if (!star) return strcmp(pattern, name) == 0;
    size_t tail = strlen(star + 1);
    return n >= head + tail && strncmp(pattern, name, head) == 0 &&
           strcmp(name + n - tail, star + 1) == 0;
}

static bool same_but_case(const char *a, const char *b)
{
    while (*a && tolower((unsigned char)*a) == tolower((unsigned char)*b))
        a++, b++;
    return *a == 0 && *b == 0;
}

/* What a folder's names say. */
typedef struct findings {
    size_t hint; /* of hints[]; TVLM_COUNT: none */
    char name[256], other_case[256];
    const char *right_case;
    bool any, weights, config;
} findings;

static void look_at(findings *f, const char *name)
{
    static const char *const needed[] = {"config.json", "model.safetensors",
                                         "model.safetensors.index.json"};
    f->any = true;
    f->config = f->config || strcmp(name, needed[0]) == 0;
    f->weights = f->weights || strcmp(name, needed[1]) == 0 || strcmp(name, needed[2]) == 0;
    for (size_t i = 0; i < TVLM_COUNT(needed); i++)
        if (strcmp(name, needed[i]) != 0 && same_but_case(name, needed[i])) {
            f->right_case = needed[i];
            snprintf(f->other_case, sizeof f->other_case, "%s", name);
        }
    for (size_t i = 0; i < f->hint; i++)
        if (matches(hints[i].name, name)) {
            f->hint = i;
            snprintf(f->name, sizeof f->name, "%s", name);
        }
}

static bool look_at_entry(void *user, const char *path)
{
    const char *name = strrchr(path, '/') + 1;
    if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0) look_at(user, name);
    return true;
}

static tvlm_status look_in(const char *path, tvlm_error *err)
{
    findings f = {.hint = TVLM_COUNT(hints)};
    char what[600];
    TVLM_TRY(app_folder_list(path, look_at_entry, &f, err));
    if (f.weights && f.config) return TVLM_OK;
    if (!f.any) return tvlm_fail(err, TVLM_ERR_IO, "%s: an empty folder", path);
    if (f.right_case && !(strcmp(f.right_case, "config.json") == 0 ? f.config : f.weights))
        return tvlm_fail(err, TVLM_ERR_IO, "%s: '%s' in it must be named '%s'", path, f.other_case,
                         f.right_case);
    if (f.weights)
        return tvlm_fail(err, TVLM_ERR_IO, "%s: no config.json there: not a checkpoint folder",
                         path);
    if (f.hint == TVLM_COUNT(hints))
        return tvlm_fail(err, TVLM_ERR_IO,
                         "%s: no model.safetensors and no model.safetensors.index.json in it",
                         path);
    snprintf(what, sizeof what, hints[f.hint].hint, f.name);
    return tvlm_fail(err, TVLM_ERR_UNSUPPORTED, "%s: %s", path, what);
}

static tvlm_status look_at_file(const char *path, tvlm_error *err)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    if (matches("*.gguf", name))
        return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                         "%s: a GGUF file, which needs no conversion: run it with --model, or "
                         "change its type with quantize; llama.cpp's vision part of it is given "
                         "with --mmproj",
                         path);
    return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                     "%s: a file; give the folder that has it, with its config.json and tokenizer",
                     path);
}

tvlm_status tvlmc_checkpoint_look(const char *path, tvlm_error *err)
{
    app_sys_facts facts;
    if (!app_sys_look(path, &facts)) return tvlm_fail(err, TVLM_ERR_IO, "%s: no such folder", path);
    return facts.kind == APP_SYS_FOLDER ? look_in(path, err) : look_at_file(path, err);
}
