/* SPDX-License-Identifier: MIT
 * eval_generate.c — tokens that follow tokens, several lines at a time, answered in order.
 * A window of --parallel lines: the oldest is waited for and written, then the next line is read.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "app/app_int.h"
#include "base/mem.h"

#define N_DEFAULT     64
#define OUT_BYTES_MAX (256u << 20)
#define SEED_MAX      INT64_MAX

struct pending {
    struct ask *ask; /* NULL: it failed before it began */
    struct err error;
};

struct generator {
    struct engine *engine;
    struct pending *window; /* [size], a ring */
    uint32_t size, first, count;
    struct buf out;
};

/* All 64 bits: a seed that an answer reported must be good to be given again. */
static enum status read_seed(const struct json *line, struct engine_request *r, struct err *e)
{
    const struct json *v = json_get(line, "seed");
    if (!v || v->kind == JSON_NULL)
        return OK;
    char *end = NULL;
    errno = 0;
    bool is_number = v->kind == JSON_INT || v->kind == JSON_REAL;
    r->sampling.seed = is_number ? strtoull(v->text.ptr, &end, 10) : 0;
    if (!is_number || errno != 0 || v->text.ptr[0] == '-' || end != v->text.ptr + v->text.len)
        return err_set(e, E_INVALID, "\"seed\" must be a whole number from 0 to %llu",
                       (unsigned long long)UINT64_MAX);
    r->has_seed = true;
    return OK;
}

static enum status read_sampling(const struct json *line, struct engine_request *r, struct err *e)
{
    struct sampler_params *p = &r->sampling;
    *p = sampler_defaults();
    /* The bare model is what is asked for: every filter is off unless the line sets it. */
    uint64_t top_k = 0;
    const struct {
        const char *key;
        float absent, *out;
    } reals[] = {
        {"temperature", 0, &p->temperature},
        {"top_p", 1, &p->top_p},
        {"min_p", 0, &p->min_p},
        {"typical_p", 1, &p->typical_p},
        {"repeat_penalty", 1, &p->repeat_penalty},
        {"presence_penalty", 0, &p->presence_penalty},
        {"frequency_penalty", 0, &p->frequency_penalty},
    };
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++) {
        enum status st = line_real(line, reals[i].key, reals[i].absent, reals[i].out, e);
        if (st != OK)
            return st;
    }
    enum status st = line_count(line, "top_k", 0, INT32_MAX, &top_k, e);
    if (st == OK)
        st = read_seed(line, r, e);
    p->top_k = (int32_t)top_k;
    return st;
}

/* tokens are copied into the request, which outlives the line. */
static enum status read_prompt(const struct engine *g, const struct json *line,
                               struct engine_request *r, struct err *e)
{
    const struct json *text = json_get(line, "text");
    if (text && text->kind == JSON_STRING) {
        char *copy = arena_text(&r->arena, text->text.ptr, text->text.len);
        if (!copy)
            return err_set(e, E_NOMEM, "out of memory for the text");
        r->kind = PROMPT_TEXT;
        r->text = (struct slice){copy, text->text.len};
        return OK;
    }
    struct token_list tokens = {0};
    enum status st = line_tokens(line, engine_info(g)->model->n_vocab, &tokens, e);
    if (st == OK && tokens.count == 0)
        st = err_set(e, E_INVALID, "\"tokens\" is empty");
    uint32_t *ids = st == OK ? arena_alloc(&r->arena, tokens.count, sizeof *ids) : NULL;
    if (st == OK && !ids)
        st = err_set(e, E_NOMEM, "out of memory for %zu tokens", tokens.count);
    if (st == OK) {
        memcpy(ids, tokens.ids, tokens.count * sizeof *ids);
        r->kind = PROMPT_TOKENS;
        r->tokens = ids;
        r->n_tokens = (uint32_t)tokens.count;
    }
    token_list_release(&tokens);
    return st;
}

static enum status start(struct engine *g, struct slice line, struct ask **out, struct err *e)
{
    struct arena arena;
    struct json *value = NULL;
    struct engine_request *r = engine_request_new(g);
    uint64_t n = 0;
    arena_init(&arena, 1u << 30);
    enum status st = r ? json_parse(line, &arena, &value, e)
                       : err_set(e, E_NOMEM, "out of memory for a request");
    if (st == OK && value->kind != JSON_OBJECT)
        st = err_set(e, E_INVALID, "want a JSON object");
    if (st == OK)
        st = read_prompt(g, value, r, e);
    if (st == OK)
        st = read_sampling(value, r, e);
    if (st == OK)
        st = line_count(value, "n", N_DEFAULT, UINT32_MAX - 1, &n, e);
    if (st == OK)
        st = line_bool(value, "ignore_eos", true, &r->ignore_eos, e);
    if (st == OK) {
        r->max_tokens = (uint32_t)n;
        r->is_read_whole = true;
        st = ask_start(g, r, out, e);
    }
    if (st != OK)
        engine_request_free(r);
    arena_release(&arena);
    return st;
}

