/* SPDX-License-Identifier: MIT
 * filters.c — llama-server's filters of candidates beyond those that every dialect has: their
 * fields, and the order in which all of them are used. */
#include <string.h>

#include "api/api_int.h"
#include "base/check.h"

#define DRY_MAX          100.0
#define MIROSTAT_TAU_MAX 100.0
#define TEMPERATURE_MAX  1000.0

static const struct api_field filter_rows[] = {
    {"samplers", FIELD_YES,
     "llama-server's names, or letters, of the filters that are wanted, in any order, up to 16: "
     "penalties, dry, top_n_sigma, top_k, typ_p, top_p, min_p, xtc, temperature, adaptive_p; "
     "infill is refused: it needs the texts of all candidates",
     "[\"infill\"]", NULL},
    {"mirostat", FIELD_YES, "1, 2: instead of all filters but temperature", "3", NULL},
    {"mirostat_tau", FIELD_YES, "bits of surprise, default 5", "-1", NULL},
    {"mirostat_eta", FIELD_YES, "default 0.1", "2", NULL},
    {"dynatemp_range", FIELD_YES, "temperature ± this, by entropy", "-1", NULL},
    {"dynatemp_exponent", FIELD_YES, "default 1", "-1", NULL},
    {"top_n_sigma", FIELD_YES, "0 and below: off", "\"x\"", NULL},
    {"xtc_probability", FIELD_YES, "", "2", NULL},
    {"xtc_threshold", FIELD_YES, "default 0.1; above 0.5: off", "2", NULL},
    {"dry_multiplier", FIELD_YES, "over prompt and reply", "-1", NULL},
    {"dry_base", FIELD_YES, "default 1.75, also for less than 1", "1e9", NULL},
    {"dry_allowed_length", FIELD_YES, "default 2", "-1", NULL},
    {"dry_penalty_last_n", FIELD_YES, "-1, the default: all", "-2", NULL},
    {"dry_sequence_breakers", FIELD_YES, "up to 64; default line feed, `:`, `\"`, `*`", "[]", NULL},
    {"adaptive_target", FIELD_YES, "of the filter adaptive_p; below 0: off", "2", NULL},
    {"adaptive_decay", FIELD_YES, "default 0.9", "2", NULL},
    {"min_keep", FIELD_YES, "what typ_p, top_p, min_p and xtc leave at least", "-1", NULL},
    {"post_sampling_probs", FIELD_YES,
     "probabilities of what was drawn from, instead of the model's own", "7", NULL},
};
const struct field_set fields_filters = FIELD_SET(filter_rows);

static const struct {
    const char *name;
    char letter;
    enum sampler_filter filter;
} names[] = {
    {"penalties", 'e', FILTER_PENALTIES},
    {"dry", 'd', FILTER_DRY},
    {"top_n_sigma", 's', FILTER_TOP_N_SIGMA},
    {"top_k", 'k', FILTER_TOP_K},
    {"typ_p", 'y', FILTER_TYPICAL_P},
    {"top_p", 'p', FILTER_TOP_P},
    {"min_p", 'm', FILTER_MIN_P},
    {"xtc", 'x', FILTER_XTC},
    {"temperature", 't', FILTER_TEMPERATURE},
    {"adaptive_p", 'a', FILTER_ADAPTIVE_P},
    {"typical_p", 'y', FILTER_TYPICAL_P}, /* as the field is called */
};

static const char *name_of(enum sampler_filter filter)
{
    size_t i = 0;
    while (names[i].filter != filter)
        i++;
    return names[i].name;
}

/* ---- the order ---- */
static bool find_filter(const struct json *v, size_t at, uint8_t *filter)
{
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        if (v->kind == JSON_STRING ? v->text.ptr[at] == names[i].letter
                                   : json_is_text(&v->items[at], names[i].name)) {
            *filter = (uint8_t)names[i].filter;
            return true;
        }
    }
    return false;
}

