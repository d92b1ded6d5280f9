/* SPDX-License-Identifier: MIT
 * admit.c — who may talk to us.
 *   Host    on a loopback address only the names of this machine: a web page whose name is made to
 *           resolve to 127.0.0.1 (DNS rebinding) would otherwise read chats and stores.
 *   Origin  a web page of another site may not make the user's browser spend his machine's time; a
 *           "simple" POST needs no permission of ours to be sent.
 *   Key     when keys are configured, everything but /health and the page itself needs one. */
#include <stdio.h>
#include <strings.h>

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
    if (s->keys.is_needed) /* a foreign page does not know them */
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

static struct slice key_of(const struct http_exchange *x)
{
    struct slice value = http_header(x, "Authorization"), bearer = SLICE_LIT("Bearer ");
    if (value.len > bearer.len && is_same((struct slice){value.ptr, bearer.len}, bearer))
        return (struct slice){value.ptr + bearer.len, value.len - bearer.len};
    return http_header(x, "x-api-key");
}

bool admit_key(struct visit *v, struct api_error *error)
{
    return admit_this_key(v, key_of(v->x), error);
}

bool admit_this_key(struct visit *v, struct slice key, struct api_error *error)
{
    struct keys *keys = &v->server->keys;
    v->is_admin = !keys->is_needed;
    if (!keys->is_needed)
        return true;
    v->key = key.ptr ? keys_find(keys, key) : NULL;
    if (v->key) {
        v->tenant = v->key->tenant;
        v->is_admin = keys_is_admin(keys, v->key);
        return true;
    }
    api_error_http(error, 401, "invalid_api_key",
                   key.ptr ? "the API key is not known here"
                           : "an API key is needed: Authorization: Bearer KEY");
    return false;
}
