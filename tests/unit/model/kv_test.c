/* SPDX-License-Identifier: MIT
 * kv_test.c — pages: sizes, absent pages, the hook before a layer.
 * Method: runs a tiny model with garbage in pages outside the window and compares logits with an
 *         undisturbed run; fails the hook at each layer. */
#include "rig.h"

#define GEMMA "tests/golden/tiny/tiny-gemma3-F32.gguf"
#define TOKENS 150u

static void fill(uint32_t *tokens, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        tokens[i] = 10 + i * 7 % 200;
}

static void test_layout(void **state)
{
    (void)state;
    struct rig r = rig_open(GEMMA, (struct rig_options){.n_workers = 1});
    assert_int_equal(r.info->n_groups, 2);
    assert_int_equal(r.info->groups[0].window, 0);
    assert_int_equal(r.info->groups[0].n_layers, 1);
    assert_int_equal(r.info->groups[0].layers[0], 5);
    assert_int_equal(r.info->groups[1].window, 16);
    assert_int_equal(r.info->groups[1].n_layers, 6);
    assert_int_equal(r.info->groups[1].layers[5], 6);
    struct kv_layout l = model_kv_layout(r.model, 1, KV_F16);
    assert_int_equal(l.chunk_bytes, 2 * 32 * 64 * 2); /* KV heads × dims × tokens × bytes */
    assert_int_equal(l.page_bytes, 6 * 2 * l.chunk_bytes);
    l = model_kv_layout(r.model, 0, KV_F32);
    assert_int_equal(l.chunk_bytes, 2 * 32 * 64 * 4);
    /* A code a value, a scale of 2 bytes for 32 of them; V of q4 in half bytes. */
    l = model_kv_layout(r.model, 1, KV_Q8_0);
    assert_int_equal(l.v_at, 2 * 64 * (32 + 2));
    assert_int_equal(l.page_bytes, 6 * 2 * l.v_at);
    assert_int_equal(l.chunk_bytes, l.v_at);
    l = model_kv_layout(r.model, 1, KV_Q4);
    assert_int_equal(l.v_at, 2 * 64 * (32 + 2));
    assert_int_equal(l.page_bytes, 6 * 2 * 64 * (32 + 2 + 16 + 2));
    assert_int_equal(2 * l.chunk_bytes * 6, l.page_bytes);
    rig_close(&r);
}

/* Pages that a windowed layer no longer sees may be gone: garbage there changes nothing. */
static void test_absent_pages(void **state)
{
    (void)state;
    struct rig r = rig_open(GEMMA, (struct rig_options){.n_workers = 2});
    uint32_t tokens[TOKENS];
    fill(tokens, TOKENS);
    float *want = mem_new((size_t)TOKENS * r.info->n_vocab, sizeof *want);
    float *got = mem_new((size_t)TOKENS * r.info->n_vocab, sizeof *got);
    struct rig_kv kv;
    rig_kv_init(&kv, &r, KV_F16, TOKENS);
    rig_run(&r, &kv, tokens, 0, TOKENS, TOKENS, want);
    struct kv_layout l = model_kv_layout(r.model, 1, KV_F16);
    memset(kv.pages[1][0], 0xff, l.page_bytes);
    /* Position 79 is the first whose window of 16 begins at 64. */
    rig_run(&r, &kv, tokens + 79, 79, TOKENS - 79, 13, got);
    assert_memory_equal(want + (size_t)79 * r.info->n_vocab, got,
                        (size_t)(TOKENS - 79) * r.info->n_vocab * sizeof *want);
    /* At position 78 the window still reaches into page 0: NaN must show. */
    rig_run(&r, &kv, tokens + 78, 78, 1, 1, got);
    assert_memory_not_equal(want + (size_t)78 * r.info->n_vocab, got,
                            r.info->n_vocab * sizeof *want);
    rig_kv_release(&kv);
    mem_free(want);
    mem_free(got);
    rig_close(&r);
}

struct hook {
    uint32_t fail_layer, fail_worker;
    uint32_t calls[3]; /* by worker */
};

static enum status hook(void *arg, uint32_t layer, uint32_t worker, uint32_t n_workers)
{
    struct hook *h = arg;
    CHECK(worker < n_workers && n_workers == 3);
    CHECK(h->calls[worker] == layer); /* each layer once, ascending */
    h->calls[worker]++;
    return layer == h->fail_layer && worker == h->fail_worker ? E_CORRUPT : OK;
}

static void test_before_layer(void **state)
{
    (void)state;
    struct rig r = rig_open(GEMMA, (struct rig_options){.n_workers = 3});
    uint32_t tokens[TOKENS];
    fill(tokens, TOKENS);
    float *logits = mem_new(r.info->n_vocab, sizeof *logits);
    struct rig_kv kv;
    rig_kv_init(&kv, &r, KV_F16, TOKENS);
    for (uint32_t layer = 0; layer <= r.info->n_layers; layer++) {
        struct hook h = {.fail_layer = layer, .fail_worker = layer % 3};
        struct model_sequence s = {.tokens = tokens, .n_tokens = TOKENS, .n_logits = 1};
        rig_view(&r, &kv, &s);
        struct model_batch batch = {.sequences = &s,
                                    .n_sequences = 1,
                                    .kv_type = KV_F16,
                                    .logits = logits,
                                    .before_layer = hook,
                                    .before_layer_arg = &h};
        struct err e = {0};
        enum status st = model_forward(r.model, r.workspace, r.team, &batch, &e);
        bool is_end = layer == r.info->n_layers;
        assert_int_equal(st, is_end ? OK : E_CORRUPT);
        for (uint32_t w = 0; w < 3; w++)
            assert_int_equal(h.calls[w], is_end ? layer : layer + 1);
    }
    rig_kv_release(&kv);
    mem_free(logits);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_absent_pages),
        cmocka_unit_test(test_before_layer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
