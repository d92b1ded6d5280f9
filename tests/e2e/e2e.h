/* SPDX-License-Identifier: MIT
 * e2e.h — what the end-to-end tests share: arguments, a folder, a server, a question that must
 * work. Each test program is run as  NAME_test KVASIR FOLDER [soak]  from the source root; it makes
 * its own stores below FOLDER and removes them.  soak: the long version. */
#ifndef KVASIR_TESTS_E2E_H
#define KVASIR_TESTS_E2E_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/prng.h"
#include "bench/client/chat.h"
#include "bench/client/place.h"
#include "bench/client/rows.h"
#include "os/clock.h"

extern const char *e2e_program;
extern char e2e_place[PLACE_PATH_BYTES];
extern bool e2e_is_soak;
extern struct prng e2e_random; /* its seed is printed; KVASIR_SEED repeats a run */

/* Reads the arguments and makes the folder; main calls it first, and e2e_end last. */
void e2e_begin(int argc, char **argv);
int e2e_end(int failed);

/* Path of NAME in the test's folder; from a ring of eight. */
const char *e2e_path(const char *name);

/* Fails the test with the message unless st is OK. */
#define MUST(call)                             \
    do {                                       \
        struct err e_ = {0};                   \
        struct err *e = &e_;                   \
        if ((call) != OK)                      \
            fail_msg("%s: %s", #call, e_.msg); \
    } while (0)

/* A server on this store (NULL: none); further arguments end with NULL. */
void e2e_serve(struct serve *s, const char *store, ...) __attribute__((sentinel));
/* Asks and fails the test when nothing comes back; an HTTP error is a reply. */
void e2e_ask(const struct serve *s, const struct chat_ask *ask, struct chat_reply *reply);
/* A user message alone, greedily answered; the caller releases. */
struct buf e2e_user(const char *text);
/* A row, asked greedily with log probabilities.  more: further members, or NULL. */
void e2e_ask_row(const struct serve *s, const struct row *row, const char *more,
                 struct chat_reply *reply);
void e2e_check_same(const struct chat_reply *a, const struct chat_reply *b, const char *what);

/* Its own memory and the KV in it, in bytes. */
double e2e_anonymous(struct serve *s);
double e2e_kv_bytes(struct serve *s);
/* Its own memory without KV, once it had time to give back what requests needed (it does so when
 * idle for a second): when it is at most `most`, or after some seconds. */
double e2e_at_rest(struct serve *s, double most);

/* Runs the program with these arguments (after its name, NULL at the end); any exit code. */
void e2e_run(struct child_result *result, const char *input, ...) __attribute__((sentinel));

/* A request that runs beside the test, on a thread and a connection of its own. */
struct e2e_task {
    char url[128];
    struct chat_ask ask;
    struct chat_reply reply;
    enum status st;
    struct err e;
    void *thread;
};
void e2e_task_start(struct e2e_task *t, const struct serve *s, const struct chat_ask *ask);
void e2e_task_join(
    struct e2e_task *t); /* then st, e and reply are set; the caller releases reply */

/* skald's evaluation: set-up and tear-down of a group of tests. */
extern struct rows e2e_rows;
int e2e_rows_read(void **state);
int e2e_rows_release(void **state);
/* All of them in ascending order of length. */
void e2e_rows_by_length(const struct row **out);

#endif
