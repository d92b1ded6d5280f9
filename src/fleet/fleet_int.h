/* SPDX-License-Identifier: MIT
 * fleet_int.h — inner door: a model's life, and the two threads that lead it.
 *
 *   request ─ fleet_take ─▶ waits ─▶ keeper: which loads, which goes ─ work ─▶ loader: engine_open,
 *                                       ▲ ready()                              engine_close
 *                                       └──────────────── done ◀───────────────┘
 * The keeper never waits for a load, so that expiry, cancelled waits and requests for models that
 * are there are never late by one. */
#ifndef KVASIR_FLEET_INT_H
#define KVASIR_FLEET_INT_H

#include <pthread.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "fleet/fleet.h"
#include "os/clock.h"
#include "os/fs.h"
#include "os/team.h"

struct fleet_file {
    uint64_t device, inode, bytes;
    int64_t mtime_ns;
};

struct fleet_model {
    char *name, *path;
    struct engine_card card;
    bool has_card;
    char error[256];
    enum status failure; /* of the last load that failed; error says why */
    uint64_t failed_ns;  /* when: who waited then is told, who asks later has it tried again */
    struct fleet_file file;
    bool is_gone; /* its file: it is forgotten once nobody has it */
    bool stays;
    bool is_borrowed; /* the engine: fleet_of_engine */
    enum fleet_state state;
    struct engine *engine; /* LOADED, CLOSING */
    uint64_t weight_bytes; /* while it has an engine */
    uint64_t kv_bytes;     /* in memory, when the keeper last looked */
    double load_ms;
    uint32_t n_refs;   /* requests: it can't be unloaded */
    uint32_t n_listed; /* lists: nor may its card change */
    bool is_unwanted;  /* goes as soon as it can */
    int64_t keep_s;    /* FLEET_KEEP_FOREVER: not by itself */
    uint64_t used_ns;  /* when its last reference was given back */
};

struct fleet {
    struct engine_options engine; /* of each model; paths are the model's */
    char *dir;
    char *packed_dir;
    struct home *home; /* NULL: the first model's own */
    uint32_t ttl_s;
    uint64_t max_bytes;

    pthread_mutex_t mutex; /* guards all below; held over no load, no engine, no folder */
    pthread_cond_t work;   /* for the keeper */
    pthread_cond_t order;  /* for the loader */
    struct fleet_model *models[FLEET_MODELS_MAX]; /* [0]: stays; the others by name */
    uint32_t n_models;
    struct fleet_wait *waits; /* in order */
    uint32_t n_waits;
    struct fleet_model *ordered; /* LOADING or CLOSING; the loader's until it is NULL */
    bool is_refusing, is_closing;
    bool is_measured; /* kv_bytes are of this round of the keeper's */
    uint64_t n_loads, n_unloads, n_failed, load_ns;
    struct engine_stats past; /* of engines that are gone: counters only */
    struct os_thread *keeper, *loader;

    pthread_mutex_t scanning; /* one at a time; taken before mutex */
};

/* fleet.c */
struct fleet_model *member_new(const char *name, const char *path);
void member_free(struct fleet_model *m);
/* The one that is meant, under the mutex; NULL: none. */
struct fleet_model *member_find(struct fleet *f, struct slice name);

/* folder.c: what is in the folder now. */
NODISCARD enum status folder_scan(struct fleet *f, struct err *e);
/* A name for a new file in it, from what a client calls a model. */
NODISCARD enum status folder_file_name(struct slice wanted, char out[FLEET_NAME_BYTES_MAX],
                                       struct err *e);

/* work.c */
void keeper_thread(void *arg);
void loader_thread(void *arg);
/* Counters of b join those of a. */
void stats_add(struct engine_stats *a, const struct engine_stats *b);

#endif
