/* SPDX-License-Identifier: MIT
 * schema_value.c — any value, and values that are listed by enum and const. */
#include <string.h>

#include "base/mem.h"
#include "grammar/schema_int.h"

#define LISTED_BYTES_MAX (1u << 20)

/* ---- rules that all share ---- */
static const struct expr *shared(struct schema *s, uint32_t *rule, const char *name,
                                 const struct expr *(*body)(struct schema *s))
{
    struct err e;
    if (*rule == UINT32_MAX) {
        if (rules_add(&s->rules, slice_of(name), rule, &e) != OK)
            return NULL;
        const struct expr *x = body(s);
        if (!x)
            return NULL;
        s->rules.rules[*rule].body = x;
    }
    return expr_call(&s->rules.arena, *rule);
}

/* Nothing, one space, or a line end and an indent: what models write, with an end. */
static const struct expr *space_body(struct schema *s)
{
    struct arena *a = &s->rules.arena;
    static const struct code_range blank[] = {{'\t', '\t'}, {' ', ' '}};
    const struct expr *indent = expr_repeat(a, expr_class(a, blank, 2), 0, 40);
    const struct expr *ways[] = {expr_lit(a, ""), expr_lit(a, " "),
                                 EXPR_SEQ(a, expr_lit(a, "\n"), indent)};
    return expr_list(a, EXPR_CHOICE, ways, 3);
}

const struct expr *schema_space(struct schema *s)
{
    return shared(s, &s->rules.space, "space", space_body);
}

/* RFC 8259, but for surrogates, which must come in pairs. */
static const struct expr *string_body(struct schema *s)
{
    struct arena *a = &s->rules.arena;
    static const struct code_range plain[] = {
        {0x20, '"' - 1}, {'"' + 1, '\\' - 1}, {'\\' + 1, CODE_POINT_MAX}};
    static const struct code_range letter[] = {{'"', '"'}, {'/', '/'}, {'\\', '\\'}, {'b', 'b'},
                                               {'f', 'f'}, {'n', 'n'}, {'r', 'r'},   {'t', 't'}};
    static const struct code_range hex[] = {{'0', '9'}, {'A', 'F'}, {'a', 'f'}};
    static const struct code_range not_d[] = {
        {'0', '9'}, {'A', 'C'}, {'E', 'F'}, {'a', 'c'}, {'e', 'f'}};
    static const struct code_range d[] = {{'D', 'D'}, {'d', 'd'}}, low[] = {{'0', '7'}};
    static const struct code_range first[] = {{'8', '9'}, {'A', 'B'}, {'a', 'b'}};
    static const struct code_range second[] = {{'C', 'F'}, {'c', 'f'}};
    const struct expr *x = expr_class(a, hex, 3), *slash_u = expr_lit(a, "\\u");
    const struct expr *ways[] = {
        expr_class(a, plain, 3), EXPR_SEQ(a, expr_lit(a, "\\"), expr_class(a, letter, 8)),
        EXPR_SEQ(a, slash_u, expr_class(a, not_d, 5), x, x, x),
        EXPR_SEQ(a, slash_u, expr_class(a, d, 2), expr_class(a, low, 1), x, x),
        EXPR_SEQ(a, slash_u, expr_class(a, d, 2), expr_class(a, first, 3), x, x, slash_u,
                 expr_class(a, d, 2), expr_class(a, second, 2), x, x)};
    const struct expr *body = expr_repeat(a, expr_list(a, EXPR_CHOICE, ways, 5), 0, EXPR_MANY);
    return EXPR_SEQ(a, expr_lit(a, "\""), body, expr_lit(a, "\""));
}

const struct expr *schema_string(struct schema *s)
{
    return shared(s, &s->rules.string, "string", string_body);
}

static const struct expr *list_of(struct schema *s, const char *open, const struct expr *item,
                                  const char *close)
{
    struct arena *a = &s->rules.arena;
    const struct expr *space = schema_space(s);
    const struct expr *more =
        expr_repeat(a, EXPR_SEQ(a, space, expr_lit(a, ","), space, item), 0, EXPR_MANY);
    const struct expr *some = EXPR_SEQ(a, space, item, more);
    return EXPR_SEQ(a, expr_lit(a, open), expr_repeat(a, some, 0, 1), space, expr_lit(a, close));
}

