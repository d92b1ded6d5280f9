/* SPDX-License-Identifier: MIT
 * engine.c — opening and closing: model, tokenizer, template, store, cache, threads; and the calls
 * that come from other threads. */
#include <stdio.h>

#include "engine/card.h"
#include "engine/engine_int.h"

#define PARALLEL_DEFAULT  8u
#define CTX_MIN           64u
#define REQUEST_BYTES_MAX (256u << 20)
#define SPARE_BYTES_MAX   (64u << 20) /* of the cache, see cache.h */

extern const uint8_t kvasir_skald_begin[], kvasir_skald_end[];

/* ---- opening ---- */

static enum status open_file(struct engine *g, struct err *e)
{
    const char *path = g->options.model_path;
    enum status st =
        path ? gguf_open(path, &g->gguf, e)
             : gguf_open_memory(kvasir_skald_begin, (size_t)(kvasir_skald_end - kvasir_skald_begin),
                                "embedded skald", &g->gguf, e);
    if (st != OK)
        return st;
    struct slice name = {0};
    st = card_name(g->gguf, path, &name, e);
    if (st != OK)
        return st;
    g->name_text = mem_text(name.ptr, name.len);
    g->path_text = mem_text(path ? path : "embedded", strlen(path ? path : "embedded"));
    g->info.model_name = g->name_text;
    g->info.model_path = g->path_text;
    for (uint32_t i = 0; i < gguf_tensor_count(g->gguf); i++)
        g->info.model_bytes += gguf_tensor_at(g->gguf, i)->bytes;
    return card_quantization(g->gguf, &g->info.quantization, e);
}

static void on_pack_progress(void *arg, double fraction)
{
    struct engine *g = arg;
    g->options.progress(g->options.progress_arg, "loading", fraction);
}

static enum status open_model(struct engine *g, struct err *e)
{
    uint32_t n_threads = g->options.n_threads ? g->options.n_threads : cpu_count_usable();
    if (n_threads > TEAM_THREADS_MAX)
        return err_set(e, E_LIMIT, "%u threads: at most %u", n_threads, TEAM_THREADS_MAX);
    enum status st = kernels_select(g->options.isa, &g->kernels, e);
    if (st == OK)
        st = team_new(n_threads, &g->team, e);
    if (st != OK)
        return st;
    place_team(g);
    struct model_options options = {.activations = g->options.activations, .isa = g->options.isa};
    if (g->options.progress) {
        options.progress = on_pack_progress;
        options.progress_arg = g;
    }
    if (g->options.packed_dir) {
        g->side.dir = mem_text(g->options.packed_dir, strlen(g->options.packed_dir));
        options.find_packed = side_find;
        options.place_packed = side_place;
        options.packed_arg = g;
    }
    st = model_load(g->gguf, g->team, &options, &g->model, e);
    if (st != OK)
        return st;
    g->model_info = g->info.model = model_info(g->model);
    g->info.n_threads = n_threads;
    for (uint32_t i = 0; i < g->model_info->n_groups; i++) {
        const struct model_group *group = &g->model_info->groups[i];
        for (uint32_t slot = 0; slot < group->n_layers; slot++) {
            g->layer_group[group->layers[slot]] = (uint16_t)i;
            g->layer_slot[group->layers[slot]] = (uint16_t)slot;
        }
    }
    return model_workspace_new(g->model, n_threads, &g->workspace, e);
}

/* The vocabulary is read while the weights are verified or packed: they have nothing in common but
 * the file, and 262,144 tokens take longer than 250 MB of checksums. */
struct reading {
    struct engine *g;
    struct os_thread *thread; /* NULL: none could be had, it is read here */
    enum status st;
    struct err err;
};

static void read_vocabulary(void *arg)
{
    struct reading *r = arg;
    r->st = tokenizer_load(r->g->gguf, &r->g->tokenizer, &r->err);
}

