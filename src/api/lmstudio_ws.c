/* SPDX-License-Identifier: MIT
 * lmstudio_ws.c — LM Studio's SDK: who it is, what its messages ask for, and all answers but
 * predictions. */
#include <inttypes.h>

#include "api/lmstudio_ws_int.h"
#include "base/check.h"
#include "base/digest.h"

#define IDENTIFIER_BYTES_MAX 1024u
#define REFERENCE_BYTES      17u
#define SAMPLE_MAX           10 /* names in an error */

enum api_ws_space api_ws_space_of(struct slice path)
{
    return slice_is(path, "/llm")         ? API_WS_LLM
           : slice_is(path, "/embedding") ? API_WS_EMBEDDING
           : slice_is(path, "/system")    ? API_WS_SYSTEM
                                          : API_WS_OTHER;
}

/* ---- messages ---- */
static const struct json *text_member(const struct json *v, const char *key)
{
    const struct json *m = json_get(v, key);
    return m && m->kind == JSON_STRING ? m : NULL;
}

enum status api_ws_read_auth(struct slice text, struct arena *a, struct api_ws_auth *out,
                             struct err *e)
{
    struct json *v = NULL;
    enum status st = json_parse(text, a, &v, e);
    if (st != OK)
        return st;
    const struct json *version = json_get(v, "authVersion");
    const struct json *identifier = text_member(v, "clientIdentifier"),
                      *passkey = text_member(v, "clientPasskey");
    if (!version || version->kind != JSON_INT || !identifier || !passkey)
        return err_set(e, E_INVALID, "the first message must say who you are");
    if (version->integer != 1)
        return err_set(e, E_UNSUPPORTED, "only authVersion 1 is understood");
    if (identifier->text.len > IDENTIFIER_BYTES_MAX)
        return err_set(e, E_LIMIT, "clientIdentifier is too long");
    *out = (struct api_ws_auth){identifier->text, passkey->text};
    return OK;
}

void api_ws_write_auth(struct buf *out, const char *why)
{
    struct json_writer w;
    jw_init(&w, out);
    jw_begin_object(&w);
    jw_key(&w, "success");
    jw_bool(&w, !why);
    if (why) {
        jw_key(&w, "error");
        jw_text(&w, why);
    }
    jw_end_object(&w);
    buf_add_char(out, '\n');
}

static const struct {
    const char *type;
    enum api_ws_kind kind;
    const char *id, *parameter; /* their members, or NULL */
} types[] = {
    {"keepAlive", API_WS_KEEP_ALIVE, NULL, NULL},
    {"communicationWarning", API_WS_NOTE, NULL, NULL},
    {"channelCreate", API_WS_CHANNEL, "channelId", "creationParameter"},
    {"channelSend", API_WS_CHANNEL_SEND, "channelId", "message"},
    {"channelAck", API_WS_NOTE, "channelId", NULL},
    {"rpcCall", API_WS_RPC, "callId", "parameter"},
    {"signalSubscribe", API_WS_SIGNAL, "subscribeId", "creationParameter"},
    {"signalUnsubscribe", API_WS_NOTE, "subscribeId", NULL},
    {"writableSignalSubscribe", API_WS_WRITABLE_SIGNAL, "subscribeId", "creationParameter"},
    {"writableSignalUnsubscribe", API_WS_NOTE, "subscribeId", NULL},
    {"writableSignalUpdate", API_WS_NOTE, "subscribeId", NULL},
};
#define N_TYPES (sizeof types / sizeof *types)

enum status api_ws_read(struct slice text, struct arena *a, struct api_ws_message *m, struct err *e)
{
    struct json *v = NULL;
    enum status st = json_parse(text, a, &v, e);
    if (st != OK)
        return st;
    const struct json *type = text_member(v, "type"), *endpoint = text_member(v, "endpoint");
    size_t i = 0;
    while (i < N_TYPES && !(type && slice_is(type->text, types[i].type)))
        i++;
    if (i == N_TYPES)
        return err_set(e, E_INVALID, "a message of unknown type");
    *m = (struct api_ws_message){.kind = types[i].kind, .text = text};
    const struct json *id = types[i].id ? json_get(v, types[i].id) : NULL;
    if (types[i].id && (!id || id->kind != JSON_INT))
        return err_set(e, E_INVALID, "%s: %s must be an integer", types[i].type, types[i].id);
    bool has_endpoint = m->kind == API_WS_RPC || m->kind == API_WS_CHANNEL ||
                        m->kind == API_WS_SIGNAL || m->kind == API_WS_WRITABLE_SIGNAL;
    if (has_endpoint && !endpoint)
        return err_set(e, E_INVALID, "%s: endpoint must be a string", types[i].type);
    m->id = id ? id->integer : 0;
    m->endpoint = endpoint ? endpoint->text : (struct slice){"", 0};
    m->parameter = types[i].parameter ? json_get(v, types[i].parameter) : NULL;
    return OK;
}

