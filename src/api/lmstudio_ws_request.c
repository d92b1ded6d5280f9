/* SPDX-License-Identifier: MIT
 * lmstudio_ws_request.c — the channel "predict" of LM Studio's SDK: a history and layers of
 * settings (the later wins) become a request.  `complete` is a history of one message under a
 * template that adds nothing: it goes to the model as text. */
#include "api/lmstudio_ws_int.h"

#define KEY        "llm.prediction."
#define FIELDS_MAX 1024u /* of all layers of settings; the SDK has some forty keys */

/* ---- settings ---- */
const struct json *lms_config(const struct json *stack, const char *key)
{
    const struct json *layers = json_get(stack, "layers"), *found = NULL;
    for (size_t i = 0; layers && layers->kind == JSON_ARRAY && i < layers->count; i++) {
        const struct json *fields = json_get(json_get(&layers->items[i], "config"), "fields");
        for (size_t j = 0; fields && fields->kind == JSON_ARRAY && j < fields->count; j++)
            if (json_is_text(json_get(&fields->items[j], "key"), key))
                found = json_get(&fields->items[j], "value");
    }
    return found && found->kind != JSON_NULL ? found : NULL;
}

/* Every field of every layer, but for those that a later one replaces. */
void lms_write_config(struct json_writer *w, const struct json *stack)
{
    const struct json *layers = json_get(stack, "layers");
    jw_begin_object(w);
    jw_key(w, "fields");
    jw_begin_array(w);
    for (size_t i = 0; layers && layers->kind == JSON_ARRAY && i < layers->count; i++) {
        const struct json *fields = json_get(json_get(&layers->items[i], "config"), "fields");
        for (size_t j = 0; fields && fields->kind == JSON_ARRAY && j < fields->count; j++) {
            const struct json *key = json_get(&fields->items[j], "key");
            const struct json *value = json_get(&fields->items[j], "value");
            if (!key || !value || key->kind != JSON_STRING ||
                value != lms_config(stack, key->text.ptr))
                continue;
            jw_begin_object(w);
            jw_key(w, "key");
            jw_string(w, key->text);
            jw_key(w, "value");
            jw_value(w, value);
            jw_end_object(w);
        }
    }
    jw_end_array(w);
    jw_end_object(w);
}

static void check_size(struct fields *f)
{
    const struct json *layers = json_get(json_get(f->object, "predictionConfigStack"), "layers");
    size_t n = 0;
    for (size_t i = 0; layers && layers->kind == JSON_ARRAY && i < layers->count; i++) {
        const struct json *fields = json_get(json_get(&layers->items[i], "config"), "fields");
        n += 1 + (fields ? fields->count : 0);
    }
    if (n > FIELDS_MAX)
        field_fail(f, E_LIMIT, "predictionConfigStack", "at most %u fields", FIELDS_MAX);
}

static const struct json *setting(struct fields *f, const char *key)
{
    return f->status == OK ? lms_config(json_get(f->object, "predictionConfigStack"), key) : NULL;
}

/* {"checked": bool, "value": number} */
static bool is_checked(const struct json *v)
{
    const struct json *checked = json_get(v, "checked");
    return checked && checked->kind == JSON_BOOL && checked->boolean;
}

static struct json number_of(double value)
{
    bool is_whole = value == (double)(int64_t)value;
    return (struct json){
        .kind = is_whole ? JSON_INT : JSON_REAL, .integer = (int64_t)value, .real = value};
}

/* The numbers under the names that sampling.c and filters.c read.  off: what a box that is not
 * checked means. */
static const struct {
    const char *key, *name;
    bool is_box;
    double off;
} numbers[] = {
    {KEY "temperature", "temperature", false, 0},
    {KEY "topKSampling", "top_k", false, 0},
    {KEY "topPSampling", "top_p", true, 1},
    {KEY "minPSampling", "min_p", true, 0},
    {KEY "repeatPenalty", "repeat_penalty", true, 1},
    {KEY "seed", "seed", true, -1},
    {KEY "llama.frequencyPenalty", "frequency_penalty", true, 0},
    {KEY "llama.presencePenalty", "presence_penalty", true, 0},
    {KEY "llama.locallyTypicalSampling", "typical_p", true, 1},
    {KEY "llama.xtcProbability", "xtc_probability", true, 0},
    {KEY "llama.xtcThreshold", "xtc_threshold", true, 0.1},
};
#define N_NUMBERS (sizeof numbers / sizeof *numbers)

/* Members of one setting. */
static const struct {
    const char *key, *name;
} mirostat[] = {
    {"version", "mirostat"}, {"targetEntropy", "mirostat_tau"}, {"learningRate", "mirostat_eta"}};
