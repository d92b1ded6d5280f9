/* SPDX-License-Identifier: MIT
 * sessions_test.c — goal: what docs/api/sessions.md shows is so, and `kvasir store` does the same,
 * with and without a server; a session goes through a pipe to another store and is used there.
 * Method: the page's examples, sent in order, their answers compared member by member: numbers
 * above 1000000 (times) and texts with an ellipsis by kind, everything else by value. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "e2e.h"
#include "os/fs.h"

#define PAGE "docs/api/sessions.md"

static struct serve server;
static char store[PLACE_PATH_BYTES];

static void call(const char *method, const char *path, struct slice body, const char *header,
                 struct http_answer *a)
{
    char url[512];
    struct err e = {0};
    const char *headers[] = {header, NULL};
    snprintf(url, sizeof url, "%s%s", server.url, path);
    struct http_call c = {
        .method = method, .url = url, .body = body, .headers = header ? headers : NULL};
    if (http_client_call(server.http, &c, a, &e) != OK)
        fail_msg("%s %s: %s", method, path, e.msg);
}

/* One turn of a session. */
static void say(const char *session, const char *text)
{
    struct http_answer a;
    char header[128], body[1024];
    snprintf(header, sizeof header, "X-Session-Id: %s", session);
    snprintf(body, sizeof body,
             "{\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}],\"temperature\":0,"
             "\"max_tokens\":24}",
             text);
    call("POST", "/v1/chat/completions", slice_of(body), header, &a);
    assert_int_equal(a.status, 200);
    http_answer_release(&a);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(store, sizeof store, "%s", e2e_path("store"));
    e2e_serve(&server, store, NULL);
    return 0;
}

static int tear_down(void **state)
{
    int code = -1;
    (void)state;
    MUST(serve_stop(&server, &code, e));
    assert_int_equal(code, 0);
    return 0;
}

/* Is got what the page says? */
static void compare(const struct json *want, const struct json *got, const char *where)
{
    if (!got ||
        (want->kind != got->kind && !(want->kind == JSON_STRING && strstr(want->text.ptr, "…"))))
        fail_msg("%s: another kind, or missing", where);
    if (want->kind == JSON_OBJECT) {
        for (size_t i = 0; i < want->count; i++) {
            char at[256];
            snprintf(at, sizeof at, "%s.%s", where, want->members[i].key.ptr);
            compare(&want->members[i].value, json_get(got, want->members[i].key.ptr), at);
        }
    } else if (want->kind == JSON_ARRAY) {
        if (want->count != got->count)
            fail_msg("%s: %zu items, not %zu", where, got->count, want->count);
        for (size_t i = 0; i < want->count; i++)
            compare(&want->items[i], &got->items[i], where);
    } else if (want->kind == JSON_STRING && !strstr(want->text.ptr, "…")) {
        if (!slice_equal(want->text, got->text))
            fail_msg("%s: \"%s\", not \"%s\"", where, got->text.ptr, want->text.ptr);
    } else if (want->kind == JSON_INT) {
        if (want->integer < 1000000 && want->integer != got->integer)
            fail_msg("%s: %lld, not %lld", where, (long long)got->integer,
                     (long long)want->integer);
    } else if (want->kind == JSON_BOOL) {
        if (want->boolean != got->boolean)
            fail_msg("%s: %d", where, got->boolean);
    }
}

/* The text of the next fenced block of this kind; false: none is left. */
static bool next_block(const char **at, const char *kind, struct slice *out)
{
    char fence[32];
    snprintf(fence, sizeof fence, "```%s\n", kind);
    const char *from = strstr(*at, fence);
    if (!from)
        return false;
    from += strlen(fence);
    const char *end = strstr(from, "```");
    assert_non_null(end);
    *out = (struct slice){from, (size_t)(end - from)};
    *at = end + 3;
    return true;
}

static void run_example(struct slice request, struct slice answer)
{
    char method[16], path[256];
    struct arena arena;
    struct json *want, *got;
    struct http_answer a;
    assert_int_equal(sscanf(request.ptr, "%15s %255s", method, path), 2);
    const char *line = memchr(request.ptr, '\n', request.len);
    struct slice body = {line + 1, request.len - (size_t)(line + 1 - request.ptr)};
    call(method, path, body, NULL, &a);
    arena_init(&arena, 16u << 20);
    MUST(json_parse(answer, &arena, &want, e));
    MUST(json_parse(buf_slice(&a.body), &arena, &got, e));
    bool is_error = json_get(want, "error") != NULL;
    if ((a.status == 200) == is_error)
        fail_msg("%s %s: HTTP %d: %s", method, path, a.status, a.body.ptr);
    compare(want, got, path);
    arena_release(&arena);
    http_answer_release(&a);
}

