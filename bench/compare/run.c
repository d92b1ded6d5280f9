/* SPDX-License-Identifier: MIT
 * run.c — models, then a warm-up that guards, then scenarios × repeats × systems, the order of the
 * systems rotated; one system runs at a time. */
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/mem.h"
#include "bench/compare/compare_int.h"
#include "os/clock.h"
#include "os/fs.h"

#define WARM_UP_TOKENS   192u
#define WARM_UP_ANSWER   8u
#define MISCONFIGURED    20.0 /* times slower than the fastest: not what one would publish */
#define PROMPT_OFF_MOST  0.03 /* histories hold each system's own answers */
#define CLOCKS_OFF_MS    50.0
#define CLOCKS_OFF_SHARE 0.001
#define HASH_BLOCK       (1u << 20)
#define EMBEDDED_BYTES   8800000 /* kvasir's own model */

/* ---- what is planned ---- */
static double cost_of(const struct run *r, uint32_t i)
{
    double sum = scenarios[SCENARIO_WARM_UP].cost(r, &r->systems[i]);
    for (int id = 1; id < SCENARIO_COUNT; id++)
        if (r->options->scenarios & (1u << id))
            sum += r->options->repeats * scenarios[id].cost(r, &r->systems[i]);
    return sum;
}

static void minutes(double seconds, char *text, size_t size)
{
    if (seconds < 90)
        snprintf(text, size, "%.0f s", seconds);
    else
        snprintf(text, size, "%.0f min", seconds / 60);
}

/* What costs are guessed by. */
static void size_model(struct run *r, uint32_t index)
{
    const char *path = r->options->models[index].path;
    struct stat st;
    r->model_bytes =
        path[0] && stat(path, &st) == 0 && st.st_size > 0 ? st.st_size : EMBEDDED_BYTES;
}

void plan_print(FILE *out, struct run *r)
{
    double sum = 0;
    char text[32];
    for (uint32_t m = 0; m < r->options->n_models; m++) {
        size_model(r, m);
        fprintf(out, "model %s%s%s\n", r->options->models[m].name,
                r->options->models[m].path[0] ? ": " : "", r->options->models[m].path);
        for (int id = 0; id < SCENARIO_COUNT; id++) {
            if (id != SCENARIO_WARM_UP && !(r->options->scenarios & (1u << id)))
                continue;
            uint32_t n = id == SCENARIO_WARM_UP ? 1 : r->options->repeats;
            fprintf(out, "  %-13s × %u  ", scenarios[id].name, n);
            for (uint32_t i = 0; i < r->n_systems; i++) {
                double cost = n * scenarios[id].cost(r, &r->systems[i]);
                sum += cost;
                minutes(cost, text, sizeof text);
                fprintf(out, "%s%s %s", i ? ", " : "", r->systems[i].name, text);
            }
            fputc('\n', out);
        }
        fputs("  prompt tokens a second ", out);
        for (uint32_t i = 0; i < r->n_systems; i++) {
            double rate = r->options->rate;
            fprintf(out, "%s%s %.0f", i ? ", " : "", r->systems[i].name,
                    rate > 0 ? rate : guess_prefill_rate(r, &r->systems[i]));
        }
        fputs(r->options->rate > 0 ? "\n" : ": guessed by the file's size; --rate says better\n",
              out);
    }
    minutes(sum, text, sizeof text);
    fprintf(out, "about %s in all\n", text);
}

static void progress(struct run *r, const char *what, const char *who)
{
    double foreign = load_foreign(clock_now_ns());
    if (foreign > FOREIGN_MOST)
        fprintf(stderr, "  others take %.0f %% of this machine: what is timed now is marked\n",
                foreign * 100);
    double elapsed = clock_ms_since(r->begun_ns) / 1000;
    double left = r->all_cost - r->done_cost;
    /* After a while the plan is corrected by how long things really took. */
    if (r->done_cost > r->all_cost * 0.1)
        left *= elapsed / r->done_cost;
    char text[32];
    minutes(left > 0 ? left : 0, text, sizeof text);
    fprintf(stderr, "[%3.0f %%, about %s left] %s: %s, %s, %u of %u\n",
            r->all_cost > 0 ? fmin(99, 100 * r->done_cost / r->all_cost) : 0, text,
            r->options->models[r->model].name, what, who, r->repeat + 1, r->options->repeats);
}

