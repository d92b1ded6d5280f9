/* SPDX-License-Identifier: MIT
 * json_results.c — results.json, out and in again.  One table of fields serves both, so that what
 * is written can be read; docs/benchmark-schema.md says what each means. */
#include <math.h>
#include <stddef.h>

#include "base/check.h"
#include "bench/compare/compare_int.h"

#define SCHEMA_VERSION 1

enum kind { REAL, INTEGER, COUNT, BOOLEAN, TEXT };
struct field {
    const char *name;
    enum kind kind;
    size_t offset, size;
};
#define SIZE(type, member) sizeof(((struct type *)NULL)->member)
#define FIELD(type, kind, name)                                    \
    {                                                              \
#name, kind, offsetof(struct type, name), SIZE(type, name) \
    }

static const struct field sample_fields[] = {
    FIELD(sample, COUNT, system),
    FIELD(sample, COUNT, model),
    {"case", TEXT, offsetof(struct sample, kase), SIZE(sample, kase)},
    FIELD(sample, REAL, x),
    FIELD(sample, COUNT, repeat),
    FIELD(sample, REAL, key_ms),
    FIELD(sample, REAL, ready_ms),
    FIELD(sample, REAL, save_ms),
    FIELD(sample, REAL, restore_ms),
    FIELD(sample, REAL, first_ms),
    FIELD(sample, REAL, total_ms),
    FIELD(sample, REAL, gap_p50_ms),
    FIELD(sample, REAL, gap_p95_ms),
    FIELD(sample, REAL, gap_p99_ms),
    FIELD(sample, REAL, late_ms),
    FIELD(sample, REAL, odds_off),
    FIELD(sample, INTEGER, prompt_tokens),
    FIELD(sample, INTEGER, cached_tokens),
    FIELD(sample, INTEGER, output_tokens),
    FIELD(sample, INTEGER, memory_bytes),
    FIELD(sample, INTEGER, disk_bytes),
    FIELD(sample, REAL, foreign),
    FIELD(sample, TEXT, answer),
    FIELD(sample, TEXT, opening),
    FIELD(sample, TEXT, note)};

static const struct field system_fields[] = {
    FIELD(system_row, TEXT, name),    FIELD(system_row, TEXT, driver),
    FIELD(system_row, TEXT, version), FIELD(system_row, TEXT, command),
    FIELD(system_row, TEXT, note),    FIELD(system_row, BOOLEAN, is_dropped)};

static const struct field model_fields[] = {
    FIELD(model_row, TEXT, name), FIELD(model_row, TEXT, path), FIELD(model_row, TEXT, sha256),
    FIELD(model_row, INTEGER, bytes), FIELD(model_row, INTEGER, context_tokens)};

static const struct field run_fields[] = {FIELD(results, TEXT, version),
                                          FIELD(results, TEXT, started),
                                          FIELD(results, TEXT, command),
                                          FIELD(results, TEXT, host_cpu),
                                          FIELD(results, TEXT, kernel),
                                          FIELD(results, COUNT, processors),
                                          FIELD(results, COUNT, threads),
                                          FIELD(results, COUNT, repeats),
                                          FIELD(results, INTEGER, memory_bytes),
                                          FIELD(results, BOOLEAN, is_quick),
                                          FIELD(results, BOOLEAN, is_interrupted),
                                          FIELD(results, REAL, seconds),
                                          FIELD(results, REAL, impact_tokens),
                                          FIELD(results, REAL, impact_sessions)};

/* -1 stands for "not known" and is written as null. */
static void write_fields(struct json_writer *w, const void *thing, const struct field *f, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char *at = (const char *)thing + f[i].offset;
        double real;
        int64_t integer;
        uint32_t count;
        jw_key(w, f[i].name);
        switch (f[i].kind) {
        case REAL:
            memcpy(&real, at, sizeof real);
            jw_double(w, real < 0 ? (double)NAN : real);
            break;
        case INTEGER:
            memcpy(&integer, at, sizeof integer);
            if (integer < 0)
                jw_null(w);
            else
                jw_int(w, integer);
            break;
        case COUNT:
            memcpy(&count, at, sizeof count);
            jw_int(w, count);
            break;
        case BOOLEAN:
            jw_bool(w, *at != 0);
            break;
        case TEXT:
        default:
            jw_text(w, at);
        }
    }
}

static void read_fields(const struct json *v, void *thing, const struct field *f, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char *at = (char *)thing + f[i].offset;
        const struct json *j = json_get(v, f[i].name);
        double real = json_number(j, -1);
        int64_t integer = json_integer(j, -1);
        uint32_t count = integer > 0 && integer < INT32_MAX ? (uint32_t)integer : 0;
        bool boolean = j && j->kind == JSON_BOOL && j->boolean;
        switch (f[i].kind) {
        case REAL:
            memcpy(at, &real, sizeof real);
            break;
        case INTEGER:
            memcpy(at, &integer, sizeof integer);
            break;
        case COUNT:
            memcpy(at, &count, sizeof count);
            break;
        case BOOLEAN:
            memcpy(at, &boolean, sizeof boolean);
            break;
        case TEXT:
        default:
            *at = '\0';
            json_text(j, at, f[i].size);
        }
    }
}