static const char *const finish_names[] = {
    [FINISH_STOP] = "stop", [FINISH_LENGTH] = "length", [FINISH_CANCELLED] = "cancelled"};

static void write_answer(struct buf *out, const struct ask_result *r)
{
    const struct engine_usage *u = &r->usage;
    struct json_writer w;
    jw_init(&w, out);
    jw_begin_object(&w);
    jw_key(&w, "tokens");
    jw_begin_array(&w);
    for (size_t i = 0; i < r->tokens.count; i++)
        jw_int(&w, r->tokens.ids[i]);
    jw_end_array(&w);
    jw_key(&w, "text");
    jw_string(&w, buf_slice(&r->text));
    const struct {
        const char *key;
        int64_t value;
    } counts[] = {
        {"cached", (int64_t)u->memory_tokens + u->disk_tokens},
        {"memory", u->memory_tokens},
        {"disk", u->disk_tokens},
        {"computed", u->computed_tokens},
    };
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        jw_key(&w, counts[i].key);
        jw_int(&w, counts[i].value);
    }
    jw_key(&w, "finish");
    jw_text(&w, finish_names[r->finish]);
    jw_key(&w, "seed");
    char seed[24];
    int n = snprintf(seed, sizeof seed, "%llu", (unsigned long long)u->seed);
    jw_raw(&w, (struct slice){seed, (size_t)n});
    const struct {
        const char *key;
        double value;
    } times[] = {
        {"lookup_ms", u->lookup_ms}, {"prefill_ms", u->prefill_ms}, {"fault_in_ms", u->fault_in_ms},
        {"verify_ms", u->verify_ms}, {"decode_ms", u->decode_ms},
    };
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        jw_key(&w, times[i].key);
        jw_double(&w, times[i].value);
    }
    jw_end_object(&w);
}

/* Waits for the oldest line of the window and writes its answer. */
static bool answer_oldest(struct generator *g)
{
    struct pending *p = &g->window[g->first];
    g->first = (g->first + 1) % g->size;
    g->count--;
    buf_clear(&g->out);
    if (p->ask) {
        struct ask_result result;
        if (ask_finish(p->ask, NULL, NULL, &result) == OK)
            write_answer(&g->out, &result);
        else
            jsonl_error(&g->out, &result.error);
        ask_result_release(&result);
    } else {
        jsonl_error(&g->out, &p->error);
    }
    return jsonl_put(&g->out);
}

static void take_line(struct generator *g, struct slice line, bool is_too_long)
{
    struct pending *p = &g->window[(g->first + g->count++) % g->size];
    *p = (struct pending){.error = {.pos = ERR_NO_POS}};
    if (is_too_long)
        err_set(&p->error, E_LIMIT, "the line is too long");
    else if (start(g->engine, line, &p->ask, &p->error) != OK)
        p->ask = NULL;
}

static bool run_lines(struct generator *g)
{
    struct jsonl_reader reader;
    struct slice line;
    bool is_too_long, is_put = true;
    jsonl_reader_init(&reader);
    while (is_put && jsonl_next(&reader, &line, &is_too_long)) {
        if (line.len == 0 && !is_too_long)
            continue;
        if (g->count == g->size)
            is_put = answer_oldest(g);
        take_line(g, line, is_too_long);
        /* One at a time: answered before more is read, so that a script can ask and listen. */
        if (g->size == 1 && is_put)
            is_put = answer_oldest(g);
    }
    while (g->count > 0)
        is_put = answer_oldest(g) && is_put;
    jsonl_reader_release(&reader);
    return is_put;
}

int command_eval_generate(const struct config *c)
{
    struct config sized = *c;
    struct option_value *parallel = &sized.values[OPTION_PARALLEL];
    struct generator g = {0};
    struct err e = {0};
    if (parallel->number == 0)
        parallel->number = 1;
    if (engine_of(&sized, true, &g.engine, &e) != OK)
        return complain_err(&e);
    g.size = (uint32_t)parallel->number;
    g.window = mem_new(g.size, sizeof *g.window);
    buf_init(&g.out, OUT_BYTES_MAX);
    bool is_put = run_lines(&g);
    if (!is_put)
        complain("stdout: cannot write; is its reader gone, or the disk full?");
    engine_close(g.engine);
    buf_release(&g.out);
    mem_free(g.window);
    return is_put ? EXIT_DONE : EXIT_FAILED;
}
