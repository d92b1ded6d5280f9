/* SPDX-License-Identifier: MIT
 * session_fuzz.h — an empty store in a folder of its own, opened once for all inputs, removed at
 * the end. */
#ifndef KVASIR_TESTS_SESSION_FUZZ_H
#define KVASIR_TESTS_SESSION_FUZZ_H

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "os/fs.h"
#include "session/session.h"

static struct fuzz_place {
    struct store *store;
    struct sessions *sessions;
    char dir[64];
} fuzz_place;

static void fuzz_clean(void)
{
    char command[128];
    sessions_close(fuzz_place.sessions);
    store_close(fuzz_place.store);
    snprintf(command, sizeof command, "rm -rf '%s'", fuzz_place.dir);
    if (system(command) != 0)
        fprintf(stderr, "%s is left\n", fuzz_place.dir);
}

/* True: it was opened now. */
static inline bool fuzz_open(void)
{
    struct err e;
    if (fuzz_place.sessions)
        return false;
    snprintf(fuzz_place.dir, sizeof fuzz_place.dir, "/tmp/kvasir-fuzz-XXXXXX");
    CHECK(mkdtemp(fuzz_place.dir));
    struct store_options options = {.max_bytes = 1u << 28, .keep_free_bytes = 1};
    enum status st = store_open(os_fs_real(), fuzz_place.dir, &options, &fuzz_place.store, &e);
    CHECK(st == OK);
    struct sessions_options so = {.store = fuzz_place.store};
    st = sessions_open(&so, &fuzz_place.sessions, &e);
    CHECK(st == OK);
    atexit(fuzz_clean);
    return true;
}

#endif
