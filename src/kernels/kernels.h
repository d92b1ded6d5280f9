/* SPDX-License-Identifier: MIT
 * kernels.h — the arithmetic of a forward pass, once as plain C (ref/) that *defines* the numerics
 * (docs/numerics.md), and per instruction set, equal to it bit for bit.
 * For:     model, sampler.   Not for: knowing layers, sequences, pages of a store.
 * Order of operations: lanes are outputs; every output adds along k in ascending order, in
 *          matrix×vector as in matrix×matrix, whatever the thread count, chunk or batch.
 * Memory:  no kernel allocates.  Pointers do not alias unless said.  All arrays 64-byte aligned
 *          where a shape's row is a multiple of 16 floats; kernels still accept any alignment.
 * Thread:  pure functions; the caller splits the work by rows, tiles, heads. */
#ifndef KVASIR_KERNELS_KERNELS_H
#define KVASIR_KERNELS_KERNELS_H

#include "base/status.h"
#include "tensor/tensor.h"

/* Raised whenever the bits of any logit may change; part of the root of all page keys. */
#define NUMERICS_VERSION 1u

/* Raised whenever packed_fill writes other bytes than before (tests/unit/kernels/pack_test.c): side
 * files of repacked weights are then made again. */
#define PACKED_VERSION 1u

#define TILE_ROWS           16u  /* output rows interleaved in packed weights */
#define ACT_BLOCK           32u  /* activations per 8-bit scale */
#define KV_PAGE_TOKENS      64u  /* tokens of one KV page: lanes = keys */
#define KV_PARTITION_TOKENS 512u /* attention partitions, aligned to absolute positions */
#define KV_BLOCK            32u  /* dimensions per scale of a quantized KV type */

/* In the order of preference; X(id, name as options and logs have it). */
#define ISA_LIST(X)                                                            \
    X(ISA_AUTO, "auto")                                                        \
    X(ISA_REF, "ref")                                                          \
    X(ISA_AVX2, "avx2")                                                        \
    X(ISA_AVX2_VNNI, "avx2-vnni") /* AVX-VNNI: 256-bit dots without AVX-512 */ \
    X(ISA_AVX512, "avx512")                                                    \
    X(ISA_AVX512_VNNI, "avx512-vnni")
#define ISA_ID(id, name) id,
enum isa { ISA_LIST(ISA_ID) ISA_COUNT };
#undef ISA_ID
/* Part of the root of all page keys: never renumbered. */
enum kv_type { KV_F16, KV_F32, KV_Q8_0, KV_Q4 };
enum activations { ACTIVATIONS_Q8, ACTIVATIONS_F32 };

/* ---- weights ---- */
/* A matrix W[n_out, n_in] repacked: groups of TILE_ROWS rows interleaved along k (rows beyond n_out
 * are zero), scales beside them.  The format depends on type and activations, not on the ISA. */
struct packed {
    enum tensor_type type;
    enum activations activations;
    uint32_t n_out, n_in;
    const void *data;
};
/* Bytes of the packed form; 0 when the pair cannot be packed (n_in not a multiple of the block). */
uint64_t packed_bytes(enum tensor_type type, enum activations activations, uint32_t n_out,
                      uint32_t n_in);
uint32_t packed_tiles(uint32_t n_out); /* ceil(n_out / TILE_ROWS) */
/* Packs tiles [tile0, tile1) from the rows at src (whole matrix, GGUF layout) into dst (whole). */
void packed_fill(void *dst, const void *src, enum tensor_type type, enum activations activations,
                 uint32_t n_out, uint32_t n_in, uint32_t tile0, uint32_t tile1);

/* ---- activations ---- */
/* n_rows rows of n_in values, as matmul reads them.  The f32 values are always there; the q8 part
 * only where some weight needs it (quantized type and ACTIVATIONS_Q8; n_in % ACT_BLOCK == 0). */
struct act_rows {
    uint32_t n_rows, n_in;
    const float *f32;  /* [n_rows][n_in] */
    int8_t *q;         /* [n_rows][n_in], −127..127 */
    float *scale;      /* [n_rows][n_in / 32]: amax / 127 */
    float *scaled_sum; /* [n_rows][n_in / 32]: scale × Σ q, rounded once */
    int16_t *sum16;    /* [n_rows][n_in / 16]: Σ q over 16, exact */
};
/* True when matmul with this weight reads the q8 part. */
bool packed_needs_q8(enum tensor_type type, enum activations activations);

enum rope_style {
    ROPE_PAIRS,  /* rotates (2i, 2i+1): llama-architecture GGUFs */
    ROPE_HALVES, /* rotates (i, i + n_rot/2): NeoX; gemma, qwen */
};

/* ---- K and V of a page ---- */
/* One layer's K or V of 64 tokens: for each KV head one or two planes, a plane is
 * [n_rows][64][unit_bytes]: what a token owns is a unit in every row.
 *             K                          V
 *   f16, f32  [head_dim][64] values      [64][head_dim] values
 *   q8_0      [head_dim][64] codes       [64][head_dim] codes
 *   q4        as q8_0                    [64][head_dim / 2] bytes of two codes
 * So a lane of a K vector is a key, a lane of a V vector is a dimension.  In the quantized types
 * rotated vectors are kept (struct kernels, rotate); behind a head's codes lies its second plane,
 * [head_dim / 32][64] scales in f16.  q4 keeps K in 8 bits: an error of K moves all that a query
 * sees (docs/numerics.md §7). */
