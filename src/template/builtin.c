/* SPDX-License-Identifier: MIT
 * builtin.c — the tables' look-up, and how arguments meet parameters. */
#include "template/builtin.h"

#include "base/check.h"
#include "template/render.h"

static const struct builtin *find(const struct builtin *table, struct slice name)
{
    for (; table->name; table++)
        if (slice_is(name, table->name))
            return table;
    return NULL;
}

const struct builtin *builtin_filter(struct slice name)
{
    const struct builtin *b = find(builtin_text_filters, name);
    return b ? b : find(builtin_sequence_filters, name);
}

const struct builtin *builtin_test(struct slice name)
{
    return find(builtin_tests, name);
}

const struct builtin *builtin_global(struct slice name)
{
    return find(builtin_globals, name);
}

static const struct {
    uint8_t kind;
    const struct builtin *table;
} method_tables[] = {
    {V_STRING, builtin_string_methods}, {V_LIST, builtin_list_methods},
    {V_TUPLE, builtin_list_methods},    {V_RANGE, builtin_list_methods},
    {V_DICT, builtin_dict_methods},     {V_FLOAT, builtin_float_methods},
    {V_LOOP, builtin_loop_methods},     {V_CYCLER, builtin_cycler_methods},
};

const struct builtin *builtin_method(uint8_t kind, struct slice name)
{
    for (size_t i = 0; i < ARRAY_COUNT(method_tables); i++)
        if (method_tables[i].kind == kind)
            return find(method_tables[i].table, name);
    return NULL;
}

/* Methods that would change a list or dict: the immutable sandbox makes them undefined. */
static const char *const list_mutators[] = {"append", "clear", "pop",    "reverse",
                                            "insert", "sort",  "extend", "remove"};
static const char *const dict_mutators[] = {"clear", "pop", "popitem", "setdefault", "update"};

static bool is_among(const char *const *names, size_t n, struct slice name)
{
    for (size_t i = 0; i < n; i++)
        if (slice_is(name, names[i]))
            return true;
    return false;
}

bool builtin_is_refused_method(uint8_t kind, struct slice name)
{
    if (kind == V_LIST)
        return is_among(list_mutators, ARRAY_COUNT(list_mutators), name);
    return kind == V_DICT && is_among(dict_mutators, ARRAY_COUNT(dict_mutators), name);
}

bool builtin_is_method_name(struct slice name)
{
    for (size_t i = 0; i < ARRAY_COUNT(method_tables); i++)
        if (find(method_tables[i].table, name) ||
            builtin_is_refused_method(method_tables[i].kind, name))
            return true;
    return false;
}

/* ---- arguments ---- */

struct names { /* the blank-separated words of builtin.parameters */
    struct slice items[BUILTIN_PARAMETERS_MAX];
    size_t count;
    bool by_position_only;
};

static struct names split_names(const char *text)
{
    struct names n = {.count = 0};
    if (*text == '/') {
        n.by_position_only = true;
        text++;
    }
    while (*text) {
        size_t len = strcspn(text, " ");
        CHECK(n.count < BUILTIN_PARAMETERS_MAX);
        if (len)
            n.items[n.count++] = (struct slice){text, len};
        text += len + (text[len] == ' ');
    }
    return n;
}

static bool bind_named(struct render *r, const struct builtin *b, const struct names *names,
                       const struct named_value *given, struct value *parameters)
{
    for (size_t i = 0; !names->by_position_only && i < names->count; i++) {
        if (!slice_equal(names->items[i], given->name))
            continue;
        if (is_given(parameters[i]))
            return render_fail(r, E_INVALID,
                               "%s() got multiple values for argument '" SLICE_FMT "'", b->name,
                               SLICE_ARG(names->items[i]));
        parameters[i] = given->value;
        return true;
    }
    struct slice shown = {given->name.ptr, given->name.len > 80 ? 80 : given->name.len};
    return render_fail(r, E_INVALID, "%s() got an unexpected keyword argument '" SLICE_FMT "'",
                       b->name, SLICE_ARG(shown));
}

bool builtin_run(struct render *r, const struct builtin *b, struct value self,
                 const struct call *call, struct value *out)
{
    struct value parameters[BUILTIN_PARAMETERS_MAX];
    if (b->parameters[0] == '*')
        return b->run(r, self, NULL, call, out);
    struct names names = split_names(b->parameters);
    for (size_t i = 0; i < BUILTIN_PARAMETERS_MAX; i++)
        parameters[i] = (struct value){.kind = V_MISSING};
    if (call->n_args > names.count)
        return render_fail(r, E_INVALID, "%s() takes at most %zu arguments (%zu given)", b->name,
                           names.count, call->n_args);
    for (size_t i = 0; i < call->n_args; i++)
        parameters[i] = call->args[i];
    for (size_t i = 0; i < call->n_named; i++)
        if (!bind_named(r, b, &names, &call->named[i], parameters))
            return false;
    for (size_t i = 0; i < b->required; i++)
        if (!is_given(parameters[i]))
            return render_fail(r, E_INVALID, "%s() missing required argument '" SLICE_FMT "'",
                               b->name, SLICE_ARG(names.items[i]));
    return b->run(r, self, parameters, call, out);
}
