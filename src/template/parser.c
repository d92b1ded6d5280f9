/* SPDX-License-Identifier: MIT
 * parser.c — statements: a template's text and tags → a tree.  Grammar: jinja2's parser.py (3.1.6)
 * with the extensions that transformers adds (break, continue, generation). */
#include <stdio.h>

#include "base/check.h"
#include "template/parser_int.h"

/* ---- tokens and nodes ---- */

struct node *parser_fail(struct parser *p, enum status st, uint32_t at, const char *fmt, ...)
{
    char text[160];
    va_list ap;
    if (p->status != OK)
        return NULL; /* the first reason counts */
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    p->status = lexer_fail(&p->lexer, st, at, "%s", text);
    return NULL;
}

bool parser_advance(struct parser *p)
{
    if (p->status != OK)
        return false;
    p->token = p->next;
    p->status = lexer_next(&p->lexer, &p->next);
    return p->status == OK;
}

bool parser_at_operator(const struct parser *p, const char *text)
{
    return p->token.kind == T_OPERATOR && slice_is(p->token.text, text);
}

bool parser_at_name(const struct parser *p, const char *name)
{
    return p->token.kind == T_NAME && slice_is(p->token.text, name);
}

bool parser_skip_operator(struct parser *p, const char *text)
{
    return parser_at_operator(p, text) && parser_advance(p);
}

bool parser_skip_name(struct parser *p, const char *name)
{
    return parser_at_name(p, name) && parser_advance(p);
}

struct node *parser_unexpected(struct parser *p, const char *expected)
{
    static const char *const kinds[] = {[T_END] = "end of template",
                                        [T_DATA] = "text",
                                        [T_VARIABLE_BEGIN] = "{{",
                                        [T_VARIABLE_END] = "}}",
                                        [T_BLOCK_BEGIN] = "{%",
                                        [T_BLOCK_END] = "%}",
                                        [T_NAME] = NULL,
                                        [T_STRING] = "a string",
                                        [T_INTEGER] = NULL,
                                        [T_FLOAT] = NULL,
                                        [T_OPERATOR] = NULL};
    const char *kind = kinds[p->token.kind];
    struct slice text = kind ? slice_of(kind) : p->token.text;
    if (text.len > 40)
        text.len = 40;
    return parser_fail(p, E_SYNTAX, p->token.at, "expected %s, got '" SLICE_FMT "'", expected,
                       SLICE_ARG(text));
}

bool parser_expect_operator(struct parser *p, const char *text)
{
    char expected[8];
    if (parser_at_operator(p, text))
        return parser_advance(p);
    snprintf(expected, sizeof expected, "'%s'", text);
    return parser_unexpected(p, expected) != NULL;
}

bool parser_expect_name(struct parser *p, const char *name)
{
    if (parser_at_name(p, name))
        return parser_advance(p);
    return parser_unexpected(p, name) != NULL;
}

bool parser_enter(struct parser *p)
{
    if (p->status != OK)
        return false;
    if (p->depth >= TEMPLATE_DEPTH_MAX)
        return parser_fail(p, E_LIMIT, p->token.at, "nested too deeply") != NULL;
    p->depth++;
    return true;
}

struct node *node_new(struct parser *p, enum node_kind kind, uint32_t at)
{
    struct node *n = p->status == OK ? arena_alloc(p->arena, 1, sizeof *n) : NULL;
    if (!n)
        return parser_fail(p, E_LIMIT, at, "the template is too large");
    n->kind = (uint8_t)kind;
    n->at = at;
    return n;
}

bool node_add(struct parser *p, struct node_list *list, struct node *item)
{
    if (!item || p->status != OK)
        return false;
    if (list->count == list->cap) {
        uint32_t cap = list->cap ? list->cap * 2 : 4;
        struct node **grown = arena_alloc(p->arena, cap, sizeof(struct node *));
        if (!grown)
            return parser_fail(p, E_LIMIT, item->at, "the template is too large") != NULL;
        if (list->count)
            memcpy(grown, list->items, list->count * sizeof(struct node *));
        list->items = grown;
        list->cap = cap;
    }
    list->items[list->count++] = item;
    return true;
}