static void read_order(struct fields *f, struct filter_order *order)
{
    const struct json *v = field(f, "samplers");
    if (!v)
        return;
    if (v->kind != JSON_STRING && v->kind != JSON_ARRAY) {
        field_fail(f, E_INVALID, "samplers", "must be an array of names, or a string of letters");
        return;
    }
    const size_t n = v->kind == JSON_STRING ? v->text.len : v->count;
    if (n > SAMPLER_ORDER_MAX) {
        field_fail(f, E_LIMIT, "samplers", "at most %u of them", SAMPLER_ORDER_MAX);
        return;
    }
    *order = (struct filter_order){.n = (uint8_t)n, .is_given = true};
    for (size_t i = 0; i < n && f->status == OK; i++)
        if (!find_filter(v, i, &order->at[i]))
            field_fail(f, E_UNSUPPORTED, "samplers", "item %zu is not one of those that are here",
                       i);
}

/* ---- DRY ---- */
/* A breaker may lie across tokens: what each of its rests is in tokens. */
static const struct dry_rest *rests_of(struct fields *f, const struct tokenizer *tokenizer,
                                       struct slice text, struct arena *arena)
{
    struct dry_rest *rests = arena_alloc(arena, text.len, sizeof *rests);
    for (size_t i = 1; rests && i < text.len && f->status == OK; i++) {
        struct token_list list = {0};
        struct err e = {0};
        const struct slice rest = {text.ptr + i, text.len - i};
        if (tokenizer_encode(tokenizer, rest, (struct encode_flags){0}, &list, &e) != OK)
            field_fail(f, e.code, "dry_sequence_breakers", "%s", e.msg);
        const size_t n = list.count < SAMPLER_BREAKER_TOKENS ? list.count : SAMPLER_BREAKER_TOKENS;
        uint32_t *ids = n ? arena_alloc(arena, n, sizeof *ids) : NULL;
        if (ids)
            memcpy(ids, list.ids, n * sizeof *ids);
        rests[i] = (struct dry_rest){ids, ids ? (uint32_t)n : 0};
        token_list_release(&list);
    }
    return rests;
}

static void read_breakers(struct fields *f, const struct api_context *context,
                          struct engine_request *r)
{
    const struct json *v = field(f, "dry_sequence_breakers");
    if (!v)
        return;
    if (v->kind != JSON_ARRAY || v->count == 0) {
        field_fail(f, E_INVALID, "dry_sequence_breakers", "must be a non-empty array of strings");
        return;
    }
    if (v->count > SAMPLER_BREAKERS_MAX) {
        field_fail(f, E_LIMIT, "dry_sequence_breakers", "at most %u of them", SAMPLER_BREAKERS_MAX);
        return;
    }
    struct dry_breaker *breakers = arena_alloc(&r->arena, v->count, sizeof *breakers);
    uint32_t n = 0;
    for (size_t i = 0; breakers && i < v->count && f->status == OK; i++) {
        struct slice text = v->items[i].text;
        if (v->items[i].kind != JSON_STRING) {
            field_fail(f, E_INVALID, "dry_sequence_breakers",
                       "must be a non-empty array of strings");
            return;
        }
        if (text.len > SAMPLER_BREAKER_BYTES)
            text.len = SAMPLER_BREAKER_BYTES; /* as there */
        if (text.len == 0)
            continue;
        const bool has_rests = text.len > 1 && context->tokenizer;
        breakers[n++] = (struct dry_breaker){
            text, has_rests ? rests_of(f, context->tokenizer, text, &r->arena) : NULL};
    }
    r->sampling.breakers = breakers;
    r->sampling.n_breakers = breakers ? n : 0;
}

