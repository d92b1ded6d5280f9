/* SPDX-License-Identifier: MIT
 * talk.c — run and chat: the same engine and store as the server's, without HTTP.
 * A chat with --session is kept as DIR/chats/NAME.jsonl, one message a line, written anew after
 * each answer; its KV lies in the store like any other and is found by its tokens. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/app_int.h"
#include "base/check.h"
#include "base/mem.h"
#include "os/fs.h"

#define PROMPT_BYTES_MAX (64u << 20)
#define SESSION_NAME_MAX ENGINE_SESSION_NAME_MAX

/* ---- what both do ---- */
static void tell_usage(const struct config *c, const struct engine_usage *u)
{
    if (!c->values[OPTION_TIMINGS].number && !isatty(STDERR_FILENO))
        return;
    double decode_s = u->decode_ms * 1e-3;
    fprintf(stderr,
            "kvasir: %u prompt tokens: %u from memory, %u from disk, %u computed in %.2f s; "
            "%u tokens written, %.1f a second\n",
            u->prompt_tokens, u->memory_tokens, u->disk_tokens, u->computed_tokens,
            u->prefill_ms * 1e-3, u->completion_tokens,
            decode_s > 0 ? u->completion_tokens / decode_s : 0.0);
}

/* Asks, writes the answer to stdout as it comes, ends it with a newline. */
static enum status ask_aloud(const struct config *c, struct engine *g, struct engine_request *r,
                             struct ask_result *result, struct err *e)
{
    struct progress progress;
    struct ask *a;
    sampling_of(c, r);
    enum status st = ask_start(g, r, &a, e);
    if (st != OK) {
        engine_request_free(r);
        return st;
    }
    progress_begin(&progress);
    st = ask_finish(a, stdout, &progress, result);
    if (result->text.len > 0 && result->text.ptr[result->text.len - 1] != '\n')
        fputc('\n', stdout);
    fflush(stdout);
    if (st == OK)
        tell_usage(c, &result->usage);
    else
        *e = result->error;
    return st;
}

static void write_message(struct json_writer *w, const char *role, struct slice content)
{
    jw_begin_object(w);
    jw_key(w, "role");
    jw_text(w, role);
    jw_key(w, "content");
    jw_string(w, content);
    jw_end_object(w);
}

/* A chat request with the messages of a JSON array. */
static enum status chat_request(struct engine *g, struct slice messages,
                                struct engine_request **out, struct err *e)
{
    struct engine_request *r = engine_request_new(g);
    struct json *parsed = NULL;
    enum status st = r ? json_parse(messages, &r->arena, &parsed, e)
                       : err_set(e, E_NOMEM, "out of memory for a request");
    if (st != OK) {
        engine_request_free(r);
        return st;
    }
    r->kind = PROMPT_CHAT;
    r->messages = parsed;
    r->add_generation_prompt = true;
    *out = r;
    return OK;
}

/* ---- run ---- */
static enum status read_stdin(struct buf *prompt, struct err *e)
{
    ssize_t n;
    do {
        char *at = buf_reserve(prompt, 65536);
        if (!at)
            return err_set(e, E_LIMIT, "the prompt is larger than %u bytes", PROMPT_BYTES_MAX);
        n = read(STDIN_FILENO, at, 65536);
        if (n > 0)
            prompt->len += (size_t)n;
    } while (n > 0 || (n < 0 && errno == EINTR));
    return n < 0 ? err_sys(e, errno, "stdin") : OK;
}

static enum status read_prompt(const struct config *c, struct buf *prompt, struct err *e)
{
    if (c->n_arguments == 0 || (c->n_arguments == 1 && strcmp(c->arguments[0], "-") == 0))
        return read_stdin(prompt, e);
    for (uint32_t i = 0; i < c->n_arguments; i++) {
        buf_add_text(prompt, i > 0 ? " " : "");
        buf_add_text(prompt, c->arguments[i]);
    }
    return OK;
}

