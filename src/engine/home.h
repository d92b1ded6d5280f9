/* SPDX-License-Identifier: MIT
 * home.h — what belongs to the process and not to a model: the store, the sessions in it, the
 * socket by which other processes ask for changes, and whose turn it is to use the processors.
 * For:     engine_open; several engines may live in one home.   Not for: models.
 * Thread:  any, but for home_new and home_close.
 * Order:   home_new → (engine_open … engine_close)* → home_close.  The store is opened by the first
 *          engine once its model is in memory: a server that takes over from another one does so
 *          when it can serve. */
#ifndef KVASIR_ENGINE_HOME_H
#define KVASIR_ENGINE_HOME_H

#include "session/session.h"
#include "store/store.h"

#define HOME_ENGINES_MAX 64u

struct home;
struct engine;

struct home_options {
    const char *dir;    /* of the store; NULL: nothing is kept on disk.  Copied */
    uint64_t max_bytes; /* 0: the store's default */
    bool has_key;
    uint8_t key[STORE_FILE_KEY_BYTES];      /* the store is encrypted with it */
    uint64_t max_write_per_day, scrub_rate; /* 0: no ceiling; no scrubbing */
    uint32_t history_days, session_days;    /* what was not used for so long expires; 0: nothing */
    uint64_t history_max_bytes;             /* 0: no ceiling */
    bool is_read_only;
    bool has_many; /* models come and go: imports may be of any that the store knows */
    /* Another process has the store: ask it to hand over, and wait for so long until it has ended;
     * 0: E_BUSY. */
    uint32_t take_over_ms;
};

/* Opens nothing yet.  E_NOMEM. */
NODISCARD enum status home_new(const struct home_options *options, struct home **out,
                               struct err *e);
/* After the last engine's end: makes the store durable, frees.  NULL is fine. */
void home_close(struct home *h);
/* Nobody asks through the socket any more; home_close does it too. */
void home_stop(struct home *h);

/* Opens the store, if nobody has yet.  E_BUSY: another process has it. */
NODISCARD enum status home_open(struct home *h, struct err *e);
/* After home_open. */
const char *home_dir(const struct home *h);     /* NULL: nothing is kept on disk */
struct store *home_store(const struct home *h); /* likewise */
bool home_is_read_only(const struct home *h);
/* Sessions and responses can be kept: there is a store to write to. */
bool home_keeps(const struct home *h);
struct sessions *home_sessions(const struct home *h);

/* The engine answers from now on to what the socket asks, which is opened with the first one. */
NODISCARD enum status home_attach(struct home *h, struct engine *g, struct err *e);
/* Waits for what runs for it. */
void home_detach(struct home *h, struct engine *g);

/* What another process asks of the one that serves: its listening socket, and to end.  fn runs on a
 * thread of the home's. */
void home_on_hand_over(struct home *h, enum status (*fn)(void *arg, int *fd, struct err *e),
                       void *arg);
/* The socket that came with the store; the caller's, once.  −1: none did. */
int home_take_socket(struct home *h);

/* ---- turns ---- */
/* A step uses all processors, so engines step one after the other, each as often as the others that
 * want to.  Returns how long it waited. */
uint64_t home_turn_take(struct home *h);
void home_turn_give(struct home *h);
/* Memory that engines may come to fill with KV pages: another one reckons without it. */
void home_claim(struct home *h, uint64_t bytes);
void home_unclaim(struct home *h, uint64_t bytes);
uint64_t home_claimed(const struct home *h);
/* An engine has requests to step, or has no longer. */
void home_work_begins(struct home *h);
void home_work_ends(struct home *h);
/* Of so many engines. */
uint32_t home_n_working(const struct home *h);

#endif
