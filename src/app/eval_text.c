/* SPDX-License-Identifier: MIT
 * eval_text.c — tokenize, render, jinja: what needs a vocabulary or a template, but no weights. */
#include <string.h>
#include <time.h>

#include "app/app_int.h"
#include "base/check.h"
#include "base/mem.h"
#include "os/clock.h"
#include "os/fs.h"
#include "template/template_chat.h"

#define TEXT_BYTES_MAX      (1u << 30)
#define VARIABLES_BYTES_MAX (1u << 30)

/* ---- tokenize ---- */
static enum status write_text(struct json_writer *out, const struct buf *text, struct err *e)
{
    if (text->failed)
        return err_set(e, E_LIMIT, "the text is too long");
    jw_begin_object(out);
    jw_key(out, "text");
    jw_string(out, buf_slice(text));
    jw_end_object(out);
    return OK;
}

static enum status answer_tokenize(void *arg, const struct json *line, struct json_writer *out,
                                   struct err *e)
{
    const struct tokenizer *t = arg;
    const struct json *text = json_get(line, "text");
    struct encode_flags flags = {0};
    struct token_list tokens = {0};
    if (!text || text->kind != JSON_STRING)
        return err_set(e, E_INVALID, "\"text\" must be a string");
    enum status st = line_bool(line, "add_special", false, &flags.add_special, e);
    if (st == OK)
        st = line_bool(line, "parse_special", false, &flags.parse_special, e);
    if (st == OK)
        st = tokenizer_encode(t, text->text, flags, &tokens, e);
    if (st == OK) {
        jw_begin_object(out);
        jw_key(out, "tokens");
        jw_begin_array(out);
        for (size_t i = 0; i < tokens.count; i++)
            jw_int(out, tokens.ids[i]);
        jw_end_array(out);
        jw_end_object(out);
    }
    token_list_release(&tokens);
    return st;
}

static enum status answer_detokenize(void *arg, const struct json *line, struct json_writer *out,
                                     struct err *e)
{
    const struct tokenizer *t = arg;
    struct token_list tokens = {0};
    struct detokenizer d;
    struct buf text;
    bool with_special = true;
    buf_init(&text, TEXT_BYTES_MAX);
    enum status st = line_tokens(line, tokenizer_info(t).n_vocab, &tokens, e);
    if (st == OK)
        st = line_bool(line, "special", true, &with_special, e);
    if (st == OK) {
        detok_init(&d, t, with_special);
        for (size_t i = 0; i < tokens.count; i++)
            detok_push(&d, tokens.ids[i], &text);
        detok_flush(&d, &text);
        st = write_text(out, &text, e);
    }
    token_list_release(&tokens);
    buf_release(&text);
    return st;
}

int command_eval_tokenize(const struct config *c)
{
    struct gguf *g = NULL;
    struct tokenizer *t = NULL;
    struct err e = {0};
    enum status st = gguf_of(c, &g, &e);
    if (st == OK)
        st = tokenizer_load(g, &t, &e);
    int code = EXIT_FAILED;
    if (st == OK)
        code =
            jsonl_run(c->values[OPTION_DETOKENIZE].number ? answer_detokenize : answer_tokenize, t);
    else
        complain_err(&e);
    tokenizer_free(t);
    gguf_close(g);
    return code;
}

/* ---- templates ---- */
static enum status read_now(const struct json *line, struct template_now *out, struct err *e)
{
    const struct json *v = json_get(line, "now");
    if (!v || v->kind == JSON_NULL) {
        struct tm tm;
        time_t now = (time_t)clock_unix_s();
        localtime_r(&now, &tm);
        *out = (struct template_now){tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
                                     tm.tm_hour,        tm.tm_min,     tm.tm_sec};
        return OK;
    }
    int end = 0;
    if (v->kind == JSON_STRING &&
        sscanf(v->text.ptr, "%4d-%2d-%2d %2d:%2d:%2d%n", &out->year, &out->month, &out->day,
               &out->hour, &out->minute, &out->second, &end) == 6 &&
        (size_t)end == v->text.len && out->year >= 1 && out->month >= 1 && out->month <= 12 &&
        out->day >= 1 && out->day <= 31 && out->hour >= 0 && out->hour <= 23 && out->minute >= 0 &&
        out->minute <= 59 && out->second >= 0 && out->second <= 60)
        return OK;
    return err_set(e, E_INVALID, "\"now\" must look like \"2026-11-23 12:34:56\"");
}

