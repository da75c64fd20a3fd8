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
    const tvlm_sized *type = TVLM_SIZED(tvlm_memory, n_batch_tokens);
    TVLM_TRY(tvlm_sized_check(out, type, err));
    TVLM_TRY(tvlm_engine_params_read(engine, &e, err));
    TVLM_TRY(tvlm_session_params_read(model, session, &s, err));
    TVLM_TRY(tvlm_engine_fit(model, &e, &scratch, err));
    TVLM_TRY(tvlm_session_bytes(model, &s, &session_bytes, err));
    tvlm_memory m = {.model_bytes = tvlm_model_bytes(model),
                     .engine_bytes = tvlm_engine_bytes(&e, scratch.bytes),
                     .session_bytes = session_bytes,
                     .image_bytes = tvlm_image_bytes(model),
                     .vision_scratch_bytes = scratch.vision,
                     .decoder_scratch_bytes = scratch.decoder,
                     .largest_buffer_bytes = scratch.largest,
                     .kv_bytes = s.max_beams * tvlm_kv_bytes(&model->config.lm, s.n_ctx,
                                                             s.kv_type == TVLM_KV_F16),
                     .n_batch_tokens = e.max_batch_tokens};
    m.total_bytes = m.model_bytes + m.engine_bytes + m.session_bytes + m.image_bytes;
    tvlm_sized_write(out, &m, type);
    return TVLM_OK;
}
