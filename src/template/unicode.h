/* SPDX-License-Identifier: MIT
 * unicode.h — what Python's str knows of characters: classes by utf8proc, full case mappings by a
 * table.  Text is bytes; a malformed byte counts as one character and is kept as it is. */
#ifndef KVASIR_TEMPLATE_UNICODE_H
#define KVASIR_TEMPLATE_UNICODE_H

#include "base/buf.h"
#include "text/utf8.h"

enum {
    UNI_ALPHA = 1,
    UNI_DECIMAL = 2,
    UNI_DIGIT = 4,
    UNI_NUMERIC = 8,
    UNI_SPACE = 16,
    UNI_LOWER = 32,
    UNI_UPPER = 64,
    UNI_TITLE = 128,
    UNI_PRINTABLE = 256
};
#define UNI_CASED (UNI_LOWER | UNI_UPPER | UNI_TITLE)
#define UNI_ALNUM (UNI_ALPHA | UNI_DECIMAL | UNI_DIGIT | UNI_NUMERIC)

uint32_t unicode_class(uint32_t cp);
bool unicode_is_space(uint32_t cp);

enum unicode_case { CASE_LOWER, CASE_UPPER, CASE_TITLE, CASE_FOLD };

/* Text walked by characters.  *bad: the bytes at *at are malformed. */
uint32_t unicode_next(struct slice s, size_t *at, bool *bad);
size_t unicode_count(struct slice s);                /* code points */
size_t unicode_offset(struct slice s, size_t index); /* byte of code point index, ≤ s.len */
/* Mapped text appended to out. */
void unicode_map(struct buf *out, struct slice s, enum unicode_case to);
void unicode_capitalize(struct buf *out, struct slice s); /* first title, rest lower */
void unicode_title(struct buf *out, struct slice s);      /* str.title() */
void unicode_swapcase(struct buf *out, struct slice s);

struct slice unicode_strip(struct slice s, bool left, bool right);
/* Characters that occur in set. */
struct slice unicode_strip_set(struct slice s, struct slice set, bool left, bool right);

#endif
