/* SPDX-License-Identifier: MIT
 * json_writer.c — the streaming writer: compact text, commas where they belong. */
#include <inttypes.h>
#include <math.h>

#include "base/check.h"
#include "text/json.h"

void jw_init(struct json_writer *w, struct buf *out)
{
    *w = (struct json_writer){.out = out};
}

/* Before any value or key: the comma that separates it from the one before. */
static void lead(struct json_writer *w)
{
    if (w->after_key) {
        w->after_key = false;
        return;
    }
    if (w->depth == 0)
        return;
    if (w->has_item[w->depth - 1])
        buf_add_char(w->out, ',');
    w->has_item[w->depth - 1] = true;
}

static void begin(struct json_writer *w, char open)
{
    lead(w);
    CHECK(w->depth < JSON_WRITER_DEPTH_MAX);
    w->has_item[w->depth++] = false;
    buf_add_char(w->out, open);
}

static void end(struct json_writer *w, char close)
{
    CHECK(w->depth > 0);
    CHECK(!w->after_key);
    w->depth--;
    buf_add_char(w->out, close);
}

void jw_begin_object(struct json_writer *w)
{
    begin(w, '{');
}

void jw_end_object(struct json_writer *w)
{
    end(w, '}');
}

void jw_begin_array(struct json_writer *w)
{
    begin(w, '[');
}

void jw_end_array(struct json_writer *w)
{
    end(w, ']');
}

void jw_key_slice(struct json_writer *w, struct slice key)
{
    CHECK(w->depth > 0);
    CHECK(!w->after_key);
    lead(w);
    json_write_string(w->out, key);
    buf_add_char(w->out, ':');
    w->after_key = true;
}

void jw_key(struct json_writer *w, const char *key)
{
    jw_key_slice(w, slice_of(key));
}

void jw_string(struct json_writer *w, struct slice text)
{
    lead(w);
    json_write_string(w->out, text);
}

void jw_text(struct json_writer *w, const char *text)
{
    if (text)
        jw_string(w, slice_of(text));
    else
        jw_null(w);
}

void jw_int(struct json_writer *w, int64_t v)
{
    lead(w);
    buf_printf(w->out, "%" PRId64, v);
}

void jw_double(struct json_writer *w, double v)
{
    lead(w);
    json_write_double(w->out, v);
}

void jw_bool(struct json_writer *w, bool v)
{
    lead(w);
    buf_add_text(w->out, v ? "true" : "false");
}

void jw_null(struct json_writer *w)
{
    lead(w);
    buf_add_text(w->out, "null");
}

void jw_value(struct json_writer *w, const struct json *v)
{
    lead(w);
    json_write(w->out, v, (struct json_style){.is_compact = true});
}

void jw_raw(struct json_writer *w, struct slice json_text)
{
    lead(w);
    buf_add_slice(w->out, json_text);
}
