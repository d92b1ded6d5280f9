/* SPDX-License-Identifier: MIT
 * models.c — what is here and what it did: /v1/models and /v1/cache/stats. */
#include <stdio.h>

#include "api/api_int.h"
#include "text/json.h"

const char *model_state(const struct fleet_entry *m)
{
    return m->state == FLEET_LOADED    ? "loaded"
           : m->state == FLEET_LOADING ? "loading"
           : m->error[0]               ? "failed"
                                       : "not-loaded";
}

const struct engine_info *model_info_of(const struct fleet_entry *m)
{
    return m->engine ? engine_info(m->engine) : NULL;
}

/* llama-server's names, then ours. */
static void write_meta(struct json_writer *w, const struct fleet_entry *m)
{
    const struct engine_info *info = model_info_of(m);
    const struct engine_card *c = m->card;
    jw_begin_object(w);
    jw_key(w, "vocab_type");
    jw_int(w, c->vocabulary[0] == 's' ? 1 : 2); /* SPM 1, BPE 2 */
    jw_key(w, "n_vocab");
    jw_int(w, c->n_vocab);
    jw_key(w, "n_ctx_train");
    jw_int(w, c->n_ctx_train);
    jw_key(w, "n_embd");
    jw_int(w, c->n_embd);
    jw_key(w, "n_params");
    jw_int(w, (int64_t)c->n_parameters);
    jw_key(w, "size");
    jw_int(w, (int64_t)c->bytes);
    if (info) {
        jw_key(w, "n_ctx");
        jw_int(w, info->n_ctx);
    }
    jw_key(w, "architecture");
    jw_text(w, c->arch);
    jw_key(w, "name");
    jw_text(w, c->name);
    if (info) {
        jw_key(w, "template");
        jw_text(w, info->template_origin);
    }
    jw_end_object(w);
}

static void write_model(struct json_writer *w, const struct fleet_entry *m)
{
    jw_begin_object(w);
    jw_key(w, "id");
    jw_text(w, m->name);
    jw_key(w, "object");
    jw_text(w, "model");
    jw_key(w, "created");
    jw_int(w, m->modified_unix_s);
    jw_key(w, "owned_by");
    jw_text(w, "kvasir");
    jw_key(w, "status"); /* as llama-server's with several models has it */
    jw_begin_object(w);
    jw_key(w, "value");
    jw_text(w, model_state(m));
    if (m->error[0]) {
        jw_key(w, "error");
        jw_text(w, m->error);
    }
    jw_end_object(w);
    if (m->card) {
        jw_key(w, "meta");
        write_meta(w, m);
    }
    jw_end_object(w);
}

static enum status no_such_model(struct api_error *error, struct slice id)
{
    char message[300];
    snprintf(message, sizeof message, "the model `%.*s` does not exist here; see /v1/models",
             (int)(id.len < 200 ? id.len : 200), id.ptr);
    api_error_http(error, 404, "model_not_found", message);
    return E_NOT_FOUND;
}

enum status api_models_write(struct buf *out, struct fleet *fleet, struct slice id,
                             struct api_error *error)
{
    struct err e = {0};
    struct fleet_list list;
    struct json_writer w;
    enum status st = fleet_list(fleet, &list, &e);
    if (st != OK) {
        api_error_from(error, &e);
        return st;
    }
    const struct fleet_entry *one = id.len ? fleet_find(&list, id) : NULL;
    jw_init(&w, out);
    if (id.len && !one) {
        st = no_such_model(error, id);
    } else if (one) {
        write_model(&w, one);
    } else {
        jw_begin_object(&w);
        jw_key(&w, "object");
        jw_text(&w, "list");
        jw_key(&w, "data");
        jw_begin_array(&w);
        for (uint32_t i = 0; i < list.n; i++)
            write_model(&w, &list.entries[i]);
        jw_end_array(&w);
        jw_end_object(&w);
    }
    buf_add_char(out, '\n');
    fleet_list_release(&list);
    return st;
}

struct number {
    const char *name;
    uint64_t value;
};

