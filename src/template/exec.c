/* SPDX-License-Identifier: MIT
 * exec.c — statements. */
#include "base/check.h"
#include "template/render.h"

void capture_begin(struct render *r, struct capture *c)
{
    buf_init(&c->text, TEMPLATE_OUTPUT_MAX);
    c->outer = r->out;
    r->out = &c->text;
}

bool capture_end(struct render *r, struct capture *c, bool ok, struct value *out)
{
    r->out = c->outer;
    ok = ok && render_text(r, buf_slice(&c->text), out);
    buf_release(&c->text);
    return ok;
}

static enum flow flow_of(bool ok)
{
    return ok ? FLOW_ON : FLOW_FAILED;
}

static bool put_value(struct render *r, struct value v)
{
    struct slice text;
    return text_str(r, v, &text) && render_put(r, text);
}

/* What a filter or call block gives must be text; jinja2 joins it with the rest. */
static bool put_block(struct render *r, struct value v)
{
    if (v.kind != V_STRING)
        return render_fail(r, E_INVALID, "expected str instance, %s found", value_type_name(v));
    return render_put(r, value_slice(v));
}

/* ---- assignment ---- */

static bool set_in_namespace(struct render *r, struct scope *s, const struct node *target,
                             struct value v)
{
    struct node name = {.kind = N_NAME, .at = target->at, .name = target->name};
    struct value space;
    size_t at;
    if (!eval(r, s, &name, &space))
        return false;
    if (space.kind != V_NAMESPACE)
        return render_fail(r, E_INVALID, "cannot assign attribute on non-namespace object");
    if (target->text.ptr[0] == '_')
        return render_fail(r, E_INVALID,
                           "a namespace cannot hold names that start with an underscore");
    struct namespace *ns = space.space;
    if (value_find(r, ns->pairs, ns->count, value_text(target->text), &at)) {
        ns->pairs[at].value = v;
        return true;
    }
    if (ns->count == ns->cap) {
        size_t cap = ns->cap ? ns->cap * 2 : 4;
        struct pair *grown = render_alloc(r, cap, sizeof *grown);
        if (!grown)
            return false;
        if (ns->count)
            memcpy(grown, ns->pairs, ns->count * sizeof *grown);
        ns->pairs = grown;
        ns->cap = cap;
    }
    ns->pairs[ns->count++] = (struct pair){value_text(target->text), v};
    return r->status == OK;
}

bool assign_target(struct render *r, struct scope *s, const struct node *target, struct value v)
{
    const struct value *items;
    size_t n;
    if (target->kind == N_NAME)
        return scope_set(r, s, target->name, v);
    if (target->kind == N_NSREF)
        return set_in_namespace(r, s, target, v);
    CHECK(target->kind == N_TUPLE);
    if (!value_iterate(r, v, &items, &n))
        return false;
    if (n != target->list.count)
        return render_fail(r, E_INVALID, "%s values to unpack (expected %u, got %zu)",
                           n < target->list.count ? "not enough" : "too many", target->list.count,
                           n);
    for (uint32_t i = 0; i < target->list.count; i++)
        if (!assign_target(r, s, target->list.items[i], items[i]))
            return false;
    return true;
}

/* ---- blocks ---- */

static enum flow exec_if(struct render *r, struct scope *s, const struct node *n)
{
    uint32_t i = 0;
    for (; i + 1 < n->list.count; i += 2) {
        struct value test;
        if (!eval(r, s, n->list.items[i], &test))
            return FLOW_FAILED;
        if (value_truth(test))
            return exec_body(r, s, &n->list.items[i + 1]->list);
    }
    return i < n->list.count ? exec_body(r, s, &n->list.items[i]->list) : FLOW_ON;
}

/* The body's text, in a scope of its own. */
static enum flow exec_captured(struct render *r, struct scope *s, const struct node_list *body,
                               struct value *out)
{
    struct capture c;
    struct scope *inner = scope_new(r, s);
    if (!inner)
        return FLOW_FAILED;
    capture_begin(r, &c);
    enum flow flow = exec_body(r, inner, body);
    bool ok = capture_end(r, &c, flow != FLOW_FAILED, out);
    return ok ? flow : FLOW_FAILED;
}

