/* SPDX-License-Identifier: MIT
 * identity.c — who computed a page: the model's digest, the root of all chains.
 * Model identity = SHA-256 over every tensor (name, type, shape, digest of its bytes), sorted by
 * name, and the hyperparameters that the forward pass reads; so editing the chat template or
 * splitting the file keeps the cache.  Hashing 250 MB takes 0.2 s, so the result is remembered in
 * models.txt of the folder of side files (else of the store) under each part's (device, inode,
 * size, mtime, ctime), once these were equal before and after hashing and ctime is at least 2 s
 * old. A line: hex digest, "numerics=N", device:inode:size:mtime:ctime of each part, the first
 * one's path (side.c reads it too). */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/engine_int.h"
#include "os/fs.h"

#define PAGE_FORMAT_VERSION 1u
#define CTIME_SETTLED_NS    2000000000LL

static int by_name(const void *a, const void *b)
{
    const struct gguf_tensor *x = *(const struct gguf_tensor *const *)a;
    const struct gguf_tensor *y = *(const struct gguf_tensor *const *)b;
    size_t n = x->name.len < y->name.len ? x->name.len : y->name.len;
    int order = memcmp(x->name.ptr, y->name.ptr, n);
    return order ? order : (x->name.len > y->name.len) - (x->name.len < y->name.len);
}

struct hashing {
    struct team *team;
    const struct gguf_tensor **tensors;
    struct digest *digests;
    uint32_t count;
};

static void hash_tensors(void *arg, uint32_t worker, uint32_t n_workers)
{
    (void)worker;
    (void)n_workers;
    struct hashing *h = arg;
    struct digester d = {0};
    for (uint32_t i; (i = team_next(h->team, 1)) < h->count;) {
        digest_begin(&d);
        digest_bytes(&d, h->tensors[i]->data, h->tensors[i]->bytes);
        h->digests[i] = digest_end(&d);
    }
    digester_release(&d);
}

static struct digest combine(const struct model *m, const struct hashing *h)
{
    struct digester d = {0};
    digest_begin(&d);
    digest_u64(&d, "kvasir model tensors", h->count);
    for (uint32_t i = 0; i < h->count; i++) {
        const struct gguf_tensor *t = h->tensors[i];
        digest_field(&d, "name", t->name.ptr, t->name.len);
        digest_u64(&d, "type", (uint64_t)t->type);
        digest_field(&d, "shape", t->dims, sizeof t->dims);
        digest_field(&d, "data", h->digests[i].b, DIGEST_BYTES);
    }
    model_digest(m, &d);
    struct digest out = digest_end(&d);
    digester_release(&d);
    return out;
}

static enum status hash_model(struct engine *g, const struct model *m, struct digest *out,
                              struct err *e)
{
    struct hashing h = {.team = g->team, .count = gguf_tensor_count(g->gguf)};
    h.tensors = mem_try_new(h.count, sizeof *h.tensors);
    h.digests = mem_try_new(h.count, sizeof *h.digests);
    enum status st = OK;
    if (!h.tensors || !h.digests) {
        st = err_set(e, E_NOMEM, "no memory to hash the model");
        goto out;
    }
    for (uint32_t i = 0; i < h.count; i++)
        h.tensors[i] = gguf_tensor_at(g->gguf, i);
    qsort(h.tensors, h.count, sizeof *h.tensors, by_name);
    team_next_reset(g->team);
    team_run(g->team, hash_tensors, &h);
    *out = combine(m, &h);
    for (uint32_t i = 0; i < h.count; i++)
        gguf_forget(g->gguf, h.tensors[i]->data, h.tensors[i]->bytes);
out:
    mem_free(h.tensors);
    mem_free(h.digests);
    return st;
}

