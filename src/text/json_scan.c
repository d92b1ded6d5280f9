/* SPDX-License-Identifier: MIT
 * json_scan.c — one pass over the bytes, no recursion.  json.c checks the grammar; this checks the
 * tokens (strings, numbers, words) and the ceilings, and counts. */
#include "base/mem.h"
#include "text/json_int.h"
#include "text/utf8.h"

#define COUNTS_FIRST 64u

bool json_is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static size_t skip_digits(struct slice t, size_t at)
{
    while (at < t.len && is_digit(t.ptr[at]))
        at++;
    return at;
}

/* End of the number at `at` by RFC 8259 §6, or `at` when there is none. */
static size_t number_end(struct slice t, size_t at)
{
    size_t p = at, digits;
    if (p < t.len && t.ptr[p] == '-')
        p++;
    digits = p;
    p = skip_digits(t, p);
    if (p == digits || (t.ptr[digits] == '0' && p - digits > 1))
        return at;
    if (p < t.len && t.ptr[p] == '.') {
        digits = ++p;
        p = skip_digits(t, p);
        if (p == digits)
            return at;
    }
    if (p < t.len && (t.ptr[p] == 'e' || t.ptr[p] == 'E')) {
        p++;
        if (p < t.len && (t.ptr[p] == '+' || t.ptr[p] == '-'))
            p++;
        digits = p;
        p = skip_digits(t, p);
        if (p == digits)
            return at;
    }
    return p;
}

/* Bytes before the first that means something in a string: a quote, a backslash, a control
 * character.  Eight at a time: (w − 01…) & ~w & 80… marks zero bytes, and bytes below 20 hex when
 * that is what is taken away; a mark above a true one may be false, so the byte loop decides. */
static size_t plain_bytes(const char *p, size_t len)
{
    const uint64_t ones = 0x0101010101010101u, highs = ones << 7;
    size_t n = 0;
    for (uint64_t w; len - n >= sizeof w; n += sizeof w) {
        memcpy(&w, p + n, sizeof w);
        uint64_t quote = w ^ (ones * '"'), slash = w ^ (ones * '\\');
        if ((((quote - ones) & ~quote) | ((slash - ones) & ~slash) | ((w - ones * 0x20) & ~w)) &
            highs)
            break;
    }
    while (n < len && p[n] != '"' && p[n] != '\\' && (unsigned char)p[n] >= 0x20)
        n++;
    return n;
}

/* *at is on the opening quote and moves behind the closing one. */
static enum status scan_string(struct slice t, size_t *at, struct err *e)
{
    size_t p = *at + 1;
    bool has_nul = false;
    for (;;) {
        if (p < t.len) /* a backslash at the very end steps over it */
            p += plain_bytes(t.ptr + p, t.len - p);
        if (p >= t.len || t.ptr[p] == '"')
            break;
        if ((unsigned char)t.ptr[p] < 0x20)
            return err_at(e, E_SYNTAX, p, "JSON: control character in a string at byte %zu", p);
        if (t.ptr[p] == '\\') {
            has_nul |= t.len - p >= 6 && memcmp(t.ptr + p, "\\u0000", 6) == 0;
            p++;
        }
        p++;
    }
    if (p >= t.len)
        return err_at(e, E_SYNTAX, *at, "JSON: string without end from byte %zu", *at);
    p++;
    size_t after = p;
    while (after < t.len && json_is_space(t.ptr[after]))
        after++;
    /* Keys are C strings to some who read them. */
    if (has_nul && after < t.len && t.ptr[after] == ':')
        return err_at(e, E_SYNTAX, *at, "JSON: NUL in the key at byte %zu", *at);
    *at = p;
    return OK;
}

static enum status scan_word(struct slice t, size_t *at, struct err *e)
{
    static const char *const words[] = {"true", "false", "null"};
    struct slice rest = {t.ptr + *at, t.len - *at};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (slice_starts(rest, slice_of(words[i]))) {
            *at += strlen(words[i]);
            return OK;
        }
    }
    size_t end = number_end(t, *at);
    if (end == *at)
        return err_at(e, E_SYNTAX, *at, "JSON: unexpected character at byte %zu", *at);
    *at = end;
    return OK;
}

