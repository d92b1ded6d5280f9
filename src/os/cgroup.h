/* SPDX-License-Identifier: MIT
 * cgroup.h — what the control groups of this process leave it: processors and memory.
 * For:     cpu.c.   Both versions, and the mixed layout that systemd calls hybrid.
 * root:    "" is the running system; tests hand in a folder with proc/ and sys/ of their own. */
#ifndef KVASIR_OS_CGROUP_H
#define KVASIR_OS_CGROUP_H

#include "base/status.h"

/* Processors by quota, the least along the path to the top; 0: no quota.  A fraction is rounded
 * down (at least 1): a thread beyond the quota makes the kernel stop all of them in each period. */
uint32_t cgroup_cpu_count(const char *root);
/* Bytes that may still be allocated, the least along the path to the top; page cache counts as
 * free.  UINT64_MAX: no limit. */
uint64_t cgroup_memory_available(const char *root);

#endif
