/* SPDX-License-Identifier: MIT
 * openai_responses_request.c — the requests of /v1/responses and /v1/responses/input_tokens.
 * Items become messages as templates know them: what stands side by side of reasoning, an
 * assistant's message and function calls is one turn; function_call_output is a message of role
 * "tool".  What was said before previous_response_id comes before these, from the store. */
#include "api/messages.h"

struct reader {
    struct fields *f;
    struct engine_request *r;
    struct message_list list;
    struct json *turn; /* the assistant's that is being gathered, or NULL */
    struct buf text;
    size_t n_items;
};

static bool is_string(const struct json *v)
{
    return v && v->kind == JSON_STRING;
}

static struct slice end_text(struct reader *x)
{
    return text_of_buf(&x->r->arena, &x->text);
}

/* The text of a string, or of an array of parts of the types given (two at most). */
static struct slice read_parts(struct reader *x, const struct json *v, const char *type,
                               const char *other, struct place at)
{
    if (is_string(v))
        return v->text;
    if (!v || v->kind != JSON_ARRAY) {
        field_fail(x->f, E_INVALID, at.text, "must be a string or an array of parts");
        return (struct slice){"", 0};
    }
    for (size_t i = 0; i < v->count && x->f->status == OK; i++) {
        const struct json *part = &v->items[i], *kind = json_get(part, "type");
        const struct json *text = json_get(part, "text");
        struct place inner = place("%s[%zu]", at.text, i);
        if (json_is_text(kind, "refusal"))
            text = json_get(part, "refusal");
        else if (!is_string(kind))
            field_fail(x->f, E_INVALID, inner.text, "must be a part with a type");
        else if (!slice_is(kind->text, type) && !slice_is(kind->text, other) &&
                 !slice_is(kind->text, "text"))
            field_fail(x->f, E_UNSUPPORTED, inner.text,
                       "parts of type \"%.32s\" are not supported here", kind->text.ptr);
        if (x->f->status == OK && !is_string(text))
            field_fail(x->f, E_INVALID, inner.text, "text must be a string");
        if (x->f->status != OK)
            break;
        if (i > 0)
            buf_add_char(&x->text, '\n');
        buf_add_slice(&x->text, text->text);
    }
    return end_text(x);
}

/* ---- the assistant's turn ---- */
static struct json *turn_of(struct reader *x)
{
    if (!x->turn)
        x->turn = message_add(&x->list, "assistant");
    return x->turn;
}

static void end_turn(struct reader *x)
{
    struct json none = {.kind = JSON_NULL};
    if (x->turn && !json_member(x->turn, "content"))
        message_set(x->turn, "content",
                    json_member(x->turn, "tool_calls") ? none : json_of_text(SLICE_LIT("")));
    x->turn = NULL;
}

static void read_assistant(struct reader *x, const struct json *item, struct place at)
{
    struct slice text = read_parts(x, json_get(item, "content"), "output_text", "input_text",
                                   place("%s.content", at.text));
    /* A second message, or one behind its calls, is a turn of its own. */
    if (x->turn && (json_member(x->turn, "content") || json_member(x->turn, "tool_calls")))
        end_turn(x);
    message_set(turn_of(x), "content", json_of_text(text));
}

static void read_call(struct reader *x, const struct json *item, struct place at)
{
    const struct json *id = json_get(item, "call_id"), *name = json_get(item, "name");
    const struct json *arguments = json_get(item, "arguments");
    if (!is_string(id) || !is_string(name) || !is_string(arguments))
        field_fail(x->f, E_INVALID, at.text, "call_id, name and arguments must be strings");
    else
        message_add_call(&x->r->arena, turn_of(x), id->text, name->text, *arguments, x->n_items);
}

static void read_reasoning(struct reader *x, const struct json *item, struct place at)
{
    const struct json *content = json_get(item, "content"), *summary = json_get(item, "summary");
    bool has_content = content && content->kind == JSON_ARRAY && content->count > 0;
    const struct json *v = has_content ? content : summary;
    if (!v || v->kind != JSON_ARRAY || v->count == 0)
        return; /* nothing that a model could read */
    struct slice text = read_parts(x, v, "reasoning_text", "summary_text",
                                   place("%s.%s", at.text, has_content ? "content" : "summary"));
    if (x->turn && (json_member(x->turn, "content") || json_member(x->turn, "tool_calls") ||
                    json_member(x->turn, "reasoning_content")))
        end_turn(x);
    message_set(turn_of(x), "reasoning_content", json_of_text(text));
}

