/* SPDX-License-Identifier: MIT
 * explain.c — POST /v1/cache/explain: a request as one would send it, and what the cache has of it.
 */
#include "server/server_int.h"

#define ANSWER_BYTES_MAX (16u << 20)

/* A body with "prompt" is a text completion's, any other a chat's. */
static const struct api_dialect *dialect_of(struct slice body)
{
    struct slice id;
    const char *allow;
    bool is_text = memmem(body.ptr, body.len, "\"prompt\"", 8) != NULL &&
                   memmem(body.ptr, body.len, "\"messages\"", 10) == NULL;
    struct slice path = is_text ? SLICE_LIT("/v1/completions") : SLICE_LIT("/v1/chat/completions");
    return api_endpoint_find(SLICE_LIT("POST"), path, &id, &allow)->dialect;
}

void explain(const struct visit *v)
{
    struct http_exchange *x = v->x;
    const struct api_dialect *dialect = dialect_of(http_body(x));
    struct api_error error = {0};
    struct api_call *call = NULL;
    struct api_context context = server_context(v);
    struct buf out;
    buf_init(&out, ANSWER_BYTES_MAX);
    struct engine_request *r = engine_request_new(v->engine);
    enum status st = r ? api_call_new(dialect, http_body(x), http_header(x, "X-Session-Id"),
                                      &context, r, &call, &error)
                       : api_error_set(&error, E_NOMEM, NULL, "out of memory");
    if (st == OK) {
        struct err e = {.pos = ERR_NO_POS};
        r->tenant = v->tenant;
        st = engine_explain(v->engine, r, false, &out, &e);
        if (st != OK)
            api_error_from(&error, &e);
    }
    api_call_free(call);
    if (r)
        engine_request_free(r);
    if (st == OK) {
        buf_add_char(&out, '\n');
        http_reply(x, 200, "application/json", &out);
    } else {
        buf_release(&out);
        route_error(x, dialect, &error);
    }
}