static void read_dry(struct fields *f, const struct api_context *context, struct engine_request *r)
{
    struct sampler_params *p = &r->sampling;
    int64_t v = 0;
    float base = 0;
    field_float(f, "dry_multiplier", 0, DRY_MAX, &p->dry_multiplier);
    if (field_float(f, "dry_base", -DRY_MAX, DRY_MAX, &base) && base >= 1)
        p->dry_base = base;
    if (field_int(f, "dry_allowed_length", 0, INT32_MAX, &v))
        p->dry_allowed_length = (int32_t)v;
    if (field_int(f, "dry_penalty_last_n", -1, INT32_MAX, &v))
        p->dry_penalty_last_n = (int32_t)v;
    read_breakers(f, context, r);
}

/* ---- all ---- */
void read_mirostat(struct fields *f, struct engine_request *r)
{
    struct sampler_params *p = &r->sampling;
    int64_t v = 0;
    if (field_int(f, "mirostat", 0, 2, &v))
        p->mirostat = (uint32_t)v;
    field_float(f, "mirostat_tau", 0, MIROSTAT_TAU_MAX, &p->mirostat_tau);
    field_float(f, "mirostat_eta", 0, 1, &p->mirostat_eta);
}

void read_filters(struct fields *f, const struct api_context *context, struct engine_request *r)
{
    struct sampler_params *p = &r->sampling;
    int64_t v = 0;
    read_mirostat(f, r);
    field_float(f, "dynatemp_range", 0, TEMPERATURE_MAX, &p->dynatemp_range);
    field_float(f, "dynatemp_exponent", 0, TEMPERATURE_MAX, &p->dynatemp_exponent);
    field_float(f, "top_n_sigma", -TEMPERATURE_MAX, TEMPERATURE_MAX, &p->top_n_sigma);
    field_float(f, "xtc_probability", 0, 1, &p->xtc_probability);
    field_float(f, "xtc_threshold", 0, 1, &p->xtc_threshold);
    field_float(f, "adaptive_target", -1, 1, &p->adaptive_target);
    field_float(f, "adaptive_decay", 0, 1, &p->adaptive_decay);
    if (field_int(f, "min_keep", 0, INT32_MAX, &v))
        p->min_keep = (uint32_t)v;
    field_bool(f, "post_sampling_probs", &p->wants_drawn);
    read_dry(f, context, r);
    read_order(f, &p->order);
}

/* ---- what was used ---- */
void write_filters(struct json_writer *w, const struct sampler_params *p)
{
    const struct {
        const char *name;
        double value;
    } reals[] = {{"dynatemp_range", (double)p->dynatemp_range},
                 {"dynatemp_exponent", (double)p->dynatemp_exponent},
                 {"top_n_sigma", (double)p->top_n_sigma},
                 {"xtc_probability", (double)p->xtc_probability},
                 {"xtc_threshold", (double)p->xtc_threshold},
                 {"dry_multiplier", (double)p->dry_multiplier},
                 {"dry_base", (double)p->dry_base},
                 {"mirostat_tau", (double)p->mirostat_tau},
                 {"mirostat_eta", (double)p->mirostat_eta}};
    const struct {
        const char *name;
        int64_t value;
    } integers[] = {{"dry_allowed_length", p->dry_allowed_length},
                    {"dry_penalty_last_n", p->dry_penalty_last_n},
                    {"mirostat", p->mirostat},
                    {"min_keep", p->min_keep}};
    for (size_t i = 0; i < ARRAY_COUNT(reals); i++) {
        jw_key(w, reals[i].name);
        jw_double(w, reals[i].value);
    }
    for (size_t i = 0; i < ARRAY_COUNT(integers); i++) {
        jw_key(w, integers[i].name);
        jw_int(w, integers[i].value);
    }
    jw_key(w, "post_sampling_probs");
    jw_bool(w, p->wants_drawn);
    jw_key(w, "samplers");
    jw_begin_array(w);
    const uint8_t n = p->order.is_given ? p->order.n : FILTER_ADAPTIVE_P;
    for (uint8_t i = 0; i < n; i++)
        jw_text(w, name_of(p->order.is_given ? p->order.at[i] : i));
    jw_end_array(w);
}
