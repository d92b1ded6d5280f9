/* SPDX-License-Identifier: MIT
 * ollama_answers.c — what Ollama tells without generating: the models, one of them, the version;
 * what changes them; and what is not done here, each with Ollama's own shape of an error. */
#include <inttypes.h>
#include <stdio.h>

#include "api/api_int.h"
#include "base/check.h"

/* Clients switch features by it: the version of Ollama's API that this follows. */
#define OLLAMA_API_VERSION "0.12.6"

static const struct field_set *const no_fields[] = {NULL};

static void write_name(struct json_writer *w, const char *key, const char *name)
{
    char text[512];
    snprintf(text, sizeof text, "%s%s", name, strchr(name, ':') ? "" : ":latest");
    jw_key(w, key);
    jw_text(w, text);
}

void write_parameter_size(struct json_writer *w, const char *key, uint64_t n)
{
    char text[32];
    if (n >= 1000000000u)
        snprintf(text, sizeof text, "%.1fB", (double)n * 1e-9);
    else if (n >= 1000000u)
        snprintf(text, sizeof text, "%.2fM", (double)n * 1e-6);
    else
        snprintf(text, sizeof text, "%.2fK", (double)n * 1e-3);
    jw_key(w, key);
    jw_text(w, text);
}

static void write_details(struct json_writer *w, const struct engine_card *c)
{
    jw_key(w, "details");
    jw_begin_object(w);
    jw_key(w, "parent_model");
    jw_text(w, "");
    jw_key(w, "format");
    jw_text(w, "gguf");
    jw_key(w, "family");
    jw_text(w, c ? c->arch : "");
    jw_key(w, "families");
    jw_begin_array(w);
    if (c)
        jw_text(w, c->arch);
    jw_end_array(w);
    write_parameter_size(w, "parameter_size", c ? c->n_parameters : 0);
    jw_key(w, "quantization_level");
    jw_text(w, c ? c->quantization : "unknown");
    jw_end_object(w);
}

/* Of the template in use, if it is loaded: its file may have none. */
static struct slice template_of(const struct fleet_entry *m)
{
    const struct engine_info *info = model_info_of(m);
    return info      ? info->template_source
           : m->card ? m->card->template_source
                     : (struct slice){"", 0};
}

static void write_capabilities(struct json_writer *w, const struct fleet_entry *m)
{
    struct turn_format format = turn_format_of(template_of(m));
    jw_key(w, "capabilities");
    jw_begin_array(w);
    if (m->card)
        jw_text(w, m->card->is_embedding ? "embedding" : "completion");
    if (format.has_tools)
        jw_text(w, "tools");
    if (format.has_reasoning)
        jw_text(w, "thinking");
    jw_end_array(w);
}

static void write_digest(struct json_writer *w, const struct fleet_entry *m)
{
    char hex[DIGEST_HEX_BYTES];
    digest_hex(&m->digest, hex);
    jw_key(w, "digest");
    jw_text(w, hex);
}

static void write_model(struct inquiry *a, const struct fleet_entry *m, bool is_running)
{
    jw_begin_object(&a->w);
    write_name(&a->w, "name", m->name);
    write_name(&a->w, "model", m->name);
    if (!is_running)
        write_time(&a->w, "modified_at", m->modified_unix_s);
    jw_key(&a->w, "size");
    jw_int(&a->w, (int64_t)m->file_bytes);
    write_digest(&a->w, m);
    write_details(&a->w, m->card);
    if (is_running) {
        if (m->expires_unix_s == INT64_MAX) { /* it stays until it is told to go */
            jw_key(&a->w, "expires_at");
            jw_text(&a->w, "9999-12-31T23:59:59Z");
        } else {
            write_time(&a->w, "expires_at", m->expires_unix_s);
        }
        jw_key(&a->w, "size_vram");
        jw_int(&a->w, 0);
        jw_key(&a->w, "context_length");
        jw_int(&a->w, model_info_of(m)->n_ctx);
    } else {
        write_capabilities(&a->w, m);
        if (m->error[0]) {
            jw_key(&a->w, "error");
            jw_text(&a->w, m->error);
        }
    }
    jw_end_object(&a->w);
}

static void list(struct fields *f, struct inquiry *a, bool is_running)
{
    const struct fleet_list *l = models_of(f, a);
    jw_begin_object(&a->w);
    jw_key(&a->w, "models");
    jw_begin_array(&a->w);
    for (uint32_t i = 0; i < l->n; i++)
        if (!is_running || l->entries[i].engine)
            write_model(a, &l->entries[i], is_running);
    jw_end_array(&a->w);
    jw_end_object(&a->w);
}

static void tags(struct fields *f, struct inquiry *a)
{
    list(f, a, false);
}

static void ps(struct fields *f, struct inquiry *a)
{
    list(f, a, true);
}

static void version(struct fields *f, struct inquiry *a)
{
    (void)f;
    jw_begin_object(&a->w);
    jw_key(&a->w, "version");
    jw_text(&a->w, OLLAMA_API_VERSION);
    jw_key(&a->w, "kvasir");
    jw_text(&a->w, KVASIR_VERSION);
    jw_end_object(&a->w);
}

/* ---- one model ---- */
/* The name that a body says under "model", or in older clients under "name". */
static struct slice named(struct fields *f, const char *field_name)
{
    struct slice name = {"", 0};
    field_string(f, "name", &name);
    field_string(f, field_name, &name);
    return name;
}

