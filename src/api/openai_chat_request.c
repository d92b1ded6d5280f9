/* SPDX-License-Identifier: MIT
 * openai_chat_request.c — the request of /v1/chat/completions: messages, tools, template variables.
 * Messages go to the template as they came, but for three things that templates can't do:
 *   role "developer" (OpenAI's newer word) becomes "system";
 *   a content of text parts becomes one string, parts joined by line feeds;
 *   images and sounds are refused. */
#include "api/messages.h"

/* The text of one part, or a refusal. */
static struct slice part_text(struct fields *f, struct json *part, size_t i, size_t j)
{
    struct slice none = {"", 0};
    const struct json *type = part->kind == JSON_OBJECT ? json_member(part, "type") : NULL;
    struct place at = place("messages[%zu].content[%zu]", i, j);
    if (part->kind == JSON_STRING)
        return part->text;
    if (!type || type->kind != JSON_STRING) {
        field_fail(f, E_INVALID, at.text, "must be an object with a type");
        return none;
    }
    const char *key = json_is_text(type, "text")      ? "text"
                      : json_is_text(type, "refusal") ? "refusal"
                                                      : NULL;
    const struct json *text = key ? json_member(part, key) : NULL;
    if (!key)
        field_fail(f, E_UNSUPPORTED, at.text, "parts of type \"%.32s\" are not supported",
                   type->text.ptr);
    else if (!text || text->kind != JSON_STRING)
        field_fail(f, E_INVALID, at.text, "%s must be a string", key);
    return text && text->kind == JSON_STRING ? text->text : none;
}

static void join_parts(struct fields *f, struct arena *a, struct json *content, size_t i)
{
    struct buf b;
    buf_init(&b, JSON_BYTES_MAX);
    for (size_t j = 0; j < content->count && f->status == OK; j++) {
        if (j > 0)
            buf_add_char(&b, '\n');
        buf_add_slice(&b, part_text(f, &content->items[j], i, j));
    }
    char *text = b.failed ? NULL : arena_text(a, buf_slice(&b).ptr, b.len);
    if (!text)
        field_fail(f, E_LIMIT, "messages", "too large");
    else
        *content = (struct json){.kind = JSON_STRING, .text = {text, b.len}};
    buf_release(&b);
}

static void check_content(struct fields *f, struct arena *a, struct json *message, size_t i,
                          bool may_lack)
{
    struct json *content = json_member(message, "content");
    struct place at = place("messages[%zu].content", i);
    if (content && content->kind == JSON_ARRAY)
        join_parts(f, a, content, i);
    else if (!content || content->kind == JSON_NULL) {
        if (!may_lack)
            field_fail(f, E_INVALID, at.text, "is missing");
    } else if (content->kind != JSON_STRING)
        field_fail(f, E_INVALID, at.text, "must be a string or an array of parts");
}

static void check_calls(struct fields *f, struct json *calls, size_t i)
{
    struct place at = place("messages[%zu].tool_calls", i);
    if (calls->kind != JSON_ARRAY) {
        field_fail(f, E_INVALID, at.text, "must be an array");
        return;
    }
    for (size_t j = 0; j < calls->count; j++) {
        const struct json *fn = json_get(&calls->items[j], "function");
        const struct json *name = json_get(fn ? fn : &calls->items[j], "name");
        if (!name || name->kind != JSON_STRING)
            field_fail(f, E_INVALID, at.text, "each needs a function with a name");
    }
}

static void check_message(struct fields *f, struct arena *a, struct json *message, size_t i)
{
    static const char *const roles[] = {"system",    "developer", "user",
                                        "assistant", "tool",      "function"};
    struct json *role = message->kind == JSON_OBJECT ? json_member(message, "role") : NULL;
    if (!role || role->kind != JSON_STRING) {
        field_fail(f, E_INVALID, place("messages[%zu].role", i).text, "must be a string");
        return;
    }
    bool is_known = false;
    for (size_t j = 0; j < sizeof roles / sizeof *roles; j++)
        is_known |= slice_is(role->text, roles[j]);
    if (!is_known) {
        field_fail(f, E_INVALID, place("messages[%zu].role", i).text, "unknown role \"%.40s\"",
                   role->text.ptr);
        return;
    }
    if (slice_is(role->text, "developer"))
        role->text = SLICE_LIT("system");
    bool is_assistant = slice_is(role->text, "assistant");
    struct json *calls = json_member(message, "tool_calls");
    bool has_calls = is_assistant && calls && calls->kind != JSON_NULL;
    if (has_calls)
        check_calls(f, calls, i);
    check_content(f, a, message, i, has_calls);
}

