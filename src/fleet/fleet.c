/* SPDX-License-Identifier: MIT
 * fleet.c — the registry: which model a name means, who has it, what there is. */
#include "fleet/fleet.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "fleet/fleet_int.h"

#define CLOSED_TEXT "the server is shutting down"

struct fleet_model *member_new(const char *name, const char *path)
{
    struct fleet_model *m = mem_new(1, sizeof *m);
    m->name = mem_text(name, strlen(name));
    m->path = mem_text(path, strlen(path));
    m->keep_s = FLEET_KEEP_FOREVER;
    return m;
}

void member_free(struct fleet_model *m)
{
    if (m->has_card)
        engine_card_release(&m->card);
    mem_free(m->name);
    mem_free(m->path);
    mem_free(m);
}

/* ---- opening ---- */

static struct fleet *fleet_new(void)
{
    struct fleet *f = mem_try_new(1, sizeof *f);
    pthread_condattr_t attr;
    if (!f)
        return NULL;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&f->mutex, NULL);
    pthread_mutex_init(&f->scanning, NULL);
    pthread_cond_init(&f->work, &attr);
    pthread_cond_init(&f->order, &attr);
    pthread_condattr_destroy(&attr);
    return f;
}

/* "dir/name.gguf" → "name" */
static void stem_of(const char *path, char out[FLEET_NAME_BYTES_MAX])
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    snprintf(out, FLEET_NAME_BYTES_MAX, "%s", base);
    size_t n = strlen(out);
    if (n > 5 && strcmp(out + n - 5, ".gguf") == 0)
        out[n - 5] = '\0';
}

/* The model that stays.  Among others it goes by its file's name, as they do. */
static enum status add_first(struct fleet *f, struct engine *g, const char *alias, struct err *e)
{
    const struct engine_info *info = engine_info(g);
    char stem[FLEET_NAME_BYTES_MAX];
    const char *name = info->model_name;
    if (f->dir && f->engine.model_path) {
        stem_of(f->engine.model_path, stem);
        name = stem;
    }
    struct fleet_model *m = member_new(alias ? alias : name, info->model_path);
    f->models[f->n_models++] = m;
    m->stays = true;
    m->state = FLEET_LOADED;
    m->engine = g;
    m->weight_bytes = info->model_bytes;
    enum status st = engine_card_of(info, &m->card, e);
    m->has_card = st == OK;
    return st;
}

static enum status start(struct fleet *f, struct err *e)
{
    enum status st = folder_scan(f, e);
    if (st == OK)
        st = thread_start("fleet", keeper_thread, f, &f->keeper, e);
    if (st == OK)
        st = thread_start("loader", loader_thread, f, &f->loader, e);
    return st;
}

static enum status open_first(struct fleet *f, const char *alias, struct err *e)
{
    struct engine *g = NULL;
    struct engine_options o = f->engine;
    if (!o.model_path) /* the embedded one packs faster than it is found */
        o.packed_dir = NULL;
    enum status st = engine_open(&o, &g, e);
    if (st == OK)
        st = add_first(f, g, alias, e);
    if (st != OK && g && f->n_models == 0)
        engine_close(g);
    return st;
}

enum status fleet_open(const struct fleet_options *options, struct fleet **out, struct err *e)
{
    struct fleet *f = fleet_new();
    if (!f)
        return err_set(e, E_NOMEM, "no memory for the models");
    f->engine = *options->engine;
    f->ttl_s = options->ttl_s;
    f->max_bytes = options->max_bytes;
    if (f->engine.packed_dir)
        f->engine.packed_dir = f->packed_dir =
            mem_text(f->engine.packed_dir, strlen(f->engine.packed_dir));
    enum status st = OK;
    if (options->dir) {
        struct home_options home = f->engine.own;
        home.has_many = true;
        f->dir = mem_text(options->dir, strlen(options->dir));
        st = home_new(&home, &f->home, e);
        f->engine.home = f->home;
    }
    if (st == OK)
        st = open_first(f, options->alias, e);
    f->engine.progress = NULL; /* the others load unseen */
    if (st == OK && f->dir)
        st = start(f, e);
    if (st == OK)
        *out = f;
    else
        fleet_close(f);
    return st;
}

