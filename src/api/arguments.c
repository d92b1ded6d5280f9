/* SPDX-License-Identifier: MIT
 * arguments.c — the arguments of earlier calls, in the form that the model's template takes.
 * OpenAI's clients send them as a string of JSON, Ollama's and Anthropic's as an object.  A
 * template that writes them with tojson, or goes through them, wants an object: a string would be
 * quoted once more.  One that puts them between other strings wants a string.  One that asks what
 * they are takes both. */
#include "api/messages.h"

enum wish { AS_THEY_ARE, AS_OBJECT, AS_TEXT };

static struct slice skip(struct slice s, const char *set)
{
    while (s.len && s.ptr[0] && strchr(set, s.ptr[0]))
        s = (struct slice){s.ptr + 1, s.len - 1};
    return s;
}

/* What stands behind one mention of them. */
static enum wish wish_at(struct slice behind, bool *asks)
{
    struct slice s = skip(behind, "'\"])");
    if (slice_starts(s, SLICE_LIT(".items")))
        return AS_OBJECT;
    s = skip(s, " ");
    if (slice_starts(s, SLICE_LIT("is string")) || slice_starts(s, SLICE_LIT("is mapping")) ||
        slice_starts(s, SLICE_LIT("is not string")) || slice_starts(s, SLICE_LIT("is not mapping")))
        *asks = true;
    if (slice_starts(s, SLICE_LIT("|"))) {
        s = skip(s, "| ");
        return slice_starts(s, SLICE_LIT("tojson")) || slice_starts(s, SLICE_LIT("items"))
                   ? AS_OBJECT
                   : AS_THEY_ARE;
    }
    s = skip(s, ")");
    bool is_joined = slice_starts(s, SLICE_LIT("+")) || slice_starts(s, SLICE_LIT("~")) ||
                     slice_starts(s, SLICE_LIT("}}")) || slice_starts(s, SLICE_LIT("-}}"));
    return is_joined ? AS_TEXT : AS_THEY_ARE;
}

static enum wish wish_of(struct slice source)
{
    static const struct slice word = {"arguments", 9};
    bool asks = false, has_object = false, has_text = false;
    for (const char *at; source.len && (at = memmem(source.ptr, source.len, word.ptr, word.len));) {
        size_t used = (size_t)(at - source.ptr) + word.len;
        source = (struct slice){source.ptr + used, source.len - used};
        enum wish wish = wish_at(source, &asks);
        has_object |= wish == AS_OBJECT;
        has_text |= wish == AS_TEXT;
    }
    return asks ? AS_THEY_ARE : has_object ? AS_OBJECT : has_text ? AS_TEXT : AS_THEY_ARE;
}

/* What is no JSON stays a string: the template sees what the client sent. */
static void to_object(struct arena *a, struct json *v)
{
    struct json *parsed = NULL;
    struct err e;
    if (v->kind == JSON_STRING && json_parse(v->text, a, &parsed, &e) == OK &&
        parsed->kind == JSON_OBJECT)
        *v = *parsed;
}

static void to_text(struct arena *a, struct json *v)
{
    struct buf b;
    if (v->kind != JSON_OBJECT)
        return;
    buf_init(&b, JSON_BYTES_MAX);
    json_write(&b, v, (struct json_style){0});
    *v = json_of_text(text_of_buf(a, &b));
    buf_release(&b);
}

void shape_arguments(const struct api_context *context, struct engine_request *r)
{
    enum wish wish = wish_of(context->template_source);
    const struct json *all = r->messages;
    for (size_t i = 0; wish != AS_THEY_ARE && all && i < all->count; i++) {
        struct json *calls =
            all->items[i].kind == JSON_OBJECT ? json_member(&all->items[i], "tool_calls") : NULL;
        for (size_t j = 0; calls && calls->kind == JSON_ARRAY && j < calls->count; j++) {
            struct json *call = &calls->items[j], *function;
            if (call->kind != JSON_OBJECT)
                continue;
            function = json_member(call, "function");
            struct json *arguments = function && function->kind == JSON_OBJECT
                                         ? json_member(function, "arguments")
                                         : NULL;
            if (arguments && wish == AS_OBJECT)
                to_object(&r->arena, arguments);
            else if (arguments)
                to_text(&r->arena, arguments);
        }
    }
}
