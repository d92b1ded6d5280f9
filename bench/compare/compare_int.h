/* SPDX-License-Identifier: MIT
 * compare_int.h — inner door: what is asked for, who is asked, what came back.
 *
 *   options ─▶ plan ─▶ run ─▶ scenario ─▶ system ─▶ driver ─▶ wire ─▶ HTTP
 *                       └──▶ results.json ─▶ read again ─▶ table, report.html, report.md
 *
 * Every figure is a sample; the table and the page are made from the written file alone. */
#ifndef KVASIR_BENCH_COMPARE_COMPARE_INT_H
#define KVASIR_BENCH_COMPARE_COMPARE_INT_H

#include <stdatomic.h>
#include <stdio.h>

#include "base/arena.h"
#include "bench/client/child.h"
#include "bench/client/place.h"
#include "http/http_client.h"
#include "text/json.h"

#define SYSTEMS_MAX      16u
#define MODELS_MAX       16u
#define LENGTHS_MAX      16u
#define NAME_BYTES       80u
#define SYSTEM_WORDS_MAX 24u
#define SAMPLES_MAX      200000u
#define REPEAT_MAX       100u
#define STREAMS_MAX      4096u
#define MAPPED_MAX       8u
#define TALK_BYTES_MAX   (64u << 20)
#define TEXT_BYTES_MAX   (16u << 20)
#define TOP_MAX          10u   /* likeliest tokens that are compared */
#define GAPS_MAX         8192u /* of one answer */
#define FOREIGN_MOST     0.10  /* a sample with more of the machine taken by others is left out */

/* ---- samples ---- */
enum label { LABEL_MEASURED, LABEL_SIMULATED, LABEL_COMPUTED, LABEL_COUNT };
extern const char *const label_names[LABEL_COUNT];

enum outcome {
    OUTCOME_DONE,
    OUTCOME_FAILED,  /* an error came back, or nothing did */
    OUTCOME_HUNG,    /* cut off at the time limit */
    OUTCOME_NO,      /* this system cannot do it */
    OUTCOME_SKIPPED, /* not tried; the note says why */
    OUTCOME_COUNT
};
extern const char *const outcome_names[OUTCOME_COUNT];

enum sample_flag {
    FLAG_BUSY = 1,          /* others took more than FOREIGN_MOST of the machine */
    FLAG_NOT_REUSED = 2,    /* restored with success, and computed again */
    FLAG_WARM = 4,          /* should be cold, and was not */
    FLAG_MISCONFIGURED = 8, /* far slower than all others at a warm-up */
    FLAG_OTHER_ANSWER = 16, /* other text than the first system's */
    FLAG_OTHER_ODDS = 32,   /* other probabilities than its own control */
    FLAG_OTHER_PROMPT = 64, /* another number of prompt tokens than the first system */
    FLAG_COUNT = 7
};
extern const char *const flag_names[FLAG_COUNT];

enum scenario_id {
    SCENARIO_WARM_UP, /* before all others: does it run the model as it should? */
    SCENARIO_COLD_START,
    SCENARIO_RESUME,
    SCENARIO_CHAT,
    SCENARIO_CONTEXT,
    SCENARIO_AGENTS,
    SCENARIO_TOOLS,
    SCENARIO_BRANCH,
    SCENARIO_CONCURRENCY,
    SCENARIO_SIZES,
    SCENARIO_COUNT
};

struct sample {
    uint32_t system, model; /* rows of results */
    enum scenario_id scenario;
    char kase[40]; /* "turn after restart" */
    double x;      /* prompt length, turn, session, streams */
    uint32_t repeat;
    enum label label;
    enum outcome outcome;
    unsigned flags;
    double key_ms;                                      /* what this case compares */
    double ready_ms, save_ms, restore_ms;               /* -1: did not happen */
    double first_ms, total_ms;                          /* on the wire */
    double gap_p50_ms, gap_p95_ms, gap_p99_ms, late_ms; /* between tokens; behind the schedule */
    double odds_off; /* nat, furthest from the control; -1: not compared */
    int64_t prompt_tokens, cached_tokens, output_tokens; /* -1: not told */
    int64_t memory_bytes, disk_bytes;                    /* -1: not known */
    double foreign;                                      /* share of the machine; -1: not known */
    char answer[24];                                     /* digest of the text, in hex */
    char opening[400];                                   /* its beginning */
    char note[200];
};
struct sample sample_new(void); /* all that is unknown says so */

