/* SPDX-License-Identifier: MIT
 * number.c — whole numbers as sign and magnitude in limbs of 32 bits; what fits int64 is V_INT.
 * Algorithms: schoolbook, Knuth's algorithm D (TAOCP 4.3.1); numbers have at most 447 limbs. */
#include "template/number.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* A number on the stack: twice the ceiling, so that a product fits before it is checked. */
struct wide {
    bool is_negative;
    uint32_t count;
    uint32_t limb[2 * BIGINT_LIMBS_MAX + 2];
};

static void trim(struct wide *w)
{
    while (w->count > 0 && w->limb[w->count - 1] == 0)
        w->count--;
    if (w->count == 0)
        w->is_negative = false;
}

static void from_magnitude(struct wide *w, uint64_t m, bool is_negative)
{
    w->is_negative = is_negative;
    w->count = 2;
    w->limb[0] = (uint32_t)m;
    w->limb[1] = (uint32_t)(m >> 32);
    trim(w);
}

static void widen(struct wide *w, struct value v)
{
    if (v.kind == V_BIG) {
        w->is_negative = v.big->is_negative;
        w->count = v.big->count;
        memcpy(w->limb, v.big->limb, v.big->count * sizeof w->limb[0]);
        return;
    }
    int64_t i = v.kind == V_BOOL ? v.boolean : v.integer;
    from_magnitude(w, i < 0 ? 0 - (uint64_t)i : (uint64_t)i, i < 0);
}

static enum number_result narrow(struct arena *a, struct wide *w, struct value *out)
{
    trim(w);
    if (w->count <= 2) {
        uint64_t m = w->count > 0 ? w->limb[0] : 0;
        m |= w->count > 1 ? (uint64_t)w->limb[1] << 32 : 0;
        if (m <= INT64_MAX || (w->is_negative && m == (uint64_t)INT64_MAX + 1)) {
            *out = value_int(w->is_negative ? (int64_t)(0 - m) : (int64_t)m);
            return NUMBER_OK;
        }
    }
    if (w->count > BIGINT_LIMBS_MAX)
        return NUMBER_LIMIT;
    struct bigint *big = arena_alloc(a, 1, sizeof *big + w->count * sizeof big->limb[0]);
    if (!big)
        return NUMBER_LIMIT;
    big->is_negative = w->is_negative;
    big->count = w->count;
    memcpy(big->limb, w->limb, w->count * sizeof big->limb[0]);
    *out = (struct value){.kind = V_BIG, .big = big};
    return NUMBER_OK;
}

/* ---- magnitudes ---- */

static int compare_magnitude(const struct wide *x, const struct wide *y)
{
    if (x->count != y->count)
        return x->count < y->count ? -1 : 1;
    for (uint32_t i = x->count; i-- > 0;)
        if (x->limb[i] != y->limb[i])
            return x->limb[i] < y->limb[i] ? -1 : 1;
    return 0;
}

/* x = x·m + add; false when it grows beyond the ceiling. */
static bool multiply_small(struct wide *x, uint32_t m, uint32_t add)
{
    uint64_t carry = add;
    for (uint32_t i = 0; i < x->count; i++) {
        carry += (uint64_t)x->limb[i] * m;
        x->limb[i] = (uint32_t)carry;
        carry >>= 32;
    }
    if (carry) {
        if (x->count >= BIGINT_LIMBS_MAX)
            return false;
        x->limb[x->count++] = (uint32_t)carry;
    }
    return true;
}

static uint32_t divide_small(struct wide *x, uint32_t d)
{
    uint64_t rest = 0;
    for (uint32_t i = x->count; i-- > 0;) {
        rest = rest << 32 | x->limb[i];
        x->limb[i] = (uint32_t)(rest / d);
        rest %= d;
    }
    trim(x);
    return (uint32_t)rest;
}

static void add_magnitude(struct wide *x, const struct wide *y)
{
    uint64_t carry = 0;
    uint32_t n = x->count > y->count ? x->count : y->count;
    for (uint32_t i = 0; i < n; i++) {
        carry += (uint64_t)(i < x->count ? x->limb[i] : 0) + (i < y->count ? y->limb[i] : 0);
        x->limb[i] = (uint32_t)carry;
        carry >>= 32;
    }
    x->count = n;
    if (carry)
        x->limb[x->count++] = (uint32_t)carry;
}

/* x ≥ y. */
static void subtract_magnitude(struct wide *x, const struct wide *y)
{
    int64_t borrow = 0;
    for (uint32_t i = 0; i < x->count; i++) {
        int64_t d = (int64_t)x->limb[i] - (i < y->count ? y->limb[i] : 0) + borrow;
        x->limb[i] = (uint32_t)d;
        borrow = d < 0 ? -1 : 0;
    }
    trim(x);
}

