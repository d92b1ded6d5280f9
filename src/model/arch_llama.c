/* SPDX-License-Identifier: MIT
 * arch_llama.c — llama 1 to 3.x, SmolLM, Mistral and what else is converted under that name.
 * Rotates pairs (2i, 2i+1): the converter permutes the rows of q and k for it.  llama 3's stretched
 * context comes as rope_freqs.weight, factors that divide the frequencies. */
#include "model/model_int.h"

void arch_llama(struct keys *k, struct model_spec *s)
{
    keys_read_common(k, s);
    if (k->st != OK)
        return;
    if (keys_u32_or(k, "attention.sliding_window", 0, UINT32_MAX, 0) != 0)
        keys_fail(k, E_UNSUPPORTED, "llama.attention.sliding_window is not supported");
    s->gate = GATE_SILU;
    s->rope_style = ROPE_PAIRS;
    s->may_have_rope_factors = true;
    s->vectors_required = VECTOR_BIT(V_ATTN_NORM) | VECTOR_BIT(V_FFN_NORM);
    s->vectors_allowed = s->vectors_required | VECTOR_BIT(V_Q_BIAS) | VECTOR_BIT(V_K_BIAS) |
                         VECTOR_BIT(V_V_BIAS) | VECTOR_BIT(V_OUT_BIAS) | VECTOR_BIT(V_GATE_BIAS) |
                         VECTOR_BIT(V_UP_BIAS) | VECTOR_BIT(V_DOWN_BIAS);
}