/* ---- results ---- */
struct system_row {
    char name[NAME_BYTES], driver[24], version[120], command[600], note[240];
    bool is_dropped; /* hung or misconfigured: the rest was not tried */
};
struct model_row {
    char name[NAME_BYTES], path[PLACE_PATH_BYTES], sha256[68];
    int64_t bytes, context_tokens;
};
struct results {
    char version[24], started[32], host_cpu[80], kernel[120];
    char command[8000];                    /* of merged runs a line each */
    uint32_t processors, threads, repeats; /* repeats 0: merged runs had other numbers each */
    int64_t memory_bytes;
    bool is_quick, is_interrupted;
    double seconds;
    /* what the impact line is computed from */
    double impact_tokens, impact_sessions;
    uint32_t n_systems, n_models, n_samples, samples_cap;
    struct system_row systems[SYSTEMS_MAX];
    struct model_row models[MODELS_MAX];
    struct sample *samples;
};
void results_release(struct results *r);
struct sample *results_add(struct results *r, const struct sample *s);
void results_write(const struct results *r, struct buf *out); /* docs/benchmark-schema.md */
NODISCARD enum status results_read(struct slice json, struct results *r, struct err *e);
/* Another run's samples behind ours: systems are the same by name, models by name and hash. */
NODISCARD enum status results_merge(struct results *r, const struct results *more, struct err *e);

/* One row of a table: all samples of a system in a case. */
struct summary {
    uint32_t n, n_busy, n_bad; /* that count; left out as busy; failed, hung, not reused … */
    uint32_t n_no;
    unsigned flags;
    enum outcome worst;
    enum label label;
    bool is_all_busy;                     /* then the busy ones are what is shown */
    double min, median, p95;              /* of key_ms */
    double first_median;                  /* of first_ms; -1: none */
    double ready_median;                  /* -1: none */
    double decode_median;                 /* tokens a second after the first; -1: none */
    int64_t prompt_tokens, cached_tokens; /* of the median sample */
    double odds_off;                      /* the worst */
    const char *note;                     /* the first one that says anything */
};
/* A case as it stands in a table. */
struct group {
    uint32_t model;
    enum scenario_id scenario;
    const char *kase;
    double x;
};
#define GROUPS_MAX 4096u
uint32_t groups_of(const struct results *r,
                   struct group *groups); /* [GROUPS_MAX], in order of run */
bool summary_of(const struct results *r, const struct group *g, uint32_t system,
                struct summary *out); /* false: it has no sample there */
/* Taken while others used the machine. */
uint32_t n_busy_samples(const struct results *r);
/* The sample failed, hung or was caught, and none before it of its system and case did so. */
bool is_first_trouble(const struct results *r, uint32_t sample);
double quantile(const double *ascending, uint32_t n, double q);
void sort_numbers(double *v, uint32_t n);

void show_ms(double ms, char *text, size_t size);
void show_rate(double rate, char *text, size_t size);
void show_case(const struct results *r, const struct group *g, char *text, size_t size);
void show_flags(unsigned flags, char *text, size_t size);
bool show_answers(const struct results *r, uint32_t system, char *text, size_t size);
void table_print(FILE *out, const struct results *r);
void report_write(const struct results *r, struct buf *out);
void markdown_write(const struct results *r, struct buf *out);
/* A ratio that kvasir set out to reach, over a rival, at a model's longest prompt; goals.c. */
#define GOALS_MAX 256u
struct goal {
    const char *what;
    uint32_t model, system; /* the rival */
    double tokens, ratio, least;
    bool is_warm, is_met; /* page cache warm */
};
uint32_t goals_of(const struct results *r, struct goal *out); /* [GOALS_MAX] */
void goal_text(const struct results *r, const struct goal *g, char *text, size_t size);
/* What a number of streams does to a system: p50, p95, p99 of the first token and between tokens
 * (of each request's own quantiles), and tokens a second of all together; -1: not known. */
struct streams {
    uint32_t n; /* requests that count */
    double first_ms[3], gap_ms[3], tokens_a_second;
};
bool streams_of(const struct results *r, const struct group *g, uint32_t system,
                struct streams *out); /* false: g is none of requests, or nothing was answered */
