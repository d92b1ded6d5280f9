/* SPDX-License-Identifier: MIT
 * classes.h — what a code point is, as one byte of flags, for the pre-tokenizers and for NFC.
 * Source:  utf8proc's tables (Unicode 15.0) and classes_new.h (to 16).  Built once a process, about
 *          6 ms.   Thread: any.
 * White space is the property White_Space, which is what \s means to the regular expressions that
 * the models' tokenizers were trained with. */
#ifndef KVASIR_TOKENIZER_CLASSES_H
#define KVASIR_TOKENIZER_CLASSES_H

#include "text/utf8.h"

#define CLASS_CODE_POINTS 0x110000u

enum class_flag {
    CLASS_LETTER = 1,       /* L* */
    CLASS_UPPER = 2,        /* Lu, Lt; LETTER is set too */
    CLASS_LOWER = 4,        /* Ll; LETTER is set too */
    CLASS_MARK = 8,         /* M* */
    CLASS_NUMBER = 16,      /* N* */
    CLASS_PUNCT_SYMBOL = 32,/* P*, S* */
    CLASS_SPACE = 64,       /* White_Space */
    CLASS_COMPOSES = 128,   /* NFC may change it, or join it with what stands before it */
};

/* Flags of every code point, [CLASS_CODE_POINTS]. */
const uint8_t *class_table(void);

/* One code point at p < end; returns its bytes.  Malformed input is U+FFFD over the maximal
 * ill-formed prefix, as utf8_decode() has it. */
static inline size_t class_decode(const char *p, const char *end, uint32_t *cp)
{
    const uint8_t *b = (const uint8_t *)p;
    if (b[0] < 0x80) {
        *cp = b[0];
        return 1;
    }
    if (b[0] >= 0xC2 && b[0] <= 0xDF && end - p >= 2 && (b[1] & 0xC0) == 0x80) {
        *cp = (b[0] & 0x1Fu) << 6 | (b[1] & 0x3Fu);
        return 2;
    }
    if (b[0] >= 0xE1 && b[0] <= 0xEF && b[0] != 0xED && end - p >= 3 && (b[1] & 0xC0) == 0x80 &&
        (b[2] & 0xC0) == 0x80) {
        *cp = (b[0] & 0x0Fu) << 12 | (b[1] & 0x3Fu) << 6 | (b[2] & 0x3Fu);
        return 3;
    }
    return utf8_decode(p, (size_t)(end - p), cp);
}

#endif
