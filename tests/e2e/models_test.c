/* SPDX-License-Identifier: MIT
 * models_test.c — goal: one server serves several models as clients of the rivals expect it: loaded
 * by name, unloaded by time, by memory and by order; and what a model computed outlives its going:
 * A, then B, then A again computes nothing anew and writes the same bytes, also after kill -9.
 * Method: a folder with two tiny models and a broken file; the server's own words about where
 * tokens came from and what is loaded. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "e2e.h"
#include "http/http.h"

#define A        "tiny-llama-Q4_0"
#define B        "tiny-qwen3-F16"
#define BODY_MAX 4096u
/* The embedded model has 8,690,688 bytes of weights, A 98 K, B 305 K. */
#define ROOM_FOR_ONE "9050000"
#define PATIENCE_MS  20000

static char folder[PLACE_PATH_BYTES];
static struct arena arena;

static void add_model(const char *name)
{
    char path[PLACE_PATH_BYTES + 64], target[PLACE_PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s.gguf", folder, name);
    snprintf(target, sizeof target, "tests/golden/tiny/%s.gguf", name);
    char *real = realpath(target, NULL);
    assert_non_null(real);
    assert_int_equal(symlink(real, path), 0);
    free(real);
}

static int set_up(void **state)
{
    char path[PLACE_PATH_BYTES + 64];
    (void)state;
    snprintf(folder, sizeof folder, "%s", e2e_path("models"));
    place_remove(folder);
    place_remove(e2e_path("store"));
    if (mkdir(folder, 0700) != 0)
        return -1;
    arena_init(&arena, 256u << 20);
    add_model(A);
    add_model(B);
    snprintf(path, sizeof path, "%s/broken.gguf", folder);
    MUST(place_write(path, SLICE_LIT("GGUF, but not really"), e));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_release(&arena);
    place_remove(folder);
    return 0;
}

static void stop(struct serve *s)
{
    int code = -1;
    MUST(serve_stop(s, &code, e));
    assert_int_equal(code, 0);
}

/* ---- calls ---- */
/* The reply's JSON, of this status. */
static const struct json *call(const struct serve *s, const char *method, const char *path,
                               const char *body, int status)
{
    char url[512];
    struct http_answer a;
    struct json *v = NULL;
    snprintf(url, sizeof url, "%s%s", s->url, path);
    struct http_call c = {
        .method = method, .url = url, .body = body ? slice_of(body) : (struct slice){0}};
    MUST(http_client_call(s->http, &c, &a, e));
    if (a.status != status)
        fail_msg("%s %s: %d, not %d: %.*s", path, body ? body : "", a.status, status,
                 (int)a.body.len, a.body.len ? a.body.ptr : "");
    if (a.body.len > 1) /* Ollama's copy and delete say nothing */
        MUST(json_parse(buf_slice(&a.body), &arena, &v, e));
    http_answer_release(&a);
    return v;
}

static const char *text_at(const struct json *v, const char *key)
{
    const struct json *x = json_get(v, key);
    return x && x->kind == JSON_STRING ? x->text.ptr : "";
}

static const struct json *find_in(const struct json *list, const char *key, const char *value)
{
    assert_non_null(list);
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(text_at(&list->items[i], key), value) == 0)
            return &list->items[i];
    return NULL;
}

static bool is_loaded(const struct serve *s, const char *name)
{
    char tagged[128];
    snprintf(tagged, sizeof tagged, "%s:latest", name);
    return find_in(json_get(call(s, "GET", "/api/ps", NULL, 200), "models"), "name", tagged);
}

static void expect_gone(const struct serve *s, const char *name)
{
    uint64_t start = clock_now_ns();
    while (is_loaded(s, name) && clock_ms_since(start) < PATIENCE_MS)
        clock_sleep_ms(20);
    assert_false(is_loaded(s, name));
}

