/* SPDX-License-Identifier: MIT
 * turn.c — the states of a turn; heads of calls are turn_calls.c's. */
#include "api/turn_int.h"

#define HELD_BYTES_MAX (64u << 20)

static const struct slice THINK = {"<think>", 7}, THINK_END = {"</think>", 8};
static const struct slice CHANNEL_MARKS[] = {
    {"<|end|>", 7},      {"<|call|>", 8},     {"<|return|>", 10},   {"<|start|>", 9},
    {"<|channel|>", 11}, {"<|message|>", 11}, {"<|constrain|>", 13}};
#define N_CHANNEL_MARKS (sizeof CHANNEL_MARKS / sizeof *CHANNEL_MARKS)
static const struct slice MESSAGE = {"<|message|>", 11};

void turn_init(struct turn *t, const struct turn_options *options)
{
    *t = (struct turn){.options = *options, .is_bare = true};
    if (options->format.calls == CALLS_HARMONY)
        t->state = TURN_IN_CHANNEL_HEAD;
    else if (options->splits_reasoning && options->starts_in_reasoning)
        t->state = TURN_IN_REASONING;
    else
        t->state = TURN_AT_START;
    /* What is held is text at worst: the room is for a call and the piece behind it. */
    buf_init(&t->held, HELD_BYTES_MAX);
    buf_init(&t->out, HELD_BYTES_MAX);
    arena_init(&t->arena, HELD_BYTES_MAX);
}

void turn_release(struct turn *t)
{
    arena_release(&t->arena);
    buf_release(&t->out);
    buf_release(&t->held);
}

void turn_feed(struct turn *t, struct slice text)
{
    buf_add_slice(&t->held, text);
}

bool turn_is_reasoning(const struct turn *t)
{
    return t->state == TURN_IN_REASONING ||
           (t->state == TURN_IN_CHANNEL && t->channel == CHANNEL_REASONING);
}

