/* SPDX-License-Identifier: MIT
 * folder.c — the .gguf files of the folder.  A file is read once; its card stays until the file
 * changes.  Those in subfolders, hidden ones, and the second and later parts of split models are
 * not looked at. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "fleet/fleet_int.h"

struct found {
    char *name; /* of the file */
    struct fleet_file file;
};
struct scan {
    const char *dir;
    struct found *list; /* [FLEET_MODELS_MAX] */
    uint32_t n;
};

/* "x-00002-of-00003.gguf" */
static bool is_later_part(const char *name, size_t len)
{
    int part = 0, of = 0, end = 0;
    if (len < 20)
        return false;
    const char *tail = name + len - 20;
    return sscanf(tail, "-%5d-of-%5d.gguf%n", &part, &of, &end) == 2 && end == 20 && part > 1;
}

static bool stat_file(const char *dir, const char *name, struct fleet_file *out)
{
    char path[FS_PATH_BYTES_MAX];
    struct stat s;
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= sizeof path || stat(path, &s) != 0 || !S_ISREG(s.st_mode))
        return false;
    *out = (struct fleet_file){.device = s.st_dev,
                               .inode = s.st_ino,
                               .bytes = (uint64_t)s.st_size,
                               .mtime_ns = (int64_t)s.st_mtim.tv_sec * 1000000000 +
                                           (int64_t)s.st_mtim.tv_nsec};
    return true;
}

static enum status take_name(const char *name, void *arg)
{
    struct scan *s = arg;
    size_t len = strlen(name);
    struct fleet_file file;
    if (len <= 5 || len >= FLEET_NAME_BYTES_MAX || name[0] == '.' ||
        strcmp(name + len - 5, ".gguf") != 0 || is_later_part(name, len) ||
        s->n == FLEET_MODELS_MAX - 1 || !stat_file(s->dir, name, &file))
        return OK;
    s->list[s->n++] = (struct found){mem_text(name, len), file};
    return OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct found *)a)->name, ((const struct found *)b)->name);
}

static bool is_same_file(const struct fleet_file *a, const struct fleet_file *b)
{
    return a->device == b->device && a->inode == b->inode && a->bytes == b->bytes &&
           a->mtime_ns == b->mtime_ns;
}

/* Under the mutex: its place in the list, or where it would be; [0] has no place in the order. */
static uint32_t place_of(const struct fleet *f, const char *name, bool *is_there)
{
    uint32_t at = 1;
    while (at < f->n_models && strcmp(f->models[at]->name, name) < 0)
        at++;
    *is_there = at < f->n_models && strcmp(f->models[at]->name, name) == 0;
    return at;
}

/* Reads the card of a file that is new or has changed. */
static void read_card(struct fleet *f, const char *name, const struct fleet_file *file)
{
    char path[FS_PATH_BYTES_MAX];
    struct engine_card card = {0};
    struct err e = {0};
    bool is_there;
    snprintf(path, sizeof path, "%s/%s.gguf", f->dir, name);
    bool is_good = engine_card_read(path, &card, &e) == OK;
    pthread_mutex_lock(&f->mutex);
    uint32_t at = place_of(f, name, &is_there);
    if (!is_there && f->n_models == FLEET_MODELS_MAX) {
        pthread_mutex_unlock(&f->mutex);
        if (is_good)
            engine_card_release(&card);
        return;
    }
    if (!is_there) {
        memmove(&f->models[at + 1], &f->models[at],
                (f->n_models - at) * sizeof(struct fleet_model *));
        f->models[at] = member_new(name, path);
        f->n_models++;
    }
    struct fleet_model *m = f->models[at];
    bool is_free = m->state == FLEET_OFF && m->n_listed == 0;
    if (is_free) {
        if (m->has_card)
            engine_card_release(&m->card);
        m->card = card;
        m->has_card = is_good;
        m->file = *file;
        snprintf(m->error, sizeof m->error, "%s", is_good ? "" : e.msg);
    }
    m->is_gone = false;
    pthread_mutex_unlock(&f->mutex);
    if (is_good && !is_free) /* somebody reads the old one: at the next look, then */
        engine_card_release(&card);
    if (!is_good)
        log_warn("fleet", "%s can't be served: %s", path, e.msg);
}

