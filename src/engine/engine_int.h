/* SPDX-License-Identifier: MIT
 * engine_int.h — what the files of this room share.
 *
 *   engine_submit ─▶ prompts (ring) ─▶ prompt workers: template, tokenize ─▶ inbox (ring) ─▶ engine
 *   engine thread: inbox → waiting → running → one step for all → events → gone
 *
 * Owner of each struct: a job belongs to the prompt worker that builds it, then to the engine
 * thread; the memo has a mutex of its own; everything else is the engine thread's. */
#ifndef KVASIR_ENGINE_INT_H
#define KVASIR_ENGINE_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/prng.h"
#include "base/ring.h"
#include "cache/cache.h"
#include "engine/constraint.h"
#include "engine/engine.h"
#include "engine/memo.h"
#include "engine/packed.h"
#include "engine/said.h"
#include "engine/schedule.h"
#include "engine/speculate.h"
#include "engine/stream.h"
#include "os/clock.h"
#include "os/cpu.h"
#include "os/fault.h"
#include "os/team.h"
#include "session/control.h"

#define INBOX_MAX        (4 * ENGINE_QUEUE_MAX)
#define PROMPT_WORKERS   2u
#define STALL_MS_DEFAULT 60.0
#define KEEP_END_AFTER_MS \
    1000.0 /* a turn longer than this gets its prompt's end on disk meanwhile */
#define POLL_MS                50  /* an idle engine looks after finished writes this often */
#define RESTARTS_MAX           16u /* of one job, after pages that failed verification */
#define SCORE_LOGITS_BYTES_MAX (64u << 20)

struct job;

enum message_kind { MESSAGE_JOB, MESSAGE_CALL, MESSAGE_STOP };
struct message {
    enum message_kind kind;
    struct job *job;
    void (*call)(struct engine *g, void *arg); /* MESSAGE_CALL: run on the engine thread */
    void *arg;
};

/* One answer of a request. */
struct choice {
    struct job *job;
    uint32_t index;
    struct sequence *sequence; /* NULL while waiting to begin (again) */
    struct sampler *sampler;
    struct guard guard;
    struct err guard_error;   /* why it drew TOKEN_NONE */
    struct token_list tokens; /* prompt + generated */
    uint32_t n_generated;
    struct stream stream;
    struct draft draft;
    uint32_t guesses[SPECULATE_MAX]; /* tokens that the next step verifies */
    uint32_t n_guesses;
    bool is_finished;
    enum finish_reason finish;
};

struct job {
    struct job *next;                  /* in waiting or running */
    struct job *open_next, *open_prev; /* in engine.open */
    uint64_t id;
    struct engine_request *request;
    struct prompt prompt;
    struct digest owner;         /* salt of its pages: the tenant's, or an imported session's own */
    struct grammar_masks *masks; /* NULL: unconstrained */
    struct engine_usage usage;
    uint64_t submitted_ns, ready_ns, begun_ns, decode_ns;
    struct choice choices[ENGINE_CHOICES_MAX];
    uint32_t n_choices; /* forked so far; 0 until it runs */
    bool is_prompt_done, is_end_kept;
    bool is_skipped;           /* by this admission: it waits for a prefix */
    _Atomic bool is_cancelled; /* set by engine_cancel, from any thread */
    uint32_t n_restarts;
    struct account *account; /* since the engine thread has it */
    uint64_t waits_for;      /* id of a job that computes n_waits_for of its tokens; 0: none */
    uint32_t n_waits_for;
    uint32_t n_untold;     /* tokens with the teller; under its mutex */
    const char *why_again; /* what its sequences began again for; NULL: they did not */
    uint64_t yielded_at;   /* engine.n_retired when it gave its memory to others */
    uint32_t n_read;       /* read_wants_rows: positions whose rows were taken */
    uint32_t n_summed;     /* rows in sums */
    double *sums;          /* [n_embd] with wants_vector, once it runs */
    struct err error;      /* code != OK: fails */
};

struct score_call {
    const struct engine_score *score;
    struct engine_usage *usage;
    enum status st;
    struct err err;
};

/* The side file of the model's repacked weights. */
struct side {
    char *dir;             /* NULL: none is used */
    struct packed_map map; /* what was found, or is made */
    struct packed_making *making; /* until it is published */
    struct digest key;
    bool has_key;
    struct os_thread *publisher;
    atomic_bool is_lost; /* its file came to nothing, and may not keep what lies in it */
    void *payload; /* the weights in memory, whichever way they came */
    uint64_t payload_bytes;
    uint64_t n_faults; /* of the map, mended already */
};

