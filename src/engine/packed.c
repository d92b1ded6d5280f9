/* SPDX-License-Identifier: MIT
 * packed.c — side files of repacked weights: the format, opening, publishing, listing.
 *
 *   0    magic "kvasirpk"        8    version u32        12   n_chunks u32
 *   16   payload bytes u64       24   head bytes u64     32   made, unix seconds i64
 *   40   key [32]                72   identity [32]      104  model's name [64], NUL-padded
 *   168  n_chunks × checksum of PACKED_CHUNK_BYTES of the payload (the last one of what is left)
 *        checksum of all before; zeros up to head bytes; payload
 *
 * All of it is verified at open, by all workers: the first token reads every weight anyway, and a
 * gigabyte takes 50 ms on one core, far less than packing it.  Lazy checks would put a branch into
 * every step for the sake of bytes that are needed at once. */
#include "engine/packed.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/check.h"
#include "base/checksum.h"
#include "base/endian.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/prng.h"
#include "os/fault.h"

#define MAGIC          "kvasirpk"
#define FORMAT_VERSION 1u
#define FIXED_BYTES    168u
#define SUM_BYTES      16u
#define PAGE_BYTES     4096u
#define ENDING         ".packed"
#define PART_ENDING    ".part" /* being written; locked by its writer */
#define LIST_MAX       1024u
#define NAME_BYTES     128u