static const struct expr *value_body(struct schema *s)
{
    struct arena *a = &s->rules.arena;
    struct conjunction none = {.n = 0};
    const struct expr *number, *value = expr_call(a, s->rules.value), *space = schema_space(s);
    if (schema_number(s, &none, TYPE_INTEGER | TYPE_FRACTION, &number) != OK)
        return NULL;
    const struct expr *pair = EXPR_SEQ(a, schema_string(s), space, expr_lit(a, ":"), space, value);
    const struct expr *ways[] = {
        expr_lit(a, "null"), expr_lit(a, "true"),         expr_lit(a, "false"),      number,
        schema_string(s),    list_of(s, "[", value, "]"), list_of(s, "{", pair, "}")};
    return expr_list(a, EXPR_CHOICE, ways, 7);
}

const struct expr *schema_value(struct schema *s)
{
    return shared(s, &s->rules.value, "value", value_body);
}

/* ---- comparing ---- */
uint32_t type_of_value(const struct json *v)
{
    switch (v->kind) {
    case JSON_NULL:
        return TYPE_NULL;
    case JSON_BOOL:
        return TYPE_BOOLEAN;
    case JSON_INT:
        return TYPE_INTEGER;
    case JSON_REAL: /* beyond 2^53 every double is whole */
        return v->real >= 0x1p53 || v->real <= -0x1p53 || v->real == (double)(int64_t)v->real
                   ? TYPE_INTEGER
                   : TYPE_FRACTION;
    case JSON_STRING:
        return TYPE_STRING;
    case JSON_ARRAY:
        return TYPE_ARRAY;
    case JSON_OBJECT:
        return TYPE_OBJECT;
    }
    return 0;
}

/* As JSON schema compares: 1 and 1.0 are equal, members in any order.  Depth ≤ JSON_DEPTH_MAX. */
bool json_equal(const struct json *a, const struct json *b)
{
    bool are_numbers = (a->kind == JSON_INT || a->kind == JSON_REAL) &&
                       (b->kind == JSON_INT || b->kind == JSON_REAL);
    if (are_numbers)
        return a->kind == JSON_INT && b->kind == JSON_INT ? a->integer == b->integer
                                                          : a->real == b->real;
    if (a->kind != b->kind)
        return false;
    if (a->kind == JSON_BOOL)
        return a->boolean == b->boolean;
    if (a->kind == JSON_STRING)
        return slice_equal(a->text, b->text);
    if (a->count != b->count)
        return false;
    for (size_t i = 0; a->kind == JSON_ARRAY && i < a->count; i++)
        if (!json_equal(&a->items[i], &b->items[i]))
            return false;
    for (size_t i = 0; a->kind == JSON_OBJECT && i < a->count; i++) {
        size_t j = 0;
        while (j < b->count && !slice_equal(a->members[i].key, b->members[j].key))
            j++;
        if (j == b->count || !json_equal(&a->members[i].value, &b->members[j].value))
            return false;
    }
    return true;
}

/* ---- enum and const ---- */
static bool list_has(const struct json *list, const struct json *v)
{
    for (size_t i = 0; i < list->count; i++)
        if (json_equal(&list->items[i], v))
            return true;
    return false;
}

static bool all_lists_have(const struct conjunction *c, const struct json *v)
{
    for (uint32_t i = 0; i < c->n; i++) {
        const struct json *list = json_get(c->members[i], "enum");
        const struct json *one = json_get(c->members[i], "const");
        if ((list && !list_has(list, v)) || (one && !json_equal(one, v)))
            return false;
    }
    return true;
}

/* Does any member say more than which values there are, and of which types? */
static bool has_other_rules(const struct conjunction *c)
{
    static const char *const plain[] = {"enum",  "const",   "title",   "description", "default",
                                        "$id",   "$schema", "$defs",   "definitions", "examples",
                                        "allOf", "$ref",    "$anchor", "type"};
    for (uint32_t i = 0; i < c->n; i++)
        for (size_t j = 0; j < c->members[i]->count; j++) {
            bool is_plain = false;
            for (size_t k = 0; k < sizeof plain / sizeof *plain; k++)
                is_plain |= slice_is(c->members[i]->members[j].key, plain[k]);
            if (!is_plain)
                return true;
        }
    return false;
}

