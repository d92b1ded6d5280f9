/* SPDX-License-Identifier: MIT
 * Goal: a prompt gets exactly the KV that its own tokens produced, and computes no token more than
 * DESIGN §3 allows, whatever was there before.
 * Method: a pretended model whose KV is a hash of the whole prefix (rig.h); random trees of
 * prompts, with and without windowed layers, with and without a store, across reopening. */
#include "fs_sim.h"
#include "rig.h"

static void test_extend_and_repeat(void **state)
{
    (void)state;
    struct rig r = {0};
    rig_open(&r);
    uint32_t *t = rig_tokens(1, 1000);
    struct rig_run a = rig_request(&r, t, 500, 100, NULL, 0);
    assert_int_equal(a.resume, 0);
    a = rig_request(&r, t, 500, 100, NULL, 0);
    assert_int_equal(a.resume, 500);
    assert_true(a.has_head);
    a = rig_request(&r, t, 1000, 64, NULL, 0);
    assert_int_equal(a.resume, 500);
    assert_int_equal(a.memory, 500);
    a = rig_request(&r, t, 499, 64, NULL, 0); /* no head there: one token again */
    assert_int_equal(a.resume, 498);
    assert_false(a.has_head);
    rig_close(&r);
    mem_free(t);
}

static void test_diverge_at_every_position(void **state)
{
    (void)state;
    struct rig r = {0};
    rig_open(&r);
    uint32_t *t = rig_tokens(2, 400);
    rig_request(&r, t, 400, 400, NULL, 0);
    for (uint32_t at = 1; at < 400; at += 3) {
        uint32_t other[400];
        memcpy(other, t, sizeof other);
        other[at] = (other[at] + 1) % RIG_VOCAB;
        struct rig_run a = rig_request(&r, other, 400, 400, NULL, 0);
        assert_int_equal(a.resume, at);
        assert_true(a.is_diverged || at % 64 == 0);
        a = rig_request(&r, t, 400, 400, NULL, 0);
        assert_int_equal(a.resume, 400);
    }
    rig_close(&r);
    mem_free(t);
}

/* Windowed: at most the distance to the nearest earlier resumable point is computed again. */
static void test_windowed_points(void **state)
{
    (void)state;
    struct rig r = {.is_windowed = true};
    rig_open(&r);
    uint32_t *t = rig_tokens(3, 5000);
    const uint32_t points[] = {130, 700, 1999};
    rig_request(&r, t, 5000, 512, points, 3);
    const uint32_t resumable[] = {130, 700, 1024, 1999, 2048, 3072, 4096};
    struct cache_stats before, after;
    cache_stats(r.cache, &before);
    for (uint32_t at = 200; at < 5000; at += 97) {
        uint32_t *other = mem_new(5000, sizeof *other);
        memcpy(other, t, 5000 * sizeof *other);
        other[at] = (other[at] + 1) % RIG_VOCAB;
        uint32_t nearest = 0;
        for (size_t i = 0; i < sizeof resumable / sizeof *resumable; i++)
            if (resumable[i] <= at)
                nearest = resumable[i];
        struct err e;
        struct sequence *s;
        struct cache_match m;
        struct cache_request q = {.tokens = other, .n_tokens = 5000, .max_resume = 5000};
        assert_int_equal(cache_begin(r.cache, &q, &s, &m, &e), OK);
        assert_int_equal(m.matched, at);
        assert_true(m.resume >= nearest);
        assert_true(m.resume <= at);
        assert_int_equal(rig_compute(&r, s, other, at + 1, 512), OK);
        sequence_finish(s, false);
        mem_free(other);
    }
    cache_stats(r.cache, &after);
    struct rig_run a = rig_request(&r, t, 5000, 512, NULL, 0);
    assert_int_equal(a.resume, 5000);
    rig_close(&r);
    mem_free(t);
}

