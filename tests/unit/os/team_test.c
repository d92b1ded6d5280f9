/* SPDX-License-Identifier: MIT
 * team_test.c — goal: every worker runs exactly once a run, barriers separate, the shared counter
 * hands out each index once, also with far more workers than processors; the floating point mode
 * is the default inside and the caller's outside.
 * Method: plain (not atomic) shared memory that only correct barriers make well-defined, so that a
 * run under ThreadSanitizer proves the ordering as well. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "os/clock.h"
#include "os/team.h"

#define ROUNDS 200u

struct shared {
    struct team *team;
    uint32_t n;
    uint32_t ran[TEAM_THREADS_MAX];
    uint32_t value[2][TEAM_THREADS_MAX]; /* written by its worker, read by all after a barrier */
    uint32_t wrong[TEAM_THREADS_MAX];
};

static void count_run(void *arg, uint32_t worker, uint32_t n)
{
    struct shared *s = arg;
    s->ran[worker]++;
    if (n != s->n)
        s->wrong[worker]++;
}

static void exchange(void *arg, uint32_t worker, uint32_t n)
{
    struct shared *s = arg;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        s->value[round & 1][worker] = round * n + worker;
        team_barrier(s->team);
        /* One barrier a round suffices: the next round writes the other half. */
        for (uint32_t i = 0; i < n; i++)
            s->wrong[worker] += s->value[round & 1][i] != round * n + i;
    }
}

static void assert_none_wrong(const struct shared *s)
{
    for (uint32_t i = 0; i < s->n; i++)
        assert_int_equal(s->wrong[i], 0);
}

static struct shared *shared_new(uint32_t n)
{
    struct shared *s = mem_new(1, sizeof *s);
    struct err e = {0};
    s->n = n;
    assert_int_equal(team_new(n, &s->team, &e), OK);
    assert_int_equal(team_size(s->team), n);
    return s;
}

static void shared_free(struct shared *s)
{
    team_free(s->team);
    mem_free(s);
}

static const uint32_t sizes[] = {1, 2, 3, 8, 33};

static void each_worker_runs_once_a_run(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct shared *s = shared_new(sizes[i]);
        for (uint32_t run = 0; run < ROUNDS; run++)
            team_run(s->team, count_run, s);
        for (uint32_t w = 0; w < s->n; w++)
            assert_int_equal(s->ran[w], ROUNDS);
        assert_none_wrong(s);
        shared_free(s);
    }
}

static void barriers_separate_rounds(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct shared *s = shared_new(sizes[i]);
        team_run(s->team, exchange, s);
        team_run(s->team, exchange, s);
        assert_none_wrong(s);
        shared_free(s);
    }
}

/* A pause between runs is longer than the spin: the workers sleep in the kernel and wake. */
static void sleeping_workers_wake(void **state)
{
    (void)state;
    struct shared *s = shared_new(4);
    for (int run = 0; run < 5; run++) {
        clock_sleep_ms(5);
        team_run(s->team, count_run, s);
    }
    for (uint32_t w = 0; w < s->n; w++)
        assert_int_equal(s->ran[w], 5);
    shared_free(s);
}

#define ITEMS 10000u
struct counting {
    struct team *team;
    uint8_t claimed[2][ITEMS];
    uint32_t grain;
};

static void claim_all(struct counting *c, int pass)
{
    for (uint32_t i; (i = team_next(c->team, c->grain)) < ITEMS;)
        for (uint32_t j = i; j < i + c->grain && j < ITEMS; j++)
            c->claimed[pass][j]++; /* a race here is an index given out twice */
}

static void claim_twice(void *arg, uint32_t worker, uint32_t n)
{
    (void)n;
    struct counting *c = arg;
    claim_all(c, 0);
    team_barrier(c->team);
    if (worker == 0)
        team_next_reset(c->team);
    team_barrier(c->team);
    claim_all(c, 1);
}

