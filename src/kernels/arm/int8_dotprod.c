/* SPDX-License-Identifier: MIT
 * The int8 tower's linear layers with SDOT, and the tier's installer. */
#include "kernels/arm/dotprod.h"

#if defined(TVLM_DOTPROD)
#include "kernels/arm/bytes.h"

#include "kernels/arm/qgemm_body.h"

void tvlm_kernels_install_dotprod(tvlm_kernels *table)
{
    table->qgemm = qgemm;
}

#else

void tvlm_kernels_install_dotprod(tvlm_kernels *table)
{
    (void)table;
}

#endif

#include "kernels/arm/dotprod_end.h"
