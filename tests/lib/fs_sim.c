/* SPDX-License-Identifier: MIT
 * fs_sim.c — the simulated file system.  See fs_sim.h for what it promises. */
#include "fs_sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/check.h"
#include "base/mem.h"
#include "fs_sim_int.h"

/* ---- files ---- */
static void *reserve(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    CHECK(p != MAP_FAILED);
    return p;
}

static struct sim_file *file_new(void)
{
    struct sim_file *f = mem_new(1, sizeof *f);
    f->live = reserve(FS_SIM_FILE_BYTES_MAX);
    f->durable = reserve(FS_SIM_FILE_BYTES_MAX);
    f->dirty = reserve(SIM_SECTORS_MAX);
    f->holds = 1;
    return f;
}

void sim_drop(struct sim_file *f)
{
    if (--f->holds > 0)
        return;
    munmap(f->live, FS_SIM_FILE_BYTES_MAX);
    munmap(f->durable, FS_SIM_FILE_BYTES_MAX);
    munmap(f->dirty, SIM_SECTORS_MAX);
    for (int i = 0; i < SIM_SHM_REGIONS_MAX; i++)
        mem_free(f->shm[i]);
    mem_free(f);
}

/* ---- names ---- */
static char *copy_text(const char *text)
{
    return mem_text(text, strlen(text));
}

static struct sim_name *names_find(const struct sim_names *names, const char *path)
{
    for (uint32_t i = 0; i < names->n; i++)
        if (strcmp(names->at[i].path, path) == 0)
            return &names->at[i];
    return NULL;
}

static void names_remove(struct sim_names *names, const char *path)
{
    struct sim_name *name = names_find(names, path);
    if (!name)
        return;
    mem_free(name->path);
    sim_drop(name->file);
    *name = names->at[--names->n];
}

static void names_put(struct sim_names *names, const char *path, struct sim_file *file)
{
    file->holds++;
    names_remove(names, path);
    CHECK(names->n < FS_SIM_FILES_MAX);
    names->at[names->n++] = (struct sim_name){copy_text(path), file};
}

static void names_release(struct sim_names *names)
{
    while (names->n > 0)
        names_remove(names, names->at[0].path);
    mem_free(names->at);
}

static void names_apply(struct sim_names *names, const struct sim_rename *change)
{
    if (!change->from) {
        names_put(names, change->to, change->file);
    } else if (!change->to) {
        names_remove(names, change->from);
    } else if (names_find(names, change->from)) {
        names_put(names, change->to, names_find(names, change->from)->file);
        names_remove(names, change->from);
    }
}

static void pending_add(struct fs_sim *sim, const char *from, const char *to, struct sim_file *file)
{
    if (sim->n_pending == sim->pending_cap) {
        sim->pending_cap = sim->pending_cap ? sim->pending_cap * 2 : 16;
        sim->pending = mem_resize(sim->pending, sim->pending_cap, sizeof *sim->pending);
    }
    if (file)
        file->holds++;
    sim->pending[sim->n_pending++] =
        (struct sim_rename){from ? copy_text(from) : NULL, to ? copy_text(to) : NULL, file};
}

static void pending_free(struct sim_rename *change)
{
    mem_free(change->from);
    mem_free(change->to);
    if (change->file)
        sim_drop(change->file);
}

static bool is_in(const char *path, const char *folder)
{
    size_t n = strlen(folder);
    return strncmp(path, folder, n) == 0 && path[n] == '/' && !strchr(path + n + 1, '/');
}

void sim_sync_names(struct fs_sim *sim, const char *folder)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < sim->n_pending; i++) {
        struct sim_rename *change = &sim->pending[i];
        if (is_in(change->to ? change->to : change->from, folder)) {
            names_apply(&sim->durable, change);
            pending_free(change);
        } else {
            sim->pending[kept++] = *change;
        }
    }
    sim->n_pending = kept;
}

struct sim_file *sim_find(struct fs_sim *sim, const char *path)
{
    struct sim_name *name = names_find(&sim->live, path);
    return name ? name->file : NULL;
}

/* ---- faults ---- */
static unsigned bit_index(unsigned op)
{
    return (unsigned)__builtin_ctz(op);
}

