/* SPDX-License-Identifier: MIT
 * mask_test.c — goal: a mask holds exactly the tokens that can be accepted, and costs little.
 * Method: random walks through several grammars over a small vocabulary of awkward tokens (parts of
 * characters, tokens that run over the ends of strings, objects and rules): at each step every
 * token is tried.  Over Gemma's 262,144 tokens: random walks whose texts are valid at the end; the
 * time of each step is printed with the instruction it is about, not asserted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/prng.h"
#include "golden_vocab.h"
#include "grammar/grammar.h"
#include "text/json.h"

static const char *const schemas[] = {
    "{\"type\":\"object\"}",
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"tags\":{\"type\":"
    "\"array\",\"items\":"
    "{\"type\":\"string\",\"maxLength\":6}},\"n\":{\"type\":\"number\"}},\"required\":[\"name\","
    "\"tags\"],"
    "\"additionalProperties\":false}",
    "{\"type\":\"object\",\"properties\":{\"ab\":{\"type\":\"string\",\"maxLength\":5},\"abé\":{"
    "\"type\":\"string\",\"minLength\":2,\"maxLength\":40},\"a\\\"b\":{\"type\":\"string\","
    "\"minLength\":"
    "1},\"null\":{\"type\":\"string\",\"pattern\":\"^[^0-9]*$\"}},\"additionalProperties\":{"
    "\"type\":\"string\",\"pattern\":\"^[a-z]+$\"}}",
    "{\"anyOf\":[{\"type\":\"array\",\"items\":{\"$ref\":\"#\"},\"maxItems\":3},{\"enum\":["
    "\"a\\\"b\",\"ab\",10,100,"
    "null]},{\"type\":\"string\",\"pattern\":\"^(ab|é)*$\"}]}",
};

static struct grammar *schema_grammar(const char *text)
{
    struct arena a;
    struct json *schema;
    struct grammar *g;
    struct err e;
    arena_init(&a, 1 << 20);
    assert_int_equal(json_parse(slice_of(text), &a, &schema, &e), OK);
    assert_int_equal(grammar_from_schema(schema, &g, &e), OK);
    arena_release(&a);
    return g;
}

/* Single bytes, then awkward pieces. */
#define N_SMALL 300
static const char *const pieces[] = {
    "",      "\",\"",  "\"}",   "\":",     "\": \"",     "{\"",          "[\"",
    "]}",    "}]",     "],[",   "null",    "nul",        "true",         "a\"b",
    "ab\"",  "\"ab\"", "ab\",", "{\"name", "name\":",    "\"tags\":[\"", "10",
    "100",   "00,",    "\xC3",  "\xA9",    "\xC3\xA9\"", "\\",           "\\\"",
    "\\u00", "e9\"",   "{}",    "[]",      "[[",         "]]",           " ",
    "\n",    "\n  ",   "-1.",   "5e+",     "abababab",   "éé",           "\"\"",
    "\",",   "}",      "\"]}"};

static struct slice small_piece(void *arg, uint32_t id)
{
    static char bytes[256];
    (void)arg;
    if (id < 256) {
        bytes[id] = (char)id;
        return (struct slice){&bytes[id], 1};
    }
    id -= 256;
    return id < sizeof pieces / sizeof *pieces ? slice_of(pieces[id]) : (struct slice){"", 0};
}

static bool bit(const uint64_t *bits, uint32_t id)
{
    return bits[id / 64] >> id % 64 & 1;
}

static uint32_t pick(struct prng *r, const uint64_t *bits, uint32_t n)
{
    uint32_t start = (uint32_t)(prng_next(r) % n);
    for (uint32_t i = 0; i < n; i++)
        if (bit(bits, (start + i) % n))
            return (start + i) % n;
    return UINT32_MAX;
}

