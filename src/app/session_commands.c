/* SPDX-License-Identifier: MIT
 * session_commands.c — store ls, show, fork, pin, … export, import: sessions from the command line.
 * Who has the store's lock does it: a running server is asked through its control socket; without
 * one this process opens the store itself.  Looking needs no lock. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "app/app_int.h"
#include "os/fs.h"
#include "session/control.h"
#include "session/kvx.h"

#define LIST_PAGE 1000

static const char *dir_of(const struct config *c)
{
    const char *dir = store_dir_of(c);
    if (!dir)
        complain("%s: which store? give --store DIR", c->command->name);
    return dir;
}

/* The store and its sessions, for one command. */
struct opened {
    struct store *store;
    struct sessions *sessions;
    uint32_t tenant;
};

static void close_store(struct opened *o)
{
    sessions_close(o->sessions);
    store_close(o->store);
}

static enum status open_store(const struct config *c, bool is_read_only, struct opened *o,
                              struct err *e)
{
    const char *dir = store_dir_of(c);
    uint8_t key[STORE_FILE_KEY_BYTES];
    bool has_key;
    *o = (struct opened){0};
    if (access(dir, F_OK) != 0)
        return err_set(e, E_NOT_FOUND, "%s: no store there; give --store DIR, or serve first", dir);
    enum status st = store_key_of(c, key, &has_key, e);
    if (st != OK)
        return st;
    const struct store_options options = {.is_read_only = is_read_only,
                                          .file_key = has_key ? key : NULL};
    st = store_open(os_fs_real(), dir, &options, &o->store, e);
    const struct sessions_options so = {.store = o->store, .is_read_only = is_read_only};
    if (st == OK)
        st = sessions_open(&so, &o->sessions, e);
    if (st == OK && c->values[OPTION_TENANT].text)
        st = sessions_find_tenant(o->sessions, slice_of(c->values[OPTION_TENANT].text), &o->tenant,
                                  e);
    if (st != OK)
        close_store(o);
    return st;
}

/* ---- requests ---- */
static const char *op_of(const struct config *c)
{
    const char *op = strchr(c->command->name, ' ') + 1;
    return strcmp(op, "rm") == 0 ? "delete" : strcmp(op, "ls") == 0 ? "list" : op;
}

static void put_text(struct json_writer *w, const char *key, const char *text)
{
    if (!text)
        return;
    jw_key(w, key);
    jw_text(w, text);
}

static void put_flag(struct json_writer *w, const char *key, bool value)
{
    jw_key(w, key);
    jw_bool(w, value);
}

static void put_place(struct json_writer *w, const struct config *c)
{
    int64_t token = c->values[OPTION_AT].number, message = c->values[OPTION_AT_MESSAGE].number;
    if (token == 0 && message == 0)
        return;
    jw_key(w, "at");
    jw_begin_object(w);
    jw_key(w, message ? "message" : "token");
    jw_int(w, message ? message : token);
    jw_end_object(w);
}

/* Words behind the name, with blanks between. */
static void put_words(struct json_writer *w, const char *key, const struct config *c)
{
    struct buf words;
    buf_init(&words, 1u << 16);
    for (uint32_t i = 1; i < c->n_arguments; i++) {
        buf_add_text(&words, i > 1 ? " " : "");
        buf_add_text(&words, c->arguments[i]);
    }
    jw_key(w, key);
    jw_string(w, buf_slice(&words));
    buf_release(&words);
}

