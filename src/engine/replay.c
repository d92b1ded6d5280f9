/* SPDX-License-Identifier: MIT
 * replay.c — a chat's text with the very bytes of turns that a model wrote here.
 * Where such a turn comes back in another form (arguments serialised anew, reasoning left out), the
 * template would spell it otherwise, and the prefix would end there.  So it renders a mark in the
 * turn's place, and from the end of the turn before up to the mark's end everything becomes what
 * was there when the model wrote:
 *
 *     rendered   … <end> lead mark <end> …        lead: "\n<|im_start|>assistant\n"
 *     then       … <end> lead' written <end> …    lead' begins with lead (it may open a <think>)
 *
 * A turn that does not fit is rendered as the client sent it, and so are all behind it, whose
 * prefix is another one anyway. */
#include <stdio.h>

#include "engine/engine_int.h"

#define MARK_FORMAT "\x02kvasir-turn-%u\x03"

struct turn {
    uint32_t message;
    struct buf bytes; /* lead, written */
    size_t lead_len;
};

struct replay {
    struct engine *g;
    struct turn *turns;
    uint32_t n;
};

static void release(struct replay *x)
{
    for (uint32_t i = 0; i < x->n; i++)
        buf_release(&x->turns[i].bytes);
    mem_free(x->turns);
}

static enum status find_turns(struct replay *x, const struct engine_request *r,
                              const struct digest *owner, struct err *e)
{
    x->turns = mem_try_new(r->n_turns, sizeof *x->turns);
    if (!x->turns)
        return err_set(e, E_NOMEM, "no memory for the turns of this chat");
    for (uint32_t i = 0; i < r->n_turns; i++) {
        struct turn *t = &x->turns[x->n];
        if (r->turns[i].from_end > r->messages->count)
            continue;
        t->message = (uint32_t)r->messages->count - r->turns[i].from_end;
        buf_init(&t->bytes, SAID_TURN_MAX);
        if (said_get(x->g->said, owner, &r->turns[i].key, &t->bytes, &t->lead_len))
            x->n++;
        else
            buf_release(&t->bytes);
    }
    return OK;
}

/* The messages with marks in place of the first n turns. */
static struct json *with_marks(const struct replay *x, const struct json *messages, uint32_t n,
                               struct arena *a)
{
    struct json *all = json_new_array(a, messages->count);
    if (!all)
        return NULL;
    if (messages->count)
        memcpy(all->items, messages->items, messages->count * sizeof *all->items);
    for (uint32_t i = 0; i < n; i++) {
        struct json *m = json_new_object(a, 2);
        char *mark = arena_printf(a, MARK_FORMAT, i);
        if (!m || !mark)
            return NULL;
        m->members[0] = (struct json_member){SLICE_LIT("role"),
                                             {.kind = JSON_STRING, .text = SLICE_LIT("assistant")}};
        m->members[1] = (struct json_member){SLICE_LIT("content"),
                                             {.kind = JSON_STRING, .text = slice_of(mark)}};
        all->items[x->turns[i].message] = *m;
    }
    return all;
}

/* Puts the turns in the marks' places; *n_fit: how many fitted before one did not. */
static void fill_in(const struct replay *x, struct slice text, uint32_t n, struct buf *out,
                    uint32_t *n_fit)
{
    for (*n_fit = 0; *n_fit < n; (*n_fit)++) {
        const struct turn *t = &x->turns[*n_fit];
        char mark[40];
        int len = snprintf(mark, sizeof mark, MARK_FORMAT, *n_fit);
        const char *at = memmem(text.ptr, text.len, mark, (size_t)len);
        if (!at)
            return;
        buf_add(out, text.ptr, (size_t)(at - text.ptr));
        size_t end = memo_last_end(x->g->memo, buf_slice(out));
        struct slice lead = {out->ptr + end, out->len - end};
        struct slice was = {t->bytes.ptr, t->lead_len};
        struct slice rest = {at + len, text.len - (size_t)(at + len - text.ptr)};
        size_t used = memo_end_at(x->g->memo, rest);
        if (out->failed || used == 0 || !slice_starts(was, lead))
            return;
        out->len = end;
        buf_add_slice(out, buf_slice(&t->bytes));
        text = (struct slice){rest.ptr + used, rest.len - used};
    }
    buf_add_slice(out, text);
}

static enum status render_with(struct replay *x, const struct engine_request *r, uint32_t n,
                               struct buf *out, uint32_t *n_fit, struct err *e)
{
    struct arena a;
    struct buf text;
    struct engine_request marked = *r;
    arena_init(&a, 64u << 20);
    buf_init(&text, out->max_bytes);
    marked.messages = with_marks(x, r->messages, n, &a);
    enum status st = marked.messages ? engine_render(x->g, &marked, &text, e)
                                     : err_set(e, E_NOMEM, "no memory for the turns of this chat");
    *n_fit = 0;
    if (st == OK && !text.failed)
        fill_in(x, buf_slice(&text), n, out, n_fit);
    buf_release(&text);
    arena_release(&a);
    return st;
}

enum status replay_render(struct engine *g, const struct engine_request *r,
                          const struct digest *owner, struct buf *out, uint32_t *n_replayed,
                          struct err *e)
{
    struct replay x = {.g = g};
    uint32_t n_fit = 0;
    *n_replayed = 0;
    if (r->n_turns == 0 || g->options.no_replay)
        return engine_render(g, r, out, e);
    enum status st = find_turns(&x, r, owner, e);
    uint32_t n = x.n;
    /* Once with all, once more with those that fitted.  A template that refuses a turn without its
     * calls gets it as it was sent. */
    for (uint32_t tries = 0; tries < 2 && n > 0 && st == OK; tries++) {
        struct err quiet;
        buf_clear(out);
        if (render_with(&x, r, n, out, &n_fit, &quiet) == OK && n_fit == n)
            break;
        n = n_fit;
    }
    if (st == OK && (n == 0 || n_fit != n)) {
        buf_clear(out);
        st = engine_render(g, r, out, e);
    } else if (st == OK) {
        *n_replayed = n;
    }
    release(&x);
    return st;
}
