/* SPDX-License-Identifier: MIT
 * The int8 tower's linear layers with SDOT, and the tier's installer. */
#include "kernels/arm/dotprod.h"

#if defined(TVLM_DOTPROD)
#include "kernels/arm/bytes.h"

#include "kernels/arm/qgemm_body.h"

void tvlm_dotprod_qgemm(const tvlm_qgemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1)
{
    qgemm(args, m0, m1, n0, n1);
}

void tvlm_kernels_install_dotprod(tvlm_kernels *table)
{
    table->qgemm = tvlm_dotprod_qgemm;
}

#else

void tvlm_kernels_install_dotprod(tvlm_kernels *table)
{
    (void)table;
}

#endif

#include "kernels/arm/target_end.h"
