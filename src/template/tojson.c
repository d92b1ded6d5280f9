/* SPDX-License-Identifier: MIT
 * tojson.c — the filter as transformers defines it: json.dumps(x, ensure_ascii=False, …). */
#include <math.h>
#include <stdlib.h>

#include "template/number.h"
#include "template/render.h"
#include "template/unicode.h"
#include "text/json.h"

/* Everything beyond ASCII as \uXXXX, in surrogate pairs. */
static void write_ascii(struct buf *b, struct slice s)
{
    struct buf plain;
    buf_init(&plain, s.len * 6 + 16);
    json_write_string(&plain, s);
    struct slice text = buf_slice(&plain);
    for (size_t at = 0; at < text.len;) {
        uint32_t cp = unicode_next(text, &at, NULL);
        if (cp < 128)
            buf_add_char(b, (char)cp);
        else if (cp < 0x10000)
            buf_printf(b, "\\u%04x", cp);
        else
            buf_printf(b, "\\u%04x\\u%04x", 0xD800 + ((cp - 0x10000) >> 10),
                       0xDC00 + ((cp - 0x10000) & 0x3FF));
    }
    b->failed |= plain.failed;
    buf_release(&plain);
}

static void write_string(struct buf *b, struct slice s, const struct json_options *o)
{
    if (o->ensure_ascii)
        write_ascii(b, s);
    else
        json_write_string(b, s);
}

static void write_float(struct buf *b, double v)
{
    if (isnan(v))
        buf_add_text(b, "NaN");
    else if (isinf(v))
        buf_add_text(b, v < 0 ? "-Infinity" : "Infinity");
    else
        json_write_double(b, v);
}

static void new_line(struct buf *b, const struct json_options *o, uint32_t level)
{
    if (!o->has_indent)
        return;
    buf_add_char(b, '\n');
    for (uint32_t i = 0; i < level && !b->failed; i++)
        buf_add_slice(b, o->indent);
}

static bool write_value(struct render *r, struct buf *b, struct value v,
                        const struct json_options *o, uint32_t level);

static bool write_items(struct render *r, struct buf *b, struct value v,
                        const struct json_options *o, uint32_t level)
{
    buf_add_char(b, '[');
    for (size_t i = 0; i < v.len; i++) {
        if (i > 0)
            buf_add_slice(b, o->item_separator);
        new_line(b, o, level + 1);
        if (!write_value(r, b, v.items[i], o, level + 1))
            return false;
    }
    if (v.len)
        new_line(b, o, level);
    buf_add_char(b, ']');
    return true;
}

static bool write_key(struct render *r, struct buf *b, struct value key,
                      const struct json_options *o)
{
    switch (key.kind) {
    case V_STRING:
        write_string(b, value_slice(key), o);
        return true;
    case V_NONE:
        buf_add_text(b, "\"null\"");
        return true;
    case V_BOOL:
        buf_add_text(b, key.boolean ? "\"true\"" : "\"false\"");
        return true;
    case V_INT:
    case V_BIG:
        buf_add_char(b, '"');
        number_write_int(b, key, 10);
        buf_add_char(b, '"');
        return true;
    case V_FLOAT:
        buf_add_char(b, '"');
        write_float(b, key.real);
        buf_add_char(b, '"');
        return true;
    default:
        return render_fail(r, E_INVALID, "keys must be str, int, float, bool or None, not %s",
                           value_type_name(key));
    }
}

/* The pairs in the order of their keys. */
static bool sorted_pairs(struct render *r, struct value v, const struct pair **out)
{
    struct value *index = render_alloc(r, v.len, sizeof *index);
    struct value *keys = render_alloc(r, v.len, sizeof *keys);
    struct pair *sorted = render_alloc(r, v.len, sizeof *sorted);
    if (!index || !keys || !sorted)
        return false;
    for (size_t i = 0; i < v.len; i++) {
        index[i] = value_int((int64_t)i);
        keys[i] = v.pairs[i].key;
    }
    if (!sort_by_keys(r, index, keys, v.len, false))
        return false;
    for (size_t i = 0; i < v.len; i++)
        sorted[i] = v.pairs[index[i].integer];
    *out = sorted;
    return true;
}

static bool write_pairs(struct render *r, struct buf *b, struct value v,
                        const struct json_options *o, uint32_t level)
{
    const struct pair *pairs = v.pairs;
    if (o->sort_keys && v.len > 1 && !sorted_pairs(r, v, &pairs))
        return false;
    buf_add_char(b, '{');
    for (size_t i = 0; i < v.len; i++) {
        if (i > 0)
            buf_add_slice(b, o->item_separator);
        new_line(b, o, level + 1);
        if (!write_key(r, b, pairs[i].key, o))
            return false;
        buf_add_slice(b, o->key_separator);
        if (!write_value(r, b, pairs[i].value, o, level + 1))
            return false;
    }
    if (v.len)
        new_line(b, o, level);
    buf_add_char(b, '}');
    return true;
}

static bool write_any(struct render *r, struct buf *b, struct value v, const struct json_options *o,
                      uint32_t level)
{
    switch (v.kind) {
    case V_NONE:
        buf_add_text(b, "null");
        return true;
    case V_BOOL:
        buf_add_text(b, v.boolean ? "true" : "false");
        return true;
    case V_BIG:
        number_write_int(b, v, 10);
        return render_steps(r, (size_t)v.big->count * v.big->count / 8);
    case V_INT:
        number_write_int(b, v, 10);
        return true;
    case V_FLOAT:
        write_float(b, v.real);
        return true;
    case V_STRING:
        write_string(b, value_slice(v), o);
        return render_steps(r, v.len / 16);
    case V_LIST:
    case V_TUPLE:
        return write_items(r, b, v, o, level);
    case V_DICT:
        return write_pairs(r, b, v, o, level);
    default:
        return render_fail(r, E_INVALID, "Object of type %s is not JSON serializable",
                           value_type_name(v));
    }
}

static bool write_value(struct render *r, struct buf *b, struct value v,
                        const struct json_options *o, uint32_t level)
{
    if (!render_steps(r, 1) || !render_enter(r))
        return false;
    bool ok = write_any(r, b, v, o, level);
    r->depth--;
    if (b->failed)
        return render_fail(r, E_LIMIT, "the template uses too much memory");
    return ok;
}

bool tojson_write(struct render *r, struct buf *b, struct value v, const struct json_options *o)
{
    return write_value(r, b, v, o, 0);
}
