/* SPDX-License-Identifier: MIT
 * Goal: a vocabulary from anywhere loads right or is refused with a reason that names the file and
 * the field; what is loaded encodes as the rules say in the corners that real vocabularies lack.
 * Method: small vocabularies written by gguf_make, one thing wrong at a time. */
#include "base/endian.h"
#include "gguf/gguf.h"
#include "gguf_make.h"
#include "tokenizer/tokenizer.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define TOKENS_MAX 64

/* What a test changes; the rest is right. */
struct plan {
    const char *model, *pre; /* NULL: no such key */
    const char *tokens[TOKENS_MAX];
    int32_t types[TOKENS_MAX];
    float scores[TOKENS_MAX];
    const char *merges[TOKENS_MAX];
    uint64_t n_tokens, n_types, n_scores, n_merges; /* n_types, … 0: no such key */
    int32_t bos; /* -2: no such key */
    int add_bos, add_space_prefix; /* -1: no such key */
};

static struct plan spm_plan(void)
{
    return (struct plan){
        .model = "llama",
        .tokens = {"<unk>", "<s>", "</s>", "<0x41>", "a", "b", "ab", "ba", "\xE2\x96\x81", "abab"},
        .types = {2, 3, 3, 6, 1, 1, 1, 1, 1, 1},
        .scores = {0, 0, 0, 0, -5, -6, -1, -1, -7, -9},
        .n_tokens = 10,
        .n_types = 10,
        .n_scores = 10,
        .bos = 1,
        .add_bos = -1,
        .add_space_prefix = 0,
    };
}

static struct plan bpe_plan(void)
{
    return (struct plan){
        .model = "gpt2",
        .pre = "gpt-2",
        .tokens = {"a", "b", "c", "ab", "bc", "abc", "\xC4\xA0", "<|end|>", "<b>"},
        .types = {1, 1, 1, 1, 1, 1, 1, 3, 4},
        .merges = {"a b", "b c", "ab c"},
        .n_tokens = 9,
        .n_types = 9,
        .n_merges = 3,
        .bos = -2,
        .add_bos = -1,
        .add_space_prefix = -1,
    };
}

static struct slice write_plan(struct gguf_make *m, const struct plan *p)
{
    gguf_make_begin(m, 3, 0);
    if (p->model)
        gguf_make_key_string(m, "tokenizer.ggml.model", p->model);
    if (p->pre)
        gguf_make_key_string(m, "tokenizer.ggml.pre", p->pre);
    if (p->n_tokens)
        gguf_make_key_strings(m, "tokenizer.ggml.tokens", p->tokens, p->n_tokens);
    if (p->n_types)
        gguf_make_key_array(m, "tokenizer.ggml.token_type", GGUF_I32, p->n_types, p->types,
                            p->n_types * sizeof p->types[0]);
    if (p->n_scores)
        gguf_make_key_array(m, "tokenizer.ggml.scores", GGUF_F32, p->n_scores, p->scores,
                            p->n_scores * sizeof p->scores[0]);
    if (p->n_merges)
        gguf_make_key_strings(m, "tokenizer.ggml.merges", p->merges, p->n_merges);
    if (p->bos != -2)
        gguf_make_key_i32(m, "tokenizer.ggml.bos_token_id", p->bos);
    if (p->add_bos >= 0)
        gguf_make_key_bool(m, "tokenizer.ggml.add_bos_token", p->add_bos);
    if (p->add_space_prefix >= 0)
        gguf_make_key_bool(m, "tokenizer.ggml.add_space_prefix", p->add_space_prefix);
    return gguf_make_end(m);
}

static enum status load(struct slice file, struct tokenizer **t, struct err *e)
{
    struct gguf *g;
    enum status st = gguf_open_memory(file.ptr, file.len, "made.gguf", &g, e);
    if (st != OK)
        return st;
    st = tokenizer_load(g, t, e);
    gguf_close(g); /* the tokenizer keeps nothing of it */
    return st;
}