static uint16_t deeper(uint16_t depth, const struct node *child)
{
    return child && child->depth > depth ? child->depth : depth;
}

static uint16_t deepest(uint16_t depth, const struct node_list *list)
{
    for (uint32_t i = 0; i < list->count; i++)
        depth = deeper(depth, list->items[i]);
    return depth;
}

struct node *node_done(struct parser *p, struct node *n)
{
    if (p->status != OK || !n)
        return NULL;
    uint16_t depth = deeper(deeper(deeper(0, n->a), n->b), n->c);
    depth = deepest(deepest(depth, &n->list), &n->more);
    if (n->arguments) {
        depth = deepest(depth, &n->arguments->positional);
        for (uint32_t i = 0; i < n->arguments->n_keywords; i++)
            depth = deeper(depth, n->arguments->keywords[i].value);
        depth = deeper(deeper(depth, n->arguments->star), n->arguments->star_star);
    }
    for (uint32_t i = 0; n->signature && i < n->signature->count; i++)
        depth = deeper(depth, n->signature->parameters[i].value);
    if (depth >= TEMPLATE_DEPTH_MAX)
        return parser_fail(p, E_LIMIT, n->at, "nested deeper than %d", TEMPLATE_DEPTH_MAX);
    n->depth = (uint16_t)(depth + 1);
    return n;
}

/* ---- bodies ---- */

static bool parse_body(struct parser *p, struct node_list *out, const char *const *ends);

/* "%}" and the body up to one of the ends, which is the current token then. */
static bool parse_block(struct parser *p, struct node_list *out, const char *const *ends)
{
    if (parser_at_operator(p, ":") && !parser_advance(p))
        return false;
    if (p->token.kind != T_BLOCK_END)
        return parser_unexpected(p, "'%}'") != NULL;
    return parser_enter(p) && parser_advance(p) && parse_body(p, out, ends) && (p->depth--, true);
}

static bool parse_block_to(struct parser *p, struct node_list *out, const char *end)
{
    const char *const ends[] = {end, NULL};
    return parse_block(p, out, ends) && parser_advance(p);
}

/* ---- tags ---- */

static struct node *parse_for(struct parser *p)
{
    static const char *const ends[] = {"endfor", "else", NULL};
    struct node *n = node_new(p, N_FOR, p->token.at);
    if (!n || !parser_advance(p))
        return NULL;
    n->a = parse_target(p, false, "in");
    if (!n->a || !parser_expect_name(p, "in"))
        return NULL;
    if (n->a->kind == N_NAME && slice_is(n->a->name, "loop"))
        return parser_fail(p, E_SYNTAX, n->a->at, "can't assign to the special loop variable");
    n->b = parse_tuple(p, false, "recursive");
    if (n->b && parser_skip_name(p, "if")) {
        n->c = parse_expression(p, true);
        if (!n->c)
            return NULL;
    }
    n->is_recursive = parser_skip_name(p, "recursive");
    p->loops++;
    bool ok = n->b && parse_block(p, &n->list, ends);
    p->loops--;
    if (!ok)
        return NULL;
    bool has_else = parser_at_name(p, "else");
    if (!parser_advance(p) || (has_else && !parse_block_to(p, &n->more, "endfor")))
        return NULL;
    return node_done(p, n);
}

static struct node *parse_branch(struct parser *p, const char *const *ends)
{
    struct node *body = node_new(p, N_BODY, p->token.at);
    return body && parse_block(p, &body->list, ends) ? node_done(p, body) : NULL;
}

static struct node *parse_if(struct parser *p)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    static const char *const last[] = {"endif", NULL};
    struct node *n = node_new(p, N_IF, p->token.at);
    if (!n)
        return NULL;
    bool is_open = true;
    while (is_open) {
        if (!parser_advance(p))
            return NULL;
        if (!node_add(p, &n->list, parse_tuple(p, false, NULL)) ||
            !node_add(p, &n->list, parse_branch(p, ends)))
            return NULL;
        is_open = parser_at_name(p, "elif");
    }
    if (parser_at_name(p, "else")) {
        if (!parser_advance(p) || !node_add(p, &n->list, parse_branch(p, last)))
            return NULL;
    }
    return parser_advance(p) ? node_done(p, n) : NULL;
}

