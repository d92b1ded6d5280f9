/* SPDX-License-Identifier: MIT
 * forms.c — what a turn may be, as a grammar: an answer of some form, a call of one of the tools in
 * the form that the model's template taught it, or either of them.
 *   forced  the turn begins inside the call; the grammar goes on with a name and its arguments
 *   auto    free until the text that begins a call (r->trigger), then name and arguments
 *   auto beside a form of the answer: the whole turn is by the grammar, the answer or calls
 * Grammars are GBNF in which %N is a value of the N-th schema; control tokens that stand in them
 * are named as marks. */
#include "api/api_int.h"
#include "base/check.h"

#define FORM_BYTES_MAX    (1u << 20)
#define GEMMA_DEPTH_MAX   6u /* of objects and lists whose parts are told apart */
#define GEMMA_MEMBERS_MAX 64u

/* ---- how calls are written ---- */
/* begin (open NAME between ARGUMENTS close) separator (…) end; is_object: NAME and ARGUMENTS are
 * members of an object, and between is the latter's name. */
struct call_form {
    const char *begin, *open, *between, *close, *separator, *end;
    bool is_object, is_single;
    const char *head;  /* instead of between, where it has several forms: GBNF */
    const char *quote; /* around texts in arguments that are not JSON, but Gemma's */
    struct slice marks[ENGINE_MARKS_MAX];
};

static bool template_has(const struct api_context *context, const char *text)
{
    struct slice source = context->template_source;
    return source.len && memmem(source.ptr, source.len, text, strlen(text)) != NULL;
}

#define DEEPSEEK_MARKS                                                       \
    SLICE_LIT("<｜tool▁calls▁begin｜>"), SLICE_LIT("<｜tool▁call▁begin｜>"), \
        SLICE_LIT("<｜tool▁sep｜>"), SLICE_LIT("<｜tool▁call▁end｜>"),       \
        SLICE_LIT("<｜tool▁calls▁end｜>")
#define CONSTRAIN "( \" \"? ( \"<|constrain|>\" \"json\"? | \"json\" ) )?"

static struct call_form with_begin(struct call_form form, const char *begin)
{
    form.begin = begin;
    return form;
}

