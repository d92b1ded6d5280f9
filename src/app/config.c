/* SPDX-License-Identifier: MIT
 * config.c — the table of options, and values for them: command line over environment over file
 * over default. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "app/app_int.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/fs.h"

#define CONFIG_FILE_MAX (1u << 20)

bool config_uses(const struct command *command, enum option_id id)
{
    return (option_rows[id].used_by >> (command - commands) & 1) != 0;
}

/* ---- one value ---- */
static int64_t choice_index(const char *choices, const char *text)
{
    size_t len = strlen(text);
    int64_t index = 0;
    for (const char *at = choices; at; index++) {
        const char *end = strchr(at, ' ');
        size_t word = end ? (size_t)(end - at) : strlen(at);
        if (word == len && memcmp(at, text, len) == 0)
            return index;
        at = end ? end + 1 : NULL;
    }
    return -1;
}

static bool parse_size(const char *text, int64_t *out)
{
    char *end;
    errno = 0;
    double v = strtod(text, &end);
    if (end == text || errno != 0 || !(v >= 0))
        return false;
    static const char units[] = "KMGT";
    const char *unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
    if (unit) {
        v *= (double)(1ull << (10 * (unit - units + 1)));
        end++;
        if (*end == 'i')
            end++;
        if (*end == 'B' || *end == 'b')
            end++;
    }
    if (*end || v > 0x1p62)
        return false;
    *out = (int64_t)v;
    return true;
}

static bool parse_count(const char *text, int64_t *out)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    *out = v;
    return end != text && *end == '\0' && errno == 0;
}

/* Fills v from text; says what would be right. */
static enum status parse_value(const struct option_row *row, const char *text,
                               struct option_value *v, const char *name, struct err *e)
{
    char *end;
    v->text = text;
    switch (row->kind) {
    case KIND_TEXT:
        return OK;
    case KIND_COUNT:
        if (row->choices && choice_index(row->choices, text) >= 0) {
            v->number = -1 - choice_index(row->choices, text);
            return OK;
        }
        if (parse_count(text, &v->number) && (double)v->number >= row->least &&
            (double)v->number <= row->most)
            return OK;
        return err_set(e, E_INVALID, "%s wants a whole number from %.0f to %.0f, not \"%s\"", name,
                       row->least, row->most, text);
    case KIND_SIZE:
        if (parse_size(text, &v->number))
            return OK;
        return err_set(e, E_INVALID, "%s wants a size such as 500M or 20G, not \"%s\"", name, text);
    case KIND_REAL:
        v->real = strtod(text, &end);
        if (end != text && *end == '\0' && v->real >= row->least && v->real <= row->most)
            return OK;
        return err_set(e, E_INVALID, "%s wants a number from %g to %g, not \"%s\"", name,
                       row->least, row->most, text);
    case KIND_CHOICE:
        v->number = choice_index(row->choices, text);
        if (v->number >= 0)
            return OK;
        return err_set(e, E_INVALID, "%s is one of: %s; not \"%s\"", name, row->choices, text);
    case KIND_FLAG:
        v->number = strcmp(text, "true") == 0 || strcmp(text, "1") == 0;
        if (v->number || strcmp(text, "false") == 0 || strcmp(text, "0") == 0)
            return OK;
        return err_set(e, E_INVALID, "%s is true or false, not \"%s\"", name, text);
    }
    return err_set(e, E_INVALID, "%s: a kind of option without a parser", name);
}

static enum status give(struct config *c, enum option_id id, const char *text, const char *name,
                        bool by_flag, struct err *e)
{
    struct option_value *v = &c->values[id];
    if (by_flag && v->by_flag && id == OPTION_KV_TYPE && strcmp(v->text, text) != 0)
        return err_set(e, E_INVALID,
                       "%s %s after %s: K and V have one type here; give the same twice", name,
                       text, v->text);
    enum status st = parse_value(&option_rows[id], text, v, name, e);
    v->is_given = true;
    v->by_flag = by_flag;
    return st;
}

