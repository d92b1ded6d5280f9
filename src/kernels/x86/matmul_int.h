/* SPDX-License-Identifier: MIT
 * matmul_int.h — the body of all products of quantized weights with 8-bit activations: a register
 * tile of ROWS_AT_ONCE rows × 16 outputs.  `type`, `R` and `is_open` are constants at every use, so
 * that each instance keeps only its own branches.  No-saturation proofs per type: docs/numerics.md
 * §4.  Few rows read the packed planes as they pass by; many rows read a panel (matmul_panel.h): a
 * stretch of the tile whose codes and scales were opened once for all of them (`is_open`).
 * HAS_DOT_BYTES: the set has a dot of unsigned by signed bytes that adds to int32 (VNNI). */
/* v shifted so that bit `from` of every byte lands on bit `to`; only those bits
 * mean anything. */
INLINE vi move_bits(vi v, int from, int to)
{
    if (from == to)
        return v;
    return from < to ? vi_slli16(v, to - from) : vi_srli16(v, from - to);
}

INLINE vi look_up(const int8_t *codebook, int add, vi index)
{
    return vi_look_up(_mm_add_epi8(_mm_loadu_si128((const __m128i *)(const void *)codebook),
                                   _mm_set1_epi8((char)add)),
                      index);
}

/* Codes of group g (4 k of LANES rows) of part h; signed ones come as code + lift. */
INLINE vi codes_at(enum tensor_type type, const uint8_t *p, int g, int h, int lift)
{
    const uint8_t set = planes_of(type);
    if (set & PLANE_BYTES)
        return lift == 0 ? vi_load(p + g * 64 + h * 32)
                         : vi_flip8(vi_load(p + g * 64 + h * 32), (char)lift);
    vi c = vi_zero();
    int bit = 0;
    if (set & PLANE_NIBBLES) {
        const vi n = vi_load(p + (g % 4) * 64 + h * 32);
        c = vi_and(move_bits(n, g < 4 ? 0 : 4, 0), vi_set1_8(15));
        p += 256;
        bit = 4;
    }
    if (set & PLANE_PAIRS) {
        const vi n = vi_load(p + (g & 1) * 64 + h * 32);
        const vi mask = vi_set1_8((char)(3 << bit));
        c = vi_or_and(c, move_bits(n, 2 * (g >> 1), bit), mask);
        p += 128;
        bit += 2;
    }
    if (set & PLANE_BITS) {
        const vi n = vi_load(p + h * 32);
        const vi mask = vi_set1_8((char)(1 << bit));
        c = vi_or_and(c, move_bits(n, g, bit), mask);
    }
    if (type == TYPE_IQ4_NL || type == TYPE_IQ4_XS)
        return look_up(codebook_iq4, lift, c);
    if (type == TYPE_MXFP4)
        return look_up(codebook_mxfp4, MXFP4_OFFSET, c);
    return c;
}

/* The int16 of the first (second) 16 of every lane, twice. */
INLINE vi twice(vi pairs, bool second)
{
    return vi_shuffle(pairs,
                      second ? _mm_setr_epi8(2, 3, 2, 3, 6, 7, 6, 7, 10, 11, 10, 11, 14, 15, 14, 15)
                             : _mm_setr_epi8(0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13));
}

/* Scales of LANES rows of a block, in the forms that the body needs. */
struct block_scales {
    vf dw, mw;
    vi sub_min; /* Q2_K: int16 pairs */
    vi half[2]; /* sub-scales of the two 16s: int32 with dots of bytes, else int16, each twice, the
                 * second factor of the madd that widens */
    vi offset;  /* int16 pairs: sub-scale × what is taken off every code; not with dots of bytes */
};

INLINE void set_halves(enum tensor_type type, struct block_scales *o, vi sub)
{
#ifdef HAS_DOT_BYTES
    (void)type;
    o->half[0] = vi_srai32(vi_slli32(sub, 16), 16);
    o->half[1] = vi_srai32(sub, 16);
#else
    o->half[0] = twice(sub, false);
    o->half[1] = twice(sub, true);
    o->offset = vi_mullo16(sub, vi_set1_16((short)offset_of(type)));
#endif
}

