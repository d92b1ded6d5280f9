/* SPDX-License-Identifier: MIT
 * heap_test.c — goal: what nobody uses any more goes back to the system.  Method: a heap of small
 * blocks with one left at its end, so that it can't simply shrink; resident pages before and after.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "os/heap.h"

#define N_BLOCKS    8192
#define BLOCK_BYTES 4000
#define KEPT_MAX    (8u << 20)

static size_t resident(void)
{
    unsigned long size, pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%lu %lu", &size, &pages), 2);
    fclose(f);
    return pages * 4096;
}

static void free_blocks_go_back(void **state)
{
    static char *blocks[N_BLOCKS];
    (void)state;
    heap_prepare();
    size_t before = resident();
    for (int i = 0; i < N_BLOCKS; i++) {
        blocks[i] = malloc(BLOCK_BYTES);
        assert_non_null(blocks[i]);
        memset(blocks[i], i, BLOCK_BYTES);
    }
    assert_true(resident() > before + N_BLOCKS / 2 * BLOCK_BYTES);
    for (int i = 0; i + 1 < N_BLOCKS; i++)
        free(blocks[i]);
    heap_trim();
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(resident() < before + KEPT_MAX);
#endif
    assert_int_equal((unsigned char)blocks[N_BLOCKS - 1][BLOCK_BYTES - 1], (N_BLOCKS - 1) & 255);
    free(blocks[N_BLOCKS - 1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(free_blocks_go_back)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
