/* SPDX-License-Identifier: MIT
 * eval_score.c — logits, nll and perplexity: what the model thinks of given tokens. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "app/app_int.h"
#include "base/check.h"
#include "base/digest.h"
#include "base/mem.h"
#include "os/fs.h"

#define TOP_DEFAULT            64
#define POSITIONS_MAX          (1u << 24)
#define ANSWERS_BYTES_MAX      (1u << 30)
#define TEXT_FILE_MAX          (1u << 30)
#define PERPLEXITY_CTX_DEFAULT 2048

/* ---- logits ---- */
struct entry {
    float logit;
    uint32_t token;
};

struct logits_line {
    struct buf answers; /* one JSON object a position, in the order they are computed in */
    size_t *ends;       /* [n_done]: where each ends in answers */
    uint32_t n_done;
    uint32_t n_top;
    bool wants_digest;
    struct entry *entries; /* [n_vocab] */
};

static int best_first(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit < y->logit ? 1 : -1;
    return x->token < y->token ? -1 : x->token > y->token;
}

static void swap_entries(struct entry *a, struct entry *b)
{
    struct entry swap = *a;
    *a = *b;
    *b = swap;
}

/* Moves the n_top best to the front, sorted: Hoare's selection, then a sort of those alone. */
static void best_to_front(struct entry *entries, uint32_t n, uint32_t n_top)
{
    int64_t low = 0, high = (int64_t)n - 1, wanted = (int64_t)n_top - 1;
    while (low < high && wanted < (int64_t)n) {
        struct entry pivot = entries[low + (high - low) / 2];
        int64_t i = low, k = high;
        while (i <= k) {
            while (best_first(&entries[i], &pivot) < 0)
                i++;
            while (best_first(&entries[k], &pivot) > 0)
                k--;
            if (i <= k)
                swap_entries(&entries[i++], &entries[k--]);
        }
        if (wanted <= k)
            high = k;
        else if (wanted >= i)
            low = i;
        else
            break;
    }
    qsort(entries, n_top < n ? n_top : n, sizeof *entries, best_first);
}

/* In double, in order of tokens: what a reference would compute from these logits. */
static double log_sum_exp(const float *logits, uint32_t n)
{
    double max = (double)logits[0], sum = 0;
    for (uint32_t i = 1; i < n; i++)
        max = (double)logits[i] > max ? (double)logits[i] : max;
    for (uint32_t i = 0; i < n; i++)
        sum += exp((double)logits[i] - max);
    return max + log(sum);
}

/* A float as the shortest decimal that reads back as that float. */
static void write_float(struct json_writer *w, float v)
{
    char text[32] = "null";
    if (isfinite(v))
        for (int digits = 6; digits <= 9; digits++) {
            snprintf(text, sizeof text, "%.*g", digits, (double)v);
            if (strtof(text, NULL) == v)
                break;
        }
    jw_raw(w, slice_of(text));
}

static void write_position(void *arg, uint32_t position, const float *logits, uint32_t n_vocab)
{
    struct logits_line *line = arg;
    struct json_writer writer, *w = &writer;
    jw_init(w, &line->answers);
    for (uint32_t i = 0; i < n_vocab; i++)
        line->entries[i] = (struct entry){logits[i], i};
    best_to_front(line->entries, n_vocab, line->n_top);
    jw_begin_object(w);
    jw_key(w, "pos");
    jw_int(w, position);
    jw_key(w, "logsumexp");
    jw_double(w, log_sum_exp(logits, n_vocab));
    jw_key(w, "top");
    jw_begin_array(w);
    for (uint32_t i = 0; i < line->n_top && i < n_vocab; i++) {
        jw_begin_array(w);
        jw_int(w, line->entries[i].token);
        write_float(w, line->entries[i].logit);
        jw_end_array(w);
    }
    jw_end_array(w);
    if (line->wants_digest) {
        struct digester d = {0};
        struct digest sum;
        char hex[DIGEST_HEX_BYTES];
        digest_begin(&d);
        digest_bytes(&d, logits, n_vocab * sizeof *logits);
        sum = digest_end(&d);
        digester_release(&d);
        digest_hex(&sum, hex);
        jw_key(w, "digest");
        jw_text(w, hex);
    }
    jw_end_object(w);
    line->ends[line->n_done++] = line->answers.len;
}

