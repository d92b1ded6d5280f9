/* SPDX-License-Identifier: MIT
 * api.h — dialects as pure functions: bytes → engine_request, engine_event → bytes.
 * For:     server.   Not for: sockets, threads, waiting; nothing here keeps state between requests.
 * A dialect is a pair of files behind one row of table.c: NAME_request.c reads, NAME_reply.c
 * writes, call.c and reply.c do what is the same for all.  table.c also says which path serves
 * which dialect; docs/api/conformance.md is written from it. Known and unsupported: refused by
 * name, in the dialect's shape.  Unknown: ignored. Thread:  a call and its reply belong to one
 * request, one thread at a time. Order:   api_call_new → (engine_submit) → api_reply_event* →
 * api_call_free. */
#ifndef KVASIR_API_API_H
#define KVASIR_API_API_H

#include "base/buf.h"
#include "engine/engine.h"
#include "fleet/fleet.h"

#define API_REPLY_BYTES_MAX   (256u << 20)
#define API_MESSAGES_MAX      100000u
#define API_TOOLS_MAX         4096u
#define API_PROMPT_TOKENS_MAX (1u << 24)
#define API_PROMPTS_MAX       128u  /* of one request; each is a request to the engine */
#define API_TEXTS_MAX         2048u /* of one request for embeddings; likewise */
#define API_ID_BYTES          48u

struct api_dialect;

/* ---- the table of what is served where ---- */
/* server/route.c has one function for each. */
enum api_serves {
    API_GENERATE, /* by the row's dialect */
    API_COUNT,    /* tokens of a request that API_GENERATE would take */
    API_MODELS,
    API_MODEL,
    API_RESPONSE, /* a stored one */
    API_RESPONSE_DELETE,
    API_STATS,
    API_EXPLAIN,
    API_SESSIONS,
    API_SESSION,
    API_SESSION_DELETE,
    API_SESSION_CHANGE, /* the path's last word says how */
    API_ANSWER,         /* api_answer, by the row's dialect */
    API_PULL,
    API_SLOT,   /* of llama-server's; the query says what to do with it */
    API_SOCKET, /* a WebSocket: lmstudio_ws.h */
    API_METRICS,
    API_HEALTH, /* may it be sent requests? */
    API_ALIVE,  /* does it answer at all? */
    API_PAGE,
    API_SERVES_COUNT
};

struct api_endpoint {
    const char *method;
    const char *path; /* "{id}" stands for one part, at the end for all that follows */
    enum api_serves serves;
    const struct api_dialect *dialect; /* of requests, replies and errors */
    bool is_public;                    /* needs no key: tells nothing about models or chats */
    const char *doc;
};
/* NULL: nothing here.  *allow: the methods that the path has, when only the method is wrong, else
 * NULL.  *id: what stood for {id}, else empty. */
const struct api_endpoint *api_endpoint_find(struct slice method, struct slice path,
                                             struct slice *id, const char **allow);
/* Requests of it go to a model, which they may name: api_model_wanted. */
bool api_endpoint_needs_model(const struct api_endpoint *at);
/* In whose shape to complain about a path, served or not. */
const struct api_dialect *api_dialect_of_path(struct slice path);
/* "OpenAI", "Anthropic", …: of replies, for counting. */
const char *api_dialect_family(const struct api_dialect *dialect);
/* docs/api/conformance.md: each endpoint and each of its fields. */
void api_conformance_write(struct buf *out);

