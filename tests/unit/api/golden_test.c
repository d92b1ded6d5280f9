/* SPDX-License-Identifier: MIT
 * golden_test.c — goal: the very bytes that clients of each dialect get, without a socket.
 * Method: each line of tests/golden/api/cases.jsonl is a request and what a model writes; the
 * reply, or the error, must be tests/golden/api/NAME.txt, where what is random in ids is written as
 * zeros. Every case is played as given, and its stream also with the text cut into single bytes'
 * characters: the whole reply must be the same.    Write anew after a wanted change, and read the
 * diff: build/tests/unit/server/unit_api_golden --write */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "api/api.h"
#include "fake_engine.h"
#include "golden.h"

#define FOLDER             "tests/golden/api/"
#define EVENTS_MAX         64
#define PROMPT_TOKENS_READ 4

static bool is_writing, was_stream;
static struct engine *engine;
static struct fleet *fleet;
static struct arena arena;

static const struct engine_usage usage = {.prompt_tokens = 100,
                                          .memory_tokens = 64,
                                          .disk_tokens = 20,
                                          .computed_tokens = 16,
                                          .completion_tokens = 7,
                                          .replayed = 1,
                                          .diverged_at = 84,
                                          .reason = "new tokens",
                                          .queue_ms = 0.125,
                                          .lookup_ms = 0.5,
                                          .prefill_ms = 8,
                                          .decode_ms = 14,
                                          .seed = 42};

static void play_event(struct api_call *call, struct engine_event ev, struct buf *out)
{
    for (uint32_t p = 0; p < api_call_n_prompts(call); p++)
        assert_int_equal(api_reply_event(call, p, &ev, out), OK);
}

static void play_text(struct api_call *call, struct slice text, uint32_t token, bool has_logprob,
                      uint32_t n_choices, struct buf *out)
{
    struct sampled sampled = {.token = token,
                              .logprob = -0.25f,
                              .n_top = 2,
                              .top_tokens = {token, FAKE_VOCAB - 1},
                              .top_logprobs = {-0.25f, -2}};
    for (uint32_t i = 0; i < n_choices; i++)
        play_event(call,
                   (struct engine_event){.kind = EVENT_TEXT,
                                         .choice = i,
                                         .text = text,
                                         .token = token,
                                         .sampled = has_logprob ? &sampled : NULL},
                   out);
}

/* BOS, then the pieces of the script. */
static void play_prompt(struct api_call *call, struct buf *out)
{
    for (uint32_t i = 0; i < PROMPT_TOKENS_READ; i++) {
        uint32_t token = i ? i - 1 : FAKE_VOCAB - 1;
        struct sampled s = {
            .token = token, .logprob = -1.5f, .n_top = 1, .top_tokens = {7}, .top_logprobs = {-1}};
        play_event(
            call,
            (struct engine_event){.kind = EVENT_PROMPT, .token = token, .sampled = i ? &s : NULL},
            out);
    }
}

/* The reply to c, its text in the pieces given or in pieces of single bytes. */
static void play(const struct json *c, bool is_cut, struct api_call *call,
                 const struct engine_request *r, struct buf *out)
{
    const struct json *pieces = json_get(c, "pieces");
    bool is_length = slice_is(golden_text(c, "finish"), "length");
    struct engine_usage started = usage;
    if (r->wants_prompt_logprobs)
        started.prompt_tokens = PROMPT_TOKENS_READ;
    play_event(call,
               (struct engine_event){
                   .kind = EVENT_STARTED, .usage = &started, .text = golden_text(c, "prompt_tail")},
               out);
    if (r->wants_prompt_logprobs)
        play_prompt(call, out);
    play_event(
        call,
        (struct engine_event){.kind = EVENT_PROGRESS, .usage = &usage, .done = 100, .total = 100},
        out);
    for (uint32_t i = 0; pieces && i < pieces->count; i++) {
        struct slice text = pieces->items[i].text;
        for (size_t at = 0; is_cut && at < text.len;) {
            size_t n = 1;
            while (at + n < text.len && ((unsigned char)text.ptr[at + n] & 0xC0) == 0x80)
                n++;
            play_text(call, (struct slice){text.ptr + at, n}, i, false, r->n_choices, out);
            at += n;
        }
        if (!is_cut)
            play_text(call, text, i, r->sampling.wants_logprob, r->n_choices, out);
    }
    static const float vector[] = {3, 0, -4, 0.1f};
    if (r->wants_vector)
        play_event(call, (struct engine_event){.kind = EVENT_VECTOR, .vector = vector, .total = 4},
                   out);
    for (uint32_t i = 0; i < r->n_choices; i++)
        play_event(call,
                   (struct engine_event){.kind = EVENT_FINISHED,
                                         .choice = i,
                                         .text = {"", 0},
                                         .token = TOKEN_NONE,
                                         .stop = golden_text(c, "stop"),
                                         .finish = is_length ? FINISH_LENGTH : FINISH_STOP},
                   out);
    play_event(call, (struct engine_event){.kind = EVENT_DONE, .usage = &usage}, out);
}

/* What is random in the reply's id: everything behind its last '-' or '_'. */
static void hide_ids(struct api_call *call, struct buf *out)
{
    const char *id = api_call_id(call), *tail = id;
    for (const char *p = id; *p; p++)
        if (*p == '-' || *p == '_')
            tail = p + 1;
    size_t n = strlen(tail);
    for (char *hit = out->ptr; hit && (hit = strstr(hit, tail)) != NULL; hit += n)
        memset(hit, '0', n);
}

