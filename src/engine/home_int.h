/* SPDX-License-Identifier: MIT
 * home_int.h — the home, for home.c and doors.c. */
#ifndef KVASIR_ENGINE_HOME_INT_H
#define KVASIR_ENGINE_HOME_INT_H

#include "engine/engine_int.h"

struct home_engine {
    struct engine *engine;
    uint32_t n_borrowed;
    bool is_leaving;
};

struct home {
    struct home_options options;
    char *dir_text;
    pthread_mutex_t opening; /* guards the three below; held while the store is opened */
    struct store *store;
    struct sessions *sessions;
    struct control *control; /* NULL: no store, read-only, or stopped */
    int taken_fd;            /* of the process that was here before; −1: none */

    pthread_mutex_t mutex; /* guards the engines; held across nothing else */
    pthread_cond_t returned;
    struct home_engine engines[HOME_ENGINES_MAX];
    uint32_t n_engines;

    pthread_mutex_t hand_over_mutex; /* guards the two below; held while fn runs */
    enum status (*hand_over)(void *arg, int *fd, struct err *e);
    void *hand_over_arg;

    pthread_mutex_t turn_mutex; /* guards the two below */
    pthread_cond_t turn_cond;
    uint64_t turn, next_ticket;
    _Atomic uint32_t n_working;
    _Atomic uint64_t claimed_bytes;
};

/* All that are not about to leave, the oldest first; they stay until home_return. */
uint32_t home_borrow(struct home *h, struct engine *out[HOME_ENGINES_MAX]);
void home_return(struct home *h, struct engine *const *engines, uint32_t n);

/* doors.c: the control socket */
NODISCARD enum status doors_open(struct home *h, struct err *e);
/* Asks whoever has the store to hand over.  E_NOT_FOUND: nobody to ask. */
NODISCARD enum status doors_take_over(struct home *h, struct err *e);

#endif