enum status fleet_of_engine(struct engine *g, const char *alias, struct fleet **out, struct err *e)
{
    struct fleet *f = fleet_new();
    if (!f)
        return err_set(e, E_NOMEM, "no memory for the models");
    enum status st = add_first(f, g, alias, e);
    f->models[0]->is_borrowed = true;
    if (st == OK)
        *out = f;
    else
        fleet_close(f);
    return st;
}

void fleet_close(struct fleet *f)
{
    if (!f)
        return;
    pthread_mutex_lock(&f->mutex);
    f->is_refusing = f->is_closing = true;
    pthread_cond_broadcast(&f->work);
    pthread_cond_broadcast(&f->order);
    pthread_mutex_unlock(&f->mutex);
    if (f->keeper)
        thread_join(f->keeper);
    if (f->loader)
        thread_join(f->loader);
    for (uint32_t i = 0; i < f->n_models; i++) {
        struct fleet_model *m = f->models[i];
        CHECK(m->n_refs == 0 && m->n_listed == 0);
        if (m->engine && !m->is_borrowed)
            engine_close(m->engine);
        member_free(m);
    }
    home_close(f->home);
    pthread_cond_destroy(&f->order);
    pthread_cond_destroy(&f->work);
    pthread_mutex_destroy(&f->scanning);
    pthread_mutex_destroy(&f->mutex);
    mem_free(f->packed_dir);
    mem_free(f->dir);
    mem_free(f);
}

bool fleet_has_many(const struct fleet *f)
{
    return f->dir != NULL;
}

const char *fleet_dir(const struct fleet *f)
{
    return f->dir;
}

struct fleet_model *fleet_first(struct fleet *f)
{
    return f->models[0];
}

/* ---- a model for a request ---- */

/* The name of a file without what its quantization is called. */
static uint32_t fits_without_quantization(const struct fleet_model *m, struct slice name)
{
    char text[2 * FLEET_NAME_BYTES_MAX];
    int n = snprintf(text, sizeof text, SLICE_FMT "-%s", SLICE_ARG(name), m->card.quantization);
    return n > 0 && (size_t)n < sizeof text && fleet_name_fits(slice_of(text), m->name) > 0;
}

static uint32_t fits(const struct fleet_model *m, struct slice name)
{
    uint32_t best = fleet_name_fits(name, m->name);
    uint32_t own = m->has_card ? fleet_name_fits(name, m->card.name) : 0;
    if (best == 0 && own == 0 && m->has_card && name.len < FLEET_NAME_BYTES_MAX)
        own = fits_without_quantization(m, name);
    if (m->stays && m->path) { /* an alias hides its file's name otherwise */
        char stem[FLEET_NAME_BYTES_MAX];
        stem_of(m->path, stem);
        uint32_t file = fleet_name_fits(name, stem);
        best = file > best ? file : best;
    }
    return own > best ? own : best;
}

struct fleet_model *member_find(struct fleet *f, struct slice name)
{
    struct fleet_model *best = NULL;
    uint32_t best_fit = 0;
    if (!f->dir || name.len == 0)
        return f->models[0];
    for (uint32_t i = 0; i < f->n_models; i++) {
        uint32_t fit = f->models[i]->is_gone ? 0 : fits(f->models[i], name);
        if (fit > best_fit) {
            best = f->models[i];
            best_fit = fit;
        }
    }
    return best;
}

struct fleet_model *fleet_try(struct fleet *f, struct slice name)
{
    pthread_mutex_lock(&f->mutex);
    struct fleet_model *m = member_find(f, name);
    if (m && m->state != FLEET_LOADED)
        m = NULL;
    if (m) {
        m->n_refs++;
        m->is_unwanted = false;
    }
    pthread_mutex_unlock(&f->mutex);
    return m;
}

