/* SPDX-License-Identifier: MIT
 * system.c — a row of the comparison: a driver, where it is, and its options. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "bench/compare/compare_int.h"
#include "os/clock.h"

#define READY_MS_MAX 300000u
#define STOP_MS_MAX  60000u
#define PROBE_MS_MAX 300u
#define MAPPED_LEAST (1 << 20) /* bytes */

const char *const label_names[LABEL_COUNT] = {"measured", "simulated", "computed"};
const char *const outcome_names[OUTCOME_COUNT] = {"done", "failed", "hung", "no", "skipped"};
const char *const flag_names[FLAG_COUNT] = {
    "busy", "not reused", "warm", "misconfigured", "other answer", "other odds", "other prompt"};

/* ---- "NAME[=PATH|URL][,option=value…]" ---- */
static const struct driver *driver_of(struct slice name)
{
    for (uint32_t i = 0; i < n_drivers; i++)
        if (slice_is(name, drivers[i]->name))
            return drivers[i];
    return NULL;
}

static void name_row(struct system *s)
{
    const char *name = system_word(s, "name");
    if (name && name[0]) {
        snprintf(s->name, sizeof s->name, "%s", name);
        return;
    }
    int n = snprintf(s->name, sizeof s->name, "%s", s->driver->name);
    for (uint32_t i = 0; i < s->n_words && n > 0 && (size_t)n < sizeof s->name; i++)
        n += snprintf(s->name + n, sizeof s->name - (size_t)n, " %s", s->words[i]);
}

static bool is_known_word(const struct driver *d, const char *word)
{
    size_t n = strcspn(word, "=");
    const char *at = d->options;
    if (n == 4 && strncmp(word, "name", 4) == 0)
        return true;
    while (at && *at) {
        size_t len = strcspn(at, " "), key = strcspn(at, "= ");
        if (key == n && strncmp(at, word, n) == 0)
            return (word[n] == '=') == (at[key] == '=');
        at += len + (at[len] == ' ');
    }
    return false;
}

enum status system_parse(struct system *s, const char *text, const struct options *o, struct err *e)
{
    size_t n = strcspn(text, "=,");
    *s = (struct system){.driver = driver_of((struct slice){text, n}), .options = o};
    s->context_tokens = -1;
    s->parallel = 1;
    if (!s->driver) {
        char known[200] = "";
        size_t at = 0;
        for (uint32_t i = 0; i < n_drivers; i++)
            at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", i ? ", " : "",
                                   drivers[i]->name);
        return err_set(e, E_INVALID, "--system: no system \"%.*s\"; known: %s", (int)n, text,
                       known);
    }
    text += n;
    if (*text == '=') {
        size_t len = strcspn(++text, ",");
        if (len >= sizeof s->target)
            return err_set(e, E_INVALID, "--system: too long a path");
        memcpy(s->target, text, len);
        text += len;
        s->is_url = strncmp(s->target, "http://", 7) == 0 || strncmp(s->target, "https://", 8) == 0;
    }
    while (*text == ',') {
        size_t len = strcspn(++text, ",");
        if (s->n_words == SYSTEM_WORDS_MAX || len >= sizeof s->words[0])
            return err_set(e, E_LIMIT, "--system %s: too many or too long options",
                           s->driver->name);
        memcpy(s->words[s->n_words], text, len);
        text += len;
        if (!is_known_word(s->driver, s->words[s->n_words]))
            return err_set(e, E_INVALID, "--system %s: unknown option \"%s\"; it takes: %s",
                           s->driver->name, s->words[s->n_words],
                           s->driver->options[0] ? s->driver->options : "none");
        s->n_words++;
    }
    if (s->is_url) {
        size_t len = strlen(s->target);
        while (len && s->target[len - 1] == '/')
            s->target[--len] = '\0';
        if (len >= sizeof s->url)
            return err_set(e, E_INVALID, "--system %s: too long a URL", s->driver->name);
    }
    name_row(s);
    return OK;
}

const char *system_word(const struct system *s, const char *key)
{
    size_t n = strlen(key);
    for (uint32_t i = 0; i < s->n_words; i++)
        if (strncmp(s->words[i], key, n) == 0 && (s->words[i][n] == '=' || s->words[i][n] == '\0'))
            return s->words[i] + n + (s->words[i][n] == '=');
    return NULL;
}

