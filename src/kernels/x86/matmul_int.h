/* SPDX-License-Identifier: MIT
 * matmul_int.h — the body of all products of quantized weights with 8-bit activations: a register
 * tile of ROWS_AT_ONCE rows × 16 outputs.  `type` and `R` are constants at every use, so that each
 * instance keeps only its own branches.  No-saturation proofs per type: docs/numerics.md §4.
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

/* Scales of 8 rows of a block, in the forms that the body needs. */
struct block_scales {
    vf dw, mw;
    vi sub;     /* int16 pairs of the two 16s */
    vi sub_min; /* Q2_K */
};

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
        o.sub = vi_signed_words_at(scale + h * 16);
        break;
    case TYPE_Q2_K: {
        const vi both = vi_words_at(scale + h * 16);
        o.dw = vf_halves_at(super + h * 16);
        o.mw = vf_xor(vf_halves_at(super + 32 + h * 16), negative);
        o.sub = vi_and(both, vi_set1_16(15));
        o.sub_min = vi_srli16(both, 4);
        break;
    }
    default:
        o.dw = vf_halves_at(scale + h * 16);
    }
    return o;
}

/* The int16 of the first (second) 16 of every lane, twice. */
INLINE vi twice(vi pairs, bool second)
{
    return vi_shuffle(pairs,
                      second ? _mm_setr_epi8(2, 3, 2, 3, 6, 7, 6, 7, 10, 11, 10, 11, 14, 15, 14, 15)
                             : _mm_setr_epi8(0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13));
}

/* The order in which groups are visited: a nibble vector serves g and g + 4 at
 * once, unless the halves of the block belong to different sub-scales.  Integer
 * sums, so any order is exact. */
INLINE int group_at(enum tensor_type type, int i)
{
    return has_sixteens(type) || type == TYPE_Q8_0 ? i : (i >> 1) + (i & 1) * 4;
}

#ifdef HAS_DOT_BYTES
#define LIFT 128 /* of signed codes, which a dot of unsigned bytes takes as code + 128 */
#else
#define LIFT 0
#endif
/* What is taken off every code in the end. */
INLINE int whole_offset_of(enum tensor_type type)
{
    return offset_of(type) + (is_signed_code(type) ? LIFT : 0);
}

/* Where the offset is the same for all outputs, the integer dots begin at −offset × Σ q.  Those of
 * LANES blocks at a time, so that the loop over blocks has one broadcast for it and no product. */
INLINE void starts_at(enum tensor_type type, const int R, int32_t start[][LANES],
                      const int16_t *const *sum16, uint32_t b, uint32_t n_blocks)
{
    const int offset = whole_offset_of(type);
    if (offset == 0 || has_sixteens(type))
        return;
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
        const int16_t *sums = sum16[r] + (size_t)b * 2;
        if (n_blocks - b >= LANES)
            vf_store((float *)(void *)start[r],
                     (vf)vi_madd(vi_load(sums), vi_set1_16((short)-offset)));
        else
            for (uint32_t i = 0; i < n_blocks - b; i++)
                start[r][i] = -offset * (sums[(size_t)2 * i] + sums[(size_t)2 * i + 1]);
    }
}

#ifdef HAS_DOT_BYTES
/* One block of 32: integer dots of R rows × 16 outputs, offsets already off.  A dot of unsigned by
 * signed bytes adds four products to an int32: no step in int16.  Signed codes are lifted by 128
 * and the lift is an offset like others. */
INLINE void block_dots(enum tensor_type type, const int R, vi dot[][PARTS], const uint8_t *planes,
                       const struct block_scales s[PARTS], const int8_t *const *q,
                       const int16_t *const *sum16, const int32_t start[][LANES], uint32_t b)
{
    const int lift = is_signed_code(type) ? LIFT : 0;
    const vi offset = vi_set1_16((short)-whole_offset_of(type));
    vi second[ROWS_AT_ONCE][PARTS]; /* 16s only: dots of k = 16 … 31 */
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int h = 0; h < PARTS; h++) {
            second[r][h] = dot[r][h] = vi_zero();
            if (whole_offset_of(type) != 0 && !has_sixteens(type))
                dot[r][h] = vi_set1_32(start[r][b % LANES]);
        }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        const int g = group_at(type, i);
#pragma GCC unroll 2
        for (int h = 0; h < PARTS; h++) {
            const vi c = codes_at(type, planes, g, h, lift);
#pragma GCC unroll 8
            for (int r = 0; r < R; r++) {
                const vi x = quad_at(q[r] + b * ACT_BLOCK + (size_t)g * 4);
                if (has_sixteens(type) && g >= 4)
                    second[r][h] = vi_dot_bytes(second[r][h], c, x);
                else
                    dot[r][h] = vi_dot_bytes(dot[r][h], c, x);
            }
        }
    }
    if (!has_sixteens(type))
        return;
