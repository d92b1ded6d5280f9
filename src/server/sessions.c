/* SPDX-License-Identifier: MIT
 * sessions.c — /v1/sessions over HTTP: a path and a body become a command of the session room.
 *   GET    /v1/sessions?limit&after&tag&prefix&responses     list
 *   GET    /v1/sessions/NAME?history                         show
 *   POST   /v1/sessions                                      create
 *   POST   /v1/sessions/expire                               forget old ones
 *   DELETE /v1/sessions/NAME                                 delete
 *   POST   /v1/sessions/NAME/fork|pin|unpin|tag|rename       with the command's members as the body
 * Answers are the room's; docs/api/sessions.md has an example of each. */
#include <stdio.h>
#include <string.h>

#include "server/server_int.h"

#define ANSWER_BYTES_MAX (128u << 20)
#define ARENA_BYTES      (1u << 20)
#define BODY_BYTES_MAX   65536u

/* ---- answers ---- */
static const struct api_dialect *dialect_of(const struct http_exchange *x)
{
    return api_dialect_of_path(http_path(x));
}

static void answer(const struct visit *v, const struct json *request)
{
    struct http_exchange *x = v->x;
    struct buf b;
    struct err e = {0};
    struct api_error error;
    buf_init(&b, ANSWER_BYTES_MAX);
    if (sessions_command(engine_sessions(v->server->engine), v->tenant, request, &b, &e) == OK) {
        buf_add_char(&b, '\n');
        http_reply(x, 200, "application/json", &b);
        return;
    }
    buf_release(&b);
    api_error_from(&error, &e);
    route_error(x, dialect_of(x), &error);
}

static void refuse(struct http_exchange *x, enum status st, const char *why)
{
    struct api_error error;
    api_error_set(&error, st, NULL, "%s", why);
    route_error(x, dialect_of(x), &error);
}

/* ---- from a path to a command ---- */
static void add_text(struct json *o, const char *key, struct slice text)
{
    o->members[o->count++] =
        (struct json_member){slice_of(key), {.kind = JSON_STRING, .text = text}};
}

/* An object with room for n more members; op is the first.  NULL: no memory. */
static struct json *command(struct arena *a, const char *op, size_t n)
{
    struct json *o = json_new_object(a, n + 1);
    if (!o)
        return NULL;
    o->count = 0;
    add_text(o, "op", slice_of(op));
    return o;
}

static bool is_true(struct slice value)
{
    return value.ptr && !slice_is(value, "false") && !slice_is(value, "0");
}

static void add_flag(struct json *o, const char *key, bool value)
{
    o->members[o->count++] =
        (struct json_member){slice_of(key), {.kind = JSON_BOOL, .boolean = value}};
}

/* A count; anything else stays a string, which the command refuses by name. */
static void add_count(struct json *o, const char *key, struct slice text)
{
    int64_t v = 0;
    bool is_count = text.len > 0 && text.len < 10;
    for (size_t i = 0; i < text.len && is_count; i++) {
        is_count = text.ptr[i] >= '0' && text.ptr[i] <= '9';
        v = v * 10 + (text.ptr[i] - '0');
    }
    if (!is_count) {
        add_text(o, key, text);
        return;
    }
    o->members[o->count++] =
        (struct json_member){slice_of(key), {.kind = JSON_INT, .integer = v, .text = text}};
}

void sessions_list(const struct visit *v)
{
    struct http_exchange *x = v->x;
    static const char *const texts[] = {"after", "tag", "prefix"};
    struct arena a;
    struct slice query = http_query(x);
    arena_init(&a, ARENA_BYTES);
    struct json *o = command(&a, "list", 5);
    for (size_t i = 0; o && i < sizeof texts / sizeof texts[0]; i++) {
        struct slice value = query_value(&a, query, texts[i]);
        if (value.ptr)
            add_text(o, texts[i], value);
    }
    struct slice limit = query_value(&a, query, "limit");
    if (o && limit.ptr)
        add_count(o, "limit", limit);
    if (o)
        add_flag(o, "responses", is_true(query_value(&a, query, "responses")));
    if (o && !a.failed)
        answer(v, o);
    else
        refuse(x, E_NOMEM, "out of memory");
    arena_release(&a);
}

static void run_named(const struct visit *v, const char *op)
{
    struct http_exchange *x = v->x;
    struct arena a;
    arena_init(&a, ARENA_BYTES);
    struct json *o = command(&a, op, 2);
    if (o) {
        add_text(o, "name", v->id);
        add_flag(o, "history", is_true(query_value(&a, http_query(x), "history")));
        answer(v, o);
    } else {
        refuse(x, E_NOMEM, "out of memory");
    }
    arena_release(&a);
}

void sessions_show(const struct visit *v)
{
    run_named(v, "show");
}

void sessions_remove(const struct visit *v)
{
    run_named(v, "delete");
}

/* What a member of the body is called in a command; NULL: it is not the client's to say. */
static const char *member_of(const char *op, struct slice key)
{
    if (slice_is(key, "op") || slice_is(key, "turns"))
        return NULL;
    if (slice_is(key, "name"))
        return strcmp(op, "rename") == 0 ? "to" : strcmp(op, "fork") == 0 ? "as" : "name";
    return key.ptr;
}

/* POST …/NAME/OP; a body's "name" is the new one's.  POST /v1/sessions: create. */
static enum status posted(struct arena *a, const struct visit *v, struct json **out, struct err *e)
{
    struct slice path = http_path(v->x), body = http_body(v->x);
    const char *slash = memrchr(path.ptr, '/', path.len);
    struct json *given = NULL;
    char op[16];
    snprintf(op, sizeof op, "%.*s", (int)(path.ptr + path.len - slash) - 1, slash + 1);
    if (strcmp(op, "sessions") == 0)
        snprintf(op, sizeof op, "create");
    if (body.len > BODY_BYTES_MAX)
        return err_set(e, E_LIMIT, "a body of at most %u bytes", BODY_BYTES_MAX);
    enum status st = body.len ? json_parse(body, a, &given, e) : OK;
    if (st != OK)
        return st;
    if (given && given->kind != JSON_OBJECT)
        return err_set(e, E_INVALID, "the body must be a JSON object");
    char *text = arena_text(a, op, strlen(op));
    struct json *o = command(a, text, (given ? given->count : 0) + 2);
    if (!o)
        return err_set(e, E_NOMEM, "out of memory");
    if (v->id.len > 0)
        add_text(o, "name", v->id);
    add_flag(o, "turns", v->is_admin); /* of expire: they are all tenants' */
    for (size_t i = 0; given && i < given->count; i++) {
        struct json_member m = given->members[i];
        const char *key = member_of(op, m.key);
        if (!key)
            continue;
        if (slice_is(m.key, "name"))
            m.key = slice_of(key);
        o->members[o->count++] = m;
    }
    *out = o;
    return OK;
}

void sessions_post(const struct visit *v)
{
    struct http_exchange *x = v->x;
    struct arena a;
    struct json *o = NULL;
    struct err e = {0};
    arena_init(&a, ARENA_BYTES);
    if (posted(&a, v, &o, &e) == OK) {
        answer(v, o);
    } else {
        struct api_error error;
        api_error_from(&error, &e);
        route_error(x, dialect_of(x), &error);
    }
    arena_release(&a);
}
