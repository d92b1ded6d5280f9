/* SPDX-License-Identifier: MIT
 * tool_text.c — content and tool calls in a model's text. */
#include "api/tool_text.h"

#include "text/json.h"

#define PARSE_BYTES_MAX (64u << 20)

static const struct slice OPEN = {"<tool_call>", 11}, CLOSE = {"</tool_call>", 12};

void tool_text_init(struct tool_text *t)
{
    *t = (struct tool_text){0};
    /* What is held is content at worst: the room is for a call and the piece behind it. */
    buf_init(&t->held, PARSE_BYTES_MAX);
    arena_init(&t->arena, PARSE_BYTES_MAX);
}

void tool_text_release(struct tool_text *t)
{
    arena_release(&t->arena);
    buf_release(&t->held);
}

void tool_text_feed(struct tool_text *t, struct slice text)
{
    buf_add_slice(&t->held, text);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static const char *find(struct slice in, size_t from, struct slice what)
{
    return in.len > from ? memmem(in.ptr + from, in.len - from, what.ptr, what.len) : NULL;
}

/* Bytes at the end that may be blanks before a tag plus the beginning of one. */
static size_t maybe_tag(struct slice s)
{
    size_t n = s.len < OPEN.len - 1 ? s.len : OPEN.len - 1;
    while (n > 0 && memcmp(s.ptr + s.len - n, OPEN.ptr, n) != 0)
        n--;
    size_t blanks = 0;
    while (n + blanks < s.len && blanks < TOOL_TEXT_BLANKS_MAX &&
           is_blank(s.ptr[s.len - n - blanks - 1]))
        blanks++;
    return n + blanks;
}

static struct tool_text_item content(struct tool_text *t, size_t len)
{
    t->done = len;
    return (struct tool_text_item){.kind = len ? TOOL_TEXT_CONTENT : TOOL_TEXT_NOTHING,
                                   .content = {t->held.ptr, len}};
}

/* Outside a call: everything that can't belong to the next one. */
static struct tool_text_item next_content(struct tool_text *t, bool is_end)
{
    struct slice held = buf_slice(&t->held);
    const char *open = find(held, 0, OPEN);
    if (!open) {
        size_t keep = is_end ? 0 : maybe_tag(held);
        size_t blanks = 0;
        while (is_end && t->n_calls > 0 && blanks < held.len && is_blank(held.ptr[blanks]))
            blanks++;
        if (blanks == held.len && held.len > 0) { /* blanks behind the last call belong to it */
            t->done = held.len;
            return (struct tool_text_item){0};
        }
        return content(t, held.len - keep);
    }
    size_t at = (size_t)(open - held.ptr);
    size_t blanks = 0;
    while (blanks < at && blanks < TOOL_TEXT_BLANKS_MAX && is_blank(held.ptr[at - blanks - 1]))
        blanks++;
    t->is_in_call = true;
    t->n_tries = 0;
    t->call_at = blanks + OPEN.len; /* once what is before has been taken */
    t->searched_at = t->call_at;
    return content(t, at - blanks);
}

static bool parse_call(struct tool_text *t, struct slice text, struct tool_text_item *out)
{
    struct json *v = NULL;
    struct err e;
    arena_clear(&t->arena);
    if (json_parse(text, &t->arena, &v, &e) != OK || v->kind != JSON_OBJECT)
        return false;
    const struct json *name = json_get(v, "name"), *arguments = json_get(v, "arguments");
    const char *key = "arguments";
    if (!arguments) {
        key = "parameters"; /* Llama 3's word */
        arguments = json_get(v, key);
    }
    if (!name || name->kind != JSON_STRING || name->text.len == 0)
        return false;
    if (arguments && arguments->kind != JSON_OBJECT && arguments->kind != JSON_STRING &&
        arguments->kind != JSON_NULL)
        return false;
    struct slice source = SLICE_LIT("{}");
    if (arguments && arguments->kind == JSON_STRING)
        source = arguments->text;
    else if (arguments && arguments->kind == JSON_OBJECT)
        source = tool_text_member(text, key);
    *out = (struct tool_text_item){.kind = TOOL_TEXT_CALL, .name = name->text, .arguments = source};
    return true;
}

/* Inside a call: at each closing tag, or at the end, is it one? */
static struct tool_text_item next_call(struct tool_text *t, bool is_end)
{
    struct slice held = buf_slice(&t->held);
    struct tool_text_item item = {0};
    while (t->n_tries < TOOL_TEXT_TRIES_MAX) {
        const char *close = find(held, t->searched_at, CLOSE);
        if (!close)
            break;
        size_t at = (size_t)(close - held.ptr);
        t->n_tries++;
        t->searched_at = at + CLOSE.len;
        if (!parse_call(t, (struct slice){held.ptr + t->call_at, at - t->call_at}, &item))
            continue;
        t->is_in_call = false;
        t->n_calls++;
        t->done = at + CLOSE.len;
        return item;
    }
    bool is_hopeless =
        t->n_tries == TOOL_TEXT_TRIES_MAX || held.len - t->call_at > TOOL_TEXT_CALL_BYTES_MAX;
    if (!is_end && !is_hopeless) {
        /* A tag may be cut in two. */
        size_t tail = held.len < CLOSE.len ? 0 : held.len - CLOSE.len + 1;
        if (tail > t->searched_at)
            t->searched_at = tail;
        return item;
    }
    t->is_in_call = false;
    /* The end of generation may stand for the closing tag. */
    if (!is_hopeless &&
        parse_call(t, (struct slice){held.ptr + t->call_at, held.len - t->call_at}, &item)) {
        t->n_calls++;
        t->done = held.len;
        return item;
    }
    return content(t, is_end ? held.len : t->call_at);
}

struct tool_text_item tool_text_next(struct tool_text *t, bool is_end)
{
    struct tool_text_item item;
    buf_consume(&t->held, t->done);
    t->done = 0;
    bool was_in_call = t->is_in_call;
    item = was_in_call ? next_call(t, is_end) : next_content(t, is_end);
    /* A tag at the very front: nothing before it to return, so go on inside. */
    if (item.kind == TOOL_TEXT_NOTHING && !was_in_call && t->is_in_call)
        item = next_call(t, is_end);
    return item;
}

/* ---- the source of a member ---- */
static size_t skip_blanks(struct slice s, size_t at)
{
    while (at < s.len && is_blank(s.ptr[at]))
        at++;
    return at;
}

/* Behind the string that begins at s.ptr[at] == '"'. */
static size_t skip_string(struct slice s, size_t at)
{
    for (at++; at < s.len && s.ptr[at] != '"'; at++)
        if (s.ptr[at] == '\\')
            at++;
    return at < s.len ? at + 1 : s.len;
}

/* Behind the value that begins at `at`: to the comma or bracket on its own level. */
static size_t skip_value(struct slice s, size_t at)
{
    size_t depth = 0;
    while (at < s.len) {
        char c = s.ptr[at];
        if (c == '"') {
            at = skip_string(s, at);
            continue;
        }
        if (depth == 0 && (c == ',' || c == '}' || c == ']'))
            break;
        depth += c == '{' || c == '[';
        depth -= c == '}' || c == ']';
        at++;
    }
    return at;
}

struct slice tool_text_member(struct slice s, const char *key)
{
    size_t at = skip_blanks(s, 0) + 1; /* the brace */
    struct slice wanted = slice_of(key);
    while ((at = skip_blanks(s, at)) < s.len && s.ptr[at] == '"') {
        size_t key_end = skip_string(s, at);
        struct slice name = {s.ptr + at + 1, key_end - at - 2};
        at = skip_blanks(s, skip_blanks(s, key_end) + 1); /* the colon */
        size_t end = skip_value(s, at), value_end = end;
        while (value_end > at && is_blank(s.ptr[value_end - 1]))
            value_end--;
        if (slice_equal(name, wanted))
            return (struct slice){s.ptr + at, value_end - at};
        at = end + 1; /* the comma */
    }
    return (struct slice){"", 0}; /* spelled with escapes */
}
