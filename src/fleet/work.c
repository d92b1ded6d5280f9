/* SPDX-License-Identifier: MIT
 * work.c — the keeper decides, the loader loads and closes.  What the keeper looks at, in order:
 *   1  waits that are decided: their model is there, failed, or they were cancelled → ready()
 *   2  models that were idle for too long are unwanted from now on
 *   3  if the loader is free: close an unwanted model that nobody has; else load the first that is
 *      waited for, if there is memory; else the idle model that was used least lately goes
 * then it sleeps until something changes, or the next model's time is up. */
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "fleet/fleet_int.h"
#include "os/cpu.h"

#define NS_PER_S 1000000000ull

void stats_add(struct engine_stats *a, const struct engine_stats *b)
{
    a->n_requests += b->n_requests;
    a->n_cancelled += b->n_cancelled;
    a->n_errors += b->n_errors;
    a->prompt_tokens += b->prompt_tokens;
    a->memory_tokens += b->memory_tokens;
    a->disk_tokens += b->disk_tokens;
    a->computed_tokens += b->computed_tokens;
    a->completion_tokens += b->completion_tokens;
    a->guessed_tokens += b->guessed_tokens;
    a->accepted_tokens += b->accepted_tokens;
    a->n_steps += b->n_steps;
    for (uint32_t i = 0; i < ENGINE_STEP_BUCKETS; i++)
        a->step_sequences[i] += b->step_sequences[i];
    a->n_step_sequences += b->n_step_sequences;
    a->n_step_tokens += b->n_step_tokens;
    a->read_bytes += b->read_bytes;
    a->new_kv_bytes += b->new_kv_bytes;
    a->n_bad_pages += b->n_bad_pages;
}

/* ---- the loader ---- */

static enum status open_engine(struct fleet *f, struct fleet_model *m, struct err *e)
{
    struct engine_options o = f->engine;
    o.model_path = m->path;
    if (o.n_ctx > m->card.n_ctx_train && m->card.n_ctx_train > 0)
        o.n_ctx = m->card.n_ctx_train; /* --ctx is for all, some can't hold so much */
    return engine_open(&o, &m->engine, e);
}

static void load(struct fleet *f, struct fleet_model *m)
{
    struct err e = {0};
    uint64_t start = clock_now_ns();
    enum status st = open_engine(f, m, &e);
    uint64_t ns = clock_now_ns() - start;
    pthread_mutex_lock(&f->mutex);
    m->state = st == OK ? FLEET_LOADED : FLEET_OFF;
    m->load_ms = (double)ns * 1e-6;
    m->used_ns = clock_now_ns();
    m->keep_s = f->ttl_s ? (int64_t)f->ttl_s : FLEET_KEEP_FOREVER;
    if (st == OK) {
        m->weight_bytes = engine_info(m->engine)->model_bytes;
        m->error[0] = '\0';
        f->n_loads++;
        f->load_ns += ns;
    } else {
        m->failure = st;
        m->failed_ns = clock_now_ns();
        snprintf(m->error, sizeof m->error, "%s", e.msg);
        f->n_failed++;
    }
    pthread_mutex_unlock(&f->mutex);
    if (st == OK)
        log_info("fleet", "loaded model=%s ms=%.0f", m->name, (double)ns * 1e-6);
    else
        log_warn("fleet", "not loaded model=%s: %s", m->name, e.msg);
}

static void unload(struct fleet *f, struct fleet_model *m)
{
    struct engine_stats past;
    uint64_t start = clock_now_ns();
    engine_stats(m->engine, &past);
    engine_close(m->engine);
    pthread_mutex_lock(&f->mutex);
    m->engine = NULL;
    m->kv_bytes = 0;
    m->state = FLEET_OFF;
    m->is_unwanted = false;
    stats_add(&f->past, &past);
    f->n_unloads++;
    pthread_mutex_unlock(&f->mutex);
    log_info("fleet", "unloaded model=%s ms=%.0f", m->name, clock_ms_since(start));
}

void loader_thread(void *arg)
{
    struct fleet *f = arg;
    pthread_mutex_lock(&f->mutex);
    for (;;) {
        while (!f->ordered && !f->is_closing)
            pthread_cond_wait(&f->order, &f->mutex);
        struct fleet_model *m = f->ordered;
        if (!m)
            break;
        bool is_load = m->state == FLEET_LOADING;
        pthread_mutex_unlock(&f->mutex);
        if (is_load)
            load(f, m);
        else
            unload(f, m);
        pthread_mutex_lock(&f->mutex);
        f->ordered = NULL;
        pthread_cond_signal(&f->work);
    }
    pthread_mutex_unlock(&f->mutex);
}

