/* SPDX-License-Identifier: MIT
 * arena.c — a chain of blocks, each twice the last up to BLOCK_BYTES_MAX. */
#include "base/arena.h"

#include <stdio.h>

#include "base/mem.h"

#define BLOCK_BYTES_MIN 4096u
#define BLOCK_BYTES_MAX (1u << 20)

struct arena_block {
    struct arena_block *next;
    size_t size; /* of data */
    size_t used;
    _Alignas(16) unsigned char data[];
};

void arena_init(struct arena *a, size_t max_bytes)
{
    *a = (struct arena){.max_bytes = max_bytes};
}

static void free_blocks(struct arena_block *b)
{
    while (b) {
        struct arena_block *next = b->next;
        mem_free(b);
        b = next;
    }
}

void arena_release(struct arena *a)
{
    free_blocks(a->blocks);
    a->blocks = NULL;
    a->used_bytes = 0;
    a->failed = false;
}

void arena_clear(struct arena *a)
{
    if (a->blocks) {
        free_blocks(a->blocks->next);
        a->blocks->next = NULL;
        a->blocks->used = 0;
    }
    a->used_bytes = 0;
    a->failed = false;
}

static struct arena_block *new_block(struct arena *a, size_t need)
{
    size_t size = a->blocks ? a->blocks->size * 2 : BLOCK_BYTES_MIN;
    if (size > BLOCK_BYTES_MAX)
        size = BLOCK_BYTES_MAX;
    if (size < need)
        size = need;
    struct arena_block *b = mem_try_new(1, sizeof *b + size);
    if (!b)
        return NULL;
    b->size = size;
    b->next = a->blocks;
    a->blocks = b;
    return b;
}

void *arena_alloc(struct arena *a, size_t count, size_t size)
{
    size_t bytes;
    if (a->failed || __builtin_mul_overflow(count, size, &bytes) || bytes > a->max_bytes)
        goto fail;
    if (bytes > PTRDIFF_MAX - 4096) /* no allocator gives that; the sums below cannot overflow */
        goto fail;
    bytes = (bytes + 15) & ~(size_t)15;
    if (bytes > a->max_bytes - a->used_bytes)
        goto fail;
    struct arena_block *b = a->blocks;
    if (!b || b->size - b->used < bytes) {
        b = new_block(a, bytes);
        if (!b)
            goto fail;
    }
    void *p = b->data + b->used;
    b->used += bytes;
    a->used_bytes += bytes;
    memset(p, 0, bytes); /* a cleared arena reuses its block */
    return p;
fail:
    a->failed = true;
    return NULL;
}

char *arena_text(struct arena *a, const char *text, size_t len)
{
    char *copy = len < SIZE_MAX ? arena_alloc(a, len + 1, 1) : NULL;
    if (copy && len)
        memcpy(copy, text, len);
    return copy;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *text = n >= 0 ? arena_alloc(a, (size_t)n + 1, 1) : NULL;
    if (text)
        vsnprintf(text, (size_t)n + 1, fmt, again);
    va_end(again);
    return text;
}