static void shift_left(struct wide *x, unsigned bits)
{
    uint32_t carry = 0;
    for (uint32_t i = 0; bits && i < x->count; i++) {
        uint32_t v = x->limb[i];
        x->limb[i] = v << bits | carry;
        carry = v >> (32 - bits);
    }
    x->limb[x->count] = carry; /* a limb more than before, maybe 0 */
}

static void shift_right(struct wide *x, unsigned bits)
{
    for (uint32_t i = 0; bits && i < x->count; i++) {
        uint32_t above = i + 1 < x->count ? x->limb[i + 1] : 0;
        x->limb[i] = x->limb[i] >> bits | above << (32 - bits);
    }
    trim(x);
}

/* One step of algorithm D: subtracts q̂·y from x at j, puts it right when q̂ was one too large. */
static uint32_t divide_step(struct wide *x, const struct wide *y, uint32_t j)
{
    uint32_t n = y->count;
    uint64_t top = (uint64_t)x->limb[j + n] << 32 | x->limb[j + n - 1];
    uint64_t q = top / y->limb[n - 1], rest = top % y->limb[n - 1];
    while (q >> 32 || q * y->limb[n - 2] > (rest << 32 | x->limb[j + n - 2])) {
        q--;
        rest += y->limb[n - 1];
        if (rest >> 32)
            break;
    }
    uint64_t carry = 0;
    int64_t borrow = 0;
    for (uint32_t i = 0; i <= n; i++) {
        carry += i < n ? q * y->limb[i] : 0;
        int64_t d = (int64_t)x->limb[i + j] - (int64_t)(uint32_t)carry + borrow;
        x->limb[i + j] = (uint32_t)d;
        borrow = d < 0 ? -1 : 0;
        carry >>= 32;
    }
    if (!borrow)
        return (uint32_t)q;
    carry = 0;
    for (uint32_t i = 0; i <= n; i++) {
        carry += (uint64_t)x->limb[i + j] + (i < n ? y->limb[i] : 0);
        x->limb[i + j] = (uint32_t)carry;
        carry >>= 32;
    }
    return (uint32_t)(q - 1);
}

/* x becomes the rest; q the quotient of the magnitudes.  y ≠ 0. */
static void divide_magnitude(struct wide *x, struct wide *y, struct wide *q)
{
    q->count = 0;
    if (compare_magnitude(x, y) < 0)
        return;
    if (y->count == 1) {
        *q = *x;
        from_magnitude(x, divide_small(q, y->limb[0]), x->is_negative);
        return;
    }
    unsigned bits = (unsigned)__builtin_clz(y->limb[y->count - 1]);
    shift_left(x, bits);
    shift_left(y, bits);
    q->count = x->count - y->count + 1;
    for (uint32_t j = q->count; j-- > 0;)
        q->limb[j] = divide_step(x, y, j);
    trim(q);
    x->count = y->count;
    shift_right(x, bits);
}

/* ---- operations ---- */

enum number_result number_add(struct arena *a, struct value v, struct value w, bool minus,
                              struct value *out)
{
    struct wide x, y;
    int64_t sum;
    if (v.kind == V_INT && w.kind == V_INT &&
        !(minus ? __builtin_sub_overflow(v.integer, w.integer, &sum)
                : __builtin_add_overflow(v.integer, w.integer, &sum))) {
        *out = value_int(sum);
        return NUMBER_OK;
    }
    widen(&x, v);
    widen(&y, w);
    y.is_negative ^= minus;
    if (x.is_negative == y.is_negative) {
        add_magnitude(&x, &y);
        return narrow(a, &x, out);
    }
    if (compare_magnitude(&x, &y) >= 0) {
        subtract_magnitude(&x, &y);
        return narrow(a, &x, out);
    }
    subtract_magnitude(&y, &x);
    return narrow(a, &y, out);
}

enum number_result number_multiply(struct arena *a, struct value v, struct value w,
                                   struct value *out)
{
    struct wide x, y, z = {0};
    int64_t product;
    if (v.kind == V_INT && w.kind == V_INT &&
        !__builtin_mul_overflow(v.integer, w.integer, &product)) {
        *out = value_int(product);
        return NUMBER_OK;
    }
    widen(&x, v);
    widen(&y, w);
    z.count = x.count + y.count;
    z.is_negative = x.is_negative != y.is_negative;
    for (uint32_t i = 0; i < x.count; i++) {
        uint64_t carry = 0;
        for (uint32_t j = 0; j < y.count; j++) {
            carry += (uint64_t)x.limb[i] * y.limb[j] + z.limb[i + j];
            z.limb[i + j] = (uint32_t)carry;
            carry >>= 32;
        }
        z.limb[i + y.count] = (uint32_t)carry;
    }
    return narrow(a, &z, out);
}

