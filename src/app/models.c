/* SPDX-License-Identifier: MIT
 * models.c — which models are here, and which program this is. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "app/app_int.h"
#include "base/mem.h"
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
    jw_key(w, "name");
    jw_text(w, name);
    jw_key(w, "bytes");
    jw_int(w, (int64_t)bytes);
    jw_key(w, "where");
    jw_text(w, dir);
    jw_end_object(w);
}

int command_models(const struct config *c)
{
    char dir[FS_PATH_BYTES_MAX];
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
