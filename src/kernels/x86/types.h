/* SPDX-License-Identifier: MIT
 * types.h — what the products of every x86 width know of the weight types.  `type` is a constant at
 * every use, so that each instance keeps only its own branches. */
#ifndef KVASIR_KERNELS_X86_TYPES_H
#define KVASIR_KERNELS_X86_TYPES_H

#include "kernels/kernels_int.h"

#define INLINE static inline __attribute__((always_inline))

/* ---- the tile functions of an instruction set, by family ---- */
/* Before this, ISA_NAME(x) is defined: x with the set's prefix. */
#define NIBBLE_TYPES(X) \
    X(q4_0, TYPE_Q4_0)  \
    X(q4_1, TYPE_Q4_1)  \
    X(q5_0, TYPE_Q5_0)  \
    X(q5_1, TYPE_Q5_1)  \
    X(q4_k, TYPE_Q4_K)  \
    X(q5_k, TYPE_Q5_K)  \
    X(mxfp4, TYPE_MXFP4)
#define BYTE_TYPES(X)      \
    X(q8_0, TYPE_Q8_0)     \
    X(iq4_nl, TYPE_IQ4_NL) \
    X(iq4_xs, TYPE_IQ4_XS)
#define SIXTEEN_TYPES(X) \
    X(q2_k, TYPE_Q2_K)   \
    X(q3_k, TYPE_Q3_K)   \
    X(q6_k, TYPE_Q6_K)
#define FLOAT_TYPES(X) \
    X(f32, TYPE_F32)   \
    X(f16, TYPE_F16)   \
    X(bf16, TYPE_BF16)
#define INTEGER_TYPES(X) NIBBLE_TYPES(X) BYTE_TYPES(X) SIXTEEN_TYPES(X)

#define TILE_DECLARE(name, type) kernel_tile_fn ISA_NAME(tile_##name);
#define TILE_ENTRY(name, type)   [type] = ISA_NAME(tile_##name),

/* ---- types ---- */
INLINE uint8_t planes_of(enum tensor_type type)
{
    switch (type) {
    case TYPE_Q8_0:
        return PLANE_BYTES;
    case TYPE_Q5_0:
    case TYPE_Q5_1:
    case TYPE_Q5_K:
        return PLANE_NIBBLES | PLANE_BITS;
    case TYPE_Q6_K:
        return PLANE_NIBBLES | PLANE_PAIRS;
    case TYPE_Q3_K:
        return PLANE_PAIRS | PLANE_BITS;
    case TYPE_Q2_K:
        return PLANE_PAIRS;
    default:
        return PLANE_NIBBLES;
    }
}

INLINE int planes_size(enum tensor_type type)
{
    const uint8_t set = planes_of(type);
    return (set & PLANE_BYTES ? 512 : 0) + (set & PLANE_NIBBLES ? 256 : 0) +
           (set & PLANE_PAIRS ? 128 : 0) + (set & PLANE_BITS ? 64 : 0);
}

/* Bytes of scales of a block, super-scales shared out. */
INLINE int scales_size(enum tensor_type type)
{
    switch (type) {
    case TYPE_Q4_1:
    case TYPE_Q5_1:
        return 64;
    case TYPE_Q4_K:
    case TYPE_Q5_K:
    case TYPE_Q2_K:
        return 40;
    case TYPE_IQ4_XS:
        return 20;
    case TYPE_Q3_K:
    case TYPE_Q6_K:
        return 36;
    default:
        return 32;
    }
}

/* Products of two neighbours that int16 lanes may add before one madd widens
 * them. */
INLINE int adds_of(enum tensor_type type)
{
    switch (type) {
    case TYPE_Q4_0: /* 8 × 2 × 15 × 127 = 30480 */
    case TYPE_Q4_1:
    case TYPE_Q4_K:
        return 8;
    case TYPE_Q5_0: /* 4 × 2 × 31 × 127 = 31496 */
    case TYPE_Q5_1:
    case TYPE_Q5_K:
    case TYPE_MXFP4: /* 4 × 2 × 24 × 127 = 24384 */
    case TYPE_Q3_K:  /* 4 × 2 × 7 × 127 = 7112; a sub-block ends here */
    case TYPE_Q2_K:
        return 4;
    case TYPE_Q6_K: /* 2 × 2 × 63 × 127 = 32004 */
        return 2;
    default: /* 2 × 128 × 127 = 32512 */
        return 1;
    }
}

/* What is taken off every code, in the integer dot. */
INLINE int offset_of(enum tensor_type type)
{
    switch (type) {
    case TYPE_Q4_0:
        return 8;
    case TYPE_Q5_0:
        return 16;
    case TYPE_MXFP4:
        return MXFP4_OFFSET;
    case TYPE_Q3_K:
        return 4;
    case TYPE_Q6_K:
        return 32;
    default:
        return 0;
    }
}

INLINE bool has_sixteens(enum tensor_type type)
{
    return type == TYPE_Q6_K || type == TYPE_Q3_K || type == TYPE_Q2_K;
}
INLINE bool is_signed_code(enum tensor_type type)
{
    return type == TYPE_Q8_0 || type == TYPE_IQ4_NL || type == TYPE_IQ4_XS;
}
INLINE bool has_minimum(enum tensor_type type)
{
    return type == TYPE_Q4_1 || type == TYPE_Q5_1 || type == TYPE_Q4_K || type == TYPE_Q5_K;
}

#endif
