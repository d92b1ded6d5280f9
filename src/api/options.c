/* SPDX-License-Identifier: MIT
 * options.c — what several dialects say in words of their own: how hard to think, the form of the
 * answer, whether tools must be called. */
#include "api/api_int.h"

#define EFFORT_BYTES_MAX 32u

bool template_thinks(const struct api_context *context)
{
    struct turn_format format = turn_format_of(context->template_source);
    return format.has_reasoning || format.calls == CALLS_HARMONY;
}

void set_variable(struct engine_request *r, const char *key, struct json value)
{
    const struct json *old = r->variables;
    size_t n = old ? old->count : 0;
    struct json *all = json_new_object(&r->arena, n + 1);
    if (!all || json_get(old, key)) /* said outright: wins */
        return;
    if (n)
        memcpy(all->members, old->members, n * sizeof *old->members);
    all->members[n] = (struct json_member){slice_of(key), value};
    r->variables = all;
}

/* Under the names that templates know: the word itself (gpt-oss), enable_thinking false for "none"
 * (Qwen 3).  Templates without them don't notice. */
void read_effort(struct fields *f, const char *name, const struct json *effort,
                 struct engine_request *r)
{
    if (effort->kind != JSON_STRING) {
        field_fail(f, E_INVALID, name, "the effort must be a string");
        return;
    }
    if (effort->text.len == 0 || effort->text.len > EFFORT_BYTES_MAX) {
        field_fail(f, E_INVALID, name, "the effort must be a word");
        return;
    }
    set_variable(r, "reasoning_effort", *effort);
    if (slice_is(effort->text, "none"))
        set_variable(r, "enable_thinking", (struct json){.kind = JSON_BOOL});
}

/* ---- the form of the answer ---- */

static const struct api_field format_rows[] = {
    {"response_format", FIELD_YES,
     "text, json_object, json_schema: always kept, strict or not (docs/structured-output.md)",
     "{\"type\":\"xml\"}", NULL},
    {"json_schema", FIELD_YES, "a schema, as llama-server takes it", "7", NULL},
    {"grammar", FIELD_YES, "GBNF", "7", NULL},
};
const struct field_set fields_format = FIELD_SET(format_rows);

static bool is_object(const struct json *v)
{
    return v && v->kind == JSON_OBJECT;
}

static struct json text_value(const char *text)
{
    return (struct json){.kind = JSON_STRING, .text = slice_of(text)};
}

static struct json any_object(struct arena *a)
{
    struct json *schema = json_new_object(a, 1);
    if (!schema)
        return (struct json){.kind = JSON_OBJECT};
    schema->members[0] = (struct json_member){SLICE_LIT("type"), text_value("object")};
    return *schema;
}

static const struct json *boxed(struct arena *a, struct json value)
{
    struct json *box = json_new_object(a, 0);
    if (box)
        *box = value;
    return box;
}

/* {"type": "json_schema", "json_schema": {"schema"}} or, newer, {"type", "schema"}; llama-server
 * takes a schema with json_object as well. */
void read_format(struct fields *f, const char *name, const struct json *format, struct api_call *c,
                 struct engine_request *r)
{
    const struct json *type = json_get(format, "type");
    const struct json *schema = json_get(json_get(format, "json_schema"), "schema");
    if (!schema)
        schema = json_get(format, "schema");
    bool is_json = json_is_text(type, "json_object"),
         has_schema = json_is_text(type, "json_schema");
    if (!type || type->kind != JSON_STRING)
        field_fail(f, E_INVALID, name, "must be an object with a type");
    else if (!is_json && !has_schema && !slice_is(type->text, "text"))
        field_fail(f, E_INVALID, name, "the type must be text, json_object or json_schema");
    else if (has_schema && !is_object(schema))
        field_fail(f, E_INVALID, name, "json_schema needs a schema");
    else if (is_json || has_schema)
        c->schema = is_object(schema) ? schema : boxed(&r->arena, any_object(&r->arena));
}

void read_formats(struct fields *f, struct api_call *c, struct engine_request *r)
{
    const struct json *format = field(f, "response_format"), *schema = field(f, "json_schema");
    bool has_grammar = field_string(f, "grammar", &r->grammar) && r->grammar.len;
    if (format)
        read_format(f, "response_format", format, c, r);
    if (schema && schema->kind != JSON_OBJECT && schema->kind != JSON_BOOL)
        field_fail(f, E_INVALID, "json_schema", "must be a schema");
    else if (schema && c->schema)
        field_fail(f, E_INVALID, "json_schema", "excludes response_format");
    else if (schema)
        c->schema = schema;
    if (has_grammar && c->schema)
        field_fail(f, E_INVALID, "grammar", "excludes json_schema and response_format");
}

