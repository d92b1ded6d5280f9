/* SPDX-License-Identifier: MIT
 * erase.c — a session was deleted: the KV and the replayed turns that spell it go too, so that
 * `store gc` leaves none of its bytes.
 * What it shares with another session stays.  Behind that go its pages and the shorter tails and
 * heads within them, by name; and what hangs on its chain behind the first user's words, whoever
 * asked: answers that were broken off, other answers, an unnamed chat that went on from there
 * (which computes again).  What parts from it before that is another conversation with the same
 * system text, and stays. */
#include "base/checksum.h"
#include "base/endian.h"
#include "base/mem.h"
#include "session/kvx_int.h"

#define CHILDREN_MAX 65536u /* of one page */
#define BRANCHES_MAX 65536u /* that wait to be looked at */

struct eraser {
    struct sessions *b;
    struct digest owner;
    struct digester digester;
    struct digest *todo; /* chains whose children go */
    uint32_t n_todo, cap_todo;
};

void session_erase_key(struct sessions *b, const struct digest *key)
{
    struct err e;
    if (store_has(b->store, key) && store_delete(b->store, key, &e) == E_BUSY)
        (void)!store_delete_wait(b->store, key, &e); /* the queue is full: wait for room */
}

/* A page under `parent` with its heads, and those of its beginnings from token `from` on. */
static void erase_page(struct eraser *x, const struct digest *parent, const uint32_t *tokens,
                       uint32_t n, uint32_t from)
{
    for (uint32_t t = n; t > from; t--) {
        struct digest end = page_key_chain(&x->digester, &x->owner, parent, tokens, t);
        struct digest head = page_key_head(&x->digester, &end);
        session_erase_key(x->b, &head);
        for (uint32_t group = 0; group < PAGE_KEY_GROUPS; group++) {
            struct digest key = page_key_page(&x->digester, group, &end);
            session_erase_key(x->b, &key);
        }
    }
}

static void later(struct eraser *x, const struct digest *chain)
{
    if (x->n_todo == x->cap_todo) {
        uint32_t cap = x->cap_todo ? x->cap_todo * 2 : 64;
        struct digest *grown =
            cap <= BRANCHES_MAX ? mem_try_resize(x->todo, cap, sizeof *grown) : NULL;
        if (!grown)
            return; /* eviction takes it in time */
        x->todo = grown;
        x->cap_todo = cap;
    }
    x->todo[x->n_todo++] = *chain;
}

/* Tokens of a page's record; 0: it has none that make sense. */
static uint32_t tokens_of(const struct store_pin *pin, uint32_t tokens[PAGE_KEY_TOKENS])
{
    uint32_t n = pin->meta_len >= 8 ? get_le32(pin->meta + 4) : 0;
    if (n < 1 || n > PAGE_KEY_TOKENS || pin->meta_len != 8 + n * 4)
        return 0;
    memcpy(tokens, pin->meta + 8, (size_t)n * 4);
    return n;
}

/* The children of parent that begin with ours [n_ours], and all beneath them. */
static void erase_children(struct eraser *x, const struct digest *parent, const uint32_t *ours,
                           uint32_t n_ours)
{
    struct digest family = page_key_family(&x->digester, &x->owner, parent);
    uint8_t order[STORE_ORDER_MAX];
    uint32_t order_len = 0;
    for (uint32_t i = 0; i < CHILDREN_MAX; i++) {
        struct digest keys[2];
        uint32_t n_keys = store_neighbours(x->b->store, &family, order, order_len, keys);
        struct store_pin pin;
        struct err e;
        uint32_t tokens[PAGE_KEY_TOKENS];
        uint8_t found[STORE_ORDER_MAX];
        /* The first of two is at or before the place, and was seen. */
        if (n_keys == 0 || store_get(x->b->store, &keys[n_keys - 1], &pin, &e) != OK)
            return;
        struct digest chain = pin.chain;
        uint32_t n = tokens_of(&pin, tokens), found_len = page_key_order(tokens, n, found);
        store_unpin(x->b->store, &pin);
        uint32_t shorter = found_len < order_len ? found_len : order_len;
        int cmp = memcmp(found, order, shorter);
        if (cmp < 0 || (cmp == 0 && found_len <= order_len))
            return; /* the last one came again */
        memcpy(order, found, found_len);
        order_len = found_len;
        if (n < n_ours || (n_ours > 0 && memcmp(tokens, ours, (size_t)n_ours * 4) != 0))
            continue;
        erase_page(x, parent, tokens, n, n_ours > 0 ? n_ours - 1 : 0);
        if (n == PAGE_KEY_TOKENS)
            later(x, &chain);
    }
}

