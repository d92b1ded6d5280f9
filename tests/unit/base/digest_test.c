/* SPDX-License-Identifier: MIT
 * digest_test.c — goal: SHA-256, XXH3-128 and Philox give their published values, and a field's
 * encoding cannot be confused with another's.
 * Method: FIPS 180-4 examples, xxHash's own sanity vectors and its scalar build as an oracle for
 * the vector ones, Random123's known-answer vectors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define XXH_INLINE_ALL
#define XXH_VECTOR 0 /* scalar: what every CPU must equal */
#include <xxhash.h>

#include "base/checksum.h"
#include "base/digest.h"
#include "base/endian.h"
#include "base/mem.h"
#include "base/prng.h"

static void expect_hex(const struct digest *d, const char *hex)
{
    char text[DIGEST_HEX_BYTES];
    digest_hex(d, text);
    assert_string_equal(text, hex);
}

static void sha256_examples(void **state)
{
    (void)state;
    struct digester d = {0};
    struct digest out;
    digest_begin(&d);
    out = digest_end(&d);
    expect_hex(&out, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    digest_begin(&d);
    digest_bytes(&d, "abc", 3);
    out = digest_end(&d);
    expect_hex(&out, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    digest_begin(&d);
    char as[1000];
    memset(as, 'a', sizeof as);
    for (int i = 0; i < 1000; i++)
        digest_bytes(&d, as, sizeof as);
    out = digest_end(&d);
    expect_hex(&out, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    digester_release(&d);
    digester_release(&d);
}

static struct digest of_fields(const char *tag, const void *value, size_t len)
{
    struct digester d = {0};
    digest_begin(&d);
    digest_field(&d, tag, value, len);
    struct digest out = digest_end(&d);
    digester_release(&d);
    return out;
}

/* Short fields are joined before hashing, long ones are not: both spell the same bytes. */
static void fields_are_length_prefixed(void **state)
{
    (void)state;
    uint8_t value[1000], raw[1100];
    for (size_t i = 0; i < sizeof value; i++)
        value[i] = (uint8_t)(i * 7);
    for (size_t len = 0; len <= sizeof value; len += len < 330 ? 1 : 67) {
        put_le32(raw, 3);
        memcpy(raw + 4, "tag", 3);
        put_le64(raw + 7, len);
        memcpy(raw + 15, value, len);
        struct digester d = {0};
        digest_begin(&d);
        digest_bytes(&d, raw, 15 + len);
        struct digest expected = digest_end(&d), got = of_fields("tag", value, len);
        digester_release(&d);
        assert_true(digest_equal(&expected, &got));
    }
    struct digest a = of_fields("ab", "c", 1), b = of_fields("a", "bc", 2);
    assert_false(digest_equal(&a, &b));
    struct digester d = {0};
    digest_begin(&d);
    digest_u64(&d, "n", 0x0102030405060708);
    a = digest_end(&d);
    digester_release(&d);
    b = of_fields("n", "\x08\x07\x06\x05\x04\x03\x02\x01", 8);
    assert_true(digest_equal(&a, &b));
}

static void hex_there_and_back(void **state)
{
    (void)state;
    struct digest a = of_fields("x", "y", 1), b = {0};
    char hex[DIGEST_HEX_BYTES];
    assert_true(digest_is_zero(&b));
    assert_false(digest_is_zero(&a));
    digest_hex(&a, hex);
    assert_true(digest_from_hex(&b, hex, 64));
    assert_true(digest_equal(&a, &b));
    assert_false(digest_from_hex(&b, hex, 63));
    hex[10] = 'G';
    assert_false(digest_from_hex(&b, hex, 64));
    assert_true(digest_from_hex(
        &b, "ABCDEFabcdef00112233445566778899ABCDEFabcdef00112233445566778899", 64));
    assert_int_equal(b.b[0], 0xab);
}

/* The buffer of xxHash's sanity tests. */
static void fill_sanity(uint8_t *bytes, size_t len)
{
    uint64_t generator = 2654435761u;
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)(generator >> 56);
        generator *= UINT64_C(11400714785074694797);
    }
}

static void xxh3_vectors(void **state)
{
    (void)state;
    static const struct {
        size_t len;
        uint64_t low, high;
    } vectors[] = {
        {0, 0x6001C324468D497F, 0x99AA06D3014798D8},
        {1, 0xC44BDFF4074EECDB, 0xA6CD5E9392000F6A},
        {6, 0x3E7039BDDA43CFC6, 0x082AFE0B8162D12A},
        {12, 0x061A192713F69AD9, 0x6E3EFD8FC7802B18},
        {24, 0x1E7044D28B1B901D, 0x0CE966E4678D3761},
        {48, 0xF942219AED80F67B, 0xA002AC4E5478227E},
        {81, 0x5E8BAFB9F95FB803, 0x4952F58181AB0042},
        {222, 0xF1AEBD597CEC6B3A, 0x337E09641B948717},
        {403, 0xCDEB804D65C6DEA4, 0x1B6DE21E332DD73D},
        {512, 0x617E49599013CB6B, 0x18D2D110DCC9BCA1},
        {2048, 0xDD59E2C3A5F038E0, 0xF736557FD47073A5},
        {2367, 0xCB37AEB9E5D361ED, 0xE89C0F6FF369B427},
    };
    uint8_t bytes[2367];
    fill_sanity(bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        struct checksum expected = {vectors[i].low, vectors[i].high};
        assert_true(checksum_equal(checksum_of(bytes, vectors[i].len), expected));
    }
}

static void every_build_of_xxh3_gives_the_same(void **state)
{
    (void)state;
    enum { LENGTH = 5000 };
    uint8_t *bytes = mem_new(LENGTH + 1, 1);
    fill_sanity(bytes, LENGTH + 1);
    for (size_t len = 0; len <= LENGTH; len += len < 600 ? 1 : 41) {
        XXH128_hash_t h = XXH3_128bits(bytes + 1, len);
        struct checksum got = checksum_of(bytes + 1, len);
        assert_true(got.low == h.low64 && got.high == h.high64);
    }
    struct checksum before = checksum_of(bytes, LENGTH);
    bytes[LENGTH / 2] ^= 1;
    assert_false(checksum_equal(before, checksum_of(bytes, LENGTH)));
    mem_free(bytes);
}

static void philox_known_answers(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } answers[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < 3; i++) {
        uint32_t out[4];
        prng_philox(answers[i].counter, answers[i].key, out);
        assert_memory_equal(out, answers[i].out, sizeof out);
    }
}

