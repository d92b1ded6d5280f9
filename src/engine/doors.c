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

/* ---- hand over ---- */
void engine_on_hand_over(struct engine *g, enum status (*fn)(void *arg, int *fd, struct err *e),
                         void *arg)
{
    pthread_mutex_lock(&g->hand_over_mutex);
    g->hand_over = fn;
    g->hand_over_arg = arg;
    pthread_mutex_unlock(&g->hand_over_mutex);
}

static enum status hand_over(struct engine *g, struct control_peer *peer, struct buf *answer,
                             struct err *e)
{
    pthread_mutex_lock(&g->hand_over_mutex);
    enum status st = g->hand_over ? g->hand_over(g->hand_over_arg, &peer->give_fd, e)
                                  : err_set(e, E_UNSUPPORTED,
                                            "who has the store is no server; wait "
                                            "until it has ended");
    pthread_mutex_unlock(&g->hand_over_mutex);
    if (st == OK)
        buf_add_text(answer, "{}");
    return st == E_UNSUPPORTED ? E_BUSY : st;
}

enum status doors_take_over(struct engine *g, struct err *e)
{
    struct buf answer;
    bool is_nobody;
    buf_init(&answer, 1u << 16);
    enum status st = control_call(g->options.store_dir, SLICE_LIT("{\"op\":\"hand-over\"}"), -1,
                                  &answer, &g->taken_fd, &is_nobody, e);
    buf_release(&answer);
    return is_nobody ? E_NOT_FOUND : st;
}

int engine_take_socket(struct engine *g)
{
    int fd = g->taken_fd;
    g->taken_fd = -1;
    return fd;
}

/* ---- explain ---- */
enum status engine_explain_json(struct engine *g, uint32_t tenant, const struct json *request,
                                struct buf *answer, struct err *e)
{
    const struct json *messages = json_get(request, "messages"),
                      *prompt = json_get(request, "prompt");
    const struct json *tools = json_get(request, "tools"), *session = json_get(request, "session");
    if (!(messages && messages->kind == JSON_ARRAY) && !(prompt && prompt->kind == JSON_STRING))
        return err_set(e, E_INVALID, "\"messages\" must be an array, or \"prompt\" a string");
    struct engine_request *r = engine_request_new(g);
    if (!r)
        return err_set(e, E_NOMEM, "no memory for a request");
    r->kind = messages ? PROMPT_CHAT : PROMPT_TEXT;
    r->messages = messages;
    r->tools = tools && tools->kind == JSON_ARRAY ? tools : NULL;
    r->text = prompt && prompt->kind == JSON_STRING ? prompt->text : (struct slice){0};
    r->session = session && session->kind == JSON_STRING ? session->text : (struct slice){0};
    r->tenant = tenant;
    enum status st = engine_explain(g, r, true, answer, e);
    engine_request_free(r);
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
    if (slice_is(op, "hand-over"))
        return hand_over(g, peer, answer, e);
    if (slice_is(op, "explain"))
        return engine_explain_json(g, tenant, request, answer, e);
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