static void erase_pages(struct eraser *x, const struct kvx_chain *chain,
                        const struct session_content *c, uint32_t n_shared)
{
    uint32_t own =
        c->first_user_end > 0 && c->first_user_end <= c->n_tokens ? c->first_user_end : c->n_tokens;
    bool is_shared = own <= n_shared; /* then one token more says whose it is */
    own = is_shared ? n_shared : own;
    uint32_t page = own / PAGE_KEY_TOKENS, n_ours = own % PAGE_KEY_TOKENS + is_shared;
    if (page * PAGE_KEY_TOKENS + n_ours <= c->n_tokens)
        erase_children(x, &chain->at[page], c->tokens + (size_t)page * PAGE_KEY_TOKENS, n_ours);
    while (x->n_todo > 0) {
        struct digest next = x->todo[--x->n_todo];
        erase_children(x, &next, NULL, 0);
    }
    for (page = n_shared / PAGE_KEY_TOKENS; page <= chain->n_pages; page++) {
        uint32_t n = page < chain->n_pages ? PAGE_KEY_TOKENS : c->n_tokens % PAGE_KEY_TOKENS;
        erase_page(x, &chain->at[page], c->tokens + (size_t)page * PAGE_KEY_TOKENS, n,
                   page == n_shared / PAGE_KEY_TOKENS ? n_shared % PAGE_KEY_TOKENS : 0);
    }
}

/* ---- replayed turns ---- */
struct rows {
    const struct session_content *c;
    uint32_t n_shared;
    struct digest *keys;
    uint32_t n, cap;
};

/* Token ids of a turn that only they can spell. */
static bool is_its_ids(const struct rows *r, const struct store_pin *pin)
{
    struct store_chunk_ref c = store_chunk(pin, 0);
    uint64_t n = c.len / 4; /* the last one may be the end of a turn, which the session lacks */
    return n >= 2 && n - 1 <= r->c->n_tokens && n > r->n_shared &&
           memcmp(c.bytes, r->c->tokens, (size_t)(n - 1) * 4) == 0;
}

/* Text of a turn, written behind tokens that it begins with. */
static bool is_its_text(const struct rows *r, const struct store_pin *pin)
{
    uint32_t n = get_le32(pin->meta + 4);
    if (n > r->c->n_tokens || n < r->n_shared)
        return false;
    struct checksum sum = checksum_of(r->c->tokens, (size_t)n * 4);
    return sum.low == get_le64(pin->meta + 8) && sum.high == get_le64(pin->meta + 16);
}

static bool look_at_row(const struct store_pin *pin, void *arg)
{
    struct rows *r = arg;
    bool is_ids = pin->meta_len == TURN_ROW_META_OLD,
         is_text = pin->meta_len == TURN_ROW_META_BYTES;
    if (pin->n_chunks != 1 || !(is_ids ? is_its_ids(r, pin) : is_text && is_its_text(r, pin)))
        return true;
    if (r->n == r->cap) {
        uint32_t cap = r->cap ? r->cap * 2 : 16;
        struct digest *grown = mem_try_resize(r->keys, cap, sizeof *grown);
        if (!grown)
            return false;
        r->keys = grown;
        r->cap = cap;
    }
    r->keys[r->n++] = pin->key;
    return true;
}

void erase_traces(struct sessions *b, const struct session_content *c, uint32_t n_shared)
{
    struct eraser x = {.b = b, .owner = c->salt};
    struct rows rows = {.c = c, .n_shared = n_shared};
    struct kvx_chain chain;
    struct err e;
    if (kvx_chain_init(&chain, &c->root, &c->salt, c->tokens, c->n_tokens, &e) != OK)
        return; /* eviction will take them in time */
    erase_pages(&x, &chain, c, n_shared);
    if (store_each(b->store, RECORD_TOKENS, look_at_row, &rows, &e) == OK)
        for (uint32_t i = 0; i < rows.n; i++)
            session_erase_key(b, &rows.keys[i]);
    mem_free(rows.keys);
    mem_free(x.todo);
    digester_release(&x.digester);
    kvx_chain_release(&chain);
}
