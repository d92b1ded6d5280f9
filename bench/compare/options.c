/* SPDX-License-Identifier: MIT
 * options.c — the options of `kvasir bench`, one row each; help and docs/cli.md follow them. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "bench/compare/compare.h"
#include "bench/compare/compare_int.h"
#include "os/cpu.h"

#define ANSWER_TOKENS_DEFAULT 32
#define CELL_SECONDS_DEFAULT  600
#define CELL_SECONDS_QUICK    90

enum option {
    OPT_SYSTEM,
    OPT_MODELS,
    OPT_SCENARIO,
    OPT_QUICK,
    OPT_LENGTHS,
    OPT_SESSIONS,
    OPT_TURNS,
    OPT_AGENTS,
    OPT_STEPS,
    OPT_STREAMS,
    OPT_BRANCHES,
    OPT_PROMPT,
    OPT_ANSWER,
    OPT_REPEAT,
    OPT_CELL_SECONDS,
    OPT_THREADS,
    OPT_TEXT,
    OPT_MCP,
    OPT_SEED,
    OPT_OUT,
    OPT_PLAN,
    OPT_SIMULATE,
    OPT_COMPUTE,
    OPT_RATE,
    OPT_LOAD_MS,
    OPT_TOKENS,
    OPT_SESSIONS_A_DAY,
    OPT_REPORT,
    OPT_COUNT
};

static const struct {
    const char *name, *value, *initial, *doc;
    double least, most;
} rows[OPT_COUNT] = {
    [OPT_SYSTEM] = {"--system", "NAME[=PATH|URL][,option=value…]", "kvasir",
                    "a system to compare, repeatable; see below", 0, 0},
    [OPT_MODELS] = {"--models", "[NAME=]FILE,…", NULL,
                    "GGUF files, one after the other; without it: the embedded skald, which only "
                    "kvasir has",
                    0, 0},
    [OPT_SCENARIO] = {"--scenario", "a,b|all", "cold-start,resume,chat,context",
                      "what is measured; see below", 0, 0},
    [OPT_QUICK] = {"--quick", NULL, NULL,
                   "cold-start, resume and chat, smaller, each request cut off after 90 s", 0, 0},
    [OPT_LENGTHS] = {"--lengths", "N,N", "67,512,2048,8192,20000",
                     "prompt tokens of context and sizes; longer than the model's context: "
                     "cut to it",
                     16, 10000000},
    [OPT_SESSIONS] = {"--sessions", "N", "3", "of resume", 1, 1000},
    [OPT_TURNS] = {"--turns", "N", "10", "of chat", 1, 1000},
    [OPT_AGENTS] = {"--agents", "K", "4", "of agents", 1, 64},
    [OPT_STEPS] = {"--steps", "N", "10", "model turns of tools; of agents a third of it", 1, 100},
    [OPT_STREAMS] = {"--streams", "N,N", "1,2,4,8,16", "streams at once, of concurrency", 1,
                     STREAMS_MAX},
    [OPT_BRANCHES] = {"--branches", "N", "8", "of branch", 1, 64},
    [OPT_PROMPT] = {"--prompt", "TOKENS", "2048",
                    "shared prefix of resume, agents, branch, concurrency", 64, 10000000},
    [OPT_ANSWER] = {"--answer", "TOKENS", "32", "of each answer", 1, 4096},
    [OPT_REPEAT] = {"--repeat", "N", "3", "of everything, systems in another order each time", 1,
                    REPEAT_MAX},
    [OPT_CELL_SECONDS] = {"--cell-seconds", "S", "600",
                          "a request that takes longer is cut off and marked", 1, 86400},
    [OPT_THREADS] = {"--threads", "N", "0", "of each server; 0: the processors there are", 0, 256},
    [OPT_TEXT] = {"--text", NULL, NULL,
                  "plain text in the place of chat messages, for models without a template", 0, 0},
    [OPT_MCP] = {"--mcp", "COMMAND", NULL,
                 "the MCP server of tools, run by sh; default: the one of this program", 0, 0},
    [OPT_SEED] = {"--seed", "N", "1", "of the prompts' words", 0, 1000000},
    [OPT_OUT] = {"--out", "DIR", "bench-results",
                 "where results.json, report.html and report.md go", 0, 0},
    [OPT_PLAN] = {"--plan", NULL, NULL, "say what would run, and how long; run nothing", 0, 0},
    [OPT_SIMULATE] = {"--simulate", NULL, NULL,
                      "kvasir measured, a rival modelled that computes every prompt again; without "
                      "--scenario and --lengths: the prototype's table (resume, chat, context at "
                      "67, 2000 and 20000 tokens)",
                      0, 0},
    [OPT_COMPUTE] = {"--compute", NULL, NULL, "formulas only; nothing is measured", 0, 0},
    [OPT_RATE] = {"--rate", "TOK/S", "0",
                  "a rival's prefill, for --simulate, --compute and --plan; 0: our own", 0, 1e9},
    [OPT_LOAD_MS] = {"--load-ms", "MS", "1", "taking a stored prompt back, for --compute", 0, 1e9},
    [OPT_TOKENS] = {"--impact-tokens", "N", "20000", "prompt tokens of a session, for the impact",
                    1, 1e9},
    [OPT_SESSIONS_A_DAY] = {"--impact-sessions", "N", "5", "sessions a day, for the impact", 0.01,
                            1e6},
    [OPT_REPORT] = {"--report", "results.json,…", NULL,
                    "table and reports of runs that were, several of one machine merged into "
                    "one; measures nothing",
                    0, 0},
};

struct reading {
    struct options *o;
    bool has[OPT_COUNT];
    struct err *e;
};

/* ---- values ---- */
static enum status number_of(const char *text, enum option id, double *out, struct err *e)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end || !(v >= rows[id].least && v <= rows[id].most))
        return err_set(e, E_INVALID, "%s wants a number from %g to %g, not \"%s\"", rows[id].name,
                       rows[id].least, rows[id].most, text);
    *out = v;
    return OK;
}

