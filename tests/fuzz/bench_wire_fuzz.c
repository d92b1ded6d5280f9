/* SPDX-License-Identifier: MIT
 * bench_wire_fuzz.c — what a rival answers: any bytes, in pieces of any size, as an event stream of
 * each API, as lines of JSON, or as an error's body.  Whatever comes, the answer is an outcome with
 * a reason or an outcome with a first token, within its ceilings. Input: a byte that picks dialect
 * and API, a byte for the size of the pieces, then the bytes. */
#include <stdint.h>

#include "base/check.h"
#include "bench/compare/compare_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct answer *a)
{
    CHECK(a->n_odds <= TOP_MAX && a->n_gaps <= GAPS_MAX);
    CHECK(memchr(a->error, '\0', sizeof a->error));
    for (uint32_t i = 0; i < a->n_odds; i++)
        CHECK(memchr(a->odds[i].token, '\0', sizeof a->odds[i].token));
    if (a->outcome == OUTCOME_DONE)
        CHECK(a->first_ms > 0 && a->last_ms >= a->first_ms);
    else
        CHECK(a->error[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"openai=http://h", "ollama=http://h,model=m",
                                        "lmstudio=http://h,model=m",
                                        "lmstudio=http://h,model=m,api=v1"};
    struct options o = {.is_text = size && data[0] & 4};
    struct system s;
    struct err e = {0};
    struct talk t;
    struct answer a;
    struct wire *x = NULL;
    if (size < 2)
        return 0;
    CHECK(system_parse(&s, names[data[0] & 3], &o, &e) == OK);
    talk_init(&t);
    talk_add(&t, "user", SLICE_LIT("q"));
    struct ask ask = {.talk = &t, .max_tokens = 4, .wants_odds = true};
    CHECK(wire_begin(&s, &ask, &a, &x, &e) == OK);
    const struct http_call *call = wire_call(x);
    size_t piece = data[1] ? data[1] : size, at = 2;
    bool goes_on = true;
    for (double ms = 1; goes_on && at < size; ms++) {
        size_t n = size - at < piece ? size - at : piece;
        goes_on = call->chunk(call->arg, (struct slice){(const char *)data + at, n}, ms);
        at += n;
    }
    struct http_answer http = {.status = data[0] & 8 ? 500 : 200, .total_ms = 1e6};
    wire_end(x, goes_on ? OK : E_CANCELLED, &e, &http);
    check(&a);
    if (a.outcome == OUTCOME_DONE) {
        struct sample c = sample_new();
        cell_take(&c, &a);
        CHECK(strlen(c.answer) == 16);
    }
    CHECK(odds_distance(&a, &a) <= 0);
    answer_release(&a);
    talk_release(&t);
    return 0;
}
