/* SPDX-License-Identifier: MIT
 * openai_text_reply.c — replies of /v1/completions: text alone, whatever it looks like. */
#include "api/api_int.h"

static void head(struct api_call *c, struct buf *out)
{
    openai_head(c, out, "text_completion");
}

static void write_choice(struct json_writer *w, const struct api_call *c, struct api_choice *choice,
                         const char *finish)
{
    logprobs_write_text(w, c, choice);
    jw_key(w, "finish_reason");
    jw_text(w, finish);
    jw_end_object(w);
}

static void send_text(struct api_call *c, struct api_choice *choice, struct slice text,
                      const char *finish, bool has_usage, struct buf *out)
{
    struct json_writer w;
    chunk_begin(c, &w);
    jw_key(&w, "choices");
    jw_begin_array(&w);
    jw_begin_object(&w);
    jw_key(&w, "index");
    jw_int(&w, choice->index);
    jw_key(&w, "text");
    jw_string(&w, text);
    write_choice(&w, c, choice, finish);
    openai_send(c, &w, has_usage, out);
}

static void item_add(struct api_call *c, struct api_choice *choice, struct api_item *item,
                     struct slice piece, struct buf *out)
{
    (void)item;
    send_text(c, choice, piece, NULL, false, out);
}

static void choice_end(struct api_call *c, struct api_choice *choice, struct buf *out)
{
    send_text(c, choice, (struct slice){"", 0}, openai_finish(choice), false, out);
}

static void end(struct api_call *c, struct buf *out)
{
    struct api_choice *choice = &c->choices[c->last_choice];
    send_text(c, choice, (struct slice){"", 0}, openai_finish(choice), !c->wants_usage, out);
    if (c->wants_usage)
        openai_usage_chunk(c, out);
    buf_add_text(out, "data: [DONE]\n\n");
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
        jw_key(&w, "text");
        choice_text(&w, choice, ITEM_TEXT);
        write_choice(&w, c, choice, openai_finish(choice));
    }
    openai_whole(c, &w, out);
}

const struct api_writer writer_openai_text = {.head = head,
                                              .progress = openai_progress,
                                              .token = logprobs_add_text,
                                              .item_add = item_add,
                                              .choice_end = choice_end,
                                              .end = end,
                                              .whole = whole,
                                              .error = openai_stream_error};
