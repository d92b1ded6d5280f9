/* SPDX-License-Identifier: MIT
 * x86.h — the kernels of one instruction set: inner door.  The bodies in this folder are written
 * over LANES lanes of vf (f32) and vi (integers); a set defines ISA_NAME, LANES, PARTS, the types
 * and the small vector functions (avx2/avx2.h, avx512/avx512.h), then includes a body per file, so
 * that sets differ in width but not in text.  ISA_NAME(x) is x with the set's prefix. */
INTEGER_TYPES(TILE_DECLARE)
FLOAT_TYPES(TILE_DECLARE)

void ISA_NAME(quantize_row)(const struct act_rows *x, uint32_t row);
void ISA_NAME(matmul)(float *y, size_t y_stride, const struct act_rows *x, uint32_t row0,
                      uint32_t row1, const struct packed *w, uint32_t tile0, uint32_t tile1);

void ISA_NAME(rms_norm)(float *y, const float *x, const float *w, uint32_t n, float eps);
void ISA_NAME(add)(float *y, const float *x, uint32_t n);
void ISA_NAME(scale)(float *y, float factor, uint32_t n);
void ISA_NAME(silu_mul)(float *y, const float *gate, const float *up, uint32_t n);
void ISA_NAME(gelu_mul)(float *y, const float *gate, const float *up, uint32_t n);
void ISA_NAME(rope)(float *x, uint32_t n_heads, uint32_t head_dim, uint32_t n_rot,
                    const float *cos_sin, enum rope_style style);
void ISA_NAME(max_sum_exp)(const float *x, uint32_t n, float *max, float *sum);
uint32_t ISA_NAME(argmax)(const float *x, uint32_t n);

void ISA_NAME(rotate)(float *x, uint32_t n_heads, uint32_t head_dim);
void ISA_NAME(kv_write)(enum kv_type type, uint32_t n_kv_heads, uint32_t head_dim, void *k_chunk,
                        void *v_chunk, uint32_t slot, const float *k, const float *v);
void ISA_NAME(attention_partial)(float *state, const struct attention_queries *q,
                                 const struct attention_kv *kv, struct attention_tile tile,
                                 uint32_t partition, float *scratch);
void ISA_NAME(attention_fold)(float *state, const float *later, uint32_t n_rows, uint32_t head_dim);
void ISA_NAME(attention_finish)(float *out, size_t out_stride, const float *state,
                                struct attention_tile tile, uint32_t heads_per_group,
                                uint32_t head_dim);

INLINE vi vi_set1_32(int32_t v);
/* The four bytes at p in every lane. */
INLINE vi quad_at(const void *p)
{
    int32_t v;
    memcpy(&v, p, 4);
    return vi_set1_32(v);
}
