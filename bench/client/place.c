/* SPDX-License-Identifier: MIT
 * place.c — see place.h. */
#include "bench/client/place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define COPY_BYTES (1u << 16)

enum status place_make(const char *parent, const char *name, char *path, struct err *e)
{
    if (!parent)
        parent = getenv("TMPDIR");
    if (!parent || !*parent)
        parent = "/tmp";
    if (snprintf(path, PLACE_PATH_BYTES, "%s/%s-XXXXXX", parent, name) >= (int)PLACE_PATH_BYTES)
        return err_set(e, E_LIMIT, "%s: path too long", parent);
    return mkdtemp(path) ? OK : err_sys(e, errno, "%s", path);
}

/* One visit of a tree: files before the folder that holds them. */
struct visit {
    enum status (*file)(struct visit *v, const char *path, const struct stat *s, struct err *e);
    enum status (*enter)(struct visit *v, const char *path, struct err *e);
    enum status (*leave)(struct visit *v, const char *path, struct err *e);
    size_t root_len;
    const char *to;
    void (*each)(const char *path, uint64_t bytes, void *arg);
    void *arg;
};

static enum status visit_tree(struct visit *v, const char *path, uint32_t depth, struct err *e)
{
    enum status st = v->enter ? v->enter(v, path, e) : OK;
    if (st != OK)
        return st;
    if (depth > PLACE_DEPTH_MAX)
        return err_set(e, E_LIMIT, "%s: too deep", path);
    DIR *dir = opendir(path);
    if (!dir)
        return err_sys(e, errno, "%s", path);
    for (const struct dirent *d; st == OK && (d = readdir(dir));) {
        char below[PLACE_PATH_BYTES];
        struct stat s;
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
            continue;
        if (snprintf(below, sizeof below, "%s/%s", path, d->d_name) >= (int)sizeof below)
            st = err_set(e, E_LIMIT, "%s: path too long", path);
        else if (lstat(below, &s) != 0)
            st = errno == ENOENT ? OK : err_sys(e, errno, "%s", below);
        else if (S_ISDIR(s.st_mode))
            st = visit_tree(v, below, depth + 1, e);
        else
            st = v->file(v, below, &s, e);
    }
    closedir(dir);
    return st == OK && v->leave ? v->leave(v, path, e) : st;
}

/* ---- removing ---- */
static enum status remove_file(struct visit *v, const char *path, const struct stat *s,
                               struct err *e)
{
    (void)v;
    (void)s;
    return unlink(path) == 0 ? OK : err_sys(e, errno, "%s", path);
}

static enum status unlock_folder(struct visit *v, const char *path, struct err *e)
{
    (void)v;
    (void)e;
    chmod(path, 0700); /* a test may have made it read-only */
    return OK;
}

static enum status remove_folder(struct visit *v, const char *path, struct err *e)
{
    (void)v;
    return rmdir(path) == 0 ? OK : err_sys(e, errno, "%s", path);
}

void place_remove(const char *path)
{
    struct visit v = {.file = remove_file, .enter = unlock_folder, .leave = remove_folder};
    struct stat s;
    if (*path && lstat(path, &s) == 0 && S_ISDIR(s.st_mode) && visit_tree(&v, path, 0, NULL) != OK)
        fprintf(stderr, "could not remove %s\n", path);
}

/* ---- copying ---- */
static enum status copy_bytes(int from, int to, const char *path, struct err *e)
{
    char bytes[COPY_BYTES];
    for (;;) {
        ssize_t n = read(from, bytes, sizeof bytes);
        if (n == 0)
            return OK;
        if (n < 0 || write(to, bytes, (size_t)n) != n)
            return err_sys(e, errno, "copy %s", path);
    }
}

static bool target_of(const struct visit *v, const char *path, char out[PLACE_PATH_BYTES])
{
    return snprintf(out, PLACE_PATH_BYTES, "%s%s", v->to, path + v->root_len) <
           (int)PLACE_PATH_BYTES;
}

static enum status copy_file(struct visit *v, const char *path, const struct stat *s, struct err *e)
{
    char target[PLACE_PATH_BYTES];
    if (!S_ISREG(s->st_mode))
        return OK; /* a control socket */
    if (!target_of(v, path, target))
        return err_set(e, E_LIMIT, "%s: path too long", path);
    int from = open(path, O_RDONLY | O_CLOEXEC);
    int to = open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, s->st_mode & 0777);
    enum status st =
        from < 0 || to < 0 ? err_sys(e, errno, "%s", path) : copy_bytes(from, to, path, e);
    if (from >= 0)
        close(from);
    if (to >= 0)
        close(to);
    return st;
}

static enum status copy_folder(struct visit *v, const char *path, struct err *e)
{
    char target[PLACE_PATH_BYTES];
    if (!target_of(v, path, target))
        return err_set(e, E_LIMIT, "%s: path too long", path);
    return mkdir(target, 0700) == 0 ? OK : err_sys(e, errno, "%s", target);
}

enum status place_copy(const char *from, const char *to, struct err *e)
{
    struct visit v = {.file = copy_file, .enter = copy_folder, .root_len = strlen(from), .to = to};
    return visit_tree(&v, from, 0, e);
}

/* ---- looking ---- */
static enum status look(struct visit *v, const char *path, const struct stat *s, struct err *e)
{
    (void)e;
    if (S_ISREG(s->st_mode))
        v->each(path, (uint64_t)s->st_size, v->arg);
    return OK;
}

enum status place_walk(const char *path, void (*each)(const char *path, uint64_t bytes, void *arg),
                       void *arg, struct err *e)
{
    struct visit v = {.file = look, .each = each, .arg = arg};
    return visit_tree(&v, path, 0, e);
}

enum status place_read(const char *path, struct buf *out, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = -1;
    if (fd < 0)
        return err_sys(e, errno, "%s", path);
    for (;;) {
        char *to = buf_reserve(out, COPY_BYTES);
        n = to ? read(fd, to, COPY_BYTES) : -1;
        if (n <= 0)
            break;
        out->len += (size_t)n;
        out->ptr[out->len] = '\0';
    }
    enum status st = out->failed ? err_set(e, E_LIMIT, "%s: too large", path)
                     : n < 0     ? err_sys(e, errno, "%s", path)
                                 : OK;
    close(fd);
    return st;
}

enum status place_write(const char *path, struct slice bytes, struct err *e)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(e, errno, "%s", path);
    enum status st = OK;
    if (write(fd, bytes.ptr, bytes.len) != (ssize_t)bytes.len)
        st = err_sys(e, errno, "%s", path);
    close(fd);
    return st;
}