static struct node *parse_set(struct parser *p)
{
    struct node *n = node_new(p, N_SET, p->token.at);
    if (!n || !parser_advance(p))
        return NULL;
    n->a = parse_target(p, true, NULL);
    if (!n->a)
        return NULL;
    if (parser_skip_operator(p, "=")) {
        n->b = parse_tuple(p, true, NULL);
        return n->b ? node_done(p, n) : NULL;
    }
    n->kind = N_SET_BLOCK;
    n->b = parse_filters(p, NULL);
    if (p->status != OK || !parse_block_to(p, &n->list, "endset"))
        return NULL;
    return node_done(p, n);
}

static struct parameter *add_parameter(struct parser *p, struct signature *s, struct token name)
{
    for (uint32_t i = 0; i < s->count; i++)
        if (slice_equal(s->parameters[i].name, name.text)) {
            parser_fail(p, E_SYNTAX, name.at, "parameter '" SLICE_FMT "' twice",
                        SLICE_ARG(name.text));
            return NULL;
        }
    if (s->count == s->cap) {
        uint32_t cap = s->cap ? s->cap * 2 : 4;
        struct parameter *grown = arena_alloc(p->arena, cap, sizeof *grown);
        if (!grown) {
            parser_fail(p, E_LIMIT, name.at, "the template is too large");
            return NULL;
        }
        if (s->count)
            memcpy(grown, s->parameters, s->count * sizeof *grown);
        s->parameters = grown;
        s->cap = cap;
    }
    s->parameters[s->count] = (struct parameter){.name = name.text};
    s->has_caller_parameter |= slice_is(name.text, "caller");
    names_add(p, &p->assigned, name.text, name.at);
    return &s->parameters[s->count++];
}

/* Parameters in a row may be as many as the template is long, yet each is compared with all. */
#define PARAMETERS_MAX 200

static bool parse_signature(struct parser *p, struct signature *s)
{
    if (!parser_expect_operator(p, "("))
        return false;
    bool has_default = false;
    while (!parser_at_operator(p, ")")) {
        if (s->count > 0 && !parser_expect_operator(p, ","))
            return false;
        if (p->token.kind != T_NAME)
            return parser_unexpected(p, "a parameter's name") != NULL;
        if (s->count == PARAMETERS_MAX)
            return parser_fail(p, E_LIMIT, p->token.at, "more than %d parameters",
                               PARAMETERS_MAX) != NULL;
        struct parameter *parameter = add_parameter(p, s, p->token);
        if (!parameter || !parser_advance(p))
            return false;
        if (parser_skip_operator(p, "=")) {
            parameter->value = parse_expression(p, true);
            has_default = true;
            if (!parameter->value)
                return false;
        } else if (has_default) {
            return parser_fail(p, E_SYNTAX, p->token.at,
                               "parameter without a default behind one with") != NULL;
        }
    }
    return parser_advance(p);
}

/* The body of a macro or call block: loops outside cannot be broken out of, and what it uses of
 * caller, varargs and kwargs is noted (for the macros around it too). */
static bool parse_macro_body(struct parser *p, struct node *n, const char *end)
{
    struct macro_scope scope = {.outer = p->macro, .signature = n->signature};
    uint32_t loops = p->loops;
    p->macro = &scope;
    p->loops = 0;
    bool ok = parse_block_to(p, &n->list, end);
    p->macro = scope.outer;
    p->loops = loops;
    for (uint32_t i = 0; i < n->signature->count; i++) {
        struct slice name = n->signature->parameters[i].name;
        n->signature->uses_varargs &= !slice_is(name, "varargs");
        n->signature->uses_kwargs &= !slice_is(name, "kwargs");
    }
    return ok;
}