static void the_counter_gives_each_index_once(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= 5; n++) {
        struct counting *c = mem_new(1, sizeof *c);
        struct err e = {0};
        assert_int_equal(team_new(n, &c->team, &e), OK);
        c->grain = n == 2 ? 7 : 1;
        team_run(c->team, claim_twice, c);
        for (uint32_t i = 0; i < ITEMS; i++) {
            assert_int_equal(c->claimed[0][i], 1);
            assert_int_equal(c->claimed[1][i], 1);
        }
        memset(c->claimed, 0, sizeof c->claimed);
        team_run(c->team, claim_twice, c); /* starts at 0 again */
        for (uint32_t i = 0; i < ITEMS; i++)
            assert_int_equal(c->claimed[0][i], 1);
        team_free(c->team);
        mem_free(c);
    }
}

#if defined(__x86_64__)
struct modes {
    uint32_t mode[8];
    float product[8];
};

static void read_mode(void *arg, uint32_t worker, uint32_t n)
{
    (void)n;
    struct modes *m = arg;
    m->mode[worker] = __builtin_ia32_stmxcsr() & ~0x3Fu; /* the low six are sticky flags */
    volatile float small = 0x1p-100f, factor = 0x1p-30f;
    m->product[worker] = small * factor;
    __builtin_ia32_ldmxcsr(0x1F80 | 0x8040); /* must not last until the next run */
}

static void the_floating_point_mode_is_the_default_inside(void **state)
{
    (void)state;
    const uint32_t odd_mode = 0x1F80 | 0x8040 | 0x6000; /* FTZ, DAZ, toward zero */
    for (uint32_t n = 1; n <= 8; n++) {
        struct team *t;
        struct err e = {0};
        struct modes m = {0};
        uint32_t before = __builtin_ia32_stmxcsr();
        __builtin_ia32_ldmxcsr(odd_mode); /* workers inherit it when they are started */
        enum status st = team_new(n, &t, &e);
        if (st == OK) {
            team_run(t, read_mode, &m);
            team_run(t, read_mode, &m);
        }
        uint32_t after = __builtin_ia32_stmxcsr() & ~0x3Fu;
        __builtin_ia32_ldmxcsr(before);
        assert_int_equal(st, OK);
        assert_int_equal(after, odd_mode);
        for (uint32_t w = 0; w < n; w++) {
            assert_int_equal(m.mode[w], 0x1F80);
            assert_true(m.product[w] == 0x1p-130f); /* subnormal, kept */
        }
        team_free(t);
    }
}
#else
static void the_floating_point_mode_is_the_default_inside(void **state)
{
    (void)state;
    skip();
}
#endif

static void bad_sizes_are_refused(void **state)
{
    (void)state;
    struct team *t = NULL;
    struct err e = {0};
    assert_int_equal(team_new(0, &t, &e), E_LIMIT);
    assert_int_equal(team_new(TEAM_THREADS_MAX + 1, &t, &e), E_LIMIT);
    assert_null(t);
    team_free(NULL);
}

static void add_one(void *arg)
{
    ++*(int *)arg;
}

static void a_thread_runs_and_joins(void **state)
{
    (void)state;
    struct os_thread *t[10];
    int counts[10] = {0};
    struct err e = {0};
    for (int i = 0; i < 10; i++)
        assert_int_equal(thread_start("a name that is too long", add_one, &counts[i], &t[i], &e),
                         OK);
    for (int i = 0; i < 10; i++) {
        thread_join(t[i]);
        assert_int_equal(counts[i], 1);
    }
    thread_join(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_worker_runs_once_a_run),
        cmocka_unit_test(barriers_separate_rounds),
        cmocka_unit_test(sleeping_workers_wake),
        cmocka_unit_test(the_counter_gives_each_index_once),
        cmocka_unit_test(the_floating_point_mode_is_the_default_inside),
        cmocka_unit_test(bad_sizes_are_refused),
        cmocka_unit_test(a_thread_runs_and_joins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
