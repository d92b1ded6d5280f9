/* SPDX-License-Identifier: MIT
 * The door of the store on a real folder: what is put comes back, also by another open, and the
 * ways in which it must not. */
#include "store_kit.h"

static const struct store_options small = {
    .max_bytes = 64u << 20, .segment_bytes = 1u << 20, .keep_free_bytes = 1};

static const struct kit_record page = {
    .kind = RECORD_PAGE, .number = 1, .n_chunks = 4, .chunk_bytes = 20000, .depth = 3};
static const struct kit_record session = {
    .kind = RECORD_SESSION, .number = 2, .n_chunks = 1, .chunk_bytes = 100};

static void test_put_get_reopen(void **state)
{
    (void)state;
    char dir[256];
    kit_dir(dir);
    struct store *s = kit_open(dir, &small);
    struct digest key = kit_key(&page);
    assert_false(store_has(s, &key));
    kit_must_put(s, &page);
    kit_must_put(s, &session);
    assert_true(store_has(s, &key));
    kit_must_have(s, &page);
    kit_must_have(s, &session);
    store_close(s);
    assert_int_equal(kit_verify(dir), 0);
    s = kit_open(dir, &small);
    kit_must_have(s, &page);
    kit_must_have(s, &session);
    struct store_stat stat;
    store_stat(s, &stat);
    assert_int_equal(stat.n_records[RECORD_PAGE], 1);
    assert_int_equal(stat.n_records[RECORD_SESSION], 1);
    assert_int_equal(stat.live_bytes[RECORD_SESSION], 4096); /* a small record is one unit */
    assert_int_equal(stat.recovered_records, 0);
    assert_int_equal(stat.n_segments, 1); /* a clean close: the same segment goes on */
    struct kit_record other = session;
    other.number = 99;
    kit_must_put(s, &other);
    store_stat(s, &stat);
    assert_int_equal(stat.n_segments, 1);
    store_close(s);
    s = kit_open(dir, &small);
    kit_must_have(s, &other);
    store_close(s);
    assert_int_equal(kit_verify(dir), 0);
    kit_remove(dir);
}

/* Prompts are nobody else's business. */
static void test_files_are_private(void **state)
{
    (void)state;
    char dir[256], path[300];
    struct stat info;
    static const char *const names[] = {"LOCK", "index.db", "index.db-wal", "index.db-shm",
                                        "segments/0000000000000001.seg"};
    kit_dir(dir);
    snprintf(path, sizeof path, "%s/a/b", dir); /* made by the store, both */
    struct store *s = kit_open(path, &small);
    kit_must_put(s, &session);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/a/b/%s", dir, names[i]);
        assert_int_equal(stat(path, &info), 0);
        assert_int_equal(info.st_mode & 0777, 0600);
    }
    store_close(s);
    kit_remove(dir);
}

static void test_replace_and_delete(void **state)
{
    (void)state;
    char dir[256];
    struct err e;
    kit_dir(dir);
    struct store *s = kit_open(dir, &small);
    struct kit_record k = session;
    struct digest key = kit_key(&k);
    assert_int_equal(store_delete_wait(s, &key, &e), E_NOT_FOUND);
    for (k.version = 0; k.version < 5; k.version++)
        kit_must_put(s, &k);
    k.version = 4;
    kit_must_have(s, &k);
    assert_int_equal(store_delete_wait(s, &key, &e), OK);
    assert_false(store_has(s, &key));
    assert_int_equal(store_delete_wait(s, &key, &e), E_NOT_FOUND);
    store_close(s);
    assert_int_equal(kit_verify(dir), 0);
    assert_int_equal(store_rebuild(os_fs_real(), dir, &e), OK);
    assert_int_equal(kit_verify(dir), 0);
    s = kit_open(dir, &small);
    assert_false(store_has(s, &key));
    k.version = 5;
    kit_must_put(s, &k);
    kit_must_have(s, &k);
    store_close(s);
    assert_int_equal(store_rebuild(os_fs_real(), dir, &e), OK);
    s = kit_open(dir, &small);
    kit_must_have(s, &k);
    store_close(s);
    kit_remove(dir);
}

