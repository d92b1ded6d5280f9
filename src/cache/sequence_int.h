/* SPDX-License-Identifier: MIT
 * sequence_int.h — between the look-up and the page tables of a sequence. */
#ifndef KVASIR_CACHE_SEQUENCE_INT_H
#define KVASIR_CACHE_SEQUENCE_INT_H

#include "cache/cache_int.h"

struct sequence *sequence_new(struct cache *c, const struct cache_request *r); /* NULL: no memory */
void sequence_free(struct sequence *s); /* memory only; NULL is fine */
/* Starts at `resume`: refs the path's pages before it (and in the window), remembers the page whose
 * first tokens are to be copied. */
void sequence_take_path(struct sequence *s, struct node **path, uint32_t n_path, struct node *tail,
                        uint32_t resume);
/* First page that a query at position `valid` (the next one computed) still sees. */
uint32_t window_first_page(const struct cache *c, uint32_t group, uint32_t valid);
void head_keep(struct cache *c, const struct digest *chain, const float *logits);
void pool_drain(struct cache *c, uint32_t group);

#endif
