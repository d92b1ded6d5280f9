/* SPDX-License-Identifier: MIT
 * Goal: what the index names is durable first: no byte goes to index.db or its log while a segment
 * has bytes that no fdatasync has followed.
 * Method: the scripted workload on the simulated disk, which tells each write and each sync in
 * their order.  tests/store_order.sh asks the kernel the same, where strace is installed. */
#include "fs_sim.h"
#include "store_model.h"

#define DIR "/sim/store"

static const struct store_options options = {
    .max_bytes = 400u << 10, .segment_bytes = 64u << 10, .keep_free_bytes = 1};

struct order {
    char dirty[64][80]; /* segments written to since their last sync */
    uint32_t n_dirty, n_dirty_max;
    uint64_t n_index_writes, n_syncs, n_early; /* n_early: index written while a segment is dirty */
};

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static void watch(const char *path, enum fs_sim_op op, void *arg)
{
    struct order *o = arg;
    uint32_t i = 0;
    if (strstr(path, "/index.db") && op == FS_SIM_WRITE) {
        o->n_index_writes++;
        o->n_early += o->n_dirty > 0;
    }
    if (!ends_with(path, ".seg"))
        return;
    while (i < o->n_dirty && strcmp(o->dirty[i], path) != 0)
        i++;
    if (op == FS_SIM_SYNC) {
        o->n_syncs++;
        if (i < o->n_dirty)
            memcpy(o->dirty[i], o->dirty[--o->n_dirty], sizeof o->dirty[i]);
    } else if (i == o->n_dirty) {
        assert_true(o->n_dirty < 64 && strlen(path) < sizeof o->dirty[0]);
        snprintf(o->dirty[o->n_dirty++], sizeof o->dirty[0], "%s", path);
        if (o->n_dirty > o->n_dirty_max)
            o->n_dirty_max = o->n_dirty;
    }
}

static void run(struct model *m, struct fs_sim *sim, struct order *o)
{
    struct store *s = NULL;
    struct err e;
    fs_sim_use(sim);
    fs_sim_watch(sim, watch, o);
    assert_int_equal(store_open(fs_sim_fs(sim), DIR, &options, &s, &e), OK);
    for (uint64_t step = 0; step < 200 && s; step++)
        model_step(m, fs_sim_fs(sim), DIR, &options, &s, step);
    store_close(s);
    assert_int_equal(o->n_early, 0);
    assert_true(o->n_index_writes > 100 && o->n_syncs > 100);
    assert_int_equal(o->n_dirty_max, 1);
    print_message("%llu writes of the index, %llu syncs of segments\n",
                  (unsigned long long)o->n_index_writes, (unsigned long long)o->n_syncs);
}

static void test_sync_before_index(void **state)
{
    (void)state;
    struct model m;
    struct order o = {0};
    model_init(&m, 11, true);
    struct fs_sim *sim = fs_sim_new(4);
    run(&m, sim, &o);
    fs_sim_free(sim);
}

/* Also when recovery writes: copies of what was not synced are synced before they are indexed. */
static void test_sync_before_index_in_recovery(void **state)
{
    (void)state;
    for (uint64_t n = 40; n < 400; n += 30) {
        struct model m;
        struct order o = {0};
        struct store *s = NULL;
        struct err e;
        model_init(&m, 11, true);
        struct fs_sim *sim = fs_sim_new(4), *after;
        fs_sim_use(sim);
        fs_sim_power_off_at(sim, n);
        if (store_open(fs_sim_fs(sim), DIR, &options, &s, &e) != OK)
            s = NULL;
        for (uint64_t step = 0; step < 60 && s; step++)
            model_step(&m, fs_sim_fs(sim), DIR, &options, &s, step);
        store_close(s);
        after = fs_sim_lose_power(sim, n);
        fs_sim_free(sim);
        fs_sim_use(after);
        fs_sim_watch(after, watch, &o);
        assert_int_equal(store_open(fs_sim_fs(after), DIR, &options, &s, &e), OK);
        assert_int_equal(o.n_early, 0);
        store_close(s);
        assert_int_equal(o.n_early, 0);
        fs_sim_free(after);
    }
}

int main(void)
{
    kit_quiet();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sync_before_index),
        cmocka_unit_test(test_sync_before_index_in_recovery),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
