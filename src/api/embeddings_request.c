/* SPDX-License-Identifier: MIT
 * embeddings_request.c — requests for vectors of texts, in every dialect.  Each text is a prompt of
 * token ids, made here as the vocabulary says (BOS, EOS), and a request to the engine of its own:
 * those of one call share steps with each other and with whatever else runs. */
#include "api/lmstudio_ws_int.h"
#include "base/check.h"

#define NORMALIZE_MAX 64 /* the exponent of a norm */

/* ---- texts ---- */
static void add_text(struct fields *f, const char *name, const struct api_call *c,
                     struct slice text, bool is_first, struct token_list *ids)
{
    struct err e = {0};
    struct encode_flags flags = {.add_special = is_first, .parse_special = true};
    if (!c->tokenizer)
        field_fail(f, E_UNSUPPORTED, name, "token ids only");
    else if (tokenizer_encode(c->tokenizer, text, flags, ids, &e) != OK)
        field_fail(f, e.code, name, "%s", e.msg);
}

static void add_item(struct fields *f, const char *name, const struct api_call *c,
                     const struct json *v, size_t i, struct token_list *ids)
{
    if (v->kind == JSON_STRING)
        add_text(f, name, c, v->text, i == 0, ids);
    else if (v->kind != JSON_INT || v->integer < 0 || v->integer >= UINT32_MAX)
        field_fail(f, E_INVALID, name, "item %zu is no token id", i);
    else if (token_list_add(ids, (uint32_t)v->integer) != OK)
        field_fail(f, E_NOMEM, name, "out of memory");
    if (ids->count > API_PROMPT_TOKENS_MAX)
        field_fail(f, E_LIMIT, name, "over %u tokens", API_PROMPT_TOKENS_MAX);
}

/* The first tokens, and what the vocabulary puts at the end of a text. */
static void cut(const struct api_call *c, struct token_list *ids)
{
    uint32_t max = c->vectors.cut_to;
    if (max == 0 || ids->count <= max)
        return;
    struct tokenizer_info info = tokenizer_info(c->tokenizer);
    ids->count = max;
    if (info.add_eos && info.eos != TOKEN_NONE)
        ids->ids[max - 1] = info.eos;
}

/* One text, or its token ids. */
static void read_text(struct fields *f, const struct api_call *c, const struct json *v,
                      struct engine_request *r)
{
    const char *name = c->vectors.field;
    struct token_list list = {0};
    if (v->kind == JSON_STRING && v->text.len == 0)
        field_fail(f, E_INVALID, name, "a text must not be empty");
    else if (v->kind == JSON_STRING)
        add_text(f, name, c, v->text, true, &list);
    for (size_t i = 0; v->kind == JSON_ARRAY && i < v->count && f->status == OK; i++)
        add_item(f, name, c, &v->items[i], i, &list);
    if (f->status == OK && list.count == 0)
        field_fail(f, E_INVALID, name, "a text must not be empty");
    if (f->status == OK) {
        cut(c, &list);
        uint32_t *ids = arena_alloc(&r->arena, list.count, sizeof *ids);
        if (ids) {
            memcpy(ids, list.ids, list.count * sizeof *ids);
            r->tokens = ids;
            r->n_tokens = (uint32_t)list.count;
        } else {
            field_fail(f, E_NOMEM, name, "out of memory");
        }
    }
    token_list_release(&list);
}

static void read_prompt(struct fields *f, const struct api_call *c, uint32_t prompt,
                        struct engine_request *r)
{
    read_text(f, c, &c->prompts[prompt], r);
}

/* Several texts, not one of token ids. */
static bool is_list(const struct json *v)
{
    bool is = v->kind == JSON_ARRAY && v->count > 0;
    for (size_t i = 0; is && i < v->count; i++)
        is = v->items[i].kind == JSON_STRING || v->items[i].kind == JSON_ARRAY;
    return is;
}

static void read_texts(struct fields *f, const char *name, struct api_call *c,
                       struct engine_request *r)
{
    const struct json *v = field(f, name);
    if (f->status != OK)
        return;
    c->vectors.field = name;
    if (!v || (v->kind != JSON_STRING && v->kind != JSON_ARRAY)) {
        field_fail(f, E_INVALID, name,
                   "must be a string, an array of token ids, or an array of these");
        return;
    }
    c->prompts = v;
    if (is_list(v)) {
        if (v->count > API_TEXTS_MAX) {
            field_fail(f, E_LIMIT, name, "%zu texts, at most %u", v->count, API_TEXTS_MAX);
            return;
        }
        c->prompts = v->items;
        c->n_prompts = (uint32_t)v->count;
    }
    read_prompt(f, c, 0, r);
}