static void every_token_tried(void **state)
{
    (void)state;
    struct grammar_vocabulary *v;
    struct err e;
    uint64_t bits[(N_SMALL + 63) / 64];
    uint32_t n_tried = 0, n_allowed = 0;
    assert_int_equal(grammar_vocabulary_new(N_SMALL, small_piece, NULL, &v, &e), OK);
    for (size_t s = 0; s < sizeof schemas / sizeof *schemas; s++) {
        struct grammar *g = schema_grammar(schemas[s]);
        struct grammar_masks *masks;
        assert_int_equal(grammar_prepare(g, v, &masks, &e), OK);
        for (uint64_t walk = 0; walk < 30; walk++) {
            struct prng r = {.seed = 100 * s + walk};
            struct matcher *m;
            bool may_end;
            assert_int_equal(matcher_new(masks, &m, &e), OK);
            for (int i = 0; i < 40; i++) {
                assert_int_equal(matcher_mask(m, bits, &may_end, &e), OK);
                struct matcher_state here = *matcher_state(m);
                for (uint32_t id = 0; id < N_SMALL; id++) {
                    bool ok = matcher_accept(m, id, &e) == OK;
                    if (ok != bit(bits, id))
                        fail_msg("schema %zu walk %d step %d token %u: %s", s, (int)walk, i, id,
                                 ok ? "accepted, not in the mask" : "in the mask, refused");
                    n_tried++;
                    n_allowed += ok;
                    matcher_restore(m, &here);
                }
                uint32_t id = pick(&r, bits, N_SMALL);
                if (id == UINT32_MAX) {
                    assert_true(may_end);
                    break;
                }
                assert_int_equal(matcher_accept(m, id, &e), OK);
            }
            matcher_free(m);
        }
        grammar_masks_free(masks);
        grammar_free(g);
    }
    grammar_vocabulary_free(v);
    print_message("%u tokens tried, %u allowed\n", n_tried, n_allowed);
    assert_true(n_allowed > 1000);
}

/* ---- a real vocabulary ---- */
static struct slice real_piece(void *arg, uint32_t id)
{
    return tokenizer_piece(arg, id, false);
}

static int by_number(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); /* what else runs here is not meant */
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void real_vocabulary(void **state)
{
    (void)state;
    struct golden_vocab vocab = golden_vocab_open("tests/golden/vocab/gguf.gemma3.vocab.gguf.xz");
    uint32_t n = tokenizer_info(vocab.tokenizer).n_vocab, n_us = 0;
    struct grammar_vocabulary *v;
    struct err e;
    static double us[20000];
    uint64_t *bits = calloc(n / 64 + 1, sizeof *bits);
    assert_int_equal(grammar_vocabulary_new(n, real_piece, vocab.tokenizer, &v, &e), OK);
    for (size_t s = 0; s < sizeof schemas / sizeof *schemas; s++) {
        struct grammar *g = schema_grammar(schemas[s]);
        struct grammar_masks *masks;
        double begun = now_us();
        assert_int_equal(grammar_prepare(g, v, &masks, &e), OK);
        print_message("schema %zu: prepared in %.1f ms\n", s, (now_us() - begun) / 1000);
        for (uint64_t walk = 0; walk < 40; walk++) {
            struct prng r = {.seed = 1000 * s + walk};
            struct matcher *m;
            struct buf text;
            bool may_end, yes;
            buf_init(&text, 1 << 20);
            assert_int_equal(matcher_new(masks, &m, &e), OK);
            for (int i = 0; i < 60; i++) {
                begun = now_us();
                assert_int_equal(matcher_mask(m, bits, &may_end, &e), OK);
                us[n_us++] = now_us() - begun;
                uint32_t id = pick(&r, bits, n);
                if (id == UINT32_MAX || (may_end && i > 30))
                    break;
                /* a token that was not allowed stays refused */
                uint32_t other = (uint32_t)(prng_next(&r) % n);
                if (!bit(bits, other))
                    assert_int_equal(matcher_accept(m, other, &e), E_INVALID);
                assert_int_equal(matcher_accept(m, id, &e), OK);
                buf_add_slice(&text, tokenizer_piece(vocab.tokenizer, id, false));
            }
            assert_int_equal(matcher_mask(m, bits, &may_end, &e), OK);
            assert_int_equal(grammar_matches(g, buf_slice(&text), &yes, &e), OK);
            assert_int_equal(yes, may_end);
            matcher_free(m);
            buf_release(&text);
        }
        grammar_masks_free(masks);
        grammar_free(g);
    }
    qsort(us, n_us, sizeof *us, by_number);
    print_message("%u masks over %u tokens: p50 %.1f us, p99 %.1f us, most %.1f us\n", n_us, n,
                  us[n_us / 2], us[n_us * 99 / 100], us[n_us - 1]);
    free(bits);
    grammar_vocabulary_free(v);
    golden_vocab_close(&vocab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_token_tried),
                                       cmocka_unit_test(real_vocabulary)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
