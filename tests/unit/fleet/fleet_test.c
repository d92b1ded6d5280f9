/* SPDX-License-Identifier: MIT
 * fleet_test.c — goal: a name finds its model, a model is loaded once for all who wait, stays while
 * somebody has it, and goes when it should; the folder's files are changed inside it alone. Method:
 * a folder of files that the fake engine takes for models, each with the time it takes to load. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/prng.h"
#include "fake_engine.h"
#include "fleet/fleet.h"
#include "os/clock.h"
#include "temp_folder.h"

#define PATIENCE_MS 10000

static char dir[300]; /* below the test's own, which lies outside of it */
static struct fleet *fleet;

static void open_fleet(uint64_t max_bytes)
{
    struct err e = {0};
    struct engine_options engine = {0};
    struct fleet_options o = {.engine = &engine, .dir = dir, .ttl_s = 60, .max_bytes = max_bytes};
    if (fleet_open(&o, &fleet, &e) != OK)
        fail_msg("%s", e.msg);
}

static int set_up(void **state)
{
    (void)state;
    fake_n_engines = 0;
    if (temp_folder_make(NULL) != 0)
        return -1;
    snprintf(dir, sizeof dir, "%s", temp_path("models"));
    if (mkdir(dir, 0700) != 0)
        return -1;
    temp_put("models/alpha-Q8_0.gguf", "fake Alpha 100");
    temp_put("models/beta.gguf", "fake Beta 0");
    temp_put("models/gamma.gguf", "fake Gamma 0");
    temp_put("models/broken.gguf", "broken");
    temp_put("models/fails.gguf", "fails Fails 20");
    temp_put("models/notes.txt", "no model");
    temp_put("models/.hidden.gguf", "fake Hidden 0");
    temp_put("models/split-00001-of-00002.gguf", "fake Split 0");
    temp_put("models/split-00002-of-00002.gguf", "fake Split 0");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fleet_close(fleet);
    fleet = NULL;
    return temp_folder_remove(NULL) == 0 && fake_n_engines == 0 ? 0 : -1;
}

/* ---- waiting for what the fleet's thread says ---- */
struct waiter {
    struct fleet_wait wait;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool is_done;
    struct fleet_model *model;
    struct err e;
};

static void on_ready(void *arg, struct fleet_model *m, const struct err *e)
{
    struct waiter *w = arg;
    pthread_mutex_lock(&w->mutex);
    w->model = m;
    w->e = *e;
    w->is_done = true;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->mutex);
}

static void begin(struct waiter *w, const char *name)
{
    *w = (struct waiter){.wait = {.ready = on_ready, .arg = w}};
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->cond, NULL);
    struct fleet_model *m = NULL;
    struct err e = {0};
    if (fleet_take(fleet, slice_of(name), &w->wait, &m, &e) != OK)
        on_ready(w, NULL, &e);
    else if (m)
        on_ready(w, m, &e);
}

static bool is_done(struct waiter *w)
{
    pthread_mutex_lock(&w->mutex);
    bool is = w->is_done;
    pthread_mutex_unlock(&w->mutex);
    return is;
}

static enum status end(struct waiter *w)
{
    pthread_mutex_lock(&w->mutex);
    while (!w->is_done)
        pthread_cond_wait(&w->cond, &w->mutex);
    pthread_mutex_unlock(&w->mutex);
    pthread_cond_destroy(&w->cond);
    pthread_mutex_destroy(&w->mutex);
    return w->model ? OK : w->e.code;
}

/* Takes it, however long that lasts. */
static struct fleet_model *take(const char *name)
{
    struct waiter w;
    begin(&w, name);
    if (end(&w) != OK)
        fail_msg("%s: %s", name, w.e.msg);
    return w.model;
}

static enum status try_take(const char *name)
{
    struct waiter w;
    begin(&w, name);
    enum status st = end(&w);
    if (w.model)
        fleet_give(fleet, w.model, FLEET_KEEP_AS_IS);
    return st;
}

