/* SPDX-License-Identifier: MIT
 * gguf_open_fuzz.c — any bytes either open, and then all that they offer can be read, or give a
 * status with a message and a position. */
#include "base/check.h"
#include "base/mem.h"
#include "gguf/gguf.h"
#include "gguf_read_all.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t total;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gguf *g = NULL;
    struct err e = {0};
    /* A copy of just this size, so that a read beyond its end is seen. */
    uint8_t *copy = mem_new(size ? size : 1, 1);
    if (size)
        memcpy(copy, data, size);
    enum status st = gguf_open_memory(copy, size, "fuzzed", &g, &e);
    if (st == OK)
        total += gguf_read_all(g);
    else
        CHECK(g == NULL && e.code == st && e.msg[0] != '\0');
    gguf_close(g);
    mem_free(copy);
    return 0;
}