/* The grammar of everything but the lists, against which each listed value is read. */
static enum status grammar_of_others(struct schema *s, const struct conjunction *c,
                                     struct grammar **out)
{
    struct schema other = {.root = s->root,
                           .old_refs = s->old_refs,
                           .depth = s->depth + 1,
                           .no_values = true,
                           .e = s->e};
    const struct expr *x;
    uint32_t root;
    if (other.depth > SCHEMA_DEPTH_MAX)
        return err_set(s->e, E_LIMIT, "schema: nested deeper than %u", SCHEMA_DEPTH_MAX);
    rules_init(&other.rules, SCHEMA_MEMORY_MAX);
    enum status st = rules_add(&other.rules, SLICE_LIT("root"), &root, s->e);
    if (st == OK)
        st = conjunction_expr(&other, c, &x);
    if (st == OK) {
        other.rules.rules[root].body = x;
        st = grammar_compile(&other.rules, root, out, s->e);
    }
    mem_free(other.made);
    rules_release(&other.rules);
    return st;
}

/* The value's text.  Spaces inside arrays and objects may be anything that schema_space reads. */
static const struct expr *literal(struct schema *s, const struct json *v)
{
    struct arena *a = &s->rules.arena;
    const struct expr *space = schema_space(s);
    if (v->kind != JSON_ARRAY && v->kind != JSON_OBJECT) {
        struct buf b;
        buf_init(&b, LISTED_BYTES_MAX);
        json_write(&b, v, (struct json_style){.is_compact = true});
        const struct expr *x = b.failed ? NULL : expr_text(a, buf_slice(&b));
        buf_release(&b);
        return x;
    }
    bool is_array = v->kind == JSON_ARRAY;
    const struct expr *x = expr_lit(a, is_array ? "[" : "{");
    for (size_t i = 0; x && i < v->count; i++) {
        const struct expr *value = literal(s, is_array ? &v->items[i] : &v->members[i].value);
        if (!is_array) {
            struct json key = {.kind = JSON_STRING, .text = v->members[i].key};
            value = EXPR_SEQ(a, literal(s, &key), space, expr_lit(a, ":"), space, value);
        }
        x = i ? EXPR_SEQ(a, x, space, expr_lit(a, ","), space, value)
              : EXPR_SEQ(a, x, space, value);
    }
    return EXPR_SEQ(a, x, space, expr_lit(a, is_array ? "]" : "}"));
}

static enum status is_allowed(struct schema *s, const struct grammar *others, const struct json *v,
                              bool *out)
{
    struct buf b;
    buf_init(&b, LISTED_BYTES_MAX);
    json_write(&b, v, (struct json_style){.is_compact = true});
    enum status st = b.failed ? schema_nomem(s) : grammar_matches(others, buf_slice(&b), out, s->e);
    buf_release(&b);
    return st;
}

/* 1.0 is an integer, and is not written as one. */
static bool has_fraction(const struct json *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (values[i].kind == JSON_REAL)
            return true;
    return false;
}

enum status schema_listed(struct schema *s, const struct conjunction *c, uint32_t types,
                          const struct expr **out, bool *is_listed)
{
    const struct json *list = NULL;
    for (uint32_t i = 0; i < c->n; i++) {
        const struct json *values = json_get(c->members[i], "enum");
        const struct json *one = json_get(c->members[i], "const");
        if (values && values->kind != JSON_ARRAY)
            return err_set(s->e, E_INVALID, "schema: enum must be an array");
        list = one ? one : values ? values : list;
        if (one)
            break;
    }
    *is_listed = list != NULL;
    if (!list)
        return OK;
    /* a const is a list of one */
    bool is_const = true;
    for (uint32_t i = 0; i < c->n; i++)
        is_const &= json_get(c->members[i], "enum") != list;
    const struct json *values = is_const ? list : list->items;
    size_t n = is_const ? 1 : list->count, n_ways = 0;
    struct grammar *others = NULL;
    const struct expr **ways = arena_alloc(&s->rules.arena, n + 1, sizeof *ways);
    enum status st = ways ? OK : schema_nomem(s);
    if (st == OK && (has_other_rules(c) || (types != TYPE_ALL && has_fraction(values, n)))) {
        st = grammar_of_others(s, c, &others);
        if (st == E_NOT_FOUND) { /* nothing can satisfy the others */
            *out = expr_never(&s->rules.arena);
            return *out ? OK : schema_nomem(s);
        }
    }
    for (size_t i = 0; st == OK && i < n; i++) {
        bool allowed = (type_of_value(&values[i]) & types) && all_lists_have(c, &values[i]);
        if (allowed && others)
            st = is_allowed(s, others, &values[i], &allowed);
        if (st == OK && allowed)
            ways[n_ways++] = literal(s, &values[i]);
    }
    grammar_free(others);
    if (st == OK)
        *out = expr_list(&s->rules.arena, EXPR_CHOICE, ways, (uint32_t)n_ways);
    return st == OK && !*out ? schema_nomem(s) : st;
}
