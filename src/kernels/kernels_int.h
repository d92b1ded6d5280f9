/* SPDX-License-Identifier: MIT
 * kernels_int.h — inner door: the packed format and what the instruction sets share.
 * The format is drawn in docs/numerics.md §3; pack.c writes it, ref/ and x86/ read it. */
#ifndef KVASIR_KERNELS_KERNELS_INT_H
#define KVASIR_KERNELS_KERNELS_INT_H

#include "base/check.h"
#include "kernels/kernels.h"

/* ---- packed weights ---- */
/* What the codes of a tile-block (16 rows × 32 k) are stored as.  A plane holds, per lane of four
 * bytes, four consecutive k of one row; 16 lanes are 64 bytes; group g is k = 4 g … 4 g + 3. */
enum plane {
    PLANE_BYTES = 1,   /* 8 × 64 B: group g at 64 g, one int8 a weight */
    PLANE_NIBBLES = 2, /* 4 × 64 B: group g in the low, g + 4 in the high nibbles of vector g */
    PLANE_PAIRS = 4,   /* 2 × 64 B: two bits of group g in vector g & 1 at bit 2 (g >> 1) */
    PLANE_BITS = 8,    /* 1 × 64 B: one bit of group g at bit g */
    PLANE_FLOATS = 16, /* 32 × 16 f32 (f32 weights, or any type for ACTIVATIONS_F32) */
    PLANE_HALVES = 32, /* 32 × 16 f16 or bf16 */
};

struct pack_format {
    enum tensor_type type;
    uint8_t planes;       /* set of enum plane, stored in the order of the enum */
    uint8_t scale_bytes;  /* per row and block of 32 */
    uint8_t super_bytes;  /* per row and super-block of 256; 0: none */
    uint16_t plane_bytes; /* per tile-block */
};

/* A tile of quantized weights is one run of memory in the order of use: for every 8 blocks their
 * super-scales, then block by block planes and scales.  Floats have planes only.  docs/numerics.md
 * §3 says what other orders cost. */
struct pack_layout {
    uint32_t n_blocks;
    size_t plane_bytes; /* of a block; its scales follow */
    size_t block_bytes; /* planes and scales */
    size_t super_bytes; /* 16 rows; 0: none */
    size_t tile_bytes;  /* a multiple of 64 */
};
static inline size_t pack_super_at(const struct pack_layout *l, uint32_t block)
{
    return block / 8 * (l->super_bytes + 8 * l->block_bytes);
}
static inline size_t pack_block_at(const struct pack_layout *l, uint32_t block)
{
    return (size_t)(block / 8 + 1) * l->super_bytes + block * l->block_bytes;
}

/* NULL: the pair cannot be packed. */
const struct pack_format *pack_format_of(enum tensor_type type, enum activations activations);
struct pack_layout pack_layout_of(const struct pack_format *f, uint32_t n_in);

extern const int8_t codebook_iq4[16];
extern const int8_t codebook_mxfp4[16];
/* MXFP4 codes are stored as codebook + 12 would be: 0..24 after look-up; the −12 is taken off the
 * integer dot. */
#define MXFP4_OFFSET 12

/* ---- constants of exp, shared so that each instruction set computes the same bits ---- */
/* exp(x) = 2^n × p(r), n = rint(x log2 e), r = x − n ln 2 in two fma steps.  p: minimax-like Taylor
 * of degree 6 refined on |r| ≤ ln 2 / 2; error below 1 ulp (tests/unit/kernels/math_test.c). */
#define EXP_LOG2E    0x1.715476p+0f
#define EXP_LN2_HIGH 0x1.62e400p-1f
#define EXP_LN2_LOW  0x1.7f7d1cp-20f
#define EXP_ROUND    0x1.8p+23f
#define EXP_C6       0x1.6850e4p-10f
#define EXP_C5       0x1.123bccp-7f
#define EXP_C4       0x1.555b98p-5f
#define EXP_C3       0x1.55548ep-3f
#define EXP_C2       0x1.fffff8p-2f
#define EXP_MIN      (-0x1.5d589ep+6f) /* below: 0; the least result is normal (2^−126) */
#define EXP_MAX      0x1.62e42ep+6f    /* above: +inf */

