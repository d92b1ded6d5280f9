/* SPDX-License-Identifier: MIT
 * schema_number.c — numbers within bounds and multiples, digit by digit.
 * The automaton reads plain decimals without leading zeros and compares their magnitude with the
 * bounds' as a person would: first by the count of digits before the point, then digit by digit. An
 * exponent is read only where nothing bounds the number. */
#include <string.h>

#include "base/mem.h"
#include "grammar/schema_int.h"

#define DIGITS_MAX   40u   /* of a bound, before and behind the point */
#define MULTIPLE_MAX 4096u /* of multipleOf without its point: states of the automaton */

struct decimal {
    bool is_negative; /* zero is not */
    uint8_t digits[2 * DIGITS_MAX];
    uint32_t n_whole, n_fraction; /* digits: whole ones, at least one, then the fraction's */
};
struct bound {
    bool is_given, is_exclusive;
    struct decimal at;
};
struct limits {
    struct bound low, high;
    uint32_t multiple, multiple_digits; /* multiple × 10^−digits; 0: none */
    uint32_t types;
};

/* ---- reading bounds ---- */
/* "-12.5e1": digits without their point, and how many stand before it. */
static bool scan(struct slice text, bool *is_negative, uint8_t *digits, uint32_t *n, int64_t *whole)
{
    size_t at = 0;
    int64_t exponent = 0, sign = 1;
    bool in_fraction = false;
    *n = 0;
    *whole = 0;
    *is_negative = text.len && text.ptr[0] == '-';
    for (at = *is_negative; at < text.len && (text.ptr[at] | 32) != 'e'; at++) {
        if (text.ptr[at] == '.') {
            in_fraction = true;
            continue;
        }
        if (text.ptr[at] < '0' || text.ptr[at] > '9' || *n == DIGITS_MAX)
            return false;
        digits[(*n)++] = (uint8_t)(text.ptr[at] - '0');
        *whole += !in_fraction;
    }
    if (at < text.len)
        at++;
    if (at < text.len && (text.ptr[at] == '-' || text.ptr[at] == '+'))
        sign = text.ptr[at++] == '-' ? -1 : 1;
    for (; at < text.len; at++)
        if (text.ptr[at] < '0' || text.ptr[at] > '9' ||
            (exponent = exponent * 10 + text.ptr[at] - '0') > 1000)
            return false;
    *whole += sign * exponent;
    return true;
}

static bool read_decimal(struct slice text, struct decimal *out)
{
    uint8_t digits[DIGITS_MAX];
    uint32_t n, first = 0;
    int64_t whole;
    *out = (struct decimal){0};
    if (!scan(text, &out->is_negative, digits, &n, &whole))
        return false;
    for (; first < n && digits[first] == 0; first++)
        whole--;
    while (n > first && digits[n - 1] == 0)
        n--;
    if (first == n) { /* zero */
        out->is_negative = false;
        out->n_whole = 1;
        return true;
    }
    if (whole > (int64_t)DIGITS_MAX || whole < -(int64_t)DIGITS_MAX + 1)
        return false;
    uint32_t count = 0;
    for (int64_t i = whole <= 0 ? whole - 1 : 0; i < 0; i++)
        out->digits[count++] = 0; /* 0.00… */
    for (uint32_t i = first; i < n; i++)
        out->digits[count++] = digits[i];
    for (; (int64_t)count < whole; count++)
        out->digits[count] = 0;
    out->n_whole = whole <= 0 ? 1 : (uint32_t)whole;
    out->n_fraction = count - out->n_whole;
    return true;
}

static enum status bad(struct schema *s, const char *key)
{
    return err_set(s->e, E_UNSUPPORTED, "schema: %s must be a number of at most %u digits", key,
                   DIGITS_MAX);
}

static int magnitude_order(const struct decimal *a, const struct decimal *b)
{
    if (a->n_whole != b->n_whole)
        return a->n_whole < b->n_whole ? -1 : 1;
    uint32_t n = a->n_whole + (a->n_fraction > b->n_fraction ? a->n_fraction : b->n_fraction);
    for (uint32_t i = 0; i < n; i++) {
        uint8_t x = i < a->n_whole + a->n_fraction ? a->digits[i] : 0;
        uint8_t y = i < b->n_whole + b->n_fraction ? b->digits[i] : 0;
        if (x != y)
            return x < y ? -1 : 1;
    }
    return 0;
}

static int order(const struct decimal *a, const struct decimal *b)
{
    if (a->is_negative != b->is_negative)
        return a->is_negative ? -1 : 1;
    int o = magnitude_order(a, b);
    return a->is_negative ? -o : o;
}

