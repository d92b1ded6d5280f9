/* SPDX-License-Identifier: MIT
 * utf8.h — UTF-8 by the rules of RFC 3629: no overlong forms, no surrogates, ≤ U+10FFFF. */
#ifndef KVASIR_TEXT_UTF8_H
#define KVASIR_TEXT_UTF8_H

#include "base/slice.h"
#include "base/status.h"

/* Decodes one code point at p[0..len); returns bytes used (1..4).  Malformed: *cp = U+FFFD and the
 * length of the maximal ill-formed prefix (≥ 1; Unicode 15 §3.9, "substitution of maximal
 * subparts").  len > 0. */
size_t utf8_decode(const char *p, size_t len, uint32_t *cp);
size_t utf8_encode(uint32_t cp, char out[4]); /* bytes written; an invalid cp writes U+FFFD */
/* Position of the first malformed byte, or len when all is well. */
size_t utf8_valid_prefix(const char *p, size_t len);
/* How many trailing bytes are the start of a character that may still be completed (0..3). */
size_t utf8_incomplete_tail(const char *p, size_t len);

#endif