/* gelu(x) = x / (1 + exp(−2 u)), u = √(2/π) (x + 0.044715 x³): the tanh form, without cancellation.
 */
#define GELU_A (-0x1.988454p+0f) /* −2 √(2/π) */
#define GELU_B 0.044715f

/* Below this largest magnitude a block of activations counts as zero: 127 / amax stays finite. */
#define ACT_AMAX_MIN 0x1p-100f

/* The 16 lanes of every row reduction are added in this order (docs/numerics.md §5). */
static inline float tree_add16(const float lane[16])
{
    float a[8], b[4];
    for (int i = 0; i < 8; i++)
        a[i] = lane[i] + lane[i + 8];
    for (int i = 0; i < 4; i++)
        b[i] = a[i] + a[i + 4];
    return (b[0] + b[2]) + (b[1] + b[3]);
}

/* ---- attention geometry, the same for all instruction sets ---- */
struct attention_span {
    uint32_t low, high; /* visible keys of one token inside a block of 64: [low, high) */
};
/* Keys [block × 64, +64) visible to the token at `position`; low == high: none. */
static inline struct attention_span attention_span_of(uint32_t position, uint32_t window,
                                                      uint32_t block)
{
    const uint32_t base = block * KV_PAGE_TOKENS;
    const uint32_t first = window != 0 && position + 1 > window ? position + 1 - window : 0;
    const uint32_t low = first > base ? first - base : 0;
    const uint32_t high = position >= base ? position - base + 1 : 0;
    const uint32_t high_in = high < KV_PAGE_TOKENS ? high : KV_PAGE_TOKENS;
    return low < high_in ? (struct attention_span){low, high_in} : (struct attention_span){0, 0};
}

/* State of a tile: max[n_rows], sum[n_rows], acc[n_rows][head_dim]; row = token × group + head. */
struct attention_state {
    float *max, *sum, *acc;
};
static inline struct attention_state attention_state_of(float *state, uint32_t n_rows)
{
    return (struct attention_state){state, state + n_rows, state + 2 * (size_t)n_rows};
}

/* Rows whose scores an instruction set computes at once; more than any needs. */
#define ATTENTION_ROWS_MAX 8u

/* Heads are rotated in runs of this many dimensions: the largest power of two in head_dim. */
static inline uint32_t kv_rotation_run(uint32_t head_dim)
{
    return head_dim & -head_dim;
}

/* Codes of a KV head, K of q8_0 and q4 and V of q8_0: a byte each; V of q4: half of one.  The
 * scales lie behind them. */
static inline size_t kv_codes_bytes(enum kv_type v_type, uint32_t head_dim)
{
    return (size_t)head_dim * KV_PAGE_TOKENS / (v_type == KV_Q4 ? 2 : 1);
}

/* ---- products by tiles of 16 outputs, for instruction sets with vectors (tiles.c) ---- */
struct kernel_tile {
    const uint8_t *data; /* of this tile */
    const struct pack_layout *layout;
    const struct act_rows *x;
};
/* y[r × y_stride + lane] for rows [row0, row1): always 16 lanes are written. */
typedef void kernel_tile_fn(float *y, size_t y_stride, const struct kernel_tile *t, uint32_t row0,
                            uint32_t row1);
/* matmul of struct kernels by fns[type]. */
void kernel_tiles_matmul(kernel_tile_fn *const *fns, float *y, size_t y_stride,
                         const struct act_rows *x, uint32_t row0, uint32_t row1,
                         const struct packed *w, uint32_t tile0, uint32_t tile1);

/* ---- the tables ---- */
extern const struct kernels kernels_ref;
#if defined(__x86_64__)
extern const struct kernels kernels_avx2;
extern const struct kernels kernels_avx2_vnni;   /* the same, quantized weights by AVX-VNNI */
extern const struct kernels kernels_avx512;      /* F, BW, VL, DQ */
extern const struct kernels kernels_avx512_vnni; /* the same, quantized weights by VNNI */
#endif

#endif
