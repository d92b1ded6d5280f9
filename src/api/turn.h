/* SPDX-License-Identifier: MIT
 * turn.h — what a model writes in one turn: text, reasoning, tool calls, found while it streams.
 * Each family of models has its own marks; which ones is read off the chat template, which taught
 * them (turn_format_of).  What may become a mark is held back; a call's arguments are passed on as
 * they grow and are JSON in the end, whatever the model does.  What only looks like a call is text,
 * byte for byte, marks and all.
 * Order: turn_init → (turn_feed → turn_next until TURN_NOTHING)* → the same once more with is_end →
 * turn_release. */
#ifndef KVASIR_API_TURN_H
#define KVASIR_API_TURN_H

#include "base/arena.h"
#include "base/buf.h"
#include "text/json_stream.h"

#define TURN_CALL_BYTES_MAX (1u << 20) /* of a call that is read as a whole */
#define TURN_NAME_BYTES_MAX 256u
#define TURN_HEAD_BYTES_MAX 4096u /* before the arguments */
#define TURN_BLANKS_MAX     256u  /* held back before a mark */

enum call_format {
    CALLS_HERMES, /* <tool_call>{"name", "arguments"}</tool_call>: Qwen, Hermes, skald; Qwen
                     coder's <function=f><parameter=k>v</parameter></function> inside */
    CALLS_LLAMA, /* {"name", "parameters"} as the whole turn: Llama 3, and all that are only told */
    CALLS_MISTRAL,  /* [TOOL_CALLS][{"name", "arguments"}, …] or [TOOL_CALLS]name[ARGS]{…} */
    CALLS_DEEPSEEK, /* <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>… */
    CALLS_GEMMA,    /* <start_function_call>call:f{k:<escape>v<escape>}<end_function_call> */
    CALLS_GEMMA4,   /* <|tool_call>call:f{k:<|"|>v<|"|>}<tool_call|> */
    CALLS_HARMONY   /* channels: gpt-oss */
};

struct turn_format {
    enum call_format calls;
    bool has_reasoning; /* <think>…</think> at the front */
    bool has_tools;     /* the template shows tools to the model */
    bool has_special;   /* marks are control tokens: they must be in the text */
};
/* template_source: empty for unknown. */
struct turn_format turn_format_of(struct slice template_source);

struct turn_options {
    struct turn_format format;
    bool finds_calls, splits_reasoning;
    bool starts_in_reasoning; /* the prompt ended with <think> */
    const struct json *tools; /* OpenAI's form; CALLS_LLAMA takes their names only; types of
                                 parameters for formats that have none */
};

enum turn_state {
    TURN_AT_START,
    TURN_IN_TEXT,
    TURN_IN_REASONING,
    TURN_IN_HEAD,
    TURN_IN_ARGUMENTS,
    TURN_HAS_ARGUMENTS, /* t->pending, then the end */
    TURN_AT_END,        /* of a call */
    TURN_IN_REST,       /* of the object that held name and arguments */
    TURN_BETWEEN,       /* calls */
    TURN_IN_CHANNEL_HEAD,
    TURN_IN_CHANNEL
};

struct turn {
    struct turn_options options;
    enum turn_state state;
    struct buf held;
    size_t done;        /* bytes of held that the item last returned covers */
    struct buf out;     /* the arguments last returned */
    struct arena arena; /* of the call being read */
    struct json_stream json;
    size_t mark_len;  /* blanks and mark at the front of held, text if no call follows */
    size_t scanned;   /* TURN_IN_HEAD: bytes of held that json has seen */
    bool is_scanning; /* TURN_IN_HEAD: the call is read as a whole */
    bool has_object;  /* arguments are inside an object with the name */
    bool is_bare;     /* nothing but blanks so far: a bare call may begin */
    bool is_reasoning_begun;
    struct slice pending, name;
    enum { CHANNEL_TEXT, CHANNEL_REASONING, CHANNEL_CALL } channel;
    uint32_t n_calls;
};

enum turn_kind {
    TURN_NOTHING,
    TURN_TEXT,
    TURN_REASONING,
    TURN_CALL,      /* text: whom */
    TURN_ARGUMENTS, /* text: JSON, the next piece */
    TURN_CALL_END
};
struct turn_item {
    enum turn_kind kind;
    struct slice text; /* valid until the next call */
};

void turn_init(struct turn *t, const struct turn_options *options);
void turn_release(struct turn *t);
void turn_feed(struct turn *t, struct slice text);
struct turn_item turn_next(struct turn *t, bool is_end);
bool turn_is_reasoning(const struct turn *t);

#endif