void api_ws_write_warning(struct buf *out, const char *warning)
{
    struct json_writer w;
    jw_init(&w, out);
    jw_begin_object(&w);
    jw_key(&w, "type");
    jw_text(&w, "communicationWarning");
    jw_key(&w, "warning");
    jw_text(&w, warning);
    jw_end_object(&w);
    buf_add_char(out, '\n');
}

/* ---- errors ---- */
void lms_write_error(struct json_writer *w, const struct api_error *error)
{
    jw_key(w, "title");
    jw_text(w, error->message);
    jw_key(w, "rootTitle");
    jw_text(w, error->message);
    jw_key(w, "errorData");
    jw_begin_object(w);
    jw_key(w, "type");
    jw_text(w, error->type);
    jw_key(w, "code");
    jw_text(w, error->code);
    jw_key(w, "param");
    jw_text(w, error->param[0] ? error->param : NULL);
    jw_key(w, "status");
    jw_int(w, error->http);
    jw_end_object(w);
}

/* The first names, of those that are loaded or of all, and how many there are. */
static void write_sample(struct json_writer *w, const char *names, const char *total,
                         bool is_loaded, struct fleet *fleet)
{
    struct fleet_list list = {0};
    struct err e;
    int64_t n = 0;
    jw_key(w, names);
    jw_begin_array(w);
    if (fleet_list(fleet, &list, &e) == OK) {
        for (uint32_t i = 0; i < list.n; i++) {
            if (is_loaded && list.entries[i].state != FLEET_LOADED)
                continue;
            if (n++ < SAMPLE_MAX)
                jw_text(w, list.entries[i].name);
        }
        fleet_list_release(&list);
    }
    jw_end_array(w);
    jw_key(w, total);
    jw_int(w, n);
}

static const struct json *specifier_of(const struct json *parameter)
{
    const struct json *v = json_get(parameter, "specifier");
    return v ? v : json_get(parameter, "modelSpecifier");
}

/* What the SDK shows nicely: which models there are, where another one was asked for. */
static void write_display(struct json_writer *w, const struct api_ws_message *m,
                          struct fleet *fleet)
{
    const struct json *specifier = specifier_of(m->parameter),
                      *query = json_get(specifier, "query");
    const struct json *key = text_member(m->parameter, "modelKey"),
                      *identifier = text_member(m->parameter, "identifier");
    struct slice name = key ? key->text : identifier ? identifier->text : (struct slice){"", 0};
    jw_key(w, "displayData");
    jw_begin_object(w);
    jw_key(w, "code");
    if (specifier && !query) {
        jw_text(w, "generic.specificModelUnloaded");
    } else if (query) {
        jw_text(w, "generic.noModelMatchingQuery");
        jw_key(w, "query");
        jw_value(w, query);
        write_sample(w, "loadedModelsSample", "totalLoadedModels", true, fleet);
    } else if (slice_is(m->endpoint, "unloadModel")) {
        jw_text(w, "generic.identifierNotFound");
        jw_key(w, "identifier");
        jw_string(w, name);
        write_sample(w, "loadedModelsSample", "totalLoadedModels", true, fleet);
    } else {
        jw_text(w, "generic.pathNotFound");
        jw_key(w, "path");
        jw_string(w, name);
        write_sample(w, "availablePathsSample", "totalModels", false, fleet);
    }
    jw_end_object(w);
}