/* A request that only asks where it could begin. */
static uint32_t resume_of(struct rig *r, const uint32_t *tokens, uint32_t n)
{
    struct err e;
    struct sequence *s;
    struct cache_match m;
    struct cache_request q = {.tokens = tokens, .n_tokens = n, .max_resume = n};
    assert_int_equal(cache_begin(r->cache, &q, &s, &m, &e), OK);
    sequence_finish(s, false);
    return m.resume;
}

/* The same beginning, then words of one's own. */
static uint32_t *parting(const uint32_t *t, uint32_t n, uint32_t at, uint32_t seed)
{
    uint32_t *other = rig_tokens(1000 + seed, n);
    memcpy(other, t, at * sizeof *other);
    other[at] = (t[at] + 1 + seed) % RIG_VOCAB;
    return other;
}

/* Windowed: where others will come back to is resumable, to the token, and a few tokens before. */
static void test_windowed_shared_point(void **state)
{
    (void)state;
    struct rig r = {.is_windowed = true};
    rig_temp_dir(&r);
    rig_open(&r);
    uint32_t *t = rig_tokens(21, 1000);
    for (uint32_t at = 300; at < 900; at += 37) {
        struct err e;
        struct sequence *s;
        struct cache_match m;
        struct cache_request q = {
            .tokens = t, .n_tokens = 1000, .max_resume = 1000, .shared_at = at};
        t[0] = at % RIG_VOCAB; /* another chain each time */
        t[1] = at / RIG_VOCAB;
        assert_int_equal(cache_begin(r.cache, &q, &s, &m, &e), OK);
        assert_int_equal(rig_compute(&r, s, t, 1000, 256), OK);
        sequence_finish(s, true);
        for (uint32_t i = 0; i < 2; i++) { /* from memory, and from the disk */
            for (uint32_t before = 0; before <= at % 64; before += 9) {
                uint32_t *other = parting(t, 950, at - before, i);
                assert_int_equal(resume_of(&r, other, 950), at - before);
                mem_free(other);
            }
            rig_flush(&r);
            rig_close(&r);
            rig_open(&r);
        }
    }
    rig_close(&r);
    rig_remove_dir(&r);
    mem_free(t);
}

/* Windowed: where nobody foresaw it, the second prompt that parts there pays, all others do not. */
static void test_windowed_parting_is_learned(void **state)
{
    (void)state;
    struct rig r = {.is_windowed = true};
    rig_open(&r);
    uint32_t *t = rig_tokens(22, 1000);
    rig_request(&r, t, 1000, 512, NULL, 0);
    for (uint32_t at = 700; at > 400; at -= 97) {
        uint32_t *second = parting(t, 990, at, 0), *third = parting(t, 990, at, 1);
        assert_int_equal(rig_request(&r, second, 990, 512, NULL, 0).matched, at);
        assert_int_equal(rig_request(&r, third, 990, 512, NULL, 0).resume, at);
        mem_free(second);
        mem_free(third);
    }
    rig_close(&r);
    mem_free(t);
}

/* Windowed: said while the first prompt is on its way, before its window passed the place. */
static void test_windowed_shared_meanwhile(void **state)
{
    (void)state;
    struct rig r = {.is_windowed = true};
    rig_open(&r);
    uint32_t *t = rig_tokens(23, 1000);
    const uint32_t computed[] = {0, 400, 520}, expected[] = {500, 500, 500};
    for (uint32_t i = 0; i < 3; i++) {
        struct err e;
        struct sequence *s;
        struct cache_match m;
        struct cache_request q = {.tokens = t, .n_tokens = 1000, .max_resume = 1000};
        t[0] = i;
        assert_int_equal(cache_begin(r.cache, &q, &s, &m, &e), OK);
        assert_int_equal(rig_compute(&r, s, t, computed[i], 64), OK);
        sequence_share(s, 500);
        assert_int_equal(rig_compute(&r, s, t, 1000, 64), OK);
        sequence_share(s, 600); /* long passed: nothing can be kept, nothing is broken */
        sequence_finish(s, true);
        uint32_t *other = parting(t, 950, 500, i);
        assert_int_equal(resume_of(&r, other, 950), expected[i]);
        mem_free(other);
        other = parting(t, 950, 600, i);
        assert_int_equal(resume_of(&r, other, 950), 512); /* the page of 500, whole */
        mem_free(other);
    }
    rig_close(&r);
    mem_free(t);
}

