/* SPDX-License-Identifier: MIT
 * tools_test.c — goal: what a client with many tools waits for before the first token is short, and
 * calls of all of them come out right.  Method: tests/golden/api/tools.json, 60 tools as agents and
 * their servers send them, in each family's way of writing calls, over Gemma's 262,144 tokens: the
 * grammar is made from nothing, then random walks by its masks must end in texts that it allows,
 * and tokens are tried at each step.  The times of this thread are printed; only one far beyond
 * them is an error. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "api/api_int.h"
#include "base/mem.h"
#include "base/prng.h"
#include "golden_vocab.h"

#define WAIT_MS_MAX 2000 /* fifty times what it takes */
#define WALKS       40u
#define STEPS       120u
#define TRIES       100u /* of tokens at each step */
#define BODY_MAX    (1u << 20)

static struct golden_vocab vocab;
static struct grammar_vocabulary *vocabulary;
static double us[WALKS * (STEPS + 1)];
static uint32_t n_us;

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); /* what else runs here is not meant */
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int by_number(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct slice piece_of(void *arg, uint32_t id)
{
    return tokenizer_piece(arg, id, false);
}

static int set_up(void **state)
{
    (void)state;
    struct err e;
    vocab = golden_vocab_open("tests/golden/vocab/gguf.gemma3.vocab.gguf.xz");
    double begun = now_ms();
    assert_int_equal(grammar_vocabulary_new(tokenizer_info(vocab.tokenizer).n_vocab, piece_of,
                                            vocab.tokenizer, &vocabulary, &e),
                     OK);
    print_message("vocabulary: %.1f ms\n", now_ms() - begun);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    grammar_vocabulary_free(vocabulary);
    golden_vocab_close(&vocab);
    return 0;
}

/* The first n tools of the file. */
static char *body_with(uint32_t n)
{
    size_t len;
    char *bytes = golden_read("tests/golden/api/tools.json", &len);
    struct arena a;
    struct json *tools;
    struct buf b;
    struct err e;
    arena_init(&a, 16u << 20);
    buf_init(&b, BODY_MAX);
    assert_int_equal(json_parse((struct slice){bytes, len}, &a, &tools, &e), OK);
    assert_true(tools->count >= n);
    tools->count = n;
    buf_add_text(&b, "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"tool_choice\":"
                     "\"required\",\"tools\":");
    json_write(&b, tools, (struct json_style){.is_compact = true});
    buf_add(&b, "}", 2);
    assert_false(b.failed);
    arena_release(&a);
    free(bytes);
    return b.ptr; /* with its end */
}

/* A token that is allowed; now and then one that ends what is being written. */
static uint32_t pick(struct prng *r, const uint64_t *bits, uint32_t n)
{
    uint32_t start = (uint32_t)(prng_next(r) % n), found = UINT32_MAX;
    const bool wants_end = prng_next(r) % 3 == 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t id = (start + i) % n;
        if (!(bits[id / 64] >> id % 64 & 1))
            continue;
        found = id;
        struct slice piece = tokenizer_piece(vocab.tokenizer, id, false);
        if (!wants_end || memchr("\"]}", piece.ptr[0], 3))
            break;
    }
    return found;
}

/* What the mask says is so. */
static void try_some(struct matcher *m, const uint64_t *bits, struct prng *r)
{
    const uint32_t n = tokenizer_info(vocab.tokenizer).n_vocab;
    struct matcher_state here = *matcher_state(m);
    struct err e;
    for (uint32_t i = 0; i < TRIES; i++) {
        uint32_t id = (uint32_t)(prng_next(r) % n);
        bool ok = matcher_accept(m, id, &e) == OK;
        matcher_restore(m, &here);
        if (ok != (bits[id / 64] >> id % 64 & 1))
            fail_msg("token %u is %s", id,
                     ok ? "accepted, not in the mask" : "refused, in the mask");
    }
}

