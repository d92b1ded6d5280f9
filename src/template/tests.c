/* SPDX-License-Identifier: MIT
 * tests.c — what follows `is`, after jinja2's tests.py (3.1.6). */
#include "template/number.h"
#include "template/render.h"
#include "template/unicode.h"

#define TEST(name)                                                               \
    static bool name(struct render *r, struct value self, const struct value *p, \
                     const struct call *c, struct value *out)
#define UNUSED \
    (void)r;   \
    (void)p;   \
    (void)c

static bool remainder_is(struct render *r, struct value v, struct value by, int64_t wanted,
                         struct value *out)
{
    struct value rest;
    bool equal;
    if (!operate(r, OP_MOD, v, by, &rest) || !value_equal(r, rest, value_int(wanted), &equal))
        return false;
    *out = value_bool(equal);
    return true;
}

TEST(test_odd)
{
    UNUSED;
    return remainder_is(r, self, value_int(2), 1, out);
}

TEST(test_even)
{
    UNUSED;
    return remainder_is(r, self, value_int(2), 0, out);
}

TEST(test_divisibleby)
{
    UNUSED;
    return remainder_is(r, self, p[0], 0, out);
}

/* Tests that look at the kind only. */
#define KIND_TEST(name, condition)    \
    TEST(name)                        \
    {                                 \
        UNUSED;                       \
        *out = value_bool(condition); \
        return true;                  \
    }

KIND_TEST(test_defined, self.kind != V_UNDEFINED)
KIND_TEST(test_undefined, self.kind == V_UNDEFINED)
KIND_TEST(test_none, self.kind == V_NONE)
KIND_TEST(test_boolean, self.kind == V_BOOL)
KIND_TEST(test_true, self.kind == V_BOOL && self.boolean)
KIND_TEST(test_false, self.kind == V_BOOL && !self.boolean)
KIND_TEST(test_integer, self.kind == V_INT || self.kind == V_BIG)
KIND_TEST(test_float, self.kind == V_FLOAT)
KIND_TEST(test_number, value_is_number(self))
KIND_TEST(test_string, self.kind == V_STRING)
KIND_TEST(test_mapping, self.kind == V_DICT)
KIND_TEST(test_sequence, self.kind == V_STRING || self.kind == V_LIST || self.kind == V_TUPLE ||
                             self.kind == V_DICT || self.kind == V_RANGE ||
                             self.kind == V_UNDEFINED)
KIND_TEST(test_iterable, self.kind == V_STRING || value_is_sequence(self) || self.kind == V_DICT ||
                             self.kind == V_RANGE || self.kind == V_ITERATOR ||
                             self.kind == V_LOOP || self.kind == V_UNDEFINED)
KIND_TEST(test_callable, self.kind == V_FUNCTION || self.kind == V_METHOD || self.kind == V_MACRO ||
                             self.kind == V_JOINER || self.kind == V_LOOP ||
                             self.kind == V_UNDEFINED)
KIND_TEST(test_escaped, self.kind == V_STRING && (self.flag & STRING_SAFE))
KIND_TEST(test_filter, self.kind == V_STRING && builtin_filter(value_slice(self)) != NULL)
KIND_TEST(test_test, self.kind == V_STRING && builtin_test(value_slice(self)) != NULL)

/* str.islower(), str.isupper(): some cased characters, all of one case. */
static bool has_case(struct render *r, struct value v, uint32_t wanted, struct value *out)
{
    struct slice s;
    bool any = false;
    *out = value_bool(false);
    if (!text_str(r, v, &s) || !render_steps(r, s.len / 8))
        return false;
    for (size_t at = 0; at < s.len;) {
        uint32_t class = unicode_class(unicode_next(s, &at, NULL));
        if (class & UNI_CASED & ~wanted)
            return true;
        any |= (class & wanted) != 0;
    }
    *out = value_bool(any);
    return true;
}

TEST(test_lower)
{
    UNUSED;
    return has_case(r, self, UNI_LOWER, out);
}

