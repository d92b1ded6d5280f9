/* SPDX-License-Identifier: MIT
 * lmstudio_openai.c — LM Studio's /api/v0: OpenAI's requests and replies, with stats, model_info
 * and runtime in what ends a reply; and its lists of models, v0 and v1. */
#include "api/api_int.h"

static const struct api_field more_rows[] = {
    {"ttl", FIELD_YES, "seconds without requests until the model goes; not the one that stays", "0",
     NULL},
    {"draft_model", FIELD_REFUSED, "guesses come from the text itself; --speculate", "\"small\"",
     NULL},
};
static const struct field_set more = FIELD_SET(more_rows);

void read_ttl(struct fields *f, struct api_call *c)
{
    int64_t seconds = 0;
    if (field_int(f, "ttl", 1, INT32_MAX, &seconds))
        c->keep_s = seconds;
}

/* ---- what a reply says more ---- */
static const char *stop_reason(const struct api_call *c)
{
    const struct api_choice *choice = &c->choices[c->last_choice];
    return choice->finish == FINISH_LENGTH ? "maxPredictedTokensReached"
           : choice->stop.len              ? "stopStringFound"
           : choice->n_calls               ? "toolCalls"
                                           : "eosFound";
}

static void write_stats(struct json_writer *w, const struct api_call *c)
{
    const struct engine_usage *u = &c->usage;
    jw_key(w, "stats");
    jw_begin_object(w);
    jw_key(w, "tokens_per_second");
    jw_double(w, u->decode_ms > 0 ? u->completion_tokens * 1e3 / u->decode_ms : 0);
    jw_key(w, "time_to_first_token");
    jw_double(w, first_token_ms(u) * 1e-3);
    jw_key(w, "generation_time");
    jw_double(w, u->decode_ms * 1e-3);
    jw_key(w, "stop_reason");
    jw_text(w, stop_reason(c));
    if (u->guessed_tokens) {
        jw_key(w, "total_draft_tokens_count");
        jw_int(w, u->guessed_tokens);
        jw_key(w, "accepted_draft_tokens_count");
        jw_int(w, u->accepted_tokens);
    }
    jw_end_object(w);
}

static void write_runtime(struct json_writer *w)
{
    jw_key(w, "runtime");
    jw_begin_object(w);
    jw_key(w, "name");
    jw_text(w, "kvasir");
    jw_key(w, "version");
    jw_text(w, KVASIR_VERSION);
    jw_key(w, "supported_formats");
    jw_begin_array(w);
    jw_text(w, "gguf");
    jw_end_array(w);
    jw_end_object(w);
}

static void write_extra(struct json_writer *w, const struct api_call *c)
{
    write_stats(w, c);
    jw_key(w, "model_info");
    jw_begin_object(w);
    jw_key(w, "arch");
    jw_text(w, c->info ? c->info->model->arch : NULL);
    jw_key(w, "quant");
    jw_text(w, c->info ? c->info->quantization : NULL);
    jw_key(w, "format");
    jw_text(w, "gguf");
    jw_key(w, "context_length");
    jw_int(w, c->info ? c->info->n_ctx : 0);
    jw_end_object(w);
    write_runtime(w);
}

static const struct field_set *const chat_fields[] = {&more,
                                                      &fields_openai_chat_own,
                                                      &fields_format,
                                                      &fields_common,
                                                      &fields_sampling,
                                                      &fields_filters,
                                                      &fields_openai_inert,
                                                      &fields_llama_refused,
                                                      NULL};
static const struct field_set *const text_fields[] = {&more,
                                                      &fields_openai_text_own,
                                                      &fields_format,
                                                      &fields_common,
                                                      &fields_sampling,
                                                      &fields_filters,
                                                      &fields_openai_inert,
                                                      &fields_llama_refused,
                                                      NULL};

static void read_v0_chat(struct fields *f, const struct api_context *context, struct api_call *c,
                         struct engine_request *r)
{
    read_openai_chat(f, context, c, r);
    read_ttl(f, c);
}

static void read_v0_text(struct fields *f, const struct api_context *context, struct api_call *c,
                         struct engine_request *r)
{
    read_openai_text(f, context, c, r);
    read_ttl(f, c);
}

extern const struct api_writer writer_openai_chat, writer_openai_text;
const struct api_dialect dialect_lmstudio_v0_chat = {.name = "v0 chat",
                                                     .family = "LM Studio",
                                                     .id_prefix = "chatcmpl-",
                                                     .call_id_prefix = "call_",
                                                     .stream_type = "text/event-stream",
                                                     .read = read_v0_chat,
                                                     .writer = &writer_openai_chat,
                                                     .extra = write_extra,
                                                     .error = openai_error,
                                                     .fields = chat_fields};
