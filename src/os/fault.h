/* SPDX-License-Identifier: MIT
 * fault.h — a mapped file that shrank, or a bad sector, must not end the process.
 * A read of such a page raises SIGBUS.  Inside a registered range the handler puts a page of zeros
 * in its place, counts, and the read goes on; whoever used the bytes compares os_fault_count()
 * before and after, or a checksum, and throws its result away.  Elsewhere the signal does what it
 * did before.
 * For:    maps of store segments, model files.
 * Thread: any; the handler takes no lock and allocates nothing. */
#ifndef KVASIR_OS_FAULT_H
#define KVASIR_OS_FAULT_H

#include "base/status.h"

#define OS_FAULT_RANGES_MAX 16384u

/* Installs the handler where it is not.  E_LIMIT: no slot left; the range stays unguarded. */
NODISCARD enum status os_fault_guard_add(const void *p, uint64_t bytes, struct err *e);
/* Of a map that is written to: the page in the place of one that the file system has no space for
 * takes what is written. */
NODISCARD enum status os_fault_guard_add_writable(void *p, uint64_t bytes, struct err *e);
/* Before munmap.  A range that was never added is fine. */
void os_fault_guard_remove(const void *p);
/* Faults caught since the program began. */
uint64_t os_fault_count(void);
/* Of these, those in the guarded range that holds p; 0 where none does. */
uint64_t os_fault_count_in(const void *p);

#endif
