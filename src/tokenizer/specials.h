/* SPDX-License-Identifier: MIT
 * specials.h — finds the tokens that are matched in the text as they stand, before any splitting:
 * control tokens (when asked) and user-defined ones (always).  Leftmost, then longest.
 * Method:  a bitmap of the first two bytes rejects nearly every position; a trie decides the rest.
 * Cost:    one bit test a byte; a walk of at most SPECIALS_BYTES_MAX steps where the bit is set. */
#ifndef KVASIR_TOKENIZER_SPECIALS_H
#define KVASIR_TOKENIZER_SPECIALS_H

#include "tokenizer/pairs.h"
#include "tokenizer/words.h"

#define SPECIALS_BYTES_MAX 512u              /* of one special token */
#define SPECIALS_NODES_MAX (PAIRS_KEY_MAX)   /* of the trie: bytes of all of them */

struct specials_node {
    uint32_t id; /* of the token that ends here, or WORDS_NONE */
    bool is_control;
};

struct specials {
    uint32_t *ids; /* all special tokens */
    bool *is_control;
    uint32_t count;
    struct pairs edges; /* (node, byte) → node; the root is 0 */
    struct specials_node *nodes;
    uint32_t n_nodes;
    uint64_t starts[65536 / 64]; /* by first byte × 256 + second byte */
    const struct strings *texts;
};

/* ids[count] and is_control[count] become its own (mem_free), on failure too.  texts must outlive
 * it. */
NODISCARD enum status specials_init(struct specials *s, const struct strings *texts, uint32_t *ids,
                                    bool *is_control, uint32_t count, struct err *e);
void specials_release(struct specials *s);

struct special_hit {
    size_t at, len; /* at == text.len: none */
    uint32_t id;
};
struct special_hit specials_next(const struct specials *s, struct slice text, size_t at,
                                 bool with_control);

/* True when every occurrence of this special token in any text is matched as this token: no other
 * special token holds it, begins with it, or overlaps its beginning.  O(bytes of all of them). */
bool specials_is_unmistakable(const struct specials *s, uint32_t id);

#endif
