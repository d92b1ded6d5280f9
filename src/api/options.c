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

bool is_object(const struct json *v)
{
    return v && v->kind == JSON_OBJECT;
}

struct json text_value(const char *text)
{
    return (struct json){.kind = JSON_STRING, .text = slice_of(text)};
}

struct json any_object(struct arena *a)
{
    struct json *schema = json_new_object(a, 1);
    if (!schema)
        return (struct json){.kind = JSON_OBJECT};
    schema->members[0] = (struct json_member){SLICE_LIT("type"), text_value("object")};
    return *schema;
}

const struct json *boxed(struct arena *a, struct json value)
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
