/* SPDX-License-Identifier: MIT
 * json_scan.c — one pass over the bytes, no recursion.  json-c checks the grammar; this checks the
 * tokens (strings, numbers, words) and the ceilings. */
#include "text/json_int.h"
#include "text/utf8.h"

static bool is_space(char c)
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
    while (after < t.len && is_space(t.ptr[after]))
        after++;
    /* json-c keeps keys as C strings and would cut this one short. */
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

enum status json_scan(struct slice t, struct json_scan *out, struct err *e)
{
    struct json_scan s = {0};
    size_t depth = 0;
    if (t.len > JSON_BYTES_MAX)
        return err_at(e, E_LIMIT, 0, "JSON: %zu bytes, at most %u", t.len, JSON_BYTES_MAX);
    size_t valid = utf8_valid_prefix(t.ptr, t.len); /* json-c lets surrogates pass */
    if (valid < t.len)
        return err_at(e, E_SYNTAX, valid, "JSON: not UTF-8 at byte %zu", valid);
    for (size_t at = 0; at < t.len;) {
        enum status st = OK;
        char c = t.ptr[at];
        if (is_space(c) || c == ',') {
            at++;
        } else if (c == ':') {
            s.members++;
            at++;
        } else if (c == '[' || c == '{') {
            depth++;
            s.containers++;
            s.values++;
            at++;
        } else if (c == ']' || c == '}') {
            if (depth == 0)
                return err_at(e, E_SYNTAX, at, "JSON: unexpected '%c' at byte %zu", c, at);
            depth--;
            at++;
        } else {
            s.values++;
            st = c == '"' ? scan_string(t, &at, e) : scan_word(t, &at, e);
        }
        if (st == OK)
            st = check_ceilings(&s, depth, at, e);
        if (st != OK)
            return st;
    }
    *out = s;
    return OK;
}

struct slice json_scan_number(struct slice t, size_t *at)
{
    size_t p = *at;
    while (p < t.len && t.ptr[p] != '-' && !is_digit(t.ptr[p])) {
        if (t.ptr[p] == '"') {
            for (p++; p < t.len && t.ptr[p] != '"'; p++)
                p += t.ptr[p] == '\\';
        }
        p++;
    }
    if (p >= t.len) {
        *at = t.len;
        return (struct slice){"", 0};
    }
    *at = number_end(t, p);
    return (struct slice){t.ptr + p, *at - p};
}
