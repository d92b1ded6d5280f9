/* SPDX-License-Identifier: MIT
 * Goal: a request gets its answer whatever runs beside it, and says truly where its tokens came
 * from. Method: tiny models through the engine's door: choices, seeds, stops, cancel, shared
 * prefixes, short memory, damaged segments. */
#include <dirent.h>
#include <fcntl.h>
#include <stdatomic.h>

#include "os/clock.h"
#include "rig.h"

static struct engine *open_llama(struct engine_options o)
{
    o.model_path = TINY("llama-Q4_0");
    return rig_engine(o);
}

static struct rig_answer *ask(struct engine *g, struct engine_request *r)
{
    struct rig_answer *a = rig_answer_new();
    rig_submit(g, r, a);
    rig_wait(a);
    return a;
}

static void sampled(struct engine_request *r, uint64_t seed)
{
    r->sampling.temperature = 1;
    r->sampling.top_k = 0;
    r->has_seed = true;
    r->sampling.seed = seed;
}

static void test_choices(void **state)
{
    (void)state;
    struct engine *g = open_llama((struct engine_options){0});
    uint32_t *t = rig_tokens(1, 100, 400);
    struct engine_request *r = rig_request(g, t, 100, 30);
    sampled(r, 5);
    r->n_choices = 4;
    struct rig_answer *a = ask(g, r);
    assert_int_equal(a->error.code, OK);
    assert_int_equal(a->usage.completion_tokens, 120);
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(a->n[i], 30);
        assert_int_equal(a->finish[i], FINISH_LENGTH);
    }
    assert_memory_not_equal(a->tokens[0], a->tokens[1], 30 * 4);
    r = rig_request(g, t, 100, 30); /* the first choice is what one choice gives */
    sampled(r, 5);
    struct rig_answer *b = ask(g, r);
    assert_memory_equal(a->tokens[0], b->tokens[0], 30 * 4);
    assert_int_equal(b->usage.computed_tokens, 0); /* the prompt's head was kept */
    assert_int_equal(b->usage.memory_tokens, 100);
    r = rig_request(g, t, 100, 30);
    sampled(r, 6);
    struct rig_answer *c = ask(g, r);
    assert_memory_not_equal(a->tokens[0], c->tokens[0], 30 * 4);
    rig_answer_free(a);
    rig_answer_free(b);
    rig_answer_free(c);
    engine_close(g);
    mem_free(t);
}

/* A sampled stream cut in two continues as it would have, also with penalties. */
static void test_resumed_stream(void **state)
{
    (void)state;
    char dir[64];
    rig_make_dir(dir);
    uint32_t *t = rig_tokens(2, 300, 400);
    struct engine *g = open_llama((struct engine_options){.own.dir = dir});
    struct engine_request *r = rig_request(g, t, 100, 60);
    sampled(r, 9);
    r->sampling.repeat_penalty = 1.3f;
    struct rig_answer *whole = ask(g, r);
    engine_close(g);
    g = open_llama((struct engine_options){.own.dir = dir});
    memcpy(t + 100, whole->tokens[0], 30 * 4);
    r = rig_request(g, t, 130, 30);
    sampled(r, 9);
    r->sampling.repeat_penalty = 1.3f;
    struct rig_answer *rest = ask(g, r);
    assert_memory_equal(rest->tokens[0], whole->tokens[0] + 30, 30 * 4);
    assert_int_equal(rest->usage.disk_tokens + rest->usage.computed_tokens, 130);
    assert_true(rest->usage.computed_tokens <= 1);
    rig_answer_free(whole);
    rig_answer_free(rest);
    engine_close(g);
    mem_free(t);
    rig_remove_dir(dir);
}

