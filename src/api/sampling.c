/* SPDX-License-Identifier: MIT
 * sampling.c — the fields that dialects share: sampling, limits, stops, stream, and what is refused
 * by name. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_int.h"

#define PENALTY_MAX     100.0
#define BIAS_MAX        100.0
#define TEMPERATURE_MAX 1000.0

static const struct api_field sampling_rows[] = {
    {"temperature", FIELD_YES, "0 takes the likeliest token", "-1", NULL},
    {"top_p", FIELD_YES, "", "2", NULL},
    {"min_p", FIELD_YES, "", "2", NULL},
    {"typical_p", FIELD_YES, "", "2", NULL},
    {"top_k", FIELD_YES, "0 and below: all", "0.5", NULL},
    {"repeat_penalty", FIELD_YES, "over prompt and reply", "0", NULL},
    {"repeat_last_n", FIELD_YES, "-1: all", "-2", NULL},
    {"presence_penalty", FIELD_YES, "over the reply", "1e9", NULL},
    {"frequency_penalty", FIELD_YES, "over the reply", "1e9", NULL},
    {"seed", FIELD_YES, "64 bits; absent or -1: drawn and told", "\"x\"", NULL},
    {"logit_bias", FIELD_YES,
     "`{\"id\": -100…100}`, or llama-server's `[[id, bias or false], …]`; at most 1,024",
     "{\"1\":101}", NULL},
};
const struct field_set fields_sampling = FIELD_SET(sampling_rows);

static const struct api_field common_rows[] = {
    {"model", FIELD_YES,
     "which one, echoed; without --models-dir any name means the one that is here", "7", NULL},
    {"max_tokens", FIELD_YES, "of each choice; -1: to the end of the context", "-2", NULL},
    {"max_completion_tokens", FIELD_YES, "wins over max_tokens", "-2", NULL},
    {"n_predict", FIELD_YES, "llama-server's max_tokens", "-2", NULL},
    {"stop", FIELD_YES, "a string or up to 16; no part of one leaks", "7", NULL},
    {"stream", FIELD_YES, "", "7", NULL},
    {"stream_options", FIELD_YES, "include_usage", "7", NULL},
    {"n", FIELD_YES, "1 to 16", "0", NULL},
    {"best_of", FIELD_YES, "the value of n; others are refused", "0", NULL},
    {"ignore_eos", FIELD_YES, "go on behind the model's end token", "7", NULL},
    {"return_progress", FIELD_YES, "chunks of a stream with prompt_progress", "7", NULL},
    {"priority", FIELD_YES, "lower goes first, -100 to 100; a second of waiting counts as one",
     "101", NULL},
    {"deadline_ms", FIELD_YES, "from the request's arrival; 504 deadline_exceeded then", "-1",
     NULL},
    {"cache_prompt", FIELD_YES, "false: neither look up nor keep", "7", NULL},
    {"timings_per_token", FIELD_YES, "timings so far in each chunk of a stream", "7", NULL},
};
const struct field_set fields_common = FIELD_SET(common_rows);

static const struct api_field inert_rows[] = {
    {"user", FIELD_NONE, "no accounts by end user", NULL, NULL},
    {"safety_identifier", FIELD_NONE, "", NULL, NULL},
    {"metadata", FIELD_NONE, "", NULL, NULL},
    {"service_tier", FIELD_NONE, "", NULL, NULL},
    {"prompt_cache_key", FIELD_NONE, "the cache finds prefixes by their tokens", NULL, NULL},
    {"prompt_cache_retention", FIELD_NONE, "", NULL, NULL},
};
const struct field_set fields_openai_inert = FIELD_SET(inert_rows);

static const struct api_field llama_rows[] = {
    {"lora", FIELD_REFUSED, "no adapters are loaded", "[{\"id\":0,\"scale\":1}]", NULL},
};
const struct field_set fields_llama_refused = FIELD_SET(llama_rows);

static void read_bias_value(struct fields *f, const struct json *v, struct logit_bias *out)
{
    if (v->kind == JSON_BOOL && !v->boolean)
        out->bias = -INFINITY; /* llama-server: false forbids */
    else if ((v->kind == JSON_INT || v->kind == JSON_REAL) && fabs(v->real) <= BIAS_MAX)
        out->bias = (float)v->real;
    else
        field_fail(f, E_INVALID, "logit_bias",
                   "each bias must be a number from -100 to 100, or false to forbid");
}

static void read_bias_token(struct fields *f, const struct json *v, struct slice key,
                            uint32_t n_vocab, struct logit_bias *out)
{
    int64_t id = -1;
    if (v && v->kind == JSON_INT)
        id = v->integer;
    else if (!v && key.len > 0 && key.len < 12 && strspn(key.ptr, "0123456789") == key.len)
        id = strtoll(key.ptr, NULL, 10); /* NUL-terminated by the parser */
    if (id < 0 || id >= n_vocab)
        field_fail(f, E_INVALID, "logit_bias", "tokens must be ids from 0 to %u", n_vocab - 1);
    else
        out->token = (uint32_t)id;
}

