/* SPDX-License-Identifier: MIT
 * turn_calls.c — how families of models write whom they call: from the mark to the arguments.
 * Sources: the chat templates that teach these formats, and the makers' descriptions of them
 * (Hermes function calling, Llama 3 model cards, Mistral's tokenizer guide, DeepSeek V3's and
 * FunctionGemma's model cards, OpenAI's harmony format). */
#include "api/turn_int.h"

static const struct call_marks marks[] = {
    [CALLS_HERMES] = {.open = {"<tool_call>", 11}, .skips = {{"</tool_call>", 12}}},
    [CALLS_LLAMA] = {.open = {"<|python_tag|>", 14},
                     .skips = {{";", 1}, {"```", 3}, {",", 1}},
                     .again = {"{", 1}},
    [CALLS_MISTRAL] = {.open = {"[TOOL_CALLS]", 12},
                       .skips = {{",", 1}, {"]", 1}},
                       .again = {"{", 1}},
    [CALLS_DEEPSEEK] = {.open = SLICE_LIT("<｜tool▁calls▁begin｜>"),
                        .skips = {SLICE_LIT("```"), SLICE_LIT("<｜tool▁call▁end｜>"),
                                  SLICE_LIT("<｜tool▁calls▁end｜>")},
                        .again = SLICE_LIT("<｜tool▁call▁begin｜>")},
    [CALLS_GEMMA] = {.open = {"<start_function_call>", 21}, .skips = {{"<end_function_call>", 19}}},
    [CALLS_GEMMA4] = {.open = {"<|tool_call>", 12}, .skips = {{"<tool_call|>", 12}}},
    [CALLS_HARMONY] = {.open = {"<|channel|>", 11}},
};

const struct call_marks *turn_marks(enum call_format format)
{
    return &marks[format];
}

struct turn_format turn_format_of(struct slice source)
{
    static const struct {
        const char *mark;
        enum call_format format;
        bool has_special;
    } rows[] = {
        {"<|channel|>", CALLS_HARMONY, true},  {"<｜tool▁calls▁begin｜>", CALLS_DEEPSEEK, true},
        {"[TOOL_CALLS]", CALLS_MISTRAL, true}, {"<start_function_call>", CALLS_GEMMA, true},
        {"<|tool_call>", CALLS_GEMMA4, true},  {"<tool_call>", CALLS_HERMES, false},
        {"<|python_tag|>", CALLS_LLAMA, true}, {"<|im_start|>", CALLS_HERMES, false}};
    struct turn_format f = {.calls = source.len ? CALLS_LLAMA : CALLS_HERMES, .has_tools = true};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!turn_find(source, slice_of(rows[i].mark)))
            continue;
        f.calls = rows[i].format;
        f.has_special = rows[i].has_special;
        break;
    }
    f.has_tools = source.len == 0 || turn_find(source, SLICE_LIT("tools")) != NULL;
    f.has_reasoning = turn_find(source, SLICE_LIT("<think>")) ||
                      turn_find(source, SLICE_LIT("</think>")) || f.calls == CALLS_HARMONY;
    return f;
}

/* ---- {"name": …, "arguments": …} ---- */

/* A cursor over a head that may break off anywhere: is_short then. */
struct cursor {
    struct slice s;
    size_t at;
    bool is_short;
};

static bool take(struct cursor *c, struct slice what)
{
    c->at = turn_skip_blanks(c->s, c->at);
    struct slice rest = turn_from(c->s, c->at);
    if (slice_starts(rest, what)) {
        c->at += what.len;
        return true;
    }
    c->is_short = turn_is_beginning(rest, what);
    return false;
}

/* A string without escapes. */
static bool take_plain_string(struct cursor *c, struct slice *out)
{
    if (!take(c, SLICE_LIT("\"")))
        return false;
    size_t begin = c->at;
    while (c->at < c->s.len && c->s.ptr[c->at] != '"' && c->s.ptr[c->at] != '\\' &&
           (unsigned char)c->s.ptr[c->at] >= 0x20)
        c->at++;
    c->is_short = c->at == c->s.len;
    if (c->is_short || c->s.ptr[c->at] != '"')
        return false;
    *out = (struct slice){c->s.ptr + begin, c->at - begin};
    c->at++;
    return out->len > 0;
}

