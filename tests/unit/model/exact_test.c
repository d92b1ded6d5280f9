/* SPDX-License-Identifier: MIT
 * exact_test.c — logits are a function of the token sequence alone.
 * Goal:   the same bits for every way of running the same tokens.
 * Method: one reference run (plain C kernels, two workers, whole prompts) per model × activations ×
 *         KV type; then chunks of 1, 7, 64, whole; 1, 2, 3 workers; every instruction set; alone
 * and among five sequences that are cut differently; all compared by memcmp.  Prompts are long
 * enough for several pages, two attention partitions and, in gemma3, many windows. */
#include "isas.h"
#include "rig.h"

#include "base/prng.h"

#define PROMPT_TOKENS 560u /* beyond one partition of 512 */
#define SHORT_TOKENS  90u
#define SEQUENCES     5u

static const char *const models[] = {
    "tests/golden/tiny/tiny-gemma3-F32.gguf", "tests/golden/tiny/tiny-gemma3-Q8_0.gguf",
    "tests/golden/tiny/tiny-llama-Q4_0.gguf", "tests/golden/tiny/tiny-llama-KMIX.gguf",
    "tests/golden/tiny/tiny-qwen2-Q5_1.gguf", "tests/golden/tiny/tiny-qwen3-F16.gguf",
};

static enum isa isas[ISA_COUNT]; /* but ref; the best one last */
static uint32_t n_isas;

static void make_tokens(uint32_t *tokens, uint32_t n, uint32_t n_vocab, uint64_t seed)
{
    struct prng p = {.seed = seed};
    for (uint32_t i = 0; i < n; i++)
        tokens[i] = (uint32_t)prng_below(&p, n_vocab);
}

static void assert_same(const char *what, const float *a, const float *b, size_t n_tokens,
                        size_t n_vocab)
{
    for (size_t t = 0; t < n_tokens; t++) {
        if (memcmp(a + t * n_vocab, b + t * n_vocab, n_vocab * sizeof *a) != 0) {
            fprintf(stderr, "%s: logits of token %zu differ\n", what, t);
            fail();
        }
    }
}

/* One way of running; the whole prompt's logits go to `logits`. */
static void run_once(const char *path, struct rig_options o, enum kv_type type, uint32_t chunk,
                     uint32_t n, float **logits, uint32_t *n_vocab)
{
    struct rig r = rig_open(path, o);
    uint32_t *tokens = mem_new(n, sizeof *tokens);
    make_tokens(tokens, n, r.info->n_vocab, 7);
    *n_vocab = r.info->n_vocab;
    *logits = mem_new((size_t)n * *n_vocab, sizeof **logits);
    struct rig_kv kv;
    rig_kv_init(&kv, &r, type, n);
    rig_run(&r, &kv, tokens, 0, n, chunk, *logits);
    rig_kv_release(&kv);
    mem_free(tokens);
    rig_close(&r);
}

static bool kv_fits(const char *path, enum kv_type type)
{
    struct rig r = rig_open(path, (struct rig_options){.n_workers = 1});
    const bool fits = kv_type_fits(type, r.info->head_dim);
    rig_close(&r);
    return fits;
}

