/* SPDX-License-Identifier: MIT
 * fs_real.c — the table of fs.h over Linux system calls.  Every call retries EINTR; a short read or
 * write is continued here, so that callers see all, end of file, or an error. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/check.h"
#include "os/fs.h"

/* The kernel moves at most 0x7ffff000 bytes a call; smaller pieces let a signal through sooner. */
#define IO_BYTES_MAX ((size_t)1 << 30)

static enum status real_open(const struct os_fs *fs, const char *path, unsigned flags,
                             struct os_file *out, struct err *e)
{
    int how = O_CLOEXEC | ((flags & FS_WRITE) ? O_RDWR : O_RDONLY);
    if (flags & FS_CREATE)
        how |= O_CREAT;
    if (flags & FS_EXCL)
        how |= O_EXCL;
    int fd;
    do {
        fd = open(path, how, 0600);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return err_sys(e, errno, "open %s", path);
    *out = (struct os_file){.fs = fs, .fd = fd};
    return OK;
}

static void real_close(struct os_file *f)
{
    if (f->fs && f->fd >= 0)
        close(f->fd); /* never retried: Linux frees the descriptor even when close() says EINTR */
    *f = (struct os_file){.fd = -1};
}

static enum status real_read_at(const struct os_file *f, void *dst, size_t n, uint64_t offset,
                                size_t *n_read, struct err *e)
{
    size_t done = 0;
    *n_read = 0;
    while (done < n) {
        size_t want = n - done < IO_BYTES_MAX ? n - done : IO_BYTES_MAX;
        ssize_t got = pread(f->fd, (char *)dst + done, want, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_sys(e, errno, "read %zu bytes at %llu", n, (unsigned long long)offset);
        if (got == 0)
            break;
        done += (size_t)got;
    }
    *n_read = done;
    return OK;
}

static enum status real_write_at(const struct os_file *f, const void *src, size_t n,
                                 uint64_t offset, struct err *e)
{
    size_t done = 0;
    while (done < n) {
        size_t want = n - done < IO_BYTES_MAX ? n - done : IO_BYTES_MAX;
        ssize_t put = pwrite(f->fd, (const char *)src + done, want, (off_t)(offset + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return err_sys(e, put < 0 ? errno : ENOSPC, "write %zu bytes at %llu", n,
                           (unsigned long long)offset);
        done += (size_t)put;
    }
    return OK;
}

static enum status real_size(const struct os_file *f, uint64_t *bytes, struct err *e)
{
    struct stat info;
    if (fstat(f->fd, &info) != 0)
        return err_sys(e, errno, "stat");
    *bytes = (uint64_t)info.st_size;
    return OK;
}

/* Where the file system cannot reserve space (EOPNOTSUPP: some network and FUSE ones), the file
 * grows by a hole; a full disk is then met at the write, which gives E_FULL as well. */
static enum status real_allocate(const struct os_file *f, uint64_t bytes, struct err *e)
{
    if (bytes == 0)
        return OK;
    if (bytes > INT64_MAX)
        return err_sys(e, EFBIG, "allocate %llu bytes", (unsigned long long)bytes);
    int sys;
    do {
        sys = fallocate(f->fd, 0, 0, (off_t)bytes) == 0 ? 0 : errno;
    } while (sys == EINTR);
    if (sys == EOPNOTSUPP || sys == ENOSYS) {
        uint64_t now;
        enum status st = real_size(f, &now, e);
        if (st != OK)
            return st;
        sys = now >= bytes || ftruncate(f->fd, (off_t)bytes) == 0 ? 0 : errno;
    }
    if (sys != 0)
        return err_sys(e, sys, "allocate %llu bytes", (unsigned long long)bytes);
    return OK;
}

/* A failed sync is not retried: after an error the kernel may call dirty pages clean. */
static enum status real_data_sync(const struct os_file *f, struct err *e)
{
    int rc;
    do {
        rc = fdatasync(f->fd);
    } while (rc != 0 && errno == EINTR);
    return rc == 0 ? OK : err_sys(e, errno, "fdatasync");
}

static enum status real_full_sync(const struct os_file *f, struct err *e)
{
    int rc;
    do {
        rc = fsync(f->fd);
    } while (rc != 0 && errno == EINTR);
    return rc == 0 ? OK : err_sys(e, errno, "fsync");
}

static enum status real_sync_dir(const struct os_fs *fs, const char *path, struct err *e)
{
    (void)fs;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, errno, "open directory %s", path);
    int rc, sys;
    do {
        rc = fsync(fd);
        sys = errno;
    } while (rc != 0 && sys == EINTR);
    close(fd);
    /* EINVAL: a file system whose directories need no sync. */
    return rc == 0 || sys == EINVAL ? OK : err_sys(e, sys, "sync directory %s", path);
}

static enum status real_make_dir(const struct os_fs *fs, const char *path, struct err *e)
{
    (void)fs;
    if (mkdir(path, 0700) == 0)
        return OK;
    int sys = errno;
    struct stat info;
    if (sys == EEXIST && stat(path, &info) == 0 && S_ISDIR(info.st_mode))
        return OK;
    return err_sys(e, sys, "make directory %s", path);
}

static enum status real_rename(const struct os_fs *fs, const char *from, const char *to,
                               struct err *e)
{
    (void)fs;
    return rename(from, to) == 0 ? OK : err_sys(e, errno, "rename %s to %s", from, to);
}

static enum status real_unlink(const struct os_fs *fs, const char *path, struct err *e)
{
    (void)fs;
    return unlink(path) == 0 ? OK : err_sys(e, errno, "unlink %s", path);
}

static enum status real_list(const struct os_fs *fs, const char *path,
                             enum status (*each)(const char *name, void *arg), void *arg,
                             struct err *e)
{
    (void)fs;
    DIR *dir = opendir(path);
    if (!dir)
        return err_sys(e, errno, "list %s", path);
    enum status st = OK;
    while (st == OK) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry) {
            if (errno != 0)
                st = err_sys(e, errno, "list %s", path);
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        st = each(entry->d_name, arg);
        if (st != OK)
            err_set(e, st, "list %s: stopped at %s", path, entry->d_name);
    }
    closedir(dir);
    return st;
}

static enum status map_shared(const struct os_file *f, uint64_t bytes, int protection, void **p,
                              struct err *e)
{
    if (bytes == 0 || bytes > SIZE_MAX)
        return err_set(e, E_INVALID, "map %llu bytes", (unsigned long long)bytes);
    void *at = mmap(NULL, (size_t)bytes, protection, MAP_SHARED, f->fd, 0);
    if (at == MAP_FAILED)
        return err_sys(e, errno, "map %llu bytes", (unsigned long long)bytes);
    *p = at;
    return OK;
}

static enum status real_map(const struct os_file *f, uint64_t bytes, const void **p, struct err *e)
{
    void *at = NULL;
    enum status st = map_shared(f, bytes, PROT_READ, &at, e);
    if (st == OK)
        *p = at;
    return st;
}

static enum status real_map_writable(const struct os_file *f, uint64_t bytes, void **p,
                                     struct err *e)
{
    return map_shared(f, bytes, PROT_READ | PROT_WRITE, p, e);
}

static void real_unmap(const struct os_fs *fs, const void *p, uint64_t bytes)
{
    (void)fs;
    if (p)
        CHECK(munmap((void *)(uintptr_t)p, (size_t)bytes) == 0);
}

static enum status real_lock(const struct os_file *f, struct err *e)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(f->fd, F_OFD_SETLK, &whole) == 0)
        return OK;
    if (errno == EAGAIN || errno == EACCES)
        return err_set(e, E_BUSY, "locked by another process");
    return err_sys(e, errno, "lock");
}

static enum status real_free_bytes(const struct os_fs *fs, const char *path, uint64_t *free_bytes,
                                   uint64_t *total, struct err *e)
{
    (void)fs;
    struct statvfs info;
    int rc;
    do {
        rc = statvfs(path, &info);
    } while (rc != 0 && errno == EINTR);
    if (rc != 0)
        return err_sys(e, errno, "statvfs %s", path);
    *free_bytes = (uint64_t)info.f_bavail * info.f_frsize;
    *total = (uint64_t)info.f_blocks * info.f_frsize;
    return OK;
}

const struct os_fs *os_fs_real(void)
{
    static const struct os_fs real = {
        .open = real_open,
        .close = real_close,
        .read_at = real_read_at,
        .write_at = real_write_at,
        .size = real_size,
        .allocate = real_allocate,
        .data_sync = real_data_sync,
        .full_sync = real_full_sync,
        .sync_dir = real_sync_dir,
        .make_dir = real_make_dir,
        .rename = real_rename,
        .unlink = real_unlink,
        .list = real_list,
        .map = real_map,
        .map_writable = real_map_writable,
        .unmap = real_unmap,
        .lock = real_lock,
        .free_bytes = real_free_bytes,
    };
    return &real;
}
