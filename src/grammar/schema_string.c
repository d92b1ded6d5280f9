/* SPDX-License-Identifier: MIT
 * schema_string.c — strings by length, pattern and format: the intersection of their automata. */
#include "base/mem.h"
#include "grammar/regex.h"
#include "grammar/schema_int.h"

/* Texts of least to most code points; most SCHEMA_COUNT_MAX + 1: without end. */
static enum status length_dfa(uint32_t least, uint32_t most, struct dfa *out, struct err *e)
{
    struct dfa_maker m = {0};
    bool is_open = most > SCHEMA_COUNT_MAX;
    uint32_t last = is_open ? least : most;
    for (uint32_t i = 0; i <= last; i++) {
        dfa_maker_state(&m, i >= least && (is_open || i <= most));
        if (i < last || is_open)
            dfa_maker_edge(&m, 0, CODE_POINT_MAX, i < last ? i + 1 : i);
    }
    return dfa_maker_end(&m, out, e);
}

/* d = d ∧ other, which is released. */
static enum status narrow(struct schema *s, struct dfa *d, bool *is_any, struct dfa *other)
{
    if (*is_any) {
        *d = *other;
        *is_any = false;
        return OK;
    }
    struct dfa both;
    enum status st = dfa_intersect(d, other, &both, s->e);
    dfa_release(other);
    if (st == OK) {
        dfa_release(d);
        *d = both;
    }
    return st;
}

static enum status narrow_by_text(struct schema *s, struct dfa *d, bool *is_any,
                                  struct slice pattern)
{
    struct dfa other;
    enum status st = regex_search(pattern, &other, s->e);
    return st == OK ? narrow(s, d, is_any, &other) : st;
}

static enum status narrow_by_member(struct schema *s, const struct json *member, struct dfa *d,
                                    bool *is_any)
{
    const struct json *pattern = json_get(member, "pattern"), *format = json_get(member, "format");
    uint32_t least, most;
    enum status st = schema_count(s, member, "minLength", 0, &least);
    if (st == OK)
        st = schema_count(s, member, "maxLength", SCHEMA_COUNT_MAX + 1, &most);
    if (st == OK && (least > 0 || most <= SCHEMA_COUNT_MAX)) {
        struct dfa other;
        st = length_dfa(least, most, &other, s->e);
        if (st == OK)
            st = narrow(s, d, is_any, &other);
    }
    if (st == OK && pattern)
        st = pattern->kind == JSON_STRING
                 ? narrow_by_text(s, d, is_any, pattern->text)
                 : err_set(s->e, E_INVALID, "schema: pattern must be a string");
    const char *of_format =
        format && format->kind == JSON_STRING ? schema_format(format->text) : NULL;
    if (st == OK && of_format)
        st = narrow_by_text(s, d, is_any, slice_of(of_format));
    return st;
}

enum status schema_text_dfa(struct schema *s, const struct conjunction *c, struct dfa *out,
                            bool *is_any)
{
    enum status st = OK;
    *is_any = true;
    *out = (struct dfa){0};
    for (uint32_t i = 0; i < c->n && st == OK; i++)
        st = narrow_by_member(s, c->members[i], out, is_any);
    if (st != OK)
        dfa_release(out);
    return st;
}

enum status schema_text(struct schema *s, const struct conjunction *c, const struct expr **out)
{
    struct dfa d;
    uint32_t rule;
    bool is_any;
    enum status st = schema_text_dfa(s, c, &d, &is_any);
    if (st != OK)
        return st;
    if (is_any) {
        *out = schema_string(s);
    } else {
        st = rules_text(&s->rules, &d, &rule, s->e);
        if (st != OK)
            return st;
        *out = expr_call(&s->rules.arena, rule);
    }
    return *out ? OK : schema_nomem(s);
}
