/* SPDX-License-Identifier: MIT
 * progress.c — a bar on stderr.  Silent when stderr is no terminal, and for what is done within two
 * seconds: a bar that flashes tells nothing. */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "app/app_int.h"
#include "os/clock.h"

#define LONG_MS       2000.0 /* what is over sooner gets no bar */
#define GUESS_MS      300.0  /* too early to tell how long it takes */
#define REDRAW_MS     100.0
#define BAR_CELLS_MAX 40

void progress_begin(struct progress *p)
{
    const char *term = getenv("TERM");
    *p = (struct progress){
        .start_ns = clock_now_ns(),
        .is_terminal = isatty(STDERR_FILENO) && !(term && strcmp(term, "dumb") == 0),
    };
}

static int columns(void)
{
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : 80;
}

static void draw(const char *what, double fraction, double left_s)
{
    /* Colour is an ornament: https://no-color.org asks for none when the variable is not empty. */
    const char *no_color = getenv("NO_COLOR");
    bool colored = !(no_color && no_color[0]);
    char tail[48];
    int n_tail = snprintf(tail, sizeof tail, " %3.0f %%  %.0f s left", fraction * 100, left_s);
    int cells = columns() - (int)strlen(what) - n_tail - 4;
    cells = cells > BAR_CELLS_MAX ? BAR_CELLS_MAX : cells;
    fprintf(stderr, "\r%s", what);
    if (cells >= 5) {
        int done = (int)(fraction * cells);
        fprintf(stderr, " %s", colored ? "\033[36m" : "");
        for (int i = 0; i < cells; i++)
            fputs(i < done ? "█" : "·", stderr);
        fputs(colored ? "\033[0m" : "", stderr);
    }
    fprintf(stderr, "%s\033[K", tail);
    fflush(stderr);
}

void progress_show(struct progress *p, const char *what, double fraction)
{
    if (!p->is_terminal || !(fraction > 0) || fraction > 1)
        return;
    uint64_t now = clock_now_ns();
    double elapsed_ms = (double)(now - p->start_ns) * 1e-6, total_ms = elapsed_ms / fraction;
    bool is_long = elapsed_ms > GUESS_MS && total_ms > LONG_MS;
    if (!p->is_drawn && !is_long)
        return;
    if (p->is_drawn && (double)(now - p->drawn_ns) * 1e-6 < REDRAW_MS)
        return;
    draw(what, fraction, (total_ms - elapsed_ms) * 1e-3);
    p->is_drawn = true;
    p->drawn_ns = now;
}

void progress_end(struct progress *p)
{
    if (p->is_drawn)
        fputs("\r\033[K", stderr);
    p->is_drawn = false;
}