static void read_messages(struct fields *f, struct engine_request *r)
{
    const struct json *v = field(f, "messages");
    if (f->status != OK)
        return;
    if (!v || v->kind != JSON_ARRAY || v->count == 0) {
        field_fail(f, E_INVALID, "messages", "must be an array of at least one message");
        return;
    }
    if (v->count > API_MESSAGES_MAX) {
        field_fail(f, E_LIMIT, "messages", "%zu of them, at most %u", v->count, API_MESSAGES_MAX);
        return;
    }
    for (size_t i = 0; i < v->count && f->status == OK; i++)
        check_message(f, &r->arena, &v->items[i], i);
    r->messages = v;
}

static void check_tool(struct fields *f, const struct json *tool, size_t i)
{
    const struct json *type = json_get(tool, "type");
    const struct json *name = json_get(json_get(tool, "function"), "name");
    struct place at = place("tools[%zu]", i);
    if (!type || type->kind != JSON_STRING)
        field_fail(f, E_INVALID, at.text, "must be an object with a type");
    else if (!slice_is(type->text, "function"))
        field_fail(f, E_UNSUPPORTED, at.text, "tools of type \"%.40s\" are not supported",
                   type->text.ptr);
    else if (!name || name->kind != JSON_STRING || name->text.len == 0)
        field_fail(f, E_INVALID, at.text, "function.name must be a string");
}

static void read_tool_choice(struct fields *f, struct api_call *c)
{
    const struct json *v = field(f, "tool_choice");
    const struct json *name = json_get(json_get(v, "function"), "name");
    if (!v || json_is_text(v, "auto")) {
        c->tool_choice = TOOLS_AUTO;
    } else if (json_is_text(v, "none")) {
        c->tool_choice = TOOLS_NONE;
    } else if (json_is_text(v, "required")) {
        c->tool_choice = TOOLS_REQUIRED;
    } else if (json_is_text(json_get(v, "type"), "function") && name && name->kind == JSON_STRING) {
        c->tool_choice = TOOLS_NAMED;
        c->tool_name = name->text;
    } else {
        field_fail(f, E_INVALID, "tool_choice",
                   "must be auto, none, required, or a function with a name");
    }
    bool is_parallel = true;
    field_bool(f, "parallel_tool_calls", &is_parallel);
    c->is_single_call = !is_parallel;
}

void read_openai_tools(struct fields *f, struct engine_request *r)
{
    const struct json *v = field(f, "tools");
    if (!v || f->status != OK)
        return;
    if (v->kind != JSON_ARRAY) {
        field_fail(f, E_INVALID, "tools", "must be an array");
        return;
    }
    if (v->count > API_TOOLS_MAX)
        field_fail(f, E_LIMIT, "tools", "%zu of them, at most %u", v->count, API_TOOLS_MAX);
    for (size_t i = 0; i < v->count && f->status == OK; i++)
        check_tool(f, &v->items[i], i);
    if (v->count == 0)
        return;
    r->tools = v;
}

static void read_variables(struct fields *f, struct engine_request *r)
{
    const struct json *given = field(f, "chat_template_kwargs");
    const struct json *effort = field(f, "reasoning_effort");
    if (given && given->kind != JSON_OBJECT)
        field_fail(f, E_INVALID, "chat_template_kwargs", "must be an object");
    if (f->status != OK)
        return;
    r->variables = given;
    if (effort)
        read_effort(f, "reasoning_effort", effort, r);
}

static void read_logprobs(struct fields *f, struct api_call *c, struct engine_request *r)
{
    int64_t n = 0;
    field_bool(f, "logprobs", &c->wants_logprobs);
    if (field_int(f, "top_logprobs", 0, SAMPLER_TOP_LOGPROBS_MAX, &n) && n > 0 &&
        !c->wants_logprobs)
        field_fail(f, E_INVALID, "top_logprobs", "needs logprobs: true");
    c->n_top_logprobs = (uint32_t)n;
    r->sampling.wants_logprob = c->wants_logprobs;
    r->sampling.n_top_logprobs = c->n_top_logprobs;
}

