/* SPDX-License-Identifier: MIT
 * Goal:   after loss of power, a failing call of the file system or a failing allocation, the
 *         sessions are as they were after the last change that was acknowledged, or after the next.
 * Method: a script of a creation, turns, responses, forks, pins, tags, renames, deletions, exports,
 * imports, reclamation and restarts on the simulated disk.  What can be seen after each step of an
 *         undisturbed run is written down.  Then the power goes at change n, or call n fails, or
 *         allocation n; the script ends at the first step that is refused; what is seen then, after
 *         opening the store again, and after a rebuild, is one of two lists.
 * --rounds N: N states of power loss, and as many of the others as there are (the soak). */
#include "base/checksum.h"
#include "base/log.h"
#include "fs_sim.h"
#include "session/kvx.h"
#include "session_kit.h"

#define ROUNDS    250
#define SEEN_MAX  65536u
#define LINES_MAX 32u

static uint64_t rounds = ROUNDS;
static char now[80]; /* what is tried */

/* ---- the script ---- */
enum kind { COMMAND, TURN, CARRY, COLLECT, REOPEN };
struct step {
    enum kind kind;
    const char *text; /* COMMAND: JSON; TURN: a name; CARRY: what is exported … */
    const char *more; /* TURN: a response; CARRY: … and what the import is called */
    const char *previous;
    uint32_t n, from, series;
};

static const struct step script[] = {
    {COMMAND, "{\"op\":\"create\",\"name\":\"a\",\"tag\":\"new\"}", .n = 0},
    {TURN, "a", .n = 130},
    {TURN, "a", .n = 330},
    {COMMAND, "{\"op\":\"pin\",\"name\":\"a\",\"reason\":\"why not\"}", .n = 0},
    {COMMAND, "{\"op\":\"fork\",\"name\":\"a\",\"as\":\"f\",\"at\":100}", .n = 0},
    {TURN, "f", .n = 260, .from = 100, .series = 6},
    {COMMAND, "{\"op\":\"tag\",\"name\":\"f\",\"tag\":\"work\"}", .n = 0},
    {COMMAND, "{\"op\":\"rename\",\"name\":\"f\",\"to\":\"g\"}", .n = 0},
    {TURN, "", "resp_1", .n = 120, .series = 3},
    {TURN, "", "resp_2", "resp_1", .n = 220, .series = 3},
    {CARRY, "a", "i", .n = 0},
    {.kind = COLLECT},
    {COMMAND, "{\"op\":\"delete\",\"name\":\"a\"}", .n = 0},
    {.kind = REOPEN},
    {TURN, "g", .n = 400, .from = 50, .series = 7},
    {COMMAND, "{\"op\":\"pin\",\"name\":\"g\",\"reason\":\"\"}", .n = 0},
    {COMMAND, "{\"op\":\"delete\",\"name\":\"resp_1\"}", .n = 0},
    {TURN, "i", .n = 1500},
    {COMMAND, "{\"op\":\"unpin\",\"name\":\"g\"}", .n = 0},
    {.kind = COLLECT},
    {COMMAND, "{\"op\":\"delete\",\"name\":\"g\"}", .n = 0},
    {COMMAND, "{\"op\":\"fork\",\"name\":\"i\",\"as\":\"j\"}", .n = 0},
};
#define STEPS (sizeof script / sizeof script[0])

struct file {
    struct buf bytes;
    size_t at;
};

static enum status write_file(void *arg, const void *bytes, size_t n, struct err *e)
{
    struct file *f = arg;
    buf_add(&f->bytes, bytes, n);
    return f->bytes.failed ? err_set(e, E_NOMEM, "no room") : OK;
}

static enum status read_file(void *arg, void *bytes, size_t max, size_t *n, struct err *e)
{
    struct file *f = arg;
    (void)e;
    *n = f->bytes.len - f->at < max ? f->bytes.len - f->at : max;
    memcpy(bytes, f->bytes.ptr + f->at, *n);
    f->at += *n;
    return OK;
}