/* A row of the prototype's table, measured again (historic.c). */
#define HISTORIC_MAX 24u
struct historic {
    char what[60];
    double ours_ms, theirs_ms;
    double old_percent; /* -1: it had no such row */
};
uint32_t historic_rows(const struct results *r, uint32_t model, uint32_t system,
                       struct historic *rows); /* [HISTORIC_MAX] */
void historic_compute(FILE *out);
/* "measured" or "simulated": what all samples of a system are. */
const char *label_of(const struct results *r, uint32_t system);
/* The sentence that leads table and page, from the samples. */
void headline(const struct results *r, char *text, size_t size);
void impact(const struct results *r, char *text, size_t size);

/* ---- options ---- */
enum mode { MODE_MEASURE, MODE_SIMULATE, MODE_COMPUTE, MODE_REPORT };
enum page_cache { PAGES_WARM, PAGES_DROPPED, PAGES_BOTH };

struct options {
    enum mode mode;
    bool is_quick, is_plan, is_help;
    unsigned scenarios; /* bit i: scenario i */
    uint32_t n_lengths, lengths[LENGTHS_MAX];
    uint32_t n_streams, streams[LENGTHS_MAX];
    uint32_t sessions, turns, agents, steps, repeats, branches;
    uint32_t answer_tokens,
        prompt_tokens; /* of an answer; of the prefix that resume and others share */
    uint32_t threads, cell_seconds;
    uint32_t seed;
    bool is_text; /* plain text in the place of chat messages */
    uint32_t n_models;
    struct {
        char name[NAME_BYTES];
        char path[PLACE_PATH_BYTES]; /* "": the embedded one */
    } models[MODELS_MAX];
    uint32_t n_systems;
    const char *systems[SYSTEMS_MAX]; /* as written */
    const char *out, *report, *program, *mcp;
    double rate; /* tok/s of a rival, simulated or planned; 0: measured */
    double tokens_a_session, sessions_a_day, load_ms;
    char command[1200];
};
NODISCARD enum status options_read(struct options *o, int argc, char **argv, struct err *e);

/* ---- conversations ---- */
/* The same words as chat messages and as plain text. */
struct talk {
    struct buf json, text;
};
void talk_init(struct talk *t);
void talk_release(struct talk *t);
void talk_copy(struct talk *to, const struct talk *from);
void talk_add(struct talk *t, const char *role, struct slice content);

/* Text of about n tokens of this model: paragraphs of English prose, facts and figures, the order
 * by seed, so that no two seeds share a beginning. */
struct prompts {
    struct options const *options;
    const char *model; /* NULL: the embedded one */
    double bytes_a_token;
    bool counts; /* a tokenizer is at hand */
};
void prompts_init(struct prompts *p, const struct options *o, const char *model);
NODISCARD enum status prompts_text(struct prompts *p, uint32_t n_tokens, uint64_t seed,
                                   struct buf *out, struct err *e);
/* A question of at least 16 tokens, and not many more. */
void prompts_question(uint64_t seed, struct buf *out);
void prompts_write(struct buf *out, size_t bytes, uint64_t seed); /* so many bytes */

/* ---- what goes over the wire ---- */
enum dialect { DIALECT_OPENAI, DIALECT_OLLAMA, DIALECT_LMSTUDIO, DIALECT_COUNT };

struct odds {
    char token[32];
    double logprob;
};

struct ask {
    const struct talk *talk;
    uint32_t max_tokens;
    bool wants_odds;
    uint32_t ms_max;
};

struct answer {
    enum outcome outcome;
    int http;
    double first_ms, total_ms, last_ms;
    struct buf text;
    int64_t prompt_tokens, cached_tokens, output_tokens;
    double server_prefill_ms; /* -1: not told */
    uint32_t n_odds;
    struct odds odds[TOP_MAX]; /* of the first token */
    uint32_t n_gaps;
    float *gaps_ms; /* [GAPS_MAX] */
    char error[200];
};
void answer_release(struct answer *a);

struct system;
struct wire; /* one request on its way */
/* Opens it: call is what the HTTP client is to do; a->… fills while it does. */
NODISCARD enum status wire_begin(const struct system *s, const struct ask *ask, struct answer *a,
                                 struct wire **out, struct err *e);