/* A grammar of one text says what is written: a line feed, two blanks, b, a line feed, c. */
static void test_indentation(void **state)
{
    (void)state;
    static const struct {
        uint32_t n_indent;
        const char *text;
        enum finish_reason finish;
    } cases[] = {{0, "a\n  b\nc d", FINISH_STOP},
                 {1, "a\n  b\n", FINISH_LENGTH},
                 {2, "a\n  b\n", FINISH_LENGTH},
                 {3, "a\n  ", FINISH_LENGTH}};
    struct engine *g = open_llama((struct engine_options){0});
    uint32_t *t = rig_tokens(3, 20, 400);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct engine_request *r = rig_request(g, t, 20, 60);
        r->grammar = SLICE_LIT("root ::= \"a\\n  b\\nc d\"");
        r->n_indent = cases[i].n_indent;
        struct rig_answer *a = ask(g, r);
        assert_int_equal(a->error.code, OK);
        assert_string_equal(a->text[0], cases[i].text);
        assert_int_equal(a->finish[0], cases[i].finish);
        rig_answer_free(a);
    }
    engine_close(g);
    mem_free(t);
}

static void test_stop_strings(void **state)
{
    (void)state;
    struct engine *g = open_llama((struct engine_options){0});
    uint32_t *t = rig_tokens(3, 20, 400);
    struct rig_answer *free_run = ask(g, rig_request(g, t, 20, 60));
    const char *text = free_run->text[0];
    size_t len = strlen(text);
    assert_true(len > 30);
    for (size_t at = 5; at + 4 < len; at += 7) {
        struct slice stop = {text + at, 3};
        if ((text[at] & 0xC0) == 0x80 || (text[at + 3] & 0xC0) == 0x80)
            continue; /* not whole characters */
        struct engine_request *r = rig_request(g, t, 20, 60);
        r->stops[0] = (struct slice){arena_text(&r->arena, stop.ptr, 3), 3};
        r->stops[1] = SLICE_LIT("never in there");
        r->n_stops = 2;
        struct rig_answer *a = ask(g, r);
        const char *first = memmem(text, len, stop.ptr, 3);
        assert_int_equal(strlen(a->text[0]), (size_t)(first - text));
        assert_memory_equal(a->text[0], text, (size_t)(first - text));
        assert_int_equal(a->finish[0], FINISH_STOP);
        rig_answer_free(a);
    }
    rig_answer_free(free_run);
    engine_close(g);
    mem_free(t);
}

static void test_errors(void **state)
{
    (void)state;
    struct engine *g = open_llama((struct engine_options){.n_ctx = 128});
    uint32_t *t = rig_tokens(4, 200, 400);
    struct rig_answer *a = ask(g, rig_request(g, t, 129, 5));
    assert_int_equal(a->error.code, E_CONTEXT);
    assert_non_null(strstr(a->error.msg, "129"));
    assert_non_null(strstr(a->error.msg, "128"));
    rig_answer_free(a);
    a = ask(g, rig_request(g, t, 120, ENGINE_TOKENS_ALL)); /* to the end of the context */
    assert_int_equal(a->n[0], 8);
    assert_int_equal(a->finish[0], FINISH_LENGTH);
    rig_answer_free(a);
    a = ask(g, rig_request(g, t, 128, 5));
    assert_int_equal(a->n[0], 0);
    assert_int_equal(a->finish[0], FINISH_LENGTH);
    rig_answer_free(a);
    t[7] = 1u << 30;
    a = ask(g, rig_request(g, t, 20, 5));
    assert_int_equal(a->error.code, E_INVALID);
    rig_answer_free(a);
    struct engine_request *r = rig_request(g, t, 5, 5);
    struct err e;
    uint64_t id;
    r->n_choices = ENGINE_CHOICES_MAX + 1;
    r->event = rig_event;
    assert_int_equal(engine_submit(g, r, &id, &e), E_INVALID);
    engine_request_free(r);
    engine_close(g);
    mem_free(t);
}

static void cancel_at_five(void *arg, struct rig_answer *a)
{
    if (a->n[0] == 5)
        engine_cancel(arg, a->id);
}

