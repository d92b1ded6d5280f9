/* SPDX-License-Identifier: MIT
 * drivers.c — kvasir, llama-server, mlx_lm.server and any OpenAI-compatible server: how each is
 * started, ended, and what it keeps.  Ollama and LM Studio: drivers_desktop.c. */
#include <signal.h>
#include <stdlib.h>

#include "base/check.h"
#include "bench/compare/compare_int.h"
#include "bench/compare/drivers_int.h"
#include "os/clock.h"

#define SMALL_MS_MAX 30000u
#define SLOT_MS_MAX  300000u
#define READY_MS_MAX 300000u

const struct driver *const drivers[] = {&driver_kvasir, &driver_llama,    &driver_mlx,
                                        &driver_ollama, &driver_lmstudio, &driver_openai};
const uint32_t n_drivers = ARRAY_COUNT(drivers);

/* The folder NAME of the system's own, empty when everything shall be forgotten. */
static enum status own_folder(struct system *s, const char *name, bool is_fresh, char *path,
                              size_t size, struct err *e)
{
    snprintf(path, size, "%.900s/%s", s->place, name);
    if (is_fresh)
        place_remove(path);
    return fs_make_dirs(os_fs_real(), path, e);
}

/* First line that a program prints with this argument, for the report. */
static void first_line(const char *program, const char *argument, char *out, size_t size)
{
    const char *argv[] = {program, argument, NULL};
    struct child_result r = {0};
    struct err e = {0};
    if (child_run(argv, NULL, SMALL_MS_MAX, &r, &e) == OK) {
        struct slice text = r.out.len ? buf_slice(&r.out) : buf_slice(&r.err);
        const char *end = memchr(text.ptr, '\n', text.len);
        snprintf(out, size, "%.*s", (int)(end ? end - text.ptr : (long)text.len), text.ptr);
    }
    child_result_release(&r);
}

static enum status need_program(struct system *s, const char *otherwise, struct err *e)
{
    if (!s->target[0])
        snprintf(s->target, sizeof s->target, "%s", otherwise);
    const char *argv[] = {s->target, "--version", NULL};
    struct child_result r = {0};
    enum status st = child_run(argv, NULL, SMALL_MS_MAX, &r, e);
    if (st == OK && r.code == 127)
        st = err_set(e, E_NOT_FOUND, "no program %s", s->target);
    child_result_release(&r);
    return st;
}

static void text_of(int64_t number, char *out, size_t size)
{
    snprintf(out, size, "%lld", (long long)number);
}

/* Members that llama-server and kvasir understand: no end before max_tokens. */
static void extra_fixed_work(const struct system *s, struct json_writer *w)
{
    jw_key(w, "ignore_eos");
    jw_bool(w, true);
    if (s->driver == &driver_llama) {
        jw_key(w, "cache_prompt");
        jw_bool(w, true);
        if (s->parallel == 1) {
            jw_key(w, "id_slot");
            jw_int(w, 0);
        }
    }
}

/* ---- kvasir ---- */
static enum status kvasir_prepare(struct system *s, struct err *e)
{
    s->can = CAN_TEXT | CAN_ODDS | CAN_RAW_LENGTH;
    if (s->is_url)
        return OK;
    s->can |= CAN_RESTART | CAN_KEEP | CAN_KILL;
    if (!s->target[0])
        snprintf(s->target, sizeof s->target, "%s", s->options->program);
    enum status st = need_program(s, s->options->program, e);
    if (st == OK)
        first_line(s->target, "version", s->version, sizeof s->version);
    return st;
}

static enum status read_context(struct system *s, struct err *e)
{
    struct arena a;
    const struct json *v = NULL;
    arena_init(&a, 4u << 20);
    enum status st = wire_json(s, "GET", "/v1/models", (struct slice){0}, SMALL_MS_MAX, &a, &v, e);
    const struct json *data = json_get(v, "data");
    if (st == OK && data && data->kind == JSON_ARRAY && data->count) {
        const struct json *meta = json_get(&data->items[0], "meta");
        s->context_tokens = json_integer(json_get(meta, "n_ctx_train"), s->context_tokens);
    }
    arena_release(&a);
    return st;
}

