/* SPDX-License-Identifier: MIT
 * Goal: DESIGN §4 — logits are a function of the token sequence alone — and nothing is computed
 * twice. Method: for a tiny model of each family, the digest of all logits at the last positions
 * must be the same for every chunk size, thread count, instruction set, KV state (cold, same
 * process, after a restart, after kill -9 in another process, diverging at 200 positions), and the
 * number of computed tokens must be what DESIGN §3 allows.  `--isa NAME` runs the table on another
 * instruction set than the best; a restart always changes it. */
#include <math.h>
#include <sys/wait.h>

#include "isas.h"
#include "rig.h"

#define POSITIONS      3u
#define MODELS_MAX     16u
#define SKIPPED        77   /* for ctest */
#define REF_TOKENS_MAX 600u /* plain C takes hours for more, with a real model */

/* The subjects: tiny models, or one real model (--soak MODEL LENGTH; "embedded": skald). */
static uint32_t N = 500; /* tokens; the tiny models hold 512 */
static uint32_t n_divergences = 200;
static size_t n_models;
static const char *models[MODELS_MAX];
static const char *const tiny[] = {TINY("gemma3-F32"), TINY("gemma3-Q8_0"), TINY("llama-F32"),
                                   TINY("llama-Q4_0"), TINY("llama-KMIX"),  TINY("qwen2-Q5_1"),
                                   TINY("qwen3-F16")};

static const char *path_of(const char *model)
{
    return strcmp(model, "embedded") == 0 ? NULL : model;
}

static struct digest reference(const char *path, const uint32_t *t, enum kv_type kv,
                               enum activations activations)
{
    struct engine_usage u;
    struct engine *g =
        rig_engine((struct engine_options){.model_path = path_of(path),
                                           .n_threads = 1,
                                           .isa = N > REF_TOKENS_MAX ? ISA_AUTO : ISA_REF,
                                           .kv_type = kv,
                                           .activations = activations});
    struct digest d = rig_score(g, t, N, POSITIONS, 512, true, &u);
    assert_int_equal(u.computed_tokens, N);
    engine_close(g);
    return d;
}

static void assert_same(const struct digest *a, const struct digest *b, const char *what,
                        const char *model)
{
    if (!digest_equal(a, b))
        fail_msg("%s: other bits with %s", model, what);
}

static uint32_t vocabulary_of(const char *path)
{
    struct engine *g = rig_engine((struct engine_options){.model_path = path_of(path)});
    uint32_t n = engine_info(g)->model->n_vocab;
    engine_close(g);
    return n;
}

static void test_chunks_threads_isas(void **state)
{
    (void)state;
    static const uint32_t chunks[] = {1, 7, 64, 512};
    for (size_t i = 0; i < n_models; i++) {
        uint32_t *t = rig_tokens(i, N, vocabulary_of(models[i]));
        struct digest ref = reference(models[i], t, KV_F16, ACTIVATIONS_Q8);
        for (uint32_t threads = 1; threads <= 3; threads++) {
            struct engine *g = rig_engine(
                (struct engine_options){.model_path = path_of(models[i]), .n_threads = threads});
            for (size_t c = 0; c < sizeof chunks / sizeof *chunks; c++) {
                struct engine_usage u;
                struct digest d = rig_score(g, t, N, POSITIONS, chunks[c], true, &u);
                assert_same(&d, &ref, "another chunk or thread count", models[i]);
                assert_int_equal(u.computed_tokens, N);
            }
            engine_close(g);
        }
        mem_free(t);
    }
}

static void test_f32(void **state)
{
    (void)state;
    for (size_t i = 0; i < n_models; i++) {
        uint32_t *t = rig_tokens(i, N, vocabulary_of(models[i]));
        struct digest ref = reference(models[i], t, KV_F32, ACTIVATIONS_F32);
        struct engine *g = rig_engine((struct engine_options){
            .model_path = path_of(models[i]), .kv_type = KV_F32, .activations = ACTIVATIONS_F32});
        struct engine_usage u;
        struct digest d = rig_score(g, t, N, POSITIONS, 64, true, &u);
        assert_same(&d, &ref, "f32", models[i]);
        engine_close(g);
        mem_free(t);
    }
}

/* Models whose heads have no scale of their own per 32 dimensions are refused at load, in words. */
static void refuses(const char *model, enum kv_type type)
{
    struct engine *g = NULL;
    struct err e = {0};
    const struct engine_options o = {.model_path = path_of(model), .kv_type = type};
    assert_int_equal(engine_open(&o, &g, &e), E_UNSUPPORTED);
    assert_non_null(strstr(e.msg, "not a multiple of 32"));
    assert_null(g);
}

