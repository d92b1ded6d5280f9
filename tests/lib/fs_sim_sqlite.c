/* SPDX-License-Identifier: MIT
 * fs_sim_sqlite.c — SQLite's files in the simulated file system: a VFS with the same durable and
 * visible bytes, the same faults and the same power switch.  One process, any number of
 * connections; shared memory of the write-ahead log is heap memory that dies with the power. */
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "fs_sim_int.h"

#define SHM_REGION_BYTES_MAX 65536

struct sim_sqlite {
    sqlite3_file base;
    struct fs_sim *sim;
    struct sim_file *file;
    char *path;
    bool is_temporary; /* SQLITE_OPEN_DELETEONCLOSE */
    bool sync_folder;  /* a new log: the first sync syncs its name too, as SQLite's own VFS does */
    int lock;          /* SQLITE_LOCK_* */
    bool has_shm;
    int shm_held[SIM_SHM_LOCKS]; /* 0, 1 shared, 2 exclusive */
};

static struct fs_sim *current;

static int rc_of(enum status st, int otherwise)
{
    return st == OK ? SQLITE_OK : st == E_FULL ? SQLITE_FULL : otherwise;
}

static struct sim_sqlite *sq(sqlite3_file *f)
{
    return (struct sim_sqlite *)f;
}

/* ---- bytes ---- */
static int sq_read(sqlite3_file *base, void *dst, int n, sqlite3_int64 offset)
{
    struct sim_sqlite *q = sq(base);
    pthread_mutex_lock(&q->sim->lock);
    enum status st = sim_gate(q->sim, FS_SIM_READ, NULL);
    uint64_t size = q->file->size, at = (uint64_t)offset;
    uint64_t have = at < size ? size - at : 0;
    if (have > (uint64_t)n)
        have = (uint64_t)n;
    if (st == OK) {
        memcpy(dst, q->file->live + at, (size_t)have);
        memset((char *)dst + have, 0, (size_t)n - (size_t)have);
    }
    pthread_mutex_unlock(&q->sim->lock);
    if (st != OK)
        return SQLITE_IOERR_READ;
    return have == (uint64_t)n ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}

static int sq_write(sqlite3_file *base, const void *src, int n, sqlite3_int64 offset)
{
    struct sim_sqlite *q = sq(base);
    pthread_mutex_lock(&q->sim->lock);
    enum status st = sim_write(q->sim, q->file, src, (size_t)n, (uint64_t)offset, NULL);
    pthread_mutex_unlock(&q->sim->lock);
    return rc_of(st, SQLITE_IOERR_WRITE);
}

static int sq_truncate(sqlite3_file *base, sqlite3_int64 size)
{
    struct sim_sqlite *q = sq(base);
    pthread_mutex_lock(&q->sim->lock);
    enum status st = sim_resize(q->sim, q->file, (uint64_t)size, NULL);
    pthread_mutex_unlock(&q->sim->lock);
    return rc_of(st, SQLITE_IOERR_TRUNCATE);
}

static enum status sync_folder_of(struct fs_sim *sim, const char *path)
{
    char folder[512];
    snprintf(folder, sizeof folder, "%s", path);
    *strrchr(folder, '/') = '\0';
    enum status st = sim_gate(sim, FS_SIM_NAME, NULL);
    if (st == OK)
        sim_sync_names(sim, folder);
    return st;
}

static int sq_sync(sqlite3_file *base, int flags)
{
    struct sim_sqlite *q = sq(base);
    (void)flags;
    pthread_mutex_lock(&q->sim->lock);
    enum status st = sim_sync(q->sim, q->file, NULL);
    if (st == OK && q->sync_folder) {
        st = sync_folder_of(q->sim, q->path);
        q->sync_folder = st != OK;
    }
    pthread_mutex_unlock(&q->sim->lock);
    return rc_of(st, SQLITE_IOERR_FSYNC);
}

