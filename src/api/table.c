/* SPDX-License-Identifier: MIT
 * table.c — what is served where: one row a method and path.  The router finds its rows here, and
 * docs/api/conformance.md is written from them and from each dialect's fields. */
#include "api/api_int.h"
#include "base/check.h"

#define CHAT      &dialect_openai_chat
#define TEXT      &dialect_openai_text
#define ANTHROPIC &dialect_anthropic
#define OWN       &dialect_kvasir
#define RESPONSES &dialect_openai_responses
#define SDK       &dialect_lmstudio_ws

static const struct api_endpoint endpoints[] = {
    {"GET", "/", API_PAGE, CHAT, true, "a page that says what runs here, with a small chat"},
    {"GET", "/health", API_HEALTH, OWN, true, "`{\"status\":\"ok\"}`; 503 while the server stops"},
    {"GET", "/v1/health", API_HEALTH, OWN, true, "the same, as llama-server has it"},
    {"GET", "/health/ready", API_HEALTH, OWN, true, "the same"},
    {"GET", "/health/live", API_ALIVE, OWN, true, "200 as long as it answers"},
    {"GET", "/health/startup", API_ALIVE, OWN, true,
     "the same: it listens once its model is loaded"},
    {"GET", "/metrics", API_METRICS, OWN, false, "Prometheus's text format; docs/operations.md"},
    {"GET", "/v1/models", API_MODELS, CHAT, false, "the models that requests may name"},
    {"GET", "/v1/models/{id}", API_MODEL, CHAT, false, "one of them"},
    {"POST", "/v1/chat/completions", API_GENERATE, CHAT, false, "messages in, a message out"},
    {"POST", "/v1/chat/completions/input_tokens", API_COUNT, &dialect_openai_chat_count, false,
     "how many tokens the prompt has, as llama-server tells it"},
    {"POST", "/v1/completions", API_GENERATE, TEXT, false, "text or token ids in, text out"},
    {"POST", "/v1/responses", API_GENERATE, RESPONSES, false, "items in, items out"},
    {"POST", "/v1/responses/input_tokens", API_COUNT, &dialect_openai_responses_count, false,
     "how many tokens the prompt has"},
    {"GET", "/v1/responses/{id}", API_RESPONSE, RESPONSES, false, "a stored one"},
    {"DELETE", "/v1/responses/{id}", API_RESPONSE_DELETE, RESPONSES, false, "forgets it"},
    {"POST", "/v1/embeddings", API_GENERATE, &dialect_openai_embeddings, false,
     "texts in, vectors out; docs/api/embeddings.md"},
    {"POST", "/v1/messages", API_GENERATE, ANTHROPIC, false, "messages in, a message out"},
    {"POST", "/v1/messages/count_tokens", API_COUNT, &dialect_anthropic_count, false,
     "how many tokens the prompt has"},
    {"POST", "/completion", API_GENERATE, &dialect_llama_completion, false,
     "a prompt goes on; timings and where each token came from"},
    {"POST", "/completions", API_GENERATE, &dialect_llama_completion, false, "the same"},
    {"POST", "/infill", API_GENERATE, &dialect_llama_infill, false,
     "what stands between; 501 where the model has no tokens for it"},
    {"POST", "/chat/completions", API_GENERATE, CHAT, false, "as /v1/chat/completions"},
    {"POST", "/chat/completions/input_tokens", API_COUNT, &dialect_openai_chat_count, false,
     "the same"},
    {"GET", "/models", API_MODELS, CHAT, false, "as /v1/models"},
    {"POST", "/models/load", API_ANSWER, &dialect_llama_load, false, "loads one of the models"},
    {"POST", "/models/unload", API_ANSWER, &dialect_llama_unload, false,
     "unloads it, once its requests have ended; 501 for the one that stays"},
    {"POST", "/tokenize", API_ANSWER, &dialect_llama_tokenize, false, "text to token ids"},
    {"POST", "/detokenize", API_ANSWER, &dialect_llama_detokenize, false, "and back"},
    {"POST", "/apply-template", API_ANSWER, &dialect_llama_template, false,
     "messages to the prompt that they would be"},
    {"GET", "/props", API_ANSWER, &dialect_llama_props, false,
     "the model, its template and defaults"},
    {"GET", "/slots", API_ANSWER, &dialect_llama_slots, false,
     "how many of --parallel are at work"},
    {"POST", "/slots/{id}", API_SLOT, &dialect_llama_slot, false,
     "?action=save, restore, erase: the session slot/{id}"},
    {"GET", "/lora-adapters", API_ANSWER, &dialect_llama_lora, false, "there are none: []"},
    {"POST", "/embedding", API_GENERATE, &dialect_llama_embeddings, false, "texts in, vectors out"},
    {"POST", "/embeddings", API_GENERATE, &dialect_llama_embeddings, false, "the same"},
    {"POST", "/rerank", API_ANSWER, &dialect_llama_rerank, false, "501: no model here ranks"},
    {"POST", "/v1/rerank", API_ANSWER, &dialect_llama_rerank, false, "the same"},
    {"POST", "/api/chat", API_GENERATE, &dialect_ollama_chat, false, "messages in, a message out"},
    {"POST", "/api/generate", API_GENERATE, &dialect_ollama_generate, false,
     "a prompt in, an answer out"},
    {"GET", "/api/tags", API_ANSWER, &dialect_ollama_tags, false, "the models"},
    {"POST", "/api/show", API_ANSWER, &dialect_ollama_show, false, "one of them"},
    {"GET", "/api/ps", API_ANSWER, &dialect_ollama_ps, false, "those in memory"},
    {"GET", "/api/version", API_ANSWER, &dialect_ollama_version, true,
     "of Ollama's API that this follows, and kvasir's own"},
    {"POST", "/api/embed", API_GENERATE, &dialect_ollama_embed, false, "texts in, vectors out"},
    {"POST", "/api/embeddings", API_GENERATE, &dialect_ollama_embeddings, false,
     "the older one: one text, its vector not normalized"},
    {"POST", "/api/pull", API_PULL, &dialect_ollama_pull, false,
     "fetches a model of the hub into --models-dir; 501 without that folder"},
    {"POST", "/api/copy", API_ANSWER, &dialect_ollama_copy, false,
     "another name for a file in --models-dir, by a hard link; 501 without that folder"},
    {"DELETE", "/api/delete", API_ANSWER, &dialect_ollama_delete, false,
     "removes a file of --models-dir; 501 for the model that stays"},
    {"POST", "/api/create", API_ANSWER, &dialect_ollama_create, false, "501"},
    {"POST", "/api/push", API_ANSWER, &dialect_ollama_push, false, "501"},
    {"POST", "/api/blobs/{id}", API_ANSWER, &dialect_ollama_create, false, "501"},
    {"GET", "/api/v0/models", API_ANSWER, &dialect_lmstudio_v0_models, false, "the models"},
    {"GET", "/api/v0/models/{id}", API_ANSWER, &dialect_lmstudio_v0_model, false, "one of them"},
    {"POST", "/api/v0/chat/completions", API_GENERATE, &dialect_lmstudio_v0_chat, false,
     "as /v1/chat/completions, with stats"},
    {"POST", "/api/v0/completions", API_GENERATE, &dialect_lmstudio_v0_text, false,
     "as /v1/completions, with stats"},
    {"POST", "/api/v0/embeddings", API_GENERATE, &dialect_lmstudio_embeddings, false,
     "as /v1/embeddings"},
    {"POST", "/api/v1/chat", API_GENERATE, &dialect_lmstudio_chat, false,
     "a string or items in, items out; stateful by response_id"},
    {"GET", "/api/v1/models", API_ANSWER, &dialect_lmstudio_models, false, "the models"},
    {"POST", "/api/v1/models/load", API_ANSWER, &dialect_lmstudio_load, false,
     "loads one of the models"},
    {"POST", "/api/v1/models/unload", API_ANSWER, &dialect_lmstudio_unload, false,
     "unloads it, once its requests have ended; 501 for the one that stays"},
    {"POST", "/api/v1/models/download", API_PULL, &dialect_lmstudio_download, false,
     "fetches a model of the hub into --models-dir, as a job; 501 without that folder"},
    {"GET", "/api/v1/models/download/status/{id}", API_PULL, &dialect_lmstudio_status, false,
     "how far a job is"},
    {"GET", "/api/v1/models/download/status", API_PULL, &dialect_lmstudio_statuses, false,
     "all jobs since the start, as the first versions had it"},
    {"GET", "/lmstudio-greeting", API_ANSWER, &dialect_lmstudio_greeting, true,
     "by it LM Studio's SDK finds a server"},
    {"GET", "/llm", API_SOCKET, SDK, true,
     "a WebSocket of LM Studio's SDK: models, predictions, tokens; the key is its clientPasskey"},
    {"GET", "/system", API_SOCKET, SDK, true, "likewise: which models there are, the version"},
    {"GET", "/embedding", API_SOCKET, SDK, true, "likewise: vectors of texts"},
    {"GET", "/diagnostics", API_SOCKET, SDK, true, "likewise: an error for each call"},
    {"GET", "/files", API_SOCKET, SDK, true, "the same"},
    {"GET", "/repository", API_SOCKET, SDK, true, "the same"},
    {"GET", "/plugins", API_SOCKET, SDK, true, "the same"},
    {"GET", "/v1/sessions", API_SESSIONS, OWN, false,
     "the sessions, newest first, a page at a time"},
    {"POST", "/v1/sessions", API_SESSION_CHANGE, OWN, false, "an empty one, under a name"},
    {"POST", "/v1/sessions/expire", API_SESSION_CHANGE, OWN, false,
     "forgets those that nobody used for some days"},
    {"GET", "/v1/sessions/{id}", API_SESSION, OWN, false,
     "one of them, and what was forked from it"},
    {"DELETE", "/v1/sessions/{id}", API_SESSION_DELETE, OWN, false, "forgets it"},
    {"POST", "/v1/sessions/{id}/fork", API_SESSION_CHANGE, OWN, false,
     "another session that begins as this one, up to any token or message"},
    {"POST", "/v1/sessions/{id}/pin", API_SESSION_CHANGE, OWN, false,
     "keeps its pages; with a reason"},
    {"POST", "/v1/sessions/{id}/unpin", API_SESSION_CHANGE, OWN, false,
     "they may be evicted again"},
    {"POST", "/v1/sessions/{id}/tag", API_SESSION_CHANGE, OWN, false, "a word to list it by"},
    {"POST", "/v1/sessions/{id}/rename", API_SESSION_CHANGE, OWN, false, "another name"},
    {"POST", "/v1/cache/explain", API_EXPLAIN, OWN, false,
     "what of a prompt is known, where it leaves that, and why"},
    {"GET", "/v1/cache/stats", API_STATS, CHAT, false,
     "where prompt tokens came from, pages, store"},
};

