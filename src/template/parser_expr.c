/* SPDX-License-Identifier: MIT
 * parser_expr.c — expressions, by the grammar of jinja2's parser.py (3.1.6), loosest first:
 *   condition  a if b else c     not          not a              product  * / // %
 *   or                           compare      == != < <= > >= in, not in (chained)
 *   and                          sum  + -     concat  ~          power    **
 *   unary  - +, then .name [index] (call); filters and tests bind to the operand only when no
 *   sign stands before it: -x|abs is (-x)|abs. */
#include "base/check.h"
#include "template/builtin.h"
#include "template/number.h"
#include "template/parser_int.h"

static struct node *parse_unary(struct parser *p, bool with_filter);
static struct node *parse_paren(struct parser *p);

static struct node *binary(struct parser *p, enum node_kind kind, struct node *a, struct node *b,
                           uint32_t at)
{
    struct node *n = node_new(p, kind, at);
    if (!n || !a || !b)
        return NULL;
    n->a = a;
    n->b = b;
    return node_done(p, n);
}

static struct node *unary(struct parser *p, enum node_kind kind, struct node *a, uint32_t at)
{
    struct node *n = node_new(p, kind, at);
    if (!n || !a)
        return NULL;
    n->a = a;
    return node_done(p, n);
}

static struct node *constant(struct parser *p, struct value v, uint32_t at)
{
    struct node *n = node_new(p, N_CONST, at);
    if (n)
        n->constant = v;
    return n ? node_done(p, n) : NULL;
}

/* ---- primaries ---- */

static void note_name(struct parser *p, struct slice name)
{
    for (struct macro_scope *m = p->macro; m; m = m->outer) {
        m->signature->uses_caller |= slice_is(name, "caller");
        m->signature->uses_varargs |= slice_is(name, "varargs");
        m->signature->uses_kwargs |= slice_is(name, "kwargs");
    }
}

static struct node *parse_name(struct parser *p, bool with_namespace)
{
    struct token t = p->token;
    if (!parser_advance(p))
        return NULL;
    if (slice_is(t.text, "true") || slice_is(t.text, "True"))
        return constant(p, value_bool(true), t.at);
    if (slice_is(t.text, "false") || slice_is(t.text, "False"))
        return constant(p, value_bool(false), t.at);
    if (slice_is(t.text, "none") || slice_is(t.text, "None"))
        return constant(p, value_none(), t.at);
    bool is_ref = with_namespace && parser_at_operator(p, ".");
    struct node *n = node_new(p, is_ref ? N_NSREF : N_NAME, t.at);
    if (!n)
        return NULL;
    n->name = t.text;
    if (is_ref) {
        if (!parser_advance(p))
            return NULL;
        if (p->token.kind != T_NAME)
            return parser_unexpected(p, "a name");
        n->text = p->token.text;
        names_add(p, &p->assigned, n->text, t.at);
        if (!parser_advance(p))
            return NULL;
    } else {
        note_name(p, n->name);
    }
    return node_done(p, n);
}

static struct node *parse_string(struct parser *p)
{
    uint32_t at = p->token.at;
    struct slice text = p->token.text;
    if (!parser_advance(p))
        return NULL;
    while (p->token.kind == T_STRING) { /* "a" "b" is "ab" */
        char *joined = arena_alloc(p->arena, text.len + p->token.text.len, 1);
        if (!joined)
            return parser_fail(p, E_LIMIT, at, "the template is too large");
        memcpy(joined, text.ptr, text.len);
        memcpy(joined + text.len, p->token.text.ptr, p->token.text.len);
        text = (struct slice){joined, text.len + p->token.text.len};
        if (!parser_advance(p))
            return NULL;
    }
    return constant(p, value_text(text), at);
}

static struct node *parse_number(struct parser *p)
{
    struct token t = p->token;
    struct value v;
    bool ok = t.kind == T_FLOAT ? number_literal_float(t.text, &v)
                                : number_literal_int(p->arena, t.text, &v);
    if (!ok)
        return parser_fail(p, E_LIMIT, t.at, "number too large");
    if (!parser_advance(p))
        return NULL;
    return constant(p, v, t.at);
}