static int sq_size(sqlite3_file *base, sqlite3_int64 *size)
{
    struct sim_sqlite *q = sq(base);
    pthread_mutex_lock(&q->sim->lock);
    *size = (sqlite3_int64)q->file->size;
    pthread_mutex_unlock(&q->sim->lock);
    return SQLITE_OK;
}

/* ---- locks ---- */
static void set_lock(struct sim_sqlite *q, int lock)
{
    struct sim_file *f = q->file;
    f->n_shared -= q->lock >= SQLITE_LOCK_SHARED;
    f->n_reserved -= q->lock >= SQLITE_LOCK_RESERVED;
    f->n_exclusive -= q->lock == SQLITE_LOCK_EXCLUSIVE;
    q->lock = lock;
    f->n_shared += lock >= SQLITE_LOCK_SHARED;
    f->n_reserved += lock >= SQLITE_LOCK_RESERVED;
    f->n_exclusive += lock == SQLITE_LOCK_EXCLUSIVE;
}

static bool may_lock(const struct sim_sqlite *q, int lock)
{
    const struct sim_file *f = q->file;
    int shared = f->n_shared - (q->lock >= SQLITE_LOCK_SHARED);
    int reserved = f->n_reserved - (q->lock >= SQLITE_LOCK_RESERVED);
    int exclusive = f->n_exclusive - (q->lock == SQLITE_LOCK_EXCLUSIVE);
    if (exclusive > 0)
        return false;
    if (lock == SQLITE_LOCK_SHARED)
        return true;
    return reserved == 0 && (lock < SQLITE_LOCK_EXCLUSIVE || shared == 0);
}

static int sq_lock(sqlite3_file *base, int lock)
{
    struct sim_sqlite *q = sq(base);
    int rc = SQLITE_OK;
    pthread_mutex_lock(&q->sim->lock);
    if (lock > q->lock) {
        if (may_lock(q, lock))
            set_lock(q, lock);
        else
            rc = SQLITE_BUSY;
    }
    pthread_mutex_unlock(&q->sim->lock);
    return rc;
}

static int sq_unlock(sqlite3_file *base, int lock)
{
    struct sim_sqlite *q = sq(base);
    pthread_mutex_lock(&q->sim->lock);
    if (lock < q->lock)
        set_lock(q, lock);
    pthread_mutex_unlock(&q->sim->lock);
    return SQLITE_OK;
}

static int sq_check_reserved(sqlite3_file *base, int *out)
{
    struct sim_sqlite *q = sq(base);
    pthread_mutex_lock(&q->sim->lock);
    *out = q->file->n_reserved > 0;
    pthread_mutex_unlock(&q->sim->lock);
    return SQLITE_OK;
}

/* ---- shared memory of the log ---- */
static int sq_shm_map(sqlite3_file *base, int region, int bytes, int extend, void volatile **out)
{
    struct sim_sqlite *q = sq(base);
    CHECK(bytes <= SHM_REGION_BYTES_MAX);
    if (region >= SIM_SHM_REGIONS_MAX)
        return SQLITE_IOERR_SHMSIZE;
    pthread_mutex_lock(&q->sim->lock);
    if (!q->file->shm[region] && extend)
        q->file->shm[region] = mem_new(1, SHM_REGION_BYTES_MAX);
    *out = q->file->shm[region];
    q->has_shm = true;
    pthread_mutex_unlock(&q->sim->lock);
    return SQLITE_OK;
}

