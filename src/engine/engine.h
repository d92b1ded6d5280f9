/* SPDX-License-Identifier: MIT
 * engine.h — requests in, events out: prompt building, cache, scheduler, batch, sampling, streams.
 * For:     api (through server), and the commands run, chat, eval.   Not for: sockets, dialects.
 * Threads: engine_submit and engine_cancel from any thread.  Templating and tokenizing run on a
 * small worker pool, everything else on the engine thread; events come from any thread of the
 * engine, one at a time per request, and must not block (push into a ring, wake the loop). Order:
 * engine_open → (engine_submit → events … EVENT_DONE | EVENT_ERROR)* → engine_close. */
#ifndef KVASIR_ENGINE_ENGINE_H
#define KVASIR_ENGINE_ENGINE_H

#include "base/arena.h"
#include "grammar/grammar.h"
#include "engine/home.h"
#include "kernels/kernels.h"
#include "model/model.h"
#include "sampler/sampler.h"
#include "template/template.h"
#include "text/json.h"
#include "tokenizer/tokenizer.h"

#define ENGINE_CHOICES_MAX      16u
#define ENGINE_STOPS_MAX        16u
#define ENGINE_STOP_BYTES_MAX   1024u
#define ENGINE_MARKS_MAX        8u
#define ENGINE_QUEUE_MAX        1024u /* requests waiting; one more is E_BUSY */
#define ENGINE_PARALLEL_MAX     256u
#define ENGINE_PRIORITY_MAX     100
#define ENGINE_SESSION_NAME_MAX SESSION_NAME_BYTES_MAX
#define ENGINE_TOKENS_ALL       UINT32_MAX /* max_tokens: to the end of the context */
#define ENGINE_SPECULATE_MAX    16u
#define ENGINE_SPECULATE_OFF    UINT32_MAX

/* AUTO: where nodes or kinds of cores differ, to the best processors together; ON: one for each
 * worker. */
enum engine_pin { ENGINE_PIN_AUTO, ENGINE_PIN_ON, ENGINE_PIN_OFF };

/* How the hidden vectors of a text's tokens (what the output matrix would read, behind the final
 * norm) become one: the file's <arch>.pooling_type.  A file that names none generates text, and the
 * last token's vector, the only one that has seen the whole text, stands for it.  (llama-server asks
 * for --pooling there and refuses /v1/embeddings without; Ollama, too, takes the last one.) */
enum engine_pooling { POOLING_FILE, POOLING_LAST, POOLING_MEAN, POOLING_CLS, POOLING_RANK };

struct engine;

struct engine_options {
    const char *model_path; /* NULL: the embedded skald */
    struct home *home;      /* that it shares with others; NULL: one of its own, by the next line */
    struct home_options own;
    const char *packed_dir; /* side files of repacked weights (packed.h); NULL: none */
    uint32_t n_ctx;         /* 0: the model's, or what memory allows */
    uint32_t n_threads;     /* 0: usable processors */
    enum engine_pin pin;    /* workers to processors */
    uint32_t n_parallel;    /* sequences decoded together; 0: 8 */
    uint32_t chunk;         /* prefill tokens of one step; 0: default */
    /* Guessed tokens verified in one step of a sequence; 0: as many as pay, by what is measured;
     * ENGINE_SPECULATE_OFF: none.  No result depends on it. */
    uint32_t speculate;
    uint32_t n_queue;  /* requests open at once, beyond it E_BUSY; 0: ENGINE_QUEUE_MAX */
    uint32_t stall_ms; /* time between tokens that a prompt beside streams may cause; 0: 60 */
    enum kv_type kv_type;
    enum activations activations;
    enum isa isa;
    enum engine_pooling pooling; /* POOLING_FILE: what the file says */
    bool no_replay;           /* do not replay assistant turns by their generated token ids */
    uint64_t cache_max_bytes; /* KV pages in memory; 0: half of the memory that is free */
    void (*progress)(void *arg, const char *what, double fraction); /* loading; may be NULL */
    void *progress_arg;
};

NODISCARD enum status engine_open(const struct engine_options *options, struct engine **out,
                                  struct err *e);
