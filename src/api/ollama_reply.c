/* SPDX-License-Identifier: MIT
 * ollama_reply.c — replies of /api/chat and /api/generate: one object, or a line of JSON a piece.
 * Durations are nanoseconds of what was done for this request: prompt_eval_duration covers the
 * tokens that were computed, prompt_eval_count all of the prompt's, as there; the member "kvasir"
 * says where each came from.  load_duration is 0 where the model was there. */
#include <stdio.h>
#include <time.h>

#include "api/api_int.h"

#define NS_PER_S 1000000000

void ollama_error(struct buf *out, const struct api_error *x)
{
    struct json_writer w;
    jw_init(&w, out);
    jw_begin_object(&w);
    jw_key(&w, "error");
    jw_text(&w, x->message);
    jw_end_object(&w);
}

static void write_fraction(struct json_writer *w, const char *key, int64_t unix_s, int64_t ns)
{
    struct tm parts;
    time_t t = (time_t)unix_s;
    char text[64], fraction[16] = "";
    gmtime_r(&t, &parts);
    size_t n = strftime(text, sizeof text - sizeof fraction, "%Y-%m-%dT%H:%M:%S", &parts);
    if (ns > 0) { /* without zeros at the end, as Go writes it */
        snprintf(fraction, sizeof fraction, ".%09d", (int)ns);
        for (size_t i = 9; i > 0 && fraction[i] == '0'; i--)
            fraction[i] = '\0';
    }
    snprintf(text + n, sizeof text - n, "%sZ", fraction);
    jw_key(w, key);
    jw_text(w, text);
}

void write_time(struct json_writer *w, const char *key, int64_t unix_s)
{
    write_fraction(w, key, unix_s, 0);
}

void write_time_ns(struct json_writer *w, const char *key, int64_t unix_ns)
{
    write_fraction(w, key, unix_ns / NS_PER_S, unix_ns % NS_PER_S);
}

static bool is_chat(const struct api_call *c)
{
    return c->dialect == &dialect_ollama_chat;
}

/* The object's head, up to what the model says. */
static void begin_line(struct json_writer *w, struct api_call *c)
{
    buf_clear(&c->chunk);
    jw_init(w, &c->chunk);
    jw_begin_object(w);
    jw_key(w, "model");
    jw_string(w, c->model);
    write_time_ns(w, "created_at", c->told_unix_ns);
    if (!is_chat(c))
        return;
    jw_key(w, "message");
    jw_begin_object(w);
    jw_key(w, "role");
    jw_text(w, "assistant");
}

static void write_text(struct json_writer *w, const struct api_call *c, struct slice text)
{
    jw_key(w, is_chat(c) ? "content" : "response");
    jw_string(w, text);
}

static void end_message(struct json_writer *w, const struct api_call *c)
{
    if (is_chat(c))
        jw_end_object(w);
}

static void write_logprobs(struct json_writer *w, const struct api_call *c,
                           struct api_choice *choice)
{
    if (!c->wants_logprobs || choice->logprobs.len == 0)
        return;
    jw_key(w, "logprobs");
    jw_begin_array(w);
    jw_raw(w, buf_slice(&choice->logprobs));
    jw_end_array(w);
    buf_clear(&choice->logprobs);
}

static void put_line(struct api_call *c, struct json_writer *w, struct buf *out)
{
    jw_end_object(w);
    buf_add_slice(out, buf_slice(&c->chunk));
    buf_add_char(out, '\n');
    if (c->chunk.failed)
        out->failed = true;
}

static void write_done(struct json_writer *w, bool is_done)
{
    jw_key(w, "done");
    jw_bool(w, is_done);
}

void write_ns(struct json_writer *w, const char *key, double ms)
{
    jw_key(w, key);
    jw_int(w, (int64_t)(ms * 1e6));
}

static void write_cost(struct json_writer *w, const struct api_call *c)
{
    const struct engine_usage *u = &c->usage;
    write_ns(w, "total_duration",
             c->load_ms + u->queue_ms + u->prompt_ms + u->lookup_ms + u->prefill_ms + u->decode_ms);
    write_ns(w, "load_duration", c->load_ms);
    jw_key(w, "prompt_eval_count");
    jw_int(w, u->prompt_tokens);
    write_ns(w, "prompt_eval_duration", u->prefill_ms);
    jw_key(w, "eval_count");
    jw_int(w, u->completion_tokens);
    write_ns(w, "eval_duration", u->decode_ms);
    write_kvasir(w, c, u);
}

/* As the model spelled them, but for line feeds between values: a line is an object here.  Inside
 * strings they are escapes already. */
static void write_arguments(struct json_writer *w, const struct api_item *item)
{
    struct buf line;
    struct slice text = buf_slice(&item->text);
    buf_init(&line, API_REPLY_BYTES_MAX);
    for (size_t i = 0; i < text.len; i++)
        buf_add_char(&line, text.ptr[i] == '\n' || text.ptr[i] == '\r' ? ' ' : text.ptr[i]);
    jw_raw(w, text.len ? buf_slice(&line) : SLICE_LIT("{}"));
    if (line.failed)
        w->out->failed = true;
    buf_release(&line);
}

