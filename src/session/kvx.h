/* SPDX-License-Identifier: MIT
 * kvx.h — a session, or a session and its forks, as one file: tokens, messages, KV pages.
 * For:     carrying conversations between machines; both ends stream, so that pipes do.
 * Format:  docs/format-kvx.md.   Checksums find damage; hostile KV values they cannot find, so an
 *          import's pages get a salt of their own and serve that import and its forks alone.
 * Thread:  any; the store must be open for writing to import. */
#ifndef KVASIR_SESSION_KVX_H
#define KVASIR_SESSION_KVX_H

#include "session/session.h"

#define KVX_SESSIONS_MAX 1024u
#define KVX_FRAME_MAX    (64u << 20)

struct kvx_export {
    uint32_t tenant;
    struct slice which;
    bool with_forks;
    bool tokens_only;
    /* Takes all n bytes; any status but OK ends the export with it. */
    enum status (*write)(void *arg, const void *bytes, size_t n, struct err *e);
    void *arg;
};
struct kvx_count {
    uint32_t n_sessions, n_pages;
    uint64_t page_bytes;
};
/* *out may be NULL: what was written. */
NODISCARD enum status kvx_export(struct sessions *b, const struct kvx_export *o,
                                 struct kvx_count *out, struct err *e);

struct kvx_import {
    uint32_t tenant;
    struct slice as; /* name of the first session; empty: as it was called */
    bool trust;      /* pages are shared with the tenant */
    bool tokens_only;
    const struct digest *roots; /* [n_roots] what is served here; none: any that the store knows */
    uint32_t n_roots;
    bool takes_known; /* beside roots, what the store knows */
    const char *model, *kv_type;
    /* *n: up to max bytes; 0: the end. */
    enum status (*read)(void *arg, void *bytes, size_t max, size_t *n, struct err *e);
    void *arg;
};
/* Nothing of it is seen until all of it was read and checked, and is durable.  answer: JSON.
 * E_CORRUPT, E_SYNTAX: not a whole file; E_UNSUPPORTED: of another model, or a newer version;
 * E_EXISTS: a name is taken. */
NODISCARD enum status kvx_import(struct sessions *b, const struct kvx_import *o, struct buf *answer,
                                 struct err *e);

#endif
