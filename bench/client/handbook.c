/* SPDX-License-Identifier: MIT
 * handbook.c — see handbook.h. */
#include "bench/client/handbook.h"

#include "bench/client/place.h"

static struct slice text_member(const struct json *v, const char *key)
{
    const struct json *text = json_get(v, key);
    return text && text->kind == JSON_STRING ? text->text : (struct slice){"", 0};
}

enum status handbook_read(const char *path, struct arena *a, struct handbook *out, struct err *e)
{
    struct buf file;
    struct json *v = NULL;
    *out = (struct handbook){0};
    buf_init(&file, HANDBOOK_BYTES_MAX);
    enum status st = place_read(path, &file, e);
    if (st == OK)
        st = json_parse(buf_slice(&file), a, &v, e);
    buf_release(&file);
    if (st != OK)
        return st;
    const struct json *questions = json_get(v, "questions");
    out->text = text_member(v, "handbook");
    out->greeting = text_member(v, "reply");
    for (size_t i = 0; questions && questions->kind == JSON_ARRAY && i < questions->count; i++) {
        if (out->n_questions == HANDBOOK_QUESTIONS_MAX)
            break;
        out->questions[out->n_questions] = text_member(&questions->items[i], "question");
        out->answers[out->n_questions++] = text_member(&questions->items[i], "answer");
    }
    if (out->text.len == 0 || out->greeting.len == 0 || out->n_questions == 0)
        return err_set(e, E_SYNTAX, "%s: want a handbook, a reply and questions", path);
    return OK;
}