static bool set_name(struct turn *t, struct slice name)
{
    char *copy = name.len && name.len <= TURN_NAME_BYTES_MAX
                     ? arena_text(&t->arena, name.ptr, name.len)
                     : NULL;
    t->name = (struct slice){copy ? copy : "", copy ? name.len : 0};
    return copy != NULL;
}

/* {"name": "f", "arguments": {  in this order, which is how they are taught. */
static bool plain_head(struct turn *t, struct cursor *c)
{
    struct slice name;
    struct cursor type;
    if (!take(c, SLICE_LIT("{")))
        return false;
    type = *c;
    if (take(&type, SLICE_LIT("\"type\"")) && take(&type, SLICE_LIT(":")) &&
        take(&type, SLICE_LIT("\"function\"")) && take(&type, SLICE_LIT(",")))
        *c = type;
    else if (type.is_short) {
        c->is_short = true;
        return false;
    }
    if (!take(c, SLICE_LIT("\"name\"")) || !take(c, SLICE_LIT(":")) ||
        !take_plain_string(c, &name) || !take(c, SLICE_LIT(",")))
        return false;
    struct cursor other = *c;
    if (!take(c, SLICE_LIT("\"arguments\""))) {
        if (!take(&other, SLICE_LIT("\"parameters\""))) {
            c->is_short |= other.is_short;
            return false;
        }
        *c = other;
    }
    if (!take(c, SLICE_LIT(":")) || !take(c, SLICE_LIT("{")))
        return false;
    c->at--; /* the brace is the arguments' */
    return set_name(t, name);
}

/* Arguments as text: an object as it is spelled, or a string that holds one. */
static bool set_arguments(struct turn *t, const struct json *v)
{
    struct buf b;
    struct json *inner = NULL;
    struct err e;
    buf_init(&b, TURN_CALL_BYTES_MAX);
    if (!v || v->kind == JSON_NULL)
        buf_add_text(&b, "{}");
    else if (v->kind == JSON_OBJECT)
        json_write(&b, v, (struct json_style){0});
    else if (v->kind == JSON_STRING && json_parse(v->text, &t->arena, &inner, &e) == OK &&
             inner->kind == JSON_OBJECT)
        buf_add_slice(&b, v->text);
    bool ok = !b.failed && b.len > 0;
    char *copy = ok ? arena_text(&t->arena, b.ptr, b.len) : NULL;
    t->pending = (struct slice){copy ? copy : "", copy ? b.len : 0};
    buf_release(&b);
    return copy != NULL;
}

/* Anything else that is an object with a name. */
static enum head_result whole_object(struct turn *t, struct slice held, size_t from, size_t *at)
{
    if (!t->is_scanning) {
        t->is_scanning = true;
        t->scanned = from;
        t->json = (struct json_stream){0};
    }
    size_t used = 0;
    buf_clear(&t->out);
    enum json_stream_result r =
        json_stream_feed(&t->json, turn_from(held, t->scanned), &used, &t->out);
    t->scanned += used;
    if (r != JSON_STREAM_DONE)
        return r == JSON_STREAM_MORE ? HEAD_MORE : HEAD_NONE;
    struct json *v = NULL;
    struct err e;
    if (json_parse((struct slice){held.ptr + from, t->scanned - from}, &t->arena, &v, &e) != OK)
        return HEAD_NONE;
    const struct json *inner = json_get(v, "function");
    if (inner && inner->kind == JSON_OBJECT)
        v = (struct json *)(uintptr_t)inner;
    const struct json *name = json_get(v, "name"), *arguments = json_get(v, "arguments");
    if (!arguments)
        arguments = json_get(v, "parameters");
    if (!name || name->kind != JSON_STRING || !set_name(t, name->text) ||
        !set_arguments(t, arguments))
        return HEAD_NONE;
    t->has_object = false;
    *at = t->scanned;
    return HEAD_WHOLE;
}

static enum head_result object_head(struct turn *t, struct slice held, size_t from, size_t *at)
{
    struct cursor c = {.s = held, .at = from};
    if (t->is_scanning)
        return whole_object(t, held, from, at);
    if (plain_head(t, &c)) {
        t->has_object = true;
        *at = c.at;
        return HEAD_OPEN;
    }
    if (c.is_short && held.len - from < TURN_HEAD_BYTES_MAX)
        return HEAD_MORE;
    return whole_object(t, held, turn_skip_blanks(held, from), at);
}