static struct tokenizer *load_plan(const struct plan *p)
{
    struct gguf_make m;
    struct tokenizer *t = NULL;
    struct err e = {0};
    if (load(write_plan(&m, p), &t, &e) != OK)
        fail_msg("%s", e.msg);
    gguf_make_release(&m);
    return t;
}

static void check_refused(const struct plan *p, enum status want, const char *reason)
{
    struct gguf_make m;
    struct tokenizer *t = NULL;
    struct err e = {0};
    enum status st = load(write_plan(&m, p), &t, &e);
    if (st != want || !strstr(e.msg, reason) || !strstr(e.msg, "made.gguf"))
        fail_msg("%s \"%s\", not %s \"%s\"", status_name(st), e.msg, status_name(want), reason);
    assert_null(t);
    gguf_make_release(&m);
}

static void test_kinds_refused(void **state)
{
    (void)state;
    struct plan p = spm_plan();
    p.model = NULL;
    check_refused(&p, E_INVALID, "tokenizer.ggml.model");
    p.model = "bert";
    check_refused(&p, E_UNSUPPORTED, "\"bert\"");
    p = bpe_plan();
    p.pre = NULL;
    check_refused(&p, E_UNSUPPORTED, "tokenizer.ggml.pre \"\"");
    p.pre = "default";
    check_refused(&p, E_UNSUPPORTED, "\"default\"");
}

static void test_tokens_refused(void **state)
{
    (void)state;
    struct plan p = spm_plan();
    p.n_tokens = 0;
    check_refused(&p, E_INVALID, "tokenizer.ggml.tokens");
    p = spm_plan();
    p.tokens[5] = "";
    check_refused(&p, E_INVALID, "token 5 is empty");
    p = spm_plan();
    p.tokens[9] = "ab";
    check_refused(&p, E_INVALID, "tokens 6 and 9 are the same text");
    p = spm_plan();
    p.n_types = 9;
    check_refused(&p, E_INVALID, "9 token types for 10 tokens");
    p = spm_plan();
    p.types[4] = 7;
    check_refused(&p, E_INVALID, "token 4: type 7");
    p = spm_plan();
    p.tokens[3] = "<0xg1>";
    check_refused(&p, E_INVALID, "token 3");
    char long_text[TOKENIZER_TOKEN_BYTES_MAX + 2];
    memset(long_text, 'x', sizeof long_text);
    long_text[sizeof long_text - 1] = '\0';
    p = spm_plan();
    p.tokens[9] = long_text;
    check_refused(&p, E_LIMIT, "token 9 has 4097 bytes");
    long_text[600] = '\0';
    p.types[9] = 3;
    check_refused(&p, E_LIMIT, "special tokens have at most");
}

static void test_scores_refused(void **state)
{
    (void)state;
    struct plan p = spm_plan();
    p.n_scores = 0;
    check_refused(&p, E_INVALID, "no tokenizer.ggml.scores");
    p.n_scores = 11;
    check_refused(&p, E_INVALID, "11 token scores for 10 tokens");
    p = spm_plan();
    p.scores[7] = NAN;
    check_refused(&p, E_INVALID, "token 7");
}

static void test_merges_refused(void **state)
{
    (void)state;
    struct plan p = bpe_plan();
    p.n_merges = 0;
    check_refused(&p, E_INVALID, "no tokenizer.ggml.merges");
    const char *const wrong[] = {"ab", " ab", "ab ", ""};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        p = bpe_plan();
        p.merges[1] = wrong[i];
        check_refused(&p, E_INVALID, "merge 1 is not two tokens");
    }
    const char *const unknown[] = {"a z", "z a", "c a"};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        p = bpe_plan();
        p.merges[2] = unknown[i];
        check_refused(&p, E_INVALID, "merge 2 names a token that is not there");
    }
}

static void test_ids_refused(void **state)
{
    (void)state;
    struct plan p = spm_plan();
    p.bos = 10;
    check_refused(&p, E_INVALID, "bos_token_id is 10");
    p.bos = -1;
    struct gguf_make m;
    struct tokenizer *t = NULL;
    struct err e = {0};
    assert_int_not_equal(load(write_plan(&m, &p), &t, &e), OK);
    gguf_make_release(&m);
}

