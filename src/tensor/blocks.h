/* SPDX-License-Identifier: MIT
 * blocks.h — the bytes of one quantized block, as they lie in a GGUF file: packed, little-endian,
 * at any alignment.  Halves are IEEE binary16 bit patterns.
 * For:     dequantization here, repacking in kernels.
 * Source:  GGUF spec v3 and ggml's block definitions; sizes asserted, values held against
 *          tests/golden/quant. */
#ifndef KVASIR_TENSOR_BLOCKS_H
#define KVASIR_TENSOR_BLOCKS_H

#include <stdint.h>

#define QK   32u  /* elements of a small block */
#define QK_K 256u /* elements of a super-block */

#define BLOCK_LAYOUT __attribute__((packed))

/* Low nibbles are elements 0–15, high nibbles 16–31. */
struct block_q4_0 {
    uint16_t d;
    uint8_t qs[QK / 2]; /* value = d × (q − 8) */
} BLOCK_LAYOUT;

struct block_q4_1 {
    uint16_t d, m;
    uint8_t qs[QK / 2]; /* value = d × q + m */
} BLOCK_LAYOUT;

struct block_q5_0 {
    uint16_t d;
    uint8_t qh[4]; /* bit i: fifth bit of element i */
    uint8_t qs[QK / 2];
} BLOCK_LAYOUT;

struct block_q5_1 {
    uint16_t d, m;
    uint8_t qh[4];
    uint8_t qs[QK / 2];
} BLOCK_LAYOUT;

struct block_q8_0 {
    uint16_t d;
    int8_t qs[QK];
} BLOCK_LAYOUT;

struct block_q2_k {
    uint8_t scales[QK_K / 16]; /* low nibble: scale, high: minimum; of 16 elements */
    uint8_t qs[QK_K / 4];
    uint16_t d, dmin;
} BLOCK_LAYOUT;

struct block_q3_k {
    uint8_t hmask[QK_K / 8];
    uint8_t qs[QK_K / 4];
    uint8_t scales[12]; /* sixteen of 6 bits, offset by 32 */
    uint16_t d;
} BLOCK_LAYOUT;

struct block_q4_k {
    uint16_t d, dmin;
    uint8_t scales[12]; /* eight scales and eight minima of 6 bits; of 32 elements */
    uint8_t qs[QK_K / 2];
} BLOCK_LAYOUT;

struct block_q5_k {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qh[QK_K / 8];
    uint8_t qs[QK_K / 2];
} BLOCK_LAYOUT;

struct block_q6_k {
    uint8_t ql[QK_K / 2];
    uint8_t qh[QK_K / 4];
    int8_t scales[QK_K / 16];
    uint16_t d;
} BLOCK_LAYOUT;

struct block_iq4_nl {
    uint16_t d;
    uint8_t qs[QK / 2]; /* index into block_iq4_values */
} BLOCK_LAYOUT;

struct block_iq4_xs {
    uint16_t d;
    uint16_t scales_h;
    uint8_t scales_l[QK_K / 64];
    uint8_t qs[QK_K / 2];
} BLOCK_LAYOUT;

struct block_mxfp4 {
    uint8_t e; /* E8M0: a power of two */
    uint8_t qs[QK / 2];
} BLOCK_LAYOUT;

_Static_assert(sizeof(struct block_q4_0) == 18, "GGUF Q4_0");
_Static_assert(sizeof(struct block_q4_1) == 20, "GGUF Q4_1");
_Static_assert(sizeof(struct block_q5_0) == 22, "GGUF Q5_0");
_Static_assert(sizeof(struct block_q5_1) == 24, "GGUF Q5_1");
_Static_assert(sizeof(struct block_q8_0) == 34, "GGUF Q8_0");
_Static_assert(sizeof(struct block_q2_k) == 84, "GGUF Q2_K");
_Static_assert(sizeof(struct block_q3_k) == 110, "GGUF Q3_K");
_Static_assert(sizeof(struct block_q4_k) == 144, "GGUF Q4_K");
_Static_assert(sizeof(struct block_q5_k) == 176, "GGUF Q5_K");
_Static_assert(sizeof(struct block_q6_k) == 210, "GGUF Q6_K");
_Static_assert(sizeof(struct block_iq4_nl) == 18, "GGUF IQ4_NL");
_Static_assert(sizeof(struct block_iq4_xs) == 136, "GGUF IQ4_XS");
_Static_assert(sizeof(struct block_mxfp4) == 17, "GGUF MXFP4");

/* The sixteen values of IQ4_NL and IQ4_XS. */
extern const int8_t block_iq4_values[16];
/* The sixteen values of MXFP4 (E2M1), doubled so that they are whole numbers. */
extern const int8_t block_mxfp4_values[16];
/* 2^(e − 128): the scale that goes with the doubled values; e 0 and 1 give subnormals. */
float block_mxfp4_scale(uint8_t e);
/* Scale and minimum (6 bits each) of the j-th of eight groups of Q4_K and Q5_K. */
void block_k_scale_min(const uint8_t scales[12], uint32_t j, uint8_t *scale, uint8_t *min);
/* The sixteen scales of Q3_K, −32 … 31. */
void block_q3_k_scales(const uint8_t packed[12], int8_t out[16]);
/* The scale of the j-th of eight groups of IQ4_XS, −32 … 31. */
int block_iq4_xs_scale(const struct block_iq4_xs *b, uint32_t j);

#endif
