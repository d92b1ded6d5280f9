/* SPDX-License-Identifier: MIT
 * lexer.h — template source → tokens, with trim_blocks and lstrip_blocks as jinja2 3.1 applies
 * them. */
#ifndef KVASIR_TEMPLATE_LEXER_H
#define KVASIR_TEMPLATE_LEXER_H

#include "base/arena.h"
#include "template/value.h"

enum token_kind {
    T_END,
    T_DATA,
    T_VARIABLE_BEGIN,
    T_VARIABLE_END,
    T_BLOCK_BEGIN,
    T_BLOCK_END,
    T_NAME,
    T_STRING,  /* text is decoded */
    T_INTEGER, /* text without underscores */
    T_FLOAT,
    T_OPERATOR /* text is the operator */
};

struct token {
    enum token_kind kind;
    uint32_t at; /* byte in the source */
    struct slice text;
};

enum lexer_state { LEX_ROOT, LEX_VARIABLE, LEX_BLOCK };

/* Brackets open at once; deeper ones are refused. */
#define LEXER_BRACKETS_MAX 1000

struct lexer {
    struct slice source;
    size_t at;
    enum lexer_state state;
    bool line_starting; /* what came before ended in a line end, or nothing came */
    uint32_t brackets;
    char expected[LEXER_BRACKETS_MAX]; /* closing bracket of each open one */
    enum token_kind queued;            /* a begin token that follows a T_DATA, else T_END */
    uint32_t queued_at;
    struct arena *arena; /* for decoded strings */
    struct err *err;
};

void lexer_init(struct lexer *l, struct slice source, struct arena *a, struct err *e);
NODISCARD enum status lexer_next(struct lexer *l, struct token *out);

/* "line L, column C: …" with err.pos. */
enum status lexer_fail(struct lexer *l, enum status st, size_t at, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

#endif
