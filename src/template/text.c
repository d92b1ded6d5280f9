/* SPDX-License-Identifier: MIT
 * text.c — values as text: Python's str() and repr(), concatenation, HTML escapes. */
#include <math.h>

#include "template/number.h"
#include "template/render.h"
#include "template/unicode.h"
#include "text/json.h"

void text_float(struct buf *b, double v)
{
    if (isnan(v))
        buf_add_text(b, "nan");
    else if (isinf(v))
        buf_add_text(b, v < 0 ? "-inf" : "inf");
    else
        json_write_double(b, v);
}

/* ---- repr ---- */

static void repr_cp(struct buf *b, uint32_t cp)
{
    buf_printf(b, cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x", cp);
}

/* Single quotes, unless the text has some and no double ones; what is not printable is escaped. */
static bool repr_string(struct render *r, struct buf *b, struct slice s)
{
    bool has_single = memchr(s.ptr, '\'', s.len) != NULL;
    char quote = has_single && !memchr(s.ptr, '"', s.len) ? '"' : '\'';
    buf_add_char(b, quote);
    for (size_t at = 0; at < s.len;) {
        size_t start = at;
        bool bad;
        uint32_t cp = unicode_next(s, &at, &bad);
        if (bad)
            repr_cp(b, (unsigned char)s.ptr[start]);
        else if (cp == '\\' || cp == (uint32_t)(unsigned char)quote)
            buf_printf(b, "\\%c", (char)cp);
        else if (cp == '\n' || cp == '\r' || cp == '\t')
            buf_add_text(b, cp == '\n' ? "\\n" : cp == '\r' ? "\\r" : "\\t");
        else if (cp >= 128 ? unicode_class(cp) & UNI_PRINTABLE : cp >= 32 && cp != 127)
            buf_add(b, s.ptr + start, at - start);
        else
            repr_cp(b, cp);
    }
    buf_add_char(b, quote);
    return render_steps(r, s.len / 16);
}

static bool repr_items(struct render *r, struct buf *b, const struct value *items, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            buf_add_text(b, ", ");
        if (!text_repr(r, b, items[i]))
            return false;
    }
    return true;
}

static bool repr_pairs(struct render *r, struct buf *b, const struct pair *pairs, size_t n)
{
    buf_add_char(b, '{');
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            buf_add_text(b, ", ");
        if (!text_repr(r, b, pairs[i].key))
            return false;
        buf_add_text(b, ": ");
        if (!text_repr(r, b, pairs[i].value))
            return false;
    }
    buf_add_char(b, '}');
    return true;
}

static bool repr_sequence(struct render *r, struct buf *b, struct value v)
{
    static const char *const open[] = {"dict_keys([", "dict_values([", "dict_items(["};
    bool is_list = v.kind == V_LIST, is_view = v.kind == V_VIEW;
    buf_add_text(b, is_view ? open[v.flag] : is_list ? "[" : "(");
    if (!repr_items(r, b, v.items, v.len))
        return false;
    buf_add_text(b, is_view ? "])" : is_list ? "]" : v.len == 1 ? ",)" : ")");
    return true;
}

static bool repr_loop(struct render *r, struct buf *b, struct value v)
{
    int64_t length;
    if (!loop_length(r, v.loop, &length))
        return false;
    buf_printf(b, "<LoopContext %lld/%lld>", (long long)v.loop->index0 + 1, (long long)length);
    return true;
}

static void repr_range(struct buf *b, const struct range *range)
{
    buf_printf(b, "range(%lld, %lld", (long long)range->start, (long long)range->stop);
    if (range->step != 1)
        buf_printf(b, ", %lld", (long long)range->step);
    buf_add_char(b, ')');
}

static bool repr_macro(struct render *r, struct buf *b, const struct macro *m)
{
    buf_add_text(b, "<Macro ");
    bool ok = repr_string(r, b, m->signature->name);
    buf_add_char(b, '>');
    return ok;
}

