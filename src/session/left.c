/* SPDX-License-Identifier: MIT
 * left.c — histories that a session went on from elsewhere: an edited message, another answer, the
 * name used for another conversation.  Their pages stay cached, since clients do come back; but
 * whoever deletes the session means them too, so their token ids are kept to find them by. */
#include "base/mem.h"
#include "session/session_int.h"

void left_add(struct session *s, struct line *line, struct line **dropped)
{
    *dropped = NULL;
    for (uint32_t i = 0; i < s->n_left; i++)
        if (s->left[i] == line)
            return;
    if (s->n_left == LINES_LEFT_MAX) {
        *dropped = s->left[0];
        memmove(s->left, s->left + 1, (LINES_LEFT_MAX - 1) * sizeof *s->left);
        s->n_left--;
    }
    s->left[s->n_left++] = line;
}

bool left_read(struct sessions *b, const struct session *s, const struct line *l,
               struct session_content *out)
{
    struct span_list spans = {0};
    struct line_content c = {0};
    struct err e;
    uint32_t n_tokens, n_messages;
    *out = (struct session_content){.tenant = s->tenant,
                                    .salt = s->is_imported ? s->salt : b->tenants[s->tenant]->salt,
                                    .root = s->origin->root};
    pthread_mutex_lock(&b->mutex);
    line_end(l, &n_tokens, &n_messages);
    enum status st = line_spans(l, n_tokens, n_messages, &spans, &e);
    pthread_mutex_unlock(&b->mutex);
    if (st == OK)
        st = line_read(b, &spans, SESSION_WANT_TOKENS | SESSION_WANT_MESSAGES, &c, &e);
    mem_free(spans.spans);
    if (st != OK)
        return false;
    out->tokens = c.tokens;
    out->n_tokens = c.n_tokens;
    out->first_user_end = line_first_user_end(&c);
    c.tokens = NULL;
    line_content_release(&c);
    return true;
}

void left_forget(struct sessions *b, struct session *s, const uint32_t *tokens, uint32_t n_tokens)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_left; i++) {
        struct session_content c;
        bool is_said = left_read(b, s, s->left[i], &c) && c.n_tokens <= n_tokens &&
                       memcmp(c.tokens, tokens, c.n_tokens * sizeof *tokens) == 0;
        session_content_release(&c);
        if (!is_said)
            s->left[n++] = s->left[i];
    }
    s->n_left = n;
}

void left_erase(struct sessions *b, const struct session_content *c)
{
    struct session_nearest *near = mem_try_new(1, sizeof *near);
    const struct session_nearest_request r = {
        .tenant = c->tenant, .tokens = c->tokens, .n_tokens = c->n_tokens, .root = &c->root};
    if (near && c->n_tokens > 0)
        erase_traces(b, c, sessions_nearest(b, &r, near) ? near->common : 0);
    mem_free(near);
}

void left_write(const struct session *s, char *text)
{
    *text = '\0';
    for (uint32_t i = 0; i < s->n_left; i++)
        id_hex(&s->left[i]->id, text + (size_t)i * 2 * SESSION_ID_BYTES);
}

/* A line that is lost is passed over: nothing is known of it any more. */
void left_parse(const struct sessions *b, struct session *s, struct slice text)
{
    const size_t hex = 2 * SESSION_ID_BYTES;
    for (; text.len >= hex && s->n_left < LINES_LEFT_MAX;
         text = (struct slice){text.ptr + hex, text.len - hex}) {
        struct session_id id;
        struct line *l = NULL;
        if (id_from_hex(&id, (struct slice){text.ptr, hex}))
            l = line_find(b, &id);
        if (l)
            s->left[s->n_left++] = l;
    }
}
