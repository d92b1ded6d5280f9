/* SPDX-License-Identifier: MIT
 * damage_test.c — goal: a store whose bytes were changed, that cannot grow, or that shrinks under a
 * running server never gives a different answer and never stops the service.
 * Method: a store of a few prompts is made once, with the answers.  Each round works on a copy:
 * flips bits at random places of segments and index, fills the disk, takes the right to write, cuts
 * a segment; a server on it must answer all prompts as before, with the same log probabilities. Ten
 * rounds of ten flips here, 50 in soak. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "e2e.h"

#define N_PROMPTS        6u
#define FLIPS            10u
#define REDRAWS_MAX      64
#define ROUNDS           10u
#define ROUNDS_SOAK      50u
#define FILES_MAX        256u
#define DURABLE_MS_MAX   60000u
#define NOBODY           65534u
#define SMALL_DISK_BYTES (3u << 20) /* the store of this test takes more */

static const struct row *prompts[ROWS_MAX];
static struct chat_reply answers[N_PROMPTS];

static int set_up(void **state)
{
    struct serve s;
    e2e_rows_read(state);
    e2e_rows_by_length(prompts);
    e2e_serve(&s, e2e_path("original"), NULL);
    for (uint32_t i = 0; i < N_PROMPTS; i++) {
        e2e_ask_row(&s, prompts[i], NULL, &answers[i]);
        assert_true(chat_is_answer(&answers[i], prompts[i]->answer));
    }
    MUST(serve_wait_durable(&s, DURABLE_MS_MAX, e));
    serve_kill(&s);
    return 0;
}

static int tear_down(void **state)
{
    for (uint32_t i = 0; i < N_PROMPTS; i++)
        chat_reply_release(&answers[i]);
    return e2e_rows_release(state);
}

/* Asks all; the number of tokens that had to be computed. */
static int64_t check_answers(struct serve *s, const char *what)
{
    int64_t computed = 0;
    for (uint32_t i = 0; i < N_PROMPTS; i++) {
        struct chat_reply r;
        e2e_ask_row(s, prompts[i], NULL, &r);
        e2e_check_same(&answers[i], &r, what);
        computed += r.computed;
        chat_reply_release(&r);
    }
    assert_true(serve_is_running(s));
    return computed;
}

static const char *copy_store(const char *name)
{
    const char *path = e2e_path(name);
    place_remove(path);
    MUST(place_copy(e2e_path("original"), path, e));
    return path;
}

static bool has_said(const struct serve *s, const char *word)
{
    struct buf text;
    buf_init(&text, 64u << 20);
    child_read(&s->child, CHILD_ERR, &text);
    bool has = text.len && strstr(text.ptr, word);
    buf_release(&text);
    return has;
}

static int verify(const char *store)
{
    struct child_result r;
    e2e_run(&r, NULL, "store", "verify", "--store", store, NULL);
    int code = r.code;
    child_result_release(&r);
    return code;
}

/* ---- bits ---- */
struct files {
    char path[FILES_MAX][PLACE_PATH_BYTES];
    uint64_t bytes[FILES_MAX];
    uint32_t n;
};

static void note_file(const char *path, uint64_t bytes, void *arg)
{
    struct files *f = arg;
    if (bytes == 0 || f->n == FILES_MAX)
        return;
    snprintf(f->path[f->n], sizeof f->path[0], "%s", path);
    f->bytes[f->n++] = bytes;
}

/* Any file is as likely as another.  Files are allocated ahead, so a place that is zero all around
 * is drawn again, a few times. */
static void flip_a_bit(const struct files *f)
{
    static const uint8_t zeros[64];
    uint32_t file = (uint32_t)prng_below(&e2e_random, f->n);
    uint8_t around[sizeof zeros] = {0};
    uint64_t at = 0;
    int fd = open(f->path[file], O_RDWR);
    assert_true(fd >= 0);
    for (int i = 0; i < REDRAWS_MAX && memcmp(around, zeros, sizeof zeros) == 0; i++) {
        at = prng_below(&e2e_random, f->bytes[file]);
        assert_true(pread(fd, around, sizeof around, (off_t)at) >= 1);
    }
    uint8_t byte = around[0] ^ (uint8_t)(1u << prng_below(&e2e_random, 8));
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    close(fd);
}

