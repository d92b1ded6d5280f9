/* SPDX-License-Identifier: MIT
 * route.c — each row of api's table to the function that serves it.  Runs on http's workers. */
#include <stdio.h>

#include "base/log.h"
#include "os/clock.h"
#include "server/server_int.h"

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

static void serve_answer(const struct visit *v)
{
    struct api_ask ask = {.fleet = v->server->fleet,
                          .engine = v->engine,
                          .info = engine_info(v->engine),
                          .context = server_context(v),
                          .id = v->id,
                          .query = http_query(v->x),
                          .body = http_body(v->x),
                          .tenant = v->tenant,
                          .is_admin = v->is_admin};
    struct api_error error = {0};
    struct buf b;
    buf_init(&b, API_REPLY_BYTES_MAX);
    if (api_answer(v->endpoint->dialect, &ask, &b, &error) == OK) {
        reply_json(v->x, 200, &b);
    } else {
        buf_release(&b);
        route_error(v->x, v->endpoint->dialect, &error);
    }
}

static void serve_alive(const struct visit *v)
{
    struct buf b;
    buf_init(&b, 1024);
    buf_add_text(&b, "{\"status\":\"ok\"}\n");
    reply_json(v->x, 200, &b);
}

/* All of them, or the one that stands in the path. */
static void serve_models(const struct visit *v)
{
    struct api_error error;
    struct buf b;
    buf_init(&b, API_REPLY_BYTES_MAX);
    if (api_models_write(&b, v->server->fleet, v->id, &error) == OK) {
        reply_json(v->x, 200, &b);
    } else {
        buf_release(&b);
        route_error(v->x, v->endpoint->dialect, &error);
    }
}

/* The numbers are of all tenants together. */
static bool may_administer(const struct visit *v)
{
    struct api_error error;
    if (v->is_admin)
        return true;
    api_error_http(&error, 403, "other_tenants",
                   "an admin key is needed here, or, where none is set, one of the tenant default");
    route_error(v->x, v->endpoint->dialect, &error);
    return false;
}

static void serve_metrics(const struct visit *v)
{
    struct server *s = v->server;
    struct engine_stats stats;
    struct fleet_counts models;
    struct http_counts http;
    struct buf b;
    if (!may_administer(v))
        return;
    fleet_stats(s->fleet, &stats);
    fleet_counts(s->fleet, &models);
    http_server_counts(s->http, &http);
    buf_init(&b, 1 << 20);
    metrics_write(&b, &s->metrics, &stats, &models, s->info, &http);
    http_reply(v->x, 200, "text/plain; version=0.0.4; charset=utf-8", &b);
}

static void serve_stats(const struct visit *v)
{
    struct engine_stats stats;
    struct buf b;
    if (!may_administer(v))
        return;
    fleet_stats(v->server->fleet, &stats);
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

static void (*const functions[API_SERVES_COUNT])(const struct visit *) = {
    [API_EXPLAIN] = explain,
    [API_SESSIONS] = sessions_list,
    [API_SESSION] = sessions_show,
    [API_SESSION_DELETE] = sessions_remove,
    [API_SESSION_CHANGE] = sessions_post,
    [API_GENERATE] = generate,
    [API_COUNT] = count_tokens,
    [API_RESPONSE] = responses_show,
    [API_RESPONSE_DELETE] = responses_remove,
    [API_MODELS] = serve_models,
    [API_MODEL] = serve_models,
    [API_STATS] = serve_stats,
    [API_ANSWER] = serve_answer,
    [API_PULL] = pull_serve,
    [API_SLOT] = slots_post,
    [API_SOCKET] = lmstudio_open,
    [API_METRICS] = serve_metrics,
    [API_HEALTH] = serve_health,
    [API_ALIVE] = serve_alive,
    [API_PAGE] = serve_page,
};

void route_error(struct http_exchange *x, const struct api_dialect *dialect,
                 const struct api_error *error)
{
    struct buf b;
    buf_init(&b, 16384);
    api_error_write(&b, dialect, error);
    buf_add_char(&b, '\n');
    if (error->http == 429 || error->http == 503) {
        char text[16];
        snprintf(text, sizeof text, "%u", error->retry_after_s ? error->retry_after_s : 1);
        http_add_header(x, "Retry-After", text);
    }
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

void route_refuse(void *arg, struct slice path, int status, const char *message, struct buf *out)
{
    struct api_error error;
    (void)arg;
    api_error_http(&error, status, NULL, message);
    api_error_write(out, api_dialect_of_path(path), &error);
    buf_add_char(out, '\n');
}

void route_handle(void *arg, struct http_exchange *x)
{
    struct server *s = arg;
    struct visit v = {.server = s, .x = x, .engine = s->engine, .start_ns = clock_now_ns()};
    struct api_error error;
    char origin[256];
    atomic_fetch_add(&s->n_seen, 1);
    const char *allow = NULL;
    struct slice method = http_method(x), path = http_path(x);
    const struct api_dialect *dialect = api_dialect_of_path(path);
    v.endpoint = api_endpoint_find(method, path, &v.id, &allow);
    snprintf(v.request_id, sizeof v.request_id, "%s", http_request_id(x));
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
        may = admit_key(&v, &error);
    if (!may) {
        log_debug("server", "refused request=%s path=%.*s status=%d", v.request_id, SLICE_ARG(path),
                  error.http);
        route_error(x, dialect, &error);
    } else if (!v.endpoint) {
        refuse_route(x, dialect, allow);
    } else {
        log_debug("server", "serving request=%s path=%s", v.request_id, v.endpoint->path);
        if (api_endpoint_needs_model(v.endpoint)) {
            models_serve(&v, functions[v.endpoint->serves]);
            return;
        }
        functions[v.endpoint->serves](&v);
    }
    key_unref(v.key);
}
