/* SPDX-License-Identifier: MIT
 * Goal: shares are fair, priorities count, deadlines and queue limits hold, a long prompt does not
 * stall streams, and nobody waits for ever. Method: schedule.h with made-up times; then tiny models
 * through the engine's door, with a first request that holds the engine until all others are
 * there, so that the order in which they end is the schedule's. */
#include <semaphore.h>

#include "engine/schedule.h"
#include "os/clock.h"
#include "rig.h"

static struct account *joined(struct schedule *s, uint64_t tenant, uint64_t session)
{
    struct account *a;
    struct err e;
    assert_int_equal(schedule_join(s, tenant, session, &a, &e), OK);
    return a;
}

static void test_shares(void **state)
{
    (void)state;
    struct schedule s = {0};
    /* Tenant 1 has three sessions, tenant 2 has one; each always has a step of 10 tokens to do. */
    struct account *a[4] = {joined(&s, 1, 1), joined(&s, 1, 2), joined(&s, 1, 3), joined(&s, 2, 1)};
    uint32_t served[4] = {0};
    assert_true(a[0]->tenant == a[2]->tenant && a[0]->tenant != a[3]->tenant);
    for (uint32_t step = 0; step < 600; step++) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < 4; i++) {
            struct schedule_claim x = {.account = a[i], .n_rest = 10, .id = i};
            struct schedule_claim y = {.account = a[best], .n_rest = 10, .id = best};
            if (schedule_before(&x, &y))
                best = i;
        }
        served[best]++;
        schedule_charge(a[best], 10);
    }
    assert_in_range(served[3], 299, 301);
    for (uint32_t i = 0; i < 3; i++)
        assert_in_range(served[i], 99, 101);
    /* Who comes late begins level: neither behind by what the others had, nor ahead. */
    struct account *late = joined(&s, 3, 1);
    assert_true(late->tenant->served >= 2990);
    assert_true(late->served == 0); /* the only session of its tenant */
    struct account *same = joined(&s, 3, 1);
    assert_ptr_equal(late, same);
    for (uint32_t i = 0; i < 4; i++)
        schedule_leave(&s, a[i]);
    schedule_leave(&s, late);
    assert_non_null(s.tenants);
    schedule_leave(&s, same);
    assert_null(s.tenants);
    assert_null(s.sessions);
}

static void test_priorities(void **state)
{
    (void)state;
    struct schedule s = {0};
    struct account *a = joined(&s, 0, 1), *b = joined(&s, 0, 2);
    struct schedule_claim low = {.account = a, .priority = 5, .id = 1};
    struct schedule_claim high = {.account = b, .priority = 0, .id = 2};
    schedule_charge(b, 100000);
    assert_true(schedule_before(&high, &low));
    low.waited_ms = 4900;
    assert_true(schedule_before(&high, &low));
    low.waited_ms = 6100; /* it waited long enough */
    assert_true(schedule_before(&low, &high));
    low.priority = 0;
    low.waited_ms = 0;
    assert_true(schedule_before(&low, &high)); /* equals: who has had less */
    schedule_charge(a, 100000);
    low.n_rest = 10;
    high.n_rest = 5; /* level: the shorter rest */
    assert_true(schedule_before(&high, &low));
    high.n_rest = 10;
    assert_true(schedule_before(&low, &high)); /* the older */
    schedule_leave(&s, a);
    schedule_leave(&s, b);
}

/* ---- chunks ---- */
static const struct schedule_beside eight = {8, 60};

static uint32_t chunk(const struct schedule *s, struct schedule_beside b, uint32_t depth,
                      uint32_t most)
{
    return schedule_fit(s, depth, schedule_budget(s, b), true, most);
}

static void learn(struct schedule *s, struct schedule_beside b, uint32_t n, uint32_t depth,
                  double ms)
{
    schedule_learn(s, (struct schedule_step){b, n, depth, ms * 1e6});
}