static enum status kvasir_start(struct system *s, const struct start *how, struct err *e)
{
    char port[16], ctx[24], parallel[16], threads[16], store[PLACE_PATH_BYTES];
    if (s->is_url)
        return wire_wait_ready(s, "/health", READY_MS_MAX, e);
    bool keeps = true;
    const char *store_word = system_word(s, "store");
    if (store_word && strcmp(store_word, "none") == 0) {
        snprintf(store, sizeof store, "none");
        keeps = false;
    } else {
        enum status st = own_folder(s, "store", how->is_fresh, store, sizeof store, e);
        if (st != OK)
            return st;
    }
    if (!keeps)
        s->can &= ~(unsigned)CAN_KEEP;
    uint16_t p = free_port();
    text_of(p, port, sizeof port);
    text_of(how->ctx_tokens, ctx, sizeof ctx);
    text_of(how->parallel ? how->parallel : 1, parallel, sizeof parallel);
    text_of(s->options->threads, threads, sizeof threads);
    const char *argv[32] = {s->target,
                            "serve",
                            "--port",
                            port,
                            "--store",
                            store,
                            "--ctx",
                            ctx,
                            "--parallel",
                            parallel,
                            "--threads",
                            threads,
                            "--log-level",
                            "warn",
                            "--prompt-hygiene",
                            system_word(s, "hygiene") ? "on" : "off"};
    size_t n = 16;
    if (how->model) {
        argv[n++] = "-m";
        argv[n++] = how->model;
    }
    snprintf(s->url, sizeof s->url, "http://127.0.0.1:%u", p);
    enum status st = system_run(s, argv, "/health", e);
    return st == OK && s->context_tokens < 0 ? read_context(s, e) : st;
}

const struct driver driver_kvasir = {
    .name = "kvasir",
    .about = "this program's own server, started and ended for each cell; or a URL",
    .options = "store=none kill hygiene",
    .port = 8080,
    .probe = "/v1/sessions",
    .prepare = kvasir_prepare,
    .start = kvasir_start,
    .extra = extra_fixed_work};

/* ---- llama-server ---- */
static enum status llama_prepare(struct system *s, struct err *e)
{
    bool saves = !system_word(s, "no-save");
    s->can = CAN_TEXT | CAN_ODDS | CAN_RAW_LENGTH | (saves ? CAN_KEEP : 0) | CAN_RESTART;
    if (s->is_url)
        return OK;
    s->can |= CAN_KILL;
    enum status st = need_program(s, "llama-server", e);
    if (st == OK)
        first_line(s->target, "--version", s->version, sizeof s->version);
    return st;
}

/* A server that was there before: its slot is emptied, which is the nearest to a restart. */
static enum status llama_erase(struct system *s, struct err *e)
{
    struct arena a;
    arena_init(&a, 1u << 20);
    enum status st =
        wire_json(s, "POST", "/slots/0?action=erase", SLICE_LIT("{}"), SMALL_MS_MAX, &a, NULL, e);
    arena_release(&a);
    return st;
}

static enum status llama_start(struct system *s, const struct start *how, struct err *e)
{
    char port[16], ctx[24], parallel[16], threads[16], folder[PLACE_PATH_BYTES + 1];
    if (s->is_url) {
        enum status ready = wire_wait_ready(s, "/health", READY_MS_MAX, e);
        return ready == OK ? llama_erase(s, e) : ready;
    }
    if (!how->model)
        return err_set(e, E_INVALID, "llama-server needs a model file: --models FILE");
    enum status st = own_folder(s, "slots", how->is_fresh, folder, sizeof folder - 1, e);
    if (st != OK)
        return st;
    size_t end = strlen(folder);
    folder[end] = '/';
    folder[end + 1] = '\0';
    uint16_t p = free_port();
    uint32_t n_slots = how->parallel ? how->parallel : 1;
    text_of(p, port, sizeof port);
    text_of((int64_t)how->ctx_tokens * n_slots, ctx, sizeof ctx); /* it divides by the slots */
    text_of(n_slots, parallel, sizeof parallel);
    text_of(s->options->threads, threads, sizeof threads);
    const char *argv[48] = {s->target, "-m",          how->model,
                            "--host",  "127.0.0.1",   "--port",
                            port,      "-t",          threads,
                            "-np",     parallel,      "-c",
                            ctx,       "-fa",         "on",
                            "-ctk",    "f16",         "-ctv",
                            "f16",     "--cache-ram", how->wants_ram_cache ? "8192" : "0"};
    size_t n = 21;
    if (s->can & CAN_KEEP) {
        argv[n++] = "--slot-save-path";
        argv[n++] = folder;
    }
    if (system_word(s, "swa-full"))
        argv[n++] = "--swa-full";
    const char *reuse = system_word(s, "cache-reuse");
    if (reuse) {
        argv[n++] = "--cache-reuse";
        argv[n++] = reuse;
    }
    snprintf(s->url, sizeof s->url, "http://127.0.0.1:%u", p);
    return system_run(s, argv, "/health", e);
}

