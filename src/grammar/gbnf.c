/* SPDX-License-Identifier: MIT
 * gbnf.c — reads llama.cpp's GBNF: name ::= alternatives, "text", [classes], ., (groups), * + ?
 * {m,n}, # comments.  A rule goes on over line ends inside groups and behind "::=" and "|". */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "grammar/schema_int.h"
#include "text/utf8.h"

#define GBNF_ITEMS_MAX  65536u /* of one sequence, choice or class */
#define GBNF_DEPTH_MAX  64u
#define GBNF_MEMORY_MAX (64u << 20)

struct reader {
    const struct grammar_source *source;
    struct rules rules;
    struct slice text;
    size_t at;
    uint32_t depth;
    struct err *e;
};

static enum status read_choice(struct reader *r, bool in_group, const struct expr **out);

static enum status fail(struct reader *r, enum status st, const char *what)
{
    uint32_t line = 1;
    for (size_t i = 0; i < r->at && i < r->text.len; i++)
        line += r->text.ptr[i] == '\n';
    return err_at(r->e, st, r->at, "grammar, line %u: %s", line, what);
}

static char peek(const struct reader *r)
{
    return r->at < r->text.len ? r->text.ptr[r->at] : '\0';
}

static void skip_space(struct reader *r, bool over_lines)
{
    for (;;) {
        char c = peek(r);
        if (c == '#')
            while (r->at < r->text.len && peek(r) != '\n')
                r->at++;
        else if (c == ' ' || c == '\t' || (over_lines && (c == '\n' || c == '\r')))
            r->at++;
        else
            return;
    }
}

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

static struct slice read_name(struct reader *r)
{
    size_t begun = r->at;
    while (r->at < r->text.len && is_name_char(peek(r)))
        r->at++;
    return (struct slice){r->text.ptr + begun, r->at - begun};
}

static enum status rule_named(struct reader *r, struct slice name, uint32_t *out)
{
    for (uint32_t i = 0; i < r->rules.n; i++)
        if (slice_equal(r->rules.rules[i].name, name)) {
            *out = i;
            return OK;
        }
    return rules_add(&r->rules, name, out, r->e);
}

/* ---- characters ---- */
static enum status read_hex(struct reader *r, uint32_t digits, uint32_t *cp)
{
    *cp = 0;
    for (uint32_t i = 0; i < digits; i++, r->at++) {
        int digit = hex_value(peek(r));
        if (digit < 0)
            return fail(r, E_SYNTAX, "a hex digit is missing");
        *cp = *cp * 16 + (uint32_t)digit;
    }
    return *cp <= CODE_POINT_MAX ? OK : fail(r, E_SYNTAX, "no such code point");
}

static enum status read_char(struct reader *r, uint32_t *cp)
{
    if (r->at >= r->text.len)
        return fail(r, E_SYNTAX, "the grammar ends inside a text or class");
    if (peek(r) != '\\') {
        r->at += utf8_decode(r->text.ptr + r->at, r->text.len - r->at, cp);
        return OK;
    }
    r->at++;
    char c = peek(r);
    r->at++;
    switch (c) {
    case 'x':
        return read_hex(r, 2, cp);
    case 'u':
        return read_hex(r, 4, cp);
    case 'U':
        return read_hex(r, 8, cp);
    case 'n':
        *cp = '\n';
        return OK;
    case 'r':
        *cp = '\r';
        return OK;
    case 't':
        *cp = '\t';
        return OK;
    case '\\':
    case '"':
    case '[':
    case ']':
    case '-':
    case '^':
        *cp = (uint8_t)c;
        return OK;
    default:
        r->at--;
        return fail(r, E_SYNTAX, "unknown escape");
    }
}

static enum status read_text(struct reader *r, const struct expr **out)
{
    struct buf b;
    buf_init(&b, GRAMMAR_TEXT_MAX);
    enum status st = OK;
    r->at++;
    while (st == OK && peek(r) != '"') {
        uint32_t cp = 0;
        char bytes[4];
        st = read_char(r, &cp);
        if (st == OK)
            buf_add(&b, bytes, utf8_encode(cp, bytes));
    }
    r->at++;
    if (st == OK)
        *out = expr_text(&r->rules.arena, buf_slice(&b));
    if (st == OK && (b.failed || !*out))
        st = err_set(r->e, E_NOMEM, "grammar: out of memory");
    buf_release(&b);
    return st;
}

/* ---- lists that grow ---- */
struct list {
    void *items;
    uint32_t n, cap;
};

static enum status list_add(struct reader *r, struct list *l, const void *item, size_t size)
{
    if (l->n == l->cap) {
        uint32_t cap = l->cap ? 2 * l->cap : 8;
        void *more = cap <= GBNF_ITEMS_MAX ? mem_try_resize(l->items, cap, size) : NULL;
        if (!more)
            return fail(r, E_LIMIT, "too many parts");
        l->items = more;
        l->cap = cap;
    }
    memcpy((char *)l->items + l->n++ * size, item, size);
    return OK;
}

