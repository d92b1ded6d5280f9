/* SPDX-License-Identifier: MIT
 * drivers_desktop.c — Ollama and LM Studio: servers that are there already, whose models are loaded
 * and unloaded through their APIs.  Neither keeps a prompt's state when a model is unloaded, and
 * neither tells how many prompt tokens came from its cache. */
#include "bench/compare/drivers_int.h"

#define SMALL_MS_MAX 30000u
#define LOAD_MS_MAX  600000u

static void use_default(struct system *s, const char *url)
{
    if (!s->is_url) {
        snprintf(s->target, sizeof s->target, "%s", url);
        s->is_url = true;
    }
}

static enum status need_model(struct system *s, struct err *e)
{
    const char *model = system_word(s, "model");
    if (!model || !model[0])
        return err_set(e, E_INVALID, "%s needs model=NAME, a model it has", s->driver->name);
    snprintf(s->served_model, sizeof s->served_model, "%s", model);
    return OK;
}

static enum status post(struct system *s, const char *path, const char *body, uint32_t ms_max,
                        struct err *e)
{
    struct arena a;
    arena_init(&a, 16u << 20);
    enum status st = wire_json(s, "POST", path, slice_of(body), ms_max, &a, NULL, e);
    arena_release(&a);
    return st;
}

/* ---- Ollama ---- */
static enum status ollama_prepare(struct system *s, struct err *e)
{
    s->can = CAN_RESTART | CAN_TEXT;
    use_default(s, "http://127.0.0.1:11434");
    return need_model(s, e);
}

static enum status ollama_unload(struct system *s, struct err *e)
{
    char body[320];
    snprintf(body, sizeof body, "{\"model\":\"%.200s\",\"keep_alive\":0,\"stream\":false}",
             s->served_model);
    return post(s, "/api/generate", body, LOAD_MS_MAX, e);
}

/* An empty prompt loads the model, with the context that all later requests name. */
static enum status ollama_start(struct system *s, const struct start *how, struct err *e)
{
    char body[400];
    struct arena a;
    const struct json *v = NULL;
    enum status st = wire_wait_ready(s, "/api/version", SMALL_MS_MAX, e);
    if (st != OK)
        return st;
    arena_init(&a, 1u << 20);
    st = wire_json(s, "GET", "/api/version", (struct slice){0}, SMALL_MS_MAX, &a, &v, e);
    char version[60] = "?";
    json_text(json_get(v, "version"), version, sizeof version);
    snprintf(s->version, sizeof s->version, "Ollama %s", version);
    arena_release(&a);
    if (st == OK)
        st = ollama_unload(s, e);
    s->context_tokens = how->ctx_tokens;
    snprintf(
        body, sizeof body,
        "{\"model\":\"%.200s\",\"keep_alive\":-1,\"stream\":false,\"options\":{\"num_ctx\":%u}}",
        s->served_model, how->ctx_tokens);
    snprintf(s->command, sizeof s->command, "POST %s/api/generate %s", s->url, body);
    return st == OK ? post(s, "/api/generate", body, LOAD_MS_MAX, e) : st;
}

const struct driver driver_ollama = {.name = "ollama",
                                     .about =
                                         "Ollama, with model=NAME; default http://127.0.0.1:11434",
                                     .options = "model=NAME",
                                     .dialect = DIALECT_OLLAMA,
                                     .port = 11434,
                                     .probe = "/api/version",
                                     .prepare = ollama_prepare,
                                     .start = ollama_start,
                                     .stop = ollama_unload};

/* ---- LM Studio ---- */
static enum status lmstudio_prepare(struct system *s, struct err *e)
{
    const char *api = system_word(s, "api");
    s->can = CAN_RESTART | CAN_TEXT;
    use_default(s, "http://127.0.0.1:1234");
    if (api && strcmp(api, "v0") != 0 && strcmp(api, "v1") != 0 && strcmp(api, "openai") != 0)
        return err_set(e, E_INVALID, "lmstudio: api=%s is none of v0, v1, openai", api);
    return need_model(s, e);
}

/* Which engine runs the model, and whether it is there at all: "gguf" (llama.cpp) or "mlx". */
static enum status lmstudio_look(struct system *s, struct err *e)
{
    struct arena a;
    const struct json *v = NULL;
    arena_init(&a, 16u << 20);
    enum status st =
        wire_json(s, "GET", "/api/v0/models", (struct slice){0}, SMALL_MS_MAX, &a, &v, e);
    const struct json *data = json_get(v, "data");
    bool is_there = false;
    for (size_t i = 0; data && data->kind == JSON_ARRAY && i < data->count; i++) {
        const struct json *m = &data->items[i], *id = json_get(m, "id");
        char engine[24] = "?", quant[24] = "?";
        if (!id || id->kind != JSON_STRING || !slice_is(id->text, s->served_model))
            continue;
        json_text(json_get(m, "compatibility_type"), engine, sizeof engine);
        json_text(json_get(m, "quantization"), quant, sizeof quant);
        snprintf(s->version, sizeof s->version, "LM Studio, %s engine, %s",
                 strcmp(engine, "mlx") == 0 ? "MLX" : "llama.cpp", quant);
        is_there = true;
    }
    if (st == OK && !is_there)
        st = err_set(e, E_NOT_FOUND, "LM Studio has no model \"%s\"", s->served_model);
    arena_release(&a);
    return st;
}

static enum status lmstudio_unload(struct system *s, struct err *e)
{
    char body[320];
    const char *id = s->instance[0] ? s->instance : s->served_model;
    snprintf(body, sizeof body, "{\"instance_id\":\"%.200s\"}", id);
    return post(s, "/api/v1/models/unload", body, LOAD_MS_MAX, e);
}

static enum status lmstudio_start(struct system *s, const struct start *how, struct err *e)
{
    char body[400];
    struct arena a;
    const struct json *v = NULL;
    enum status st = wire_wait_ready(s, "/api/v0/models", SMALL_MS_MAX, e);
    if (st == OK)
        st = lmstudio_look(s, e);
    if (st != OK)
        return st;
    /* It may be loaded or not; only what follows matters. */
    struct err ignored = {0};
    if (lmstudio_unload(s, &ignored) != OK)
        s->instance[0] = '\0';
    snprintf(body, sizeof body, "{\"model\":\"%.200s\",\"context_length\":%u}", s->served_model,
             how->ctx_tokens);
    snprintf(s->command, sizeof s->command, "POST %s/api/v1/models/load %s", s->url, body);
    arena_init(&a, 1u << 20);
    st = wire_json(s, "POST", "/api/v1/models/load", slice_of(body), LOAD_MS_MAX, &a, &v, e);
    json_text(json_get(v, "instance_id"), s->instance, sizeof s->instance);
    arena_release(&a);
    return st;
}

const struct driver driver_lmstudio = {
    .name = "lmstudio",
    .about = "LM Studio, with model=KEY (a GGUF or an MLX one: its two engines are two systems); "
             "api=v0 (default), v1 or openai; default http://127.0.0.1:1234",
    .options = "model=KEY api=v0",
    .dialect = DIALECT_LMSTUDIO,
    .port = 1234,
    .probe = "/api/v0/models",
    .prepare = lmstudio_prepare,
    .start = lmstudio_start,
    .stop = lmstudio_unload};