enum number_result number_divide(struct arena *a, struct value v, struct value w,
                                 struct value *quotient, struct value *rest)
{
    struct wide x, y, q = {0}, d;
    struct value ignored;
    widen(&x, v);
    widen(&y, w);
    if (y.count == 0)
        return NUMBER_ZERO_DIVISION;
    d = y;
    bool is_mixed = x.is_negative != y.is_negative;
    bool y_negative = y.is_negative;
    divide_magnitude(&x, &y, &q);
    trim(&x);
    if (is_mixed && x.count > 0) { /* towards minus infinity: one more, the rest on y's side */
        struct wide one;
        from_magnitude(&one, 1, false);
        add_magnitude(&q, &one);
        subtract_magnitude(&d, &x);
        x = d;
    }
    q.is_negative = is_mixed;
    x.is_negative = y_negative;
    enum number_result result = narrow(a, &q, quotient ? quotient : &ignored);
    return result == NUMBER_OK ? narrow(a, &x, rest ? rest : &ignored) : result;
}

enum number_result number_power(struct arena *a, struct value x, uint64_t exponent,
                                struct value *out)
{
    struct value result = value_int(1);
    enum number_result st = NUMBER_OK;
    bool is_unit = x.kind == V_BOOL || (x.kind == V_INT && x.integer >= -1 && x.integer <= 1);
    if (is_unit) /* its powers stay small, so that the ceiling would never end the loop */
        exponent = exponent > 2 ? 2 + exponent % 2 : exponent;
    while (exponent > 0 && st == NUMBER_OK) {
        if (exponent & 1)
            st = number_multiply(a, result, x, &result);
        exponent >>= 1;
        if (exponent && st == NUMBER_OK)
            st = number_multiply(a, x, x, &x);
    }
    *out = result;
    return st;
}

static int bit_length(struct value v)
{
    if (v.kind == V_BIG)
        return (int)(32 * v.big->count) - __builtin_clz(v.big->limb[v.big->count - 1]);
    int64_t i = v.kind == V_BOOL ? v.boolean : v.integer;
    uint64_t m = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    return m ? 64 - __builtin_clzll(m) : 0;
}

/* Beyond 53 bits: an integer quotient of some 66 bits, the rest in its lowest bit, rounded once. */
enum number_result number_true_divide(struct arena *a, struct value x, struct value y, double *out)
{
    struct value scale, quotient, rest;
    if (number_sign(y) == 0)
        return NUMBER_ZERO_DIVISION;
    if (bit_length(x) == 0 || (bit_length(x) <= 53 && bit_length(y) <= 53)) {
        *out = number_to_double(x) / number_to_double(y);
        return NUMBER_OK;
    }
    int shift = 66 - (bit_length(x) - bit_length(y));
    enum number_result st = number_power(a, value_int(2), (uint64_t)abs(shift), &scale);
    if (st == NUMBER_OK)
        st = number_multiply(a, shift > 0 ? x : y, scale, shift > 0 ? &x : &y);
    if (st == NUMBER_OK)
        st = number_divide(a, x, y, &quotient, &rest);
    if (st == NUMBER_OK && number_sign(rest) != 0) { /* towards minus infinity: make it sticky */
        st = number_multiply(a, quotient, value_int(2), &quotient);
        if (st == NUMBER_OK)
            st = number_add(a, quotient, value_int(1), false, &quotient);
        shift++;
    }
    if (st == NUMBER_OK)
        *out = ldexp(number_to_double(quotient), -shift);
    return st;
}

int number_sign(struct value v)
{
    if (v.kind == V_BIG)
        return v.big->is_negative ? -1 : 1;
    int64_t i = v.kind == V_BOOL ? v.boolean : v.integer;
    return (i > 0) - (i < 0);
}

/* ---- doubles ---- */

double number_to_double(struct value v)
{
    switch (v.kind) {
    case V_FLOAT:
        return v.real;
    case V_BOOL:
        return v.boolean;
    case V_INT:
        return (double)v.integer;
    default: {
        /* The top 64 bits, rounded once; bits below only matter for ties and set the lowest one. */
        uint32_t n = v.big->count;
        uint64_t top = (uint64_t)v.big->limb[n - 1] << 32 | v.big->limb[n - 2];
        uint32_t below = n > 2 ? v.big->limb[n - 3] : 0;
        int shift = __builtin_clzll(top);
        if (shift) /* below 32: the highest limb is not 0 */
            top = top << shift | below >> (32 - shift);
        bool has_more = (uint32_t)(below << shift) != 0;
        for (uint32_t i = 0; n > 3 && i < n - 3; i++)
            has_more |= v.big->limb[i] != 0;
        double d = ldexp((double)(top | has_more), (int)(32 * (n - 2)) - shift);
        return v.big->is_negative ? -d : d;
    }
    }
}