static enum status run_request(const struct config *c, struct engine *g, struct slice prompt,
                               struct engine_request **out, struct err *e)
{
    const char *system = c->values[OPTION_SYSTEM].text;
    if (c->values[OPTION_RAW].number) {
        struct engine_request *r = engine_request_new(g);
        char *copy = r ? arena_text(&r->arena, prompt.ptr, prompt.len) : NULL;
        if (!copy) {
            engine_request_free(r);
            return err_set(e, E_NOMEM, "out of memory for the prompt");
        }
        r->kind = PROMPT_TEXT;
        r->text = (struct slice){copy, prompt.len};
        *out = r;
        return OK;
    }
    struct buf messages;
    struct json_writer w;
    buf_init(&messages, 8 * (size_t)PROMPT_BYTES_MAX);
    jw_init(&w, &messages);
    jw_begin_array(&w);
    if (system)
        write_message(&w, "system", slice_of(system));
    write_message(&w, "user", prompt);
    jw_end_array(&w);
    enum status st = messages.failed ? err_set(e, E_NOMEM, "out of memory for the prompt")
                                     : chat_request(g, buf_slice(&messages), out, e);
    buf_release(&messages);
    return st;
}

int command_run(const struct config *c)
{
    struct engine *g = NULL;
    struct engine_request *r = NULL;
    struct ask_result result = {0};
    struct buf prompt;
    struct err e = {0};
    buf_init(&prompt, PROMPT_BYTES_MAX);
    if (c->n_arguments == 0 && isatty(STDIN_FILENO)) {
        complain("run: no prompt; kvasir run \"who are you?\", or kvasir chat for a conversation");
        buf_release(&prompt);
        return EXIT_USAGE;
    }
    enum status st = read_prompt(c, &prompt, &e);
    if (st == OK)
        st = engine_of(c, !isatty(STDERR_FILENO), &g, &e);
    if (st == OK)
        st = run_request(c, g, buf_slice(&prompt), &r, &e);
    if (st == OK) {
        ask_catch_interrupts();
        st = ask_aloud(c, g, r, &result, &e);
    }
    bool is_cancelled = st == OK && result.finish == FINISH_CANCELLED;
    ask_result_release(&result);
    if (g)
        engine_close(g);
    buf_release(&prompt);
    if (st != OK)
        return complain_err(&e);
    return is_cancelled ? EXIT_FAILED : EXIT_DONE;
}

/* ---- chat ---- */
struct chat {
    const struct config *config;
    struct engine *engine;
    struct buf messages;          /* "{…},{…}": what was said so far */
    char path[FS_PATH_BYTES_MAX]; /* of the session's file; "": not kept */
};

static void add_message(struct chat *chat, const char *role, struct slice content)
{
    struct json_writer w;
    buf_add_text(&chat->messages, chat->messages.len > 0 ? ",\n" : "");
    jw_init(&w, &chat->messages);
    write_message(&w, role, content);
}

static void begin_again(struct chat *chat)
{
    const char *system = chat->config->values[OPTION_SYSTEM].text;
    buf_clear(&chat->messages);
    if (system)
        add_message(chat, "system", slice_of(system));
}

static bool is_session_name(const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)name[i]) && !(i > 0 && strchr("._-", name[i])))
            return false;
    return n > 0 && n <= SESSION_NAME_MAX;
}

/* The messages of an earlier time; none yet is fine. */
static enum status load_session(struct chat *chat, struct err *e)
{
    const char *dir = store_dir_of(chat->config);
    const char *name = chat->config->values[OPTION_SESSION].text;
    if (!name)
        return OK;
    if (!dir)
        return err_set(e, E_INVALID,
                       "--session needs a store to keep it in; leave out --store none");
    char folder[FS_PATH_BYTES_MAX - SESSION_NAME_MAX - 16];
    int n = snprintf(folder, sizeof folder, "%s/chats", dir);
    if (n < 0 || (size_t)n >= sizeof folder)
        return err_set(e, E_LIMIT, "--store: the path is too long");
    enum status st = fs_make_dirs(os_fs_real(), folder, e);
    if (st != OK)
        return st;
    snprintf(chat->path, sizeof chat->path, "%s/%s.jsonl", folder, name);
    char *text;
    size_t len;
    struct err why = {0};
    st = fs_read_file(os_fs_real(), chat->path, PROMPT_BYTES_MAX, &text, &len, &why);
    if (st == E_NOT_FOUND)
        return OK;
    if (st != OK) {
        *e = why;
        return st;
    }
    while (len > 0 && text[len - 1] == '\n')
        len--;
    buf_clear(&chat->messages);
    for (size_t i = 0; i < len; i++) {
        buf_add_text(&chat->messages, text[i] == '\n' ? "," : "");
        buf_add_char(&chat->messages, text[i]);
    }
    mem_free(text);
    return OK;
}

