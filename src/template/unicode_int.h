/* SPDX-License-Identifier: MIT
 * unicode_int.h — the table behind unicode_map(). */
#ifndef KVASIR_TEMPLATE_UNICODE_INT_H
#define KVASIR_TEMPLATE_UNICODE_INT_H

#include <stdint.h>

#define UNICODE_SPECIALS 103

struct unicode_special {
    uint32_t cp;
    const char *upper, *lower, *title; /* UTF-8 */
};
extern const struct unicode_special unicode_specials[UNICODE_SPECIALS];

#endif