/* Under the mutex. */
static enum status take(struct fleet *f, struct fleet_model *m, struct fleet_wait *w,
                        struct fleet_model **out, struct err *e)
{
    if (m->state == FLEET_LOADED) {
        m->n_refs++;
        m->is_unwanted = false;
        *out = m;
        return OK;
    }
    if (f->is_refusing)
        return err_set(e, E_CANCELLED, CLOSED_TEXT);
    if (f->n_waits == FLEET_WAITS_MAX)
        return err_set(e, E_BUSY, "%u requests wait for models already", FLEET_WAITS_MAX);
    struct fleet_wait **at = &f->waits;
    while (*at)
        at = &(*at)->next;
    *at = w;
    w->next = NULL;
    w->model = m;
    w->since_ns = clock_now_ns();
    f->n_waits++;
    pthread_cond_signal(&f->work);
    return OK;
}

enum status fleet_take(struct fleet *f, struct slice name, struct fleet_wait *w,
                       struct fleet_model **out, struct err *e)
{
    enum status st = OK;
    *out = NULL;
    pthread_mutex_lock(&f->mutex);
    struct fleet_model *m = member_find(f, name);
    if (!m ||
        (m->state == FLEET_OFF && !m->has_card)) { /* perhaps it came lately, or is whole now */
        pthread_mutex_unlock(&f->mutex);
        st = folder_scan(f, e);
        pthread_mutex_lock(&f->mutex);
        m = member_find(f, name);
    }
    if (m)
        st = take(f, m, w, out, e);
    else if (st == OK)
        st = err_set(e, E_NOT_FOUND, "no such model here");
    pthread_mutex_unlock(&f->mutex);
    return st;
}

void fleet_cancel(struct fleet *f, struct fleet_wait *w)
{
    pthread_mutex_lock(&f->mutex);
    w->is_cancelled = true;
    pthread_cond_signal(&f->work);
    pthread_mutex_unlock(&f->mutex);
}

void fleet_refuse(struct fleet *f)
{
    pthread_mutex_lock(&f->mutex);
    f->is_refusing = true;
    pthread_cond_signal(&f->work);
    pthread_mutex_unlock(&f->mutex);
}

void fleet_ref(struct fleet *f, struct fleet_model *m)
{
    pthread_mutex_lock(&f->mutex);
    CHECK(m->n_refs > 0);
    m->n_refs++;
    pthread_mutex_unlock(&f->mutex);
}

void fleet_give(struct fleet *f, struct fleet_model *m, int64_t keep_s)
{
    pthread_mutex_lock(&f->mutex);
    CHECK(m->n_refs > 0);
    m->n_refs--;
    m->used_ns = clock_now_ns();
    if (keep_s == FLEET_KEEP_DEFAULT)
        keep_s = f->ttl_s ? (int64_t)f->ttl_s : FLEET_KEEP_FOREVER;
    if (keep_s != FLEET_KEEP_AS_IS)
        m->keep_s = keep_s;
    if (keep_s == 0 && !m->stays)
        m->is_unwanted = true;
    if (m->n_refs == 0 && (!m->stays || f->max_bytes))
        pthread_cond_signal(&f->work);
    pthread_mutex_unlock(&f->mutex);
}

struct engine *fleet_engine(const struct fleet_model *m)
{
    return m->engine;
}

const char *fleet_name(const struct fleet_model *m)
{
    return m->name;
}

bool fleet_stays(const struct fleet_model *m)
{
    return m->stays;
}

double fleet_load_ms(const struct fleet_model *m)
{
    return m->load_ms;
}

/* ---- changes ---- */

enum status fleet_unload(struct fleet *f, struct slice name, struct err *e)
{
    enum status st = OK;
    pthread_mutex_lock(&f->mutex);
    struct fleet_model *m = member_find(f, name);
    if (!m)
        st = err_set(e, E_NOT_FOUND, "no such model here");
    else if (m->stays)
        st = err_set(e, E_UNSUPPORTED, "this model stays for as long as the server runs");
    else
        m->is_unwanted = true;
    pthread_cond_signal(&f->work);
    pthread_mutex_unlock(&f->mutex);
    return st;
}

