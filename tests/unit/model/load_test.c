/* SPDX-License-Identifier: MIT
 * load_test.c — what loading accepts, refuses by name, and makes of each key.
 * Method: GGUFs are written in memory, a right one with one thing changed; keys whose effect can be
 *         had in two ways (a factor as key or as tensor, a scale folded into a norm) must give the
 *         same bits both ways. */
#include "isas.h"
#include "rig.h"

#include "gguf_make.h"

#define VOCAB      40u
#define TOKENS     24u
#define FLOATS_MAX 65536u

/* A small model with things to change.  Zeroed: the defaults. */
struct plan {
    const char *arch;
    uint32_t n_layers, n_embd, n_heads, n_kv_heads, head_dim, n_ff;
    const char *skip;        /* this tensor or key is left out */
    const char *wrong_shape; /* this tensor gets a row too many */
    const char *rename_from, *rename_to;
    float q_norm;            /* all elements; 0: varied */
    uint32_t identity_layer; /* 1 + layer whose post norms are zero: it adds nothing */
    bool has_output, output_is_embedding, has_q_bias;
    float rope_factor; /* of every frequency; 0: no tensor */
    void (*keys)(struct gguf_make *);
};

static float *floats; /* [FLOATS_MAX] */

/* Deterministic by name, so that models that differ in one thing are equal in the rest. */
static void fill(const char *name, size_t n, float mean, float spread)
{
    uint32_t h = 2166136261u;
    for (const char *c = name; *c; c++)
        h = (h ^ (unsigned char)*c) * 16777619u;
    CHECK(n <= FLOATS_MAX);
    for (size_t i = 0; i < n; i++) {
        h = h * 1664525u + 1013904223u;
        floats[i] = mean + spread * ((float)(h >> 8) * 0x1p-23f - 1.0f);
    }
}

static void put(struct gguf_make *m, const struct plan *p, const char *name, uint64_t columns,
                uint64_t rows)
{
    if (p->skip && strcmp(p->skip, name) == 0)
        return;
    if (p->wrong_shape && strcmp(p->wrong_shape, name) == 0)
        rows++;
    if (p->rename_from && strcmp(p->rename_from, name) == 0)
        name = p->rename_to;
    const uint64_t dims[] = {columns, rows};
    gguf_make_tensor(m, name, TYPE_F32, dims, rows == 1 ? 1 : 2, floats, columns * rows * 4);
}

static void put_matrix(struct gguf_make *m, const struct plan *p, const char *name,
                       uint64_t columns, uint64_t rows)
{
    fill(name, columns * rows + columns, 0, 2.0f / sqrtf((float)columns));
    put(m, p, name, columns, rows);
}

