/* SPDX-License-Identifier: MIT
 * lmstudio_download.c — LM Studio's /api/v1/models/download: a model of the hub is fetched beside
 * all else, and asked after by the number of its job.  Who fetches it is the server. */
#include <stdio.h>
#include <time.h>

#include "api/api_int.h"
#include "base/check.h"

/* As its documentation writes times: 2025-10-03T15:33:23.496Z. */
static void write_moment(struct json_writer *w, const char *key, int64_t unix_ms)
{
    char text[64];
    struct tm parts;
    time_t t = (time_t)(unix_ms / 1000);
    gmtime_r(&t, &parts);
    size_t n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(text + n, sizeof text - n, ".%03dZ", (int)(unix_ms % 1000));
    jw_key(w, key);
    jw_text(w, text);
}

static void write_int(struct json_writer *w, const char *key, uint64_t n)
{
    jw_key(w, key);
    jw_int(w, (int64_t)n);
}

static void write_job(struct json_writer *w, const struct api_download *d)
{
    static const char *const states[] = {[API_DOWNLOADING] = "downloading",
                                         [API_DOWNLOADED] = "completed",
                                         [API_DOWNLOAD_FAILED] = "failed"};
    jw_begin_object(w);
    jw_key(w, "job_id");
    jw_text(w, d->id);
    jw_key(w, "model");
    jw_text(w, d->source);
    jw_key(w, "status");
    jw_text(w, states[d->state]);
    if (d->total_bytes)
        write_int(w, "total_size_bytes", d->total_bytes);
    write_int(w, "downloaded_bytes", d->done_bytes);
    if (d->state == API_DOWNLOADING) {
        jw_key(w, "bytes_per_second");
        jw_double(w, d->bytes_per_s);
    }
    if (d->state == API_DOWNLOADING && d->bytes_per_s > 0 && d->total_bytes >= d->done_bytes)
        write_moment(
            w, "estimated_completion",
            d->now_ms + (int64_t)((double)(d->total_bytes - d->done_bytes) * 1e3 / d->bytes_per_s));
    write_moment(w, "started_at", d->started_ms);
    if (d->state == API_DOWNLOADED)
        write_moment(w, "completed_at", d->ended_ms);
    if (d->state == API_DOWNLOAD_FAILED) {
        jw_key(w, "error");
        jw_text(w, d->error);
    }
    jw_end_object(w);
}

void api_download_write(struct buf *out, const struct api_download *d)
{
    struct json_writer w;
    jw_init(&w, out);
    write_job(&w, d);
    buf_add_char(out, '\n');
}

/* What is here need not be fetched. */
static void download(struct fields *f, struct inquiry *a)
{
    struct slice name = {"", 0}, quantization = {"", 0};
    field_string(f, "model", &name);
    field_string(f, "quantization", &quantization);
    if (f->status == OK && name.len == 0)
        field_fail(f, E_INVALID, "model", "is required");
    const struct fleet_list *l = models_of(f, a);
    char source[API_PULL_NAME_MAX];
    const struct slice bare = pull_source(name);
    const bool adds = quantization.len && !memchr(bare.ptr, ':', bare.len);
    int n = snprintf(source, sizeof source, SLICE_FMT "%s" SLICE_FMT, SLICE_ARG(bare),
                     adds ? ":" : "", adds ? (int)quantization.len : 0, quantization.ptr);
    if (f->status == OK && (n < 0 || (size_t)n >= sizeof source))
        field_fail(f, E_INVALID, "model", "is too long");
    if (f->status != OK)
        return;
    const struct fleet_entry *m = fleet_find(l, name);
    if (!m || !m->card)
        m = fleet_find(l, slice_of(source));
    if (m && m->card) {
        jw_begin_object(&a->w);
        jw_key(&a->w, "status");
        jw_text(&a->w, "already_downloaded");
        jw_end_object(&a->w);
    } else if (a->ask->pull) {
        pull_want(f, a->ask->pull, slice_of(source), false);
        a->ask->pull->is_job = true;
    } else {
        answer_refuse(f, 501, "unsupported",
                      "this server fetches no models: serve with --models-dir, or use kvasir pull");
    }
}

static void status_of(struct fields *f, struct inquiry *a)
{
    for (uint32_t i = 0; i < a->ask->n_downloads; i++)
        if (slice_is(a->ask->id, a->ask->downloads[i].id)) {
            write_job(&a->w, &a->ask->downloads[i]);
            return;
        }
    answer_refuse(f, 404, "job_not_found", "there is no download with this job_id");
}

/* Its first versions had no number: all jobs, by what became of them. */
static void status_of_all(struct fields *f, struct inquiry *a)
{
    static const char *const keys[] = {[API_DOWNLOADING] = "downloading",
                                       [API_DOWNLOADED] = "completed",
                                       [API_DOWNLOAD_FAILED] = "failed"};
    (void)f;
    jw_begin_object(&a->w);
    for (uint32_t state = 0; state < ARRAY_COUNT(keys); state++) {
        jw_key(&a->w, keys[state]);
        jw_begin_array(&a->w);
        for (uint32_t i = 0; i < a->ask->n_downloads; i++)
            if (a->ask->downloads[i].state == state)
                write_job(&a->w, &a->ask->downloads[i]);
        jw_end_array(&a->w);
    }
    jw_end_object(&a->w);
}

static const struct api_field rows[] = {
    {"model", FIELD_YES, "OWNER/REPO of the hub, or its address there, into --models-dir", "7",
     NULL},
    {"quantization", FIELD_YES, "such as Q4_K_M, where the repository has several", "7", NULL},
};
static const struct field_set set = FIELD_SET(rows);
static const struct field_set *const all_fields[] = {&set, NULL};
static const struct field_set *const no_fields[] = {NULL};
const struct api_dialect dialect_lmstudio_download = {.name = "v1 download",
                                                      .family = "LM Studio",
                                                      .answer = download,
                                                      .is_for_admins = true,
                                                      .error = lmstudio_error,
                                                      .fields = all_fields};
const struct api_dialect dialect_lmstudio_status = {.name = "v1 download status",
                                                    .family = "LM Studio",
                                                    .answer = status_of,
                                                    .is_for_admins = true,
                                                    .error = lmstudio_error,
                                                    .fields = no_fields};
const struct api_dialect dialect_lmstudio_statuses = {.name = "v1 downloads",
                                                      .family = "LM Studio",
                                                      .answer = status_of_all,
                                                      .is_for_admins = true,
                                                      .error = lmstudio_error,
                                                      .fields = no_fields};
