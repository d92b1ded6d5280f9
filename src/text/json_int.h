/* SPDX-License-Identifier: MIT
 * json_int.h — the scan before json-c: what json-c 0.16 lets pass or forgets.
 * It refuses what is not RFC 8259 and json-c takes (NaN, 01, raw control characters in strings),
 * counts so that ceilings hold before memory is spent, and finds the source text of each number. */
#ifndef KVASIR_TEXT_JSON_INT_H
#define KVASIR_TEXT_JSON_INT_H

#include "text/json.h"

struct json_scan {
    size_t containers;
    size_t values;  /* scalars and containers, keys too */
    size_t members; /* colons: more than json-c's members means that a key came twice */
};

NODISCARD enum status json_scan(struct slice text, struct json_scan *out, struct err *e);

/* The next number at or after *at, which moves behind it; empty at the end.  Of text that passed
 * json_scan(). */
struct slice json_scan_number(struct slice text, size_t *at);

#endif
