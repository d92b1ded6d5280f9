/* SPDX-License-Identifier: MIT
 * ast.h — a compiled template: nodes in an arena, immutable after compiling. */
#ifndef KVASIR_TEMPLATE_AST_H
#define KVASIR_TEMPLATE_AST_H

#include "base/arena.h"
#include "template/template.h"
#include "template/value.h"

enum node_kind {
    /* expressions */
    N_CONST,
    N_NAME,
    N_TUPLE, /* list */
    N_LIST,  /* list */
    N_DICT,  /* list: key, value, key, value … */
    N_COND,  /* a if b else c; c may be NULL */
    N_OR,    /* a, b */
    N_AND,
    N_NOT,     /* a */
    N_COMPARE, /* a, then list with ops[i] before list[i] */
    N_BINARY,  /* a op b */
    N_NEGATE,
    N_POSITIVE,
    N_CONCAT,  /* list */
    N_GETATTR, /* a.name */
    N_GETITEM, /* a[b] */
    N_SLICE,   /* of N_GETITEM: a:b:c, each may be NULL */
    N_CALL,    /* a(args) */
    N_FILTER,  /* a|builtin(args); a is NULL at the head of a filter block */
    N_TEST,    /* a is builtin(args) */
    N_NSREF,   /* name.text: target of set only */
    /* statements */
    N_TEXT,         /* name is the text */
    N_PRINT,        /* a */
    N_FOR,          /* for a in b if c: list; else: more */
    N_IF,           /* list: condition, N_BODY, condition, N_BODY …, [N_BODY] */
    N_BODY,         /* list */
    N_SET,          /* a = b */
    N_SET_BLOCK,    /* a = list, filtered by b (may be NULL) */
    N_MACRO,        /* macro, list */
    N_CALL_BLOCK,   /* call b, macro, list */
    N_FILTER_BLOCK, /* b, list */
    N_WITH,         /* more: target, value, …; list */
    N_GENERATION,   /* list */
    N_BREAK,
    N_CONTINUE
};

enum compare_op { CMP_EQ, CMP_NE, CMP_LT, CMP_LE, CMP_GT, CMP_GE, CMP_IN, CMP_NOT_IN };
enum binary_op { OP_ADD, OP_SUB, OP_MUL, OP_DIV, OP_FLOOR_DIV, OP_MOD, OP_POW };

struct node_list {
    struct node **items;
    uint32_t count, cap;
};

struct keyword {
    struct slice name;
    struct node *value;
};

struct arguments { /* of a call, filter or test, unevaluated */
    struct node_list positional;
    struct keyword *keywords;
    uint32_t n_keywords, cap_keywords;
    struct node *star, *star_star; /* *a, **a, or NULL */
};

struct parameter {
    struct slice name;
    struct node *value; /* default, or NULL */
};

struct signature { /* of a macro or a call block */
    struct slice name;
    struct parameter *parameters;
    uint32_t count, cap;
    bool uses_caller, uses_varargs, uses_kwargs; /* in its body, and not as a parameter */
    bool has_caller_parameter;
};

struct node {
    uint8_t kind;
    uint8_t op;        /* enum binary_op */
    bool is_recursive; /* N_FOR */
    uint16_t depth;    /* of the tree below, for TEMPLATE_DEPTH_MAX */
    uint32_t at;       /* byte in the source, for messages */
    struct slice name;
    struct slice text;
    struct value constant;
    struct node *a, *b, *c;
    struct node_list list, more;
    uint8_t *ops; /* N_COMPARE: enum compare_op */
    struct arguments *arguments;
    struct signature *signature;
    const struct builtin *builtin;
};

/* The tree costs up to some 80 bytes a byte of source. */
#define TEMPLATE_TREE_MAX (256u << 20)

struct template
{
    struct arena arena;
    struct slice source; /* line ends normalized to \n, the last one cut */
    struct node *body;   /* N_BODY */
};

struct template_place {
    uint32_t line, column; /* from 1; columns count bytes */
};
struct template_place template_place_of(struct slice source, size_t at);

NODISCARD enum status template_parse(struct template *t, struct err *e);

#endif
