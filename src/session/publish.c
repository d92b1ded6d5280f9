/* SPDX-License-Identifier: MIT
 * publish.c — a prefix that the operator marks as public: its full pages get a second name, under
 * the salt of the tenant "public", so that every tenant's prompt may begin with them.  What a
 * tenant computes behind them hangs under its own salt and stays its own. */
#include "base/endian.h"
#include "base/mem.h"
#include "session/page_key.h"
#include "session/session_int.h"

#define PAGE_BYTES_MAX (64u << 20)

static const struct slice PUBLIC = {"public", 6};

bool sessions_public_salt(struct sessions *b, struct digest *salt)
{
    uint32_t tenant;
    struct err e;
    if (sessions_find_tenant(b, PUBLIC, &tenant, &e) != OK)
        return false;
    *salt = sessions_salt(b, tenant);
    return true;
}

struct way {
    struct sessions *b;
    struct digester digester;
    struct digest owner, public_owner; /* salts */
    struct digest chain, public_chain; /* before the page */
    uint32_t n_copied;
};

/* One record under its second name.  A page that is not there, or is damaged, is passed over. */
static enum status copy_page(struct way *w, uint32_t group, const struct digest *from,
                             const struct digest *to, const uint32_t *tokens, uint32_t page,
                             struct err *e)
{
    struct digest key = page_key_page(&w->digester, group, from);
    struct store_pin pin;
    struct err why;
    if (store_get(w->b->store, &key, &pin, &why) != OK)
        return OK;
    enum status st = OK;
    struct store_put put = {.kind = RECORD_PAGE,
                            .key = page_key_page(&w->digester, group, to),
                            .chain = *to,
                            .parent = w->public_chain,
                            .layout = pin.layout,
                            .depth = page,
                            .owner = store_owner_of(&w->public_owner),
                            .meta = pin.meta,
                            .meta_len = pin.meta_len,
                            .n_chunks = pin.n_chunks};
    struct store_chunk *chunks = mem_try_new(pin.n_chunks + 1, sizeof *chunks);
    uint8_t *bytes =
        pin.payload_len <= PAGE_BYTES_MAX ? mem_try_aligned(64, pin.payload_len + 1) : NULL;
    bool is_good = chunks && bytes && store_fault_in(&pin, &why) == OK;
    for (uint32_t i = 0; is_good && i < pin.n_chunks; i++) {
        struct store_chunk_ref c = store_chunk(&pin, i);
        uint8_t *copy = bytes + (c.bytes - pin.payload);
        is_good = store_copy_chunk(&pin, i, copy, &why) == OK;
        chunks[i] = (struct store_chunk){copy, c.len};
    }
    if (is_good && !store_has(w->b->store, &put.key)) {
        put.chunks = chunks;
        if (group == 0) {
            put.family = page_key_family(&w->digester, &w->public_owner, &put.parent);
            put.order_len = page_key_order(tokens, PAGE_KEY_TOKENS, put.order);
        }
        st = store_put_wait(w->b->store, &put, e);
    }
    w->n_copied += is_good && st == OK && group == 0;
    mem_free(bytes);
    mem_free(chunks);
    store_unpin(w->b->store, &pin);
    return st;
}

static enum status copy_pages(struct way *w, const struct session_content *c, uint32_t n_tokens,
                              struct err *e)
{
    enum status st = OK;
    for (uint32_t page = 0; st == OK && (page + 1) * PAGE_KEY_TOKENS <= n_tokens; page++) {
        const uint32_t *tokens = c->tokens + (size_t)page * PAGE_KEY_TOKENS;
        struct digest from =
            page_key_chain(&w->digester, &w->owner, &w->chain, tokens, PAGE_KEY_TOKENS);
        struct digest to = page_key_chain(&w->digester, &w->public_owner, &w->public_chain, tokens,
                                          PAGE_KEY_TOKENS);
        for (uint32_t group = 0; st == OK && group < PAGE_KEY_GROUPS; group++)
            st = copy_page(w, group, &from, &to, tokens, page, e);
        w->chain = from;
        w->public_chain = to;
    }
    return st;
}

enum status sessions_publish(struct sessions *b, uint32_t tenant, struct slice which, uint32_t at,
                             struct buf *out, struct err *e)
{
    struct session_content c;
    struct json_writer j;
    uint32_t public_tenant;
    enum status st = book_may_write(b, e);
    if (st == OK)
        st = sessions_tenant(b, PUBLIC, NULL, 0, &public_tenant, e);
    if (st == OK)
        st = sessions_read(b, tenant, which, SESSION_WANT_TOKENS, &c, e);
    if (st != OK)
        return st;
    struct way w = {.b = b,
                    .owner = c.salt,
                    .public_owner = sessions_salt(b, public_tenant),
                    .chain = c.root,
                    .public_chain = c.root};
    uint32_t n = at && at < c.n_tokens ? at : c.n_tokens;
    if (c.is_imported)
        st = err_set(e, E_DENIED,
                     "pages that were imported are not made public: nobody here "
                     "computed them");
    else
        st = copy_pages(&w, &c, n, e);
    if (st == OK && w.n_copied == 0)
        st = err_set(e, E_NOT_FOUND,
                     "there is no full page of it; ask for it once, so that it is computed");
    if (st == OK) {
        jw_init(&j, out);
        jw_begin_object(&j);
        jw_key(&j, "public_tokens");
        jw_int(&j, (int64_t)w.n_copied * PAGE_KEY_TOKENS);
        jw_end_object(&j);
    }
    digester_release(&w.digester);
    session_content_release(&c);
    return st;
}