/* ---- errors: the one place where a status becomes HTTP ---- */
struct api_error {
    int http;
    const char *type; /* "invalid_request_error", … */
    const char *code; /* "context_length_exceeded", …, or NULL */
    char param[96];   /* the field that is to blame, or "" */
    char message[360];
    uint32_t retry_after_s;       /* with 429 and 503: when it may be worth a try; 0: unknown */
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
void api_error_write(struct buf *out, const struct api_dialect *dialect, const struct api_error *x);

/* ---- requests ---- */
struct api_context {
    const char *model_name; /* named in replies to requests that name none */
    uint32_t n_vocab, n_ctx;
    const struct engine_info *info;    /* for replies that tell of the model; NULL: they don't */
    struct slice template_source;      /* of the model: how it writes calls and reasoning */
    bool cleans;                       /* nonces at the front of prompts: hygiene.c */
    bool keeps;                        /* responses can be stored */
    bool can_unload;                   /* the model may go when nobody asks for it */
    double load_ms;                    /* that the request waited for its model to load */
    const struct tokenizer *tokenizer; /* for the texts of tokens in logprobs and echo */
    int64_t now_unix_s, now_unix_ns;   /* ns: 0 where only seconds are known */
};

/* The model that a body names; empty: none.  Looks at that member only: what else the body is,
 * api_call_new says.  A name with escapes is written into the arena, others stay in the body. */
struct slice api_model_wanted(struct slice body, struct arena *a);
/* A body of Ollama's that asks for nothing but that the model goes; *out: what it is told. */
bool api_wants_unload(const struct api_dialect *dialect, struct slice body, int64_t now_unix_s,
                      struct buf *out);

/* What the reply must know of its request. */
struct api_call;

/* Reads body into r (from engine_request_new, with the model's defaults; its arena takes the parsed
 * body) and *out.  session: the X-Session-Id header's value or empty.  Any failure is in *error,
 * and r and *out are as before, but for r's arena. */
NODISCARD enum status api_call_new(const struct api_dialect *dialect, struct slice body,
                                   struct slice session, const struct api_context *context,
                                   struct engine_request *r, struct api_call **out,
                                   struct api_error *error);
void api_call_free(struct api_call *c);
bool api_call_is_stream(const struct api_call *c);
const char *api_call_id(const struct api_call *c);
const struct api_dialect *api_call_dialect(const struct api_call *c);
/* How long the model may stay without requests after this one, for fleet_give. */
int64_t api_call_keep_s(const struct api_call *c);
/* The type of a streamed reply. */
const char *api_call_stream_type(const struct api_call *c);
/* The request asked for nothing to be generated: *out is the whole reply, and the call's end. */
bool api_call_is_answered(struct api_call *c, struct buf *out);
/* Prompts of this request, each a request to the engine.  All but the first are made by
 * api_call_prompt from the first while that is not yet submitted: r is a new request of the
 * engine's. */
uint32_t api_call_n_prompts(const struct api_call *c);
NODISCARD enum status api_call_prompt(const struct api_call *c, uint32_t prompt,
                                      const struct engine_request *first, struct engine_request *r,
                                      struct api_error *error);

/* A turn of this call may be asked for again: see engine_request.turn_key. */
bool api_call_keeps_turns(const struct api_call *c);
bool api_call_turn_key(const struct api_call *c, uint32_t prompt, uint32_t choice,
                       struct digest *key);

/* ---- replies ---- */
/* Appends what the client gets to see of this event of that prompt: events for a stream, nothing
 * or, with the last EVENT_DONE, the whole JSON body otherwise.  E_LIMIT: the reply outgrew
 * API_REPLY_BYTES_MAX. EVENT_ERROR and EVENT_FINISHED with FINISH_CANCELLED give nothing: see
 * api_reply_error. */
NODISCARD enum status api_reply_event(struct api_call *c, uint32_t prompt,
                                      const struct engine_event *ev, struct buf *out);
/* When the next event is told, for dialects that date each piece; else it is when the call was
 * made. */
void api_call_set_time(struct api_call *c, int64_t unix_ns);
/* What all prompts cost so far. */
const struct engine_usage *api_reply_usage(const struct api_call *c);
/* X-KV-*, and the reply's id where the dialect has a header for it: of a stream what is known at
 * EVENT_STARTED, else all of it. */
void api_reply_headers(const struct api_call *c,
                       void (*add)(void *arg, const char *name, const char *value), void *arg);
void api_count_write(struct buf *out, const struct api_call *c, uint32_t n_tokens);
/* The error event that ends a stream which has begun. */
void api_reply_error(struct api_call *c, const struct api_error *error, struct buf *out);

/* ---- stored responses ---- */
/* From what the session room shows of it, with its history.  E_NOMEM, E_CORRUPT: no history. */
NODISCARD enum status api_response_write(struct buf *out, const struct api_context *context,
                                         struct slice id, const struct json *shown,
                                         struct api_error *error);
void api_response_write_deleted(struct buf *out, struct slice id);

/* ---- answers that need no generation ---- */
#define API_PULL_NAME_MAX 256u
struct api_pull {
    bool is_wanted, is_stream;
    bool is_job;                    /* answered at once, by its state; asked after by its id */
    char source[API_PULL_NAME_MAX]; /* OWNER/REPO, perhaps with a colon and what of it */
};
/* A pull that is a job. */
#define API_DOWNLOAD_ID_MAX    24u
#define API_DOWNLOAD_ERROR_MAX 240u
enum api_download_state { API_DOWNLOADING, API_DOWNLOADED, API_DOWNLOAD_FAILED };
struct api_download {
    char id[API_DOWNLOAD_ID_MAX], source[API_PULL_NAME_MAX], error[API_DOWNLOAD_ERROR_MAX];
    enum api_download_state state;
    uint64_t done_bytes, total_bytes;     /* total: 0 until it is known */
    double bytes_per_s;                   /* since it began */
    int64_t started_ms, ended_ms, now_ms; /* since 1970 */
};
struct api_ask {
    struct fleet *fleet;
    struct engine *engine; /* of the model that the endpoint needs, else of the one that stays */
    const struct engine_info *info;
    struct api_context context;
    struct slice id, query, body; /* id: what stood for {id} in the path */
    uint32_t tenant;
    bool is_admin;
    const struct api_download *downloads; /* [n_downloads] that are known */
    uint32_t n_downloads;
    struct api_pull *pull; /* set to what is to be fetched; NULL: nothing can be */
};
/* The lines of a pull: its steps, its progress. */
void api_pull_write(struct buf *out, const char *status);
void api_pull_write_progress(struct buf *out, const char *what, const char *name, uint64_t done,
                             uint64_t total);
void api_download_write(struct buf *out, const struct api_download *d);
/* Of a row that serves API_ANSWER: the whole reply, JSON, into out. */
NODISCARD enum status api_answer(const struct api_dialect *dialect, const struct api_ask *ask,
                                 struct buf *out, struct api_error *error);

/* ---- what is here ---- */
/* E_NOT_FOUND: no such model.  id empty: all of them. */
NODISCARD enum status api_models_write(struct buf *out, struct fleet *fleet, struct slice id,
                                       struct api_error *error);
void api_stats_write(struct buf *out, const struct engine_stats *stats);

#endif
