/* SPDX-License-Identifier: MIT
 * What convert and quantize have in common about the file that they make. */
#ifndef TVLM_APP_RESULT_H
#define TVLM_APP_RESULT_H

#include "convert/gguf_write.h"

/* F32, F16, BF16, Q8_0 or Q4_0. */
bool tvlm_type_is_written(tvlm_type type);
/* The largest magnitude that a written type holds. */
float tvlm_type_largest(tvlm_type type);
/* general.file_type, and general.quantization_version with block types. type: of most matrices. */
tvlm_status tvlm_put_file_type(tvlm_gguf_writer *w, tvlm_type type, tvlm_error *err);
/* Opens the file as a model, all weights with their checksums. user: unused. */
tvlm_status tvlm_check_result(void *user, const char *path, tvlm_error *err);

#endif
