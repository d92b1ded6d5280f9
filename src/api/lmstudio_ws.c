/* SPDX-License-Identifier: MIT
 * lmstudio_ws.c — LM Studio's SDK: who it is, what its messages ask for, and all answers but
 * predictions. */
#include <inttypes.h>

#include "api/lmstudio_ws_int.h"
#include "base/check.h"

#define IDENTIFIER_BYTES_MAX 1024u
#define SAMPLE_MAX           10 /* names in an error */

enum api_ws_space api_ws_space_of(struct slice path)
{
    return slice_is(path, "/llm")         ? API_WS_LLM
           : slice_is(path, "/embedding") ? API_WS_EMBEDDING
           : slice_is(path, "/system")    ? API_WS_SYSTEM
                                          : API_WS_OTHER;
}

/* ---- messages ---- */
enum status api_ws_read_auth(struct slice text, struct arena *a, struct api_ws_auth *out,
                             struct err *e)
{
    struct json *v = NULL;
    enum status st = json_parse(text, a, &v, e);
    if (st != OK)
        return st;
    const struct json *version = json_get(v, "authVersion");
    const struct json *identifier = lms_text(v, "clientIdentifier"),
                      *passkey = lms_text(v, "clientPasskey");
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
    const struct json *type = lms_text(v, "type"), *endpoint = lms_text(v, "endpoint");
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

/* What the SDK shows nicely: which models there are, where another one was asked for. */
static void write_display(struct json_writer *w, const struct api_ws_message *m,
                          struct fleet *fleet)
{
    const struct json *specifier = lms_specifier_of(m->parameter),
                      *query = json_get(specifier, "query");
    const struct json *key = lms_text(m->parameter, "modelKey"),
                      *identifier = lms_text(m->parameter, "identifier");
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

/* ---- answers ---- */
struct answer {
    enum api_ws_space space;
    const struct api_ws_message *m;
    const struct api_ask *ask; /* NULL: of a load */
    struct buf *out;
    struct json_writer w;
};

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
        if (are_loaded ? !lms_is_loaded(m) : !m->card)
            continue;
        const struct lms_model model = lms_model_listed(m);
        lms_write_info(&a->w, &model, lms_type_of(a->space), are_loaded);
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
        lms_not_found(f);
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
    const struct fleet_entry *m = f->status == OK ? lms_find_loaded(f, &list) : NULL;
    if (!m && throws)
        lms_not_found(f);
    if (f->status == OK) {
        begin_result(a);
        if (m) {
            const struct lms_model model = lms_model_listed(m);
            jw_key(&a->w, "result");
            lms_write_info(&a->w, &model, lms_type_of(a->space), true);
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

enum status api_ws_wants(enum api_ws_space space, const struct api_ws_message *m,
                         struct fleet *fleet, struct api_ws_want *want, struct api_error *error)
{
    struct fields f = {.object = m->parameter, .error = error};
    const struct endpoint *at = is_call(m) ? find_endpoint(space, m) : NULL;
    *want = (struct api_ws_want){.need = at ? at->need : API_WS_NOTHING};
    if (is_call(m) && !at)
        answer_refuse(&f, 501, "unsupported", "nothing of this name is served here");
    else if (want->need == API_WS_LOADED)
        lms_want_loaded(&f, fleet, want);
    else if (want->need == API_WS_LOAD)
        lms_want_load(&f, m, fleet, want);
    return f.status;
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
    c->keep_s = FLEET_KEEP_AS_IS; /* what was said when it was loaded holds */
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
