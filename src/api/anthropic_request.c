/* SPDX-License-Identifier: MIT
 * anthropic_request.c — the requests of /v1/messages and /v1/messages/count_tokens.
 * Blocks become messages as templates know them: text of one turn joined by line feeds, thinking →
 * reasoning_content, tool_use → tool_calls, tool_result → a message of role "tool" each.  A last
 * message of the assistant is continued.  cache_control is accepted wherever it stands: the cache
 * keeps every prefix, for as long as there is room. */
#include "api/messages.h"

#define THINKING_BUDGET_MAX (1 << 24)

struct reader {
    struct fields *f;
    struct engine_request *r;
    struct message_list list;
    struct buf text; /* of blocks that stand side by side */
    bool has_text;
};

static const struct json *text_member(struct fields *f, const struct json *v, const char *key,
                                      struct place at)
{
    const struct json *text = json_get(v, key);
    if (text && text->kind == JSON_STRING)
        return text;
    field_fail(f, E_INVALID, at.text, "%s must be a string", key);
    return NULL;
}

static void add_text(struct reader *x, struct slice text)
{
    if (x->has_text)
        buf_add_char(&x->text, '\n');
    buf_add_slice(&x->text, text);
    x->has_text = true;
}

static struct slice take_text(struct reader *x)
{
    x->has_text = false;
    return text_of_buf(&x->r->arena, &x->text);
}

static void refuse_block(struct reader *x, const struct json *type, struct place at)
{
    if (!type || type->kind != JSON_STRING)
        field_fail(x->f, E_INVALID, at.text, "must be a block with a type");
    else
        field_fail(x->f, E_UNSUPPORTED, at.text, "blocks of type \"%.32s\" are not supported here",
                   type->text.ptr);
}

/* A string, or an array of text blocks. */
static struct slice read_texts(struct reader *x, const struct json *v, struct place at)
{
    if (v && v->kind == JSON_STRING)
        return v->text;
    if (v && v->kind != JSON_ARRAY)
        field_fail(x->f, E_INVALID, at.text, "must be a string or an array of text blocks");
    for (size_t i = 0; v && v->kind == JSON_ARRAY && i < v->count; i++) {
        struct place inner = place("%s[%zu]", at.text, i);
        const struct json *type = json_get(&v->items[i], "type");
        if (!json_is_text(type, "text")) {
            refuse_block(x, type, inner);
            break;
        }
        const struct json *text = text_member(x->f, &v->items[i], "text", inner);
        if (text)
            add_text(x, text->text);
    }
    return take_text(x);
}

static void read_system(struct reader *x)
{
    const struct json *v = field(x->f, "system");
    if (!v)
        return;
    struct slice text = read_texts(x, v, place("system"));
    if (text.len)
        message_set(message_add(&x->list, "system"), "content", json_of_text(text));
}

/* ---- the user's turns ---- */
static void end_user_text(struct reader *x)
{
    if (x->has_text)
        message_set(message_add(&x->list, "user"), "content", json_of_text(take_text(x)));
}

static void read_tool_result(struct reader *x, const struct json *block, struct place at)
{
    const struct json *id = text_member(x->f, block, "tool_use_id", at);
    const struct json *content = json_get(block, "content");
    end_user_text(x);
    if (!id)
        return;
    struct slice text = read_texts(x, content, place("%s.content", at.text));
    struct json *m = message_add(&x->list, "tool");
    message_set(m, "tool_call_id", *id);
    message_set(m, "content", json_of_text(text));
}

static void read_user(struct reader *x, const struct json *content, struct place at)
{
    for (size_t i = 0; i < content->count && x->f->status == OK; i++) {
        const struct json *block = &content->items[i], *type = json_get(block, "type");
        struct place inner = place("%s[%zu]", at.text, i);
        if (json_is_text(type, "text")) {
            const struct json *text = text_member(x->f, block, "text", inner);
            if (text)
                add_text(x, text->text);
        } else if (json_is_text(type, "tool_result")) {
            read_tool_result(x, block, inner);
        } else {
            refuse_block(x, type, inner);
        }
    }
    end_user_text(x);
}

/* ---- the assistant's ---- */
struct answer {
    struct json *message;
    struct buf reasoning;
    const struct json *content; /* all blocks */
};

