/* SPDX-License-Identifier: MIT
 * server_int.h — inner door: the server, and one running generation. */
#ifndef KVASIR_SERVER_SERVER_INT_H
#define KVASIR_SERVER_SERVER_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "api/api.h"
#include "http/http.h"
#include "server/server.h"

struct generation;

struct server {
    struct http_server *http;
    struct engine *engine;
    const struct engine_info *info;
    char *name; /* of the model, for clients */
    char *allow_origin;
    char url[96];
    char bind_host[256];
    struct server_key {
        struct digest hash; /* SHA-256, so that comparing tells nothing */
        uint32_t tenant;
        char tenant_name[SESSION_NAME_BYTES_MAX + 1];
    } keys[SERVER_KEYS_MAX];
    uint32_t n_keys;

    pthread_mutex_t mutex; /* guards all below; held over no call into engine or http */
    pthread_cond_t ended;
    struct generation *first; /* running ones, a list */
    uint32_t n_running;       /* until their answer was handed to http */
    atomic_bool is_draining;
    atomic_bool is_handing_over; /* still answers those that are connected */
    atomic_uint n_seen;          /* requests, to tell when they have ceased */
};

/* admit.c: may this request come in?  False: *x says why not. */
bool admit_host(const struct server *s, const struct http_exchange *x, struct api_error *error);
/* Also tells which Access-Control-Allow-Origin to send; "" for none. */
bool admit_origin(const struct server *s, const struct http_exchange *x, char allow[256],
                  struct api_error *error);
bool admit_key(const struct server *s, const struct http_exchange *x, struct api_error *error);
/* Whose pages and sessions: the key's tenant.  Of a request that came in. */
uint32_t admit_tenant(const struct server *s, const struct http_exchange *x);
NODISCARD enum status admit_load_keys(struct server *s, const struct server_options *options,
                                      struct err *e);

/* route.c */
void route_handle(void *server, struct http_exchange *x);
void route_error(struct http_exchange *x, const struct api_dialect *dialect,
                 const struct api_error *error);

/* responses.c: stored ones */
void responses_show(struct server *s, struct http_exchange *x, struct slice id);
void responses_remove(struct server *s, struct http_exchange *x, struct slice id);

/* generate.c */
struct api_context server_context(const struct server *s);
void generate(struct server *s, struct http_exchange *x, const struct api_dialect *dialect);
void count_tokens(struct server *s, struct http_exchange *x, const struct api_dialect *dialect);
void generate_cancel_all(struct server *s);

/* explain.c */
void explain(struct server *s, struct http_exchange *x);

/* sessions.c */
void sessions_list(struct server *s, struct http_exchange *x);
void sessions_show(struct server *s, struct http_exchange *x, struct slice name);
void sessions_remove(struct server *s, struct http_exchange *x, struct slice name);
void sessions_post(struct server *s, struct http_exchange *x, struct slice name);

/* page.c */
struct slice page_html(void);

#endif