static void test_pin_outlives_record(void **state)
{
    (void)state;
    char dir[256];
    struct err e;
    struct store_pin pin;
    kit_dir(dir);
    struct store *s = kit_open(dir, &small);
    struct digest key = kit_key(&page);
    kit_must_put(s, &page);
    assert_int_equal(store_get(s, &key, &pin, &e), OK);
    assert_int_equal(store_delete_wait(s, &key, &e), OK);
    assert_int_equal(store_collect(s, &e), OK);
    struct store_stat stat;
    store_stat(s, &stat);
    assert_int_equal(stat.n_compacted, 1);
    assert_int_equal(kit_get(s, &page, NULL), KIT_MISS);
    assert_true(kit_pin_equals(&pin, &page, 0));
    uint8_t *copy = mem_new(1, page.chunk_bytes);
    assert_int_equal(store_read_chunk(s, &pin, 2, copy, &e), OK); /* the file is gone */
    assert_memory_equal(copy, store_chunk(&pin, 2).bytes, page.chunk_bytes);
    mem_free(copy);
    store_unpin(s, &pin);
    store_close(s);
    kit_remove(dir);
}

static void test_alignment(void **state)
{
    (void)state;
    char dir[256];
    struct err e;
    kit_dir(dir);
    struct store *s = kit_open(dir, &small);
    for (uint32_t i = 0; i < 40; i++) {
        struct kit_record k = {
            .kind = RECORD_PAGE, .number = i, .n_chunks = i % 7, .chunk_bytes = 1 + i * i * 37};
        struct store_pin pin;
        struct digest key = kit_key(&k);
        kit_must_put(s, &k);
        assert_int_equal(store_get(s, &key, &pin, &e), OK);
        assert_int_equal((uintptr_t)pin.payload % 64, 0);
        if (pin.payload_len >= 65536)
            assert_int_equal((uintptr_t)pin.payload % 4096, 0);
        uint8_t *copy = mem_new(1, k.chunk_bytes);
        for (uint32_t c = 0; c < k.n_chunks; c++) {
            assert_int_equal((uintptr_t)store_chunk(&pin, c).bytes % 64, 0);
            assert_int_equal(store_verify_chunk(&pin, c, &e), OK);
            assert_int_equal(store_read_chunk(s, &pin, c, copy, &e), OK);
            assert_memory_equal(copy, store_chunk(&pin, c).bytes, k.chunk_bytes);
        }
        mem_free(copy);
        assert_true(kit_pin_equals(&pin, &k, 0));
        store_unpin(s, &pin);
    }
    store_close(s);
    kit_remove(dir);
}

static void test_ceilings(void **state)
{
    (void)state;
    char dir[256], meta[STORE_META_MAX + 1] = "";
    struct err e;
    kit_dir(dir);
    struct store *s = kit_open(dir, &small);
    struct store_chunk big = {meta, (uint64_t)STORE_RECORD_MAX + 1};
    struct store_put put = {.kind = RECORD_PAGE, .key = kit_key(&page)};
    put.kind = (enum record_kind)9;
    assert_int_equal(store_put(s, &put, &e), E_INVALID);
    put.kind = RECORD_PAGE;
    put.meta = meta;
    put.meta_len = STORE_META_MAX + 1;
    assert_int_equal(store_put(s, &put, &e), E_LIMIT);
    put.meta_len = STORE_META_MAX;
    put.order_len = STORE_ORDER_MAX + 1;
    assert_int_equal(store_put(s, &put, &e), E_LIMIT);
    put.order_len = STORE_ORDER_MAX;
    put.chunks = &big;
    put.n_chunks = 1;
    assert_int_equal(store_put(s, &put, &e), E_LIMIT);
    put.n_chunks = STORE_CHUNKS_MAX + 1;
    assert_int_equal(store_put(s, &put, &e), E_LIMIT);
    /* At the ceilings, and larger than a segment. */
    struct store_chunk *chunks = mem_new(STORE_CHUNKS_MAX, sizeof *chunks);
    uint8_t *bytes = mem_new(3u << 20, 1);
    for (uint32_t i = 0; i < STORE_CHUNKS_MAX; i++)
        chunks[i] = (struct store_chunk){bytes + i, (3u << 20) / STORE_CHUNKS_MAX};
    put.chunks = chunks;
    put.n_chunks = STORE_CHUNKS_MAX;
    chunks[STORE_CHUNKS_MAX - 1].len = 1;
    assert_int_equal(store_put_wait(s, &put, &e), OK);
    struct store_pin pin;
    assert_int_equal(store_get(s, &put.key, &pin, &e), OK);
    assert_int_equal(pin.meta_len, STORE_META_MAX);
    for (uint32_t i = 0; i < STORE_CHUNKS_MAX; i++)
        assert_int_equal(store_verify_chunk(&pin, i, &e), OK);
    store_unpin(s, &pin);
    mem_free(chunks);
    mem_free(bytes);
    store_close(s);
    assert_int_equal(kit_verify(dir), 0);
    kit_remove(dir);
}

