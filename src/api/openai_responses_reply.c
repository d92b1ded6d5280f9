/* SPDX-License-Identifier: MIT
 * openai_responses_reply.c — replies of /v1/responses.  Items become output items one to one; each
 * event carries the next sequence number, the last one the whole response. */
#include <math.h>
#include <stdio.h>

#include "api/api_int.h"
#include "base/mem.h"

/* ---- the response object ---- */

/* A member as the request had it, else what it means when left out. */
static void echo(struct json_writer *w, const struct json *body, const char *key,
                 const char *otherwise)
{
    const struct json *v = json_get(body, key);
    jw_key(w, key);
    if (v && v->kind != JSON_NULL)
        jw_value(w, v);
    else
        jw_raw(w, slice_of(otherwise));
}

/* 0.7f is told as 0.7. */
static void write_float(struct json_writer *w, const struct api_call *c, const char *key, float v)
{
    jw_key(w, key);
    if (c->is_stored) /* not kept */
        jw_null(w);
    else
        jw_double(w, round((double)v * 1e6) / 1e6);
}

/* What stays the same from response.created to response.completed. */
static void head(struct api_call *c, struct buf *out)
{
    struct json_writer w;
    jw_init(&w, out);
    jw_begin_object(&w);
    jw_key(&w, "id");
    jw_text(&w, c->id);
    jw_key(&w, "object");
    jw_text(&w, "response");
    jw_key(&w, "created_at");
    jw_int(&w, c->created_unix_s);
    jw_key(&w, "model");
    jw_string(&w, c->model);
    jw_key(&w, "background");
    jw_bool(&w, false);
    echo(&w, c->body, "instructions", "null");
    echo(&w, c->body, "max_output_tokens", "null");
    echo(&w, c->body, "max_tool_calls", "null");
    echo(&w, c->body, "metadata", "{}");
    echo(&w, c->body, "parallel_tool_calls", "true");
    echo(&w, c->body, "previous_response_id", "null");
    echo(&w, c->body, "prompt_cache_key", "null");
    echo(&w, c->body, "reasoning", "{\"effort\":null,\"summary\":null}");
    echo(&w, c->body, "safety_identifier", "null");
    echo(&w, c->body, "service_tier", "\"default\"");
    jw_key(&w, "store");
    jw_bool(&w, c->stores);
    write_float(&w, c, "temperature", c->temperature);
    echo(&w, c->body, "text", "{\"format\":{\"type\":\"text\"}}");
    echo(&w, c->body, "tool_choice", "\"auto\"");
    echo(&w, c->body, "tools", "[]");
    echo(&w, c->body, "top_logprobs", "0");
    write_float(&w, c, "top_p", c->top_p);
    jw_key(&w, "truncation");
    jw_text(&w, "disabled");
    echo(&w, c->body, "user", "null");
}

static void item_id(const struct api_call *c, const struct api_item *item, char out[API_CALL_ID])
{
    static const char *const prefixes[] = {
        [ITEM_TEXT] = "msg", [ITEM_REASONING] = "rs", [ITEM_CALL] = "fc"};
    snprintf(out, API_CALL_ID, "%s_%s%02x", prefixes[item->kind],
             c->id + strlen(c->dialect->id_prefix), item->number);
}

static void write_part(struct json_writer *w, struct api_call *c, struct api_choice *choice,
                       const struct api_item *item, struct slice text, bool is_done)
{
    jw_begin_object(w);
    jw_key(w, "type");
    jw_text(w, item->kind == ITEM_REASONING ? "reasoning_text" : "output_text");
    jw_key(w, "text");
    jw_string(w, text);
    if (item->kind == ITEM_TEXT) {
        jw_key(w, "annotations");
        jw_begin_array(w);
        jw_end_array(w);
        logprobs_write_list(w, c, choice, item, is_done);
    }
    jw_end_object(w);
}

enum item_stage { STAGE_ADDED, STAGE_DONE };

