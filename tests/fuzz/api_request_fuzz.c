/* SPDX-License-Identifier: MIT
 * api_request_fuzz.c — any body, any dialect, then a short reply by what it asked for.
 * First byte: dialect and how the reply's text is cut; rest: the body.  The reply's text is taken
 * from the body too, so that tool calls are fuzzed along. */
#include <math.h>
#include <stdlib.h>

#include "api/api.h"
#include "base/check.h"
#include "fake_engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum status play(struct api_call *call, const struct engine_event *ev, struct buf *out)
{
    enum status st = OK;
    for (uint32_t i = 0; i < api_call_n_prompts(call) && st == OK; i++)
        st = api_reply_event(call, i, ev, out);
    return st;
}

/* Nothing is generated. */
static enum status reply_vector(struct api_call *call, struct buf *out)
{
    static const float vector[] = {0.5f, -1e30f, NAN, 0};
    return play(call, &(struct engine_event){.kind = EVENT_VECTOR, .vector = vector, .total = 4},
                out);
}

static void reply(struct api_call *call, struct slice text, size_t piece, uint32_t n_choices,
                  bool is_vector)
{
    struct engine_usage usage = {.prompt_tokens = 3, .diverged_at = -1};
    struct buf out;
    buf_init(&out, 64u << 20);
    struct engine_event ev = {.kind = EVENT_STARTED, .usage = &usage};
    enum status st = play(call, &ev, &out);
    for (uint32_t i = 0; i < 3 && st == OK; i++) {
        struct sampled s = {.token = i, .logprob = -1};
        ev = (struct engine_event){.kind = EVENT_PROMPT, .token = i, .sampled = i ? &s : NULL};
        st = play(call, &ev, &out);
    }
    if (st == OK && is_vector) {
        st = reply_vector(call, &out);
        text.len = 0;
    }
    for (size_t at = 0; at < text.len && st == OK; at += piece) {
        size_t len = text.len - at < piece ? text.len - at : piece;
        ev = (struct engine_event){
            .kind = EVENT_TEXT, .text = {text.ptr + at, len}, .token = TOKEN_NONE};
        st = play(call, &ev, &out);
    }
    for (uint32_t c = 0; c < n_choices && st == OK; c++) {
        ev = (struct engine_event){.kind = EVENT_FINISHED, .choice = c, .text = {"", 0}};
        st = play(call, &ev, &out);
    }
    ev = (struct engine_event){.kind = EVENT_DONE, .usage = &usage};
    if (st == OK)
        st = play(call, &ev, &out);
    CHECK(st != OK || out.len > 0);
    CHECK(api_reply_usage(call) != NULL);
    buf_release(&out);
}

/* The byte's remainder by their number says which; new ones go to the end. */
static const char *const paths[] = {"/v1/chat/completions",
                                    "/v1/completions",
                                    "/v1/messages",
                                    "/v1/messages/count_tokens",
                                    "/v1/responses",
                                    "/v1/responses/input_tokens",
                                    "/completion",
                                    "/infill",
                                    "/tokenize",
                                    "/detokenize",
                                    "/apply-template",
                                    "/api/chat",
                                    "/api/generate",
                                    "/api/show",
                                    "/api/v0/chat/completions",
                                    "/api/v1/chat",
                                    "/api/v1/models/load",
                                    "/v1/embeddings",
                                    "/embedding",
                                    "/api/embed",
                                    "/api/embeddings"};

static struct fleet *fleet;

/* The name that is found without parsing is the one that parsing finds. */
static void check_wanted(struct slice body)
{
    struct arena a;
    struct json *v = NULL;
    struct err e;
    arena_init(&a, 64u << 20);
    struct slice wanted = api_model_wanted(body, &a);
    CHECK(wanted.len <= body.len);
    if (json_parse(body, &a, &v, &e) == OK) {
        const struct json *model = json_get(v, "model");
        if (wanted.len > 0)
            CHECK(model && model->kind == JSON_STRING && slice_equal(model->text, wanted));
    }
    arena_release(&a);
}

/* Without a generation. */
static void answer(const struct api_dialect *dialect, struct slice body,
                   const struct api_context *context, struct engine *engine)
{
    struct api_ask ask = {.fleet = fleet,
                          .engine = engine,
                          .info = engine_info(engine),
                          .context = *context,
                          .body = body,
                          .is_admin = true};
    struct api_error error = {0};
    struct buf out;
    buf_init(&out, 64u << 20);
    enum status st = api_answer(dialect, &ask, &out, &error);
    CHECK(st == OK ? out.len > 0 : error.http >= 400 && error.message[0]);
    buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    static struct engine *engine;
    struct err e = {0};
    if (!engine) {
        engine = fake_engine_new();
        enum status opened = fleet_of_engine(engine, NULL, &fleet, &e);
        CHECK(opened == OK);
    }
    struct api_context context = {
        .model_name = "fuzz", .n_vocab = 256, .n_ctx = 2048, .tokenizer = engine_tokenizer(engine)};
    struct engine_request r = {.max_tokens = ENGINE_TOKENS_ALL, .n_choices = 1};
    struct api_call *call = NULL;
    struct api_error error = {0};
    struct slice body = {(const char *)data + 1, size - 1};
    arena_init(&r.arena, 64u << 20);
    const char *allow, *path = paths[data[0] % (sizeof paths / sizeof *paths)];
    struct slice id;
    check_wanted(body);
    const struct api_endpoint *at =
        api_endpoint_find(SLICE_LIT("POST"), slice_of(path), &id, &allow);
    if (at->serves == API_ANSWER || at->serves == API_PULL) {
        answer(at->dialect, body, &context, engine);
        arena_release(&r.arena);
        return 0;
    }
    enum status st =
        api_call_new(at->dialect, body, (struct slice){"", 0}, &context, &r, &call, &error);
    if (st == OK) {
        CHECK(r.n_choices >= 1 && r.n_choices <= ENGINE_CHOICES_MAX &&
              r.n_stops <= ENGINE_STOPS_MAX);
        struct buf answered;
        buf_init(&answered, 1 << 20);
        if (at->serves == API_GENERATE && !api_call_is_answered(call, &answered))
            reply(call, body, 1 + (data[0] >> 3) % 32, r.n_choices, r.wants_vector);
        buf_release(&answered);
    } else {
        CHECK(error.http >= 400 && error.message[0] && !call);
    }
    api_call_free(call);
    arena_release(&r.arena);
    return 0;
}
