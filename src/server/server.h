/* SPDX-License-Identifier: MIT
 * server.h — the glue between http, api and engine: routes, admission, keys, back-pressure, cancel
 * on hang-up, drain. For:     app (`kvasir serve`), and tests.   Not for: dialects (api), sockets
 * (http). Threads: http's workers parse and submit; events arrive on the engine's threads and are
 * written to http's streams; a hang-up arrives on http's watch thread and cancels in the engine.
 * Order:   server_start → server_stop, or server_run for both and the signals between. */
#ifndef KVASIR_SERVER_SERVER_H
#define KVASIR_SERVER_SERVER_H

#include "base/status.h"
#include "engine/engine.h"
#include "fleet/fleet.h"

#define SERVER_KEYS_MAX      256u
#define SERVER_KEY_BYTES_MAX 4096u
#define SERVER_KEY_FILE_MAX  (1u << 20)

struct server;

struct server_options {
    /* The models; g is their first one's engine.  The caller's, must outlive the server.  NULL: g
     * is all there is. */
    struct fleet *fleet;
    const char *host;            /* NULL: 127.0.0.1 */
    uint16_t port;               /* 0: a free one */
    const char *const *api_keys; /* [n_api_keys]; none here and in the file: open to all */
    uint32_t n_api_keys;
    /* A line: KEY [TENANT] [admin] [requests=N] [tokens=N] [concurrent=N], by the minute but for
     * the last; # begins a comment; NULL: none.  Read again at SIGHUP. */
    const char *api_key_file;
    const char *alias; /* without a fleet: the model's name for clients; NULL: the engine's */
    /* Where /api/pull finds OWNER/REPO, without a '/' at its end; NULL: nothing is fetched.  And
     * the header that it wants of us, or NULL. */
    const char *hub_url, *hub_authorization;
    const char
        *allow_origin; /* web pages of other sites that may call: "*" or one origin; NULL: only
                          this server's own page, pages on localhost, and desktop programs */
    bool keeps_nonces; /* prompts stay as clients send them: no api/hygiene.c */
    uint64_t max_body_bytes;  /* 0: http's default */
    uint32_t max_connections; /* 0: http's default */
    int listen_fd;            /* > 0: a socket that listens already; taken */
    uint32_t drain_ms;        /* how long running requests may go on after SIGTERM */
    /* At SIGHUP, beside reading the keys again, e.g. for the log's level.  May be NULL. */
    void (*reload)(void *arg);
    void *reload_arg;
};
struct server_options server_defaults(void);

/* Copies what it keeps of options; the engine stays the caller's and must outlive the server. */
NODISCARD enum status server_start(const struct server_options *options, struct engine *g,
                                   struct server **out, struct err *e);
/* "http://127.0.0.1:8080" */
const char *server_url(const struct server *s);
/* Reads the keys again; on failure the old ones stay. */
NODISCARD enum status server_reload(struct server *s, const struct server_options *options,
                                    struct err *e);
/* Refuses new requests with 503, lets running ones go on for drain_ms, then cancels them. */
void server_stop(struct server *s, uint32_t drain_ms);

/* Starts, prints "kvasir: listening on URL" to stdout, waits for SIGTERM or SIGINT (SIGHUP:
 * reloads), drains (a second signal hurries it) and stops.  Call it from the main thread; blocks
 * these signals. */
NODISCARD enum status server_run(const struct server_options *options, struct engine *g,
                                 struct err *e);

#endif
