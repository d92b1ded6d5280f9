/* SPDX-License-Identifier: MIT
 * json_int.h — the scan before the reading.
 * It refuses tokens that are not RFC 8259 (NaN, 01, raw control characters in strings), counts so
 * that ceilings hold before memory is spent, and tells each container's size. */
#ifndef KVASIR_TEXT_JSON_INT_H
#define KVASIR_TEXT_JSON_INT_H

#include "text/json.h"

struct json_scan {
    size_t containers;
    size_t values;    /* scalars and containers, keys too */
    uint32_t *counts; /* [containers]: items or members of each, as they open; mem_free() it */
};

NODISCARD enum status json_scan(struct slice text, struct json_scan *out, struct err *e);

/* Of text that passed json_scan(): the closing quote of the string whose first byte is at `from`;
 * the end of the number at `at`. */
size_t json_string_end(struct slice text, size_t from);
size_t json_number_end(struct slice text, size_t at);
bool json_is_space(char c);

#endif
