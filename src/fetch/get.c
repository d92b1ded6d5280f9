/* SPDX-License-Identifier: MIT
 * get.c — one file: asks what it is, brings the missing ranges over several connections, checks the
 * whole, and only then gives it its name.
 *
 *   probe ─ size, tag, ranges? ─▶ read state ─▶ ranges under way ◀─ retry, later each time
 *                                                     │ a range is whole: sync, write state
 *                                       digest, check ◀── all are ─▶ rename
 *
 * A range that breaks off goes on where it broke, as long as this process lives; after that it
 * begins again, since only whole ranges are in the state. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "fetch/state.h"
#include "http/http_client.h"
#include "os/clock.h"

#define REDIRECTS_MAX   8
#define RETRY_DOUBLINGS 6
#define STEP_MS         100 /* between calls of progress */
#define READ_BYTES      (1u << 20)
#define HEADERS_MAX     3 /* and a NULL */

struct fetch;

/* One connection and the range that it brings. */
struct lane {
    struct fetch *f;
    uint32_t range;
    uint64_t at, end; /* of the file: the next byte to come, and behind the last */
    uint64_t not_before_ns;
    uint32_t tries; /* since the last byte */
    bool is_busy, has_range;
    bool is_begun; /* a byte of this call came */
    char range_header[64];
    const char *headers[HEADERS_MAX];
    struct http_call call;
    struct http_answer answer;
};

struct fetch {
    const struct fetch_job *job;
    char part[FS_PATH_BYTES_MAX], state_path[FS_PATH_BYTES_MAX];
    struct os_file file;
    struct http_swarm *swarm;
    struct fetch_state state;
    struct lane lanes[FETCH_CONNECTIONS_MAX];
    uint32_t next_range;
    uint64_t done_bytes, fetched_bytes;
    bool has_ranges, has_digest;
    struct digest digest; /* what the file's should be */
    enum status st;       /* not OK: it ends */
    struct err err;
};

/* ---- the server's words ---- */
static void headers_of(struct lane *l, const struct fetch_job *job, uint64_t from, uint64_t to)
{
    uint32_t n = 0;
    snprintf(l->range_header, sizeof l->range_header, "Range: bytes=%" PRIu64 "-%" PRIu64, from,
             to - 1);
    memset(l->headers, 0, sizeof l->headers);
    if (l->has_range)
        l->headers[n++] = l->range_header;
    if (job->authorization)
        l->headers[n++] = job->authorization;
    l->call = (struct http_call){.url = job->url,
                                 .headers = l->headers,
                                 .redirects_max = REDIRECTS_MAX,
                                 .idle_s_max = job->idle_s_max,
                                 .uses_proxy = true};
}

/* "bytes 5-9/100".  False: absent or malformed. */
static bool content_range(const struct http_answer *a, uint64_t *first, uint64_t *size)
{
    char text[128];
    uint64_t last;
    return http_answer_header(a, "Content-Range", text, sizeof text) &&
           sscanf(text, "bytes %" SCNu64 "-%" SCNu64 "/%" SCNu64, first, &last, size) == 3 &&
           *first <= last && last < *size;
}

static enum status refused(const struct fetch_job *job, int status, struct err *e)
{
    if (status == 401 || status == 403)
        return err_set(
            e, E_DENIED,
            "%.150s: the server says %d; a file behind a login needs a token in HF_TOKEN", job->url,
            status);
    if (status == 404 || status == 410)
        return err_set(e, E_NOT_FOUND, "%.150s: the server has no such file (%d)", job->url,
                       status);
    return err_set(e, E_IO, "%.150s: the server says %d", job->url, status);
}

/* Worth another try: the server is busy or broken, and may not be in a minute. */
static bool is_passing(int status)
{
    return status == 408 || status == 425 || status == 429 || status >= 500;
}

/* What tells two versions of a file apart.  Hubs of models redirect, and name the file by its
 * SHA-256 as they do. */