static void write_request(const struct config *c, const char *after, struct buf *out)
{
    struct json_writer w;
    const struct option_value *v = c->values;
    const char *op = op_of(c);
    jw_init(&w, out);
    jw_begin_object(&w);
    put_text(&w, "op", op);
    put_text(&w, "tenant", v[OPTION_TENANT].text);
    put_text(&w, "as", v[OPTION_AS].text);
    if (strcmp(op, "list") == 0) {
        put_text(&w, "tag", v[OPTION_LIST_TAG].text);
        put_text(&w, "after", after);
        jw_key(&w, "limit");
        jw_int(&w, LIST_PAGE);
    } else if (c->n_arguments > 0) {
        put_text(&w, "name", c->arguments[0]);
    }
    if (strcmp(op, "fork") == 0 || strcmp(op, "public") == 0)
        put_place(&w, c);
    if (strcmp(op, "pin") == 0)
        put_words(&w, "reason", c);
    if (strcmp(op, "tag") == 0 || (strcmp(op, "create") == 0 && c->n_arguments > 1))
        put_words(&w, "tag", c);
    if (strcmp(op, "expire") == 0) {
        jw_key(&w, "days");
        jw_int(&w, v[OPTION_DAYS].number);
    }
    if (strcmp(op, "rename") == 0)
        put_text(&w, "to", c->n_arguments > 1 ? c->arguments[1] : NULL);
    if (strcmp(op, "show") == 0)
        put_flag(&w, "history", v[OPTION_HISTORY].number != 0);
    if (strcmp(op, "import") == 0) {
        put_flag(&w, "trust", v[OPTION_TRUST].number != 0);
        put_flag(&w, "tokens_only", v[OPTION_TOKENS_ONLY].number != 0);
    }
    jw_end_object(&w);
}

static enum status run_here(const struct config *c, struct slice request, bool is_looking,
                            struct buf *answer, struct err *e)
{
    struct opened o;
    struct arena a;
    struct json *v;
    enum status st = open_store(c, is_looking, &o, e);
    if (st != OK)
        return st;
    arena_init(&a, 16u << 20);
    st = json_parse(request, &a, &v, e);
    if (st == OK && strcmp(op_of(c), "gc") == 0) {
        st = store_collect(o.store, e);
        buf_add_text(answer, "{}");
    } else if (st == OK) {
        st = sessions_command(o.sessions, o.tenant, v, answer, e);
    }
    arena_release(&a);
    close_store(&o);
    return st;
}

/* The server that has the store, else this process. */
static enum status run(const struct config *c, const char *after, bool is_looking,
                       struct buf *answer, struct err *e)
{
    struct buf request;
    bool is_nobody;
    buf_init(&request, CONTROL_LINE_MAX);
    write_request(c, after, &request);
    enum status st = request.failed ? err_set(e, E_LIMIT, "%s: too long", c->command->name) : OK;
    if (st == OK) {
        struct err why = {0};
        st = control_call(store_dir_of(c), buf_slice(&request), -1, answer, NULL, &is_nobody, &why);
        if (st != OK && is_nobody)
            st = run_here(c, buf_slice(&request), is_looking, answer, e);
        else if (st != OK)
            *e = why;
    }
    buf_release(&request);
    return st;
}

/* ---- ls ---- */
static struct slice text_member(const struct json *object, const char *key, const char *absent)
{
    const struct json *v = json_get(object, key);
    return v && v->kind == JSON_STRING ? v->text : slice_of(absent);
}

static int64_t int_member(const struct json *object, const char *key)
{
    const struct json *v = json_get(object, key);
    return v && v->kind == JSON_INT ? v->integer : 0;
}

static void print_session(const struct json *s)
{
    const struct json *pinned = json_get(s, "pinned");
    time_t at = (time_t)int_member(s, "updated");
    char when[32] = "?";
    struct tm tm;
    if (localtime_r(&at, &tm))
        strftime(when, sizeof when, "%Y-%m-%d %H:%M", &tm);
    struct slice name = text_member(s, "name", "-"), model = text_member(s, "model", "");
    struct slice tag = text_member(s, "tag", ""), parent = text_member(s, "parent", "");
    if (!model.len)
        model = slice_of("no turn yet");
    printf("%s %8" PRId64 " tokens %4" PRId64 " messages  " SLICE_FMT "  (" SLICE_FMT ")", when,
           int_member(s, "tokens"), int_member(s, "messages"), SLICE_ARG(name), SLICE_ARG(model));
    if (tag.len)
        printf("  #" SLICE_FMT, SLICE_ARG(tag));
    if (parent.len)
        printf("  from " SLICE_FMT " at %" PRId64, SLICE_ARG(parent), int_member(s, "forked_at"));
    if (pinned && pinned->kind == JSON_BOOL && pinned->boolean)
        printf("  pinned: " SLICE_FMT, SLICE_ARG(text_member(s, "pin_reason", "")));
    printf("\n");
}

