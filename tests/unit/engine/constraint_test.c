/* SPDX-License-Identifier: MIT
 * constraint_test.c — goal: an answer under a schema or grammar is one that it allows, whoever runs
 * beside it, guessed or not; what can't be kept is an error of that request alone.
 * Method: skald, hot sampling, several choices; texts are read back by json_parse and by the
 * grammar itself. */
#include "grammar/grammar.h"
#include "rig.h"
#include "text/json.h"

#define SCHEMA                                                                                     \
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":8},"         \
    "\"kind\":{\"enum\":[\"a\",\"long one\"]},\"n\":{\"type\":\"integer\",\"minimum\":-5,"         \
    "\"maximum\":500},\"list\":{\"type\":\"array\",\"items\":{\"type\":\"boolean\"},\"maxItems\":" \
    "3}},"                                                                                         \
    "\"required\":[\"name\",\"kind\",\"n\",\"list\"],\"additionalProperties\":false}"

static struct engine_request *request(struct engine *g, const char *schema, const char *grammar,
                                      uint64_t seed)
{
    uint32_t *t = rig_tokens(seed, 40, 400);
    struct engine_request *r = rig_request(g, t, 40, 200);
    mem_free(t);
    r->sampling.temperature = 1.5f;
    r->sampling.top_k = seed % 2 ? 0 : 40;
    r->has_seed = true;
    r->sampling.seed = seed;
    if (schema) {
        struct json *v;
        struct err e;
        assert_int_equal(json_parse(slice_of(schema), &r->arena, &v, &e), OK);
        r->schema = v;
    }
    if (grammar)
        r->grammar = slice_of(grammar);
    return r;
}

static struct rig_answer *ask(struct engine *g, struct engine_request *r)
{
    struct rig_answer *a = rig_answer_new();
    rig_submit(g, r, a);
    rig_wait(a);
    return a;
}

static struct grammar *schema_grammar(const char *text)
{
    struct arena a;
    struct json *v;
    struct grammar *g;
    struct err e;
    arena_init(&a, 1 << 20);
    assert_int_equal(json_parse(slice_of(text), &a, &v, &e), OK);
    assert_int_equal(grammar_from_schema(v, &g, &e), OK);
    arena_release(&a);
    return g;
}

static void schemas_are_kept(void **state)
{
    (void)state;
    struct grammar *grammar = schema_grammar(SCHEMA);
    uint32_t n_whole = 0;
    for (uint32_t speculate = 0; speculate < 2; speculate++) {
        struct engine *g =
            rig_engine((struct engine_options){.speculate = speculate ? 6 : ENGINE_SPECULATE_OFF});
        for (uint64_t seed = 0; seed < 6; seed++) {
            struct engine_request *r = request(g, SCHEMA, NULL, seed);
            r->n_choices = 3;
            r->ignore_eos = seed % 3 == 0;
            struct rig_answer *a = ask(g, r);
            if (a->error.code != OK)
                fail_msg("%s", a->error.msg);
            for (uint32_t i = 0; i < 3; i++) {
                bool yes = false;
                struct err e;
                if (a->finish[i] == FINISH_LENGTH) /* much white space was drawn */
                    continue;
                n_whole++;
                assert_int_equal(grammar_matches(grammar, slice_of(a->text[i]), &yes, &e), OK);
                if (!yes)
                    fail_msg("not allowed: %s", a->text[i]);
            }
            assert_string_not_equal(a->text[0], a->text[1]);
            rig_answer_free(a);
        }
        engine_close(g);
    }
    grammar_free(grammar);
    assert_true(n_whole > 24); /* of 36 */
}

/* One text only: whatever the model thinks, and however it is spelled. */
static void a_fixed_text_is_written(void **state)
{
    (void)state;
    struct engine *g = rig_engine((struct engine_options){.speculate = 8});
    struct rig_answer *a =
        ask(g, request(g, NULL, "root ::= \"the answer: \" [0-9]{2} \"!\\n\"", 3));
    assert_int_equal(a->finish[0], FINISH_STOP);
    assert_int_equal(strlen(a->text[0]), 16);
    assert_memory_equal(a->text[0], "the answer: ", 12);
    assert_string_equal(a->text[0] + 14, "!\n");
    rig_answer_free(a);
    engine_close(g);
}

/* From the first token on, once there is a line feed. */
static void an_answer_may_run_out_of_time(void **state)
{
    (void)state;
    struct engine *g = rig_engine((struct engine_options){0});
    for (int has_line = 0; has_line < 2; has_line++) {
        struct engine_request *r =
            request(g, NULL, has_line ? "root ::= \"\\n\" [a-z]{3000}" : "root ::= [a-z]{3000}", 3);
        r->predict_ms_max = 1;
        struct rig_answer *a = ask(g, r);
        assert_int_equal(a->error.code, OK);
        assert_int_equal(a->finish[0], FINISH_LENGTH);
        if (has_line)
            assert_true(a->n[0] >= 1 && a->n[0] < 200);
        else
            assert_int_equal(a->n[0], 200);
        rig_answer_free(a);
    }
    engine_close(g);
}

/* A control token is written where the grammar names it as a mark, and nowhere else; %N is a value
 * of a schema. */