/* The prompt's end stays a resumable point however long the answer behind it is. */
static void test_prompt_end_survives(void **state)
{
    (void)state;
    struct rig r = {.is_windowed = true};
    rig_open(&r);
    uint32_t *t = rig_tokens(9, 2000);
    for (uint32_t n = 500; n < 700; n += 13) {
        struct err e;
        struct sequence *s;
        struct cache_match m;
        struct cache_request q = {.tokens = t, .n_tokens = n, .max_resume = n};
        float logits[RIG_VOCAB];
        uint32_t *hashes = mem_new(n, sizeof *hashes);
        t[3] = n % RIG_VOCAB; /* another chain each time */
        t[4] = n / RIG_VOCAB;
        assert_int_equal(cache_begin(r.cache, &q, &s, &m, &e), OK);
        assert_int_equal(rig_compute(&r, s, t, n, 512), OK);
        rig_hashes(t, n, hashes);
        rig_logits(hashes, n, logits);
        sequence_keep_head(s, logits);
        assert_int_equal(rig_compute(&r, s, t, n + 800, 1), OK);
        sequence_finish(s, true);
        struct rig_run a = rig_request(&r, t, n, 64, NULL, 0);
        assert_int_equal(a.resume, n);
        mem_free(hashes);
    }
    rig_close(&r);
    mem_free(t);
}

/* Windowed pages that no resumable point needs are not kept: 5,000 tokens, 2 pages a point. */
static void test_windowed_memory(void **state)
{
    (void)state;
    struct rig r = {.is_windowed = true};
    rig_open(&r);
    uint32_t *t = rig_tokens(4, 5000);
    rig_request(&r, t, 5000, 512, NULL, 0);
    struct cache_stats stats;
    cache_stats(r.cache, &stats);
    uint64_t full = 79, window = 5 * 3; /* ends and every 1,024: at most 3 pages of 64 each */
    assert_true(stats.n_pages_memory <= full + window);
    rig_close(&r);
    mem_free(t);
}

/* With memory for spare ones a prompt resumes wherever it parts from the chain, the newest part of
 * it at least; never more than the memory says, and after a restart the points are what is left. */
static void test_windowed_spare(void **state)
{
    (void)state;
    struct rig r = {.is_windowed = true, .spare_max_bytes = 16 * 6 * RIG_CHUNK};
    rig_temp_dir(&r);
    rig_open(&r);
    uint32_t *t = rig_tokens(4, 4000);
    rig_request(&r, t, 4000, 512, NULL, 0);
    struct cache_stats stats;
    rig_flush(&r); /* all that is kept is in the store's map now */
    cache_stats(r.cache, &stats);
    assert_true(stats.memory_bytes > 0);
    assert_true(stats.memory_bytes <= r.spare_max_bytes);
    for (uint32_t round = 0; round < 3;
         round++) /* once more: spare pages serve and are spare again */
        for (uint32_t at = 3400; at < 4000; at += 87) {
            uint32_t *other = parting(t, 4000, at, round);
            assert_int_equal(resume_of(&r, other, 4000), at);
            mem_free(other);
        }
    uint32_t *other = parting(t, 4000, 1700, 9);
    assert_int_equal(resume_of(&r, other, 4000), 1024); /* too long ago: the point before it */
    mem_free(other);
    struct rig_run a = rig_request(&r, t, 4000, 512, NULL, 0);
    assert_int_equal(a.resume, 4000);
    /* What is computed from a spare window is what is computed from nothing: rig_request compares.
     */
    other = parting(t, 4000, 3777, 5);
    a = rig_request(&r, other, 4000, 512, NULL, 0);
    assert_int_equal(a.resume, 3777);
    mem_free(other);
    rig_close(&r);
    rig_open(&r);
    other = parting(t, 4000, 3600, 7);
    assert_int_equal(resume_of(&r, other, 4000), 3072);
    mem_free(other);
    rig_close(&r);
    mem_free(t);
}

