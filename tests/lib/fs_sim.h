/* SPDX-License-Identifier: MIT
 * fs_sim.h — a file system in memory that loses power, fills up and fails, by seed.
 * What a program sees is the page cache.  What survives is kept apart: bytes written are durable
 * after a sync of their file, names after a sync of their folder, and nothing else is promised.
 * fs_sim_lose_power() makes the disk that a machine could find afterwards: each unsynced sector is
 * new, old or garbage, each unsynced growth and each unsynced name change is there or not.
 * A failed sync is the real one's: the bytes stay visible and will never become durable.  A failed
 * write leaves a part of its bytes.
 * Maps point to the bytes themselves, so they see later writes as shared maps do.
 * SQLite works on it too: fs_sim_use() makes it SQLite's default VFS (fs_sim_sqlite.c).
 * Thread: all calls; one lock a simulation. */
#ifndef KVASIR_TESTS_FS_SIM_H
#define KVASIR_TESTS_FS_SIM_H

#include "os/fs.h"

#define FS_SIM_FILE_BYTES_MAX (32u << 20)
#define FS_SIM_FILES_MAX      256

struct fs_sim;

enum fs_sim_op {
    FS_SIM_OPEN = 1, /* creating ones count as FS_SIM_NAME */
    FS_SIM_READ = 2,
    FS_SIM_WRITE = 4,
    FS_SIM_ALLOCATE = 8,
    FS_SIM_SYNC = 16,
    FS_SIM_NAME = 32, /* create, rename, unlink, sync of a folder */
    FS_SIM_MAP = 64,
    FS_SIM_CHANGES = FS_SIM_WRITE | FS_SIM_ALLOCATE | FS_SIM_SYNC | FS_SIM_NAME,
    FS_SIM_ALL = 127,
};

struct fs_sim *fs_sim_new(uint64_t seed);
void fs_sim_free(struct fs_sim *sim);
const struct os_fs *fs_sim_fs(struct fs_sim *sim);
/* SQLite opens its files here from now on; NULL: in the real file system again. */
void fs_sim_use(struct fs_sim *sim);

/* ---- faults ---- */
/* Calls of the kinds in `mask` are counted from 0 on; the count so far. */
uint64_t fs_sim_count(struct fs_sim *sim, unsigned mask);
/* The n-th call from now (0: the next) of a kind in mask fails with `st`; `times` calls in a row.
 */
void fs_sim_fail(struct fs_sim *sim, unsigned mask, uint64_t n, uint64_t times, enum status st);
/* From the n-th change on every call fails and changes nothing: the machine is off. */
void fs_sim_power_off_at(struct fs_sim *sim, uint64_t n);
/* Calls watch(path, op, arg) after each write and each good sync of a file, under the lock. */
void fs_sim_watch(struct fs_sim *sim, void (*watch)(const char *path, enum fs_sim_op op, void *arg),
                  void *arg);
/* Bytes that files may have in all; more is E_FULL. */
void fs_sim_capacity(struct fs_sim *sim, uint64_t bytes);

/* ---- after it ---- */
/* The disk that is found after power was lost now.  The old simulation stays as it was. */
struct fs_sim *fs_sim_lose_power(struct fs_sim *sim, uint64_t seed);
/* Flips bit `bit` of byte `offset` of a file, durably; false: no such place. */
bool fs_sim_flip(struct fs_sim *sim, const char *path, uint64_t offset, unsigned bit);
uint64_t fs_sim_file_bytes(struct fs_sim *sim, const char *path); /* 0: no such file */
/* Calls each(path, bytes, size). */
void fs_sim_each_file(struct fs_sim *sim,
                      void (*each)(const char *path, const uint8_t *bytes, uint64_t size,
                                   void *arg),
                      void *arg);

#endif
