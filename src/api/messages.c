/* SPDX-License-Identifier: MIT
 * messages.c — chat messages in the one form that templates know (OpenAI's), made from those of
 * other dialects.  All values live in the request's arena; a failed arena shows at the end. */
#include "api/messages.h"

#include <stdio.h>

struct json json_of_text(struct slice text)
{
    return (struct json){.kind = JSON_STRING, .text = text};
}

struct json *message_add(struct message_list *l, const char *role)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 16;
        struct json *grown = arena_alloc(l->arena, cap, sizeof *grown);
        if (!grown)
            return NULL;
        if (l->n)
            memcpy(grown, l->items, l->n * sizeof *grown);
        l->items = grown;
        l->cap = cap;
    }
    struct json_member *members = arena_alloc(l->arena, MESSAGE_MEMBERS_MAX, sizeof *members);
    if (!members)
        return NULL;
    struct json *m = &l->items[l->n++];
    *m = (struct json){.kind = JSON_OBJECT, .members = members};
    message_set(m, "role", json_of_text(slice_of(role)));
    return m;
}

void message_set(struct json *message, const char *key, struct json value)
{
    if (message && message->count < MESSAGE_MEMBERS_MAX)
        message->members[message->count++] = (struct json_member){slice_of(key), value};
}

void message_add_call(struct arena *a, struct json *message, struct slice id, struct slice name,
                      struct json arguments, size_t n_max)
{
    if (!message)
        return;
    struct json *calls = json_member(message, "tool_calls");
    if (!calls) {
        struct json *fresh = json_new_array(a, n_max);
        if (!fresh)
            return;
        fresh->count = 0;
        message_set(message, "tool_calls", *fresh);
        calls = json_member(message, "tool_calls");
    }
    struct json *call = json_new_object(a, 3), *function = json_new_object(a, 2);
    if (!calls || !call || !function || calls->count == n_max)
        return;
    function->members[0] = (struct json_member){SLICE_LIT("name"), json_of_text(name)};
    function->members[1] = (struct json_member){SLICE_LIT("arguments"), arguments};
    call->members[0] = (struct json_member){SLICE_LIT("id"), json_of_text(id)};
    call->members[1] = (struct json_member){SLICE_LIT("type"), json_of_text(SLICE_LIT("function"))};
    call->members[2] = (struct json_member){SLICE_LIT("function"), *function};
    calls->items[calls->count++] = *call;
}

struct json *message_list_end(struct message_list *l)
{
    struct json *v = l->arena->failed ? NULL : json_new_array(l->arena, 0);
    if (v) {
        v->items = l->items;
        v->count = l->n;
    }
    return v;
}

struct place place(const char *fmt, ...)
{
    struct place p;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(p.text, sizeof p.text, fmt, ap);
    va_end(ap);
    return p;
}

struct slice text_of_buf(struct arena *a, struct buf *b)
{
    char *text = b->failed ? NULL : arena_text(a, buf_slice(b).ptr, b->len);
    struct slice out = {text ? text : "", text ? b->len : 0};
    if (b->failed) /* sticky, as any lack of memory of this request */
        a->failed = true;
    buf_clear(b);
    return out;
}

struct json tool_of(struct arena *a, const struct json *name, const struct json *description,
                    const struct json *parameters, const struct json *strict)
{
    struct json *tool = json_new_object(a, 2), *function = json_new_object(a, 4);
    if (!tool || !function)
        return (struct json){0};
    size_t n = 0;
    function->members[n++] = (struct json_member){SLICE_LIT("name"), *name};
    if (description)
        function->members[n++] = (struct json_member){SLICE_LIT("description"), *description};
    if (parameters)
        function->members[n++] = (struct json_member){SLICE_LIT("parameters"), *parameters};
    if (strict)
        function->members[n++] = (struct json_member){SLICE_LIT("strict"), *strict};
    function->count = n;
    tool->members[0] = (struct json_member){SLICE_LIT("type"), json_of_text(SLICE_LIT("function"))};
    tool->members[1] = (struct json_member){SLICE_LIT("function"), *function};
    return *tool;
}
