/* SPDX-License-Identifier: MIT
 * Goal: one tokenizer encodes from several threads at once, with the ids that one thread gives.
 * Method: four threads, a fresh tokenizer (its memo of whole words still empty), the same text. */
#include "golden_vocab.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define THREADS 4

struct job {
    const struct tokenizer *tokenizer;
    struct slice text;
    struct token_list ids;
    enum status st;
};

static void *encode(void *arg)
{
    struct job *j = arg;
    struct err e = {0};
    j->st = tokenizer_encode(j->tokenizer, j->text, (struct encode_flags){0}, &j->ids, &e);
    return NULL;
}

static void check_vocabulary(const char *path, struct slice text)
{
    struct golden_vocab v = golden_vocab_open(path);
    struct job jobs[THREADS];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        jobs[i] = (struct job){.tokenizer = v.tokenizer, .text = text};
        assert_int_equal(pthread_create(&threads[i], NULL, encode, &jobs[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    struct job alone = {.tokenizer = v.tokenizer, .text = text};
    encode(&alone);
    assert_true(alone.st == OK && alone.ids.count > 1000);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(jobs[i].st, OK);
        assert_int_equal(jobs[i].ids.count, alone.ids.count);
        assert_memory_equal(jobs[i].ids.ids, alone.ids.ids, alone.ids.count * sizeof *alone.ids.ids);
        token_list_release(&jobs[i].ids);
    }
    token_list_release(&alone.ids);
    golden_vocab_close(&v);
}

static void test_threads(void **state)
{
    (void)state;
    size_t len;
    char *bytes = golden_read("tests/golden/tokenizer/strings.jsonl", &len);
    check_vocabulary("tests/golden/vocab/gguf.smollm2.vocab.gguf.xz", (struct slice){bytes, len});
    check_vocabulary("tests/golden/vocab/gguf.gemma3.vocab.gguf.xz", (struct slice){bytes, len});
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
