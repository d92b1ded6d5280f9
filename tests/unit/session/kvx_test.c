/* SPDX-License-Identifier: MIT
 * Goal:   what was exported comes back whole, elsewhere, with its pages under names that only it
 * can look up; any damaged, cut or foreign file is refused and leaves nothing. Method: two stores;
 * pages put by hand as the cache names them; each byte of a small file changed, each length cut; a
 * file of another model. */
#include "session/kvx.h"
#include "session_kit.h"

struct file {
    struct buf bytes;
    size_t at, piece; /* of reading; piece: at most so much at once */
};

static enum status write_file(void *arg, const void *bytes, size_t n, struct err *e)
{
    struct file *f = arg;
    buf_add(&f->bytes, bytes, n);
    return f->bytes.failed ? err_set(e, E_FULL, "no room") : OK;
}

static enum status read_file(void *arg, void *bytes, size_t max, size_t *n, struct err *e)
{
    struct file *f = arg;
    (void)e;
    *n = f->bytes.len - f->at;
    *n = *n < max ? *n : max;
    *n = f->piece && *n > f->piece ? f->piece : *n;
    memcpy(bytes, f->bytes.ptr + f->at, *n);
    f->at += *n;
    return OK;
}

static void export(struct kit *k, const char *which, bool with_forks, struct file *f)
{
    struct err e = {0};
    struct kvx_count n;
    buf_init(&f->bytes, 1u << 28);
    f->at = f->piece = 0;
    struct kvx_export x = {
        .which = slice_of(which), .with_forks = with_forks, .write = write_file, .arg = f};
    if (kvx_export(k->b, &x, &n, &e) != OK)
        fail_msg("export: %s", e.msg);
}

static enum status import(struct kit *k, struct file *f, struct kvx_import o, struct err *e)
{
    struct buf answer;
    buf_init(&answer, 1u << 20);
    f->at = 0;
    o.read = read_file;
    o.arg = f;
    *e = (struct err){0};
    enum status st = kvx_import(k->b, &o, &answer, e);
    assert_true(st == OK ? answer.len > 0 : answer.len == 0);
    buf_release(&answer);
    return st;
}

/* A session of 200 tokens with three full pages and a tail, and a fork of it. */
static void make_source(struct kit *k)
{
    kit_begin(k);
    struct digest salt = sessions_salt(k->b, 0);
    kit_must_keep(k, (struct kit_turn){.name = "a", .n = 200, .n_messages = 3});
    for (uint32_t i = 0; i < 3; i++)
        kit_put_page(k, &salt, i, PAGE_KEY_TOKENS);
    kit_put_page(k, &salt, 3, 7);
    kit_must(k, "{\"op\":\"pin\",\"name\":\"a\",\"reason\":\"why not\"}");
    kit_must(k, "{\"op\":\"fork\",\"name\":\"a\",\"as\":\"b\",\"at\":100}");
}

static void test_there_and_back(void **state)
{
    (void)state;
    struct kit from, to;
    struct file f;
    struct err e;
    make_source(&from);
    kit_begin(&to);
    export(&from, "a", true, &f);
    f.piece = 1000;
    if (import(&to, &f, (struct kvx_import){.roots = &kit_root, .n_roots = 1}, &e) != OK)
        fail_msg("import: %s", e.msg);
    for (int i = 0; i < 2; i++) {
        kit_check(&to, 0, "a", 200, 0, 0, 3);
        kit_check(&to, 0, "b", 100, 0, 0, 1);
        struct digest salt, own = sessions_salt(to.b, 0), of_fork;
        assert_true(sessions_find_salt(to.b, 0, SLICE_LIT("a"), &salt));
        assert_true(sessions_find_salt(to.b, 0, SLICE_LIT("b"), &of_fork));
        assert_true(digest_equal(&salt, &of_fork));
        assert_false(digest_equal(&salt, &own));
        for (uint32_t p = 0; p < 3; p++) {
            assert_true(kit_has_page(&to, &salt, p, PAGE_KEY_TOKENS));
            assert_false(kit_has_page(&to, &own, p, PAGE_KEY_TOKENS));
        }
        assert_true(kit_has_page(&to, &salt, 3, 7));
        kit_again(&to);
    }
    /* A second time: the name is taken, another one is fine, and its salt is its own. */
    assert_int_equal(import(&to, &f, (struct kvx_import){.roots = &kit_root, .n_roots = 1}, &e),
                     E_EXISTS);
    assert_int_equal(
        import(&to, &f, (struct kvx_import){.roots = &kit_root, .n_roots = 1, .as = SLICE_LIT("c")},
               &e),
        OK);
    struct digest a, c;
    assert_true(sessions_find_salt(to.b, 0, SLICE_LIT("a"), &a));
    assert_true(sessions_find_salt(to.b, 0, SLICE_LIT("c"), &c));
    assert_false(digest_equal(&a, &c));
    kit_check(&to, 0, "b-1", 100, 0, 0, 1);
    /* A conversation that was imported goes on as any other. */
    kit_must_keep(&to, (struct kit_turn){.name = "c", .n = 300, .n_messages = 5});
    kit_check(&to, 0, "c", 300, 0, 0, 5);
    assert_true(sessions_find_salt(to.b, 0, SLICE_LIT("c"), &a));
    assert_true(digest_equal(&a, &c));
    buf_release(&f.bytes);
    kit_end(&from);
    kit_end(&to);
}