/* ---- other items ---- */
static void read_output(struct reader *x, const struct json *item, struct place at)
{
    const struct json *id = json_get(item, "call_id");
    end_turn(x);
    if (!is_string(id)) {
        field_fail(x->f, E_INVALID, at.text, "call_id must be a string");
        return;
    }
    struct slice text = read_parts(x, json_get(item, "output"), "input_text", "output_text",
                                   place("%s.output", at.text));
    struct json *m = message_add(&x->list, "tool");
    message_set(m, "tool_call_id", *id);
    message_set(m, "content", json_of_text(text));
}

static void read_message(struct reader *x, const struct json *item, struct place at)
{
    const struct json *role = json_get(item, "role");
    const char *known = json_is_text(role, "user")        ? "user"
                        : json_is_text(role, "system")    ? "system"
                        : json_is_text(role, "developer") ? "system"
                                                          : NULL;
    if (json_is_text(role, "assistant")) {
        read_assistant(x, item, at);
        return;
    }
    end_turn(x);
    if (!known) {
        field_fail(x->f, E_INVALID, at.text, "role must be user, assistant, system or developer");
        return;
    }
    struct slice text = read_parts(x, json_get(item, "content"), "input_text", "output_text",
                                   place("%s.content", at.text));
    message_set(message_add(&x->list, known), "content", json_of_text(text));
}

static void read_item(struct reader *x, const struct json *item, size_t i)
{
    struct place at = place("input[%zu]", i);
    const struct json *type = json_get(item, "type");
    if (item->kind != JSON_OBJECT)
        field_fail(x->f, E_INVALID, at.text, "must be an object");
    else if (!type || json_is_text(type, "message"))
        read_message(x, item, at);
    else if (json_is_text(type, "function_call"))
        read_call(x, item, at);
    else if (json_is_text(type, "function_call_output"))
        read_output(x, item, at);
    else if (json_is_text(type, "reasoning"))
        read_reasoning(x, item, at);
    else
        field_fail(x->f, E_UNSUPPORTED, at.text, "items of type \"%.40s\" are not supported",
                   is_string(type) ? type->text.ptr : "?");
}

static void read_input(struct reader *x, struct api_call *c)
{
    const struct json *v = field(x->f, "input"), *instructions = field(x->f, "instructions");
    if (instructions && instructions->kind != JSON_STRING)
        field_fail(x->f, E_INVALID, "instructions", "must be a string");
    else if (instructions && instructions->text.len)
        message_set(message_add(&x->list, "system"), "content", *instructions);
    if (x->f->status != OK)
        return;
    if (v && v->kind == JSON_STRING) {
        message_set(message_add(&x->list, "user"), "content", *v);
    } else if (v && v->kind == JSON_ARRAY && v->count <= API_MESSAGES_MAX) {
        x->n_items = v->count;
        for (size_t i = 0; i < v->count && x->f->status == OK; i++)
            read_item(x, &v->items[i], i);
        end_turn(x);
    } else {
        field_fail(x->f, E_INVALID, "input", "must be a string or an array of at most %u items",
                   API_MESSAGES_MAX);
    }
    if (x->f->status == OK && x->list.n == 0 && !c->previous.len)
        field_fail(x->f, E_INVALID, "input", "is empty");
    x->r->messages = message_list_end(&x->list);
    x->r->add_generation_prompt = true;
}

/* ---- tools ---- */
static void read_tools(struct reader *x)
{
    const struct json *v = field(x->f, "tools");
    if (!v)
        return;
    if (v->kind != JSON_ARRAY || v->count > API_TOOLS_MAX) {
        field_fail(x->f, E_INVALID, "tools", "must be an array of at most %u", API_TOOLS_MAX);
        return;
    }
    struct json *tools = json_new_array(&x->r->arena, v->count);
    for (size_t i = 0; tools && i < v->count && x->f->status == OK; i++) {
        const struct json *tool = &v->items[i], *type = json_get(tool, "type");
        const struct json *name = json_get(tool, "name");
        struct place at = place("tools[%zu]", i);
        if (!json_is_text(type, "function"))
            field_fail(x->f, E_UNSUPPORTED, at.text, "tools of type \"%.40s\" are not supported",
                       is_string(type) ? type->text.ptr : "?");
        else if (!is_string(name) || name->text.len == 0)
            field_fail(x->f, E_INVALID, at.text, "name must be a string");
        else
            tools->items[i] = tool_of(&x->r->arena, name, json_get(tool, "description"),
                                      json_get(tool, "parameters"), json_get(tool, "strict"));
    }
    if (v->count)
        x->r->tools = tools;
}

