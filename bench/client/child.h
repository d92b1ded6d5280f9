/* SPDX-License-Identifier: MIT
 * child.h — a program run as a user runs it: arguments and input in, output and exit code back.
 * For:    the demo, end-to-end tests, benchmarks.    Not for: servers one talks to (serve.h).
 * Output goes to memory files, so that a child that nobody reads never blocks; a child dies with
 * the thread that started it, however that ends. Order:  child_start → child_wait → child_read* →
 * child_release; a zeroed struct is safe to release. */
#ifndef KVASIR_BENCH_CLIENT_CHILD_H
#define KVASIR_BENCH_CLIENT_CHILD_H

#include <sys/types.h>

#include "base/buf.h"

#define CHILD_ARGUMENTS_MAX 64u
#define CHILD_OUTPUT_MAX    (1u << 30)

enum child_stream { CHILD_OUT, CHILD_ERR };

struct child {
    pid_t pid;      /* 0: not running */
    int streams[2]; /* by enum child_stream; -1: none */
    bool is_open;
};

struct child_options {
    struct slice input;      /* what it reads on stdin */
    const char *home;        /* an environment of its own, with HOME there; NULL: ours */
    uint64_t file_bytes_max; /* it can write no file beyond this (RLIMIT_FSIZE); 0: no limit */
    uint32_t user;           /* run as this user and group; 0: as we are */
};

/* argv ends with NULL.  E_NOT_FOUND: no such program. */
NODISCARD enum status child_start(struct child *c, const char *const *argv,
                                  const struct child_options *options, struct err *e);
/* *code: the exit status, or 128 + the signal that ended it.  E_LIMIT: still running after ms_max.
 */
NODISCARD enum status child_wait(struct child *c, uint32_t ms_max, int *code, struct err *e);
void child_signal(const struct child *c, int signal_number);
void child_kill(struct child *c); /* kill -9, and gone when this returns */
/* Appends what it wrote so far. */
void child_read(const struct child *c, enum child_stream stream, struct buf *out);
void child_release(struct child *c);

struct child_result {
    int code;
    struct buf out, err;
    double ms;
};
/* Starts it, waits at most ms_max (then kills it: E_LIMIT), collects. */
NODISCARD enum status child_run(const char *const *argv, const struct child_options *options,
                                uint32_t ms_max, struct child_result *result, struct err *e);
void child_result_release(struct child_result *r);

#endif
