/* SPDX-License-Identifier: MIT
 * topology.h — the processors that this process may use, and which of them a team had best take.
 * For:     the worker team.   Not for: counting (cpu.h), memory of nodes.
 * root:    "" is the running system; tests hand in a folder with sys/ of their own. */
#ifndef KVASIR_OS_TOPOLOGY_H
#define KVASIR_OS_TOPOLOGY_H

#include "base/status.h"

#define TOPOLOGY_CPUS_MAX 1024u /* processors beyond are never chosen */

struct topology_cpu {
    uint32_t id;
    uint32_t node;
    uint32_t sibling;  /* how many processors of the same core come before it */
    uint32_t capacity; /* 1024: as fast as the fastest kind */
};
struct topology {
    uint32_t n, n_nodes;
    bool is_hybrid;                              /* kinds of different speed */
    bool is_restricted;                          /* fewer than are online: somebody chose already */
    struct topology_cpu cpus[TOPOLOGY_CPUS_MAX]; /* ascending ids */
};

/* Those that are online and, unless is_allowed [TOPOLOGY_CPUS_MAX] is NULL, allowed.  What cannot
 * be read counts as one node of like cores; n is 0 where not even the list of processors can be. */
void topology_read(const char *root, const bool *is_allowed, struct topology *out);
/* Which of them this thread may use now; false: cannot be told. */
bool topology_allowed(bool is_allowed[TOPOLOGY_CPUS_MAX]);
/* The ids of n to run on, the best first, into out [n]: of one node if that has n (cores of their
 * own before that), cores before second threads of cores, fast before slow.  Returns how many: n,
 * or all. */
uint32_t topology_choose(const struct topology *t, uint32_t n, uint32_t *out);

#endif