static int sq_shm_lock(sqlite3_file *base, int first, int n, int flags)
{
    struct sim_sqlite *q = sq(base);
    bool exclusive = (flags & SQLITE_SHM_EXCLUSIVE) != 0;
    int rc = SQLITE_OK;
    pthread_mutex_lock(&q->sim->lock);
    struct sim_file *f = q->file;
    for (int i = first; i < first + n && (flags & SQLITE_SHM_LOCK); i++) {
        int others_shared = f->shm_shared[i] - (q->shm_held[i] == 1);
        int others_exclusive = f->shm_exclusive[i] - (q->shm_held[i] == 2);
        if (others_exclusive > 0 || (exclusive && others_shared > 0))
            rc = SQLITE_BUSY;
    }
    for (int i = first; i < first + n && rc == SQLITE_OK; i++) {
        f->shm_shared[i] -= q->shm_held[i] == 1;
        f->shm_exclusive[i] -= q->shm_held[i] == 2;
        q->shm_held[i] = !(flags & SQLITE_SHM_LOCK) ? 0 : exclusive ? 2 : 1;
        f->shm_shared[i] += q->shm_held[i] == 1;
        f->shm_exclusive[i] += q->shm_held[i] == 2;
    }
    pthread_mutex_unlock(&q->sim->lock);
    return rc;
}

static void sq_shm_barrier(sqlite3_file *base)
{
    struct sim_sqlite *q = sq(base);
    pthread_mutex_lock(&q->sim->lock);
    pthread_mutex_unlock(&q->sim->lock);
}

static int sq_shm_unmap(sqlite3_file *base, int is_delete)
{
    struct sim_sqlite *q = sq(base);
    sq_shm_lock(base, 0, SIM_SHM_LOCKS, SQLITE_SHM_UNLOCK);
    pthread_mutex_lock(&q->sim->lock);
    for (int i = 0; i < SIM_SHM_REGIONS_MAX && is_delete; i++) {
        mem_free(q->file->shm[i]);
        q->file->shm[i] = NULL;
    }
    pthread_mutex_unlock(&q->sim->lock);
    return SQLITE_OK;
}

/* ---- the rest ---- */
static int sq_control(sqlite3_file *base, int op, void *arg)
{
    (void)base;
    (void)op;
    (void)arg;
    return SQLITE_NOTFOUND;
}

static int sq_sector(sqlite3_file *base)
{
    (void)base;
    return 4096;
}

static int sq_traits(sqlite3_file *base)
{
    (void)base;
    return 0; /* no atomic writes, no power-safe overwrite */
}

static int sq_close(sqlite3_file *base)
{
    struct sim_sqlite *q = sq(base);
    if (q->has_shm)
        sq_shm_unmap(base, 0);
    pthread_mutex_lock(&q->sim->lock);
    set_lock(q, SQLITE_LOCK_NONE);
    if (q->is_temporary)
        (void)sim_unlink(q->sim, q->path, NULL);
    sim_drop(q->file);
    pthread_mutex_unlock(&q->sim->lock);
    mem_free(q->path);
    return SQLITE_OK;
}

static int vfs_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *base, int flags,
                    int *out_flags)
{
    static const sqlite3_io_methods methods = {
        .iVersion = 2,
        .xClose = sq_close,
        .xRead = sq_read,
        .xWrite = sq_write,
        .xTruncate = sq_truncate,
        .xSync = sq_sync,
        .xFileSize = sq_size,
        .xLock = sq_lock,
        .xUnlock = sq_unlock,
        .xCheckReservedLock = sq_check_reserved,
        .xFileControl = sq_control,
        .xSectorSize = sq_sector,
        .xDeviceCharacteristics = sq_traits,
        .xShmMap = sq_shm_map,
        .xShmLock = sq_shm_lock,
        .xShmBarrier = sq_shm_barrier,
        .xShmUnmap = sq_shm_unmap,
    };
    (void)vfs;
    static int n_temporary;
    struct sim_sqlite *q = sq(base);
    struct fs_sim *sim = current;
    char temporary[32];
    memset(q, 0, sizeof *q);
    if (!path) {
        snprintf(temporary, sizeof temporary, "/tmp/sqlite-%d", n_temporary++);
        path = temporary;
        flags |= SQLITE_OPEN_DELETEONCLOSE;
    }
    unsigned how = (flags & SQLITE_OPEN_READWRITE) ? FS_WRITE : FS_READ;
    if (flags & SQLITE_OPEN_CREATE)
        how |= FS_CREATE;
    pthread_mutex_lock(&sim->lock);
    enum status st = sim_open(sim, path, how, &q->file, NULL);
    pthread_mutex_unlock(&sim->lock);
    if (st != OK)
        return SQLITE_CANTOPEN;
    q->base.pMethods = &methods;
    q->sim = sim;
    q->path = mem_text(path, strlen(path));
    q->is_temporary = (flags & SQLITE_OPEN_DELETEONCLOSE) != 0;
    q->sync_folder = (flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL)) != 0;
    if (out_flags)
        *out_flags = flags;
    return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *path, int sync_dir)
{
    (void)vfs;
    struct fs_sim *sim = current;
    pthread_mutex_lock(&sim->lock);
    enum status st = sim_unlink(sim, path, NULL);
    if (st == OK && sync_dir)
        st = sync_folder_of(sim, path);
    pthread_mutex_unlock(&sim->lock);
    return st == E_NOT_FOUND ? SQLITE_IOERR_DELETE_NOENT : rc_of(st, SQLITE_IOERR_DELETE);
}

