/* SPDX-License-Identifier: MIT
 * Thread pool: short spin, then wait; the caller takes part. One tvlm_pool_for at a time. */
#ifndef TVLM_POOL_H
#define TVLM_POOL_H

#include "base/base.h"

typedef struct tvlm_pool tvlm_pool;

/* task in [0, n_tasks), thread in [0, tvlm_pool_threads(pool)): the caller is thread 0. A task's
 * arithmetic must depend on the task alone, never on thread: that makes results independent of
 * the number of threads. */
typedef void (*tvlm_task)(void *ctx, size_t task, unsigned thread);

tvlm_status tvlm_pool_new(unsigned n_threads, tvlm_pool **out, tvlm_error *err);
void tvlm_pool_free(tvlm_pool *pool);
unsigned tvlm_pool_threads(const tvlm_pool *pool); /* 1 for NULL */
size_t tvlm_pool_bytes(unsigned n_threads);        /* heap bytes that tvlm_pool_new takes */

/* Runs every task and waits; pool NULL runs them here. Polls cancel before each task; false when
 * cancelled (some tasks then did not run). Allocates nothing. */
bool tvlm_pool_for(tvlm_pool *pool, size_t n_tasks, tvlm_task fn, void *ctx,
                   const tvlm_cancel *cancel);

#endif