/* ---- warm-up ---- */
static const char *likely_reason(const struct run *r, const struct system *s)
{
    if (r->model_path && (strstr(r->model_path, "bf16") || strstr(r->model_path, "BF16")))
        return "a bf16 file that its build computes without the instructions for it";
    if (s->driver->dialect != DIALECT_OPENAI)
        return "not on the device that was meant, or a model that does not fit";
    return "a build without this processor's instructions, or threads that wait for each other";
}

/* The first request of a process pays for pages and threads that come only once: the second one's
 * rates count. */
static bool warm_up_once(struct run *r, struct system *s, struct sample *c, uint64_t seed)
{
    struct talk t;
    struct buf text;
    struct answer a = {0};
    struct err e = {0};
    talk_init(&t);
    buf_init(&text, TALK_BYTES_MAX);
    bool is_ok = prompts_text(&r->prompts, WARM_UP_TOKENS, seed, &text, &e) == OK;
    if (is_ok) {
        talk_add(&t, "user", buf_slice(&text));
        struct ask ask = {.talk = &t, .max_tokens = WARM_UP_ANSWER};
        is_ok = cell_ask(r, s, c, &ask, &a);
    } else {
        cell_fail(r, s, c, &e);
    }
    answer_release(&a);
    talk_release(&t);
    buf_release(&text);
    return is_ok;
}

static void warm_up(struct run *r, struct system *s)
{
    struct sample first = cell(r, s, SCENARIO_WARM_UP, "first request", WARM_UP_TOKENS);
    struct sample c = cell(r, s, SCENARIO_WARM_UP, "second request", WARM_UP_TOKENS);
    struct start how = cell_how(r, WARM_UP_TOKENS + WARM_UP_ANSWER + 64);
    s->is_dropped = true; /* until it has shown that it works */
    if (!cell_start(r, s, &first, &how) || !warm_up_once(r, s, &first, 77))
        return;
    cell_add(r, &first);
    if (!warm_up_once(r, s, &c, 78))
        return;
    double tokens = c.prompt_tokens > 0 ? (double)c.prompt_tokens : WARM_UP_TOKENS;
    s->prefill_rate = c.first_ms > 0 ? tokens / c.first_ms * 1000 : 0;
    if (c.output_tokens > 1 && c.total_ms > c.first_ms)
        s->decode_rate = (double)(c.output_tokens - 1) / (c.total_ms - c.first_ms) * 1000;
    if (s->context_tokens > 0 && s->driver->dialect == DIALECT_OPENAI &&
        (r->context_tokens <= 0 || s->context_tokens < r->context_tokens))
        r->context_tokens = s->context_tokens;
    snprintf(c.note, sizeof c.note, "%.0f prompt tokens a second, then %.0f a second",
             s->prefill_rate, s->decode_rate);
    cell_add(r, &c);
    s->is_dropped = false;
}

/* No figure of a system that does not run the model as it should: the row says so instead. */
static void guard(struct run *r)
{
    double best = 0;
    uint32_t first = r->results->n_samples;
    while (first && r->results->samples[first - 1].scenario == SCENARIO_WARM_UP &&
           r->results->samples[first - 1].model == r->model)
        first--;
    for (uint32_t i = 0; i < r->n_systems; i++)
        if (!r->systems[i].is_dropped)
            best = fmax(best, r->systems[i].prefill_rate);
    for (uint32_t i = first; i < r->results->n_samples; i++) {
        struct sample *c = &r->results->samples[i];
        struct system *s = &r->systems[c->system];
        if (c->outcome != OUTCOME_DONE || strcmp(c->kase, "second request") != 0 ||
            s->prefill_rate * MISCONFIGURED >= best)
            continue;
        if (c->flags & FLAG_BUSY) {
            fprintf(stderr,
                    "  %s: %.0f times slower than the fastest at its warm-up, while others took "
                    "%.0f %% of the machine: not judged\n",
                    s->name, best / s->prefill_rate, c->foreign * 100);
            continue;
        }
        s->is_dropped = true;
        c->flags |= FLAG_MISCONFIGURED;
        snprintf(c->note, sizeof c->note,
                 "misconfigured: %.2f prompt tokens a second, %.0f times slower than the fastest; "
                 "likely %s",
                 s->prefill_rate, best / s->prefill_rate, likely_reason(r, s));
        fprintf(stderr, "  %s: %s\n", s->name, c->note);
    }
}