/* Paths that nothing serves, by how they begin; the last fits all. */
static const struct {
    const char *prefix;
    const struct api_dialect *dialect;
} shapes[] = {{"/v1/messages", ANTHROPIC},
              {"/v1/sessions", OWN},
              {"/v1/cache/explain", OWN},
              {"/health", OWN},
              {"", CHAT}};

static const struct slice PART = {"{id}", 4};

/* Does path fit the pattern?  *id: what stands for {id}. */
static bool is_at(const char *pattern, struct slice path, struct slice *id)
{
    *id = (struct slice){"", 0};
    const char *hole = strstr(pattern, PART.ptr);
    if (!hole)
        return slice_is(path, pattern);
    struct slice before = {pattern, (size_t)(hole - pattern)}, after = slice_of(hole + PART.len);
    if (!slice_starts(path, before))
        return false;
    struct slice rest = {path.ptr + before.len, path.len - before.len};
    if (rest.len <= after.len || memcmp(rest.ptr + rest.len - after.len, after.ptr, after.len) != 0)
        return false;
    *id = (struct slice){rest.ptr, rest.len - after.len};
    return after.len == 0 || !memchr(id->ptr, '/', id->len);
}

const struct api_endpoint *api_endpoint_find(struct slice method, struct slice path,
                                             struct slice *id, const char **allow)
{
    *allow = NULL;
    for (size_t i = 0; i < ARRAY_COUNT(endpoints); i++) {
        if (!is_at(endpoints[i].path, path, id))
            continue;
        if (slice_is(method, endpoints[i].method)) {
            *allow = NULL;
            return &endpoints[i];
        }
        *allow = *allow ? "GET, DELETE" : endpoints[i].method;
    }
    *id = (struct slice){"", 0};
    return NULL;
}

