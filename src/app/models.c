/* SPDX-License-Identifier: MIT
 * models.c — which models are here, and which program this is. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "app/app_int.h"
#include "base/mem.h"
#include "engine/packed.h"
#include "os/clock.h"
#include "os/fs.h"

#define MODELS_MAX 4096

struct names {
    char *list[MODELS_MAX];
    size_t count;
};

static enum status take_name(const char *name, void *arg)
{
    struct names *n = arg;
    size_t len = strlen(name);
    if (len > 5 && strcmp(name + len - 5, ".gguf") == 0 && n->count < MODELS_MAX)
        n->list[n->count++] = mem_text(name, len);
    return OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static uint64_t size_of(const char *dir, const char *name)
{
    char path[FS_PATH_BYTES_MAX];
    struct os_file f;
    uint64_t bytes = 0;
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= sizeof path ||
        os_fs_real()->open(os_fs_real(), path, FS_READ, &f, NULL) != OK)
        return 0;
    if (os_fs_real()->size(&f, &bytes, NULL) != OK)
        bytes = 0;
    os_fs_real()->close(&f);
    return bytes;
}

static void print_model(struct json_writer *w, const char *name, const char *dir, uint64_t bytes)
{
    if (!w) {
        printf("%-44s %8.1f MB  %s\n", name, (double)bytes * 1e-6, dir);
        return;
    }
    jw_begin_object(w);
    jw_key(w, "kind");
    jw_text(w, "model");
    jw_key(w, "name");
    jw_text(w, name);
    jw_key(w, "bytes");
    jw_int(w, (int64_t)bytes);
    jw_key(w, "where");
    jw_text(w, dir);
    jw_end_object(w);
}

/* ---- side files ---- */

#define SHORT_NAME 12 /* digits of a side file's name that people see, and may type */

static const char *const origin_names[] = {
    [PACKED_CURRENT] = "current", [PACKED_CHANGED] = "changed", [PACKED_GONE] = "gone"};

static void print_age(int64_t made_unix_s)
{
    int64_t s = clock_unix_s() - made_unix_s;
    if (s < 0)
        s = 0;
    if (s < 3600)
        printf("%5lld min", (long long)s / 60);
    else if (s < 48 * 3600)
        printf("%5lld h  ", (long long)s / 3600);
    else
        printf("%5lld d  ", (long long)s / 86400);
}

struct sides {
    const char *dir;
    struct json_writer *w; /* NULL: a table */
    uint32_t n;
    uint64_t bytes;
};

static void print_side(void *arg, const char *name, uint64_t bytes, const struct packed_head *head)
{
    struct sides *s = arg;
    char path[FS_PATH_BYTES_MAX] = "";
    enum packed_origin origin =
        head ? packed_origin(os_fs_real(), s->dir, head, path) : PACKED_GONE;
    if (!s->w) {
        if (s->n == 0)
            printf("\nrepacked weights in %s:\n", s->dir);
        printf("%.*s  %-30.30s %8.1f MB ", SHORT_NAME, name, head ? head->model : "",
               (double)bytes * 1e-6);
        print_age(head ? head->made_unix_s : clock_unix_s());
        if (!head)
            printf("  stale: damaged or never finished\n");
        else if (origin == PACKED_CURRENT)
            printf("  of %s\n", path);
        else if (origin == PACKED_CHANGED)
            printf("  stale: %s has changed\n", path);
        else
            printf("  stale: its model is gone%s%s\n", path[0] ? ", " : "", path);
    } else {
        jw_begin_object(s->w);
        jw_key(s->w, "kind");
        jw_text(s->w, "packed");
        jw_key(s->w, "name");
        jw_text(s->w, name);
        jw_key(s->w, "bytes");
        jw_int(s->w, (int64_t)bytes);
        jw_key(s->w, "where");
        jw_text(s->w, s->dir);
        jw_key(s->w, "state");
        jw_text(s->w, head ? origin_names[origin] : "damaged");
        if (head) {
            jw_key(s->w, "model");
            jw_text(s->w, head->model);
            jw_key(s->w, "path");
            jw_text(s->w, path);
            jw_key(s->w, "made");
            jw_int(s->w, head->made_unix_s);
        }
        jw_end_object(s->w);
    }
    s->n++;
    s->bytes += bytes;
}

