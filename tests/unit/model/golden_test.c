/* SPDX-License-Identifier: MIT
 * golden_test.c — the tiny models against independent implementations.
 * Goal:   every family and tensor type computes what the reference computes.
 * Method: logits of all positions, the residual stream after every layer, greedy continuations of
 *         tests/golden/tiny; f32 path within 1e-4 (F32 files) or 1e-3, 8-bit path within twice
 *         llama.cpp's mean KL. */
#include "rig.h"

#define TOKENS_MAX 1024u
#define VOCAB_MAX 1024u

struct tiny {
    const char *name;
    double tolerance;     /* of the f32 path */
    uint32_t n_sequences; /* with golden logits */
    bool is_quantized;
};

static const struct tiny tinies[] = {
    {"tiny-gemma3-F32", 1e-4, 3, false}, {"tiny-gemma3-Q8_0", 1e-3, 1, true},
    {"tiny-llama-F32", 1e-4, 3, false},  {"tiny-llama-Q4_0", 1e-3, 1, true},
    {"tiny-llama-KMIX", 1e-3, 1, true},  {"tiny-qwen2-F32", 1e-4, 3, false},
    {"tiny-qwen2-Q5_1", 1e-3, 1, true},  {"tiny-qwen3-F32", 1e-4, 3, false},
    {"tiny-qwen3-F16", 1e-3, 1, false},
};

static float *logits; /* [TOKENS_MAX][VOCAB_MAX] */

static struct rig open_tiny(const struct tiny *t, enum activations activations)
{
    char path[256];
    snprintf(path, sizeof path, "tests/golden/tiny/%s.gguf", t->name);
    struct rig r = rig_open(path, (struct rig_options){.activations = activations, .n_workers = 2});
    assert_in_range(r.info->n_vocab, 1, VOCAB_MAX);
    return r;
}

static void open_lines(const struct tiny *t, struct rig_lines *l)
{
    char path[256];
    snprintf(path, sizeof path, "tests/golden/tiny/%s.jsonl", t->name);
    rig_lines_open(l, path);
}

static struct npy golden_logits(const struct tiny *t, uint32_t sequence)
{
    char path[256];
    snprintf(path, sizeof path, "tests/golden/tiny/%s.seq%u.logits.npy", t->name, sequence);
    return npy_load(path);
}

static void test_f32_logits(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(tinies); i++) {
        const struct tiny *t = &tinies[i];
        struct rig r = open_tiny(t, ACTIVATIONS_F32);
        struct rig_lines lines;
        open_lines(t, &lines);
        for (uint32_t sequence = 0; sequence < t->n_sequences; sequence++) {
            uint32_t tokens[TOKENS_MAX];
            const struct json *line = rig_lines_next(&lines);
            uint32_t n = rig_ints(json_get(line, "tokens"), tokens, TOKENS_MAX);
            struct npy golden = golden_logits(t, sequence);
            assert_int_equal(golden.count, (size_t)n * r.info->n_vocab);
            struct rig_kv kv;
            rig_kv_init(&kv, &r, KV_F32, n);
            rig_run(&r, &kv, tokens, 0, n, MODEL_BATCH_TOKENS_MAX, logits);
            double worst = rig_max_abs_diff(logits, golden.f32, golden.count);
            printf("%s seq %u: %u tokens, max |logit - golden| = %.3g (limit %g)\n", t->name,
                   sequence, n, worst, t->tolerance);
            assert_true(worst <= t->tolerance);
            rig_kv_release(&kv);
            npy_release(&golden);
        }
        rig_lines_close(&lines);
        rig_close(&r);
    }
}