#define N_MIROSTAT (sizeof mirostat / sizeof *mirostat)

/* [[id, number or "-inf"], …]: sampling.c takes false for the latter. */
static struct json bias_of(struct arena *a, const struct json *v)
{
    struct json *list = json_new_array(a, v->kind == JSON_ARRAY ? v->count : 0);
    if (!list || v->kind != JSON_ARRAY)
        return *v;
    for (size_t i = 0; i < v->count; i++) {
        list->items[i] = v->items[i];
        if (v->items[i].kind != JSON_ARRAY || v->items[i].count != 2 ||
            !json_is_text(&v->items[i].items[1], "-inf"))
            continue;
        struct json *pair = json_new_array(a, 2);
        if (!pair)
            return *v;
        pair->items[0] = v->items[i].items[0];
        pair->items[1] = (struct json){.kind = JSON_BOOL};
        list->items[i] = *pair;
    }
    return *list;
}

static void read_numbers(struct fields *f, const struct api_context *context,
                         struct engine_request *r)
{
    const struct json *bias = setting(f, KEY "llama.logitBias");
    struct json *object = json_new_object(&r->arena, N_NUMBERS + N_MIROSTAT + 1);
    if (!object) {
        field_fail(f, E_NOMEM, "predictionConfigStack", "out of memory");
        return;
    }
    object->count = 0;
    for (size_t i = 0; i < N_NUMBERS; i++) {
        const struct json *v = setting(f, numbers[i].key);
        if (!v)
            continue;
        struct json value = *v;
        if (numbers[i].is_box && is_checked(v))
            value = json_get(v, "value") ? *json_get(v, "value") : (struct json){0};
        else if (numbers[i].is_box)
            value = number_of(numbers[i].off);
        object->members[object->count++] = (struct json_member){slice_of(numbers[i].name), value};
    }
    if (bias)
        object->members[object->count++] =
            (struct json_member){SLICE_LIT("logit_bias"), bias_of(&r->arena, bias)};
    for (size_t i = 0; i < N_MIROSTAT; i++) {
        const struct json *v = json_get(setting(f, KEY "llama.mirostatSampling"), mirostat[i].key);
        if (v)
            object->members[object->count++] = (struct json_member){slice_of(mirostat[i].name), *v};
    }
    struct fields inner = {.object = object, .error = f->error};
    read_sampling(&inner, context, r);
    read_filters(&inner, context, r);
    if (f->status == OK)
        f->status = inner.status;
}

static void read_length(struct fields *f, struct engine_request *r)
{
    const struct json *v = setting(f, KEY "maxPredictedTokens");
    int64_t n = 0;
    if (!v)
        return;
    struct fields inner = {.object = v, .error = f->error, .prefix = "maxPredictedTokens."};
    if (!is_checked(v))
        r->max_tokens = ENGINE_TOKENS_ALL;
    else if (field_int(&inner, "value", -1, UINT32_MAX - 1, &n))
        r->max_tokens = n < 0 ? ENGINE_TOKENS_ALL : (uint32_t)n;
    f->status = inner.status;
}

static void read_stop_list(struct fields *f, const struct json *list, struct engine_request *r)
{
    struct json_member member = {SLICE_LIT("stopStrings"), list ? *list : (struct json){0}};
    const struct json object = {.kind = JSON_OBJECT, .count = 1, .members = &member};
    struct fields inner = {.object = &object, .error = f->error};
    if (f->status != OK)
        return;
    read_stops(&inner, "stopStrings", r);
    f->status = inner.status;
}

static void read_structured(struct fields *f, struct api_call *c, struct engine_request *r)
{
    const struct json *v = setting(f, KEY "structured"), *type = json_get(v, "type");
    const struct json *schema = json_get(v, "jsonSchema"), *grammar = json_get(v, "gbnfGrammar");
    if (!v || json_is_text(type, "none"))
        return;
    if (json_is_text(type, "gbnf") && grammar && grammar->kind == JSON_STRING) {
        r->grammar = grammar->text;
    } else if (json_is_text(type, "json")) {
        struct json *format = json_new_object(&r->arena, 2);
        if (!format)
            return; /* the arena has failed: call.c says so */
        format->count = schema ? 2 : 1;
        format->members[0] = (struct json_member){
            SLICE_LIT("type"),
            json_of_text(schema ? SLICE_LIT("json_schema") : SLICE_LIT("json_object"))};
        format->members[1] =
            (struct json_member){SLICE_LIT("schema"), schema ? *schema : (struct json){0}};
        read_format(f, "structured", format, c, r);
    } else {
        field_fail(f, E_INVALID, "structured", "the type must be none, json or gbnf");
    }
}