/* ---- rule 3: the same bytes in, and what came out ---- */
static bool is_same_cell(const struct sample *a, const struct sample *b)
{
    return a->model == b->model && a->scenario == b->scenario && a->repeat == b->repeat &&
           a->x >= b->x && a->x <= b->x && strcmp(a->kase, b->kase) == 0;
}

/* The first system's answer to the same prompt.  A cell of several requests (streams, agents) has
 * them in one order for all systems. */
static const struct sample *first_system_of(const struct results *r, const struct sample *s)
{
    uint32_t before = 0;
    for (const struct sample *o = r->samples; o < s; o++)
        before += o->system == s->system && is_same_cell(o, s);
    for (uint32_t i = 0; i < r->n_samples; i++) {
        const struct sample *o = &r->samples[i];
        if (o->system == 0 && is_same_cell(o, s) && before-- == 0)
            return o->outcome == OUTCOME_DONE ? o : NULL;
    }
    return NULL;
}

static void compare_answers(struct results *r)
{
    for (uint32_t i = 0; i < r->n_samples; i++) {
        struct sample *s = &r->samples[i];
        const struct sample *o = s->system ? first_system_of(r, s) : NULL;
        if (!o || s->outcome != OUTCOME_DONE)
            continue;
        if (o->prompt_tokens > 0 && s->prompt_tokens > 0 &&
            fabs((double)(o->prompt_tokens - s->prompt_tokens)) >
                PROMPT_OFF_MOST * (double)o->prompt_tokens)
            s->flags |= FLAG_OTHER_PROMPT;
        if (!s->answer[0] || !o->answer[0] || strcmp(s->answer, o->answer) == 0)
            continue;
        s->flags |= FLAG_OTHER_ANSWER;
        size_t at = 0;
        while (s->opening[at] && s->opening[at] == o->opening[at])
            at++;
        size_t from = at > 12 ? at - 12 : 0;
        while (from && ((unsigned char)s->opening[from] & 0xc0u) == 0x80u)
            from--;
        if (s->note[0])
            continue;
        snprintf(s->note, sizeof s->note,
                 "answer differs from %.30s's at byte %zu: “%.40s”, “%.40s”", r->systems[0].name,
                 at, s->opening + from, o->opening + from);
        for (char *c = s->note; *c; c++)
            if (*c == '\n')
                *c = ' ';
    }
}

/* ---- models ---- */
static void hash_file(const char *path, struct model_row *m)
{
    struct digester d = {0};
    char *block = mem_new(1, HASH_BLOCK);
    FILE *f = fopen(path, "rbe");
    size_t n;
    digest_begin(&d);
    while (f && (n = fread(block, 1, HASH_BLOCK, f)) > 0) {
        digest_bytes(&d, block, n);
        m->bytes += (int64_t)n;
    }
    struct digest sum = digest_end(&d);
    if (f) {
        digest_hex(&sum, m->sha256);
        fclose(f);
    }
    digester_release(&d);
    mem_free(block);
}

static void begin_model(struct run *r, uint32_t index)
{
    const struct options *o = r->options;
    struct model_row *m = &r->results->models[index];
    r->model = index;
    r->repeat = 0;
    r->model_path = o->models[index].path[0] ? o->models[index].path : NULL;
    r->context_tokens = -1;
    size_model(r, index);
    *m = (struct model_row){.context_tokens = -1};
    snprintf(m->name, sizeof m->name, "%s", o->models[index].name);
    snprintf(m->path, sizeof m->path, "%s", o->models[index].path);
    if (r->model_path)
        hash_file(r->model_path, m);
    r->results->n_models = index + 1;
    prompts_init(&r->prompts, o, r->model_path);
    for (uint32_t i = 0; i < r->n_systems; i++) {
        struct system *s = &r->systems[i];
        s->is_dropped = s->is_unusable;
        s->n_hung = 0;
        s->context_tokens = -1;
        s->prefill_rate = s->decode_rate = 0;
    }
}

