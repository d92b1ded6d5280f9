/* SPDX-License-Identifier: MIT
 * store_kit.h — what the store's tests share: folders, records with bytes that follow from their
 * number, and comparing what comes back.  A record's key, meta and payload are functions of
 * (kind, number, version), so any process can say what the right bytes are. */
#ifndef KVASIR_TESTS_STORE_KIT_H
#define KVASIR_TESTS_STORE_KIT_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/prng.h"
#include "os/clock.h"
#include "store/store.h"

#define KIT __attribute__((unused)) static

/* The store warns of what these tests do to it. */
KIT void kit_quiet(void)
{
    if (!getenv("KIT_LOUD"))
        log_set_level(LOG_ERROR);
}

/* ---- folders ---- */
KIT void kit_run(const char *format, const char *path)
{
    char command[1024];
    snprintf(command, sizeof command, format, path);
    assert_int_equal(system(command), 0);
}

/* In memory where there is such a folder: these tests are not about the disk's speed. */
KIT void kit_dir(char out[256])
{
    const char *base = getenv("TMPDIR");
    if (!base)
        base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(out, 256, "%s/kvasir-store-XXXXXX", base);
    assert_non_null(mkdtemp(out));
}

KIT void kit_remove(const char *dir)
{
    kit_run("chmod -R u+rwX '%s'", dir);
    kit_run("rm -rf '%s'", dir);
}

/* ---- records ---- */
struct kit_record {
    enum record_kind kind;
    uint32_t number, version;
    uint32_t n_chunks;
    uint64_t chunk_bytes;
    uint32_t depth;
};

KIT struct digest kit_digest(const char *tag, uint64_t a, uint64_t b)
{
    struct digester d = {0};
    digest_begin(&d);
    digest_u64(&d, tag, a);
    digest_u64(&d, tag, b);
    struct digest out = digest_end(&d);
    digester_release(&d);
    return out;
}

KIT struct digest kit_key(const struct kit_record *k)
{
    return kit_digest("key", (uint64_t)k->kind, k->number);
}

KIT void kit_fill(uint8_t *p, uint64_t n, uint64_t seed)
{
    uint64_t x = seed * 0x9e3779b97f4a7c15ull + 1;
    for (uint64_t i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        p[i] = (uint8_t)x;
    }
}

KIT uint64_t kit_seed(const struct kit_record *k, uint32_t chunk)
{
    return ((uint64_t)k->kind << 56) + ((uint64_t)k->number << 24) + (k->version << 12) + chunk;
}

/* Payload of a record, on the heap, with its put; kit_put_free() after done. */
struct kit_put {
    struct store_put put;
    struct store_chunk *chunks;
    uint8_t *bytes;
    char meta[64];
};

KIT struct kit_put *kit_put_new(const struct kit_record *k)
{
    struct kit_put *p = mem_new(1, sizeof *p);
    p->chunks = mem_new(k->n_chunks + 1, sizeof *p->chunks);
    p->bytes = mem_new(k->n_chunks * k->chunk_bytes + 1, 1);
    for (uint32_t i = 0; i < k->n_chunks; i++) {
        p->chunks[i] = (struct store_chunk){p->bytes + i * k->chunk_bytes, k->chunk_bytes};
        kit_fill(p->bytes + i * k->chunk_bytes, k->chunk_bytes, kit_seed(k, i));
    }
    snprintf(p->meta, sizeof p->meta, "kind=%d number=%u version=%u", (int)k->kind, k->number,
             k->version);
    p->put = (struct store_put){.kind = k->kind,
                                .key = kit_key(k),
                                .chain = kit_digest("chain", (uint64_t)k->kind, k->number),
                                .layout = 7,
                                .depth = k->depth,
                                .cost_ms = 1.5f,
                                .meta = p->meta,
                                .meta_len = (uint32_t)strlen(p->meta),
                                .chunks = p->chunks,
                                .n_chunks = k->n_chunks};
    return p;
}

KIT void kit_put_free(struct kit_put *p)
{
    mem_free(p->chunks);
    mem_free(p->bytes);
    mem_free(p);
}

