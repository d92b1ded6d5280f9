/* SPDX-License-Identifier: MIT
 * pull.c — kvasir pull: models from the web into the models folder. */
#include <stdlib.h>
#include <string.h>

#include "app/app_int.h"
#include "fetch/fetch.h"
#include "gguf/gguf.h"
#include "http/http_client.h"

#define LIST_BYTES_MAX (8u << 20)
#define LIST_MS_MAX    60000
#define RETRY_MS       500
#define IDLE_S_MAX     30
#define TOKEN_MAX      512

struct pull {
    const struct config *c;
    const char *base_url;
    char authorization[TOKEN_MAX]; /* "" without a token */
    char dir[FS_PATH_BYTES_MAX];
    struct progress progress;
    char name[FETCH_NAME_MAX]; /* of what is fetched */
    bool is_piece;             /* of a model: means nothing without the others */
};

static bool show(void *arg, const char *what, uint64_t done, uint64_t total)
{
    struct pull *p = arg;
    char text[FETCH_NAME_MAX + 32];
    snprintf(text, sizeof text, "%s %.60s", what, p->name);
    if (total)
        progress_show(&p->progress, text, (double)done / (double)total);
    return true;
}

static enum status check(void *arg, const char *path, struct err *e)
{
    struct pull *p = arg;
    char magic[4] = "";
    size_t n;
    struct gguf *g;
    struct os_file f;
    enum status st;
    if (!p->is_piece) {
        st = gguf_open(path, &g, e);
        if (st == OK)
            gguf_close(g);
        return st == OK ? OK : err_prefix(e, "%s is no model, thrown away", p->name);
    }
    st = os_fs_real()->open(os_fs_real(), path, FS_READ, &f, e);
    if (st != OK)
        return st;
    st = os_fs_real()->read_at(&f, magic, sizeof magic, 0, &n, e);
    os_fs_real()->close(&f);
    if (st == OK && memcmp(magic, "GGUF", sizeof magic) != 0)
        st = err_set(e, E_CORRUPT, "%s is no piece of a model, thrown away", p->name);
    return st;
}

/* The token goes to the hub that it is for, and to nobody else. */
static const char *authorization_for(const struct pull *p, const char *url)
{
    const size_t n = strlen(p->base_url);
    const bool is_hub = strncmp(url, p->base_url, n) == 0 && (url[n] == '/' || url[n] == '\0');
    return p->authorization[0] && is_hub ? p->authorization : NULL;
}

static enum status choose(struct pull *p, struct fetch_source *s, struct err *e)
{
    char url[FETCH_URL_MAX];
    struct http_client *client;
    struct http_answer a = {0};
    fetch_list_url(s, p->base_url, url);
    enum status st = http_client_new(&client, e);
    if (st != OK)
        return st;
    const char *headers[] = {authorization_for(p, url), NULL};
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
        st = fetch_choose(s, p->base_url, buf_slice(&a.body), e);
    http_answer_release(&a);
    http_client_free(client);
    return st;
}

static enum status fetch_one(struct pull *p, const struct fetch_source *s,
                             const struct digest *sha256, struct err *e)
{
    char path[FS_PATH_BYTES_MAX], hex[DIGEST_HEX_BYTES];
    struct fetch_result r;
    const int n = snprintf(path, sizeof path, "%s/%s", p->dir, s->name);
    if (n < 0 || (size_t)n >= sizeof path)
        return err_set(e, E_LIMIT, "%.150s/%.50s: a path too long", p->dir, s->name);
    snprintf(p->name, sizeof p->name, "%s", s->name);
    const struct fetch_job job = {
        .fs = os_fs_real(),
        .url = s->url,
        .path = path,
        .authorization = authorization_for(p, s->url),
        .connections = (uint32_t)p->c->values[OPTION_CONNECTIONS].number,
        .retry_ms = RETRY_MS,
        .idle_s_max = IDLE_S_MAX,
        .sha256 = sha256,
        .progress = show,
        .check = check,
        .arg = p,
    };
    progress_begin(&p->progress);
    enum status st = fetch_file(&job, &r, e);
    progress_end(&p->progress);
    if (st != OK)
        return st;
    digest_hex(&r.sha256, hex);
    printf("%s  %.1f MB", path, (double)r.bytes * 1e-6);
    if (r.fetched_bytes < r.bytes)
        printf(", %.1f of them now", (double)r.fetched_bytes * 1e-6);
    printf("\n  sha256 %s%s\n", hex, r.is_verified ? ", as it should be" : "");
    return OK;
}

static enum status pull_one(struct pull *p, const char *text, const struct digest *sha256,
                            struct err *e)
{
    struct fetch_source source, piece;
    enum status st = fetch_source_of(&source, text, p->base_url, e);
    if (st == OK && !source.url[0])
        st = choose(p, &source, e);
    if (st != OK)
        return st;
    const uint32_t n = fetch_piece_count(&source);
    p->is_piece = n > 1;
    if (n > 1 && sha256)
        return err_set(e, E_INVALID, "--sha256 is for one file, %s has %u", source.name, n);
    for (uint32_t i = 0; st == OK && i < n; i++) {
        fetch_piece(&source, i, &piece);
        st = fetch_one(p, &piece, sha256, e);
    }
    return st;
}

/* The folder, made if it is not there; a trailing '/' of the hub's address is dropped. */
static enum status prepare(struct pull *p, char base_url[FETCH_URL_MAX], struct err *e)
{
    const char *token = getenv("HF_TOKEN"), *text = p->c->values[OPTION_BASE_URL].text;
    config_models_dir(p->dir, sizeof p->dir);
    if (!p->dir[0])
        return err_set(e, E_INVALID, "no folder for models: set HOME or XDG_CACHE_HOME");
    if (strlen(text) >= FETCH_URL_MAX / 2)
        return err_set(e, E_LIMIT, "--base-url is too long");
    snprintf(base_url, FETCH_URL_MAX, "%s", text);
    for (size_t n = strlen(base_url); n > 0 && base_url[n - 1] == '/'; n--)
        base_url[n - 1] = '\0';
    p->base_url = base_url;
    if (token && strlen(token) + 32 > sizeof p->authorization)
        return err_set(e, E_LIMIT, "HF_TOKEN is too long");
    if (token && token[0])
        snprintf(p->authorization, sizeof p->authorization, "Authorization: Bearer %s", token);
    return fs_make_dirs(os_fs_real(), p->dir, e);
}

int command_pull(const struct config *c)
{
    struct pull p = {.c = c};
    struct err e = {0};
    struct digest sha256;
    char base_url[FETCH_URL_MAX];
    const char *hex = c->values[OPTION_SHA256].text;
    if (c->n_arguments == 0) {
        complain("which model? \"kvasir pull --help\" has examples");
        return EXIT_USAGE;
    }
    if (hex && (c->n_arguments > 1 || !digest_from_hex(&sha256, hex, strlen(hex)))) {
        complain("--sha256 wants the 64 hexadecimal digits of one file");
        return EXIT_USAGE;
    }
    enum status st = prepare(&p, base_url, &e);
    for (uint32_t i = 0; st == OK && i < c->n_arguments; i++)
        st = pull_one(&p, c->arguments[i], hex ? &sha256 : NULL, &e);
    return st == OK ? EXIT_DONE : complain_err(&e);
}
