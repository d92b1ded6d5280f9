/* SPDX-License-Identifier: MIT
 * The bytes of records and segment headers: round trips, ceilings, and that no single changed byte
 * of a head is ever accepted. */
#include "base/endian.h"
#include "store/record.h"
#include "store_kit.h"

static const struct record_place place = {{{1, 2, 3, 4}}, 7, 8192};
static uint8_t head[RECORD_HEAD_MAX];

static struct record example(struct store_chunk *chunks, uint32_t n_chunks, uint64_t chunk_len)
{
    static const uint8_t meta[] = "meta of the record", order[] = "order";
    for (uint32_t i = 0; i < n_chunks; i++)
        chunks[i] = (struct store_chunk){NULL, chunk_len};
    return (struct record){.place = place,
                           .kind = RECORD_PAGE,
                           .sequence = 99,
                           .synced = 4096,
                           .layout = 5,
                           .depth = 6,
                           .cost_ms = 2.5f,
                           .key = kit_digest("k", 1, 1),
                           .chain = kit_digest("c", 1, 1),
                           .parent = kit_digest("p", 1, 1),
                           .family = kit_digest("f", 1, 1),
                           .meta = meta,
                           .meta_len = sizeof meta,
                           .order = order,
                           .order_len = sizeof order,
                           .n_chunks = n_chunks};
}

static void encode(struct record *r, struct store_chunk *chunks)
{
    static struct record_chunk rows[STORE_CHUNKS_MAX];
    uint64_t at = 0;
    struct err e;
    assert_int_equal(record_shape(r, chunks, &e), OK);
    for (uint32_t i = 0; i < r->n_chunks; i++) {
        at = (at + 63) / 64 * 64;
        rows[i] = (struct record_chunk){at, chunks[i].len, {i, 7 * i}};
        at += chunks[i].len;
    }
    record_encode(r, rows, head);
}

static void test_round_trip(void **state)
{
    (void)state;
    static const uint32_t counts[] = {0, 1, 2, 17, STORE_CHUNKS_MAX};
    static const uint64_t lengths[] = {0, 1, 63, 64, 65, 5000, 400000};
    struct store_chunk chunks[STORE_CHUNKS_MAX];
    struct err e;
    for (size_t c = 0; c < 5; c++) {
        for (size_t l = 0; l < 7; l++) {
            struct record r = example(chunks, counts[c], lengths[l]), back;
            encode(&r, chunks);
            assert_int_equal(record_claimed_head(head, sizeof head), r.head_bytes);
            assert_int_equal(record_parse(head, r.head_bytes, &place, &back, &e), OK);
            assert_int_equal(back.bytes % RECORD_UNIT, 0);
            assert_int_equal(back.bytes, r.bytes);
            assert_int_equal(back.sequence, 99);
            assert_int_equal(back.synced, 4096);
            assert_int_equal(back.depth, 6);
            assert_true(back.cost_ms == 2.5f);
            assert_int_equal(back.n_chunks, counts[c]);
            assert_memory_equal(back.meta, r.meta, r.meta_len);
            assert_memory_equal(back.order, r.order, r.order_len);
            assert_true(digest_equal(&back.family, &r.family));
            assert_true(digest_equal(&back.parent, &r.parent));
            for (uint32_t i = 0; i < counts[c]; i++) {
                struct record_chunk row = record_chunk_at(back.table, i, back.payload_len);
                assert_int_equal(row.len, lengths[l]);
                assert_int_equal(row.at % 64, 0);
                assert_int_equal(row.sum.high, 7 * i);
            }
            /* One byte short is not enough; elsewhere it is not ours. */
            assert_int_equal(record_parse(head, r.head_bytes - 1, &place, &back, &e), E_CORRUPT);
            struct record_place other = place;
            other.offset += 4096;
            assert_int_equal(record_parse(head, r.head_bytes, &other, &back, &e), E_CORRUPT);
            other = place;
            other.segment++;
            assert_int_equal(record_parse(head, r.head_bytes, &other, &back, &e), E_CORRUPT);
            other = place;
            other.store.b[15]++;
            assert_int_equal(record_parse(head, r.head_bytes, &other, &back, &e), E_CORRUPT);
        }
    }
}

static void test_any_changed_byte_is_noticed(void **state)
{
    (void)state;
    struct store_chunk chunks[3];
    struct record r = example(chunks, 3, 1000), back;
    struct err e;
    encode(&r, chunks);
    for (uint32_t i = 0; i < r.head_bytes; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            head[i] ^= (uint8_t)(1u << bit);
            assert_int_not_equal(record_parse(head, sizeof head, &place, &back, &e), OK);
            head[i] ^= (uint8_t)(1u << bit);
        }
    }
    assert_int_equal(record_parse(head, sizeof head, &place, &back, &e), OK);
}