static void keep_session(const struct chat *chat)
{
    struct err e = {0};
    struct buf text;
    if (!chat->path[0])
        return;
    /* Strings hold no bare newline, so ",\n" stands between messages only. */
    buf_init(&text, 2 * (size_t)PROMPT_BYTES_MAX);
    for (size_t i = 0; i < chat->messages.len; i++)
        if (!(chat->messages.ptr[i] == ',' && chat->messages.ptr[i + 1] == '\n'))
            buf_add_char(&text, chat->messages.ptr[i]);
    buf_add_char(&text, '\n');
    enum status st = text.failed ? err_set(&e, E_NOMEM, "out of memory")
                                 : fs_write_file(os_fs_real(), chat->path, text.ptr, text.len, &e);
    if (st != OK)
        complain("the session was not kept: %s", e.msg);
    buf_release(&text);
}

/* One turn.  What failed or was stopped before its first word leaves no trace. */
static void say(struct chat *chat, struct slice words)
{
    struct engine_request *r = NULL;
    struct ask_result result = {0};
    struct buf list;
    struct err e = {0};
    size_t before = chat->messages.len;
    add_message(chat, "user", words);
    buf_init(&list, 2 * (size_t)PROMPT_BYTES_MAX);
    buf_add_char(&list, '[');
    buf_add_slice(&list, buf_slice(&chat->messages));
    buf_add_char(&list, ']');
    enum status st = list.failed || chat->messages.failed
                         ? err_set(&e, E_NOMEM, "out of memory for the conversation")
                         : chat_request(chat->engine, buf_slice(&list), &r, &e);
    buf_release(&list);
    if (st == OK) {
        const char *name = chat->config->values[OPTION_SESSION].text;
        r->session = name ? slice_of(name) : (struct slice){0};
        st = ask_aloud(chat->config, chat->engine, r, &result, &e);
    }
    if (st == OK && result.text.len > 0) {
        add_message(chat, "assistant", buf_slice(&result.text));
        keep_session(chat);
    } else {
        chat->messages.len = before;
        chat->messages.failed = false;
    }
    if (st != OK)
        complain_err(&e);
    ask_result_release(&result);
}

/* False: leave. */
static bool take_line(struct chat *chat, char **line, size_t *cap)
{
    if (isatty(STDIN_FILENO)) {
        fputs("> ", stdout);
        fflush(stdout);
    }
    ssize_t n = getline(line, cap, stdin);
    if (n < 0) {
        fputs(isatty(STDIN_FILENO) ? "\n" : "", stdout);
        return false;
    }
    while (n > 0 && isspace((unsigned char)(*line)[n - 1]))
        n--;
    struct slice words = {*line, (size_t)n};
    if (slice_is(words, "/quit"))
        return false;
    if (slice_is(words, "/new"))
        begin_again(chat);
    else if (n > 0)
        say(chat, words);
    (void)ask_interrupted(); /* ^C stopped that answer, not the conversation */
    return true;
}

int command_chat(const struct config *c)
{
    struct chat chat = {.config = c};
    struct err e = {0};
    char *line = NULL;
    size_t cap = 0;
    const char *name = c->values[OPTION_SESSION].text;
    if (name && !is_session_name(name)) {
        complain("chat: --session wants letters, digits, dots, dashes and underscores, at most %u",
                 SESSION_NAME_MAX);
        return EXIT_USAGE;
    }
    buf_init(&chat.messages, PROMPT_BYTES_MAX);
    begin_again(&chat);
    enum status st = load_session(&chat, &e);
    if (st == OK)
        st = engine_of(c, false, &chat.engine, &e);
    if (st == OK) {
        ask_catch_interrupts();
        while (take_line(&chat, &line, &cap))
            continue;
        engine_close(chat.engine);
    }
    free(line);
    buf_release(&chat.messages);
    return st == OK ? EXIT_DONE : complain_err(&e);
}
