/* SPDX-License-Identifier: MIT
 * golden_vocab.h — the vocabulary-only GGUFs of tests/golden/vocab, unpacked by `xz -dc` into memory.
 * For: tests, fuzz targets and benchmarks; the working directory is the source root. */
#ifndef KVASIR_TESTS_GOLDEN_VOCAB_H
#define KVASIR_TESTS_GOLDEN_VOCAB_H

#include "tokenizer/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>

#define GOLDEN_VOCAB_BYTES_MAX (64u << 20)

struct golden_vocab {
    char *bytes;
    size_t len;
    struct gguf *gguf;
    struct tokenizer *tokenizer;
};

static inline void golden_fail(const char *what, const char *path, const char *why)
{
    fprintf(stderr, "%s %s: %s\n", what, path, why);
    exit(1);
}

/* All of a file's bytes; a name ending in .xz is unpacked.  Exits with a reason on failure. */
static inline char *golden_read(const char *path, size_t *len)
{
    char command[512];
    size_t n = strlen(path), cap = 1u << 20;
    bool is_xz = n > 3 && strcmp(path + n - 3, ".xz") == 0;
    snprintf(command, sizeof command, "xz -dc '%s'", path);
    FILE *f = is_xz ? popen(command, "r") : fopen(path, "rb");
    if (!f)
        golden_fail("read", path, "cannot open");
    char *bytes = malloc(cap);
    *len = 0;
    while (bytes && (n = fread(bytes + *len, 1, cap - *len, f)) > 0) {
        *len += n;
        if (*len < cap)
            continue;
        if (cap == GOLDEN_VOCAB_BYTES_MAX)
            golden_fail("read", path, "too large");
        cap *= 2;
        bytes = realloc(bytes, cap);
    }
    int closed = is_xz ? pclose(f) : fclose(f);
    if (!bytes || closed != 0 || *len == 0)
        golden_fail("read", path, "failed (is xz-utils installed?)");
    return bytes;
}

/* A .gguf or .gguf.xz by its path. */
static inline struct golden_vocab golden_vocab_open(const char *path)
{
    struct golden_vocab v = {0};
    struct err e = {0};
    v.bytes = golden_read(path, &v.len);
    if (gguf_open_memory(v.bytes, v.len, path, &v.gguf, &e) != OK ||
        tokenizer_load(v.gguf, &v.tokenizer, &e) != OK)
        golden_fail("load", path, e.msg);
    return v;
}

static inline void golden_vocab_close(struct golden_vocab *v)
{
    tokenizer_free(v->tokenizer);
    gguf_close(v->gguf);
    free(v->bytes);
    *v = (struct golden_vocab){0};
}

#endif