const struct api_dialect dialect_lmstudio_v0_text = {.name = "v0 completions",
                                                     .family = "LM Studio",
                                                     .id_prefix = "cmpl-",
                                                     .call_id_prefix = "call_",
                                                     .stream_type = "text/event-stream",
                                                     .read = read_v0_text,
                                                     .writer = &writer_openai_text,
                                                     .extra = write_extra,
                                                     .error = openai_error,
                                                     .fields = text_fields};

/* ---- models, v0 ---- */
static void write_v0_model(struct json_writer *w, const struct fleet_entry *m)
{
    const struct engine_info *info = model_info_of(m);
    const struct engine_card *c = m->card;
    jw_begin_object(w);
    jw_key(w, "id");
    jw_text(w, m->name);
    jw_key(w, "object");
    jw_text(w, "model");
    jw_key(w, "type");
    jw_text(w, c && c->is_embedding ? "embeddings" : "llm");
    jw_key(w, "publisher");
    jw_text(w, "kvasir");
    jw_key(w, "arch");
    jw_text(w, c ? c->arch : NULL);
    jw_key(w, "compatibility_type");
    jw_text(w, "gguf");
    jw_key(w, "quantization");
    jw_text(w, c ? c->quantization : NULL);
    jw_key(w, "state");
    jw_text(w, info ? "loaded" : "not-loaded");
    jw_key(w, "max_context_length");
    jw_int(w, c ? c->n_ctx_train : 0);
    if (info) {
        jw_key(w, "loaded_context_length");
        jw_int(w, info->n_ctx);
    }
    if (m->error[0]) {
        jw_key(w, "error");
        jw_text(w, m->error);
    }
    jw_end_object(w);
}

static void v0_models(struct fields *f, struct inquiry *a)
{
    const struct fleet_list *l = models_of(f, a);
    jw_begin_object(&a->w);
    jw_key(&a->w, "object");
    jw_text(&a->w, "list");
    jw_key(&a->w, "data");
    jw_begin_array(&a->w);
    for (uint32_t i = 0; i < l->n; i++)
        write_v0_model(&a->w, &l->entries[i]);
    jw_end_array(&a->w);
    jw_end_object(&a->w);
}

static void v0_model(struct fields *f, struct inquiry *a)
{
    const struct fleet_entry *m = model_of(f, a, a->ask->id);
    if (m)
        write_v0_model(&a->w, m);
}

/* ---- models, v1 ---- */
static void write_config(struct json_writer *w, const struct engine_info *info)
{
    jw_begin_object(w);
    jw_key(w, "context_length");
    jw_int(w, info->n_ctx);
    jw_key(w, "parallel");
    jw_int(w, info->n_parallel);
    jw_end_object(w);
}

static void write_quantization(struct json_writer *w, const struct engine_card *c)
{
    jw_key(w, "quantization");
    if (!c) {
        jw_null(w);
        return;
    }
    jw_begin_object(w);
    jw_key(w, "name");
    jw_text(w, c->quantization);
    jw_key(w, "bits_per_weight");
    jw_double(w, c->n_parameters ? (double)c->bytes * 8 / (double)c->n_parameters : 0);
    jw_end_object(w);
}

static void write_instances(struct json_writer *w, const struct fleet_entry *m)
{
    const struct engine_info *info = model_info_of(m);
    jw_key(w, "loaded_instances");
    jw_begin_array(w);
    if (info) {
        jw_begin_object(w);
        jw_key(w, "id");
        jw_text(w, m->name);
        jw_key(w, "config");
        write_config(w, info);
        jw_end_object(w);
    }
    jw_end_array(w);
}

static void write_v1_model(struct json_writer *w, const struct fleet_entry *m)
{
    const struct engine_info *info = model_info_of(m);
    const struct engine_card *c = m->card;
    struct slice source = info ? info->template_source : c ? c->template_source : SLICE_LIT("");
    jw_begin_object(w);
    jw_key(w, "type");
    jw_text(w, c && c->is_embedding ? "embedding" : "llm");
    jw_key(w, "publisher");
    jw_text(w, "kvasir");
    jw_key(w, "key");
    jw_text(w, m->name);
    jw_key(w, "display_name");
    jw_text(w, c ? c->name : m->name);
    jw_key(w, "architecture");
    jw_text(w, c ? c->arch : NULL);
    write_quantization(w, c);
    jw_key(w, "size_bytes");
    jw_int(w, (int64_t)m->file_bytes);
    write_parameter_size(w, "params_string", c ? c->n_parameters : 0);
    write_instances(w, m);
    jw_key(w, "max_context_length");
    jw_int(w, c ? c->n_ctx_train : 0);
    jw_key(w, "format");
    jw_text(w, "gguf");
    jw_key(w, "capabilities");
    jw_begin_object(w);
    jw_key(w, "vision");
    jw_bool(w, false);
    jw_key(w, "trained_for_tool_use");
    jw_bool(w, turn_format_of(source).has_tools);
    jw_end_object(w);
    if (m->error[0]) {
        jw_key(w, "error");
        jw_text(w, m->error);
    }
    jw_end_object(w);
}

