/* SPDX-License-Identifier: MIT
 * lmstudio_chat.c — LM Studio's /api/v1/chat: a string or messages in, items out, stateful by
 * response_id.  Its events tell where the request is: chat.start, model_load.* if it had to wait
 * for that, prompt_processing.*, reasoning.*, message.*, chat.end with the whole result. */
#include "api/messages.h"
#include "base/check.h"

/* ---- the request ---- */
static const struct api_field rows[] = {
    {"model", FIELD_YES,
     "which one, echoed; without --models-dir any name means the one that is here", "7", NULL},
    {"input", FIELD_YES, "a string, or items of type text or message; images are refused", "7",
     NULL},
    {"system_prompt", FIELD_YES, "", "7", NULL},
    {"stream", FIELD_YES, "events, the last has the whole result", "7", NULL},
    {"temperature", FIELD_YES, "0 takes the likeliest token", "-1", NULL},
    {"top_p", FIELD_YES, "", "2", NULL},
    {"top_k", FIELD_YES, "0 and below: all", "0.5", NULL},
    {"min_p", FIELD_YES, "", "2", NULL},
    {"repeat_penalty", FIELD_YES, "over prompt and reply", "0", NULL},
    {"max_output_tokens", FIELD_YES, "", "0", NULL},
    {"reasoning", FIELD_YES, "off, on, low, medium, high; refused where the model can't", "7",
     NULL},
    {"context_length", FIELD_YES,
     "up to the context that is served, which is always all there; more is refused", "999999999",
     NULL},
    {"store", FIELD_YES, "default true where there is a store; kept durably before the end", "7",
     NULL},
    {"previous_response_id", FIELD_YES, "a stored one; what was said before it comes first", "7",
     NULL},
    {"integrations", FIELD_REFUSED, "no tools run on this side", "[\"mcp/playwright\"]", NULL},
    {"ttl", FIELD_YES, "seconds without requests until the model goes; not the one that stays", "0",
     NULL},
};
static const struct field_set own = FIELD_SET(rows);
static const struct field_set *const all_fields[] = {&own, NULL};

static void read_item(struct fields *f, struct message_list *list, const struct json *item,
                      size_t i)
{
    const struct json *type = json_get(item, "type"), *content = json_get(item, "content");
    struct place at = place("input[%zu]", i);
    bool is_text = !type || json_is_text(type, "text") || json_is_text(type, "message");
    if (!is_text)
        field_fail(f, E_UNSUPPORTED, at.text, "only items of type text are supported");
    else if (!content || content->kind != JSON_STRING)
        field_fail(f, E_INVALID, at.text, "content must be a string");
    else
        message_set(message_add(list, "user"), "content", *content);
}

static void read_input(struct fields *f, struct engine_request *r)
{
    struct message_list list = {.arena = &r->arena};
    struct slice system = {"", 0};
    if (field_string(f, "system_prompt", &system) && system.len)
        message_set(message_add(&list, "system"), "content", json_of_text(system));
    const struct json *v = field(f, "input");
    if (f->status != OK)
        return;
    if (v && v->kind == JSON_STRING)
        message_set(message_add(&list, "user"), "content", *v);
    else if (!v || v->kind != JSON_ARRAY || v->count == 0 || v->count > API_MESSAGES_MAX)
        field_fail(f, E_INVALID, "input", "must be a string or an array of items");
    for (size_t i = 0; v && v->kind == JSON_ARRAY && i < v->count && f->status == OK; i++)
        read_item(f, &list, &v->items[i], i);
    r->messages = message_list_end(&list);
    if (!r->messages)
        field_fail(f, E_LIMIT, "input", "too large");
}

static void read_reasoning(struct fields *f, const struct api_context *context,
                           struct engine_request *r)
{
    const struct json *v = field(f, "reasoning");
    bool is_off = json_is_text(v, "off"), is_on = json_is_text(v, "on"),
         is_word = json_is_text(v, "low") || json_is_text(v, "medium") || json_is_text(v, "high");
    if (!v)
        return;
    if (!is_off && !is_on && !is_word) {
        field_fail(f, E_INVALID, "reasoning", "must be off, on, low, medium or high");
    } else if (!is_off && !template_thinks(context)) {
        field_fail(f, E_UNSUPPORTED, "reasoning", "this model does not reason");
    } else {
        set_variable(r, "enable_thinking", (struct json){.kind = JSON_BOOL, .boolean = !is_off});
        if (is_word)
            set_variable(r, "reasoning_effort", *v);
    }
}

