/* SPDX-License-Identifier: MIT
 * Goal: under a full budget what saves least prefill a byte goes first, a chain never loses a page
 * before those that hang on it, pinned chains stay, pages of windowed layers far from an end and
 * heads go before all others; the daily ceiling of writes holds; the scrubber finds damage.
 * Method: chains of records whose digests are those of (chain, depth), and more records until the
 * budget has to be made room in. */
#include <fcntl.h>

#include "store_kit.h"

#define BUDGET  (2u << 20)
#define SEGMENT (256u << 10)
#define CHUNK   15000u /* a record of four units */

static const struct store_options options = {
    .max_bytes = BUDGET, .segment_bytes = SEGMENT, .keep_free_bytes = 1};

/* Record `depth` of chain number `chain`; `group` tells the two sorts of pages of a chain apart. */
struct link {
    uint32_t chain, depth, group;
    enum record_kind kind;
    float cost_ms;
    uint32_t reach;
};

static struct digest link_key(const struct link *l)
{
    return kit_digest("link", (uint64_t)l->chain << 32 | l->depth,
                      (uint64_t)l->group << 8 | l->kind);
}

static struct digest chain_of(uint32_t chain, uint32_t depth)
{
    return kit_digest("chain", chain, depth);
}

static enum status put_link(struct store *s, const struct link *l, struct err *e)
{
    static uint8_t bytes[CHUNK];
    struct store_chunk chunk = {bytes, sizeof bytes};
    struct store_put put = {.kind = l->kind,
                            .key = link_key(l),
                            .chain = chain_of(l->chain, l->depth),
                            .depth = l->depth,
                            .cost_ms = l->cost_ms,
                            .reach = l->reach,
                            .chunks = &chunk,
                            .n_chunks = 1};
    if (l->depth > 0)
        put.parent = chain_of(l->chain, l->depth - 1);
    return store_put_wait(s, &put, e);
}

static void must_put_link(struct store *s, struct link l)
{
    struct err e;
    if (put_link(s, &l, &e) != OK)
        fail_msg("put: %s", e.msg);
}

static bool has_link(struct store *s, struct link l)
{
    struct digest key = link_key(&l);
    return store_has(s, &key);
}

static void put_chain(struct store *s, uint32_t chain, uint32_t length, float cost_ms)
{
    for (uint32_t depth = 0; depth < length; depth++)
        must_put_link(
            s,
            (struct link){.chain = chain, .depth = depth, .kind = RECORD_PAGE, .cost_ms = cost_ms});
}

/* Records left of a chain, which must be a prefix of it. */
static uint32_t prefix_left(struct store *s, uint32_t chain, uint32_t length)
{
    uint32_t n = 0;
    while (n < length &&
           has_link(s, (struct link){.chain = chain, .depth = n, .kind = RECORD_PAGE}))
        n++;
    for (uint32_t depth = n; depth < length; depth++)
        if (has_link(s, (struct link){.chain = chain, .depth = depth, .kind = RECORD_PAGE}))
            fail_msg("chain %u has record %u and lacks %u", chain, depth, n);
    return n;
}

/* 64 records a MiB at 16 KiB each: 128 in all. */
static void test_cheap_ones_go_first(void **state)
{
    (void)state;
    char dir[256];
    kit_dir(dir);
    struct store *s = kit_open(dir, &options);
    put_chain(s, 1, 30, 50); /* dear, and the oldest */
    put_chain(s, 2, 30, 2);
    put_chain(s, 3, 30, 10);
    put_chain(s, 4, 60, 10); /* the budget is full; half of this is over it */
    assert_int_equal(prefix_left(s, 1, 30), 30);
    assert_true(prefix_left(s, 2, 30) < 10);
    assert_true(prefix_left(s, 3, 30) == 30);
    store_close(s);
    kit_remove(dir);
}

