/* SPDX-License-Identifier: MIT
 * operators.c — + - * / // % ** and signs, for numbers and for what else Python gives them to. */
#include <math.h>

#include "template/number.h"
#include "template/render.h"

static const char *const symbols[] = {
    [OP_ADD] = "+",        [OP_SUB] = "-", [OP_MUL] = "*", [OP_DIV] = "/",
    [OP_FLOOR_DIV] = "//", [OP_MOD] = "%", [OP_POW] = "**"};

static bool wrong_types(struct render *r, enum binary_op op, struct value a, struct value b)
{
    if (a.kind == V_UNDEFINED || b.kind == V_UNDEFINED)
        return render_fail_undefined(r, a.kind == V_UNDEFINED ? a : b);
    if (op == OP_ADD && a.kind == V_STRING)
        return render_fail(r, E_INVALID, "can only concatenate str (not \"%s\") to str",
                           value_type_name(b));
    return render_fail(r, E_INVALID, "unsupported operand type(s) for %s: '%s' and '%s'",
                       symbols[op], value_type_name(a), value_type_name(b));
}

static bool check_number(struct render *r, enum number_result result)
{
    if (result == NUMBER_LIMIT)
        return render_fail(r, E_LIMIT, "an integer of more than 4300 digits");
    if (result == NUMBER_ZERO_DIVISION)
        return render_fail(r, E_INVALID, "division by zero");
    return true;
}

/* ---- numbers ---- */

static bool float_divide(struct render *r, enum binary_op op, double x, double y, struct value *out)
{
    if (y == 0)
        return render_fail(r, E_INVALID, "float division by zero");
    if (op == OP_DIV) {
        *out = value_float(x / y);
        return true;
    }
    /* Python's float_divmod: the rest has y's sign */
    double mod = fmod(x, y), div = (x - mod) / y;
    if (mod != 0) {
        if ((y < 0) != (mod < 0)) {
            mod += y;
            div -= 1.0;
        }
    } else {
        mod = copysign(0.0, y);
    }
    if (op == OP_MOD) {
        *out = value_float(mod);
        return true;
    }
    double floored = div != 0 ? floor(div) : copysign(0.0, x / y);
    if (div != 0 && div - floored > 0.5)
        floored += 1.0;
    *out = value_float(floored);
    return true;
}

static bool float_power(struct render *r, double x, double y, struct value *out)
{
    if (x == 0 && y < 0)
        return render_fail(r, E_INVALID, "0.0 cannot be raised to a negative power");
    if (x < 0 && isfinite(x) && isfinite(y) && floor(y) != y)
        return render_fail(r, E_UNSUPPORTED, "a complex number");
    double p = pow(x, y);
    if (isinf(p) && isfinite(x) && isfinite(y))
        return render_fail(r, E_INVALID, "numerical result out of range");
    *out = value_float(p);
    return true;
}

static bool float_operate(struct render *r, enum binary_op op, double x, double y,
                          struct value *out)
{
    switch (op) {
    case OP_ADD:
        *out = value_float(x + y);
        return true;
    case OP_SUB:
        *out = value_float(x - y);
        return true;
    case OP_MUL:
        *out = value_float(x * y);
        return true;
    case OP_POW:
        return float_power(r, x, y, out);
    default:
        return float_divide(r, op, x, y, out);
    }
}

static bool int_power(struct render *r, struct value a, struct value b, struct value *out)
{
    if (number_sign(b) < 0)
        return float_power(r, number_to_double(a), number_to_double(b), out);
    uint64_t exponent =
        b.kind == V_BIG ? UINT64_MAX : (uint64_t)(b.kind == V_BOOL ? b.boolean : b.integer);
    /* a huge exponent meets the ceiling within 14 squarings; see number_power() */
    return render_steps(r, exponent > 60 ? 2000 : 1) &&
           check_number(r, number_power(&r->arena, a, exponent, out));
}

static uint32_t limbs(struct value v)
{
    return v.kind == V_BIG ? v.big->count : 1;
}

static bool int_operate(struct render *r, enum binary_op op, struct value a, struct value b,
                        struct value *out)
{
    if (!render_steps(r, (size_t)limbs(a) * limbs(b) / 32))
        return false;
    switch (op) {
    case OP_ADD:
    case OP_SUB:
        return check_number(r, number_add(&r->arena, a, b, op == OP_SUB, out));
    case OP_MUL:
        return check_number(r, number_multiply(&r->arena, a, b, out));
    case OP_DIV:
        *out = value_float(0);
        return check_number(r, number_true_divide(&r->arena, a, b, &out->real));
    case OP_FLOOR_DIV:
        return check_number(r, number_divide(&r->arena, a, b, out, NULL));
    case OP_MOD:
        return check_number(r, number_divide(&r->arena, a, b, NULL, out));
    case OP_POW:
        return int_power(r, a, b, out);
    }
    return wrong_types(r, op, a, b);
}

