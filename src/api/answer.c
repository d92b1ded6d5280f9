/* SPDX-License-Identifier: MIT
 * answer.c — replies that need no generation: what is here, tokens of a text, a rendered template.
 * A dialect's answer reads the body's fields as a request's are read and writes one JSON value. */
#include <stdio.h>

#include "api/api_int.h"

#define ANSWER_BODY_BYTES_MAX (256u << 20) /* the arena of a parsed body */

void answer_refuse(struct fields *f, int http, const char *code, const char *message)
{
    if (f->status != OK)
        return;
    f->status = E_UNSUPPORTED;
    api_error_http(f->error, http, code, message);
}

void answer_fail(struct fields *f, const struct err *e)
{
    if (f->status != OK)
        return;
    f->status = e->code;
    api_error_from(f->error, e);
}

const struct fleet_list *models_of(struct fields *f, struct inquiry *a)
{
    struct err e = {0};
    if (f->status == OK && !a->list.fleet && fleet_list(a->ask->fleet, &a->list, &e) != OK)
        answer_fail(f, &e);
    return &a->list;
}

const struct fleet_entry *model_of(struct fields *f, struct inquiry *a, struct slice name)
{
    char message[300];
    const struct fleet_entry *m = NULL;
    if (models_of(f, a)->fleet && f->status == OK)
        m = fleet_find(&a->list, name);
    if (m || f->status != OK)
        return m;
    snprintf(message, sizeof message, "model '%.*s' not found",
             (int)(name.len < 200 ? name.len : 200), name.ptr);
    answer_refuse(f, 404, "model_not_found", message);
    return NULL;
}

static enum status read_body(const struct api_ask *ask, struct arena *a, const struct json **out,
                             struct api_error *error)
{
    struct err e = {.pos = ERR_NO_POS};
    struct json *v = NULL;
    if (ask->body.len == 0)
        v = json_new_object(a, 0);
    else if (json_parse(ask->body, a, &v, &e) != OK) {
        api_error_from(error, &e);
        return e.code;
    }
    if (!v)
        return api_error_set(error, E_NOMEM, NULL, "out of memory");
    if (v->kind != JSON_OBJECT)
        return api_error_set(error, E_INVALID, NULL, "the body must be a JSON object");
    *out = v;
    return OK;
}

enum status api_answer(const struct api_dialect *dialect, const struct api_ask *ask,
                       struct buf *out, struct api_error *error)
{
    struct arena arena;
    struct fields f = {.error = error};
    if (dialect->is_for_admins && !ask->is_admin) {
        api_error_http(error, 403, "other_tenants",
                       "an admin key is needed here, or, where none is set, one of the tenant "
                       "default");
        return E_DENIED;
    }
    arena_init(&arena, ANSWER_BODY_BYTES_MAX);
    f.status = read_body(ask, &arena, &f.object, error);
    if (f.status == OK) {
        struct inquiry a = {.ask = ask, .arena = &arena};
        jw_init(&a.w, out);
        read_refused(&f, dialect);
        if (f.status == OK)
            dialect->answer(&f, &a);
        if (f.status == OK && (out->failed || arena.failed))
            api_error_set(error, f.status = E_NOMEM, NULL, "the answer is too large");
        buf_add_char(out, '\n');
        fleet_list_release(&a.list);
    }
    arena_release(&arena);
    return f.status;
}
