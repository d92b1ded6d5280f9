/* SPDX-License-Identifier: MIT
 * reply_test.c — goal: what clients read has the shape that they expect, a stream adds up to the
 * whole reply, and every reply tells what it cost.  Method: the same script of events through both
 * ways; output parsed as JSON, compared field by field. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "api/api.h"
#include "fake_engine.h"

static const struct api_dialect *dialect_of(const char *path)
{
    struct slice id;
    const char *allow;
    return api_endpoint_find(SLICE_LIT("POST"), slice_of(path), &id, &allow)->dialect;
}
#define API_CHAT dialect_of("/v1/chat/completions")
#define API_TEXT dialect_of("/v1/completions")

#define CHOICES_MAX 4
#define TOOLS       ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]"
#define CHAT(fields) \
    "{\"model\":\"m\\\"1\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]" fields "}"

static struct engine *engine;
static struct arena arena;
static const struct engine_usage usage = {.prompt_tokens = 100,
                                          .memory_tokens = 64,
                                          .disk_tokens = 20,
                                          .computed_tokens = 16,
                                          .completion_tokens = 10,
                                          .replayed = 2,
                                          .guessed_tokens = 9,
                                          .accepted_tokens = 7,
                                          .diverged_at = -1,
                                          .queue_ms = 0.1234567,
                                          .lookup_ms = 0.5,
                                          .prefill_ms = 8,
                                          .decode_ms = 20,
                                          .seed = UINT64_MAX};

static int set_up(void **state)
{
    (void)state;
    fake_script = (struct fake_script){.pieces = {"Hel", "lo", "\xc3", "\xa9", "é"}, .n_pieces = 5};
    engine = fake_engine_new();
    arena_init(&arena, 256u << 20);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_release(&arena);
    engine_close(engine);
    return 0;
}

static const struct json *parse(struct slice text)
{
    struct err e = {0};
    struct json *v = NULL;
    if (json_parse(text, &arena, &v, &e) != OK)
        fail_msg("%s in %.*s", e.msg, SLICE_ARG(text));
    return v;
}

static const struct json *at(const struct json *v, const char *key)
{
    const struct json *found = json_get(v, key);
    if (!found)
        fail_msg("%s is missing", key);
    return found;
}

/* What a client puts together. */
struct seen {
    struct buf content[CHOICES_MAX], calls[CHOICES_MAX];
    char finish[CHOICES_MAX][16];
    uint32_t n_chunks, n_logprobs, n_usage, n_role;
    const struct json *last; /* the value that carries kvasir */
    bool is_done;
};

static void seen_release(struct seen *s)
{
    for (size_t i = 0; i < CHOICES_MAX; i++) {
        buf_release(&s->content[i]);
        buf_release(&s->calls[i]);
    }
}

static void see_calls(struct seen *s, size_t index, const struct json *calls)
{
    for (size_t i = 0; calls && i < calls->count; i++) {
        const struct json *fn = at(&calls->items[i], "function"),
                          *id = json_get(&calls->items[i], "id");
        if (id) { /* a stream says who is called first, then the arguments */
            assert_true(slice_starts(id->text, SLICE_LIT("call_")));
            assert_true(slice_is(at(&calls->items[i], "type")->text, "function"));
            buf_printf(&s->calls[index], "%.*s:", SLICE_ARG(at(fn, "name")->text));
        }
        buf_add_slice(&s->calls[index], at(fn, "arguments")->text);
    }
}

static void see_choice(struct seen *s, const struct json *choice, bool is_chat, bool is_stream)
{
    size_t index = (size_t)at(choice, "index")->integer;
    const struct json *body = is_chat ? at(choice, is_stream ? "delta" : "message") : choice;
    const struct json *text = json_get(body, is_chat ? "content" : "text");
    const struct json *logprobs = at(choice, "logprobs"), *finish = at(choice, "finish_reason");
    assert_true(index < CHOICES_MAX);
    assert_int_equal(s->finish[index][0], 0); /* nothing after the end */
    if (text && text->kind == JSON_STRING)
        buf_add_slice(&s->content[index], text->text);
    s->n_role += json_get(body, "role") != NULL;
    see_calls(s, index, json_get(body, "tool_calls"));
    if (logprobs->kind == JSON_OBJECT)
        s->n_logprobs += (uint32_t)at(logprobs, is_chat ? "content" : "tokens")->count;
    if (finish->kind == JSON_STRING)
        snprintf(s->finish[index], sizeof s->finish[index], "%s", finish->text.ptr);
}