static bool is_plain_name(struct slice name)
{
    for (size_t i = 0; i < name.len; i++)
        if (!((name.ptr[i] >= 'a' && name.ptr[i] <= 'z') ||
              (name.ptr[i] >= 'A' && name.ptr[i] <= 'Z') ||
              (name.ptr[i] >= '0' && name.ptr[i] <= '9') || name.ptr[i] == '_' ||
              name.ptr[i] == '-'))
            return false;
    return name.len > 0;
}

void lms_read_tools(struct fields *f, const struct json *tools, struct engine_request *r)
{
    struct json *list =
        tools && tools->kind == JSON_ARRAY ? json_new_array(&r->arena, tools->count) : NULL;
    if (tools && tools->kind != JSON_ARRAY)
        field_fail(f, E_INVALID, "tools", "must be an array");
    else if (tools && tools->count > API_TOOLS_MAX)
        field_fail(f, E_LIMIT, "tools", "at most %u of them", API_TOOLS_MAX);
    for (size_t i = 0; list && i < tools->count && f->status == OK; i++) {
        const struct json *function = json_get(&tools->items[i], "function");
        const struct json *name = json_get(function, "name");
        if (!name || name->kind != JSON_STRING || name->text.len == 0) {
            field_fail(f, E_INVALID, place("tools[%zu]", i).text, "must be a function with a name");
            return;
        }
        list->items[i] = tool_of(&r->arena, name, json_get(function, "description"),
                                 json_get(function, "parameters"), NULL);
    }
    if (list && list->count)
        r->tools = list;
}

static void read_tool_use(struct fields *f, struct api_call *c, struct engine_request *r)
{
    const struct json *v = setting(f, KEY "tools"), *force = json_get(v, "force");
    const struct json *naming = setting(f, KEY "toolNaming");
    if (v && json_is_text(json_get(v, "type"), "toolArray"))
        lms_read_tools(f, json_get(v, "tools"), r);
    else if (v && !json_is_text(json_get(v, "type"), "none"))
        field_fail(f, E_INVALID, "tools", "the type must be none or toolArray");
    bool is_plain = true;
    for (size_t i = 0; f->status == OK && r->tools && i < r->tools->count; i++)
        is_plain = is_plain &&
                   is_plain_name(json_get(json_get(&r->tools->items[i], "function"), "name")->text);
    bool keeps_names = !naming || json_is_text(naming, "passThrough") ||
                       (json_is_text(naming, "removeSpecial") && is_plain);
    if (r->tools && !keeps_names)
        field_fail(f, E_UNSUPPORTED, "toolNaming",
                   "names go to the model as they are: passThrough");
    if (force && force->kind == JSON_BOOL && force->boolean)
        c->tool_choice = TOOLS_REQUIRED;
    read_tool_use_rules(f, c, r);
}

/* Settings that ask for what is not there. */
static bool asks_nothing(const struct json *v)
{
    const struct json *box = json_get(v, "checked"), *value = json_get(v, "value");
    if (!v || ((v->kind == JSON_ARRAY || v->kind == JSON_OBJECT) && v->count == 0))
        return true;
    if (v->kind == JSON_STRING)
        return v->text.len == 0;
    return box && (!is_checked(v) || (value && value->kind == JSON_INT && value->integer == 0));
}

static const struct {
    const char *key, *name, *why;
} refused[] = {
    {KEY "toolCallStopStrings", "toolCallStopStrings", "a call ends where its format says"},
    {KEY "contextPrefill", "contextPrefill", "no files are read on this side"},
    {KEY "speculativeDecoding.draftModel", "draftModel", "guesses need no model of their own here"},
    {KEY "llama.tailFreeSampling", "tailFreeSampling", "llama.cpp took that filter out"},
};

static void refuse_settings(struct fields *f)
{
    const struct json *overflow = setting(f, KEY "contextOverflowPolicy");
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (!asks_nothing(setting(f, refused[i].key)))
            field_fail(f, E_UNSUPPORTED, refused[i].name, "is not supported; %s", refused[i].why);
    if (overflow && !json_is_text(overflow, "stopAtLimit"))
        field_fail(f, E_UNSUPPORTED, "contextOverflowPolicy",
                   "only stopAtLimit is supported: nothing is cut out of a prompt");
    const struct json *preset = json_get(f->object, "fuzzyPresetIdentifier");
    if (preset && !asks_nothing(preset))
        field_fail(f, E_UNSUPPORTED, "preset", "there are no presets on this side");
}