static enum status count_of(const char *text, enum option id, uint32_t *out, struct err *e)
{
    double v = 0;
    enum status st = number_of(text, id, &v, e);
    if (st == OK && (v < (double)(uint32_t)v || v > (double)(uint32_t)v))
        return err_set(e, E_INVALID, "%s wants a whole number", rows[id].name);
    if (st == OK)
        *out = (uint32_t)v;
    return st;
}

static enum status read_scenarios(struct options *o, const char *text, struct err *e)
{
    o->scenarios = 0;
    while (*text) {
        size_t n = strcspn(text, ",");
        int found = -1;
        for (int i = SCENARIO_WARM_UP + 1; i < SCENARIO_COUNT; i++)
            if (scenarios[i].run && slice_is((struct slice){text, n}, scenarios[i].name))
                found = i;
        if (n == 3 && strncmp(text, "all", 3) == 0)
            for (int i = 0; i < SCENARIO_COUNT; i++)
                o->scenarios |= scenarios[i].run ? 1u << i : 0;
        else if (found < 0)
            return err_set(e, E_INVALID, "--scenario: no scenario \"%.*s\"", (int)n, text);
        else
            o->scenarios |= 1u << found;
        text += n + (text[n] == ',');
    }
    return o->scenarios ? OK : err_set(e, E_INVALID, "--scenario wants names");
}

static enum status read_list(const char *text, enum option id, uint32_t *list, uint32_t *n_list,
                             struct err *e)
{
    *n_list = 0;
    while (*text) {
        char word[24];
        size_t n = strcspn(text, ",");
        if (n == 0 || n >= sizeof word || *n_list == LENGTHS_MAX)
            return err_set(e, E_INVALID, "%s wants up to %u numbers", rows[id].name, LENGTHS_MAX);
        memcpy(word, text, n);
        word[n] = '\0';
        enum status st = count_of(word, id, &list[(*n_list)++], e);
        if (st != OK)
            return st;
        text += n + (text[n] == ',');
    }
    return *n_list ? OK : err_set(e, E_INVALID, "%s wants numbers", rows[id].name);
}

static enum status read_models(struct options *o, const char *text, struct err *e)
{
    while (*text) {
        size_t n = strcspn(text, ","), name = strcspn(text, "=,");
        if (o->n_models == MODELS_MAX || n >= PLACE_PATH_BYTES)
            return err_set(e, E_LIMIT, "--models: at most %u, each of %u bytes", MODELS_MAX,
                           PLACE_PATH_BYTES);
        const char *path = name < n ? text + name + 1 : text;
        size_t path_len = n - (size_t)(path - text);
        snprintf(o->models[o->n_models].path, PLACE_PATH_BYTES, "%.*s", (int)path_len, path);
        const char *base = strrchr(o->models[o->n_models].path, '/');
        base = base ? base + 1 : o->models[o->n_models].path;
        if (name < n)
            snprintf(o->models[o->n_models].name, NAME_BYTES, "%.*s", (int)name, text);
        else
            snprintf(o->models[o->n_models].name, NAME_BYTES, "%.*s", (int)strcspn(base, "."),
                     base);
        if (slice_is(slice_of(o->models[o->n_models].path), "embedded"))
            o->models[o->n_models].path[0] = '\0';
        o->n_models++;
        text += n + (text[n] == ',');
    }
    return OK;
}

