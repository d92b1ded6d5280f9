/* SPDX-License-Identifier: MIT
 * render.h — the state of one rendering, and what everything that runs in it shares.
 * All functions that can fail return false and leave the reason in the render; the first one
 * counts. */
#ifndef KVASIR_TEMPLATE_RENDER_H
#define KVASIR_TEMPLATE_RENDER_H

#include "base/buf.h"
#include "template/ast.h"
#include "template/builtin.h"

/* Evaluations and values within each other: macros that call themselves, lists in lists.  A level
 * costs some 500 bytes of stack, so that a thread needs 1 MiB. */
#define TEMPLATE_EVAL_DEPTH_MAX 900

struct binding {
    struct slice name;
    struct value value;
    struct binding *next;
};

struct scope {
    struct scope *outer;
    struct binding *bindings;
};

struct render {
    const struct template *template;
    struct template_now now;
    struct arena arena;
    struct buf *out;    /* where text goes: the caller's, or that of a macro being called */
    size_t output_left; /* of all text ever put out, captured text included */
    uint64_t steps_left;
    uint32_t depth;
    uint32_t random_count; /* of the filter `random` */
    struct scope globals;  /* the variables */
    enum status status;
    struct err err;
    bool has_place; /* a node has claimed the error */
};

/* ---- limits and failures ---- */
void render_set_failed(struct render *r, enum status st, const char *fmt, ...) PRINTF_LIKE(3, 4);
void render_set_undefined(struct render *r, struct value undefined);
/* Both are false: `return render_fail(…)`, which the compiler must see to know what is set. */
#define render_fail(r, ...)         (render_set_failed(r, __VA_ARGS__), false)
#define render_fail_undefined(r, v) (render_set_undefined(r, v), false)
NODISCARD bool render_steps(struct render *r, size_t steps); /* one step: a node or some 64 bytes */
NODISCARD bool render_enter(struct render *r);               /* then r->depth-- */
NODISCARD bool render_put(struct render *r, struct slice text);
void *render_alloc(struct render *r, size_t count, size_t size); /* NULL: failed */
NODISCARD bool render_text(struct render *r, struct slice text, struct value *out); /* a copy */
/* Text built in a buffer becomes a string; the buffer is released either way. */
NODISCARD bool render_buf(struct render *r, struct buf *b, struct value *out);
void render_buf_init(struct render *r, struct buf *b);

/* ---- text.c: str() and repr() ---- */
NODISCARD bool text_str(struct render *r, struct value v, struct slice *out);
NODISCARD bool text_repr(struct render *r, struct buf *b, struct value v);
void text_float(struct buf *b, double v);
NODISCARD bool text_concat(struct render *r, struct value a, struct slice b, struct value *out);
NODISCARD bool text_escape(struct render *r, struct slice s,
                           struct value *out); /* HTML, marked safe */

/* ---- operators.c ---- */
NODISCARD bool operate(struct render *r, enum binary_op op, struct value a, struct value b,
                       struct value *out);
NODISCARD bool operate_negate(struct render *r, struct value v, struct value *out);
NODISCARD bool operate_positive(struct render *r, struct value v, struct value *out);

/* ---- attributes.c ---- */
NODISCARD bool attribute_get(struct render *r, struct value v, struct slice name,
                             struct value *out);
NODISCARD bool attribute_item(struct render *r, struct value v, struct value key,
                              struct value *out);
NODISCARD bool attribute_slice(struct render *r, struct value v, const struct value bounds[3],
                               struct value *out);
/* "a.b.0", 3 or none: the path of an `attribute=` argument; `missing` (if given) stands for what is
 * undefined on the way. */
NODISCARD bool attribute_path(struct render *r, struct value v, struct value path,
                              struct value missing, struct value *out);

/* ---- format.c ---- */
NODISCARD bool format_percent(struct render *r, struct slice format, struct value args,
                              struct value *out);
NODISCARD bool format_braces(struct render *r, struct slice format, const struct call *call,
                             struct value *out);

/* ---- tojson.c ---- */
struct json_options {
    bool ensure_ascii, sort_keys;
    bool has_indent;
    struct slice indent; /* of one level */
    struct slice item_separator, key_separator;
};
NODISCARD bool tojson_write(struct render *r, struct buf *b, struct value v,
                            const struct json_options *o);

/* ---- sort.c ---- */
/* keys[i] belongs to items[i]; both are moved.  Stable, also when reversed. */
NODISCARD bool sort_by_keys(struct render *r, struct value *items, struct value *keys, size_t n,
                            bool reverse);

/* ---- eval.c ---- */
NODISCARD bool eval(struct render *r, struct scope *s, const struct node *n, struct value *out);
NODISCARD bool eval_arguments(struct render *r, struct scope *s, const struct arguments *a,
                              struct call *out);
NODISCARD bool eval_filters(struct render *r, struct scope *s, const struct node *n,
                            struct value in,
                            struct value *out); /* a chain whose head has no value */
NODISCARD bool eval_call(struct render *r, struct value callee, const struct call *c,
                         struct value *out);
bool scope_set(struct render *r, struct scope *s, struct slice name, struct value v);
struct scope *scope_new(struct render *r, struct scope *outer);

/* ---- exec.c ---- */
enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE, FLOW_FAILED };
enum flow exec_body(struct render *r, struct scope *s, const struct node_list *body);

struct capture {
    struct buf text;
    struct buf *outer;
};
void capture_begin(struct render *r, struct capture *c);
NODISCARD bool capture_end(struct render *r, struct capture *c, bool ok, struct value *out);

/* ---- macro.c ---- */
struct macro {
    const struct signature *signature;
    const struct node_list *body;
    struct scope *scope; /* where it was defined */
};
NODISCARD bool macro_call(struct render *r, const struct macro *m, const struct call *c,
                          struct value *out);

/* ---- loop.c ---- */
struct loop {
    const struct node *node;
    struct scope *scope; /* around the loop */
    const struct value *items;
    size_t count, at; /* at: the next item that is not taken from items */
    bool is_filtered; /* items still have to pass the filter */
    bool has_next, has_current, has_previous, has_changed;
    struct value next, current, previous;
    struct value changed; /* tuple of loop.changed()'s last arguments */
    int64_t index0;
    uint32_t level; /* of a recursive loop, from 0 */
};
enum flow loop_run(struct render *r, struct scope *s, const struct node *n, struct value over,
                   uint32_t level);
NODISCARD bool loop_attribute(struct render *r, struct loop *l, struct slice name, bool *found,
                              struct value *out);
NODISCARD bool loop_length(struct render *r, struct loop *l, int64_t *out);
NODISCARD bool loop_recurse(struct render *r, struct loop *l, const struct call *c,
                            struct value *out);
NODISCARD bool assign_target(struct render *r, struct scope *s, const struct node *target,
                             struct value v);

#endif