static int vfs_access(sqlite3_vfs *vfs, const char *path, int flags, int *out)
{
    (void)vfs;
    (void)flags;
    struct fs_sim *sim = current;
    pthread_mutex_lock(&sim->lock);
    const struct sim_file *f = sim_find(sim, path);
    /* As the real one: an empty file counts as none when a hot journal is looked for. */
    *out = f && (flags != SQLITE_ACCESS_EXISTS || f->size > 0);
    pthread_mutex_unlock(&sim->lock);
    return SQLITE_OK;
}

static int vfs_full_path(sqlite3_vfs *vfs, const char *path, int n, char *out)
{
    (void)vfs;
    snprintf(out, (size_t)n, "%s", path);
    return SQLITE_OK;
}

static int vfs_randomness(sqlite3_vfs *vfs, int n, char *out)
{
    (void)vfs;
    pthread_mutex_lock(&current->lock);
    for (int i = 0; i < n; i++)
        out[i] = (char)prng_next(&current->random);
    pthread_mutex_unlock(&current->lock);
    return n;
}

static int vfs_sleep(sqlite3_vfs *vfs, int us)
{
    (void)vfs;
    return us;
}

static int vfs_time(sqlite3_vfs *vfs, sqlite3_int64 *out)
{
    (void)vfs;
    *out = 210866760000000; /* 1 January 1970, in SQLite's reckoning */
    return SQLITE_OK;
}

static int vfs_time_days(sqlite3_vfs *vfs, double *out)
{
    (void)vfs;
    *out = 2440587.5;
    return SQLITE_OK;
}

static int vfs_last_error(sqlite3_vfs *vfs, int n, char *out)
{
    (void)vfs;
    (void)n;
    (void)out;
    return 0;
}

static sqlite3_vfs sim_vfs = {
    .iVersion = 2,
    .szOsFile = sizeof(struct sim_sqlite),
    .mxPathname = 512,
    .zName = "fs_sim",
    .xOpen = vfs_open,
    .xDelete = vfs_delete,
    .xAccess = vfs_access,
    .xFullPathname = vfs_full_path,
    .xRandomness = vfs_randomness,
    .xSleep = vfs_sleep,
    .xCurrentTime = vfs_time_days,
    .xGetLastError = vfs_last_error,
    .xCurrentTimeInt64 = vfs_time,
};

void fs_sim_use(struct fs_sim *sim)
{
    current = sim;
    if (!sim) {
        CHECK(sqlite3_vfs_register(sqlite3_vfs_find("unix"), 1) == SQLITE_OK);
        return;
    }
    CHECK(sqlite3_vfs_register(&sim_vfs, 1) == SQLITE_OK);
}

void fs_sim_forget_vfs(struct fs_sim *sim)
{
    if (current == sim)
        fs_sim_use(NULL);
}
