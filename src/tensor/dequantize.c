/* SPDX-License-Identifier: MIT
 * dequantize.c — blocks to f32.  Every product and sum is rounded to f32 one by one, in the order
 * written (-ffp-contract=off): that is what gguf-py and ggml's C code do, and what docs/numerics.md
 * means by "the dequantized weight". */
#include <string.h>

#include "base/check.h"
#include "base/endian.h"
#include "tensor/blocks.h"
#include "tensor/tensor.h"

static void row_f32(const void *src, float *dst, uint64_t n)
{
    memcpy(dst, src, n * sizeof *dst);
}

static void row_f16(const void *src, float *dst, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        dst[i] = f16_to_f32(get_le16((const uint8_t *)src + 2 * i));
}

static void row_bf16(const void *src, float *dst, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        dst[i] = bf16_to_f32(get_le16((const uint8_t *)src + 2 * i));
}

static void row_q4_0(const void *src, float *dst, uint64_t n)
{
    const struct block_q4_0 *b = src;
    for (uint64_t i = 0; i < n / QK; i++, b++, dst += QK) {
        float d = f16_to_f32(b->d);
        for (uint32_t j = 0; j < QK / 2; j++) {
            dst[j] = (float)((b->qs[j] & 15) - 8) * d;
            dst[j + QK / 2] = (float)((b->qs[j] >> 4) - 8) * d;
        }
    }
}

static void row_q4_1(const void *src, float *dst, uint64_t n)
{
    const struct block_q4_1 *b = src;
    for (uint64_t i = 0; i < n / QK; i++, b++, dst += QK) {
        float d = f16_to_f32(b->d), m = f16_to_f32(b->m);
        for (uint32_t j = 0; j < QK / 2; j++) {
            dst[j] = (float)(b->qs[j] & 15) * d + m;
            dst[j + QK / 2] = (float)(b->qs[j] >> 4) * d + m;
        }
    }
}

/* Element j < 16 and element j + 16 of a block with a fifth bit. */
static void five_bits(uint8_t q, uint32_t qh, uint32_t j, int *low, int *high)
{
    *low = (q & 15) | (int)(qh >> j & 1) << 4;
    *high = q >> 4 | (int)(qh >> (j + 16) & 1) << 4;
}

static void row_q5_0(const void *src, float *dst, uint64_t n)
{
    const struct block_q5_0 *b = src;
    for (uint64_t i = 0; i < n / QK; i++, b++, dst += QK) {
        float d = f16_to_f32(b->d);
        uint32_t qh = get_le32(b->qh);
        for (uint32_t j = 0; j < QK / 2; j++) {
            int low, high;
            five_bits(b->qs[j], qh, j, &low, &high);
            dst[j] = (float)(low - 16) * d;
            dst[j + QK / 2] = (float)(high - 16) * d;
        }
    }
}

static void row_q5_1(const void *src, float *dst, uint64_t n)
{
    const struct block_q5_1 *b = src;
    for (uint64_t i = 0; i < n / QK; i++, b++, dst += QK) {
        float d = f16_to_f32(b->d), m = f16_to_f32(b->m);
        uint32_t qh = get_le32(b->qh);
        for (uint32_t j = 0; j < QK / 2; j++) {
            int low, high;
            five_bits(b->qs[j], qh, j, &low, &high);
            dst[j] = (float)low * d + m;
            dst[j + QK / 2] = (float)high * d + m;
        }
    }
}

static void row_q8_0(const void *src, float *dst, uint64_t n)
{
    const struct block_q8_0 *b = src;
    for (uint64_t i = 0; i < n / QK; i++, b++, dst += QK) {
        float d = f16_to_f32(b->d);
        for (uint32_t j = 0; j < QK; j++)
            dst[j] = (float)b->qs[j] * d;
    }
}

/* Q2_K and Q3_K: two halves of 128; in each, four planes of two bits over the same 32 bytes. */
static void row_q2_k(const void *src, float *dst, uint64_t n)
{
    const struct block_q2_k *b = src;
    for (uint64_t i = 0; i < n / QK_K; i++, b++, dst += QK_K) {
        float d = f16_to_f32(b->d), dmin = f16_to_f32(b->dmin);
        for (uint32_t k = 0; k < QK_K; k++) {
            uint32_t half = k / 128, plane = k / 32 % 4;
            uint8_t group = b->scales[k / 16];
            float dl = d * (float)(group & 15), ml = dmin * (float)(group >> 4);
            int q = b->qs[half * 32 + k % 32] >> (2 * plane) & 3;
            dst[k] = dl * (float)q - ml;
        }
    }
}

static void row_q3_k(const void *src, float *dst, uint64_t n)
{
    const struct block_q3_k *b = src;
    for (uint64_t i = 0; i < n / QK_K; i++, b++, dst += QK_K) {
        float d = f16_to_f32(b->d);
        int8_t scales[16];
        block_q3_k_scales(b->scales, scales);
        for (uint32_t k = 0; k < QK_K; k++) {
            uint32_t half = k / 128, plane = k / 32 % 4;
            int q = b->qs[half * 32 + k % 32] >> (2 * plane) & 3;
            int high = b->hmask[k % 32] >> (4 * half + plane) & 1;
            dst[k] = d * (float)scales[k / 16] * (float)(q - (high ? 0 : 4));
        }
    }
}