static enum status check_ceilings(const struct json_scan *s, size_t depth, size_t at, struct err *e)
{
    if (depth > JSON_DEPTH_MAX)
        return err_at(e, E_LIMIT, at, "JSON: nested deeper than %d at byte %zu", JSON_DEPTH_MAX,
                      at);
    if (s->containers > JSON_CONTAINERS_MAX)
        return err_at(e, E_LIMIT, at, "JSON: more than %u arrays and objects", JSON_CONTAINERS_MAX);
    if (s->values > JSON_VALUES_MAX)
        return err_at(e, E_LIMIT, at, "JSON: more than %u values", JSON_VALUES_MAX);
    return OK;
}

/* Which containers are open, and how many items they have so far. */
struct counting {
    struct json_scan *scan;
    size_t cap, depth;
    uint32_t open[JSON_DEPTH_MAX + 1];
};

/* An item begins in the innermost container, unless one is counted already: commas count the rest.
 */
static void count_first(struct counting *c)
{
    if (c->depth > 0 && c->scan->counts[c->open[c->depth - 1]] == 0)
        c->scan->counts[c->open[c->depth - 1]] = 1;
}

static void count_comma(struct counting *c)
{
    if (c->depth > 0)
        c->scan->counts[c->open[c->depth - 1]]++;
}

static enum status open_container(struct counting *c, struct err *e)
{
    struct json_scan *s = c->scan;
    count_first(c);
    if (s->containers == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : COUNTS_FIRST;
        uint32_t *counts = mem_try_resize(s->counts, cap, sizeof *counts);
        if (!counts)
            return err_set(e, E_NOMEM, "JSON: out of memory");
        s->counts = counts;
        c->cap = cap;
    }
    s->counts[s->containers] = 0;
    if (c->depth <= JSON_DEPTH_MAX)
        c->open[c->depth] = (uint32_t)s->containers;
    c->depth++;
    s->containers++;
    s->values++;
    return OK;
}

static enum status scan_token(struct slice t, size_t *at, struct counting *c, struct err *e)
{
    char byte = t.ptr[*at];
    switch (byte) {
    case ' ':
    case '\t':
    case '\n':
    case '\r':
    case ':':
        ++*at;
        return OK;
    case ',':
        count_comma(c);
        ++*at;
        return OK;
    case '[':
    case '{':
        ++*at;
        return open_container(c, e);
    case ']':
    case '}':
        if (c->depth == 0)
            return err_at(e, E_SYNTAX, *at, "JSON: unexpected '%c' at byte %zu", byte, *at);
        c->depth--;
        ++*at;
        return OK;
    default:
        count_first(c);
        c->scan->values++;
        return byte == '"' ? scan_string(t, at, e) : scan_word(t, at, e);
    }
}

enum status json_scan(struct slice t, struct json_scan *out, struct err *e)
{
    struct json_scan s = {0};
    struct counting c = {.scan = &s};
    enum status st = OK;
    if (t.len > JSON_BYTES_MAX)
        return err_at(e, E_LIMIT, 0, "JSON: %zu bytes, at most %u", t.len, JSON_BYTES_MAX);
    size_t valid = utf8_valid_prefix(t.ptr, t.len);
    if (valid < t.len)
        return err_at(e, E_SYNTAX, valid, "JSON: not UTF-8 at byte %zu", valid);
    for (size_t at = 0; st == OK && at < t.len;) {
        st = scan_token(t, &at, &c, e);
        if (st == OK)
            st = check_ceilings(&s, c.depth, at, e);
    }
    if (st == OK)
        *out = s;
    else
        mem_free(s.counts);
    return st;
}

size_t json_string_end(struct slice t, size_t from)
{
    size_t p = from;
    for (;;) {
        p += plain_bytes(t.ptr + p, t.len - p);
        if (p >= t.len || t.ptr[p] == '"')
            return p;
        p += 2; /* an escape: a closing quote follows, since the scan saw one */
    }
}

size_t json_number_end(struct slice t, size_t at)
{
    return number_end(t, at);
}
