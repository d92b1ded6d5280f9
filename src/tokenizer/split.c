/* SPDX-License-Identifier: MIT
 * split.c — one scanner per pre-tokenizer.  The expressions, as Oniguruma runs them for Hugging Face
 * (\s = White_Space, leftmost, first alternative that matches, greedy):
 *
 * gpt-2        's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 * smollm       each \p{N} apart, then gpt-2 in what lies between
 * llama-bpe    (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}
 *              | ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
 * qwen2        as llama-bpe with \p{N} for \p{N}{1,3}
 * gpt-4o       [^\r\n\p{L}\p{N}]?A*B+(?i:'s|…)?|[^\r\n\p{L}\p{N}]?A+B*(?i:'s|…)?|\p{N}{1,3}
 *              | ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
 *              with A = [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}], B = [\p{Ll}\p{Lm}\p{Lo}\p{M}]
 * deepseek-v3  \p{N}{1,3} apart, then [一-龥぀-ゟ゠-ヿ]+ apart, then in what lies between and inside
 *              [ASCII punctuation][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+
 *              | ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+   (unmatched text is a word too)
 *
 * "Apart" makes the edge of such a piece the end of text for the next expression; that only shows in
 * the look-ahead of \s+(?!\S), so the scanners need no pieces, just the right test after a run of
 * blanks.  Every scan is linear: a run is walked at most a fixed number of times per word, and a word
 * that is shorter than the run leaves at most one blank of it, or its part after the last newline. */
#include "tokenizer/split.h"

#include "tokenizer/classes.h"

struct scan {
    const char *text, *end;
    const uint8_t *classes;
};

struct char_at {
    uint32_t cp;
    uint8_t flags;
    uint8_t bytes; /* 0 at the end of text */
};

static inline struct char_at peek(const struct scan *s, const char *p)
{
    struct char_at c = {0, 0, 0};
    if (p < s->end) {
        c.bytes = (uint8_t)class_decode(p, s->end, &c.cp);
        c.flags = s->classes[c.cp];
    }
    return c;
}

static inline bool is_newline(uint32_t cp)
{
    return cp == '\n' || cp == '\r';
}

/* Past the run of characters that have one of these flags. */
static inline const char *run_of(const struct scan *s, const char *p, unsigned flags)
{
    struct char_at c;
    while ((c = peek(s, p)).flags & flags)
        p += c.bytes;
    return p;
}

/* Past the run of characters that have none of these flags. */
static inline const char *run_without(const struct scan *s, const char *p, unsigned flags)
{
    for (;;) {
        struct char_at c = peek(s, p);
        if (c.bytes == 0 || (c.flags & flags))
            return p;
        p += c.bytes;
    }
}

static inline const char *run_of_bytes(const struct scan *s, const char *p, const char *set)
{
    while (p < s->end && *p != '\0' && strchr(set, *p))
        p++;
    return p;
}

/* (?i) folds U+017F, the long s, to s: Oniguruma follows Unicode there. */
static size_t contraction_letter(const char *p, const char *end, char want)
{
    if (p < end && (*p | 0x20) == want)
        return 1;
    if (want == 's' && end - p >= 2 && (uint8_t)p[0] == 0xC5 && (uint8_t)p[1] == 0xBF)
        return 2;
    return 0;
}

/* Past 's 't 're 've 'm 'll 'd at p, or p when none is there. */
static const char *contraction(const struct scan *s, const char *p, bool any_case)
{
    static const char suffixes[7][3] = {"s", "t", "re", "ve", "m", "ll", "d"};
    if (p >= s->end || *p != '\'')
        return p;
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        const char *q = p + 1;
        const char *want = suffixes[i];
        for (; *want; want++) {
            size_t n = any_case ? contraction_letter(q, s->end, *want)
                                : (size_t)(q < s->end && *q == *want);
            if (n == 0)
                break;
            q += n;
        }
        if (!*want)
            return q;
    }
    return p;
}

/* A run of white space at p (not empty): \s*[\r\n]+|\s+(?!\S)|\s+ when with_newlines, else the last
 * two.  edge: flags whose characters count as the end of text (their piece was taken apart). */
static const char *blanks(const struct scan *s, const char *p, bool with_newlines, unsigned edge,
                          bool (*edge_at)(uint32_t cp))
{
    const char *q = p, *last = p, *after_newline = NULL;
    struct char_at c;
    while ((c = peek(s, q)).flags & CLASS_SPACE) {
        last = q;
        q += c.bytes;
        if (is_newline(c.cp))
            after_newline = q;
    }
    if (with_newlines && after_newline)
        return after_newline;
    bool at_end = c.bytes == 0 || (c.flags & edge) || (edge_at && edge_at(c.cp));
    return at_end || last == p ? q : last;
}