enum status sim_gate(struct fs_sim *sim, enum fs_sim_op op, struct err *e)
{
    if (sim->is_off)
        return err_set(e, E_IO, "simulated: the power is off");
    sim->counts[bit_index(op)]++;
    if (sim->is_power_limited && (op & FS_SIM_CHANGES)) {
        if (sim->changes_left == 0) {
            sim->is_off = true;
            return err_set(e, E_IO, "simulated: the power is off");
        }
        sim->changes_left--;
    }
    if ((op & sim->fail_mask) && sim->fail_times > 0) {
        if (sim->fail_after > 0) {
            sim->fail_after--;
        } else {
            sim->fail_times--;
            return err_set(e, sim->fail_status, "simulated: %s", status_text(sim->fail_status));
        }
    }
    return OK;
}

/* ---- the calls, under the lock ---- */
enum status sim_open(struct fs_sim *sim, const char *path, unsigned flags, struct sim_file **out,
                     struct err *e)
{
    struct sim_file *f = sim_find(sim, path);
    bool is_new = !f && (flags & FS_CREATE);
    enum status st = sim_gate(sim, is_new ? FS_SIM_NAME : FS_SIM_OPEN, e);
    if (st != OK)
        return st;
    if (f && (flags & FS_EXCL))
        return err_set(e, E_EXISTS, "simulated: %s exists", path);
    if (!f && !is_new)
        return err_set(e, E_NOT_FOUND, "simulated: no %s", path);
    if (is_new) {
        f = file_new();
        names_put(&sim->live, path, f);
        pending_add(sim, NULL, path, f);
        sim_drop(f);
    }
    f->holds++;
    *out = f;
    return OK;
}

static uint64_t used_bytes(const struct fs_sim *sim)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < sim->live.n; i++)
        n += sim->live.at[i].file->size;
    return n;
}

static enum status grow(struct fs_sim *sim, struct sim_file *f, uint64_t size, struct err *e)
{
    if (size <= f->size)
        return OK;
    if (size > FS_SIM_FILE_BYTES_MAX)
        return err_set(e, E_FULL, "simulated: a file of %llu bytes", (unsigned long long)size);
    if (sim->capacity && used_bytes(sim) + size - f->size > sim->capacity)
        return err_set(e, E_FULL, "simulated: the disk is full");
    f->size = size;
    return OK;
}

static void tell(const struct fs_sim *sim, const struct sim_file *f, enum fs_sim_op op)
{
    for (uint32_t i = 0; i < sim->live.n && sim->watch; i++)
        if (sim->live.at[i].file == f)
            sim->watch(sim->live.at[i].path, op, sim->watch_arg);
}

static enum status put_bytes(struct fs_sim *sim, struct sim_file *f, const void *src, size_t n,
                             uint64_t offset, struct err *e)
{
    enum status st = n > 0 ? grow(sim, f, offset + n, e) : OK;
    if (st != OK || n == 0)
        return st;
    memcpy(f->live + offset, src, n);
    for (uint64_t i = offset / SIM_SECTOR; i <= (offset + n - 1) / SIM_SECTOR; i++)
        f->dirty[i] = 1;
    return OK;
}

enum status sim_write(struct fs_sim *sim, struct sim_file *f, const void *src, size_t n,
                      uint64_t offset, struct err *e)
{
    enum status st = sim_gate(sim, FS_SIM_WRITE, e);
    if (st != OK && !sim->is_off) /* a short write, and then the error */
        (void)put_bytes(sim, f, src, (size_t)prng_below(&sim->random, n + 1), offset, NULL);
    if (st == OK)
        st = put_bytes(sim, f, src, n, offset, e);
    if (st == OK)
        tell(sim, f, FS_SIM_WRITE);
    return st;
}

void fs_sim_watch(struct fs_sim *sim, void (*watch)(const char *path, enum fs_sim_op op, void *arg),
                  void *arg)
{
    pthread_mutex_lock(&sim->lock);
    sim->watch = watch;
    sim->watch_arg = arg;
    pthread_mutex_unlock(&sim->lock);
}

enum status sim_resize(struct fs_sim *sim, struct sim_file *f, uint64_t size, struct err *e)
{
    enum status st = sim_gate(sim, FS_SIM_ALLOCATE, e);
    if (st != OK)
        return st;
    if (size < f->size) {
        memset(f->live + size, 0, (size_t)(f->size - size));
        for (uint64_t i = size / SIM_SECTOR; i <= (f->size - 1) / SIM_SECTOR; i++)
            f->dirty[i] = 1;
        f->size = size;
        return OK;
    }
    return grow(sim, f, size, e);
}