static struct call_form form_of(const struct api_call *c, const struct api_context *context)
{
    static const struct call_form hermes = {.begin = "",
                                            .open = "<tool_call>\n",
                                            .between = "arguments",
                                            .close = "\n</tool_call>",
                                            .separator = "\n",
                                            .end = "",
                                            .is_object = true,
                                            .marks = {{"<tool_call>", 11}, {"</tool_call>", 12}}};
    static const struct call_form llama = {.begin = "",
                                           .open = "",
                                           .between = "parameters",
                                           .close = "",
                                           .separator = "",
                                           .end = "",
                                           .is_object = true,
                                           .is_single = true};
    static const struct call_form mistral_list = {.begin = "[TOOL_CALLS][",
                                                  .open = "",
                                                  .between = "arguments",
                                                  .close = "",
                                                  .separator = ", ",
                                                  .end = "]",
                                                  .is_object = true,
                                                  .marks = {{"[TOOL_CALLS]", 12}}};
    static const struct call_form mistral = {
        .begin = "",
        .open = "[TOOL_CALLS]",
        .between = "[ARGS]",
        .head = "( \"[CALL_ID]\" [a-zA-Z0-9]{1,40} )? \"[ARGS]\"",
        .close = "",
        .separator = "",
        .end = "",
        .marks = {{"[TOOL_CALLS]", 12}, {"[ARGS]", 6}, {"[CALL_ID]", 9}}};
    static const struct call_form deepseek_fenced = {
        .begin = "<｜tool▁calls▁begin｜>",
        .open = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
        .between = "\n```json\n",
        .close = "\n```<｜tool▁call▁end｜>",
        .separator = "\n",
        .end = "<｜tool▁calls▁end｜>",
        .marks = {DEEPSEEK_MARKS}};
    static const struct call_form deepseek = {.begin = "<｜tool▁calls▁begin｜>",
                                              .open = "<｜tool▁call▁begin｜>",
                                              .between = "<｜tool▁sep｜>",
                                              .close = "<｜tool▁call▁end｜>",
                                              .separator = "",
                                              .end = "<｜tool▁calls▁end｜>",
                                              .marks = {DEEPSEEK_MARKS}};
    static const struct call_form gemma = {
        .begin = "",
        .open = "<start_function_call>call:",
        .between = "",
        .close = "<end_function_call>",
        .separator = "",
        .end = "",
        .quote = "<escape>",
        .marks = {{"<start_function_call>", 21}, {"<end_function_call>", 19}, {"<escape>", 8}}};
    static const struct call_form gemma4 = {
        .begin = "",
        .open = "<|tool_call>call:",
        .between = "",
        .close = "<tool_call|>",
        .separator = "",
        .end = "",
        .quote = "<|\"|>",
        .marks = {{"<|tool_call>", 12}, {"<tool_call|>", 12}, {"<|\"|>", 5}}};
    /* The recipient may also stand in front of the channel. */
    static const struct call_form harmony = {
        .begin = "",
        .open = "<|channel|>commentary to=functions.",
        .between = " <|constrain|>json<|message|>",
        .head = "( \" \"? \"<|channel|>commentary\" )? " CONSTRAIN " \"<|message|>\"",
        .close = "",
        .separator = "",
        .end = "",
        .is_single = true,
        .marks = {{"<|channel|>", 11}, {"<|constrain|>", 13}, {"<|message|>", 11}}};
    switch (c->format.calls) {
    case CALLS_HERMES:
        return hermes;
    case CALLS_LLAMA:
        return llama;
    case CALLS_MISTRAL:
        return template_has(context, "[ARGS]") ? mistral
               : template_has(context, "[TOOL_CALLS] [")
                   ? with_begin(mistral_list, "[TOOL_CALLS] [")
                   : mistral_list;
    case CALLS_DEEPSEEK:
        return template_has(context, "```json") ? deepseek_fenced : deepseek;
    case CALLS_GEMMA:
        return gemma;
    case CALLS_GEMMA4:
        return gemma4;
    case CALLS_HARMONY:
        break;
    }
    return harmony;
}

static bool may_be_called(const struct api_call *c, const struct json *function)
{
    return c->tool_choice != TOOLS_NAMED ||
           slice_equal(json_get(function, "name")->text, c->tool_name);
}

/* The one function that may be called; NULL: there are several. */
static const struct json *only_function(const struct api_call *c, const struct engine_request *r)
{
    const struct json *found = NULL;
    for (size_t i = 0; i < r->tools->count; i++) {
        const struct json *function = json_get(&r->tools->items[i], "function");
        if (!may_be_called(c, function))
            continue;
        if (found)
            return NULL;
        found = function;
    }
    return found;
}

/* ---- GBNF ---- */
struct form {
    const struct api_call *c;
    struct engine_request *r;
    struct call_form calls;
    struct buf text;
    struct grammar_schema *schemas; /* in the request's arena */
    uint32_t n_schemas;
};

/* "text", or nothing. */
static void put_text(struct form *f, struct slice text)
{
    if (text.len == 0)
        return;
    buf_add_text(&f->text, " \"");
    for (size_t i = 0; i < text.len; i++) {
        const char b = text.ptr[i];
        if (b == '"' || b == '\\')
            buf_add_char(&f->text, '\\');
        if (b == '\n')
            buf_add_text(&f->text, "\\n");
        else if ((unsigned char)b < 0x20)
            buf_printf(&f->text, "\\x%02x", (unsigned)b);
        else
            buf_add_char(&f->text, b);
    }
    buf_add_char(&f->text, '"');
}

