/* SPDX-License-Identifier: MIT
 * template_chat.c — variables, reasoning names, and where a continued message ends.
 * To continue, a mark is put behind the final content; after rendering everything from the mark on
 * is cut.  The mark ends in a blank: when the template trimmed that away, it trims contents, and
 * what is left before the mark is trimmed too. */
#include "template/template_chat.h"

#include <stdio.h>

#include "base/check.h"
#include "template/ast.h"
#include "template/unicode.h"

#define MARK "CONTINUE_FINAL_MESSAGE_TAG "

static const char *const reasoning_names[] = {"reasoning_content", "thinking", "reasoning"};

struct build {
    const struct template_chat *chat;
    struct arena arena;
    struct json *messages;   /* copies that may be changed; deeper values are the caller's */
    struct slice final_text; /* of the content to continue */
    struct err *err;
};

static enum status out_of_memory(struct build *b)
{
    return err_set(b->err, E_NOMEM, "messages: out of memory");
}

static struct json_member *find_member(struct json *object, const char *key)
{
    for (size_t i = 0; i < object->count; i++)
        if (slice_is(object->members[i].key, key))
            return &object->members[i];
    return NULL;
}

/* ---- reasoning ---- */

static const struct json *reasoning_of(const struct json *message)
{
    for (size_t i = 0; i < ARRAY_COUNT(reasoning_names); i++) {
        const struct json *v = json_get(message, reasoning_names[i]);
        if (v && v->kind != JSON_NULL)
            return v;
    }
    return NULL;
}

/* {"thinking": r, **message, "reasoning_content": r} */
static enum status copy_message(struct build *b, const struct json *from, struct json *to)
{
    const struct json *reasoning = reasoning_of(from);
    struct json_member *members = arena_alloc(&b->arena, from->count + 2, sizeof *members);
    size_t n = 0;
    if (!members)
        return out_of_memory(b);
    if (reasoning) {
        const struct json *thinking = json_get(from, "thinking");
        members[n++] =
            (struct json_member){SLICE_LIT("thinking"), thinking ? *thinking : *reasoning};
    }
    for (size_t i = 0; i < from->count; i++)
        if (!reasoning || !slice_is(from->members[i].key, "thinking"))
            members[n++] = from->members[i];
    *to = (struct json){.kind = JSON_OBJECT, .count = n, .members = members};
    if (!reasoning)
        return OK;
    struct json_member *standard = find_member(to, "reasoning_content");
    if (!standard) {
        standard = &members[to->count++];
        standard->key = SLICE_LIT("reasoning_content");
    }
    standard->value = *reasoning;
    return OK;
}

static enum status copy_messages(struct build *b)
{
    const struct json *from = b->chat->messages;
    if (!from || from->kind != JSON_ARRAY)
        return err_set(b->err, E_INVALID, "messages must be an array");
    b->messages = json_new_array(&b->arena, from->count);
    if (!b->messages)
        return out_of_memory(b);
    for (size_t i = 0; i < from->count; i++) {
        if (from->items[i].kind != JSON_OBJECT)
            return err_set(b->err, E_INVALID, "message %zu is not an object", i);
        enum status st = copy_message(b, &from->items[i], &b->messages->items[i]);
        if (st != OK)
            return st;
    }
    return OK;
}

/* ---- the mark ---- */

static enum status mark_text(struct build *b, struct json *v)
{
    if (v->kind != JSON_STRING)
        return err_set(b->err, E_INVALID, "the final message's content is not text to continue");
    size_t len = v->text.len + sizeof MARK - 1;
    char *text = arena_alloc(&b->arena, len + 1, 1);
    if (!text)
        return out_of_memory(b);
    b->final_text = v->text;
    if (v->text.len)
        memcpy(text, v->text.ptr, v->text.len);
    memcpy(text + v->text.len, MARK, sizeof MARK - 1);
    v->text = (struct slice){text, len};
    return OK;
}

/* The last part that has a text. */
static enum status mark_parts(struct build *b, struct json *parts)
{
    struct json *copy = json_new_array(&b->arena, parts->count);
    if (!copy)
        return out_of_memory(b);
    if (parts->count)
        memcpy(copy->items, parts->items, parts->count * sizeof *copy->items);
    *parts = *copy;
    for (size_t i = parts->count; i-- > 0;) {
        struct json *part = &parts->items[i];
        if (!json_get(part, "text"))
            continue;
        struct json_member *members = arena_alloc(&b->arena, part->count, sizeof *members);
        if (!members)
            return out_of_memory(b);
        memcpy(members, part->members, part->count * sizeof *members);
        part->members = members;
        return mark_text(b, &find_member(part, "text")->value);
    }
    return err_set(b->err, E_INVALID, "the final message has no text to continue");
}