/* OpenAI: {"15043": -100, …}; llama-server also: [[15043, 1.0], [15044, false], …]. */
static void read_bias(struct fields *f, uint32_t n_vocab, struct engine_request *r)
{
    const struct json *v = field(f, "logit_bias");
    if (!v)
        return;
    if (v->kind != JSON_OBJECT && v->kind != JSON_ARRAY) {
        field_fail(f, E_INVALID, "logit_bias", "must be an object from token ids to numbers");
        return;
    }
    if (v->count > SAMPLER_BIAS_MAX) {
        field_fail(f, E_LIMIT, "logit_bias", "%zu entries, at most %u", v->count, SAMPLER_BIAS_MAX);
        return;
    }
    struct logit_bias *bias = arena_alloc(&r->arena, v->count, sizeof *bias);
    if (!bias) {
        field_fail(f, E_NOMEM, "logit_bias", "out of memory");
        return;
    }
    for (size_t i = 0; i < v->count; i++) {
        if (v->kind == JSON_OBJECT) {
            read_bias_token(f, NULL, v->members[i].key, n_vocab, &bias[i]);
            read_bias_value(f, &v->members[i].value, &bias[i]);
        } else if (v->items[i].kind == JSON_ARRAY && v->items[i].count == 2) {
            read_bias_token(f, &v->items[i].items[0], (struct slice){0}, n_vocab, &bias[i]);
            read_bias_value(f, &v->items[i].items[1], &bias[i]);
        } else {
            field_fail(f, E_INVALID, "logit_bias", "entries must be [token id, number]");
        }
    }
    r->sampling.bias = bias;
    r->sampling.n_bias = (uint32_t)v->count;
}

/* Seeds that we draw and tell use all 64 bits: what was told must be taken back. */
static bool read_unsigned_seed(const struct json *v, uint64_t *seed)
{
    if (!v || v->kind != JSON_REAL || v->text.len != strspn(v->text.ptr, "0123456789"))
        return false;
    errno = 0;
    *seed = strtoull(v->text.ptr, NULL, 10);
    return errno == 0;
}

static void read_seed(struct fields *f, struct engine_request *r)
{
    int64_t seed = 0;
    if (read_unsigned_seed(field(f, "seed"), &r->sampling.seed))
        r->has_seed = true;
    else if (field_int(f, "seed", INT64_MIN, INT64_MAX, &seed) &&
             seed != -1) { /* −1: llama-server's "any" */
        r->has_seed = true;
        r->sampling.seed = (uint64_t)seed;
    }
}

void read_sampling(struct fields *f, const struct api_context *context, struct engine_request *r)
{
    struct sampler_params *p = &r->sampling;
    int64_t v = 0;
    field_float(f, "temperature", 0, TEMPERATURE_MAX, &p->temperature);
    field_float(f, "top_p", 0, 1, &p->top_p);
    field_float(f, "min_p", 0, 1, &p->min_p);
    field_float(f, "typical_p", 0, 1, &p->typical_p);
    if (field_int(f, "top_k", INT32_MIN, INT32_MAX, &v))
        p->top_k = (int32_t)v;
    field_float(f, "repeat_penalty", 1e-3, PENALTY_MAX, &p->repeat_penalty);
    if (field_int(f, "repeat_last_n", -1, SAMPLER_REPEAT_LAST_MAX, &v))
        p->repeat_last_n = (int32_t)v;
    field_float(f, "presence_penalty", -PENALTY_MAX, PENALTY_MAX, &p->presence_penalty);
    field_float(f, "frequency_penalty", -PENALTY_MAX, PENALTY_MAX, &p->frequency_penalty);
    read_seed(f, r);
    read_bias(f, context->n_vocab, r);
}

static void add_stop(struct fields *f, const char *name, const struct json *v,
                     struct engine_request *r)
{
    if (v->kind != JSON_STRING)
        field_fail(f, E_INVALID, name, "must be a string or an array of strings");
    else if (v->text.len > ENGINE_STOP_BYTES_MAX)
        field_fail(f, E_LIMIT, name, "at most %u bytes each", ENGINE_STOP_BYTES_MAX);
    else if (r->n_stops == ENGINE_STOPS_MAX)
        field_fail(f, E_LIMIT, name, "at most %u of them", ENGINE_STOPS_MAX);
    else if (v->text.len >
             0) /* an empty one would stop before the first token; clients mean none */
        r->stops[r->n_stops++] = v->text;
}

void read_stops(struct fields *f, const char *name, struct engine_request *r)
{
    const struct json *v = field(f, name);
    if (!v)
        return;
    if (v->kind != JSON_ARRAY) {
        add_stop(f, name, v, r);
        return;
    }
    for (size_t i = 0; i < v->count && f->status == OK; i++)
        add_stop(f, name, &v->items[i], r);
}