static enum status open_model_and_text(struct engine *g, struct err *e)
{
    struct reading r = {.g = g};
    struct err none;
    bool is_beside = thread_start("vocabulary", read_vocabulary, &r, &r.thread, &none) == OK;
    enum status st = open_model(g, e);
    if (is_beside)
        thread_join(r.thread);
    else if (st == OK)
        read_vocabulary(&r);
    if (st != OK)
        return st; /* the model's trouble is told first, whichever came first */
    if (r.st != OK) {
        *e = r.err;
        return r.st;
    }
    g->info.vocabulary = tokenizer_info(g->tokenizer);
    if (g->info.vocabulary.n_vocab > g->model_info->n_vocab)
        return err_set(e, E_INVALID, "%s: %u tokens in the vocabulary, %u rows in the model",
                       gguf_name(g->gguf), g->info.vocabulary.n_vocab, g->model_info->n_vocab);
    return prompt_load_template(g, e);
}

/* KV bytes of a token when all its layers keep it. */
static uint64_t token_bytes(const struct engine *g)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < g->model_info->n_groups; i++)
        if (g->model_info->groups[i].window == 0)
            bytes += model_kv_layout(g->model, i, g->options.kv_type).page_bytes / KV_PAGE_TOKENS;
    return bytes ? bytes : 1;
}

static enum status check_kv_type(const struct engine *g, struct err *e)
{
    if (kv_type_fits(g->options.kv_type, g->model_info->head_dim))
        return OK;
    return err_set(
        e, E_UNSUPPORTED,
        "--kv-type %s: heads of this model have %u dimensions, not a multiple of %u; use f16",
        kv_type_name(g->options.kv_type), g->model_info->head_dim, KV_BLOCK);
}

static enum status choose_context(struct engine *g, struct err *e)
{
    uint32_t trained = g->model_info->n_ctx_train;
    uint64_t memory = cpu_memory_available(), claimed = home_claimed(g->home);
    memory = memory > claimed ? (memory - claimed) / 2 : 0;
    uint64_t fits = memory / token_bytes(g);
    uint32_t n = g->options.n_ctx ? g->options.n_ctx : trained;
    if (!g->options.n_ctx && n > fits)
        n = (uint32_t)fits;
    if (n < CTX_MIN)
        return err_set(e, E_LIMIT, "a context of %u tokens is too small: at least %u", n, CTX_MIN);
    if (n > trained)
        return err_set(e, E_INVALID, "--ctx %u: the model was made for %u", n, trained);
    g->info.n_ctx = n;
    g->info.kv_type = g->options.kv_type;
    if (!g->options.cache_max_bytes)
        g->options.cache_max_bytes = memory;
    g->claimed_bytes = g->options.cache_max_bytes;
    home_claim(g->home, g->claimed_bytes);
    return OK;
}

/* The home's store, opened here if this is its first engine. */
static enum status enter_home(struct engine *g, struct err *e)
{
    enum status st = home_open(g->home, e);
    g->store = home_store(g->home);
    g->sessions = home_sessions(g->home);
    g->info.store_dir = home_dir(g->home);
    g->info.keeps = home_keeps(g->home);
    return st;
}

static enum status open_cache(struct engine *g, struct err *e)
{
    enum status st = OK;
    if (!g->has_identity)
        st = identity_of_model(g, g->model, &g->info.model_identity, e);
    if (st != OK)
        return st;
    g->root = identity_root(g);
    struct cache_options options = {
        .n_groups = g->model_info->n_groups,
        .n_kv_heads = g->model_info->n_kv_heads,
        .head_dim = g->model_info->head_dim,
        .kv_type = g->options.kv_type,
        .n_vocab = g->model_info->n_vocab,
        .n_ctx = g->info.n_ctx,
        .root = g->root,
        .store = g->store,
        .store_read_only = home_is_read_only(g->home),
        .max_bytes = g->options.cache_max_bytes,
        .spare_max_bytes = g->options.cache_max_bytes / 8 < SPARE_BYTES_MAX
                               ? g->options.cache_max_bytes / 8
                               : SPARE_BYTES_MAX,
    };
    options.salt = sessions_salt(g->sessions, 0);
    for (uint32_t i = 0; i < options.n_groups; i++) {
        struct kv_layout layout = model_kv_layout(g->model, i, g->options.kv_type);
        options.groups[i] = (struct cache_group){.window = g->model_info->groups[i].window,
                                                 .n_layers = layout.n_layers,
                                                 .chunk_bytes = layout.chunk_bytes,
                                                 .page_bytes = layout.page_bytes};
    }
    st = cache_new(&options, &g->cache, e);
    struct digest public_salt;
    if (st == OK && sessions_public_salt(g->sessions, &public_salt))
        cache_set_public(g->cache, &public_salt);
    struct memo_options memo = {.tokenizer = g->tokenizer,
                                .store = g->store,
                                .store_read_only = home_is_read_only(g->home),
                                .no_replay = g->options.no_replay};
    if (st == OK)
        st = constraints_new(g->tokenizer, &g->constraints, e);
    if (st == OK)
        st = said_new(g->store, home_is_read_only(g->home), &g->said, e);
    return st == OK ? memo_new(&memo, &g->memo, e) : st;
}