/* ---- life ---- */
static void remember_command(struct system *s, const char *const *argv)
{
    size_t at = 0;
    s->command[0] = '\0';
    for (; *argv && at < sizeof s->command; argv++)
        at +=
            (size_t)snprintf(s->command + at, sizeof s->command - at, "%s%s", at ? " " : "", *argv);
}

uint16_t free_port(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    uint16_t port = 0;
    if (fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0 &&
        getsockname(fd, (struct sockaddr *)&a, &n) == 0)
        port = ntohs(a.sin_port);
    if (fd >= 0)
        close(fd);
    return port;
}

enum status system_run(struct system *s, const char *const *argv, const char *ready_path,
                       struct err *e)
{
    remember_command(s, argv);
    enum status st = child_start(&s->child, argv, NULL, e);
    if (st != OK)
        return st;
    load_watch(s->child.pid);
    return wire_wait_ready(s, ready_path, READY_MS_MAX, e);
}

static const char *base_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* One line of /proc/PID/maps: "from-to rwxp offset dev inode   path". */
static const char *mapped_path(char *line, bool *is_code)
{
    char *perms = strchr(line, ' '), *path = strchr(line, '/');
    if (!perms || !path)
        return NULL;
    path[strcspn(path, "\n")] = '\0';
    *is_code = perms[3] == 'x';
    return path;
}

/* A program may keep the weights in a file of its own making: what it has mapped, programs and
 * libraries left out, is dropped like the model's file. */
static void remember_mapped(struct system *s)
{
    char name[64], line[PLACE_PATH_BYTES + 200];
    snprintf(name, sizeof name, "/proc/%d/maps", (int)s->child.pid);
    for (int pass = 0; pass < 2; pass++) { /* a library's first part is no code */
        FILE *f = fopen(name, "re");
        while (f && fgets(line, sizeof line, f)) {
            bool is_code = false;
            const char *path = mapped_path(line, &is_code);
            uint32_t i = 0;
            struct stat st;
            while (path && i < s->n_mapped && strcmp(s->mapped[i], path) != 0)
                i++;
            if (!path || (pass == 1 && (!is_code || i == s->n_mapped)))
                continue;
            if (pass == 1)
                memmove(s->mapped[i], s->mapped[i + 1], (--s->n_mapped - i) * sizeof s->mapped[0]);
            else if (i == s->n_mapped && i < MAPPED_MAX && !is_code &&
                     strlen(path) < sizeof s->mapped[0] && stat(path, &st) == 0 &&
                     S_ISREG(st.st_mode) && st.st_size >= MAPPED_LEAST)
                snprintf(s->mapped[s->n_mapped++], sizeof s->mapped[0], "%s", path);
        }
        if (f)
            fclose(f);
    }
}

static void drop_pages(struct system *s, const char *model)
{
    size_t at = (size_t)snprintf(s->dropped, sizeof s->dropped, "out of the page cache: state%s%s",
                                 model ? ", " : "", model ? base_of(model) : "");
    if (model)
        forget_pages(model);
    forget_pages(s->place);
    for (uint32_t i = 0; i < s->n_mapped; i++) {
        if (model && strcmp(base_of(model), base_of(s->mapped[i])) == 0)
            continue;
        forget_pages(s->mapped[i]);
        if (at < sizeof s->dropped && strncmp(s->mapped[i], s->place, strlen(s->place)) != 0)
            at += (size_t)snprintf(s->dropped + at, sizeof s->dropped - at, ", %s",
                                   base_of(s->mapped[i]));
    }
}

enum status system_start(struct system *s, const struct start *how, struct err *e)
{
    enum status st = OK;
    system_kill(s);
    if (!s->http)
        st = http_client_new(&s->http, e);
    if (st != OK)
        return st;
    if (s->is_url)
        snprintf(s->url, sizeof s->url, "%.*s", (int)sizeof s->url - 1, s->target);
    s->dropped[0] = '\0';
    if (how->drop_page_cache)
        drop_pages(s, how->model);
    s->parallel = how->parallel ? how->parallel : 1;
    load_unknown(!s->target[0] || s->is_url);
    uint64_t start = clock_now_ns();
    st = s->driver->start(s, how, e);
    s->ready_ms = clock_ms_since(start);
    s->is_running = st == OK;
    if (st != OK)
        system_kill(s);
    return st;
}

