/* SPDX-License-Identifier: MIT
 * topology.c — reads /sys/devices/system: lists of processors look like "0-3,8,10-11". */
#include "os/topology.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "os/fs.h"

#define FILE_BYTES_MAX (64u << 10)
#define CAPACITY_FULL  1024u
#define CAPACITY_SLOW  512u /* cores that the system names slow without a number */

static char *read_text(const char *root, const char *name)
{
    char path[FS_PATH_BYTES_MAX], *text = NULL;
    size_t len;
    int n = snprintf(path, sizeof path, "%s/sys/devices/%s", root, name);
    if (n < 0 || n >= (int)sizeof path ||
        fs_read_file(os_fs_real(), path, FILE_BYTES_MAX, &text, &len, NULL) != OK)
        return NULL;
    return text;
}

/* Sets is_in of each number of a list; false: no such file, or no list.  Numbers too large are
 * passed over. */
static bool read_list(const char *root, const char *name, bool is_in[TOPOLOGY_CPUS_MAX])
{
    char *text = read_text(root, name);
    bool ok = text != NULL;
    memset(is_in, 0, TOPOLOGY_CPUS_MAX * sizeof *is_in);
    for (const char *at = text; ok && *at != '\0' && *at != '\n';) {
        char *end;
        unsigned long first = strtoul(at, &end, 10), last = first;
        ok = end != at && *at >= '0' && *at <= '9';
        if (ok && *end == '-') {
            at = end + 1;
            last = strtoul(at, &end, 10);
            ok = end != at && *at >= '0' && *at <= '9' && last >= first;
        }
        for (unsigned long i = first; ok && i <= last && i < TOPOLOGY_CPUS_MAX; i++)
            is_in[i] = true;
        ok = ok && (*end == ',' || *end == '\n' || *end == '\0');
        at = *end == ',' ? end + 1 : end;
    }
    mem_free(text);
    return ok;
}

static uint32_t read_number(const char *root, const char *name, uint32_t otherwise)
{
    char *text = read_text(root, name), *end;
    unsigned long v = text ? strtoul(text, &end, 10) : 0;
    bool ok = text && end != text && v > 0 && v <= UINT32_MAX;
    mem_free(text);
    return ok ? (uint32_t)v : otherwise;
}

static uint32_t sibling_of(const char *root, uint32_t id, const bool *is_usable)
{
    bool is_sibling[TOPOLOGY_CPUS_MAX];
    char name[96];
    uint32_t before = 0;
    snprintf(name, sizeof name, "system/cpu/cpu%u/topology/thread_siblings_list", id);
    if (!read_list(root, name, is_sibling) || !is_sibling[id])
        return 0;
    for (uint32_t i = 0; i < id; i++)
        before += is_sibling[i] && is_usable[i];
    return before;
}

/* Arm and newer kernels give each processor a capacity; older ones list Intel's slow cores. */
static uint32_t capacity_of(const char *root, uint32_t id, const bool *is_slow)
{
    char name[96];
    snprintf(name, sizeof name, "system/cpu/cpu%u/cpu_capacity", id);
    return read_number(root, name, is_slow[id] ? CAPACITY_SLOW : CAPACITY_FULL);
}

static void read_nodes(const char *root, struct topology *t)
{
    bool is_node[TOPOLOGY_CPUS_MAX], is_in[TOPOLOGY_CPUS_MAX];
    char name[96];
    t->n_nodes = 0;
    if (read_list(root, "system/node/online", is_node)) {
        for (uint32_t node = 0; node < TOPOLOGY_CPUS_MAX; node++) {
            uint32_t n = 0;
            snprintf(name, sizeof name, "system/node/node%u/cpulist", node);
            if (!is_node[node] || !read_list(root, name, is_in))
                continue;
            for (uint32_t i = 0; i < t->n; i++)
                if (is_in[t->cpus[i].id]) {
                    t->cpus[i].node = node;
                    n++;
                }
            t->n_nodes += n > 0;
        }
    }
    t->n_nodes = t->n_nodes > 0 ? t->n_nodes : 1;
}

