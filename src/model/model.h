/* SPDX-License-Identifier: MIT
 * model.h — a transformer from a GGUF: one step over a view of the KV cache.
 * For:     gemma3, llama, qwen2, qwen3; one file a family (arch_*.c) turns metadata and tensor names
 *          into a struct model_spec, forward.c runs any spec.
 * Not for: where pages come from, which sequences run, what a token means.
 * Exactness: logits are a function of the token sequence alone (DESIGN §4): not of how tokens are
 *          cut into steps, which sequences share a step, or how many threads run it.
 * Thread:  a model is immutable after load; a step belongs to the engine thread, which runs it on
 *          its team.  */
#ifndef KVASIR_MODEL_MODEL_H
#define KVASIR_MODEL_MODEL_H

#include "base/digest.h"
#include "gguf/gguf.h"
#include "kernels/kernels.h"
#include "os/team.h"

#define MODEL_LAYERS_MAX 512u
#define MODEL_GROUPS_MAX 2u
#define MODEL_BATCH_TOKENS_MAX 512u /* tokens of one step over all sequences */

struct model;

/* Layers with the same window keep their KV in the same pages. */
struct model_group {
    uint32_t window;   /* tokens a query sees, itself included; 0: all before it */
    uint32_t n_layers;
    uint16_t layers[MODEL_LAYERS_MAX]; /* model layer of each slot, ascending */
};

struct model_info {
    const char *arch; /* "gemma3" */
    uint32_t n_layers, n_embd, n_heads, n_kv_heads, head_dim, n_ff, n_vocab, n_ctx_train;
    uint32_t n_groups; /* groups[0] is full attention where there is any */
    struct model_group groups[MODEL_GROUPS_MAX];
    uint64_t n_parameters;
    uint64_t packed_bytes; /* of the repacked weights */
    enum activations activations;
    const char *kernels;   /* name of the instruction set in use */
};

struct model_options {
    enum activations activations;
    enum isa isa;
    /* Called with 0..1 while weights are repacked; may be NULL. */
    void (*progress)(void *arg, double fraction);
    void *progress_arg;
    /* Repacked weights from an earlier load: n bytes equal to what packing would give, at a page's
     * start, that outlive the model; NULL: they are packed.  Called once, when m answers model_digest
     * and model_packed.  May be NULL. */
    const void *(*find_packed)(void *arg, const struct model *m, uint64_t n);
    /* Where find_packed has none: n zeroed bytes at a page's start to pack into, which outlive the
     * model; NULL: memory of the model's own.  May be NULL. */
    void *(*place_packed)(void *arg, uint64_t n);
    void *packed_arg; /* of both */
};

/* E_UNSUPPORTED: architecture, tensor type or a hyperparameter, by name; E_INVALID: a tensor that
 * is missing or has the wrong shape.  The gguf must outlive the model (embedding rows are read from
 * its map); the repacked weights' source pages are given back (gguf_forget). */
NODISCARD enum status model_load(const struct gguf *g, struct team *team,
                                 const struct model_options *options, struct model **out,
                                 struct err *e);
void model_free(struct model *m);
const struct model_info *model_info(const struct model *m);
/* Adds the hyperparameters that the forward pass reads, as tagged fields. */
void model_digest(const struct model *m, struct digester *d);

/* ---- the repacked weights, for a file of them that later loads map ---- */
struct model_packed {
    void *bytes; /* [n], at a page's start; their last page is zeros that no step reads.  NULL while
                  * find_packed is asked */
    uint64_t n;  /* whole pages */
    struct digest layout; /* of what lies where in which form */
};
struct model_packed model_packed(const struct model *m);
/* Fills the weights again from the file of the model, in memory of our own in the same place: what
 * was mapped there (find_packed's answer, or place_packed's) lost its bytes.  No step may run. */
NODISCARD enum status model_repack(struct model *m, const struct gguf *g, struct team *team,
                                   struct err *e);

/* ---- the KV view ---- */
/* Layout of a page of a group: for each layer slot its K, then its V.  A slot is two chunks of equal
 * size, each with a checksum of its own in the store; where V is smaller than K (q4), the first ends
 * inside K. */
struct kv_layout {
    enum kv_type type;
    uint32_t n_layers;   /* of the group */
    uint64_t v_at;        /* of V in a slot: n_kv_heads × kv_head_bytes() of K */
    uint64_t chunk_bytes; /* half a slot */
    uint64_t page_bytes;  /* n_layers × 2 × chunk_bytes */
};
struct kv_layout model_kv_layout(const struct model *m, uint32_t group, enum kv_type type);
/* The pages of one sequence in one group, covering first_page × 64 up to the last token of the
 * step.  Pages that the step writes (those holding its tokens) must be writable memory. */
struct kv_pages {
    void *const *pages; /* [n_pages] */
    uint32_t first_page, n_pages;
};