/* ---- calls by a grammar ---- */

static struct json object_of(struct arena *a, struct json_member *members, size_t n)
{
    struct json *v = json_new_object(a, n);
    if (!v)
        return (struct json){.kind = JSON_OBJECT};
    memcpy(v->members, members, n * sizeof *members);
    return *v;
}

/* What the arguments may be; is_plain: any object.  References go to the document's root: *defs
 * gets the definitions of the one tool that has some. */
static struct json parameters_of(struct arena *a, const struct json *function, bool is_plain,
                                 const struct json_member **defs)
{
    const struct json *p = json_get(function, "parameters");
    if (is_plain || !is_object(p) || !json_is_text(json_get(p, "type"), "object"))
        return any_object(a);
    for (size_t i = 0; i < p->count; i++) {
        if (!slice_is(p->members[i].key, "$defs") && !slice_is(p->members[i].key, "definitions"))
            continue;
        if (*defs)
            return any_object(a);
        *defs = &p->members[i];
    }
    return *p;
}

static struct json call_schema(struct arena *a, const struct json *tool, const char *key,
                               bool is_plain, const struct json_member **defs)
{
    const struct json *function = json_get(tool, "function");
    struct json_member name[] = {{SLICE_LIT("const"), *json_get(function, "name")}};
    struct json_member properties[] = {
        {SLICE_LIT("name"), object_of(a, name, 1)},
        {slice_of(key), parameters_of(a, function, is_plain, defs)},
    };
    struct json *required = json_new_array(a, 2);
    if (!required)
        return (struct json){.kind = JSON_OBJECT};
    required->items[0] = text_value("name");
    required->items[1] = text_value(key);
    struct json_member members[] = {
        {SLICE_LIT("type"), text_value("object")},
        {SLICE_LIT("properties"), object_of(a, properties, 2)},
        {SLICE_LIT("required"), *required},
        {SLICE_LIT("additionalProperties"), {.kind = JSON_BOOL}},
    };
    return object_of(a, members, 4);
}

/* One call of the tools, or of the one that is named. */
static const struct json *calls_schema(const struct api_call *c, struct engine_request *r,
                                       bool is_plain)
{
    struct arena *a = &r->arena;
    const char *key = c->format.calls == CALLS_LLAMA ? "parameters" : "arguments";
    const struct json_member *defs = NULL;
    struct json *any = json_new_array(a, r->tools->count);
    if (!any)
        return NULL;
    any->count = 0;
    for (size_t i = 0; i < r->tools->count; i++) {
        const struct json *name = json_get(json_get(&r->tools->items[i], "function"), "name");
        if (c->tool_choice != TOOLS_NAMED || slice_equal(name->text, c->tool_name))
            any->items[any->count++] = call_schema(a, &r->tools->items[i], key, is_plain, &defs);
    }
    struct json_member members[] = {{SLICE_LIT("anyOf"), *any}, {{"", 0}, {0}}};
    if (defs)
        members[1] = *defs;
    return boxed(a, object_of(a, members, defs ? 2 : 1));
}

static const char *call_mark(const struct api_call *c)
{
    return c->format.calls == CALLS_HERMES  ? "<tool_call>\n"
           : c->format.calls == CALLS_LLAMA ? ""
                                            : NULL;
}

/* The one function that may be called; NULL: there are several. */
static const struct json *only_function(const struct api_call *c, const struct engine_request *r)
{
    const struct json *found = NULL;
    for (size_t i = 0; i < r->tools->count; i++) {
        const struct json *function = json_get(&r->tools->items[i], "function");
        if (c->tool_choice == TOOLS_NAMED &&
            !slice_equal(json_get(function, "name")->text, c->tool_name))
            continue;
        if (found)
            return NULL;
        found = function;
    }
    return found;
}

static bool template_has(const struct api_context *context, const char *text)
{
    struct slice source = context->template_source;
    return source.len && memmem(source.ptr, source.len, text, strlen(text)) != NULL;
}

/* Formats where the name stands in front of the arguments, as the model was taught to write it. */
static const char *named_mark(const struct api_call *c, const struct api_context *context)
{
    switch (c->format.calls) {
    case CALLS_HARMONY:
        return "<|channel|>commentary to=functions.%.*s <|constrain|>json<|message|>";
    case CALLS_DEEPSEEK:
        return template_has(context, "```json")
                   ? "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>%.*s\n```"
                     "json\n"
                   : "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>%.*s<｜tool▁sep｜>";
    case CALLS_MISTRAL:
        return template_has(context, "[ARGS]") ? "[TOOL_CALLS]%.*s[ARGS]" : NULL;
    default:
        return NULL;
    }
}

