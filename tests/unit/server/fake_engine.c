/* SPDX-License-Identifier: MIT
 * fake_engine.c — engine.h for tests: one thread a request, no model. */
#include "fake_engine.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/mem.h"
#include "engine/card.h"
#include "os/clock.h"

#define IDS_MAX 65536u
#define POLL_US 2000u /* dozens of these threads wait at once */

struct fake_script fake_script;
struct fake_seen fake_seen;
_Atomic uint64_t fake_kv_bytes;
atomic_int fake_n_submitted, fake_n_cancelled, fake_n_running, fake_n_engines;
static atomic_bool is_cancelled[IDS_MAX];

struct engine {
    struct engine_info info;
    struct model_info model;
    struct sessions *sessions;
    char name[64];
    bool is_counted; /* of fake_n_engines */
};

struct engine *fake_engine_new(void)
{
    struct engine *g = mem_new(1, sizeof *g);
    g->model = (struct model_info){.arch = "fake",
                                   .n_layers = 2,
                                   .n_embd = 8,
                                   .n_vocab = FAKE_VOCAB,
                                   .n_ctx_train = 4096,
                                   .n_parameters = 12345};
    g->info = (struct engine_info){.model_name = "fake-model",
                                   .model_path = "embedded",
                                   .quantization = "Q4_K_M",
                                   .template_origin = "file",
                                   .model = &g->model,
                                   .vocabulary = {.n_vocab = FAKE_VOCAB,
                                                  .kind = "spm",
                                                  .pre = "",
                                                  .bos = 1,
                                                  .eos = TOKEN_NONE},
                                   .n_ctx = 2048,
                                   .n_parallel = 2,
                                   .started_unix_s = 1700000000,
                                   .model_bytes = 54321};
    g->info.sampling = (struct sampler_params){.temperature = 0.8f,
                                               .top_k = 40,
                                               .top_p = 0.95f,
                                               .min_p = 0.05f,
                                               .typical_p = 1,
                                               .repeat_penalty = 1,
                                               .repeat_last_n = 64,
                                               .dry_base = 1.75f,
                                               .dry_allowed_length = 2};
    struct sessions_options none = {0};
    struct err e;
    enum status st = sessions_open(&none, &g->sessions, &e);
    CHECK(st == OK);
    return g;
}

/* A model's file here is the text "fake NAME MS": what it is called, and how long it takes to load;
 * "broken" can't be read, "fails" can't be loaded. */
enum status engine_card_read(const char *path, struct engine_card *out, struct err *e)
{
    char name[64] = "", word[16] = "";
    FILE *f = fopen(path, "re");
    int n = f ? fscanf(f, "%15s %63s", word, name) : 0;
    if (f)
        fclose(f);
    *out = (struct engine_card){0};
    if (n < 1 || strcmp(word, "broken") == 0)
        return err_set(e, E_SYNTAX, "%s: no model", path);
    arena_init(&out->arena, 1u << 20);
    out->name = arena_text(&out->arena, name, strlen(name));
    out->arch = "fake";
    out->quantization = "Q8_0";
    out->vocabulary = "bpe";
    out->template_source = (struct slice){"", 0};
    out->n_ctx_train = 4096;
    out->bytes = FAKE_MODEL_BYTES;
    out->n_parameters = 12345;
    return OK;
}

enum status engine_card_of(const struct engine_info *info, struct engine_card *out, struct err *e)
{
    (void)e;
    *out = (struct engine_card){.quantization = info->quantization,
                                .arch = info->model->arch,
                                .n_layers = info->model->n_layers,
                                .n_embd = info->model->n_embd,
                                .n_heads = info->model->n_heads,
                                .n_kv_heads = info->model->n_kv_heads,
                                .n_vocab = info->model->n_vocab,
                                .n_ctx_train = info->model->n_ctx_train,
                                .n_parameters = info->model->n_parameters,
                                .bytes = info->model_bytes,
                                .sampling = info->sampling,
                                .template_source = info->template_source};
    arena_init(&out->arena, 1u << 20);
    out->name = arena_text(&out->arena, info->model_name, strlen(info->model_name));
    out->vocabulary = info->vocabulary.kind ? info->vocabulary.kind : "";
    return OK;
}

void engine_card_release(struct engine_card *c)
{
    arena_release(&c->arena);
}

