/* SPDX-License-Identifier: MIT
 * lmstudio_ws_test.c — goal: the very messages that LM Studio's SDK gets, without a socket.
 * Method: each line of tests/golden/api/sdk.jsonl is a message and what a model writes; what is
 * answered must be tests/golden/api/sdk-NAME.txt, where what is random in ids is written as zeros.
 * Write anew after a wanted change, and read the diff: unit_api_lmstudio_ws --write */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "api/lmstudio_ws.h"
#include "fake_engine.h"
#include "golden.h"

#define FOLDER "tests/golden/api/"

static bool is_writing;
static struct engine *engine;
static struct fleet *fleet;
static struct arena arena;

static const struct engine_usage usage = {.prompt_tokens = 100,
                                          .memory_tokens = 64,
                                          .disk_tokens = 20,
                                          .computed_tokens = 16,
                                          .completion_tokens = 7,
                                          .diverged_at = -1,
                                          .queue_ms = 0.125,
                                          .lookup_ms = 0.5,
                                          .prefill_ms = 8,
                                          .decode_ms = 14,
                                          .seed = 42};

static void event(struct api_call *call, struct engine_event ev, struct buf *out)
{
    assert_int_equal(api_reply_event(call, 0, &ev, out), OK);
}

static void play(const struct json *c, struct api_call *call, const struct engine_request *r,
                 struct buf *out)
{
    static const float vector[] = {3, 0, -4, 0};
    const struct json *pieces = json_get(c, "pieces");
    struct slice finish = golden_text(c, "finish");
    enum finish_reason how = slice_is(finish, "length")      ? FINISH_LENGTH
                             : slice_is(finish, "cancelled") ? FINISH_CANCELLED
                                                             : FINISH_STOP;
    event(call,
          (struct engine_event){
              .kind = EVENT_STARTED, .usage = &usage, .text = golden_text(c, "prompt_tail")},
          out);
    event(call,
          (struct engine_event){.kind = EVENT_PROGRESS, .usage = &usage, .done = 92, .total = 100},
          out);
    event(call,
          (struct engine_event){.kind = EVENT_PROGRESS, .usage = &usage, .done = 100, .total = 100},
          out);
    for (uint32_t i = 0; pieces && i < pieces->count; i++) {
        struct sampled s = {.token = i,
                            .logprob = -0.25f,
                            .n_top = 2,
                            .top_tokens = {i, FAKE_VOCAB - 1},
                            .top_logprobs = {-0.25f, -2}};
        event(call,
              (struct engine_event){.kind = EVENT_TEXT,
                                    .text = pieces->items[i].text,
                                    .token = i,
                                    .sampled = r->sampling.wants_logprob ? &s : NULL},
              out);
    }
    if (r->wants_vector)
        event(call, (struct engine_event){.kind = EVENT_VECTOR, .vector = vector, .total = 4}, out);
    event(call,
          (struct engine_event){.kind = EVENT_FINISHED,
                                .text = {"", 0},
                                .token = TOKEN_NONE,
                                .stop = golden_text(c, "stop"),
                                .finish = how},
          out);
    event(call, (struct engine_event){.kind = EVENT_DONE, .usage = &usage}, out);
    if (how == FINISH_CANCELLED)
        api_ws_write_stopped(call, out);
}

static void hide_ids(struct api_call *call, struct buf *out)
{
    const char *tail = strpbrk(api_call_id(call), "_-") + 1;
    size_t n = strlen(tail);
    for (char *hit = out->ptr; hit && (hit = strstr(hit, tail)) != NULL; hit += n)
        memset(hit, '0', n);
}

/* What the engine was asked for. */
static void show(const struct engine_request *r, struct buf *out)
{
    const struct sampler_params *p = &r->sampling;
    if (r->kind == PROMPT_TEXT)
        buf_printf(out, "text %.*s\n", SLICE_ARG(r->text));
    else
        json_write(out, r->messages, (struct json_style){0});
    buf_add_char(out, '\n');
    if (r->tools)
        json_write(out, r->tools, (struct json_style){0});
    if (r->schema)
        json_write(out, r->schema, (struct json_style){0});
    buf_printf(
        out,
        "%.*s\ntemperature %g top_k %d top_p %g min_p %g typical_p %g repeat %g frequency %g "
        "presence %g seed %d max %d stops",
        SLICE_ARG(r->grammar), (double)p->temperature, p->top_k, (double)p->top_p, (double)p->min_p,
        (double)p->typical_p, (double)p->repeat_penalty, (double)p->frequency_penalty,
        (double)p->presence_penalty, r->has_seed ? (int)p->seed : -1, (int)r->max_tokens);
    for (uint32_t i = 0; i < r->n_stops; i++)
        buf_printf(out, " <%.*s>", SLICE_ARG(r->stops[i]));
    for (uint32_t i = 0; i < p->n_bias; i++)
        buf_printf(out, " %u:%g", p->bias[i].token, (double)p->bias[i].bias);
    buf_add_char(out, '\n');
}

