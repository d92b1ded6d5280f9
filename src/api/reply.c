/* SPDX-License-Identifier: MIT
 * reply.c — events → items → bytes, as far as all dialects agree.
 * What a model writes is a row of items: text, reasoning, tool calls.  A stream shows each as it
 * grows, a whole reply shows all at the end; both see the same items, so a stream adds up to the
 * whole. The last choice's end waits for the last EVENT_DONE: a stream's end carries the cost. */
#include <stdio.h>

#include "api/api_int.h"
#include "base/check.h"
#include "base/mem.h"

/* ---- for writers ---- */
void chunk_begin(struct api_call *c, struct json_writer *w)
{
    buf_clear(&c->chunk);
    buf_add_slice(&c->chunk, buf_slice(&c->head));
    jw_init(w, &c->chunk);
    /* The head is an object that has members and is still open. */
    w->depth = 1;
    w->has_item[0] = true;
}

void chunk_send(struct api_call *c, struct buf *out)
{
    buf_add_text(out, "data: ");
    buf_add_slice(out, buf_slice(&c->chunk));
    buf_add_text(out, "\n\n");
    if (c->chunk.failed)
        out->failed = true;
}

bool choice_has(const struct api_choice *choice, enum item_kind kind)
{
    for (uint32_t i = 0; i < choice->n_items; i++)
        if (choice->items[i].kind == kind)
            return true;
    return false;
}

void choice_text(struct json_writer *w, const struct api_choice *choice, enum item_kind kind)
{
    const struct api_item *only = NULL;
    uint32_t n = 0;
    for (uint32_t i = 0; i < choice->n_items; i++) {
        if (choice->items[i].kind == kind) {
            only = &choice->items[i];
            n++;
        }
    }
    if (n <= 1) {
        jw_string(w, only ? buf_slice(&only->text) : (struct slice){"", 0});
        return;
    }
    struct buf all;
    buf_init(&all, API_REPLY_BYTES_MAX);
    for (uint32_t i = 0; i < choice->n_items; i++)
        if (choice->items[i].kind == kind)
            buf_add_slice(&all, buf_slice(&choice->items[i].text));
    jw_string(w, buf_slice(&all));
    if (all.failed)
        w->out->failed = true;
    buf_release(&all);
}

/* ---- items ---- */
static void close_item(struct api_call *c, struct api_choice *choice, struct buf *out)
{
    if (!choice->has_open_item)
        return;
    choice->has_open_item = false;
    if (c->is_stream && c->dialect->writer->item_end)
        c->dialect->writer->item_end(c, choice, &choice->items[choice->n_items - 1], out);
}

static struct api_item *new_item(struct api_call *c, struct api_choice *choice, enum item_kind kind,
                                 struct buf *out)
{
    close_item(c, choice, out);
    if (choice->n_items == choice->items_cap) {
        uint32_t cap = choice->items_cap ? choice->items_cap * 2 : 4;
        struct api_item *grown =
            cap <= API_ITEMS_MAX ? mem_try_resize(choice->items, cap, sizeof *grown) : NULL;
        if (!grown) {
            choice->has_failed = true;
            return NULL;
        }
        choice->items = grown;
        choice->items_cap = cap;
    }
    struct api_item *item = &choice->items[choice->n_items];
    *item = (struct api_item){.kind = kind, .number = choice->n_items++};
    buf_init(&item->text, API_REPLY_BYTES_MAX);
    buf_init(&item->name, TURN_NAME_BYTES_MAX + 1);
    buf_init(&item->logprobs, API_REPLY_BYTES_MAX);
    choice->has_open_item = true;
    return item;
}

static void begin_item(struct api_call *c, struct api_choice *choice, struct api_item *item,
                       struct buf *out)
{
    if (c->is_stream && c->dialect->writer->item_begin)
        c->dialect->writer->item_begin(c, choice, item, out);
}

static void grow_item(struct api_call *c, struct api_choice *choice, struct slice piece,
                      struct buf *out)
{
    struct api_item *item = &choice->items[choice->n_items - 1];
    if (piece.len == 0)
        return;
    buf_add_slice(&item->text, piece);
    if (c->keeps_item_logprobs && choice->logprobs.len) {
        if (item->logprobs.len)
            buf_add_char(&item->logprobs, ',');
        buf_add_slice(&item->logprobs, buf_slice(&choice->logprobs));
    }
    if (item->text.failed)
        choice->has_failed = true;
    if (c->is_stream && c->dialect->writer->item_add)
        c->dialect->writer->item_add(c, choice, item, piece, out);
    if (c->keeps_item_logprobs)
        buf_clear(&choice->logprobs);
}