void api_ws_write_error(struct buf *out, const struct api_ws_message *m, struct fleet *fleet,
                        const struct api_error *error)
{
    static const struct {
        const char *type, *id;
    } shapes[] = {[API_WS_RPC] = {"rpcError", "callId"},
                  [API_WS_CHANNEL] = {"channelError", "channelId"},
                  [API_WS_SIGNAL] = {"signalError", "subscribeId"},
                  [API_WS_WRITABLE_SIGNAL] = {"writableSignalError", "subscribeId"},
                  [API_WS_CHANNEL_SEND] = {"channelError", "channelId"}};
    struct json_writer w;
    if (m->kind == API_WS_NOTE || m->kind == API_WS_KEEP_ALIVE)
        return;
    jw_init(&w, out);
    jw_begin_object(&w);
    jw_key(&w, "type");
    jw_text(&w, shapes[m->kind].type);
    jw_key(&w, shapes[m->kind].id);
    jw_int(&w, m->id);
    jw_key(&w, "error");
    jw_begin_object(&w);
    lms_write_error(&w, error);
    if (error->code && strcmp(error->code, "model_not_found") == 0)
        write_display(&w, m, fleet);
    jw_end_object(&w);
    jw_end_object(&w);
    buf_add_char(out, '\n');
}

/* ---- models ---- */
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

static struct lms_model model_listed(const struct fleet_entry *m)
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

static void not_found(struct fields *f)
{
    answer_refuse(f, 404, "model_not_found", "no such model here");
}

static bool is_loaded(const struct fleet_entry *m)
{
    return m && m->state == FLEET_LOADED && m->engine;
}

static const struct fleet_entry *find_instance(const struct fleet_list *l, struct slice reference)
{
    char own[REFERENCE_BYTES];
    for (uint32_t i = 0; i < l->n; i++) {
        if (!is_loaded(&l->entries[i]))
            continue;
        write_reference(own, model_info_of(&l->entries[i]), l->entries[i].name);
        if (slice_is(reference, own))
            return &l->entries[i];
    }
    return NULL;
}

/* The loaded model that a specifier means; NULL: none is, or f has failed. */
static const struct fleet_entry *find_loaded(struct fields *f, const struct fleet_list *l)
{
    const struct json *v = specifier_of(f->object), *query = json_get(v, "query");
    const struct json *reference = text_member(v, "instanceReference");
    if (reference)
        return find_instance(l, reference->text);
    if (!query || query->kind != JSON_OBJECT) {
        field_fail(f, E_INVALID, "specifier", "must be a query or an instanceReference");
        return NULL;
    }
    const struct json *identifier = text_member(query, "identifier"),
                      *path = text_member(query, "path"), *domain = text_member(query, "domain"),
                      *vision = json_get(query, "vision");
    const struct json *name = identifier ? identifier : path;
    if ((domain && !slice_is(domain->text, "llm") && !slice_is(domain->text, "embedding")) ||
        (vision && vision->kind == JSON_BOOL && vision->boolean) || (name && name->text.len == 0))
        return NULL;
    /* Any, where none is named: the one that stays comes first. */
    const struct fleet_entry *m = name ? fleet_find(l, name->text) : l->n ? l->entries : NULL;
    bool is_both = !identifier || !path || (path->text.len && fleet_find(l, path->text) == m);
    return is_loaded(m) && is_both ? m : NULL;
}

/* ---- answers ---- */
struct answer {
    enum api_ws_space space;
    const struct api_ws_message *m;
    const struct api_ask *ask; /* NULL: of a load */
    struct buf *out;
    struct json_writer w;
};

static void begin_send(struct answer *a, const char *type)
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

static void end_send(struct answer *a)
{
    jw_end_object(&a->w);
    jw_end_object(&a->w);
    buf_add_char(a->out, '\n');
}

static const char *type_of(const struct answer *a)
{
    return a->space == API_WS_EMBEDDING ? "embedding" : "llm";
}

static void send_info(struct answer *a, const char *type, const struct lms_model *m,
                      bool is_instance)
{
    begin_send(a, type);
    if (strcmp(type, "startLoading") == 0) {
        jw_key(&a->w, "identifier");
        jw_text(&a->w, m->name);
    }
    jw_key(&a->w, "info");
    lms_write_info(&a->w, m, type_of(a), is_instance);
    end_send(a);
}

static void send_progress(struct answer *a, const char *type, int64_t progress)
{
    begin_send(a, type);
    jw_key(&a->w, "progress");
    jw_int(&a->w, progress);
    end_send(a);
}

static void begin_result(struct answer *a)
{
    jw_init(&a->w, a->out);
    jw_begin_object(&a->w);
    jw_key(&a->w, "type");
    jw_text(&a->w, "rpcResult");
    jw_key(&a->w, "callId");
    jw_int(&a->w, a->m->id);
}

