/* SPDX-License-Identifier: MIT
 * store_model.h — a scripted workload on a store, and what must be true of the store afterwards.
 * Each step is a function of (seed, step).  The model keeps, for each record, what was acknowledged
 * last and what was asked for after that without an answer: a record must be found in one of these
 * states, and no other. */
#ifndef KVASIR_TESTS_STORE_MODEL_H
#define KVASIR_TESTS_STORE_MODEL_H

#include "base/check.h"
#include "store_kit.h"

#define MODEL_RECORDS 24
#define MODEL_ABSENT  (-1)

struct model {
    uint64_t seed;
    bool may_evict; /* pages and heads may be missing, or back, at any time */
    struct {
        struct kit_record k;
        int acked;      /* version or MODEL_ABSENT */
        uint64_t asked; /* bit v + 1: version v (0: deletion) was asked for since, without an OK */
        int last_version;
    } at[MODEL_RECORDS];
};

KIT void model_init(struct model *m, uint64_t seed, bool may_evict)
{
    *m = (struct model){.seed = seed, .may_evict = may_evict};
    for (uint32_t i = 0; i < MODEL_RECORDS; i++) {
        struct kit_record *k = &m->at[i].k;
        *k = (struct kit_record){.number = i, .depth = i};
        k->kind = i % 3 == 0   ? RECORD_PAGE
                  : i % 3 == 1 ? RECORD_SESSION
                  : i % 4 == 0 ? RECORD_HEAD
                               : RECORD_TOKENS;
        bool is_kv = k->kind == RECORD_PAGE || k->kind == RECORD_HEAD;
        k->n_chunks = is_kv ? 3 : 1;
        k->chunk_bytes = is_kv ? 2000 + i * 311 : 64 + i * 100;
        m->at[i].acked = m->at[i].last_version = MODEL_ABSENT;
    }
}

enum model_step { STEP_PUT, STEP_DELETE, STEP_COLLECT, STEP_REOPEN, STEP_TOUCH };

/* Mostly puts. */
KIT enum model_step model_choose(struct prng *r)
{
    uint64_t dice = prng_below(r, 20);
    return dice < 13   ? STEP_PUT
           : dice < 16 ? STEP_DELETE
           : dice < 17 ? STEP_COLLECT
           : dice < 18 ? STEP_REOPEN
                       : STEP_TOUCH;
}

/* An acknowledged change ends all doubt; one that failed may have reached the disk or not. */
KIT void model_answer(struct model *m, uint32_t i, int state, bool is_acked)
{
    CHECK(state < 63);
    if (is_acked) {
        m->at[i].acked = state;
        m->at[i].asked = 0;
    } else {
        m->at[i].asked |= 1ull << (state + 1);
    }
}

KIT void model_put(struct model *m, struct store *s, uint32_t i)
{
    struct err e;
    struct kit_record k = m->at[i].k;
    k.version = (uint32_t)++m->at[i].last_version;
    struct kit_put *p = kit_put_new(&k);
    if (k.kind == RECORD_PAGE) {
        p->put.family = kit_digest("family", i % 2, 0);
        p->put.order_len = 4;
        snprintf((char *)p->put.order, 8, "%04u", i);
    }
    model_answer(m, i, (int)k.version, store_put_wait(s, &p->put, &e) == OK);
    kit_put_free(p);
}

KIT void model_delete(struct model *m, struct store *s, uint32_t i)
{
    struct err e;
    struct digest key = kit_key(&m->at[i].k);
    enum status st = store_delete_wait(s, &key, &e);
    if (st != E_NOT_FOUND)
        model_answer(m, i, MODEL_ABSENT, st == OK);
}

/* Runs step number `step`; *s is closed and opened again by STEP_REOPEN, and NULL if that fails. */
KIT void model_step(struct model *m, const struct os_fs *fs, const char *dir,
                    const struct store_options *options, struct store **s, uint64_t step)
{
    struct prng r = {m->seed * 1000003 + step, 0};
    struct err e;
    uint32_t i = (uint32_t)prng_below(&r, MODEL_RECORDS);
    struct digest key = kit_key(&m->at[i].k);
    switch (model_choose(&r)) {
    case STEP_PUT:
        model_put(m, *s, i);
        break;
    case STEP_DELETE:
        model_delete(m, *s, i);
        break;
    case STEP_COLLECT:
        (void)!store_collect(*s, &e);
        break;
    case STEP_REOPEN:
        store_close(*s);
        *s = NULL;
        if (store_open(fs, dir, options, s, &e) != OK)
            *s = NULL;
        break;
    case STEP_TOUCH:
        store_touch(*s, &key, 1);
        break;
    }
}

/* What the store must answer now.  After it, what was found is what was acknowledged.
 * Returns the number of records that are there; fails the test on a wrong one. */
KIT uint32_t model_check(struct model *m, struct store *s, const char *when)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < MODEL_RECORDS; i++) {
        struct kit_record k = m->at[i].k;
        int acked = m->at[i].acked;
        uint32_t version = 0;
        k.version = (uint32_t)(m->at[i].last_version < 0 ? 0 : m->at[i].last_version);
        enum kit_answer answer = kit_get(s, &k, &version);
        if (answer == KIT_WRONG)
            fail_msg("%s: record %u: wrong bytes", when, i);
        int found = answer == KIT_RIGHT ? (int)version : MODEL_ABSENT;
        bool is_kv = k.kind == RECORD_PAGE || k.kind == RECORD_HEAD;
        /* Eviction leaves no tombstone: an older version may come back.  The versions of a page
         * are this test's; a real one's key says what its bytes are. */
        bool is_free = is_kv && m->may_evict;
        if (!is_free && found != acked && !(m->at[i].asked >> (found + 1) & 1))
            fail_msg("%s: record %u kind %d: found %d, acknowledged %d, asked %llx", when, i,
                     (int)k.kind, found, acked, (unsigned long long)m->at[i].asked);
        m->at[i].acked = found;
        m->at[i].asked = 0;
        n += found != MODEL_ABSENT;
    }
    return n;
}

#endif
