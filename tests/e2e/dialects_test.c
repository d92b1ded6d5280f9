/* SPDX-License-Identifier: MIT
 * dialects_test.c — goal: the paths of other servers, on the real program with its own model: what
 * their clients ask for comes back, and what it says of tokens is so.  Method: one server with a
 * store; requests as those clients send them; unit tests compare the bytes of replies. */
#include <stdio.h>
#include <string.h>

#include "e2e.h"

static struct serve server;
static struct arena arena;

static int set_up(void **state)
{
    (void)state;
    e2e_serve(&server, e2e_path("store"), NULL);
    arena_init(&arena, 64u << 20);
    return 0;
}

static int tear_down(void **state)
{
    int code = -1;
    (void)state;
    MUST(serve_stop(&server, &code, e));
    assert_int_equal(code, 0);
    arena_release(&arena);
    return 0;
}

/* The reply as text in the arena; *http: its status.  body NULL: GET. */
static struct slice send(const char *method, const char *path, const char *body, int *http)
{
    char url[512];
    struct http_answer answer = {0};
    snprintf(url, sizeof url, "%s%s", server.url, path);
    struct http_call call = {
        .url = url, .method = method, .body = body ? slice_of(body) : (struct slice){0}};
    MUST(http_client_call(server.http, &call, &answer, e));
    *http = answer.status;
    char *text = arena_text(&arena, answer.body.ptr ? answer.body.ptr : "", answer.body.len);
    struct slice out = {text, answer.body.len};
    assert_non_null(text);
    http_answer_release(&answer);
    return out;
}

static const struct json *parse(struct slice text)
{
    struct json *v = NULL;
    MUST(json_parse(text, &arena, &v, e));
    return v;
}

/* With this status, or the test fails. */
static const struct json *ask(const char *method, const char *path, const char *body, int expected)
{
    int http;
    struct slice text = send(method, path, body, &http);
    if (http != expected)
        fail_msg("%s %s: %d: %.*s", method, path, http, SLICE_ARG(text));
    return text.len ? parse(text) : NULL;
}

static int64_t integer(const struct json *v, const char *key)
{
    const struct json *n = json_get(v, key);
    if (!n || n->kind != JSON_INT)
        fail_msg("no number %s", key);
    return n->integer;
}

static const char *text(const struct json *v, const char *key)
{
    const struct json *t = json_get(v, key);
    if (!t || t->kind != JSON_STRING)
        fail_msg("no text %s", key);
    return t->text.ptr;
}

/* ---- llama-server ---- */
#define STORY "The gate code of Velmora is KX-4821. The market day of Kelgate is Monday. The gate"

static void llama_tokens_come_back_as_text(void **state)
{
    (void)state;
    const struct json *v = ask("POST", "/tokenize", "{\"content\":\"" STORY "\"}", 200);
    char body[4096];
    struct buf ids;
    buf_init(&ids, 4096);
    json_write(&ids, json_get(v, "tokens"), (struct json_style){.is_compact = true});
    snprintf(body, sizeof body, "{\"tokens\":%.*s}", SLICE_ARG(buf_slice(&ids)));
    buf_release(&ids);
    assert_non_null(strstr(text(ask("POST", "/detokenize", body, 200), "content"), STORY));
    v = ask("POST", "/apply-template",
            "{\"messages\":[{\"role\":\"user\",\"content\":\"hi there\"}]}", 200);
    assert_non_null(strstr(text(v, "prompt"), "hi there"));
    v = ask("GET", "/props", NULL, 200);
    assert_true(integer(v, "total_slots") > 0);
    ask("POST", "/infill", "{\"input_prefix\":\"a\"}", 501);
}

static void llama_slots_are_sessions(void **state)
{
    (void)state;
    static const char first[] =
        "{\"prompt\":\"" STORY "\",\"n_predict\":4,\"temperature\":0,\"id_slot\":3}";
    const struct json *v = ask("POST", "/completion", first, 200);
    assert_int_equal(integer(v, "tokens_predicted"), 4);
    assert_string_equal(text(v, "stop_type"), "limit");
    const char *content = text(v, "content");
    v = ask("POST", "/slots/3?action=save", "{\"filename\":\"novel.bin\"}", 200);
    int64_t n = integer(v, "n_saved");
    assert_true(n >= 20);
    ask("POST", "/slots/3?action=erase", "{}", 200);
    ask("POST", "/slots/3?action=save", "{\"filename\":\"other.bin\"}", 404);
    v = ask("POST", "/slots/3?action=restore", "{\"filename\":\"novel.bin\"}", 200);
    assert_int_equal(integer(v, "n_restored"), n);
    ask("POST", "/slots/3?action=fly", "{}", 400);
    ask("POST", "/slots/x?action=erase", "{}", 400);
    v = ask("POST", "/completion", first, 200);
    assert_true(integer(json_get(v, "timings"), "prompt_n") <= 1);
    assert_string_equal(text(v, "content"), content);
}