static void read_reasoning(struct fields *f, struct api_call *c)
{
    const struct json *v = setting(f, KEY "reasoning.parsing"), *enabled = json_get(v, "enabled");
    if (!v)
        return;
    if (enabled && enabled->kind == JSON_BOOL && !enabled->boolean)
        c->keeps_reasoning = true;
    else if (!json_is_text(json_get(v, "startString"), "<think>") ||
             !json_is_text(json_get(v, "endString"), "</think>"))
        field_fail(f, E_UNSUPPORTED, "reasoningParsing",
                   "reasoning is found by the model's own marks: <think> and </think>");
}

static void read_logprobs(struct fields *f, struct api_call *c, struct engine_request *r)
{
    const struct json *v = setting(f, KEY "logProbs");
    int64_t n = 0;
    struct fields inner = {.object = v, .error = f->error, .prefix = "logProbs."};
    if (!v || !is_checked(v))
        return;
    if (field_int(&inner, "value", 0, SAMPLER_TOP_LOGPROBS_MAX, &n)) {
        c->wants_logprobs = true;
        c->n_top_logprobs = (uint32_t)n;
        r->sampling.wants_logprob = true;
        r->sampling.n_top_logprobs = (uint32_t)n;
    }
    f->status = inner.status;
}

/* ---- the history ---- */
static struct slice part_text(struct fields *f, const struct json *part, const char *key,
                              struct place at)
{
    const struct json *text = json_get(part, key);
    if (json_is_text(json_get(part, "type"), "file"))
        field_fail(f, E_UNSUPPORTED, at.text, "files and images are not supported");
    else if (!text || text->kind != JSON_STRING)
        field_fail(f, E_INVALID, at.text, "must be a part with a text");
    return f->status == OK ? text->text : (struct slice){"", 0};
}

static void set_text(struct json *message, const char *key, struct slice text)
{
    message_set(message, key, json_of_text(text));
}

/* What a model thought comes back inside its text; templates, and exact replay, know the two apart.
 */
static struct slice split_reasoning(const struct api_context *context, struct json *message,
                                    struct slice text)
{
    struct slice open = SLICE_LIT("<think>"), close = SLICE_LIT("</think>");
    if (!slice_starts(text, open) || !turn_format_of(context->template_source).has_reasoning)
        return text;
    const char *end = memmem(text.ptr, text.len, close.ptr, close.len);
    if (!end)
        return text;
    struct slice thought = {text.ptr + open.len, (size_t)(end - text.ptr) - open.len};
    text = (struct slice){end + close.len, text.len - (size_t)(end - text.ptr) - close.len};
    while (text.len && text.ptr[0] == '\n')
        text = (struct slice){text.ptr + 1, text.len - 1};
    set_text(message, "reasoning_content", thought);
    return text;
}

static void add_call(struct fields *f, struct engine_request *r, struct json *message,
                     const struct json *part, size_t n_max, struct place at)
{
    const struct json *call = json_get(part, "toolCallRequest"), *id = json_get(call, "id");
    const struct json *name = json_get(call, "name"), *arguments = json_get(call, "arguments");
    struct json *none = json_new_object(&r->arena, 0);
    if (!name || name->kind != JSON_STRING || (id && id->kind != JSON_STRING))
        field_fail(f, E_INVALID, at.text, "must be a tool call with a name");
    else if (none)
        message_add_call(&r->arena, message, id ? id->text : (struct slice){"", 0}, name->text,
                         arguments ? *arguments : *none, n_max);
}

/* Texts one after the other, as the SDK shows them; calls behind. */
static void read_parts(struct fields *f, const struct api_context *context,
                       struct engine_request *r, struct message_list *list, const char *role,
                       const struct json *parts, size_t i)
{
    struct buf text;
    struct json *message = message_add(list, role);
    buf_init(&text, JSON_BYTES_MAX);
    for (size_t j = 0; j < parts->count && f->status == OK; j++) {
        struct place at = place("messages[%zu].content[%zu]", i, j);
        if (json_is_text(json_get(&parts->items[j], "type"), "toolCallRequest"))
            add_call(f, r, message, &parts->items[j], parts->count, at);
        else
            buf_add_slice(&text, part_text(f, &parts->items[j], "text", at));
    }
    struct slice content = text_of_buf(&r->arena, &text);
    if (message && strcmp(role, "assistant") == 0)
        content = split_reasoning(context, message, content);
    set_text(message, "content", content);
    buf_release(&text);
}