static void tag_of(const struct http_answer *a, char tag[FETCH_TAG_MAX])
{
    tag[0] = '\0';
    if (!http_answer_header(a, "X-Linked-ETag", tag, FETCH_TAG_MAX))
        http_answer_header(a, "ETag", tag, FETCH_TAG_MAX);
}

static void take_digest(struct fetch *f, const struct http_answer *a)
{
    char tag[FETCH_TAG_MAX];
    f->has_digest = f->job->sha256 != NULL;
    if (f->job->sha256)
        f->digest = *f->job->sha256;
    else if (http_answer_header(a, "X-Linked-ETag", tag, sizeof tag) && strlen(tag) == 66)
        f->has_digest = digest_from_hex(&f->digest, tag + 1, 64);
}

static bool first_byte_only(void *arg, struct slice bytes, double at_ms)
{
    (void)arg;
    (void)bytes;
    (void)at_ms;
    return false;
}

/* The answer to a request of the first byte: 206 with the size, or 200 from a server that knows no
 * ranges. */
static enum status probe_once(struct fetch *f, struct http_client *client, bool *is_final,
                              struct err *e)
{
    struct lane *l = &f->lanes[0];
    struct http_answer a = {0};
    char length[32], tag[FETCH_TAG_MAX];
    uint64_t first = 0, size = 0;
    l->has_range = true;
    headers_of(l, f->job, 0, 1);
    l->call.chunk = first_byte_only;
    enum status st = http_client_call(client, &l->call, &a, e);
    if (st == E_CANCELLED)
        st = OK; /* our own doing */
    *is_final = st != E_IO && st != E_LIMIT && !is_passing(a.status);
    if (st == OK && a.status != 200 && a.status != 206)
        st = refused(f->job, a.status, e);
    if (st == OK && a.status == 206 && !content_range(&a, &first, &size))
        size = 0;
    f->has_ranges = a.status == 206;
    if (st == OK && !f->has_ranges &&
        http_answer_header(&a, "Content-Length", length, sizeof length))
        size = strtoull(length, NULL, 10);
    if (st == OK && size == 0)
        st = err_set(e, E_UNSUPPORTED,
                     "%.150s: the server does not say how long it is, or it is empty", f->job->url);
    if (st == OK) {
        tag_of(&a, tag);
        take_digest(f, &a);
        st = fetch_state_new(&f->state, size, tag, e);
    }
    http_answer_release(&a);
    return st;
}

static uint32_t retry_wait_ms(const struct fetch_job *job, uint32_t tries)
{
    return job->retry_ms << (tries > RETRY_DOUBLINGS ? RETRY_DOUBLINGS : tries);
}

static enum status probe(struct fetch *f, struct err *e)
{
    struct http_client *client;
    bool is_final = true;
    enum status st = http_client_new(&client, e);
    if (st != OK)
        return st;
    st = probe_once(f, client, &is_final, e);
    for (uint32_t tries = 0; st != OK && !is_final && tries + 1 < FETCH_TRIES_MAX; tries++) {
        clock_sleep_ms(retry_wait_ms(f->job, tries));
        if (!f->job->progress(f->job->arg, "waiting for the server", 0, 0)) {
            st = err_set(e, E_CANCELLED, "given up");
            break;
        }
        st = probe_once(f, client, &is_final, e);
    }
    http_client_free(client);
    return st;
}

/* ---- ranges ---- */
static bool fail(struct fetch *f, enum status st)
{
    if (f->st == OK)
        f->st = st;
    return false;
}

/* The first bytes of an answer: are they those that were asked for, of the same file? */
static bool is_as_asked(const struct lane *l)
{
    const struct fetch_state *state = &l->f->state;
    char text[FETCH_TAG_MAX];
    uint64_t first, size;
    tag_of(&l->answer, text);
    if (strcmp(text, state->tag) != 0)
        return false;
    if (l->has_range)
        return content_range(&l->answer, &first, &size) && first == l->at && size == state->bytes;
    return http_answer_header(&l->answer, "Content-Length", text, sizeof text) &&
           strtoull(text, NULL, 10) == state->bytes;
}

