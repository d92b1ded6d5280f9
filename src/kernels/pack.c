/* SPDX-License-Identifier: MIT
 * pack.c — GGUF rows → tiles of 16 interleaved rows.  The format is drawn in docs/numerics.md §3.
 * For each row and block of 32 a reader gives codes (unsigned where the kernels take an offset off
 * the integer dot) and the bytes of its scales as they are stored; everything else is placement. */
#include "kernels/kernels_int.h"

#include <string.h>

const int8_t codebook_iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                 1,    13,   25,  38,  53,  69,  89,  113};
const int8_t codebook_mxfp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

#define SUPER 256u /* weights of a K-quant super-block */

/* ---- formats ---- */
static const struct pack_format formats[] = {
    {TYPE_F32, PLANE_FLOATS, 0, 0, 2048},
    {TYPE_F16, PLANE_HALVES, 0, 0, 1024},
    {TYPE_BF16, PLANE_HALVES, 0, 0, 1024},
    {TYPE_Q4_0, PLANE_NIBBLES, 2, 0, 256},
    {TYPE_Q4_1, PLANE_NIBBLES, 4, 0, 256},
    {TYPE_Q5_0, PLANE_NIBBLES | PLANE_BITS, 2, 0, 320},
    {TYPE_Q5_1, PLANE_NIBBLES | PLANE_BITS, 4, 0, 320},
    {TYPE_Q8_0, PLANE_BYTES, 2, 0, 512},
    {TYPE_Q2_K, PLANE_PAIRS, 2, 4, 128},
    {TYPE_Q3_K, PLANE_PAIRS | PLANE_BITS, 2, 2, 192},
    {TYPE_Q4_K, PLANE_NIBBLES, 2, 4, 256},
    {TYPE_Q5_K, PLANE_NIBBLES | PLANE_BITS, 2, 4, 320},
    {TYPE_Q6_K, PLANE_NIBBLES | PLANE_PAIRS, 2, 2, 384},
    {TYPE_IQ4_NL, PLANE_NIBBLES, 2, 0, 256},
    {TYPE_IQ4_XS, PLANE_NIBBLES, 1, 2, 256},
    {TYPE_MXFP4, PLANE_NIBBLES, 2, 0, 256},
};

const struct pack_format *pack_format_of(enum tensor_type type, enum activations activations)
{
    const struct tensor_type_info *info = tensor_type_info((uint32_t)type);
    if (info == NULL)
        return NULL;
    if (activations == ACTIVATIONS_F32 && info->is_quantized)
        return &formats[0];
    for (size_t i = 0; i < ARRAY_COUNT(formats); i++)
        if (formats[i].type == type)
            return &formats[i];
    return NULL;
}

