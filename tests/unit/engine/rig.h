/* SPDX-License-Identifier: MIT
 * rig.h — engines for tests: open with a model and a store, score to a digest, generate to a list.
 */
#ifndef KVASIR_TESTS_ENGINE_RIG_H
#define KVASIR_TESTS_ENGINE_RIG_H

#include <pthread.h>
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
#include "engine/engine.h"

#define TINY(name) "tests/golden/tiny/tiny-" name ".gguf"

static enum isa rig_isa = ISA_AUTO; /* of engines that do not ask for another */

static inline struct engine *rig_engine(struct engine_options o)
{
    struct engine *g = NULL;
    struct err e = {0};
    if (!o.n_threads)
        o.n_threads = 2;
    if (o.isa == ISA_AUTO)
        o.isa = rig_isa;
    o.cache_max_bytes = o.cache_max_bytes ? o.cache_max_bytes : 1u << 30;
    o.own.max_bytes = 1u << 30;
    if (engine_open(&o, &g, &e) != OK)
        fail_msg("engine_open: %s", e.msg);
    return g;
}

static inline void rig_make_dir(char dir[64])
{
    snprintf(dir, 64, "/tmp/kvasir-engine-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
}

static inline void rig_remove_dir(const char *dir)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
}

static inline uint32_t *rig_tokens(uint64_t seed, uint32_t n, uint32_t n_vocab)
{
    struct prng p = {.seed = seed};
    uint32_t *t = mem_new(n, sizeof *t);
    for (uint32_t i = 0; i < n; i++)
        t[i] = (uint32_t)prng_below(&p, n_vocab);
    return t;
}

/* ---- scores ---- */
static inline void rig_add_logits(void *arg, uint32_t position, const float *logits, uint32_t n)
{
    digest_u64(arg, "position", position);
    digest_field(arg, "logits", logits, n * sizeof *logits);
}

/* Digest of all logits at the last n_positions positions. */
static inline struct digest rig_score(struct engine *g, const uint32_t *tokens, uint32_t n,
                                      uint32_t n_positions, uint32_t chunk, bool no_cache,
                                      struct engine_usage *usage)
{
    uint32_t *positions = mem_new(n_positions, sizeof *positions);
    for (uint32_t i = 0; i < n_positions; i++)
        positions[i] = n - n_positions + i;
    struct digester d = {0};
    struct err e = {0};
    struct engine_score s = {.tokens = tokens,
                             .n_tokens = n,
                             .positions = positions,
                             .n_positions = n_positions,
                             .chunk = chunk,
                             .no_cache = no_cache,
                             .each = rig_add_logits,
                             .arg = &d};
    digest_begin(&d);
    if (engine_score(g, &s, usage, &e) != OK)
        fail_msg("engine_score: %s", e.msg);
    struct digest out = digest_end(&d);
    digester_release(&d);
    mem_free(positions);
    return out;
}

/* ---- generation ---- */
#define RIG_GENERATED_MAX 256u
struct rig_answer {
    uint32_t tokens[ENGINE_CHOICES_MAX][RIG_GENERATED_MAX];
    float logprobs[ENGINE_CHOICES_MAX][RIG_GENERATED_MAX];
    uint32_t n[ENGINE_CHOICES_MAX];
    char text[ENGINE_CHOICES_MAX][8192];
    enum finish_reason finish[ENGINE_CHOICES_MAX];
    struct engine_usage usage;
    struct err error;
    uint32_t n_events;
    bool is_done;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    /* Called on each text event, on the engine's thread. */
    void (*on_text)(void *arg, struct rig_answer *a);
    void *on_text_arg;
    uint64_t id;
};

static inline void rig_event(void *arg, const struct engine_event *ev)
{
    struct rig_answer *a = arg;
    a->n_events++;
    if (ev->kind == EVENT_TEXT || ev->kind == EVENT_FINISHED) {
        size_t used = strlen(a->text[ev->choice]);
        if (used + ev->text.len < sizeof a->text[0])
            memcpy(a->text[ev->choice] + used, ev->text.ptr, ev->text.len);
    }
    if (ev->kind == EVENT_TEXT && a->n[ev->choice] < RIG_GENERATED_MAX) {
        a->tokens[ev->choice][a->n[ev->choice]] = ev->token;
        a->logprobs[ev->choice][a->n[ev->choice]++] = ev->sampled ? ev->sampled->logprob : 0;
        if (a->on_text)
            a->on_text(a->on_text_arg, a);
    }
    if (ev->kind == EVENT_FINISHED)
        a->finish[ev->choice] = ev->finish;
    if (ev->kind != EVENT_DONE && ev->kind != EVENT_ERROR)
        return;
    if (ev->usage)
        a->usage = *ev->usage;
    if (ev->kind == EVENT_ERROR)
        a->error = *ev->error;
    pthread_mutex_lock(&a->mutex);
    a->is_done = true;
    pthread_cond_signal(&a->cond);
    pthread_mutex_unlock(&a->mutex);
}

static inline struct rig_answer *rig_answer_new(void)
{
    struct rig_answer *a = mem_new(1, sizeof *a);
    pthread_mutex_init(&a->mutex, NULL);
    pthread_cond_init(&a->cond, NULL);
    return a;
}

static inline struct engine_request *rig_request(struct engine *g, const uint32_t *tokens,
                                                 uint32_t n, uint32_t max_tokens)
{
    struct engine_request *r = engine_request_new(g);
    assert_non_null(r);
    uint32_t *copy = arena_alloc(&r->arena, n, sizeof *copy);
    memcpy(copy, tokens, n * sizeof *copy);
    r->kind = PROMPT_TOKENS;
    r->tokens = copy;
    r->n_tokens = n;
    r->max_tokens = max_tokens;
    r->ignore_eos = true;
    r->sampling.temperature = 0;
    r->sampling.wants_logprob = true;
    return r;
}

static inline void rig_submit(struct engine *g, struct engine_request *r, struct rig_answer *a)
{
    struct err e = {0};
    r->event = rig_event;
    r->event_arg = a;
    if (engine_submit(g, r, &a->id, &e) != OK)
        fail_msg("engine_submit: %s", e.msg);
}

static inline void rig_wait(struct rig_answer *a)
{
    pthread_mutex_lock(&a->mutex);
    while (!a->is_done)
        pthread_cond_wait(&a->cond, &a->mutex);
    pthread_mutex_unlock(&a->mutex);
}

static inline void rig_answer_free(struct rig_answer *a)
{
    pthread_cond_destroy(&a->cond);
    pthread_mutex_destroy(&a->mutex);
    mem_free(a);
}

#endif
