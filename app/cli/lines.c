/* SPDX-License-Identifier: MIT
 * Messages that are typed, pasted or piped. At a terminal with libedit: editing and history (in
 * memory: what is asked about an image is written nowhere). Without it the terminal's own line.
 *
 *   lines: editor | terminal  -->  pasted text, """ blocks  -->  messages */
#include "cli/cli.h"
#include "system/system.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if TVLM_HAVE_EDIT
#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <wchar.h>
#endif

#define PASTE_ON    "\033[?2004h" /* the terminal then marks pasted text: */
#define PASTE_OFF   "\033[?2004l"
#define PASTE_BEGIN "\033[200~"
#define PASTE_END   "\033[201~"
#define BLOCK       "\"\"\""

struct cli_lines {
    bool terminal, prompts; /* standard input is one; so is standard output, for us to write on */
    const char *prompt;     /* of the line that is read */
    char *line;             /* of app_sys_read_line */
    size_t line_cap;
    char *text; /* the message */
    size_t len, cap;
#if TVLM_HAVE_EDIT
    EditLine *editor;
    History *history;
    bool ahead; /* what is read was typed before the editor had the terminal */
    bool holds; /* `byte`, the last that was read, begins the next character */
    char byte;
#endif
};

static void show(const cli_lines *l, const char *text)
{
    if (!l->prompts) return;
    fputs(text, stdout);
    cli_flush();
}

enum { GLANCE_MS = 50 };

/* Until there is something to read at the terminal; false when a signal came. One that comes just
 * before a read, or to another thread, wakes nobody: so it is looked for. */
static bool wait_for_input(void)
{
    while (!cli_signal()) {
        int n = app_sys_input_ready(GLANCE_MS);
        if (n > 0 || (n < 0 && errno != EINTR)) return true;
    }
    return false;
}

/* ---- lines of the terminal itself ---- */

static cli_input read_plain(cli_lines *l, const char **line, size_t *len)
{
    show(l, PASTE_ON);
    show(l, l->prompt);
    app_sys_line_begin();
    long n = -1;
    int error = EINTR;
    while (error == EINTR && (l->terminal ? wait_for_input() : !cli_signal())) {
        clearerr(stdin);
        errno = 0;
        n = app_sys_read_line(&l->line, &l->line_cap);
        error = n < 0 && ferror(stdin) ? errno : 0;
    }
    bool cleared = app_sys_line_end(error == EINTR);
    show(l, PASTE_OFF);
    clearerr(stdin); /* the end of input at a terminal is not for ever */
    *line = l->line;
    *len = n < 0 ? 0 : (size_t)n;
    if (n >= 0) return CLI_INPUT_MESSAGE;
    if (error == EINTR) return cleared ? CLI_INPUT_CLEARED : CLI_INPUT_INTERRUPTED;
    if (!error) return CLI_INPUT_END;
    fprintf(stderr, "tinyvlm: cannot read standard input: %s\n", strerror(error));
    return CLI_INPUT_FAILED;
}

/* ---- lines of the editor ---- */

#if TVLM_HAVE_EDIT

static cli_lines *lines_of(EditLine *editor)
{
    void *lines;
    el_get(editor, EL_CLIENTDATA, &lines);
    return lines;
}

static char *editor_prompt(EditLine *editor)
{
    return (char *)(uintptr_t)lines_of(editor)->prompt;
}

/* 1, or -1: a signal, or what read says; 0: the end. */
static int read_byte(cli_lines *l)
{
    bool held = l->holds;
    l->holds = false;
    if (held) return 1;
    return wait_for_input() ? (int)app_sys_read(APP_SYS_STDIN, &l->byte, 1) : -1;
}

/* The same. A NUL is the end of input too where it was typed before the editor had the terminal,
 * which made it of Ctrl-D; typed later it means nothing. A byte that cannot go on with a character
 * begins the next one: it may be Enter. */
static int read_character(EditLine *editor, wchar_t *out)
{
    cli_lines *l = lines_of(editor);
    mbstate_t state = {0};
    size_t used = 0;
    l->ahead = l->ahead && app_sys_input_ready(0) > 0;
    while (used == 0 || used == (size_t)-2) {
        int n = read_byte(l);
        if (n != 1) return n;
        if (!l->byte && l->ahead) return 0;
        bool inside = used == (size_t)-2;
        used = mbrtowc(out, &l->byte, 1, &state);
        l->holds = inside && used == (size_t)-1;
    }
    if (used == (size_t)-1) *out = 0xFFFD;
    return 1;
}