/* ---- the file and the environment ---- */
static const struct option_row *row_of_key(struct slice key, enum option_id *id)
{
    for (int i = 0; i < OPTION_COUNT; i++)
        if (option_rows[i].key && slice_is(key, option_rows[i].key)) {
            *id = (enum option_id)i;
            return &option_rows[i];
        }
    return NULL;
}

static char *trimmed(char *at, char *end)
{
    while (at < end && isspace((unsigned char)*at))
        at++;
    while (end > at && isspace((unsigned char)end[-1]))
        end--;
    *end = '\0';
    return at;
}

/* One line of the file, NUL-terminated, is changed in place. */
static enum status read_line(struct config *c, char *line, char *end, const char *path,
                             uint32_t number, struct err *e)
{
    char *text = trimmed(line, end);
    if (*text == '\0' || *text == '#')
        return OK;
    char *equals = strchr(text, '=');
    if (!equals)
        return err_set(e, E_INVALID, "%s:%u: want \"key = value\"", path, number);
    char *value = trimmed(equals + 1, text + strlen(text));
    char *key = trimmed(text, equals);
    enum option_id id;
    if (!row_of_key(slice_of(key), &id))
        return err_set(e, E_INVALID, "%s:%u: no option has the key \"%s\"", path, number, key);
    if (!config_uses(c->command, id)) /* the file is for all commands */
        return OK;
    enum status st = give(c, id, value, key, false, e);
    return st == OK ? OK : err_prefix(e, "%s:%u", path, number);
}

static enum status read_file(struct config *c, const char *path, struct err *e)
{
    size_t len;
    enum status st = fs_read_file(os_fs_real(), path, CONFIG_FILE_MAX, &c->file_text, &len, e);
    uint32_t number = 0;
    for (char *at = c->file_text; st == OK && at && *at;) {
        char *end = strchr(at, '\n'), *next = end ? end + 1 : NULL;
        st = read_line(c, at, end ? end : at + strlen(at), path, ++number, e);
        at = next;
    }
    return st;
}

static void folder_of(const char *variable, const char *below_home, const char *leaf, char *path,
                      size_t size)
{
    const char *xdg = getenv(variable), *home = getenv("HOME");
    path[0] = '\0';
    if (xdg && xdg[0] == '/') /* the XDG specification: relative paths are to be ignored */
        snprintf(path, size, "%s/%s", xdg, leaf);
    else if (home && home[0])
        snprintf(path, size, "%s/%s/%s", home, below_home, leaf);
}

void config_data_dir(char *path, size_t size)
{
    folder_of("XDG_DATA_HOME", ".local/share", "kvasir", path, size);
}

void config_models_dir(char *path, size_t size)
{
    folder_of("XDG_CACHE_HOME", ".cache", "kvasir/models", path, size);
}

void config_packed_dir(char *path, size_t size)
{
    folder_of("XDG_CACHE_HOME", ".cache", "kvasir/packed", path, size);
}

static enum status find_file(struct config *c, const char *named, struct err *e)
{
    char path[FS_PATH_BYTES_MAX];
    if (named)
        return read_file(c, named, e);
    folder_of("XDG_CONFIG_HOME", ".config", "kvasir/config", path, sizeof path);
    if (path[0] == '\0')
        return OK;
    struct err why = {0};
    enum status st = read_file(c, path, &why);
    if (st == E_NOT_FOUND || why.sys == ENOTDIR) /* also where HOME is /dev/null */
        return OK;
    if (st != OK)
        *e = why;
    return st;
}

static enum status read_environment(struct config *c, struct err *e)
{
    for (int i = 0; i < OPTION_COUNT; i++) {
        const struct option_row *row = &option_rows[i];
        if (!row->key || !config_uses(c->command, (enum option_id)i))
            continue;
        char name[64] = "KVASIR_";
        size_t n = strlen(name);
        for (const char *p = row->key; *p && n + 1 < sizeof name; p++)
            name[n++] = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
        name[n] = '\0';
        const char *text = getenv(name);
        if (!text || !text[0])
            continue;
        enum status st = parse_value(row, text, &c->values[i], name, e);
        if (st != OK)
            return st;
        c->values[i].is_given = true;
    }
    return OK;
}