/* One page of the list; next [64]: where the next one begins, "" at the end. */
static enum status list_page(const struct config *c, char next[64], struct json_writer *json,
                             struct err *e)
{
    struct buf answer;
    struct arena a;
    struct json *v;
    buf_init(&answer, CONTROL_ANSWER_MAX);
    arena_init(&a, 1u << 30);
    enum status st = run(c, next[0] ? next : NULL, true, &answer, e);
    if (st == OK)
        st = json_parse(buf_slice(&answer), &a, &v, e);
    next[0] = '\0';
    if (st == OK) {
        const struct json *data = json_get(v, "data");
        for (size_t i = 0; data && data->kind == JSON_ARRAY && i < data->count; i++) {
            if (json)
                jw_value(json, &data->items[i]);
            else
                print_session(&data->items[i]);
        }
        struct slice at = text_member(v, "next", "");
        snprintf(next, 64, SLICE_FMT, SLICE_ARG(at));
    }
    arena_release(&a);
    buf_release(&answer);
    return st;
}

int command_store_ls(const struct config *c)
{
    struct err e = {0};
    char next[64] = "";
    struct buf out;
    struct json_writer w;
    if (!dir_of(c))
        return EXIT_USAGE;
    if (c->values[OPTION_RECORDS].number)
        return command_store_records(c);
    bool is_json = c->values[OPTION_JSON].number != 0;
    buf_init(&out, 1u << 30);
    jw_init(&w, &out);
    if (is_json)
        jw_begin_array(&w);
    enum status st;
    do
        st = list_page(c, next, is_json ? &w : NULL, &e);
    while (st == OK && next[0]);
    if (is_json) {
        jw_end_array(&w);
        if (st == OK && !jsonl_put(&out))
            st = err_set(&e, E_IO, "stdout: cannot write; is its reader gone, or the disk full?");
    }
    buf_release(&out);
    return st == OK ? EXIT_DONE : complain_err(&e);
}

/* ---- show, and what changes something ---- */
static bool has_name(const struct config *c)
{
    if (c->n_arguments == 0)
        complain("%s: which session? (kvasir store ls lists them)", c->command->name);
    return c->n_arguments > 0;
}

static int run_and_print(const struct config *c, bool is_looking, bool is_printed)
{
    struct err e = {0};
    struct buf answer;
    buf_init(&answer, CONTROL_ANSWER_MAX);
    enum status st = run(c, NULL, is_looking, &answer, &e);
    if (st == OK && is_printed && !jsonl_put(&answer))
        st = err_set(&e, E_IO, "stdout: cannot write; is its reader gone, or the disk full?");
    buf_release(&answer);
    return st == OK ? EXIT_DONE : complain_err(&e);
}

int command_store_show(const struct config *c)
{
    return dir_of(c) && has_name(c) ? run_and_print(c, true, true) : EXIT_USAGE;
}

int command_store_change(const struct config *c)
{
    bool is_gc = strcmp(op_of(c), "gc") == 0, is_rename = strcmp(op_of(c), "rename") == 0;
    bool is_expire = strcmp(op_of(c), "expire") == 0;
    if (!dir_of(c) || (!is_gc && !is_expire && !has_name(c)))
        return EXIT_USAGE;
    if (is_expire && !c->values[OPTION_DAYS].is_given) {
        complain("store expire: how old? give --days DAYS");
        return EXIT_USAGE;
    }
    if (is_rename && c->n_arguments < 2) {
        complain("store rename: to what?");
        return EXIT_USAGE;
    }
    return run_and_print(c, false, !is_gc);
}