static enum status mark_final_message(struct build *b, const struct template *t)
{
    if (b->messages->count == 0)
        return err_set(b->err, E_INVALID, "there is no final message to continue");
    struct json_member *content =
        find_member(&b->messages->items[b->messages->count - 1], "content");
    if (!content || content->value.kind == JSON_NULL)
        return err_set(b->err, E_INVALID, "the final message has no content to continue");
    if (!memmem(t->source.ptr, t->source.len, "content", 7))
        return err_set(b->err, E_INVALID, "the template does not use a message's content");
    return content->value.kind == JSON_ARRAY ? mark_parts(b, &content->value)
                                             : mark_text(b, &content->value);
}

static const char *find_last(struct slice s, struct slice what)
{
    for (size_t at = s.len + 1; at-- > 0;)
        if (s.len - at >= what.len && memcmp(s.ptr + at, what.ptr, what.len) == 0)
            return s.ptr + at;
    return NULL;
}

static enum status cut_at_mark(struct build *b, struct slice *text)
{
    struct slice mark = SLICE_LIT(MARK), trimmed = {MARK, sizeof MARK - 2};
    struct slice final_text = unicode_strip(b->final_text, true, true);
    const char *at = find_last(*text, trimmed);
    if (!at || !memmem(text->ptr, text->len, final_text.ptr, final_text.len))
        return err_set(b->err, E_INVALID,
                       "the template leaves out the final message, so that it can't be continued");
    struct slice rest = {at, text->len - (size_t)(at - text->ptr)};
    text->len = (size_t)(at - text->ptr);
    if (!slice_starts(rest, mark))
        *text = unicode_strip(*text, false, true);
    return OK;
}

/* ---- variables ---- */

static bool is_own_name(struct slice name)
{
    return slice_is(name, "messages") || slice_is(name, "tools") || slice_is(name, "documents") ||
           slice_is(name, "add_generation_prompt");
}

static struct json *build_variables(struct build *b)
{
    const struct template_chat *c = b->chat;
    static const struct json null = {.kind = JSON_NULL};
    size_t extra = c->variables && c->variables->kind == JSON_OBJECT ? c->variables->count : 0,
           n = 0;
    struct json *v = json_new_object(&b->arena, extra + 4);
    if (!v)
        return NULL;
    v->members[n++] = (struct json_member){SLICE_LIT("messages"), *b->messages};
    v->members[n++] = (struct json_member){SLICE_LIT("tools"), c->tools ? *c->tools : null};
    v->members[n++] =
        (struct json_member){SLICE_LIT("documents"), c->documents ? *c->documents : null};
    v->members[n++] =
        (struct json_member){SLICE_LIT("add_generation_prompt"),
                             {.kind = JSON_BOOL, .boolean = c->add_generation_prompt}};
    for (size_t i = 0; i < extra; i++)
        if (!is_own_name(c->variables->members[i].key))
            v->members[n++] = c->variables->members[i];
    v->count = n;
    return v;
}

static enum status render(struct build *b, const struct template *t, struct buf *out)
{
    struct json *variables = build_variables(b);
    if (!variables)
        return out_of_memory(b);
    if (!b->chat->continue_final_message)
        return template_render(t, variables, b->chat->now, out, b->err);
    struct buf whole;
    buf_init(&whole, TEMPLATE_OUTPUT_MAX);
    enum status st = template_render(t, variables, b->chat->now, &whole, b->err);
    struct slice text = buf_slice(&whole);
    if (st == OK)
        st = cut_at_mark(b, &text);
    if (st == OK) {
        buf_add_slice(out, text);
        if (out->failed)
            st = err_set(b->err, E_LIMIT, "the prompt is too large");
    }
    buf_release(&whole);
    return st;
}

enum status template_render_chat(const struct template *t, const struct template_chat *chat,
                                 struct buf *out, struct err *e)
{
    struct build b = {.chat = chat, .err = e};
    arena_init(&b.arena, TEMPLATE_MEMORY_MAX);
    enum status st = copy_messages(&b);
    if (st == OK && chat->continue_final_message)
        st = mark_final_message(&b, t);
    if (st == OK)
        st = render(&b, t, out);
    arena_release(&b.arena);
    return st;
}
