/* SPDX-License-Identifier: MIT
 * lmstudio.c — LM Studio's SDK: its sockets, who is at the other end, and its channels.
 *
 *   http's workers:  on_message ─ auth ─▶ api_ws_answer ─▶ the answer, or a prediction's channel
 *   fleet's thread:                       a model that was to be loaded ─▶ its channel
 *   engine's threads:               generate.c ─ sink ─▶ channel ─▶ http_socket_send
 *   http's socket thread:  on_gone ─▶ every channel's generation is cancelled
 *
 * A client lives as long as its socket; a channel holds the socket, is the client's while it is in
 * its list, and its generation's until that gives it back by one of the sink's last words. */
#include <inttypes.h>
#include <stdio.h>

#include "api/lmstudio_ws.h"
#include "base/log.h"
#include "base/mem.h"
#include "http/socket.h"
#include "os/clock.h"
#include "server/server_int.h"

#define AUTH_MS             10000u
#define CHANNELS_MAX        64u /* open ones of a client */
#define BAD_MESSAGES_MAX    16u /* of a client, then it is shown out */
#define MESSAGE_ARENA_BYTES (256u << 20)

struct channel;

struct client {
    struct visit visit; /* of the socket's request; its key is held; x is http's no more */
    enum api_ws_space space;
    struct http_socket *socket; /* lives longer than this */

    /* Of on_message. */
    bool is_in;
    uint32_t n_bad;

    pthread_mutex_t mutex; /* guards all below, and the channels' lists */
    bool is_gone;
    struct channel *first;
    uint32_t n_channels;
};

struct channel {
    atomic_uint refs; /* generation, and who cancels it */
    struct client *client;
    struct api_ws_message message; /* without what lived in the arena */

    /* Under client->mutex. */
    bool is_listed, is_stopped;
    struct channel *next, *previous;
    void *user;
    void (*gone)(void *user);
    void (*done)(void *user);
};

/* ---- sending ---- */
/* Each line is a message. */
static enum status send_lines(struct client *c, struct slice lines)
{
    enum status st = OK;
    while (lines.len > 0 && st == OK) {
        const char *end = memchr(lines.ptr, '\n', lines.len);
        size_t n = end ? (size_t)(end - lines.ptr) : lines.len;
        st = http_socket_send(c->socket, (struct slice){lines.ptr, n});
        n += end ? 1 : 0;
        lines = (struct slice){lines.ptr + n, lines.len - n};
    }
    return st;
}

/* Takes the bytes.  A client that can't be told is gone or too slow: on_gone says so. */
static void send_and_release(struct client *c, struct buf *out)
{
    if (out->failed)
        http_socket_close(c->socket, CLOSE_INTERNAL, "the answer is too large");
    else if (send_lines(c, buf_slice(out)) != OK)
        log_debug("server", "nobody reads the answer request=%s", c->visit.request_id);
    buf_release(out);
}

/* ---- channels ---- */
static struct channel *channel_new(struct client *c, const struct api_ws_message *m)
{
    struct channel *ch = mem_try_new(1, sizeof *ch);
    if (!ch)
        return NULL;
    atomic_init(&ch->refs, 1);
    ch->client = c;
    ch->message = (struct api_ws_message){.kind = m->kind, .id = m->id};
    pthread_mutex_lock(&c->mutex);
    bool has_room = c->n_channels < CHANNELS_MAX;
    for (const struct channel *i = c->first; i; i = i->next)
        has_room = has_room && i->message.id != m->id;
    if (has_room) {
        c->n_channels++;
        ch->is_listed = true;
        ch->next = c->first;
        if (ch->next)
            ch->next->previous = ch;
        c->first = ch;
    }
    pthread_mutex_unlock(&c->mutex);
    if (!has_room) {
        mem_free(ch);
        return NULL;
    }
    http_socket_ref(c->socket);
    return ch;
}

static void channel_unref(struct channel *ch)
{
    if (atomic_fetch_sub(&ch->refs, 1) != 1)
        return;
    struct http_socket *socket = ch->client->socket;
    if (ch->done)
        ch->done(ch->user);
    mem_free(ch);
    http_socket_unref(socket); /* the client may go with it */
}

/* The generation's last word was said. */
static void channel_end(struct channel *ch)
{
    struct client *c = ch->client;
    pthread_mutex_lock(&c->mutex);
    if (ch->previous)
        ch->previous->next = ch->next;
    else
        c->first = ch->next;
    if (ch->next)
        ch->next->previous = ch->previous;
    ch->is_listed = false;
    c->n_channels--;
    pthread_mutex_unlock(&c->mutex);
    channel_unref(ch);
}

