/* SPDX-License-Identifier: MIT
 * reply.c — events → bytes: chunks of a stream as they come, or one JSON body at the end.
 * Both ways see the same pieces (content, tool call, end), so that a stream adds up to the whole.
 * The last choice's end waits for EVENT_DONE: its chunk carries what the request cost, unless the
 * client asked for a chunk of its own (stream_options.include_usage). */
#include <stdio.h>

#include "api/api_int.h"
#include "base/check.h"

/* ---- chunks ---- */
static void begin_chunk(struct api_call *c, struct json_writer *w)
{
    buf_clear(&c->chunk);
    buf_add_slice(&c->chunk, buf_slice(&c->head));
    jw_init(w, &c->chunk);
    /* The head is an object that has members and is still open. */
    w->depth = 1;
    w->has_item[0] = true;
    jw_key(w, "choices");
    jw_begin_array(w);
}

static void end_chunk(struct api_call *c, struct json_writer *w, const struct engine_usage *u,
                      struct buf *out)
{
    jw_end_array(w);
    if (u)
        write_usage(w, c, u);
    else if (c->wants_usage) {
        jw_key(w, "usage");
        jw_null(w);
    }
    jw_end_object(w);
    buf_add_text(out, "data: ");
    buf_add_slice(out, buf_slice(&c->chunk));
    buf_add_text(out, "\n\n");
    if (c->chunk.failed)
        out->failed = true;
}

static void begin_choice(struct json_writer *w, const struct api_call *c, uint32_t index)
{
    jw_begin_object(w);
    jw_key(w, "index");
    jw_int(w, index);
    if (c->dialect == API_CHAT) {
        jw_key(w, "delta");
        jw_begin_object(w);
    }
}

static void end_choice(struct json_writer *w, struct api_call *c, uint32_t index,
                       const char *finish)
{
    if (c->dialect == API_CHAT)
        jw_end_object(w);
    logprobs_write(w, c, &c->choices[index]);
    jw_key(w, "finish_reason");
    jw_text(w, finish);
    jw_end_object(w);
}

static void chunk_role(struct api_call *c, uint32_t index, struct buf *out)
{
    struct json_writer w;
    begin_chunk(c, &w);
    begin_choice(&w, c, index);
    jw_key(&w, "role");
    jw_text(&w, "assistant");
    jw_key(&w, "content");
    jw_text(&w, "");
    end_choice(&w, c, index, NULL);
    end_chunk(c, &w, NULL, out);
}

static void chunk_content(struct api_call *c, uint32_t index, struct slice text, struct buf *out)
{
    struct json_writer w;
    begin_chunk(c, &w);
    begin_choice(&w, c, index);
    jw_key(&w, c->dialect == API_CHAT ? "content" : "text");
    jw_string(&w, text);
    end_choice(&w, c, index, NULL);
    end_chunk(c, &w, NULL, out);
}

/* One tool call as an object; index < 0: whole replies have none. */
static void write_call(struct json_writer *w, const struct api_call *c, uint32_t choice,
                       uint32_t number, const struct tool_text_item *item, bool has_index)
{
    char id[64];
    const char *tail = strchr(c->id, '-') + 1;
    snprintf(id, sizeof id, "call_%s%02x%04x", tail, choice, number);
    jw_begin_object(w);
    if (has_index) {
        jw_key(w, "index");
        jw_int(w, number);
    }
    jw_key(w, "id");
    jw_text(w, id);
    jw_key(w, "type");
    jw_text(w, "function");
    jw_key(w, "function");
    jw_begin_object(w);
    jw_key(w, "name");
    jw_string(w, item->name);
    jw_key(w, "arguments");
    jw_string(w, item->arguments);
    jw_end_object(w);
    jw_end_object(w);
}

static void chunk_call(struct api_call *c, uint32_t index, const struct tool_text_item *item,
                       struct buf *out)
{
    struct json_writer w;
    begin_chunk(c, &w);
    begin_choice(&w, c, index);
    jw_key(&w, "tool_calls");
    jw_begin_array(&w);
    write_call(&w, c, index, c->choices[index].n_calls, item, true);
    jw_end_array(&w);
    end_choice(&w, c, index, NULL);
    end_chunk(c, &w, NULL, out);
}