static void see(struct seen *s, const struct json *v, bool is_chat, bool is_stream)
{
    s->n_chunks++;
    assert_true(slice_is(at(v, "model")->text, is_chat ? "m\"1" : "default-name"));
    assert_true(
        slice_starts(at(v, "id")->text, is_chat ? SLICE_LIT("chatcmpl-") : SLICE_LIT("cmpl-")));
    assert_true(slice_is(at(v, "object")->text, !is_chat    ? "text_completion"
                                                : is_stream ? "chat.completion.chunk"
                                                            : "chat.completion"));
    assert_int_equal(at(v, "created")->integer, 1234567);
    assert_true(at(v, "system_fingerprint")->text.len > 0);
    const struct json *choices = at(v, "choices"), *u = json_get(v, "usage");
    for (size_t i = 0; i < choices->count; i++)
        see_choice(s, &choices->items[i], is_chat, is_stream);
    if (u && u->kind == JSON_OBJECT)
        s->n_usage++;
    if (json_get(v, "kvasir"))
        s->last = v;
}

static void see_events(struct seen *s, struct slice out, bool is_chat)
{
    while (out.len > 0) {
        const char *end = memmem(out.ptr, out.len, "\n\n", 2);
        assert_non_null(end);
        assert_true(slice_starts(out, SLICE_LIT("data: ")));
        assert_false(s->is_done);
        struct slice data = {out.ptr + 6, (size_t)(end - out.ptr) - 6};
        if (slice_is(data, "[DONE]"))
            s->is_done = true;
        else
            see(s, parse(data), is_chat, true);
        out = (struct slice){end + 2, out.len - (size_t)(end + 2 - out.ptr)};
    }
}

/* Plays pieces to every choice: STARTED, TEXT…, FINISHED, DONE. */
static struct seen play(const char *body, const char *const *pieces, enum finish_reason finish)
{
    bool is_chat = strstr(body, "\"messages\"") != NULL;
    struct api_context context = {.model_name = "default-name",
                                  .n_vocab = FAKE_VOCAB,
                                  .tokenizer = engine_tokenizer(engine),
                                  .now_unix_s = 1234567};
    struct engine_request *r = engine_request_new(engine);
    struct api_call *call = NULL;
    struct api_error error;
    struct seen s = {.n_chunks = 0};
    struct buf out;
    buf_init(&out, 64 << 20);
    for (size_t i = 0; i < CHOICES_MAX; i++) {
        buf_init(&s.content[i], 1 << 24);
        buf_init(&s.calls[i], 1 << 24);
    }
    if (api_call_new(is_chat ? API_CHAT : API_TEXT, slice_of(body), SLICE_LIT("a-session"),
                     &context, r, &call, &error) != OK)
        fail_msg("%s: %s", body, error.message);
#define EVENT(...) \
    assert_int_equal(api_reply_event(call, 0, &(struct engine_event){__VA_ARGS__}, &out), OK)
    EVENT(.kind = EVENT_STARTED, .usage = &usage);
    EVENT(.kind = EVENT_PROGRESS, .done = 90, .total = 100, .usage = &usage);
    bool tells = buf_slice(&out).len && strstr(out.ptr, "prompt_progress");
    assert_int_equal(tells, strstr(body, "return_progress") && strstr(body, "\"stream\":true"));
    if (tells)
        assert_non_null(strstr(out.ptr, "\"prompt_progress\":{\"total\":100,\"cache\":84,"
                                        "\"processed\":90,\"time_ms\":8"));
    for (uint32_t i = 0; pieces[i]; i++) {
        for (uint32_t c = 0; c < r->n_choices; c++) {
            struct sampled sampled = {.token = i,
                                      .logprob = -0.25f,
                                      .n_top = 2,
                                      .top_tokens = {i, 900},
                                      .top_logprobs = {-0.25f, -2}};
            EVENT(.kind = EVENT_TEXT, .choice = c, .text = slice_of(pieces[i]), .token = i,
                  .sampled = r->sampling.wants_logprob ? &sampled : NULL);
        }
    }
    for (uint32_t c = 0; c < r->n_choices; c++)
        EVENT(.kind = EVENT_FINISHED, .choice = c, .text = {"", 0}, .finish = finish);
    assert_int_equal(api_call_is_stream(call) || out.len == 0, 1);
    EVENT(.kind = EVENT_DONE, .usage = &usage);
    if (api_call_is_stream(call))
        see_events(&s, buf_slice(&out), is_chat);
    else if (out.len)
        see(&s, parse(buf_slice(&out)), is_chat, false);
    buf_release(&out);
    api_call_free(call);
    engine_request_free(r);
    return s;
}