static void test_cancel(void **state)
{
    (void)state;
    struct engine *g = open_llama((struct engine_options){0});
    uint32_t *t = rig_tokens(5, 300, 400);
    struct rig_answer *a = rig_answer_new();
    a->on_text = cancel_at_five;
    a->on_text_arg = g;
    rig_submit(g, rig_request(g, t, 300, 200), a);
    rig_wait(a);
    assert_int_equal(a->error.code, OK);
    assert_int_equal(a->finish[0], FINISH_CANCELLED);
    assert_true(a->n[0] < 5 + 50); /* tokens drawn before it was heard are still told */
    struct rig_answer *b = ask(g, rig_request(g, t, 300, 1)); /* its pages were kept */
    assert_int_equal(b->usage.computed_tokens, 0);
    for (uint32_t i = 0; i < 50; i++) { /* cancelled at any moment, also before it runs */
        struct rig_answer *c = rig_answer_new();
        rig_submit(g, rig_request(g, t + i, 100, 100), c);
        if (i % 3)
            clock_sleep_ms(i % 3);
        engine_cancel(g, c->id);
        rig_wait(c);
        assert_true(c->error.code == OK || c->error.code == E_CANCELLED);
        rig_answer_free(c);
    }
    struct engine_stats s;
    engine_stats(g, &s);
    assert_int_equal(s.n_running, 0);
    assert_int_equal(s.n_waiting, 0);
    rig_answer_free(a);
    rig_answer_free(b);
    engine_close(g);
    mem_free(t);
}

/* ---- telling ---- */
#define ORDER_TOKENS 250u
#define ORDER_ASKED  3u
struct order {
    uint32_t slow_us, n_texts, n_events;
    enum engine_event_kind last;
    uint64_t drawn_ns; /* of the last token */
    uint32_t tokens[ORDER_TOKENS];
    char text[16384];
    size_t len;
    pthread_t text_thread, end_thread;
    _Atomic bool is_done;
};

static void order_event(void *arg, const struct engine_event *ev)
{
    struct order *o = arg;
    assert_false(atomic_load(&o->is_done));
    o->n_events++;
    if (ev->kind == EVENT_TEXT || ev->kind == EVENT_FINISHED) {
        assert_true(o->len + ev->text.len < sizeof o->text);
        memcpy(o->text + o->len, ev->text.ptr, ev->text.len);
        o->len += ev->text.len;
    }
    if (ev->kind == EVENT_TEXT) {
        assert_true(o->last == EVENT_TEXT || o->n_texts == 0);
        assert_true(o->n_texts < ORDER_TOKENS);
        assert_true(ev->sampled->token == ev->token);
        assert_true(ev->drawn_ns >= o->drawn_ns && ev->drawn_ns <= clock_now_ns());
        o->drawn_ns = ev->drawn_ns;
        o->tokens[o->n_texts++] = ev->token;
        o->text_thread = pthread_self();
        if (o->slow_us)
            usleep(o->slow_us);
    }
    if (ev->kind == EVENT_FINISHED)
        assert_int_equal(o->n_texts, ORDER_TOKENS);
    o->last = ev->kind;
    o->end_thread = pthread_self();
    atomic_store(&o->is_done, ev->kind == EVENT_DONE || ev->kind == EVENT_ERROR);
}

/* Telling tokens does not hold up the steps, and nobody hears anything else for it: the same events
 * in the same order, whether three listen at once, slowly, or one does alone, who reads the whole
 * answer at its end. */
