/* SPDX-License-Identifier: MIT
 * llama_answers.c — what llama-server tells without generating: tokens, templates, properties. */
#include "api/api_int.h"
#include "text/utf8.h"

static const struct field_set *const no_fields[] = {NULL};

/* ---- /tokenize, /detokenize ---- */
/* Text where it is text, else its bytes. */
static void write_piece(struct json_writer *w, struct slice piece)
{
    if (utf8_valid_prefix(piece.ptr, piece.len) == piece.len) {
        jw_string(w, piece);
        return;
    }
    jw_begin_array(w);
    for (size_t i = 0; i < piece.len; i++)
        jw_int(w, (unsigned char)piece.ptr[i]);
    jw_end_array(w);
}

static void tokenize(struct fields *f, struct inquiry *a)
{
    const struct tokenizer *t = a->ask->context.tokenizer;
    struct slice content = {"", 0};
    struct encode_flags flags = {.parse_special = true};
    struct token_list ids = {0};
    struct err e = {0};
    bool with_pieces = false;
    field_string(f, "content", &content);
    field_bool(f, "add_special", &flags.add_special);
    field_bool(f, "parse_special", &flags.parse_special);
    field_bool(f, "with_pieces", &with_pieces);
    if (f->status == OK && tokenizer_encode(t, content, flags, &ids, &e) != OK)
        answer_fail(f, &e);
    jw_begin_object(&a->w);
    jw_key(&a->w, "tokens");
    jw_begin_array(&a->w);
    for (size_t i = 0; i < ids.count; i++) {
        if (!with_pieces) {
            jw_int(&a->w, ids.ids[i]);
            continue;
        }
        jw_begin_object(&a->w);
        jw_key(&a->w, "id");
        jw_int(&a->w, ids.ids[i]);
        jw_key(&a->w, "piece");
        write_piece(&a->w, tokenizer_piece(t, ids.ids[i], true));
        jw_end_object(&a->w);
    }
    jw_end_array(&a->w);
    jw_end_object(&a->w);
    token_list_release(&ids);
}

static void detokenize(struct fields *f, struct inquiry *a)
{
    const struct json *v = field(f, "tokens");
    struct buf text;
    if (f->status == OK && v && v->kind != JSON_ARRAY)
        field_fail(f, E_INVALID, "tokens", "must be an array of token ids");
    buf_init(&text, API_REPLY_BYTES_MAX);
    for (size_t i = 0; v && i < v->count && f->status == OK; i++) {
        const struct json *id = &v->items[i];
        if (id->kind != JSON_INT || id->integer < 0 || id->integer >= a->ask->context.n_vocab)
            field_fail(f, E_INVALID, "tokens", "item %zu is not a token id from 0 to %u", i,
                       a->ask->context.n_vocab - 1);
        else
            buf_add_slice(&text,
                          tokenizer_piece(a->ask->context.tokenizer, (uint32_t)id->integer, true));
    }
    jw_begin_object(&a->w);
    jw_key(&a->w, "content");
    jw_string(&a->w, buf_slice(&text));
    jw_end_object(&a->w);
    if (text.failed)
        field_fail(f, E_LIMIT, "tokens", "the text is too large");
    buf_release(&text);
}

static const struct api_field tokenize_rows[] = {
    {"content", FIELD_YES, "", "7", NULL},
    {"add_special", FIELD_YES, "BOS and EOS as the model has it; default false", "7", NULL},
    {"parse_special", FIELD_YES, "control tokens in the text are recognised; default true", "7",
     NULL},
    {"with_pieces", FIELD_YES, "each with its text, or its bytes", "7", NULL},
};
static const struct field_set tokenize_set = FIELD_SET(tokenize_rows);
static const struct field_set *const tokenize_fields[] = {&tokenize_set, NULL};
const struct api_dialect dialect_llama_tokenize = {.name = "tokenize",
                                                   .family = "llama-server",
                                                   .needs_model = true,
                                                   .answer = tokenize,
                                                   .error = llama_error,
                                                   .fields = tokenize_fields};

static const struct api_field detokenize_rows[] = {
    {"tokens", FIELD_YES, "ids", "7", NULL},
};
static const struct field_set detokenize_set = FIELD_SET(detokenize_rows);
static const struct field_set *const detokenize_fields[] = {&detokenize_set, NULL};
const struct api_dialect dialect_llama_detokenize = {.name = "detokenize",
                                                     .family = "llama-server",
                                                     .needs_model = true,
                                                     .answer = detokenize,
                                                     .error = llama_error,
                                                     .fields = detokenize_fields};

/* ---- /apply-template ---- */
static void apply_template(struct fields *f, struct inquiry *a)
{
    const struct api_ask *ask = a->ask;
    struct api_call *call = NULL;
    struct buf text;
    struct err e = {0};
    buf_init(&text, API_REPLY_BYTES_MAX);
    struct engine_request *r = engine_request_new(ask->engine);
    if (!r)
        field_fail(f, E_NOMEM, "messages", "out of memory");
    else
        f->status = api_call_new(&dialect_openai_chat, ask->body, (struct slice){"", 0},
                                 &ask->context, r, &call, f->error);
    if (f->status == OK && engine_render(ask->engine, r, &text, &e) != OK)
        answer_fail(f, &e);
    if (f->status == OK)
        buf_add_slice(&text, r->suffix);
    jw_begin_object(&a->w);
    jw_key(&a->w, "prompt");
    jw_string(&a->w, buf_slice(&text));
    jw_end_object(&a->w);
    if (text.failed)
        field_fail(f, E_LIMIT, "messages", "the prompt is too large");
    api_call_free(call);
    if (r)
        engine_request_free(r);
    buf_release(&text);
}

