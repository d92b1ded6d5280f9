/* SPDX-License-Identifier: MIT
 * topology_test.c — goal: a team gets cores of its own, of one node, the fast ones first, and never
 * a processor that is off or not allowed; nonsense in the files is one node of like cores. Method:
 * folders that look like /sys, written here; then the real one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/cpu.h"
#include "os/fs.h"
#include "os/team.h"
#include "os/topology.h"
#include "temp_folder.h"

static struct topology t;
static uint32_t chosen[TOPOLOGY_CPUS_MAX];

static void put(const char *path, const char *text)
{
    const struct os_fs *fs = os_fs_real();
    struct err e = {0};
    char full[1024], parent[1024];
    snprintf(full, sizeof full, "%s/sys/devices/%s", temp_folder, path);
    snprintf(parent, sizeof parent, "%s", full);
    *strrchr(parent, '/') = '\0';
    assert_int_equal(fs_make_dirs(fs, parent, &e), OK);
    assert_int_equal(fs_write_file(fs, full, text, strlen(text), &e), OK);
}

static void put_of(uint32_t cpu, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "system/cpu/cpu%u/%s", cpu, name);
    put(path, text);
}

static void expect(uint32_t n, const char *ids)
{
    char got[1024] = "";
    uint32_t count = topology_choose(&t, n, chosen);
    for (uint32_t i = 0; i < count; i++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s%u", i ? " " : "", chosen[i]);
    assert_string_equal(got, ids);
}

static void no_files_no_choice(void **state)
{
    (void)state;
    topology_read(temp_folder, NULL, &t);
    assert_int_equal(t.n, 0);
    expect(2, "");
}

/* Four cores of two threads each, as Intel numbers them. */
static void cores_before_their_second_threads(void **state)
{
    (void)state;
    put("system/cpu/online", "0-7\n");
    for (uint32_t i = 0; i < 8; i++) {
        char text[16];
        snprintf(text, sizeof text, "%u,%u\n", i % 4, i % 4 + 4);
        put_of(i, "topology/thread_siblings_list", text);
    }
    topology_read(temp_folder, NULL, &t);
    assert_int_equal(t.n, 8);
    assert_int_equal(t.n_nodes, 1);
    assert_false(t.is_hybrid);
    assert_false(t.is_restricted);
    expect(3, "0 1 2");
    expect(6, "0 1 2 3 4 5");
    expect(20, "0 1 2 3 4 5 6 7");
    put("system/cpu/online", "1-7\n"); /* 0 is off: 4 is its core's first now */
    topology_read(temp_folder, NULL, &t);
    assert_int_equal(t.n, 7);
    assert_false(t.is_restricted);
    expect(4, "1 2 3 4");
    put("system/cpu/online", "0-7\n");
    for (uint32_t i = 0; i < 8; i++) { /* as AMD numbers them */
        char text[16];
        snprintf(text, sizeof text, "%u-%u\n", i / 2 * 2, i / 2 * 2 + 1);
        put_of(i, "topology/thread_siblings_list", text);
    }
    topology_read(temp_folder, NULL, &t);
    expect(4, "0 2 4 6");
    expect(5, "0 2 4 6 1");
}

static void only_what_is_allowed(void **state)
{
    (void)state;
    bool is_allowed[TOPOLOGY_CPUS_MAX] = {[1] = true, [3] = true, [4] = true, [900] = true};
    topology_read(temp_folder, is_allowed, &t);
    assert_int_equal(t.n, 3);
    assert_true(t.is_restricted);
    expect(8, "1 3 4");
}

/* Two fast cores of two threads, four slow ones. */
static void fast_cores_before_slow_ones(void **state)
{
    (void)state;
    put("cpu_core/cpus", "0-3\n");
    put("cpu_atom/cpus", "4-7\n");
    for (uint32_t i = 4; i < 8; i++) {
        char text[16];
        snprintf(text, sizeof text, "%u\n", i);
        put_of(i, "topology/thread_siblings_list", text);
    }
    topology_read(temp_folder, NULL, &t);
    assert_true(t.is_hybrid);
    expect(2, "0 2");
    expect(4, "0 2 4 5");
    expect(8, "0 2 4 5 6 7 1 3");
    for (uint32_t i = 0; i < 8; i++) /* the kernel's own numbers count for more */
        put_of(i, "cpu_capacity", i < 4 ? "400\n" : "1000\n");
    topology_read(temp_folder, NULL, &t);
    assert_true(t.is_hybrid);
    expect(5, "4 5 6 7 0");
    for (uint32_t i = 0; i < 8; i++) /* favoured cores are no other kind */
        put_of(i, "cpu_capacity", i < 4 ? "1024\n" : "1000\n");
    topology_read(temp_folder, NULL, &t);
    assert_false(t.is_hybrid);
}

