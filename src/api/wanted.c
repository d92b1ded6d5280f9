/* SPDX-License-Identifier: MIT
 * wanted.c — which model a body names, told without reading the rest of it: who serves the request
 * must be known before it is parsed, and a body may have megabytes of history.  A body that is no
 * JSON names none; whoever parses it says what is wrong. */
#include "api/api.h"
#include "text/json.h"

/* Behind the string that begins at s[at], a quote; s.len where it does not end. */
static size_t skip_string(struct slice s, size_t at)
{
    for (at++; at < s.len; at++) {
        if (s.ptr[at] == '\\')
            at++;
        else if (s.ptr[at] == '"')
            return at + 1;
    }
    return s.len;
}

static size_t skip_space(struct slice s, size_t at)
{
    while (at < s.len &&
           (s.ptr[at] == ' ' || s.ptr[at] == '\t' || s.ptr[at] == '\n' || s.ptr[at] == '\r'))
        at++;
    return at;
}

/* Behind the value at s[at]: to the comma or bracket that ends it, those within it left out. */
static size_t skip_value(struct slice s, size_t at)
{
    uint32_t depth = 0;
    while (at < s.len) {
        char c = s.ptr[at];
        if (c == '"') {
            at = skip_string(s, at);
            continue;
        }
        if (depth == 0 && (c == ',' || c == '}' || c == ']'))
            return at;
        depth += c == '{' || c == '[';
        depth -= c == '}' || c == ']';
        at++;
    }
    return at;
}

/* What stands between two quotes.  Some clients escape '/', and all that is not ASCII. */
static struct slice unescaped(struct slice quoted, struct arena *a)
{
    struct json *v = NULL;
    struct err ignored;
    if (!memchr(quoted.ptr, '\\', quoted.len))
        return (struct slice){quoted.ptr + 1, quoted.len - 2};
    if (json_parse(quoted, a, &v, &ignored) != OK || v->kind != JSON_STRING)
        return (struct slice){"", 0};
    return v->text;
}

struct slice api_model_wanted(struct slice body, struct arena *a)
{
    const struct slice none = {"", 0};
    size_t at = skip_space(body, 0);
    if (at >= body.len || body.ptr[at] != '{')
        return none;
    for (at++; at < body.len; at++) {
        size_t key = skip_space(body, at), end;
        if (key >= body.len || body.ptr[key] != '"')
            return none;
        end = skip_string(body, key);
        at = skip_space(body, end);
        if (at >= body.len || body.ptr[at] != ':')
            return none;
        size_t value = skip_space(body, at + 1);
        at = skip_value(body, value);
        if (!slice_is((struct slice){body.ptr + key, end - key}, "\"model\""))
            continue;
        size_t close = value < body.len && body.ptr[value] == '"' ? skip_string(body, value) : 0;
        return close > value + 1 && close <= at
                   ? unescaped((struct slice){body.ptr + value, close - value}, a)
                   : none;
    }
    return none;
}
