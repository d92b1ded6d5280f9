/* SPDX-License-Identifier: MIT
 * json.c — text → tree in an arena, in two passes over the bytes.
 *   scan (json_scan.c): tokens, UTF-8, ceilings; how many items each container has
 *   read: the grammar; arrays and objects are allocated once, at their size
 * json-c did the second pass, at 230 MB/s with a tree of its own that was then copied: half a
 * millisecond for a chat of 100 KB, at each turn.  It is now the oracle of the tests
 * (json_oracle_test.c). */
#include "text/json.h"

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "text/json_int.h"
#include "text/utf8.h"

#define PAIRS_MAX 16u /* keys compared each with each; more are sorted */

struct reader {
    struct slice t;
    size_t at;
    struct arena *arena;
    const uint32_t *counts; /* of the scan, from the next container on */
    struct err *err;
};

static struct slice copy_text(struct arena *a, const char *text, size_t len)
{
    char *p = arena_text(a, text, len);
    return p ? (struct slice){p, len} : (struct slice){"", 0};
}

static enum status unexpected(struct reader *r)
{
    if (r->at >= r->t.len)
        return err_at(r->err, E_SYNTAX, r->t.len, "JSON: unexpected end at byte %zu", r->t.len);
    unsigned char c = (unsigned char)r->t.ptr[r->at];
    if (c > 0x20 && c < 0x7f)
        return err_at(r->err, E_SYNTAX, r->at, "JSON: unexpected '%c' at byte %zu", c, r->at);
    return err_at(r->err, E_SYNTAX, r->at, "JSON: unexpected byte 0x%02x at byte %zu", c, r->at);
}

/* The next byte that is no white space; 0 at the end. */
static char peek(struct reader *r)
{
    while (r->at < r->t.len && json_is_space(r->t.ptr[r->at]))
        r->at++;
    return r->at < r->t.len ? r->t.ptr[r->at] : '\0';
}

/* ---- strings ---- */
static bool hex4(const char *p, uint32_t *out)
{
    uint32_t v = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i], low = (char)(c | 0x20);
        if (c >= '0' && c <= '9')
            v = v << 4 | (uint32_t)(c - '0');
        else if (low >= 'a' && low <= 'f')
            v = v << 4 | (uint32_t)(low - 'a' + 10);
        else
            return false;
    }
    *out = v;
    return true;
}

/* \uXXXX at p, and the second half of a pair behind it; a half alone becomes U+FFFD (json.h).
 * Returns the bytes read; 0: malformed. */
static size_t unescape_unicode(const char *p, size_t len, uint32_t *out)
{
    uint32_t low;
    if (len < 6 || !hex4(p + 2, out))
        return 0;
    bool is_high = *out >= 0xD800 && *out < 0xDC00;
    if (is_high && len >= 12 && p[6] == '\\' && p[7] == 'u' && hex4(p + 8, &low) && low >= 0xDC00 &&
        low < 0xE000) {
        *out = 0x10000 + ((*out - 0xD800) << 10) + (low - 0xDC00);
        return 12;
    }
    return 6; /* utf8_encode makes U+FFFD of what is no character */
}

/* The escape at p to *to; returns the bytes read, 0: there is none such. */
static size_t unescape(const char *p, size_t len, char **to)
{
    static const char names[] = "\"\\/bfnrt", bytes[] = "\"\\/\b\f\n\r\t";
    uint32_t cp;
    if (len >= 2 && p[1] == 'u') {
        size_t n = unescape_unicode(p, len, &cp);
        *to += n ? utf8_encode(cp, *to) : 0;
        return n;
    }
    const char *name = len >= 2 && p[1] ? strchr(names, p[1]) : NULL;
    if (!name)
        return 0;
    *(*to)++ = bytes[name - names];
    return 2;
}

