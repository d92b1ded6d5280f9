/* SPDX-License-Identifier: MIT
 * run_test.c — goal: what scripts see of a serving process: one line on stdout once it is ready, an
 * answer at the address in it, an orderly end at SIGTERM, a quick one at the second.  Method:
 * server_run in a child process, over the scripted engine. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_engine.h"
#include "http/http_client.h"
#include "os/clock.h"
#include "server/server.h"

struct child {
    pid_t pid;
    FILE *out;
    char url[128];
};

static int serve(const struct server_options *options)
{
    struct err e = {0};
    struct engine *g = fake_engine_new();
    enum status st = server_run(options, g, &e);
    if (st == OK)
        engine_close(g);
    return st == OK ? 0 : 1;
}

static struct child start(uint32_t drain_ms)
{
    struct server_options o = server_defaults();
    struct child c = {0};
    int ends[2];
    o.port = 0;
    o.drain_ms = drain_ms;
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    c.pid = fork();
    if (c.pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        int status = serve(&o);
        fflush(stdout);
        _exit(status);
    }
    close(ends[1]);
    c.out = fdopen(ends[0], "r");
    char line[256] = "";
    assert_non_null(fgets(line, sizeof line, c.out));
    assert_int_equal(sscanf(line, "kvasir: listening on %127s", c.url), 1);
    assert_non_null(strstr(c.url, "http://127.0.0.1:"));
    return c;
}

/* The exit status, and nothing more on stdout. */
static int end(struct child *c)
{
    char more[16];
    int status = 0;
    assert_null(fgets(more, sizeof more, c->out));
    fclose(c->out);
    assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool call(const char *url, const char *path, const char *body, char text[256])
{
    char full[256];
    struct err e = {0};
    struct http_answer a;
    struct http_client *h = NULL;
    assert_int_equal(http_client_new(&h, &e), OK);
    snprintf(full, sizeof full, "%s%s", url, path);
    struct http_call q = {
        .url = full, .total_ms_max = 20000, .body = body ? slice_of(body) : (struct slice){0}};
    enum status st = http_client_call(h, &q, &a, &e);
    bool is_ok = st == OK && a.status == 200;
    snprintf(text, 256, SLICE_FMT, SLICE_ARG(buf_slice(&a.body)));
    http_answer_release(&a);
    http_client_free(h);
    return is_ok;
}

static void serves_until_told_to_stop(void **state)
{
    (void)state;
    static const int signals[] = {SIGTERM, SIGINT};
    for (size_t i = 0; i < 2; i++) {
        char text[256];
        struct child c = start(1000);
        assert_true(call(c.url, "/health", NULL, text));
        assert_string_equal(text, "{\"status\":\"ok\"}\n");
        kill(c.pid, SIGHUP); /* reads its keys again, and goes on */
        assert_true(call(c.url, "/health/ready", NULL, text));
        kill(c.pid, signals[i]);
        assert_int_equal(end(&c), 0);
        assert_false(call(c.url, "/health", NULL, text));
    }
}

/* A request that hangs in the engine: the first signal waits for it, the second doesn't. */
static void hurries_at_the_second_signal(void **state)
{
    (void)state;
    fake_script = (struct fake_script){.pieces = {"x"}, .n_pieces = 1, .waits_after_start = true};
    struct child c = start(60000);
    pid_t asking = fork();
    if (asking == 0) {
        char text[256];
        static const char body[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}";
        bool is_ok = call(c.url, "/v1/chat/completions", body, text);
        if (is_ok || !strstr(text, "stopping"))
            fprintf(stderr, "answer: %s\n", text);
        _exit(!is_ok && strstr(text, "stopping") ? 0 : 1);
    }
    usleep(300000);
    uint64_t start_ns = clock_now_ns();
    kill(c.pid, SIGTERM);
    usleep(300000);
    assert_int_equal(waitpid(c.pid, NULL, WNOHANG), 0); /* still waiting */
    kill(c.pid, SIGTERM);
    assert_int_equal(end(&c), 0);
    assert_true(clock_ms_since(start_ns) < 20000);
    int status = 0;
    assert_int_equal(waitpid(asking, &status, 0), asking);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0); /* it was told, not cut off */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(serves_until_told_to_stop),
        cmocka_unit_test(hurries_at_the_second_signal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