static const char *next_gpt2(const struct scan *s, const char *p, bool digits_apart)
{
    struct char_at c = peek(s, p);
    if (digits_apart && (c.flags & CLASS_NUMBER))
        return p + c.bytes;
    const char *q = contraction(s, p, false);
    if (q != p)
        return q;
    const char *body = p;
    if (c.cp == ' ') {
        body = p + 1;
        c = peek(s, body);
    }
    if (c.flags & CLASS_LETTER)
        return run_of(s, body, CLASS_LETTER);
    if ((c.flags & CLASS_NUMBER) && !digits_apart)
        return run_of(s, body, CLASS_NUMBER);
    if (c.bytes && !(c.flags & (CLASS_SPACE | CLASS_LETTER | CLASS_NUMBER)))
        return run_without(s, body, CLASS_SPACE | CLASS_LETTER | CLASS_NUMBER);
    return blanks(s, p, false, digits_apart ? CLASS_NUMBER : 0, NULL);
}

/* What llama-bpe, qwen2 and gpt-4o share: numbers, other characters, blanks. */
static const char *next_common(const struct scan *s, const char *p, struct char_at c,
                               unsigned digits_max, const char *tail)
{
    if (c.flags & CLASS_NUMBER) {
        unsigned n = 0;
        while (n < digits_max && ((c = peek(s, p)).flags & CLASS_NUMBER)) {
            p += c.bytes;
            n++;
        }
        return p;
    }
    const char *body = p;
    if (c.cp == ' ') {
        body = p + 1;
        c = peek(s, body);
    }
    if (c.bytes && !(c.flags & (CLASS_SPACE | CLASS_LETTER | CLASS_NUMBER))) {
        body = run_without(s, body, CLASS_SPACE | CLASS_LETTER | CLASS_NUMBER);
        return run_of_bytes(s, body, tail);
    }
    return blanks(s, p, true, 0, NULL);
}

static const char *next_llama3(const struct scan *s, const char *p, unsigned digits_max)
{
    struct char_at c = peek(s, p);
    const char *q = contraction(s, p, true);
    if (q != p)
        return q;
    if (c.flags & CLASS_LETTER)
        return run_of(s, p, CLASS_LETTER);
    if (!is_newline(c.cp) && !(c.flags & CLASS_NUMBER) &&
        (peek(s, p + c.bytes).flags & CLASS_LETTER))
        return run_of(s, p + c.bytes, CLASS_LETTER);
    return next_common(s, p, c, digits_max, "\r\n");
}

static inline bool in_a(uint8_t flags)
{
    return (flags & CLASS_MARK) || ((flags & CLASS_LETTER) && !(flags & CLASS_LOWER));
}

static inline bool in_b(uint8_t flags)
{
    return (flags & CLASS_MARK) || ((flags & CLASS_LETTER) && !(flags & CLASS_UPPER));
}

/* A*B+ at p, or NULL.  A* takes its whole run; when no B follows it gives back as little as lets
 * B+ match one character: the last of the run that is in both classes. */
static const char *upper_lower(const struct scan *s, const char *p)
{
    const char *q = p, *after_both = NULL;
    struct char_at c;
    while (in_a((c = peek(s, q)).flags)) {
        q += c.bytes;
        if (in_b(c.flags))
            after_both = q;
    }
    if (!in_b(c.flags))
        return after_both;
    while (in_b((c = peek(s, q)).flags))
        q += c.bytes;
    return q;
}

/* A+B* at p, or NULL; only asked after A*B+ failed, so no B follows the run of A. */
static const char *upper_only(const struct scan *s, const char *p)
{
    const char *q = p;
    struct char_at c;
    while (in_a((c = peek(s, q)).flags))
        q += c.bytes;
    return q == p ? NULL : q;
}

static const char *next_o200k(const struct scan *s, const char *p)
{
    struct char_at c = peek(s, p);
    bool has_prefix = !is_newline(c.cp) && !(c.flags & (CLASS_LETTER | CLASS_NUMBER));
    const char *q = has_prefix ? upper_lower(s, p + c.bytes) : NULL;
    if (!q)
        q = upper_lower(s, p);
    if (!q && has_prefix)
        q = upper_only(s, p + c.bytes);
    if (!q)
        q = upper_only(s, p);
    if (q)
        return contraction(s, q, true);
    return next_common(s, p, c, 3, "\r\n/");
}

static bool is_deepseek_cjk(uint32_t cp)
{
    return (cp >= 0x4E00 && cp <= 0x9FA5) || (cp >= 0x3040 && cp <= 0x30FF);
}

static bool is_ascii_letter(uint32_t cp)
{
    return (cp | 0x20) >= 'a' && (cp | 0x20) <= 'z';
}

