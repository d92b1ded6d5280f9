/* SPDX-License-Identifier: MIT
 * rows.c — see rows.h. */
#include "bench/client/rows.h"

#include "base/mem.h"
#include "bench/client/child.h"

#define UNPACK_MS_MAX 60000u

static struct slice written(struct arena *a, const struct json *v)
{
    struct buf b;
    buf_init(&b, ROWS_BYTES_MAX);
    json_write(&b, v, (struct json_style){.is_compact = true});
    const char *text = arena_text(a, b.ptr, b.len);
    struct slice s = {text ? text : "", text ? b.len : 0};
    buf_release(&b);
    return s;
}

static enum status read_row(struct slice line, struct arena *a, struct row *row, struct err *e)
{
    struct json *v = NULL;
    enum status st = json_parse(line, a, &v, e);
    if (st != OK)
        return st;
    const struct json *id = json_get(v, "id"), *tokens = json_get(v, "tokens");
    const struct json *messages = json_get(v, "messages"), *tools = json_get(v, "tools");
    const struct json *answer = json_get(v, "answer");
    if (!id || id->kind != JSON_STRING || !tokens || tokens->kind != JSON_INT || !messages ||
        messages->kind != JSON_ARRAY || !answer || answer->kind != JSON_STRING)
        return err_set(e, E_SYNTAX, "a row wants id, tokens, messages, answer");
    *row = (struct row){.id = id->text.ptr,
                        .n_tokens = (uint32_t)tokens->integer,
                        .messages = written(a, messages),
                        .answer = answer->text,
                        .message = messages->items,
                        .n_messages = messages->count};
    if (tools && tools->kind == JSON_ARRAY)
        row->tools = written(a, tools);
    return row->messages.len ? OK : err_set(e, E_NOMEM, "rows");
}

enum status rows_read(const char *path, struct rows *out, struct err *e)
{
    const char *const argv[] = {"xz", "-dc", path, NULL};
    struct child_result text = {0};
    *out = (struct rows){0};
    arena_init(&out->arena, ROWS_BYTES_MAX);
    enum status st = child_run(argv, NULL, UNPACK_MS_MAX, &text, e);
    if (st == OK && text.code != 0)
        st = err_set(e, E_IO, "xz -dc %s: code %d", path, text.code);
    if (st == OK)
        out->row = arena_alloc(&out->arena, ROWS_MAX, sizeof *out->row);
    const char *at = text.out.ptr, *end = at + text.out.len;
    while (st == OK && at < end) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        struct slice line = {at, (size_t)((line_end ? line_end : end) - at)};
        if (!out->row || out->n == ROWS_MAX)
            st = err_set(e, E_LIMIT, "%s: too many rows", path);
        else
            st = read_row(line, &out->arena, &out->row[out->n++], e);
        at += line.len + 1;
    }
    child_result_release(&text);
    if (st != OK)
        rows_release(out);
    return st;
}

void rows_release(struct rows *r)
{
    arena_release(&r->arena);
    *r = (struct rows){0};
}

const struct row *rows_find(const struct rows *r, const char *id)
{
    for (uint32_t i = 0; i < r->n; i++)
        if (strcmp(r->row[i].id, id) == 0)
            return &r->row[i];
    return NULL;
}
