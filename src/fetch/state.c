/* SPDX-License-Identifier: MIT
 * state.c — PATH.part.state: a line of JSON, {"bytes", "tag", "range", "done": one character a
 * range, '1' on the disk}. */
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/mem.h"
#include "fetch/state.h"
#include "text/json.h"

#define STATE_BYTES_MAX (FETCH_RANGES_MAX + 4096u)

enum status fetch_state_new(struct fetch_state *s, uint64_t bytes, const char *tag, struct err *e)
{
    *s = (struct fetch_state){.bytes = bytes};
    if (bytes == 0 || bytes > FETCH_BYTES_MAX)
        return err_set(e, E_LIMIT, "a file of %llu bytes", (unsigned long long)bytes);
    snprintf(s->tag, sizeof s->tag, "%s", tag);
    s->n_ranges = (uint32_t)((bytes + FETCH_RANGE_BYTES - 1) / FETCH_RANGE_BYTES);
    s->done = mem_try_new(s->n_ranges + 1, 1);
    if (!s->done)
        return err_set(e, E_NOMEM, "ranges of a file");
    memset(s->done, '0', s->n_ranges);
    return OK;
}

void fetch_state_release(struct fetch_state *s)
{
    mem_free(s->done);
    *s = (struct fetch_state){0};
}

static void take(struct fetch_state *s, const struct json *v)
{
    const struct json *bytes = json_get(v, "bytes"), *tag = json_get(v, "tag"),
                      *range = json_get(v, "range"), *done = json_get(v, "done");
    if (!bytes || bytes->kind != JSON_INT || (uint64_t)bytes->integer != s->bytes || !tag ||
        tag->kind != JSON_STRING || strcmp(tag->text.ptr, s->tag) != 0 || !range ||
        range->kind != JSON_INT || range->integer != FETCH_RANGE_BYTES || !done ||
        done->kind != JSON_STRING || done->text.len != s->n_ranges)
        return;
    for (uint32_t i = 0; i < s->n_ranges; i++) {
        s->done[i] = done->text.ptr[i] == '1' ? '1' : '0';
        s->n_done += s->done[i] == '1';
    }
}

void fetch_state_read(struct fetch_state *s, const struct os_fs *fs, const char *path)
{
    char *text;
    size_t len;
    struct arena a;
    struct json *v;
    if (fs_read_file(fs, path, STATE_BYTES_MAX, &text, &len, NULL) != OK)
        return;
    arena_init(&a, 4 * (size_t)STATE_BYTES_MAX);
    if (json_parse((struct slice){text, len}, &a, &v, NULL) == OK)
        take(s, v);
    arena_release(&a);
    mem_free(text);
}

enum status fetch_state_write(const struct fetch_state *s, const struct os_fs *fs, const char *path,
                              struct err *e)
{
    struct buf b;
    struct json_writer w;
    buf_init(&b, STATE_BYTES_MAX);
    jw_init(&w, &b);
    jw_begin_object(&w);
    jw_key(&w, "bytes");
    jw_int(&w, (int64_t)s->bytes);
    jw_key(&w, "tag");
    jw_text(&w, s->tag);
    jw_key(&w, "range");
    jw_int(&w, FETCH_RANGE_BYTES);
    jw_key(&w, "done");
    jw_text(&w, s->done);
    jw_end_object(&w);
    enum status st =
        b.failed ? err_set(e, E_NOMEM, "%s", path) : fs_write_file(fs, path, b.ptr, b.len, e);
    buf_release(&b);
    return st;
}
