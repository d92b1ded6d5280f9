/* SPDX-License-Identifier: MIT
 * model_int.h — the inner door: what a family says about itself (spec), what loading makes of it
 * (model), and the scratch of a step (workspace).
 *
 *   arch_*.c  metadata → struct model_spec      (which numbers, which tensors)
 *   weights.c spec + tensors → packed matrices  (repacked once, on the team)
 *   plan.c    batch → rows, tiles of queries    (who attends to what)
 *   forward.c spec + weights + plan → logits    (one function for all families)  */
#ifndef KVASIR_MODEL_MODEL_INT_H
#define KVASIR_MODEL_MODEL_INT_H

#include "model/model.h"

/* ---- tensors of a layer: enum name, GGUF name after "blk.N.", rows, columns ---- */
#define MODEL_MATRICES(X)                                                                          \
    X(M_Q, "attn_q.weight", DIM_Q, DIM_EMBD)                                                       \
    X(M_K, "attn_k.weight", DIM_KV, DIM_EMBD)                                                      \
    X(M_V, "attn_v.weight", DIM_KV, DIM_EMBD)                                                      \
    X(M_OUT, "attn_output.weight", DIM_EMBD, DIM_Q)                                                \
    X(M_GATE, "ffn_gate.weight", DIM_FF, DIM_EMBD)                                                 \
    X(M_UP, "ffn_up.weight", DIM_FF, DIM_EMBD)                                                     \
    X(M_DOWN, "ffn_down.weight", DIM_EMBD, DIM_FF)

#define MODEL_VECTORS(X)                                                                           \
    X(V_ATTN_NORM, "attn_norm.weight", DIM_EMBD)                                                   \
    X(V_Q_BIAS, "attn_q.bias", DIM_Q)                                                              \
    X(V_K_BIAS, "attn_k.bias", DIM_KV)                                                             \
    X(V_V_BIAS, "attn_v.bias", DIM_KV)                                                             \
    X(V_Q_NORM, "attn_q_norm.weight", DIM_HEAD)                                                    \
    X(V_K_NORM, "attn_k_norm.weight", DIM_HEAD)                                                    \
    X(V_OUT_BIAS, "attn_output.bias", DIM_EMBD)                                                    \
    X(V_POST_ATTN_NORM, "post_attention_norm.weight", DIM_EMBD)                                    \
    X(V_FFN_NORM, "ffn_norm.weight", DIM_EMBD)                                                     \
    X(V_GATE_BIAS, "ffn_gate.bias", DIM_FF)                                                        \
    X(V_UP_BIAS, "ffn_up.bias", DIM_FF)                                                            \
    X(V_DOWN_BIAS, "ffn_down.bias", DIM_EMBD)                                                      \
    X(V_POST_FFN_NORM, "post_ffw_norm.weight", DIM_EMBD)

enum model_dim { DIM_EMBD, DIM_Q, DIM_KV, DIM_FF, DIM_HEAD };
enum model_matrix {
#define MATRIX_ENUM(name, text, rows, columns) name,
    MODEL_MATRICES(MATRIX_ENUM)
#undef MATRIX_ENUM
        MATRIX_COUNT
};
enum model_vector {
#define VECTOR_ENUM(name, text, dim) name,
    MODEL_VECTORS(VECTOR_ENUM)
#undef VECTOR_ENUM
        VECTOR_COUNT
};
#define VECTOR_BIT(v) (1u << (v))

/* ---- what a family says ---- */
#define MODEL_ROPES_MAX 2u
/* Of positions (rope.scaling.factor) and of frequencies (rope_freqs.weight); published: 1 to 64. */
#define ROPE_FACTOR_MIN 0.01
#define ROPE_FACTOR_MAX 1e6

enum model_gate { GATE_SILU, GATE_GELU };

struct rope_spec {
    double base;
    double scale; /* of positions: 1 / rope.scaling.factor */
};

struct layer_spec {
    uint32_t window; /* 0: full attention */
    uint32_t rope;   /* index into ropes */
};

