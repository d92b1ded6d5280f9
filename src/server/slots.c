/* SPDX-License-Identifier: MIT
 * slots.c — POST /slots/N?action=save|restore|erase.  What a slot holds is the session slot/N,
 * which /completion with id_slot moves; saving it is a fork under the file's name, restoring the
 * reverse. No KV is copied: it is in the store already, and n_written is the record that names it.
 */
#include <stdio.h>

#include "os/clock.h"
#include "server/server_int.h"

#define ANSWER_BYTES_MAX (16u << 20)
#define ARENA_BYTES      (32u << 20)
#define BODY_BYTES_MAX   65536u
#define RECORD_BYTES     4096 /* of a fork: docs/format-store.md */

struct slot_call {
    const struct visit *visit;
    struct arena arena;
    char name[32]; /* slot/N */
    struct slice file;
};

static enum status run(struct slot_call *c, const char *op, struct slice name, struct slice as,
                       int64_t *n_tokens, struct err *e)
{
    struct json_member members[] = {
        {SLICE_LIT("op"), {.kind = JSON_STRING, .text = slice_of(op)}},
        {SLICE_LIT("name"), {.kind = JSON_STRING, .text = name}},
        {SLICE_LIT("as"), {.kind = JSON_STRING, .text = as}},
    };
    struct json request = {.kind = JSON_OBJECT, .count = as.len ? 3 : 2, .members = members};
    struct buf b;
    struct json *v = NULL;
    buf_init(&b, ANSWER_BYTES_MAX);
    enum status st = sessions_command(engine_sessions(c->visit->server->engine), c->visit->tenant,
                                      &request, &b, e);
    if (st == OK)
        st = json_parse(buf_slice(&b), &c->arena, &v, e);
    const struct json *tokens = json_get(v, "tokens");
    if (n_tokens && tokens && tokens->kind == JSON_INT)
        *n_tokens = tokens->integer;
    buf_release(&b);
    return st;
}

/* A session of this name, if any, goes; from becomes it. */
static enum status copy(struct slot_call *c, struct slice from, struct slice to, int64_t *n_tokens,
                        struct err *e)
{
    enum status st = run(c, "show", from, (struct slice){0}, n_tokens, e);
    if (st != OK)
        return st;
    struct err none = {0};
    st = run(c, "delete", to, (struct slice){0}, NULL, &none);
    if (st != OK && st != E_NOT_FOUND) {
        *e = none;
        return st;
    }
    return run(c, "fork", from, to, NULL, e);
}

static void answer(const struct slot_call *c, const char *count, int64_t n_tokens,
                   const char *bytes, int64_t n_bytes, const char *time, double ms)
{
    struct buf b;
    struct json_writer w;
    buf_init(&b, ANSWER_BYTES_MAX);
    jw_init(&w, &b);
    jw_begin_object(&w);
    jw_key(&w, "id_slot");
    jw_raw(&w, c->visit->id);
    if (c->file.len) {
        jw_key(&w, "filename");
        jw_string(&w, c->file);
    }
    jw_key(&w, count);
    jw_int(&w, n_tokens);
    if (bytes) {
        jw_key(&w, bytes);
        jw_int(&w, n_bytes);
        jw_key(&w, "timings");
        jw_begin_object(&w);
        jw_key(&w, time);
        jw_double(&w, ms);
        jw_end_object(&w);
    }
    jw_end_object(&w);
    buf_add_char(&b, '\n');
    http_reply(c->visit->x, 200, "application/json", &b);
}

static enum status read_file_name(struct slot_call *c, struct err *e)
{
    struct json *v = NULL;
    struct slice body = http_body(c->visit->x);
    if (body.len > BODY_BYTES_MAX)
        return err_set(e, E_LIMIT, "a body of at most %u bytes", BODY_BYTES_MAX);
    enum status st = json_parse(body, &c->arena, &v, e);
    const struct json *name = json_get(v, "filename");
    if (st == OK && (!name || name->kind != JSON_STRING || !session_name_is_good(name->text)))
        st = err_set(e, E_INVALID, "filename: must be a name of letters, digits and -_.:@/+=~");
    if (st == OK)
        c->file = name->text;
    return st;
}

static enum status act(struct slot_call *c, struct slice action, struct err *e)
{
    uint64_t start_ns = clock_now_ns();
    int64_t n_tokens = 0;
    struct slice slot = slice_of(c->name);
    bool is_save = slice_is(action, "save"), is_restore = slice_is(action, "restore");
    if (!is_save && !is_restore && !slice_is(action, "erase"))
        return err_set(e, E_INVALID, "action: save, restore or erase");
    enum status st = is_save || is_restore ? read_file_name(c, e) : OK;
    if (st != OK)
        return st;
    if (is_save)
        st = copy(c, slot, c->file, &n_tokens, e);
    else if (is_restore)
        st = copy(c, c->file, slot, &n_tokens, e);
    else if ((st = run(c, "show", slot, (struct slice){0}, &n_tokens, e)) == OK)
        st = run(c, "delete", slot, (struct slice){0}, NULL, e);
    if (st != OK)
        return st;
    if (is_save)
        answer(c, "n_saved", n_tokens, "n_written", RECORD_BYTES, "save_ms",
               clock_ms_since(start_ns));
    else if (is_restore) /* KV is mapped when a prompt asks for it */
        answer(c, "n_restored", n_tokens, "n_read", 0, "restore_ms", clock_ms_since(start_ns));
    else
        answer(c, "n_erased", n_tokens, NULL, 0, NULL, 0);
    return OK;
}

static bool is_number(struct slice id)
{
    for (size_t i = 0; i < id.len; i++)
        if (id.ptr[i] < '0' || id.ptr[i] > '9')
            return false;
    return id.len > 0 && id.len < 5 && (id.len == 1 || id.ptr[0] != '0');
}

void slots_post(const struct visit *v)
{
    struct slot_call c = {.visit = v};
    struct err e = {0};
    struct api_error error;
    arena_init(&c.arena, ARENA_BYTES);
    enum status st =
        is_number(v->id) ? OK : err_set(&e, E_INVALID, "a slot is a number from 0 to 9999");
    snprintf(c.name, sizeof c.name, "slot/%.8s", is_number(v->id) ? v->id.ptr : "");
    c.name[5 + (v->id.len < 5 ? v->id.len : 0)] = '\0';
    if (st == OK)
        st = act(&c, query_value(&c.arena, http_query(v->x), "action"), &e);
    if (st != OK) {
        api_error_from(&error, &e);
        route_error(v->x, v->endpoint->dialect, &error);
    }
    arena_release(&c.arena);
}
