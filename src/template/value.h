/* SPDX-License-Identifier: MIT
 * value.h — what a template computes with: Python's values, as far as Jinja shows them.
 * Values are immutable but for namespace, loop, cycler, joiner and iterator; they live in the
 * render's arena (constants in the template's) and are passed by value: 24 bytes and a pointer.
 * Strings are bytes, not NUL-terminated; lengths and indices that a template sees count code
 * points. */
#ifndef KVASIR_TEMPLATE_VALUE_H
#define KVASIR_TEMPLATE_VALUE_H

#include "base/slice.h"
#include "base/status.h"

struct render;
struct builtin;

enum value_kind {
    V_UNDEFINED,
    V_NONE,
    V_BOOL,
    V_INT,
    V_BIG, /* an integer beyond int64; never one that fits */
    V_FLOAT,
    V_STRING,
    V_LIST,
    V_TUPLE,
    V_DICT,
    V_RANGE,
    V_VIEW,     /* dict.keys(), .values(), .items() */
    V_ITERATOR, /* what map, select, batch … give: read once, no length, always true */
    V_NAMESPACE,
    V_MACRO,
    V_LOOP,
    V_CYCLER,
    V_JOINER,
    V_FUNCTION, /* a global: range, raise_exception, … */
    V_METHOD    /* a method with its object */
};

enum string_flag {
    STRING_SAFE = 1,    /* Markup: + escapes what is added */
    STRING_GROWABLE = 2 /* text starts a struct string_room that may have room behind the text */
};
enum tuple_flag { TUPLE_PLAIN, TUPLE_GROUP }; /* groupby's: has .grouper and .list */
enum view_flag { VIEW_KEYS, VIEW_VALUES, VIEW_ITEMS };

struct value {
    uint8_t kind;
    uint8_t flag; /* enum string_flag bits, tuple_flag or view_flag */
    size_t len;   /* bytes of a string; items of a list, tuple, view; pairs of a dict */
    union {
        bool boolean;
        int64_t integer;
        double real;
        const struct bigint *big;
        const char *text;
        const struct value *items;
        const struct pair *pairs;
        const struct range *range;
        const struct undefined *undefined; /* NULL: nothing to say */
        struct iterator *iterator;
        struct namespace *space;
        struct macro *macro;
        struct loop *loop;
        struct cycler *cycler;
        struct joiner *joiner;
        const struct builtin *function;
        const struct method *method;
    };
};

struct pair {
    struct value key, value;
};

struct undefined {
    struct slice hint; /* the whole message, when not empty */
    bool has_object;
    uint8_t object_kind;
    struct value name;
};

struct range {
    int64_t start, stop, step;
};

struct iterator {
    const struct value *items;
    size_t count, at;
};

struct namespace
{
    struct pair *pairs;
    size_t count, cap;
};

struct cycler {
    const struct value *items;
    size_t count, at;
};

struct joiner {
    struct value separator;
    bool is_used;
};

struct method {
    struct value self;
    const struct builtin *function;
};

/* ---- making ---- */
static inline struct value value_none(void)
{
    return (struct value){.kind = V_NONE};
}
static inline struct value value_bool(bool b)
{
    return (struct value){.kind = V_BOOL, .boolean = b};
}
static inline struct value value_int(int64_t i)
{
    return (struct value){.kind = V_INT, .integer = i};
}
static inline struct value value_float(double d)
{
    return (struct value){.kind = V_FLOAT, .real = d};
}
static inline struct value value_text(struct slice s)
{
    return (struct value){.kind = V_STRING, .len = s.len, .text = s.ptr ? s.ptr : ""};
}
/* Where the items of an empty list are: never NULL, so that one may add an offset of 0. */
extern const struct value value_no_items[1];
static inline struct value value_items(enum value_kind kind, const struct value *items, size_t n)
{
    return (struct value){.kind = (uint8_t)kind, .len = n, .items = items ? items : value_no_items};
}
static inline struct slice value_slice(struct value s)
{
    return (struct slice){s.text, s.len};
}
static inline bool value_is_sequence(struct value v) /* items[len] */
{
    return v.kind == V_LIST || v.kind == V_TUPLE || v.kind == V_VIEW;
}
static inline bool value_is_whole(struct value v) /* Python's int; bool is one */
{
    return v.kind == V_INT || v.kind == V_BIG || v.kind == V_BOOL;
}
static inline bool value_is_number(struct value v)
{
    return value_is_whole(v) || v.kind == V_FLOAT;
}

struct value value_undefined_named(struct render *r, struct slice name);
struct value value_undefined_of(struct render *r, struct value object, struct value name);
struct value value_undefined_hint(struct render *r, struct slice hint);

/* ---- asking; all that can fail return false with the reason in the render ---- */
const char *value_type_name(struct value v); /* as Python prints it: str, int, list, NoneType … */
bool value_truth(struct value v);
NODISCARD bool value_equal(struct render *r, struct value a, struct value b, bool *out);
/* Python's < for values of one sort; TypeError for others.  *out < 0, 0, > 0; *is_unordered for
 * NaN. `op` is for the message. */
NODISCARD bool value_compare(struct render *r, struct value a, struct value b, const char *op,
                             int *out, bool *is_unordered);
NODISCARD bool value_contains(struct render *r, struct value item, struct value in, bool *out);
NODISCARD bool value_length(struct render *r, struct value v, int64_t *out);
/* The items that iteration yields.  Empties an iterator. */
NODISCARD bool value_iterate(struct render *r, struct value v, const struct value **items,
                             size_t *n);
NODISCARD bool value_hashable(struct render *r, struct value v);
/* A key's value in pairs; false when it is not there.  Never fails: keys are hashable. */
bool value_find(struct render *r, const struct pair *pairs, size_t n, struct value key, size_t *at);

#endif
