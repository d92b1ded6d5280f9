/* SPDX-License-Identifier: MIT
 * keys.h — API keys: whose tenant, how much, and who may look after the server.
 * Held as SHA-256, compared in constant time.  The file can be read again while requests run: a key
 * that went keeps what is under way, one that stayed keeps its account.
 * Thread: any. */
#ifndef KVASIR_SERVER_KEYS_H
#define KVASIR_SERVER_KEYS_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/digest.h"
#include "base/slice.h"
#include "server/server.h"
#include "session/session.h"

/* 0: no ceiling. */
struct key_limits {
    uint32_t requests_per_minute, concurrent;
    uint64_t tokens_per_minute; /* computed and generated; cached ones cost nothing */
};

struct server_key {
    struct digest hash;
    uint32_t tenant;
    char tenant_name[SESSION_NAME_BYTES_MAX + 1];
    bool is_admin;
    atomic_uint refs; /* the table, visits, generations */

    pthread_mutex_t mutex; /* guards all below */
    struct key_limits limits;
    double requests_left, tokens_left; /* of this minute's; they flow back steadily */
    uint64_t flowed_ns;
    uint32_t n_open; /* generations */
};

struct keys {
    pthread_mutex_t mutex; /* guards list and n */
    struct server_key *list[SERVER_KEYS_MAX];
    uint32_t n;
    bool is_needed;        /* there is one: nobody comes in without; set at the start */
    atomic_bool has_admin; /* then only such keys are the operator's, else those of default are */
};

void keys_init(struct keys *k);
void keys_release(struct keys *k);
/* Those of options, and of its file.  In the place of those that are there; on failure they stay.
 */
NODISCARD enum status keys_load(struct keys *k, const struct server_options *options,
                                struct sessions *sessions, struct err *e);
/* NULL: not known.  Give it back with key_unref. */
struct server_key *keys_find(struct keys *k, struct slice key);
/* Is it still one of them, as it was? */
bool keys_hold(struct keys *k, const struct server_key *key);
bool keys_is_admin(const struct keys *k, const struct server_key *key);

void key_ref(struct server_key *key);   /* NULL: nothing */
void key_unref(struct server_key *key); /* NULL: nothing */
/* A generation begins.  False: *what says which limit it would break, *retry_after_s when it won't.
 */
bool key_begin(struct server_key *key, uint64_t now_ns, const char **what, uint32_t *retry_after_s);
/* It has ended and cost so many tokens. */
void key_end(struct server_key *key, uint64_t now_ns, uint64_t n_tokens);

#endif