static enum status carry(struct kit *k, const char *which, const char *as)
{
    struct file f = {0};
    struct buf answer;
    struct err e;
    buf_init(&f.bytes, 1u << 24);
    buf_init(&answer, 1u << 20);
    struct kvx_export x = {.which = slice_of(which), .write = write_file, .arg = &f};
    struct kvx_import o = {
        .as = slice_of(as), .roots = &kit_root, .n_roots = 1, .read = read_file, .arg = &f};
    kit_around(k, true);
    enum status st = kvx_export(k->b, &x, NULL, &e);
    if (st == OK)
        st = kvx_import(k->b, &o, &answer, &e);
    kit_around(k, false);
    buf_release(&answer);
    buf_release(&f.bytes);
    return st;
}

/* Where a segment could not be opened, its records are misses until the next open: so the script
 * ends there, as after a refusal, and what was there must be there again then. */
static enum status try_open_whole(struct kit *k, struct err *e)
{
    struct store_stat stat;
    enum status st = kit_try_open(k, false, e);
    if (st != OK)
        return st;
    store_stat(k->store, &stat);
    if (stat.n_unreadable == 0)
        return OK;
    kit_close(k);
    return err_set(e, E_IO, "a part cannot be read");
}

static enum status run_step(struct kit *k, const struct step *s)
{
    char text[4096];
    struct err e;
    enum status st = OK;
    struct kit_turn turn = {.name = s->text,
                            .response = s->more,
                            .previous = s->previous,
                            .n = s->n,
                            .from = s->from,
                            .series = s->series,
                            .n_messages = s->n / 60};
    switch (s->kind) {
    case COMMAND:
        return kit_command(k, 0, s->text, text, sizeof text);
    case TURN:
        return kit_keep(k, &turn, &e);
    case CARRY:
        return carry(k, s->text, s->more);
    case COLLECT: /* changes nothing that is seen */
        kit_around(k, true);
        (void)!store_collect(k->store, &e);
        kit_around(k, false);
        return OK;
    case REOPEN:
        kit_close(k);
        return try_open_whole(k, &e);
    }
    return st;
}

/* ---- what is seen: a line a session, sorted ---- */
struct seen {
    char text[SEEN_MAX];
};

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

static const char *member(const struct json *v, const char *key, char text[256])
{
    const struct json *m = json_get(v, key);
    if (m->kind == JSON_STRING)
        snprintf(text, 256, "\"%.*s\"", (int)m->text.len, m->text.ptr);
    else if (m->kind == JSON_INT)
        snprintf(text, 256, "%lld", (long long)m->integer);
    else
        snprintf(text, 256, "%s", m->kind == JSON_BOOL && m->boolean ? "true" : "-");
    return text;
}

static void see_one(struct kit *k, const struct json *v, char line[1024])
{
    static const char *const keys[] = {"name",     "response_id", "tag",
                                       "pinned",   "pin_reason",  "tokens",
                                       "messages", "forked_at",   "imported"};
    char text[256];
    size_t at = 0;
    struct session_content c;
    struct err e = {0};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        at += (size_t)snprintf(line + at, 1024 - at, "%s ", member(v, keys[i], text));
    if (sessions_read(k->b, 0, json_get(v, "id")->text, SESSION_WANT_TOKENS | SESSION_WANT_MESSAGES,
                      &c, &e) != OK)
        fail_msg("read: %s", e.msg);
    if (c.is_cut)
        fail_msg("%s: is cut: %s", now, line);
    struct checksum tokens = checksum_of(c.tokens, c.n_tokens * sizeof *c.tokens),
                    messages = checksum_of(c.messages, c.messages_bytes);
    snprintf(line + at, 1024 - at, "%llx %llx", (unsigned long long)tokens.low,
             (unsigned long long)messages.low);
    session_content_release(&c);
}