/* The tighter of the bound so far and this one; side: −1 for a lower bound, 1 for an upper. */
static enum status tighten(struct schema *s, struct bound *b, const struct json *v, const char *key,
                           bool is_exclusive, int side)
{
    struct decimal d;
    if (!v || v->kind == JSON_BOOL)
        return OK;
    if ((v->kind != JSON_INT && v->kind != JSON_REAL) || !read_decimal(v->text, &d))
        return bad(s, key);
    int o = b->is_given ? order(&d, &b->at) * side : -1;
    if (o < 0)
        *b = (struct bound){true, is_exclusive, d};
    else if (o == 0)
        b->is_exclusive |= is_exclusive;
    return OK;
}

static bool is_true(const struct json *v)
{
    return v && v->kind == JSON_BOOL && v->boolean; /* draft 4's exclusiveMinimum: true */
}

static uint32_t common_divisor(uint32_t a, uint32_t b)
{
    return b ? common_divisor(b, a % b) : a;
}

static enum status add_multiple(struct schema *s, struct limits *l, const struct json *v)
{
    struct decimal d;
    uint64_t value = 0;
    if (!v)
        return OK;
    if ((v->kind != JSON_INT && v->kind != JSON_REAL) || v->real <= 0 || !read_decimal(v->text, &d))
        return bad(s, "multipleOf");
    uint32_t digits = d.n_fraction > l->multiple_digits ? d.n_fraction : l->multiple_digits;
    for (uint32_t i = 0; i < d.n_whole + digits && value <= MULTIPLE_MAX; i++)
        value = value * 10 + (i < d.n_whole + d.n_fraction ? d.digits[i] : 0);
    uint64_t before = l->multiple;
    for (uint32_t i = l->multiple_digits; i < digits && before <= MULTIPLE_MAX; i++)
        before *= 10;
    if (before && value <= MULTIPLE_MAX && before <= MULTIPLE_MAX)
        value = value / common_divisor((uint32_t)value, (uint32_t)before) * before;
    if (value > MULTIPLE_MAX || before > MULTIPLE_MAX)
        return err_set(s->e, E_UNSUPPORTED,
                       "schema: multipleOf is supported up to %u without its point", MULTIPLE_MAX);
    l->multiple = (uint32_t)value;
    l->multiple_digits = digits;
    return OK;
}

static enum status read_limits(struct schema *s, const struct conjunction *c, struct limits *l)
{
    enum status st = OK;
    for (uint32_t i = 0; i < c->n && st == OK; i++) {
        const struct json *m = c->members[i];
        const struct json *low = json_get(m, "exclusiveMinimum");
        const struct json *high = json_get(m, "exclusiveMaximum");
        st = tighten(s, &l->low, json_get(m, "minimum"), "minimum", is_true(low), -1);
        if (st == OK)
            st = tighten(s, &l->low, low, "exclusiveMinimum", true, -1);
        if (st == OK)
            st = tighten(s, &l->high, json_get(m, "maximum"), "maximum", is_true(high), 1);
        if (st == OK)
            st = tighten(s, &l->high, high, "exclusiveMaximum", true, 1);
        if (st == OK)
            st = add_multiple(s, l, json_get(m, "multipleOf"));
    }
    return st;
}

/* ---- the automaton ---- */
enum phase {
    PHASE_BEGIN,
    PHASE_SIGN,
    PHASE_ZERO,
    PHASE_WHOLE,
    PHASE_POINT,
    PHASE_FRACTION,
    PHASE_E,
    PHASE_E_SIGN,
    PHASE_EXPONENT
};

/* Where a number in the making stands; what can't matter any more is kept at 0. */
struct place {
    uint64_t phase : 4, is_negative : 1, has_nonzero : 1, has_fraction : 1; /* a fraction not 0 */
    uint64_t n_whole : 8, n_fraction : 8; /* digits, counted as far as they matter */
    uint64_t low : 2, high : 2; /* magnitude beside the bound's: 0 less, 1 equal, 2 more */
    uint64_t residue : 13;
};

static uint32_t compare_whole(uint32_t so_far, const struct bound *b, uint32_t index,
                              uint32_t digit)
{
    if (so_far != 1 || index >= b->at.n_whole)
        return so_far;
    uint8_t other = b->at.digits[index];
    return digit < other ? 0 : digit > other ? 2 : 1;
}

