/* SPDX-License-Identifier: MIT
 * session.h — who owns which tokens: tenants, sessions, and the token ids and messages they keep.
 * For:     the engine (a turn ended; what did this response say), HTTP's /v1/sessions, kvasir
 * store. Not for: KV pages, which are a cache of what is kept here: losing them costs time only.
 * Records: docs/format-store.md, "What sessions keep".  A *session* is one record of 4 KiB; tokens
 *          and messages lie in *lines*, which grow by appending and are shared by forks.
 * Thread:  any.  One writer at a time changes sessions (a mutex held across the write: replies are
 *          acknowledged, so somebody waits for the disk anyway); looking never waits for it.
 * Order:   sessions_open → (sessions_tenant, sessions_keep, sessions_command …)* → sessions_close.
 */
#ifndef KVASIR_SESSION_SESSION_H
#define KVASIR_SESSION_SESSION_H

#include "base/digest.h"
#include "base/slice.h"
#include "store/store.h"
#include "text/json.h"

#define SESSION_NAME_BYTES_MAX   200u
#define SESSION_TAG_BYTES_MAX    64u
#define SESSION_REASON_BYTES_MAX 200u
#define SESSION_ID_BYTES         16u
#define SESSION_TOKENS_MAX       (1u << 24) /* of one session */
#define SESSION_MESSAGES_MAX     (1u << 18)
#define SESSION_JSON_MAX         (64u << 20) /* messages of one session as JSON */
#define SESSIONS_MAX             (1u << 20)
#define TENANTS_MAX              1024u
#define TENANT_KEYS_MAX          256u

struct sessions;

struct sessions_options {
    struct store *store; /* NULL: tenants only, nothing is kept.  Borrowed. */
    bool is_read_only;
    /* Let go by themselves, once an hour; 0: never.  Replayed turns of chats without a name … */
    uint32_t turn_days;      /* … not used for so long, */
    uint64_t turn_bytes_max; /* … the oldest ones above this; */
    uint32_t session_days;   /* sessions and responses not used for so long, unless pinned */
};
NODISCARD enum status sessions_open(const struct sessions_options *options, struct sessions **out,
                                    struct err *e);
void sessions_close(struct sessions *b);

/* ---- tenants ---- */
/* The tenant of this name, made where there is none: its salt is durable when this returns.
 * hashes [n]: of its API keys, remembered in place of those before: the caller's list is the truth,
 * and a key may move to another tenant.  index 0 is "default".  E_INVALID: the name; E_LIMIT: too
 * many keys or tenants; E_DENIED: unknown, and the store is open read-only; E_IO: a part of the
 * store cannot be read, and the tenant may be in it. */
NODISCARD enum status sessions_tenant(struct sessions *b, struct slice name,
                                      const struct digest *hashes, uint32_t n, uint32_t *index,
                                      struct err *e);
/* E_NOT_FOUND. */
NODISCARD enum status sessions_find_tenant(struct sessions *b, struct slice name, uint32_t *index,
                                           struct err *e);
struct digest sessions_salt(struct sessions *b, uint32_t tenant);

/* The salt of what the operator made public; false: nothing yet. */
bool sessions_public_salt(struct sessions *b, struct digest *salt);
/* The full pages of a session's first `at` tokens (0: all) serve every tenant from now on: who has
 * the cache is told by cache_set_public.  E_DENIED: imported ones. */
NODISCARD enum status sessions_publish(struct sessions *b, uint32_t tenant, struct slice which,
                                       uint32_t at, struct buf *out, struct err *e);

/* ---- what computed the pages ---- */
struct session_origin {
    struct digest root;   /* of all chains: model, KV type, numerics */
    const char *model;    /* its name */
    const char *kv_type;  /* "f16" */
    struct digest digest; /* the model's identity */
};

/* ---- a turn ended ---- */
struct session_turn {
    uint32_t tenant;
    struct slice name;     /* of the session whose end moves; empty: none */
    struct slice response; /* id of a response that is to be kept; empty: none */
    struct slice previous; /* response id or name that it goes on from; empty: none */
    const uint32_t *tokens;
    uint32_t n_tokens;
    const struct json *messages; /* array, or NULL */
    struct slice reply;          /* what the assistant wrote: becomes the last message */
    bool has_reply;
    /* The token position behind the first n messages; 0: they end at none of their own.  Asked for
     * what is new only.  NULL: always 0. */
    uint32_t (*end_of)(void *arg, uint32_t n);
    void *arg;
    struct session_origin origin;
};
/* OK: it is durable (and only then may "stored" be said).  E_DENIED: read-only. */
NODISCARD enum status sessions_keep(struct sessions *b, const struct session_turn *turn,
                                    struct err *e);