enum status engine_open(const struct engine_options *options, struct engine **out, struct err *e)
{
    char word[16] = "fake", name[64] = "first";
    unsigned ms = 0;
    FILE *f = options->model_path ? fopen(options->model_path, "re") : NULL;
    int n = f ? fscanf(f, "%15s %63s %u", word, name, &ms) : 0;
    if (f)
        fclose(f);
    if (options->model_path && n < 1)
        return err_set(e, E_NOT_FOUND, "%s: no such file", options->model_path);
    usleep(ms * 1000);
    if (strcmp(word, "fake") != 0)
        return err_set(e, E_INVALID, "%s can't be loaded", name);
    struct engine *g = fake_engine_new();
    snprintf(g->name, sizeof g->name, "%s", name);
    g->info.model_name = g->name;
    g->info.model_bytes = FAKE_MODEL_BYTES;
    atomic_fetch_add(&fake_n_engines, 1);
    g->is_counted = true;
    *out = g;
    return OK;
}

enum status home_new(const struct home_options *options, struct home **out, struct err *e)
{
    (void)options, (void)e;
    *out = NULL;
    return OK;
}

void home_close(struct home *h)
{
    (void)h;
}

void engine_close(struct engine *g)
{
    while (atomic_load(&fake_n_running) > 0)
        usleep(1000);
    sessions_close(g->sessions);
    if (g->is_counted)
        atomic_fetch_sub(&fake_n_engines, 1);
    mem_free(g);
}

/* Without a store: it keeps nothing, and says so. */
struct sessions *engine_sessions(struct engine *g)
{
    return g->sessions;
}

void engine_on_hand_over(struct engine *g, enum status (*fn)(void *arg, int *fd, struct err *e),
                         void *arg)
{
    (void)g, (void)fn, (void)arg;
}

enum status engine_explain(struct engine *g, const struct engine_request *r, bool is_operator,
                           struct buf *out, struct err *e)
{
    (void)g, (void)r, (void)is_operator, (void)e;
    buf_add_text(out, "{}");
    return OK;
}

const struct engine_info *engine_info(const struct engine *g)
{
    return &g->info;
}

const struct tokenizer *engine_tokenizer(const struct engine *g)
{
    return (const struct tokenizer *)(const void *)g;
}

struct slice tokenizer_piece(const struct tokenizer *t, uint32_t id, bool with_special)
{
    (void)t, (void)with_special;
    return id < fake_script.n_pieces ? slice_of(fake_script.pieces[id]) : SLICE_LIT("<other>");
}

/* A byte, a token. */
enum status tokenizer_encode(const struct tokenizer *t, struct slice text,
                             struct encode_flags flags, struct token_list *out, struct err *e)
{
    (void)t;
    if (flags.add_special && token_list_add(out, 1) != OK)
        return err_set(e, E_NOMEM, "tokens");
    for (size_t i = 0; i < text.len; i++)
        if (token_list_add(out, (unsigned char)text.ptr[i]) != OK)
            return err_set(e, E_NOMEM, "tokens");
    return OK;
}

enum status token_list_add(struct token_list *l, uint32_t id)
{
    if (l->count == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 64;
        l->ids = mem_try_resize(l->ids, l->cap, sizeof *l->ids);
        CHECK(l->ids);
    }
    l->ids[l->count++] = id;
    return OK;
}

void token_list_release(struct token_list *l)
{
    mem_free(l->ids);
    *l = (struct token_list){0};
}

struct tokenizer_info tokenizer_info(const struct tokenizer *t)
{
    return engine_info((const struct engine *)(const void *)t)->vocabulary;
}

uint32_t tokenizer_find(const struct tokenizer *t, struct slice text)
{
    static const char *const fills[] = {"<fim_prefix>", "<fim_suffix>", "<fim_middle>"};
    (void)t;
    for (uint32_t i = 0; i < 3 && fake_script.has_fill; i++)
        if (slice_is(text, fills[i]))
            return 900 + i;
    return TOKEN_NONE;
}

/* ROLE: CONTENT; of each message. */
enum status engine_render(const struct engine *g, const struct engine_request *r, struct buf *out,
                          struct err *e)
{
    (void)g, (void)e;
    for (size_t i = 0; i < r->messages->count; i++) {
        buf_add_slice(out, json_get(&r->messages->items[i], "role")->text);
        buf_add_text(out, ": ");
        buf_add_slice(out, json_get(&r->messages->items[i], "content")->text);
        buf_add_text(out, ";");
    }
    return OK;
}

struct engine_request *engine_request_new(const struct engine *g)
{
    struct engine_request *r = mem_new(1, sizeof *r);
    arena_init(&r->arena, 64u << 20);
    r->sampling = g->info.sampling;
    r->max_tokens = ENGINE_TOKENS_ALL;
    r->n_choices = 1;
    return r;
}