void read_context_length(struct fields *f, const char *name, const struct api_context *context)
{
    int64_t n = 0;
    if (field_int(f, name, 1, INT32_MAX, &n) && n > context->n_ctx)
        field_fail(f, E_UNSUPPORTED, name, "the context holds %u tokens; see --ctx",
                   context->n_ctx);
}

static void read_chat(struct fields *f, const struct api_context *context, struct api_call *c,
                      struct engine_request *r)
{
    int64_t n = 0;
    struct slice previous = {"", 0};
    r->kind = PROMPT_CHAT;
    r->add_generation_prompt = true;
    read_model(f, c);
    read_input(f, r);
    read_sampling(f, context, r);
    if (field_int(f, "max_output_tokens", 1, UINT32_MAX - 1, &n))
        r->max_tokens = (uint32_t)n;
    read_reasoning(f, context, r);
    read_context_length(f, "context_length", context);
    read_ttl(f, c);
    field_bool(f, "stream", &c->is_stream);
    c->wants_progress = true;
    if (field_string(f, "previous_response_id", &previous))
        c->previous = previous;
    c->stores = context->keeps;
    field_bool(f, "store", &c->stores);
    if (c->stores && !context->keeps)
        field_fail(f, E_UNSUPPORTED, "store", "nothing can be kept here; serve with a --store");
}

/* ---- the reply ---- */
static void write_item(struct json_writer *w, const struct api_item *item)
{
    static const char *const types[] = {[ITEM_TEXT] = "message", [ITEM_REASONING] = "reasoning"};
    CHECK(item->kind != ITEM_CALL); /* a request has no tools */
    jw_begin_object(w);
    jw_key(w, "type");
    jw_text(w, types[item->kind]);
    jw_key(w, "content");
    jw_string(w, buf_slice(&item->text));
    jw_end_object(w);
}

static void write_result(struct json_writer *w, const struct api_call *c)
{
    const struct api_choice *choice = &c->choices[0];
    const struct engine_usage *u = &c->usage;
    jw_key(w, "model_instance_id");
    jw_string(w, c->model);
    jw_key(w, "output");
    jw_begin_array(w);
    for (uint32_t i = 0; i < choice->n_items; i++)
        write_item(w, &choice->items[i]);
    jw_end_array(w);
    jw_key(w, "stats");
    jw_begin_object(w);
    jw_key(w, "input_tokens");
    jw_int(w, u->prompt_tokens);
    jw_key(w, "total_output_tokens");
    jw_int(w, u->completion_tokens);
    jw_key(w, "reasoning_output_tokens");
    jw_int(w, reasoning_tokens(c));
    jw_key(w, "tokens_per_second");
    jw_double(w, u->decode_ms > 0 ? u->completion_tokens * 1e3 / u->decode_ms : 0);
    jw_key(w, "time_to_first_token_seconds");
    jw_double(w, first_token_ms(u) * 1e-3);
    if (c->load_ms > 0) {
        jw_key(w, "model_load_time_seconds");
        jw_double(w, c->load_ms * 1e-3);
    }
    jw_end_object(w);
    if (c->stores) {
        jw_key(w, "response_id");
        jw_text(w, c->id);
    }
    write_kvasir(w, c, u);
}

static void begin_event(struct json_writer *w, const char *type, struct buf *out)
{
    buf_printf(out, "event: %s\ndata: ", type);
    jw_init(w, out);
    jw_begin_object(w);
    jw_key(w, "type");
    jw_text(w, type);
}

static void end_event(struct json_writer *w, struct buf *out)
{
    jw_end_object(w);
    buf_add_text(out, "\n\n");
}

static void simple_event(const char *type, struct buf *out)
{
    struct json_writer w;
    begin_event(&w, type, out);
    end_event(&w, out);
}

static void model_event(const struct api_call *c, const char *type, const char *key, double value,
                        struct buf *out)
{
    struct json_writer w;
    begin_event(&w, type, out);
    jw_key(&w, "model_instance_id");
    jw_string(&w, c->model);
    if (key) {
        jw_key(&w, key);
        jw_double(&w, value);
    }
    end_event(&w, out);
}