/* The newest name wins; −1 is llama-server's "to the end of the context". */
static void read_max_tokens(struct fields *f, struct engine_request *r)
{
    static const char *const names[] = {"n_predict", "max_tokens", "max_completion_tokens"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int64_t v = 0;
        if (field_int(f, names[i], -1, UINT32_MAX - 1, &v))
            r->max_tokens = v < 0 ? ENGINE_TOKENS_ALL : (uint32_t)v;
    }
}

static void read_stream(struct fields *f, struct api_call *c)
{
    field_bool(f, "stream", &c->is_stream);
    const struct json *o = field(f, "stream_options");
    if (!o)
        return;
    if (o->kind != JSON_OBJECT) {
        field_fail(f, E_INVALID, "stream_options", "must be an object");
        return;
    }
    struct fields inner = {.object = o, .error = f->error};
    field_bool(&inner, "include_usage", &c->wants_usage);
    f->status = inner.status;
}

void read_model(struct fields *f, struct api_call *c)
{
    struct slice model = {0};
    if (!field_string(f, "model", &model) || model.len == 0)
        return;
    char *text = arena_text(&c->arena, model.ptr, model.len);
    if (!text)
        field_fail(f, E_LIMIT, "model", "the name is too long");
    else
        c->model = (struct slice){text, model.len};
}

void read_common(struct fields *f, struct api_call *c, struct engine_request *r)
{
    int64_t n = 1, priority = 0, deadline_ms = 0;
    bool keeps_cache = true;
    read_model(f, c);
    read_max_tokens(f, r);
    read_stops(f, "stop", r);
    read_stream(f, c);
    field_int(f, "n", 1, ENGINE_CHOICES_MAX, &n);
    r->n_choices = c->n_per_prompt = (uint32_t)n;
    field_bool(f, "ignore_eos", &r->ignore_eos);
    field_bool(f, "return_progress", &c->wants_progress);
    field_bool(f, "timings_per_token", &c->times_tokens);
    if (field_int(f, "priority", -ENGINE_PRIORITY_MAX, ENGINE_PRIORITY_MAX, &priority))
        r->priority = (int32_t)priority;
    if (field_int(f, "deadline_ms", 0, UINT32_MAX, &deadline_ms))
        r->deadline_ms = (uint32_t)deadline_ms;
    if (field_bool(f, "cache_prompt", &keeps_cache))
        r->no_cache = !keeps_cache;
}

void read_best_of(struct fields *f)
{
    int64_t best_of = 1, n = 1;
    field_int(f, "n", INT64_MIN, INT64_MAX, &n);
    if (field_int(f, "best_of", 1, INT64_MAX, &best_of) && best_of != n)
        field_fail(f, E_UNSUPPORTED, "best_of", "only the value of n is supported");
}

/* Is a field there that would change the answer?  Empty values are how some clients say "no". */
static bool is_set(const struct json *v)
{
    if (!v)
        return false;
    bool has_items = v->kind == JSON_ARRAY || v->kind == JSON_OBJECT;
    return !((has_items && v->count == 0) || (v->kind == JSON_STRING && v->text.len == 0) ||
             (v->kind == JSON_BOOL && !v->boolean));
}

static bool is_neutral(const struct json *v, const char *neutral)
{
    struct buf b;
    buf_init(&b, 4096); /* beyond: surely something else */
    json_write(&b, v, (struct json_style){.is_compact = true});
    bool same = neutral && !b.failed && slice_is(buf_slice(&b), neutral);
    if (neutral && (v->kind == JSON_INT || v->kind == JSON_REAL))
        same = v->real == strtod(neutral, NULL);
    buf_release(&b);
    return same;
}

/* What is not there is said, not ignored: an answer without the schema that was asked for would be
 * worse than none. */
/* "options.mirostat" lies in the member options. */
static const struct json *value_of(struct fields *f, const char *name)
{
    const char *dot = strchr(name, '.');
    char outer[64];
    if (!dot)
        return field(f, name);
    snprintf(outer, sizeof outer, "%.*s", (int)(dot - name), name);
    const struct json *v = json_get(field(f, outer), dot + 1);
    return v && v->kind != JSON_NULL ? v : NULL;
}

void read_refused(struct fields *f, const struct api_dialect *dialect)
{
    for (size_t i = 0; dialect->fields[i]; i++) {
        for (size_t j = 0; j < dialect->fields[i]->n; j++) {
            const struct api_field *row = &dialect->fields[i]->fields[j];
            const struct json *v = row->verdict == FIELD_REFUSED ? value_of(f, row->name) : NULL;
            if (is_set(v) && !is_neutral(v, row->neutral))
                field_fail(f, E_UNSUPPORTED, row->name, "is not supported%s%s",
                           row->doc[0] ? "; " : "", row->doc);
        }
    }
}
