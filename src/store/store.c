/* SPDX-License-Identifier: MIT
 * store.c — opening and closing, the queue of the store thread, and that thread's loop. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/clock.h"
#include "store/store_int.h"

#define HOUSEKEEP_EVERY_MS 1000u /* records that wait or not */
#define TOUCHED_EVERY_MS   30000 /* last_used and hits go to the index this often */
#define LOCK_TEXT_BYTES    256   /* pid and command of the writer, padded */

/* ---- the lock ---- */
static void describe_self(char text[LOCK_TEXT_BYTES])
{
    char *command = NULL;
    size_t len = 0;
    if (fs_read_file(os_fs_real(), "/proc/self/cmdline", 1u << 20, &command, &len, NULL) != OK)
        len = 0;
    for (size_t i = 0; i < len; i++) {
        if (command[i] == '\0' && i + 1 < len)
            command[i] = ' ';
        else if (command[i] != '\0' && (unsigned char)command[i] < ' ')
            command[i] = '?';
    }
    memset(text, ' ', LOCK_TEXT_BYTES);
    int n = snprintf(text, LOCK_TEXT_BYTES, "pid %ld (%.180s)", (long)getpid(),
                     len ? command : "unknown");
    text[n < LOCK_TEXT_BYTES - 1 ? n : LOCK_TEXT_BYTES - 1] = ' ';
    text[LOCK_TEXT_BYTES - 1] = '\n';
    mem_free(command);
}

static enum status take_lock(struct store *s, struct err *e)
{
    char path[FS_PATH_BYTES_MAX], text[LOCK_TEXT_BYTES + 1] = "";
    snprintf(path, sizeof path, "%s/LOCK", s->dir);
    enum status st = s->fs->open(s->fs, path, FS_WRITE | FS_CREATE, &s->lock_file, e);
    if (st != OK)
        return st;
    st = s->fs->lock(&s->lock_file, e);
    if (st == E_BUSY) {
        size_t n = 0;
        if (s->fs->read_at(&s->lock_file, text, LOCK_TEXT_BYTES, 0, &n, NULL) != OK)
            n = 0;
        while (n > 0 && (text[n - 1] == ' ' || text[n - 1] == '\n'))
            n--;
        text[n] = '\0';
        return err_set(e, E_BUSY, "%s is in use by %s", s->dir, n ? text : "another process");
    }
    if (st != OK)
        return st;
    describe_self(text);
    /* Only for the text of E_BUSY: a disk too full for it still opens. */
    if (s->fs->write_at(&s->lock_file, text, LOCK_TEXT_BYTES, 0, e) != OK)
        log_warn("store", "LOCK not written: %s", e->msg);
    return OK;
}

/* ---- the queue ---- */
static struct job *job_new(enum job_kind kind)
{
    struct job *job = mem_try_new(1, sizeof *job);
    if (job)
        job->kind = kind;
    return job;
}

/* Meta, order and the list of chunks are copied behind the job. */
static enum status job_of_put(const struct store_put *put, struct job **out, struct err *e)
{
    if (!kind_is_data((unsigned)put->kind))
        return err_set(e, E_INVALID, "kind %d", (int)put->kind);
    if (put->kind == RECORD_KEY || put->reach > STORE_REACH_MAX)
        return err_set(e, E_INVALID, "kind %d, reach %u", (int)put->kind, put->reach);
    if (put->meta_len > STORE_META_MAX || put->n_chunks > STORE_CHUNKS_MAX)
        return err_set(e, E_LIMIT, "%u bytes of meta, %u chunks", put->meta_len, put->n_chunks);
    size_t chunk_bytes = (size_t)put->n_chunks * sizeof *put->chunks;
    struct job *job = mem_try_new(1, sizeof *job + chunk_bytes + put->meta_len);
    if (!job)
        return err_set(e, E_NOMEM, "a record");
    struct store_chunk *chunks = (struct store_chunk *)(job + 1);
    uint8_t *meta = (uint8_t *)(job + 1) + chunk_bytes;
    if (put->n_chunks > 0)
        memcpy(chunks, put->chunks, chunk_bytes);
    if (put->meta_len > 0)
        memcpy(meta, put->meta, put->meta_len);
    job->kind = JOB_PUT;
    job->put = *put;
    job->put.chunks = chunks;
    job->put.meta = meta;
    struct record *r = &job->shape;
    *r = (struct record){.kind = put->kind,
                         .layout = put->layout,
                         .depth = put->depth,
                         .reach = put->reach,
                         .cost_ms = put->cost_ms,
                         .key = put->key,
                         .chain = put->chain,
                         .parent = put->parent,
                         .family = put->family,
                         .order_len = put->order_len,
                         .meta_len = put->meta_len,
                         .n_chunks = put->n_chunks,
                         .order = job->put.order,
                         .meta = meta};
    enum status st = record_shape(r, chunks, e);
    if (st != OK) {
        mem_free(job);
        return st;
    }
    *out = job;
    return OK;
}