const struct api_dialect dialect_llama_template = {.name = "apply-template",
                                                   .family = "llama-server",
                                                   .needs_model = true,
                                                   .answer = apply_template,
                                                   .error = llama_error,
                                                   .fields = fields_openai_chat};

/* ---- /props, /slots, what there is none of ---- */
static void write_token(struct inquiry *a, const char *key, uint32_t id)
{
    jw_key(&a->w, key);
    jw_string(&a->w, id == TOKEN_NONE ? (struct slice){"", 0}
                                      : tokenizer_piece(a->ask->context.tokenizer, id, true));
}

static void props(struct fields *f, struct inquiry *a)
{
    const struct engine_info *info = a->ask->info;
    (void)f;
    jw_begin_object(&a->w);
    jw_key(&a->w, "default_generation_settings");
    jw_begin_object(&a->w);
    jw_key(&a->w, "n_ctx");
    jw_int(&a->w, info->n_ctx);
    jw_key(&a->w, "params");
    jw_begin_object(&a->w);
    llama_write_params(&a->w, &info->sampling, ENGINE_TOKENS_ALL);
    jw_end_object(&a->w);
    jw_end_object(&a->w);
    jw_key(&a->w, "total_slots");
    jw_int(&a->w, info->n_parallel);
    jw_key(&a->w, "model_alias");
    jw_text(&a->w, a->ask->context.model_name);
    jw_key(&a->w, "model_path");
    jw_text(&a->w, a->ask->is_admin ? info->model_path : ""); /* of the operator's machine */
    jw_key(&a->w, "modalities");
    jw_begin_object(&a->w);
    jw_key(&a->w, "vision");
    jw_bool(&a->w, false);
    jw_key(&a->w, "audio");
    jw_bool(&a->w, false);
    jw_end_object(&a->w);
    jw_key(&a->w, "chat_template");
    jw_string(&a->w, info->template_source);
    write_token(a, "bos_token", info->vocabulary.bos);
    write_token(a, "eos_token", info->vocabulary.eos);
    jw_key(&a->w, "build_info");
    jw_text(&a->w, "kvasir-" KVASIR_VERSION);
    jw_end_object(&a->w);
}

/* There are no places that requests sit in: as many of --parallel as are at work. */
static void slots(struct fields *f, struct inquiry *a)
{
    struct engine_stats stats;
    (void)f;
    engine_stats(a->ask->engine, &stats);
    jw_begin_array(&a->w);
    for (uint32_t i = 0; i < a->ask->info->n_parallel; i++) {
        jw_begin_object(&a->w);
        jw_key(&a->w, "id");
        jw_int(&a->w, i);
        jw_key(&a->w, "n_ctx");
        jw_int(&a->w, a->ask->info->n_ctx);
        jw_key(&a->w, "is_processing");
        jw_bool(&a->w, i < stats.n_running);
        jw_end_object(&a->w);
    }
    jw_end_array(&a->w);
}

static void lora(struct fields *f, struct inquiry *a)
{
    (void)f;
    jw_begin_array(&a->w);
    jw_end_array(&a->w);
}

static void rerank(struct fields *f, struct inquiry *a)
{
    (void)a;
    answer_refuse(f, 501, NULL, "this model ranks nothing: it has no reranking head");
}

/* ---- /models/load, /models/unload ---- */
static struct slice read_name(struct fields *f)
{
    struct slice name = {"", 0};
    field_string(f, "model", &name);
    return name;
}

static void write_success(struct inquiry *a)
{
    jw_begin_object(&a->w);
    jw_key(&a->w, "success");
    jw_bool(&a->w, true);
    jw_end_object(&a->w);
}

static void load(struct fields *f, struct inquiry *a)
{
    (void)model_of(f, a, read_name(f)); /* it was loaded before this was called */
    write_success(a);
}

static void unload(struct fields *f, struct inquiry *a)
{
    answer_unload(f, a, read_name(f));
    write_success(a);
}

static const struct api_field name_rows[] = {
    {"model", FIELD_YES, "404 for one that is not here", "7", NULL},
};
static const struct field_set name_set = FIELD_SET(name_rows);
static const struct field_set *const name_fields[] = {&name_set, NULL};
const struct api_dialect dialect_llama_load = {.name = "load",
                                               .family = "llama-server",
                                               .needs_model = true,
                                               .answer = load,
                                               .error = llama_error,
                                               .fields = name_fields};
const struct api_dialect dialect_llama_unload = {.name = "unload",
                                                 .family = "llama-server",
                                                 .answer = unload,
                                                 .error = llama_error,
                                                 .fields = name_fields};

const struct api_dialect dialect_llama_props = {.name = "props",
                                                .family = "llama-server",
                                                .needs_model = true,
                                                .answer = props,
                                                .error = llama_error,
                                                .fields = no_fields};
const struct api_dialect dialect_llama_slots = {.name = "slots",
                                                .family = "llama-server",
                                                .needs_model = true,
                                                .answer = slots,
                                                .is_for_admins = true,
                                                .error = llama_error,
                                                .fields = no_fields};
const struct api_dialect dialect_llama_slot = {
    .name = "slot", .family = "llama-server", .error = llama_error, .fields = no_fields};
const struct api_dialect dialect_llama_lora = {.name = "LoRA",
                                               .family = "llama-server",
                                               .answer = lora,
                                               .error = llama_error,
                                               .fields = no_fields};
const struct api_dialect dialect_llama_rerank = {.name = "rerank",
                                                 .family = "llama-server",
                                                 .answer = rerank,
                                                 .error = llama_error,
                                                 .fields = no_fields};
