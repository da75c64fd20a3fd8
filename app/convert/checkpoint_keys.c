/* SPDX-License-Identifier: MIT
 * Names of the layouts -> canonical names. */
#include "convert/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define APPLE_TOWER "model.vision_tower.vision_tower.model."

/* The longest match wins only by order: longer prefixes first. */
static const char *const prefixes[][2] = {
    {APPLE_TOWER,                             "v."                   },
    {"model.vision_tower.timm_model.",        "v."                   },
    {"vision_tower.timm_model.",              "v."                   },
    {"model.multi_modal_projector.linear_1.", "model.mm_projector.0."},
    {"model.multi_modal_projector.linear_2.", "model.mm_projector.2."},
    {"multi_modal_projector.linear_1.",       "model.mm_projector.0."},
    {"multi_modal_projector.linear_2.",       "model.mm_projector.2."},
    {"model.text_model.",                     "model."               },
    {"model.language_model.",                 "model."               },
    {"language_model.model.",                 "model."               },
    {"language_model.lm_head.",               "lm_head."             },
};

/* Apple's name of a tower's part -> timm's. */
static const char *const parts[][2] = {
    {"patch_embed", "stem"        },
    {"conv_exp",    "final_conv"  },
    {"convffn",     "mlp"         },
    {"lkb_reparam", "reparam_conv"},
    {"lkb_origin",  "large_conv"  },
    {"reduce",      "fc1"         },
    {"expand",      "fc2"         },
    {"rbr_conv",    "conv_kxk"    },
    {"rbr_scale",   "conv_scale"  },
    {"rbr_skip",    "identity"    },
    {"pe",          "pos_enc"     },
};

static bool starts(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* "network.I." -> I and the text behind; false for other names. */
static bool network_index(const char *s, unsigned *index, const char **rest)
{
    if (!starts(s, "network.")) return false;
    char *end;
    unsigned long v = strtoul(s + 8, &end, 10);
    if (end == s + 8 || *end != '.' || v >= TVLMC_MAX_NETWORK) return false;
    *index = (unsigned)v;
    *rest = end + 1;
    return true;
}

void tvlmc_network_scan(tvlmc_network *network, const char *name)
{
    unsigned i;
    const char *rest;
    if (starts(name, APPLE_TOWER) && network_index(name + strlen(APPLE_TOWER), &i, &rest) &&
        *rest >= '0' && *rest <= '9')
        network->is_blocks[i] = true;
}

static bool append(char out[TVLMC_KEY_MAX], const char *text, size_t n)
{
    size_t at = strlen(out);
    if (n >= TVLMC_KEY_MAX - at) return false;
    memcpy(out + at, text, n);
    out[at + n] = 0;
    return true;
}

/* "network.I." -> "stages.S.{blocks,downsample,pos_emb}."; returns the text behind it. */
static const char *put_network(const tvlmc_network *network, const char *name,
                               char out[TVLMC_KEY_MAX])
{
    unsigned index, stage = 0;
    const char *rest;
    char part[48];
    if (!network_index(name, &index, &rest)) return name;
    for (unsigned i = 0; i < index; i++)
        stage += network->is_blocks[i];
    const char *kind = network->is_blocks[index] ? "blocks"
                       : starts(rest, "proj.")   ? "downsample"
                                                 : "pos_emb";
    int n = snprintf(part, sizeof part, "stages.%u.%s.", stage, kind);
    append(out, part, (size_t)n);
    return rest;
}

static bool put_parts(const char *name, char out[TVLMC_KEY_MAX])
{
    while (*name) {
        size_t n = strcspn(name, "."), length = n;
        const char *part = name;
        for (size_t i = 0; i < TVLM_COUNT(parts); i++)
            if (strlen(parts[i][0]) == n && memcmp(name, parts[i][0], n) == 0) {
                part = parts[i][1];
                length = strlen(part);
            }
        bool last = name[n] == 0;
        if (!append(out, part, length)) return false;
        if (last && starts(name, "layer_scale") && !append(out, ".gamma", 6)) return false;
        if (!last && !append(out, ".", 1)) return false;
        name += n + !last;
    }
    return true;
}

bool tvlmc_canonical_name(const tvlmc_network *network, const char *name, char out[TVLMC_KEY_MAX])
{
    out[0] = 0;
    for (size_t i = 0; i < TVLM_COUNT(prefixes); i++)
        if (starts(name, prefixes[i][0])) {
            append(out, prefixes[i][1], strlen(prefixes[i][1]));
            name += strlen(prefixes[i][0]);
            if (strcmp(prefixes[i][1], "v.") == 0)
                return put_parts(put_network(network, name, out), out);
            break;
        }
    return append(out, name, strlen(name));
}