/* Writes of a failed sync are forgotten, as by the kernel: visible, clean, and not on the disk. */
enum status sim_sync(struct fs_sim *sim, struct sim_file *f, struct err *e)
{
    enum status st = sim_gate(sim, FS_SIM_SYNC, e);
    uint64_t n = (f->size + SIM_SECTOR - 1) / SIM_SECTOR;
    if (st == OK) {
        for (uint64_t i = 0; i < n; i++)
            if (f->dirty[i])
                memcpy(f->durable + i * SIM_SECTOR, f->live + i * SIM_SECTOR, SIM_SECTOR);
        f->durable_size = f->size;
        tell(sim, f, FS_SIM_SYNC);
    }
    if (st == OK || !sim->is_off)
        memset(f->dirty, 0, SIM_SECTORS_MAX);
    return st;
}

enum status sim_unlink(struct fs_sim *sim, const char *path, struct err *e)
{
    enum status st = sim_gate(sim, FS_SIM_NAME, e);
    if (st != OK)
        return st;
    if (!sim_find(sim, path))
        return err_set(e, E_NOT_FOUND, "simulated: no %s", path);
    pending_add(sim, path, NULL, NULL);
    names_remove(&sim->live, path);
    return OK;
}

/* ---- the table ---- */
#define LOCKED(sim, call)               \
    pthread_mutex_lock(&(sim)->lock);   \
    enum status st = (call);            \
    pthread_mutex_unlock(&(sim)->lock); \
    return st

static struct sim_handle *handle_of(const struct os_file *f)
{
    return f->state;
}

static enum status fs_open(const struct os_fs *fs, const char *path, unsigned flags,
                           struct os_file *out, struct err *e)
{
    struct fs_sim *sim = fs->ctx;
    struct sim_file *f = NULL;
    pthread_mutex_lock(&sim->lock);
    enum status st = sim_open(sim, path, flags, &f, e);
    pthread_mutex_unlock(&sim->lock);
    if (st != OK)
        return st;
    struct sim_handle *h = mem_new(1, sizeof *h);
    *h = (struct sim_handle){sim, f, false, (flags & FS_WRITE) != 0};
    *out = (struct os_file){fs, -1, h};
    return OK;
}

static void fs_close(struct os_file *f)
{
    struct sim_handle *h = handle_of(f);
    if (h) {
        pthread_mutex_lock(&h->sim->lock);
        if (h->has_lock)
            h->file->is_locked = false;
        sim_drop(h->file);
        pthread_mutex_unlock(&h->sim->lock);
        mem_free(h);
    }
    *f = (struct os_file){.fd = -1};
}

static enum status read_locked(struct sim_handle *h, void *dst, size_t n, uint64_t offset,
                               size_t *n_read, struct err *e)
{
    *n_read = 0;
    enum status st = sim_gate(h->sim, FS_SIM_READ, e);
    if (st != OK || offset >= h->file->size)
        return st;
    *n_read = n < h->file->size - offset ? n : (size_t)(h->file->size - offset);
    memcpy(dst, h->file->live + offset, *n_read);
    return OK;
}

static enum status fs_read_at(const struct os_file *f, void *dst, size_t n, uint64_t offset,
                              size_t *n_read, struct err *e)
{
    struct sim_handle *h = handle_of(f);
    LOCKED(h->sim, read_locked(h, dst, n, offset, n_read, e));
}

static enum status fs_write_at(const struct os_file *f, const void *src, size_t n, uint64_t offset,
                               struct err *e)
{
    struct sim_handle *h = handle_of(f);
    CHECK(h->can_write);
    LOCKED(h->sim, sim_write(h->sim, h->file, src, n, offset, e));
}

static enum status fs_size(const struct os_file *f, uint64_t *bytes, struct err *e)
{
    struct sim_handle *h = handle_of(f);
    pthread_mutex_lock(&h->sim->lock);
    enum status st = sim_gate(h->sim, FS_SIM_READ, e);
    *bytes = h->file->size;
    pthread_mutex_unlock(&h->sim->lock);
    return st;
}

static enum status allocate_locked(struct sim_handle *h, uint64_t bytes, struct err *e)
{
    return sim_resize(h->sim, h->file, bytes > h->file->size ? bytes : h->file->size, e);
}