/* llama.cpp's numbers: none, mean, cls, last, rank. */
static enum status read_pooling(struct engine *g, struct err *e)
{
    static const enum engine_pooling known[] = {POOLING_LAST, POOLING_MEAN, POOLING_CLS,
                                                POOLING_LAST, POOLING_RANK};
    char key[64];
    uint64_t type = 0;
    snprintf(key, sizeof key, "%s.pooling_type", g->model_info->arch);
    enum status st = gguf_get_u64(g->gguf, key, &type, &g->info.has_pooling, e);
    if (st == OK && type >= ARRAY_COUNT(known))
        st = err_set(e, E_UNSUPPORTED, "%s: %s is %llu", gguf_name(g->gguf), key,
                     (unsigned long long)type);
    if (st == OK)
        g->info.pooling = g->options.pooling ? g->options.pooling : known[type];
    g->info.has_pooling = g->info.has_pooling && type > 0;
    return st;
}

static enum status read_sampling(struct engine *g, struct err *e)
{
    enum status st = card_sampling(g->gguf, &g->info.sampling, e);
    return st == OK ? sampler_check(&g->info.sampling, g->model_info->n_vocab, e) : st;
}

static enum status start_threads(struct engine *g, struct err *e)
{
    g->n_slots = g->options.n_parallel ? g->options.n_parallel : PARALLEL_DEFAULT;
    if (g->n_slots > ENGINE_PARALLEL_MAX)
        return err_set(e, E_LIMIT, "--parallel %u: at most %u", g->n_slots, ENGINE_PARALLEL_MAX);
    if (g->options.speculate > ENGINE_SPECULATE_MAX && g->options.speculate != ENGINE_SPECULATE_OFF)
        return err_set(e, E_LIMIT, "--speculate %u: at most %u", g->options.speculate,
                       ENGINE_SPECULATE_MAX);
    g->info.n_parallel = g->n_slots;
    if (g->options.n_queue == 0)
        g->options.n_queue = ENGINE_QUEUE_MAX;
    if (g->options.n_queue > ENGINE_QUEUE_MAX)
        return err_set(e, E_LIMIT, "--queue %u: at most %u", g->options.n_queue, ENGINE_QUEUE_MAX);
    if (g->n_slots < ENGINE_CHOICES_MAX)
        g->n_slots = ENGINE_CHOICES_MAX; /* one request with n choices always fits */
    uint32_t n_rows = g->n_slots;
    if (g->options.speculate != ENGINE_SPECULATE_OFF)
        n_rows += SPECULATE_ROWS_MAX;
    g->speculation.rates = draft_rates_initial();
    g->logits_bytes = (size_t)n_rows * g->model_info->n_vocab * sizeof(float);
    g->n_logits_rows = n_rows;
    g->logits = mem_try_large(g->logits_bytes); /* rows that no step needs cost no memory */
    g->hidden_bytes = MODEL_BATCH_TOKENS_MAX * (size_t)g->model_info->n_embd * sizeof(float);
    g->hidden = mem_try_large(g->hidden_bytes);
    g->n_logit_blocks = (g->model_info->n_vocab + MODEL_LOGIT_BLOCK - 1) / MODEL_LOGIT_BLOCK;
    g->maxima = mem_try_new((size_t)n_rows * g->n_logit_blocks, sizeof *g->maxima);
    g->prompts = ring_new(ENGINE_QUEUE_MAX);
    g->inbox = ring_new(INBOX_MAX);
    g->turns = ring_new(ENGINE_QUEUE_MAX);
    if (!g->logits || !g->maxima || !g->hidden || !g->prompts || !g->inbox || !g->turns)
        return err_set(e, E_NOMEM, "no memory for the engine's queues");
    enum status st = tell_open(g, e);
    if (st == OK)
        st = thread_start("engine", engine_thread, g, &g->thread, e);
    if (st == OK)
        st = thread_start("keeper", keep_thread, g, &g->keeper, e);
    for (uint32_t i = 0; st == OK && i < PROMPT_WORKERS; i++)
        st = thread_start("prompt", prompt_worker, g, &g->workers[i], e);
    return st;
}