static void generate(const struct json *c, enum api_ws_space space, const struct api_ws_message *m,
                     const struct api_context *context, struct buf *out)
{
    struct engine_request *r = engine_request_new(engine);
    struct api_call *call = NULL;
    struct api_error error = {0};
    if (api_call_new(api_ws_dialect(space), m->text, (struct slice){"", 0}, context, r, &call,
                     &error) != OK) {
        api_ws_write_error(out, m, fleet, &error);
    } else {
        if (json_get(c, "shows"))
            show(r, out);
        play(c, call, r, out);
        hide_ids(call, out);
    }
    api_call_free(call);
    engine_request_free(r);
}

static void serve(const struct json *c, enum api_ws_space space, const struct api_ws_message *m,
                  struct buf *out)
{
    struct api_context context = {.model_name = "the-model",
                                  .n_vocab = FAKE_VOCAB,
                                  .n_ctx = 2048,
                                  .info = engine_info(engine),
                                  .template_source = golden_text(c, "template"),
                                  .tokenizer = engine_tokenizer(engine),
                                  .now_unix_s = 1700000000};
    struct api_ask ask = {
        .fleet = fleet, .engine = engine, .info = context.info, .context = context};
    struct api_ws_want want;
    struct api_error error = {0};
    if (api_ws_wants(space, m, fleet, &want, &error) != OK) {
        api_ws_write_error(out, m, fleet, &error);
        return;
    }
    assert_true((want.need == API_WS_LOADED) == (want.model != NULL));
    if (want.need == API_WS_LOAD) {
        bool was_there = !json_get(c, "is_off");
        buf_printf(out, "keep %d\n", want.keep_s == FLEET_KEEP_AS_IS ? -1 : (int)want.keep_s);
        if (!was_there)
            api_ws_write_loading(out, space, m, fleet, want.name);
        if (api_ws_write_loaded(out, space, m, context.info, context.model_name, was_there,
                                &error) != OK)
            api_ws_write_error(out, m, fleet, &error);
        return;
    }
    enum api_ws_todo todo = api_ws_answer(space, m, &ask, out);
    if (todo == API_WS_GENERATE)
        generate(c, space, m, &context, out);
    else if (todo != API_WS_DONE)
        buf_printf(out, "%s %d\n", todo == API_WS_CANCEL ? "cancel" : "keep", (int)m->id);
    if (want.model)
        fleet_give(fleet, want.model, FLEET_KEEP_AS_IS);
}

static void run_case(const struct json *c, struct buf *out)
{
    struct api_ws_message m;
    struct api_ws_auth auth;
    struct err e = {0};
    struct buf text;
    struct slice path = golden_text(c, "path");
    buf_init(&text, 1 << 20);
    if (json_get(c, "raw"))
        buf_add_slice(&text, golden_text(c, "raw"));
    else
        json_write(&text, json_get(c, "message"), (struct json_style){.is_compact = true});
    if (slice_is(path, "auth")) {
        bool ok = api_ws_read_auth(buf_slice(&text), &arena, &auth, &e) == OK;
        if (ok)
            buf_printf(out, "%.*s %.*s\n", SLICE_ARG(auth.identifier), SLICE_ARG(auth.passkey));
        api_ws_write_auth(out, ok ? NULL : e.msg);
    } else if (api_ws_read(buf_slice(&text), &arena, &m, &e) != OK) {
        api_ws_write_warning(out, e.msg);
    } else {
        serve(c, api_ws_space_of(path), &m, out);
    }
    buf_release(&text);
}

/* Every line is a JSON text by itself, or the test's own. */
static void check_lines(struct slice text)
{
    while (text.len > 0) {
        const char *end = memchr(text.ptr, '\n', text.len);
        assert_non_null(end);
        struct slice line = {text.ptr, (size_t)(end - text.ptr)};
        struct json *v = NULL;
        if (line.len && line.ptr[0] == '{')
            assert_int_equal(json_parse(line, &arena, &v, NULL), OK);
        text = (struct slice){end + 1, text.len - line.len - 1};
    }
}

static void compare(const struct json *c, struct slice got)
{
    char path[256];
    snprintf(path, sizeof path, FOLDER "sdk-%.*s.txt", SLICE_ARG(golden_text(c, "name")));
    golden_compare(&arena, path, got, is_writing);
}

static void messages_are_the_golden_ones(void **state)
{
    (void)state;
    struct slice all = golden_read(&arena, FOLDER "sdk.jsonl");
    size_t n = 0;
    assert_non_null(all.ptr);
    for (; all.len > 0; n++) {
        const char *end = memchr(all.ptr, '\n', all.len);
        struct slice line = {all.ptr, end ? (size_t)(end - all.ptr) : all.len};
        struct json *c = NULL;
        struct err e = {0};
        if (json_parse(line, &arena, &c, &e) != OK)
            fail_msg("line %zu: %s", n + 1, e.msg);
        struct buf out;
        buf_init(&out, 1 << 20);
        run_case(c, &out);
        assert_false(out.failed);
        check_lines(buf_slice(&out));
        compare(c, buf_slice(&out));
        buf_release(&out);
        size_t used = line.len + (end ? 1 : 0);
        all = (struct slice){all.ptr + used, all.len - used};
    }
    assert_true(n >= 10);
}