static struct node *new_with_signature(struct parser *p, enum node_kind kind)
{
    struct node *n = node_new(p, kind, p->token.at);
    if (!n)
        return NULL;
    n->signature = arena_alloc(p->arena, 1, sizeof *n->signature);
    if (!n->signature)
        return parser_fail(p, E_LIMIT, n->at, "the template is too large");
    return n;
}

static struct node *parse_macro(struct parser *p)
{
    struct node *n = new_with_signature(p, N_MACRO);
    if (!n || !parser_advance(p))
        return NULL;
    if (p->token.kind != T_NAME)
        return parser_unexpected(p, "the macro's name");
    n->name = n->signature->name = p->token.text;
    names_add(p, &p->assigned, n->name, n->at);
    if (!parser_advance(p) || !parse_signature(p, n->signature))
        return NULL;
    return parse_macro_body(p, n, "endmacro") ? node_done(p, n) : NULL;
}

static struct node *parse_call_block(struct parser *p)
{
    struct node *n = new_with_signature(p, N_CALL_BLOCK);
    if (!n || !parser_advance(p))
        return NULL;
    n->signature->name = SLICE_LIT("caller");
    if (parser_at_operator(p, "(") && !parse_signature(p, n->signature))
        return NULL;
    n->b = parse_expression(p, true);
    if (!n->b)
        return NULL;
    if (n->b->kind != N_CALL)
        return parser_fail(p, E_SYNTAX, n->b->at, "expected a call");
    return parse_macro_body(p, n, "endcall") ? node_done(p, n) : NULL;
}

/* Like a call block of a function that gives back what its body says: a scope of its own. */
static struct node *parse_generation(struct parser *p)
{
    struct node *n = new_with_signature(p, N_GENERATION);
    if (!n || !parser_advance(p))
        return NULL;
    return parse_macro_body(p, n, "endgeneration") ? node_done(p, n) : NULL;
}

static struct node *parse_filter_block(struct parser *p)
{
    struct node *n = node_new(p, N_FILTER_BLOCK, p->token.at);
    if (!n || !parser_advance(p))
        return NULL;
    n->b = parse_filter(p, NULL);
    n->b = n->b ? parse_filters(p, n->b) : NULL;
    if (!n->b || !parse_block_to(p, &n->list, "endfilter"))
        return NULL;
    return node_done(p, n);
}

static struct node *parse_with(struct parser *p)
{
    struct node *n = node_new(p, N_WITH, p->token.at);
    if (!n || !parser_advance(p))
        return NULL;
    while (p->token.kind != T_BLOCK_END) {
        if (n->more.count > 0 && !parser_expect_operator(p, ","))
            return NULL;
        if (!node_add(p, &n->more, parse_target(p, false, NULL)) ||
            !parser_expect_operator(p, "=") || !node_add(p, &n->more, parse_expression(p, true)))
            return NULL;
    }
    return parse_block_to(p, &n->list, "endwith") ? node_done(p, n) : NULL;
}

static struct node *parse_print(struct parser *p)
{
    struct node *n = node_new(p, N_BODY, p->token.at);
    if (!n || !parser_advance(p))
        return NULL;
    while (p->token.kind != T_BLOCK_END) {
        if (n->list.count > 0 && !parser_expect_operator(p, ","))
            return NULL;
        struct node *print = node_new(p, N_PRINT, p->token.at);
        if (!print)
            return NULL;
        print->a = parse_expression(p, true);
        if (!print->a || !node_add(p, &n->list, node_done(p, print)))
            return NULL;
    }
    return node_done(p, n);
}

static struct node *parse_jump(struct parser *p, enum node_kind kind)
{
    struct node *n = node_new(p, kind, p->token.at);
    if (!n || !parser_advance(p))
        return NULL;
    if (p->loops == 0)
        return parser_fail(p, E_SYNTAX, n->at, "%s outside of a loop",
                           kind == N_BREAK ? "break" : "continue");
    return node_done(p, n);
}

