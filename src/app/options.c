/* SPDX-License-Identifier: MIT
 * options.c — the table of options.  Help, docs/cli.md, the file and the environment follow it. */
#include "app/app_int.h"
#include "fetch/fetch.h"

#define BIT(command) (1ull << COMMAND_##command)
#define FOR_SERVE    BIT(SERVE)
#define FOR_TALK     (BIT(RUN) | BIT(CHAT))
#define FOR_SCORE    (BIT(EVAL_LOGITS) | BIT(EVAL_NLL) | BIT(EVAL_PERPLEXITY))
#define FOR_ENGINE   (FOR_SERVE | FOR_TALK | FOR_SCORE | BIT(EVAL_GENERATE) | BIT(STORE_EXPLAIN))
#define FOR_LOOK     (BIT(STORE_LS) | BIT(STORE_STAT) | BIT(STORE_VERIFY))
#define FOR_STORE    (FOR_SESSION | FOR_LOOK | BIT(STORE_GC) | BIT(STORE_REBUILD))
#define FOR_SESSION                                                                               \
    (BIT(STORE_LS) | BIT(STORE_SHOW) | BIT(STORE_FORK) | BIT(STORE_PIN) | BIT(STORE_UNPIN) |      \
     BIT(STORE_CREATE) | BIT(STORE_TAG) | BIT(STORE_RENAME) | BIT(STORE_RM) | BIT(STORE_EXPIRE) | \
     BIT(STORE_PUBLIC) | BIT(STORE_EXPORT) | BIT(STORE_IMPORT))
#define FOR_ALL ((1ull << COMMAND_COUNT) - 1)

