/* SPDX-License-Identifier: MIT
 * doors.c — what the control socket asks of the home: things that only who runs the models knows.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#include "engine/home_int.h"
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

/* Its pages are taken if one of the models here made them. */
static enum status import(struct home *h, uint32_t tenant, const struct json *request,
                          struct control_peer *peer, struct buf *answer, struct err *e)
{
    const struct json *as = json_get(request, "as");
    struct digest roots[HOME_ENGINES_MAX];
    struct engine *engines[HOME_ENGINES_MAX];
    char model[128] = "";
    uint32_t n = home_borrow(h, engines);
    for (uint32_t i = 0; i < n; i++)
        roots[i] = engines[i]->root;
    if (n > 0)
        snprintf(model, sizeof model, "%s", engines[0]->info.model_name);
    home_return(h, engines, n);
    if (n == 0)
        return err_set(e, E_CANCELLED, "the server is shutting down");
    struct kvx_import o = {.tenant = tenant,
                           .as = as && as->kind == JSON_STRING ? as->text : (struct slice){0},
                           .trust = flag_of(request, "trust"),
                           .tokens_only = flag_of(request, "tokens_only"),
                           .roots = roots,
                           .n_roots = n,
                           .takes_known = h->options.has_many,
                           .model = model,
                           .read = read_peer,
                           .arg = peer};
    return kvx_import(h->sessions, &o, answer, e);
}

/* ---- public ---- */
static void set_public(struct engine *g, void *arg)
{
    cache_set_public(g->cache, arg);
}

static enum status publish(struct home *h, uint32_t tenant, const struct json *request,
                           struct buf *answer, struct err *e)
{
    struct digest salt;
    struct engine *engines[HOME_ENGINES_MAX];
    enum status st = sessions_command(h->sessions, tenant, request, answer, e);
    if (st != OK || !sessions_public_salt(h->sessions, &salt))
        return st;
    uint32_t n = home_borrow(h, engines);
    for (uint32_t i = 0; i < n; i++)
        engine_call(engines[i], set_public, &salt);
    home_return(h, engines, n);
    return OK;
}

/* ---- hand over ---- */
static enum status hand_over(struct home *h, struct control_peer *peer, struct buf *answer,
                             struct err *e)
{
    pthread_mutex_lock(&h->hand_over_mutex);
    enum status st = h->hand_over ? h->hand_over(h->hand_over_arg, &peer->give_fd, e)
                                  : err_set(e, E_UNSUPPORTED,
                                            "who has the store is no server; wait "
                                            "until it has ended");
    pthread_mutex_unlock(&h->hand_over_mutex);
    if (st == OK)
        buf_add_text(answer, "{}");
    return st == E_UNSUPPORTED ? E_BUSY : st;
}

enum status doors_take_over(struct home *h, struct err *e)
{
    struct buf answer;
    bool is_nobody;
    buf_init(&answer, 1u << 16);
    enum status st = control_call(h->options.dir, SLICE_LIT("{\"op\":\"hand-over\"}"), -1, &answer,
                                  &h->taken_fd, &is_nobody, e);
    buf_release(&answer);
    return is_nobody ? E_NOT_FOUND : st;
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

/* Its general.name, or its file's name with or without .gguf. */
static bool is_called(const struct engine *g, struct slice name)
{
    const char *slash = strrchr(g->info.model_path, '/');
    struct slice file = slice_of(slash ? slash + 1 : g->info.model_path);
    struct slice stem = file;
    if (stem.len > 5 && memcmp(stem.ptr + stem.len - 5, ".gguf", 5) == 0)
        stem.len -= 5;
    return slice_is(name, g->info.model_name) || slice_equal(name, file) || slice_equal(name, stem);
}

/* By the model that the request names; where it names none, or there is one only, by the first. */
static enum status explain(struct home *h, uint32_t tenant, const struct json *request,
                           struct buf *answer, struct err *e)
{
    const struct json *model = json_get(request, "model");
    struct engine *engines[HOME_ENGINES_MAX];
    uint32_t n = home_borrow(h, engines), which = 0;
    enum status st = n ? OK : err_set(e, E_CANCELLED, "the server is shutting down");
    if (n > 0 && h->options.has_many && model && model->kind == JSON_STRING && model->text.len) {
        while (which < n && !is_called(engines[which], model->text))
            which++;
        if (which == n)
            st = err_set(e, E_NOT_FOUND, "no model called " SLICE_FMT " is loaded",
                         SLICE_ARG(model->text));
    }
    if (st == OK)
        st = engine_explain_json(engines[which], tenant, request, answer, e);
    home_return(h, engines, n);
    return st;
}

static enum status extra(void *arg, uint32_t tenant, const struct json *request,
                         struct control_peer *peer, struct buf *answer, struct err *e)
{
    struct home *h = arg;
    struct slice op = json_get(request, "op")->text;
    if (slice_is(op, "import"))
        return import(h, tenant, request, peer, answer, e);
    if (slice_is(op, "public"))
        return publish(h, tenant, request, answer, e);
    if (slice_is(op, "hand-over"))
        return hand_over(h, peer, answer, e);
    if (slice_is(op, "explain"))
        return explain(h, tenant, request, answer, e);
    return E_UNSUPPORTED;
}

enum status doors_open(struct home *h, struct err *e)
{
    const struct control_options options = {.dir = h->options.dir,
                                            .sessions = h->sessions,
                                            .store = h->store,
                                            .extra = extra,
                                            .arg = h};
    return control_start(&options, &h->control, e);
}