static void see(struct kit *k, struct seen *out)
{
    static char text[1u << 16], lines[LINES_MAX][1024];
    struct arena a;
    struct json *v;
    struct err e;
    size_t at = 0;
    if (kit_command(k, 0, "{\"op\":\"list\",\"limit\":1000,\"responses\":true}", text,
                    sizeof text) != OK)
        fail_msg("list: %s", text);
    arena_init(&a, 1u << 22);
    assert_int_equal(json_parse(slice_of(text), &a, &v, &e), OK);
    const struct json *data = json_get(v, "data");
    assert_true(data->count <= LINES_MAX);
    for (size_t i = 0; i < data->count; i++)
        see_one(k, &data->items[i], lines[i]);
    qsort(lines, data->count, sizeof lines[0], by_text);
    for (size_t i = 0; i < data->count; i++)
        at += (size_t)snprintf(out->text + at, SEEN_MAX - at, "%s\n", lines[i]);
    out->text[at] = '\0';
    arena_release(&a);
}

static struct seen seen[STEPS + 1]; /* [i]: before step i */

static void must_be(const struct seen *got, size_t f, const char *when)
{
    if (strcmp(got->text, seen[f].text) == 0 ||
        (f < STEPS && strcmp(got->text, seen[f + 1].text) == 0))
        return;
    print_message("%s: step %zu was refused; seen:\n%swanted:\n%sor:\n%s", when, f, got->text,
                  seen[f].text, f < STEPS ? seen[f + 1].text : "");
    fail_msg("%s", when);
}

/* ---- runs ---- */
static void begin(struct kit *k, struct fs_sim *sim)
{
    *k = (struct kit){.dir = "/sim/store", .segment_bytes = 64u << 10, .fs = fs_sim_fs(sim)};
    fs_sim_use(sim);
}

/* The first step that was refused; STEPS: none; the store stays open where it could be. */
static size_t run(struct kit *k)
{
    struct err e;
    if (kit_try_open(k, false, &e) != OK)
        return 0;
    for (size_t i = 0; i < STEPS; i++)
        if (run_step(k, &script[i]) != OK)
            return i;
    return STEPS;
}

static uint64_t undisturbed(void)
{
    struct kit k;
    struct fs_sim *sim = fs_sim_new(1);
    begin(&k, sim);
    kit_open(&k, false);
    for (size_t i = 0; i <= STEPS; i++) {
        see(&k, &seen[i]);
        if (i < STEPS && run_step(&k, &script[i]) != OK)
            fail_msg("step %zu is refused", i);
    }
    kit_close(&k);
    uint64_t changes = fs_sim_count(sim, FS_SIM_CHANGES);
    fs_sim_free(sim);
    assert_non_null(strstr(seen[STEPS].text, "\"j\""));
    return changes;
}

/* The store is opened as it lies there, looked at, used, verified and rebuilt. */
static void check_disk(struct fs_sim *sim, size_t f, const char *when)
{
    static struct seen got, again;
    struct kit k;
    struct err e = {0};
    struct store_verify_report report;
    begin(&k, sim);
    if (kit_try_open(&k, false, &e) != OK)
        fail_msg("%s: does not open: %s", when, e.msg);
    see(&k, &got);
    must_be(&got, f, when);
    kit_must_keep(&k, (struct kit_turn){.name = "z", .n = 100, .series = 9, .n_messages = 1});
    kit_must(&k, "{\"op\":\"fork\",\"name\":\"z\",\"as\":\"y\"}");
    see(&k, &got);
    kit_close(&k);
    if (store_verify(k.fs, k.dir, NULL, NULL, &report, &e) != OK || report.n_bad > 0)
        fail_msg("%s: verify: %llu bad %s", when, (unsigned long long)report.n_bad, e.msg);
    if (store_rebuild(k.fs, k.dir, &e) != OK)
        fail_msg("%s: rebuild: %s", when, e.msg);
    kit_open(&k, false);
    see(&k, &again);
    kit_close(&k);
    if (strcmp(got.text, again.text) != 0)
        fail_msg("%s: step %zu was refused; before the rebuild\n%safter it\n%s", when, f, got.text,
                 again.text);
}