static uint64_t ns_of(struct timespec t)
{
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t chunks_of(uint64_t payload_bytes)
{
    return (payload_bytes + PACKED_CHUNK_BYTES - 1) / PACKED_CHUNK_BYTES;
}

static uint64_t head_bytes_of(uint64_t n_chunks)
{
    uint64_t bytes = FIXED_BYTES + (n_chunks + 1) * SUM_BYTES;
    return (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

static struct checksum get_sum(const uint8_t *p)
{
    return (struct checksum){get_le64(p), get_le64(p + 8)};
}

static void put_sum(uint8_t *p, struct checksum sum)
{
    put_le64(p, sum.low);
    put_le64(p + 8, sum.high);
}

enum status packed_parse(const uint8_t *bytes, size_t len, uint64_t file_bytes,
                         struct packed_head *out, struct err *e)
{
    if (len < FIXED_BYTES || memcmp(bytes, MAGIC, 8) != 0)
        return err_set(e, E_CORRUPT, "no file of repacked weights");
    if (get_le32(bytes + 8) != FORMAT_VERSION)
        return err_set(e, E_UNSUPPORTED, "version %u of the format", get_le32(bytes + 8));
    *out = (struct packed_head){
        .payload_bytes = get_le64(bytes + 16),
        .head_bytes = get_le64(bytes + 24),
        .made_unix_s = (int64_t)get_le64(bytes + 32),
        .n_chunks = get_le32(bytes + 12),
    };
    if (out->payload_bytes == 0 || out->payload_bytes > PACKED_BYTES_MAX ||
        out->n_chunks != chunks_of(out->payload_bytes) ||
        out->head_bytes != head_bytes_of(out->n_chunks))
        return err_set(e, E_CORRUPT, "sizes that do not fit each other");
    if (file_bytes != out->head_bytes + out->payload_bytes || len < out->head_bytes)
        return err_set(e, E_CORRUPT, "%" PRIu64 " bytes where there should be %" PRIu64, file_bytes,
                       out->head_bytes + out->payload_bytes);
    size_t summed = FIXED_BYTES + (size_t)out->n_chunks * SUM_BYTES;
    if (!checksum_equal(checksum_of(bytes, summed), get_sum(bytes + summed)))
        return err_set(e, E_CORRUPT, "the head's checksum");
    memcpy(out->key.b, bytes + 40, DIGEST_BYTES);
    memcpy(out->identity.b, bytes + 72, DIGEST_BYTES);
    memcpy(out->model, bytes + 104, PACKED_NAME_MAX - 1);
    return OK;
}

static enum status path_of(const char *dir, const struct digest *key, char *path, struct err *e)
{
    char hex[DIGEST_HEX_BYTES];
    digest_hex(key, hex);
    int n = snprintf(path, FS_PATH_BYTES_MAX, "%s/%s" ENDING, dir, hex);
    return n > 0 && n < FS_PATH_BYTES_MAX ? OK : err_set(e, E_LIMIT, "%s: path too long", dir);
}

/* ---- opening ---- */

struct verifying {
    struct team *team;
    const uint8_t *payload, *sums;
    uint64_t bytes;
    uint32_t n_chunks;
    atomic_uint n_bad;
};

static uint64_t chunk_len(uint64_t bytes, uint32_t chunk)
{
    uint64_t at = (uint64_t)chunk * PACKED_CHUNK_BYTES;
    return bytes - at < PACKED_CHUNK_BYTES ? bytes - at : PACKED_CHUNK_BYTES;
}

static void verify_chunks(void *arg, uint32_t worker, uint32_t n_workers)
{
    (void)worker, (void)n_workers;
    struct verifying *v = arg;
    for (uint32_t i; (i = team_next(v->team, 1)) < v->n_chunks;) {
        const uint8_t *p = v->payload + (uint64_t)i * PACKED_CHUNK_BYTES;
        size_t len = (size_t)chunk_len(v->bytes, i);
        struct err ignored;
        enum status st = os_map_populate(p, len, &ignored); /* without it: page by page, below */
        if ((st != OK && st != E_UNSUPPORTED) ||
            !checksum_equal(checksum_of(p, len), get_sum(v->sums + (size_t)i * SUM_BYTES)))
            atomic_fetch_add(&v->n_bad, 1);
    }
}

static enum status check_map(const struct packed_map *m, const struct digest *key,
                             uint64_t payload_bytes, struct team *team, struct packed_head *head,
                             struct err *e)
{
    enum status st = packed_parse(m->map, (size_t)m->map_bytes, m->map_bytes, head, e);
    if (st == OK && (!digest_equal(&head->key, key) || head->payload_bytes != payload_bytes))
        st = err_set(e, E_CORRUPT, "it holds other weights");
    if (st != OK)
        return st;
    struct verifying v = {.team = team,
                          .payload = (const uint8_t *)m->map + head->head_bytes,
                          .sums = (const uint8_t *)m->map + FIXED_BYTES,
                          .bytes = payload_bytes,
                          .n_chunks = head->n_chunks};
    team_next_reset(team);
    team_run(team, verify_chunks, &v);
    uint32_t n_bad = atomic_load(&v.n_bad);
    if (n_bad > 0)
        return err_set(e, E_CORRUPT, "%u of %u checksums", n_bad, head->n_chunks);
    return OK;
}

enum status packed_open(const struct os_fs *fs, const char *dir, const struct digest *key,
                        uint64_t payload_bytes, struct team *team, struct packed_map *out,
                        struct err *e)
{
    char path[FS_PATH_BYTES_MAX];
    struct packed_map m = {0};
    struct packed_head head;
    struct os_file f = {0};
    enum status st = path_of(dir, key, path, e);
    if (st == OK)
        st = fs->open(fs, path, FS_READ, &f, e);
    if (st != OK)
        return st;
    st = fs->size(&f, &m.map_bytes, e);
    if (st == OK && m.map_bytes < FIXED_BYTES)
        st = err_set(e, E_CORRUPT, "%" PRIu64 " bytes", m.map_bytes);
    if (st == OK)
        st = fs->map(&f, m.map_bytes, &m.map, e);
    if (st == OK) /* without a slot for the guard a cut file would end the process */
        st = os_fault_guard_add(m.map, m.map_bytes, e);
    if (st == OK)
        st = check_map(&m, key, payload_bytes, team, &head, e);
    fs->close(&f);
    if (st != OK) {
        packed_close(fs, &m);
        return st;
    }
    m.payload = (const uint8_t *)m.map + head.head_bytes;
    *out = m;
    return OK;
}

void packed_close(const struct os_fs *fs, struct packed_map *m)
{
    if (m->map) {
        os_fault_guard_remove(m->map);
        fs->unmap(fs, m->map, m->map_bytes);
    }
    *m = (struct packed_map){0};
}

/* ---- publishing ---- */

static bool has_ending(const char *name, const char *ending)
{
    size_t n = strlen(name), k = strlen(ending);
    return n > k && strcmp(name + n - k, ending) == 0;
}

struct folder {
    const char *ending;
    char names[LIST_MAX][NAME_BYTES];
    uint32_t n;
};

static enum status take_name(const char *name, void *arg)
{
    struct folder *f = arg;
    if (f->n < ARRAY_COUNT(f->names) && has_ending(name, f->ending) && strlen(name) < NAME_BYTES)
        memcpy(f->names[f->n++], name, strlen(name) + 1);
    return OK;
}

/* NULL: why is in e. */
static struct folder *list_folder(const struct os_fs *fs, const char *dir, const char *ending,
                                  struct err *e)
{
    struct folder *f = mem_try_new(1, sizeof *f);
    if (!f) {
        err_set(e, E_NOMEM, "%s: no memory for its names", dir);
        return NULL;
    }
    f->ending = ending;
    enum status st = fs->list(fs, dir, take_name, f, e);
    if (st != OK && st != E_NOT_FOUND) {
        mem_free(f);
        return NULL;
    }
    return f;
}

/* Files of writers that are no more: their lock is free. */
static void remove_leftovers(const struct os_fs *fs, const char *dir)
{
    struct err ignored;
    struct folder *folder = list_folder(fs, dir, PART_ENDING, &ignored);
    for (uint32_t i = 0; folder && i < folder->n; i++) {
        char path[FS_PATH_BYTES_MAX];
        struct os_file f;
        int n = snprintf(path, sizeof path, "%s/%s", dir, folder->names[i]);
        if (n < 0 || n >= (int)sizeof path || fs->open(fs, path, FS_WRITE, &f, &ignored) != OK)
            continue;
        if (fs->lock(&f, &ignored) == OK)
            (void)fs->unlink(fs, path, &ignored);
        fs->close(&f);
    }
    mem_free(folder);
}

struct packed_making {
    const struct os_fs *fs;
    struct os_file file; /* locked */
    uint8_t *map;
    uint64_t payload_bytes, head_bytes;
    uint32_t n_chunks;
    char dir[FS_PATH_BYTES_MAX];
    char part[FS_PATH_BYTES_MAX + 32];
};

static enum status open_part(struct packed_making *k, struct packed_map *map, struct err *e)
{
    const struct os_fs *fs = k->fs;
    void *at = NULL;
    uint64_t bytes = k->head_bytes + k->payload_bytes;
    enum status st = fs->open(fs, k->part, FS_WRITE | FS_CREATE | FS_EXCL, &k->file, e);
    if (st != OK)
        return st;
    st = fs->lock(&k->file, e);
    if (st == OK)
        st = fs->allocate(&k->file, bytes, e);
    if (st == OK)
        st = fs->map_writable(&k->file, bytes, &at, e);
    if (st ==
        OK) { /* where space cannot be reserved, a full disk is met in the middle of a write */
        st = os_fault_guard_add_writable(at, bytes, e);
        if (st != OK)
            fs->unmap(fs, at, bytes);
    }
    if (st != OK) {
        (void)fs->unlink(fs, k->part, NULL); /* the first error is the one to report */
        fs->close(&k->file);
        return st;
    }
    k->map = at;
    *map = (struct packed_map){k->map + k->head_bytes, at, bytes};
    return OK;
}

enum status packed_begin(const struct os_fs *fs, const char *dir, uint64_t payload_bytes,
                         struct packed_map *map, struct packed_making **out, struct err *e)
{
    uint64_t random;
    CHECK(payload_bytes > 0 && payload_bytes <= PACKED_BYTES_MAX);
    if (strlen(dir) >= FS_PATH_BYTES_MAX)
        return err_set(e, E_LIMIT, "%s: path too long", dir);
    enum status st = fs_make_dirs(fs, dir, e);
    if (st != OK)
        return st;
    struct packed_making *k = mem_try_new(1, sizeof *k);
    if (!k)
        return err_set(e, E_NOMEM, "no memory for a new side file");
    remove_leftovers(fs, dir);
    prng_entropy(&random, sizeof random);
    k->fs = fs;
    k->payload_bytes = payload_bytes;
    k->n_chunks = (uint32_t)chunks_of(payload_bytes);
    k->head_bytes = head_bytes_of(k->n_chunks);
    memcpy(k->dir, dir, strlen(dir) + 1);
    snprintf(k->part, sizeof k->part, "%s/%016" PRIx64 PART_ENDING, dir, random);
    st = open_part(k, map, e);
    if (st == OK)
        *out = k;
    else
        mem_free(k);
    return st;
}

static void put_head(const struct packed_making *k, const struct packed_head *head)
{
    uint8_t *bytes = k->map;
    const uint8_t *payload = k->map + k->head_bytes;
    memcpy(bytes, MAGIC, 8);
    put_le32(bytes + 8, FORMAT_VERSION);
    put_le32(bytes + 12, k->n_chunks);
    put_le64(bytes + 16, k->payload_bytes);
    put_le64(bytes + 24, k->head_bytes);
    put_le64(bytes + 32, (uint64_t)head->made_unix_s);
    memcpy(bytes + 40, head->key.b, DIGEST_BYTES);
    memcpy(bytes + 72, head->identity.b, DIGEST_BYTES);
    memcpy(bytes + 104, head->model, strnlen(head->model, PACKED_NAME_MAX - 1));
    for (uint32_t i = 0; i < k->n_chunks; i++)
        put_sum(bytes + FIXED_BYTES + (size_t)i * SUM_BYTES,
                checksum_of(payload + (uint64_t)i * PACKED_CHUNK_BYTES,
                            (size_t)chunk_len(k->payload_bytes, i)));
    size_t summed = FIXED_BYTES + (size_t)k->n_chunks * SUM_BYTES;
    put_sum(bytes + summed, checksum_of(bytes, summed));
}

/* Is what was written what lies in the file? */
static enum status check_whole(const struct packed_making *k, struct err *e)
{
    uint64_t bytes;
    enum status st = k->fs->size(&k->file, &bytes, e);
    if (st == OK && bytes != k->head_bytes + k->payload_bytes)
        st = err_set(e, E_CORRUPT, "it was cut while it was made");
    if (st == OK && os_fault_count_in(k->map) > 0)
        st = err_set(e, E_FULL, "no space for some of its pages");
    return st;
}

enum status packed_finish(struct packed_making *k, const struct packed_head *head, struct err *e)
{
    const struct os_fs *fs = k->fs;
    char path[FS_PATH_BYTES_MAX];
    enum status st = path_of(k->dir, &head->key, path, e);
    CHECK(head->payload_bytes == k->payload_bytes);
    if (st == OK) {
        put_head(k, head);
        st = fs->full_sync(&k->file, e);
    }
    if (st == OK)
        st = check_whole(k, e);
    if (st == OK)
        st = fs->rename(fs, k->part, path, e);
    if (st == OK)
        st = fs->sync_dir(fs, k->dir, e);
    else
        (void)fs->unlink(fs, k->part, NULL); /* the first error is the one to report */
    fs->close(&k->file);
    mem_free(k);
    return st;
}

void packed_abandon(struct packed_making *k)
{
    if (!k)
        return;
    (void)k->fs->unlink(k->fs, k->part, NULL);
    k->fs->close(&k->file);
    mem_free(k);
}

/* ---- looking after them ---- */

static bool read_head(const struct os_fs *fs, const char *path, uint64_t *bytes,
                      struct packed_head *head)
{
    struct os_file f;
    struct err ignored;
    uint8_t fixed[FIXED_BYTES];
    size_t n = 0;
    bool ok = false;
    *bytes = 0;
    if (fs->open(fs, path, FS_READ, &f, &ignored) != OK)
        return false;
    if (fs->size(&f, bytes, &ignored) == OK &&
        fs->read_at(&f, fixed, sizeof fixed, 0, &n, &ignored) == OK && n == sizeof fixed) {
        uint64_t head_bytes = get_le64(fixed + 24);
        uint8_t *all = head_bytes >= FIXED_BYTES && head_bytes <= *bytes
                           ? mem_try_new((size_t)head_bytes, 1)
                           : NULL;
        ok = all && fs->read_at(&f, all, (size_t)head_bytes, 0, &n, &ignored) == OK &&
             packed_parse(all, n, *bytes, head, &ignored) == OK;
        mem_free(all);
    }
    fs->close(&f);
    return ok;
}

enum status packed_each(const struct os_fs *fs, const char *dir,
                        void (*each)(void *arg, const char *name, uint64_t bytes,
                                     const struct packed_head *head),
                        void *arg, struct err *e)
{
    static const char *const endings[] = {ENDING, PART_ENDING};
    for (size_t k = 0; k < ARRAY_COUNT(endings); k++) {
        struct folder *folder = list_folder(fs, dir, endings[k], e);
        if (!folder)
            return e->code;
        for (uint32_t i = 0; i < folder->n; i++) {
            char path[FS_PATH_BYTES_MAX];
            struct packed_head head;
            uint64_t bytes;
            int n = snprintf(path, sizeof path, "%s/%s", dir, folder->names[i]);
            if (n < 0 || n >= (int)sizeof path)
                continue;
            bool ok = read_head(fs, path, &bytes, &head) && k == 0;
            each(arg, folder->names[i], bytes, ok ? &head : NULL);
        }
        mem_free(folder);
    }
    return OK;
}

/* A line of IDENTITY_FILE about this identity: its first part as it was, and its path. */
static bool read_line(const char *line, size_t len, const struct digest *identity, char *path,
                      uint64_t was[5])
{
    struct digest d;
    int used = 0;
    char text[512];
    size_t head = 2 * DIGEST_BYTES;
    if (len <= head || !digest_from_hex(&d, line, head) || !digest_equal(&d, identity))
        return false;
    snprintf(text, sizeof text, "%.*s", (int)(len - head < 500 ? len - head : 500), line + head);
    if (sscanf(text, " numerics=%*u %" SCNu64 ":%" SCNu64 ":%" SCNu64 ":%" SCNu64 ":%" SCNu64 "%n",
               &was[0], &was[1], &was[2], &was[3], &was[4], &used) != 5)
        return false;
    const char *at = memmem(line, len, " /", 2); /* nothing before the path has a slash */
    size_t n = at ? len - (size_t)(at + 1 - line) : 0;
    if (n == 0 || n >= FS_PATH_BYTES_MAX)
        return false;
    memcpy(path, at + 1, n);
    path[n] = '\0';
    return true;
}

enum packed_origin packed_origin(const struct os_fs *fs, const char *dir,
                                 const struct packed_head *head, char *path)
{
    char name[FS_PATH_BYTES_MAX], one[FS_PATH_BYTES_MAX];
    char *text = NULL;
    size_t len;
    struct err ignored;
    enum packed_origin origin = PACKED_GONE;
    path[0] = '\0';
    snprintf(name, sizeof name, "%s/" IDENTITY_FILE, dir);
    if (fs_read_file(fs, name, IDENTITY_FILE_BYTES_MAX, &text, &len, &ignored) != OK)
        return origin;
    for (const char *at = text; *at && origin != PACKED_CURRENT;) {
        const char *end = strchr(at, '\n');
        size_t n = end ? (size_t)(end - at) : strlen(at);
        uint64_t was[5];
        struct stat now;
        if (read_line(at, n, &head->identity, one, was)) {
            bool is_there = stat(one, &now) == 0;
            bool is_same = is_there && now.st_dev == was[0] && now.st_ino == was[1] &&
                           (uint64_t)now.st_size == was[2] && ns_of(now.st_mtim) == was[3] &&
                           ns_of(now.st_ctim) == was[4];
            if (is_same || origin == PACKED_GONE)
                memcpy(path, one, strlen(one) + 1);
            origin = is_same ? PACKED_CURRENT : is_there ? PACKED_CHANGED : origin;
        }
        at += n + (end != NULL);
    }
    mem_free(text);
    return origin;
}

enum status packed_remove(const struct os_fs *fs, const char *dir, const char *name, struct err *e)
{
    char path[FS_PATH_BYTES_MAX];
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (n < 0 || n >= (int)sizeof path)
        return err_set(e, E_LIMIT, "%s: path too long", name);
    return fs->unlink(fs, path, e);
}
