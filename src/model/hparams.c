/* SPDX-License-Identifier: MIT
 * hparams.c — the hyperparameters of a GGUF that all families share.
 * A key that changes the arithmetic in a way that is not implemented is refused by name: a model
 * that ignores it would run and answer wrongly. */
#include <math.h>
#include <stdio.h>

#include "base/check.h"
#include "model/model_int.h"

#define KEY_BYTES_MAX 128

/* Ceilings far above any published model of these families, low enough that sizes in floats of a
 * whole step fit 64 bits by a wide margin. */
#define N_EMBD_MAX (1u << 16)
#define N_FF_MAX (1u << 20)
#define N_HEADS_MAX 1024u
#define HEAD_DIM_MAX 1024u
#define N_CTX_MAX (1u << 27)
/* Published bases are 1e4 to 1e8; within these an angle stays far from where a
 * double's fraction runs out. */
#define ROPE_BASE_MIN 1.0
#define ROPE_BASE_MAX 1e15
#define NORM_EPS_MIN 1e-30

static const char *full_key(const struct keys *k, const char *name, char key[KEY_BYTES_MAX])
{
    snprintf(key, KEY_BYTES_MAX, "%s.%s", k->arch, name);
    return key;
}

void keys_fail(struct keys *k, enum status st, const char *fmt, ...)
{
    if (k->st != OK)
        return;
    char text[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    k->st = err_set(k->e, st, "%s: %s", gguf_name(k->g), text);
}

int keys_kind(const struct keys *k, const char *name)
{
    char key[KEY_BYTES_MAX];
    struct slice wanted = slice_of(full_key(k, name, key));
    for (uint32_t i = 0; i < gguf_key_count(k->g); i++)
        if (slice_equal(gguf_key_at(k->g, i).name, wanted))
            return (int)gguf_key_at(k->g, i).kind;
    return -1;
}

bool keys_has(const struct keys *k, const char *name)
{
    return keys_kind(k, name) >= 0;
}

static bool get_u32(struct keys *k, const char *name, uint32_t min, uint32_t max, uint32_t *out)
{
    char key[KEY_BYTES_MAX];
    uint64_t value = 0;
    bool found = false;
    if (k->st != OK)
        return false;
    k->st = gguf_get_u64(k->g, full_key(k, name, key), &value, &found, k->e);
    if (k->st != OK || !found)
        return false;
    if (value < min || value > max) {
        keys_fail(k, E_INVALID, "%s = %llu is outside %u to %u", key, (unsigned long long)value,
                  min, max);
        return false;
    }
    *out = (uint32_t)value;
    return true;
}

uint32_t keys_u32_or(struct keys *k, const char *name, uint32_t min, uint32_t max, uint32_t absent)
{
    uint32_t value = absent;
    get_u32(k, name, min, max, &value);
    return value;
}

uint32_t keys_u32(struct keys *k, const char *name, uint32_t min, uint32_t max)
{
    uint32_t value = 0;
    if (!get_u32(k, name, min, max, &value))
        keys_fail(k, E_INVALID, "%s.%s is missing", k->arch, name);
    return value;
}

static bool get_f64(struct keys *k, const char *name, double *out)
{
    char key[KEY_BYTES_MAX];
    double value = 0;
    bool found = false;
    if (k->st != OK)
        return false;
    k->st = gguf_get_f64(k->g, full_key(k, name, key), &value, &found, k->e);
    if (k->st != OK || !found)
        return false;
    if (!isfinite(value)) {
        keys_fail(k, E_INVALID, "%s is not finite", key);
        return false;
    }
    *out = value;
    return true;
}

double keys_f64_or(struct keys *k, const char *name, double absent)
{
    double value = absent;
    get_f64(k, name, &value);
    return value;
}

double keys_f64(struct keys *k, const char *name)
{
    double value = 0;
    if (!get_f64(k, name, &value))
        keys_fail(k, E_INVALID, "%s.%s is missing", k->arch, name);
    return value;
}

static void keys_check_range(struct keys *k, const char *name, double value, double min, double max)
{
    if (k->st == OK && !(value >= min && value <= max))
        keys_fail(k, E_INVALID, "%s.%s = %g is outside %g to %g", k->arch, name, value, min, max);
}

/* ---- what no family here implements ---- */
static void refuse_unimplemented(struct keys *k)
{
    /* {name, the value that means "off"}: any other value is refused. */
    static const struct {
        const char *name;
        double off;
    } numbers[] = {
        {"expert_count", 0},
        {"expert_used_count", 0},
        {"attn_logit_softcapping", 0},
        {"final_logit_softcapping", 0},
        {"attention.clamp_kqv", 0},
        {"attention.max_alibi_bias", 0},
        {"attention.scale", 0},
        {"attention.temperature_scale", 0},
        {"attention.temperature_length", 0},
        {"attention.q_lora_rank", 0},
        {"attention.kv_lora_rank", 0},
        {"nextn_predict_layers", 0},
        {"logit_scale", 0},
        {"residual_scale", 0},
        {"embedding_scale", 0},
        {"rope.scaling.attn_factor", 1},
        {"rope.scaling.yarn_log_multiplier", 0},
    };
    for (size_t i = 0; i < ARRAY_COUNT(numbers); i++) {
        double value = keys_f64_or(k, numbers[i].name, numbers[i].off);
        if (value != numbers[i].off)
            keys_fail(k, E_UNSUPPORTED, "%s.%s = %g is not supported", k->arch, numbers[i].name,
                      value);
    }
    static const struct {
        const char *name;
        bool expected;
    } switches[] = {
        {"attention.causal", true},
        {"use_parallel_residual", false},
        {"swin_norm", false},
    };
    for (size_t i = 0; i < ARRAY_COUNT(switches) && k->st == OK; i++) {
        char key[KEY_BYTES_MAX];
        bool value = false, found = false;
        k->st = gguf_get_bool(k->g, full_key(k, switches[i].name, key), &value, &found, k->e);
        if (k->st == OK && found && value != switches[i].expected)
            keys_fail(k, E_UNSUPPORTED, "%s = %s is not supported", key, value ? "true" : "false");
    }
}

/* 1 / factor of linear scaling.  As llama.cpp reads it: a factor without a type is linear; the type
 * "none" ignores the factor. */
static double rope_scale(struct keys *k)
{
    char key[KEY_BYTES_MAX];
    struct slice type = {0};
    bool found = false;
    if (k->st == OK)
        k->st = gguf_get_string(k->g, full_key(k, "rope.scaling.type", key), &type, &found, k->e);
    if (k->st != OK)
        return 1;
    if (found && slice_is(type, "none"))
        return 1;
    if (found && !slice_is(type, "linear")) {
        keys_fail(k, E_UNSUPPORTED, "%s = \"%.*s\" is not supported", key,
                  type.len > 40 ? 40 : (int)type.len, type.ptr);
        return 1;
    }
    double factor = keys_f64_or(k, "rope.scaling.factor", keys_f64_or(k, "rope.scale_linear", 0));
    if (factor == 0)
        return 1;
    keys_check_range(k, "rope.scaling.factor", factor, ROPE_FACTOR_MIN, ROPE_FACTOR_MAX);
    return 1 / factor;
}

double keys_rope_base(struct keys *k, const char *name, double absent)
{
    double base = keys_f64_or(k, name, absent);
    keys_check_range(k, name, base, ROPE_BASE_MIN, ROPE_BASE_MAX);
    return base;
}

static void read_heads(struct keys *k, struct model_spec *s)
{
    s->n_heads = keys_u32(k, "attention.head_count", 1, N_HEADS_MAX);
    s->n_kv_heads = keys_u32_or(k, "attention.head_count_kv", 1, N_HEADS_MAX, s->n_heads);
    if (k->st != OK)
        return;
    if (s->n_heads % s->n_kv_heads != 0)
        keys_fail(k, E_INVALID, "%u heads are not a multiple of %u KV heads", s->n_heads,
                  s->n_kv_heads);
    bool has_length = keys_has(k, "attention.key_length");
    if (!has_length && s->n_embd % s->n_heads != 0)
        keys_fail(k, E_INVALID,
                  "width %u is not a multiple of %u heads, and %s.attention.key_length"
                  " is missing",
                  s->n_embd, s->n_heads, k->arch);
    uint32_t even_share = s->n_embd / s->n_heads;
    s->head_dim = keys_u32_or(k, "attention.key_length", 2, HEAD_DIM_MAX, even_share);
    uint32_t value_length = keys_u32_or(k, "attention.value_length", 2, HEAD_DIM_MAX, even_share);
    if (k->st == OK && value_length != s->head_dim)
        keys_fail(k, E_UNSUPPORTED,
                  "keys of %u and values of %u dimensions: different lengths are"
                  " not supported",
                  s->head_dim, value_length);
    if (k->st == OK && (s->head_dim < 2 || s->head_dim > HEAD_DIM_MAX || s->head_dim % 2 != 0))
        keys_fail(k, E_INVALID, "a head of %u dimensions is odd or outside 2 to %u", s->head_dim,
                  HEAD_DIM_MAX);
}

void keys_read_common(struct keys *k, struct model_spec *s)
{
    refuse_unimplemented(k);
    s->arch = k->arch;
    s->n_layers = keys_u32(k, "block_count", 1, MODEL_LAYERS_MAX);
    s->n_embd = keys_u32(k, "embedding_length", 1, N_EMBD_MAX);
    s->n_ff = keys_u32(k, "feed_forward_length", 1, N_FF_MAX);
    s->n_ctx_train = keys_u32(k, "context_length", 1, N_CTX_MAX);
    double eps = keys_f64(k, "attention.layer_norm_rms_epsilon");
    keys_check_range(k, "attention.layer_norm_rms_epsilon", eps, NORM_EPS_MIN, 1);
    s->norm_eps = (float)eps;
    read_heads(k, s);
    if (k->st != OK)
        return;
    s->n_rot = keys_u32_or(k, "rope.dimension_count", 2, s->head_dim, s->head_dim);
    if (s->n_rot % 2 != 0)
        keys_fail(k, E_INVALID, "%s.rope.dimension_count = %u is odd", k->arch, s->n_rot);
    s->embedding_scale = 1;
    s->attention_scale = (float)(1 / sqrt((double)s->head_dim));
    s->n_ropes = 1;
    s->ropes[0].base = keys_rope_base(k, "rope.freq_base", 10000);
    s->ropes[0].scale = rope_scale(k);
}
