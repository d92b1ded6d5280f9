/* SPDX-License-Identifier: MIT
 * packed_test.c — goal: a side file gives back exactly what was published or nothing at all:
 * damaged, cut, foreign, half written before power was lost, beside other publishers, on a full
 * disk. Method: small payloads in the simulated file system (fs_sim.h), every byte flipped and
 * every length cut; then threads on the real one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "engine/packed.h"
#include "fs_sim.h"
#include "temp_folder.h"

#define DIR     "/cache/kvasir/packed"
#define PAYLOAD (PACKED_CHUNK_BYTES + 2 * 4096u)
#define HEAD    4096u

static struct team *team;
static uint8_t *payload;

static int set_up(void **state)
{
    (void)state;
    struct err e;
    payload = mem_try_aligned(4096, PAYLOAD);
    for (uint32_t i = 0; i < PAYLOAD; i++)
        payload[i] = (uint8_t)(i * 2654435761u >> 24);
    return team_new(2, &team, &e) == OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    team_free(team);
    mem_free(payload);
    return 0;
}

static struct packed_head head_of(uint8_t key)
{
    struct packed_head h = {.key = {{key}}, .identity = {{1, key}}, .payload_bytes = PAYLOAD};
    snprintf(h.model, sizeof h.model, "model %u", key);
    return h;
}

static void path_of(uint8_t key, char path[256])
{
    char hex[DIGEST_HEX_BYTES];
    digest_hex(&(struct digest){{key}}, hex);
    snprintf(path, 256, DIR "/%s.packed", hex);
}

/* OK must mean the very bytes. */
static enum status open_again(const struct os_fs *fs, const char *dir, uint8_t key)
{
    struct packed_map m = {0};
    struct err e = {0};
    enum status st = packed_open(fs, dir, &(struct digest){{key}}, PAYLOAD, team, &m, &e);
    if (st == OK)
        assert_memory_equal(m.payload, payload, PAYLOAD);
    packed_close(fs, &m);
    return st;
}

static enum status publish(const struct os_fs *fs, const char *dir, uint8_t key)
{
    struct err e;
    struct packed_head h = head_of(key);
    struct packed_map map = {0};
    struct packed_making *making;
    enum status st = packed_begin(fs, dir, PAYLOAD, &map, &making, &e);
    if (st != OK)
        return st;
    memcpy((void *)(uintptr_t)map.payload, payload, PAYLOAD);
    st = packed_finish(making, &h, &e);
    assert_memory_equal(map.payload, payload, PAYLOAD); /* of use either way */
    packed_close(fs, &map);
    return st;
}

static void what_is_published_is_found(void **state)
{
    (void)state;
    struct fs_sim *sim = fs_sim_new(1);
    const struct os_fs *fs = fs_sim_fs(sim);
    assert_int_equal(open_again(fs, DIR, 1), E_NOT_FOUND);
    assert_int_equal(publish(fs, DIR, 1), OK);
    assert_int_equal(open_again(fs, DIR, 1), OK);
    assert_int_equal(open_again(fs, DIR, 2), E_NOT_FOUND);
    struct packed_map m;
    struct err e;
    assert_int_equal(packed_open(fs, DIR, &(struct digest){{1}}, PAYLOAD - 4096, team, &m, &e),
                     E_CORRUPT);
    char one[256], two[256];
    path_of(1, one);
    path_of(2, two);
    assert_int_equal(fs->rename(fs, one, two, &e), OK);
    assert_int_equal(open_again(fs, DIR, 2), E_CORRUPT); /* another model's weights */
    fs_sim_free(sim);
}

static void any_damage_shows(void **state)
{
    (void)state;
    struct fs_sim *sim = fs_sim_new(1);
    const struct os_fs *fs = fs_sim_fs(sim);
    char path[256];
    path_of(1, path);
    assert_int_equal(publish(fs, DIR, 1), OK);
    const uint32_t summed = 168 + 3 * 16; /* then zeros that mean nothing */
    for (uint32_t at = 0; at < HEAD + PAYLOAD; at += at < HEAD + 64 ? 1 : 4099) {
        assert_true(fs_sim_flip(sim, path, at, at % 8));
        enum status st = open_again(fs, DIR, 1);
        assert_true(at >= summed && at < HEAD ? st == OK : st == E_CORRUPT || st == E_UNSUPPORTED);
        assert_true(fs_sim_flip(sim, path, at, at % 8));
    }
    assert_int_equal(open_again(fs, DIR, 1), OK);
    fs_sim_free(sim);
}

