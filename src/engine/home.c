/* SPDX-License-Identifier: MIT
 * home.c — the store and its sessions, opened once for all engines of the process; and their turns.
 */
#include <unistd.h>

#include "engine/home_int.h"

#define TAKE_OVER_POLL_MS 10u

enum status home_new(const struct home_options *options, struct home **out, struct err *e)
{
    struct home *h = mem_try_new(1, sizeof *h);
    if (!h)
        return err_set(e, E_NOMEM, "no memory for the store");
    h->options = *options;
    if (options->dir)
        h->options.dir = h->dir_text = mem_text(options->dir, strlen(options->dir));
    h->taken_fd = -1;
    pthread_mutex_init(&h->opening, NULL);
    pthread_mutex_init(&h->mutex, NULL);
    pthread_mutex_init(&h->hand_over_mutex, NULL);
    pthread_mutex_init(&h->turn_mutex, NULL);
    pthread_cond_init(&h->returned, NULL);
    pthread_cond_init(&h->turn_cond, NULL);
    *out = h;
    return OK;
}

void home_stop(struct home *h)
{
    pthread_mutex_lock(&h->opening);
    control_stop(h->control);
    h->control = NULL;
    pthread_mutex_unlock(&h->opening);
}

void home_close(struct home *h)
{
    if (!h)
        return;
    home_stop(h);
    CHECK(h->n_engines == 0);
    sessions_close(h->sessions);
    store_close(h->store);
    if (h->taken_fd >= 0)
        close(h->taken_fd);
    pthread_cond_destroy(&h->turn_cond);
    pthread_cond_destroy(&h->returned);
    pthread_mutex_destroy(&h->turn_mutex);
    pthread_mutex_destroy(&h->hand_over_mutex);
    pthread_mutex_destroy(&h->mutex);
    pthread_mutex_destroy(&h->opening);
    mem_free(h->dir_text);
    mem_free(h);
}

/* ---- opening ---- */

/* Opens it once its present owner has handed over and ended. */
static enum status take_store(struct home *h, const struct store_options *options, struct err *e)
{
    uint64_t start = clock_now_ns();
    enum status st = doors_take_over(h, e);
    if (st != OK && st != E_NOT_FOUND) /* nobody to ask: it is ending already, or is no server */
        return err_prefix(e, "taking over %s", h->dir_text);
    do {
        clock_sleep_ms(TAKE_OVER_POLL_MS);
        st = store_open(os_fs_real(), h->dir_text, options, &h->store, e);
    } while (st == E_BUSY && clock_ms_since(start) < h->options.take_over_ms);
    return st;
}

static enum status open_store(struct home *h, struct err *e)
{
    const struct home_options *o = &h->options;
    if (!o->dir)
        return OK;
    struct store_options options = {.max_bytes = o->max_bytes,
                                    .is_read_only = o->is_read_only,
                                    .max_write_per_day = o->max_write_per_day,
                                    .scrub_bytes_per_s = o->scrub_rate,
                                    .file_key = o->has_key ? o->key : NULL};
    enum status st = store_open(os_fs_real(), o->dir, &options, &h->store, e);
    if (st == E_BUSY && o->take_over_ms > 0)
        st = take_store(h, &options, e);
    if (st != E_DENIED || options.is_read_only)
        return st;
    /* What is there can still be read; only what is new is lost at the end. */
    struct err denied = *e;
    options.is_read_only = h->options.is_read_only = true;
    st = store_open(os_fs_real(), o->dir, &options, &h->store, e);
    if (st == OK)
        log_warn("engine", "%s; the store is read only, nothing new is kept", denied.msg);
    return st;
}

static enum status open_all(struct home *h, struct err *e)
{
    enum status st = h->store ? OK : open_store(h, e);
    if (st != OK || h->sessions)
        return st;
    const struct sessions_options options = {.store = h->store,
                                             .is_read_only = h->options.is_read_only,
                                             .turn_days = h->options.history_days,
                                             .turn_bytes_max = h->options.history_max_bytes,
                                             .session_days = h->options.session_days};
    return sessions_open(&options, &h->sessions, e);
}

enum status home_open(struct home *h, struct err *e)
{
    pthread_mutex_lock(&h->opening);
    enum status st = open_all(h, e);
    pthread_mutex_unlock(&h->opening);
    return st;
}

const char *home_dir(const struct home *h)
{
    return h->dir_text;
}

struct store *home_store(const struct home *h)
{
    return h->store;
}

bool home_is_read_only(const struct home *h)
{
    return h->options.is_read_only;
}

