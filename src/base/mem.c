/* SPDX-License-Identifier: MIT
 * mem.c — malloc with overflow checks; the single place that calls the allocator. */
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/check.h"

void *mem_try_new(size_t count, size_t size)
{
    return calloc(count ? count : 1, size ? size : 1);
}

void *mem_try_resize(void *p, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;
    return realloc(p, bytes ? bytes : 1);
}

void *mem_try_aligned(size_t alignment, size_t bytes)
{
    void *p = NULL;
    if (posix_memalign(&p, alignment, bytes ? bytes : 1) != 0)
        return NULL;
    memset(p, 0, bytes);
    return p;
}

void *mem_new(size_t count, size_t size)
{
    void *p = mem_try_new(count, size);
    CHECK(p != NULL);
    return p;
}

void *mem_resize(void *p, size_t count, size_t size)
{
    void *q = mem_try_resize(p, count, size);
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
    void *p = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                   0);
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