/* What a request may be depends on its model, so it is read, and its stream begun, when that is
 * there: the events of loading come then, in their order. */
static void begin(struct api_call *c, struct buf *out)
{
    model_event(c, "chat.start", NULL, 0, out);
    if (c->load_ms > 0) {
        model_event(c, "model_load.start", NULL, 0, out);
        model_event(c, "model_load.progress", "progress", 1, out);
        model_event(c, "model_load.end", "load_time_seconds", c->load_ms * 1e-3, out);
    }
    simple_event("prompt_processing.start", out);
}

static void progress(struct api_call *c, const struct engine_event *ev, struct buf *out)
{
    struct json_writer w;
    (void)c;
    begin_event(&w, "prompt_processing.progress", out);
    jw_key(&w, "progress");
    jw_double(&w, ev->total ? (double)ev->done / ev->total : 1);
    end_event(&w, out);
}

/* Before the first item, or the end of an empty reply. */
static void end_prompt(struct api_call *c, struct buf *out)
{
    if (c->n_events++ == 0)
        simple_event("prompt_processing.end", out);
}

static const char *const names[][3] = {
    [ITEM_TEXT] = {"message.start", "message.delta", "message.end"},
    [ITEM_REASONING] = {"reasoning.start", "reasoning.delta", "reasoning.end"}};

static void item_begin(struct api_call *c, struct api_choice *choice, struct api_item *item,
                       struct buf *out)
{
    (void)choice;
    CHECK(item->kind != ITEM_CALL);
    end_prompt(c, out);
    simple_event(names[item->kind][0], out);
}

static void item_add(struct api_call *c, struct api_choice *choice, struct api_item *item,
                     struct slice piece, struct buf *out)
{
    struct json_writer w;
    (void)c, (void)choice;
    begin_event(&w, names[item->kind][1], out);
    jw_key(&w, "content");
    jw_string(&w, piece);
    end_event(&w, out);
}

static void item_end(struct api_call *c, struct api_choice *choice, struct api_item *item,
                     struct buf *out)
{
    (void)c, (void)choice;
    simple_event(names[item->kind][2], out);
}

static void end(struct api_call *c, struct buf *out)
{
    struct json_writer w;
    end_prompt(c, out);
    begin_event(&w, "chat.end", out);
    jw_key(&w, "result");
    jw_begin_object(&w);
    write_result(&w, c);
    jw_end_object(&w);
    end_event(&w, out);
}

static void whole(struct api_call *c, struct buf *out)
{
    struct json_writer w;
    jw_init(&w, out);
    jw_begin_object(&w);
    write_result(&w, c);
    jw_end_object(&w);
    buf_add_char(out, '\n');
}

static void write_error(struct json_writer *w, const struct api_error *x)
{
    jw_key(w, "error");
    jw_begin_object(w);
    jw_key(w, "type");
    jw_text(w, x->type);
    jw_key(w, "message");
    jw_text(w, x->message);
    jw_key(w, "code");
    jw_text(w, x->code);
    jw_key(w, "param");
    jw_text(w, x->param[0] ? x->param : NULL);
    jw_end_object(w);
}

void lmstudio_error(struct buf *out, const struct api_error *x)
{
    struct json_writer w;
    jw_init(&w, out);
    jw_begin_object(&w);
    write_error(&w, x);
    jw_end_object(&w);
}

static void stream_error(struct api_call *c, const struct api_error *error, struct buf *out)
{
    struct json_writer w;
    (void)c;
    begin_event(&w, "error", out);
    write_error(&w, error);
    end_event(&w, out);
}

const struct api_writer writer_lmstudio_chat = {.begin = begin,
                                                .progress = progress,
                                                .item_begin = item_begin,
                                                .item_add = item_add,
                                                .item_end = item_end,
                                                .end = end,
                                                .whole = whole,
                                                .error = stream_error};
const struct api_dialect dialect_lmstudio_chat = {.name = "v1 chat",
                                                  .family = "LM Studio",
                                                  .id_prefix = "resp_",
                                                  .call_id_prefix = "call_",
                                                  .stream_type = "text/event-stream",
                                                  .read = read_chat,
                                                  .writer = &writer_lmstudio_chat,
                                                  .error = lmstudio_error,
                                                  .fields = all_fields};