/* Pasted text goes into the line as it is, its newlines too: one message. */
static unsigned char take_paste(EditLine *editor, int key)
{
    static const wchar_t end[] = L"" PASTE_END;
    size_t matched = 0;
    wchar_t c, before = 0;
    (void)key;
    while (matched < sizeof end / sizeof *end - 1 && el_wgetc(editor, &c) == 1) {
        if (c == end[matched]) {
            matched++;
            continue;
        }
        for (size_t i = 0; i < matched; i++)
            el_winsertstr(editor, (wchar_t[]){end[i], 0});
        matched = c == end[0];
        if (matched) continue;
        bool second = c == L'\n' && before == L'\r';
        before = c;
        if (!second) el_winsertstr(editor, (wchar_t[]){c == L'\r' ? L'\n' : c, 0});
    }
    return CC_REFRESH;
}

/* The editor reads characters as the locale has them: without UTF-8 it would lose all but ASCII. */
static bool utf8_locale(void)
{
    setlocale(LC_CTYPE, "");
    if (!strcmp(nl_langinfo(CODESET), "UTF-8")) return true;
    return setlocale(LC_CTYPE, "C.UTF-8") && !strcmp(nl_langinfo(CODESET), "UTF-8");
}

static void open_editor(cli_lines *l)
{
    const char *terminal = getenv("TERM");
    HistEvent event;
    if (!l->prompts || !terminal || !strcmp(terminal, "dumb") || !utf8_locale()) return;
    l->editor = el_init("tinyvlm", stdin, stdout, stderr);
    l->history = history_init();
    if (!l->editor || !l->history) return;
    history(l->history, &event, H_SETSIZE, 1000);
    history(l->history, &event, H_SETUNIQUE, 1);
    el_set(l->editor, EL_CLIENTDATA, (void *)l);
    el_set(l->editor, EL_PROMPT, editor_prompt);
    el_set(l->editor, EL_EDITOR, "emacs");
    el_set(l->editor, EL_SIGNAL, 0);
    el_set(l->editor, EL_GETCFN, read_character);
    el_set(l->editor, EL_HIST, history, l->history);
    /* el_set would copy the names and leak them */
    el_wset(l->editor, EL_ADDFN, L"take-paste", L"Insert pasted text", take_paste);
    el_set(l->editor, EL_BIND, PASTE_BEGIN, "take-paste", NULL);
    el_source(l->editor, NULL);
}

static void close_editor(cli_lines *l)
{
    if (l->editor) el_end(l->editor);
    if (l->history) history_end(l->history);
}

static cli_input read_edited(cli_lines *l, const char **line, size_t *len)
{
    int n = 0;
    HistEvent event;
    show(l, PASTE_ON);
    l->ahead = true;
    *line = el_gets(l->editor, &n);
    show(l, PASTE_OFF);
    *len = *line && n > 0 ? (size_t)n : 0;
    if (*len) {
        if (**line != '\n') history(l->history, &event, H_ENTER, *line);
        return CLI_INPUT_MESSAGE;
    }
    if (!cli_signal()) return CLI_INPUT_END;
    const LineInfo *typed = el_line(l->editor);
    return typed->lastchar > typed->buffer ? CLI_INPUT_CLEARED : CLI_INPUT_INTERRUPTED;
}

#endif

static cli_input read_line(cli_lines *l, const char **line, size_t *len)
{
#if TVLM_HAVE_EDIT
    if (l->editor && l->history) return read_edited(l, line, len);
#endif
    return read_plain(l, line, len);
}

/* ---- messages ---- */

static bool append(cli_lines *l, const char *text, size_t len)
{
    if (l->len + len >= l->cap) {
        size_t cap = 2 * (l->len + len) + 256;
        char *grown = realloc(l->text, cap);
        if (!grown) return false;
        l->text = grown;
        l->cap = cap;
    }
    if (len) memcpy(l->text + l->len, text, len);
    l->len += len;
    l->text[l->len] = 0;
    return true;
}