static void test_tokens_are_told_beside_steps(void **state)
{
    (void)state;
    struct engine *g = open_llama((struct engine_options){0});
    uint32_t *t = rig_tokens(15, 40, 400);
    struct order *orders = mem_new(2 * ORDER_ASKED, sizeof *orders);
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < ORDER_ASKED; i++) {
            struct order *o = &orders[round * ORDER_ASKED + i];
            struct engine_request *r = rig_request(g, t + i, 30, ORDER_TOKENS);
            struct err e;
            uint64_t id;
            o->slow_us = round == 0 ? 150 * i : 0;
            r->event = order_event;
            r->event_arg = o;
            r->is_read_whole = round == 1;
            assert_int_equal(engine_submit(g, r, &id, &e), OK);
            while (round == 1 && !atomic_load(&o->is_done))
                clock_sleep_ms(1);
        }
        for (uint32_t i = 0; i < ORDER_ASKED; i++)
            while (!atomic_load(&orders[round * ORDER_ASKED + i].is_done))
                clock_sleep_ms(1);
    }
    for (uint32_t i = 0; i < ORDER_ASKED; i++) {
        const struct order *a = &orders[i], *b = &orders[ORDER_ASKED + i];
        assert_int_equal(a->last, EVENT_DONE);
        assert_int_equal(b->last, EVENT_DONE);
        assert_memory_equal(a->tokens, b->tokens, sizeof a->tokens);
        assert_int_equal(a->len, b->len);
        assert_memory_equal(a->text, b->text, a->len);
        assert_false(pthread_equal(b->text_thread, b->end_thread));
    }
    mem_free(orders);
    engine_close(g);
    mem_free(t);
}

static void *cancel_strangers(void *arg)
{
    for (uint32_t i = 0; i < 2000; i++) {
        engine_cancel(arg, UINT64_MAX - i);
        clock_sleep_ms(i % 8 == 0);
    }
    return NULL;
}

/* Cancelling looks at all that are open, also at one that is just being submitted (for tsan). */
static void test_cancel_beside_submit(void **state)
{
    (void)state;
    struct engine *g = open_llama((struct engine_options){0});
    uint32_t *t = rig_tokens(7, 70, 400);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, cancel_strangers, g), 0);
    for (uint32_t i = 0; i < 100; i++) {
        struct rig_answer *a = ask(g, rig_request(g, t, 70, 1));
        assert_int_equal(a->error.code, OK);
        assert_int_equal(a->finish[0], FINISH_LENGTH);
        rig_answer_free(a);
    }
    pthread_join(thread, NULL);
    engine_close(g);
    mem_free(t);
}

/* Six clients with the same long prompt: it is computed once. */
static void test_shared_prefix(void **state)
{
    (void)state;
    struct engine *g = open_llama((struct engine_options){.chunk = 64});
    uint32_t *t = rig_tokens(6, 420, 400);
    struct rig_answer *a[6];
    uint32_t computed = 0;
    for (uint32_t i = 0; i < 6; i++) {
        a[i] = rig_answer_new();
        rig_submit(g, rig_request(g, t, 400 + i, 10), a[i]);
    }
    for (uint32_t i = 0; i < 6; i++) {
        rig_wait(a[i]);
        assert_int_equal(a[i]->error.code, OK);
        assert_int_equal(a[i]->usage.memory_tokens + a[i]->usage.computed_tokens, 400 + i);
        computed += a[i]->usage.computed_tokens;
        rig_answer_free(a[i]);
    }
    assert_true(computed <=
                400 + 6 * 5 + 6 * 64); /* once, and what differs or sits in a partial page */
    engine_close(g);
    mem_free(t);
}

/* More conversations than KV memory holds: all finish, with the answers they have alone. */
static void test_short_memory(void **state)
{
    (void)state;
    struct engine *roomy = open_llama((struct engine_options){0});
    struct engine_stats s;
    struct rig_answer *expected[8], *got[8];
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t *t = rig_tokens(60 + i, 300, 400);
        expected[i] = ask(roomy, rig_request(roomy, t, 300, 50));
        mem_free(t);
    }
    engine_stats(roomy, &s);
    engine_close(roomy);
    /* Two conversations fit, eight do not. */
    struct engine *tight =
        open_llama((struct engine_options){.cache_max_bytes = s.pages_memory_bytes / 3});
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t *t = rig_tokens(60 + i, 300, 400);
        got[i] = rig_answer_new();
        rig_submit(tight, rig_request(tight, t, 300, 50), got[i]);
        mem_free(t);
    }
    for (uint32_t i = 0; i < 8; i++) {
        rig_wait(got[i]);
        assert_int_equal(got[i]->error.code, OK);
        assert_memory_equal(got[i]->tokens[0], expected[i]->tokens[0], 50 * 4);
        rig_answer_free(got[i]);
        rig_answer_free(expected[i]);
    }
    engine_close(tight);
}

