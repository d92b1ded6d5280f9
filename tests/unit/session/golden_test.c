/* SPDX-License-Identifier: MIT
 * Goal:   what an earlier version wrote of sessions stays readable, and the same is written today.
 * Method: tests/golden/store/sessions-v1 and sessions-v1-left (where an edited history stays known)
 *         are stores that `golden_test --make DIR` wrote once, each with its time's program: two
 *         tenants, one with a rotated key, sessions, a fork, a pin with its reason, a response, an
 *         edited history, pages.  Each version since must show it as seen.txt says, with its index
 *         and without; and the same steps, done today, must write the same bytes, but for what is
 *         random in them.  Digests that name pages are compared with constants.  Records of a newer
 *         version are refused by name. */
#include <sys/stat.h>

#include "base/log.h"
#include "session_kit.h"

#define GOLDEN    "tests/golden/store/sessions-v1"
#define NEWEST    GOLDEN "-left" /* what is written today */
#define TEXT_MAX  (1u << 18)
#define LINES_MAX 64u

static const struct digest keys[2] = {{{1, 2, 3}}, {{4, 5, 6}}};

static void steps(struct kit *k)
{
    uint32_t team;
    struct err e;
    struct digest salt = sessions_salt(k->b, 0);
    assert_int_equal(sessions_tenant(k->b, SLICE_LIT("team"), keys, 1, &team, &e), OK);
    kit_must_keep(k, (struct kit_turn){.name = "a", .n = 130, .n_messages = 2});
    kit_must_keep(k, (struct kit_turn){.name = "a", .n = 1400, .n_messages = 4});
    for (uint32_t i = 0; i < 2; i++)
        kit_put_page(k, &salt, i, PAGE_KEY_TOKENS);
    kit_put_page(k, &salt, 2, 2);
    kit_must(k, "{\"op\":\"fork\",\"name\":\"a\",\"as\":\"f\",\"at\":{\"message\":1}}");
    kit_must_keep(
        k, (struct kit_turn){.name = "f", .n = 180, .from = 100, .series = 4, .n_messages = 2});
    kit_must(k, "{\"op\":\"pin\",\"name\":\"a\",\"reason\":\"asked for every day\"}");
    kit_must(k, "{\"op\":\"tag\",\"name\":\"f\",\"tag\":\"travel\"}");
    kit_must_keep(k, (struct kit_turn){.response = "resp_1", .n = 110, .series = 5});
    kit_must_keep(k, (struct kit_turn){.name = "b", .tenant = team, .n = 90, .n_messages = 1});
    kit_must_keep(k,
                  (struct kit_turn){
                      .name = "b", .tenant = team, .n = 80, .from = 9, .series = 6, .edited = "?"});
    kit_must_keep(k, (struct kit_turn){.name = "gone", .n = 70});
    kit_must(k, "{\"op\":\"delete\",\"name\":\"gone\"}");
    assert_int_equal(sessions_tenant(k->b, SLICE_LIT("team"), keys, 2, &team, &e), OK);
    assert_int_equal(sessions_tenant(k->b, SLICE_LIT("team"), keys + 1, 1, &team, &e), OK);
}

/* ---- what is seen: everything that is stored of them ---- */
static void see(struct kit *k, struct buf *out)
{
    static char text[TEXT_MAX];
    buf_init(out, TEXT_MAX);
    for (uint32_t t = 0; t < 2; t++) {
        uint32_t tenant;
        struct err e;
        char salt[DIGEST_HEX_BYTES];
        const char *name = t ? "team" : "default";
        assert_int_equal(sessions_find_tenant(k->b, slice_of(name), &tenant, &e), OK);
        struct digest d = sessions_salt(k->b, tenant);
        digest_hex(&d, salt);
        assert_int_equal(
            kit_command(k, tenant, "{\"op\":\"list\",\"responses\":true}", text, sizeof text), OK);
        buf_printf(out, "%s %s\n%s\n", name, salt, text);
        for (uint32_t page = 0; page < 3; page++)
            buf_printf(out, "%d\n", kit_has_page(k, &d, page, page < 2 ? PAGE_KEY_TOKENS : 2));
    }
    assert_int_equal(
        kit_command(k, 0, "{\"op\":\"show\",\"name\":\"f\",\"history\":true}", text, sizeof text),
        OK);
    buf_printf(out, "%s\n", text);
}

static void copy_golden(struct kit *k, const char *golden)
{
    char command[300];
    kit_begin(k);
    kit_close(k);
    snprintf(command, sizeof command, "rm -rf '%s'/* && cp -r %s/. '%s' && chmod -R u+w '%s'",
             k->dir, golden, k->dir, k->dir);
    assert_int_equal(system(command), 0);
}