enum status engine_open(const struct engine_options *options, struct engine **out, struct err *e)
{
    struct engine *g = mem_try_new(1, sizeof *g);
    if (!g)
        return err_set(e, E_NOMEM, "no memory for the engine");
    g->options = *options;
    g->info.started_unix_s = clock_unix_s();
    atomic_store(&g->next_id, 1);
    pthread_mutex_init(&g->open_mutex, NULL);
    enum status st = OK;
    g->home = options->home;
    if (!g->home) {
        st = home_new(&options->own, &g->home, e);
        g->owns_home = st == OK;
    }
    if (st == OK)
        st = open_file(g, e);
    if (st == OK)
        st = open_model_and_text(g, e);
    if (st == OK)
        st = check_kv_type(g, e);
    if (st == OK)
        st = choose_context(g, e);
    if (st == OK)
        st = enter_home(g, e);
    if (st == OK)
        st = open_cache(g, e);
    if (st == OK)
        st = read_sampling(g, e);
    if (st == OK)
        st = read_pooling(g, e);
    if (st == OK)
        st = start_threads(g, e);
    if (st == OK)
        st = home_attach(g->home, g, e);
    if (st == OK) {
        side_publish(g); /* last, so that it holds up nothing */
        *out = g;
    } else {
        engine_close(g);
    }
    return st;
}

static void send_stop(struct engine *g)
{
    struct message *m = mem_new(1, sizeof *m);
    m->kind = MESSAGE_STOP;
    engine_send(g, m);
}

void engine_close(struct engine *g)
{
    if (!g)
        return;
    if (g->owns_home)
        home_stop(g->home);
    if (g->home) {
        home_detach(g->home, g);
        home_unclaim(g->home, g->claimed_bytes);
    }
    atomic_store(&g->is_closing, true);
    if (g->prompts)
        ring_close(g->prompts);
    for (uint32_t i = 0; i < PROMPT_WORKERS; i++)
        if (g->workers[i])
            thread_join(g->workers[i]); /* drains the ring: each request gets its last event */
    if (g->thread) {
        send_stop(g);
        thread_join(g->thread);
    }
    if (g->turns)
        ring_close(g->turns);
    if (g->keeper)
        thread_join(g->keeper); /* drains the ring: what ended well is kept */
    tell_close(g);
    constraints_free(g->constraints);
    memo_free(g->memo);
    said_free(g->said);
    cache_free(g->cache);
    ring_free(g->prompts);
    ring_free(g->inbox);
    ring_free(g->turns);
    mem_free_large(g->logits, g->logits_bytes);
    mem_free(g->maxima);
    mem_free_large(g->hidden, g->hidden_bytes);
    template_free(g->template);
    tokenizer_free(g->tokenizer);
    model_workspace_free(g->workspace);
    side_settle(g);
    model_free(g->model);
    side_close(g);
    team_free(g->team);
    gguf_close(g->gguf);
    mem_free(g->name_text);
    mem_free(g->path_text);
    mem_free(g->origin_text);
    pthread_mutex_destroy(&g->open_mutex);
    if (g->owns_home)
        home_close(g->home);
    mem_free(g);
}