/* The same as a text of JSON or of Gemma's. */
static void put_quoted(struct form *f, struct slice text, const char *quote)
{
    struct buf b;
    buf_init(&b, FORM_BYTES_MAX);
    if (quote) {
        buf_add_text(&b, quote);
        buf_add_slice(&b, text);
        buf_add_text(&b, quote);
    } else {
        json_write_string(&b, text);
    }
    put_text(f, buf_slice(&b));
    f->text.failed |= b.failed;
    buf_release(&b);
}

static void put_schema(struct form *f, const struct json *schema, const struct json *instead)
{
    if (!f->schemas || !schema) {
        f->text.failed = true;
        return;
    }
    f->schemas[f->n_schemas] = (struct grammar_schema){schema, instead};
    buf_printf(&f->text, " %%%u", f->n_schemas++);
}

/* ---- Gemma's arguments ---- */
static void put_gemma_value(struct form *f, const struct json *schema, uint32_t depth);

static bool is_plain_key(struct slice key)
{
    for (size_t i = 0; i < key.len; i++)
        if (!((key.ptr[i] | 0x20) >= 'a' && (key.ptr[i] | 0x20) <= 'z') && key.ptr[i] != '_' &&
            !(i && key.ptr[i] >= '0' && key.ptr[i] <= '9'))
            return false;
    return key.len > 0;
}

static bool is_required(const struct json *schema, struct slice key)
{
    const struct json *list = json_get(schema, "required");
    for (size_t i = 0; list && list->kind == JSON_ARRAY && i < list->count; i++)
        if (list->items[i].kind == JSON_STRING && slice_equal(list->items[i].text, key))
            return true;
    return false;
}

static void put_gemma_member(struct form *f, const struct json_member *m, uint32_t depth)
{
    put_text(f, m->key);
    buf_add_text(&f->text, " \":\"");
    put_gemma_value(f, &m->value, depth + 1);
}

/* Members from `from` on, in their order: those behind the first that is there have a comma. */
static void put_gemma_members(struct form *f, const struct json *schema, const struct json *all,
                              size_t from, uint32_t depth)
{
    put_gemma_member(f, &all->members[from], depth);
    for (size_t i = from + 1; i < all->count; i++) {
        bool must = is_required(schema, all->members[i].key);
        buf_add_text(&f->text, must ? " \",\"" : " ( \",\"");
        put_gemma_member(f, &all->members[i], depth);
        buf_add_text(&f->text, must ? "" : " )?");
    }
}

/* The properties that are named; the first of them that comes is one of those up to the first
 * required one. */
static void put_gemma_object(struct form *f, const struct json *schema, uint32_t depth)
{
    const struct json *all = json_get(schema, "properties");
    bool is_known = is_object(all) && all->count > 0 && all->count <= GEMMA_MEMBERS_MAX &&
                    depth < GEMMA_DEPTH_MAX;
    for (size_t i = 0; is_known && i < all->count; i++)
        is_known = is_plain_key(all->members[i].key);
    if (!is_known) {
        buf_add_text(&f->text, " kv-object");
        return;
    }
    bool has_required = false;
    buf_add_text(&f->text, " \"{\" (");
    for (size_t i = 0; i < all->count && !has_required; i++) {
        buf_add_text(&f->text, i ? " |" : "");
        put_gemma_members(f, schema, all, i, depth);
        has_required = is_required(schema, all->members[i].key);
    }
    buf_add_text(&f->text, has_required ? " ) \"}\"" : " )? \"}\"");
}

static void put_gemma_listed(struct form *f, const struct json *values)
{
    buf_add_text(&f->text, " (");
    for (size_t i = 0; i < values->count; i++) {
        const struct json *v = &values->items[i];
        struct buf b;
        buf_add_text(&f->text, i ? " |" : "");
        if (v->kind == JSON_STRING) {
            put_quoted(f, v->text, f->calls.quote);
            continue;
        }
        buf_init(&b, FORM_BYTES_MAX);
        json_write(&b, v, (struct json_style){.is_compact = true});
        put_text(f, buf_slice(&b));
        f->text.failed |= b.failed;
        buf_release(&b);
    }
    buf_add_text(&f->text, " )");
}