static void end_result(struct answer *a)
{
    jw_end_object(&a->w);
    buf_add_char(a->out, '\n');
}

static void list_models(struct fields *f, struct answer *a, bool are_loaded)
{
    struct fleet_list list = {0};
    struct err e = {.pos = ERR_NO_POS};
    if (fleet_list(a->ask->fleet, &list, &e) != OK) {
        answer_fail(f, &e);
        return;
    }
    begin_result(a);
    jw_key(&a->w, "result");
    jw_begin_array(&a->w);
    for (uint32_t i = 0; i < list.n; i++) {
        const struct fleet_entry *m = &list.entries[i];
        if (are_loaded ? !is_loaded(m) : !m->card)
            continue;
        const struct lms_model model = model_listed(m);
        lms_write_info(&a->w, &model, type_of(a), are_loaded);
    }
    jw_end_array(&a->w);
    end_result(a);
    fleet_list_release(&list);
}

static void list_loaded(struct fields *f, struct answer *a)
{
    list_models(f, a, true);
}

static void list_downloaded(struct fields *f, struct answer *a)
{
    list_models(f, a, false);
}

static void list_nothing(struct fields *f, struct answer *a)
{
    (void)f;
    begin_result(a);
    jw_key(&a->w, "result");
    jw_begin_array(&a->w);
    jw_end_array(&a->w);
    end_result(a);
}

static void unload_model(struct fields *f, struct answer *a)
{
    struct slice name = {"", 0};
    struct err e = {.pos = ERR_NO_POS};
    if (!field_string(f, "identifier", &name) || name.len == 0)
        field_fail(f, E_INVALID, "identifier", "must be a name");
    enum status st = f->status == OK ? fleet_unload(a->ask->fleet, name, &e) : OK;
    if (st == E_NOT_FOUND)
        not_found(f);
    else if (st == E_UNSUPPORTED)
        answer_refuse(f, 501, "unsupported", e.msg);
    else if (st != OK)
        answer_fail(f, &e);
    if (f->status != OK)
        return;
    begin_result(a);
    end_result(a);
}

/* Without a result: none such is loaded, and the client said that this is no error. */
static void get_info(struct fields *f, struct answer *a)
{
    bool throws = true;
    struct fleet_list list = {0};
    struct err e = {.pos = ERR_NO_POS};
    field_bool(f, "throwIfNotFound", &throws);
    if (f->status == OK && fleet_list(a->ask->fleet, &list, &e) != OK)
        answer_fail(f, &e);
    const struct fleet_entry *m = f->status == OK ? find_loaded(f, &list) : NULL;
    if (!m && throws)
        not_found(f);
    if (f->status == OK) {
        begin_result(a);
        if (m) {
            const struct lms_model model = model_listed(m);
            jw_key(&a->w, "result");
            lms_write_info(&a->w, &model, type_of(a), true);
        }
        end_result(a);
    }
    fleet_list_release(&list);
}

static void get_load_config(struct fields *f, struct answer *a)
{
    (void)f;
    begin_result(a);
    jw_key(&a->w, "result");
    lms_write_load_config(&a->w, a->ask->info);
    end_result(a);
}

/* As /tokenize: control tokens in the text are recognised, none is added. */
static bool encode(struct fields *f, struct answer *a, struct token_list *ids)
{
    struct slice text = {"", 0};
    struct err e = {.pos = ERR_NO_POS};
    struct encode_flags flags = {.parse_special = true};
    if (!field_string(f, "inputString", &text))
        field_fail(f, E_INVALID, "inputString", "must be a string");
    else if (tokenizer_encode(a->ask->context.tokenizer, text, flags, ids, &e) != OK)
        answer_fail(f, &e);
    return f->status == OK;
}

static void tokenize(struct fields *f, struct answer *a)
{
    struct token_list ids = {0};
    if (encode(f, a, &ids)) {
        begin_result(a);
        jw_key(&a->w, "result");
        jw_begin_object(&a->w);
        jw_key(&a->w, "tokens");
        jw_begin_array(&a->w);
        for (size_t i = 0; i < ids.count; i++)
            jw_int(&a->w, ids.ids[i]);
        jw_end_array(&a->w);
        jw_end_object(&a->w);
        end_result(a);
    }
    token_list_release(&ids);
}