/* Takes a reference.  Not under client->mutex: it takes the engine's locks. */
static void channel_cancel(struct channel *ch)
{
    pthread_mutex_lock(&ch->client->mutex);
    void (*gone)(void *user) = ch->gone;
    pthread_mutex_unlock(&ch->client->mutex);
    if (gone)
        gone(ch->user);
    channel_unref(ch);
}

static void stop_channel(struct client *c, int64_t id)
{
    pthread_mutex_lock(&c->mutex);
    struct channel *ch = c->first;
    while (ch && ch->message.id != id)
        ch = ch->next;
    if (ch) {
        ch->is_stopped = true;
        atomic_fetch_add(&ch->refs, 1);
    }
    pthread_mutex_unlock(&c->mutex);
    if (ch)
        channel_cancel(ch);
}

static void on_gone(void *user)
{
    struct client *c = user;
    struct channel *all[CHANNELS_MAX];
    uint32_t n = 0;
    pthread_mutex_lock(&c->mutex);
    c->is_gone = true;
    for (struct channel *ch = c->first; ch; ch = ch->next) {
        atomic_fetch_add(&ch->refs, 1);
        all[n++] = ch;
    }
    pthread_mutex_unlock(&c->mutex);
    for (uint32_t i = 0; i < n; i++)
        channel_cancel(all[i]);
}

/* ---- a channel as a sink ---- */
static void attach(void *to, void *user, void (*gone)(void *user), void (*done)(void *user))
{
    struct channel *ch = to;
    pthread_mutex_lock(&ch->client->mutex);
    ch->user = user;
    ch->gone = gone;
    ch->done = done;
    bool is_late = ch->client->is_gone && gone;
    pthread_mutex_unlock(&ch->client->mutex);
    if (is_late)
        gone(user);
}

static void head(void *to, const struct api_call *call)
{
    (void)to, (void)call; /* messages have no headers */
}

static void begin(void *to, const char *type)
{
    (void)to, (void)type; /* the channel is open */
}

static enum status write_lines(void *to, struct slice bytes)
{
    struct channel *ch = to;
    return send_lines(ch->client, bytes);
}

static void end(void *to)
{
    channel_end(to);
}

static void reply(void *to, struct buf *body)
{
    struct channel *ch = to;
    send_and_release(ch->client, body);
    channel_end(ch);
}

static void fail(void *to, const struct api_dialect *dialect, const struct api_error *error)
{
    struct channel *ch = to;
    struct buf out;
    (void)dialect;
    buf_init(&out, 1 << 20);
    api_ws_write_error(&out, &ch->message, ch->client->visit.server->fleet, error);
    reply(ch, &out);
}

static bool stop(void *to, struct api_call *call)
{
    struct channel *ch = to;
    struct buf out;
    pthread_mutex_lock(&ch->client->mutex);
    bool is_wanted = ch->is_stopped || ch->client->is_gone;
    pthread_mutex_unlock(&ch->client->mutex);
    if (!is_wanted)
        return false;
    buf_init(&out, 1 << 20);
    api_ws_write_stopped(call, &out);
    reply(ch, &out);
    return true;
}

static const struct sink_functions channel_sink = {.attach = attach,
                                                   .head = head,
                                                   .begin = begin,
                                                   .write = write_lines,
                                                   .end = end,
                                                   .reply = reply,
                                                   .fail = fail,
                                                   .stop = stop};

static void write_error(struct client *c, const struct api_ws_message *m,
                        const struct api_error *error)
{
    struct buf out;
    buf_init(&out, 1 << 20);
    api_ws_write_error(&out, m, c->visit.server->fleet, error);
    send_and_release(c, &out);
}

/* NULL: there was no room, and it was said. */
static struct channel *open_channel(struct client *c, const struct api_ws_message *m)
{
    struct channel *ch = channel_new(c, m);
    struct api_error error;
    if (ch)
        return ch;
    api_error_set(&error, E_BUSY, NULL, "at most %u channels and calls, of different ids",
                  CHANNELS_MAX);
    write_error(c, m, &error);
    return NULL;
}

