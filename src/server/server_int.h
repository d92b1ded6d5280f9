/* SPDX-License-Identifier: MIT
 * server_int.h — inner door: the server, a visit, and one running generation. */
#ifndef KVASIR_SERVER_SERVER_INT_H
#define KVASIR_SERVER_SERVER_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "api/api.h"
#include "http/http.h"
#include "os/team.h"
#include "server/keys.h"
#include "server/metrics.h"
#include "server/server.h"

#define REQUEST_ID_BYTES HTTP_ID_BYTES

struct generation;
struct parked;

#define PULLS_MAX     4u  /* models fetched at once */
#define DOWNLOADS_MAX 64u /* jobs that are remembered; the oldest that has ended goes first */
struct pull_slot {
    struct os_thread *thread; /* NULL: none since the last one was joined */
    atomic_bool is_over;
};

struct server {
    struct http_server *http;
    struct fleet *fleet;
    bool owns_fleet;
    struct engine *engine; /* of the model that stays: what is asked of none in particular */
    const struct engine_info *info;
    char *allow_origin;
    bool keeps_nonces;
    char url[96];
    char bind_host[256];
    struct keys keys;
    struct metrics metrics;

    pthread_mutex_t mutex; /* guards all below; held over no call into engine or http */
    pthread_cond_t ended;
    struct generation *first;          /* running ones, a list */
    uint32_t n_running;                /* until their answer was handed to http */
    char *hub_url, *hub_authorization; /* for pull.c; NULL: none */
    pthread_mutex_t pull_mutex;        /* guards what follows, to n_downloads */
    struct pull_slot pulls[PULLS_MAX];
    struct api_download downloads[DOWNLOADS_MAX]; /* guarded by it too */
    uint32_t n_downloads;
    atomic_bool ends_pulls;
    atomic_bool is_draining;
    atomic_bool is_handing_over; /* still answers those that are connected */
    atomic_uint n_seen;          /* requests, to tell when they have ceased */
};

/* A request on its way to who serves it. */
struct visit {
    struct server *server;
    struct http_exchange *x;
    const struct api_endpoint *endpoint;
    struct slice id;           /* what stands for {id} in the path */
    struct server_key *key;    /* held for the visit; NULL: the server asks for none */
    struct fleet_model *model; /* that serves it, held for the visit; NULL: it needs none */
    struct engine *engine;     /* its, else the server's */
    double load_ms;            /* that the visit waited for it */
    struct parked *parked;     /* it had to wait; NULL: it had not */
    uint32_t tenant;           /* whose pages and sessions */
    bool is_admin; /* may see what is of all tenants together, and change what they share */
    char request_id[REQUEST_ID_BYTES];
    uint64_t start_ns;
};

/* admit.c: may this request come in?  False: *x says why not. */
bool admit_host(const struct server *s, const struct http_exchange *x, struct api_error *error);
/* Also tells which Access-Control-Allow-Origin to send; "" for none. */
bool admit_origin(const struct server *s, const struct http_exchange *x, char allow[256],
                  struct api_error *error);
/* Sets key, tenant and is_admin. */
bool admit_key(struct visit *v, struct api_error *error);
/* The same with a key that came by another way than the headers; {NULL, 0}: none did. */
bool admit_this_key(struct visit *v, struct slice key, struct api_error *error);

/* route.c */
void route_handle(void *server, struct http_exchange *x);
void route_refuse(void *server, struct slice path, int status, const char *message,
                  struct buf *out); /* http_options.refuse */
void route_error(struct http_exchange *x, const struct api_dialect *dialect,
                 const struct api_error *error);

/* responses.c: stored ones */
void responses_show(const struct visit *v);
void responses_remove(const struct visit *v);

/* Where a generation's bytes go: to an exchange of http's, or to a channel of a socket. */
struct sink_functions {
    /* gone: the client left.  done: neither is called any more; may come at once. */
    void (*attach)(void *to, void *user, void (*gone)(void *user), void (*done)(void *user));
    void (*head)(void *to, const struct api_call *call); /* before begin or reply */
    void (*begin)(void *to, const char *type);           /* a stream: write*, end */
    enum status (*write)(void *to, struct slice bytes);
    void (*drop_body)(void *to); /* the request's bytes are not needed any more; or NULL */
    /* Each of these takes `to`. */
    void (*end)(void *to);
    void (*reply)(void *to, struct buf *body); /* takes the bytes */
    void (*fail)(void *to, const struct api_dialect *dialect, const struct api_error *error);
    /* It was cancelled: true: the client wanted that and was answered.  NULL: never. */
    bool (*stop)(void *to, struct api_call *call);
};
struct sink {
    const struct sink_functions *does;
    void *to;
};

/* generate.c */
struct api_context server_context(const struct visit *v);
void generate_into(const struct visit *v, const struct api_dialect *dialect, struct slice body,
                   struct slice session, const struct sink *sink);
void generate(const struct visit *v);
void count_tokens(const struct visit *v);
void generate_cancel_all(struct server *s);
void generation_cancel(struct generation *g);
void generation_unref(struct generation *g);

/* models.c: the model that a visit needs */
/* Serves it once its model is there: now, or from another thread later.  Takes v->key. */
void models_serve(const struct visit *v, void (*serve)(const struct visit *v));
/* What the exchange of a visit that had to wait is tied to already. */
void parked_bind(struct parked *p, struct generation *g);
/* One more, or one less, of those that a stop waits for. */
void server_count_begin(struct server *s);
void server_count_end(struct server *s);

/* explain.c */
void explain(const struct visit *v);

/* sessions.c */
void sessions_list(const struct visit *v);
void sessions_show(const struct visit *v);
void sessions_remove(const struct visit *v);
void sessions_post(const struct visit *v);

/* lmstudio.c: LM Studio's SDK over a socket */
void lmstudio_open(const struct visit *v);

/* pull.c: models from the hub */
void pull_serve(const struct visit *v);
void pulls_end(struct server *s); /* waits for their threads */

/* slots.c: llama-server's, as names of sessions */
void slots_post(const struct visit *v);

/* query.c */
/* The value of a key in the query, decoded, in the arena; {NULL, 0}: absent. */
struct slice query_value(struct arena *a, struct slice query, const char *key);

/* page.c */
struct slice page_html(void);

#endif