static void visit(const char *name, int64_t keep_s)
{
    fleet_give(fleet, take(name), keep_s);
}

/* -1: not listed. */
static int state_of(const char *name)
{
    struct fleet_list l;
    struct err e;
    assert_int_equal(fleet_list(fleet, &l, &e), OK);
    const struct fleet_entry *m = fleet_find(&l, slice_of(name));
    int state = m ? (int)m->state : -1;
    fleet_list_release(&l);
    return state;
}

static void expect_state(const char *name, int state)
{
    uint64_t start = clock_now_ns();
    while (state_of(name) != state && clock_ms_since(start) < PATIENCE_MS)
        clock_sleep_ms(2);
    if (state_of(name) != state)
        fail_msg("%s is %d, not %d", name, state_of(name), state);
}

/* ---- names ---- */
static void names_fit_as_clients_write_them(void **state)
{
    static const struct {
        const char *wanted, *name;
        uint32_t fit;
    } rows[] = {
        {"beta", "beta", 3},
        {"beta.gguf", "beta", 3},
        {"beta:latest", "beta", 3},
        {"beta", "beta.gguf", 3},
        {"BETA", "beta", 2},
        {"Gemma 3 270M", "gemma-3-270m", 2},
        {"gemma-3-270m:q4_k_m", "gemma-3-270m-Q4_K_M", 2},
        {"gemma3@q4_k_m", "gemma3-q4_k_m.gguf", 2},
        {"google/gemma-3-270m@q4_k_m", "gemma-3-270m-q4_k_m", 1},
        {"unsloth/gemma-3-270m-GGUF:Q4_K_M", "gemma-3-270m-Q4_K_M", 1},
        {"gemma", "gemma-3", 0},
        {"gemma-3", "gemma", 0},
        {"", "beta", 0},
        {"/", "beta", 0},
        {"beta/", "beta", 2},
        {"...", "---", 0},
        {"gguf", "beta", 0},
        {"../beta", "beta", 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint32_t fit = fleet_name_fits(slice_of(rows[i].wanted), rows[i].name);
        if ((fit > 0) != (rows[i].fit > 0) || fit < rows[i].fit)
            fail_msg("%s for %s: %u, not %u", rows[i].wanted, rows[i].name, fit, rows[i].fit);
    }
}

static void the_folder_is_listed_as_it_is(void **state)
{
    struct fleet_list l;
    struct err e;
    (void)state;
    open_fleet(0);
    assert_int_equal(fleet_list(fleet, &l, &e), OK);
    static const char *const names[] = {"first", "alpha-Q8_0",          "beta", "broken", "fails",
                                        "gamma", "split-00001-of-00002"};
    assert_int_equal(l.n, sizeof names / sizeof *names);
    for (uint32_t i = 0; i < l.n; i++) {
        assert_string_equal(l.entries[i].name, names[i]);
        assert_int_equal(l.entries[i].state, i == 0 ? FLEET_LOADED : FLEET_OFF);
        assert_int_equal(l.entries[i].stays, i == 0);
        assert_int_equal(l.entries[i].card == NULL, strcmp(names[i], "broken") == 0);
        assert_int_equal(l.entries[i].error[0] != 0, strcmp(names[i], "broken") == 0);
    }
    fleet_list_release(&l);
    temp_put("models/delta.gguf", "fake Delta 0"); /* it comes while the server runs */
    visit("delta", FLEET_KEEP_DEFAULT);
    temp_put("models/beta.gguf", "fake Beta2 0"); /* it becomes another */
    struct fleet_model *m = take("Beta2");
    assert_string_equal(fleet_name(m), "beta");
    assert_string_equal(engine_info(fleet_engine(m))->model_name, "Beta2");
    fleet_give(fleet, m, FLEET_KEEP_DEFAULT);
    m = take("alpha"); /* without the name of its quantization */
    assert_string_equal(fleet_name(m), "alpha-Q8_0");
    fleet_give(fleet, m, FLEET_KEEP_DEFAULT);
    m = take("");
    assert_ptr_equal(m, fleet_first(fleet));
    fleet_give(fleet, m, 0);
    assert_int_equal(state_of("first"), FLEET_LOADED); /* it stays */
}

/* ---- loading ---- */
static void who_waits_for_one_model_gets_one_load(void **state)
{
    struct waiter w[8];
    struct fleet_counts c;
    (void)state;
    open_fleet(0);
    for (size_t i = 0; i < 8; i++)
        begin(&w[i], "alpha-Q8_0");
    while (state_of("alpha-Q8_0") == FLEET_OFF)
        clock_sleep_ms(1);
    visit("first", FLEET_KEEP_DEFAULT); /* who is there is not held up */
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(end(&w[i]), OK);
        assert_ptr_equal(fleet_engine(w[i].model), fleet_engine(w[0].model));
    }
    fleet_counts(fleet, &c);
    assert_int_equal(c.n_loads, 1);
    assert_int_equal(c.n_loaded, 2);
    assert_true(fleet_load_ms(w[0].model) >= 100);
    for (size_t i = 0; i < 8; i++)
        fleet_give(fleet, w[i].model, 0);
    expect_state("alpha-Q8_0", FLEET_OFF);
}

