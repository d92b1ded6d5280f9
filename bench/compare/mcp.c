/* SPDX-License-Identifier: MIT
 * mcp.c — an MCP server over stdio: asked once for its tools and for results, which all systems
 * then see; and a small server of our own, so that a run needs no network. Protocol:
 * modelcontextprotocol.io, JSON-RPC 2.0, one message a line, version 2025-06-18. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/prng.h"
#include "bench/compare/compare_int.h"
#include "os/clock.h"

#define MCP_VERSION      "2025-06-18"
#define LINE_MAX_BYTES   (16u << 20)
#define ANSWER_MS_MAX    60000u
#define OWN_TOOLS        20u
#define OWN_RESULT_BYTES 8000u
#define SCRIPT_BYTES_MAX (64u << 20)

/* ---- asking one ---- */
struct mcp {
    pid_t pid;
    int to, from;
    struct buf in;
    int64_t id;
};

static enum status mcp_start(struct mcp *m, const char *command, struct err *e)
{
    int to[2], from[2];
    if (pipe2(to, O_CLOEXEC) != 0)
        return err_sys(e, errno, "pipe");
    if (pipe2(from, O_CLOEXEC) != 0) {
        close(to[0]);
        close(to[1]);
        return err_sys(e, errno, "pipe");
    }
    fflush(NULL);
    m->pid = fork();
    if (m->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGPIPE, SIG_DFL);
        if (dup2(to[0], STDIN_FILENO) >= 0 && dup2(from[1], STDOUT_FILENO) >= 0)
            execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    close(to[0]);
    close(from[1]);
    m->to = to[1];
    m->from = from[0];
    buf_init(&m->in, LINE_MAX_BYTES);
    return m->pid > 0 ? OK : err_sys(e, errno, "fork");
}

static void mcp_end(struct mcp *m)
{
    if (m->to > 0)
        close(m->to); /* a server ends when its input does */
    if (m->from > 0)
        close(m->from);
    for (int i = 0; m->pid > 0 && i < 200; i++) {
        if (waitpid(m->pid, NULL, WNOHANG) != 0)
            m->pid = 0;
        else
            clock_sleep_ms(5);
    }
    if (m->pid > 0) {
        kill(m->pid, SIGKILL);
        waitpid(m->pid, NULL, 0);
    }
    buf_release(&m->in);
}