static void marks_are_written(void **state)
{
    (void)state;
    struct engine *g = rig_engine((struct engine_options){0});
    const struct tokenizer *t = engine_tokenizer(g);
    uint32_t mark = TOKEN_NONE, n_vocab = tokenizer_info(t).n_vocab;
    for (uint32_t i = 0; i < n_vocab && mark == TOKEN_NONE; i++)
        if (tokenizer_is_control(t, i) && !tokenizer_is_end(t, i))
            mark = i;
    assert_true(mark != TOKEN_NONE);
    char text[256];
    struct slice piece = tokenizer_piece(t, mark, true);
    snprintf(text, sizeof text, "begin ::= \"a\" \"%.*s\" %%0 \"b\"", SLICE_ARG(piece));
    for (uint32_t with = 0; with < 2; with++) {
        struct engine_request *r = request(g, NULL, text, 5);
        struct json *schema;
        struct err e;
        assert_int_equal(json_parse(SLICE_LIT("{\"const\":17}"), &r->arena, &schema, &e), OK);
        const struct grammar_schema parts[] = {{schema, NULL}};
        r->grammar_root = SLICE_LIT("begin");
        r->grammar_schemas = parts;
        r->n_grammar_schemas = 1;
        r->grammar_marks = &piece;
        r->n_grammar_marks = with;
        r->show_special = true;
        char expected[256];
        snprintf(expected, sizeof expected, "a%.*s17b", SLICE_ARG(piece));
        struct rig_answer *a = ask(g, r);
        uint32_t n = 0;
        assert_int_equal(a->error.code, OK);
        assert_string_equal(a->text[0], expected);
        for (uint32_t i = 0; i < a->n[0]; i++)
            n += a->tokens[0][i] == mark;
        if (!with) /* spelled, if at all */
            assert_int_equal(n, 0);
        rig_answer_free(a);
    }
    engine_close(g);
}

/* Behind the trigger the grammar holds; behind its end all is free again. */
static void a_trigger_begins_it(void **state)
{
    (void)state;
    struct engine *g = rig_engine((struct engine_options){0});
    struct rig_answer *a = ask(g, request(g, NULL, NULL, 8));
    /* a token's text that appears there for the first time, so that it ends where a token ends */
    char trigger[64] = {0};
    size_t at = 0;
    for (uint32_t i = 0; i < a->n[0] && !trigger[0]; i++) {
        struct slice piece = tokenizer_piece(engine_tokenizer(g), a->tokens[0][i], false);
        char copy[64] = {0};
        if (piece.len < sizeof copy)
            memcpy(copy, piece.ptr, piece.len);
        if (i > 10 && piece.len > 2 && strstr(a->text[0], copy) == a->text[0] + at)
            memcpy(trigger, copy, sizeof copy);
        at += piece.len;
    }
    assert_true(trigger[0] != 0);
    size_t len = strlen(trigger);
    struct engine_request *r = request(g, NULL, "root ::= \"<\" [0-9]{3} \">\"", 8);
    r->trigger = slice_of(trigger);
    struct rig_answer *b = ask(g, r);
    const char *begun = strstr(b->text[0], trigger), *free_text = strstr(a->text[0], trigger);
    assert_non_null(begun);
    assert_int_equal(begun - b->text[0], free_text - a->text[0]);
    assert_memory_equal(a->text[0], b->text[0], (size_t)(begun - b->text[0]));
    assert_int_equal(begun[len], '<');
    assert_int_equal(begun[len + 4], '>');
    assert_true(strlen(begun) > len + 5);
    rig_answer_free(a);
    rig_answer_free(b);
    engine_close(g);
}

static void errors_are_the_requests_own(void **state)
{
    (void)state;
    struct engine *g = rig_engine((struct engine_options){0});
    struct rig_answer *good = rig_answer_new();
    rig_submit(g, request(g, SCHEMA, NULL, 1), good);
    struct rig_answer *a = ask(g, request(g, "{\"uniqueItems\":true}", NULL, 2));
    assert_int_equal(a->error.code, E_UNSUPPORTED);
    assert_non_null(strstr(a->error.msg, "uniqueItems"));
    struct rig_answer *b = ask(g, request(g, NULL, "root ::= root \"a\"", 2));
    assert_int_equal(b->error.code, E_INVALID);
    struct engine_request *both = request(g, SCHEMA, "root ::= \"a\"", 2);
    uint64_t id;
    struct err e;
    both->event = rig_event;
    assert_int_equal(engine_submit(g, both, &id, &e), E_INVALID);
    engine_request_free(both);
    rig_wait(good);
    assert_int_equal(good->error.code, OK);
    assert_int_equal(good->finish[0], FINISH_STOP);
    rig_answer_free(a);
    rig_answer_free(b);
    rig_answer_free(good);
    engine_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(schemas_are_kept),
                                       cmocka_unit_test(a_fixed_text_is_written),
                                       cmocka_unit_test(a_trigger_begins_it),
                                       cmocka_unit_test(marks_are_written),
                                       cmocka_unit_test(an_answer_may_run_out_of_time),
                                       cmocka_unit_test(errors_are_the_requests_own)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
