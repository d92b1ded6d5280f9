/* SPDX-License-Identifier: MIT
 * responses.c — stored responses over HTTP: what the session room keeps under their ids. */
#include "server/server_int.h"

#define ANSWER_BYTES_MAX (128u << 20)
#define ARENA_BYTES      (512u << 20) /* the history, parsed */

/* An id of ours: sessions that are no responses are not found here. */
static bool is_response_id(struct slice id)
{
    return slice_starts(id, SLICE_LIT("resp_")) && id.len < API_ID_BYTES;
}

/* *out: the answer of the session room, appended to b. */
static enum status command(const struct visit *v, const char *op, struct buf *b, struct err *e)
{
    struct json_member members[] = {
        {SLICE_LIT("op"), {.kind = JSON_STRING, .text = slice_of(op)}},
        {SLICE_LIT("name"), {.kind = JSON_STRING, .text = v->id}},
        {SLICE_LIT("history"), {.kind = JSON_BOOL, .boolean = true}},
    };
    struct json request = {.kind = JSON_OBJECT, .count = 3, .members = members};
    if (!is_response_id(v->id))
        return err_set(e, E_NOT_FOUND, "no response of this id is stored");
    return sessions_command(engine_sessions(v->server->engine), v->tenant, &request, b, e);
}

static void refuse(struct http_exchange *x, const struct err *e)
{
    struct api_error error;
    api_error_from(&error, e);
    route_error(x, api_dialect_of_path(http_path(x)), &error);
}

void responses_show(const struct visit *visit)
{
    struct buf shown, out;
    struct arena a;
    struct json *v = NULL;
    struct err e = {0};
    struct api_error error;
    struct http_exchange *x = visit->x;
    struct api_context context = server_context(visit);
    buf_init(&shown, ANSWER_BYTES_MAX);
    buf_init(&out, ANSWER_BYTES_MAX);
    arena_init(&a, ARENA_BYTES);
    enum status st = command(visit, "show", &shown, &e);
    if (st == OK)
        st = json_parse(buf_slice(&shown), &a, &v, &e);
    buf_release(&shown);
    if (st != OK) {
        refuse(x, &e);
    } else if (api_response_write(&out, &context, visit->id, v, &error) != OK) {
        route_error(x, api_dialect_of_path(http_path(x)), &error);
    } else {
        http_reply(x, 200, "application/json", &out);
    }
    buf_release(&out);
    arena_release(&a);
}

void responses_remove(const struct visit *v)
{
    struct buf b;
    struct err e = {0};
    buf_init(&b, ANSWER_BYTES_MAX);
    if (command(v, "delete", &b, &e) != OK) {
        buf_release(&b);
        refuse(v->x, &e);
        return;
    }
    buf_clear(&b);
    api_response_write_deleted(&b, v->id);
    http_reply(v->x, 200, "application/json", &b);
}
