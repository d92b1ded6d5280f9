/* SPDX-License-Identifier: MIT
 * fs.h — files behind a table of functions, so that tests can lose power, fill the disk and fail
 * the n-th call.
 * For:    everything that must survive a crash (store).   Not for: pipes, sockets.
 * Thread: an os_fs and its files may be used from any thread; one os_file has no position of its
 *         own (reads and writes name their offset).
 * Errors: E_IO, E_FULL, E_DENIED, E_NOT_FOUND, E_EXISTS, E_BUSY with errno in err.sys.  EINTR and
 *         short reads/writes are handled here; a read past the end gives fewer bytes in *n_read. */
#ifndef KVASIR_OS_FS_H
#define KVASIR_OS_FS_H

#include "base/status.h"

#define FS_PATH_BYTES_MAX 4096

struct os_file {
    const struct os_fs *fs; /* the table that opened it */
    int fd;                 /* of the real file system; -1 in simulations */
    void *state;            /* of a simulation */
};

enum fs_open_flags {
    FS_READ = 0,
    FS_WRITE = 1,  /* read and write */
    FS_CREATE = 2, /* create if missing (mode 0600) */
    FS_EXCL = 4,   /* with FS_CREATE: E_EXISTS if there */
};

struct os_fs {
    void *ctx;
    enum status (*open)(const struct os_fs *, const char *path, unsigned flags, struct os_file *out,
                        struct err *);
    void (*close)(struct os_file *);
    enum status (*read_at)(const struct os_file *, void *dst, size_t n, uint64_t offset,
                           size_t *n_read, struct err *);
    enum status (*write_at)(const struct os_file *, const void *src, size_t n, uint64_t offset,
                            struct err *); /* all n bytes or an error */
    enum status (*size)(const struct os_file *, uint64_t *bytes, struct err *);
    enum status (*allocate)(const struct os_file *, uint64_t bytes, struct err *); /* grow to */
    enum status (*data_sync)(const struct os_file *, struct err *);  /* fdatasync */
    enum status (*full_sync)(const struct os_file *, struct err *);  /* fsync */
    enum status (*sync_dir)(const struct os_fs *, const char *path, struct err *);
    enum status (*make_dir)(const struct os_fs *, const char *path, struct err *); /* 0700; there is fine */
    enum status (*rename)(const struct os_fs *, const char *from, const char *to, struct err *);
    enum status (*unlink)(const struct os_fs *, const char *path, struct err *);
    /* Calls each(name, arg) for every entry but . and ..; a status other than OK stops the walk. */
    enum status (*list)(const struct os_fs *, const char *path,
                        enum status (*each)(const char *name, void *arg), void *arg, struct err *);
    /* Maps [0, bytes) read-only, shared.  The mapping outlives close() and unlink(). */
    enum status (*map)(const struct os_file *, uint64_t bytes, const void **p, struct err *);
    /* The same for writing; what is written is durable after the next full_sync. */
    enum status (*map_writable)(const struct os_file *, uint64_t bytes, void **p, struct err *);
    void (*unmap)(const struct os_fs *, const void *p, uint64_t bytes);
    /* Whole-file write lock owned by the open file (OFD).  E_BUSY: another holds it. */
    enum status (*lock)(const struct os_file *, struct err *);
    enum status (*free_bytes)(const struct os_fs *, const char *path, uint64_t *free,
                              uint64_t *total, struct err *); /* of the file system under path */
};

/* The real one. */
const struct os_fs *os_fs_real(void);

/* ---- on top of any os_fs ---- */
/* Reads a whole file of at most max_bytes; *out is yours (mem_free), NUL-terminated. */
NODISCARD enum status fs_read_file(const struct os_fs *fs, const char *path, size_t max_bytes,
                                   char **out, size_t *len, struct err *e);
/* Atomically: write path.tmp, fsync, rename, sync the directory. */
NODISCARD enum status fs_write_file(const struct os_fs *fs, const char *path, const void *bytes,
                                    size_t len, struct err *e);
/* mkdir -p, each new folder 0700. */
NODISCARD enum status fs_make_dirs(const struct os_fs *fs, const char *path, struct err *e);

/* ---- memory maps of the real system (model files, store segments) ---- */
enum map_advice { MAP_ADVISE_NORMAL, MAP_ADVISE_SEQUENTIAL, MAP_ADVISE_DONTNEED, MAP_ADVISE_WILLNEED };
void os_map_advise(const void *p, size_t bytes, enum map_advice advice); /* a hint; failure is fine */
/* Faults pages in for reading (MADV_POPULATE_READ, bounded retries on EAGAIN/EINTR).
 * E_IO: the bytes cannot be had (EFAULT, EHWPOISON); E_UNSUPPORTED: kernel without it, or ENOMEM:
 * the caller reads into memory instead. */
NODISCARD enum status os_map_populate(const void *p, size_t bytes, struct err *e);
/* Puts zeroed memory of our own in the place of whole pages that are mapped already. */
NODISCARD enum status os_map_memory_over(void *at, size_t bytes, struct err *e);
/* Whole pages of a writable map that are only read from now on. */
NODISCARD enum status os_map_read_only(void *at, size_t bytes, struct err *e);

#endif