/* A dear leaf keeps the cheap pages that it hangs on. */
static void test_leaves_go_before_what_they_hang_on(void **state)
{
    (void)state;
    char dir[256];
    kit_dir(dir);
    struct store *s = kit_open(dir, &options);
    for (uint32_t depth = 0; depth < 40; depth++)
        must_put_link(s, (struct link){.chain = 1,
                                       .depth = depth,
                                       .kind = RECORD_PAGE,
                                       .cost_ms = depth == 19 ? 90 : 1});
    for (uint32_t chain = 2; chain < 14; chain++) {
        put_chain(s, chain, 10, 10);
        (void)prefix_left(s, 1, 40); /* never a hole */
    }
    assert_int_equal(prefix_left(s, 1, 40), 20);
    store_close(s);
    s = kit_open(dir, &options); /* and so after a start: the index has the links */
    for (uint32_t chain = 14; chain < 30; chain++)
        put_chain(s, chain, 10, 10);
    assert_int_equal(prefix_left(s, 1, 40), 20);
    store_close(s);
    kit_remove(dir);
}

static void test_heads_and_far_windows_go_first(void **state)
{
    (void)state;
    char dir[256];
    kit_dir(dir);
    struct store *s = kit_open(dir, &options);
    for (uint32_t depth = 0; depth < 50; depth++) {
        must_put_link(s,
                      (struct link){.chain = 1, .depth = depth, .kind = RECORD_PAGE, .cost_ms = 5});
        must_put_link(s, (struct link){.chain = 1,
                                       .depth = depth,
                                       .group = 1,
                                       .kind = RECORD_PAGE,
                                       .cost_ms = 5,
                                       .reach = 5});
    }
    for (uint32_t depth = 40; depth < 50; depth++)
        must_put_link(
            s, (struct link){.chain = 1, .depth = depth, .kind = RECORD_HEAD, .cost_ms = 90});
    put_chain(s, 2, 45, 5); /* 155 records into 128 places */
    uint32_t n_heads = 0, n_far = 0, n_near = 0;
    for (uint32_t depth = 0; depth < 50; depth++) {
        n_heads += has_link(s, (struct link){.chain = 1, .depth = depth, .kind = RECORD_HEAD});
        bool is_there =
            has_link(s, (struct link){.chain = 1, .depth = depth, .group = 1, .kind = RECORD_PAGE});
        *(depth < 45 ? &n_far : &n_near) += is_there;
    }
    assert_int_equal(n_heads, 0);
    assert_true(n_far > 0 && n_far < 40);
    assert_int_equal(n_near, 5);
    assert_int_equal(prefix_left(s, 1, 50), 50);
    assert_int_equal(prefix_left(s, 2, 45), 45);
    store_close(s);
    kit_remove(dir);
}

static void test_pinned_chains_stay(void **state)
{
    (void)state;
    char dir[256];
    struct err e;
    kit_dir(dir);
    struct store *s = kit_open(dir, &options);
    put_chain(s, 1, 40, 1);
    struct digest ends[] = {chain_of(1, 29)};
    assert_int_equal(store_keep_chains(s, ends, 1, &e), OK);
    for (uint32_t chain = 2; chain < 30; chain++)
        put_chain(s, chain, 10, 10);
    assert_int_equal(prefix_left(s, 1, 40), 30);
    /* All pinned: what does not fit is refused, and nothing pinned goes. */
    enum status st = OK;
    uint32_t n_put = 0;
    for (uint32_t depth = 0; depth < 128 && st == OK; depth++) {
        struct link l = {.chain = 99, .depth = depth, .kind = RECORD_PAGE, .cost_ms = 99};
        st = put_link(s, &l, &e);
        if (st != OK)
            break;
        struct digest both[] = {ends[0], chain_of(99, depth)};
        assert_int_equal(store_keep_chains(s, both, 2, &e), OK);
        n_put++;
    }
    assert_int_equal(st, E_FULL);
    assert_in_range(n_put, 94, 98);
    assert_int_equal(prefix_left(s, 1, 40), 30);
    assert_int_equal(prefix_left(s, 99, 128), n_put);
    assert_int_equal(store_keep_chains(s, NULL, 0, &e), OK); /* unpinned: all goes on */
    put_chain(s, 100, 60, 99);
    assert_int_equal(prefix_left(s, 100, 60), 60);
    store_close(s);
    kit_remove(dir);
}

