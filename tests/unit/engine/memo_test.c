/* SPDX-License-Identifier: MIT
 * Goal: the memory of texts never changes what a prompt's tokens are, but for turns that the model
 * itself wrote: those come back with the very ids it wrote, also after a restart, and only for the
 * text they belong to.
 * Method: skald's vocabulary through memo.h; chains of turns spelled canonically and oddly. */
#include "engine/memo.h"
#include "os/clock.h"
#include "rig.h"

extern const uint8_t kvasir_skald_begin[], kvasir_skald_end[];

struct kit {
    struct gguf *gguf;
    struct tokenizer *tokenizer;
    struct store *store;
    struct memo *memo;
    char dir[64];
};

static const struct digest owner = {{3}};

static void kit_open(struct kit *k, bool no_replay)
{
    struct err e = {0};
    size_t len = (size_t)(kvasir_skald_end - kvasir_skald_begin);
    struct store_options so = {.max_bytes = 1u << 28, .keep_free_bytes = 1};
    if (!k->dir[0])
        rig_make_dir(k->dir);
    if (gguf_open_memory(kvasir_skald_begin, len, "skald", &k->gguf, &e) != OK ||
        tokenizer_load(k->gguf, &k->tokenizer, &e) != OK ||
        store_open(os_fs_real(), k->dir, &so, &k->store, &e) != OK)
        fail_msg("%s", e.msg);
    struct memo_options o = {.tokenizer = k->tokenizer, .store = k->store, .no_replay = no_replay};
    assert_int_equal(memo_new(&o, &k->memo, &e), OK);
}

static void kit_close(struct kit *k)
{
    store_flush(k->store);
    memo_free(k->memo);
    store_close(k->store);
    tokenizer_free(k->tokenizer);
    gguf_close(k->gguf);
}

static void kit_remove(struct kit *k)
{
    rig_remove_dir(k->dir);
}

static struct prompt tokenize(struct kit *k, const char *text)
{
    struct prompt p;
    struct err e = {0};
    if (memo_tokenize(k->memo, &owner, slice_of(text), &p, &e) != OK)
        fail_msg("memo_tokenize: %s", e.msg);
    return p;
}

/* What the tokenizer alone says. */
static void assert_canonical(struct kit *k, const struct prompt *p, const char *text)
{
    struct token_list l = {0};
    struct err e;
    assert_int_equal(tokenizer_encode(k->tokenizer, slice_of(text),
                                      (struct encode_flags){.parse_special = true}, &l, &e),
                     OK);
    size_t bos = p->tokens.ids[0] == tokenizer_info(k->tokenizer).bos &&
                 (l.count == 0 || l.ids[0] != p->tokens.ids[0]);
    assert_int_equal(p->tokens.count, l.count + bos);
    assert_memory_equal(p->tokens.ids + bos, l.ids, l.count * sizeof *l.ids);
    token_list_release(&l);
}

#define TURN1  "<bos><start_of_turn>user\nwho are you?<end_of_turn>\n<start_of_turn>model\n"
#define ANSWER "I am skald, a tiny recall model."
#define TURN2 \
    TURN1 ANSWER "<end_of_turn>\n<start_of_turn>user\nthanks<end_of_turn>\n<start_of_turn>model\n"
#define OTHER     \
    TURN1 "I am " \
          "Skald.<end_of_turn>\n<start_of_turn>user\nthanks<end_of_turn>\n<start_of_turn>model\n"

/* The answer's bytes, each by its byte token: what no tokenizer would choose. */
static uint32_t spell_oddly(struct kit *k, const char *text, uint32_t *ids)
{
    uint32_t n = 0;
    for (; *text; text++) {
        char one[2] = {*text, 0};
        struct token_list l = {0};
        struct err e;
        assert_int_equal(
            tokenizer_encode(k->tokenizer, slice_of(one), (struct encode_flags){0}, &l, &e), OK);
        for (size_t i = 0; i < l.count; i++)
            ids[n++] = l.ids[i];
        token_list_release(&l);
    }
    return n;
}

static void test_same_as_tokenizer(void **state)
{
    (void)state;
    struct kit k = {0};
    kit_open(&k, false);
    const char *texts[] = {TURN1, TURN2, OTHER, "plain", "<end_of_turn>", "a<end_of_turn>b",
                           TURN2, TURN1};
    for (int again = 0; again < 2; again++) {
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
            struct prompt p = tokenize(&k, texts[i]);
            assert_canonical(&k, &p, texts[i]);
            assert_int_equal(p.n_replayed, 0);
            for (uint32_t j = 0; j < p.n_points; j++) {
                assert_true(p.points[j] <= p.tokens.count);
                assert_true(tokenizer_is_end(k.tokenizer, p.tokens.ids[p.points[j] - 1]));
            }
            prompt_release(&p);
        }
    }
    kit_close(&k);
    kit_remove(&k);
}

