/* SPDX-License-Identifier: MIT
 * turns.c — by which key a turn is known again when the client sends it back.
 *   With tool calls: by their ids, which are random and come back as they are, whatever the client
 *   does to the arguments.
 *   Without, where the template knows reasoning: by the conversation as the client sees it (roles,
 *   texts without blanks around them, ids) up to and with the turn.  Reasoning is left out: clients
 *   drop it, and so do templates. */
#include "api/api_int.h"
#include "api/turn_int.h"

static struct slice trimmed(struct slice s)
{
    while (s.len && turn_is_blank(s.ptr[s.len - 1]))
        s.len--;
    size_t at = turn_skip_blanks(s, 0);
    return turn_from(s, at);
}

static struct slice text_of(const struct json *v)
{
    return v && v->kind == JSON_STRING ? v->text : (struct slice){"", 0};
}

static void add_text(struct digester *d, const char *tag, struct slice text)
{
    text = trimmed(text);
    digest_field(d, tag, text.ptr, text.len);
}

static struct digest key_of_text(struct digester *d, const struct digest *before, struct slice text)
{
    digest_begin(d);
    digest_field(d, "kvasir turn behind", before->b, sizeof before->b);
    add_text(d, "text", text);
    return digest_end(d);
}

static const struct json *calls_of(const struct json *message)
{
    const struct json *calls = json_get(message, "tool_calls");
    return calls && calls->kind == JSON_ARRAY && calls->count > 0 ? calls : NULL;
}

/* False: some call has no id. */
static bool key_of_calls(struct digester *d, const struct json *calls, struct digest *key)
{
    bool has_all = true;
    digest_begin(d);
    for (size_t i = 0; i < calls->count; i++) {
        struct slice id = text_of(json_get(&calls->items[i], "id"));
        has_all = has_all && id.len > 0;
        digest_field(d, "kvasir call", id.ptr, id.len);
    }
    *key = digest_end(d);
    return has_all;
}

static void go_on(struct digester *d, struct digest *at, const struct json *message)
{
    const struct json *calls = calls_of(message);
    digest_begin(d);
    digest_field(d, "kvasir behind", at->b, sizeof at->b);
    add_text(d, "role", text_of(json_get(message, "role")));
    add_text(d, "content", text_of(json_get(message, "content")));
    add_text(d, "answers", text_of(json_get(message, "tool_call_id")));
    for (size_t i = 0; calls && i < calls->count; i++)
        add_text(d, "call", text_of(json_get(&calls->items[i], "id")));
    *at = digest_end(d);
}

void read_turns(struct api_call *c, struct engine_request *r)
{
    struct digester d = {0};
    size_t n = r->messages->count;
    struct engine_turn *turns = arena_alloc(&r->arena, n ? n : 1, sizeof *turns);
    /* A message that is being continued is no turn. */
    size_t n_whole = r->continue_final_message && n ? n - 1 : n;
    digest_begin(&d);
    digest_field(&d, "kvasir conversation", c->previous.ptr, c->previous.len);
    c->conversation = digest_end(&d);
    for (size_t i = 0; turns && i < n; i++) {
        const struct json *m = &r->messages->items[i], *calls = calls_of(m);
        struct engine_turn *t = &turns[r->n_turns];
        bool is_reply = json_is_text(json_get(m, "role"), "assistant") && i < n_whole;
        t->from_end = (uint32_t)(n - i);
        if (is_reply && calls) {
            r->n_turns += key_of_calls(&d, calls, &t->key);
        } else if (is_reply && c->format.has_reasoning) {
            t->key = key_of_text(&d, &c->conversation, text_of(json_get(m, "content")));
            r->n_turns++;
        }
        if (c->format.has_reasoning)
            go_on(&d, &c->conversation, m);
    }
    r->turns = turns;
    c->keeps_turns = !r->continue_final_message;
    digester_release(&d);
}

bool api_call_keeps_turns(const struct api_call *c)
{
    return c->keeps_turns && (c->finds_tools || c->format.has_reasoning);
}

bool api_call_turn_key(const struct api_call *c, uint32_t prompt, uint32_t index,
                       struct digest *key)
{
    const struct api_choice *choice = &c->choices[prompt * c->n_per_prompt + index];
    struct digester d = {0};
    struct buf text;
    if (choice->has_failed || choice->is_call_dropped ||
        (choice->n_calls == 0 && !c->format.has_reasoning))
        return false;
    buf_init(&text, API_REPLY_BYTES_MAX);
    digest_begin(&d);
    for (uint32_t i = 0; i < choice->n_items; i++) {
        const struct api_item *item = &choice->items[i];
        if (item->kind == ITEM_CALL)
            digest_field(&d, "kvasir call", item->id, strlen(item->id));
        else if (item->kind == ITEM_TEXT)
            buf_add_slice(&text, buf_slice(&item->text));
    }
    *key = digest_end(&d);
    if (choice->n_calls == 0)
        *key = key_of_text(&d, &c->conversation, buf_slice(&text));
    bool ok = !text.failed;
    buf_release(&text);
    digester_release(&d);
    return ok;
}