static bool take_bytes(void *arg, struct slice bytes, double at_ms)
{
    struct lane *l = arg;
    struct fetch *f = l->f;
    (void)at_ms;
    if (!l->is_begun && !is_as_asked(l))
        return false; /* lane_ended finds out why */
    if (bytes.len > l->end - l->at)
        return fail(f, err_set(&f->err, E_IO, "%.150s: more bytes than asked for", f->job->url));
    enum status st = f->job->fs->write_at(&f->file, bytes.ptr, bytes.len, l->at, &f->err);
    if (st != OK)
        return fail(f, st);
    l->is_begun = true;
    l->at += bytes.len;
    l->tries = 0;
    f->done_bytes += bytes.len;
    f->fetched_bytes += bytes.len;
    return true;
}

/* The range is whole: from now on it survives everything. */
static enum status keep_range(struct fetch *f, uint32_t range)
{
    enum status st = f->job->fs->data_sync(&f->file, &f->err);
    if (st != OK)
        return st;
    f->state.done[range] = '1';
    f->state.n_done++;
    return fetch_state_write(&f->state, f->job->fs, f->state_path, &f->err);
}

static enum status changed(struct fetch *f)
{
    f->state.bytes = 0; /* nothing of it is kept */
    return err_set(&f->err, E_CORRUPT, "%.150s changed while it was fetched; try again",
                   f->job->url);
}

/* Why a call ended without all of its range; OK: another try. */
static enum status lane_failed(struct lane *l, enum status st, const struct err *e)
{
    struct fetch *f = l->f;
    const int status = l->answer.status;
    const bool is_wrong_part = st == E_CANCELLED && !l->is_begun;
    if (is_wrong_part && (status == 200 || status == 206))
        return changed(f);
    if (st == OK || is_wrong_part) {
        if (status == 416 || status == 412)
            return changed(f);
        refused(f->job, status, &f->err);
        if (status != 200 && status != 206 && !is_passing(status))
            return f->err.code;
    } else {
        f->err = *e;
        if (st != E_IO && st != E_LIMIT)
            return st;
    }
    if (++l->tries >= FETCH_TRIES_MAX) {
        err_prefix(&f->err, "failed %u times, what arrived is kept", FETCH_TRIES_MAX);
        return E_IO;
    }
    l->not_before_ns = clock_now_ns() + (uint64_t)retry_wait_ms(f->job, l->tries - 1) * 1000000u;
    return OK;
}

static void lane_ended(void *arg, enum status st, const struct err *e)
{
    struct lane *l = arg;
    struct fetch *f = l->f;
    l->is_busy = false;
    if (f->st == OK) {
        if (l->at == l->end)
            f->st = l->has_range ? keep_range(f, l->range) : OK;
        else
            f->st = lane_failed(l, st, e);
    }
    if (f->st == OK && !l->has_range && l->at < l->end) { /* no going on: from the beginning */
        f->done_bytes -= l->at;
        l->at = 0;
    }
    http_answer_release(&l->answer);
}

/* Gives an idle lane something to bring; false: there is nothing left for it. */
static bool find_work(struct fetch *f, struct lane *l)
{
    if (l->at < l->end)
        return true;
    while (f->next_range < f->state.n_ranges && f->state.done[f->next_range] == '1')
        f->next_range++;
    if (f->next_range == f->state.n_ranges)
        return false;
    l->range = f->next_range++;
    l->at = (uint64_t)l->range * FETCH_RANGE_BYTES;
    l->end = l->at + fetch_range_bytes(&f->state, l->range);
    l->tries = 0;
    l->not_before_ns = 0;
    return true;
}

static enum status start_lane(struct fetch *f, struct lane *l)
{
    headers_of(l, f->job, l->at, l->end);
    l->call.chunk = take_bytes;
    l->call.arg = l;
    l->is_begun = false;
    enum status st = http_swarm_start(f->swarm, &l->call, &l->answer, lane_ended, l, &f->err);
    l->is_busy = st == OK;
    return st;
}