int command_store_rebuild(const struct config *c)
{
    const char *dir = dir_of(c);
    struct err e = {0};
    if (!dir)
        return EXIT_USAGE;
    if (access(dir, F_OK) != 0) {
        complain("%s: no store there; give --store DIR", dir);
        return EXIT_FAILED;
    }
    return store_rebuild(os_fs_real(), dir, &e) == OK ? EXIT_DONE : complain_err(&e);
}

/* ---- export, import ---- */
static enum status write_stdout(void *arg, const void *bytes, size_t n, struct err *e)
{
    (void)arg;
    return fwrite(bytes, 1, n, stdout) == n
               ? OK
               : err_set(e, E_IO, "stdout: cannot write; is its reader gone, or the disk full?");
}

int command_store_export(const struct config *c)
{
    struct err e = {0};
    struct opened o;
    struct kvx_count count;
    if (!dir_of(c) || !has_name(c))
        return EXIT_USAGE;
    if (isatty(STDOUT_FILENO)) {
        complain("store export: stdout is a terminal; write to a file or a pipe: > NAME.kvx");
        return EXIT_USAGE;
    }
    if (open_store(c, true, &o, &e) != OK)
        return complain_err(&e);
    struct kvx_export x = {.tenant = o.tenant,
                           .which = slice_of(c->arguments[0]),
                           .with_forks = c->values[OPTION_TREE].number != 0,
                           .tokens_only = c->values[OPTION_TOKENS_ONLY].number != 0,
                           .write = write_stdout};
    enum status st = kvx_export(o.sessions, &x, &count, &e);
    if (st == OK && fflush(stdout) != 0)
        st = err_set(&e, E_IO, "stdout: cannot write; is its reader gone, or the disk full?");
    close_store(&o);
    if (st != OK)
        return complain_err(&e);
    fprintf(stderr, "kvasir: %u session%s, %u pages, %" PRIu64 " bytes of KV\n", count.n_sessions,
            count.n_sessions == 1 ? "" : "s", count.n_pages, count.page_bytes);
    return EXIT_DONE;
}

static enum status read_stdin(void *arg, void *bytes, size_t max, size_t *n, struct err *e)
{
    ssize_t got;
    (void)arg;
    do
        got = read(STDIN_FILENO, bytes, max);
    while (got < 0 && errno == EINTR);
    *n = got > 0 ? (size_t)got : 0;
    return got < 0 ? err_sys(e, errno, "stdin") : OK;
}

static enum status import_here(const struct config *c, struct buf *answer, struct err *e)
{
    struct opened o;
    const char *as = c->values[OPTION_AS].text;
    enum status st = open_store(c, false, &o, e);
    if (st != OK)
        return st;
    struct kvx_import m = {.tenant = o.tenant,
                           .as = slice_of(as),
                           .trust = c->values[OPTION_TRUST].number != 0,
                           .tokens_only = c->values[OPTION_TOKENS_ONLY].number != 0,
                           .read = read_stdin};
    st = kvx_import(o.sessions, &m, answer, e);
    close_store(&o);
    return st;
}

