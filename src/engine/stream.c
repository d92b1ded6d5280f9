/* SPDX-License-Identifier: MIT
 * stream.c — stop strings, found as soon as they are complete, and lines that are not indented. */
#include "engine/stream.h"

#define STREAM_BYTES_MAX (256u << 20)

void stream_init(struct stream *s, const struct tokenizer *t, const struct engine_request *r)
{
    *s = (struct stream){.stops = r->stops, .n_stops = r->n_stops, .n_indent = r->n_indent};
    detok_init(&s->detok, t, r->show_special);
    buf_init(&s->text, STREAM_BYTES_MAX);
}

void stream_release(struct stream *s)
{
    buf_release(&s->text);
}

/* Where the earliest complete stop string begins in text from `from`, or len. */
static size_t find_stop(struct stream *s, size_t from)
{
    size_t first = s->text.len;
    for (uint32_t i = 0; i < s->n_stops; i++) {
        const char *hit = s->stops[i].len ? memmem(s->text.ptr + from, s->text.len - from,
                                                   s->stops[i].ptr, s->stops[i].len)
                                          : NULL;
        if (hit && (size_t)(hit - s->text.ptr) < first) {
            first = (size_t)(hit - s->text.ptr);
            s->stop = s->stops[i];
        }
    }
    return first;
}

/* How many bytes at the end may be the beginning of a stop string. */
static size_t held_bytes(const struct stream *s)
{
    size_t held = 0;
    size_t open = s->text.len - s->n_emitted;
    for (uint32_t i = 0; i < s->n_stops; i++) {
        size_t n = s->stops[i].len > 0 ? s->stops[i].len - 1 : 0;
        if (n > open)
            n = open;
        while (n > held && memcmp(s->text.ptr + s->text.len - n, s->stops[i].ptr, n) != 0)
            n--;
        if (n > held)
            held = n;
    }
    return held;
}

/* What stands behind too few blanks, or the text's end.  An empty line has none. */
static size_t find_outdent(struct stream *s)
{
    const char *text = s->text.ptr;
    const size_t len = s->text.len;
    while (s->n_indent > 0) {
        size_t at = s->line;
        while (at < len && (text[at] == ' ' || text[at] == '\t'))
            at++;
        if (s->line > 0 && at < len && at - s->line < s->n_indent)
            return at;
        const char *end = memchr(text + s->line, '\n', len - s->line);
        if (!end)
            break;
        s->line = (size_t)(end - text) + 1;
    }
    return len;
}

static struct slice emit(struct stream *s, size_t end)
{
    struct slice out = {s->text.ptr + s->n_emitted, end - s->n_emitted};
    s->n_emitted = end;
    return out.len ? out : (struct slice){"", 0};
}

struct slice stream_push(struct stream *s, uint32_t token, bool *is_stopped)
{
    *is_stopped = false;
    detok_push(&s->detok, token, &s->text);
    if (s->text.len == s->n_emitted)
        return (struct slice){"", 0};
    size_t end = s->n_stops ? find_stop(s, s->n_emitted) : s->text.len;
    const size_t outdent = find_outdent(s);
    if (outdent < end) {
        s->stop = (struct slice){0};
        end = outdent;
    }
    if (end < s->text.len) {
        *is_stopped = true;
        return emit(s, end);
    }
    return emit(s, s->text.len - held_bytes(s));
}

struct slice stream_flush(struct stream *s)
{
    detok_flush(&s->detok, &s->text);
    return s->text.len > s->n_emitted ? emit(s, s->text.len) : (struct slice){"", 0};
}