struct removal {
    const char *dir;
    const struct config *c; /* arguments[0] is "rm" or "prune" */
    bool *is_met;           /* [n_arguments]: some side file has that name */
    uint64_t n, bytes;
    enum status st;
    struct err err;
};

static bool is_named(const char *word, const char *name, const struct packed_head *head,
                     const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t len = strlen(word);
    return strcmp(word, name) == 0 || (len >= SHORT_NAME && strncmp(word, name, len) == 0) ||
           (head && strcmp(word, head->model) == 0) ||
           (path[0] && (strcmp(word, path) == 0 || strcmp(word, slash + 1) == 0));
}

static void remove_side(void *arg, const char *name, uint64_t bytes, const struct packed_head *head)
{
    struct removal *r = arg;
    char path[FS_PATH_BYTES_MAX] = "";
    enum packed_origin origin =
        head ? packed_origin(os_fs_real(), r->dir, head, path) : PACKED_GONE;
    bool is_chosen = strcmp(r->c->arguments[0], "prune") == 0 && origin != PACKED_CURRENT;
    for (uint32_t i = 1; i < r->c->n_arguments; i++) {
        if (!is_named(r->c->arguments[i], name, head, path))
            continue;
        is_chosen = r->is_met[i] = true;
    }
    if (!is_chosen || r->st != OK)
        return;
    r->st = packed_remove(os_fs_real(), r->dir, name, &r->err);
    if (r->st == OK) {
        r->n++;
        r->bytes += bytes;
    }
}

static int remove_sides(const struct config *c, const char *dir)
{
    bool is_prune = strcmp(c->arguments[0], "prune") == 0;
    if ((!is_prune && strcmp(c->arguments[0], "rm") != 0) || is_prune != (c->n_arguments == 1)) {
        complain("want \"models\", \"models rm NAME …\" or \"models prune\"");
        return EXIT_USAGE;
    }
    struct removal r = {.dir = dir, .c = c, .is_met = mem_new(c->n_arguments, sizeof(bool))};
    enum status st = dir[0] ? packed_each(os_fs_real(), dir, remove_side, &r, &r.err) : OK;
    int code = st == OK && r.st == OK ? EXIT_DONE : complain_err(&r.err);
    for (uint32_t i = 1; i < c->n_arguments; i++) {
        if (r.is_met[i] || code != EXIT_DONE)
            continue;
        complain("%s: no side file of that name or model (kvasir models lists them)",
                 c->arguments[i]);
        code = EXIT_FAILED;
    }
    if (code == EXIT_DONE)
        printf("%llu removed, %.1f MB\n", (unsigned long long)r.n, (double)r.bytes * 1e-6);
    mem_free(r.is_met);
    return code;
}

int command_models(const struct config *c)
{
    char dir[FS_PATH_BYTES_MAX], packed_dir[FS_PATH_BYTES_MAX];
    config_packed_dir(packed_dir, sizeof packed_dir);
    if (c->n_arguments > 0)
        return remove_sides(c, packed_dir);
    struct names *names = mem_new(1, sizeof *names);
    struct err e = {0};
    struct buf out;
    struct json_writer w;
    bool is_json = c->values[OPTION_JSON].number != 0;
    config_models_dir(dir, sizeof dir);
    enum status st = dir[0] ? os_fs_real()->list(os_fs_real(), dir, take_name, names, &e) : OK;
    if (st == E_NOT_FOUND)
        st = OK; /* nothing was fetched yet */
    qsort(names->list, names->count, sizeof names->list[0], by_name);
    buf_init(&out, 16u << 20);
    jw_init(&w, &out);
    if (is_json)
        jw_begin_array(&w);
    print_model(is_json ? &w : NULL, "skald", "embedded", embedded_model().len);
    for (size_t i = 0; i < names->count; i++) {
        print_model(is_json ? &w : NULL, names->list[i], dir, size_of(dir, names->list[i]));
        mem_free(names->list[i]);
    }
    mem_free(names);
    struct sides sides = {.dir = packed_dir, .w = is_json ? &w : NULL};
    if (st == OK && packed_dir[0])
        st = packed_each(os_fs_real(), packed_dir, print_side, &sides, &e);
    if (is_json) {
        jw_end_array(&w);
        jsonl_put(&out);
    }
    buf_release(&out);
    return st == OK ? EXIT_DONE : complain_err(&e);
}

int command_version(const struct config *c)
{
    (void)c;
    printf("kvasir %s\n", KVASIR_VERSION);
    return EXIT_DONE;
}