INLINE struct block_scales scales_at(enum tensor_type type, const uint8_t *scale,
                                     const uint8_t *super, int h)
{
    struct block_scales o = {0};
    const vf negative = vf_set1(-0.0f);
    switch (type) {
    case TYPE_Q4_1:
    case TYPE_Q5_1:
        o.dw = vf_halves_at(scale + h * 16);
        o.mw = vf_halves_at(scale + 32 + h * 16);
        break;
    case TYPE_MXFP4:
        o.dw = vf_bfloats_at(scale + h * 16);
        break;
    case TYPE_Q4_K:
    case TYPE_Q5_K:
        o.dw = vf_mul(vf_halves_at(super + h * 16), vf_bytes_at(scale + h * 8));
        o.mw = vf_mul(vf_xor(vf_halves_at(super + 32 + h * 16), negative),
                      vf_bytes_at(scale + 16 + h * 8));
        break;
    case TYPE_IQ4_XS:
        o.dw = vf_mul(vf_halves_at(super + h * 16), vf_signed_bytes_at(scale + h * 8));
        break;
    case TYPE_Q3_K:
    case TYPE_Q6_K:
        o.dw = vf_halves_at(super + h * 16);
        set_halves(type, &o, vi_signed_words_at(scale + h * 16));
        break;
    case TYPE_Q2_K: {
        const vi both = vi_words_at(scale + h * 16);
        o.dw = vf_halves_at(super + h * 16);
        o.mw = vf_xor(vf_halves_at(super + 32 + h * 16), negative);
        set_halves(type, &o, vi_and(both, vi_set1_16(15)));
        o.sub_min = vi_srli16(both, 4);
        break;
    }
    default:
        o.dw = vf_halves_at(scale + h * 16);
    }
    return o;
}

/* The order in which groups are visited: a nibble vector serves g and g + 4 at once, unless the
 * halves of the block belong to different sub-scales.  Integer sums, so any order is exact. */
INLINE int group_at(enum tensor_type type, int i)
{
    return has_sixteens(type) || type == TYPE_Q8_0 ? i : (i >> 1) + (i & 1) * 4;
}

/* A dot of unsigned by signed bytes takes signed codes as code + 128: an offset like others. */
#ifdef HAS_DOT_BYTES
#define LIFT 128
#else
#define LIFT 0
#endif
INLINE int lift_of(enum tensor_type type)
{
    return is_signed_code(type) ? LIFT : 0;
}

/* ---- where the integer dots begin ---- */
/* An offset that is the same for all outputs starts the dots: −offset × Σ q, of LANES blocks at a
 * time, so that the loop over blocks has one broadcast for it and no product.  With dots of bytes
 * each half of a type with sub-scales has a start of its own. */
#ifdef HAS_DOT_BYTES
#define STARTS 2
#else
#define STARTS 1
#endif
struct starts {
    int32_t at[ROWS_AT_ONCE][STARTS][LANES];
};
INLINE bool has_starts(enum tensor_type type)
{
    return offset_of(type) + lift_of(type) != 0 && (STARTS == 2 || !has_sixteens(type));
}

INLINE void put_start(int32_t *to, vi sums, int32_t factors)
{
    vf_store((float *)(void *)to, (vf)vi_madd(sums, vi_set1_32(factors)));
}

INLINE void starts_at(enum tensor_type type, const int R, struct starts *o,
                      const int16_t *const *sum16, uint32_t b, uint32_t n_blocks)
{
    if (!has_starts(type))
        return;
    const int32_t off = -(offset_of(type) + lift_of(type));
    const int32_t first = off & 0xffff, second = (int32_t)((uint32_t)off << 16);
    const uint32_t n = n_blocks - b;
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
        const float *p = (const float *)(const void *)(sum16[r] + (size_t)b * 2);
        const vi sums = (vi)(n >= LANES ? vf_load(p) : vf_load_first(p, n));
        put_start(o->at[r][0], sums, has_sixteens(type) ? first : first | second);
        if (has_sixteens(type))
            put_start(o->at[r][STARTS - 1], sums, second);
    }
}

/* ---- one block of 32: integer dots of R rows × 16 outputs, offsets already off ---- */
struct rows_in {
    const int8_t *q[ROWS_AT_ONCE];
    const int16_t *sum16[ROWS_AT_ONCE];
    const float *scale[ROWS_AT_ONCE], *scaled_sum[ROWS_AT_ONCE];
};

/* Codes of group g of part h: of a panel as they are, else out of the planes. */
INLINE vi codes_of(enum tensor_type type, bool is_open, const uint8_t *p, int g, int h, int lift)
{
    return is_open ? vi_load(p + g * 64 + h * 32) : codes_at(type, p, g, h, lift);
}

