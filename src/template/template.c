/* SPDX-License-Identifier: MIT
 * template.c — the door: source → tree, tree and variables → text. */
#include "template/template.h"

#include <stdio.h>

#include "base/mem.h"
#include "template/number.h"
#include "template/render.h"
#include "text/utf8.h"

/* ---- compiling ---- */

/* \r\n and \r become \n; one line end at the very end goes (jinja2's keep_trailing_newline=False).
 */
static bool copy_source(struct template *t, struct slice source)
{
    char *text = arena_alloc(&t->arena, source.len, 1);
    size_t n = 0;
    if (!text)
        return false;
    for (size_t i = 0; i < source.len; i++) {
        bool is_return = source.ptr[i] == '\r';
        if (is_return && i + 1 < source.len && source.ptr[i + 1] == '\n')
            continue;
        text[n++] = is_return ? '\n' : source.ptr[i];
    }
    if (n > 0 && text[n - 1] == '\n')
        n--;
    t->source = (struct slice){text, n};
    return true;
}

enum status template_compile(struct slice source, struct template **out, struct err *e)
{
    if (source.len > TEMPLATE_SOURCE_MAX)
        return err_set(e, E_LIMIT, "template of %zu bytes, at most %u", source.len,
                       TEMPLATE_SOURCE_MAX);
    struct template *t = mem_try_new(1, sizeof *t);
    if (!t)
        return err_set(e, E_NOMEM, "template: out of memory");
    arena_init(&t->arena, TEMPLATE_TREE_MAX);
    enum status st = copy_source(t, source) ? template_parse(t, e)
                                            : err_set(e, E_NOMEM, "template: out of memory");
    if (st != OK) {
        template_free(t);
        return st;
    }
    *out = t;
    return OK;
}

void template_free(struct template *t)
{
    if (!t)
        return;
    arena_release(&t->arena);
    mem_free(t);
}

/* ---- variables ---- */

/* An integer's text is kept exactly; one of more than 4300 digits becomes a float. */
static struct value number_of(struct render *r, const struct json *j)
{
    struct value v;
    if (j->kind == JSON_INT)
        return value_int(j->integer);
    bool is_whole = j->text.len > 0 && !memchr(j->text.ptr, '.', j->text.len) &&
                    !memchr(j->text.ptr, 'e', j->text.len) &&
                    !memchr(j->text.ptr, 'E', j->text.len);
    if (is_whole && number_parse_int(&r->arena, j->text, 10, &v))
        return v;
    return value_float(j->real);
}

static bool value_of(struct render *r, const struct json *j, struct value *out);

static bool list_of(struct render *r, const struct json *j, struct value *out)
{
    struct value *items = render_alloc(r, j->count, sizeof *items);
    if (!items)
        return false;
    for (size_t i = 0; i < j->count; i++)
        if (!value_of(r, &j->items[i], &items[i]))
            return false;
    *out = value_items(V_LIST, items, j->count);
    return true;
}

static bool dict_of(struct render *r, const struct json *j, struct value *out)
{
    struct pair *pairs = render_alloc(r, j->count, sizeof *pairs);
    if (!pairs)
        return false;
    for (size_t i = 0; i < j->count; i++) {
        pairs[i].key = value_text(j->members[i].key);
        if (!value_of(r, &j->members[i].value, &pairs[i].value))
            return false;
    }
    *out = (struct value){.kind = V_DICT, .len = j->count, .pairs = pairs};
    return true;
}

static bool value_of(struct render *r, const struct json *j, struct value *out)
{
    bool ok = true;
    if (!render_enter(r))
        return false;
    switch (j->kind) {
    case JSON_NULL:
        *out = value_none();
        break;
    case JSON_BOOL:
        *out = value_bool(j->boolean);
        break;
    case JSON_INT:
    case JSON_REAL:
        *out = number_of(r, j);
        break;
    case JSON_STRING:
        *out = value_text(j->text);
        break;
    case JSON_ARRAY:
        ok = list_of(r, j, out);
        break;
    case JSON_OBJECT:
        ok = dict_of(r, j, out);
        break;
    }
    r->depth--;
    return ok;
}

static bool bind_variables(struct render *r, const struct json *variables)
{
    if (!variables)
        return true;
    if (variables->kind != JSON_OBJECT)
        return render_fail(r, E_INVALID, "a template's variables must be an object");
    for (size_t i = variables->count; i-- > 0;) { /* new bindings come first */
        struct binding *b = render_alloc(r, 1, sizeof *b);
        if (!b || !value_of(r, &variables->members[i].value, &b->value))
            return false;
        b->name = variables->members[i].key;
        b->next = r->globals.bindings;
        r->globals.bindings = b;
    }
    return true;
}

/* ---- rendering ---- */

/* The message is cut between characters and names the line where it happened. */
static enum status report(const struct render *r, struct err *e)
{
    struct slice text = slice_of(r->err.msg);
    text.len = utf8_valid_prefix(text.ptr, text.len);
    if (!r->has_place)
        return err_set(e, r->status, SLICE_FMT, SLICE_ARG(text));
    struct template_place place = template_place_of(r->template->source, (size_t)r->err.pos);
    enum status st =
        err_at(e, r->status, r->err.pos, "line %u: " SLICE_FMT, place.line, SLICE_ARG(text));
    if (e)
        e->msg[utf8_valid_prefix(e->msg, strlen(e->msg))] = '\0';
    return st;
}

enum status template_render_within(const struct template *t, const struct json *variables,
                                   struct template_now now, struct template_limits limits,
                                   struct buf *out, struct err *e)
{
    struct render r = {.template = t,
                       .now = now,
                       .out = out,
                       .output_left = limits.output_bytes,
                       .steps_left = limits.steps};
    arena_init(&r.arena, limits.memory_bytes);
    struct scope top = {.outer = &r.globals};
    size_t before = out->len;
    if (bind_variables(&r, variables))
        (void)exec_body(&r, &top, &t->body->list);
    if (r.status != OK && !out->failed) {
        out->len = before; /* all or nothing */
        if (out->ptr)
            out->ptr[before] = '\0';
    }
    arena_release(&r.arena);
    return r.status == OK ? OK : report(&r, e);
}

enum status template_render(const struct template *t, const struct json *variables,
                            struct template_now now, struct buf *out, struct err *e)
{
    struct template_limits limits = {TEMPLATE_STEPS_MAX, TEMPLATE_OUTPUT_MAX, TEMPLATE_MEMORY_MAX};
    return template_render_within(t, variables, now, limits, out, e);
}