/* Refuses new requests, ends running ones with E_CANCELLED, makes the store durable, frees. */
void engine_close(struct engine *g);

struct engine_info {
    const char *model_name;       /* general.name, else the file name without .gguf */
    const char *model_path;       /* or "embedded" */
    const char *quantization;     /* "Q4_K_M", by general.file_type; "unknown" where it lacks */
    const char *template_origin;  /* "file", or "built-in for gemma3" where the file has none */
    struct slice template_source; /* empty: none */
    enum engine_pooling pooling; /* not POOLING_FILE */
    bool has_pooling; /* the file says so: made for embeddings */
    const struct model_info *model;
    struct tokenizer_info vocabulary;
    uint32_t n_ctx, n_threads, n_parallel;
    enum kv_type kv_type;
    const char *store_dir; /* or NULL */
    bool keeps;            /* sessions and responses can be kept: there is a store to write to */
    int64_t started_unix_s;
    uint64_t model_bytes;
    struct digest model_identity;
    struct sampler_params sampling; /* the file's general.sampling.* over the built-in defaults */
};
const struct engine_info *engine_info(const struct engine *g);
const struct tokenizer *engine_tokenizer(const struct engine *g);

/* ---- a request ---- */
enum prompt_kind { PROMPT_CHAT, PROMPT_TEXT, PROMPT_TOKENS };

struct engine_usage {
    uint32_t prompt_tokens; /* = memory + disk + computed */
    uint32_t memory_tokens; /* KV found in this process */
    uint32_t disk_tokens;   /* KV mapped from the store */
    uint32_t computed_tokens;
    uint32_t completion_tokens; /* over all choices */
    uint32_t guessed_tokens;    /* verified beside the sequence's own next token */
    uint32_t accepted_tokens;   /* of them: were what the sampler drew */
    uint32_t replayed;          /* assistant turns replayed by their token ids */
    int64_t diverged_at; /* the best known chain goes on with another token there; −1: none does */
    const char *reason;  /* why tokens were computed again; NULL: nothing was */
    double queue_ms, lookup_ms, prefill_ms, decode_ms;
    double fault_in_ms, verify_ms; /* of prefill and decode: stored pages before their first use */
    double prompt_ms;              /* templating and tokenizing */
    uint64_t seed;                 /* the one used, drawn if the request had none */
};

enum engine_event_kind {
    EVENT_STARTED,  /* prompt known and looked up: usage's prompt, memory, disk are set */
    EVENT_PROGRESS, /* prefill: done of total prompt tokens */
    EVENT_PROMPT,   /* with wants_prompt_logprobs: each token of the prompt, before all text */
    EVENT_VECTOR,   /* with wants_vector: the text's, instead of an answer */
    EVENT_TEXT,     /* one token of a choice: its text (maybe empty: held back), id, logprobs */
    EVENT_FINISHED, /* a choice ended */
    EVENT_DONE,     /* all choices ended; usage is final.  Last event. */
    EVENT_ERROR,    /* the request failed.  Last event. */
};
enum finish_reason { FINISH_STOP, FINISH_LENGTH, FINISH_CANCELLED };

struct engine_event {
    enum engine_event_kind kind;
    uint32_t choice;
    /* EVENT_TEXT: whole UTF-8 characters; FINISHED: what was held back; STARTED: the prompt behind
     * its last end of a turn, empty when it came as token ids */
    struct slice text;
    uint32_t token;                   /* EVENT_TEXT, PROMPT: id; TEXT: TOKEN_NONE when text only
                                         was released */
    uint64_t drawn_ns;                /* EVENT_TEXT with a token: when; it may be told later */
    const struct sampled *sampled;    /* EVENT_TEXT with logprobs asked for; EVENT_PROMPT but for
                                         the first token; else NULL */
    const float *vector;              /* EVENT_VECTOR: [total], not normalized */
    enum finish_reason finish;        /* EVENT_FINISHED */
    struct slice stop;                /* EVENT_FINISHED: the stop string that matched, else empty */
    uint32_t done, total;             /* EVENT_PROGRESS; VECTOR: total */
    const struct engine_usage *usage; /* STARTED, PROGRESS, DONE */
    const struct err *error; /* ERROR; error->code E_CONTEXT: done = prompt, total = context */
};

