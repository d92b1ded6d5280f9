/* SPDX-License-Identifier: MIT
 * kvx_int.h — the frames of a .kvx file: docs/format-kvx.md draws them. */
#ifndef KVASIR_SESSION_KVX_INT_H
#define KVASIR_SESSION_KVX_INT_H

#include "base/checksum.h"
#include "session/kvx.h"
#include "session/page_key.h"
#include "session/session_int.h"

#define KVX_MAGIC       "kvsKVX01"
#define KVX_VERSION     1
#define KVX_FRAME_HEAD  16u /* u32 type, u32 zero, u64 length */
#define KVX_PIECE       (1u << 20)
#define KVX_PAGE_HEAD   32u
#define KVX_PAGE_CHUNKS STORE_CHUNKS_MAX
#define KVX_JSON_MAX    16384u

enum kvx_type {
    KVX_HEAD = 1,
    KVX_SESSION = 2,
    KVX_TOKENS = 3,
    KVX_MESSAGES = 4,
    KVX_ROWS = 5,
    KVX_PAGE = 6,
    KVX_END = 7,
};

/* Every checksum is over a frame's head and payload. */
struct checksum kvx_sum(const uint8_t head[KVX_FRAME_HEAD], const void *payload, size_t n);

/* Page i of a chain of tokens: which keys name it under an owner. */
struct kvx_chain {
    struct digester digester;
    struct digest owner;
    struct digest *at; /* [n_pages + 1]: at[0] = root, at[i + 1] = behind full page i */
    uint32_t n_pages;  /* full ones */
};
NODISCARD enum status kvx_chain_init(struct kvx_chain *c, const struct digest *root,
                                     const struct digest *owner, const uint32_t *tokens,
                                     uint32_t n_tokens, struct err *e);
void kvx_chain_release(struct kvx_chain *c);

#endif