/* wait: for room; otherwise a full queue is E_BUSY and the job stays the caller's. */
static enum status enqueue(struct store *s, struct job *job, bool wait, struct err *e)
{
    pthread_mutex_lock(&s->queue_lock);
    while (wait && s->n_queued >= STORE_QUEUE_MAX)
        pthread_cond_wait(&s->queue_room, &s->queue_lock);
    enum status st = OK;
    if (s->n_queued >= STORE_QUEUE_MAX) {
        st = err_set(e, E_BUSY, "%u records wait to be written", s->n_queued);
    } else {
        job->ticket = ++s->n_tickets;
        job->next = NULL;
        if (s->queue_last)
            s->queue_last->next = job;
        else
            s->queue_first = job;
        s->queue_last = job;
        s->n_queued++;
        pthread_cond_signal(&s->queue_wake);
    }
    pthread_mutex_unlock(&s->queue_lock);
    return st;
}

/* The next jobs of one kind, within the limits of a batch: one that is large against the budget
 * would have to evict most of what is there at once. */
static struct job *take_batch(struct store *s, uint32_t *n_taken)
{
    uint64_t bytes_max = s->max_bytes / 8;
    if (bytes_max > STORE_BATCH_BYTES_MAX)
        bytes_max = STORE_BATCH_BYTES_MAX;
    struct job *first = s->queue_first, *last = NULL;
    uint64_t bytes = 0;
    uint32_t n = 0;
    for (struct job *job = first; job; job = job->next) {
        bytes += job->shape.bytes;
        if (job->kind != first->kind || n == STORE_BATCH_JOBS_MAX || (n > 0 && bytes > bytes_max))
            break;
        last = job;
        n++;
    }
    if (!last)
        return NULL;
    s->queue_first = last->next;
    if (!s->queue_first)
        s->queue_last = NULL;
    last->next = NULL;
    *n_taken = n;
    return first;
}

/* Jobs count as queued until they are durable or have failed. */
static void finish_batch(struct store *s, struct job *batch, uint32_t n)
{
    commit_jobs(s, batch);
    pthread_mutex_lock(&s->queue_lock);
    s->n_queued -= n;
    pthread_cond_broadcast(&s->queue_room);
    pthread_mutex_unlock(&s->queue_lock);
}

bool store_has_work(struct store *s)
{
    pthread_mutex_lock(&s->queue_lock);
    bool has_work = s->queue_first || s->is_stopping;
    pthread_mutex_unlock(&s->queue_lock);
    return has_work;
}

/* Between batches; a batch waits for one slice of copying and one record's scrubbing at most.
 * In how many milliseconds to come again if nothing else happens. */
static uint32_t housekeep(struct store *s)
{
    uint32_t wait_ms = collect_slice(s);
    uint64_t now = clock_now_ns() / 1000000;
    if (now - s->housekept_ms < HOUSEKEEP_EVERY_MS)
        return wait_ms;
    s->housekept_ms = now;
    pthread_mutex_lock(&s->lock);
    uint32_t n_touched = s->n_touched;
    pthread_mutex_unlock(&s->lock);
    if (n_touched > 0 && (uint64_t)clock_unix_ms() - s->touched_written_ms > TOUCHED_EVERY_MS)
        commit_touched(s);
    commit_changes(s); /* what a busy or full index refused before */
    scrub_some(s);
    return wait_ms;
}