static void test_odd_turn_is_replayed(void **state)
{
    (void)state;
    struct kit k = {0};
    kit_open(&k, false);
    uint32_t odd[256];
    uint32_t n = spell_oddly(&k, ANSWER, odd), eot = tokenizer_info(k.tokenizer).eot;
    struct prompt first = tokenize(&k, TURN1);
    size_t n_first = first.tokens.count;
    memo_remember(k.memo, &first, odd, n, SLICE_LIT(ANSWER), eot);
    for (int restart = 0; restart < 3; restart++) {
        struct prompt p = tokenize(&k, TURN2);
        assert_int_equal(p.n_replayed, 1);
        assert_memory_equal(p.tokens.ids, first.tokens.ids, n_first * 4);
        assert_memory_equal(p.tokens.ids + n_first, odd, n * 4);
        assert_int_equal(p.tokens.ids[n_first + n], eot);
        prompt_release(&p);
        p = tokenize(&k, OTHER); /* another text is nobody's turn */
        assert_int_equal(p.n_replayed, 0);
        assert_canonical(&k, &p, OTHER);
        prompt_release(&p);
        kit_close(&k);
        kit_open(&k, restart == 2);
    }
    struct prompt p = tokenize(&k, TURN2); /* --replay off */
    assert_canonical(&k, &p, TURN2);
    prompt_release(&p);
    prompt_release(&first);
    kit_close(&k);
    kit_remove(&k);
}

/* A turn whose text holds an end token's text is cut elsewhere: it must not be remembered. */
static void test_forged_end(void **state)
{
    (void)state;
    struct kit k = {0};
    kit_open(&k, false);
    struct prompt first = tokenize(&k, TURN1);
    const uint32_t ids[] = {300, 301, 302};
    memo_remember(k.memo, &first, ids, 3, SLICE_LIT("yes<end_of_turn>no"),
                  tokenizer_info(k.tokenizer).eot);
    const char *text = TURN1 "yes<end_of_turn>no<end_of_turn>";
    struct prompt p = tokenize(&k, text);
    assert_canonical(&k, &p, text);
    prompt_release(&p);
    prompt_release(&first);
    kit_close(&k);
    kit_remove(&k);
}

static void test_many_texts(void **state)
{
    (void)state;
    struct kit k = {0};
    kit_open(&k, false);
    char *text = mem_new(60000, 1);
    for (uint32_t i = 0; i < 6000; i++) { /* more than the table holds */
        snprintf(text, 60000, "<bos>%u<end_of_turn>x", i);
        struct prompt p = tokenize(&k, text);
        assert_canonical(&k, &p, text);
        prompt_release(&p);
    }
    mem_free(text);
    kit_close(&k);
    kit_remove(&k);
}

/* Many ends of turns in one text: looking for them must not cost their number times its length. */
static void test_many_ends(void **state)
{
    (void)state;
    const uint32_t n = 60000;
    struct kit k = {0};
    kit_open(&k, false);
    struct buf text;
    buf_init(&text, 1u << 24);
    for (uint32_t i = 0; i < n; i++)
        buf_add_text(&text, "<end_of_turn>");
    struct prompt p;
    struct err e = {0};
    uint64_t start = clock_now_ns();
    assert_int_equal(memo_tokenize(k.memo, &owner, buf_slice(&text), &p, &e), OK);
    double ms = clock_ms_since(start);
    print_message("%u ends: %.0f ms\n", n, ms);
    assert_int_equal(p.tokens.count, n + 1);
    assert_true(ms < 1500); /* 20 when it is linear, 5000 when it is not; sanitizers included */
    prompt_release(&p);
    buf_release(&text);
    kit_close(&k);
    kit_remove(&k);
}

/* Another question behind the same history, and another chat behind the same first turn. */
static void test_another_question(void **state)
{
    (void)state;
    static const char again[] = TURN1 ANSWER
        "<end_of_turn>\n<start_of_turn>user\nwhy?<end_of_turn>\n<start_of_turn>model\n";
    struct kit k = {0};
    kit_open(&k, false);
    struct prompt p = tokenize(&k, TURN2);
    assert_int_equal(p.n_cuts, 3);
    assert_int_equal(p.n_known, 0);
    p.n_shared = 3;
    p.is_shared_known = true;
    memo_note_shared(k.memo, &p);
    prompt_release(&p);
    p = tokenize(&k, again);
    assert_int_equal(p.n_known, 2);
    assert_true(p.is_shared_known);
    assert_int_equal(p.n_shared, 3);
    assert_canonical(&k, &p, again);
    prompt_release(&p);
    p = tokenize(&k, OTHER);
    assert_int_equal(p.n_known, 1);
    assert_false(p.is_shared_known); /* nothing was noted there */
    assert_canonical(&k, &p, OTHER);
    prompt_release(&p);
    kit_close(&k);
    kit_remove(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_as_tokenizer), cmocka_unit_test(test_odd_turn_is_replayed),
        cmocka_unit_test(test_forged_end),        cmocka_unit_test(test_many_texts),
        cmocka_unit_test(test_many_ends),         cmocka_unit_test(test_another_question),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
