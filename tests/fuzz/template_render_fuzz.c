/* SPDX-License-Identifier: MIT
 * template_render_fuzz.c — input: a template's source; the variables are a fixed conversation.
 * It must not crash, hang, or pass its ceilings, and rendering twice must give the same. */
#include <stdint.h>

#include "base/check.h"
#include "template/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define VARIABLES                                                                                 \
    "{\"messages\": [{\"role\": \"system\", \"content\": \"S\"}, {\"role\": \"user\", "           \
    "\"content\": "                                                                               \
    "\"  H\\u00e9llo <b>\\n\"}, {\"role\": \"assistant\", \"content\": null, \"tool_calls\": "    \
    "[{\"id\": "                                                                                  \
    "\"1\", \"function\": {\"name\": \"f\", \"arguments\": {\"a\": 1.5, \"b\": [true, "           \
    "null]}}}]}],"                                                                                \
    "\"tools\": null, \"bos_token\": \"<s>\", \"add_generation_prompt\": true, \"x\": 5, \"y\": " \
    "2.5,"                                                                                        \
    "\"big\": 12345678901234567890, \"l\": [3, 1, 2], \"d\": {\"b\": 2, \"a\": {\"k\": \"v\"}}}"

static const struct template_limits limits = {200000, 1 << 20, 16 << 20};

static enum status render(const struct template *t, const struct json *variables, struct buf *out)
{
    struct err e = {0};
    struct template_now now = {2024, 7, 26, 12, 34, 56};
    enum status st = template_render_within(t, variables, now, limits, out, &e);
    CHECK(st == OK || e.msg[0]);
    CHECK(out->len <= limits.output_bytes);
    return st;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct json *variables = NULL;
    struct template *t = NULL;
    struct err e = {0};
    struct buf first, second;
    arena_init(&arena, 1u << 20);
    buf_init(&first, 2u << 20);
    buf_init(&second, 2u << 20);
    CHECK(json_parse(SLICE_LIT(VARIABLES), &arena, &variables, &e) == OK);
    if (template_compile((struct slice){(const char *)data, size}, &t, &e) == OK) {
        CHECK(render(t, variables, &first) == render(t, variables, &second));
        CHECK(slice_equal(buf_slice(&first), buf_slice(&second)));
    } else {
        CHECK(e.msg[0]);
    }
    template_free(t);
    buf_release(&first);
    buf_release(&second);
    arena_release(&arena);
    return 0;
}