/* Past the run of characters with one of these flags on the same side of the CJK edge. */
static const char *run_beside(const struct scan *s, const char *p, unsigned flags, bool cjk)
{
    struct char_at c;
    while (((c = peek(s, p)).flags & flags) && is_deepseek_cjk(c.cp) == cjk)
        p += c.bytes;
    return p;
}

/* Characters that no alternative takes, up to where one does: a letter or mark that follows takes
 * the last of them along as its prefix. */
static const char *deepseek_gap(const struct scan *s, const char *p, bool cjk)
{
    const unsigned taken = CLASS_LETTER | CLASS_MARK | CLASS_NUMBER | CLASS_PUNCT_SYMBOL | CLASS_SPACE;
    const char *q = p, *last = p;
    struct char_at c;
    while ((c = peek(s, q)).bytes && !(c.flags & taken) && is_deepseek_cjk(c.cp) == cjk) {
        last = q;
        q += c.bytes;
    }
    bool is_prefix = (c.flags & (CLASS_LETTER | CLASS_MARK)) && is_deepseek_cjk(c.cp) == cjk;
    return is_prefix && last > p ? last : q;
}

static const char *next_deepseek3(const struct scan *s, const char *p)
{
    const unsigned word = CLASS_LETTER | CLASS_MARK;
    struct char_at c = peek(s, p);
    if (c.flags & CLASS_NUMBER) {
        for (unsigned n = 0; n < 3 && ((c = peek(s, p)).flags & CLASS_NUMBER); n++)
            p += c.bytes;
        return p;
    }
    bool cjk = is_deepseek_cjk(c.cp);
    const char *after = p + c.bytes;
    struct char_at next = peek(s, after);
    bool next_is_beside = next.bytes && is_deepseek_cjk(next.cp) == cjk;
    if (c.cp < 0x80 && (c.flags & CLASS_PUNCT_SYMBOL) && is_ascii_letter(next.cp)) {
        while (after < s->end && is_ascii_letter((uint8_t)*after))
            after++;
        return after;
    }
    if (c.flags & word)
        return run_beside(s, p, word, cjk);
    if (!is_newline(c.cp) && !(c.flags & CLASS_PUNCT_SYMBOL) && next_is_beside &&
        (next.flags & word))
        return run_beside(s, after, word, cjk);
    const char *body = c.cp == ' ' ? after : p;
    const char *q = run_beside(s, body, CLASS_PUNCT_SYMBOL, cjk);
    if (q != body)
        return cjk ? q : run_of_bytes(s, q, "\r\n");
    if (c.flags & CLASS_SPACE)
        return blanks(s, p, true, CLASS_NUMBER, is_deepseek_cjk);
    return deepseek_gap(s, p, cjk);
}

size_t split_next(enum split_kind kind, const uint8_t *classes, struct slice text, size_t at)
{
    const struct scan s = {text.ptr, text.ptr + text.len, classes};
    const char *p = text.ptr + at, *q = p;
    switch (kind) {
    case SPLIT_GPT2:
        q = next_gpt2(&s, p, false);
        break;
    case SPLIT_SMOLLM:
        q = next_gpt2(&s, p, true);
        break;
    case SPLIT_LLAMA3:
        q = next_llama3(&s, p, 3);
        break;
    case SPLIT_QWEN2:
        q = next_llama3(&s, p, 1);
        break;
    case SPLIT_DEEPSEEK3:
        q = next_deepseek3(&s, p);
        break;
    case SPLIT_O200K:
        q = next_o200k(&s, p);
        break;
    }
    return (size_t)(q - text.ptr);
}

/* Names of tokenizer.ggml.pre whose split and normalization are the same.  "default" is not among
 * them: for llama.cpp it is yet another expression, and a file that says so was converted without
 * knowing its tokenizer. */
static const struct {
    const char *pre;
    enum split_kind kind;
} names[] = {
    {"gpt-2", SPLIT_GPT2},         {"phi-2", SPLIT_GPT2},
    {"smollm", SPLIT_SMOLLM},      {"starcoder", SPLIT_SMOLLM},
    {"refact", SPLIT_SMOLLM},      {"llama-bpe", SPLIT_LLAMA3},
    {"llama3", SPLIT_LLAMA3},      {"llama-v3", SPLIT_LLAMA3},
    {"qwen2", SPLIT_QWEN2},        {"deepseek-r1-qwen", SPLIT_QWEN2},
    {"deepseek-v3", SPLIT_DEEPSEEK3}, {"gpt-4o", SPLIT_O200K},
    {"llama4", SPLIT_O200K},
};

bool split_named(struct slice pre, enum split_kind *kind)
{
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (slice_is(pre, names[i].pre)) {
            *kind = names[i].kind;
            return true;
        }
    return false;
}

const char *split_name(enum split_kind kind)
{
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (names[i].kind == kind)
            return names[i].pre;
    return "";
}