/* ---- the keeper; all of it under the mutex ---- */

/* The error of a wait that is over; false: it goes on, or its model is there. */
static bool is_failed(const struct fleet *f, const struct fleet_wait *w, struct err *e)
{
    const struct fleet_model *m = w->model;
    enum status st = OK;
    if (w->is_cancelled || f->is_refusing)
        st = err_set(e, E_CANCELLED, f->is_refusing ? "the server is shutting down" : "cancelled");
    else if (m->state == FLEET_OFF && m->failed_ns >= w->since_ns)
        st = err_set(e, m->failure, "%s", m->error);
    else if (m->is_gone && m->state == FLEET_OFF)
        st = err_set(e, E_NOT_FOUND, "the model's file is gone");
    else if (m->state != FLEET_LOADED && clock_now_ns() - w->since_ns > FLEET_WAIT_S_MAX * NS_PER_S)
        st = err_set(e, E_BUSY, "%s waited %u s for memory that other models use", m->name,
                     FLEET_WAIT_S_MAX);
    return st != OK;
}

/* Takes the first wait that is decided off the list and answers it.  False: none is. */
static bool answer_one(struct fleet *f)
{
    for (struct fleet_wait **at = &f->waits; *at; at = &(*at)->next) {
        struct fleet_wait *w = *at;
        struct err e = {.pos = ERR_NO_POS};
        bool has_failed = is_failed(f, w, &e);
        struct fleet_model *m = w->model;
        if (!has_failed && m->state != FLEET_LOADED)
            continue;
        *at = w->next;
        f->n_waits--;
        if (!has_failed) {
            m->n_refs++;
            m->is_unwanted = false;
        }
        pthread_mutex_unlock(&f->mutex);
        w->ready(w->arg, has_failed ? NULL : m, &e);
        pthread_mutex_lock(&f->mutex);
        return true;
    }
    return false;
}

static bool is_idle(const struct fleet_model *m)
{
    return m->state == FLEET_LOADED && !m->stays && m->n_refs == 0 && m->n_listed == 0;
}

static bool has_expiry(const struct fleet_model *m)
{
    return is_idle(m) && m->keep_s != FLEET_KEEP_FOREVER;
}

static uint64_t expires_ns(const struct fleet_model *m)
{
    return m->used_ns + (uint64_t)m->keep_s * NS_PER_S;
}

static void expire(struct fleet *f)
{
    uint64_t now = clock_now_ns();
    for (uint32_t i = 0; i < f->n_models; i++)
        if (has_expiry(f->models[i]) && expires_ns(f->models[i]) <= now)
            f->models[i]->is_unwanted = true;
}

static void order(struct fleet *f, struct fleet_model *m, enum fleet_state state)
{
    m->state = state;
    f->ordered = m;
    pthread_cond_signal(&f->order);
}

static bool close_unwanted(struct fleet *f)
{
    for (uint32_t i = 0; i < f->n_models; i++)
        if (f->models[i]->is_unwanted && is_idle(f->models[i])) {
            order(f, f->models[i], FLEET_CLOSING);
            return true;
        }
    return false;
}

/* How much KV each model has in memory; once a round, and only where there is a budget.  The
 * engines are asked without the mutex: what is listed stays. */
static void measure(struct fleet *f)
{
    struct fleet_model *held[FLEET_LOADED_MAX + 1];
    uint32_t n = 0;
    f->is_measured = true;
    for (uint32_t i = 0; f->max_bytes && i < f->n_models && n < ARRAY_COUNT(held); i++)
        if (f->models[i]->state == FLEET_LOADED) {
            held[n++] = f->models[i];
            f->models[i]->n_listed++;
        }
    pthread_mutex_unlock(&f->mutex);
    uint64_t bytes[ARRAY_COUNT(held)];
    for (uint32_t i = 0; i < n; i++) {
        struct engine_stats s;
        engine_stats(held[i]->engine, &s);
        bytes[i] = s.pages_memory_bytes;
    }
    pthread_mutex_lock(&f->mutex);
    for (uint32_t i = 0; i < n; i++) {
        held[i]->n_listed--;
        held[i]->kv_bytes = bytes[i];
    }
}