#pragma GCC unroll 2
    for (int h = 0; h < PARTS; h++) {
        const vi sub[2] = {vi_srai32(vi_slli32(s[h].sub, 16), 16), vi_srai32(s[h].sub, 16)};
        const vi off = vi_mullo16(s[h].sub, offset);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            dot[r][h] = vi_add32(vi_mullo32(dot[r][h], sub[0]), vi_mullo32(second[r][h], sub[1]));
            if (offset_of(type) != 0)
                dot[r][h] = vi_dot_words(dot[r][h], off, quad_at(sum16[r] + (size_t)b * 2));
        }
    }
}
#else
/* One block of 32: integer dots of R rows × 16 outputs, offsets already off. */
INLINE void block_dots(enum tensor_type type, const int R, vi dot[][PARTS], const uint8_t *planes,
                       const struct block_scales s[PARTS], const int8_t *const *q,
                       const int16_t *const *sum16, const int32_t start[][LANES], uint32_t b)
{
    const int adds = adds_of(type);
    vi part[ROWS_AT_ONCE][PARTS];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        const int g = group_at(type, i);
        vi c[PARTS], a[PARTS];
#pragma GCC unroll 2
        for (int h = 0; h < PARTS; h++) {
            c[h] = codes_at(type, planes, g, h, 0);
            a[h] = is_signed_code(type) ? vi_abs8(c[h]) : c[h];
        }
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            const vi x = quad_at(q[r] + b * ACT_BLOCK + (size_t)g * 4);
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
            const vi factor = has_sixteens(type) ? twice(s[h].sub, g >= 4) : vi_set1_16(1);
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
            if (!has_sixteens(type)) {
                dot[r][h] = vi_add32(dot[r][h], vi_set1_32(start[r][b % LANES]));
                continue;
            }
            const vi offset = vi_set1_16((short)offset_of(type));
            const vi off = vi_madd(quad_at(sum16[r] + (size_t)b * 2), vi_mullo16(s[h].sub, offset));
            dot[r][h] = vi_sub32(dot[r][h], off);
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

/* One row at a time reads as fast as memory gives, unasked: the prefetchers follow one run of
 * memory. With more rows the core is busy and would wait, so the first register tile of a tile asks
 * for what lies ahead (src/kernels/lab/README.md has the ladder). */
#define PREFETCH_BYTES 4096
INLINE void prefetch_block(enum tensor_type type, const uint8_t *planes)
{
    const int lines = (planes_size(type) + scales_size(type) + 63) / 64;
#pragma GCC unroll 9
    for (int i = 0; i < lines; i++)
        _mm_prefetch((const char *)planes + PREFETCH_BYTES + i * 64, _MM_HINT_T0);
}

INLINE void rows_of_tile(enum tensor_type type, const int R, float *y, size_t y_stride,
                         const struct kernel_tile *t, uint32_t row, bool is_first)
{
    const struct pack_layout *l = t->layout;
    const struct act_rows *x = t->x;
    const int8_t *q[ROWS_AT_ONCE];
    const int16_t *sum16[ROWS_AT_ONCE];
    const float *scale[ROWS_AT_ONCE], *scaled_sum[ROWS_AT_ONCE];
    vf acc[ROWS_AT_ONCE][PARTS];
    int32_t start[ROWS_AT_ONCE][LANES];
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
        const size_t at = row + (size_t)r;
        q[r] = x->q + at * x->n_in;
        sum16[r] = x->sum16 + at * l->n_blocks * 2;
        scale[r] = x->scale + at * l->n_blocks;
        scaled_sum[r] = x->scaled_sum + at * l->n_blocks;
#pragma GCC unroll 2
        for (int h = 0; h < PARTS; h++)
            acc[r][h] = vf_zero();
    }
    for (uint32_t b = 0; b < l->n_blocks; b++) {
        const uint8_t *planes = t->data + pack_block_at(l, b);
        const uint8_t *scales = planes + planes_size(type);
        const uint8_t *supers = t->data + pack_super_at(l, b);
        if (R > 1 && is_first)
            prefetch_block(type, planes);
        struct block_scales s[PARTS];
#pragma GCC unroll 2
        for (int h = 0; h < PARTS; h++)
            s[h] = scales_at(type, scales, supers, h);
        if (b % LANES == 0)
            starts_at(type, R, start, sum16, b, l->n_blocks);
        vi dot[ROWS_AT_ONCE][PARTS];
        block_dots(type, R, dot, planes, s, q, sum16, (const int32_t(*)[LANES])start, b);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++)
#pragma GCC unroll 2
            for (int h = 0; h < PARTS; h++)
                acc[r][h] = add_block(type, acc[r][h], dot[r][h], &s[h], scale[r][b],
                                      scaled_sum[r][b], sum16[r] + (size_t)b * 2);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int h = 0; h < PARTS; h++)
            vf_store(y + (row + (size_t)r) * y_stride + LANES * (size_t)h, acc[r][h]);
}

#define INTEGER_TILE_FN(name, type)                                                    \
    void ISA_NAME(tile_##name)(float *y, size_t y_stride, const struct kernel_tile *t, \
                               uint32_t row0, uint32_t row1)                           \
    {                                                                                  \
        uint32_t row = row0;                                                           \
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
