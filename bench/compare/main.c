/* SPDX-License-Identifier: MIT
 * main.c — from words to a run, and from its file to table and page. */
#include <signal.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "bench/compare/compare.h"
#include "bench/compare/compare_int.h"
#include "os/clock.h"
#include "os/cpu.h"
#include "os/fs.h"

#define RESULTS_BYTES_MAX (64u << 20)
#define AGAIN_NS          1000000000u

enum { DONE = 0, FAILED = 1, WRONG_USAGE = 2 };

atomic_bool is_interrupted;

/* The second time it is meant.  What signals a whole group of processes, as timeout(1) does, may
 * deliver the first one twice. */
static void on_interrupt(int number)
{
    static atomic_uint_fast64_t first_ns;
    uint64_t now_ns = clock_now_ns();
    (void)number;
    if (!atomic_exchange(&is_interrupted, true))
        atomic_store(&first_ns, now_ns);
    else if (now_ns - atomic_load(&first_ns) > AGAIN_NS)
        _exit(130);
}

static int complain(const struct err *e, int code)
{
    fprintf(stderr, "kvasir bench: %s\n", e->msg);
    return code;
}

/* ---- what stands at the head of the results ---- */
static void describe(const struct options *o, struct results *r)
{
    struct utsname u;
    time_t now = time(NULL);
    struct tm tm;
    snprintf(r->version, sizeof r->version, "%s", KVASIR_VERSION);
    snprintf(r->command, sizeof r->command, "%s", o->command);
    snprintf(r->host_cpu, sizeof r->host_cpu, "%s", cpu_features()->model);
    if (uname(&u) == 0)
        snprintf(r->kernel, sizeof r->kernel, "%.30s %.60s %.20s", u.sysname, u.release, u.machine);
    if (gmtime_r(&now, &tm))
        strftime(r->started, sizeof r->started, "%Y-%m-%d %H:%M UTC", &tm);
    r->processors = cpu_count_usable();
    r->memory_bytes = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    r->threads = o->threads;
    r->repeats = o->repeats;
    r->is_quick = o->is_quick;
    r->impact_tokens = o->tokens_a_session;
    r->impact_sessions = o->sessions_a_day;
}

static enum status read_file(const char *path, struct results *r, struct err *e)
{
    char *text = NULL;
    size_t len = 0;
    enum status st = fs_read_file(os_fs_real(), path, RESULTS_BYTES_MAX, &text, &len, e);
    if (st == OK)
        st = results_read((struct slice){text, len}, r, e);
    mem_free(text);
    return st;
}

static enum status write_page(const struct results *r, const char *out, const char *name,
                              void (*write)(const struct results *r, struct buf *out),
                              struct err *e)
{
    struct buf page;
    char to[PLACE_PATH_BYTES];
    snprintf(to, sizeof to, "%.1000s/%s", out, name);
    buf_init(&page, RESULTS_BYTES_MAX);
    write(r, &page);
    enum status st = page.failed ? err_set(e, E_LIMIT, "%s is too large", name)
                                 : fs_write_file(os_fs_real(), to, page.ptr, page.len, e);
    buf_release(&page);
    return st;
}

/* Table and pages, from the file alone. */
static int show(const char *path, const char *out)
{
    struct err e = {0};
    struct results *r = mem_new(1, sizeof *r);
    enum status st = read_file(path, r, &e);
    if (st == OK) {
        table_print(stdout, r);
        fflush(stdout);
        st = fs_make_dirs(os_fs_real(), out, &e);
    }
    if (st == OK)
        st = write_page(r, out, "report.html", report_write, &e);
    if (st == OK)
        st = write_page(r, out, "report.md", markdown_write, &e);
    if (st == OK)
        fprintf(stderr, "\nkvasir bench: %s, %s/report.html, report.md\n", path, out);
    results_release(r);
    mem_free(r);
    return st == OK ? DONE : complain(&e, FAILED);
}

/* "a.json,b.json": into one file in out, from which table and page are made. */
static int show_several(const char *list, const char *out)
{
    struct err e = {0};
    struct results *all = mem_new(1, sizeof *all), *one = mem_new(1, sizeof *one);
    struct buf json;
    char path[PLACE_PATH_BYTES];
    enum status st = OK;
    buf_init(&json, RESULTS_BYTES_MAX);
    for (const char *at = list; st == OK && *at;) {
        size_t n = strcspn(at, ",");
        snprintf(path, sizeof path, "%.*s", (int)n, at);
        st = read_file(path, at == list ? all : one, &e);
        if (st == OK && at != list)
            st = results_merge(all, one, &e);
        results_release(one);
        at += n + (at[n] == ',');
    }
    snprintf(path, sizeof path, "%.1000s/results.json", out);
    if (st == OK) {
        results_write(all, &json);
        st = json.failed ? err_set(&e, E_LIMIT, "results too large")
                         : fs_make_dirs(os_fs_real(), out, &e);
    }
    if (st == OK)
        st = fs_write_file(os_fs_real(), path, json.ptr, json.len, &e);
    buf_release(&json);
    results_release(all);
    mem_free(all);
    mem_free(one);
    return st == OK ? show(path, out) : complain(&e, FAILED);
}

