/* SPDX-License-Identifier: MIT
 * matmul.c — products with packed weights, as docs/numerics.md §4 defines them. */
#include "kernels/ref/ref.h"

#include <math.h>
#include <string.h>

/* ---- activations ---- */
void ref_quantize_row(const struct act_rows *x, uint32_t row)
{
    const uint32_t n_blocks = x->n_in / ACT_BLOCK;
    for (uint32_t b = 0; b < n_blocks; b++) {
        const float *f = x->f32 + (size_t)row * x->n_in + b * ACT_BLOCK;
        int8_t *q = x->q + (size_t)row * x->n_in + b * ACT_BLOCK;
        const size_t at = (size_t)row * n_blocks + b;
        uint32_t amax_bits = 0; /* the largest pattern of |x|: NaN above infinity above numbers */
        for (uint32_t i = 0; i < ACT_BLOCK; i++) {
            uint32_t bits;
            memcpy(&bits, &f[i], 4);
            bits &= 0x7fffffff;
            amax_bits = bits > amax_bits ? bits : amax_bits;
        }
        float amax;
        memcpy(&amax, &amax_bits, 4);
        const bool is_finite = amax_bits < 0x7f800000;
        const bool is_zero = is_finite && amax < ACT_AMAX_MIN;
        const float inverse = is_finite && !is_zero ? 127.0f / amax : 0.0f;
        int32_t half[2] = {0, 0};
        for (uint32_t i = 0; i < ACT_BLOCK; i++) {
            q[i] = is_finite ? (int8_t)rintf(f[i] * inverse) : 0;
            half[i / 16] += q[i];
        }
        x->sum16[2 * at] = (int16_t)half[0];
        x->sum16[2 * at + 1] = (int16_t)half[1];
        x->scale[at] = is_zero ? 0.0f : is_finite ? amax / 127.0f : NAN;
        x->scaled_sum[at] = x->scale[at] * (float)(half[0] + half[1]);
    }
}

/* ---- unpacking ---- */
/* A tile-block in plain form: idot = Σ_j sub[j] × Σ_{16} w × q. */
struct plain_block {
    int16_t w[TILE_ROWS][ACT_BLOCK];
    int16_t sub[TILE_ROWS][2];
    int16_t sub_min[TILE_ROWS][2]; /* Q2_K only */
    float dw[TILE_ROWS], mw[TILE_ROWS];
};

static uint16_t u16_at(const uint8_t *p, uint32_t i)
{
    uint16_t v;
    memcpy(&v, p + 2 * (size_t)i, 2);
    return v;
}

static int16_t code_of(const uint8_t *planes, uint8_t set, uint32_t row, uint32_t k)
{
    const uint32_t g = k / 4, lane = row * 4 + k % 4;
    if (set & PLANE_BYTES)
        return (int16_t)(int8_t)planes[g * 64 + lane];
    uint32_t c = 0, shift = 0;
    if (set & PLANE_NIBBLES) {
        c = (uint32_t)(planes[(g % 4) * 64 + lane] >> (g < 4 ? 0 : 4)) & 15;
        planes += 256;
        shift = 4;
    }
    if (set & PLANE_PAIRS) {
        c |= ((uint32_t)(planes[(g & 1) * 64 + lane] >> (2 * (g >> 1))) & 3) << shift;
        planes += 128;
        shift += 2;
    }
    if (set & PLANE_BITS)
        c |= ((uint32_t)(planes[lane] >> g) & 1) << shift;
    return (int16_t)c;
}

/* The weight that a code stands for, before scales. */
static int16_t weight_of(enum tensor_type type, int16_t code)
{
    switch (type) {
    case TYPE_Q4_0:
        return (int16_t)(code - 8);
    case TYPE_Q5_0:
        return (int16_t)(code - 16);
    case TYPE_Q3_K:
        return (int16_t)(code - 4);
    case TYPE_Q6_K:
        return (int16_t)(code - 32);
    case TYPE_IQ4_NL:
    case TYPE_IQ4_XS:
        return codebook_iq4[code];
    case TYPE_MXFP4:
        return codebook_mxfp4[code];
    default:
        return code;
    }
}

static void unpack_scales(struct plain_block *o, enum tensor_type type, const uint8_t *scale,
                          const uint8_t *super, uint32_t row)
{
    const float d = super != NULL ? f16_to_f32(u16_at(super, row)) : 0.0f;
    o->sub[row][0] = o->sub[row][1] = 1;
    o->mw[row] = 0.0f;
    switch (type) {
    case TYPE_Q4_1:
    case TYPE_Q5_1:
        o->mw[row] = f16_to_f32(u16_at(scale, TILE_ROWS + row));
        o->dw[row] = f16_to_f32(u16_at(scale, row));
        break;
    case TYPE_MXFP4:
        o->dw[row] = bf16_to_f32(u16_at(scale, row));
        break;
    case TYPE_Q4_K:
    case TYPE_Q5_K:
        o->dw[row] = d * (float)scale[row];
        o->mw[row] = -f16_to_f32(u16_at(super, TILE_ROWS + row)) * (float)scale[TILE_ROWS + row];
        break;
    case TYPE_IQ4_XS:
        o->dw[row] = d * (float)(int8_t)scale[row];
        break;
    case TYPE_Q3_K:
    case TYPE_Q6_K:
        o->dw[row] = d;
        for (uint32_t j = 0; j < 2; j++)
            o->sub[row][j] = (int8_t)scale[2 * row + j];
        break;
    case TYPE_Q2_K:
        o->dw[row] = d;
        o->mw[row] = -f16_to_f32(u16_at(super, TILE_ROWS + row));
        for (uint32_t j = 0; j < 2; j++) {
            o->sub[row][j] = scale[2 * row + j] & 15;
            o->sub_min[row][j] = scale[2 * row + j] >> 4;
        }
        break;
    default:
        o->dw[row] = f16_to_f32(u16_at(scale, row));
    }
}

