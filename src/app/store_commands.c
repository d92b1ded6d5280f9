/* SPDX-License-Identifier: MIT
 * store_commands.c — store ls --records, stat, verify: looking at a store, also while a server
 * writes it. All open it read-only: no lock is taken and nothing is repaired here. */
#include <inttypes.h>
#include <string.h>

#include "app/app_int.h"
#include "os/fs.h"

static const char *const kind_names[] = {"", "page", "head", "tokens", "session", "tenant", "key"};
_Static_assert(sizeof kind_names / sizeof kind_names[0] == RECORD_KIND_LAST + 1, "one name a kind");

/* "1.5 GiB" */
static const char *size_text(uint64_t bytes, char text[24])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    size_t unit = 0;
    for (; v >= 1024 && unit + 1 < sizeof units / sizeof units[0]; unit++)
        v /= 1024;
    snprintf(text, 24, unit ? "%.1f %s" : "%.0f %s", v, units[unit]);
    return text;
}

static const char *dir_of(const struct config *c)
{
    const char *dir = store_dir_of(c);
    if (!dir)
        complain("%s: which store? give --store DIR", c->command->name);
    return dir;
}

static enum status open_to_look(const struct config *c, const char *dir, struct store **out,
                                struct err *e)
{
    uint8_t key[STORE_FILE_KEY_BYTES];
    bool has_key;
    enum status st = store_key_of(c, key, &has_key, e);
    if (st != OK)
        return st;
    const struct store_options options = {.is_read_only = true, .file_key = has_key ? key : NULL};
    st = store_open(os_fs_real(), dir, &options, out, e);
    if (st == E_NOT_FOUND)
        return err_set(e, E_NOT_FOUND, "%s: no store there; give --store DIR, or serve first", dir);
    return st;
}

/* ---- ls --records ---- */
struct listing {
    struct json_writer *json; /* NULL: a table */
};

/* A session's meta is JSON. */
static const struct json *session_of(const struct store_pin *pin, struct arena *arena)
{
    struct json *meta;
    struct slice text = {(const char *)pin->meta, pin->meta_len};
    if (pin->kind != RECORD_SESSION || json_parse(text, arena, &meta, NULL) != OK)
        return NULL;
    return meta;
}

static void print_record(const struct store_pin *pin, const char *key, const char *chain)
{
    char size[24];
    printf("%-8s %10" PRIu64 " %6u %10s  %.16s  %.16s\n", kind_names[pin->kind], pin->sequence,
           pin->depth, size_text(pin->payload_len, size), key, chain);
}

static void write_record(struct json_writer *w, const struct store_pin *pin, const char *key,
                         const char *chain, const struct json *session)
{
    jw_begin_object(w);
    jw_key(w, "kind");
    jw_text(w, kind_names[pin->kind]);
    jw_key(w, "sequence");
    jw_int(w, (int64_t)pin->sequence);
    jw_key(w, "depth");
    jw_int(w, pin->depth);
    jw_key(w, "bytes");
    jw_int(w, (int64_t)pin->payload_len);
    jw_key(w, "key");
    jw_text(w, key);
    jw_key(w, "chain");
    jw_text(w, chain);
    if (session) {
        jw_key(w, "session");
        jw_value(w, session);
    }
    jw_end_object(w);
}

static bool list_one(const struct store_pin *pin, void *arg)
{
    const struct listing *l = arg;
    char key[DIGEST_HEX_BYTES], chain[DIGEST_HEX_BYTES];
    struct arena arena;
    arena_init(&arena, 1u << 20);
    digest_hex(&pin->key, key);
    digest_hex(&pin->chain, chain);
    const struct json *session = session_of(pin, &arena);
    if (l->json)
        write_record(l->json, pin, key, chain, session);
    else
        print_record(pin, key, chain);
    arena_release(&arena);
    return true;
}

int command_store_records(const struct config *c)
{
    const char *dir = dir_of(c);
    struct store *s;
    struct err e = {0};
    if (!dir)
        return EXIT_USAGE;
    if (open_to_look(c, dir, &s, &e) != OK)
        return complain_err(&e);
    struct buf out;
    struct json_writer w;
    buf_init(&out, 1u << 30);
    jw_init(&w, &out);
    bool is_json = c->values[OPTION_JSON].number != 0;
    struct listing l = {.json = is_json ? &w : NULL};
    if (is_json)
        jw_begin_array(&w);
    /* Sessions first: they have names that people gave. */
    enum status st = store_each(s, RECORD_SESSION, list_one, &l, &e);
    if (!is_json)
        printf("%-8s %10s %6s %10s  %-16s  %-16s\n", "kind", "sequence", "depth", "bytes", "key",
               "chain");
    for (int kind = RECORD_KIND_LAST; kind >= RECORD_PAGE && st == OK; kind--)
        if (kind != RECORD_SESSION)
            st = store_each(s, (enum record_kind)kind, list_one, &l, &e);
    store_close(s);
    if (is_json) {
        jw_end_array(&w);
        if (st == OK && !jsonl_put(&out))
            st = err_set(&e, E_IO, "stdout: cannot write; is its reader gone, or the disk full?");
    }
    buf_release(&out);
    return st == OK ? EXIT_DONE : complain_err(&e);
}

