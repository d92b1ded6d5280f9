/* SPDX-License-Identifier: MIT
 * log.c — formats a line and writes it in one piece; control characters become '?', so that an
 * event stays one line.  In JSON all values are strings: what reads logs knows which are numbers.
 */
#include "base/log.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES_MAX 1024
#define JSON_BYTES_MAX (8 * LINE_BYTES_MAX) /* each byte may become \u00XX, and keys get quotes */

static _Atomic(enum log_level) max_level = LOG_INFO;
static enum log_format format_of_lines = LOG_TEXT;

void log_set_level(enum log_level level)
{
    atomic_store(&max_level, level);
}

void log_set_format(enum log_format format)
{
    format_of_lines = format;
}

static void put(const char *line, size_t len)
{
    ssize_t ignored = write(STDERR_FILENO, line, len);
    (void)ignored; /* there is nowhere left to complain */
}

/* ---- the line as JSON ---- */
struct out {
    char text[JSON_BYTES_MAX];
    size_t len;
};

static void add(struct out *o, const char *bytes, size_t n)
{
    if (n > sizeof o->text - o->len)
        n = sizeof o->text - o->len;
    memcpy(o->text + o->len, bytes, n);
    o->len += n;
}

/* Bytes that are no UTF-8 stay as they are: a reader that minds replaces them. */
static void add_string(struct out *o, const char *bytes, size_t n)
{
    add(o, "\"", 1);
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] == '"' || bytes[i] == '\\')
            add(o, "\\", 1);
        add(o, &bytes[i], 1);
    }
    add(o, "\"", 1);
}

static void add_member(struct out *o, const char *key, size_t key_len, const char *value,
                       size_t value_len)
{
    add(o, ",", o->len > 1);
    add_string(o, key, key_len);
    add(o, ":", 1);
    add_string(o, value, value_len);
}

static size_t word_len(const char *text, size_t len)
{
    const char *end = memchr(text, ' ', len);
    return end ? (size_t)(end - text) : len;
}

/* Length of the key in front of '=', or 0. */
static size_t key_len(const char *word, size_t len)
{
    size_t n = 0;
    while (n < len && ((word[n] >= 'a' && word[n] <= 'z') || word[n] == '_' ||
                       (n > 0 && word[n] >= '0' && word[n] <= '9')))
        n++;
    return n > 0 && n < len && word[n] == '=' ? n : 0;
}

/* Words before the first key=value are the event; the first word behind one that is none begins the
 * text, to the end. */
static void add_message(struct out *o, const char *text, size_t len)
{
    size_t at = 0, event = 0;
    bool has_event = false;
    while (at < len) {
        size_t n = word_len(text + at, len - at), key = key_len(text + at, n);
        if (!key && has_event) {
            add_member(o, "text", 4, text + at, len - at);
            return;
        }
        if (key) {
            if (!has_event && event > 0)
                add_member(o, "event", 5, text, event);
            has_event = true;
            bool is_tail = n > 0 && text[at + n - 1] == ':'; /* "status=500: why" */
            add_member(o, text + at, key, text + at + key + 1, n - key - 1 - is_tail);
        } else {
            event = at + n;
        }
        at += n + 1;
    }
    if (!has_event)
        add_member(o, "event", 5, text, len);
}

static void put_json(const char *level, const char *room, const char *text, size_t len)
{
    struct out o = {.len = 0};
    struct timespec now;
    struct tm parts;
    char stamp[64];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    size_t n = strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &parts);
    n += (size_t)snprintf(stamp + n, sizeof stamp - n, ".%03dZ", (int)(now.tv_nsec / 1000000));
    add(&o, "{", 1);
    add_member(&o, "time", 4, stamp, n);
    add_member(&o, "level", 5, level, strlen(level));
    add_member(&o, "room", 4, room, strlen(room));
    add_message(&o, text, len);
    add(&o, "}\n", 2);
    put(o.text, o.len);
}

void log_line(enum log_level level, const char *room, const char *fmt, ...)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    if (level > atomic_load_explicit(&max_level, memory_order_relaxed))
        return;
    char line[LINE_BYTES_MAX];
    int used = snprintf(line, sizeof line, "%s %s: ", names[level], room);
    va_list ap;
    va_start(ap, fmt);
    int more = vsnprintf(line + used, sizeof line - (size_t)used, fmt, ap);
    va_end(ap);
    size_t len = (size_t)used + (more > 0 ? (size_t)more : 0);
    if (len > sizeof line - 2)
        len = sizeof line - 2;       /* a longer line is cut */
    for (size_t i = 0; i < len; i++) /* a file name may hold a line break or an escape */
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
            line[i] = '?';
    if (format_of_lines == LOG_JSON) {
        put_json(names[level], room, line + used, len - (size_t)used);
        return;
    }
    line[len++] = '\n';
    put(line, len);
}
