/* SPDX-License-Identifier: MIT
 * child.c — fork, exec, memory files. */
#include "bench/client/child.h"

#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "os/clock.h"

#define POLL_MS     2u
#define EXEC_FAILED 127

/* All that the child side of fork() needs; it may call async-signal-safe functions only. */
struct launch {
    const char *const *argv;
    char *const *environment; /* NULL: ours */
    int in, out, err;
    uint64_t file_bytes_max;
    uint32_t user;
    pid_t parent;
};

static _Noreturn void become(const struct launch *l)
{
    if (l->file_bytes_max) {
        struct rlimit limit = {l->file_bytes_max, l->file_bytes_max};
        setrlimit(RLIMIT_FSIZE, &limit);
    }
    /* An ignored SIGXFSZ turns the limit into EFBIG of write(2), as a full disk gives ENOSPC. */
    signal(SIGXFSZ, l->file_bytes_max ? SIG_IGN : SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (l->user && (setgroups(0, NULL) != 0 || setgid(l->user) != 0 || setuid(l->user) != 0))
        _exit(EXEC_FAILED);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a change of user would clear it */
    if (getppid() != l->parent)
        _exit(EXEC_FAILED); /* the parent ended before prctl */
    if (dup2(l->in, STDIN_FILENO) < 0 || dup2(l->out, STDOUT_FILENO) < 0 ||
        dup2(l->err, STDERR_FILENO) < 0)
        _exit(EXEC_FAILED);
    if (l->environment)
        execve(l->argv[0], (char *const *)(uintptr_t)l->argv, l->environment);
    else
        execvp(l->argv[0], (char *const *)(uintptr_t)l->argv);
    _exit(EXEC_FAILED);
}

static int memory_file(const char *name, struct slice content, struct err *e)
{
    int fd = memfd_create(name, MFD_CLOEXEC);
    size_t done = 0;
    while (fd >= 0 && done < content.len) {
        ssize_t n = write(fd, content.ptr + done, content.len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            close(fd);
            fd = -1;
            break;
        }
        done += (size_t)n;
    }
    if (fd < 0 || lseek(fd, 0, SEEK_SET) != 0) {
        err_sys(e, errno, "memory file");
        return -1;
    }
    return fd;
}

enum status child_start(struct child *c, const char *const *argv,
                        const struct child_options *options, struct err *e)
{
    static const struct child_options none;
    const struct child_options *o = options ? options : &none;
    enum status st = OK;
    *c = (struct child){.streams = {-1, -1}, .is_open = true};
    if (strchr(argv[0], '/') && access(argv[0], X_OK) != 0)
        return err_sys(e, errno, "%s", argv[0]);
    char home[512], config[512], path[1024];
    snprintf(home, sizeof home, "HOME=%s", o->home ? o->home : "");
    snprintf(config, sizeof config, "XDG_RUNTIME_DIR=%s", o->home ? o->home : "");
    snprintf(path, sizeof path, "PATH=%s", getenv("PATH") ? getenv("PATH") : "/usr/bin:/bin");
    char *const environment[] = {home, config, path, NULL};
    int in = memory_file("stdin", o->input, e);
    c->streams[CHILD_OUT] = in < 0 ? -1 : memory_file("stdout", (struct slice){0}, e);
    c->streams[CHILD_ERR] =
        c->streams[CHILD_OUT] < 0 ? -1 : memory_file("stderr", (struct slice){0}, e);
    if (c->streams[CHILD_ERR] < 0) {
        st = E_IO;
        goto out;
    }
    struct launch l = {.argv = argv,
                       .environment = o->home ? environment : NULL,
                       .in = in,
                       .out = c->streams[CHILD_OUT],
                       .err = c->streams[CHILD_ERR],
                       .file_bytes_max = o->file_bytes_max,
                       .user = o->user,
                       .parent = getpid()};
    fflush(NULL);
    c->pid = fork();
    if (c->pid == 0)
        become(&l);
    if (c->pid < 0) {
        c->pid = 0;
        st = err_sys(e, errno, "fork");
    }
out:
    if (in >= 0)
        close(in);
    if (st != OK)
        child_release(c);
    return st;
}

static int exit_code(int wait_status)
{
    return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

enum status child_wait(struct child *c, uint32_t ms_max, int *code, struct err *e)
{
    uint64_t start = clock_now_ns();
    CHECK(c->pid > 0);
    for (;;) {
        int status;
        pid_t done = waitpid(c->pid, &status, WNOHANG);
        if (done == c->pid) {
            c->pid = 0;
            *code = exit_code(status);
            return OK;
        }
        if (done < 0 && errno != EINTR) {
            c->pid = 0;
            return err_sys(e, errno, "wait");
        }
        if (clock_ms_since(start) > ms_max)
            return err_set(e, E_LIMIT, "still running after %u ms", ms_max);
        clock_sleep_ms(POLL_MS);
    }
}

void child_signal(const struct child *c, int signal_number)
{
    if (c->pid > 0)
        kill(c->pid, signal_number);
}

void child_kill(struct child *c)
{
    if (c->pid <= 0)
        return;
    kill(c->pid, SIGKILL);
    while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    c->pid = 0;
}

void child_read(const struct child *c, enum child_stream stream, struct buf *out)
{
    int fd = c->streams[stream];
    struct stat s;
    if (!c->is_open || fd < 0 || fstat(fd, &s) != 0)
        return;
    size_t size = (size_t)s.st_size, done = 0;
    char *to = buf_reserve(out, size);
    while (to && done < size) {
        ssize_t n = pread(fd, to + done, size - done, (off_t)done);
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    if (to) {
        out->len += done;
        out->ptr[out->len] = '\0';
    }
}

void child_release(struct child *c)
{
    if (!c->is_open)
        return;
    child_kill(c);
    for (int i = 0; i < 2; i++)
        if (c->streams[i] >= 0)
            close(c->streams[i]);
    *c = (struct child){0};
}

enum status child_run(const char *const *argv, const struct child_options *options, uint32_t ms_max,
                      struct child_result *result, struct err *e)
{
    struct child c = {0};
    uint64_t start = clock_now_ns();
    *result = (struct child_result){0};
    buf_init(&result->out, CHILD_OUTPUT_MAX);
    buf_init(&result->err, CHILD_OUTPUT_MAX);
    enum status st = child_start(&c, argv, options, e);
    if (st == OK)
        st = child_wait(&c, ms_max, &result->code, e);
    result->ms = clock_ms_since(start);
    child_read(&c, CHILD_OUT, &result->out);
    child_read(&c, CHILD_ERR, &result->err);
    child_release(&c);
    return st;
}

void child_result_release(struct child_result *r)
{
    buf_release(&r->out);
    buf_release(&r->err);
    *r = (struct child_result){0};
}
