/* SPDX-License-Identifier: MIT
 * ollama_answers.c — what Ollama tells without generating: the models, one of them, the version;
 * and what a server of one model does not do, each with Ollama's own shape of an error. */
#include <inttypes.h>
#include <stdio.h>

#include "api/api_int.h"
#include "base/check.h"

/* Clients switch features by it: the version of Ollama's API that this follows. */
#define OLLAMA_API_VERSION "0.12.6"

static const struct field_set *const no_fields[] = {NULL};

/* A name without a tag means :latest. */
static struct slice without_latest(struct slice name)
{
    struct slice tag = SLICE_LIT(":latest");
    if (name.len > tag.len && memcmp(name.ptr + name.len - tag.len, tag.ptr, tag.len) == 0)
        name.len -= tag.len;
    return name;
}

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

static void write_details(struct json_writer *w, const struct engine_info *info)
{
    jw_key(w, "details");
    jw_begin_object(w);
    jw_key(w, "parent_model");
    jw_text(w, "");
    jw_key(w, "format");
    jw_text(w, "gguf");
    jw_key(w, "family");
    jw_text(w, info->model->arch);
    jw_key(w, "families");
    jw_begin_array(w);
    jw_text(w, info->model->arch);
    jw_end_array(w);
    write_parameter_size(w, "parameter_size", info->model->n_parameters);
    jw_key(w, "quantization_level");
    jw_text(w, info->quantization);
    jw_end_object(w);
}

static void write_capabilities(struct json_writer *w, const struct inquiry *a)
{
    struct turn_format format = turn_format_of(a->ask->info->template_source);
    jw_key(w, "capabilities");
    jw_begin_array(w);
    jw_text(w, "completion");
    if (format.has_tools)
        jw_text(w, "tools");
    if (format.has_reasoning)
        jw_text(w, "thinking");
    jw_end_array(w);
}

static void write_digest(struct json_writer *w, const struct engine_info *info)
{
    char hex[DIGEST_HEX_BYTES];
    digest_hex(&info->model_identity, hex);
    jw_key(w, "digest");
    jw_text(w, hex);
}

static void write_model(struct inquiry *a, bool is_running)
{
    const struct engine_info *info = a->ask->info;
    jw_begin_object(&a->w);
    write_name(&a->w, "name", a->ask->context.model_name);
    write_name(&a->w, "model", a->ask->context.model_name);
    if (!is_running)
        write_time(&a->w, "modified_at", info->started_unix_s);
    jw_key(&a->w, "size");
    jw_int(&a->w, (int64_t)info->model_bytes);
    write_digest(&a->w, info);
    write_details(&a->w, info);
    if (is_running) { /* it stays for as long as the server runs */
        jw_key(&a->w, "expires_at");
        jw_text(&a->w, "9999-12-31T23:59:59Z");
        jw_key(&a->w, "size_vram");
        jw_int(&a->w, 0);
        jw_key(&a->w, "context_length");
        jw_int(&a->w, info->n_ctx);
    } else {
        write_capabilities(&a->w, a);
    }
    jw_end_object(&a->w);
}

static void list(struct inquiry *a, bool is_running)
{
    jw_begin_object(&a->w);
    jw_key(&a->w, "models");
    jw_begin_array(&a->w);
    write_model(a, is_running);
    jw_end_array(&a->w);
    jw_end_object(&a->w);
}

static void tags(struct fields *f, struct inquiry *a)
{
    (void)f;
    list(a, false);
}