static void test_restart(void **state)
{
    struct rig r = {.is_windowed = *(bool *)*state};
    rig_temp_dir(&r);
    rig_open(&r);
    uint32_t *t = rig_tokens(5, 3000);
    rig_request(&r, t, 2000, 300, NULL, 0);
    rig_close(&r);
    rig_open(&r);
    struct rig_run a = rig_request(&r, t, 2000, 300, NULL, 0);
    assert_int_equal(a.resume, 2000);
    assert_int_equal(a.disk, 2000);
    assert_true(a.has_head);
    a = rig_request(&r, t, 3000, 300, NULL, 0);
    assert_int_equal(a.resume, 2000);
    rig_close(&r);
    rig_open(&r);
    uint32_t saved = t[2500];
    t[2500] = (saved + 1) % RIG_VOCAB;
    a = rig_request(&r, t, 3000, 300, NULL, 0);
    assert_int_equal(a.matched, 2500);
    assert_int_equal(a.resume, r.is_windowed ? 2048 : 2500);
    t[2500] = saved;
    a = rig_request(&r, t, 3000, 300, NULL, 0);
    assert_int_equal(a.resume, 3000);
    rig_close(&r);
    rig_remove_dir(&r);
    mem_free(t);
}

static void test_memory_returns(void **state)
{
    (void)state;
    struct rig r = {.is_windowed = true};
    rig_temp_dir(&r);
    rig_open(&r);
    uint32_t *t = rig_tokens(6, 4000);
    rig_request(&r, t, 4000, 512, NULL, 0);
    rig_flush(&r);
    struct cache_stats stats;
    cache_stats(r.cache, &stats);
    assert_int_equal(stats.n_pages_memory, 0); /* durable pages serve from the map */
    assert_true(stats.n_pages_mapped >= 63);
    struct rig_run a = rig_request(&r, t, 4000, 512, NULL, 0);
    assert_int_equal(a.memory, 4000);
    rig_close(&r);
    rig_remove_dir(&r);
    mem_free(t);
}

static void test_forks(void **state)
{
    struct rig r = {.is_windowed = *(bool *)*state};
    rig_open(&r);
    uint32_t *t = rig_tokens(7, 600);
    struct err e;
    struct sequence *s, *f;
    struct cache_match m;
    for (int no_cache = 0; no_cache < 2; no_cache++) {
        struct cache_request q = {
            .tokens = t, .n_tokens = 300, .max_resume = 300, .no_cache = no_cache != 0};
        assert_int_equal(cache_begin(r.cache, &q, &s, &m, &e), OK);
        assert_int_equal(rig_compute(&r, s, t, 300, 128), OK);
        assert_int_equal(sequence_fork(s, &f, &e), OK);
        uint32_t *other = rig_tokens(8, 600);
        memcpy(other, t, 300 * sizeof *t);
        for (uint32_t n = 301; n <= 600; n += 23) {
            assert_int_equal(rig_compute(&r, s, t, n, 64), OK);
            assert_int_equal(rig_compute(&r, f, other, n, 64), OK);
        }
        sequence_finish(s, true);
        sequence_finish(f, true);
        mem_free(other);
    }
    rig_close(&r);
    mem_free(t);
}

