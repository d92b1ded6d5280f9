/* SPDX-License-Identifier: MIT
 * arch_qwen3.c — qwen 3 (dense): norms over each head of q and k, no biases, rotation of halves. */
#include "model/model_int.h"

void arch_qwen3(struct keys *k, struct model_spec *s)
{
    keys_read_common(k, s);
    if (k->st != OK)
        return;
    if (keys_u32_or(k, "attention.sliding_window", 0, UINT32_MAX, 0) != 0)
        keys_fail(k, E_UNSUPPORTED, "qwen3.attention.sliding_window is not supported");
    s->gate = GATE_SILU;
    s->rope_style = ROPE_HALVES;
    s->vectors_required = VECTOR_BIT(V_ATTN_NORM) | VECTOR_BIT(V_FFN_NORM) | VECTOR_BIT(V_Q_NORM) |
                          VECTOR_BIT(V_K_NORM);
    s->vectors_allowed = s->vectors_required;
}
