/* SPDX-License-Identifier: MIT
 * packed_test.c — goal: a second start maps the repacked weights that the first one made, two
 * servers have one copy of them between them, and `kvasir models` names and removes them. Method:
 * skald as a file; /proc/PID/smaps of two servers that run side by side; answers of all starts
 * compared.  The disk's troubles are unit_engine_packed's and unit_engine_side's. */
#include <inttypes.h>
#include <stdio.h>

#include "e2e.h"

#define MODEL       "models/skald/skald.gguf"
#define WAIT_MS_MAX 10000u

/* KiB of a row of the mapped side file in smaps; 0: it is not mapped. */
static uint64_t mapped_kib(const struct serve *s, const char *row)
{
    char path[64], line[1024];
    uint64_t sum = 0, kib;
    bool is_inside = false;
    snprintf(path, sizeof path, "/proc/%d/smaps", (int)s->child.pid);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        if (strchr(line, '-') && strchr(line, '-') < strchr(line, ' '))
            is_inside = strstr(line, ".packed") != NULL;
        else if (is_inside && strncmp(line, row, strlen(row)) == 0 &&
                 sscanf(line + strlen(row), " %" SCNu64, &kib) == 1)
            sum += kib;
    }
    fclose(f);
    return sum;
}

static void ask(struct serve *s, struct chat_reply *r)
{
    struct buf messages = e2e_user("who are you?");
    struct chat_ask a = {.messages = buf_slice(&messages), .max_tokens = 40};
    e2e_ask(s, &a, r);
    buf_release(&messages);
}

/* Lines of `kvasir models` about side files. */
static uint32_t n_listed(const char *what)
{
    struct child_result r;
    uint32_t n = 0;
    e2e_run(&r, NULL, "models", NULL);
    assert_int_equal(r.code, 0);
    for (const char *at = r.out.ptr; (at = strstr(at, what)); at++)
        n++;
    child_result_release(&r);
    return n;
}

static void two_servers_share_one_copy(void **state)
{
    (void)state;
    struct serve first, second, third;
    struct chat_reply answers[3];
    uint64_t anonymous[2], at_once;
    int code;
    assert_int_equal(n_listed(MODEL), 0);
    e2e_serve(&first, NULL, "-m", MODEL, NULL);
    MUST(serve_memory(&first, "RssAnon:", &at_once, e)); /* packed where it is mapped from now on */
    for (uint32_t ms = 0; mapped_kib(&first, "Rss:") == 0 && ms < WAIT_MS_MAX; ms += 10)
        clock_sleep_ms(10); /* its maker maps it too, once it is on disk */
    ask(&first, &answers[0]);
    e2e_serve(&second, NULL, "-m", MODEL, NULL);
    ask(&second, &answers[1]);
    MUST(serve_memory(&first, "RssAnon:", &anonymous[0], e));
    MUST(serve_memory(&second, "RssAnon:", &anonymous[1], e));
    uint64_t rss = mapped_kib(&second, "Rss:"), shared = mapped_kib(&second, "Shared_Clean:");
    print_message(
        "RssAnon %.1f MB when the maker listens, %.1f and %.1f MB later; of the side file %" PRIu64
        " KiB mapped, %" PRIu64 " shared\n",
        (double)at_once * 1e-6, (double)anonymous[0] * 1e-6, (double)anonymous[1] * 1e-6, rss,
        shared);
    assert_true(rss > 8000 && shared >= rss * 9 / 10);
    /* Nine MB of weights are in nobody's own memory, also in the process that made them. */
    assert_true(anonymous[0] < anonymous[1] + 4000000 && at_once < anonymous[1] + 4000000);
    assert_int_equal(n_listed(MODEL), 1);

    /* Removing takes nothing from those that run; the next start makes it again. */
    struct child_result r;
    e2e_run(&r, NULL, "models", "rm", "skald.gguf", NULL);
    assert_int_equal(r.code, 0);
    child_result_release(&r);
    assert_int_equal(n_listed(MODEL), 0);
    chat_reply_release(&answers[1]);
    ask(&second, &answers[1]);
    e2e_serve(&third, NULL, "-m", MODEL, NULL);
    ask(&third, &answers[2]);
    for (uint32_t i = 1; i < 3; i++)
        e2e_check_same(&answers[0], &answers[i], "with and without a side file");
    MUST(serve_stop(&third, &code, e));
    MUST(serve_stop(&second, &code, e));
    MUST(serve_stop(&first, &code, e));
    assert_int_equal(n_listed(MODEL), 1);
    for (uint32_t i = 0; i < 3; i++)
        chat_reply_release(&answers[i]);
}

static void copy_model(const char *from, const char *to)
{
    char command[2048];
    snprintf(command, sizeof command, "cp 'tests/golden/tiny/%s' '%s'", from, to);
    assert_int_equal(system(command), 0);
    clock_sleep_ms(2100); /* a younger file could still be changed within its time stamp */
}

static void use_model(const char *path)
{
    struct child_result r;
    e2e_run(&r, "{\"tokens\":[2,10,11]}\n", "eval", "logits", "-m", path, NULL);
    assert_int_equal(r.code, 0);
    child_result_release(&r);
}

static uint32_t n_removed(const char *verb)
{
    struct child_result r;
    unsigned n;
    e2e_run(&r, NULL, "models", verb, NULL);
    assert_int_equal(r.code, 0);
    assert_int_equal(sscanf(r.out.ptr, "%u removed", &n), 1);
    child_result_release(&r);
    return n;
}

static void stale_ones_are_named_and_pruned(void **state)
{
    (void)state;
    const char *model = e2e_path("model.gguf");
    copy_model("tiny-llama-F32.gguf", model);
    use_model(model);
    assert_int_equal(n_listed(model), 1);
    assert_int_equal(n_listed("stale"), 0);
    assert_int_equal(n_removed("prune"), 0);
    copy_model("tiny-llama-Q4_0.gguf", model);
    assert_int_equal(n_listed("has changed"), 1);
    use_model(model);
    assert_int_equal(n_listed(model), 2); /* one current, one stale */
    assert_int_equal(n_removed("prune"), 1);
    assert_int_equal(remove(model), 0);
    assert_int_equal(n_listed("its model is gone"), 1);
    assert_int_equal(n_removed("prune"), 1);
    assert_int_equal(n_listed("stale"), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_servers_share_one_copy),
        cmocka_unit_test(stale_ones_are_named_and_pruned),
    };
    e2e_begin(argc, argv);
    return e2e_end(cmocka_run_group_tests(tests, NULL, NULL));
}
