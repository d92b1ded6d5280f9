/* SPDX-License-Identifier: MIT
 * lmstudio_ws.h — the protocol of LM Studio's SDK (@lmstudio/sdk 1.5, lmstudio-python) as pure
 * functions: messages of a WebSocket → what to do, events → messages.
 * A client opens a socket for each space, says who it is, and calls: an rpc is answered once, a
 * channel any number of times until it is closed.
 *
 *   {"authVersion":1,"clientIdentifier","clientPasskey"}       → {"success":true}
 *   {"type":"rpcCall","endpoint","callId":7,"parameter"}       → rpcResult | rpcError
 *   {"type":"channelCreate","endpoint","channelId":8,"creationParameter"}
 *                                        → channelSend* → channelClose | channelError
 *   {"type":"channelSend","channelId":8,"message":{"type":"cancel"}}
 *
 * What is written is one JSON text a line: each is a message of its own.
 * For:    server/lmstudio.c.   Thread: as api.h.   Fields and refusals: docs/api/lmstudio.md. */
#ifndef KVASIR_API_LMSTUDIO_WS_H
#define KVASIR_API_LMSTUDIO_WS_H

#include "api/api.h"

enum api_ws_space {
    API_WS_LLM,
    API_WS_EMBEDDING,
    API_WS_SYSTEM,
    API_WS_OTHER /* diagnostics, files, repository, plugins: all refused */
};
enum api_ws_space api_ws_space_of(struct slice path);

struct api_ws_auth {
    struct slice identifier, passkey; /* in the arena */
};
NODISCARD enum status api_ws_read_auth(struct slice text, struct arena *a, struct api_ws_auth *out,
                                       struct err *e);
/* why: NULL: come in. */
void api_ws_write_auth(struct buf *out, const char *why);

enum api_ws_kind {
    API_WS_NOTE, /* asks for nothing: acknowledgements, warnings, the end of a subscription */
    API_WS_KEEP_ALIVE,
    API_WS_RPC,
    API_WS_CHANNEL,
    API_WS_CHANNEL_SEND,
    API_WS_SIGNAL,
    API_WS_WRITABLE_SIGNAL
};
struct api_ws_message {
    enum api_ws_kind kind;
    int64_t id; /* of the call, channel or subscription */
    struct slice endpoint;
    const struct json *parameter; /* or the message of a channelSend; NULL: none */
    struct slice text;            /* the whole, as it came */
};
/* Everything lives in the arena, or in text. */
NODISCARD enum status api_ws_read(struct slice text, struct arena *a, struct api_ws_message *m,
                                  struct err *e);
void api_ws_write_warning(struct buf *out, const char *warning);

/* rpcError, channelError or signalError; says which models there are, where another was named. */
void api_ws_write_error(struct buf *out, const struct api_ws_message *m, struct fleet *fleet,
                        const struct api_error *error);

/* ---- first: which model is needed? ---- */
enum api_ws_need {
    API_WS_NOTHING, /* none in particular */
    API_WS_LOADED,  /* one that is loaded */
    API_WS_LOAD     /* it is to be loaded: api_ws_write_loading, …_loaded */
};
struct api_ws_want {
    enum api_ws_need need;
    struct fleet_model *model; /* API_WS_LOADED: a reference, the caller's */
    struct slice name;         /* API_WS_LOAD: in the message's arena */
    int64_t keep_s;            /* API_WS_LOAD: for fleet_give */
};
/* Any failure, a name that nothing has among them, is in *error. */
NODISCARD enum status api_ws_wants(enum api_ws_space space, const struct api_ws_message *m,
                                   struct fleet *fleet, struct api_ws_want *want,
                                   struct api_error *error);
/* It is not there yet. */
void api_ws_write_loading(struct buf *out, enum api_ws_space space, const struct api_ws_message *m,
                          struct fleet *fleet, struct slice name);
/* It is: ends the channel.  E_UNSUPPORTED: not as the client wants it; nothing was written. */
NODISCARD enum status api_ws_write_loaded(struct buf *out, enum api_ws_space space,
                                          const struct api_ws_message *m,
                                          const struct engine_info *info, const char *name,
                                          bool was_there, struct api_error *error);

/* ---- then: the answer ---- */
enum api_ws_todo {
    API_WS_DONE,     /* out has the answer, if there is one */
    API_WS_GENERATE, /* api_call_new with api_ws_dialect() and the message's text */
    API_WS_CANCEL,   /* the channel of this id */
    API_WS_KEEP      /* the channel stays open and is never told anything */
};
/* ask: with the engine and context of the model that the message needs. */
enum api_ws_todo api_ws_answer(enum api_ws_space space, const struct api_ws_message *m,
                               const struct api_ask *ask, struct buf *out);

const struct api_dialect *api_ws_dialect(enum api_ws_space space);
/* The client had it stopped: what there is, and the channel's end. */
void api_ws_write_stopped(struct api_call *c, struct buf *out);

#endif