static void test_one_writer_many_readers(void **state)
{
    (void)state;
    char dir[256];
    struct err e = {0};
    struct store *second;
    kit_dir(dir);
    struct store_options reader = {.is_read_only = true};
    struct store *s = kit_open(dir, &small);
    assert_int_equal(store_open(os_fs_real(), dir, &small, &second, &e), E_BUSY);
    char who[32];
    snprintf(who, sizeof who, "pid %ld", (long)getpid());
    assert_non_null(strstr(e.msg, who));
    kit_must_put(s, &page);
    struct store *r = kit_open(dir, &reader);
    kit_must_have(r, &page);
    assert_int_equal(kit_put_wait(r, &session, &e), E_DENIED);
    struct digest key = kit_key(&page);
    assert_int_equal(store_delete_wait(r, &key, &e), E_DENIED);
    /* What the writer adds, moves and reclaims while the reader has the store open. */
    kit_must_put(s, &session);
    kit_must_have(r, &session);
    for (uint32_t i = 100; i < 200; i++) {
        struct kit_record k = page;
        k.number = i;
        kit_must_put(s, &k);
        kit_must_have(r, &k);
    }
    assert_int_equal(store_delete_wait(s, &key, &e), OK);
    for (uint32_t i = 100; i < 195; i++) {
        struct kit_record k = page;
        k.number = i;
        key = kit_key(&k);
        assert_int_equal(store_delete_wait(s, &key, &e), OK);
    }
    assert_int_equal(store_collect(s, &e), OK);
    for (uint32_t i = 195; i < 200; i++) {
        struct kit_record k = page;
        k.number = i;
        kit_must_have(r, &k);
    }
    assert_int_equal(kit_verify(dir), 0); /* beside a writer */
    store_close(r);
    store_close(s);
    s = kit_open(dir, &small);
    store_close(s);
    kit_remove(dir);
}

static uint32_t neighbours(struct store *s, uint32_t family, const char *order, char found[2][8])
{
    struct digest keys[2], id = kit_digest("family", family, 0);
    struct err e;
    memset(found, 0, 16);
    uint32_t n = store_neighbours(s, &id, (const uint8_t *)order, (uint32_t)strlen(order), keys);
    for (uint32_t i = 0; i < n; i++) {
        struct store_pin pin;
        assert_int_equal(store_get(s, &keys[i], &pin, &e), OK);
        assert_true(pin.meta_len < 8);
        memcpy(found[i], pin.meta, pin.meta_len);
        store_unpin(s, &pin);
    }
    return n;
}

static void put_sibling(struct store *s, uint32_t family, const char *order)
{
    struct err e;
    struct store_put put = {.kind = RECORD_PAGE, .family = kit_digest("family", family, 0)};
    struct digester d = {0};
    digest_begin(&d);
    digest_u64(&d, "family", family);
    digest_field(&d, "order", order, strlen(order));
    put.key = digest_end(&d);
    digester_release(&d);
    put.order_len = (uint32_t)strlen(order);
    memcpy(put.order, order, put.order_len);
    put.meta = order;
    put.meta_len = put.order_len;
    assert_int_equal(store_put_wait(s, &put, &e), OK);
}