static void wait_for_work(struct store *s, uint32_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(&s->queue_wake, &s->queue_lock, &until);
}

static void store_thread(void *arg)
{
    struct store *s = arg;
    uint32_t wait_ms = HOUSEKEEP_EVERY_MS;
    s->housekept_ms = clock_now_ns() / 1000000;
    s->slice_due_ms = s->housekept_ms + COLLECT_IDLE_MS;
    for (;;) {
        pthread_mutex_lock(&s->queue_lock);
        if (!s->queue_first && !s->is_stopping)
            wait_for_work(s, wait_ms < HOUSEKEEP_EVERY_MS ? wait_ms : HOUSEKEEP_EVERY_MS);
        uint32_t n_jobs;
        struct job *batch = take_batch(s, &n_jobs);
        bool is_over = !batch && s->is_stopping;
        pthread_mutex_unlock(&s->queue_lock);
        if (is_over)
            return;
        if (batch)
            finish_batch(s, batch, n_jobs);
        wait_ms = housekeep(s);
    }
}

/* ---- open and close ---- */
static void store_release(struct store *s)
{
    ahead_free(s->ahead);
    for (uint32_t i = 0; i < s->n_slots; i++)
        segment_drop(s->segments[i]);
    mem_free(s->segments);
    table_release(&s->table);
    index_close(s->index);
    mem_free(s->changes);
    collect_release(s);
    keyring_release(&s->keyring);
    memset(s->sealings, 0, sizeof s->sealings);
    mem_free(s->pinned);
    mem_free(s->pinned_next);
    mem_free(s->staging);
    mem_free(s->rows);
    if (s->lock_file.fs)
        s->fs->close(&s->lock_file);
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->queue_lock);
    pthread_cond_destroy(&s->queue_wake);
    pthread_cond_destroy(&s->queue_room);
    mem_free(s->dir);
    mem_free(s);
}

static struct store *store_new(const struct os_fs *fs, const char *dir,
                               const struct store_options *options)
{
    struct store *s = mem_try_new(1, sizeof *s);
    if (!s)
        return NULL;
    s->fs = fs;
    s->dir = mem_text(dir, strlen(dir));
    s->is_read_only = options->is_read_only;
    s->max_bytes = options->max_bytes;
    s->keep_free_bytes = options->keep_free_bytes;
    s->segment_bytes = options->segment_bytes;
    s->max_write_per_day = options->max_write_per_day;
    s->scrub_bytes_per_s = options->scrub_bytes_per_s;
    s->lock_file.fd = -1;
    if (options->file_key) {
        s->keyring.has_file_key = true;
        memcpy(s->keyring.file_key, options->file_key, STORE_FILE_KEY_BYTES);
    }
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->queue_lock, NULL);
    pthread_cond_init(&s->queue_wake, NULL);
    pthread_cond_init(&s->queue_room, NULL);
    s->staging = mem_try_new(1, STORE_STAGING_BYTES);
    s->rows = mem_try_new(STORE_CHUNKS_MAX, sizeof *s->rows);
    if (!s->staging || !s->rows) {
        store_release(s);
        return NULL;
    }
    return s;
}

static enum status make_folders(struct store *s, struct err *e)
{
    char folder[FS_PATH_BYTES_MAX];
    snprintf(folder, sizeof folder, "%s/segments", s->dir);
    enum status st = fs_make_dirs(s->fs, s->dir, e);
    if (st == OK)
        st = s->fs->make_dir(s->fs, folder, e);
    return st == OK ? s->fs->sync_dir(s->fs, s->dir, e) : st;
}

