/* SPDX-License-Identifier: MIT
 * Goal: with a file key no byte of meta, payload or order keys lies on disk in the clear,
 * everything reads back as before, also after reclamation and a rebuild without the key; without
 * the key or with another one nothing is given out and nothing is lost; a changed byte is noticed.
 * Method: records full of a text and of token ids; all files are searched for both. */
#include <dirent.h>
#include <fcntl.h>

#include "base/endian.h"
#include "store_kit.h"

#define SECRET "the launch code is seventeen violets"
#define N      40u

static const uint8_t file_key[STORE_FILE_KEY_BYTES] = "0123456789abcdef0123456789abcde";
static const uint8_t other_key[STORE_FILE_KEY_BYTES] = "another key of thirty-two bytes";

static struct store_options with_key(const uint8_t *key)
{
    return (struct store_options){
        .max_bytes = 8u << 20, .segment_bytes = 256u << 10, .keep_free_bytes = 1, .file_key = key};
}

/* Tokens of record i: the same beginning for all, then its own. */
static void tokens_of(uint32_t i, uint32_t tokens[64])
{
    for (uint32_t t = 0; t < 64; t++)
        tokens[t] = t < 20 ? 70000 + t : 90000 + i * 64 + t;
}

static uint32_t order_of(const uint32_t *tokens, uint8_t *order)
{
    for (uint32_t t = 0; t < 64; t++)
        put_le32(order + 4 * t, __builtin_bswap32(tokens[t]));
    return 256;
}

static struct digest key_of(uint32_t i)
{
    return kit_digest("sealed", i, 0);
}

static void fill(uint8_t *p, size_t n, uint32_t i)
{
    for (size_t at = 0; at < n; at++)
        p[at] = (uint8_t)SECRET[(at + i) % (sizeof SECRET - 1)];
}

static void put_all(struct store *s, uint32_t from, uint32_t to)
{
    uint8_t a[9000], b[700];
    for (uint32_t i = from; i < to; i++) {
        uint32_t tokens[64];
        struct err e;
        tokens_of(i, tokens);
        fill(a, sizeof a, i);
        fill(b, sizeof b, i + 5);
        struct store_chunk chunks[] = {{a, sizeof a}, {b, sizeof b}};
        struct store_put put = {.kind = i % 2 ? RECORD_PAGE : RECORD_TOKENS,
                                .key = key_of(i),
                                .chain = kit_digest("chain", i, 0),
                                .family = kit_digest("family", 0, 0),
                                .owner = 1 + i % 2,
                                .layout = i,
                                .meta = tokens,
                                .meta_len = sizeof tokens,
                                .chunks = chunks,
                                .n_chunks = 2};
        put.order_len = order_of(tokens, put.order);
        assert_int_equal(store_put_wait(s, &put, &e), OK);
    }
}

static void must_have(struct store *s, uint32_t i, bool is_encrypted)
{
    struct digest key = key_of(i);
    struct store_pin pin;
    struct err e;
    uint8_t a[9000], b[700], got[9000];
    uint32_t tokens[64];
    if (store_get(s, &key, &pin, &e) != OK)
        fail_msg("record %u: %s", i, e.msg);
    tokens_of(i, tokens);
    fill(a, sizeof a, i);
    fill(b, sizeof b, i + 5);
    assert_int_equal(pin.meta_len, sizeof tokens);
    assert_memory_equal(pin.meta, tokens, sizeof tokens);
    assert_int_equal(pin.n_chunks, 2);
    assert_int_equal(pin.clear != NULL, is_encrypted);
    assert_int_equal((uintptr_t)pin.payload % 64, 0);
    assert_int_equal(store_verify_chunk(&pin, 0, &e), OK);
    assert_int_equal(store_fault_in(&pin, &e), OK);
    assert_int_equal(store_check_chunk(&pin, 1, &e), OK);
    assert_int_equal(store_chunk(&pin, 0).len, sizeof a);
    assert_memory_equal(store_chunk(&pin, 0).bytes, a, sizeof a);
    assert_int_equal(store_chunk(&pin, 1).len, sizeof b);
    assert_memory_equal(store_chunk(&pin, 1).bytes, b, sizeof b);
    assert_memory_equal(pin.payload, a, sizeof a); /* chunks follow each other as in the clear */
    assert_int_equal(pin.payload_len, 9024 + sizeof b);
    assert_int_equal(store_read_chunk(s, &pin, 1, got, &e), OK);
    assert_memory_equal(got, b, sizeof b);
    store_unpin(s, &pin);
}