static void one_loss(uint64_t seed, uint64_t n)
{
    char *when = now;
    struct kit k;
    snprintf(when, sizeof now, "seed %llu, power lost at change %llu", (unsigned long long)seed,
             (unsigned long long)n);
    struct fs_sim *sim = fs_sim_new(seed), *after;
    begin(&k, sim);
    fs_sim_power_off_at(sim, n);
    size_t f = run(&k);
    kit_close(&k);
    after = fs_sim_lose_power(sim, seed * 77 + n);
    fs_sim_free(sim);
    if (n % 3 == 0) { /* again, while it recovers */
        struct err e;
        begin(&k, after);
        fs_sim_power_off_at(after, n / 3 % 40);
        (void)!kit_try_open(&k, false, &e);
        kit_close(&k);
        sim = after;
        after = fs_sim_lose_power(sim, seed * 99 + n);
        fs_sim_free(sim);
    }
    check_disk(after, f, when);
    fs_sim_free(after);
}

static void test_power(void **state)
{
    (void)state;
    uint64_t changes = undisturbed(), done = 0, seed = 1;
    uint64_t stride = changes * 2 / rounds + 1;
    for (; done < rounds; seed++)
        for (uint64_t n = seed % stride; n < changes && done < rounds; n += stride, done++)
            one_loss(seed, n);
    print_message("%llu states of %llu changes\n", (unsigned long long)done,
                  (unsigned long long)changes);
}

static void test_calls(void **state)
{
    (void)state;
    static struct seen got;
    uint64_t stride = rounds > ROUNDS ? 1 : 23, n_states = 0;
    (void)undisturbed();
    for (int full = 0; full < 2; full++) {
        for (uint64_t n = (uint64_t)full;; n += stride, n_states++) {
            char *when = now;
            struct kit k;
            struct fs_sim *sim = fs_sim_new(n);
            snprintf(when, sizeof now, "call %llu fails", (unsigned long long)n);
            begin(&k, sim);
            fs_sim_fail(sim, FS_SIM_ALL, n, 1, full ? E_FULL : E_IO);
            size_t f = run(&k);
            bool is_over = fs_sim_count(sim, FS_SIM_ALL) <= n;
            fs_sim_fail(sim, 0, 0, 0, OK);
            if (k.b) {
                see(&k, &got);
                must_be(&got, f, when);
                kit_close(&k);
            }
            check_disk(sim, f, when);
            fs_sim_free(sim);
            if (is_over)
                break;
        }
    }
    print_message("%llu states\n", (unsigned long long)n_states);
}

/* ---- allocations within the room and below it ---- */
static uint64_t tries_left, n_tries;
static bool was_hit;

static void count_tries(bool on)
{
    if (on) {
        mem_fail_tries(tries_left, was_hit ? 0 : 1);
        return;
    }
    uint64_t n = mem_try_count();
    n_tries += n;
    was_hit = was_hit || n > tries_left;
    tries_left -= n < tries_left ? n : tries_left;
    mem_fail_tries(0, 0);
}

static void test_allocations(void **state)
{
    (void)state;
    static struct seen got;
    uint64_t stride = rounds > ROUNDS ? 1 : 17, n_states = 0;
    (void)undisturbed();
    for (uint64_t n = 0;; n += stride, n_states++) {
        char *when = now;
        struct kit k;
        struct fs_sim *sim = fs_sim_new(n);
        snprintf(when, sizeof now, "allocation %llu fails", (unsigned long long)n);
        begin(&k, sim);
        k.around = count_tries;
        tries_left = n;
        n_tries = 0;
        was_hit = false;
        size_t f = run(&k);
        k.around = NULL;
        if (k.b) {
            see(&k, &got);
            must_be(&got, f, when);
            kit_close(&k);
        }
        check_disk(sim, f, when);
        fs_sim_free(sim);
        if (!was_hit)
            break;
    }
    print_message("%llu states of %llu allocations\n", (unsigned long long)n_states,
                  (unsigned long long)n_tries);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--rounds") == 0)
        rounds = strtoull(argv[2], NULL, 10);
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_power),
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