static void a_load_that_fails_is_told_and_tried_again(void **state)
{
    struct waiter a, b;
    struct fleet_counts c;
    (void)state;
    open_fleet(0);
    assert_int_equal(try_take("nobody"), E_NOT_FOUND);
    assert_int_equal(try_take("broken"), E_INVALID);
    begin(&a, "fails");
    begin(&b, "fails");
    assert_int_equal(end(&a), E_INVALID);
    assert_int_equal(end(&b), E_INVALID);
    assert_non_null(strstr(a.e.msg, "can't be loaded"));
    fleet_counts(fleet, &c);
    assert_int_equal(c.n_failed, 2);
    temp_put("models/fails.gguf", "fake Mended 0");
    assert_int_equal(try_take("fails"), OK);
}

static void a_wait_can_be_given_up(void **state)
{
    struct waiter a, b;
    (void)state;
    temp_put("models/alpha-Q8_0.gguf", "fake Alpha 600");
    open_fleet(0);
    begin(&a, "alpha-Q8_0");
    begin(&b, "alpha-Q8_0");
    fleet_cancel(fleet, &a.wait);
    assert_int_equal(end(&a), E_CANCELLED);
    assert_false(is_done(&b)); /* the other one goes on */
    assert_int_equal(end(&b), OK);
    fleet_cancel(fleet, &b.wait); /* too late, and harmless */
    fleet_give(fleet, b.model, 0);
    expect_state("alpha-Q8_0", FLEET_OFF);
    begin(&a, "alpha-Q8_0");
    fleet_refuse(fleet);
    assert_int_equal(end(&a), E_CANCELLED);
    assert_int_equal(try_take("gamma"), E_CANCELLED);
    assert_int_equal(try_take("first"), OK);
}

/* ---- going ---- */
static void a_model_goes_when_its_time_is_up(void **state)
{
    (void)state;
    open_fleet(0);
    struct fleet_model *m = take("beta");
    fleet_ref(fleet, m);
    fleet_give(fleet, m, 1);
    clock_sleep_ms(1300);
    assert_int_equal(state_of("beta"), FLEET_LOADED); /* somebody has it */
    uint64_t start = clock_now_ns();
    fleet_give(fleet, m, 1);
    expect_state("beta", FLEET_OFF);
    assert_true(clock_ms_since(start) >= 990);
    visit("beta", FLEET_KEEP_FOREVER);
    visit("gamma", 1);
    expect_state("gamma", FLEET_OFF);
    assert_int_equal(state_of("beta"), FLEET_LOADED);
    struct err e;
    assert_int_equal(fleet_unload(fleet, SLICE_LIT("beta"), &e), OK);
    expect_state("beta", FLEET_OFF);
    assert_int_equal(fleet_unload(fleet, SLICE_LIT("first"), &e), E_UNSUPPORTED);
    assert_int_equal(fleet_unload(fleet, SLICE_LIT("nobody"), &e), E_NOT_FOUND);
}

