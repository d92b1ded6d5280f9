/* SPDX-License-Identifier: MIT
 * plain_width.h — the part of plain.h that is the same in 128, 256 and 512 bits.  Included once a
 * width with BITS, OP, OP_BITS, FLOATS, INTS defined. */
#define PASTE_(a, b) a##b
#define PASTE(a, b)  PASTE_(a, b)
#define I8           PASTE(plain_i8_, BITS)
#define U8           PASTE(plain_u8_, BITS)
#define I16          PASTE(plain_i16_, BITS)
#define U16          PASTE(plain_u16_, BITS)
#define I32          PASTE(plain_i32_, BITS)
#define U32          PASTE(plain_u32_, BITS)
#define BYTES        (BITS / 8)
#define LANES_OF(t)  (BYTES / (int)sizeof(t))

typedef float FLOATS __attribute__((vector_size(BYTES)));
typedef long long INTS __attribute__((vector_size(BYTES)));
typedef int8_t I8 __attribute__((vector_size(BYTES)));
typedef uint8_t U8 __attribute__((vector_size(BYTES)));
typedef int16_t I16 __attribute__((vector_size(BYTES)));
typedef uint16_t U16 __attribute__((vector_size(BYTES)));
typedef int32_t I32 __attribute__((vector_size(BYTES)));
typedef uint32_t U32 __attribute__((vector_size(BYTES)));

/* ---- memory and constants ---- */
PLAIN FLOATS OP(setzero_ps)(void)
{
    return (FLOATS){0};
}
PLAIN INTS OP_BITS(setzero)(void)
{
    return (INTS){0};
}
PLAIN FLOATS OP(loadu_ps)(const void *p)
{
    FLOATS v;
    memcpy(&v, p, BYTES);
    return v;
}
PLAIN void OP(storeu_ps)(void *p, FLOATS v)
{
    memcpy(p, &v, BYTES);
}
PLAIN INTS OP_BITS(loadu)(const void *p)
{
    INTS v;
    memcpy(&v, p, BYTES);
    return v;
}
PLAIN void OP_BITS(storeu)(void *p, INTS v)
{
    memcpy(p, &v, BYTES);
}
PLAIN FLOATS OP(set1_ps)(float x)
{
    FLOATS v;
    for (int i = 0; i < LANES_OF(float); i++)
        v[i] = x;
    return v;
}
PLAIN INTS OP(set1_epi8)(int x)
{
    I8 v;
    for (int i = 0; i < BYTES; i++)
        v[i] = (int8_t)x;
    return (INTS)v;
}
PLAIN INTS OP(set1_epi16)(int x)
{
    I16 v;
    for (int i = 0; i < LANES_OF(int16_t); i++)
        v[i] = (int16_t)x;
    return (INTS)v;
}
PLAIN INTS OP(set1_epi32)(int32_t x)
{
    I32 v;
    for (int i = 0; i < LANES_OF(int32_t); i++)
        v[i] = x;
    return (INTS)v;
}
PLAIN float OP(cvtss_f32)(FLOATS v)
{
    return v[0];
}

/* ---- floats ---- */
PLAIN FLOATS OP(add_ps)(FLOATS a, FLOATS b)
{
    return a + b;
}
PLAIN FLOATS OP(sub_ps)(FLOATS a, FLOATS b)
{
    return a - b;
}
PLAIN FLOATS OP(mul_ps)(FLOATS a, FLOATS b)
{
    return a * b;
}
PLAIN FLOATS OP(div_ps)(FLOATS a, FLOATS b)
{
    return a / b;
}
PLAIN FLOATS OP(fmadd_ps)(FLOATS a, FLOATS b, FLOATS c)
{
    for (int i = 0; i < LANES_OF(float); i++)
        c[i] = fmaf(a[i], b[i], c[i]);
    return c;
}
PLAIN FLOATS OP(fnmadd_ps)(FLOATS a, FLOATS b, FLOATS c)
{
    return OP(fmadd_ps)(-a, b, c);
}
/* b where either is NaN. */
PLAIN FLOATS OP(max_ps)(FLOATS a, FLOATS b)
{
    for (int i = 0; i < LANES_OF(float); i++)
        a[i] = a[i] > b[i] ? a[i] : b[i];
    return a;
}
PLAIN FLOATS OP(min_ps)(FLOATS a, FLOATS b)
{
    for (int i = 0; i < LANES_OF(float); i++)
        a[i] = a[i] < b[i] ? a[i] : b[i];
    return a;
}
PLAIN FLOATS OP(xor_ps)(FLOATS a, FLOATS b)
{
    return (FLOATS)((INTS)a ^ (INTS)b);
}
PLAIN FLOATS OP(cvtepi32_ps)(INTS v)
{
    FLOATS o;
    for (int i = 0; i < LANES_OF(float); i++)
        o[i] = (float)((I32)v)[i];
    return o;
}
PLAIN INTS OP(cvtps_epi32)(FLOATS v)
{
    I32 o;
    for (int i = 0; i < LANES_OF(float); i++)
        o[i] = plain_round(v[i]);
    return (INTS)o;
}
PLAIN FLOATS OP(moveldup_ps)(FLOATS v)
{
    for (int i = 0; i < LANES_OF(float); i += 2)
        v[i + 1] = v[i];
    return v;
}
PLAIN FLOATS OP(movehdup_ps)(FLOATS v)
{
    for (int i = 0; i < LANES_OF(float); i += 2)
        v[i] = v[i + 1];
    return v;
}
/* Within every four lanes: two from a, two from b. */
PLAIN FLOATS OP(shuffle_ps)(FLOATS a, FLOATS b, int order)
{
    FLOATS o;
    for (int i = 0; i < LANES_OF(float); i++) {
        const int from = i / 4 * 4 + ((order >> (2 * (i % 4))) & 3);
        o[i] = i % 4 < 2 ? a[from] : b[from];
    }
    return o;
}
PLAIN FLOATS OP(permute_ps)(FLOATS v, int order)
{
    return OP(shuffle_ps)(v, v, order);
}

