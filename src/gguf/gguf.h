/* SPDX-License-Identifier: MIT
 * gguf.h — bounded reader of GGUF v2/v3 model files, whole or split (-00001-of-0000N).
 * For:     metadata and tensor locations of files from anywhere.   Not for: what a key means.
 * Errors:  each names file, field and byte position; bad files never crash (fuzzed).
 *          E_NOT_FOUND, E_IO, E_SYNTAX, E_UNSUPPORTED (version, tensor type, by name), E_LIMIT.
 * Memory:  files are mapped read-only; strings and arrays point into the map and live as long as
 *          the struct gguf.   Thread: immutable after open. */
#ifndef KVASIR_GGUF_GGUF_H
#define KVASIR_GGUF_GGUF_H

#include "base/digest.h"
#include "base/slice.h"
#include "base/status.h"
#include "tensor/tensor.h"

#define GGUF_KEYS_MAX    65536u
#define GGUF_TENSORS_MAX 65536u
#define GGUF_ARRAY_MAX   (16u << 20) /* elements */
#define GGUF_STRING_MAX  (16u << 20) /* bytes */
#define GGUF_NAME_MAX    256u        /* bytes of a tensor name */
#define GGUF_PARTS_MAX   1024u
#define GGUF_DIMS_MAX    4u

enum gguf_kind {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
};

const char *gguf_kind_name(enum gguf_kind kind); /* "u32"; never NULL */
bool gguf_kind_is_integer(enum gguf_kind kind);
bool gguf_kind_is_number(enum gguf_kind kind); /* integers and floats; not bool */

struct gguf;

struct gguf_tensor {
    struct slice name;
    enum tensor_type type;
    uint32_t n_dims;
    uint64_t dims[GGUF_DIMS_MAX]; /* dims[0] runs fastest: the row length; unused ones are 1 */
    const void *data; /* in the map; at the file's alignment, which may be as low as 1 */
    uint64_t bytes;
};

/* Opens path, and the other parts when it is the first of a split file.  vocab_only files (no
 * tensors) are fine. */
NODISCARD enum status gguf_open(const char *path, struct gguf **out, struct err *e);
/* The same from memory that the caller keeps alive (embedded model, fuzzing). */
NODISCARD enum status gguf_open_memory(const void *bytes, size_t len, const char *name,
                                       struct gguf **out, struct err *e);
void gguf_close(struct gguf *g);

const char *gguf_name(const struct gguf *g); /* file name for messages: without its folder */

/* Metadata.  *found tells whether the key is there; the wrong kind is E_INVALID naming key and
 * kinds.  Any integer kind is accepted for u64 when the value fits, any number for f64. */
NODISCARD enum status gguf_get_u64(const struct gguf *g, const char *key, uint64_t *out,
                                   bool *found, struct err *e);
NODISCARD enum status gguf_get_f64(const struct gguf *g, const char *key, double *out, bool *found,
                                   struct err *e);
NODISCARD enum status gguf_get_bool(const struct gguf *g, const char *key, bool *out, bool *found,
                                    struct err *e);
NODISCARD enum status gguf_get_string(const struct gguf *g, const char *key, struct slice *out,
                                      bool *found, struct err *e);

struct gguf_array {
    enum gguf_kind kind; /* of the elements */
    uint64_t count;
    const uint8_t
        *data; /* in the map, unaligned; strings one after the other as u64 length + bytes */
};
NODISCARD enum status gguf_get_array(const struct gguf *g, const char *key, struct gguf_array *out,
                                     bool *found, struct err *e);
/* Element i of an array of integers or bools as u64 (negative ones sign-extended), of numbers as
 * f64.  Look at array.kind first: another kind, or i ≥ count, is a bug of the caller (CHECK).
 * Strings by walking: *at starts at array.data, then at most array.count times gguf_array_string.
 */
uint64_t gguf_array_u64(const struct gguf_array *a, uint64_t i);
double gguf_array_f64(const struct gguf_array *a, uint64_t i);
struct slice gguf_array_string(const uint8_t **at);

/* All keys, for `models` and identity. */
struct gguf_key {
    struct slice name;
    enum gguf_kind kind;
    const uint8_t *data; /* the raw value in the map: of a string with its length, of an array with
                          * the kind and the count of its elements */
    uint64_t bytes;
};
uint32_t gguf_key_count(const struct gguf *g);
struct gguf_key gguf_key_at(const struct gguf *g, uint32_t i);

uint32_t gguf_tensor_count(const struct gguf *g);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, uint32_t i);
const struct gguf_tensor *gguf_find_tensor(const struct gguf *g, const char *name); /* or NULL */

/* Tells the kernel that these bytes of the map were read for the last time (weights repacked). */
void gguf_forget(const struct gguf *g, const void *data, uint64_t bytes);

/* The file lost bytes while it was mapped (os/fault.h): zeros were read in their place. */
bool gguf_is_torn(const struct gguf *g);

/* One part's file identity, for caching a fingerprint; n_parts 0 for memory. */
struct gguf_part {
    const char *path;
    uint64_t device, inode, size;
    int64_t mtime_ns, ctime_ns;
};
uint32_t gguf_part_count(const struct gguf *g);
struct gguf_part gguf_part_at(const struct gguf *g, uint32_t i); /* fstat taken now */

#endif
