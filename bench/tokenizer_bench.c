/* SPDX-License-Identifier: MIT
 * tokenizer_bench.c — MB/s of encoding, ms of loading, and how the time grows on hostile words.
 * Usage:  tokenizer-bench VOCAB.gguf[.xz] TEXT…     from the source root; one thread.
 * Method: processor time; each text whole, again and again for about a second, the best pass counts (the
 *         machine is shared), the first pass is printed apart.  Growth: 1 MB of one letter, of blanks,
 *         of CJK, of mixed letters without blanks, against a quarter of it; linear is 4. */
#include "golden_vocab.h"

#include <time.h>

#define PASS_SECONDS 1.0
#define HOSTILE_BYTES (1u << 20)

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double encode_once(const struct tokenizer *t, struct slice text, size_t *n_tokens)
{
    struct token_list ids = {0};
    struct err e = {0};
    double start = now();
    if (tokenizer_encode(t, text, (struct encode_flags){.parse_special = true}, &ids, &e) != OK)
        golden_fail("encode", "text", e.msg);
    double seconds = now() - start;
    *n_tokens = ids.count;
    token_list_release(&ids);
    return seconds;
}

static double best_of(const struct tokenizer *t, struct slice text, double *first, size_t *n_tokens)
{
    double start = now(), best = encode_once(t, text, n_tokens);
    *first = best;
    while (now() - start < PASS_SECONDS) {
        double seconds = encode_once(t, text, n_tokens);
        best = seconds < best ? seconds : best;
    }
    return best;
}

static void bench_text(const struct tokenizer *t, const char *path)
{
    size_t len, n_tokens;
    char *bytes = golden_read(path, &len);
    double first, best = best_of(t, (struct slice){bytes, len}, &first, &n_tokens);
    printf("%-44s %8zu bytes %8zu tokens  %6.1f MB/s  (first pass %.1f)\n", path, len, n_tokens,
           (double)len / best / 1e6, (double)len / first / 1e6);
    free(bytes);
}

static void bench_growth(const struct tokenizer *t, const char *what, const char *unit)
{
    size_t n = strlen(unit), whole = HOSTILE_BYTES / n * n, n_tokens;
    char *bytes = malloc(whole);
    if (!bytes)
        golden_fail("growth", what, "out of memory");
    for (size_t i = 0; i < whole; i++)
        bytes[i] = unit[i % n];
    double first;
    double quarter = best_of(t, (struct slice){bytes, whole / 4 / n * n}, &first, &n_tokens);
    double all = best_of(t, (struct slice){bytes, whole}, &first, &n_tokens);
    printf("%-44s %8zu bytes %8zu tokens  %6.1f MB/s  %5.1f times a quarter's time\n", what, whole,
           n_tokens, (double)whole / all / 1e6, all / quarter);
    free(bytes);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: %s VOCAB.gguf[.xz] TEXT...\n", argv[0]);
        return 2;
    }
    struct golden_vocab v = golden_vocab_open(argv[1]);
    double best = 1e9;
    for (int i = 0; i < 5; i++) {
        struct tokenizer *again = NULL;
        struct err e = {0};
        double start = now();
        if (tokenizer_load(v.gguf, &again, &e) != OK)
            golden_fail("load", argv[1], e.msg);
        double seconds = now() - start;
        best = seconds < best ? seconds : best;
        tokenizer_free(again);
    }
    struct tokenizer_info info = tokenizer_info(v.tokenizer);
    printf("%s: %s %s, %u tokens, loads in %.1f ms\n", argv[1], info.kind, info.pre, info.n_vocab,
           best * 1e3);
    for (int i = 2; i < argc; i++)
        bench_text(v.tokenizer, argv[i]);
    bench_growth(v.tokenizer, "one letter", "a");
    bench_growth(v.tokenizer, "blanks", " ");
    bench_growth(v.tokenizer, "newlines", "\n");
    bench_growth(v.tokenizer, "one CJK character", "\xE4\xB8\x80");
    bench_growth(v.tokenizer, "a word of letters", "thequickbrownfoxjumpsoverthelazydog");
    bench_growth(v.tokenizer, "combining marks", "\xCC\x81\xCC\xA7");
    bench_growth(v.tokenizer, "half special tokens", "<|im_start");
    golden_vocab_close(&v);
    return 0;
}