/* ---- stat ---- */
static void print_stat(const char *dir, const struct store_stat *st)
{
    char a[24], b[24];
    printf("store      %s\n", dir);
    for (int kind = RECORD_PAGE; kind <= RECORD_KIND_LAST; kind++)
        printf("%-10s %" PRIu64 " records, %s\n", kind_names[kind], st->n_records[kind],
               size_text(st->live_bytes[kind], a));
    printf("segments   %" PRIu64 ", %s on disk; index %s\n", st->n_segments,
           size_text(st->segment_bytes, a), size_text(st->index_bytes, b));
    printf("budget     %s of KV; %s free on this disk\n", size_text(st->max_bytes, a),
           size_text(st->free_bytes, b));
    printf("damaged    %" PRIu64 " records set aside\n", st->n_quarantined);
}

static void write_by_kind(struct json_writer *w, const char *key, const uint64_t *values)
{
    jw_key(w, key);
    jw_begin_object(w);
    for (int kind = RECORD_PAGE; kind <= RECORD_KIND_LAST; kind++) {
        jw_key(w, kind_names[kind]);
        jw_int(w, (int64_t)values[kind]);
    }
    jw_end_object(w);
}

static void write_stat(struct buf *out, const char *dir, const struct store_stat *st)
{
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"segments", st->n_segments},         {"segment_bytes", st->segment_bytes},
        {"index_bytes", st->index_bytes},     {"max_bytes", st->max_bytes},
        {"free_bytes", st->free_bytes},       {"quarantined", st->n_quarantined},
        {"recovered", st->recovered_records},
    };
    struct json_writer w;
    jw_init(&w, out);
    jw_begin_object(&w);
    jw_key(&w, "dir");
    jw_text(&w, dir);
    write_by_kind(&w, "records", st->n_records);
    write_by_kind(&w, "live_bytes", st->live_bytes);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        jw_key(&w, numbers[i].key);
        jw_int(&w, (int64_t)numbers[i].value);
    }
    jw_end_object(&w);
}

int command_store_stat(const struct config *c)
{
    const char *dir = dir_of(c);
    struct store *s;
    struct store_stat stat;
    struct err e = {0};
    if (!dir)
        return EXIT_USAGE;
    if (open_to_look(c, dir, &s, &e) != OK)
        return complain_err(&e);
    store_stat(s, &stat);
    store_close(s);
    if (!c->values[OPTION_JSON].number) {
        print_stat(dir, &stat);
        return EXIT_DONE;
    }
    struct buf out;
    buf_init(&out, 1u << 20);
    write_stat(&out, dir, &stat);
    jsonl_put(&out);
    buf_release(&out);
    return EXIT_DONE;
}

/* ---- verify ---- */
static void tell_bad(const char *what, void *arg)
{
    (void)arg;
    printf("bad: %s\n", what);
}

static void write_report(struct buf *out, const struct store_verify_report *r)
{
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"segments", r->n_segments},
        {"records", r->n_records},
        {"bytes", r->n_bytes},
        {"bad", r->n_bad},
        {"quarantined", r->n_quarantined},
        {"unclaimed_bytes", r->unclaimed_bytes},
    };
    struct json_writer w;
    jw_init(&w, out);
    jw_begin_object(&w);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        jw_key(&w, numbers[i].key);
        jw_int(&w, (int64_t)numbers[i].value);
    }
    jw_end_object(&w);
}

static enum status verify_session(const struct config *c, const char *dir, const char *which,
                                  void (*bad)(const char *what, void *arg),
                                  struct store_verify_report *report, struct err *e)
{
    struct store *s;
    struct sessions *b = NULL;
    struct session_verify o = {.which = slice_of(which), .bad = bad};
    enum status st = open_to_look(c, dir, &s, e);
    if (st != OK)
        return st;
    st = sessions_open(&(struct sessions_options){.store = s, .is_read_only = true}, &b, e);
    if (st == OK && c->values[OPTION_TENANT].text)
        st = sessions_find_tenant(b, slice_of(c->values[OPTION_TENANT].text), &o.tenant, e);
    if (st == OK)
        st = sessions_verify(b, &o, report, e);
    sessions_close(b);
    store_close(s);
    return st;
}

static void print_report(const struct store_verify_report *r, const char *which)
{
    char size[24];
    size_text(r->n_bytes, size);
    if (which)
        printf("%s: %" PRIu64 " records, %s read: %" PRIu64 " bad, %" PRIu64 " set aside\n", which,
               r->n_records, size, r->n_bad, r->n_quarantined);
    else
        printf("%" PRIu64 " records in %u segments, %s read: %" PRIu64 " bad, %" PRIu64
               " set aside; %" PRIu64 " bytes after the last record belong to none\n",
               r->n_records, r->n_segments, size, r->n_bad, r->n_quarantined, r->unclaimed_bytes);
}

int command_store_verify(const struct config *c)
{
    const char *dir = dir_of(c), *which = c->n_arguments > 0 ? c->arguments[0] : NULL;
    struct store_verify_report report = {0};
    struct err e = {0};
    if (!dir)
        return EXIT_USAGE;
    bool is_json = c->values[OPTION_JSON].number != 0;
    void (*bad)(const char *, void *) = is_json ? NULL : tell_bad;
    enum status st = which ? verify_session(c, dir, which, bad, &report, &e)
                           : store_verify(os_fs_real(), dir, bad, NULL, &report, &e);
    if (st != OK)
        return complain_err(&e);
    if (is_json) {
        struct buf out;
        buf_init(&out, 1u << 20);
        write_report(&out, &report);
        jsonl_put(&out);
        buf_release(&out);
    } else {
        print_report(&report, which);
    }
    if (report.n_bad == 0 && report.n_quarantined == 0)
        return EXIT_DONE;
    complain("%s: %" PRIu64 " damaged records; their tokens will be computed again when asked for",
             dir, report.n_bad + report.n_quarantined);
    return EXIT_FAILED;
}