/* One text line for the file as it is now, without the digest. */
static char *file_line(const struct engine *g, bool *is_settled)
{
    struct buf b;
    buf_init(&b, IDENTITY_FILE_BYTES_MAX);
    int64_t now_ns = clock_unix_ms() * 1000000;
    *is_settled = gguf_part_count(g->gguf) > 0;
    buf_printf(&b, "numerics=%u", NUMERICS_VERSION); /* model_digest may change with it */
    for (uint32_t i = 0; i < gguf_part_count(g->gguf); i++) {
        struct gguf_part p = gguf_part_at(g->gguf, i);
        *is_settled = *is_settled && now_ns - p.ctime_ns >= CTIME_SETTLED_NS;
        buf_printf(&b, " %" PRIu64 ":%" PRIu64 ":%" PRIu64 ":%" PRId64 ":%" PRId64, p.device,
                   p.inode, p.size, p.mtime_ns, p.ctime_ns);
    }
    char *path = realpath(gguf_part_at(g->gguf, 0).path, NULL);
    *is_settled = *is_settled && path && !strchr(path, '\n');
    buf_printf(&b, " %s", path ? path : "");
    free(path);
    return buf_take(&b, NULL);
}

static bool find_line(const char *text, const char *line, struct digest *out)
{
    size_t len = strlen(line);
    for (const char *at = text; at && *at;) {
        const char *end = strchr(at, '\n');
        size_t n = end ? (size_t)(end - at) : strlen(at);
        if (n == len + 1 + 2 * DIGEST_BYTES && memcmp(at + 2 * DIGEST_BYTES + 1, line, len) == 0 &&
            digest_from_hex(out, at, 2 * DIGEST_BYTES))
            return true;
        at = end ? end + 1 : NULL;
    }
    return false;
}

static void add_line(const char *dir, const char *path, const char *old, const char *line,
                     const struct digest *d)
{
    char hex[DIGEST_HEX_BYTES];
    digest_hex(d, hex);
    struct buf b;
    struct err ignored;
    buf_init(&b, IDENTITY_FILE_BYTES_MAX);
    buf_printf(&b, "%s %s\n", hex, line);
    buf_add_text(&b, old ? old : "");
    if (b.failed) { /* too many models came by: start over */
        buf_clear(&b);
        buf_printf(&b, "%s %s\n", hex, line);
    }
    if (fs_make_dirs(os_fs_real(), dir, &ignored) != OK ||
        fs_write_file(os_fs_real(), path, b.ptr, b.len, &ignored) != OK)
        log_info("engine", "cannot remember the model's digest: %s", ignored.msg);
    buf_release(&b);
}

enum status identity_of_model(struct engine *g, const struct model *m, struct digest *out,
                              struct err *e)
{
    const char *dir = g->side.dir ? g->side.dir : home_dir(g->home);
    bool is_read_only = !g->side.dir && home_is_read_only(g->home);
    if (!dir || gguf_part_count(g->gguf) == 0)
        return hash_model(g, m, out, e);
    char path[FS_PATH_BYTES_MAX];
    snprintf(path, sizeof path, "%s/" IDENTITY_FILE, dir);
    struct err ignored;
    char *text = NULL;
    size_t text_len;
    bool was_settled, is_settled;
    char *before = file_line(g, &was_settled);
    if (fs_read_file(os_fs_real(), path, IDENTITY_FILE_BYTES_MAX, &text, &text_len, &ignored) != OK)
        text = NULL;
    enum status st = OK;
    if (!text || !find_line(text, before, out)) {
        st = hash_model(g, m, out, e);
        char *after = file_line(g, &is_settled);
        if (st == OK && was_settled && is_settled && strcmp(before, after) == 0 && !is_read_only)
            add_line(dir, path, text, before, out);
        mem_free(after);
    }
    mem_free(before);
    mem_free(text);
    return st;
}

struct digest identity_root(const struct engine *g)
{
    struct digester d = {0};
    digest_begin(&d);
    digest_u64(&d, "kvasir root format", PAGE_FORMAT_VERSION);
    digest_field(&d, "model", g->info.model_identity.b, DIGEST_BYTES);
    digest_u64(&d, "kv type", (uint64_t)g->options.kv_type);
    digest_u64(&d, "page tokens", KV_PAGE_TOKENS);
    digest_field(&d, "numerics class", "cpu", 3);
    digest_u64(&d, "numerics version", NUMERICS_VERSION);
    digest_u64(&d, "activations", (uint64_t)g->options.activations);
    struct digest out = digest_end(&d);
    digester_release(&d);
    return out;
}
