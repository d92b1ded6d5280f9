/* SPDX-License-Identifier: MIT
 * Goal: vectors of texts are llama.cpp's, and they and the log probabilities of a prompt's own
 * tokens are functions of the tokens alone.  Method: tests/golden/vectors/tiny.jsonl by cosine;
 * then memcmp over chunk sizes, thread counts, several at once, and beside a stream; log
 * probabilities against the logits that engine_score gives. */
#include <math.h>

#include "base/check.h"

#include "engine/card.h"
#include "rig.h"
#include "text/json.h"

#define EMBD_MAX   4096u
#define PROMPT_MAX 512u
#define COSINE_MIN 0.999
#define TOGETHER   5u
#define LINES_MAX  64u
#define GOLDEN     "tests/golden/vectors/tiny.jsonl"

/* ---- what comes back ---- */
struct reading {
    struct rig_answer *answer;
    float vector[EMBD_MAX];
    uint32_t n_embd, n_vectors;
    uint32_t tokens[PROMPT_MAX], n_tokens, n_without; /* EVENT_PROMPT; those without a value */
    struct sampled values[PROMPT_MAX];
};

static void on_event(void *arg, const struct engine_event *ev)
{
    struct reading *r = arg;
    if (ev->kind == EVENT_VECTOR && ev->total <= EMBD_MAX) {
        memcpy(r->vector, ev->vector, ev->total * sizeof *ev->vector);
        r->n_embd = ev->total;
        r->n_vectors++;
    }
    if (ev->kind == EVENT_PROMPT && r->n_tokens < PROMPT_MAX) {
        r->n_without += ev->sampled == NULL;
        if (ev->sampled)
            r->values[r->n_tokens] = *ev->sampled;
        r->tokens[r->n_tokens++] = ev->token;
    }
    rig_event(r->answer, ev);
}

static struct reading *reading_new(void)
{
    struct reading *r = mem_new(1, sizeof *r);
    r->answer = rig_answer_new();
    return r;
}

static void reading_free(struct reading *r)
{
    rig_answer_free(r->answer);
    mem_free(r);
}

static void submit(struct engine *g, struct engine_request *q, struct reading *r)
{
    struct err e = {0};
    q->event = on_event;
    q->event_arg = r;
    if (engine_submit(g, q, &r->answer->id, &e) != OK)
        fail_msg("engine_submit: %s", e.msg);
}

static void submit_vector(struct engine *g, const uint32_t *tokens, uint32_t n, struct reading *r)
{
    struct engine_request *q = rig_request(g, tokens, n, 0);
    q->sampling.wants_logprob = false;
    q->wants_vector = q->no_cache = true;
    submit(g, q, r);
}

static void finish(struct reading *r)
{
    rig_wait(r->answer);
    if (r->answer->error.code != OK)
        fail_msg("%s", r->answer->error.msg);
}

static struct reading *embed(struct engine *g, const uint32_t *tokens, uint32_t n)
{
    struct reading *r = reading_new();
    submit_vector(g, tokens, n, r);
    finish(r);
    assert_int_equal(r->n_vectors, 1);
    assert_int_equal(r->n_embd, engine_info(g)->model->n_embd);
    assert_int_equal(r->answer->usage.prompt_tokens, n);
    assert_int_equal(r->answer->usage.computed_tokens, n);
    assert_int_equal(r->answer->usage.completion_tokens, 0);
    return r;
}

/* ---- the oracle ---- */
static double cosine(const float *a, const struct json *b)
{
    double dot = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < b->count; i++) {
        dot += (double)a[i] * b->items[i].real;
        aa += (double)a[i] * (double)a[i];
        bb += b->items[i].real * b->items[i].real;
    }
    return dot / sqrt(aa * bb);
}