/* Weights and KV in memory; *n: of so many models. */
static uint64_t used_bytes(const struct fleet *f, uint32_t *n)
{
    uint64_t used = 0;
    *n = 0;
    for (uint32_t i = 0; i < f->n_models; i++)
        if (f->models[i]->state != FLEET_OFF) {
            used += f->models[i]->weight_bytes + f->models[i]->kv_bytes;
            (*n)++;
        }
    return used;
}

/* Is there memory for m beside what is loaded?  A file that can't be read needs none: its load says
 * what is wrong with it. */
static bool has_room(const struct fleet *f, const struct fleet_model *m)
{
    uint32_t n;
    uint64_t used = used_bytes(f, &n), need = m->has_card ? m->card.bytes : 0;
    if (n >= FLEET_LOADED_MAX)
        return false;
    return f->max_bytes ? used + need <= f->max_bytes : need + need / 8 <= cpu_memory_available();
}

/* The idle model that was used least lately; *can_be_one: one that is at work may become idle. */
static struct fleet_model *least_used(const struct fleet *f, bool *can_be_one)
{
    struct fleet_model *least = NULL;
    *can_be_one = false;
    for (uint32_t i = 0; i < f->n_models; i++) {
        struct fleet_model *m = f->models[i];
        *can_be_one = *can_be_one || (!m->stays && m->state != FLEET_OFF);
        if (is_idle(m) && (!least || m->used_ns < least->used_ns))
            least = m;
    }
    return least;
}

/* KV grew over the budget: the idle model that was used least lately goes, but for the last one
 * that can, which would only come and go. */
static bool shrink(struct fleet *f)
{
    uint32_t n, n_others = 0;
    bool can_be_one;
    for (uint32_t i = 0; i < f->n_models; i++)
        n_others += f->models[i]->state == FLEET_LOADED && !f->models[i]->stays;
    if (!f->max_bytes || n_others < 2 || used_bytes(f, &n) <= f->max_bytes)
        return false;
    struct fleet_model *least = least_used(f, &can_be_one);
    if (!least)
        return false;
    least->is_unwanted = true;
    return close_unwanted(f);
}

/* Loads what is waited for, or makes room for it.  False: nothing can be done now. */
static bool load_waited(struct fleet *f)
{
    struct fleet_wait *w = f->waits;
    while (w && w->model->state != FLEET_OFF)
        w = w->next;
    if (!w)
        return false;
    struct fleet_model *m = w->model;
    bool can_wait;
    if (has_room(f, m)) {
        order(f, m, FLEET_LOADING);
        return true;
    }
    struct fleet_model *least = least_used(f, &can_wait);
    if (least) {
        least->is_unwanted = true;
        return close_unwanted(f);
    }
    if (can_wait)
        return false;
    m->failure = E_NOMEM;
    m->failed_ns = clock_now_ns();
    snprintf(m->error, sizeof m->error,
             "no memory for %.100s: %.0f MB of weights beside the others' and their KV; see "
             "--models-max-bytes",
             m->name, (double)m->card.bytes * 1e-6);
    f->n_failed++;
    return true;
}

/* Until when nothing changes by itself. */
static uint64_t next_ns(const struct fleet *f)
{
    uint64_t at = UINT64_MAX;
    for (uint32_t i = 0; i < f->n_models; i++)
        if (has_expiry(f->models[i]) && expires_ns(f->models[i]) < at)
            at = expires_ns(f->models[i]);
    for (const struct fleet_wait *w = f->waits; w; w = w->next)
        if (w->since_ns + (FLEET_WAIT_S_MAX + 1) * NS_PER_S < at)
            at = w->since_ns + (FLEET_WAIT_S_MAX + 1) * NS_PER_S;
    return at;
}

static void sleep_until(struct fleet *f, uint64_t ns)
{
    const struct timespec until = {.tv_sec = (time_t)(ns / NS_PER_S),
                                   .tv_nsec = (long)(ns % NS_PER_S)};
    if (ns == UINT64_MAX)
        pthread_cond_wait(&f->work, &f->mutex);
    else
        (void)pthread_cond_timedwait(&f->work, &f->mutex, &until);
}

void keeper_thread(void *arg)
{
    struct fleet *f = arg;
    pthread_mutex_lock(&f->mutex);
    while (!f->is_closing || f->waits) {
        if (answer_one(f))
            continue;
        if (!f->is_measured) {
            measure(f);
            continue;
        }
        expire(f);
        if (!f->ordered && !f->is_closing && (close_unwanted(f) || load_waited(f) || shrink(f)))
            continue;
        sleep_until(f, next_ns(f));
        f->is_measured = false;
    }
    pthread_mutex_unlock(&f->mutex);
}
