/* SPDX-License-Identifier: MIT
 * demo_show.c — see demo_show.h. */
#include "bench/demo_show.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "os/clock.h"

#define REDRAW_MS       100
#define BAR_CELLS       24
#define QUOTE_BYTES_MAX 84
#define TEXTS           8
#define TEXT_BYTES      40

static char *next_text(void)
{
    static char texts[TEXTS][TEXT_BYTES];
    static unsigned next;
    return texts[next++ % TEXTS];
}

const char *show_count(int64_t n)
{
    char digits[24], *out = next_text();
    int len = snprintf(digits, sizeof digits, "%lld", (long long)n);
    size_t to = 0;
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            out[to++] = ',';
        out[to++] = digits[i];
    }
    out[to] = '\0';
    return out;
}

const char *show_ms(double ms)
{
    char *out = next_text();
    if (ms >= 9999.5)
        snprintf(out, TEXT_BYTES, "%.1f s", ms / 1000);
    else
        snprintf(out, TEXT_BYTES, ms >= 99.5 ? "%.0f ms" : ms >= 9.95 ? "%.1f ms" : "%.2f ms", ms);
    return out;
}

/* ---- the progress line ---- */
static struct {
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t ended;
    pthread_t thread;
    bool is_terminal, is_running, is_working;
    const char *what;
    uint64_t start_ns;
    int64_t done, total;
} work = {.lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};

static void draw(void)
{
    char bar[BAR_CELLS * 3 + 1] = "", share[16] = "";
    if (work.total > 0) {
        int full = (int)(work.done * BAR_CELLS / work.total);
        size_t n = 0;
        for (int i = 0; i < BAR_CELLS; i++)
            n += (size_t)snprintf(bar + n, sizeof bar - n, "%s", i < full ? "█" : "░");
        snprintf(share, sizeof share, " %3d %%", (int)(work.done * 100 / work.total));
    }
    fprintf(stderr, "\r\033[K   %s %s%s  %.0f s", work.what, bar, share,
            clock_ms_since(work.start_ns) / 1000);
    fflush(stderr);
}

static void *keep_drawing(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&work.lock);
    while (work.is_working) {
        draw();
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += REDRAW_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        pthread_cond_timedwait(&work.ended, &work.lock, &until);
    }
    fputs("\r\033[K", stderr);
    fflush(stderr);
    pthread_mutex_unlock(&work.lock);
    return NULL;
}

void show_work_begin(const char *what)
{
    fflush(stdout);
    work.is_terminal = isatty(STDERR_FILENO);
    if (!work.is_terminal)
        return;
    work.what = what;
    work.start_ns = clock_now_ns();
    work.done = work.total = 0;
    work.is_working = true;
    work.is_running = pthread_create(&work.thread, NULL, keep_drawing, NULL) == 0;
}

void show_work_progress(void *arg, int64_t done, int64_t total)
{
    (void)arg;
    pthread_mutex_lock(&work.lock);
    work.done = done < total ? done : total;
    work.total = total;
    pthread_mutex_unlock(&work.lock);
}

void show_work_end(void)
{
    if (!work.is_terminal || !work.is_running)
        return;
    pthread_mutex_lock(&work.lock);
    work.is_working = false;
    pthread_cond_signal(&work.ended);
    pthread_mutex_unlock(&work.lock);
    pthread_join(work.thread, NULL);
    work.is_running = false;
}

/* ---- lines ---- */
void show_line(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
}

void show_quote(const char *label, struct slice text)
{
    const char *line_end = memchr(text.ptr, '\n', text.len);
    size_t n = line_end ? (size_t)(line_end - text.ptr) : text.len;
    if (n > QUOTE_BYTES_MAX)
        n = QUOTE_BYTES_MAX;
    while (n < text.len && n > 0 && ((unsigned char)text.ptr[n] & 0xc0) == 0x80)
        n--; /* not within a character */
    show_line("  %-7s %.*s%s", label, (int)n, text.ptr, n < text.len ? " …" : "");
}

void show_failure(const char *fmt, ...)
{
    va_list args;
    fflush(stdout);
    fputs("kvasir-demo: ", stderr);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
}

void show_table(const struct show_row *rows, size_t n)
{
    show_line("                        prompt tokens from");
    show_line("  request                memory     disk  computed     resume  first token  answer");
    for (size_t i = 0; i < n; i++) {
        const struct chat_reply *r = rows[i].reply;
        show_line("  %-20s %8s %8s %9s %10s %12s  %s", rows[i].name, show_count(r->memory),
                  show_count(r->disk), show_count(r->computed), show_ms(r->lookup_ms),
                  show_ms(r->first_ms), rows[i].verdict);
    }
}
