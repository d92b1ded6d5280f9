/* SPDX-License-Identifier: MIT
 * keys.c — the table of API keys, and each one's account.
 * Limits are buckets that fill steadily: a minute's worth at most, so that nobody waits for the
 * turn of a clock's minute.  Tokens are charged when they are known, at the end; so one request may
 * overdraw, and the next ones wait for it. */
#include "server/keys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"

static const struct slice DEFAULT_TENANT = {"default", 7};

void keys_init(struct keys *k)
{
    pthread_mutex_init(&k->mutex, NULL);
    k->n = 0;
    k->is_needed = false;
    atomic_init(&k->has_admin, false);
}

void key_ref(struct server_key *key)
{
    if (key)
        atomic_fetch_add(&key->refs, 1);
}

void key_unref(struct server_key *key)
{
    if (!key || atomic_fetch_sub(&key->refs, 1) != 1)
        return;
    pthread_mutex_destroy(&key->mutex);
    mem_free(key);
}

void keys_release(struct keys *k)
{
    for (uint32_t i = 0; i < k->n; i++)
        key_unref(k->list[i]);
    k->n = 0;
    pthread_mutex_destroy(&k->mutex);
}

static struct digest digest_of(struct slice key)
{
    struct digester d = {0};
    digest_begin(&d);
    digest_field(&d, "api-key", key.ptr, key.len);
    struct digest out = digest_end(&d);
    digester_release(&d);
    return out;
}

/* All keys, all bytes, whatever differs first. */
static struct server_key *find(struct server_key *const *list, uint32_t n,
                               const struct digest *given)
{
    struct server_key *found = NULL;
    for (uint32_t i = 0; i < n; i++) {
        unsigned difference = 0;
        for (size_t j = 0; j < DIGEST_BYTES; j++)
            difference |= (unsigned)(list[i]->hash.b[j] ^ given->b[j]);
        found = difference == 0 ? list[i] : found;
    }
    return found;
}

struct server_key *keys_find(struct keys *k, struct slice key)
{
    struct digest given = digest_of(key);
    pthread_mutex_lock(&k->mutex);
    struct server_key *found = find(k->list, k->n, &given);
    key_ref(found);
    pthread_mutex_unlock(&k->mutex);
    return found;
}

bool keys_hold(struct keys *k, const struct server_key *key)
{
    bool found = false;
    pthread_mutex_lock(&k->mutex);
    for (uint32_t i = 0; i < k->n; i++)
        found = found || k->list[i] == key;
    pthread_mutex_unlock(&k->mutex);
    return found;
}

bool keys_is_admin(const struct keys *k, const struct server_key *key)
{
    if (!key)
        return true;
    return atomic_load(&k->has_admin) ? key->is_admin : key->tenant == 0;
}

/* ---- reading ---- */
struct table {
    struct server_key *list[SERVER_KEYS_MAX];
    uint32_t n;
};

static enum status add_key(struct table *t, struct slice key, struct slice tenant,
                           const struct key_limits *limits, bool is_admin, struct err *e)
{
    if (t->n == SERVER_KEYS_MAX)
        return err_set(e, E_LIMIT, "more than %u API keys", SERVER_KEYS_MAX);
    if (key.len == 0 || key.len > SERVER_KEY_BYTES_MAX)
        return err_set(e, E_INVALID, "an API key must have 1 to %u bytes", SERVER_KEY_BYTES_MAX);
    if (!session_name_is_good(tenant))
        return err_set(e, E_INVALID,
                       "API keys: \"%.*s\" cannot be a tenant's name; a line is KEY "
                       "or KEY TENANT, and limits behind that",
                       (int)(tenant.len < 40 ? tenant.len : 40), tenant.ptr);
    struct digest hash = digest_of(key);
    if (find(t->list, t->n, &hash))
        return err_set(e, E_INVALID, "API keys: one is there twice (key number %u)", t->n + 1);
    struct server_key *k = mem_try_new(1, sizeof *k);
    if (!k)
        return err_set(e, E_NOMEM, "API keys");
    k->hash = hash;
    k->is_admin = is_admin;
    k->limits = *limits;
    k->requests_left = limits->requests_per_minute;
    k->tokens_left = (double)limits->tokens_per_minute;
    atomic_init(&k->refs, 1);
    pthread_mutex_init(&k->mutex, NULL);
    snprintf(k->tenant_name, sizeof k->tenant_name, SLICE_FMT, SLICE_ARG(tenant));
    t->list[t->n++] = k;
    return OK;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct slice next_word(struct slice *line)
{
    size_t n = 0;
    while (line->len && is_blank(line->ptr[0]))
        *line = (struct slice){line->ptr + 1, line->len - 1};
    while (n < line->len && !is_blank(line->ptr[n]))
        n++;
    struct slice word = {line->ptr, n};
    *line = (struct slice){line->ptr + n, line->len - n};
    return word;
}

/* "admin", "requests=60", "tokens=100000", "concurrent=4". */
static enum status read_option(struct slice word, struct key_limits *limits, bool *is_admin,
                               struct err *e)
{
    static const char *const names[] = {"requests=", "tokens=", "concurrent="};
    char text[64];
    snprintf(text, sizeof text, SLICE_FMT, SLICE_ARG(word));
    if (slice_is(word, "admin")) {
        *is_admin = true;
        return OK;
    }
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        size_t n = strlen(names[i]);
        if (strncmp(text, names[i], n) != 0)
            continue;
        char *end;
        errno = 0;
        unsigned long long value = strtoull(text + n, &end, 10);
        unsigned long long most = i == 1 ? 1ull << 40 : 1u << 30;
        if (word.len >= sizeof text || text[n] < '0' || text[n] > '9' || *end || errno ||
            value == 0 || value > most)
            return err_set(e, E_INVALID, "API keys: \"%s\": want a whole number from 1 to %llu",
                           text, most);
        if (i == 0)
            limits->requests_per_minute = (uint32_t)value;
        else if (i == 1)
            limits->tokens_per_minute = value;
        else
            limits->concurrent = (uint32_t)value;
        return OK;
    }
    return err_set(e, E_INVALID,
                   "API keys: \"%s\" is none of admin, requests=N, tokens=N (a minute), "
                   "concurrent=N",
                   text);
}