static bool is_over(struct rig_answer *a)
{
    pthread_mutex_lock(&a->mutex);
    bool is_done = a->is_done;
    pthread_mutex_unlock(&a->mutex);
    return is_done;
}

/* Two conversations of which either fits KV memory, but not both: taking pages from each other by
 * turns, neither would ever end. */
static void test_two_too_large(void **state)
{
    (void)state;
    static const uint32_t chunks[] = {16, 64, 128};
    uint32_t *t = rig_tokens(70, 450, 400), *u = rig_tokens(71, 450, 400);
    for (uint32_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
        struct engine_stats s;
        struct engine_options o = {.chunk = chunks[i]};
        struct engine *roomy = open_llama(o);
        struct rig_answer *expected = ask(roomy, rig_request(roomy, t, 450, 40));
        engine_stats(roomy, &s);
        uint64_t n_steps = s.n_steps;
        engine_close(roomy);
        o.cache_max_bytes = s.pages_memory_bytes * 5 / 4;
        struct engine *tight = open_llama(o);
        struct rig_answer *a = rig_answer_new(), *b = rig_answer_new();
        rig_submit(tight, rig_request(tight, t, 450, 40), a);
        rig_submit(tight, rig_request(tight, u, 450, 40), b);
        do {
            clock_sleep_ms(5);
            engine_stats(tight, &s);
            if (s.n_steps > 4 * n_steps)
                fail_msg("chunk %u: %u steps so far, %u are enough for one", chunks[i],
                         (unsigned)s.n_steps, (unsigned)n_steps);
        } while (!is_over(a) || !is_over(b));
        print_message("chunk %u: %u steps for one, %u for two\n", chunks[i], (unsigned)n_steps,
                      (unsigned)s.n_steps);
        assert_int_equal(a->error.code, OK);
        assert_int_equal(b->error.code, OK);
        assert_memory_equal(a->tokens[0], expected->tokens[0], 40 * 4);
        rig_answer_free(expected);
        rig_answer_free(a);
        rig_answer_free(b);
        engine_close(tight);
    }
    mem_free(t);
    mem_free(u);
}

/* diverged_at and reason say the same thing. */
static void test_reasons(void **state)
{
    (void)state;
    static const struct {
        uint32_t common, n;
        int64_t diverged_at;
        const char *reason;
    } steps[] = {
        {0, 100, -1, "no stored chain begins like this"},
        {100, 100, -1, NULL},
        {100, 180, -1, "new tokens"},
        {4, 100, 4, "diverged from the stored chain"},
        {64, 150, 64, "diverged from the stored chain"},
        {70, 150, 70, "diverged from the stored chain"},
    };
    struct engine *g = open_llama((struct engine_options){0});
    for (uint32_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        uint32_t *t = rig_tokens(90, 180, 400), *other = rig_tokens(91 + i, 180, 400);
        for (uint32_t k = steps[i].common; i > 2 && k < 180; k++)
            t[k] = k == steps[i].common ? 401 + i : other[k];
        struct rig_answer *a = ask(g, rig_request(g, t, steps[i].n, 1));
        assert_int_equal(a->usage.diverged_at, steps[i].diverged_at);
        if (steps[i].reason)
            assert_string_equal(a->usage.reason, steps[i].reason);
        else
            assert_null(a->usage.reason);
        rig_answer_free(a);
        mem_free(t);
        mem_free(other);
    }
    engine_close(g);
}