static void test_chunks_threads_isas(void **state)
{
    (void)state;
    static const uint32_t chunks[] = {1, 7, 64, MODEL_BATCH_TOKENS_MAX};
    uint32_t n_fit = 0; /* models with quantized KV: by turns with one type or the other */
    for (size_t m = 0; m < ARRAY_COUNT(models); m++) {
        for (int kv = KV_F16; kv <= KV_Q4; kv++) {
            const enum kv_type type = (enum kv_type)kv;
            if (kv_is_quantized(type) && !kv_fits(models[m], type))
                continue;
            n_fit += type == KV_Q8_0;
            if (kv_is_quantized(type) && n_fit % 2 != (type == KV_Q8_0))
                continue;
            const bool f32 = type == KV_F32;
            enum activations a = f32 ? ACTIVATIONS_F32 : ACTIVATIONS_Q8;
            struct rig_options plain = {.activations = a, .isa = ISA_REF, .n_workers = 2};
            float *want, *got;
            uint32_t n_vocab;
            run_once(models[m], plain, type, MODEL_BATCH_TOKENS_MAX, PROMPT_TOKENS, &want,
                     &n_vocab);
            for (size_t i = 0; i < ARRAY_COUNT(chunks) * n_isas; i++) {
                const uint32_t chunk = chunks[i % ARRAY_COUNT(chunks)];
                struct rig_options o = {
                    .activations = a,
                    .isa = isas[i / ARRAY_COUNT(chunks)],
                    .n_workers = 1 + (uint32_t)i % 3,
                    .may_run_alone = i % 2 == 0,
                };
                const size_t sets_left = n_isas - 1 - i / ARRAY_COUNT(chunks);
                if (kv_is_quantized(type) && (i + sets_left) % 2 == 1)
                    continue; /* every chunk and every set still, not each with each */
                if (chunk == 1 && i / ARRAY_COUNT(chunks) + 1 < n_isas)
                    continue; /* the slow one on the best set only */
                char what[256];
                snprintf(what, sizeof what, "%s KV %s chunk %u workers %u isa %s", models[m],
                         kv_type_name(type), chunk, o.n_workers, isa_name(o.isa));
                run_once(models[m], o, type, chunk, PROMPT_TOKENS, &got, &n_vocab);
                assert_same(what, want, got, PROMPT_TOKENS, n_vocab);
                mem_free(got);
            }
            mem_free(want);
        }
    }
}

/* Five sequences of different lengths advance together, each cut in its own way; steps are decode
 * for some and prefill for others. */
static void test_mixed_batch(void **state)
{
    (void)state;
    static const uint32_t cuts[SEQUENCES] = {1, 3, 17, 40, 64};
    for (size_t m = 0; m < ARRAY_COUNT(models); m++) {
        struct rig_options o = {.activations = ACTIVATIONS_Q8, .n_workers = 3};
        struct rig r = rig_open(models[m], o);
        uint32_t n_vocab = r.info->n_vocab, tokens[SEQUENCES][SHORT_TOKENS + 40 * SEQUENCES];
        uint32_t lengths[SEQUENCES], done[SEQUENCES] = {0};
        struct rig_kv kv[SEQUENCES];
        float *alone[SEQUENCES], *mixed[SEQUENCES];
        for (uint32_t i = 0; i < SEQUENCES; i++) {
            lengths[i] = SHORT_TOKENS + 40 * i;
            make_tokens(tokens[i], lengths[i], n_vocab, 100 + i);
            alone[i] = mem_new((size_t)lengths[i] * n_vocab, sizeof(float));
            mixed[i] = mem_new((size_t)lengths[i] * n_vocab, sizeof(float));
            rig_kv_init(&kv[i], &r, KV_F16, lengths[i]);
            rig_run(&r, &kv[i], tokens[i], 0, lengths[i], MODEL_BATCH_TOKENS_MAX, alone[i]);
            rig_kv_release(&kv[i]);
            rig_kv_init(&kv[i], &r, KV_F16, lengths[i]);
        }
        float *logits = mem_new((size_t)MODEL_BATCH_TOKENS_MAX * n_vocab, sizeof *logits);
        for (;;) {
            struct model_sequence batch[SEQUENCES];
            uint32_t who[SEQUENCES], n = 0, rows = 0;
            for (uint32_t i = 0; i < SEQUENCES; i++) {
                if (done[i] == lengths[i])
                    continue;
                uint32_t left = lengths[i] - done[i], take = left < cuts[i] ? left : cuts[i];
                batch[n] = (struct model_sequence){.tokens = tokens[i] + done[i],
                                                   .n_tokens = take,
                                                   .first_position = done[i],
                                                   .n_logits = take};
                rig_view(&r, &kv[i], &batch[n]);
                who[n++] = i;
            }
            if (n == 0)
                break;
            rig_step(&r, KV_F16, batch, n, logits, NULL);
            for (uint32_t j = 0; j < n; j++) {
                uint32_t i = who[j], take = batch[j].n_tokens;
                memcpy(mixed[i] + (size_t)done[i] * n_vocab, logits + (size_t)rows * n_vocab,
                       (size_t)take * n_vocab * sizeof *logits);
                rows += take;
                done[i] += take;
            }
        }
        for (uint32_t i = 0; i < SEQUENCES; i++) {
            assert_same(models[m], alone[i], mixed[i], lengths[i], n_vocab);
            rig_kv_release(&kv[i]);
            mem_free(alone[i]);
            mem_free(mixed[i]);
        }
        mem_free(logits);
        rig_close(&r);
    }
}