/* ---- classes ---- */
static const struct expr *inverted(struct reader *r, struct code_range *ranges, uint32_t n)
{
    struct code_range *gaps = mem_try_new((size_t)n + 1, sizeof *gaps);
    if (!gaps)
        return NULL;
    uint32_t n_gaps = ranges_invert(ranges, n, gaps);
    const struct expr *out = expr_class(&r->rules.arena, gaps, n_gaps);
    mem_free(gaps);
    return out;
}

static enum status read_class(struct reader *r, const struct expr **out)
{
    struct list l = {0};
    enum status st = OK;
    r->at++;
    bool is_inverted = peek(r) == '^';
    r->at += is_inverted;
    while (st == OK && peek(r) != ']') {
        struct code_range range = {0};
        st = read_char(r, &range.lo);
        range.hi = range.lo;
        if (st == OK && peek(r) == '-' && r->at + 1 < r->text.len &&
            r->text.ptr[r->at + 1] != ']') {
            r->at++;
            st = read_char(r, &range.hi);
        }
        if (st == OK && range.hi < range.lo)
            st = fail(r, E_SYNTAX, "a range out of order");
        if (st == OK)
            st = list_add(r, &l, &range, sizeof range);
    }
    r->at++;
    if (st == OK) {
        *out = is_inverted
                   ? inverted(r, l.items, l.n)
                   : expr_class(&r->rules.arena, l.items ? l.items : &(struct code_range){0}, l.n);
        if (!*out)
            st = err_set(r->e, E_NOMEM, "grammar: out of memory");
    }
    mem_free(l.items);
    return st;
}

/* ---- parts ---- */
static enum status read_group(struct reader *r, const struct expr **out)
{
    r->at++;
    if (++r->depth > GBNF_DEPTH_MAX)
        return fail(r, E_LIMIT, "groups too deep");
    enum status st = read_choice(r, true, out);
    r->depth--;
    if (st == OK && peek(r) != ')')
        st = fail(r, E_SYNTAX, "a group without its )");
    r->at++;
    return st;
}

/* Rules of a schema that turned out not to be supported are taken back. */
static enum status add_schema(struct reader *r, const struct json *schema, const struct expr **out)
{
    const uint32_t n = r->rules.n;
    enum status st = schema_add(&r->rules, schema, out, r->e);
    if (st != OK)
        rules_cut(&r->rules, n);
    return st;
}

/* %N */
static enum status read_schema(struct reader *r, const struct expr **out)
{
    uint32_t n = 0;
    size_t begun = ++r->at;
    for (; peek(r) >= '0' && peek(r) <= '9' && n < GRAMMAR_SCHEMAS_MAX; r->at++)
        n = n * 10 + (uint32_t)(peek(r) - '0');
    if (r->at == begun || n >= r->source->n_schemas)
        return fail(r, E_SYNTAX, "there is no such schema");
    const struct grammar_schema *s = &r->source->schemas[n];
    enum status st = add_schema(r, s->schema, out);
    if (st != OK && st != E_NOMEM && s->instead)
        st = add_schema(r, s->instead, out);
    return st;
}

static enum status read_part(struct reader *r, const struct expr **out)
{
    static const struct code_range any = {0, CODE_POINT_MAX};
    char c = peek(r);
    if (c == '"')
        return read_text(r, out);
    if (c == '[')
        return read_class(r, out);
    if (c == '(')
        return read_group(r, out);
    if (c == '%' && r->source->n_schemas)
        return read_schema(r, out);
    if (c == '<' || c == '!')
        return fail(r, E_UNSUPPORTED, "tokens by name are not supported; write their text");
    if (c == '.') {
        r->at++;
        *out = expr_class(&r->rules.arena, &any, 1);
    } else {
        struct slice name = read_name(r);
        uint32_t rule;
        if (name.len == 0)
            return fail(r, E_SYNTAX, "a text, class, group or rule is missing");
        enum status st = rule_named(r, name, &rule);
        if (st != OK)
            return st;
        *out = expr_call(&r->rules.arena, rule);
    }
    return *out ? OK : err_set(r->e, E_NOMEM, "grammar: out of memory");
}

static enum status read_count(struct reader *r, uint32_t *count)
{
    size_t begun = r->at;
    for (*count = 0; peek(r) >= '0' && peek(r) <= '9'; r->at++)
        if (*count <= EXPR_REPEAT_MAX)
            *count = *count * 10 + (uint32_t)(peek(r) - '0');
    if (*count > EXPR_REPEAT_MAX)
        return fail(r, E_LIMIT, "repeated too often");
    return r->at > begun ? OK : fail(r, E_SYNTAX, "a count is missing");
}

static enum status read_braces(struct reader *r, uint32_t *least, uint32_t *most)
{
    r->at++;
    enum status st = read_count(r, least);
    *most = *least;
    if (st == OK && peek(r) == ',') {
        r->at++;
        *most = EXPR_MANY;
        if (peek(r) != '}')
            st = read_count(r, most);
    }
    if (st != OK)
        return st;
    if (peek(r) != '}' || *least > *most)
        return fail(r, E_SYNTAX, "wanted {m}, {m,} or {m,n} with m ≤ n");
    r->at++;
    return OK;
}

