/* SPDX-License-Identifier: MIT
 * prompt.c — messages → text → token ids, on the prompt workers: neither the engine's step nor the
 * network's loop waits for a template. */
#include <time.h>

#include "engine/engine_int.h"
#include "template/template_chat.h"

#define PROMPT_BYTES_MAX (64u << 20)

#define VARIABLES_BYTES_MAX (1u << 20)

static bool has_token(const void *context, const char *text)
{
    const struct engine *g = context;
    return tokenizer_find(g->tokenizer, slice_of(text)) != TOKEN_NONE;
}

enum status prompt_load_template(struct engine *g, struct err *e)
{
    struct slice source;
    bool found;
    enum status st = gguf_get_string(g->gguf, "tokenizer.chat_template", &source, &found, e);
    if (st != OK)
        return st;
    if (found) {
        g->info.template_origin = "file";
        g->info.template_source = source;
        st = template_compile(source, &g->template, e);
        return st == OK ? OK : err_prefix(e, "%s: chat template", gguf_name(g->gguf));
    }
    struct buf origin;
    buf_init(&origin, 128);
    buf_printf(&origin, "built-in for %s", g->model_info->arch);
    g->origin_text = buf_take(&origin, NULL);
    g->info.template_origin = g->origin_text;
    const char *text =
        template_default(g->model_info->arch, (struct template_vocabulary){has_token, g});
    if (!text) { /* not made for chats: text and token prompts still work */
        g->info.template_origin = "none";
        return OK;
    }
    g->info.template_source = slice_of(text);
    return template_compile(slice_of(text), &g->template, e);
}

static void set_token(const struct engine *g, struct json_member *m, const char *name, uint32_t id)
{
    struct slice text =
        id == TOKEN_NONE ? (struct slice){"", 0} : tokenizer_piece(g->tokenizer, id, true);
    m->key = slice_of(name);
    m->value = (struct json){.kind = JSON_STRING, .text = text};
}

/* The request's variables behind the vocabulary's; NULL: out of memory. */
static const struct json *with_tokens(const struct engine *g, const struct json *variables,
                                      struct arena *a)
{
    size_t n = variables ? variables->count : 0, used = 0;
    struct json *all = json_new_object(a, n + 2);
    if (!all)
        return NULL;
    if (!json_get(variables, "bos_token"))
        set_token(g, &all->members[used++], "bos_token", g->info.vocabulary.bos);
    if (!json_get(variables, "eos_token"))
        set_token(g, &all->members[used++], "eos_token", g->info.vocabulary.eos);
    if (n)
        memcpy(all->members + used, variables->members, n * sizeof *variables->members);
    all->count = used + n;
    return all;
}

enum status engine_render(const struct engine *g, const struct engine_request *r, struct buf *out,
                          struct err *e)
{
    if (!g->template)
        return err_set(e, E_UNSUPPORTED, "%s has no chat template; use /v1/completions",
                       g->info.model_name);
    struct tm tm;
    time_t now = (time_t)clock_unix_s();
    localtime_r(&now, &tm);
    struct arena a;
    arena_init(&a, VARIABLES_BYTES_MAX);
    struct template_chat chat = {
        .messages = r->messages,
        .tools = r->tools,
        .variables = with_tokens(g, r->variables, &a),
        .add_generation_prompt = r->add_generation_prompt,
        .continue_final_message = r->continue_final_message,
        .now = {tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec},
    };
    enum status st = chat.variables ? template_render_chat(g->template, &chat, out, e)
                                    : err_set(e, E_NOMEM, "no memory for the template's variables");
    arena_release(&a);
    return st;
}

static enum status build_tokens(const struct engine_request *r, struct prompt *p, struct err *e)
{
    *p = (struct prompt){0};
    buf_init(&p->rest, 0);
    p->tokens.ids = mem_try_new(r->n_tokens, sizeof *r->tokens);
    if (!p->tokens.ids)
        return err_set(e, E_NOMEM, "no memory for %u tokens", r->n_tokens);
    memcpy(p->tokens.ids, r->tokens, r->n_tokens * sizeof *r->tokens);
    p->tokens.count = p->tokens.cap = r->n_tokens;
    return r->n_tokens ? OK : err_set(e, E_INVALID, "the prompt is empty");
}

/* ---- what sessions know ---- */

/* Whose pages: the tenant's, or an imported session's own. */
static void find_owner(struct engine *g, struct job *job)
{
    const struct engine_request *r = job->request;
    struct slice which = r->previous.len ? r->previous : r->session;
    (void)sessions_find_salt(g->sessions, r->tenant, which, &job->owner);
}

