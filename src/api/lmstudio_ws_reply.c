/* SPDX-License-Identifier: MIT
 * lmstudio_ws_reply.c — what the channel "predict" says: how far the prompt is, fragments of text
 * with the number of tokens that they took, tool calls as they grow, and "success" with the cost.
 */
#include <inttypes.h>

#include "api/lmstudio_ws_int.h"

#define CALL_ARENA_BYTES (64u << 20) /* of parsed arguments */

/* c->head: {"type":"channelSend","channelId":N,"message": */
static void head(struct api_call *c, struct buf *out)
{
    const struct json *id = json_get(c->body, "channelId");
    const struct json *parameter = json_get(c->body, "creationParameter");
    struct buf settings;
    struct json_writer w;
    buf_init(&settings, JSON_BYTES_MAX);
    jw_init(&w, &settings);
    lms_write_config(&w, json_get(parameter, "predictionConfigStack"));
    c->settings = text_of_buf(&c->arena, &settings);
    buf_release(&settings);
    c->channel = id ? id->integer : 0;
    buf_printf(out, "{\"type\":\"channelSend\",\"channelId\":%" PRId64 ",\"message\":", c->channel);
}

static void begin_message(const struct api_call *c, struct json_writer *w, const char *type,
                          struct buf *out)
{
    buf_add_slice(out, buf_slice(&c->head));
    jw_init(w, out);
    jw_begin_object(w);
    jw_key(w, "type");
    jw_text(w, type);
}

static void end_message(struct json_writer *w)
{
    jw_end_object(w);
    buf_add_text(w->out, "}\n");
}

static void write_progress(const struct api_call *c, double progress, struct buf *out)
{
    struct json_writer w;
    begin_message(c, &w, "promptProcessingProgress", out);
    jw_key(&w, "progress");
    jw_double(&w, progress);
    end_message(&w);
}

static void begin(struct api_call *c, struct buf *out)
{
    const struct engine_usage *u = &c->usage;
    write_progress(c, u->prompt_tokens ? 1 - (double)u->computed_tokens / u->prompt_tokens : 0,
                   out);
}

static void progress(struct api_call *c, const struct engine_event *ev, struct buf *out)
{
    if (ev->done < ev->total)
        write_progress(c, (double)ev->done / ev->total, out);
}

/* Before the first item, or the end of an empty reply. */
static void end_prompt(struct api_call *c, struct buf *out)
{
    if (!c->is_prompt_told)
        write_progress(c, 1, out);
    c->is_prompt_told = true;
}

/* n_events: tokens that fragments have told of. */
static void write_fragment(struct api_call *c, struct api_choice *choice, struct slice text,
                           const char *reasoning, bool is_mark, struct buf *out)
{
    struct json_writer w;
    uint64_t n = is_mark ? 0 : choice->n_tokens - c->n_events;
    c->n_events += n;
    begin_message(c, &w, "fragment", out);
    jw_key(&w, "fragment");
    jw_begin_object(&w);
    jw_key(&w, "content");
    jw_string(&w, text);
    jw_key(&w, "tokensCount");
    jw_int(&w, (int64_t)n);
    jw_key(&w, "containsDrafted");
    jw_bool(&w, false); /* no draft model: what was guessed is what would have been drawn */
    jw_key(&w, "reasoningType");
    jw_text(&w, reasoning);
    jw_key(&w, "isStructural");
    jw_bool(&w, is_mark);
    jw_end_object(&w);
    if (c->wants_logprobs && !is_mark) {
        jw_key(&w, "logprobs");
        jw_begin_array(&w);
        buf_add_slice(out, buf_slice(&choice->logprobs));
        jw_end_array(&w);
        buf_clear(&choice->logprobs);
    }
    end_message(&w);
}

static void add_logprob(struct json_writer *w, const struct api_call *c, uint32_t token,
                        float value)
{
    jw_begin_object(w);
    jw_key(w, "text");
    jw_string(w, tokenizer_piece(c->tokenizer, token, true));
    jw_key(w, "logprob");
    jw_double(w, (double)value);
    jw_end_object(w);
}

/* A list for each token: its own, then the likeliest. */
static void token(const struct api_call *c, struct api_choice *choice,
                  const struct engine_event *ev)
{
    struct json_writer w;
    const struct sampled *s = ev->sampled;
    if (choice->logprobs.len)
        buf_add_char(&choice->logprobs, ',');
    jw_init(&w, &choice->logprobs);
    jw_begin_array(&w);
    add_logprob(&w, c, ev->token, s->logprob);
    for (uint32_t i = 0; i < s->n_top && i < c->n_top_logprobs; i++)
        add_logprob(&w, c, s->top_tokens[i], s->top_logprobs[i]);
    jw_end_array(&w);
}

static void item_begin(struct api_call *c, struct api_choice *choice, struct api_item *item,
                       struct buf *out)
{
    struct json_writer w;
    end_prompt(c, out);
    if (item->kind == ITEM_REASONING)
        write_fragment(c, choice, SLICE_LIT("<think>"), "reasoningStartTag", true, out);
    if (item->kind != ITEM_CALL)
        return;
    begin_message(c, &w, "toolCallGenerationStart", out);
    jw_key(&w, "toolCallId");
    jw_text(&w, item->id);
    end_message(&w);
    begin_message(c, &w, "toolCallGenerationNameReceived", out);
    jw_key(&w, "name");
    jw_string(&w, buf_slice(&item->name));
    end_message(&w);
}

