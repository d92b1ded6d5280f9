/* SPDX-License-Identifier: MIT
 * pull.c — kvasir pull: models from the web into the models folder. */
#include <stdlib.h>
#include <string.h>

#include "app/app_int.h"
#include "fetch/fetch.h"
#include "gguf/gguf.h"

struct pull {
    const struct config *c;
    struct hub hub;
    char dir[FS_PATH_BYTES_MAX];
    struct progress progress;
    bool is_shown;
};

static bool show(void *arg, const char *name, const char *what, uint64_t done, uint64_t total)
{
    struct pull *p = arg;
    char text[FETCH_NAME_MAX + 32];
    if (!p->is_shown)
        progress_begin(&p->progress);
    p->is_shown = true;
    snprintf(text, sizeof text, "%s %.60s", what, name);
    if (total)
        progress_show(&p->progress, text, (double)done / (double)total);
    return true;
}

static void hide(struct pull *p)
{
    if (p->is_shown)
        progress_end(&p->progress);
    p->is_shown = false;
}

static enum status check(void *arg, const char *path, struct err *e)
{
    struct gguf *g;
    (void)arg;
    enum status st = gguf_open(path, &g, e);
    if (st == OK)
        gguf_close(g);
    return st;
}

static void fetched(void *arg, const char *path, const struct fetch_result *r)
{
    char hex[DIGEST_HEX_BYTES];
    hide(arg);
    digest_hex(&r->sha256, hex);
    printf("%s  %.1f MB", path, (double)r->bytes * 1e-6);
    if (r->fetched_bytes < r->bytes)
        printf(", %.1f of them now", (double)r->fetched_bytes * 1e-6);
    printf("\n  sha256 %s%s\n", hex, r->is_verified ? ", as it should be" : "");
}

static enum status pull_one(struct pull *p, const char *text, const struct digest *sha256,
                            struct err *e)
{
    const struct fetch_model m = {
        .source = text,
        .base_url = p->hub.base_url,
        .dir = p->dir,
        .authorization = p->hub.authorization[0] ? p->hub.authorization : NULL,
        .connections = (uint32_t)p->c->values[OPTION_CONNECTIONS].number,
        .sha256 = sha256,
        .progress = show,
        .check = check,
        .fetched = fetched,
        .arg = p,
    };
    enum status st = fetch_model(&m, e);
    hide(p);
    return st;
}

enum status hub_of(const struct config *c, struct hub *h, struct err *e)
{
    const char *token = getenv("HF_TOKEN"), *text = c->values[OPTION_BASE_URL].text;
    if (strlen(text) >= sizeof h->base_url / 2)
        return err_set(e, E_LIMIT, "--base-url is too long");
    snprintf(h->base_url, sizeof h->base_url, "%s", text);
    for (size_t n = strlen(h->base_url); n > 0 && h->base_url[n - 1] == '/'; n--)
        h->base_url[n - 1] = '\0';
    h->authorization[0] = '\0';
    if (token && strlen(token) + 32 > sizeof h->authorization)
        return err_set(e, E_LIMIT, "HF_TOKEN is too long");
    if (token && token[0])
        snprintf(h->authorization, sizeof h->authorization, "Authorization: Bearer %s", token);
    return OK;
}

/* The folder, made if it is not there. */
static enum status prepare(struct pull *p, struct err *e)
{
    config_models_dir(p->dir, sizeof p->dir);
    if (!p->dir[0])
        return err_set(e, E_INVALID, "no folder for models: set HOME or XDG_CACHE_HOME");
    enum status st = hub_of(p->c, &p->hub, e);
    return st == OK ? fs_make_dirs(os_fs_real(), p->dir, e) : st;
}

int command_pull(const struct config *c)
{
    struct pull p = {.c = c};
    struct err e = {0};
    struct digest sha256;
    const char *hex = c->values[OPTION_SHA256].text;
    if (c->n_arguments == 0) {
        complain("which model? \"kvasir pull --help\" has examples");
        return EXIT_USAGE;
    }
    if (hex && (c->n_arguments > 1 || !digest_from_hex(&sha256, hex, strlen(hex)))) {
        complain("--sha256 wants the 64 hexadecimal digits of one file");
        return EXIT_USAGE;
    }
    enum status st = prepare(&p, &e);
    for (uint32_t i = 0; st == OK && i < c->n_arguments; i++)
        st = pull_one(&p, c->arguments[i], hex ? &sha256 : NULL, &e);
    return st == OK ? EXIT_DONE : complain_err(&e);
}
