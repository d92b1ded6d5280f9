/* SPDX-License-Identifier: MIT
 * doors.c — what the control socket asks of an engine: things that only who runs the model knows.
 */
#include <errno.h>
#include <sys/socket.h>

#include "engine/engine_int.h"
#include "session/kvx.h"

/* ---- import ---- */
static enum status read_peer(void *arg, void *bytes, size_t max, size_t *n, struct err *e)
{
    struct control_peer *peer = arg;
    *n = peer->started.len < max ? peer->started.len : max;
    if (*n > 0) {
        memcpy(bytes, peer->started.ptr, *n);
        peer->started = (struct slice){peer->started.ptr + *n, peer->started.len - *n};
        return OK;
    }
    ssize_t got = 0;
    do
        got = peer->fd >= 0 ? recv(peer->fd, bytes, max, 0) : 0;
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return err_sys(e, errno, "the file does not come");
    *n = (size_t)got;
    return OK;
}

static bool flag_of(const struct json *request, const char *key)
{
    const struct json *v = json_get(request, key);
    return v && v->kind == JSON_BOOL && v->boolean;
}

static enum status import(struct engine *g, uint32_t tenant, const struct json *request,
                          struct control_peer *peer, struct buf *answer, struct err *e)
{
    const struct json *as = json_get(request, "as");
    struct kvx_import o = {.tenant = tenant,
                           .as = as && as->kind == JSON_STRING ? as->text : (struct slice){0},
                           .trust = flag_of(request, "trust"),
                           .tokens_only = flag_of(request, "tokens_only"),
                           .root = &g->root,
                           .model = g->info.model_name,
                           .read = read_peer,
                           .arg = peer};
    return kvx_import(g->sessions, &o, answer, e);
}

/* ---- public ---- */
static void set_public(struct engine *g, void *arg)
{
    cache_set_public(g->cache, arg);
}

static enum status publish(struct engine *g, uint32_t tenant, const struct json *request,
                           struct buf *answer, struct err *e)
{
    struct digest salt;
    enum status st = sessions_command(g->sessions, tenant, request, answer, e);
    if (st == OK && sessions_public_salt(g->sessions, &salt))
        engine_call(g, set_public, &salt);
    return st;
}

static enum status extra(void *arg, uint32_t tenant, const struct json *request,
                         struct control_peer *peer, struct buf *answer, struct err *e)
{
    struct engine *g = arg;
    struct slice op = json_get(request, "op")->text;
    if (slice_is(op, "import"))
        return import(g, tenant, request, peer, answer, e);
    if (slice_is(op, "public"))
        return publish(g, tenant, request, answer, e);
    return E_UNSUPPORTED;
}

enum status doors_open(struct engine *g, struct err *e)
{
    const struct control_options options = {.dir = g->options.store_dir,
                                            .sessions = g->sessions,
                                            .store = g->store,
                                            .extra = extra,
                                            .arg = g};
    if (!g->store || g->options.store_read_only)
        return OK;
    return control_start(&options, &g->control, e);
}
