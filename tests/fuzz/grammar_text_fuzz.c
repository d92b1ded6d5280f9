/* SPDX-License-Identifier: MIT
 * grammar_text_fuzz.c — goal: no grammar and no schema breaks the reader, the compiler or a matcher.
 * Method: input is JSON: a schema; anything else is read as GBNF.  What compiles is prepared for a
 * vocabulary of single bytes and a few pairs, and followed for some steps by the input's own bytes. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "grammar/grammar.h"
#include "text/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct slice piece(void *arg, uint32_t id)
{
    static char bytes[257];
    (void)arg;
    bytes[id % 256] = (char)(id % 256);
    return id < 256 ? (struct slice){&bytes[id], 1} : (struct slice){"\",\"", id % 4};
}

static void follow(struct grammar *g, const uint8_t *data, size_t size)
{
    struct grammar_vocabulary *v;
    struct grammar_masks *masks;
    struct matcher *m;
    struct err e;
    uint64_t bits[5];
    bool may_end;
    if (grammar_vocabulary_new(260, piece, NULL, &v, &e) != OK)
        return;
    if (grammar_prepare(g, v, &masks, &e) == OK) {
        if (matcher_new(masks, &m, &e) == OK) {
            for (size_t i = 0; i < size && i < 64; i++) {
                if (matcher_mask(m, bits, &may_end, &e) != OK)
                    break;
                bool allowed = bits[data[i] / 64] >> data[i] % 64 & 1;
                if ((matcher_accept(m, data[i], &e) == OK) != allowed)
                    abort();
            }
            matcher_free(m);
        }
        grammar_masks_free(masks);
    }
    grammar_vocabulary_free(v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct grammar *g = NULL;
    struct arena a;
    struct json *schema;
    struct err e;
    struct slice text = {(const char *)data, size};
    if (size > 4096)
        return 0;
    arena_init(&a, 16 << 20);
    enum status st = json_parse(text, &a, &schema, &e) == OK ? grammar_from_schema(schema, &g, &e)
                                                             : grammar_from_gbnf(text, &g, &e);
    arena_release(&a);
    if (st == OK)
        follow(g, data, size);
    grammar_free(g);
    return 0;
}