static enum status read_repeats(struct reader *r, const struct expr **x)
{
    for (enum status st;;) {
        uint32_t least = 0, most = EXPR_MANY;
        char c = peek(r);
        if (c == '{') {
            if ((st = read_braces(r, &least, &most)) != OK)
                return st;
        } else if (c == '*' || c == '+' || c == '?') {
            least = c == '+';
            most = c == '?' ? 1 : EXPR_MANY;
            r->at++;
        } else {
            return OK;
        }
        *x = expr_repeat(&r->rules.arena, *x, least, most);
        if (!*x)
            return err_set(r->e, E_NOMEM, "grammar: out of memory");
    }
}

static enum status read_sequence(struct reader *r, bool in_group, const struct expr **out)
{
    struct list l = {0};
    enum status st = OK;
    for (;;) {
        skip_space(r, in_group);
        char c = peek(r);
        if (r->at >= r->text.len || c == '|' || c == ')' || c == '\n' || c == '\r')
            break;
        const struct expr *part;
        st = read_part(r, &part);
        if (st == OK)
            st = read_repeats(r, &part);
        if (st == OK)
            st = list_add(r, &l, &part, sizeof part);
        if (st != OK)
            break;
    }
    if (st == OK) {
        *out = l.n ? expr_list(&r->rules.arena, EXPR_SEQUENCE, l.items, l.n)
                   : expr_lit(&r->rules.arena, "");
        if (!*out)
            st = err_set(r->e, E_NOMEM, "grammar: out of memory");
    }
    mem_free(l.items);
    return st;
}

static enum status read_choice(struct reader *r, bool in_group, const struct expr **out)
{
    struct list l = {0};
    enum status st;
    do {
        const struct expr *way;
        if (l.n)
            r->at++; /* | */
        skip_space(r, true);
        st = read_sequence(r, in_group, &way);
        if (st == OK)
            st = list_add(r, &l, &way, sizeof way);
    } while (st == OK && peek(r) == '|');
    if (st == OK) {
        *out = expr_list(&r->rules.arena, EXPR_CHOICE, l.items, l.n);
        if (!*out)
            st = err_set(r->e, E_NOMEM, "grammar: out of memory");
    }
    mem_free(l.items);
    return st;
}

static enum status read_rule(struct reader *r)
{
    struct slice name = read_name(r), rest;
    uint32_t rule;
    const struct expr *body;
    if (name.len == 0)
        return fail(r, E_SYNTAX, "a rule's name is missing");
    skip_space(r, false);
    rest = (struct slice){r->text.ptr + r->at, r->text.len - r->at};
    if (!slice_starts(rest, SLICE_LIT("::=")))
        return fail(r, E_SYNTAX, "::= is missing behind the rule's name");
    r->at += 3;
    enum status st = rule_named(r, name, &rule);
    if (st == OK && r->rules.rules[rule].body)
        st = fail(r, E_INVALID, "this rule was defined before");
    if (st == OK)
        st = read_choice(r, false, &body);
    if (st == OK && peek(r) == ')')
        st = fail(r, E_SYNTAX, "a ) without its group");
    if (st == OK)
        r->rules.rules[rule].body = body;
    return st;
}

static uint32_t find_root(const struct reader *r)
{
    struct slice name = r->source->root.len ? r->source->root : SLICE_LIT("root");
    for (uint32_t i = 0; i < r->rules.n; i++)
        if (slice_equal(r->rules.rules[i].name, name))
            return i;
    return UINT32_MAX;
}

enum status grammar_from_source(const struct grammar_source *source, struct grammar **out,
                                struct err *e)
{
    struct slice text = source->text;
    struct reader r = {.source = source, .text = text, .e = e};
    enum status st = OK;
    if (text.len > GRAMMAR_TEXT_MAX)
        return err_set(e, E_LIMIT, "grammar: longer than %u bytes", GRAMMAR_TEXT_MAX);
    if (source->n_schemas > GRAMMAR_SCHEMAS_MAX)
        return err_set(e, E_LIMIT, "grammar: over %u schemas", GRAMMAR_SCHEMAS_MAX);
    rules_init(&r.rules, source->n_schemas ? SCHEMA_MEMORY_MAX : GBNF_MEMORY_MAX);
    for (;;) {
        skip_space(&r, true);
        if (st != OK || r.at >= text.len)
            break;
        st = read_rule(&r);
    }
    uint32_t root = find_root(&r);
    if (st == OK && root == UINT32_MAX)
        st = err_set(e, E_INVALID, "grammar: no rule is named root");
    if (st == OK)
        st = grammar_compile(&r.rules, root, out, e);
    rules_release(&r.rules);
    return st == E_NOT_FOUND ? err_set(e, E_INVALID, "grammar: no text satisfies it") : st;
}

enum status grammar_from_gbnf(struct slice text, struct grammar **out, struct err *e)
{
    return grammar_from_source(&(struct grammar_source){.text = text}, out, e);
}