static void item_add(struct api_call *c, struct api_choice *choice, struct api_item *item,
                     struct slice piece, struct buf *out)
{
    struct json_writer w;
    if (item->kind != ITEM_CALL) {
        write_fragment(c, choice, piece, item->kind == ITEM_TEXT ? "none" : "reasoning", false,
                       out);
        return;
    }
    begin_message(c, &w, "toolCallGenerationArgumentFragmentGenerated", out);
    jw_key(&w, "content");
    jw_string(&w, piece);
    end_message(&w);
}

/* Arguments must be an object; what else a model writes there is no call. */
static void end_call(struct api_call *c, struct api_item *item, struct buf *out)
{
    struct arena a;
    struct json *arguments = NULL;
    struct json_writer w;
    arena_init(&a, CALL_ARENA_BYTES);
    bool is_good = json_parse(buf_slice(&item->text), &a, &arguments, NULL) == OK &&
                   arguments->kind == JSON_OBJECT;
    begin_message(c, &w, is_good ? "toolCallGenerationEnd" : "toolCallGenerationFailed", out);
    jw_key(&w, is_good ? "toolCallRequest" : "error");
    jw_begin_object(&w);
    if (is_good) {
        jw_key(&w, "id");
        jw_text(&w, item->id);
        jw_key(&w, "type");
        jw_text(&w, "function");
        jw_key(&w, "name");
        jw_string(&w, buf_slice(&item->name));
        jw_key(&w, "arguments");
        jw_value(&w, arguments);
    } else {
        jw_key(&w, "title");
        jw_text(&w, "the arguments of the call are no JSON object");
        jw_key(&w, "rootTitle");
        jw_text(&w, "the arguments of the call are no JSON object");
    }
    jw_end_object(&w);
    jw_key(&w, "rawContent");
    jw_string(&w, buf_slice(&item->text));
    end_message(&w);
    arena_release(&a);
}

static void item_end(struct api_call *c, struct api_choice *choice, struct api_item *item,
                     struct buf *out)
{
    if (item->kind == ITEM_REASONING)
        write_fragment(c, choice, SLICE_LIT("</think>"), "reasoningEndTag", true, out);
    else if (item->kind == ITEM_CALL)
        end_call(c, item, out);
}

static const char *stop_reason(const struct api_call *c, const struct api_choice *choice)
{
    const struct engine_usage *u = &c->usage;
    if (!choice->is_finished)
        return "userStopped";
    if (choice->n_calls > 0)
        return "toolCalls";
    if (choice->finish == FINISH_LENGTH)
        return u->completion_tokens >= c->max_tokens ? "maxPredictedTokensReached"
                                                     : "contextLengthReached";
    return choice->stop.len ? "stopStringFound" : "eosFound";
}

static void write_stats(struct json_writer *w, const struct api_call *c)
{
    const struct engine_usage *u = &c->usage;
    jw_key(w, "stats");
    jw_begin_object(w);
    jw_key(w, "stopReason");
    jw_text(w, stop_reason(c, &c->choices[0]));
    jw_key(w, "tokensPerSecond");
    jw_double(w, u->decode_ms > 0 ? u->completion_tokens * 1e3 / u->decode_ms : 0);
    jw_key(w, "timeToFirstTokenSec");
    jw_double(w, first_token_ms(u) * 1e-3);
    jw_key(w, "totalTimeSec");
    jw_double(w, (first_token_ms(u) + u->decode_ms) * 1e-3);
    jw_key(w, "promptTokensCount");
    jw_int(w, u->prompt_tokens);
    jw_key(w, "predictedTokensCount");
    jw_int(w, u->completion_tokens);
    jw_key(w, "totalTokensCount");
    jw_int(w, (int64_t)u->prompt_tokens + u->completion_tokens);
    jw_end_object(w);
}

static void end(struct api_call *c, struct buf *out)
{
    struct json_writer w;
    end_prompt(c, out);
    begin_message(c, &w, "success", out);
    write_stats(&w, c);
    jw_key(&w, "modelInfo");
    const struct lms_model model = lms_model_loaded(c->info, c->model.ptr);
    lms_write_info(&w, &model, "llm", true);
    jw_key(&w, "loadModelConfig");
    lms_write_load_config(&w, c->info);
    jw_key(&w, "predictionConfig");
    jw_raw(&w, c->settings);
    write_kvasir(&w, c, &c->usage);
    end_message(&w);
    buf_printf(out, "{\"type\":\"channelClose\",\"channelId\":%" PRId64 "}\n", c->channel);
}

static void error(struct api_call *c, const struct api_error *x, struct buf *out)
{
    struct json_writer w;
    jw_init(&w, out);
    jw_begin_object(&w);
    jw_key(&w, "type");
    jw_text(&w, "channelError");
    jw_key(&w, "channelId");
    jw_int(&w, c->channel);
    jw_key(&w, "error");
    jw_begin_object(&w);
    lms_write_error(&w, x);
    jw_end_object(&w);
    jw_end_object(&w);
    buf_add_char(out, '\n');
}

void api_ws_write_stopped(struct api_call *c, struct buf *out)
{
    end(c, out);
}

const struct api_writer writer_lmstudio_ws = {.head = head,
                                              .begin = begin,
                                              .progress = progress,
                                              .token = token,
                                              .item_begin = item_begin,
                                              .item_add = item_add,
                                              .item_end = item_end,
                                              .end = end,
                                              .error = error};