static void check_line(struct slice line)
{
    static const char *const names[] = {
        [POOLING_LAST] = "last", [POOLING_MEAN] = "mean", [POOLING_CLS] = "cls"};
    struct arena arena;
    struct json *v = NULL;
    struct err e;
    char path[128];
    uint32_t tokens[PROMPT_MAX], n = 0;
    arena_init(&arena, 1u << 24);
    assert_int_equal(json_parse(line, &arena, &v, &e), OK);
    struct slice pooling = json_get(v, "pooling")->text;
    struct engine_options o = {.model_path = path};
    snprintf(path, sizeof path, "tests/golden/tiny/%s.gguf", json_get(v, "model")->text.ptr);
    for (size_t i = POOLING_LAST; i <= POOLING_CLS; i++)
        if (slice_is(pooling, names[i]))
            o.pooling = (enum engine_pooling)i;
    for (const struct json *t = json_get(v, "tokens"); n < t->count; n++)
        tokens[n] = (uint32_t)t->items[n].integer;
    struct engine *g = rig_engine(o);
    struct reading *r = embed(g, tokens, n);
    const struct json *vector = json_get(v, "vector");
    assert_int_equal(vector->count, r->n_embd);
    double found = cosine(r->vector, vector);
    if (!(found >= COSINE_MIN))
        fail_msg("%s %s of %u tokens: cosine %.6f", path, pooling.ptr, n, found);
    reading_free(r);
    engine_close(g);
    arena_release(&arena);
}

static void vectors_are_llama_cpps(void **state)
{
    (void)state;
    static char text[1u << 18];
    FILE *f = fopen(GOLDEN, "rb");
    assert_non_null(f);
    size_t len = fread(text, 1, sizeof text - 1, f);
    uint32_t n = 0;
    fclose(f);
    assert_true(len < sizeof text - 1);
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1, n++)
        check_line((struct slice){line, (size_t)(end - line)});
    assert_true(n >= 36);
}

/* ---- the same bits ---- */
static void check_same(const struct reading *r, const struct reading *ref, const char *what)
{
    if (memcmp(r->vector, ref->vector, r->n_embd * sizeof *r->vector) != 0)
        fail_msg("other bits with %s", what);
}

/* Several texts at once, beside a stream that decodes. */
static void check_together(struct engine *g, const uint32_t *t, uint32_t n,
                           const struct reading *ref)
{
    struct rig_answer *stream = rig_answer_new();
    struct reading *r[TOGETHER];
    rig_submit(g, rig_request(g, t + 3, 40, 60), stream);
    for (uint32_t i = 0; i < TOGETHER; i++) {
        r[i] = reading_new();
        submit_vector(g, t, i % 2 ? n / (i + 1) : n, r[i]);
    }
    for (uint32_t i = 0; i < TOGETHER; i++) {
        finish(r[i]);
        if (i % 2 == 0)
            check_same(r[i], ref, "others in the step");
        reading_free(r[i]);
    }
    rig_wait(stream);
    assert_int_equal(stream->error.code, OK);
    assert_int_equal(stream->n[0], 60);
    rig_answer_free(stream);
}

static void vectors_are_exact(void **state)
{
    (void)state;
    static const char *const paths[] = {TINY("gemma3-F32"), TINY("qwen3-F16"), TINY("llama-KMIX")};
    static const uint32_t chunks[] = {1, 7, 64, 512};
    const uint32_t n = 300;
    for (size_t p = 0; p < ARRAY_COUNT(paths); p++)
        for (int pooling = POOLING_LAST; pooling <= POOLING_CLS; pooling++) {
            struct engine_options o = {.model_path = paths[p],
                                       .n_threads = 1,
                                       .isa = ISA_REF,
                                       .pooling = (enum engine_pooling)pooling};
            struct engine *g = rig_engine(o);
            uint32_t *t = rig_tokens(p, n, engine_info(g)->model->n_vocab);
            struct reading *ref = embed(g, t, n);
            engine_close(g);
            for (size_t c = 0; c < ARRAY_COUNT(chunks); c++) {
                o.isa = ISA_AUTO;
                o.n_threads = 1 + (uint32_t)c % 3;
                o.chunk = chunks[c];
                g = rig_engine(o);
                struct reading *r = embed(g, t, n);
                check_same(r, ref, "another chunk or thread count");
                reading_free(r);
                if (c > 0)
                    check_together(g, t, n, ref);
                engine_close(g);
            }
            reading_free(ref);
            mem_free(t);
        }
}

