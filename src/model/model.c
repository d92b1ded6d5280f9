/* SPDX-License-Identifier: MIT
 * model.c — loading: family by name, layer groups, rope tables; and what identifies a model. */
#include "base/check.h"
#include "base/mem.h"
#include "model/model_int.h"

static const struct {
    const char *name;
    void (*read)(struct keys *, struct model_spec *);
} families[] = {
    {"gemma3", arch_gemma3},
    {"llama", arch_llama},
    {"qwen2", arch_qwen2},
    {"qwen3", arch_qwen3},
};

static enum status read_spec(struct model *m, const struct gguf *g, struct err *e)
{
    struct slice arch;
    bool found = false;
    enum status st = gguf_get_string(g, "general.architecture", &arch, &found, e);
    if (st != OK)
        return st;
    if (!found)
        return err_set(e, E_INVALID, "%s: general.architecture is missing", gguf_name(g));
    for (size_t i = 0; i < ARRAY_COUNT(families); i++) {
        if (!slice_is(arch, families[i].name))
            continue;
        struct keys k = {.g = g, .arch = families[i].name, .st = OK, .e = e};
        families[i].read(&k, &m->spec);
        return k.st;
    }
    return err_set(e, E_UNSUPPORTED,
                   "%s: architecture \"%.*s\" is not supported (gemma3, llama, qwen2, qwen3 are)",
                   gguf_name(g), arch.len > 60 ? 60 : (int)arch.len, arch.ptr);
}

static void add_to_group(struct model *m, uint32_t group, uint32_t layer)
{
    struct model_group *to = &m->info.groups[group];
    m->layers[layer].group = group;
    m->layers[layer].slot = to->n_layers;
    to->layers[to->n_layers++] = (uint16_t)layer;
}

/* Full attention first, then windows in order of appearance. */
static enum status make_groups(struct model *m, struct err *e)
{
    struct model_info *info = &m->info;
    for (uint32_t i = 0; i < m->spec.n_layers; i++)
        if (m->spec.layers[i].window == 0)
            info->n_groups = 1;
    for (uint32_t i = 0; i < m->spec.n_layers; i++) {
        uint32_t window = m->spec.layers[i].window, group = 0;
        while (group < info->n_groups && info->groups[group].window != window)
            group++;
        if (group == MODEL_GROUPS_MAX)
            return err_set(e, E_UNSUPPORTED, "layers with %u or more different windows",
                           MODEL_GROUPS_MAX + 1);
        if (group == info->n_groups)
            info->groups[info->n_groups++].window = window;
        add_to_group(m, group, i);
    }
    return OK;
}

static void fill_info(struct model *m)
{
    const struct model_spec *s = &m->spec;
    m->info.arch = s->arch;
    m->info.n_layers = s->n_layers;
    m->info.n_embd = s->n_embd;
    m->info.n_heads = s->n_heads;
    m->info.n_kv_heads = s->n_kv_heads;
    m->info.head_dim = s->head_dim;
    m->info.n_ff = s->n_ff;
    m->info.n_ctx_train = s->n_ctx_train;
    m->info.kernels = m->kernels->name;
}

static enum status make_ropes(struct model *m, struct err *e)
{
    const struct model_spec *s = &m->spec;
    for (uint32_t i = 0; m->rope_factors && i < s->n_rot / 2; i++)
        if (!(m->rope_factors[i] >= ROPE_FACTOR_MIN && m->rope_factors[i] <= ROPE_FACTOR_MAX))
            return err_set(e, E_INVALID, "rope_freqs.weight: factor %u is %g, outside %g to %g", i,
                           (double)m->rope_factors[i], ROPE_FACTOR_MIN, ROPE_FACTOR_MAX);
    for (uint32_t i = 0; i < s->n_ropes; i++) {
        m->rope_freqs[i] = mem_try_new(s->n_rot / 2, sizeof(double));
        if (!m->rope_freqs[i])
            return err_set(e, E_NOMEM, "rope table");
        kernels_rope_freqs(m->rope_freqs[i], s->n_rot, s->ropes[i].base,
                           i == 0 ? m->rope_factors : NULL, s->ropes[i].scale);
    }
    return OK;
}

enum status model_load(const struct gguf *g, struct team *team, const struct model_options *options,
                       struct model **out, struct err *e)
{
    struct model *m = mem_try_new(1, sizeof *m);
    if (!m)
        return err_set(e, E_NOMEM, "model");
    m->info.activations = options->activations;
    enum status st = kernels_select(options->isa, &m->kernels, e);
    if (st == OK)
        st = read_spec(m, g, e);
    if (st == OK)
        st = weights_load(m, g, team, options, e);
    if (st == OK)
        st = make_groups(m, e);
    if (st == OK)
        st = make_ropes(m, e);
    if (st != OK) {
        model_free(m);
        return st;
    }
    fill_info(m);
    *out = m;
    return OK;
}

void model_free(struct model *m)
{
    if (!m)
        return;
    for (uint32_t i = 0; i < MODEL_ROPES_MAX; i++)
        mem_free(m->rope_freqs[i]);
    mem_free(m->layers);
    mem_free(m->jobs);
    if (!m->is_packed_borrowed)
        mem_free_large(m->packed_memory, m->info.packed_bytes);
    mem_free(m->vector_memory);
    mem_free(m);
}

const struct model_info *model_info(const struct model *m)
{
    return &m->info;
}

/* ---- identity ---- */
static void add_f32(struct digester *d, const char *tag, float value)
{
    digest_field(d, tag, &value, sizeof value);
}

static void add_f64(struct digester *d, const char *tag, double value)
{
    digest_field(d, tag, &value, sizeof value);
}

void model_digest(const struct model *m, struct digester *d)
{
    const struct model_spec *s = &m->spec;
    digest_field(d, "arch", s->arch, strlen(s->arch));
    digest_u64(d, "layers", s->n_layers);
    digest_u64(d, "width", s->n_embd);
    digest_u64(d, "feed_forward", s->n_ff);
    digest_u64(d, "heads", s->n_heads);
    digest_u64(d, "kv_heads", s->n_kv_heads);
    digest_u64(d, "head_dim", s->head_dim);
    digest_u64(d, "vocabulary", m->info.n_vocab);
    add_f32(d, "norm_eps", s->norm_eps);
    add_f32(d, "embedding_scale", s->embedding_scale);
    add_f32(d, "attention_scale", s->attention_scale);
    digest_u64(d, "gate", s->gate);
    digest_u64(d, "rope_style", s->rope_style);
    digest_u64(d, "rope_dimensions", s->n_rot);
    for (uint32_t i = 0; i < s->n_ropes; i++) {
        add_f64(d, "rope_base", s->ropes[i].base);
        add_f64(d, "rope_scale", s->ropes[i].scale);
    }
    for (uint32_t i = 0; i < s->n_layers; i++) {
        digest_u64(d, "window", s->layers[i].window);
        digest_u64(d, "layer_rope", s->layers[i].rope);
    }
}
