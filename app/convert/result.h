/* SPDX-License-Identifier: MIT
 * What convert and quantize have in common about the file that they make. */
#ifndef TVLMC_RESULT_H
#define TVLMC_RESULT_H

#include "convert/gguf_write.h"

/* Those that tvlm_quantize makes. */
bool tvlmc_type_is_written(tvlm_type type);
/* The largest magnitude that a written type holds. */
float tvlmc_type_largest(tvlm_type type);
typedef enum tvlmc_part { TVLMC_PART_LAYER, TVLMC_PART_EMBEDDING, TVLMC_PART_TOWER } tvlmc_part;
/* The type of a matrix with rows of k in a file of `type`, which is written.
 *
 *   embeddings, output   Q6_K with K-quants, Q8_0 with other block types
 *   the tower            Q8_0 with block types: few bits hurt it more than they save
 *   rows that a block    Q4_K -> Q5_0, Q5_K -> Q5_1, Q6_K -> Q8_0, as llama.cpp does;
 *   does not divide      blocks of 32 -> F16 */
tvlm_type tvlmc_type_for(tvlm_type type, tvlmc_part part, uint64_t k);
/* general.file_type, and general.quantization_version with block types. type: of most matrices. */
tvlm_status tvlmc_put_file_type(tvlmc_gguf_writer *w, tvlm_type type, tvlm_error *err);
/* Opens the file as a model, all weights with their checksums. user: unused. */
tvlm_status tvlmc_check_result(void *user, const char *path, tvlm_error *err);

#endif