/* Items up to the closing bracket; a comma may come last.  Dicts: key: value. */
static struct node *parse_items(struct parser *p, enum node_kind kind, const char *close)
{
    struct node *n = node_new(p, kind, p->token.at);
    if (!n || !parser_advance(p))
        return NULL;
    while (!parser_at_operator(p, close)) {
        if (n->list.count > 0 && !parser_expect_operator(p, ","))
            return NULL;
        if (parser_at_operator(p, close))
            break;
        struct node *item = parse_expression(p, true);
        if (!item || !node_add(p, &n->list, item))
            return NULL;
        if (kind != N_DICT)
            continue;
        if (item->kind == N_CONST && item->constant.kind == V_STRING)
            names_add(p, &p->assigned, value_slice(item->constant), item->at);
        if (!parser_expect_operator(p, ":"))
            return NULL;
        if (!node_add(p, &n->list, parse_expression(p, true)))
            return NULL;
    }
    return parser_advance(p) ? node_done(p, n) : NULL;
}

static struct node *parse_primary(struct parser *p, bool with_namespace)
{
    switch (p->token.kind) {
    case T_NAME:
        return parse_name(p, with_namespace);
    case T_STRING:
        return parse_string(p);
    case T_INTEGER:
    case T_FLOAT:
        return parse_number(p);
    default:
        break;
    }
    if (parser_at_operator(p, "("))
        return parse_paren(p);
    if (parser_at_operator(p, "["))
        return parse_items(p, N_LIST, "]");
    if (parser_at_operator(p, "{"))
        return parse_items(p, N_DICT, "}");
    return parser_unexpected(p, "an expression");
}

/* ---- behind a primary ---- */

static struct node *parse_index(struct parser *p)
{
    uint32_t at = p->token.at;
    struct node *part[3] = {NULL, NULL, NULL};
    size_t n = 0;
    bool is_slice = false;
    while (n < 3) {
        bool is_empty =
            parser_at_operator(p, ":") || parser_at_operator(p, "]") || parser_at_operator(p, ",");
        if (!is_empty || (n == 0 && !parser_at_operator(p, ":"))) {
            part[n] = parse_expression(p, true);
            if (!part[n])
                return NULL;
        }
        n++;
        if (n == 3 || !parser_skip_operator(p, ":"))
            break;
        is_slice = true;
    }
    if (p->status != OK)
        return NULL;
    if (!is_slice)
        return part[0];
    struct node *s = node_new(p, N_SLICE, at);
    if (!s)
        return NULL;
    s->a = part[0];
    s->b = part[1];
    s->c = part[2];
    return node_done(p, s);
}

static struct node *parse_subscript(struct parser *p, struct node *value)
{
    struct node *n = node_new(p, N_GETITEM, p->token.at);
    if (!n || !parser_advance(p))
        return NULL;
    n->a = value;
    struct node *first = parse_index(p);
    if (!first)
        return NULL;
    n->b = first;
    if (parser_at_operator(p, ",")) {
        struct node *tuple = node_new(p, N_TUPLE, n->at);
        if (!tuple || !node_add(p, &tuple->list, first))
            return NULL;
        while (parser_skip_operator(p, ","))
            if (!node_add(p, &tuple->list, parse_index(p)))
                return NULL;
        for (uint32_t i = 0; i < tuple->list.count; i++)
            if (tuple->list.items[i]->kind == N_SLICE)
                return parser_fail(p, E_UNSUPPORTED, n->at, "a slice within a tuple index");
        n->b = node_done(p, tuple);
    }
    if (!n->b || !parser_expect_operator(p, "]"))
        return NULL;
    return node_done(p, n);
}

static struct node *parse_dot(struct parser *p, struct node *value)
{
    uint32_t at = p->token.at;
    if (!parser_advance(p))
        return NULL;
    if (p->token.kind == T_INTEGER) {
        struct node *index = parse_number(p);
        return binary(p, N_GETITEM, value, index, at);
    }
    if (p->token.kind != T_NAME)
        return parser_unexpected(p, "a name or a number");
    struct node *n = node_new(p, N_GETATTR, at);
    if (!n)
        return NULL;
    n->a = value;
    n->name = p->token.text;
    return parser_advance(p) ? node_done(p, n) : NULL;
}