/* ---- names outside the object ---- */

static const struct json *find_tool(const struct turn *t, struct slice name)
{
    const struct json *tools = t->options.tools;
    for (size_t i = 0; tools && i < tools->count; i++) {
        const struct json *f = json_get(&tools->items[i], "function"), *own = json_get(f, "name");
        if (own && own->kind == JSON_STRING && slice_equal(own->text, name))
            return f;
    }
    return NULL;
}

static enum head_result bare_head(struct turn *t, struct slice held, bool is_end, size_t *at)
{
    static const struct slice fences[] = {
        {"```json", 7}, {"```tool_code", 12}, {"```tool_call", 12}, {"```", 3}};
    size_t from = turn_skip_blanks(held, 0);
    struct slice rest = turn_from(held, from);
    for (size_t i = 0; i < sizeof fences / sizeof *fences && !t->is_scanning; i++) {
        if (turn_is_beginning(rest, fences[i]) && rest.len && !is_end)
            return HEAD_MORE;
        if (slice_starts(rest, fences[i])) {
            from = turn_skip_blanks(held, from + fences[i].len);
            break;
        }
    }
    rest = turn_from(held, from);
    if (rest.len == 0)
        return HEAD_MORE;
    if (rest.ptr[0] != '{')
        return HEAD_NONE;
    enum head_result r = object_head(t, held, from, at);
    /* Models asked for JSON write objects too: only the tools' own names are calls. */
    if ((r == HEAD_OPEN || r == HEAD_WHOLE) && !find_tool(t, t->name))
        return HEAD_NONE;
    return r;
}

static enum head_result mistral_head(struct turn *t, struct slice held, size_t *at)
{
    static const struct slice args = {"[ARGS]", 6}, id = {"[CALL_ID]", 9};
    size_t from = turn_skip_blanks(held, 0);
    struct slice rest = turn_from(held, from);
    if (rest.len == 0)
        return HEAD_MORE;
    if (rest.ptr[0] == '[' || rest.ptr[0] == '{') { /* of an array, or a later one of it */
        if (rest.ptr[0] == '[')
            from = turn_skip_blanks(held, from + 1);
        return from == held.len ? HEAD_MORE : object_head(t, held, from, at);
    }
    const char *brace = memchr(rest.ptr, '{', rest.len);
    if (!brace)
        return rest.len > TURN_HEAD_BYTES_MAX ? HEAD_NONE : HEAD_MORE;
    struct slice name = {rest.ptr, (size_t)(brace - rest.ptr)};
    *at = from + name.len;
    const char *end = turn_find(name, args), *number = turn_find(name, id);
    if (number && (!end || number < end))
        end = number;
    if (end)
        name.len = (size_t)(end - name.ptr);
    while (name.len && turn_is_blank(name.ptr[name.len - 1]))
        name.len--;
    t->has_object = false;
    return set_name(t, name) ? HEAD_OPEN : HEAD_NONE;
}

static enum head_result deepseek_head(struct turn *t, struct slice held, size_t *at)
{
    struct slice begin = marks[CALLS_DEEPSEEK].again, sep = SLICE_LIT("<｜tool▁sep｜>");
    size_t from = turn_skip_blanks(held, 0);
    if (slice_starts(turn_from(held, from), begin))
        from = turn_skip_blanks(held, from + begin.len);
    struct slice rest = turn_from(held, from);
    const char *brace = rest.len ? memchr(rest.ptr, '{', rest.len) : NULL;
    if (!brace)
        return rest.len > TURN_HEAD_BYTES_MAX ? HEAD_NONE : HEAD_MORE;
    struct slice name = {rest.ptr, (size_t)(brace - rest.ptr)};
    *at = from + name.len;
    const char *hit = turn_find(name, sep);
    if (!hit)
        return HEAD_NONE;
    struct slice first = {name.ptr, (size_t)(hit - name.ptr)};
    if (slice_is(first, "function")) { /* V3, R1: function SEP name LF ```json LF {…} */
        name = turn_from(name, first.len + sep.len);
        const char *line = memchr(name.ptr, '\n', name.len);
        name.len = line ? (size_t)(line - name.ptr) : name.len;
    } else { /* V3.1: name SEP {…} */
        name = first;
    }
    t->has_object = false;
    return set_name(t, name) ? HEAD_OPEN : HEAD_NONE;
}

