/* SPDX-License-Identifier: MIT
 * The exact memory plan, from the functions that the constructors follow. */
#include "engine/internal.h"

tvlm_status tvlm_memory_estimate(const tvlm_model *model, const tvlm_engine_params *engine,
                                 const tvlm_session_params *session, tvlm_memory *out,
                                 tvlm_error *err)
{
    tvlm_engine_params e;
    tvlm_session_params s;
    tvlm_scratch scratch;
    size_t session_bytes;
    TVLM_NEED(model);
    TVLM_NEED(out);
    TVLM_TRY(tvlm_engine_params_read(engine, &e, err));
    TVLM_TRY(tvlm_session_params_read(model, session, &s, err));
    TVLM_TRY(tvlm_engine_scratch(model, &e, &scratch, err));
    TVLM_TRY(tvlm_session_bytes(model, &s, &session_bytes, err));
    *out = (tvlm_memory){.vision_scratch_bytes = scratch.vision,
                         .decoder_scratch_bytes = scratch.decoder,
                         .largest_buffer_bytes = scratch.largest,
                         .kv_bytes =
                             tvlm_kv_bytes(&model->config.lm, s.n_ctx, s.kv_type == TVLM_KV_F16)};
    out->model_bytes = tvlm_model_bytes(model);
    out->engine_bytes = tvlm_engine_bytes(&e, scratch.bytes);
    out->session_bytes = session_bytes;
    out->image_bytes = tvlm_image_bytes(model);
    out->total_bytes = out->model_bytes + out->engine_bytes + out->session_bytes + out->image_bytes;
    return TVLM_OK;
}