static bool add_keyword(struct parser *p, struct arguments *a)
{
    struct slice name = p->token.text;
    uint32_t at = p->token.at;
    for (uint32_t i = 0; i < a->n_keywords; i++)
        if (slice_equal(a->keywords[i].name, name))
            return parser_fail(p, E_SYNTAX, at, "keyword argument repeated: " SLICE_FMT,
                               SLICE_ARG(name)) != NULL;
    if (a->n_keywords == a->cap_keywords) {
        uint32_t cap = a->cap_keywords ? a->cap_keywords * 2 : 4;
        struct keyword *grown = arena_alloc(p->arena, cap, sizeof *grown);
        if (!grown)
            return parser_fail(p, E_LIMIT, at, "the template is too large") != NULL;
        if (a->n_keywords)
            memcpy(grown, a->keywords, a->n_keywords * sizeof *grown);
        a->keywords = grown;
        a->cap_keywords = cap;
    }
    names_add(p, &p->assigned, name, at); /* namespace(f=…) may hold what is called later */
    if (!parser_advance(p) || !parser_advance(p))
        return false;
    struct node *value = parse_expression(p, true);
    if (!value)
        return false;
    a->keywords[a->n_keywords++] = (struct keyword){name, value};
    return true;
}

static bool add_argument(struct parser *p, struct arguments *a)
{
    bool is_keyword =
        p->token.kind == T_NAME && p->next.kind == T_OPERATOR && slice_is(p->next.text, "=");
    bool is_star = parser_at_operator(p, "*"), is_star_star = parser_at_operator(p, "**");
    bool is_late = a->star_star || (!is_star_star && !is_keyword && a->star) ||
                   (!is_star_star && !is_keyword && !is_star && a->n_keywords);
    if (is_late)
        return parser_fail(p, E_SYNTAX, p->token.at, "argument out of order in a call") != NULL;
    if (is_keyword)
        return add_keyword(p, a);
    if (is_star || is_star_star) {
        if (!parser_advance(p))
            return false;
        struct node *value = parse_expression(p, true);
        *(is_star ? &a->star : &a->star_star) = value;
        return value != NULL;
    }
    return node_add(p, &a->positional, parse_expression(p, true));
}

static struct arguments *parse_arguments(struct parser *p)
{
    struct arguments *a = arena_alloc(p->arena, 1, sizeof *a);
    if (!a || !parser_advance(p))
        return NULL;
    bool needs_comma = false;
    while (!parser_at_operator(p, ")")) {
        if (needs_comma && !parser_expect_operator(p, ","))
            return NULL;
        if (parser_at_operator(p, ")"))
            break;
        if (!add_argument(p, a))
            return NULL;
        needs_comma = true;
    }
    return parser_advance(p) ? a : NULL;
}

static struct node *parse_call(struct parser *p, struct node *callee)
{
    struct node *n = node_new(p, N_CALL, p->token.at);
    if (!n)
        return NULL;
    n->a = callee;
    if (callee->kind == N_NAME)
        names_add(p, &p->called, callee->name, callee->at);
    if (callee->kind == N_GETATTR)
        names_add(p, &p->methods, callee->name, callee->at);
    n->arguments = parse_arguments(p);
    return n->arguments ? node_done(p, n) : NULL;
}

static struct node *parse_postfix(struct parser *p, struct node *n)
{
    while (n) {
        if (parser_at_operator(p, "."))
            n = parse_dot(p, n);
        else if (parser_at_operator(p, "["))
            n = parse_subscript(p, n);
        else if (parser_at_operator(p, "("))
            n = parse_call(p, n);
        else
            break;
    }
    return n;
}

/* ---- filters and tests ---- */

/* map('upper'), select('odd'), selectattr('a', 'odd'): the name in the arguments must exist too. */
static bool check_indirect(struct parser *p, const struct node *n)
{
    const struct node_list *args = &n->arguments->positional;
    bool is_map = slice_is(n->name, "map");
    bool is_select = slice_is(n->name, "select") || slice_is(n->name, "reject");
    bool is_attr = slice_is(n->name, "selectattr") || slice_is(n->name, "rejectattr");
    uint32_t at = is_attr ? 1 : 0;
    if (!(is_map || is_select || is_attr) || args->count <= at)
        return true;
    const struct node *arg = args->items[at];
    if (arg->kind != N_CONST || arg->constant.kind != V_STRING)
        return true;
    struct slice name = value_slice(arg->constant);
    if (is_map ? builtin_filter(name) != NULL : builtin_test(name) != NULL)
        return true;
    return parser_fail(p, E_UNSUPPORTED, arg->at, "unknown %s '" SLICE_FMT "'",
                       is_map ? "filter" : "test", SLICE_ARG(name)) != NULL;
}

/* A filter's or test's name, which may have dots. */
static bool take_dotted_name(struct parser *p, struct slice *out)
{
    if (p->token.kind != T_NAME)
        return parser_unexpected(p, "a name") != NULL;
    *out = p->token.text;
    if (!parser_advance(p))
        return false;
    if (parser_at_operator(p, "."))
        return parser_fail(p, E_UNSUPPORTED, p->token.at,
                           "a filter or test with a dot in its name") != NULL;
    return true;
}