/* As far as type, enum, properties, required and items go; other keywords leave any value of the
 * type. */
static void put_gemma_value(struct form *f, const struct json *schema, uint32_t depth)
{
    const struct json *type = json_get(schema, "type"), *values = json_get(schema, "enum");
    bool is_listed = values && values->kind == JSON_ARRAY && values->count > 0;
    for (size_t i = 0; is_listed && i < values->count; i++)
        is_listed = values->items[i].kind != JSON_ARRAY && values->items[i].kind != JSON_OBJECT;
    if (is_listed) {
        put_gemma_listed(f, values);
    } else if (json_is_text(type, "object")) {
        put_gemma_object(f, schema, depth);
    } else if (json_is_text(type, "array") && depth < GEMMA_DEPTH_MAX) {
        const struct json *items = json_get(schema, "items");
        for (int i = 0; i < 2; i++) {
            buf_add_text(&f->text, i ? " ( \",\"" : " \"[\" (");
            if (is_object(items))
                put_gemma_value(f, items, depth + 1);
            else
                buf_add_text(&f->text, " kv-value");
        }
        buf_add_text(&f->text, " )* )? \"]\"");
    } else {
        static const char *const known[] = {"string", "integer", "number", "boolean"};
        const char *rule = "value";
        for (size_t i = 0; i < ARRAY_COUNT(known); i++)
            rule = json_is_text(type, known[i]) ? known[i] : rule;
        buf_printf(&f->text, " kv-%s", rule);
    }
}

/* Values by their types.  A text is what does not hold the quote: each of its beginnings must be
 * left before it is whole. */
static void put_gemma_rules(struct form *f)
{
    const char *quote = f->calls.quote;
    buf_add_text(&f->text, "\nkv-string ::=");
    put_text(f, slice_of(quote));
    buf_printf(&f->text, " ( [^%c]", quote[0]);
    for (size_t i = 1; i < strlen(quote); i++) {
        buf_add_text(&f->text, " |");
        put_text(f, (struct slice){quote, i});
        buf_printf(&f->text, " [^%c\\x%02x]", quote[0], (unsigned char)quote[i]);
    }
    buf_add_text(&f->text, " )*");
    put_text(f, slice_of(quote));
    buf_add_text(
        &f->text,
        "\nkv-integer ::= \"-\"? ( \"0\" | [1-9] [0-9]{0,15} )"
        "\nkv-number ::= kv-integer ( \".\" [0-9]{1,15} )? ( [eE] [-+]? [0-9]{1,3} )?"
        "\nkv-boolean ::= \"true\" | \"false\""
        "\nkv-key ::= [a-zA-Z_] [a-zA-Z0-9_]*"
        "\nkv-object ::= \"{\" ( kv-key \":\" kv-value ( \",\" kv-key \":\" kv-value )* )? \"}\""
        "\nkv-array ::= \"[\" ( kv-value ( \",\" kv-value )* )? \"]\""
        "\nkv-value ::= kv-string | kv-number | kv-boolean | \"null\" | kv-object | kv-array");
}

/* ---- calls ---- */
static bool has_parameters(const struct json *function)
{
    const struct json *p = json_get(function, "parameters");
    return is_object(p) && json_is_text(json_get(p, "type"), "object");
}

static void put_call(struct form *f, const struct json *function)
{
    const struct call_form *form = &f->calls;
    const struct json *parameters = json_get(function, "parameters");
    const struct slice name = json_get(function, "name")->text;
    const struct json *any = boxed(&f->r->arena, any_object(&f->r->arena));
    if (form->is_object) {
        buf_add_text(&f->text, " \"{\" kv-blank \"\\\"name\\\":\" kv-blank");
        put_quoted(f, name, NULL);
        buf_printf(&f->text, " \",\" kv-blank \"\\\"%s\\\":\" kv-blank", form->between);
    } else {
        put_text(f, name);
        if (form->head)
            buf_add_text(&f->text, " kv-head");
        else
            put_text(f, slice_of(form->between));
    }
    if (form->quote)
        put_gemma_object(f, parameters, 0);
    else
        put_schema(f, has_parameters(function) ? parameters : any, any);
    if (form->is_object)
        buf_add_text(&f->text, " kv-blank \"}\"");
}