static void put_text(struct api_call *c, struct api_choice *choice, enum item_kind kind,
                     struct slice text, struct buf *out)
{
    if (text.len == 0 || choice->has_failed)
        return;
    bool is_more = choice->has_open_item && choice->items[choice->n_items - 1].kind == kind;
    if (!is_more) {
        struct api_item *item = new_item(c, choice, kind, out);
        if (!item)
            return;
        begin_item(c, choice, item, out);
    }
    grow_item(c, choice, text, out);
}

/* Mistral's templates take ids of nine letters and digits only. */
static void make_short_id(const struct api_call *c, const struct api_choice *choice,
                          struct api_item *item)
{
    struct digester d = {0};
    digest_begin(&d);
    digest_field(&d, "kvasir id", c->id, strlen(c->id));
    digest_field(&d, "choice", &choice->index, sizeof choice->index);
    digest_field(&d, "call", &item->call_number, sizeof item->call_number);
    struct digest bytes = digest_end(&d);
    digester_release(&d);
    for (size_t i = 0; i < 9; i++)
        item->id[i] = "0123456789abcdefghijklmnopqrstuvwxyz"[bytes.b[i] % 36];
    item->id[9] = '\0';
}

/* The dialect's prefix, what is random in the reply's id, the choice, the number. */
static void make_call_id(const struct api_call *c, const struct api_choice *choice,
                         struct api_item *item)
{
    if (c->format.calls == CALLS_MISTRAL) {
        make_short_id(c, choice, item);
        return;
    }
    snprintf(item->id, sizeof item->id, "%s%s%02x%04x", c->dialect->call_id_prefix,
             c->id + strlen(c->dialect->id_prefix), choice->index, item->call_number);
}

static void begin_call(struct api_call *c, struct api_choice *choice, struct slice name,
                       struct buf *out)
{
    choice->is_call_dropped = c->is_single_call && choice->n_calls > 0;
    struct api_item *item =
        choice->has_failed || choice->is_call_dropped ? NULL : new_item(c, choice, ITEM_CALL, out);
    if (!item)
        return;
    item->call_number = choice->n_calls++;
    make_call_id(c, choice, item);
    buf_add_slice(&item->name, name);
    if (item->name.failed)
        choice->has_failed = true;
    begin_item(c, choice, item, out);
}

static void put_piece(struct api_call *c, struct api_choice *choice, const struct turn_item *piece,
                      struct buf *out)
{
    bool is_dropped = choice->has_failed || choice->is_call_dropped;
    switch (piece->kind) {
    case TURN_TEXT:
        put_text(c, choice, ITEM_TEXT, piece->text, out);
        break;
    case TURN_REASONING:
        put_text(c, choice, ITEM_REASONING, piece->text, out);
        break;
    case TURN_CALL:
        begin_call(c, choice, piece->text, out);
        break;
    case TURN_ARGUMENTS:
        if (!is_dropped)
            grow_item(c, choice, piece->text, out);
        break;
    case TURN_CALL_END:
        if (!is_dropped)
            close_item(c, choice, out);
        break;
    case TURN_NOTHING:
        break;
    }
}

/* What the model wrote, cut into items. */
static void read_text(struct api_call *c, struct api_choice *choice, struct slice text, bool is_end,
                      struct buf *out)
{
    choice->text_chars += count_chars(text);
    if (!c->reads_turns) {
        put_text(c, choice, ITEM_TEXT, text, out);
        return;
    }
    turn_feed(&choice->turn, text);
    for (;;) {
        struct turn_item piece = turn_next(&choice->turn, is_end);
        if (piece.kind == TURN_NOTHING)
            break;
        put_piece(c, choice, &piece, out);
    }
    if (choice->turn.held.failed || choice->turn.out.failed)
        choice->has_failed = true;
}

/* The tail of the prompt tells whether the model begins inside its reasoning. */
static void begin_turns(struct api_call *c, uint32_t prompt, struct slice tail)
{
    while (tail.len && strchr(" \r\n\t", tail.ptr[tail.len - 1]))
        tail.len--;
    struct slice think = SLICE_LIT("<think>");
    struct turn_options options = {
        .format = c->format,
        .finds_calls = c->finds_tools,
        .splits_reasoning = c->format.has_reasoning && !c->keeps_reasoning,
        .starts_in_reasoning = tail.len >= think.len &&
                               memcmp(tail.ptr + tail.len - think.len, think.ptr, think.len) == 0,
        .tools = c->tools};
    for (uint32_t i = 0; i < c->n_per_prompt; i++) {
        turn_release(&c->choices[prompt * c->n_per_prompt + i].turn);
        turn_init(&c->choices[prompt * c->n_per_prompt + i].turn, &options);
        turn_feed(&c->choices[prompt * c->n_per_prompt + i].turn, c->suffix);
    }
}