static void count_tokens(struct fields *f, struct answer *a)
{
    struct token_list ids = {0};
    if (encode(f, a, &ids)) {
        begin_result(a);
        jw_key(&a->w, "result");
        jw_begin_object(&a->w);
        jw_key(&a->w, "tokenCount");
        jw_int(&a->w, (int64_t)ids.count);
        jw_end_object(&a->w);
        end_result(a);
    }
    token_list_release(&ids);
}

static void render(struct fields *f, struct answer *a, struct engine_request *r, struct buf *text)
{
    const struct json *opts = json_get(f->object, "opts");
    const struct json *no_bos = json_get(opts, "omitBosToken");
    struct err e = {.pos = ERR_NO_POS};
    lms_read_history(f, &a->ask->context, r);
    if (f->status == OK)
        lms_read_tools(f, json_get(opts, "toolDefinitions"), r);
    if (f->status == OK && engine_render(a->ask->engine, r, text, &e) != OK)
        answer_fail(f, &e);
    if (text->failed)
        field_fail(f, E_LIMIT, "history", "the prompt is too large");
    uint32_t bos = a->ask->info->vocabulary.bos;
    if (f->status != OK || bos == TOKEN_NONE || !no_bos || no_bos->kind != JSON_BOOL ||
        !no_bos->boolean)
        return;
    struct slice piece = tokenizer_piece(a->ask->context.tokenizer, bos, true);
    if (piece.len && slice_starts(buf_slice(text), piece))
        buf_consume(text, piece.len);
}

static void apply_template(struct fields *f, struct answer *a)
{
    struct buf text;
    struct engine_request *r = engine_request_new(a->ask->engine);
    if (!r) {
        field_fail(f, E_NOMEM, "history", "out of memory");
        return;
    }
    buf_init(&text, API_REPLY_BYTES_MAX);
    render(f, a, r, &text);
    if (f->status == OK) {
        begin_result(a);
        jw_key(&a->w, "result");
        jw_begin_object(&a->w);
        jw_key(&a->w, "formatted");
        jw_string(&a->w, buf_slice(&text));
        jw_end_object(&a->w);
        end_result(a);
    }
    buf_release(&text);
    engine_request_free(r);
}

static void version(struct fields *f, struct answer *a)
{
    (void)f;
    begin_result(a);
    jw_key(&a->w, "result");
    jw_begin_object(&a->w);
    jw_key(&a->w, "version");
    jw_text(&a->w, KVASIR_VERSION);
    jw_key(&a->w, "build");
    jw_int(&a->w, 0);
    jw_end_object(&a->w);
    end_result(a);
}

static void no_draft(struct fields *f, struct answer *a)
{
    (void)a;
    answer_refuse(f, 501, "unsupported", "guesses need no model of their own on this side");
}