/* ---- a step ---- */
struct model_sequence {
    const uint32_t *tokens; /* [n_tokens]: consecutive tokens of one sequence, ids < n_vocab */
    uint32_t n_tokens;
    uint32_t first_position; /* position of tokens[0]; positions before it are in the pages */
    struct kv_pages groups[MODEL_GROUPS_MAX];
    /* Logits wanted for the last n_logits tokens of the run (0: none). */
    uint32_t n_logits;
    bool is_hidden; /* of them not logits but what the output matrix would read */
};

/* Logits in a row whose largest is kept beside them. */
#define MODEL_LOGIT_BLOCK 256u

struct model_batch {
    struct model_sequence *sequences; /* [n_sequences]; no two write the same page */
    uint32_t n_sequences;
    enum kv_type kv_type; /* one that fits the model's head_dim (kv_type_fits) */
    /* Rows of logits in order of sequences; [Σ n_logits][n_vocab] f32, without the hidden ones. */
    float *logits;
    /* Of sequences with is_hidden, in order: the last block's output behind the final norm, before it
     * is rounded for the output matrix; [Σ n_logits][n_embd] f32. */
    float *hidden;
    /* Of each row the largest of every MODEL_LOGIT_BLOCK logits, taken while they are computed: NaN is
     * passed over, −inf where all are; [Σ n_logits][ceil(n_vocab / MODEL_LOGIT_BLOCK)].  May be NULL. */
    float *maxima;
    /* Tests: the residual stream of the last sequence's last token, [n_layers + 1][n_embd]: row 0
     * the (scaled) embedding, row i after block i, the last row after the final norm instead of the
     * raw output of the last block.  Wants n_logits ≥ 1 there.  NULL otherwise. */
    float *residuals;
    /* Called by every worker of the step (n_workers: 1 when it runs alone) before it reads the KV of
     * a layer, e.g. to verify mapped pages; work is split by worker.  A status other than OK ends
     * the step with it.  May be NULL. */
    enum status (*before_layer)(void *arg, uint32_t layer, uint32_t worker, uint32_t n_workers);
    void *before_layer_arg;
};

struct model_workspace; /* scratch of one step; sized for MODEL_BATCH_TOKENS_MAX tokens */
NODISCARD enum status model_workspace_new(const struct model *m, uint32_t n_workers,
                                          struct model_workspace **out, struct err *e);
void model_workspace_free(struct model_workspace *w);
/* Whether steps run on the whole team or on the calling thread alone.  PACE_LEARN (the default)
 * takes what was faster; the others are for tests and measurements.  Never changes a bit. */
enum model_pace { PACE_LEARN, PACE_ALONE, PACE_TOGETHER };
void model_workspace_set_pace(struct model_workspace *w, enum model_pace pace);

/* ---- where the time of steps goes ---- */
/* A stage ends where the workers meet; forward.c draws them.  X(id, what it does). */
#define MODEL_STAGES_LIST(X)                                    \
    X(STAGE_ENTER, "embed, x +=, norm, 8-bit")                  \
    X(STAGE_QKV, "q, k, v")                                     \
    X(STAGE_KV, "head norms, rope, write K and V")              \
    X(STAGE_ATTENTION, "attention")                             \
    X(STAGE_FOLD, "fold of partitions")                         \
    X(STAGE_OUT_ROWS, "8-bit of attention")                     \
    X(STAGE_OUT, "output projection")                           \
    X(STAGE_FF_ROWS, "x +=, norm, 8-bit")                       \
    X(STAGE_GATE_UP, "gate, up")                                \
    X(STAGE_GATE_ROWS, "gate x up, 8-bit")                      \
    X(STAGE_DOWN, "down")                                       \
    X(STAGE_HEAD_ROWS, "last x +=, norm, 8-bit")                \
    X(STAGE_HEAD, "output matrix")
#define MODEL_STAGE_ID(id, text) id,
enum model_stage { MODEL_STAGES_LIST(MODEL_STAGE_ID) MODEL_STAGES };
#undef MODEL_STAGE_ID
const char *model_stage_name(enum model_stage s);
/* Of one worker, summed over steps. */
struct model_times {
    _Alignas(64) uint64_t busy_ns[MODEL_STAGES], wait_ns[MODEL_STAGES];
    uint64_t since_ns; /* the present stage began */
};
/* Adds to times [n_workers] from now on (of a step alone: to times[0]); NULL: no clock is read, the
 * default. */
void model_workspace_time(struct model_workspace *w, struct model_times *times);

/* Runs the batch: writes K and V of its tokens into the pages and the logits asked for.
 * CHECKs counts and token ids.  E_*: what before_layer returned; pages of the batch's own tokens
 * are then undefined, all others untouched. */
NODISCARD enum status model_forward(const struct model *m, struct model_workspace *w,
                                    struct team *team, const struct model_batch *batch,
                                    struct err *e);

#endif
