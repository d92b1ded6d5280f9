/* SPDX-License-Identifier: MIT
 * borders.c — see borders.h.  A border lies before each byte that does not continue a UTF-8 character,
 * so that tokens and texts that are not UTF-8 follow the same rule. */
#include "tokenizer/borders.h"

#include "base/mem.h"

bool borders_init(struct borders *b)
{
    memset(b->joined, 0, sizeof b->joined);
    b->shapes = mem_try_new(65536, sizeof *b->shapes);
    b->seen = mem_try_new((1u << BORDERS_SEEN_BITS) / 64, sizeof *b->seen);
    return b->shapes && b->seen;
}

void borders_release(struct borders *b)
{
    mem_free(b->shapes);
    mem_free(b->seen);
    b->shapes = NULL;
    b->seen = NULL;
}

static inline bool is_border(uint8_t byte)
{
    return (byte & 0xC0) != 0x80;
}

/* p: the border; the bytes on both sides in one number, shorter sides with zeros, plus the lengths. */
static inline uint32_t seen_at(const uint8_t *p, uint32_t left, uint32_t right)
{
    uint64_t key = left * 4 + right;
    for (uint32_t i = 1; i <= left; i++)
        key = key << 8 | p[-(ptrdiff_t)i];
    for (uint32_t i = 0; i < right; i++)
        key = key << 8 | p[i];
    return (uint32_t)(key * 0x9E3779B97F4A7C15ull >> (64 - BORDERS_SEEN_BITS));
}

void borders_open(struct borders *b, struct slice token)
{
    const uint8_t *p = (const uint8_t *)token.ptr;
    for (size_t i = 1; i < token.len; i++) {
        if (!is_border(p[i]))
            continue;
        uint32_t two = (uint32_t)p[i - 1] * 256 + p[i];
        b->joined[two / 64] |= 1ull << (two % 64);
        if ((p[i - 1] | p[i]) < 0x80)
            continue;
        size_t rest = token.len - i;
        uint32_t left = i < BORDERS_CONTEXT_MAX ? (uint32_t)i : BORDERS_CONTEXT_MAX;
        uint32_t right = rest < BORDERS_CONTEXT_MAX ? (uint32_t)rest : BORDERS_CONTEXT_MAX;
        uint32_t at = seen_at(p + i, left, right);
        b->shapes[two] = (uint16_t)(b->shapes[two] | 1u << (3 * (left - 1) + right - 1));
        b->seen[at / 64] |= 1ull << (at % 64);
    }
}

/* May a token span the border at text[i], whose two bytes are known to meet in some token and are
 * not both ASCII? */
static bool is_spanned(const struct borders *b, struct slice text, size_t i, uint32_t two)
{
    const uint8_t *p = (const uint8_t *)text.ptr + i;
    for (unsigned shapes = b->shapes[two]; shapes; shapes &= shapes - 1) {
        uint32_t shape = (uint32_t)__builtin_ctz(shapes);
        uint32_t left = shape / 3 + 1, right = shape % 3 + 1;
        if (left > i || right > text.len - i)
            continue;
        uint32_t at = seen_at(p, left, right);
        if (b->seen[at / 64] >> (at % 64) & 1)
            return true;
    }
    return false;
}

size_t borders_next(const struct borders *b, struct slice text, size_t at)
{
    const uint8_t *p = (const uint8_t *)text.ptr;
    for (size_t i = at + 1; i < text.len; i++) {
        if (!is_border(p[i]))
            continue;
        uint32_t two = (uint32_t)p[i - 1] * 256 + p[i];
        if (!(b->joined[two / 64] >> (two % 64) & 1))
            return i;
        if ((p[i - 1] | p[i]) >= 0x80 && !is_spanned(b, text, i, two))
            return i;
    }
    return text.len;
}
