/* SPDX-License-Identifier: MIT
 * Goal: guesses are what stood behind the same tokens before, and their number is the one that
 * pays. Method: draft.h against a plain search over the whole text; speculate.h with made-up costs
 * and rates, where the best number is known. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"
#include "engine/speculate.h"

#define TEXT_MAX 2000u

static void test_copy(void **state)
{
    (void)state;
    uint32_t t[400];
    for (uint32_t i = 0; i < 200; i++)
        t[i] = i;
    struct draft d = {0};
    struct draft_rates all = draft_rates_initial();
    uint32_t out[8];
    float right[8];
    draft_follow(&d, t, 200, &all);
    assert_int_equal(draft_guess(&d, t, 200, out, right, 8), 0); /* nothing stood twice */
    for (uint32_t i = 200; i < 300; i++) { /* tokens 50 … 149 once more, one at a time */
        t[i] = i - 150;
        draft_follow(&d, t, i + 1, &all);
        uint32_t n = draft_guess(&d, t, i + 1, out, right, 8);
        assert_int_equal(n, i == 200 ? 0 : 8);
        for (uint32_t k = 0; k < n; k++)
            assert_int_equal(out[k], i - 149 + k);
        for (uint32_t k = 1; i == 201 && k < n; k++)
            assert_true(right[k] >= right[k - 1]); /* the longer it agrees, the surer */
    }
    assert_true(d.rates.right[DRAFT_CLASSES - 1] > 0.99f); /* it was always right */
    assert_true(all.right[DRAFT_CLASSES - 1] > draft_rates_initial().right[DRAFT_CLASSES - 1]);
    t[300] = 7777;
    draft_follow(&d, t, 301, &all);
    assert_int_equal(draft_guess(&d, t, 301, out, right, 8), 0);
    assert_true(d.rates.right[DRAFT_CLASSES - 1] < 0.95f);
    draft_release(&d);
}

/* "abcabcab": the guess runs on past the end of what is there. */
static void test_repetition(void **state)
{
    (void)state;
    const uint32_t t[] = {1, 2, 3, 1, 2, 3, 1, 2};
    struct draft d = {0};
    struct draft_rates all = draft_rates_initial();
    uint32_t out[7];
    float right[7];
    draft_follow(&d, t, 8, &all);
    assert_int_equal(draft_guess(&d, t, 8, out, right, 7), 7);
    const uint32_t expected[] = {3, 1, 2, 3, 1, 2, 3};
    assert_memory_equal(out, expected, sizeof expected);
    draft_release(&d);
}

/* Any text in any pieces: what is guessed stood behind as many equal tokens as the draft says. */
static void test_random(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct prng p = {.seed = seed};
        struct draft d = {0};
        struct draft_rates all = draft_rates_initial();
        uint32_t t[TEXT_MAX], n = 0, n_guessed = 0, out[4];
        float right[4];
        for (uint32_t i = 0; i < TEXT_MAX; i++)
            t[i] = (uint32_t)prng_below(&p, 2 + seed);
        while (n < TEXT_MAX) {
            n += 1 + (uint32_t)prng_below(&p, n ? 3 : 600);
            n = n < TEXT_MAX ? n : TEXT_MAX;
            draft_follow(&d, t, n, &all);
            if (draft_guess(&d, t, n, out, right, 4) == 0)
                continue;
            n_guessed++;
            assert_true(d.source < n && d.agreed >= 2);
            for (uint32_t k = 0; k < d.agreed; k++)
                assert_int_equal(t[d.source - 1 - k], t[n - 1 - k]);
            assert_int_equal(out[0], t[d.source]);
            for (uint32_t k = 0; k < 4; k++)
                assert_true(right[k] >= 0 && right[k] <= 1);
        }
        assert_true(n_guessed > 0);
        draft_release(&d);
    }
}

static void learn(struct speculation *s, uint64_t *number, uint32_t n_base, uint32_t n, double ns)
{
    speculate_learn(s, (struct speculate_step){++*number, n_base, 0}, n, ns);
}

static uint32_t chosen(const struct speculation *s, uint64_t number, float right, uint32_t offered)
{
    struct speculate_offer o = {.n_offered = offered};
    for (uint32_t i = 0; i < offered; i++)
        o.right[i] = right;
    speculate_choose(s, (struct speculate_step){number + 1, 1, 0}, &o, 1);
    return o.n_taken;
}

static void test_number_that_pays(void **state)
{
    (void)state;
    struct speculation s = {.rates = draft_rates_initial()};
    uint64_t number = 0;
    assert_int_equal(chosen(&s, number, 1, 16), 0); /* no plain step was seen yet */
    learn(&s, &number, 1, 0, 1e6);
    assert_int_equal(chosen(&s, number, 1, 16), 16); /* copying for sure: all */
    assert_int_equal(chosen(&s, number, 1, 5), 5);
    assert_int_equal(chosen(&s, number, 0, 16), 0);
    assert_int_equal(chosen(&s, number, 0.1f, 16), 0); /* less than a row costs */
    /* Measured: each guess costs as much as a step; nothing pays any more. */
    learn(&s, &number, 1, 4, 5e6);
    assert_int_equal(chosen(&s, number, 0.99f, 16), 0);
    /* Rows come in tiles of 4: three guesses for the price of one. */
    for (uint32_t round = 0; round < 50; round++)
        for (uint32_t n = 1; n <= 16; n++)
            learn(&s, &number, 1, n, 1e6 * (1 + 0.4 * (n / 4)));
    learn(&s, &number, 1, 0, 1e6);
    assert_int_equal(chosen(&s, number, 0.7f, 16), 3);
    /* The plain step is measured again now and then, and a cost that is old is tried again. */
    assert_int_equal(chosen(&s, number + 64, 0.7f, 16), 0);
    for (uint32_t i = 0; i < 1200; i++)
        learn(&s, &number, 1, 0, 1e6);
    assert_true(chosen(&s, number, 0.99f, 16) > 3);
}

/* Four choices, one copies: the guesses go to it.  Beside a prompt's chunk they cost little. */
static void test_shares(void **state)
{
    (void)state;
    struct speculation s = {.rates = draft_rates_initial()};
    uint64_t number = 0;
    struct speculate_offer o[4] = {0};
    for (uint32_t i = 0; i < 4; i++) {
        o[i].n_offered = 16;
        for (uint32_t k = 0; k < 16; k++)
            o[i].right[k] = i == 2 ? 0.98f : 0.05f;
    }
    learn(&s, &number, 4, 0, 1e6);
    learn(&s, &number, 4, 8, 1.4e6);
    speculate_choose(&s, (struct speculate_step){number + 1, 4, 0}, o, 4);
    assert_int_equal(o[0].n_taken + o[1].n_taken + o[3].n_taken, 0);
    assert_int_equal(o[2].n_taken, 16);
    learn(&s, &number, 4, 8, 40e6); /* far off: counts for three times the mean at most */
    assert_true(s.dearer[3][8].mean < 2.1f);
    struct speculation fresh = {.rates = draft_rates_initial()};
    speculate_choose(&fresh, (struct speculate_step){1, 4, 64}, o, 4);
    assert_int_equal(o[2].n_taken, 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copy),   cmocka_unit_test(test_repetition),
        cmocka_unit_test(test_random), cmocka_unit_test(test_number_that_pays),
        cmocka_unit_test(test_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