struct reading {
    const char *golden;
    bool with_index;
};

static void test_reads(void **state)
{
    const struct reading *r = *state;
    struct kit k;
    struct buf got;
    char path[128], *want;
    size_t n;
    struct err e;
    copy_golden(&k, r->golden);
    snprintf(path, sizeof path, "%s/index.db", k.dir);
    if (!r->with_index)
        assert_int_equal(unlink(path), 0);
    kit_open(&k, false);
    see(&k, &got);
    snprintf(path, sizeof path, "%s/seen.txt", r->golden);
    assert_int_equal(fs_read_file(os_fs_real(), path, TEXT_MAX, &want, &n, &e), OK);
    buf_add_char(&got, '\0');
    assert_string_equal(got.ptr, want);
    mem_free(want);
    buf_release(&got);
    kit_check(&k, 0, "a", 1400, 0, 0, 4);
    kit_check(&k, 0, "f", 180, 100, 4, 2);
    kit_check(&k, 0, "resp_1", 110, 0, 5, 0);
    /* It goes on. */
    kit_must_keep(&k, (struct kit_turn){.name = "a", .n = 1500, .n_messages = 5});
    kit_again(&k);
    kit_check(&k, 0, "a", 1500, 0, 0, 5);
    kit_close(&k);
    struct store_verify_report report;
    assert_int_equal(store_verify(os_fs_real(), k.dir, NULL, NULL, &report, &e), OK);
    assert_int_equal(report.n_bad, 0);
    kit_open(&k, false);
    kit_end(&k);
}

/* ---- the same bytes, today ---- */
/* Ids, salts and times are what is random: they become '?'. */
static void mask_json(char *text)
{
    static const char *const members[] = {
        "\"id\":",      "\"tenant\":",  "\"line\":", "\"parent\":",
        "\"created\":", "\"updated\":", "\"left\":"};
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        char *at = strstr(text, members[i]);
        for (at = at ? at + strlen(members[i]) : NULL; at && *at && *at != ',' && *at != '}'; at++)
            *at = '?';
    }
}

struct written {
    char lines[LINES_MAX][700];
    size_t n;
};