/* ---- events ---- */

/* c->usage is the sum over prompts: counts add up, and since they are computed side by side the
 * longest time is the request's. */
static double longest(double a, double b)
{
    return a > b ? a : b;
}

static void add_usage(struct engine_usage *sum, const struct engine_usage *u, bool is_first)
{
    if (is_first) {
        *sum = *u;
        return;
    }
    sum->prompt_tokens += u->prompt_tokens;
    sum->memory_tokens += u->memory_tokens;
    sum->disk_tokens += u->disk_tokens;
    sum->computed_tokens += u->computed_tokens;
    sum->completion_tokens += u->completion_tokens;
    sum->guessed_tokens += u->guessed_tokens;
    sum->accepted_tokens += u->accepted_tokens;
    sum->replayed += u->replayed;
    sum->queue_ms = longest(sum->queue_ms, u->queue_ms);
    sum->lookup_ms = longest(sum->lookup_ms, u->lookup_ms);
    sum->prefill_ms = longest(sum->prefill_ms, u->prefill_ms);
    sum->decode_ms = longest(sum->decode_ms, u->decode_ms);
    if (!sum->reason) {
        sum->reason = u->reason;
        sum->diverged_at = u->diverged_at;
    }
}

static void put_echo(struct api_call *c, uint32_t prompt, struct buf *out)
{
    for (uint32_t i = 0; i < c->n_per_prompt; i++) {
        struct api_choice *choice = &c->choices[prompt * c->n_per_prompt + i];
        put_text(c, choice, ITEM_TEXT, c->echoes[prompt], out);
        choice->text_chars = count_chars(c->echoes[prompt]);
    }
}

static void on_started(struct api_call *c, uint32_t prompt, const struct engine_event *ev,
                       struct buf *out)
{
    c->usages[prompt] = *ev->usage;
    if (!c->is_begun) {
        c->is_begun = true;
        c->usage = *ev->usage;
        if (c->is_stream && c->dialect->writer->begin)
            c->dialect->writer->begin(c, out);
    }
    if (c->reads_turns)
        begin_turns(c, prompt, ev->text);
    if (c->echoes && !c->wants_logprobs)
        put_echo(c, prompt, out);
}

/* A token of the prompt; the prompt itself comes when it has all of them. */
static void on_prompt(struct api_call *c, uint32_t prompt, const struct engine_event *ev,
                      struct buf *out)
{
    struct api_choice *first = &c->choices[prompt * c->n_per_prompt];
    if (!c->echoes || !c->wants_logprobs)
        return;
    for (uint32_t i = 0; i < c->n_per_prompt; i++)
        logprobs_add_echo(c, first + i, c->echoes[prompt], ev);
    if (first->n_echoed == c->usages[prompt].prompt_tokens)
        put_echo(c, prompt, out);
}

static void on_finished(struct api_call *c, struct api_choice *choice,
                        const struct engine_event *ev, struct buf *out)
{
    if (choice->is_finished || ev->finish == FINISH_CANCELLED)
        return;
    choice->is_finished = true;
    choice->finish = ev->finish;
    read_text(c, choice, ev->text, true, out);
    close_item(c, choice, out);
    if (ev->stop.len) {
        char *stop = arena_text(&c->arena, ev->stop.ptr, ev->stop.len);
        choice->stop = stop ? (struct slice){stop, ev->stop.len} : (struct slice){"", 0};
        choice->has_failed |= !stop;
    }
    if (--c->n_unfinished == 0)
        c->last_choice = choice->index;
    else if (c->is_stream && c->dialect->writer->choice_end)
        c->dialect->writer->choice_end(c, choice, out);
}

static bool has_failed(const struct api_call *c)
{
    for (uint32_t i = 0; i < c->n_choices; i++) {
        const struct api_choice *choice = &c->choices[i];
        if (choice->has_failed || choice->logprobs.failed || choice->token_ids.failed ||
            choice->vector.failed || choice->more_logprobs[0].failed)
            return true;
    }
    return false;
}