bool api_endpoint_needs_model(const struct api_endpoint *at)
{
    return at->serves == API_GENERATE || at->serves == API_COUNT || at->serves == API_EXPLAIN ||
           (at->serves == API_ANSWER && at->dialect->needs_model);
}

const struct api_dialect *api_dialect_of_path(struct slice path)
{
    struct slice id;
    for (size_t i = 0; i < ARRAY_COUNT(endpoints); i++)
        if (is_at(endpoints[i].path, path, &id))
            return endpoints[i].dialect;
    size_t i = 0;
    while (!slice_starts(path, slice_of(shapes[i].prefix)))
        i++;
    return shapes[i].dialect;
}

const char *api_dialect_family(const struct api_dialect *dialect)
{
    return dialect->family;
}

/* ---- docs/api/conformance.md ---- */

static const struct api_field *find_field(const struct api_dialect *d, const char *name)
{
    for (size_t i = 0; d->fields[i]; i++)
        for (size_t j = 0; j < d->fields[i]->n; j++)
            if (strcmp(d->fields[i]->fields[j].name, name) == 0)
                return &d->fields[i]->fields[j];
    return NULL;
}

static const char *verdict_of(const struct api_dialect *d, const char *name)
{
    static const char *const words[] = {
        [FIELD_YES] = "yes", [FIELD_REFUSED] = "refused", [FIELD_NONE] = "not applicable"};
    const struct api_field *f = find_field(d, name);
    return words[f ? f->verdict : FIELD_NONE];
}

