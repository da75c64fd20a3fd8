/* SPDX-License-Identifier: MIT */
#include "arch/work.h"

#include <stdarg.h>
#include <stdio.h>

double tvlm_work_add(tvlm_work *work, const tvlm_gguf *g, double times, const char *format, ...)
{
    char name[96];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    const tvlm_gguf_tensor *t = tvlm_gguf_find_tensor(g, name);
    if (!t) return 0;
    work->flops += 2 * times * (double)t->n_elements;
    work->bytes += (double)t->size;
    return (double)t->shape[0];
}