/* ---- a run ---- */
static void tell_found(const struct options *o)
{
    char text[400];
    if (o->n_systems > 1)
        return;
    systems_found(text, sizeof text);
    if (text[0])
        fprintf(stderr, "kvasir bench: there are servers here that could be compared: %s\n", text);
    else
        fprintf(stderr,
                "kvasir bench: one system only; --system adds rivals (kvasir bench --help)\n");
}

static enum status prepare(struct run *r, struct err *e)
{
    const struct options *o = r->options;
    enum status st = OK;
    for (uint32_t i = 0; st == OK && i < o->n_systems; i++) {
        struct system *s = &r->systems[i];
        st = system_parse(s, o->systems[i], o, e);
        for (uint32_t j = 0; st == OK && j < i; j++)
            if (strcmp(s->name, r->systems[j].name) == 0)
                st = err_set(e, E_INVALID,
                             "--system: two rows are called \"%s\"; name=TEXT names one", s->name);
        if (st == OK)
            r->n_systems = i + 1;
    }
    return st;
}

/* Those that cannot be used stay as rows that say why. */
static void meet(struct run *r)
{
    for (uint32_t i = 0; i < r->n_systems; i++) {
        struct system *s = &r->systems[i];
        struct system_row *row = &r->results->systems[i];
        struct err e = {0};
        snprintf(s->place, sizeof s->place, "%.900s/%u", r->place, i);
        if (s->driver->prepare(s, &e) != OK) {
            s->is_unusable = true;
            snprintf(row->note, sizeof row->note, "%s", e.msg);
            fprintf(stderr, "kvasir bench: %s: %s\n", s->name, e.msg);
        }
        snprintf(row->name, sizeof row->name, "%s", s->name);
        snprintf(row->driver, sizeof row->driver, "%s", s->driver->name);
        snprintf(row->version, sizeof row->version, "%s", s->version);
        row->is_dropped = s->is_unusable;
    }
    r->results->n_systems = r->n_systems;
}

static int measure(const struct options *o)
{
    struct err e = {0};
    struct run *r = mem_new(1, sizeof *r);
    struct results *results = mem_new(1, sizeof *results);
    char path[PLACE_PATH_BYTES];
    int code = DONE;
    r->options = o;
    r->results = results;
    r->context_tokens = -1;
    describe(o, results);
    enum status st = prepare(r, &e);
    if (st != OK) {
        code = complain(&e, WRONG_USAGE);
        goto out;
    }
    if (!o->is_plan)
        tell_found(o);
    st = place_make(NULL, "kvasir-bench", r->place, &e);
    if (st == OK)
        meet(r);
    if (st == OK && o->is_plan) {
        plan_print(stdout, r);
        goto out;
    }
    struct sigaction action = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (st == OK)
        st = o->mode == MODE_SIMULATE ? simulate(r, &e) : run_all(r, &e);
    snprintf(path, sizeof path, "%.1000s/results.json", o->out);
    code = st == OK ? show(path, o->out) : complain(&e, FAILED);
    if (code == DONE && atomic_load(&is_interrupted)) {
        fprintf(stderr, "kvasir bench: interrupted; what was measured is kept\n");
        code = FAILED;
    }
out:
    for (uint32_t i = 0; i < r->n_systems; i++)
        system_kill(&r->systems[i]);
    if (r->place[0])
        place_remove(r->place);
    arena_release(&r->tools.arena);
    results_release(results);
    mem_free(results);
    mem_free(r);
    return code;
}

int compare_main(int argc, char **argv, const char *program)
{
    if (argc == 1 && strcmp(argv[0], "mcp-server") == 0)
        return mcp_serve();
    struct err e = {0};
    struct options *o = mem_new(1, sizeof *o);
    o->program = program;
    int code;
    if (options_read(o, argc, argv, &e) != OK)
        code = complain(&e, WRONG_USAGE);
    else if (o->is_help)
        compare_help(stdout), code = DONE;
    else if (o->mode == MODE_REPORT)
        code = strchr(o->report, ',') ? show_several(o->report, o->out) : show(o->report, o->out);
    else if (o->mode == MODE_COMPUTE)
        code = compute(o);
    else
        code = measure(o);
    mem_free(o);
    return code;
}
