/* SPDX-License-Identifier: MIT
 * jsonl.c — JSON lines: one answer a line, in order; a bad line is answered, not fatal. */
#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "app/app_int.h"
#include "base/check.h"

#define LINE_BYTES_MAX  JSON_BYTES_MAX
#define READ_BYTES      (64u << 10)
#define OUT_BYTES_MAX   (256u << 20)
#define ARENA_BYTES_MAX (1u << 30)

void jsonl_reader_init(struct jsonl_reader *r)
{
    *r = (struct jsonl_reader){0};
    buf_init(&r->bytes, LINE_BYTES_MAX + READ_BYTES + 1);
}

void jsonl_reader_release(struct jsonl_reader *r)
{
    buf_release(&r->bytes);
}

/* More bytes behind what is there.  False at the end, or when stdin fails. */
static bool fill(struct jsonl_reader *r)
{
    char *at = r->is_ended ? NULL : buf_reserve(&r->bytes, READ_BYTES);
    if (!at)
        return false;
    ssize_t n;
    do {
        n = read(STDIN_FILENO, at, READ_BYTES);
    } while (n < 0 && errno == EINTR);
    if (n <= 0) {
        r->is_ended = true;
        return false;
    }
    r->bytes.len += (size_t)n;
    return true;
}

/* Drops the rest of a line that is too long. */
static void skip_line(struct jsonl_reader *r)
{
    const char *end;
    do {
        end = r->bytes.len ? memchr(r->bytes.ptr, '\n', r->bytes.len) : NULL;
        size_t drop = end ? (size_t)(end - r->bytes.ptr) : r->bytes.len;
        buf_consume(&r->bytes, drop);
    } while (!end && fill(r));
}

bool jsonl_next(struct jsonl_reader *r, struct slice *line, bool *is_too_long)
{
    *is_too_long = false;
    buf_consume(&r->bytes, r->consumed);
    r->consumed = 0;
    size_t searched = 0;
    const char *end = NULL;
    while (!end && r->bytes.len <= LINE_BYTES_MAX) {
        if (r->bytes.len > searched)
            end = memchr(r->bytes.ptr + searched, '\n', r->bytes.len - searched);
        searched = r->bytes.len;
        if (!end && !fill(r))
            break;
    }
    if (!end && r->bytes.len > LINE_BYTES_MAX) {
        *is_too_long = true;
        *line = (struct slice){"", 0};
        skip_line(r);
        r->consumed = r->bytes.len > 0 ? 1 : 0; /* the line's end */
        return true;
    }
    if (r->bytes.len == 0)
        return false;
    *line = (struct slice){r->bytes.ptr, end ? (size_t)(end - r->bytes.ptr) : r->bytes.len};
    r->consumed = line->len + (end ? 1 : 0);
    return true;
}

void jsonl_error(struct buf *out, const struct err *e)
{
    struct json_writer w;
    jw_init(&w, out);
    jw_begin_object(&w);
    jw_key(&w, "error");
    jw_text(&w, e->msg[0] ? e->msg : status_text(e->code));
    jw_end_object(&w);
}

/* Unicode has three more line ends: NEL, LINE SEPARATOR, PARAGRAPH SEPARATOR.  Readers that split
 * at them (Python's splitlines) must not find them inside an answer; they can only stand in
 * strings. */
static size_t other_line_end(const char *p, size_t left, const char **escape)
{
    static const struct {
        const char *bytes, *escape;
    } ends[] = {{"\xC2\x85", "\\u0085"}, {"\xE2\x80\xA8", "\\u2028"}, {"\xE2\x80\xA9", "\\u2029"}};
    for (size_t i = 0; i < ARRAY_COUNT(ends); i++) {
        size_t n = strlen(ends[i].bytes);
        if (left >= n && memcmp(p, ends[i].bytes, n) == 0) {
            *escape = ends[i].escape;
            return n;
        }
    }
    return 0;
}

bool jsonl_put(const struct buf *line)
{
    size_t done = 0;
    for (size_t at = 0; at < line->len; at++) {
        unsigned char c = (unsigned char)line->ptr[at];
        const char *escape;
        size_t n =
            c == 0xC2 || c == 0xE2 ? other_line_end(line->ptr + at, line->len - at, &escape) : 0;
        if (n == 0)
            continue;
        fwrite(line->ptr + done, 1, at - done, stdout);
        fputs(escape, stdout);
        done = at + n;
        at = done - 1;
    }
    fwrite(line->ptr + done, 1, line->len - done, stdout);
    fputc('\n', stdout);
    /* Flushed line by line: scripts wait for an answer before they ask again. */
    return fflush(stdout) == 0 && !ferror(stdout);
}