static void check_neighbours(struct store *s)
{
    char found[2][8];
    assert_int_equal(neighbours(s, 1, "b", found), 2);
    assert_string_equal(found[0], "b");
    assert_string_equal(found[1], "bb");
    assert_int_equal(neighbours(s, 1, "bc", found), 2);
    assert_string_equal(found[0], "bb");
    assert_string_equal(found[1], "d");
    assert_int_equal(neighbours(s, 1, "a", found), 1);
    assert_string_equal(found[0], "b");
    assert_int_equal(neighbours(s, 1, "zz", found), 1);
    assert_string_equal(found[0], "d");
    assert_int_equal(neighbours(s, 1, "", found), 1);
    assert_int_equal(neighbours(s, 2, "zz", found), 1);
    assert_string_equal(found[0], "x");
    assert_int_equal(neighbours(s, 3, "x", found), 0);
}

static void test_neighbours(void **state)
{
    (void)state;
    char dir[256], found[2][8];
    struct err e;
    kit_dir(dir);
    struct store *s = kit_open(dir, &small);
    put_sibling(s, 1, "d");
    put_sibling(s, 1, "b");
    put_sibling(s, 2, "x");
    put_sibling(s, 1, "bb");
    check_neighbours(s);
    store_close(s);
    s = kit_open(dir, &small);
    check_neighbours(s);
    store_close(s);
    assert_int_equal(store_rebuild(os_fs_real(), dir, &e), OK);
    s = kit_open(dir, &small);
    check_neighbours(s);
    /* A deleted sibling is no neighbour. */
    struct digest keys[2], id = kit_digest("family", 1, 0);
    assert_int_equal(store_neighbours(s, &id, (const uint8_t *)"bb", 2, keys), 2);
    assert_int_equal(store_delete_wait(s, &keys[0], &e), OK);
    assert_int_equal(neighbours(s, 1, "bb", found), 2);
    assert_string_equal(found[0], "b");
    assert_string_equal(found[1], "d");
    store_close(s);
    kit_remove(dir);
}

struct list {
    uint32_t n, numbers[64];
};

static bool each(const struct store_pin *pin, void *arg)
{
    struct list *l = arg;
    unsigned kind, number;
    char meta[64];
    snprintf(meta, sizeof meta, "%.*s", (int)pin->meta_len, (const char *)pin->meta);
    assert_int_equal(sscanf(meta, "kind=%u number=%u", &kind, &number), 2);
    assert_int_equal(kind, RECORD_TOKENS);
    l->numbers[l->n++] = number;
    return l->n < 30;
}

static void test_each_newest_first(void **state)
{
    (void)state;
    char dir[256];
    struct err e;
    kit_dir(dir);
    struct store *s = kit_open(dir, &small);
    struct kit_record k = {.kind = RECORD_TOKENS, .n_chunks = 2, .chunk_bytes = 1000};
    for (k.number = 0; k.number < 40; k.number++)
        kit_must_put(s, &k);
    kit_must_put(s, &page);
    k.number = 5;
    k.version = 1;
    kit_must_put(s, &k); /* now the newest */
    struct list l = {0};
    assert_int_equal(store_each(s, RECORD_TOKENS, each, &l, &e), OK);
    assert_int_equal(l.n, 30);
    assert_int_equal(l.numbers[0], 5);
    assert_int_equal(l.numbers[1], 39);
    assert_int_equal(l.numbers[29], 11);
    struct store_options reader = {.is_read_only = true};
    struct store *r = kit_open(dir, &reader);
    k.number = 3;
    kit_must_put(s, &k);
    l.n = 0;
    assert_int_equal(store_each(r, RECORD_TOKENS, each, &l, &e), OK);
    assert_int_equal(l.numbers[0], 3);
    store_close(r);
    store_close(s);
    kit_remove(dir);
}

static void count_done(void *arg, enum status st, const struct err *e)
{
    (void)e;
    if (st == OK)
        ++*(uint32_t *)arg;
}

static void test_queue_is_bounded(void **state)
{
    (void)state;
    char dir[256];
    struct err e;
    uint32_t n_done = 0, n_busy = 0, n_taken = 0;
    kit_dir(dir);
    struct store *s = kit_open(dir, &small);
    struct kit_put *p = kit_put_new(&session);
    p->put.done = count_done;
    p->put.arg = &n_done;
    for (uint32_t i = 0; i < 20000; i++) {
        p->put.key = kit_digest("queue", i % 1000, 0);
        enum status st = store_put(s, &p->put, &e);
        n_busy += st == E_BUSY;
        n_taken += st == OK;
        assert_true(st == OK || st == E_BUSY);
    }
    store_flush(s);
    assert_int_equal(n_done, n_taken);
    assert_true(n_taken >= STORE_QUEUE_MAX);
    print_message("taken %u busy %u\n", n_taken, n_busy);
    store_close(s);
    kit_put_free(p);
    assert_int_equal(kit_verify(dir), 0);
    kit_remove(dir);
}