void engine_request_free(struct engine_request *r)
{
    arena_release(&r->arena);
    mem_free(r);
}

static void copy(char *to, size_t size, struct slice s)
{
    snprintf(to, size, SLICE_FMT, SLICE_ARG(s));
}

static void see(const struct engine_request *r)
{
    struct fake_seen *f = &fake_seen;
    *f = (struct fake_seen){.kind = r->kind,
                            .tenant = r->tenant,
                            .n_tokens = r->n_tokens,
                            .max_tokens = r->max_tokens,
                            .n_choices = r->n_choices,
                            .n_stops = r->n_stops,
                            .sampling = r->sampling,
                            .has_seed = r->has_seed,
                            .ignore_eos = r->ignore_eos,
                            .no_cache = r->no_cache,
                            .add_generation_prompt = r->add_generation_prompt,
                            .continue_final_message = r->continue_final_message};
    f->sampling.bias = NULL;
    copy(f->session, sizeof f->session, r->session);
    copy(f->text, sizeof f->text, r->text);
    if (r->n_stops)
        copy(f->stop, sizeof f->stop, r->stops[0]);
    if (r->n_tokens)
        f->first_token = r->tokens[0];
    if (r->tools)
        f->n_tools = r->tools->count;
    if (r->variables) {
        struct buf b;
        buf_init(&b, 65536);
        json_write(&b, r->variables, (struct json_style){.is_compact = true});
        copy(f->variables, sizeof f->variables, buf_slice(&b));
        buf_release(&b);
    }
    if (r->kind == PROMPT_CHAT) {
        const struct json *last = &r->messages->items[r->messages->count - 1];
        const struct json *content = json_get(last, "content");
        f->n_messages = r->messages->count;
        copy(f->last_role, sizeof f->last_role, json_get(last, "role")->text);
        if (content && content->kind == JSON_STRING)
            copy(f->last_content, sizeof f->last_content, content->text);
    }
}

struct run {
    struct engine_request *request;
    struct fake_script script;
    uint64_t id;
};

static bool pause_step(const struct run *run)
{
    if (run->script.step_us)
        usleep(run->script.step_us);
    return !atomic_load(&is_cancelled[run->id % IDS_MAX]);
}

static void send(const struct run *run, struct engine_event ev)
{
    run->request->event(run->request->event_arg, &ev);
}

static void send_error(const struct run *run, enum status st, const char *message, uint32_t done,
                       uint32_t total)
{
    struct err e = {0};
    st = err_set(&e, st, "%s", message);
    CHECK(st != OK);
    send(run,
         (struct engine_event){.kind = EVENT_ERROR, .error = &e, .done = done, .total = total});
}

static struct engine_usage make_usage(const struct run *run, uint32_t n)
{
    return (struct engine_usage){.prompt_tokens = 100,
                                 .memory_tokens = 64,
                                 .disk_tokens = 20,
                                 .computed_tokens = 16,
                                 .completion_tokens = n,
                                 .replayed = 2,
                                 .diverged_at = 84,
                                 .reason = "new text",
                                 .queue_ms = 0.25,
                                 .lookup_ms = 0.125,
                                 .prefill_ms = 8,
                                 .decode_ms = 20,
                                 .seed = run->request->has_seed ? run->request->sampling.seed
                                                                : UINT64_MAX};
}

/* All choices, a piece each in turn. */
static bool send_pieces(const struct run *run, uint32_t *n_sent)
{
    const struct fake_script *f = &run->script;
    uint32_t times = f->repeat ? f->repeat : 1;
    for (uint32_t i = 0; i < times * f->n_pieces; i++) {
        for (uint32_t c = 0; c < run->request->n_choices; c++) {
            uint32_t id = i % f->n_pieces;
            struct sampled s = {.token = id,
                                .logprob = -0.5f,
                                .n_top = 2,
                                .top_tokens = {id, FAKE_VOCAB - 1},
                                .top_logprobs = {-0.5f, -1.5f}};
            if (!pause_step(run))
                return false;
            send(run, (struct engine_event){.kind = EVENT_TEXT,
                                            .choice = c,
                                            .text = slice_of(f->pieces[id]),
                                            .token = id,
                                            .drawn_ns = clock_now_ns(),
                                            .sampled =
                                                run->request->sampling.wants_logprob ? &s : NULL});
            ++*n_sent;
        }
    }
    return true;
}

