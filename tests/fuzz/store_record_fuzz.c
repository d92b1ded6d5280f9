/* SPDX-License-Identifier: MIT
 * Bytes of a segment file: headers, then every unit as a record head and every chunk row of those
 * that parse.  Input: 16 bytes of store id, 8 of segment number, 8 of offset (so that the fuzzer
 * can make them match), a flag, then the bytes.  With the flag, checksums are made right first:
 * else nothing but the checksum would ever be tested. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/endian.h"
#include "store/record.h"

#define PREFIX 33u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void seal(uint8_t *p, size_t avail)
{
    uint32_t n = record_claimed_head(p, avail);
    if (n == 0 || n > avail)
        return;
    struct checksum sum = checksum_of(p, n - 16);
    put_le64(p + n - 16, sum.low);
    put_le64(p + n - 8, sum.high);
}

static void check_record(const uint8_t *p, size_t avail, const struct record_place *place)
{
    struct record r;
    struct err e;
    if (record_parse(p, avail, place, &r, &e) != OK)
        return;
    CHECK(r.head_bytes <= avail && r.bytes % RECORD_UNIT == 0 && r.bytes >= RECORD_UNIT);
    CHECK(r.payload_at >= r.head_bytes && r.payload_at + r.payload_len <= r.bytes);
    CHECK(r.payload_at % RECORD_CHUNK_ALIGN == 0);
    volatile uint8_t sink = 0;
    for (uint32_t i = 0; i < r.meta_len; i++)
        sink = (uint8_t)(sink + r.meta[i]);
    for (uint32_t i = 0; i < r.order_len; i++)
        sink = (uint8_t)(sink + r.order[i]);
    uint64_t end = 0;
    for (uint32_t i = 0; i < r.n_chunks; i++) {
        struct record_chunk c = record_chunk_at(r.table, i, r.payload_len);
        CHECK(c.at % RECORD_CHUNK_ALIGN == 0 && c.at >= end && c.at + c.len <= r.payload_len);
        end = c.at + c.len;
    }
    /* What parses is what encodes. */
    struct record_chunk rows[STORE_CHUNKS_MAX];
    static uint8_t again[RECORD_HEAD_MAX];
    for (uint32_t i = 0; i < r.n_chunks; i++)
        rows[i] = record_chunk_at(r.table, i, r.payload_len);
    record_encode(&r, rows, again);
    struct record back;
    CHECK(record_parse(again, r.head_bytes, place, &back, &e) == OK);
    CHECK(back.sequence == r.sequence && back.bytes == r.bytes && back.kind == r.kind);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct segment_head h;
    struct err e;
    if (size < PREFIX)
        return 0;
    struct record_place place = {.segment = get_le64(data + 16), .offset = get_le64(data + 24)};
    memcpy(place.store.b, data, sizeof place.store.b);
    bool is_sealed = data[32] & 1;
    size -= PREFIX;
    uint8_t *bytes = malloc(size ? size : 1); /* exactly, so that a read past the end shows */
    if (!bytes)
        return 0;
    memcpy(bytes, data + PREFIX, size);
    if (segment_head_parse(bytes, size, &h, &e) == OK)
        CHECK(h.number > 0);
    for (size_t at = 0; at < size; at += RECORD_UNIT) {
        if (is_sealed)
            seal(bytes + at, size - at);
        check_record(bytes + at, size - at, &place);
        place.offset += RECORD_UNIT;
    }
    free(bytes);
    return 0;
}
