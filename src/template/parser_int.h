/* SPDX-License-Identifier: MIT
 * parser_int.h — between parser.c (statements), parser_expr.c (expressions) and names.c. */
#ifndef KVASIR_TEMPLATE_PARSER_INT_H
#define KVASIR_TEMPLATE_PARSER_INT_H

#include "template/ast.h"
#include "template/lexer.h"

struct name_use {
    struct slice name;
    uint32_t at;
};
struct name_uses {
    struct name_use *items;
    size_t count, cap;
};

struct macro_scope { /* a macro or call block being parsed, innermost first */
    struct macro_scope *outer;
    struct signature *signature;
};

struct parser {
    struct template *template;
    struct arena *arena;
    struct lexer lexer;
    struct token token, next; /* current, and the one behind it */
    enum status status;
    struct err *err;
    uint32_t depth; /* of the parser's own recursion */
    uint32_t loops; /* for loops around, within the same macro: may break */
    struct macro_scope *macro;
    struct name_uses assigned, called, guarded, methods;
};

/* All return NULL (or false) after a failure; p->status says which. */
struct node *parser_fail(struct parser *p, enum status st, uint32_t at, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
bool parser_advance(struct parser *p);
bool parser_at_operator(const struct parser *p, const char *text);
bool parser_at_name(const struct parser *p, const char *name);
bool parser_skip_operator(struct parser *p, const char *text); /* false: not there, or failed */
bool parser_skip_name(struct parser *p, const char *name);
bool parser_expect_operator(struct parser *p, const char *text);
bool parser_expect_name(struct parser *p, const char *name);
struct node *parser_unexpected(struct parser *p, const char *expected);
bool parser_enter(struct parser *p);

struct node *node_new(struct parser *p, enum node_kind kind, uint32_t at);
/* Sets the depth from the children; NULL beyond TEMPLATE_DEPTH_MAX or when a child is missing. */
struct node *node_done(struct parser *p, struct node *n);
bool node_add(struct parser *p, struct node_list *list, struct node *item);

void names_add(struct parser *p, struct name_uses *uses, struct slice name, uint32_t at);
/* Refuses calls of functions and methods that nothing could provide. */
NODISCARD enum status names_check(struct parser *p);

struct node *parse_expression(struct parser *p, bool with_condition);
/* end: a name that ends the tuple besides the usual ends, or NULL. */
struct node *parse_tuple(struct parser *p, bool with_condition, const char *end);
struct node *parse_target(struct parser *p, bool with_namespace, const char *end);
struct node *parse_filters(struct parser *p, struct node *value); /* |a|b; value may be NULL */
struct node *parse_filter(struct parser *p, struct node *value);  /* behind the bar */

#endif