/* Q4_K and Q5_K: groups of 32; groups 2i and 2i + 1 share 32 bytes, low and high nibbles. */
static void row_q4_k(const void *src, float *dst, uint64_t n)
{
    const struct block_q4_k *b = src;
    for (uint64_t i = 0; i < n / QK_K; i++, b++) {
        float d = f16_to_f32(b->d), dmin = f16_to_f32(b->dmin);
        for (uint32_t group = 0; group < 8; group++) {
            uint8_t scale, min;
            block_k_scale_min(b->scales, group, &scale, &min);
            float dl = d * (float)scale, ml = dmin * (float)min;
            const uint8_t *qs = b->qs + group / 2 * 32;
            for (uint32_t j = 0; j < 32; j++)
                *dst++ = dl * (float)(qs[j] >> (4 * (group % 2)) & 15) - ml;
        }
    }
}

static void row_q5_k(const void *src, float *dst, uint64_t n)
{
    const struct block_q5_k *b = src;
    for (uint64_t i = 0; i < n / QK_K; i++, b++) {
        float d = f16_to_f32(b->d), dmin = f16_to_f32(b->dmin);
        for (uint32_t group = 0; group < 8; group++) {
            uint8_t scale, min;
            block_k_scale_min(b->scales, group, &scale, &min);
            float dl = d * (float)scale, ml = dmin * (float)min;
            const uint8_t *qs = b->qs + group / 2 * 32;
            for (uint32_t j = 0; j < 32; j++) {
                int q = (qs[j] >> (4 * (group % 2)) & 15) | (b->qh[j] >> group & 1) << 4;
                *dst++ = dl * (float)q - ml;
            }
        }
    }
}

/* Two halves of 128: rows of 32 in the order low nibbles of ql[0–31], of ql[32–63], then the high
 * nibbles of both; the two high bits of all four rows share qh[0–31]. */
static void row_q6_k(const void *src, float *dst, uint64_t n)
{
    const struct block_q6_k *b = src;
    for (uint64_t i = 0; i < n / QK_K; i++, b++, dst += QK_K) {
        float d = f16_to_f32(b->d);
        for (uint32_t k = 0; k < QK_K; k++) {
            uint32_t half = k / 128, row = k / 32 % 4, j = k % 32;
            int low = b->ql[half * 64 + (row % 2) * 32 + j] >> (4 * (row / 2)) & 15;
            int high = b->qh[half * 32 + j] >> (2 * row) & 3;
            dst[k] = d * (float)b->scales[k / 16] * (float)((low | high << 4) - 32);
        }
    }
}

static void row_iq4_nl(const void *src, float *dst, uint64_t n)
{
    const struct block_iq4_nl *b = src;
    for (uint64_t i = 0; i < n / QK; i++, b++, dst += QK) {
        float d = f16_to_f32(b->d);
        for (uint32_t j = 0; j < QK / 2; j++) {
            dst[j] = d * (float)block_iq4_values[b->qs[j] & 15];
            dst[j + QK / 2] = d * (float)block_iq4_values[b->qs[j] >> 4];
        }
    }
}

static void row_iq4_xs(const void *src, float *dst, uint64_t n)
{
    const struct block_iq4_xs *b = src;
    for (uint64_t i = 0; i < n / QK_K; i++, b++) {
        float d = f16_to_f32(b->d);
        for (uint32_t group = 0; group < 8; group++, dst += 32) {
            float dl = d * (float)block_iq4_xs_scale(b, group);
            const uint8_t *qs = b->qs + group * 16;
            for (uint32_t j = 0; j < 16; j++) {
                dst[j] = dl * (float)block_iq4_values[qs[j] & 15];
                dst[j + 16] = dl * (float)block_iq4_values[qs[j] >> 4];
            }
        }
    }
}

static void row_mxfp4(const void *src, float *dst, uint64_t n)
{
    const struct block_mxfp4 *b = src;
    for (uint64_t i = 0; i < n / QK; i++, b++, dst += QK) {
        float d = block_mxfp4_scale(b->e);
        for (uint32_t j = 0; j < QK / 2; j++) {
            dst[j] = (float)block_mxfp4_values[b->qs[j] & 15] * d;
            dst[j + QK / 2] = (float)block_mxfp4_values[b->qs[j] >> 4] * d;
        }
    }
}

typedef void row_fn(const void *src, float *dst, uint64_t n);

void tensor_dequantize(enum tensor_type type, const void *src, float *dst, uint64_t n)
{
    static row_fn *const rows[] = {
        [TYPE_F32] = row_f32,     [TYPE_F16] = row_f16,       [TYPE_BF16] = row_bf16,
        [TYPE_Q4_0] = row_q4_0,   [TYPE_Q4_1] = row_q4_1,     [TYPE_Q5_0] = row_q5_0,
        [TYPE_Q5_1] = row_q5_1,   [TYPE_Q8_0] = row_q8_0,     [TYPE_Q2_K] = row_q2_k,
        [TYPE_Q3_K] = row_q3_k,   [TYPE_Q4_K] = row_q4_k,     [TYPE_Q5_K] = row_q5_k,
        [TYPE_Q6_K] = row_q6_k,   [TYPE_IQ4_NL] = row_iq4_nl, [TYPE_IQ4_XS] = row_iq4_xs,
        [TYPE_MXFP4] = row_mxfp4,
    };
    const struct tensor_type_info *info = tensor_type_info(type);
    CHECK(info && n % info->block_elements == 0);
    rows[type](src, dst, n);
}
