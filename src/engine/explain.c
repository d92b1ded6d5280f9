/* SPDX-License-Identifier: MIT
 * explain.c — of a prompt: what of it is known, page by page, where it leaves what is known, and
 * why. The look-up is the one that a request would make; sessions say what else was once computed.
 */
#include <ctype.h>
#include <stdio.h>

#include "engine/engine_int.h"
#include "session/page_key.h"

#define EXPLAIN_CONTEXT_TOKENS 16u /* of text around the divergence */
#define EXPLAIN_TEXT_BYTES     4096u

struct explain {
    struct engine *g;
    const struct engine_request *r;
    struct digest owner;
    struct prompt prompt;
    struct cache_explanation found;
    struct session_nearest own, other_root, other_tenant; /* sessions that begin alike */
    bool has_own, has_other_root, has_other_tenant;
    bool is_damaged; /* the first page that is missed was set aside */
    enum status st;
    struct err err;
};

static void run(struct engine *g, void *arg)
{
    struct explain *x = arg;
    const struct cache_request r = {.owner = &x->owner,
                                    .tokens = x->prompt.tokens.ids,
                                    .n_tokens = (uint32_t)x->prompt.tokens.count,
                                    .max_resume = (uint32_t)x->prompt.tokens.count};
    x->st = cache_explain(g->cache, &r, &x->found, &x->err);
}

/* ---- text around a place ---- */
static struct buf text_of(const struct explain *x, const uint32_t *tokens, uint32_t n)
{
    struct detokenizer d;
    struct buf b;
    buf_init(&b, EXPLAIN_TEXT_BYTES);
    detok_init(&d, x->g->tokenizer, true);
    d.at_start = false;
    for (uint32_t i = 0; i < n; i++)
        if (tokens[i] < x->g->info.vocabulary.n_vocab)
            detok_push(&d, tokens[i], &b);
    detok_flush(&d, &b);
    return b;
}

static struct buf text_from(const struct explain *x, uint32_t at)
{
    uint32_t n = (uint32_t)x->prompt.tokens.count - at;
    return text_of(x, x->prompt.tokens.ids + at,
                   n < EXPLAIN_CONTEXT_TOKENS ? n : EXPLAIN_CONTEXT_TOKENS);
}

static struct buf text_before(const struct explain *x, uint32_t at)
{
    uint32_t from = at > EXPLAIN_CONTEXT_TOKENS ? at - EXPLAIN_CONTEXT_TOKENS : 0;
    return text_of(x, x->prompt.tokens.ids + from, at - from);
}

static bool begins_with_digit(const struct buf *b)
{
    for (size_t i = 0; i < b->len && i < 3; i++) /* "2026-…", " 17:…", "Z7…" */
        if (isdigit((unsigned char)b->ptr[i]))
            return true;
    return false;
}

/* Is `at` in the first message? */
static bool is_in_header(const struct explain *x, uint32_t at)
{
    return x->prompt.n_points == 0 || at < x->prompt.points[0];
}

/* ---- why ---- */
struct verdict {
    const char *code, *text;
    uint32_t at; /* the divergence; = n_tokens: none */
    const uint32_t *other;
    uint32_t n_other;
    const struct session_nearest *session; /* that shows it */
};

static struct verdict diverged(const struct explain *x, uint32_t at, const uint32_t *other,
                               uint32_t n_other)
{
    struct verdict v = {.at = at, .other = other, .n_other = n_other};
    struct buf ours = text_from(x, at), theirs = text_of(x, other, n_other);
    v.session = x->has_own && x->own.common >= at ? &x->own : NULL;
    if (x->has_own && x->own.messages_end > at && x->own.common <= at) {
        v.code = "template_changed";
        v.text = "the same messages were written with another template, or other tools";
        v.session = &x->own;
    } else if (is_in_header(x, at) && begins_with_digit(&ours) && begins_with_digit(&theirs)) {
        v.code = "volatile_header";
        v.text =
            "the first message differs in a number: a date, a time or a counter that changes from "
            "request to request; everything behind it is computed again";
    } else {
        v.code = "other_text";
        v.text = "the text differs from here on";
    }
    buf_release(&ours);
    buf_release(&theirs);
    return v;
}

