/* SPDX-License-Identifier: MIT
 * route.c — each row of api's table to the function that serves it.  Runs on http's workers. */
#include "base/log.h"
#include "server/server_int.h"

/* A request on its way to who serves it. */
struct visit {
    struct server *server;
    struct http_exchange *x;
    const struct api_endpoint *endpoint;
    struct slice id; /* what stands for {id} in the path */
};

static void serve_generate(const struct visit *v)
{
    generate(v->server, v->x, v->endpoint->dialect);
}

static void serve_count(const struct visit *v)
{
    count_tokens(v->server, v->x, v->endpoint->dialect);
}

static void reply_json(struct http_exchange *x, int status, struct buf *body)
{
    http_reply(x, status, "application/json", body);
}

static void serve_health(const struct visit *v)
{
    struct buf b;
    bool is_draining = atomic_load(&v->server->is_draining);
    buf_init(&b, 1024);
    buf_add_text(&b, is_draining ? "{\"status\":\"draining\"}\n" : "{\"status\":\"ok\"}\n");
    reply_json(v->x, is_draining ? 503 : 200, &b);
}

static void serve_models(const struct visit *v)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    api_models_write(&b, v->server->info, v->server->name);
    reply_json(v->x, 200, &b);
}

static void serve_model(const struct visit *v)
{
    if (!slice_is(v->id, v->server->name) && !slice_is(v->id, v->server->info->model_name)) {
        struct api_error error;
        api_error_http(&error, 404, "model_not_found", "no such model here; see /v1/models");
        route_error(v->x, v->endpoint->dialect, &error);
        return;
    }
    struct buf b;
    buf_init(&b, 1 << 20);
    api_model_write(&b, v->server->info, v->server->name);
    reply_json(v->x, 200, &b);
}

static void serve_stats(const struct visit *v)
{
    struct engine_stats stats;
    struct buf b;
    if (admit_tenant(v->server, v->x) != 0) { /* the numbers are of all tenants together */
        struct api_error error;
        api_error_http(&error, 403, "other_tenants", "only keys of the tenant default see these");
        route_error(v->x, v->endpoint->dialect, &error);
        return;
    }
    engine_stats(v->server->engine, &stats);
    buf_init(&b, 1 << 20);
    api_stats_write(&b, &stats);
    reply_json(v->x, 200, &b);
}

static void serve_page(const struct visit *v)
{
    struct buf b;
    struct slice html = page_html();
    buf_init(&b, html.len + 1);
    buf_add_slice(&b, html);
    /* All of it is inside: nothing may be loaded from elsewhere, nothing may frame it. */
    http_add_header(v->x, "Content-Security-Policy",
                    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
                    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
                    "frame-ancestors 'none'");
    http_add_header(v->x, "X-Content-Type-Options", "nosniff");
    http_reply(v->x, 200, "text/html; charset=utf-8", &b);
}

static void serve_explain(const struct visit *v)
{
    explain(v->server, v->x);
}

static void serve_sessions(const struct visit *v)
{
    sessions_list(v->server, v->x);
}

static void serve_session(const struct visit *v)
{
    sessions_show(v->server, v->x, v->id);
}

static void serve_session_delete(const struct visit *v)
{
    sessions_remove(v->server, v->x, v->id);
}

static void serve_session_change(const struct visit *v)
{
    sessions_post(v->server, v->x, v->id);
}

static void serve_response(const struct visit *v)
{
    responses_show(v->server, v->x, v->id);
}

static void serve_response_delete(const struct visit *v)
{
    responses_remove(v->server, v->x, v->id);
}

static void (*const functions[API_SERVES_COUNT])(const struct visit *) = {
    [API_EXPLAIN] = serve_explain,
    [API_SESSIONS] = serve_sessions,
    [API_SESSION] = serve_session,
    [API_SESSION_DELETE] = serve_session_delete,
    [API_SESSION_CHANGE] = serve_session_change,
    [API_GENERATE] = serve_generate,
    [API_COUNT] = serve_count,
    [API_RESPONSE] = serve_response,
    [API_RESPONSE_DELETE] = serve_response_delete,
    [API_MODELS] = serve_models,
    [API_MODEL] = serve_model,
    [API_STATS] = serve_stats,
    [API_HEALTH] = serve_health,
    [API_PAGE] = serve_page,
};

void route_error(struct http_exchange *x, const struct api_dialect *dialect,
                 const struct api_error *error)
{
    struct buf b;
    buf_init(&b, 16384);
    api_error_write(&b, dialect, error);
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
    http_add_header(x, "Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS");
    http_add_header(x, "Access-Control-Allow-Headers", "*, Authorization");
    http_add_header(x, "Access-Control-Max-Age", "600");
    http_reply(x, 204, "text/plain", &none);
}

static void refuse_route(struct http_exchange *x, const struct api_dialect *dialect,
                         const char *allow)
{
    struct api_error error;
    if (allow) {
        http_add_header(x, "Allow", allow);
        api_error_http(&error, 405, "method_not_allowed",
                       "this path is served with another method");
    } else {
        api_error_http(&error, 404, "not_found", "nothing is served at this path; see /");
    }
    route_error(x, dialect, &error);
}

void route_handle(void *arg, struct http_exchange *x)
{
    struct visit v = {.server = arg, .x = x};
    struct server *s = arg;
    struct api_error error;
    char origin[256];
    atomic_fetch_add(&s->n_seen, 1);
    const char *allow = NULL;
    struct slice method = http_method(x), path = http_path(x);
    const struct api_dialect *dialect = api_dialect_of_path(path);
    v.endpoint = api_endpoint_find(method, path, &v.id, &allow);
    bool may = admit_host(s, x, &error) && admit_origin(s, x, origin, &error);
    if (may && origin[0]) {
        http_add_header(x, "Access-Control-Allow-Origin", origin);
        http_add_header(x, "Vary", "Origin");
    }
    if (may && slice_is(method, "OPTIONS") && allow) {
        allow_preflight(x);
        return;
    }
    if (may && !(v.endpoint && v.endpoint->is_public))
        may = admit_key(s, x, &error);
    if (!may) {
        log_debug("server", "refused path=%.*s status=%d", SLICE_ARG(path), error.http);
        route_error(x, dialect, &error);
    } else if (!v.endpoint) {
        refuse_route(x, dialect, allow);
    } else {
        functions[v.endpoint->serves](&v);
    }
}