/* The first row that is off names the broken block. */
static void test_f32_residuals(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(tinies); i++) {
        const struct tiny *t = &tinies[i];
        struct rig r = open_tiny(t, ACTIVATIONS_F32);
        struct rig_lines lines;
        open_lines(t, &lines);
        uint32_t tokens[TOKENS_MAX];
        uint32_t n = rig_ints(json_get(rig_lines_next(&lines), "tokens"), tokens, TOKENS_MAX);
        char path[256];
        snprintf(path, sizeof path, "tests/golden/tiny/%s.seq0.layers.npy", t->name);
        struct npy golden = npy_load(path);
        size_t width = r.info->n_embd, n_rows = r.info->n_layers + 1;
        assert_int_equal(golden.count, n_rows * n * width);
        float *residuals = mem_new(n_rows * width, sizeof *residuals);
        struct rig_kv kv;
        rig_kv_init(&kv, &r, KV_F32, n);
        for (uint32_t p = 0; p < n; p++) {
            struct model_sequence s = {
                .tokens = tokens + p, .n_tokens = 1, .first_position = p, .n_logits = 1};
            rig_view(&r, &kv, &s);
            rig_step(&r, KV_F32, &s, 1, logits, residuals);
            for (size_t row = 0; row < n_rows; row++) {
                const float *want = golden.f32 + (row * n + p) * width;
                double error = 0, norm = 0;
                for (size_t d = 0; d < width; d++) {
                    double diff = (double)residuals[row * width + d] - (double)want[d];
                    error += diff * diff;
                    norm += (double)want[d] * (double)want[d];
                }
                if (!(sqrt(error) <= 1e-4 * sqrt(norm))) {
                    fprintf(stderr, "%s: residual row %zu at position %u: relative error %.3g\n",
                            t->name, row, p, sqrt(error / norm));
                    fail();
                }
            }
        }
        rig_kv_release(&kv);
        mem_free(residuals);
        npy_release(&golden);
        rig_lines_close(&lines);
        rig_close(&r);
    }
}

/* Forcing the reference's tokens: the argmax must be its next token wherever its margin is clear. */
static void test_greedy(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(tinies); i++) {
        const struct tiny *t = &tinies[i];
        struct rig r = open_tiny(t, ACTIVATIONS_F32);
        struct rig_lines lines;
        open_lines(t, &lines);
        uint32_t n_checked = 0;
        for (const struct json *line; (line = rig_lines_next(&lines)) != NULL;) {
            uint32_t tokens[TOKENS_MAX];
            uint32_t n = rig_ints(json_get(line, "tokens"), tokens, TOKENS_MAX);
            uint32_t n_greedy = rig_ints(json_get(line, "greedy"), tokens + n, TOKENS_MAX - n);
            const struct json *margin = json_get(line, "margin");
            struct rig_kv kv;
            rig_kv_init(&kv, &r, KV_F32, n + n_greedy);
            rig_run(&r, &kv, tokens, 0, n + n_greedy, MODEL_BATCH_TOKENS_MAX, logits);
            for (uint32_t g = 0; g < n_greedy; g++) {
                const float *row = logits + (size_t)(n - 1 + g) * r.info->n_vocab;
                if (margin->items[g].real <= 0.002)
                    continue;
                assert_int_equal(rig_argmax(row, r.info->n_vocab), tokens[n + g]);
                n_checked++;
            }
            rig_kv_release(&kv);
        }
        printf("%s: %u greedy steps equal\n", t->name, n_checked);
        assert_true(n_checked >= 30);
        rig_lines_close(&lines);
        rig_close(&r);
    }
}

static void test_8_bit_kl(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(tinies); i++) {
        const struct tiny *t = &tinies[i];
        if (!t->is_quantized)
            continue;
        struct rig r = open_tiny(t, ACTIVATIONS_Q8);
        struct rig_lines lines;
        open_lines(t, &lines);
        uint32_t tokens[TOKENS_MAX];
        const struct json *line = rig_lines_next(&lines);
        uint32_t n = rig_ints(json_get(line, "tokens"), tokens, TOKENS_MAX);
        double bar = 2 * json_get(json_get(line, "llamacpp"), "kl_mean")->real;
        struct npy golden = golden_logits(t, 0);
        for (int f16 = 0; f16 < 2; f16++) {
            struct rig_kv kv;
            rig_kv_init(&kv, &r, f16 ? KV_F16 : KV_F32, n);
            rig_run(&r, &kv, tokens, 0, n, MODEL_BATCH_TOKENS_MAX, logits);
            double sum = 0;
            for (uint32_t p = 0; p < n; p++)
                sum += rig_kl(golden.f32 + (size_t)p * r.info->n_vocab,
                              logits + (size_t)p * r.info->n_vocab, r.info->n_vocab);
            printf("%s %s KV: mean KL %.3g (limit %.3g)\n", t->name, f16 ? "f16" : "f32", sum / n,
                   bar);
            assert_true(sum / n <= bar);
            rig_kv_release(&kv);
        }
        npy_release(&golden);
        rig_lines_close(&lines);
        rig_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32_residuals),
        cmocka_unit_test(test_f32_logits),
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_8_bit_kl),
    };
    logits = mem_new((size_t)TOKENS_MAX * VOCAB_MAX, sizeof *logits);
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    mem_free(logits);
    return failures;
}
