/* SPDX-License-Identifier: MIT
 * render.c — ceilings and failures of a rendering. */
#include "template/render.h"

#include <stdio.h>

#include "base/check.h"

void render_set_failed(struct render *r, enum status st, const char *fmt, ...)
{
    va_list ap;
    if (r->status != OK)
        return; /* the first reason counts */
    r->status = st;
    r->err = (struct err){.code = st, .pos = ERR_NO_POS};
    va_start(ap, fmt);
    vsnprintf(r->err.msg, sizeof r->err.msg, fmt, ap);
    va_end(ap);
}

/* "'x' is undefined", or what it was looked for in: jinja2's Undefined._undefined_message. */
void render_set_undefined(struct render *r, struct value v)
{
    const struct undefined *u = v.undefined;
    struct slice name = {"?", 1};
    if (u && u->hint.len > 0) {
        render_set_failed(r, E_INVALID, SLICE_FMT, SLICE_ARG(u->hint));
        return;
    }
    if (u && u->name.kind == V_STRING)
        name = value_slice(u->name);
    if (name.len > 80)
        name.len = 80;
    if (!u || !u->has_object) {
        render_set_failed(r, E_INVALID, "'" SLICE_FMT "' is undefined", SLICE_ARG(name));
        return;
    }
    struct value object = {.kind = u->object_kind};
    const char *type = object.kind == V_NONE ? "None" : value_type_name(object);
    const char *suffix = object.kind == V_NONE ? "" : " object";
    if (u->name.kind == V_STRING)
        render_set_failed(r, E_INVALID, "'%s%s' has no attribute '" SLICE_FMT "'", type, suffix,
                          SLICE_ARG(name));
    else
        render_set_failed(r, E_INVALID, "%s%s has no such element", type, suffix);
}

bool render_steps(struct render *r, size_t steps)
{
    if (r->status != OK)
        return false;
    if (steps > r->steps_left)
        return render_fail(r, E_LIMIT, "the template takes too many steps");
    r->steps_left -= steps;
    return true;
}

bool render_enter(struct render *r)
{
    if (r->depth >= TEMPLATE_EVAL_DEPTH_MAX)
        return render_fail(r, E_LIMIT, "the template recurses too deeply");
    r->depth++;
    return true;
}

bool render_put(struct render *r, struct slice text)
{
    if (text.len > r->output_left)
        return render_fail(r, E_LIMIT, "the template's output is too large");
    r->output_left -= text.len;
    buf_add_slice(r->out, text);
    if (r->out->failed)
        return render_fail(r, E_LIMIT, "the template's output is too large");
    return render_steps(r, text.len / 64);
}

void *render_alloc(struct render *r, size_t count, size_t size)
{
    void *p = r->status == OK ? arena_alloc(&r->arena, count, size) : NULL;
    if (!p)
        render_set_failed(r, E_LIMIT, "the template uses too much memory");
    return p;
}

bool render_text(struct render *r, struct slice text, struct value *out)
{
    char *copy = render_alloc(r, text.len, 1);
    if (!copy)
        return false;
    if (text.len)
        memcpy(copy, text.ptr, text.len);
    *out = value_text((struct slice){copy, text.len});
    return render_steps(r, text.len / 64);
}

void render_buf_init(struct render *r, struct buf *b)
{
    buf_init(b, r->arena.max_bytes - r->arena.used_bytes);
}

bool render_buf(struct render *r, struct buf *b, struct value *out)
{
    bool ok = b->failed ? render_fail(r, E_LIMIT, "the template uses too much memory")
                        : render_text(r, buf_slice(b), out);
    buf_release(b);
    return ok;
}
