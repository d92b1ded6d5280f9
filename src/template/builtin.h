/* SPDX-License-Identifier: MIT
 * builtin.h — filters, tests, global functions and methods, by name.
 * A name is looked up when the template is compiled (methods: when they are reached, but a method
 * call whose name nothing could have is refused when compiling too). */
#ifndef KVASIR_TEMPLATE_BUILTIN_H
#define KVASIR_TEMPLATE_BUILTIN_H

#include "template/value.h"

struct named_value {
    struct slice name;
    struct value value;
};

struct call { /* evaluated arguments */
    const struct value *args;
    size_t n_args;
    const struct named_value *named;
    size_t n_named;
};

#define BUILTIN_PARAMETERS_MAX 6
#define V_MISSING              255 /* kind of a parameter that was not given */

/* self: the filtered or tested value, or the method's object; parameters by position of the table's
 * `parameters`; call: all arguments, for builtins that take any. */
typedef bool builtin_fn(struct render *r, struct value self, const struct value *parameters,
                        const struct call *call, struct value *out);

struct builtin {
    const char *name;
    builtin_fn *run;
    const char *parameters; /* names between blanks; "/" first: by position only; "*": any */
    uint8_t required;
};

const struct builtin *builtin_filter(struct slice name);
const struct builtin *builtin_test(struct slice name);
const struct builtin *builtin_global(struct slice name);
const struct builtin *builtin_method(uint8_t kind, struct slice name);
/* A method that Python has and that may not (mutators) or cannot (encode) be used here. */
bool builtin_is_refused_method(uint8_t kind, struct slice name);
/* Does any kind of value have this attribute to be called? */
bool builtin_is_method_name(struct slice name);
NODISCARD bool builtin_run(struct render *r, const struct builtin *b, struct value self,
                           const struct call *call, struct value *out);

static inline bool is_given(struct value v)
{
    return v.kind != V_MISSING;
}

/* The tables, each ending with a row whose name is NULL. */
extern const struct builtin builtin_text_filters[], builtin_sequence_filters[], builtin_tests[],
    builtin_globals[], builtin_string_methods[], builtin_list_methods[], builtin_dict_methods[],
    builtin_float_methods[], builtin_loop_methods[], builtin_cycler_methods[];

#endif