static struct verdict judge(const struct explain *x)
{
    const struct cache_match *m = &x->found.match;
    uint32_t n = (uint32_t)x->prompt.tokens.count;
    if (m->resume == n || (m->matched == n && m->resume + 1 == n))
        return (struct verdict){.code = "known", .text = "all of it is known", .at = n};
    if (m->resume < m->matched)
        return (struct verdict){
            .code = "window_not_kept",
            .text =
                "the text is known further, but windowed layers were kept at resumable points only",
            .at = m->matched};
    if (x->has_own && x->own.common > m->matched && x->is_damaged)
        return (struct verdict){
            .code = "damaged",
            .text = "it was computed once; a page was damaged on disk and is not used any more",
            .at = m->matched,
            .session = &x->own};
    if (x->has_own && x->own.common > m->matched)
        return (struct verdict){.code = "evicted",
                                .text = "it was computed once; its pages were evicted or lost",
                                .at = m->matched,
                                .session = &x->own};
    if (x->has_other_root && x->other_root.common > m->matched) {
        bool is_kv = digest_equal(&x->other_root.identity, &x->g->info.model_identity);
        return (struct verdict){.code = is_kv ? "other_kv_type" : "other_model",
                                .text =
                                    is_kv ? "it was computed with another KV type or other settings"
                                          : "it was computed by another model",
                                .at = m->matched,
                                .session = &x->other_root};
    }
    if (x->has_other_tenant && x->other_tenant.common > m->matched)
        return (struct verdict){.code = "other_tenant",
                                .text = "it was computed for another tenant",
                                .at = m->matched,
                                .session = &x->other_tenant};
    if (x->found.n_other > 0)
        return diverged(x, m->matched, x->found.other, x->found.n_other);
    if (x->has_own && x->own.n_other > 0 && x->own.common == m->matched && m->matched < n)
        return diverged(x, m->matched, x->own.other, x->own.n_other);
    if (m->matched == 0)
        return (struct verdict){
            .code = "nothing_like_it", .text = "nothing that is stored begins like this", .at = n};
    return (struct verdict){.code = "new_text", .text = "what is stored ends here", .at = n};
}

/* ---- the answer ---- */
static void put_text(struct json_writer *w, const char *key, const char *text)
{
    jw_key(w, key);
    jw_text(w, text);
}

static void put_int(struct json_writer *w, const char *key, int64_t v)
{
    jw_key(w, key);
    jw_int(w, v);
}

static void put_tokens_text(struct json_writer *w, const char *key, struct buf text)
{
    jw_key(w, key);
    jw_string(w, buf_slice(&text));
    buf_release(&text);
}

/* Runs of pages that are at the same place. */
static void put_pages(const struct explain *x, struct json_writer *w)
{
    static const char *const words[] = {"absent", "memory", "mapped"};
    uint32_t n_groups = x->g->model_info->n_groups, n = (uint32_t)x->prompt.tokens.count;
    jw_key(w, "pages");
    jw_begin_array(w);
    for (uint32_t from = 0; from < x->found.n_pages;) {
        const struct cache_page_find *first = &x->found.pages[from];
        uint32_t to = from + 1;
        while (to < x->found.n_pages && memcmp(first, &x->found.pages[to], sizeof *first) == 0)
            to++;
        uint32_t end = to * KV_PAGE_TOKENS;
        jw_begin_object(w);
        put_int(w, "from_token", from * KV_PAGE_TOKENS);
        put_int(w, "to_token", end < n ? end : n);
        for (uint32_t g = 0; g < n_groups; g++)
            put_text(w, x->g->model_info->groups[g].window ? "windowed_layers" : "full_layers",
                     words[first->where[g]]);
        jw_end_object(w);
        from = to;
    }
    jw_end_array(w);
}

static void put_session(struct json_writer *w, const struct session_nearest *s, bool is_nameless)
{
    jw_key(w, "session");
    if (!s) {
        jw_null(w);
        return;
    }
    jw_begin_object(w);
    put_text(w, "name", is_nameless ? NULL : s->name);
    put_text(w, "model", s->model);
    put_text(w, "kv_type", s->kv_type);
    put_int(w, "common_tokens", s->common);
    jw_end_object(w);
}

static void put_divergence(const struct explain *x, const struct verdict *v, struct json_writer *w)
{
    jw_key(w, "divergence");
    if (v->at >= x->prompt.tokens.count) {
        jw_null(w);
        return;
    }
    jw_begin_object(w);
    put_int(w, "token", v->at);
    put_tokens_text(w, "text_before", text_before(x, v->at));
    put_tokens_text(w, "text", text_from(x, v->at));
    if (v->n_other > 0) {
        uint32_t n = v->n_other < EXPLAIN_CONTEXT_TOKENS ? v->n_other : EXPLAIN_CONTEXT_TOKENS;
        put_tokens_text(w, "stored_text", text_of(x, v->other, n));
    } else {
        put_text(w, "stored_text", NULL);
    }
    jw_end_object(w);
}

