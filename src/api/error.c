/* SPDX-License-Identifier: MIT
 * error.c — the one place where a status becomes HTTP; OpenAI's shape of it. */
#include <stdio.h>

#include "api/api_int.h"
#include "text/json.h"

/* By status.  429 and 503 tell clients to try again, all other 4xx not to. */
static const struct {
    int http;
    const char *type, *code;
} by_status[STATUS_COUNT] = {
    [OK] = {500, "server_error", NULL},
    [E_INVALID] = {400, "invalid_request_error", NULL},
    [E_SYNTAX] = {400, "invalid_request_error", NULL},
    [E_UNSUPPORTED] = {400, "invalid_request_error", "unsupported"},
    [E_LIMIT] = {400, "invalid_request_error", NULL},
    [E_CONTEXT] = {400, "invalid_request_error", "context_length_exceeded"},
    [E_NOT_FOUND] = {404, "invalid_request_error", "not_found"},
    [E_EXISTS] = {409, "invalid_request_error", "exists"},
    [E_BUSY] = {429, "rate_limit_error", "queue_full"},
    [E_CANCELLED] = {503, "server_error", "cancelled"},
    [E_TIMEOUT] = {504, "server_error", "deadline_exceeded"},
    [E_CORRUPT] = {500, "server_error", NULL},
    [E_IO] = {500, "server_error", NULL},
    [E_FULL] = {507, "server_error", "no_space"},
    [E_NOMEM] = {503, "server_error", "out_of_memory"},
    [E_DENIED] = {403, "invalid_request_error", NULL},
};

static void set_status(struct api_error *x, enum status st)
{
    unsigned i = (unsigned)st < STATUS_COUNT ? (unsigned)st : (unsigned)OK;
    *x = (struct api_error){
        .http = by_status[i].http, .type = by_status[i].type, .code = by_status[i].code};
}

enum status api_error_set(struct api_error *x, enum status st, const char *param, const char *fmt,
                          ...)
{
    set_status(x, st);
    snprintf(x->param, sizeof x->param, "%s", param ? param : "");
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(x->message, sizeof x->message, fmt, ap);
    va_end(ap);
    return st;
}

void api_error_from(struct api_error *x, const struct err *e)
{
    set_status(x, e->code);
    snprintf(x->message, sizeof x->message, "%s", e->msg[0] ? e->msg : status_text(e->code));
}

void api_error_event(struct api_error *x, const struct engine_event *ev)
{
    api_error_from(x, ev->error);
    if (ev->error->code != E_CONTEXT)
        return;
    x->n_prompt = ev->done;
    x->n_context = ev->total;
    snprintf(
        x->message, sizeof x->message,
        "the prompt has %u tokens, the context holds %u; shorten it, or serve with a larger --ctx",
        ev->done, ev->total);
}

void api_error_http(struct api_error *x, int http, const char *code, const char *message)
{
    *x = (struct api_error){.http = http, .type = "invalid_request_error", .code = code};
    if (http >= 500)
        x->type = "server_error";
    snprintf(x->message, sizeof x->message, "%s", message);
}

void api_error_write(struct buf *out, const struct api_dialect *dialect, const struct api_error *x)
{
    dialect->error(out, x);
}

/* {"error":{"message","type","param","code"}} */
void openai_error(struct buf *out, const struct api_error *x)
{
    struct json_writer w;
    jw_init(&w, out);
    jw_begin_object(&w);
    jw_key(&w, "error");
    jw_begin_object(&w);
    jw_key(&w, "message");
    jw_text(&w, x->message);
    jw_key(&w, "type");
    jw_text(&w, x->type);
    jw_key(&w, "param");
    jw_text(&w, x->param[0] ? x->param : NULL);
    jw_key(&w, "code");
    jw_text(&w, x->code);
    if (x->n_context) { /* llama-server's names */
        jw_key(&w, "n_prompt_tokens");
        jw_int(&w, x->n_prompt);
        jw_key(&w, "n_ctx");
        jw_int(&w, x->n_context);
    }
    jw_end_object(&w);
    jw_end_object(&w);
}
