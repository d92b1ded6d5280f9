/* SPDX-License-Identifier: MIT
 * api_int.h — inner door: what a dialect is, the call, and what its reply remembers of each choice.
 *
 *   body ─ call.c ─▶ dialect->read ─▶ engine_request + api_call
 *   engine_event ─ reply.c ─▶ items (text, reasoning, tool call) ─▶ dialect->writer ─▶ bytes
 *
 * A new dialect: fields and read in NAME_request.c, a writer in NAME_reply.c, rows in table.c. */
#ifndef KVASIR_API_API_INT_H
#define KVASIR_API_API_INT_H

#include "api/api.h"
#include "api/turn.h"

#define API_ITEMS_MAX 4096u /* of one choice */
#define API_CALL_ID   64u

/* ---- fields of requests ---- */
enum api_verdict {
    FIELD_YES,
    FIELD_REFUSED, /* by read_refused, unless absent, null, empty, false or neutral */
    FIELD_NONE,    /* means nothing to a server of one's own; accepted */
};
struct api_field {
    const char *name;
    enum api_verdict verdict;
    const char *doc;
    const char *wrong;   /* JSON that is refused by this field's name (a test sends it); FIELD_NONE:
                            NULL */
    const char *neutral; /* FIELD_REFUSED: JSON that asks for nothing, or NULL */
};
struct field_set {
    const struct api_field *fields;
    size_t n;
};
#define FIELD_SET(array)                       \
    {                                          \
        array, sizeof(array) / sizeof *(array) \
    }

/* Typed fields of a JSON object.  Absent and null leave *out as it is and return false.  The first
 * failure sticks in status and *error; afterwards every call returns false. */