/* The path of a model in the folder; the caller's. */
static enum status path_in_folder(struct fleet *f, struct slice name, char **path, struct err *e)
{
    enum status st = f->dir ? folder_scan(f, e)
                            : err_set(e, E_UNSUPPORTED,
                                      "there is no folder of models here: serve with --models-dir");
    if (st != OK)
        return st;
    pthread_mutex_lock(&f->mutex);
    const struct fleet_model *m = member_find(f, name);
    if (!m || name.len == 0)
        st = err_set(e, E_NOT_FOUND, "no such model here");
    else if (m->stays)
        st = err_set(e, E_UNSUPPORTED, "this model stays for as long as the server runs");
    else
        *path = mem_text(m->path, strlen(m->path));
    pthread_mutex_unlock(&f->mutex);
    return st;
}

enum status fleet_remove(struct fleet *f, struct slice name, struct err *e)
{
    char *path = NULL;
    enum status st = path_in_folder(f, name, &path, e);
    if (st == OK) /* a name that was read from the folder, so no path leads out of it */
        st = os_fs_real()->unlink(os_fs_real(), path, e);
    mem_free(path);
    return st == OK ? folder_scan(f, e) : st;
}

enum status fleet_copy(struct fleet *f, struct slice from, struct slice to, struct err *e)
{
    char *path = NULL, name[FLEET_NAME_BYTES_MAX], target[FS_PATH_BYTES_MAX];
    enum status st = folder_file_name(to, name, e);
    if (st == OK)
        st = path_in_folder(f, from, &path, e);
    if (st == OK) {
        int n = snprintf(target, sizeof target, "%s/%s", f->dir, name);
        if (n < 0 || (size_t)n >= sizeof target)
            st = err_set(e, E_LIMIT, "the path is too long");
        else if (link(path, target) != 0)
            st = err_sys(e, errno, "%s", name);
    }
    mem_free(path);
    return st == OK ? folder_scan(f, e) : st;
}

/* ---- what is here ---- */

static int64_t expiry_of(const struct fleet_model *m)
{
    if (m->stays || m->keep_s == FLEET_KEEP_FOREVER)
        return INT64_MAX;
    int64_t idle_s = m->n_refs ? 0 : (int64_t)((clock_now_ns() - m->used_ns) / 1000000000u);
    return clock_unix_s() + (m->keep_s > idle_s ? m->keep_s - idle_s : 0);
}

static struct digest digest_of(const struct fleet_model *m)
{
    struct digester d = {0};
    if (m->stays)
        return engine_info(m->engine)->model_identity;
    digest_begin(&d);
    digest_field(&d, "kvasir model file", m->name, strlen(m->name));
    digest_u64(&d, "device", m->file.device);
    digest_u64(&d, "inode", m->file.inode);
    digest_u64(&d, "bytes", m->file.bytes);
    digest_u64(&d, "mtime", (uint64_t)m->file.mtime_ns);
    struct digest out = digest_end(&d);
    digester_release(&d);
    return out;
}

static struct fleet_entry entry_of(const struct fleet_model *m)
{
    bool is_loaded = m->state == FLEET_LOADED;
    return (struct fleet_entry){.name = m->name,
                                .card = m->has_card ? &m->card : NULL,
                                .error = m->error,
                                .path = m->path,
                                .state = m->state,
                                .engine = is_loaded ? m->engine : NULL,
                                .stays = m->stays,
                                .file_bytes = m->has_card ? m->card.bytes : m->file.bytes,
                                .modified_unix_s = m->stays ? engine_info(m->engine)->started_unix_s
                                                            : m->file.mtime_ns / 1000000000,
                                .expires_unix_s = is_loaded ? expiry_of(m) : INT64_MAX,
                                .digest = digest_of(m)};
}

