/* SPDX-License-Identifier: MIT
 * session.c — a name for a chain's end, and the tokens and messages that it owns.
 * The KV pages of a session are a cache of its tokens: losing them costs time only.
 *   tokens record: key of (owner, name); chunk 0 token ids, chunk 1 the messages as JSON
 *   session record: key of (owner, name); meta JSON {"name","n_tokens","updated","model"} */
#include "engine/engine_int.h"

#define SESSION_JSON_MAX (64u << 20)

static struct digest key_of(const struct engine *g, const char *tag, struct slice name)
{
    struct digester d = {0};
    digest_begin(&d);
    digest_field(&d, tag, g->salt, sizeof g->salt);
    digest_field(&d, "root", g->root.b, sizeof g->root.b);
    digest_field(&d, "name", name.ptr, name.len);
    struct digest out = digest_end(&d);
    digester_release(&d);
    return out;
}

/* What a queued record reads until it is durable. */
struct kept {
    uint32_t *tokens;
    char *messages;
};

static void kept_done(void *arg, enum status st, const struct err *e)
{
    struct kept *k = arg;
    if (st != OK)
        log_warn("engine", "a session's tokens were not kept: %s", e->msg);
    mem_free(k->tokens);
    mem_free(k->messages);
    mem_free(k);
}

static void put_session(struct engine *g, struct slice name, uint32_t n_tokens,
                        const struct digest *chain)
{
    char hex[DIGEST_HEX_BYTES];
    digest_hex(chain, hex);
    struct buf b;
    struct json_writer w;
    buf_init(&b, STORE_META_MAX);
    jw_init(&w, &b);
    jw_begin_object(&w);
    jw_key(&w, "name");
    jw_string(&w, name);
    jw_key(&w, "n_tokens");
    jw_int(&w, n_tokens);
    jw_key(&w, "updated");
    jw_int(&w, clock_unix_s());
    jw_key(&w, "model");
    jw_text(&w, g->info.model_name);
    jw_key(&w, "chain");
    jw_text(&w, hex);
    jw_end_object(&w);
    struct store_put put = {.kind = RECORD_SESSION,
                            .key = key_of(g, "kvasir session", name),
                            .chain = *chain,
                            .meta = b.ptr,
                            .meta_len = (uint32_t)b.len};
    struct err e;
    if (b.failed || store_put(g->store, &put, &e) != OK)
        log_warn("engine", "a session's record was not kept");
    buf_release(&b);
}

void session_keep(struct engine *g, const struct choice *c)
{
    const struct engine_request *r = c->job->request;
    if (!g->store || g->options.store_read_only)
        return;
    struct kept *k = mem_try_new(1, sizeof *k);
    if (!k)
        return;
    size_t bytes = c->tokens.count * sizeof *c->tokens.ids;
    k->tokens = mem_try_new(c->tokens.count, sizeof *c->tokens.ids);
    struct buf messages;
    buf_init(&messages, SESSION_JSON_MAX);
    if (r->messages)
        json_write(&messages, r->messages, (struct json_style){.is_compact = true});
    else
        buf_add_text(&messages, "[]");
    size_t messages_len = 0;
    bool failed = messages.failed || !k->tokens;
    k->messages = buf_take(&messages, &messages_len);
    if (failed) {
        struct err e;
        err_set(&e, E_NOMEM, "out of memory");
        kept_done(k, E_NOMEM, &e);
        return;
    }
    memcpy(k->tokens, c->tokens.ids, bytes);
    struct digest chain = sequence_chain(c->sequence);
    struct store_chunk chunks[] = {{k->tokens, bytes}, {k->messages, messages_len}};
    struct store_put put = {.kind = RECORD_TOKENS,
                            .key = key_of(g, "kvasir session tokens", r->session),
                            .chain = chain,
                            .meta = r->session.ptr,
                            .meta_len = (uint32_t)r->session.len,
                            .chunks = chunks,
                            .n_chunks = 2,
                            .done = kept_done,
                            .arg = k};
    struct err e;
    if (store_put(g->store, &put, &e) != OK)
        kept_done(k, e.code, &e);
    else
        put_session(g, r->session, (uint32_t)c->tokens.count, &chain);
}