/* Messages of a session, in the request's arena; then those of the request. */
static enum status prepend(struct engine_request *r, const struct session_content *c, struct err *e)
{
    struct buf text;
    struct json *before = NULL;
    buf_init(&text, SESSION_JSON_MAX);
    buf_add_char(&text, '[');
    /* Compact JSON: newlines stand between messages, and behind the last. */
    for (struct slice rest = {c->messages, c->messages_bytes}; rest.len > 0;) {
        const char *end = memchr(rest.ptr, '\n', rest.len);
        size_t n = end ? (size_t)(end - rest.ptr) : rest.len;
        buf_add(&text, rest.ptr, n);
        n += end != NULL;
        rest = (struct slice){rest.ptr + n, rest.len - n};
        if (rest.len > 0)
            buf_add_char(&text, ',');
    }
    buf_add_char(&text, ']');
    enum status st = text.failed ? err_set(e, E_NOMEM, "no memory for the messages before")
                                 : json_parse(buf_slice(&text), &r->arena, &before, e);
    buf_release(&text);
    if (st != OK)
        return st;
    size_t n = r->messages ? r->messages->count : 0;
    struct json *all = json_new_array(&r->arena, before->count + n);
    if (!all)
        return err_set(e, E_NOMEM, "no memory for the messages before");
    if (before->count)
        memcpy(all->items, before->items, before->count * sizeof *all->items);
    if (n)
        memcpy(all->items + before->count, r->messages->items, n * sizeof *all->items);
    r->messages = all;
    return OK;
}

static enum status go_on(struct engine *g, struct engine_request *r, struct err *e)
{
    struct session_content c;
    if (r->previous.len == 0)
        return OK;
    if (r->kind != PROMPT_CHAT)
        return err_set(e, E_INVALID, "only a chat goes on from a response");
    enum status st =
        sessions_read(g->sessions, r->tenant, r->previous, SESSION_WANT_MESSAGES, &c, e);
    if (st != OK)
        return st;
    st = c.is_cut
             ? err_set(e, E_CORRUPT, "what " SLICE_FMT " said is damaged; run: kvasir store verify",
                       SLICE_ARG(r->previous))
             : prepend(r, &c, e);
    session_content_release(&c);
    return st;
}

static uint32_t count_turns(const struct json *messages)
{
    uint32_t n = 0;
    for (size_t i = 0; messages && i < messages->count; i++) {
        const struct json *role = json_get(&messages->items[i], "role");
        n += role && role->kind == JSON_STRING && slice_is(role->text, "assistant");
    }
    return n;
}

/* More than the newest turn is unknown here: perhaps a session knows its ids. */
static bool seed(struct engine *g, const struct engine_request *r, const struct digest *owner,
                 struct slice text, const struct prompt *p)
{
    struct session_content c;
    struct err e;
    struct slice which = r->previous.len ? r->previous : r->session;
    if (which.len == 0 || g->options.no_replay || p->n_cuts < p->n_known + 2 ||
        sessions_read(g->sessions, r->tenant, which, SESSION_WANT_TOKENS, &c, &e) != OK)
        return false;
    /* Also where another model or KV type computed it: that they spell the text is what counts. */
    bool seeded = memo_seed(g->memo, owner, text, c.tokens, c.n_tokens, count_turns(r->messages));
    session_content_release(&c);
    return seeded;
}

/* One model, one owner. */
struct digest prompt_owner(const struct engine *g, const struct digest *salt)
{
    struct digest owner = g->root;
    for (size_t i = 0; i < DIGEST_BYTES; i++)
        owner.b[i] ^= salt->b[i];
    return owner;
}

static enum status tokenize(struct engine *g, const struct engine_request *r,
                            const struct digest *salt, struct slice text, struct prompt *p,
                            struct err *e)
{
    struct digest owner = prompt_owner(g, salt);
    enum status st = memo_tokenize(g->memo, &owner, text, p, e);
    if (st == OK && seed(g, r, &owner, text, p)) {
        prompt_release(p);
        st = memo_tokenize(g->memo, &owner, text, p, e);
    }
    return st;
}