/* ---- the command line ---- */
static bool has_name(const struct option_row *row, const char *word, size_t len)
{
    for (const char *at = row->names; at;) {
        const char *end = strchr(at, ' ');
        size_t n = end ? (size_t)(end - at) : strlen(at);
        if (n == len && memcmp(at, word, len) == 0)
            return true;
        at = end ? end + 1 : NULL;
    }
    return false;
}

/* The option that a word names, or OPTION_COUNT.  *value: what follows "=", or NULL. */
static enum option_id option_of(const struct command *command, const char *word, const char **value)
{
    const char *equals = strncmp(word, "--", 2) == 0 ? strchr(word, '=') : NULL;
    size_t len = equals ? (size_t)(equals - word) : strlen(word);
    *value = equals ? equals + 1 : NULL;
    for (int i = 0; i < OPTION_COUNT; i++)
        if (config_uses(command, (enum option_id)i) && has_name(&option_rows[i], word, len))
            return (enum option_id)i;
    return OPTION_COUNT;
}

struct words {
    int count, at;
    char **list;
    const char **arguments; /* [count] of those that are no options */
};

static enum status read_option(struct config *c, struct words *w, struct err *e)
{
    const char *word = w->list[w->at++], *value;
    enum option_id id = option_of(c->command, word, &value);
    if (id == OPTION_COUNT)
        return err_set(e, E_INVALID, "unknown option %s", word);
    if (option_rows[id].kind == KIND_FLAG)
        return give(c, id, value ? value : "true", word, true, e);
    if (!value && w->at == w->count)
        return err_set(e, E_INVALID, "%s wants a value: %s", word, option_rows[id].value);
    return give(c, id, value ? value : w->list[w->at++], word, true, e);
}

static enum status read_words(struct config *c, struct words *w, bool *wants_help, struct err *e)
{
    bool only_arguments = false;
    while (w->at < w->count) {
        const char *word = w->list[w->at];
        if (only_arguments || word[0] != '-' || word[1] == '\0') {
            if (c->n_arguments == c->command->arguments_max)
                return err_set(e, E_INVALID, "\"%s\" is one word too many", word);
            w->arguments[c->n_arguments++] = word;
            w->at++;
        } else if (strcmp(word, "--") == 0) {
            only_arguments = true;
            w->at++;
        } else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            *wants_help = true;
            return OK;
        } else {
            enum status st = read_option(c, w, e);
            if (st != OK)
                return st;
        }
    }
    return OK;
}

static void set_defaults(struct config *c)
{
    for (int i = 0; i < OPTION_COUNT; i++) {
        const char *initial = option_rows[i].initial;
        if (initial)
            CHECK(parse_value(&option_rows[i], initial, &c->values[i], "", NULL) == OK);
    }
    config_data_dir(c->default_store, sizeof c->default_store);
    if (c->default_store[0])
        c->values[OPTION_STORE].text = c->default_store;
}

enum status config_read(struct config *c, const struct command *command, int argc, char **argv,
                        bool *wants_help, struct err *e)
{
    *c = (struct config){.command = command, .n_words = argc, .words = argv};
    *wants_help = false;
    struct words w = {argc, 0, argv, mem_new((size_t)argc + 1, sizeof *w.arguments)};
    c->arguments = w.arguments;
    set_defaults(c);
    /* The file's name may stand on the command line, which is read last: look for it first. */
    const char *file = NULL, *value;
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (option_of(command, argv[i], &value) == OPTION_CONFIG)
            file = value ? value : i + 1 < argc ? argv[i + 1] : NULL;
    enum status st = find_file(c, file, e);
    if (st == OK)
        st = read_environment(c, e);
    if (st == OK)
        st = read_words(c, &w, wants_help, e);
    return st;
}

void config_release(struct config *c)
{
    mem_free((void *)c->arguments);
    mem_free(c->file_text);
    *c = (struct config){0};
}

void config_set_log(const struct config *c)
{
    const struct option_value *level = &c->values[OPTION_LOG_LEVEL];
    bool is_quiet_by_default = c->command != &commands[COMMAND_SERVE];
    log_set_level(level->is_given || is_quiet_by_default ? (enum log_level)level->number
                                                         : LOG_INFO);
}