static void write_answer(const struct explain *x, struct buf *out)
{
    const struct cache_match *m = &x->found.match;
    struct verdict v = judge(x);
    struct json_writer w;
    jw_init(&w, out);
    jw_begin_object(&w);
    put_text(&w, "object", "cache.explanation");
    put_int(&w, "prompt_tokens", (int64_t)x->prompt.tokens.count);
    put_int(&w, "matched_tokens", m->matched);
    put_int(&w, "memory_tokens", m->memory_tokens);
    put_int(&w, "disk_tokens", m->disk_tokens);
    put_int(&w, "computed_tokens", (int64_t)x->prompt.tokens.count - m->resume);
    put_int(&w, "replayed_turns", x->prompt.n_replayed);
    put_text(&w, "reason", v.code);
    put_text(&w, "explanation", v.text);
    put_divergence(x, &v, &w);
    put_session(&w, v.session, v.session == &x->other_tenant);
    put_pages(x, &w);
    jw_end_object(&w);
}

/* Was the page behind what matched set aside?  It is a full one, or the tail of the session that
 * had these tokens. */
static bool is_set_aside(const struct explain *x)
{
    uint32_t page = x->found.match.matched / PAGE_KEY_TOKENS, from = page * PAGE_KEY_TOKENS;
    const uint32_t *tokens = x->prompt.tokens.ids;
    uint32_t lengths[] = {PAGE_KEY_TOKENS, x->own.n_tokens - from};
    struct digester d = {0};
    struct digest parent = x->g->root;
    bool is_bad = false;
    for (uint32_t i = 0; i < page; i++)
        parent = page_key_chain(&d, &x->owner, &parent, tokens + (size_t)i * PAGE_KEY_TOKENS,
                                PAGE_KEY_TOKENS);
    for (size_t i = 0; i < ARRAY_COUNT(lengths) && !is_bad; i++) {
        if (lengths[i] == 0 || lengths[i] > PAGE_KEY_TOKENS || from + lengths[i] > x->own.common)
            continue;
        struct digest chain = page_key_chain(&d, &x->owner, &parent, tokens + from, lengths[i]);
        for (uint32_t group = 0; group < PAGE_KEY_GROUPS && !is_bad; group++) {
            struct digest key = page_key_page(&d, group, &chain);
            struct store_verify_report report = {0};
            struct err e;
            is_bad = store_verify_record(x->g->store, &key, &report, &e) == E_CORRUPT;
        }
    }
    digester_release(&d);
    return is_bad;
}

static void find_sessions(struct explain *x, bool is_operator)
{
    struct sessions *b = x->g->sessions;
    struct session_nearest_request r = {.tenant = x->r->tenant,
                                        .tokens = x->prompt.tokens.ids,
                                        .n_tokens = (uint32_t)x->prompt.tokens.count,
                                        .messages = x->r->messages,
                                        .root = &x->g->root};
    if (!x->g->store)
        return;
    x->has_own = sessions_nearest(b, &r, &x->own);
    if (x->has_own && x->own.common > x->found.match.matched)
        x->is_damaged = is_set_aside(x);
    r.of_other_roots = true;
    x->has_other_root = sessions_nearest(b, &r, &x->other_root);
    r.of_other_roots = false;
    r.of_others = true;
    if (is_operator) /* a tenant must not learn what others have */
        x->has_other_tenant = sessions_nearest(b, &r, &x->other_tenant);
}

enum status engine_explain(struct engine *g, const struct engine_request *r, bool is_operator,
                           struct buf *out, struct err *e)
{
    struct explain x = {.g = g, .r = r};
    (void)sessions_find_salt(g->sessions, r->tenant, r->session, &x.owner);
    enum status st = prompt_build(g, r, &x.owner, &x.prompt, e);
    if (st != OK)
        return st;
    if (x.prompt.tokens.count > g->info.n_ctx)
        st = err_set(e, E_CONTEXT, "the prompt has %zu tokens, the context holds %u",
                     x.prompt.tokens.count, g->info.n_ctx);
    if (st == OK && !engine_call(g, run, &x))
        st = err_set(e, E_CANCELLED, "the engine is closing");
    if (st == OK && x.st != OK) {
        *e = x.err;
        st = x.st;
    }
    if (st == OK) {
        find_sessions(&x, is_operator);
        write_answer(&x, out);
        if (out->failed)
            st = err_set(e, E_NOMEM, "no memory for the answer");
    }
    mem_free(x.found.pages);
    prompt_release(&x.prompt);
    return st;
}