static void chunk_finish(struct api_call *c, uint32_t index, const struct engine_usage *u,
                         struct buf *out)
{
    struct json_writer w;
    begin_chunk(c, &w);
    begin_choice(&w, c, index);
    if (c->dialect == API_TEXT) {
        jw_key(&w, "text");
        jw_text(&w, "");
    }
    end_choice(&w, c, index, c->choices[index].finish);
    end_chunk(c, &w, u, out);
}

static void chunk_usage(struct api_call *c, const struct engine_usage *u, struct buf *out)
{
    struct json_writer w;
    begin_chunk(c, &w);
    end_chunk(c, &w, u, out);
}

/* ---- pieces ---- */
static void put_content(struct api_call *c, uint32_t index, struct slice text, struct buf *out)
{
    struct api_choice *choice = &c->choices[index];
    if (text.len == 0)
        return;
    if (c->is_stream)
        chunk_content(c, index, text, out);
    else
        buf_add_slice(&choice->text, text);
}

static void put_call(struct api_call *c, uint32_t index, const struct tool_text_item *item,
                     struct buf *out)
{
    struct api_choice *choice = &c->choices[index];
    if (c->is_stream) {
        chunk_call(c, index, item, out);
    } else {
        struct json_writer w;
        if (choice->n_calls)
            buf_add_char(&choice->calls, ',');
        jw_init(&w, &choice->calls);
        write_call(&w, c, index, choice->n_calls, item, false);
    }
    choice->n_calls++;
}

static void put_text(struct api_call *c, uint32_t index, struct slice text, bool is_end,
                     struct buf *out)
{
    struct api_choice *choice = &c->choices[index];
    choice->text_bytes += text.len;
    if (!c->finds_tools) {
        put_content(c, index, text, out);
        return;
    }
    tool_text_feed(&choice->tools, text);
    for (;;) {
        struct tool_text_item item = tool_text_next(&choice->tools, is_end);
        if (item.kind == TOOL_TEXT_NOTHING)
            break;
        if (item.kind == TOOL_TEXT_CONTENT)
            put_content(c, index, item.content, out);
        else
            put_call(c, index, &item, out);
    }
}

/* ---- events ---- */
/* On a stream the role goes ahead of the prefill, so that the client sees life. */
static void on_started(struct api_call *c, struct buf *out)
{
    if (c->is_stream_begun)
        return;
    c->is_stream_begun = true;
    for (uint32_t i = 0; i < c->n_choices; i++) {
        c->choices[i].is_started = true;
        if (c->is_stream && c->dialect == API_CHAT)
            chunk_role(c, i, out);
        if (c->echo.len)
            put_content(c, i, c->echo, out);
        c->choices[i].text_bytes = c->echo.len;
    }
}

/* llama-server's shape: processed counts what was reused too, time_ms what is computed now. */
static void on_progress(struct api_call *c, const struct engine_event *ev, struct buf *out)
{
    struct json_writer w;
    if (!c->is_stream || !c->wants_progress)
        return;
    begin_chunk(c, &w);
    jw_end_array(&w);
    jw_key(&w, "prompt_progress");
    jw_begin_object(&w);
    jw_key(&w, "total");
    jw_int(&w, ev->total);
    jw_key(&w, "cache");
    jw_int(&w, ev->usage->memory_tokens + ev->usage->disk_tokens);
    jw_key(&w, "processed");
    jw_int(&w, ev->done);
    jw_key(&w, "time_ms");
    jw_double(&w, ev->usage->prefill_ms);
    jw_end_object(&w);
    jw_end_object(&w);
    buf_add_text(out, "data: ");
    buf_add_slice(out, buf_slice(&c->chunk));
    buf_add_text(out, "\n\n");
    if (c->chunk.failed)
        out->failed = true;
}

static const char *finish_name(const struct api_choice *choice, enum finish_reason reason)
{
    if (reason == FINISH_LENGTH)
        return "length";
    return choice->n_calls ? "tool_calls" : "stop";
}

