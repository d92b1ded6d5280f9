/* SPDX-License-Identifier: MIT
 * app_int.h — inner door: options, commands, and what commands share.
 * An option is one row in config.c: its spellings, its key in the file and the environment, its
 * range, default and description; help and docs/cli.md are written from the rows. */
#ifndef KVASIR_APP_APP_INT_H
#define KVASIR_APP_APP_INT_H

#include <stdio.h>

#include "base/buf.h"
#include "base/status.h"
#include "engine/engine.h"
#include "fetch/fetch.h"
#include "fleet/fleet.h"

enum exit_code { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* ---- commands: command.c ---- */
enum command_id {
    COMMAND_SERVE,
    COMMAND_RUN,
    COMMAND_CHAT,
    COMMAND_EVAL_TOKENIZE,
    COMMAND_EVAL_LOGITS,
    COMMAND_EVAL_GENERATE,
    COMMAND_EVAL_NLL,
    COMMAND_EVAL_PERPLEXITY,
    COMMAND_EVAL_RENDER,
    COMMAND_EVAL_JINJA,
    COMMAND_STORE_LS,
    COMMAND_STORE_STAT,
    COMMAND_STORE_SHOW,
    COMMAND_STORE_CREATE,
    COMMAND_STORE_FORK,
    COMMAND_STORE_PIN,
    COMMAND_STORE_UNPIN,
    COMMAND_STORE_TAG,
    COMMAND_STORE_RENAME,
    COMMAND_STORE_RM,
    COMMAND_STORE_EXPIRE,
    COMMAND_STORE_PUBLIC,
    COMMAND_STORE_EXPORT,
    COMMAND_STORE_IMPORT,
    COMMAND_STORE_EXPLAIN,
    COMMAND_STORE_GC,
    COMMAND_STORE_REBUILD,
    COMMAND_STORE_VERIFY,
    COMMAND_MODELS,
    COMMAND_PULL,
    COMMAND_BENCH,
    COMMAND_VERSION,
    COMMAND_COUNT
};

struct config;

struct command {
    const char *name;       /* "serve", "eval tokenize" */
    const char *arguments;  /* after the options in the synopsis; "" where there are none */
    uint32_t arguments_max; /* words that are not options */
    const char *summary;    /* one line, lower case */
    const char *about;      /* paragraphs and examples, each line as it is printed */
    int (*run)(const struct config *c);
    int (*run_words)(int argc, char **argv); /* in the place of run: it reads its own options */
};
extern const struct command commands[COMMAND_COUNT];

/* ---- options: config.c ---- */
enum option_id {
    OPTION_MODEL,
    OPTION_HOST,
    OPTION_PORT,
    OPTION_ALIAS,
    OPTION_MODELS_DIR,
    OPTION_MODEL_TTL,
    OPTION_MODELS_MAX_BYTES,
    OPTION_API_KEY,
    OPTION_API_KEY_FILE,
    OPTION_ALLOW_ORIGIN,
    OPTION_STORE,
    OPTION_STORE_MAX_BYTES,
    OPTION_STORE_MAX_WRITE_PER_DAY,
    OPTION_STORE_SCRUB_RATE,
    OPTION_HISTORY_DAYS,
    OPTION_HISTORY_MAX_BYTES,
    OPTION_SESSION_DAYS,
    OPTION_STORE_KEY_FILE,
    OPTION_STORE_READ_ONLY,
    OPTION_TAKE_OVER,
    OPTION_CTX,
    OPTION_KV_TYPE,
    OPTION_ACTIVATIONS,
    OPTION_THREADS,
    OPTION_PIN,
    OPTION_POOLING,
    OPTION_PARALLEL,
    OPTION_QUEUE,
    OPTION_STALL_MS,
    OPTION_CHUNK,
    OPTION_SPECULATE,
    OPTION_CACHE_MAX_BYTES,
    OPTION_ISA,
    OPTION_REPLAY,
    OPTION_PROMPT_HYGIENE,
    OPTION_SESSION,
    OPTION_SYSTEM,
    OPTION_RAW,
    OPTION_MAX_TOKENS,
    OPTION_TEMPERATURE,
    OPTION_TOP_K,
    OPTION_TOP_P,
    OPTION_MIN_P,
    OPTION_SEED,
    OPTION_TIMINGS,
    OPTION_DETOKENIZE,
    OPTION_TEMPLATE,
    OPTION_FILE,
    OPTION_WINDOWS,
    OPTION_RECORDS,
    OPTION_TENANT,
    OPTION_LIST_TAG,
    OPTION_HISTORY,
    OPTION_AT,
    OPTION_AT_MESSAGE,
    OPTION_AS,
    OPTION_DAYS,
    OPTION_TREE,
    OPTION_TOKENS_ONLY,
    OPTION_TRUST,
    OPTION_BASE_URL,
    OPTION_CONNECTIONS,
    OPTION_SHA256,
    OPTION_JSON,
    OPTION_CONFIG,
    OPTION_LOG_LEVEL,
    OPTION_LOG_FORMAT,
    OPTION_COUNT
};

enum option_kind {
    KIND_TEXT,   /* any text */
    KIND_COUNT,  /* a whole number from least to most; or one of choices: −1 − its place */
    KIND_SIZE,   /* bytes, with K, M, G, T for powers of 1024 */
    KIND_REAL,   /* a number from least to most */
    KIND_CHOICE, /* one word of choices; the value is its place */
    KIND_FLAG,   /* no value: present or not (true, false in file and environment) */
};

struct option_row {
    const char *names; /* spellings, the one that help shows first is the first long one */
    const char *key;   /* in the file; KVASIR_KEY in the environment; NULL: command line only */
    enum option_kind kind;
    const char *value;   /* what help calls the value */
    const char *choices; /* KIND_CHOICE, KIND_COUNT: words with one blank between */
    double least, most;  /* KIND_COUNT, KIND_REAL */
    const char *initial; /* the default as one would write it; NULL: none */
    const char *doc;
    uint64_t used_by; /* bit i: command i */
};
extern const struct option_row option_rows[OPTION_COUNT];

struct option_value {
    bool is_given; /* by command line, environment or file; else the default */
    bool by_flag;
    const char *text; /* as given; NULL without a default */
    int64_t number;   /* counts, sizes, choices, flags */
    double real;
};

struct config {
    const struct command *command;
    struct option_value values[OPTION_COUNT];
    const char *const *arguments;
    uint32_t n_arguments;
    int n_words; /* that it was read from, so that it can be read again */
    char **words;
    char *file_text; /* the config file; text values of it point here */
    char default_store[4096];
};

/* Words after the command's name.  E_INVALID: wrong usage.  *wants_help: --help was among them. */
NODISCARD enum status config_read(struct config *c, const struct command *command, int argc,
                                  char **argv, bool *wants_help, struct err *e);
void config_release(struct config *c);
void config_set_log(const struct config *c); /* its level */
bool config_uses(const struct command *command, enum option_id id);

/* kvasir's folder for data, "" when neither XDG_DATA_HOME nor HOME is set; models_dir likewise
 * below the cache folder. */
void config_data_dir(char *path, size_t size);
void config_models_dir(char *path, size_t size);
void config_packed_dir(char *path, size_t size); /* side files of repacked weights */

/* ---- help.c ---- */
void help_overview(FILE *out);
void help_group(FILE *out, const char *group); /* "eval", "store" */
void help_command(FILE *out, const struct command *command);
void help_api(FILE *out); /* docs/api/conformance.md */
/* "-m, --model MODEL", and its description with choices and default. */
void help_spelling(const struct option_row *row, char *text, size_t size);
void help_notes(const struct option_row *row, char *text, size_t size);

/* ---- manual.c: the same tables for other readers ---- */
void help_markdown(FILE *out); /* docs/cli.md */
void help_man(FILE *out);      /* kvasir(1) */
void help_bash(FILE *out);     /* completion */

/* ---- setup.c: from options to an engine ---- */
/* "kvasir: MESSAGE" on stderr. */
void complain(const char *fmt, ...) PRINTF_LIKE(1, 2);
int complain_err(const struct err *e); /* and EXIT_FAILED */
/* NULL: --store none, or an eval command without --store. */
const char *store_dir_of(const struct config *c);
/* Reads --store-key-file: 32 bytes, or 64 hexadecimal digits.  *has_key false: it was not given. */
NODISCARD enum status store_key_of(const struct config *c, uint8_t key[STORE_FILE_KEY_BYTES],
                                   bool *has_key, struct err *e);
/* path [size]: the file that -m means; NULL: none named, the embedded model. */
NODISCARD enum status model_path_of(const struct config *c, char *path, size_t size,
                                    const char **out, struct err *e);
/* Opens what the options say, with a bar, and says on stderr what it is unless is_quiet. */
NODISCARD enum status engine_of(const struct config *c, bool is_quiet, struct engine **out,
                                struct err *e);
/* Where models are fetched from, and what to say there. */
struct hub {
    char base_url[FETCH_URL_MAX];
    char authorization[512]; /* a header; "" without a token */
};
NODISCARD enum status hub_of(const struct config *c, struct hub *h, struct err *e); /* pull.c */
/* The same, with the models of --models-dir beside it. */
NODISCARD enum status fleet_of(const struct config *c, struct fleet **out, struct err *e);
/* The file inside this program. */
struct slice embedded_model(void);
/* What -m names, or the embedded one; no weights are read. */
NODISCARD enum status gguf_of(const struct config *c, struct gguf **out, struct err *e);
/* Options over the model's own defaults. */
void sampling_of(const struct config *c, struct engine_request *r);

/* ---- progress.c: a bar on stderr, for what takes more than two seconds on a terminal ---- */
struct progress {
    uint64_t start_ns, drawn_ns;
    bool is_terminal, is_drawn;
};
void progress_begin(struct progress *p);
void progress_show(struct progress *p, const char *what, double fraction);
void progress_end(struct progress *p); /* wipes the bar */

/* ---- ask.c: one request, waited for by the thread that asked ---- */
struct ask_result {
    struct buf text;          /* of choice 0 */
    struct token_list tokens; /* likewise */
    struct engine_usage usage;
    enum finish_reason finish;
    struct err error; /* code OK: it went well */
};
void ask_result_release(struct ask_result *r);
struct ask;
/* Takes r on OK. */
NODISCARD enum status ask_start(struct engine *g, struct engine_request *r, struct ask **out,
                                struct err *e);
/* Waits for the last event, then frees a.  Text is written to out as it comes (NULL: nowhere),
 * prefill drawn by progress (NULL: not).  Returns result->error.code. */
enum status ask_finish(struct ask *a, FILE *out, struct progress *progress,
                       struct ask_result *result);
/* From now on SIGINT cancels what is waited for; ask_interrupted() tells, and forgets. */
void ask_catch_interrupts(void);
bool ask_interrupted(void);

/* ---- jsonl.c: JSON lines in, one answer a line out ---- */
/* Answers one line into out (an object, or nothing and a status: the loop writes {"error": …}). */
typedef enum status jsonl_fn(void *arg, const struct json *line, struct json_writer *out,
                             struct err *e);
/* EXIT_DONE, or EXIT_FAILED when stdin or stdout broke. */
int jsonl_run(jsonl_fn *answer, void *arg);
/* For answers that come later: reading and writing apart. */
struct jsonl_reader {
    struct buf bytes;
    size_t consumed; /* by the line handed out last */
    bool is_ended;
};
void jsonl_reader_init(struct jsonl_reader *r);
void jsonl_reader_release(struct jsonl_reader *r);
/* False at the end.  *line is valid until the next call; a line over the limit comes back empty
 * with *is_too_long. */
bool jsonl_next(struct jsonl_reader *r, struct slice *line, bool *is_too_long);
void jsonl_error(struct buf *out, const struct err *e);
bool jsonl_put(const struct buf *line); /* false: stdout is gone */
/* Members of a line.  Each takes `absent` where there is none; E_INVALID names the member. */
NODISCARD enum status line_bool(const struct json *line, const char *key, bool absent, bool *out,
                                struct err *e);
NODISCARD enum status line_count(const struct json *line, const char *key, uint64_t absent,
                                 uint64_t most, uint64_t *out, struct err *e);
NODISCARD enum status line_real(const struct json *line, const char *key, float absent, float *out,
                                struct err *e);
/* "tokens": [ids], each < n_vocab; required. */
NODISCARD enum status line_tokens(const struct json *line, uint32_t n_vocab, struct token_list *out,
                                  struct err *e);

/* ---- the commands ---- */
int command_serve(const struct config *c);
int command_run(const struct config *c);
int command_chat(const struct config *c);
int command_eval_tokenize(const struct config *c);
int command_eval_logits(const struct config *c);
int command_eval_generate(const struct config *c);
int command_eval_nll(const struct config *c);
int command_eval_perplexity(const struct config *c);
int command_eval_render(const struct config *c);
int command_eval_jinja(const struct config *c);
int command_store_ls(const struct config *c);
int command_store_records(const struct config *c); /* store ls --records */
int command_store_change(const struct config *c);  /* fork, pin, unpin, tag, rename, rm, gc */
int command_store_show(const struct config *c);
int command_store_export(const struct config *c);
int command_store_import(const struct config *c);
int command_store_explain(const struct config *c);
int command_store_rebuild(const struct config *c);
int command_store_stat(const struct config *c);
int command_store_verify(const struct config *c);
int command_models(const struct config *c);
int command_pull(const struct config *c);
int command_bench(int argc, char **argv);
int command_version(const struct config *c);

#endif
