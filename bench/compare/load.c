/* SPDX-License-Identifier: MIT
 * load.c — who else uses this machine: /proc/stat less our own time and the measured server's.
 * A thread looks ten times a second, because a sample may be shorter than the clock tick that the
 * kernel counts in: the share is taken over at least LOAD_WINDOW_MS. */
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench/compare/compare_int.h"
#include "os/clock.h"
#include "os/team.h"

#define LOOK_MS        100u
#define LOAD_WINDOW_MS 300.0
#define LOOKS_MAX      32768u /* 54 minutes; of a longer request its last part counts */

struct look {
    uint64_t at_ns;
    double all_s, busy_s, ours_s;
};

static struct {
    pthread_mutex_t mutex; /* guards looks and n */
    struct look *looks;    /* a ring */
    uint64_t n;
    atomic_int watched;
    atomic_bool is_unknown, is_stopping;
    struct os_thread *thread;
} load = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static double seconds_of(const struct timeval *t)
{
    return (double)t->tv_sec + (double)t->tv_usec * 1e-6;
}

static double used_by(int who)
{
    struct rusage u;
    return getrusage(who, &u) == 0 ? seconds_of(&u.ru_utime) + seconds_of(&u.ru_stime) : 0;
}

/* utime, stime, cutime, cstime: fields 14 to 17, behind the name's last parenthesis. */
static double used_by_process(pid_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = pid > 0 ? fopen(path, "re") : NULL;
    double sum = 0;
    if (!f)
        return 0;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    char *at = strrchr(text, ')');
    for (unsigned field = 2; at && *at && field < 17; field++) {
        at = strchr(at + 1, ' ');
        if (at && field >= 13)
            sum += strtod(at + 1, NULL);
    }
    return sum / (double)sysconf(_SC_CLK_TCK);
}

static struct look look_now(void)
{
    struct look l = {.at_ns = clock_now_ns()};
    char text[512] = "";
    FILE *f = fopen("/proc/stat", "re");
    if (f) {
        size_t n = fread(text, 1, sizeof text - 1, f);
        text[n] = '\0';
        fclose(f);
    }
    char *at = text + (strncmp(text, "cpu ", 4) == 0 ? 4 : 0);
    double tick = (double)sysconf(_SC_CLK_TCK);
    for (unsigned i = 0; i < 8 && *at; i++) { /* user nice system idle iowait irq softirq steal */
        double v = strtod(at, &at) / tick;
        l.all_s += v;
        if (i != 3 && i != 4)
            l.busy_s += v;
    }
    l.ours_s = used_by(RUSAGE_SELF) + used_by(RUSAGE_CHILDREN) +
               used_by_process(atomic_load(&load.watched));
    return l;
}

static void keep_look(void)
{
    pthread_mutex_lock(&load.mutex);
    load.looks[load.n++ % LOOKS_MAX] = look_now();
    pthread_mutex_unlock(&load.mutex);
}

static void keep_looking(void *arg)
{
    (void)arg;
    while (!atomic_load(&load.is_stopping)) {
        keep_look();
        clock_sleep_ms(LOOK_MS);
    }
}

enum status load_start(struct err *e)
{
    static struct look looks[LOOKS_MAX];
    load.looks = looks;
    load.n = 0;
    atomic_store(&load.is_stopping, false);
    return thread_start("bench-load", keep_looking, NULL, &load.thread, e);
}

void load_stop(void)
{
    if (!load.thread)
        return;
    atomic_store(&load.is_stopping, true);
    thread_join(load.thread);
    load.thread = NULL;
}

void load_watch(pid_t pid)
{
    atomic_store(&load.watched, (int)pid);
}

void load_unknown(bool is)
{
    atomic_store(&load.is_unknown, is);
}

double load_foreign(uint64_t since_ns)
{
    struct look now = look_now(), then = {0};
    if (!load.thread || atomic_load(&load.is_unknown))
        return -1;
    pthread_mutex_lock(&load.mutex);
    for (uint64_t back = 0; back < load.n && back < LOOKS_MAX; back++) {
        then = load.looks[(load.n - 1 - back) % LOOKS_MAX];
        if (then.at_ns <= since_ns && (double)(now.at_ns - then.at_ns) * 1e-6 >= LOAD_WINDOW_MS)
            break;
    }
    pthread_mutex_unlock(&load.mutex);
    double all = now.all_s - then.all_s;
    if (then.at_ns == 0 || all <= 0)
        return -1;
    double share = (now.busy_s - then.busy_s - (now.ours_s - then.ours_s)) / all;
    return share < 0 ? 0 : share;
}
