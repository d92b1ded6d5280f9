/* SPDX-License-Identifier: MIT
 * side.c — one engine's side file: found at start, published where there was none, mended when it
 * loses bytes under us.  Publishing never holds up a request: it runs on a thread of its own, and
 * whatever goes wrong there costs the next start a conversion and this process nothing. */
#include <stdio.h>

#include "engine/engine_int.h"

static struct digest key_of(const struct digest *identity, const struct digest *layout)
{
    struct digester d = {0};
    digest_begin(&d);
    digest_field(&d, "kvasir packed weights", identity->b, DIGEST_BYTES);
    digest_field(&d, "layout", layout->b, DIGEST_BYTES);
    struct digest key = digest_end(&d);
    digester_release(&d);
    return key;
}

const void *side_find(void *engine, const struct model *m, uint64_t n)
{
    struct engine *g = engine;
    struct side *s = &g->side;
    struct err e;
    uint64_t start = clock_now_ns();
    if (identity_of_model(g, m, &g->info.model_identity, &e) != OK)
        return NULL; /* asked again, and told, when the cache is opened */
    g->has_identity = true;
    struct model_packed packed = model_packed(m);
    s->key = key_of(&g->info.model_identity, &packed.layout);
    s->has_key = true;
    enum status st = packed_open(os_fs_real(), s->dir, &s->key, n, g->team, &s->map, &e);
    if (st != OK) {
        if (st != E_NOT_FOUND)
            log_warn("engine",
                     "the repacked weights in %s cannot be used (%s); they are made again", s->dir,
                     e.msg);
        return NULL;
    }
    log_info("engine", "repacked weights mapped bytes=%llu ms=%.1f", (unsigned long long)n,
             clock_ms_since(start));
    return s->map.payload;
}

void *side_place(void *engine, uint64_t n)
{
    struct engine *g = engine;
    struct side *s = &g->side;
    struct err e;
    if (!s->has_key)
        return NULL;
    if (packed_begin(os_fs_real(), s->dir, n, &s->map, &s->making, &e) == OK)
        return (void *)(uintptr_t)s->map.payload;
    log_warn("engine",
             "the repacked weights are not kept: %s; they are in memory, and the next start makes "
             "them again",
             e.msg);
    return NULL;
}

/* What a disk that failed keeps of the mapped weights is not to be relied upon: after the next step
 * they are packed again, into memory, and that step is void. */
static void lose(struct side *s, const struct err *e)
{
    log_warn("engine", "the repacked weights are not kept: %s; the next start makes them again",
             e->msg);
    atomic_store(&s->is_lost, true);
}

static void publish(void *arg)
{
    struct engine *g = arg;
    struct side *s = &g->side;
    uint64_t start = clock_now_ns();
    struct packed_head head = {.key = s->key,
                               .identity = g->info.model_identity,
                               .made_unix_s = clock_unix_s(),
                               .payload_bytes = s->payload_bytes};
    struct err e;
    snprintf(head.model, sizeof head.model, "%s", g->info.model_name);
    enum status st = packed_finish(s->making, &head, &e);
    s->making = NULL;
    if (st != OK)
        lose(s, &e);
    else
        log_info("engine", "repacked weights kept dir=%s bytes=%llu ms=%.0f", s->dir,
                 (unsigned long long)s->payload_bytes, clock_ms_since(start));
}

void side_publish(struct engine *g)
{
    struct side *s = &g->side;
    struct model_packed packed = model_packed(g->model);
    struct err e;
    s->payload = packed.bytes;
    s->payload_bytes = packed.n;
    if (!s->making)
        return;
    enum status st = os_map_read_only(s->payload, (size_t)s->payload_bytes, &e);
    if (st == OK)
        st = thread_start("publish", publish, g, &s->publisher, &e);
    if (st != OK)
        lose(s, &e);
}

bool side_is_torn(struct engine *g)
{
    const struct side *s = &g->side;
    /* A cut inside a page zeroes that page's end without a signal; all pages behind it raise one.
     * The last page holds no weights: reading it tells of any cut before. */
    (void)*((const volatile uint8_t *)s->payload + s->payload_bytes - 1);
    return os_fault_count_in(s->payload) != s->n_faults || atomic_load(&s->is_lost);
}

enum status side_mend(struct engine *g, struct err *e)
{
    struct side *s = &g->side;
    if (!atomic_exchange(&s->is_lost, false))
        log_warn("engine", "the repacked weights in %s were cut while in use; they are made again",
                 s->dir);
    enum status st = model_repack(g->model, g->gguf, g->team, e);
    s->n_faults = os_fault_count_in(s->payload);
    return st;
}

void side_settle(struct engine *g)
{
    if (g->side.publisher)
        thread_join(g->side.publisher);
    packed_abandon(g->side.making); /* nobody came to publish it */
    g->side.making = NULL;
}

void side_close(struct engine *g)
{
    packed_close(os_fs_real(), &g->side.map);
    mem_free(g->side.dir);
}