static void check_cost(const struct json *v)
{
    const struct json *u = at(v, "usage"), *t = at(v, "timings"), *k = at(v, "kvasir");
    assert_int_equal(at(u, "prompt_tokens")->integer, 100);
    assert_int_equal(at(u, "completion_tokens")->integer, 10);
    assert_int_equal(at(u, "total_tokens")->integer, 110);
    assert_int_equal(at(at(u, "prompt_tokens_details"), "cached_tokens")->integer, 84);
    assert_int_equal(at(t, "cache_n")->integer, 84);
    assert_int_equal(at(t, "prompt_n")->integer, 16);
    assert_true(at(t, "prompt_per_second")->real == 2000);
    assert_true(at(t, "predicted_per_token_ms")->real == 2);
    assert_true(slice_is(at(k, "session")->text, "a-session"));
    assert_int_equal(at(at(k, "tokens"), "memory")->integer, 64);
    assert_int_equal(at(at(k, "tokens"), "disk")->integer, 20);
    assert_int_equal(at(at(k, "tokens"), "computed")->integer, 16);
    assert_true(at(at(k, "ms"), "queue")->real == 0.123);
    assert_true(at(at(k, "ms"), "lookup")->real == 0.5);
    assert_true(at(at(k, "ms"), "prefill")->real == 8);
    assert_true(at(at(k, "ms"), "decode")->real == 20);
    assert_int_equal(at(k, "replayed")->integer, 2);
    assert_int_equal(at(k, "diverged_at")->kind, JSON_NULL);
    assert_int_equal(at(k, "reason")->kind, JSON_NULL);
    assert_int_equal(at(k, "drafted")->integer, 9);
    assert_int_equal(at(k, "accepted")->integer, 7);
    assert_int_equal(at(t, "draft_n")->integer, 9);
    assert_int_equal(at(t, "draft_n_accepted")->integer, 7);
    assert_int_equal(k->count, 8); /* as the design gives it, and what speculation did */
    assert_true(slice_is(at(v, "seed")->text, "18446744073709551615"));
}

static void a_stream_adds_up_to_the_whole(void **state)
{
    (void)state;
    static const char *const pieces[] = {"Hel", "", "lo \"you\"", "\n", "wörld", NULL};
    static const struct {
        const char *whole, *stream;
    } bodies[] = {
        {CHAT(""), CHAT(",\"stream\":true")},
        {CHAT(",\"n\":3"), CHAT(",\"n\":3,\"stream\":true")},
        {CHAT(",\"return_progress\":true"), CHAT(",\"return_progress\":true,\"stream\":true")},
        {CHAT(TOOLS), CHAT(TOOLS ",\"stream\":true")},
        {CHAT(",\"logprobs\":true,\"top_logprobs\":2"),
         CHAT(",\"logprobs\":true,\"top_logprobs\":2,\"stream\":true")},
        {"{\"prompt\":\"Once\"}", "{\"prompt\":\"Once\",\"stream\":true}"},
        {"{\"prompt\":\"Once\",\"echo\":true}",
         "{\"prompt\":\"Once\",\"stream\":true,\"echo\":true}"},
        {"{\"prompt\":\"Once\",\"logprobs\":2,\"n\":2}",
         "{\"prompt\":\"Once\",\"logprobs\":2,\"n\":2,\"stream\":true}"},
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        bool is_echo = strstr(bodies[i].whole, "echo") != NULL;
        struct seen a = play(bodies[i].whole, pieces, FINISH_STOP);
        struct seen b = play(bodies[i].stream, pieces, FINISH_STOP);
        assert_int_equal(a.n_chunks, 1);
        assert_true(b.is_done);
        assert_int_equal(a.n_usage, 1);
        assert_int_equal(b.n_usage, 1);
        assert_int_equal(a.n_logprobs, b.n_logprobs);
        check_cost(a.last);
        check_cost(b.last);
        for (size_t c = 0; c < CHOICES_MAX; c++) {
            assert_true(slice_equal(buf_slice(&a.content[c]), buf_slice(&b.content[c])));
            assert_string_equal(a.finish[c], b.finish[c]);
        }
        assert_string_equal(a.finish[0], "stop");
        assert_string_equal(buf_slice(&a.content[0]).ptr,
                            is_echo ? "OnceHello \"you\"\nwörld" : "Hello \"you\"\nwörld");
        seen_release(&a);
        seen_release(&b);
    }
}