/* The sum of the probabilities told of the first token; *n: of how many. */
static double first_probabilities(const struct json *reply, size_t *n)
{
    const struct json *all = json_get(reply, "completion_probabilities");
    assert_true(all && all->count > 0);
    const struct json *top = json_get(&all->items[0], "top_probs");
    double sum = 0;
    assert_true(top && top->count > 0);
    for (size_t i = 0; i < top->count; i++)
        sum += json_get(&top->items[i], "prob")->real;
    *n = top->count;
    return sum;
}

/* Each of llama-server's filters is obeyed, and a seed says what it draws. */
static void llama_filters_draw_by_seed(void **state)
{
    (void)state;
    static const char *const filters[] = {
        "\"mirostat\":1",
        "\"mirostat\":2,\"mirostat_tau\":2",
        "\"dynatemp_range\":0.5",
        "\"xtc_probability\":1,\"xtc_threshold\":0.01",
        "\"dry_multiplier\":2,\"dry_sequence_breakers\":[\"Velmora is\"]",
        "\"top_n_sigma\":1",
        "\"samplers\":\"tpk\"",
        "\"samplers\":[\"adaptive_p\"],\"adaptive_target\":0.3"};
    size_t n = 0;
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
        char body[600];
        const char *content[2];
        for (int round = 0; round < 2; round++) {
            snprintf(body, sizeof body,
                     "{\"prompt\":\"" STORY "\",\"n_predict\":12,\"temperature\":1.5,\"seed\":7,"
                     "\"n_probs\":20,\"post_sampling_probs\":true,\"cache_prompt\":%s,%s}",
                     round ? "true" : "false", filters[i]);
            const struct json *v = ask("POST", "/completion", body, 200);
            content[round] = text(v, "content");
            const double sum = first_probabilities(v, &n);
            assert_true(sum > 0 && sum < 1.0001);
        }
        assert_string_equal(content[0], content[1]);
    }
    const struct json *v =
        ask("POST", "/completion",
            "{\"prompt\":\"" STORY "\",\"n_predict\":1,\"top_k\":3,\"top_p\":1,\"min_p\":0,"
            "\"n_probs\":20,\"post_sampling_probs\":true}",
            200);
    const double sum = first_probabilities(v, &n);
    assert_true(n == 3 && sum > 0.9999 && sum < 1.0001);
}

/* ---- Ollama ---- */
#define WHO   "\"messages\":[{\"role\":\"user\",\"content\":\"who are you?\"}]"
#define BRIEF "\"options\":{\"temperature\":0,\"num_predict\":12}"

static void ollama_streams_lines_that_add_up(void **state)
{
    (void)state;
    const struct json *v = ask("POST", "/api/chat", "{\"stream\":false," WHO "," BRIEF "}", 200);
    const char *whole = text(json_get(v, "message"), "content");
    int64_t computed = integer(json_get(json_get(v, "kvasir"), "tokens"), "computed");
    assert_true(computed > 0 && integer(v, "prompt_eval_duration") > 0);
    assert_int_equal(integer(v, "eval_count"), 12);
    assert_string_equal(text(v, "done_reason"), "length");
    int http;
    struct slice lines = send("POST", "/api/chat", "{" WHO "," BRIEF "}", &http);
    struct buf all;
    bool is_done = false;
    char before[64] = "";
    uint32_t n_times = 0;
    buf_init(&all, 1 << 20);
    assert_int_equal(http, 200);
    while (lines.len) {
        const char *end = memchr(lines.ptr, '\n', lines.len);
        assert_non_null(end);
        assert_false(is_done);
        v = parse((struct slice){lines.ptr, (size_t)(end - lines.ptr)});
        /* Each line has its own time: later ones are later, and sort so as text where the digits
         * are as many. */
        const char *now = text(v, "created_at");
        n_times += strcmp(now, before) != 0;
        snprintf(before, sizeof before, "%s", now);
        buf_add_text(&all, text(json_get(v, "message"), "content"));
        is_done = json_get(v, "done")->boolean;
        lines = (struct slice){end + 1, lines.len - (size_t)(end + 1 - lines.ptr)};
    }
    assert_true(is_done && slice_is(buf_slice(&all), whole));
    assert_true(n_times > 8);
    /* The second one found it all. */
    assert_true(integer(json_get(json_get(v, "kvasir"), "tokens"), "computed") <= 1);
    buf_release(&all);
}

