/* SPDX-License-Identifier: MIT
 * Jinja sources on standard input, each behind its length in 4 bytes -> for each the recognised
 * template's name and its rendering of six conversations, all followed by a zero byte. */
#include "text/chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static tvlm_status print(void *ctx, const tvlm_piece *piece, tvlm_error *err)
{
    (void)ctx, (void)err;
    fwrite(piece->text.data, 1, piece->text.len, stdout);
    return TVLM_OK;
}

static void render(tvlm_chat chat, const tvlm_message *messages, size_t n)
{
    tvlm_error err;
    if (chat != TVLM_CHAT_NONE && tvlm_chat_render(chat, messages, n, print, NULL, &err)) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    putchar(0);
}

#define SAY(role, text) {TVLM_ROLE_##role, text, sizeof(text) - 1, NULL, 0, NULL}

int main(void)
{
    static const tvlm_message one[] = {SAY(USER, "Hello")};
    static const tvlm_message two[] = {SAY(SYSTEM, "Be brief. "), SAY(USER, "Hi\n there"),
                                       SAY(ASSISTANT, " Yes? "), SAY(USER, "é")};
    static const tvlm_message three[] = {SAY(USER, "1"),      SAY(USER, "2"),
                                         SAY(ASSISTANT, "3"), SAY(USER, " 4\n\n"),
                                         SAY(ASSISTANT, ""),  SAY(USER, "")};
    static const tvlm_message four[] = {
        SAY(USER, "1"), SAY(ASSISTANT, "<think>\nhm\n</think>\n\n2 </think"), SAY(USER, "3")};
    static const tvlm_message five[] = {SAY(USER, "Hi"), SAY(ASSISTANT, "The \n")};
    static const tvlm_message six[] = {SAY(SYSTEM, "S"), SAY(USER, "1"), SAY(ASSISTANT, "2"),
                                       SAY(USER, "3"), SAY(ASSISTANT, "")};
    uint32_t n;
    while (fread(&n, sizeof n, 1, stdin) == 1) {
        char *text = malloc(n + 1);
        if (!text || fread(text, 1, n, stdin) != n) return 1;
        tvlm_chat chat = tvlm_chat_recognise((tvlm_str){text, n});
        printf("%s", tvlm_chat_name(chat));
        putchar(0);
        render(chat, one, TVLM_COUNT(one));
        render(chat, two, TVLM_COUNT(two));
        render(chat, three, TVLM_COUNT(three));
        render(chat, four, TVLM_COUNT(four));
        render(chat, five, TVLM_COUNT(five));
        render(chat, six, TVLM_COUNT(six));
        free(text);
    }
    return 0;
}
