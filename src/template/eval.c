/* SPDX-License-Identifier: MIT
 * eval.c — expressions. */
#include "base/check.h"
#include "template/render.h"

/* ---- names ---- */

struct scope *scope_new(struct render *r, struct scope *outer)
{
    struct scope *s = render_alloc(r, 1, sizeof *s);
    if (s)
        s->outer = outer;
    return s;
}

static struct binding *find_here(const struct scope *s, struct slice name)
{
    for (struct binding *b = s->bindings; b; b = b->next)
        if (slice_equal(b->name, name))
            return b;
    return NULL;
}

bool scope_set(struct render *r, struct scope *s, struct slice name, struct value v)
{
    struct binding *b = find_here(s, name);
    if (!b) {
        b = render_alloc(r, 1, sizeof *b);
        if (!b)
            return false;
        b->name = name;
        b->next = s->bindings;
        s->bindings = b;
    }
    b->value = v;
    return true;
}

static struct value look_up(struct render *r, const struct scope *s, struct slice name)
{
    for (; s; s = s->outer) {
        const struct binding *b = find_here(s, name);
        if (b)
            return b->value;
    }
    const struct builtin *global = builtin_global(name);
    if (global)
        return (struct value){.kind = V_FUNCTION, .function = global};
    return value_undefined_named(r, name);
}

/* ---- literals ---- */

static bool eval_list(struct render *r, struct scope *s, const struct node *n, struct value *out)
{
    struct value *items = render_alloc(r, n->list.count, sizeof *items);
    if (!items)
        return false;
    for (uint32_t i = 0; i < n->list.count; i++)
        if (!eval(r, s, n->list.items[i], &items[i]))
            return false;
    *out = value_items(n->kind == N_LIST ? V_LIST : V_TUPLE, items, n->list.count);
    return true;
}

static bool eval_dict(struct render *r, struct scope *s, const struct node *n, struct value *out)
{
    struct pair *pairs = render_alloc(r, n->list.count / 2, sizeof *pairs);
    size_t count = 0, at;
    if (!pairs)
        return false;
    for (uint32_t i = 0; i + 1 < n->list.count; i += 2) {
        struct pair p;
        if (!eval(r, s, n->list.items[i], &p.key) || !eval(r, s, n->list.items[i + 1], &p.value) ||
            !value_hashable(r, p.key))
            return false;
        if (value_find(r, pairs, count, p.key, &at))
            pairs[at].value = p.value;
        else
            pairs[count++] = p;
    }
    *out = (struct value){.kind = V_DICT, .len = count, .pairs = pairs};
    return r->status == OK;
}

/* ---- operators ---- */

static bool eval_concat(struct render *r, struct scope *s, const struct node *n, struct value *out)
{
    *out = value_text((struct slice){"", 0});
    for (uint32_t i = 0; i < n->list.count; i++) {
        struct value v;
        struct slice text;
        if (!eval(r, s, n->list.items[i], &v) || !text_str(r, v, &text))
            return false;
        if (i == 0 && v.kind == V_STRING) { /* may have room behind it */
            *out = v;
            out->flag &= (uint8_t)~STRING_SAFE;
        } else if (!text_concat(r, *out, text, out)) {
            return false;
        }
    }
    return true;
}

static bool compare_pair(struct render *r, enum compare_op op, struct value a, struct value b,
                         bool *out)
{
    static const char *const symbols[] = {
        [CMP_LT] = "<", [CMP_LE] = "<=", [CMP_GT] = ">", [CMP_GE] = ">="};
    int c;
    bool is_unordered;
    switch (op) {
    case CMP_EQ:
    case CMP_NE:
        if (!value_equal(r, a, b, out))
            return false;
        *out ^= op == CMP_NE;
        return true;
    case CMP_IN:
    case CMP_NOT_IN:
        if (!value_contains(r, a, b, out))
            return false;
        *out ^= op == CMP_NOT_IN;
        return true;
    default:
        if (!value_compare(r, a, b, symbols[op], &c, &is_unordered))
            return false;
        *out = !is_unordered && (op == CMP_LT   ? c < 0
                                 : op == CMP_LE ? c <= 0
                                 : op == CMP_GT ? c > 0
                                                : c >= 0);
        return true;
    }
}

