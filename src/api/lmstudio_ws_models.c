/* SPDX-License-Identifier: MIT
 * lmstudio_ws_models.c — models as LM Studio's SDK knows them: what there is to tell of one, which
 * one a specifier means, and what a channel that loads one says. */
#include <inttypes.h>

#include "api/lmstudio_ws_int.h"
#include "base/digest.h"

#define REFERENCE_BYTES 17u

const struct json *lms_text(const struct json *v, const char *key)
{
    const struct json *m = json_get(v, key);
    return m && m->kind == JSON_STRING ? m : NULL;
}

const struct json *lms_specifier_of(const struct json *parameter)
{
    const struct json *v = json_get(parameter, "specifier");
    return v ? v : json_get(parameter, "modelSpecifier");
}

/* ---- what there is to tell ---- */
struct lms_model lms_model_loaded(const struct engine_info *info, const char *name)
{
    return (struct lms_model){.name = name,
                              .title = info->model_name,
                              .arch = info->model->arch,
                              .quantization = info->quantization,
                              .template_source = info->template_source,
                              .n_parameters = info->model->n_parameters,
                              .bytes = info->model_bytes,
                              .n_ctx_train = info->model->n_ctx_train,
                              .info = info};
}

struct lms_model lms_model_listed(const struct fleet_entry *m)
{
    const struct engine_info *info = model_info_of(m);
    const struct engine_card *c = m->card;
    if (info)
        return lms_model_loaded(info, m->name);
    return (struct lms_model){.name = m->name,
                              .title = c->name,
                              .arch = c->arch,
                              .quantization = c->quantization,
                              .template_source = c->template_source,
                              .n_parameters = c->n_parameters,
                              .bytes = m->file_bytes,
                              .n_ctx_train = c->n_ctx_train};
}

/* Of this instance: another one after it was loaded again. */
static void write_reference(char out[REFERENCE_BYTES], const struct engine_info *info,
                            const char *name)
{
    struct digester d = {0};
    char hex[DIGEST_HEX_BYTES];
    digest_begin(&d);
    digest_field(&d, "kvasir instance", name, strlen(name));
    digest_field(&d, "model", info->model_identity.b, sizeof info->model_identity.b);
    digest_u64(&d, "started", (uint64_t)info->started_unix_s);
    struct digest bytes = digest_end(&d);
    digester_release(&d);
    digest_hex(&bytes, hex);
    memcpy(out, hex, REFERENCE_BYTES - 1);
    out[REFERENCE_BYTES - 1] = '\0';
}

static int64_t bits_of(const struct lms_model *m)
{
    double n = (double)m->n_parameters;
    return m->n_parameters ? (int64_t)((double)m->bytes * 8 / n + 0.5) : 0;
}

void lms_write_info(struct json_writer *w, const struct lms_model *m, const char *type,
                    bool is_instance)
{
    char reference[REFERENCE_BYTES];
    jw_begin_object(w);
    jw_key(w, "type");
    jw_text(w, type);
    jw_key(w, "modelKey");
    jw_text(w, m->name);
    jw_key(w, "format");
    jw_text(w, "gguf");
    jw_key(w, "displayName");
    jw_text(w, m->title);
    jw_key(w, "path");
    jw_text(w, m->name);
    jw_key(w, "sizeBytes");
    jw_int(w, (int64_t)m->bytes);
    write_parameter_size(w, "paramsString", m->n_parameters);
    jw_key(w, "architecture");
    jw_text(w, m->arch);
    jw_key(w, "quantization");
    jw_begin_object(w);
    jw_key(w, "name");
    jw_text(w, m->quantization);
    jw_key(w, "bits");
    jw_int(w, bits_of(m));
    jw_end_object(w);
    if (is_instance) {
        write_reference(reference, m->info, m->name);
        jw_key(w, "identifier");
        jw_text(w, m->name);
        jw_key(w, "instanceReference");
        jw_text(w, reference);
        jw_key(w, "contextLength");
        jw_int(w, m->info->n_ctx);
    }
    if (strcmp(type, "llm") == 0) {
        jw_key(w, "vision");
        jw_bool(w, false);
        jw_key(w, "trainedForToolUse");
        jw_bool(w, turn_format_of(m->template_source).has_tools);
    }
    jw_key(w, "maxContextLength");
    jw_int(w, m->n_ctx_train);
    jw_end_object(w);
}