/* An assistant's message that a model wrote here, if what turn_key once said is known. */
struct engine_turn {
    uint32_t from_end; /* of messages: 1 is the last one */
    struct digest key;
};

struct engine_request {
    struct arena arena; /* owns all that the pointers below name; released with the request */
    enum prompt_kind kind;
    /* PROMPT_CHAT */
    const struct json *messages, *tools; /* tools may be NULL */
    const struct json *variables;        /* extra template variables (object) or NULL */
    bool add_generation_prompt, continue_final_message;
    struct slice suffix; /* behind what the template gives: the model's turn begins with it */
    /* PROMPT_TEXT: special tokens in the text are recognised, BOS added as the metadata says */
    struct slice text;
    /* PROMPT_TOKENS: as they are */
    const uint32_t *tokens;
    uint32_t n_tokens;

    struct sampler_params sampling; /* bias points into the arena */
    bool has_seed;                  /* else one is drawn */
    uint32_t max_tokens; /* of each choice; ENGINE_TOKENS_ALL: to the end of the context */
    /* An answer ends (FINISH_LENGTH) so long after its first token, once it has a line feed; 0: never. */
    uint32_t predict_ms_max;
    uint32_t n_choices; /* ≥ 1 */
    struct slice stops[ENGINE_STOPS_MAX];
    uint32_t n_stops;
    bool is_read_whole; /* nobody reads a part of the answer: its tokens may be told some at a time */
    uint32_t n_indent; /* lines behind the first begin with so many blanks, or the answer ends
                          (FINISH_LENGTH); 0: as they like */
    bool show_special; /* control tokens are part of the reply's text */
    bool ignore_eos;   /* not with a schema or grammar, which say where a text may end */
    /* What the answer may be: at most one of the two.  E_INVALID, E_UNSUPPORTED, E_SYNTAX and
     * E_LIMIT of grammar.h come as EVENT_ERROR. */
    const struct json *schema;      /* a JSON schema; NULL: none */
    const struct json *schema_else; /* instead of one that is not supported; NULL: that fails */
    struct slice grammar;           /* GBNF; empty: none */
    struct slice grammar_root;      /* its rule that begins; empty: root */
    /* What %0, %1 … in it stand for, and the control tokens whose text it may write. */
    const struct grammar_schema *grammar_schemas;
    const struct slice *grammar_marks;
    uint32_t n_grammar_schemas, n_grammar_marks; /* marks: at most ENGINE_MARKS_MAX */
    struct slice
        trigger;      /* not empty: free until this text, then by the grammar, then free again */
    bool no_cache;    /* neither look up nor keep */
    /* EVENT_PROMPT: what the model has to say of the prompt's own tokens.  All are computed. */
    bool wants_prompt_logprobs;
    /* EVENT_VECTOR, and nothing is generated.  With no_cache only (E_INVALID): texts are embedded
     * once, by the thousand, and their KV would drive out what chats come back for. */
    bool wants_vector;
    uint32_t tenant;  /* of engine_sessions: whose pages it may use; 0: the default one.
                         Tenants get equal shares of steps, and so do sessions of one */
    int32_t priority; /* lower goes first; waiting for a second counts as much as one */
    uint32_t deadline_ms; /* from engine_submit; E_TIMEOUT then.  0: none */
    struct slice session; /* names the chain's end; empty: unnamed */
    /* PROMPT_CHAT: what this response (or session) said comes before messages. */
    struct slice previous;
    /* PROMPT_CHAT: turns of the assistant's that may be replayed byte for byte, ascending. */
    const struct engine_turn *turns;
    uint32_t n_turns;
    /* A choice ended by itself (after its EVENT_FINISHED): by which key may its bytes be asked for
     * in later requests?  False: by none.  NULL: never. */
    bool (*turn_key)(void *arg, uint32_t choice, struct digest *key);
    struct slice response; /* keep the turn under this id: EVENT_DONE comes when it is durable */

    /* Called for each event; ev is valid during the call only. */
    void (*event)(void *arg, const struct engine_event *ev);
    void *event_arg;
};

