/* SPDX-License-Identifier: MIT
 * Paths as terminals and file managers paste them: as they are, quoted or escaped as for a shell,
 * with ~, as a file: URL. */
#include "cli/cli.h"
#include "system/system.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST = 4096 }; /* of a path that is looked up */

static bool is_file(const char *path, bool regular)
{
    app_sys_facts facts;
    return app_sys_look(path, &facts) && (!regular || facts.kind == APP_SYS_REGULAR);
}

static char *copy(const char *text, size_t len)
{
    char *s = malloc(len + 1);
    if (!s) return NULL;
    memcpy(s, text, len);
    s[len] = 0;
    return s;
}

static const char *skip_space(const char *s)
{
    while (isspace((unsigned char)*s))
        s++;
    return s;
}

/* The longest beginning of the text, up to white space or the end, that is a file's name as it
 * stands. */
static char *literal_path(const char **text, bool regular)
{
    size_t len = strlen(*text);
    while (len && isspace((unsigned char)(*text)[len - 1]))
        len--;
    while (len) {
        char *path = len <= LONGEST ? copy(*text, len) : NULL;
        if (path && is_file(path, regular)) {
            *text += len;
            return path;
        }
        free(path);
        while (len && !isspace((unsigned char)(*text)[len - 1]))
            len--;
        while (len && isspace((unsigned char)(*text)[len - 1]))
            len--;
    }
    return NULL;
}

/* One word of a shell's line, its quotes and escapes taken away; out has room for all of it. */
static void shell_word(const char **text, char *out)
{
    const char *s = *text;
    char quote = 0;
    for (; *s && (quote || !isspace((unsigned char)*s)); s++) {
        bool escapes =
            *s == '\\' && s[1] && (quote == 0 || (quote == '"' && strchr("\"\\$`", s[1])));
        if (escapes)
            *out++ = *++s;
        else if (quote ? *s == quote : *s == '"' || *s == '\'')
            quote = quote ? 0 : *s;
        else
            *out++ = *s;
    }
    *out = 0;
    *text = s;
}

static int hex(char c)
{
    const char *digits = "0123456789abcdef", *at = strchr(digits, tolower((unsigned char)c));
    return c && at ? (int)(at - digits) : -1;
}

/* file:///path, file://localhost/path, file:/path: %xx is a byte. */
static void decode_url(char *path)
{
    static const char *const beginnings[] = {"file://localhost/", "file:///", "file:/"};
    const char *from = NULL;
    for (size_t i = 0; i < 3 && !from; i++)
        if (!strncmp(path, beginnings[i], strlen(beginnings[i])))
            from = path + strlen(beginnings[i]) - 1;
    if (!from) return;
    for (; *from; from++) {
        int high = *from == '%' ? hex(from[1]) : -1, low = high >= 0 ? hex(from[2]) : -1;
        bool byte = low >= 0 && (high || low);
        *path++ = byte ? (char)(16 * high + low) : *from;
        from += byte ? 2 : 0;
    }
    *path = 0;
}

static char *expand_home(char *path)
{
    const char *home = app_sys_variable("HOME");
    if (path[0] != '~' || (path[1] && path[1] != '/') || !home) return path;
    char *whole = malloc(strlen(home) + strlen(path));
    if (whole) strcat(strcpy(whole, home), path + 1);
    free(path);
    return whole;
}

static char *shell_path(const char **text)
{
    char *path = malloc(strlen(*text) + 1);
    if (!path) return NULL;
    shell_word(text, path);
    decode_url(path);
    return expand_home(path);
}

static bool add(cli_paths *p, char *path)
{
    char **grown = path ? realloc(p->at, (p->n + 1) * sizeof *grown) : NULL;
    if (!grown) {
        free(path);
        return false;
    }
    p->at = grown;
    p->at[p->n++] = path;
    return true;
}

void cli_paths_free(cli_paths *p)
{
    while (p->n)
        free(p->at[--p->n]);
    free(p->at);
    *p = (cli_paths){0};
}

bool cli_paste_paths(const char *text, cli_paths *out)
{
    const char *all = skip_space(text), *at = all;
    bool found = false, ok = true;
    *out = (cli_paths){0};
    for (; ok && *at; at = skip_space(at)) {
        char *path = literal_path(&at, false);
        found = found || path;
        if (!path) {
            path = shell_path(&at);
            found = found || (path && is_file(path, false));
        }
        ok = add(out, path);
    }
    if (ok && !found && out->n > 1) { /* a name with spaces, misspelt: better named as one */
        cli_paths_free(out);
        size_t len = strlen(all);
        while (len && isspace((unsigned char)all[len - 1]))
            len--;
        ok = add(out, copy(all, len));
    }
    if (!ok) cli_paths_free(out);
    return ok;
}

/* A message that begins so may begin with a path; a word of a sentence does not. */
static bool rooted(const char *s)
{
    static const char *const beginnings[] = {"/", "~/", "./", "../", "file:/", "\\\\"};
    s += *s == '\'' || *s == '"';
    for (size_t i = 0; i < sizeof beginnings / sizeof *beginnings; i++)
        if (!strncmp(s, beginnings[i], strlen(beginnings[i]))) return true;
    return isalpha((unsigned char)s[0]) && s[1] == ':' && (s[2] == '\\' || s[2] == '/');
}

const char *cli_leading_paths(const char *text, cli_paths *out)
{
    *out = (cli_paths){0};
    for (text = skip_space(text); rooted(text); text = skip_space(text)) {
        const char *at = text;
        char *path = literal_path(&at, true);
        if (!path && (path = shell_path(&at)) && !is_file(path, true)) {
            free(path);
            break;
        }
        if (!add(out, path)) break;
        text = at;
    }
    return text;
}
