/* SPDX-License-Identifier: MIT
 * stub.c — servers that are none: LM Studio, Ollama, llama-server or any OpenAI-compatible one, as
 * far as a client can tell, with a prefix cache that costs what it is told to, and every vice that
 * the benchmark must catch.
 * Method: one thread, epoll, and a plan of (due time, bytes) for each connection, so that delays
 * are right to some microseconds and a thousand streams cost nothing.  For each chat request a line
 * on stdout: "request N first_us prompt cached digest path": the time from the arrival of its last
 * byte, as the kernel took it down, to the write of its first token; and a digest of the prompt's
 * text. Usage:  stub [--dialect openai|llama|ollama|lmstudio] [--token-us N]
 * [--delay-ms N] [--gap-ms N]
 *              [--slow-start-ms N] [--error-every N] [--hang-every N] [--cut-every N]
 *              [--lie restore|odds] [--stall-after N --stall-ms N] [--port N]
 *              [--slot-save-path DIR/] [--echo]: an OpenAI answer ends with the prompt's digest
 * Started with llama-server's flags (-fa among them) it is one, whose slots are kept in files; with
 * --version it tells one.  Prints "stub: listening on PORT". */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "os/clock.h"
#include "os/fs.h"
#include "text/json.h"

#define CONNECTIONS_MAX 8192
#define REQUEST_MAX     (64u << 20)
#define STATES_MAX      16
#define BYTES_A_TOKEN   4

enum dialect { OPENAI, LLAMA, OLLAMA, LMSTUDIO };

static struct {
    enum dialect dialect;
    long token_us, delay_ms, gap_ms, slow_start_ms, error_every, hang_every, cut_every;
    long stall_after, stall_ms;
    bool lies_restore, lies_odds, echoes;
} options;

/* The one slot: the text it holds, and whether that came from a file. */
static struct buf slot;
static bool is_restored;
static struct {
    char name[80];
    struct buf text;
} states[STATES_MAX];
static bool is_loaded;
static long n_requests;
static uint64_t begun_ns;
static const char *slot_folder = "";

struct connection {
    int fd;
    struct buf in;
    struct buf pieces; /* bytes to write, one piece after the other */
    size_t ends[600];  /* of pieces */
    uint64_t due_ns[600];
    uint32_t n, at;
    size_t written;
    uint32_t first; /* the piece with the first token; 0: no chat */
    uint64_t received_ns, digest;
    long number, prompt, cached;
    bool is_closing;
    char path[48]; /* of the request that is answered */
};
static struct connection *connections[CONNECTIONS_MAX];
static int epoll_fd;