static void read_tool_use(struct reader *x, struct answer *t, const struct json *block,
                          struct place at)
{
    const struct json *id = text_member(x->f, block, "id", at);
    const struct json *name = text_member(x->f, block, "name", at);
    const struct json *input = json_get(block, "input");
    if (!id || !name)
        return;
    if (!input || input->kind != JSON_OBJECT) {
        field_fail(x->f, E_INVALID, at.text, "input must be an object");
        return;
    }
    message_add_call(&x->r->arena, t->message, id->text, name->text, *input, t->content->count);
}

static void read_assistant_block(struct reader *x, struct answer *t, const struct json *block,
                                 struct place at)
{
    const struct json *type = json_get(block, "type"), *text = NULL;
    if (json_is_text(type, "text")) {
        text = text_member(x->f, block, "text", at);
        if (text)
            add_text(x, text->text);
    } else if (json_is_text(type, "thinking")) {
        text = text_member(x->f, block, "thinking", at);
        if (text)
            buf_add_slice(&t->reasoning, text->text);
    } else if (json_is_text(type, "tool_use")) {
        read_tool_use(x, t, block, at);
    } else if (!json_is_text(type, "redacted_thinking")) { /* unreadable to all but its maker */
        refuse_block(x, type, at);
    }
}

static void read_assistant(struct reader *x, const struct json *content, struct place at)
{
    struct answer t = {.message = message_add(&x->list, "assistant"), .content = content};
    buf_init(&t.reasoning, JSON_BYTES_MAX);
    for (size_t i = 0; i < content->count && x->f->status == OK; i++)
        read_assistant_block(x, &t, &content->items[i], place("%s[%zu]", at.text, i));
    if (t.reasoning.len)
        message_set(t.message, "reasoning_content",
                    json_of_text(text_of_buf(&x->r->arena, &t.reasoning)));
    struct json none = {.kind = JSON_NULL};
    bool is_empty = !x->has_text && t.message && json_member(t.message, "tool_calls");
    struct slice text = take_text(x);
    message_set(t.message, "content", is_empty ? none : json_of_text(text));
    buf_release(&t.reasoning);
}

static void read_message(struct reader *x, const struct json *message, size_t i)
{
    const struct json *role = json_get(message, "role"), *content = json_get(message, "content");
    struct place at = place("messages[%zu].content", i);
    bool is_user = json_is_text(role, "user"), is_assistant = json_is_text(role, "assistant");
    if (!is_user && !is_assistant && !json_is_text(role, "system")) {
        field_fail(x->f, E_INVALID, place("messages[%zu].role", i).text,
                   "must be \"user\" or \"assistant\"");
    } else if (content && content->kind == JSON_STRING) {
        message_set(message_add(&x->list, role->text.ptr), "content", *content);
    } else if (!content || content->kind != JSON_ARRAY) {
        field_fail(x->f, E_INVALID, at.text, "must be a string or an array of blocks");
    } else if (is_user) {
        read_user(x, content, at);
    } else if (is_assistant) {
        read_assistant(x, content, at);
    } else {
        struct slice text = read_texts(x, content, at);
        message_set(message_add(&x->list, "system"), "content", json_of_text(text));
    }
}

static void read_messages(struct reader *x)
{
    const struct json *v = field(x->f, "messages");
    if (x->f->status != OK)
        return;
    if (!v || v->kind != JSON_ARRAY || v->count == 0) {
        field_fail(x->f, E_INVALID, "messages", "must be an array of at least one message");
        return;
    }
    if (v->count > API_MESSAGES_MAX) {
        field_fail(x->f, E_LIMIT, "messages", "%zu of them, at most %u", v->count,
                   API_MESSAGES_MAX);
        return;
    }
    for (size_t i = 0; i < v->count && x->f->status == OK; i++)
        read_message(x, &v->items[i], i);
    if (x->f->status != OK)
        return;
    x->r->messages = message_list_end(&x->list);
    if (!x->r->messages) {
        field_fail(x->f, E_LIMIT, "messages", "too large");
        return;
    }
    const struct json *last = &x->list.items[x->list.n - 1];
    bool is_prefilled = x->list.n && json_is_text(json_get(last, "role"), "assistant") &&
                        !json_get(last, "tool_calls");
    x->r->continue_final_message = is_prefilled;
    x->r->add_generation_prompt = !is_prefilled;
}