/* Each setting that asks for what is not there is refused by its name. */
static void refuses_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value, *param;
    } cases[] = {
        {"contextOverflowPolicy", "\"rollingWindow\"", "contextOverflowPolicy"},
        {"toolCallStopStrings", "[\"x\"]", "toolCallStopStrings"},
        {"contextPrefill", "[{\"type\":\"jsonFile\"}]", "contextPrefill"},
        {"speculativeDecoding.draftModel", "\"small\"", "draftModel"},
        {"llama.xtcProbability", "{\"checked\":true,\"value\":1.5}", "xtc_probability"},
        {"llama.xtcProbability", "{\"checked\":true,\"value\":0.5}", NULL},
        {"llama.tailFreeSampling", "{\"checked\":true,\"value\":0.5}", "tailFreeSampling"},
        {"llama.mirostatSampling", "{\"version\":3}", "mirostat"},
        {"llama.mirostatSampling", "{\"version\":2,\"learningRate\":0.1,\"targetEntropy\":-1}",
         "mirostat_tau"},
        {"llama.mirostatSampling", "{\"version\":2,\"learningRate\":0.1,\"targetEntropy\":5}",
         NULL},
        {"promptTemplate", "{\"type\":\"manual\",\"stopStrings\":[]}", "promptTemplate"},
        {"reasoning.parsing", "{\"enabled\":true,\"startString\":\"<t>\",\"endString\":\"</t>\"}",
         "reasoningParsing"},
        {"structured", "{\"type\":\"xml\"}", "structured"},
        {"tools", "{\"type\":\"toolArray\",\"tools\":[{\"type\":\"function\"}]}", "tools[0]"},
        {"temperature", "\"hot\"", "temperature"},
        {"topPSampling", "{\"checked\":true,\"value\":2}", "top_p"},
        {"topPSampling", "{\"checked\":true}", NULL}, /* as if it were not there */
        {"maxPredictedTokens", "{\"checked\":true,\"value\":-2}", "maxPredictedTokens.value"},
        {"logProbs", "{\"checked\":true,\"value\":1000}", "logProbs.value"},
        {"stopStrings", "[7]", "stopStrings"},
        {"llama.logitBias", "[[1000000,1]]", "logit_bias"},
        {"llama.xtcProbability", "{\"checked\":false,\"value\":0.5}", NULL},
        {"llama.mirostatSampling", "{\"version\":0}", NULL},
        {"contextOverflowPolicy", "\"stopAtLimit\"", NULL},
        {"llama.cpuThreads", "4", NULL},
        {"unheard.of", "{\"a\":1}", NULL},
    };
    struct api_context context = {.model_name = "the-model",
                                  .n_vocab = FAKE_VOCAB,
                                  .n_ctx = 2048,
                                  .info = engine_info(engine),
                                  .tokenizer = engine_tokenizer(engine)};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[1024];
        struct engine_request *r = engine_request_new(engine);
        struct api_call *call = NULL;
        struct api_error error = {0};
        snprintf(text, sizeof text,
                 "{\"type\":\"channelCreate\",\"endpoint\":\"predict\",\"channelId\":1,"
                 "\"creationParameter\":{\"history\":{\"messages\":[{\"role\":\"user\",\"content\":"
                 "[{\"type\":\"text\",\"text\":\"hi\"}]}]},\"predictionConfigStack\":{\"layers\":"
                 "[{\"layerName\":\"apiOverride\",\"config\":{\"fields\":[{\"key\":"
                 "\"llm.prediction.%s\",\"value\":%s}]}}]}}}",
                 cases[i].key, cases[i].value);
        enum status st = api_call_new(api_ws_dialect(API_WS_LLM), slice_of(text),
                                      (struct slice){"", 0}, &context, r, &call, &error);
        if ((st == OK) != !cases[i].param)
            fail_msg("%s: %s", cases[i].key, error.message);
        if (cases[i].param)
            assert_string_equal(error.param, cases[i].param);
        api_call_free(call);
        engine_request_free(r);
    }
}

int main(int argc, char **argv)
{
    is_writing = argc > 1 && strcmp(argv[1], "--write") == 0;
    struct err e = {0};
    static const char *const pieces[FAKE_PIECES_MAX] = {"Hel", "lo", " there"};
    memcpy(fake_script.pieces, pieces, sizeof pieces);
    fake_script.n_pieces = 3;
    engine = fake_engine_new();
    if (fleet_of_engine(engine, "the-model", &fleet, &e) != OK)
        return -1;
    arena_init(&arena, 256u << 20);
    const struct CMUnitTest tests[] = {cmocka_unit_test(messages_are_the_golden_ones),
                                       cmocka_unit_test(refuses_by_name)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_release(&arena);
    fleet_close(fleet);
    engine_close(engine);
    return failed;
}
