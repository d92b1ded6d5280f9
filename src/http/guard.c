/* SPDX-License-Identifier: MIT
 * guard.c — what libmicrohttpd 0.9.75 lets pass and we don't.
 *   Two Content-Lengths, or one beside Transfer-Encoding (CWE-444, fixed upstream in 1.0.4): behind
 * a proxy that reads the other one, the rest of the body is a second request. NUL in the request
 * line or a header: the checks see another string than the user of it. Two Hosts, none, or another
 * than a target in the form of a whole URI has: which one was checked?  What its own parser refuses
 * (lengths that are no number, chunks without a size, lines without a colon, requests of over 32 KB
 * before their headers end) it answers before it calls us, in HTML; it has no way to change that.
 */
#include <strings.h>

#include "http/http_int.h"

struct collect {
    struct http_exchange *x;
    size_t bytes;
    uint32_t n_lengths, n_encodings, n_hosts;
    bool has_nul, is_bad_name, is_bad_length, is_bad_encoding, is_full;
};

static bool is_name(struct slice a, const char *name)
{
    return a.len == strlen(name) && strncasecmp(a.ptr, name, a.len) == 0;
}

/* RFC 9110 §5.6.2.  libmicrohttpd takes anything up to the colon. */
static bool is_token(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        bool is_alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!is_alnum && (c == '\0' || !strchr("!#$%&'*+-.^_`|~", c)))
            return false;
    }
    return s.len > 0;
}

static bool is_digits(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return false;
    return s.len > 0;
}

/* libmicrohttpd takes a value up to its first NUL, in place in its read buffer, where it has
 * replaced the line's CR LF by two NULs.  Anything else behind the value is what a NUL hid (or the
 * next line, after a bare LF; or a folded line: refused as well, as RFC 9112 §2.2 and §5.2 allow).
 */
static bool is_cut(const char *value, size_t len)
{
    return value[len] != '\0' || value[len + 1] != '\0';
}

static enum MHD_Result collect_header(void *arg, enum MHD_ValueKind kind, const char *key,
                                      size_t key_len, const char *value, size_t value_len)
{
    struct collect *c = arg;
    struct http_exchange *x = c->x;
    (void)kind;
    struct http_pair p = {{key, key_len}, {value ? value : "", value ? value_len : 0}};
    c->bytes += key_len + value_len + 4;
    if (x->n_headers == HTTP_HEADERS_MAX || c->bytes > HTTP_HEADER_BYTES_MAX) {
        c->is_full = true;
        return MHD_NO;
    }
    c->has_nul |= value && is_cut(value, value_len);
    c->is_bad_name |= !is_token(p.name);
    if (is_name(p.name, "content-length")) {
        c->n_lengths++;
        c->is_bad_length |= !is_digits(p.value);
    } else if (is_name(p.name, "transfer-encoding")) {
        c->n_encodings++;
        c->is_bad_encoding |= !is_name(p.value, "chunked");
    } else if (is_name(p.name, "host")) {
        c->n_hosts++;
    }
    char *name = arena_text(&x->arena, p.name.ptr, p.name.len);
    char *text = arena_text(&x->arena, p.value.ptr, p.value.len);
    if (!name || !text) {
        c->is_full = true;
        return MHD_NO;
    }
    x->headers[x->n_headers++] = (struct http_pair){{name, p.name.len}, {text, p.value.len}};
    return MHD_YES;
}

/* A client that takes us for a proxy names the host twice (RFC 9112 §3.2.2). */
static bool is_other_host(const struct http_exchange *x)
{
    struct slice host = http_header(x, "host");
    return x->authority.ptr &&
           (host.len != x->authority.len || strncasecmp(host.ptr, x->authority.ptr, host.len) != 0);
}

int guard_headers(struct http_exchange *x, const char *version, const char **reason)
{
    struct collect c = {.x = x};
    bool needs_host = strcmp(version, "HTTP/1.1") == 0;
    MHD_get_connection_values_n(x->connection, MHD_HEADER_KIND, collect_header, &c);
    if (c.is_full) {
        *reason = "the request's headers are too large";
        return 431;
    }
    if (x->is_bad_uri)
        *reason = "malformed request target";
    else if (c.has_nul)
        *reason = "NUL or a bare line feed in a header";
    else if (c.is_bad_name)
        *reason = "a header's name is no token";
    else if (c.n_lengths > 1 || c.is_bad_length)
        *reason = "malformed Content-Length";
    else if (c.n_encodings > 1 || c.is_bad_encoding)
        *reason = "only Transfer-Encoding: chunked is understood";
    else if (c.n_lengths && c.n_encodings)
        *reason = "Content-Length beside Transfer-Encoding";
    else if (c.n_hosts > 1)
        *reason = "more than one Host";
    else if (c.n_hosts == 0 && needs_host)
        *reason = "a Host is needed";
    else if (is_other_host(x))
        *reason = "the request's target and its Host differ";
    else
        return 0;
    return 400;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "http://host:port/path?query" → "/path?query", and the host noted; others stay as they are. */
static const char *take_authority(struct http_exchange *x, const char *uri)
{
    size_t n_scheme = strncasecmp(uri, "http://", 7) == 0    ? 7
                      : strncasecmp(uri, "https://", 8) == 0 ? 8
                                                             : 0;
    if (n_scheme == 0)
        return uri;
    size_t n = strcspn(uri + n_scheme, "/?");
    char *name = arena_text(&x->arena, uri + n_scheme, n);
    x->authority = (struct slice){name ? name : "", name ? n : 0};
    return uri[n_scheme + n] ? uri + n_scheme + n : "/";
}

/* Splits at '?', decodes the path once.  False: a blank, a broken escape, or a NUL. */
bool guard_uri(struct http_exchange *x, const char *whole)
{
    /* In place, too: without a NUL inside, the version follows the target's end. */
    if (strncmp(whole + strlen(whole) + 1, "HTTP/", 5) != 0 || strchr(whole, ' '))
        return false;
    const char *uri = take_authority(x, whole), *mark = strchr(uri, '?');
    size_t len = mark ? (size_t)(mark - uri) : strlen(uri), n = 0;
    char *path = arena_text(&x->arena, uri, len);
    char *query = arena_text(&x->arena, mark ? mark + 1 : "", mark ? strlen(mark + 1) : 0);
    if (!path || !query)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = uri[i];
        if (c == '%') {
            int high = len - i > 2 ? hex_digit(uri[i + 1]) : -1;
            int low = high >= 0 ? hex_digit(uri[i + 2]) : -1;
            c = (char)(high * 16 + low);
            if (high < 0 || low < 0 || c == 0)
                return false;
            i += 2;
        }
        path[n++] = c;
    }
    path[n] = '\0';
    x->path = (struct slice){path, n};
    x->query = slice_of(query);
    return true;
}