/* ---- arguments that are not JSON ---- */

/* A value as it was spelled: JSON where it is some, else text. */
static void add_value(struct turn *t, struct buf *out, struct slice text, bool is_text)
{
    struct json *v = NULL;
    struct err e;
    if (!is_text && json_parse(text, &t->arena, &v, &e) == OK)
        buf_add_slice(out, text);
    else
        json_write_string(out, text);
}

static bool finish_object(struct turn *t, struct buf *out)
{
    struct json *v = NULL;
    struct err e;
    buf_add_char(out, '}');
    char *copy = out->failed ? NULL : arena_text(&t->arena, out->ptr, out->len);
    t->pending = (struct slice){copy ? copy : "", copy ? out->len : 0};
    bool ok = copy && json_parse(t->pending, &t->arena, &v, &e) == OK && v->kind == JSON_OBJECT;
    buf_release(out);
    return ok;
}

static struct slice trim_lines(struct slice s)
{
    if (s.len && s.ptr[0] == '\n')
        s = turn_from(s, 1);
    if (s.len && s.ptr[s.len - 1] == '\n')
        s.len--;
    return s;
}

static bool is_text_parameter(const struct turn *t, struct slice name, struct slice key)
{
    const struct json *all = json_get(json_get(find_tool(t, name), "parameters"), "properties");
    for (size_t i = 0; all && all->kind == JSON_OBJECT && i < all->count; i++) {
        const struct json *type = json_get(&all->members[i].value, "type");
        if (slice_equal(all->members[i].key, key))
            return type && type->kind == JSON_STRING && slice_is(type->text, "string");
    }
    return false;
}

/* <function=f>(<parameter=k>\nv\n</parameter>)*</function> */
static enum head_result tagged_head(struct turn *t, struct slice held, size_t from, size_t *at)
{
    static const struct slice end = {"</function>", 11}, open = {"<parameter=", 11},
                              close = {"</parameter>", 12};
    struct slice s = turn_from(held, from);
    const char *stop = turn_find(s, end);
    if (!stop)
        return HEAD_MORE;
    *at = from + (size_t)(stop - s.ptr) + end.len;
    s.len = (size_t)(stop - s.ptr);
    s = turn_from(s, 10); /* <function= */
    const char *bracket = s.len ? memchr(s.ptr, '>', s.len) : NULL;
    if (!bracket || !set_name(t, (struct slice){s.ptr, (size_t)(bracket - s.ptr)}))
        return HEAD_NONE;
    struct buf out;
    buf_init(&out, TURN_CALL_BYTES_MAX);
    buf_add_char(&out, '{');
    s = turn_from(s, (size_t)(bracket - s.ptr) + 1);
    for (bool is_first = true;; is_first = false) {
        const char *p = turn_find(s, open);
        if (!p)
            break;
        s = turn_from(s, (size_t)(p - s.ptr) + open.len);
        const char *key_end = memchr(s.ptr, '>', s.len), *value_end = turn_find(s, close);
        if (!key_end || !value_end || key_end > value_end) {
            buf_release(&out);
            return HEAD_NONE;
        }
        struct slice key = {s.ptr, (size_t)(key_end - s.ptr)};
        struct slice value = {key_end + 1, (size_t)(value_end - key_end) - 1};
        buf_add_text(&out, is_first ? "" : ", ");
        json_write_string(&out, key);
        buf_add_text(&out, ": ");
        add_value(t, &out, trim_lines(value), is_text_parameter(t, t->name, key));
        s = turn_from(s, (size_t)(value_end - s.ptr) + close.len);
    }
    t->has_object = false;
    return finish_object(t, &out) ? HEAD_WHOLE : HEAD_NONE;
}