static void one(struct run *r, struct system *s, enum scenario_id id)
{
    progress(r, scenarios[id].name, s->name);
    if (s->is_dropped) {
        struct sample c = cell(r, s, id, "not tried", 0);
        c.outcome = OUTCOME_SKIPPED;
        snprintf(c.note, sizeof c.note, "%s",
                 s->is_unusable ? r->results->systems[s - r->systems].note
                                : "left alone: see its warm-up or earlier failures");
        if (r->repeat == 0)
            results_add(r->results, &c);
    } else if (id == SCENARIO_WARM_UP) {
        warm_up(r, s);
    } else {
        scenarios[id].run(r, s, id);
    }
    system_kill(s);
    snprintf(r->results->systems[s - r->systems].command, sizeof r->results->systems[0].command,
             "%s", s->command);
    snprintf(r->results->systems[s - r->systems].version, sizeof r->results->systems[0].version,
             "%s", s->version);
    r->results->systems[s - r->systems].is_dropped |= s->is_dropped;
    r->done_cost += scenarios[id].cost(r, s);
}

/* Two clocks that disagree: one was set, or the machine slept, and times are not what they seem. */
static void look_at_clocks(const struct run *r)
{
    double mono = clock_ms_since(r->begun_ns), wall = (double)(clock_unix_ms() - r->begun_unix_ms);
    if (fabs(mono - wall) > CLOCKS_OFF_MS + mono * CLOCKS_OFF_SHARE)
        fprintf(stderr,
                "  the clocks disagree by %.0f ms over %.0f s: one was set, or the machine slept\n",
                wall - mono, mono / 1000);
}

static enum status keep(struct run *r, struct err *e)
{
    char path[PLACE_PATH_BYTES];
    struct buf json;
    buf_init(&json, 1u << 30);
    r->results->seconds = clock_ms_since(r->begun_ns) / 1000;
    r->results->is_interrupted = atomic_load(&is_interrupted);
    results_write(r->results, &json);
    snprintf(path, sizeof path, "%.1000s/results.json", r->options->out);
    enum status st = json.failed ? err_set(e, E_LIMIT, "results too large")
                                 : fs_write_file(os_fs_real(), path, json.ptr, json.len, e);
    buf_release(&json);
    return st;
}

static enum status run_model(struct run *r, struct err *e)
{
    enum status st = OK;
    double rest = 0;
    for (uint32_t i = 0; i < r->n_systems && !atomic_load(&is_interrupted); i++)
        one(r, &r->systems[i], SCENARIO_WARM_UP);
    guard(r);
    r->results->models[r->model].context_tokens = r->context_tokens;
    for (uint32_t i = 0; i < r->n_systems; i++) /* now the rates are known */
        rest += r->systems[i].is_dropped ? 0 : cost_of(r, i);
    r->all_cost = fmax(r->done_cost, 0) + rest * (r->options->n_models - r->model);
    for (int id = 1; st == OK && id < SCENARIO_COUNT; id++) {
        if (!(r->options->scenarios & (1u << id)))
            continue;
        for (r->repeat = 0; st == OK && r->repeat < r->options->repeats; r->repeat++) {
            for (uint32_t i = 0; st == OK && i < r->n_systems && !atomic_load(&is_interrupted);
                 i++) {
                one(r, &r->systems[(i + r->repeat) % r->n_systems], (enum scenario_id)id);
                st = keep(r, e);
            }
            look_at_clocks(r);
        }
        r->repeat = 0;
    }
    return st;
}

enum status run_all(struct run *r, struct err *e)
{
    enum status st = fs_make_dirs(os_fs_real(), r->options->out, e);
    if (st == OK)
        st = load_start(e);
    r->begun_ns = clock_now_ns();
    r->begun_unix_ms = clock_unix_ms();
    for (uint32_t m = 0; m < r->options->n_models; m++) {
        size_model(r, m);
        for (uint32_t i = 0; i < r->n_systems; i++)
            r->all_cost += cost_of(r, i);
    }
    for (uint32_t m = 0; st == OK && m < r->options->n_models && !atomic_load(&is_interrupted);
         m++) {
        begin_model(r, m);
        st = run_model(r, e);
    }
    load_stop();
    compare_answers(r->results);
    return st == OK ? keep(r, e) : st;
}