/* A budget of KV memory smaller than the conversations: old pages leave, nothing is wrong. */
static void test_small_memory(void **state)
{
    (void)state;
    struct rig r = {.max_bytes = 40u * 8 * RIG_CHUNK};
    rig_open(&r);
    for (uint32_t i = 0; i < 30; i++) {
        uint32_t *t = rig_tokens(100 + i % 5, 1500);
        rig_request(&r, t, 1500, 200, NULL, 0);
        mem_free(t);
        struct cache_stats stats;
        cache_stats(r.cache, &stats);
        assert_true(stats.memory_bytes <= r.max_bytes);
    }
    uint32_t *t = rig_tokens(999, 4000);
    struct err e;
    struct sequence *s;
    struct cache_match m;
    struct cache_request q = {.tokens = t, .n_tokens = 4000, .max_resume = 4000};
    assert_int_equal(cache_begin(r.cache, &q, &s, &m, &e), OK);
    assert_int_equal(rig_compute(&r, s, t, 4000, 200), E_LIMIT);
    sequence_finish(s, true);
    rig_close(&r);
    mem_free(t);
}

/* A chain whose pages left memory did not diverge: nobody said anything else. */
static void test_evicted_is_not_diverged(void **state)
{
    (void)state;
    struct rig r = {.max_bytes = 12u * 8 * RIG_CHUNK};
    rig_open(&r);
    uint32_t *t = rig_tokens(1, 600), *u = rig_tokens(2, 300);
    t[0] = 1;
    u[0] = 2;
    rig_request(&r, t, 600, 64, NULL, 0);
    rig_request(&r, u, 300, 64, NULL, 0); /* the end of t gives way */
    struct rig_run run = rig_request(&r, t, 600, 64, NULL, 0);
    assert_true(run.matched > 0 && run.matched < 600);
    assert_false(run.is_diverged);
    t[64] ^= 1; /* now it did, at the first token of a page */
    run = rig_request(&r, t, 600, 64, NULL, 0);
    assert_int_equal(run.matched, 64);
    assert_true(run.is_diverged);
    rig_close(&r);
    mem_free(t);
    mem_free(u);
}

/* A sequence that keeps nothing has no nodes, but the same name for what it holds. */
static void test_chain_without_cache(void **state)
{
    (void)state;
    struct rig r = {0};
    rig_open(&r);
    uint32_t *t = rig_tokens(1, 300);
    struct digest chains[2][3];
    for (uint32_t no_cache = 0; no_cache < 2; no_cache++) {
        static const uint32_t ends[] = {40, 128, 300};
        for (uint32_t i = 0; i < 3; i++) {
            struct cache_request q = {
                .tokens = t, .n_tokens = ends[i], .max_resume = ends[i], .no_cache = no_cache};
            struct sequence *s;
            struct cache_match m;
            struct err e;
            assert_int_equal(cache_begin(r.cache, &q, &s, &m, &e), OK);
            assert_int_equal(rig_compute(&r, s, t, ends[i], 64), OK);
            chains[no_cache][i] = sequence_chain(s);
            sequence_finish(s, true);
        }
    }
    assert_memory_equal(chains[0], chains[1], sizeof chains[0]);
    rig_close(&r);
    mem_free(t);
}

/* Without its beginning a chain is of no use: memory is taken from its end. */
static void test_ends_leave_first(void **state)
{
    (void)state;
    struct rig r = {.max_bytes = 12u * 8 * RIG_CHUNK};
    rig_open(&r);
    uint32_t *t = rig_tokens(1, 640), *u = rig_tokens(2, 256);
    t[0] = 1;
    u[0] = 2;
    rig_request(&r, t, 640, 64, NULL, 0);
    rig_request(&r, u, 256, 64, NULL, 0); /* two pages too many */
    assert_int_equal(rig_request(&r, t, 640, 64, NULL, 0).matched, 512);
    rig_close(&r);
    mem_free(t);
    mem_free(u);
}

/* A full memory is not walked for every page that it gives up: the order of what leaves is kept as
 * chains end, branch and are used again. */
