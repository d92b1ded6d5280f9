/* SPDX-License-Identifier: MIT
 * Goal:   the segments alone say all: index.db may be deleted at any time, and everything that
 *         lives is there again, nothing that was deleted.
 * Method: one list of changes (turns, responses, forks, pins with a reason, tags, renames,
 *         deletions, two tenants, a key rotated away and back, pages, reclamation, restarts), run
 * in orders drawn from a seed; then what can be seen of the store is written down, index.db is
 *         deleted, the store rebuilt, and the same must be seen; again after reclamation.
 * --rounds N: orders; the first seed is the first argument that is none. */
#include "base/checksum.h"
#include "base/log.h"
#include "session_kit.h"

#define ROUNDS   40
#define PAGES    5u
#define SEEN_MAX (4u << 20)

static uint64_t rounds = ROUNDS, first_seed = 1;

static const char *const tenants[] = {"default", "team"};

enum kind { COMMAND, TURN, PAGE, KEYS, COLLECT, REOPEN };
struct change {
    enum kind kind;
    uint32_t tenant;
    const char *text;     /* COMMAND: JSON; TURN: the session's name */
    const char *response; /* TURN */
    const char *previous;
    uint32_t n, series; /* TURN: tokens; PAGE: number, tokens; KEYS: which key */
};

static const struct change changes[] = {
    {TURN, 0, "a", .n = 130},
    {TURN, 0, "a", .n = 330},
    {TURN, 0, "a", .n = 1500},
    {TURN, 0, "b", .n = 200, .series = 1},
    {TURN, 1, "a", .n = 250},
    {TURN, 1, "k", .n = 90, .series = 2},
    {TURN, 0, "", "resp_1", .n = 120, .series = 3},
    {TURN, 0, "", "resp_2", "resp_1", .n = 220, .series = 3},
    {TURN, 1, "", "resp_1", .n = 70, .series = 4},
    {COMMAND, 0, .text = "{\"op\":\"fork\",\"name\":\"a\",\"as\":\"f1\",\"at\":100}"},
    {COMMAND, 0, .text = "{\"op\":\"fork\",\"name\":\"a\",\"as\":\"f2\"}"},
    {COMMAND, 0, .text = "{\"op\":\"fork\",\"name\":\"f1\",\"as\":\"f3\"}"},
    {COMMAND, 1, .text = "{\"op\":\"fork\",\"name\":\"a\",\"as\":\"f1\"}"},
    {TURN, 0, "f1", .n = 400, .series = 0},
    {TURN, 0, "f2", .n = 300, .series = 6},
    {COMMAND, 0, .text = "{\"op\":\"pin\",\"name\":\"a\",\"reason\":\"the \\\"demo\\\"\"}"},
    {COMMAND, 0, .text = "{\"op\":\"pin\",\"name\":\"f1\",\"reason\":\"\"}"},
    {COMMAND, 1, .text = "{\"op\":\"pin\",\"name\":\"k\",\"reason\":\"audit 2031\"}"},
    {COMMAND, 0, .text = "{\"op\":\"unpin\",\"name\":\"a\"}"},
    {COMMAND, 0, .text = "{\"op\":\"tag\",\"name\":\"a\",\"tag\":\"work\"}"},
    {COMMAND, 0, .text = "{\"op\":\"tag\",\"name\":\"f2\",\"tag\":\"play\"}"},
    {COMMAND, 0, .text = "{\"op\":\"rename\",\"name\":\"a\",\"to\":\"z\"}"},
    {COMMAND, 0, .text = "{\"op\":\"rename\",\"name\":\"f1\",\"to\":\"a\"}"},
    {COMMAND, 1, .text = "{\"op\":\"rename\",\"name\":\"a\",\"to\":\"y\"}"},
    {COMMAND, 0, .text = "{\"op\":\"delete\",\"name\":\"a\"}"},
    {COMMAND, 0, .text = "{\"op\":\"delete\",\"name\":\"b\"}"},
    {COMMAND, 0, .text = "{\"op\":\"delete\",\"name\":\"f2\"}"},
    {COMMAND, 0, .text = "{\"op\":\"delete\",\"name\":\"resp_1\"}"},
    {COMMAND, 1, .text = "{\"op\":\"delete\",\"name\":\"f1\"}"},
    {PAGE, 0, .n = 0, .series = 64},
    {PAGE, 0, .n = 1, .series = 64},
    {PAGE, 0, .n = 1, .series = 36},
    {PAGE, 0, .n = 4, .series = 64},
    {PAGE, 1, .n = 0, .series = 64},
    {PAGE, 1, .n = 2, .series = 50},
    {KEYS, 1, .n = 1},
    {KEYS, 1, .n = 2},
    {KEYS, 1, .n = 1},
    {.kind = COLLECT},
    {.kind = COLLECT},
    {.kind = COLLECT},
    {.kind = REOPEN},
    {.kind = REOPEN},
};
#define N_CHANGES (sizeof changes / sizeof changes[0])