#ifdef HAS_DOT_BYTES
/* A dot of unsigned by signed bytes adds four products to an int32: no step in int16. */
INLINE void block_dots(enum tensor_type type, const int R, bool is_open, vi dot[][PARTS],
                       const uint8_t *codes, const struct block_scales *s, const struct rows_in *in,
                       const struct starts *start, uint32_t b, uint32_t at)
{
    vi second[ROWS_AT_ONCE][PARTS]; /* with sub-scales: k = 16 … 31 */
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int h = 0; h < PARTS; h++) {
            const bool starts = has_starts(type);
            dot[r][h] = starts ? vi_set1_32(start->at[r][0][at]) : vi_zero();
            if (has_sixteens(type))
                second[r][h] = starts ? vi_set1_32(start->at[r][1][at]) : vi_zero();
        }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        const int g = group_at(type, i);
#pragma GCC unroll 2
        for (int h = 0; h < PARTS; h++) {
            const vi c = codes_of(type, is_open, codes, g, h, lift_of(type));
#pragma GCC unroll 8
            for (int r = 0; r < R; r++) {
                const vi x = quad_at(in->q[r] + b * ACT_BLOCK + (size_t)g * 4);
                if (has_sixteens(type) && g >= 4)
                    second[r][h] = vi_dot_bytes(second[r][h], c, x);
                else
                    dot[r][h] = vi_dot_bytes(dot[r][h], c, x);
            }
        }
    }
    if (!has_sixteens(type))
        return;
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int h = 0; h < PARTS; h++)
            dot[r][h] = vi_add32(vi_mullo32(dot[r][h], s[h].half[0]),
                                 vi_mullo32(second[r][h], s[h].half[1]));
}
#else
INLINE void block_dots(enum tensor_type type, const int R, bool is_open, vi dot[][PARTS],
                       const uint8_t *codes, const struct block_scales *s, const struct rows_in *in,
                       const struct starts *start, uint32_t b, uint32_t at)
{
    const int adds = adds_of(type);
    vi part[ROWS_AT_ONCE][PARTS];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        const int g = group_at(type, i);
        vi c[PARTS], a[PARTS];
#pragma GCC unroll 2
        for (int h = 0; h < PARTS; h++) {
            c[h] = codes_of(type, is_open, codes, g, h, 0);
            a[h] = is_signed_code(type) ? vi_abs8(c[h]) : c[h];
        }
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            const vi x = quad_at(in->q[r] + b * ACT_BLOCK + (size_t)g * 4);
#pragma GCC unroll 2
            for (int h = 0; h < PARTS; h++) {
                const vi s8 = is_signed_code(type) ? vi_sign8(x, c[h]) : x;
                const vi p = vi_maddubs(a[h], s8);
                part[r][h] = i % adds == 0 ? p : vi_add16(part[r][h], p);
                if (adds != 1)
                    stay_in_order(&part[r][h]);
            }
        }
        if (i % adds != adds - 1)
            continue;
#pragma GCC unroll 2
        for (int h = 0; h < PARTS; h++) {
            const vi factor = has_sixteens(type) ? s[h].half[g >= 4] : vi_set1_16(1);
#pragma GCC unroll 8
            for (int r = 0; r < R; r++) {
                const vi wide = vi_madd(part[r][h], factor);
                dot[r][h] = i == adds - 1 ? wide : vi_add32(dot[r][h], wide);
                if (adds != 8)
                    stay_in_order(&dot[r][h]);
            }
        }
    }
    if (offset_of(type) == 0)
        return;
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int h = 0; h < PARTS; h++) {
            if (has_starts(type))
                dot[r][h] = vi_add32(dot[r][h], vi_set1_32(start->at[r][0][at]));
            else
                dot[r][h] = vi_sub32(dot[r][h],
                                     vi_madd(quad_at(in->sum16[r] + (size_t)b * 2), s[h].offset));
        }
}
#endif

INLINE vf add_block(enum tensor_type type, vf acc, vi dot, const struct block_scales *s, float da,
                    float scaled_sum, const int16_t *sum16)
{
    const vf scale = vf_set1(da);
    acc = vf_fma(vf_mul(s->dw, scale), vf_of_ints(dot), acc);
    if (has_minimum(type))
        return vf_fma(s->mw, vf_set1(scaled_sum), acc);
    if (type == TYPE_Q2_K) {
        const vi imin = vi_madd(quad_at(sum16), s->sub_min);
        return vf_fma(vf_mul(s->mw, scale), vf_of_ints(imin), acc);
    }
    return acc;
}

/* ---- rows ---- */
/* One row at a time of codes that lie in one plane reads as fast as memory gives, unasked: the
 * prefetchers follow one run of memory.  Where codes are put together out of several planes they
 * lose the thread, and with more rows the core is busy and would wait: then the first register tile
 * of a tile asks for what lies ahead (src/kernels/lab/README.md has the ladder). */