/* a < b < c: b is evaluated once, and c not at all when a < b is false. */
static bool eval_compare(struct render *r, struct scope *s, const struct node *n, struct value *out)
{
    struct value left, right;
    bool result = true;
    if (!eval(r, s, n->a, &left))
        return false;
    for (uint32_t i = 0; result && i < n->list.count; i++) {
        if (!eval(r, s, n->list.items[i], &right) ||
            !compare_pair(r, (enum compare_op)n->ops[i], left, right, &result))
            return false;
        left = right;
    }
    *out = value_bool(result);
    return true;
}

static bool eval_condition(struct render *r, struct scope *s, const struct node *n,
                           struct value *out)
{
    struct value test;
    if (!eval(r, s, n->b, &test))
        return false;
    if (value_truth(test))
        return eval(r, s, n->a, out);
    if (n->c)
        return eval(r, s, n->c, out);
    *out = value_undefined_hint(
        r, SLICE_LIT("the inline if-expression evaluated to false and has no else section"));
    return r->status == OK;
}

static bool eval_logic(struct render *r, struct scope *s, const struct node *n, struct value *out)
{
    if (!eval(r, s, n->a, out))
        return false;
    if (value_truth(*out) == (n->kind == N_OR))
        return true;
    return eval(r, s, n->b, out);
}

static bool eval_binary(struct render *r, struct scope *s, const struct node *n, struct value *out)
{
    struct value a, b;
    return eval(r, s, n->a, &a) && eval(r, s, n->b, &b) &&
           operate(r, (enum binary_op)n->op, a, b, out);
}

/* ---- access ---- */

static bool eval_item(struct render *r, struct scope *s, const struct node *n, struct value *out)
{
    struct value v, key, bounds[3];
    if (!eval(r, s, n->a, &v))
        return false;
    if (n->b->kind != N_SLICE)
        return eval(r, s, n->b, &key) && attribute_item(r, v, key, out);
    const struct node *const parts[3] = {n->b->a, n->b->b, n->b->c};
    for (size_t i = 0; i < 3; i++) {
        bounds[i] = value_none();
        if (parts[i] && !eval(r, s, parts[i], &bounds[i]))
            return false;
    }
    return attribute_slice(r, v, bounds, out);
}

/* ---- calls ---- */

static bool add_star(struct render *r, struct scope *s, const struct node *star,
                     struct value **args, size_t *n)
{
    struct value v;
    const struct value *items;
    size_t count;
    if (!eval(r, s, star, &v) || !value_iterate(r, v, &items, &count))
        return false;
    struct value *all = render_alloc(r, *n + count, sizeof *all);
    if (!all)
        return false;
    if (*n)
        memcpy(all, *args, *n * sizeof *all);
    if (count)
        memcpy(all + *n, items, count * sizeof *all);
    *args = all;
    *n += count;
    return render_steps(r, count / 4);
}

static bool add_star_star(struct render *r, struct scope *s, const struct node *star,
                          struct named_value **named, size_t *n)
{
    struct value v;
    if (!eval(r, s, star, &v))
        return false;
    if (v.kind != V_DICT)
        return render_fail(r, E_INVALID, "argument after ** must be a mapping, not %s",
                           value_type_name(v));
    struct named_value *all = render_alloc(r, *n + v.len, sizeof *all);
    if (!all || !render_steps(r, v.len * (*n + 1) / 8))
        return false;
    if (*n)
        memcpy(all, *named, *n * sizeof *all);
    for (size_t i = 0; i < v.len; i++) {
        if (v.pairs[i].key.kind != V_STRING)
            return render_fail(r, E_INVALID, "keywords must be strings");
        struct slice name = value_slice(v.pairs[i].key);
        for (size_t k = 0; k < *n; k++)
            if (slice_equal(all[k].name, name))
                return render_fail(r, E_INVALID, "got multiple values for a keyword argument");
        all[*n + i] = (struct named_value){name, v.pairs[i].value};
    }
    *named = all;
    *n += v.len;
    return true;
}

bool eval_arguments(struct render *r, struct scope *s, const struct arguments *a, struct call *out)
{
    size_t n = a->positional.count, n_named = a->n_keywords;
    struct value *args = n ? render_alloc(r, n, sizeof *args) : NULL;
    struct named_value *named = n_named ? render_alloc(r, n_named, sizeof *named) : NULL;
    if ((n && !args) || (n_named && !named))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!eval(r, s, a->positional.items[i], &args[i]))
            return false;
    if (a->star && !add_star(r, s, a->star, &args, &n))
        return false;
    for (size_t i = 0; i < n_named; i++) {
        named[i].name = a->keywords[i].name;
        if (!eval(r, s, a->keywords[i].value, &named[i].value))
            return false;
    }
    if (a->star_star && !add_star_star(r, s, a->star_star, &named, &n_named))
        return false;
    *out = (struct call){args, n, named, n_named};
    return true;
}