const struct engine_info *engine_info(const struct engine *g)
{
    return &g->info;
}

const struct tokenizer *engine_tokenizer(const struct engine *g)
{
    return g->tokenizer;
}

struct sessions *engine_sessions(struct engine *g)
{
    return g->sessions;
}

void engine_on_hand_over(struct engine *g, enum status (*fn)(void *arg, int *fd, struct err *e),
                         void *arg)
{
    home_on_hand_over(g->home, fn, arg);
}

int engine_take_socket(struct engine *g)
{
    return home_take_socket(g->home);
}

/* ---- requests ---- */

struct engine_request *engine_request_new(const struct engine *g)
{
    struct engine_request *r = mem_try_new(1, sizeof *r);
    if (!r)
        return NULL;
    arena_init(&r->arena, REQUEST_BYTES_MAX);
    r->sampling = g->info.sampling;
    r->max_tokens = ENGINE_TOKENS_ALL;
    r->n_choices = 1;
    r->add_generation_prompt = true;
    return r;
}

void engine_request_free(struct engine_request *r)
{
    if (!r)
        return;
    arena_release(&r->arena);
    mem_free(r);
}

static enum status check_request(const struct engine *g, const struct engine_request *r,
                                 struct err *e)
{
    CHECK(r->event != NULL);
    if (r->n_choices < 1 || r->n_choices > ENGINE_CHOICES_MAX)
        return err_set(e, E_INVALID, "n must be 1 to %u", ENGINE_CHOICES_MAX);
    if (r->n_stops > ENGINE_STOPS_MAX)
        return err_set(e, E_INVALID, "at most %u stop strings", ENGINE_STOPS_MAX);
    for (uint32_t i = 0; i < r->n_stops; i++)
        if (r->stops[i].len == 0 || r->stops[i].len > ENGINE_STOP_BYTES_MAX)
            return err_set(e, E_INVALID, "a stop string must have 1 to %u bytes",
                           ENGINE_STOP_BYTES_MAX);
    if (r->priority < -ENGINE_PRIORITY_MAX || r->priority > ENGINE_PRIORITY_MAX)
        return err_set(e, E_INVALID, "priority must be from %d to %d", -ENGINE_PRIORITY_MAX,
                       ENGINE_PRIORITY_MAX);
    const struct slice names[] = {r->session, r->response};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++)
        if (names[i].len > 0 && !session_name_is_good(names[i]))
            return err_set(e, E_INVALID,
                           "a session's name has 1 to %u of letters, digits, -_.:@/+=~",
                           ENGINE_SESSION_NAME_MAX);
    if (r->response.len > 0 && !home_keeps(g->home))
        return err_set(e, E_UNSUPPORTED, "store: nothing can be kept here; serve with a --store");
    if (r->schema && r->grammar.len)
        return err_set(e, E_INVALID, "a JSON schema and a grammar exclude each other");
    if (r->wants_vector && !r->no_cache)
        return err_set(e, E_INVALID, "a text is embedded without the cache");
    if (r->wants_vector && g->info.pooling == POOLING_RANK)
        return err_set(e, E_UNSUPPORTED, "this model ranks, it makes no embeddings");
    if (r->wants_vector && (r->wants_prompt_logprobs || r->n_choices > 1))
        return err_set(e, E_INVALID, "a vector is all that there is of an embedded text");
    if (r->n_grammar_marks > ENGINE_MARKS_MAX)
        return err_set(e, E_INVALID, "at most %u marks", ENGINE_MARKS_MAX);
    if (r->trigger.len > ENGINE_STOP_BYTES_MAX)
        return err_set(e, E_INVALID, "a trigger has at most %u bytes", ENGINE_STOP_BYTES_MAX);
    return sampler_check(&r->sampling, g->model_info->n_vocab, e);
}