static void put_layer(struct gguf_make *m, const struct plan *p, uint32_t layer)
{
    char name[64];
    const uint64_t n_q = p->n_heads * p->head_dim, n_kv = p->n_kv_heads * p->head_dim;
    const bool is_gemma = strcmp(p->arch, "gemma3") == 0, is_qwen2 = strcmp(p->arch, "qwen2") == 0;
    const struct {
        const char *text;
        uint64_t columns, rows; /* rows 1: a vector around 1 */
        bool is_there;
    } tensors[] = {
        {"attn_norm.weight", p->n_embd, 1, true},
        {"ffn_norm.weight", p->n_embd, 1, true},
        {"attn_q.weight", p->n_embd, n_q, true},
        {"attn_k.weight", p->n_embd, n_kv, true},
        {"attn_v.weight", p->n_embd, n_kv, true},
        {"attn_output.weight", n_q, p->n_embd, true},
        {"ffn_gate.weight", p->n_embd, p->n_ff, true},
        {"ffn_up.weight", p->n_embd, p->n_ff, true},
        {"ffn_down.weight", p->n_ff, p->n_embd, true},
        {"attn_q.bias", n_q, 1, is_qwen2 || p->has_q_bias},
        {"attn_k.bias", n_kv, 1, is_qwen2},
        {"attn_v.bias", n_kv, 1, is_qwen2},
        {"attn_q_norm.weight", p->head_dim, 1, is_gemma || strcmp(p->arch, "qwen3") == 0},
        {"attn_k_norm.weight", p->head_dim, 1, is_gemma || strcmp(p->arch, "qwen3") == 0},
        {"post_attention_norm.weight", p->n_embd, 1, is_gemma},
        {"post_ffw_norm.weight", p->n_embd, 1, is_gemma},
    };
    for (size_t i = 0; i < ARRAY_COUNT(tensors); i++) {
        if (!tensors[i].is_there)
            continue;
        snprintf(name, sizeof name, "blk.%u.%s", layer, tensors[i].text);
        if (tensors[i].rows > 1) {
            put_matrix(m, p, name, tensors[i].columns, tensors[i].rows);
            continue;
        }
        fill(name, 2 * tensors[i].columns, 1, 0.3f);
        bool is_zero = p->identity_layer == layer + 1 && strncmp(tensors[i].text, "post", 4) == 0;
        bool is_q_norm = p->q_norm != 0 && strcmp(tensors[i].text, "attn_q_norm.weight") == 0;
        for (size_t j = 0; j < tensors[i].columns && (is_zero || is_q_norm); j++)
            floats[j] = is_zero ? 0 : p->q_norm;
        put(m, p, name, tensors[i].columns, 1);
    }
}

static void put_key(struct gguf_make *m, const struct plan *p, const char *name, uint32_t value)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", p->arch, name);
    if (p->skip && strcmp(p->skip, name) == 0)
        return;
    if (strcmp(name, "attention.layer_norm_rms_epsilon") == 0)
        gguf_make_key_f32(m, key, 1e-5f);
    else
        gguf_make_key_u32(m, key, value);
}

static void make(struct gguf_make *m, struct plan *p)
{
    if (!p->arch)
        p->arch = "llama";
    p->n_layers = p->n_layers ? p->n_layers : 1;
    p->n_embd = p->n_embd ? p->n_embd : 32;
    p->n_heads = p->n_heads ? p->n_heads : 2;
    p->n_kv_heads = p->n_kv_heads ? p->n_kv_heads : 1;
    p->head_dim = p->head_dim ? p->head_dim : 16;
    p->n_ff = p->n_ff ? p->n_ff : 48;
    gguf_make_begin(m, 3, 0);
    gguf_make_key_string(m, "general.architecture", p->arch);
    put_key(m, p, "block_count", p->n_layers);
    put_key(m, p, "embedding_length", p->n_embd);
    put_key(m, p, "feed_forward_length", p->n_ff);
    put_key(m, p, "context_length", 512);
    put_key(m, p, "attention.head_count", p->n_heads);
    put_key(m, p, "attention.head_count_kv", p->n_kv_heads);
    put_key(m, p, "attention.key_length", p->head_dim);
    put_key(m, p, "attention.value_length", p->head_dim);
    put_key(m, p, "attention.layer_norm_rms_epsilon", 0);
    if (strcmp(p->arch, "gemma3") == 0)
        put_key(m, p, "attention.sliding_window", 8);
    if (p->keys)
        p->keys(m);
    put_matrix(m, p, "token_embd.weight", p->n_embd, VOCAB);
    if (p->has_output && p->output_is_embedding) {
        fill("token_embd.weight", p->n_embd * VOCAB, 0, 2.0f / sqrtf((float)p->n_embd));
        put(m, p, "output.weight", p->n_embd, VOCAB);
    } else if (p->has_output) {
        put_matrix(m, p, "output.weight", p->n_embd, VOCAB);
    }
    fill("output_norm.weight", 2 * p->n_embd, 1, 0.3f);
    put(m, p, "output_norm.weight", p->n_embd, 1);
    for (uint32_t i = 0; p->rope_factor != 0 && i < p->head_dim; i++)
        floats[i] = p->rope_factor;
    if (p->rope_factor != 0)
        put(m, p, "rope_freqs.weight", p->head_dim / 2, 1);
    for (uint32_t layer = 0; layer < p->n_layers; layer++)
        put_layer(m, p, layer);
}

