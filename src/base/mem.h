/* SPDX-License-Identifier: MIT
 * mem.h — heap memory with overflow-checked sizes.
 * For:     everything outside the step loop.   A request's own memory comes from its arena (arena.h).
 * mem_try_*: NULL when out of memory or when count × size overflows; the caller returns E_NOMEM.
 *            For anything whose size comes from outside (files, requests).
 * mem_*:     small and bounded by a constant of this program; failure ends the process. */
#ifndef KVASIR_BASE_MEM_H
#define KVASIR_BASE_MEM_H

#include "base/status.h"

NODISCARD void *mem_try_new(size_t count, size_t size);                 /* zeroed */
NODISCARD void *mem_try_resize(void *p, size_t count, size_t size);     /* p stays valid on NULL */
NODISCARD void *mem_try_aligned(size_t alignment, size_t bytes);        /* zeroed; mem_free()d */
NODISCARD void *mem_new(size_t count, size_t size);                     /* zeroed */
NODISCARD void *mem_resize(void *p, size_t count, size_t size);
NODISCARD char *mem_text(const char *text, size_t length);              /* copy + NUL */
/* Whole pages from the system, zero, with huge pages asked for: memory of many megabytes that
 * several threads fill and read.  NULL: out of memory.  Given back by mem_free_large(p, bytes). */
NODISCARD void *mem_try_large(size_t bytes);
void mem_free_large(void *p, size_t bytes);                             /* NULL is fine */
void mem_free(void *p);                                                 /* NULL is fine */

/* For tests: of the mem_try_* calls from now on, all threads', number n (0: the next) and the
 * times - 1 after it give NULL; times 0: none.  mem_try_count(): calls since then. */
void mem_fail_tries(uint64_t n, uint64_t times);
uint64_t mem_try_count(void);
/* The same question for allocators that are not ours (SQLite's, in tests): may this one succeed? */
bool mem_try_passes(void);

#endif
