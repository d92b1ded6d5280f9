/* SPDX-License-Identifier: MIT
 * ring.h — a bounded queue of pointers between threads; a message hands over what it points to.
 * Thread: any number of producers and consumers.  The mutex guards the slots alone and is never
 * held across I/O or a kernel. */
#ifndef KVASIR_BASE_RING_H
#define KVASIR_BASE_RING_H

#include "base/status.h"

struct ring;

NODISCARD struct ring *ring_new(size_t capacity); /* NULL: out of memory */
void ring_free(struct ring *r);                   /* must be empty or its messages are leaked */
/* E_BUSY: full (the message stays the caller's).  E_CANCELLED: closed. */
NODISCARD enum status ring_try_push(struct ring *r, void *message);
NODISCARD enum status ring_push(struct ring *r, void *message); /* waits; E_CANCELLED: closed */
/* NULL: nothing within timeout_ms (-1: no limit), or closed and drained. */
NODISCARD void *ring_pop(struct ring *r, int timeout_ms);
void ring_close(struct ring *r); /* no more pushes; pops drain what is there */
bool ring_is_closed(struct ring *r);
size_t ring_count(struct ring *r);

#endif