/* Memory is short just when the choices part: the request waits for it, as any other does. */
static void test_choices_in_short_memory(void **state)
{
    (void)state;
    struct engine_stats s;
    struct rig_answer *expected[6], *got[6];
    struct engine *g = NULL;
    for (uint32_t is_tight = 0; is_tight < 2; is_tight++) {
        g = open_llama((struct engine_options){
            .chunk = 64, .cache_max_bytes = is_tight ? s.pages_memory_bytes * 2 / 5 : 0});
        for (uint32_t i = 0; i < 6; i++) {
            struct rig_answer *a = rig_answer_new();
            uint32_t *t = rig_tokens(80 + i, 300, 400);
            struct engine_request *r = rig_request(g, t, 290 + i, 20);
            sampled(r, 3);
            r->n_choices = 4;
            rig_submit(g, r, a);
            *(is_tight ? &got[i] : &expected[i]) = a;
            mem_free(t);
        }
        for (uint32_t i = 0; i < 6; i++)
            rig_wait(is_tight ? got[i] : expected[i]);
        engine_stats(g, &s);
        engine_close(g);
    }
    for (uint32_t i = 0; i < 6; i++) {
        if (got[i]->error.code != OK)
            fail_msg("request %u: %s", i, got[i]->error.msg);
        for (uint32_t k = 0; k < 4; k++)
            assert_memory_equal(got[i]->tokens[k], expected[i]->tokens[k], 20 * 4);
        assert_int_equal(got[i]->usage.completion_tokens, 80);
        rig_answer_free(got[i]);
        rig_answer_free(expected[i]);
    }
}