struct node *parse_filter(struct parser *p, struct node *value)
{
    struct node *n = node_new(p, N_FILTER, p->token.at);
    if (!n || !take_dotted_name(p, &n->name))
        return NULL;
    n->a = value;
    n->builtin = builtin_filter(n->name);
    if (!n->builtin)
        return parser_fail(p, E_UNSUPPORTED, n->at, "unknown filter '" SLICE_FMT "'",
                           SLICE_ARG(n->name));
    n->arguments = parser_at_operator(p, "(") ? parse_arguments(p)
                                              : arena_alloc(p->arena, 1, sizeof *n->arguments);
    if (!n->arguments || !check_indirect(p, n))
        return NULL;
    return node_done(p, n);
}

struct node *parse_filters(struct parser *p, struct node *value)
{
    while (p->status == OK && parser_skip_operator(p, "|"))
        value = parse_filter(p, value);
    return p->status == OK ? value : NULL;
}

static bool starts_test_argument(const struct parser *p)
{
    switch (p->token.kind) {
    case T_NAME:
        return !parser_at_name(p, "else") && !parser_at_name(p, "or") && !parser_at_name(p, "and");
    case T_STRING:
    case T_INTEGER:
    case T_FLOAT:
        return true;
    default:
        return parser_at_operator(p, "[") || parser_at_operator(p, "{");
    }
}

static struct arguments *parse_test_arguments(struct parser *p)
{
    if (parser_at_operator(p, "("))
        return parse_arguments(p);
    struct arguments *a = arena_alloc(p->arena, 1, sizeof *a);
    if (!a || !starts_test_argument(p))
        return a;
    if (parser_at_name(p, "is")) {
        parser_fail(p, E_SYNTAX, p->token.at, "tests cannot be chained with is");
        return NULL;
    }
    struct node *arg = parse_postfix(p, parse_primary(p, false));
    return node_add(p, &a->positional, arg) ? a : NULL;
}

static struct node *parse_test(struct parser *p, struct node *value)
{
    uint32_t at = p->token.at;
    if (!parser_advance(p))
        return NULL;
    bool is_negated = parser_skip_name(p, "not");
    struct node *n = node_new(p, N_TEST, p->token.at);
    if (!n || p->status != OK || !take_dotted_name(p, &n->name))
        return NULL;
    n->a = value;
    n->builtin = builtin_test(n->name);
    if (!n->builtin)
        return parser_fail(p, E_UNSUPPORTED, n->at, "unknown test '" SLICE_FMT "'",
                           SLICE_ARG(n->name));
    bool is_guard = slice_is(n->name, "defined") || slice_is(n->name, "undefined") ||
                    slice_is(n->name, "callable");
    if (is_guard && (value->kind == N_NAME || value->kind == N_GETATTR))
        names_add(p, &p->guarded, value->name, value->at);
    n->arguments = parse_test_arguments(p);
    if (!n->arguments)
        return NULL;
    struct node *test = node_done(p, n);
    return is_negated ? unary(p, N_NOT, test, at) : test;
}

static struct node *parse_filter_chain(struct parser *p, struct node *n)
{
    while (n) {
        if (parser_skip_operator(p, "|"))
            n = parse_filter(p, n);
        else if (p->status != OK)
            return NULL;
        else if (parser_at_name(p, "is"))
            n = parse_test(p, n);
        else if (parser_at_operator(p, "("))
            n = parse_call(p, n);
        else
            break;
    }
    return n;
}

/* ---- operators ---- */

static struct node *parse_unary(struct parser *p, bool with_filter)
{
    uint32_t at = p->token.at;
    bool is_minus = parser_at_operator(p, "-"), is_plus = parser_at_operator(p, "+");
    struct node *n;
    if (!parser_enter(p))
        return NULL;
    if (is_minus || is_plus)
        n = parser_advance(p)
                ? unary(p, is_minus ? N_NEGATE : N_POSITIVE, parse_unary(p, false), at)
                : NULL;
    else
        n = parse_primary(p, false);
    p->depth--;
    n = parse_postfix(p, n);
    return with_filter ? parse_filter_chain(p, n) : n;
}

struct operator_row {
    const char *text;
    enum binary_op op;
};