bool home_keeps(const struct home *h)
{
    return h->store && !h->options.is_read_only;
}

struct sessions *home_sessions(const struct home *h)
{
    return h->sessions;
}

/* ---- engines ---- */

enum status home_attach(struct home *h, struct engine *g, struct err *e)
{
    enum status st = OK;
    pthread_mutex_lock(&h->mutex);
    if (h->n_engines == HOME_ENGINES_MAX)
        st = err_set(e, E_LIMIT, "%u models are loaded already", HOME_ENGINES_MAX);
    else
        h->engines[h->n_engines++] = (struct home_engine){.engine = g};
    pthread_mutex_unlock(&h->mutex);
    pthread_mutex_lock(&h->opening);
    if (st == OK && !h->control && home_keeps(h))
        st = doors_open(h, e);
    pthread_mutex_unlock(&h->opening);
    return st;
}

void home_detach(struct home *h, struct engine *g)
{
    pthread_mutex_lock(&h->mutex);
    for (uint32_t i = 0; i < h->n_engines; i++) {
        if (h->engines[i].engine != g)
            continue;
        h->engines[i].is_leaving = true;
        while (h->engines[i].n_borrowed > 0) {
            pthread_cond_wait(&h->returned, &h->mutex);
            for (i = 0; h->engines[i].engine != g;) /* others may have left meanwhile */
                i++;
        }
        memmove(&h->engines[i], &h->engines[i + 1], (h->n_engines - i - 1) * sizeof *h->engines);
        h->n_engines--;
        break;
    }
    pthread_mutex_unlock(&h->mutex);
}

uint32_t home_borrow(struct home *h, struct engine *out[HOME_ENGINES_MAX])
{
    uint32_t n = 0;
    pthread_mutex_lock(&h->mutex);
    for (uint32_t i = 0; i < h->n_engines; i++) {
        if (h->engines[i].is_leaving)
            continue;
        h->engines[i].n_borrowed++;
        out[n++] = h->engines[i].engine;
    }
    pthread_mutex_unlock(&h->mutex);
    return n;
}

void home_return(struct home *h, struct engine *const *engines, uint32_t n)
{
    pthread_mutex_lock(&h->mutex);
    for (uint32_t i = 0; i < h->n_engines; i++)
        for (uint32_t j = 0; j < n; j++)
            h->engines[i].n_borrowed -= h->engines[i].engine == engines[j];
    pthread_cond_broadcast(&h->returned);
    pthread_mutex_unlock(&h->mutex);
}

void home_on_hand_over(struct home *h, enum status (*fn)(void *arg, int *fd, struct err *e),
                       void *arg)
{
    pthread_mutex_lock(&h->hand_over_mutex);
    h->hand_over = fn;
    h->hand_over_arg = arg;
    pthread_mutex_unlock(&h->hand_over_mutex);
}

int home_take_socket(struct home *h)
{
    int fd = h->taken_fd;
    h->taken_fd = -1;
    return fd;
}

/* ---- turns: a ticket each, served in order ---- */

uint64_t home_turn_take(struct home *h)
{
    uint64_t waited_ns = 0;
    pthread_mutex_lock(&h->turn_mutex);
    uint64_t mine = h->next_ticket++;
    if (mine != h->turn) {
        uint64_t start = clock_now_ns();
        while (mine != h->turn)
            pthread_cond_wait(&h->turn_cond, &h->turn_mutex);
        waited_ns = clock_now_ns() - start;
    }
    pthread_mutex_unlock(&h->turn_mutex);
    return waited_ns;
}

void home_turn_give(struct home *h)
{
    pthread_mutex_lock(&h->turn_mutex);
    h->turn++;
    if (h->turn != h->next_ticket)
        pthread_cond_broadcast(&h->turn_cond);
    pthread_mutex_unlock(&h->turn_mutex);
}

void home_claim(struct home *h, uint64_t bytes)
{
    atomic_fetch_add(&h->claimed_bytes, bytes);
}

void home_unclaim(struct home *h, uint64_t bytes)
{
    atomic_fetch_sub(&h->claimed_bytes, bytes);
}

uint64_t home_claimed(const struct home *h)
{
    return atomic_load(&h->claimed_bytes);
}

void home_work_begins(struct home *h)
{
    atomic_fetch_add(&h->n_working, 1);
}

void home_work_ends(struct home *h)
{
    atomic_fetch_sub(&h->n_working, 1);
}

uint32_t home_n_working(const struct home *h)
{
    return atomic_load(&h->n_working);
}