bool number_from_double(struct arena *a, double d, struct value *out)
{
    int exponent;
    if (fabs(d) < 9007199254740992.0) {
        *out = value_int((int64_t)d);
        return true;
    }
    double fraction = frexp(fabs(d), &exponent);
    struct value mantissa = value_int((int64_t)ldexp(fraction, 53)), power;
    if (number_power(a, value_int(2), (uint64_t)(exponent - 53), &power) != NUMBER_OK ||
        number_multiply(a, mantissa, power, out) != NUMBER_OK)
        return false;
    return d > 0 || number_add(a, value_int(0), *out, true, out) == NUMBER_OK;
}

void number_compare(struct value a, struct value b, int *out, bool *is_unordered)
{
    *is_unordered = false;
    if (a.kind == V_FLOAT || b.kind == V_FLOAT) {
        /* exact for int64: long double has 64 bits of mantissa or more where we run */
        long double x = a.kind == V_INT ? (long double)a.integer : (long double)number_to_double(a);
        long double y = b.kind == V_INT ? (long double)b.integer : (long double)number_to_double(b);
        *is_unordered = x != x || y != y;
        *out = (x > y) - (x < y);
        return;
    }
    struct wide x, y;
    widen(&x, a);
    widen(&y, b);
    if (x.is_negative != y.is_negative)
        *out = x.is_negative ? -1 : 1;
    else
        *out = x.is_negative ? -compare_magnitude(&x, &y) : compare_magnitude(&x, &y);
}

/* ---- text ---- */

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 32);
    return c >= 'a' && c <= 'z' ? c - 'a' + 10 : 99;
}

bool number_parse_int(struct arena *a, struct slice text, int base, struct value *out)
{
    struct wide w = {0};
    size_t at = text.len > 0 && (text.ptr[0] == '-' || text.ptr[0] == '+') ? 1 : 0;
    if (at == text.len)
        return false;
    for (size_t i = at; i < text.len; i++) {
        int d = digit_of(text.ptr[i]);
        if (d >= base || !multiply_small(&w, (uint32_t)base, (uint32_t)d))
            return false;
    }
    w.is_negative = at && text.ptr[0] == '-';
    return narrow(a, &w, out) == NUMBER_OK;
}

bool number_literal_int(struct arena *a, struct slice text, struct value *out)
{
    int base = 10;
    if (text.len > 2 && text.ptr[0] == '0') {
        char prefix = (char)(text.ptr[1] | 32);
        base = prefix == 'x' ? 16 : prefix == 'o' ? 8 : prefix == 'b' ? 2 : 10;
    }
    if (base != 10)
        text = (struct slice){text.ptr + 2, text.len - 2};
    return number_parse_int(a, text, base, out);
}

bool number_literal_float(struct slice text, struct value *out)
{
    double d;
    if (!number_parse_float(text, &d))
        return false;
    *out = value_float(d);
    return true;
}

/* Digits that strtod reads: 400 decide any double (the rest could only break ties that a template
 * never has). */
#define FLOAT_TEXT_MAX 400

bool number_parse_float(struct slice text, double *out)
{
    char copy[FLOAT_TEXT_MAX + 1];
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c == '_') {
            bool is_between = i > 0 && i + 1 < text.len &&
                              isdigit((unsigned char)text.ptr[i - 1]) &&
                              isdigit((unsigned char)text.ptr[i + 1]);
            if (!is_between)
                return false;
            continue;
        }
        if (n == FLOAT_TEXT_MAX || c == 'x' || c == 'X' || c == '(' || c == '\0')
            return false;
        copy[n++] = c;
    }
    copy[n] = '\0';
    if (n == 0 || isspace((unsigned char)copy[0]))
        return false;
    char *end;
    *out = strtod(copy, &end);
    return *end == '\0';
}

void number_write_int(struct buf *b, struct value v, int base)
{
    if (v.kind != V_BIG && base == 10) {
        buf_printf(b, "%" PRId64, v.kind == V_BOOL ? (int64_t)v.boolean : v.integer);
        return;
    }
    struct wide w;
    char text[32 * BIGINT_LIMBS_MAX + 2];
    size_t at = sizeof text;
    widen(&w, v);
    bool is_negative = w.is_negative;
    uint32_t chunk = base == 10 ? 1000000000u : (uint32_t)base; /* one division for nine digits */
    do {
        uint32_t rest = divide_small(&w, chunk);
        for (uint32_t m = 1; m < chunk && (w.count > 0 || rest > 0 || m == 1);
             m *= (uint32_t)base) {
            text[--at] = "0123456789abcdef"[rest % (uint32_t)base];
            rest /= (uint32_t)base;
        }
    } while (w.count > 0);
    if (is_negative)
        text[--at] = '-';
    buf_add(b, text + at, sizeof text - at);
}