int command_store_import(const struct config *c)
{
    struct err e = {0}, why = {0};
    struct buf request, answer;
    bool is_nobody;
    if (!dir_of(c))
        return EXIT_USAGE;
    if (isatty(STDIN_FILENO)) {
        complain("store import: the file comes from stdin: < NAME.kvx");
        return EXIT_USAGE;
    }
    buf_init(&request, CONTROL_LINE_MAX);
    buf_init(&answer, CONTROL_ANSWER_MAX);
    write_request(c, NULL, &request);
    enum status st = control_call(store_dir_of(c), buf_slice(&request), STDIN_FILENO, &answer, NULL,
                                  &is_nobody, &e);
    if (st != OK && is_nobody) { /* nothing of stdin was read yet */
        st = import_here(c, &answer, &why);
        e = why;
    }
    if (st == OK && !jsonl_put(&answer))
        st = err_set(&e, E_IO, "stdout: cannot write; is its reader gone, or the disk full?");
    buf_release(&request);
    buf_release(&answer);
    return st == OK ? EXIT_DONE : complain_err(&e);
}

/* ---- explain ---- */
static bool read_all_stdin(struct buf *out)
{
    for (;;) {
        char *to = buf_reserve(out, 65536);
        ssize_t n = to ? read(STDIN_FILENO, to, 65536) : -1;
        if (n < 0 && to && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0;
        out->len += (size_t)n;
    }
}

/* {"op": "explain", "tenant": …, and the members of body}. */
static enum status explain_request(const struct config *c, const struct json *body, struct buf *out,
                                   struct err *e)
{
    struct json_writer w;
    if (body->kind != JSON_OBJECT)
        return err_set(e, E_INVALID, "stdin: a JSON object is wanted");
    jw_init(&w, out);
    jw_begin_object(&w);
    put_text(&w, "op", "explain");
    put_text(&w, "tenant", c->values[OPTION_TENANT].text);
    for (size_t i = 0; i < body->count; i++) {
        if (slice_is(body->members[i].key, "op") || slice_is(body->members[i].key, "tenant"))
            continue;
        jw_key_slice(&w, body->members[i].key);
        jw_value(&w, &body->members[i].value);
    }
    jw_end_object(&w);
    return out->failed ? err_set(e, E_LIMIT, "stdin: more than %u bytes", CONTROL_LINE_MAX) : OK;
}

static enum status explain_here(const struct config *c, const struct json *body, struct buf *answer,
                                struct err *e)
{
    struct engine *g = NULL;
    uint32_t tenant = 0;
    enum status st = engine_of(c, true, &g, e);
    if (st == OK)
        st = sessions_find_tenant(engine_sessions(g), slice_of(c->values[OPTION_TENANT].text),
                                  &tenant, e);
    if (st == OK)
        st = engine_explain_json(g, tenant, body, answer, e);
    if (g)
        engine_close(g);
    return st;
}

int command_store_explain(const struct config *c)
{
    struct err e = {0}, why = {0};
    struct buf text, request, answer;
    struct arena a;
    struct json *body;
    bool is_nobody = false;
    if (!dir_of(c))
        return EXIT_USAGE;
    arena_init(&a, 256u << 20);
    buf_init(&text, CONTROL_LINE_MAX);
    buf_init(&request, CONTROL_LINE_MAX);
    buf_init(&answer, CONTROL_ANSWER_MAX);
    enum status st = read_all_stdin(&text) ? json_parse(buf_slice(&text), &a, &body, &e)
                                           : err_set(&e, E_IO,
                                                     "stdin: cannot be read, or more than "
                                                     "%u bytes",
                                                     CONTROL_LINE_MAX);
    if (st == OK)
        st = explain_request(c, body, &request, &e);
    if (st == OK) {
        st =
            control_call(store_dir_of(c), buf_slice(&request), -1, &answer, NULL, &is_nobody, &why);
        if (st != OK && is_nobody)
            st = explain_here(c, body, &answer, &e);
        else if (st != OK)
            e = why;
    }
    if (st == OK && !jsonl_put(&answer))
        st = err_set(&e, E_IO, "stdout: cannot write; is its reader gone, or the disk full?");
    buf_release(&answer);
    buf_release(&request);
    buf_release(&text);
    arena_release(&a);
    return st == OK ? EXIT_DONE : complain_err(&e);
}