static enum status fs_allocate(const struct os_file *f, uint64_t bytes, struct err *e)
{
    struct sim_handle *h = handle_of(f);
    LOCKED(h->sim, allocate_locked(h, bytes, e));
}

static enum status fs_sync(const struct os_file *f, struct err *e)
{
    struct sim_handle *h = handle_of(f);
    LOCKED(h->sim, sim_sync(h->sim, h->file, e));
}

static enum status sync_dir_locked(struct fs_sim *sim, const char *path, struct err *e)
{
    enum status st = sim_gate(sim, FS_SIM_NAME, e);
    if (st == OK)
        sim_sync_names(sim, path);
    return st;
}

static enum status fs_sync_dir(const struct os_fs *fs, const char *path, struct err *e)
{
    struct fs_sim *sim = fs->ctx;
    LOCKED(sim, sync_dir_locked(sim, path, e));
}

/* Folders are always there. */
static enum status fs_make_dir(const struct os_fs *fs, const char *path, struct err *e)
{
    struct fs_sim *sim = fs->ctx;
    (void)path;
    LOCKED(sim, sim_gate(sim, FS_SIM_NAME, e));
}

static enum status rename_locked(struct fs_sim *sim, const char *from, const char *to,
                                 struct err *e)
{
    enum status st = sim_gate(sim, FS_SIM_NAME, e);
    if (st != OK)
        return st;
    struct sim_file *f = sim_find(sim, from);
    if (!f)
        return err_set(e, E_NOT_FOUND, "simulated: no %s", from);
    pending_add(sim, from, to, NULL);
    names_put(&sim->live, to, f);
    names_remove(&sim->live, from);
    return OK;
}

static enum status fs_rename(const struct os_fs *fs, const char *from, const char *to,
                             struct err *e)
{
    struct fs_sim *sim = fs->ctx;
    LOCKED(sim, rename_locked(sim, from, to, e));
}

static enum status fs_unlink(const struct os_fs *fs, const char *path, struct err *e)
{
    struct fs_sim *sim = fs->ctx;
    LOCKED(sim, sim_unlink(sim, path, e));
}

static enum status fs_list(const struct os_fs *fs, const char *path,
                           enum status (*each)(const char *name, void *arg), void *arg,
                           struct err *e)
{
    struct fs_sim *sim = fs->ctx;
    char *found[FS_SIM_FILES_MAX];
    uint32_t n = 0;
    pthread_mutex_lock(&sim->lock);
    enum status st = sim_gate(sim, FS_SIM_READ, e);
    for (uint32_t i = 0; i < sim->live.n && st == OK; i++)
        if (is_in(sim->live.at[i].path, path))
            found[n++] = copy_text(sim->live.at[i].path + strlen(path) + 1);
    pthread_mutex_unlock(&sim->lock);
    for (uint32_t i = 0; i < n; i++) { /* each() may unlink */
        if (st == OK)
            st = each(found[i], arg);
        mem_free(found[i]);
    }
    return st;
}

static enum status fs_map(const struct os_file *f, uint64_t bytes, const void **p, struct err *e)
{
    struct sim_handle *h = handle_of(f);
    if (bytes > FS_SIM_FILE_BYTES_MAX)
        return err_set(e, E_LIMIT, "simulated: a map of %llu bytes", (unsigned long long)bytes);
    pthread_mutex_lock(&h->sim->lock);
    enum status st = sim_gate(h->sim, FS_SIM_MAP, e);
    if (st == OK) {
        CHECK(h->sim->n_maps < FS_SIM_FILES_MAX);
        *p = h->file->live;
        h->file->holds++;
        h->sim->maps[h->sim->n_maps++] = h->file;
    }
    pthread_mutex_unlock(&h->sim->lock);
    return st;
}

/* Writes through it can't be seen, so all of it counts as written; of a sync the packed weights
 * need but one. */
static enum status fs_map_writable(const struct os_file *f, uint64_t bytes, void **p, struct err *e)
{
    struct sim_handle *h = handle_of(f);
    const void *at = NULL;
    CHECK(h->can_write && bytes <= h->file->size);
    enum status st = fs_map(f, bytes, &at, e);
    if (st != OK)
        return st;
    pthread_mutex_lock(&h->sim->lock);
    memset(h->file->dirty, 1, (size_t)((bytes + SIM_SECTOR - 1) / SIM_SECTOR));
    pthread_mutex_unlock(&h->sim->lock);
    *p = (void *)(uintptr_t)at;
    return OK;
}

