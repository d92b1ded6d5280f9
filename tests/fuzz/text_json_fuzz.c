/* SPDX-License-Identifier: MIT
 * text_json_fuzz.c — any bytes: json_parse must not crash, and what it takes must survive
 * write → parse → write with the same text; what json_read_flat takes is the same value. */
#include <stdint.h>

#include "base/check.h"
#include "text/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_flat(struct slice text, const struct json *v)
{
    struct json_member members[16];
    struct json flat;
    struct buf first, second;
    if (!json_read_flat(text, members, ARRAY_COUNT(members), &flat))
        return;
    buf_init(&first, 1u << 20);
    buf_init(&second, 1u << 20);
    CHECK(v); /* it is good JSON, then */
    json_write(&first, v, (struct json_style){.is_compact = true});
    json_write(&second, &flat, (struct json_style){.is_compact = true});
    CHECK(first.failed == second.failed && slice_equal(buf_slice(&first), buf_slice(&second)));
    buf_release(&first);
    buf_release(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct json *v = NULL, *again = NULL;
    struct err e = {0};
    struct buf first, second;
    struct json_style style = {
        .is_compact = size % 2, .indent = (int)(size % 3), .sort_keys = size % 5 == 0};
    arena_init(&arena, 64u << 20);
    buf_init(&first, 64u << 20);
    buf_init(&second, 64u << 20);
    if (json_parse((struct slice){(const char *)data, size}, &arena, &v, &e) == OK) {
        json_write(&first, v, style);
        CHECK(!first.failed);
        CHECK(json_parse(buf_slice(&first), &arena, &again, &e) == OK);
        json_write(&second, again, style);
        CHECK(slice_equal(buf_slice(&first), buf_slice(&second)));
    } else {
        CHECK(e.pos <= size);
    }
    check_flat((struct slice){(const char *)data, size}, v);
    buf_release(&first);
    buf_release(&second);
    arena_release(&arena);
    return 0;
}