/* ---- refusals ---- */
static void expect_error(struct plan p, enum status want, const char *text)
{
    struct gguf_make m;
    make(&m, &p);
    struct slice file = gguf_make_end(&m);
    struct gguf *g = NULL;
    struct team *team = NULL;
    struct model *model = NULL;
    struct err e = {0};
    assert_int_equal(gguf_open_memory(file.ptr, file.len, "made.gguf", &g, &e), OK);
    assert_int_equal(team_new(1, &team, &e), OK);
    enum status st = model_load(g, team, &(struct model_options){0}, &model, &e);
    if (st != want || !strstr(e.msg, text)) {
        fprintf(stderr, "wanted %s … %s …, got %s: %s\n", status_name(want), text, status_name(st),
                e.msg);
        fail();
    }
    assert_null(model);
    team_free(team);
    gguf_close(g);
    gguf_make_release(&m);
}

static void test_tensors_refused(void **state)
{
    (void)state;
    expect_error((struct plan){.arch = "mamba"}, E_UNSUPPORTED, "\"mamba\"");
    expect_error((struct plan){.skip = "token_embd.weight"}, E_INVALID, "token_embd.weight");
    expect_error((struct plan){.skip = "output_norm.weight"}, E_INVALID, "output_norm.weight");
    expect_error((struct plan){.skip = "blk.1.attn_k.weight", .n_layers = 2}, E_INVALID,
                 "blk.1.attn_k.weight");
    expect_error((struct plan){.skip = "blk.0.ffn_norm.weight"}, E_INVALID,
                 "blk.0.ffn_norm.weight");
    expect_error((struct plan){.arch = "gemma3", .skip = "blk.0.post_ffw_norm.weight"}, E_INVALID,
                 "blk.0.post_ffw_norm.weight");
    expect_error((struct plan){.arch = "qwen2", .skip = "blk.0.attn_v.bias"}, E_INVALID,
                 "blk.0.attn_v.bias");
    expect_error((struct plan){.wrong_shape = "blk.0.ffn_up.weight"}, E_INVALID,
                 "32 x 49 x 1 x 1, expected 32 x 48");
    expect_error((struct plan){.has_output = true, .wrong_shape = "output.weight"}, E_INVALID,
                 "output.weight");
    /* Weights that would be ignored. */
    expect_error((struct plan){.arch = "qwen3", .has_q_bias = true}, E_UNSUPPORTED,
                 "blk.0.attn_q.bias");
    expect_error((struct plan){.arch = "qwen3", .rope_factor = 2}, E_UNSUPPORTED, "rope_freqs");
    expect_error((struct plan){.has_output = true,
                               .rename_from = "output.weight",
                               .rename_to = "blk.0.ffn_gate_inp.weight"},
                 E_UNSUPPORTED, "blk.0.ffn_gate_inp.weight");
    expect_error((struct plan){.rope_factor = NAN}, E_INVALID, "rope_freqs.weight");
    expect_error((struct plan){.rope_factor = 1e-9f}, E_INVALID, "rope_freqs.weight");
}

#define KEYS(name, ...)                   \
    static void name(struct gguf_make *m) \
    {                                     \
        __VA_ARGS__;                      \
    }
