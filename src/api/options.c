/* SPDX-License-Identifier: MIT
 * options.c — what several dialects say in words of their own: how hard to think, the form of the
 * answer, whether tools must be called. */
#include "api/api_int.h"

#define EFFORT_BYTES_MAX 32u

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

void read_format(struct fields *f, const char *name, const struct json *format, struct api_call *c,
                 struct engine_request *r)
{
    const struct json *type = json_get(format, "type");
    (void)c, (void)r;
    if (!type || type->kind != JSON_STRING)
        field_fail(f, E_INVALID, name, "must be an object with a type");
    else if (!slice_is(type->text, "text"))
        field_fail(f, E_UNSUPPORTED, name,
                   "the type \"%.32s\" is not supported yet; only \"text\" is", type->text.ptr);
}

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
    else if (is_forced)
        field_fail(f, E_UNSUPPORTED, "tool_choice", "calls can't be forced: not supported yet");
    c->finds_tools = r->tools && c->tool_choice != TOOLS_NONE;
}