void topology_read(const char *root, const bool *is_allowed, struct topology *t)
{
    bool is_usable[TOPOLOGY_CPUS_MAX], is_slow[TOPOLOGY_CPUS_MAX];
    *t = (struct topology){.n_nodes = 1};
    if (!read_list(root, "system/cpu/online", is_usable))
        return;
    for (uint32_t id = 0; id < TOPOLOGY_CPUS_MAX; id++) {
        if (!is_usable[id] || !is_allowed || is_allowed[id])
            continue;
        is_usable[id] = false;
        t->is_restricted = true;
    }
    if (!read_list(root, "cpu_atom/cpus", is_slow))
        memset(is_slow, 0, sizeof is_slow);
    uint32_t fastest = 0, slowest = UINT32_MAX;
    for (uint32_t id = 0; id < TOPOLOGY_CPUS_MAX; id++) {
        if (!is_usable[id])
            continue;
        struct topology_cpu *c = &t->cpus[t->n++];
        *c = (struct topology_cpu){.id = id,
                                   .sibling = sibling_of(root, id, is_usable),
                                   .capacity = capacity_of(root, id, is_slow)};
        fastest = c->capacity > fastest ? c->capacity : fastest;
        slowest = c->capacity < slowest ? c->capacity : slowest;
    }
    for (uint32_t i = 0; i < t->n; i++)
        t->cpus[i].capacity = (uint32_t)((uint64_t)t->cpus[i].capacity * CAPACITY_FULL / fastest);
    /* Favoured cores of one kind differ by a few percent. */
    t->is_hybrid = t->n > 0 && slowest < fastest - fastest / 4;
    read_nodes(root, t);
}

bool topology_allowed(bool is_allowed[TOPOLOGY_CPUS_MAX])
{
    cpu_set_t set;
    _Static_assert(CPU_SETSIZE == TOPOLOGY_CPUS_MAX, "one mask");
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return false; /* more processors than a mask of this size holds */
    for (uint32_t i = 0; i < TOPOLOGY_CPUS_MAX; i++)
        is_allowed[i] = CPU_ISSET(i, &set);
    return true;
}

static bool is_before(const struct topology_cpu *a, const struct topology_cpu *b)
{
    if (a->sibling != b->sibling)
        return a->sibling < b->sibling;
    return a->capacity != b->capacity ? a->capacity > b->capacity : a->id < b->id;
}

/* The first node with n cores that are as fast as any; else with n processors; UINT32_MAX: none. */
static uint32_t node_for(const struct topology *t, uint32_t n)
{
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t i = 0; i < t->n; i++) {
            uint32_t count = 0;
            for (uint32_t k = 0; k < t->n; k++)
                count += t->cpus[k].node == t->cpus[i].node &&
                         (pass == 1 || (t->cpus[k].sibling == 0 &&
                                        t->cpus[k].capacity >= CAPACITY_FULL * 3 / 4));
            if (count >= n)
                return t->cpus[i].node;
        }
    return UINT32_MAX;
}

uint32_t topology_choose(const struct topology *t, uint32_t n, uint32_t *out)
{
    bool is_taken[TOPOLOGY_CPUS_MAX] = {false};
    const uint32_t node = node_for(t, n);
    uint32_t count = 0;
    for (; count < n; count++) {
        uint32_t best = UINT32_MAX;
        for (uint32_t i = 0; i < t->n; i++)
            if (!is_taken[i] && (node == UINT32_MAX || t->cpus[i].node == node) &&
                (best == UINT32_MAX || is_before(&t->cpus[i], &t->cpus[best])))
                best = i;
        if (best == UINT32_MAX)
            break;
        is_taken[best] = true;
        out[count] = t->cpus[best].id;
    }
    return count;
}