static void usage_has_a_chunk_of_its_own_when_asked(void **state)
{
    (void)state;
    static const char *const pieces[] = {"a", NULL};
    struct seen s = play(CHAT(",\"stream\":true,\"stream_options\":{\"include_usage\":true}"),
                         pieces, FINISH_LENGTH);
    assert_int_equal(at(s.last, "choices")->count, 0);
    assert_int_equal(s.n_usage, 1);
    assert_int_equal(s.n_chunks, 4); /* role, text, end, usage */
    assert_string_equal(s.finish[0], "length");
    check_cost(s.last);
    seen_release(&s);
}

static void finds_tool_calls(void **state)
{
    (void)state;
    static const char *const pieces[] = {"Look",
                                         "ing.",
                                         "\n<tool",
                                         "_call>",
                                         "{\"name\": \"f\", \"argu",
                                         "ments\": {\"k\": \"v\"}}</tool_call>",
                                         NULL};
    static const char *const bodies[] = {CHAT(TOOLS), CHAT(TOOLS ",\"stream\":true")};
    for (size_t i = 0; i < 2; i++) {
        struct seen s = play(bodies[i], pieces, FINISH_STOP);
        assert_string_equal(buf_slice(&s.content[0]).ptr, "Looking.");
        assert_string_equal(buf_slice(&s.calls[0]).ptr, "f:{\"k\": \"v\"}");
        assert_string_equal(s.finish[0], "tool_calls");
        seen_release(&s);
    }
    /* Not asked for, not found. */
    static const char *const plain[] = {CHAT(""), CHAT(",\"stream\":true"),
                                        CHAT(TOOLS ",\"tool_choice\":\"none\"")};
    for (size_t i = 0; i < 3; i++) {
        struct seen s = play(plain[i], pieces, FINISH_STOP);
        assert_int_equal(s.calls[0].len, 0);
        assert_non_null(strstr(s.content[0].ptr, "<tool_call>{"));
        assert_string_equal(s.finish[0], "stop");
        seen_release(&s);
    }
    static const char *const alone[] = {
        "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>", NULL};
    struct seen s = play(CHAT(TOOLS), alone, FINISH_STOP);
    const struct json *message = at(&at(s.last, "choices")->items[0], "message");
    assert_int_equal(at(message, "content")->kind, JSON_NULL);
    seen_release(&s);
}

static void writes_both_shapes_of_logprobs(void **state)
{
    (void)state;
    static const char *const pieces[] = {"Hel", "lo", "", "é", NULL}; /* token 2, 3: bytes of é */
    struct seen s = play(CHAT(",\"logprobs\":true,\"top_logprobs\":1"), pieces, FINISH_STOP);
    const struct json *tokens = at(at(&at(s.last, "choices")->items[0], "logprobs"), "content");
    assert_int_equal(tokens->count, 4);
    assert_true(slice_is(at(&tokens->items[0], "token")->text, "Hel"));
    assert_true(at(&tokens->items[0], "logprob")->real == -0.25);
    assert_int_equal(at(&tokens->items[0], "bytes")->items[2].integer, 'l');
    assert_int_equal(at(&tokens->items[0], "top_logprobs")->count, 1);
    assert_true(slice_is(at(&tokens->items[2], "token")->text, "\xef\xbf\xbd"));
    assert_int_equal(at(&tokens->items[2], "bytes")->items[0].integer, 0xC3);
    seen_release(&s);
    s = play("{\"prompt\":\"x\",\"logprobs\":2}", pieces, FINISH_STOP);
    const struct json *l = at(&at(s.last, "choices")->items[0], "logprobs");
    assert_int_equal(at(l, "tokens")->count, 4);
    assert_int_equal(at(l, "token_logprobs")->count, 4);
    assert_true(at(&at(l, "top_logprobs")->items[0], "<other>")->real == -2);
    assert_int_equal(at(l, "text_offset")->items[1].integer, 3);
    seen_release(&s);
}

static void says_nothing_when_cancelled(void **state)
{
    (void)state;
    static const char *const pieces[] = {"a", NULL};
    struct seen s = play(CHAT(""), pieces, FINISH_CANCELLED);
    assert_int_equal(s.n_chunks, 0);
    seen_release(&s);
    s = play(CHAT(",\"stream\":true"), pieces, FINISH_CANCELLED);
    assert_false(s.is_done);
    seen_release(&s);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(a_stream_adds_up_to_the_whole),
        T(usage_has_a_chunk_of_its_own_when_asked),
        T(finds_tool_calls),
        T(writes_both_shapes_of_logprobs),
        T(says_nothing_when_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