static void answer_line(jsonl_fn *answer, void *arg, struct slice line, bool is_too_long,
                        struct buf *out)
{
    struct arena arena;
    arena_init(&arena, ARENA_BYTES_MAX);
    struct err e = {.pos = ERR_NO_POS};
    struct json *value = NULL;
    enum status st = is_too_long
                         ? err_set(&e, E_LIMIT, "the line is longer than %u bytes", LINE_BYTES_MAX)
                         : json_parse(line, &arena, &value, &e);
    if (st == OK && value->kind != JSON_OBJECT)
        st = err_set(&e, E_INVALID, "want a JSON object");
    struct json_writer w;
    jw_init(&w, out);
    if (st == OK)
        st = answer(arg, value, &w, &e);
    if (st == OK && out->failed)
        st = err_set(&e, E_LIMIT, "the answer is larger than %u bytes", OUT_BYTES_MAX);
    if (st != OK) {
        buf_clear(out);
        jsonl_error(out, &e);
    }
    arena_release(&arena);
}

static bool is_blank(struct slice line)
{
    for (size_t i = 0; i < line.len; i++)
        if (!strchr(" \t\r", line.ptr[i]) || line.ptr[i] == '\0')
            return false;
    return true;
}

int jsonl_run(jsonl_fn *answer, void *arg)
{
    struct jsonl_reader reader;
    struct buf out;
    struct slice line;
    bool is_too_long, is_put = true;
    jsonl_reader_init(&reader);
    buf_init(&out, OUT_BYTES_MAX);
    while (is_put && jsonl_next(&reader, &line, &is_too_long)) {
        if (is_blank(line) && !is_too_long)
            continue;
        buf_clear(&out);
        answer_line(answer, arg, line, is_too_long, &out);
        is_put = jsonl_put(&out);
    }
    buf_release(&out);
    jsonl_reader_release(&reader);
    if (!is_put)
        complain("stdout: cannot write; is its reader gone, or the disk full?");
    return is_put ? EXIT_DONE : EXIT_FAILED;
}

/* ---- members ---- */
enum status line_bool(const struct json *line, const char *key, bool absent, bool *out,
                      struct err *e)
{
    const struct json *v = json_get(line, key);
    if (v && v->kind != JSON_BOOL && v->kind != JSON_NULL)
        return err_set(e, E_INVALID, "\"%s\" must be true or false", key);
    *out = v && v->kind == JSON_BOOL ? v->boolean : absent;
    return OK;
}

enum status line_count(const struct json *line, const char *key, uint64_t absent, uint64_t most,
                       uint64_t *out, struct err *e)
{
    const struct json *v = json_get(line, key);
    *out = absent;
    if (!v || v->kind == JSON_NULL)
        return OK;
    if (v->kind != JSON_INT || v->integer < 0 || (uint64_t)v->integer > most)
        return err_set(e, E_INVALID, "\"%s\" must be a whole number from 0 to %llu", key,
                       (unsigned long long)most);
    *out = (uint64_t)v->integer;
    return OK;
}

enum status line_real(const struct json *line, const char *key, float absent, float *out,
                      struct err *e)
{
    const struct json *v = json_get(line, key);
    *out = absent;
    if (!v || v->kind == JSON_NULL)
        return OK;
    if ((v->kind != JSON_INT && v->kind != JSON_REAL) || !isfinite((float)v->real))
        return err_set(e, E_INVALID, "\"%s\" must be a number", key);
    *out = (float)v->real;
    return OK;
}

enum status line_tokens(const struct json *line, uint32_t n_vocab, struct token_list *out,
                        struct err *e)
{
    const struct json *v = json_get(line, "tokens");
    if (!v || v->kind != JSON_ARRAY)
        return err_set(e, E_INVALID, "\"tokens\" must be an array of token ids");
    for (size_t i = 0; i < v->count; i++) {
        const struct json *id = &v->items[i];
        if (id->kind != JSON_INT || id->integer < 0 || id->integer >= n_vocab)
            return err_set(e, E_INVALID, "tokens[%zu] is no token id: the vocabulary has %u", i,
                           n_vocab);
        if (token_list_add(out, (uint32_t)id->integer) != OK)
            return err_set(e, E_NOMEM, "out of memory for %zu tokens", v->count);
    }
    return OK;
}