/* The endpoints that read a body of this family. */
struct family {
    const char *name;
    const struct api_endpoint *columns[ARRAY_COUNT(endpoints)];
    size_t n;
};

/* Another path of the same. */
static bool has_column(const struct family *f, const struct api_endpoint *at)
{
    for (size_t i = 0; i < f->n; i++)
        if (f->columns[i]->dialect == at->dialect)
            return true;
    return false;
}

static struct family family_of(const char *name)
{
    struct family f = {.name = name};
    for (size_t i = 0; i < ARRAY_COUNT(endpoints); i++)
        if (strcmp(endpoints[i].method, "POST") == 0 && endpoints[i].dialect->fields[0] &&
            strcmp(endpoints[i].dialect->family, name) == 0 && !has_column(&f, &endpoints[i]))
            f.columns[f.n++] = &endpoints[i];
    return f;
}

/* What the columns say of a field, each text once. */
static void write_notes(struct buf *out, const struct family *f, const char *name)
{
    const char *said = NULL;
    for (size_t i = 0; i < f->n; i++) {
        const struct api_field *x = find_field(f->columns[i]->dialect, name);
        if (!x || !x->doc[0] || (said && strcmp(said, x->doc) == 0))
            continue;
        buf_add_text(out, said ? "; " : "");
        buf_add_text(out, x->doc);
        said = x->doc;
    }
}

static bool is_first(const struct family *f, size_t column, const char *name)
{
    for (size_t i = 0; i < column; i++)
        if (find_field(f->columns[i]->dialect, name))
            return false;
    return true;
}

static void write_fields(struct buf *out, const struct family *f)
{
    buf_printf(out, "\n## %s: fields of requests\n\n| field |", f->name);
    for (size_t i = 0; i < f->n; i++)
        buf_printf(out, " `%s` |", f->columns[i]->path);
    buf_add_text(out, " |\n|---|");
    for (size_t i = 0; i <= f->n; i++)
        buf_add_text(out, "---|");
    buf_add_char(out, '\n');
    for (size_t i = 0; i < f->n; i++) {
        const struct api_dialect *d = f->columns[i]->dialect;
        for (size_t j = 0; d->fields[j]; j++) {
            for (size_t k = 0; k < d->fields[j]->n; k++) {
                const char *name = d->fields[j]->fields[k].name;
                if (!is_first(f, i, name))
                    continue;
                buf_printf(out, "| `%s` |", name);
                for (size_t column = 0; column < f->n; column++)
                    buf_printf(out, " %s |", verdict_of(f->columns[column]->dialect, name));
                buf_add_char(out, ' ');
                write_notes(out, f, name);
                buf_add_text(out, " |\n");
            }
        }
    }
}

void api_conformance_write(struct buf *out)
{
    buf_add_text(
        out,
        "# Which endpoints and fields are served\n\n"
        "Written by `kvasir help --api` from the table that requests are routed by; a test "
        "compares, and sends each field\n"
        "with a value that it can't have. *yes*: read and obeyed. *refused*: an error in the "
        "dialect's shape that names the field, unless its\n"
        "value asks for nothing. *not applicable*: the endpoint has no such field, or it means "
        "nothing to a server of one's own; it is\n"
        "accepted. Fields that no table names are ignored.\n\n"
        "| method | path | dialect | key | what |\n|---|---|---|---|---|\n");
    for (size_t i = 0; i < ARRAY_COUNT(endpoints); i++)
        buf_printf(out, "| %s | `%s` | %s | %s | %s |\n", endpoints[i].method, endpoints[i].path,
                   endpoints[i].dialect->family, endpoints[i].is_public ? "no" : "yes",
                   endpoints[i].doc);
    const char *last = "";
    for (size_t i = 0; i < ARRAY_COUNT(endpoints); i++) {
        const char *name = endpoints[i].dialect->family;
        bool is_new = strcmp(name, last) != 0;
        for (size_t j = 0; j < i; j++)
            is_new = is_new && strcmp(endpoints[j].dialect->family, name) != 0;
        last = name;
        if (!is_new)
            continue;
        struct family f = family_of(name);
        if (f.n)
            write_fields(out, &f);
    }
}