static enum status take(struct reading *g, enum option id, const char *v)
{
    struct options *o = g->o;
    struct err *e = g->e;
    g->has[id] = true;
    switch (id) {
    case OPT_SYSTEM:
        if (o->n_systems == SYSTEMS_MAX)
            return err_set(e, E_LIMIT, "--system: at most %u", SYSTEMS_MAX);
        o->systems[o->n_systems++] = v;
        return OK;
    case OPT_MODELS:
        return read_models(o, v, e);
    case OPT_SCENARIO:
        return read_scenarios(o, v, e);
    case OPT_QUICK:
        o->is_quick = true;
        return OK;
    case OPT_LENGTHS:
        return read_list(v, id, o->lengths, &o->n_lengths, e);
    case OPT_SESSIONS:
        return count_of(v, id, &o->sessions, e);
    case OPT_TURNS:
        return count_of(v, id, &o->turns, e);
    case OPT_AGENTS:
        return count_of(v, id, &o->agents, e);
    case OPT_STEPS:
        return count_of(v, id, &o->steps, e);
    case OPT_STREAMS:
        return read_list(v, id, o->streams, &o->n_streams, e);
    case OPT_BRANCHES:
        return count_of(v, id, &o->branches, e);
    case OPT_PROMPT:
        return count_of(v, id, &o->prompt_tokens, e);
    case OPT_ANSWER:
        return count_of(v, id, &o->answer_tokens, e);
    case OPT_REPEAT:
        return count_of(v, id, &o->repeats, e);
    case OPT_CELL_SECONDS:
        return count_of(v, id, &o->cell_seconds, e);
    case OPT_THREADS:
        return count_of(v, id, &o->threads, e);
    case OPT_SEED:
        return count_of(v, id, &o->seed, e);
    case OPT_TEXT:
        o->is_text = true;
        return OK;
    case OPT_MCP:
        o->mcp = v;
        return OK;
    case OPT_OUT:
        o->out = v;
        return OK;
    case OPT_PLAN:
        o->is_plan = true;
        return OK;
    case OPT_SIMULATE:
        o->mode = MODE_SIMULATE;
        return OK;
    case OPT_COMPUTE:
        o->mode = MODE_COMPUTE;
        return OK;
    case OPT_REPORT:
        o->mode = MODE_REPORT;
        o->report = v;
        return OK;
    case OPT_RATE:
        return number_of(v, id, &o->rate, e);
    case OPT_LOAD_MS:
        return number_of(v, id, &o->load_ms, e);
    case OPT_TOKENS:
        return number_of(v, id, &o->tokens_a_session, e);
    case OPT_SESSIONS_A_DAY:
        return number_of(v, id, &o->sessions_a_day, e);
    case OPT_COUNT:
    default:
        return err_set(e, E_INVALID, "no such option");
    }
}

static enum status read_word(struct reading *g, int argc, char **argv, int *i)
{
    const char *word = argv[*i];
    size_t n = strcspn(word, "=");
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        g->o->is_help = true;
        return OK;
    }
    for (int id = 0; id < OPT_COUNT; id++) {
        if (strlen(rows[id].name) != n || strncmp(rows[id].name, word, n) != 0)
            continue;
        bool wants = rows[id].value != NULL;
        if (!wants && word[n])
            return err_set(g->e, E_INVALID, "%s takes no value", rows[id].name);
        if (wants && !word[n] && *i + 1 >= argc)
            return err_set(g->e, E_INVALID, "%s wants a value: %s", rows[id].name, rows[id].value);
        const char *value = !wants ? "" : word[n] ? word + n + 1 : argv[++*i];
        return take(g, (enum option)id, value);
    }
    return err_set(g->e, E_INVALID, "unknown option %.60s; see kvasir bench --help", word);
}

/* ---- all of them ---- */
static enum status set_defaults(struct reading *g)
{
    for (int id = 0; id < OPT_COUNT; id++)
        if (rows[id].initial && id != OPT_SYSTEM) {
            enum status st = take(g, (enum option)id, rows[id].initial);
            if (st != OK)
                return st;
        }
    memset(g->has, 0, sizeof g->has);
    return OK;
}

static void quick(struct reading *g)
{
    struct options *o = g->o;
    if (!g->has[OPT_SCENARIO])
        o->scenarios = 1u << SCENARIO_COLD_START | 1u << SCENARIO_RESUME | 1u << SCENARIO_CHAT;
    if (!g->has[OPT_PROMPT])
        o->prompt_tokens = 1024;
    if (!g->has[OPT_ANSWER])
        o->answer_tokens = 16;
    if (!g->has[OPT_CELL_SECONDS])
        o->cell_seconds = CELL_SECONDS_QUICK;
    if (!g->has[OPT_LENGTHS]) {
        o->n_lengths = 2;
        o->lengths[0] = 512;
        o->lengths[1] = 2048;
    }
}