static void read_tool_choice(struct reader *x, struct api_call *c)
{
    const struct json *v = field(x->f, "tool_choice"), *name = json_get(v, "name");
    bool is_parallel = true;
    c->tool_choice = TOOLS_AUTO;
    if (json_is_text(v, "none")) {
        c->tool_choice = TOOLS_NONE;
    } else if (json_is_text(v, "required")) {
        c->tool_choice = TOOLS_REQUIRED;
    } else if (json_is_text(json_get(v, "type"), "function") && is_string(name)) {
        c->tool_choice = TOOLS_NAMED;
        c->tool_name = name->text;
    } else if (v && !json_is_text(v, "auto")) {
        field_fail(x->f, E_INVALID, "tool_choice",
                   "must be auto, none, required, or a function with a name");
    }
    field_bool(x->f, "parallel_tool_calls", &is_parallel);
    c->is_single_call = !is_parallel;
}

/* ---- the rest ---- */
static void read_reasoning_options(struct reader *x)
{
    const struct json *v = field(x->f, "reasoning"), *effort = json_get(v, "effort");
    if (v && v->kind != JSON_OBJECT)
        field_fail(x->f, E_INVALID, "reasoning", "must be an object");
    if (effort && effort->kind != JSON_NULL)
        read_effort(x->f, "reasoning", effort, x->r);
}

static void read_text_options(struct reader *x, struct api_call *c)
{
    const struct json *v = field(x->f, "text"), *format = json_get(v, "format");
    if (v && v->kind != JSON_OBJECT)
        field_fail(x->f, E_INVALID, "text", "must be an object");
    if (format && format->kind != JSON_NULL)
        read_format(x->f, "text", format, c, x->r);
}

static void read_include(struct reader *x, struct api_call *c)
{
    const struct json *v = field(x->f, "include");
    int64_t n = 0;
    if (v && v->kind != JSON_ARRAY)
        field_fail(x->f, E_INVALID, "include", "must be an array");
    for (size_t i = 0; v && v->kind == JSON_ARRAY && i < v->count; i++)
        if (json_is_text(&v->items[i], "message.output_text.logprobs"))
            c->wants_logprobs = true;
    if (field_int(x->f, "top_logprobs", 0, SAMPLER_TOP_LOGPROBS_MAX, &n))
        c->wants_logprobs |= n > 0;
    c->n_top_logprobs = (uint32_t)n;
    c->keeps_item_logprobs = c->wants_logprobs;
    x->r->sampling.wants_logprob = c->wants_logprobs;
    x->r->sampling.n_top_logprobs = c->n_top_logprobs;
}

static void read_truncation(struct reader *x)
{
    const struct json *v = field(x->f, "truncation");
    if (v && !json_is_text(v, "disabled"))
        field_fail(x->f, json_is_text(v, "auto") ? E_UNSUPPORTED : E_INVALID, "truncation",
                   "only \"disabled\": a prompt is never cut");
}

