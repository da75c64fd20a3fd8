/* SPDX-License-Identifier: MIT
 * A conversation of several turns (chat.c), and the file that keeps it (chat_file.c). */
#ifndef APP_CHAT_H
#define APP_CHAT_H

#include "cli/cli.h"

/* Of one message. */
typedef struct photos {
    cli_photo *at;
    size_t n;
} photos;

typedef struct turn {
    photos photos; /* that came with the question */
    char *question, *answer;
    size_t question_len, answer_len;
} turn;

typedef struct conversation {
    cli_runner runner;
    cli_options options;
    cli_lines *lines;
    turn *turns;
    size_t n_turns, cap_turns;
    photos next; /* of the question to come */
    bool no_shift;
    char **named; /* by --image */
    size_t n_named;
    const char *session; /* file; NULL: none */
    int code;            /* of the first failure */
} conversation;

/* Turns, encoded images and the decoder's state, so that the next process goes on as this one would
 * have, without image work. The file appears only when it is complete and was read again. */
tvlm_status cli_chat_save(const conversation *c, const char *path, tvlm_error *err);
/* Into an empty conversation. No file: TVLM_OK, and it stays empty. Messages name file and field.
 */
tvlm_status cli_chat_load(conversation *c, const char *path, tvlm_error *err);

#endif
