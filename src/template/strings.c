/* SPDX-License-Identifier: MIT
 * strings.c — replace, pad, lines. */
#include "template/strings.h"

#include "template/number.h"
#include "template/unicode.h"

bool value_list_add(struct render *r, struct value_list *l, struct value v)
{
    if (l->count == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 8;
        struct value *grown = render_alloc(r, cap, sizeof *grown);
        if (!grown)
            return false;
        if (l->count)
            memcpy(grown, l->items, l->count * sizeof *grown);
        l->items = grown;
        l->cap = cap;
    }
    l->items[l->count++] = v;
    return render_steps(r, 1);
}

bool strings_index(struct render *r, struct value v, int64_t *out)
{
    const int64_t most = (int64_t)1 << 62;
    if (v.kind == V_UNDEFINED)
        return render_fail_undefined(r, v);
    if (!value_is_whole(v))
        return render_fail(r, E_INVALID, "'%s' object cannot be interpreted as an integer",
                           value_type_name(v));
    if (v.kind == V_BIG)
        *out = number_sign(v) < 0 ? -most : most;
    else
        *out = v.kind == V_BOOL ? v.boolean : v.integer;
    *out = *out > most ? most : *out < -most ? -most : *out;
    return true;
}

/* `new` before each character and at the end. */
static void replace_empty(struct buf *b, struct slice s, struct slice new, int64_t count)
{
    size_t at = 0;
    while (count != 0) {
        buf_add_slice(b, new);
        count -= count > 0;
        if (at >= s.len || b->failed)
            break;
        size_t start = at;
        (void)unicode_next(s, &at, NULL);
        buf_add(b, s.ptr + start, at - start);
    }
    buf_add(b, s.ptr + at, s.len - at);
}

bool strings_replace(struct render *r, struct slice s, struct slice old, struct slice new,
                     int64_t count, struct value *out)
{
    struct buf b;
    if (!render_steps(r, s.len / 16))
        return false;
    render_buf_init(r, &b);
    if (old.len == 0) {
        replace_empty(&b, s, new, count);
        return render_buf(r, &b, out);
    }
    size_t at = 0;
    for (; count != 0 && !b.failed; count -= count > 0) {
        const char *hit = memmem(s.ptr + at, s.len - at, old.ptr, old.len);
        if (!hit)
            break;
        buf_add(&b, s.ptr + at, (size_t)(hit - s.ptr) - at);
        buf_add_slice(&b, new);
        at = (size_t)(hit - s.ptr) + old.len;
    }
    buf_add(&b, s.ptr + at, s.len - at);
    return render_buf(r, &b, out);
}

bool strings_pad(struct render *r, struct slice s, int64_t width, struct slice fill, enum pad where,
                 struct value *out)
{
    int64_t n = (int64_t)unicode_count(s);
    int64_t room = width > n ? width - n : 0;
    struct buf b;
    /* str.center() puts the odd one left when the width is odd */
    int64_t left = where == PAD_LEFT    ? 0
                   : where == PAD_RIGHT ? room
                                        : room / 2 + (room & width & 1);
    if ((uint64_t)room > r->arena.max_bytes)
        return render_fail(r, E_LIMIT, "the template uses too much memory");
    render_buf_init(r, &b);
    for (int64_t i = 0; i < left && !b.failed; i++)
        buf_add_slice(&b, fill);
    buf_add_slice(&b, s);
    for (int64_t i = left; i < room && !b.failed; i++)
        buf_add_slice(&b, fill);
    return render_steps(r, (size_t)room / 16) ? render_buf(r, &b, out) : (buf_release(&b), false);
}

static bool is_line_end(uint32_t cp)
{
    return (cp >= '\n' && cp <= '\r') || (cp >= 0x1C && cp <= 0x1E) || cp == 0x85 || cp == 0x2028 ||
           cp == 0x2029;
}

bool strings_lines(struct render *r, struct slice s, bool keep_ends, const struct value **items,
                   size_t *n)
{
    struct value_list list = {0};
    size_t start = 0;
    for (size_t at = 0; at < s.len;) {
        size_t end = at;
        uint32_t cp = unicode_next(s, &at, NULL);
        if (!is_line_end(cp))
            continue;
        if (cp == '\r' && at < s.len && s.ptr[at] == '\n')
            at++;
        struct slice line = {s.ptr + start, (keep_ends ? at : end) - start};
        if (!value_list_add(r, &list, value_text(line)))
            return false;
        start = at;
    }
    if (start < s.len &&
        !value_list_add(r, &list, value_text((struct slice){s.ptr + start, s.len - start})))
        return false;
    *items = list.items;
    *n = list.count;
    return render_steps(r, s.len / 64);
}