const struct http_call *wire_call(const struct wire *x);
/* After the call: st, e and http are its end. */
void wire_end(struct wire *x, enum status st, const struct err *e, const struct http_answer *http);
/* All of it, blocking. */
void wire_ask(struct system *s, const struct ask *ask, struct answer *a);
/* GET or POST of small JSON; E_IO with the server's words for any status but 200. */
NODISCARD enum status wire_json(struct system *s, const char *method, const char *path,
                                struct slice body, uint32_t ms_max, struct arena *a,
                                const struct json **out, struct err *e);
NODISCARD enum status wire_wait_ready(struct system *s, const char *path, uint32_t ms_max,
                                      struct err *e);
int64_t json_integer(const struct json *v, int64_t otherwise);
double json_number(const struct json *v, double otherwise);
void json_text(const struct json *v, char *out, size_t size);

/* ---- systems ---- */
struct start {
    const char *model; /* the file; NULL: kvasir's own */
    uint32_t ctx_tokens, parallel;
    bool is_fresh;        /* forget all state that was kept */
    bool wants_ram_cache; /* several conversations: keep their state in memory where it can */
    bool drop_page_cache;
};

enum ability {
    CAN_RESTART = 1, /* end and begin again, or unload and load */
    CAN_KEEP = 2,    /* state outlives that */
    CAN_TEXT = 4,
    CAN_ODDS = 8,
    CAN_RAW_LENGTH = 16, /* ignores ends of text, so answers have one length */
    CAN_KILL = 32
};

struct driver {
    const char *name;
    const char *about;   /* for help */
    const char *options; /* "model=NAME" … */
    enum dialect dialect;
    uint16_t port, old_port; /* where it is found when nobody says; 0: nowhere */
    const char *probe;       /* GET that answers 200 there, and in no driver before it */
    /* Sets s->can from what it was given; finds its version. */
    enum status (*prepare)(struct system *s, struct err *e);
    enum status (*start)(struct system *s, const struct start *how, struct err *e);
    enum status (*stop)(struct system *s, struct err *e);
    /* Keeps and takes back the state of the one conversation; NULL: by itself or not at all. */
    enum status (*save)(struct system *s, const char *name, double *ms, int64_t *bytes,
                        struct err *e);
    enum status (*restore)(struct system *s, const char *name, double *ms, int64_t *tokens,
                           struct err *e);
    void (*extra)(const struct system *s, struct json_writer *w); /* members of each request */
};
extern const struct driver *const drivers[];
extern const uint32_t n_drivers;

struct system {
    const struct driver *driver;
    const struct options *options;
    char name[NAME_BYTES];
    char target[PLACE_PATH_BYTES]; /* a program or a URL; "": the default */
    bool is_url;
    char words[SYSTEM_WORDS_MAX][120]; /* options as written, "swa-full", "model=x" */
    uint32_t n_words;
    unsigned can;
    /* while it runs */
    struct child child;
    struct http_client *http;
    char url[128];
    double ready_ms;              /* of the last start */
    char place[PLACE_PATH_BYTES]; /* its state, a folder of the run */
    char version[120], command[600];
    char served_model[200]; /* the name to ask for */
    char instance[200];     /* LM Studio: of the loaded model */
    int64_t context_tokens; /* told by it; -1 */
    bool is_running, is_dropped, is_unusable;
    uint32_t n_hung, parallel;
    /* Data files that its process had mapped, weights in whatever form; dropped with the model. */
    char mapped[MAPPED_MAX][PLACE_PATH_BYTES];
    uint32_t n_mapped;
    char dropped[160]; /* from the page cache before the last start; "": nothing was */
    double prefill_rate, decode_rate; /* of the warm-up; 0: none */
};
NODISCARD enum status system_parse(struct system *s, const char *text, const struct options *o,
                                   struct err *e);
const char *system_word(const struct system *s, const char *key); /* value, "" for a bare word */
NODISCARD enum status system_start(struct system *s, const struct start *how, struct err *e);
NODISCARD enum status system_stop(struct system *s, struct err *e);
void system_kill(struct system *s);
/* Bytes in memory (anonymous and shared) and below its folder; -1: not known. */
int64_t system_memory(const struct system *s);
int64_t system_disk(const struct system *s);
void forget_pages(const char *path); /* POSIX_FADV_DONTNEED on a file, or all below a folder */
/* Shared by drivers that run a program of their own. */
NODISCARD enum status system_run(struct system *s, const char *const *argv, const char *ready_path,
                                 struct err *e);
uint16_t free_port(void);
/* Those that answer on their default ports, into text ("" none). */
void systems_found(char *text, size_t size);