/* At the opening quote.  The scan saw a closing one, and no control character. */
static enum status read_string(struct reader *r, struct slice *out)
{
    size_t from = r->at + 1, end = json_string_end(r->t, from);
    const char *p = r->t.ptr + from, *stop = r->t.ptr + end;
    char *text = arena_alloc(r->arena, end - from + 1, 1), *to = text; /* escapes only shrink */
    if (!text)
        return E_NOMEM;
    while (p < stop) {
        const char *slash = memchr(p, '\\', (size_t)(stop - p));
        size_t n = (size_t)((slash ? slash : stop) - p);
        memcpy(to, p, n);
        to += n;
        p += n;
        if (!slash)
            break;
        n = unescape(p, (size_t)(stop - p), &to);
        if (n == 0) {
            r->at = (size_t)(p - r->t.ptr);
            return err_at(r->err, E_SYNTAX, r->at, "JSON: no such escape at byte %zu", r->at);
        }
        p += n;
    }
    *to = '\0';
    *out = (struct slice){text, (size_t)(to - text)};
    r->at = end + 1;
    return OK;
}

/* ---- numbers and words ---- */
/* strtoll and strtod stop at a NUL, hence the copy in the arena first. */
static void read_number(struct reader *r, struct json *out)
{
    size_t end = json_number_end(r->t, r->at);
    struct slice text = {r->t.ptr + r->at, end - r->at};
    r->at = end;
    out->text = copy_text(r->arena, text.ptr, text.len);
    bool is_real = memchr(text.ptr, '.', text.len) || memchr(text.ptr, 'e', text.len) ||
                   memchr(text.ptr, 'E', text.len);
    out->kind = JSON_REAL;
    out->real = strtod(out->text.ptr, NULL);
    if (is_real)
        return;
    errno = 0;
    long long v = strtoll(out->text.ptr, NULL, 10);
    if (errno == 0) {
        out->kind = JSON_INT;
        out->integer = v;
    }
}

/* The scan took it for a word or a number. */
static enum status read_scalar(struct reader *r, char c, struct json *out)
{
    if (c == '-' || (c >= '0' && c <= '9')) {
        read_number(r, out);
        return OK;
    }
    if (c != 't' && c != 'f' && c != 'n')
        return unexpected(r);
    out->kind = c == 'n' ? JSON_NULL : JSON_BOOL;
    out->boolean = c == 't';
    r->at += c == 'f' ? 5 : 4;
    return OK;
}

/* ---- containers ---- */
static enum status read_value(struct reader *r, struct json *out);

static int by_key(const void *a, const void *b)
{
    const struct slice x = (*(const struct json_member *const *)a)->key,
                       y = (*(const struct json_member *const *)b)->key;
    if (x.len != y.len)
        return x.len < y.len ? -1 : 1;
    return memcmp(x.ptr, y.ptr, x.len);
}

static enum status check_keys(struct reader *r, const struct json_member *m, size_t n, size_t at)
{
    bool is_twice = false;
    if (n <= PAIRS_MAX) {
        for (size_t i = 1; i < n && !is_twice; i++)
            for (size_t k = 0; k < i && !is_twice; k++)
                is_twice = slice_equal(m[i].key, m[k].key);
    } else {
        const struct json_member **sorted = mem_try_new(n, sizeof *sorted);
        if (!sorted)
            return err_set(r->err, E_NOMEM, "JSON: out of memory");
        for (size_t i = 0; i < n; i++)
            sorted[i] = &m[i];
        qsort(sorted, n, sizeof *sorted, by_key);
        for (size_t i = 1; i < n && !is_twice; i++)
            is_twice = slice_equal(sorted[i - 1]->key, sorted[i]->key);
        mem_free(sorted);
    }
    return is_twice ? err_at(r->err, E_SYNTAX, at,
                             "JSON: the same key twice in the object at byte %zu", at)
                    : OK;
}

/* Behind an item: true when another one follows. */
static bool has_more(struct reader *r, char close, enum status *st)
{
    char c = peek(r);
    *st = c == ',' || c == close ? OK : unexpected(r);
    r->at += *st == OK;
    return *st == OK && c == ',';
}

