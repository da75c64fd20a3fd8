/* SPDX-License-Identifier: MIT
 * Chat templates. Files carry Jinja, which is not interpreted: sources known to give exactly what
 * one of these forms gives are recognised, no others. */
#ifndef TVLM_CHAT_H
#define TVLM_CHAT_H

#include "base/base.h"

typedef enum tvlm_chat {
    TVLM_CHAT_NONE = 0, /* not recognised */
    TVLM_CHAT_CHATML,   /* <|im_start|>role\n text <|im_end|>\n ; no default system message */
    TVLM_CHAT_QWEN2,    /* ChatML; default system "You are a helpful assistant." */
    TVLM_CHAT_QWEN2_5,  /* ChatML; default system of Qwen2.5-Instruct */
    TVLM_CHAT_SMOLLM2,  /* ChatML; default system of SmolLM2-Instruct */
    TVLM_CHAT_FASTVLM,  /* QWEN2, image as "<image>\n" before the user's text (llava qwen_2) */
    TVLM_CHAT_TINYVLM,  /* <|im_start|> question <|im_end|> answer <|im_end|> ; no system message */
    TVLM_CHAT_QWEN3,    /* CHATML; answers lose their <think> part once they are history */
    TVLM_CHAT_QWEN3_NO_THINK, /* the same, the next answer beginning behind an empty one */
    TVLM_CHAT_SMOLVLM         /* <|im_start|>User: question <end_of_utterance>\n Assistant: ... */
} tvlm_chat;

#define TVLM_CHAT_NAMES                                                                            \
    "chatml, qwen2, qwen2.5, smollm2, fastvlm, tinyvlm, qwen3, qwen3-no-think, smolvlm"

/* By name, one of TVLM_CHAT_NAMES (nullable). */
tvlm_chat tvlm_chat_from_name(const char *name);
/* By a Jinja source (recognise.c). */
tvlm_chat tvlm_chat_recognise(tvlm_str jinja);
const char *tvlm_chat_name(tvlm_chat chat);
/* The system message that is put first when the conversation brings none; NULL: none is. */
const char *tvlm_chat_system(tvlm_chat chat);

/* A rendered conversation is a list of pieces; special pieces are tokenised with special tokens,
 * text pieces (a user's words) never are. Adjacent pieces between images are tokenised apart. */
typedef enum tvlm_piece_kind {
    TVLM_PIECE_SPECIAL,
    TVLM_PIECE_TEXT,
    TVLM_PIECE_IMAGE
} tvlm_piece_kind;
typedef struct tvlm_piece {
    tvlm_piece_kind kind;
    tvlm_str text;
    const tvlm_image *image;
} tvlm_piece;
typedef tvlm_status (*tvlm_piece_sink)(void *ctx, const tvlm_piece *piece, tvlm_error *err);

/* Whether the last message is the beginning of the answer, which ends the rendering. */
bool tvlm_chat_continues(const tvlm_message *messages, size_t n);

/* Renders messages, ending where the assistant speaks, or goes on. The sink is called in order;
 * template text and user text that the reference tokenises as one string arrive as ONE run of
 * TEXT/SPECIAL pieces which the sink must tokenise as one string (see tvlm_prompt_chat), so that no
 * merge is lost. */
tvlm_status tvlm_chat_render(tvlm_chat chat, const tvlm_message *messages, size_t n,
                             tvlm_piece_sink sink, void *ctx, tvlm_error *err);

#endif