static void test_chunks(void **state)
{
    (void)state;
    struct schedule s = {0};
    assert_int_equal(chunk(&s, eight, 0, 512), SCHEDULE_CHUNK_FIRST);
    assert_int_equal(chunk(&s, eight, 0, 32), 32);
    learn(&s, eight, 0, 0, 10);
    learn(&s, eight, 64, 0, 10 + 64); /* 1 ms a prompt token */
    uint32_t n = chunk(&s, eight, 0, 512);
    assert_in_range(n, SCHEDULE_CHUNK_MIN, 49); /* 10 + n ms ≤ 60 */
    assert_int_equal(n % 16, 0);
    const struct schedule_beside patient = {8, 200};
    assert_true(chunk(&s, patient, 0, 512) > 90);
    assert_int_equal(chunk(&s, patient, 0, 80), 80);
    for (uint32_t i = 0; i < 50; i++)
        learn(&s, eight, 32, 0, 10 + 320);                          /* 10 ms a token */
    assert_int_equal(chunk(&s, eight, 0, 512), SCHEDULE_CHUNK_MIN); /* never nothing */
    /* … but nothing of a second prompt, for which no time is left. */
    assert_int_equal(schedule_fit(&s, 0, 5e6, false, 512), 0);
    for (uint32_t i = 0; i < 50; i++) {
        learn(&s, eight, 0, 0, 100); /* slow streams: twice their step is allowed */
        learn(&s, eight, 16, 0, 116);
    }
    assert_in_range(chunk(&s, eight, 0, 512), 16, 99);
}

static void test_chunks_by_depth(void **state)
{
    (void)state;
    struct schedule s = {0};
    learn(&s, eight, 0, 0, 3);
    for (uint32_t i = 0; i < 20; i++)
        learn(&s, eight, 100, 200, 3 + 20); /* 0.2 ms a token */
    const uint32_t shallow = chunk(&s, eight, 200, 512);
    assert_in_range(shallow, 150, 170);
    /* A prompt that goes on at a depth never seen: what it takes at most, hence no gap. */
    assert_true(chunk(&s, eight, 700, 512) <= shallow / 2);
    assert_int_equal(chunk(&s, eight, 16000, 512), SCHEDULE_CHUNK_MIN);
    learn(&s, eight, 16, 16000, 3 + 16 * 0.4); /* the first one tells */
    assert_in_range(chunk(&s, eight, 16000, 512), shallow / 2 - 16, shallow / 2);
    /* … and what was learned there is not taken for the cost of a shallow one, nor the reverse. */
    for (uint32_t i = 0; i < 20; i++)
        learn(&s, eight, 80, 16000, 3 + 80 * 0.4);
    assert_int_equal(chunk(&s, eight, 200, 512), shallow);
    learn(&s, eight, 100, 200, 3 + 20);
    assert_in_range(chunk(&s, eight, 16000, 512), shallow / 2 - 16, shallow / 2);
    /* Where only deeper ones were seen, those are believed. */
    struct schedule deep = {0};
    learn(&deep, eight, 16, 16000, 16 * 0.5);
    assert_in_range(chunk(&deep, eight, 0, 512), 60, 72);
}

/* The simulated machine: a prompt of 16,000 tokens whose tokens get dearer with depth, and steps
 * that take twice as long in so many of 1,000 cases, since others use the machine. */
struct simulated {
    uint32_t n_steps, n_late; /* longer than 60 ms */
};

static struct simulated simulate(struct schedule *s, uint32_t disturbed)
{
    struct simulated out = {0};
    uint64_t seed = 11;
    for (uint32_t round = 0; round < 10; round++)
        for (uint32_t depth = 0, n; depth < 16000; depth += n) {
            n = chunk(s, eight, depth, 512);
            double ms = 3 + n * (0.15 + 0.25 * (depth + n / 2) / 16000);
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            ms *= 0.9 + 0.2 * (double)(seed >> 11) * 0x1p-53;
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            ms *= (seed >> 33) % 1000 < disturbed ? 2 : 1;
            learn(s, eight, n, depth, ms);
            out.n_steps++;
            out.n_late += ms > 60;
        }
    return out;
}

static void test_steps_keep_to_the_stall(void **state)
{
    (void)state;
    struct schedule s = {0};
    learn(&s, eight, 0, 0, 3);
    struct simulated idle = simulate(&s, 0);
    assert_int_equal(idle.n_late, 0);
    /* 16,000 tokens of 0.275 ms in pieces of 33 ms: the time that was there is used. */
    assert_true(idle.n_steps < 10 * 16000 * 0.275 / 33 * 1.15);
    struct simulated busy = simulate(&s, 50); /* 5 in 100 are disturbed, and at most 3 late */
    assert_true(busy.n_late * 100 <= busy.n_steps * 3);
    assert_true(busy.n_steps < 3 * idle.n_steps);
    (void)simulate(&s, 0);
    struct simulated again = simulate(&s, 0); /* the others left: as before */
    assert_true(again.n_steps <= idle.n_steps);
}