static enum status bring_ranges(struct fetch *f)
{
    const uint32_t n_lanes = f->has_ranges ? f->job->connections : 1;
    for (uint32_t i = 0; i < n_lanes; i++)
        f->lanes[i] = (struct lane){.f = f, .has_range = f->has_ranges};
    if (!f->has_ranges)
        f->lanes[0].end = f->state.bytes; /* all of it is one */
    while (f->st == OK && f->state.n_done < f->state.n_ranges) {
        for (uint32_t i = 0; f->st == OK && i < n_lanes; i++) {
            struct lane *l = &f->lanes[i];
            if (!l->is_busy && find_work(f, l) && clock_now_ns() >= l->not_before_ns)
                f->st = start_lane(f, l);
        }
        if (http_swarm_count(f->swarm) > 0)
            http_swarm_run(f->swarm, clock_now_ns() + STEP_MS * 1000000u);
        else if (f->st == OK)
            clock_sleep_ms(STEP_MS);
        if (f->st == OK &&
            !f->job->progress(f->job->arg, "fetching", f->done_bytes, f->state.bytes))
            f->st = err_set(&f->err, E_CANCELLED, "given up; what arrived is kept");
        if (!f->has_ranges && f->lanes[0].at == f->state.bytes)
            f->state.n_done = f->state.n_ranges;
    }
    return f->st;
}

/* ---- the whole ---- */
static enum status digest_of(struct fetch *f, struct digest *out, struct err *e)
{
    struct digester d = {0};
    uint8_t *bytes = mem_try_new(1, READ_BYTES);
    enum status st = bytes ? OK : err_set(e, E_NOMEM, "reading a file");
    digest_begin(&d);
    for (uint64_t at = 0; st == OK && at < f->state.bytes;) {
        const uint64_t left = f->state.bytes - at;
        size_t n;
        st = f->job->fs->read_at(&f->file, bytes, left < READ_BYTES ? left : READ_BYTES, at, &n, e);
        if (st == OK && n == 0)
            st = err_set(e, E_IO, "%.150s is shorter than it was", f->part);
        if (st != OK)
            break;
        digest_bytes(&d, bytes, n);
        at += n;
        if (!f->job->progress(f->job->arg, "checking", at, f->state.bytes))
            st = err_set(e, E_CANCELLED, "given up; what arrived is kept");
    }
    *out = digest_end(&d);
    digester_release(&d);
    mem_free(bytes);
    return st;
}

static void throw_away(const struct fetch *f)
{
    /* Either may be missing; what could not be removed is told apart by its state next time. */
    (void)f->job->fs->unlink(f->job->fs, f->state_path, NULL);
    (void)f->job->fs->unlink(f->job->fs, f->part, NULL);
}

static void folder_of(const char *path, char dir[FS_PATH_BYTES_MAX])
{
    const char *slash = strrchr(path, '/');
    const int n = slash == path ? 1 : slash ? (int)(slash - path) : 0;
    snprintf(dir, FS_PATH_BYTES_MAX, "%.*s", n ? n : 1, n ? path : ".");
}

static enum status publish(struct fetch *f, struct fetch_result *out, struct err *e)
{
    const struct os_fs *fs = f->job->fs;
    char dir[FS_PATH_BYTES_MAX];
    enum status st = digest_of(f, &out->sha256, e);
    if (st != OK)
        return st;
    if (f->has_digest && !digest_equal(&f->digest, &out->sha256)) {
        char is[DIGEST_HEX_BYTES], should[DIGEST_HEX_BYTES];
        digest_hex(&out->sha256, is);
        digest_hex(&f->digest, should);
        throw_away(f);
        return err_set(e, E_CORRUPT, "its SHA-256 is %s, not %s; thrown away", is, should);
    }
    out->is_verified = f->has_digest;
    st = f->job->check(f->job->arg, f->part, e);
    if (st != OK) {
        throw_away(f);
        return st;
    }
    folder_of(f->job->path, dir);
    st = fs->full_sync(&f->file, e);
    if (st == OK)
        st = fs->rename(fs, f->part, f->job->path, e);
    if (st == OK)
        st = fs->sync_dir(fs, dir, e);
    if (st == OK)
        (void)fs->unlink(fs, f->state_path, NULL);
    return st;
}