static enum status slot_action(struct system *s, const char *action, const char *name, double *ms,
                               const char *count_key, int64_t *count, struct err *e)
{
    struct arena a;
    const struct json *v = NULL;
    char path[80], body[120];
    arena_init(&a, 1u << 20);
    snprintf(path, sizeof path, "/slots/0?action=%s", action);
    snprintf(body, sizeof body, "{\"filename\":\"%.60s\"}", name);
    uint64_t start = clock_now_ns();
    enum status st = wire_json(s, "POST", path, slice_of(body), SLOT_MS_MAX, &a, &v, e);
    *ms = clock_ms_since(start); /* on the wire, as a client waits for it */
    *count = json_integer(json_get(v, count_key), -1);
    arena_release(&a);
    return st;
}

static enum status llama_save(struct system *s, const char *name, double *ms, int64_t *bytes,
                              struct err *e)
{
    return slot_action(s, "save", name, ms, "n_written", bytes, e);
}

static enum status llama_restore(struct system *s, const char *name, double *ms, int64_t *tokens,
                                 struct err *e)
{
    return slot_action(s, "restore", name, ms, "n_restored", tokens, e);
}

const struct driver driver_llama = {
    .name = "llama-server",
    .about = "llama.cpp's server: a path, or a URL; its slots saved and restored between restarts",
    .options = "swa-full no-save kill cache-reuse=N",
    .port = 9931,
    .old_port = 8080,
    .probe = "/props",
    .prepare = llama_prepare,
    .start = llama_start,
    .save = llama_save,
    .restore = llama_restore,
    .extra = extra_fixed_work};

/* ---- mlx_lm.server ---- */
static enum status mlx_prepare(struct system *s, struct err *e)
{
    const char *model = system_word(s, "model");
    s->can = CAN_TEXT;
    snprintf(s->served_model, sizeof s->served_model, "default_model");
    if (s->is_url)
        return OK;
    s->can |= CAN_RESTART | CAN_KILL;
    if (!model || !model[0])
        return err_set(e, E_INVALID,
                       "not run: MLX reads folders of its own format, not GGUF; model=FOLDER names "
                       "one (mlx_lm.convert makes it from the model's original weights)");
    enum status st = need_program(s, "mlx_lm.server", e);
    if (st == OK)
        first_line(s->target, "--version", s->version, sizeof s->version);
    return st;
}

static enum status mlx_start(struct system *s, const struct start *how, struct err *e)
{
    (void)how;
    if (s->is_url)
        return wire_wait_ready(s, "/v1/models", READY_MS_MAX, e);
    char port[16];
    uint16_t p = free_port();
    text_of(p, port, sizeof port);
    const char *argv[] = {s->target, "--model", system_word(s, "model"), "--host", "127.0.0.1",
                          "--port",  port,      "--prompt-cache-size",   "64",     NULL};
    snprintf(s->url, sizeof s->url, "http://127.0.0.1:%u", p);
    return system_run(s, argv, "/v1/models", e);
}

const struct driver driver_mlx = {.name = "mlx_lm.server",
                                  .about = "MLX's server: a path, with model=FOLDER; or a URL",
                                  .options = "model=FOLDER kill",
                                  .port = 8080,
                                  .probe = "/v1/models",
                                  .prepare = mlx_prepare,
                                  .start = mlx_start};

/* ---- any other ---- */
static enum status openai_prepare(struct system *s, struct err *e)
{
    const char *model = system_word(s, "model");
    s->can = CAN_TEXT | CAN_ODDS;
    if (!s->is_url)
        return err_set(e, E_INVALID, "openai needs a URL: --system openai=http://HOST:PORT");
    if (model)
        snprintf(s->served_model, sizeof s->served_model, "%s", model);
    return OK;
}

static enum status openai_start(struct system *s, const struct start *how, struct err *e)
{
    (void)how;
    enum status st = wire_wait_ready(s, "/v1/models", READY_MS_MAX, e);
    if (st != OK || s->served_model[0])
        return st;
    struct arena a;
    const struct json *v = NULL;
    arena_init(&a, 4u << 20);
    st = wire_json(s, "GET", "/v1/models", (struct slice){0}, SMALL_MS_MAX, &a, &v, e);
    const struct json *data = json_get(v, "data");
    if (st == OK && data && data->kind == JSON_ARRAY && data->count)
        json_text(json_get(&data->items[0], "id"), s->served_model, sizeof s->served_model);
    else if (st == OK)
        st = err_set(e, E_NOT_FOUND, "%s/v1/models names no model; say model=NAME", s->url);
    arena_release(&a);
    return st;
}

const struct driver driver_openai = {.name = "openai",
                                     .about = "any OpenAI-compatible server, by URL",
                                     .options = "model=NAME",
                                     .prepare = openai_prepare,
                                     .start = openai_start};