static enum status open_store(const struct os_fs *fs, const char *dir,
                              const struct store_options *options, bool is_rebuild,
                              struct store **out, struct err *e)
{
    static const struct store_options plain;
    uint64_t start = clock_now_ns();
    if (!options)
        options = &plain;
    if (strlen(dir) + 64 > FS_PATH_BYTES_MAX)
        return err_set(e, E_LIMIT, "a path of %zu bytes", strlen(dir));
    struct store *s = store_new(fs, dir, options);
    if (!s)
        return err_set(e, E_NOMEM, "store");
    s->is_rebuild = is_rebuild;
    enum status st = OK;
    if (!s->is_read_only) {
        st = make_folders(s, e);
        if (st == OK)
            st = take_lock(s, e);
    }
    if (st == OK)
        st = recover_open(s, e);
    if (st == OK && !is_rebuild)
        st = sealed_check_file_key(s, e);
    s->touched_written_ms = (uint64_t)clock_unix_ms();
    if (st == OK && !s->is_read_only)
        st = thread_start("store", store_thread, s, &s->thread, e);
    if (st != OK) {
        store_release(s);
        return st;
    }
    log_debug("store", "open dir=%s records=%u recovered=%llu segments=%u ms=%.1f", dir,
              s->table.count, (unsigned long long)s->stat.recovered_records, s->n_slots,
              clock_ms_since(start));
    *out = s;
    return OK;
}

enum status store_open(const struct os_fs *fs, const char *dir, const struct store_options *options,
                       struct store **out, struct err *e)
{
    return open_store(fs, dir, options, false, out, e);
}

enum status store_rebuild(const struct os_fs *fs, const char *dir, struct err *e)
{
    struct store *s;
    enum status st = open_store(fs, dir, NULL, true, &s, e);
    if (st == OK)
        store_close(s);
    return st;
}

/* What the index would need to be believed at the next open. */
static void close_index(struct store *s)
{
    char from[FS_PATH_BYTES_MAX], to[FS_PATH_BYTES_MAX];
    if (!s->is_index_lost) {
        commit_touched(s);
        commit_changes(s);
        return;
    }
    index_close(s->index);
    s->index = NULL;
    snprintf(from, sizeof from, "%s/index.db", s->dir);
    snprintf(to, sizeof to, "%s/index.db.damaged", s->dir);
    s->fs->rename(s->fs, from, to, NULL); /* the next open makes it again */
}

void store_close(struct store *s)
{
    if (!s)
        return;
    if (s->thread) {
        pthread_mutex_lock(&s->queue_lock);
        s->is_stopping = true;
        pthread_cond_signal(&s->queue_wake);
        pthread_mutex_unlock(&s->queue_lock);
        thread_join(s->thread);
        commit_seal(s, INDEX_SEGMENT_CLOSED);
        close_index(s);
    }
    store_release(s);
}

uint64_t store_owner_of(const struct digest *salt)
{
    struct digester d = {0};
    digest_begin(&d);
    digest_field(&d, "kvasir owner", salt->b, sizeof salt->b);
    struct digest out = digest_end(&d);
    digester_release(&d);
    return evict_name_of(&out);
}

bool store_encrypts(const struct store *s)
{
    return s->keyring.has_file_key && !s->is_read_only;
}

/* ---- writing ---- */
static enum status put(struct store *s, const struct store_put *put, bool wait, struct err *e)
{
    struct job *job = NULL;
    if (s->is_read_only)
        return err_set(e, E_DENIED, "%s is open read-only", s->dir);
    enum status st = job_of_put(put, &job, e);
    if (st != OK)
        return st;
    st = enqueue(s, job, wait, e);
    if (st != OK)
        mem_free(job);
    return st;
}

enum status store_put(struct store *s, const struct store_put *p, struct err *e)
{
    return put(s, p, false, e);
}

struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool is_done;
    enum status st;
    struct err e;
};

static void wake_waiter(void *arg, enum status st, const struct err *e)
{
    struct waiter *w = arg;
    pthread_mutex_lock(&w->lock);
    w->st = st;
    w->e = *e;
    w->is_done = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
}

static void waiter_init(struct waiter *w)
{
    *w = (struct waiter){0};
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->wake, NULL);
}

static enum status waiter_wait(struct waiter *w, struct err *e)
{
    pthread_mutex_lock(&w->lock);
    while (!w->is_done)
        pthread_cond_wait(&w->wake, &w->lock);
    pthread_mutex_unlock(&w->lock);
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->wake);
    if (w->st != OK && e)
        *e = w->e;
    return w->st;
}