static uint32_t tenant_of(struct kit *k, uint32_t which)
{
    uint32_t index;
    struct err e;
    assert_int_equal(sessions_find_tenant(k->b, slice_of(tenants[which]), &index, &e), OK);
    return index;
}

static void rotate(struct kit *k, uint32_t which, uint32_t key)
{
    uint32_t index;
    struct err e;
    struct digest hash = {{(uint8_t)key}};
    assert_int_equal(
        sessions_tenant(k->b, slice_of(tenants[which]), &hash, key ? 1 : 0, &index, &e), OK);
}

/* Names that are not there, or are taken, are refused: which, depends on the order. */
static void run(struct kit *k, const struct change *c)
{
    static char text[1u << 20];
    struct err e;
    enum status st = OK;
    struct kit_turn turn = {.name = c->text,
                            .response = c->response,
                            .previous = c->previous,
                            .tenant = tenant_of(k, c->tenant),
                            .n = c->n,
                            .series = c->series,
                            .n_messages = c->n / 60};
    struct digest salt = sessions_salt(k->b, turn.tenant);
    switch (c->kind) {
    case COMMAND:
        st = kit_command(k, turn.tenant, c->text, text, sizeof text);
        break;
    case TURN:
        st = kit_keep(k, &turn, &e);
        break;
    case PAGE:
        kit_put_page(k, &salt, c->n, c->series);
        break;
    case KEYS:
        rotate(k, c->tenant, c->n);
        break;
    case COLLECT:
        st = store_collect(k->store, &e);
        break;
    case REOPEN:
        kit_again(k);
        break;
    }
    if (st != OK && st != E_NOT_FOUND && st != E_EXISTS && st != E_INVALID)
        fail_msg("%s: %s", c->text ? c->text : "", status_name(st));
}

/* ---- what can be seen ---- */
static void see_session(struct kit *k, uint32_t tenant, const char *id, struct buf *out)
{
    static char text[1u << 20];
    char request[128];
    struct err e;
    struct session_content c;
    snprintf(request, sizeof request, "{\"op\":\"show\",\"name\":\"%s\",\"history\":true}", id);
    assert_int_equal(kit_command(k, tenant, request, text, sizeof text), OK);
    buf_printf(out, "%s\n", text);
    assert_int_equal(sessions_read(k->b, tenant, slice_of(id), SESSION_WANT_TOKENS, &c, &e), OK);
    assert_false(c.is_cut);
    struct checksum sum = checksum_of(c.tokens, c.n_tokens * sizeof *c.tokens);
    buf_printf(out, "tokens %u %llx\n", c.n_tokens, (unsigned long long)sum.low);
    session_content_release(&c);
}

static uint32_t see_tenant(struct kit *k, uint32_t which, struct buf *out)
{
    static char text[1u << 20];
    uint32_t tenant = tenant_of(k, which), n = 0;
    struct digest salt = sessions_salt(k->b, tenant);
    char hex[DIGEST_HEX_BYTES];
    digest_hex(&salt, hex);
    buf_printf(out, "tenant %s %s\n", tenants[which], hex);
    assert_int_equal(kit_command(k, tenant, "{\"op\":\"list\",\"limit\":1000,\"responses\":true}",
                                 text, sizeof text),
                     OK);
    buf_printf(out, "%s\n", text);
    for (const char *at = text; (at = strstr(at, "\"id\":\"")) != NULL; n++) {
        char id[33] = "";
        at += 6;
        memcpy(id, at, 32);
        see_session(k, tenant, id, out);
    }
    for (uint32_t page = 0; page < PAGES; page++)
        for (uint32_t t = 1; t <= PAGE_KEY_TOKENS; t++)
            if (kit_has_page(k, &salt, page, t))
                buf_printf(out, "page %u %u\n", page, t);
    return n;
}