struct model_spec {
    const char *arch;
    uint32_t n_layers, n_embd, n_ff, n_heads, n_kv_heads, head_dim, n_rot, n_ctx_train;
    float norm_eps;
    float embedding_scale; /* 1: none */
    float attention_scale; /* of the scores; applied to q */
    enum model_gate gate;
    enum rope_style rope_style;
    uint32_t n_ropes;
    struct rope_spec ropes[MODEL_ROPES_MAX];
    bool may_have_rope_factors; /* rope_freqs.weight divides the frequencies of ropes[0] */
    uint32_t vectors_required, vectors_allowed; /* bits of enum model_vector; the rest is refused */
    struct layer_spec layers[MODEL_LAYERS_MAX];
};

/* ---- keys of one file, with a sticky first error ---- */
struct keys {
    const struct gguf *g;
    const char *arch;
    enum status st;
    struct err *e;
};
/* `name` is the key without "<arch>.".  Values outside min..max: E_INVALID by name.  After an error
 * every call returns its default (0 where the key is required). */
/* GGUF_ARRAY etc.; -1: not there. */
int keys_kind(const struct keys *k, const char *name);
bool keys_has(const struct keys *k, const char *name);
uint32_t keys_u32(struct keys *k, const char *name, uint32_t min, uint32_t max);
uint32_t keys_u32_or(struct keys *k, const char *name, uint32_t min, uint32_t max, uint32_t absent);
double keys_f64(struct keys *k, const char *name);
double keys_f64_or(struct keys *k, const char *name, double absent);
double keys_rope_base(struct keys *k, const char *name, double absent); /* in a sane range */
void keys_fail(struct keys *k, enum status st, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Reads what all families share: sizes, epsilon, context, rope dimensions, and refuses by name what
 * none of them implements (experts, soft caps, yarn, …).  Sets defaults: full attention, one rope,
 * no embedding scale, attention_scale 1/sqrt(head_dim). */
void keys_read_common(struct keys *k, struct model_spec *s);

void arch_gemma3(struct keys *k, struct model_spec *s);
void arch_llama(struct keys *k, struct model_spec *s);
void arch_qwen2(struct keys *k, struct model_spec *s);
void arch_qwen3(struct keys *k, struct model_spec *s);

/* ---- what loading makes ---- */
/* One matrix on its way from the file's rows to tiles. */
struct pack_job {
    const struct gguf_tensor *source;
    struct packed *target;
    uint64_t offset, bytes;
};

struct layer_weights {
    struct packed matrix[MATRIX_COUNT];
    const float *vector[VECTOR_COUNT]; /* NULL: this layer has none */
    uint32_t group, slot;              /* where its KV lies */
};

struct model {
    struct model_spec spec;
    struct model_info info;
    const struct kernels *kernels;
    const struct gguf_tensor *embedding; /* rows are read from the file's map */
    struct packed output;
    const float *output_norm;
    const float *rope_factors;             /* [n_rot / 2] or NULL */
    double *rope_freqs[MODEL_ROPES_MAX];   /* [n_rot / 2] each */
    struct layer_weights *layers;
    struct pack_job *jobs; /* [n_jobs], in the order of their offsets */
    uint32_t n_jobs;
    void *packed_memory;
    bool is_packed_borrowed; /* what find_packed or place_packed gave */
    float *vector_memory;
};

/* Fills layers, output, norms and the two memories; info.n_vocab, n_parameters, packed_bytes. */
NODISCARD enum status weights_load(struct model *m, const struct gguf *g, struct team *team,
                                   const struct model_options *options, struct err *e);

/* ---- a step ---- */
#define TILES_MAX MODEL_BATCH_TOKENS_MAX

/* Query tokens of one sequence that attend together, all heads of a KV head at a time. */
struct tile {
    uint32_t sequence;
    uint32_t q_row;          /* row of its first token in q */
    uint32_t out_row;        /* row of its first token in the output of attention */
    uint32_t n_tokens;       /* 1..ATTENTION_TILE_TOKENS_MAX */
    uint32_t first_position;
    uint32_t first_partition, n_partitions; /* that any of its tokens sees */
    uint32_t first_task;     /* split plans: partitions × units of the tiles before it */
    size_t first_state;      /* split plans: floats into the partial states */
};

/* How the attention of a layer is cut into tasks.  The cut never changes a bit of the result: query
 * heads know nothing of each other, partitions are the same and fold in ascending order either way.
 *   unit:  the query heads of a KV head, or an equal part of them where tasks are few
 *   whole: task = (tile, unit), which walks its partitions
 *   split: task = (tile, partition, unit) into partial states; then one fold per (tile, unit) */
struct attention_plan {
    uint32_t window;
    uint32_t n_units, unit_heads; /* n_units × unit_heads = query heads */
    uint32_t n_tiles;
    uint32_t n_tasks;
    bool is_split;
    struct tile tiles[TILES_MAX];
};

/* One plan for each group of layers, and one for the last layer, where only the rows whose logits
 * are wanted go on after their K and V are written. */
#define PLAN_TAIL MODEL_GROUPS_MAX
#define PLANS_MAX (MODEL_GROUPS_MAX + 1u)

struct row {
    uint32_t sequence, token, position;
};

/* ---- alone or together (pace.c) ---- */
#define PACE_ROW_CLASSES 10u
#define PACE_DEPTH_CLASSES 8u

struct pace_step {
    uint32_t n_rows;
    double bytes;        /* touched: plan_bytes() */
    double weight_bytes; /* of all matrices */
};

#define PACE_SAMPLES 5u

struct pace_way {
    double ns_per_byte; /* 0: never tried */
    double steps_since; /* steps of the class that went the other way since it was tried */
    double samples[PACE_SAMPLES]; /* the last ones, a ring */
    uint32_t n_samples;           /* ever */
};
struct pace_class {
    struct pace_way alone, together;
    double patience; /* steps until the other way is tried again; 0: the least */
};
struct pace {
    enum model_pace forced; /* PACE_LEARN: not forced */
    struct pace_class classes[PACE_ROW_CLASSES][PACE_DEPTH_CLASSES];
};
/* PACE_ALONE or PACE_TOGETHER. */
enum model_pace pace_choose(struct pace *p, struct pace_step step, uint32_t n_layers,
                            uint32_t n_workers);
void pace_learn(struct pace *p, struct pace_step step, enum model_pace way, double ns);

struct model_workspace {
    uint32_t n_workers;  /* of the team; a step may run on fewer */
    struct team *alone;  /* a team of one: the calling thread */
    struct pace pace;
    struct model_times *times; /* [n_workers] or NULL */
    uint32_t act_columns_max;
    float *x, *x_tail;       /* [rows][n_embd] residual stream; of the tail rows in the last layer */
    float *normed;           /* [rows][n_embd] */
    float *q, *attended;     /* [rows][n_heads × head_dim] */
    float *k, *v;            /* [rows][n_kv_heads × head_dim] */
    float *projected;        /* [rows][n_embd] */
    float *gate, *up;        /* [rows][n_ff] */
    float *cos_sin[MODEL_ROPES_MAX]; /* [rows][n_rot] */
    int8_t *act_q;           /* the 8-bit part of whatever a matmul reads: [rows][act_columns_max] */
    float *act_scale, *act_scaled_sum;
    int16_t *act_sum16;
    float *partials;         /* partial states of split plans */
    size_t partial_floats;
    float *worker_scratch;   /* [n_workers][worker_floats]: state, later state, kernel scratch */
    size_t worker_floats, state_floats;
    void *memory;            /* all of the above */
    size_t memory_bytes;

    /* of the current step */
    uint32_t n_rows, n_tail, n_logits; /* n_logits: of the tail, the first ones */
    struct row rows[MODEL_BATCH_TOKENS_MAX];
    uint32_t tail[MODEL_BATCH_TOKENS_MAX]; /* rows whose logits, then whose vectors are wanted */
    struct attention_plan plans[PLANS_MAX];
};

/* Fills rows, tail and plans from a batch that was CHECKed. */
void plan_step(const struct model *m, struct model_workspace *w, const struct model_batch *batch,
               uint32_t n_workers);
/* Bytes of weights and KV that the step's rows touch: what it costs, roughly. */
double plan_bytes(const struct model *m, const struct model_batch *batch);

#endif
