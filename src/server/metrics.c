/* SPDX-License-Identifier: MIT
 * metrics.c — counters, histograms, and the text that Prometheus reads (version 0.0.4). */
#include "server/metrics.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/check.h"

/* Upper bounds in seconds: 1-2-5 from half a millisecond (one token of a small model, a prompt that
 * is known) to minutes (a long prompt on a laptop). */
static const double bounds_s[] = {0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5,
                                  1,      2,     5,     10,    20,   50,   100,  200, 500};
_Static_assert(ARRAY_COUNT(bounds_s) + 1 == METRICS_BUCKETS_MAX, "one bucket beyond the bounds");

#define GAP_WEIGHT        16u /* of the moving mean */
#define RETRY_AFTER_MAX_S 60u

void histogram_add(struct histogram *h, uint64_t ns)
{
    double s = (double)ns * 1e-9;
    size_t i = 0;
    while (i < ARRAY_COUNT(bounds_s) && s > bounds_s[i])
        i++;
    atomic_fetch_add_explicit(&h->buckets[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum_ns, ns, memory_order_relaxed);
}

static void count_family(struct metrics *m, const char *family, enum outcome outcome)
{
    for (size_t i = 0; i < METRICS_FAMILIES_MAX; i++) {
        const char *none = NULL;
        if (atomic_compare_exchange_strong(&m->families[i].family, &none, family) ||
            strcmp(none, family) == 0) { /* one name may lie at several places */
            atomic_fetch_add_explicit(&m->families[i].outcomes[outcome], 1, memory_order_relaxed);
            return;
        }
    }
    CHECK(false); /* more families of dialects than METRICS_FAMILIES_MAX */
}

void metrics_end(struct metrics *m, const char *family, enum outcome outcome, uint64_t now_ns)
{
    count_family(m, family, outcome);
    uint64_t last = atomic_exchange(&m->last_end_ns, now_ns);
    if (last == 0 || last > now_ns)
        return;
    uint64_t mean = atomic_load(&m->end_gap_ns), gap = now_ns - last;
    atomic_store(&m->end_gap_ns, mean ? mean - mean / GAP_WEIGHT + gap / GAP_WEIGHT : gap);
}

uint32_t metrics_retry_after_s(const struct metrics *m, uint32_t n_open)
{
    double s = (double)atomic_load(&m->end_gap_ns) * 1e-9 * n_open / 10;
    return s <= 1 ? 1 : s >= RETRY_AFTER_MAX_S ? RETRY_AFTER_MAX_S : (uint32_t)(s + 0.999);
}

/* ---- the text ---- */
static void head(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_printf(out, "# HELP kvasir_%s %s\n# TYPE kvasir_%s %s\n", name, help, name, type);
}

static void number(struct buf *out, const char *name, const char *type, const char *help,
                   uint64_t value)
{
    head(out, name, type, help);
    buf_printf(out, "kvasir_%s %" PRIu64 "\n", name, value);
}

struct labelled {
    const char *label;
    uint64_t value;
};

static void numbers(struct buf *out, const char *name, const char *type, const char *help,
                    const char *key, const struct labelled *values, size_t n)
{
    head(out, name, type, help);
    for (size_t i = 0; i < n; i++)
        buf_printf(out, "kvasir_%s{%s=\"%s\"} %" PRIu64 "\n", name, key, values[i].label,
                   values[i].value);
}
#define NUMBERS(out, name, type, help, key, ...)                                \
    numbers(out, name, type, help, key, (const struct labelled[]){__VA_ARGS__}, \
            ARRAY_COUNT(((const struct labelled[]){__VA_ARGS__})))

static void seconds(struct buf *out, const char *name, const char *help, const struct histogram *h)
{
    uint64_t n = 0;
    head(out, name, "histogram", help);
    for (size_t i = 0; i < ARRAY_COUNT(bounds_s); i++) {
        n += atomic_load_explicit(&h->buckets[i], memory_order_relaxed);
        buf_printf(out, "kvasir_%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, bounds_s[i], n);
    }
    n += atomic_load_explicit(&h->buckets[ARRAY_COUNT(bounds_s)], memory_order_relaxed);
    buf_printf(out,
               "kvasir_%s_bucket{le=\"+Inf\"} %" PRIu64 "\nkvasir_%s_sum %.9f\nkvasir_%s_count "
               "%" PRIu64 "\n",
               name, n, name, (double)atomic_load_explicit(&h->sum_ns, memory_order_relaxed) * 1e-9,
               name, n);
}

static void steps(struct buf *out, const struct engine_stats *s)
{
    uint64_t n = 0;
    head(out, "step_sequences", "histogram",
         "Steps of the model by how many sequences they ran together (batch size)");
    for (uint32_t i = 0; i + 1 < ENGINE_STEP_BUCKETS; i++) {
        n += s->step_sequences[i];
        buf_printf(out, "kvasir_step_sequences_bucket{le=\"%u\"} %" PRIu64 "\n", 1u << i, n);
    }
    n += s->step_sequences[ENGINE_STEP_BUCKETS - 1];
    buf_printf(out,
               "kvasir_step_sequences_bucket{le=\"+Inf\"} %" PRIu64
               "\nkvasir_step_sequences_sum %" PRIu64 "\nkvasir_step_sequences_count %" PRIu64 "\n",
               n, s->n_step_sequences, n);
    number(out, "step_tokens_total", "counter", "Tokens that went through the model",
           s->n_step_tokens);
}

static void requests(struct buf *out, const struct metrics *m, const struct engine_stats *s)
{
    static const char *const outcomes[OUTCOME_COUNT] = {"done", "failed", "cancelled"};
    head(out, "generations_total", "counter",
         "Requests that wanted text and have ended, by dialect and how they ended");
    for (size_t i = 0; i < METRICS_FAMILIES_MAX; i++) {
        const char *family = atomic_load(&m->families[i].family);
        for (size_t j = 0; family && j < OUTCOME_COUNT; j++)
            buf_printf(out, "kvasir_generations_total{dialect=\"%s\",outcome=\"%s\"} %" PRIu64 "\n",
                       family, outcomes[j], (uint64_t)atomic_load(&m->families[i].outcomes[j]));
    }
    number(out, "requests_running", "gauge", "Requests that decode or prefill now", s->n_running);
    number(out, "requests_waiting", "gauge", "Requests that wait for a slot", s->n_waiting);
    number(out, "requests_refused_by_key_total", "counter",
           "Requests over a limit of their API key", atomic_load(&m->n_refused_by_key));
    number(out, "engine_errors_total", "counter", "Requests that failed in the engine",
           s->n_errors);
    seconds(out, "time_to_first_token_seconds", "From the request's arrival to its first token",
            &m->first_token);
    seconds(out, "inter_token_seconds", "Between two tokens of one choice", &m->between_tokens);
    seconds(out, "request_seconds", "From the request's arrival to its end", &m->request);
    seconds(out, "queue_seconds", "Waiting for a slot", &m->queue);
}

static void tokens(struct buf *out, const struct engine_stats *s)
{
    NUMBERS(out, "prompt_tokens_total", "counter", "Prompt tokens by where their KV came from",
            "source", {"memory", s->memory_tokens}, {"disk", s->disk_tokens},
            {"computed", s->computed_tokens});
    number(out, "completion_tokens_total", "counter", "Tokens generated", s->completion_tokens);
    number(out, "draft_tokens_total", "counter", "Tokens guessed and verified", s->guessed_tokens);
    number(out, "draft_tokens_accepted_total", "counter", "Of them: were what the sampler drew",
           s->accepted_tokens);
}

static void pages(struct buf *out, const struct engine_stats *s)
{
    NUMBERS(out, "kv_pages", "gauge", "KV pages in use, by where they lie", "where",
            {"memory", s->n_pages_memory}, {"mapped", s->n_pages_mapped});
    NUMBERS(out, "kv_bytes", "gauge", "Their bytes", "where", {"memory", s->pages_memory_bytes},
            {"mapped", s->pages_mapped_bytes});
    number(out, "kv_bad_pages_total", "counter", "Stored pages that failed verification",
           s->n_bad_pages);
    number(out, "kv_new_bytes_total", "counter", "KV of tokens that were computed",
           s->new_kv_bytes);
}

static void store(struct buf *out, const struct engine_stats *s)
{
    const struct store_stat *t = &s->store;
    if (!s->has_store)
        return;
    number(out, "store_read_bytes_total", "counter", "Stored KV pages taken into use",
           s->read_bytes);
    NUMBERS(out, "store_written_bytes_total", "counter", "Written to disk, by what", "kind",
            {"page", t->written_by_kind[RECORD_PAGE]}, {"head", t->written_by_kind[RECORD_HEAD]},
            {"tokens", t->written_by_kind[RECORD_TOKENS]},
            {"session", t->written_by_kind[RECORD_SESSION]},
            {"tenant", t->written_by_kind[RECORD_TENANT]}, {"compacted", t->compacted_bytes},
            {"index", t->index_written_bytes});
    NUMBERS(out, "store_records", "gauge", "Records kept", "kind",
            {"page", t->n_records[RECORD_PAGE]}, {"head", t->n_records[RECORD_HEAD]},
            {"tokens", t->n_records[RECORD_TOKENS]}, {"session", t->n_records[RECORD_SESSION]},
            {"tenant", t->n_records[RECORD_TENANT]});
    number(out, "store_segment_bytes", "gauge", "Size of all segments", t->segment_bytes);
    number(out, "store_max_bytes", "gauge", "Its ceiling", t->max_bytes);
    number(out, "store_free_bytes", "gauge", "Free on the file system", t->free_bytes);
    number(out, "store_evictions_total", "counter", "Records evicted", t->n_evicted);
    number(out, "store_evicted_bytes_total", "counter", "Bytes evicted", t->evicted_bytes);
    number(out, "store_quarantined_total", "counter", "Records found damaged", t->n_quarantined);
    number(out, "store_syncs_total", "counter", "fdatasync calls", t->n_syncs);
    number(out, "store_failed_syncs_total", "counter", "fdatasync calls that failed",
           t->n_failed_syncs);
    number(out, "store_queued_records", "gauge", "Records that are not durable yet", t->n_queued);
}

static void models(struct buf *out, const struct fleet_counts *f)
{
    NUMBERS(out, "models", "gauge", "Models that requests may name, by whether they are in memory",
            "state", {"loaded", f->n_loaded}, {"loading", f->n_loading},
            {"not_loaded", f->n_models - f->n_loaded - f->n_loading});
    number(out, "model_loads_total", "counter", "Models loaded since the start, but for the first",
           f->n_loads);
    number(out, "model_unloads_total", "counter", "Models unloaded", f->n_unloads);
    number(out, "model_load_failures_total", "counter", "Loads that failed", f->n_failed);
    head(out, "model_load_seconds_total", "counter", "Time that loads took");
    buf_printf(out, "kvasir_model_load_seconds_total %.6f\n", (double)f->load_ns * 1e-9);
    number(out, "model_requests_waiting", "gauge", "Requests that wait for their model to load",
           f->n_waiting);
    number(out, "model_weight_bytes", "gauge", "Weights of the loaded models", f->loaded_bytes);
}

static void http_part(struct buf *out, const struct http_counts *http)
{
    head(out, "http_replies_total", "counter", "Replies by status");
    for (size_t i = 0; i < ARRAY_COUNT(http->replies); i++)
        if (http->replies[i])
            buf_printf(out, "kvasir_http_replies_total{code=\"%zu\"} %" PRIu64 "\n",
                       i + HTTP_STATUS_FIRST, http->replies[i]);
    number(out, "http_connections", "gauge", "Open connections", http->n_connections);
}

static uint64_t count_open_files(void)
{
    uint64_t n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n > 3 ? n - 3 : 0; /* ".", "..", and the folder itself */
}

static uint64_t resident_bytes(void)
{
    unsigned long long size, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%llu %llu", &size, &resident) != 2)
        resident = 0;
    if (f)
        fclose(f);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Under the names that Prometheus's own libraries give them. */
static void process(struct buf *out, const struct engine_info *info)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    double cpu_s = (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec +
                   1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
    buf_printf(out,
               "# HELP process_cpu_seconds_total CPU time, user and system\n"
               "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total %.6f\n"
               "# HELP process_resident_memory_bytes Resident memory, mapped files included\n"
               "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes %" PRIu64
               "\n# HELP process_open_fds Open file descriptors\n"
               "# TYPE process_open_fds gauge\nprocess_open_fds %" PRIu64
               "\n# HELP process_start_time_seconds Start, in seconds since 1970\n"
               "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds %" PRId64 "\n",
               cpu_s, resident_bytes(), count_open_files(), info->started_unix_s);
}

void metrics_write(struct buf *out, const struct metrics *m, const struct engine_stats *stats,
                   const struct fleet_counts *fleet, const struct engine_info *info,
                   const struct http_counts *http)
{
    head(out, "build_info", "gauge", "The version that runs");
    buf_add_text(out, "kvasir_build_info{version=\"" KVASIR_VERSION "\"} 1\n");
    number(out, "context_tokens", "gauge", "Tokens that a context holds", info->n_ctx);
    requests(out, m, stats);
    tokens(out, stats);
    steps(out, stats);
    pages(out, stats);
    store(out, stats);
    models(out, fleet);
    http_part(out, http);
    process(out, info);
}