/* Gemma's {k:QUOTEvQUOTE,n:1,l:[…],o:{…}} to JSON: keys get quotes, quoted texts theirs. */
static bool gemma_object(struct turn *t, struct slice s, struct slice quote)
{
    struct buf out;
    bool is_key = false;
    buf_init(&out, TURN_CALL_BYTES_MAX);
    for (size_t i = 0; i < s.len && !out.failed;) {
        struct slice rest = turn_from(s, i);
        char c = s.ptr[i];
        if (slice_starts(rest, quote)) {
            const char *end = turn_find(turn_from(rest, quote.len), quote);
            if (!end)
                break;
            json_write_string(
                &out, (struct slice){rest.ptr + quote.len, (size_t)(end - rest.ptr) - quote.len});
            i += (size_t)(end - rest.ptr) + quote.len;
            is_key = false;
        } else if (is_key && !turn_is_blank(c) && c != '}' && c != '"') {
            size_t n = 0;
            while (n < rest.len && rest.ptr[n] != ':')
                n++;
            json_write_string(&out, (struct slice){rest.ptr, n});
            i += n;
            is_key = false;
        } else {
            /* Behind a comma of an array no key follows: it looks like none (no colon needed). */
            if (c == '{')
                is_key = true;
            else if (c == ',') {
                size_t n = turn_skip_blanks(s, i + 1);
                while (n < s.len && (s.ptr[n] == '_' || (s.ptr[n] | 0x20) >= 'a'))
                    n++;
                is_key = n < s.len && s.ptr[n] == ':';
            }
            buf_add_char(&out, c);
            i++;
        }
    }
    if (out.len && out.ptr[out.len - 1] == '}') { /* finish_object puts it */
        out.len--;
        out.ptr[out.len] = '\0';
    }
    return finish_object(t, &out);
}

static enum head_result gemma_head(struct turn *t, struct slice held, bool is_end, size_t *at)
{
    bool is_4 = t->options.format.calls == CALLS_GEMMA4;
    struct slice close = marks[t->options.format.calls].skips[0];
    struct slice quote = is_4 ? SLICE_LIT("<|\"|>") : SLICE_LIT("<escape>");
    struct cursor c = {.s = held};
    const char *end = turn_find(held, close);
    if (!end && !is_end)
        return HEAD_MORE;
    struct slice all = {held.ptr, end ? (size_t)(end - held.ptr) : held.len};
    *at = all.len;
    if (!take(&c, SLICE_LIT("call:")))
        return HEAD_NONE;
    struct slice rest = turn_from(all, c.at);
    const char *brace = rest.len ? memchr(rest.ptr, '{', rest.len) : NULL;
    if (!brace || !set_name(t, (struct slice){rest.ptr, (size_t)(brace - rest.ptr)}))
        return HEAD_NONE;
    struct slice object = turn_from(rest, (size_t)(brace - rest.ptr));
    while (object.len && turn_is_blank(object.ptr[object.len - 1]))
        object.len--;
    t->has_object = false;
    return gemma_object(t, object, quote) ? HEAD_WHOLE : HEAD_NONE;
}

bool turn_recipient(struct turn *t, struct slice head)
{
    static const struct slice to = {"to=functions.", 13};
    const char *hit = turn_find(head, to);
    if (!hit)
        return false;
    struct slice name = turn_from(head, (size_t)(hit - head.ptr) + to.len);
    size_t n = 0;
    while (n < name.len && !turn_is_blank(name.ptr[n]) && name.ptr[n] != '<')
        n++;
    t->has_object = false;
    return set_name(t, (struct slice){name.ptr, n});
}

enum head_result turn_head(struct turn *t, struct slice held, bool is_end, size_t *at)
{
    static const struct slice tagged = {"<function=", 10};
    size_t from = turn_skip_blanks(held, 0);
    struct slice rest = turn_from(held, from);
    switch (t->options.format.calls) {
    case CALLS_HERMES:
        if (rest.len == 0 || (turn_is_beginning(rest, tagged) && !is_end))
            return HEAD_MORE;
        if (slice_starts(rest, tagged))
            return tagged_head(t, held, from, at);
        return object_head(t, held, from, at);
    case CALLS_LLAMA:
        return bare_head(t, held, is_end, at);
    case CALLS_MISTRAL:
        return mistral_head(t, held, at);
    case CALLS_DEEPSEEK:
        return deepseek_head(t, held, at);
    case CALLS_GEMMA:
    case CALLS_GEMMA4:
        return gemma_head(t, held, is_end, at);
    case CALLS_HARMONY:
        break;
    }
    return HEAD_NONE;
}
