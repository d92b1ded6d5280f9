/* SPDX-License-Identifier: MIT
 * anthropic_reply.c — replies of /v1/messages, whole and as events, and errors in that shape.
 * Items become blocks one to one.  What was computed of the prompt is kept and so was "used to
 * create the cache"; input_tokens is what was neither read nor kept: 0 with a cache.  The three add
 * up to the prompt. */
#include <stdio.h>

#include "api/api_int.h"

static void write_usage_members(struct json_writer *w, const struct api_call *c, bool has_output)
{
    const struct engine_usage *u = &c->usage;
    jw_key(w, "input_tokens");
    jw_int(w, 0);
    jw_key(w, "cache_creation_input_tokens");
    jw_int(w, u->computed_tokens);
    jw_key(w, "cache_read_input_tokens");
    jw_int(w, (int64_t)u->memory_tokens + u->disk_tokens);
    jw_key(w, "cache_creation");
    jw_begin_object(w);
    jw_key(w, "ephemeral_5m_input_tokens");
    jw_int(w, u->computed_tokens);
    jw_key(w, "ephemeral_1h_input_tokens");
    jw_int(w, 0);
    jw_end_object(w);
    jw_key(w, "output_tokens");
    jw_int(w, has_output ? u->completion_tokens : 0);
    jw_key(w, "service_tier");
    jw_text(w, "standard");
}

static void write_message_usage(struct json_writer *w, const struct api_call *c, bool has_output)
{
    jw_key(w, "usage");
    jw_begin_object(w);
    write_usage_members(w, c, has_output);
    jw_end_object(w);
}

static void write_stop(struct json_writer *w, const struct api_choice *choice)
{
    const char *reason = "end_turn";
    if (choice && choice->finish == FINISH_LENGTH)
        reason = "max_tokens";
    else if (choice && choice->stop.len)
        reason = "stop_sequence";
    else if (choice && choice->n_calls)
        reason = "tool_use";
    jw_key(w, "stop_reason");
    jw_text(w, choice ? reason : NULL);
    jw_key(w, "stop_sequence");
    if (choice && choice->stop.len)
        jw_string(w, choice->stop);
    else
        jw_null(w);
}

static void begin_message(struct json_writer *w, const struct api_call *c)
{
    jw_begin_object(w);
    jw_key(w, "id");
    jw_text(w, c->id);
    jw_key(w, "type");
    jw_text(w, "message");
    jw_key(w, "role");
    jw_text(w, "assistant");
    jw_key(w, "model");
    jw_string(w, c->model);
    jw_key(w, "content");
    jw_begin_array(w);
}

/* Names the thinking that the reply with this id wrote; it comes back with the block. */
static void write_signature(struct json_writer *w, const struct api_call *c,
                            const struct api_item *item)
{
    char text[API_ID_BYTES + 16];
    snprintf(text, sizeof text, "%s-%u", c->id, item->number);
    jw_key(w, "signature");
    jw_text(w, text);
}

/* is_start: as content_block_start has it, without what is still to come. */
static void write_block(struct json_writer *w, const struct api_call *c,
                        const struct api_item *item, bool is_start)
{
    struct slice text = is_start ? (struct slice){"", 0} : buf_slice(&item->text);
    jw_begin_object(w);
    jw_key(w, "type");
    if (item->kind == ITEM_CALL) {
        jw_text(w, "tool_use");
        jw_key(w, "id");
        jw_text(w, item->id);
        jw_key(w, "name");
        jw_string(w, buf_slice(&item->name));
        jw_key(w, "input");
        jw_raw(w, is_start || text.len == 0 ? SLICE_LIT("{}") : text);
    } else if (item->kind == ITEM_REASONING) {
        jw_text(w, "thinking");
        jw_key(w, "thinking");
        jw_string(w, text);
        if (is_start) {
            jw_key(w, "signature");
            jw_text(w, "");
        } else {
            write_signature(w, c, item);
        }
    } else {
        jw_text(w, "text");
        jw_key(w, "text");
        jw_string(w, text);
    }
    jw_end_object(w);
}

/* ---- events ---- */
/* "event: NAME\ndata: {"type":NAME" … */
static void begin_event(struct api_call *c, struct json_writer *w, const char *name)
{
    buf_clear(&c->chunk);
    buf_printf(&c->chunk, "event: %s\ndata: ", name);
    jw_init(w, &c->chunk);
    jw_begin_object(w);
    jw_key(w, "type");
    jw_text(w, name);
}

static void end_event(struct api_call *c, struct json_writer *w, struct buf *out)
{
    jw_end_object(w);
    buf_add_slice(out, buf_slice(&c->chunk));
    buf_add_text(out, "\n\n");
    if (c->chunk.failed)
        out->failed = true;
}

static void ping(struct api_call *c, struct buf *out)
{
    struct json_writer w;
    begin_event(c, &w, "ping");
    end_event(c, &w, out);
}