/* "positions", in any order. */
static enum status read_positions(const struct json *line, uint32_t n_tokens,
                                  struct token_list *out, struct err *e)
{
    const struct json *v = json_get(line, "positions");
    if (!v || v->kind == JSON_NULL)
        return token_list_add(out, n_tokens - 1);
    if (v->kind != JSON_ARRAY || v->count == 0 || v->count > POSITIONS_MAX)
        return err_set(e, E_INVALID, "\"positions\" must be an array of indices into tokens");
    for (size_t i = 0; i < v->count; i++) {
        const struct json *p = &v->items[i];
        if (p->kind != JSON_INT || p->integer < 0 || p->integer >= n_tokens)
            return err_set(e, E_INVALID, "positions[%zu] is outside of the %u tokens", i, n_tokens);
        enum status st = token_list_add(out, (uint32_t)p->integer);
        if (st != OK)
            return err_set(e, st, "out of memory for positions");
    }
    return OK;
}

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Each position once, ascending: the order in which they are computed. */
static enum status sort_positions(const struct token_list *asked, struct token_list *out,
                                  struct err *e)
{
    enum status st = OK;
    for (size_t i = 0; st == OK && i < asked->count; i++)
        st = token_list_add(out, asked->ids[i]);
    if (st != OK)
        return err_set(e, st, "out of memory for positions");
    qsort(out->ids, out->count, sizeof *out->ids, ascending);
    size_t n = 0;
    for (size_t i = 0; i < out->count; i++)
        if (n == 0 || out->ids[i] != out->ids[n - 1])
            out->ids[n++] = out->ids[i];
    out->count = n;
    return OK;
}

/* The answers in the order they were asked in. */
static void write_asked(const struct logits_line *line, const struct token_list *asked,
                        const struct token_list *computed, struct json_writer *out)
{
    for (size_t i = 0; i < asked->count; i++) {
        const uint32_t *at = bsearch(&asked->ids[i], computed->ids, computed->count,
                                     sizeof *computed->ids, ascending);
        size_t k = (size_t)(at - computed->ids), begin = k ? line->ends[k - 1] : 0;
        jw_raw(out, (struct slice){line->answers.ptr + begin, line->ends[k] - begin});
    }
}

static enum status answer_logits(void *arg, const struct json *line, struct json_writer *out,
                                 struct err *e)
{
    struct engine *g = arg;
    uint32_t n_vocab = engine_info(g)->model->n_vocab;
    struct token_list tokens = {0}, asked = {0}, positions = {0};
    struct logits_line state = {0};
    struct engine_usage usage = {0};
    uint64_t n_top = 0;
    enum status st = line_tokens(line, n_vocab, &tokens, e);
    if (st == OK && tokens.count == 0)
        st = err_set(e, E_INVALID, "\"tokens\" is empty");
    if (st == OK)
        st = read_positions(line, (uint32_t)tokens.count, &asked, e);
    if (st == OK)
        st = sort_positions(&asked, &positions, e);
    if (st == OK)
        st = line_count(line, "top", TOP_DEFAULT, UINT32_MAX, &n_top, e);
    if (st == OK)
        st = line_bool(line, "digest", false, &state.wants_digest, e);
    state.n_top = (uint32_t)n_top;
    buf_init(&state.answers, ANSWERS_BYTES_MAX);
    state.entries = mem_try_new(n_vocab, sizeof *state.entries);
    state.ends = mem_try_new(positions.count, sizeof *state.ends);
    if (st == OK && (!state.entries || !state.ends))
        st = err_set(e, E_NOMEM, "out of memory for %u logits", n_vocab);
    if (st == OK) {
        struct engine_score score = {.tokens = tokens.ids,
                                     .n_tokens = (uint32_t)tokens.count,
                                     .positions = positions.ids,
                                     .n_positions = (uint32_t)positions.count,
                                     .each = write_position,
                                     .arg = &state};
        st = engine_score(g, &score, &usage, e);
    }
    if (st == OK && state.answers.failed)
        st = err_set(e, E_LIMIT, "the answer is longer than %u MiB", ANSWERS_BYTES_MAX >> 20);
    if (st == OK) {
        jw_begin_object(out);
        jw_key(out, "positions");
        jw_begin_array(out);
        write_asked(&state, &asked, &positions, out);
        jw_end_array(out);
        jw_key(out, "cached");
        jw_int(out, usage.memory_tokens + usage.disk_tokens);
        jw_end_object(out);
    }
    mem_free(state.entries);
    mem_free(state.ends);
    buf_release(&state.answers);
    token_list_release(&tokens);
    token_list_release(&asked);
    token_list_release(&positions);
    return st;
}

/* ---- nll ---- */
struct nll {
    const struct kernels *kernels;
    const uint32_t *tokens;
    double *values; /* [n_tokens - 1] */
};