/* ---- the rest ---- */
static void read_rules(struct fields *f, struct api_call *c, struct engine_request *r)
{
    int64_t priority = 0, deadline_ms = 0;
    c->vectors.normalize = 2;
    c->session = (struct slice){"", 0}; /* it holds no conversation */
    r->kind = PROMPT_TOKENS;
    r->max_tokens = 0;
    r->wants_vector = r->no_cache = true;
    read_model(f, c);
    if (field_int(f, "priority", -ENGINE_PRIORITY_MAX, ENGINE_PRIORITY_MAX, &priority))
        r->priority = (int32_t)priority;
    if (field_int(f, "deadline_ms", 0, UINT32_MAX, &deadline_ms))
        r->deadline_ms = (uint32_t)deadline_ms;
}

static void read_dimensions(struct fields *f, const struct api_context *context, struct api_call *c)
{
    int64_t n = 0, max = context->info ? context->info->model->n_embd : UINT32_MAX;
    if (field_int(f, "dimensions", 1, max, &n))
        c->vectors.n_dimensions = (uint32_t)n;
}

static void read_openai(struct fields *f, const struct api_context *context, struct api_call *c,
                        struct engine_request *r)
{
    const struct json *format = field(f, "encoding_format");
    read_rules(f, c, r);
    read_dimensions(f, context, c);
    c->vectors.is_base64 = json_is_text(format, "base64");
    if (format && !c->vectors.is_base64 && !json_is_text(format, "float"))
        field_fail(f, E_INVALID, "encoding_format", "must be float or base64");
    read_texts(f, "input", c, r);
}

static void read_lmstudio(struct fields *f, const struct api_context *context, struct api_call *c,
                          struct engine_request *r)
{
    read_openai(f, context, c, r);
    read_ttl(f, c);
}

static void read_llama(struct fields *f, const struct api_context *context, struct api_call *c,
                       struct engine_request *r)
{
    int64_t normalize = 2;
    (void)context;
    read_rules(f, c, r);
    if (field_int(f, "embd_normalize", -1, NORMALIZE_MAX, &normalize))
        c->vectors.normalize = (int32_t)normalize;
    read_texts(f, field(f, "content") ? "content" : "input", c, r);
}

/* "options": of what is there, the context alone means something here. */
static void read_ollama_rest(struct fields *f, const struct api_context *context,
                             struct api_call *c, struct engine_request *r)
{
    const struct json *options = field(f, "options");
    int64_t n_ctx = context->n_ctx;
    bool is_cut = true;
    read_rules(f, c, r);
    read_keep_alive(f, context, c);
    if (options && options->kind != JSON_OBJECT)
        field_fail(f, E_INVALID, "options", "must be an object");
    if (options && f->status == OK) {
        struct fields inner = {.object = options, .error = f->error, .prefix = "options."};
        read_num_ctx(&inner, context);
        if (inner.status == OK && field_int(&inner, "num_ctx", 0, context->n_ctx, &n_ctx) &&
            n_ctx == 0)
            n_ctx = context->n_ctx;
        f->status = inner.status;
    }
    field_bool(f, "truncate", &is_cut);
    c->vectors.cut_to = is_cut ? (uint32_t)n_ctx : 0;
}

/* Nothing to embed: is the model there? */
static bool is_nothing(const struct json *v)
{
    return !v || (v->kind == JSON_STRING && v->text.len == 0) ||
           (v->kind == JSON_ARRAY && v->count == 0);
}

static void read_ollama_embed(struct fields *f, const struct api_context *context,
                              struct api_call *c, struct engine_request *r)
{
    read_ollama_rest(f, context, c, r);
    read_dimensions(f, context, c);
    c->is_answered = is_nothing(field(f, "input"));
    if (!c->is_answered)
        read_texts(f, "input", c, r);
}

/* The older one: one text, and the vector as it is. */
static void read_ollama_embeddings(struct fields *f, const struct api_context *context,
                                   struct api_call *c, struct engine_request *r)
{
    const struct json *prompt = field(f, "prompt");
    read_ollama_rest(f, context, c, r);
    c->vectors.normalize = -1;
    c->is_answered = is_nothing(prompt);
    if (prompt && prompt->kind != JSON_STRING)
        field_fail(f, E_INVALID, "prompt", "must be a string");
    if (!c->is_answered)
        read_texts(f, "prompt", c, r);
}

static bool is_string(const struct json *v)
{
    return v && v->kind == JSON_STRING;
}

/* LM Studio's SDK: {"type": "rpcCall", "callId", "parameter": {"inputString"}} */
static void read_rpc(struct fields *f, const struct api_context *context, struct api_call *c,
                     struct engine_request *r)
{
    const struct json *id = field(f, "callId");
    struct fields inner = {.object = field(f, "parameter"), .error = f->error};
    (void)context;
    read_rules(f, c, r);
    c->channel = id ? id->integer : 0;
    c->keep_s = FLEET_KEEP_AS_IS;
    if (f->status == OK && !is_string(json_get(inner.object, "inputString")))
        field_fail(&inner, E_INVALID, "inputString", "must be a string");
    read_texts(&inner, "inputString", c, r);
    f->status = inner.status;
}

/* ---- the tables ---- */
#define MODEL_ROW                                                                           \
    {                                                                                       \
        "model", FIELD_YES, "any name is served by the loaded model, and echoed", "7", NULL \
    }
