/* SPDX-License-Identifier: MIT
 * regex.h — ECMA-262 regular expressions, as JSON schema's "pattern" uses them, to automata over
 * code points.
 * Knows:   alternation, groups, quantifiers (lazy ones accept the same texts), classes, escapes,
 *          ^ and $ anywhere.  Refused by name: look-around, back references, \b, \p{…}. */
#ifndef KVASIR_GRAMMAR_REGEX_H
#define KVASIR_GRAMMAR_REGEX_H

#include "grammar/automaton.h"

#define REGEX_BYTES_MAX  4096u
#define REGEX_DEPTH_MAX  64u
#define REGEX_REPEAT_MAX 4096u

/* All texts in which the expression is found somewhere, as "pattern" means it.  E_SYNTAX,
 * E_UNSUPPORTED, E_LIMIT with a byte position. */
NODISCARD enum status regex_search(struct slice pattern, struct dfa *out, struct err *e);

#endif