enum status prompt_build(struct engine *g, const struct engine_request *r,
                         const struct digest *owner, struct prompt *p, struct err *e)
{
    uint64_t start = clock_now_ns();
    uint32_t n_replayed = 0;
    enum status st = OK;
    if (r->kind == PROMPT_TOKENS) {
        st = build_tokens(r, p, e);
    } else if (r->kind == PROMPT_TEXT) {
        st = tokenize(g, r, owner, r->text, p, e);
    } else {
        struct buf text;
        buf_init(&text, PROMPT_BYTES_MAX);
        struct digest said_owner = prompt_owner(g, owner);
        st = replay_render(g, r, &said_owner, &text, &n_replayed, e);
        buf_add_slice(&text, r->suffix);
        if (st == OK && text.failed)
            st = err_set(e, E_LIMIT, "the prompt is longer than %u MiB", PROMPT_BYTES_MAX >> 20);
        if (st == OK)
            st = tokenize(g, r, owner, buf_slice(&text), p, e);
        if (st == OK)
            prompt_find_shared(g, r, buf_slice(&text), p);
        buf_release(&text);
    }
    if (st == OK) {
        p->store_owner = store_owner_of(owner);
        p->ms = clock_ms_since(start);
        if (p->n_replayed < n_replayed) /* the tokenizer spells some as the model did */
            p->n_replayed = n_replayed;
    }
    return st;
}

enum status engine_count_tokens(struct engine *g, const struct engine_request *r, uint32_t *n,
                                struct err *e)
{
    struct prompt p;
    struct digest owner = sessions_salt(g->sessions, r->tenant);
    enum status st = prompt_build(g, r, &owner, &p, e);
    if (st != OK)
        return st;
    *n = (uint32_t)p.tokens.count;
    prompt_release(&p);
    return OK;
}

/* All of them together are too much: each schema that has one gives way to its other. */
static enum status constrain_instead(struct engine *g, const struct constraint *what,
                                     struct grammar_masks **out, struct err *e)
{
    struct constraint plain = *what;
    const uint32_t n = what->grammar.n_schemas;
    struct grammar_schema *schemas = mem_try_new(n, sizeof *schemas);
    if (!schemas)
        return err_set(e, E_NOMEM, "no memory for a grammar");
    for (uint32_t i = 0; i < n; i++) {
        const struct grammar_schema *s = &what->grammar.schemas[i];
        schemas[i] = (struct grammar_schema){s->instead ? s->instead : s->schema, NULL};
    }
    plain.grammar.schemas = schemas;
    enum status st = constraints_get(g->constraints, &plain, out, e);
    mem_free(schemas);
    return st;
}

static enum status constrain(struct engine *g, const struct engine_request *r,
                             struct grammar_masks **out, struct err *e)
{
    struct constraint what = {.schema = r->schema,
                              .grammar = {.text = r->grammar,
                                          .root = r->grammar_root,
                                          .schemas = r->grammar_schemas,
                                          .n_schemas = r->n_grammar_schemas},
                              .marks = r->grammar_marks,
                              .n_marks = r->n_grammar_marks};
    enum status st = constraints_get(g->constraints, &what, out, e);
    if (st == OK || st == E_NOMEM)
        return st;
    if (r->schema_else)
        what.schema = r->schema_else;
    else if (!r->schema && r->n_grammar_schemas)
        return constrain_instead(g, &what, out, e);
    else
        return st;
    return constraints_get(g->constraints, &what, out, e);
}

static void build_job(struct engine *g, struct job *job)
{
    struct err e;
    find_owner(g, job);
    enum status st = atomic_load(&g->is_closing)
                         ? err_set(&e, E_CANCELLED, "the server is shutting down")
                         : go_on(g, job->request, &e);
    if (st == OK)
        st = prompt_build(g, job->request, &job->owner, &job->prompt, &e);
    const struct engine_request *r = job->request;
    if (st == OK && (r->schema || r->grammar.len))
        st = constrain(g, r, &job->masks, &e);
    job->ready_ns = clock_now_ns();
    struct message *m = st == OK ? mem_try_new(1, sizeof *m) : NULL;
    if (st == OK && !m)
        st = err_set(&e, E_NOMEM, "no memory for a message");
    if (st != OK) {
        job_fail(g, job, &e);
        return;
    }
    struct grammar_masks *masks = job->masks ? grammar_masks_hold(job->masks) : NULL;
    *m = (struct message){.kind = MESSAGE_JOB, .job = job};
    engine_send(g, m);
    if (masks) { /* while its prompt is computed */
        grammar_prepare_more(masks);
        grammar_masks_free(masks);
    }
}

void prompt_worker(void *arg)
{
    struct engine *g = arg;
    struct job *job;
    while ((job = ring_pop(g->prompts, -1)) != NULL)
        build_job(g, job);
}
