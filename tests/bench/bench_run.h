/* SPDX-License-Identifier: MIT
 * bench_run.h — a stub, `kvasir bench` run as a user runs it, and a look at its results.json.
 * For:     tests/bench.  Include cmocka.h first. */
#ifndef KVASIR_TESTS_BENCH_RUN_H
#define KVASIR_TESTS_BENCH_RUN_H

#include "base/check.h"
#include "bench/client/child.h"
#include "bench/client/place.h"
#include "text/json.h"

extern const char *program, *stub_program;
extern char place[PLACE_PATH_BYTES]; /* a folder of this test; results go to place/out */

#define MUST(call)                             \
    do {                                       \
        struct err e_ = {0};                   \
        struct err *e = &e_;                   \
        if ((call) != OK)                      \
            fail_msg("%s: %s", #call, e_.msg); \
    } while (0)

struct stub {
    struct child child;
    unsigned port;
};
void start_stub(struct stub *s, const char *const *words); /* words end with NULL */
void stub_log(struct stub *s, struct buf *out);            /* all it printed so far */

struct outcome {
    struct child_result result;
    struct arena arena;
    struct json *json;
};
/* system: --system's value, with PORT for the port; then words, then NULL.  Fails unless it ends
 * with 0; the results are o->json. */
void bench(struct outcome *o, const char *system, unsigned port, ...) __attribute__((sentinel));
void read_results(struct outcome *o); /* of a run that was started otherwise */
void release(struct outcome *o);

bool text_is(const struct json *v, const char *key, const char *text);
double number(const struct json *v, const char *key); /* -1: none */
bool has_flag(const struct json *v, const char *flag);
bool note_has(const struct json *s, const char *text);
/* The index-th sample of a case (NULL: any) of a scenario; NULL, or a failure. */
const struct json *sample(const struct outcome *o, const char *scenario, const char *kase,
                          size_t index);
const struct json *must_have(const struct outcome *o, const char *scenario, const char *kase,
                             size_t index);

#endif