enum status system_stop(struct system *s, struct err *e)
{
    enum status st = OK;
    if (!s->is_running)
        return OK;
    if (atomic_load(&is_interrupted) && s->child.pid > 0) {
        system_kill(s);
        return err_set(e, E_CANCELLED, "interrupted");
    }
    if (s->driver->stop) {
        st = s->driver->stop(s, e);
    } else if (s->child.pid > 0) {
        int code;
        remember_mapped(s);
        child_signal(&s->child, system_word(s, "kill") ? SIGKILL : SIGTERM);
        st = child_wait(&s->child, STOP_MS_MAX, &code, e);
    }
    system_kill(s);
    return st;
}

void system_kill(struct system *s)
{
    load_watch(0);
    if (s->is_running && s->child.pid > 0)
        remember_mapped(s);
    child_release(&s->child);
    http_client_free(s->http); /* a kept connection would go to a server that is gone */
    s->http = NULL;
    s->is_running = false;
}

/* ---- what it takes ---- */
int64_t system_memory(const struct system *s)
{
    char path[64];
    struct buf text;
    struct err e = {0};
    int64_t bytes = -1;
    if (s->child.pid <= 0)
        return -1;
    buf_init(&text, 1u << 20);
    snprintf(path, sizeof path, "/proc/%d/status", (int)s->child.pid);
    if (place_read(path, &text, &e) == OK && text.len) {
        const char *anon = strstr(text.ptr, "RssAnon:"), *shared = strstr(text.ptr, "RssShmem:");
        if (anon && shared)
            bytes = (strtoll(anon + 8, NULL, 10) + strtoll(shared + 9, NULL, 10)) * 1024;
    }
    buf_release(&text);
    return bytes;
}

/* What a file takes, not what it says: a store reserves its segments ahead. */
static void add_bytes(const char *path, uint64_t bytes, void *arg)
{
    struct stat st;
    (void)bytes;
    if (stat(path, &st) == 0)
        *(int64_t *)arg += (int64_t)st.st_blocks * 512;
}

int64_t system_disk(const struct system *s)
{
    int64_t bytes = 0;
    struct err e = {0};
    if (!s->place[0] || place_walk(s->place, add_bytes, &bytes, &e) != OK)
        return -1;
    return bytes;
}

static void forget_file(const char *path, uint64_t bytes, void *arg)
{
    (void)bytes;
    (void)arg;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    fdatasync(fd); /* dirty pages are not dropped */
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

void forget_pages(const char *path)
{
    struct stat st;
    struct err e = {0};
    if (!path[0] || stat(path, &st) != 0)
        return;
    if (!S_ISDIR(st.st_mode))
        forget_file(path, 0, NULL);
    else if (place_walk(path, forget_file, NULL, &e) != OK)
        fprintf(stderr, "kvasir bench: %s\n", e.msg);
}

/* ---- who else is there ---- */
static bool answers(struct http_client *http, uint16_t port, const char *path)
{
    char url[160];
    struct http_answer answer = {0};
    struct err e = {0};
    snprintf(url, sizeof url, "http://127.0.0.1:%u%s", port, path);
    struct http_call call = {
        .url = url, .connect_ms_max = PROBE_MS_MAX, .total_ms_max = PROBE_MS_MAX * 3};
    bool is_there = http_client_call(http, &call, &answer, &e) == OK && answer.status == 200;
    http_answer_release(&answer);
    return is_there;
}

/* Several have the same default port, so the first that knows the answer has it: drivers stand in
 * the order of what only they answer. */
void systems_found(char *text, size_t size)
{
    struct http_client *http = NULL;
    struct err e = {0};
    uint16_t offered[SYSTEMS_MAX];
    uint32_t n_offered = 0;
    size_t at = 0;
    text[0] = '\0';
    if (http_client_new(&http, &e) != OK)
        return;
    for (uint32_t i = 0; i < 2 * n_drivers && at < size && n_offered < SYSTEMS_MAX; i++) {
        const struct driver *d = drivers[i / 2];
        uint16_t port = i % 2 ? d->old_port : d->port;
        bool is_known = !port || !d->probe;
        for (uint32_t k = 0; k < n_offered; k++)
            is_known |= offered[k] == port;
        if (is_known || !answers(http, port, d->probe))
            continue;
        at += (size_t)snprintf(text + at, size - at, "%s--system %s=http://127.0.0.1:%u",
                               at ? " " : "", d->name, port);
        offered[n_offered++] = port;
    }
    http_client_free(http);
}