/* Everything, as text; *n: sessions. */
static void see(struct kit *k, struct buf *out, uint32_t *n)
{
    struct store_stat stat;
    buf_init(out, SEEN_MAX);
    *n = see_tenant(k, 0, out) + see_tenant(k, 1, out);
    store_flush(k->store);
    store_stat(k->store, &stat);
    for (int kind = RECORD_PAGE; kind <= RECORD_TENANT; kind++)
        buf_printf(out, "kind %d: %llu\n", kind, (unsigned long long)stat.n_records[kind]);
    buf_add_char(out, '\0');
    assert_false(out->failed);
}

static void must_be_same(const struct buf *before, const struct buf *after, uint64_t seed,
                         const char *when)
{
    if (before->len == after->len && memcmp(before->ptr, after->ptr, before->len) == 0)
        return;
    print_message("seed %llu, before:\n%s\n%s:\n%s\n", (unsigned long long)seed, before->ptr, when,
                  after->ptr);
    fail_msg("seed %llu: %s", (unsigned long long)seed, when);
}

static void lose_index(struct kit *k, bool by_command)
{
    static const char *const files[] = {"index.db", "index.db-wal", "index.db-shm"};
    char path[160];
    struct err e = {0};
    kit_close(k);
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", k->dir, files[i]);
        (void)!unlink(path);
    }
    if (by_command && store_rebuild(os_fs_real(), k->dir, &e) != OK)
        fail_msg("rebuild: %s", e.msg);
    kit_open(k, false);
}

static uint32_t one_order(uint64_t seed)
{
    struct kit k;
    struct prng r = {.seed = seed};
    uint32_t order[N_CHANGES], n, again;
    struct buf before, after;
    struct err e;
    kit_begin_with(&k, 64u << 10);
    rotate(&k, 1, 0); /* makes the tenant */
    for (uint32_t i = 0; i < N_CHANGES; i++)
        order[i] = i;
    /* Half of the orders are near the list's, where more of it makes sense. */
    uint64_t reach = seed % 2 ? N_CHANGES : 6;
    for (uint32_t i = 0; i < N_CHANGES; i++) {
        uint64_t left = N_CHANGES - i, j = i + prng_below(&r, left < reach ? left : reach);
        uint32_t t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
    for (uint32_t i = 0; i < N_CHANGES; i++)
        run(&k, &changes[order[i]]);
    store_flush(k.store);
    see(&k, &before, &n);
    for (uint32_t i = 0; i < 3; i++) {
        static const char *const when[] = {"rebuilt", "opened without an index",
                                           "rebuilt after reclamation"};
        if (i == 2)
            assert_int_equal(store_collect(k.store, &e), OK);
        lose_index(&k, i != 1);
        see(&k, &after, &again);
        must_be_same(&before, &after, seed, when[i]);
        buf_release(&after);
    }
    kit_close(&k);
    struct store_verify_report report;
    assert_int_equal(store_verify(os_fs_real(), k.dir, NULL, NULL, &report, &e), OK);
    assert_int_equal(report.n_bad + report.n_quarantined, 0);
    kit_open(&k, false);
    buf_release(&before);
    kit_end(&k);
    return n;
}

static void test_orders(void **state)
{
    (void)state;
    uint32_t n = 0;
    for (uint64_t i = 0; i < rounds; i++)
        n += one_order(first_seed + i);
    print_message("seeds %llu..%llu, %.1f sessions left of each\n", (unsigned long long)first_seed,
                  (unsigned long long)(first_seed + rounds - 1), (double)n / (double)rounds);
    assert_true(n > rounds);
}

int main(int argc, char **argv)
{
    log_set_level(LOG_ERROR);
    for (int i = 1; i < argc; i++) {
        if (i + 1 < argc && strcmp(argv[i], "--rounds") == 0)
            rounds = strtoull(argv[++i], NULL, 10);
        else
            first_seed = strtoull(argv[i], NULL, 10);
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_orders)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