/* The operator at hand from the rows, taken; false when none is. */
static bool take_binary(struct parser *p, const struct operator_row *rows, size_t n,
                        enum binary_op *op)
{
    for (size_t i = 0; i < n; i++) {
        if (parser_at_operator(p, rows[i].text)) {
            *op = rows[i].op;
            return parser_advance(p);
        }
    }
    return false;
}

static struct node *with_op(struct node *n, enum binary_op op)
{
    if (n)
        n->op = (uint8_t)op;
    return n;
}

static struct node *parse_power(struct parser *p)
{
    static const struct operator_row rows[] = {{"**", OP_POW}};
    uint32_t at = p->token.at;
    enum binary_op op;
    struct node *left = parse_unary(p, true);
    while (left && take_binary(p, rows, 1, &op))
        left = with_op(binary(p, N_BINARY, left, parse_unary(p, true), at), op);
    return p->status == OK ? left : NULL;
}

static struct node *parse_product(struct parser *p)
{
    static const struct operator_row rows[] = {
        {"*", OP_MUL}, {"/", OP_DIV}, {"//", OP_FLOOR_DIV}, {"%", OP_MOD}};
    uint32_t at = p->token.at;
    enum binary_op op;
    struct node *left = parse_power(p);
    while (left && take_binary(p, rows, 4, &op))
        left = with_op(binary(p, N_BINARY, left, parse_power(p), at), op);
    return p->status == OK ? left : NULL;
}

static struct node *parse_concat(struct parser *p)
{
    uint32_t at = p->token.at;
    struct node *first = parse_product(p);
    if (!first || !parser_at_operator(p, "~"))
        return first;
    struct node *n = node_new(p, N_CONCAT, at);
    if (!n || !node_add(p, &n->list, first))
        return NULL;
    while (parser_skip_operator(p, "~"))
        if (!node_add(p, &n->list, parse_product(p)))
            return NULL;
    return p->status == OK ? node_done(p, n) : NULL;
}

static struct node *parse_sum(struct parser *p)
{
    static const struct operator_row rows[] = {{"+", OP_ADD}, {"-", OP_SUB}};
    uint32_t at = p->token.at;
    enum binary_op op;
    struct node *left = parse_concat(p);
    while (left && take_binary(p, rows, 2, &op))
        left = with_op(binary(p, N_BINARY, left, parse_concat(p), at), op);
    return p->status == OK ? left : NULL;
}

static bool take_comparison(struct parser *p, enum compare_op *op)
{
    static const char *const texts[] = {[CMP_EQ] = "==", [CMP_NE] = "!=", [CMP_LT] = "<",
                                        [CMP_LE] = "<=", [CMP_GT] = ">",  [CMP_GE] = ">="};
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        if (parser_at_operator(p, texts[i])) {
            *op = (enum compare_op)i;
            return parser_advance(p);
        }
    }
    if (parser_at_name(p, "in")) {
        *op = CMP_IN;
        return parser_advance(p);
    }
    if (parser_at_name(p, "not") && p->next.kind == T_NAME && slice_is(p->next.text, "in")) {
        *op = CMP_NOT_IN;
        return parser_advance(p) && parser_advance(p);
    }
    return false;
}

static struct node *parse_compare(struct parser *p)
{
    uint32_t at = p->token.at;
    enum compare_op op;
    uint8_t ops[TEMPLATE_DEPTH_MAX]; /* a chain that long is no template */
    struct node *first = parse_sum(p);
    struct node *n = NULL;
    while (first && take_comparison(p, &op)) {
        if (!n) {
            n = node_new(p, N_COMPARE, at);
            if (!n)
                return NULL;
            n->a = first;
        }
        if (n->list.count == TEMPLATE_DEPTH_MAX)
            return parser_fail(p, E_LIMIT, at, "more than %d comparisons in a row",
                               TEMPLATE_DEPTH_MAX);
        ops[n->list.count] = (uint8_t)op;
        if (!node_add(p, &n->list, parse_sum(p)))
            return NULL;
    }
    if (p->status != OK || !n)
        return p->status == OK ? first : NULL;
    n->ops = arena_alloc(p->arena, n->list.count, 1);
    if (!n->ops)
        return parser_fail(p, E_LIMIT, at, "the template is too large");
    memcpy(n->ops, ops, n->list.count);
    return node_done(p, n);
}

static struct node *parse_not(struct parser *p)
{
    uint32_t at = p->token.at;
    if (!parser_at_name(p, "not"))
        return parse_compare(p);
    if (!parser_enter(p) || !parser_advance(p))
        return NULL;
    struct node *n = unary(p, N_NOT, parse_not(p), at);
    p->depth--;
    return n;
}