/* kv-call: NAME between ARGUMENTS of one of the functions. */
static void put_call_rules(struct form *f)
{
    const struct json *tools = f->r->tools;
    bool is_first = true;
    buf_add_text(&f->text, "\nkv-call ::=");
    for (size_t i = 0; i < tools->count; i++) {
        const struct json *function = json_get(&tools->items[i], "function");
        if (!may_be_called(f->c, function))
            continue;
        buf_add_text(&f->text, is_first ? "" : " |");
        put_call(f, function);
        is_first = false;
    }
    if (f->calls.is_object)
        buf_add_text(&f->text, "\nkv-blank ::= \" \"?");
    if (f->calls.head)
        buf_printf(&f->text, "\nkv-head ::= %s", f->calls.head);
    if (f->calls.quote)
        put_gemma_rules(f);
}

/* kv-calls: all of them, from the first mark to the last. */
static void put_calls_rule(struct form *f)
{
    const struct call_form *form = &f->calls;
    buf_add_text(&f->text, "\nkv-calls ::=");
    put_text(f, slice_of(form->begin));
    for (int i = 0; i < 2; i++) {
        if (i == 1) {
            if (f->c->is_single_call || form->is_single)
                break;
            buf_add_text(&f->text, " (");
            put_text(f, slice_of(form->separator));
        }
        put_text(f, slice_of(form->open));
        buf_add_text(&f->text, " kv-call");
        put_text(f, slice_of(form->close));
        buf_add_text(&f->text, i ? " )*" : "");
    }
    put_text(f, slice_of(form->end));
}

static void form_begin(struct form *f, const struct api_call *c, const struct api_context *context,
                       struct engine_request *r)
{
    *f = (struct form){.c = c, .r = r, .calls = form_of(c, context)};
    buf_init(&f->text, FORM_BYTES_MAX);
    f->schemas = arena_alloc(&r->arena, r->tools->count + 1, sizeof *f->schemas);
}

static void form_end(struct fields *fields, struct form *f, const char *root)
{
    struct engine_request *r = f->r;
    struct slice *marks = arena_alloc(&r->arena, ENGINE_MARKS_MAX, sizeof *marks);
    char *text = f->text.failed ? NULL : arena_text(&r->arena, f->text.ptr, f->text.len);
    if (text && marks) {
        memcpy(marks, f->calls.marks, sizeof f->calls.marks);
        r->schema = NULL;
        r->grammar = (struct slice){text, f->text.len};
        r->grammar_root = slice_of(root);
        r->grammar_schemas = f->schemas;
        r->n_grammar_schemas = f->n_schemas;
        r->grammar_marks = marks;
        for (r->n_grammar_marks = 0;
             r->n_grammar_marks < ENGINE_MARKS_MAX && marks[r->n_grammar_marks].len;)
            r->n_grammar_marks++;
    } else {
        field_fail(fields, E_LIMIT, "tools", "too large for a grammar");
    }
    buf_release(&f->text);
}

/* The turn begins inside a call. */
static void begin_call(struct api_call *c, struct engine_request *r, const struct call_form *form,
                       struct slice name, const char *between)
{
    struct buf text;
    buf_init(&text, TURN_NAME_BYTES_MAX + 256);
    buf_add_text(&text, form->begin);
    buf_add_text(&text, form->open);
    if (name.len > TURN_NAME_BYTES_MAX)
        name.len = TURN_NAME_BYTES_MAX;
    buf_add_slice(&text, name);
    buf_add_text(&text, between);
    char *suffix = arena_text(&r->arena, buf_slice(&text).ptr, text.len);
    r->suffix = c->suffix = (struct slice){suffix ? suffix : "", suffix ? text.len : 0};
    buf_release(&text);
}