/* ---- what the file says ---- */
/* The model with two more keys in front: they fill 64 bytes, so that its tensors stay aligned. */
static void write_pooled(const char *from, const char *to, uint32_t pooling)
{
    static const char key[] = "qwen2.pooling_type", pad[] = "x.pad", fill[] = "stuff";
    static char bytes[1u << 18];
    const uint64_t lens[] = {sizeof key - 1, sizeof pad - 1, sizeof fill - 1};
    const uint32_t types[] = {4, 8}; /* u32, string */
    uint64_t n_keys;
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    assert_true(in && out);
    size_t n = fread(bytes, 1, sizeof bytes, in);
    assert_true(n > 24 && n < sizeof bytes);
    memcpy(&n_keys, bytes + 16, sizeof n_keys);
    n_keys += 2;
    memcpy(bytes + 16, &n_keys, sizeof n_keys);
    fwrite(bytes, 1, 24, out);
    fwrite(&lens[0], 8, 1, out);
    fwrite(key, 1, lens[0], out);
    fwrite(&types[0], 4, 1, out);
    fwrite(&pooling, 4, 1, out);
    fwrite(&lens[1], 8, 1, out);
    fwrite(pad, 1, lens[1], out);
    fwrite(&types[1], 4, 1, out);
    fwrite(&lens[2], 8, 1, out);
    fwrite(fill, 1, lens[2], out);
    assert_int_equal(ftell(out), 24 + 64);
    fwrite(bytes + 24, 1, n - 24, out);
    assert_int_equal(fclose(in) | fclose(out), 0);
}

static void the_file_says_how_to_pool(void **state)
{
    (void)state;
    static const enum engine_pooling known[] = {POOLING_LAST, POOLING_MEAN, POOLING_CLS,
                                                POOLING_LAST, POOLING_RANK};
    char dir[64], path[96];
    rig_make_dir(dir);
    snprintf(path, sizeof path, "%s/pooled.gguf", dir);
    for (uint32_t pooling = 0; pooling < ARRAY_COUNT(known); pooling++) {
        write_pooled(TINY("qwen2-Q5_1"), path, pooling);
        struct engine *g = rig_engine((struct engine_options){.model_path = path});
        struct engine_card card;
        struct err e = {0};
        uint32_t *t = rig_tokens(1, 50, engine_info(g)->model->n_vocab);
        assert_int_equal(engine_info(g)->pooling, known[pooling]);
        assert_true(engine_info(g)->has_pooling == (pooling > 0));
        assert_int_equal(engine_card_read(path, &card, &e), OK);
        assert_true(card.is_embedding == (pooling > 0));
        engine_card_release(&card);
        if (known[pooling] == POOLING_RANK) {
            struct engine_request *q = rig_request(g, t, 50, 0);
            uint64_t id;
            q->wants_vector = q->no_cache = true;
            q->event = rig_event;
            assert_int_equal(engine_submit(g, q, &id, &e), E_UNSUPPORTED);
            engine_request_free(q);
        } else {
            struct engine *asked = rig_engine((struct engine_options){
                .model_path = TINY("qwen2-Q5_1"), .pooling = known[pooling]});
            struct reading *a = embed(g, t, 50), *b = embed(asked, t, 50);
            check_same(a, b, "the file's pooling");
            reading_free(a);
            reading_free(b);
            engine_close(asked);
        }
        mem_free(t);
        engine_close(g);
    }
    rig_remove_dir(dir);
}

/* ---- log probabilities of the prompt ---- */
struct expected {
    const uint32_t *tokens;
    const struct reading *reading;
    uint32_t n;
};