/* Takes every `mark` out of text[from..); returns how many there were. */
static size_t take_out(cli_lines *l, size_t from, const char *mark)
{
    size_t n = 0, size = strlen(mark);
    for (size_t at = from; at + size <= l->len;)
        if (!memcmp(l->text + at, mark, size)) {
            memmove(l->text + at, l->text + at + size, l->len - at - size + 1);
            l->len -= size;
            n++;
        } else {
            at++;
        }
    return n;
}

/* A line more at the end of the message, and while it is inside pasted text the next ones. */
static cli_input add_line(cli_lines *l, const char *prompt)
{
    size_t open = 0;
    do {
        const char *line;
        size_t len;
        l->prompt = open ? "" : prompt;
        cli_input input = read_line(l, &line, &len);
        if (input == CLI_INPUT_END && open) return CLI_INPUT_MESSAGE;
        if (input != CLI_INPUT_MESSAGE) return input;
        while (len && (line[len - 1] == '\n' || line[len - 1] == '\r'))
            len--;
        size_t from = l->len;
        if ((open && !append(l, "\n", 1)) || !append(l, line, len)) return CLI_INPUT_FAILED;
        if (!l->terminal) break;
        open += take_out(l, from, PASTE_BEGIN);
        size_t ends = take_out(l, from, PASTE_END);
        open = ends < open ? open - ends : 0;
    } while (open);
    return CLI_INPUT_MESSAGE;
}

static bool begins_block(const cli_lines *l)
{
    return l->len >= 3 && !memcmp(l->text, BLOCK, 3);
}

/* Up to a line that ends in """; the marks go. */
static cli_input add_block(cli_lines *l)
{
    cli_input input = CLI_INPUT_MESSAGE;
    for (;;) {
        size_t end = l->len;
        while (end && strchr(" \t", l->text[end - 1]))
            end--;
        if (end >= 6 && !memcmp(l->text + end - 3, BLOCK, 3)) {
            l->len = end - 3;
            break;
        }
        if (!append(l, "\n", 1)) return CLI_INPUT_FAILED;
        input = add_line(l, "... ");
        if (input == CLI_INPUT_END) break; /* what there is */
        if (input != CLI_INPUT_MESSAGE) return input;
    }
    size_t begin = l->len > 3 && l->text[3] == '\n' ? 4 : 3;
    if (l->len > begin && l->text[l->len - 1] == '\n') l->len--;
    memmove(l->text, l->text + begin, l->len - begin);
    l->len -= begin;
    l->text[l->len] = 0;
    return CLI_INPUT_MESSAGE;
}

cli_lines *cli_lines_new(bool json)
{
    cli_lines *l = calloc(1, sizeof *l);
    if (!l) return NULL;
    l->terminal = app_sys_terminal(APP_SYS_STDIN);
    l->prompts = l->terminal && !json && app_sys_terminal(APP_SYS_STDOUT);
#if TVLM_HAVE_EDIT
    open_editor(l);
#endif
    return l;
}

void cli_lines_free(cli_lines *l)
{
    if (!l) return;
#if TVLM_HAVE_EDIT
    close_editor(l);
#endif
    free(l->line);
    free(l->text);
    free(l);
}

bool cli_lines_interactive(const cli_lines *l)
{
    return l->terminal;
}

cli_input cli_lines_next(cli_lines *l, const char **text, size_t *len, bool *block)
{
    l->len = 0;
    if (!append(l, "", 0)) return CLI_INPUT_FAILED;
    cli_cancel(); /* a signal ends the reading, not the process */
    cli_input input = add_line(l, "> ");
    *block = input == CLI_INPUT_MESSAGE && begins_block(l);
    if (*block) {
        input = add_block(l);
        if (input == CLI_INPUT_INTERRUPTED && l->terminal) input = CLI_INPUT_CLEARED;
    }
    bool ctrl_c = cli_signal() == SIGINT;
    if (ctrl_c || input == CLI_INPUT_END) show(l, "\n");
    if (ctrl_c && input == CLI_INPUT_CLEARED) cli_signals_forget();
    *text = l->text;
    *len = l->len;
    return input;
}
