/* SPDX-License-Identifier: MIT
 * rig.h — a cache with a pretended model: the "KV" of a token at a position is a number made from
 * all tokens up to it, so that a page that belongs to another chain, or an uncomputed slot, shows.
 */
#ifndef KVASIR_TESTS_CACHE_RIG_H
#define KVASIR_TESTS_CACHE_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/prng.h"
#include "cache/cache.h"

#define RIG_HEADS  2u
#define RIG_DIM    16u
#define RIG_WINDOW 100u
#define RIG_CTX    8192u
#define RIG_VOCAB  64u
#define RIG_CHUNK  (RIG_HEADS * RIG_DIM * 64u * 4u)

struct rig {
    struct cache *cache;
    struct store *store;
    char dir[64];
    const struct os_fs *fs; /* where the store is; NULL: the real one */
    bool is_windowed;
    uint64_t max_bytes, spare_max_bytes;
};

static inline void rig_open(struct rig *r)
{
    struct err e = {0};
    if (r->dir[0]) {
        struct store_options so = {
            .max_bytes = 1u << 30, .keep_free_bytes = 1, .segment_bytes = 16u << 20};
        if (store_open(r->fs ? r->fs : os_fs_real(), r->dir, &so, &r->store, &e) != OK)
            fail_msg("store_open: %s", e.msg);
    }
    struct cache_options o = {
        .n_groups = r->is_windowed ? 2 : 1,
        /* Pages of 64 KiB are mapped unread, those of the windowed group are read at once. */
        .groups = {{0, 4, RIG_CHUNK, 8 * RIG_CHUNK}, {RIG_WINDOW, 3, RIG_CHUNK, 6 * RIG_CHUNK}},
        .n_kv_heads = RIG_HEADS,
        .head_dim = RIG_DIM,
        .kv_type = KV_F32,
        .n_vocab = RIG_VOCAB,
        .n_ctx = RIG_CTX,
        .root = {{7}},
        .salt = {{9}},
        .store = r->store,
        .max_bytes = r->max_bytes ? r->max_bytes : 1u << 30,
        .spare_max_bytes = r->spare_max_bytes,
    };
    if (cache_new(&o, &r->cache, &e) != OK)
        fail_msg("cache_new: %s", e.msg);
}

static inline void rig_close(struct rig *r)
{
    cache_free(r->cache);
    store_close(r->store);
    r->cache = NULL;
    r->store = NULL;
}

static inline void rig_temp_dir(struct rig *r)
{
    snprintf(r->dir, sizeof r->dir, "/tmp/kvasir-cache-test-XXXXXX");
    assert_non_null(mkdtemp(r->dir));
}

static inline void rig_remove_dir(struct rig *r)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", r->dir);
    assert_int_equal(system(command), 0);
}

/* The pretended KV: a hash of all tokens up to `position`. */
static inline void rig_hashes(const uint32_t *tokens, uint32_t n, uint32_t *out)
{
    uint32_t h = 2166136261u;
    for (uint32_t i = 0; i < n; i++)
        out[i] = h = (h ^ tokens[i]) * 16777619u + 1;
}

static inline uint32_t rig_layers(const struct rig *r, uint32_t group)
{
    (void)r;
    return group == 0 ? 4 : 3;
}

/* Slot `slot` of a page: K of (layer, head, dim) and V of the same. */
static inline uint32_t *rig_slot(void *page, uint32_t layer, bool is_v, uint32_t head, uint32_t dim,
                                 uint32_t slot)
{
    uint32_t *chunk = (uint32_t *)page + (2 * layer + is_v) * (RIG_CHUNK / 4);
    return is_v ? chunk + (head * 64 + slot) * RIG_DIM + dim
                : chunk + (head * RIG_DIM + dim) * 64 + slot;
}

static inline uint32_t rig_value(uint32_t hash, uint32_t group, uint32_t layer, bool is_v,
                                 uint32_t head, uint32_t dim)
{
    return hash ^ (group << 28 | layer << 24 | (uint32_t)is_v << 20 | head << 16 | dim);
}

/* Checks (is_write false) or writes the KV of positions [from, to) visible through the tables. */
static inline void rig_touch(const struct rig *r, const struct sequence *s, const uint32_t *hashes,
                             uint32_t from, uint32_t to, uint32_t n_step, bool is_write)
{
    for (uint32_t g = 0; g < (r->is_windowed ? 2u : 1u); g++) {
        struct sequence_pages p = sequence_pages(s, g, n_step);
        for (uint32_t at = from; at < to; at++) {
            if (at / 64 < p.first_page)
                fail_msg("group %u: position %u is not in the table", g, at);
            void *page = p.pages[at / 64 - p.first_page];
            for (uint32_t i = 0; i < rig_layers(r, g) * 2 * RIG_HEADS * RIG_DIM; i++) {
                uint32_t dim = i % RIG_DIM, head = i / RIG_DIM % RIG_HEADS;
                bool is_v = i / (RIG_DIM * RIG_HEADS) % 2;
                uint32_t layer = i / (RIG_DIM * RIG_HEADS * 2);
                uint32_t *at_slot = rig_slot(page, layer, is_v, head, dim, at % 64);
                uint32_t value = rig_value(hashes[at], g, layer, is_v, head, dim);
                if (is_write)
                    *at_slot = value;
                else if (*at_slot != value)
                    fail_msg("group %u position %u: foreign or missing KV", g, at);
            }
        }
    }
}

