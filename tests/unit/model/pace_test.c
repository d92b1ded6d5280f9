/* SPDX-License-Identifier: MIT
 * pace_test.c — goal: of running a step alone or together the cheaper way is taken nearly always,
 * though single samples lie, and soon after the machine changed.  Method: made-up costs with
 * seeded noise; no clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "model/model_int.h"

#define N_LAYERS  30
#define N_WORKERS 2

static const struct pace_step step = {.n_rows = 1, .bytes = 100e6, .weight_bytes = 90e6};

struct costs {
    double alone_ns, together_ns;
    double lies; /* so many of all samples are three times as dear */
};

/* Runs n steps; how many went together. */
static uint32_t run(struct pace *p, struct costs costs, uint32_t n, uint64_t *seed)
{
    uint32_t n_together = 0;
    for (uint32_t i = 0; i < n; i++) {
        enum model_pace way = pace_choose(p, step, N_LAYERS, N_WORKERS);
        *seed = *seed * 6364136223846793005u + 1442695040888963407u;
        double ns = way == PACE_ALONE ? costs.alone_ns : costs.together_ns;
        if ((double)(*seed >> 11) * 0x1p-53 < costs.lies)
            ns *= 3;
        pace_learn(p, step, way, ns);
        n_together += way == PACE_TOGETHER;
    }
    return n_together;
}

static void test_lies_decide_nothing(void **state)
{
    (void)state;
    uint32_t n_together = 0;
    for (uint64_t s = 1; s <= 20; s++) {
        struct pace p = {0};
        uint64_t seed = s;
        n_together += run(&p, (struct costs){12e6, 10e6, 0.04}, 2000, &seed);
    }
    assert_true(n_together > 20 * 2000 * 0.94);
}

static void test_dear_team_is_left_alone(void **state)
{
    (void)state;
    uint32_t n_together = 0;
    for (uint64_t s = 1; s <= 20; s++) {
        struct pace p = {0};
        uint64_t seed = s;
        n_together += run(&p, (struct costs){11e6, 27e6, 0.04}, 2000, &seed);
    }
    assert_true(n_together < 20 * 2000 * 0.02);
}

static void test_follows_the_machine(void **state)
{
    (void)state;
    struct pace p = {0};
    uint64_t seed = 7;
    const struct costs idle = {11e6, 7e6, 0}, busy = {11e6, 27e6, 0};
    assert_true(run(&p, idle, 500, &seed) > 480);
    run(&p, busy, 12, &seed);
    assert_true(run(&p, busy, 200, &seed) < 12);
    run(&p, idle, 200, &seed); /* the neighbour left: found out by the next tries */
    assert_true(run(&p, idle, 200, &seed) > 180);
}

static void test_long_steps_are_not_tried_alone(void **state)
{
    (void)state;
    struct pace p = {0};
    uint64_t seed = 5;
    /* A chunk of a prompt: alone it takes 70 ms, and the streams beside it would wait. */
    assert_int_equal(run(&p, (struct costs){70e6, 36e6, 0.04}, 500, &seed), 500);
    /* Nor does a neighbour drive it out of the team: it can cost no more than the barriers do. */
    assert_int_equal(run(&p, (struct costs){70e6, 50e6, 0.04}, 500, &seed), 500);
}

static void test_forced_way_is_kept(void **state)
{
    (void)state;
    struct pace p = {.forced = PACE_TOGETHER};
    uint64_t seed = 3;
    assert_int_equal(run(&p, (struct costs){1e6, 9e6, 0}, 100, &seed), 100);
    assert_int_equal(pace_choose(&p, step, N_LAYERS, 1), PACE_ALONE); /* there is no team */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lies_decide_nothing),
        cmocka_unit_test(test_dear_team_is_left_alone),
        cmocka_unit_test(test_follows_the_machine),
        cmocka_unit_test(test_long_steps_are_not_tried_alone),
        cmocka_unit_test(test_forced_way_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
