/* SPDX-License-Identifier: MIT
 * passage.c — see passage.h. */
#include "bench/client/passage.h"

#include "base/check.h"
#include "base/prng.h"
#include "bench/client/child.h"
#include "text/json.h"

#define TOKENIZE_MS_MAX   120000u
#define TRIES_MAX         8u
#define PASSAGE_BYTES_MAX (4u << 20)

static const char *const places[] = {"the harbour",   "the old mill", "the north gate",
                                     "the library",   "the market",   "the lighthouse",
                                     "the school",    "the station",  "the bakery",
                                     "the town hall", "the garden",   "the bridge"};
static const char *const people[] = {
    "Anna Berg",   "the captain", "Tom Willow",  "the gardener", "Mrs Hale",    "a young clerk",
    "Peter Stone", "the teacher", "Doctor Lind", "the baker",    "Julia March", "an old sailor"};
static const char *const deeds[] = {"found",   "painted",  "repaired", "sold",
                                    "counted", "measured", "borrowed", "hid",
                                    "cleaned", "ordered",  "packed",   "described"};
static const char *const things[] = {"lanterns", "wooden boats", "maps",     "barrels",
                                     "clocks",   "letters",      "blankets", "copper keys",
                                     "baskets",  "mirrors",      "tables",   "books"};
static const char *const ends[] = {"before the rain began",     "while the bells were ringing",
                                   "for the summer festival",   "and wrote it down in the ledger",
                                   "because nobody else would", "after a long walk along the river",
                                   "with the help of a friend", "and kept one for the museum"};

static const char *pick(struct prng *p, const char *const *words, size_t n)
{
    return words[prng_below(p, n)];
}
#define PICK(p, words) pick(p, words, ARRAY_COUNT(words))

void passage_add(struct buf *out, size_t bytes, uint64_t seed)
{
    struct prng p = {.seed = seed};
    for (unsigned n = 1; out->len < bytes && !out->failed; n++) {
        buf_printf(out, "%u. In %u, near %s, %s %s %u %s", n, 1700 + (unsigned)prng_below(&p, 300),
                   PICK(&p, places), PICK(&p, people), PICK(&p, deeds),
                   2 + (unsigned)prng_below(&p, 900), PICK(&p, things));
        buf_printf(out, " %s.\n", PICK(&p, ends));
    }
}

enum status passage_count_tokens(const char *program, const char *model, struct slice text,
                                 size_t *count, struct err *e)
{
    const char *argv[] = {program, "eval", "tokenize", model ? "-m" : NULL, model, NULL};
    struct buf line;
    struct arena a;
    struct child_result result = {0};
    struct json *v = NULL;
    buf_init(&line, 2 * PASSAGE_BYTES_MAX);
    arena_init(&a, 1u << 30);
    buf_add_text(&line, "{\"text\":");
    json_write_string(&line, text);
    buf_add_text(&line, ",\"add_special\":false,\"parse_special\":false}\n");
    struct child_options options = {.input = buf_slice(&line)};
    enum status st = child_run(argv, &options, TOKENIZE_MS_MAX, &result, e);
    if (st == OK && result.code != 0)
        st = err_set(e, E_IO, "%s eval tokenize: code %d: %.100s", program, result.code,
                     result.err.len ? result.err.ptr : "");
    if (st == OK)
        st = json_parse(buf_slice(&result.out), &a, &v, e);
    const struct json *tokens = st == OK ? json_get(v, "tokens") : NULL;
    if (tokens && tokens->kind == JSON_ARRAY)
        *count = tokens->count;
    else if (st == OK)
        st = err_set(e, E_SYNTAX, "%s eval tokenize gave no tokens", program);
    child_result_release(&result);
    buf_release(&line);
    arena_release(&a);
    return st;
}

enum status passage_of_tokens(struct buf *out, const char *program, const char *model,
                              uint32_t n_tokens, uint64_t seed, struct err *e)
{
    double bytes = (double)n_tokens * 4;
    for (unsigned i = 0; i < TRIES_MAX; i++) {
        size_t count = 0;
        buf_clear(out);
        passage_add(out, (size_t)bytes, seed);
        enum status st = out->failed ? err_set(e, E_LIMIT, "passage too long")
                                     : passage_count_tokens(program, model, buf_slice(out), &count, e);
        if (st != OK)
            return st;
        if (count <= n_tokens && count >= n_tokens - n_tokens / 50)
            return OK;
        if (count == 0)
            return err_set(e, E_SYNTAX, "a passage of no tokens");
        bytes = (double)out->len * 0.995 * (double)n_tokens / (double)count;
    }
    return err_set(e, E_LIMIT, "no passage of about %u tokens after %u tries", n_tokens, TRIES_MAX);
}