static const struct api_field own_fields[] = {
    {"messages", FIELD_YES,
     "roles system, developer (= system), user, assistant with tool_calls, tool; content a string "
     "or text parts, joined by line feeds",
     "7", NULL},
    {"tools", FIELD_YES, "functions", "7", NULL},
    {"tool_choice", FIELD_YES,
     "auto; none: the tools stay in the prompt, so that its prefix stays the same", "7", NULL},
    {"logprobs", FIELD_YES, "", "7", NULL},
    {"top_logprobs", FIELD_YES, "0 to 20", "-1", NULL},
    {"reasoning_effort", FIELD_YES,
     "for the template, by this name; none also sets enable_thinking to false", "7", NULL},
    {"chat_template_kwargs", FIELD_YES, "variables for the template", "7", NULL},
    {"continue_final_message", FIELD_YES, "the reply goes on with the last message", "7", NULL},
    {"add_generation_prompt", FIELD_YES, "", "7", NULL},
    {"parallel_tool_calls", FIELD_YES, "false: one call at most", "7", NULL},
    {"modalities", FIELD_YES, "[\"text\"]; others are refused", "[\"audio\"]", NULL},
    {"functions", FIELD_REFUSED, "use tools", "[{\"name\":\"f\"}]", NULL},
    {"function_call", FIELD_REFUSED, "use tool_choice", "\"auto\"", "\"none\""},
    {"audio", FIELD_REFUSED, "", "{\"voice\":\"alloy\"}", NULL},
    {"prediction", FIELD_REFUSED, "", "{\"type\":\"content\"}", NULL},
    {"web_search_options", FIELD_REFUSED, "", "{\"search_context_size\":\"low\"}", NULL},
};
const struct field_set fields_openai_chat_own = FIELD_SET(own_fields);
const struct field_set *const fields_openai_chat[] = {
    &fields_openai_chat_own, &fields_format,       &fields_common,        &fields_sampling,
    &fields_filters,         &fields_openai_inert, &fields_llama_refused, NULL};

static void read_modalities(struct fields *f)
{
    const struct json *modalities = field(f, "modalities");
    bool is_text = modalities && modalities->kind == JSON_ARRAY && modalities->count == 1 &&
                   json_is_text(&modalities->items[0], "text");
    bool is_none = modalities && modalities->kind == JSON_ARRAY && modalities->count == 0;
    if (modalities && !is_text && !is_none)
        field_fail(f, E_UNSUPPORTED, "modalities", "only [\"text\"] is supported");
}

void read_openai_chat(struct fields *f, const struct api_context *context, struct api_call *c,
                      struct engine_request *r)
{
    r->kind = PROMPT_CHAT;
    r->add_generation_prompt = true;
    r->continue_final_message = false;
    field_bool(f, "continue_final_message", &r->continue_final_message);
    if (r->continue_final_message)
        r->add_generation_prompt = false;
    field_bool(f, "add_generation_prompt", &r->add_generation_prompt);
    if (r->continue_final_message && r->add_generation_prompt)
        field_fail(f, E_INVALID, "continue_final_message", "excludes add_generation_prompt");
    read_messages(f, r);
    read_openai_tools(f, r);
    read_tool_choice(f, c);
    read_tool_use_rules(f, c, r);
    read_modalities(f);
    read_formats(f, c, r);
    read_variables(f, r);
    read_logprobs(f, c, r);
    read_common(f, c, r);
    read_sampling(f, context, r);
    read_filters(f, context, r);
    read_best_of(f);
}

extern const struct api_writer writer_openai_chat;
const struct api_dialect dialect_openai_chat_count = {.name = "input_tokens",
                                                      .family = "OpenAI",
                                                      .id_prefix = "chatcmpl-",
                                                      .call_id_prefix = "call_",
                                                      .read = read_openai_chat,
                                                      .count = openai_count,
                                                      .writer = &writer_openai_chat,
                                                      .error = openai_error,
                                                      .fields = fields_openai_chat};
const struct api_dialect dialect_openai_chat = {.name = "chat completions",
                                                .family = "OpenAI",
                                                .id_prefix = "chatcmpl-",
                                                .call_id_prefix = "call_",
                                                .stream_type = "text/event-stream",
                                                .read = read_openai_chat,
                                                .writer = &writer_openai_chat,
                                                .error = openai_error,
                                                .fields = fields_openai_chat};