static struct buf messages_of(uint32_t n)
{
    struct buf text, messages;
    buf_init(&text, 1 << 20);
    buf_init(&messages, 1 << 20);
    for (uint32_t i = 0; i < n; i++)
        buf_printf(&text, "the ship number %u ", i);
    chat_add_message(&messages, "user", buf_slice(&text));
    buf_release(&text);
    return messages;
}

static void ask(const struct serve *s, const char *model, struct chat_reply *reply)
{
    char more[256];
    struct buf messages = messages_of(12);
    snprintf(more, sizeof more, "\"model\":\"%s\"", model);
    struct chat_ask a = {
        .messages = buf_slice(&messages), .more = more, .max_tokens = 24, .wants_logprobs = true};
    e2e_ask(s, &a, reply);
    if (reply->http != 200)
        fail_msg("%s: %d %s", model, reply->http, reply->error_message);
    buf_release(&messages);
}

/* ---- swaps ---- */
static void check_resumed(const struct chat_reply *first, const struct chat_reply *again,
                          const char *what)
{
    e2e_check_same(first, again, what);
    if (again->disk != again->prompt_tokens || again->computed != 0)
        fail_msg("%s: of %lld tokens %lld came from disk, %lld from memory, %lld were computed",
                 what, (long long)again->prompt_tokens, (long long)again->disk,
                 (long long)again->memory, (long long)again->computed);
}

static void what_a_model_computed_outlives_its_going(void **state)
{
    struct serve s;
    struct chat_reply a = {0}, b = {0}, a2 = {0}, b2 = {0}, a3 = {0};
    (void)state;
    e2e_serve(&s, e2e_path("store"), "--models-dir", folder, "--models-max-bytes", ROOM_FOR_ONE,
              NULL);
    ask(&s, A, &a);
    assert_int_equal(a.computed, a.prompt_tokens);
    assert_true(is_loaded(&s, A));
    ask(&s, B, &b);
    assert_false(is_loaded(&s, A)); /* there is room for one of them */
    ask(&s, A, &a2);
    check_resumed(&a, &a2, "A, B, A");
    ask(&s, B, &b2);
    check_resumed(&b, &b2, "B, A, B");
    /* The command asks the server, which asks the model that is meant. */
    struct child_result c;
    e2e_run(&c, "{\"model\":\"" B "\",\"prompt\":\"a\"}", "store", "explain", "--store",
            e2e_path("store"), NULL);
    assert_int_equal(c.code, 0);
    child_result_release(&c);
    e2e_run(&c, "{\"model\":\"" A "\",\"prompt\":\"a\"}", "store", "explain", "--store",
            e2e_path("store"), NULL);
    assert_int_equal(c.code, 1);
    assert_non_null(strstr(c.err.ptr, "no model called " A " is loaded"));
    child_result_release(&c);
    print_message("swap and answer: %.1f ms for %lld tokens\n", a2.total_ms,
                  (long long)a2.prompt_tokens);
    MUST(serve_wait_durable(&s, PATIENCE_MS, e));
    serve_kill(&s);
    e2e_serve(&s, e2e_path("store"), "--models-dir", folder, NULL);
    ask(&s, A, &a3);
    check_resumed(&a, &a3, "after kill -9");
    stop(&s);
    for (size_t i = 0; i < 5; i++)
        chat_reply_release((struct chat_reply *[]){&a, &b, &a2, &b2, &a3}[i]);
}

static void two_models_answer_at_once(void **state)
{
    static const char *const names[] = {A, B, "skald"};
    struct serve s;
    struct chat_reply alone[3] = {0};
    struct e2e_task tasks[12];
    char more[3][64]; /* read by the tasks */
    struct buf messages = messages_of(12);
    (void)state;
    e2e_serve(&s, NULL, "--models-dir", folder, NULL);
    for (size_t i = 0; i < 3; i++) {
        ask(&s, names[i], &alone[i]);
        snprintf(more[i], sizeof more[0], "\"cache_prompt\":false,\"model\":\"%s\"", names[i]);
    }
    for (size_t i = 0; i < 12; i++) {
        struct chat_ask a = {.messages = buf_slice(&messages),
                             .more = more[i % 3],
                             .max_tokens = 24,
                             .wants_logprobs = true};
        e2e_task_start(&tasks[i], &s, &a);
    }
    for (size_t i = 0; i < 12; i++) {
        e2e_task_join(&tasks[i]);
        assert_int_equal(tasks[i].st, OK);
        e2e_check_same(&alone[i % 3], &tasks[i].reply, names[i % 3]);
        chat_reply_release(&tasks[i].reply);
    }
    for (size_t i = 0; i < 3; i++)
        chat_reply_release(&alone[i]);
    buf_release(&messages);
    stop(&s);
}