KEYS(key_experts, gguf_make_key_u32(m, "llama.expert_count", 8))
KEYS(key_no_experts, gguf_make_key_u32(m, "llama.expert_count", 0))
KEYS(key_soft_cap, gguf_make_key_f32(m, "gemma3.final_logit_softcapping", 30))
KEYS(key_attn_cap, gguf_make_key_f32(m, "gemma3.attn_logit_softcapping", 50))
KEYS(key_clamp, gguf_make_key_f32(m, "llama.attention.clamp_kqv", 8))
KEYS(key_not_causal, gguf_make_key_bool(m, "llama.attention.causal", false))
KEYS(key_causal, gguf_make_key_bool(m, "llama.attention.causal", true))
KEYS(key_yarn, gguf_make_key_string(m, "qwen2.rope.scaling.type", "yarn");
     gguf_make_key_f32(m, "qwen2.rope.scaling.factor", 4))
KEYS(key_negative_factor, gguf_make_key_f32(m, "llama.rope.scaling.factor", -2))
KEYS(key_window, gguf_make_key_u32(m, "qwen3.attention.sliding_window", 16))
KEYS(key_odd_rope, gguf_make_key_u32(m, "llama.rope.dimension_count", 7))
KEYS(key_wide_rope, gguf_make_key_u32(m, "llama.rope.dimension_count", 18))
KEYS(key_base_zero, gguf_make_key_f32(m, "llama.rope.freq_base", 0))
KEYS(key_base_nan, gguf_make_key_f32(m, "llama.rope.freq_base", NAN))
KEYS(key_base_text, gguf_make_key_string(m, "llama.rope.freq_base", "10000"))

static void test_keys_refused(void **state)
{
    (void)state;
    static const char *const required[] = {
        "block_count",    "embedding_length",     "feed_forward_length",
        "context_length", "attention.head_count", "attention.layer_norm_rms_epsilon",
    };
    for (size_t i = 0; i < ARRAY_COUNT(required); i++)
        expect_error((struct plan){.skip = required[i]}, E_INVALID, required[i]);
    expect_error((struct plan){.arch = "gemma3", .skip = "attention.sliding_window"}, E_INVALID,
                 "gemma3.attention.sliding_window is missing");
    expect_error((struct plan){.keys = key_experts}, E_UNSUPPORTED, "llama.expert_count = 8");
    expect_error((struct plan){.arch = "gemma3", .keys = key_soft_cap}, E_UNSUPPORTED,
                 "gemma3.final_logit_softcapping = 30");
    expect_error((struct plan){.arch = "gemma3", .keys = key_attn_cap}, E_UNSUPPORTED,
                 "gemma3.attn_logit_softcapping");
    expect_error((struct plan){.keys = key_clamp}, E_UNSUPPORTED, "clamp_kqv");
    expect_error((struct plan){.keys = key_not_causal}, E_UNSUPPORTED, "attention.causal");
    expect_error((struct plan){.arch = "qwen2", .keys = key_yarn}, E_UNSUPPORTED, "\"yarn\"");
    expect_error((struct plan){.keys = key_negative_factor}, E_INVALID, "rope.scaling.factor");
    expect_error((struct plan){.arch = "qwen3", .keys = key_window}, E_UNSUPPORTED,
                 "qwen3.attention.sliding_window");
    expect_error((struct plan){.keys = key_odd_rope}, E_INVALID, "rope.dimension_count = 7");
    expect_error((struct plan){.keys = key_wide_rope}, E_INVALID, "rope.dimension_count = 18");
    expect_error((struct plan){.keys = key_base_zero}, E_INVALID, "rope.freq_base");
    expect_error((struct plan){.keys = key_base_nan}, E_INVALID, "rope.freq_base");
    expect_error((struct plan){.keys = key_base_text}, E_INVALID, "rope.freq_base");
    expect_error((struct plan){.n_heads = 3, .n_kv_heads = 2}, E_INVALID, "multiple of 2 KV heads");
    expect_error((struct plan){.n_layers = MODEL_LAYERS_MAX + 1}, E_INVALID, "block_count");
}

/* ---- what keys do ---- */
struct result {
    float logits[TOKENS * VOCAB];
    struct digest digest;
    struct model_info info;
};

static void check_progress(void *arg, double fraction)
{
    double *last = arg;
    assert_true(fraction >= *last && fraction <= 1);
    *last = fraction;
}