static struct node *unknown_tag(struct parser *p)
{
    static const char *const inner[] = {"else",    "elif",    "endfor",       "endif",
                                        "endset",  "endcall", "endmacro",     "endfilter",
                                        "endwith", "endraw",  "endgeneration"};
    struct slice name = p->token.text;
    for (size_t i = 0; i < ARRAY_COUNT(inner); i++)
        if (slice_is(name, inner[i]))
            return parser_fail(p, E_SYNTAX, p->token.at, "unexpected tag '%s'", inner[i]);
    if (name.len > 40)
        name.len = 40;
    return parser_fail(p, E_UNSUPPORTED, p->token.at, "unsupported tag '" SLICE_FMT "'",
                       SLICE_ARG(name));
}

static struct node *parse_statement(struct parser *p)
{
    static const struct {
        const char *name;
        struct node *(*parse)(struct parser *p);
    } tags[] = {
        {"for", parse_for},     {"if", parse_if},           {"set", parse_set},
        {"macro", parse_macro}, {"call", parse_call_block}, {"filter", parse_filter_block},
        {"with", parse_with},   {"print", parse_print},     {"generation", parse_generation},
    };
    if (p->token.kind != T_NAME)
        return parser_unexpected(p, "a tag's name");
    if (parser_at_name(p, "break"))
        return parse_jump(p, N_BREAK);
    if (parser_at_name(p, "continue"))
        return parse_jump(p, N_CONTINUE);
    for (size_t i = 0; i < ARRAY_COUNT(tags); i++)
        if (slice_is(p->token.text, tags[i].name))
            return tags[i].parse(p);
    return unknown_tag(p);
}

static bool at_end_tag(const struct parser *p, const char *const *ends)
{
    for (; ends && *ends; ends++)
        if (parser_at_name(p, *ends))
            return true;
    return false;
}

static bool add_text(struct parser *p, struct node_list *out)
{
    struct node *n = node_new(p, N_TEXT, p->token.at);
    if (!n)
        return false;
    n->text = p->token.text;
    return (n->text.len == 0 || node_add(p, out, node_done(p, n))) && parser_advance(p);
}

static bool add_print(struct parser *p, struct node_list *out)
{
    struct node *n = node_new(p, N_PRINT, p->token.at);
    if (!n || !parser_advance(p))
        return false;
    n->a = parse_tuple(p, true, NULL);
    if (!n->a)
        return false;
    if (p->token.kind != T_VARIABLE_END)
        return parser_unexpected(p, "'}}'") != NULL;
    return node_add(p, out, node_done(p, n)) && parser_advance(p);
}

/* ends NULL: the whole template. */
static bool parse_body(struct parser *p, struct node_list *out, const char *const *ends)
{
    for (;;) {
        switch (p->token.kind) {
        case T_END:
            if (!ends)
                return true;
            return parser_fail(p, E_SYNTAX, p->token.at, "unexpected end of template, expected %s",
                               ends[0]) != NULL;
        case T_DATA:
            if (!add_text(p, out))
                return false;
            break;
        case T_VARIABLE_BEGIN:
            if (!add_print(p, out))
                return false;
            break;
        default:
            CHECK(p->token.kind == T_BLOCK_BEGIN);
            if (!parser_advance(p))
                return false;
            if (at_end_tag(p, ends))
                return true;
            if (!node_add(p, out, parse_statement(p)))
                return false;
            if (p->token.kind != T_BLOCK_END)
                return parser_unexpected(p, "'%}'") != NULL;
            if (!parser_advance(p))
                return false;
        }
    }
}

enum status template_parse(struct template *t, struct err *e)
{
    struct parser p = {.template = t, .arena = &t->arena, .err = e};
    lexer_init(&p.lexer, t->source, &t->arena, e);
    p.status = lexer_next(&p.lexer, &p.next);
    struct node *body = p.status == OK && parser_advance(&p) ? node_new(&p, N_BODY, 0) : NULL;
    if (body && parse_body(&p, &body->list, NULL))
        t->body = node_done(&p, body);
    return p.status == OK ? names_check(&p) : p.status;
}
