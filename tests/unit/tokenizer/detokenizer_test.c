/* SPDX-License-Identifier: MIT
 * Goal: a stream of ids shows whole characters only, and in the end all of the text.
 * Method: texts of many scripts through vocabularies that cut characters into bytes; after each push
 * the new bytes must be well-formed by themselves; ids at random must never give anything else. */
#include "base/buf.h"
#include "base/prng.h"
#include "golden_vocab.h"
#include "text/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define SEED 7u
#define OUT_MAX (1u << 20)

static void push_checked(struct detokenizer *d, uint32_t id, struct buf *out)
{
    size_t before = out->len;
    detok_push(d, id, out);
    size_t n = out->len - before;
    assert_int_equal(utf8_valid_prefix(out->ptr + before, n), n);
}

static void check_text(const struct tokenizer *t, const char *text)
{
    struct token_list ids = {0};
    struct err e = {0};
    struct detokenizer d;
    struct buf out;
    buf_init(&out, OUT_MAX);
    buf_add_text(&out, ""); /* so that ptr is there for an empty text too */
    assert_int_equal(tokenizer_encode(t, slice_of(text), (struct encode_flags){0}, &ids, &e), OK);
    detok_init(&d, t, false);
    for (size_t i = 0; i < ids.count; i++)
        push_checked(&d, ids.ids[i], &out);
    assert_int_equal(d.n_held, 0);
    detok_flush(&d, &out);
    assert_string_equal(out.ptr, text);
    token_list_release(&ids);
    buf_release(&out);
}

static void check_random_ids(const struct tokenizer *t, struct prng *r)
{
    struct detokenizer d;
    struct buf out;
    uint32_t n_vocab = tokenizer_info(t).n_vocab;
    buf_init(&out, OUT_MAX);
    buf_add_char(&out, 'x');
    detok_init(&d, t, true);
    for (int i = 0; i < 20000; i++) { /* mostly low ids: bytes and short pieces */
        uint64_t below = prng_below(r, 4) ? (n_vocab < 800 ? n_vocab : 800) : (uint64_t)n_vocab + 2;
        push_checked(&d, (uint32_t)prng_below(r, below), &out);
    }
    detok_flush(&d, &out);
    assert_false(out.failed);
    assert_int_equal(utf8_valid_prefix(out.ptr, out.len), out.len);
    buf_release(&out);
}

static void test_streams(void **state)
{
    (void)state;
    static const char *const paths[] = {
        "tests/golden/vocab/gguf.smollm2.vocab.gguf.xz", "tests/golden/vocab/gguf.gemma3.vocab.gguf.xz",
        "tests/golden/vocab/hf.llama3.vocab.gguf.xz", "tests/golden/tiny/tiny-llama-F32.gguf",
        "tests/golden/tiny/tiny-qwen2-F32.gguf",
    };
    static const char *const texts[] = {
        "", "plain", " two  blanks ", "Zw\xC3\xB6lf", "\xE4\xBA\xBA\xE5\xB7\xA5\xE6\x99\xBA\xE8\x83\xBD",
        "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x9A\x80 ok \xF0\x9F\x98\x80",
        "\xE0\xA4\xB9\xE0\xA4\xBF\xE0\xA4\xA8", "\n\n\n a\tb", "\xEF\xBF\xBD",
    };
    struct prng r = {.seed = SEED};
    print_message("seed %u\n", SEED);
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        struct golden_vocab v = golden_vocab_open(paths[i]);
        for (size_t k = 0; k < sizeof texts / sizeof texts[0]; k++)
            check_text(v.tokenizer, texts[k]);
        check_random_ids(v.tokenizer, &r);
        golden_vocab_close(&v);
    }
}

/* One byte a token, as SPM's byte tokens come. */
static void check_bytes(const struct tokenizer *t, const char *bytes, const char *want)
{
    struct detokenizer d;
    struct buf out;
    buf_init(&out, OUT_MAX);
    detok_init(&d, t, false);
    for (; *bytes; bytes++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", (unsigned)(uint8_t)*bytes);
        push_checked(&d, tokenizer_find(t, slice_of(text)), &out);
    }
    detok_flush(&d, &out);
    assert_string_equal(out.ptr, want);
    buf_release(&out);
}

static void test_broken_bytes(void **state)
{
    (void)state;
    struct golden_vocab v = golden_vocab_open("tests/golden/tiny/tiny-gemma3-F32.gguf");
    const struct tokenizer *t = v.tokenizer;
    check_bytes(t, "a\xF0\x9F\x98\x80z", "a\xF0\x9F\x98\x80z");
    check_bytes(t, "\xF0\x9F\x98", "\xEF\xBF\xBD");              /* never completed */
    check_bytes(t, "\xF0\x9F" "a", "\xEF\xBF\xBD" "a");
    check_bytes(t, "\xE2\xE2\x82\xAC", "\xEF\xBF\xBD\xE2\x82\xAC");
    check_bytes(t, "\xFF\x80", "\xEF\xBF\xBD\xEF\xBF\xBD");
    check_bytes(t, "\xF0\x9F\x98\xF0\x9F\x98\x80", "\xEF\xBF\xBD\xF0\x9F\x98\x80");
    golden_vocab_close(&v);
}

/* add_space_prefix: the blank that encoding put before the text goes again, also after BOS. */
static void test_space_prefix(void **state)
{
    (void)state;
    struct golden_vocab v = golden_vocab_open("tests/golden/tiny/tiny-llama-F32.gguf");
    struct token_list ids = {0};
    struct err e = {0};
    struct detokenizer d;
    struct buf out;
    struct encode_flags flags = {.add_special = true};
    buf_init(&out, OUT_MAX);
    assert_int_equal(tokenizer_encode(v.tokenizer, SLICE_LIT(" a b"), flags, &ids, &e), OK);
    assert_int_equal(ids.ids[0], tokenizer_info(v.tokenizer).bos);
    detok_init(&d, v.tokenizer, false);
    for (size_t i = 0; i < ids.count; i++)
        push_checked(&d, ids.ids[i], &out);
    assert_string_equal(out.ptr, " a b");
    token_list_release(&ids);
    buf_release(&out);
    golden_vocab_close(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_broken_bytes),
        cmocka_unit_test(test_space_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