static bool call_joiner(struct joiner *j, struct value *out)
{
    *out = j->is_used ? j->separator : value_text((struct slice){"", 0});
    j->is_used = true;
    return true;
}

bool eval_call(struct render *r, struct value callee, const struct call *c, struct value *out)
{
    switch (callee.kind) {
    case V_FUNCTION:
        return builtin_run(r, callee.function, value_none(), c, out);
    case V_METHOD:
        return builtin_run(r, callee.method->function, callee.method->self, c, out);
    case V_MACRO:
        return macro_call(r, callee.macro, c, out);
    case V_LOOP:
        return loop_recurse(r, callee.loop, c, out);
    case V_JOINER:
        return call_joiner(callee.joiner, out);
    case V_UNDEFINED:
        return render_fail_undefined(r, callee);
    default:
        return render_fail(r, E_INVALID, "'%s' object is not callable", value_type_name(callee));
    }
}

static bool eval_call_node(struct render *r, struct scope *s, const struct node *n,
                           struct value *out)
{
    struct value callee;
    struct call c;
    return eval(r, s, n->a, &callee) && eval_arguments(r, s, n->arguments, &c) &&
           eval_call(r, callee, &c, out);
}

static bool run_builtin_node(struct render *r, struct scope *s, const struct node *n,
                             struct value in, struct value *out)
{
    struct call c;
    return eval_arguments(r, s, n->arguments, &c) && builtin_run(r, n->builtin, in, &c, out);
}

static bool eval_builtin(struct render *r, struct scope *s, const struct node *n, struct value *out)
{
    struct value in;
    return eval(r, s, n->a, &in) && run_builtin_node(r, s, n, in, out);
}

bool eval_filters(struct render *r, struct scope *s, const struct node *n, struct value in,
                  struct value *out)
{
    CHECK(n->kind == N_FILTER);
    if (!render_enter(r))
        return false;
    bool ok = !n->a || eval_filters(r, s, n->a, in, &in);
    ok = ok && run_builtin_node(r, s, n, in, out);
    r->depth--;
    return ok;
}

/* ---- dispatch ---- */

static bool eval_node(struct render *r, struct scope *s, const struct node *n, struct value *out)
{
    struct value v;
    switch (n->kind) {
    case N_CONST:
        *out = n->constant;
        return true;
    case N_NAME:
        *out = look_up(r, s, n->name);
        return r->status == OK;
    case N_TUPLE:
    case N_LIST:
        return eval_list(r, s, n, out);
    case N_DICT:
        return eval_dict(r, s, n, out);
    case N_COND:
        return eval_condition(r, s, n, out);
    case N_OR:
    case N_AND:
        return eval_logic(r, s, n, out);
    case N_NOT:
        if (!eval(r, s, n->a, &v))
            return false;
        *out = value_bool(!value_truth(v));
        return true;
    case N_COMPARE:
        return eval_compare(r, s, n, out);
    case N_BINARY:
        return eval_binary(r, s, n, out);
    case N_NEGATE:
        return eval(r, s, n->a, &v) && operate_negate(r, v, out);
    case N_POSITIVE:
        return eval(r, s, n->a, &v) && operate_positive(r, v, out);
    case N_CONCAT:
        return eval_concat(r, s, n, out);
    case N_GETATTR:
        return eval(r, s, n->a, &v) && attribute_get(r, v, n->name, out);
    case N_GETITEM:
        return eval_item(r, s, n, out);
    case N_CALL:
        return eval_call_node(r, s, n, out);
    default:
        CHECK(n->kind == N_FILTER || n->kind == N_TEST);
        return eval_builtin(r, s, n, out);
    }
}

bool eval(struct render *r, struct scope *s, const struct node *n, struct value *out)
{
    if (!render_steps(r, 1) || !render_enter(r))
        return false;
    bool ok = eval_node(r, s, n, out);
    r->depth--;
    if (!ok && !r->has_place) {
        r->has_place = true;
        r->err.pos = n->at;
    }
    return ok;
}