const struct option_row option_rows[OPTION_COUNT] = {
    [OPTION_MODEL] = {"-m --model", "model", KIND_TEXT, "MODEL",
                      .used_by = FOR_ENGINE | BIT(EVAL_TOKENIZE) | BIT(EVAL_RENDER),
                      .doc = "a .gguf file, or the name of one in the models folder; without it: "
                             "the embedded skald"},
    [OPTION_HOST] = {"--host", "host", KIND_TEXT, "HOST", .initial = "127.0.0.1",
                     .used_by = FOR_SERVE, .doc = "address to listen on"},
    [OPTION_PORT] = {"--port", "port", KIND_COUNT, "PORT", .most = 65535, .initial = "8080",
                     .used_by = FOR_SERVE, .doc = "port to listen on; 0 picks a free one"},
    [OPTION_ALIAS] = {"-a --alias", "alias", KIND_TEXT, "NAME", .used_by = FOR_SERVE,
                      .doc = "the name of the model in /v1/models"},
    [OPTION_MODELS_DIR] =
        {"--models-dir", "models-dir", KIND_TEXT, "DIR", .used_by = FOR_SERVE,
         .doc = "requests may name the .gguf files of DIR too: they are loaded when asked for; the "
                "model of -m is the default and stays; without DIR it answers to any name"},
    [OPTION_MODEL_TTL] = {"--model-ttl", "model-ttl", KIND_COUNT, "SECONDS", .most = 31536000,
                          .initial = "300", .used_by = FOR_SERVE,
                          .doc = "a model of --models-dir goes after so long without a request; 0: "
                                 "never; requests may say otherwise (keep_alive, ttl)"},
    [OPTION_MODELS_MAX_BYTES] = {"--models-max-bytes", "models-max-bytes", KIND_SIZE, "SIZE",
                                 .initial = "0", .used_by = FOR_SERVE,
                                 .doc = "ceiling of the weights and of the KV in memory of all "
                                        "loaded models, e.g. 24G: the idle one that was used "
                                        "least lately goes; 0: what memory allows"},
    [OPTION_API_KEY] =
        {"--api-key", "api-key", KIND_TEXT, "KEY", .used_by = FOR_SERVE,
         .doc = "ask clients for this key; visible to other users in ps, so prefer --api-key-file"},
    [OPTION_API_KEY_FILE] = {"--api-key-file", "api-key-file", KIND_TEXT, "FILE",
                             .used_by = FOR_SERVE,
                             .doc =
                                 "ask clients for one of the keys in FILE; a line is KEY [TENANT] "
                                 "[admin] [requests=N] [tokens=N] [concurrent=N]; tenants share "
                                 "nothing; read again at SIGHUP"},
    [OPTION_ALLOW_ORIGIN] =
        {"--allow-origin", "allow-origin", KIND_TEXT, "ORIGIN", .used_by = FOR_SERVE,
         .doc = "web pages of other sites that may call, one origin or *; default none"},
    [OPTION_STORE] = {"--store", "store", KIND_TEXT, "DIR", .used_by = FOR_ENGINE | FOR_STORE,
                      .doc = "where the KV cache is kept; \"none\" keeps nothing; default "
                             "$XDG_DATA_HOME/kvasir, none for eval"},
    [OPTION_STORE_MAX_BYTES] =
        {"--store-max-bytes", "store-max-bytes", KIND_SIZE, "SIZE", .used_by = FOR_SERVE | FOR_TALK,
         .doc = "ceiling of KV on disk, e.g. 20G; default a quarter of what is free"},
    [OPTION_STORE_MAX_WRITE_PER_DAY] =
        {"--store-max-write-per-day", "store-max-write-per-day", KIND_SIZE, "SIZE",
         .used_by = FOR_SERVE | FOR_TALK,
         .doc = "KV is no longer kept on disk once this much was written in a UTC day, e.g. 50G; "
                "default no ceiling"},
    [OPTION_STORE_SCRUB_RATE] =
        {"--store-scrub-rate", "store-scrub-rate", KIND_SIZE, "SIZE", .initial = "4M",
         .used_by = FOR_SERVE,
         .doc = "bytes a second that are read again in the background to find damage; 0: none"},
    [OPTION_HISTORY_DAYS] =
        {"--history-days", "history-days", KIND_COUNT, "DAYS", .most = 36500, .initial = "30",
         .used_by = FOR_SERVE,
         .doc = "token ids of chats without a session that nobody went on with for so long are let "
                "go; 0: never"},
    [OPTION_HISTORY_MAX_BYTES] = {"--history-max-bytes", "history-max-bytes", KIND_SIZE, "SIZE",
                                  .initial = "1G", .used_by = FOR_SERVE,
                                  .doc =
                                      "the same above this size, the oldest first; 0: no ceiling"},
    [OPTION_SESSION_DAYS] =
        {"--session-days", "session-days", KIND_COUNT, "DAYS", .most = 36500, .initial = "0",
         .used_by = FOR_SERVE,
         .doc = "sessions and stored responses not used for so long are deleted, pinned ones "
                "excepted; 0: never"},
    [OPTION_STORE_KEY_FILE] =
        {"--store-key-file", "store-key-file", KIND_TEXT, "FILE",
         .used_by = FOR_ENGINE | FOR_SESSION | BIT(STORE_GC) | BIT(STORE_VERIFY),
         .doc =
             "encrypt what is stored from now on (AES-256-GCM) with the key in FILE: 32 bytes, or "
             "64 hexadecimal digits (openssl rand -hex 32); pages are then decrypted into "
             "memory instead of mapped"},
    [OPTION_STORE_READ_ONLY] =
        {"--store-read-only", "store-read-only", KIND_FLAG, .used_by = FOR_ENGINE,
         .doc = "use what is stored, add nothing; works while another process writes"},
    [OPTION_TAKE_OVER] = {"--take-over", NULL, KIND_FLAG, .used_by = FOR_SERVE,
                          .doc = "replace the server that has this store: it hands its socket over "
                                 "and ends; no request is lost"},
    [OPTION_CTX] = {"-c --ctx --ctx-size", "ctx", KIND_COUNT, "TOKENS", .most = 1 << 24,
                    .initial = "0", .used_by = FOR_ENGINE,
                    .doc = "context length; 0: the model's, or what memory allows"},
    [OPTION_KV_TYPE] =
        {"--kv-type -ctk -ctv --cache-type-k --cache-type-v", "kv-type", KIND_CHOICE, "TYPE",
         .choices = "f16 f32 q8_0 q4 q4_0", .initial = "f16", .used_by = FOR_ENGINE,
         .doc = "how K and V are kept: q8_0 takes 53 % of f16's memory and disk, q4 41 % "
                "(K in 8 bits, V in 4; also called q4_0)"},
    [OPTION_ACTIVATIONS] = {"--activations", "activations", KIND_CHOICE, "KIND",
                            .choices = "q8 f32", .initial = "q8", .used_by = FOR_ENGINE,
                            .doc = "8-bit activations in products with quantized weights, or "
                                   "everything in f32: slower, for comparing with references"},
    [OPTION_THREADS] = {"-t --threads", "threads", KIND_COUNT, "N", .most = 256, .initial = "0",
                        .used_by = FOR_ENGINE, .doc = "0: the processors this process may use"},
    [OPTION_PIN] = {"--pin", "pin", KIND_CHOICE, "WHEN", .choices = "auto on off",
                    .initial = "auto", .used_by = FOR_ENGINE,
                    .doc = "keep the threads to processors: on, each to one of its own; auto, "
                           "together to the best ones of one node or of the fast kind where "
                           "there are several and nobody chose; see docs/threads.md"},
    [OPTION_POOLING] = {"--pooling", "pooling", KIND_CHOICE, "KIND",
                        .choices = "auto last mean cls", .initial = "auto", .used_by = FOR_SERVE,
                        .doc = "how the vectors of a text's tokens become its embedding; auto: as "
                               "the file says, else the last one's"},
    [OPTION_PARALLEL] = {"-np --parallel", "parallel", KIND_COUNT, "N", .most = ENGINE_PARALLEL_MAX,
                         .initial = "0", .used_by = FOR_SERVE | FOR_SCORE | BIT(EVAL_GENERATE),
                         .doc = "sequences decoded together; 0: 8 when serving, 1 in eval"},
    [OPTION_QUEUE] = {"--queue", "queue", KIND_COUNT, "N", .least = 1, .most = ENGINE_QUEUE_MAX,
                      .initial = "1024", .used_by = FOR_SERVE,
                      .doc = "requests open at once, those that run included; one more is told to "
                             "come back (429)"},
    [OPTION_STALL_MS] = {"--stall-ms", "stall-ms", KIND_COUNT, "MS", .least = 1, .most = 60000,
                         .initial = "60", .used_by = FOR_SERVE,
                         .doc =
                             "prompts are computed in pieces, so that streams beside them wait at "
                             "most about this long for a token, or twice as long as without"},
    [OPTION_CHUNK] = {"--chunk", "chunk", KIND_COUNT, "TOKENS", .most = 1 << 20, .initial = "0",
                      .used_by = FOR_ENGINE,
                      .doc = "prompt tokens of one step; 0: the default; no result depends on it"},
    [OPTION_SPECULATE] =
        {"--speculate", "speculate", KIND_COUNT, "N", .choices = "auto off", .least = 1,
         .most = ENGINE_SPECULATE_MAX, .initial = "auto",
         .used_by = FOR_SERVE | FOR_TALK | BIT(EVAL_GENERATE),
         .doc =
             "verify up to N guessed tokens at once where the text repeats itself, or off; auto: "
             "as many as measurably pay; no result depends on it"},
    [OPTION_CACHE_MAX_BYTES] = {"--cache-max-bytes", "cache-max-bytes", KIND_SIZE, "SIZE",
                                .used_by = FOR_SERVE | FOR_TALK,
                                .doc = "ceiling of KV in memory; default half of what is free"},
    [OPTION_ISA] = {"--isa", "isa", KIND_CHOICE, "ISA",
                    .choices = "auto ref avx2 avx2-vnni avx512 avx512-vnni", .initial = "auto",
                    .used_by = FOR_ENGINE,
                    .doc = "instruction set of the kernels; all give the same bits"},
    [OPTION_REPLAY] =
        {"--replay", "replay", KIND_CHOICE, "SWITCH", .choices = "on off", .initial = "on",
         .used_by = FOR_SERVE | FOR_TALK,
         .doc = "replay the token ids that the model wrote when a client sends its answers back"},
    [OPTION_PROMPT_HYGIENE] =
        {"--prompt-hygiene", "prompt-hygiene", KIND_CHOICE, "SWITCH", .choices = "on off",
         .initial = "on", .used_by = FOR_SERVE,
         .doc =
             "take known nonces of clients off the front of system prompts, and name them in the "
             "reply: otherwise no such prompt is ever found again"},
    [OPTION_SESSION] = {"--session", NULL, KIND_TEXT, "NAME", .used_by = BIT(CHAT),
                        .doc = "keep the conversation under this name and go on with it next time"},
    [OPTION_SYSTEM] = {"-sys --system", NULL, KIND_TEXT, "TEXT", .used_by = FOR_TALK,
                       .doc = "the system message"},
    [OPTION_RAW] = {"--raw", NULL, KIND_FLAG, .used_by = BIT(RUN),
                    .doc = "the prompt is plain text to be continued, without the chat template"},
    [OPTION_MAX_TOKENS] = {"-n --max-tokens --n-predict", "max-tokens", KIND_COUNT, "N",
                           .least = -1, .most = 1 << 24, .used_by = FOR_TALK,
                           .doc = "tokens to generate at most; default to the end of the context"},
    [OPTION_TEMPERATURE] =
        {"--temperature --temp", "temperature", KIND_REAL, "X", .most = 1e6, .used_by = FOR_TALK,
         .doc = "0 always takes the likeliest token; default the model's, else 0.8"},
    [OPTION_TOP_K] = {"--top-k", "top-k", KIND_COUNT, "N", .least = -1, .most = 1 << 24,
                      .used_by = FOR_TALK,
                      .doc = "draw among the N likeliest; 0: all; default the model's, else 40"},
    [OPTION_TOP_P] =
        {"--top-p", "top-p", KIND_REAL, "P", .most = 1, .used_by = FOR_TALK,
         .doc = "draw among the likeliest that make up P; default the model's, else 0.95"},
    [OPTION_MIN_P] = {"--min-p", "min-p", KIND_REAL, "P", .most = 1, .used_by = FOR_TALK,
                      .doc = "leave out what is less than P times as likely as the likeliest; "
                             "default the model's, else 0.05"},
    [OPTION_SEED] = {"-s --seed", "seed", KIND_COUNT, "N", .most = 9007199254740992.0,
                     .used_by = FOR_TALK,
                     .doc =
                         "of the draws; the same seed gives the same text; default a random one"},
    [OPTION_TIMINGS] = {"--timings", NULL, KIND_FLAG, .used_by = FOR_TALK,
                        .doc = "say on stderr where the prompt's tokens came from and what it "
                               "cost, also when that is not a terminal"},
    [OPTION_DETOKENIZE] = {"--detokenize", NULL, KIND_FLAG, .used_by = BIT(EVAL_TOKENIZE),
                           .doc = "the reverse: {\"tokens\"} to {\"text\"}"},
    [OPTION_TEMPLATE] = {"--template", NULL, KIND_TEXT, "FILE", .used_by = BIT(EVAL_RENDER),
                         .doc = "a Jinja chat template instead of the model's"},
    [OPTION_FILE] = {"-f --file", NULL, KIND_TEXT, "FILE", .used_by = BIT(EVAL_PERPLEXITY),
                     .doc = "the text; required"},
    [OPTION_WINDOWS] = {"--windows", NULL, KIND_COUNT, "N", .most = 1 << 20, .initial = "0",
                        .used_by = BIT(EVAL_PERPLEXITY), .doc = "only the first N windows; 0: all"},
    [OPTION_RECORDS] = {"--records", NULL, KIND_FLAG, .used_by = BIT(STORE_LS),
                        .doc = "all records by kind, in the place of sessions"},
    [OPTION_TENANT] = {"--tenant", NULL, KIND_TEXT, "NAME", .initial = "default",
                       .used_by = FOR_SESSION | BIT(STORE_EXPLAIN) | BIT(STORE_VERIFY),
                       .doc = "whose sessions"},
    [OPTION_LIST_TAG] = {"--tag", NULL, KIND_TEXT, "TAG", .used_by = BIT(STORE_LS),
                         .doc = "only those with this tag"},
    [OPTION_HISTORY] = {"--history", NULL, KIND_FLAG, .used_by = BIT(STORE_SHOW),
                        .doc = "its messages too"},
    [OPTION_AT] = {"--at", NULL, KIND_COUNT, "TOKENS", .most = 1 << 24, .initial = "0",
                   .used_by = BIT(STORE_FORK) | BIT(STORE_PUBLIC),
                   .doc = "its first TOKENS; 0: all"},
    [OPTION_AT_MESSAGE] = {"--at-message", NULL, KIND_COUNT, "N", .most = 1 << 18, .initial = "0",
                           .used_by = BIT(STORE_FORK), .doc = "up to the end of message N"},
    [OPTION_AS] = {"--as", NULL, KIND_TEXT, "NAME", .used_by = BIT(STORE_FORK) | BIT(STORE_IMPORT),
                   .doc = "the new session's name"},
    [OPTION_DAYS] = {"--days", NULL, KIND_COUNT, "DAYS", .least = 1, .most = 36500,
                     .used_by = BIT(STORE_EXPIRE), .doc = "not used for so long"},
    [OPTION_TREE] = {"--tree", NULL, KIND_FLAG, .used_by = BIT(STORE_EXPORT),
                     .doc = "with all that was forked from it"},
    [OPTION_TOKENS_ONLY] = {"--tokens-only", NULL, KIND_FLAG,
                            .used_by = BIT(STORE_EXPORT) | BIT(STORE_IMPORT),
                            .doc = "the conversation without its KV: also for another model"},
    [OPTION_TRUST] = {"--trust", NULL, KIND_FLAG, .used_by = BIT(STORE_IMPORT),
                      .doc = "share the pages with all of the tenant's sessions: only for files of "
                             "one's own, since wrong KV cannot be told from right"},
    [OPTION_BASE_URL] = {"--base-url", "base-url", KIND_TEXT, "URL",
                         .initial = "https://huggingface.co", .used_by = BIT(PULL) | FOR_SERVE,
                         .doc = "where OWNER/REPO is: a hub or a mirror of one"},
    [OPTION_CONNECTIONS] = {"--connections", "connections", KIND_COUNT, "N", .least = 1,
                            .most = FETCH_CONNECTIONS_MAX, .initial = "4", .used_by = BIT(PULL),
                            .doc = "ranges of a file that are fetched at once"},
    [OPTION_SHA256] = {"--sha256", NULL, KIND_TEXT, "HEX", .used_by = BIT(PULL),
                       .doc =
                           "what the file's SHA-256 must be; default what the server says of it, "
                           "if it does"},
    [OPTION_JSON] = {"--json", NULL, KIND_FLAG, .used_by = FOR_LOOK | FOR_SESSION | BIT(MODELS),
                     .doc = "JSON instead of a table"},
    [OPTION_CONFIG] =
        {"--config", NULL, KIND_TEXT, "FILE", .used_by = FOR_ALL & ~(BIT(VERSION) | BIT(BENCH)),
         .doc = "lines of \"key = value\"; default $XDG_CONFIG_HOME/kvasir/config where it exists"},
    [OPTION_LOG_LEVEL] = {"--log-level", "log-level", KIND_CHOICE, "LEVEL",
                          .choices = "error warn info debug", .initial = "warn",
                          .used_by = FOR_ENGINE | FOR_STORE,
                          .doc = "what is told on stderr; serve: info unless set, and SIGHUP reads "
                                 "it again from the file"},
    [OPTION_LOG_FORMAT] = {"--log-format", "log-format", KIND_CHOICE, "FORMAT",
                           .choices = "text json", .initial = "text",
                           .used_by = FOR_ENGINE | FOR_STORE,
                           .doc = "lines of key=value, or a JSON object a line"},
};