/* The choice between alone and together is by the clock: forced either way, and left to learn over
 * enough steps that it tries both, the bits are the same. */
static void test_pace(void **state)
{
    (void)state;
    static const enum model_pace paces[] = {PACE_TOGETHER, PACE_ALONE, PACE_LEARN};
    for (size_t m = 0; m < 2; m++) {
        struct rig_options o = {.n_workers = 2, .may_run_alone = true};
        struct rig r = rig_open(models[m], o);
        uint32_t n = 400, n_vocab = r.info->n_vocab, tokens[400];
        make_tokens(tokens, n, n_vocab, 5);
        float *want = mem_new((size_t)n * n_vocab, sizeof *want);
        float *got = mem_new((size_t)n * n_vocab, sizeof *got);
        for (size_t i = 0; i < ARRAY_COUNT(paces); i++) {
            struct rig_kv kv;
            model_workspace_set_pace(r.workspace, paces[i]);
            rig_kv_init(&kv, &r, KV_F16, n);
            rig_run(&r, &kv, tokens, 0, n, 1, i == 0 ? want : got);
            if (i > 0)
                assert_same(models[m], want, got, n, n_vocab);
            rig_kv_release(&kv);
        }
        mem_free(want);
        mem_free(got);
        rig_close(&r);
    }
}

/* Rows without logits are skipped in the last layer; that must not show in those that have them,
 * nor in the KV pages. */
static void test_fewer_logits(void **state)
{
    (void)state;
    for (size_t m = 0; m < ARRAY_COUNT(models); m++) {
        struct rig r = rig_open(models[m], (struct rig_options){.n_workers = 2});
        uint32_t n = 150, n_vocab = r.info->n_vocab, tokens[150];
        make_tokens(tokens, n, n_vocab, 3);
        float *all = mem_new((size_t)n * n_vocab, sizeof *all);
        float *few = mem_new((size_t)n * n_vocab, sizeof *few);
        struct rig_kv kv_all, kv_few;
        rig_kv_init(&kv_all, &r, KV_F16, n);
        rig_kv_init(&kv_few, &r, KV_F16, n);
        rig_run(&r, &kv_all, tokens, 0, n, n, all);
        for (uint32_t n_logits = 0; n_logits <= n; n_logits += 37) {
            struct model_sequence s = {.tokens = tokens, .n_tokens = n, .n_logits = n_logits};
            rig_view(&r, &kv_few, &s);
            rig_step(&r, KV_F16, &s, 1, few, NULL);
            assert_same(models[m], all + (size_t)(n - n_logits) * n_vocab, few, n_logits, n_vocab);
            for (uint32_t g = 0; g < kv_all.n_groups; g++) {
                struct kv_layout l = model_kv_layout(r.model, g, KV_F16);
                for (uint32_t i = 0; i < kv_all.n_pages; i++)
                    assert_memory_equal(kv_all.pages[g][i], kv_few.pages[g][i], l.page_bytes);
            }
        }
        rig_kv_release(&kv_all);
        rig_kv_release(&kv_few);
        mem_free(all);
        mem_free(few);
        rig_close(&r);
    }
}

int main(void)
{
    n_isas = isas_here((enum isa)(ISA_REF + 1), isas);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks_threads_isas),
        cmocka_unit_test(test_mixed_batch),
        cmocka_unit_test(test_pace),
        cmocka_unit_test(test_fewer_logits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