static uint32_t compare_fraction(uint32_t so_far, const struct bound *b, uint32_t index,
                                 uint32_t digit)
{
    if (so_far != 1)
        return so_far;
    uint8_t other = index < b->at.n_fraction ? b->at.digits[b->at.n_whole + index] : 0;
    return digit < other ? 0 : digit > other ? 2 : 1;
}

/* All whole digits are known: more of them is more. */
static uint32_t settle_whole(uint32_t so_far, const struct bound *b, uint32_t n_whole)
{
    return n_whole < b->at.n_whole ? 0 : n_whole > b->at.n_whole ? 2 : so_far;
}

static uint32_t digits_that_matter(const struct limits *l)
{
    uint32_t n = l->low.is_given ? l->low.at.n_whole : 0;
    return 1 + (l->high.is_given && l->high.at.n_whole > n ? l->high.at.n_whole : n);
}

static uint32_t fraction_that_matters(const struct limits *l)
{
    uint32_t n = l->multiple_digits;
    if (l->low.is_given && l->low.at.n_fraction > n)
        n = l->low.at.n_fraction;
    return 1 + (l->high.is_given && l->high.at.n_fraction > n ? l->high.at.n_fraction : n);
}

static bool is_bounded(const struct limits *l)
{
    return l->low.is_given || l->high.is_given || l->multiple;
}

static bool step_whole(const struct limits *l, struct place *p, uint32_t digit)
{
    if (p->phase == PHASE_ZERO)
        return false; /* no leading zeros */
    p->phase = digit || p->phase == PHASE_WHOLE ? PHASE_WHOLE : PHASE_ZERO;
    p->low = compare_whole(p->low, &l->low, p->n_whole, digit) & 3;
    p->high = compare_whole(p->high, &l->high, p->n_whole, digit) & 3;
    if (p->n_whole < digits_that_matter(l))
        p->n_whole++;
    p->has_nonzero |= digit != 0;
    if (l->multiple)
        p->residue = (p->residue * 10 + digit) % l->multiple & 0x1FFF;
    return true;
}

static bool step_fraction(const struct limits *l, struct place *p, uint32_t digit)
{
    if (l->multiple && p->n_fraction >= l->multiple_digits && digit)
        return false;
    p->phase = PHASE_FRACTION;
    p->low = compare_fraction(p->low, &l->low, p->n_fraction, digit) & 3;
    p->high = compare_fraction(p->high, &l->high, p->n_fraction, digit) & 3;
    if (l->multiple && p->n_fraction < l->multiple_digits)
        p->residue = (p->residue * 10 + digit) % l->multiple & 0x1FFF;
    if (p->n_fraction < fraction_that_matters(l))
        p->n_fraction++;
    p->has_nonzero |= digit != 0;
    p->has_fraction |= digit != 0;
    return true;
}

static void end_whole(const struct limits *l, struct place *p)
{
    if (l->low.is_given)
        p->low = settle_whole(p->low, &l->low, p->n_whole) & 3;
    if (l->high.is_given)
        p->high = settle_whole(p->high, &l->high, p->n_whole) & 3;
    p->n_whole = 0;
}

static bool step(const struct limits *l, struct place *p, char c)
{
    bool is_digit = c >= '0' && c <= '9',
         in_whole = p->phase == PHASE_ZERO || p->phase == PHASE_WHOLE;
    if (c == '-' && p->phase == PHASE_BEGIN) {
        p->phase = PHASE_SIGN;
        p->is_negative = 1;
        return true;
    }
    if (is_digit && p->phase <= PHASE_WHOLE)
        return step_whole(l, p, (uint32_t)(c - '0'));
    if (c == '.' && in_whole && l->types & TYPE_FRACTION) {
        end_whole(l, p);
        p->phase = PHASE_POINT;
        return true;
    }
    if (is_digit && (p->phase == PHASE_POINT || p->phase == PHASE_FRACTION))
        return step_fraction(l, p, (uint32_t)(c - '0'));
    /* With an exponent no digit tells whether the number is whole. */
    if (is_bounded(l) ||
        (l->types & (TYPE_INTEGER | TYPE_FRACTION)) != (TYPE_INTEGER | TYPE_FRACTION))
        return false;
    uint32_t phase = (uint32_t)p->phase;
    *p = (struct place){0};
    p->phase = PHASE_EXPONENT;
    if ((c | 32) == 'e') {
        p->phase = PHASE_E;
        return in_whole || phase == PHASE_FRACTION;
    }
    if (c == '+' || c == '-') {
        p->phase = PHASE_E_SIGN;
        return phase == PHASE_E;
    }
    return is_digit && phase >= PHASE_E;
}

