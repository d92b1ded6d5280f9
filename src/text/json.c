/* SPDX-License-Identifier: MIT
 * json.c — text → json-c's tree → our tree in an arena.
 *   scan (json_scan.c) → json_tokener (strict, UTF-8) → copy → count members
 * Numbers are taken from the source in document order, in step with the copy: json-c keeps the text
 * of reals only and clamps integers.  A key that comes twice makes json-c's tree smaller than the
 * number of colons; then the copy, whose numbers are out of step, is thrown away. */
#include "text/json.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdlib.h>

#include "text/json_int.h"

_Static_assert(JSON_BYTES_MAX < INT_MAX, "json_tokener_parse_ex takes an int");

struct copy {
    struct arena *arena;
    struct slice text;
    size_t number_at; /* behind the last number that was taken */
    size_t members;
};

static struct slice copy_text(struct arena *a, const char *text, size_t len)
{
    char *p = arena_text(a, text, len);
    return p ? (struct slice){p, len} : (struct slice){"", 0};
}

/* strtoll and strtod stop at a NUL, hence the copy in the arena first. */
static void copy_number(struct copy *c, struct json *out)
{
    struct slice text = json_scan_number(c->text, &c->number_at);
    out->text = copy_text(c->arena, text.ptr, text.len);
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

static void copy_value(struct copy *c, struct json_object *from, struct json *out);

static void copy_array(struct copy *c, struct json_object *from, struct json *out)
{
    size_t n = json_object_array_length(from);
    out->kind = JSON_ARRAY;
    out->items = arena_alloc(c->arena, n, sizeof *out->items);
    if (!out->items)
        return;
    out->count = n;
    for (size_t i = 0; i < n; i++)
        copy_value(c, json_object_array_get_idx(from, i), &out->items[i]);
}

static void copy_object(struct copy *c, struct json_object *from, struct json *out)
{
    size_t n = (size_t)json_object_object_length(from);
    out->kind = JSON_OBJECT;
    out->members = arena_alloc(c->arena, n, sizeof *out->members);
    if (!out->members)
        return;
    out->count = n;
    c->members += n;
    struct json_member *m = out->members;
    for (struct lh_entry *it = json_object_get_object(from)->head; it; it = it->next, m++) {
        const char *key = lh_entry_k(it);
        m->key = copy_text(c->arena, key, strlen(key));
        copy_value(c, lh_entry_v(it), &m->value);
    }
}

/* Recursion: JSON_DEPTH_MAX, checked by the scan. */
static void copy_value(struct copy *c, struct json_object *from, struct json *out)
{
    switch (json_object_get_type(from)) {
    case json_type_null:
        out->kind = JSON_NULL;
        break;
    case json_type_boolean:
        out->kind = JSON_BOOL;
        out->boolean = json_object_get_boolean(from);
        break;
    case json_type_int:
    case json_type_double:
        copy_number(c, out);
        break;
    case json_type_string:
        out->kind = JSON_STRING;
        out->text = copy_text(c->arena, json_object_get_string(from),
                              (size_t)json_object_get_string_len(from));
        break;
    case json_type_array:
        copy_array(c, from, out);
        break;
    case json_type_object:
        copy_object(c, from, out);
        break;
    }
}

static enum status tokenize(struct slice text, struct json_object **out, struct err *e)
{
    struct json_tokener *k = json_tokener_new_ex(JSON_DEPTH_MAX + 2);
    if (!k)
        return err_set(e, E_NOMEM, "JSON: out of memory");
    json_tokener_set_flags(k, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    size_t before = 0;
    *out = json_tokener_parse_ex(k, text.ptr, (int)text.len);
    if (json_tokener_get_error(k) == json_tokener_continue) {
        before = text.len;
        *out = json_tokener_parse_ex(k, "", 1); /* the NUL says that nothing follows */
    }
    enum json_tokener_error error = json_tokener_get_error(k);
    size_t at = before + json_tokener_get_parse_end(k);
    json_tokener_free(k);
    if (error == json_tokener_success)
        return OK;
    json_object_put(*out);
    *out = NULL;
    if (at >= text.len || error == json_tokener_continue)
        return err_at(e, E_SYNTAX, text.len, "JSON: unexpected end at byte %zu", text.len);
    return err_at(e, E_SYNTAX, at, "JSON: %s at byte %zu", json_tokener_error_desc(error), at);
}

enum status json_parse(struct slice text, struct arena *a, struct json **out, struct err *e)
{
    struct json_scan scan;
    struct json_object *tree = NULL;
    enum status st = json_scan(text, &scan, e);
    if (st != OK)
        return st;
    if (text.len == 0)
        return err_at(e, E_SYNTAX, 0, "JSON: empty input");
    st = tokenize(text, &tree, e);
    if (st != OK)
        return st;
    struct copy c = {.arena = a, .text = text};
    struct json *root = arena_alloc(a, 1, sizeof *root);
    if (root)
        copy_value(&c, tree, root);
    json_object_put(tree);
    if (a->failed)
        return err_set(e, E_NOMEM, "JSON: the value does not fit into %zu bytes", a->max_bytes);
    if (c.members != scan.members)
        return err_at(e, E_SYNTAX, 0, "JSON: the same key twice in one object");
    *out = root;
    return OK;
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