static void flipped_bits_never_change_an_answer(void **state)
{
    static struct files files;
    uint32_t n = e2e_is_soak ? ROUNDS_SOAK : ROUNDS, n_noticed = 0;
    int64_t computed = 0, n_bad = 0;
    (void)state;
    for (uint32_t round = 0; round < n; round++) {
        const char *store = copy_store("flipped");
        files.n = 0;
        MUST(place_walk(store, note_file, &files, e));
        for (uint32_t i = 0; i < FLIPS; i++)
            flip_a_bit(&files);
        int code = verify(store);
        assert_true(code == 0 || code == 1);
        n_noticed += code == 1;
        struct serve s;
        e2e_serve(&s, store, NULL);
        computed += check_answers(&s, "after flipped bits");
        assert_int_equal(check_answers(&s, "after flipped bits, again"), 0);
        int64_t bad = 0;
        MUST(serve_stat(&s, "pages.bad", &bad, e));
        n_bad += bad;
        serve_kill(&s);
    }
    print_message(
        "%u rounds of %u flips: store verify noticed %u, the servers met %lld bad pages, %lld "
        "tokens were computed again\n",
        n, FLIPS, n_noticed, (long long)n_bad, (long long)computed);
}

/* A whole file gone or full of noise, one after the other. */
static void lost_files_are_misses(void **state)
{
    static struct files files;
    uint32_t n;
    (void)state;
    files.n = 0;
    MUST(place_walk(copy_store("lost"), note_file, &files, e));
    n = files.n;
    for (uint32_t i = 0; i < n; i++) {
        struct serve s;
        const char *store = copy_store("lost");
        assert_int_equal(unlink(files.path[i]), 0);
        e2e_serve(&s, store, NULL);
        check_answers(&s, "after a lost file");
        serve_kill(&s);
    }
}

/* ---- no room ---- */
static void serve_limited(struct serve *s, const char *store, const struct child_options *child)
{
    struct serve_options o = {.program = e2e_program, .store = store, .child = *child};
    o.child.home = e2e_place;
    MUST(serve_start(s, &o, e));
}

static void files_that_cannot_grow_leave_the_service_running(void **state)
{
    struct serve s;
    (void)state;
    serve_limited(&s, e2e_path("limited"),
                  &(struct child_options){.file_bytes_max = SMALL_DISK_BYTES});
    check_answers(&s, "with files that cannot grow");
    assert_int_equal(check_answers(&s, "again, from memory"), 0);
    serve_kill(&s);
    assert_int_equal(verify(e2e_path("limited")), 0);
    e2e_serve(&s, e2e_path("limited"), NULL);
    check_answers(&s, "afterwards");
    serve_kill(&s);
}

static void a_full_disk_leaves_the_service_running(void **state)
{
    struct serve s;
    const char *disk = e2e_path("disk");
    char options[64];
    (void)state;
    assert_int_equal(mkdir(disk, 0700), 0);
    snprintf(options, sizeof options, "size=%u", SMALL_DISK_BYTES);
    if (mount("tmpfs", disk, "tmpfs", 0, options) != 0) {
        print_message("no small disk here (mount: %s); RLIMIT_FSIZE had to do\n", strerror(errno));
        skip();
    }
    e2e_serve(&s, e2e_path("disk/store"), NULL);
    check_answers(&s, "on a full disk");
    bool has_warned = has_said(&s, "warn ");
    serve_kill(&s);
    int code = verify(e2e_path("disk/store"));
    umount(e2e_path("disk"));
    assert_int_equal(code, 0);
    assert_true(has_warned);
}

