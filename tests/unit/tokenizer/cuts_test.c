/* SPDX-License-Identifier: MIT
 * Goal: where tokenizer_cuts_at() says that text may be cut, encode(a c b) is encode(a) + encode(c b)
 * and encode(a c) + encode(b); and it says so for the tokens that chat templates put between turns.
 * Method: every golden and tiny vocabulary; a and b at random out of pieces of special tokens, letters,
 * blanks, marks, broken UTF-8, whole tokens.  The seed is printed. */
#include "base/prng.h"
#include "golden_vocab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define SEED 20261123u
#define ROUNDS 3000
#define TEXT_MAX 4096

static const char *const vocabularies[] = {
    "tests/golden/vocab/gguf.smollm2.vocab.gguf.xz", "tests/golden/vocab/gguf.gemma3.vocab.gguf.xz",
    "tests/golden/vocab/hf.qwen3.vocab.gguf.xz",     "tests/golden/vocab/hf.llama3.vocab.gguf.xz",
    "tests/golden/vocab/hf.gptoss.vocab.gguf.xz",    "tests/golden/vocab/hf.deepseek_v3.vocab.gguf.xz",
    "tests/golden/tiny/tiny-llama-F32.gguf",         "tests/golden/tiny/tiny-gemma3-F32.gguf",
};

struct text {
    char bytes[TEXT_MAX];
    size_t len;
};

static void add(struct text *t, const char *bytes, size_t len)
{
    if (len > TEXT_MAX - t->len)
        return;
    memcpy(t->bytes + t->len, bytes, len);
    t->len += len;
}

static void add_random(struct text *t, const struct tokenizer *tok, struct slice cut, struct prng *r)
{
    static const char *const bits[] = {
        "<", "|", ">", "<|", "|>", "im_", "_end", "\n", "\n\n", " ", "  ", "\t", "a", "Word", "'s", "12",
        "\xCC\x81", "e", "\xE4\xB8\x80", "\xE2\x96\x81", "\xEF\xBD\x9C", "\xFF", "\xE2", ".", "<0x41>",
    };
    for (uint64_t n = prng_below(r, 8); n > 0; n--) {
        uint64_t kind = prng_below(r, 4);
        if (kind == 0) {
            size_t from = prng_below(r, cut.len), len = 1 + prng_below(r, cut.len - from);
            add(t, cut.ptr + from, len);
        } else if (kind == 1) {
            uint32_t id = (uint32_t)prng_below(r, tokenizer_info(tok).n_vocab);
            struct slice piece = tokenizer_piece(tok, id, true);
            add(t, piece.ptr, piece.len);
        } else {
            const char *bit = bits[prng_below(r, sizeof bits / sizeof bits[0])];
            add(t, bit, strlen(bit));
        }
    }
}

static struct token_list encode(const struct tokenizer *t, const char *bytes, size_t len)
{
    struct token_list ids = {0};
    struct err e = {0};
    struct slice text = {bytes, len};
    assert_int_equal(tokenizer_encode(t, text, (struct encode_flags){.parse_special = true}, &ids, &e),
                     OK);
    return ids;
}

static void check_cut(const struct tokenizer *t, const struct text *whole, size_t cut, uint32_t id)
{
    struct token_list all = encode(t, whole->bytes, whole->len);
    struct token_list left = encode(t, whole->bytes, cut);
    struct token_list right = encode(t, whole->bytes + cut, whole->len - cut);
    bool same = all.count == left.count + right.count &&
                (left.count == 0 || memcmp(all.ids, left.ids, left.count * sizeof *all.ids) == 0) &&
                (right.count == 0 ||
                 memcmp(all.ids + left.count, right.ids, right.count * sizeof *all.ids) == 0);
    if (!same)
        fail_msg("token %u, cut at %zu of \"%.*s\"", id, cut, (int)whole->len, whole->bytes);
    token_list_release(&all);
    token_list_release(&left);
    token_list_release(&right);
}

static void check_vocabulary(const char *path, struct prng *r)
{
    struct golden_vocab v = golden_vocab_open(path);
    const struct tokenizer *t = v.tokenizer;
    uint32_t cuts[8192], n_cuts = 0, n_control = 0;
    for (uint32_t id = 0; id < tokenizer_info(t).n_vocab; id++) {
        if (!tokenizer_is_control(t, id))
            continue;
        n_control++;
        if (n_control % 16 < 8 && n_cuts < 8192 && tokenizer_cuts_at(t, id))
            cuts[n_cuts++] = id;
    }
    assert_true(n_cuts > 0);
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t id = cuts[prng_below(r, n_cuts)];
        struct slice cut = tokenizer_piece(t, id, true);
        struct text text = {.len = 0};
        add_random(&text, t, cut, r);
        size_t before = text.len;
        add(&text, cut.ptr, cut.len);
        add_random(&text, t, cut, r);
        check_cut(t, &text, before, id);
        check_cut(t, &text, before + cut.len, id);
    }
    golden_vocab_close(&v);
}

static void test_random_texts(void **state)
{
    (void)state;
    struct prng r = {.seed = SEED};
    print_message("seed %u\n", SEED);
    for (size_t i = 0; i < sizeof vocabularies / sizeof vocabularies[0]; i++)
        check_vocabulary(vocabularies[i], &r);
}

static void check_named(const char *path, const char *const *cut, const char *const *kept)
{
    struct golden_vocab v = golden_vocab_open(path);
    for (; *cut; cut++)
        if (!tokenizer_cuts_at(v.tokenizer, tokenizer_find(v.tokenizer, slice_of(*cut))))
            fail_msg("%s: no cut at %s", path, *cut);
    for (; *kept; kept++)
        if (tokenizer_cuts_at(v.tokenizer, tokenizer_find(v.tokenizer, slice_of(*kept))))
            fail_msg("%s: cut at %s", path, *kept);
    golden_vocab_close(&v);
}

/* The tokens between turns cut; Gemma's newline is the beginning of its double newline, and a word
 * is no special token. */
static void test_named_tokens(void **state)
{
    (void)state;
    const char *const none[] = {"the", NULL};
    const char *const chatml[] = {"<|im_start|>", "<|im_end|>", "<|endoftext|>", NULL};
    const char *const gemma[] = {"<start_of_turn>", "<end_of_turn>", "<bos>", NULL};
    const char *const gemma_kept[] = {"\n", "\n\n", "  ", NULL};
    const char *const llama3[] = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", NULL};
    const char *const harmony[] = {"<|start|>", "<|message|>", "<|end|>", "<|channel|>", NULL};
    check_named(vocabularies[0], chatml, none);
    check_named(vocabularies[1], gemma, gemma_kept);
    check_named(vocabularies[2], chatml, none);
    check_named(vocabularies[3], llama3, none);
    check_named(vocabularies[4], harmony, none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_texts),
        cmocka_unit_test(test_named_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
