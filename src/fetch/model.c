/* SPDX-License-Identifier: MIT
 * model.c — a model by its name: asks the hub which file is meant, then fetches it, or its pieces.
 */
#include <stdio.h>
#include <string.h>

#include "fetch/fetch.h"
#include "http/http_client.h"

#define LIST_BYTES_MAX (8u << 20)
#define LIST_MS_MAX    20000 /* whoever stops waits for it */
#define RETRY_MS       500
#define IDLE_S_MAX     30

struct pull {
    const struct fetch_model *model;
    const char *name; /* of the file under way */
    bool is_piece;    /* of a model: means nothing without the others */
};

static bool on_progress(void *arg, const char *what, uint64_t done, uint64_t total)
{
    const struct pull *p = arg;
    return p->model->progress(p->model->arg, p->name, what, done, total);
}

static enum status check_piece(const char *path, const char *name, struct err *e)
{
    char magic[4] = "";
    size_t n;
    struct os_file f;
    enum status st = os_fs_real()->open(os_fs_real(), path, FS_READ, &f, e);
    if (st != OK)
        return st;
    st = os_fs_real()->read_at(&f, magic, sizeof magic, 0, &n, e);
    os_fs_real()->close(&f);
    if (st == OK && memcmp(magic, "GGUF", sizeof magic) != 0)
        st = err_set(e, E_CORRUPT, "%s is no piece of a model, thrown away", name);
    return st;
}

static enum status on_check(void *arg, const char *path, struct err *e)
{
    const struct pull *p = arg;
    if (p->is_piece)
        return check_piece(path, p->name, e);
    enum status st = p->model->check(p->model->arg, path, e);
    return st == OK ? OK : err_prefix(e, "%s is no model, thrown away", p->name);
}

/* The token goes to the hub that it is for, and to nobody else. */
static const char *authorization_for(const struct fetch_model *m, const char *url)
{
    const size_t n = strlen(m->base_url);
    const bool is_hub = strncmp(url, m->base_url, n) == 0 && (url[n] == '/' || url[n] == '\0');
    return m->authorization && is_hub ? m->authorization : NULL;
}

static enum status choose(const struct fetch_model *m, struct fetch_source *s, struct err *e)
{
    char url[FETCH_URL_MAX];
    struct http_client *client;
    struct http_answer a = {0};
    fetch_list_url(s, m->base_url, url);
    enum status st = http_client_new(&client, e);
    if (st != OK)
        return st;
    const char *headers[] = {authorization_for(m, url), NULL};
    const struct http_call call = {.url = url,
                                   .headers = headers,
                                   .total_ms_max = LIST_MS_MAX,
                                   .reply_bytes_max = LIST_BYTES_MAX,
                                   .redirects_max = 4,
                                   .uses_proxy = true};
    st = http_client_call(client, &call, &a, e);
    if (st == OK && a.status != 200)
        st = err_set(e, a.status == 404 ? E_NOT_FOUND : E_IO, "%.150s: the server says %d", url,
                     a.status);
    if (st == OK)
        st = fetch_choose(s, m->base_url, buf_slice(&a.body), e);
    http_answer_release(&a);
    http_client_free(client);
    return st;
}

static enum status fetch_one(struct pull *p, const struct fetch_source *s, struct err *e)
{
    const struct fetch_model *m = p->model;
    char path[FS_PATH_BYTES_MAX];
    struct fetch_result r;
    const int n = snprintf(path, sizeof path, "%s/%s", m->dir, s->name);
    if (n < 0 || (size_t)n >= sizeof path)
        return err_set(e, E_LIMIT, "%.150s/%.50s: a path too long", m->dir, s->name);
    p->name = s->name;
    const struct fetch_job job = {
        .fs = os_fs_real(),
        .url = s->url,
        .path = path,
        .authorization = authorization_for(m, s->url),
        .connections = m->connections,
        .retry_ms = RETRY_MS,
        .idle_s_max = IDLE_S_MAX,
        .sha256 = m->sha256,
        .progress = on_progress,
        .check = on_check,
        .arg = p,
    };
    enum status st = fetch_file(&job, &r, e);
    if (st == OK)
        m->fetched(m->arg, path, &r);
    return st;
}

enum status fetch_model(const struct fetch_model *m, struct err *e)
{
    struct fetch_source source, piece;
    struct pull p = {.model = m};
    enum status st = fetch_source_of(&source, m->source, m->base_url, e);
    if (st == OK && !source.url[0])
        st = choose(m, &source, e);
    if (st != OK)
        return st;
    const uint32_t n = fetch_piece_count(&source);
    p.is_piece = n > 1;
    if (n > 1 && m->sha256)
        return err_set(e, E_INVALID, "--sha256 is for one file, %s has %u", source.name, n);
    for (uint32_t i = 0; st == OK && i < n; i++) {
        fetch_piece(&source, i, &piece);
        st = fetch_one(&p, &piece, e);
    }
    return st;
}