static const struct api_field prompt_rows[] = {
    {"model", FIELD_YES,
     "which one, echoed; without --models-dir any name means the one that is here", "7", NULL},
    {"input", FIELD_YES,
     "a string or items: messages of text parts, function_call, function_call_output, reasoning; "
     "others are refused",
     "7", NULL},
    {"instructions", FIELD_YES, "a system message in front", "7", NULL},
    {"tools", FIELD_YES, "functions; the maker's own are refused", "7", NULL},
    {"tool_choice", FIELD_YES, "", "7", NULL},
    {"parallel_tool_calls", FIELD_YES, "false: one call at most", "7", NULL},
    {"previous_response_id", FIELD_YES, "a stored one; what was said before it comes first", "7",
     NULL},
    {"reasoning", FIELD_YES, "effort, for the template", "7", NULL},
    {"text", FIELD_YES, "format", "7", NULL},
    {"truncation", FIELD_YES, "disabled; auto is refused: a prompt is never cut", "\"auto\"", NULL},
    {"conversation", FIELD_REFUSED, "use previous_response_id", "\"conv_1\"", NULL},
    {"prompt", FIELD_REFUSED, "there are no stored templates", "{\"id\":\"p\"}", NULL},
};
static const struct field_set prompt_set = FIELD_SET(prompt_rows);
static const struct api_field generate_rows[] = {
    {"max_output_tokens", FIELD_YES, "", "0", NULL},
    {"temperature", FIELD_YES, "0 takes the likeliest token", "-1", NULL},
    {"top_p", FIELD_YES, "", "2", NULL},
    {"top_logprobs", FIELD_YES, "0 to 20", "-1", NULL},
    {"stream", FIELD_YES, "", "7", NULL},
    {"store", FIELD_YES, "default true where there is a store; kept durably before the last event",
     "7", NULL},
    {"include", FIELD_YES, "message.output_text.logprobs; others mean nothing here", "7", NULL},
    {"background", FIELD_REFUSED, "", "true", NULL},
    {"stream_options", FIELD_NONE, "there is no obfuscation to turn off", NULL, NULL},
    {"max_tool_calls", FIELD_NONE, "of tools that run on the maker's side", NULL, NULL},
};
static const struct field_set generate_set = FIELD_SET(generate_rows);
static const struct field_set *const all_fields[] = {&prompt_set, &generate_set,
                                                     &fields_openai_inert, NULL};
static const struct field_set *const count_fields[] = {&prompt_set, NULL};

static void read_prompt(struct fields *f, struct api_call *c, struct engine_request *r)
{
    struct reader x = {.f = f, .r = r, .list = {.arena = &r->arena}};
    struct slice previous = {"", 0};
    buf_init(&x.text, JSON_BYTES_MAX);
    r->kind = PROMPT_CHAT;
    read_model(f, c);
    if (field_string(f, "previous_response_id", &previous))
        c->previous = previous;
    read_input(&x, c);
    read_tools(&x);
    read_tool_choice(&x, c);
    read_reasoning_options(&x);
    read_text_options(&x, c);
    read_truncation(&x);
    read_include(&x, c);
    if (f->status == OK && r->arena.failed)
        field_fail(f, E_LIMIT, "input", "too large");
    buf_release(&x.text);
}

static void read_count(struct fields *f, const struct api_context *context, struct api_call *c,
                       struct engine_request *r)
{
    (void)context;
    read_prompt(f, c, r);
}

static void read_create(struct fields *f, const struct api_context *context, struct api_call *c,
                        struct engine_request *r)
{
    int64_t n = 0;
    read_prompt(f, c, r);
    if (field_int(f, "max_output_tokens", 1, UINT32_MAX - 1, &n))
        r->max_tokens = (uint32_t)n;
    field_float(f, "temperature", 0, 2, &r->sampling.temperature);
    field_float(f, "top_p", 0, 1, &r->sampling.top_p);
    c->temperature = r->sampling.temperature;
    c->top_p = r->sampling.top_p;
    field_bool(f, "stream", &c->is_stream);
    c->stores = context->keeps;
    field_bool(f, "store", &c->stores);
    if (c->stores && !context->keeps)
        field_fail(f, E_UNSUPPORTED, "store", "nothing can be kept here; serve with a --store");
    read_tool_use_rules(f, c, r);
}

extern const struct api_writer writer_openai_responses;
const struct api_dialect dialect_openai_responses = {.name = "responses",
                                                     .family = "OpenAI",
                                                     .id_prefix = "resp_",
                                                     .call_id_prefix = "call_",
                                                     .stream_type = "text/event-stream",
                                                     .read = read_create,
                                                     .writer = &writer_openai_responses,
                                                     .error = openai_error,
                                                     .fields = all_fields};

void openai_count(struct buf *out, uint32_t n)
{
    buf_printf(out, "{\"object\":\"response.input_tokens\",\"input_tokens\":%u}\n", n);
}

const struct api_dialect dialect_openai_responses_count = {.name = "input_tokens",
                                                           .family = "OpenAI",
                                                           .id_prefix = "resp_",
                                                           .call_id_prefix = "call_",
                                                           .read = read_count,
                                                           .count = openai_count,
                                                           .writer = &writer_openai_responses,
                                                           .error = openai_error,
                                                           .fields = count_fields};
