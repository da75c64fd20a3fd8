/* SPDX-License-Identifier: MIT
 * Errors, checked arithmetic, arena, files. */
#ifndef TVLM_BASE_H
#define TVLM_BASE_H

#include "os/os.h"
#include "tinyvlm.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__clang__)
#define TVLM_PRINTF(f, a) __attribute__((format(printf, f, a)))
#elif defined(__GNUC__) /* whose printf is an old one on Windows */
#define TVLM_PRINTF(f, a) __attribute__((format(gnu_printf, f, a)))
#else
#define TVLM_PRINTF(f, a)
#endif

/* Fills err (nullable) and returns code, so `return tvlm_fail(...)` reads as one act. */
tvlm_status tvlm_fail(tvlm_error *err, tvlm_status code, const char *format, ...) TVLM_PRINTF(3, 4);

#define TVLM_TRY(expr)                                                                             \
    do {                                                                                           \
        tvlm_status try_status = (expr);                                                           \
        if (try_status != TVLM_OK) return try_status;                                              \
    } while (0)

/* `return` unless the argument is there. */
#define TVLM_NEED(arg)                                                                             \
    do {                                                                                           \
        if (!(arg)) return tvlm_fail(err, TVLM_ERR_ARGUMENT, "%s is NULL", #arg);                  \
    } while (0)

/* ---- structs that can grow, see tinyvlm.h: `size_t size` first, the caller's sizeof ----
 * New fields go to the end and leave no padding before or behind them: a library that does not know
 * them looks whether these bytes are zero. */
typedef struct tvlm_sized {
    const char *name;
    size_t size, first; /* in this version; in 0.1, the least that a caller may have */
} tvlm_sized;
/* last: the last field of version 0.1. */
#define TVLM_SIZED(type, last)                                                                     \
    (&(const tvlm_sized){#type, sizeof(type), offsetof(type, last) + sizeof(((type *)0)->last)})
/* An _init function: the defaults, of which the caller's struct (nullable) may know less, or more:
 * zeros. */
void tvlm_sized_init(void *out, size_t size, const void *defaults, size_t known);
/* Copies the caller's parameters (nullable) over the defaults in out. */
tvlm_status tvlm_sized_read(void *out, const void *in, const tvlm_sized *type, tvlm_error *err);
/* A result: whether the caller has set its size, and writing it after. */
tvlm_status tvlm_sized_check(const void *given, const tvlm_sized *type, tvlm_error *err);
void tvlm_sized_write(void *out, const void *from, const tvlm_sized *type);

/* A flag; work shared by several calls has a chain of links to theirs. */
struct tvlm_cancel {
    atomic_bool requested;
    bool (*poll)(void *user); /* nullable */
    void *user;
    const tvlm_cancel *link, *next; /* NULL in a flag */
};
static inline bool tvlm_cancelled(const tvlm_cancel *cancel)
{
    for (; cancel; cancel = cancel->next)
        if (atomic_load_explicit(&cancel->requested, memory_order_relaxed) ||
            (cancel->poll && cancel->poll(cancel->user)) ||
            (cancel->link && tvlm_cancelled(cancel->link)))
            return true;
    return false;
}

/* References to an object, 1 when it is made. Acquire and release: whatever a holder read happened
 * before the memory goes. */
typedef atomic_uint tvlm_refs;
static inline void tvlm_refs_take(tvlm_refs *refs)
{
    atomic_fetch_add_explicit(refs, 1, memory_order_relaxed);
}
static inline bool tvlm_refs_drop(tvlm_refs *refs) /* whether it was the last */
{
    return atomic_fetch_sub_explicit(refs, 1, memory_order_acq_rel) == 1;
}

/* Checked size arithmetic: false on overflow, *out untouched then. */
static inline bool tvlm_mul_size(size_t a, size_t b, size_t *out)
{
    if (b && a > SIZE_MAX / b) return false;
    *out = a * b;
    return true;
}
static inline bool tvlm_add_size(size_t a, size_t b, size_t *out)
{
    if (a > SIZE_MAX - b) return false;
    *out = a + b;
    return true;
}

#define TVLM_COUNT(a) (sizeof(a) / sizeof((a)[0]))
static inline size_t tvlm_align_up(size_t n) /* caller guarantees n <= SIZE_MAX - 63 */
{
    return (n + TVLM_ALIGN - 1) & ~(TVLM_ALIGN - 1);
}

/* A byte slice that does not own its bytes. */
typedef struct tvlm_str {
    const char *data;
    size_t len;
} tvlm_str;
bool tvlm_str_eq(tvlm_str s, const char *literal);

/* ---- UTF-8 of bytes that may be anything ---- */
typedef enum tvlm_utf8_kind {
    TVLM_UTF8_WHOLE, /* a well-formed character */
    TVLM_UTF8_ILL,   /* no part of one; as long as browsers and Python replace by one U+FFFD */
    TVLM_UTF8_CUT    /* the beginning of one, at the end of the text */
} tvlm_utf8_kind;
typedef struct tvlm_utf8_part {
    size_t len;
    tvlm_utf8_kind kind;
} tvlm_utf8_part;
/* What text[0..len), len > 0, begins with. */
tvlm_utf8_part tvlm_utf8_first(const char *text, size_t len);
bool tvlm_utf8_valid(const char *text, size_t len);
/* Text that comes in pieces, made well-formed: an ill part becomes U+FFFD, so a byte beyond ASCII
 * at most TVLM_UTF8_GROWS bytes. What a piece ends in the middle of waits in the stream (zeroed at
 * the start) for its rest, or for the end. Both return the bytes written to out. */
#define TVLM_UTF8_GROWS ((size_t)3)
typedef struct tvlm_utf8_stream {
    char cut[3];
    size_t n;
} tvlm_utf8_stream;
size_t tvlm_utf8_feed(tvlm_utf8_stream *s, const char *text, size_t len, char *out);
size_t tvlm_utf8_end(tvlm_utf8_stream *s, char *out);

/* ---- text from outside, made fit to be shown ---- */
/* Whether a part is a character that shows: not one of the controls C0, DEL, C1, line separators
 * and changes of direction. */
bool tvlm_printable(const char *text, tvlm_utf8_part part);
/* Writes one printable line of valid UTF-8, at most 3 * len bytes, without a terminator: newlines
 * and tabs become spaces, what does not show U+FFFD. */
size_t tvlm_clean(tvlm_str text, char *out);
/* The longest beginning of at most `most` bytes that cuts no character. */
size_t tvlm_clip(tvlm_str text, size_t most);
/* A name from a file, for a message: clean, with "..." where it is cut to 96 bytes. */
typedef struct tvlm_shown {
    char text[3 * 96 + 4];
} tvlm_shown;
tvlm_shown tvlm_show(tvlm_str text);

/* ---- arena: the memory pool ------------------------------------------------------------------
 *   base |== used ==|........ free ........| cap        mark = used; release(mark) frees above it
 * Measure mode (base NULL, cap SIZE_MAX): the same calls move `used` and `peak` and return NULL,
 * so running a computation's code over it yields its exact plan. Blocks are 64-byte aligned. */
typedef struct tvlm_arena {
    unsigned char *base;
    size_t cap, used, peak, largest; /* largest: block */
} tvlm_arena;
void tvlm_arena_init(tvlm_arena *arena, void *base, size_t cap);
void tvlm_arena_init_measure(tvlm_arena *arena);
static inline bool tvlm_arena_measuring(const tvlm_arena *arena)
{
    return arena->base == NULL;
}
/* count * size bytes. A request beyond cap is a bug of the plan, not of the input: asserted. */
void *tvlm_arena_alloc(tvlm_arena *arena, size_t count, size_t size);
static inline size_t tvlm_arena_mark(const tvlm_arena *arena)
{
    return arena->used;
}
static inline void tvlm_arena_release(tvlm_arena *arena, size_t mark)
{
    arena->used = mark;
}

/* ---- a file read by position: never mapped, as a mapping of a file that shrinks kills ---- */
typedef struct tvlm_file {
    tvlm_os_file os;
    const char *path; /* the caller's, for messages */
} tvlm_file;
tvlm_status tvlm_file_open(const char *path, tvlm_file *out, tvlm_error *err);
/* Exactly n bytes at the offset; a file that has fewer, as it shrank since it was opened, is an
 * error. May be called from several threads at once. */
tvlm_status tvlm_file_read(const tvlm_file *file, uint64_t offset, void *out, size_t n,
                           tvlm_error *err);
void tvlm_file_close(tvlm_file *file); /* after a failed open too */

/* ---- a file that is whole or not there: written beside its name, read again, then renamed ---- */
typedef struct tvlm_writer {
    tvlm_os_file os;
    const char *path; /* the caller's */
    char *temporary;  /* beside it */
    uint64_t size;    /* so far */
    uint32_t crc;
} tvlm_writer;
tvlm_status tvlm_writer_open(const char *path, tvlm_writer *out, tvlm_error *err);
tvlm_status tvlm_writer_put(tvlm_writer *writer, const void *data, size_t n, tvlm_error *err);
/* On failure nothing is left of the file, and what had its name is untouched. */
tvlm_status tvlm_writer_commit(tvlm_writer *writer, tvlm_error *err);
void tvlm_writer_close(tvlm_writer *writer); /* after a failed open, and after commit, too */

/* ---- identity of contents: 128 bits, the same on every machine ---- */
typedef struct tvlm_hash {
    uint64_t a, b;
} tvlm_hash;
/* Of n bytes that follow those of h (at first zeros). It is no defence against forgery. */
tvlm_hash tvlm_hash_bytes(tvlm_hash h, const void *data, size_t n);
static inline bool tvlm_hash_same(tvlm_hash x, tvlm_hash y)
{
    return x.a == y.a && x.b == y.b;
}

/* CRC-32C (Castagnoli, reflected, RFC 3720 B.4); crc is 0 at the start, chainable. */
uint32_t tvlm_crc32c(uint32_t crc, const void *data, size_t size);
typedef uint32_t (*tvlm_crc32c_fn)(uint32_t crc, const void *data, size_t size);
/* The CRC of a text from a, that of its beginning, and b, that of its last size bytes. */
uint32_t tvlm_crc32c_join(uint32_t a, uint32_t b, uint64_t size);

#endif