static void test_daily_ceiling(void **state)
{
    (void)state;
    char dir[256];
    struct err e;
    struct store_stat stat;
    struct store_options capped = options;
    capped.max_write_per_day = 400 << 10;
    kit_dir(dir);
    struct store *s = kit_open(dir, &capped);
    uint32_t n = 0;
    struct link l = {.chain = 1, .kind = RECORD_PAGE, .cost_ms = 1};
    for (; put_link(s, &l, &e) == OK; l.depth = ++n)
        assert_true(n < 30);
    assert_int_equal(e.code, E_FULL);
    assert_in_range(n, 20, 25);
    store_close(s);
    s = kit_open(dir, &capped); /* the day is not over because the process is */
    store_stat(s, &stat);
    assert_int_equal(stat.day_bytes_max, 400 << 10);
    assert_int_equal(put_link(s, &l, &e), E_FULL);
    struct kit_record session = {
        .kind = RECORD_SESSION, .number = 1, .n_chunks = 1, .chunk_bytes = 9};
    kit_must_put(s, &session); /* what a user asked to keep is kept */
    assert_int_equal(prefix_left(s, 1, 30), n);
    store_close(s);
    s = kit_open(dir, &options);
    assert_int_equal(put_link(s, &l, &e), OK);
    store_close(s);
    kit_remove(dir);
}

/* One bit of a page's payload is flipped under an open store: nobody asks for the page, and still
 * it is found, set aside, and told. */
static void test_scrubber(void **state)
{
    (void)state;
    char dir[256], path[400];
    struct store_stat stat;
    struct store_options scrubbing = options;
    scrubbing.scrub_bytes_per_s = 64u << 20;
    kit_dir(dir);
    struct store *s = kit_open(dir, &scrubbing);
    put_chain(s, 1, 20, 1);
    struct store_pin pin;
    struct err e;
    struct link l = {.chain = 1, .depth = 7, .kind = RECORD_PAGE};
    struct digest key = link_key(&l);
    snprintf(path, sizeof path, "%s/segments/0000000000000001.seg", dir);
    assert_int_equal(store_get(s, &key, &pin, &e), OK);
    const struct store_stat none = {0};
    uint8_t byte = 0x40;
    int fd = open(path, O_RDWR);
    /* The eighth record of four units behind the header, somewhere in its payload. */
    assert_int_equal(pwrite(fd, &byte, 1, 4096 + 7 * 4 * 4096 + 9000), 1);
    close(fd);
    stat = none;
    for (int i = 0; i < 100 && stat.n_scrub_bad == 0; i++) {
        clock_sleep_ms(50);
        store_stat(s, &stat);
    }
    store_unpin(s, &pin);
    assert_int_equal(stat.n_scrub_bad, 1);
    assert_int_equal(stat.n_quarantined, 1);
    assert_true(stat.scrubbed_bytes > 0);
    assert_int_equal(stat.scrub_bytes_per_s, 64u << 20);
    assert_false(store_has(s, &key));
    store_close(s);
    struct store_verify_report report;
    assert_int_equal(store_verify(os_fs_real(), dir, kit_print_bad, NULL, &report, &e), OK);
    assert_int_equal(report.n_bad, 0);         /* out of the index, so nobody can be given it … */
    assert_int_equal(report.n_quarantined, 1); /* … but told until its segment goes */
    kit_remove(dir);
}

int main(void)
{
    kit_quiet();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cheap_ones_go_first),
        cmocka_unit_test(test_leaves_go_before_what_they_hang_on),
        cmocka_unit_test(test_heads_and_far_windows_go_first),
        cmocka_unit_test(test_pinned_chains_stay),
        cmocka_unit_test(test_daily_ceiling),
        cmocka_unit_test(test_scrubber),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
