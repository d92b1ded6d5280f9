/* SPDX-License-Identifier: MIT
 * Bytes of a .kvx file.  Input: a flag, then the file.  With the flag, checksums, counts and the
 * digest at the end are made right first: else nothing but the checksum would ever be tested.
 * What is imported is a session that can be read, exported and deleted. */
#include <stdint.h>
#include <string.h>

#include "base/checksum.h"
#include "base/endian.h"
#include "session/kvx.h"
#include "session_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* As kvx_sum in the writer; stops at what is no frame. */
static void seal(uint8_t *f, size_t n)
{
    struct digester d = {0};
    uint64_t n_frames = 0;
    digest_begin(&d);
    if (n >= 8)
        digest_bytes(&d, f, 8);
    for (size_t at = 8; n >= 32 && at <= n - 32;) {
        uint64_t len = get_le64(f + at + 8);
        if (len > n - at - 32)
            break;
        uint8_t sums[32];
        bool is_end = get_le32(f + at) == 7;
        if (is_end && len == 40) {
            struct digest sum = digest_end(&d);
            put_le64(f + at + 16, n_frames);
            memcpy(f + at + 24, sum.b, sizeof sum.b);
        }
        struct checksum inner = checksum_of(f + at + 16, (size_t)len);
        memcpy(sums, f + at, 16);
        memcpy(sums + 16, &inner, 16);
        struct checksum outer = checksum_of(sums, sizeof sums);
        memcpy(f + at + 16 + len, &outer, 16);
        if (is_end)
            break;
        digest_bytes(&d, f + at, (size_t)len + 32);
        n_frames++;
        at += (size_t)len + 32;
    }
    digester_release(&d);
}

struct bytes {
    const uint8_t *at;
    size_t n;
};

static enum status read_bytes(void *arg, void *to, size_t max, size_t *n, struct err *e)
{
    struct bytes *b = arg;
    (void)e;
    *n = b->n < max ? b->n : max;
    memcpy(to, b->at, *n);
    b->at += *n;
    b->n -= *n;
    return OK;
}

static enum status write_nowhere(void *arg, const void *bytes, size_t n, struct err *e)
{
    (void)bytes, (void)e;
    *(size_t *)arg += n;
    return OK;
}

/* Exports the session, then deletes all. */
static void use(void)
{
    struct err e;
    struct arena a;
    struct json *list, *rm;
    struct buf out;
    size_t total = 0;
    arena_init(&a, 64u << 20);
    buf_init(&out, 64u << 20);
    struct kvx_export x = {
        .which = SLICE_LIT("x"), .with_forks = true, .write = write_nowhere, .arg = &total};
    enum status st = kvx_export(fuzz_place.sessions, &x, NULL, &e);
    CHECK(st == OK && total > 0);
    st =
        json_parse(SLICE_LIT("{\"op\":\"list\",\"limit\":1000,\"responses\":true}"), &a, &list, &e);
    CHECK(st == OK);
    st = sessions_command(fuzz_place.sessions, 0, list, &out, &e);
    CHECK(st == OK);
    st = json_parse(buf_slice(&out), &a, &list, &e);
    CHECK(st == OK);
    const struct json *data = json_get(list, "data");
    for (size_t i = 0; i < data->count; i++) {
        char text[128];
        snprintf(text, sizeof text, "{\"op\":\"delete\",\"name\":\"%s\"}",
                 json_get(&data->items[i], "id")->text.ptr);
        st = json_parse(slice_of(text), &a, &rm, &e);
        CHECK(st == OK);
        buf_clear(&out);
        st = sessions_command(fuzz_place.sessions, 0, rm, &out, &e);
        CHECK(st == OK);
    }
    buf_release(&out);
    arena_release(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e = {0};
    struct buf answer;
    if (size < 1)
        return 0;
    (void)fuzz_open();
    uint8_t *copy = malloc(size);
    CHECK(copy);
    memcpy(copy, data + 1, size - 1);
    if (data[0] & 1)
        seal(copy, size - 1);
    buf_init(&answer, 1u << 20);
    struct bytes b = {copy, size - 1};
    static const struct digest any;
    struct kvx_import o = {.as = SLICE_LIT("x"),
                           .roots = &any,
                           .n_roots = 1,
                           .tokens_only = (data[0] & 2) != 0,
                           .read = read_bytes,
                           .arg = &b};
    if (kvx_import(fuzz_place.sessions, &o, &answer, &e) == OK)
        use();
    buf_release(&answer);
    free(copy);
    return 0;
}