static void unpack_block(struct plain_block *o, const struct pack_format *f,
                         const struct pack_layout *l, const uint8_t *tile, uint32_t b)
{
    const uint8_t *planes = tile + pack_block_at(l, b);
    const uint8_t *scale = planes + l->plane_bytes;
    const uint8_t *super = f->super_bytes != 0 ? tile + pack_super_at(l, b) : NULL;
    for (uint32_t row = 0; row < TILE_ROWS; row++) {
        for (uint32_t k = 0; k < ACT_BLOCK; k++)
            o->w[row][k] = weight_of(f->type, code_of(planes, f->planes, row, k));
        unpack_scales(o, f->type, scale, super, row);
    }
}

/* ---- products ---- */
static float add_block(float acc, const struct plain_block *o, enum tensor_type type, uint32_t lane,
                       const struct act_rows *x, uint32_t r, uint32_t b)
{
    const size_t at = (size_t)r * (x->n_in / ACT_BLOCK) + b;
    const int8_t *q = x->q + (size_t)r * x->n_in + b * ACT_BLOCK;
    const float da = x->scale[at];
    int32_t half[2] = {0, 0};
    for (uint32_t k = 0; k < ACT_BLOCK; k++)
        half[k / 16] += o->w[lane][k] * q[k];
    const int32_t idot = o->sub[lane][0] * half[0] + o->sub[lane][1] * half[1];
    acc = fmaf(o->dw[lane] * da, (float)idot, acc);
    switch (type) {
    case TYPE_Q4_1:
    case TYPE_Q5_1:
    case TYPE_Q4_K:
    case TYPE_Q5_K:
        return fmaf(o->mw[lane], x->scaled_sum[at], acc);
    case TYPE_Q2_K: {
        const int32_t imin =
            o->sub_min[lane][0] * x->sum16[2 * at] + o->sub_min[lane][1] * x->sum16[2 * at + 1];
        return fmaf(o->mw[lane] * da, (float)imin, acc);
    }
    default:
        return acc;
    }
}

static void tile_quantized(float *y, size_t y_stride, const struct act_rows *x, uint32_t row0,
                           uint32_t row1, const uint8_t *tile, const struct pack_format *f,
                           uint32_t n_lanes)
{
    const struct pack_layout l = pack_layout_of(f, x->n_in);
    struct plain_block o;
    for (uint32_t b = 0; b < l.n_blocks; b++) {
        unpack_block(&o, f, &l, tile, b);
        for (uint32_t r = row0; r < row1; r++)
            for (uint32_t lane = 0; lane < n_lanes; lane++) {
                float *acc = &y[r * y_stride + lane];
                *acc = add_block(b == 0 ? 0.0f : *acc, &o, f->type, lane, x, r, b);
            }
    }
}

static float float_weight(const uint8_t *tile, enum tensor_type type, size_t at)
{
    if (type == TYPE_F16)
        return f16_to_f32(((const uint16_t *)(const void *)tile)[at]);
    if (type == TYPE_BF16)
        return bf16_to_f32(((const uint16_t *)(const void *)tile)[at]);
    return ((const float *)(const void *)tile)[at];
}

static void tile_floats(float *y, size_t y_stride, const struct act_rows *x, uint32_t row0,
                        uint32_t row1, const uint8_t *tile, enum tensor_type type, uint32_t n_lanes)
{
    for (uint32_t r = row0; r < row1; r++)
        for (uint32_t lane = 0; lane < n_lanes; lane++) {
            float acc = 0.0f;
            for (uint32_t k = 0; k < x->n_in; k++)
                acc = fmaf(float_weight(tile, type, (size_t)k * TILE_ROWS + lane),
                           x->f32[(size_t)r * x->n_in + k], acc);
            y[r * y_stride + lane] = acc;
        }
}

void ref_matmul(float *y, size_t y_stride, const struct act_rows *x, uint32_t row0, uint32_t row1,
                const struct packed *w, uint32_t tile0, uint32_t tile1)
{
    const struct pack_format *f = pack_format_of(w->type, w->activations);
    CHECK(f != NULL && x->n_in == w->n_in && row1 <= x->n_rows);
    const struct pack_layout l = pack_layout_of(f, w->n_in);
    for (uint32_t t = tile0; t < tile1; t++) {
        const uint8_t *tile = (const uint8_t *)w->data + t * l.tile_bytes;
        const uint32_t left = w->n_out - t * TILE_ROWS;
        const uint32_t n_lanes = left < TILE_ROWS ? left : TILE_ROWS;
        float *out = y + (size_t)t * TILE_ROWS;
        if (f->planes & (PLANE_FLOATS | PLANE_HALVES))
            tile_floats(out, y_stride, x, row0, row1, tile, f->type, n_lanes);
        else
            tile_quantized(out, y_stride, x, row0, row1, tile, f, n_lanes);
    }
}