static inline void rig_logits(const uint32_t *hashes, uint32_t n, float *logits)
{
    for (uint32_t i = 0; i < RIG_VOCAB; i++)
        logits[i] = (float)(hashes[n - 1] % 1000u + i);
}

/* Runs tokens[valid .. n) in chunks; before each, checks all that the chunk would see. */
static inline enum status rig_compute(struct rig *r, struct sequence *s, const uint32_t *tokens,
                                      uint32_t n, uint32_t chunk)
{
    uint32_t *hashes = mem_new(n, sizeof *hashes);
    struct err e = {0};
    enum status st = OK;
    rig_hashes(tokens, n, hashes);
    while (st == OK && sequence_valid(s) < n) {
        uint32_t from = sequence_valid(s), take = n - from < chunk ? n - from : chunk;
        uint32_t n_pages, n_bad = 0;
        st = sequence_reserve(s, take, &e);
        if (st != OK)
            break;
        struct sequence *one[] = {s};
        assert_int_equal(cache_verify_begin(r->cache, one, 1, &n_pages, &e), OK);
        for (uint32_t g = 0; g < (r->is_windowed ? 2u : 1u); g++)
            for (uint32_t slot = 0; n_pages && slot < rig_layers(r, g); slot++)
                (void)cache_before_layer(r->cache, g, slot, 0, 1);
        cache_verify_end(r->cache, one, 1, false, &n_bad);
        if (n_bad) {
            st = E_CORRUPT;
            break;
        }
        uint32_t first = r->is_windowed && from >= RIG_WINDOW ? from - RIG_WINDOW + 1 : 0;
        rig_touch(r, s, hashes, first, from, take, false);
        rig_touch(r, s, hashes, from, from + take, take, true);
        st = sequence_append(s, tokens + from, take, &e);
    }
    mem_free(hashes);
    return st;
}

struct rig_run {
    uint32_t resume, matched, memory, disk;
    bool has_head, is_diverged;
};

/* A whole request: look up, compute the rest, keep head and end. */
static inline struct rig_run rig_request(struct rig *r, const uint32_t *tokens, uint32_t n,
                                         uint32_t chunk, const uint32_t *points, uint32_t n_points)
{
    struct err e = {0};
    struct rig_run out = {0};
    for (uint32_t tries = 0; tries < 10; tries++) {
        struct cache_request q = {.tokens = tokens,
                                  .n_tokens = n,
                                  .max_resume = n,
                                  .points = points,
                                  .n_points = n_points};
        struct sequence *s;
        struct cache_match m;
        assert_int_equal(cache_begin(r->cache, &q, &s, &m, &e), OK);
        out = (struct rig_run){m.resume,      m.matched,      m.memory_tokens,
                               m.disk_tokens, m.head != NULL, m.is_diverged};
        assert_int_equal(m.memory_tokens + m.disk_tokens, m.resume);
        uint32_t *hashes = mem_new(n, sizeof *hashes);
        float expected[RIG_VOCAB];
        rig_hashes(tokens, n, hashes);
        rig_logits(hashes, n, expected);
        mem_free(hashes);
        if (m.head) {
            assert_int_equal(m.resume, n);
            assert_memory_equal(m.head, expected, sizeof expected);
        } else {
            assert_true(m.resume < n);
        }
        enum status st = rig_compute(r, s, tokens, n, chunk);
        if (st == OK)
            sequence_keep_head(s, expected);
        sequence_finish(s, st == OK);
        if (st == OK)
            return out;
        assert_int_equal(st, E_CORRUPT);
    }
    fail_msg("ten restarts");
    return out;
}

static inline void rig_flush(struct rig *r)
{
    if (r->store)
        store_flush(r->store);
    cache_poll(r->cache);
}

static inline uint32_t *rig_tokens(uint64_t seed, uint32_t n)
{
    struct prng p = {.seed = seed};
    uint32_t *t = mem_new(n, sizeof *t);
    for (uint32_t i = 0; i < n; i++)
        t[i] = (uint32_t)prng_below(&p, RIG_VOCAB);
    return t;
}

#endif