static void test_latest_used_stay(void **state)
{
    (void)state;
    struct rig r = {.is_windowed = true, .max_bytes = 17u * 14 * RIG_CHUNK};
    rig_open(&r);
    uint32_t *t[4];
    for (uint32_t i = 0; i < 4; i++) {
        t[i] = rig_tokens(i, 512);
        t[i][0] = i;
    }
    rig_request(&r, t[0], 512, 64, NULL, 0);
    rig_request(&r, t[1], 512, 64, NULL, 0);
    assert_int_equal(rig_request(&r, t[0], 512, 64, NULL, 0).resume, 512); /* the latest now */
    t[2][511] = 7;
    rig_request(&r, t[2], 512, 64, NULL, 0);
    rig_request(&r, t[3], 512, 64, NULL, 0); /* more than fits: t[1] gives way */
    assert_int_equal(rig_request(&r, t[3], 512, 64, NULL, 0).resume, 512);
    assert_int_equal(rig_request(&r, t[2], 512, 64, NULL, 0).resume, 512);
    assert_int_equal(rig_request(&r, t[0], 512, 64, NULL, 0).resume, 512);
    assert_true(rig_request(&r, t[1], 512, 64, NULL, 0).matched < 512);
    struct cache_stats stats;
    cache_stats(r.cache, &stats);
    assert_true(stats.n_evicted > 0 && stats.memory_bytes <= r.max_bytes);
    rig_close(&r);
    for (uint32_t i = 0; i < 4; i++)
        mem_free(t[i]);
}

/* Divergence is told the same, whether the chain is known in this process or only in the store. */
static void test_divergence_after_restart(void **state)
{
    (void)state;
    struct rig r = {0};
    rig_temp_dir(&r);
    for (uint32_t visit = 0; visit < 2; visit++) {
        rig_open(&r);
        uint32_t *t = rig_tokens(1, 600);
        if (visit == 1)
            t[64] ^= 1;
        struct rig_run run = rig_request(&r, t, 600, 64, NULL, 0);
        assert_int_equal(run.matched, visit * 64);
        assert_int_equal(run.is_diverged, visit == 1);
        rig_close(&r);
        mem_free(t);
    }
    rig_remove_dir(&r);
}

/* A tail that the disk refused once is written when the next request ends there: one that computes
 * its last token again, or one that its head answers. */
static void test_refused_tail_is_written_later(void **state)
{
    bool has_head = *(bool *)*state;
    struct fs_sim *sim = fs_sim_new(3);
    struct rig r = {.dir = "/store", .fs = fs_sim_fs(sim), .is_windowed = has_head};
    struct err e;
    assert_int_equal(r.fs->make_dir(r.fs, "/store", &e), OK);
    fs_sim_use(sim);
    rig_open(&r);
    uint32_t *t = rig_tokens(1, 300);
    rig_flush(&r);
    fs_sim_fail(sim, FS_SIM_SYNC | FS_SIM_WRITE, 0, 1000000, E_FULL);
    struct cache_request q = {.tokens = t, .n_tokens = 100, .max_resume = 100};
    struct sequence *s;
    struct cache_match m;
    assert_int_equal(cache_begin(r.cache, &q, &s, &m, &e), OK);
    assert_int_equal(rig_compute(&r, s, t, 100, 64), OK);
    if (has_head)
        sequence_keep_head(s, (float[RIG_VOCAB]){0});
    sequence_finish(s, true);
    rig_flush(&r);
    struct cache_stats stats;
    cache_stats(r.cache, &stats);
    assert_true(stats.n_put_failed >= 2);
    fs_sim_fail(sim, FS_SIM_SYNC | FS_SIM_WRITE, 0, 0, OK);
    assert_int_equal(cache_begin(r.cache, &q, &s, &m, &e), OK);
    assert_int_equal(m.resume, has_head ? 100 : 99);
    assert_int_equal(rig_compute(&r, s, t, 100, 64), OK);
    sequence_finish(s, true);
    rig_flush(&r);
    rig_close(&r);
    rig_open(&r);
    t[100] ^= 1;
    struct rig_run a = rig_request(&r, t, 110, 64, NULL, 0);
    assert_int_equal(a.disk, 100);
    rig_close(&r);
    fs_sim_use(NULL);
    fs_sim_free(sim);
    mem_free(t);
}

