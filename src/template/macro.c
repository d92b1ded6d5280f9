/* SPDX-License-Identifier: MIT
 * macro.c — calls of macros and of a call block's caller(), by the rules of jinja2's runtime.Macro:
 * parameters by position, then by name; the rest goes to varargs and kwargs when the body uses
 * them. */
#include "template/render.h"

struct binder {
    struct render *r;
    const struct macro *macro;
    const struct call *call;
    struct scope *scope; /* of the call */
    bool *is_taken;      /* of call->named */
};

/* The value given by name, marked as taken; NULL when there is none. */
static const struct value *take_named(struct binder *b, struct slice name)
{
    for (size_t i = 0; i < b->call->n_named; i++) {
        if (!b->is_taken[i] && slice_equal(b->call->named[i].name, name)) {
            b->is_taken[i] = true;
            return &b->call->named[i].value;
        }
    }
    return NULL;
}

/* Defaults may use the parameters before them. */
static bool bind_parameter(struct binder *b, uint32_t index)
{
    const struct parameter *p = &b->macro->signature->parameters[index];
    struct value v;
    const struct value *given =
        index < b->call->n_args ? &b->call->args[index] : take_named(b, p->name);
    if (given) {
        v = *given;
    } else if (p->value) {
        if (!eval(b->r, b->scope, p->value, &v))
            return false;
    } else {
        char *hint = arena_printf(&b->r->arena, "parameter '" SLICE_FMT "' was not provided",
                                  SLICE_ARG(p->name));
        v = value_undefined_hint(b->r, hint ? slice_of(hint) : SLICE_LIT("missing parameter"));
    }
    return b->r->status == OK && scope_set(b->r, b->scope, p->name, v);
}

static bool bind_caller(struct binder *b)
{
    const struct signature *g = b->macro->signature;
    if (!g->uses_caller || g->has_caller_parameter)
        return true;
    const struct value *given = take_named(b, SLICE_LIT("caller"));
    struct value v = given ? *given : value_undefined_hint(b->r, SLICE_LIT("No caller defined"));
    return b->r->status == OK && scope_set(b->r, b->scope, SLICE_LIT("caller"), v);
}

static bool bind_rest_named(struct binder *b)
{
    const struct call *c = b->call;
    struct pair *pairs = render_alloc(b->r, c->n_named, sizeof *pairs);
    size_t n = 0;
    if (!pairs)
        return false;
    for (size_t i = 0; i < c->n_named; i++)
        if (!b->is_taken[i])
            pairs[n++] = (struct pair){value_text(c->named[i].name), c->named[i].value};
    if (b->macro->signature->uses_kwargs)
        return scope_set(b->r, b->scope, SLICE_LIT("kwargs"),
                         (struct value){.kind = V_DICT, .len = n, .pairs = pairs});
    if (n == 0)
        return true;
    struct slice name = value_slice(pairs[0].key);
    if (name.len > 80)
        name.len = 80;
    return render_fail(b->r, E_INVALID,
                       "macro '" SLICE_FMT "' takes no keyword argument '" SLICE_FMT "'",
                       SLICE_ARG(b->macro->signature->name), SLICE_ARG(name));
}

static bool bind_rest_positional(struct binder *b)
{
    const struct signature *g = b->macro->signature;
    size_t extra = b->call->n_args > g->count ? b->call->n_args - g->count : 0;
    if (g->uses_varargs)
        return scope_set(b->r, b->scope, SLICE_LIT("varargs"),
                         value_items(V_TUPLE, extra ? b->call->args + g->count : NULL, extra));
    if (extra == 0)
        return true;
    return render_fail(b->r, E_INVALID, "macro '" SLICE_FMT "' takes not more than %u argument(s)",
                       SLICE_ARG(g->name), g->count);
}

bool macro_call(struct render *r, const struct macro *m, const struct call *c, struct value *out)
{
    struct binder b = {.r = r, .macro = m, .call = c};
    b.scope = scope_new(r, m->scope);
    b.is_taken = render_alloc(r, c->n_named, sizeof *b.is_taken);
    if (!b.scope || !b.is_taken || !render_steps(r, c->n_named * m->signature->count / 16))
        return false;
    for (uint32_t i = 0; i < m->signature->count; i++)
        if (!bind_parameter(&b, i))
            return false;
    if (!bind_caller(&b) || !bind_rest_named(&b) || !bind_rest_positional(&b))
        return false;
    struct capture capture;
    capture_begin(r, &capture);
    bool ok = exec_body(r, b.scope, m->body) != FLOW_FAILED;
    return capture_end(r, &capture, ok, out);
}