static void write_item(struct json_writer *w, struct api_call *c, struct api_choice *choice,
                       const struct api_item *item, enum item_stage stage)
{
    static const char *const types[] = {
        [ITEM_TEXT] = "message", [ITEM_REASONING] = "reasoning", [ITEM_CALL] = "function_call"};
    char id[API_CALL_ID];
    bool is_done = stage == STAGE_DONE;
    bool is_cut = is_done && choice->is_finished && choice->finish == FINISH_LENGTH &&
                  item->number + 1 == choice->n_items;
    item_id(c, item, id);
    jw_begin_object(w);
    jw_key(w, "type");
    jw_text(w, types[item->kind]);
    jw_key(w, "id");
    jw_text(w, id);
    jw_key(w, "status");
    jw_text(w, is_cut ? "incomplete" : is_done ? "completed" : "in_progress");
    if (item->kind == ITEM_CALL) {
        jw_key(w, "call_id");
        jw_text(w, item->id);
        jw_key(w, "name");
        jw_string(w, buf_slice(&item->name));
        jw_key(w, "arguments");
        jw_string(w, is_done ? buf_slice(&item->text) : (struct slice){"", 0});
    } else {
        if (item->kind == ITEM_TEXT) {
            jw_key(w, "role");
            jw_text(w, "assistant");
        } else {
            jw_key(w, "summary");
            jw_begin_array(w);
            jw_end_array(w);
        }
        jw_key(w, "content");
        jw_begin_array(w);
        if (is_done)
            write_part(w, c, choice, item, buf_slice(&item->text), true);
        jw_end_array(w);
    }
    jw_end_object(w);
}

static void write_response_usage(struct json_writer *w, const struct api_call *c)
{
    const struct engine_usage *u = &c->usage;
    jw_key(w, "usage");
    jw_begin_object(w);
    jw_key(w, "input_tokens");
    jw_int(w, u->prompt_tokens);
    jw_key(w, "input_tokens_details");
    jw_begin_object(w);
    jw_key(w, "cached_tokens");
    jw_int(w, (int64_t)u->memory_tokens + u->disk_tokens);
    jw_end_object(w);
    jw_key(w, "output_tokens");
    jw_int(w, u->completion_tokens);
    jw_key(w, "output_tokens_details");
    jw_begin_object(w);
    jw_key(w, "reasoning_tokens");
    jw_int(w, reasoning_tokens(c));
    jw_end_object(w);
    jw_key(w, "total_tokens");
    jw_int(w, (int64_t)u->prompt_tokens + u->completion_tokens);
    jw_end_object(w);
}

static void write_error(struct json_writer *w, const struct api_error *error)
{
    jw_key(w, "error");
    if (!error) {
        jw_null(w);
        return;
    }
    jw_begin_object(w);
    jw_key(w, "code");
    jw_text(w, error->code ? error->code : error->type);
    jw_key(w, "message");
    jw_text(w, error->message);
    jw_end_object(w);
}

static const char *status_of(const struct api_call *c, bool is_done, const struct api_error *error)
{
    if (error)
        return "failed";
    if (!is_done)
        return "in_progress";
    return c->choices[0].finish == FINISH_LENGTH ? "incomplete" : "completed";
}

/* c->chunk := the response object. */
static void write_response(struct api_call *c, bool is_done, const struct api_error *error)
{
    struct json_writer w;
    struct api_choice *choice = &c->choices[0];
    bool is_cut = is_done && !error && choice->finish == FINISH_LENGTH;
    chunk_begin(c, &w);
    jw_key(&w, "status");
    jw_text(&w, status_of(c, is_done, error));
    write_error(&w, error);
    jw_key(&w, "incomplete_details");
    if (is_cut) {
        jw_begin_object(&w);
        jw_key(&w, "reason");
        jw_text(&w, "max_output_tokens");
        jw_end_object(&w);
    } else {
        jw_null(&w);
    }
    jw_key(&w, "output");
    jw_begin_array(&w);
    for (uint32_t i = 0; is_done && i < choice->n_items; i++)
        write_item(&w, c, choice, &choice->items[i], STAGE_DONE);
    jw_end_array(&w);
    if (is_done && !error && !c->is_stored) {
        write_response_usage(&w, c);
        write_kvasir(&w, c, &c->usage);
    } else {
        jw_key(&w, "usage");
        jw_null(&w);
    }
    jw_end_object(&w);
}