/* Flips a bit in the heads of page records of this depth. */
static uint32_t damage_heads(const char *dir, uint32_t depth)
{
    char path[128];
    uint8_t unit[4096];
    uint32_t n = 0;
    snprintf(path, sizeof path, "%s/segments/%016x.seg", dir, 1u);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    for (long at = 0; fseek(f, at, SEEK_SET) == 0 && fread(unit, sizeof unit, 1, f) == 1;
         at += 4096) {
        if (memcmp(unit, "kvasirRC", 8) != 0 || unit[10] != RECORD_PAGE ||
            memcmp(unit + 96, &depth, 4) != 0)
            continue;
        unit[200] ^= 1;
        assert_int_equal(fseek(f, at + 200, SEEK_SET), 0);
        assert_int_equal(fwrite(unit + 200, 1, 1, f), 1);
        n++;
    }
    assert_int_equal(fclose(f), 0);
    return n;
}

/* The look-up of a full page reads nothing of it: a damaged head is met when the page is about to
 * be used, and then it is a miss like any other damage. */
static void test_damaged_head_of_unread_page(void **state)
{
    struct rig r = {.is_windowed = *(bool *)*state};
    rig_temp_dir(&r);
    rig_open(&r);
    uint32_t *t = rig_tokens(1, 600);
    rig_request(&r, t, 600, 64, NULL, 0);
    rig_flush(&r);
    rig_close(&r);
    assert_true(damage_heads(r.dir, 3) >= 1);
    rig_open(&r);
    t[590] ^= 1;
    struct rig_run run = rig_request(&r, t, 600, 64, NULL, 0); /* checks all KV that it sees */
    assert_int_equal(run.disk + run.memory, run.resume);
    assert_true(run.resume <= 3 * 64);
    struct cache_stats stats;
    cache_stats(r.cache, &stats);
    assert_int_equal(stats.n_bad_pages, 1);
    rig_flush(&r);
    rig_close(&r);
    rig_open(&r); /* it was computed and written again */
    t[595] ^= 1;
    run = rig_request(&r, t, 600, 64, NULL, 0);
    assert_true(run.disk >= 512);
    rig_close(&r);
    rig_remove_dir(&r);
    mem_free(t);
}

/* Many conversations beneath one prompt, in this process and after a restart: each finds its own
 * pages, and one that is new finds the conversation that begins most like it. */
static void test_many_beneath_one_prompt(void **state)
{
    (void)state;
    enum { N = 300, PROMPT = 128, LENGTH = 200 };
    struct rig r = {0};
    rig_temp_dir(&r);
    rig_open(&r);
    uint32_t *prompt = rig_tokens(7, PROMPT), *all[N];
    for (uint32_t i = 0; i < N; i++) {
        all[i] = rig_tokens(1000 + i, LENGTH);
        memcpy(all[i], prompt, PROMPT * sizeof *prompt);
        rig_request(&r, all[i], LENGTH, 64, NULL, 0);
        rig_flush(&r);
    }
    for (uint32_t visit = 0; visit < 2; visit++) {
        for (uint32_t i = visit; i < N; i += 37) {
            assert_int_equal(rig_request(&r, all[i], LENGTH, 64, NULL, 0).resume, LENGTH);
            uint32_t at = PROMPT + 1 + i % 60, old = all[i][at], best = 0;
            all[i][at] ^= 1;
            for (uint32_t k = 0; k < N; k++) {
                uint32_t n = 0;
                for (; n < LENGTH && (k != i || n < at) && all[k][n] == all[i][n]; n++)
                    ;
                best = n > best ? n : best;
            }
            struct cache_request q = {.tokens = all[i], .n_tokens = LENGTH, .max_resume = LENGTH};
            struct cache_explanation x;
            struct err e;
            assert_int_equal(cache_explain(r.cache, &q, &x, &e), OK);
            assert_int_equal(x.match.matched, best);
            mem_free(x.pages);
            all[i][at] = old;
        }
        rig_close(&r);
        rig_open(&r);
    }
    rig_close(&r);
    rig_remove_dir(&r);
    for (uint32_t i = 0; i < N; i++)
        mem_free(all[i]);
    mem_free(prompt);
}