static void test_trust(void **state)
{
    (void)state;
    struct kit from, to;
    struct file f;
    struct err e;
    make_source(&from);
    kit_begin(&to);
    export(&from, "a", false, &f);
    assert_int_equal(
        import(&to, &f, (struct kvx_import){.roots = &kit_root, .n_roots = 1, .trust = true}, &e),
        OK);
    struct digest own = sessions_salt(to.b, 0);
    assert_true(kit_has_page(&to, &own, 2, PAGE_KEY_TOKENS));
    buf_release(&f.bytes);
    kit_end(&from);
    kit_end(&to);
}

static void test_other_model(void **state)
{
    (void)state;
    struct kit from, to;
    struct file f;
    struct err e;
    struct store_stat stat;
    const struct digest other = {{8}};
    make_source(&from);
    kit_begin(&to);
    export(&from, "a", false, &f);
    assert_int_equal(
        import(&to, &f, (struct kvx_import){.roots = &other, .n_roots = 1, .model = "other"}, &e),
        E_UNSUPPORTED);
    assert_non_null(strstr(e.msg, "other"));
    assert_non_null(strstr(e.msg, "--tokens-only"));
    assert_int_equal(import(&to, &f,
                            (struct kvx_import){.roots = &other, .n_roots = 1, .tokens_only = true},
                            &e),
                     OK);
    kit_check(&to, 0, "a", 200, 0, 0, 3);
    store_stat(to.store, &stat);
    assert_int_equal(stat.n_records[RECORD_PAGE], 0);
    buf_release(&f.bytes);
    kit_end(&from);
    kit_end(&to);
}

static void assert_nothing(struct kit *k)
{
    struct store_stat stat;
    store_flush(k->store);
    store_stat(k->store, &stat);
    assert_int_equal(stat.n_records[RECORD_SESSION], 0);
    assert_int_equal(stat.n_records[RECORD_TOKENS], 0);
    assert_int_equal(stat.n_records[RECORD_PAGE], 0);
}

/* Each byte of it changed, in turn; each length of it. */
static void test_damaged(void **state)
{
    (void)state;
    struct kit from, to;
    struct file f;
    struct err e;
    kit_begin(&from);
    kit_must_keep(&from, (struct kit_turn){.name = "a", .n = 70, .n_messages = 2});
    struct digest salt = sessions_salt(from.b, 0);
    kit_put_page(&from, &salt, 0, PAGE_KEY_TOKENS);
    kit_begin(&to);
    export(&from, "a", false, &f);
    size_t whole = f.bytes.len;
    struct prng p = {.seed = 5};
    for (size_t i = 0; i < whole; i += 1 + prng_below(&p, 7)) {
        char was = f.bytes.ptr[i];
        f.bytes.ptr[i] = (char)(was ^ (1 << prng_below(&p, 8)));
        enum status st = import(&to, &f, (struct kvx_import){.roots = &kit_root, .n_roots = 1}, &e);
        if (st != E_CORRUPT && st != E_SYNTAX && st != E_UNSUPPORTED)
            fail_msg("byte %zu: %s", i, status_name(st));
        f.bytes.ptr[i] = was;
    }
    for (size_t n = 0; n < whole; n += 1 + prng_below(&p, 37)) {
        f.bytes.len = n;
        assert_int_equal(import(&to, &f, (struct kvx_import){.roots = &kit_root, .n_roots = 1}, &e),
                         E_CORRUPT);
    }
    f.bytes.len = whole;
    assert_nothing(&to);
    assert_int_equal(import(&to, &f, (struct kvx_import){.roots = &kit_root, .n_roots = 1}, &e),
                     OK);
    buf_release(&f.bytes);
    kit_end(&from);
    kit_end(&to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_trust),
        cmocka_unit_test(test_other_model),
        cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