static void write_sample(struct json_writer *w, const struct sample *s)
{
    jw_begin_object(w);
    jw_key(w, "scenario");
    jw_text(w, scenarios[s->scenario].name);
    jw_key(w, "label");
    jw_text(w, label_names[s->label]);
    jw_key(w, "outcome");
    jw_text(w, outcome_names[s->outcome]);
    jw_key(w, "flags");
    jw_begin_array(w);
    for (int i = 0; i < FLAG_COUNT; i++)
        if (s->flags & (1u << i))
            jw_text(w, flag_names[i]);
    jw_end_array(w);
    write_fields(w, s, sample_fields, ARRAY_COUNT(sample_fields));
    jw_end_object(w);
}

void results_write(const struct results *r, struct buf *out)
{
    struct json_writer w;
    jw_init(&w, out);
    jw_begin_object(&w);
    jw_key(&w, "schema");
    jw_text(&w, "kvasir-bench");
    jw_key(&w, "schema_version");
    jw_int(&w, SCHEMA_VERSION);
    jw_key(&w, "run");
    jw_begin_object(&w);
    write_fields(&w, r, run_fields, ARRAY_COUNT(run_fields));
    jw_end_object(&w);
    jw_key(&w, "systems");
    jw_begin_array(&w);
    for (uint32_t i = 0; i < r->n_systems; i++) {
        jw_begin_object(&w);
        write_fields(&w, &r->systems[i], system_fields, ARRAY_COUNT(system_fields));
        jw_end_object(&w);
    }
    jw_end_array(&w);
    jw_key(&w, "models");
    jw_begin_array(&w);
    for (uint32_t i = 0; i < r->n_models; i++) {
        jw_begin_object(&w);
        write_fields(&w, &r->models[i], model_fields, ARRAY_COUNT(model_fields));
        jw_end_object(&w);
    }
    jw_end_array(&w);
    jw_key(&w, "samples_were_dropped");
    jw_bool(&w, r->n_samples >= SAMPLES_MAX);
    jw_key(&w, "samples");
    jw_begin_array(&w);
    for (uint32_t i = 0; i < r->n_samples; i++) {
        buf_add_char(out, '\n');
        write_sample(&w, &r->samples[i]);
    }
    buf_add_char(out, '\n');
    jw_end_array(&w);
    jw_end_object(&w);
    buf_add_char(out, '\n');
}

static int name_index(const struct json *v, const char *const *names, int n)
{
    for (int i = 0; i < n; i++)
        if (v && v->kind == JSON_STRING && slice_is(v->text, names[i]))
            return i;
    return -1;
}

static enum status read_sample(const struct json *v, const struct results *r, struct sample *s,
                               struct err *e)
{
    const struct json *name = json_get(v, "scenario"), *flags = json_get(v, "flags");
    int scenario = -1;
    for (int i = 0; i < SCENARIO_COUNT; i++)
        if (name && name->kind == JSON_STRING && slice_is(name->text, scenarios[i].name))
            scenario = i;
    int label = name_index(json_get(v, "label"), label_names, LABEL_COUNT);
    int outcome = name_index(json_get(v, "outcome"), outcome_names, OUTCOME_COUNT);
    if (scenario < 0 || label < 0 || outcome < 0)
        return err_set(e, E_SYNTAX, "a sample of unknown scenario, label or outcome");
    *s = sample_new();
    read_fields(v, s, sample_fields, ARRAY_COUNT(sample_fields));
    s->scenario = (enum scenario_id)scenario;
    s->label = (enum label)label;
    s->outcome = (enum outcome)outcome;
    for (size_t i = 0; flags && flags->kind == JSON_ARRAY && i < flags->count; i++) {
        int bit = name_index(&flags->items[i], flag_names, FLAG_COUNT);
        if (bit >= 0)
            s->flags |= 1u << bit;
    }
    if (s->system >= r->n_systems || s->model >= r->n_models)
        return err_set(e, E_SYNTAX, "a sample of a system or model that is not listed");
    return OK;
}

enum status results_read(struct slice json, struct results *r, struct err *e)
{
    struct arena a;
    struct json *v = NULL;
    arena_init(&a, 1u << 30);
    *r = (struct results){0};
    enum status st = json_parse(json, &a, &v, e);
    const struct json *schema = json_get(v, "schema"), *list;
    if (st == OK &&
        !(schema && schema->kind == JSON_STRING && slice_is(schema->text, "kvasir-bench") &&
          json_integer(json_get(v, "schema_version"), 0) == SCHEMA_VERSION))
        st = err_set(e, E_SYNTAX, "no results of kvasir bench, schema version %d", SCHEMA_VERSION);
    if (st != OK)
        goto out;
    read_fields(json_get(v, "run"), r, run_fields, ARRAY_COUNT(run_fields));
    list = json_get(v, "systems");
    for (size_t i = 0; list && list->kind == JSON_ARRAY && i < list->count && i < SYSTEMS_MAX; i++)
        read_fields(&list->items[i], &r->systems[r->n_systems++], system_fields,
                    ARRAY_COUNT(system_fields));
    list = json_get(v, "models");
    for (size_t i = 0; list && list->kind == JSON_ARRAY && i < list->count && i < MODELS_MAX; i++)
        read_fields(&list->items[i], &r->models[r->n_models++], model_fields,
                    ARRAY_COUNT(model_fields));
    list = json_get(v, "samples");
    for (size_t i = 0; st == OK && list && list->kind == JSON_ARRAY && i < list->count; i++) {
        struct sample s;
        st = read_sample(&list->items[i], r, &s, e);
        if (st == OK && !results_add(r, &s))
            st = err_set(e, E_LIMIT, "more than %u samples", SAMPLES_MAX);
    }
out:
    arena_release(&a);
    if (st != OK)
        results_release(r);
    return st;
}
