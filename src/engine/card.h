/* SPDX-License-Identifier: MIT
 * card.h — what a model's file says of itself, told without loading it.
 * For:     lists of models.   Not for: running one; a file with a card may still be refused then.
 * Thread:  immutable once made. */
#ifndef KVASIR_ENGINE_CARD_H
#define KVASIR_ENGINE_CARD_H

#include "base/arena.h"
#include "sampler/sampler.h"

struct engine_info;
struct gguf;

struct engine_card {
    struct arena arena; /* owns what the pointers name */
    const char *name;   /* general.name, else the file name without .gguf */
    const char *arch;
    const char *quantization; /* "Q4_K_M", by general.file_type; "unknown" where it lacks */
    const char *vocabulary;   /* "spm", "bpe", or as the file has it */
    struct slice template_source;
    uint32_t n_layers, n_embd, n_heads, n_kv_heads, n_vocab, n_ctx_train; /* 0: not said */
    bool is_embedding; /* it says how vectors of its tokens become one of a text */
    uint64_t n_parameters, bytes;                                         /* of all tensors */
    struct sampler_params sampling; /* the file's general.sampling.* over the built-in defaults */
};

/* On failure there is nothing to release; the error is gguf_open's, or names a key. */
NODISCARD enum status engine_card_read(const char *path, struct engine_card *out, struct err *e);
/* Of a model that is loaded. */
NODISCARD enum status engine_card_of(const struct engine_info *info, struct engine_card *out,
                                     struct err *e);
void engine_card_release(struct engine_card *c);

/* The parts of it that an engine reads too.  path: NULL for the embedded model. */
NODISCARD enum status card_name(const struct gguf *file, const char *path, struct slice *out,
                                struct err *e);
NODISCARD enum status card_quantization(const struct gguf *file, const char **out, struct err *e);
NODISCARD enum status card_sampling(const struct gguf *file, struct sampler_params *out,
                                    struct err *e);

#endif
