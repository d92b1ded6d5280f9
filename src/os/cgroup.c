/* SPDX-License-Identifier: MIT
 * cgroup.c — reads /proc/self/cgroup and walks from this process's group up to the top.
 * A container often sees its host's path there while /sys/fs/cgroup shows only its own group: the
 * folders of the path that do not exist are passed over, the walk ends at the mount's root. */
#include "os/cgroup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "os/fs.h"

#define CONTROL_FILE_BYTES_MAX (64u << 10)

static char *read_text(const char *path)
{
    char *text = NULL;
    size_t len;
    if (fs_read_file(os_fs_real(), path, CONTROL_FILE_BYTES_MAX, &text, &len, NULL) != OK)
        return NULL;
    return text;
}

/* The group path of a controller: of the line "N:a,b:/path" that lists it, or "0::/path" for
 * version 2 (controller ""). */
static bool group_path(const char *root, const char *controller, char *out, size_t out_size)
{
    char name[FS_PATH_BYTES_MAX];
    snprintf(name, sizeof name, "%s/proc/self/cgroup", root);
    char *text = read_text(name);
    bool found = false;
    char *rest = text;
    for (char *line; !found && rest && (line = strsep(&rest, "\n")) != NULL;) {
        char *list = strchr(line, ':');
        char *path = list ? strchr(list + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = '\0';
        list++;
        if (*controller == '\0') {
            found = *list == '\0';
        } else {
            for (char *item; !found && (item = strsep(&list, ",")) != NULL;)
                found = strcmp(item, controller) == 0;
        }
        if (found)
            found = snprintf(out, out_size, "%s", path) < (int)out_size;
    }
    mem_free(text);
    return found;
}

/* Calls each for the group's folder, its parent, …, the mount's root. */
static void walk_up(const char *root, const char *mount, const char *controller,
                    void (*each)(const char *dir, void *arg), void *arg)
{
    char path[1024];
    char dir[FS_PATH_BYTES_MAX];
    if (!group_path(root, controller, path, sizeof path))
        return;
    for (;;) {
        size_t len = strlen(path);
        while (len > 0 && path[len - 1] == '/')
            path[--len] = '\0';
        snprintf(dir, sizeof dir, "%s/sys/fs/cgroup%s%s", root, mount, path);
        each(dir, arg);
        char *slash = strrchr(path, '/');
        if (!slash)
            return;
        *slash = '\0';
    }
}

/* A number in the file dir/name; false where it is missing or not a number ("max"). */
static bool read_number(const char *dir, const char *name, int64_t *out)
{
    char path[FS_PATH_BYTES_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    char *text = read_text(path);
    if (!text)
        return false;
    char *end;
    *out = strtoll(text, &end, 10);
    bool is_number = end != text;
    mem_free(text);
    return is_number;
}

/* The value of the line "key value" in dir/memory.stat, or 0. */
static uint64_t read_stat(const char *dir, const char *key)
{
    char path[FS_PATH_BYTES_MAX + 64];
    snprintf(path, sizeof path, "%s/memory.stat", dir);
    char *text = read_text(path);
    uint64_t value = 0;
    size_t key_len = strlen(key);
    char *rest = text;
    for (char *line; rest && (line = strsep(&rest, "\n")) != NULL;)
        if (strncmp(line, key, key_len) == 0 && line[key_len] == ' ')
            value = strtoull(line + key_len + 1, NULL, 10);
    mem_free(text);
    return value;
}

static void keep_cpu(int64_t quota, int64_t period, uint32_t *least)
{
    if (quota <= 0 || period <= 0)
        return;
    int64_t count = quota / period < 1 ? 1 : quota / period;
    if (count < UINT32_MAX && (*least == 0 || (uint32_t)count < *least))
        *least = (uint32_t)count;
}

static void cpu_v2(const char *dir, void *arg)
{
    char path[FS_PATH_BYTES_MAX + 64];
    snprintf(path, sizeof path, "%s/cpu.max", dir);
    char *text = read_text(path);
    long long quota, period;
    if (text && sscanf(text, "%lld %lld", &quota, &period) == 2) /* "max 100000" is no number */
        keep_cpu(quota, period, arg);
    mem_free(text);
}

static void cpu_v1(const char *dir, void *arg)
{
    int64_t quota, period;
    if (read_number(dir, "cpu.cfs_quota_us", &quota) &&
        read_number(dir, "cpu.cfs_period_us", &period))
        keep_cpu(quota, period, arg);
}

uint32_t cgroup_cpu_count(const char *root)
{
    uint32_t least = 0;
    walk_up(root, "", "", cpu_v2, &least);
    walk_up(root, "/unified", "", cpu_v2, &least);
    walk_up(root, "/cpu", "cpu", cpu_v1, &least);
    return least;
}

static void keep_memory(int64_t limit, int64_t used, uint64_t cache, uint64_t *least)
{
    if (limit < 0 || used < 0)
        return;
    uint64_t taken = (uint64_t)used > cache ? (uint64_t)used - cache : 0;
    uint64_t left = (uint64_t)limit > taken ? (uint64_t)limit - taken : 0;
    if (left < *least)
        *least = left;
}

static void memory_v2(const char *dir, void *arg)
{
    int64_t limit, used;
    if (read_number(dir, "memory.max", &limit) && read_number(dir, "memory.current", &used))
        keep_memory(limit, used, read_stat(dir, "inactive_file") + read_stat(dir, "active_file"),
                    arg);
}

/* Version 1 writes "no limit" as 2⁶³ less a page: such a number never is the least. */
static void memory_v1(const char *dir, void *arg)
{
    int64_t limit, used;
    if (read_number(dir, "memory.limit_in_bytes", &limit) &&
        read_number(dir, "memory.usage_in_bytes", &used) && limit < INT64_MAX / 2)
        keep_memory(limit, used,
                    read_stat(dir, "total_inactive_file") + read_stat(dir, "total_active_file"),
                    arg);
}

uint64_t cgroup_memory_available(const char *root)
{
    uint64_t least = UINT64_MAX;
    walk_up(root, "", "", memory_v2, &least);
    walk_up(root, "/unified", "", memory_v2, &least);
    walk_up(root, "/memory", "memory", memory_v1, &least);
    return least;
}