static void begin(struct api_call *c, struct buf *out)
{
    struct json_writer w;
    begin_event(c, &w, "message_start");
    jw_key(&w, "message");
    begin_message(&w, c);
    jw_end_array(&w);
    write_stop(&w, NULL);
    write_message_usage(&w, c, false);
    jw_end_object(&w);
    end_event(c, &w, out);
    ping(c, out);
}

static void progress(struct api_call *c, const struct engine_event *ev, struct buf *out)
{
    (void)ev;
    ping(c, out);
}

static void begin_block_event(struct api_call *c, struct json_writer *w, const char *name,
                              const struct api_item *item)
{
    begin_event(c, w, name);
    jw_key(w, "index");
    jw_int(w, item->number);
}

static void item_begin(struct api_call *c, struct api_choice *choice, struct api_item *item,
                       struct buf *out)
{
    struct json_writer w;
    (void)choice;
    begin_block_event(c, &w, "content_block_start", item);
    jw_key(&w, "content_block");
    write_block(&w, c, item, true);
    end_event(c, &w, out);
}

static void item_add(struct api_call *c, struct api_choice *choice, struct api_item *item,
                     struct slice piece, struct buf *out)
{
    static const struct {
        const char *type, *key;
    } deltas[] = {[ITEM_TEXT] = {"text_delta", "text"},
                  [ITEM_REASONING] = {"thinking_delta", "thinking"},
                  [ITEM_CALL] = {"input_json_delta", "partial_json"}};
    struct json_writer w;
    (void)choice;
    begin_block_event(c, &w, "content_block_delta", item);
    jw_key(&w, "delta");
    jw_begin_object(&w);
    jw_key(&w, "type");
    jw_text(&w, deltas[item->kind].type);
    jw_key(&w, deltas[item->kind].key);
    jw_string(&w, piece);
    jw_end_object(&w);
    end_event(c, &w, out);
}

static void item_end(struct api_call *c, struct api_choice *choice, struct api_item *item,
                     struct buf *out)
{
    struct json_writer w;
    (void)choice;
    if (item->kind == ITEM_REASONING) {
        begin_block_event(c, &w, "content_block_delta", item);
        jw_key(&w, "delta");
        jw_begin_object(&w);
        jw_key(&w, "type");
        jw_text(&w, "signature_delta");
        write_signature(&w, c, item);
        jw_end_object(&w);
        end_event(c, &w, out);
    }
    begin_block_event(c, &w, "content_block_stop", item);
    end_event(c, &w, out);
}

static void end(struct api_call *c, struct buf *out)
{
    struct json_writer w;
    begin_event(c, &w, "message_delta");
    jw_key(&w, "delta");
    jw_begin_object(&w);
    write_stop(&w, &c->choices[0]);
    jw_end_object(&w);
    write_message_usage(&w, c, true);
    write_kvasir(&w, c, &c->usage);
    end_event(c, &w, out);
    begin_event(c, &w, "message_stop");
    end_event(c, &w, out);
}

/* ---- whole replies ---- */
static void whole(struct api_call *c, struct buf *out)
{
    struct json_writer w;
    const struct api_choice *choice = &c->choices[0];
    jw_init(&w, out);
    begin_message(&w, c);
    for (uint32_t i = 0; i < choice->n_items; i++)
        write_block(&w, c, &choice->items[i], false);
    jw_end_array(&w);
    write_stop(&w, choice);
    write_message_usage(&w, c, true);
    write_kvasir(&w, c, &c->usage);
    jw_end_object(&w);
    buf_add_char(out, '\n');
}

/* ---- errors ---- */
void anthropic_error(struct buf *out, const struct api_error *x)
{
    static const struct {
        int http;
        const char *type;
    } types[] = {{400, "invalid_request_error"}, {401, "authentication_error"},
                 {403, "permission_error"},      {404, "not_found_error"},
                 {405, "invalid_request_error"}, {409, "invalid_request_error"},
                 {413, "request_too_large"},     {429, "rate_limit_error"},
                 {503, "overloaded_error"}};
    const char *type = "api_error";
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].http == x->http)
            type = types[i].type;
    struct json_writer w;
    jw_init(&w, out);
    jw_begin_object(&w);
    jw_key(&w, "type");
    jw_text(&w, "error");
    jw_key(&w, "error");
    jw_begin_object(&w);
    jw_key(&w, "type");
    jw_text(&w, type);
    jw_key(&w, "message");
    jw_text(&w, x->message);
    jw_end_object(&w);
    jw_end_object(&w);
}

static void stream_error(struct api_call *c, const struct api_error *error, struct buf *out)
{
    (void)c;
    buf_add_text(out, "event: error\ndata: ");
    anthropic_error(out, error);
    buf_add_text(out, "\n\n");
}

const struct api_writer writer_anthropic = {.begin = begin,
                                            .progress = progress,
                                            .item_begin = item_begin,
                                            .item_add = item_add,
                                            .item_end = item_end,
                                            .end = end,
                                            .whole = whole,
                                            .error = stream_error};