struct kv_plane {
    uint32_t n_rows, unit_bytes;
};
/* The planes of a KV head, in order; returns how many. */
uint32_t kv_planes(enum kv_type type, bool is_v, uint32_t head_dim, struct kv_plane planes[2]);
size_t kv_head_bytes(enum kv_type type, bool is_v, uint32_t head_dim); /* of one KV head */
bool kv_type_fits(enum kv_type type, uint32_t head_dim); /* else no kernel takes the pair */
const char *kv_type_name(enum kv_type type);             /* "q8_0" */
static inline bool kv_is_quantized(enum kv_type type)
{
    return type == KV_Q8_0 || type == KV_Q4;
}

/* What attention reads of one sequence in one layer. */
struct attention_kv {
    enum kv_type type;
    uint32_t n_kv_heads, head_dim;
    const void *const *k; /* k[i]: this layer's K chunk of page first_page + i */
    const void *const *v;
    uint32_t
        first_page; /* absolute position / 64 of k[0]; pages before it are outside the window */
};
/* Consecutive tokens of one sequence: token t sits at position first_position + t and sees keys
 * max(0, position − window + 1) … position (window 0: all).  q has its scale and position, and for
 * quantized KV it is rotated. */
struct attention_queries {
    const float *q;   /* token t, head h at q + t × q_stride + h × head_dim */
    size_t q_stride;  /* floats between tokens */
    uint32_t n_heads; /* query heads; head h reads KV head h / (n_heads / n_kv_heads) */
    uint32_t first_position;
    uint32_t window;
};
/* A tile: tokens [token0, token0 + n_tokens) of one KV head's group of query heads. */
#define ATTENTION_TILE_TOKENS_MAX 16u
struct attention_tile {
    uint32_t kv_head, token0, n_tokens;
};
/* Floats of the state of a tile: for each (token, query head of the group): max, sum,
 * acc[head_dim].*/
size_t attention_state_floats(uint32_t n_tokens, uint32_t heads_per_group, uint32_t head_dim);
size_t attention_scratch_floats(uint32_t head_dim);

struct kernels {
    const char *name;
    enum isa isa;

    /* Fills q, scale, scaled_sum, sum16 of row `row` from f32. */
    void (*quantize_row)(const struct act_rows *x, uint32_t row);
    /* y[r][o] = Σ_k x[r][k] W[o][k] for rows [row0, row1) and o in tiles [tile0, tile1) (rows of W
     * beyond n_out are not written).  Row r of y starts at y + r × y_stride. */
    void (*matmul)(float *y, size_t y_stride, const struct act_rows *x, uint32_t row0,
                   uint32_t row1, const struct packed *w, uint32_t tile0, uint32_t tile1);
    /* y = x / sqrt(mean(x²) + eps) × w;  y may be x.  n % 16 == 0 not required. */
    void (*rms_norm)(float *y, const float *x, const float *w, uint32_t n, float eps);
    void (*add)(float *y, const float *x, uint32_t n); /* y += x */
    void (*scale)(float *y, float factor, uint32_t n); /* y *= factor */
    void (*silu_mul)(float *y, const float *gate, const float *up,
                     uint32_t n); /* y may be either */
    void (*gelu_mul)(float *y, const float *gate, const float *up, uint32_t n); /* tanh form */
    /* Rotates the first n_rot dimensions of each head in place; cos_sin: [n_rot/2] pairs. */
    void (*rope)(float *x, uint32_t n_heads, uint32_t head_dim, uint32_t n_rot,
                 const float *cos_sin, enum rope_style style);
    /* Hadamard rotation of each head in place, its own inverse: spreads what is large over all
     * dimensions before K and V are quantized.  q, k, v on the way in, the output on the way out.
     */
    void (*rotate)(float *x, uint32_t n_heads, uint32_t head_dim);
    /* Rounds k, v [n_kv_heads][head_dim] to the KV type into slot (position % 64) of the chunks. */
    void (*kv_write)(enum kv_type type, uint32_t n_kv_heads, uint32_t head_dim, void *k_chunk,
                     void *v_chunk, uint32_t slot, const float *k, const float *v);
    /* Overwrites state with what the tile's queries see in one partition of KV_PARTITION_TOKENS
     * positions (partition p = positions [512 p, 512 p + 512)); nothing visible: max −inf, sum 0.
     */
    void (*attention_partial)(float *state, const struct attention_queries *q,
                              const struct attention_kv *kv, struct attention_tile tile,
                              uint32_t partition, float *scratch);
    /* state ⊕= later; left fold in ascending partitions gives the defined result. */
    void (*attention_fold)(float *state, const float *later, uint32_t n_rows, uint32_t head_dim);
    /* out of (token t, head h) at out + t × out_stride + h × head_dim = acc / sum. */
    void (*attention_finish)(float *out, size_t out_stride, const float *state,
                             struct attention_tile tile, uint32_t heads_per_group,
                             uint32_t head_dim);
    /* max and Σ exp(x − max) by the fixed tree; for log-probabilities. */
    void (*max_sum_exp)(const float *x, uint32_t n, float *max, float *sum);
    uint32_t (*argmax)(const float *x, uint32_t n); /* the first of equals */
};

/* ISA_AUTO: the last of the list that this CPU has.  A forced one that the CPU lacks:
 * E_UNSUPPORTED. */
NODISCARD enum status kernels_select(enum isa isa, const struct kernels **out, struct err *e);
const char *isa_name(enum isa isa);

/* cos_sin [n_rot/2] pairs for one position: angle = position × freq[i]; own polynomials in double,
 * the same everywhere.  freqs: from kernels_rope_freqs. */
void kernels_rope_angles(float *cos_sin, const double *freqs, uint32_t n_rot, uint32_t position);
/* freqs[i] = base^(−2i/n_rot) / factors[i] (factors NULL: 1) × scale. */
void kernels_rope_freqs(double *freqs, uint32_t n_rot, double base, const float *factors,
                        double scale);

#endif
