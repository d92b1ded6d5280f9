/* SPDX-License-Identifier: MIT
 * route.c — the table of what is served where.  Runs on http's workers. */
#include "base/log.h"
#include "server/server_int.h"

static void serve_chat(struct server *s, struct http_exchange *x)
{
    generate(s, x, API_CHAT);
}

static void serve_text(struct server *s, struct http_exchange *x)
{
    generate(s, x, API_TEXT);
}

static void reply_json(struct http_exchange *x, int status, struct buf *body)
{
    http_reply(x, status, "application/json", body);
}

static void serve_health(struct server *s, struct http_exchange *x)
{
    struct buf b;
    bool is_draining = atomic_load(&s->is_draining);
    buf_init(&b, 1024);
    buf_add_text(&b, is_draining ? "{\"status\":\"draining\"}\n" : "{\"status\":\"ok\"}\n");
    reply_json(x, is_draining ? 503 : 200, &b);
}

static void serve_models(struct server *s, struct http_exchange *x)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    api_models_write(&b, s->info, s->name);
    reply_json(x, 200, &b);
}

static const struct slice MODEL_PREFIX = {"/v1/models/", 11};

static void serve_model(struct server *s, struct http_exchange *x)
{
    struct slice path = http_path(x);
    struct slice id = {path.ptr + MODEL_PREFIX.len, path.len - MODEL_PREFIX.len};
    if (!slice_is(id, s->name) && !slice_is(id, s->info->model_name)) {
        struct api_error error;
        api_error_http(&error, 404, "model_not_found", "no such model here; see /v1/models");
        route_error(x, &error);
        return;
    }
    struct buf b;
    buf_init(&b, 1 << 20);
    api_model_write(&b, s->info, s->name);
    reply_json(x, 200, &b);
}

static void serve_stats(struct server *s, struct http_exchange *x)
{
    struct engine_stats stats;
    struct buf b;
    engine_stats(s->engine, &stats);
    buf_init(&b, 1 << 20);
    api_stats_write(&b, &stats);
    reply_json(x, 200, &b);
}

static void serve_page(struct server *s, struct http_exchange *x)
{
    struct buf b;
    struct slice html = page_html();
    (void)s;
    buf_init(&b, html.len + 1);
    buf_add_slice(&b, html);
    /* All of it is inside: nothing may be loaded from elsewhere, nothing may frame it. */
    http_add_header(x, "Content-Security-Policy",
                    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
                    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
                    "frame-ancestors 'none'");
    http_add_header(x, "X-Content-Type-Options", "nosniff");
    http_reply(x, 200, "text/html; charset=utf-8", &b);
}

struct route {
    const char *method, *path;
    bool is_prefix; /* more must follow */
    bool is_public; /* needs no key: tells nothing about models or chats */
    void (*serve)(struct server *s, struct http_exchange *x);
};

static const struct route routes[] = {
    {"GET", "/health", false, true, serve_health},
    {"GET", "/", false, true, serve_page},
    {"GET", "/v1/models", false, false, serve_models},
    {"GET", "/v1/models/", true, false, serve_model},
    {"POST", "/v1/chat/completions", false, false, serve_chat},
    {"POST", "/v1/completions", false, false, serve_text},
    {"GET", "/v1/cache/stats", false, false, serve_stats},
};

static bool is_at(const struct route *r, struct slice path)
{
    struct slice own = slice_of(r->path);
    return r->is_prefix ? slice_starts(path, own) && path.len > own.len : slice_equal(path, own);
}

/* *allow: the method that the path is served with, when only the method is wrong. */
static const struct route *find_route(struct slice method, struct slice path, const char **allow)
{
    *allow = NULL;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (!is_at(&routes[i], path))
            continue;
        if (slice_is(method, routes[i].method))
            return &routes[i];
        *allow = routes[i].method;
    }
    return NULL;
}

void route_error(struct http_exchange *x, const struct api_error *error)
{
    struct buf b;
    buf_init(&b, 16384);
    api_error_write(&b, error);
    buf_add_char(&b, '\n');
    if (error->http == 429 || error->http == 503)
        http_add_header(x, "Retry-After", "1");
    if (error->http == 401)
        http_add_header(x, "WWW-Authenticate", "Bearer");
    reply_json(x, error->http, &b);
}

static void allow_preflight(struct http_exchange *x)
{
    struct buf none;
    buf_init(&none, 16);
    http_add_header(x, "Access-Control-Allow-Methods", "GET, POST, OPTIONS");
    http_add_header(x, "Access-Control-Allow-Headers", "*, Authorization");
    http_add_header(x, "Access-Control-Max-Age", "600");
    http_reply(x, 204, "text/plain", &none);
}

static void refuse_route(struct http_exchange *x, const char *allow)
{
    struct api_error error;
    if (allow) {
        http_add_header(x, "Allow", allow);
        api_error_http(&error, 405, "method_not_allowed",
                       "this path is served with another method");
    } else {
        api_error_http(&error, 404, "not_found", "nothing is served at this path; see /");
    }
    route_error(x, &error);
}

void route_handle(void *arg, struct http_exchange *x)
{
    struct server *s = arg;
    struct api_error error;
    char origin[256];
    const char *allow = NULL;
    struct slice method = http_method(x), path = http_path(x);
    const struct route *r = find_route(method, path, &allow);
    bool may = admit_host(s, x, &error) && admit_origin(s, x, origin, &error);
    if (may && origin[0]) {
        http_add_header(x, "Access-Control-Allow-Origin", origin);
        http_add_header(x, "Vary", "Origin");
    }
    if (may && slice_is(method, "OPTIONS") && allow) {
        allow_preflight(x);
        return;
    }
    if (may && !(r && r->is_public))
        may = admit_key(s, x, &error);
    if (!may) {
        log_debug("server", "refused path=%.*s status=%d", SLICE_ARG(path), error.http);
        route_error(x, &error);
    } else if (!r) {
        refuse_route(x, allow);
    } else {
        r->serve(s, x);
    }
}
