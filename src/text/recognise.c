/* SPDX-License-Identifier: MIT
 * Jinja sources whose output is known to be what chat.c renders (tests/text/test_templates.py runs
 * them). A source is known by its exact text, but for spellings that Jinja renders alike: a mark of
 * a pattern stands for any of its spellings, the loop's variable for one throughout. */
#include "text/chat.h"

#include <string.h>

enum { VARIABLE = 1, NEWLINE, PAD, ROLE, CONTENT, END, SYSTEM, N_MARKS };

// clang-format off
/* Marks as parts of the patterns. */
#define V "\1"
#define N "\2"
#define P "\3"
#define MESSAGE   "'<|im_start|>' + " V "\4 + '" N "' + " V "\5 + \6"
#define ASSISTANT "'<|im_start|>assistant" N "'"
#define EACH      "{% for " V " in messages %}"
#define TURNS     "{{" P MESSAGE P "}}{% endfor %}" ANSWER
#define ANSWER    "{% if add_generation_prompt %}{{" P ASSISTANT P "}}{% endif %}"
#define DEFAULT   "{% if loop.first and messages[0]['role'] != 'system' %}" \
                  "{{" P "'<|im_start|>system" N "\7<|im_end|>" N "'" P "}}{% endif %}"
#define UNSET     "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
#define TURN(role) "{{" P "'<|im_start|>" role N "' + " V "\5 + '<|im_end|>" N "'" P "}}"

static const char *const patterns[] = {
    EACH TURNS,
    UNSET EACH TURNS,
    EACH DEFAULT TURNS,
    UNSET EACH DEFAULT TURNS,
    EACH "{% if " V "\4 == 'user' %}" TURN("user") "{% elif " V "\4 == 'assistant' %}" TURN("assistant")
        "{% else %}" TURN("system") "{% endif %}{% endfor %}" ANSWER,
    /* over several lines */
    "{%- for " V " in messages %}\n    {{- " MESSAGE " }}\n{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n    {{- " ASSISTANT " }}\n{%- endif %}",
    "{%- for " V " in messages %}\n    {{- '<|im_start|>' + " V "\4 + '" N "' }}\n    {{- " V "\5 + \6 }}\n"
    "{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- " ASSISTANT " }}\n{%- endif %}",
};

/* Where one spelling begins another, the longer comes first. */
static const char *const spellings[N_MARKS][4] = {
    [VARIABLE] = {"message", "msg", "m"},
    [NEWLINE] = {"\n", "\\n"},
    [PAD] = {" ", ""},
    [ROLE] = {"['role']", "[\"role\"]", ".role"},
    [CONTENT] = {"['content']", "[\"content\"]", ".content"},
    [END] = {"'<|im_end|>' + '\n'", "'<|im_end|>' + '\\n'", "'<|im_end|>\n'", "'<|im_end|>\\n'"},
};

/* Longer sources, with blocks for tools, by length and FNV-1a (tests/long/test_released_templates.py). */
static const struct {
    size_t len;
    uint64_t hash;
    tvlm_chat chat;
} hashed[] = {
    {2506, 0xE642CE246D7F2E3Du, TVLM_CHAT_QWEN2_5}, /* Qwen2.5-Instruct */
    {2426, 0x16BC91FC7006A16Du, TVLM_CHAT_QWEN2},   /* Qwen2.5, base: another default system message */
    {4116, 0x2BFDB7AA9754484Eu, TVLM_CHAT_QWEN3},   /* Qwen3, as first released */
    {4168, 0x959A4551391A6549u, TVLM_CHAT_QWEN3},   /* Qwen3, for contents that are no strings too */
};
// clang-format on

typedef struct cursor {
    const char *at, *end;
    const char *variable; /* its spelling so far, or NULL */
    tvlm_chat chat;
} cursor;

static bool take(cursor *c, const char *text)
{
    size_t n = strlen(text);
    if (n > (size_t)(c->end - c->at) || memcmp(c->at, text, n) != 0) return false;
    c->at += n;
    return true;
}

static bool take_system(cursor *c)
{
    static const tvlm_chat chats[] = {TVLM_CHAT_QWEN2, TVLM_CHAT_QWEN2_5, TVLM_CHAT_SMOLLM2};
    for (size_t i = 0; i < TVLM_COUNT(chats); i++)
        if (take(c, tvlm_chat_system(chats[i]))) {
            c->chat = chats[i];
            return true;
        }
    return false;
}

static bool take_mark(cursor *c, int mark)
{
    if (mark == SYSTEM) return take_system(c);
    if (mark == VARIABLE && c->variable) return take(c, c->variable);
    for (size_t i = 0; i < TVLM_COUNT(spellings[mark]) && spellings[mark][i]; i++)
        if (take(c, spellings[mark][i])) {
            if (mark == VARIABLE) c->variable = spellings[mark][i];
            return true;
        }
    return false;
}

static tvlm_chat match(tvlm_str jinja, const char *pattern)
{
    cursor c = {jinja.data, jinja.data + jinja.len, NULL, TVLM_CHAT_CHATML};
    for (; *pattern; pattern++) {
        char plain[] = {*pattern, 0};
        if (!(*pattern < N_MARKS ? take_mark(&c, *pattern) : take(&c, plain)))
            return TVLM_CHAT_NONE;
    }
    return c.at == c.end ? c.chat : TVLM_CHAT_NONE;
}

static uint64_t hash(tvlm_str text)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < text.len; i++)
        h = (h ^ (unsigned char)text.data[i]) * 0x100000001B3u;
    return h;
}

tvlm_chat tvlm_chat_recognise(tvlm_str jinja)
{
    if (!jinja.len) return TVLM_CHAT_NONE;
    if (jinja.data[jinja.len - 1] == '\n') jinja.len--; /* as Jinja drops it */
    for (size_t i = 0; i < TVLM_COUNT(patterns); i++) {
        tvlm_chat chat = match(jinja, patterns[i]);
        if (chat != TVLM_CHAT_NONE) return chat;
    }
    for (size_t i = 0; i < TVLM_COUNT(hashed); i++)
        if (jinja.len == hashed[i].len && hash(jinja) == hashed[i].hash) return hashed[i].chat;
    return TVLM_CHAT_NONE;
}