/* Many special tokens of the greatest length: the trie has a ceiling. */
static void test_too_many_special_bytes(void **state)
{
    (void)state;
    enum { COUNT = 4200, LEN = 512 };
    char *texts = malloc((size_t)COUNT * (LEN + 1));
    const char **tokens = malloc(COUNT * sizeof *tokens);
    int32_t *types = malloc(COUNT * sizeof *types);
    float *scores = calloc(COUNT, sizeof *scores);
    assert_true(texts && tokens && types && scores);
    for (int i = 0; i < COUNT; i++) {
        char *text = texts + (size_t)i * (LEN + 1);
        memset(text, 'x', LEN);
        snprintf(text, LEN, "%08d", i);
        text[8] = 'x';
        text[LEN] = '\0';
        tokens[i] = text;
        types[i] = 3;
    }
    struct gguf_make m;
    gguf_make_begin(&m, 3, 0);
    gguf_make_key_string(&m, "tokenizer.ggml.model", "llama");
    gguf_make_key_strings(&m, "tokenizer.ggml.tokens", tokens, COUNT);
    gguf_make_key_array(&m, "tokenizer.ggml.token_type", GGUF_I32, COUNT, types, COUNT * 4);
    gguf_make_key_array(&m, "tokenizer.ggml.scores", GGUF_F32, COUNT, scores, COUNT * 4);
    struct tokenizer *t = NULL;
    struct err e = {0};
    assert_int_equal(load(gguf_make_end(&m), &t, &e), E_LIMIT);
    assert_non_null(strstr(e.msg, "special tokens"));
    gguf_make_release(&m);
    free(texts);
    free(tokens);
    free(types);
    free(scores);
}

/* ---- what is loaded ---- */

static void check_ids(const struct tokenizer *t, const char *text, struct encode_flags flags,
                      const char *want)
{
    struct token_list ids = {0};
    struct err e = {0};
    char got[512] = "";
    size_t n = 0;
    assert_int_equal(tokenizer_encode(t, slice_of(text), flags, &ids, &e), OK);
    for (size_t i = 0; i < ids.count; i++)
        n += (size_t)snprintf(got + n, sizeof got - n, i ? " %u" : "%u", ids.ids[i]);
    assert_string_equal(got, want);
    token_list_release(&ids);
}

static void test_spm_rules(void **state)
{
    (void)state;
    const struct encode_flags plain = {0}, special = {.add_special = true, .parse_special = true};
    struct plan p = spm_plan();
    struct tokenizer *t = load_plan(&p);
    struct tokenizer_info info = tokenizer_info(t);
    assert_string_equal(info.kind, "spm");
    assert_int_equal(info.n_vocab, 10);
    assert_int_equal(info.bos, 1);
    assert_int_equal(info.eos, TOKEN_NONE);
    assert_true(info.add_bos && !info.add_eos);
    check_ids(t, "", plain, "");
    check_ids(t, "", special, "1");
    check_ids(t, "aba", plain, "6 4");     /* ab and ba have equal scores: the leftmost first */
    check_ids(t, "abab", plain, "9");      /* ab + ab */
    check_ids(t, "bab", plain, "7 5");
    check_ids(t, "A", plain, "3");         /* by its byte */
    check_ids(t, "B\xE4\xB8\x80", plain, "0 0"); /* no byte token: the unknown one, per character */
    check_ids(t, "a b", plain, "4 8 5");
    check_ids(t, "a\xE2\x96\x81" "b", plain, "4 8 5");
    check_ids(t, "<s>a</s>", special, "1 1 4 2");
    check_ids(t, "<s>", plain, "0 0 0");   /* text that looks like a control token stays text */
    check_ids(t, "<0x41>", special, "1 0 0 0 0 0 0");
    assert_true(tokenizer_is_end(t, 2) && !tokenizer_is_end(t, 1) && !tokenizer_is_end(t, 99));
    assert_true(tokenizer_is_control(t, 1) && !tokenizer_is_control(t, 4));
    assert_int_equal(tokenizer_find(t, SLICE_LIT("</s>")), 2);
    assert_int_equal(tokenizer_find(t, SLICE_LIT("abba")), TOKEN_NONE);
    assert_int_equal(tokenizer_piece(t, 99, true).len, 0);
    tokenizer_free(t);
    p.add_space_prefix = 1;
    t = load_plan(&p);
    check_ids(t, "", plain, "");
    check_ids(t, "a<s>b", special, "1 8 4 1 8 5"); /* after each special token too */
    tokenizer_free(t);
    p.add_bos = 0;
    p.add_space_prefix = -1; /* SPM's default: on */
    t = load_plan(&p);
    check_ids(t, "a", special, "8 4");
    tokenizer_free(t);
}

