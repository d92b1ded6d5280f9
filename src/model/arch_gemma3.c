/* SPDX-License-Identifier: MIT
 * arch_gemma3.c — gemma 3 text models, 270m to 27b, and skald.
 * Easy to get wrong (each would still give fluent text):
 *   norms    the file's weights already contain the +1;
 *   layers   five windowed, then a full one, unless the file carries a pattern of its own;
 *   rope     windowed layers rotate with base 10000 and never scale; full ones use the file's
 *            base and, from 4b up, positions divided by 8;
 *   scores   1/sqrt(head_dim), but 27b was trained with 1/sqrt(width/heads) and no key says so;
 *   window   counts the token itself. */
#include <math.h>

#include "model/model_int.h"

#define WINDOWED_ROPE_BASE 10000.0
#define PATTERN_DEFAULT 6u
#define LAYERS_OF_27B 62u

enum { ROPE_FULL, ROPE_WINDOWED };

static void set_layer(struct model_spec *s, uint32_t layer, bool is_windowed, uint32_t window)
{
    s->layers[layer] = (struct layer_spec){
        .window = is_windowed ? window : 0,
        .rope = is_windowed ? ROPE_WINDOWED : ROPE_FULL,
    };
}

/* The pattern is a period (every n-th layer is full) or one flag a layer. */
static void read_pattern(struct keys *k, struct model_spec *s, uint32_t window)
{
    struct gguf_array flags;
    bool is_array = false;
    if (keys_kind(k, "attention.sliding_window_pattern") == GGUF_ARRAY) {
        k->st = gguf_get_array(k->g, "gemma3.attention.sliding_window_pattern", &flags, &is_array,
                               k->e);
        if (k->st != OK)
            return;
        if ((flags.kind != GGUF_BOOL && !gguf_kind_is_integer(flags.kind)) ||
            flags.count < s->n_layers) {
            keys_fail(k, E_INVALID,
                      "gemma3.attention.sliding_window_pattern does not name %u"
                      " layers",
                      s->n_layers);
            return;
        }
    }
    uint32_t period = PATTERN_DEFAULT;
    if (!is_array)
        period = keys_u32_or(k, "attention.sliding_window_pattern", 1, MODEL_LAYERS_MAX, period);
    for (uint32_t i = 0; i < s->n_layers; i++) {
        bool is_windowed = is_array ? gguf_array_u64(&flags, i) != 0 : (i + 1) % period != 0;
        set_layer(s, i, is_windowed, window);
    }
}

void arch_gemma3(struct keys *k, struct model_spec *s)
{
    keys_read_common(k, s);
    if (k->st != OK)
        return;
    uint32_t window = keys_u32(k, "attention.sliding_window", 1, 1u << 30);
    s->gate = GATE_GELU;
    s->rope_style = ROPE_HALVES;
    s->embedding_scale = (float)sqrt((double)s->n_embd);
    if (s->n_layers == LAYERS_OF_27B)
        s->attention_scale = (float)(1 / sqrt((double)s->n_embd / s->n_heads));
    s->n_ropes = 2;
    s->ropes[ROPE_WINDOWED] = (struct rope_spec){
        .base = keys_rope_base(k, "rope.freq_base_swa", WINDOWED_ROPE_BASE),
        .scale = 1,
    };
    if (!keys_has(k, "rope.freq_base"))
        s->ropes[ROPE_FULL].base = 1e6;
    read_pattern(k, s, window);
    s->vectors_required = VECTOR_BIT(V_ATTN_NORM) | VECTOR_BIT(V_POST_ATTN_NORM) |
                          VECTOR_BIT(V_FFN_NORM) | VECTOR_BIT(V_POST_FFN_NORM) |
                          VECTOR_BIT(V_Q_NORM) | VECTOR_BIT(V_K_NORM);
    s->vectors_allowed = s->vectors_required;
}
