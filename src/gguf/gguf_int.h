/* SPDX-License-Identifier: MIT
 * gguf_int.h — inner door: what parse.c fills and gguf.c and value.c read.
 *
 *   "GGUF" version:u32 n_tensors:u64 n_keys:u64
 *   n_keys    × { name:string kind:u32 value }
 *   n_tensors × { name:string n_dims:u32 dims:u64… type:u32 offset:u64 }   offset: from the data
 *   zeros up to a multiple of general.alignment (32)
 *   the data of the tensors, each at a multiple of the alignment
 *
 * string: length:u64 and bytes.   array: kind:u32 count:u64 and elements.   All little-endian. */
#ifndef KVASIR_GGUF_GGUF_INT_H
#define KVASIR_GGUF_GGUF_INT_H

#include "gguf/gguf.h"
#include "os/fs.h"

#define GGUF_KEY_NAME_MAX 65535u /* bytes; GGUF spec */

struct key {
    struct slice name; /* first: name_index reads it */
    enum gguf_kind kind;
    enum gguf_kind element_kind; /* of an array */
    uint64_t count;              /* of an array */
    const uint8_t *data;         /* the raw value */
    uint64_t bytes;
    const uint8_t *elements; /* of an array */
    uint64_t pos;            /* of the name in the file */
};

struct tensor {
    struct gguf_tensor pub; /* first: its first member is the name */
    uint32_t part;
    uint64_t offset;     /* from the start of the data */
    uint64_t pos;        /* of the name in the file */
    uint64_t offset_pos; /* of the offset field */
};

/* Names to indices: open addressing over items whose first member is a struct slice. */
struct name_index {
    uint32_t *slots; /* index + 1; 0: empty */
    uint64_t mask;
    const void *items;
    size_t stride;
};

struct key_table {
    struct key *keys;
    uint32_t count;
    struct name_index index;
};

struct part {
    char *path;          /* NULL: in memory */
    const char *name;    /* for messages: the path's last component */
    struct os_file file; /* kept open, so that gguf_part_at tells of the file that is mapped */
    const uint8_t *bytes;
    uint64_t size;
    bool is_mapped;
};

struct gguf {
    struct part *parts;
    uint32_t n_parts;
    struct key_table keys; /* of the first part */
    struct tensor *tensors;
    uint32_t n_tensors;
    struct name_index tensor_index;
};

/* The index of the item named so, or UINT32_MAX. */
uint32_t name_index_find(const struct name_index *x, struct slice name);
/* *twin: UINT32_MAX, or the second item of a name that came before (then the index is not built).
 * E_NOMEM. */
NODISCARD enum status name_index_build(struct name_index *x, const void *items, size_t stride,
                                       uint32_t count, uint32_t *twin);
void name_index_release(struct name_index *x);

/* Parses part number i of g: its keys into *keys, its tensors behind those that g has.  On failure
 * *keys may be half filled; key_table_release takes it. */
NODISCARD enum status parse_part(struct gguf *g, uint32_t i, struct key_table *keys, struct err *e);
void key_table_release(struct key_table *t);

/* "NAME: what at byte POS", err.pos set. */
enum status fail_at(const struct part *part, enum status code, uint64_t pos, struct err *e,
                    const char *fmt, ...) PRINTF_LIKE(5, 6);
/* A name from a file made fit for a message: at most 63 bytes, all printable ASCII. */
struct shown {
    char text[64];
};
struct shown show(struct slice name);

/* Number of an integer key of this table, for keys that opening itself needs; *found as in gguf.h.
 */
NODISCARD enum status table_get_u64(const struct part *part, const struct key_table *t,
                                    const char *key, uint64_t *out, bool *found, struct err *e);

#endif