/* ---- tools and the rest ---- */
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
        const struct json *name = json_get(tool, "name"), *schema = json_get(tool, "input_schema");
        struct place at = place("tools[%zu]", i);
        if (type && type->kind != JSON_NULL && !json_is_text(type, "custom"))
            field_fail(x->f, E_UNSUPPORTED, at.text, "tools of type \"%.40s\" are not supported",
                       type->kind == JSON_STRING ? type->text.ptr : "?");
        else if (!name || name->kind != JSON_STRING || name->text.len == 0)
            field_fail(x->f, E_INVALID, at.text, "name must be a string");
        else if (!schema || schema->kind != JSON_OBJECT)
            field_fail(x->f, E_INVALID, at.text, "input_schema must be an object");
        else
            tools->items[i] =
                tool_of(&x->r->arena, name, json_get(tool, "description"), schema, NULL);
    }
    if (v->count)
        x->r->tools = tools;
}

static void read_tool_choice(struct reader *x, struct api_call *c)
{
    const struct json *v = field(x->f, "tool_choice");
    const struct json *type = json_get(v, "type"), *name = json_get(v, "name");
    c->tool_choice = TOOLS_AUTO;
    if (!v)
        return;
    if (json_is_text(type, "none"))
        c->tool_choice = TOOLS_NONE;
    else if (json_is_text(type, "any"))
        c->tool_choice = TOOLS_REQUIRED;
    else if (json_is_text(type, "tool") && name && name->kind == JSON_STRING) {
        c->tool_choice = TOOLS_NAMED;
        c->tool_name = name->text;
    } else if (!json_is_text(type, "auto")) {
        field_fail(x->f, E_INVALID, "tool_choice",
                   "must be of type auto, any, none, or tool with a name");
    }
    const struct json *single = json_get(v, "disable_parallel_tool_use");
    c->is_single_call = single && single->kind == JSON_BOOL && single->boolean;
}

/* For templates that think on demand; how long the model thinks is its own choice. */
static void read_thinking(struct reader *x, int64_t max_tokens)
{
    const struct json *v = field(x->f, "thinking"), *type = json_get(v, "type");
    struct fields inner = {.object = v, .error = x->f->error};
    int64_t budget = 0;
    if (!v)
        return;
    bool is_on = json_is_text(type, "enabled") || json_is_text(type, "adaptive");
    if (!is_on && !json_is_text(type, "disabled")) {
        field_fail(x->f, E_INVALID, "thinking", "type must be enabled, adaptive or disabled");
        return;
    }
    if (field_int(&inner, "budget_tokens", 1, THINKING_BUDGET_MAX, &budget) && budget >= max_tokens)
        field_fail(x->f, E_INVALID, "thinking", "budget_tokens must be below max_tokens");
    if (inner.status != OK)
        x->f->status = inner.status;
    set_variable(x->r, "enable_thinking", (struct json){.kind = JSON_BOOL, .boolean = is_on});
}

static void read_output_config(struct reader *x, struct api_call *c)
{
    const struct json *v = field(x->f, "output_config");
    const struct json *effort = json_get(v, "effort"), *format = json_get(v, "format");
    if (v && v->kind != JSON_OBJECT)
        field_fail(x->f, E_INVALID, "output_config", "must be an object");
    if (format && format->kind != JSON_NULL)
        read_format(x->f, "output_config", format, c, x->r);
    if (effort && effort->kind != JSON_NULL)
        read_effort(x->f, "output_config", effort, x->r);
}

static const struct api_field prompt_rows[] = {
    {"model", FIELD_YES,
     "which one, echoed; without --models-dir any name means the one that is here", "7", NULL},
    {"messages", FIELD_YES,
     "user, assistant (the last one is continued), also system; content a string or blocks: text, "
     "thinking, tool_use, tool_result; others are refused; redacted_thinking is skipped",
     "7", NULL},
    {"system", FIELD_YES, "a string or text blocks, joined by line feeds", "7", NULL},
    {"tools", FIELD_YES, "name, description, input_schema; tools of the maker's own are refused",
     "7", NULL},
    {"tool_choice", FIELD_YES, "", "{\"type\":\"some\"}", NULL},
    {"thinking", FIELD_YES,
     "the template's enable_thinking; budget_tokens is checked, the model thinks as long as it "
     "does",
     "{\"type\":\"maybe\"}", NULL},
    {"output_config", FIELD_YES, "effort, for the template; format: json_schema, always kept",
     "{\"format\":{\"type\":\"json_schema\"}}", NULL},
    {"mcp_servers", FIELD_REFUSED, "", "[{\"type\":\"url\",\"url\":\"http://x\"}]", NULL},
    {"container", FIELD_REFUSED, "", "\"c\"", NULL},
    {"cache_control", FIELD_NONE, "every prefix is kept, here and on blocks", NULL, NULL},
    {"context_management", FIELD_NONE, "a prompt is used as it was sent", NULL, NULL},
};
static const struct field_set prompt_set = FIELD_SET(prompt_rows);