static void v1_models(struct fields *f, struct inquiry *a)
{
    const struct fleet_list *l = models_of(f, a);
    jw_begin_object(&a->w);
    jw_key(&a->w, "models");
    jw_begin_array(&a->w);
    for (uint32_t i = 0; i < l->n; i++)
        write_v1_model(&a->w, &l->entries[i]);
    jw_end_array(&a->w);
    jw_end_object(&a->w);
}

/* It was loaded before this was called; what was loaded already took no time. */
static void load(struct fields *f, struct inquiry *a)
{
    struct slice name = {"", 0};
    bool echoes = false;
    field_string(f, "model", &name);
    read_context_length(f, "context_length", &a->ask->context);
    field_bool(f, "echo_load_config", &echoes);
    if (!model_of(f, a, name))
        return;
    jw_begin_object(&a->w);
    jw_key(&a->w, "type");
    jw_text(&a->w, "llm");
    jw_key(&a->w, "instance_id");
    jw_text(&a->w, a->ask->context.model_name);
    jw_key(&a->w, "load_time_seconds");
    jw_double(&a->w, a->ask->context.load_ms * 1e-3);
    jw_key(&a->w, "status");
    jw_text(&a->w, "loaded");
    if (echoes) {
        jw_key(&a->w, "load_config");
        write_config(&a->w, a->ask->info);
    }
    jw_end_object(&a->w);
}

void answer_unload(struct fields *f, struct inquiry *a, struct slice name)
{
    struct err e = {0};
    if (!model_of(f, a, name))
        return;
    enum status st = fleet_unload(a->ask->fleet, name, &e);
    if (st == E_UNSUPPORTED)
        answer_refuse(f, 501, "unsupported", e.msg);
    else if (st != OK)
        answer_fail(f, &e);
}

static void unload(struct fields *f, struct inquiry *a)
{
    struct slice name = {"", 0};
    field_string(f, "instance_id", &name);
    answer_unload(f, a, name);
    jw_begin_object(&a->w);
    jw_key(&a->w, "instance_id");
    jw_string(&a->w, name);
    jw_end_object(&a->w);
}

static const struct field_set *const no_fields[] = {NULL};
static const struct api_field load_rows[] = {
    {"model", FIELD_YES, "404 for one that is not here", "7", NULL},
    {"context_length", FIELD_YES, "up to the context that is served", "999999999", NULL},
    {"echo_load_config", FIELD_YES, "", "7", NULL},
    {"flash_attention", FIELD_NONE, "no result depends on it", NULL, NULL},
    {"eval_batch_size", FIELD_NONE, "no result depends on it; --chunk", NULL, NULL},
    {"num_experts", FIELD_NONE, "no model here has some", NULL, NULL},
    {"offload_kv_cache_to_gpu", FIELD_NONE, "there is none", NULL, NULL},
};
static const struct field_set load_set = FIELD_SET(load_rows);
static const struct field_set *const load_fields[] = {&load_set, NULL};
static const struct api_field unload_rows[] = {
    {"instance_id", FIELD_YES, "404 for one that is not here", "7", NULL},
};
static const struct field_set unload_set = FIELD_SET(unload_rows);
static const struct field_set *const unload_fields[] = {&unload_set, NULL};

#define ANSWER(variable, its_name, function, its_error, its_fields) \
    const struct api_dialect variable = {.name = its_name,          \
                                         .family = "LM Studio",     \
                                         .answer = function,        \
                                         .error = its_error,        \
                                         .fields = its_fields}
ANSWER(dialect_lmstudio_v0_models, "v0 models", v0_models, openai_error, no_fields);
ANSWER(dialect_lmstudio_v0_model, "v0 model", v0_model, openai_error, no_fields);
ANSWER(dialect_lmstudio_models, "v1 models", v1_models, lmstudio_error, no_fields);
const struct api_dialect dialect_lmstudio_load = {.name = "v1 load",
                                                  .family = "LM Studio",
                                                  .answer = load,
                                                  .needs_model = true,
                                                  .error = lmstudio_error,
                                                  .fields = load_fields};
ANSWER(dialect_lmstudio_unload, "v1 unload", unload, lmstudio_error, unload_fields);
