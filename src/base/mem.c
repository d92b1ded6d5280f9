/* SPDX-License-Identifier: MIT
 * mem.c — malloc with overflow checks; the single place that calls the allocator. */
#include "base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/check.h"

/* ---- failing on purpose ---- */
static atomic_bool is_counting;
static _Atomic uint64_t n_tries;
static uint64_t fail_first, fail_times; /* set while one thread runs */

void mem_fail_tries(uint64_t n, uint64_t times)
{
    fail_first = n;
    fail_times = times;
    atomic_store(&n_tries, 0);
    atomic_store(&is_counting, true);
}

uint64_t mem_try_count(void)
{
    return atomic_load(&n_tries);
}

bool mem_try_passes(void)
{
    if (!atomic_load_explicit(&is_counting, memory_order_relaxed))
        return true;
    uint64_t i = atomic_fetch_add(&n_tries, 1);
    return i < fail_first || i - fail_first >= fail_times;
}

/* ---- memory ---- */
static void *new_bytes(size_t count, size_t size)
{
    return calloc(count ? count : 1, size ? size : 1);
}

static void *resize_bytes(void *p, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;
    return realloc(p, bytes ? bytes : 1);
}

void *mem_try_new(size_t count, size_t size)
{
    return mem_try_passes() ? new_bytes(count, size) : NULL;
}

void *mem_try_resize(void *p, size_t count, size_t size)
{
    return mem_try_passes() ? resize_bytes(p, count, size) : NULL;
}

void *mem_try_aligned(size_t alignment, size_t bytes)
{
    void *p = NULL;
    if (!mem_try_passes() || posix_memalign(&p, alignment, bytes ? bytes : 1) != 0)
        return NULL;
    memset(p, 0, bytes);
    return p;
}

void *mem_new(size_t count, size_t size)
{
    void *p = new_bytes(count, size);
    CHECK(p != NULL);
    return p;
}

void *mem_resize(void *p, size_t count, size_t size)
{
    void *q = resize_bytes(p, count, size);
    CHECK(q != NULL);
    return q;
}

char *mem_text(const char *text, size_t length)
{
    char *copy = mem_new(length + 1, 1);
    if (length)
        memcpy(copy, text, length);
    return copy;
}

void *mem_try_large(size_t bytes)
{
    if (!mem_try_passes())
        return NULL;
    void *p =
        mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    (void)madvise(p, bytes, MADV_HUGEPAGE); /* a wish: fewer TLB misses where it is granted */
    return p;
}

void mem_free_large(void *p, size_t bytes)
{
    if (p)
        CHECK(munmap(p, bytes ? bytes : 1) == 0);
}

void mem_free(void *p)
{
    free(p);
}
