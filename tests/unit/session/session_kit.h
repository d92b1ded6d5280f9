/* SPDX-License-Identifier: MIT
 * session_kit.h — a store in a folder of its own, sessions in it, turns and commands in one line.
 */
#ifndef KVASIR_TESTS_SESSION_KIT_H
#define KVASIR_TESTS_SESSION_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/endian.h"
#include "base/mem.h"
#include "base/prng.h"
#include "os/fs.h"
#include "session/page_key.h"
#include "session/session.h"

static const struct digest kit_root __attribute__((unused)) = {{7}}; /* of all turns */

struct kit {
    char dir[64];
    uint64_t segment_bytes;  /* 0: the default */
    const struct os_fs *fs;  /* where the store is; NULL: the real one */
    void (*around)(bool on); /* called before and after each call of the room; may be NULL */
    struct store *store;
    struct sessions *b;
};

static inline void kit_around(const struct kit *k, bool on)
{
    if (k->around)
        k->around(on);
}

static inline const struct os_fs *kit_fs(const struct kit *k)
{
    return k->fs ? k->fs : os_fs_real();
}

static inline enum status kit_try_open(struct kit *k, bool is_read_only, struct err *e)
{
    struct store_options options = {.max_bytes = 1u << 30,
                                    .is_read_only = is_read_only,
                                    .keep_free_bytes = 1,
                                    .segment_bytes = k->segment_bytes};
    kit_around(k, true);
    enum status st = store_open(kit_fs(k), k->dir, &options, &k->store, e);
    struct sessions_options so = {.store = k->store, .is_read_only = is_read_only};
    if (st == OK)
        st = sessions_open(&so, &k->b, e);
    if (st != OK) {
        store_close(k->store);
        k->store = NULL;
    }
    kit_around(k, false);
    return st;
}

static inline void kit_open(struct kit *k, bool is_read_only)
{
    struct err e = {0};
    if (kit_try_open(k, is_read_only, &e) != OK)
        fail_msg("open: %s", e.msg);
}

static inline void kit_close(struct kit *k)
{
    sessions_close(k->b);
    store_close(k->store);
    k->b = NULL;
    k->store = NULL;
}

