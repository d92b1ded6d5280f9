/* SPDX-License-Identifier: MIT
 * classes.c — fills the table of classes.h from utf8proc. */
#include "tokenizer/classes.h"
#include "tokenizer/classes_new.h"

#include "base/check.h"

#include <pthread.h>
#include <utf8proc.h>

static uint8_t table[CLASS_CODE_POINTS];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static bool is_white_space(uint32_t cp)
{
    return (cp >= 0x09 && cp <= 0x0D) || cp == 0x20 || cp == 0x85 || cp == 0xA0 || cp == 0x1680 ||
           (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 || cp == 0x202F ||
           cp == 0x205F || cp == 0x3000;
}

static uint8_t category_flags(utf8proc_category_t category)
{
    switch (category) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT:
        return CLASS_LETTER | CLASS_UPPER;
    case UTF8PROC_CATEGORY_LL:
        return CLASS_LETTER | CLASS_LOWER;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return CLASS_LETTER;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
        return CLASS_MARK;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return CLASS_NUMBER;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO:
        return CLASS_PUNCT_SYMBOL;
    default:
        return 0;
    }
}

/* True unless cp is a starter that NFC leaves alone and never joins to what stands before it
 * (UAX #15: NFC_Quick_Check = Yes and combining class 0). */
static bool composes(uint32_t cp, const utf8proc_property_t *p)
{
    bool is_second_of_pair = p->comb_index != UINT16_MAX && p->comb_index >= 0x8000;
    bool is_jamo_vowel_or_tail =
        (cp >= 0x1161 && cp <= 0x1175) || (cp >= 0x11A8 && cp <= 0x11C2);
    if (p->combining_class != 0 || is_second_of_pair || is_jamo_vowel_or_tail)
        return true;
    if (p->decomp_seqindex == UINT16_MAX || p->decomp_type != 0)
        return false; /* no canonical decomposition */
    utf8proc_int32_t parts[16];
    int boundary = 0;
    utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)cp, parts, 16,
                                                 UTF8PROC_DECOMPOSE, &boundary);
    if (n < 1 || n > 16)
        return true;
    n = utf8proc_normalize_utf32(parts, n, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    return n != 1 || parts[0] != (utf8proc_int32_t)cp;
}

static void fill_table(void)
{
    for (uint32_t cp = 0; cp < CLASS_CODE_POINTS; cp++) {
        const utf8proc_property_t *p = utf8proc_get_property((utf8proc_int32_t)cp);
        unsigned flags = category_flags((utf8proc_category_t)p->category);
        if (is_white_space(cp))
            flags |= CLASS_SPACE;
        if (cp >= 0xA0 && composes(cp, p))
            flags |= CLASS_COMPOSES;
        table[cp] = (uint8_t)flags;
    }
    for (size_t i = 0; i < ARRAY_COUNT(new_classes); i++)
        for (uint32_t cp = new_classes[i].first; cp <= new_classes[i].last; cp++)
            if (utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_CN)
                table[cp] = new_classes[i].flags;
}

const uint8_t *class_table(void)
{
    pthread_once(&table_once, fill_table);
    return table;
}