static void any_cut_shows(void **state)
{
    (void)state;
    const struct os_fs *fs = os_fs_real();
    char path[600], hex[DIGEST_HEX_BYTES];
    struct err e;
    assert_int_equal(publish(fs, temp_folder, 1), OK);
    digest_hex(&(struct digest){{1}}, hex);
    snprintf(path, sizeof path, "%s/%s.packed", temp_folder, hex);
    for (uint32_t len = HEAD + PAYLOAD - 1; len > 0;) {
        assert_int_equal(truncate(path, len), 0);
        assert_int_equal(open_again(fs, temp_folder, 1), E_CORRUPT);
        len -= len > 70000 ? 65521 : len > 300 ? 97 : 1;
    }
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(open_again(fs, temp_folder, 1), E_CORRUPT);
    assert_int_equal(publish(fs, temp_folder, 1), OK); /* made again over it */
    assert_int_equal(open_again(fs, temp_folder, 1), OK);
    assert_int_equal(fs->unlink(fs, path, &e), OK);
}

static void count_file(void *arg, const char *name, uint64_t bytes, const struct packed_head *head)
{
    (void)name, (void)bytes, (void)head;
    (*(uint32_t *)arg)++;
}

static uint32_t n_files(const struct os_fs *fs, const char *dir)
{
    uint32_t n = 0;
    struct err e;
    assert_int_equal(packed_each(fs, dir, count_file, &n, &e), OK);
    return n;
}

static void a_full_disk_keeps_nothing(void **state)
{
    (void)state;
    struct fs_sim *sim = fs_sim_new(1);
    const struct os_fs *fs = fs_sim_fs(sim);
    fs_sim_capacity(sim, PAYLOAD);
    assert_int_equal(publish(fs, DIR, 1), E_FULL);
    assert_int_equal(n_files(fs, DIR), 0);
    assert_int_equal(open_again(fs, DIR, 1), E_NOT_FOUND);
    fs_sim_free(sim);
}

/* Each call fails once: then the file is there, or nothing of it. */
static void a_failing_call_is_told(void **state)
{
    (void)state;
    for (uint64_t n = 0;; n++) {
        struct fs_sim *sim = fs_sim_new(n);
        const struct os_fs *fs = fs_sim_fs(sim);
        struct err e;
        assert_int_equal(fs_make_dirs(fs, DIR, &e), OK);
        uint64_t before = fs_sim_count(sim, FS_SIM_CHANGES);
        fs_sim_fail(sim, FS_SIM_CHANGES, n, 1, E_IO);
        enum status st = publish(fs, DIR, 1);
        bool all = fs_sim_count(sim, FS_SIM_CHANGES) - before <= n;
        enum status found = open_again(fs, DIR, 1);
        assert_true(found == OK || (st != OK && found == E_NOT_FOUND));
        fs_sim_free(sim);
        if (all)
            break;
    }
}

static void power_loss_leaves_all_or_nothing(void **state)
{
    (void)state;
    uint32_t n_whole = 0;
    for (uint64_t seed = 0; seed < 400; seed++) {
        struct fs_sim *sim = fs_sim_new(seed);
        struct err e;
        assert_int_equal(fs_make_dirs(fs_sim_fs(sim), DIR, &e), OK);
        for (const char *p = DIR; p;
             p = strchr(p + 1, '/')) { /* the folder itself was there long */
            char part[64];
            snprintf(part, sizeof part, "%.*s", (int)(p - DIR), DIR);
            assert_int_equal(fs_sim_fs(sim)->sync_dir(fs_sim_fs(sim), part[0] ? part : "/", &e),
                             OK);
        }
        fs_sim_power_off_at(sim, seed % 40);
        enum status st = publish(fs_sim_fs(sim), DIR, 1);
        struct fs_sim *after = fs_sim_lose_power(sim, seed);
        enum status found = open_again(fs_sim_fs(after), DIR, 1);
        assert_true(found == OK || found == E_NOT_FOUND);
        if (st == OK)
            assert_int_equal(found, OK);
        n_whole += found == OK;
        /* What is left over goes with the next publication. */
        assert_int_equal(publish(fs_sim_fs(after), DIR, 1), OK);
        assert_int_equal(n_files(fs_sim_fs(after), DIR), 1);
        fs_sim_free(after);
        fs_sim_free(sim);
    }
    assert_true(n_whole > 0 && n_whole < 400);
}

static void publish_often(void *arg)
{
    for (uint32_t i = 0; i < 20; i++) {
        enum status st = publish(os_fs_real(), temp_folder, 7);
        /* A new file may be taken for a leftover before it is locked: it is then not published. */
        if (st != OK && st != E_NOT_FOUND && st != E_BUSY)
            *(enum status *)arg = st;
    }
}