static void run(struct plan p, struct result *out)
{
    struct gguf_make m;
    make(&m, &p);
    struct slice file = gguf_make_end(&m);
    struct rig r = {0};
    struct err e = {0};
    double progress = 0;
    struct model_options options = {.progress = check_progress, .progress_arg = &progress};
    assert_int_equal(gguf_open_memory(file.ptr, file.len, "made.gguf", &r.gguf, &e), OK);
    assert_int_equal(team_new(2, &r.team, &e), OK);
    if (model_load(r.gguf, r.team, &options, &r.model, &e) != OK)
        rig_fail("load", &e);
    assert_true(progress == 1);
    assert_int_equal(model_workspace_new(r.model, 2, &r.workspace, &e), OK);
    r.info = model_info(r.model);
    out->info = *r.info;
    uint32_t tokens[TOKENS];
    for (uint32_t i = 0; i < TOKENS; i++)
        tokens[i] = i * 11 % VOCAB;
    struct rig_kv kv;
    rig_kv_init(&kv, &r, KV_F32, TOKENS);
    rig_run(&r, &kv, tokens, 0, TOKENS, TOKENS, out->logits);
    for (size_t i = 0; i < TOKENS * VOCAB; i++)
        assert_true(isfinite(out->logits[i]));
    struct digester d = {0};
    digest_begin(&d);
    model_digest(r.model, &d);
    out->digest = digest_end(&d);
    digester_release(&d);
    rig_kv_release(&kv);
    rig_close(&r);
    gguf_make_release(&m);
}

enum same { LOGITS_SAME = 1, DIGEST_SAME = 2, BOTH_SAME = 3, NOTHING_SAME = 0 };

static void expect(struct plan a, struct plan b, int same)
{
    static struct result x, y;
    run(a, &x);
    run(b, &y);
    assert_int_equal(memcmp(x.logits, y.logits, sizeof x.logits) == 0, (same & LOGITS_SAME) != 0);
    assert_int_equal(digest_equal(&x.digest, &y.digest), (same & DIGEST_SAME) != 0);
}

KEYS(key_linear_2, gguf_make_key_string(m, "llama.rope.scaling.type", "linear");
     gguf_make_key_f32(m, "llama.rope.scaling.factor", 2))
KEYS(key_factor_2, gguf_make_key_f32(m, "llama.rope.scaling.factor", 2))
KEYS(key_old_factor_2, gguf_make_key_f32(m, "llama.rope.scale_linear", 2))
KEYS(key_none_2, gguf_make_key_string(m, "llama.rope.scaling.type", "none");
     gguf_make_key_f32(m, "llama.rope.scaling.factor", 2))
KEYS(key_base_10000, gguf_make_key_f32(m, "llama.rope.freq_base", 10000))
KEYS(key_base_500, gguf_make_key_f32(m, "llama.rope.freq_base", 500))
KEYS(key_half_rope, gguf_make_key_u32(m, "llama.rope.dimension_count", 8))

static void test_rope_keys(void **state)
{
    (void)state;
    struct plan plain = {0}, linear = {.keys = key_linear_2};
    expect(plain, plain, BOTH_SAME);
    expect(plain, linear, NOTHING_SAME);
    expect(linear, (struct plan){.keys = key_factor_2}, BOTH_SAME);
    expect(linear, (struct plan){.keys = key_old_factor_2}, BOTH_SAME);
    expect(plain, (struct plan){.keys = key_none_2}, BOTH_SAME);
    /* The tensor is not in this digest: the model's identity holds every tensor's bytes. */
    expect(linear, (struct plan){.rope_factor = 2}, LOGITS_SAME);
    expect(plain, (struct plan){.rope_factor = 1}, BOTH_SAME);
    expect(plain, (struct plan){.keys = key_base_10000}, BOTH_SAME);
    expect(plain, (struct plan){.keys = key_base_500}, NOTHING_SAME);
    expect(plain, (struct plan){.keys = key_half_rope}, NOTHING_SAME);
    expect(plain, (struct plan){.keys = key_no_experts}, BOTH_SAME);
    expect(plain, (struct plan){.keys = key_causal}, BOTH_SAME);
}