/* A member of that kind; NULL when absent or null. */
static enum status line_member(const struct json *line, const char *key, enum json_kind kind,
                               const char *kind_name, const struct json **out, struct err *e)
{
    const struct json *v = json_get(line, key);
    *out = v && v->kind != JSON_NULL ? v : NULL;
    if (*out && v->kind != kind)
        return err_set(e, E_INVALID, "\"%s\" must be %s", key, kind_name);
    return OK;
}

struct renderer {
    struct gguf *gguf; /* with -m, else NULL */
    struct tokenizer *tokenizer;
    struct template *template;
    struct slice bos, eos;
};

/* The line's variables, and the vocabulary's bos_token and eos_token where they have none. */
static const struct json *with_tokens(const struct renderer *r, const struct json *given,
                                      struct arena *arena)
{
    const struct {
        const char *name;
        struct slice text;
    } tokens[] = {{"bos_token", r->bos}, {"eos_token", r->eos}};
    size_t n_given = given ? given->count : 0;
    struct json *all = json_new_object(arena, n_given + ARRAY_COUNT(tokens));
    if (!all)
        return NULL;
    if (n_given > 0)
        memcpy(all->members, given->members, n_given * sizeof *all->members);
    all->count = n_given;
    for (size_t i = 0; i < ARRAY_COUNT(tokens); i++) {
        if (!tokens[i].text.ptr || json_get(given, tokens[i].name))
            continue;
        struct json *text = json_new_string(arena, tokens[i].text);
        if (!text)
            return NULL;
        all->members[all->count++] =
            (struct json_member){.key = slice_of(tokens[i].name), .value = *text};
    }
    return all;
}

static enum status render_line(const struct renderer *r, struct template_chat *chat,
                               struct json_writer *out, struct err *e)
{
    struct arena arena;
    struct buf text;
    enum status st;
    arena_init(&arena, VARIABLES_BYTES_MAX);
    buf_init(&text, TEXT_BYTES_MAX);
    chat->variables = with_tokens(r, chat->variables, &arena);
    if (!chat->variables)
        st = err_set(e, E_NOMEM, "out of memory for variables");
    else
        st = template_render_chat(r->template, chat, &text, e);
    if (st == OK)
        st = write_text(out, &text, e);
    buf_release(&text);
    arena_release(&arena);
    return st;
}

static enum status answer_render(void *arg, const struct json *line, struct json_writer *out,
                                 struct err *e)
{
    const struct renderer *r = arg;
    struct template_chat chat = {0};
    enum status st = line_member(line, "messages", JSON_ARRAY, "an array", &chat.messages, e);
    if (st == OK && !chat.messages)
        st = err_set(e, E_INVALID, "\"messages\" must be an array");
    if (st == OK)
        st = line_member(line, "tools", JSON_ARRAY, "an array", &chat.tools, e);
    if (st == OK)
        st = line_member(line, "variables", JSON_OBJECT, "an object", &chat.variables, e);
    if (st == OK)
        st = line_bool(line, "add_generation_prompt", false, &chat.add_generation_prompt, e);
    if (st == OK)
        st = line_bool(line, "continue_final_message", false, &chat.continue_final_message, e);
    if (st == OK)
        st = read_now(line, &chat.now, e);
    return st == OK ? render_line(r, &chat, out, e) : st;
}

static bool has_token(const void *context, const char *token)
{
    return tokenizer_find(context, slice_of(token)) != TOKEN_NONE;
}

static struct slice token_text(const struct tokenizer *t, uint32_t id)
{
    return id == TOKEN_NONE ? (struct slice){NULL, 0} : tokenizer_piece(t, id, true);
}