static void take_nll(void *arg, uint32_t position, const float *logits, uint32_t n_vocab)
{
    struct nll *n = arg;
    float max, sum;
    n->kernels->max_sum_exp(logits, n_vocab, &max, &sum);
    n->values[position] = (double)max + log((double)sum) - (double)logits[n->tokens[position + 1]];
}

/* values [n_tokens - 1]; n_tokens ≥ 2. */
static enum status score_nll(struct engine *g, const struct kernels *k, const uint32_t *tokens,
                             uint32_t n_tokens, bool no_cache, double *values, struct err *e)
{
    struct nll state = {k, tokens, values};
    uint32_t *positions = mem_try_new(n_tokens, sizeof *positions);
    if (!positions)
        return err_set(e, E_NOMEM, "out of memory for %u positions", n_tokens);
    for (uint32_t i = 0; i < n_tokens; i++)
        positions[i] = i;
    struct engine_score score = {.tokens = tokens,
                                 .n_tokens = n_tokens,
                                 .positions = positions,
                                 .n_positions = n_tokens - 1,
                                 .no_cache = no_cache,
                                 .each = take_nll,
                                 .arg = &state};
    struct engine_usage usage;
    enum status st = engine_score(g, &score, &usage, e);
    mem_free(positions);
    return st;
}

struct scorer {
    struct engine *engine;
    const struct kernels *kernels;
};

static enum status answer_nll(void *arg, const struct json *line, struct json_writer *out,
                              struct err *e)
{
    struct scorer *s = arg;
    struct token_list tokens = {0};
    double *values = NULL;
    enum status st = line_tokens(line, engine_info(s->engine)->model->n_vocab, &tokens, e);
    uint32_t n = (uint32_t)tokens.count;
    if (st == OK && n > 0)
        values = mem_try_new(n, sizeof *values);
    if (st == OK && n > 0 && !values)
        st = err_set(e, E_NOMEM, "out of memory for %u tokens", n);
    if (st == OK && n >= 2)
        st = score_nll(s->engine, s->kernels, tokens.ids, n, false, values, e);
    if (st == OK) {
        jw_begin_object(out);
        jw_key(out, "nll");
        jw_begin_array(out);
        for (uint32_t i = 0; i + 1 < n; i++)
            jw_double(out, values[i]);
        jw_end_array(out);
        jw_end_object(out);
    }
    mem_free(values);
    token_list_release(&tokens);
    return st;
}

static enum status scorer_of(const struct config *c, struct scorer *s, struct err *e)
{
    enum status st = kernels_select((enum isa)c->values[OPTION_ISA].number, &s->kernels, e);
    return st == OK ? engine_of(c, true, &s->engine, e) : st;
}

int command_eval_logits(const struct config *c)
{
    struct scorer s = {0};
    struct err e = {0};
    if (scorer_of(c, &s, &e) != OK)
        return complain_err(&e);
    int code = jsonl_run(answer_logits, s.engine);
    engine_close(s.engine);
    return code;
}

int command_eval_nll(const struct config *c)
{
    struct scorer s = {0};
    struct err e = {0};
    if (scorer_of(c, &s, &e) != OK)
        return complain_err(&e);
    int code = jsonl_run(answer_nll, &s);
    engine_close(s.engine);
    return code;
}

/* ---- perplexity ---- */
struct windows {
    struct token_list text; /* without BOS */
    uint32_t ctx, n_text;   /* text tokens of a window: ctx, less one for BOS */
    uint32_t bos;           /* TOKEN_NONE: none */
    uint32_t count;
    double *nll;      /* [ctx - 1] of the running one */
    uint32_t *tokens; /* [ctx] likewise */
    double sum;
    uint64_t n_predicted;
};

static enum status cut_windows(const struct config *c, const struct engine *g, struct windows *w,
                               struct err *e)
{
    struct tokenizer_info vocabulary = engine_info(g)->vocabulary;
    const char *path = c->values[OPTION_FILE].text;
    char *text = NULL;
    size_t len = 0;
    enum status st = fs_read_file(os_fs_real(), path, TEXT_FILE_MAX, &text, &len, e);
    if (st == OK)
        st = tokenizer_encode(engine_tokenizer(g), (struct slice){text, len},
                              (struct encode_flags){0}, &w->text, e);
    mem_free(text);
    if (st != OK)
        return st;
    w->bos = vocabulary.add_bos ? vocabulary.bos : TOKEN_NONE;
    w->n_text = w->ctx - (w->bos != TOKEN_NONE);
    uint64_t n = w->text.count / w->n_text;
    uint64_t most = (uint64_t)c->values[OPTION_WINDOWS].number;
    w->count = (uint32_t)(most > 0 && n > most ? most : n);
    if (w->count == 0)
        return err_set(e, E_INVALID, "%s has %zu tokens, one window has %u; lower --ctx", path,
                       w->text.count, w->n_text);
    w->nll = mem_try_new(w->ctx, sizeof *w->nll);
    w->tokens = mem_try_new(w->ctx, sizeof *w->tokens);
    return w->nll && w->tokens ? OK : err_set(e, E_NOMEM, "out of memory for a window");
}

