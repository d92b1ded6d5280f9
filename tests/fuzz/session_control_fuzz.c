/* SPDX-License-Identifier: MIT
 * A line of the control socket: it always gets one line of JSON back, whatever it says. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "os/fs.h"
#include "session/control.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct store *store;
static struct sessions *sessions;
static char dir[64];

static void clean(void)
{
    char command[128];
    sessions_close(sessions);
    store_close(store);
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    if (system(command) != 0)
        fprintf(stderr, "%s is left\n", dir);
}

/* A store with one session in it, "a". */
static void open_once(void)
{
    struct err e;
    if (sessions)
        return;
    snprintf(dir, sizeof dir, "/tmp/kvasir-control-fuzz-XXXXXX");
    CHECK(mkdtemp(dir));
    struct store_options options = {.max_bytes = 1u << 26, .keep_free_bytes = 1};
    enum status st = store_open(os_fs_real(), dir, &options, &store, &e);
    CHECK(st == OK);
    struct sessions_options so = {.store = store};
    st = sessions_open(&so, &sessions, &e);
    CHECK(st == OK);
    uint32_t tokens[300] = {1, 2, 3};
    struct session_turn turn = {.name = SLICE_LIT("a"),
                                .tokens = tokens,
                                .n_tokens = 300,
                                .origin = {.model = "m", .kv_type = "f16"}};
    st = sessions_keep(sessions, &turn, &e);
    CHECK(st == OK);
    atexit(clean);
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
    struct control_options o = {.dir = dir, .sessions = sessions, .store = store};
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