static void run(const struct visit *of, struct client *c, const struct api_ws_message *m)
{
    struct visit v = *of;
    struct channel *ch = open_channel(c, m);
    if (!ch)
        return;
    v.start_ns = clock_now_ns();
    snprintf(v.request_id, sizeof v.request_id, "%.100s/%" PRId64, c->visit.request_id, m->id);
    struct sink sink = {&channel_sink, ch};
    generate_into(&v, api_ws_dialect(c->space), m->text, (struct slice){"", 0}, &sink);
}

/* ---- loading ---- */
struct loading {
    struct channel *channel;
    struct arena arena; /* of the message, which says at the end what was wanted */
    struct api_ws_message message;
    struct fleet *fleet;
    struct fleet_wait wait;
    int64_t keep_s;
};

static void loading_gone(void *user)
{
    struct loading *l = user;
    fleet_cancel(l->fleet, &l->wait);
}

static void loading_done(void *user)
{
    struct loading *l = user;
    arena_release(&l->arena);
    mem_free(l);
}

/* The model is there, or will not be. */
static void answer_load(struct loading *l, struct fleet_model *m, bool was_there,
                        const struct err *e)
{
    struct channel *ch = l->channel;
    struct client *c = ch->client;
    struct api_error error;
    struct buf out;
    buf_init(&out, 1 << 20);
    enum status st = OK;
    if (!m)
        api_error_from(&error, e);
    else
        st = api_ws_write_loaded(&out, c->space, &l->message, engine_info(fleet_engine(m)),
                                 fleet_name(m), was_there, &error);
    if (!m || st != OK)
        api_ws_write_error(&out, &l->message, l->fleet, &error);
    if (m)
        fleet_give(l->fleet, m, st == OK ? l->keep_s : FLEET_KEEP_AS_IS);
    reply(ch, &out); /* l may be gone now */
}

/* On the fleet's thread. */
static void loaded(void *arg, struct fleet_model *m, const struct err *e)
{
    struct loading *l = arg;
    struct server *s = l->channel->client->visit.server;
    answer_load(l, m, false, e);
    server_count_end(s);
}

static void wait_for(struct client *c, struct loading *l, struct slice name)
{
    struct server *s = c->visit.server;
    struct fleet_model *m = NULL;
    struct err e = {.pos = ERR_NO_POS};
    struct buf out;
    buf_init(&out, 1 << 20);
    api_ws_write_loading(&out, c->space, &l->message, s->fleet, name);
    send_and_release(c, &out);
    server_count_begin(s);
    attach(l->channel, l, loading_gone, loading_done);
    enum status st = fleet_take(s->fleet, name, &l->wait, &m, &e);
    if (st != OK || m)
        loaded(l, st == OK ? m : NULL, &e);
}

static void load(struct client *c, const struct api_ws_message *m, const struct api_ws_want *want)
{
    struct server *s = c->visit.server;
    struct api_ws_message again;
    struct err e;
    struct api_error error;
    if (atomic_load(&s->is_draining)) {
        api_error_http(&error, 503, "draining", "the server is stopping");
        write_error(c, m, &error);
        return;
    }
    struct channel *ch = open_channel(c, m);
    struct loading *l = ch ? mem_try_new(1, sizeof *l) : NULL;
    if (!ch)
        return;
    if (l) {
        arena_init(&l->arena, MESSAGE_ARENA_BYTES);
        char *text = arena_text(&l->arena, m->text.ptr, m->text.len);
        if (!text || api_ws_read((struct slice){text, m->text.len}, &l->arena, &again, &e) != OK) {
            loading_done(l);
            l = NULL;
        }
    }
    if (!l) {
        api_error_set(&error, E_NOMEM, NULL, "out of memory");
        fail(ch, NULL, &error);
        return;
    }
    l->channel = ch;
    l->message = again;
    l->fleet = s->fleet;
    l->keep_s = want->keep_s;
    l->wait = (struct fleet_wait){.ready = loaded, .arg = l};
    struct fleet_model *there = fleet_try(s->fleet, want->name);
    if (!there) {
        wait_for(c, l, want->name);
        return;
    }
    attach(ch, l, NULL, loading_done);
    answer_load(l, there, true, NULL);
}

