/* SPDX-License-Identifier: MIT */
/* What README.md's example in C finds: tests/embed/test.sh. */
#include <tinyvlm.h>

void example(tvlm_pixels pixels, tvlm_message message, bool (*print)(void *, const char *, size_t)) {
    tvlm_model *model;
    tvlm_engine *engine;
    tvlm_session *session;
    tvlm_image *image;
    tvlm_prompt *prompt;
    tvlm_generate_params params;
    tvlm_error err;
    /* EXAMPLE */
}