struct engine {
    struct engine_options options;
    struct engine_info info;
    struct model_info const *model_info;
    char *name_text, *path_text, *origin_text;
    struct gguf *gguf;
    struct model *model;
    struct tokenizer *tokenizer;
    struct template *template;
    const struct kernels *kernels;
    struct team *team;
    uint32_t place[TEAM_THREADS_MAX]; /* [n_place] processors that the team keeps to; 0: any */
    uint32_t n_place;
    bool is_place_each; /* one for each worker */
    struct model_workspace *workspace;
    struct home *home;
    bool owns_home;
    uint64_t claimed_bytes;    /* of the home's memory, for the cache */
    struct store *store;       /* the home's; NULL: nothing is kept on disk */
    struct sessions *sessions; /* the home's */
    struct cache *cache;
    struct memo *memo;
    struct said *said;
    struct constraints *constraints;
    struct digest root;
    struct side side;
    bool has_identity;

    struct ring *prompts, *inbox;
    struct teller *teller;
    struct ring *turns; /* jobs whose end is to be kept */
    struct os_thread *thread, *keeper, *workers[PROMPT_WORKERS];
    _Atomic uint64_t next_id;
    pthread_mutex_t open_mutex; /* guards open and n_open; never held across anything else */
    struct job *open;           /* submitted, last event not yet delivered */
    uint32_t n_open;
    _Atomic uint64_t n_errors;
    _Atomic bool is_closing;

    /* the engine thread's */
    struct job *waiting, *running;
    bool is_working;    /* counted in home_n_working */
    uint64_t n_retired; /* jobs that ran and ended */
    uint32_t n_slots;   /* choices that fit a step: n_parallel, and any one request */
    struct schedule schedule;
    float *logits; /* [n_slots + SPECULATE_ROWS_MAX][n_vocab] */
    size_t logits_bytes;
    uint32_t n_logits_rows;
    float *maxima; /* [n_slots + SPECULATE_ROWS_MAX][n_logit_blocks], of logits */
    float *hidden; /* [MODEL_BATCH_TOKENS_MAX][n_embd] */
    size_t hidden_bytes;
    uint32_t n_logit_blocks;
    struct speculation speculation;
    struct engine_stats stats;
    uint16_t layer_group[MODEL_LAYERS_MAX], layer_slot[MODEL_LAYERS_MAX];
};

/* identity.c */
/* m: g's model, perhaps without its weights yet. */
NODISCARD enum status identity_of_model(struct engine *g, const struct model *m, struct digest *out,
                                        struct err *e);
struct digest identity_root(const struct engine *g);

/* side.c: the repacked weights in a file */
const void *side_find(void *engine, const struct model *m,
                      uint64_t n);   /* model_options.find_packed */
void *side_place(void *engine, uint64_t n); /* model_options.place_packed */
void side_publish(struct engine *g); /* on a thread of its own, what was made */
/* After a step: did the file lose bytes meanwhile?  Then the step is void and side_mend packs anew.
 */
bool side_is_torn(struct engine *g);
NODISCARD enum status side_mend(struct engine *g, struct err *e);
void side_settle(struct engine *g); /* before model_free: waits for the publisher */
void side_close(struct engine *g);  /* after it */

/* prompt.c */
void prompt_worker(void *arg);
/* owner: the salt of its pages.  The session that r names or goes on from gives its token ids. */
NODISCARD enum status prompt_build(struct engine *g, const struct engine_request *r,
                                   const struct digest *owner, struct prompt *p, struct err *e);
NODISCARD enum status prompt_load_template(struct engine *g, struct err *e);

/* shared.c: sets p->n_shared of a chat's prompt p that was tokenized from text. */
void prompt_find_shared(struct engine *g, const struct engine_request *r, struct slice text,
                        struct prompt *p);

/* Whose texts: a model's and a tenant's. */
struct digest prompt_owner(const struct engine *g, const struct digest *salt);

/* replay.c: the chat's text, with the bytes of turns that are known */
NODISCARD enum status replay_render(struct engine *g, const struct engine_request *r,
                                    const struct digest *owner, struct buf *out,
                                    uint32_t *n_replayed, struct err *e);

/* loop.c */
void engine_thread(void *arg);
void engine_send(struct engine *g, struct message *m);