static void write_call(struct json_writer *w, const struct api_item *item)
{
    jw_begin_object(w);
    jw_key(w, "id");
    jw_text(w, item->id);
    jw_key(w, "function");
    jw_begin_object(w);
    jw_key(w, "index");
    jw_int(w, item->call_number);
    jw_key(w, "name");
    jw_string(w, buf_slice(&item->name));
    jw_key(w, "arguments");
    write_arguments(w, item);
    jw_end_object(w);
    jw_end_object(w);
}

/* ---- streams ---- */
static void item_add(struct api_call *c, struct api_choice *choice, struct api_item *item,
                     struct slice piece, struct buf *out)
{
    struct json_writer w;
    if (item->kind == ITEM_CALL)
        return; /* it is told when it is whole */
    begin_line(&w, c);
    write_text(&w, c, item->kind == ITEM_TEXT ? piece : (struct slice){"", 0});
    if (item->kind == ITEM_REASONING) {
        jw_key(&w, "thinking");
        jw_string(&w, piece);
    }
    end_message(&w, c);
    write_done(&w, false);
    write_logprobs(&w, c, choice);
    put_line(c, &w, out);
}

static void item_end(struct api_call *c, struct api_choice *choice, struct api_item *item,
                     struct buf *out)
{
    struct json_writer w;
    if (item->kind != ITEM_CALL || !is_chat(c))
        return;
    begin_line(&w, c);
    write_text(&w, c, (struct slice){"", 0});
    jw_key(&w, "tool_calls");
    jw_begin_array(&w);
    write_call(&w, item);
    jw_end_array(&w);
    end_message(&w, c);
    write_done(&w, false);
    write_logprobs(&w, c, choice);
    put_line(c, &w, out);
}

static const char *reason(const struct api_call *c)
{
    return c->choices[c->last_choice].finish == FINISH_LENGTH ? "length" : "stop";
}

static void end(struct api_call *c, struct buf *out)
{
    struct json_writer w;
    begin_line(&w, c);
    write_text(&w, c, (struct slice){"", 0});
    end_message(&w, c);
    write_done(&w, true);
    jw_key(&w, "done_reason");
    jw_text(&w, reason(c));
    write_logprobs(&w, c, &c->choices[c->last_choice]);
    write_cost(&w, c);
    put_line(c, &w, out);
}

/* ---- whole ---- */
static void whole(struct api_call *c, struct buf *out)
{
    struct json_writer w;
    struct api_choice *choice = &c->choices[0];
    begin_line(&w, c);
    jw_key(&w, is_chat(c) ? "content" : "response");
    choice_text(&w, choice, ITEM_TEXT);
    if (choice_has(choice, ITEM_REASONING)) {
        jw_key(&w, "thinking");
        choice_text(&w, choice, ITEM_REASONING);
    }
    if (choice->n_calls && is_chat(c)) {
        jw_key(&w, "tool_calls");
        jw_begin_array(&w);
        for (uint32_t i = 0; i < choice->n_items; i++)
            if (choice->items[i].kind == ITEM_CALL)
                write_call(&w, &choice->items[i]);
        jw_end_array(&w);
    }
    end_message(&w, c);
    write_done(&w, true);
    jw_key(&w, "done_reason");
    jw_text(&w, reason(c));
    write_logprobs(&w, c, choice);
    write_cost(&w, c);
    put_line(c, &w, out);
}

/* Nothing was asked: the model is there, or goes. */
static void answered(struct api_call *c, struct buf *out)
{
    struct json_writer w;
    begin_line(&w, c);
    write_text(&w, c, (struct slice){"", 0});
    end_message(&w, c);
    write_done(&w, true);
    jw_key(&w, "done_reason");
    jw_text(&w, c->keep_s == 0 ? "unload" : "load");
    put_line(c, &w, out);
}

void ollama_write_unloaded(const struct api_dialect *dialect, struct buf *out, struct slice model,
                           int64_t now_unix_s)
{
    struct api_call c = {
        .dialect = dialect, .model = model, .told_unix_ns = now_unix_s * NS_PER_S, .keep_s = 0};
    buf_init(&c.chunk, API_REPLY_BYTES_MAX);
    answered(&c, out);
    buf_release(&c.chunk);
}

static void stream_error(struct api_call *c, const struct api_error *error, struct buf *out)
{
    (void)c;
    ollama_error(out, error);
    buf_add_char(out, '\n');
}

#define WRITER                                                                              \
    {                                                                                       \
        .token = logprobs_add_chat, .item_add = item_add, .item_end = item_end, .end = end, \
        .whole = whole, .answered = answered, .error = stream_error                         \
    }
const struct api_writer writer_ollama_chat = WRITER;
const struct api_writer writer_ollama_generate = WRITER;