static const struct api_field generate_rows[] = {
    {"max_tokens", FIELD_YES, "required", "-1", NULL},
    {"stop_sequences", FIELD_YES, "up to 16; no part of one leaks", "7", NULL},
    {"temperature", FIELD_YES, "", "-1", NULL},
    {"top_p", FIELD_YES, "", "2", NULL},
    {"top_k", FIELD_YES, "", "0.5", NULL},
    {"stream", FIELD_YES, "", "7", NULL},
    {"metadata", FIELD_NONE, "no accounts by end user", NULL, NULL},
    {"service_tier", FIELD_NONE, "", NULL, NULL},
    {"inference_geo", FIELD_NONE, "it is where you run it", NULL, NULL},
    {"speed", FIELD_NONE, "", NULL, NULL},
};
static const struct field_set generate_set = FIELD_SET(generate_rows);
static const struct field_set *const all_fields[] = {&prompt_set, &generate_set, NULL};
static const struct field_set *const count_fields[] = {&prompt_set, NULL};

static void read_prompt(struct fields *f, struct api_call *c, struct engine_request *r,
                        int64_t max_tokens)
{
    struct reader x = {.f = f, .r = r, .list = {.arena = &r->arena}};
    buf_init(&x.text, JSON_BYTES_MAX);
    r->kind = PROMPT_CHAT;
    read_model(f, c);
    read_system(&x);
    read_messages(&x);
    read_tools(&x);
    read_tool_choice(&x, c);
    read_thinking(&x, max_tokens);
    read_output_config(&x, c);
    if (f->status == OK && r->arena.failed)
        field_fail(f, E_LIMIT, "messages", "too large");
    buf_release(&x.text);
}

static void read_count(struct fields *f, const struct api_context *context, struct api_call *c,
                       struct engine_request *r)
{
    (void)context;
    read_prompt(f, c, r, INT64_MAX);
}

static void read_create(struct fields *f, const struct api_context *context, struct api_call *c,
                        struct engine_request *r)
{
    int64_t max_tokens = 0, top_k = 0;
    (void)context;
    if (!field_int(f, "max_tokens", 0, UINT32_MAX - 1, &max_tokens))
        field_fail(f, E_INVALID, "max_tokens", "is missing");
    r->max_tokens = (uint32_t)max_tokens;
    read_prompt(f, c, r, max_tokens);
    read_stops(f, "stop_sequences", r);
    field_float(f, "temperature", 0, 2, &r->sampling.temperature);
    field_float(f, "top_p", 0, 1, &r->sampling.top_p);
    if (field_int(f, "top_k", INT32_MIN, INT32_MAX, &top_k))
        r->sampling.top_k = (int32_t)top_k;
    field_bool(f, "stream", &c->is_stream);
    c->wants_progress = true; /* as pings */
    read_tool_use_rules(f, c, r);
}

extern const struct api_writer writer_anthropic;
const struct api_dialect dialect_anthropic = {.name = "messages",
                                              .family = "Anthropic",
                                              .id_prefix = "msg_",
                                              .call_id_prefix = "toolu_",
                                              .request_id_header = "request-id",
                                              .stream_type = "text/event-stream",
                                              .read = read_create,
                                              .writer = &writer_anthropic,
                                              .error = anthropic_error,
                                              .fields = all_fields};

static void write_count(struct buf *out, uint32_t n)
{
    buf_printf(out, "{\"input_tokens\":%u}\n", n);
}

const struct api_dialect dialect_anthropic_count = {.name = "count_tokens",
                                                    .family = "Anthropic",
                                                    .id_prefix = "msg_",
                                                    .call_id_prefix = "toolu_",
                                                    .request_id_header = "request-id",
                                                    .read = read_count,
                                                    .count = write_count,
                                                    .writer = &writer_anthropic,
                                                    .error = anthropic_error,
                                                    .fields = count_fields};
