/* SPDX-License-Identifier: MIT
 * gguf.c — opening, whole or split, and tensors by name.
 * A split model's parts are named PREFIX-00001-of-0000N.gguf; each carries split.no (from 0) and
 * split.count, the first also the metadata.  Keys of later parts are checked, then dropped. */
#include "gguf/gguf.h"

#include <stdio.h>
#include <sys/stat.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "gguf/gguf_int.h"
#include "os/fault.h"

#define SPLIT_SUFFIX_BYTES 20u /* "-00001-of-00003.gguf" */

/* ---- parts ---- */

static void part_release(struct part *p)
{
    const struct os_fs *fs = os_fs_real();
    if (p->is_mapped) {
        os_fault_guard_remove(p->bytes);
        fs->unmap(fs, p->bytes, p->size);
    }
    if (p->path)
        fs->close(&p->file);
    mem_free(p->path);
    *p = (struct part){0};
}

static enum status part_open(struct part *p, const char *path, struct err *e)
{
    const struct os_fs *fs = os_fs_real();
    struct stat info;
    size_t len = strlen(path);
    if (len >= FS_PATH_BYTES_MAX)
        return err_set(e, E_LIMIT, "path of %zu bytes (at most %d)", len, FS_PATH_BYTES_MAX - 1);
    /* Asked first: opening a FIFO would wait for its writer. */
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode))
        return err_set(e, E_INVALID, "%s: not a regular file", path);
    enum status st = fs->open(fs, path, FS_READ, &p->file, e);
    if (st != OK)
        return st;
    p->path = mem_text(path, len); /* from here on part_release closes the file */
    const char *slash = strrchr(p->path, '/');
    p->name = slash ? slash + 1 : p->path;
    st = fs->size(&p->file, &p->size, e);
    if (st != OK)
        return st;
    if (p->size == 0)
        return fail_at(p, E_SYNTAX, 0, e, "the file is empty");
    const void *bytes;
    st = fs->map(&p->file, p->size, &bytes, e);
    if (st != OK) {
        err_prefix(e, "%s", p->name);
        return st;
    }
    p->bytes = bytes;
    p->is_mapped = true;
    struct err unguarded; /* a file that is cut while it is used then ends the process */
    if (os_fault_guard_add(bytes, p->size, &unguarded) != OK)
        log_debug("gguf", "%s: %s", p->name, unguarded.msg);
    return OK;
}

/* ---- split files ---- */

struct split {
    uint64_t number, count, n_tensors;
    uint64_t number_pos, count_pos, n_tensors_pos; /* of the keys in the file; 0: not there */
};

static enum status read_number(const struct part *p, const struct key_table *keys, const char *key,
                               uint64_t *value, uint64_t *pos, struct err *e)
{
    bool found;
    uint32_t i = name_index_find(&keys->index, slice_of(key));
    *pos = i == UINT32_MAX ? 0 : keys->keys[i].pos;
    return table_get_u64(p, keys, key, value, &found, e);
}

static enum status read_split(const struct part *p, const struct key_table *keys, struct split *s,
                              struct err *e)
{
    *s = (struct split){.count = 1};
    enum status st = read_number(p, keys, "split.count", &s->count, &s->count_pos, e);
    if (st == OK)
        st = read_number(p, keys, "split.no", &s->number, &s->number_pos, e);
    if (st == OK)
        st = read_number(p, keys, "split.tensors.count", &s->n_tensors, &s->n_tensors_pos, e);
    if (st == OK && s->count > GGUF_PARTS_MAX)
        st = fail_at(p, E_LIMIT, s->count_pos, e, "split.count %llu (at most %u)",
                     (unsigned long long)s->count, GGUF_PARTS_MAX);
    if (s->count == 0) /* what gguf-split --merge leaves behind */
        s->count = 1;
    return st;
}

