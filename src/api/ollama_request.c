/* SPDX-License-Identifier: MIT
 * ollama_request.c — Ollama's requests: /api/chat and /api/generate.
 * Streaming is the default there.  "options" are fields within a field: the table names them
 * "options.NAME".  A request without a prompt asks whether the model is there, and is answered at
 * once. */
#include <stdlib.h>

#include "api/messages.h"
#include "base/check.h"

/* ---- options ---- */
static const struct api_field option_rows[] = {
    {"options.temperature", FIELD_YES, "0 takes the likeliest token", "-1", NULL},
    {"options.top_k", FIELD_YES, "0 and below: all", "0.5", NULL},
    {"options.top_p", FIELD_YES, "", "2", NULL},
    {"options.min_p", FIELD_YES, "", "2", NULL},
    {"options.typical_p", FIELD_YES, "", "2", NULL},
    {"options.seed", FIELD_YES, "absent or -1: drawn", "\"x\"", NULL},
    {"options.repeat_penalty", FIELD_YES, "over prompt and reply", "0", NULL},
    {"options.repeat_last_n", FIELD_YES, "-1: all", "-2", NULL},
    {"options.presence_penalty", FIELD_YES, "over the reply", "1e9", NULL},
    {"options.frequency_penalty", FIELD_YES, "over the reply", "1e9", NULL},
    {"options.stop", FIELD_YES, "a string or up to 16", "7", NULL},
    {"options.num_predict", FIELD_YES, "-1, -2: to the end of the context", "-3", NULL},
    {"options.num_ctx", FIELD_YES,
     "up to the context that is served, which is always all there; more is refused", "999999999",
     NULL},
    {"options.num_keep", FIELD_NONE, "a prompt is never cut", NULL, NULL},
    {"options.num_batch", FIELD_NONE, "no result depends on it", NULL, NULL},
    {"options.num_thread", FIELD_NONE, "no result depends on it; --threads", NULL, NULL},
    {"options.num_gpu", FIELD_NONE, "no result depends on it", NULL, NULL},
    {"options.main_gpu", FIELD_NONE, "", NULL, NULL},
    {"options.low_vram", FIELD_NONE, "", NULL, NULL},
    {"options.use_mmap", FIELD_NONE, "", NULL, NULL},
    {"options.use_mlock", FIELD_NONE, "", NULL, NULL},
    {"options.numa", FIELD_NONE, "", NULL, NULL},
    {"options.draft_num_predict", FIELD_NONE, "no result depends on it; --speculate", NULL, NULL},
    {"options.mirostat", FIELD_YES, "1, 2: instead of all filters but temperature", "3", NULL},
    {"options.mirostat_tau", FIELD_YES, "bits of surprise, default 5", "-1", NULL},
    {"options.mirostat_eta", FIELD_YES, "default 0.1", "2", NULL},
    {"options.tfs_z", FIELD_NONE, "Ollama took it out in 2025, and ignores it", NULL, NULL},
    {"options.penalize_newline", FIELD_NONE, "Ollama took it out in 2025, and ignores it", NULL,
     NULL},
};
static const struct field_set options_set = FIELD_SET(option_rows);

static const struct api_field shared_rows[] = {
    {"model", FIELD_YES,
     "which one, echoed; without --models-dir any name means the one that is here", "7", NULL},
    {"stream", FIELD_YES, "default true: a line of JSON a piece", "7", NULL},
    {"format", FIELD_YES, "\"json\" or a schema", "7", NULL},
    {"options", FIELD_YES, "see below", "7", NULL},
    {"keep_alive", FIELD_YES,
     "a duration, seconds, or negative: for ever; 0: the model goes after this; refused for the "
     "one "
     "that stays",
     "0", NULL},
    {"think", FIELD_YES, "true, false, or low, medium, high; refused where the model can't", "7",
     NULL},
    {"logprobs", FIELD_YES, "", "7", NULL},
    {"top_logprobs", FIELD_YES, "0 to 20", "-1", NULL},
};
static const struct field_set shared = FIELD_SET(shared_rows);

void read_num_ctx(struct fields *f, const struct api_context *context)
{
    int64_t n = 0;
    if (field_int(f, "num_ctx", 0, INT32_MAX, &n) && n > context->n_ctx)
        field_fail(f, E_UNSUPPORTED, "num_ctx", "the context holds %u tokens; see --ctx",
                   context->n_ctx);
}

static void read_options(struct fields *f, const struct api_context *context,
                         struct engine_request *r)
{
    const struct json *v = field(f, "options");
    int64_t n = -1;
    if (!v || f->status != OK)
        return;
    if (v->kind != JSON_OBJECT) {
        field_fail(f, E_INVALID, "options", "must be an object");
        return;
    }
    struct fields inner = {.object = v, .error = f->error, .prefix = "options."};
    read_sampling(&inner, context, r);
    read_mirostat(&inner, r);
    read_stops(&inner, "stop", r);
    read_num_ctx(&inner, context);
    if (field_int(&inner, "num_predict", -2, UINT32_MAX - 1, &n))
        r->max_tokens = n < 0 ? ENGINE_TOKENS_ALL : (uint32_t)n;
    f->status = inner.status;
}