/* Quantized KV: cold in other chunks and threads than the reference's, again, and what a restart on
 * another instruction set finds. */
static void run_quantized(const char *model, const uint32_t *t, enum kv_type type, bool is_windowed)
{
    char dir[64];
    rig_make_dir(dir);
    struct digest ref = reference(model, t, type, ACTIVATIONS_Q8);
    for (uint32_t start = 0; start < 2; start++) {
        const struct kernels *k;
        struct engine_options o = {
            .model_path = path_of(model), .own.dir = dir, .kv_type = type, .n_threads = 1 + start};
        if (start == 1 && kernels_select(ISA_AVX2, &k, NULL) == OK)
            o.isa = ISA_AVX2;
        struct engine *g = rig_engine(o);
        for (uint32_t again = 0; again < 2; again++) {
            struct engine_usage u;
            struct digest d = rig_score(g, t, N, POSITIONS, 90 + 7 * again, false, &u);
            assert_same(&d, &ref, kv_type_name(type), model);
            if (start == 0 && again == 0)
                assert_int_equal(u.computed_tokens, N);
            else if (!is_windowed) /* the tail's page too, kept in its compact form */
                assert_int_equal(u.computed_tokens, POSITIONS);
            else
                assert_true(u.computed_tokens < N);
        }
        engine_flush(g);
        engine_close(g);
    }
    rig_remove_dir(dir);
}

/* Of several models by turns one type or the other: each meets windowed and full attention. */
static void test_quantized_kv(void **state)
{
    (void)state;
    static const enum kv_type types[] = {KV_Q8_0, KV_Q4};
    uint32_t n_fit = 0;
    for (size_t i = 0; i < n_models; i++) {
        struct engine *g = rig_engine((struct engine_options){.model_path = path_of(models[i])});
        const struct model_info *info = engine_info(g)->model;
        const uint32_t n_vocab = info->n_vocab;
        const bool fits = kv_type_fits(KV_Q8_0, info->head_dim);
        const bool is_windowed = info->groups[0].window || info->n_groups > 1;
        engine_close(g);
        if (!fits) {
            refuses(models[i], types[i % 2]);
            continue;
        }
        uint32_t *t = rig_tokens(i, N, n_vocab);
        for (size_t j = 0; j < 2; j++)
            if (n_models == 1 || j == n_fit % 2)
                run_quantized(models[i], t, types[j], is_windowed);
        n_fit++;
        mem_free(t);
    }
    assert_true(n_fit > 0);
}

/* Cold, again, reopened: the same bits, and only what must be is computed. */
static void test_restart(void **state)
{
    (void)state;
    for (size_t i = 0; i < n_models; i++) {
        char dir[64];
        rig_make_dir(dir);
        uint32_t *t = rig_tokens(i, N, vocabulary_of(models[i]));
        struct digest ref = reference(models[i], t, KV_F16, ACTIVATIONS_Q8);
        struct engine_options o = {.model_path = path_of(models[i]), .own.dir = dir};
        struct engine_usage u;
        for (int restart = 0; restart < 3; restart++) {
            const struct kernels *k; /* what one set stored, another reads */
            o.isa = restart == 1 && kernels_select(ISA_AVX2, &k, NULL) == OK ? ISA_AVX2 : ISA_AUTO;
            struct engine *g = rig_engine(o);
            for (int again = 0; again < 2; again++) {
                struct digest d = rig_score(g, t, N, POSITIONS, 100, false, &u);
                assert_same(&d, &ref, "resume", models[i]);
                bool is_cold = restart == 0 && again == 0;
                bool is_windowed =
                    engine_info(g)->model->groups[0].window || engine_info(g)->model->n_groups > 1;
                if (is_cold)
                    assert_int_equal(u.computed_tokens, N);
                else if (!is_windowed)
                    assert_int_equal(u.computed_tokens, POSITIONS);
                else
                    assert_true(u.computed_tokens < N);
                if (restart > 0 && again == 0)
                    assert_int_equal(u.memory_tokens, 0);
            }
            engine_flush(g);
            engine_close(g);
        }
        mem_free(t);
        rig_remove_dir(dir);
    }
}

