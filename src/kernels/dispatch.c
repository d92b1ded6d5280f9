/* SPDX-License-Identifier: MIT
 * dispatch.c — which instruction set serves; sizes that all of them share. */
#include "kernels/kernels_int.h"
#include "os/cpu.h"

const char *isa_name(enum isa isa)
{
    static const char *const names[] = {
#define ISA_STRING(id, name) [id] = name,
        ISA_LIST(ISA_STRING)
#undef ISA_STRING
    };
    CHECK(isa >= ISA_AUTO && isa < ISA_COUNT);
    return names[isa];
}

/* NULL: this processor lacks it. */
static const struct kernels *table_of(enum isa isa)
{
    if (isa == ISA_REF)
        return &kernels_ref;
#if defined(__x86_64__)
    const struct cpu_features *cpu = cpu_features();
    if (isa == ISA_AVX2 && cpu->has_avx2)
        return &kernels_avx2;
    if (isa == ISA_AVX2_VNNI && cpu->has_avx_vnni)
        return &kernels_avx2_vnni;
    if (isa == ISA_AVX512 && cpu->has_avx512)
        return &kernels_avx512;
    if (isa == ISA_AVX512_VNNI && cpu->has_avx512_vnni)
        return &kernels_avx512_vnni;
#endif
    return NULL;
}

enum status kernels_select(enum isa isa, const struct kernels **out, struct err *e)
{
    const struct kernels *k = NULL;
    if (isa == ISA_AUTO)
        for (int i = ISA_COUNT - 1; k == NULL; i--)
            k = table_of((enum isa)i); /* ref is always there */
    else
        k = table_of(isa);
    if (k == NULL)
        return err_set(e, E_UNSUPPORTED, "instruction set %s: this processor (%s) lacks it",
                       isa_name(isa), cpu_features()->model);
    *out = k;
    return OK;
}

size_t attention_state_floats(uint32_t n_tokens, uint32_t heads_per_group, uint32_t head_dim)
{
    return (size_t)n_tokens * heads_per_group * (2 + (size_t)head_dim);
}

/* Scores, and with quantized V weights per 32 dimensions, of the rows that are taken at once. */
size_t attention_scratch_floats(uint32_t head_dim)
{
    return (size_t)ATTENTION_ROWS_MAX * KV_PAGE_TOKENS * (1 + head_dim / KV_BLOCK);
}
