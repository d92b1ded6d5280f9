/* SPDX-License-Identifier: MIT
 * chat.h — a question over HTTP and its answer, whole or streamed, with times taken on the wire.
 * Time to first token: request sent → first byte of the first non-empty content, reasoning or tool
 *         delta; comments, role-only chunks and progress don't count.
 * Thread: a client is one thread's; asks and replies are values.
 * Order:  chat_send → … → chat_reply_release; a zeroed reply is safe to release. */
#ifndef KVASIR_BENCH_CLIENT_CHAT_H
#define KVASIR_BENCH_CLIENT_CHAT_H

#include "base/arena.h"
#include "bench/client/serve.h"

#define CHAT_CHOICES_MAX 16u
#define CHAT_REPLY_MAX   (256u << 20)

struct chat_ask {
    const char *path;      /* NULL: /v1/chat/completions */
    struct slice messages; /* a JSON array; empty: none */
    struct slice tools;    /* a JSON array; empty: none */
    struct slice prompt;   /* any JSON value, for /v1/completions; empty: none */
    const char *more;      /* further members, "\"n\":2,\"seed\":7"; NULL: none */
    double temperature;
    uint32_t max_tokens; /* 0: absent */
    bool is_stream;
    bool wants_logprobs; /* the chosen tokens' and the three likeliest, in the chat dialect */
    uint32_t ms_max;     /* 0: none */
    /* Called for each piece of text of a stream; false hangs up (E_CANCELLED).  May be NULL. */
    bool (*piece)(void *arg, uint32_t choice, struct slice text);
    /* Called while the prompt is prefilled (stream only): tokens done, of a total.  May be NULL. */
    void (*progress)(void *arg, int64_t done, int64_t total);
    void *arg;
};

struct chat_choice {
    struct buf text;     /* content, or a text completion's text */
    struct buf calls;    /* [{"name","arguments"}…] with arguments as the text that was sent */
    struct buf logprobs; /* the items of logprobs.content, as sent, one a line */
    char finish[24];     /* "" until it came */
    uint32_t n_calls;
};

struct chat_reply {
    int http;
    struct buf body; /* as received, streams too */
    uint32_t n_choices;
    struct chat_choice choices[CHAT_CHOICES_MAX];
    /* usage and the kvasir object; a stream's come with its last chunk */
    bool has_kvasir;
    int64_t prompt_tokens, completion_tokens, cached_tokens;
    int64_t memory, disk, computed, replayed, diverged_at; /* -1: null */
    int64_t drafted, accepted;
    double queue_ms, lookup_ms, prefill_ms, decode_ms;
    double first_ms, total_ms; /* on the wire; whole replies: first_ms is that of the body */
    double last_ms;            /* when the latest bytes of a stream came */
    uint64_t seed;
    uint32_t n_events; /* of a stream */
    bool is_done;      /* [DONE] came, or the whole body */
    /* of an error, in a body or in a stream */
    bool is_error;
    char error_type[64], error_code[64], error_param[64], error_message[400];
};

/* OK for any HTTP status.  E_SYNTAX: what came back is not what the API promises. */
NODISCARD enum status chat_send(const char *url, struct http_client *http,
                                const struct chat_ask *ask, struct chat_reply *reply,
                                struct err *e);
void chat_reply_release(struct chat_reply *r);

/* The same in halves, for http_swarm: chat_begin → http_swarm_start(…, chat_call, chat_answer, …)
 * → chat_end with what done() was told.  ask and reply live until chat_end, which frees t. */
struct chat_talk;
NODISCARD enum status chat_begin(const char *url, const struct chat_ask *ask,
                                 struct chat_reply *reply, struct chat_talk **t, struct err *e);
const struct http_call *chat_call(const struct chat_talk *t);
struct http_answer *chat_answer(struct chat_talk *t);
NODISCARD enum status chat_end(struct chat_talk *t, enum status st, struct err *e);

/* The answer of choice 0 is this text; where that is a tool call ("<tool_call>{…}</tool_call>"), it
 * counts by name and arguments, whichever field carries it. */
bool chat_is_answer(const struct chat_reply *r, struct slice answer);
/* The same text, calls, ends and log probabilities in all choices; why [n] says what differs. */
bool chat_is_same(const struct chat_reply *a, const struct chat_reply *b, char *why, size_t n);

/* Messages by hand: a JSON array that grows. */
void chat_add_message(struct buf *messages, const char *role, struct slice content);
static inline void chat_add(struct buf *messages, const char *role, const char *content)
{
    chat_add_message(messages, role, slice_of(content));
}

#endif