static void walk(struct grammar *g, struct grammar_masks *masks, uint64_t seed, uint32_t *n_ended)
{
    const uint32_t n = tokenizer_info(vocab.tokenizer).n_vocab;
    uint64_t *bits = calloc(n / 64 + 1, sizeof *bits);
    struct prng r = {.seed = seed};
    struct matcher *m;
    struct buf text;
    struct err e;
    bool may_end = false, yes;
    buf_init(&text, 1 << 20);
    assert_int_equal(matcher_new(masks, &m, &e), OK);
    for (uint32_t i = 0; i <= STEPS; i++) {
        double begun = now_ms();
        assert_int_equal(matcher_mask(m, bits, &may_end, &e), OK);
        us[n_us++] = (now_ms() - begun) * 1000;
        try_some(m, bits, &r);
        if (may_end || i == STEPS)
            break;
        uint32_t id = pick(&r, bits, n);
        assert_int_not_equal(id, UINT32_MAX);
        assert_int_equal(matcher_accept(m, id, &e), OK);
        buf_add_slice(&text, tokenizer_piece(vocab.tokenizer, id, false));
    }
    assert_int_equal(grammar_matches(g, buf_slice(&text), &yes, &e), OK);
    assert_int_equal(yes, may_end);
    *n_ended += may_end;
    matcher_free(m);
    buf_release(&text);
    free(bits);
}

static void one(const char *template, uint32_t n_tools)
{
    struct api_context context = {.model_name = "m",
                                  .n_vocab = tokenizer_info(vocab.tokenizer).n_vocab,
                                  .n_ctx = 2048,
                                  .template_source = slice_of(template)};
    struct engine_request request = {.n_choices = 1, .add_generation_prompt = true}, *r = &request;
    struct api_call *c = NULL;
    struct api_error error = {0};
    struct grammar *g;
    struct grammar_masks *masks;
    struct err e;
    char *body = body_with(n_tools);
    uint32_t n_ended = 0;
    arena_init(&r->arena, 64u << 20);
    double begun = now_ms(), read, compiled, prepared, all;
    if (api_call_new(&dialect_openai_chat, slice_of(body), SLICE_LIT(""), &context, r, &c,
                     &error) != OK)
        fail_msg("%s", error.message);
    read = now_ms();
    const struct grammar_source source = {.text = r->grammar,
                                          .root = r->grammar_root,
                                          .schemas = r->grammar_schemas,
                                          .n_schemas = r->n_grammar_schemas};
    if (grammar_from_source(&source, &g, &e) != OK)
        fail_msg("%s", e.msg);
    compiled = now_ms();
    assert_int_equal(grammar_prepare(g, vocabulary, &masks, &e), OK);
    prepared = now_ms();
    assert_true(prepared - begun < WAIT_MS_MAX);
    grammar_prepare_more(masks);
    all = now_ms();
    n_us = 0;
    for (uint64_t seed = 0; seed < WALKS; seed++)
        walk(g, masks, seed, &n_ended);
    qsort(us, n_us, sizeof *us, by_number);
    print_message(
        "%-22s %u tools: read %.1f, compiled %.1f, prepared %.1f ms, then %.1f; %u masks, us: p50 "
        "%.1f, p99 %.1f, most %.1f; %u calls\n",
        template, n_tools, read - begun, compiled - read, prepared - compiled, all - prepared, n_us,
        us[n_us / 2], us[n_us * 99 / 100], us[n_us - 1], n_ended);
    assert_true(n_ended > 0);
    grammar_masks_free(masks);
    grammar_free(g);
    api_call_free(c);
    arena_release(&r->arena);
    mem_free(body);
}

static void many_tools(void **state)
{
    (void)state;
    one("<tool_call>", 20);
    one("<tool_call>", 40);

    one("<tool_call>", 60);
    one("<start_function_call>", 60);
    one("[TOOL_CALLS] [ARGS]", 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(many_tools)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