static void write_numbers(struct json_writer *w, const char *key, const struct number *numbers,
                          size_t n)
{
    jw_key(w, key);
    jw_begin_object(w);
    for (size_t i = 0; i < n; i++) {
        jw_key(w, numbers[i].name);
        jw_int(w, numbers[i].value > INT64_MAX ? INT64_MAX : (int64_t)numbers[i].value);
    }
    jw_end_object(w);
}
#define NUMBERS(w, key, ...)                                    \
    write_numbers(w, key, (const struct number[]){__VA_ARGS__}, \
                  sizeof((const struct number[]){__VA_ARGS__}) / sizeof(struct number))

static void write_store(struct json_writer *w, const struct store_stat *s)
{
    static const struct number kinds[] = {{"page", RECORD_PAGE},
                                          {"head", RECORD_HEAD},
                                          {"tokens", RECORD_TOKENS},
                                          {"session", RECORD_SESSION},
                                          {"tenant", RECORD_TENANT}};
    jw_key(w, "store");
    jw_begin_object(w);
    jw_key(w, "read_only");
    jw_bool(w, s->is_read_only);
    jw_key(w, "records");
    jw_begin_object(w);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        NUMBERS(w, kinds[i].name, {"count", s->n_records[kinds[i].value]},
                {"bytes", s->live_bytes[kinds[i].value]});
    jw_end_object(w);
    NUMBERS(w, "disk", {"segments", s->n_segments}, {"segment_bytes", s->segment_bytes},
            {"index_bytes", s->index_bytes}, {"max_bytes", s->max_bytes},
            {"free_bytes", s->free_bytes});
    NUMBERS(w, "today", {"written_bytes", s->day_bytes}, {"max_bytes", s->day_bytes_max});
    NUMBERS(w, "scrub", {"bytes_per_s", s->scrub_bytes_per_s}, {"bytes", s->scrubbed_bytes},
            {"passes", s->n_scrub_passes}, {"bad", s->n_scrub_bad});
    NUMBERS(w, "since_open", {"written_bytes", s->written_bytes},
            {"index_written_bytes", s->index_written_bytes},
            {"page_bytes", s->written_by_kind[RECORD_PAGE]},
            {"head_bytes", s->written_by_kind[RECORD_HEAD]}, {"syncs", s->n_syncs},
            {"failed_syncs", s->n_failed_syncs}, {"evicted", s->n_evicted},
            {"evicted_bytes", s->evicted_bytes}, {"compacted", s->n_compacted},
            {"compacted_bytes", s->compacted_bytes}, {"recovered", s->recovered_records},
            {"recovered_bytes", s->recovered_bytes}, {"quarantined", s->n_quarantined},
            {"queued", s->n_queued});
    jw_end_object(w);
}

void api_stats_write(struct buf *out, const struct engine_stats *s)
{
    struct json_writer w;
    jw_init(&w, out);
    jw_begin_object(&w);
    NUMBERS(&w, "requests", {"total", s->n_requests}, {"running", s->n_running},
            {"waiting", s->n_waiting}, {"cancelled", s->n_cancelled}, {"errors", s->n_errors});
    NUMBERS(&w, "tokens", {"prompt", s->prompt_tokens}, {"memory", s->memory_tokens},
            {"disk", s->disk_tokens}, {"computed", s->computed_tokens},
            {"completion", s->completion_tokens});
    NUMBERS(&w, "pages", {"memory", s->n_pages_memory}, {"memory_bytes", s->pages_memory_bytes},
            {"mapped", s->n_pages_mapped}, {"mapped_bytes", s->pages_mapped_bytes},
            {"bad", s->n_bad_pages}, {"referenced", s->n_page_references});
    NUMBERS(&w, "engine", {"steps", s->n_steps}, {"chains", s->n_chains},
            {"sequences", s->n_sequences}, {"new_kv_bytes", s->new_kv_bytes});
    if (s->has_store) {
        write_store(&w, &s->store);
    } else {
        jw_key(&w, "store");
        jw_null(&w);
    }
    jw_end_object(&w);
    buf_add_char(out, '\n');
}