static void run_case(const struct json *c, bool is_cut, struct buf *out)
{
    struct api_context context = {.model_name = "default-name",
                                  .n_vocab = FAKE_VOCAB,
                                  .n_ctx = 2048,
                                  .info = engine_info(engine),
                                  .keeps = true,
                                  .cleans = true,
                                  .template_source = golden_text(c, "template"),
                                  .tokenizer = engine_tokenizer(engine),
                                  .now_unix_s = 1700000000};
    const struct json *body = json_get(c, "body");
    struct engine_request *r = engine_request_new(engine);
    struct api_call *call = NULL;
    struct api_error error = {0};
    struct buf text;
    struct slice id;
    const char *allow;
    buf_init(&text, 1 << 20);
    if (body)
        json_write(&text, body, (struct json_style){0});
    struct slice method = json_get(c, "method") ? golden_text(c, "method") : SLICE_LIT("POST");
    const struct api_endpoint *at = api_endpoint_find(method, golden_text(c, "path"), &id, &allow);
    assert_non_null(at);
    was_stream = false;
    fake_script.has_fill = json_get(c, "has_fill") != NULL;
    if (at->serves == API_ANSWER || at->serves == API_PULL) {
        struct api_ask ask = {.fleet = fleet,
                              .engine = engine,
                              .info = engine_info(engine),
                              .context = context,
                              .body = body ? buf_slice(&text) : (struct slice){"", 0},
                              .id = id,
                              .is_admin = true};
        if (api_answer(at->dialect, &ask, out, &error) != OK) {
            buf_clear(out);
            buf_printf(out, "%d ", error.http);
            api_error_write(out, at->dialect, &error);
        }
    } else if (api_call_new(at->dialect, buf_slice(&text), SLICE_LIT("a-session"), &context, r,
                            &call, &error) != OK) {
        buf_printf(out, "%d ", error.http);
        api_error_write(out, at->dialect, &error);
    } else if (at->serves == API_COUNT) {
        api_count_write(out, call, 100);
    } else {
        if (json_get(c, "shows_prompt")) {
            json_write(out, r->messages, (struct json_style){.indent = 1});
            buf_add_char(out, '\n');
            if (r->tools)
                json_write(out, r->tools, (struct json_style){.indent = 1});
            buf_add_char(out, '\n');
        }
        was_stream = api_call_is_stream(call);
        if (!api_call_is_answered(call, out))
            play(c, is_cut, call, r, out);
        hide_ids(call, out);
    }
    api_call_free(call);
    engine_request_free(r);
    buf_release(&text);
}

static void compare(const struct json *c, struct slice got)
{
    char path[256];
    snprintf(path, sizeof path, FOLDER "%.*s.txt", SLICE_ARG(golden_text(c, "name")));
    golden_compare(&arena, path, got, is_writing);
}

/* It counts tokens of reasoning, which are others when the text is cut otherwise. */
static struct slice without_usage(const struct buf *b)
{
    const char *end = b->ptr ? strstr(b->ptr, "\"usage\"") : NULL;
    if (!end) /* llama-server and LM Studio count tokens */
        end = b->ptr ? strstr(b->ptr, "\"tokens_predicted\"") : NULL;
    if (!end)
        end = b->ptr ? strstr(b->ptr, "\"reasoning_output_tokens\"") : NULL;
    return (struct slice){b->ptr, end ? (size_t)(end - b->ptr) : b->len};
}

static void replies_are_the_golden_ones(void **state)
{
    (void)state;
    struct slice all = golden_read(&arena, FOLDER "cases.jsonl");
    size_t n = 0;
    assert_non_null(all.ptr);
    while (all.len > 0) {
        const char *end = memchr(all.ptr, '\n', all.len);
        struct slice line = {all.ptr, end ? (size_t)(end - all.ptr) : all.len};
        struct json *c = NULL;
        struct err e = {0};
        if (json_parse(line, &arena, &c, &e) != OK)
            fail_msg("line %zu: %s", n + 1, e.msg);
        struct buf out, cut;
        buf_init(&out, 1 << 20);
        buf_init(&cut, 1 << 20);
        run_case(c, false, &out);
        compare(c, buf_slice(&out));
        const struct json *logprobs = json_get(json_get(c, "body"), "logprobs");
        if (!logprobs)
            logprobs = json_get(json_get(c, "body"), "top_logprobs");
        run_case(c, true, &cut);
        if (!logprobs)
            logprobs = json_get(json_get(c, "body"), "n_probs");
        if (!logprobs)
            logprobs = json_get(json_get(c, "body"), "return_tokens");
        if (!was_stream && !logprobs)
            assert_true(slice_equal(without_usage(&out), without_usage(&cut)));
        buf_release(&out);
        buf_release(&cut);
        size_t used = line.len + (end ? 1 : 0);
        all = (struct slice){all.ptr + used, all.len - used};
        n++;
    }
    assert_true(n >= 10);
}

int main(int argc, char **argv)
{
    is_writing = argc > 1 && strcmp(argv[1], "--write") == 0;
    static const char *const pieces[FAKE_PIECES_MAX] = {"Hel", "lo", " there"};
    memcpy(fake_script.pieces, pieces, sizeof pieces);
    fake_script.n_pieces = 3;
    engine = fake_engine_new();
    struct err e = {0};
    if (fleet_of_engine(engine, "default-name", &fleet, &e) != OK)
        return -1;
    arena_init(&arena, 256u << 20);
    const struct CMUnitTest tests[] = {cmocka_unit_test(replies_are_the_golden_ones)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_release(&arena);
    fleet_close(fleet);
    engine_close(engine);
    return failed;
}
