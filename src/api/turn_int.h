/* SPDX-License-Identifier: MIT
 * turn_int.h — inner door of turn.c: finding marks, and the heads of calls. */
#ifndef KVASIR_API_TURN_INT_H
#define KVASIR_API_TURN_INT_H

#include "api/turn.h"

/* What surrounds calls. */
struct call_marks {
    struct slice open;
    struct slice skips[3]; /* may follow a call */
    struct slice again;    /* begins the next one without open */
};
const struct call_marks *turn_marks(enum call_format format);

enum head_result {
    HEAD_MORE,  /* wait */
    HEAD_NONE,  /* no call */
    HEAD_OPEN,  /* t->name; the arguments, an object, begin at *at */
    HEAD_WHOLE, /* t->name, t->pending; the call ends at *at */
};
/* held from the mark on; slices of t are in t->arena. */
enum head_result turn_head(struct turn *t, struct slice held, bool is_end, size_t *at);
/* "… to=functions.f" in a channel's head. */
bool turn_recipient(struct turn *t, struct slice head);

bool turn_is_blank(char c);
size_t turn_skip_blanks(struct slice s, size_t at);
struct slice turn_from(struct slice s, size_t at); /* s behind its first `at` bytes */
/* s could go on to be what, but is not yet. */
bool turn_is_beginning(struct slice s, struct slice what);
/* Bytes at the end of s that may be a beginning of what. */
size_t turn_tail(struct slice s, struct slice what);
const char *turn_find(struct slice s, struct slice what);

#endif