/* Another process computes and is killed; this one goes on from what it left. */
static void test_kill(void **state)
{
    (void)state;
    for (size_t i = 0; i < n_models; i += 2) {
        char dir[64];
        rig_make_dir(dir);
        uint32_t *t = rig_tokens(i, N, vocabulary_of(models[i]));
        struct engine_usage u;
        struct engine_options o = {.model_path = path_of(models[i]), .own.dir = dir};
        pid_t child = fork();
        if (child == 0) {
            struct engine *g = rig_engine(o);
            (void)rig_score(g, t, N - 1, 1, 512, false, &u);
            engine_flush(g);
            kill(getpid(), SIGKILL);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        struct digest ref = reference(models[i], t, KV_F16, ACTIVATIONS_Q8);
        struct engine *g = rig_engine(o);
        struct digest d = rig_score(g, t, N, 1, 512, false, &u);
        assert_int_equal(u.disk_tokens, N - 1); /* the end of the child's text is resumable */
        assert_int_equal(u.computed_tokens, 1);
        d = rig_score(g, t, N, POSITIONS, 512, false, &u);
        assert_same(&d, &ref, "kill -9", models[i]);
        engine_close(g);
        mem_free(t);
        rig_remove_dir(dir);
    }
}

/* 200 divergences from a conversation of turns of 80 tokens. */
static void test_divergence(void **state)
{
    (void)state;
    for (size_t i = 0; i < n_models; i++) {
        if (strstr(models[i], "F32") || strstr(models[i], "KMIX"))
            continue; /* one of each family is enough here */
        char dir[64];
        rig_make_dir(dir);
        uint32_t n_vocab = vocabulary_of(models[i]);
        uint32_t *t = rig_tokens(50 + i, N, n_vocab);
        struct engine_options o = {.model_path = path_of(models[i]), .own.dir = dir};
        struct engine *g = rig_engine(o),
                      *cold = rig_engine((struct engine_options){.model_path = path_of(models[i])});
        bool is_windowed = engine_info(g)->model->n_groups > 1;
        struct engine_usage u;
        for (uint32_t n = 80; n <= N; n += 80)
            (void)rig_score(g, t, n, 1, 512, false, &u);
        (void)rig_score(g, t, N, 1, 512, false, &u);
        for (uint32_t k = 0; k < n_divergences; k++) {
            uint32_t at = 1 + k * (N - 10) / n_divergences;
            uint32_t *other = mem_new(N, sizeof *other);
            memcpy(other, t, N * sizeof *other);
            other[at] = (other[at] + 1 + k) % n_vocab;
            uint32_t n = at + 9 < N ? at + 9 : N;
            if (other[at] == t[at])
                other[at] = (other[at] + 1) % n_vocab;
            struct digest a = rig_score(g, other, n, 1, 512, false, &u);
            uint32_t allowed = is_windowed ? n - at / 80 * 80 : n - at;
            if (u.computed_tokens > allowed)
                fail_msg("%s: diverging at %u computed %u tokens, allowed %u", models[i], at,
                         u.computed_tokens, allowed);
            struct engine_usage v;
            struct digest b = rig_score(cold, other, n, 1, 512, true, &v);
            assert_same(&a, &b, "divergence", models[i]);
            mem_free(other);
            if (k % 50 == 49) {
                engine_close(g);
                g = rig_engine(o);
            }
        }
        engine_close(g);
        engine_close(cold);
        mem_free(t);
        rig_remove_dir(dir);
    }
}

/* Five mixed requests in one batch, and each alone: the same tokens and log-probability bits. */
static void test_batch(void **state)
{
    (void)state;
    static const uint32_t lengths[5] = {3, 65, 200, 129, 64};
    for (size_t i = 0; i < n_models; i++) {
        struct engine *g =
            rig_engine((struct engine_options){.model_path = path_of(models[i]), .chunk = 50});
        uint32_t n_vocab = engine_info(g)->model->n_vocab;
        struct rig_answer *alone[5], *together[5];
        for (uint32_t k = 0; k < 5; k++) {
            uint32_t *t = rig_tokens(k * 7 + i, 200, n_vocab);
            struct engine_request *r = rig_request(g, t, lengths[k], 40);
            r->no_cache = true;
            r->sampling.temperature = k % 2 ? 0.9f : 0;
            r->has_seed = true;
            r->sampling.seed = k;
            alone[k] = rig_answer_new();
            rig_submit(g, r, alone[k]);
            rig_wait(alone[k]);
            mem_free(t);
        }
        for (uint32_t k = 0; k < 5; k++) {
            uint32_t *t = rig_tokens(k * 7 + i, 200, n_vocab);
            struct engine_request *r = rig_request(g, t, lengths[k], 40);
            r->sampling.temperature = k % 2 ? 0.9f : 0;
            r->has_seed = true;
            r->sampling.seed = k;
            together[k] = rig_answer_new();
            rig_submit(g, r, together[k]);
            mem_free(t);
        }
        for (uint32_t k = 0; k < 5; k++) {
            rig_wait(together[k]);
            assert_int_equal(together[k]->error.code, OK);
            assert_int_equal(together[k]->n[0], 40);
            assert_memory_equal(together[k]->tokens[0], alone[k]->tokens[0], 40 * 4);
            assert_memory_equal(together[k]->logprobs[0], alone[k]->logprobs[0], 40 * 4);
            rig_answer_free(alone[k]);
            rig_answer_free(together[k]);
        }
        engine_close(g);
    }
}

/* Only six tokens may come, so that a random model repeats itself and guesses are often right and
 * often wrong. */
static struct engine_request *repetitive(struct engine *g, const uint32_t *t, uint32_t n,
                                         uint32_t max_tokens, uint32_t kind)
{
    struct engine_request *r = rig_request(g, t, n, max_tokens);
    uint32_t n_vocab = engine_info(g)->model->n_vocab;
    if (n_vocab <= SAMPLER_BIAS_MAX) {
        struct logit_bias *bias = arena_alloc(&r->arena, n_vocab, sizeof *bias);
        r->sampling.bias = bias;
        for (uint32_t i = 0; i < n_vocab; i++)
            if (i != t[0] && i != t[1] && i != t[2] && i != t[3] && i != t[4] && i != t[5])
                bias[r->sampling.n_bias++] = (struct logit_bias){i, -INFINITY};
    }
    r->has_seed = true;
    r->sampling.seed = kind;
    if (kind % 3 > 0)
        r->sampling.temperature = kind % 3 == 1 ? 0.7f : 1.5f;
    if (kind % 3 == 2) {
        r->sampling.repeat_penalty = 1.1f;
        r->sampling.frequency_penalty = 0.05f;
    }
    if (kind == 3) {
        r->sampling.temperature = 0.9f;
        r->sampling.dynatemp_range = 0.4f;
        r->sampling.dry_multiplier = 0.1f;
        r->sampling.xtc_probability = 0.2f;
    }
    if (kind == 4) {
        r->sampling.mirostat = 2;
        r->sampling.mirostat_tau = 1;
    }
    r->n_choices = kind == 1 ? 3 : 1;
    return r;
}

#define STREAMS 5u
struct spoken {
    struct rig_answer *answers[STREAMS];
    uint32_t guessed, accepted;
};

/* All streams at once; max_tokens may cut them so that a second call goes on. */
static struct spoken speak(struct engine *g, uint32_t *const *t, uint32_t n, uint32_t max_tokens)
{
    struct spoken s = {0};
    for (uint32_t k = 0; k < STREAMS; k++) {
        s.answers[k] = rig_answer_new();
        rig_submit(g, repetitive(g, t[k], n, max_tokens, k), s.answers[k]);
    }
    for (uint32_t k = 0; k < STREAMS; k++) {
        rig_wait(s.answers[k]);
        assert_int_equal(s.answers[k]->error.code, OK);
        s.guessed += s.answers[k]->usage.guessed_tokens;
        s.accepted += s.answers[k]->usage.accepted_tokens;
    }
    return s;
}

static void assert_same_answers(const struct spoken *a, const struct spoken *b, uint32_t from)
{
    for (uint32_t k = 0; k < STREAMS; k++)
        for (uint32_t c = 0; c < (k == 1 && from == 0 ? 3 : 1); c++) {
            uint32_t n = a->answers[k]->n[c] - from;
            assert_int_equal(b->answers[k]->n[c], n);
            assert_memory_equal(a->answers[k]->tokens[c] + from, b->answers[k]->tokens[c], n * 4);
            assert_memory_equal(a->answers[k]->logprobs[c] + from, b->answers[k]->logprobs[c],
                                n * 4);
        }
}

static void spoken_free(struct spoken *s)
{
    for (uint32_t k = 0; k < STREAMS; k++)
        rig_answer_free(s->answers[k]);
}

/* The pages that a stream left behind hold what its own tokens give, and nothing else. */
static void assert_clean_pages(struct engine *g, const uint32_t *t, uint32_t n,
                               const struct spoken *s, const char *model)
{
    for (uint32_t k = 0; k < STREAMS; k++) {
        uint32_t n_all = n + s->answers[k]->n[0];
        uint32_t *all = mem_new(n_all + 1, sizeof *all);
        memcpy(all, t + k, n * sizeof *all);
        memcpy(all + n, s->answers[k]->tokens[0], (n_all - n) * sizeof *all);
        all[n_all] = t[0];
        struct engine_usage u;
        struct digest warm = rig_score(g, all, n_all + 1, POSITIONS, 512, false, &u);
        struct digest cold = rig_score(g, all, n_all + 1, POSITIONS, 512, true, &u);
        assert_same(&warm, &cold, "pages of a stream with guesses", model);
        mem_free(all);
    }
}

/* Guesses change nothing: the same tokens and log-probability bits, greedy, sampled, with
 * penalties, by a chain of filters, with mirostat, three choices, all together, cut by a restart.
 */
static void test_speculation(void **state)
{
    (void)state;
    static const uint32_t numbers[] = {1, 4, 16, 0};
    const uint32_t n = 100, n_generated = 150, n_cut = 70;
    for (size_t i = 0; i < n_models; i++) {
        if (strstr(models[i], "F32") || strstr(models[i], "KMIX"))
            continue; /* one of each family is enough here */
        uint32_t *t = rig_tokens(i, N, vocabulary_of(models[i])), *prompts[STREAMS];
        for (uint32_t k = 10; k < n; k++)
            t[k] = t[k % 7]; /* something to repeat */
        for (uint32_t k = 0; k < STREAMS; k++)
            prompts[k] = t + k;
        struct engine_options o = {.model_path = path_of(models[i]),
                                   .speculate = ENGINE_SPECULATE_OFF};
        struct engine *g = rig_engine(o);
        struct spoken plain = speak(g, prompts, n, n_generated);
        assert_int_equal(plain.guessed, 0);
        engine_close(g);
        uint32_t accepted = 0, wrong = 0;
        for (size_t v = 0; v < sizeof numbers / sizeof *numbers; v++) {
            char dir[64];
            rig_make_dir(dir);
            o.speculate = numbers[v];
            o.own.dir = dir;
            g = rig_engine(o);
            struct spoken whole = speak(g, prompts, n, n_generated);
            assert_same_answers(&plain, &whole, 0);
            assert_clean_pages(g, t, n, &whole, models[i]);
            accepted += whole.accepted;
            wrong += whole.guessed - whole.accepted;
            engine_close(g);
            /* Cut: the tokens so far are the prompt of another process. */
            uint32_t *cut[STREAMS];
            for (uint32_t k = 0; k < STREAMS; k++) {
                cut[k] = mem_new(n + n_cut, sizeof **cut);
                memcpy(cut[k], prompts[k], n * sizeof **cut);
                memcpy(cut[k] + n, plain.answers[k]->tokens[0], n_cut * sizeof **cut);
            }
            g = rig_engine(o);
            struct spoken rest = speak(g, cut, n + n_cut, n_generated - n_cut);
            for (uint32_t k = 0; k < STREAMS; k++)
                /* frequency_penalty and mirostat look at generated tokens only */
                if (k != 2 && k != 4)
                    assert_memory_equal(plain.answers[k]->tokens[0] + n_cut,
                                        rest.answers[k]->tokens[0], (n_generated - n_cut) * 4);
            engine_close(g);
            for (uint32_t k = 0; k < STREAMS; k++)
                mem_free(cut[k]);
            spoken_free(&whole);
            spoken_free(&rest);
            rig_remove_dir(dir);
        }
        print_message("%s: %u guesses right, %u wrong\n", models[i], accepted, wrong);
        assert_true(accepted > 50 && wrong > 50);
        spoken_free(&plain);
        mem_free(t);
    }
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--soak") == 0) {
        if (path_of(argv[2]) && access(argv[2], R_OK) != 0) {
            printf("skipped: no %s (./do soak fetches it)\n", argv[2]);
            return SKIPPED;
        }
        models[n_models++] = argv[2];
        N = (uint32_t)strtoul(argv[3], NULL, 10);
        n_divergences = 20;
    } else {
        const char *name = argc == 3 && strcmp(argv[1], "--isa") == 0 ? argv[2] : "auto";
        if (!isa_here(name, &rig_isa))
            return SKIPPED;
        if (rig_isa != ISA_AUTO)
            n_divergences = 40;
        for (size_t i = 0; i < sizeof tiny / sizeof *tiny; i++)
            models[n_models++] = tiny[i];
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kill), /* forks: before this process has threads */
        cmocka_unit_test(test_chunks_threads_isas),
        cmocka_unit_test(test_f32),
        cmocka_unit_test(test_quantized_kv),
        cmocka_unit_test(test_restart),
        cmocka_unit_test(test_divergence),
        cmocka_unit_test(test_batch),
        cmocka_unit_test(test_speculation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