static enum status mcp_send(struct mcp *m, const struct buf *line, struct err *e)
{
    size_t done = 0;
    while (done < line->len) {
        ssize_t n = write(m->to, line->ptr + done, line->len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_sys(e, errno, "the MCP server takes nothing");
        done += (size_t)n;
    }
    return OK;
}

/* The next line, moved out of m->in. */
static enum status mcp_line(struct mcp *m, struct buf *line, struct err *e)
{
    uint64_t start = clock_now_ns();
    for (;;) {
        const char *end = m->in.len ? memchr(m->in.ptr, '\n', m->in.len) : NULL;
        if (end) {
            size_t n = (size_t)(end - m->in.ptr);
            buf_clear(line);
            buf_add(line, m->in.ptr, n);
            buf_consume(&m->in, n + 1);
            return OK;
        }
        struct pollfd p = {.fd = m->from, .events = POLLIN};
        if (clock_ms_since(start) > ANSWER_MS_MAX)
            return err_set(e, E_LIMIT, "the MCP server says nothing for %u s",
                           ANSWER_MS_MAX / 1000);
        if (poll(&p, 1, 100) <= 0)
            continue;
        char *to = buf_reserve(&m->in, 65536);
        ssize_t n = to ? read(m->from, to, 65536) : -1;
        if (n < 0 && errno == EINTR && to)
            continue;
        if (n <= 0)
            return err_set(e, E_IO, "the MCP server ended, or sent an endless line");
        m->in.len += (size_t)n;
        m->in.ptr[m->in.len] = '\0';
    }
}

/* A request and its answer; notifications and requests of the server in between are passed over. */
static enum status mcp_call(struct mcp *m, const char *method, struct slice params, struct arena *a,
                            const struct json **result, struct err *e)
{
    struct buf line;
    buf_init(&line, LINE_MAX_BYTES);
    int64_t id = ++m->id;
    buf_printf(&line,
               "{\"jsonrpc\":\"2.0\",\"id\":%lld,\"method\":\"%s\",\"params\":", (long long)id,
               method);
    buf_add_slice(&line, params);
    buf_add_text(&line, "}\n");
    enum status st = mcp_send(m, &line, e);
    while (st == OK) {
        struct json *v = NULL;
        st = mcp_line(m, &line, e);
        if (st != OK || json_parse(buf_slice(&line), a, &v, e) != OK ||
            json_integer(json_get(v, "id"), -1) != id || json_get(v, "method"))
            continue; /* what is no JSON is a log line that strayed */
        *result = json_get(v, "result");
        if (!*result) {
            char text[120] = "";
            json_text(json_get(json_get(v, "error"), "message"), text, sizeof text);
            st = err_set(e, E_IO, "MCP %s: %s", method, text[0] ? text : "no result");
        }
        break;
    }
    buf_release(&line);
    return st;
}

static enum status mcp_hello(struct mcp *m, struct arena *a, struct tool_script *t, struct err *e)
{
    static const char params[] =
        "{\"protocolVersion\":\"" MCP_VERSION "\",\"capabilities\":{},\"clientInfo\":{\"name\":"
        "\"kvasir-bench\",\"version\":\"" KVASIR_VERSION "\"}}";
    const struct json *v = NULL;
    enum status st = mcp_call(m, "initialize", slice_of(params), a, &v, e);
    if (st != OK)
        return st;
    snprintf(t->server, sizeof t->server, "an MCP server");
    json_text(json_get(json_get(v, "serverInfo"), "name"), t->server, sizeof t->server);
    struct buf line;
    buf_init(&line, 1024);
    buf_add_text(&line, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n");
    st = mcp_send(m, &line, e);
    buf_release(&line);
    return st;
}

/* Arguments that a schema would take: each required property by its type. */
static void write_arguments(struct json_writer *w, const struct json *schema, uint32_t step)
{
    const struct json *properties = json_get(schema, "properties");
    const struct json *required = json_get(schema, "required");
    jw_begin_object(w);
    for (size_t i = 0; required && required->kind == JSON_ARRAY && i < required->count; i++) {
        char name[80] = "", type[20] = "string";
        json_text(&required->items[i], name, sizeof name);
        const struct json *p = json_get(properties, name), *choices = json_get(p, "enum");
        json_text(json_get(p, "type"), type, sizeof type);
        jw_key(w, name);
        if (choices && choices->kind == JSON_ARRAY && choices->count)
            jw_value(w, &choices->items[step % choices->count]);
        else if (strcmp(type, "number") == 0 || strcmp(type, "integer") == 0)
            jw_int(w, step + 1);
        else if (strcmp(type, "boolean") == 0)
            jw_bool(w, true);
        else if (strcmp(type, "array") == 0)
            jw_raw(w, SLICE_LIT("[]"));
        else if (strcmp(type, "object") == 0)
            jw_raw(w, SLICE_LIT("{}"));
        else
            jw_text(w, strcmp(name, "path") == 0 ? "." : "notes");
    }
    jw_end_object(w);
}

static struct slice keep(struct arena *a, const struct buf *b)
{
    const char *p = arena_text(a, b->ptr ? b->ptr : "", b->len);
    return p ? (struct slice){p, b->len} : (struct slice){"", 0};
}

static enum status record_call(struct mcp *m, const struct json *tool, uint32_t step,
                               struct tool_script *t, struct err *e)
{
    struct buf params, call, text;
    struct json_writer w;
    const struct json *v = NULL;
    char name[100] = "";
    buf_init(&params, LINE_MAX_BYTES);
    buf_init(&call, LINE_MAX_BYTES);
    buf_init(&text, LINE_MAX_BYTES);
    json_text(json_get(tool, "name"), name, sizeof name);
    jw_init(&w, &params);
    jw_begin_object(&w);
    jw_key(&w, "name");
    jw_text(&w, name);
    jw_key(&w, "arguments");
    size_t from = params.len;
    write_arguments(&w, json_get(tool, "inputSchema"), step);
    buf_printf(&call, "%s%.*s", name, (int)(params.len - from < 400 ? params.len - from : 400),
               params.ptr + from);
    jw_end_object(&w);
    enum status st = mcp_call(m, "tools/call", buf_slice(&params), &t->arena, &v, e);
    if (st == E_IO && m->pid > 0) { /* refused: that is a result too, and all see the same one */
        buf_add_text(&text, e->msg);
        st = OK;
    }
    const struct json *content = json_get(v, "content");
    for (size_t i = 0; content && content->kind == JSON_ARRAY && i < content->count; i++) {
        const struct json *part = json_get(&content->items[i], "text");
        if (part && part->kind == JSON_STRING)
            buf_add_slice(&text, part->text);
    }
    if (st == OK) {
        t->results[t->n_results].call = keep(&t->arena, &call);
        t->results[t->n_results].text = keep(&t->arena, &text);
        t->n_results++;
    }
    buf_release(&params);
    buf_release(&call);
    buf_release(&text);
    return st;
}

enum status mcp_record(const struct options *o, uint32_t n_calls, struct tool_script *t,
                       struct err *e)
{
    char own[PLACE_PATH_BYTES + 40];
    struct mcp m = {0};
    const struct json *v = NULL;
    snprintf(own, sizeof own, "exec '%s' bench mcp-server", o->program);
    arena_init(&t->arena, SCRIPT_BYTES_MAX);
    enum status st = mcp_start(&m, o->mcp ? o->mcp : own, e);
    if (st == OK)
        st = mcp_hello(&m, &t->arena, t, e);
    if (st == OK)
        st = mcp_call(&m, "tools/list", SLICE_LIT("{}"), &t->arena, &v, e);
    const struct json *tools = json_get(v, "tools");
    if (st == OK && !(tools && tools->kind == JSON_ARRAY && tools->count))
        st = err_set(e, E_NOT_FOUND, "the MCP server has no tools");
    if (st == OK) {
        struct buf text;
        buf_init(&text, LINE_MAX_BYTES);
        json_write(&text, tools, (struct json_style){0});
        t->tools = keep(&t->arena, &text);
        t->n_tools = (uint32_t)tools->count;
        buf_release(&text);
    }
    uint32_t most = sizeof t->results / sizeof t->results[0];
    for (uint32_t i = 0; st == OK && i < n_calls && i < most; i++)
        st = record_call(&m, &tools->items[i % tools->count], i, t, e);
    mcp_end(&m);
    return st;
}

/* ---- being one ---- */
static const char *const verbs[OWN_TOOLS] = {
    "read_document", "search_notes", "list_sections", "compare_versions", "summarize_table",
    "find_author",   "count_words",  "open_ledger",   "fetch_record",     "check_inventory",
    "trace_history", "read_log",     "match_names",   "collect_figures",  "query_register",
    "read_minutes",  "locate_item",  "inspect_file",  "rank_entries",     "export_notes"};

/* Schemas as long as real servers' are: six properties each, with a sentence or three of prose. */
static void write_tool(struct json_writer *w, uint32_t index)
{
    static const char *const names[] = {"document", "section", "query", "limit", "format", "since"};
    struct buf text;
    buf_init(&text, 1u << 16);
    jw_begin_object(w);
    jw_key(w, "name");
    jw_text(w, verbs[index]);
    jw_key(w, "description");
    prompts_write(&text, 420, 500 + index);
    jw_string(w, buf_slice(&text));
    jw_key(w, "inputSchema");
    jw_begin_object(w);
    jw_key(w, "type");
    jw_text(w, "object");
    jw_key(w, "properties");
    jw_begin_object(w);
    for (uint32_t i = 0; i < 6; i++) {
        jw_key(w, names[i]);
        jw_begin_object(w);
        jw_key(w, "type");
        jw_text(w, i == 3 ? "integer" : "string");
        jw_key(w, "description");
        prompts_write(&text, 110, 900 + index * 6 + i);
        jw_string(w, buf_slice(&text));
        jw_end_object(w);
    }
    jw_end_object(w);
    jw_key(w, "required");
    jw_begin_array(w);
    jw_text(w, names[0]);
    jw_text(w, names[3]);
    jw_end_array(w);
    jw_end_object(w);
    jw_end_object(w);
    buf_release(&text);
}

static void answer_call(struct json_writer *w, const struct json *params)
{
    char name[80] = "";
    const struct json *arguments = json_get(params, "arguments");
    int64_t n = json_integer(json_get(arguments, "limit"), 1);
    uint32_t index = 0;
    struct buf text;
    json_text(json_get(params, "name"), name, sizeof name);
    while (index < OWN_TOOLS && strcmp(verbs[index], name) != 0)
        index++;
    buf_init(&text, 1u << 20);
    if (index < OWN_TOOLS) /* four to sixteen kilobytes: 1,000 to 4,000 tokens */
        prompts_write(&text, OWN_RESULT_BYTES / 2 + (size_t)(n < 0 ? 0 : n % 7) * 2000,
                      7000 + index * 64 + (uint64_t)(n < 0 ? 0 : n));
    else
        buf_printf(&text, "there is no tool %s", name);
    jw_begin_object(w);
    jw_key(w, "content");
    jw_begin_array(w);
    jw_begin_object(w);
    jw_key(w, "type");
    jw_text(w, "text");
    jw_key(w, "text");
    jw_string(w, buf_slice(&text));
    jw_end_object(w);
    jw_end_array(w);
    jw_key(w, "isError");
    jw_bool(w, index == OWN_TOOLS);
    jw_end_object(w);
    buf_release(&text);
}

static void answer_method(struct json_writer *w, const char *method, const struct json *params)
{
    jw_key(w, "result");
    if (strcmp(method, "initialize") == 0) {
        jw_raw(w, SLICE_LIT("{\"protocolVersion\":\"" MCP_VERSION
                            "\",\"capabilities\":{\"tools\":{}},\"serverInfo\":{\"name\":"
                            "\"kvasir-notes\",\"version\":\"" KVASIR_VERSION "\"}}"));
    } else if (strcmp(method, "tools/list") == 0) {
        jw_begin_object(w);
        jw_key(w, "tools");
        jw_begin_array(w);
        for (uint32_t i = 0; i < OWN_TOOLS; i++)
            write_tool(w, i);
        jw_end_array(w);
        jw_end_object(w);
    } else if (strcmp(method, "tools/call") == 0) {
        answer_call(w, params);
    } else {
        jw_raw(w, SLICE_LIT("{}")); /* ping */
    }
}

static bool is_known(const char *method)
{
    return strcmp(method, "initialize") == 0 || strcmp(method, "tools/list") == 0 ||
           strcmp(method, "tools/call") == 0 || strcmp(method, "ping") == 0;
}

static void answer_line(struct slice line, struct buf *out)
{
    struct arena a;
    struct json *v = NULL;
    struct err e = {0};
    struct json_writer w;
    char method[80] = "";
    arena_init(&a, LINE_MAX_BYTES);
    bool is_json = json_parse(line, &a, &v, &e) == OK;
    const struct json *id = json_get(v, "id");
    json_text(json_get(v, "method"), method, sizeof method);
    if (is_json && !id)
        goto out; /* a notification */
    jw_init(&w, out);
    jw_begin_object(&w);
    jw_key(&w, "jsonrpc");
    jw_text(&w, "2.0");
    jw_key(&w, "id");
    if (id)
        jw_value(&w, id);
    else
        jw_null(&w);
    if (is_known(method)) {
        answer_method(&w, method, json_get(v, "params"));
    } else {
        jw_key(&w, "error");
        jw_raw(&w, is_json ? SLICE_LIT("{\"code\":-32601,\"message\":\"no such method\"}")
                           : SLICE_LIT("{\"code\":-32700,\"message\":\"no JSON\"}"));
    }
    jw_end_object(&w);
    buf_add_char(out, '\n');
out:
    arena_release(&a);
}

int mcp_serve(void)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    while ((n = getline(&line, &cap, stdin)) > 0) {
        struct buf out;
        buf_init(&out, LINE_MAX_BYTES);
        while (n && (line[n - 1] == '\n' || line[n - 1] == '\r'))
            n--;
        if (n)
            answer_line((struct slice){line, (size_t)n}, &out);
        bool is_gone =
            out.len && (fwrite(out.ptr, 1, out.len, stdout) != out.len || fflush(stdout) != 0);
        buf_release(&out);
        if (is_gone)
            break;
    }
    free(line);
    return 0;
}
