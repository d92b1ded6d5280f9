/* SPDX-License-Identifier: MIT
 * A line of the control socket: it always gets one line of JSON back, whatever it says. */
#include <stdint.h>
#include <string.h>

#include "session/control.h"
#include "session_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A store with one session in it, "a". */
static void open_once(void)
{
    struct err e;
    if (!fuzz_open())
        return;
    uint32_t tokens[300] = {1, 2, 3};
    struct session_turn turn = {.name = SLICE_LIT("a"),
                                .tokens = tokens,
                                .n_tokens = 300,
                                .origin = {.model = "m", .kv_type = "f16"}};
    enum status st = sessions_keep(fuzz_place.sessions, &turn, &e);
    CHECK(st == OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf out;
    struct arena a;
    struct json *v;
    struct err e;
    open_once();
    buf_init(&out, CONTROL_ANSWER_MAX);
    arena_init(&a, 256u << 20);
    struct control_options o = {
        .dir = fuzz_place.dir, .sessions = fuzz_place.sessions, .store = fuzz_place.store};
    struct control_peer peer = {.fd = -1, .give_fd = -1};
    control_answer(&o, (struct slice){(const char *)data, size}, &peer, &out);
    CHECK(out.len > 0 && !out.failed && out.ptr[out.len - 1] == '\n');
    enum status st = json_parse((struct slice){out.ptr, out.len - 1}, &a, &v, &e);
    CHECK(st == OK && json_get(v, "ok"));
    CHECK(!memchr(out.ptr, '\n', out.len - 1));
    arena_release(&a);
    buf_release(&out);
    return 0;
}