static void one_node_if_it_has_enough(void **state)
{
    (void)state;
    put("cpu_atom/cpus", "\n");
    for (uint32_t i = 0; i < 8; i++) {
        char text[16];
        put_of(i, "cpu_capacity", "1024\n");
        snprintf(text, sizeof text, "%u-%u\n", i / 2 * 2, i / 2 * 2 + 1);
        put_of(i, "topology/thread_siblings_list", text);
    }
    put("system/node/online", "0-2\n");
    put("system/node/node0/cpulist", "0-1\n");
    put("system/node/node1/cpulist", "2-7\n");
    put("system/node/node2/cpulist", "\n"); /* memory only */
    topology_read(temp_folder, NULL, &t);
    assert_int_equal(t.n_nodes, 2);
    expect(1, "0");
    expect(2, "2 4"); /* node 0 has one core: two threads of it are not two cores */
    expect(3, "2 4 6");
    expect(5, "2 4 6 3 5");
    expect(7, "0 2 4 6 1 3 5"); /* more than a node has: all */
    bool is_allowed[TOPOLOGY_CPUS_MAX] = {[0] = true, [1] = true, [2] = true};
    topology_read(temp_folder, is_allowed, &t);
    expect(2, "0 1"); /* no node has two cores */
}

static void nonsense_is_like_cores(void **state)
{
    (void)state;
    static const char *const lists[] = {"x",    "3-1\n", "1,,2\n", "-4\n",
                                        "0-\n", "0 1\n", "0;1",    "1-x"};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        put("system/cpu/online", lists[i]);
        topology_read(temp_folder, NULL, &t);
        assert_int_equal(t.n, 0);
    }
    put("system/cpu/online", "0-1,5000-4000000000\n"); /* those beyond the ceiling do not exist */
    topology_read(temp_folder, NULL, &t);
    assert_int_equal(t.n, 2);
    put("system/cpu/online", "0-3\n");
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        put("system/node/online", lists[i]);
        put("cpu_atom/cpus", lists[i]);
        for (uint32_t cpu = 0; cpu < 4; cpu++) {
            put_of(cpu, "topology/thread_siblings_list", lists[i]);
            put_of(cpu, "cpu_capacity", i % 2 ? "0\n" : "fast\n");
        }
        topology_read(temp_folder, NULL, &t);
        assert_int_equal(t.n, 4);
        assert_int_equal(t.n_nodes, 1);
        assert_false(t.is_hybrid);
        expect(4, "0 1 2 3");
    }
}

static void count_one(void *arg, uint32_t worker, uint32_t n_workers)
{
    (void)n_workers;
    ((uint32_t *)arg)[worker]++;
}

static void this_machine_and_a_pinned_team(void **state)
{
    (void)state;
    bool is_allowed[TOPOLOGY_CPUS_MAX];
    struct team *team = NULL;
    struct err e;
    uint32_t runs[2] = {0};
    assert_true(topology_allowed(is_allowed));
    topology_read("", is_allowed, &t);
    uint32_t n = topology_choose(&t, 2, chosen);
    assert_true(n >= 1);
    for (uint32_t i = 0; i < n; i++)
        assert_true(is_allowed[chosen[i]]);
    assert_int_equal(team_new(2, &team, &e), OK);
    for (int is_each = 0; is_each < 2; is_each++) {
        team_pin(team, chosen, n, is_each);
        for (int i = 0; i < 100; i++)
            team_run(team, count_one, runs);
    }
    assert_int_equal(runs[0], 200);
    assert_int_equal(runs[1], 200);
    team_free(team);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_files_no_choice),
        cmocka_unit_test(cores_before_their_second_threads),
        cmocka_unit_test(only_what_is_allowed),
        cmocka_unit_test(fast_cores_before_slow_ones),
        cmocka_unit_test(one_node_if_it_has_enough),
        cmocka_unit_test(nonsense_is_like_cores),
        cmocka_unit_test(this_machine_and_a_pinned_team),
    };
    return cmocka_run_group_tests(tests, temp_folder_make, temp_folder_remove);
}
