/* SPDX-License-Identifier: MIT
 * grammar_text_fuzz.c — goal: no grammar and no schema breaks the reader, the compiler or a
 * matcher. Method: input is JSON: a schema, or an array of a GBNF and its schemas; else GBNF.  What
 * compiles is prepared for a vocabulary of single bytes and a few pairs, and followed for some
 * steps by the input's own bytes. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "grammar/grammar.h"
#include "text/json.h"

#define PARTS_MAX 4u

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

/* [GBNF, schema, …]: the schemas are %0, %1 …, the first also stands in for the others. */
static enum status from_parts(const struct json *v, struct grammar **g, struct err *e)
{
    struct grammar_schema parts[PARTS_MAX];
    struct grammar_source s = {.text = v->items[0].text, .schemas = parts};
    for (size_t i = 1; i < v->count && s.n_schemas < PARTS_MAX; i++)
        parts[s.n_schemas++] = (struct grammar_schema){&v->items[i], i > 1 ? &v->items[1] : NULL};
    return grammar_from_source(&s, g, e);
}

static enum status make(const struct json *v, struct grammar **g, struct err *e)
{
    bool is_parts = v->kind == JSON_ARRAY && v->count > 0 && v->items[0].kind == JSON_STRING;
    return is_parts ? from_parts(v, g, e) : grammar_from_schema(v, g, e);
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
    enum status st = json_parse(text, &a, &schema, &e) == OK ? make(schema, &g, &e)
                                                             : grammar_from_gbnf(text, &g, &e);
    arena_release(&a);
    if (st == OK)
        follow(g, data, size);
    grammar_free(g);
    return 0;
}