static void test_crowds_are_apart(void **state)
{
    (void)state;
    struct schedule s = {0};
    const struct schedule_beside crowd = {256, 60};
    learn(&s, crowd, 0, 0, 100);
    learn(&s, eight, 0, 0, 3);
    learn(&s, eight, 64, 0, 3 + 64);
    /* What a crowd's steps took is no reason to let eight streams wait for twice that. */
    assert_in_range(chunk(&s, eight, 0, 512), 16, 48);
    assert_true(chunk(&s, crowd, 0, 512) <= 32);
    const struct schedule_beside few = {16, 60}; /* never seen: as eight */
    assert_int_equal(chunk(&s, few, 0, 512), chunk(&s, eight, 0, 512));
}

/* ---- through the engine ---- */
#define JOBS_MAX 16u

/* The first request's first token waits until the others are there. */
struct gate {
    sem_t is_held, may_go;
    bool was_held;
    uint32_t order[JOBS_MAX], n_ended; /* by the engine's thread alone */
};

struct member {
    struct rig_answer *answer;
    struct gate *gate;
    uint32_t index;
};

static void hold(void *arg, struct rig_answer *a)
{
    struct gate *g = arg;
    (void)a;
    if (g->was_held)
        return;
    g->was_held = true;
    sem_post(&g->is_held);
    sem_wait(&g->may_go);
}

static void note_order(void *arg, struct rig_answer *a)
{
    struct member *m = arg;
    if (a->n[0] == 1) /* its first token: it was this one's turn */
        m->gate->order[m->gate->n_ended++] = m->index;
}

struct wish {
    uint32_t tenant;
    int32_t priority;
    const char *session;
};

/* The order in which requests begin that all waited while one ran, one at a time. */
static void begin_order(const struct wish *wishes, uint32_t n, uint32_t order[JOBS_MAX])
{
    struct engine *g =
        rig_engine((struct engine_options){.model_path = TINY("llama-Q4_0"), .n_parallel = 1});
    struct gate gate = {0};
    struct member members[JOBS_MAX];
    sem_init(&gate.is_held, 0, 0);
    sem_init(&gate.may_go, 0, 0);
    uint32_t *t = rig_tokens(1, 40 + JOBS_MAX, 400);
    struct rig_answer *first = rig_answer_new();
    first->on_text = hold;
    first->on_text_arg = &gate;
    struct engine_request *r = rig_request(g, t, 10, 2);
    r->tenant = 0;
    rig_submit(g, r, first);
    sem_wait(&gate.is_held);
    for (uint32_t i = 0; i < n; i++) {
        members[i] = (struct member){rig_answer_new(), &gate, i};
        members[i].answer->on_text = note_order;
        members[i].answer->on_text_arg = &members[i];
        r = rig_request(g, t + 1 + i, 40, 20); /* other tokens each: no prefix is shared */
        r->priority = wishes[i].priority;
        if (wishes[i].session)
            r->session = slice_of(wishes[i].session);
        rig_submit(g, r, members[i].answer);
        clock_sleep_ms(2); /* the prompt workers keep the order */
    }
    clock_sleep_ms(100);
    sem_post(&gate.may_go);
    rig_wait(first);
    for (uint32_t i = 0; i < n; i++) {
        rig_wait(members[i].answer);
        assert_int_equal(members[i].answer->error.code, OK);
        rig_answer_free(members[i].answer);
    }
    assert_int_equal(gate.n_ended, n);
    memcpy(order, gate.order, sizeof gate.order);
    rig_answer_free(first);
    sem_destroy(&gate.is_held);
    sem_destroy(&gate.may_go);
    engine_close(g);
    mem_free(t);
}

/* Session "a" asks four times before "b" asks once: "b" is not last. */
static void test_session_order(void **state)
{
    (void)state;
    static const struct wish wishes[] = {{0, 0, "a"}, {0, 0, "a"}, {0, 0, "a"},
                                         {0, 0, "a"}, {0, 0, "b"}, {0, 0, "b"}};
    uint32_t order[JOBS_MAX];
    begin_order(wishes, 6, order);
    static const uint32_t expected[] = {0, 4, 1, 5, 2, 3};
    assert_memory_equal(order, expected, sizeof expected);
}

static void test_priority_order(void **state)
{
    (void)state;
    static const struct wish wishes[] = {
        {0, 50, "a"}, {0, 0, "b"}, {0, -50, "c"}, {0, 0, "d"}, {0, 100, "e"}};
    uint32_t order[JOBS_MAX];
    begin_order(wishes, 5, order);
    static const uint32_t expected[] = {2, 1, 3, 0, 4};
    assert_memory_equal(order, expected, sizeof expected);
}