static void ps(struct fields *f, struct inquiry *a)
{
    (void)f;
    list(a, true);
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

static bool is_here(const struct inquiry *a, struct slice name)
{
    name = without_latest(name);
    return slice_equal(name, without_latest(slice_of(a->ask->context.model_name))) ||
           slice_is(name, a->ask->info->model_name);
}

/* False: there is no such model, and *f says so. */
static bool check_model(struct fields *f, const struct inquiry *a, struct slice name)
{
    char message[300];
    if (f->status != OK || is_here(a, name))
        return f->status == OK;
    snprintf(message, sizeof message, "model '%.*s' not found",
             (int)(name.len < 200 ? name.len : 200), name.ptr);
    answer_refuse(f, name.len ? 404 : 400, NULL, name.len ? message : "model is required");
    return false;
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

static void show(struct fields *f, struct inquiry *a)
{
    const struct engine_info *info = a->ask->info;
    const struct model_info *m = info->model;
    struct json_writer *w = &a->w;
    if (!check_model(f, a, named(f, "model")))
        return;
    jw_begin_object(w);
    jw_key(w, "license");
    jw_text(w, "");
    jw_key(w, "modelfile");
    jw_text(w, "");
    write_parameters(w, &info->sampling);
    jw_key(w, "template");
    jw_string(w, info->template_source);
    write_details(w, info);
    jw_key(w, "model_info");
    jw_begin_object(w);
    jw_key(w, "general.architecture");
    jw_text(w, m->arch);
    jw_key(w, "general.parameter_count");
    jw_int(w, (int64_t)m->n_parameters);
    write_count(w, m->arch, "context_length", m->n_ctx_train);
    write_count(w, m->arch, "embedding_length", m->n_embd);
    write_count(w, m->arch, "block_count", m->n_layers);
    write_count(w, m->arch, "attention.head_count", m->n_heads);
    write_count(w, m->arch, "attention.head_count_kv", m->n_kv_heads);
    write_count(w, m->arch, "vocab_size", m->n_vocab);
    jw_end_object(w);
    write_capabilities(w, a);
    write_time(w, "modified_at", info->started_unix_s);
    jw_end_object(w);
}

/* What is here need not be fetched; nothing else can be. */
static void pull(struct fields *f, struct inquiry *a)
{
    struct slice name = named(f, "model");
    bool is_stream = true;
    field_bool(f, "stream", &is_stream);
    if (f->status != OK)
        return;
    if (name.len == 0) {
        answer_refuse(f, 400, NULL, "model is required");
    } else if (!is_here(a, name)) {
        answer_refuse(f, 501, NULL,
                      "this server fetches no models: put a .gguf file where it can read it, and "
                      "start it with -m");
    } else {
        jw_begin_object(&a->w);
        jw_key(&a->w, "status");
        jw_text(&a->w, "success");
        jw_end_object(&a->w);
    }
}

static void refuse_change(struct fields *f, struct inquiry *a, struct slice name, const char *why)
{
    if (check_model(f, a, name))
        answer_refuse(f, 501, NULL, why);
}

static void copy(struct fields *f, struct inquiry *a)
{
    struct slice to = {"", 0}, from = {"", 0};
    field_string(f, "source", &from);
    field_string(f, "destination", &to);
    refuse_change(f, a, from, "this server has one model under one name; --alias gives it another");
}

static void delete (struct fields *f, struct inquiry *a)
{
    refuse_change(f, a, named(f, "model"),
                  "the model that is served can't be deleted; stop the server and remove its file");
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
    {"model", FIELD_YES, "404 for another one", "7", NULL},
    {"name", FIELD_YES, "the older word for model", "7", NULL},
    {"verbose", FIELD_NONE, "", NULL, NULL},
};
static const struct field_set show_set = FIELD_SET(show_rows);
static const struct field_set *const show_fields[] = {&show_set, NULL};
static const struct api_field pull_rows[] = {
    {"model", FIELD_YES, "the one that is here: success; another: 501", "7", NULL},
    {"name", FIELD_YES, "the older word for model", "7", NULL},
    {"stream", FIELD_YES, "one line either way", "7", NULL},
    {"insecure", FIELD_NONE, "", NULL, NULL},
};
static const struct field_set pull_set = FIELD_SET(pull_rows);
static const struct field_set *const pull_fields[] = {&pull_set, NULL};
static const struct api_field copy_rows[] = {
    {"source", FIELD_YES, "404 for another one, else 501", "7", NULL},
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
ANSWER(dialect_ollama_pull, "pull", pull, pull_fields);
ANSWER(dialect_ollama_copy, "copy", copy, copy_fields);
ANSWER(dialect_ollama_delete, "delete", delete, no_fields);
ANSWER(dialect_ollama_create, "create", make, no_fields);
ANSWER(dialect_ollama_push, "push", push, no_fields);
