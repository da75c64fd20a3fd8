/* SPDX-License-Identifier: MIT
 * Writing GGUF v3. */
#ifndef TVLMC_GGUF_WRITE_H
#define TVLMC_GGUF_WRITE_H

#include "file/output.h"
#include "model/gguf.h"

typedef struct tvlmc_gguf_writer tvlmc_gguf_writer;
/* Collects keys and tensor declarations, then streams tensors in declaration order; writes the
 * CRC32C array (patched at the end) and 64-byte alignment. path, cancel: as in file/output.h. */
tvlm_status tvlmc_gguf_writer_new(const char *path, const tvlm_cancel *cancel,
                                  tvlmc_gguf_writer **out, tvlm_error *err);
tvlm_status tvlmc_gguf_put_u32(tvlmc_gguf_writer *w, const char *key, uint32_t v, tvlm_error *err);
tvlm_status tvlmc_gguf_put_i32(tvlmc_gguf_writer *w, const char *key, int32_t v, tvlm_error *err);
tvlm_status tvlmc_gguf_put_f32(tvlmc_gguf_writer *w, const char *key, float v, tvlm_error *err);
tvlm_status tvlmc_gguf_put_bool(tvlmc_gguf_writer *w, const char *key, bool v, tvlm_error *err);
tvlm_status tvlmc_gguf_put_string(tvlmc_gguf_writer *w, const char *key, tvlm_str v,
                                  tvlm_error *err);
tvlm_status tvlmc_gguf_put_f64_array(tvlmc_gguf_writer *w, const char *key, const double *v,
                                     size_t n, tvlm_error *err);
tvlm_status tvlmc_gguf_put_i32_array(tvlmc_gguf_writer *w, const char *key, const int32_t *v,
                                     size_t n, tvlm_error *err);
tvlm_status tvlmc_gguf_put_string_array(tvlmc_gguf_writer *w, const char *key, const tvlm_str *v,
                                        size_t n, tvlm_error *err);
/* Copies a parsed key as it is (quantize). */
tvlm_status tvlmc_gguf_put_kv(tvlmc_gguf_writer *w, const tvlm_gguf_kv *kv, tvlm_error *err);
tvlm_status tvlmc_gguf_declare(tvlmc_gguf_writer *w, const char *name, tvlm_type type,
                               const uint64_t *shape, uint32_t n_dims, tvlm_error *err);
/* After the last declaration: tensor i's bytes, in order, the whole tensor at once. */
tvlm_status tvlmc_gguf_write_tensor(tvlmc_gguf_writer *w, const void *data, size_t size,
                                    tvlm_error *err);
/* check: as in app_output_finish. Also frees w. */
tvlm_status tvlmc_gguf_writer_finish(tvlmc_gguf_writer *w, app_output_check check, void *user,
                                     tvlm_error *err);
void tvlmc_gguf_writer_abort(tvlmc_gguf_writer *w); /* nullable; nothing is left */

#endif