void lms_write_load_config(struct json_writer *w, const struct engine_info *info)
{
    jw_begin_object(w);
    jw_key(w, "fields");
    jw_begin_array(w);
    jw_begin_object(w);
    jw_key(w, "key");
    jw_text(w, "llm.load.contextLength");
    jw_key(w, "value");
    jw_int(w, info->n_ctx);
    jw_end_object(w);
    jw_end_array(w);
    jw_end_object(w);
}

void lms_not_found(struct fields *f)
{
    answer_refuse(f, 404, "model_not_found", "no such model here");
}

bool lms_is_loaded(const struct fleet_entry *m)
{
    return m && m->state == FLEET_LOADED && m->engine;
}

static const struct fleet_entry *find_instance(const struct fleet_list *l, struct slice reference)
{
    char own[REFERENCE_BYTES];
    for (uint32_t i = 0; i < l->n; i++) {
        if (!lms_is_loaded(&l->entries[i]))
            continue;
        write_reference(own, model_info_of(&l->entries[i]), l->entries[i].name);
        if (slice_is(reference, own))
            return &l->entries[i];
    }
    return NULL;
}

/* The loaded model that a specifier means; NULL: none is, or f has failed. */
const struct fleet_entry *lms_find_loaded(struct fields *f, const struct fleet_list *l)
{
    const struct json *v = lms_specifier_of(f->object), *query = json_get(v, "query");
    const struct json *reference = lms_text(v, "instanceReference");
    if (reference)
        return find_instance(l, reference->text);
    if (!query || query->kind != JSON_OBJECT) {
        field_fail(f, E_INVALID, "specifier", "must be a query or an instanceReference");
        return NULL;
    }
    const struct json *identifier = lms_text(query, "identifier"), *path = lms_text(query, "path"),
                      *domain = lms_text(query, "domain"), *vision = json_get(query, "vision");
    const struct json *name = identifier ? identifier : path;
    if ((domain && !slice_is(domain->text, "llm") && !slice_is(domain->text, "embedding")) ||
        (vision && vision->kind == JSON_BOOL && vision->boolean) || (name && name->text.len == 0))
        return NULL;
    /* Any, where none is named: the one that stays comes first. */
    const struct fleet_entry *m = name ? fleet_find(l, name->text) : l->n ? l->entries : NULL;
    bool is_both = !identifier || !path || (path->text.len && fleet_find(l, path->text) == m);
    return lms_is_loaded(m) && is_both ? m : NULL;
}

const char *lms_type_of(enum api_ws_space space)
{
    return space == API_WS_EMBEDDING ? "embedding" : "llm";
}

/* ---- what a message needs ---- */
void lms_want_loaded(struct fields *f, struct fleet *fleet, struct api_ws_want *want)
{
    struct fleet_list list = {0};
    struct err e = {.pos = ERR_NO_POS};
    if (fleet_list(fleet, &list, &e) != OK) {
        answer_fail(f, &e);
        return;
    }
    const struct fleet_entry *m = lms_find_loaded(f, &list);
    if (m)
        want->model = fleet_try(fleet, slice_of(m->name));
    if (!want->model)
        lms_not_found(f);
    fleet_list_release(&list);
}

void lms_want_load(struct fields *f, const struct api_ws_message *m, struct fleet *fleet,
                   struct api_ws_want *want)
{
    bool is_get = slice_is(m->endpoint, "getOrLoad");
    struct fleet_list list = {0};
    struct err e = {.pos = ERR_NO_POS};
    struct slice identifier = {"", 0};
    int64_t ttl_ms = 0;
    const char *key = is_get ? "identifier" : "modelKey";
    if (!field_string(f, key, &want->name) || want->name.len == 0)
        field_fail(f, E_INVALID, key, "must be a name");
    want->keep_s = FLEET_KEEP_AS_IS;
    if (field_int(f, is_get ? "loadTtlMs" : "ttlMs", 1, INT32_MAX * 1000ll, &ttl_ms))
        want->keep_s = (ttl_ms - 1) / 1000 + 1;
    if (f->status == OK && fleet_list(fleet, &list, &e) != OK)
        answer_fail(f, &e);
    const struct fleet_entry *found = f->status == OK ? fleet_find(&list, want->name) : NULL;
    if (!found)
        lms_not_found(f);
    if (!is_get && field_string(f, "identifier", &identifier) &&
        (identifier.len == 0 || fleet_find(&list, identifier) != found))
        field_fail(f, E_UNSUPPORTED, "identifier", "a model keeps its name on this side");
    fleet_list_release(&list);
}