static void on_finished(struct api_call *c, const struct engine_event *ev, struct buf *out)
{
    struct api_choice *choice = &c->choices[ev->choice];
    if (choice->is_finished || ev->finish == FINISH_CANCELLED)
        return;
    put_text(c, ev->choice, ev->text, true, out);
    choice->is_finished = true;
    choice->finish = finish_name(choice, ev->finish);
    if (--c->n_unfinished == 0)
        c->last_choice = ev->choice;
    else if (c->is_stream)
        chunk_finish(c, ev->choice, NULL, out);
}

static void end_stream(struct api_call *c, const struct engine_usage *u, struct buf *out)
{
    chunk_finish(c, c->last_choice, c->wants_usage ? NULL : u, out);
    if (c->wants_usage)
        chunk_usage(c, u, out);
    buf_add_text(out, "data: [DONE]\n\n");
}

/* ---- whole replies ---- */
static void write_message(struct json_writer *w, struct api_choice *choice)
{
    jw_key(w, "message");
    jw_begin_object(w);
    jw_key(w, "role");
    jw_text(w, "assistant");
    jw_key(w, "content");
    if (choice->n_calls && choice->text.len == 0)
        jw_null(w);
    else
        jw_string(w, buf_slice(&choice->text));
    if (choice->n_calls) {
        jw_key(w, "tool_calls");
        jw_begin_array(w);
        jw_raw(w, buf_slice(&choice->calls));
        jw_end_array(w);
    }
    jw_end_object(w);
}

static void write_whole(struct api_call *c, const struct engine_usage *u, struct buf *out)
{
    struct json_writer w;
    begin_chunk(c, &w);
    for (uint32_t i = 0; i < c->n_choices; i++) {
        jw_begin_object(&w);
        jw_key(&w, "index");
        jw_int(&w, i);
        if (c->dialect == API_CHAT) {
            write_message(&w, &c->choices[i]);
        } else {
            jw_key(&w, "text");
            jw_string(&w, buf_slice(&c->choices[i].text));
        }
        logprobs_write(&w, c, &c->choices[i]);
        jw_key(&w, "finish_reason");
        jw_text(&w, c->choices[i].finish);
        jw_end_object(&w);
    }
    jw_end_array(&w);
    write_usage(&w, c, u);
    jw_end_object(&w);
    buf_add_slice(out, buf_slice(&c->chunk));
    buf_add_char(out, '\n');
    if (c->chunk.failed)
        out->failed = true;
}

static bool has_failed(const struct api_call *c)
{
    for (uint32_t i = 0; i < c->n_choices; i++) {
        const struct api_choice *choice = &c->choices[i];
        if (choice->text.failed || choice->calls.failed || choice->logprobs.failed ||
            choice->tools.held.failed || choice->more_logprobs[0].failed)
            return true;
    }
    return false;
}

enum status api_reply_event(struct api_call *c, const struct engine_event *ev, struct buf *out)
{
    switch (ev->kind) {
    case EVENT_STARTED:
        on_started(c, out);
        break;
    case EVENT_TEXT:
        CHECK(ev->choice < c->n_choices);
        logprobs_add(c, &c->choices[ev->choice], ev);
        put_text(c, ev->choice, ev->text, false, out);
        break;
    case EVENT_FINISHED:
        CHECK(ev->choice < c->n_choices);
        on_finished(c, ev, out);
        break;
    case EVENT_DONE:
        if (c->n_unfinished > 0 || has_failed(c))
            break; /* cancelled */
        if (c->is_stream)
            end_stream(c, ev->usage, out);
        else
            write_whole(c, ev->usage, out);
        break;
    case EVENT_PROGRESS:
        on_progress(c, ev, out);
        break;
    case EVENT_ERROR:
        break;
    }
    return out->failed || has_failed(c) ? E_LIMIT : OK;
}

void api_reply_error(struct api_call *c, const struct api_error *error, struct buf *out)
{
    (void)c;
    buf_add_text(out, "data: ");
    api_error_write(out, error);
    buf_add_text(out, "\n\n");
}
