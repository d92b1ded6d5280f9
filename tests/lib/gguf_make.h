/* SPDX-License-Identifier: MIT
 * gguf_make.h — writes GGUF files, right ones and wrong ones, for tests.
 * Order:  gguf_make_begin → (gguf_make_key_* )* → (gguf_make_tensor)* → gguf_make_end → release.
 * Everything is kept in memory; lengths and counts are what the caller says, checked nowhere. */
#ifndef KVASIR_TESTS_GGUF_MAKE_H
#define KVASIR_TESTS_GGUF_MAKE_H

#include "base/buf.h"

struct gguf_make {
    uint32_t version, alignment;
    uint64_t n_keys, n_tensors;
    struct buf keys, infos, data, file;
};

/* alignment 0: 32, and no general.alignment key. */
void gguf_make_begin(struct gguf_make *m, uint32_t version, uint32_t alignment);
/* value: the bytes after the kind. */
void gguf_make_key(struct gguf_make *m, const char *name, uint32_t kind, const void *value,
                   size_t len);
void gguf_make_key_u32(struct gguf_make *m, const char *name, uint32_t value);
void gguf_make_key_u16(struct gguf_make *m, const char *name, uint16_t value);
void gguf_make_key_i32(struct gguf_make *m, const char *name, int32_t value);
void gguf_make_key_f32(struct gguf_make *m, const char *name, float value);
void gguf_make_key_bool(struct gguf_make *m, const char *name, bool value);
void gguf_make_key_string(struct gguf_make *m, const char *name, const char *value);
/* elements: the bytes of all of them. */
void gguf_make_key_array(struct gguf_make *m, const char *name, uint32_t kind, uint64_t count,
                         const void *elements, size_t len);
void gguf_make_key_strings(struct gguf_make *m, const char *name, const char *const *values,
                           uint64_t count);
/* The data goes to the next multiple of the alignment. */
void gguf_make_tensor(struct gguf_make *m, const char *name, uint32_t type, const uint64_t *dims,
                      uint32_t n_dims, const void *data, size_t len);
/* The same with an offset of the caller's choice; adds no data. */
void gguf_make_tensor_at(struct gguf_make *m, const char *name, uint32_t type, const uint64_t *dims,
                         uint32_t n_dims, uint64_t offset);
/* The whole file; lives until release.  May be called again after more keys or tensors. */
struct slice gguf_make_end(struct gguf_make *m);
void gguf_make_release(struct gguf_make *m);

/* The split.* keys of part number (from 0). */
void gguf_make_split_keys(struct gguf_make *m, uint16_t number, uint16_t count, int32_t n_tensors);
/* A small model with a key of every kind, two arrays and three tensors (F32, Q4_0, F16). */
void gguf_make_sample(struct gguf_make *m);

#endif
