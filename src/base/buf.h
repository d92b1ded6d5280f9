/* SPDX-License-Identifier: MIT
 * buf.h — a growing byte buffer with a ceiling named at birth.
 * Failure is sticky: after out-of-memory or the ceiling, appends do nothing and `failed` is true,
 * so a writer checks once at the end.  Content is always followed by a NUL that `len` leaves out. */
#ifndef KVASIR_BASE_BUF_H
#define KVASIR_BASE_BUF_H

#include "base/slice.h"
#include "base/status.h"

struct buf {
    char *ptr;
    size_t len;
    size_t cap;
    size_t max_bytes;
    bool failed;
};

void buf_init(struct buf *b, size_t max_bytes);
void buf_release(struct buf *b);
void buf_clear(struct buf *b);                       /* len = 0, not failed; memory is kept */
void buf_add(struct buf *b, const void *bytes, size_t len);
void buf_add_text(struct buf *b, const char *text);
void buf_add_slice(struct buf *b, struct slice s);
void buf_add_char(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Room for len more bytes at ptr + len, NULL when failed; the caller adds to len what it wrote. */
NODISCARD char *buf_reserve(struct buf *b, size_t len);
/* Drop the first n bytes. */
void buf_consume(struct buf *b, size_t n);
NODISCARD char *buf_take(struct buf *b, size_t *len); /* now yours (mem_free); b is empty again */

static inline struct slice buf_slice(const struct buf *b)
{
    return (struct slice){b->ptr ? b->ptr : "", b->len};
}

#endif
