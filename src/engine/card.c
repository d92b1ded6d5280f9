/* SPDX-License-Identifier: MIT
 * card.c — a model's metadata, read from its file alone. */
#include "engine/card.h"

#include <stdio.h>

#include "base/check.h"
#include "engine/engine.h"

#define CARD_BYTES_MAX (4u << 20) /* names and the template */
#define KEY_BYTES_MAX  256u

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

enum status card_name(const struct gguf *file, const char *path, struct slice *out, struct err *e)
{
    bool found;
    enum status st = gguf_get_string(file, "general.name", out, &found, e);
    if (st != OK || (found && out->len > 0))
        return st;
    *out = slice_of(path ? base_name(path) : "skald");
    if (out->len > 5 && memcmp(out->ptr + out->len - 5, ".gguf", 5) == 0)
        out->len -= 5;
    return OK;
}

/* By llama.cpp's numbers of file types. */
enum status card_quantization(const struct gguf *file, const char **out, struct err *e)
{
    static const char *const names[] = {
        [0] = "F32",      [1] = "F16",      [2] = "Q4_0",    [3] = "Q4_1",    [7] = "Q8_0",
        [8] = "Q5_0",     [9] = "Q5_1",     [10] = "Q2_K",   [11] = "Q3_K_S", [12] = "Q3_K_M",
        [13] = "Q3_K_L",  [14] = "Q4_K_S",  [15] = "Q4_K_M", [16] = "Q5_K_S", [17] = "Q5_K_M",
        [18] = "Q6_K",    [19] = "IQ2_XXS", [20] = "IQ2_XS", [21] = "Q2_K_S", [22] = "IQ3_XS",
        [23] = "IQ3_XXS", [24] = "IQ1_S",   [25] = "IQ4_NL", [26] = "IQ3_S",  [27] = "IQ3_M",
        [28] = "IQ2_S",   [29] = "IQ2_M",   [30] = "IQ4_XS", [31] = "IQ1_M",  [32] = "BF16"};
    uint64_t type = UINT64_MAX;
    bool found = false;
    enum status st = gguf_get_u64(file, "general.file_type", &type, &found, e);
    *out = found && type < ARRAY_COUNT(names) && names[type] ? names[type] : "unknown";
    return st;
}

enum status card_sampling(const struct gguf *file, struct sampler_params *out, struct err *e)
{
    *out = sampler_defaults();
    const struct {
        const char *key;
        float *value;
    } fields[] = {
        {"general.sampling.temp", &out->temperature},
        {"general.sampling.top_p", &out->top_p},
        {"general.sampling.min_p", &out->min_p},
        {"general.sampling.penalty_repeat", &out->repeat_penalty},
    };
    for (size_t i = 0; i < ARRAY_COUNT(fields); i++) {
        double v;
        bool found;
        enum status st = gguf_get_f64(file, fields[i].key, &v, &found, e);
        if (st != OK)
            return st;
        if (found)
            *fields[i].value = (float)v;
    }
    uint64_t k;
    bool found;
    enum status st = gguf_get_u64(file, "general.sampling.top_k", &k, &found, e);
    if (st == OK && found)
        out->top_k = k < INT32_MAX ? (int32_t)k : 0;
    return st;
}

/* ---- cards ---- */

/* A copy in the card's arena; "" when that is full. */
static struct slice keep(struct engine_card *c, struct slice text)
{
    char *copy = text.len ? arena_text(&c->arena, text.ptr, text.len) : NULL;
    return copy ? (struct slice){copy, text.len} : (struct slice){"", 0};
}

/* ARCH.name; 0: not there, or no number (some have one for each layer). */
static uint32_t number_of(const struct gguf *file, const char *arch, const char *name)
{
    char key[KEY_BYTES_MAX];
    uint64_t v = 0;
    bool found;
    struct err none;
    snprintf(key, sizeof key, "%s.%s", arch, name);
    return gguf_get_u64(file, key, &v, &found, &none) == OK && v <= UINT32_MAX ? (uint32_t)v : 0;
}