struct engine_request *engine_request_new(const struct engine *g); /* with the model's defaults */
void engine_request_free(struct engine_request *r);                /* one that was not submitted */

/* Takes r on OK (freed after its last event).  *id names it for engine_cancel.
 * E_BUSY: the queue is full.  E_INVALID: parameters out of range.  On failure r stays yours. */
NODISCARD enum status engine_submit(struct engine *g, struct engine_request *r, uint64_t *id,
                                    struct err *e);
/* The request ends at the next step with FINISH_CANCELLED and EVENT_DONE (EVENT_ERROR E_CANCELLED
 * while it waits).  A finished or unknown id is fine. */
void engine_cancel(struct engine *g, uint64_t id);

/* Of its home: home_on_hand_over, home_take_socket. */
void engine_on_hand_over(struct engine *g, enum status (*fn)(void *arg, int *fd, struct err *e),
                         void *arg);
int engine_take_socket(struct engine *g);

/* Tenants and sessions: never NULL; without a store nothing is kept in it. */
struct sessions *engine_sessions(struct engine *g);

/* The prompt text of a chat request, for /apply-template and eval render; errors name the line. */
NODISCARD enum status engine_render(const struct engine *g, const struct engine_request *r,
                                    struct buf *out, struct err *e);

/* Tokens of the prompt that r would be; on the caller's thread, nothing is computed. */
NODISCARD enum status engine_count_tokens(struct engine *g, const struct engine_request *r,
                                          uint32_t *n, struct err *e);

/* What of r's prompt is known, where it leaves that, and why: JSON, docs/api/cache.md. is_operator:
 * other tenants' sessions may be spoken of. */
NODISCARD enum status engine_explain(struct engine *g, const struct engine_request *r,
                                     bool is_operator, struct buf *out, struct err *e);
/* The same of {"messages" or "prompt", "tools", "session"}, for the operator. */
NODISCARD enum status engine_explain_json(struct engine *g, uint32_t tenant,
                                          const struct json *request, struct buf *out,
                                          struct err *e);

/* ---- scoring (eval logits, nll, perplexity) ---- */
struct engine_score {
    const uint32_t *tokens;
    uint32_t n_tokens;
    /* Logits after tokens[0..position] are wanted for these, ascending. */
    const uint32_t *positions;
    uint32_t n_positions;
    uint32_t chunk; /* 0: the engine's */
    bool no_cache;  /* neither look up nor keep */
    void (*each)(void *arg, uint32_t position, const float *logits, uint32_t n_vocab);
    void *arg;
};
/* Runs to the end on the engine thread and waits for it. */
NODISCARD enum status engine_score(struct engine *g, const struct engine_score *s,
                                   struct engine_usage *usage, struct err *e);

/* ---- statistics ---- */
#define ENGINE_STEP_BUCKETS 10u /* steps of 1, 2, 4 … 256 sequences at most, and of more */
struct engine_stats {
    uint64_t n_requests, n_running, n_waiting, n_cancelled, n_errors;
    uint64_t prompt_tokens, memory_tokens, disk_tokens, computed_tokens, completion_tokens;
    uint64_t guessed_tokens, accepted_tokens;    /* speculation */
    uint64_t n_pages_memory, pages_memory_bytes; /* anonymous KV pages */
    uint64_t n_pages_mapped, pages_mapped_bytes; /* attended in place in the store's map */
    uint64_t n_steps, n_chains;
    uint64_t step_sequences[ENGINE_STEP_BUCKETS]; /* steps by how many sequences they ran */
    uint64_t n_step_sequences, n_step_tokens;     /* summed over steps */
    uint64_t read_bytes;                          /* of stored pages taken into use since start */
    uint64_t new_kv_bytes;                        /* KV of all tokens computed since start */
    uint64_t n_bad_pages;                         /* pages that failed verification since start */
    uint64_t n_sequences, n_page_references;      /* of running requests, and to known pages */
    bool has_store;
    struct store_stat store;
};
void engine_stats(struct engine *g, struct engine_stats *out);
/* Waits until everything computed so far is durable or has failed. */
void engine_flush(struct engine *g);

#endif