/* path of part i, made from the path of any part; false: the name does not follow the pattern. */
static bool part_path(const char *path, uint64_t i, uint64_t count, char out[FS_PATH_BYTES_MAX])
{
    size_t len = strlen(path);
    unsigned number, total;
    int used = 0;
    if (len <= SPLIT_SUFFIX_BYTES || len >= FS_PATH_BYTES_MAX)
        return false;
    const char *suffix = path + len - SPLIT_SUFFIX_BYTES;
    if (sscanf(suffix, "-%5u-of-%5u.gguf%n", &number, &total, &used) != 2 ||
        used != (int)SPLIT_SUFFIX_BYTES || total != count)
        return false;
    snprintf(out, FS_PATH_BYTES_MAX, "%.*s-%05llu-of-%05llu.gguf", (int)(len - SPLIT_SUFFIX_BYTES),
             path, (unsigned long long)i + 1, (unsigned long long)count);
    return true;
}

static const char *last_component(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Opens and parses part i, and holds its numbers against the first part's. */
static enum status open_next_part(struct gguf *g, uint32_t i, const struct split *first,
                                  struct err *e)
{
    char path[FS_PATH_BYTES_MAX];
    struct key_table keys = {0};
    struct split split;
    CHECK(part_path(g->parts[0].path, i, first->count, path));
    struct part *p = &g->parts[i];
    enum status st = part_open(p, path, e);
    if (st == OK)
        st = parse_part(g, i, &keys, e);
    if (st == OK)
        st = read_split(p, &keys, &split, e);
    if (st == OK && (split.count != first->count || split.number != i))
        st = fail_at(p, E_INVALID, split.number_pos, e,
                     "says it is part %llu of %llu, not %u of %llu",
                     (unsigned long long)split.number + 1, (unsigned long long)split.count, i + 1,
                     (unsigned long long)first->count);
    key_table_release(&keys);
    return st;
}

static enum status open_other_parts(struct gguf *g, const struct split *first, struct err *e)
{
    char path[FS_PATH_BYTES_MAX];
    const struct part *p = &g->parts[0];
    if (!p->path)
        return fail_at(p, E_UNSUPPORTED, first->count_pos, e,
                       "one part of a split model, from memory");
    if (!part_path(p->path, 0, first->count, path))
        return fail_at(p, E_INVALID, first->count_pos, e,
                       "part %llu of %llu must be named …-%05llu-of-%05llu.gguf",
                       (unsigned long long)first->number + 1, (unsigned long long)first->count,
                       (unsigned long long)first->number + 1, (unsigned long long)first->count);
    if (first->number != 0)
        return fail_at(p, E_INVALID, first->number_pos, e, "part %llu of %llu: open %.60s instead",
                       (unsigned long long)first->number + 1, (unsigned long long)first->count,
                       last_component(path));
    struct part *grown = mem_try_resize(g->parts, first->count, sizeof g->parts[0]);
    if (!grown)
        return err_set(e, E_NOMEM, "%llu parts", (unsigned long long)first->count);
    g->parts = grown;
    memset(grown + 1, 0, (first->count - 1) * sizeof grown[0]);
    g->n_parts = (uint32_t)first->count;
    for (uint32_t i = 1; i < g->n_parts; i++) {
        enum status st = open_next_part(g, i, first, e);
        if (st != OK)
            return st;
    }
    return OK;
}

/* ---- opening ---- */

static enum status index_tensors(struct gguf *g, struct err *e)
{
    uint32_t twin;
    enum status st =
        name_index_build(&g->tensor_index, g->tensors, sizeof g->tensors[0], g->n_tensors, &twin);
    if (st != OK)
        return err_set(e, st, "%s: index of %u tensors", g->parts[0].name, g->n_tensors);
    if (twin == UINT32_MAX)
        return OK;
    const struct tensor *t = &g->tensors[twin];
    return fail_at(&g->parts[t->part], E_SYNTAX, t->pos, e, "tensor \"%s\" is there twice",
                   show(t->pub.name).text);
}

/* Everything after the first part's bytes are at hand. */
static enum status parse_all(struct gguf *g, struct err *e)
{
    struct split split;
    enum status st = parse_part(g, 0, &g->keys, e);
    if (st == OK)
        st = read_split(&g->parts[0], &g->keys, &split, e);
    if (st == OK && split.count > 1)
        st = open_other_parts(g, &split, e);
    if (st == OK && split.count > 1 && split.n_tensors_pos > 0 && split.n_tensors != g->n_tensors)
        st = fail_at(&g->parts[0], E_INVALID, split.n_tensors_pos, e,
                     "split.tensors.count is %llu, the parts hold %u tensors",
                     (unsigned long long)split.n_tensors, g->n_tensors);
    return st == OK ? index_tensors(g, e) : st;
}

static struct gguf *gguf_new(void)
{
    struct gguf *g = mem_new(1, sizeof *g);
    g->parts = mem_new(1, sizeof g->parts[0]);
    g->n_parts = 1;
    return g;
}

enum status gguf_open(const char *path, struct gguf **out, struct err *e)
{
    struct gguf *g = gguf_new();
    enum status st = part_open(&g->parts[0], path, e);
    if (st == OK)
        st = parse_all(g, e);
    if (st != OK) {
        gguf_close(g);
        return st;
    }
    *out = g;
    return OK;
}

enum status gguf_open_memory(const void *bytes, size_t len, const char *name, struct gguf **out,
                             struct err *e)
{
    struct gguf *g = gguf_new();
    g->parts[0] = (struct part){.name = name, .bytes = bytes, .size = len};
    enum status st = parse_all(g, e);
    if (st != OK) {
        gguf_close(g);
        return st;
    }
    *out = g;
    return OK;
}

void gguf_close(struct gguf *g)
{
    if (!g)
        return;
    name_index_release(&g->tensor_index);
    mem_free(g->tensors);
    key_table_release(&g->keys);
    for (uint32_t i = 0; i < g->n_parts; i++)
        part_release(&g->parts[i]);
    mem_free(g->parts);
    mem_free(g);
}

/* ---- what is in it ---- */

const char *gguf_name(const struct gguf *g)
{
    return g->parts[0].name;
}

uint32_t gguf_tensor_count(const struct gguf *g)
{
    return g->n_tensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, uint32_t i)
{
    CHECK(i < g->n_tensors);
    return &g->tensors[i].pub;
}

const struct gguf_tensor *gguf_find_tensor(const struct gguf *g, const char *name)
{
    uint32_t i = name_index_find(&g->tensor_index, slice_of(name));
    return i == UINT32_MAX ? NULL : &g->tensors[i].pub;
}

/* Only bytes of a map: dropping a caller's own memory would zero it. */
void gguf_forget(const struct gguf *g, const void *data, uint64_t bytes)
{
    for (uint32_t i = 0; i < g->n_parts; i++) {
        const struct part *p = &g->parts[i];
        uintptr_t from = (uintptr_t)data - (uintptr_t)p->bytes;
        if (p->is_mapped && (uintptr_t)data >= (uintptr_t)p->bytes && from < p->size &&
            bytes <= p->size - from)
            os_map_advise(data, (size_t)bytes, MAP_ADVISE_DONTNEED);
    }
}

bool gguf_is_torn(const struct gguf *g)
{
    for (uint32_t i = 0; i < g->n_parts; i++)
        if (g->parts[i].is_mapped && os_fault_count_in(g->parts[i].bytes) > 0)
            return true;
    return false;
}

uint32_t gguf_part_count(const struct gguf *g)
{
    return g->parts[0].path ? g->n_parts : 0;
}

static int64_t ns_of(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

struct gguf_part gguf_part_at(const struct gguf *g, uint32_t i)
{
    CHECK(i < gguf_part_count(g));
    const struct part *p = &g->parts[i];
    struct stat info;
    CHECK(fstat(p->file.fd, &info) == 0); /* of a file that is open */
    return (struct gguf_part){
        .path = p->path,
        .device = (uint64_t)info.st_dev,
        .inode = (uint64_t)info.st_ino,
        .size = (uint64_t)info.st_size,
        .mtime_ns = ns_of(info.st_mtim),
        .ctime_ns = ns_of(info.st_ctim),
    };
}
