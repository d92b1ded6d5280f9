/* SPDX-License-Identifier: MIT
 * crowd.h — many streams at once, by one thread: each begins when it is due, whether or not others
 * were answered (an open loop: a server that stalls can't hide behind a client that waits), and
 * the time of each piece of text is kept.
 * Order:  fill streams [n] → crowd_run → look → crowd_release. */
#ifndef KVASIR_BENCH_CLIENT_CROWD_H
#define KVASIR_BENCH_CLIENT_CROWD_H

#include "bench/client/chat.h"

#define CROWD_STREAMS_MAX 4096u
#define CROWD_PIECES_MAX  65536u /* of one stream; later ones are not timed */

struct crowd_stream {
    struct chat_ask ask; /* is_stream; piece and arg are the crowd's */
    double due_ms;       /* after the beginning of crowd_run; ascending */
    /* what came of it */
    struct chat_reply reply;
    enum status st;
    struct err err;
    double late_ms;   /* sent so much after it was due: the client's own fault */
    double sent_ms;   /* after the beginning */
    double *piece_ms; /* [n_pieces] after it was sent */
    uint32_t n_pieces, cap_pieces;
    struct chat_talk *talk;
};

/* Whole gaps between events of all streams. */
struct crowd_gaps {
    double *ms; /* [n], ascending */
    size_t n;
};

/* Times of a Poisson process of this mean interval; the same from the same seed. */
void crowd_schedule(struct crowd_stream *streams, uint32_t n, double mean_ms, uint64_t seed);
/* Until all have ended.  A stream that failed is no failure of the run. */
NODISCARD enum status crowd_run(const char *url, struct crowd_stream *streams, uint32_t n,
                                struct err *e);
/* Between pieces of the same stream. */
NODISCARD enum status crowd_gaps(const struct crowd_stream *streams, uint32_t n,
                                 struct crowd_gaps *out, struct err *e);
double crowd_percentile(const struct crowd_gaps *g, double p); /* 0 of none */
void crowd_gaps_release(struct crowd_gaps *g);
/* Most streams between their first and last piece at one moment. */
uint32_t crowd_most_at_once(const struct crowd_stream *streams, uint32_t n);
void crowd_release(struct crowd_stream *streams, uint32_t n);

#endif