static void compare_row(void *arg, uint32_t position, const float *logits, uint32_t n_vocab)
{
    struct expected *x = arg;
    double max = -INFINITY, sum = 0;
    uint32_t best = 0;
    if (position + 1 >= x->n)
        return;
    for (uint32_t i = 0; i < n_vocab; i++)
        if ((double)logits[i] > max) {
            max = (double)logits[i];
            best = i;
        }
    for (uint32_t i = 0; i < n_vocab; i++)
        sum += exp((double)logits[i] - max);
    const struct sampled *s = &x->reading->values[position + 1];
    double wanted = (double)logits[x->tokens[position + 1]] - max - log(sum);
    assert_true(fabs((double)s->logprob - wanted) < 1e-4);
    assert_int_equal(s->n_top, 2);
    assert_int_equal(s->top_tokens[0], best);
    assert_true(s->top_logprobs[0] >= s->top_logprobs[1]);
}

static void prompts_have_log_probabilities(void **state)
{
    (void)state;
    static const uint32_t chunks[] = {1, 7, 0};
    const uint32_t n = 200;
    struct reading *first = NULL;
    for (size_t c = 0; c < ARRAY_COUNT(chunks); c++) {
        struct engine *g = rig_engine(
            (struct engine_options){.model_path = TINY("gemma3-F32"), .chunk = chunks[c]});
        uint32_t *t = rig_tokens(7, n, engine_info(g)->model->n_vocab), positions[PROMPT_MAX];
        for (int again = 0; again < 2; again++) { /* the second time its KV is known */
            struct engine_request *q = rig_request(g, t, n, again ? 3 : 0);
            struct reading *r = reading_new();
            q->wants_prompt_logprobs = true;
            q->sampling.n_top_logprobs = 2;
            submit(g, q, r);
            finish(r);
            assert_int_equal(r->n_tokens, n);
            assert_int_equal(r->n_without, 1);
            assert_memory_equal(r->tokens, t, n * sizeof *t);
            assert_int_equal(r->answer->n[0], again ? 3 : 0);
            assert_int_equal(r->answer->usage.computed_tokens, n);
            if (first) {
                assert_memory_equal(r->values, first->values, n * sizeof *r->values);
                reading_free(r);
            } else {
                first = r;
            }
        }
        struct expected x = {t, first, n};
        for (uint32_t i = 0; i < n; i++)
            positions[i] = i;
        struct engine_score s = {.tokens = t,
                                 .n_tokens = n,
                                 .positions = positions,
                                 .n_positions = n,
                                 .no_cache = true,
                                 .each = compare_row,
                                 .arg = &x};
        struct engine_usage u;
        struct err e;
        assert_int_equal(engine_score(g, &s, &u, &e), OK);
        mem_free(t);
        engine_close(g);
    }
    reading_free(first);
}

/* ---- the end ---- */
static void embedding_can_be_cancelled_and_refused(void **state)
{
    (void)state;
    struct engine *g =
        rig_engine((struct engine_options){.model_path = TINY("llama-F32"), .chunk = 1});
    uint32_t *t = rig_tokens(1, 500, engine_info(g)->model->n_vocab);
    struct reading *r = reading_new();
    struct err e;
    submit_vector(g, t, 500, r);
    engine_cancel(g, r->answer->id);
    rig_wait(r->answer);
    assert_int_equal(r->n_vectors, 0);
    reading_free(r);
    struct engine_request *q = rig_request(g, t, 10, 0);
    uint64_t id;
    q->wants_vector = true;
    q->event = rig_event;
    assert_int_equal(engine_submit(g, q, &id, &e), E_INVALID);
    engine_request_free(q);
    r = reading_new();
    submit_vector(g, t, 1, r); /* one token is a text */
    finish(r);
    assert_int_equal(r->n_vectors, 1);
    reading_free(r);
    mem_free(t);
    engine_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_are_llama_cpps),
        cmocka_unit_test(vectors_are_exact),
        cmocka_unit_test(the_file_says_how_to_pool),
        cmocka_unit_test(prompts_have_log_probabilities),
        cmocka_unit_test(embedding_can_be_cancelled_and_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