static void read_answer_format(struct fields *f, struct api_call *c, struct engine_request *r)
{
    const struct json *v = field(f, "format");
    if (!v || (v->kind == JSON_STRING && v->text.len == 0))
        return;
    struct json *any = json_new_object(&r->arena, 1);
    if (v->kind == JSON_OBJECT) {
        c->schema = v;
    } else if (!json_is_text(v, "json")) {
        field_fail(f, E_INVALID, "format", "must be \"json\" or a schema");
    } else if (any) {
        any->members[0] =
            (struct json_member){SLICE_LIT("type"), json_of_text(SLICE_LIT("object"))};
        c->schema = any;
    }
}

static void read_think(struct fields *f, const struct api_context *context,
                       struct engine_request *r)
{
    const struct json *v = field(f, "think");
    if (!v)
        return;
    bool is_word = json_is_text(v, "low") || json_is_text(v, "medium") || json_is_text(v, "high");
    bool thinks = is_word || (v->kind == JSON_BOOL && v->boolean);
    if (v->kind != JSON_BOOL && !is_word) {
        field_fail(f, E_INVALID, "think", "must be true, false, or low, medium, high");
    } else if (thinks && !template_thinks(context)) {
        field_fail(f, E_UNSUPPORTED, "think", "this model does not think");
    } else {
        set_variable(r, "enable_thinking", (struct json){.kind = JSON_BOOL, .boolean = thinks});
        if (is_word)
            set_variable(r, "reasoning_effort", *v);
    }
}

static void read_logprobs(struct fields *f, struct api_call *c, struct engine_request *r)
{
    int64_t n = 0;
    field_bool(f, "logprobs", &c->wants_logprobs);
    if (field_int(f, "top_logprobs", 0, SAMPLER_TOP_LOGPROBS_MAX, &n) && n > 0)
        c->wants_logprobs = true;
    c->n_top_logprobs = (uint32_t)n;
    r->sampling.wants_logprob = c->wants_logprobs;
    r->sampling.n_top_logprobs = c->n_top_logprobs;
}

static void read_shared(struct fields *f, const struct api_context *context, struct api_call *c,
                        struct engine_request *r)
{
    c->is_stream = true;
    field_bool(f, "stream", &c->is_stream);
    read_model(f, c);
    read_options(f, context, r);
    read_keep_alive(f, context, c);
    read_answer_format(f, c, r);
    read_think(f, context, r);
    read_logprobs(f, c, r);
}

static void refuse_images(struct fields *f, const struct json *holder, struct place at)
{
    const struct json *images = json_get(holder, "images");
    if (images && images->kind != JSON_NULL && !(images->kind == JSON_ARRAY && images->count == 0))
        field_fail(f, E_UNSUPPORTED, at.text, "models here read text");
}

/* ---- /api/chat ---- */
/* {"function": {"name", "arguments": {…}}}, with an id in newer clients. */
static void add_calls(struct fields *f, struct engine_request *r, struct json *message,
                      const struct json *calls, struct place at)
{
    if (calls->kind != JSON_ARRAY) {
        field_fail(f, E_INVALID, at.text, "must be an array");
        return;
    }
    for (size_t i = 0; i < calls->count && f->status == OK; i++) {
        const struct json *fn = json_get(&calls->items[i], "function"),
                          *name = json_get(fn, "name"), *arguments = json_get(fn, "arguments"),
                          *id = json_get(&calls->items[i], "id");
        struct json none = {.kind = JSON_OBJECT};
        if (!name || name->kind != JSON_STRING)
            field_fail(f, E_INVALID, at.text, "each needs a function with a name");
        else
            message_add_call(&r->arena, message,
                             id && id->kind == JSON_STRING ? id->text : (struct slice){"", 0},
                             name->text, arguments ? *arguments : none, calls->count);
    }
}

static void copy_text(struct json *message, const char *to, const struct json *from)
{
    if (from && from->kind == JSON_STRING && from->text.len)
        message_set(message, to, *from);
}

static void read_message(struct fields *f, struct engine_request *r, struct message_list *list,
                         const struct json *m, size_t i)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool"};
    const struct json *role = json_get(m, "role"), *content = json_get(m, "content"),
                      *calls = json_get(m, "tool_calls");
    const char *known = NULL;
    for (size_t j = 0; j < ARRAY_COUNT(roles); j++)
        known = json_is_text(role, roles[j]) ? roles[j] : known;
    if (!known) {
        field_fail(f, E_INVALID, place("messages[%zu].role", i).text,
                   "must be system, user, assistant or tool");
        return;
    }
    if (content && content->kind != JSON_STRING && content->kind != JSON_NULL) {
        field_fail(f, E_INVALID, place("messages[%zu].content", i).text, "must be a string");
        return;
    }
    refuse_images(f, m, place("messages[%zu].images", i));
    struct json *message = message_add(list, known);
    bool has_text = content && content->kind == JSON_STRING;
    message_set(message, "content", has_text ? *content : json_of_text((struct slice){"", 0}));
    if (slice_is(role->text, "assistant")) {
        copy_text(message, "reasoning_content", json_get(m, "thinking"));
        if (calls && calls->kind != JSON_NULL)
            add_calls(f, r, message, calls, place("messages[%zu].tool_calls", i));
    } else if (slice_is(role->text, "tool")) {
        const struct json *name = json_get(m, "tool_name");
        copy_text(message, "name", name ? name : json_get(m, "name"));
        copy_text(message, "tool_call_id", json_get(m, "tool_call_id"));
    }
}

