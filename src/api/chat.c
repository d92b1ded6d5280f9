/* SPDX-License-Identifier: MIT
 * chat.c — the request of /v1/chat/completions: messages, tools, template variables.
 * Messages go to the template as they came, but for three things that templates can't do:
 *   role "developer" (OpenAI's newer word) becomes "system";
 *   a content of text parts becomes one string, parts joined by line feeds;
 *   images and sounds are refused. */
#include <stdio.h>

#include "api/api_int.h"

#define EFFORT_BYTES_MAX 32u

/* "messages[3].content[0]" */
struct place {
    char text[64];
};

static struct place place(const char *fmt, ...) PRINTF_LIKE(1, 2);
static struct place place(const char *fmt, ...)
{
    struct place p;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(p.text, sizeof p.text, fmt, ap);
    va_end(ap);
    return p;
}

static struct json *member(struct json *object, const char *key)
{
    for (size_t i = 0; i < object->count; i++)
        if (slice_is(object->members[i].key, key))
            return &object->members[i].value;
    return NULL;
}

static bool is_text_of(const struct json *v, const char *text)
{
    return v && v->kind == JSON_STRING && slice_is(v->text, text);
}

/* The text of one part, or a refusal. */
static struct slice part_text(struct fields *f, struct json *part, size_t i, size_t j)
{
    struct slice none = {"", 0};
    const struct json *type = part->kind == JSON_OBJECT ? member(part, "type") : NULL;
    struct place at = place("messages[%zu].content[%zu]", i, j);
    if (part->kind == JSON_STRING)
        return part->text;
    if (!type || type->kind != JSON_STRING) {
        field_fail(f, E_INVALID, at.text, "must be an object with a type");
        return none;
    }
    const char *key = is_text_of(type, "text")      ? "text"
                      : is_text_of(type, "refusal") ? "refusal"
                                                    : NULL;
    const struct json *text = key ? member(part, key) : NULL;
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
    struct json *content = member(message, "content");
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
    struct json *role = message->kind == JSON_OBJECT ? member(message, "role") : NULL;
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
    struct json *calls = member(message, "tool_calls");
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

/* tool_choice "none" keeps the tools in the prompt, so that its prefix stays the same, and leaves
 * what the model writes alone. */
static void read_tools(struct fields *f, struct api_call *c, struct engine_request *r)
{
    const struct json *v = field(f, "tools"), *choice = field(f, "tool_choice");
    bool is_auto = !choice || is_text_of(choice, "auto");
    if (!is_auto && !is_text_of(choice, "none"))
        field_fail(f, E_UNSUPPORTED, "tool_choice", "only \"auto\" and \"none\" are supported yet");
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
    c->finds_tools = is_auto;
}

/* chat_template_kwargs, and reasoning_effort under the names that templates know: the word itself
 * (gpt-oss), enable_thinking false for "none" (Qwen 3).  Templates without them don't notice. */
static void read_variables(struct fields *f, struct engine_request *r)
{
    const struct json *given = field(f, "chat_template_kwargs");
    struct slice effort = {0};
    bool has_effort = field_string(f, "reasoning_effort", &effort);
    if (given && given->kind != JSON_OBJECT)
        field_fail(f, E_INVALID, "chat_template_kwargs", "must be an object");
    if (has_effort && (effort.len == 0 || effort.len > EFFORT_BYTES_MAX))
        field_fail(f, E_INVALID, "reasoning_effort", "must be a word");
    if (f->status != OK)
        return;
    r->variables = given;
    if (!has_effort)
        return;
    size_t n = given ? given->count : 0;
    struct json *all = json_new_object(&r->arena, n + 2);
    if (!all) {
        field_fail(f, E_NOMEM, "chat_template_kwargs", "out of memory");
        return;
    }
    for (size_t i = 0; i < n; i++)
        all->members[i] = given->members[i];
    if (!json_get(given, "reasoning_effort"))
        all->members[n++] = (struct json_member){SLICE_LIT("reasoning_effort"),
                                                 {.kind = JSON_STRING, .text = effort}};
    if (slice_is(effort, "none") && !json_get(given, "enable_thinking"))
        all->members[n++] = (struct json_member){SLICE_LIT("enable_thinking"), {.kind = JSON_BOOL}};
    all->count = n;
    r->variables = all;
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

void read_chat(struct fields *f, struct api_call *c, struct engine_request *r)
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
    read_tools(f, c, r);
    read_variables(f, r);
    read_logprobs(f, c, r);
}