static void the_page_is_right(void **state)
{
    char *text;
    size_t len, n = 0;
    (void)state;
    say("travel", "who are you?");
    MUST(fs_read_file(os_fs_real(), PAGE, 1u << 20, &text, &len, e));
    const char *at = text;
    for (struct slice request, answer; next_block(&at, "http", &request); n++) {
        assert_true(next_block(&at, "json", &answer));
        run_example(request, answer);
    }
    assert_true(n >= 14);
    print_message("%zu examples\n", n);
    mem_free(text);
    say("plans", "who are you?"); /* the created one is filled */
    struct http_answer a;
    call("GET", "/v1/sessions/plans", (struct slice){0}, NULL, &a);
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(a.body.ptr, "\"tag\":\"work\""));
    assert_non_null(strstr(a.body.ptr, "\"messages\":2"));
    http_answer_release(&a);
}

/* kvasir store A [B [C [D]]] --store …; fails the test unless it exits with code. */
static void store_command(int code, char *out, size_t size, const char *a, const char *b,
                          const char *c, const char *d)
{
    struct child_result r;
    if (d)
        e2e_run(&r, "", "store", a, "--store", store, b, c, d, NULL);
    else if (c)
        e2e_run(&r, "", "store", a, "--store", store, b, c, NULL);
    else if (b)
        e2e_run(&r, "", "store", a, "--store", store, b, NULL);
    else
        e2e_run(&r, "", "store", a, "--store", store, NULL);
    if (r.code != code)
        fail_msg("store %s %s: exit %d: %s", a, b ? b : "", r.code, r.err.ptr);
    snprintf(out, size, "%s", r.out.len ? r.out.ptr : "");
    child_result_release(&r);
}

static void commands(const char *how)
{
    char out[8192];
    print_message("%s\n", how);
    store_command(0, out, sizeof out, "fork", "tale", "--as", "tale-2");
    assert_non_null(strstr(out, "\"name\":\"tale-2\""));
    store_command(1, out, sizeof out, "fork", "tale", "--as", "tale-2");
    store_command(0, out, sizeof out, "create", "tale-0", "later", NULL);
    assert_non_null(strstr(out, "\"tag\":\"later\""));
    store_command(1, out, sizeof out, "create", "tale-0", NULL, NULL);
    store_command(0, out, sizeof out, "ls", "--tag", "later", NULL);
    assert_non_null(strstr(out, "(no turn yet)"));
    store_command(0, out, sizeof out, "rm", "tale-0", NULL, NULL);
    store_command(0, out, sizeof out, "expire", "--days", "30", NULL);
    assert_non_null(strstr(out, "\"sessions\":0"));
    store_command(2, out, sizeof out, "expire", NULL, NULL, NULL);
    store_command(0, out, sizeof out, "fork", "tale", "--at", "7");
    assert_non_null(strstr(out, "\"forked_at\":7,"));
    store_command(0, out, sizeof out, "fork", "tale", "--at-message", "1");
    assert_non_null(strstr(out, "\"messages\":1,"));
    store_command(1, out, sizeof out, "fork", "tale", "--at", "100000");
    store_command(0, out, sizeof out, "pin", "tale-2", "keep it", NULL);
    store_command(0, out, sizeof out, "tag", "tale-2", "story", NULL);
    store_command(0, out, sizeof out, "ls", "--tag", "story", NULL);
    assert_non_null(strstr(out, "tale-2"));
    assert_non_null(strstr(out, "pinned: keep it"));
    assert_null(strstr(out, " tale  "));
    store_command(0, out, sizeof out, "show", "tale", "--history", NULL);
    assert_non_null(strstr(out, "I am skald"));
    store_command(0, out, sizeof out, "rename", "tale-2", "tale-3", NULL);
    store_command(0, out, sizeof out, "unpin", "tale-3", NULL, NULL);
    store_command(0, out, sizeof out, "rm", "tale-3", NULL, NULL);
    store_command(1, out, sizeof out, "show", "tale-3", NULL, NULL);
    store_command(0, out, sizeof out, "gc", NULL, NULL, NULL);
    store_command(2, out, sizeof out, "pin", NULL, NULL, NULL);
}