static void force_call(struct fields *f, const struct api_context *context, struct api_call *c,
                       struct engine_request *r)
{
    const struct call_form form = form_of(c, context);
    const struct json *function = only_function(c, r);
    if (function && !form.is_object && !form.quote) {
        begin_call(c, r, &form, json_get(function, "name")->text, form.between);
        r->schema_else = boxed(&r->arena, any_object(&r->arena));
        r->schema = has_parameters(function) ? json_get(function, "parameters") : r->schema_else;
        return;
    }
    struct form g;
    begin_call(c, r, &form, (struct slice){"", 0}, "");
    form_begin(&g, c, context, r);
    put_call_rules(&g);
    form_end(f, &g, "kv-call");
}

/* ---- answers ---- */
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

/* gpt-oss names what it writes in a channel's head: each is free but for the answer and for calls.
 */
static void put_channels(struct form *f)
{
    buf_add_text(&f->text, "\nkv-turn ::= \"analysis<|message|>\" | \"commentary\" " CONSTRAIN
                           " \"<|message|>\" | \"final\" " CONSTRAIN " \"<|message|>\" kv-answer"
                           " | \"commentary to=functions.\" kv-call");
}

/* The answer in its form, or calls. */
static void answer_or_call(struct fields *fields, const struct api_context *context,
                           struct api_call *c, struct engine_request *r)
{
    struct form f;
    form_begin(&f, c, context, r);
    buf_add_slice(&f.text, r->grammar); /* the client's own, whose names come first */
    buf_add_text(&f.text, "\nkv-answer ::=");
    if (c->schema)
        put_schema(&f, c->schema, NULL);
    else
        buf_add_text(&f.text, " root");
    put_call_rules(&f);
    constrain_behind_reasoning(c, context, r);
    if (c->format.calls == CALLS_HARMONY) {
        put_channels(&f);
        r->trigger = SLICE_LIT("<|channel|>");
    } else {
        put_calls_rule(&f);
        buf_add_text(&f.text, "\nkv-turn ::= kv-answer | kv-calls");
    }
    form_end(fields, &f, "kv-turn");
}

/* Free until a call begins, then by the grammar to its end.  Bare objects have no beginning to wait
 * for. */
static void constrain_calls(struct fields *fields, const struct api_context *context,
                            struct api_call *c, struct engine_request *r)
{
    struct form f;
    form_begin(&f, c, context, r);
    const bool is_list = f.calls.open[0] == '\0';
    r->trigger = c->format.calls == CALLS_HARMONY
                     ? SLICE_LIT(" to=functions.") /* in whichever order */
                     : slice_of(is_list ? f.calls.begin : f.calls.open);
    put_call_rules(&f);
    if (is_list)
        buf_add_text(&f.text, "\nkv-list ::= kv-call ( \",\" \" \"? kv-call )* \"]\"");
    form_end(fields, &f, is_list ? "kv-list" : "kv-call");
}

void set_constraint(struct fields *f, const struct api_context *context, struct api_call *c,
                    struct engine_request *r)
{
    bool is_forced = c->tool_choice == TOOLS_REQUIRED || c->tool_choice == TOOLS_NAMED;
    bool has_form = c->schema || r->grammar.len;
    if (f->status != OK)
        return;
    if (is_forced) { /* the turn is a call: the answer that has a form comes in a later one */
        r->grammar = (struct slice){"", 0};
        force_call(f, context, c, r);
        if (c->format.has_reasoning)
            set_variable(r, "enable_thinking", (struct json){.kind = JSON_BOOL});
    } else if (has_form && c->finds_tools) {
        answer_or_call(f, context, c, r);
    } else if (has_form) {
        r->schema = c->schema;
        constrain_behind_reasoning(c, context, r);
    } else if (c->finds_tools && c->format.calls != CALLS_LLAMA) {
        constrain_calls(f, context, c, r);
    }
    if (r->ignore_eos && (r->schema || r->grammar.len))
        field_fail(f, E_INVALID, "ignore_eos", "excludes a form of the answer");
}
