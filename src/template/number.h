/* SPDX-License-Identifier: MIT
 * number.h — Python's int (of any size, up to a ceiling) and float. */
#ifndef KVASIR_TEMPLATE_NUMBER_H
#define KVASIR_TEMPLATE_NUMBER_H

#include "base/arena.h"
#include "base/buf.h"
#include "template/value.h"

/* 4300 decimal digits, Python's own ceiling for printing, are 14,285 bits. */
#define BIGINT_LIMBS_MAX 447

struct bigint {
    bool is_negative;
    uint32_t count;  /* limbs, the highest not 0 */
    uint32_t limb[]; /* little-endian */
};

/* Literals: 0x, 0o, 0b prefixes, no underscores.  False: beyond the ceiling. */
bool number_literal_int(struct arena *a, struct slice text, struct value *out);
bool number_literal_float(struct slice text, struct value *out);
/* Digits in a base 2..36 with an optional sign.  False: no digits, a bad digit, too many. */
bool number_parse_int(struct arena *a, struct slice text, int base, struct value *out);
/* float(text): no hexadecimal; underscores between digits, inf, nan. */
bool number_parse_float(struct slice text, double *out);
void number_write_int(struct buf *b, struct value v, int base); /* base 2, 8, 10, 16 */

double number_to_double(struct value v); /* any number; ±inf beyond its range */
bool number_from_double(struct arena *a, double d, struct value *out); /* towards 0; finite */
int number_sign(struct value v);                                       /* of a whole number */
void number_compare(struct value a, struct value b, int *out, bool *is_unordered);

/* Integer operations.  NUMBER_LIMIT: beyond the ceiling. */
enum number_result { NUMBER_OK, NUMBER_LIMIT, NUMBER_ZERO_DIVISION };
enum number_result number_add(struct arena *a, struct value x, struct value y, bool minus,
                              struct value *out);
enum number_result number_multiply(struct arena *a, struct value x, struct value y,
                                   struct value *out);
/* Towards minus infinity, as Python does; either may be NULL. */
enum number_result number_divide(struct arena *a, struct value x, struct value y,
                                 struct value *quotient, struct value *rest);
/* The float nearest to the exact quotient. */
enum number_result number_true_divide(struct arena *a, struct value x, struct value y, double *out);
enum number_result number_power(struct arena *a, struct value x, uint64_t exponent,
                                struct value *out);

#endif