enum status engine_submit(struct engine *g, struct engine_request *r, uint64_t *id, struct err *e)
{
    enum status st = check_request(g, r, e);
    if (st != OK)
        return st;
    if (atomic_load(&g->is_closing))
        return err_set(e, E_CANCELLED, "the server is shutting down");
    struct job *job;
    st = job_open(g, r, &job, e);
    if (st != OK)
        return st;
    *id = job->id;
    st = ring_try_push(g->prompts, job);
    if (st != OK) {
        job_unopen(g, job);
        return err_set(e, st, "the server is shutting down or its queue is full");
    }
    return OK;
}

void engine_cancel(struct engine *g, uint64_t id)
{
    pthread_mutex_lock(&g->open_mutex);
    for (struct job *job = g->open; job; job = job->open_next)
        if (job->id == id)
            atomic_store(&job->is_cancelled, true);
    pthread_mutex_unlock(&g->open_mutex);
}

/* ---- calls that run on the engine thread ---- */

struct waiter {
    void (*run)(struct engine *g, void *arg);
    void *arg;
    pthread_mutex_t mutex; /* guards is_done */
    pthread_cond_t cond;
    bool is_done;
};

static void run_waiter(struct engine *g, void *arg)
{
    struct waiter *w = arg;
    w->run(g, w->arg);
    pthread_mutex_lock(&w->mutex);
    w->is_done = true;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->mutex);
}

bool engine_call(struct engine *g, void (*fn)(struct engine *, void *), void *arg)
{
    struct waiter w = {.run = fn, .arg = arg};
    struct message *m = mem_new(1, sizeof *m);
    *m = (struct message){.kind = MESSAGE_CALL, .call = run_waiter, .arg = &w};
    pthread_mutex_init(&w.mutex, NULL);
    pthread_cond_init(&w.cond, NULL);
    bool is_sent = !atomic_load(&g->is_closing) && ring_push(g->inbox, m) == OK;
    if (!is_sent)
        mem_free(m);
    pthread_mutex_lock(&w.mutex);
    while (is_sent && !w.is_done)
        pthread_cond_wait(&w.cond, &w.mutex);
    pthread_mutex_unlock(&w.mutex);
    pthread_cond_destroy(&w.cond);
    pthread_mutex_destroy(&w.mutex);
    return is_sent;
}

static void call_score(struct engine *g, void *arg)
{
    score_run(g, arg);
}

enum status engine_score(struct engine *g, const struct engine_score *s, struct engine_usage *usage,
                         struct err *e)
{
    struct score_call c = {.score = s, .usage = usage};
    if (!engine_call(g, call_score, &c))
        return err_set(e, E_CANCELLED, "the engine is closing");
    if (c.st != OK)
        *e = c.err;
    return c.st;
}

static void call_stats(struct engine *g, void *arg)
{
    struct engine_stats *out = arg;
    struct cache_stats c;
    cache_stats(g->cache, &c);
    *out = g->stats;
    for (const struct job *job = g->running; job; job = job->next)
        out->n_running++;
    for (const struct job *job = g->waiting; job; job = job->next)
        out->n_waiting++;
    out->n_requests = atomic_load(&g->next_id) - 1;
    out->n_errors = atomic_load(&g->n_errors);
    out->n_pages_memory = c.n_pages_memory;
    out->pages_memory_bytes = c.memory_bytes;
    out->n_pages_mapped = c.n_pages_mapped;
    out->pages_mapped_bytes = c.mapped_bytes;
    out->n_chains = c.n_nodes;
    out->new_kv_bytes = c.new_kv_bytes;
    out->read_bytes = c.read_bytes;
    out->n_bad_pages = c.n_bad_pages;
    out->n_sequences = c.n_sequences;
    out->n_page_references = c.n_references;
    out->has_store = g->store != NULL;
    if (g->store)
        store_stat(g->store, &out->store);
}

void engine_stats(struct engine *g, struct engine_stats *out)
{
    *out = (struct engine_stats){0};
    (void)engine_call(g, call_stats, out);
}

static void call_flush(struct engine *g, void *arg)
{
    (void)arg;
    if (g->store)
        store_flush(g->store);
    cache_poll(g->cache);
}

void engine_flush(struct engine *g)
{
    (void)engine_call(g, call_flush, NULL);
}