static void test_bpe_rules(void **state)
{
    (void)state;
    const struct encode_flags plain = {0}, special = {.add_special = true, .parse_special = true};
    struct plan p = bpe_plan();
    struct tokenizer *t = load_plan(&p);
    assert_string_equal(tokenizer_info(t).kind, "bpe");
    assert_string_equal(tokenizer_info(t).pre, "gpt-2");
    check_ids(t, "abc", special, "5");
    check_ids(t, "bcabc", plain, "4 5");
    check_ids(t, "a b", plain, "0 6 1");
    check_ids(t, "axb", plain, "0 1");      /* a byte that the vocabulary lacks is dropped */
    check_ids(t, "a<b>", plain, "0 8");     /* user-defined: always */
    check_ids(t, "a<|end|>", special, "0 7");
    check_ids(t, "a<|end|>", plain, "0");
    assert_true(tokenizer_is_end(t, 7));
    tokenizer_free(t);
    p.types[5] = 3; /* "ab c" now makes a control token: that merge rests */
    t = load_plan(&p);
    check_ids(t, "abc", plain, "3 2");
    check_ids(t, "abc", special, "5");
    tokenizer_free(t);
}

/* Llama 3 takes a word that is a token as that token even where no merge leads there. */
static void test_whole_words(void **state)
{
    (void)state;
    struct plan p = bpe_plan();
    p.n_merges = 1; /* "a b" only */
    struct tokenizer *t = load_plan(&p);
    check_ids(t, "abc", (struct encode_flags){0}, "3 2");
    tokenizer_free(t);
    p.pre = "llama-bpe";
    t = load_plan(&p);
    check_ids(t, "abc", (struct encode_flags){0}, "5");
    check_ids(t, "abcb", (struct encode_flags){0}, "3 2 1");
    tokenizer_free(t);
}

/* gpt-oss: <|end|> ends a message, not the reply, when <|return|> is there. */
static void test_ends_of_harmony(void **state)
{
    (void)state;
    struct plan p = bpe_plan();
    p.tokens[8] = "<|return|>";
    p.types[8] = 3;
    struct tokenizer *t = load_plan(&p);
    assert_true(tokenizer_is_end(t, 8) && !tokenizer_is_end(t, 7));
    tokenizer_free(t);
}

static void test_too_long_a_text(void **state)
{
    (void)state;
    struct plan p = bpe_plan();
    struct tokenizer *t = load_plan(&p);
    struct token_list ids = {0};
    struct err e = {0};
    struct slice text = {"", (size_t)TOKENIZER_TEXT_MAX + 1}; /* refused before it is read */
    assert_int_equal(token_list_add(&ids, 5), OK);
    assert_int_equal(tokenizer_encode(t, text, (struct encode_flags){0}, &ids, &e), E_LIMIT);
    assert_int_equal(ids.count, 1);
    token_list_release(&ids);
    tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds_refused),    cmocka_unit_test(test_tokens_refused),
        cmocka_unit_test(test_scores_refused),   cmocka_unit_test(test_merges_refused),
        cmocka_unit_test(test_ids_refused),      cmocka_unit_test(test_too_many_special_bytes),
        cmocka_unit_test(test_spm_rules),        cmocka_unit_test(test_bpe_rules),
        cmocka_unit_test(test_whole_words),      cmocka_unit_test(test_ends_of_harmony),
        cmocka_unit_test(test_too_long_a_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