static void uniform_numbers(void **state)
{
    (void)state;
    double sum = 0;
    uint32_t below_tenth = 0;
    enum { DRAWS = 100000 };
    for (uint32_t i = 0; i < DRAWS; i++) {
        double u = prng_uniform(42, 0, i, 0);
        assert_true(u >= 0 && u < 1);
        sum += u;
        below_tenth += u < 0.1;
    }
    /* Six standard deviations: 1/√12/√n and √(0.09 n). */
    assert_true(sum / DRAWS > 0.4945 && sum / DRAWS < 0.5055);
    assert_true(below_tenth > 10000 - 570 && below_tenth < 10000 + 570);
    double u = prng_uniform(1, 2, 3, 4);
    assert_true(u == prng_uniform(1, 2, 3, 4));
    assert_true(u != prng_uniform(2, 2, 3, 4) && u != prng_uniform(1, 3, 3, 4));
    assert_true(u != prng_uniform(1, 2, 4, 4) && u != prng_uniform(1, 2, 3, 5));
    assert_true(u != prng_uniform(1 | UINT64_C(1) << 40, 2, 3, 4));
}

static void streams_and_entropy(void **state)
{
    (void)state;
    struct prng p = {.seed = 5}, q = {.seed = 5};
    uint32_t seen = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t v = prng_below(&p, 7);
        assert_true(v < 7 && v == prng_below(&q, 7));
        seen |= 1u << v;
    }
    assert_int_equal(seen, 0x7f);
    assert_int_equal(prng_below(&p, 1), 0);
    uint8_t a[300] = {0}, b[300] = {0};
    prng_entropy(a, sizeof a);
    prng_entropy(b, sizeof b);
    assert_memory_not_equal(a, b, sizeof a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256_examples),
        cmocka_unit_test(fields_are_length_prefixed),
        cmocka_unit_test(hex_there_and_back),
        cmocka_unit_test(xxh3_vectors),
        cmocka_unit_test(every_build_of_xxh3_gives_the_same),
        cmocka_unit_test(philox_known_answers),
        cmocka_unit_test(uniform_numbers),
        cmocka_unit_test(streams_and_entropy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