/* ---- coming and going ---- */
/* LM Studio's chat: events of loading in their order, and none where the model is there. */
static void loading_is_told(const struct serve *s)
{
    static const char *const order[] = {"chat.start",
                                        "model_load.start",
                                        "model_load.progress",
                                        "model_load.end",
                                        "prompt_processing.start",
                                        "chat.end",
                                        "\"model_load_time_seconds\""};
    char url[512];
    snprintf(url, sizeof url, "%s/api/v1/chat", s->url);
    struct http_call c = {.url = url,
                          .body = SLICE_LIT("{\"model\":\"" B "\",\"input\":\"Hello\",\"stream\":"
                                            "true,\"max_output_tokens\":2}")};
    for (int round = 0; round < 2; round++) {
        struct http_answer a;
        MUST(http_client_call(s->http, &c, &a, e));
        assert_int_equal(a.status, 200);
        buf_add_char(&a.body, '\0');
        const char *at = a.body.ptr;
        for (size_t i = 0; i < ARRAY_COUNT(order); i++) {
            const bool is_of_load = strstr(order[i], "model_load") != NULL;
            const char *found = strstr(at, order[i]);
            if ((found != NULL) != (!is_of_load || round == 0))
                fail_msg("round %d: %s in %s", round, order[i], at);
            at = found ? found : at;
        }
        http_answer_release(&a);
    }
}

static void models_go_by_time_and_by_word(void **state)
{
    struct serve s;
    struct chat_reply r = {0};
    (void)state;
    e2e_serve(&s, NULL, "--models-dir", folder, "--model-ttl", "1", NULL);
    ask(&s, B, &r);
    chat_reply_release(&r);
    assert_true(is_loaded(&s, B));
    assert_true(is_loaded(&s, "skald"));
    uint64_t start = clock_now_ns();
    expect_gone(&s, B);
    assert_true(clock_ms_since(start) >= 500);
    const struct json *v =
        call(&s, "POST", "/api/generate", "{\"model\":\"" A "\",\"keep_alive\":-1}", 200);
    assert_string_equal(text_at(v, "done_reason"), "load");
    clock_sleep_ms(1500);
    assert_true(is_loaded(&s, A)); /* it was told to stay */
    v = call(&s, "POST", "/api/generate", "{\"model\":\"" A "\",\"keep_alive\":0}", 200);
    assert_string_equal(text_at(v, "done_reason"), "unload");
    expect_gone(&s, A);
    v = call(&s, "POST", "/api/chat", "{\"model\":\"" A "\",\"keep_alive\":\"0s\"}", 200);
    assert_string_equal(text_at(v, "done_reason"), "unload"); /* and is not loaded for that */
    assert_false(is_loaded(&s, A));
    v = call(&s, "POST", "/api/v0/chat/completions",
             "{\"model\":\"" A "\",\"ttl\":3600,\"max_tokens\":2,\"messages\":[{\"role\":\"user\","
             "\"content\":\"hi\"}]}",
             200);
    assert_non_null(json_get(v, "stats"));
    const struct json *row =
        find_in(json_get(call(&s, "GET", "/api/v0/models", NULL, 200), "data"), "id", A);
    assert_string_equal(text_at(row, "state"), "loaded");
    v = call(&s, "POST", "/api/v1/models/unload", "{\"instance_id\":\"" A "\"}", 200);
    assert_string_equal(text_at(v, "instance_id"), A);
    expect_gone(&s, A);
    v = call(&s, "POST", "/api/v1/models/load", "{\"model\":\"" B "\",\"echo_load_config\":true}",
             200);
    assert_string_equal(text_at(v, "status"), "loaded");
    assert_true(json_get(v, "load_time_seconds")->real > 0);
    v = call(&s, "POST", "/models/unload", "{\"model\":\"" B "\"}", 200);
    assert_true(json_get(v, "success")->boolean);
    expect_gone(&s, B);
    loading_is_told(&s);
    v = call(&s, "POST", "/api/v1/models/unload", "{\"instance_id\":\"" B "\"}", 200);
    expect_gone(&s, B);
    call(&s, "POST", "/models/load", "{\"model\":\"" B "\"}", 200);
    assert_true(is_loaded(&s, B));
    call(&s, "POST", "/models/unload", "{\"model\":\"skald\"}", 501); /* it stays */
    call(&s, "POST", "/api/generate", "{\"model\":\"skald\",\"keep_alive\":0}", 400);
    stop(&s);
}

