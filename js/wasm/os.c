/* SPDX-License-Identifier: MIT
 * os/os.h where JavaScript is the system. It has no files. */
#include "os/os.h"

#include "host.h"

#include <stdlib.h>
#include <string.h>

void *tvlm_aligned_alloc(size_t size)
{
    if (size == 0 || size > SIZE_MAX - TVLM_ALIGN) return NULL;
    void *block = aligned_alloc(TVLM_ALIGN, (size + TVLM_ALIGN - 1) / TVLM_ALIGN * TVLM_ALIGN);
    return block ? memset(block, 0, size) : NULL;
}

void tvlm_aligned_free(void *block)
{
    free(block);
}

void *tvlm_pages_alloc(size_t size, bool dense)
{
    (void)dense;
    return tvlm_aligned_alloc(size);
}

void tvlm_pages_free(void *pages, size_t size)
{
    (void)size;
    tvlm_aligned_free(pages);
}

void tvlm_pages_drop(void *pages, size_t size)
{
    (void)pages; /* a memory never shrinks */
    (void)size;
}

double tvlm_now_ms(void)
{
    return host_now();
}

unsigned tvlm_cpu_count(void)
{
    return 1; /* the page says how many workers it has */
}