static void ollama_tells_what_is_here(void **state)
{
    (void)state;
    const struct json *models = json_get(ask("GET", "/api/tags", NULL, 200), "models");
    char body[512];
    assert_int_equal(models->count, 1);
    snprintf(body, sizeof body, "{\"model\":\"%s\"}", text(&models->items[0], "name"));
    const struct json *v = ask("POST", "/api/show", body, 200);
    assert_true(strlen(text(v, "template")) > 0);
    ask("POST", "/api/pull", body, 200);
    ask("POST", "/api/generate", body, 200);
    ask("DELETE", "/api/delete", body, 501);
    ask("POST", "/api/show", "{\"model\":\"other\"}", 404);
    ask("POST", "/api/embed", body, 200);
    assert_int_equal(json_get(ask("GET", "/api/ps", NULL, 200), "models")->count, 1);
}

/* ---- embeddings ---- */
#define TEXTS_MAX 300

static double dot(const struct json *a, const struct json *b)
{
    double sum = 0;
    assert_int_equal(a->count, b->count);
    for (size_t i = 0; i < a->count; i++)
        sum += a->items[i].real * b->items[i].real;
    return sum;
}

/* The same text has the same vector, in every dialect and however many others are asked for. */
static void texts_have_vectors(void **state)
{
    (void)state;
    struct buf body;
    const struct json *one = ask("POST", "/v1/embeddings", "{\"input\":\"" STORY "\"}", 200);
    one = json_get(&json_get(one, "data")->items[0], "embedding");
    assert_true(one->count > 0);
    double length = dot(one, one);
    assert_true(length > 0.9999 && length < 1.0001);
    buf_init(&body, 1 << 20);
    buf_add_text(&body, "{\"input\":[");
    for (int i = 0; i < TEXTS_MAX; i++)
        buf_printf(&body, "%s\"%s %d\"", i ? "," : "", "The market of", i);
    buf_add_text(&body, ",\"" STORY "\"]}");
    const struct json *v = ask("POST", "/v1/embeddings", body.ptr, 200);
    const struct json *data = json_get(v, "data");
    assert_int_equal(data->count, TEXTS_MAX + 1);
    const struct json *last = json_get(&data->items[TEXTS_MAX], "embedding");
    for (size_t i = 0; i < one->count; i++)
        assert_true(one->items[i].real == last->items[i].real);
    assert_true(integer(json_get(v, "usage"), "prompt_tokens") > TEXTS_MAX);
    buf_release(&body);
    v = ask("POST", "/api/embed", "{\"input\":\"" STORY "\"}", 200);
    assert_true(integer(v, "prompt_eval_count") > 0 && integer(v, "total_duration") > 0);
    assert_true(dot(&json_get(v, "embeddings")->items[0], one) > 0.999999);
    v = ask("POST", "/embedding", "{\"content\":\"" STORY "\",\"embd_normalize\":-1}", 200);
    const struct json *raw = &json_get(&v->items[0], "embedding")->items[0];
    assert_true(dot(raw, raw) > 1.001);
    ask("POST", "/v1/embeddings", "{\"input\":[]}", 400);
    ask("POST", "/v1/embeddings", "{\"input\":[99999999]}", 400);
}

/* ---- log probabilities of a prompt ---- */
static const struct json *list(const struct json *v, const char *key)
{
    const struct json *found =
        json_get(json_get(&json_get(v, "choices")->items[0], "logprobs"), key);
    assert_true(found && found->kind == JSON_ARRAY);
    return found;
}