/* In memory where there is such a folder: these tests are not about the disk's speed. */
static inline void kit_begin_with(struct kit *k, uint64_t segment_bytes)
{
    *k = (struct kit){.segment_bytes = segment_bytes};
    snprintf(k->dir, sizeof k->dir, "%s/kvasir-session-test-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(k->dir));
    kit_open(k, false);
}

static inline void kit_begin(struct kit *k)
{
    kit_begin_with(k, 0);
}

static inline void kit_end(struct kit *k)
{
    char command[128];
    kit_close(k);
    snprintf(command, sizeof command, "rm -rf '%s'", k->dir);
    assert_int_equal(system(command), 0);
}

static inline void kit_again(struct kit *k)
{
    kit_close(k);
    kit_open(k, false);
}

/* A turn: n tokens of the series `seed`, of which those from `from` on are of series seed2; message
 * i says "m<i>" and ends at 100 × (i + 1) where that is within the tokens. */
struct kit_turn {
    const char *name, *response, *previous;
    uint32_t tenant, n, from, series, n_messages;
    const char *edited; /* what the first message says instead */
};

static inline uint32_t kit_token(uint32_t series, uint32_t i)
{
    return (series * 2654435761u + i * 40503u) % 50000u;
}

/* Message i ends at 100 × (i + 1) where the turn has so many tokens. */
static inline uint32_t kit_end_of(void *arg, uint32_t n)
{
    const struct kit_turn *t = arg;
    return 100 * n <= t->n ? 100 * n : 0;
}

static inline enum status kit_keep(struct kit *k, struct kit_turn *t, struct err *e)
{
    struct arena a;
    uint32_t *tokens = mem_new(t->n + 1, sizeof *tokens);
    arena_init(&a, 1u << 20);
    struct json *messages = json_new_array(&a, t->n_messages);
    for (uint32_t i = 0; i < t->n; i++)
        tokens[i] = kit_token(i < t->from ? 0 : t->series, i);
    for (uint32_t i = 0; i < t->n_messages; i++) {
        struct json *m = &messages->items[i];
        *m = *json_new_object(&a, 2);
        m->members[0].key = SLICE_LIT("role");
        m->members[0].value =
            (struct json){.kind = JSON_STRING, .text = slice_of(i % 2 ? "assistant" : "user")};
        m->members[1].key = SLICE_LIT("content");
        char text[32];
        int n = snprintf(text, sizeof text, "m%u", i);
        if (i == 0 && t->edited)
            n = snprintf(text, sizeof text, "%s", t->edited);
        m->members[1].value = (struct json){.kind = JSON_STRING,
                                            .text = {arena_text(&a, text, (size_t)n), (size_t)n}};
    }
    struct session_turn turn = {
        .tenant = t->tenant,
        .name = slice_of(t->name),
        .response = slice_of(t->response),
        .previous = slice_of(t->previous),
        .tokens = tokens,
        .n_tokens = t->n,
        .messages = messages,
        .end_of = kit_end_of,
        .arg = t,
        .origin = {.root = {{7}}, .model = "model \"m\"", .kv_type = "f16"}};
    kit_around(k, true);
    enum status st = sessions_keep(k->b, &turn, e);
    kit_around(k, false);
    arena_release(&a);
    mem_free(tokens);
    return st;
}

static inline void kit_must_keep(struct kit *k, struct kit_turn t)
{
    struct err e = {0};
    if (kit_keep(k, &t, &e) != OK)
        fail_msg("keep: %s", e.msg);
}

/* The tokens of `which` are n of series 0, those from `from` on of `series`; messages as many. */
static inline void kit_check(struct kit *k, uint32_t tenant, const char *which, uint32_t n,
                             uint32_t from, uint32_t series, uint32_t n_messages)
{
    struct session_content c;
    struct err e = {0};
    if (sessions_read(k->b, tenant, slice_of(which), SESSION_WANT_TOKENS | SESSION_WANT_MESSAGES,
                      &c, &e) != OK)
        fail_msg("read %s: %s", which, e.msg);
    assert_false(c.is_cut);
    assert_int_equal(c.n_tokens, n);
    assert_int_equal(c.n_messages, n_messages);
    for (uint32_t i = 0; i < n; i++)
        if (c.tokens[i] != kit_token(i < from ? 0 : series, i))
            fail_msg("%s: token %u", which, i);
    uint32_t lines = 0;
    for (size_t i = 0; i < c.messages_bytes; i++)
        lines += c.messages[i] == '\n';
    assert_int_equal(lines, n_messages);
    session_content_release(&c);
}

/* Runs a command; the answer in text [size], or "STATUS: reason". */
static inline enum status kit_command(struct kit *k, uint32_t tenant, const char *json, char *text,
                                      size_t size)
{
    struct arena a;
    struct json *v;
    struct err e = {0};
    struct buf out;
    arena_init(&a, 1u << 20);
    buf_init(&out, 1u << 26);
    if (json_parse(slice_of(json), &a, &v, &e) != OK)
        fail_msg("%s: %s", json, e.msg);
    kit_around(k, true);
    enum status st = sessions_command(k->b, tenant, v, &out, &e);
    kit_around(k, false);
    if (st == OK)
        snprintf(text, size, "%.*s", (int)out.len, out.ptr);
    else
        snprintf(text, size, "%s: %s", status_name(st), e.msg);
    buf_release(&out);
    arena_release(&a);
    return st;
}

static inline void kit_must(struct kit *k, const char *json)
{
    char text[4096];
    if (kit_command(k, 0, json, text, sizeof text) != OK)
        fail_msg("%s: %s", json, text);
}

/* ---- pages ---- */
/* What names page `page` of series 0, n tokens. */
struct kit_page {
    struct digest parent, chain, key;
};
static inline struct kit_page kit_page_of(const struct digest *salt, uint32_t page, uint32_t n)
{
    struct digester d = {0};
    struct kit_page p = {.chain = kit_root};
    uint32_t tokens[PAGE_KEY_TOKENS];
    for (uint32_t i = 0; i <= page; i++) {
        uint32_t count = i == page ? n : PAGE_KEY_TOKENS;
        for (uint32_t t = 0; t < count; t++)
            tokens[t] = kit_token(0, i * PAGE_KEY_TOKENS + t);
        p.parent = p.chain;
        p.chain = page_key_chain(&d, salt, &p.parent, tokens, count);
    }
    p.key = page_key_page(&d, 0, &p.chain);
    digester_release(&d);
    return p;
}

/* Puts it as the cache would, with a payload that says which it is. */
static inline void kit_put_page(struct kit *k, const struct digest *salt, uint32_t page, uint32_t n)
{
    struct kit_page p = kit_page_of(salt, page, n);
    char payload[2][500];
    memset(payload, (int)('a' + page), sizeof payload);
    struct store_chunk chunks[] = {{payload[0], 500}, {payload[1], 500}};
    struct store_put put = {.kind = RECORD_PAGE,
                            .key = p.key,
                            .chain = p.chain,
                            .parent = p.parent,
                            .layout = 77,
                            .depth = page,
                            .chunks = chunks,
                            .n_chunks = 2};
    struct err e;
    assert_int_equal(store_put_wait(k->store, &put, &e), OK);
}

/* Is it there under salt, with its payload? */
static inline bool kit_has_page(struct kit *k, const struct digest *salt, uint32_t page, uint32_t n)
{
    struct kit_page p = kit_page_of(salt, page, n);
    struct store_pin pin;
    struct err e;
    if (store_get(k->store, &p.key, &pin, &e) != OK)
        return false;
    bool ok = pin.n_chunks == 2 && pin.layout == 77 && store_chunk(&pin, 1).len == 500 &&
              store_chunk(&pin, 1).bytes[499] == 'a' + page &&
              (pin.meta_len == 0 || get_le32(pin.meta + 4) == n) &&
              digest_equal(&pin.chain, &p.chain);
    store_unpin(k->store, &pin);
    return ok;
}

/* ---- damage ---- */
/* In how many places of the segments are these bytes?  is_flipped: not any more, a bit in the
 * middle of each is turned. */
static inline uint32_t kit_find(const struct kit *k, const void *bytes, size_t n, bool is_flipped)
{
    uint32_t found = 0;
    for (unsigned number = 1; number < 1000; number++) {
        char path[160];
        snprintf(path, sizeof path, "%s/segments/%016x.seg", k->dir, number);
        FILE *f = fopen(path, "r+b");
        if (!f)
            continue;
        assert_int_equal(fseek(f, 0, SEEK_END), 0);
        size_t size = (size_t)ftell(f);
        char *all = mem_new(size + 1, 1);
        rewind(f);
        assert_int_equal(fread(all, 1, size, f), size);
        for (char *at = all; (at = memmem(at, size - (size_t)(at - all), bytes, n)) != NULL;) {
            at[n / 2] ^= 4;
            assert_int_equal(fseek(f, at - all + (long)(n / 2), SEEK_SET), 0);
            if (is_flipped)
                assert_int_equal(fwrite(at + n / 2, 1, 1, f), 1);
            at += n;
            found++;
        }
        mem_free(all);
        assert_int_equal(fclose(f), 0);
    }
    return found;
}

static inline uint32_t kit_flip(const struct kit *k, const void *bytes, size_t n)
{
    return kit_find(k, bytes, n, true);
}

#endif