/* ---- a reply as a plan ---- */
static void plan(struct connection *c, uint64_t due_ns, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void plan(struct connection *c, uint64_t due_ns, const char *fmt, ...)
{
    char text[4096];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    buf_add(&c->pieces, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
    if (c->n == sizeof c->ends / sizeof c->ends[0])
        exit(3);
    c->ends[c->n] = c->pieces.len;
    c->due_ns[c->n++] = due_ns;
}

static void plan_whole(struct connection *c, int status, const char *body)
{
    plan(c, 0, "HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
         status, strlen(body), body);
}

static void plan_head(struct connection *c, uint64_t due_ns, const char *type)
{
    plan(c, due_ns, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n",
         type);
}

static void plan_chunk(struct connection *c, uint64_t due_ns, const char *text)
{
    plan(c, due_ns, "%zx\r\n%s\r\n", strlen(text), text);
}

/* ---- what a prompt costs ---- */
static size_t common(const struct buf *a, struct slice b)
{
    size_t n = 0;
    while (n < a->len && n < b.len && a->ptr[n] == b.ptr[n])
        n++;
    return n;
}

static long tokens_of(size_t bytes)
{
    return (long)(bytes / BYTES_A_TOKEN) + 1;
}

static void prompt_of(const struct json *body, struct buf *text)
{
    const struct json *messages = json_get(body, "messages"), *prompt = json_get(body, "prompt");
    const struct json *input = json_get(body, "input");
    for (size_t i = 0; messages && messages->kind == JSON_ARRAY && i < messages->count; i++) {
        const struct json *content = json_get(&messages->items[i], "content");
        if (content && content->kind == JSON_STRING)
            buf_add_slice(text, content->text);
        buf_add_char(text, '\n');
    }
    if (prompt && prompt->kind == JSON_STRING)
        buf_add_slice(text, prompt->text);
    if (input && input->kind == JSON_STRING)
        buf_add_slice(text, input->text);
}

static void odds_text(char *text, size_t size, bool is_branch)
{
    double shift = options.lies_odds && is_restored && is_branch ? 0.4 : 0;
    snprintf(text, size,
             ",\"logprobs\":{\"content\":[{\"token\":\" one\",\"logprob\":%.3f,\"top_logprobs\":["
             "{\"token\":\" one\",\"logprob\":%.3f},{\"token\":\" two\",\"logprob\":%.3f}]}]}",
             -0.5 - shift, -0.5 - shift, -1.5 + shift);
}

struct chat {
    long prompt, cached, n_tokens;
    uint64_t first_ns, gap_ns;
    bool is_cut, wants_odds, is_branch;
    uint64_t digest;
};

static void stream_openai(struct connection *c, const struct chat *t)
{
    char text[1024], odds[500] = "";
    plan_head(c, 0, "text/event-stream");
    plan_chunk(c, 0,
               "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":"
               "\"\"}}]}\n\n");
    plan_chunk(c, 0, ": keepalive 1/2\n\n");
    c->first = c->n;
    for (long i = 0; i < t->n_tokens; i++) {
        if (i == 0 && t->wants_odds)
            odds_text(odds, sizeof odds, t->is_branch);
        else
            odds[0] = '\0';
        char word[24] = "more";
        if (options.echoes && i + 1 == t->n_tokens)
            snprintf(word, sizeof word, "%016llx", (unsigned long long)t->digest);
        snprintf(text, sizeof text,
                 "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" %s\"}%s}]}\n\n",
                 i ? word : "one", odds);
        plan_chunk(c, t->first_ns + (uint64_t)i * t->gap_ns, text);
    }
    uint64_t end = t->first_ns + (uint64_t)(t->n_tokens - 1) * t->gap_ns;
    if (t->is_cut) {
        plan(c, end, "0\r\n\r\n");
        return;
    }
    char details[120] = "", stats[160] = "", timings[120] = "";
    if (options.dialect == LLAMA)
        snprintf(timings, sizeof timings, ",\"timings\":{\"cache_n\":%ld,\"prompt_n\":%ld}",
                 t->cached, t->prompt - t->cached);
    if (options.dialect == OPENAI)
        snprintf(details, sizeof details, ",\"prompt_tokens_details\":{\"cached_tokens\":%ld}",
                 t->cached);
    if (options.dialect == LMSTUDIO)
        snprintf(
            stats, sizeof stats,
            ",\"stats\":{\"time_to_first_token\":0.1,\"stop_reason\":\"maxPredictedTokensReached\"}"
            ",\"runtime\":{\"name\":\"llama.cpp\",\"version\":\"1.2\"}");
    snprintf(
        text, sizeof text,
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":%ld,\"completion_tokens\":%ld%s}%s%s}"
        "\n\ndata: [DONE]\n\n",
        t->prompt, t->n_tokens, details, stats, timings);
    plan_chunk(c, end, text);
    plan(c, end, "0\r\n\r\n");
}

static void stream_lmstudio(struct connection *c, const struct chat *t)
{
    char text[600];
    plan_head(c, 0, "text/event-stream");
    plan_chunk(
        c, 0, "event: chat.start\ndata: {\"type\":\"chat.start\",\"model_instance_id\":\"m\"}\n\n");
    plan_chunk(c, 0,
               "event: prompt_processing.progress\ndata: {\"type\":"
               "\"prompt_processing.progress\",\"progress\":0.5}\n\n");
    c->first = c->n;
    for (long i = 0; i < t->n_tokens; i++)
        plan_chunk(
            c, t->first_ns + (uint64_t)i * t->gap_ns,
            "event: message.delta\ndata: {\"type\":\"message.delta\",\"content\":\" more\"}\n\n");
    uint64_t end = t->first_ns + (uint64_t)(t->n_tokens - 1) * t->gap_ns;
    snprintf(
        text, sizeof text,
        "event: chat.end\ndata: {\"type\":\"chat.end\",\"result\":{\"stats\":{\"input_tokens\":%ld,"
        "\"total_output_tokens\":%ld,\"time_to_first_token_seconds\":0.1}}}\n\n",
        t->prompt, t->n_tokens);
    plan_chunk(c, end, text);
    plan(c, end, "0\r\n\r\n");
}

static void stream_ollama(struct connection *c, const struct chat *t, bool is_chat)
{
    char text[600];
    plan_head(c, 0, "application/x-ndjson");
    c->first = c->n;
    for (long i = 0; i < t->n_tokens; i++)
        plan_chunk(
            c, t->first_ns + (uint64_t)i * t->gap_ns,
            is_chat ? "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\" more\"},"
                      "\"done\":false}\n"
                    : "{\"model\":\"m\",\"response\":\" more\",\"done\":false}\n");
    uint64_t end = t->first_ns + (uint64_t)(t->n_tokens - 1) * t->gap_ns;
    snprintf(text, sizeof text,
             "{\"model\":\"m\",\"done\":true,\"done_reason\":\"length\",\"total_duration\":1,"
             "\"prompt_eval_count\":%ld,\"prompt_eval_duration\":%ld,\"eval_count\":%ld}\n",
             t->prompt, (t->prompt - t->cached) * options.token_us * 1000, t->n_tokens);
    plan_chunk(c, end, text);
    plan(c, end, "0\r\n\r\n");
}

static bool is_nth(long every)
{
    return every > 0 && n_requests % every == 0;
}

static long tokens_wanted(const struct json *body)
{
    static const char *const keys[] = {"max_tokens", "max_output_tokens"};
    const struct json *v = json_get(json_get(body, "options"), "num_predict");
    for (size_t i = 0; i < 2 && !v; i++)
        v = json_get(body, keys[i]);
    long n = v && v->kind == JSON_INT ? (long)v->integer : 16;
    return n < 1 ? 1 : n > 500 ? 500 : n;
}

static void answer_chat(struct connection *c, const struct json *body, bool is_v1, bool is_chat)
{
    struct buf text;
    buf_init(&text, REQUEST_MAX);
    prompt_of(body, &text);
    c->number = ++n_requests;
    c->digest = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < text.len; i++)
        c->digest = (c->digest ^ (unsigned char)text.ptr[i]) * 0x100000001b3u;
    if (options.stall_after && n_requests == options.stall_after)
        clock_sleep_ms((uint32_t)options.stall_ms); /* the whole server stands still */
    struct chat t = {
        .prompt = tokens_of(text.len), .n_tokens = tokens_wanted(body), .digest = c->digest};
    size_t same = common(&slot, buf_slice(&text));
    t.is_branch = same < slot.len;
    t.cached = options.token_us ? (long)(same / BYTES_A_TOKEN) : 0;
    t.cached = t.cached >= t.prompt ? t.prompt - 1 : t.cached;
    t.wants_odds = json_get(body, "logprobs") != NULL;
    t.is_cut = is_nth(options.cut_every);
    t.gap_ns = (uint64_t)options.gap_ms * 1000000u;
    t.first_ns = c->received_ns + (uint64_t)options.delay_ms * 1000000u +
                 (uint64_t)((t.prompt - t.cached) * options.token_us) * 1000u;
    c->prompt = t.prompt;
    c->cached = t.cached;
    if (is_nth(options.hang_every)) {
        buf_release(&text);
        return; /* nothing, ever */
    }
    if (is_nth(options.error_every)) {
        plan_whole(c, 500,
                   options.dialect == OLLAMA
                       ? "{\"error\":\"the stub was told to fail\"}"
                       : "{\"error\":{\"message\":\"the stub was told to fail\"}}");
    } else {
        if (is_v1)
            stream_lmstudio(c, &t);
        else if (options.dialect == OLLAMA)
            stream_ollama(c, &t, is_chat);
        else
            stream_openai(c, &t);
        /* What a server holds afterwards: the prompt and its own answer. */
        buf_clear(&slot);
        buf_add_slice(&slot, buf_slice(&text));
        for (long i = 0; i < t.n_tokens; i++)
            buf_add_text(&slot, is_v1 || options.dialect == OLLAMA || i ? " more" : " one");
    }
    buf_release(&text);
}

/* ---- everything that is no chat ---- */
/* As a server does that is started anew between save and restore. */
static void answer_slot_files(struct connection *c, const char *query, const char *name)
{
    char path[600], text[200];
    struct err e = {0};
    char *kept = NULL;
    size_t n = 0;
    snprintf(path, sizeof path, "%s%s", slot_folder, name);
    if (strstr(query, "action=save")) {
        if (fs_write_file(os_fs_real(), path, slot.ptr ? slot.ptr : "", slot.len, &e) != OK) {
            plan_whole(c, 500, "{\"error\":{\"message\":\"cannot write\"}}");
            return;
        }
        snprintf(text, sizeof text, "{\"n_saved\":%ld,\"n_written\":%zu}", tokens_of(slot.len),
                 slot.len);
    } else {
        if (fs_read_file(os_fs_real(), path, REQUEST_MAX, &kept, &n, &e) != OK) {
            plan_whole(c, 400, "{\"error\":{\"message\":\"no such file\"}}");
            return;
        }
        buf_clear(&slot);
        buf_add(&slot, kept, n);
        is_restored = true;
        snprintf(text, sizeof text, "{\"n_restored\":%ld}", tokens_of(n));
        mem_free(kept);
    }
    plan_whole(c, 200, text);
}

static void answer_slots(struct connection *c, const char *query, const struct json *body)
{
    char name[80] = "", text[200];
    const struct json *v = json_get(body, "filename");
    if (v && v->kind == JSON_STRING)
        snprintf(name, sizeof name, SLICE_FMT, SLICE_ARG(v->text));
    if (strstr(query, "action=erase")) {
        buf_clear(&slot);
        is_restored = false;
        plan_whole(c, 200, "{\"id_slot\":0,\"n_erased\":1}");
        return;
    }
    if (slot_folder[0]) {
        answer_slot_files(c, query, name);
        return;
    }
    int i = 0;
    while (i < STATES_MAX - 1 && states[i].name[0] && strcmp(states[i].name, name) != 0)
        i++;
    if (strstr(query, "action=save")) {
        if (!states[i].name[0])
            buf_init(&states[i].text, REQUEST_MAX);
        snprintf(states[i].name, sizeof states[i].name, "%s", name);
        buf_clear(&states[i].text);
        buf_add_slice(&states[i].text, buf_slice(&slot));
        snprintf(text, sizeof text,
                 "{\"n_saved\":%ld,\"n_written\":%zu,\"timings\":{\"save_ms\":1.0}}",
                 tokens_of(slot.len), slot.len);
        plan_whole(c, 200, text);
    } else if (strcmp(states[i].name, name) != 0) {
        plan_whole(c, 400, "{\"error\":{\"message\":\"no such file\"}}");
    } else {
        buf_clear(&slot);
        if (!options.lies_restore)
            buf_add_slice(&slot, buf_slice(&states[i].text));
        is_restored = true;
        snprintf(text, sizeof text, "{\"n_restored\":%ld,\"timings\":{\"restore_ms\":1.0}}",
                 tokens_of(states[i].text.len));
        plan_whole(c, 200, text);
    }
}

/* Two models, one for each of its engines. */
static void answer_lmstudio(struct connection *c, const char *path, const struct json *body)
{
    static const char *const ids[] = {"stub-gguf", "stub-mlx"};
    static const char *const kinds[] = {"gguf", "mlx"};
    const struct json *model = json_get(body, "model");
    char text[900];
    if (strcmp(path, "/api/v1/models/load") == 0) {
        size_t i = 0;
        while (i < 2 && !(model && model->kind == JSON_STRING && slice_is(model->text, ids[i])))
            i++;
        if (i == 2) {
            plan_whole(c, 404, "{\"error\":{\"message\":\"no such model\"}}");
            return;
        }
        is_loaded = true;
        buf_clear(&slot);
        snprintf(text, sizeof text,
                 "{\"type\":\"llm\",\"instance_id\":\"%s\",\"load_time_seconds\":0.1,"
                 "\"status\":\"loaded\"}",
                 ids[i]);
        plan_whole(c, 200, text);
    } else if (strcmp(path, "/api/v1/models/unload") == 0) {
        plan_whole(c, is_loaded ? 200 : 404,
                   is_loaded ? "{\"instance_id\":\"stub\"}"
                             : "{\"error\":{\"message\":\"not loaded\"}}");
        is_loaded = false;
    } else {
        size_t at = (size_t)snprintf(text, sizeof text, "{\"object\":\"list\",\"data\":[");
        for (size_t i = 0; i < 2; i++)
            at += (size_t)snprintf(
                text + at, sizeof text - at,
                "%s{\"id\":\"%s\",\"object\":\"model\",\"type\":\"llm\",\"publisher\":\"stub\","
                "\"arch\":\"llama\",\"compatibility_type\":\"%s\",\"quantization\":\"%s\","
                "\"state\":\"not-loaded\",\"max_context_length\":8192}",
                i ? "," : "", ids[i], kinds[i], i ? "4bit" : "Q4_K_M");
        snprintf(text + at, sizeof text - at, "]}");
        plan_whole(c, 200, text);
    }
}

static void answer_other(struct connection *c, const char *path, const char *query,
                         const struct json *body)
{
    bool is_starting = clock_ms_since(begun_ns) < (double)options.slow_start_ms;
    if (is_starting)
        plan_whole(c, 503, "{\"error\":{\"message\":\"Loading model\"}}");
    else if (strcmp(path, "/health") == 0)
        plan_whole(c, 200, "{\"status\":\"ok\"}");
    else if (strcmp(path, "/v1/models") == 0)
        plan_whole(c, 200,
                   "{\"object\":\"list\",\"data\":[{\"id\":\"stub\",\"object\":\"model\"}]}");
    else if (options.dialect == LLAMA && strcmp(path, "/props") == 0)
        plan_whole(c, 200, "{\"total_slots\":1}");
    else if (options.dialect == LLAMA && strcmp(path, "/slots/0") == 0)
        answer_slots(c, query, body);
    else if (options.dialect == OLLAMA && strcmp(path, "/api/version") == 0)
        plan_whole(c, 200, "{\"version\":\"0.99.0\"}");
    else if (options.dialect == LMSTUDIO && strncmp(path, "/api/v", 6) == 0)
        answer_lmstudio(c, path, body);
    else
        plan_whole(c, 404, "{\"error\":{\"message\":\"the stub has no such path\"}}");
}

static void answer(struct connection *c, char *path, struct slice raw)
{
    struct arena a;
    struct json *body = NULL;
    struct err e = {0};
    char *query = strchr(path, '?');
    if (query)
        *query++ = '\0';
    arena_init(&a, 1u << 30);
    if (raw.len && json_parse(raw, &a, &body, &e) != OK) {
        plan_whole(c, 400, "{\"error\":{\"message\":\"no JSON\"}}");
    } else if (options.dialect == OLLAMA && strcmp(path, "/api/generate") == 0 &&
               !json_get(body, "prompt")) { /* load, or keep_alive 0: unload */
        const struct json *keep = json_get(body, "keep_alive");
        if (keep && keep->kind == JSON_INT && keep->integer == 0)
            buf_clear(&slot);
        plan_whole(c, 200, "{\"model\":\"m\",\"done\":true,\"done_reason\":\"load\"}");
    } else if (strstr(path, "completions") || strcmp(path, "/api/chat") == 0 ||
               strcmp(path, "/api/generate") == 0) {
        answer_chat(c, body, false, strcmp(path, "/api/chat") == 0);
    } else if (options.dialect == LMSTUDIO && strcmp(path, "/api/v1/chat") == 0) {
        answer_chat(c, body, true, true);
    } else {
        answer_other(c, path, query ? query : "", body);
    }
    arena_release(&a);
}

/* ---- sockets ---- */
static void end_connection(struct connection *c)
{
    connections[c->fd] = NULL;
    close(c->fd);
    buf_release(&c->in);
    buf_release(&c->pieces);
    mem_free(c);
}

static void write_due(struct connection *c, uint64_t now)
{
    while (c->at < c->n && c->due_ns[c->at] <= now) {
        size_t end = c->ends[c->at];
        bool is_first = c->first && c->at == c->first;
        ssize_t n = send(c->fd, c->pieces.ptr + c->written, end - c->written, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            c->is_closing = true;
            return;
        }
        c->written += (size_t)n;
        if (c->written < end)
            return;
        c->at++;
        if (is_first) {
            printf("request %ld %llu %ld %ld %016llx %s\n", c->number,
                   (unsigned long long)(clock_now_ns() - c->received_ns) / 1000, c->prompt,
                   c->cached, (unsigned long long)c->digest, c->path);
            fflush(stdout);
        }
    }
    if (c->n && c->at == c->n) { /* ready for the next request of this connection */
        c->n = c->at = c->first = 0;
        c->written = 0;
        buf_clear(&c->pieces);
    }
}

/* A whole request in c->in: answers it and removes it. */
static bool take_request(struct connection *c)
{
    char *head = c->in.len ? memmem(c->in.ptr, c->in.len, "\r\n\r\n", 4) : NULL;
    char path[300];
    if (!head || c->n)
        return false;
    size_t head_len = (size_t)(head - c->in.ptr) + 4, body_len = 0;
    *head = '\0';
    const char *length = strcasestr(c->in.ptr, "\r\nContent-Length:");
    if (length)
        body_len = strtoul(length + 17, NULL, 10);
    *head = '\r';
    if (c->in.len < head_len + body_len)
        return false;
    if (sscanf(c->in.ptr, "%*15s %299s", path) != 1)
        snprintf(path, sizeof path, "/");
    snprintf(c->path, sizeof c->path, "%s", path);
    answer(c, path, (struct slice){c->in.ptr + head_len, body_len});
    buf_consume(&c->in, head_len + body_len);
    return true;
}

static uint64_t ns_of(const struct timespec *t)
{
    return (uint64_t)t->tv_sec * 1000000000u + (uint64_t)t->tv_nsec;
}

/* recv(), and when the last of it arrived: this process may have been woken later. */
static ssize_t receive(struct connection *c, char *to, size_t size)
{
    char control[256];
    struct iovec into = {to, size};
    struct msghdr m = {.msg_iov = &into,
                       .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = sizeof control};
    ssize_t n = recvmsg(c->fd, &m, 0);
    if (n <= 0)
        return n;
    c->received_ns = clock_now_ns();
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
        struct timespec stamp, now;
        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_TIMESTAMPNS)
            continue;
        memcpy(&stamp, CMSG_DATA(h), sizeof stamp);
        clock_gettime(CLOCK_REALTIME, &now);
        c->received_ns -= ns_of(&now) - ns_of(&stamp);
    }
    return n;
}