static enum status open_part(struct fetch *f, struct err *e)
{
    const struct os_fs *fs = f->job->fs;
    enum status st = fs->open(fs, f->part, FS_WRITE | FS_CREATE, &f->file, e);
    if (st != OK)
        return st;
    st = fs->lock(&f->file, e);
    if (st == E_BUSY)
        err_set(e, E_BUSY, "another process is fetching %.150s", f->job->path);
    return st;
}

/* What an earlier fetch left, if it is of the same file; room for the rest. */
static enum status prepare(struct fetch *f, struct err *e)
{
    const struct os_fs *fs = f->job->fs;
    uint64_t there = 0, free_bytes, total;
    char dir[FS_PATH_BYTES_MAX];
    enum status st = fs->size(&f->file, &there, e);
    if (st != OK)
        return st;
    if (f->has_ranges && there == f->state.bytes)
        fetch_state_read(&f->state, fs, f->state_path);
    for (uint32_t i = 0; i < f->state.n_ranges; i++)
        if (f->state.done[i] == '1')
            f->done_bytes += fetch_range_bytes(&f->state, i);
    folder_of(f->job->path, dir);
    const uint64_t wanted = there < f->state.bytes ? f->state.bytes - there : 0;
    if (fs->free_bytes(fs, dir, &free_bytes, &total, NULL) == OK && free_bytes < wanted)
        return err_set(e, E_FULL, "%.150s wants %.0f MB, %.0f MB are free", f->job->path,
                       (double)wanted * 1e-6, (double)free_bytes * 1e-6);
    if (there > f->state.bytes) { /* of another file, and longer: its end must not stay */
        fs->close(&f->file);
        f->file = (struct os_file){0};
        throw_away(f);
        st = open_part(f, e);
        if (st != OK)
            return st;
    }
    return fs->allocate(&f->file, f->state.bytes, e);
}

static enum status fetch_parts(struct fetch *f, struct fetch_result *out, struct err *e)
{
    enum status st = open_part(f, e);
    if (st == OK)
        st = probe(f, e);
    if (st == OK)
        st = prepare(f, e);
    if (st != OK)
        return st;
    st = http_swarm_new(&f->swarm, e);
    if (st == OK && bring_ranges(f) != OK) {
        st = f->st;
        if (e)
            *e = f->err;
        if (f->state.bytes == 0)
            throw_away(f);
    }
    http_swarm_free(f->swarm); /* what is under way writes no more */
    out->bytes = f->state.bytes;
    out->fetched_bytes = f->fetched_bytes;
    return st == OK ? publish(f, out, e) : st;
}

enum status fetch_file(const struct fetch_job *job, struct fetch_result *out, struct err *e)
{
    *out = (struct fetch_result){0};
    struct fetch *f = mem_try_new(1, sizeof *f);
    if (!f)
        return err_set(e, E_NOMEM, "fetching");
    f->job = job;
    const int n = snprintf(f->part, sizeof f->part, "%s.part", job->path);
    const int m = snprintf(f->state_path, sizeof f->state_path, "%s.part.state", job->path);
    enum status st = n < 0 || m < 0 || (size_t)m >= sizeof f->state_path
                         ? err_set(e, E_LIMIT, "%.150s: a path too long", job->path)
                         : fetch_parts(f, out, e);
    if (f->file.fs)
        job->fs->close(&f->file);
    for (uint32_t i = 0; i < FETCH_CONNECTIONS_MAX; i++)
        http_answer_release(&f->lanes[i].answer);
    fetch_state_release(&f->state);
    mem_free(f);
    return st;
}