/* Random conversations: grow, branch, repeat, restart; every page seen is checked by the rig. */
static void test_random_tree(void **state)
{
    struct rig r = {.is_windowed = *(bool *)*state};
    struct prng p = {.seed = 42};
    print_message("seed 42\n");
    rig_temp_dir(&r);
    rig_open(&r);
    uint32_t *texts[8];
    for (uint32_t i = 0; i < 8; i++)
        texts[i] = rig_tokens(i / 4, 2500);
    for (uint32_t i = 0; i < 150; i++) {
        uint32_t *t = texts[prng_below(&p, 8)];
        uint32_t n = 1 + (uint32_t)prng_below(&p, 2400);
        if (prng_below(&p, 3) == 0)
            t[prng_below(&p, 2400)] = (uint32_t)prng_below(&p, RIG_VOCAB);
        uint32_t points[2] = {n / 3 + 1, n / 2 + 2};
        rig_request(&r, t, n, 1 + (uint32_t)prng_below(&p, 400), points, 2);
        if (prng_below(&p, 15) == 0) {
            rig_close(&r);
            rig_open(&r);
        }
        if (prng_below(&p, 5) == 0)
            rig_flush(&r);
    }
    for (uint32_t i = 0; i < 8; i++)
        mem_free(texts[i]);
    rig_close(&r);
    rig_remove_dir(&r);
}

int main(void)
{
    static bool no = false, yes = true;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_extend_and_repeat),
        cmocka_unit_test(test_diverge_at_every_position),
        cmocka_unit_test(test_windowed_points),
        cmocka_unit_test(test_windowed_shared_point),
        cmocka_unit_test(test_windowed_parting_is_learned),
        cmocka_unit_test(test_windowed_shared_meanwhile),
        cmocka_unit_test(test_windowed_memory),
        cmocka_unit_test(test_windowed_spare),
        cmocka_unit_test(test_prompt_end_survives),
        cmocka_unit_test_prestate(test_forks, &no),
        cmocka_unit_test_prestate(test_forks, &yes),
        cmocka_unit_test(test_small_memory),
        cmocka_unit_test(test_evicted_is_not_diverged),
        cmocka_unit_test(test_divergence_after_restart),
        cmocka_unit_test(test_ends_leave_first),
        cmocka_unit_test(test_latest_used_stay),
        cmocka_unit_test(test_chain_without_cache),
        cmocka_unit_test_prestate(test_refused_tail_is_written_later, &no),
        cmocka_unit_test_prestate(test_refused_tail_is_written_later, &yes),
        cmocka_unit_test_prestate(test_restart, &no),
        cmocka_unit_test_prestate(test_restart, &yes),
        cmocka_unit_test(test_memory_returns),
        cmocka_unit_test(test_many_beneath_one_prompt),
        cmocka_unit_test_prestate(test_damaged_head_of_unread_page, &no),
        cmocka_unit_test_prestate(test_damaged_head_of_unread_page, &yes),
        cmocka_unit_test_prestate(test_random_tree, &no),
        cmocka_unit_test_prestate(test_random_tree, &yes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