/* Is this anywhere in the files of the folder? */
static bool is_in_files(const char *dir, const void *what, size_t len)
{
    static const char *const folders[] = {"", "/segments"};
    bool is_found = false;
    for (int f = 0; f < 2; f++) {
        char path[700];
        snprintf(path, sizeof path, "%s%s", dir, folders[f]);
        DIR *d = opendir(path);
        for (struct dirent *entry; (entry = readdir(d)) != NULL;) {
            char *bytes = NULL;
            size_t n = 0;
            snprintf(path, sizeof path, "%s%s/%s", dir, folders[f], entry->d_name);
            if (entry->d_type != DT_REG ||
                fs_read_file(os_fs_real(), path, 64u << 20, &bytes, &n, NULL) != OK)
                continue;
            is_found |= n >= len && memmem(bytes, n, what, len) != NULL;
            mem_free(bytes);
        }
        closedir(d);
    }
    return is_found;
}

/* Four bytes of text, or two token ids in either byte order, are a find. */
static bool tells_anything(const char *dir)
{
    bool is_found = is_in_files(dir, "seventeen", 9) || is_in_files(dir, "violets", 7);
    for (uint32_t i = 0; i < N; i += 7) {
        uint32_t tokens[64];
        uint8_t order[STORE_ORDER_MAX];
        tokens_of(i, tokens);
        (void)order_of(tokens, order);
        is_found |= is_in_files(dir, tokens + 30, 8) || is_in_files(dir, order + 120, 8) ||
                    is_in_files(dir, tokens, 8) || is_in_files(dir, order, 8);
    }
    return is_found;
}

static void test_nothing_in_clear(void **state)
{
    (void)state;
    char dir[256];
    struct err e;
    kit_dir(dir);
    struct store_options options = with_key(file_key), keyless = with_key(NULL);
    struct store *s = kit_open(dir, &options);
    put_all(s, 0, N);
    for (uint32_t i = 0; i < N; i++)
        must_have(s, i, true);
    assert_false(tells_anything(dir)); /* while it is open: the index's log too */
    store_close(s);
    assert_false(tells_anything(dir));
    assert_int_equal(kit_verify(dir), 0); /* needs no key */
    s = kit_open(dir, &options);
    for (uint32_t i = 0; i < N; i++)
        must_have(s, i, true);
    struct digest gone = key_of(4);
    assert_int_equal(store_delete_wait(s, &gone, &e), OK);
    assert_int_equal(store_collect(s, &e), OK); /* copies ciphertext */
    for (uint32_t i = 0; i < N; i++)
        if (i != 4)
            must_have(s, i, true);
    store_close(s);
    assert_int_equal(store_rebuild(os_fs_real(), dir, &e), OK);
    assert_int_equal(kit_verify(dir), 0);
    assert_false(tells_anything(dir));
    s = kit_open(dir, &options);
    for (uint32_t i = 0; i < N; i++)
        if (i != 4)
            must_have(s, i, true);
    assert_false(store_has(s, &gone));
    store_close(s);
    kit_remove(dir);
    /* The search itself: the same records in the clear are found. */
    kit_dir(dir);
    s = kit_open(dir, &keyless);
    put_all(s, 0, N);
    store_close(s);
    assert_true(tells_anything(dir));
    kit_remove(dir);
}

static void test_without_the_key(void **state)
{
    (void)state;
    char dir[256];
    struct err e;
    struct store_stat stat;
    struct store_pin pin;
    kit_dir(dir);
    struct store_options options = with_key(file_key), keyless = with_key(NULL),
                         wrong = with_key(other_key);
    struct store *s = kit_open(dir, &keyless);
    put_all(s, N / 2, N); /* in the clear, before there was a key */
    store_close(s);
    s = kit_open(dir, &options);
    put_all(s, 0, N / 2);
    store_close(s);
    assert_int_equal(store_open(os_fs_real(), dir, &keyless, &s, &e), E_DENIED);
    keyless.is_read_only = true;
    s = kit_open(dir, &keyless);
    for (uint32_t i = 0; i < N / 2; i++) {
        struct digest key = key_of(i);
        assert_int_equal(store_get(s, &key, &pin, &e), E_NOT_FOUND);
    }
    for (uint32_t i = N / 2; i < N; i++)
        must_have(s, i, false);
    store_stat(s, &stat);
    assert_int_equal(stat.n_quarantined, 0);
    store_close(s);
    assert_int_equal(store_open(os_fs_real(), dir, &wrong, &s, &e), E_DENIED);
    s = kit_open(dir, &options);
    for (uint32_t i = 0; i < N; i++)
        must_have(s, i, i < N / 2);
    store_close(s);
    kit_remove(dir);
}