static void test_close_makes_durable(void **state)
{
    (void)state;
    char dir[256];
    struct err e;
    uint32_t n_done = 0;
    kit_dir(dir);
    struct store *s = kit_open(dir, &small);
    struct kit_put *p = kit_put_new(&session);
    p->put.done = count_done;
    p->put.arg = &n_done;
    for (uint32_t i = 0; i < 500; i++) {
        p->put.key = kit_digest("queue", i, 0);
        assert_int_equal(store_put(s, &p->put, &e), OK);
    }
    store_close(s);
    assert_int_equal(n_done, 500);
    kit_put_free(p);
    s = kit_open(dir, &small);
    for (uint32_t i = 0; i < 500; i++) {
        struct digest key = kit_digest("queue", i, 0);
        assert_true(store_has(s, &key));
    }
    store_close(s);
    kit_remove(dir);
}

/* A pin without a look at the record: what is wrong is found when it is faulted in. */
static void test_unread(void **state)
{
    (void)state;
    char dir[256];
    struct err e;
    struct store_pin pin;
    struct kit_record large = {
        .kind = RECORD_PAGE, .number = 1, .n_chunks = 3, .chunk_bytes = 40000, .depth = 4};
    struct kit_record tiny = {.kind = RECORD_PAGE, .number = 2, .n_chunks = 1, .chunk_bytes = 100};
    kit_dir(dir);
    struct store *s = kit_open(dir, &(struct store_options){.keep_free_bytes = 1});
    kit_must_put(s, &large);
    kit_must_put(s, &tiny);
    struct digest key = kit_key(&large), other = kit_key(&tiny), none = kit_digest("none", 0, 0);
    assert_int_equal(store_get_unread(s, &key, 120000, &pin, &e), OK);
    assert_true(pin.is_unread && digest_equal(&pin.key, &key));
    const struct store_pin *list[] = {&pin};
    store_read_ahead(s, list, 1);
    const uint8_t *payload = pin.payload;
    assert_int_equal(store_fault_in(&pin, &e), OK);
    assert_true(!pin.is_unread && pin.payload == payload && pin.depth == 4);
    assert_true(kit_pin_equals(&pin, &large, 0));
    assert_int_equal(store_check_chunk(&pin, 2, &e), OK);
    store_unpin(s, &pin);
    /* Another length than it has: within the same units, units fewer, more than the record. */
    static const uint64_t wrong[] = {119999, 122880, 70000};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(store_get_unread(s, &key, wrong[i], &pin, &e), OK);
        assert_int_equal(store_fault_in(&pin, &e), E_CORRUPT);
        assert_true(pin.is_unread);
        store_unpin(s, &pin);
    }
    assert_int_equal(store_get_unread(s, &key, 1u << 20, &pin, &e), OK);
    assert_false(pin.is_unread); /* read at once: the caller sees what it is */
    store_unpin(s, &pin);
    assert_int_equal(store_get_unread(s, &other, 100, &pin, &e), OK);
    assert_true(!pin.is_unread && kit_pin_equals(&pin, &tiny, 0));
    store_unpin(s, &pin);
    assert_int_equal(store_get_unread(s, &none, 120000, &pin, &e), E_NOT_FOUND);
    assert_int_equal(store_get_unread(s, &none, 100, &pin, &e), E_NOT_FOUND);
    store_close(s);
    kit_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_get_reopen),
        cmocka_unit_test(test_files_are_private),
        cmocka_unit_test(test_replace_and_delete),
        cmocka_unit_test(test_pin_outlives_record),
        cmocka_unit_test(test_alignment),
        cmocka_unit_test(test_ceilings),
        cmocka_unit_test(test_one_writer_many_readers),
        cmocka_unit_test(test_neighbours),
        cmocka_unit_test(test_each_newest_first),
        cmocka_unit_test(test_queue_is_bounded),
        cmocka_unit_test(test_close_makes_durable),
        cmocka_unit_test(test_unread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