static void many_may_publish_at_once(void **state)
{
    (void)state;
    struct os_thread *threads[3];
    enum status results[3] = {OK, OK, OK};
    struct err e;
    const struct os_fs *fs = os_fs_real();
    assert_int_equal(publish(fs, temp_folder, 7), OK);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(thread_start("publish", publish_often, &results[i], &threads[i], &e), OK);
    for (uint32_t i = 0; i < 60; i++)
        assert_int_equal(open_again(fs, temp_folder, 7), OK);
    for (uint32_t i = 0; i < 3; i++) {
        thread_join(threads[i]);
        assert_int_equal(results[i], OK);
    }
    assert_int_equal(n_files(fs, temp_folder), 1);
}

static void take_path(void *arg, const char *name, uint64_t bytes, const struct packed_head *head)
{
    (void)bytes;
    assert_null(head); /* nothing that anybody would map */
    snprintf(arg, 600, "%s/%s", temp_folder, name);
}

static void what_is_not_finished_is_gone(void **state)
{
    (void)state;
    const struct os_fs *fs = os_fs_real();
    struct packed_map map, other;
    struct packed_making *making, *second;
    struct err e;
    assert_int_equal(packed_begin(fs, temp_folder, PAYLOAD, &map, &making, &e), OK);
    memcpy((void *)(uintptr_t)map.payload, payload, PAYLOAD);
    assert_int_equal(open_again(fs, temp_folder, 3), E_NOT_FOUND);
    /* Another that begins takes it for no leftover. */
    assert_int_equal(packed_begin(fs, temp_folder, PAYLOAD, &other, &second, &e), OK);
    assert_int_equal(n_files(fs, temp_folder), 2);
    packed_abandon(second);
    packed_close(fs, &other);
    assert_int_equal(n_files(fs, temp_folder), 1);
    packed_abandon(making);
    assert_memory_equal(map.payload, payload, PAYLOAD);
    packed_close(fs, &map);
    assert_int_equal(n_files(fs, temp_folder), 0);
}

/* As where space cannot be reserved and the disk is full in the middle of packing: the pages that
 * the file could not take lie in memory. */
static void a_cut_while_it_is_made_is_not_published(void **state)
{
    (void)state;
    const struct os_fs *fs = os_fs_real();
    for (uint32_t keeps_size = 0; keeps_size < 2; keeps_size++) {
        char path[600] = "";
        struct packed_map map;
        struct packed_making *making;
        struct packed_head h = head_of(4);
        struct err e;
        assert_int_equal(packed_begin(fs, temp_folder, PAYLOAD, &map, &making, &e), OK);
        assert_int_equal(packed_each(fs, temp_folder, take_path, path, &e), OK);
        assert_int_equal(truncate(path, HEAD + 4096), 0);
        memcpy((void *)(uintptr_t)map.payload, payload, PAYLOAD);
        if (keeps_size)
            assert_int_equal(truncate(path, HEAD + PAYLOAD), 0);
        assert_int_equal(packed_finish(making, &h, &e), keeps_size ? E_FULL : E_CORRUPT);
        assert_memory_equal(map.payload, payload, PAYLOAD);
        packed_close(fs, &map);
        assert_int_equal(n_files(fs, temp_folder), 0);
    }
}

static void other_sizes_are_refused(void **state)
{
    (void)state;
    static uint8_t bytes[8192];
    struct packed_head h;
    struct err e;
    assert_int_equal(packed_parse(bytes, 0, 0, &h, &e), E_CORRUPT);
    memcpy(bytes, "kvasirpk", 8);
    assert_int_equal(packed_parse(bytes, sizeof bytes, sizeof bytes, &h, &e), E_UNSUPPORTED);
    bytes[8] = 1;
    assert_int_equal(packed_parse(bytes, sizeof bytes, sizeof bytes, &h, &e), E_CORRUPT);
    memset(bytes + 12, 0xff, 20);
    assert_int_equal(packed_parse(bytes, sizeof bytes, UINT64_MAX, &h, &e), E_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_published_is_found),
        cmocka_unit_test(any_damage_shows),
        cmocka_unit_test_setup_teardown(any_cut_shows, temp_folder_make, temp_folder_remove),
        cmocka_unit_test(a_full_disk_keeps_nothing),
        cmocka_unit_test(a_failing_call_is_told),
        cmocka_unit_test(power_loss_leaves_all_or_nothing),
        cmocka_unit_test_setup_teardown(many_may_publish_at_once, temp_folder_make,
                                        temp_folder_remove),
        cmocka_unit_test_setup_teardown(what_is_not_finished_is_gone, temp_folder_make,
                                        temp_folder_remove),
        cmocka_unit_test_setup_teardown(a_cut_while_it_is_made_is_not_published, temp_folder_make,
                                        temp_folder_remove),
        cmocka_unit_test(other_sizes_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