static struct node *parse_and(struct parser *p)
{
    uint32_t at = p->token.at;
    struct node *left = parse_not(p);
    while (left && parser_skip_name(p, "and"))
        left = binary(p, N_AND, left, parse_not(p), at);
    return p->status == OK ? left : NULL;
}

static struct node *parse_or(struct parser *p)
{
    uint32_t at = p->token.at;
    struct node *left = parse_and(p);
    while (left && parser_skip_name(p, "or"))
        left = binary(p, N_OR, left, parse_and(p), at);
    return p->status == OK ? left : NULL;
}

static struct node *parse_condition(struct parser *p)
{
    struct node *value = parse_or(p);
    while (value && parser_skip_name(p, "if")) {
        struct node *n = node_new(p, N_COND, value->at);
        if (!n)
            return NULL;
        n->a = value;
        n->b = parse_or(p);
        if (!n->b)
            return NULL;
        if (parser_skip_name(p, "else")) {
            n->c = parse_condition(p);
            if (!n->c)
                return NULL;
        }
        value = node_done(p, n);
    }
    return p->status == OK ? value : NULL;
}

struct node *parse_expression(struct parser *p, bool with_condition)
{
    if (!parser_enter(p))
        return NULL;
    struct node *n = with_condition ? parse_condition(p) : parse_or(p);
    p->depth--;
    return n;
}

/* ---- tuples and targets ---- */

static bool at_tuple_end(const struct parser *p, const char *end)
{
    return p->token.kind == T_VARIABLE_END || p->token.kind == T_BLOCK_END ||
           parser_at_operator(p, ")") || (end && parser_at_name(p, end));
}

enum tuple_mode { TUPLE_EXPRESSION, TUPLE_NO_CONDITION, TUPLE_TARGET, TUPLE_TARGET_NAMESPACE };

static struct node *parse_tuple_item(struct parser *p, enum tuple_mode mode)
{
    if (mode == TUPLE_TARGET || mode == TUPLE_TARGET_NAMESPACE)
        return parse_primary(p, mode == TUPLE_TARGET_NAMESPACE);
    return parse_expression(p, mode == TUPLE_EXPRESSION);
}

/* One item is itself; a comma makes a tuple.  in_parens: () is the empty tuple. */
static struct node *parse_tuple_as(struct parser *p, enum tuple_mode mode, const char *end,
                                   bool in_parens)
{
    struct node *n = node_new(p, N_TUPLE, p->token.at);
    bool is_tuple = false;
    if (!n)
        return NULL;
    for (;;) {
        if (n->list.count > 0 && !parser_expect_operator(p, ","))
            return NULL;
        if (at_tuple_end(p, end))
            break;
        if (!node_add(p, &n->list, parse_tuple_item(p, mode)))
            return NULL;
        if (!parser_at_operator(p, ","))
            break;
        is_tuple = true;
    }
    if (!is_tuple && n->list.count)
        return n->list.items[0];
    if (!is_tuple && !in_parens)
        return parser_unexpected(p, "an expression");
    return node_done(p, n);
}

static struct node *parse_paren(struct parser *p)
{
    if (!parser_enter(p) || !parser_advance(p))
        return NULL;
    struct node *n = parse_tuple_as(p, TUPLE_EXPRESSION, NULL, true);
    p->depth--;
    return n && parser_expect_operator(p, ")") ? n : NULL;
}

struct node *parse_tuple(struct parser *p, bool with_condition, const char *end)
{
    return parse_tuple_as(p, with_condition ? TUPLE_EXPRESSION : TUPLE_NO_CONDITION, end, false);
}

/* Names are noted as assigned; anything but names, tuples of them and namespace attributes is no
 * target. */
static bool check_target(struct parser *p, struct node *n)
{
    if (n->kind == N_NSREF)
        return true;
    if (n->kind == N_NAME) {
        names_add(p, &p->assigned, n->name, n->at);
        return true;
    }
    if (n->kind != N_TUPLE)
        return parser_fail(p, E_SYNTAX, n->at, "can't assign to this expression") != NULL;
    for (uint32_t i = 0; i < n->list.count; i++)
        if (!check_target(p, n->list.items[i]))
            return false;
    return true;
}

struct node *parse_target(struct parser *p, bool with_namespace, const char *end)
{
    struct node *n =
        parse_tuple_as(p, with_namespace ? TUPLE_TARGET_NAMESPACE : TUPLE_TARGET, end, false);
    return n && check_target(p, n) ? n : NULL;
}