static void flip_bytes(const char *dir, struct prng *p, uint32_t n)
{
    char path[400], folder[100];
    snprintf(folder, sizeof folder, "%s/segments", dir);
    DIR *d = opendir(folder);
    assert_non_null(d);
    struct dirent *entry;
    while ((entry = readdir(d)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        int fd = open(path, O_RDWR);
        off_t size = lseek(fd, 0, SEEK_END);
        for (uint32_t i = 0; i < n && size > 0; i++) {
            uint8_t byte;
            off_t at = (off_t)prng_below(p, (uint64_t)size);
            if (pread(fd, &byte, 1, at) == 1) {
                byte = (uint8_t)(byte ^ (1u << prng_below(p, 8)));
                assert_int_equal(pwrite(fd, &byte, 1, at), 1);
            }
        }
        close(fd);
    }
    closedir(d);
}

/* What a bad page made the engine compute again counts as computed, not as found. */
static void test_damage_is_told(void **state)
{
    (void)state;
    struct prng p = {.seed = 12};
    print_message("seed 12\n");
    uint32_t *t = rig_tokens(9, 450, 400);
    uint32_t n_told = 0;
    for (uint32_t round = 0; round < 12; round++) {
        char dir[64];
        rig_make_dir(dir);
        for (uint32_t visit = 0; visit < 2; visit++) {
            struct engine_stats s;
            struct engine *g = open_llama((struct engine_options){.own.dir = dir});
            struct rig_answer *a = ask(g, rig_request(g, t, 450 - visit, 20));
            engine_stats(g, &s);
            const struct engine_usage *u = &a->usage;
            assert_int_equal(a->error.code, OK);
            assert_int_equal(u->memory_tokens + u->disk_tokens + u->computed_tokens, 450 - visit);
            assert_int_equal(s.memory_tokens, u->memory_tokens);
            assert_int_equal(s.disk_tokens, u->disk_tokens);
            assert_int_equal(s.computed_tokens, u->computed_tokens);
            if (s.n_bad_pages > 0) {
                n_told++;
                assert_true(u->computed_tokens >
                            64); /* the bad page at least, and what is behind */
                assert_non_null(u->reason);
            }
            rig_answer_free(a);
            engine_close(g);
            flip_bytes(dir, &p, 20);
        }
        rig_remove_dir(dir);
    }
    assert_true(n_told > 0);
    mem_free(t);
}

/* Damaged segments: other tokens never; the pages are computed again. */
static void test_damage(void **state)
{
    (void)state;
    struct prng p = {.seed = 11};
    print_message("seed 11\n");
    char dir[64];
    rig_make_dir(dir);
    uint32_t *t = rig_tokens(8, 450, 400);
    struct rig_answer *expected = NULL;
    uint64_t n_bad = 0;
    for (uint32_t round = 0; round < 12; round++) {
        struct engine *g = open_llama((struct engine_options){.own.dir = dir});
        struct rig_answer *a = rig_answer_new(), *b = rig_answer_new();
        rig_submit(g, rig_request(g, t, 450, 20), a);
        rig_submit(g, rig_request(g, t, 400, 20), b); /* shares pages that may be bad */
        rig_wait(a);
        rig_wait(b);
        assert_int_equal(a->error.code, OK);
        assert_int_equal(b->error.code, OK);
        if (expected) {
            assert_memory_equal(a->tokens[0], expected->tokens[0], 20 * 4);
            rig_answer_free(a);
        } else {
            expected = a;
        }
        rig_answer_free(b);
        struct engine_stats s;
        engine_stats(g, &s);
        n_bad += s.n_bad_pages;
        engine_close(g);
        flip_bytes(dir, &p, 1 + round * 3);
    }
    assert_true(n_bad > 0);
    rig_answer_free(expected);
    mem_free(t);
    rig_remove_dir(dir);
}

/* The copy of `bytes` in the segments that comes first, or second: one bit of it flips. */
static void flip_first(const char *dir, const uint8_t *bytes, size_t n)
{
    char path[400], folder[100];
    snprintf(folder, sizeof folder, "%s/segments", dir);
    DIR *d = opendir(folder);
    assert_non_null(d);
    struct dirent *entry;
    bool done = false;
    while (!done && (entry = readdir(d)) != NULL) {
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        int fd = open(path, O_RDWR);
        off_t size = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
        uint8_t *all = size > 0 ? mem_new((size_t)size, 1) : NULL;
        if (all && pread(fd, all, (size_t)size, 0) == size) {
            const uint8_t *hit = memmem(all, (size_t)size, bytes, n);
            uint8_t changed = hit ? *hit ^ 4 : 0;
            done = hit && pwrite(fd, &changed, 1, hit - all) == 1;
        }
        mem_free(all);
        if (fd >= 0)
            close(fd);
    }
    closedir(d);
    assert_true(done);
}

static bool take_salt(const struct store_pin *pin, void *arg)
{
    struct store_chunk_ref c = store_chunk(pin, 0);
    assert_int_equal(c.len, 32);
    memcpy(arg, c.bytes, 32);
    return false;
}

/* One damaged tenant record does not orphan what the store holds; it is made again. */
static void test_damaged_tenant(void **state)
{
    (void)state;
    char dir[64];
    uint8_t salt[32];
    struct err e;
    rig_make_dir(dir);
    uint32_t *t = rig_tokens(12, 300, 400);
    struct engine *g = open_llama((struct engine_options){.own.dir = dir});
    rig_answer_free(ask(g, rig_request(g, t, 300, 5)));
    engine_close(g);
    struct store *store;
    assert_int_equal(
        store_open(os_fs_real(), dir, &(struct store_options){.is_read_only = true}, &store, &e),
        OK);
    assert_int_equal(store_each(store, RECORD_TENANT, take_salt, salt, &e), OK);
    store_close(store);
    for (int round = 0; round < 4; round++) { /* each time the copy that was just made or kept */
        flip_first(dir, salt, sizeof salt);
        g = open_llama((struct engine_options){.own.dir = dir});
        struct rig_answer *a = ask(g, rig_request(g, t, 300, 5));
        assert_int_equal(a->usage.computed_tokens, 0);
        rig_answer_free(a);
        engine_close(g);
    }
    mem_free(t);
    rig_remove_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_damaged_tenant),
        cmocka_unit_test(test_choices),
        cmocka_unit_test(test_resumed_stream),
        cmocka_unit_test(test_indentation),
        cmocka_unit_test(test_stop_strings),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_tokens_are_told_beside_steps),
        cmocka_unit_test(test_cancel_beside_submit),
        cmocka_unit_test(test_shared_prefix),
        cmocka_unit_test(test_short_memory),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_reasons),
        cmocka_unit_test(test_two_too_large),
        cmocka_unit_test(test_choices_in_short_memory),
        cmocka_unit_test(test_damage_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
