/* SPDX-License-Identifier: MIT
 * nearest.c — which session begins most like a prompt: for saying why the cache has no more of it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "session/session_int.h"

#define NEAREST_LOOKED_AT 512u /* the newest so many are read */

struct candidate {
    int64_t updated;
    struct session_id id;
};

static int newest_first(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    return x->updated > y->updated ? -1 : x->updated < y->updated;
}

/* Ids, since sessions may go while they are read. */
static enum status choose(struct sessions *b, uint32_t tenant, bool others, struct candidate **out,
                          uint32_t *n, struct err *e)
{
    enum status st = book_enter(b, e);
    if (st != OK)
        return st;
    *n = 0;
    *out = mem_try_new((size_t)b->n_all + 1, sizeof **out);
    for (uint32_t i = 0; *out && i < b->n_all; i++) {
        const struct session *s = b->all[i];
        int64_t updated = s->follows && s->line ? s->line->updated : s->updated;
        if ((s->tenant != tenant) == others && s->line)
            (*out)[(*n)++] = (struct candidate){updated, s->id};
    }
    book_leave(b);
    if (!*out)
        return err_set(e, E_NOMEM, "no memory to compare sessions");
    qsort(*out, *n, sizeof **out, newest_first);
    *n = *n < NEAREST_LOOKED_AT ? *n : NEAREST_LOOKED_AT;
    return OK;
}

static bool look(struct sessions *b, const struct session_id *id, struct session_nearest *out,
                 struct span_list *spans)
{
    struct err e;
    if (book_enter(b, &e) != OK)
        return false;
    const struct session *s = book_by_id(b, id);
    if (s) {
        uint32_t n_tokens, n_messages;
        session_end(s, &n_tokens, &n_messages);
        snprintf(out->name, sizeof out->name, "%s",
                 s->name       ? s->name
                 : s->response ? s->response
                               : "?");
        snprintf(out->model, sizeof out->model, "%s", s->origin->model);
        snprintf(out->kv_type, sizeof out->kv_type, "%s", s->origin->kv_type);
        out->root = s->origin->root;
        out->identity = s->origin->identity;
        out->is_imported = s->is_imported;
        if (line_spans(s->line, n_tokens, n_messages, spans, &e) != OK)
            s = NULL;
    }
    book_leave(b);
    return s != NULL;
}

static void compare(const struct line_content *c, const uint32_t *tokens, uint32_t n_tokens,
                    const struct checksum *sums, uint32_t n_sums, struct session_nearest *out)
{
    uint32_t n = c->n_tokens < n_tokens ? c->n_tokens : n_tokens, k = 0;
    while (k < n && c->tokens[k] == tokens[k])
        k++;
    out->n_tokens = c->n_tokens;
    out->common = k;
    out->n_other = 0;
    for (; out->n_other < SESSION_NEAREST_TOKENS && k + out->n_other < c->n_tokens; out->n_other++)
        out->other[out->n_other] = c->tokens[k + out->n_other];
    out->n_messages = 0;
    out->messages_end = 0;
    while (out->n_messages < c->n_messages && out->n_messages < n_sums &&
           checksum_equal(c->rows[out->n_messages].sum, sums[out->n_messages])) {
        uint32_t end = c->rows[out->n_messages++].end;
        out->messages_end = end ? end : out->messages_end;
    }
}

bool sessions_nearest(struct sessions *b, const struct session_nearest_request *r,
                      struct session_nearest *out)
{
    struct candidate *list = NULL;
    uint32_t n = 0;
    struct err e;
    bool found = false;
    size_t n_sums = r->messages ? r->messages->count : 0;
    struct checksum *sums = mem_try_new(n_sums + 1, sizeof *sums);
    if (!sums || choose(b, r->tenant, r->of_others, &list, &n, &e) != OK)
        n = 0;
    for (size_t i = 0; sums && i < n_sums; i++)
        sums[i] = session_message_sum(&r->messages->items[i]);
    for (uint32_t i = 0; i < n; i++) {
        struct session_nearest one = {0};
        struct span_list spans = {0};
        struct line_content c = {0};
        if (look(b, &list[i].id, &one, &spans) && line_read(b, &spans, 0, &c, &e) == OK) {
            compare(&c, r->tokens, r->n_tokens, sums, (uint32_t)n_sums, &one);
            bool is_wanted = !r->root || digest_equal(r->root, &one.root) == !r->of_other_roots;
            if (is_wanted &&
                (!found || one.common > out->common ||
                 (one.common == out->common && one.messages_end > out->messages_end))) {
                *out = one;
                found = true;
            }
        }
        line_content_release(&c);
        mem_free(spans.spans);
    }
    mem_free(sums);
    mem_free(list);
    return found;
}