enum status fleet_list(struct fleet *f, struct fleet_list *out, struct err *e)
{
    *out = (struct fleet_list){.fleet = f};
    enum status st = folder_scan(f, e);
    if (st != OK)
        log_warn("fleet", "the folder of models can't be read: %s", e->msg); /* what is known is */
    pthread_mutex_lock(&f->mutex);
    out->entries = mem_try_new(f->n_models, sizeof *out->entries);
    out->models = mem_try_new(f->n_models, sizeof(struct fleet_model *));
    for (uint32_t i = 0; out->entries && out->models && i < f->n_models; i++) {
        struct fleet_model *m = f->models[i];
        if (m->is_gone)
            continue;
        m->n_listed++;
        out->models[out->n] = m;
        out->entries[out->n++] = entry_of(m);
    }
    pthread_mutex_unlock(&f->mutex);
    if (out->entries && out->models)
        return OK;
    fleet_list_release(out);
    return err_set(e, E_NOMEM, "no memory for the list of models");
}

void fleet_list_release(struct fleet_list *l)
{
    if (!l->fleet)
        return;
    pthread_mutex_lock(&l->fleet->mutex);
    for (uint32_t i = 0; i < l->n; i++)
        l->models[i]->n_listed--;
    pthread_cond_signal(&l->fleet->work);
    pthread_mutex_unlock(&l->fleet->mutex);
    mem_free(l->entries);
    mem_free(l->models);
    *l = (struct fleet_list){0};
}

const struct fleet_entry *fleet_find(const struct fleet_list *l, struct slice name)
{
    struct fleet *f = l->fleet;
    const struct fleet_entry *found = NULL;
    pthread_mutex_lock(&f->mutex);
    const struct fleet_model *m = NULL;
    if (name.len > 0)
        m = f->dir || fits(f->models[0], name) > 1 ? member_find(f, name) : NULL;
    for (uint32_t i = 0; m && i < l->n; i++)
        if (l->models[i] == m)
            found = &l->entries[i];
    pthread_mutex_unlock(&f->mutex);
    return found;
}

void fleet_counts(struct fleet *f, struct fleet_counts *out)
{
    pthread_mutex_lock(&f->mutex);
    *out = (struct fleet_counts){.n_waiting = f->n_waits,
                                 .n_loads = f->n_loads,
                                 .n_unloads = f->n_unloads,
                                 .n_failed = f->n_failed,
                                 .load_ns = f->load_ns,
                                 .max_bytes = f->max_bytes};
    for (uint32_t i = 0; i < f->n_models; i++) {
        const struct fleet_model *m = f->models[i];
        out->n_models += !m->is_gone;
        out->n_loading += m->state == FLEET_LOADING;
        out->n_loaded += m->state == FLEET_LOADED;
        out->loaded_bytes += m->state == FLEET_LOADED ? m->weight_bytes : 0;
    }
    pthread_mutex_unlock(&f->mutex);
}

void fleet_stats(struct fleet *f, struct engine_stats *out)
{
    struct fleet_model *held[FLEET_LOADED_MAX + 1];
    uint32_t n = 0;
    pthread_mutex_lock(&f->mutex);
    *out = f->past;
    for (uint32_t i = 0; i < f->n_models && n < ARRAY_COUNT(held); i++)
        if (f->models[i]->state == FLEET_LOADED) {
            held[n++] = f->models[i];
            f->models[i]->n_listed++;
        }
    pthread_mutex_unlock(&f->mutex);
    for (uint32_t i = 0; i < n; i++) {
        struct engine_stats s;
        engine_stats(held[i]->engine, &s);
        stats_add(out, &s);
        out->n_running += s.n_running;
        out->n_waiting += s.n_waiting;
        out->n_pages_memory += s.n_pages_memory;
        out->pages_memory_bytes += s.pages_memory_bytes;
        out->n_pages_mapped += s.n_pages_mapped;
        out->pages_mapped_bytes += s.pages_mapped_bytes;
        out->n_chains += s.n_chains;
        out->has_store = s.has_store; /* they have one store */
        out->store = s.store;
    }
    pthread_mutex_lock(&f->mutex);
    for (uint32_t i = 0; i < n; i++)
        held[i]->n_listed--;
    pthread_cond_signal(&f->work);
    pthread_mutex_unlock(&f->mutex);
}