static const char *vocabulary_of(const struct gguf *file, struct engine_card *c)
{
    struct slice kind;
    bool found;
    struct err none;
    if (gguf_get_string(file, "tokenizer.ggml.model", &kind, &found, &none) != OK || !found)
        return "";
    return slice_is(kind, "llama") ? "spm" : slice_is(kind, "gpt2") ? "bpe" : keep(c, kind).ptr;
}

static void read_numbers(const struct gguf *file, struct engine_card *c)
{
    struct gguf_array tokens;
    bool found;
    struct err none;
    c->n_layers = number_of(file, c->arch, "block_count");
    c->n_embd = number_of(file, c->arch, "embedding_length");
    c->n_heads = number_of(file, c->arch, "attention.head_count");
    c->n_kv_heads = number_of(file, c->arch, "attention.head_count_kv");
    c->n_ctx_train = number_of(file, c->arch, "context_length");
    c->is_embedding = number_of(file, c->arch, "pooling_type") > 0; /* 0: none */
    if (gguf_get_array(file, "tokenizer.ggml.tokens", &tokens, &found, &none) == OK && found)
        c->n_vocab = (uint32_t)tokens.count;
    for (uint32_t i = 0; i < gguf_tensor_count(file); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(file, i);
        c->bytes += t->bytes;
        c->n_parameters += t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3];
    }
}

static enum status read_card(const struct gguf *file, const char *path, struct engine_card *c,
                             struct err *e)
{
    struct slice name, arch = {"", 0}, source = {"", 0};
    bool found;
    enum status st = card_name(file, path, &name, e);
    if (st == OK)
        st = gguf_get_string(file, "general.architecture", &arch, &found, e);
    if (st == OK && !found)
        st = err_set(e, E_INVALID, "%s: no general.architecture", gguf_name(file));
    if (st == OK)
        st = card_quantization(file, &c->quantization, e);
    if (st == OK)
        st = card_sampling(file, &c->sampling, e);
    if (st == OK)
        st = gguf_get_string(file, "tokenizer.chat_template", &source, &found, e);
    if (st != OK)
        return st;
    c->name = keep(c, name).ptr;
    c->arch = keep(c, arch).ptr;
    c->template_source = found ? keep(c, source) : (struct slice){"", 0};
    c->vocabulary = vocabulary_of(file, c);
    read_numbers(file, c);
    return OK;
}

enum status engine_card_read(const char *path, struct engine_card *out, struct err *e)
{
    struct gguf *file = NULL;
    *out = (struct engine_card){0};
    enum status st = gguf_open(path, &file, e);
    if (st != OK)
        return st;
    arena_init(&out->arena, CARD_BYTES_MAX);
    st = read_card(file, path, out, e);
    if (st != OK)
        engine_card_release(out);
    gguf_close(file);
    return st;
}

enum status engine_card_of(const struct engine_info *info, struct engine_card *out, struct err *e)
{
    const struct model_info *m = info->model;
    *out = (struct engine_card){.quantization = info->quantization,
                                .n_layers = m->n_layers,
                                .n_embd = m->n_embd,
                                .n_heads = m->n_heads,
                                .n_kv_heads = m->n_kv_heads,
                                .n_vocab = m->n_vocab,
                                .n_ctx_train = m->n_ctx_train,
                                .is_embedding = info->has_pooling,
                                .n_parameters = m->n_parameters,
                                .bytes = info->model_bytes,
                                .sampling = info->sampling};
    arena_init(&out->arena, CARD_BYTES_MAX);
    out->name = keep(out, slice_of(info->model_name)).ptr;
    out->arch = keep(out, slice_of(m->arch)).ptr;
    out->vocabulary =
        keep(out, info->vocabulary.kind ? slice_of(info->vocabulary.kind) : SLICE_LIT("")).ptr;
    out->template_source = keep(out, info->template_source);
    return out->arena.failed ? err_set(e, E_NOMEM, "no memory for a model's card") : OK;
}

void engine_card_release(struct engine_card *c)
{
    arena_release(&c->arena);
    *c = (struct engine_card){0};
}