/* ---- slices ---- */
bool turn_is_blank(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

size_t turn_skip_blanks(struct slice s, size_t at)
{
    while (at < s.len && turn_is_blank(s.ptr[at]))
        at++;
    return at;
}

struct slice turn_from(struct slice s, size_t at)
{
    return at < s.len ? (struct slice){s.ptr + at, s.len - at} : (struct slice){"", 0};
}

bool turn_is_beginning(struct slice s, struct slice what)
{
    return s.len < what.len && memcmp(s.ptr, what.ptr, s.len) == 0;
}

size_t turn_tail(struct slice s, struct slice what)
{
    size_t n = what.len == 0 ? 0 : s.len < what.len - 1 ? s.len : what.len - 1;
    while (n > 0 && memcmp(s.ptr + s.len - n, what.ptr, n) != 0)
        n--;
    return n;
}

const char *turn_find(struct slice s, struct slice what)
{
    return what.len && s.len ? memmem(s.ptr, s.len, what.ptr, what.len) : NULL;
}

static size_t blanks_before(struct slice s, size_t at)
{
    size_t n = 0;
    while (n < at && n < TURN_BLANKS_MAX && turn_is_blank(s.ptr[at - n - 1]))
        n++;
    return n;
}

static struct turn_item item(struct turn *t, enum turn_kind kind, size_t len)
{
    t->done = len;
    return (struct turn_item){len ? kind : TURN_NOTHING, {t->held.ptr, len}};
}

/* A state that went on without an item is run again. */
static const struct turn_item AGAIN = {TURN_NOTHING, {NULL, 1}};

static bool is_again(struct turn_item i)
{
    return i.kind == TURN_NOTHING && !i.text.ptr && i.text.len == 1;
}

static struct turn_item go_on(struct turn *t, enum turn_state state, size_t used)
{
    buf_consume(&t->held, used);
    t->state = state;
    return AGAIN;
}

static const struct turn_item WAIT = {TURN_NOTHING, {"", 0}};

/* ---- text ---- */
static bool is_bare_format(const struct turn *t)
{
    return t->options.finds_calls && t->options.format.calls == CALLS_LLAMA;
}

static struct turn_item at_start(struct turn *t, bool is_end)
{
    struct slice held = buf_slice(&t->held);
    size_t at = turn_skip_blanks(held, 0);
    struct slice rest = turn_from(held, at);
    if (t->options.splits_reasoning && slice_starts(rest, THINK))
        return go_on(t, TURN_IN_REASONING, at + THINK.len);
    if (t->options.splits_reasoning && turn_is_beginning(rest, THINK) && !is_end &&
        at <= TURN_BLANKS_MAX)
        return WAIT;
    t->state = TURN_IN_TEXT;
    return AGAIN;
}

/* A turn that may be a bare call from its first character on. */
static struct turn_item at_bare(struct turn *t, bool is_end)
{
    struct slice held = buf_slice(&t->held);
    size_t at = turn_skip_blanks(held, 0);
    const struct call_marks *m = turn_marks(CALLS_LLAMA);
    struct slice rest = turn_from(held, at), fence = {"```", 3};
    bool is_marked = slice_starts(rest, m->open), is_fenced = slice_starts(rest, fence);
    bool may_be = turn_is_beginning(rest, m->open) || turn_is_beginning(rest, fence);
    if (may_be && !is_end && at <= TURN_BLANKS_MAX)
        return WAIT;
    t->is_bare = false;
    if (!is_marked && !is_fenced && !(rest.len && rest.ptr[0] == '{'))
        return AGAIN;
    t->mark_len = at + (is_marked ? m->open.len : 0);
    t->state = TURN_IN_HEAD;
    return AGAIN;
}

/* Outside a call: everything that can't belong to the next one. */
static struct turn_item in_text(struct turn *t, bool is_end)
{
    struct slice held = buf_slice(&t->held);
    if (is_bare_format(t) && t->is_bare)
        return at_bare(t, is_end);
    if (!t->options.finds_calls || t->options.format.calls == CALLS_LLAMA)
        return item(t, TURN_TEXT, held.len);
    struct slice open = turn_marks(t->options.format.calls)->open;
    const char *hit = turn_find(held, open);
    if (!hit) {
        size_t keep = is_end ? 0 : turn_tail(held, open);
        if (!is_end)
            keep += blanks_before(held, held.len - keep);
        if (is_end && t->n_calls > 0 && turn_skip_blanks(held, 0) == held.len) {
            t->done = held.len; /* blanks behind the last call belong to it */
            return WAIT;
        }
        return item(t, TURN_TEXT, held.len - keep);
    }
    size_t at = (size_t)(hit - held.ptr), blanks = blanks_before(held, at);
    t->state = TURN_IN_HEAD;
    t->mark_len = blanks + open.len; /* once what is before has been taken */
    return at > blanks ? item(t, TURN_TEXT, at - blanks) : AGAIN;
}

static struct turn_item in_reasoning(struct turn *t, bool is_end)
{
    struct slice held = buf_slice(&t->held);
    if (!t->is_reasoning_begun) {
        size_t at = turn_skip_blanks(held, 0);
        if (at == held.len && !is_end)
            return WAIT;
        t->is_reasoning_begun = true;
        return go_on(t, TURN_IN_REASONING, at);
    }
    const char *hit = turn_find(held, THINK_END);
    if (!hit) {
        size_t keep = is_end ? 0 : turn_tail(held, THINK_END);
        keep += blanks_before(held, held.len - keep);
        if (is_end)
            t->state = TURN_IN_TEXT;
        struct turn_item i = item(t, TURN_REASONING, held.len - keep);
        if (is_end)
            t->done = held.len;
        return i;
    }
    size_t at = (size_t)(hit - held.ptr), blanks = blanks_before(held, at);
    if (at > blanks)
        return item(t, TURN_REASONING, at - blanks);
    /* Blanks between the mark and the text belong to neither. */
    size_t behind = turn_skip_blanks(held, at + THINK_END.len);
    if (behind == held.len && !is_end)
        return WAIT;
    return go_on(t, TURN_IN_TEXT, behind);
}

/* ---- calls ---- */
static void begin_json(struct turn *t)
{
    t->json = (struct json_stream){0};
}

static struct turn_item no_call(struct turn *t, bool is_end)
{
    t->is_scanning = false;
    t->state = TURN_IN_TEXT;
    /* Behind the mark a call may begin after all; at the end nothing can. */
    size_t len =
        is_end || t->mark_len == 0 || t->mark_len > t->held.len ? t->held.len : t->mark_len;
    return item(t, TURN_TEXT, len);
}

static struct turn_item in_head(struct turn *t, bool is_end)
{
    struct slice held = turn_from(buf_slice(&t->held), t->mark_len);
    size_t at = 0;
    if (!t->is_scanning)
        arena_clear(&t->arena);
    enum head_result r = turn_head(t, held, is_end, &at);
    if (r == HEAD_MORE && !is_end && held.len <= TURN_CALL_BYTES_MAX)
        return WAIT;
    if (r == HEAD_MORE || r == HEAD_NONE || t->arena.failed)
        return no_call(t, is_end);
    t->is_scanning = false;
    t->n_calls++;
    t->state = r == HEAD_OPEN ? TURN_IN_ARGUMENTS : TURN_HAS_ARGUMENTS;
    begin_json(t);
    t->done = t->mark_len + at;
    return (struct turn_item){TURN_CALL, t->name};
}

static struct turn_item in_arguments(struct turn *t, bool is_end)
{
    struct slice held = buf_slice(&t->held);
    size_t used = 0;
    buf_clear(&t->out);
    enum json_stream_result r = json_stream_feed(&t->json, held, &used, &t->out);
    if (r == JSON_STREAM_BAD || (r == JSON_STREAM_MORE && is_end))
        json_stream_close(&t->json, &t->out);
    if (r == JSON_STREAM_MORE && !is_end && t->out.len == 0)
        return WAIT;
    if (r != JSON_STREAM_MORE || is_end) {
        t->has_object = t->has_object && r == JSON_STREAM_DONE;
        t->state = TURN_AT_END;
    }
    t->done = used;
    return (struct turn_item){TURN_ARGUMENTS, buf_slice(&t->out)};
}

static struct turn_item at_end(struct turn *t)
{
    t->state = t->options.format.calls == CALLS_HARMONY ? TURN_IN_CHANNEL
               : t->has_object                          ? TURN_IN_REST
                                                        : TURN_BETWEEN;
    t->channel = CHANNEL_TEXT;
    begin_json(t);
    if (t->has_object) { /* as if the object had one member */
        size_t used;
        buf_clear(&t->out);
        (void)json_stream_feed(&t->json, SLICE_LIT("{\"\":\"\""), &used, &t->out);
    }
    t->has_object = false;
    return (struct turn_item){.kind = TURN_CALL_END};
}

static struct turn_item in_rest(struct turn *t, bool is_end)
{
    size_t used = 0;
    buf_clear(&t->out);
    enum json_stream_result r = json_stream_feed(&t->json, buf_slice(&t->held), &used, &t->out);
    if (r == JSON_STREAM_MORE && !is_end) {
        buf_consume(&t->held, used);
        return WAIT;
    }
    return go_on(t, TURN_BETWEEN, r == JSON_STREAM_BAD ? 0 : used);
}

static struct turn_item between(struct turn *t, bool is_end)
{
    struct slice held = buf_slice(&t->held);
    size_t at = turn_skip_blanks(held, 0);
    struct slice rest = turn_from(held, at);
    const struct call_marks *m = turn_marks(t->options.format.calls);
    bool may_be = at <= TURN_BLANKS_MAX && rest.len == 0;
    for (size_t i = 0; i < sizeof m->skips / sizeof *m->skips && m->skips[i].len; i++) {
        if (slice_starts(rest, m->skips[i]))
            return go_on(t, TURN_BETWEEN, at + m->skips[i].len);
        may_be = may_be || turn_is_beginning(rest, m->skips[i]);
    }
    if (m->again.len && slice_starts(rest, m->again)) {
        bool is_bare = m->again.len == 1; /* the object itself */
        t->mark_len = at + (is_bare ? 0 : m->again.len);
        t->state = TURN_IN_HEAD;
        return AGAIN;
    }
    may_be = may_be || (m->again.len && turn_is_beginning(rest, m->again));
    if (may_be && !is_end)
        return WAIT;
    if (may_be)
        buf_clear(&t->held); /* blanks, or half a mark */
    t->state = TURN_IN_TEXT;
    return AGAIN;
}

/* ---- channels ---- */
static struct turn_item in_channel_head(struct turn *t, bool is_end)
{
    struct slice held = buf_slice(&t->held), start = CHANNEL_MARKS[3], channel = CHANNEL_MARKS[4];
    bool may_be = slice_starts(held, start) || slice_starts(held, channel) ||
                  turn_is_beginning(held, start) || turn_is_beginning(held, channel) ||
                  slice_starts(held, SLICE_LIT(" to="));
    const char *hit = may_be ? turn_find(held, MESSAGE) : NULL;
    if (may_be && !hit && !is_end && held.len <= TURN_HEAD_BYTES_MAX)
        return WAIT;
    if (!hit) { /* written without channels */
        t->state = TURN_IN_CHANNEL;
        t->channel = CHANNEL_TEXT;
        return AGAIN;
    }
    struct slice head = {held.ptr, (size_t)(hit - held.ptr)};
    const char *name = turn_find(head, channel);
    struct slice rest =
        name ? turn_from(head, (size_t)(name - head.ptr) + channel.len) : (struct slice){"", 0};
    t->channel = slice_starts(rest, SLICE_LIT("analysis")) ? CHANNEL_REASONING : CHANNEL_TEXT;
    arena_clear(&t->arena);
    if (t->options.finds_calls && turn_recipient(t, head)) {
        t->n_calls++;
        t->state = TURN_IN_ARGUMENTS;
        begin_json(t);
        t->done = head.len + MESSAGE.len;
        return (struct turn_item){TURN_CALL, t->name};
    }
    return go_on(t, TURN_IN_CHANNEL, head.len + MESSAGE.len);
}

static struct turn_item in_channel(struct turn *t, bool is_end)
{
    struct slice held = buf_slice(&t->held);
    size_t first = held.len, keep = 0, len = 0;
    bool is_head = false;
    for (size_t i = 0; i < N_CHANNEL_MARKS; i++) {
        const char *hit = turn_find(held, CHANNEL_MARKS[i]);
        size_t tail = turn_tail(held, CHANNEL_MARKS[i]);
        if (hit && (size_t)(hit - held.ptr) < first) {
            first = (size_t)(hit - held.ptr);
            len = CHANNEL_MARKS[i].len;
            is_head = i == 3 || i == 4;
        }
        keep = tail > keep ? tail : keep;
    }
    enum turn_kind kind = t->channel == CHANNEL_REASONING ? TURN_REASONING : TURN_TEXT;
    if (first == held.len)
        return item(t, kind, held.len - (is_end ? 0 : keep));
    if (first > 0)
        return item(t, kind, first);
    if (is_head)
        return go_on(t, TURN_IN_CHANNEL_HEAD, 0);
    t->channel = CHANNEL_TEXT;
    return go_on(t, TURN_IN_CHANNEL, len);
}

static struct turn_item step(struct turn *t, bool is_end)
{
    switch (t->state) {
    case TURN_AT_START:
        return at_start(t, is_end);
    case TURN_IN_TEXT:
        return in_text(t, is_end);
    case TURN_IN_REASONING:
        return in_reasoning(t, is_end);
    case TURN_IN_HEAD:
        return in_head(t, is_end);
    case TURN_IN_ARGUMENTS:
        return in_arguments(t, is_end);
    case TURN_HAS_ARGUMENTS:
        t->state = TURN_AT_END;
        return (struct turn_item){TURN_ARGUMENTS, t->pending};
    case TURN_AT_END:
        return at_end(t);
    case TURN_IN_REST:
        return in_rest(t, is_end);
    case TURN_BETWEEN:
        return between(t, is_end);
    case TURN_IN_CHANNEL_HEAD:
        return in_channel_head(t, is_end);
    case TURN_IN_CHANNEL:
        return in_channel(t, is_end);
    }
    return WAIT;
}

struct turn_item turn_next(struct turn *t, bool is_end)
{
    struct turn_item i;
    buf_consume(&t->held, t->done);
    t->done = 0;
    do
        i = step(t, is_end);
    while (is_again(i));
    return i;
}