/* A head with a right checksum and wrong numbers: another program's, or a hostile one's. */
static void reseal(uint8_t *p)
{
    uint32_t n = get_le32(p + 12);
    struct checksum sum = checksum_of(p, n - 16);
    put_le64(p + n - 16, sum.low);
    put_le64(p + n - 8, sum.high);
}

static void test_contradictions(void **state)
{
    (void)state;
    static const struct {
        uint32_t at;
        uint64_t value;
        uint32_t bytes;
        enum status want;
    } cases[] = {
        {8, 3, 2, E_UNSUPPORTED}, /* version */
        {10, 0, 2, E_CORRUPT},    /* kind */
        {10, 7, 2, E_CORRUPT},
        {10, 63, 2, E_CORRUPT},
        {48, 4096 * 999, 8, E_CORRUPT}, /* bytes */
        {64, 8193, 8, E_CORRUPT},       /* synced: behind the record itself */
        {72, 0, 8, E_CORRUPT},          /* payload_at */
        {80, 1ull << 40, 8, E_CORRUPT}, /* payload_len */
        {104, STORE_ORDER_MAX + 1, 4, E_CORRUPT},
        {108, STORE_META_MAX + 17, 4, E_CORRUPT},
        {108, 0xffffffff, 4, E_CORRUPT},
        {112, STORE_CHUNKS_MAX + 1, 4, E_CORRUPT},
        {112, 2, 4, E_CORRUPT},          /* the head would be shorter */
        {116, 2, 4, E_CORRUPT},          /* flags that nobody has defined */
        {116, 1, 4, E_CORRUPT},          /* encrypted, and no data key */
        {120, 1, 8, E_CORRUPT},          /* the reverse */
        {280, 64, 8, E_CORRUPT},         /* first chunk not at 0 */
        {288, 1ull << 50, 8, E_CORRUPT}, /* its length */
    };
    struct store_chunk chunks[3];
    struct record r = example(chunks, 3, 1000), back;
    struct err e;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        encode(&r, chunks);
        memcpy(head + cases[i].at, &cases[i].value, cases[i].bytes);
        reseal(head);
        if (record_parse(head, sizeof head, &place, &back, &e) != cases[i].want)
            fail_msg("case %zu: not %s", i, status_name(cases[i].want));
    }
}

static void test_shape_limits(void **state)
{
    (void)state;
    struct store_chunk chunks[2];
    struct err e;
    struct record r = example(chunks, 2, STORE_RECORD_MAX / 2);
    assert_int_equal(record_shape(&r, chunks, &e), OK);
    r = example(chunks, 2, STORE_RECORD_MAX / 2 + 1);
    assert_int_equal(record_shape(&r, chunks, &e), E_LIMIT);
    r = example(chunks, 1, UINT64_MAX);
    assert_int_equal(record_shape(&r, chunks, &e), E_LIMIT);
    r = example(chunks, 0, 0);
    assert_int_equal(record_shape(&r, chunks, &e), OK);
    assert_int_equal(r.bytes, 4096); /* a fork: one unit */
    r = example(chunks, 1, 65536);
    assert_int_equal(record_shape(&r, chunks, &e), OK);
    assert_int_equal(r.payload_at, 4096);
}

static void test_segment_head(void **state)
{
    (void)state;
    uint8_t unit[RECORD_UNIT];
    struct err e;
    struct segment_head h = {{{9, 8, 7}}, 12, 1 << 20, 1234, 11, 8192, 5 << 20, 77}, back;
    segment_head_encode(&h, unit);
    assert_int_equal(segment_head_parse(unit, sizeof unit, &back, &e), OK);
    assert_memory_equal(&back, &h, sizeof h);
    assert_int_equal(segment_head_parse(unit, sizeof unit - 1, &back, &e), E_CORRUPT);
    for (uint32_t i = 0; i < sizeof unit; i++) { /* one copy is enough */
        unit[i] ^= 0x10;
        assert_int_equal(segment_head_parse(unit, sizeof unit, &back, &e), OK);
        assert_memory_equal(&back, &h, sizeof h);
        unit[i] ^= 0x10;
    }
    unit[100] ^= 1;
    unit[2048 + 100] ^= 1;
    assert_int_equal(segment_head_parse(unit, sizeof unit, &back, &e), E_CORRUPT);
    segment_head_encode(&h, unit);
    put_le32(unit + 8, 2);
    struct checksum sum = checksum_of(unit, 112);
    put_le64(unit + 112, sum.low);
    put_le64(unit + 120, sum.high);
    assert_int_equal(segment_head_parse(unit, sizeof unit, &back, &e), E_UNSUPPORTED);
    assert_non_null(strstr(e.msg, "newer"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_any_changed_byte_is_noticed),
        cmocka_unit_test(test_contradictions), cmocka_unit_test(test_shape_limits),
        cmocka_unit_test(test_segment_head),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