/* ---- sequences ---- */

static bool add_items(struct render *r, struct value a, struct value b, struct value *out)
{
    struct value *items = render_alloc(r, a.len + b.len, sizeof *items);
    if (!items)
        return false;
    if (a.len)
        memcpy(items, a.items, a.len * sizeof *items);
    if (b.len)
        memcpy(items + a.len, b.items, b.len * sizeof *items);
    *out = value_items(a.kind, items, a.len + b.len);
    return render_steps(r, (a.len + b.len) / 4);
}

/* Markup + str escapes the str, on either side. */
static bool add_strings(struct render *r, struct value a, struct value b, struct value *out)
{
    bool is_safe = (a.flag | b.flag) & STRING_SAFE;
    if (is_safe && !(a.flag & STRING_SAFE) && !text_escape(r, value_slice(a), &a))
        return false;
    if (is_safe && !(b.flag & STRING_SAFE) && !text_escape(r, value_slice(b), &b))
        return false;
    if (a.len == 0) {
        *out = b;
        return true;
    }
    return text_concat(r, a, value_slice(b), out);
}

static bool repeat(struct render *r, struct value v, struct value times, struct value *out)
{
    int64_t n = times.kind == V_BOOL ? times.boolean : times.kind == V_INT ? times.integer : 0;
    if (times.kind == V_BIG && number_sign(times) > 0)
        n = INT64_MAX;
    bool is_string = v.kind == V_STRING;
    size_t unit = is_string ? 1 : sizeof *v.items;
    size_t total, ignored;
    if (n < 0 || v.len == 0)
        n = 0;
    if (__builtin_mul_overflow(v.len, (size_t)n, &total) ||
        __builtin_mul_overflow(total, unit, &ignored))
        return render_fail(r, E_LIMIT, "the template uses too much memory");
    char *copy = render_alloc(r, total, unit);
    if (!copy || !render_steps(r, total * unit / 64))
        return false;
    for (int64_t i = 0; i < n; i++)
        memcpy(copy + (size_t)i * v.len * unit, is_string ? (const void *)v.text : v.items,
               v.len * unit);
    if (is_string) {
        uint8_t flag = v.flag & STRING_SAFE;
        *out = value_text((struct slice){copy, total});
        out->flag = flag;
    } else {
        *out = value_items(v.kind, (const struct value *)(const void *)copy, total);
    }
    return true;
}

static bool is_repeatable(struct value v)
{
    return v.kind == V_STRING || v.kind == V_LIST || v.kind == V_TUPLE;
}

bool operate(struct render *r, enum binary_op op, struct value a, struct value b, struct value *out)
{
    if (value_is_number(a) && value_is_number(b)) {
        if (a.kind == V_FLOAT || b.kind == V_FLOAT)
            return float_operate(r, op, number_to_double(a), number_to_double(b), out);
        return int_operate(r, op, a, b, out);
    }
    if (op == OP_ADD && a.kind == V_STRING && b.kind == V_STRING)
        return add_strings(r, a, b, out);
    if (op == OP_ADD && a.kind == b.kind && (a.kind == V_LIST || a.kind == V_TUPLE))
        return add_items(r, a, b, out);
    if (op == OP_MUL && is_repeatable(a) && value_is_whole(b))
        return repeat(r, a, b, out);
    if (op == OP_MUL && is_repeatable(b) && value_is_whole(a))
        return repeat(r, b, a, out);
    if (op == OP_MOD && a.kind == V_STRING)
        return format_percent(r, value_slice(a), b, out);
    return wrong_types(r, op, a, b);
}

bool operate_negate(struct render *r, struct value v, struct value *out)
{
    if (v.kind == V_FLOAT) {
        *out = value_float(-v.real);
        return true;
    }
    if (value_is_whole(v))
        return check_number(r, number_add(&r->arena, value_int(0), v, true, out));
    if (v.kind == V_UNDEFINED)
        return render_fail_undefined(r, v);
    return render_fail(r, E_INVALID, "bad operand type for unary -: '%s'", value_type_name(v));
}

bool operate_positive(struct render *r, struct value v, struct value *out)
{
    if (v.kind == V_FLOAT) {
        *out = v;
        return true;
    }
    if (value_is_whole(v))
        return check_number(r, number_add(&r->arena, v, value_int(0), false, out));
    if (v.kind == V_UNDEFINED)
        return render_fail_undefined(r, v);
    return render_fail(r, E_INVALID, "bad operand type for unary +: '%s'", value_type_name(v));
}