static void commands_beside_a_server(void **state)
{
    (void)state;
    say("tale", "who are you?");
    commands("beside a server");
    char out[8192];
    store_command(1, out, sizeof out, "rebuild", NULL, NULL, NULL);
}

static void commands_alone(void **state)
{
    int code = -1;
    char out[8192];
    (void)state;
    MUST(serve_stop(&server, &code, e));
    commands("alone");
    store_command(0, out, sizeof out, "rebuild", NULL, NULL, NULL);
    store_command(0, out, sizeof out, "ls", NULL, NULL, NULL);
    assert_non_null(strstr(out, "tale"));
    e2e_serve(&server, store, NULL);
}

/* In that session the prompt is known to s; elsewhere it is not. */
static void known_in_session_only(struct serve *s, const char *session)
{
    const char *body = "{\"messages\":[{\"role\":\"user\",\"content\":\"who are "
                       "you?\"}],\"max_tokens\":8,\"temperature\":0}";
    char url[256], header[128];
    snprintf(header, sizeof header, "X-Session-Id: %s", session);
    const char *with[] = {header, NULL};
    snprintf(url, sizeof url, "%s/v1/chat/completions", s->url);
    for (int i = 0; i < 2; i++) {
        struct http_answer a;
        struct http_call c = {.url = url, .body = slice_of(body), .headers = i ? with : NULL};
        MUST(http_client_call(s->http, &c, &a, e));
        struct arena arena;
        struct json *v;
        arena_init(&arena, 1u << 20);
        MUST(json_parse(buf_slice(&a.body), &arena, &v, e));
        const struct json *tokens = json_get(json_get(v, "kvasir"), "tokens");
        assert_non_null(tokens);
        assert_int_equal(json_get(tokens, "disk")->integer > 0, i);
        arena_release(&arena);
        http_answer_release(&a);
    }
}

/* export | import, to a store with a server and to one without. */
static void through_a_pipe(void **state)
{
    struct serve other;
    char line[2048], to[PLACE_PATH_BYTES];
    int code = -1;
    (void)state;
    say("carried", "who are you?");
    MUST(serve_wait_durable(&server, 10000, e));
    snprintf(to, sizeof to, "%s", e2e_path("elsewhere"));
    e2e_serve(&other, to, NULL);
    snprintf(line, sizeof line,
             "'%s' store export carried --store '%s' | '%s' store import --store '%s' >/dev/null",
             e2e_program, store, e2e_program, to);
    assert_int_equal(system(line), 0);
    assert_int_not_equal(system(line), 0); /* the name is taken */
    known_in_session_only(&other, "carried");
    MUST(serve_stop(&other, &code, e));
    snprintf(line, sizeof line,
             "'%s' store export carried --store '%s' | '%s' store import --as again --store '%s' "
             ">/dev/null",
             e2e_program, store, e2e_program, to);
    assert_int_equal(system(line), 0);
    snprintf(line, sizeof line,
             "'%s' store export carried --store '%s' | head -c 3000 | '%s' store import --as cut "
             "--store '%s' 2>/dev/null",
             e2e_program, store, e2e_program, to);
    assert_int_not_equal(system(line), 0);
}

/* Pages of codes are carried as they are, too. */
static void quantized_through_a_pipe(void **state)
{
    const struct serve f16 = server;
    struct serve other;
    char line[2048], from[PLACE_PATH_BYTES], to[PLACE_PATH_BYTES];
    int code = -1;
    (void)state;
    snprintf(from, sizeof from, "%s", e2e_path("coded"));
    snprintf(to, sizeof to, "%s", e2e_path("coded-elsewhere"));
    e2e_serve(&server, from, "--kv-type", "q4", NULL);
    e2e_serve(&other, to, "--kv-type", "q4", NULL);
    say("coded", "who are you?");
    MUST(serve_wait_durable(&server, 10000, e));
    snprintf(line, sizeof line,
             "'%s' store export coded --store '%s' | '%s' store import --store '%s' >/dev/null",
             e2e_program, from, e2e_program, to);
    assert_int_equal(system(line), 0);
    known_in_session_only(&other, "coded");
    MUST(serve_stop(&other, &code, e));
    MUST(serve_stop(&server, &code, e));
    server = f16;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_is_right),        cmocka_unit_test(commands_beside_a_server),
        cmocka_unit_test(commands_alone),           cmocka_unit_test(through_a_pipe),
        cmocka_unit_test(quantized_through_a_pipe),
    };
    e2e_begin(argc, argv);
    return e2e_end(cmocka_run_group_tests(tests, set_up, tear_down));
}
