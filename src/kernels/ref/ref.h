/* SPDX-License-Identifier: MIT
 * ref.h — the plain C kernels that define the numerics.  Slow on purpose: each line is one rounding
 * that docs/numerics.md names.  fmaf is IEEE's fused multiply-add, in hardware or by libm. */
#ifndef KVASIR_KERNELS_REF_REF_H
#define KVASIR_KERNELS_REF_REF_H

#include "kernels/kernels_int.h"

float ref_exp(float x);

void ref_quantize_row(const struct act_rows *x, uint32_t row);
void ref_matmul(float *y, size_t y_stride, const struct act_rows *x, uint32_t row0, uint32_t row1,
                const struct packed *w, uint32_t tile0, uint32_t tile1);

void ref_rms_norm(float *y, const float *x, const float *w, uint32_t n, float eps);
void ref_add(float *y, const float *x, uint32_t n);
void ref_scale(float *y, float factor, uint32_t n);
void ref_silu_mul(float *y, const float *gate, const float *up, uint32_t n);
void ref_gelu_mul(float *y, const float *gate, const float *up, uint32_t n);
void ref_rope(float *x, uint32_t n_heads, uint32_t head_dim, uint32_t n_rot, const float *cos_sin,
              enum rope_style style);
void ref_max_sum_exp(const float *x, uint32_t n, float *max, float *sum);
uint32_t ref_argmax(const float *x, uint32_t n);

void ref_rotate(float *x, uint32_t n_heads, uint32_t head_dim);
void ref_kv_write(enum kv_type type, uint32_t n_kv_heads, uint32_t head_dim, void *k_chunk,
                  void *v_chunk, uint32_t slot, const float *k, const float *v);
void ref_attention_partial(float *state, const struct attention_queries *q,
                           const struct attention_kv *kv, struct attention_tile tile,
                           uint32_t partition, float *scratch);
void ref_attention_fold(float *state, const float *later, uint32_t n_rows, uint32_t head_dim);
void ref_attention_finish(float *out, size_t out_stride, const float *state,
                          struct attention_tile tile, uint32_t heads_per_group, uint32_t head_dim);

#endif