static void read_some(struct connection *c)
{
    for (;;) {
        char *to = buf_reserve(&c->in, 65536);
        ssize_t n = to ? receive(c, to, 65536) : 0;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0) {
            c->is_closing = true;
            return;
        }
        c->in.len += (size_t)n;
        c->in.ptr[c->in.len] = '\0';
    }
    take_request(c);
}

static void accept_all(int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        int one = 1;
        if (fd >= CONNECTIONS_MAX) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one);
        struct connection *c = mem_new(1, sizeof *c);
        c->fd = fd;
        buf_init(&c->in, REQUEST_MAX);
        buf_init(&c->pieces, REQUEST_MAX);
        connections[fd] = c;
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e);
    }
}

/* Writes what is due; returns the next due time, 0: none. */
static uint64_t write_all(int most)
{
    uint64_t next = 0, now = clock_now_ns();
    for (int fd = 0; fd <= most; fd++) {
        struct connection *c = connections[fd];
        if (!c)
            continue;
        if (!c->is_closing && c->at < c->n && c->due_ns[c->at] <= now)
            write_due(c, now);
        if (c->is_closing) {
            end_connection(c);
            continue;
        }
        if (c->at < c->n && (next == 0 || c->due_ns[c->at] < next))
            next = c->due_ns[c->at];
    }
    return next;
}