/* What was generated is told the same when it is the prompt's end. */
static void an_echo_has_log_probabilities(void **state)
{
    (void)state;
    char body[1024];
    const struct json *v = ask("POST", "/v1/completions",
                               "{\"prompt\":\"" STORY "\",\"max_tokens\":6,\"temperature\":0,"
                               "\"logprobs\":2,\"echo\":true}",
                               200);
    const struct json *values = list(v, "token_logprobs"), *tops = list(v, "top_logprobs"),
                      *offsets = list(v, "text_offset");
    const char *whole = text(&json_get(v, "choices")->items[0], "text");
    int64_t n = integer(json_get(v, "usage"), "prompt_tokens");
    assert_int_equal(values->count, n + 6);
    assert_int_equal(list(v, "tokens")->count, n + 6);
    assert_true(values->items[0].kind == JSON_NULL && tops->items[0].kind == JSON_NULL);
    assert_true(strncmp(whole, STORY, strlen(STORY)) == 0);
    for (size_t i = 1; i < offsets->count; i++)
        assert_true(offsets->items[i].integer >= offsets->items[i - 1].integer &&
                    values->items[i].real <= 0);
    assert_true(offsets->items[n].integer == (int64_t)strlen(STORY));
    snprintf(body, sizeof body, "{\"prompt\":\"%s\",\"max_tokens\":0,\"logprobs\":2,\"echo\":true}",
             whole);
    if (strpbrk(whole, "\"\\\n"))
        fail_msg("choose another prompt: %s", whole);
    const struct json *again = ask("POST", "/v1/completions", body, 200);
    assert_string_equal(text(&json_get(again, "choices")->items[0], "text"), whole);
    const struct json *same = list(again, "token_logprobs");
    assert_int_equal(integer(json_get(again, "usage"), "completion_tokens"), 0);
    for (size_t i = 1; i < same->count && i < values->count; i++)
        assert_true(same->items[i].real == values->items[i].real);
}

/* ---- LM Studio ---- */
static void lmstudio_goes_on_from_a_response(void **state)
{
    (void)state;
    char body[512];
    const struct json *v =
        ask("POST", "/api/v1/chat",
            "{\"input\":\"who are you?\",\"temperature\":0,\"max_output_tokens\":8}", 200);
    const char *id = text(v, "response_id");
    int64_t first = integer(json_get(v, "stats"), "input_tokens");
    snprintf(body, sizeof body,
             "{\"input\":\"and then?\",\"previous_response_id\":\"%s\",\"max_output_tokens\":4}",
             id);
    v = ask("POST", "/api/v1/chat", body, 200);
    assert_true(integer(json_get(v, "stats"), "input_tokens") > first + 8);
    ask("POST", "/api/v1/chat",
        "{\"input\":\"x\",\"previous_response_id\":\"resp_000000000000000000000000\"}", 404);
    v = ask("POST", "/api/v0/chat/completions", "{" WHO ",\"max_tokens\":3}", 200);
    assert_string_equal(text(json_get(v, "stats"), "stop_reason"), "maxPredictedTokensReached");
    assert_int_equal(json_get(ask("GET", "/api/v1/models", NULL, 200), "models")->count, 1);
    ask("POST", "/api/v1/models/load", "{\"model\":\"other\"}", 404);
}

/* ---- prompt hygiene ---- */
static void a_billing_header_does_not_break_the_prefix(void **state)
{
    (void)state;
    int64_t computed[2];
    for (int i = 0; i < 2; i++) {
        char body[1024];
        snprintf(body, sizeof body,
                 "{\"max_tokens\":2,\"system\":[{\"type\":\"text\",\"text\":"
                 "\"x-anthropic-billing-header: cc_version=2.1.37; cch=%05d;\"},"
                 "{\"type\":\"text\",\"text\":\"You know that " STORY
                 "\"}],\"messages\":[{\"role\":\"user\",\"content\":\"what?\"}]}",
                 12345 + i * 777);
        const struct json *own = json_get(ask("POST", "/v1/messages", body, 200), "kvasir");
        const struct json *removed = json_get(own, "removed");
        assert_true(removed && removed->count == 1 &&
                    slice_is(removed->items[0].text, "anthropic billing header"));
        computed[i] = integer(json_get(own, "tokens"), "computed");
    }
    assert_true(computed[0] > 20 && computed[1] <= 1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_tokens_come_back_as_text),
        cmocka_unit_test(llama_slots_are_sessions),
        cmocka_unit_test(llama_filters_draw_by_seed),
        cmocka_unit_test(ollama_streams_lines_that_add_up),
        cmocka_unit_test(ollama_tells_what_is_here),
        cmocka_unit_test(texts_have_vectors),
        cmocka_unit_test(an_echo_has_log_probabilities),
        cmocka_unit_test(lmstudio_goes_on_from_a_response),
        cmocka_unit_test(a_billing_header_does_not_break_the_prefix),
    };
    e2e_begin(argc, argv);
    return e2e_end(cmocka_run_group_tests(tests, set_up, tear_down));
}