#define RULE_ROWS                                                                               \
    {"priority", FIELD_YES, "lower goes first, -100 to 100; a second of waiting counts as one", \
     "101", NULL},                                                                              \
    {                                                                                           \
        "deadline_ms", FIELD_YES, "from the request's arrival; 504 then", "-1", NULL            \
    }
#define INPUT_DOC "a string, token ids, or an array of up to 2,048 of these; no empty ones"

static const struct api_field openai_rows[] = {
    {"input", FIELD_YES, INPUT_DOC, "7", NULL},
    MODEL_ROW,
    {"encoding_format", FIELD_YES, "float or base64", "\"hex\"", NULL},
    {"dimensions", FIELD_YES, "the first so many, made a unit vector again", "0", NULL},
    {"user", FIELD_NONE, "no accounts by end user", NULL, NULL},
    RULE_ROWS,
};
static const struct api_field lmstudio_rows[] = {
    {"ttl", FIELD_YES, "seconds without requests until the model goes; not the one that stays", "0",
     NULL},
};
static const struct api_field llama_rows[] = {
    {"input", FIELD_YES, INPUT_DOC, "7", NULL},
    {"content", FIELD_YES, "the same", "7", NULL},
    {"embd_normalize", FIELD_YES, "-1: not; 0: largest is 32760; 2: length 1; else that norm",
     "\"x\"", NULL},
    MODEL_ROW,
    {"image_data", FIELD_REFUSED, "models here read text", "[{\"id\":1}]", NULL},
    RULE_ROWS,
};
#define OLLAMA_ROWS                                                                             \
    MODEL_ROW,                                                                                  \
        {"truncate", FIELD_YES, "default true; false: a text that is too long is refused", "7", \
         NULL},                                                                                 \
        {"options", FIELD_YES, "num_ctx; the others mean nothing here", "7", NULL},             \
        {"options.num_ctx", FIELD_YES, "a longer text is cut", "999999999", NULL},              \
        {"keep_alive", FIELD_YES,                                                               \
         "a duration, seconds, or negative: for ever; 0: the model goes after this; refused "   \
         "for the one that stays",                                                              \
         "0", NULL},                                                                            \
        RULE_ROWS
static const struct api_field ollama_embed_rows[] = {
    {"input", FIELD_YES, "a string or an array of up to 2,048; none: is the model there?", "7",
     NULL},
    {"dimensions", FIELD_YES, "the first so many, made a unit vector again", "0", NULL},
    OLLAMA_ROWS,
};
static const struct api_field ollama_embeddings_rows[] = {
    {"prompt", FIELD_YES, "one text; its vector is not normalized", "7", NULL},
    OLLAMA_ROWS,
};
static const struct field_set openai_set = FIELD_SET(openai_rows),
                              lmstudio_set = FIELD_SET(lmstudio_rows),
                              llama_set = FIELD_SET(llama_rows),
                              embed_set = FIELD_SET(ollama_embed_rows),
                              embeddings_set = FIELD_SET(ollama_embeddings_rows);
static const struct field_set *const openai_fields[] = {&openai_set, NULL};
static const struct field_set *const lmstudio_fields[] = {&openai_set, &lmstudio_set, NULL};
static const struct field_set *const llama_fields[] = {&llama_set, NULL};
static const struct field_set *const embed_fields[] = {&embed_set, NULL};
static const struct field_set *const embeddings_fields[] = {&embeddings_set, NULL};

extern const struct api_writer writer_openai_vectors, writer_llama_vectors, writer_ollama_embed,
    writer_ollama_embeddings, writer_rpc_vector;
#define EMBEDDINGS(variable, its_family, its_read, its_writer, its_error, its_fields) \
    const struct api_dialect variable = {.name = "embeddings",                        \
                                         .family = its_family,                        \
                                         .id_prefix = "emb-",                         \
                                         .call_id_prefix = "",                        \
                                         .read = its_read,                            \
                                         .read_prompt = read_prompt,                  \
                                         .writer = &its_writer,                       \
                                         .error = its_error,                          \
                                         .fields = its_fields}
EMBEDDINGS(dialect_openai_embeddings, "OpenAI", read_openai, writer_openai_vectors, openai_error,
           openai_fields);
EMBEDDINGS(dialect_lmstudio_embeddings, "LM Studio", read_lmstudio, writer_openai_vectors,
           openai_error, lmstudio_fields);
EMBEDDINGS(dialect_llama_embeddings, "llama-server", read_llama, writer_llama_vectors, llama_error,
           llama_fields);
EMBEDDINGS(dialect_ollama_embed, "Ollama", read_ollama_embed, writer_ollama_embed, ollama_error,
           embed_fields);
EMBEDDINGS(dialect_ollama_embeddings, "Ollama", read_ollama_embeddings, writer_ollama_embeddings,
           ollama_error, embeddings_fields);
static const struct field_set *const no_fields[] = {NULL};
EMBEDDINGS(dialect_lmstudio_ws_vector, "LM Studio", read_rpc, writer_rpc_vector, lmstudio_error,
           no_fields);