static void serve(int listener)
{
    int most = 0;
    for (;;) {
        struct epoll_event events[256];
        uint64_t next = write_all(most), now = clock_now_ns();
        /* Sleeps to the millisecond, and turns for the rest: delays are right to microseconds. */
        int wait = next == 0 ? 1000 : next <= now ? 0 : (int)((next - now) / 1000000u);
        int n = epoll_wait(epoll_fd, events, 256, wait);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                accept_all(listener);
                for (int k = most; k < CONNECTIONS_MAX; k++)
                    if (connections[k])
                        most = k;
            } else if (connections[fd]) {
                read_some(connections[fd]);
            }
        }
    }
}

static long number_after(int argc, char **argv, const char *name)
{
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return strtol(argv[i + 1], NULL, 10);
    return 0;
}

static const char *word_after(int argc, char **argv, const char *name)
{
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return argv[i + 1];
    return "";
}

int main(int argc, char **argv)
{
    const char *dialect = word_after(argc, argv, "--dialect");
    const char *lie = word_after(argc, argv, "--lie");
    options.dialect = strcmp(dialect, "llama") == 0      ? LLAMA
                      : strcmp(dialect, "ollama") == 0   ? OLLAMA
                      : strcmp(dialect, "lmstudio") == 0 ? LMSTUDIO
                                                         : OPENAI;
    options.token_us = number_after(argc, argv, "--token-us");
    options.delay_ms = number_after(argc, argv, "--delay-ms");
    options.gap_ms = number_after(argc, argv, "--gap-ms");
    options.slow_start_ms = number_after(argc, argv, "--slow-start-ms");
    options.error_every = number_after(argc, argv, "--error-every");
    options.hang_every = number_after(argc, argv, "--hang-every");
    options.cut_every = number_after(argc, argv, "--cut-every");
    options.stall_after = number_after(argc, argv, "--stall-after");
    options.stall_ms = number_after(argc, argv, "--stall-ms");
    options.lies_restore = strcmp(lie, "restore") == 0;
    options.lies_odds = strcmp(lie, "odds") == 0;
    slot_folder = word_after(argc, argv, "--slot-save-path");
    for (int i = 1; i < argc; i++) {
        options.echoes |= strcmp(argv[i], "--echo") == 0;
        if (strcmp(argv[i], "--version") == 0) {
            printf("stub 1\n");
            return 0;
        }
        if (strcmp(argv[i], "-fa") == 0) {
            options.dialect = LLAMA;
            options.token_us = 60;
        }
    }
    struct rlimit files = {CONNECTIONS_MAX, CONNECTIONS_MAX};
    setrlimit(RLIMIT_NOFILE, &files);
    buf_init(&slot, REQUEST_MAX);
    begun_ns = clock_now_ns();
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                            .sin_port = htons((uint16_t)number_after(argc, argv, "--port"))};
    socklen_t n = sizeof a;
    int one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (listener < 0 || bind(listener, (struct sockaddr *)&a, sizeof a) != 0 ||
        listen(listener, 4096) != 0 || getsockname(listener, (struct sockaddr *)&a, &n) != 0) {
        perror("stub");
        return 1;
    }
    struct epoll_event e = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &e);
    printf("stub: listening on %u\n", ntohs(a.sin_port));
    fflush(stdout);
    serve(listener);
}
