/* SPDX-License-Identifier: MIT
 * fs.c — whole files and folders on top of any os_fs, and advice about maps of the real system. */
#include "os/fs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14; glibc knows the name since 2.35 */
#endif

#define READ_BYTES_FIRST   4096u /* where size() says 0, as it does under /proc */
#define POPULATE_TRIES_MAX 64    /* EAGAIN, EINTR; each try goes on where the last one stopped */

/* Reads to the end of file, whatever size() said: the file may grow meanwhile. */
static enum status read_all(const struct os_file *f, size_t max_bytes, char **out, size_t *len,
                            struct err *e)
{
    uint64_t said;
    enum status st = f->fs->size(f, &said, e);
    if (st != OK)
        return st;
    if (said > max_bytes)
        return err_set(e, E_LIMIT, "%llu bytes, at most %zu are read", (unsigned long long)said,
                       max_bytes);
    size_t cap = said > 0 ? (size_t)said : READ_BYTES_FIRST, used = 0;
    char *bytes = NULL;
    for (;;) {
        /* One byte more than cap for the NUL; it also tells "full" from "at the end". */
        char *grown = mem_try_resize(bytes, cap + 1, 1);
        if (!grown) {
            st = err_set(e, E_NOMEM, "%zu bytes", cap + 1);
            break;
        }
        bytes = grown;
        size_t got;
        st = f->fs->read_at(f, bytes + used, cap + 1 - used, used, &got, e);
        if (st != OK)
            break;
        used += got;
        if (used > max_bytes) {
            st = err_set(e, E_LIMIT, "more than %zu bytes", max_bytes);
            break;
        }
        if (used <= cap) {
            bytes[used] = '\0';
            *out = bytes;
            *len = used;
            return OK;
        }
        cap *= 2;
    }
    mem_free(bytes);
    return st;
}

enum status fs_read_file(const struct os_fs *fs, const char *path, size_t max_bytes, char **out,
                         size_t *len, struct err *e)
{
    struct os_file f;
    enum status st = fs->open(fs, path, FS_READ, &f, e);
    if (st != OK)
        return st;
    st = read_all(&f, max_bytes, out, len, e);
    fs->close(&f);
    if (st != OK)
        err_prefix(e, "%s", path);
    return st;
}

/* The folder that holds path: "a/b" → "a", "b" → ".", "/b" → "/". */
static void parent_of(const char *path, char parent[FS_PATH_BYTES_MAX])
{
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 0;
    if (!slash)
        memcpy(parent, ".", 2);
    else if (len == 0)
        memcpy(parent, "/", 2);
    else {
        memcpy(parent, path, len);
        parent[len] = '\0';
    }
}

enum status fs_write_file(const struct os_fs *fs, const char *path, const void *bytes, size_t len,
                          struct err *e)
{
    char tmp[FS_PATH_BYTES_MAX], parent[FS_PATH_BYTES_MAX];
    if (strlen(path) + sizeof ".tmp" > sizeof tmp)
        return err_set(e, E_LIMIT, "path longer than %d bytes", FS_PATH_BYTES_MAX);
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    parent_of(path, parent);

    /* A leftover of a crash would show through behind a shorter new file. */
    enum status st = fs->unlink(fs, tmp, e);
    if (st != OK && st != E_NOT_FOUND)
        return st;
    struct os_file f;
    st = fs->open(fs, tmp, FS_WRITE | FS_CREATE | FS_EXCL, &f, e);
    if (st != OK)
        return st;
    st = fs->write_at(&f, bytes, len, 0, e);
    if (st == OK)
        st = fs->full_sync(&f, e);
    fs->close(&f);
    if (st == OK)
        st = fs->rename(fs, tmp, path, e);
    if (st != OK) {
        fs->unlink(fs, tmp, NULL); /* the first error is the one to report */
        err_prefix(e, "%s", path);
        return st;
    }
    return fs->sync_dir(fs, parent, e);
}

enum status fs_make_dirs(const struct os_fs *fs, const char *path, struct err *e)
{
    char part[FS_PATH_BYTES_MAX];
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof part)
        return err_set(e, E_INVALID, "path of %zu bytes", len);
    for (size_t i = 1; i <= len; i++) {
        if ((path[i] != '/' && path[i] != '\0') || path[i - 1] == '/')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        enum status st = fs->make_dir(fs, part, e);
        if (st != OK)
            return st;
    }
    return OK;
}

/* The pages that hold [p, p + bytes). */
static void page_span(const void *p, size_t bytes, void **start, size_t *span)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = (uintptr_t)p & ~(page - 1);
    uintptr_t end = ((uintptr_t)p + bytes + page - 1) & ~(page - 1);
    *start = (void *)first;
    *span = (size_t)(end - first);
}

void os_map_advise(const void *p, size_t bytes, enum map_advice advice)
{
    static const int values[] = {
        [MAP_ADVISE_NORMAL] = MADV_NORMAL,
        [MAP_ADVISE_SEQUENTIAL] = MADV_SEQUENTIAL,
        [MAP_ADVISE_DONTNEED] = MADV_DONTNEED,
        [MAP_ADVISE_WILLNEED] = MADV_WILLNEED,
    };
    if (bytes == 0)
        return;
    void *start;
    size_t span;
    page_span(p, bytes, &start, &span);
    (void)madvise(start, span, values[advice]);
}

enum status os_map_populate(const void *p, size_t bytes, struct err *e)
{
    if (bytes == 0)
        return OK;
    void *start;
    size_t span;
    page_span(p, bytes, &start, &span);
    int sys = 0;
    for (int i = 0; i < POPULATE_TRIES_MAX; i++) {
        sys = madvise(start, span, MADV_POPULATE_READ) == 0 ? 0 : errno;
        if (sys != EAGAIN && sys != EINTR)
            break;
    }
    switch (sys) {
    case 0:
        return OK;
    case EINVAL:
    case ENOSYS:
    case ENOMEM:
        return err_set(e, E_UNSUPPORTED, "MADV_POPULATE_READ: %s", strerror(sys));
    default: /* EFAULT: beyond the end of file; EHWPOISON; retries used up */
        return err_set(e, E_IO, "fault in %zu bytes: %s", bytes, strerror(sys));
    }
}

enum status os_map_memory_over(void *at, size_t bytes, struct err *e)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    if (mmap(at, bytes, PROT_READ | PROT_WRITE, flags, -1, 0) != at)
        return err_sys(e, errno, "map %zu bytes", bytes);
    return OK;
}

enum status os_map_read_only(void *at, size_t bytes, struct err *e)
{
    return mprotect(at, bytes, PROT_READ) == 0 ? OK : err_sys(e, errno, "protect %zu bytes", bytes);
}