/* ---- what is there ---- */
static void files_are_listed_as_they_are(void **state)
{
    struct serve s;
    (void)state;
    e2e_serve(&s, NULL, "--models-dir", folder, NULL);
    const struct json *data = json_get(call(&s, "GET", "/v1/models", NULL, 200), "data");
    assert_int_equal(data->count, 4);
    assert_string_equal(text_at(&data->items[0], "id"), "skald");
    const struct json *broken = json_get(find_in(data, "id", "broken"), "status");
    assert_string_equal(text_at(broken, "value"), "failed");
    assert_true(strlen(text_at(broken, "error")) > 10);
    assert_string_equal(text_at(json_get(find_in(data, "id", A), "status"), "value"), "not-loaded");
    assert_string_equal(text_at(call(&s, "GET", "/v1/models/" A, NULL, 200), "id"), A);
    call(&s, "GET", "/v1/models/nobody", NULL, 404);
    const struct json *tags = json_get(call(&s, "GET", "/api/tags", NULL, 200), "models");
    assert_int_equal(tags->count, 4);
    const struct json *shown = call(&s, "POST", "/api/show", "{\"model\":\"" B "\"}", 200);
    assert_string_equal(text_at(json_get(shown, "details"), "family"), "qwen3");
    assert_true(json_get(json_get(shown, "model_info"), "general.parameter_count")->integer > 0);
    assert_false(is_loaded(&s, B)); /* to be looked at is not to be loaded */
    /* A broken one gives an error that says so; an unknown one each dialect's own. */
    static const char *const bodies[] = {
        "{\"model\":\"%s\",\"max_tokens\":2,\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}",
        "{\"model\":\"%s\",\"prompt\":\"a\"}", "{\"model\":\"%s\",\"input\":\"a\"}"};
    static const struct {
        const char *path;
        int body;
    } rows[] = {{"/v1/chat/completions", 0}, {"/v1/completions", 1},
                {"/v1/responses", 2},        {"/v1/messages", 0},
                {"/completion", 1},          {"/api/chat", 0},
                {"/api/generate", 1},        {"/api/v1/chat", 2},
                {"/v1/embeddings", 2},       {"/v1/messages/count_tokens", 0}};
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        char body[BODY_MAX];
        snprintf(body, sizeof body, bodies[rows[i].body], "nobody");
        const struct json *v = call(&s, "POST", rows[i].path, body, 404), *error;
        error = json_get(v, "error");
        assert_non_null(error);
        assert_true(error->kind == JSON_STRING
                        ? strstr(error->text.ptr, "nobody") != NULL
                        : strstr(text_at(error, "message"), "nobody") != NULL);
        snprintf(body, sizeof body, bodies[rows[i].body], "broken");
        error = json_get(call(&s, "POST", rows[i].path, body, 500), "error");
        assert_true(strstr(error->kind == JSON_STRING ? error->text.ptr : text_at(error, "message"),
                           "broken.gguf") != NULL);
    }
    stop(&s);
}