/* KEY [TENANT] [admin] [requests=N] [tokens=N] [concurrent=N] */
static enum status add_line(struct table *t, struct slice line, struct err *e)
{
    struct key_limits limits = {0};
    bool is_admin = false;
    struct slice key = next_word(&line), tenant = DEFAULT_TENANT, word = next_word(&line);
    if (word.len && !slice_is(word, "admin") && !memchr(word.ptr, '=', word.len)) {
        tenant = word;
        word = next_word(&line);
    }
    for (; word.len; word = next_word(&line)) {
        enum status st = read_option(word, &limits, &is_admin, e);
        if (st != OK)
            return st;
    }
    return add_key(t, key, tenant, &limits, is_admin, e);
}

static enum status add_lines(struct table *t, struct slice text, struct err *e)
{
    enum status st = OK;
    while (text.len > 0 && st == OK) {
        const char *end = memchr(text.ptr, '\n', text.len);
        struct slice line = {text.ptr, end ? (size_t)(end - text.ptr) : text.len};
        size_t used = line.len + (end ? 1 : 0);
        text = (struct slice){text.ptr + used, text.len - used};
        while (line.len && strchr(" \t\r", line.ptr[line.len - 1]))
            line.len--;
        if (line.len && line.ptr[0] != '#')
            st = add_line(t, line, e);
    }
    return st;
}

static enum status add_file(struct table *t, const char *path, struct err *e)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return err_sys(e, errno, "API keys: %s", path);
    char *text = mem_try_new(SERVER_KEY_FILE_MAX + 1, 1);
    size_t n = text ? fread(text, 1, SERVER_KEY_FILE_MAX + 1, f) : 0;
    bool has_failed = ferror(f) != 0;
    fclose(f);
    uint32_t before = t->n;
    enum status st = !text        ? err_set(e, E_NOMEM, "API keys")
                     : has_failed ? err_set(e, E_IO, "API keys: %s: can't be read", path)
                     : n > SERVER_KEY_FILE_MAX ? err_set(e, E_LIMIT, "API keys: %s: over %u bytes",
                                                         path, SERVER_KEY_FILE_MAX)
                                               : add_lines(t, (struct slice){text, n}, e);
    mem_free(text);
    /* An empty file must not open the door that it was meant to close. */
    if (st == OK && t->n == before)
        st = err_set(e, E_INVALID, "API keys: %s holds none", path);
    return st;
}

/* Each tenant with all its keys; the key file is the truth, what the store remembers follows it. */
static enum status make_tenants(struct table *t, struct sessions *sessions, struct err *e)
{
    struct digest hashes[SERVER_KEYS_MAX];
    enum status st = OK;
    for (uint32_t i = 0; st == OK && i < t->n; i++) {
        uint32_t n = 0, tenant;
        for (uint32_t j = 0; j < t->n; j++)
            if (strcmp(t->list[i]->tenant_name, t->list[j]->tenant_name) == 0)
                hashes[n++] = t->list[j]->hash;
        st = sessions_tenant(sessions, slice_of(t->list[i]->tenant_name), hashes, n, &tenant, e);
        t->list[i]->tenant = tenant;
    }
    return st;
}

