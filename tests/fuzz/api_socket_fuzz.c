/* SPDX-License-Identifier: MIT
 * api_socket_fuzz.c — any message of LM Studio's SDK, in any space, and what a model says to it.
 * First byte: the space, and how the reply's text is cut; rest: the message.  Whatever it is, each
 * line of the answer is a JSON text, and a prediction's channel is closed or never begins. */
#include <stdlib.h>

#include "api/lmstudio_ws.h"
#include "base/check.h"
#include "fake_engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct engine *engine;
static struct fleet *fleet;

static void check_lines(const struct buf *out)
{
    struct slice text = buf_slice(out);
    while (text.len > 0) {
        const char *end = memchr(text.ptr, '\n', text.len);
        struct arena a;
        struct json *v = NULL;
        CHECK(end);
        arena_init(&a, 256u << 20);
        enum status st =
            json_parse((struct slice){text.ptr, (size_t)(end - text.ptr)}, &a, &v, NULL);
        CHECK(st == OK && v->kind == JSON_OBJECT);
        arena_release(&a);
        text = (struct slice){end + 1, text.len - (size_t)(end - text.ptr) - 1};
    }
}

static enum status play(struct api_call *call, struct slice text, size_t piece, bool is_vector,
                        struct buf *out)
{
    static const float vector[] = {0.5f, -1e30f, 0};
    struct engine_usage usage = {.prompt_tokens = 3, .diverged_at = -1};
    struct engine_event ev = {.kind = EVENT_STARTED, .usage = &usage};
    enum status st = api_reply_event(call, 0, &ev, out);
    if (st == OK && is_vector) {
        ev = (struct engine_event){.kind = EVENT_VECTOR, .vector = vector, .total = 3};
        st = api_reply_event(call, 0, &ev, out);
        text.len = 0;
    }
    for (size_t at = 0; at < text.len && st == OK; at += piece) {
        size_t len = text.len - at < piece ? text.len - at : piece;
        ev = (struct engine_event){.kind = EVENT_TEXT, .text = {text.ptr + at, len}, .token = 1};
        st = api_reply_event(call, 0, &ev, out);
    }
    ev = (struct engine_event){.kind = EVENT_FINISHED, .text = {"", 0}};
    if (st == OK)
        st = api_reply_event(call, 0, &ev, out);
    ev = (struct engine_event){.kind = EVENT_DONE, .usage = &usage};
    return st == OK ? api_reply_event(call, 0, &ev, out) : st;
}

static void generate(enum api_ws_space space, const struct api_ws_message *m,
                     const struct api_context *context, size_t piece, struct buf *out)
{
    struct engine_request *r = engine_request_new(engine);
    struct api_call *call = NULL;
    struct api_error error = {0};
    enum status st = api_call_new(api_ws_dialect(space), m->text, (struct slice){"", 0}, context, r,
                                  &call, &error);
    if (st != OK) {
        CHECK(error.http >= 400 && error.message[0]);
        api_ws_write_error(out, m, fleet, &error);
    } else {
        CHECK(api_call_n_prompts(call) == 1 && r->n_choices == 1);
        CHECK(r->n_stops <= ENGINE_STOPS_MAX);
        st = play(call, m->text, piece, r->wants_vector, out);
        CHECK(st != OK || memmem(out->ptr, out->len, "\"channelClose\"", 14) ||
              memmem(out->ptr, out->len, "\"rpcResult\"", 11));
        buf_clear(out);
        if (!r->wants_vector)
            api_ws_write_stopped(call, out);
    }
    api_call_free(call);
    engine_request_free(r);
}

static void serve(enum api_ws_space space, const struct api_ws_message *m, size_t piece,
                  struct buf *out)
{
    struct api_context context = {.model_name = "fuzz",
                                  .n_vocab = FAKE_VOCAB,
                                  .n_ctx = 2048,
                                  .info = engine_info(engine),
                                  .template_source = SLICE_LIT("<tool_call> {{ tools }} <think>"),
                                  .tokenizer = engine_tokenizer(engine)};
    struct api_ask ask = {
        .fleet = fleet, .engine = engine, .info = context.info, .context = context};
    struct api_ws_want want;
    struct api_error error = {0};
    if (api_ws_wants(space, m, fleet, &want, &error) != OK) {
        CHECK(error.http >= 400 && error.message[0] && !want.model);
        api_ws_write_error(out, m, fleet, &error);
        return;
    }
    if (want.need == API_WS_LOAD) {
        api_ws_write_loading(out, space, m, fleet, want.name);
        if (api_ws_write_loaded(out, space, m, context.info, "fuzz", piece % 2, &error) != OK)
            api_ws_write_error(out, m, fleet, &error);
        return;
    }
    if (api_ws_answer(space, m, &ask, out) == API_WS_GENERATE)
        generate(space, m, &context, piece, out);
    if (want.model)
        fleet_give(fleet, want.model, FLEET_KEEP_AS_IS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const paths[] = {"/llm", "/embedding", "/system", "/files"};
    struct err e = {0};
    struct arena a;
    struct buf out;
    struct api_ws_message m;
    struct api_ws_auth auth;
    if (size < 1)
        return 0;
    if (!engine) {
        engine = fake_engine_new();
        enum status opened = fleet_of_engine(engine, "fuzz", &fleet, &e);
        CHECK(opened == OK);
    }
    struct slice text = {(const char *)data + 1, size - 1};
    arena_init(&a, 256u << 20);
    buf_init(&out, 256u << 20);
    bool is_in = api_ws_read_auth(text, &a, &auth, &e) == OK;
    api_ws_write_auth(&out, is_in ? NULL : e.msg);
    if (api_ws_read(text, &a, &m, &e) == OK)
        serve(api_ws_space_of(slice_of(paths[data[0] % 4])), &m, 1 + (data[0] >> 2), &out);
    else
        api_ws_write_warning(&out, e.msg);
    check_lines(&out);
    buf_release(&out);
    arena_release(&a);
    return 0;
}
