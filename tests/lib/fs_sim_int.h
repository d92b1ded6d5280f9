/* SPDX-License-Identifier: MIT
 * fs_sim_int.h — inner door of the simulation, for its SQLite half. */
#ifndef KVASIR_TESTS_FS_SIM_INT_H
#define KVASIR_TESTS_FS_SIM_INT_H

#include <pthread.h>

#include "base/prng.h"
#include "fs_sim.h"

#define SIM_SECTOR          512u
#define SIM_SECTORS_MAX     (FS_SIM_FILE_BYTES_MAX / SIM_SECTOR)
#define SIM_SHM_REGIONS_MAX 8
#define SIM_SHM_LOCKS       8

struct sim_file {     /* what a name points to */
    uint8_t *live;    /* [FS_SIM_FILE_BYTES_MAX], sparse: the page cache */
    uint8_t *durable; /* likewise: the disk */
    uint8_t *dirty;   /* [SIM_SECTORS_MAX]: written since the last good sync */
    uint64_t size, durable_size;
    uint32_t holds; /* names, open files, maps */
    bool is_locked; /* OFD lock */
    /* SQLite's: */
    int n_shared, n_reserved, n_exclusive;
    void *shm[SIM_SHM_REGIONS_MAX];
    int shm_shared[SIM_SHM_LOCKS], shm_exclusive[SIM_SHM_LOCKS];
};

struct sim_name {
    char *path;
    struct sim_file *file;
};

struct sim_names {
    struct sim_name *at;
    uint32_t n;
};

struct sim_rename { /* a change of names that no folder sync has made durable */
    char *from;     /* NULL: a creation */
    char *to;       /* NULL: an unlink */
    struct sim_file *file;
};

struct fs_sim {
    struct os_fs fs;
    pthread_mutex_t lock;
    struct prng random;
    struct sim_names live, durable;
    struct sim_rename *pending;
    uint32_t n_pending, pending_cap;
    uint64_t counts[8];
    bool is_off, is_power_limited;
    uint64_t changes_left;
    unsigned fail_mask;
    uint64_t fail_after, fail_times;
    enum status fail_status;
    uint64_t capacity;
    void (*watch)(const char *path, enum fs_sim_op op, void *arg);
    void *watch_arg;
    struct sim_file *maps[FS_SIM_FILES_MAX];
    uint32_t n_maps;
};

struct sim_handle {
    struct fs_sim *sim;
    struct sim_file *file;
    bool has_lock, can_write;
};

/* All of these under the lock. */
struct sim_file *sim_find(struct fs_sim *sim, const char *path);
enum status sim_open(struct fs_sim *sim, const char *path, unsigned flags, struct sim_file **out,
                     struct err *e);
enum status sim_gate(struct fs_sim *sim, enum fs_sim_op op, struct err *e);
enum status sim_write(struct fs_sim *sim, struct sim_file *f, const void *src, size_t n,
                      uint64_t offset, struct err *e);
enum status sim_resize(struct fs_sim *sim, struct sim_file *f, uint64_t size, struct err *e);
enum status sim_sync(struct fs_sim *sim, struct sim_file *f, struct err *e);
enum status sim_unlink(struct fs_sim *sim, const char *path, struct err *e);
void sim_sync_names(struct fs_sim *sim, const char *folder);
void sim_drop(struct sim_file *f);
void fs_sim_forget_vfs(struct fs_sim *sim);

#endif
