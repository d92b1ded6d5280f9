/* SPDX-License-Identifier: MIT
 * said.h — what a model wrote in a turn, byte for byte, under a key that the client's form of it
 * gives. For:     replaying tool calls that come back re-serialised, and reasoning that comes back
 * not at all.   Not for: token ids (memo.h finds those again once the text is the same). A key is
 * made by who knows the dialect (engine_request.turn_key); rows are durable, the newest are in
 * memory too, so that the next request finds what is not yet on disk. Thread: any; one mutex guards
 * the table. */
#ifndef KVASIR_ENGINE_SAID_H
#define KVASIR_ENGINE_SAID_H

#include "base/buf.h"
#include "base/digest.h"
#include "store/store.h"

#define SAID_BYTES_MAX   (32u << 20) /* in memory */
#define SAID_ENTRIES_MAX 4096u
#define SAID_TURN_MAX    (4u << 20) /* of one turn */

struct said;
NODISCARD enum status said_new(struct store *store, bool is_read_only, struct said **out,
                               struct err *e);
void said_free(struct said *s);
/* Whose row it is, and behind which tokens it was written: it goes with the session that has them.
 */
struct said_place {
    uint64_t owner; /* store_owner_of */
    const uint32_t *tokens;
    uint32_t n_tokens;
};
/* lead: the prompt behind its last end of a turn; written: what the model put behind it, its end
 * token's text included. */
void said_put(struct said *s, const struct digest *owner, const struct digest *key,
              const struct said_place *place, struct slice lead, struct slice written);
/* Appends lead and written to out; *lead_len: where one ends.  False: not known. */
bool said_get(struct said *s, const struct digest *owner, const struct digest *key, struct buf *out,
              size_t *lead_len);

#endif