/* The queue is full: E_BUSY, and the request stays the caller's. */
static void test_queue_limit(void **state)
{
    (void)state;
    struct engine *g = rig_engine(
        (struct engine_options){.model_path = TINY("llama-Q4_0"), .n_parallel = 1, .n_queue = 3});
    struct gate gate = {0};
    sem_init(&gate.is_held, 0, 0);
    sem_init(&gate.may_go, 0, 0);
    uint32_t *t = rig_tokens(2, 30, 400);
    struct rig_answer *a[3];
    for (uint32_t i = 0; i < 3; i++) {
        a[i] = rig_answer_new();
        if (i == 0) {
            a[i]->on_text = hold;
            a[i]->on_text_arg = &gate;
        }
        rig_submit(g, rig_request(g, t + i, 20, 3), a[i]);
    }
    sem_wait(&gate.is_held);
    struct engine_request *r = rig_request(g, t, 20, 3);
    struct err e;
    uint64_t id;
    r->event = rig_event;
    assert_int_equal(engine_submit(g, r, &id, &e), E_BUSY);
    sem_post(&gate.may_go);
    for (uint32_t i = 0; i < 3; i++) {
        rig_wait(a[i]);
        assert_int_equal(a[i]->error.code, OK);
        rig_answer_free(a[i]);
    }
    struct rig_answer *again = rig_answer_new();
    rig_submit(g, r, again); /* there is room now */
    rig_wait(again);
    assert_int_equal(again->error.code, OK);
    rig_answer_free(again);
    sem_destroy(&gate.is_held);
    sem_destroy(&gate.may_go);
    engine_close(g);
    mem_free(t);
}

static void dawdle(void *arg, struct rig_answer *a)
{
    (void)a;
    sem_post(arg);
    clock_sleep_ms(20);
}

/* Late while waiting, and late while running: E_TIMEOUT, and what was computed is kept. */
static void test_deadline(void **state)
{
    (void)state;
    struct engine *g =
        rig_engine((struct engine_options){.model_path = TINY("llama-Q4_0"), .n_parallel = 1});
    uint32_t *t = rig_tokens(3, 400, 400);
    struct rig_answer *running = rig_answer_new(), *waiting = rig_answer_new();
    sem_t token;
    sem_init(&token, 0, 0);
    running->on_text = dawdle;
    running->on_text_arg = &token;
    struct engine_request *r = rig_request(g, t, 300, 200);
    r->deadline_ms = 1000;
    rig_submit(g, r, running);
    sem_wait(&token); /* it has the only slot */
    r = rig_request(g, t + 50, 100, 5);
    r->deadline_ms = 50;
    rig_submit(g, r, waiting);
    rig_wait(waiting);
    rig_wait(running);
    assert_int_equal(waiting->error.code, E_TIMEOUT);
    assert_int_equal(waiting->n[0], 0);
    assert_int_equal(running->error.code, E_TIMEOUT);
    assert_in_range(running->n[0], 1, 100);
    sem_destroy(&token);
    struct rig_answer *again = rig_answer_new();
    rig_submit(g, rig_request(g, t, 300, 1), again);
    rig_wait(again);
    assert_int_equal(again->usage.computed_tokens, 0);
    struct engine_stats s;
    engine_stats(g, &s);
    assert_int_equal(s.n_running + s.n_waiting, 0);
    rig_answer_free(running);
    rig_answer_free(waiting);
    rig_answer_free(again);
    engine_close(g);
    mem_free(t);
}

/* --parallel counts choices; a request with more of them runs alone. */
static void test_parallel(void **state)
{
    (void)state;
    struct engine *g =
        rig_engine((struct engine_options){.model_path = TINY("llama-Q4_0"), .n_parallel = 2});
    uint32_t *t = rig_tokens(4, 100, 400);
    struct rig_answer *a[4];
    for (uint32_t i = 0; i < 4; i++) {
        struct engine_request *r = rig_request(g, t + i * 10, 30, 10);
        r->n_choices = i == 1 ? 5 : 1;
        r->sampling.temperature = 1;
        a[i] = rig_answer_new();
        rig_submit(g, r, a[i]);
    }
    for (uint32_t i = 0; i < 4; i++) {
        rig_wait(a[i]);
        assert_int_equal(a[i]->error.code, OK);
        assert_int_equal(a[i]->usage.completion_tokens, i == 1 ? 50 : 10);
        rig_answer_free(a[i]);
    }
    engine_close(g);
    mem_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_priorities),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_chunks_by_depth),
        cmocka_unit_test(test_steps_keep_to_the_stall),
        cmocka_unit_test(test_crowds_are_apart),
        cmocka_unit_test(test_session_order),
        cmocka_unit_test(test_priority_order),
        cmocka_unit_test(test_queue_limit),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_parallel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