static enum flow exec_set_block(struct render *r, struct scope *s, const struct node *n)
{
    struct value text;
    enum flow flow = exec_captured(r, s, &n->list, &text);
    if (flow != FLOW_ON)
        return flow;
    if (n->b && !eval_filters(r, s, n->b, text, &text))
        return FLOW_FAILED;
    return flow_of(assign_target(r, s, n->a, text));
}

static enum flow exec_filter_block(struct render *r, struct scope *s, const struct node *n)
{
    struct value text;
    enum flow flow = exec_captured(r, s, &n->list, &text);
    if (flow != FLOW_ON)
        return flow;
    return flow_of(eval_filters(r, s, n->b, text, &text) && put_block(r, text));
}

/* All values are evaluated outside of the new scope. */
static enum flow exec_with(struct render *r, struct scope *s, const struct node *n)
{
    struct scope *inner = scope_new(r, s);
    if (!inner)
        return FLOW_FAILED;
    for (uint32_t i = 0; i + 1 < n->more.count; i += 2) {
        struct value v;
        if (!eval(r, s, n->more.items[i + 1], &v) || !assign_target(r, inner, n->more.items[i], v))
            return FLOW_FAILED;
    }
    return exec_body(r, inner, &n->list);
}

static struct value new_macro(struct render *r, struct scope *s, const struct node *n)
{
    struct macro *m = render_alloc(r, 1, sizeof *m);
    if (!m)
        return value_none();
    *m = (struct macro){.signature = n->signature, .body = &n->list, .scope = s};
    return (struct value){.kind = V_MACRO, .macro = m};
}

static enum flow exec_call_block(struct render *r, struct scope *s, const struct node *n)
{
    struct value callee, result;
    struct call c;
    if (!eval(r, s, n->b->a, &callee) || !eval_arguments(r, s, n->b->arguments, &c))
        return FLOW_FAILED;
    struct named_value *named = render_alloc(r, c.n_named + 1, sizeof *named);
    if (!named)
        return FLOW_FAILED;
    if (c.n_named)
        memcpy(named, c.named, c.n_named * sizeof *named);
    named[c.n_named] = (struct named_value){SLICE_LIT("caller"), new_macro(r, s, n)};
    c.named = named;
    c.n_named++;
    return flow_of(r->status == OK && eval_call(r, callee, &c, &result) && put_block(r, result));
}

/* ---- dispatch ---- */

static enum flow exec_node(struct render *r, struct scope *s, const struct node *n)
{
    struct value v;
    switch (n->kind) {
    case N_TEXT:
        return flow_of(render_put(r, n->text));
    case N_PRINT:
        return flow_of(eval(r, s, n->a, &v) && put_value(r, v));
    case N_BODY:
        return exec_body(r, s, &n->list);
    case N_IF:
        return exec_if(r, s, n);
    case N_FOR:
        return eval(r, s, n->b, &v) ? loop_run(r, s, n, v, 0) : FLOW_FAILED;
    case N_SET:
        return flow_of(eval(r, s, n->b, &v) && assign_target(r, s, n->a, v));
    case N_SET_BLOCK:
        return exec_set_block(r, s, n);
    case N_MACRO:
        v = new_macro(r, s, n);
        return flow_of(r->status == OK && scope_set(r, s, n->name, v));
    case N_CALL_BLOCK:
        return exec_call_block(r, s, n);
    case N_FILTER_BLOCK:
        return exec_filter_block(r, s, n);
    case N_WITH:
        return exec_with(r, s, n);
    case N_GENERATION: {
        struct scope *inner = scope_new(r, s);
        return inner ? exec_body(r, inner, &n->list) : FLOW_FAILED;
    }
    case N_BREAK:
        return FLOW_BREAK;
    default:
        CHECK(n->kind == N_CONTINUE);
        return FLOW_CONTINUE;
    }
}

enum flow exec_body(struct render *r, struct scope *s, const struct node_list *body)
{
    enum flow flow = FLOW_ON;
    if (!render_enter(r))
        return FLOW_FAILED;
    for (uint32_t i = 0; flow == FLOW_ON && i < body->count; i++) {
        flow = render_steps(r, 1) ? exec_node(r, s, body->items[i]) : FLOW_FAILED;
        if (flow == FLOW_FAILED && !r->has_place) {
            r->has_place = true;
            r->err.pos = body->items[i]->at;
        }
    }
    r->depth--;
    return flow;
}