#define PREFETCH_BYTES 4096
INLINE bool is_asked_for(enum tensor_type type, const int R)
{
    const uint8_t set = planes_of(type);
    return R > 1 || (set & (set - 1)) != 0;
}

INLINE void prefetch_block(enum tensor_type type, const uint8_t *planes)
{
    const int lines = (planes_size(type) + scales_size(type) + 63) / 64;
#pragma GCC unroll 9
    for (int i = 0; i < lines; i++)
        _mm_prefetch((const char *)planes + PREFETCH_BYTES + i * 64, _MM_HINT_T0);
}

INLINE struct rows_in rows_in_of(const struct kernel_tile *t, const int R, uint32_t row)
{
    const struct act_rows *x = t->x;
    const size_t n_blocks = t->layout->n_blocks;
    struct rows_in in;
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
        const size_t at = row + (size_t)r;
        in.q[r] = x->q + at * x->n_in;
        in.sum16[r] = x->sum16 + at * n_blocks * 2;
        in.scale[r] = x->scale + at * n_blocks;
        in.scaled_sum[r] = x->scaled_sum + at * n_blocks;
    }
    return in;
}

INLINE void add_dots(enum tensor_type type, const int R, vf acc[][PARTS], vi dot[][PARTS],
                     const struct block_scales *s, const struct rows_in *in, uint32_t b)
{
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int h = 0; h < PARTS; h++)
            acc[r][h] = add_block(type, acc[r][h], dot[r][h], &s[h], in->scale[r][b],
                                  in->scaled_sum[r][b], in->sum16[r] + (size_t)b * 2);
}

INLINE void rows_of_tile(enum tensor_type type, const int R, float *y, size_t y_stride,
                         const struct kernel_tile *t, uint32_t row, bool is_first)
{
    const struct pack_layout *l = t->layout;
    const struct rows_in in = rows_in_of(t, R, row);
    vf acc[ROWS_AT_ONCE][PARTS];
    vi dot[ROWS_AT_ONCE][PARTS];
    struct starts start;
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int h = 0; h < PARTS; h++)
            acc[r][h] = vf_zero();
    for (uint32_t b = 0; b < l->n_blocks; b++) {
        const uint8_t *planes = t->data + pack_block_at(l, b);
        const uint8_t *scales = planes + planes_size(type);
        const uint8_t *supers = t->data + pack_super_at(l, b);
        if (is_asked_for(type, R) && is_first)
            prefetch_block(type, planes);
        struct block_scales s[PARTS];
#pragma GCC unroll 2
        for (int h = 0; h < PARTS; h++)
            s[h] = scales_at(type, scales, supers, h);
        if (b % LANES == 0)
            starts_at(type, R, &start, in.sum16, b, l->n_blocks);
        block_dots(type, R, false, dot, planes, s, &in, &start, b, b % LANES);
        add_dots(type, R, acc, dot, s, &in, b);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int h = 0; h < PARTS; h++)
            vf_store(y + (row + (size_t)r) * y_stride + LANES * (size_t)h, acc[r][h]);
}

#include "kernels/x86/matmul_panel.h"

#define INTEGER_TILE_FN(name, type)                                                    \
    void ISA_NAME(tile_##name)(float *y, size_t y_stride, const struct kernel_tile *t, \
                               uint32_t row0, uint32_t row1)                           \
    {                                                                                  \
        uint32_t row = row0;                                                           \
        while (wants_panel(type, row1 - row)) {                                        \
            const uint32_t n = row1 - row < PANEL_ROWS ? row1 - row : PANEL_ROWS;      \
            rows_by_panels(type, y, y_stride, t, row, row + n - n % ROWS_AT_ONCE);     \
            row += n - n % ROWS_AT_ONCE;                                               \
        }                                                                              \
        for (; row1 - row >= ROWS_AT_ONCE; row += ROWS_AT_ONCE)                        \
            rows_of_tile(type, ROWS_AT_ONCE, y, y_stride, t, row, row == row0);        \
        if (ROWS_AT_ONCE > 4 && row1 - row >= 4) {                                     \
            rows_of_tile(type, 4, y, y_stride, t, row, row == row0);                   \
            row += 4;                                                                  \
        }                                                                              \
        if (row1 - row == 3)                                                           \
            rows_of_tile(type, 3, y, y_stride, t, row, row == row0);                   \
        else if (row1 - row == 2)                                                      \
            rows_of_tile(type, 2, y, y_stride, t, row, row == row0);                   \
        else if (row1 - row == 1)                                                      \
            rows_of_tile(type, 1, y, y_stride, t, row, row == row0);                   \
    }