/* Of a text: its length and its first token. */
static bool send_vector(const struct run *run)
{
    const struct engine_request *r = run->request;
    const float vector[8] = {(float)r->n_tokens, (float)r->tokens[0]};
    if (!pause_step(run))
        return false;
    send(run, (struct engine_event){.kind = EVENT_VECTOR, .vector = vector, .total = 8});
    return true;
}

static void play_started(const struct run *run)
{
    uint32_t n = 0;
    struct engine_usage u = make_usage(run, 0);
    send(run, (struct engine_event){.kind = EVENT_STARTED, .usage = &u});
    send(run, (struct engine_event){.kind = EVENT_PROGRESS, .done = 50, .total = 100});
    for (uint32_t i = 0; run->request->wants_prompt_logprobs && i < u.prompt_tokens; i++) {
        struct sampled s = {.token = i % 10, .logprob = -1};
        send(run, (struct engine_event){
                      .kind = EVENT_PROMPT, .token = i % 10, .sampled = i ? &s : NULL});
    }
    while (run->script.waits_after_start && !atomic_load(&is_cancelled[run->id % IDS_MAX]))
        usleep(POLL_US);
    bool is_whole = run->request->wants_vector ? send_vector(run) : send_pieces(run, &n);
    if (!is_whole)
        atomic_fetch_add(&fake_n_cancelled, 1);
    for (uint32_t c = 0; c < run->request->n_choices; c++)
        send(run,
             (struct engine_event){.kind = EVENT_FINISHED,
                                   .choice = c,
                                   .text = {"", 0},
                                   .finish = is_whole ? run->script.finish : FINISH_CANCELLED});
    u = make_usage(run, n);
    send(run, (struct engine_event){.kind = EVENT_DONE, .usage = &u});
}

static void play(struct run *run)
{
    while (run->script.waits_before_start && !atomic_load(&is_cancelled[run->id % IDS_MAX]))
        usleep(POLL_US);
    if (run->script.waits_before_start) {
        atomic_fetch_add(&fake_n_cancelled, 1);
        send_error(run, E_CANCELLED, "cancelled while waiting", 0, 0);
    } else if (run->script.fail != OK) {
        send_error(run, run->script.fail, run->script.fail_message, run->script.fail_done,
                   run->script.fail_total);
    } else {
        play_started(run);
    }
    engine_request_free(run->request);
    mem_free(run);
    atomic_fetch_sub(&fake_n_running, 1);
}

static void *play_thread(void *arg)
{
    play(arg);
    return NULL;
}

enum status engine_submit(struct engine *g, struct engine_request *r, uint64_t *id, struct err *e)
{
    static atomic_uint_fast64_t next_id;
    (void)g;
    static pthread_mutex_t seeing = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&seeing);
    see(r);
    pthread_mutex_unlock(&seeing);
    atomic_fetch_add(&fake_n_submitted, 1);
    if (fake_script.submit != OK)
        return err_set(e, fake_script.submit, "%u requests wait already", ENGINE_QUEUE_MAX);
    struct run *run = mem_new(1, sizeof *run);
    *run = (struct run){.request = r, .script = fake_script, .id = ++next_id};
    *id = run->id;
    atomic_store(&is_cancelled[run->id % IDS_MAX], false);
    atomic_fetch_add(&fake_n_running, 1);
    if (run->script.is_synchronous) {
        play(run);
        return OK;
    }
    pthread_t t;
    CHECK(pthread_create(&t, NULL, play_thread, run) == 0);
    pthread_detach(t);
    return OK;
}

enum status engine_count_tokens(struct engine *g, const struct engine_request *r, uint32_t *n,
                                struct err *e)
{
    (void)g;
    see(r);
    if (fake_script.fail != OK)
        return err_set(e, fake_script.fail, "%s", fake_script.fail_message);
    *n = 100;
    return OK;
}

void engine_cancel(struct engine *g, uint64_t id)
{
    (void)g;
    atomic_store(&is_cancelled[id % IDS_MAX], true);
}

void engine_stats(struct engine *g, struct engine_stats *out)
{
    (void)g;
    *out =
        (struct engine_stats){.n_requests = (uint64_t)atomic_load(&fake_n_submitted),
                              .memory_tokens = 64,
                              .pages_memory_bytes = atomic_load(&fake_kv_bytes),
                              .has_store = true,
                              .store = {.n_records = {[RECORD_PAGE] = 7}, .max_bytes = 1u << 30}};
}