/* ---- messages ---- */
/* The first message: who is it?  Keys come as its passkey, or with the socket's request. */
static void authenticate(struct client *c, struct slice text)
{
    struct api_ws_auth auth;
    struct api_error error = {0};
    struct err e = {.pos = ERR_NO_POS};
    struct arena a;
    struct buf out;
    arena_init(&a, 1 << 20);
    buf_init(&out, 1 << 16);
    enum status st = api_ws_read_auth(text, &a, &auth, &e);
    bool may = st == OK && (c->visit.key || admit_this_key(&c->visit, auth.passkey, &error));
    const char *why = st != OK ? e.msg : "the clientPasskey is no API key of this server";
    api_ws_write_auth(&out, may ? NULL : why);
    send_and_release(c, &out);
    arena_release(&a);
    c->is_in = may;
    if (may)
        http_socket_deadline(c->socket, 0);
    else
        http_socket_close(c->socket, CLOSE_POLICY, "not authenticated");
}

static void warn(struct client *c, const char *why)
{
    struct buf out;
    buf_init(&out, 1 << 16);
    api_ws_write_warning(&out, why);
    send_and_release(c, &out);
    if (++c->n_bad > BAD_MESSAGES_MAX)
        http_socket_close(c->socket, CLOSE_POLICY, "too many messages that mean nothing");
}

static void serve(struct client *c, const struct api_ws_message *m)
{
    struct server *s = c->visit.server;
    struct visit v = c->visit;
    struct api_ws_want want;
    struct api_error error;
    struct buf out;
    if (api_ws_wants(c->space, m, s->fleet, &want, &error) != OK) {
        write_error(c, m, &error);
        return;
    }
    if (want.need == API_WS_LOAD) {
        load(c, m, &want);
        return;
    }
    v.model = want.model;
    v.engine = want.model ? fleet_engine(want.model) : s->engine;
    struct api_ask ask = {.fleet = s->fleet,
                          .engine = v.engine,
                          .info = engine_info(v.engine),
                          .context = server_context(&v),
                          .tenant = v.tenant,
                          .is_admin = v.is_admin};
    buf_init(&out, API_REPLY_BYTES_MAX);
    enum api_ws_todo todo = api_ws_answer(c->space, m, &ask, &out);
    send_and_release(c, &out);
    if (todo == API_WS_GENERATE)
        run(&v, c, m);
    else if (todo == API_WS_CANCEL)
        stop_channel(c, m->id);
    if (want.model)
        fleet_give(s->fleet, want.model, FLEET_KEEP_AS_IS);
}

static void on_message(void *user, struct slice text)
{
    struct client *c = user;
    struct api_ws_message m;
    struct err e = {.pos = ERR_NO_POS};
    struct arena a;
    atomic_fetch_add(&c->visit.server->n_seen, 1);
    if (!c->is_in) {
        authenticate(c, text);
        return;
    }
    if (c->visit.key && !keys_hold(&c->visit.server->keys, c->visit.key)) {
        http_socket_close(c->socket, CLOSE_POLICY, "the API key is not known any more");
        return;
    }
    arena_init(&a, MESSAGE_ARENA_BYTES);
    if (api_ws_read(text, &a, &m, &e) == OK)
        serve(c, &m);
    else
        warn(c, e.msg);
    arena_release(&a);
}

/* ---- the socket ---- */
static void on_free(void *user)
{
    struct client *c = user;
    key_unref(c->visit.key);
    pthread_mutex_destroy(&c->mutex);
    mem_free(c);
}

static void refuse(const struct visit *v, int status, const char *code, const char *message)
{
    struct api_error error;
    if (status == 426)
        http_add_header(v->x, "Upgrade", "websocket");
    api_error_http(&error, status, code, message);
    route_error(v->x, v->endpoint->dialect, &error);
}

void lmstudio_open(const struct visit *v)
{
    const char *reason;
    struct api_error ignored;
    struct err e = {0};
    int status = http_socket_refusal(v->x, &reason);
    if (status == 0 && atomic_load(&v->server->is_draining)) {
        refuse(v, 503, "draining", "the server is stopping");
        return;
    }
    if (status != 0) {
        refuse(v, status, "upgrade_required", reason);
        return;
    }
    struct client *c = mem_try_new(1, sizeof *c);
    if (!c) {
        refuse(v, 500, NULL, "out of memory");
        return;
    }
    c->visit = *v;
    c->space = api_ws_space_of(http_path(v->x));
    pthread_mutex_init(&c->mutex, NULL);
    if (v->server->keys.is_needed) /* without one among the headers the passkey decides */
        (void)admit_key(&c->visit, &ignored);
    c->visit.x = NULL;
    struct http_socket_user user = {c, on_message, on_gone, on_free, AUTH_MS};
    if (http_socket_open(v->x, &user, &c->socket, &e) != OK) {
        on_free(c);
        refuse(v, 500, NULL, "out of memory");
    }
}