static const struct endpoint {
    enum api_ws_space space;
    enum api_ws_kind kind;
    const char *name;
    enum api_ws_need need;
    enum api_ws_todo todo;
    void (*answer)(struct fields *f, struct answer *a); /* API_WS_DONE */
} endpoints[] = {
    {API_WS_LLM, API_WS_CHANNEL, "predict", API_WS_LOADED, API_WS_GENERATE, NULL},
    {API_WS_LLM, API_WS_CHANNEL, "loadModel", API_WS_LOAD, API_WS_DONE, NULL},
    {API_WS_LLM, API_WS_CHANNEL, "getOrLoad", API_WS_LOAD, API_WS_DONE, NULL},
    {API_WS_LLM, API_WS_RPC, "unloadModel", API_WS_NOTHING, API_WS_DONE, unload_model},
    {API_WS_LLM, API_WS_RPC, "listLoaded", API_WS_NOTHING, API_WS_DONE, list_loaded},
    {API_WS_LLM, API_WS_RPC, "getModelInfo", API_WS_NOTHING, API_WS_DONE, get_info},
    {API_WS_LLM, API_WS_RPC, "getLoadConfig", API_WS_LOADED, API_WS_DONE, get_load_config},
    {API_WS_LLM, API_WS_RPC, "applyPromptTemplate", API_WS_LOADED, API_WS_DONE, apply_template},
    {API_WS_LLM, API_WS_RPC, "tokenize", API_WS_LOADED, API_WS_DONE, tokenize},
    {API_WS_LLM, API_WS_RPC, "countTokens", API_WS_LOADED, API_WS_DONE, count_tokens},
    {API_WS_LLM, API_WS_RPC, "preloadDraftModel", API_WS_NOTHING, API_WS_DONE, no_draft},
    {API_WS_EMBEDDING, API_WS_CHANNEL, "loadModel", API_WS_LOAD, API_WS_DONE, NULL},
    {API_WS_EMBEDDING, API_WS_CHANNEL, "getOrLoad", API_WS_LOAD, API_WS_DONE, NULL},
    {API_WS_EMBEDDING, API_WS_RPC, "unloadModel", API_WS_NOTHING, API_WS_DONE, unload_model},
    {API_WS_EMBEDDING, API_WS_RPC, "listLoaded", API_WS_NOTHING, API_WS_DONE, list_loaded},
    {API_WS_EMBEDDING, API_WS_RPC, "getModelInfo", API_WS_NOTHING, API_WS_DONE, get_info},
    {API_WS_EMBEDDING, API_WS_RPC, "getLoadConfig", API_WS_LOADED, API_WS_DONE, get_load_config},
    {API_WS_EMBEDDING, API_WS_RPC, "embedString", API_WS_LOADED, API_WS_GENERATE, NULL},
    {API_WS_EMBEDDING, API_WS_RPC, "tokenize", API_WS_LOADED, API_WS_DONE, tokenize},
    {API_WS_EMBEDDING, API_WS_RPC, "countTokens", API_WS_LOADED, API_WS_DONE, count_tokens},
    {API_WS_SYSTEM, API_WS_RPC, "listDownloadedModels", API_WS_NOTHING, API_WS_DONE,
     list_downloaded},
    {API_WS_SYSTEM, API_WS_RPC, "version", API_WS_NOTHING, API_WS_DONE, version},
    {API_WS_SYSTEM, API_WS_RPC, "getExperimentFlags", API_WS_NOTHING, API_WS_DONE, list_nothing},
    {API_WS_SYSTEM, API_WS_CHANNEL, "alive", API_WS_NOTHING, API_WS_KEEP, NULL},
};
#define N_ENDPOINTS (sizeof endpoints / sizeof *endpoints)

static bool is_call(const struct api_ws_message *m)
{
    return m->kind == API_WS_RPC || m->kind == API_WS_CHANNEL || m->kind == API_WS_SIGNAL ||
           m->kind == API_WS_WRITABLE_SIGNAL;
}

static const struct endpoint *find_endpoint(enum api_ws_space space, const struct api_ws_message *m)
{
    for (size_t i = 0; i < N_ENDPOINTS; i++)
        if (endpoints[i].space == space && endpoints[i].kind == m->kind &&
            slice_is(m->endpoint, endpoints[i].name))
            return &endpoints[i];
    return NULL;
}

/* ---- what a message needs ---- */
static void want_loaded(struct fields *f, struct fleet *fleet, struct api_ws_want *want)
{
    struct fleet_list list = {0};
    struct err e = {.pos = ERR_NO_POS};
    if (fleet_list(fleet, &list, &e) != OK) {
        answer_fail(f, &e);
        return;
    }
    const struct fleet_entry *m = find_loaded(f, &list);
    if (m)
        want->model = fleet_try(fleet, slice_of(m->name));
    if (!want->model)
        not_found(f);
    fleet_list_release(&list);
}

static void want_load(struct fields *f, const struct api_ws_message *m, struct fleet *fleet,
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
    if (field_int(f, is_get ? "loadTtlMs" : "ttlMs", 1, INT64_MAX, &ttl_ms))
        want->keep_s = (ttl_ms - 1) / 1000 + 1;
    if (f->status == OK && fleet_list(fleet, &list, &e) != OK)
        answer_fail(f, &e);
    const struct fleet_entry *found = f->status == OK ? fleet_find(&list, want->name) : NULL;
    if (!found)
        not_found(f);
    if (!is_get && field_string(f, "identifier", &identifier) &&
        (identifier.len == 0 || fleet_find(&list, identifier) != found))
        field_fail(f, E_UNSUPPORTED, "identifier", "a model keeps its name on this side");
    fleet_list_release(&list);
}