/* job.c: one request from its start to its last event */
/* E_BUSY: ENGINE_QUEUE_MAX are open. */
NODISCARD enum status job_open(struct engine *g, struct engine_request *r, struct job **out,
                               struct err *e);
/* The job as it was before job_open; the request stays the caller's. */
void job_unopen(struct engine *g, struct job *job);
void job_free(struct engine *g, struct job *job);
void job_fail(struct engine *g, struct job *job, const struct err *e); /* last event, then freed */
/* Looks the prompt up and starts.  E_BUSY: not yet (another one is computing the same prefix). */
NODISCARD enum status job_begin(struct engine *g, struct job *job, struct err *e);
void job_end(struct engine *g, struct job *job);
/* The last event of one that ended well; from any thread. */
void job_done(struct engine *g, struct job *job);
/* How many tokens it may still generate. */
uint32_t choice_tokens_left(const struct engine *g, const struct choice *c);
/* Draws from logits [n][n_vocab], n ≥ 1 (maxima: see sampler_sample, or NULL), the tokens of the
 * next n positions into out [n] for as long as each equals guesses [n - 1]; returns how many were
 * drawn.  Any thread, one per choice: touches only its sampler. */
uint32_t choice_draw(const struct engine *g, struct choice *c, const float *logits,
                     const float *maxima, const uint32_t *guesses, uint32_t n, struct sampled *out);
/* The next token of a choice, as drawn: joins its tokens or ends it. */
void choice_take(struct engine *g, struct choice *c, const struct sampled *drawn);
/* The prompt's logits: forks the other choices, samples the first token of each.  E_LIMIT: no KV
 * memory for the forks; all is as before. */
NODISCARD enum status job_prompt_done(struct engine *g, struct job *job, const float *logits,
                                      struct err *e);
/* The first choice ends without a word. */
void job_finish_first(struct engine *g, struct job *job);
/* All of a job's sequences begin again: pages were bad, or memory was short. */
void job_release(struct engine *g, struct job *job);
bool job_is_finished(const struct job *job);
/* Its place among others, see schedule.h.  now_ns: clock_now_ns(). */
struct schedule_claim job_claim(const struct job *job, uint64_t now_ns);
/* The deadline of the request has passed. */
bool job_is_late(const struct job *job, uint64_t now_ns);

/* place.c: the processors of the team, and of the engine thread, which is its first worker */
void place_team(struct engine *g);
void place_engine_thread(const struct engine *g);

/* tell.c: events to whoever asked */
NODISCARD enum status tell_open(struct engine *g, struct err *e);
void tell_close(struct engine *g); /* when nobody tells any more */
/* A generated token: soon, on a thread of its own.  Copies ev. */
void tell_token(struct engine *g, struct job *job, const struct engine_event *ev);
/* Now, behind all tokens of the job. */
void tell_event(struct engine *g, struct job *job, const struct engine_event *ev);

/* step.c: one batch */
bool step_run(struct engine *g); /* false: nothing to do */
/* Runs the model over n sequences, verifying mapped pages on the way.  E_CORRUPT: a stored page was
 * bad and is quarantined; the results are void and all sequences must begin again. */
NODISCARD enum status step_forward(struct engine *g, struct model_sequence *runs,
                                   struct sequence *const *sequences, uint32_t n, float *logits,
                                   float *maxima, struct err *e);
void step_restart_all(struct engine *g);

/* read.c: prompts whose own tokens are asked about */
bool read_wants_rows(const struct job *job);
/* Of the n tokens from first on: how many of the last ones must have rows in the step. */
uint32_t read_rows(const struct engine *g, const struct job *job, uint32_t first, uint32_t n);
/* It runs: EVENT_STARTED was told. */
NODISCARD enum status read_begin(struct engine *g, struct job *job, struct err *e);
/* Rows of the n tokens from first on; they are the sequence's last ones. */
NODISCARD enum status read_take(struct engine *g, struct job *job, uint32_t first, uint32_t n,
                                const float *rows, struct err *e);

/* score.c */
void score_run(struct engine *g, struct score_call *call);

/* engine.c: runs fn on the engine thread and waits; false: the engine is closing. */
bool engine_call(struct engine *g, void (*fn)(struct engine *, void *), void *arg);

/* keep.c: what a turn leaves behind in its session */
bool keep_wants(const struct engine *g, const struct job *job);
/* Takes the job: its last event comes when what it leaves is durable. */
void keep_take(struct engine *g, struct job *job);
void keep_thread(void *arg);

#endif
