/* SPDX-License-Identifier: MIT
 * admit.c — who may talk to us.
 *   Host    on a loopback address only the names of this machine: a web page whose name is made to
 *           resolve to 127.0.0.1 (DNS rebinding) would otherwise read chats and stores.
 *   Origin  a web page of another site may not make the user's browser spend his machine's time; a
 *           "simple" POST needs no permission of ours to be sent.
 *   Key     when keys are configured, everything but /health and the page itself needs one. */
#include <errno.h>
#include <stdio.h>
#include <strings.h>

#include "base/check.h"
#include "base/mem.h"
#include "server/server_int.h"

static bool is_same(struct slice a, struct slice b)
{
    return a.len == b.len && strncasecmp(a.ptr, b.ptr, a.len) == 0;
}

/* "[::1]:8080" → "[::1]", "localhost:80" → "localhost". */
static struct slice without_port(struct slice host)
{
    if (host.len && host.ptr[0] == '[') {
        const char *end = memchr(host.ptr, ']', host.len);
        return end ? (struct slice){host.ptr, (size_t)(end - host.ptr) + 1} : host;
    }
    const char *colon = memchr(host.ptr, ':', host.len);
    return colon ? (struct slice){host.ptr, (size_t)(colon - host.ptr)} : host;
}

static bool is_loopback_name(struct slice host)
{
    return is_same(host, SLICE_LIT("localhost")) || is_same(host, SLICE_LIT("127.0.0.1")) ||
           is_same(host, SLICE_LIT("[::1]"));
}

bool admit_host(const struct server *s, const struct http_exchange *x, struct api_error *error)
{
    struct slice host = http_header(x, "Host");
    if (!http_server_is_loopback(s->http) || !host.ptr) /* HTTP/1.0 has none; browsers always do */
        return true;
    host = without_port(host);
    if (is_loopback_name(host) || is_same(host, slice_of(s->bind_host)) ||
        is_same(host, slice_of(http_server_host(s->http))))
        return true;
    api_error_http(error, 403, "host_not_allowed",
                   "this Host is not one of this machine; serve on another address with --host");
    return false;
}

static bool is_origin_trusted(const struct server *s, const struct http_exchange *x,
                              struct slice origin)
{
    struct slice http = SLICE_LIT("http://"), https = SLICE_LIT("https://");
    bool is_web = slice_starts(origin, http) || slice_starts(origin, https);
    if (s->allow_origin && strcmp(s->allow_origin, "*") == 0)
        return true;
    if (s->allow_origin && slice_is(origin, s->allow_origin))
        return true;
    if (s->n_keys > 0) /* a foreign page does not know them */
        return true;
    /* app://, vscode-webview://: programs; "null" may be a sandboxed frame of any site. */
    if (!is_web)
        return !slice_is(origin, "null");
    size_t skip = slice_starts(origin, http) ? http.len : https.len;
    struct slice host = {origin.ptr + skip, origin.len - skip};
    struct slice own = http_header(x, "Host");
    return is_loopback_name(without_port(host)) || (own.ptr && is_same(host, own));
}

