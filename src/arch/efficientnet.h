/* SPDX-License-Identifier: MIT
 * EfficientNet-Lite as a tower of a family: its weights, float or int8. */
#ifndef TVLM_ARCH_EFFICIENTNET_H
#define TVLM_ARCH_EFFICIENTNET_H

#include "model/bind.h"

void tvlm_efficientnet_bind(tvlm_binder *b);
/* Of an int8 tower: multipliers and offsets of its layers, of the values that were placed. */
tvlm_status tvlm_efficientnet_finish_int8(tvlm_model *model, const tvlm_plan *plan,
                                          tvlm_error *err);

#endif
