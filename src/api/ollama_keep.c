/* SPDX-License-Identifier: MIT
 * ollama_keep.c — Ollama's keep_alive: how long a model stays after a request; with 0 and no prompt
 * a request for nothing but that it goes, which must not load it first. */
#include <stdlib.h>

#include "api/api_int.h"
#include "base/check.h"

#define NUMBER_CHARS_MAX 31u
#define KEEP_S_MAX       1e9 /* beyond: for ever */

/* Digits and a point at the front of text; how many characters, 0: none. */
static size_t read_number(struct slice text, double *out)
{
    char copy[NUMBER_CHARS_MAX + 1] = {0};
    size_t n = 0;
    while (n < text.len && n < NUMBER_CHARS_MAX &&
           ((text.ptr[n] >= '0' && text.ptr[n] <= '9') || text.ptr[n] == '.')) {
        copy[n] = text.ptr[n];
        n++;
    }
    char *end = copy;
    *out = strtod(copy, &end);
    return end == copy + n ? n : 0;
}

/* The unit at the front of text, in seconds. */
static size_t read_unit(struct slice text, double *out)
{
    static const struct {
        const char *name;
        double seconds;
    } units[] = {{"ns", 1e-9}, {"us", 1e-6}, {"ms", 1e-3}, {"s", 1}, {"m", 60}, {"h", 3600}};
    for (size_t i = 0; i < ARRAY_COUNT(units); i++)
        if (slice_starts(text, slice_of(units[i].name))) {
            *out = units[i].seconds;
            return strlen(units[i].name);
        }
    return 0;
}

/* "5m", "1h30m", "-1s"; a number alone is seconds. */
static bool read_duration(struct slice text, double *out)
{
    double sum = 0, value, unit;
    bool is_negative = text.len > 0 && text.ptr[0] == '-';
    if (is_negative || (text.len > 0 && text.ptr[0] == '+'))
        text = (struct slice){text.ptr + 1, text.len - 1};
    bool is_first = true;
    do {
        size_t n = read_number(text, &value);
        text = (struct slice){text.ptr + n, text.len - n};
        size_t m = read_unit(text, &unit);
        if (n == 0 || (m == 0 && !(is_first && text.len == 0)))
            return false;
        text = (struct slice){text.ptr + m, text.len - m};
        sum += value * (m ? unit : 1);
        is_first = false;
    } while (text.len > 0);
    *out = is_negative ? -sum : sum;
    return true;
}

static bool duration_of(const struct json *v, double *out)
{
    if (v->kind == JSON_STRING)
        return read_duration(v->text, out);
    *out = v->real;
    return v->kind == JSON_INT || v->kind == JSON_REAL;
}

void read_keep_alive(struct fields *f, const struct api_context *context, struct api_call *c)
{
    const struct json *v = field(f, "keep_alive");
    double seconds = 0;
    if (!v)
        return;
    if (!duration_of(v, &seconds))
        field_fail(f, E_INVALID, "keep_alive", "must be a duration such as \"5m\", or seconds");
    else if (seconds < 0 || seconds > KEEP_S_MAX)
        c->keep_s = FLEET_KEEP_FOREVER;
    else if (seconds > 0)
        c->keep_s = seconds < 1 ? 1 : (int64_t)seconds;
    else if (context->can_unload)
        c->keep_s = 0;
    else
        field_fail(f, E_UNSUPPORTED, "keep_alive",
                   "0 would unload the model; it stays for as long as this server runs");
}

static bool asks_nothing(const struct json *v)
{
    const struct json *prompt = json_get(v, "prompt"), *messages = json_get(v, "messages");
    return !(prompt && prompt->kind == JSON_STRING && prompt->text.len > 0) &&
           !(messages && messages->kind == JSON_ARRAY && messages->count > 0);
}

bool api_wants_unload(const struct api_dialect *dialect, struct slice body, int64_t now_unix_s,
                      struct buf *out)
{
    struct arena arena;
    struct json *v = NULL;
    struct err none = {0};
    double seconds = 1;
    if (!dialect->unloads)
        return false;
    arena_init(&arena, API_REPLY_BYTES_MAX);
    bool is_object = json_parse(body, &arena, &v, &none) == OK && v->kind == JSON_OBJECT;
    const struct json *keep = json_get(v, "keep_alive"), *model = json_get(v, "model");
    bool is_unload = is_object && asks_nothing(v) && keep && duration_of(keep, &seconds) &&
                     !(seconds < 0) && !(seconds > 0);
    if (is_unload)
        ollama_write_unloaded(
            dialect, out, model && model->kind == JSON_STRING ? model->text : (struct slice){"", 0},
            now_unix_s);
    arena_release(&arena);
    return is_unload;
}