/* A key that was there and says the same keeps its account: requests under way count on. */
static void keep_accounts(struct keys *k, struct table *t)
{
    for (uint32_t i = 0; i < t->n; i++) {
        struct server_key *old = find(k->list, k->n, &t->list[i]->hash);
        if (!old || old->is_admin != t->list[i]->is_admin || old->tenant != t->list[i]->tenant)
            continue;
        pthread_mutex_lock(&old->mutex);
        if (memcmp(&old->limits, &t->list[i]->limits, sizeof old->limits) != 0)
            old->flowed_ns = 0; /* begins with a minute's worth of the new ones */
        old->limits = t->list[i]->limits;
        pthread_mutex_unlock(&old->mutex);
        key_unref(t->list[i]);
        key_ref(old);
        t->list[i] = old;
    }
}

enum status keys_load(struct keys *k, const struct server_options *options,
                      struct sessions *sessions, struct err *e)
{
    struct table t = {.n = 0};
    const struct key_limits none = {0};
    enum status st = OK;
    for (uint32_t i = 0; i < options->n_api_keys && st == OK; i++)
        st = add_key(&t, slice_of(options->api_keys[i]), DEFAULT_TENANT, &none, false, e);
    if (st == OK && options->api_key_file)
        st = add_file(&t, options->api_key_file, e);
    if (st == OK)
        st = make_tenants(&t, sessions, e);
    if (st != OK) {
        for (uint32_t i = 0; i < t.n; i++)
            key_unref(t.list[i]);
        return st;
    }
    bool has_admin = false;
    pthread_mutex_lock(&k->mutex);
    keep_accounts(k, &t);
    for (uint32_t i = 0; i < k->n; i++)
        key_unref(k->list[i]);
    for (uint32_t i = 0; i < t.n; i++) {
        k->list[i] = t.list[i];
        has_admin |= t.list[i]->is_admin;
    }
    k->n = t.n;
    pthread_mutex_unlock(&k->mutex);
    atomic_store(&k->has_admin, has_admin);
    return OK;
}

/* ---- accounts ---- */
static double flow(double left, double most, double minutes)
{
    left += most * minutes;
    return left < most ? left : most;
}

static void refill(struct server_key *key, uint64_t now_ns)
{
    double minutes = key->flowed_ns ? (double)(now_ns - key->flowed_ns) / 60e9 : 1;
    key->flowed_ns = now_ns;
    key->requests_left = flow(key->requests_left, key->limits.requests_per_minute, minutes);
    key->tokens_left = flow(key->tokens_left, (double)key->limits.tokens_per_minute, minutes);
}

/* Seconds until `missing` have flowed back, at least 1. */
static uint32_t wait_s(double missing, double per_minute)
{
    double s = missing * 60 / per_minute;
    return s < 1 ? 1 : s > 3600 ? 3600 : (uint32_t)s + 1;
}

bool key_begin(struct server_key *key, uint64_t now_ns, const char **what, uint32_t *retry_after_s)
{
    if (!key)
        return true;
    *what = NULL;
    pthread_mutex_lock(&key->mutex);
    const struct key_limits *l = &key->limits;
    refill(key, now_ns);
    if (l->concurrent && key->n_open >= l->concurrent) {
        *what = "this key's requests at the same time";
        *retry_after_s = 1;
    } else if (l->requests_per_minute && key->requests_left < 1) {
        *what = "this key's requests a minute";
        *retry_after_s = wait_s(1 - key->requests_left, l->requests_per_minute);
    } else if (l->tokens_per_minute && key->tokens_left <= 0) {
        *what = "this key's tokens a minute";
        *retry_after_s = wait_s(-key->tokens_left, (double)l->tokens_per_minute);
    } else {
        key->n_open++;
        key->requests_left -= l->requests_per_minute > 0;
    }
    bool ok = *what == NULL;
    pthread_mutex_unlock(&key->mutex);
    return ok;
}

void key_end(struct server_key *key, uint64_t now_ns, uint64_t n_tokens)
{
    if (!key)
        return;
    pthread_mutex_lock(&key->mutex);
    CHECK(key->n_open > 0);
    key->n_open--;
    refill(key, now_ns);
    if (key->limits.tokens_per_minute)
        key->tokens_left -= (double)n_tokens;
    pthread_mutex_unlock(&key->mutex);
}
