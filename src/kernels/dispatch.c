/* SPDX-License-Identifier: MIT
 * dispatch.c — which instruction set serves; sizes that all of them share. */
#include "kernels/kernels_int.h"
#include "os/cpu.h"

enum status kernels_select(enum isa isa, const struct kernels **out, struct err *e)
{
    if (isa == ISA_REF) {
        *out = &kernels_ref;
        return OK;
    }
#if defined(__x86_64__)
    const struct cpu_features *cpu = cpu_features();
    if (isa == ISA_AVX512 && cpu->has_avx512) {
        *out = cpu->has_avx512_vnni ? &kernels_avx512_vnni : &kernels_avx512;
        return OK;
    }
    if (isa != ISA_AVX512 && cpu->has_avx2) {
        *out = &kernels_avx2;
        return OK;
    }
#endif
    if (isa != ISA_AUTO)
        return err_set(e, E_UNSUPPORTED, "instruction set %s: this processor lacks it",
                       isa == ISA_AVX2 ? "avx2" : "avx512");
    *out = &kernels_ref;
    return OK;
}

size_t attention_state_floats(uint32_t n_tokens, uint32_t heads_per_group, uint32_t head_dim)
{
    return (size_t)n_tokens * heads_per_group * (2 + (size_t)head_dim);
}

/* Scores of as many rows as a kernel takes at once; more than any needs. */
size_t attention_scratch_floats(uint32_t n_tokens, uint32_t heads_per_group, uint32_t head_dim)
{
    (void)head_dim;
    const size_t n_rows = (size_t)n_tokens * heads_per_group;
    return (n_rows < 8 ? 8 : n_rows) * KV_PAGE_TOKENS;
}