/* ---- integers: sums wrap ---- */
PLAIN INTS OP_BITS (and)(INTS a, INTS b)
{
    return a & b;
}
PLAIN INTS OP_BITS(or)(INTS a, INTS b)
{
    return a | b;
}
PLAIN INTS OP_BITS (xor)(INTS a, INTS b)
{
    return a ^ b;
}
PLAIN INTS OP(add_epi8)(INTS a, INTS b)
{
    return (INTS)((U8)a + (U8)b);
}
PLAIN INTS OP(add_epi16)(INTS a, INTS b)
{
    return (INTS)((U16)a + (U16)b);
}
PLAIN INTS OP(add_epi32)(INTS a, INTS b)
{
    return (INTS)((U32)a + (U32)b);
}
PLAIN INTS OP(sub_epi32)(INTS a, INTS b)
{
    return (INTS)((U32)a - (U32)b);
}
PLAIN INTS OP(mullo_epi16)(INTS a, INTS b)
{
    U16 o;
    for (int i = 0; i < LANES_OF(int16_t); i++)
        o[i] = (uint16_t)((uint32_t)((U16)a)[i] * ((U16)b)[i]);
    return (INTS)o;
}
PLAIN INTS OP(mullo_epi32)(INTS a, INTS b)
{
    return (INTS)((U32)a * (U32)b);
}
PLAIN INTS OP(max_epi32)(INTS a, INTS b)
{
    I32 o;
    for (int i = 0; i < LANES_OF(int32_t); i++)
        o[i] = ((I32)a)[i] > ((I32)b)[i] ? ((I32)a)[i] : ((I32)b)[i];
    return (INTS)o;
}
PLAIN INTS OP(cmpgt_epi32)(INTS a, INTS b)
{
    return (INTS)((I32)a > (I32)b);
}
PLAIN INTS OP(abs_epi8)(INTS v)
{
    U8 o;
    for (int i = 0; i < BYTES; i++)
        o[i] = (uint8_t)(((I8)v)[i] < 0 ? -((I8)v)[i] : ((I8)v)[i]);
    return (INTS)o;
}
PLAIN INTS OP(sign_epi8)(INTS v, INTS s)
{
    I8 o;
    for (int i = 0; i < BYTES; i++)
        o[i] = (int8_t)(((I8)s)[i] < 0 ? -((I8)v)[i] : ((I8)s)[i] == 0 ? 0 : ((I8)v)[i]);
    return (INTS)o;
}
PLAIN INTS OP(slli_epi16)(INTS v, int n)
{
    return (INTS)((U16)v << n);
}
PLAIN INTS OP(srli_epi16)(INTS v, int n)
{
    return (INTS)((U16)v >> n);
}
PLAIN INTS OP(slli_epi32)(INTS v, int n)
{
    return (INTS)((U32)v << n);
}
PLAIN INTS OP(srli_epi32)(INTS v, int n)
{
    return (INTS)((U32)v >> n);
}
PLAIN INTS OP(srai_epi32)(INTS v, int n)
{
    return (INTS)((I32)v >> n);
}
/* Bytes of the same sixteen; zero where the index is negative. */
PLAIN INTS OP(shuffle_epi8)(INTS v, INTS index)
{
    U8 o;
    for (int i = 0; i < BYTES; i++) {
        const uint8_t at = ((U8)index)[i];
        o[i] = at & 0x80 ? 0 : ((U8)v)[i / 16 * 16 + (at & 15)];
    }
    return (INTS)o;
}

/* ---- products ---- */
PLAIN INTS OP(maddubs_epi16)(INTS a, INTS b)
{
    I16 o;
    for (int i = 0; i < LANES_OF(int16_t); i++)
        o[i] = plain_saturate(((U8)a)[2 * i] * ((I8)b)[2 * i] +
                              ((U8)a)[2 * i + 1] * ((I8)b)[2 * i + 1]);
    return (INTS)o;
}
PLAIN INTS OP(dpwssd_epi32)(INTS acc, INTS a, INTS b)
{
    U32 o = (U32)acc;
    for (int i = 0; i < LANES_OF(int32_t); i++)
        for (int j = 2 * i; j < 2 * i + 2; j++)
            o[i] += (uint32_t)(((I16)a)[j] * ((I16)b)[j]);
    return (INTS)o;
}
PLAIN INTS OP(madd_epi16)(INTS a, INTS b)
{
    return OP(dpwssd_epi32)(OP_BITS(setzero)(), a, b);
}
PLAIN INTS OP(dpbusd_epi32)(INTS acc, INTS a, INTS b)
{
    U32 o = (U32)acc;
    for (int i = 0; i < LANES_OF(int32_t); i++)
        for (int j = 4 * i; j < 4 * i + 4; j++)
            o[i] += (uint32_t)(((U8)a)[j] * ((I8)b)[j]);
    return (INTS)o;
}

#undef PASTE_
#undef PASTE
#undef I8
#undef U8
#undef I16
#undef U16
#undef I32
#undef U32
#undef BYTES
#undef LANES_OF
#undef BITS
#undef OP
#undef OP_BITS
#undef FLOATS
#undef INTS
