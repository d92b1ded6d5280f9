/* SPDX-License-Identifier: MIT
 * serve.h — a running `kvasir serve`: started, asked for its state, ended gently or by kill -9.
 * For:    the demo, end-to-end tests, benchmarks; it sees what a client sees, and /proc.
 * Order:  serve_start → (chat.h, serve_get, …)* → serve_stop | serve_kill; zeroed is safe to kill.
 */
#ifndef KVASIR_BENCH_CLIENT_SERVE_H
#define KVASIR_BENCH_CLIENT_SERVE_H

#include "base/arena.h"
#include "bench/client/child.h"
#include "http/http_client.h"
#include "text/json.h"

#define SERVE_STATE_BYTES_MAX (4u << 20)

struct serve_options {
    const char *program;
    const char *model;            /* NULL: the embedded one */
    const char *store;            /* NULL: none */
    const char *const *arguments; /* more of them, ends with NULL; may be NULL */
    struct child_options child;
};

struct serve {
    struct child child;
    struct http_client *http; /* of the thread that started it */
    char url[128];            /* "http://127.0.0.1:PORT" */
    double start_ms;          /* from exec to the listening line */
};

/* Starts it with --port 0 and waits for the line "kvasir: listening on …".  E_IO: it ended before;
 * the last line of its stderr is the message. */
NODISCARD enum status serve_start(struct serve *s, const struct serve_options *o, struct err *e);
/* SIGTERM; *code as child_wait gives it. */
NODISCARD enum status serve_stop(struct serve *s, int *code, struct err *e);
void serve_kill(struct serve *s); /* kill -9 */
bool serve_is_running(struct serve *s);

/* GET path, parsed into the arena; any HTTP status but 200 is E_IO. */
NODISCARD enum status serve_get(struct serve *s, const char *path, struct arena *a,
                                const struct json **out, struct err *e);
/* A number of /v1/cache/stats by its path, "store.since_open.queued".  E_NOT_FOUND: no such. */
NODISCARD enum status serve_stat(struct serve *s, const char *path, int64_t *value, struct err *e);
/* Waits until no request runs and all that was computed is on disk. */
NODISCARD enum status serve_wait_durable(struct serve *s, uint32_t ms_max, struct err *e);
/* A "VmHWM:"-like row of /proc/PID/status, in bytes. */
NODISCARD enum status serve_memory(const struct serve *s, const char *row, uint64_t *bytes,
                                   struct err *e);

#endif