static void read_results(struct fields *f, struct message_list *list, const struct json *parts,
                         size_t i)
{
    for (size_t j = 0; j < parts->count && f->status == OK; j++) {
        const struct json *id = json_get(&parts->items[j], "toolCallId");
        struct json *message = message_add(list, "tool");
        struct place at = place("messages[%zu].content[%zu]", i, j);
        set_text(message, "content", part_text(f, &parts->items[j], "content", at));
        if (id && id->kind == JSON_STRING)
            set_text(message, "tool_call_id", id->text);
    }
}

static void read_message(struct fields *f, const struct api_context *context,
                         struct engine_request *r, struct message_list *list, const struct json *m,
                         size_t i)
{
    const struct json *role = json_get(m, "role"), *parts = json_get(m, "content");
    bool is_user = json_is_text(role, "user"), is_system = json_is_text(role, "system"),
         is_assistant = json_is_text(role, "assistant");
    if (!parts || parts->kind != JSON_ARRAY)
        field_fail(f, E_INVALID, place("messages[%zu].content", i).text, "must be an array");
    else if (json_is_text(role, "tool"))
        read_results(f, list, parts, i);
    else if (is_user || is_system || is_assistant)
        read_parts(f, context, r, list,
                   is_user     ? "user"
                   : is_system ? "system"
                               : "assistant",
                   parts, i);
    else
        field_fail(f, E_INVALID, place("messages[%zu].role", i).text,
                   "must be user, system, assistant or tool");
}

void lms_read_history(struct fields *f, const struct api_context *context, struct engine_request *r)
{
    struct message_list list = {.arena = &r->arena};
    const struct json *all = json_get(json_get(f->object, "history"), "messages");
    const struct json *system = setting(f, KEY "systemPrompt");
    r->kind = PROMPT_CHAT;
    r->add_generation_prompt = true;
    if (!all || all->kind != JSON_ARRAY || all->count == 0) {
        field_fail(f, E_INVALID, "history", "must have at least one message");
        return;
    }
    if (all->count > API_MESSAGES_MAX) {
        field_fail(f, E_LIMIT, "history", "at most %u messages", API_MESSAGES_MAX);
        return;
    }
    if (system && system->kind == JSON_STRING && system->text.len &&
        !json_is_text(json_get(&all->items[0], "role"), "system"))
        set_text(message_add(&list, "system"), "content", system->text);
    for (size_t i = 0; i < all->count && f->status == OK; i++)
        read_message(f, context, r, &list, &all->items[i], i);
    r->messages = message_list_end(&list);
    if (!r->messages)
        field_fail(f, E_LIMIT, "history", "too large");
}

/* The SDK's `complete`: "{% for message in messages %}{{ message['content'] }}{% endfor %}". */
static bool is_plain_template(struct slice t)
{
    static const char PLAIN[] = "{%formessageinmessages%}{{message['content']}}{%endfor%}";
    size_t n = 0;
    for (size_t i = 0; i < t.len; i++) {
        if (strchr(" \n\r\t", t.ptr[i]) && t.ptr[i])
            continue;
        if (n == sizeof PLAIN - 1 || t.ptr[i] != PLAIN[n++])
            return false;
    }
    return n == sizeof PLAIN - 1;
}

/* True: the history goes to the model without a template. */
static bool read_template(struct fields *f, struct engine_request *r)
{
    const struct json *v = setting(f, KEY "promptTemplate");
    const struct json *template = json_get(json_get(v, "jinjaPromptTemplate"), "template");
    if (!v)
        return false;
    read_stop_list(f, json_get(v, "stopStrings"), r);
    if (template && template->kind == JSON_STRING && is_plain_template(template->text))
        return true;
    field_fail(f, E_UNSUPPORTED, "promptTemplate", "the model's own template is used");
    return false;
}

static void make_text(struct fields *f, struct engine_request *r)
{
    struct buf text;
    buf_init(&text, JSON_BYTES_MAX);
    for (size_t i = 0; f->status == OK && i < r->messages->count; i++)
        buf_add_slice(&text, json_get(&r->messages->items[i], "content")->text);
    r->kind = PROMPT_TEXT;
    r->text = text_of_buf(&r->arena, &text);
    buf_release(&text);
}

void lms_read_prediction(struct fields *f, const struct api_context *context, struct api_call *c,
                         struct engine_request *r)
{
    check_size(f);
    refuse_settings(f);
    lms_read_history(f, context, r);
    read_numbers(f, context, r);
    read_length(f, r);
    read_stop_list(f, setting(f, KEY "stopStrings"), r);
    read_reasoning(f, c);
    read_logprobs(f, c, r);
    if (read_template(f, r))
        make_text(f, r);
    else
        read_tool_use(f, c, r);
    read_structured(f, c, r);
}
