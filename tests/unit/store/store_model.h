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
#define MODEL_FORK    22 /* a session record without a payload */

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
    m->at[MODEL_FORK].k.n_chunks = 0;
}

enum model_step {
    STEP_PUT,
    STEP_DELETE,
    STEP_COLLECT,
    STEP_REOPEN,
    STEP_TOUCH,
    STEP_EXTEND, /* a turn: several records in one batch, queued and not waited for one by one */
    STEP_FORK,   /* a small record without a payload */
    STEP_EXPORT, /* all small records and pages are read and their bytes compared */
    STEP_IMPORT, /* the bytes of one record come back under others' keys, in one batch */
    STEP_PIN,    /* some chains are spared by eviction */
};
#define MODEL_BATCH_MAX 6

/* Mostly puts. */
KIT enum model_step model_choose(struct prng *r)
{
    static const uint8_t dice[] = {
        STEP_PUT,    STEP_PUT,    STEP_PUT,     STEP_PUT,    STEP_PUT,    STEP_PUT,
        STEP_PUT,    STEP_EXTEND, STEP_EXTEND,  STEP_EXTEND, STEP_FORK,   STEP_FORK,
        STEP_DELETE, STEP_DELETE, STEP_DELETE,  STEP_EXPORT, STEP_IMPORT, STEP_IMPORT,
        STEP_PIN,    STEP_TOUCH,  STEP_COLLECT, STEP_REOPEN,
    };
    return (enum model_step)dice[prng_below(r, sizeof dice)];
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

KIT struct kit_put *model_next(struct model *m, uint32_t i, int *version)
{
    struct kit_record k = m->at[i].k;
    *version = ++m->at[i].last_version;
    k.version = (uint32_t)*version;
    struct kit_put *p = kit_put_new(&k);
    if (k.kind == RECORD_PAGE) {
        p->put.family = kit_digest("family", i % 2, 0);
        p->put.order_len = 4;
        snprintf((char *)p->put.order, 8, "%04u", i);
        p->put.parent = kit_digest("chain", (uint64_t)k.kind, i >= 3 ? i - 3 : 99);
        p->put.reach = i % 2 ? 2 : 0;
    }
    return p;
}

KIT void model_put(struct model *m, struct store *s, uint32_t i)
{
    struct err e;
    int version;
    struct kit_put *p = model_next(m, i, &version);
    model_answer(m, i, version, store_put_wait(s, &p->put, &e) == OK);
    kit_put_free(p);
}

KIT void model_done(void *arg, enum status st, const struct err *e)
{
    (void)e;
    *(enum status *)arg = st;
}

/* Records first, first + step, … are put in one go; each is acknowledged for itself. */
KIT void model_batch(struct model *m, struct store *s, uint32_t first, uint32_t step, uint32_t n)
{
    struct {
        struct kit_put *p;
        uint32_t i;
        int version;
        enum status st;
    } batch[MODEL_BATCH_MAX];
    struct err e;
    CHECK(n <= MODEL_BATCH_MAX);
    for (uint32_t b = 0; b < n; b++) {
        batch[b].i = (first + b * step) % MODEL_RECORDS;
        batch[b].p = model_next(m, batch[b].i, &batch[b].version);
        batch[b].p->put.done = model_done;
        batch[b].p->put.arg = &batch[b].st;
        batch[b].st = E_BUSY;
        (void)!store_put(s, &batch[b].p->put, &e); /* refused: done is not called */
    }
    store_flush(s);
    for (uint32_t b = 0; b < n; b++) {
        model_answer(m, batch[b].i, batch[b].version, batch[b].st == OK);
        kit_put_free(batch[b].p);
    }
}

/* Reads one kind as an export does: each chunk through the file. */
KIT bool model_read(const struct store_pin *pin, void *arg)
{
    struct err e;
    for (uint32_t i = 0; i < pin->n_chunks; i++) {
        struct store_chunk_ref c = store_chunk(pin, i);
        uint8_t *bytes = mem_new(1, c.len + 1);
        if (store_read_chunk(arg, pin, i, bytes, &e) == OK && store_check_chunk(pin, i, &e) == OK &&
            memcmp(bytes, c.bytes, (size_t)c.len) != 0)
            fail_msg("an export got other bytes than the map has");
        mem_free(bytes);
    }
    return true;
}

KIT void model_export(struct store *s)
{
    struct err e;
    for (int kind = RECORD_PAGE; kind <= RECORD_SESSION; kind++)
        (void)!store_each(s, (enum record_kind)kind, model_read, s, &e);
}

KIT void model_pin(const struct model *m, struct store *s, struct prng *r)
{
    struct digest ends[3];
    struct err e;
    uint32_t n = (uint32_t)prng_below(r, 4);
    for (uint32_t k = 0; k < n; k++) {
        uint32_t i = (uint32_t)prng_below(r, MODEL_RECORDS);
        ends[k] = kit_digest("chain", (uint64_t)m->at[i].k.kind, i);
    }
    (void)!store_keep_chains(s, ends, n, &e);
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
    case STEP_EXTEND: /* pages of one chain, and what a turn keeps beside them */
        model_batch(m, *s, i, 1, 2 + (uint32_t)prng_below(&r, MODEL_BATCH_MAX - 1));
        break;
    case STEP_FORK:
        model_put(m, *s, MODEL_FORK);
        break;
    case STEP_EXPORT:
        model_export(*s);
        break;
    case STEP_IMPORT:
        model_batch(m, *s, i, 3, 4);
        break;
    case STEP_PIN:
        model_pin(m, *s, &r);
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