static enum status read_array(struct reader *r, struct json *out)
{
    size_t n = *r->counts++, i = 0;
    enum status st = OK;
    r->at++;
    out->kind = JSON_ARRAY;
    out->items = arena_alloc(r->arena, n, sizeof *out->items);
    if (!out->items)
        return E_NOMEM;
    if (peek(r) == ']') {
        r->at++;
        return OK;
    }
    bool goes_on = true;
    for (; goes_on && i < n; i++) {
        st = read_value(r, &out->items[i]);
        goes_on = st == OK && has_more(r, ']', &st);
    }
    out->count = i;
    return st == OK && goes_on ? unexpected(r) : st;
}

static enum status read_object(struct reader *r, struct json *out)
{
    size_t n = *r->counts++, i = 0, from = r->at;
    enum status st = OK;
    r->at++;
    out->kind = JSON_OBJECT;
    out->members = arena_alloc(r->arena, n, sizeof *out->members);
    if (!out->members)
        return E_NOMEM;
    if (peek(r) == '}') {
        r->at++;
        return OK;
    }
    bool goes_on = true;
    for (; goes_on && i < n; i++) {
        struct json_member *m = &out->members[i];
        st = peek(r) == '"' ? read_string(r, &m->key) : unexpected(r);
        if (st == OK && peek(r) != ':')
            st = unexpected(r);
        r->at += st == OK;
        if (st == OK)
            st = read_value(r, &m->value);
        goes_on = st == OK && has_more(r, '}', &st);
    }
    out->count = i;
    if (st == OK && goes_on)
        st = unexpected(r);
    return st == OK ? check_keys(r, out->members, i, from) : st;
}

/* Recursion: JSON_DEPTH_MAX, checked by the scan. */
static enum status read_value(struct reader *r, struct json *out)
{
    char c = peek(r);
    if (c == '{')
        return read_object(r, out);
    if (c == '[')
        return read_array(r, out);
    if (c != '"')
        return read_scalar(r, c, out);
    out->kind = JSON_STRING;
    return read_string(r, &out->text);
}

enum status json_parse(struct slice text, struct arena *a, struct json **out, struct err *e)
{
    struct json_scan scan;
    if (text.len == 0)
        return err_at(e, E_SYNTAX, 0, "JSON: empty input");
    enum status st = json_scan(text, &scan, e);
    if (st != OK)
        return st;
    struct reader r = {.t = text, .arena = a, .counts = scan.counts, .err = e};
    struct json *root = arena_alloc(a, 1, sizeof *root);
    st = root ? read_value(&r, root) : E_NOMEM;
    if (st == OK && (peek(&r) || r.at < text.len))
        st = unexpected(&r);
    mem_free(scan.counts);
    if (a->failed)
        return err_set(e, E_NOMEM, "JSON: the value does not fit into %zu bytes", a->max_bytes);
    if (st == OK)
        *out = root;
    return st;
}

const struct json *json_get(const struct json *v, const char *key)
{
    if (!v || v->kind != JSON_OBJECT)
        return NULL;
    struct slice k = slice_of(key);
    for (size_t i = 0; i < v->count; i++)
        if (slice_equal(v->members[i].key, k))
            return &v->members[i].value;
    return NULL;
}

struct json *json_new_string(struct arena *a, struct slice text)
{
    struct json *v = arena_alloc(a, 1, sizeof *v);
    if (!v)
        return NULL;
    v->kind = JSON_STRING;
    v->text = copy_text(a, text.ptr, text.len);
    return a->failed ? NULL : v;
}

struct json *json_new_array(struct arena *a, size_t count)
{
    struct json *v = arena_alloc(a, 1, sizeof *v);
    struct json *items = arena_alloc(a, count, sizeof *items);
    if (!v || !items)
        return NULL;
    v->kind = JSON_ARRAY;
    v->items = items;
    v->count = count;
    return v;
}

struct json *json_new_object(struct arena *a, size_t count)
{
    struct json *v = arena_alloc(a, 1, sizeof *v);
    struct json_member *members = arena_alloc(a, count, sizeof *members);
    if (!v || !members)
        return NULL;
    v->kind = JSON_OBJECT;
    v->members = members;
    v->count = count;
    return v;
}