bool admit_origin(const struct server *s, const struct http_exchange *x, char allow[256],
                  struct api_error *error)
{
    struct slice origin = http_header(x, "Origin");
    allow[0] = '\0';
    if (!origin.ptr)
        return true;
    if (origin.len < 256 && is_origin_trusted(s, x, origin)) {
        snprintf(allow, 256, SLICE_FMT, SLICE_ARG(origin));
        return true;
    }
    api_error_http(error, 403, "origin_not_allowed",
                   "web pages of this origin may not call; allow it with --allow-origin");
    return false;
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

/* All keys, all bytes, whatever differs first.  NULL: not known. */
static const struct server_key *find_key(const struct server *s, struct slice key)
{
    struct digest given = digest_of(key);
    const struct server_key *found = NULL;
    for (uint32_t i = 0; i < s->n_keys; i++) {
        unsigned difference = 0;
        for (size_t j = 0; j < DIGEST_BYTES; j++)
            difference |= (unsigned)(s->keys[i].hash.b[j] ^ given.b[j]);
        found = difference == 0 ? &s->keys[i] : found;
    }
    return found;
}

static struct slice key_of(const struct http_exchange *x)
{
    struct slice value = http_header(x, "Authorization"), bearer = SLICE_LIT("Bearer ");
    if (value.len > bearer.len && is_same((struct slice){value.ptr, bearer.len}, bearer))
        return (struct slice){value.ptr + bearer.len, value.len - bearer.len};
    return http_header(x, "x-api-key");
}

bool admit_key(const struct server *s, const struct http_exchange *x, struct api_error *error)
{
    if (s->n_keys == 0)
        return true;
    struct slice key = key_of(x);
    if (key.ptr && find_key(s, key))
        return true;
    api_error_http(error, 401, "invalid_api_key",
                   key.ptr ? "the API key is not known here"
                           : "an API key is needed: Authorization: Bearer KEY");
    return false;
}

uint32_t admit_tenant(const struct server *s, const struct http_exchange *x)
{
    if (s->n_keys == 0)
        return 0;
    struct slice key = key_of(x);
    const struct server_key *found = key.ptr ? find_key(s, key) : NULL;
    CHECK(found != NULL); /* admit_key let it in */
    return found->tenant;
}

/* ---- the keys ---- */
static enum status add_key(struct server *s, struct slice key, struct slice tenant, struct err *e)
{
    if (s->n_keys == SERVER_KEYS_MAX)
        return err_set(e, E_LIMIT, "more than %u API keys", SERVER_KEYS_MAX);
    if (key.len == 0 || key.len > SERVER_KEY_BYTES_MAX)
        return err_set(e, E_INVALID, "an API key must have 1 to %u bytes", SERVER_KEY_BYTES_MAX);
    if (!session_name_is_good(tenant))
        return err_set(e, E_INVALID,
                       "API keys: \"%.*s\" cannot be a tenant's name; a line is KEY "
                       "or KEY TENANT",
                       (int)(tenant.len < 40 ? tenant.len : 40), tenant.ptr);
    struct server_key *k = &s->keys[s->n_keys];
    if (find_key(s, key))
        return err_set(e, E_INVALID, "API keys: one is there twice (key number %u)", s->n_keys + 1);
    k->hash = digest_of(key);
    snprintf(k->tenant_name, sizeof k->tenant_name, SLICE_FMT, SLICE_ARG(tenant));
    s->n_keys++;
    return OK;
}

static const struct slice DEFAULT_TENANT = {"default", 7};

/* KEY, or KEY TENANT. */
static enum status add_line(struct server *s, struct slice line, struct err *e)
{
    size_t n = 0;
    while (n < line.len && line.ptr[n] != ' ' && line.ptr[n] != '\t')
        n++;
    struct slice key = {line.ptr, n}, tenant = DEFAULT_TENANT;
    while (n < line.len && (line.ptr[n] == ' ' || line.ptr[n] == '\t'))
        n++;
    if (n < line.len)
        tenant = (struct slice){line.ptr + n, line.len - n};
    return add_key(s, key, tenant, e);
}

/* Each tenant with all its keys; the key file is the truth, what the store remembers follows it. */
static enum status make_tenants(struct server *s, struct err *e)
{
    struct digest hashes[SERVER_KEYS_MAX];
    enum status st = OK;
    for (uint32_t i = 0; st == OK && i < s->n_keys; i++) {
        uint32_t n = 0, tenant;
        for (uint32_t j = 0; j < s->n_keys; j++)
            if (strcmp(s->keys[i].tenant_name, s->keys[j].tenant_name) == 0)
                hashes[n++] = s->keys[j].hash;
        st = sessions_tenant(engine_sessions(s->engine), slice_of(s->keys[i].tenant_name), hashes,
                             n, &tenant, e);
        s->keys[i].tenant = tenant;
    }
    return st;
}

static enum status add_key_lines(struct server *s, struct slice text, struct err *e)
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
            st = add_line(s, line, e);
    }
    return st;
}

static enum status load_key_file(struct server *s, const char *path, struct err *e)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return err_sys(e, errno, "API keys: %s", path);
    char *text = mem_try_new(SERVER_KEY_FILE_MAX + 1, 1);
    size_t n = text ? fread(text, 1, SERVER_KEY_FILE_MAX + 1, f) : 0;
    bool has_failed = ferror(f) != 0;
    fclose(f);
    uint32_t before = s->n_keys;
    enum status st = !text        ? err_set(e, E_NOMEM, "API keys")
                     : has_failed ? err_set(e, E_IO, "API keys: %s: can't be read", path)
                     : n > SERVER_KEY_FILE_MAX ? err_set(e, E_LIMIT, "API keys: %s: over %u bytes",
                                                         path, SERVER_KEY_FILE_MAX)
                                               : add_key_lines(s, (struct slice){text, n}, e);
    mem_free(text);
    /* An empty file must not open the door that it was meant to close. */
    if (st == OK && s->n_keys == before)
        st = err_set(e, E_INVALID, "API keys: %s holds none", path);
    return st;
}

enum status admit_load_keys(struct server *s, const struct server_options *options, struct err *e)
{
    enum status st = OK;
    for (uint32_t i = 0; i < options->n_api_keys && st == OK; i++)
        st = add_key(s, slice_of(options->api_keys[i]), DEFAULT_TENANT, e);
    if (st == OK && options->api_key_file)
        st = load_key_file(s, options->api_key_file, e);
    return st == OK ? make_tenants(s, e) : st;
}
