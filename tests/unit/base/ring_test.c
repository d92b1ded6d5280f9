/* SPDX-License-Identifier: MIT
 * ring_test.c — goal: a ring keeps order, hands each message over once, says when it is full or
 * closed, and wakes who waits.
 * Method: one thread at the edges; then producers and consumers on a tiny ring, messages without
 * locks of their own, so that ThreadSanitizer proves the hand-over. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/ring.h"

enum { PRODUCERS = 4, CONSUMERS = 3, MESSAGES = 3000 };

static void order_and_edges(void **state)
{
    (void)state;
    int messages[5];
    struct ring *r = ring_new(3);
    for (int round = 0; round < 5; round++) { /* rounds of 3 over 3 slots begin anywhere */
        assert_null(ring_pop(r, 0));
        for (int i = 0; i < 3; i++)
            assert_int_equal(ring_try_push(r, &messages[i]), OK);
        assert_int_equal(ring_try_push(r, &messages[3]), E_BUSY);
        assert_int_equal(ring_count(r), 3);
        assert_ptr_equal(ring_pop(r, 0), &messages[0]);
        assert_int_equal(ring_push(r, &messages[4]), OK);
        assert_ptr_equal(ring_pop(r, -1), &messages[1]);
        assert_ptr_equal(ring_pop(r, 100), &messages[2]);
        assert_ptr_equal(ring_pop(r, 0), &messages[4]);
    }
    ring_free(r);
    ring_free(NULL);
}

static void closing(void **state)
{
    (void)state;
    int message;
    struct ring *r = ring_new(2);
    assert_int_equal(ring_push(r, &message), OK);
    assert_false(ring_is_closed(r));
    ring_close(r);
    assert_true(ring_is_closed(r));
    assert_int_equal(ring_push(r, &message), E_CANCELLED);
    assert_int_equal(ring_try_push(r, &message), E_CANCELLED);
    assert_ptr_equal(ring_pop(r, -1), &message); /* what is there is drained */
    assert_null(ring_pop(r, -1));                /* and then nothing is waited for */
    ring_free(r);
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static void a_pop_ends_after_its_time(void **state)
{
    (void)state;
    struct ring *r = ring_new(1);
    double start = now_ms();
    assert_null(ring_pop(r, 30));
    assert_true(now_ms() - start >= 29 && now_ms() - start < 10000);
    ring_free(r);
}

struct crowd {
    struct ring *ring;
    uint32_t seen[CONSUMERS][PRODUCERS * MESSAGES]; /* each consumer counts for itself */
    uint32_t wrong_order[CONSUMERS];
};

struct member {
    struct crowd *crowd;
    uint32_t index;
};

static void *produce(void *arg)
{
    struct member *m = arg;
    for (uint32_t i = 0; i < MESSAGES; i++) {
        uint32_t *message = mem_new(1, sizeof *message);
        *message = m->index * MESSAGES + i;
        if (i % 3 == 0) {
            enum status st;
            while ((st = ring_try_push(m->crowd->ring, message)) == E_BUSY)
                ;
            if (st != OK)
                return arg;
        } else if (ring_push(m->crowd->ring, message) != OK) {
            return arg;
        }
    }
    return NULL;
}

static void *consume(void *arg)
{
    struct member *m = arg;
    uint32_t last[PRODUCERS] = {0};
    uint32_t *message;
    while ((message = ring_pop(m->crowd->ring, -1)) != NULL) {
        uint32_t producer = *message / MESSAGES, i = *message % MESSAGES;
        /* Of one producer, each consumer gets rising numbers. */
        m->crowd->wrong_order[m->index] += i + 1 <= last[producer];
        last[producer] = i + 1;
        m->crowd->seen[m->index][*message]++;
        mem_free(message);
    }
    return NULL;
}

static void a_crowd(void **state)
{
    (void)state;
    struct crowd *c = mem_new(1, sizeof *c);
    pthread_t producers[PRODUCERS], consumers[CONSUMERS];
    struct member p[PRODUCERS], q[CONSUMERS];
    c->ring = ring_new(4);
    for (uint32_t i = 0; i < CONSUMERS; i++) {
        q[i] = (struct member){c, i};
        assert_int_equal(pthread_create(&consumers[i], NULL, consume, &q[i]), 0);
    }
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        p[i] = (struct member){c, i};
        assert_int_equal(pthread_create(&producers[i], NULL, produce, &p[i]), 0);
    }
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        void *result;
        pthread_join(producers[i], &result);
        assert_null(result);
    }
    ring_close(c->ring); /* wakes consumers that wait */
    for (uint32_t i = 0; i < CONSUMERS; i++)
        pthread_join(consumers[i], NULL);
    for (uint32_t m = 0; m < PRODUCERS * MESSAGES; m++)
        assert_int_equal(c->seen[0][m] + c->seen[1][m] + c->seen[2][m], 1);
    for (uint32_t i = 0; i < CONSUMERS; i++)
        assert_int_equal(c->wrong_order[i], 0);
    assert_int_equal(ring_count(c->ring), 0);
    ring_free(c->ring);
    mem_free(c);
}

static void *push_one(void *arg)
{
    static int message;
    return (void *)(uintptr_t)ring_push(arg, &message);
}

static void closing_wakes_a_producer(void **state)
{
    (void)state;
    int message;
    struct ring *r = ring_new(1);
    pthread_t t;
    void *result;
    assert_int_equal(ring_push(r, &message), OK);
    assert_int_equal(pthread_create(&t, NULL, push_one, r), 0);
    struct timespec pause = {.tv_nsec = 10000000};
    nanosleep(&pause, NULL);
    ring_close(r);
    pthread_join(t, &result);
    assert_int_equal((uintptr_t)result, E_CANCELLED);
    assert_ptr_equal(ring_pop(r, 0), &message);
    ring_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_and_edges),           cmocka_unit_test(closing),
        cmocka_unit_test(a_pop_ends_after_its_time), cmocka_unit_test(a_crowd),
        cmocka_unit_test(closing_wakes_a_producer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