KEYS(key_gemma_linear_8, gguf_make_key_string(m, "gemma3.rope.scaling.type", "linear");
     gguf_make_key_f32(m, "gemma3.rope.scaling.factor", 8))
KEYS(key_all_full, gguf_make_key_u32(m, "gemma3.attention.sliding_window_pattern", 1))
KEYS(key_all_full_linear_8, key_all_full(m); key_gemma_linear_8(m))
KEYS(key_pattern_2, gguf_make_key_u32(m, "gemma3.attention.sliding_window_pattern", 2))
KEYS(key_pattern_6, gguf_make_key_u32(m, "gemma3.attention.sliding_window_pattern", 6))
KEYS(key_flags, const uint8_t flags[] = {1, 0, 1, 0};
     gguf_make_key_array(m, "gemma3.attention.sliding_window_pattern", GGUF_BOOL, 4, flags, 4))
KEYS(key_few_flags, const uint8_t flags[] = {1, 0};
     gguf_make_key_array(m, "gemma3.attention.sliding_window_pattern", GGUF_BOOL, 2, flags, 2))
KEYS(key_swa_base, gguf_make_key_f32(m, "gemma3.rope.freq_base_swa", 10000))
KEYS(key_swa_base_other, gguf_make_key_f32(m, "gemma3.rope.freq_base_swa", 500))

static void test_gemma_keys(void **state)
{
    (void)state;
    struct plan plain = {.arch = "gemma3", .n_layers = 4};
    struct plan full = {.arch = "gemma3", .keys = key_all_full};
    static struct result x;
    /* Four layers without a pattern: all windowed, and windowed layers never scale positions. */
    expect(plain, (struct plan){.arch = "gemma3", .n_layers = 4, .keys = key_gemma_linear_8},
           LOGITS_SAME);
    expect(full, (struct plan){.arch = "gemma3", .keys = key_all_full_linear_8}, NOTHING_SAME);
    expect(plain, (struct plan){.arch = "gemma3", .n_layers = 4, .keys = key_pattern_6}, BOTH_SAME);
    expect(plain, (struct plan){.arch = "gemma3", .n_layers = 4, .keys = key_swa_base}, BOTH_SAME);
    expect(plain, (struct plan){.arch = "gemma3", .n_layers = 4, .keys = key_swa_base_other},
           NOTHING_SAME);
    struct plan two = {.arch = "gemma3", .n_layers = 4, .keys = key_pattern_2};
    expect(plain, two, NOTHING_SAME);
    expect(two, (struct plan){.arch = "gemma3", .n_layers = 4, .keys = key_flags}, BOTH_SAME);
    expect_error((struct plan){.arch = "gemma3", .n_layers = 4, .keys = key_few_flags}, E_INVALID,
                 "sliding_window_pattern");
    run(two, &x);
    assert_int_equal(x.info.n_groups, 2);
    assert_int_equal(x.info.groups[0].window, 0);
    assert_int_equal(x.info.groups[0].n_layers, 2);
    assert_int_equal(x.info.groups[0].layers[1], 3);
    assert_int_equal(x.info.groups[1].window, 8);
    assert_int_equal(x.info.groups[1].layers[1], 2);
    run(plain, &x);
    assert_int_equal(x.info.n_groups, 1);
    assert_int_equal(x.info.groups[0].window, 8);
}

/* 27b is known by its 62 layers only.  Width / heads = 4 × head size makes its scale half of the
 * usual one, which halved q norms give too; a 63rd layer that adds nothing keeps that model from
 * being taken for a 27b. */