/* ---- the machine ---- */
/* CPU time of all others: a thread that looks at /proc ten times a second. */
NODISCARD enum status load_start(struct err *e);
void load_stop(void);
void load_watch(pid_t pid); /* the server that is measured; 0: none of ours */
void load_unknown(bool is); /* its server's time can't be told from others' */
/* Share of the machine that others took since then (at least LOAD_WINDOW_MS back); -1: unknown. */
double load_foreign(uint64_t since_ns);
extern atomic_bool is_interrupted;

/* ---- a run ---- */
/* What an MCP server said, once, for all systems. */
struct tool_script {
    bool is_read;
    char server[120], error[200];
    struct arena arena;
    struct slice tools; /* the list, as JSON */
    uint32_t n_tools, n_results;
    struct {
        struct slice call, text;
    } results[100];
};
NODISCARD enum status mcp_record(const struct options *o, uint32_t n_calls, struct tool_script *t,
                                 struct err *e);
int mcp_serve(void); /* `kvasir bench mcp-server`: on stdin and stdout */

struct run {
    const struct options *options;
    struct tool_script tools;
    struct results *results;
    uint32_t n_systems;
    struct system systems[SYSTEMS_MAX];
    struct prompts prompts;
    char place[PLACE_PATH_BYTES];
    /* where it stands */
    uint32_t model, repeat;
    const char *model_path; /* NULL: embedded */
    int64_t context_tokens;
    int64_t model_bytes;
    double done_cost, all_cost; /* seconds as planned */
    uint64_t begun_ns;
    int64_t begun_unix_ms;
};

/* One scenario with one system, once. */
typedef void scenario_fn(struct run *r, struct system *s, enum scenario_id id);
struct scenario {
    const char *name;
    const char *about;
    const char *key; /* what key_ms is, for titles */
    scenario_fn *run;
    /* seconds it may take with these rates */
    double (*cost)(const struct run *r, const struct system *s);
};
extern const struct scenario scenarios[SCENARIO_COUNT];
double guess_prefill_rate(const struct run *r, const struct system *s); /* before it is measured */

/* What scenarios share: */
struct sample cell(const struct run *r, const struct system *s, enum scenario_id id,
                   const char *kase, double x);
/* Asks, fills first, total, tokens, foreign, answer text; false: it failed (and was added). */
bool cell_ask(struct run *r, struct system *s, struct sample *c, const struct ask *ask,
              struct answer *a);
void cell_fail(struct run *r, struct system *s, struct sample *c, const struct err *e);
void cell_no(struct run *r, struct sample *c, const char *why);
void cell_add(struct run *r, struct sample *c);
void cell_take(struct sample *c, struct answer *a); /* what an answer says */
/* Starts it, with a sample for the failure; *ready_ms into c. */
bool cell_start(struct run *r, struct system *s, struct sample *c, const struct start *how);
bool cell_restart(struct run *r, struct system *s, struct sample *c, const struct start *how,
                  const char *state);
bool cell_save(struct run *r, struct system *s, struct sample *c, const char *state);
struct start cell_how(const struct run *r, uint32_t tokens);
/* Rule 2: after a restore most of the prefix must come from it. */
void cell_check_reuse(struct sample *c, int64_t reusable_tokens, double cold_first_ms);
/* A seed for the words of a cell: all systems get the same words in a repeat. */
uint64_t cell_seed(const struct run *r, enum scenario_id id, uint64_t x);
bool cell_words(struct run *r, struct system *s, struct sample *c, uint32_t tokens, uint64_t seed,
                struct buf *out);
void cell_question(struct talk *t, uint64_t seed); /* adds one */
/* A system message of n tokens; false: failed and written down. */
bool cell_talk(struct run *r, struct system *s, struct sample *c, uint32_t tokens, uint64_t seed,
               struct talk *t);
double odds_distance(const struct answer *a, const struct answer *b);

scenario_fn scenario_cold_start, scenario_resume, scenario_chat, scenario_context, scenario_agents,
    scenario_tools, scenario_branch, scenario_concurrency, scenario_sizes;

NODISCARD enum status run_all(struct run *r, struct err *e);
void plan_print(FILE *out, struct run *r);
/* kvasir measured, and a system that computes every prompt again at a rate. */
NODISCARD enum status simulate(struct run *r, struct err *e);
int compute(const struct options *o);

#endif
