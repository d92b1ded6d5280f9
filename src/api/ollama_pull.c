/* SPDX-License-Identifier: MIT
 * ollama_pull.c — Ollama's /api/pull: which model is meant, and the lines that tell how far it is.
 * Who fetches it is the server. */
#include <stdio.h>

#include "api/api_int.h"
#include "base/check.h"

/* The hub's own addresses in front of OWNER/REPO, as Ollama's users write them. */
struct slice pull_source(struct slice name)
{
    static const char *const hosts[] = {"https://hf.co/", "https://huggingface.co/", "hf.co/",
                                        "huggingface.co/"};
    for (size_t i = 0; i < ARRAY_COUNT(hosts); i++)
        if (slice_starts(name, slice_of(hosts[i])))
            return (struct slice){name.ptr + strlen(hosts[i]), name.len - strlen(hosts[i])};
    return name;
}

/* Only the hub is asked, never an address that a client chose. */
static bool is_of_hub(struct slice name)
{
    return name.len > 0 && name.len < API_PULL_NAME_MAX && memchr(name.ptr, '/', name.len) &&
           !memmem(name.ptr, name.len, "://", 3);
}

void pull_want(struct fields *f, struct api_pull *pull, struct slice name, bool is_stream)
{
    struct slice source = pull_source(name);
    if (!is_of_hub(source)) {
        answer_refuse(f, 400, NULL,
                      "models come from a hub: OWNER/REPO, OWNER/REPO:FILE.gguf or "
                      "OWNER/REPO:Q4_K_M");
        return;
    }
    pull->is_wanted = true;
    pull->is_stream = is_stream;
    snprintf(pull->source, sizeof pull->source, SLICE_FMT, SLICE_ARG(source));
}

/* What is here need not be fetched. */
static void pull(struct fields *f, struct inquiry *a)
{
    struct slice name = {"", 0};
    bool is_stream = true;
    field_string(f, "name", &name); /* the older word */
    field_string(f, "model", &name);
    field_bool(f, "stream", &is_stream);
    if (f->status == OK && name.len == 0)
        answer_refuse(f, 400, NULL, "model is required");
    const struct fleet_list *l = models_of(f, a);
    const struct fleet_entry *m = f->status == OK ? fleet_find(l, name) : NULL;
    if (f->status != OK)
        return;
    if (m && m->card)
        api_pull_write(a->w.out, "success");
    else if (a->ask->pull)
        pull_want(f, a->ask->pull, name, is_stream);
    else
        answer_refuse(f, 501, NULL,
                      "this server fetches no models: serve with --models-dir, or use kvasir pull");
}

void api_pull_write(struct buf *out, const char *status)
{
    struct json_writer w;
    jw_init(&w, out);
    jw_begin_object(&w);
    jw_key(&w, "status");
    jw_text(&w, status);
    jw_end_object(&w);
}

void api_pull_write_progress(struct buf *out, const char *what, const char *name, uint64_t done,
                             uint64_t total)
{
    char text[API_PULL_NAME_MAX + 64];
    struct json_writer w;
    snprintf(text, sizeof text, "%.60s %.400s", what, name);
    jw_init(&w, out);
    jw_begin_object(&w);
    jw_key(&w, "status");
    jw_text(&w, text);
    jw_key(&w, "digest"); /* clients draw one line for each; the file's is known at the end */
    jw_text(&w, name);
    if (total) {
        jw_key(&w, "total");
        jw_int(&w, (int64_t)total);
    }
    jw_key(&w, "completed");
    jw_int(&w, (int64_t)done);
    jw_end_object(&w);
}

static const struct api_field rows[] = {
    {"model", FIELD_YES, "OWNER/REPO[:FILE or quantization] of the hub, into --models-dir", "7",
     NULL},
    {"name", FIELD_YES, "the older word for model", "7", NULL},
    {"stream", FIELD_YES, "default true: a line of JSON a step", "7", NULL},
    {"insecure", FIELD_NONE, "", NULL, NULL},
};
static const struct field_set set = FIELD_SET(rows);
static const struct field_set *const all_fields[] = {&set, NULL};
const struct api_dialect dialect_ollama_pull = {.name = "pull",
                                                .family = "Ollama",
                                                .answer = pull,
                                                .is_for_admins = true,
                                                .error = ollama_error,
                                                .fields = all_fields};