static void the_least_used_makes_room_and_who_works_does_not(void **state)
{
    struct waiter w;
    (void)state;
    open_fleet(3 * FAKE_MODEL_BYTES); /* the first one and two others */
    visit("beta", FLEET_KEEP_FOREVER);
    clock_sleep_ms(2);
    visit("gamma", FLEET_KEEP_FOREVER);
    clock_sleep_ms(2);
    visit("beta", FLEET_KEEP_FOREVER); /* so gamma was used least lately */
    struct fleet_model *alpha = take("alpha-Q8_0");
    assert_int_equal(state_of("gamma"), FLEET_OFF);
    assert_int_equal(state_of("beta"), FLEET_LOADED);
    struct fleet_model *beta = take("beta");
    begin(&w, "gamma"); /* both others are at work */
    clock_sleep_ms(50);
    assert_false(is_done(&w));
    fleet_give(fleet, alpha, FLEET_KEEP_FOREVER);
    assert_int_equal(end(&w), OK);
    assert_int_equal(state_of("alpha-Q8_0"), FLEET_OFF);
    fleet_give(fleet, w.model, FLEET_KEEP_FOREVER);
    fleet_give(fleet, beta, FLEET_KEEP_FOREVER);
    fleet_close(fleet);
    open_fleet(FAKE_MODEL_BYTES + FAKE_MODEL_BYTES / 2); /* no other one ever fits */
    assert_int_equal(try_take("beta"), E_NOMEM);
    assert_int_equal(try_take("first"), OK);
}

static void expect_off(const char *name)
{
    for (int ms = 0; state_of(name) != FLEET_OFF; ms++) {
        if (ms == PATIENCE_MS)
            fail_msg("%s is still there", name);
        clock_sleep_ms(1);
    }
}

/* The budget is of weights and KV together. */
static void kv_counts_as_weights_do(void **state)
{
    (void)state;
    open_fleet(4 * FAKE_MODEL_BYTES); /* the first one and three others, while they have no KV */
    visit("alpha-Q8_0", FLEET_KEEP_FOREVER);
    clock_sleep_ms(2);
    visit("beta", FLEET_KEEP_FOREVER);
    clock_sleep_ms(2);
    atomic_store(&fake_kv_bytes, FAKE_MODEL_BYTES / 4);
    visit("gamma", FLEET_KEEP_FOREVER); /* 3 × 1.25 and 1 are too much */
    assert_int_equal(state_of("alpha-Q8_0"), FLEET_OFF);
    assert_int_equal(state_of("beta"), FLEET_LOADED);
    assert_int_equal(state_of("gamma"), FLEET_LOADED);
    clock_sleep_ms(2);
    atomic_store(&fake_kv_bytes, FAKE_MODEL_BYTES / 2); /* and grows: 3 × 1.5 */
    visit("first", FLEET_KEEP_FOREVER);
    expect_off("beta");
    atomic_store(&fake_kv_bytes, 9 * FAKE_MODEL_BYTES); /* the last one that can go does not */
    visit("gamma", FLEET_KEEP_FOREVER);
    clock_sleep_ms(50);
    assert_int_equal(state_of("gamma"), FLEET_LOADED);
    atomic_store(&fake_kv_bytes, 0);
}

