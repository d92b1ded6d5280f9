/* SPDX-License-Identifier: MIT
 * openai_chat_reply.c — replies of /v1/chat/completions, and what /v1/completions shares with them.
 * On a stream the role goes ahead of the prefill, so that the client sees life.  The cost rides on
 * the last choice's end, unless the client asked for a chunk of its own
 * (stream_options.include_usage). */
#include "api/api_int.h"

void openai_head(struct api_call *c, struct buf *head, const char *object)
{
    struct json_writer w;
    jw_init(&w, head);
    jw_begin_object(&w);
    jw_key(&w, "id");
    jw_text(&w, c->id);
    jw_key(&w, "object");
    jw_text(&w, object);
    jw_key(&w, "created");
    jw_int(&w, c->created_unix_s);
    jw_key(&w, "model");
    jw_string(&w, c->model);
    jw_key(&w, "system_fingerprint");
    jw_text(&w, "kvasir-" KVASIR_VERSION);
}

void openai_send(struct api_call *c, struct json_writer *w, bool has_usage, struct buf *out)
{
    jw_end_array(w); /* choices */
    if (has_usage) {
        write_usage(w, c, &c->usage);
        if (c->dialect->extra)
            c->dialect->extra(w, c);
    } else if (c->wants_usage) {
        jw_key(w, "usage");
        jw_null(w);
    }
    if (!has_usage)
        write_timings_so_far(w, c);
    jw_end_object(w);
    chunk_send(c, out);
}

void openai_usage_chunk(struct api_call *c, struct buf *out)
{
    struct json_writer w;
    chunk_begin(c, &w);
    jw_key(&w, "choices");
    jw_begin_array(&w);
    openai_send(c, &w, true, out);
}

/* llama-server's shape: processed counts what was reused too, time_ms what is computed now. */
void write_prompt_progress(struct json_writer *w, const struct engine_event *ev)
{
    jw_key(w, "prompt_progress");
    jw_begin_object(w);
    jw_key(w, "total");
    jw_int(w, ev->total);
    jw_key(w, "cache");
    jw_int(w, (int64_t)ev->usage->memory_tokens + ev->usage->disk_tokens);
    jw_key(w, "processed");
    jw_int(w, ev->done);
    jw_key(w, "time_ms");
    jw_double(w, ev->usage->prefill_ms);
    jw_end_object(w);
}

void openai_progress(struct api_call *c, const struct engine_event *ev, struct buf *out)
{
    struct json_writer w;
    chunk_begin(c, &w);
    jw_key(&w, "choices");
    jw_begin_array(&w);
    jw_end_array(&w);
    write_prompt_progress(&w, ev);
    jw_end_object(&w);
    chunk_send(c, out);
}

const char *openai_finish(const struct api_choice *choice)
{
    if (choice->finish == FINISH_LENGTH)
        return "length";
    return choice->n_calls ? "tool_calls" : "stop";
}

void openai_stream_error(struct api_call *c, const struct api_error *error, struct buf *out)
{
    (void)c;
    buf_add_text(out, "data: ");
    openai_error(out, error);
    buf_add_text(out, "\n\n");
}

void openai_whole(struct api_call *c, struct json_writer *w, struct buf *out)
{
    jw_end_array(w);
    write_usage(w, c, &c->usage);
    if (c->dialect->extra)
        c->dialect->extra(w, c);
    jw_end_object(w);
    buf_add_slice(out, buf_slice(&c->chunk));
    buf_add_char(out, '\n');
    if (c->chunk.failed)
        out->failed = true;
}

/* ---- chunks ---- */
static void head(struct api_call *c, struct buf *out)
{
    openai_head(c, out, c->is_stream ? "chat.completion.chunk" : "chat.completion");
}

static void begin_delta(struct api_call *c, struct json_writer *w, const struct api_choice *choice)
{
    chunk_begin(c, w);
    jw_key(w, "choices");
    jw_begin_array(w);
    jw_begin_object(w);
    jw_key(w, "index");
    jw_int(w, choice->index);
    jw_key(w, "delta");
    jw_begin_object(w);
}

static void end_delta(struct api_call *c, struct json_writer *w, struct api_choice *choice,
                      const char *finish, bool has_usage, struct buf *out)
{
    jw_end_object(w);
    logprobs_write_chat(w, c, choice);
    jw_key(w, "finish_reason");
    jw_text(w, finish);
    jw_end_object(w);
    openai_send(c, w, has_usage, out);
}

static void begin(struct api_call *c, struct buf *out)
{
    for (uint32_t i = 0; i < c->n_choices; i++) {
        struct json_writer w;
        begin_delta(c, &w, &c->choices[i]);
        jw_key(&w, "role");
        jw_text(&w, "assistant");
        jw_key(&w, "content");
        jw_text(&w, "");
        end_delta(c, &w, &c->choices[i], NULL, false, out);
    }
}

