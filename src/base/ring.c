/* SPDX-License-Identifier: MIT
 * ring.c — mutex, two conditions, a circle of slots. */
#include "base/ring.h"

#include <pthread.h>
#include <time.h>

#include "base/check.h"
#include "base/mem.h"

struct ring {
    pthread_mutex_t mutex; /* guards all below */
    pthread_cond_t not_empty, not_full;
    size_t capacity, first, count;
    bool is_closed;
    void *slots[];
};

struct ring *ring_new(size_t capacity)
{
    CHECK(capacity > 0);
    struct ring *r = mem_try_new(1, sizeof *r + capacity * sizeof r->slots[0]);
    if (!r)
        return NULL;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&r->mutex, NULL);
    pthread_cond_init(&r->not_empty, &attr);
    pthread_cond_init(&r->not_full, &attr);
    pthread_condattr_destroy(&attr);
    r->capacity = capacity;
    return r;
}

void ring_free(struct ring *r)
{
    if (!r)
        return;
    pthread_cond_destroy(&r->not_full);
    pthread_cond_destroy(&r->not_empty);
    pthread_mutex_destroy(&r->mutex);
    mem_free(r);
}

static void put(struct ring *r, void *message)
{
    DCHECK(r->count < r->capacity);
    r->slots[(r->first + r->count) % r->capacity] = message;
    r->count++;
    pthread_cond_signal(&r->not_empty);
}

enum status ring_try_push(struct ring *r, void *message)
{
    pthread_mutex_lock(&r->mutex);
    enum status st = r->is_closed ? E_CANCELLED : r->count == r->capacity ? E_BUSY : OK;
    if (st == OK)
        put(r, message);
    pthread_mutex_unlock(&r->mutex);
    return st;
}

enum status ring_push(struct ring *r, void *message)
{
    pthread_mutex_lock(&r->mutex);
    while (!r->is_closed && r->count == r->capacity)
        pthread_cond_wait(&r->not_full, &r->mutex);
    enum status st = r->is_closed ? E_CANCELLED : OK;
    if (st == OK)
        put(r, message);
    pthread_mutex_unlock(&r->mutex);
    return st;
}

void *ring_pop(struct ring *r, int timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += (timeout_ms % 1000) * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    void *message = NULL;
    pthread_mutex_lock(&r->mutex);
    while (r->count == 0 && !r->is_closed) {
        if (timeout_ms < 0)
            pthread_cond_wait(&r->not_empty, &r->mutex);
        else if (timeout_ms == 0 || pthread_cond_timedwait(&r->not_empty, &r->mutex, &until) != 0)
            break;
    }
    if (r->count > 0) {
        message = r->slots[r->first];
        r->first = (r->first + 1) % r->capacity;
        r->count--;
        pthread_cond_signal(&r->not_full);
    }
    pthread_mutex_unlock(&r->mutex);
    return message;
}

void ring_close(struct ring *r)
{
    pthread_mutex_lock(&r->mutex);
    r->is_closed = true;
    pthread_cond_broadcast(&r->not_empty);
    pthread_cond_broadcast(&r->not_full);
    pthread_mutex_unlock(&r->mutex);
}

bool ring_is_closed(struct ring *r)
{
    pthread_mutex_lock(&r->mutex);
    bool closed = r->is_closed;
    pthread_mutex_unlock(&r->mutex);
    return closed;
}

size_t ring_count(struct ring *r)
{
    pthread_mutex_lock(&r->mutex);
    size_t count = r->count;
    pthread_mutex_unlock(&r->mutex);
    return count;
}
