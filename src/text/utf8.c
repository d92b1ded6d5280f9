/* SPDX-License-Identifier: MIT
 * utf8.c — a decoder by ranges of the second byte (Unicode 15, table 3-7). */
#include "text/utf8.h"

#include <string.h>

#define REPLACEMENT 0xFFFDu

/* Length and the allowed range of the second byte for a lead byte; length 0: not a lead byte. */
struct lead {
    uint8_t length, low, high;
};

static struct lead lead_of(uint8_t b)
{
    if (b < 0x80)
        return (struct lead){1, 0, 0};
    if (b >= 0xC2 && b <= 0xDF)
        return (struct lead){2, 0x80, 0xBF};
    if (b == 0xE0)
        return (struct lead){3, 0xA0, 0xBF};
    if (b == 0xED)
        return (struct lead){3, 0x80, 0x9F};
    if (b >= 0xE1 && b <= 0xEF)
        return (struct lead){3, 0x80, 0xBF};
    if (b == 0xF0)
        return (struct lead){4, 0x90, 0xBF};
    if (b >= 0xF1 && b <= 0xF3)
        return (struct lead){4, 0x80, 0xBF};
    if (b == 0xF4)
        return (struct lead){4, 0x80, 0x8F};
    return (struct lead){0, 0, 0};
}

/* Bytes of the longest well-formed prefix of one character at p: lead.length when it is whole. */
static size_t well_formed(const uint8_t *p, size_t len, struct lead lead)
{
    size_t n = 1;
    while (n < lead.length && n < len) {
        uint8_t low = n == 1 ? lead.low : 0x80, high = n == 1 ? lead.high : 0xBF;
        if (p[n] < low || p[n] > high)
            break;
        n++;
    }
    return n;
}

size_t utf8_decode(const char *text, size_t len, uint32_t *cp)
{
    const uint8_t *p = (const uint8_t *)text;
    struct lead lead = lead_of(p[0]);
    if (lead.length == 1) {
        *cp = p[0];
        return 1;
    }
    *cp = REPLACEMENT;
    if (lead.length == 0)
        return 1;
    size_t n = well_formed(p, len, lead);
    if (n < lead.length)
        return n;
    uint32_t v = p[0] & (0x7Fu >> lead.length);
    for (size_t i = 1; i < n; i++)
        v = v << 6 | (p[i] & 0x3Fu);
    *cp = v;
    return n;
}

size_t utf8_encode(uint32_t cp, char out[4])
{
    if (cp > 0x10FFFF || (cp >= 0xD800 && cp <= 0xDFFF))
        cp = REPLACEMENT;
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xC0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xE0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3F));
        out[2] = (char)(0x80 | (cp & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3F));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3F));
    out[3] = (char)(0x80 | (cp & 0x3F));
    return 4;
}

size_t utf8_valid_prefix(const char *text, size_t len)
{
    const uint8_t *p = (const uint8_t *)text;
    size_t at = 0;
    while (at < len) {
        uint64_t eight;
        if (len - at >= sizeof eight) { /* most text is ASCII */
            memcpy(&eight, p + at, sizeof eight);
            if ((eight & 0x8080808080808080ull) == 0) {
                at += sizeof eight;
                continue;
            }
        }
        struct lead lead = lead_of(p[at]);
        if (lead.length == 0 || well_formed(p + at, len - at, lead) < lead.length)
            return at;
        at += lead.length;
    }
    return len;
}

size_t utf8_incomplete_tail(const char *text, size_t len)
{
    const uint8_t *p = (const uint8_t *)text;
    for (size_t back = 1; back <= 3 && back <= len; back++) {
        struct lead lead = lead_of(p[len - back]);
        if (lead.length == 0)
            continue; /* a continuation byte, or no part of any character */
        if (lead.length > back && well_formed(p + len - back, back, lead) == back)
            return back;
        return 0;
    }
    return 0;
}
