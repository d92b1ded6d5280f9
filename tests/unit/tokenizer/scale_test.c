/* SPDX-License-Identifier: MIT
 * Goal: no text takes quadratic time: one long word, runs of blanks, newlines, marks, CJK, half
 * special tokens.
 * Method: processor time of 512 KB against 32 KB, 16 times as much: linear is 16, quadratic would be
 * 256.  Measured on a busy machine, 108 cases: median 17, worst 36 (heap and caches). */
#include "golden_vocab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>
#include <cmocka.h>

#define LARGE_BYTES (1u << 19)
#define TIMES 16u
#define RATIO_MAX 120.0
#define LEAST_SECONDS 1e-4 /* below it a clock tick or a page fault decides */

static double seconds_of(const struct tokenizer *t, struct slice text)
{
    struct token_list ids = {0};
    struct err e = {0};
    struct timespec a, b;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    assert_int_equal(tokenizer_encode(t, text, (struct encode_flags){.parse_special = true}, &ids, &e),
                     OK);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    token_list_release(&ids);
    return (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
}

static void check_unit(const struct tokenizer *t, const char *unit, char *text)
{
    size_t n = strlen(unit), large = LARGE_BYTES / n * n;
    for (size_t i = 0; i < large; i++)
        text[i] = unit[i % n];
    double small = 1e9;
    for (int i = 0; i < 5; i++) {
        double s = seconds_of(t, (struct slice){text, large / TIMES / n * n});
        small = s < small ? s : small;
    }
    small = small < LEAST_SECONDS ? LEAST_SECONDS : small;
    double ratio = seconds_of(t, (struct slice){text, large}) / small;
    if (ratio > RATIO_MAX)
        fail_msg("\"%.12s\"…: %u times the text takes %.0f times the time", unit, TIMES, ratio);
}

static void check_vocabulary(const char *path)
{
    static const char *const units[] = {
        "a", " ", "\n", " \n", "thequickbrownfoxjumpsoverthelazydog", "1", "A",
        "\xE4\xB8\x80", "\xE3\x82\xA2\xE3\x83\xBB", "\xCC\x81", "\xCC\x81\xCC\xA7",
        "\xC7\x85" "A", "<|im_start", "<unused", "<start_of_tur", "\xFF", "\xE2\x96\x81", "\x01",
    };
    struct golden_vocab v = golden_vocab_open(path);
    char *text = malloc(LARGE_BYTES);
    assert_non_null(text);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        check_unit(v.tokenizer, units[i], text);
    free(text);
    golden_vocab_close(&v);
}

static void test_smollm2(void **state)
{
    (void)state;
    check_vocabulary("tests/golden/vocab/gguf.smollm2.vocab.gguf.xz");
}

static void test_gemma3(void **state)
{
    (void)state;
    check_vocabulary("tests/golden/vocab/gguf.gemma3.vocab.gguf.xz");
}

static void test_qwen3(void **state)
{
    (void)state;
    check_vocabulary("tests/golden/vocab/hf.qwen3.vocab.gguf.xz");
}

static void test_gptoss(void **state)
{
    (void)state;
    check_vocabulary("tests/golden/vocab/hf.gptoss.vocab.gguf.xz");
}

static void test_deepseek_v3(void **state)
{
    (void)state;
    check_vocabulary("tests/golden/vocab/hf.deepseek_v3.vocab.gguf.xz");
}

/* SPM without borders: blanks and words in one, and a prefix to copy. */
static void test_tiny_llama(void **state)
{
    (void)state;
    check_vocabulary("tests/golden/tiny/tiny-llama-F32.gguf");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_smollm2),     cmocka_unit_test(test_gemma3),
        cmocka_unit_test(test_qwen3),       cmocka_unit_test(test_gptoss),
        cmocka_unit_test(test_deepseek_v3), cmocka_unit_test(test_tiny_llama),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
