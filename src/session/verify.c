/* SPDX-License-Identifier: MIT
 * verify.c — all records that one session needs, read and compared: its own, its tokens and
 * messages (those of the lines before it, too), its pages and heads.  A page that is not there was
 * evicted, which is no damage; tokens that are not there are. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "session/kvx_int.h"

struct check {
    struct sessions *b;
    const struct session_verify *o;
    struct store_verify_report *report;
};

static void tell(struct check *c, const char *what, const char *why)
{
    char text[400];
    snprintf(text, sizeof text, "%s: %s", what, why);
    if (c->o->bad)
        c->o->bad(text, c->o->arg);
}

static void check_record(struct check *c, const struct digest *key, const char *what, bool must)
{
    struct err e = {0};
    enum status st = store_verify_record(c->b->store, key, c->report, &e);
    if (st == E_NOT_FOUND && must) {
        c->report->n_bad++;
        tell(c, what, "it is lost");
    } else if (st != OK && st != E_NOT_FOUND) {
        tell(c, what, e.msg);
    }
}

/* Where `tokens` may end: a page with its heads, whole or any beginning of it. */
static void check_page(struct check *c, struct kvx_chain *chain, uint32_t page,
                       const uint32_t *tokens, uint32_t n)
{
    char what[64];
    for (uint32_t t = 1; t <= n; t++) {
        struct digest end =
            page_key_chain(&chain->digester, &chain->owner, &chain->at[page], tokens, t);
        struct digest head = page_key_head(&chain->digester, &end);
        uint32_t at = page * PAGE_KEY_TOKENS + t;
        snprintf(what, sizeof what, "head at token %u", at);
        check_record(c, &head, what, false);
        for (uint32_t group = 0; group < PAGE_KEY_GROUPS; group++) {
            struct digest key = page_key_page(&chain->digester, group, &end);
            snprintf(what, sizeof what, "page of tokens %u to %u, layer group %u",
                     page * PAGE_KEY_TOKENS + 1, at, group);
            check_record(c, &key, what, false);
        }
    }
}

static enum status check_pages(struct check *c, const struct session_content *content,
                               struct err *e)
{
    struct kvx_chain chain;
    enum status st = kvx_chain_init(&chain, &content->root, &content->salt, content->tokens,
                                    content->n_tokens, e);
    for (uint32_t i = 0; st == OK && i <= chain.n_pages; i++) {
        uint32_t n = i < chain.n_pages ? PAGE_KEY_TOKENS : content->n_tokens % PAGE_KEY_TOKENS;
        check_page(c, &chain, i, content->tokens + (size_t)i * PAGE_KEY_TOKENS, n);
    }
    kvx_chain_release(&chain);
    return st;
}

/* The keys of what it keeps, and whether all of it is known to be there. */
static enum status find(const struct check *c, struct digest *record, struct span_list *spans,
                        bool *is_cut, struct err *e)
{
    enum status st = book_enter(c->b, e);
    if (st != OK)
        return st;
    const struct session *s = book_find(c->b, c->o->tenant, c->o->which);
    if (s) {
        uint32_t n_tokens, n_messages;
        session_end(s, &n_tokens, &n_messages);
        *record = session_key(&s->id);
        st = line_spans(s->line, n_tokens, n_messages, spans, e);
        *is_cut = spans->is_cut || session_is_lost(s);
        uint32_t known = spans->n ? spans->spans[spans->n - 1].to : 0;
        *is_cut = *is_cut || (!s->follows && known < s->n_tokens);
    } else {
        st = err_set(e, E_NOT_FOUND, "no session or response " SLICE_FMT, SLICE_ARG(c->o->which));
    }
    book_leave(c->b);
    return st;
}

enum status sessions_verify(struct sessions *b, const struct session_verify *o,
                            struct store_verify_report *report, struct err *e)
{
    struct check c = {b, o, report};
    struct digest record;
    struct span_list spans = {0};
    struct session_content content = {0};
    bool is_cut = false;
    *report = (struct store_verify_report){0};
    enum status st = find(&c, &record, &spans, &is_cut, e);
    if (st != OK)
        return st;
    check_record(&c, &record, "the session's record", true);
    for (uint32_t i = 0; i < spans.n; i++) {
        char what[64];
        snprintf(what, sizeof what, "tokens %u to %u", spans.spans[i].from + 1, spans.spans[i].to);
        check_record(&c, &spans.spans[i].key, what, true);
    }
    if (is_cut) {
        report->n_bad++;
        tell(&c, "its tokens", "a part of them is lost");
    }
    st = sessions_read(b, o->tenant, o->which, SESSION_WANT_TOKENS, &content, e);
    if (st == OK)
        st = check_pages(&c, &content, e);
    session_content_release(&content);
    mem_free(spans.spans);
    return st;
}