/* ---- events ---- */
static void begin_event(struct api_call *c, struct json_writer *w, const char *type,
                        struct buf *out)
{
    buf_printf(out, "event: %s\ndata: ", type);
    jw_init(w, out);
    jw_begin_object(w);
    jw_key(w, "type");
    jw_text(w, type);
    jw_key(w, "sequence_number");
    jw_int(w, (int64_t)c->n_events++);
}

static void end_event(struct json_writer *w, struct buf *out)
{
    jw_end_object(w);
    buf_add_text(out, "\n\n");
}

static void response_event(struct api_call *c, const char *type, bool is_done,
                           const struct api_error *error, struct buf *out)
{
    struct json_writer w;
    write_response(c, is_done, error);
    begin_event(c, &w, type, out);
    jw_key(&w, "response");
    jw_raw(&w, buf_slice(&c->chunk));
    end_event(&w, out);
    if (c->chunk.failed)
        out->failed = true;
}

static void begin(struct api_call *c, struct buf *out)
{
    response_event(c, "response.created", false, NULL, out);
    response_event(c, "response.in_progress", false, NULL, out);
}

static void begin_item_event(struct api_call *c, struct json_writer *w, const char *type,
                             const struct api_item *item, struct buf *out)
{
    char id[API_CALL_ID];
    item_id(c, item, id);
    begin_event(c, w, type, out);
    jw_key(w, "item_id");
    jw_text(w, id);
    jw_key(w, "output_index");
    jw_int(w, item->number);
    if (item->kind != ITEM_CALL) {
        jw_key(w, "content_index");
        jw_int(w, 0);
    }
}

static void item_event(struct api_call *c, const char *type, struct api_choice *choice,
                       const struct api_item *item, enum item_stage stage, struct buf *out)
{
    struct json_writer w;
    begin_event(c, &w, type, out);
    jw_key(&w, "output_index");
    jw_int(&w, item->number);
    jw_key(&w, "item");
    write_item(&w, c, choice, item, stage);
    end_event(&w, out);
}

static void part_event(struct api_call *c, const char *type, struct api_choice *choice,
                       const struct api_item *item, bool is_done, struct buf *out)
{
    struct json_writer w;
    begin_item_event(c, &w, type, item, out);
    jw_key(&w, "part");
    write_part(&w, c, choice, item, is_done ? buf_slice(&item->text) : (struct slice){"", 0},
               is_done);
    end_event(&w, out);
}

static void item_begin(struct api_call *c, struct api_choice *choice, struct api_item *item,
                       struct buf *out)
{
    item_event(c, "response.output_item.added", choice, item, STAGE_ADDED, out);
    if (item->kind != ITEM_CALL)
        part_event(c, "response.content_part.added", choice, item, false, out);
}

static void item_add(struct api_call *c, struct api_choice *choice, struct api_item *item,
                     struct slice piece, struct buf *out)
{
    static const char *const types[] = {[ITEM_TEXT] = "response.output_text.delta",
                                        [ITEM_REASONING] = "response.reasoning_text.delta",
                                        [ITEM_CALL] = "response.function_call_arguments.delta"};
    struct json_writer w;
    begin_item_event(c, &w, types[item->kind], item, out);
    jw_key(&w, "delta");
    jw_string(&w, piece);
    if (item->kind == ITEM_TEXT)
        logprobs_write_list(&w, c, choice, item, false);
    end_event(&w, out);
}

static void item_end(struct api_call *c, struct api_choice *choice, struct api_item *item,
                     struct buf *out)
{
    static const char *const types[] = {[ITEM_TEXT] = "response.output_text.done",
                                        [ITEM_REASONING] = "response.reasoning_text.done",
                                        [ITEM_CALL] = "response.function_call_arguments.done"};
    struct json_writer w;
    begin_item_event(c, &w, types[item->kind], item, out);
    if (item->kind == ITEM_CALL) {
        jw_key(&w, "name");
        jw_string(&w, buf_slice(&item->name));
    }
    jw_key(&w, item->kind == ITEM_CALL ? "arguments" : "text");
    jw_string(&w, buf_slice(&item->text));
    if (item->kind == ITEM_TEXT)
        logprobs_write_list(&w, c, choice, item, true);
    end_event(&w, out);
    if (item->kind != ITEM_CALL)
        part_event(c, "response.content_part.done", choice, item, true, out);
    item_event(c, "response.output_item.done", choice, item, STAGE_DONE, out);
}