TEST(test_upper)
{
    UNUSED;
    return has_case(r, self, UNI_UPPER, out);
}

/* Identity: scalars by value (Python keeps one of each small one), the rest by place. */
TEST(test_sameas)
{
    UNUSED;
    bool same = self.kind == p[0].kind;
    if (same && (value_is_number(self) || self.kind == V_STRING)) {
        if (!value_equal(r, self, p[0], &same))
            return false;
    } else if (same && self.kind != V_NONE && self.kind != V_UNDEFINED) {
        same = self.macro == p[0].macro && self.len == p[0].len;
    }
    *out = value_bool(same);
    return true;
}

TEST(test_in)
{
    UNUSED;
    bool is_in;
    if (!value_contains(r, self, p[0], &is_in))
        return false;
    *out = value_bool(is_in);
    return true;
}

static bool equality(struct render *r, struct value a, struct value b, bool wanted,
                     struct value *out)
{
    bool equal;
    if (!value_equal(r, a, b, &equal))
        return false;
    *out = value_bool(equal == wanted);
    return true;
}

TEST(test_eq)
{
    UNUSED;
    return equality(r, self, p[0], true, out);
}

TEST(test_ne)
{
    UNUSED;
    return equality(r, self, p[0], false, out);
}

/* wanted: sign of a−b; or_equal: 0 will do too. */
static bool order(struct render *r, struct value a, struct value b, const char *op, int wanted,
                  bool or_equal, struct value *out)
{
    int sign;
    bool is_unordered;
    if (!value_compare(r, a, b, op, &sign, &is_unordered))
        return false;
    bool ok = wanted > 0 ? sign > 0 : sign < 0;
    *out = value_bool(!is_unordered && (ok || (or_equal && sign == 0)));
    return true;
}

TEST(test_gt)
{
    UNUSED;
    return order(r, self, p[0], ">", 1, false, out);
}

TEST(test_ge)
{
    UNUSED;
    return order(r, self, p[0], ">=", 1, true, out);
}

TEST(test_lt)
{
    UNUSED;
    return order(r, self, p[0], "<", -1, false, out);
}

TEST(test_le)
{
    UNUSED;
    return order(r, self, p[0], "<=", -1, true, out);
}

const struct builtin builtin_tests[] = {
    {"odd", test_odd, "", 0},
    {"even", test_even, "", 0},
    {"divisibleby", test_divisibleby, "num", 1},
    {"defined", test_defined, "", 0},
    {"undefined", test_undefined, "", 0},
    {"filter", test_filter, "", 0},
    {"test", test_test, "", 0},
    {"none", test_none, "", 0},
    {"boolean", test_boolean, "", 0},
    {"false", test_false, "", 0},
    {"true", test_true, "", 0},
    {"integer", test_integer, "", 0},
    {"float", test_float, "", 0},
    {"lower", test_lower, "", 0},
    {"upper", test_upper, "", 0},
    {"string", test_string, "", 0},
    {"mapping", test_mapping, "", 0},
    {"number", test_number, "", 0},
    {"sequence", test_sequence, "", 0},
    {"iterable", test_iterable, "", 0},
    {"callable", test_callable, "", 0},
    {"sameas", test_sameas, "other", 1},
    {"escaped", test_escaped, "", 0},
    {"in", test_in, "seq", 1},
    {"==", test_eq, "/b", 1},
    {"eq", test_eq, "/b", 1},
    {"equalto", test_eq, "/b", 1},
    {"!=", test_ne, "/b", 1},
    {"ne", test_ne, "/b", 1},
    {">", test_gt, "/b", 1},
    {"gt", test_gt, "/b", 1},
    {"greaterthan", test_gt, "/b", 1},
    {">=", test_ge, "/b", 1},
    {"ge", test_ge, "/b", 1},
    {"<", test_lt, "/b", 1},
    {"lt", test_lt, "/b", 1},
    {"lessthan", test_lt, "/b", 1},
    {"<=", test_le, "/b", 1},
    {"le", test_le, "/b", 1},
    {NULL, NULL, NULL, 0},
};