/* A mapped file may have lost its name: maps are found in a list of their own. */
static struct sim_file *take_map(struct fs_sim *sim, const void *p)
{
    for (uint32_t i = 0; i < sim->n_maps; i++) {
        struct sim_file *f = sim->maps[i];
        if (f->live == p) {
            sim->maps[i] = sim->maps[--sim->n_maps];
            return f;
        }
    }
    check_failed(__FILE__, __LINE__, "a map of this simulation");
}

static void fs_unmap(const struct os_fs *fs, const void *p, uint64_t bytes)
{
    struct fs_sim *sim = fs->ctx;
    (void)bytes;
    pthread_mutex_lock(&sim->lock);
    sim_drop(take_map(sim, p));
    pthread_mutex_unlock(&sim->lock);
}

static enum status lock_locked(struct sim_handle *h, struct err *e)
{
    if (h->file->is_locked && !h->has_lock)
        return err_set(e, E_BUSY, "simulated: locked");
    h->file->is_locked = h->has_lock = true;
    return OK;
}

static enum status fs_lock(const struct os_file *f, struct err *e)
{
    struct sim_handle *h = handle_of(f);
    LOCKED(h->sim, lock_locked(h, e));
}

static enum status fs_free_bytes(const struct os_fs *fs, const char *path, uint64_t *free_bytes,
                                 uint64_t *total, struct err *e)
{
    struct fs_sim *sim = fs->ctx;
    (void)path;
    (void)e;
    pthread_mutex_lock(&sim->lock);
    uint64_t used = used_bytes(sim);
    *total = sim->capacity ? sim->capacity : 1ull << 40;
    *free_bytes = *total > used ? *total - used : 0;
    pthread_mutex_unlock(&sim->lock);
    return OK;
}

/* ---- the simulation ---- */
struct fs_sim *fs_sim_new(uint64_t seed)
{
    struct fs_sim *sim = mem_new(1, sizeof *sim);
    sim->fs = (struct os_fs){
        .ctx = sim,
        .open = fs_open,
        .close = fs_close,
        .read_at = fs_read_at,
        .write_at = fs_write_at,
        .size = fs_size,
        .allocate = fs_allocate,
        .data_sync = fs_sync,
        .full_sync = fs_sync,
        .sync_dir = fs_sync_dir,
        .make_dir = fs_make_dir,
        .rename = fs_rename,
        .unlink = fs_unlink,
        .list = fs_list,
        .map = fs_map,
        .map_writable = fs_map_writable,
        .unmap = fs_unmap,
        .lock = fs_lock,
        .free_bytes = fs_free_bytes,
    };
    pthread_mutex_init(&sim->lock, NULL);
    sim->random.seed = seed;
    sim->live.at = mem_new(FS_SIM_FILES_MAX, sizeof *sim->live.at);
    sim->durable.at = mem_new(FS_SIM_FILES_MAX, sizeof *sim->durable.at);
    return sim;
}

void fs_sim_free(struct fs_sim *sim)
{
    if (!sim)
        return;
    fs_sim_forget_vfs(sim);
    names_release(&sim->live);
    names_release(&sim->durable);
    for (uint32_t i = 0; i < sim->n_pending; i++)
        pending_free(&sim->pending[i]);
    mem_free(sim->pending);
    pthread_mutex_destroy(&sim->lock);
    mem_free(sim);
}

const struct os_fs *fs_sim_fs(struct fs_sim *sim)
{
    return &sim->fs;
}

uint64_t fs_sim_count(struct fs_sim *sim, unsigned mask)
{
    uint64_t n = 0;
    pthread_mutex_lock(&sim->lock);
    for (unsigned i = 0; i < 7; i++)
        if (mask & 1u << i)
            n += sim->counts[i];
    pthread_mutex_unlock(&sim->lock);
    return n;
}

void fs_sim_fail(struct fs_sim *sim, unsigned mask, uint64_t n, uint64_t times, enum status st)
{
    pthread_mutex_lock(&sim->lock);
    sim->fail_mask = mask;
    sim->fail_after = n;
    sim->fail_times = times;
    sim->fail_status = st;
    pthread_mutex_unlock(&sim->lock);
}

void fs_sim_power_off_at(struct fs_sim *sim, uint64_t n)
{
    pthread_mutex_lock(&sim->lock);
    sim->is_power_limited = true;
    sim->changes_left = n;
    pthread_mutex_unlock(&sim->lock);
}

