/* SPDX-License-Identifier: MIT
 * api_int.h — inner door: reading fields, the call, and what its reply remembers of each choice. */
#ifndef KVASIR_API_API_INT_H
#define KVASIR_API_API_INT_H

#include "api/api.h"
#include "api/tool_text.h"

/* Typed fields of a JSON object.  Absent and null leave *out as it is and return false.  The first
 * failure sticks in status and *error; afterwards every call returns false. */
struct fields {
    const struct json *object;
    struct api_error *error;
    enum status status;
};
const struct json *field(struct fields *f, const char *name);
bool field_bool(struct fields *f, const char *name, bool *out);
bool field_int(struct fields *f, const char *name, int64_t min, int64_t max, int64_t *out);
bool field_float(struct fields *f, const char *name, double min, double max, float *out);
bool field_string(struct fields *f, const char *name, struct slice *out);
enum status field_fail(struct fields *f, enum status st, const char *name, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

struct api_choice {
    struct buf text;             /* whole replies: the content so far */
    struct buf calls;            /* whole replies: the tool calls so far, as JSON */
    struct buf logprobs;         /* JSON of the tokens not yet shown (stream) or all (whole) */
    struct buf more_logprobs[3]; /* text completions keep four arrays: API_LOGPROBS_* */
    struct tool_text tools;
    size_t text_bytes; /* shown so far, for text_offset */
    uint32_t n_calls;
    bool is_started, is_finished;
    const char *finish;
};

struct api_call {
    enum api_dialect dialect;
    char id[API_ID_BYTES];
    int64_t created_unix_s;
    struct arena arena; /* owns the slices */
    struct slice model, session, echo;
    const struct tokenizer *tokenizer;
    bool is_stream, wants_usage; /* wants_usage: a chunk of its own at the end of a stream */
    bool wants_progress;         /* of a stream: chunks that tell how far the prompt is */
    bool finds_tools;            /* tools were given and may be called */
    uint32_t n_choices, n_unfinished;
    bool wants_logprobs;
    uint32_t n_top_logprobs;

    struct buf head;            /* of each chunk: {"id":…,"model":…, */
    struct buf chunk;           /* the one being written */
    struct api_choice *choices; /* [n_choices] */
    uint32_t last_choice;       /* whose end is shown with the usage; set when all have ended */
    bool is_stream_begun;
};

/* sampling.c: what both dialects share. */
void read_sampling(struct fields *f, const struct api_context *context, struct engine_request *r);
void read_common(struct fields *f, struct api_call *c, struct engine_request *r);
void read_refused(struct fields *f);
/* chat.c, text.c */
void read_chat(struct fields *f, struct api_call *c, struct engine_request *r);
void read_text(struct fields *f, const struct api_context *context, struct api_call *c,
               struct engine_request *r);

/* usage.c: "usage":{…},"timings":{…},"seed":…,"kvasir":{…} as members of the open object. */
void write_usage(struct json_writer *w, const struct api_call *c, const struct engine_usage *u);

/* logprobs.c */
#define API_LOGPROBS_TOKENS  0 /* more_logprobs: "tokens", "token_logprobs", "text_offset" */
#define API_LOGPROBS_VALUES  1
#define API_LOGPROBS_OFFSETS 2
void logprobs_add(const struct api_call *c, struct api_choice *choice,
                  const struct engine_event *ev);
/* The value of "logprobs": null when none were asked for.  Clears what it wrote. */
void logprobs_write(struct json_writer *w, const struct api_call *c, struct api_choice *choice);

#endif