static void on_done(struct api_call *c, uint32_t prompt, const struct engine_event *ev,
                    struct buf *out)
{
    c->usages[prompt] = *ev->usage;
    add_usage(&c->usage, ev->usage, c->n_done == 0);
    c->n_done++;
    if (c->n_done < c->n_prompts || c->n_unfinished > 0 || has_failed(c))
        return; /* or cancelled */
    if (c->is_stream)
        c->dialect->writer->end(c, out);
    else
        c->dialect->writer->whole(c, out);
}

static void on_text(struct api_call *c, struct api_choice *choice, const struct engine_event *ev,
                    struct buf *out)
{
    if (c->wants_logprobs && ev->sampled && ev->token != TOKEN_NONE && c->dialect->writer->token)
        c->dialect->writer->token(c, choice, ev);
    if (ev->token != TOKEN_NONE) {
        choice->n_tokens++;
        if (c->first_token_ns == 0)
            c->first_token_ns = c->told_unix_ns;
        if (c->keeps_tokens)
            buf_printf(&choice->token_ids, choice->token_ids.len ? ",%u" : "%u", ev->token);
    }
    bool was_reasoning = c->reads_turns && turn_is_reasoning(&choice->turn);
    read_text(c, choice, ev->text, false, out);
    if (c->reads_turns && (was_reasoning || turn_is_reasoning(&choice->turn)))
        choice->n_reasoning_tokens += ev->token != TOKEN_NONE;
}

enum status api_reply_event(struct api_call *c, uint32_t prompt, const struct engine_event *ev,
                            struct buf *out)
{
    CHECK(prompt < c->n_prompts && ev->choice < c->n_per_prompt);
    struct api_choice *choice = &c->choices[prompt * c->n_per_prompt + ev->choice];
    switch (ev->kind) {
    case EVENT_STARTED:
        on_started(c, prompt, ev, out);
        break;
    case EVENT_TEXT:
        on_text(c, choice, ev, out);
        break;
    case EVENT_VECTOR:
        vector_add(c, choice, ev);
        break;
    case EVENT_PROMPT:
        on_prompt(c, prompt, ev, out);
        break;
    case EVENT_FINISHED:
        on_finished(c, choice, ev, out);
        break;
    case EVENT_DONE:
        on_done(c, prompt, ev, out);
        break;
    case EVENT_PROGRESS:
        if (ev->usage)
            c->usage.prefill_ms = ev->usage->prefill_ms;
        if (c->is_stream && c->wants_progress && c->dialect->writer->progress)
            c->dialect->writer->progress(c, ev, out);
        break;
    case EVENT_ERROR:
        break;
    }
    return out->failed || has_failed(c) ? E_LIMIT : OK;
}

const struct engine_usage *api_reply_usage(const struct api_call *c)
{
    return &c->usage;
}

void api_reply_error(struct api_call *c, const struct api_error *error, struct buf *out)
{
    c->dialect->writer->error(c, error, out);
}

void api_reply_headers(const struct api_call *c,
                       void (*add)(void *arg, const char *name, const char *value), void *arg)
{
    const struct engine_usage *u = &c->usage;
    const struct {
        const char *name;
        uint32_t value;
    } counts[] = {{"X-KV-Memory-Tokens", u->memory_tokens},
                  {"X-KV-Disk-Tokens", u->disk_tokens},
                  {"X-KV-Computed-Tokens", u->computed_tokens},
                  {"X-KV-Replayed", u->replayed}};
    const struct {
        const char *name;
        double value;
        bool is_known;
    } times[] = {{"X-KV-Lookup-Ms", u->lookup_ms, true},
                 {"X-KV-Prefill-Ms", u->prefill_ms, c->n_done == c->n_prompts},
                 {"X-KV-Decode-Ms", u->decode_ms, c->n_done == c->n_prompts}};
    char text[32];
    if (c->dialect->request_id_header)
        add(arg, c->dialect->request_id_header, c->id);
    for (size_t i = 0; i < ARRAY_COUNT(counts); i++) {
        snprintf(text, sizeof text, "%u", counts[i].value);
        add(arg, counts[i].name, text);
    }
    for (size_t i = 0; i < ARRAY_COUNT(times); i++) {
        if (!times[i].is_known)
            continue;
        snprintf(text, sizeof text, "%.3f", times[i].value);
        add(arg, times[i].name, text);
    }
    if (u->reason)
        add(arg, "X-KV-Reason", u->reason);
    if (c->removed)
        add(arg, "X-KV-Removed", c->removed);
}

void api_count_write(struct buf *out, const struct api_call *c, uint32_t n_tokens)
{
    c->dialect->count(out, n_tokens);
}