static bool repr_any(struct render *r, struct buf *b, struct value v)
{
    bool ok = true;
    switch (v.kind) {
    case V_UNDEFINED:
        buf_add_text(b, "Undefined");
        break;
    case V_NONE:
        buf_add_text(b, "None");
        break;
    case V_BOOL:
        buf_add_text(b, v.boolean ? "True" : "False");
        break;
    case V_BIG:
        ok = render_steps(r, (size_t)v.big->count * v.big->count / 8);
        number_write_int(b, v, 10);
        break;
    case V_INT:
        number_write_int(b, v, 10);
        break;
    case V_FLOAT:
        text_float(b, v.real);
        break;
    case V_STRING:
        buf_add_text(b, v.flag & STRING_SAFE ? "Markup(" : "");
        ok = repr_string(r, b, value_slice(v));
        buf_add_text(b, v.flag & STRING_SAFE ? ")" : "");
        break;
    case V_LIST:
    case V_TUPLE:
    case V_VIEW:
        ok = repr_sequence(r, b, v);
        break;
    case V_DICT:
        ok = repr_pairs(r, b, v.pairs, v.len);
        break;
    case V_RANGE:
        repr_range(b, v.range);
        break;
    case V_NAMESPACE:
        buf_add_text(b, "<Namespace ");
        ok = repr_pairs(r, b, v.space->pairs, v.space->count);
        buf_add_char(b, '>');
        break;
    case V_LOOP:
        ok = repr_loop(r, b, v);
        break;
    case V_MACRO:
        ok = repr_macro(r, b, v.macro);
        break;
    default:
        buf_printf(b, "<%s object>", value_type_name(v));
    }
    return ok;
}

bool text_repr(struct render *r, struct buf *b, struct value v)
{
    if (!render_steps(r, 1) || !render_enter(r))
        return false;
    bool ok = repr_any(r, b, v);
    r->depth--;
    if (b->failed)
        return render_fail(r, E_LIMIT, "the template uses too much memory");
    return ok;
}

bool text_str(struct render *r, struct value v, struct slice *out)
{
    struct buf b;
    struct value text;
    *out = (struct slice){"", 0};
    if (v.kind == V_UNDEFINED)
        return true;
    if (v.kind == V_STRING) {
        *out = value_slice(v);
        return true;
    }
    render_buf_init(r, &b);
    bool ok = text_repr(r, &b, v);
    if (!ok) {
        buf_release(&b);
        return false;
    }
    ok = render_buf(r, &b, &text);
    if (ok)
        *out = value_slice(text);
    return ok;
}

/* ---- concatenation ---- */

/* Before the text of a growable string.  A template that adds to a string in a loop would copy it
 * each time; where the bytes behind it are still unused, only the new part is copied.  The old
 * value keeps its length, so that it does not change. */
struct string_room {
    size_t used, cap;
};
#define GROWABLE_MIN 256

static bool append_in_place(struct value a, struct slice b, struct value *out)
{
    if (!(a.flag & STRING_GROWABLE))
        return false;
    struct string_room *room = (struct string_room *)(uintptr_t)a.text - 1;
    if (room->used != a.len || room->cap - room->used < b.len)
        return false;
    memcpy((char *)(uintptr_t)a.text + a.len, b.ptr, b.len);
    room->used += b.len;
    *out = a;
    out->len += b.len;
    return true;
}

bool text_concat(struct render *r, struct value a, struct slice b, struct value *out)
{
    if (b.len == 0) {
        *out = a;
        return true;
    }
    if (!render_steps(r, b.len / 64))
        return false;
    if (append_in_place(a, b, out))
        return true;
    size_t len = a.len + b.len;
    size_t cap = len >= GROWABLE_MIN ? len * 2 : len;
    struct string_room *room = render_alloc(r, 1, sizeof *room + cap);
    if (!room || !render_steps(r, a.len / 64))
        return false;
    *room = (struct string_room){.used = len, .cap = cap};
    char *text = (char *)(room + 1);
    if (a.len)
        memcpy(text, a.text, a.len);
    memcpy(text + a.len, b.ptr, b.len);
    *out = value_text((struct slice){text, len});
    out->flag = (uint8_t)(STRING_GROWABLE | (a.flag & STRING_SAFE));
    return true;
}

/* markupsafe.escape */
bool text_escape(struct render *r, struct slice s, struct value *out)
{
    struct buf b;
    render_buf_init(r, &b);
    for (size_t i = 0; i < s.len; i++) {
        switch (s.ptr[i]) {
        case '&':
            buf_add_text(&b, "&amp;");
            break;
        case '<':
            buf_add_text(&b, "&lt;");
            break;
        case '>':
            buf_add_text(&b, "&gt;");
            break;
        case '\'':
            buf_add_text(&b, "&#39;");
            break;
        case '"':
            buf_add_text(&b, "&#34;");
            break;
        default:
            buf_add_char(&b, s.ptr[i]);
        }
    }
    if (!render_buf(r, &b, out))
        return false;
    out->flag = STRING_SAFE;
    return render_steps(r, s.len / 16);
}