static void item_begin(struct api_call *c, struct api_choice *choice, struct api_item *item,
                       struct buf *out)
{
    struct json_writer w;
    if (item->kind != ITEM_CALL)
        return;
    begin_delta(c, &w, choice);
    jw_key(&w, "tool_calls");
    jw_begin_array(&w);
    jw_begin_object(&w);
    jw_key(&w, "index");
    jw_int(&w, item->call_number);
    jw_key(&w, "id");
    jw_text(&w, item->id);
    jw_key(&w, "type");
    jw_text(&w, "function");
    jw_key(&w, "function");
    jw_begin_object(&w);
    jw_key(&w, "name");
    jw_string(&w, buf_slice(&item->name));
    jw_key(&w, "arguments");
    jw_text(&w, "");
    jw_end_object(&w);
    jw_end_object(&w);
    jw_end_array(&w);
    end_delta(c, &w, choice, NULL, false, out);
}

static void item_add(struct api_call *c, struct api_choice *choice, struct api_item *item,
                     struct slice piece, struct buf *out)
{
    struct json_writer w;
    begin_delta(c, &w, choice);
    if (item->kind == ITEM_CALL) {
        jw_key(&w, "tool_calls");
        jw_begin_array(&w);
        jw_begin_object(&w);
        jw_key(&w, "index");
        jw_int(&w, item->call_number);
        jw_key(&w, "function");
        jw_begin_object(&w);
        jw_key(&w, "arguments");
        jw_string(&w, piece);
        jw_end_object(&w);
        jw_end_object(&w);
        jw_end_array(&w);
    } else {
        jw_key(&w, item->kind == ITEM_REASONING ? "reasoning_content" : "content");
        jw_string(&w, piece);
    }
    end_delta(c, &w, choice, NULL, false, out);
}

static void send_finish(struct api_call *c, struct api_choice *choice, bool has_usage,
                        struct buf *out)
{
    struct json_writer w;
    begin_delta(c, &w, choice);
    end_delta(c, &w, choice, openai_finish(choice), has_usage, out);
}

static void choice_end(struct api_call *c, struct api_choice *choice, struct buf *out)
{
    send_finish(c, choice, false, out);
}

static void end(struct api_call *c, struct buf *out)
{
    send_finish(c, &c->choices[c->last_choice], !c->wants_usage, out);
    if (c->wants_usage)
        openai_usage_chunk(c, out);
    buf_add_text(out, "data: [DONE]\n\n");
}

/* ---- whole replies ---- */
static void write_calls(struct json_writer *w, const struct api_choice *choice)
{
    jw_key(w, "tool_calls");
    jw_begin_array(w);
    for (uint32_t i = 0; i < choice->n_items; i++) {
        const struct api_item *item = &choice->items[i];
        if (item->kind != ITEM_CALL)
            continue;
        jw_begin_object(w);
        jw_key(w, "id");
        jw_text(w, item->id);
        jw_key(w, "type");
        jw_text(w, "function");
        jw_key(w, "function");
        jw_begin_object(w);
        jw_key(w, "name");
        jw_string(w, buf_slice(&item->name));
        jw_key(w, "arguments");
        jw_string(w, buf_slice(&item->text));
        jw_end_object(w);
        jw_end_object(w);
    }
    jw_end_array(w);
}

static void write_message(struct json_writer *w, const struct api_choice *choice)
{
    jw_key(w, "message");
    jw_begin_object(w);
    jw_key(w, "role");
    jw_text(w, "assistant");
    jw_key(w, "content");
    if (choice->n_calls && !choice_has(choice, ITEM_TEXT))
        jw_null(w);
    else
        choice_text(w, choice, ITEM_TEXT);
    if (choice_has(choice, ITEM_REASONING)) {
        jw_key(w, "reasoning_content");
        choice_text(w, choice, ITEM_REASONING);
    }
    if (choice->n_calls)
        write_calls(w, choice);
    jw_end_object(w);
}

static void whole(struct api_call *c, struct buf *out)
{
    struct json_writer w;
    chunk_begin(c, &w);
    jw_key(&w, "choices");
    jw_begin_array(&w);
    for (uint32_t i = 0; i < c->n_choices; i++) {
        struct api_choice *choice = &c->choices[i];
        jw_begin_object(&w);
        jw_key(&w, "index");
        jw_int(&w, i);
        write_message(&w, choice);
        logprobs_write_chat(&w, c, choice);
        jw_key(&w, "finish_reason");
        jw_text(&w, openai_finish(choice));
        jw_end_object(&w);
    }
    openai_whole(c, &w, out);
}

const struct api_writer writer_openai_chat = {.head = head,
                                              .begin = begin,
                                              .progress = openai_progress,
                                              .token = logprobs_add_chat,
                                              .item_begin = item_begin,
                                              .item_add = item_add,
                                              .choice_end = choice_end,
                                              .end = end,
                                              .whole = whole,
                                              .error = openai_stream_error};