static void end(struct api_call *c, struct buf *out)
{
    bool is_cut = c->choices[0].finish == FINISH_LENGTH;
    response_event(c, is_cut ? "response.incomplete" : "response.completed", true, NULL, out);
}

static void whole(struct api_call *c, struct buf *out)
{
    write_response(c, true, NULL);
    buf_add_slice(out, buf_slice(&c->chunk));
    buf_add_char(out, '\n');
    if (c->chunk.failed)
        out->failed = true;
}

static void stream_error(struct api_call *c, const struct api_error *error, struct buf *out)
{
    response_event(c, "response.failed", true, error, out);
}

/* ---- stored responses ---- */
static struct slice last_reply(const struct json *shown)
{
    const struct json *history = json_get(shown, "history");
    bool has_any = history && history->kind == JSON_ARRAY && history->count > 0;
    const struct json *last = has_any ? &history->items[history->count - 1] : NULL;
    const struct json *content = json_get(last, "content");
    bool is_reply = json_is_text(json_get(last, "role"), "assistant") && content &&
                    content->kind == JSON_STRING;
    return is_reply ? content->text : (struct slice){NULL, 0};
}

static enum status write_stored(struct api_call *c, const struct json *shown, struct buf *out,
                                struct api_error *error)
{
    struct slice reply = last_reply(shown);
    enum status st = call_make_choices(c, error);
    if (st == OK)
        st = call_make_head(c, error);
    if (st != OK)
        return st;
    if (!reply.ptr)
        return api_error_set(error, E_CORRUPT, NULL,
                             "what this response said is not there any more");
    struct engine_event started = {.kind = EVENT_STARTED, .usage = &c->usage};
    struct engine_event ended = {.kind = EVENT_FINISHED, .text = reply, .token = TOKEN_NONE};
    struct buf none;
    buf_init(&none, 16);
    st = api_reply_event(c, 0, &started, &none);
    if (st == OK)
        st = api_reply_event(c, 0, &ended, &none);
    buf_release(&none);
    if (st != OK)
        return api_error_set(error, st, NULL, "the response is too large");
    whole(c, out);
    return OK;
}

enum status api_response_write(struct buf *out, const struct api_context *context, struct slice id,
                               const struct json *shown, struct api_error *error)
{
    const struct json *created = json_get(shown, "created"), *model = json_get(shown, "model");
    struct api_call *c = mem_try_new(1, sizeof *c);
    if (!c)
        return api_error_set(error, E_NOMEM, NULL, "out of memory");
    c->dialect = &dialect_openai_responses;
    c->is_stored = c->stores = c->reads_turns = c->finds_tools = true;
    c->n_prompts = c->n_per_prompt = 1;
    c->format = turn_format_of(context->template_source);
    c->created_unix_s = created ? created->integer : 0;
    c->model = model && model->kind == JSON_STRING ? model->text : slice_of(context->model_name);
    snprintf(c->id, sizeof c->id, SLICE_FMT, SLICE_ARG(id));
    arena_init(&c->arena, 1u << 20);
    enum status st = write_stored(c, shown, out, error);
    api_call_free(c);
    return st;
}

void api_response_write_deleted(struct buf *out, struct slice id)
{
    struct json_writer w;
    jw_init(&w, out);
    jw_begin_object(&w);
    jw_key(&w, "id");
    jw_string(&w, id);
    jw_key(&w, "object");
    jw_text(&w, "response");
    jw_key(&w, "deleted");
    jw_bool(&w, true);
    jw_end_object(&w);
    buf_add_char(out, '\n');
}

const struct api_writer writer_openai_responses = {.head = head,
                                                   .begin = begin,
                                                   .token = logprobs_add_chat,
                                                   .item_begin = item_begin,
                                                   .item_add = item_add,
                                                   .item_end = item_end,
                                                   .end = end,
                                                   .whole = whole,
                                                   .error = stream_error};
