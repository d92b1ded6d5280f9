/* SPDX-License-Identifier: MIT
 * metrics.h — what the server saw of its requests, and all numbers in Prometheus's text format.
 * Labels are bounded: dialects of the table, statuses that were sent, fixed words.  No label holds
 * anything that a client chose.
 * Thread: any; counters are atomic, and a reader may see one of two that belong together. */
#ifndef KVASIR_SERVER_METRICS_H
#define KVASIR_SERVER_METRICS_H

#include <stdatomic.h>

#include "base/buf.h"
#include "engine/engine.h"
#include "fleet/fleet.h"
#include "http/http.h"

#define METRICS_BUCKETS_MAX  20u
#define METRICS_FAMILIES_MAX 8u

struct histogram {
    atomic_uint_fast64_t buckets[METRICS_BUCKETS_MAX]; /* not cumulative; the last one: beyond */
    atomic_uint_fast64_t sum_ns;
};

enum outcome { OUTCOME_DONE, OUTCOME_FAILED, OUTCOME_CANCELLED, OUTCOME_COUNT };

struct metrics {
    struct histogram first_token, between_tokens, request, queue;
    struct {
        _Atomic(const char *) family; /* of api's table: static text */
        atomic_uint_fast64_t outcomes[OUTCOME_COUNT];
    } families[METRICS_FAMILIES_MAX];
    atomic_uint_fast64_t n_refused_by_key;        /* limits of keys */
    atomic_uint_fast64_t last_end_ns, end_gap_ns; /* moving mean of the time between ends */
};

void histogram_add(struct histogram *h, uint64_t ns);
void metrics_end(struct metrics *m, const char *family, enum outcome outcome, uint64_t now_ns);
/* In how many seconds a tenth of n_open requests will have ended, by how fast the last ones did; 1
 * to 60. */
uint32_t metrics_retry_after_s(const struct metrics *m, uint32_t n_open);

void metrics_write(struct buf *out, const struct metrics *m, const struct engine_stats *stats,
                   const struct fleet_counts *fleet, const struct engine_info *info,
                   const struct http_counts *http);

#endif