/* A file that has come by: is its card known? */
static bool is_known(struct fleet *f, const char *name, const struct fleet_file *file)
{
    bool is_there;
    pthread_mutex_lock(&f->mutex);
    uint32_t at = place_of(f, name, &is_there);
    struct fleet_model *m = is_there ? f->models[at] : NULL;
    bool is_busy = m && (m->state != FLEET_OFF || m->n_listed > 0);
    bool is_fresh = m && (is_busy || is_same_file(&m->file, file));
    if (is_fresh)
        m->is_gone = false;
    pthread_mutex_unlock(&f->mutex);
    return is_fresh;
}

static bool has_name(const struct scan *s, const char *name)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (strcmp(s->list[i].name, name) == 0)
            return true;
    return false;
}

static bool is_waited_for(const struct fleet *f, const struct fleet_model *m)
{
    for (const struct fleet_wait *w = f->waits; w; w = w->next)
        if (w->model == m)
            return true;
    return false;
}

/* Models whose files are gone: at once if nobody has them, else as soon as they are idle. */
static void forget(struct fleet *f, const struct scan *s)
{
    uint32_t n = 1;
    pthread_mutex_lock(&f->mutex);
    for (uint32_t i = 1; i < f->n_models; i++) {
        struct fleet_model *m = f->models[i];
        m->is_gone = !has_name(s, m->name);
        m->is_unwanted = m->is_unwanted || m->is_gone;
        /* The one that is ordered is the loader's still, which may be about to log its name. */
        if (m->is_gone && m->state == FLEET_OFF && m != f->ordered && m->n_refs == 0 &&
            m->n_listed == 0 && !is_waited_for(f, m))
            member_free(m);
        else
            f->models[n++] = m;
    }
    f->n_models = n;
    pthread_cond_signal(&f->work);
    pthread_mutex_unlock(&f->mutex);
}

/* The model that stays may lie in the folder, too; it is listed once. */
static bool is_first(const struct fleet *f, const struct fleet_file *first,
                     const struct fleet_file *file)
{
    return f->engine.model_path && first->device == file->device && first->inode == file->inode;
}

static enum status look(struct fleet *f, struct scan *s, struct err *e)
{
    struct stat st;
    struct fleet_file first = {0};
    enum status result = os_fs_real()->list(os_fs_real(), f->dir, take_name, s, e);
    if (result != OK)
        return result;
    if (f->engine.model_path && stat(f->engine.model_path, &st) == 0)
        first = (struct fleet_file){.device = st.st_dev, .inode = st.st_ino};
    qsort(s->list, s->n, sizeof *s->list, by_name);
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        struct found *x = &s->list[i];
        if (is_first(f, &first, &x->file)) {
            mem_free(x->name);
            continue;
        }
        x->name[strlen(x->name) - 5] = '\0';
        if (!is_known(f, x->name, &x->file))
            read_card(f, x->name, &x->file);
        s->list[n++] = *x;
    }
    s->n = n;
    forget(f, s);
    return OK;
}

enum status folder_scan(struct fleet *f, struct err *e)
{
    if (!f->dir)
        return OK;
    struct scan s = {.dir = f->dir, .list = mem_try_new(FLEET_MODELS_MAX, sizeof *s.list)};
    if (!s.list)
        return err_set(e, E_NOMEM, "no memory for the list of models");
    pthread_mutex_lock(&f->scanning);
    enum status st = look(f, &s, e);
    pthread_mutex_unlock(&f->scanning);
    for (uint32_t i = 0; i < s.n; i++)
        mem_free(s.list[i].name);
    mem_free(s.list);
    return st;
}

enum status folder_file_name(struct slice wanted, char out[FLEET_NAME_BYTES_MAX], struct err *e)
{
    size_t n = 0;
    bool has_ending = wanted.len > 5 && memcmp(wanted.ptr + wanted.len - 5, ".gguf", 5) == 0;
    struct slice latest = SLICE_LIT(":latest");
    if (has_ending)
        wanted.len -= 5;
    else if (wanted.len > latest.len &&
             memcmp(wanted.ptr + wanted.len - latest.len, latest.ptr, latest.len) == 0)
        wanted.len -= latest.len;
    for (; n < wanted.len && n + 6 < FLEET_NAME_BYTES_MAX; n++) {
        char c = wanted.ptr[n];
        bool is_good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       (c && strchr("-_.:+", c));
        if (!is_good || (n == 0 && c == '.'))
            break;
        out[n] = c == ':' ? '-' : c;
    }
    if (n == 0 || n < wanted.len)
        return err_set(e, E_INVALID, "a model's name has letters, digits and -_.:+ only");
    memcpy(out + n, ".gguf", 6);
    return OK;
}
