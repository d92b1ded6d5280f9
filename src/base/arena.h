/* SPDX-License-Identifier: MIT
 * arena.h — memory that dies all at once, e.g. with its request.
 * Order:   arena_init → (arena_alloc …)* → arena_release.   A zeroed arena is safe to release.
 * Limit:   max_bytes in all; beyond it, or out of memory, every call returns NULL and stays so
 *          (failed is sticky), so that a long chain of allocations may be checked once at its end.
 * Thread:  one owner at a time. */
#ifndef KVASIR_BASE_ARENA_H
#define KVASIR_BASE_ARENA_H

#include "base/slice.h"
#include "base/status.h"

struct arena_block;
struct arena {
    struct arena_block *blocks; /* newest first */
    size_t used_bytes;          /* handed out, over all blocks */
    size_t max_bytes;
    bool failed;
};

void arena_init(struct arena *a, size_t max_bytes);
void arena_release(struct arena *a);
/* Keeps one block for reuse; all pointers handed out become invalid. */
void arena_clear(struct arena *a);

NODISCARD void *arena_alloc(struct arena *a, size_t count, size_t size); /* zeroed, 16-aligned */
NODISCARD char *arena_text(struct arena *a, const char *text, size_t len); /* copy + NUL */
NODISCARD char *arena_printf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
