/* SPDX-License-Identifier: MIT
 * models.c — the model that a visit needs: found by the name in its body, loaded if it is not
 * there.  Until then the visit is parked; no worker of http waits with it.
 *
 *   worker: models_serve ─ fleet_take ─▶ there: serve
 *                             └─▶ parked ─ fleet's thread: ready ─▶ serve, or the error
 *   http's watch thread: on_gone ─▶ fleet_cancel, or what serves it by now is cancelled */
#include <stdio.h>

#include "base/mem.h"
#include "os/clock.h"
#include "server/server_int.h"

#define QUERY_BYTES_MAX 65536u

struct parked {
    struct visit visit;
    void (*serve)(const struct visit *v);
    struct fleet_wait wait;
    uint64_t since_ns;
    pthread_mutex_t mutex; /* guards the two below */
    struct generation *generation;
    bool is_gone;
};

/* ---- its exchange ---- */
static void on_gone(void *user)
{
    struct parked *p = user;
    pthread_mutex_lock(&p->mutex);
    p->is_gone = true;
    struct generation *g = p->generation; /* stays until on_free */
    pthread_mutex_unlock(&p->mutex);
    fleet_cancel(p->visit.server->fleet, &p->wait);
    if (g)
        generation_cancel(g);
}

static void on_free(void *user)
{
    struct parked *p = user;
    if (p->generation)
        generation_unref(p->generation);
    pthread_mutex_destroy(&p->mutex);
    mem_free(p);
}

void parked_bind(struct parked *p, struct generation *g)
{
    pthread_mutex_lock(&p->mutex);
    p->generation = g;
    bool is_gone = p->is_gone;
    pthread_mutex_unlock(&p->mutex);
    if (is_gone)
        generation_cancel(g);
}

/* ---- names ---- */
/* llama-server's GETs name it in the query. */
static struct slice name_of(const struct visit *v, struct arena *a)
{
    struct slice body = http_body(v->x);
    return body.len ? api_model_wanted(body, a) : query_value(a, http_query(v->x), "model");
}

/* What went wrong with a model is not the request's fault, but for its name. */
static void refuse(const struct visit *v, struct slice name, const struct err *e)
{
    struct api_error error;
    char message[300];
    enum status st = e->code;
    if (st == E_NOT_FOUND) {
        snprintf(message, sizeof message, "model '%.*s' not found",
                 (int)(name.len < 200 ? name.len : 200), name.ptr);
        api_error_http(&error, 404, "model_not_found", message);
    } else {
        api_error_from(&error, e);
        if (error.http < 500 && st != E_BUSY) {
            snprintf(message, sizeof message, "the model can't be loaded: %.250s", e->msg);
            api_error_http(&error, 500, "model_not_loaded", message);
        }
    }
    route_error(v->x, v->endpoint->dialect, &error);
}

/* ---- serving ---- */
static void serve(struct visit *v, struct fleet_model *m, void (*fn)(const struct visit *v))
{
    v->model = m;
    v->engine = fleet_engine(m);
    struct fleet *f = v->server->fleet; /* the visit's exchange is given back by fn */
    fn(v);
    fleet_give(f, m, FLEET_KEEP_AS_IS);
}

static void ready(void *arg, struct fleet_model *m, const struct err *e)
{
    struct parked *p = arg;
    struct visit v = p->visit;
    void (*fn)(const struct visit *) = p->serve;
    struct arena a;
    v.parked = p;
    v.load_ms = clock_ms_since(p->since_ns);
    arena_init(&a, QUERY_BYTES_MAX);
    if (m)
        serve(&v, m, fn);
    else
        refuse(&v, name_of(&v, &a), e);
    arena_release(&a);
    key_unref(v.key);
    server_count_end(v.server);
}

/* A request of Ollama's that wants its model gone must not load it. */
static bool is_unload(const struct visit *v, struct slice name)
{
    struct buf out;
    struct fleet_list list;
    struct err e;
    bool is_off = false;
    if (fleet_list(v->server->fleet, &list, &e) == OK) {
        const struct fleet_entry *m = fleet_find(&list, name);
        is_off = m && m->state == FLEET_OFF;
        fleet_list_release(&list);
    }
    buf_init(&out, API_REPLY_BYTES_MAX);
    if (!is_off || !api_wants_unload(v->endpoint->dialect, http_body(v->x), clock_unix_s(), &out)) {
        buf_release(&out);
        return false;
    }
    http_reply(v->x, 200, "application/json", &out);
    return true;
}

/* The visit waits, unless its model is there or it can't have one. */
static void park(struct visit *v, struct slice name, void (*fn)(const struct visit *v))
{
    struct fleet_model *m = NULL;
    struct err e = {0};
    struct parked *p = mem_try_new(1, sizeof *p);
    if (!p) {
        (void)err_set(&e, E_NOMEM, "out of memory");
        refuse(v, name, &e);
        key_unref(v->key);
        return;
    }
    p->visit = *v;
    p->serve = fn;
    p->wait = (struct fleet_wait){.ready = ready, .arg = p};
    p->since_ns = clock_now_ns();
    pthread_mutex_init(&p->mutex, NULL);
    server_count_begin(v->server);
    struct server *s = v->server;
    http_attach(v->x, p, on_gone, on_free); /* before ready can come: it gives the exchange back */
    if (fleet_take(s->fleet, name, &p->wait, &m, &e) != OK)
        p->wait.ready(p, NULL, &e);
    else if (m)
        p->wait.ready(p, m, &e);
}

void models_serve(const struct visit *visit, void (*fn)(const struct visit *v))
{
    struct visit v = *visit;
    struct server *s = v.server;
    struct arena a;
    arena_init(&a, QUERY_BYTES_MAX);
    struct slice name = fleet_has_many(s->fleet) ? name_of(&v, &a) : (struct slice){"", 0};
    struct fleet_model *m = fleet_try(s->fleet, name);
    if (m) {
        serve(&v, m, fn);
        key_unref(v.key);
    } else if (is_unload(&v, name)) {
        key_unref(v.key);
    } else {
        park(&v, name, fn);
    }
    arena_release(&a);
}
