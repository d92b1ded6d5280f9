/* SPDX-License-Identifier: MIT
 * page_key.h — the digests that name chains and pages.  docs/format-key.md has them field by field.
 *   C(i)   = SHA-256(tag, C(i−1), owner's salt, token ids of page i),  C(−1) = root
 *   page   = SHA-256(tag, group, C(i))          head = SHA-256(tag, C)
 *   family = SHA-256(tag, C(i−1), salt): siblings that differ in their tokens only.
 * For:    cache, which makes pages; export, import, pin and delete, which find them without it. */
#ifndef KVASIR_SESSION_PAGE_KEY_H
#define KVASIR_SESSION_PAGE_KEY_H

#include "base/digest.h"

#define PAGE_KEY_TOKENS 64u /* of a full page */
#define PAGE_KEY_GROUPS 2u  /* layer groups at most */

/* The digester is borrowed: begun and ended in each call. */
struct digest page_key_chain(struct digester *d, const struct digest *owner,
                             const struct digest *parent, const uint32_t *tokens,
                             uint32_t n_tokens);
struct digest page_key_page(struct digester *d, uint32_t group, const struct digest *chain);
struct digest page_key_head(struct digester *d, const struct digest *chain);
struct digest page_key_family(struct digester *d, const struct digest *owner,
                              const struct digest *parent);
/* Siblings are sorted by this: token ids big-endian, so that memcmp orders as numbers do.
 * out [4 × n_tokens]; returns its length. */
uint32_t page_key_order(const uint32_t *tokens, uint32_t n_tokens, uint8_t *out);

#endif