/* A call of the one function that may be called begins the turn; the grammar is its arguments'. */
static void force_named(struct fields *f, const struct api_context *context, struct api_call *c,
                        struct engine_request *r)
{
    const char *mark = named_mark(c, context);
    const struct json *function = only_function(c, r);
    const struct json_member *defs = NULL;
    struct buf text;
    if (!mark || !function) {
        field_fail(f, E_UNSUPPORTED, "tool_choice",
                   mark ? "in the format of this model a call is forced of one function: name it"
                        : "calls can't be forced in the format of this model");
        return;
    }
    struct slice name = json_get(function, "name")->text;
    buf_init(&text, TURN_NAME_BYTES_MAX + 256);
    buf_printf(&text, mark, (int)(name.len < TURN_NAME_BYTES_MAX ? name.len : TURN_NAME_BYTES_MAX),
               name.ptr);
    char *suffix = arena_text(&r->arena, buf_slice(&text).ptr, text.len);
    r->suffix = c->suffix = (struct slice){suffix ? suffix : "", suffix ? text.len : 0};
    buf_release(&text);
    r->schema = boxed(&r->arena, parameters_of(&r->arena, function, false, &defs));
    r->schema_else = boxed(&r->arena, any_object(&r->arena));
}

/* A template that thinks on demand is told not to; one that always does gets the grammar behind. */
static void constrain_behind_reasoning(const struct api_call *c, const struct api_context *context,
                                       struct engine_request *r)
{
    struct slice source = context->template_source, word = SLICE_LIT("enable_thinking");
    if (c->format.calls == CALLS_HARMONY)
        r->trigger = SLICE_LIT("<|channel|>final<|message|>");
    else if (c->format.has_reasoning && memmem(source.ptr, source.len, word.ptr, word.len))
        set_variable(r, word.ptr, (struct json){.kind = JSON_BOOL});
    else if (c->format.has_reasoning)
        r->trigger = SLICE_LIT("</think>");
}

void set_constraint(struct fields *f, const struct api_context *context, struct api_call *c,
                    struct engine_request *r)
{
    bool is_forced = c->tool_choice == TOOLS_REQUIRED || c->tool_choice == TOOLS_NAMED;
    const char *mark = call_mark(c);
    if (is_forced) /* the turn is a call: the answer that has a form comes in a later one */
        r->grammar = (struct slice){"", 0};
    if ((c->schema || r->grammar.len) && c->finds_tools && !is_forced) {
        field_fail(
            f, E_UNSUPPORTED, "tools",
            "not together with a form of the answer, unless tool_choice is none or forces a call");
    } else if (!is_forced && (c->schema || r->grammar.len)) {
        r->schema = c->schema;
        constrain_behind_reasoning(c, context, r);
    } else if (is_forced && !mark) {
        force_named(f, context, c, r);
    } else if (c->finds_tools && mark && (is_forced || mark[0])) {
        r->schema = calls_schema(c, r, false);
        r->schema_else = calls_schema(c, r, true);
        if (is_forced) {
            r->suffix = c->suffix = slice_of(mark);
            if (c->format.has_reasoning)
                set_variable(r, "enable_thinking", (struct json){.kind = JSON_BOOL});
        } else {
            r->trigger = slice_of(mark);
        }
    }
    if (r->ignore_eos && (r->schema || r->grammar.len))
        field_fail(f, E_INVALID, "ignore_eos", "excludes a form of the answer");
}

/* ---- whether tools must be called ---- */
static bool has_tool(const struct json *tools, struct slice name)
{
    for (size_t i = 0; i < tools->count; i++) {
        const struct json *own = json_get(json_get(&tools->items[i], "function"), "name");
        if (own && own->kind == JSON_STRING && slice_equal(own->text, name))
            return true;
    }
    return false;
}

void read_tool_use_rules(struct fields *f, struct api_call *c, const struct engine_request *r)
{
    if (f->status != OK)
        return;
    bool is_forced = c->tool_choice == TOOLS_REQUIRED || c->tool_choice == TOOLS_NAMED;
    if (is_forced && !r->tools)
        field_fail(f, E_INVALID, "tool_choice", "needs tools");
    else if (c->tool_choice == TOOLS_NAMED && !has_tool(r->tools, c->tool_name))
        field_fail(f, E_INVALID, "tool_choice", "names no tool of this request");
    c->finds_tools = r->tools && c->tool_choice != TOOLS_NONE;
}