/* NULL: there is no such model, and *f says so. */
static const struct fleet_entry *find(struct fields *f, struct inquiry *a, struct slice name)
{
    if (f->status == OK && name.len == 0)
        answer_refuse(f, 400, NULL, "model is required");
    return model_of(f, a, name);
}

static void write_count(struct json_writer *w, const char *arch, const char *name, uint64_t n)
{
    char key[160];
    snprintf(key, sizeof key, "%s.%s", arch, name);
    jw_key(w, key);
    jw_int(w, (int64_t)n);
}

static void write_parameters(struct json_writer *w, const struct sampler_params *p)
{
    char text[256];
    snprintf(text, sizeof text, "temperature %g\ntop_k %d\ntop_p %g\nmin_p %g\nrepeat_penalty %g",
             (double)p->temperature, p->top_k, (double)p->top_p, (double)p->min_p,
             (double)p->repeat_penalty);
    jw_key(w, "parameters");
    jw_text(w, text);
}

static void write_info(struct json_writer *w, const struct engine_card *c)
{
    jw_key(w, "model_info");
    jw_begin_object(w);
    jw_key(w, "general.architecture");
    jw_text(w, c->arch);
    jw_key(w, "general.parameter_count");
    jw_int(w, (int64_t)c->n_parameters);
    write_count(w, c->arch, "context_length", c->n_ctx_train);
    write_count(w, c->arch, "embedding_length", c->n_embd);
    write_count(w, c->arch, "block_count", c->n_layers);
    write_count(w, c->arch, "attention.head_count", c->n_heads);
    write_count(w, c->arch, "attention.head_count_kv", c->n_kv_heads);
    write_count(w, c->arch, "vocab_size", c->n_vocab);
    jw_end_object(w);
}

static void show(struct fields *f, struct inquiry *a)
{
    struct json_writer *w = &a->w;
    const struct fleet_entry *m = find(f, a, named(f, "model"));
    if (m && !m->card)
        answer_refuse(f, 500, NULL, m->error);
    if (f->status != OK)
        return;
    jw_begin_object(w);
    jw_key(w, "license");
    jw_text(w, "");
    jw_key(w, "modelfile");
    jw_text(w, "");
    write_parameters(w, &m->card->sampling);
    jw_key(w, "template");
    jw_string(w, template_of(m));
    write_details(w, m->card);
    write_info(w, m->card);
    write_capabilities(w, m);
    write_time(w, "modified_at", m->modified_unix_s);
    jw_end_object(w);
}

/* What can't be done is told as such, not as a bad request. */
static void end_change(struct fields *f, enum status st, const struct err *e)
{
    if (st == E_UNSUPPORTED)
        answer_refuse(f, 501, NULL, e->msg);
    else if (st != OK)
        answer_fail(f, e);
}

static void copy(struct fields *f, struct inquiry *a)
{
    struct slice to = {"", 0}, from = {"", 0};
    struct err e = {0};
    field_string(f, "source", &from);
    field_string(f, "destination", &to);
    if (find(f, a, from))
        end_change(f, fleet_copy(a->ask->fleet, from, to, &e), &e);
}

static void delete (struct fields *f, struct inquiry *a)
{
    struct slice name = named(f, "model");
    struct err e = {0};
    if (find(f, a, name))
        end_change(f, fleet_remove(a->ask->fleet, name, &e), &e);
}

static void make(struct fields *f, struct inquiry *a)
{
    (void)a;
    answer_refuse(f, 501, NULL, "this server makes no models: it serves the file that -m names");
}

static void push(struct fields *f, struct inquiry *a)
{
    (void)a;
    answer_refuse(f, 501, NULL, "this server sends no models anywhere");
}

static const struct api_field show_rows[] = {
    {"model", FIELD_YES, "404 for one that is not here", "7", NULL},
    {"name", FIELD_YES, "the older word for model", "7", NULL},
    {"verbose", FIELD_NONE, "", NULL, NULL},
};
static const struct field_set show_set = FIELD_SET(show_rows);
static const struct field_set *const show_fields[] = {&show_set, NULL};
static const struct api_field copy_rows[] = {
    {"source", FIELD_YES, "404 for a model that is not here", "7", NULL},
    {"destination", FIELD_YES, "", "7", NULL},
};
static const struct field_set copy_set = FIELD_SET(copy_rows);
static const struct field_set *const copy_fields[] = {&copy_set, NULL};

#define ANSWER(variable, its_name, function, its_fields)        \
    const struct api_dialect variable = {.name = its_name,      \
                                         .family = "Ollama",    \
                                         .answer = function,    \
                                         .error = ollama_error, \
                                         .fields = its_fields}
ANSWER(dialect_ollama_tags, "tags", tags, no_fields);
ANSWER(dialect_ollama_ps, "ps", ps, no_fields);
ANSWER(dialect_ollama_version, "version", version, no_fields);
ANSWER(dialect_ollama_show, "show", show, show_fields);

ANSWER(dialect_ollama_create, "create", make, no_fields);
ANSWER(dialect_ollama_push, "push", push, no_fields);
/* These change what is everybody's. */
const struct api_dialect dialect_ollama_copy = {.name = "copy",
                                                .family = "Ollama",
                                                .answer = copy,
                                                .is_for_admins = true,
                                                .error = ollama_error,
                                                .fields = copy_fields};
const struct api_dialect dialect_ollama_delete = {.name = "delete",
                                                  .family = "Ollama",
                                                  .answer = delete,
                                                  .is_for_admins = true,
                                                  .error = ollama_error,
                                                  .fields = no_fields};
