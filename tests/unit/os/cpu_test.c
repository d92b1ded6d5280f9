/* SPDX-License-Identifier: MIT
 * cpu_test.c — goal: what the machine is said to offer is plausible, limits of control groups of
 * both versions are found, and clocks run forward.
 * Method: folders that look like /proc and /sys/fs/cgroup, written here; then the real ones. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/cgroup.h"
#include "os/clock.h"
#include "os/cpu.h"
#include "os/fs.h"
#include "temp_folder.h"

static void put(const char *path, const char *text)
{
    const struct os_fs *fs = os_fs_real();
    struct err e = {0};
    char full[1024], parent[1024];
    snprintf(full, sizeof full, "%s/%s", temp_folder, path);
    snprintf(parent, sizeof parent, "%s", full);
    *strrchr(parent, '/') = '\0';
    assert_int_equal(fs_make_dirs(fs, parent, &e), OK);
    assert_int_equal(fs_write_file(fs, full, text, strlen(text), &e), OK);
}

static void no_groups_no_limits(void **state)
{
    (void)state;
    assert_int_equal(cgroup_cpu_count(temp_folder), 0);
    assert_true(cgroup_memory_available(temp_folder) == UINT64_MAX);
}

static void version_2_takes_the_least_on_the_path(void **state)
{
    (void)state;
    put("proc/self/cgroup", "0::/a/b\n");
    put("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    put("sys/fs/cgroup/a/b/memory.max", "max\n");
    put("sys/fs/cgroup/a/b/memory.current", "1000\n");
    assert_int_equal(cgroup_cpu_count(temp_folder), 0);
    assert_true(cgroup_memory_available(temp_folder) == UINT64_MAX);
    put("sys/fs/cgroup/a/cpu.max", "350000 100000\n");
    put("sys/fs/cgroup/a/memory.max", "10000\n");
    put("sys/fs/cgroup/a/memory.current", "9000\n");
    put("sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 400\nactive_file 200\nfile 1\n");
    assert_int_equal(cgroup_cpu_count(temp_folder), 3);
    assert_int_equal(cgroup_memory_available(temp_folder), 10000 - (9000 - 600));
    put("sys/fs/cgroup/a/b/cpu.max", "20000 100000\n");
    put("sys/fs/cgroup/a/b/memory.max", "500\n"); /* less than what is used: nothing left */
    assert_int_equal(cgroup_cpu_count(temp_folder), 1);
    assert_int_equal(cgroup_memory_available(temp_folder), 0);
}

static void version_1_also_where_the_path_is_the_hosts(void **state)
{
    (void)state;
    put("proc/self/cgroup", "12:cpu,cpuacct:/docker/abc\n5:memory:/docker/abc\n0::/\n");
    put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n");
    put("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "5000\n");
    put("sys/fs/cgroup/memory/memory.usage_in_bytes", "4000\n");
    put("sys/fs/cgroup/memory/memory.stat", "total_inactive_file 1000\ntotal_active_file 10\n");
    assert_int_equal(cgroup_cpu_count(temp_folder), 2);
    assert_int_equal(cgroup_memory_available(temp_folder), 5000 - (4000 - 1010));
    put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    assert_int_equal(cgroup_cpu_count(temp_folder), 0);
    assert_true(cgroup_memory_available(temp_folder) == UINT64_MAX);
}

static void nonsense_is_no_limit(void **state)
{
    (void)state;
    put("proc/self/cgroup", "\n::\nx\n0:\n:::/\n0::\n");
    put("sys/fs/cgroup/cpu.max", "lots\n");
    put("sys/fs/cgroup/memory.max", "-5\n");
    put("sys/fs/cgroup/memory.current", "");
    assert_int_equal(cgroup_cpu_count(temp_folder), 0);
    assert_true(cgroup_memory_available(temp_folder) == UINT64_MAX);
}

static void the_real_machine(void **state)
{
    (void)state;
    uint32_t count = cpu_count_usable();
    assert_true(count >= 1 && count <= (uint32_t)sysconf(_SC_NPROCESSORS_CONF));
    assert_true(cpu_memory_available() > 0);
    struct cpu_rss rss = cpu_rss_now();
    assert_true(rss.anon_bytes > 0 && rss.anon_bytes < (uint64_t)1 << 40);
    const struct cpu_features *f = cpu_features();
    assert_ptr_equal(f, cpu_features());
    assert_true(f->model[0] != '\0');
#if defined(__x86_64__)
    if (f->has_avx2)
        assert_true(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi2"));
    assert_true(!f->has_avx512 || __builtin_cpu_supports("avx512f"));
    assert_true(!f->has_avx512 || f->has_avx2);
#endif
}

static void an_affinity_mask_counts(void **state)
{
    (void)state;
    cpu_set_t before, one;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    CPU_ZERO(&one);
    for (size_t i = 0; i < CPU_SETSIZE; i++) {
        if (CPU_ISSET(i, &before)) {
            CPU_SET(i, &one);
            break;
        }
    }
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    uint32_t count = cpu_count_usable();
    sched_setaffinity(0, sizeof before, &before);
    assert_int_equal(count, 1);
}

static void clocks_run_forward(void **state)
{
    (void)state;
    uint64_t start = clock_now_ns();
    clock_sleep_ms(20);
    double ms = clock_ms_since(start);
    assert_true(ms >= 20 && ms < 60000);
    int64_t s = clock_unix_s(), now_ms = clock_unix_ms();
    assert_true(s > 1700000000 && now_ms / 1000 - s >= 0 && now_ms / 1000 - s <= 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(no_groups_no_limits, temp_folder_make, temp_folder_remove),
        cmocka_unit_test_setup_teardown(version_2_takes_the_least_on_the_path, temp_folder_make,
                                        temp_folder_remove),
        cmocka_unit_test_setup_teardown(version_1_also_where_the_path_is_the_hosts,
                                        temp_folder_make, temp_folder_remove),
        cmocka_unit_test_setup_teardown(nonsense_is_no_limit, temp_folder_make, temp_folder_remove),
        cmocka_unit_test(the_real_machine),
        cmocka_unit_test(an_affinity_mask_counts),
        cmocka_unit_test(clocks_run_forward),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