/* ---- reading ---- */
/* A copy of what a session or response keeps. */
struct session_content {
    uint32_t tenant;
    uint32_t n_tokens, n_messages;
    uint32_t first_user_end; /* of messages, when asked for: tokens up to there; 0: not known */
    uint32_t *tokens;
    char *messages; /* n_messages lines of compact JSON, each with its newline */
    size_t messages_bytes;
    struct digest salt; /* of its pages: the tenant's, or an import's own */
    bool is_imported;
    struct digest root;
    bool is_cut; /* damage: less than was kept */
};
/* which: a session's name or id, or a response's id.  what: tokens, messages or both. */
#define SESSION_WANT_TOKENS   1u
#define SESSION_WANT_MESSAGES 2u
NODISCARD enum status sessions_read(struct sessions *b, uint32_t tenant, struct slice which,
                                    unsigned wanted, struct session_content *out, struct err *e);
void session_content_release(struct session_content *c);
/* The salt of a session's pages without reading it; false: there is none of this name. */
bool sessions_find_salt(struct sessions *b, uint32_t tenant, struct slice which,
                        struct digest *salt);
/* Letters, digits and -_.:@/+=~, 1 to SESSION_NAME_BYTES_MAX. */
bool session_name_is_good(struct slice name);

/* ---- turns as a model wrote them ---- */
/* The meta of their rows (RECORD_TOKENS): length of the lead, then behind how many tokens and
 * XXH3-128 of these, by which a deleted session's rows are found.  Old ones have the length only.
 */
#define TURN_ROW_META_BYTES 24u
#define TURN_ROW_META_OLD   4u

/* ---- what begins like a prompt ---- */
#define SESSION_NEAREST_TOKENS 64u
struct session_nearest_request {
    uint32_t tenant;
    bool of_others; /* sessions of all tenants but this one */
    const uint32_t *tokens;
    uint32_t n_tokens;
    const struct json *messages; /* or NULL */
    const struct digest *root;   /* sessions of this root, or of_other_roots; NULL: of any */
    bool of_other_roots;
};
struct session_nearest {
    char name[SESSION_NAME_BYTES_MAX + 1], model[96], kv_type[8];
    struct digest root, identity;
    bool is_imported;
    uint32_t n_tokens, common;                       /* tokens that both begin with */
    uint32_t other[SESSION_NEAREST_TOKENS], n_other; /* how the session goes on there */
    uint32_t n_messages,
        messages_end; /* equal messages; the token position behind them, 0: unknown */
};
/* Looks at the newest 512.  False: there is none. */
bool sessions_nearest(struct sessions *b, const struct session_nearest_request *r,
                      struct session_nearest *out);

/* ---- what nobody used for long ---- */
#define SESSION_TENANT_ALL UINT32_MAX
struct session_expiry {
    uint32_t tenant;         /* whose sessions; or SESSION_TENANT_ALL */
    int64_t sessions_before; /* sessions last used before, unless pinned; unix seconds; 0: none */
    int64_t turns_before;    /* replayed turns, of all tenants, likewise */
    uint64_t turn_bytes_max; /* oldest turns above this; 0: no ceiling */
};
struct session_expired {
    uint32_t n_sessions, n_turns;
};
/* OK: the sessions' deletion is durable. */
NODISCARD enum status sessions_expire(struct sessions *b, const struct session_expiry *o,
                                      struct session_expired *out, struct err *e);

/* ---- is it whole ---- */
struct session_verify {
    uint32_t tenant;
    struct slice which;
    void (*bad)(const char *what, void *arg); /* may be NULL */
    void *arg;
};
/* Reads and checks each record that the session needs; nothing else of the store is looked at.
 * E_NOT_FOUND: no such session.  Damage is in the report. */
NODISCARD enum status sessions_verify(struct sessions *b, const struct session_verify *o,
                                      struct store_verify_report *report, struct err *e);

/* ---- commands: one way for HTTP, the control socket and kvasir store ---- */
/* request: {"op": "list", …}; each op's members are in docs/api/sessions.md.  Appends a JSON object
 * without newline to out.  A failure leaves out as it was. */
NODISCARD enum status sessions_command(struct sessions *b, uint32_t tenant,
                                       const struct json *request, struct buf *out, struct err *e);

#endif