/* The neighbours of a query are those with the longest common beginning, as without encryption. */
static void test_neighbours(void **state)
{
    (void)state;
    char dir[256];
    kit_dir(dir);
    struct store_options options = with_key(file_key);
    struct store *s = kit_open(dir, &options);
    put_all(s, 0, N);
    struct digest family = kit_digest("family", 0, 0), keys[2];
    for (uint32_t i = 0; i < N; i++) {
        uint32_t tokens[64];
        uint8_t order[STORE_ORDER_MAX];
        tokens_of(i, tokens);
        for (uint32_t t = 45; t < 64; t++)
            tokens[t] = 5; /* 45 tokens are record i's, 20 those of all others */
        uint32_t n = store_neighbours(s, &family, order, order_of(tokens, order), keys);
        struct digest want = key_of(i);
        assert_true((n > 0 && digest_equal(&keys[0], &want)) ||
                    (n > 1 && digest_equal(&keys[1], &want)));
    }
    store_close(s);
    kit_remove(dir);
}

/* One byte of ciphertext is changed, and the checksum that it no longer fits is not asked. */
static void test_changed_bytes(void **state)
{
    (void)state;
    char dir[256], path[400];
    struct err e;
    kit_dir(dir);
    struct store_options options = with_key(file_key);
    struct store *s = kit_open(dir, &options);
    put_all(s, 0, 1);
    struct digest key = key_of(0);
    struct store_pin pin;
    assert_int_equal(store_get(s, &key, &pin, &e), OK);
    assert_int_equal(store_verify_chunk(&pin, 0, &e), OK);
    snprintf(path, sizeof path, "%s/segments/0000000000000001.seg", dir);
    int fd = open(path, O_RDWR);
    uint8_t byte;
    off_t at = 2 * 4096 + 5000; /* header, data key, then this record: within its first chunk */
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
    assert_int_equal(store_check_chunk(&pin, 0, &e), E_CORRUPT);
    assert_int_equal(store_check_chunk(&pin, 1, &e), OK);
    store_unpin(s, &pin);
    store_close(s);
    assert_int_equal(kit_verify(dir), 1);
    kit_remove(dir);
}

static uint64_t n_keys(struct store *s)
{
    struct store_stat stat;
    store_stat(s, &stat);
    return stat.n_records[RECORD_KEY];
}

/* A data key that no record needs any more goes with the next collection, and stays gone. */
static void test_unused_keys(void **state)
{
    (void)state;
    char dir[256];
    struct err e;
    kit_dir(dir);
    struct store_options options = with_key(file_key);
    for (uint32_t run = 0; run < 3; run++) { /* two owners: two keys a run */
        struct store *s = kit_open(dir, &options);
        put_all(s, run * 10, run * 10 + 10);
        assert_int_equal(n_keys(s), 2 * run + 2);
        store_close(s);
    }
    struct store *s = kit_open(dir, &options);
    assert_int_equal(store_collect(s, &e), OK);
    assert_int_equal(n_keys(s), 6); /* all of them are needed */
    for (uint32_t i = 0; i < 10; i++) {
        struct digest key = key_of(i);
        assert_int_equal(store_delete_wait(s, &key, &e), OK);
    }
    struct digest one = key_of(10); /* its owner's key has others to serve */
    assert_int_equal(store_delete_wait(s, &one, &e), OK);
    assert_int_equal(store_collect(s, &e), OK);
    assert_int_equal(n_keys(s), 4);
    put_all(s, 0, 2); /* a key of this run serves what comes */
    for (uint32_t i = 11; i < 30; i++)
        must_have(s, i, true);
    assert_int_equal(store_collect(s, &e), OK);
    store_close(s);
    assert_int_equal(store_rebuild(os_fs_real(), dir, &e), OK);
    s = kit_open(dir, &options);
    assert_int_equal(n_keys(s), 6);
    for (uint32_t i = 11; i < 30; i++)
        must_have(s, i, true);
    must_have(s, 0, true);
    store_close(s);
    assert_int_equal(kit_verify(dir), 0);
    kit_remove(dir);
}

int main(void)
{
    kit_quiet();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_in_clear), cmocka_unit_test(test_without_the_key),
        cmocka_unit_test(test_neighbours),       cmocka_unit_test(test_changed_bytes),
        cmocka_unit_test(test_unused_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