/* x compared with the bound: < 0, 0, > 0. */
static int signed_order(const struct place *p, uint32_t magnitude, const struct bound *b)
{
    uint32_t m = magnitude;
    for (uint32_t i = p->n_fraction; m == 1 && i < b->at.n_fraction; i++)
        if (b->at.digits[b->at.n_whole + i])
            m = 0; /* the bound has more behind the point */
    bool bound_is_zero = b->at.n_whole == 1 && b->at.digits[0] == 0 && b->at.n_fraction == 0;
    if (!p->has_nonzero) /* also "-0" */
        return bound_is_zero ? 0 : b->at.is_negative ? 1 : -1;
    if (bound_is_zero || p->is_negative != b->at.is_negative)
        return p->is_negative ? -1 : 1;
    return p->is_negative ? 1 - (int)m : (int)m - 1;
}

static bool is_end(const struct limits *l, struct place p)
{
    if (p.phase == PHASE_EXPONENT)
        return true;
    if (p.phase != PHASE_ZERO && p.phase != PHASE_WHOLE && p.phase != PHASE_FRACTION)
        return false;
    if (p.phase != PHASE_FRACTION)
        end_whole(l, &p);
    if (!(l->types & TYPE_INTEGER) && !p.has_fraction)
        return false;
    if (l->low.is_given) {
        int o = signed_order(&p, (uint32_t)p.low, &l->low);
        if (o < 0 || (o == 0 && l->low.is_exclusive))
            return false;
    }
    if (l->high.is_given) {
        int o = signed_order(&p, (uint32_t)p.high, &l->high);
        if (o > 0 || (o == 0 && l->high.is_exclusive))
            return false;
    }
    uint64_t residue = p.residue;
    for (uint32_t i = (uint32_t)p.n_fraction; l->multiple && i < l->multiple_digits; i++)
        residue = residue * 10 % l->multiple;
    return !l->multiple || residue == 0;
}

struct places {
    struct place *list;
    uint32_t n, *slots;
};

static uint32_t place_number(struct places *ps, struct place p, enum status *failed)
{
    uint64_t bits;
    _Static_assert(sizeof p == sizeof bits, "a place is one word, so that it is its own hash key");
    memcpy(&bits, &p, sizeof bits);
    uint32_t mask = 4 * AUTOMATON_STATES_MAX - 1,
             at = (uint32_t)(bits * 0x9E3779B97F4A7C15u >> 40) & mask;
    for (; ps->slots[at]; at = (at + 1) & mask)
        if (memcmp(&ps->list[ps->slots[at] - 1], &p, sizeof p) == 0)
            return ps->slots[at] - 1;
    if (ps->n == AUTOMATON_STATES_MAX) {
        *failed = E_LIMIT;
        return 0;
    }
    ps->list[ps->n] = p;
    ps->slots[at] = ++ps->n;
    return ps->n - 1;
}

static enum status number_dfa(const struct limits *l, struct dfa *out, struct err *e)
{
    static const char symbols[] = "+-.0123456789Ee";
    struct dfa_maker m = {0};
    struct places ps = {0};
    ps.list = mem_try_new(AUTOMATON_STATES_MAX, sizeof *ps.list);
    ps.slots = mem_try_new(4 * AUTOMATON_STATES_MAX, sizeof *ps.slots);
    if (!ps.list || !ps.slots)
        m.failed = E_NOMEM;
    else
        place_number(&ps, (struct place){.low = 1, .high = 1}, &m.failed);
    for (uint32_t i = 0; i < ps.n && m.failed == OK; i++) {
        dfa_maker_state(&m, is_end(l, ps.list[i]));
        for (const char *c = symbols; *c; c++) {
            struct place next = ps.list[i];
            if (step(l, &next, *c))
                dfa_maker_edge(&m, (uint8_t)*c, (uint8_t)*c, place_number(&ps, next, &m.failed));
        }
    }
    mem_free(ps.list);
    mem_free(ps.slots);
    return dfa_maker_end(&m, out, e);
}

enum status schema_number(struct schema *s, const struct conjunction *c, uint32_t types,
                          const struct expr **out)
{
    struct limits l = {.types = types};
    struct dfa d;
    enum status st = read_limits(s, c, &l);
    if (st == OK)
        st = number_dfa(&l, &d, s->e);
    if (st != OK)
        return st;
    *out = expr_bytes(&s->rules.arena, rules_keep(&s->rules, &d));
    return *out ? OK : schema_nomem(s);
}
