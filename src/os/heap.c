/* SPDX-License-Identifier: MIT
 * heap.c — see heap.h. */
#include "os/heap.h"

#include <malloc.h>

void heap_trim(void)
{
#ifdef __GLIBC__
    (void)malloc_trim(0);
#endif
}
