/* SPDX-License-Identifier: MIT
 * bench_results_fuzz.c — results.json as anybody may hand it in: what is read must be written and
 * read again as the same bytes, and make a table and a page. */
#include <stdint.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/mem.h"
#include "bench/compare/compare_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void show(const struct results *r)
{
    char *text = NULL;
    size_t n = 0;
    struct buf page;
    FILE *f = open_memstream(&text, &n);
    CHECK(f);
    table_print(f, r);
    fclose(f);
    free(text);
    buf_init(&page, 64u << 20);
    report_write(r, &page);
    CHECK(!page.failed && !memmem(page.ptr, page.len, "<script", 7));
    buf_release(&page);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct results *r = mem_new(1, sizeof *r), *again = mem_new(1, sizeof *again);
    struct err e = {0};
    struct buf first, second;
    buf_init(&first, 64u << 20);
    buf_init(&second, 64u << 20);
    if (results_read((struct slice){(const char *)data, size}, r, &e) == OK) {
        results_write(r, &first);
        CHECK(results_read(buf_slice(&first), again, &e) == OK);
        results_write(again, &second);
        CHECK(!first.failed && slice_equal(buf_slice(&first), buf_slice(&second)));
        show(again);
        results_release(again);
    } else {
        CHECK(e.msg[0]);
    }
    results_release(r);
    buf_release(&first);
    buf_release(&second);
    mem_free(r);
    mem_free(again);
    return 0;
}