static void the_folder_is_changed_by_copy_and_delete(void **state)
{
    char path[PLACE_PATH_BYTES + 64];
    struct serve s;
    struct stat st;
    (void)state;
    e2e_serve(&s, NULL, "--models-dir", folder, NULL);
    call(&s, "POST", "/api/copy", "{\"source\":\"broken\",\"destination\":\"mine:1b\"}", 200);
    snprintf(path, sizeof path, "%s/mine-1b.gguf", folder);
    assert_int_equal(stat(path, &st), 0);
    call(&s, "POST", "/api/copy", "{\"source\":\"broken\",\"destination\":\"../mine\"}", 400);
    call(&s, "POST", "/api/copy", "{\"source\":\"nobody\",\"destination\":\"x\"}", 404);
    call(&s, "DELETE", "/api/delete", "{\"model\":\"mine:1b\"}", 200);
    assert_int_not_equal(stat(path, &st), 0);
    call(&s, "DELETE", "/api/delete", "{\"model\":\"mine:1b\"}", 404);
    call(&s, "DELETE", "/api/delete", "{\"model\":\"skald\"}", 501);
    call(&s, "DELETE", "/api/delete", "{\"model\":\"" A "\"}", 200); /* the link, not its target */
    assert_int_equal(stat("tests/golden/tiny/" A ".gguf", &st), 0);
    assert_int_equal(json_get(call(&s, "GET", "/v1/models", NULL, 200), "data")->count, 3);
    stop(&s);
}

/* ---- a hub ---- */
/* Owner o has the repository r, with a model in it and a file that is none. */
static void serve_hub(void *arg, struct http_exchange *x)
{
    struct slice path = http_path(x);
    struct buf b;
    struct err e;
    int status = 200;
    (void)arg;
    buf_init(&b, 1u << 20);
    if (slice_is(path, "/api/models/o/r"))
        buf_add_text(&b, "{\"siblings\":[{\"rfilename\":\"r-Q4_0.gguf\"},"
                         "{\"rfilename\":\"r-bad.gguf\"}]}");
    else if (slice_is(path, "/o/r/resolve/main/r-Q4_0.gguf") &&
             place_read("tests/golden/tiny/" A ".gguf", &b, &e) == OK)
        status = 200;
    else if (slice_is(path, "/o/r/resolve/main/r-bad.gguf"))
        buf_add_text(&b, "no model");
    else
        status = 404;
    http_reply(x, status, "application/octet-stream", &b);
}

/* The last line of a reply to /api/pull. */
static const char *pull(const struct serve *s, const char *model, const char *key)
{
    char url[512], body[256];
    struct http_answer a;
    struct json *v = NULL;
    snprintf(url, sizeof url, "%s/api/pull", s->url);
    snprintf(body, sizeof body, "{\"model\":\"%s\"}", model);
    struct http_call c = {.url = url, .body = slice_of(body)};
    MUST(http_client_call(s->http, &c, &a, e));
    size_t end = a.body.len, begin;
    while (end > 0 && a.body.ptr[end - 1] == '\n')
        end--;
    for (begin = end; begin > 0 && a.body.ptr[begin - 1] != '\n';)
        begin--;
    MUST(json_parse((struct slice){a.body.ptr + begin, end - begin}, &arena, &v, e));
    http_answer_release(&a);
    return text_at(v, key);
}

/* LM Studio's downloads: answered at once, asked after by their numbers. */
static const struct json *end_of_job(const struct serve *s, const char *body, const char *state)
{
    char path[128];
    const struct json *job = call(s, "POST", "/api/v1/models/download", body, 200);
    snprintf(path, sizeof path, "/api/v1/models/download/status/%s", text_at(job, "job_id"));
    for (int i = 0; i < 500; i++) {
        job = call(s, "GET", path, NULL, 200);
        if (strcmp(text_at(job, "status"), "downloading") != 0)
            break;
        clock_sleep_ms(10);
    }
    assert_string_equal(text_at(job, "status"), state);
    return job;
}

