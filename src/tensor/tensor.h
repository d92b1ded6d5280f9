/* SPDX-License-Identifier: MIT
 * tensor.h — element types of GGUF tensors, their block formats, and dequantization.
 * For:     what bytes mean.   Not for: arithmetic on them (kernels).
 * Source:  GGUF spec v3; type numbers are the file format's. */
#ifndef KVASIR_TENSOR_TENSOR_H
#define KVASIR_TENSOR_TENSOR_H

#include "base/status.h"

enum tensor_type {
    TYPE_F32 = 0,
    TYPE_F16 = 1,
    TYPE_Q4_0 = 2,
    TYPE_Q4_1 = 3,
    TYPE_Q5_0 = 6,
    TYPE_Q5_1 = 7,
    TYPE_Q8_0 = 8,
    TYPE_Q2_K = 10,
    TYPE_Q3_K = 11,
    TYPE_Q4_K = 12,
    TYPE_Q5_K = 13,
    TYPE_Q6_K = 14,
    TYPE_IQ4_NL = 20,
    TYPE_IQ4_XS = 23,
    TYPE_BF16 = 30,
    TYPE_MXFP4 = 39,
};

/* NULL for a type that is not in the table above. */
struct tensor_type_info {
    enum tensor_type type;
    const char *name;        /* "Q4_K" */
    uint32_t block_elements; /* elements of one block along the row */
    uint32_t block_bytes;
    bool is_quantized;
};
const struct tensor_type_info *tensor_type_info(uint32_t type);
/* The name of any ggml type number, also of those we refuse ("IQ2_XXS"); NULL if unknown. */
const char *tensor_type_name(uint32_t type);

/* Bytes of a row of n elements; n % block_elements == 0. */
uint64_t tensor_row_bytes(enum tensor_type type, uint64_t n);

/* dst f32 [n] = the row at src; n % block_elements == 0; no alignment needed.  Bit for bit what
 * gguf-py gives (tests/golden/quant). */
void tensor_dequantize(enum tensor_type type, const void *src, float *dst, uint64_t n);

/* IEEE half and bfloat16.  f32→f16 rounds to nearest even; overflow saturates to ±65504 (defined
 * so that a stored K or V is always finite); NaN stays NaN. */
float f16_to_f32(uint16_t h);
uint16_t f16_from_f32(float f);
static inline float bf16_to_f32(uint16_t h)
{
    union {
        uint32_t u;
        float f;
    } v = {.u = (uint32_t)h << 16};
    return v.f;
}

#endif