static void read_messages(struct fields *f, struct api_call *c, struct engine_request *r)
{
    const struct json *v = field(f, "messages");
    struct message_list list = {.arena = &r->arena};
    if (f->status != OK)
        return;
    if (v && v->kind != JSON_ARRAY) {
        field_fail(f, E_INVALID, "messages", "must be an array");
        return;
    }
    if (v && v->count > API_MESSAGES_MAX)
        field_fail(f, E_LIMIT, "messages", "at most %u of them", API_MESSAGES_MAX);
    for (size_t i = 0; v && i < v->count && f->status == OK; i++)
        read_message(f, r, &list, &v->items[i], i);
    c->is_answered = !v || v->count == 0;
    r->messages = message_list_end(&list);
    if (!r->messages)
        field_fail(f, E_LIMIT, "messages", "too large");
}

static void read_chat(struct fields *f, const struct api_context *context, struct api_call *c,
                      struct engine_request *r)
{
    r->kind = PROMPT_CHAT;
    r->add_generation_prompt = true;
    read_messages(f, c, r);
    read_openai_tools(f, r);
    c->finds_tools = r->tools != NULL;
    read_shared(f, context, c, r);
}

/* ---- /api/generate ---- */
static void read_generate(struct fields *f, const struct api_context *context, struct api_call *c,
                          struct engine_request *r)
{
    struct slice prompt = {"", 0}, system = {"", 0};
    struct message_list list = {.arena = &r->arena};
    bool is_raw = false;
    field_string(f, "prompt", &prompt);
    field_string(f, "system", &system);
    field_bool(f, "raw", &is_raw);
    c->is_answered = prompt.len == 0;
    if (is_raw) {
        r->kind = PROMPT_TEXT;
        r->text = prompt;
        if (system.len)
            field_fail(f, E_INVALID, "system", "excludes raw");
    } else {
        r->kind = PROMPT_CHAT;
        r->add_generation_prompt = true;
        if (system.len)
            message_set(message_add(&list, "system"), "content", json_of_text(system));
        message_set(message_add(&list, "user"), "content", json_of_text(prompt));
        r->messages = message_list_end(&list);
        if (!r->messages)
            field_fail(f, E_LIMIT, "prompt", "too large");
    }
    if (prompt.len)
        read_suffix(f, context, prompt, r);
    read_shared(f, context, c, r);
}

static const struct api_field chat_rows[] = {
    {"messages", FIELD_YES,
     "roles system, user, assistant, tool; content, thinking, tool_calls, tool_name; none: is the "
     "model there?",
     "7", NULL},
    {"tools", FIELD_YES, "functions", "7", NULL},
};
static const struct field_set chat_set = FIELD_SET(chat_rows);
static const struct api_field generate_rows[] = {
    {"prompt", FIELD_YES, "goes through the template; empty: is the model there?", "7", NULL},
    {"system", FIELD_YES, "", "7", NULL},
    {"raw", FIELD_YES, "true: without the template", "7", NULL},
    {"suffix", FIELD_YES,
     "what stands behind, where the model has tokens for it; then the prompt "
     "does not go through the template",
     "7", NULL},
    {"template", FIELD_REFUSED, "the model's own is used", "\"{{ .Prompt }}\"", NULL},
    {"context", FIELD_REFUSED, "/api/chat goes on with what was said", "[1,2]", NULL},
    {"images", FIELD_REFUSED, "models here read text", "[\"aGk=\"]", NULL},
};
static const struct field_set generate_set = FIELD_SET(generate_rows);
static const struct field_set *const chat_fields[] = {&chat_set, &shared, &options_set, NULL};
static const struct field_set *const generate_fields[] = {&generate_set, &shared, &options_set,
                                                          NULL};

extern const struct api_writer writer_ollama_chat, writer_ollama_generate;
const struct api_dialect dialect_ollama_chat = {.name = "chat",
                                                .family = "Ollama",
                                                .id_prefix = "ollama-",
                                                .call_id_prefix = "call_",
                                                .stream_type = "application/x-ndjson",
                                                .read = read_chat,
                                                .writer = &writer_ollama_chat,
                                                .unloads = true,
                                                .error = ollama_error,
                                                .fields = chat_fields};
const struct api_dialect dialect_ollama_generate = {.name = "generate",
                                                    .family = "Ollama",
                                                    .id_prefix = "ollama-",
                                                    .call_id_prefix = "call_",
                                                    .stream_type = "application/x-ndjson",
                                                    .read = read_generate,
                                                    .writer = &writer_ollama_generate,
                                                    .unloads = true,
                                                    .error = ollama_error,
                                                    .fields = generate_fields};