static enum status score_window(const struct scorer *s, struct windows *w, uint32_t index,
                                struct json_writer *out, struct err *e)
{
    uint32_t n = 0;
    if (w->bos != TOKEN_NONE)
        w->tokens[n++] = w->bos;
    memcpy(w->tokens + n, w->text.ids + (size_t)index * w->n_text, w->n_text * sizeof *w->tokens);
    enum status st = score_nll(s->engine, s->kernels, w->tokens, w->ctx, true, w->nll, e);
    if (st != OK)
        return st;
    double sum = 0;
    for (uint32_t i = 0; i + 1 < w->ctx; i++)
        sum += w->nll[i];
    w->sum += sum;
    w->n_predicted += w->ctx - 1;
    jw_begin_object(out);
    jw_key(out, "nll_sum");
    jw_double(out, sum);
    jw_key(out, "count");
    jw_int(out, w->ctx - 1);
    jw_end_object(out);
    return OK;
}

static enum status run_windows(const struct scorer *s, struct windows *w, struct buf *out,
                               struct err *e)
{
    struct progress progress;
    struct json_writer list, whole;
    struct buf windows;
    buf_init(&windows, 64u << 20);
    jw_init(&list, &windows);
    jw_begin_array(&list);
    progress_begin(&progress);
    enum status st = OK;
    for (uint32_t i = 0; i < w->count && st == OK; i++) {
        st = score_window(s, w, i, &list, e);
        progress_show(&progress, "perplexity", (double)(i + 1) / w->count);
    }
    progress_end(&progress);
    jw_end_array(&list);
    if (st == OK) {
        double mean = w->sum / (double)w->n_predicted;
        jw_init(&whole, out);
        jw_begin_object(&whole);
        jw_key(&whole, "nll_sum");
        jw_double(&whole, w->sum);
        jw_key(&whole, "count");
        jw_int(&whole, (int64_t)w->n_predicted);
        jw_key(&whole, "mean_nll");
        jw_double(&whole, mean);
        jw_key(&whole, "perplexity");
        jw_double(&whole, exp(mean));
        jw_key(&whole, "ctx");
        jw_int(&whole, w->ctx);
        jw_key(&whole, "tokens_left_out");
        jw_int(&whole, (int64_t)(w->text.count - (uint64_t)w->count * w->n_text));
        jw_key(&whole, "windows");
        jw_raw(&whole, buf_slice(&windows));
        jw_end_object(&whole);
    }
    buf_release(&windows);
    return st;
}

int command_eval_perplexity(const struct config *c)
{
    struct config sized = *c; /* the engine's context is one window */
    struct option_value *ctx = &sized.values[OPTION_CTX];
    struct scorer s = {0};
    struct windows w = {0};
    struct buf out;
    struct err e = {0};
    if (!c->values[OPTION_FILE].text) {
        complain("eval perplexity: -f FILE is required (kvasir eval perplexity --help)");
        return EXIT_USAGE;
    }
    if (ctx->number == 0)
        ctx->number = PERPLEXITY_CTX_DEFAULT;
    if (ctx->number < 3) {
        complain("eval perplexity: --ctx wants at least 3 tokens");
        return EXIT_USAGE;
    }
    w.ctx = (uint32_t)ctx->number;
    buf_init(&out, 64u << 20);
    enum status st = scorer_of(&sized, &s, &e);
    if (st == OK)
        st = cut_windows(c, s.engine, &w, &e);
    if (st == OK)
        st = run_windows(&s, &w, &out, &e);
    if (st == OK && !jsonl_put(&out))
        st = err_set(&e, E_IO, "stdout: cannot write; is its reader gone, or the disk full?");
    if (s.engine)
        engine_close(s.engine);
    buf_release(&out);
    token_list_release(&w.text);
    mem_free(w.nll);
    mem_free(w.tokens);
    return st == OK ? EXIT_DONE : complain_err(&e);
}