static enum status open_vocabulary(const struct config *c, struct renderer *r, struct err *e)
{
    enum status st = gguf_of(c, &r->gguf, e);
    if (st == OK)
        st = tokenizer_load(r->gguf, &r->tokenizer, e);
    if (st != OK)
        return st;
    struct tokenizer_info vocabulary = tokenizer_info(r->tokenizer);
    r->bos = token_text(r->tokenizer, vocabulary.bos);
    r->eos = token_text(r->tokenizer, vocabulary.eos);
    return OK;
}

/* The file's template, or that of its family, which is said. */
static enum status template_of_model(struct renderer *r, struct err *e)
{
    struct slice source, arch;
    bool has_template = false, has_arch = false;
    enum status st = gguf_get_string(r->gguf, "tokenizer.chat_template", &source, &has_template, e);
    if (st == OK)
        st = gguf_get_string(r->gguf, "general.architecture", &arch, &has_arch, e);
    if (st != OK)
        return st;
    if (!has_template) {
        char name[64];
        snprintf(name, sizeof name, "%.*s", has_arch ? (int)arch.len : 0, has_arch ? arch.ptr : "");
        const char *built_in = template_default(
            name, (struct template_vocabulary){.has = has_token, .context = r->tokenizer});
        if (!built_in)
            return err_set(e, E_UNSUPPORTED,
                           "%s: no chat template inside, and none is built in for it; give "
                           "--template FILE",
                           gguf_name(r->gguf));
        source = slice_of(built_in);
        fprintf(stderr, "kvasir: the file has no chat template; using the built-in one for %s\n",
                name);
    }
    st = template_compile(source, &r->template, e);
    return st == OK ? OK : err_prefix(e, "%s: chat template", gguf_name(r->gguf));
}

static enum status template_of_file(const char *path, struct template **out, struct err *e)
{
    char *source;
    size_t len;
    enum status st = fs_read_file(os_fs_real(), path, TEMPLATE_SOURCE_MAX, &source, &len, e);
    if (st != OK)
        return st;
    st = template_compile((struct slice){source, len}, out, e);
    mem_free(source);
    return st == OK ? OK : err_prefix(e, "%s", path);
}

int command_eval_render(const struct config *c)
{
    struct renderer r = {0};
    struct err e = {0};
    const char *path = c->values[OPTION_TEMPLATE].text;
    /* -m beside --template gives bos_token and eos_token. */
    enum status st = !path || c->values[OPTION_MODEL].text ? open_vocabulary(c, &r, &e) : OK;
    if (st == OK)
        st = path ? template_of_file(path, &r.template, &e) : template_of_model(&r, &e);
    int code = st == OK ? jsonl_run(answer_render, &r) : complain_err(&e);
    template_free(r.template);
    tokenizer_free(r.tokenizer);
    gguf_close(r.gguf);
    return code;
}

static enum status answer_jinja(void *arg, const struct json *line, struct json_writer *out,
                                struct err *e)
{
    (void)arg;
    const struct json *source, *context;
    const struct json nothing = {.kind = JSON_OBJECT};
    struct template_now now;
    struct template *t = NULL;
    enum status st = line_member(line, "template", JSON_STRING, "a string", &source, e);
    if (st == OK && !source)
        st = err_set(e, E_INVALID, "\"template\" must be a string");
    if (st == OK)
        st = line_member(line, "context", JSON_OBJECT, "an object", &context, e);
    if (st == OK)
        st = read_now(line, &now, e);
    if (st == OK)
        st = template_compile(source->text, &t, e);
    if (st != OK)
        return st;
    struct buf text;
    buf_init(&text, TEXT_BYTES_MAX);
    st = template_render(t, context ? context : &nothing, now, &text, e);
    if (st == OK)
        st = write_text(out, &text, e);
    buf_release(&text);
    template_free(t);
    return st;
}

int command_eval_jinja(const struct config *c)
{
    (void)c;
    return jsonl_run(answer_jinja, NULL);
}