static void a_folder_without_the_right_to_write_is_read(void **state)
{
    struct serve s;
    struct stat program;
    const char *store = copy_store("readonly");
    struct child_options child = {.user = geteuid() == 0 ? NOBODY : 0};
    (void)state;
    /* nobody must reach the program and the store. */
    if (chmod(e2e_place, 0755) != 0 || stat(e2e_program, &program) != 0 ||
        !(program.st_mode & S_IXOTH))
        skip();
    static struct files files;
    files.n = 0;
    MUST(place_walk(store, note_file, &files, e));
    for (uint32_t i = 0; i < files.n; i++)
        assert_int_equal(chmod(files.path[i], 0444), 0);
    assert_int_equal(chmod(store, 0555), 0);
    char below[PLACE_PATH_BYTES];
    snprintf(below, sizeof below, "%s/segments", store);
    chmod(below, 0555);
    serve_limited(&s, store, &child);
    int64_t computed = check_answers(&s, "from a folder that cannot be written");
    print_message("%lld tokens computed\n", (long long)computed);
    assert_true(has_said(&s, "warn "));
    serve_kill(&s);
    assert_int_equal(computed, 0);
    chmod(store, 0700);
    chmod(below, 0700);
}

/* ---- a segment that shrinks under the server ---- */
static void cut_segment(const char *path, uint64_t bytes, void *arg)
{
    const uint64_t *kept_percent = arg;
    if (strstr(path, ".seg"))
        assert_int_equal(truncate(path, (off_t)(bytes * *kept_percent / 100 / 4096 * 4096)), 0);
}

static void a_segment_cut_under_the_server_is_a_miss(void **state)
{
    (void)state;
    for (uint64_t kept_percent = 0; kept_percent <= 75; kept_percent += 25) {
        struct serve s;
        struct chat_reply r;
        const char *store = copy_store("cut");
        e2e_serve(&s, store, NULL);
        /* One prompt is mapped and verified, the others are not. */
        e2e_ask_row(&s, prompts[0], NULL, &r);
        e2e_check_same(&answers[0], &r, "before the cut");
        chat_reply_release(&r);
        MUST(place_walk(store, cut_segment, &kept_percent, e));
        int64_t computed = check_answers(&s, "after the cut");
        print_message("%2llu %% kept: %lld tokens computed again\n",
                      (unsigned long long)kept_percent, (long long)computed);
        /* A new turn reads the pages themselves, not only the logits at the prompt's end. */
        struct buf messages;
        buf_init(&messages, 64u << 20);
        buf_add_slice(&messages, prompts[0]->messages);
        chat_add_message(&messages, "assistant", prompts[0]->answer);
        chat_add(&messages, "user", "who are you?");
        struct chat_ask a = {.messages = buf_slice(&messages), .max_tokens = 32};
        e2e_ask(&s, &a, &r);
        assert_string_equal(r.choices[0].text.ptr, "I am skald, a tiny recall model.");
        chat_reply_release(&r);
        buf_release(&messages);
        assert_true(serve_is_running(&s));
        serve_kill(&s);
    }
}

/* ---- two servers ---- */
static void a_second_server_says_who_holds_the_store(void **state)
{
    struct serve first;
    struct child_result r;
    (void)state;
    const char *store = copy_store("shared");
    e2e_serve(&first, store, NULL);
    e2e_run(&r, NULL, "serve", "--port", "0", "--store", store, NULL);
    assert_int_equal(r.code, 1);
    assert_true(r.err.len > 0);
    child_result_release(&r);
    struct serve second;
    e2e_serve(&second, store, "--store-read-only", NULL);
    assert_int_equal(check_answers(&second, "read-only beside a writer"), 0);
    serve_kill(&second);
    check_answers(&first, "the writer");
    assert_int_equal(verify(store), 0);
    serve_kill(&first);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flipped_bits_never_change_an_answer),
        cmocka_unit_test(lost_files_are_misses),
        cmocka_unit_test(files_that_cannot_grow_leave_the_service_running),
        cmocka_unit_test(a_full_disk_leaves_the_service_running),
        cmocka_unit_test(a_folder_without_the_right_to_write_is_read),
        cmocka_unit_test(a_segment_cut_under_the_server_is_a_miss),
        cmocka_unit_test(a_second_server_says_who_holds_the_store),
    };
    e2e_begin(argc, argv);
    return e2e_end(cmocka_run_group_tests(tests, set_up, tear_down));
}
