/* SPDX-License-Identifier: MIT
 * shared.c — where prompts with the same system text and tools part: before the first user's words.
 * Many templates end the system text as a turn of its own; others (Gemma's, skald's) write it into
 * the first user's turn, and no token says where it ends.  So the template is asked: the prompt is
 * rendered up to that turn with other words in it, and what both texts begin with is shared.
 * Only windowed layers need to know: they can be resumed at chosen places only (cache.h). */
#include "engine/engine_int.h"

#define OTHER_WORDS      "\x02" /* begins as no user's words do */
#define SHARED_BYTES_MAX (64u << 20)

static bool has_windows(const struct engine *g)
{
    for (uint32_t i = 0; i < g->model_info->n_groups; i++)
        if (g->model_info->groups[i].window)
            return true;
    return false;
}

static size_t first_user(const struct json *messages)
{
    size_t i = 0;
    for (; i < messages->count; i++) {
        const struct json *role = json_get(&messages->items[i], "role");
        if (role && role->kind == JSON_STRING && slice_is(role->text, "user"))
            break;
    }
    return i;
}

/* The messages up to the first user's, which has other words; NULL: no memory. */
static struct json *with_other_words(const struct json *messages, size_t user, struct arena *a)
{
    struct json *some = json_new_array(a, user + 1);
    const struct json *was = &messages->items[user];
    struct json *message = json_new_object(a, was->count);
    if (!some || !message)
        return NULL;
    memcpy(some->items, messages->items, user * sizeof *some->items);
    memcpy(message->members, was->members, was->count * sizeof *was->members);
    for (size_t i = 0; i < was->count; i++)
        if (slice_is(was->members[i].key, "content"))
            message->members[i].value =
                (struct json){.kind = JSON_STRING, .text = SLICE_LIT(OTHER_WORDS)};
    some->items[user] = *message;
    return some;
}

static size_t common_bytes(struct slice a, struct slice b)
{
    size_t n = a.len < b.len ? a.len : b.len, i = 0;
    while (i < n && a.ptr[i] == b.ptr[i])
        i++;
    return i;
}

void prompt_find_shared(struct engine *g, const struct engine_request *r, struct slice text,
                        struct prompt *p)
{
    size_t user = first_user(r->messages);
    bool has_header = user > 0 || (r->tools && r->tools->count > 0);
    if (p->is_shared_known || !has_windows(g) || !has_header || user == r->messages->count)
        return;
    struct arena a;
    struct buf probe;
    struct err e;
    struct engine_request other = *r;
    arena_init(&a, SHARED_BYTES_MAX);
    buf_init(&probe, SHARED_BYTES_MAX);
    other.messages = with_other_words(r->messages, user, &a);
    other.add_generation_prompt = other.continue_final_message = false;
    /* A template that refuses such a chat leaves the place unknown: the cache learns it when a
     * second prompt parts there. */
    if (other.messages && engine_render(g, &other, &probe, &e) == OK && !probe.failed) {
        uint32_t n = memo_tokens_within(g->memo, text, p->tokens.ids, (uint32_t)p->tokens.count,
                                        common_bytes(text, buf_slice(&probe)));
        p->n_shared = n >= KV_PAGE_TOKENS ? n : 0;
        p->is_shared_known = true;
        memo_note_shared(g->memo, p);
    }
    buf_release(&probe);
    arena_release(&a);
}
