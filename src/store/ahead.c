/* SPDX-License-Identifier: MIT
 * ahead.c — reading back what a look-up found, before the workers ask for it.
 * A chain's pages lie one behind the other where they were written in one go, so their records make
 * few long extents.  One thread asks for them in the order of the file, AHEAD_BYTES at a time: the
 * next piece is announced (the disk works on it) while the present one is faulted in.  A hint: what
 * fails here is met again, and answered, by store_fault_in. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "store/store_int.h"

#define AHEAD_BYTES      (4u << 20)   /* of one request */
#define AHEAD_GAP_BYTES  (128u << 10) /* read along: cheaper than another request */
#define AHEAD_QUEUE_MAX  1024u        /* extents; more are not read ahead */
#define AHEAD_PAGE_BYTES 4096u

struct extent {
    struct segment *g; /* held */
    uint64_t from, to; /* in its map */
};

struct ahead {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct os_thread *thread;
    struct extent ring[AHEAD_QUEUE_MAX];
    uint32_t first, count;
    bool is_stopping;
};

static void read_extent(struct ahead *a, const struct extent *x)
{
    struct err none;
    const uint8_t *p = x->g->map;
    uint64_t end = x->from + AHEAD_BYTES < x->to ? x->from + AHEAD_BYTES : x->to;
    os_map_advise(p + x->from, (size_t)(end - x->from), MAP_ADVISE_WILLNEED);
    for (uint64_t at = x->from; at < x->to;) {
        uint64_t next = end + AHEAD_BYTES < x->to ? end + AHEAD_BYTES : x->to;
        if (next > end)
            os_map_advise(p + end, (size_t)(next - end), MAP_ADVISE_WILLNEED);
        if (os_map_populate(p + at, (size_t)(end - at), &none) != OK)
            return;
        at = end;
        end = next;
        pthread_mutex_lock(&a->lock);
        bool is_stopping = a->is_stopping;
        pthread_mutex_unlock(&a->lock);
        if (is_stopping)
            return;
    }
}

static void ahead_thread(void *arg)
{
    struct ahead *a = arg;
    pthread_mutex_lock(&a->lock);
    for (;;) {
        while (a->count == 0 && !a->is_stopping)
            pthread_cond_wait(&a->wake, &a->lock);
        if (a->is_stopping)
            break;
        struct extent x = a->ring[a->first];
        a->first = (a->first + 1) % AHEAD_QUEUE_MAX;
        a->count--;
        pthread_mutex_unlock(&a->lock);
        read_extent(a, &x);
        segment_drop(x.g);
        pthread_mutex_lock(&a->lock);
    }
    pthread_mutex_unlock(&a->lock);
}

static struct ahead *ahead_new(void)
{
    struct ahead *a = mem_try_new(1, sizeof *a);
    struct err none;
    if (!a)
        return NULL;
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->wake, NULL);
    if (thread_start("store-ahead", ahead_thread, a, &a->thread, &none) != OK) {
        mem_free(a);
        return NULL;
    }
    return a;
}

void ahead_free(struct ahead *a)
{
    if (!a)
        return;
    pthread_mutex_lock(&a->lock);
    a->is_stopping = true;
    pthread_cond_signal(&a->wake);
    pthread_mutex_unlock(&a->lock);
    thread_join(a->thread);
    for (; a->count > 0; a->count--, a->first = (a->first + 1) % AHEAD_QUEUE_MAX)
        segment_drop(a->ring[a->first].g);
    pthread_mutex_destroy(&a->lock);
    pthread_cond_destroy(&a->wake);
    mem_free(a);
}

static int by_place(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;
    if (x->g != y->g)
        return x->g->head.number < y->g->head.number ? -1 : 1;
    return x->from < y->from ? -1 : x->from > y->from;
}

/* Neighbours become one; how many are left. */
static uint32_t merge(struct extent *x, uint32_t n)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct extent *last = kept > 0 ? &x[kept - 1] : NULL;
        if (last && last->g == x[i].g && x[i].from <= last->to + AHEAD_GAP_BYTES)
            last->to = x[i].to > last->to ? x[i].to : last->to;
        else
            x[kept++] = x[i];
    }
    return kept;
}

static void submit(struct ahead *a, const struct extent *x, uint32_t n)
{
    pthread_mutex_lock(&a->lock);
    for (uint32_t i = 0; i < n && a->count < AHEAD_QUEUE_MAX; i++) {
        segment_hold(x[i].g);
        a->ring[(a->first + a->count++) % AHEAD_QUEUE_MAX] = x[i];
    }
    pthread_cond_signal(&a->wake);
    pthread_mutex_unlock(&a->lock);
}

void store_read_ahead(struct store *s, const struct store_pin *const *pins, uint32_t n_pins)
{
    if (n_pins == 0)
        return;
    pthread_mutex_lock(&s->lock);
    if (!s->ahead)
        s->ahead = ahead_new(); /* most processes never need it */
    struct ahead *a = s->ahead;
    pthread_mutex_unlock(&s->lock);
    struct extent *x = a ? mem_try_new(n_pins, sizeof *x) : NULL;
    if (!x)
        return;
    for (uint32_t i = 0; i < n_pins; i++) {
        struct segment *g = pins[i]->hold;
        struct sealed_bytes bytes = {pins[i]->payload, pins[i]->payload_len};
        if (pins[i]->clear)
            bytes = sealed_cipher(pins[i]);
        uint64_t from = (uint64_t)(bytes.bytes - g->map), to = from + bytes.len;
        if (pins[i]->is_unread)
            from = pins[i]->at;
        x[i] = (struct extent){g, from / AHEAD_PAGE_BYTES * AHEAD_PAGE_BYTES, to};
    }
    qsort(x, n_pins, sizeof *x, by_place);
    submit(a, x, merge(x, n_pins));
    mem_free(x);
}