KIT enum status kit_put_wait(struct store *s, const struct kit_record *k, struct err *e)
{
    struct kit_put *p = kit_put_new(k);
    enum status st = store_put_wait(s, &p->put, e);
    kit_put_free(p);
    return st;
}

/* The bytes of a pinned record are those of version v of k? */
KIT bool kit_pin_equals(const struct store_pin *pin, const struct kit_record *k, uint32_t v)
{
    struct kit_record want = *k;
    want.version = v;
    struct kit_put *p = kit_put_new(&want);
    bool same = pin->kind == want.kind && pin->meta_len == p->put.meta_len &&
                memcmp(pin->meta, p->meta, pin->meta_len) == 0 && pin->n_chunks == want.n_chunks &&
                pin->layout == 7 && pin->depth == want.depth &&
                digest_equal(&pin->chain, &p->put.chain);
    for (uint32_t i = 0; same && i < want.n_chunks; i++) {
        struct store_chunk_ref c = store_chunk(pin, i);
        same = c.len == want.chunk_bytes && memcmp(c.bytes, p->chunks[i].bytes, (size_t)c.len) == 0;
    }
    kit_put_free(p);
    return same;
}

enum kit_answer { KIT_RIGHT, KIT_MISS, KIT_WRONG };

/* Gets k: the right bytes of a version 0..k->version, a miss (also when a checksum says so), or
 * wrong bytes that no checksum noticed. */
KIT enum kit_answer kit_get(struct store *s, const struct kit_record *k, uint32_t *version)
{
    struct store_pin pin;
    struct err e;
    struct digest key = kit_key(k);
    if (store_get(s, &key, &pin, &e) != OK)
        return KIT_MISS;
    enum kit_answer answer = KIT_WRONG;
    for (uint32_t i = 0; i < pin.n_chunks; i++)
        if (store_verify_chunk(&pin, i, &e) != OK)
            answer = KIT_MISS;
    char meta[sizeof((struct kit_put *)0)->meta];
    unsigned kind, number, v;
    snprintf(meta, sizeof meta, "%.*s", (int)pin.meta_len, (const char *)pin.meta);
    if (answer == KIT_WRONG &&
        sscanf(meta, "kind=%u number=%u version=%u", &kind, &number, &v) == 3 && v <= k->version &&
        kit_pin_equals(&pin, k, v)) {
        answer = KIT_RIGHT;
        if (version)
            *version = v;
    }
    store_unpin(s, &pin);
    return answer;
}

KIT void kit_must_have_at(struct store *s, const struct kit_record *k, int line)
{
    uint32_t version = UINT32_MAX;
    struct digest key = kit_key(k);
    enum kit_answer answer = kit_get(s, k, &version);
    if (answer != KIT_RIGHT || version != k->version)
        fail_msg("line %d: kind %d number %u version %u: answer %d, version %d, has %d", line,
                 (int)k->kind, k->number, k->version, (int)answer, (int)version,
                 store_has(s, &key));
}
#define kit_must_have(s, k) kit_must_have_at(s, k, __LINE__)

KIT void kit_must_put(struct store *s, const struct kit_record *k)
{
    struct err e = {0};
    if (kit_put_wait(s, k, &e) != OK)
        fail_msg("put: %s", e.msg);
}

KIT struct store *kit_open(const char *dir, const struct store_options *options)
{
    struct store *s = NULL;
    struct err e = {0};
    if (store_open(os_fs_real(), dir, options, &s, &e) != OK)
        fail_msg("open %s: %s", dir, e.msg);
    return s;
}

KIT void kit_print_bad(const char *what, void *arg)
{
    (void)arg;
    print_message("bad: %s\n", what);
}

KIT uint64_t kit_verify(const char *dir)
{
    struct store_verify_report report;
    struct err e = {0};
    if (store_verify(os_fs_real(), dir, kit_print_bad, NULL, &report, &e) != OK)
        fail_msg("verify %s: %s", dir, e.msg);
    return report.n_bad;
}

#endif