/* What is wrong is the file, not the memory for so many bytes; and it is looked at again. */
static void a_broken_file_is_called_broken_however_large(void **state)
{
    (void)state;
    assert_int_equal(truncate(temp_path("models/broken.gguf"), 1ll << 40), 0);
    open_fleet(4 * FAKE_MODEL_BYTES);
    assert_int_equal(try_take("broken"), E_INVALID);
    temp_put("models/broken.gguf", "fake Mended 0");
    assert_int_equal(try_take("broken"), OK);
    assert_int_equal(try_take("Mended"), OK);
}

/* ---- the folder ---- */
static bool exists(const char *folder, const char *name)
{
    char path[160];
    struct stat s;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return lstat(path, &s) == 0;
}

static void files_change_inside_the_folder_alone(void **state)
{
    struct err e;
    (void)state;
    open_fleet(0);
    temp_put("kept.gguf", "fake Kept 0");
    assert_int_equal(symlink(temp_path("kept.gguf"), temp_path("models/linked.gguf")), 0);
    assert_int_equal(try_take("linked"), OK);
    assert_int_equal(fleet_remove(fleet, SLICE_LIT("linked"), &e), OK);
    assert_false(exists(dir, "linked.gguf"));
    assert_true(exists(temp_folder, "kept.gguf"));
    static const char *const escapes[] = {"../kept", "/etc/passwd", "..", ".", "a/b", "", ".x"};
    for (size_t i = 0; i < sizeof escapes / sizeof *escapes; i++)
        assert_int_equal(fleet_copy(fleet, SLICE_LIT("beta"), slice_of(escapes[i]), &e), E_INVALID);
    assert_int_equal(fleet_copy(fleet, SLICE_LIT("beta"), SLICE_LIT("mine:8b"), &e), OK);
    assert_true(exists(dir, "mine-8b.gguf"));
    assert_int_equal(fleet_copy(fleet, SLICE_LIT("beta"), SLICE_LIT("mine:8b"), &e), E_EXISTS);
    assert_int_equal(fleet_remove(fleet, SLICE_LIT("nobody"), &e), E_NOT_FOUND);
    assert_int_equal(fleet_remove(fleet, SLICE_LIT("first"), &e), E_UNSUPPORTED);
    struct fleet_model *m = take("mine:8b"); /* removed at work: it goes when it is idle */
    assert_int_equal(fleet_remove(fleet, SLICE_LIT("mine:8b"), &e), OK);
    assert_int_equal(state_of("mine:8b"), -1);
    assert_int_equal(try_take("mine:8b"), E_NOT_FOUND);
    assert_string_equal(engine_info(fleet_engine(m))->model_name, "Beta");
    fleet_give(fleet, m, FLEET_KEEP_FOREVER);
    uint64_t start = clock_now_ns();
    while (fake_n_engines > 1 && clock_ms_since(start) < PATIENCE_MS)
        clock_sleep_ms(2);
    assert_true(fake_n_engines <= 2); /* linked may be there still, by its time */
}

static void one_model_answers_to_any_name(void **state)
{
    struct err e = {0};
    struct fleet_list l;
    (void)state;
    struct engine *g = fake_engine_new();
    assert_int_equal(fleet_of_engine(g, "alias", &fleet, &e), OK);
    assert_false(fleet_has_many(fleet));
    visit("gpt-4o", 0);
    assert_int_equal(fleet_list(fleet, &l, &e), OK);
    assert_int_equal(l.n, 1);
    assert_string_equal(l.entries[0].name, "alias");
    assert_null(fleet_find(&l, SLICE_LIT("gpt-4o"))); /* but is called by its own */
    assert_non_null(fleet_find(&l, SLICE_LIT("alias")));
    assert_non_null(fleet_find(&l, SLICE_LIT("fake-model")));
    fleet_list_release(&l);
    assert_int_equal(fleet_unload(fleet, SLICE_LIT("alias"), &e), E_UNSUPPORTED);
    assert_int_equal(fleet_remove(fleet, SLICE_LIT("alias"), &e), E_UNSUPPORTED);
    fleet_close(fleet);
    fleet = NULL;
    engine_close(g);
}

