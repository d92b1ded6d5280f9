/* SPDX-License-Identifier: MIT
 * Goal:   another process does through the socket what it could do itself, gets the reason when it
 *         can't, and nothing that comes over the socket breaks its server.
 * Method: both ends in one process; lines of nonsense; many at once; a server that stops meanwhile.
 */
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "session/control.h"
#include "session_kit.h"

static struct control *start(struct kit *k)
{
    struct control *c;
    struct err e = {0};
    struct control_options o = {.dir = k->dir, .sessions = k->b, .store = k->store};
    if (control_start(&o, &c, &e) != OK)
        fail_msg("%s", e.msg);
    return c;
}

static enum status call(struct kit *k, const char *request, char *text, size_t size)
{
    struct buf answer;
    struct err e = {0};
    bool is_nobody;
    buf_init(&answer, 1u << 20);
    enum status st = control_call(k->dir, slice_of(request), -1, &answer, NULL, &is_nobody, &e);
    snprintf(text, size, "%s", st == OK ? answer.ptr : e.msg);
    buf_release(&answer);
    return is_nobody ? E_CANCELLED : st;
}

static void test_calls(void **state)
{
    (void)state;
    struct kit k;
    struct stat info;
    char text[4096], path[128];
    kit_begin(&k);
    assert_int_equal(call(&k, "{\"op\":\"list\"}", text, sizeof text), E_CANCELLED);
    struct control *c = start(&k);
    snprintf(path, sizeof path, "%s/control", k.dir);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(stat(k.dir, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
    kit_must_keep(&k, (struct kit_turn){.name = "a", .n = 100, .n_messages = 2});
    assert_int_equal(call(&k, "{\"op\":\"fork\",\"name\":\"a\",\"as\":\"b\"}", text, sizeof text),
                     OK);
    assert_non_null(strstr(text, "\"name\":\"b\""));
    assert_int_equal(call(&k, "{\"op\":\"fork\",\"name\":\"a\",\"as\":\"b\"}", text, sizeof text),
                     E_EXISTS);
    assert_int_equal(call(&k, "{\"op\":\"show\",\"name\":\"x\"}", text, sizeof text), E_NOT_FOUND);
    assert_int_equal(call(&k, "{\"op\":\"list\",\"tenant\":\"nobody\"}", text, sizeof text),
                     E_NOT_FOUND);
    assert_int_equal(call(&k, "{\"op\":\"gc\"}", text, sizeof text), OK);
    const char *const wrong[] = {"",
                                 "x",
                                 "[]",
                                 "{}",
                                 "{\"op\":1}",
                                 "{\"op\":\"fly\",\"name\":\"a\"}",
                                 "{\"op\":\"list\"",
                                 "{\"op\":\"list\",\"tenant\":7}"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        enum status st = call(&k, wrong[i], text, sizeof text);
        if (st != E_INVALID && st != E_SYNTAX)
            fail_msg("%s: %s", wrong[i], status_name(st));
    }
    control_stop(c);
    assert_int_not_equal(stat(path, &info), 0);
    assert_int_equal(call(&k, "{\"op\":\"list\"}", text, sizeof text), E_CANCELLED);
    kit_end(&k);
}

static void *many(void *arg)
{
    char text[4096];
    for (int i = 0; i < 50; i++)
        if (call(arg, "{\"op\":\"list\"}", text, sizeof text) != OK)
            return text[0] ? arg : arg;
    return NULL;
}

static void test_many_at_once(void **state)
{
    (void)state;
    struct kit k;
    pthread_t threads[12];
    kit_begin(&k);
    struct control *c = start(&k);
    for (int i = 0; i < 12; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, many, &k), 0);
    for (int i = 0; i < 12; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    control_stop(c);
    kit_end(&k);
}

/* A client that says nothing, or never ends its line, does not keep a server from stopping. */
static void test_silent_client(void **state)
{
    (void)state;
    struct kit k;
    char text[256];
    kit_begin(&k);
    struct control *c = start(&k);
    int fds[CONTROL_THREADS];
    for (uint32_t i = 0; i < CONTROL_THREADS; i++) {
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        snprintf(a.sun_path, sizeof a.sun_path, "%s/control", k.dir);
        fds[i] = socket(AF_UNIX, SOCK_STREAM, 0);
        assert_int_equal(connect(fds[i], (const struct sockaddr *)&a, sizeof a), 0);
        if (i % 2)
            assert_int_equal(send(fds[i], "{\"op\":", 6, 0), 6);
    }
    usleep(50000);
    control_stop(c);
    for (uint32_t i = 0; i < CONTROL_THREADS; i++)
        close(fds[i]);
    assert_int_equal(call(&k, "{\"op\":\"list\"}", text, sizeof text), E_CANCELLED);
    kit_end(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_many_at_once),
        cmocka_unit_test(test_silent_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
