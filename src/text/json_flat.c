/* SPDX-License-Identifier: MIT
 * json_flat.c — the short way for small objects that our own writer made, 100,000 of them at a
 * start: no arena, no copies, no json-c.  What it is not sure of it leaves to json_parse. */
#include <string.h>

#include "text/json.h"

#define DIGITS_MAX 18u /* of an integer: fits int64 whatever they are */

struct flat {
    const char *at, *end;
};

static bool take(struct flat *f, char c)
{
    if (f->at == f->end || *f->at != c)
        return false;
    f->at++;
    return true;
}

static bool take_word(struct flat *f, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(f->end - f->at) < n || memcmp(f->at, word, n) != 0)
        return false;
    f->at += n;
    return true;
}

static bool take_string(struct flat *f, struct slice *out)
{
    if (!take(f, '"'))
        return false;
    const char *from = f->at;
    while (f->at < f->end && *f->at >= ' ' && *f->at < 0x7f && *f->at != '"' && *f->at != '\\')
        f->at++;
    *out = (struct slice){from, (size_t)(f->at - from)};
    return take(f, '"');
}

static bool take_integer(struct flat *f, struct json *out)
{
    const char *from = f->at;
    bool is_negative = take(f, '-');
    const char *digits = f->at;
    int64_t v = 0;
    while (f->at < f->end && *f->at >= '0' && *f->at <= '9' && f->at - digits < DIGITS_MAX)
        v = v * 10 + (*f->at++ - '0');
    size_t n = (size_t)(f->at - digits);
    bool is_longer = f->at < f->end && *f->at >= '0' && *f->at <= '9';
    if (n == 0 || is_longer || (digits[0] == '0' && (n > 1 || is_negative)))
        return false;
    v = is_negative ? -v : v;
    *out = (struct json){
        .kind = JSON_INT, .integer = v, .real = (double)v, .text = {from, (size_t)(f->at - from)}};
    return true; /* a fraction or an exponent fails at the comma that is not there */
}

static bool take_value(struct flat *f, struct json *out)
{
    *out = (struct json){.kind = JSON_STRING};
    if (f->at < f->end && *f->at == '"')
        return take_string(f, &out->text);
    out->kind = JSON_BOOL;
    out->boolean = take_word(f, "true");
    return out->boolean || take_word(f, "false") || take_integer(f, out);
}

static bool is_new(const struct json_member *members, size_t n, struct slice key)
{
    for (size_t i = 0; i < n; i++)
        if (slice_equal(members[i].key, key))
            return false;
    return true;
}

bool json_read_flat(struct slice text, struct json_member *members, size_t cap, struct json *out)
{
    struct flat f = {text.ptr, text.ptr + text.len};
    size_t n = 0;
    if (!take(&f, '{'))
        return false;
    while (n < cap) {
        struct json_member *m = &members[n];
        if (!take_string(&f, &m->key) || !is_new(members, n, m->key) || !take(&f, ':') ||
            !take_value(&f, &m->value))
            return false;
        n++;
        if (take(&f, ','))
            continue;
        *out = (struct json){.kind = JSON_OBJECT, .count = n, .members = members};
        return take(&f, '}') && f.at == f.end;
    }
    return false;
}