/* ---- all at once ---- */
static void hammer_once(struct prng *p)
{
    static const char *const names[] = {"alpha", "beta", "gamma", "first", "fails", "nobody", "x"};
    static const int64_t keeps[] = {0, 1, FLEET_KEEP_DEFAULT, FLEET_KEEP_FOREVER, FLEET_KEEP_AS_IS};
    const char *name = names[prng_below(p, sizeof names / sizeof *names)];
    struct fleet_list l;
    struct fleet_counts c;
    struct engine_stats s;
    struct waiter w;
    enum status st;
    struct err e;
    switch (prng_below(p, 8)) {
    case 0:
        assert_int_equal(fleet_list(fleet, &l, &e), OK);
        for (uint32_t i = 0; i < l.n; i++)
            assert_int_equal(l.entries[i].engine != NULL, l.entries[i].state == FLEET_LOADED);
        fleet_list_release(&l);
        break;
    case 1:
        fleet_counts(fleet, &c);
        fleet_stats(fleet, &s);
        assert_true(c.loaded_bytes <= c.max_bytes);
        break;
    case 2:
        st = fleet_unload(fleet, slice_of(name), &e);
        assert_true(st == OK || st == E_NOT_FOUND || st == E_UNSUPPORTED);
        break;
    case 3:
        st = fleet_copy(fleet, SLICE_LIT("gamma"), SLICE_LIT("x"), &e);
        assert_true(st == OK || st == E_EXISTS);
        st = fleet_remove(fleet, SLICE_LIT("x"), &e);
        assert_true(st == OK || st == E_NOT_FOUND);
        break;
    case 4:
        begin(&w, name);
        fleet_cancel(fleet, &w.wait);
        if (end(&w) == OK)
            fleet_give(fleet, w.model, FLEET_KEEP_AS_IS);
        break;
    default:
        begin(&w, name);
        if (end(&w) == OK) {
            assert_non_null(engine_info(fleet_engine(w.model))->model_name);
            fleet_give(fleet, w.model, keeps[prng_below(p, sizeof keeps / sizeof *keeps)]);
        }
    }
}

static void *hammer(void *arg)
{
    struct prng p = {.seed = (uint64_t)(uintptr_t)arg};
    for (uint64_t start = clock_now_ns(); clock_ms_since(start) < 1500;)
        hammer_once(&p);
    return NULL;
}

static void many_threads_lose_nothing(void **state)
{
    pthread_t threads[8];
    struct fleet_counts c;
    (void)state;
    temp_put("models/alpha-Q8_0.gguf", "fake Alpha 1");
    open_fleet(3 * FAKE_MODEL_BYTES);
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, (void *)(uintptr_t)(i + 1)), 0);
    for (size_t i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    fleet_counts(fleet, &c);
    assert_int_equal(c.n_waiting, 0);
    assert_true(c.n_loads > 10 && c.n_unloads > 10);
    print_message("loads=%llu unloads=%llu failed=%llu\n", (unsigned long long)c.n_loads,
                  (unsigned long long)c.n_unloads, (unsigned long long)c.n_failed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_fit_as_clients_write_them),
        cmocka_unit_test_setup_teardown(the_folder_is_listed_as_it_is, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_waits_for_one_model_gets_one_load, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_load_that_fails_is_told_and_tried_again, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_wait_can_be_given_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_model_goes_when_its_time_is_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_least_used_makes_room_and_who_works_does_not, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(kv_counts_as_weights_do, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_broken_file_is_called_broken_however_large, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(files_change_inside_the_folder_alone, set_up, tear_down),
        cmocka_unit_test(one_model_answers_to_any_name),
        cmocka_unit_test_setup_teardown(many_threads_lose_nothing, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