struct fields {
    const struct json *object;
    struct api_error *error;
    enum status status;
    const char *prefix; /* of names in errors: "options."; NULL: none */
};
const struct json *field(struct fields *f, const char *name);
bool field_bool(struct fields *f, const char *name, bool *out);
bool field_int(struct fields *f, const char *name, int64_t min, int64_t max, int64_t *out);
bool field_float(struct fields *f, const char *name, double min, double max, float *out);
bool field_string(struct fields *f, const char *name, struct slice *out);
enum status field_fail(struct fields *f, enum status st, const char *name, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
bool json_is_text(const struct json *v, const char *text); /* a string that is text */
struct json *json_member(struct json *object, const char *key);

/* ---- a reply in the making ---- */
enum item_kind { ITEM_TEXT, ITEM_REASONING, ITEM_CALL };
struct api_item {
    enum item_kind kind;
    uint32_t number;      /* among the choice's items */
    uint32_t call_number; /* among its calls */
    struct buf text;      /* ITEM_CALL: the arguments, JSON */
    struct buf name;      /* ITEM_CALL */
    struct buf logprobs;  /* JSON of its tokens, where items keep them */
    char id[API_CALL_ID]; /* ITEM_CALL */
};

struct api_choice {
    uint32_t index;
    struct api_item *items; /* in the order in which the model wrote them */
    uint32_t n_items, items_cap, n_calls;
    bool is_call_dropped; /* the call being read is one too many */
    bool has_open_item;   /* the last one may still grow */
    bool is_finished, has_failed;
    enum finish_reason finish;
    struct slice stop;           /* the stop string that ended it, else empty */
    struct buf vector;           /* of an embedded text: JSON */
    struct buf logprobs;         /* JSON of the tokens not yet shown (stream) or all (whole) */
    struct buf token_ids;        /* c->keeps_tokens: "1,2,3", those not yet shown (stream) or all */
    uint32_t n_tokens;           /* generated so far */
    struct buf more_logprobs[3]; /* text completions keep four arrays: API_LOGPROBS_* */
    size_t text_chars;           /* read so far, for text_offset */
    size_t echo_at;              /* of the echo: bytes that its tokens have told */
    uint32_t n_echoed;           /* tokens of it that came with their log probabilities */
    uint32_t n_reasoning_tokens;
    struct turn turn;
};

/* "none" leaves the tools in the prompt, so that its prefix stays the same, and what the model
 * writes alone. */
enum tool_choice { TOOLS_AUTO, TOOLS_NONE, TOOLS_REQUIRED, TOOLS_NAMED };

/* How vectors of texts are told. */
struct vector_form {
    const char *field;     /* that holds the texts */
    int32_t normalize;     /* llama-server's embd_normalize: 2 is length 1, −1 as they are */
    uint32_t n_dimensions; /* 0: all */
    uint32_t cut_to;       /* tokens of a text; 0: one that is too long is refused */
    bool is_base64;
};

struct api_call {
    const struct api_dialect *dialect;
    char id[API_ID_BYTES];
    int64_t created_unix_s;
    int64_t told_unix_ns; /* of the event that is being told */
    struct arena arena;   /* owns the slices */
    struct slice model, session;
    const struct json *body; /* in the first request's arena: while that lives */
    struct slice previous;   /* id of the response that this one goes on from, or empty */
    bool stores;             /* the response is kept under its id */
    bool is_stored;          /* what is written was kept: what it cost is not known any more */
    uint64_t n_events;       /* sent so far, where they are numbered */
    bool keeps_item_logprobs;
    float temperature, top_p; /* that were used, where the reply tells */
    const struct tokenizer *tokenizer;
    const struct engine_info *info; /* or NULL */
    int64_t keep_s;                 /* of the model, after this request: FLEET_KEEP_* or seconds */
    double load_ms;                 /* that it waited for the model to load */
    bool is_answered;               /* nothing is to be generated */
    bool is_stream, wants_usage;    /* wants_usage: a chunk of its own at the end of a stream */
    bool wants_progress;            /* of a stream: chunks that tell how far the prompt is */
    bool times_tokens;              /* of a stream: chunks with timings so far */
    int64_t first_token_ns;         /* told_unix_ns then; 0: none yet */
    enum tool_choice tool_choice;
    struct slice tool_name;    /* TOOLS_NAMED, in the request's arena */
    bool is_single_call;       /* at most one call in a reply */
    const struct json *schema; /* of the answer, or NULL */
    struct slice suffix;       /* of the prompt: what the model's turn begins with */
    bool finds_tools;          /* tools were given and may be called */
    bool keeps_reasoning;      /* as text, where it stands */
    bool reads_turns;          /* a chat: reasoning and calls are told from text */
    struct turn_format format;
    const char *removed; /* what hygiene.c took from the prompt's front, or NULL */
    bool keeps_turns;
    struct digest conversation; /* turns.c: as the client sees it */
    const struct json *tools;   /* of the request, in its arena */
    uint32_t n_prompts, n_per_prompt, n_choices, n_unfinished;
    const struct json *prompts; /* [n_prompts] of the body, in the first request's arena; or NULL */
    struct slice *echoes;       /* [n_prompts], or NULL */
    struct slice *prompt_texts; /* [n_prompts] where replies tell them, or NULL */
    bool keeps_tokens;          /* ids, in choice.token_ids */
    const struct json *shown; /* c->arena: names of the members that the reply may have, or NULL */
    int32_t slot;             /* that the client named, or −1 */
    struct sampler_params sampling; /* that were used, and how long, where the reply tells */
    uint32_t max_tokens;
    bool wants_logprobs;
    uint32_t n_top_logprobs;
    struct vector_form vectors; /* of embeddings */

    struct slice settings; /* that the reply tells, JSON, in c->arena */
    bool is_prompt_told;   /* that it is processed */
    int64_t channel;       /* of a socket, that the reply goes to */

    struct buf head;            /* of each chunk: what the writer puts in front */
    struct buf chunk;           /* the one being written */
    struct api_choice *choices; /* [n_choices] */
    uint32_t last_choice;       /* whose end is shown with the usage; set when all have ended */
    bool is_begun;
    uint32_t n_done; /* prompts */
    struct engine_usage usage;
    struct engine_usage *usages; /* [n_prompts] each one's own */
};

/* How items become bytes.  Any may be NULL: nothing to say.  Of a stream: all but whole; of a whole
 * reply: head, token, whole. */
struct api_writer {
    void (*head)(struct api_call *c, struct buf *head); /* once, before anything else */
    void (*begin)(struct api_call *c, struct buf *out); /* c->usage knows the prompt's */
    void (*progress)(struct api_call *c, const struct engine_event *ev, struct buf *out);
    /* With log probabilities asked for, each token, also of whole replies. */
    void (*token)(const struct api_call *c, struct api_choice *choice,
                  const struct engine_event *ev);
    void (*item_begin)(struct api_call *c, struct api_choice *choice, struct api_item *item,
                       struct buf *out);
    void (*item_add)(struct api_call *c, struct api_choice *choice, struct api_item *item,
                     struct slice piece, struct buf *out);
    void (*item_end)(struct api_call *c, struct api_choice *choice, struct api_item *item,
                     struct buf *out);
    void (*choice_end)(struct api_call *c, struct api_choice *choice, struct buf *out); /* not the
                                                                                           last */
    void (*end)(struct api_call *c, struct buf *out); /* the last choice and c->usage */
    void (*whole)(struct api_call *c, struct buf *out);
    void (*answered)(struct api_call *c, struct buf *out); /* c->is_answered: the whole reply */
    void (*error)(struct api_call *c, const struct api_error *error, struct buf *out);
};

/* A reply that needs no generation, in the making: one JSON value. */
struct inquiry {
    const struct api_ask *ask;
    struct arena *arena; /* of the parsed body */
    struct json_writer w;
    struct fleet_list list; /* see models_of */
};
/* The models that are here, while the answer is made; empty, and *f says why. */
const struct fleet_list *models_of(struct fields *f, struct inquiry *a);
/* The one that a name means; NULL: none, and *f says so: 404. */
const struct fleet_entry *model_of(struct fields *f, struct inquiry *a, struct slice name);
/* What a list says of a model: "loaded", "loading", "not-loaded", "failed". */
const char *model_state(const struct fleet_entry *m);
/* Of a loaded one, else NULL. */
const struct engine_info *model_info_of(const struct fleet_entry *m);
/* ollama_pull.c: the name without the hub's own address in front, and what the server is to fetch.
 */
struct slice pull_source(struct slice name);
void pull_want(struct fields *f, struct api_pull *pull, struct slice name, bool is_stream);
/* Instead of an answer: an error with this status. */
void answer_refuse(struct fields *f, int http, const char *code, const char *message);
/* From what the engine said. */
void answer_fail(struct fields *f, const struct err *e);

struct api_dialect {
    const char *name;      /* in docs */
    const char *family;    /* rows of one table in docs */
    const char *id_prefix; /* of replies */
    const char *call_id_prefix;
    const char *request_id_header; /* beside X-Request-Id, or NULL */
    const char *stream_type;
    void (*read)(struct fields *f, const struct api_context *context, struct api_call *c,
                 struct engine_request *r);
    /* Of API_GENERATE: one of several prompts; NULL: as /v1/completions has them. */
    void (*read_prompt)(struct fields *f, const struct api_call *c, uint32_t prompt,
                        struct engine_request *r);
    const struct api_writer *writer;
    /* OpenAI's writers: members beside those that end a reply, or NULL. */
    void (*extra)(struct json_writer *w, const struct api_call *c);
    void (*error)(struct buf *out, const struct api_error *x);
    void (*count)(struct buf *out, uint32_t n_tokens);   /* of endpoints that count only, or NULL */
    void (*answer)(struct fields *f, struct inquiry *a); /* of API_ANSWER, or NULL */
    bool is_for_admins;                                  /* of answer */
    bool needs_model;                                    /* answer is about one model's */
    bool unloads; /* a body without a prompt, with keep_alive 0, is about unloading */
    const struct field_set *const *fields; /* NULL at the end */
};

extern const struct api_dialect dialect_llama_completion, dialect_llama_infill,
    dialect_llama_tokenize, dialect_llama_detokenize, dialect_llama_template, dialect_llama_props,
    dialect_llama_slots, dialect_llama_slot, dialect_llama_load, dialect_llama_unload,
    dialect_llama_lora, dialect_llama_rerank;
extern const struct api_dialect dialect_ollama_chat, dialect_ollama_generate, dialect_ollama_tags,
    dialect_ollama_ps, dialect_ollama_version, dialect_ollama_show, dialect_ollama_pull,
    dialect_ollama_copy, dialect_ollama_delete, dialect_ollama_create, dialect_ollama_push;
extern const struct api_dialect dialect_openai_embeddings, dialect_llama_embeddings,
    dialect_ollama_embed, dialect_ollama_embeddings, dialect_lmstudio_embeddings;
extern const struct api_dialect dialect_lmstudio_chat, dialect_lmstudio_v0_chat,
    dialect_lmstudio_v0_text, dialect_lmstudio_v0_models, dialect_lmstudio_v0_model,
    dialect_lmstudio_models, dialect_lmstudio_load, dialect_lmstudio_unload,
    dialect_lmstudio_download, dialect_lmstudio_status, dialect_lmstudio_statuses,
    dialect_lmstudio_ws, dialect_lmstudio_greeting;
extern const struct api_dialect dialect_openai_chat, dialect_openai_chat_count, dialect_openai_text,
    dialect_anthropic, dialect_anthropic_count, dialect_openai_responses,
    dialect_openai_responses_count, dialect_kvasir;

/* sampling.c: fields that several dialects share, and their readers. */
extern const struct field_set fields_sampling, fields_common, fields_openai_inert,
    fields_llama_refused;
void read_sampling(struct fields *f, const struct api_context *context, struct engine_request *r);
/* filters.c: llama-server's other filters, and the order of all; mirostat alone. */
extern const struct field_set fields_filters;
void read_filters(struct fields *f, const struct api_context *context, struct engine_request *r);
void read_mirostat(struct fields *f, struct engine_request *r);
void write_filters(struct json_writer *w, const struct sampler_params *p);
void read_common(struct fields *f, struct api_call *c, struct engine_request *r);
void read_refused(struct fields *f, const struct api_dialect *dialect);
void read_model(struct fields *f, struct api_call *c);
void read_stops(struct fields *f, const char *name, struct engine_request *r);
void read_best_of(struct fields *f);
/* openai_text_request.c: "prompt" of one or several, as text, ids, or both. */
void read_prompts(struct fields *f, const struct api_context *context, struct api_call *c,
                  struct engine_request *r);
/* The prompts' texts in c's arena, [n_prompts]; NULL: failed. */
struct slice *prompt_texts(struct fields *f, const struct api_context *context, struct api_call *c,
                           const char *name);
/* lmstudio_openai.c */
void read_ttl(struct fields *f, struct api_call *c);
/* Of a reply about it, the part that does it. */
void answer_unload(struct fields *f, struct inquiry *a, struct slice name);
void read_openai_text(struct fields *f, const struct api_context *context, struct api_call *c,
                      struct engine_request *r);
extern const struct field_set fields_openai_text_own;
/* llama_request.c: "suffix": r's prompt becomes what stands between the prompt and it. */
void read_suffix(struct fields *f, const struct api_context *context, struct slice prompt,
                 struct engine_request *r);

/* openai_chat_request.c */
void read_openai_chat(struct fields *f, const struct api_context *context, struct api_call *c,
                      struct engine_request *r);
void read_openai_tools(struct fields *f, struct engine_request *r);
extern const struct field_set fields_openai_chat_own;
extern const struct field_set *const fields_openai_chat[]; /* NULL at the end */

/* lmstudio_chat.c: a context of so many tokens is asked for. */
void read_context_length(struct fields *f, const char *name, const struct api_context *context);

/* hygiene.c: r->messages without a nonce at its front; c->removed names it. */
void clean_prompt(const struct api_context *context, struct api_call *c, struct engine_request *r);
/* arguments.c: those of earlier calls, as the template takes them. */
void shape_arguments(const struct api_context *context, struct engine_request *r);
/* turns.c: r->turns and c->conversation */
void read_turns(struct api_call *c, struct engine_request *r);

/* options.c */
/* The model's template knows reasoning. */
bool template_thinks(const struct api_context *context);
/* A template variable, unless the request names it itself. */
void set_variable(struct engine_request *r, const char *key, struct json value);
void read_effort(struct fields *f, const char *name, const struct json *effort,
                 struct engine_request *r);
/* The form of the answer: {"type": …}. */
void read_format(struct fields *f, const char *name, const struct json *format, struct api_call *c,
                 struct engine_request *r);
/* response_format, json_schema, grammar. */
extern const struct field_set fields_format;
void read_formats(struct fields *f, struct api_call *c, struct engine_request *r);
bool is_object(const struct json *v);
struct json text_value(const char *text);
struct json any_object(struct arena *a);                      /* the schema of one */
const struct json *boxed(struct arena *a, struct json value); /* NULL: no memory */
/* forms.c: the grammar of the answer, or of calls: c->schema, c->tool_choice. */
void set_constraint(struct fields *f, const struct api_context *context, struct api_call *c,
                    struct engine_request *r);
/* options.c: what c->tool_choice asks for, checked against r->tools. */
void read_tool_use_rules(struct fields *f, struct api_call *c, const struct engine_request *r);

/* call.c, for replies that no request asked for */
NODISCARD enum status call_make_choices(struct api_call *c, struct api_error *error);
NODISCARD enum status call_make_head(struct api_call *c, struct api_error *error);

/* reply.c, for writers */
/* c->chunk := c->head, an object that is open and has members. */
void chunk_begin(struct api_call *c, struct json_writer *w);
/* "data: " c->chunk "\n\n" */
void chunk_send(struct api_call *c, struct buf *out);
/* The text of all items of a kind, one after the other. */
void choice_text(struct json_writer *w, const struct api_choice *choice, enum item_kind kind);
bool choice_has(const struct api_choice *choice, enum item_kind kind);

/* openai_chat_reply.c, for openai_text_reply.c */
void openai_head(struct api_call *c, struct buf *head, const char *object);
void openai_send(struct api_call *c, struct json_writer *w, bool has_usage, struct buf *out);
void openai_progress(struct api_call *c, const struct engine_event *ev, struct buf *out);
void openai_usage_chunk(struct api_call *c, struct buf *out);
void openai_whole(struct api_call *c, struct json_writer *w, struct buf *out);
const char *openai_finish(const struct api_choice *choice);
void openai_stream_error(struct api_call *c, const struct api_error *error, struct buf *out);
void openai_error(struct buf *out, const struct api_error *x); /* error.c */
void openai_count(struct buf *out, uint32_t n);                /* openai_responses_request.c */
void anthropic_error(struct buf *out, const struct api_error *x);
void llama_error(struct buf *out, const struct api_error *x);
void ollama_error(struct buf *out, const struct api_error *x);
void lmstudio_error(struct buf *out, const struct api_error *x);
/* embeddings_reply.c: EVENT_VECTOR, into choice.vector */
void vector_add(const struct api_call *c, struct api_choice *choice, const struct engine_event *ev);
/* ollama_request.c */
void read_num_ctx(struct fields *f, const struct api_context *context);
/* ollama_reply.c, ollama_answers.c */
void write_ns(struct json_writer *w, const char *key, double ms);
void write_time(struct json_writer *w, const char *key, int64_t unix_s);       /* RFC 3339 */
void write_time_ns(struct json_writer *w, const char *key, int64_t unix_ns);   /* with fractions */
void write_parameter_size(struct json_writer *w, const char *key, uint64_t n); /* "1.2B" */
void ollama_write_unloaded(const struct api_dialect *dialect, struct buf *out, struct slice model,
                           int64_t now_unix_s);
/* ollama_keep.c */
void read_keep_alive(struct fields *f, const struct api_context *context, struct api_call *c);
/* llama_reply.c: members of the open object. */
void llama_write_params(struct json_writer *w, const struct sampler_params *p, uint32_t max_tokens);
/* openai_chat_reply.c: "prompt_progress" */
void write_prompt_progress(struct json_writer *w, const struct engine_event *ev);

/* usage.c: members of the open object.  write_usage: "usage", "timings", "seed", "kvasir". */
void write_usage(struct json_writer *w, const struct api_call *c, const struct engine_usage *u);
/* From the request's submission to its first token. */
double first_token_ms(const struct engine_usage *u);
uint32_t reasoning_tokens(const struct api_call *c);
void write_timings(struct json_writer *w, const struct engine_usage *u);
void write_timings_so_far(struct json_writer *w, const struct api_call *c); /* c->times_tokens */
void write_kvasir(struct json_writer *w, const struct api_call *c, const struct engine_usage *u);

/* logprobs.c */
#define API_LOGPROBS_TOKENS  0 /* more_logprobs: "tokens", "token_logprobs", "text_offset" */
#define API_LOGPROBS_VALUES  1
#define API_LOGPROBS_OFFSETS 2
void logprobs_add_chat(const struct api_call *c, struct api_choice *choice,
                       const struct engine_event *ev);
void logprobs_add_text(const struct api_call *c, struct api_choice *choice,
                       const struct engine_event *ev);
/* EVENT_PROMPT: the next token of the echo. */
void logprobs_add_echo(const struct api_call *c, struct api_choice *choice, struct slice echo,
                       const struct engine_event *ev);
size_t count_chars(struct slice text); /* whose first byte is in it */
void logprobs_add_llama(const struct api_call *c, struct api_choice *choice,
                        const struct engine_event *ev); /* likewise, with ids */
/* Items keep their own: c->keeps_item_logprobs.  Writes those of the last piece, or all. */
void logprobs_write_list(struct json_writer *w, const struct api_call *c, struct api_choice *choice,
                         const struct api_item *item, bool is_all);
/* The value of "logprobs": null when none were asked for.  Clears what it wrote. */
void logprobs_write_chat(struct json_writer *w, const struct api_call *c,
                         struct api_choice *choice);
void logprobs_write_text(struct json_writer *w, const struct api_call *c,
                         struct api_choice *choice);

#endif