/* What the prototype's table holds. */
static void historic(struct reading *g)
{
    struct options *o = g->o;
    if (!g->has[OPT_SCENARIO])
        o->scenarios = 1u << SCENARIO_RESUME | 1u << SCENARIO_CHAT | 1u << SCENARIO_CONTEXT;
    if (!g->has[OPT_LENGTHS]) {
        static const uint32_t lengths[] = {67, 2000, 20000};
        o->n_lengths = ARRAY_COUNT(lengths);
        memcpy(o->lengths, lengths, sizeof lengths);
    }
}

enum status options_read(struct options *o, int argc, char **argv, struct err *e)
{
    struct reading g = {.o = o, .e = e};
    size_t at = 0;
    enum status st = set_defaults(&g);
    at += (size_t)snprintf(o->command, sizeof o->command, "kvasir bench");
    for (int i = 0; st == OK && i < argc; i++) {
        if (at < sizeof o->command)
            at += (size_t)snprintf(o->command + at, sizeof o->command - at, " %s", argv[i]);
    }
    for (int i = 0; st == OK && i < argc; i++)
        st = read_word(&g, argc, argv, &i);
    if (st != OK)
        return st;
    if (o->is_quick)
        quick(&g);
    if (o->mode == MODE_SIMULATE || o->mode == MODE_COMPUTE)
        historic(&g);
    if (o->n_systems == 0)
        o->systems[o->n_systems++] = "kvasir";
    if (o->n_models == 0)
        snprintf(o->models[o->n_models++].name, NAME_BYTES, "skald (embedded)");
    if (o->threads == 0)
        o->threads = cpu_count_usable();
    return OK;
}

/* ---- help ---- */
static void wrapped(FILE *out, const char *text, int column)
{
    int at = column;
    while (*text) {
        int word = (int)strcspn(text, " ");
        if (at > column && at + 1 + word > 100) {
            fprintf(out, "\n%*s", column, "");
            at = column;
        } else if (at > column) {
            fputc(' ', out);
            at++;
        }
        fprintf(out, "%.*s", word, text);
        at += word;
        text += word + (text[word] == ' ');
    }
    fputc('\n', out);
}

static void help_rows(FILE *out)
{
    for (int i = 0; i < OPT_COUNT; i++) {
        char doc[400];
        int n = fprintf(out, "  %s%s%s", rows[i].name, rows[i].value ? " " : "",
                        rows[i].value ? rows[i].value : "");
        if (n + 2 > 32) {
            fputc('\n', out);
            n = 0;
        }
        snprintf(doc, sizeof doc, "%s%s%s%s", rows[i].doc, rows[i].initial ? " [" : "",
                 rows[i].initial ? rows[i].initial : "", rows[i].initial ? "]" : "");
        fprintf(out, "%*s", 32 - n, "");
        wrapped(out, doc, 32);
    }
}

void compare_help(FILE *out)
{
    fputs("kvasir bench: kvasir and other local servers, the same work, timed on the wire\n\n"
          "usage: kvasir bench [options]\n\n"
          "Starts each system, asks the same questions, and says how long the first token took. "
          "Figures are\nlabelled measured, simulated or computed. The method is in "
          "docs/benchmark-method.md.\n\n"
          "  kvasir bench --quick\n"
          "  kvasir bench --models model.gguf --system kvasir --system llama-server=PATH "
          "--scenario resume,context\n"
          "  kvasir bench --system kvasir --system ollama,model=llama3.2 --system "
          "lmstudio,model=llama-3.2-1b --models model.gguf\n"
          "  kvasir bench --simulate --rate 219\n\noptions:\n",
          out);
    help_rows(out);
    fputs("\nscenarios:\n", out);
    for (int i = SCENARIO_WARM_UP + 1; i < SCENARIO_COUNT; i++) {
        if (!scenarios[i].run)
            continue;
        fprintf(out, "  %-14s", scenarios[i].name);
        wrapped(out, scenarios[i].about, 16);
    }
    fputs("\nsystems, and their options (name=TEXT names the row):\n", out);
    for (uint32_t i = 0; i < n_drivers; i++) {
        char text[400];
        fprintf(out, "  %-14s", drivers[i]->name);
        snprintf(text, sizeof text, "%s. Options: %s", drivers[i]->about,
                 drivers[i]->options[0] ? drivers[i]->options : "none");
        wrapped(out, text, 16);
    }
}

void compare_help_markdown(FILE *out)
{
    fputs("| option | default | |\n|---|---|---|\n", out);
    for (int i = 0; i < OPT_COUNT; i++) {
        fprintf(out, "| `%s", rows[i].name);
        if (rows[i].value)
            fputc(' ', out);
        for (const char *p = rows[i].value; p && *p; p++)
            fputs(*p == '|' ? "\\|" : (char[]){*p, '\0'}, out);
        fprintf(out, "` | %s | %s |\n", rows[i].initial ? rows[i].initial : "", rows[i].doc);
    }
}