static void test_gemma_27b_scale(void **state)
{
    (void)state;
    struct plan of_27b = {.arch = "gemma3", .n_layers = 62, .n_embd = 128, .q_norm = 1};
    struct plan other = of_27b;
    other.n_layers = 63;
    other.identity_layer = 63;
    other.q_norm = 0.5f;
    expect(of_27b, other, LOGITS_SAME);
}

static void test_output_and_bias(void **state)
{
    (void)state;
    static struct result x, y;
    struct plan tied = {0}, copy = {.has_output = true, .output_is_embedding = true};
    expect(tied, copy, BOTH_SAME);
    expect(tied, (struct plan){.has_output = true}, DIGEST_SAME);
    expect(tied, (struct plan){.has_q_bias = true}, DIGEST_SAME);
    run(tied, &x);
    run(copy, &y);
    assert_int_equal(y.info.n_parameters - x.info.n_parameters, 32 * VOCAB);
    /* embedding + output norm + two norms + q, k, v, output + feed-forward */
    assert_int_equal(x.info.n_parameters,
                     32 * VOCAB + 32 + 2 * 32 + 32 * (32 + 16 + 16) + 32 * 32 + 3 * 32 * 48);
    assert_string_equal(x.info.arch, "llama");
    assert_int_equal(x.info.n_vocab, VOCAB);
    assert_int_equal(x.info.n_ctx_train, 512);
}

/* Sizes that are multiples of nothing: every instruction set, odd numbers of heads, a single one.
 */
static void test_odd_sizes(void **state)
{
    (void)state;
    static const struct plan plans[] = {
        {.n_embd = 20, .n_heads = 3, .n_kv_heads = 1, .head_dim = 6, .n_ff = 37},
        {.arch = "gemma3", .n_embd = 50, .n_heads = 1, .n_kv_heads = 1, .head_dim = 22, .n_ff = 5},
        {.arch = "qwen2", .n_embd = 33, .n_heads = 5, .n_kv_heads = 5, .head_dim = 2, .n_ff = 64},
        {.arch = "qwen3", .n_embd = 96, .n_heads = 7, .n_kv_heads = 1, .head_dim = 80, .n_ff = 100},
    };
    enum isa isas[ISA_COUNT];
    const uint32_t n_isas = isas_here(ISA_REF, isas);
    for (size_t i = 0; i < ARRAY_COUNT(plans); i++) {
        float first[TOKENS * VOCAB], logits[TOKENS * VOCAB];
        for (size_t j = 0; j < n_isas; j++) {
            struct plan p = plans[i];
            struct gguf_make m;
            make(&m, &p);
            struct slice file = gguf_make_end(&m);
            struct gguf *g = NULL;
            assert_int_equal(gguf_open_memory(file.ptr, file.len, "made.gguf", &g, NULL), OK);
            struct rig r = rig_from(g, (struct rig_options){.isa = isas[j], .n_workers = 3});
            uint32_t tokens[TOKENS];
            for (uint32_t t = 0; t < TOKENS; t++)
                tokens[t] = t * 7 % VOCAB;
            struct rig_kv kv;
            rig_kv_init(&kv, &r, KV_F16, TOKENS);
            rig_run(&r, &kv, tokens, 0, TOKENS, 1 + (uint32_t)j * 10, logits);
            if (j == 0)
                memcpy(first, logits, sizeof first);
            assert_memory_equal(first, logits, sizeof first);
            rig_kv_release(&kv);
            rig_close(&r);
            gguf_make_release(&m);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensors_refused), cmocka_unit_test(test_keys_refused),
        cmocka_unit_test(test_rope_keys),       cmocka_unit_test(test_gemma_keys),
        cmocka_unit_test(test_gemma_27b_scale), cmocka_unit_test(test_output_and_bias),
        cmocka_unit_test(test_odd_sizes),
    };
    floats = mem_new(FLOATS_MAX, sizeof *floats);
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    mem_free(floats);
    return failures;
}
