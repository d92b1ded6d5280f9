/* SPDX-License-Identifier: MIT
 * loop.c — for loops and what `loop` knows.
 * A filter (`for x in y if …`) is asked when the next item is needed, not before: its condition may
 * depend on what the body did.  loop.last and loop.nextitem look one item ahead, loop.length all.
 */
#include "base/check.h"
#include "template/render.h"

/* Does an item pass `if`?  `loop` is that of the loop around, if any. */
static bool passes(struct render *r, struct loop *l, struct value item, bool *out)
{
    struct scope *s = scope_new(r, l->scope);
    struct value test;
    if (!s || !assign_target(r, s, l->node->a, item) || !eval(r, s, l->node->c, &test))
        return false;
    *out = value_truth(test);
    return true;
}

/* Fills l->next, if there is one. */
static bool look_ahead(struct render *r, struct loop *l)
{
    while (!l->has_next && l->at < l->count) {
        bool ok = true;
        l->next = l->items[l->at++];
        if (l->is_filtered && !passes(r, l, l->next, &ok))
            return false;
        l->has_next = ok;
    }
    return true;
}

/* Filters all that is left, so that it can be counted. */
static bool filter_rest(struct render *r, struct loop *l)
{
    if (!l->is_filtered)
        return true;
    struct value *rest = render_alloc(r, l->count - l->at, sizeof *rest);
    size_t n = 0;
    if (!rest)
        return false;
    for (; l->at < l->count; l->at++) {
        bool ok;
        if (!passes(r, l, l->items[l->at], &ok))
            return false;
        if (ok)
            rest[n++] = l->items[l->at];
    }
    l->items = rest;
    l->count = n;
    l->at = 0;
    l->is_filtered = false;
    return true;
}

bool loop_length(struct render *r, struct loop *l, int64_t *out)
{
    if (!filter_rest(r, l))
        return false;
    *out = l->index0 + 1 + (l->has_next ? 1 : 0) + (int64_t)(l->count - l->at);
    return true;
}

static bool neighbour(struct render *r, bool is_there, struct value v, const char *hint,
                      struct value *out)
{
    *out = is_there ? v : value_undefined_hint(r, slice_of(hint));
    return r->status == OK;
}

bool loop_attribute(struct render *r, struct loop *l, struct slice name, bool *found,
                    struct value *out)
{
    int64_t length;
    *found = true;
    if (slice_is(name, "index0"))
        *out = value_int(l->index0);
    else if (slice_is(name, "index"))
        *out = value_int(l->index0 + 1);
    else if (slice_is(name, "first"))
        *out = value_bool(l->index0 == 0);
    else if (slice_is(name, "depth0"))
        *out = value_int(l->level);
    else if (slice_is(name, "depth"))
        *out = value_int((int64_t)l->level + 1);
    else if (slice_is(name, "previtem"))
        return neighbour(r, l->has_previous, l->previous, "there is no previous item", out);
    else if (slice_is(name, "nextitem"))
        return look_ahead(r, l) && neighbour(r, l->has_next, l->next, "there is no next item", out);
    else if (slice_is(name, "last")) {
        if (!look_ahead(r, l))
            return false;
        *out = value_bool(!l->has_next);
    } else if (slice_is(name, "length") || slice_is(name, "revindex") ||
               slice_is(name, "revindex0")) {
        if (!loop_length(r, l, &length))
            return false;
        *out = value_int(name.len == 6 ? length : length - l->index0 - (name.len == 9));
    } else {
        *found = false;
    }
    return true;
}

/* The next item into the body's scope.  *more false: the end. */
static bool advance(struct render *r, struct loop *l, struct scope *s, bool *more)
{
    if (!look_ahead(r, l))
        return false;
    *more = l->has_next;
    if (!l->has_next)
        return true;
    l->previous = l->current;
    l->has_previous = l->has_current;
    l->current = l->next;
    l->has_current = true;
    l->has_next = false;
    l->index0++;
    return scope_set(r, s, SLICE_LIT("loop"), (struct value){.kind = V_LOOP, .loop = l}) &&
           assign_target(r, s, l->node->a, l->current);
}

/* *is_complete: at least one body ran to its end; only then jinja2 leaves out the else. */
static enum flow run_items(struct render *r, struct loop *l, bool *is_complete)
{
    for (;;) {
        struct scope *s = scope_new(r, l->scope);
        bool more;
        if (!s || !render_steps(r, 1) || !advance(r, l, s, &more))
            return FLOW_FAILED;
        if (!more)
            return FLOW_ON;
        enum flow flow = exec_body(r, s, &l->node->list);
        if (flow == FLOW_FAILED)
            return FLOW_FAILED;
        if (flow == FLOW_BREAK)
            return FLOW_ON;
        *is_complete |= flow == FLOW_ON;
    }
}

enum flow loop_run(struct render *r, struct scope *s, const struct node *n, struct value over,
                   uint32_t level)
{
    struct loop *l = render_alloc(r, 1, sizeof *l);
    bool is_complete = false;
    if (!l)
        return FLOW_FAILED;
    *l = (struct loop){
        .node = n, .scope = s, .is_filtered = n->c != NULL, .index0 = -1, .level = level};
    if (!value_iterate(r, over, &l->items, &l->count))
        return FLOW_FAILED;
    enum flow flow = run_items(r, l, &is_complete);
    if (flow != FLOW_ON || is_complete || n->more.count == 0)
        return flow;
    struct scope *inner = scope_new(r, s);
    return inner ? exec_body(r, inner, &n->more) : FLOW_FAILED;
}

bool loop_recurse(struct render *r, struct loop *l, const struct call *c, struct value *out)
{
    if (!l->node->is_recursive)
        return render_fail(r, E_INVALID,
                           "the loop must have the 'recursive' marker to be called recursively");
    if (c->n_args != 1 || c->n_named)
        return render_fail(r, E_INVALID, "loop() takes one argument");
    struct capture capture;
    capture_begin(r, &capture);
    enum flow flow = loop_run(r, l->scope, l->node, c->args[0], l->level + 1);
    return capture_end(r, &capture, flow != FLOW_FAILED, out);
}

/* ---- methods ---- */

static bool loop_cycle(struct render *r, struct value self, const struct value *parameters,
                       const struct call *c, struct value *out)
{
    (void)parameters;
    if (c->n_args == 0)
        return render_fail(r, E_INVALID, "no items for cycling given");
    *out = c->args[(uint64_t)self.loop->index0 % c->n_args];
    return true;
}

static bool loop_changed(struct render *r, struct value self, const struct value *parameters,
                         const struct call *c, struct value *out)
{
    struct loop *l = self.loop;
    struct value now = value_items(V_TUPLE, c->args, c->n_args);
    bool equal = false;
    (void)parameters;
    if (l->has_changed && !value_equal(r, l->changed, now, &equal))
        return false;
    if (!equal)
        l->changed = now;
    l->has_changed = true;
    *out = value_bool(!equal);
    return true;
}

const struct builtin builtin_loop_methods[] = {
    {"cycle", loop_cycle, "*", 0},
    {"changed", loop_changed, "*", 0},
    {NULL, NULL, NULL, 0},
};