/* ---- loading ---- */
struct channel {
    enum api_ws_space space;
    const struct api_ws_message *m;
    struct buf *out;
    struct json_writer w;
};

static void begin_send(struct channel *a, const char *type)
{
    jw_init(&a->w, a->out);
    jw_begin_object(&a->w);
    jw_key(&a->w, "type");
    jw_text(&a->w, "channelSend");
    jw_key(&a->w, "channelId");
    jw_int(&a->w, a->m->id);
    jw_key(&a->w, "message");
    jw_begin_object(&a->w);
    jw_key(&a->w, "type");
    jw_text(&a->w, type);
}

static void end_send(struct channel *a)
{
    jw_end_object(&a->w);
    jw_end_object(&a->w);
    buf_add_char(a->out, '\n');
}

static void send_info(struct channel *a, const char *type, const struct lms_model *m,
                      bool is_instance)
{
    begin_send(a, type);
    if (strcmp(type, "startLoading") == 0) {
        jw_key(&a->w, "identifier");
        jw_text(&a->w, m->name);
    }
    jw_key(&a->w, "info");
    lms_write_info(&a->w, m, lms_type_of(a->space), is_instance);
    end_send(a);
}

static void send_progress(struct channel *a, const char *type, int64_t progress)
{
    begin_send(a, type);
    jw_key(&a->w, "progress");
    jw_int(&a->w, progress);
    end_send(a);
}

void api_ws_write_loading(struct buf *out, enum api_ws_space space, const struct api_ws_message *m,
                          struct fleet *fleet, struct slice name)
{
    struct channel a = {.space = space, .m = m, .out = out};
    struct fleet_list list = {0};
    struct err e;
    bool is_get = slice_is(m->endpoint, "getOrLoad");
    const struct fleet_entry *found = NULL;
    if (fleet_list(fleet, &list, &e) == OK)
        found = fleet_find(&list, name);
    if (found && found->card) {
        const struct lms_model model = lms_model_listed(found);
        send_info(&a, is_get ? "startLoading" : "resolved", &model, false);
        send_progress(&a, is_get ? "loadProgress" : "progress", 0);
    }
    fleet_list_release(&list);
}

enum status api_ws_write_loaded(struct buf *out, enum api_ws_space space,
                                const struct api_ws_message *m, const struct engine_info *info,
                                const char *name, bool was_there, struct api_error *error)
{
    struct channel a = {.space = space, .m = m, .out = out};
    const struct lms_model model = lms_model_loaded(info, name);
    const struct json *stack = json_get(m->parameter, "loadConfigStack");
    const struct json *n_ctx =
        lms_config(stack, space == API_WS_EMBEDDING ? "embedding.load.contextLength"
                                                    : "llm.load.contextLength");
    bool is_get = slice_is(m->endpoint, "getOrLoad");
    if (n_ctx && n_ctx->kind == JSON_INT && n_ctx->integer > info->n_ctx)
        return api_error_set(error, E_UNSUPPORTED, "contextLength",
                             "contextLength: the context holds %u tokens; see --ctx", info->n_ctx);
    if (is_get && was_there) {
        send_info(&a, "alreadyLoaded", &model, true);
    } else {
        if (was_there)
            send_info(&a, "resolved", &model, false);
        send_progress(&a, is_get ? "loadProgress" : "progress", 1);
        send_info(&a, is_get ? "loadSuccess" : "success", &model, true);
    }
    buf_printf(out, "{\"type\":\"channelClose\",\"channelId\":%" PRId64 "}\n", m->id);
    return OK;
}