enum status api_ws_wants(enum api_ws_space space, const struct api_ws_message *m,
                         struct fleet *fleet, struct api_ws_want *want, struct api_error *error)
{
    struct fields f = {.object = m->parameter, .error = error};
    const struct endpoint *at = is_call(m) ? find_endpoint(space, m) : NULL;
    *want = (struct api_ws_want){.need = at ? at->need : API_WS_NOTHING};
    if (is_call(m) && !at)
        answer_refuse(&f, 501, "unsupported", "nothing of this name is served here");
    else if (want->need == API_WS_LOADED)
        want_loaded(&f, fleet, want);
    else if (want->need == API_WS_LOAD)
        want_load(&f, m, fleet, want);
    return f.status;
}

/* ---- loading ---- */
void api_ws_write_loading(struct buf *out, enum api_ws_space space, const struct api_ws_message *m,
                          struct fleet *fleet, struct slice name)
{
    struct answer a = {.space = space, .m = m, .out = out};
    struct fleet_list list = {0};
    struct err e;
    bool is_get = slice_is(m->endpoint, "getOrLoad");
    const struct fleet_entry *found = NULL;
    if (fleet_list(fleet, &list, &e) == OK)
        found = fleet_find(&list, name);
    if (found && found->card) {
        const struct lms_model model = model_listed(found);
        send_info(&a, is_get ? "startLoading" : "resolved", &model, false);
        send_progress(&a, is_get ? "loadProgress" : "progress", 0);
    }
    fleet_list_release(&list);
}

enum status api_ws_write_loaded(struct buf *out, enum api_ws_space space,
                                const struct api_ws_message *m, const struct engine_info *info,
                                const char *name, bool was_there, struct api_error *error)
{
    struct answer a = {.space = space, .m = m, .out = out};
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

static enum api_ws_todo answer_call(struct answer *a)
{
    const struct endpoint *at = find_endpoint(a->space, a->m);
    struct api_error error = {0};
    struct fields f = {.object = a->m->parameter, .error = &error};
    CHECK(at); /* api_ws_wants has said so */
    if (at->answer)
        at->answer(&f, a);
    if (f.status == OK)
        return at->todo;
    buf_clear(a->out);
    api_ws_write_error(a->out, a->m, a->ask->fleet, &error);
    return API_WS_DONE;
}

enum api_ws_todo api_ws_answer(enum api_ws_space space, const struct api_ws_message *m,
                               const struct api_ask *ask, struct buf *out)
{
    struct answer a = {.space = space, .m = m, .ask = ask, .out = out};
    switch (m->kind) {
    case API_WS_KEEP_ALIVE:
        buf_add_text(out, "{\"type\":\"keepAliveAck\"}\n");
        return API_WS_DONE;
    case API_WS_CHANNEL_SEND: /* channels that are told more know this one word */
        return json_is_text(json_get(m->parameter, "type"), "cancel") ? API_WS_CANCEL : API_WS_DONE;
    case API_WS_NOTE:
        return API_WS_DONE;
    default:
        return answer_call(&a);
    }
}

/* ---- the dialects of predictions and vectors ---- */
static void read_prediction(struct fields *f, const struct api_context *context, struct api_call *c,
                            struct engine_request *r)
{
    struct fields inner = {.object = field(f, "creationParameter"), .error = f->error};
    c->is_stream = c->wants_progress = true;
    lms_read_prediction(&inner, context, c, r);
    f->status = inner.status;
}

const struct api_dialect *api_ws_dialect(enum api_ws_space space)
{
    return space == API_WS_EMBEDDING ? &dialect_lmstudio_ws_vector : &dialect_lmstudio_ws;
}

static void greet(struct fields *f, struct inquiry *a)
{
    (void)f;
    jw_begin_object(&a->w);
    jw_key(&a->w, "lmstudio");
    jw_bool(&a->w, true);
    jw_end_object(&a->w);
}

static const struct field_set *const no_fields[] = {NULL};
const struct api_dialect dialect_lmstudio_greeting = {.name = "greeting",
                                                      .family = "LM Studio",
                                                      .answer = greet,
                                                      .error = lmstudio_error,
                                                      .fields = no_fields};
const struct api_dialect dialect_lmstudio_ws = {.name = "SDK",
                                                .family = "LM Studio",
                                                .id_prefix = "pred_",
                                                .call_id_prefix = "call_",
                                                .stream_type = "application/json",
                                                .read = read_prediction,
                                                .writer = &writer_lmstudio_ws,
                                                .error = lmstudio_error,
                                                .fields = no_fields};
