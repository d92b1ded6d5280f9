/* SPDX-License-Identifier: MIT
 * heap.c — see heap.h. */
#include "os/heap.h"

#include <malloc.h>

#define KEPT_BYTES_MAX (8 << 20) /* free at the top of each thread's heap */
#define BLOCK_BYTES_MAX \
    (4 << 20) /* larger ones are mapped on their own, and go when they are freed */

void heap_prepare(void)
{
#ifdef __GLIBC__
    (void)mallopt(M_TRIM_THRESHOLD, KEPT_BYTES_MAX);
    (void)mallopt(M_MMAP_THRESHOLD, BLOCK_BYTES_MAX);
#endif
}

void heap_trim(void)
{
#ifdef __GLIBC__
    (void)malloc_trim(0);
#endif
}