void fs_sim_capacity(struct fs_sim *sim, uint64_t bytes)
{
    pthread_mutex_lock(&sim->lock);
    sim->capacity = bytes;
    pthread_mutex_unlock(&sim->lock);
}

/* ---- power loss ---- */
enum fate { FATE_ALL, FATE_NONE, FATE_WRITES, FATE_SECTORS, FATE_GARBAGE, FATE_COUNT };

/* What becomes of one run of sectors that was not synced. */
static bool survives(struct prng *r, enum fate fate)
{
    return fate == FATE_ALL || (fate != FATE_NONE && prng_below(r, 2) == 0);
}

static struct sim_file *file_after(const struct sim_file *old, struct prng *r)
{
    struct sim_file *f = file_new();
    enum fate fate = (enum fate)prng_below(r, FATE_COUNT);
    bool has_grown = survives(r, fate);
    f->size = has_grown ? old->size : old->durable_size;
    memcpy(f->live, old->durable,
           (size_t)(old->durable_size < f->size ? old->durable_size : f->size));
    uint64_t n = (f->size + SIM_SECTOR - 1) / SIM_SECTOR;
    bool is_kept = survives(r, fate);
    for (uint64_t i = 0; i < n; i++) {
        /* FATE_WRITES decides by 4 KiB, the others by sector. */
        if (fate != FATE_WRITES || i % 8 == 0)
            is_kept = survives(r, fate);
        if (!old->dirty[i])
            continue;
        uint8_t *sector = f->live + i * SIM_SECTOR;
        if (is_kept)
            memcpy(sector, old->live + i * SIM_SECTOR, SIM_SECTOR);
        else if (fate == FATE_GARBAGE && prng_below(r, 4) == 0)
            for (uint32_t k = 0; k < SIM_SECTOR; k++)
                sector[k] = (uint8_t)prng_next(r);
    }
    memset(f->live + f->size, 0, (size_t)((n * SIM_SECTOR) - f->size));
    memcpy(f->durable, f->live, (size_t)f->size);
    f->durable_size = f->size;
    return f;
}

struct fs_sim *fs_sim_lose_power(struct fs_sim *sim, uint64_t seed)
{
    struct fs_sim *after = fs_sim_new(seed);
    struct prng *r = &after->random;
    struct sim_names names = {mem_new(FS_SIM_FILES_MAX, sizeof *names.at), 0};
    pthread_mutex_lock(&sim->lock);
    for (uint32_t i = 0; i < sim->durable.n; i++)
        names_put(&names, sim->durable.at[i].path, sim->durable.at[i].file);
    enum fate fate = (enum fate)prng_below(r, FATE_COUNT);
    for (uint32_t i = 0; i < sim->n_pending; i++)
        if (survives(r, fate))
            names_apply(&names, &sim->pending[i]);
    for (uint32_t i = 0; i < names.n; i++) {
        struct sim_file *f = file_after(names.at[i].file, r);
        names_put(&after->live, names.at[i].path, f);
        names_put(&after->durable, names.at[i].path, f);
        sim_drop(f);
    }
    names_release(&names);
    pthread_mutex_unlock(&sim->lock);
    return after;
}

bool fs_sim_flip(struct fs_sim *sim, const char *path, uint64_t offset, unsigned bit)
{
    pthread_mutex_lock(&sim->lock);
    struct sim_file *f = sim_find(sim, path);
    bool is_there = f && offset < f->size;
    if (is_there) {
        f->live[offset] ^= (uint8_t)(1u << bit);
        f->durable[offset] ^= (uint8_t)(1u << bit);
    }
    pthread_mutex_unlock(&sim->lock);
    return is_there;
}

uint64_t fs_sim_file_bytes(struct fs_sim *sim, const char *path)
{
    pthread_mutex_lock(&sim->lock);
    struct sim_file *f = sim_find(sim, path);
    uint64_t n = f ? f->size : 0;
    pthread_mutex_unlock(&sim->lock);
    return n;
}

void fs_sim_each_file(struct fs_sim *sim,
                      void (*each)(const char *path, const uint8_t *bytes, uint64_t size,
                                   void *arg),
                      void *arg)
{
    for (uint32_t i = 0; i < sim->live.n; i++)
        each(sim->live.at[i].path, sim->live.at[i].file->live, sim->live.at[i].file->size, arg);
}