enum status store_put_wait(struct store *s, const struct store_put *p, struct err *e)
{
    struct waiter w;
    struct store_put with_waiter = *p;
    CHECK(!p->done);
    with_waiter.done = wake_waiter;
    with_waiter.arg = &w;
    waiter_init(&w);
    enum status st = put(s, &with_waiter, true, e);
    return st == OK ? waiter_wait(&w, e) : st;
}

/* A job of another kind than a put, and its end. */
static enum status run_job(struct store *s, enum job_kind kind, const struct digest *key,
                           struct err *e)
{
    struct waiter w;
    if (s->is_read_only)
        return err_set(e, E_DENIED, "%s is open read-only", s->dir);
    struct job *job = job_new(kind);
    if (!job)
        return err_set(e, E_NOMEM, "store");
    if (key)
        job->put.key = *key;
    job->put.done = wake_waiter;
    job->put.arg = &w;
    waiter_init(&w);
    enum status st = enqueue(s, job, true, e);
    CHECK(st == OK); /* it waits for room */
    return waiter_wait(&w, e);
}

enum status store_delete(struct store *s, const struct digest *key, struct err *e)
{
    if (s->is_read_only)
        return err_set(e, E_DENIED, "%s is open read-only", s->dir);
    struct job *job = job_new(JOB_DELETE);
    if (!job)
        return err_set(e, E_NOMEM, "store");
    job->put.key = *key;
    enum status st = enqueue(s, job, false, e);
    if (st != OK)
        mem_free(job);
    return st;
}

enum status store_delete_wait(struct store *s, const struct digest *key, struct err *e)
{
    return run_job(s, JOB_DELETE, key, e);
}

enum status store_collect(struct store *s, struct err *e)
{
    return run_job(s, JOB_COLLECT, NULL, e);
}

void store_flush(struct store *s)
{
    pthread_mutex_lock(&s->queue_lock);
    uint64_t ticket = s->n_tickets;
    while (s->n_finished < ticket)
        pthread_cond_wait(&s->queue_room, &s->queue_lock);
    pthread_mutex_unlock(&s->queue_lock);
}

void store_quarantine(struct store *s, const struct digest *key, const char *why)
{
    bool is_new = false;
    pthread_mutex_lock(&s->lock);
    uint32_t id = table_find(&s->table, key);
    if (id != TABLE_NONE) {
        struct entry *entry = table_at(&s->table, id);
        is_new = !entry->is_quarantined;
        entry->is_quarantined = 1;
        s->stat.n_quarantined += is_new;
    }
    pthread_mutex_unlock(&s->lock);
    if (!is_new)
        return;
    log_warn("store", "record quarantined: %s", why);
    struct job *job = s->is_read_only ? NULL : job_new(JOB_FORGET);
    if (!job)
        return; /* a miss in this process; the next one finds out for itself */
    job->put.key = *key;
    snprintf(job->why, sizeof job->why, "%s", why);
    if (enqueue(s, job, false, NULL) != OK)
        mem_free(job);
}

void store_stat(struct store *s, struct store_stat *out)
{
    uint64_t total;
    pthread_mutex_lock(&s->lock);
    *out = s->stat;
    for (uint32_t i = 0; i < s->n_slots; i++) {
        if (!s->segments[i])
            continue;
        out->n_segments++;
        out->segment_bytes += s->segments[i]->file_bytes;
    }
    pthread_mutex_unlock(&s->lock);
    pthread_mutex_lock(&s->queue_lock);
    out->n_queued = s->n_queued;
    pthread_mutex_unlock(&s->queue_lock);
    out->n_unreadable = s->n_bad_segments;
    out->max_bytes = s->max_bytes;
    out->day_bytes_max = s->max_write_per_day;
    out->scrub_bytes_per_s = s->scrub_bytes_per_s;
    out->is_read_only = s->is_read_only;
    out->index_bytes = s->index ? index_bytes(s->index) : 0;
    if (s->fs->free_bytes(s->fs, s->dir, &out->free_bytes, &total, NULL) != OK)
        out->free_bytes = 0;
}
