/* SPDX-License-Identifier: MIT
 * A GGUF file that is read for its values. Every read is checked: the file's size, the checksum
 * of each tensor where the file has one, and that every value is a number. Messages begin with the
 * file's path and name the tensor. */
#ifndef TVLMC_GGUF_SOURCE_H
#define TVLMC_GGUF_SOURCE_H

#include "model/gguf.h"

typedef struct tvlmc_gguf_source {
    tvlm_file file;
    tvlm_gguf gguf;
    unsigned char *head; /* what gguf borrows from */
} tvlmc_gguf_source;

tvlm_status tvlmc_gguf_source_open(const char *path, tvlmc_gguf_source *out, tvlm_error *err);
/* Every tensor must be of a type that tvlm_type_runs. */
tvlm_status tvlmc_gguf_source_check_types(const tvlmc_gguf_source *source, tvlm_error *err);
void tvlmc_gguf_source_close(tvlmc_gguf_source *source); /* after a failed open too */

/* One tensor, row by row of its outermost dimension: all of one output channel. */
typedef struct tvlmc_gguf_rows {
    const tvlmc_gguf_source *source;
    const tvlm_gguf_tensor *tensor;
    size_t n, length, bytes;  /* rows; values and bytes of a row */
    size_t next;              /* row */
    const unsigned char *raw; /* the row as stored */
    float *values;            /* the row as numbers */
    unsigned char *piece;     /* rows read at once */
    size_t rows_at_once;
    uint32_t crc;
} tvlmc_gguf_rows;

/* Types that tvlm_type_runs. Close it after a failure too. */
tvlm_status tvlmc_gguf_rows_open(const tvlmc_gguf_source *source, const tvlm_gguf_tensor *tensor,
                                 tvlmc_gguf_rows *out, tvlm_error *err);
/* The next row, in raw and values; n times. The last one fails when the checksum does not hold. */
tvlm_status tvlmc_gguf_rows_next(tvlmc_gguf_rows *rows, tvlm_error *err);
void tvlmc_gguf_rows_close(tvlmc_gguf_rows *rows);

#endif
