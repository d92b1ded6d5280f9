/* SPDX-License-Identifier: MIT
 * api.h — dialects as pure functions: bytes → engine_request, engine_event → bytes.
 * For:     server.   Not for: sockets, threads, waiting; nothing here keeps state between requests.
 * Dialect: OpenAI chat and text completions, with llama-server's extensions; docs/api/openai.md
 * lists each field.  Known and unsupported: 400 by name.  Unknown: ignored. Thread:  a call and its
 * reply belong to one request, one thread at a time. Order:   api_call_new → (engine_submit) →
 * api_reply_event* → api_call_free. */
#ifndef KVASIR_API_API_H
#define KVASIR_API_API_H

#include "base/buf.h"
#include "engine/engine.h"

#define API_REPLY_BYTES_MAX   (256u << 20)
#define API_MESSAGES_MAX      100000u
#define API_TOOLS_MAX         4096u
#define API_PROMPT_TOKENS_MAX (1u << 24)
#define API_ID_BYTES          48u

/* ---- errors: the one place where a status becomes HTTP ---- */
struct api_error {
    int http;
    const char *type; /* "invalid_request_error", … */
    const char *code; /* "context_length_exceeded", …, or NULL */
    char param[96];   /* the field that is to blame, or "" */
    char message[360];
    uint32_t n_prompt, n_context; /* with context_length_exceeded: both numbers; else 0 */
};
/* Fills *x (param may be NULL) and returns st. */
enum status api_error_set(struct api_error *x, enum status st, const char *param, const char *fmt,
                          ...) PRINTF_LIKE(4, 5);
/* From what the engine or a parser said. */
void api_error_from(struct api_error *x, const struct err *e);
/* Of EVENT_ERROR. */
void api_error_event(struct api_error *x, const struct engine_event *ev);
/* For answers that have no status: 401, 403, 404, 405. */
void api_error_http(struct api_error *x, int http, const char *code, const char *message);
/* {"error":{"message","type","param","code"}} */
void api_error_write(struct buf *out, const struct api_error *x);

/* ---- requests ---- */
enum api_dialect { API_CHAT, API_TEXT };

struct api_context {
    const char *model_name; /* named in replies to requests that name none */
    uint32_t n_vocab;
    const struct tokenizer *tokenizer; /* for the texts of tokens in logprobs and echo */
    int64_t now_unix_s;
};

/* What the reply must know of its request. */
struct api_call;

/* Reads body into r (from engine_request_new, with the model's defaults; its arena takes the parsed
 * body) and *out.  session: the X-Session-Id header's value or empty.  Any failure is in *error,
 * and r and *out are as before, but for r's arena. */
NODISCARD enum status api_call_new(enum api_dialect dialect, struct slice body,
                                   struct slice session, const struct api_context *context,
                                   struct engine_request *r, struct api_call **out,
                                   struct api_error *error);
void api_call_free(struct api_call *c);
bool api_call_is_stream(const struct api_call *c);
const char *api_call_id(const struct api_call *c);

/* ---- replies ---- */
/* Appends what the client gets to see of this event: server-sent events for a stream, nothing or,
 * with EVENT_DONE, the whole JSON body otherwise.  E_LIMIT: the reply outgrew API_REPLY_BYTES_MAX.
 * EVENT_ERROR and EVENT_FINISHED with FINISH_CANCELLED give nothing: see api_reply_error. */
NODISCARD enum status api_reply_event(struct api_call *c, const struct engine_event *ev,
                                      struct buf *out);
/* The error event that ends a stream which has begun. */
void api_reply_error(struct api_call *c, const struct api_error *error, struct buf *out);

/* ---- what is here ---- */
void api_models_write(struct buf *out, const struct engine_info *info, const char *name);
void api_model_write(struct buf *out, const struct engine_info *info, const char *name);
void api_stats_write(struct buf *out, const struct engine_stats *stats);

#endif
