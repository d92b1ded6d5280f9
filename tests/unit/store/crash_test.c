/* SPDX-License-Identifier: MIT
 * Goal: kill -9 at any moment loses nothing that was acknowledged and damages nothing.
 * Method: a child puts, replaces and deletes records on a real folder as fast as it can and reports
 * each acknowledgement through a pipe; it is killed after a random time; then `verify` must find
 * nothing bad (before anything is repaired), and the store must open with all that was reported.
 * The folder goes on from round to round.   --rounds N: the soak runs 200. */
#include <sys/wait.h>

#include "store_kit.h"

#define ROUNDS   20
#define SESSIONS 40
#define ABSENT   UINT32_MAX

static int rounds = ROUNDS;
static const char *program;

static const struct store_options options = {
    .max_bytes = 4u << 20, .segment_bytes = 512u << 10, .keep_free_bytes = 1};

struct ack {
    uint32_t number, version; /* ABSENT: deleted */
    uint32_t is_done;         /* 0: about to be asked for */
};
struct reports {
    uint32_t acked[SESSIONS]; /* version */
    struct ack open;          /* asked for, not answered; is_done: nothing is open */
    uint32_t n;
};

static struct kit_record session_of(uint32_t number, uint32_t version)
{
    return (struct kit_record){.kind = number % 2 ? RECORD_SESSION : RECORD_TOKENS,
                               .number = number,
                               .version = version,
                               .n_chunks = 1,
                               .chunk_bytes = 100 + number * 211};
}

static struct kit_record page_of(uint32_t number)
{
    return (struct kit_record){
        .kind = RECORD_PAGE, .number = number, .n_chunks = 4, .chunk_bytes = 9000};
}

static void free_put(void *arg, enum status st, const struct err *e)
{
    (void)st;
    (void)e;
    kit_put_free(arg);
}

/* Never returns but by being killed. */
static int child(const char *dir, uint32_t round, int out)
{
    struct store *s;
    struct err e;
    struct prng r = {round, 0};
    if (store_open(os_fs_real(), dir, &options, &s, &e) != OK) {
        fprintf(stderr, "child: %s\n", e.msg);
        return 3;
    }
    for (uint32_t i = 0;; i++) {
        uint32_t number = (uint32_t)prng_below(&r, SESSIONS);
        struct ack ack = {number, round * 100000 + i, 0};
        struct kit_record k = session_of(number, ack.version);
        struct digest key = kit_key(&k);
        bool is_delete = prng_below(&r, 8) == 0;
        if (is_delete)
            ack.version = ABSENT;
        if (write(out, &ack, sizeof ack) != sizeof ack)
            return 4;
        enum status st = is_delete ? store_delete_wait(s, &key, &e) : kit_put_wait(s, &k, &e);
        ack.is_done = 1;
        if (st != OK && st != E_NOT_FOUND)
            return 5;
        if (write(out, &ack, sizeof ack) != sizeof ack)
            return 4;
        if (prng_below(&r, 3) == 0) {
            k = page_of((uint32_t)prng_below(&r, 1000));
            struct kit_put *p = kit_put_new(&k);
            p->put.done = free_put;
            p->put.arg = p;
            if (store_put(s, &p->put, &e) != OK)
                kit_put_free(p);
        }
        if (prng_below(&r, 200) == 0)
            (void)!store_collect(s, &e);
    }
}

static bool next_report(int in, struct reports *reports)
{
    struct ack ack;
    if (read(in, &ack, sizeof ack) != sizeof ack)
        return false;
    reports->open = ack;
    if (ack.is_done) {
        reports->acked[ack.number] = ack.version;
        reports->n++;
    }
    return true;
}

static void run_and_kill(const char *dir, uint32_t round, struct reports *reports)
{
    int ends[2], status;
    char round_text[16], fd_text[16];
    assert_int_equal(pipe(ends), 0);
    snprintf(round_text, sizeof round_text, "%u", round);
    snprintf(fd_text, sizeof fd_text, "%d", ends[1]);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(ends[0]);
        execl(program, program, "--child", dir, round_text, fd_text, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    struct prng r = {1234567 + round, 0};
    reports->open.is_done = 1;
    /* Read until the moment comes: the pipe must not fill up and slow the child down. */
    uint64_t until = clock_now_ns() + (5 + prng_below(&r, 250)) * 1000000;
    while (clock_now_ns() < until && next_report(ends[0], reports))
        ;
    assert_int_equal(kill(pid, SIGKILL), 0);
    while (next_report(ends[0], reports))
        ;
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        fail_msg("round %u: the child ended by itself: %x", round, (unsigned)status);
}

/* What is found is what the next round's child goes on from. */
static void check(const char *dir, uint32_t round, struct reports *reports)
{
    if (kit_verify(dir) != 0)
        fail_msg("round %u: verify finds damage", round);
    struct store *s = kit_open(dir, &options);
    for (uint32_t i = 0; i < SESSIONS; i++) {
        struct kit_record k = session_of(i, UINT32_MAX - 1);
        uint32_t version = ABSENT;
        if (kit_get(s, &k, &version) == KIT_WRONG)
            fail_msg("round %u: session %u: wrong bytes", round, i);
        bool is_open =
            !reports->open.is_done && reports->open.number == i && version == reports->open.version;
        if (version != reports->acked[i] && !is_open)
            fail_msg("round %u: session %u: %d instead of %d", round, i, (int)version,
                     (int)reports->acked[i]);
        reports->acked[i] = version;
    }
    for (uint32_t i = 0; i < 1000; i++) {
        struct kit_record k = page_of(i);
        if (kit_get(s, &k, NULL) == KIT_WRONG)
            fail_msg("round %u: page %u: wrong bytes", round, i);
    }
    store_close(s);
    assert_int_equal(kit_verify(dir), 0);
}

static void test_kill(void **state)
{
    (void)state;
    char dir[256];
    struct reports reports = {.n = 0};
    setenv("TMPDIR", "/tmp", 0); /* a real disk: syncs take their time there */
    kit_dir(dir);
    for (uint32_t i = 0; i < SESSIONS; i++)
        reports.acked[i] = ABSENT;
    for (int round = 0; round < rounds; round++) {
        run_and_kill(dir, (uint32_t)round, &reports);
        check(dir, (uint32_t)round, &reports);
    }
    print_message("%d rounds, %u changes acknowledged\n", rounds, reports.n);
    assert_true(reports.n > (uint32_t)rounds);
    kit_remove(dir);
}

int main(int argc, char **argv)
{
    kit_quiet();
    program = argv[0];
    if (argc == 5 && strcmp(argv[1], "--child") == 0)
        return child(argv[2], (uint32_t)strtoul(argv[3], NULL, 10), (int)strtol(argv[4], NULL, 10));
    if (argc == 3 && strcmp(argv[1], "--rounds") == 0)
        rounds = (int)strtol(argv[2], NULL, 10);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kill)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
