/* SPDX-License-Identifier: MIT
 * keep.c — a turn that has a name, or is a stored response, goes to its session when it ended.
 * On a thread of its own: it waits for the disk, and the last event of the job waits with it, so
 * that whoever was told "done" finds it there, also after a power cut. */
#include "engine/engine_int.h"

bool keep_wants(const struct engine *g, const struct job *job)
{
    const struct engine_request *r = job->request;
    if (!home_keeps(g->home) || job->n_choices == 0 || !job->is_prompt_done)
        return false;
    if (r->wants_vector)
        return false;
    return r->session.len > 0 || (r->response.len > 0 && !job->is_cancelled);
}

void keep_take(struct engine *g, struct job *job)
{
    enum status st = ring_try_push(g->turns, job);
    CHECK(st ==
          OK); /* it holds as many as may be open, and is closed after the engine thread ended */
}

/* ---- where messages end ---- */
struct boundaries {
    struct engine *g;
    const struct engine_request *request;
    const struct token_list *tokens;
};

/* Behind the n-th end-of-turn token; 0: there are fewer. */
static uint32_t nth_end(const struct boundaries *b, uint32_t n)
{
    for (size_t i = 0; n > 0 && i < b->tokens->count; i++)
        if (tokenizer_is_end(b->g->tokenizer, b->tokens->ids[i]) && --n == 0)
            return (uint32_t)i + 1;
    return 0;
}

/* The first n messages, rendered alone, have as many ends of turns as they have in the whole. */
static uint32_t end_of(void *arg, uint32_t n)
{
    const struct boundaries *b = arg;
    struct json some = *b->request->messages;
    struct engine_request head = *b->request;
    struct buf text;
    struct err e;
    some.count = n;
    head.messages = &some;
    head.add_generation_prompt = head.continue_final_message = false;
    buf_init(&text, SESSION_JSON_MAX);
    uint32_t at = 0;
    if (engine_render(b->g, &head, &text, &e) == OK && !text.failed)
        at = nth_end(b, memo_count_ends(b->g->memo, buf_slice(&text)));
    buf_release(&text);
    return at;
}

/* ---- the thread ---- */
static enum status keep(struct engine *g, struct job *job, struct err *e)
{
    const struct engine_request *r = job->request;
    const struct choice *c = &job->choices[0];
    struct boundaries b = {g, r, &c->tokens};
    bool is_chat = r->kind == PROMPT_CHAT;
    const struct session_turn turn = {
        .tenant = r->tenant,
        .name = r->session,
        .response = job->is_cancelled ? (struct slice){0} : r->response,
        .previous = r->previous,
        .tokens = c->tokens.ids,
        .n_tokens = (uint32_t)c->tokens.count,
        .messages = is_chat ? r->messages : NULL,
        .reply = buf_slice(&c->stream.text),
        .has_reply = is_chat,
        .end_of = is_chat ? end_of : NULL,
        .arg = &b,
        .origin = {.root = g->root,
                   .model = g->info.model_name,
                   .kv_type = kv_type_name(g->options.kv_type),
                   .digest = g->info.model_identity},
    };
    return sessions_keep(g->sessions, &turn, e);
}

void keep_thread(void *arg)
{
    struct engine *g = arg;
    struct job *job;
    while ((job = ring_pop(g->turns, -1)) != NULL) {
        struct err e = {0};
        enum status st = keep(g, job, &e);
        if (st != OK)
            log_warn("engine", "a turn was not kept: %s", e.msg);
        if (st != OK && job->request->response.len > 0)
            job_fail(g, job, &e); /* "stored" would be a lie */
        else
            job_done(g, job);
    }
}