static void jobs_fetch_as_well(const struct serve *s)
{
    char path[PLACE_PATH_BYTES + 64];
    struct chat_reply r = {0};
    struct stat st;
    const struct json *job = call(s, "POST", "/api/v1/models/download",
                                  "{\"model\":\"https://huggingface.co/o/r\",\"quantization\":"
                                  "\"Q4_0\"}",
                                  200);
    assert_string_equal(text_at(job, "status"), "already_downloaded");
    snprintf(path, sizeof path, "%s/r-Q4_0.gguf", folder);
    assert_int_equal(unlink(path), 0);
    job = end_of_job(s, "{\"model\":\"https://huggingface.co/o/r\",\"quantization\":\"Q4_0\"}",
                     "completed");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(json_get(job, "total_size_bytes")->integer, st.st_size);
    assert_int_equal(json_get(job, "downloaded_bytes")->integer, st.st_size);
    assert_non_null(json_get(job, "completed_at"));
    ask(s, "o/r:Q4_0", &r);
    chat_reply_release(&r);
    job = end_of_job(s, "{\"model\":\"o/nobody\"}", "failed");
    assert_non_null(strstr(text_at(job, "error"), "404"));
    job = call(s, "GET", "/api/v1/models/download/status", NULL, 200);
    assert_int_equal(json_get(job, "completed")->count, 1);
    assert_int_equal(json_get(job, "failed")->count, 1);
    assert_int_equal(json_get(job, "downloading")->count, 0);
    call(s, "GET", "/api/v1/models/download/status/job_0", NULL, 404);
    call(s, "POST", "/api/v1/models/download", "{}", 400);
    call(s, "POST", "/api/v1/models/download", "{\"model\":\"llama3.2\"}", 400);
}

static void a_model_can_be_pulled_and_asked(void **state)
{
    struct serve s;
    struct chat_reply r = {0};
    struct http_server *hub;
    struct http_options o = http_defaults();
    char url[64], path[PLACE_PATH_BYTES + 64];
    struct stat st;
    (void)state;
    o.host = "127.0.0.1";
    o.port = 0;
    o.handle = serve_hub;
    MUST(http_server_start(&o, &hub, e));
    snprintf(url, sizeof url, "http://127.0.0.1:%u/", http_server_port(hub));
    e2e_serve(&s, NULL, "--models-dir", folder, "--base-url", url, NULL);
    assert_string_equal(pull(&s, "hf.co/o/r:Q4_0", "status"), "success");
    ask(&s, "o/r:Q4_0", &r);
    chat_reply_release(&r);
    jobs_fetch_as_well(&s);
    assert_non_null(strstr(pull(&s, "o/r:r-bad.gguf", "error"), "is no model"));
    snprintf(path, sizeof path, "%s/r-bad.gguf", folder);
    assert_int_not_equal(stat(path, &st), 0);
    assert_non_null(strstr(pull(&s, "o/nobody", "error"), "404"));
    assert_non_null(strstr(pull(&s, "http://127.0.0.1:1/a/b.gguf", "error"), "OWNER/REPO"));
    assert_non_null(strstr(pull(&s, "llama3.2", "error"), "OWNER/REPO"));
    stop(&s);
    e2e_serve(&s, NULL, NULL); /* without a folder nothing is fetched */
    call(&s, "POST", "/api/pull", "{\"model\":\"o/r:Q4_0\"}", 501);
    call(&s, "POST", "/api/v1/models/download", "{\"model\":\"o/r:Q4_0\"}", 501);
    stop(&s);
    http_server_stop(hub);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_a_model_computed_outlives_its_going, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(two_models_answer_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(models_go_by_time_and_by_word, set_up, tear_down),
        cmocka_unit_test_setup_teardown(files_are_listed_as_they_are, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_folder_is_changed_by_copy_and_delete, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_model_can_be_pulled_and_asked, set_up, tear_down),
    };
    e2e_begin(argc, argv);
    return e2e_end(cmocka_run_group_tests(tests, NULL, NULL));
}