static size_t round_up_64(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

/* n_in need not be a multiple of 32 for float planes: the last block is then cut short. */
struct pack_layout pack_layout_of(const struct pack_format *f, uint32_t n_in)
{
    struct pack_layout l = {.n_blocks = (n_in + ACT_BLOCK - 1) / ACT_BLOCK,
                            .plane_bytes = f->plane_bytes,
                            .block_bytes = f->plane_bytes + (size_t)f->scale_bytes * TILE_ROWS,
                            .super_bytes = (size_t)f->super_bytes * TILE_ROWS};
    if (f->planes & (PLANE_FLOATS | PLANE_HALVES))
        l.tile_bytes = round_up_64(l.plane_bytes / ACT_BLOCK * n_in);
    else
        l.tile_bytes = round_up_64(pack_block_at(&l, l.n_blocks - 1) + l.block_bytes);
    return l;
}

uint32_t packed_tiles(uint32_t n_out)
{
    return n_out / TILE_ROWS + (n_out % TILE_ROWS != 0);
}

bool packed_needs_q8(enum tensor_type type, enum activations activations)
{
    const struct tensor_type_info *info = tensor_type_info((uint32_t)type);
    return info != NULL && info->is_quantized && activations == ACTIVATIONS_Q8;
}

uint64_t packed_bytes(enum tensor_type type, enum activations activations, uint32_t n_out,
                      uint32_t n_in)
{
    const struct pack_format *f = pack_format_of(type, activations);
    if (f == NULL || n_in == 0 || n_out == 0 ||
        n_in % tensor_type_info((uint32_t)type)->block_elements != 0)
        return 0;
    return (uint64_t)packed_tiles(n_out) * pack_layout_of(f, n_in).tile_bytes;
}

/* ---- readers: one row, one block of 32 ---- */
struct row_block {
    uint8_t code[ACT_BLOCK]; /* k ascending */
    uint8_t scale[4];        /* format.scale_bytes of it are stored */
    uint8_t super[4]; /* format.super_bytes of it, the same for all blocks of a super-block */
};

/* Nibbles of 16 bytes: the low ones are k = 0..15, the high ones 16..31. */
static void read_nibbles(struct row_block *o, const uint8_t *qs)
{
    for (int i = 0; i < 16; i++) {
        o->code[i] = qs[i] & 15;
        o->code[i + 16] = qs[i] >> 4;
    }
}

static void read_fifth_bits(struct row_block *o, const uint8_t *qh)
{
    for (int i = 0; i < 32; i++)
        o->code[i] = (uint8_t)(o->code[i] | ((qh[i / 8] >> (i % 8)) & 1) << 4);
}

static void read_simple(struct row_block *o, const uint8_t *s, enum tensor_type type)
{
    switch (type) {
    case TYPE_Q4_0: /* d, qs[16] */
    case TYPE_IQ4_NL:
        memcpy(o->scale, s, 2);
        read_nibbles(o, s + 2);
        break;
    case TYPE_Q4_1: /* d, m, qs[16] */
        memcpy(o->scale, s, 4);
        read_nibbles(o, s + 4);
        break;
    case TYPE_Q5_0: /* d, qh[4], qs[16] */
        memcpy(o->scale, s, 2);
        read_nibbles(o, s + 6);
        read_fifth_bits(o, s + 2);
        break;
    case TYPE_Q5_1: /* d, m, qh[4], qs[16] */
        memcpy(o->scale, s, 4);
        read_nibbles(o, s + 8);
        read_fifth_bits(o, s + 4);
        break;
    case TYPE_Q8_0: /* d, qs[32] */
        memcpy(o->scale, s, 2);
        memcpy(o->code, s + 2, 32);
        break;
    case TYPE_MXFP4: { /* e, qs[16]; the scale 2^(e − 128) is stored as bfloat16, which holds it */
        const uint8_t e = s[0];
        const uint32_t high = e < 2 ? 0x20u << e : (e - 1u) << 7;
        const uint16_t bits = (uint16_t)high;
        memcpy(o->scale, &bits, 2);
        read_nibbles(o, s + 1);
        break;
    }
    default:
        CHECK(false);
    }
}

/* Six-bit scale and minimum of sub-block j out of twelve bytes (Q4_K, Q5_K). */
static void read_scale_min(struct row_block *o, const uint8_t *q, uint32_t j)
{
    if (j < 4) {
        o->scale[0] = q[j] & 63;
        o->scale[1] = q[j + 4] & 63;
    } else {
        o->scale[0] = (uint8_t)((q[j + 4] & 15) | (q[j - 4] >> 6) << 4);
        o->scale[1] = (uint8_t)((q[j + 4] >> 4) | (q[j] >> 6) << 4);
    }
}

static void read_q4_k(struct row_block *o, const uint8_t *s, uint32_t j, bool five_bits)
{
    memcpy(o->super, s, 4); /* d, dmin */
    read_scale_min(o, s + 4, j);
    const uint8_t *qh = s + 16;
    const uint8_t *qs = s + (five_bits ? 48 : 16) + j / 2 * 32;
    for (int i = 0; i < 32; i++) {
        o->code[i] = j % 2 == 0 ? qs[i] & 15 : qs[i] >> 4;
        if (five_bits)
            o->code[i] = (uint8_t)(o->code[i] | ((qh[i] >> j) & 1) << 4);
    }
}

static void read_q2_k(struct row_block *o, const uint8_t *s, uint32_t j)
{
    memcpy(o->scale, s + 2 * j, 2); /* scale | min << 4 of the two 16s */
    const uint8_t *qs = s + 16 + j / 4 * 32;
    for (int i = 0; i < 32; i++)
        o->code[i] = (qs[i] >> (2 * (j % 4))) & 3;
    memcpy(o->super, s + 80, 4);
}

static void read_q3_k(struct row_block *o, const uint8_t *s, uint32_t j)
{
    const uint8_t *hmask = s, *qs = s + 32 + j / 4 * 32, *sc = s + 96;
    for (int i = 0; i < 32; i++)
        o->code[i] = (uint8_t)(((qs[i] >> (2 * (j % 4))) & 3) | ((hmask[i] >> j) & 1) << 2);
    for (uint32_t h = 0; h < 2; h++) { /* sixteen 6-bit scales: 8 bytes of nibbles, 4 of pairs */
        const uint32_t i = 2 * j + h;
        const uint32_t low = i < 8 ? sc[i] & 15u : sc[i - 8] >> 4;
        const uint32_t high = (sc[8 + i % 4] >> (2 * (i / 4))) & 3u;
        o->scale[h] = (uint8_t)(int8_t)((int32_t)(low | high << 4) - 32);
    }
    memcpy(o->super, s + 108, 2);
}

static void read_q6_k(struct row_block *o, const uint8_t *s, uint32_t j)
{
    const uint32_t half = j / 4, quarter = j % 4; /* 128 weights; 32 of them */
    const uint8_t *ql = s + half * 64 + (quarter % 2) * 32, *qh = s + 128 + half * 32;
    for (int i = 0; i < 32; i++)
        o->code[i] = (uint8_t)((quarter < 2 ? ql[i] & 15 : ql[i] >> 4) |
                               ((qh[i] >> (2 * quarter)) & 3) << 4);
    memcpy(o->scale, s + 192 + 2 * j, 2);
    memcpy(o->super, s + 208, 2);
}

static void read_iq4_xs(struct row_block *o, const uint8_t *s, uint32_t j)
{
    memcpy(o->super, s, 2);
    const uint32_t high = ((uint32_t)s[2] | (uint32_t)s[3] << 8) >> (2 * j) & 3u;
    const uint32_t low = (uint32_t)(s[4 + j / 2] >> (4 * (j % 2))) & 15u;
    o->scale[0] = (uint8_t)(int8_t)((int32_t)(low | high << 4) - 32);
    read_nibbles(o, s + 8 + 16 * j);
}

static void read_block(struct row_block *o, const struct tensor_type_info *info, const uint8_t *row,
                       uint32_t block)
{
    if (info->block_elements == ACT_BLOCK) {
        read_simple(o, row + (size_t)block * info->block_bytes, info->type);
        return;
    }
    const uint8_t *s = row + (size_t)(block / 8) * info->block_bytes;
    const uint32_t j = block % 8;
    switch (info->type) {
    case TYPE_Q2_K:
        read_q2_k(o, s, j);
        break;
    case TYPE_Q3_K:
        read_q3_k(o, s, j);
        break;
    case TYPE_Q4_K:
        read_q4_k(o, s, j, false);
        break;
    case TYPE_Q5_K:
        read_q4_k(o, s, j, true);
        break;
    case TYPE_Q6_K:
        read_q6_k(o, s, j);
        break;
    case TYPE_IQ4_XS:
        read_iq4_xs(o, s, j);
        break;
    default:
        CHECK(false);
    }
}

/* ---- placement ---- */
static void put_group(uint8_t *vector, uint32_t row, uint32_t four_bytes)
{
    memcpy(vector + (size_t)row * 4, &four_bytes, 4);
}

/* Planes take bits of the codes from the lowest: nibbles 4, then pairs 2 or bits 1.  Four codes at
 * a time as the bytes of a word: no shift carries a bit into a neighbour that is not masked off. */
static void put_codes(uint8_t *p, uint8_t set, uint32_t row, const uint8_t *code)
{
    uint32_t c[8];
    memcpy(c, code, sizeof c);
    if (set & PLANE_BYTES)
        for (uint32_t g = 0; g < 8; g++)
            put_group(p + g * 64, row, c[g]);
    uint32_t from = 0;
    if (set & PLANE_NIBBLES) {
        for (uint32_t g = 0; g < 4; g++)
            put_group(p + g * 64, row, (c[g] & 0x0f0f0f0fu) | (c[g + 4] & 0x0f0f0f0fu) << 4);
        p += 256;
        from = 4;
    }
    if (set & PLANE_PAIRS) {
        for (uint32_t v = 0; v < 2; v++) {
            uint32_t all = 0;
            for (uint32_t i = 0; i < 4; i++)
                all |= ((c[v + 2 * i] >> from) & 0x03030303u) << (2 * i);
            put_group(p + v * 64, row, all);
        }
        p += 128;
        from += 2;
    }
    if (set & PLANE_BITS) {
        uint32_t all = 0;
        for (uint32_t g = 0; g < 8; g++)
            all |= ((c[g] >> from) & 0x01010101u) << g;
        put_group(p, row, all);
    }
}

/* Scales of two 16-bit values: 16 rows of the first, then 16 of the second; scales of bytes: for
 * K-quants with 32-wide sub-blocks the same, for 16-wide ones the two bytes of a row side by side
 * (a lane's int16 pair after one widening). */
static void put_scales(uint8_t *dst, const uint8_t *src, uint32_t bytes, uint32_t unit,
                       uint32_t row)
{
    for (uint32_t at = 0; at < bytes; at += unit)
        memcpy(dst + at * TILE_ROWS + row * unit, src + at, unit);
}

static uint32_t scale_unit(enum tensor_type type)
{
    return type == TYPE_Q4_K || type == TYPE_Q5_K || type == TYPE_IQ4_XS ? 1 : 2;
}

static void fill_quantized(uint8_t *tile, const struct pack_format *f, const struct pack_layout *l,
                           const uint8_t *row, uint32_t lane)
{
    const struct tensor_type_info *info = tensor_type_info((uint32_t)f->type);
    struct row_block o;
    for (uint32_t b = 0; b < l->n_blocks; b++) {
        memset(&o, 0, sizeof o);
        read_block(&o, info, row, b);
        uint8_t *planes = tile + pack_block_at(l, b);
        put_codes(planes, f->planes, lane, o.code);
        put_scales(planes + l->plane_bytes, o.scale, f->scale_bytes, scale_unit(f->type), lane);
        if (f->super_bytes != 0 && b % 8 == 0)
            put_scales(tile + pack_super_at(l, b), o.super, f->super_bytes, 2, lane);
    }
}

/* f32 of one row, by pieces that are multiples of every block. */
static void fill_floats(float *tile, enum tensor_type type, const uint8_t *row, uint32_t n_in,
                        uint32_t lane)
{
    const struct tensor_type_info *info = tensor_type_info((uint32_t)type);
    float piece[SUPER];
    for (uint32_t k = 0; k < n_in; k += SUPER) {
        const uint32_t n = n_in - k < SUPER ? n_in - k : SUPER;
        tensor_dequantize(type, row + (size_t)k / info->block_elements * info->block_bytes, piece,
                          n);
        for (uint32_t i = 0; i < n; i++)
            tile[(size_t)(k + i) * TILE_ROWS + lane] = piece[i];
    }
}

static void fill_halves(uint16_t *tile, const uint8_t *row, uint32_t n_in, uint32_t lane)
{
    for (uint32_t k = 0; k < n_in; k++)
        memcpy(&tile[(size_t)k * TILE_ROWS + lane], row + 2 * (size_t)k, 2);
}

void packed_fill(void *dst, const void *src, enum tensor_type type, enum activations activations,
                 uint32_t n_out, uint32_t n_in, uint32_t tile0, uint32_t tile1)
{
    const struct pack_format *f = pack_format_of(type, activations);
    CHECK(f != NULL && tile0 <= tile1 && tile1 <= packed_tiles(n_out));
    const struct pack_layout l = pack_layout_of(f, n_in);
    const size_t row_bytes = (size_t)tensor_row_bytes(type, n_in);
    for (uint32_t t = tile0; t < tile1; t++) {
        uint8_t *tile = (uint8_t *)dst + t * l.tile_bytes;
        memset(tile, 0, l.tile_bytes);
        for (uint32_t lane = 0; lane < TILE_ROWS && t * TILE_ROWS + lane < n_out; lane++) {
            const uint8_t *row = (const uint8_t *)src + (size_t)(t * TILE_ROWS + lane) * row_bytes;
            if (f->planes & PLANE_FLOATS)
                fill_floats((float *)(void *)tile, type, row, n_in, lane);
            else if (f->planes & PLANE_HALVES)
                fill_halves((uint16_t *)(void *)tile, row, n_in, lane);
            else
                fill_quantized(tile, f, &l, row, lane);
        }
    }
}
