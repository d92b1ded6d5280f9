/* SPDX-License-Identifier: MIT
 * types.c — the table of element types, halves, and names of all that a file may carry. */
#include "tensor/tensor.h"

#include <string.h>

#include "base/check.h"
#include "tensor/blocks.h"

#define TYPES_MAX 42 /* numbers that ggml has given out so far */

/* Every name, so that a refusal can say what it refuses; 4, 5, 31–33 and 36–38 were withdrawn. */
static const char *const names[TYPES_MAX] = {
    "F32",   "F16",        "Q4_0",       "Q4_1",       "Q4_2",     "Q4_3",     "Q5_0",
    "Q5_1",  "Q8_0",       "Q8_1",       "Q2_K",       "Q3_K",     "Q4_K",     "Q5_K",
    "Q6_K",  "Q8_K",       "IQ2_XXS",    "IQ2_XS",     "IQ3_XXS",  "IQ1_S",    "IQ4_NL",
    "IQ3_S", "IQ2_S",      "IQ4_XS",     "I8",         "I16",      "I32",      "I64",
    "F64",   "IQ1_M",      "BF16",       "Q4_0_4_4",   "Q4_0_4_8", "Q4_0_8_8", "TQ1_0",
    "TQ2_0", "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4",    "NVFP4",    "Q1_0",
};

#define PLAIN(t, bytes) [TYPE_##t] = {TYPE_##t, #t, 1, bytes, false}
#define SMALL(t, block) [TYPE_##t] = {TYPE_##t, #t, QK, sizeof(struct block), true}
#define SUPER(t, block) [TYPE_##t] = {TYPE_##t, #t, QK_K, sizeof(struct block), true}

static const struct tensor_type_info infos[TYPES_MAX] = {
    PLAIN(F32, 4),
    PLAIN(F16, 2),
    PLAIN(BF16, 2),
    SMALL(Q4_0, block_q4_0),
    SMALL(Q4_1, block_q4_1),
    SMALL(Q5_0, block_q5_0),
    SMALL(Q5_1, block_q5_1),
    SMALL(Q8_0, block_q8_0),
    SUPER(Q2_K, block_q2_k),
    SUPER(Q3_K, block_q3_k),
    SUPER(Q4_K, block_q4_k),
    SUPER(Q5_K, block_q5_k),
    SUPER(Q6_K, block_q6_k),
    SMALL(IQ4_NL, block_iq4_nl),
    SUPER(IQ4_XS, block_iq4_xs),
    SMALL(MXFP4, block_mxfp4),
};

const struct tensor_type_info *tensor_type_info(uint32_t type)
{
    return type < TYPES_MAX && infos[type].name ? &infos[type] : NULL;
}

const char *tensor_type_name(uint32_t type)
{
    return type < TYPES_MAX ? names[type] : NULL;
}

uint64_t tensor_row_bytes(enum tensor_type type, uint64_t n)
{
    const struct tensor_type_info *info = tensor_type_info(type);
    CHECK(info && n % info->block_elements == 0);
    return n / info->block_elements * info->block_bytes;
}

static float float_of_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t bits_of_float(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/* A signalling NaN becomes quiet, as VCVTPH2PS does, so that vector kernels give the same bits. */
float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 0x3ff;
    if (exponent == 0) { /* zero or subnormal: mantissa × 2⁻²⁴, exact */
        float magnitude = (float)mantissa * 0x1p-24f;
        return float_of_bits(sign | bits_of_float(magnitude));
    }
    if (exponent == 31)
        return float_of_bits(sign | 0x7f800000 | (mantissa ? 0x400000 | mantissa << 13 : 0));
    return float_of_bits(sign | (exponent + 127 - 15) << 23 | mantissa << 13);
}

uint16_t f16_from_f32(float f)
{
    uint32_t bits = bits_of_float(f), magnitude = bits & 0x7fffffff;
    uint32_t sign = bits >> 16 & 0x8000;
    if (magnitude > 0x7f800000) /* NaN: quiet, the top of its payload kept, as VCVTPS2PH does */
        return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
    if (magnitude >= 0x477ff000) /* rounds to 65520 or more: saturates */
        return (uint16_t)(sign | 0x7bff);
    if (magnitude < 0x38800000) { /* below 2⁻¹⁴: a subnormal half */
        /* Adding 0.5 leaves the value × 2²⁴ in the low bits, rounded to nearest even by the
         * addition itself (the result has an ulp of 2⁻²⁴). */
        float shifted = float_of_bits(magnitude) + 0.5f;
        return (uint16_t)(sign | (bits_of_float(shifted) - 0x3f000000));
    }
    uint32_t odd = magnitude >> 13 & 1;
    uint32_t rounded = magnitude + 0xfff + odd - ((127u - 15u) << 23);
    return (uint16_t)(sign | rounded >> 13);
}