static bool write_down(const struct store_pin *pin, void *arg)
{
    struct written *w = arg;
    uint8_t meta[STORE_META_MAX + 1] = {0};
    char *line = w->lines[w->n++];
    size_t at = (size_t)snprintf(line, 700, "%d %u ", (int)pin->kind, pin->depth);
    assert_true(w->n < LINES_MAX);
    memcpy(meta, pin->meta, pin->meta_len);
    if (pin->kind == RECORD_SESSION) {
        mask_json((char *)meta);
        at += (size_t)snprintf(line + at, 700 - at, "%s", (char *)meta);
    } else if (pin->kind == RECORD_TOKENS) {
        memset(meta + 8, 0, 32);  /* ids of line and tenant */
        memset(meta + 60, 0, 16); /* of the line before it */
        memset(meta + 84, 0, 8);  /* time */
    }
    for (uint32_t i = 0; pin->kind != RECORD_SESSION && i < pin->meta_len; i++)
        at += (size_t)snprintf(line + at, 700 - at, "%02x", meta[i]);
    for (uint32_t i = 0; i < pin->n_chunks; i++) {
        struct store_chunk_ref c = store_chunk(pin, i);
        bool is_salt = pin->kind == RECORD_TENANT && i == 0;
        at += (size_t)snprintf(line + at, 700 - at, " %llu:%llx", (unsigned long long)c.len,
                               is_salt ? 0ull : (unsigned long long)c.sum.low);
    }
    return true;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void see_bytes(struct kit *k, struct written *w)
{
    struct err e;
    w->n = 0;
    store_flush(k->store);
    for (int kind = RECORD_PAGE; kind <= RECORD_TENANT; kind++)
        assert_int_equal(store_each(k->store, (enum record_kind)kind, write_down, w, &e), OK);
    qsort(w->lines, w->n, sizeof w->lines[0], by_text);
}

static void test_writes_the_same(void **state)
{
    (void)state;
    static struct written golden, today;
    struct kit k;
    copy_golden(&k, NEWEST);
    kit_open(&k, true); /* as it lies there */
    see_bytes(&k, &golden);
    kit_end(&k);
    kit_begin(&k);
    steps(&k);
    see_bytes(&k, &today);
    kit_end(&k);
    assert_int_equal(today.n, golden.n);
    for (size_t i = 0; i < golden.n; i++)
        assert_string_equal(today.lines[i], golden.lines[i]);
}

/* docs/format-key.md */
static void test_names_of_pages(void **state)
{
    (void)state;
    static const struct digest owner = {{9}};
    static const uint32_t tokens[] = {1, 2, 70000};
    struct digester d = {0};
    struct digest chain = page_key_chain(&d, &owner, &kit_root, tokens, 3);
    const struct digest got[] = {chain, page_key_page(&d, 0, &chain), page_key_page(&d, 1, &chain),
                                 page_key_head(&d, &chain), page_key_family(&d, &owner, &kit_root)};
    static const char *const want[] = {
        "e46eb07290c358102e25bfd0a7139d2711465bc5f2627171dc3f4eac21a88e7c",
        "cf02f64ebf815d7ff7d3ae8925a98f4f35f4e6f90930f2e2d18ae67ba5c59029",
        "3fe2cb57300b295f9092ff5add90f3ba9f669251a916851f18a8d8918d697bb1",
        "e2c7de4000d268addd2d57d4e2bbd0d61b6312fcdc28dfbc5c324fba3cb493dd",
        "d81ff073ad7b1b25e2e6858036af5e9e51280b2414916fb9b2f6157aef2374c1",
    };
    for (size_t i = 0; i < 5; i++) {
        char hex[DIGEST_HEX_BYTES];
        digest_hex(&got[i], hex);
        assert_string_equal(hex, want[i]);
    }
    uint8_t order[12];
    static const uint8_t wanted[] = {0, 0, 0, 1, 0, 0, 0, 2, 0, 1, 0x11, 0x70};
    assert_int_equal(page_key_order(tokens, 3, order), 12);
    assert_memory_equal(order, wanted, 12);
    digester_release(&d);
}

/* ---- a newer version's ---- */
static void put_foreign(struct kit *k, enum record_kind kind, const void *meta, uint32_t n)
{
    struct err e;
    struct store_put put = {.kind = kind, .key = {{77}}, .meta = meta, .meta_len = n};
    assert_int_equal(store_put_wait(k->store, &put, &e), OK);
    kit_close(k);
}

static void test_newer_is_refused(void **state)
{
    (void)state;
    static const char session[] = "{\"v\":2,\"id\":\"00\"}", tenant[] = "kvsTENA2?default";
    char line[128] = "kvsLINE2", text[600];
    struct kit k;
    struct err e;
    kit_begin(&k);
    put_foreign(&k, RECORD_SESSION, session, sizeof session - 1);
    kit_open(&k, false);
    assert_int_equal(kit_command(&k, 0, "{\"op\":\"list\"}", text, sizeof text), E_UNSUPPORTED);
    assert_non_null(strstr(text, "version 2"));
    kit_end(&k);
    kit_begin(&k);
    put_foreign(&k, RECORD_TOKENS, line, sizeof line);
    kit_open(&k, false);
    assert_int_equal(kit_command(&k, 0, "{\"op\":\"list\"}", text, sizeof text), E_UNSUPPORTED);
    assert_non_null(strstr(text, "newer version"));
    kit_end(&k);
    kit_begin(&k);
    put_foreign(&k, RECORD_TENANT, tenant, sizeof tenant - 1);
    assert_int_equal(kit_try_open(&k, false, &e), E_UNSUPPORTED);
    assert_non_null(strstr(e.msg, "newer version"));
    kit_end(&k);
}

static int make(const char *dir)
{
    struct kit k = {.segment_bytes = 64u << 10};
    struct buf seen;
    char path[200];
    snprintf(k.dir, sizeof k.dir, "%s", dir);
    kit_open(&k, false);
    steps(&k);
    see(&k, &seen);
    snprintf(path, sizeof path, "%s/seen.txt", dir);
    FILE *f = fopen(path, "w");
    bool ok = f && fwrite(seen.ptr, 1, seen.len, f) == seen.len && fclose(f) == 0;
    buf_release(&seen);
    kit_close(&k);
    return ok ? 0 : 1;
}

int main(int argc, char **argv)
{
    static struct reading readings[] = {
        {GOLDEN, true}, {GOLDEN, false}, {NEWEST, true}, {NEWEST, false}};
    log_set_level(LOG_ERROR);
    if (argc == 3 && strcmp(argv[1], "--make") == 0)
        return make(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_reads, &readings[0]),
        cmocka_unit_test_prestate(test_reads, &readings[1]),
        cmocka_unit_test_prestate(test_reads, &readings[2]),
        cmocka_unit_test_prestate(test_reads, &readings[3]),
        cmocka_unit_test(test_writes_the_same),
        cmocka_unit_test(test_names_of_pages),
        cmocka_unit_test(test_newer_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
